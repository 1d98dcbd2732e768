/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slices: ends, NULs, empty ones, numbers at their limits. */
#include "daemon/base/slice.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

static void test_parts(void **state)
{
	struct slice a = SLICE("a\0b:c");

	(void)state;
	assert_int_equal(a.n, 5);
	assert_int_equal(slice_find(a, ':'), 3);
	assert_int_equal(slice_find(a, 0), 1);
	assert_int_equal(slice_find(a, 'x'), 5);
	assert_int_equal(slice_find(SLICE_NONE, 'x'), 0);
	assert_true(slice_eq(slice_skip(a, 4), SLICE("c")));
	assert_int_equal(slice_skip(a, 99).n, 0);
	assert_int_equal(slice_skip(SLICE_NONE, 3).n, 0);
	assert_true(slice_eq(slice_head(a, 3), SLICE("a\0b")));
	assert_true(slice_eq(slice_head(a, 99), a));
	assert_true(slice_starts(a, SLICE("a\0")));
	assert_true(slice_starts(a, SLICE_NONE));
	assert_false(slice_starts(SLICE("a"), a));
	assert_true(slice_eq(SLICE_NONE, SLICE("")));
	assert_false(slice_eq_str(a, "a"));
	assert_int_equal(slice_str(NULL).n, 0);
}

static void test_trim(void **state)
{
	(void)state;
	assert_true(slice_eq(slice_trim(SLICE(" \t\r\n\v\fa b \n")), SLICE("a b")));
	assert_int_equal(slice_trim(SLICE(" \n ")).n, 0);
	assert_int_equal(slice_trim(SLICE_NONE).n, 0);
	assert_int_equal(slice_trim(SLICE("\0")).n, 1); /* NUL is no blank */
	assert_int_equal(slice_trim(SLICE("\x85\xa0")).n, 2);
}

static void test_next(void **state)
{
	struct slice rest = SLICE("a,b;;c\0,"), field;

	(void)state;
	assert_true(slice_next(&rest, ",;", &field) && slice_eq_str(field, "a"));
	assert_true(slice_next(&rest, ",;", &field) && slice_eq_str(field, "b"));
	assert_true(slice_next(&rest, ",;", &field) && field.n == 0);
	assert_true(slice_next(&rest, ",;", &field) && slice_eq(field, SLICE("c\0")));
	assert_true(slice_next(&rest, ",;", &field) &&
		    field.n == 0); /* behind the last separator */
	assert_false(slice_next(&rest, ",;", &field));
	rest = SLICE("");
	assert_true(slice_next(&rest, ",", &field) && field.n == 0);
	assert_false(slice_next(&rest, ",", &field));
	rest = SLICE_NONE;
	assert_false(slice_next(&rest, ",", &field));
}

static void test_word(void **state)
{
	struct slice rest = SLICE(" , one,two\n\tthree ,"), word;

	(void)state;
	assert_true(slice_word(&rest, &word) && slice_eq_str(word, "one"));
	assert_true(slice_word(&rest, &word) && slice_eq_str(word, "two"));
	assert_true(slice_word(&rest, &word) && slice_eq_str(word, "three"));
	assert_false(slice_word(&rest, &word));
	assert_false(slice_word(&rest, &word));
	rest = SLICE_NONE;
	assert_false(slice_word(&rest, &word));
}

static void test_numbers(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_int_equal(slice_u64(SLICE("0"), 0, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(slice_u64(SLICE("007"), 9, &v), 0);
	assert_int_equal(v, 7);
	assert_int_equal(slice_u64(SLICE("18446744073709551615"), UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(slice_u64(SLICE("18446744073709551616"), UINT64_MAX, &v), -ERANGE);
	assert_int_equal(slice_u64(SLICE("99999999999999999999999"), UINT64_MAX, &v), -ERANGE);
	assert_int_equal(slice_u64(SLICE("10"), 9, &v), -ERANGE);
	assert_int_equal(slice_u64(SLICE(""), 9, &v), -EINVAL);
	assert_int_equal(slice_u64(SLICE("-1"), 9, &v), -EINVAL);
	assert_int_equal(slice_u64(SLICE("+1"), 9, &v), -EINVAL);
	assert_int_equal(slice_u64(SLICE(" 1"), 9, &v), -EINVAL);
	assert_int_equal(slice_u64(SLICE("1\0"), 9, &v), -EINVAL);
	assert_int_equal(slice_u64(SLICE("1\xb2"), 99, &v), -EINVAL);
	assert_true(v == UINT64_MAX); /* untouched on failure */
}

/* Fields and separators together are the input again. */
static void test_next_random(void **state)
{
	(void)state;
	random_start("slice_next");
	for (int round = 0; round < 20000; round++) {
		size_t n = random_below(30), fields = 0, bytes = 0, separators = 0;
		char *text = malloc(n + 1);
		struct slice rest, field;

		for (size_t i = 0; i < n; i++) {
			text[i] = "a\0,;\xff"[random_below(5)];
			separators += text[i] == ',' || text[i] == ';';
		}
		rest = slice_of(text, n);
		while (slice_next(&rest, ",;", &field)) {
			assert_int_equal(slice_find(field, ','), field.n);
			bytes += field.n;
			fields++;
		}
		assert_int_equal(fields, separators + 1);
		assert_int_equal(bytes + separators, n);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),   cmocka_unit_test(test_trim),
		cmocka_unit_test(test_next),    cmocka_unit_test(test_word),
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_next_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
