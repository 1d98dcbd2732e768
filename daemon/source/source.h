/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A source: the log files of some jails as a stream of whole lines, through every kind of rotation.
 *
 * The process has no right to open logs. hooks.open asks for them; whoever can answers with any
 * number of source_file and source_dir, then one source_opened, at once or later. At most one
 * request is under way; a change that comes meanwhile asks again afterwards, at most 10 times in
 * 100 ms.
 *
 * What is promised, with writers that append:
 *
 * Only '\n' ends a line; an unfinished line waits in the file (nothing is copied) until it ends.
 *
 * Each line comes once, in the order of its file. A file that lost its name is read to its end and
 * watched on, since its writers go on until they reopen. It is given up when 4 younger ones lost
 * the same name, or when a writer closed it, or none was ever seen, and then nothing was heard of
 * it for 600 s (60 s when it was closed and deleted, so that its disk space becomes free).
 *
 * A file that was truncated, even if it has grown again beyond the old position, is read from its
 * start: the last 64 bytes read are compared at each look. The hole that a writer without O_APPEND
 * leaves in front (`> logs.out`, then truncated) is skipped.
 *
 * Files that are there at the first opening, and those that were unreadable, start where
 * hooks.start says; files that appear later are new and start at 0. An offset within a line is
 * moved to its start. The same inode under two names is read once (first name of the last opening).
 *
 * What cannot be promised: lines that are truncated away before they were read, and files that lose
 * their name again before they could be opened.
 *
 * Work per wake-up is bounded: SOURCE_BLOCK_BYTES of a source, then the loop goes round. No memory
 * is allocated after files are open; no timer runs while nothing happens, except with `polling` (or
 * when the kernel refuses a watch, which is logged): then files are looked at and opened again each
 * second.
 *
 * One thread, one loop. Hooks must not free the source or call back into it, but `open` may answer
 * at once.
 */
#ifndef TAILBAN_SOURCE_SOURCE_H
#define TAILBAN_SOURCE_SOURCE_H

#include "daemon/base/slice.h"

/* The longest line that comes whole, and most text of a block; what is kept of a longer one. */
#define SOURCE_BLOCK_BYTES ((size_t)256 * 1024)
#define SOURCE_HEAD_BYTES ((size_t)64 * 1024)
/* Of one source, files that lost their name included. */
#define SOURCE_FILES_MAX 320u

struct ev_loop;
struct source;

struct source_file_id {
	uint64_t dev, ino; /* 0, 0: stdin */
};

struct source_block {
	struct slice text; /* whole lines, each ends in '\n'; valid during the call */
	uint64_t offset;   /* file position of text's first byte */
	uint64_t end;      /* and of the first byte after what was consumed: go on here later */
	bool cut;          /* one line, too long: its head and a '\n'; the rest was skipped */
};

/*
 * Each is said once per change. err is 0 or negative; path is the last known name (a pattern, when
 * a wildcard finds nothing).
 */
enum source_event {
	SOURCE_WAITING,    /* does not exist (yet) */
	SOURCE_OPENED,     /* found and being read */
	SOURCE_ROTATED,    /* another file has the name now */
	SOURCE_TRUNCATED,  /* starts again at 0 */
	SOURCE_UNREADABLE, /* refused, no rights, read error: err */
	SOURCE_GONE,       /* the name is gone; the file is read on as long as somebody may write */
	SOURCE_END         /* stdin: end of file, or a read error: err; nothing more will come */
};
const char *source_event_name(enum source_event event); /* "waiting", ... */

struct source_hooks {
	/* Ask for the files. */
	void (*open)(void *ctx, struct source *s);
	/* Lines to work on. */
	void (*lines)(void *ctx, struct source *s, const char *path, struct source_file_id id,
		      const struct source_block *block);
	/* Where to start in a file that was there before us, e.g. by search. fd is borrowed. */
	int64_t (*start)(void *ctx, struct source *s, const char *path, struct source_file_id id,
			 int fd, uint64_t size, uint32_t fingerprint);
	/* For the log and for status. */
	void (*event)(void *ctx, struct source *s, const char *path, enum source_event event,
		      int err);
};

/* name and hooks stay the caller's and must outlive the source. NULL: no memory. */
struct source *source_new(struct ev_loop *loop, const char *name, bool polling,
			  const struct source_hooks *hooks, void *ctx);
/* Lines from a pipe or file at fd (owned from here; its flags are left alone). Path is "stdin";
   `open` and `start` are not called. A last line without '\n' gets one. */
struct source *source_stdin(struct ev_loop *loop, const char *name, int fd,
			    const struct source_hooks *hooks, void *ctx);
void source_free(struct source *s); /* NULL is fine */
const char *source_name(const struct source *s);

/* First request (stdin: starts reading). */
void source_begin(struct source *s);
/* Asks again. What patterns match only now counts as new: a changed path needs a new source. */
void source_reopen(struct source *s);

/* The answers. fd is owned from here; fd -1 with a negative err: not opened. */
void source_file(struct source *s, const char *path, int fd, int err);
void source_dir(struct source *s, const char *path, int fd, bool entries);
void source_opened(struct source *s);

/* True after the first source_opened (stdin: after source_begin): open, or waited for. */
bool source_ready(const struct source *s);
/* True while there is more to read (in `lines`: than this block) or something to open. */
bool source_busy(const struct source *s);

struct source_status {
	const char *path;
	struct source_file_id id;
	uint64_t position, size, lag_bytes; /* size is of this moment (fstat) */
	uint64_t lines, cut, truncated;     /* since it was opened */
	uint32_t fingerprint;
	bool nameless; /* rotated away, still read */
	int err;       /* negative: not open, and why; the numbers are then 0 */
};
/* Starts with *i = 0; false at the end. Strings are valid until the loop runs. */
bool source_next(const struct source *s, size_t *i, struct source_status *ret);

struct source_totals {
	uint64_t lines, bytes, cut, truncated, rotated, opened, left_out; /* since start */
	unsigned files, missing;                                          /* now */
	bool polling;
};
struct source_totals source_totals(const struct source *s);

/*
 * What tells a file from another one that got its inode number: a hash of its first bytes (up to
 * 64), with their number, so that it still fits when the file has grown. An empty file's fits every
 * file.
 */
uint32_t source_fingerprint(int fd);
bool source_fingerprint_fits(int fd, uint32_t fingerprint);

/*
 * Position of the first line dated since_s or later, by bisection; `size` when there is none, or
 * -errno. `date` gets a line without its '\n' (the head of a long one) and may have no date for it:
 * such lines are passed over, and 4 MiB without any date end a probe. Dates need not be in order: a
 * probe counts as late when any of a dozen lines is, and the search walks back while there are late
 * lines in the 64 KiB before, so it starts too early rather than too late.
 */
typedef bool source_date_fn(void *ctx, struct slice line, int64_t *ret_s);
int64_t source_seek_date(int fd, uint64_t size, int64_t since_s, source_date_fn *date, void *ctx);

#endif
