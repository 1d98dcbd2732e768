/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP sockets by sock_diag: see sockdiag.h. Fails with the kernel's errno; an answer that is too
 * short is skipped, as its sender is the kernel and newer kernels only make answers longer. */
#include "daemon/base/sockdiag.h"

#include <errno.h>
#include <linux/sock_diag.h>

#define DUMP_ATTEMPTS 3
#define BATCH_ROOM (SOCKDIAG_BATCH * 128 + NETLINK_MESSAGE_MAX)

struct request {
	struct nlmsghdr nlh;
	struct inet_diag_req_v2 req;
};

static int finish_open(struct sockdiag *sd, struct error *err)
{
	if (netlink_batch_init(&sd->batch, BATCH_ROOM) == 0)
		return 0;
	netlink_close(&sd->nl);
	return error_set(err, -ENOMEM, "no memory for a sock_diag socket");
}

int sockdiag_open(struct sockdiag *sd, struct error *err)
{
	int code;

	*sd = (struct sockdiag){0};
	code = netlink_open(&sd->nl, NETLINK_SOCK_DIAG, 0, 0, err);
	return code < 0 ? error_wrap(err, code, "sock_diag") : finish_open(sd, err);
}

int sockdiag_from_fd(struct sockdiag *sd, int fd, struct error *err)
{
	int code;

	*sd = (struct sockdiag){0};
	code = netlink_from_fd(&sd->nl, fd, err);
	return code < 0 ? error_wrap(err, code, "sock_diag") : finish_open(sd, err);
}

void sockdiag_close(struct sockdiag *sd)
{
	netlink_close(&sd->nl);
	netlink_batch_fini(&sd->batch);
}

int sockdiag_fd(const struct sockdiag *sd)
{
	return sd->nl.fd;
}

int sockdiag_dump_start(struct sockdiag *sd, int family, uint32_t states, uint16_t sport)
{
	return sockdiag_dump_start_of(sd, family, states, sport, NULL, 0);
}

/*
 * The kernel's little language, one condition a peer, joined by "or":
 *	if the peer is in net 1, go on, else skip the jump; jump to the end; if the peer is in net 2
 *... Going past the end by 4 means "no". Its checker wants every target to lie on the way of "yes",
 *so a match cannot jump by itself.
 */
#define CONDITION_BYTES (sizeof(struct inet_diag_bc_op) + sizeof(struct inet_diag_hostcond) + 16)
#define JUMP_BYTES sizeof(struct inet_diag_bc_op)
#define FILTER_BYTES (SOCKDIAG_PEERS_MAX * (CONDITION_BYTES + JUMP_BYTES))

static size_t add_condition(unsigned char *at, const struct addr *peer)
{
	size_t size = CONDITION_BYTES - 16 + addr_bytes(peer);
	struct inet_diag_bc_op op = {.code = INET_DIAG_BC_D_COND,
				     .yes = (unsigned char)size,
				     .no = (unsigned short)(size + JUMP_BYTES)};
	struct inet_diag_hostcond host = {.family = peer->family == ADDR_IPV4 ? AF_INET : AF_INET6,
					  .prefix_len = peer->plen,
					  .port = -1};

	memcpy(at, &op, sizeof op);
	memcpy(at + sizeof op, &host, sizeof host);
	memcpy(at + sizeof op + sizeof host, peer->b, addr_bytes(peer));
	return size;
}

/* The length of the filter, 0 for none. */
static size_t make_filter(unsigned char filter[static FILTER_BYTES], const struct addr *peers,
			  size_t npeers)
{
	size_t jumps[SOCKDIAG_PEERS_MAX], n = 0;

	if (npeers > SOCKDIAG_PEERS_MAX)
		return 0;
	for (size_t i = 0; i < npeers; i++) {
		n += add_condition(filter + n, &peers[i]);
		jumps[i] = n;
		n += i + 1 < npeers ? JUMP_BYTES : 0;
	}
	for (size_t i = 0; i + 1 < npeers; i++) {
		struct inet_diag_bc_op jump = {.code = INET_DIAG_BC_JMP,
					       .yes = JUMP_BYTES,
					       .no = (unsigned short)(n - jumps[i])};

		memcpy(filter + jumps[i], &jump, sizeof jump);
	}
	return n;
}

