/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dates: formats, zones, daylight saving, years that are not written, datepatterns, random cross
 * checks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "daemon/filter/date.h"

#define NOW INT64_C(1720123456) /* 2024-07-04 20:04:16 UTC */
#define NONE INT64_C(-1)

static void zone(const char *name)
{
	setenv("TZ", name, 1);
	tzset();
}

static struct date *make(const char *pattern)
{
	struct text_at at = {pattern, "d.conf", 5};
	struct error err = {0};
	struct date *d = NULL;

	if (date_new(&at, pattern ? 1 : 0, &d, &err) < 0)
		print_error("%s: %s\n", pattern, err.text);
	assert_non_null(d);
	return d;
}

struct sample {
	const char *line, *cut; /* cut: what is left, NULL = not checked */
	int64_t time_s;
};

static void check(struct date *d, const struct sample *s, int64_t now_s)
{
	struct slice line = slice_str(s->line);
	struct date_hit hit = {0, 0, NONE};
	bool found = date_find(d, line, now_s, &hit);
	char left[256];

	if (!found)
		hit.time_s = NONE;
	if (hit.time_s != s->time_s)
		fail_msg("%s: %lld instead of %lld", s->line, (long long)hit.time_s,
			 (long long)s->time_s);
	if (!found || !s->cut)
		return;
	assert_true(hit.start + hit.n <= line.n);
	snprintf(left, sizeof left, "%.*s%s", (int)hit.start, line.p, line.p + hit.start + hit.n);
	assert_string_equal(left, s->cut);
}

static void check_all(const char *pattern, const struct sample *s, size_t n, int64_t now_s)
{
	struct date *d = make(pattern);

	for (size_t i = 0; i < n; i++)
		check(d, &s[i], now_s);
	date_free(d);
}
#define CHECK(pattern, samples, now)                                                               \
	check_all(pattern, samples, sizeof samples / sizeof *samples, now)

static void test_builtin(void **state)
{
	static const struct sample samples[] = {
		{"192.0.2.7 - - [04/Jul/2024 20:48:52] \"GET", "192.0.2.7 - - [] \"GET",
		 1720126132},
		{"2001:db8:1:2::7 - - [04/Jul/2024 20:48:52] x", "2001:db8:1:2::7 - - [] x",
		 1720126132},
		{"192.0.2.7 - - [04/Jul/2024:20:48:52 +0200] x", "192.0.2.7 - - [] x", 1720118932},
		{"192.0.2.7 - - [4/jul/2024:20:48:52.123 +02:00] x", "192.0.2.7 - - [] x",
		 1720118932},
		{"[04-JUL-2024 20:48:52] x", "[] x", 1720126132},
		{"a [04/Jul/2024 20:48:52", "a [", 1720126132},
		{"2024-07-04 20:48:52 x", " x", 1720126132},
		{"2024-07-04T20:48:52Z x", " x", 1720126132},
		{"2024-07-04T20:48:52.123456789Z x", " x", 1720126132},
		{"2024-07-04T20:48:52+02:00 x", " x", 1720118932},
		{"2024-07-04T20:48:52-0330 x", " x", 1720138732},
		{"2024-07-04 20:48:52,168 GMT x", " x", 1720126132},
		{"[2024-07-04 20:48:52 +0000] [5162]", "[] [5162]", 1720126132},
		{"2024/07/04 20:48:52 [error]", " [error]", 1720126132},
		{"x 2024.07.04 20:48:52 - y", "x  - y", 1720126132},
		{"2024-07-04 20:48:52 Zurich", " Zurich", 1720126132},
		{"2024-07-04 20:48:52 -1 x", " -1 x", 1720126132},
		{"Jul  4 20:48:52 host sshd[1]: x", " host sshd[1]: x", NONE},
		{"Jul  4 19:48:52 host sshd[1]: x", " host sshd[1]: x", 1720122532},
		{"Jul 4 19:48:52.123 host x", " host x", 1720122532},
		{"Thu Jul  4 19:48:52 2024] x", "] x", 1720122532},
		{"[Thu Jul 04 19:48:52.123456 2019] x", "[] x", 1562269732},
		{"Jul  4 19:48:52 2024x", " 2024x", 1720122532},
		{"Jun 23 21:59:59 x", " x", 1719179999},
		{"1720118932 x", " x", 1720118932},
		{"1720118932.5 x", " x", 1720118932},
		{"[1720118932.123456] x", "[] x", 1720118932},
		{"type=AUTH msg=audit(1720118932.123:7): x", "type=AUTH msg=audit(:7): x",
		 1720118932},
		{"x [1720118932] y", "x [] y", 1720118932},
		{"9246182399 x", " x", 9246182399},
		{"9246182400 x", NULL, NONE},
		{"99999999999 x", NULL, NONE},
		{"1720118932x", NULL, NONE},
		{"172011893 x", NULL, NONE},
		{"172011893200 x", NULL, NONE},
		{"x 1720118932 y", NULL, NONE},
		{"[1720118932 x]", "[ x]", 1720118932},
		{"x [1720118932 y]", NULL, NONE},
		{"", NULL, NONE},
		{"no date at all", NULL, NONE},
		{"a:b:c 1:2:3 ::::", NULL, NONE},
		{":", NULL, NONE},
		{"04/Jul/2024", NULL, NONE},
		{"20:48:52", NULL, NONE},
	};

	(void)state;
	zone("UTC0");
	/* The 18th line is later than now by less than a day, so it is this year's. */
	for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
		struct sample s = samples[i];
		struct date *d = make(NULL);

		if (strcmp(s.line, "Jul  4 20:48:52 host sshd[1]: x") == 0)
			s.time_s = 1720126132;
		check(d, &s, NOW);
		date_free(d);
	}
}

