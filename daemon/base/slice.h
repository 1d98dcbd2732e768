/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A piece of text that somebody else owns: pointer and length, passed by value.
 *
 * Log lines may hold NUL, ESC and invalid UTF-8, so nothing here looks for a terminator. A slice is
 * valid as long as the memory it points into; who keeps one says for how long. No function fails.
 */
#ifndef TAILBAN_BASE_SLICE_H
#define TAILBAN_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const char *p;
	size_t n;
};

#define SLICE_NONE ((struct slice){NULL, 0})
/* From a string literal, without strlen. */
#define SLICE(literal) ((struct slice){"" literal, sizeof(literal) - 1})

static inline struct slice slice_of(const char *p, size_t n)
{
	return (struct slice){p, n};
}

/* From a terminated string; NULL gives the empty slice. */
static inline struct slice slice_str(const char *s)
{
	return (struct slice){s, s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *s)
{
	return slice_eq(a, slice_str(s));
}

static inline bool slice_starts(struct slice a, struct slice head)
{
	return a.n >= head.n && (head.n == 0 || memcmp(a.p, head.p, head.n) == 0);
}

/* The slice without its first n bytes (n is cut to the length). */
static inline struct slice slice_skip(struct slice a, size_t n)
{
	if (n > a.n)
		n = a.n;
	return a.p ? (struct slice){a.p + n, a.n - n} : a;
}

/* The first n bytes (n is cut to the length). */
static inline struct slice slice_head(struct slice a, size_t n)
{
	return (struct slice){a.p, n < a.n ? n : a.n};
}

/* Position of the first byte c, or a.n. */
size_t slice_find(struct slice a, char c);

/* Without ASCII blanks (space, \t, \r, \n, \v, \f) at both ends. */
struct slice slice_trim(struct slice a);

/*
 * Cuts the next field off *rest at the first byte that is in the set `separators`, into *ret_field.
 * False when *rest is exhausted (its p is then NULL).
 */
bool slice_next(struct slice *rest, const char *separators, struct slice *ret_field);

/* Cuts the next run of bytes that are not blank or comma; false at the end. For lists of words. */
bool slice_word(struct slice *rest, struct slice *ret_word);

/* Decimal digits only, whole slice. 0, -EINVAL, or -ERANGE above max. */
int slice_u64(struct slice a, uint64_t max, uint64_t *ret_value);

#endif
