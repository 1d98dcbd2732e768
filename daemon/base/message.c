/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Channels between processes: see message.h. A wrong message, a dead peer and a socket error all
 * end in hooks->closed, once; sending on a closed channel is -EPIPE.
 */
#include "daemon/base/message.h"
#include "daemon/base/error.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_ROUNDS 64 /* messages handled per wake-up before the loop gets its turn */

struct waiting {
	struct waiting *next;
	int fd; /* a duplicate of ours, or -1 */
	size_t n;
	unsigned char bytes[];
};

struct channel {
	struct ev_loop *loop;
	ev_io readable, writable;
	const struct channel_hooks *hooks;
	void *ctx;
	int fd;
	bool closed, busy, dead; /* dead: freed from inside a handler */
	struct waiting *first, **last;
	size_t nwaiting;
	_Alignas(16) unsigned char in[MESSAGE_BYTES_MAX];
};

int message_pair(int ret_fds[2])
{
	int room = 1 << 20;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0)
		return -errno;
	for (int i = 0; i < 2; i++)
		(void)setsockopt(ret_fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	return 0;
}

static void report_closed(struct channel *c, int error)
{
	if (c->closed)
		return;
	c->closed = true;
	ev_io_stop(c->loop, &c->readable);
	ev_io_stop(c->loop, &c->writable);
	c->hooks->closed(c->ctx, error);
}

static int transmit(int fd, const void *bytes, size_t n, int passed)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {(void *)(uintptr_t)bytes, n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (passed >= 0) {
		memset(&control, 0, sizeof control);
		msg.msg_control = control.room;
		msg.msg_controllen = sizeof control.room;
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &passed, sizeof(int));
	}
	do
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

int message_send(int fd, uint32_t type, const void *entry, size_t bytes, int passed)
{
	unsigned char out[MESSAGE_BYTES_MAX];
	const struct message_head head = {type, 1};

	if (bytes > sizeof out - sizeof head)
		return -EMSGSIZE;
	memcpy(out, &head, sizeof head);
	memcpy(out + sizeof head, entry, bytes);
	return transmit(fd, out, sizeof head + bytes, passed);
}

static void drop_first(struct channel *c)
{
	struct waiting *w = c->first;

	c->first = w->next;
	if (!c->first)
		c->last = &c->first;
	c->nwaiting--;
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

/* 0 when all is out, -EAGAIN when the kernel's buffer is full, else the socket's error. */
static int send_waiting(struct channel *c)
{
	while (c->first) {
		int r = transmit(c->fd, c->first->bytes, c->first->n, c->first->fd);

		if (r < 0)
			return r;
		drop_first(c);
	}
	return 0;
}

static void on_writable(struct ev_loop *loop, ev_io *w, int revents)
{
	struct channel *c = w->data;
	int r = send_waiting(c);

	(void)revents;
	if (r == -EAGAIN)
		return;
	ev_io_stop(loop, w);
	if (r < 0)
		report_closed(c, r);
}

static int enqueue(struct channel *c, const void *bytes, size_t n, int fd)
{
	struct waiting *w;

	if (c->nwaiting >= MESSAGE_QUEUE_MAX)
		return -ENOBUFS;
	w = malloc(sizeof *w + n);
	if (!w)
		return -ENOBUFS;
	*w = (struct waiting){.fd = fd >= 0 ? dup(fd) : -1, .n = n};
	if (fd >= 0 && w->fd < 0) {
		free(w);
		return -ENOBUFS;
	}
	memcpy(w->bytes, bytes, n);
	*c->last = w;
	c->last = &w->next;
	c->nwaiting++;
	ev_io_start(c->loop, &c->writable);
	return 0;
}

int channel_send(struct channel *c, uint32_t type, const void *entries, uint32_t count, int fd)
{
	unsigned char out[MESSAGE_BYTES_MAX];
	struct message_head head = {type, count};
	size_t n = sizeof head;
	int r = -EAGAIN;

	assert(type < c->hooks->nout);
	if (c->closed)
		return -EPIPE;
	memcpy(out, &head, sizeof head);
	if (count) {
		size_t bytes = c->hooks->out[type].entry_bytes * count;

		if (bytes > sizeof out - sizeof head)
			return -EMSGSIZE;
		memcpy(out + n, entries, bytes);
		n += bytes;
	}
	if (!c->first)
		r = transmit(c->fd, out, n, fd);
	if (r == -EAGAIN || r == -ENOBUFS)
		return enqueue(c, out, n, fd);
	return r < 0 ? -EPIPE : 0;
}

size_t channel_backlog(const struct channel *c)
{
	return c->nwaiting;
}

void channel_flush(struct channel *c, int timeout_ms)
{
	struct pollfd p = {.fd = c->fd, .events = POLLOUT};

	while (!c->closed && send_waiting(c) == -EAGAIN && poll(&p, 1, timeout_ms) > 0)
		;
}

static ssize_t receive(struct channel *c, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec iov = {c->in, sizeof c->in};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof control.room};
	struct cmsghdr *h;
	ssize_t n;

	*ret_fd = -1;
	do
		n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	h = CMSG_FIRSTHDR(&msg);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
		size_t nfds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[8];

		memcpy(fds, CMSG_DATA(h), nfds * sizeof(int));
		*ret_fd = fds[0];
		for (size_t i = 1; i < nfds; i++)
			close(fds[i]);
		if (nfds > MESSAGE_FDS_MAX)
			return ERROR_PROTOCOL;
	}
	return (msg.msg_flags & MSG_TRUNC) ? ERROR_PROTOCOL : n;
}

