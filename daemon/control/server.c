/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket's clients: see server.h.
 *
 * A client that breaks the rules, or for whom memory runs out, loses its connection; the others and
 * the engine do not notice. Clients are slots of a fixed array, so that no call has to fear that a
 * client was freed under it; a slot with fd < 0 is free.
 */
#include "daemon/control/server.h"
#include "daemon/base/escape.h"
#include "daemon/base/log.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_BURST 8
#define LISTEN_BACKLOG 64
#define ACCEPT_RETRY_S 1. /* when descriptors have run out */
#define OUT_KEEP_BYTES 65536u

struct client {
	struct control *control;
	int fd;
	bool eof;         /* it will send nothing more */
	bool closing;     /* close when everything is written */
	bool dispatching; /* its handler is on the stack */
	struct control_peer peer;
	ev_io reading, writing;
	ev_timer patience, stall;
	struct control_request *request; /* being worked on */
	char *in;
	size_t in_n;
	char *out;
	size_t out_at, out_n, out_room;
};

struct control_request {
	struct client *client; /* NULL: gone */
	struct ev_loop *loop;
	ev_timer turn;
	void (*next)(void *arg, struct control_request *r);
	void *arg;
};

struct control {
	struct ev_loop *loop;
	int fd;
	control_fn *fn;
	void *ctx;
	ev_io accepting;
	ev_timer accept_retry;
	struct client clients[CONTROL_CLIENTS];
};

/* --- life of a client ------------------------------------------------------------------------- */

/* One more call of r->next, in the next turn of the loop. */
static void wake(struct control_request *r)
{
	ev_timer_stop(r->loop, &r->turn);
	ev_timer_set(&r->turn, 0., 0.);
	ev_timer_start(r->loop, &r->turn);
}

static void drop(struct client *c)
{
	struct control_request *r = c->request;
	struct ev_loop *loop;

	if (c->fd < 0)
		return;
	loop = c->control->loop;
	ev_io_stop(loop, &c->reading);
	ev_io_stop(loop, &c->writing);
	ev_timer_stop(loop, &c->patience);
	ev_timer_stop(loop, &c->stall);
	close(c->fd);
	free(c->in);
	free(c->out);
	c->fd = -1;
	c->in = c->out = NULL;
	c->request = NULL;
	if (!r)
		return;
	r->client = NULL;
	if (r->next)
		wake(r);
}

static bool idle(const struct client *c)
{
	return c->out_n == c->out_at && !c->request;
}

/* After each step: closes what is done with, else waits for what can come. */
static void settle(struct client *c)
{
	struct ev_loop *loop = c->control->loop;

	if (c->fd < 0 || c->dispatching)
		return;
	if (idle(c) && (c->closing || (c->eof && !c->in_n))) {
		drop(c);
		return;
	}
	if (c->closing || c->eof || c->request) {
		ev_io_stop(loop, &c->reading);
		ev_timer_stop(loop, &c->patience);
	} else if (!ev_is_active(&c->reading)) {
		ev_io_start(loop, &c->reading);
		ev_timer_set(&c->patience, CONTROL_PATIENCE_S, 0.);
		ev_timer_start(loop, &c->patience);
	}
}

/* --- writing ---------------------------------------------------------------------------------- */

static void wait_to_write(struct client *c)
{
	ev_io_start(c->control->loop, &c->writing);
	ev_timer_again(c->control->loop, &c->stall);
}

static void all_written(struct client *c)
{
	c->out_at = c->out_n = 0;
	ev_io_stop(c->control->loop, &c->writing);
	ev_timer_stop(c->control->loop, &c->stall);
	if (c->out_room > OUT_KEEP_BYTES) {
		free(c->out);
		c->out = NULL;
		c->out_room = 0;
	}
}

static size_t backlog(const struct client *c)
{
	return c->out_n - c->out_at;
}

