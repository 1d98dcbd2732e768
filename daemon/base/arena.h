/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that is given back all at once: for configuration trees and other start-up data.
 *
 * Everything taken from an arena lives until arena_free. Running out of memory at start-up has no
 * sensible continuation, so allocation logs and ends the process with status 4 instead of failing.
 */
#ifndef TAILBAN_BASE_ARENA_H
#define TAILBAN_BASE_ARENA_H

#include "daemon/base/slice.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *last; /* zero-initialised is empty and ready */
};

/* size bytes, zeroed, aligned for any type. */
void *arena_alloc(struct arena *a, size_t size);

/* count * size with an overflow check. */
void *arena_array(struct arena *a, size_t count, size_t size);

/* Terminated copies. */
char *arena_strdup(struct arena *a, const char *s);
char *arena_slicedup(struct arena *a, struct slice s);
__attribute__((format(printf, 2, 3))) char *arena_printf(struct arena *a, const char *format, ...);

/* A copy of items with room for one more (for growing small start-up lists). */
void *arena_append(struct arena *a, const void *items, size_t count, size_t size, const void *item);

void arena_free(struct arena *a);

#endif
