/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP sockets of a network namespace as the kernel lists them (sock_diag(7)), and their
 * destruction.
 *
 * A dump costs about 0.3 ms for the walk of the hash table and 1 us a socket, so it can be read in
 * slices from an event loop. A struct sockdiag runs one dump at a time; destroying on the same
 * socket in the middle of a dump would mix the answers, so take two. AF_INET and AF_INET6 are
 * separate dumps; the sockets of a dual-stack listener are AF_INET6 with mapped addresses: they are
 * folded to IPv4 in `local` and `peer`, and kept as the kernel has them in `id`.
 *
 * Destroying always carries the cookie of the dump. Without it (INET_DIAG_NOCOOKIE) the kernel
 * falls back to the LISTENING socket of the port when the connection is gone, and closes the
 * server. Therefore sockets in state LISTEN and sockets without a cookie are refused here and
 * counted.
 *
 * Errors: negative errno. -EINTR at the end of a dump: sockets may be missing, repeat it. Dumps
 * need no right; destroying needs CAP_NET_ADMIN in the user namespace that owns the network
 * namespace.
 */
#ifndef TAILBAN_BASE_SOCKDIAG_H
#define TAILBAN_BASE_SOCKDIAG_H

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <netinet/tcp.h>

#include "daemon/base/addr.h"
#include "daemon/base/netlink.h"

/* State masks from the TCP_* numbers of <netinet/tcp.h>. */
#define SOCK_STATE(state) (UINT32_C(1) << (state))
#define SOCK_LISTENING SOCK_STATE(TCP_LISTEN)
/* Every state in which a socket holds something that the server pays for. */
#define SOCK_CONNECTED                                                                             \
	(SOCK_STATE(TCP_ESTABLISHED) | SOCK_STATE(TCP_SYN_SENT) | SOCK_STATE(TCP_SYN_RECV) |       \
	 SOCK_STATE(TCP_FIN_WAIT1) | SOCK_STATE(TCP_FIN_WAIT2) | SOCK_STATE(TCP_CLOSE_WAIT) |      \
	 SOCK_STATE(TCP_LAST_ACK) | SOCK_STATE(TCP_CLOSING))

#define SOCKDIAG_BATCH 100 /* destroys in one send: 3.8 us each, the gain ends there */

struct sock_info {
	struct addr local,
		peer; /* hosts, mapped addresses folded; `peer` is unspecified for listeners */
	uint16_t lport, pport; /* host order */
	uint8_t state;         /* TCP_ESTABLISHED ... */
	uint8_t diag_family;   /* AF_INET or AF_INET6 as dumped */
	bool v6only;           /* listeners: takes no IPv4 */
	bool has_tcp_info;     /* the fields of tcp_info below are filled */
	uint32_t inode;        /* 0: not accepted yet, or orphaned */
	uint32_t uid, rqueue, wqueue, ifindex;
	uint64_t cookie; /* never 0; unique while the machine runs */
	struct inet_diag_sockid id;
	/* tcp_info, with want_tcp_info: */
	uint64_t bytes_received, bytes_acked; /* a received FIN counts as one byte */
	uint32_t last_data_recv_ms, last_data_sent_ms, last_ack_recv_ms, segs_in;
};

typedef void sock_callback(void *ctx, const struct sock_info *sock);

struct sockdiag {
	struct netlink nl;
	struct netlink_batch batch;
	bool want_tcp_info; /* ask for tcp_info in the next dumps (280 bytes more a socket) */
	uint32_t dump_states;
};

int sockdiag_open(struct sockdiag *sd, struct error *err);
/* With a NETLINK_SOCK_DIAG socket opened in another network namespace; the descriptor is taken
 * over. */
int sockdiag_from_fd(struct sockdiag *sd, int fd, struct error *err);
void sockdiag_close(struct sockdiag *sd);
int sockdiag_fd(const struct sockdiag *sd);

/* family: AF_INET or AF_INET6; states: SOCK_STATE mask; sport: local port, 0 = all. */
int sockdiag_dump_start(struct sockdiag *sd, int family, uint32_t states, uint16_t sport);
/*
 * The same, and the kernel itself leaves out sockets of other peers than these networks, which
 * saves most of the dump when few of many match (1,000 sockets: 0.38 ms instead of 0.64; 50,000: 19
 * ms instead of 69). An IPv4 network finds mapped addresses in an AF_INET6 dump. Up to
 * SOCKDIAG_PEERS_MAX; with none or more nothing is left out.
 */
#define SOCKDIAG_PEERS_MAX 32
int sockdiag_dump_start_of(struct sockdiag *sd, int family, uint32_t states, uint16_t sport,
			   const struct addr *peers, size_t npeers);
/* 1: more to come (wait for the descriptor or call again), 0: complete, -EINTR: complete but cut,
 * -EAGAIN: nothing there yet, other: failed and over. */
int sockdiag_dump_read(struct sockdiag *sd, sock_callback *callback, void *ctx, size_t max_bytes);

/* Start to end in one call; AF_UNSPEC means both families. A cut dump is repeated up to three
 * times, so the callback can see a socket again. 0 or negative errno. */
int sockdiag_each(struct sockdiag *sd, int family, uint32_t states, uint16_t sport,
		  sock_callback *callback, void *ctx);

struct sock_kill {
	struct inet_diag_sockid id;
	uint8_t diag_family, state;
	int error; /* out: 0 destroyed, -ENOENT gone already, -EINVAL refused here, other: failed */
};

struct sockdiag_killed {
	uint32_t destroyed, gone, refused, failed;
	int error; /* the last one of `failed` */
};

static inline struct sock_kill sock_kill_of(const struct sock_info *sock)
{
	return (struct sock_kill){sock->id, sock->diag_family, sock->state, 0};
}

/* Destroys up to SOCKDIAG_BATCH sockets in one send and adds to *killed. 0, or -errno when the
 * outcome of the whole batch is unknown. */
int sockdiag_destroy_batch(struct sockdiag *sd, struct sock_kill *socks, size_t count,
			   struct sockdiag_killed *killed);

/* 0 when the kernel can destroy sockets, -EOPNOTSUPP when it lacks INET_DIAG_DESTROY. */
int sockdiag_can_destroy(struct sockdiag *sd);

#endif