int sockdiag_dump_start_of(struct sockdiag *sd, int family, uint32_t states, uint16_t sport,
			   const struct addr *peers, size_t npeers)
{
	struct {
		struct request r;
		struct nlattr attr;
		unsigned char filter[FILTER_BYTES];
	} m = {.r = {.nlh = {.nlmsg_len = sizeof m.r,
			     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			     .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		     .req = {.sdiag_family = (uint8_t)family,
			     .sdiag_protocol = IPPROTO_TCP,
			     .idiag_states = states,
			     .id.idiag_sport = htons(sport)}}};
	size_t n = make_filter(m.filter, peers, npeers);

	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	if (n) {
		m.attr = (struct nlattr){.nla_len = (uint16_t)(sizeof m.attr + n),
					 .nla_type = INET_DIAG_REQ_BYTECODE};
		m.r.nlh.nlmsg_len += m.attr.nla_len;
	}
	if (sd->want_tcp_info)
		m.r.req.idiag_ext = 1u << (INET_DIAG_INFO - 1);
	sd->dump_states = states;
	return netlink_send(&sd->nl, &m.r.nlh);
}

/* struct tcp_info of <linux/tcp.h>, by offset: that header excludes <netinet/tcp.h>, whose struct
 * ends before the counters of bytes. */
enum {
	LAST_DATA_SENT = 44,
	LAST_DATA_RECV = 52,
	LAST_ACK_RECV = 56,
	BYTES_ACKED = 120,
	BYTES_RECEIVED = 128,
	SEGS_IN = 140
};

static uint64_t field(const struct nlattr *attr, size_t offset, size_t size)
{
	const char *info = mnl_attr_get_payload(attr);
	uint64_t wide;
	uint32_t narrow;

	if (mnl_attr_get_payload_len(attr) < offset + size)
		return 0;
	if (size == sizeof wide) {
		memcpy(&wide, info + offset, sizeof wide);
		return wide;
	}
	memcpy(&narrow, info + offset, sizeof narrow);
	return narrow;
}

/* Older kernels have a shorter struct: a field that is missing stays 0, and without the counters of
 * bytes (Linux 4.1) the whole counts as missing. */
static void take_tcp_info(struct sock_info *sock, const struct nlattr *attr)
{
	sock->has_tcp_info = mnl_attr_get_payload_len(attr) >= BYTES_RECEIVED + 8;
	sock->bytes_received = field(attr, BYTES_RECEIVED, 8);
	sock->bytes_acked = field(attr, BYTES_ACKED, 8);
	sock->last_data_recv_ms = (uint32_t)field(attr, LAST_DATA_RECV, 4);
	sock->last_data_sent_ms = (uint32_t)field(attr, LAST_DATA_SENT, 4);
	sock->last_ack_recv_ms = (uint32_t)field(attr, LAST_ACK_RECV, 4);
	sock->segs_in = (uint32_t)field(attr, SEGS_IN, 4);
}

static int take_attribute(const struct nlattr *attr, void *ctx)
{
	struct sock_info *sock = ctx;

	if (mnl_attr_get_type(attr) == INET_DIAG_INFO)
		take_tcp_info(sock, attr);
	else if (mnl_attr_get_type(attr) == INET_DIAG_SKV6ONLY && mnl_attr_get_payload_len(attr))
		sock->v6only = mnl_attr_get_u8(attr);
	return MNL_CB_OK;
}

static struct addr host_of(uint8_t family, const void *bytes)
{
	return family == AF_INET ? addr_from_ipv4(bytes) : addr_from_ipv6(bytes);
}

static void take_message(struct sock_info *sock, const struct nlmsghdr *nlh)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);

	*sock = (struct sock_info){
		.local = host_of(m->idiag_family, m->id.idiag_src),
		.peer = host_of(m->idiag_family, m->id.idiag_dst),
		.lport = ntohs(m->id.idiag_sport),
		.pport = ntohs(m->id.idiag_dport),
		.state = m->idiag_state,
		.diag_family = m->idiag_family,
		.inode = m->idiag_inode,
		.uid = m->idiag_uid,
		.rqueue = m->idiag_rqueue,
		.wqueue = m->idiag_wqueue,
		.ifindex = m->id.idiag_if,
		.cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0],
		.id = m->id,
	};
	mnl_attr_parse(nlh, sizeof *m, take_attribute, sock);
}

struct reader {
	const struct sockdiag *sd;
	sock_callback *callback;
	void *ctx;
};

static int read_socket(void *ctx, const struct nlmsghdr *nlh)
{
	const struct reader *reader = ctx;
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	struct sock_info sock;

	if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(nlh) < sizeof *m ||
	    (m->idiag_family != AF_INET && m->idiag_family != AF_INET6))
		return 0;
	/* The kernel dumps by its own idea of a state's table; what was not asked for is not told.
	 */
	if (m->idiag_state > 31 || !(reader->sd->dump_states & SOCK_STATE(m->idiag_state)))
		return 0;
	take_message(&sock, nlh);
	reader->callback(reader->ctx, &sock);
	return 0;
}

int sockdiag_dump_read(struct sockdiag *sd, sock_callback *callback, void *ctx, size_t max_bytes)
{
	struct reader reader = {sd, callback, ctx};

	return netlink_dump_read(&sd->nl, read_socket, &reader, max_bytes);
}