static void send_some(struct client *c)
{
	ssize_t n = send(c->fd, c->out + c->out_at, backlog(c), MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		wait_to_write(c);
		return;
	}
	if (n < 0) {
		drop(c);
		return;
	}
	c->out_at += (size_t)n;
	if (c->out_at == c->out_n)
		all_written(c);
	else
		wait_to_write(c);
	if (c->request && c->request->next && backlog(c) < CONTROL_LOW_BYTES)
		wake(c->request);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int revents)
{
	struct client *c = w->data;

	(void)loop;
	(void)revents;
	send_some(c);
	settle(c);
}

static void on_stall(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct client *c = w->data;

	(void)loop;
	(void)revents;
	log_info("control", "pid %d does not read its answer and is dropped", c->peer.pid);
	drop(c);
}

/* Room for n more bytes behind out_n; false when there is no memory or too much waits already. */
static bool make_room(struct client *c, size_t n)
{
	size_t room = c->out_room ? c->out_room : 4096;
	char *grown;

	if (backlog(c) + n > CONTROL_BACKLOG_BYTES)
		return false;
	if (c->out_at) {
		memmove(c->out, c->out + c->out_at, backlog(c));
		c->out_n = backlog(c);
		c->out_at = 0;
	}
	while (room < c->out_n + n)
		room *= 2;
	if (room == c->out_room)
		return true;
	grown = realloc(c->out, room);
	if (!grown)
		return false;
	c->out = grown;
	c->out_room = room;
	return true;
}

static int append(const char *bytes, size_t n, void *data)
{
	struct client *c = data;

	if (c->out_n + n > c->out_room && !make_room(c, n))
		return -1;
	memcpy(c->out + c->out_n, bytes, n);
	c->out_n += n;
	return 0;
}

/* One object and its newline; takes the reference. False when the client is gone (now). */
static bool say(struct client *c, json_t *object)
{
	bool was_empty = c->out_n == c->out_at;
	bool fine = object && json_dump_callback(object, append, c, JSON_COMPACT) == 0 &&
		    append("\n", 1, c) == 0;

	json_decref(object);
	if (!fine) {
		log_info("control",
			 "pid %d is dropped: no memory, or more than %u bytes wait for it",
			 c->peer.pid, CONTROL_BACKLOG_BYTES);
		drop(c);
		return false;
	}
	if (was_empty)
		send_some(c);
	return c->fd >= 0;
}

static json_t *failure(const char *code, const struct error *err)
{
	json_t *o = json_pack("{s:b, s:s, s:o}", "ok", 0, "code", code, "text",
			      control_text(err->text, strlen(err->text)));

	if (err->file[0])
		json_object_set_new(o, "file", control_text(err->file, strlen(err->file)));
	if (err->line)
		json_object_set_new(o, "line", json_integer(err->line));
	return o;
}

/* Says what is wrong and closes. */
static void protocol_error(struct client *c, const char *text)
{
	struct error err = {0};

	error_set(&err, ERROR_PROTOCOL, "%s", text);
	c->closing = true;
	say(c, failure("protocol", &err));
}

/* --- requests --------------------------------------------------------------------------------- */

static void on_turn(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct control_request *r = w->data;

	(void)loop;
	(void)revents;
	r->next(r->arg, r);
}

static struct control_request *new_request(struct client *c)
{
	struct control_request *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->client = c;
	r->loop = c->control->loop;
	ev_timer_init(&r->turn, on_turn, 0., 0.);
	r->turn.data = r;
	c->request = r;
	return r;
}

/* The request is answered; more lines may have come with it, they get the next turn. */
static void finish(struct control_request *r)
{
	struct client *c = r->client;

	ev_timer_stop(r->loop, &r->turn);
	free(r);
	if (!c)
		return;
	c->request = NULL;
	settle(c);
	if (c->fd >= 0 && !c->dispatching && c->in_n)
		ev_feed_event(c->control->loop, &c->reading, EV_CUSTOM);
}

static void answer(struct control_request *r, json_t *object)
{
	if (r->client)
		say(r->client, object);
	else
		json_decref(object);
	finish(r);
}