/* The row of a message that fits it in every respect, or NULL. */
static const struct message_type *check(const struct channel *c, size_t n, int fd)
{
	const struct message_head *head = (const struct message_head *)c->in;
	const struct message_type *type;

	if (n < sizeof *head || head->type >= c->hooks->nin)
		return NULL;
	type = &c->hooks->in[head->type];
	if (!type->handle || head->count < type->min || head->count > type->max)
		return NULL;
	if (n != sizeof *head + (size_t)head->count * type->entry_bytes)
		return NULL;
	if ((fd >= 0) < type->fds_min || (fd >= 0) > type->fds_max)
		return NULL;
	return type;
}

/* Handles one message: 1, 0 when none is there, negative when the channel is finished. */
static int step(struct channel *c)
{
	const struct message_type *type;
	int fd;
	ssize_t n = receive(c, &fd);

	if (n == -EAGAIN)
		return 0;
	type = n > 0 ? check(c, (size_t)n, fd) : NULL;
	if (type) {
		type->handle(c->ctx, c->in + sizeof(struct message_head),
			     ((const struct message_head *)c->in)->count, &fd);
	}
	if (fd >= 0)
		close(fd);
	if (type)
		return 1;
	/* A peer that ends resets the pair when it had not read everything. The error comes before
	 * what it has sent, and once. */
	if (n == -ECONNRESET)
		return 1;
	if (n == 0 || n == -EPIPE)
		report_closed(c, 0);
	else
		report_closed(c, n > 0 ? ERROR_PROTOCOL : (int)n);
	return -1;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
	struct channel *c = w->data;

	(void)loop;
	(void)revents;
	c->busy = true;
	for (int i = 0; i < RECEIVE_ROUNDS && !c->dead && !c->closed; i++)
		if (step(c) <= 0)
			break;
	c->busy = false;
	if (c->dead)
		free(c);
}

void channel_drain(struct channel *c)
{
	if (!c || c->busy)
		return;
	c->busy = true;
	while (!c->dead && !c->closed && step(c) > 0)
		;
	c->busy = false;
	if (c->dead)
		free(c);
}

struct channel *channel_new(struct ev_loop *loop, int fd, const struct channel_hooks *hooks,
			    void *ctx)
{
	struct channel *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->loop = loop;
	c->fd = fd;
	c->hooks = hooks;
	c->ctx = ctx;
	c->last = &c->first;
	ev_io_init(&c->readable, on_readable, fd, EV_READ);
	ev_io_init(&c->writable, on_writable, fd, EV_WRITE);
	c->readable.data = c->writable.data = c;
	ev_io_start(loop, &c->readable);
	return c;
}

void channel_free(struct channel *c)
{
	if (!c)
		return;
	ev_io_stop(c->loop, &c->readable);
	ev_io_stop(c->loop, &c->writable);
	c->closed = true;
	while (c->first)
		drop_first(c);
	close(c->fd);
	c->fd = -1;
	if (c->busy)
		c->dead = true;
	else
		free(c);
}
