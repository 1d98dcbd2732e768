/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ban growth: the rule by a table, the history by a model, its eviction, purge and takeover. */
#include "daemon/jail/growth.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

static struct addr host(uint32_t n)
{
	unsigned char b[4] = {10, (unsigned char)(n >> 16), (unsigned char)(n >> 8),
			      (unsigned char)n};

	return addr_from_ipv4(b);
}

static const double steps[] = {1, 5, 30, 60};

static const struct {
	struct growth_rule rule;
	unsigned count;
	uint32_t random;
	int64_t want;
} cases[] = {
	{{.base_s = 600}, 7, 0, 600}, /* no increment */
	{{.base_s = 600, .increment = true, .factor = 1}, 0, UINT32_MAX, 600},
	{{.base_s = 600, .increment = true, .factor = 1}, 1, 0, 1200},
	{{.base_s = 600, .increment = true, .factor = 1}, 5, 0, 600 * 32},
	{{.base_s = 60, .increment = true, .factor = 1}, 20, 0, 60 << 20},
	{{.base_s = 60, .increment = true, .factor = 1}, 21, 0, 60 << 20}, /* min(count, 20) */
	{{.base_s = 60, .increment = true, .factor = 1}, UINT32_MAX, 0, 60 << 20},
	{{.base_s = 600, .increment = true, .factor = 1.5}, 2, 0, 3600},
	{{.base_s = 600, .increment = true, .factor = 0.001}, 2, 0, 600}, /* never below the base */
	{{.base_s = 600, .increment = true, .factor = -3}, 1, 0, 1200},
	{{.base_s = 600, .increment = true, .factor = 1, .maxtime_s = 7200}, 6, 0, 7200},
	{{.base_s = 600, .increment = true, .factor = 1, .maxtime_s = 300}, 1, 0, 300},
	{{.base_s = 600, .increment = true, .factor = 1, .maxtime_s = 300}, 0, 0, 600},
	/* random time comes after the cap and is never the whole of it */
	{{.base_s = 600, .increment = true, .factor = 1, .maxtime_s = 7200, .rndtime_s = 100},
	 9,
	 UINT32_MAX,
	 7299},
	{{.base_s = 600, .increment = true, .factor = 1, .rndtime_s = 100}, 1, 1u << 31, 1250},
	{{.base_s = 600, .increment = true, .factor = 1, .rndtime_s = 100}, 1, 0, 1200},
	{{600, true, 1, steps, 4, 0, 0}, 0, 0, 600},
	{{600, true, 1, steps, 4, 0, 0}, 1, 0, 3000},
	{{600, true, 1, steps, 4, 0, 0}, 3, 0, 36000},
	{{600, true, 1, steps, 4, 0, 0}, 4, 0, 36000}, /* the last repeats */
	{{600, true, 1, steps, 4, 0, 0}, UINT32_MAX, 0, 36000},
	{{600, true, 0.5, steps, 4, 0, 0}, 2, 0, 9000},
	{{600, true, 1, steps, 0, 0, 0}, 1, 0, 1200}, /* empty list */
	{{.base_s = -1, .increment = true, .factor = 1, .maxtime_s = 5, .rndtime_s = 5}, 3, 9, -1},
	{{.base_s = -7}, 0, 0, -1},
	{{.base_s = INT64_MAX}, 0, 0, GROWTH_MAX_S},
	{{.base_s = INT64_MAX, .increment = true, .factor = 1e300, .rndtime_s = INT64_MAX},
	 UINT32_MAX,
	 UINT32_MAX,
	 GROWTH_MAX_S},
	{{.base_s = 600, .increment = true, .factor = INFINITY}, 1, 0, GROWTH_MAX_S},
	{{.base_s = 600, .increment = true, .factor = INFINITY, .maxtime_s = 900}, 1, 0, 900},
	{{.base_s = 600, .increment = true, .factor = NAN}, 1, 0, 1200},
	{{.base_s = 0, .increment = true, .factor = 1}, 3, 0, 0},
};

static void test_rule(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t got = growth_bantime(&cases[i].rule, cases[i].count, cases[i].random);

		if (got != cases[i].want)
			fail_msg("case %zu: %lld, not %lld", i, (long long)got,
				 (long long)cases[i].want);
	}
}

/* Whatever the numbers: for ever, or between nothing and a hundred years. */
static void test_rule_range(void **state)
{
	(void)state;
	random_start("growth rule");
	for (int i = 0; i < 100000; i++) {
		struct growth_rule g = {
			.base_s = (int64_t)random_u64() >> random_below(64),
			.increment = random_below(4),
			.factor = ldexp((double)(int64_t)random_u64(), -(int)random_below(80)),
			.multipliers = random_below(2) ? steps : NULL,
			.nmultipliers = random_below(5),
			.maxtime_s = (int64_t)random_u64() >> random_below(64),
			.rndtime_s = (int64_t)random_u64() >> random_below(64)};
		int64_t got = growth_bantime(&g, (uint32_t)random_u64() >> random_below(32),
					     (uint32_t)random_u64());

		if (g.base_s < 0)
			assert_int_equal(got, GROWTH_FOREVER_S);
		else
			assert_true(got >= (g.base_s > 0) && got <= GROWTH_MAX_S);
	}
}

struct bench {
	struct growth g;
	void *region;
	size_t bytes;
	uint32_t max;
};

static bool attach(struct bench *b)
{
	bool kept;

	assert_int_equal(growth_attach(&b->g, b->region, b->bytes, b->max, 1000, &kept), 0);
	return kept;
}

