/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole lines from a descriptor that cannot be read twice: a pipe, a terminal, standard input.
 *
 * Unlike a file's, an unfinished line is kept in a buffer of the stream's own. Positions count the
 * bytes since the start. The descriptor's flags are left alone, since others share them: read once
 * per readiness.
 */
#ifndef TAILBAN_SOURCE_STREAM_H
#define TAILBAN_SOURCE_STREAM_H

#include "daemon/source/source.h"

struct stream {
	int fd;
	uint64_t offset; /* of the first byte in the buffer that belongs to no delivered line */
	uint64_t end;    /* bytes read so far */
	uint64_t lines, cut;
	size_t start, n; /* the unfinished line lies at buffer + start, n bytes */
	bool skipping;   /* its head is kept, the rest goes past */
	bool more;       /* whole lines are left in the buffer: call stream_read again at once */
	bool ended;
	char buffer[SOURCE_BLOCK_BYTES + 1];
};

/* Owns fd from here. NULL: no memory, and fd is closed. */
struct stream *stream_new(int fd);
void stream_free(struct stream *s); /* NULL is fine */

/*
 * One read (none when `more` is set). Bytes gone through, 0 at the end (a last line without '\n'
 * comes with that call, with one put behind), or -errno; block->text may be empty and is valid
 * until the next call.
 */
int64_t stream_read(struct stream *s, struct source_block *block);

#endif