static void test_no_such_date(void **state)
{
	static const struct sample samples[] = {
		{"[31/Feb/2024 20:48:52]", NULL, NONE},
		{"[30/Feb/2024 20:48:52]", NULL, NONE},
		{"[29/Feb/2023 20:48:52]", NULL, NONE},
		{"[29/Feb/2100 20:48:52]", NULL, NONE},
		{"[00/Jul/2024 20:48:52]", NULL, NONE},
		{"[32/Jul/2024 20:48:52]", NULL, NONE},
		{"[31/Jun/2024 20:48:52]", NULL, NONE},
		{"[04/Jul/2024 25:48:52]", NULL, NONE},
		{"[04/Jul/2024 24:00:00]", NULL, NONE},
		{"[04/Jul/2024 20:60:52]", NULL, NONE},
		{"[04/Jul/2024 20:48:61]", NULL, NONE},
		{"[04/Jux/2024 20:48:52]", NULL, NONE},
		{"[04/Jul/1969 20:48:52]", NULL, NONE},
		{"[04/Jul/2263 20:48:52]", NULL, NONE},
		{"[04/Jul/0000 20:48:52]", NULL, NONE},
		{"[04/Jul/9999 20:48:52]", NULL, NONE},
		{"[04/Jul/20245 20:48:52]", NULL, NONE},
		{"[104/Jul/2024 20:48:52]", NULL, NONE},
		{"[04/Jul/2024 20:48:523]", NULL, NONE},
		{"x04/Jul/2024 20:48:52", NULL, NONE},
		{"2024-13-04 20:48:52", NULL, NONE},
		{"2024-00-04 20:48:52", NULL, NONE},
		{"12024-07-04 20:48:52", NULL, NONE},
		{"2024-02-30T20:48:52Z", NULL, NONE},
		{"1970-01-01T00:30:00+02:00", NULL, NONE},
		{"Feb 30 20:48:52 x", NULL, NONE},
		{"[04/Jul/2024 20:48:60]", "[]", 1720126140},
		{"[29/Feb/2024 20:48:52]", "[]", 1709239732},
		{"[29/Feb/2000 00:00:00]", "[]", 951782400},
		{"1970-01-01T00:00:00Z", "", 0},
		{"2262-12-31T23:59:59Z", "", 9246182399},
		{"2038-01-19T03:14:08Z", "", 2147483648},
		{"2024-07-04T20:48:52+15:00 x", " x", 1720072132},
		{"2024-07-04T20:48:52+16:00", "+16:00", 1720126132},
	};

	(void)state;
	zone("UTC0");
	CHECK(NULL, samples, NOW);
}

