/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Netlink sockets, batches and acknowledgements: see netlink.h. Fails with the kernel's errno, with
 * -ENOBUFS when the outcome is unknown, and allocates only when a socket or a batch is opened. */
#include "daemon/base/netlink.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel refuses a message longer than its send buffer less this much (netlink_sendmsg). */
#define SEND_SLACK 4096
#define DRAIN_READS 8192 /* 256 MiB */

static void set_buffers(int fd, int bytes)
{
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

static size_t send_limit(int fd)
{
	int bytes = 0;
	socklen_t size = sizeof bytes;

	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size) < 0 || bytes < 2 * SEND_SLACK)
		return SEND_SLACK;
	return (size_t)bytes - SEND_SLACK;
}

static int finish_open(struct netlink *nl, int buffer_bytes, struct error *err)
{
	int on = 1;

	nl->fd = mnl_socket_get_fd(nl->sock);
	nl->portid = mnl_socket_get_portid(nl->sock);
	nl->buf = malloc(NETLINK_READ_BYTES);
	if (!nl->buf) {
		netlink_close(nl);
		return error_set(err, -ENOMEM, "no memory for a netlink socket");
	}
	/* Old kernels lack these two: they then repeat the request in the answer, which we skip. */
	(void)mnl_socket_setsockopt(nl->sock, NETLINK_CAP_ACK, &on, sizeof on);
	(void)mnl_socket_setsockopt(nl->sock, NETLINK_EXT_ACK, &on, sizeof on);
	if (buffer_bytes)
		set_buffers(nl->fd, buffer_bytes);
	nl->max_send = send_limit(nl->fd);
	return 0;
}

int netlink_open(struct netlink *nl, int bus, unsigned group, int buffer_bytes, struct error *err)
{
	unsigned groups = group ? 1u << (group - 1) : 0;
	int code;

	*nl = (struct netlink){.fd = -1};
	nl->sock = mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!nl->sock) {
		code = -errno;
		return error_set(err, code, "netlink socket %d: %s", bus, error_name(code));
	}
	if (mnl_socket_bind(nl->sock, groups, MNL_SOCKET_AUTOPID) < 0) {
		code = -errno;
		netlink_close(nl);
		return error_set(err, code, "bind of netlink socket %d: %s", bus, error_name(code));
	}
	return finish_open(nl, buffer_bytes, err);
}

void netlink_close(struct netlink *nl)
{
	if (nl->sock)
		mnl_socket_close(nl->sock);
	free(nl->buf);
	*nl = (struct netlink){.fd = -1};
}

int netlink_batch_init(struct netlink_batch *batch, size_t room)
{
	assert(room >= NETLINK_MESSAGE_MAX);
	*batch = (struct netlink_batch){.room = room, .limit = room};
	batch->buf = malloc(room);
	return batch->buf ? 0 : -ENOMEM;
}

void netlink_batch_fini(struct netlink_batch *batch)
{
	free(batch->buf);
	*batch = (struct netlink_batch){0};
}

void netlink_batch_begin(struct netlink_batch *batch, const struct netlink *nl)
{
	batch->used = 0;
	batch->count = 0;
	batch->acked = 0;
	batch->last = NULL;
	batch->first_seq = nl->seq + 1;
	batch->limit = nl->max_send < batch->room ? nl->max_send : batch->room;
}

static void close_message(struct netlink_batch *batch)
{
	if (!batch->last)
		return;
	assert(batch->last->nlmsg_len <= NETLINK_MESSAGE_MAX);
	batch->used += NLMSG_ALIGN(batch->last->nlmsg_len);
	batch->last = NULL;
}

struct nlmsghdr *netlink_batch_next(struct netlink_batch *batch, uint16_t type, uint16_t flags)
{
	close_message(batch);
	if (batch->limit - batch->used < NETLINK_MESSAGE_MAX)
		return NULL;
	batch->last = mnl_nlmsg_put_header(batch->buf + batch->used);
	batch->last->nlmsg_type = type;
	batch->last->nlmsg_flags = NLM_F_REQUEST | flags;
	batch->last->nlmsg_seq = batch->first_seq + batch->count++;
	return batch->last;
}

