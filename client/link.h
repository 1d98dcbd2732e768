/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way to the daemon: one connection, one request at a time; see the control socket in
 * tailban(1).
 *
 * Everything that goes wrong is said on stderr and becomes an exit status: no daemon (CLIENT_AWAY,
 * with the socket's name and a hint), an answer that is a failure (by its code), a daemon that is
 * silent for LINK_PATIENCE_S.
 */
#ifndef TAILBAN_CLIENT_LINK_H
#define TAILBAN_CLIENT_LINK_H

#include "client/client.h"

#include <jansson.h>

#define LINK_PATIENCE_S 60

struct link {
	const char *socket;
	int fd;
	bool quiet; /* says nothing on stderr */
	char *buf;
	size_t at, n, room;
};

/* CLIENT_YES, or CLIENT_AWAY. */
int link_open(struct link *l, const struct client *c);
/* For commands that work without a daemon as well: 0 or negative errno, nothing is said, now or
 * later, and no answer is waited for longer than patience_s. */
int link_try(struct link *l, const struct client *c, unsigned patience_s);
void link_close(struct link *l);

/* A SOCK_SEQPACKET connection to SOCKET.force; descriptor or -1. */
int link_force(const struct client *c);

/* One request (takes args, may be NULL) and its one answer; *ret_data is a new reference. */
int link_ask(struct link *l, const char *cmd, json_t *args, json_t **ret_data);

/* A request that is answered by pages; page(ctx, data) borrows. */
int link_pages(struct link *l, const char *cmd, json_t *args, void (*page)(void *ctx, json_t *data),
	       void *ctx);

/* Open, ask, close. */
int link_once(const struct client *c, const char *cmd, json_t *args, json_t **ret_data);

/* One JSON document, ASCII only, and a newline. */
void link_print(json_t *value);
/* An object of a long array: opens it for the first, separates; link_print_end closes it. */
void link_print_item(json_t *value, size_t *count);
void link_print_end(size_t count);

#endif
