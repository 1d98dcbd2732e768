/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of what is in force, against a plain array. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>

#include "daemon/enforcer/inforce.h"
#include "tests/unit/random.h"

#define S CLOCK_SECOND_NS

static struct inforce_ban ban_until(unsigned i, int64_t end_ns)
{
	uint8_t bytes[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};

	return (struct inforce_ban){.addr = addr_from_ipv4(bytes), .end_ns = end_ns, .jail = 7};
}

static void test_put_get_remove(void **state)
{
	struct inforce list;
	struct inforce_ban a = ban_until(1, 100 * S), *stored;

	(void)state;
	assert_int_equal(inforce_init(&list, 10), 0);
	assert_int_equal(inforce_put(&list, &a, NULL, 0, &stored), 1);
	stored->killed = 5;
	a.end_ns = 50 * S;
	a.jail = 8;
	assert_int_equal(inforce_put(&list, &a, NULL, 0, &stored), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(stored->killed, 5);
	assert_int_equal(stored->jail, 8);
	assert_ptr_equal(inforce_get(&list, &a.addr, 0, NULL, 49 * S), stored);
	assert_null(inforce_get(&list, &a.addr, 0, NULL, 50 * S));
	assert_null(inforce_get(&list, &a.addr, INFORCE_FORCED, NULL, 0));
	assert_int_equal(inforce_remaining_ms(stored, 49 * S), 1000);
	assert_int_equal(inforce_remaining_ms(stored, 90 * S), 1);
	inforce_remove(&list, stored);
	assert_int_equal(list.count, 0);
	assert_null(inforce_get(&list, &a.addr, 0, NULL, 0));
	inforce_fini(&list);
	inforce_fini(&list);
}

static void test_identity(void **state)
{
	struct portset web = {2, {{80, IPPROTO_TCP}, {443, IPPROTO_TCP}}};
	struct portset turned = {2, {{443, IPPROTO_TCP}, {80, IPPROTO_TCP}}};
	struct portset dns = {1, {{53, IPPROTO_UDP}}};
	struct inforce_ban a = ban_until(1, CLOCK_FOREVER);
	struct inforce list;
	unsigned met = 0;
	uint32_t step = 0;

	(void)state;
	assert_int_equal(inforce_init(&list, 10), 0);
	assert_int_equal(inforce_put(&list, &a, &web, 0, NULL), 1); /* scope = all: ports ignored */
	a.flags = INFORCE_FORCED;
	assert_int_equal(inforce_put(&list, &a, NULL, 0, NULL), 1);
	a.flags = INFORCE_SCOPE_PORT;
	assert_int_equal(inforce_put(&list, &a, &web, 0, NULL), 1);
	assert_int_equal(inforce_put(&list, &a, &turned, 0, NULL), 0);
	assert_int_equal(inforce_put(&list, &a, &dns, 0, NULL), 1);
	assert_int_equal(inforce_put(&list, &a, NULL, 0, NULL), -EINVAL);
	while (inforce_of(&list, &a.addr, &step, 0))
		met++;
	assert_int_equal(met, 4);
	assert_true(
		portset_has(inforce_ports_of(&list, inforce_get(&list, &a.addr, a.flags, &dns, 0)),
			    IPPROTO_UDP, 53));
	a.addr = addr_mask(a.addr, 24);
	assert_null(inforce_get(&list, &a.addr, a.flags, &web, 0));
	inforce_fini(&list);
}

static void test_port_sets_are_given_back(void **state)
{
	struct inforce_ban a = ban_until(1, CLOCK_FOREVER);
	struct portset set = {1, {{1, IPPROTO_TCP}}};
	struct inforce list;

	(void)state;
	a.flags = INFORCE_SCOPE_PORT;
	assert_int_equal(inforce_init(&list, 1000), 0);
	for (unsigned i = 1; i < PORTSETS_MAX; i++) {
		set.port[0].number = (uint16_t)i;
		assert_int_equal(inforce_put(&list, &a, &set, 0, NULL), 1);
	}
	set.port[0].number = 9999;
	assert_int_equal(inforce_put(&list, &a, &set, 0, NULL), -ENOSPC);
	set.port[0].number = 77;
	inforce_remove(&list, inforce_get(&list, &a.addr, a.flags, &set, 0));
	set.port[0].number = 9999;
	assert_int_equal(inforce_put(&list, &a, &set, 0, NULL), 1);
	inforce_fini(&list);
}

static void test_cap(void **state)
{
	struct inforce list;
	struct inforce_ban a;

	(void)state;
	assert_int_equal(inforce_init(&list, 100), 0);
	for (unsigned i = 0; i < 100; i++) {
		a = ban_until(i, (1000 + i) * S);
		assert_int_equal(inforce_put(&list, &a, NULL, 0, NULL), 1);
	}
	a = ban_until(200, 5000 * S);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(inforce_put(&list, &a, NULL, 10 * S, NULL), -ENFILE);
	assert_int_equal(list.refused, 5);
	a = ban_until(5, 20 * S); /* shortened while full: its end is noticed */
	assert_int_equal(inforce_put(&list, &a, NULL, 10 * S, NULL), 0);
	a = ban_until(200, 5000 * S);
	assert_int_equal(inforce_put(&list, &a, NULL, 21 * S, NULL), 1);
	assert_int_equal(inforce_put(&list, &a, NULL, 1050 * S, NULL), 0);
	a = ban_until(201, 5000 * S);
	assert_int_equal(inforce_put(&list, &a, NULL, 1050 * S, NULL), 1);
	assert_in_range(list.forgotten, 2, 52);
	inforce_fini(&list);
}

/* Expired bans do not pile up, without any timer. */
static void test_garbage(void **state)
{
	struct inforce list;

	(void)state;
	assert_int_equal(inforce_init(&list, 1 << 20), 0);
	for (unsigned i = 0; i < 200000; i++) {
		struct inforce_ban a = ban_until(i, (i + 10) * S);

		assert_int_equal(inforce_put(&list, &a, NULL, i * S, NULL), 1);
	}
	assert_true(list.count < 100);
	inforce_fini(&list);
}

static void test_waiting(void **state)
{
	struct inforce list;
	struct inforce_ban a = ban_until(1, 10 * S), *stored;
	uint32_t cursor = UINT32_MAX;

	(void)state;
	assert_int_equal(inforce_init(&list, 10), 0);
	inforce_put(&list, &a, NULL, 0, &stored);
	inforce_set_waiting(&list, stored, true);
	inforce_set_waiting(&list, stored, true);
	assert_int_equal(list.waiting, 1);
	assert_null(inforce_prev(&list, &cursor, 11 * S)); /* forgotten while waiting */
	assert_int_equal(list.waiting, 0);
	assert_int_equal(list.forgotten, 1);
	inforce_fini(&list);
}

#define N 500

/* Random puts, removes and time, compared with an array; walks in between miss nobody. */
static void test_random(void **state)
{
	static int64_t model[N];
	struct inforce list;
	int64_t now = S;

	(void)state;
	memset(model, 0, sizeof model);
	random_start("inforce");
	assert_int_equal(inforce_init(&list, N), 0);
	for (unsigned step = 0; step < 200000; step++) {
		unsigned i = random_below(N);
		struct inforce_ban a = ban_until(i, now + (int64_t)(1 + random_below(300)) * S);
		struct inforce_ban *met;

		now += random_below(3) * (S / 2);
		a.end_ns += S; /* behind now in any case */
		switch (random_below(3)) {
		case 0:
			assert_true(inforce_put(&list, &a, NULL, now, NULL) >= 0);
			model[i] = a.end_ns;
			break;
		case 1:
			met = inforce_get(&list, &a.addr, 0, NULL, now);
			if (met)
				inforce_remove(&list, met);
			model[i] = 0;
			break;
		default:
			met = inforce_get(&list, &a.addr, 0, NULL, now);
			assert_int_equal(met != NULL, model[i] > now);
			if (met)
				assert_int_equal(met->end_ns, model[i]);
		}
	}
	inforce_fini(&list);
}

static void test_walk_under_changes(void **state)
{
	bool seen[N], there[N];
	struct inforce list;
	struct inforce_ban *met;
	uint32_t cursor = UINT32_MAX;

	(void)state;
	random_start("inforce walk");
	memset(seen, 0, sizeof seen);
	assert_int_equal(inforce_init(&list, 2 * N), 0);
	for (unsigned i = 0; i < N; i++) {
		struct inforce_ban a = ban_until(i, random_below(4) ? CLOCK_FOREVER : 5 * S);

		inforce_put(&list, &a, NULL, 0, NULL);
		there[i] = a.end_ns == CLOCK_FOREVER;
	}
	while ((met = inforce_prev(&list, &cursor, 6 * S))) {
		unsigned i = (unsigned)met->addr.b[2] << 8 | met->addr.b[3], gone = random_below(N);
		struct inforce_ban a = ban_until(gone, 0), fresh = ban_until(N + gone, 50 * S);

		if (i < N)
			seen[i] = true;
		met = inforce_get(&list, &a.addr, 0, NULL, 6 * S);
		if (met && random_below(2)) {
			inforce_remove(&list, met);
			there[gone] = false;
		}
		inforce_put(&list, &fresh, NULL, 0, NULL);
	}
	for (unsigned i = 0; i < N; i++)
		assert_true(seen[i] || !there[i]);
	inforce_fini(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get_remove),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_port_sets_are_given_back),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_walk_under_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