size_t netlink_batch_left(const struct netlink_batch *batch)
{
	size_t used = batch->used + (batch->last ? NLMSG_ALIGN(batch->last->nlmsg_len) : 0);

	return batch->limit - used;
}

void netlink_batch_ack(struct netlink_batch *batch)
{
	assert(batch->last);
	batch->last->nlmsg_flags |= NLM_F_ACK;
	batch->acked = batch->count - 1;
}

static int send_bytes(struct netlink *nl, const void *bytes, size_t size)
{
	ssize_t n;

	do
		n = mnl_socket_sendto(nl->sock, bytes, size);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Bytes, or negative errno (-EAGAIN: nothing there). */
static ssize_t receive(struct netlink *nl)
{
	ssize_t n;

	do
		n = mnl_socket_recvfrom(nl->sock, nl->buf, NETLINK_READ_BYTES);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ENOSPC ? -EPROTO : -errno; /* ENOSPC: truncated */
	return n;
}

/* What the kernel said to one batch. */
struct verdict {
	const struct netlink_batch *batch;
	netlink_refused *refused;
	netlink_message *message;
	void *ctx;
	int first_error;
	bool acked;
};

static void take_answer(struct verdict *v, const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *answer = mnl_nlmsg_get_payload(nlh);
	uint32_t index = nlh->nlmsg_seq - v->batch->first_seq;

	if (index >= v->batch->count)
		return; /* of an earlier batch whose answers came late */
	if (nlh->nlmsg_type >= NLMSG_MIN_TYPE && v->message) {
		int code = v->message(v->ctx, nlh);

		if (code < 0 && !v->first_error)
			v->first_error = code;
		return;
	}
	if (nlh->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(nlh) < sizeof *answer)
		return;
	if (!answer->error) {
		v->acked |= index == v->batch->acked;
		return;
	}
	if (!v->first_error)
		v->first_error = answer->error;
	if (v->refused)
		v->refused(v->ctx, index, answer->error);
}

static bool collect(struct netlink *nl, struct verdict *v)
{
	bool lost = false;
	ssize_t n;

	while ((n = receive(nl)) != -EAGAIN) {
		const struct nlmsghdr *nlh = (const void *)nl->buf;
		int left = (int)n;

		if (n < 0) {
			lost = true;
			if (n != -ENOBUFS && n != -EPROTO)
				break;
			continue;
		}
		for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
			take_answer(v, nlh);
	}
	return !lost;
}

static int exchange(struct netlink *nl, struct netlink_batch *batch, struct verdict *v)
{
	int code;

	assert(!nl->dumping);
	close_message(batch);
	nl->seq += batch->count;
	code = send_bytes(nl, batch->buf, batch->used);
	if (code < 0)
		return code;
	if (!collect(nl, v))
		return -ENOBUFS;
	if (v->first_error)
		return v->first_error;
	return v->acked ? 0 : -ENOBUFS;
}

int netlink_commit(struct netlink *nl, struct netlink_batch *batch, netlink_refused *refused,
		   void *ctx)
{
	struct verdict v = {.batch = batch, .refused = refused, .ctx = ctx};

	return exchange(nl, batch, &v);
}

int netlink_query(struct netlink *nl, struct netlink_batch *batch, netlink_message *message,
		  netlink_refused *refused, void *ctx)
{
	struct verdict v = {.batch = batch, .refused = refused, .message = message, .ctx = ctx};

	return exchange(nl, batch, &v);
}

int netlink_send(struct netlink *nl, struct nlmsghdr *nlh)
{
	int code;

	assert(!nl->dumping);
	nlh->nlmsg_seq = ++nl->seq;
	code = send_bytes(nl, nlh, nlh->nlmsg_len);
	nl->dumping = code == 0;
	nl->dump_cut = false;
	return code;
}

/* A dump that failed half-way goes on in the kernel, and the next one would meet EBUSY. */
static void drain(struct netlink *nl)
{
	for (unsigned reads = 0; reads < DRAIN_READS && receive(nl) != -EAGAIN; reads++)
		;
}

int netlink_from_fd(struct netlink *nl, int fd, struct error *err)
{
	int code;

	*nl = (struct netlink){.fd = -1};
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
		nl->sock = mnl_socket_fdopen(fd);
	if (!nl->sock) {
		code = -errno;
		if (fd >= 0)
			close(fd);
		return error_set(err, code, "descriptor %d is no netlink socket: %s", fd,
				 error_name(code));
	}
	if (!mnl_socket_get_portid(nl->sock)) /* else the kernel chooses one at the first send */
		(void)mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID);
	code = finish_open(nl, 0, err);
	if (code == 0)
		drain(nl);
	return code;
}