void control_reply(struct control_request *r, json_t *data)
{
	struct error err = {0};

	if (!data) {
		error_set(&err, -ENOMEM, "out of memory");
		control_fail(r, "internal", &err);
		return;
	}
	answer(r, json_pack("{s:b, s:o}", "ok", 1, "data", data));
}

void control_fail(struct control_request *r, const char *code, const struct error *err)
{
	answer(r, failure(code, err));
}

bool control_stream(struct control_request *r, json_t *object)
{
	if (!r->client) {
		json_decref(object);
		return false;
	}
	return say(r->client, json_pack("{s:b, s:o}", "ok", 1, "data", object));
}

void control_end(struct control_request *r)
{
	answer(r, json_pack("{s:b}", "end", 1));
}

void control_pull(struct control_request *r, void (*next)(void *arg, struct control_request *r),
		  void *arg)
{
	r->next = next;
	r->arg = arg;
	wake(r);
}

json_t *control_text(const char *p, size_t n)
{
	char small[1024], *buf = n < sizeof small / 3 ? small : malloc(3 * n + 1);
	size_t length = 0;
	json_t *text;

	if (!buf)
		return json_null();
	escape_utf8(buf, 3 * n + 1, slice_of(p, n), &length);
	text = json_stringn_nocheck(buf, length);
	if (buf != small)
		free(buf);
	return text ? text : json_null();
}

/* --- reading ---------------------------------------------------------------------------------- */

/* NULL, or what is wrong with the form of the request. */
static const char *check(json_t *o, const char **ret_cmd, json_t **ret_args)
{
	json_t *version = json_object_get(o, "v"), *cmd = json_object_get(o, "cmd");
	json_t *args = json_object_get(o, "args");

	if (!json_is_object(o))
		return "a request is one JSON object in one line";
	if (!json_is_integer(version) || json_integer_value(version) != 1)
		return "this daemon speaks version 1: \"v\":1 is missing";
	if (!json_is_string(cmd))
		return "\"cmd\" is missing or no text";
	if (args && !json_is_object(args))
		return "\"args\" is no object";
	if (json_object_size(o) != (args ? 3u : 2u))
		return "a request holds v, cmd and args, nothing else";
	*ret_cmd = json_string_value(cmd);
	*ret_args = args;
	return NULL;
}

static void dispatch(struct client *c, json_t *o)
{
	struct control *control = c->control;
	json_t *args = NULL, *none = NULL;
	const char *cmd = NULL, *wrong = check(o, &cmd, &args);
	struct control_request *r;

	if (wrong) {
		protocol_error(c, wrong);
		return;
	}
	if (!args)
		args = none = json_object();
	r = args ? new_request(c) : NULL;
	if (!r) {
		drop(c);
		json_decref(none);
		return;
	}
	c->dispatching = true;
	control->fn(control->ctx, r, cmd, args, &c->peer);
	c->dispatching = false;
	json_decref(none);
}

static void take_line(struct client *c, size_t n)
{
	json_error_t ignored;
	json_t *o = json_loadb(c->in, n, JSON_REJECT_DUPLICATES, &ignored);

	if (!o)
		protocol_error(c, "this is no JSON");
	else
		dispatch(c, o);
	json_decref(o);
}

/* Forgets the n bytes of a line and its newline. */
static void shift(struct client *c, size_t n)
{
	n = n < c->in_n ? n + 1 : n;
	c->in_n -= n;
	memmove(c->in, c->in + n, c->in_n);
}

static void take_lines(struct client *c)
{
	while (c->fd >= 0 && !c->request && !c->closing && c->in_n) {
		size_t n = slice_find(slice_of(c->in, c->in_n), '\n');

		if (n == c->in_n && c->in_n > CONTROL_REQUEST_BYTES) {
			protocol_error(c, "the request is longer than 64 KiB");
			break;
		}
		if (n == c->in_n && !c->eof)
			break;
		take_line(c, n);
		if (c->fd >= 0)
			shift(c, n);
	}
	settle(c);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
	struct client *c = w->data;
	ssize_t n;

	if (c->fd < 0)
		return;
	if (revents & EV_READ) {
		n = recv(c->fd, c->in + c->in_n, CONTROL_REQUEST_BYTES + 1 - c->in_n, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			drop(c);
			return;
		}
		c->in_n += (size_t)n;
		if (n == 0) {
			c->eof = true;
			ev_io_stop(loop, &c->reading);
		}
	}
	take_lines(c);
}

