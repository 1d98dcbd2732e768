/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger against a naive model, its eviction rule, its growth and its takeovers. */
#include "daemon/jail/ledger.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/random.h"

#define MEMORY (UINT64_C(64) << 20)

static struct addr host(uint32_t n)
{
	unsigned char b[4] = {10, (unsigned char)(n >> 16), (unsigned char)(n >> 8),
			      (unsigned char)n};

	return addr_from_ipv4(b);
}

static void *region_new(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

	assert_non_null(p);
	for (size_t i = 0; i < bytes; i++)
		((unsigned char *)p)[i] = (unsigned char)random_u64();
	return p;
}

struct bench {
	struct ledger ledger;
	struct ledger_rule rules[4];
	size_t n, bytes;
	uint32_t maxtracked;
	uint64_t memory;
	void *region;
};

static bool attach(struct bench *b)
{
	bool kept;

	assert_int_equal(ledger_attach(&b->ledger, b->region, b->bytes, b->rules, b->n,
				       b->maxtracked, b->memory, &kept),
			 0);
	return kept;
}

/* One rule in a region full of rubbish: formatting must not believe it. */
static void start(struct bench *b, struct ledger_rule rule, uint32_t maxtracked)
{
	*b = (struct bench){.rules = {rule}, .n = 1, .maxtracked = maxtracked, .memory = MEMORY};
	b->bytes = ledger_bytes(b->rules, b->n, maxtracked, b->memory);
	b->region = region_new(b->bytes);
	assert_false(attach(b));
}

static void stop(struct bench *b)
{
	ledger_detach(&b->ledger);
	free(b->region);
}

static unsigned add(struct bench *b, struct addr who, int64_t time_s, enum ledger_result want)
{
	unsigned count;

	assert_int_equal(ledger_add(&b->ledger, 0, &who, time_s, 0, &count), want);
	return count;
}

static void test_window(void **state)
{
	struct bench b;
	struct addr a = host(1);

	(void)state;
	start(&b, (struct ledger_rule){.maxretry = 3, .findtime_s = 10}, 100);
	assert_int_equal(add(&b, a, 100, LEDGER_COUNTED), 1);
	assert_int_equal(add(&b, a, 109, LEDGER_COUNTED), 2);
	assert_int_equal(ledger_count(&b.ledger, 0, &a, 109), 2);
	assert_int_equal(ledger_count(&b.ledger, 0, &a, 110), 1); /* 100 lies on the open end */
	assert_int_equal(add(&b, a, 110, LEDGER_COUNTED), 2);
	assert_int_equal(add(&b, a, 100, LEDGER_OLD), 2);
	assert_int_equal(add(&b, a, 101, LEDGER_REACHED), 3);
	assert_int_equal(ledger_count(&b.ledger, 0, &a, 110), 0);
	assert_int_equal(add(&b, a, 50, LEDGER_COUNTED), 1); /* afresh */
	assert_int_equal(add(&b, a, 50, LEDGER_COUNTED), 2);
	assert_int_equal(add(&b, a, 50, LEDGER_REACHED), 3); /* all in one second */
	stop(&b);
}

static void test_distinct(void **state)
{
	struct bench b;
	struct addr a = host(1);
	unsigned count;

	(void)state;
	start(&b, (struct ledger_rule){.maxretry = 3, .findtime_s = 10, .distinct = true}, 100);
	assert_int_equal(ledger_add(&b.ledger, 0, &a, 100, 7, &count), LEDGER_COUNTED);
	assert_int_equal(ledger_add(&b.ledger, 0, &a, 101, 7, &count), LEDGER_REPEATED);
	assert_int_equal(count, 1);
	assert_int_equal(ledger_add(&b.ledger, 0, &a, 102, 0, &count), LEDGER_COUNTED);
	/* 7 was last seen at 109, so it still counts at 111 where 100 is out */
	assert_int_equal(ledger_add(&b.ledger, 0, &a, 109, 7, &count), LEDGER_REPEATED);
	assert_int_equal(ledger_add(&b.ledger, 0, &a, 111, 8, &count), LEDGER_REACHED);
	assert_int_equal(count, 3);
	stop(&b);
}

