/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The descriptor budget of a service: which processes hold the listeners of its ports, how many
 * descriptors each has open, and how many it may.
 *
 * The owner of a listener is found by the socket's inode, also when a service manager made the
 * socket and holds it as well: "systemd" (pid 1 or a user's) counts only when nobody else holds one
 * of the listeners. Each worker process has a table of its own, so each is a row; a child that
 * merely inherited the listener is one, too. budget_find looks at all of /proc (some 10 ms);
 * budget_read only counts again (30 us a process) and says -ESRCH when one of them has ended or is
 * another one by now: pid and start time name a process. Then find again.
 *
 * The count is st_size of /proc/PID/fd (Linux 6.2 and newer: 2 us, whatever the number). 0 there
 * means an older kernel, then the names are read: 0.4 us a descriptor, and only with
 * CAP_SYS_PTRACE. The limits come from /proc/PID/limits. Count and limits everybody may read.
 *
 * Errors: negative errno of /proc or sock_diag; -ENOENT when nobody listens on any of the ports.
 */
#ifndef TAILBAN_SOCKETS_BUDGET_H
#define TAILBAN_SOCKETS_BUDGET_H

#include "daemon/base/sockdiag.h"
#include "daemon/sockets/proc.h"

#define BUDGET_TASKS_MAX 64u
#define BUDGET_LISTENERS_MAX 64u
#define BUDGET_UNLIMITED UINT64_MAX

struct budget_listener {
	struct addr local;       /* unspecified: all addresses */
	uint32_t inode;          /* 0: the kernel's own, nobody holds it */
	uint32_t queue, backlog; /* connections that wait for accept(), and how many may */
	uint16_t port;
	bool v6only;
};

struct budget_task {
	pid_t pid, ppid;
	uint64_t start_time;        /* see proc.h */
	uint64_t soft, hard;        /* RLIMIT_NOFILE */
	uint32_t fds;               /* open now */
	uint32_t uid;               /* effective */
	char comm[PROC_COMM_BYTES]; /* raw */
};

struct budget {
	struct budget_listener listeners[BUDGET_LISTENERS_MAX];
	struct budget_task tasks[BUDGET_TASKS_MAX]; /* by fill, fullest first */
	uint32_t nlisteners, ntasks;
	bool cut;    /* more listeners or processes than fit */
	bool denied; /* processes that cannot be looked into, and no holder among the others */
};

/* sd: an open sock_diag socket of the service's network namespace, without a dump under way. 0 also
 * when a listener is there and no process that holds it could be found: ntasks is 0 then. */
int budget_find(struct sockdiag *sd, const uint16_t *ports, size_t nports,
		struct budget *ret_budget);

/* Counts descriptors and limits again, and sorts; listeners stay as they are. After -ESRCH the rows
 * of the processes that still live are fresh, the others as they were. */
int budget_read(struct budget *b);

/* Queue and backlog of the listeners again, and whether they are still the same ones (-ESTALE when
 * a listener is gone or new: find again). One dump of state LISTEN for each port. */
int budget_listen_queues(struct budget *b, struct sockdiag *sd, const uint16_t *ports,
			 size_t nports);

/* Open descriptors of one process, or negative errno. */
int64_t budget_count_fds(pid_t pid);
/* Its RLIMIT_NOFILE from /proc/PID/limits. */
int budget_limits(pid_t pid, uint64_t *ret_soft, uint64_t *ret_hard);

/*
 * Lifts the soft limit of a running process to `wanted` (UINT64_MAX: its hard limit) by prlimit(2),
 * never above the hard limit; a soft limit that is high enough stays. 0; -EPERM (another user's
 * process needs CAP_SYS_RESOURCE), -ESRCH (it is not the same process any more), -ERANGE (`wanted`
 * is above the hard limit; the soft limit is at the hard limit then). *ret_soft is the soft limit
 * that holds now, as far as it is known: with an error other than -ERANGE the one of the row.
 */
int budget_raise(const struct budget_task *task, uint64_t wanted, uint64_t *ret_soft);

#endif