static void on_patience(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct client *c = w->data;

	(void)loop;
	(void)revents;
	if (c->in_n)
		protocol_error(c, "a request must come within 2 seconds");
	c->closing = true;
	settle(c);
}

/* --- accepting -------------------------------------------------------------------------------- */

static struct client *free_slot(struct control *control)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].fd < 0 && !control->clients[i].dispatching)
			return &control->clients[i];
	return NULL;
}

static void turn_away(int fd)
{
	static const char full[] =
		"{\"ok\":false,\"code\":\"internal\",\"text\":\"too many clients are "
		"connected; try again\"}\n";

	(void)!send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void add_client(struct control *control, int fd)
{
	struct client *c = free_slot(control);
	struct ucred who = {0};
	socklen_t n = sizeof who;
	char *in = c ? malloc(CONTROL_REQUEST_BYTES + 1) : NULL;

	if (!in) {
		turn_away(fd);
		return;
	}
	*c = (struct client){.control = control, .fd = fd, .in = in};
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0)
		c->peer = (struct control_peer){who.pid, who.uid};
	ev_io_init(&c->reading, on_readable, fd, EV_READ);
	ev_io_init(&c->writing, on_writable, fd, EV_WRITE);
	ev_timer_init(&c->patience, on_patience, CONTROL_PATIENCE_S, 0.);
	ev_timer_init(&c->stall, on_stall, 0., CONTROL_STALL_S);
	c->reading.data = c->writing.data = c->patience.data = c->stall.data = c;
	settle(c);
}

static void on_accept(struct ev_loop *loop, ev_io *w, int revents)
{
	struct control *control = w->data;

	(void)revents;
	for (int i = 0; i < ACCEPT_BURST; i++) {
		int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			add_client(control, fd);
			continue;
		}
		/* Level-triggered: without a pause a full descriptor table would spin. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			ev_io_stop(loop, w);
			ev_timer_again(loop, &control->accept_retry);
		}
		return;
	}
}

static void on_accept_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct control *control = w->data;

	(void)revents;
	ev_timer_stop(loop, w);
	ev_io_start(loop, &control->accepting);
}

static int start_listening(int fd, struct error *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
		return error_set(err, -errno, "cannot set up the control socket: %s",
				 error_name(-errno));
	if (listen(fd, LISTEN_BACKLOG) < 0)
		return error_set(err, -errno, "cannot listen on the control socket: %s",
				 error_name(-errno));
	return 0;
}

struct control *control_new(struct ev_loop *loop, int fd, control_fn *fn, void *ctx,
			    struct error *err)
{
	struct control *control;

	if (start_listening(fd, err) < 0)
		return NULL;
	control = calloc(1, sizeof *control);
	if (!control) {
		error_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	control->loop = loop;
	control->fd = fd;
	control->fn = fn;
	control->ctx = ctx;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		control->clients[i].fd = -1;
	ev_io_init(&control->accepting, on_accept, fd, EV_READ);
	ev_timer_init(&control->accept_retry, on_accept_retry, 0., ACCEPT_RETRY_S);
	control->accepting.data = control->accept_retry.data = control;
	ev_io_start(loop, &control->accepting);
	return control;
}

void control_free(struct control *control)
{
	if (!control)
		return;
	ev_io_stop(control->loop, &control->accepting);
	ev_timer_stop(control->loop, &control->accept_retry);
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_request *r = control->clients[i].request;

		drop(&control->clients[i]);
		/* A stream ends itself when it is asked for more; others when their answer comes.
		 */
		if (r && r->next)
			on_turn(control->loop, &r->turn, 0);
	}
	close(control->fd);
	free(control);
}
