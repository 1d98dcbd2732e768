/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arena: see arena.h. Out of memory ends the process with status 4. */
#include "daemon/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BYTES 16384u

struct arena_chunk {
	struct arena_chunk *before;
	size_t used, size;
	alignas(max_align_t) char bytes[];
};

static void out_of_memory(size_t size)
{
	fprintf(stderr, "tailban: out of memory (%zu bytes wanted at start-up)\n", size);
	exit(4);
}

static struct arena_chunk *add_chunk(struct arena *a, size_t size)
{
	struct arena_chunk *c;

	if (size < CHUNK_BYTES)
		size = CHUNK_BYTES;
	c = calloc(1, sizeof *c + size);
	if (!c)
		out_of_memory(size);
	c->before = a->last;
	c->size = size;
	a->last = c;
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->last;
	void *p;

	if (size > SIZE_MAX / 2)
		out_of_memory(size);
	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (!c || c->size - c->used < size)
		c = add_chunk(a, size);
	p = c->bytes + c->used;
	c->used += size;
	return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		out_of_memory(SIZE_MAX);
	return arena_alloc(a, bytes);
}

char *arena_slicedup(struct arena *a, struct slice s)
{
	char *copy = arena_alloc(a, s.n + 1);

	if (s.n)
		memcpy(copy, s.p, s.n);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_slicedup(a, slice_str(s));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	va_list ap, again;
	char *text;
	int n;

	va_start(ap, format);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	text = arena_alloc(a, (size_t)n + 1);
	vsnprintf(text, (size_t)n + 1, format, again);
	va_end(again);
	return text;
}

void *arena_append(struct arena *a, const void *items, size_t count, size_t size, const void *item)
{
	char *grown = arena_array(a, count + 1, size);

	if (count)
		memcpy(grown, items, count * size);
	memcpy(grown + count * size, item, size);
	return grown;
}

void arena_free(struct arena *a)
{
	struct arena_chunk *c = a->last;

	while (c) {
		struct arena_chunk *before = c->before;

		free(c);
		c = before;
	}
	a->last = NULL;
}