static void start(struct bench *b, uint32_t max)
{
	*b = (struct bench){.max = max, .bytes = growth_bytes(max)};
	b->region = aligned_alloc(64, b->bytes);
	assert_non_null(b->region);
	memset(b->region, 0xa5, b->bytes);
	assert_false(attach(b));
}

static void test_history(void **state)
{
	struct bench b;
	struct addr a = host(1), other = host(2);

	(void)state;
	start(&b, 1000);
	assert_int_equal(growth_count(&b.g, &a, 3, 100), 0);
	growth_note(&b.g, &a, 3, 100, 200);
	growth_note(&b.g, &a, 4, 150, 300);
	assert_int_equal(growth_count(&b.g, &a, 3, 200), 1);
	assert_int_equal(growth_count(&b.g, &a, 4, 200), 1);
	assert_int_equal(growth_count(&b.g, &a, GROWTH_ALL_JAILS, 200), 2);
	assert_int_equal(growth_count(&b.g, &other, GROWTH_ALL_JAILS, 200), 0);
	/* dbpurgeage is 1000 s after the end */
	assert_int_equal(growth_count(&b.g, &a, 3, 1200), 1);
	assert_int_equal(growth_count(&b.g, &a, 3, 1201), 0);
	assert_int_equal(growth_purge(&b.g, 1201), 1);
	assert_int_equal(growth_stats(&b.g).tracked, 2);
	/* an outdated record starts again */
	growth_note(&b.g, &a, 4, 5000, 6000);
	assert_int_equal(growth_count(&b.g, &a, GROWTH_ALL_JAILS, 5000), 1);
	growth_note(&b.g, &other, GROWTH_ALL_JAILS, 5000, CLOCK_FOREVER);
	assert_int_equal(growth_purge(&b.g, INT64_MAX), 2);
	assert_int_equal(growth_count(&b.g, &other, GROWTH_ALL_JAILS, INT64_MAX), 1);
	{
		struct bench copy = b;

		copy.region = aligned_alloc(64, b.bytes);
		assert_non_null(copy.region);
		growth_copy(&b.g, copy.region);
		assert_true(attach(&copy));
		assert_int_equal(growth_count(&copy.g, &other, GROWTH_ALL_JAILS, INT64_MAX), 1);
		assert_int_equal(growth_stats(&copy.g).dropped, 0);
		free(copy.region);
	}
	growth_ended(&b.g, &other, 7, 5500);
	assert_int_equal(growth_purge(&b.g, 6500), 0);
	assert_int_equal(growth_purge(&b.g, 6501), 1);
	/* ends that no clock has */
	growth_note(&b.g, &a, 1, 0, INT64_MIN);
	growth_note(&b.g, &a, 1, 0, INT64_MAX - 1);
	assert_int_equal(growth_count(&b.g, &a, 1, 5000), 2);
	free(b.region);
}

static void test_takeover(void **state)
{
	struct bench b;
	bool kept;

	(void)state;
	random_start("growth takeover");
	for (int round = 0; round < 200; round++) {
		uint32_t n = 1 + random_below(900), left = 0;

		start(&b, 16384);
		for (uint32_t i = 0; i < n; i++) {
			struct addr a = host(i);

			for (uint32_t k = 0; k <= i % 3; k++)
				growth_note(&b.g, &a, (uint16_t)(i % 7), 100, 200);
		}
		assert_true(attach(&b));
		assert_int_equal(growth_stats(&b.g).tracked, 2 * n);
		assert_int_equal(growth_stats(&b.g).dropped, 0);
		for (uint32_t i = random_below(60); i > 0; i--)
			((unsigned char *)
				 b.region)[random_below((uint32_t)(i % 5 ? b.bytes : 200))] =
				(unsigned char)random_u64();
		kept = attach(&b);
		for (uint32_t i = 0; i < n; i++) {
			struct addr a = host(i);
			unsigned one = growth_count(&b.g, &a, (uint16_t)(i % 7), 300);
			unsigned all = growth_count(&b.g, &a, GROWTH_ALL_JAILS, 300);

			assert_true(!one || one == i % 3 + 1);
			assert_true(!all || all == i % 3 + 1);
			left += !!one + !!all;
		}
		assert_int_equal(left, growth_stats(&b.g).tracked);
		assert_true(kept || !left);
		free(b.region);
	}
	assert_int_equal(growth_attach(&b.g, NULL, growth_bytes(16384) - 1, 16384, 1, &kept),
			 -ENOSPC);
}

/* Who was banned most often stays; a table that is full says so. */
static void test_full(void **state)
{
	struct bench b;
	unsigned kept = 0;

	(void)state;
	start(&b, 340); /* 512 slots */
	for (uint32_t i = 0; i < 30; i++) {
		struct addr a = host(i);

		for (int k = 0; k < 5; k++)
			growth_note(&b.g, &a, GROWTH_ALL_JAILS, 100, 500);
	}
	for (uint32_t i = 0; i < 20000; i++) {
		struct addr a = host(100000 + i);

		growth_note(&b.g, &a, GROWTH_ALL_JAILS, 100, 600);
	}
	for (uint32_t i = 0; i < 30; i++) {
		struct addr a = host(i);

		kept += growth_count(&b.g, &a, GROWTH_ALL_JAILS, 700) == 5;
	}
	assert_int_equal(kept, 30);
	assert_true(growth_stats(&b.g).evicted > 19000);
	assert_true(growth_stats(&b.g).tracked <= 512);
	free(b.region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule),    cmocka_unit_test(test_rule_range),
		cmocka_unit_test(test_history), cmocka_unit_test(test_takeover),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
