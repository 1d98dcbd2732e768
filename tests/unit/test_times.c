/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Durations: every form of the dialect, refusals, and format followed by parse gives the same. */
#include "daemon/config/times.h"
#include "tests/unit/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>

static void accepted(void **state)
{
	static const struct {
		const char *text;
		int64_t s;
	} cases[] = {
		{"90", 90},
		{" 90 ", 90},
		{"-1", -1},
		{"0", 0},
		{"10m", 600},
		{"1h 30m", 5400},
		{"1h30m", 5400},
		{"1h 30", 3630},
		{"1 h", 3600},
		{"1y 6mo 2w 3d 4h 5m 6s",
		 31557600 + 6 * 2629800 + 1209600 + 259200 + 14400 + 300 + 6},
		{"6 months", 15778800},
		{"1year-6mo", 15778800},
		{"1month", 2629800},
		{"2 weeks", 1209600},
		{"1hour+30min", 5400},
		{"0d 1h 30m", 5400},
		{"1DAY", 86400},
		{"1.5h", 5400},
		{".5h", 1800},
		{"2 * 1h + 5m", 7500},
		{"(1d + 2h) / 2", 46800},
		{"(10+5)m", 900},
		{"60*60", 3600},
		{"24*60*60", 86400},
		{"-(2 + 3)", -5},
		{"1h - 30m", 1800},
		{"7/2", 3},
		{"((1))", 1},
		{"1d12h", 129600},
		{"9007199254740992", INT64_C(9007199254740992)},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t s = -99;

		if (times_parse(slice_str(cases[i].text), &s) || s != cases[i].s)
			fail_msg("'%s' gave %lld", cases[i].text, (long long)s);
	}
}

static void refused(void **state)
{
	static const char *const cases[] = {"",     " ",      "h",    "1x",   "1hh3q",   "1h,",
					    "(1",   "1)",     "1//2", "1/0",  "*2",      "1 +",
					    "ever", "10 m m", "1e5",  "1..2", "0x10",    "one",
					    "--",   "1h;",    "()",   ".",    "1/(2-2)", "\xff"};
	static char deep[200];
	int64_t s;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (times_parse(slice_str(cases[i]), &s) != -EINVAL)
			fail_msg("'%s' was taken", cases[i]);
	assert_int_equal(times_parse(slice_of("1\0", 2), &s), -EINVAL);
	assert_int_equal(times_parse(SLICE("99999999999999999999"), &s), -ERANGE);
	assert_int_equal(times_parse(SLICE("1000000000y"), &s), -ERANGE);
	memset(deep, '(', sizeof deep);
	assert_int_equal(times_parse(slice_of(deep, sizeof deep), &s), -EINVAL);
	memset(deep, '-', sizeof deep);
	assert_int_equal(times_parse(slice_of(deep, sizeof deep), &s), -EINVAL);
}

static void formatted(void **state)
{
	static const struct {
		int64_t s;
		const char *text;
	} cases[] = {
		{0, "0s"},        {59, "59s"},      {3600, "1h"},
		{5400, "1h 30m"}, {-1, "ever"},     {86400, "1d"},
		{2419200, "4w"},  {31557600, "1y"}, {788645, "1w 2d 3h 4m 5s"},
	};
	char buf[TIMES_STRLEN], tiny[4];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_string_equal(times_format(cases[i].s, buf, sizeof buf), cases[i].text);
	times_format(788645, tiny, sizeof tiny);
	assert_int_equal(strlen(tiny), 3);
}

static void there_and_back(void **state)
{
	(void)state;
	random_start("durations");
	for (int i = 0; i < 20000; i++) {
		int64_t s = (int64_t)(random_u64() >> random_below(63) & ((UINT64_C(1) << 53) - 1)),
			back = -1;
		char buf[TIMES_STRLEN];

		assert_int_equal(times_parse(slice_str(times_format(s, buf, sizeof buf)), &back),
				 0);
		if (back != s)
			fail_msg("%lld became '%s' became %lld", (long long)s, buf,
				 (long long)back);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
		cmocka_unit_test(formatted),
		cmocka_unit_test(there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
