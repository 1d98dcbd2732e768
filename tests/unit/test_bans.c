/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of bans against a naive model; what does not fit; a million of them. */
#include "daemon/jail/bans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

#define CAP 96u

static struct addr net(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_net(slice_str(text), &a), 0);
	return a;
}

static struct ban ban(const char *text, uint16_t jail, int64_t end)
{
	return (struct ban){
		.addr = net(text), .jail = jail, .until_wall_s = end, .end_mono_ns = end};
}

static void test_add(void **state)
{
	struct bans *list = bans_new(2);
	struct ban b = ban("192.0.2.1", 1, 100), *got;

	(void)state;
	assert_non_null(list);
	assert_int_equal(bans_next_end(list), CLOCK_FOREVER);
	b.since_wall_s = 5;
	b.source = BAN_HAND;
	b.reason = "by hand";
	assert_int_equal(bans_add(list, &b, &got), BANS_ADDED);
	assert_ptr_not_equal(got->reason, b.reason);
	assert_string_equal(got->reason, "by hand");
	assert_false(got->confirmed);
	got->confirmed = true;
	got->killed = 3;
	got->dropped_packets = 9;
	assert_int_equal(bans_add(list, &b, &got), BANS_KEPT);
	b.end_mono_ns = 99;
	assert_int_equal(bans_add(list, &b, NULL), BANS_KEPT);
	b.end_mono_ns = b.until_wall_s = 101;
	b.since_wall_s = 60;
	b.count = 4;
	b.reason = NULL;
	assert_int_equal(bans_add(list, &b, &got), BANS_EXTENDED);
	assert_int_equal(got->since_wall_s, 5);
	assert_int_equal(got->killed, 3);
	assert_int_equal(got->dropped_packets, 9);
	assert_int_equal(got->count, 4);
	assert_int_equal(got->until_wall_s, 101);
	assert_null(got->reason);
	assert_false(got->confirmed);
	b = ban("192.0.2.1", 2, CLOCK_FOREVER);
	assert_int_equal(bans_add(list, &b, NULL), BANS_ADDED);
	b = ban("192.0.2.9", 2, CLOCK_FOREVER);
	assert_int_equal(bans_add(list, &b, NULL), BANS_FULL);
	assert_int_equal(bans_kept_out(list), 1);
	assert_int_equal(bans_count(list), 2);
	bans_free(list);
	bans_free(NULL);
	assert_null(bans_new(0));
}

static void test_ends(void **state)
{
	struct bans *list = bans_new(16);
	struct ban a = ban("192.0.2.1", 1, 100), b = ban("192.0.2.1", 2, 300);
	struct ban c = ban("192.0.2.1", 3, 500), *got;

	(void)state;
	c.scope_port = true;
	bans_add(list, &b, NULL);
	bans_add(list, &a, NULL);
	bans_add(list, &c, NULL);
	assert_int_equal(bans_end(list, &a.addr, BANS_SCOPE_ALL), 300);
	assert_int_equal(bans_end(list, &a.addr, BANS_SCOPE_PORT), 500);
	assert_int_equal(bans_end(list, &a.addr, BANS_SCOPE_ANY), 500);
	assert_int_equal(bans_find(list, &a.addr, BANS_ANY_JAIL)->jail, 3);
	assert_int_equal(bans_next_end(list), 100);
	/* one jail takes its ban back: the element goes down to the next */
	assert_int_equal(bans_remove(list, &a.addr, 2), 1);
	assert_int_equal(bans_remove(list, &a.addr, 2), 0);
	assert_int_equal(bans_end(list, &a.addr, BANS_SCOPE_ALL), 100);
	got = bans_find(list, &a.addr, 1);
	bans_move_end(list, got, CLOCK_FOREVER, CLOCK_FOREVER);
	assert_int_equal(bans_next_end(list), 500);
	bans_move_end(list, got, 20, 20);
	assert_int_equal(bans_next_end(list), 20);
	/* also by the address in the entry itself */
	assert_int_equal(bans_remove(list, &got->addr, BANS_ANY_JAIL), 2);
	assert_int_equal(bans_end(list, &a.addr, BANS_SCOPE_ANY), -1);
	assert_int_equal(bans_next_end(list), CLOCK_FOREVER);
	bans_free(list);
}

static void test_covering(void **state)
{
	struct bans *list = bans_new(16);
	struct ban in[] = {ban("192.0.2.0/24", 1, 100), ban("192.0.2.7", 1, 50),
			   ban("192.0.0.0/16", 2, 900), ban("2001:db8::/64", 1, 100),
			   ban("2001:db8::/32", 1, 100)};
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof in / sizeof in[0]; i++)
		assert_int_equal(bans_add(list, &in[i], NULL), BANS_ADDED);
	a = net("192.0.2.7");
	assert_int_equal(bans_covering(list, &a)->addr.plen, 32);
	a = net("192.0.2.8");
	assert_int_equal(bans_covering(list, &a)->addr.plen, 24);
	a = net("192.0.3.8");
	assert_int_equal(bans_covering(list, &a)->addr.plen, 16);
	a = net("192.0.2.0/25");
	assert_int_equal(bans_covering(list, &a)->addr.plen, 24);
	a = net("192.0.0.0/15");
	assert_null(bans_covering(list, &a));
	a = net("2001:db8::1");
	assert_int_equal(bans_covering(list, &a)->addr.plen, 64);
	a = net("2001:db8:1::1");
	assert_int_equal(bans_covering(list, &a)->addr.plen, 32);
	a = net("2001:db9::1");
	assert_null(bans_covering(list, &a));
	bans_free(list);
}