static int end_dump(struct netlink *nl, int code)
{
	nl->dumping = false;
	if (code < 0)
		drain(nl);
	return code == 0 && nl->dump_cut ? -EINTR : code;
}

/* 1: go on, 0: that was the last message, negative: failed. */
static int take_part(struct netlink *nl, const struct nlmsghdr *nlh, netlink_message *message,
		     void *ctx)
{
	const int *error = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_seq != nl->seq || nlh->nlmsg_pid != nl->portid)
		return 1;
	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		nl->dump_cut = true;
	if (nlh->nlmsg_type == NLMSG_ERROR)
		return mnl_nlmsg_get_payload_len(nlh) < sizeof *error ? -EPROTO : *error;
	if (nlh->nlmsg_type == NLMSG_DONE)
		return mnl_nlmsg_get_payload_len(nlh) < sizeof *error ? 0 : *error;
	if (nlh->nlmsg_type >= NLMSG_MIN_TYPE) {
		int code = message(ctx, nlh);

		if (code < 0)
			return code;
	}
	return (nlh->nlmsg_flags & NLM_F_MULTI) ? 1 : 0;
}

int netlink_dump_read(struct netlink *nl, netlink_message *message, void *ctx, size_t max_bytes)
{
	size_t bytes = 0;

	if (!nl->dumping)
		return 0;
	do {
		const struct nlmsghdr *nlh = (const void *)nl->buf;
		ssize_t n = receive(nl);
		int left = (int)n;

		if (n < 0)
			return n == -EAGAIN ? -EAGAIN : end_dump(nl, (int)n);
		for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
			int code = take_part(nl, nlh, message, ctx);

			if (code <= 0)
				return end_dump(nl, code);
		}
		bytes += (size_t)n;
	} while (bytes < max_bytes);
	return 1;
}

int netlink_dump(struct netlink *nl, struct nlmsghdr *nlh, netlink_message *message, void *ctx)
{
	int code = netlink_send(nl, nlh);

	if (code < 0)
		return code;
	do
		code = netlink_dump_read(nl, message, ctx, SIZE_MAX);
	while (code == 1);
	if (code == -EAGAIN) /* the kernel answers inside send: nothing more will come */
		return end_dump(nl, -ENOBUFS);
	return code;
}

int netlink_events(struct netlink *nl, netlink_message *message, void *ctx, size_t max_bytes)
{
	size_t bytes = 0;

	while (bytes < max_bytes) {
		const struct nlmsghdr *nlh = (const void *)nl->buf;
		ssize_t n = receive(nl);
		int left = (int)n;

		if (n == -EAGAIN)
			break;
		if (n < 0)
			return n == -EPROTO ? -ENOBUFS : (int)n;
		for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
			int code = message(ctx, nlh);

			if (code < 0)
				return code;
		}
		bytes += (size_t)n;
	}
	return (int)bytes;
}
