/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink sockets, request batches and their acknowledgements: one engine for nf_tables and
 * sock_diag.
 *
 * The kernel works a request off inside send(2), so its answer lies in the socket when send
 * returns; netlink_commit sends and collects in one call and never waits. Only the last message of
 * a batch asks for an acknowledgement: errors are reported without being asked for, and 3,000
 * acknowledgements overrun the default receive buffer (256 fit). A batch is bounded by its buffer,
 * so it cannot meet EMSGSIZE: netlink_batch_next returns NULL instead when another message might
 * not fit.
 *
 * Sockets are non-blocking and close-on-exec. A struct netlink owns its socket until netlink_close;
 * a zeroed one is closed. Buffers are allocated at start and kept; nothing here allocates later.
 *
 * Errors: negative errno of the system call or of the kernel's answer; -ENOBUFS means that answers
 * were lost, so the outcome is unknown and the batch has to be sent again; -EPROTO is an answer
 * that breaks the format; -EINTR at the end of a dump means that it was cut by a change and should
 * be repeated.
 */
#ifndef TAILBAN_BASE_NETLINK_H
#define TAILBAN_BASE_NETLINK_H

#include <libmnl/libmnl.h>

#include "daemon/base/error.h"
#include "daemon/base/slice.h"

/* No message that is built by a user of this module is longer. */
#define NETLINK_MESSAGE_MAX 2048
/* Receive buffer: the kernel fills dump parts up to 32 KiB when the reader offers as much. */
#define NETLINK_READ_BYTES 32768

struct netlink {
	struct mnl_socket *sock; /* NULL: closed */
	int fd;
	uint32_t portid;
	uint32_t seq;    /* of the last message sent */
	size_t max_send; /* longest batch that fits the kernel's queue */
	char *buf;       /* NETLINK_READ_BYTES */
	bool dumping, dump_cut;
};

/* Messages that are sent together. The caller fills what netlink_batch_next returns. */
struct netlink_batch {
	char *buf;
	size_t used, room, limit; /* bytes */
	uint32_t first_seq, count, acked;
	struct nlmsghdr *last; /* the message in work: its length counts when the next one begins */
};

/* bus: NETLINK_NETFILTER, NETLINK_SOCK_DIAG. group: one to join, or 0. buffer_bytes: of the
 * kernel's queues in both directions (forced where CAP_NET_ADMIN allows it), 0 keeps the defaults.
 */
int netlink_open(struct netlink *nl, int bus, unsigned group, int buffer_bytes, struct error *err);
/* Takes over a netlink socket that was opened elsewhere (another network namespace), also when it
 * fails. What an earlier user has left in it, a dump that he did not live to read, is thrown away.
 */
int netlink_from_fd(struct netlink *nl, int fd, struct error *err);
void netlink_close(struct netlink *nl);

int netlink_batch_init(struct netlink_batch *batch, size_t room);
void netlink_batch_fini(struct netlink_batch *batch);
/* Empties the batch and takes the socket's next sequence numbers. */
void netlink_batch_begin(struct netlink_batch *batch, const struct netlink *nl);
/* A header of that type with NLM_F_REQUEST, sequence number and room for NETLINK_MESSAGE_MAX bytes,
 * or NULL when another message might not fit. Its index in the batch is batch->count - 1. */
struct nlmsghdr *netlink_batch_next(struct netlink_batch *batch, uint16_t type, uint16_t flags);
/* Bytes that are left for further messages. */
size_t netlink_batch_left(const struct netlink_batch *batch);
/* The message in work asks for the acknowledgement: the last one that the kernel works off. */
void netlink_batch_ack(struct netlink_batch *batch);

/* Called for each message of the batch that the kernel refused: its index and negative errno. */
typedef void netlink_refused(void *ctx, uint32_t index, int error);

/* Sends the batch and reads the answers. 0 when it was acknowledged and nothing was refused, else
 * the first error. `refused` may be NULL. */
int netlink_commit(struct netlink *nl, struct netlink_batch *batch, netlink_refused *refused,
		   void *ctx);

/* Called for each data message; a negative return ends reading with that value. */
typedef int netlink_message(void *ctx, const struct nlmsghdr *nlh);

/* As netlink_commit, for requests that are answered with data. An answer's place in the batch is
 * its nlmsg_seq - batch->first_seq. */
int netlink_query(struct netlink *nl, struct netlink_batch *batch, netlink_message *message,
		  netlink_refused *refused, void *ctx);

/* Sends one request (sequence number, NLM_F_DUMP where wanted set by the caller's flags). */
int netlink_send(struct netlink *nl, struct nlmsghdr *nlh);
/*
 * Reads parts of the running dump, at least one and then until max_bytes are reached. 1: more to
 * come, 0: complete, -EINTR: complete but cut, -EAGAIN: nothing there yet, other: failed (dump is
 * over).
 */
int netlink_dump_read(struct netlink *nl, netlink_message *message, void *ctx, size_t max_bytes);
/* Start to end in one call. */
int netlink_dump(struct netlink *nl, struct nlmsghdr *nlh, netlink_message *message, void *ctx);

/* Hands each queued notification of a joined group to `message`, up to max_bytes. Bytes read, 0
 * when the queue is empty, -ENOBUFS when notifications were lost. */
int netlink_events(struct netlink *nl, netlink_message *message, void *ctx, size_t max_bytes);

#endif
