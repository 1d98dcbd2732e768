/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's counters of listening sockets under attack, of one network namespace
 * (/proc/PID/net/netstat, TcpExt). They count since the namespace was made, for all of its
 * listeners together.
 */
#ifndef TAILBAN_SOCKETS_NETSTAT_H
#define TAILBAN_SOCKETS_NETSTAT_H

#include <stdint.h>
#include <sys/types.h>

/* X(field, the kernel's name) */
#define NETSTAT_COUNTERS(X)                                                                        \
	X(overflows, "ListenOverflows")       /* connections that met a full accept queue */       \
	X(drops, "ListenDrops")               /* connections dropped, for any reason */            \
	X(cookies_sent, "SyncookiesSent")     /* handshakes answered from no memory */             \
	X(cookies_received, "SyncookiesRecv") /* and completed */                                  \
	X(cookies_failed, "SyncookiesFailed") /* or not */                                         \
	X(queue_cookies, "TCPReqQFullDoCookies")                                                   \
	X(queue_drops, "TCPReqQFullDrop")

struct netstat {
#define NETSTAT_FIELD(field, name) uint64_t field;
	NETSTAT_COUNTERS(NETSTAT_FIELD)
#undef NETSTAT_FIELD
};

/* Each counter with its name, in the order of the table. */
struct netstat_counter {
	const char *name;
	uint64_t value;
};
#define NETSTAT_NUMBER(field, name) NETSTAT_##field,
enum { NETSTAT_COUNTERS(NETSTAT_NUMBER) NETSTAT_COUNT };
#undef NETSTAT_NUMBER
struct netstat_counter netstat_counter(const struct netstat *n, unsigned index);

/* The namespace of this process. 0 or errno; a counter that the kernel lacks is 0. */
int netstat_read(pid_t pid, struct netstat *ret_netstat);

#endif
