/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's record of who talked to a port, and the bells that ring for new connections.
 *
 * A log line can name anybody, a spoofed packet can come from anybody. The record holds who sent
 * what TCP accepted: an address enters it with the first segment that the server sends on an
 * established connection (its acknowledgement of the first data goes out before the server can read
 * them, let alone log them), and each connection is counted once. In the table of the bans:
 *
 *	set seen4 { type ipv4_addr . inet_service; timeout 1h; }    # peer, service; a counter each
 *	set conn4 { type ipv4_addr . inet_service . inet_service; timeout 10m; }  # is counted
 *	set wild { type inet_service; }    # ports whose listeners are on 0.0.0.0 or :: only
 *	chain output { type filter hook output priority 0; tcp sport @wild goto wild; }
 *	chain wild {
 *		tcp flags & (fin | syn | rst) != 0 goto ending
 *		ip daddr . tcp dport . tcp sport != @conn4 socket wildcard 0 goto new4
 *	chain new4 {
 *		add @conn4 {...} update @seen4 { ip daddr . tcp sport counter } return
 *		counter name missed4 ip daddr . tcp sport != @seen4 update @seen4 {...}
 *
 * and the same for IPv6, by /64. "socket wildcard 0" holds for established sockets; not for
 * listeners on 0.0.0.0 or ::, half-open or TIME_WAIT ones. A listener on one address could answer a
 * spoofed acknowledgement itself; its ports stand in the set `single`, and what counts there is a
 * segment with data that the server sends, or one that comes in for an established socket (by early
 * demux, so not over loopback and not with net.ipv4.tcp_early_demux = 0).
 *
 * What is not seen: a connection on which the server has not sent a segment yet (silent, or reset
 * before any data); with `single` also one whose data came on the third segment of the handshake,
 * until the next segment of either side. sock_diag sees these while their socket lives.
 *
 * The count. A SYN-ACK forgets its connection, so a peer that uses its port again is counted again;
 * a spoofed SYN cannot do that to a connection that lives. A closed connection is forgotten after 2
 * minutes, any other one after 10: if it then goes on it is counted once more. When a set is full
 * the count is too low (state.full4, full6); the address itself is still recorded while `seen` has
 * room.
 *
 * Cost: bench_record. Nobody is told of a new entry, and expiry needs no work.
 *
 * A bell is a quota of one byte: the first SYN to the port depletes it, the kernel tells once and
 * is silent until the bell is armed again, whatever the flood. The bells' rules are the last ones
 *of the chain that drops, so the banned do not ring. When one has rung: wait a second, arm it, then
 * look at the sockets (in this order: a SYN in between rings again).
 *
 * A service behind this host (a container) is reached by ports that only DNAT knows, later. For it
 * there is the bell of any port: it rings for every SYN that comes in over any interface but
 * loopback, forwarded, translated or for this host itself. It is a rule of its own that is there
 * only while it is wanted. What never passes this host's prerouting does not ring: neighbours of
 * the container on one bridge or macvlan, and packets that eBPF takes past netfilter.
 */
#ifndef TAILBAN_ENFORCER_FIREWALL_RECORD_H
#define TAILBAN_ENFORCER_FIREWALL_RECORD_H

#include "daemon/base/addr.h"
#include "daemon/base/clock.h"
#include "daemon/base/error.h"

#define FIREWALL_PORTS_MAX 64
#define FIREWALL_SEEN_MAX 512
#define FIREWALL_RECORD_SIZE 131072u        /* entries of a set; 145 bytes of the kernel's each */
#define FIREWALL_RECORD_MS INT64_C(3600000) /* that an address stays after its last connection */

struct firewall;
struct record;

enum {
	FIREWALL_BELL = 1,
	FIREWALL_RECORD = 2,
	FIREWALL_SINGLE = 4, /* a listener of the port is bound to one address */
};

#define FIREWALL_ANY_PORT 0     /* the number of that bell; FIREWALL_BELL alone goes with it */
#define FIREWALL_ALL_BELLS (-1) /* in place of a number */

struct firewall_port {
	uint16_t number; /* of TCP: the listener's, for a bell the one before DNAT */
	uint8_t flags;
};

/* What an error of one look-up means: -ENOENT the port is not recorded, -EOPNOTSUPP a network that
 * is larger than the entries (IPv4 /32, IPv6 /64), -EAGAIN the table waits for its repair. */
struct firewall_sighting {
	struct addr addr; /* in: an IPv6 address longer than /64 stands for its /64 */
	uint16_t port;    /* in */
	bool seen;
	int error;             /* 0: `seen` is an answer */
	uint64_t connections;  /* while its entry lived: until an hour passed without a new one */
	int64_t age_ms;        /* since the last of them was counted */
	int64_t since_mono_ns; /* the port has been recorded without a gap since then; 0: since
				* before this start; CLOCK_FOREVER: it is not */
};

struct firewall_record_state {
	bool on;               /* some port is recorded now */
	bool bell;             /* some port has its bell now */
	bool weak;             /* the kernel lacks something: see the text */
	bool full4, full6;     /* connections of the last hour were not counted, for want of room */
	int64_t since_mono_ns; /* of the port that was added last */
	uint32_t size;         /* room for that many addresses, and connections, of each family */
	int64_t addresses;     /* in the record; -1: this kernel (before about 6.16) does not say */
	const char *text;      /* a sentence, valid until the next call */
};

/*
 * Replaces what is rung for and recorded, in one transaction; the same list sends nothing. `ports`
 * in any order; a port that stands there twice has the flags of both. The list is remembered for
 * repairs. The first call takes over what an earlier daemon left, with its record; a table without
 * one is completed, its bans stay. (Before the first call nothing of it is touched, so call it
 * with no ports, too.) Ports that stay keep their record, and with no port left everything goes.
 * Whenever bells may have been missed or are new, `bell` is called with FIREWALL_ALL_BELLS.
 *
 * 0 also when the table is damaged and its repair, which will bring this list, is not due yet.
 * -E2BIG, -EINVAL, or the kernel's error, with a sentence; the old list is then in force.
 */
int firewall_watch_ports(struct firewall *fw, const struct firewall_port *ports, size_t n,
			 struct now now, struct error *err);
/* Arms the bell of this port, of FIREWALL_ANY_PORT, or FIREWALL_ALL_BELLS. 0, -ENOENT (no such
 * bell), or the kernel's error. */
int firewall_bell_arm(struct firewall *fw, int port);
/* Looks up to FIREWALL_SEEN_MAX addresses up, about 2 us each. 0, or negative errno when nothing
 * was answered; then each entry has an error, too. */
int firewall_seen(struct firewall *fw, struct firewall_sighting *list, size_t n, struct now now);
void firewall_record(struct firewall *fw, struct now now, struct firewall_record_state *ret_state);

/*
 * The record in another network namespace: table `inet tailban_record` there, without bans and
 * bells (FIREWALL_BELL is ignored; the host's bells ring for forwarded packets, too). The table's
 * name is another one, because a container may run a tailban of its own.
 *
 * nfnetlink_fd: a NETLINK_NETFILTER socket that was opened there; the record owns it from now on,
 * also when this fails. Changes there are noticed, and repaired, when the record is asked, in a
 * tenth of the time at most; who fills the tables there with thousands of rules gets no record
 * (-E2BIG).
 */
int record_open_at(int nfnetlink_fd, const struct firewall_port *ports, size_t n, struct now now,
		   struct record **ret_record, struct error *err);
int record_watch_ports(struct record *r, const struct firewall_port *ports, size_t n,
		       struct now now, struct error *err);
int record_seen(struct record *r, struct firewall_sighting *list, size_t n, struct now now);
void record_state(struct record *r, struct now now, struct firewall_record_state *ret_state);
/* Deletes the table. */
int record_remove(struct record *r);
/* Leaves the table, so that the record goes on. NULL is fine. */
void record_close(struct record *r);

#endif
