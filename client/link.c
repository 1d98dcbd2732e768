/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way to the daemon: see link.h. Every failure ends in a sentence and an exit status. */
#include "client/link.h"
#include "daemon/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ROOM_START 65536u
#define ROOM_MAX (256u << 20) /* of one answer */

/* --- connection ------------------------------------------------------------------------------- */

static int say_away(const char *path, int error)
{
	const char *hint = "";

	if (error == ENOENT || error == ECONNREFUSED)
		hint = " (is tailband running? another socket is named with -s)";
	else if (error == EACCES || error == EPERM)
		hint = " (root or a member of the group tailban may)";
	client_complain("cannot reach the daemon at '%s': %s%s", path, strerror(error), hint);
	return -1;
}

/* The descriptor or negative errno. */
static int connect_to(const char *path, int type, unsigned patience_s)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const struct timeval patience = {.tv_sec = patience_s};
	int fd, error;

	if (strlen(path) >= sizeof at.sun_path)
		return -ENAMETOOLONG;
	memcpy(at.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (connect(fd, (const struct sockaddr *)&at, sizeof at) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

int link_open(struct link *l, const struct client *c)
{
	int fd = connect_to(c->socket, SOCK_STREAM, LINK_PATIENCE_S);

	*l = (struct link){.socket = c->socket, .fd = fd};
	if (fd >= 0)
		return CLIENT_YES;
	say_away(c->socket, -fd);
	return CLIENT_AWAY;
}

int link_try(struct link *l, const struct client *c, unsigned patience_s)
{
	int fd = connect_to(c->socket, SOCK_STREAM, patience_s);

	*l = (struct link){.socket = c->socket, .fd = fd, .quiet = true};
	return fd < 0 ? fd : 0;
}

int link_force(const struct client *c)
{
	char path[sizeof(struct sockaddr_un)];
	int n = snprintf(path, sizeof path, "%s.force", c->socket), fd;

	if (n < 0 || (size_t)n >= sizeof path)
		return say_away(c->socket, ENAMETOOLONG);
	fd = connect_to(path, SOCK_SEQPACKET, LINK_PATIENCE_S);
	return fd < 0 ? say_away(path, -fd) : fd;
}

void link_close(struct link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->buf);
	*l = (struct link){.fd = -1};
}

/* --- one way and the other -------------------------------------------------------------------- */

static int lost(const struct link *l, const char *what)
{
	if (!l->quiet)
		client_complain("the daemon at '%s' %s", l->socket, what);
	return CLIENT_AWAY;
}

static int send_all(const struct link *l, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(l->fd, p, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		/* It may have closed after an answer that says why. */
		if (sent < 0)
			return errno == EPIPE || errno == ECONNRESET ? CLIENT_YES
								     : lost(l, "takes no request");
		p += sent;
		n -= (size_t)sent;
	}
	return CLIENT_YES;
}

static int send_request(const struct link *l, const char *cmd, json_t *args)
{
	json_t *o = json_pack("{s:i, s:s, s:o}", "v", 1, "cmd", cmd, "args",
			      args ? args : json_object());
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	int r;

	json_decref(o);
	if (!text) {
		client_complain("the request cannot be made: a word is no UTF-8, or memory is out");
		return CLIENT_USAGE;
	}
	r = send_all(l, text, strlen(text));
	if (r == CLIENT_YES)
		r = send_all(l, "\n", 1);
	free(text);
	return r;
}

static bool grow(struct link *l)
{
	size_t room = l->room ? l->room * 2 : ROOM_START;
	char *grown = room <= ROOM_MAX ? realloc(l->buf, room) : NULL;

	if (!grown)
		return false;
	l->buf = grown;
	l->room = room;
	return true;
}

/* More bytes; false at the end, or when it takes too long. */
static bool fill(struct link *l)
{
	ssize_t n;

	if (l->at) {
		memmove(l->buf, l->buf + l->at, l->n - l->at);
		l->n -= l->at;
		l->at = 0;
	}
	if (l->n == l->room && !grow(l))
		return false;
	do
		n = recv(l->fd, l->buf + l->n, l->room - l->n, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	l->n += (size_t)n;
	return true;
}

static json_t *receive(struct link *l)
{
	size_t looked_at = 0;

	for (;;) {
		size_t left = l->n - l->at;
		char *line = l->buf ? l->buf + l->at : NULL, *end = NULL;
		json_t *o;

		if (line && left > looked_at)
			end = memchr(line + looked_at, '\n', left - looked_at);
		if (end) {
			o = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
			l->at += (size_t)(end - line) + 1;
			return o;
		}
		looked_at = left;
		if (!fill(l))
			return NULL;
	}
}

static const struct {
	const char *code;
	int status;
} codes[] = {
	{"usage", CLIENT_USAGE},    {"not_found", CLIENT_NO},  {"refused", CLIENT_REFUSED},
	{"config", CLIENT_REFUSED}, {"internal", CLIENT_AWAY}, {"protocol", CLIENT_AWAY},
};

/* Says what the daemon has against it. */
static int failure(const struct link *l, json_t *o)
{
	const char *code = json_string_value(json_object_get(o, "code"));
	const char *file = json_string_value(json_object_get(o, "file"));
	const char *text = json_string_value(json_object_get(o, "text"));
	struct error err = {.line = (unsigned)json_integer_value(json_object_get(o, "line"))};
	char line[1200];

	snprintf(err.text, sizeof err.text, "%s",
		 text ? text : "the daemon fails and says nothing");
	snprintf(err.file, sizeof err.file, "%s", file ? file : "");
	if (!l->quiet)
		client_complain("%s", error_format(&err, line, sizeof line));
	for (size_t i = 0; code && i < sizeof codes / sizeof codes[0]; i++)
		if (!strcmp(codes[i].code, code))
			return codes[i].status;
	return CLIENT_AWAY;
}

int link_ask(struct link *l, const char *cmd, json_t *args, json_t **ret_data)
{
	int r = send_request(l, cmd, args);
	json_t *o;

	if (r != CLIENT_YES)
		return r;
	o = receive(l);
	if (!o)
		return lost(l, "does not answer");
	if (json_is_true(json_object_get(o, "ok")))
		*ret_data = json_incref(json_object_get(o, "data"));
	else
		r = failure(l, o);
	json_decref(o);
	return r;
}

int link_pages(struct link *l, const char *cmd, json_t *args, void (*page)(void *ctx, json_t *data),
	       void *ctx)
{
	int r = send_request(l, cmd, args);
	bool end = false;

	while (r == CLIENT_YES && !end) {
		json_t *o = receive(l);

		if (!o)
			return lost(l, "does not end its answer");
		end = json_is_true(json_object_get(o, "end"));
		if (!end && json_is_true(json_object_get(o, "ok")))
			page(ctx, json_object_get(o, "data"));
		else if (!end)
			r = failure(l, o);
		json_decref(o);
	}
	return r;
}

int link_once(const struct client *c, const char *cmd, json_t *args, json_t **ret_data)
{
	struct link l;
	int r = link_open(&l, c);

	if (r != CLIENT_YES) {
		json_decref(args);
		return r;
	}
	r = link_ask(&l, cmd, args, ret_data);
	link_close(&l);
	return r;
}

/* --- JSON out --------------------------------------------------------------------------------- */

#define ASCII (JSON_ENSURE_ASCII | JSON_ENCODE_ANY)

void link_print(json_t *value)
{
	json_dumpf(value, stdout, ASCII | JSON_INDENT(2));
	putchar('\n');
}

void link_print_item(json_t *value, size_t *count)
{
	fputs((*count)++ ? ",\n" : "[\n", stdout);
	json_dumpf(value, stdout, ASCII);
}

void link_print_end(size_t count)
{
	puts(count ? "\n]" : "[]");
}
