/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines from a pipe. How it fails: -errno of read; what was buffered stays.
 */
#include "daemon/source/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct stream *stream_new(int fd)
{
	struct stream *s = malloc(sizeof(*s));

	if (!s) {
		close(fd);
		return NULL;
	}
	memset(s, 0, offsetof(struct stream, buffer));
	s->fd = fd;
	return s;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	close(s->fd);
	free(s);
}

static void emit(struct stream *s, struct source_block *block, size_t n, uint64_t end)
{
	block->text = slice_of(s->buffer + s->start, n);
	block->offset = s->offset;
	block->end = s->offset = end;
}

/* The end of an overlong line; what follows it in the buffer is left for the next call. */
static void end_skipping(struct stream *s, struct source_block *block, size_t head, size_t used)
{
	size_t rest = s->n - used;

	s->skipping = false;
	s->cut++;
	s->lines++;
	s->buffer[head] = '\n';
	s->start = 0;
	emit(s, block, head + 1, s->end - rest);
	block->cut = true;
	s->start = used;
	s->n = rest;
	s->more = memchr(s->buffer + used, '\n', rest) != NULL;
}

static void skip(struct stream *s, struct source_block *block)
{
	const char *newline = memchr(s->buffer + SOURCE_HEAD_BYTES, '\n', s->n - SOURCE_HEAD_BYTES);

	if (newline)
		end_skipping(s, block, SOURCE_HEAD_BYTES, (size_t)(newline - s->buffer) + 1);
	else
		s->n = SOURCE_HEAD_BYTES;
}

static void cut_lines(struct stream *s, struct source_block *block)
{
	const char *newline = memrchr(s->buffer, '\n', s->n);
	size_t n = newline ? (size_t)(newline - s->buffer) + 1 : 0;

	if (n == 0) {
		s->skipping = s->n == SOURCE_BLOCK_BYTES;
		if (s->skipping)
			s->n = SOURCE_HEAD_BYTES;
		return;
	}
	for (size_t i = 0; i < n; i++)
		s->lines += s->buffer[i] == '\n';
	emit(s, block, n, s->offset + n);
	s->start = n;
	s->n -= n;
}

/* End of file: the unfinished line is as whole as it will ever be. */
static void finish(struct stream *s, struct source_block *block)
{
	s->ended = true;
	if (s->n == 0)
		return;
	if (s->skipping) {
		end_skipping(s, block, SOURCE_HEAD_BYTES, s->n);
		return;
	}
	s->buffer[s->n] = '\n';
	s->lines++;
	emit(s, block, s->n + 1, s->end);
	s->n = 0;
}

int64_t stream_read(struct stream *s, struct source_block *block)
{
	ssize_t n;

	*block = (struct source_block){.offset = s->offset, .end = s->offset};
	if (s->ended)
		return 0;
	memmove(s->buffer, s->buffer + s->start, s->n);
	s->start = 0;
	if (s->more) {
		s->more = false;
		cut_lines(s, block);
		return (int64_t)block->text.n;
	}
	n = read(s->fd, s->buffer + s->n, SOURCE_BLOCK_BYTES - s->n);
	if (n < 0)
		return -errno;
	s->n += (size_t)n;
	s->end += (uint64_t)n;
	if (n == 0)
		finish(s, block);
	else if (s->skipping)
		skip(s, block);
	else
		cut_lines(s, block);
	return n;
}
