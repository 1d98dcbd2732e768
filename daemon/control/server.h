/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: JSON requests in, JSON answers out, one object a line.
 *
 * Request {"v":1,"cmd":"banned","args":{..}}; answer {"ok":true,"data":..} or
 * {"ok":false,"code":"refused","text":"..","file":..,"line":..}; a stream is several objects and
 * ends with {"end":true}. At most CONTROL_CLIENTS clients, CONTROL_REQUEST_BYTES a request, and
 * CONTROL_PATIENCE_S to send a line; garbage is answered with code "protocol" and closed. A client
 * that does not read is dropped when CONTROL_BACKLOG_BYTES wait for it, or when it took nothing for
 * CONTROL_STALL_S. One client too many is told so and closed. Nothing here blocks the engine.
 *
 * A client may send the next request on the same connection; lines that came early wait for the
 * answer. One that has shut down its writing side is answered too, and its last line needs no
 * newline.
 *
 * A request is answered exactly once, at once or later: `struct control_request` is good until the
 * answer, also when the client is gone by then (the answer is thrown away).
 */
#ifndef TAILBAN_CONTROL_SERVER_H
#define TAILBAN_CONTROL_SERVER_H

#include "daemon/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#define CONTROL_CLIENTS 32
#define CONTROL_REQUEST_BYTES 65536
#define CONTROL_PATIENCE_S 2.
#define CONTROL_BACKLOG_BYTES (64u << 20)
#define CONTROL_LOW_BYTES (1u << 20) /* control_pull asks for more below this */
#define CONTROL_STALL_S 30.

struct ev_loop;
struct control;
struct control_request;

struct control_peer {
	pid_t pid;
	uid_t uid;
};

/* `args` is an object, borrowed. The handler answers with one of the three calls below. */
typedef void control_fn(void *ctx, struct control_request *r, const char *cmd, json_t *args,
			const struct control_peer *peer);

/* Listens on fd (bound by the enforcer; owned from here). NULL and err on failure. */
struct control *control_new(struct ev_loop *loop, int fd, control_fn *fn, void *ctx,
			    struct error *err);
void control_free(struct control *c);

/* {"ok":true,"data":data}; takes the reference. */
void control_reply(struct control_request *r, json_t *data);

/* {"ok":false,...}: code is "usage", "not_found", "refused", "config", "internal", "protocol"; file
 * and line of err are given when set. */
void control_fail(struct control_request *r, const char *code, const struct error *err);

/* One object of a stream (false: the client is gone, stop); control_end ends it. */
bool control_stream(struct control_request *r, json_t *object);
void control_end(struct control_request *r);

/*
 * For a long stream: next(arg, r) is called at most once a turn of the loop, when the client has
 * taken something and less than CONTROL_LOW_BYTES wait for it, until it ends the request. When the
 * client is gone it is called once more, and control_stream says so.
 */
void control_pull(struct control_request *r, void (*next)(void *arg, struct control_request *r),
		  void *arg);

/* A JSON string of bytes that may be anything (invalid UTF-8 becomes U+FFFD). */
json_t *control_text(const char *p, size_t n);

#endif