static void test_limits(void **state)
{
	struct bench b;
	struct ledger_rule bad[] = {{.maxretry = 0, .findtime_s = 1},
				    {.maxretry = LEDGER_MAXRETRY_MAX + 1, .findtime_s = 1},
				    {.maxretry = 1, .findtime_s = 0}};
	struct addr a = host(1);

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ledger_bytes(&bad[i], 1, 100, MEMORY), 0);
	start(&b, (struct ledger_rule){.maxretry = 1, .findtime_s = 10}, 100);
	assert_int_equal(add(&b, a, 100, LEDGER_REACHED), 1);
	assert_int_equal(add(&b, a, -1, LEDGER_OLD), 0);
	assert_int_equal(add(&b, a, INT64_MAX, LEDGER_OLD), 0);
	assert_int_equal(add(&b, a, INT64_MIN, LEDGER_OLD), 0);
	assert_int_equal(ledger_stats(&b.ledger).refused, 3);
	assert_int_equal(ledger_attach(&b.ledger, b.region, b.bytes - 1, b.rules, 1, 100, MEMORY,
				       &(bool){false}),
			 -ENOSPC);
	assert_int_equal(
		ledger_attach(&b.ledger, b.region, b.bytes, bad, 1, 100, MEMORY, &(bool){false}),
		-EINVAL);
	stop(&b);
	/* a findtime longer than all time, and times at both ends of it */
	start(&b, (struct ledger_rule){.maxretry = 3, .findtime_s = INT64_MAX / 2}, 100);
	add(&b, a, 0, LEDGER_COUNTED);
	add(&b, a, UINT32_MAX, LEDGER_COUNTED);
	add(&b, a, 1, LEDGER_REACHED);
	stop(&b);
}

static void test_most_retries(void **state)
{
	struct bench b;
	struct addr a = host(1);

	(void)state;
	for (int distinct = 0; distinct < 2; distinct++) {
		start(&b,
		      (struct ledger_rule){
			      .maxretry = 1000, .findtime_s = 5000, .distinct = distinct},
		      10);
		for (uint32_t i = 0; i < 1999; i++) {
			enum ledger_result want = i % 1000 == 999 ? LEDGER_REACHED : LEDGER_COUNTED;

			/* every other one from the past */
			assert_int_equal(
				ledger_add(&b.ledger, 0, &a, i % 2 ? 9000 - i : 6000 + i, i, NULL),
				want);
		}
		stop(&b);
	}
}

/* The memory cap cuts the table with the large records first, and holds. */
static void test_memory_cap(void **state)
{
	struct ledger_rule rules[] = {{.maxretry = 5, .findtime_s = 1},
				      {.maxretry = 1000, .findtime_s = 1, .distinct = true},
				      {.maxretry = 35, .findtime_s = 1}};
	size_t small = ledger_bytes(rules, 1, 100000, MEMORY);

	(void)state;
	assert_true(ledger_bytes(rules, 3, 100000, MEMORY) <= MEMORY);
	assert_true(small > 100000 * 40 && small < 16 << 20);
	assert_true(ledger_bytes(rules, 3, 100000, MEMORY) > MEMORY / 4);
	/* the smallest that works: a set for each rule */
	assert_true(ledger_bytes(rules, 3, 100000, 0) < 200 << 10);
	assert_true(ledger_bytes(rules, 0, 100000, MEMORY) > 0);
}

struct seen {
	int64_t time_s;
	uint32_t value;
};

struct model {
	struct seen seen[4096];
	size_t n;
	int64_t newest;
};

static unsigned model_count(const struct model *m, const struct ledger_rule *rule, int64_t newest,
			    uint32_t value, bool *ret_known)
{
	unsigned count = 0;

	*ret_known = false;
	for (size_t i = 0; i < m->n; i++) {
		bool first = true;

		if (m->seen[i].time_s <= newest - rule->findtime_s)
			continue;
		for (size_t k = 0; rule->distinct && k < i; k++)
			if (m->seen[k].value == m->seen[i].value &&
			    m->seen[k].time_s > newest - rule->findtime_s)
				first = false;
		count += first;
		if (rule->distinct && m->seen[i].value == value)
			*ret_known = true;
	}
	return count;
}

static enum ledger_result model_add(struct model *m, const struct ledger_rule *rule, int64_t time_s,
				    uint32_t value, unsigned *ret_count)
{
	int64_t newest = m->n && m->newest > time_s ? m->newest : time_s;
	bool known;

	*ret_count = model_count(m, rule, newest, value, &known);
	if (m->n && time_s <= newest - rule->findtime_s)
		return LEDGER_OLD;
	m->newest = newest;
	assert_true(m->n < sizeof m->seen / sizeof m->seen[0]);
	m->seen[m->n++] = (struct seen){time_s, value};
	if (known)
		return LEDGER_REPEATED;
	++*ret_count;
	if (*ret_count < rule->maxretry)
		return LEDGER_COUNTED;
	m->n = 0;
	return LEDGER_REACHED;
}

