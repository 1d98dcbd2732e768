/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One regular file, read by whole lines from a position of our own (pread only).
 *
 * An unfinished line stays in the file: `offset` is its start, `scanned` how far it was looked
 * through for its '\n', so a line that grows in small pieces is not searched again from its start.
 * At each look the last bytes before `scanned` are read again with the new ones and compared with a
 * copy: when they differ, the file was truncated and has grown again, and it is read from 0.
 *
 * After a start at 0 leading NUL bytes are skipped: they are the hole that a writer without
 * O_APPEND leaves in a truncated file, and no part of the line behind it.
 *
 * A line longer than SOURCE_BLOCK_BYTES is searched to its end, then its head is delivered as
 * `cut`. So `offset` is the start of a line at all times, also for who stores it and comes back
 * after a crash.
 *
 * One read buffer serves the whole process: a block's text is valid until the next tail_read.
 */
#ifndef TAILBAN_SOURCE_TAIL_H
#define TAILBAN_SOURCE_TAIL_H

#include "daemon/source/source.h"

#define TAIL_KEEP_BYTES 64u

struct tail {
	int fd; /* the owner's; close it after use */
	struct source_file_id id;
	uint64_t offset;  /* first byte that was not delivered: start of a line */
	uint64_t scanned; /* no '\n' from offset up to here */
	uint64_t size;    /* at the last look */
	uint64_t links;   /* names it has; 0: deleted */
	uint64_t lines, cut, truncated;
	uint32_t fingerprint;
	bool hole; /* leading NULs are to be skipped */
	size_t kept;
	char keep[TAIL_KEEP_BYTES]; /* the bytes before scanned */
};

/* Takes over a descriptor; position 0. 0, -EINVAL (no regular file), or fstat's -errno. */
int tail_open(struct tail *t, int fd);

/* Position, cut to the size and moved to the start of the line that it lies in. 0 or -errno. */
int tail_start(struct tail *t, uint64_t offset);

/*
 * One look: at most SOURCE_BLOCK_BYTES forward. Returns the number of bytes by which it came on, 0
 * at the end of the file, or -errno. block->text may be empty although bytes were read; block->end
 * is the position to go on at either way.
 */
int64_t tail_read(struct tail *t, struct source_block *block);

#endif
