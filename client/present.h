/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the daemon adds when it is there: for conns and doctor, which work without it.
 *
 * Nothing is said on stderr, and nothing is waited for longer than PRESENT_PATIENCE_S.
 */
#ifndef TAILBAN_CLIENT_PRESENT_H
#define TAILBAN_CLIENT_PRESENT_H

#include "client/link.h"
#include "client/peers.h"

#define PRESENT_PATIENCE_S 2

/* The answer to `status` (a new reference), or NULL and why: negative errno, -EPROTO when somebody
 * else answers or nobody in time. */
json_t *present_status(const struct client *c, int *ret_error);

/* The ports that the daemon protects; status may be NULL. */
void present_ports(json_t *status, struct port_bits *ret_ports);

/* Asks of the first `n` peers whether they are banned; without an answer it stays unknown. */
void present_banned(const struct client *c, struct peer *peers, size_t n);

/* One question; NULL without an answer. `args` is taken. */
json_t *present_ask(const struct client *c, const char *cmd, json_t *args);

/* Why present_status gave none, as the end of "no daemon: ...". */
const char *present_why(int error);

#endif
