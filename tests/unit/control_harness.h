/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A control socket and its clients in one process and one thread, for the tests and the fuzzer.
 *
 * The socket has an abstract name that the kernel chooses, so nothing is left behind. Clients do
 * not block: whoever waits turns the loop.
 */
#ifndef TAILBAN_TESTS_CONTROL_HARNESS_H
#define TAILBAN_TESTS_CONTROL_HARNESS_H

#include "daemon/base/clock.h"
#include "daemon/control/server.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HARNESS_PATIENCE_NS (10 * CLOCK_SECOND_NS)

struct harness {
	struct ev_loop *loop;
	struct control *control;
	struct sockaddr_un at;
	socklen_t at_n;
};

static inline void harness_open(struct harness *h, control_fn *fn, void *ctx)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct error err = {0};

	*h = (struct harness){.at.sun_family = AF_UNIX, .at_n = sizeof h->at};
	if (fd < 0 || bind(fd, (struct sockaddr *)&h->at, sizeof(sa_family_t)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&h->at, &h->at_n) < 0)
		abort();
	h->loop = ev_loop_new(EVFLAG_AUTO);
	h->control = control_new(h->loop, fd, fn, ctx, &err);
	if (!h->control)
		abort();
}

static inline void harness_close(struct harness *h)
{
	control_free(h->control);
	ev_loop_destroy(h->loop);
}

static inline int harness_connect(const struct harness *h)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&h->at, h->at_n) < 0)
		abort();
	return fd;
}

static inline void harness_turn(struct harness *h, unsigned times)
{
	while (times--)
		ev_run(h->loop, EVRUN_NOWAIT);
}

/* All of it, or until the other side has closed. */
static inline void harness_send(struct harness *h, int fd, const char *bytes, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return;
		if (sent > 0) {
			bytes += sent;
			n -= (size_t)sent;
		}
		harness_turn(h, 1);
	}
}

static inline void harness_say(struct harness *h, int fd, const char *line)
{
	harness_send(h, fd, line, strlen(line));
	harness_send(h, fd, "\n", 1);
}

/* The next line without its newline; "" when the connection is closed. Aborts when nothing comes.
 */
static inline char *harness_hear(struct harness *h, int fd)
{
	int64_t end_ns = clock_now().mono_ns + HARNESS_PATIENCE_NS;
	size_t n = 0, room = 1024;
	char *line = malloc(room);

	while (line && clock_now().mono_ns < end_ns) {
		ssize_t got = recv(fd, line + n, 1, 0);

		if (got == 0 || (got < 0 && errno != EAGAIN))
			break;
		if (got < 0) {
			ev_run(h->loop, EVRUN_NOWAIT);
			usleep(100);
			continue;
		}
		if (line[n] == '\n') {
			line[n] = 0;
			return line;
		}
		if (++n == room)
			line = realloc(line, room *= 2);
	}
	if (!line || n)
		abort();
	line[0] = 0;
	return line;
}

static inline json_t *harness_hear_json(struct harness *h, int fd)
{
	char *line = harness_hear(h, fd);
	json_t *o = json_loads(line, JSON_ALLOW_NUL, NULL);

	free(line);
	return o;
}

#endif