static void model_round(void)
{
	struct ledger_rule rule = {.maxretry = 1 + random_below(9),
				   .findtime_s = 1 + random_below(60),
				   .distinct = random_below(2)};
	struct model *models = calloc(6, sizeof *models);
	unsigned nvalues = 1 + random_below(12), jitter = 1 + random_below(80),
		 step = 1 + random_below(20);
	int64_t clock = 1700000000;
	struct bench b;

	assert_non_null(models);
	start(&b, rule, 1000);
	for (int i = 0; i < 1500; i++) {
		uint32_t who = random_below(6), value = random_below(nvalues);
		struct addr a = host(who);
		unsigned got, want;
		int64_t time_s;

		clock += random_below(step);
		time_s = random_below(3) ? clock : clock - random_below(jitter);
		if (random_below(200) == 0) {
			ledger_forget(&b.ledger, &a);
			models[who].n = 0;
		}
		if (random_below(100) == 0) { /* the process is replaced */
			ledger_detach(&b.ledger);
			assert_true(attach(&b));
		}
		assert_int_equal(model_add(&models[who], &rule, time_s, value, &want),
				 ledger_add(&b.ledger, 0, &a, time_s, value, &got));
		assert_int_equal(got, want);
		if (models[who].n) {
			bool known;
			unsigned now =
				model_count(&models[who], &rule, models[who].newest, 0, &known);

			assert_int_equal(ledger_count(&b.ledger, 0, &a, models[who].newest), now);
		}
	}
	assert_int_equal(ledger_stats(&b.ledger).evicted, 0);
	assert_int_equal(ledger_stats(&b.ledger).dropped, 0);
	stop(&b);
	free(models);
}

static void test_model(void **state)
{
	(void)state;
	random_start("window model");
	for (int i = 0; i < 150; i++)
		model_round();
}

/* Rules do not share records, prefixes of one address are different keys, forgetting takes all
 * rules. */
static void test_rules_apart(void **state)
{
	struct bench b = {.n = 3, .maxtracked = 100, .memory = MEMORY};
	struct addr a = host(1), net = addr_mask(host(1), 24);

	(void)state;
	for (uint16_t i = 0; i < 3; i++)
		b.rules[i] = (struct ledger_rule){.id = i, .maxretry = 5, .findtime_s = 100};
	b.bytes = ledger_bytes(b.rules, 3, 100, MEMORY);
	b.region = region_new(b.bytes);
	assert_false(attach(&b));
	for (unsigned i = 0; i < 3; i++)
		for (unsigned k = 0; k <= i; k++)
			ledger_add(&b.ledger, i, &a, 1000, 0, NULL);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(ledger_count(&b.ledger, i, &a, 1000), i + 1);
		assert_int_equal(ledger_count(&b.ledger, i, &net, 1000), 0);
	}
	ledger_drop_after(&b.ledger, 1000);
	assert_int_equal(ledger_stats(&b.ledger).tracked, 3);
	ledger_forget(&b.ledger, &net);
	assert_int_equal(ledger_stats(&b.ledger).tracked, 3);
	ledger_forget(&b.ledger, &a);
	assert_int_equal(ledger_stats(&b.ledger).tracked, 0);
	ledger_add(&b.ledger, 0, &a, 1001, 0, NULL);
	ledger_drop_after(&b.ledger, 1000);
	assert_int_equal(ledger_stats(&b.ledger).tracked, 0);
	stop(&b);
}

/* A flood of addresses with one offence each leaves those alone who are about to be banned. */
static void test_flood(void **state)
{
	struct bench b;

	(void)state;
	random_start("flood");
	start(&b, (struct ledger_rule){.maxretry = 5, .findtime_s = 1000}, 170); /* 256 slots */
	for (uint32_t i = 0; i < 40; i++)
		for (int k = 0; k < 4; k++) {
			struct addr a = host(i);

			add(&b, a, 100000, LEDGER_COUNTED);
		}
	for (uint32_t i = 0; i < 50000; i++)
		add(&b, host(1000000 + i), 100000 + i / 100, LEDGER_COUNTED);
	assert_true(ledger_stats(&b.ledger).evicted > 49000);
	assert_true(ledger_stats(&b.ledger).tracked <= 256);
	for (uint32_t i = 0; i < 40; i++)
		add(&b, host(i), 100900, LEDGER_REACHED);
	stop(&b);
}

