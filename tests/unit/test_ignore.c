/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is never banned: each reason, networks, jails, force, the end of ssh entries, the sentences.
 */
#include "daemon/base/ignore.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

#define HOUR_NS (3600 * CLOCK_SECOND_NS)

static struct addr net(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_net(slice_str(text), &a), 0);
	return a;
}

static void replace(struct ignore *ig, enum ignore_reason reason, uint32_t jail, const char *words)
{
	struct slice rest = slice_str(words), word;
	struct netlist list = {0};
	struct addr a;

	while (slice_word(&rest, &word)) {
		assert_int_equal(addr_parse_net(word, &a), 0);
		assert_int_equal(netlist_add(&list, &a), 0);
	}
	assert_int_equal(ignore_replace(ig, reason, jail, &list), 0);
	netlist_free(&list);
}

static struct ignore *example(void)
{
	struct ignore *ig = ignore_new();
	struct addr peer = net("203.0.113.7");

	assert_non_null(ig);
	replace(ig, IGNORE_PROXY, 2, "198.51.100.9");
	replace(ig, IGNORE_IP, IGNORE_ALL_JAILS, "192.0.2.0/24, 2001:db8:1::/48");
	replace(ig, IGNORE_IP, 2, "10.2.0.0/16");
	replace(ig, IGNORE_GATEWAY, IGNORE_ALL_JAILS, "172.16.0.1 fe80::1");
	replace(ig, IGNORE_OWN, IGNORE_ALL_JAILS, "172.16.0.2 2001:db8::2");
	ignore_ssh_seen(ig, &peer, "root", HOUR_NS);
	return ig;
}

static const struct {
	const char *asked;
	uint32_t jail;
	bool forced;
	int reason; /* -1 = may be banned */
} cases[] = {
	{"127.0.0.1", 0, false, IGNORE_LOOPBACK},
	{"127.9.9.9", 0, true, IGNORE_LOOPBACK},
	{"::1", 0, true, IGNORE_LOOPBACK},
	{"::ffff:127.0.0.1", 0, true, IGNORE_LOOPBACK},
	{"126.0.0.0/7", 0, true, IGNORE_LOOPBACK},
	{"0.0.0.0/0", 0, true, IGNORE_LOOPBACK},
	{"::/0", 0, true, IGNORE_LOOPBACK},
	{"::ffff:0:0/96", 0, true, IGNORE_LOOPBACK},
	{"0.0.0.0", 0, true, IGNORE_SPECIAL},
	{"::", 0, true, IGNORE_SPECIAL},
	{"224.0.0.1", 0, true, IGNORE_SPECIAL},
	{"128.0.0.0/1", 0, true, IGNORE_SPECIAL},
	{"255.255.255.255", 0, true, IGNORE_SPECIAL},
	{"ff02::1", 0, true, IGNORE_SPECIAL},
	{"8000::/1", 0, true, IGNORE_SPECIAL},
	{"172.16.0.2", 0, true, IGNORE_OWN},
	{"172.16.0.0/16", 0, true, IGNORE_OWN},
	{"2001:db8::/64", 0, true, IGNORE_OWN},
	{"2000::/3", 0, true, IGNORE_OWN},
	{"172.16.0.1", 0, false, IGNORE_GATEWAY},
	{"172.16.0.1", 0, true, -1},
	{"fe80::/64", 0, false, IGNORE_GATEWAY},
	{"fe80::2", 0, false, -1},
	{"172.16.0.3", 0, false, -1},
	{"192.0.2.99", 0, false, IGNORE_IP},
	{"192.0.2.99", IGNORE_ALL_JAILS, false, IGNORE_IP},
	{"192.0.2.99", 0, true, -1},
	{"192.0.0.0/16", 0, false, IGNORE_IP},
	{"2001:db8:1:2::/64", 0, false, IGNORE_IP},
	{"10.2.3.4", 0, false, -1},
	{"10.2.3.4", IGNORE_ALL_JAILS, false, -1},
	{"10.2.3.4", 2, false, IGNORE_IP},
	{"10.0.0.0/8", 2, false, IGNORE_IP},
	{"198.51.100.9", 2, false, IGNORE_PROXY},
	{"198.51.100.9", 2, true, -1},
	{"198.51.100.9", 1, false, -1},
	{"203.0.113.7", 0, false, IGNORE_SSH},
	{"203.0.113.0/24", 0, false, IGNORE_SSH},
	{"203.0.113.7", 0, true, -1},
	{"203.0.113.8", 0, false, -1},
	{"8.8.8.8", 0, false, -1},
	{"2620:fe::fe", 0, false, -1},
};

