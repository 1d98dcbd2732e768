/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A log file read to its end, line by line, in blocks of LOGREADER_BLOCK bytes.
 *
 * Lines end at '\n' only, which is part of them; a last one without gets it. Of a line longer than
 * a block the head (SOURCE_HEAD_BYTES) is kept, as the engine does. Errors are negative errno.
 */
#ifndef TAILBAN_CLIENT_LOGREADER_H
#define TAILBAN_CLIENT_LOGREADER_H

#include "daemon/source/source.h"

#define LOGREADER_BLOCK SOURCE_BLOCK_BYTES

struct logreader {
	int fd;
	bool eof;
	char *buf;
	size_t at, n;    /* what is not handed out yet */
	uint64_t offset; /* of buf[at] in the file */
};

/* NULL is stdin. -EISDIR for a directory. */
int logreader_open(struct logreader *r, const char *path);
void logreader_close(struct logreader *r);

/* What is in the buffer and not handed out yet. */
struct slice logreader_ahead(const struct logreader *r);

/* gzip, xz, bzip2 or zstd by their first bytes. Before the first line. */
bool logreader_is_compressed(const struct logreader *r);

/* Goes to the first line dated since_s or later; what is no regular file stays where it is. */
int logreader_seek_date(struct logreader *r, int64_t since_s, source_date_fn *date, void *ctx);

/* 1 and the line (valid until the next call) and its offset, 0 at the end, negative errno. */
int logreader_next(struct logreader *r, struct slice *ret_line, uint64_t *ret_offset);

#endif
