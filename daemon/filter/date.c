/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dates: see date.h. Finding and converting fail with false ("no date"), never otherwise: what
 * stands in a line is the attackers' and may name any day.
 */
#include "daemon/filter/date.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/filter/dateformat.h"

#define HOUR_S INT64_C(3600)
#define DAY_S (24 * HOUR_S)
#define DAYS_IN_400_YEARS 146097
#define YEAR_MIN 1970
#define YEAR_MAX 2262
#define EPOCH_END_S INT64_C(9246182400) /* the end of YEAR_MAX */
#define NOW_MAX_S INT64_C(9214646400)   /* the end of YEAR_MAX - 1 */
#define ZONES_S (26 * HOUR_S)           /* no two zones differ by more */
#define LAST_MAX 40
#define WITH_YEAR 2 /* the first built-in formats: they begin with a digit and name the year */
#define HOURS 4     /* remembered hours of log time */

struct hour {
	int64_t number; /* hours since 1970 as the clock on the wall showed them */
	int64_t offset_s;
	bool known;
};

/*
 * The last date found by a built-in format with a year, with one byte on either side. Lines of one
 * second share it, and comparing costs a tenth of reading.
 */
struct last {
	char text[LAST_MAX];
	size_t n;     /* 0 = nothing */
	size_t colon; /* place of its first ':' */
	int64_t time_s;
};

struct date {
	struct hour hours[HOURS];
	struct last last;
	bool builtin;
	size_t nformats;
	struct date_format formats[];
};

static const char *const builtin[] = {
	"%d[-/]%b[-/]%Y[ :]%H:%M:%S(?:\\.%f)?(?: ?%z)?",
	"%Y[-/.]%m[-/.]%d[T ]%H:%M:%S(?:[.,]%f)?(?: ?%z)?",
	"(?:%a[ ])?%b[ ]%d[ ]%k:%M:%S(?:[.,]%f)?(?:[ ]%Y)?",
	"EPOCH",
};
#define BUILTINS (sizeof builtin / sizeof *builtin)

static bool is_none(const struct text_at *pattern)
{
	return slice_eq_str(slice_trim(slice_str(pattern->text)), "{NONE}");
}

static int compile_given(struct date *d, const struct text_at *patterns, size_t n,
			 struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		int r;

		if (is_none(&patterns[i]))
			continue;
		r = date_format_compile(&patterns[i], &d->formats[d->nformats], err);
		if (r < 0)
			return r;
		d->nformats++;
	}
	return 0;
}

static int compile_builtin(struct date *d, struct error *err)
{
	d->builtin = true;
	for (size_t i = 0; i < BUILTINS; i++) {
		struct text_at pattern = {.text = builtin[i]};
		int r = date_format_compile(&pattern, &d->formats[d->nformats++], err);

		if (r < 0)
			return r;
	}
	return 0;
}

int date_new(const struct text_at *patterns, size_t npatterns, struct date **ret_date,
	     struct error *err)
{
	size_t n = npatterns ? npatterns : BUILTINS;
	struct date *d = calloc(1, sizeof *d + n * sizeof d->formats[0]);
	int r;

	if (!d)
		return -ENOMEM;
	tzset();
	r = npatterns ? compile_given(d, patterns, npatterns, err) : compile_builtin(d, err);
	if (r < 0) {
		date_free(d);
		return r;
	}
	*ret_date = d;
	return 0;
}

void date_free(struct date *d)
{
	free(d);
}

static bool is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool day_exists(int year, int month, int day)
{
	static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (year < YEAR_MIN || year > YEAR_MAX)
		return false;
	return day <= days[month - 1] || (month == 2 && day == 29 && is_leap(year));
}

/* Days since 1970-01-01 of a day of the proleptic Gregorian calendar; years start in March for
 * this. */
static int64_t days_of(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1;
	int64_t month_from_march = month > 2 ? month - 3 : month + 9;
	int64_t century = y / 100;

	return 365 * y + y / 4 - century + century / 4 + (153 * month_from_march + 2) / 5 + day -
	       1 - 719468;
}

/* Seconds east of UTC at a time. */
static int64_t offset_at(int64_t time_s)
{
	time_t t = (time_t)time_s;
	struct tm tm;

	return localtime_r(&t, &tm) ? tm.tm_gmtoff : 0;
}

/*
 * Seconds since 1970 of local wall time, given as if it were UTC. Not mktime: its answer for an
 * hour that occurs twice depends on the calls before. The offsets a day around are tried, the
 * larger one (daylight saving, hence the earlier time) first; in a gap the one before the gap
 * holds.
 */
static int64_t from_wall(int64_t wall_s)
{
	int64_t before = offset_at(wall_s - DAY_S), after = offset_at(wall_s + DAY_S);
	int64_t large = before > after ? before : after, small = before > after ? after : before;

	if (offset_at(wall_s - large) == large)
		return wall_s - large;
	if (offset_at(wall_s - small) == small)
		return wall_s - small;
	return wall_s - before;
}