/* What a client sends stands behind the date of the line and cannot move it. */
static void test_leftmost(void **state)
{
	static const struct sample samples[] = {
		{"192.0.2.7 - - [04/Jul/2024 20:48:52] \"10.0.0.1 - - [05/Jul/2025 01:02:03] x",
		 "192.0.2.7 - - [] \"10.0.0.1 - - [05/Jul/2025 01:02:03] x", 1720126132},
		{"192.0.2.7 - - [04/Jul/2024 20:48:52] \"2023-01-01T00:00:00Z [1720118932]", NULL,
		 1720126132},
		{"Jul  4 19:48:52 h: 2023-01-01T00:00:00Z [1/Jan/2020:00:00:00]", NULL, 1720122532},
		{"2024-07-04 20:48:52 [1/Jan/2020:00:00:00] Jan 1 00:00:00", NULL, 1720126132},
		{"1720118932 [04/Jul/2024 20:48:52]", " [04/Jul/2024 20:48:52]", 1720118932},
	};
	struct sample far = {NULL, NULL, NONE};
	struct date *d = make(NULL);
	char line[DATE_SEARCH_MAX + 64];

	(void)state;
	zone("UTC0");
	CHECK(NULL, samples, NOW);
	memset(line, '.', sizeof line);
	snprintf(line + DATE_SEARCH_MAX - 1, 40, "04/Jul/2024 20:48:52");
	far.line = line;
	far.time_s = 1720126132;
	check(d, &far, NOW);
	line[DATE_SEARCH_MAX - 1] = '.';
	snprintf(line + DATE_SEARCH_MAX, 40, "04/Jul/2024 20:48:52");
	far.time_s = NONE;
	check(d, &far, NOW);
	date_free(d);
}

static void test_daylight_saving(void **state)
{
	static const struct sample samples[] = {
		{"[04/Jul/2024 20:48:52]", "[]", 1720118932},
		{"[04/Jan/2024 20:48:52]", "[]", 1704397732},
		{"[31/Mar/2024 01:59:59]", "[]", 1711846799},
		{"[31/Mar/2024 03:00:00]", "[]", 1711846800},
		{"[27/Oct/2024 01:59:59]", "[]", 1729987199},
		{"[27/Oct/2024 03:00:00]", "[]", 1729994400},
		{"[27/Oct/2024 02:30:00 +0200]", "[]", 1729989000},
		{"[27/Oct/2024 02:30:00 +0100]", "[]", 1729992600},
		{"[27/Oct/2024 02:30:00]", "[]", 1729989000}, /* occurs twice: the first */
		{"[31/Mar/2024 02:30:00]", "[]",
		 1711848600}, /* left out: as if 01:30 and an hour */
	};
	static const struct sample half[] = {
		{"[07/Apr/2024 01:45:00]", "[]",
		 1712414700}, /* Lord Howe goes back from 02:00 to 01:30 */
		{"[07/Apr/2024 01:15:00]", "[]", 1712412900},
		{"[07/Apr/2024 02:00:00]", "[]", 1712417400},
	};

	(void)state;
	zone("Europe/Zurich");
	CHECK(NULL, samples, NOW);
	zone("Australia/Lord_Howe");
	CHECK(NULL, half, NOW);
	zone("UTC0");
}

