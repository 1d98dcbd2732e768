/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban conns: who holds connections to this host's ports, peer by peer.
 *
 * Works without the daemon; with it the ports that it protects come first, and who is banned is
 * known. Status 1 when there are no connections, 3 when the kernel does not list its sockets.
 */
#include "client/options.h"
#include "client/present.h"
#include "daemon/base/error.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PORTS_NAMED 8u

struct conns {
	struct client *client;
	bool only_silent;
	struct port_bits ports, protected;
	struct peers peers;
	json_t *status; /* the daemon's, or NULL */
	int daemon_error;
	size_t nshown;
	uint32_t *shown; /* places in the list of peers */
};

/* --- for people ------------------------------------------------------------------------------- */

enum { ADDRESS, CONNS, ESTAB, QUEUED, SILENT, OLDEST, IN, OUT, BANNED, OTHER, NCOLUMNS };

static const struct text_column columns[NCOLUMNS] = {
	[ADDRESS] = {"ADDRESS", false},
	[CONNS] = {"CONNS", true},
	[ESTAB] = {"ESTAB", true},
	[QUEUED] = {"QUEUED", true},
	[SILENT] = {"SILENT", true},
	[OLDEST] = {"OLDEST", true},
	[IN] = {"IN", true},
	[OUT] = {"OUT", true},
	[BANNED] = {"BANNED", false},
	[OTHER] = {"OTHER STATES", false},
};

/* "2 close_wait, 1 syn_recv" */
static void other_states(const struct peer *peer, char *buf)
{
	size_t n = 0;

	buf[0] = 0;
	for (unsigned i = 0; i < PEERS_STATES; i++)
		if (i != TCP_ESTABLISHED && peer->states[i])
			n += (size_t)snprintf(buf + n, TEXT_CELL_BYTES - n, "%s%" PRIu32 " %s",
					      n ? ", " : "", peer->states[i], peers_state_name(i));
	if (!n)
		snprintf(buf, TEXT_CELL_BYTES, "-");
	for (char *p = buf; *p; p++)
		*p = (char)tolower((unsigned char)*p);
}

static void number(char *buf, uint32_t n)
{
	snprintf(buf, TEXT_CELL_BYTES, "%" PRIu32, n);
}

static void cell(const void *ctx, size_t row, size_t column, char *buf)
{
	const struct conns *v = ctx;
	const struct peer *peer = &v->peers.list[v->shown[row]];

	switch (column) {
	case ADDRESS:
		addr_format(&peer->prefix, buf);
		break;
	case CONNS:
		number(buf, peer->connections);
		break;
	case ESTAB:
		number(buf, peer->states[TCP_ESTABLISHED]);
		break;
	case QUEUED:
		number(buf, peer->unaccepted);
		break;
	case SILENT:
		number(buf, peer->silent);
		break;
	case OLDEST:
		if (peer->silent)
			text_duration(peer->oldest_silent_ms / 1000, buf);
		else
			memcpy(buf, "-", 2);
		break;
	case IN:
		text_bytes(peer->bytes_received, buf);
		break;
	case OUT:
		text_bytes(peer->bytes_acked, buf);
		break;
	case BANNED:
		snprintf(buf, TEXT_CELL_BYTES, "%s", peers_banned_word(peer->banned));
		break;
	case OTHER:
		other_states(peer, buf);
		break;
	}
}

/* "port 8001 (protected)", "ports 22, 80, 8001 (protected), ..." */
static void print_ports(const struct conns *v)
{
	uint32_t named = 0;

	printf(v->ports.count == 1 ? "port" : "ports");
	for (uint32_t port = 1; port < 65536 && named < PORTS_NAMED; port++) {
		if (!port_bits_has(&v->ports, (uint16_t)port))
			continue;
		printf("%s %" PRIu32 "%s", named++ ? "," : "", port,
		       port_bits_has(&v->protected, (uint16_t)port) ? " (protected)" : "");
	}
	if (named < v->ports.count)
		printf(" and %" PRIu32 " more", v->ports.count - named);
}

static void print_head(const struct conns *v)
{
	const struct peer *total = &v->peers.total;

	print_ports(v);
	printf(": %" PRIu32 " connections, %" PRIu32 " silent, %" PRIu32 " half-open\n",
	       total->connections, total->silent, total->states[TCP_SYN_RECV]);
}

static void print_table(const struct conns *v)
{
	print_head(v);
	if (v->nshown)
		text_table(columns, NCOLUMNS, v->nshown, cell, v);
	else
		puts(v->only_silent && v->peers.n ? "no silent connections" : "no connections");
	if (v->peers.left_out)
		printf("and %" PRIu64 " connections of more peers than are counted one by one\n",
		       v->peers.left_out);
	if (v->nshown && !v->status)
		printf("who is banned is not known: no daemon at %s: %s\n", v->client->socket,
		       present_why(v->daemon_error));
}

static void print_json(const struct conns *v)
{
	size_t count = 0;

	for (size_t i = 0; i < v->nshown; i++) {
		json_t *o = peers_json(&v->peers.list[v->shown[i]]);

		link_print_item(o, &count);
		json_decref(o);
	}
	link_print_end(count);
}

/* --- the command ------------------------------------------------------------------------------ */

static int read_sockets(struct conns *v, uint16_t port)
{
	struct sockdiag sd;
	int r = sockdiag_open(&sd, NULL);

	if (r < 0)
		return r;
	if (port)
		port_bits_add(&v->ports, port);
	else
		r = peers_listening(&sd, &v->ports);
	if (r == 0)
		r = peers_read(&v->peers, &sd, &v->ports, &v->protected, NULL, NULL);
	sockdiag_close(&sd);
	return r;
}

static void choose(struct conns *v)
{
	v->shown = calloc(v->peers.n + 1, sizeof v->shown[0]);
	if (!v->shown)
		client_no_memory();
	for (uint32_t i = 0; i < v->peers.n; i++)
		if (!v->only_silent || v->peers.list[i].silent)
			v->shown[v->nshown++] = i;
}

static int run(struct conns *v, uint16_t port)
{
	int r;

	v->status = present_status(v->client, &v->daemon_error);
	present_ports(v->status, &v->protected);
	r = read_sockets(v, port);
	if (r < 0) {
		client_complain("the kernel does not list its sockets: %s", error_name(r));
		return CLIENT_AWAY;
	}
	peers_sort(&v->peers);
	if (v->status)
		present_banned(v->client, v->peers.list, v->peers.n);
	choose(v);
	if (v->client->json)
		print_json(v);
	else
		print_table(v);
	return v->nshown ? CLIENT_YES : CLIENT_NO;
}

int conns_command(struct client *c, int argc, char **argv)
{
	struct conns v = {.client = c};
	const char *port_text = NULL;
	const struct option own[] = {{"port", 'p', &port_text, NULL},
				     {"silent", 0, NULL, &v.only_silent},
				     {NULL, 0, NULL, NULL}};
	int n = options_parse(c, argc, argv, own, false), r;
	uint16_t port = 0;

	if (n < 0)
		return options_status(c);
	if (n > 0)
		return client_usage(c, "unexpected argument '%s'", argv[1]);
	if (port_text && !options_port(c, port_text, &port))
		return CLIENT_USAGE;
	text_set_up(c);
	r = run(&v, port);
	peers_free(&v.peers);
	free(v.shown);
	json_decref(v.status);
	return r;
}
