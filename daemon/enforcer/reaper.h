/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kill: destroys the sockets that banned peers hold on protected ports.
 *
 * A drop rule alone never frees the server: the peer's FIN is dropped too. So every ban is followed
 * by a kill, after it is in the kernel (else the peer reconnects in between): firewall_commit
 * first, then reaper_run. Destroying costs 4 us, finding 0.3 ms and up, so one round serves all
 * bans of a wake-up: one dump per family and port (one unfiltered dump when there are more than
 * REAPER_PORT_DUMPS ports). It is read in slices from the event loop, so that new bans go out in
 * between; bans that come while a round runs are served by the next. The AF_INET6 dump for IPv4
 * bans finds the sockets of dual-stack listeners (mapped addresses); it is left out when no IPv6
 * listener that takes IPv4 exists on these ports.
 *
 * Killed: every state but LISTEN and TIME_WAIT, so half-open (SYN_RECV), unaccepted (inode 0) and
 * orphaned sockets too. TIME_WAIT holds neither descriptor nor thread, is gone after a minute, and
 * its entries are the bulk of a dump on a busy server. Spared: peers for which the `spare` hook
 * says so, because a banned /64 may hold an address of the ignore list. Only the server's side is
 * killed: the local port must be one of the ban's.
 *
 * Errors: a dump that was cut by a change is repeated up to REAPER_RETRIES times; a dump or a kill
 * that fails is counted, logged when it is another failure than the last, and told by reaper_state.
 * A kernel without INET_DIAG_DESTROY
 * (-EOPNOTSUPP) or a missing CAP_NET_ADMIN (-EPERM) makes the kill unavailable, with a sentence.
 *
 * A reaper kills in one network namespace, that of its sockets, and nowhere else.
 */
#ifndef TAILBAN_ENFORCER_REAPER_H
#define TAILBAN_ENFORCER_REAPER_H

#include <ev.h>

#include "daemon/base/clock.h"
#include "daemon/base/error.h"
#include "daemon/base/sockdiag.h"
#include "daemon/enforcer/inforce.h"

#define REAPER_PORT_DUMPS 4
#define REAPER_RETRIES 3
#define REAPER_SLICE_BYTES 32768 /* of a dump: about 400 sockets, 0.5 ms */
#define REAPER_SLICES 4          /* read per wake-up */

struct reaper;

struct reaper_hooks {
	void *ctx;
	/* True when this peer must not be touched. May be NULL. */
	bool (*spare)(void *ctx, const struct addr *peer);
	/* `count` sockets of the banned prefix were destroyed; at the end of a round. May be NULL.
	 */
	void (*killed)(void *ctx, const struct addr *prefix, uint32_t count);
	/* A round has ended (error: 0 or the last failure). May be NULL. */
	void (*done)(void *ctx, int error);
};

#define REAPER_COUNTERS(X)                                                                         \
	X(rounds, "rounds of dump and kill")                                                       \
	X(dumps, "socket dumps")                                                                   \
	X(dumps_cut, "dumps that were cut by changes and repeated")                                \
	X(scanned, "sockets looked at")                                                            \
	X(killed, "sockets destroyed")                                                             \
	X(gone, "sockets that were gone before their turn")                                        \
	X(spared, "sockets of banned networks on the ignore list")                                 \
	X(failed, "dumps and destroys that failed")                                                \
	X(overflowed, "bans without a kill because too many waited")

struct reaper_counters {
#define X(name, help) uint64_t name;
	REAPER_COUNTERS(X)
#undef X
};

/* loop may be NULL: then the caller calls reaper_step while reaper_busy. max_targets bounds the
 * bans that wait for a kill (24 bytes each, grown as needed). */
int reaper_open(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
		struct reaper **ret_reaper, struct error *err);
/* The same for another network namespace, by two NETLINK_SOCK_DIAG sockets that were opened there;
 * they are taken over, also on failure. */
int reaper_open_at(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
		   int dump_fd, int kill_fd, struct reaper **ret_reaper, struct error *err);
void reaper_close(struct reaper *r);

/* Wants the sockets of this network on these TCP ports dead; ports of other protocols are skipped.
 * 0, -EINVAL (no TCP port, no prefix), -ENFILE (too many wait; counted), -ENOMEM. */
int reaper_add(struct reaper *r, const struct addr *prefix, const struct portset *ports);

/* Starts a round for what was added, unless one is running. Reads the first slices at once. */
void reaper_run(struct reaper *r);
bool reaper_busy(const struct reaper *r);
/* The next slices of the running round. */
void reaper_step(struct reaper *r);

/* Destroys these sockets of the reaper's namespace at once, found by somebody else's dump. As
 * sockdiag_destroy_batch. */
int reaper_destroy(struct reaper *r, struct sock_kill *socks, size_t count,
		   struct sockdiag_killed *killed);

/* 0 when kills work, else a negative errno and the sentence (NULL when it works). */
int reaper_state(const struct reaper *r, const char **ret_text);
const struct reaper_counters *reaper_counters(const struct reaper *r);

#endif
