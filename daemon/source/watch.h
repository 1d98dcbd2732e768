/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Told by the kernel when a file or a directory changes: the only place that knows libinotifytools.
 *
 * The library's state is static: one instance a process, one thread. Its descriptor has no
 * accessor, is made without CLOEXEC and NONBLOCK and must be below 1024 (select inside): watch_init
 * runs early, finds it in /proc/self/fd, repairs the flags and gives it to the loop. Only
 * next_events(0, 1) is called, until NULL: with timeout 0 next_event blocks for ever, with more
 * than one event next_events spins.
 *
 * The library's own tables are not used to look things up: its names go stale at each rotation.
 * Here an inode is watched once, however many subscribers it has; the table is keyed by watch
 * descriptor and by device and inode. An entry of the library is removed while the kernel's watch
 * lives, which is the only moment at which the library can do it. That holds for files, because the
 * subscriber keeps the file open: keep the descriptor that was given to watch_add until after
 * watch_remove. It does not hold for directories that are deleted: their descriptor must be closed
 * after watch_add, or the kernel would not report the deletion; each leaves about 100 bytes in the
 * library until the process ends.
 *
 * Where inotify may not read a file (EACCES: it checks the caller, not the descriptor), a helper
 * that shares the inotify descriptor places the watch: see watch_set_helper.
 *
 * Callbacks run from the loop, or from within any call of this module, and must not call this
 * module back; subscribers set a flag and do their work later.
 */
#ifndef TAILBAN_SOURCE_WATCH_H
#define TAILBAN_SOURCE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct ev_loop;
struct watch; /* one subscription */

enum watch_kind {
	WATCH_FILE,   /* written, closed by a writer, renamed, link count or mode changed */
	WATCH_SELF,   /* of a directory only: is it moved or deleted itself */
	WATCH_ENTRIES /* names come, go, change their mode; and all of WATCH_SELF */
};

enum watch_event {
	WATCH_WRITTEN = 1, /* includes truncation */
	WATCH_CLOSED = 2,  /* somebody who could write has closed it */
	WATCH_CHANGED = 4, /* mode, owner, times, link count; of a directory: of an entry */
	WATCH_ENTRY = 8,   /* a name came or went */
	WATCH_MOVED = 16,  /* it was renamed or deleted itself */
	WATCH_LOST = 32,   /* no more events: deleted, unmounted, or the helper failed */
	WATCH_LOOK = 64    /* events may have been missed (overflow, late watch): look yourself */
};

typedef void watch_fn(void *ctx, unsigned events);

/* 0 or -errno: -EMFILE (fs.inotify.max_user_instances), -ENOENT (no /proc), -ERANGE (fd > 1023). */
int watch_init(struct ev_loop *loop);
void watch_fini(void); /* all subscriptions must be removed before */

/* The inotify descriptor, to be shared with the helper; -1 before watch_init. */
int watch_fd(void);

/*
 * Subscribes to the inode behind fd, which stays the caller's. *ret_new (may be NULL) tells that no
 * watch was there before, so that what happened until now is unknown and the caller has to look
 * once after this call; when a helper places the watch it is false and WATCH_LOOK comes later. NULL
 * and *ret_err = -errno: -ENOSPC (fs.inotify.max_user_watches), -EACCES (and no helper), -ENOMEM.
 */
struct watch *watch_add(int fd, enum watch_kind kind, watch_fn *fn, void *ctx, bool *ret_new,
			int *ret_err);

/* NULL is fine. No callback for it comes after this. */
void watch_remove(struct watch *w);

/*
 * `ask` is called inside watch_add after EACCES. It hands fd (the caller's, borrowed) and the
 * inotify mask to a process that may read the file and has watch_fd(): that one places a watch on
 * its /proc/self/fd/N with this mask, and the result comes back by watch_added. Returns 0, or
 * -errno: not asked.
 */
typedef int watch_helper_fn(void *ctx, uint32_t token, int fd, uint32_t mask);
void watch_set_helper(watch_helper_fn *ask, void *ctx);

/* wd: watch descriptor or -errno. Unknown tokens are ignored and their watch is removed again. */
void watch_added(uint32_t token, int wd);

/* What an overflow of the kernel's queue does: WATCH_LOOK to everybody. Callable for tests. */
void watch_overflow(void);

struct watch_stats {
	uint64_t events, overflows, helped; /* since start */
	unsigned watches, pending;          /* now: in the kernel, asked of the helper */
};
struct watch_stats watch_stats(void);

#endif