static void test_years(void **state)
{
	static const struct {
		const char *line;
		int64_t now_s, time_s;
	} cases[] = {
		{"Dec 31 23:59:58 x", 1735689605, 1735689598}, /* now 2025-01-01 00:00:05 */
		{"Jan  1 00:00:07 x", 1735689605, 1735689607},
		{"Jan  1 00:00:01 x", 1735689599,
		 1735689601}, /* now 2024-12-31 23:59:59: a clock ahead */
		{"Jan  2 00:00:01 x", 1735689599,
		 1704153601}, /* more than a day ahead: this year's */
		{"Jan  2 00:00:05 x", 1735689605, 1735776005}, /* exactly a day */
		{"Jan  2 00:00:06 x", 1735689605, 1704153606},
		{"Feb 29 12:00:00 x", 1735689605, 1709208000}, /* not in 2025, so 2024 */
		{"Feb 29 12:00:00 x", 1709208000, 1709208000},
		{"Feb 29 12:00:00 x", 1804000000, NONE}, /* 2027: not within two years */
		{"Jan  1 00:00:00 x", 0, 0},
		{"Jul  4 00:00:00 x", 0, NONE},
		{"Jul  4 00:00:00 x", -5, NONE},
		{"Jul  4 00:00:00 x", INT64_MAX, 9199008000},
	};
	struct date *d = make(NULL);

	(void)state;
	zone("UTC0");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sample s = {cases[i].line, NULL, cases[i].time_s};

		check(d, &s, cases[i].now_s);
	}
	date_free(d);
}

static void one(const char *pattern, const char *line, const char *cut, int64_t time_s)
{
	struct sample s = {line, cut, time_s};
	struct date *d = make(pattern);

	check(d, &s, NOW);
	date_free(d);
}

static void test_datepatterns(void **state)
{
	(void)state;
	zone("UTC0");
	one("%Y-%m-%d %H:%M:%S", "a 2024-07-04 20:48:52 b", "a  b", 1720126132);
	one("%Y-%m-%d %H:%M:%S", "a 2024-07-04   20:48:52 b", "a  b", 1720126132);
	one("^%Y-%m-%d %H:%M:%S", "a 2024-07-04 20:48:52 b", NULL, NONE);
	one("^%Y-%m-%d %H:%M:%S", "2024-07-04 20:48:52 b", " b", 1720126132);
	one("{^LN-BEG}%Y-%m-%d %H:%M:%S", "[[2024-07-04 20:48:52] b", "[[] b", 1720126132);
	one("{^LN-BEG}%Y-%m-%d %H:%M:%S", "[[[2024-07-04 20:48:52] b", NULL, NONE);
	one("{^LN-BEG}%Y-%m-%d %H:%M:%S", "a 2024-07-04 20:48:52] b", NULL, NONE);
	one("{^LN-BEG}%Y-%m-%d %H:%M:%S", "a2024-07-04 20:48:52] b", NULL, NONE);
	one("\\[%d/%b/%Y %H:%M:%S %z\\]", "x [04/Jul/2024 20:48:52 +0200] b", "x  b", 1720118932);
	one("%ExY%Exm%ExdT%ExH%ExM%ExS", "x 20240704T204852 b", "x  b", 1720126132);
	one("%ExY%Exm%ExdT%ExH%ExM%ExS", "x 2024704T204852 b", NULL, NONE);
	one("^%y%m%d %k:%M:%S", "240704 20:48:52 x", " x", 1720126132);
	one("^%y%m%d %k:%M:%S", "240704  8:48:52 x", " x", 1720082932);
	one("^%y%m%d %k:%M:%S", "990704 20:48:52 x", " x", 931121332);
	one("%b %d, %ExY %l:%M:%S %p", "x Jul 4, 2024  8:48:52 PM y", "x  y", 1720126132);
	one("%b %d, %ExY %l:%M:%S %p", "x Jul 4, 2024 12:48:52 am y", "x  y", 1720054132);
	one("%d/%m/%Y %H:%M:%S %Z", "04/07/2024 20:48:52 UTC x", " x", 1720126132);
	one("%H:%M:%S", "at 20:04:16 x", "at  x", 1720123456);
	one("%H:%M:%S", "at 20:04:17 x", "at  x", 1720037057);
	one("^%H:%M", "20:04 x", " x", 1720123440);
	one("EPOCH", "1720118932 x", " x", 1720118932);
	one("EPOCH", "04/Jul/2024 20:48:52 x", NULL, NONE);
	one("{^LN-BEG}EPOCH", "[1720118932] x", "[] x", 1720118932);
	one("{^LN-BEG}EPOCH", "x [1720118932] x", NULL, NONE);
	one("\"time\":{EPOCH}", "{\"time\":1720118932.25,", "{,", 1720118932);
	one("{NONE}", "[04/Jul/2024 20:48:52]", NULL, NONE);
	one("%d/%b/%Y(?:[T ]%H:%M)?", "04/Jul/2024 20:48 x", " x", 1720126080);
	one("%d/%b/%Y(?:[T ]%H:%M)?", "04/Jul/2024 20 x", " 20 x", 1720051200);
	one("%d/%b/%Y %H:%M:%S%%", "04/Jul/2024 20:48:52% x", " x", 1720126132);
	one("%d-%m-%Y,? %H:%M", "04-07-2024, 20:48 x", " x", 1720126080);
}

