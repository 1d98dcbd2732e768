/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who holds connections to this host's ports: the sockets of this network namespace (sock_diag),
 * added up by peer. No right is needed and no daemon.
 *
 * A peer is an IPv4 host or an IPv6 /64, what the daemon counts and bans; mapped addresses are
 * IPv4. Counted is what a server pays for: every state but LISTEN and TIME_WAIT. Silent is an
 * ESTABLISHED connection on which no byte has come in; its age is the time since the handshake,
 * that of others the kernel does not tell. Unaccepted connections wait in the listener's queue.
 * Bytes are the kernel's own counters since each connection began.
 *
 * Bounded: what is beyond PEERS_MAX different peers counts in `total` and in `left_out` only. Out
 * of memory ends the process with a sentence.
 */
#ifndef TAILBAN_CLIENT_PEERS_H
#define TAILBAN_CLIENT_PEERS_H

#include "client/text.h"
#include "daemon/base/hash.h"
#include "daemon/base/sockdiag.h"

#define PEERS_MAX 65536u
#define PEERS_STATES (TCP_CLOSING + 1)

struct port_bits {
	uint64_t words[65536 / 64];
	uint32_t count;
};

static inline bool port_bits_has(const struct port_bits *b, uint16_t port)
{
	return b->words[port / 64] >> (port % 64) & 1;
}

static inline void port_bits_add(struct port_bits *b, uint16_t port)
{
	b->count += !port_bits_has(b, port);
	b->words[port / 64] |= UINT64_C(1) << (port % 64);
}

enum peer_banned { PEER_BAN_UNKNOWN, PEER_FREE, PEER_BANNED };

struct peer {
	struct addr prefix;
	uint32_t connections;
	uint32_t favoured;             /* those on the caller's favoured ports */
	uint32_t states[PEERS_STATES]; /* by TCP_* */
	uint32_t silent, unaccepted;
	uint32_t oldest_silent_ms;
	enum peer_banned banned; /* unknown until somebody asks the daemon */
	uint64_t bytes_received, bytes_acked;
};

struct peers {
	struct peer *list;
	size_t n, room;
	uint32_t *slots; /* places in the list + 1, by hash */
	size_t nslots;
	struct hash_seed seed;
	struct peer total;
	uint64_t left_out; /* connections */
};

/* The ports on which somebody listens. 0 or negative errno of sock_diag. */
int peers_listening(struct sockdiag *sd, struct port_bits *ret_ports);

/*
 * Counts all connections to these ports anew. `favoured` may be NULL. Each socket is shown to
 * `each` (may be NULL) as well; it is called with NULL whenever counting starts, which happens
 * again when a dump was cut. 0 or negative errno of sock_diag.
 */
int peers_read(struct peers *p, struct sockdiag *sd, const struct port_bits *ports,
	       const struct port_bits *favoured, sock_callback *each, void *ctx);

/* Most connections on favoured ports first, then most connections, then by address. */
void peers_sort(struct peers *p);

void peers_free(struct peers *p);

/* "ESTABLISHED", as netstat(8) calls it; NULL for a number that is no state. */
const char *peers_state_name(unsigned state);

/* "yes", "no" or, unknown, "?": a table's cell. */
const char *peers_banned_word(enum peer_banned banned);

/* {"addr", "prefix", "connections", ...}, see `conns` in tailban(1); a new reference. */
json_t *peers_json(const struct peer *peer);
/* {"ESTABLISHED": n, ...}: states that occur. */
json_t *peers_states_json(const struct peer *peer);

#endif
