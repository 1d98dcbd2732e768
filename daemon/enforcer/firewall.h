/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's part of a ban: table `inet tailban`, its sets, rules, and their repair.
 *
 *	table inet tailban {
 *		set keep4 { type ipv4_addr; flags interval; }            # never dropped
 *		set ban4 { type ipv4_addr; size N; flags timeout; counter; }
 *		chain prerouting { type filter hook prerouting priority -300; policy accept;
 *			ip saddr @ban4 ip saddr != @keep4 drop
 *			ip saddr & 255.255.255.0 @ban4_24 ip saddr != @keep4 drop
 *			ip saddr . meta l4proto . th dport @banp4 ip saddr != @keep4 drop
 *			ip saddr @force4 drop
 *
 * One hash set per family, prefix length, scope (banp: address . protocol . port) and force (force,
 * forcep: without the ignore list): an add costs 2 us at any size, an interval set 83 ms at 1 M. A
 * set and its rule are made with the first ban that needs them. Honest packets pay one look-up per
 * set. Priority -300 lies before conntrack and NAT, so forwarded traffic is covered and no
 * "established accept" hides the drop.
 *
 * Bans are queued and go out in firewall_commit, at most FIREWALL_CHUNK in one transaction. What is
 * in force is kept in the struct inforce that the caller owns: firewall_ban and firewall_unban
 * change both. A ban that the kernel did not take stays there as INFORCE_WAITING, is told by the
 * `result` hook, counted, and sent again with back-off (0.1 s ... 30 s); nothing is lost silently:
 *	-ENFILE   the set is full; the others of the transaction are not affected
 *	-ENOENT   somebody flushed the table: it is rebuilt with everything in force
 *	-ENOBUFS  the answer was lost: sent again, which changes nothing when it had arrived
 *
 * Foreign changes are seen on a second socket. A damaged structure or an emptied set is repaired at
 * once, then at most once a second, after 10 in a minute each 10 s; the culprit is named once. A
 * single element that was deleted or added with nft by hand is the administrator's wish: told by a
 * hook and taken over. Repairs and counter queries of many bans go in slices, so new bans pass.
 *
 * Who talked to which port, and bells for new connections: firewall_record.h, in the same table.
 *
 * The table stays when the firewall is closed. Needs CAP_NET_ADMIN. The only user of libnftnl.
 */
#ifndef TAILBAN_ENFORCER_FIREWALL_H
#define TAILBAN_ENFORCER_FIREWALL_H

#include <ev.h>

#include "daemon/base/clock.h"
#include "daemon/base/error.h"
#include "daemon/base/netlist.h"
#include "daemon/enforcer/firewall_record.h"
#include "daemon/enforcer/inforce.h"

#define FIREWALL_CHUNK 1000 /* bans in one transaction */

enum firewall_element { FIREWALL_ADOPTED, FIREWALL_ADDED, FIREWALL_DELETED };

/* Called from inside firewall functions: they must not call back into the firewall. */
struct firewall_hooks {
	void *ctx;
	/* A ban went in (0) or is waiting (negative errno). May be NULL. */
	void (*result)(void *ctx, const struct inforce_ban *ban, int error);
	/* An element was found at start (of a very large set also later), added or deleted by hand.
	 * The ban is in (DELETED: was in and is no longer in) force. May be NULL. */
	void (*element)(void *ctx, enum firewall_element what, const struct inforce_ban *ban,
			const struct portset *ports);
	/* Everything in force is back after a foreign change by `name` (pid 0: unknown). May be
	 * NULL. */
	void (*repaired)(void *ctx, uint32_t bans, uint32_t pid, const char *name);
	/* The first SYN to this port (FIREWALL_ANY_PORT: to whatever) since its bell was armed;
	 * FIREWALL_ALL_BELLS: rings may have been lost (start, repair, lost notifications) and all
	 * were armed again. Look at the sockets. May be NULL. */
	void (*bell)(void *ctx, int port);
};

struct firewall_options {
	struct ev_loop *loop;    /* NULL: the caller calls firewall_work itself */
	struct inforce *inforce; /* the caller's; lives longer than the firewall */
	uint32_t maxbans;        /* size of each set */
	uint8_t source_kernel;   /* `source` of bans that were found in the kernel */
	bool old_kernel;         /* tests: behave as if re-adding kept the old timeout */
	uint32_t record_size;    /* of each set of the record; 0: FIREWALL_RECORD_SIZE */
	uint8_t record_broken;   /* tests: enum record_feature bits that the kernel shall refuse */
	struct firewall_hooks hooks;
};

#define FIREWALL_COUNTERS(X)                                                                       \
	X(transactions, "transactions sent")                                                       \
	X(bans, "bans that reached the kernel")                                                    \
	X(unbans, "bans taken out of the kernel")                                                  \
	X(full, "bans that met a full set")                                                        \
	X(failed, "bans that failed otherwise")                                                    \
	X(retries, "waiting bans sent again")                                                      \
	X(lost_answers, "transactions whose answer was lost")                                      \
	X(foreign, "foreign changes of the table")                                                 \
	X(by_hand, "elements added or deleted by hand")                                            \
	X(repairs, "repairs of the table")                                                         \
	X(checks, "full checks after lost notifications")

struct firewall_counters {
#define X(name, help) uint64_t name;
	FIREWALL_COUNTERS(X)
#undef X
};

/* Probes the kernel, opens the sockets and starts to watch; changes nothing yet. The error names
 * what is missing: CAP_NET_ADMIN, or nf_tables in the kernel. */
int firewall_open(const struct firewall_options *options, struct now now, struct firewall **ret_fw,
		  struct error *err);
/* Leaves table and bans in the kernel. */
void firewall_close(struct firewall *fw);

/* Takes over a table that is there (bans with their remaining times, told by the `element` hook),
 * puts the structure right or creates it. Call once, after firewall_open. Of a very large set the
 * first 45,000 bans are read at once and the others by firewall_work. Number of bans so far or
 * negative errno. */
int firewall_adopt(struct firewall *fw, struct now now, struct error *err);

/* Replaces the ignore sets in one transaction; `list` is sealed. Also remembered for repairs. */
int firewall_keep(struct firewall *fw, const struct netlist *list, struct error *err);

/* Queues a ban; ports for INFORCE_SCOPE_PORT, else NULL. An end in the past is an unban. 0 or the
 * error of inforce_put. May commit when FIREWALL_CHUNK are queued. */
int firewall_ban(struct firewall *fw, const struct inforce_ban *ban, const struct portset *ports,
		 struct now now);
/* Queues the end of the bans of this address, length and class (INFORCE_CLASS bits of flags); ports
 * NULL: whatever their ports. 1 when there was one, 0 when not (the element is deleted all the same
 * for scope = all). */
int firewall_unban(struct firewall *fw, const struct addr *addr, uint8_t flags,
		   const struct portset *ports, struct now now);
/* Sends what is queued. 0, or the last error when some bans are waiting. */
int firewall_commit(struct firewall *fw, struct now now);

/* Reads notifications, continues repairs, sends waiting bans again. Milliseconds until it wants to
 * be called again, or -1 for "when firewall_fd is readable". With a loop this runs by itself. */
int firewall_work(struct firewall *fw, struct now now);
int firewall_fd(const struct firewall *fw);

/* Dropped packets and bytes of one ban (sum over its ports) by a query of its elements. 0, -ENOENT.
 */
struct firewall_drops {
	uint64_t packets, bytes;
	int64_t expires_ms; /* CLOCK_FOREVER: never */
};
int firewall_drops(struct firewall *fw, const struct inforce_ban *ban,
		   struct firewall_drops *ret_drops);
/* Asks for the counters of up to max_bans bans from *cursor on (start with UINT32_MAX). 1: more to
 * come, 0: done, negative errno. About 1.5 us a ban, so 1,000 a call do not stall a loop. */
typedef void firewall_drops_callback(void *ctx, const struct inforce_ban *ban,
				     const struct firewall_drops *drops);
int firewall_each_drops(struct firewall *fw, uint32_t *cursor, uint32_t max_bans, struct now now,
			firewall_drops_callback *callback, void *ctx);

/* Deletes the table (--flush-on-stop). */
int firewall_remove(struct firewall *fw, struct error *err);

/* 0 when the kernel holds everything that is in force, else why not, with a sentence (never NULL).
 */
int firewall_state(struct firewall *fw, const char **ret_text);
const struct firewall_counters *firewall_counters(const struct firewall *fw);

/* When the next repair may run; pure, so that its pace is tested without waiting. */
struct repair_pace {
	int64_t last_ns[10]; /* ring of the last repairs, 0 = none */
	unsigned next;
};
int64_t repair_pace_due_ns(const struct repair_pace *pace, int64_t mono_ns);
void repair_pace_took(struct repair_pace *pace, int64_t mono_ns);

#endif