/* One set: first what is out of the window, then the fewest offences, of those the stalest. */
static void test_who_goes_first(void **state)
{
	struct bench b;
	uint64_t evicted;

	(void)state;
	start(&b, (struct ledger_rule){.maxretry = 5, .findtime_s = 100}, 10); /* 16 slots */
	add(&b, host(0), 1000, LEDGER_COUNTED); /* worst, but stale by the time it matters */
	add(&b, host(0), 1000, LEDGER_COUNTED);
	for (uint32_t i = 1; i < 16; i++) {
		add(&b, host(i), 1050 + i, LEDGER_COUNTED);
		if (i < 8)
			add(&b, host(i), 1050 + i, LEDGER_COUNTED);
	}
	assert_int_equal(ledger_stats(&b.ledger).tracked, 16);
	add(&b, host(100), 1100, LEDGER_COUNTED);
	assert_int_equal(ledger_stats(&b.ledger).evicted, 0);
	assert_int_equal(ledger_count(&b.ledger, 0, &(struct addr){{10}, ADDR_IPV4, 32}, 1000), 0);
	for (uint32_t i = 8; i < 16; i++) {
		struct addr a = host(i);

		assert_int_equal(ledger_count(&b.ledger, 0, &a, 1100), 1);
		evicted = ledger_stats(&b.ledger).evicted;
		add(&b, host(200 + i), 1101, LEDGER_COUNTED);
		assert_int_equal(ledger_stats(&b.ledger).evicted, evicted + 1);
		assert_int_equal(ledger_count(&b.ledger, 0, &a, 1100), 0);
	}
	for (uint32_t i = 1; i < 8; i++) {
		struct addr a = host(i);

		assert_int_equal(ledger_count(&b.ledger, 0, &a, 1100), 2);
	}
	stop(&b);
}

static void test_grows(void **state)
{
	struct bench b;
	struct ledger_stats stats;
	size_t small;

	(void)state;
	start(&b, (struct ledger_rule){.maxretry = 3, .findtime_s = 600}, 400000);
	small = ledger_stats(&b.ledger).bytes;
	for (uint32_t i = 0; i < 60000; i++)
		add(&b, host(i), 1000, LEDGER_COUNTED);
	stats = ledger_stats(&b.ledger);
	assert_int_equal(stats.tracked, 60000);
	assert_int_equal(stats.evicted, 0);
	assert_true(stats.bytes > small && stats.bytes < b.bytes);
	for (uint32_t i = 0; i < 60000; i++) {
		struct addr a = host(i);

		assert_int_equal(ledger_count(&b.ledger, 0, &a, 1000), 1);
	}
	ledger_detach(&b.ledger);
	assert_true(attach(&b));
	assert_int_equal(ledger_stats(&b.ledger).tracked, 60000);
	stop(&b);
}

static void test_copy(void **state)
{
	struct bench b = {.n = 3, .maxtracked = 5000, .memory = MEMORY};
	struct ledger copy;
	void *region;
	bool kept;

	(void)state;
	random_start("copy");
	for (uint16_t i = 0; i < 3; i++)
		b.rules[i] = (struct ledger_rule){
			.id = i, .maxretry = 5u + i, .findtime_s = 100, .distinct = i == 1};
	b.bytes = ledger_bytes(b.rules, 3, b.maxtracked, MEMORY);
	b.region = region_new(b.bytes);
	assert_false(attach(&b));
	for (uint32_t i = 0; i < 6000; i++) {
		struct addr a = host(i / 2);

		ledger_add(&b.ledger, i / 2 % 3, &a, 1000, i, NULL);
	}
	region = region_new(b.bytes);
	ledger_copy(&b.ledger, region);
	assert_int_equal(
		ledger_attach(&copy, region, b.bytes, b.rules, 3, b.maxtracked, MEMORY, &kept), 0);
	assert_true(kept);
	assert_int_equal(ledger_stats(&copy).tracked, 3000);
	assert_int_equal(ledger_stats(&copy).dropped, 0);
	for (uint32_t i = 0; i < 3000; i++) {
		struct addr a = host(i);

		assert_int_equal(ledger_count(&copy, i % 3, &a, 1000), 2);
	}
	ledger_detach(&copy);
	free(region);
	stop(&b);
}

static void test_other_shape_is_formatted(void **state)
{
	struct bench b;
	struct addr a = host(1);

	(void)state;
	start(&b, (struct ledger_rule){.maxretry = 3, .findtime_s = 600}, 100);
	add(&b, a, 1000, LEDGER_COUNTED);
	ledger_detach(&b.ledger);
	b.rules[0].findtime_s = 601;
	assert_false(attach(&b));
	assert_int_equal(ledger_stats(&b.ledger).tracked, 0);
	stop(&b);
}