static void test_cases(void **state)
{
	struct ignore *ig = example();

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct addr asked = net(cases[i].asked);
		struct ignore_hit hit;
		bool got =
			ignore_check(ig, &asked, cases[i].jail, cases[i].forced, 2 * HOUR_NS, &hit);

		if (got != (cases[i].reason >= 0) ||
		    (got && hit.reason != (unsigned)cases[i].reason))
			fail_msg("%s: %s", cases[i].asked,
				 got ? ignore_reason_name(hit.reason) : "free");
		if (got)
			assert_true(addr_eq(&hit.asked, &asked));
	}
	ignore_free(ig);
	ignore_free(NULL);
}

static void test_replace(void **state)
{
	struct ignore *ig = example();
	struct addr old = net("172.16.0.2"), fresh = net("172.16.0.9"), jail = net("10.2.3.4");
	struct netlist list = {0};

	(void)state;
	replace(ig, IGNORE_OWN, IGNORE_ALL_JAILS, "172.16.0.9");
	assert_false(ignore_check(ig, &old, 0, false, HOUR_NS, NULL));
	assert_true(ignore_check(ig, &fresh, 0, true, HOUR_NS, NULL));
	assert_int_equal(ignore_replace(ig, IGNORE_OWN, IGNORE_ALL_JAILS, NULL), 0);
	assert_int_equal(ignore_replace(ig, IGNORE_OWN, IGNORE_ALL_JAILS, &list), 0);
	assert_false(ignore_check(ig, &fresh, 0, false, HOUR_NS, NULL));
	assert_true(ignore_check(ig, &jail, 2, false, HOUR_NS, NULL));
	ignore_clear_jails(ig);
	assert_false(ignore_check(ig, &jail, 2, false, HOUR_NS, NULL));
	assert_int_equal(netlist_add(&list, &old), 0);
	assert_int_equal(ignore_replace(ig, IGNORE_LOOPBACK, 0, &list), -EINVAL);
	assert_int_equal(ignore_replace(ig, IGNORE_SPECIAL, 0, &list), -EINVAL);
	assert_int_equal(ignore_replace(ig, IGNORE_SSH, 0, &list), -EINVAL);
	netlist_free(&list);
	ignore_free(ig);
}

static void test_ssh_ends(void **state)
{
	struct ignore *ig = ignore_new();
	struct addr peer = net("203.0.113.7");
	struct ignore_hit hit;

	(void)state;
	ignore_ssh_seen(ig, &peer, "root", HOUR_NS);
	ignore_ssh_seen(ig, &peer, "alice", HOUR_NS / 2);
	assert_true(ignore_check(ig, &peer, 0, false, 25 * HOUR_NS - 1, &hit));
	assert_string_equal(hit.user, "root");
	assert_false(ignore_check(ig, &peer, 0, false, 25 * HOUR_NS, NULL));
	ignore_ssh_seen(ig, &peer, "root", 3 * HOUR_NS);
	ignore_ssh_seen(ig, &peer, "root", 2 * HOUR_NS);
	assert_true(ignore_check(ig, &peer, 0, false, 26 * HOUR_NS, &hit));
	assert_int_equal(hit.last_seen_mono_ns, 3 * HOUR_NS);
	assert_int_equal(ignore_replace(ig, IGNORE_SSH, IGNORE_ALL_JAILS, NULL), 0);
	assert_false(ignore_check(ig, &peer, 0, false, 3 * HOUR_NS, NULL));
	ignore_free(ig);
}

static void test_ssh_full(void **state)
{
	struct ignore *ig = ignore_new();

	(void)state;
	for (uint32_t i = 0; i < IGNORE_SSH_MAX + 10; i++) {
		unsigned char b[4] = {203, 0, (unsigned char)(i >> 8), (unsigned char)i};
		struct addr a = addr_from_ipv4(b);

		ignore_ssh_seen(ig, &a, "a name that is longer than any login name may be",
				HOUR_NS + i);
	}
	assert_int_equal(ignore_ssh_overflows(ig), 10);
	for (uint32_t i = 0; i < IGNORE_SSH_MAX + 10; i++) {
		unsigned char b[4] = {203, 0, (unsigned char)(i >> 8), (unsigned char)i};
		struct addr a = addr_from_ipv4(b);

		assert_int_equal(ignore_check(ig, &a, 0, false, 2 * HOUR_NS, NULL), i >= 10);
	}
	ignore_free(ig);
}

