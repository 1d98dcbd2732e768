/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of `tailban doctor` share.
 *
 *   doctor.c          the command: order of the looks, the page, JSON
 *   doctor_find.c     which services are looked at
 *   doctor_service.c  one service: what the kernel tells of it
 *   doctor_judge.c    ... and what of that is not well, and what to do
 *   doctor_log.c      a log: dates, addresses, "Too many open files"
 *   doctor_host.c     this machine and its kernel
 *   doctor_daemon.c   tailban itself, the risk to lock oneself out
 *
 * First everything is looked at, the CPU time and the kernel's counters twice, DOCTOR_SAMPLE_NS
 * apart; then it is judged. What the caller may not see is said, not guessed. Every table has a
 * cap, and what was left out is counted.
 */
#ifndef TAILBAN_CLIENT_DOCTOR_H
#define TAILBAN_CLIENT_DOCTOR_H

#include "client/findings.h"
#include "client/peers.h"
#include "client/threads.h"
#include "client/vitals.h"
#include "daemon/base/clock.h"
#include "daemon/base/netlist.h"
#include "daemon/sockets/budget.h"
#include "daemon/sockets/netstat.h"
#include "daemon/sockets/waits.h"

#include <limits.h>

#define DOCTOR_SERVICES_MAX 8u
#define DOCTOR_PORTS_MAX 16u /* of one service */
#define DOCTOR_TASKS_MAX 16u /* processes of a service that are looked into */
#define DOCTOR_LISTENING_MAX 4096u
#define DOCTOR_SAMPLE_NS (200 * CLOCK_MSEC_NS)
#define DOCTOR_LIMIT_BYTES 24

struct listening {
	struct addr local;
	uint32_t uid;
	uint16_t port;
};

struct service {
	char about[120]; /* "port 8001" */
	char log[PATH_MAX];
	uint16_t ports[DOCTOR_PORTS_MAX];
	size_t nports;
	int error; /* of budget_find */
	struct budget budget;
	struct vitals vitals[DOCTOR_TASKS_MAX]; /* of the first tasks */
	int64_t cpu_ns[DOCTOR_TASKS_MAX][2];    /* at both looks; negative: not told */
	struct fd_kinds fds;                    /* of the fullest */
	bool fds_seen, elsewhere;               /* elsewhere: another network namespace */
	struct threads threads;
	struct peers peers;
	uint32_t *inodes; /* of its accepted connections */
	size_t ninodes, inodes_room;
	uint32_t waits[WAIT_SENDING + 1]; /* connections by what the server waits for */
	bool has_waits, selects;
	char proxy[160]; /* "nginx (pid 7, port 443)" when all peers are this host */
	bool from_here;  /* all peers are this host */
};

struct doctor {
	struct client *client;
	uint16_t port;   /* --port, or 0 */
	const char *log; /* --log, or NULL */
	json_t *status;  /* the daemon's, or NULL and why */
	int daemon_error;
	struct sockdiag *sd; /* open while it is looked */
	struct netlist own;  /* this host's addresses */
	struct listening *listening;
	size_t nlistening;
	struct service *services[DOCTOR_SERVICES_MAX];
	size_t nservices, left; /* left: not looked at */
	struct netstat counters[2];
	int64_t looked_ns[2]; /* when */
	bool privileged;      /* sees other users' processes */
	struct findings findings;
	json_t *system, *kernel, *daemon;
};

/* Subjects of findings that are no service. */
#define DOCTOR_MACHINE "this machine"
#define DOCTOR_KERNEL "the kernel"
#define DOCTOR_TAILBAN "tailban"
#define DOCTOR_LOGS "logs"

/* --- doctor_find.c --- */

/* By --port, --log, the daemon's jails, or the listeners with most descriptors. */
void doctor_find(struct doctor *d);
/* The user that made the listening socket of a port; false when nobody listens there. */
bool doctor_listener_uid(const struct doctor *d, uint16_t port, uint32_t *ret_uid);

/* --- doctor_service.c --- */

/* Its processes; then everything else. */
void doctor_whose(const struct doctor *d, struct service *s);
void doctor_look(struct doctor *d, struct service *s);
void doctor_sample(struct service *s, unsigned which);
json_t *doctor_service_json(const struct doctor *d, const struct service *s);
void doctor_service_free(struct service *s);
/* CPU in hundredths of a core between the looks, or -1. */
int doctor_cpu_percent(const struct doctor *d, const struct service *s);
bool doctor_is_own(const struct doctor *d, const struct addr *a);

/* --- doctor_judge.c --- */

void doctor_judge(struct doctor *d, struct service *s);
/* "1024" or "no limit". Returns buf. */
const char *doctor_limit(uint64_t limit, char buf[static DOCTOR_LIMIT_BYTES]);

/* --- doctor_log.c --- */

void doctor_log(struct doctor *d, const char *path);
/* The path when it may stand in a command that somebody pastes into a shell, else "LOG". */
const char *doctor_plain_path(const char *path);

/* --- doctor_host.c --- */

void doctor_host(struct doctor *d);

/* --- doctor_daemon.c --- */

void doctor_daemon(struct doctor *d);
bool doctor_has_jail(const struct doctor *d, const char *name);

#endif
