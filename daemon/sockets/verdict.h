/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a census means: which connections are offences, which are closed to save the service.
 *
 * A pure function of the connections as they were found, the limits and the descriptor budget; no
 * kernel, no clock. The census (census.h) finds the class of each connection and how long it has
 * been in it.
 *
 * Limits shrink with the budget: as configured up to half of the descriptors in use, a tenth (never
 * below VERDICT_LEAST_MS) from `descriptors` on, linear between. Once `descriptors` was reached the
 * short limits hold until fewer than half were in use for VERDICT_CALM_MS: what an attack leaves
 * behind when its first addresses are banned would else live on for the long limit.
 *
 * Offences, each connection once a kind:
 *	silent       nothing received for the limit. A browser opens a connection or two beside each
 *	             page and sends nothing on them, and offices share an address: so many
 *	             of a prefix as its allowance are none. The allowance is `maxsilent` and one
 *more for each connection of the prefix that was answered (those at work, those with traffic, and
 *those in TIME_WAIT, the kernel's memory of the last minute), at most VERDICT_CREDIT times
 *maxsilent of these: who loads pages may have as many spare connections, who only opens connections
 *may not. unanswered   the server waits for the rest of a request for the limit stalled      the
 *client has read (almost) nothing of its answer for the limit maxconns     connections of one
 *prefix above `maxconns` While only a shrunk limit is exceeded and not the configured one,
 *unanswered and stalled count for prefixes that hold more than `maxsilent` only: few slow clients
 *are not why a budget runs out.
 *
 * Cuts: a process whose descriptors (with the connections that wait to be accepted) reach
 * `descriptors` per cent of its limit must come 5 points below. A prefix is heavy when it holds
 *more than `maxsilent` connections that wait for the client (silent ones that it has earned as
 *above left out; unfinished, stalled, unknown), or more than `maxsilent` that rest (idle, busy).
 *Closed are, in this order:
 *	1. of heavy prefixes, what waits for the client
 *	2. silent ones that were not earned, when they are no fewer than those of 3
 *	3. of heavy prefixes, what rests; then the silent ones of 2 that were too few
 *	4. anything else; after it the last unknown ones of each, a third of `maxsilent`
 *
 * While a prefix is heavy and fewer than VERDICT_LAST_PERMILLE are in use, nobody loses his last
 * `maxsilent`: few are not why the budget runs out; and while there is something to come of 1
 * nothing else is closed. In each step the prefix that holds most comes first, down to what the
 * next one holds, and so on; within a prefix in the order of the classes, the oldest first. Never
 * those that the server works on. Heavy prefixes, and of what waits also those with more than a
 * third of `maxsilent`, lose connections that were quiet for VERDICT_CUT_HEAVY_MS, others those
 * that are older than VERDICT_CUT_SILENT_MS (silent) or VERDICT_CUT_MS, and none with traffic both
 * ways.
 *
 * A service may be starved with descriptors to spare: its workers, threads or its own limit of
 * connections are taken, and connections wait VERDICT_STARVED_MS for accept(). Then the short
 * limits hold as well, and what waits for the client in heavy prefixes is closed as soon as it is
 * over its limit (unknown ones: over that of unfinished ones).
 *
 * A cut of 1 or 3 is an offence, unless the connection is an unknown one.
 */
#ifndef TAILBAN_SOCKETS_VERDICT_H
#define TAILBAN_SOCKETS_VERDICT_H

#include "daemon/base/addr.h"
#include "daemon/base/hash.h"

#define VERDICT_LEAST_MS 2000u
#define VERDICT_CUT_SILENT_MS 500u
#define VERDICT_CUT_MS 1000u
#define VERDICT_CUT_HEAVY_MS 250u
#define VERDICT_CALM_MS 10000u
#define VERDICT_STARVED_MS 2000u
#define VERDICT_CREDIT 6u
#define VERDICT_LAST_PERMILLE 900u
#define VERDICT_CUTS_MAX 4096u
#define VERDICT_OFFENCES_MAX 4096u /* a census; what is more comes with the next */
#define VERDICT_NO_TASK UINT16_MAX
#define VERDICT_TASKS_MAX 64u
#define VERDICT_NEVER_MS UINT32_MAX

/* In the order in which connections of one prefix are closed. */
#define VERDICT_CLASSES(X)                                                                         \
	X(HELD_SILENT, "silent")         /* nothing received yet */                                \
	X(HELD_UNFINISHED, "unfinished") /* the server waits for the rest of a request */          \
	X(HELD_STALLED, "stalled")       /* the answer is not read */                              \
	X(HELD_IDLE, "idle")             /* answered, nothing in flight */                         \
	X(HELD_UNKNOWN, "unknown")       /* at work or unfinished, nothing tells which */          \
	X(HELD_BUSY, "busy")             /* answered, traffic both ways just now */                \
	X(HELD_WORKS, "at work")         /* the server's turn */                                   \
	X(HELD_CLOSING, "closing")       /* on its way out; holds no descriptor */                 \
	X(HELD_HALF_OPEN, "half-open")   /* SYN_RECV */                                            \
	X(HELD_DONE, "done")             /* TIME_WAIT */

#define VERDICT_FIRST(name, text) name,
enum held_class { VERDICT_CLASSES(VERDICT_FIRST) HELD_CLASSES };

/* The kinds of offence, and the sentence about one; %s is how long. */
#define VERDICT_KINDS(X)                                                                           \
	X(OFFENCE_SILENT, "silent", "nothing received for %s")                                     \
	X(OFFENCE_UNANSWERED, "unanswered", "request not finished for %s")                         \
	X(OFFENCE_STALLED, "stalled", "answer not read for %s")                                    \
	X(OFFENCE_MAXCONNS, "maxconns", "one connection too many")                                 \
	X(OFFENCE_CUT, "cut", "closed to free a descriptor after %s")

#define VERDICT_KIND(name, word, text) name,
enum offence_kind { VERDICT_KINDS(VERDICT_KIND) OFFENCE_KINDS };
#undef VERDICT_KIND

const char *held_class_name(enum held_class class);
const char *offence_kind_name(enum offence_kind kind); /* "silent" */

struct held {
	struct addr prefix; /* of the peer, as the jail counts */
	uint32_t age_ms;    /* in its class */
	uint16_t task;      /* whose descriptor it is; VERDICT_NO_TASK: not accepted yet */
	uint8_t class;      /* enum held_class */
	uint8_t told;       /* bits of enum offence_kind: reported before */
	bool answered;      /* the server has sent more than an interim answer */
	uint32_t group;     /* verdict's own */
};

struct verdict_rule {
	uint32_t silent_ms, unanswered_ms, stalled_ms, idle_ms;
	uint32_t maxsilent;
	uint32_t maxconns;    /* 0 = off */
	uint32_t descriptors; /* per cent; 0 = no budget is enforced */
};

struct verdict_task {
	uint64_t limit; /* soft RLIMIT_NOFILE */
	uint32_t fds;   /* in use, with its share of the accept queue */
};

/* Kept by the caller from census to census; zero-initialised is calm. */
struct verdict_alarm {
	bool on;
	int64_t calm_since_ms; /* 0: not calm */
};

struct verdict_offence {
	uint32_t index; /* of the connection */
	uint8_t kind;
};

struct verdict_cut {
	uint32_t index;
	bool offence;
	bool spare; /* not needed, unless one before it must not be closed */
};

struct verdict_group;
struct verdict_candidate;

struct verdict {
	/* in */
	struct hash_seed seed;
	/* out */
	struct verdict_offence *offences;
	struct verdict_cut *cuts;
	uint32_t noffences, ncuts;
	uint32_t prefixes;                                      /* that hold connections */
	uint32_t classes[HELD_CLASSES];                         /* connections by class */
	uint32_t fill_permille;                                 /* of the fullest process */
	uint32_t silent_ms, unanswered_ms, stalled_ms, idle_ms; /* the limits that hold now */
	uint32_t due_ms; /* when the next connection is over its limit; VERDICT_NEVER_MS: none */
	bool alarm, starved;
	/* its own memory */
	struct verdict_group *groups;
	struct verdict_candidate *candidates;
	uint32_t *slots, nslots, ngroups;
};

/* A limit at this fill. */
uint32_t verdict_limit(uint32_t limit_ms, uint32_t fill_permille, uint32_t descriptors);

/* Fill of the fullest process; the alarm goes on or off; and the limits, all into *v. The class of
 * connections may depend on the limits, so this comes before verdict_judge. */
void verdict_limits(struct verdict *v, const struct verdict_rule *rule,
		    const struct verdict_task *tasks, size_t ntasks, bool starved,
		    struct verdict_alarm *alarm, int64_t now_ms);

/* Judges. Marks nothing as told: that is the caller's. 0 or -ENOMEM. */
int verdict_judge(struct verdict *v, const struct verdict_rule *rule,
		  const struct verdict_task *tasks, size_t ntasks, struct held *held, uint32_t n);

/* How many descriptors have to be given back, all processes together; deep: what heavy prefixes
 * have to give while the short limits hold. */
uint32_t verdict_need(const struct verdict_rule *rule, const struct verdict_task *tasks,
		      size_t ntasks, bool deep);

/* Connections that the prefix of this one held in the last judgement. */
uint32_t verdict_holds(const struct verdict *v, const struct held *h);

void verdict_fini(struct verdict *v);

#endif