/* The time zone's names: UTC's are known, all others mean local time. */
static void test_zone_names(void **state)
{
	(void)state;
	zone("Europe/Zurich");
	one("%Y-%m-%d %H:%M:%S %Z", "2024-07-04 20:48:52 CEST x", " x", 1720118932);
	one("%Y-%m-%d %H:%M:%S %Z", "2024-07-04 20:48:52 UTC x", " x", 1720126132);
	one("%Y-%m-%d %H:%M:%S %Z", "2024-07-04 20:48:52 Z x", " x", 1720126132);
	one("%Y-%m-%d %H:%M:%S %Z", "2024-07-04 20:48:52 UTCX x", " x", 1720118932);
	one("%Y-%m-%d %H:%M:%S %Z", "2024-07-04 20:48:52 ABCDEF x", NULL, NONE);
	zone("UTC0");
}

static void test_two_patterns(void **state)
{
	static const struct text_at patterns[] = {
		{"%Y-%m-%d %H:%M:%S", "d", 1}, {"EPOCH", "d", 2}, {"{NONE}", "d", 3}};
	struct date_hit hit;
	struct date *d;

	(void)state;
	zone("UTC0");
	assert_int_equal(date_new(patterns, 3, &d, NULL), 0);
	assert_true(date_find(d, SLICE("1720118932 2024-07-04 20:48:52"), NOW, &hit));
	assert_int_equal(hit.time_s, 1720118932);
	assert_true(date_find(d, SLICE("x 2024-07-04 20:48:52 [1720118932]"), NOW, &hit));
	assert_int_equal(hit.time_s, 1720126132);
	date_free(d);
}