static void test_sentences(void **state)
{
	static const struct {
		const char *asked, *want;
	} say[] = {
		{"203.0.113.7",
		 "203.0.113.7 is the peer of an ssh session of root (last seen 3 min ago)"},
		{"203.0.113.0/24",
		 "203.0.113.0/24 holds 203.0.113.7, which is the peer of an ssh session of "
		 "root (last seen 3 min ago)"},
		{"192.0.2.9",
		 "192.0.2.9 is in 192.0.2.0/24, which is on the ignore list (ignoreip)"},
		{"192.0.2.0/24", "192.0.2.0/24 is on the ignore list (ignoreip)"},
		{"127.0.0.1", "127.0.0.1 is in 127.0.0.0/8, which is loopback"},
		{"172.16.0.1", "172.16.0.1 is a default gateway of this host"},
		{"2001:db8::2", "2001:db8::2 is an address of this host"},
	};
	struct ignore *ig = example();
	char buf[IGNORE_TEXT_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof say / sizeof say[0]; i++) {
		struct addr asked = net(say[i].asked);
		int64_t now = HOUR_NS + 200 * CLOCK_SECOND_NS;
		struct ignore_hit hit;

		assert_true(ignore_check(ig, &asked, 0, false, now, &hit));
		assert_string_equal(ignore_format(&hit, now, buf), say[i].want);
	}
	ignore_free(ig);
}

/* The longest sentence fits, a hostile name is made harmless. */
static void test_hostile_name(void **state)
{
	struct ignore *ig = ignore_new();
	struct addr a = net("2001:db8:1111:2222:3333:4444:5555:6666");
	char buf[IGNORE_TEXT_BYTES], name[40];
	struct ignore_hit hit;

	(void)state;
	memset(name, 0x1b, sizeof name - 1);
	name[sizeof name - 1] = 0;
	ignore_ssh_seen(ig, &a, name, 0);
	a = net("2001:db8:1111:2222:3333:4444:5555:6600/120");
	assert_true(ignore_check(ig, &a, 0, false, HOUR_NS * 23, &hit));
	ignore_format(&hit, HOUR_NS * 23, buf);
	assert_null(strchr(buf, 0x1b));
	assert_non_null(strstr(buf, "(last seen 23 h ago)"));
	ignore_free(ig);
}

static void test_all_entries(void **state)
{
	struct ignore *ig = example();
	unsigned per_reason[IGNORE_NREASONS] = {0};
	uint64_t cursor = 0;
	struct ignore_hit hit;

	(void)state;
	while (ignore_next(ig, &cursor, 2 * HOUR_NS, &hit))
		per_reason[hit.reason]++;
	assert_int_equal(per_reason[IGNORE_LOOPBACK], 0);
	assert_int_equal(per_reason[IGNORE_OWN], 2);
	assert_int_equal(per_reason[IGNORE_GATEWAY], 2);
	assert_int_equal(per_reason[IGNORE_IP], 3);
	assert_int_equal(per_reason[IGNORE_PROXY], 1);
	assert_int_equal(per_reason[IGNORE_SSH], 1);
	assert_false(ignore_next(ig, &cursor, 2 * HOUR_NS, &hit));
	cursor = 0;
	for (int i = 0; i < 8; i++)
		assert_true(ignore_next(ig, &cursor, 100 * HOUR_NS, &hit));
	assert_false(ignore_next(ig, &cursor, 100 * HOUR_NS, &hit));
	ignore_free(ig);
}

/* No network gets through that holds or lies in a protected one. */
static void test_random(void **state)
{
	(void)state;
	random_start("ignore");
	for (int round = 0; round < 300; round++) {
		struct ignore *ig = ignore_new();
		struct netlist list = {0};
		struct addr all[20];

		for (int i = 0; i < 20; i++) {
			unsigned char b[4] = {20, (unsigned char)random_below(4),
					      (unsigned char)random_u64(), 0};

			all[i] = addr_mask(addr_from_ipv4(b), 8 + random_below(25));
			assert_int_equal(netlist_add(&list, &all[i]), 0);
		}
		assert_int_equal(ignore_replace(ig, IGNORE_OWN, IGNORE_ALL_JAILS, &list), 0);
		for (int i = 0; i < 100; i++) {
			unsigned char b[4] = {20, (unsigned char)random_below(4),
					      (unsigned char)random_u64(),
					      (unsigned char)random_u64()};
			struct addr asked = addr_mask(addr_from_ipv4(b), 8 + random_below(25));
			bool want = false;

			for (int k = 0; k < 20; k++)
				want = want || addr_contains(&all[k], &asked) ||
				       addr_contains(&asked, &all[k]);
			assert_int_equal(ignore_check(ig, &asked, 0, random_below(2), 0, NULL),
					 want);
		}
		netlist_free(&list);
		ignore_free(ig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),       cmocka_unit_test(test_replace),
		cmocka_unit_test(test_ssh_ends),    cmocka_unit_test(test_ssh_full),
		cmocka_unit_test(test_sentences),   cmocka_unit_test(test_hostile_name),
		cmocka_unit_test(test_all_entries), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
