/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The enforcer: the parent of all processes, the only one that touches the kernel's tables.
 *
 * It opens logs for the engine, keeps bans in the kernel by itself (repair, retry, end), kills
 * banned peers' sockets, enforces the ignore list whatever the engine says, restarts the engine,
 * and speaks to systemd. It never looks at a log line.
 */
#ifndef TAILBAN_ENFORCER_ENFORCER_H
#define TAILBAN_ENFORCER_ENFORCER_H

#include "daemon/config/conf.h"

struct enforcer_start {
	struct conf *conf;    /* taken over: a reload frees and replaces it */
	const char *conf_dir; /* NULL for -q */
	const char *datadir;
	const char *const *quick_paths;
	size_t nquick_paths;
	bool dry_run, flush_on_stop;
	const char *socket_override, *statedir_override; /* -s, -S; or NULL */
	/* The engine and its memory: the enforcer does not know their insides. engine_main gets a
	 * struct engine_start; resume_create makes the memfd (or errno); engine_progress grows with
	 * the lines. */
	int (*engine_main)(void *start, int fd);
	int (*resume_create)(const struct conf *conf);
	uint64_t (*engine_progress)(int resume_fd);
};

/* Runs the daemon; returns the exit status of INTERFACE (0, 1, 3, 4). */
int enforcer_run(const struct enforcer_start *start);

#endif
