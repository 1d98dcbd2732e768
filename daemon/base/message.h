/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages between the processes: one SOCK_SEQPACKET pair a child, with descriptors.
 *
 * A message is a struct message_head and `count` entries of a size that its type fixes; the table
 * of types (struct message_type) is the caller's. A message whose type, count, length or number of
 * descriptors does not fit its row never reaches a handler: the channel reports ERROR_PROTOCOL and
 * is closed, because a process that sends one is broken or taken over. Descriptors that came along
 * are closed then.
 *
 * Sending never blocks: what the kernel does not take at once waits in a queue of at most
 * MESSAGE_QUEUE_MAX messages; a fuller queue is -ENOBUFS and the caller decides. Sent descriptors
 * stay the sender's; received ones are the handler's, which must take them out of the array (set to
 * -1) or they are closed after it returns.
 */
#ifndef TAILBAN_BASE_MESSAGE_H
#define TAILBAN_BASE_MESSAGE_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_BYTES_MAX 65536u
#define MESSAGE_FDS_MAX 1u
#define MESSAGE_QUEUE_MAX 65536u

struct message_head {
	uint32_t type;
	uint32_t count;
};

struct channel;

struct message_type {
	const char *name;
	size_t entry_bytes; /* 0: no payload */
	uint32_t min, max;  /* allowed counts; entry_bytes 1 = bytes */
	uint8_t fds_min, fds_max;
	void (*handle)(void *ctx, const void *entries, uint32_t count,
		       int *fds); /* NULL: not for us */
};

struct channel_hooks {
	const struct message_type *in;  /* what the peer may send, indexed by type */
	const struct message_type *out; /* what we send: only names and sizes are looked at */
	uint32_t nin, nout;
	/* The peer is gone (error 0) or broke the rules (ERROR_PROTOCOL) or the socket failed. */
	void (*closed)(void *ctx, int error);
};

/* Both ends close-on-exec and non-blocking, with room for bursts. 0 or errno. */
int message_pair(int ret_fds[2]);

/* Takes fd over. `hooks` and `ctx` must outlive the channel. NULL when memory is out. */
struct channel *channel_new(struct ev_loop *loop, int fd, const struct channel_hooks *hooks,
			    void *ctx);

/* 0, -ENOBUFS when the queue is full, -EPIPE when the peer is gone. fd -1 = none. */
int channel_send(struct channel *c, uint32_t type, const void *entries, uint32_t count, int fd);

/* One message past any channel, for a process without a loop. 0, -EAGAIN when the kernel has no
 * room for it now, or errno. passed -1 = no descriptor. */
int message_send(int fd, uint32_t type, const void *entry, size_t bytes, int passed);

/* Messages waiting for the kernel to take them. */
size_t channel_backlog(const struct channel *c);

/* Sends what waits, blocking at most timeout_ms; for the last words of a process. */
void channel_flush(struct channel *c, int timeout_ms);

/* Handles all that has arrived, at once: what a peer said before it ended. `closed` may be called,
 * and may free the channel. NULL is fine. */
void channel_drain(struct channel *c);

/* Stops watching and closes. NULL is fine. */
void channel_free(struct channel *c);

#endif
