/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon, when it is there: see present.h. Without an answer everything stays unknown. */
#include "client/present.h"

#include <errno.h>
#include <string.h>

#define ADDRS_A_REQUEST 500u /* 25 kB of a request's 64 */

json_t *present_ask(const struct client *c, const char *cmd, json_t *args)
{
	json_t *data = NULL;
	struct link l;

	if (link_try(&l, c, PRESENT_PATIENCE_S) < 0) {
		json_decref(args);
		return NULL;
	}
	(void)link_ask(&l, cmd, args, &data);
	link_close(&l);
	return data;
}

json_t *present_status(const struct client *c, int *ret_error)
{
	json_t *data = NULL;
	struct link l;

	*ret_error = link_try(&l, c, PRESENT_PATIENCE_S);
	if (*ret_error < 0)
		return NULL;
	if (link_ask(&l, "status", NULL, &data) != CLIENT_YES || !json_is_object(data)) {
		*ret_error = -EPROTO;
		json_decref(data);
		data = NULL;
	}
	link_close(&l);
	return data;
}

const char *present_why(int error)
{
	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
		return "none runs there";
	case -EACCES:
	case -EPERM:
		return "only root and members of the group tailban may ask it";
	case -EPROTO:
		return "it does not answer";
	default:
		return strerror(-error);
	}
}

void present_ports(json_t *status, struct port_bits *ret_ports)
{
	json_t *service;
	size_t i;

	*ret_ports = (struct port_bits){0};
	json_array_foreach(json_object_get(status, "services"), i, service) {
		json_int_t port = json_integer_value(json_object_get(service, "port"));

		if (port > 0 && port < 65536)
			port_bits_add(ret_ports, (uint16_t)port);
	}
}

/* --- bans ------------------------------------------------------------------------------------- */

/* Of a request: its addresses as they were written, to find those that are missing. */
struct question {
	struct peer *peers;
	size_t n;
};

static void mark_free(struct question *q, const char *text)
{
	struct addr net;

	if (!text || addr_parse_net(slice_str(text), &net) < 0)
		return;
	for (size_t i = 0; i < q->n; i++)
		if (addr_eq(&q->peers[i].prefix, &net))
			q->peers[i].banned = PEER_FREE;
}

static void take_page(void *ctx, json_t *data)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(data, "missing"), i, item)
		mark_free(ctx, json_string_value(item));
}

static json_t *args_of(const struct question *q)
{
	json_t *list = json_array();
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < q->n; i++)
		json_array_append_new(list, json_string(addr_format(&q->peers[i].prefix, text)));
	return json_pack("{s:o}", "addrs", list);
}

/* The daemon names who is not banned: all others are. */
static bool ask(struct link *l, struct question *q)
{
	if (link_pages(l, "banned", args_of(q), take_page, q) != CLIENT_YES) {
		for (size_t i = 0; i < q->n; i++)
			q->peers[i].banned = PEER_BAN_UNKNOWN;
		return false;
	}
	for (size_t i = 0; i < q->n; i++)
		if (q->peers[i].banned == PEER_BAN_UNKNOWN)
			q->peers[i].banned = PEER_BANNED;
	return true;
}

void present_banned(const struct client *c, struct peer *peers, size_t n)
{
	struct link l;
	bool more = true;

	if (!n || link_try(&l, c, PRESENT_PATIENCE_S) < 0)
		return;
	for (size_t at = 0; at < n && more; at += ADDRS_A_REQUEST) {
		struct question q = {peers + at, n - at};

		if (q.n > ADDRS_A_REQUEST)
			q.n = ADDRS_A_REQUEST;
		more = ask(&l, &q);
	}
	link_close(&l);
}
