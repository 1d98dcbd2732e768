/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of each address: counting, forgetting, a full table. */
#include "daemon/jail/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct addr host(const char *text)
{
	struct addr a = {0};

	assert_int_equal(addr_parse(slice_str(text), &a), 0);
	return a;
}

static struct addr numbered(uint32_t n)
{
	const uint8_t bytes[4] = {10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

	return addr_from_ipv4(bytes);
}

static void test_counts(void **state)
{
	struct tally *t = tally_new(1000);
	struct addr a = host("192.0.2.1"), b = host("192.0.2.2");

	(void)state;
	assert_non_null(t);
	for (int i = 0; i < 5; i++)
		tally_line(t, &a, false, 1000 + i);
	tally_line(t, &b, false, 1000);
	assert_int_equal(tally_of(t, &a, 0, 1010).lines, 5);
	assert_int_equal(tally_of(t, &b, 0, 1010).lines, 1);
	b = host("192.0.2.3");
	assert_int_equal(tally_of(t, &b, 0, 1010).lines, 0);
	tally_free(t);
}

/* Whatever lies between the two lines of one bad request. */
static void test_two_lines_are_one(void **state)
{
	struct tally *t = tally_new(1000);
	struct addr a = host("192.0.2.1");

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_false(tally_owed(t, &a, 1000));
		tally_line(t, &a, false, 1000);
		tally_owe(t, &a, 1000);
		assert_true(tally_owed(t, &a, 1000));
		tally_line(t, &a, true, 1000);
	}
	assert_int_equal(tally_of(t, &a, 0, 1000).lines, 2);
	tally_line(t, &a, true, 1000); /* nothing is owed: a line like any other */
	assert_int_equal(tally_of(t, &a, 0, 1000).lines, 3);
	tally_free(t);
}

static void test_disputed_are_remembered(void **state)
{
	struct tally *t = tally_new(1000);
	struct addr a = host("192.0.2.1");

	(void)state;
	tally_line(t, &a, false, 1000);
	assert_int_equal(tally_dispute(t, &a, 0, 2, 1000), 2);
	assert_int_equal(tally_dispute(t, &a, 0, 2, 1001), 4);
	assert_int_equal(tally_of(t, &a, 0, 1001).disputed, 4);
	assert_int_equal(tally_of(t, &a, 1, 1001).disputed, 0);
	assert_int_equal(tally_of(t, &a, 0, 1001).lines, 1);
	tally_free(t);
}

/* As long as the record in the kernel does: after its last connection. */
static void test_forgotten(void **state)
{
	struct tally *t = tally_new(1000);
	struct addr a = host("192.0.2.1");

	(void)state;
	tally_line(t, &a, false, 1000);
	tally_line(t, &a, false, 1000 + TALLY_KEEP_S);
	assert_int_equal(tally_of(t, &a, 0, 1000 + 2 * TALLY_KEEP_S).lines, 2);
	assert_int_equal(tally_of(t, &a, 0, 1001 + 2 * TALLY_KEEP_S).lines, 0);
	tally_line(t, &a, false, 1001 + 2 * TALLY_KEEP_S);
	assert_int_equal(tally_of(t, &a, 0, 1001 + 2 * TALLY_KEEP_S).lines, 1);
	tally_free(t);
}

static void test_a_customer_is_one(void **state)
{
	struct tally *t = tally_new(1000);
	struct addr a = host("2001:db8:1:2::1"), b = host("2001:db8:1:2:ffff::9"),
		    c = host("2001:db8:1:3::1");

	(void)state;
	tally_line(t, &a, false, 1000);
	tally_line(t, &b, false, 1000);
	assert_int_equal(tally_of(t, &a, 0, 1000).lines, 2);
	assert_int_equal(tally_of(t, &c, 0, 1000).lines, 0);
	tally_free(t);
}

/* Forged names by the thousand do not push out who is really there. */
static void test_full(void **state)
{
	struct tally *t = tally_new(256);
	struct addr busy = host("192.0.2.1");

	(void)state;
	for (int i = 0; i < 100; i++)
		tally_line(t, &busy, false, 1000);
	for (uint32_t n = 0; n < 100000; n++) {
		struct addr a = numbered(n);

		tally_line(t, &a, false, 1000);
	}
	assert_int_equal(tally_of(t, &busy, 0, 1000).lines, 100);
	assert_true(tally_evicted(t) > 99000);
	tally_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_two_lines_are_one),
		cmocka_unit_test(test_disputed_are_remembered),
		cmocka_unit_test(test_forgotten),
		cmocka_unit_test(test_a_customer_is_one),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