static void test_reason_is_cut(void **state)
{
	struct bans *list = bans_new(1);
	struct ban b = ban("192.0.2.1", 1, 100), *got;
	char text[500];

	(void)state;
	memset(text, 'x', sizeof text);
	text[sizeof text - 1] = 0;
	b.reason = text;
	bans_add(list, &b, &got);
	assert_int_equal(strlen(got->reason), BANS_REASON_BYTES_MAX);
	bans_free(list);
}

struct model {
	struct ban bans[CAP];
	uint32_t n;
	struct bans *list;
	int64_t last_end;
};

static struct ban *model_find(struct model *m, const struct addr *a, uint16_t jail)
{
	for (uint32_t i = 0; i < m->n; i++)
		if (addr_eq(&m->bans[i].addr, a) && m->bans[i].jail == jail)
			return &m->bans[i];
	return NULL;
}

static enum bans_result model_add(struct model *m, const struct ban *b)
{
	struct ban *old = model_find(m, &b->addr, b->jail);

	if (old && old->end_mono_ns >= b->end_mono_ns)
		return BANS_KEPT;
	if (old) {
		*old = *b;
		return BANS_EXTENDED;
	}
	if (m->n == CAP)
		return BANS_FULL;
	m->bans[m->n++] = *b;
	return BANS_ADDED;
}

static unsigned model_remove(struct model *m, const struct addr *a, uint16_t jail)
{
	unsigned gone = 0;

	for (uint32_t i = m->n; i-- > 0;) {
		if (!addr_eq(&m->bans[i].addr, a) ||
		    (jail != BANS_ANY_JAIL && m->bans[i].jail != jail))
			continue;
		m->bans[i] = m->bans[--m->n];
		gone++;
	}
	return gone;
}

static int64_t model_next(const struct model *m)
{
	int64_t next = CLOCK_FOREVER;

	for (uint32_t i = 0; i < m->n; i++)
		if (m->bans[i].end_mono_ns < next)
			next = m->bans[i].end_mono_ns;
	return next;
}

static struct addr some_addr(void)
{
	unsigned char b[16] = {[0] = 0x20, [1] = 1, [15] = (unsigned char)random_below(24)};
	unsigned char four[4] = {10, 0, 0, (unsigned char)random_below(24)};
	struct addr a = random_below(2) ? addr_from_ipv4(four) : addr_from_ipv6(b);

	return addr_mask(a, addr_bits(&a) - random_below(5));
}

static void compare(struct model *m)
{
	struct addr a = some_addr();
	const struct ban *cover = NULL, *got = bans_covering(m->list, &a);
	uint32_t cursor = 0, n = 0;
	int64_t end = -1;

	assert_int_equal(bans_count(m->list), m->n);
	assert_int_equal(bans_next_end(m->list), model_next(m));
	for (struct ban *b; (b = bans_next(m->list, &cursor)); n++) {
		struct ban *same = model_find(m, &b->addr, b->jail);

		assert_non_null(same);
		assert_int_equal(b->end_mono_ns, same->end_mono_ns);
		assert_ptr_equal(bans_find(m->list, &b->addr, b->jail), b);
	}
	assert_int_equal(n, m->n);
	for (uint32_t i = 0; i < m->n; i++) {
		const struct ban *b = &m->bans[i];

		if (addr_eq(&b->addr, &a) && b->end_mono_ns > end)
			end = b->end_mono_ns;
		if (!addr_contains(&b->addr, &a))
			continue;
		if (!cover || b->addr.plen > cover->addr.plen ||
		    (b->addr.plen == cover->addr.plen && b->end_mono_ns > cover->end_mono_ns))
			cover = b;
	}
	assert_int_equal(bans_end(m->list, &a, BANS_SCOPE_ANY), end);
	assert_int_equal(!!got, !!cover);
	if (cover)
		assert_int_equal(got->end_mono_ns, cover->end_mono_ns);
}

static void on_end(void *ctx, const struct ban *b)
{
	struct model *m = ctx;

	assert_true(b->end_mono_ns >= m->last_end);
	m->last_end = b->end_mono_ns;
	assert_null(bans_find(m->list, &b->addr, b->jail));
	assert_int_equal(model_remove(m, &b->addr, b->jail), 1);
	if (b->reason)
		assert_string_equal(b->reason, "because");
	if (random_below(8) == 0) { /* what a callback may do */
		struct ban again = *b;

		again.end_mono_ns = b->end_mono_ns + 500;
		assert_int_equal(bans_add(m->list, &again, NULL), model_add(m, &again));
	}
}

