/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One process as top(1), ps(1) and lsof(8) show it, from /proc.
 *
 * Everybody may read all of it but the kinds of its descriptors: these need the process' own user
 * or CAP_SYS_PTRACE. Errors are negative errno; -ENOENT and -ESRCH: the process has ended.
 */
#ifndef TAILBAN_CLIENT_VITALS_H
#define TAILBAN_CLIENT_VITALS_H

#include "daemon/sockets/proc.h"

#define VITALS_COMMAND_BYTES 200
#define VITALS_USER_BYTES 40

struct vitals {
	uint64_t virt_bytes, rss_bytes;
	uint64_t stack_bytes; /* soft RLIMIT_STACK: what glibc reserves for each thread */
	uint32_t threads, uid;
	int64_t age_s;
	char command[VITALS_COMMAND_BYTES]; /* its arguments, else its name; printable */
	char user[VITALS_USER_BYTES];       /* printable */
};

#define VITALS_UNLIMITED UINT64_MAX

int vitals_read(pid_t pid, struct vitals *ret_vitals);

/* CPU time of all its threads since it began. The clock of a process may be read by anybody. */
int64_t vitals_cpu_ns(pid_t pid);

/* The user's name, or its number. Printable. Returns buf. */
const char *vitals_user(uint32_t uid, char buf[static VITALS_USER_BYTES]);

#define VITALS_FDS_MAX 16384u /* descriptors whose kind is looked at: 3 us each */

struct fd_kinds {
	uint32_t sockets, files, pipes, others;
	bool cut; /* there are more */
};

/* The process' descriptors, until VITALS_FDS_MAX are counted. */
int vitals_fd_kinds(pid_t pid, struct fd_kinds *ret_kinds);

/* The regular file that is its standard output or error: where `nohup ... > FILE 2>&1 &` writes.
 * The path as it is, not escaped; empty when there is none. */
void vitals_output(pid_t pid, char *path, size_t size);

#endif