static int whole_dump(struct sockdiag *sd, int family, uint32_t states, uint16_t sport,
		      sock_callback *callback, void *ctx)
{
	int code = -EINTR;

	for (unsigned attempt = 0; attempt < DUMP_ATTEMPTS && code == -EINTR; attempt++) {
		code = sockdiag_dump_start(sd, family, states, sport);
		if (code < 0)
			return code;
		do
			code = sockdiag_dump_read(sd, callback, ctx, SIZE_MAX);
		while (code == 1);
		if (code == -EAGAIN)
			return -EIO;
	}
	return code;
}

int sockdiag_each(struct sockdiag *sd, int family, uint32_t states, uint16_t sport,
		  sock_callback *callback, void *ctx)
{
	int code;

	if (family != AF_UNSPEC)
		return whole_dump(sd, family, states, sport, callback, ctx);
	code = whole_dump(sd, AF_INET, states, sport, callback, ctx);
	return code < 0 ? code : whole_dump(sd, AF_INET6, states, sport, callback, ctx);
}

static bool has_cookie(const struct inet_diag_sockid *id)
{
	return !(id->idiag_cookie[0] == INET_DIAG_NOCOOKIE &&
		 id->idiag_cookie[1] == INET_DIAG_NOCOOKIE) &&
	       (id->idiag_cookie[0] || id->idiag_cookie[1]);
}

static bool may_destroy(const struct sock_kill *sock)
{
	return sock->state != TCP_LISTEN && sock->id.idiag_dport != 0 && has_cookie(&sock->id) &&
	       (sock->diag_family == AF_INET || sock->diag_family == AF_INET6);
}

static bool put_destroy(struct netlink_batch *batch, const struct sock_kill *sock)
{
	struct nlmsghdr *nlh = netlink_batch_next(batch, SOCK_DESTROY, 0);
	struct inet_diag_req_v2 *req;

	if (!nlh)
		return false;
	req = mnl_nlmsg_put_extra_header(nlh, sizeof *req);
	req->sdiag_family = sock->diag_family;
	req->sdiag_protocol = IPPROTO_TCP;
	req->idiag_states = SOCK_STATE(sock->state);
	req->id = sock->id;
	return true;
}

struct destroying {
	struct sock_kill *socks;
	uint32_t place[SOCKDIAG_BATCH]; /* message -> socket */
};

static void destroy_refused(void *ctx, uint32_t index, int error)
{
	struct destroying *d = ctx;

	d->socks[d->place[index]].error = error;
}

static void count_results(const struct destroying *d, uint32_t sent, struct sockdiag_killed *killed)
{
	for (uint32_t i = 0; i < sent; i++) {
		int error = d->socks[d->place[i]].error;

		if (!error) {
			killed->destroyed++;
		} else if (error == -ENOENT) {
			killed->gone++;
		} else {
			killed->failed++;
			killed->error = error;
		}
	}
}

/* A refusal of one socket is no failure of the batch: each has its own result. */
int sockdiag_destroy_batch(struct sockdiag *sd, struct sock_kill *socks, size_t count,
			   struct sockdiag_killed *killed)
{
	struct destroying d = {.socks = socks};
	uint32_t sent = 0;
	int code;

	if (count > SOCKDIAG_BATCH)
		return -E2BIG;
	netlink_batch_begin(&sd->batch, &sd->nl);
	for (size_t i = 0; i < count; i++) {
		socks[i].error = 0;
		if (!may_destroy(&socks[i])) {
			socks[i].error = -EINVAL;
			killed->refused++;
		} else {
			if (!put_destroy(&sd->batch, &socks[i]))
				return -EMSGSIZE;
			d.place[sent++] = (uint32_t)i;
		}
	}
	if (!sent)
		return 0;
	netlink_batch_ack(&sd->batch);
	code = netlink_commit(&sd->nl, &sd->batch, destroy_refused, &d);
	if (code == -ENOBUFS)
		return code;
	count_results(&d, sent, killed);
	return 0;
}

/* Asks for a socket that cannot exist, with a cookie: a kernel that can destroy says ENOENT. */
int sockdiag_can_destroy(struct sockdiag *sd)
{
	struct sock_kill nobody = {.diag_family = AF_INET, .state = TCP_ESTABLISHED};
	struct sockdiag_killed killed = {0};
	int code;

	nobody.id.idiag_dst[0] = nobody.id.idiag_src[0] = htonl(0x7f000001);
	nobody.id.idiag_sport = nobody.id.idiag_dport = htons(1);
	nobody.id.idiag_cookie[0] = nobody.id.idiag_cookie[1] = 1;
	code = sockdiag_destroy_batch(sd, &nobody, 1, &killed);
	return code < 0 ? code : killed.error;
}
