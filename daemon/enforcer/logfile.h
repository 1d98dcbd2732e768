/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opens the log files of one source for a process that may not open them itself.
 *
 * Patterns are expanded component by component with openat, so that every directory on the way is
 * seen and can be watched. Wildcards are those of Python's glob, which fail2ban users know: "*",
 * "?", "[seq]", "[!seq]", no escapes, "**" means "*", a leading dot must be written out. Names of
 * one directory come in byte order; with too many files the last ones win (dated names sort by
 * age). A relative pattern starts at the working directory.
 *
 * Reported, each once per call and in the order of the walk, are
 *
 * LOGFILE_FILE: a regular file, opened O_RDONLY|O_NONBLOCK|O_NOCTTY|O_CLOEXEC, or fd -1 and why
 * not;
 *
 * LOGFILE_SELF: a plain directory on a path: watch whether it is moved or deleted itself;
 *
 * LOGFILE_ENTRIES: a directory whose entries matter: it holds the file, or its next component is a
 * wildcard, a symbolic link, missing or refused. May follow a LOGFILE_SELF of the same directory.
 *
 * Directories are opened O_RDONLY|O_DIRECTORY|O_CLOEXEC. For a path that does not exist the nearest
 * existing ancestor and the directory above it come as LOGFILE_ENTRIES and the path as LOGFILE_FILE
 * with -ENOENT; so does a wildcard pattern that finds nothing (its path is then the pattern
 * itself). "/" is never watched for itself.
 *
 * The process that calls this is root and the directories may belong to others: a symbolic link is
 * followed only when its owner is root or the owner of what it finally points to, so nobody can
 * have /etc/shadow read by a link of his own. The check and the opening see the same inode (O_PATH
 * first, then /proc/self/fd). Nothing but a regular file is ever opened, so no FIFO blocks and no
 * device reacts. Needs /proc.
 */
#ifndef TAILBAN_ENFORCER_LOGFILE_H
#define TAILBAN_ENFORCER_LOGFILE_H

#include "daemon/base/error.h"

#include <stddef.h>
#include <stdint.h>

#define LOGFILE_FILES_MAX 256u /* of one source; LOGFILE_FILE with an error counts too */
#define LOGFILE_DIRS_MAX 1024u

enum logfile_kind { LOGFILE_FILE, LOGFILE_SELF, LOGFILE_ENTRIES };

/* Polling sources need no directories. */
enum logfile_want { LOGFILE_WANT_FILES, LOGFILE_WANT_ALL };

struct logfile_found {
	enum logfile_kind kind;
	const char *path; /* valid during the call only; shorter than PATH_MAX */
	int fd;           /* the callback's from now on: it must close it; -1 with an error */
	int err;          /* 0, or negative: see logfile_reason */
};

struct logfile_count {
	unsigned files, dirs;
	unsigned left_out;  /* above the caps, or no memory or descriptor left for them */
	unsigned unwatched; /* directories that cannot be opened for reading: their changes go
			       unseen */
};

typedef void logfile_fn(void *ctx, const struct logfile_found *found);

/* Never fails as a whole; what went wrong is reported path by path. `ret` may be NULL. */
void logfile_open(const struct text_at *patterns, size_t n, enum logfile_want want, logfile_fn *fn,
		  void *ctx, struct logfile_count *ret);

/*
 * A sentence's end for a person: what the error means for a log. -ENOENT "does not exist (yet)",
 * -EISDIR "is a directory", -ENOTSUP "is no regular file (FIFO, device or socket)", -EPERM "is a
 * symbolic link whose owner is neither root nor the owner of the target", everything else as
 * strerror. Never NULL.
 */
const char *logfile_reason(int err);

#endif
