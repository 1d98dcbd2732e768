/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The processes and their rights, as a table: name, user, capabilities.
 *
 * process_spawn forks a child that holds one end of a message pair, gives up what its row does not
 * grant, ties its life to the parent's and runs its main function. process_limit does the same to
 * the caller (the enforcer limits itself after the first children are there, and forks later ones
 * from what it kept as "permitted only").
 *
 * A user namespace that maps one id has no other user to change to: processes keep their uid then,
 * and process_users_text() says so for `status`. Landlock and seccomp get their columns here as
 * well.
 */
#ifndef TAILBAN_BASE_PROCESS_H
#define TAILBAN_BASE_PROCESS_H

#include "daemon/base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_CAP(cap) (UINT64_C(1) << (cap))

enum process_user { PROCESS_ROOT, PROCESS_ENGINE };

struct process_row {
	const char *name; /* at most 15 bytes: seen in ps and top */
	enum process_user user;
	uint64_t effective;      /* capabilities it works with */
	uint64_t permitted_only; /* kept for its children, raised only in them */
	bool no_new_privs;       /* and no execve gains anything, for it and its children */
	bool noroot;             /* uid 0 means nothing: SECBIT_NOROOT, locked */
};

enum process_name {
	PROCESS_ENFORCER,
	PROCESS_RUNNER,
	PROCESS_PROBER,
	PROCESS_CENSUS,
	PROCESS_ENTERER,
	PROCESS_ENGINE_ROW,
	PROCESS_NAMES
};
extern const struct process_row process_table[PROCESS_NAMES];

/*
 * Finds the engine's user: `wanted` (default "_tailban"), else nobody with a warning in
 * *ret_warning. Call once before any fork. 0, or -ENOENT when even nobody is missing.
 */
int process_users(const char *wanted, char *ret_warning, size_t size);

/* The engine's uid and gid; both are the caller's own where nothing can be changed. */
uid_t process_engine_uid(void);
gid_t process_engine_gid(void);

/* "" or what keeps the processes from having users of their own. */
const char *process_users_text(void);

/* True when the caller has the capability effective. */
bool process_can(int capability);

/* Applies a row to the calling process. 0 or errno with a sentence that names what failed. */
int process_limit(enum process_name name, struct error *err);

/*
 * Forks. The parent gets the pid and its end of the pair in *ret_fd. The child limits itself by its
 * row, keeps only stdio, its end, and the descriptors in keep[], calls run(arg, fd) and exits with
 * its result; it gets SIGKILL when the parent dies.
 */
pid_t process_spawn(enum process_name name, int (*run)(void *arg, int fd), void *arg,
		    const int *keep, size_t nkeep, int *ret_fd, struct error *err);

#endif