/* Stray writes: damaged records go, the others are exactly what they were. */
static void corrupt_round(void)
{
	struct bench b;
	unsigned char *bytes;
	uint32_t n = 1 + random_below(3000), flips = 1 + random_below(200), left = 0;
	bool kept, distinct = random_below(2);

	start(&b, (struct ledger_rule){.maxretry = 6, .findtime_s = 600, .distinct = distinct},
	      4096);
	for (uint32_t i = 0; i < n; i++) {
		struct addr a = host(i);

		for (uint32_t k = 0; k <= i % 5; k++)
			ledger_add(&b.ledger, 0, &a, 5000 + k, k, NULL);
	}
	bytes = b.region;
	for (uint32_t i = 0; i < flips; i++) {
		size_t at = random_below((uint32_t)b.bytes), n_in_row = 1 + random_below(64);

		if (random_below(4) == 0)
			at = random_below(256);
		for (; n_in_row && at < b.bytes; n_in_row--, at++)
			bytes[at] = (unsigned char)random_u64();
	}
	ledger_detach(&b.ledger);
	kept = attach(&b);
	for (uint32_t i = 0; i < n; i++) {
		struct addr a = host(i);
		unsigned count = ledger_count(&b.ledger, 0, &a, 5005);

		if (count)
			assert_int_equal(count, i % 5 + 1);
		left += count > 0;
	}
	assert_int_equal(left, ledger_stats(&b.ledger).tracked);
	if (!kept)
		assert_int_equal(left, 0);
	/* and it works on */
	for (uint32_t i = 0; i < 5000; i++) {
		struct addr a = host(random_below(8000));

		ledger_add(&b.ledger, 0, &a, 5000 + random_below(900), random_below(9), NULL);
	}
	stop(&b);
}

static void test_corruption(void **state)
{
	(void)state;
	random_start("corruption");
	for (int i = 0; i < 200; i++)
		corrupt_round();
}

/* A child is killed at a random moment, often while the table doubles: one record may be missing.
 */
static void kill_round(void)
{
	struct bench b = {.rules = {{.maxretry = 9, .findtime_s = 600}},
			  .n = 1,
			  .maxtracked = 1 << 18,
			  .memory = MEMORY};
	uint32_t *done, wrong = 0, total;
	int status;
	pid_t pid;

	b.bytes = ledger_bytes(b.rules, 1, b.maxtracked, MEMORY);
	b.region = mmap(NULL, b.bytes + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	assert_true(b.region != MAP_FAILED);
	done = (uint32_t *)(void *)((char *)b.region + ((b.bytes + 63) & ~(size_t)63));
	assert_false(attach(&b));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (uint32_t i = 0; i < 30000; i++) {
			struct addr a = host(i);

			ledger_add(&b.ledger, 0, &a, 1000, 0, NULL);
			__atomic_store_n(done, i + 1, __ATOMIC_RELEASE);
		}
		_exit(0);
	}
	usleep(random_below(12000));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	total = *done;
	ledger_detach(&b.ledger);
	assert_true(attach(&b));
	for (uint32_t i = 0; i < total; i++) {
		struct addr a = host(i);

		wrong += ledger_count(&b.ledger, 0, &a, 1000) != 1;
	}
	assert_int_equal(wrong, 0);
	assert_true(ledger_stats(&b.ledger).tracked - total <= 1);
	assert_true(ledger_stats(&b.ledger).dropped <= 1);
	ledger_detach(&b.ledger);
	munmap(b.region, b.bytes + 4096);
}

static void test_killed(void **state)
{
	(void)state;
	random_start("killed");
	for (int i = 0; i < 60; i++)
		kill_round();
}

/* Printed, not judged. */
static void test_speed(void **state)
{
	const uint32_t n = TEST_SANITIZED ? 200000 : 2000000;
	const uint32_t attackers[] = {100, 10000, 1000000};
	struct bench b;

	(void)state;
	random_start("speed");
	for (size_t i = 0; i < 3; i++) {
		double before, after;

		start(&b, (struct ledger_rule){.maxretry = 5, .findtime_s = 600}, 100000);
		before = test_seconds();
		for (uint32_t k = 0; k < n; k++) {
			struct addr a = host(random_below(attackers[i]));

			ledger_add(&b.ledger, 0, &a, 100000 + k / 1000, k, NULL);
		}
		after = test_seconds();
		printf("# %u offences from %u addresses: %.0f ns each\n", n, attackers[i],
		       (after - before) * 1e9 / n);
		stop(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_distinct),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_most_retries),
		cmocka_unit_test(test_memory_cap),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_rules_apart),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_who_goes_first),
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_other_shape_is_formatted),
		cmocka_unit_test(test_corruption),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