static void step(struct model *m, int64_t now)
{
	struct ban b = {.addr = some_addr(),
			.jail = (uint16_t)random_below(3),
			.end_mono_ns = random_below(9) ? now + random_below(400) : CLOCK_FOREVER,
			.reason = random_below(4) ? NULL : "because"};
	uint16_t jail = random_below(3) ? b.jail : BANS_ANY_JAIL;
	struct ban *old;
	uint32_t gone, before = m->n;

	switch (random_below(8)) {
	case 0:
		assert_int_equal(bans_remove(m->list, &b.addr, jail),
				 model_remove(m, &b.addr, jail));
		break;
	case 1:
		old = bans_find(m->list, &b.addr, b.jail);
		assert_int_equal(!!old, !!model_find(m, &b.addr, b.jail));
		if (old) {
			bans_move_end(m->list, old, 0, b.end_mono_ns);
			model_find(m, &b.addr, b.jail)->end_mono_ns = b.end_mono_ns;
		}
		break;
	case 2:
		m->last_end = 0;
		gone = bans_expire(m->list, now, 4, on_end, m);
		assert_true(gone <= 4 && before - m->n <= gone);
		assert_true(gone == 4 || model_next(m) > now);
		break;
	default:
		assert_int_equal(bans_add(m->list, &b, NULL), model_add(m, &b));
	}
}

static void test_model(void **state)
{
	(void)state;
	random_start("bans model");
	for (int round = 0; round < 20; round++) {
		struct model m = {.list = bans_new(CAP)};
		int64_t now = 1000;

		assert_non_null(m.list);
		for (int i = 0; i < 3000; i++) {
			now += random_below(12);
			step(&m, now);
			compare(&m);
		}
		bans_free(m.list);
	}
}

/* Seen exactly once although others come and go between pages. */
static void test_iteration(void **state)
{
	struct bans *list = bans_new(4000);
	uint32_t cursor = 0, stayed = 0;

	(void)state;
	random_start("iteration");
	for (uint32_t i = 0; i < 1000; i++) {
		struct ban b = {.addr = {{10, 1, (uint8_t)(i >> 8), (uint8_t)i}, ADDR_IPV4, 32},
				.jail = i % 2,
				.end_mono_ns = CLOCK_FOREVER};

		bans_add(list, &b, NULL);
	}
	for (const struct ban *b; (b = bans_next(list, &cursor));) {
		uint32_t i = random_below(1000);
		struct addr odd = {
			{10, 1, (uint8_t)((i | 1) >> 8), (uint8_t)(i | 1)}, ADDR_IPV4, 32};
		struct ban fresh = {.addr = {{10, 9, (uint8_t)(i >> 8), (uint8_t)i}, ADDR_IPV4, 32},
				    .jail = 7,
				    .end_mono_ns = CLOCK_FOREVER};

		stayed += b->jail == 0;
		bans_remove(list, &odd, 1);
		bans_add(list, &fresh, NULL);
	}
	assert_int_equal(stayed, 500);
	bans_free(list);
}

static struct ban numbered(uint32_t i)
{
	return (struct ban){
		.addr = {{(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i},
			 ADDR_IPV4,
			 32},
		.end_mono_ns = random_u64() >> 2};
}

/* Times are printed, not judged. */
static void test_million(void **state)
{
	const uint32_t n = TEST_SANITIZED ? 100000 : 1000000;
	struct bans *list = bans_new(n);
	double start, found, end;
	uint32_t hits = 0;

	(void)state;
	random_start("million");
	assert_true(sizeof(struct ban) + 8 <= 150);
	start = test_seconds();
	for (uint32_t i = 0; i < n; i++) {
		struct ban b = numbered(i);

		assert_int_equal(bans_add(list, &b, NULL), BANS_ADDED);
	}
	found = test_seconds();
	for (uint32_t i = 0; i < n; i++) {
		struct addr a = numbered(random_below(2 * n)).addr;

		hits += bans_covering(list, &a) != NULL;
	}
	end = test_seconds();
	printf("# %u bans of %zu bytes: add %.0f ns, look up %.0f ns, ", n, sizeof(struct ban) + 8,
	       (found - start) * 1e9 / n, (end - found) * 1e9 / n);
	assert_true(hits > n / 3 && hits < n / 3 * 2);
	start = test_seconds();
	for (uint32_t i = 0; i < n / 2; i++) {
		struct addr a = numbered(i * 2).addr;

		assert_int_equal(bans_remove(list, &a, 0), 1);
	}
	found = test_seconds();
	assert_int_equal(bans_expire(list, INT64_MAX - 1, UINT32_MAX, NULL, NULL), n - n / 2);
	end = test_seconds();
	printf("remove %.0f ns, expire %.0f ns\n", (found - start) * 2e9 / n,
	       (end - found) * 2e9 / n);
	assert_int_equal(bans_count(list), 0);
	bans_free(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),      cmocka_unit_test(test_ends),
		cmocka_unit_test(test_covering), cmocka_unit_test(test_reason_is_cut),
		cmocka_unit_test(test_model),    cmocka_unit_test(test_iteration),
		cmocka_unit_test(test_million),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
