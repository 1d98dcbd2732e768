/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slices: see slice.h. Numbers fail with -EINVAL or -ERANGE; nothing else fails. */
#include "daemon/base/slice.h"

#include <errno.h>

size_t slice_find(struct slice a, char c)
{
	const char *hit = a.n ? memchr(a.p, c, a.n) : NULL;

	return hit ? (size_t)(hit - a.p) : a.n;
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct slice slice_trim(struct slice a)
{
	while (a.n && is_blank(a.p[0])) {
		a.p++;
		a.n--;
	}
	while (a.n && is_blank(a.p[a.n - 1]))
		a.n--;
	return a;
}

bool slice_next(struct slice *rest, const char *separators, struct slice *ret_field)
{
	size_t i = 0;

	if (!rest->p)
		return false;
	while (i < rest->n && !(rest->p[i] && strchr(separators, rest->p[i])))
		i++;
	*ret_field = slice_head(*rest, i);
	*rest = i < rest->n ? slice_skip(*rest, i + 1) : SLICE_NONE;
	return true;
}

bool slice_word(struct slice *rest, struct slice *ret_word)
{
	size_t start = 0, end;

	while (start < rest->n && (is_blank(rest->p[start]) || rest->p[start] == ','))
		start++;
	for (end = start; end < rest->n && !is_blank(rest->p[end]) && rest->p[end] != ','; end++)
		;
	*ret_word = slice_of(rest->n ? rest->p + start : NULL, end - start);
	*rest = slice_skip(*rest, end);
	return ret_word->n > 0;
}

int slice_u64(struct slice a, uint64_t max, uint64_t *ret_value)
{
	uint64_t v = 0;

	if (!a.n)
		return -EINVAL;
	for (size_t i = 0; i < a.n; i++) {
		unsigned digit = (unsigned)(unsigned char)a.p[i] - '0';

		if (digit > 9)
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, digit, &v))
			return -ERANGE;
	}
	if (v > max)
		return -ERANGE;
	*ret_value = v;
	return 0;
}
