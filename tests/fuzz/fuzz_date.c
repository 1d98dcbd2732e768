/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dates. The input is a datepattern, then after the first \n log lines. A hit must lie inside its
 * line, its time in the years 1970 to 2262, and what the finder remembers of other lines must not
 * change a result.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/filter/date.h"

#define NOW INT64_C(1720123456)
#define LAST INT64_C(9246268799) /* 2262-12-31 23:59:60, and a day for zones */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct date *make(const struct text_at *pattern)
{
	struct date *d = NULL;
	struct error err = {0};

	if (date_new(pattern, pattern != NULL, &d, &err) < 0 && (!pattern || !err.text[0]))
		abort();
	return d;
}

static void check(struct date *d, const struct text_at *pattern, struct slice line)
{
	struct date_hit hit, fresh_hit;
	struct date *fresh = make(pattern);
	bool found = date_find(d, line, NOW, &hit);

	if (found != date_find(fresh, line, NOW, &fresh_hit))
		abort();
	if (found && (hit.start + hit.n > line.n || !hit.n || hit.time_s < 0 || hit.time_s > LAST))
		abort();
	if (found && (hit.start != fresh_hit.start || hit.n != fresh_hit.n ||
		      hit.time_s != fresh_hit.time_s))
		abort();
	date_free(fresh);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_of((const char *)data, size), line;
	static char text[1024];
	static struct date *builtin;
	struct text_at pattern = {text, "input", 1};
	struct date *d;

	if (!size)
		return 0;
	if (!builtin) {
		setenv("TZ", "Europe/Zurich", 1);
		builtin = make(NULL);
	}
	line = slice_head(rest, slice_find(rest, '\n'));
	memcpy(text, line.p, line.n < sizeof text ? line.n : sizeof text - 1);
	text[line.n < sizeof text ? line.n : sizeof text - 1] = 0;
	d = make(&pattern);
	for (rest = slice_skip(rest, line.n + 1); rest.n; rest = slice_skip(rest, line.n + 1)) {
		line = slice_head(rest, slice_find(rest, '\n'));
		check(builtin, NULL, line);
		if (d)
			check(d, &pattern, line);
	}
	date_free(d);
	return 0;
}