/* The zone is asked once an hour of log time, unless the offset changes within that hour. */
static int64_t local_time(struct date *d, int64_t wall_s)
{
	int64_t number = wall_s / 3600;
	struct hour *h = &d->hours[number % HOURS];
	int64_t first_s, last_s;

	if (h->known && h->number == number)
		return wall_s - h->offset_s;
	first_s = from_wall(number * 3600);
	last_s = from_wall(number * 3600 + 3599);
	if (last_s - first_s != 3599)
		return from_wall(wall_s);
	*h = (struct hour){.number = number, .offset_s = number * 3600 - first_s, .known = true};
	return wall_s - h->offset_s;
}

static int hour_of(const struct date_parts *p)
{
	if (!(p->seen & DATE_PM) || p->hour > 12)
		return p->hour;
	return p->hour % 12 + 12 * p->pm;
}

/* The parts on the given day. */
static int64_t on_day(struct date *d, const struct date_parts *p, int64_t day)
{
	int64_t wall_s = day * DAY_S + hour_of(p) * HOUR_S + p->minute * INT64_C(60) + p->second;

	return p->seen & DATE_ZONE ? wall_s - p->zone_s : local_time(d, wall_s);
}

/* A time of day only: today, or yesterday if that lies ahead. */
static int64_t without_day(struct date *d, const struct date_parts *p, int64_t now_s)
{
	time_t now = (time_t)now_s;
	int64_t today, time_s;
	struct tm tm;

	if (p->seen & DATE_ZONE)
		today = (now_s + p->zone_s) / DAY_S;
	else
		today = localtime_r(&now, &tm)
				? days_of(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday)
				: 0;
	time_s = on_day(d, p, today);
	return time_s > now_s && today > 0 ? on_day(d, p, today - 1) : time_s;
}

/* The latest year that puts the date not more than a day ahead. -1 = none. */
static int64_t without_year(struct date *d, const struct date_parts *p, int64_t now_s)
{
	int this_year = YEAR_MIN + (int)(now_s / DAY_S * 400 / DAYS_IN_400_YEARS);

	for (int year = this_year + 1; year >= this_year - 2; year--) {
		int64_t day = days_of(year, p->month, p->day), time_s;

		if (!day_exists(year, p->month, p->day) || day * DAY_S > now_s + DAY_S + ZONES_S)
			continue;
		time_s = on_day(d, p, day);
		if (time_s <= now_s + DAY_S)
			return time_s;
	}
	return -1;
}

/* -1 = there is no such time. */
static int64_t time_of(struct date *d, const struct date_parts *p, int64_t now_s)
{
	if (p->seen & DATE_EPOCH)
		return p->epoch_s < EPOCH_END_S ? p->epoch_s : -1;
	if (!(p->seen & DATE_DAY))
		return without_day(d, p, now_s);
	if (!(p->seen & DATE_YEAR))
		return without_year(d, p, now_s);
	if (!day_exists(p->year, p->month, p->day))
		return -1;
	return on_day(d, p, days_of(p->year, p->month, p->day));
}

/* Would the byte behind a date never lengthen it? Then the date's own bytes decide alone. */
static bool ends_date(char c)
{
	return c == ']' || c == ')' || c == '"' || c == '|';
}

static void remember(struct date *d, struct slice line, const struct date_hit *hit)
{
	struct slice with_sides = slice_of(line.p + hit->start - 1, hit->n + 2);

	if (!hit->start || hit->start + hit->n >= line.n || with_sides.n > LAST_MAX)
		return;
	if (!ends_date(with_sides.p[with_sides.n - 1]))
		return;
	memcpy(d->last.text, with_sides.p, with_sides.n);
	d->last.n = with_sides.n;
	d->last.colon = slice_find(with_sides, ':');
	d->last.time_s = hit->time_s;
}

/* The same bytes around the line's first ':' as last time? No format with a ':' can begin before
 * them. */
static bool same_again(const struct date *d, struct slice line, struct date_hit *ret_hit)
{
	size_t colon = slice_find(slice_head(line, DATE_SEARCH_MAX), ':'),
	       start = colon - d->last.colon;

	if (!d->last.n || colon < d->last.colon || line.n - start < d->last.n)
		return false;
	if (memcmp(line.p + start, d->last.text, d->last.n) != 0)
		return false;
	*ret_hit = (struct date_hit){start + 1, d->last.n - 2, d->last.time_s};
	return true;
}

bool date_find(struct date *d, struct slice line, int64_t now_s, struct date_hit *ret_hit)
{
	size_t limit = DATE_SEARCH_MAX;
	bool found, known;

	if (!line.n)
		return false;
	now_s = now_s < 0 ? 0 : now_s > NOW_MAX_S ? NOW_MAX_S : now_s;
	found = known = same_again(d, line, ret_hit);
	if (known)
		limit = ret_hit->start;
	for (size_t i = 0; i < d->nformats && limit > 0; i++) {
		struct date_parts parts;
		struct slice text;
		int64_t time_s;

		if (known && d->formats[i].anchor == ':')
			continue;
		if (!date_format_find(&d->formats[i], line, limit, &text, &parts))
			continue;
		if ((size_t)(text.p - line.p) >= limit)
			continue;
		time_s = time_of(d, &parts, now_s);
		if (time_s < 0)
			continue;
		*ret_hit = (struct date_hit){(size_t)(text.p - line.p), text.n, time_s};
		limit = ret_hit->start;
		found = true;
		if (d->builtin && i < WITH_YEAR)
			remember(d, line, ret_hit);
	}
	return found;
}
