/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the first line of a log that is young enough, by bisection over byte positions.
 *
 * How it fails: -errno of pread. Lines without a date and dates out of order make it read more,
 * never stop or start inside a line.
 */
#include "daemon/source/source.h"

#include <errno.h>
#include <unistd.h>

#define WINDOW_BYTES ((size_t)64 * 1024)
#define PROBE_LINES 12u
#define UNDATED_BYTES ((uint64_t)4 << 20) /* a probe that finds no date in so much gives up */

static char window[WINDOW_BYTES];

struct search {
	int fd;
	uint64_t size;
	int64_t since_s;
	source_date_fn *date;
	void *ctx;
	uint64_t at; /* file position of window[0] */
	size_t n;    /* bytes in the window */
	int err;
};

/* What is in the file from `from` on, as far as the window has it; refilled when less than `want`
 * is. */
static struct slice look(struct search *k, uint64_t from, size_t want)
{
	bool inside = from >= k->at && from - k->at <= k->n;
	ssize_t n;

	if (inside && k->n - (from - k->at) >= want)
		return slice_of(window + (from - k->at), k->n - (from - k->at));
	n = pread(k->fd, window, WINDOW_BYTES, (off_t)from);
	if (n < 0)
		k->err = -errno;
	k->at = from;
	k->n = n < 0 ? 0 : (size_t)n;
	return slice_of(window, k->n);
}

/* Position behind the next '\n' at or after `from`, at most `to`. */
static uint64_t next_start(struct search *k, uint64_t from, uint64_t to)
{
	while (from < to) {
		struct slice s = look(k, from, 1);
		size_t n = slice_find(s, '\n');

		if (s.n == 0)
			return to;
		if (n < s.n)
			return from + n + 1 < to ? from + n + 1 : to;
		from += s.n;
	}
	return to;
}

/* The line that starts at `from` (its head, when it is longer than the window); next: where another
 * begins. */
static struct slice line_at(struct search *k, uint64_t from, uint64_t *ret_next)
{
	struct slice s = look(k, from, 1);
	size_t n = slice_find(s, '\n');

	if (n == s.n && s.n < WINDOW_BYTES) {
		s = look(k, from, WINDOW_BYTES);
		n = slice_find(s, '\n');
	}
	*ret_next = n < s.n ? from + n + 1 : from + n;
	return slice_head(s, n);
}

enum verdict { NO_DATES, EARLY, LATE };

/*
 * Goes through the lines that start in [from, to) until a late one or max_dated early ones.
 * *ret_at is the late line's position.
 */
static enum verdict scan(struct search *k, uint64_t from, uint64_t to, unsigned max_dated,
			 uint64_t *ret_at)
{
	uint64_t begin = from;
	unsigned dated = 0;

	while (from < to && k->err == 0 && (dated || from - begin < UNDATED_BYTES)) {
		uint64_t next;
		struct slice line = line_at(k, from, &next);
		int64_t s;

		if (next == from)
			break;
		if (k->date(k->ctx, line, &s)) {
			if (s >= k->since_s) {
				*ret_at = from;
				return LATE;
			}
			if (++dated == max_dated)
				break;
		}
		/* Behind the head of a line without end in sight. */
		if (line.n == WINDOW_BYTES)
			next = next_start(k, next, k->size);
		from = next;
	}
	return dated ? EARLY : NO_DATES;
}

static uint64_t bisect(struct search *k)
{
	uint64_t lo = 0, hi = k->size, best = k->size, at;

	while (hi - lo > WINDOW_BYTES && k->err == 0) {
		uint64_t mid = lo + (hi - lo) / 2, start = next_start(k, mid, hi);

		switch (start < hi ? scan(k, start, hi, PROBE_LINES, &at) : NO_DATES) {
		case LATE:
			best = at;
			hi = mid + 1;
			break;
		case EARLY:
			lo = start;
			break;
		case NO_DATES: /* nothing to learn up to hi */
			hi = mid + 1;
			break;
		}
	}
	if (scan(k, lo, best, UINT32_MAX, &at) == LATE)
		best = at;
	return best;
}

/* Dates out of order: late lines shortly before the found one count too. */
static uint64_t walk_back(struct search *k, uint64_t best)
{
	while (best > 0 && k->err == 0) {
		uint64_t from = best > WINDOW_BYTES ? next_start(k, best - WINDOW_BYTES, best) : 0,
			 at;

		if (from >= best || scan(k, from, best, UINT32_MAX, &at) != LATE)
			break;
		best = at;
	}
	return best;
}

int64_t source_seek_date(int fd, uint64_t size, int64_t since_s, source_date_fn *date, void *ctx)
{
	struct search k = {.fd = fd, .size = size, .since_s = since_s, .date = date, .ctx = ctx};
	uint64_t best = bisect(&k);

	best = walk_back(&k, best);
	return k.err < 0 ? k.err : (int64_t)(best < size ? best : size);
}
