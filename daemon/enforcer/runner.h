/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command actions: runs the administrator's commands, with a ban's values in the environment.
 *
 * A command is configuration text for `/bin/sh -c`. Values (an address, a log line that an attacker
 * wrote) never become part of it: they are environment variables, at most RUNNER_VALUE_BYTES each,
 * NULs removed. A command must quote them ("$TAILBAN_MATCHES") as any shell text must.
 *
 * Environment: PATH, HOME=/, LANG=C, TAILBAN_EVENT and those TAILBAN_* values that were given.
 * Standard input is /dev/null; standard output and error together go to the log, escaped, the first
 * RUNNER_OUTPUT_BYTES of them. Everything else is as for a fresh process: own session, directory
 * "/", umask 022, no other descriptor, default signals. What a command leaves running in the
 * background when it ends is left alone, but can no longer write.
 *
 * After the time-out the whole process group gets SIGTERM, RUNNER_GRACE_S later (or when the shell
 * has ended) SIGKILL. At most RUNNER_PARALLEL jobs run at once and one of each action name, in the
 * order in which they came; RUNNER_QUEUE_MAX wait, and one action may fill only half of that where
 * there are several, so a stuck one leaves room for the others. What does not fit is dropped and
 * counted.
 *
 * Uses the default loop (child watchers need it) and never blocks. Signals: SIGCHLD belongs to
 * libev. All strings of the actions are the caller's and must outlive the runner; values are
 * copied.
 */
#ifndef TAILBAN_ENFORCER_RUNNER_H
#define TAILBAN_ENFORCER_RUNNER_H

#include "daemon/base/slice.h"

#include <ev.h>

#define RUNNER_VALUE_BYTES 4096u
#define RUNNER_OUTPUT_BYTES 4096u
#define RUNNER_QUEUE_MAX 256u
#define RUNNER_PARALLEL 4u
#define RUNNER_GRACE_S 2.0
#define RUNNER_TIMEOUT_DEFAULT_MS 60000u /* where an action says 0 */

/* X(enumerator, value of TAILBAN_EVENT) */
#define RUNNER_EVENT_TABLE(X)                                                                      \
	X(RUNNER_BAN, "ban")                                                                       \
	X(RUNNER_UNBAN, "unban")                                                                   \
	X(RUNNER_START, "start")                                                                   \
	X(RUNNER_STOP, "stop")                                                                     \
	X(RUNNER_CHECK, "check")                                                                   \
	X(RUNNER_EXHAUSTION, "exhaustion")

/* X(enumerator, variable, meaning). Numbers are decimal, times in seconds. */
#define RUNNER_KEY_TABLE(X)                                                                        \
	X(RUNNER_ADDR, "TAILBAN_ADDR")     /* address or network, "192.0.2.1", "2001:db8::/64" */  \
	X(RUNNER_PREFIX, "TAILBAN_PREFIX") /* its length in bits */                                \
	X(RUNNER_FAMILY, "TAILBAN_FAMILY") /* "inet4" or "inet6" */                                \
	X(RUNNER_JAIL, "TAILBAN_JAIL")                                                             \
	X(RUNNER_FILTER, "TAILBAN_FILTER")                                                         \
	X(RUNNER_TIME, "TAILBAN_TIME")         /* of the ban, since 1970 */                        \
	X(RUNNER_BANTIME, "TAILBAN_BANTIME")   /* -1 = for ever */                                 \
	X(RUNNER_UNTIL, "TAILBAN_UNTIL")       /* since 1970, -1 = for ever */                     \
	X(RUNNER_FAILURES, "TAILBAN_FAILURES") /* offences that led to it */                       \
	X(RUNNER_COUNT, "TAILBAN_COUNT")       /* bans of this address, this one included */       \
	X(RUNNER_BANCOUNT, "TAILBAN_BANCOUNT") /* the same, by fail2ban's word */                  \
	X(RUNNER_REASON, "TAILBAN_REASON")                                                         \
	X(RUNNER_MATCHES, "TAILBAN_MATCHES")   /* log lines, an attacker's text */                 \
	X(RUNNER_RESTORED, "TAILBAN_RESTORED") /* 1: found at start, else 0 */

#define RUNNER_FIRST_COLUMN(name, text) name,
enum runner_event { RUNNER_EVENT_TABLE(RUNNER_FIRST_COLUMN) RUNNER_EVENTS };
enum runner_key { RUNNER_KEY_TABLE(RUNNER_FIRST_COLUMN) RUNNER_KEYS };
#undef RUNNER_FIRST_COLUMN

struct runner_action {
	const char *name;                    /* jobs of the same name run one after the other */
	const char *commands[RUNNER_EVENTS]; /* NULL: nothing to do */
	uint32_t timeout_ms;                 /* 0: RUNNER_TIMEOUT_DEFAULT_MS */
};

struct runner_value {
	enum runner_key key;
	struct slice text;
};

/* How a job ended. */
struct runner_done {
	unsigned action;
	enum runner_event event;
	int status; /* exit status, 256 + signal, or negative errno when it could not be started */
	bool timed_out;
};

struct runner_stats {
	uint64_t started;
	uint64_t failed; /* status not 0; timed out ones included */
	uint64_t timed_out, dropped;
	unsigned running, waiting;
};

typedef void runner_done_callback(void *ctx, const struct runner_done *done);

struct runner;

/* loop: ev_default_loop(). `done` (may be NULL) may call runner_submit, not runner_free. NULL when
 * memory is out. */
struct runner *runner_new(struct ev_loop *loop, const struct runner_action *actions,
			  size_t nactions, runner_done_callback *done, void *ctx);

/*
 * Starts or queues a job. 1: taken (`done` will be called once, not from within this call), 0: the
 * action has no command for this event, -EINVAL: no such action, event or key, or a key twice,
 * -E2BIG: a value is too long, -ENOBUFS: the queue is full, -ENOMEM; the last two count as dropped.
 */
int runner_submit(struct runner *r, unsigned action, enum runner_event event,
		  const struct runner_value *values, size_t nvalues);

struct runner_stats runner_stats(const struct runner *r);

/* Kills what runs, forgets what waits, calls nobody. NULL is fine. Let the loop run until `running`
 * and `waiting` are 0 where stop commands have to end first. */
void runner_free(struct runner *r);

/*
 * Values as bytes, for a message between processes: { uint16_t key, uint16_t length, bytes } each,
 * in the machine's order. pack returns the length or -ENOBUFS; unpack takes the exact length of
 * `count` values and returns 0, -EINVAL or -E2BIG by the rules of runner_submit. The slices point
 * into `bytes`.
 */
ssize_t runner_values_pack(const struct runner_value *values, size_t count, char *buf, size_t size);
int runner_values_unpack(struct slice bytes, size_t count,
			 struct runner_value ret_values[RUNNER_KEYS]);

const char *runner_event_name(enum runner_event event);
const char *runner_key_name(enum runner_key key); /* "TAILBAN_ADDR" */

#endif