static void test_refused(void **state)
{
	static const struct {
		const char *pattern, *part;
	} cases[] = {
		{"%Q", "'%Q'"},
		{"%Y-%m-%d %H:%M:%S.*", "'.*'"},
		{"%ExQ", "'%ExQ'"},
		{"{DATE} x", "'{DATE}'"},
		{"{UNB}%Y-%m-%d", "'{UNB}'"},
		{"LEPOCH", "'LEPOCH'"},
		{"TAI64N", "'TAI64N'"},
		{"%Y-%m-%d\\s%H", "'\\s'"},
		{"(a|b)%Y", "'(a|b)%Y'"},
		{"%H:%M[0-9]", "'[0-9]'"},
		{"%H:%M[^a]", "'[^a]'"},
		{"%H:%M[abc", "'[abc'"},
		{"%H:%M:%S(?:%f", "without )?"},
		{"%H:%M)?x", "')?'"},
		{"%H:%M:%S$", "'$'"},
		{"%Y", "names no time"},
		{"%d %H:%M", "names no time"},
		{"abc", "names no time"},
		{"", "names no time"},
		{"%", "'%'"},
		{"%H\\", "'\\'"},
		{"%H**", "'**'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct text_at at = {cases[i].pattern, "d.conf", 5};
		struct error err = {0};
		struct date *d = NULL;

		assert_int_equal(date_new(&at, 1, &d, &err), ERROR_CONFIG);
		if (!strstr(err.text, cases[i].part))
			fail_msg("%s: %s", cases[i].pattern, err.text);
		assert_string_equal(err.file, "d.conf");
		assert_int_equal(err.line, 5);
	}
}

/* What the finder remembers of the lines before must not change a result. */
static void test_memory(void **state)
{
	static const char *const pieces[] = {"[04/Jul/2024 20:48:52]",
					     "04/Jul/2024 20:48:52",
					     "[",
					     "]",
					     " ",
					     "Thu ",
					     "1",
					     ":",
					     "Jul  4 20:48:52",
					     "2024-07-04 20:48:52",
					     "[1720118932]",
					     " +0200",
					     "x",
					     "(",
					     ")",
					     "27/Oct/2024 02:30:00",
					     "\"",
					     ".123"};
	unsigned seed = (unsigned)time(NULL);
	struct date *old;

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	zone("Europe/Zurich");
	old = make(NULL);
	for (int round = 0; round < 50000; round++) {
		struct date *fresh = make(NULL);
		struct date_hit a = {0}, b = {0};
		char line[256] = "";

		for (long k = 2 + random() % 5; k > 0; k--)
			strcat(line, pieces[(size_t)random() % (sizeof pieces / sizeof *pieces)]);
		if (date_find(old, slice_str(line), NOW, &a) !=
			    date_find(fresh, slice_str(line), NOW, &b) ||
		    a.start != b.start || a.n != b.n || a.time_s != b.time_s)
			fail_msg("%s: %zu+%zu %lld, fresh %zu+%zu %lld", line, a.start, a.n,
				 (long long)a.time_s, b.start, b.n, (long long)b.time_s);
		date_free(fresh);
	}
	date_free(old);
	zone("UTC0");
}

/* strftime's formats are table entries here. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

/* Random times, written by strftime and read back, against mktime's own word. */
static void cross_check(const char *format, const char *tz, unsigned seed)
{
	struct date *d;

	zone(tz);
	d = make(NULL);
	srandom(seed);
	for (int i = 0; i < 20000; i++) {
		time_t t = (time_t)(((int64_t)random() << 2 | (random() & 3)) % 4000000000 + 86400);
		struct date_hit hit;
		char text[128], again[128];
		struct tm tm, back;
		size_t n;

		localtime_r(&t, &tm);
		n = strftime(text, sizeof text, format, &tm);
		memset(&back, 0, sizeof back);
		assert_non_null(strptime(text, format, &back));
		back.tm_isdst = -1;
		if (!date_find(d, slice_of(text, n), NOW, &hit))
			fail_msg("no date in %s", text);
		if (hit.time_s == t || (!strstr(format, "%z") && hit.time_s == mktime(&back)))
			continue;
		/* An hour that occurs twice: the same on the wall clock is right. */
		t = (time_t)hit.time_s;
		localtime_r(&t, &tm);
		strftime(again, sizeof again, format, &tm);
		if (strcmp(again, text) != 0)
			fail_msg("%s in %s: %lld", text, tz, (long long)hit.time_s);
	}
	date_free(d);
}

static void test_random(void **state)
{
	static const char *const zones[] = {"Europe/Zurich",
					    "America/New_York",
					    "Australia/Lord_Howe",
					    "Asia/Kathmandu",
					    "UTC0",
					    "<-03>3"};
	unsigned seed = (unsigned)time(NULL);

	(void)state;
	print_message("seed %u\n", seed);
	for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
		cross_check("[%d/%b/%Y %H:%M:%S] x", zones[i], seed);
		cross_check("%Y-%m-%dT%H:%M:%S%z", zones[i], seed);
		cross_check("%a %b %e %H:%M:%S %Y", zones[i], seed);
	}
	zone("UTC0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_builtin),    cmocka_unit_test(test_no_such_date),
		cmocka_unit_test(test_leftmost),   cmocka_unit_test(test_daylight_saving),
		cmocka_unit_test(test_years),      cmocka_unit_test(test_datepatterns),
		cmocka_unit_test(test_zone_names), cmocka_unit_test(test_two_patterns),
		cmocka_unit_test(test_refused),    cmocka_unit_test(test_random),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
