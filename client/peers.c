/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections by peer: see peers.h. Fails as sock_diag does. */
#include "client/peers.h"

#include <errno.h>
#include <stdlib.h>

#define ATTEMPTS 3
#define FIRST_SLOTS 1024u
#define SILENT_STATE TCP_ESTABLISHED

static const char *const state_names[PEERS_STATES] = {
	[TCP_ESTABLISHED] = "ESTABLISHED", [TCP_SYN_SENT] = "SYN_SENT",
	[TCP_SYN_RECV] = "SYN_RECV",       [TCP_FIN_WAIT1] = "FIN_WAIT1",
	[TCP_FIN_WAIT2] = "FIN_WAIT2",     [TCP_CLOSE_WAIT] = "CLOSE_WAIT",
	[TCP_LAST_ACK] = "LAST_ACK",       [TCP_CLOSING] = "CLOSING",
};

const char *peers_state_name(unsigned state)
{
	return state < PEERS_STATES ? state_names[state] : NULL;
}

const char *peers_banned_word(enum peer_banned banned)
{
	return banned == PEER_BANNED ? "yes" : banned == PEER_FREE ? "no" : "?";
}

/* --- the table -------------------------------------------------------------------------------- */

static struct addr prefix_of(struct addr a)
{
	return addr_mask(a, a.family == ADDR_IPV6 ? 64 : 32);
}

/* The slot of this peer, or the free one where it belongs. */
static uint32_t *slot_of(struct peers *p, const struct addr *prefix)
{
	size_t at = hash_addr(&p->seed, prefix, 0) & (p->nslots - 1);

	while (p->slots[at] && !addr_eq(&p->list[p->slots[at] - 1].prefix, prefix))
		at = (at + 1) & (p->nslots - 1);
	return &p->slots[at];
}

static void grow_slots(struct peers *p)
{
	size_t nslots = p->nslots ? p->nslots * 2 : FIRST_SLOTS;

	free(p->slots);
	p->slots = calloc(nslots, sizeof p->slots[0]);
	if (!p->slots)
		client_no_memory();
	p->nslots = nslots;
	for (size_t i = 0; i < p->n; i++)
		*slot_of(p, &p->list[i].prefix) = (uint32_t)i + 1;
}

static struct peer *add_peer(struct peers *p, const struct addr *prefix)
{
	if (p->n == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		struct peer *grown = reallocarray(p->list, room, sizeof *grown);

		if (!grown)
			client_no_memory();
		p->list = grown;
		p->room = room;
	}
	p->list[p->n] = (struct peer){.prefix = *prefix};
	return &p->list[p->n++];
}

/* NULL when there are too many. */
static struct peer *peer_of(struct peers *p, struct addr host)
{
	struct addr prefix = prefix_of(host);
	uint32_t *slot;

	if (p->n * 2 >= p->nslots)
		grow_slots(p);
	slot = slot_of(p, &prefix);
	if (*slot)
		return &p->list[*slot - 1];
	if (p->n == PEERS_MAX)
		return NULL;
	*slot = (uint32_t)p->n + 1;
	return add_peer(p, &prefix);
}

static void begin(struct peers *p)
{
	p->n = 0;
	p->total = (struct peer){0};
	p->left_out = 0;
	if (!p->slots)
		p->seed = hash_seed_new();
	if (p->slots)
		memset(p->slots, 0, p->nslots * sizeof p->slots[0]);
}

void peers_free(struct peers *p)
{
	free(p->list);
	free(p->slots);
	*p = (struct peers){0};
}

/* --- counting --------------------------------------------------------------------------------- */

static bool is_silent(const struct sock_info *sock)
{
	return sock->state == SILENT_STATE && sock->has_tcp_info && !sock->bytes_received;
}

/* An orphan has no inode either, but no orphan is in these two states. */
static bool is_unaccepted(const struct sock_info *sock)
{
	return !sock->inode && (sock->state == TCP_ESTABLISHED || sock->state == TCP_CLOSE_WAIT);
}

static void count(struct peer *peer, const struct sock_info *sock, bool favoured)
{
	peer->connections++;
	peer->favoured += favoured;
	if (sock->state < PEERS_STATES)
		peer->states[sock->state]++;
	peer->unaccepted += is_unaccepted(sock);
	peer->bytes_received += sock->bytes_received;
	peer->bytes_acked += sock->bytes_acked;
	if (!is_silent(sock))
		return;
	peer->silent++;
	if (sock->last_data_recv_ms > peer->oldest_silent_ms)
		peer->oldest_silent_ms = sock->last_data_recv_ms;
}

struct counting {
	struct peers *peers;
	const struct port_bits *ports, *favoured;
	sock_callback *each;
	void *ctx;
};

static void take(void *ctx, const struct sock_info *sock)
{
	struct counting *c = ctx;
	bool favoured;
	struct peer *peer;

	if (!port_bits_has(c->ports, sock->lport))
		return;
	favoured = c->favoured && port_bits_has(c->favoured, sock->lport);
	peer = peer_of(c->peers, sock->peer);
	if (peer)
		count(peer, sock, favoured);
	else
		c->peers->left_out++;
	count(&c->peers->total, sock, favoured);
	if (c->each)
		c->each(c->ctx, sock);
}

/* The kernel looks for one port itself; of several it shows all sockets. */
static uint16_t only_port(const struct port_bits *ports)
{
	for (uint32_t port = 1; ports->count == 1 && port < 65536; port++)
		if (port_bits_has(ports, (uint16_t)port))
			return (uint16_t)port;
	return 0;
}

/* One family, start to end; -EINTR when it was cut. */
static int dump(struct sockdiag *sd, int family, uint16_t port, struct counting *c)
{
	int r = sockdiag_dump_start(sd, family, SOCK_CONNECTED, port);

	if (r < 0)
		return r;
	do
		r = sockdiag_dump_read(sd, take, c, SIZE_MAX);
	while (r == 1);
	return r == -EAGAIN ? -EIO : r;
}

int peers_read(struct peers *p, struct sockdiag *sd, const struct port_bits *ports,
	       const struct port_bits *favoured, sock_callback *each, void *ctx)
{
	struct counting c = {p, ports, favoured, each, ctx};
	uint16_t port = only_port(ports);
	int r = -EINTR;

	sd->want_tcp_info = true;
	for (unsigned i = 0; i < ATTEMPTS && r == -EINTR; i++) {
		begin(p);
		if (each)
			each(ctx, NULL);
		r = dump(sd, AF_INET, port, &c);
		if (r == 0)
			r = dump(sd, AF_INET6, port, &c);
	}
	sd->want_tcp_info = false;
	return r == -EINTR ? 0 : r;
}

static void take_port(void *ctx, const struct sock_info *sock)
{
	port_bits_add(ctx, sock->lport);
}

int peers_listening(struct sockdiag *sd, struct port_bits *ret_ports)
{
	*ret_ports = (struct port_bits){0};
	return sockdiag_each(sd, AF_UNSPEC, SOCK_LISTENING, 0, take_port, ret_ports);
}

static int descending(uint32_t x, uint32_t y)
{
	return (x < y) - (x > y);
}

static int by_count(const void *a, const void *b)
{
	const struct peer *x = a, *y = b;
	int order = descending(x->favoured, y->favoured);

	if (!order)
		order = descending(x->connections, y->connections);
	return order ? order : addr_cmp(&x->prefix, &y->prefix);
}

void peers_sort(struct peers *p)
{
	if (p->n)
		qsort(p->list, p->n, sizeof p->list[0], by_count);
}

/* --- JSON ------------------------------------------------------------------------------------- */

json_t *peers_states_json(const struct peer *peer)
{
	json_t *states = json_object();

	for (unsigned i = 0; i < PEERS_STATES; i++)
		if (state_names[i] && peer->states[i])
			json_object_set_new(states, state_names[i], json_integer(peer->states[i]));
	return states;
}

json_t *peers_json(const struct peer *peer)
{
	struct addr host = peer->prefix;
	char text[ADDR_STRLEN];

	host.plen = (uint8_t)addr_bits(&host);
	return json_pack(
		"{s:s, s:i, s:I, s:o, s:I, s:o, s:I, s:I, s:I, s:o}", "addr",
		addr_format(&host, text), "prefix", (int)peer->prefix.plen, "connections",
		(json_int_t)peer->connections, "states", peers_states_json(peer), "silent",
		(json_int_t)peer->silent, "oldest_silent_s",
		peer->silent ? json_integer(peer->oldest_silent_ms / 1000) : json_null(),
		"bytes_received", (json_int_t)peer->bytes_received, "bytes_acked",
		(json_int_t)peer->bytes_acked, "unaccepted", (json_int_t)peer->unaccepted, "banned",
		peer->banned == PEER_BAN_UNKNOWN ? json_null()
						 : json_boolean(peer->banned == PEER_BANNED));
}
