/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The firewall against the real kernel, in a network namespace of its own; `nft` is the other side.
 */
#include "tests/unit/netns.h"

#include <netinet/in.h>

#include "daemon/enforcer/firewall.h"

#define SOURCE_KERNEL 4

struct told {
	unsigned results, failures, adopted, added, deleted, repaired;
	int error;
	uint32_t bans, pid;
	char name[32];
	struct addr addr;
	uint8_t flags;
	struct portset ports;
};

static struct told told;
static struct inforce inforce;

static void on_result(void *ctx, const struct inforce_ban *ban, int error)
{
	(void)ctx;
	(void)ban;
	told.results++;
	if (error) {
		told.failures++;
		told.error = error;
	}
}

static void on_element(void *ctx, enum firewall_element what, const struct inforce_ban *ban,
		       const struct portset *ports)
{
	(void)ctx;
	told.adopted += what == FIREWALL_ADOPTED;
	told.added += what == FIREWALL_ADDED;
	told.deleted += what == FIREWALL_DELETED;
	told.addr = ban->addr;
	told.flags = ban->flags;
	if (ports)
		told.ports = *ports;
}

static void on_repaired(void *ctx, uint32_t bans, uint32_t pid, const char *name)
{
	(void)ctx;
	told.repaired++;
	told.bans = bans;
	told.pid = pid;
	snprintf(told.name, sizeof told.name, "%s", name);
}

static struct firewall *open_as(uint32_t maxbans, bool old_kernel)
{
	struct firewall_options options = {
		.inforce = &inforce,
		.maxbans = maxbans,
		.source_kernel = SOURCE_KERNEL,
		.old_kernel = old_kernel,
		.hooks = {.result = on_result, .element = on_element, .repaired = on_repaired},
	};
	struct firewall *fw = NULL;
	struct error err = {0};

	memset(&told, 0, sizeof told);
	assert_int_equal(inforce_init(&inforce, 1 << 20), 0);
	if (firewall_open(&options, clock_now(), &fw, &err) < 0 ||
	    firewall_adopt(fw, clock_now(), &err) < 0)
		fail_msg("%s", err.text);
	return fw;
}

static struct firewall *open_firewall(void)
{
	return open_as(65536, false);
}

static void shut(struct firewall *fw)
{
	firewall_close(fw);
	inforce_fini(&inforce);
}

static void finish(struct firewall *fw)
{
	assert_int_equal(firewall_remove(fw, NULL), 0);
	shut(fw);
}

/* seconds: 0 = for ever. */
static struct inforce_ban ban_of(const char *net, unsigned seconds, uint8_t flags)
{
	struct inforce_ban ban = {.addr = address(net), .flags = flags, .end_ns = CLOCK_FOREVER};

	if (seconds)
		ban.end_ns = clock_now().mono_ns + seconds * CLOCK_SECOND_NS;
	return ban;
}

static int ban(struct firewall *fw, const char *net, unsigned seconds)
{
	struct inforce_ban b = ban_of(net, seconds, 0);
	int code = firewall_ban(fw, &b, NULL, clock_now());

	return code < 0 ? code : firewall_commit(fw, clock_now());
}

static int unban(struct firewall *fw, const char *net)
{
	struct addr a = address(net);

	firewall_unban(fw, &a, 0, NULL, clock_now());
	return firewall_commit(fw, clock_now());
}

static struct addr numbered(unsigned i)
{
	uint8_t bytes[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};

	return addr_from_ipv4(bytes);
}

static void ban_many(struct firewall *fw, unsigned count, unsigned seconds)
{
	struct now now = clock_now();

	for (unsigned i = 0; i < count; i++) {
		struct inforce_ban b = {.addr = numbered(i),
					.end_ns = now.mono_ns +
						  (seconds + i % 100) * CLOCK_SECOND_NS};

		assert_int_equal(firewall_ban(fw, &b, NULL, now), 0);
	}
	assert_int_equal(firewall_commit(fw, now), 0);
}

/* Seconds that the element has left: 0 = for ever, -1 = not there. */
static int64_t left_s(struct firewall *fw, const char *net)
{
	struct addr a = address(net);
	struct inforce_ban copy = {.addr = a};
	struct firewall_drops drops;
	int code = firewall_drops(fw, &copy, &drops);

	if (code == -ENOENT)
		return -1;
	assert_int_equal(code, 0);
	return drops.expires_ms == CLOCK_FOREVER ? 0 : (drops.expires_ms + 500) / 1000;
}

static void expect_listed(const char *what, bool there)
{
	char *text = netns_output("nft list table inet tailban 2>&1");

	if (!strstr(text, what) == there)
		fail_msg("%s \"%s\" in:\n%s", there ? "missing" : "unexpected", what, text);
	free(text);
}

/* Works until nothing is due at once; returns the delay. */
static int settle(struct firewall *fw)
{
	int delay = 0;

	for (unsigned i = 0; i < 2000 && delay == 0; i++)
		delay = firewall_work(fw, clock_now());
	return delay;
}

static void nft(const char *command)
{
	char full[512];

	snprintf(full, sizeof full, "nft '%s'", command);
	assert_int_equal(NETNS_RUN("sh", "-c", full), 0);
}

static void test_shape(void **state)
{
	struct portset web = {2, {{80, IPPROTO_TCP}, {443, IPPROTO_TCP}}};
	struct inforce_ban b;
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	assert_int_equal(ban(fw, "192.0.2.1", 600), 0);
	assert_int_equal(ban(fw, "10.1.2.0/24", 600), 0);
	assert_int_equal(ban(fw, "2001:db8::/64", 600), 0);
	assert_int_equal(ban(fw, "2001:db8::7", 0), 0);
	b = ban_of("192.0.2.9", 600, INFORCE_SCOPE_PORT);
	assert_int_equal(firewall_ban(fw, &b, &web, clock_now()), 0);
	b = ban_of("2001:db8:1::/48", 600, INFORCE_SCOPE_PORT);
	assert_int_equal(firewall_ban(fw, &b, &web, clock_now()), 0);
	b = ban_of("192.0.2.10", 600, INFORCE_FORCED);
	assert_int_equal(firewall_ban(fw, &b, NULL, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	assert_int_equal(told.results, 7);
	assert_int_equal(told.failures, 0);
	expect_listed("ip saddr @ban4 ip saddr != @keep4 drop", true);
	expect_listed("ip saddr & 255.255.255.0 == @ban4_24 ip saddr != @keep4 drop", true);
	expect_listed("ip6 saddr & ffff:ffff:ffff:ffff:: == @ban6_64 ip6 saddr != @keep6 drop",
		      true);
	expect_listed("ip saddr . meta l4proto . th dport @banp4 ip saddr != @keep4 drop", true);
	expect_listed("ip saddr @force4 drop", true);
	expect_listed("type filter hook prerouting priority raw; policy accept;", true);
	expect_listed("2001:db8::7 counter packets 0 bytes 0", true);
	expect_listed("192.0.2.9 . tcp . 443", true);
	expect_listed("10.1.2.0 counter packets 0 bytes 0 timeout 9m59s", true);
	expect_listed("size 65536", true);
	expect_listed("ban4_1 ", false);
	finish(fw);
}

static void test_set_this_end(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	for (int old = 0; old < 2; old++) {
		fw = open_as(65536, old);
		assert_int_equal(ban(fw, "192.0.2.1", 100), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), 100);
		assert_int_equal(ban(fw, "192.0.2.1", 1000), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), 1000);
		assert_int_equal(ban(fw, "192.0.2.1", 50), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), 50);
		assert_int_equal(ban(fw, "192.0.2.1", 0), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), 0);
		assert_int_equal(ban(fw, "192.0.2.1", 70), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), 70);
		assert_int_equal(unban(fw, "192.0.2.1"), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), -1);
		assert_int_equal(unban(fw, "192.0.2.1"), 0);       /* twice is fine */
		assert_int_equal(unban(fw, "198.51.100.0/22"), 0); /* a set that was never made */
		finish(fw);
	}
}

/* Several orders about one address in one wake-up: the last one counts. */
static void test_many_orders_in_one_commit(void **state)
{
	struct inforce_ban b = ban_of("192.0.2.1", 100, 0), c = ban_of("192.0.2.1", 300, 0);
	struct addr other = address("192.0.2.2");
	struct now now = clock_now();
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	for (int old = 0; old < 2; old++) {
		fw = open_as(65536, old);
		firewall_ban(fw, &b, NULL, now);
		firewall_unban(fw, &b.addr, 0, NULL, now);
		firewall_unban(fw, &other, 0, NULL, now);
		firewall_ban(fw, &c, NULL, now);
		firewall_ban(fw, &b, NULL, now);
		firewall_ban(fw, &c, NULL, now);
		assert_int_equal(firewall_commit(fw, now), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), 300);
		firewall_ban(fw, &b, NULL, now);
		firewall_unban(fw, &b.addr, 0, NULL, now);
		assert_int_equal(firewall_commit(fw, now), 0);
		assert_int_equal(left_s(fw, "192.0.2.1"), -1);
		assert_int_equal(inforce.count, 0);
		assert_int_equal(told.failures, 0);
		finish(fw);
	}
}

static void test_refuses_nonsense(void **state)
{
	struct inforce_ban b = ban_of("0.0.0.0/0", 10, 0);
	struct now now = clock_now();
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	assert_int_equal(firewall_ban(fw, &b, NULL, now), -EINVAL);
	b.addr.plen = 33;
	assert_int_equal(firewall_ban(fw, &b, NULL, now), -EINVAL);
	b.addr.family = 9;
	assert_int_equal(firewall_ban(fw, &b, NULL, now), -EINVAL);
	assert_int_equal(firewall_unban(fw, &b.addr, 0, NULL, now), -EINVAL);
	b = ban_of("192.0.2.1", 10, INFORCE_SCOPE_PORT);
	assert_int_equal(firewall_ban(fw, &b, NULL, now), -EINVAL);
	b = ban_of("192.0.2.1", 10, 0);
	b.end_ns = now.mono_ns - 1; /* over already: an unban */
	assert_int_equal(ban(fw, "192.0.2.1", 100), 0);
	assert_int_equal(firewall_ban(fw, &b, NULL, now), 0);
	assert_int_equal(firewall_commit(fw, now), 0);
	assert_int_equal(left_s(fw, "192.0.2.1"), -1);
	finish(fw);
}

static void test_burst(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	for (int old = 0; old < 2; old++) {
		int64_t start, took;

		fw = open_as(65536, old);
		start = clock_now().mono_ns;
		ban_many(fw, 2000, 600);
		took = clock_now().mono_ns - start;
		print_message("2,000 bans in %.2f ms%s\n", (double)took / 1e6,
			      old ? " (add, delete, add)" : "");
		assert_true(took <
			    500 * CLOCK_MSEC_NS); /* sanitizers and a busy machine included */
		assert_int_equal(told.results, 2000);
		assert_int_equal(told.failures, 0);
		assert_int_equal(left_s(fw, "10.0.7.207"), 699);
		finish(fw);
	}
}

static void test_set_full(void **state)
{
	struct firewall *fw;
	struct now later;
	const char *text;

	(void)state;
	NEED_NETNS();
	for (int old = 0; old < 2; old++) {
		fw = open_as(10, old);
		for (unsigned i = 0; i < 30; i++) {
			struct inforce_ban b = {.addr = numbered(i), .end_ns = CLOCK_FOREVER};

			assert_int_equal(firewall_ban(fw, &b, NULL, clock_now()), 0);
		}
		assert_int_equal(firewall_commit(fw, clock_now()), -ENFILE);
		assert_int_equal(told.results, 30);
		assert_int_equal(told.failures, 20);
		assert_int_equal(told.error, -ENFILE);
		assert_int_equal(inforce.waiting, 20);
		assert_int_equal(firewall_counters(fw)->full, 20);
		assert_int_equal(firewall_state(fw, &text), -ENFILE);
		assert_non_null(
			strstr(text, "20 of 30 bans and 0 unbans are not in the kernel: set full"));
		/* A ban that is there can still be changed, and other sets have room. */
		assert_int_equal(ban(fw, "10.0.0.1", 50), 0);
		assert_int_equal(left_s(fw, "10.0.0.1"), 50);
		assert_int_equal(ban(fw, "2001:db8::/64", 50), 0);
		/* Room comes: the waiting ones go in by themselves. */
		for (unsigned i = 0; i < 10; i++) {
			struct addr a = numbered(i);

			firewall_unban(fw, &a, 0, NULL, clock_now());
		}
		firewall_commit(fw, clock_now());
		later = clock_now();
		later.mono_ns += 60 * CLOCK_SECOND_NS;
		assert_true(firewall_work(fw, later) > 0);
		assert_int_equal(inforce.waiting, 10);
		finish(fw);
	}
}

/* An unban in a transaction that fails for another set's sake must not be lost. */
static void test_unban_is_not_lost(void **state)
{
	struct addr a = address("192.0.2.1");
	struct inforce_ban b = ban_of("2001:db8::1", 100, 0);
	struct firewall *fw;
	struct now now;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban(fw, "192.0.2.1", 600);
	ban(fw, "192.0.2.2", 600);
	ban(fw, "2001:db8::2", 600);
	nft("delete table inet tailban");
	settle(fw); /* the next repair has to wait */
	nft("flush chain inet tailban prerouting; delete set inet tailban ban6");
	now = clock_now();
	assert_int_equal(firewall_unban(fw, &a, 0, NULL, now), 1);
	assert_int_equal(firewall_ban(fw, &b, NULL, now), 0);
	assert_true(firewall_commit(fw, now) < 0);
	expect_listed("192.0.2.1 ", true);
	now.mono_ns += 2 * CLOCK_SECOND_NS;
	firewall_work(fw, now);
	expect_listed("192.0.2.1 ", false);
	expect_listed("192.0.2.2 ", true);
	expect_listed("2001:db8::1 ", true);
	assert_int_equal(firewall_work(fw, now), -1);
	finish(fw);
}

static void test_back_off(void **state)
{
	struct now now = clock_now();
	struct firewall *fw;
	int delay, last = 0;

	(void)state;
	NEED_NETNS();
	fw = open_as(1, false);
	ban(fw, "192.0.2.1", 0);
	assert_int_equal(ban(fw, "192.0.2.2", 0), -ENFILE);
	for (unsigned i = 0; i < 12; i++) {
		delay = firewall_work(fw, now);
		assert_true(delay >= last);
		last = delay;
		now.mono_ns += (int64_t)delay * CLOCK_MSEC_NS;
	}
	assert_in_range(last, 29000, 30001);
	assert_int_equal(inforce.waiting, 1);
	finish(fw);
}

static void test_flush_is_repaired(void **state)
{
	struct firewall *fw;
	int64_t start, took;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban_many(fw, 1000, 600);
	ban(fw, "2001:db8::/64", 0);
	netns_sleep_ms(1100);
	nft("flush ruleset");
	start = clock_now().mono_ns;
	settle(fw);
	took = clock_now().mono_ns - start;
	print_message("1,001 bans back in %.2f ms\n", (double)took / 1e6);
	assert_true(took < 500 * CLOCK_MSEC_NS);
	assert_int_equal(told.repaired, 1);
	assert_int_equal(told.bans, 1001);
	assert_string_equal(told.name, "nft");
	assert_in_range(told.pid, 2, INT32_MAX);
	assert_in_range(left_s(fw, "10.0.0.0"), 598, 600);
	assert_in_range(left_s(fw, "10.0.3.231"), 697, 699);
	assert_int_equal(left_s(fw, "2001:db8::/64"), 0);
	expect_listed("ip saddr @ban4 ip saddr != @keep4 drop", true);
	/* What is not ours does not concern us. */
	nft("add table inet other; add set inet other ban4 { type ipv4_addr; }; add element inet "
	    "other ban4 { 1.2.3.4 }");
	nft("delete table inet other");
	settle(fw);
	assert_int_equal(firewall_counters(fw)->foreign, 1);
	assert_int_equal(firewall_counters(fw)->repairs, 1);
	finish(fw);
}

/* The flush is met by a commit before its notification was read. */
static void test_flush_under_a_commit(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban_many(fw, 100, 600);
	nft("delete table inet tailban");
	assert_int_equal(ban(fw, "192.0.2.1", 100), 0);
	assert_int_equal(left_s(fw, "192.0.2.1"), 100);
	assert_int_equal(left_s(fw, "10.0.0.99"), 699);
	assert_int_equal(told.repaired, 1);
	settle(fw);
	assert_int_equal(told.repaired, 1);
	assert_int_equal(inforce.waiting, 0);
	finish(fw);
}

static void test_structure_is_repaired(void **state)
{
	static const char *const damage[] = {
		"flush table inet tailban",
		"delete chain inet tailban prerouting",
		"insert rule inet tailban prerouting accept",
		"add rule inet tailban prerouting accept",
		"add chain inet tailban prerouting { policy drop; }",
		"add table inet tailban { flags dormant; }",
		"flush set inet tailban ban4",
		"flush set inet tailban keep4",
		"add element inet tailban keep4 { 1.2.3.4 }",
		"flush chain inet tailban prerouting; delete set inet tailban ban4",
		"flush chain inet tailban prerouting; delete set inet tailban keep4",
		"delete chain inet tailban prerouting; add chain inet tailban prerouting { type "
		"filter hook prerouting priority 0; policy accept; }",
		"flush chain inet tailban prerouting; delete set inet tailban ban4; add set inet "
		"tailban ban4 { type ipv4_addr; }",
	};
	struct netlist keep = {0};
	struct addr kept = address("192.0.2.0/24");
	struct firewall *fw;
	struct now now;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	netlist_add(&keep, &kept);
	netlist_seal(&keep);
	assert_int_equal(firewall_keep(fw, &keep, NULL), 0);
	ban_many(fw, 10, 6000);
	now = clock_now();
	for (unsigned i = 0; i < sizeof damage / sizeof damage[0]; i++) {
		int64_t left;

		nft(damage[i]);
		now.mono_ns += 20 * CLOCK_SECOND_NS;
		while (firewall_work(fw, now) == 0)
			;
		if (told.repaired != i + 1)
			fail_msg("not repaired: %s", damage[i]);
		left = left_s(fw, "10.0.0.9");
		if (left < 5000)
			fail_msg("%s: %lld s left", damage[i], (long long)left);
		expect_listed("elements = { 192.0.2.0/24 }", true);
		expect_listed("ip saddr @ban4 ip saddr != @keep4 drop\n\t}", true);
		expect_listed("accept\n", false);
		expect_listed("dormant", false);
		expect_listed("priority raw; policy accept;", true);
	}
	assert_int_equal(told.deleted, 0);
	netlist_free(&keep);
	finish(fw);
}

static void test_element_by_hand(void **state)
{
	struct portset web = {2, {{80, IPPROTO_TCP}, {443, IPPROTO_TCP}}};
	struct inforce_ban b;
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban_many(fw, 10, 600);
	nft("delete element inet tailban ban4 { 10.0.0.3 }");
	settle(fw);
	assert_int_equal(told.deleted, 1);
	assert_true(
		addr_eq(&told.addr, &(struct addr){.family = 4, .plen = 32, .b = {10, 0, 0, 3}}));
	assert_int_equal(inforce.count, 9);
	nft("delete element inet tailban ban4 { 10.0.0.4, 10.0.0.5 }");
	settle(fw);
	assert_int_equal(told.deleted, 3);
	assert_int_equal(inforce.count, 7);
	nft("add element inet tailban ban4 { 203.0.113.5 timeout 300s }");
	settle(fw);
	assert_int_equal(told.added, 1);
	assert_int_equal(inforce.count, 8);
	/* One port of two: the ban is over, its other element goes, too. */
	b = ban_of("192.0.2.9", 600, INFORCE_SCOPE_PORT);
	assert_int_equal(firewall_ban(fw, &b, &web, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	nft("delete element inet tailban banp4 { 192.0.2.9 . tcp . 80 }");
	settle(fw);
	assert_int_equal(told.deleted, 4);
	assert_int_equal(told.ports.count, 2);
	expect_listed("192.0.2.9", false);
	assert_int_equal(told.repaired, 0);
	/* The last ban of a set by hand is no flush. */
	ban(fw, "2001:db8::1", 100);
	nft("delete element inet tailban ban6 { 2001:db8::1 }");
	settle(fw);
	assert_int_equal(told.repaired, 0);
	assert_int_equal(left_s(fw, "2001:db8::1"), -1);
	nft("flush ruleset");
	settle(fw);
	assert_int_equal(told.repaired, 1);
	assert_int_equal(told.bans, 8);
	assert_in_range(left_s(fw, "203.0.113.5"), 298, 300);
	assert_int_equal(left_s(fw, "10.0.0.3"), -1);
	finish(fw);
}

static void test_adopt(void **state)
{
	struct portset web = {2, {{80, IPPROTO_TCP}, {443, IPPROTO_TCP}}};
	struct inforce_ban b;
	struct firewall *fw;
	char *before, *after;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban_many(fw, 1000, 600);
	ban(fw, "2001:db8::/64", 0);
	ban(fw, "10.200.0.0/16", 50);
	b = ban_of("192.0.2.9", 600, INFORCE_SCOPE_PORT);
	assert_int_equal(firewall_ban(fw, &b, &web, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	before = netns_output("nft -a -s list chain inet tailban prerouting");
	shut(fw);
	netns_sleep_ms(1000);
	fw = open_firewall();
	assert_int_equal(told.adopted, 1004);
	assert_int_equal(inforce.count, 1004);
	assert_int_equal(inforce.bans[0].source, SOURCE_KERNEL);
	assert_in_range(left_s(fw, "10.0.0.5"), 603, 604);
	assert_int_equal(left_s(fw, "2001:db8::/64"), 0);
	after = netns_output("nft -a -s list chain inet tailban prerouting");
	assert_string_equal(before, after); /* handles included: nothing was touched */
	free(before);
	free(after);
	nft("flush ruleset");
	settle(fw);
	assert_in_range(left_s(fw, "10.0.0.5"), 602, 604);
	assert_in_range(left_s(fw, "10.200.0.0/16"), 48, 49);
	assert_int_equal(left_s(fw, "2001:db8::/64"), 0);
	assert_int_equal(firewall_unban(fw, &b.addr, INFORCE_SCOPE_PORT, NULL, clock_now()), 1);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	expect_listed("192.0.2.9", false);
	finish(fw);
}

/* More than is read at once: the rest comes while the firewall is at work. */
static void test_adopt_many(void **state)
{
	struct firewall *fw;
	unsigned at_start, calls = 0;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban_many(fw, 60000, 600);
	shut(fw);
	fw = open_firewall();
	at_start = inforce.count;
	assert_in_range(at_start, 30000, 59999);
	assert_int_equal(ban(fw, "192.0.2.1", 100), 0);
	assert_int_equal(ban(fw, "10.0.0.1", 0), 0); /* known to be longer now */
	while (told.adopted < 60000 && calls++ < 300)
		assert_true(firewall_work(fw, clock_now()) != 0 || told.adopted == 60000);
	assert_int_equal(inforce.count, 60001);
	assert_int_equal(left_s(fw, "10.0.0.1"), 0);
	assert_int_equal(firewall_work(fw, clock_now()), -1);
	finish(fw);
}

/* A table of our name in another shape: rebuilt, the bans of known sets kept. */
static void test_adopt_foreign_shape(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	nft("add table inet tailban; add set inet tailban ban4 { type ipv4_addr; flags timeout; }; "
	    "add element inet tailban ban4 { 10.9.8.7 timeout 500s, 10.9.8.6 }; "
	    "add chain inet tailban prerouting { type filter hook input priority 5; }; "
	    "add set inet tailban keep4 { type ipv4_addr; }; "
	    "add set inet tailban strange { type inet_service; }");
	fw = open_firewall();
	assert_int_equal(told.adopted, 2);
	assert_in_range(left_s(fw, "10.9.8.7"), 498, 500);
	assert_int_equal(left_s(fw, "10.9.8.6"), 0);
	expect_listed("hook prerouting priority raw", true);
	expect_listed("ip saddr @ban4 ip saddr != @keep4 drop", true);
	expect_listed("strange", false);
	/* Another maxbans is another shape. */
	shut(fw);
	fw = open_as(70000, false);
	expect_listed("size 70000", true);
	assert_in_range(left_s(fw, "10.9.8.7"), 497, 500);
	finish(fw);
}

/* Two bans of one address on overlapping ports: an element lives as long as the longer one. */
static void test_overlapping_ports(void **state)
{
	struct portset web = {2, {{80, IPPROTO_TCP}, {443, IPPROTO_TCP}}};
	struct portset both = {2, {{443, IPPROTO_TCP}, {22, IPPROTO_TCP}}};
	struct inforce_ban a = ban_of("192.0.2.9", 600, INFORCE_SCOPE_PORT);
	struct inforce_ban b = ban_of("192.0.2.9", 100, INFORCE_SCOPE_PORT);
	struct now now = clock_now();
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	assert_int_equal(firewall_ban(fw, &a, &web, now), 0);
	assert_int_equal(firewall_ban(fw, &b, &both, now), 0);
	assert_int_equal(firewall_commit(fw, now), 0);
	expect_listed("192.0.2.9 . tcp . 443 counter packets 0 bytes 0 timeout 9m59s", true);
	expect_listed("192.0.2.9 . tcp . 22 counter packets 0 bytes 0 timeout 1m39s", true);
	assert_int_equal(firewall_unban(fw, &a.addr, INFORCE_SCOPE_PORT, &web, now), 1);
	assert_int_equal(firewall_commit(fw, now), 0);
	expect_listed("192.0.2.9 . tcp . 443 counter packets 0 bytes 0 timeout 1m39s", true);
	expect_listed(". tcp . 80", false);
	assert_int_equal(firewall_unban(fw, &a.addr, INFORCE_SCOPE_PORT, NULL, now), 1);
	assert_int_equal(firewall_commit(fw, now), 0);
	expect_listed("192.0.2.9", false);
	finish(fw);
}

/* One connection try; true when it is answered. */
static bool answered(const char *from, const char *to, uint16_t port)
{
	int fd = netns_connect(from, to, port);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void test_drops(void **state)
{
	struct portset only = {1, {{8001, IPPROTO_TCP}}};
	struct inforce_ban b;
	struct firewall_drops drops;
	struct netlist keep = {0};
	struct addr kept = address("127.0.2.1");
	struct firewall *fw;
	int one, two;

	(void)state;
	NEED_NETNS();
	assert_int_equal(NETNS_RUN("ip", "addr", "add", "2001:db8::1/64", "dev", "lo", "nodad"), 0);
	assert_int_equal(NETNS_RUN("ip", "addr", "add", "2001:db8::2/64", "dev", "lo", "nodad"), 0);
	one = netns_listen("::", 8001);
	two = netns_listen("::", 8002);
	fw = open_firewall();
	ban(fw, "127.0.0.2", 100);
	ban(fw, "127.0.1.0/24", 100);
	ban(fw, "127.0.2.0/24", 100);
	ban(fw, "2001:db8::/64", 100);
	b = ban_of("127.0.0.3", 100, INFORCE_SCOPE_PORT);
	assert_int_equal(firewall_ban(fw, &b, &only, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	netlist_add(&keep, &kept);
	netlist_seal(&keep);
	assert_int_equal(firewall_keep(fw, &keep, NULL), 0);
	assert_false(answered("127.0.0.2", "127.0.0.1", 8001));
	assert_false(answered("127.0.1.77", "127.0.0.1", 8001));
	assert_false(answered("127.0.2.2", "127.0.0.1", 8001));
	assert_true(answered("127.0.2.1", "127.0.0.1", 8001)); /* ignored inside a banned net */
	assert_false(answered("2001:db8::2", "2001:db8::1", 8001));
	assert_true(answered("::1", "::1", 8001));
	assert_false(answered("127.0.0.3", "127.0.0.1", 8001)); /* this port only */
	assert_true(answered("127.0.0.3", "127.0.0.1", 8002));
	assert_true(answered("127.0.0.4", "127.0.0.1", 8001));
	assert_int_equal(firewall_drops(fw, &b, &drops),
			 -ENOENT); /* not the stored one: no ports */
	assert_int_equal(
		firewall_drops(fw,
			       inforce_get(&inforce, &b.addr, b.flags, &only, clock_now().mono_ns),
			       &drops),
		0);
	assert_in_range(drops.packets, 1, 5);
	assert_in_range(drops.bytes, 40, 400);
	/* Forced bans know no mercy. */
	b = ban_of("127.0.2.1", 100, INFORCE_FORCED);
	assert_int_equal(firewall_ban(fw, &b, NULL, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	assert_false(answered("127.0.2.1", "127.0.0.1", 8001));
	netlist_free(&keep);
	close(one);
	close(two);
	finish(fw);
}

static void test_keep_edges(void **state)
{
	static const char *const nets[] = {"0.0.0.0/8",     "10.0.0.0/24",       "10.0.1.0/24",
					   "10.0.3.255",    "255.255.255.255",   "::/8",
					   "2001:db8::/64", "2001:db8:0:1::/64", "ff00::/8"};
	struct netlist keep = {0};
	struct firewall *fw;
	struct error err;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	for (unsigned i = 0; i < sizeof nets / sizeof nets[0]; i++) {
		struct addr a = address(nets[i]);

		netlist_add(&keep, &a);
	}
	netlist_seal(&keep);
	for (unsigned round = 0; round < 3; round++)
		assert_int_equal(firewall_keep(fw, &keep, NULL), 0);
	expect_listed("0.0.0.0/8, 10.0.0.0/23,", true);
	expect_listed("10.0.3.255, 255.255.255.255 }", true);
	expect_listed("2001:db8::/63,", true);
	expect_listed("ff00::/8 }", true);
	keep.count = 0;
	assert_int_equal(firewall_keep(fw, &keep, NULL), 0);
	expect_listed("elements", false);
	for (unsigned i = 0; i < 20000; i++) { /* long lists go in, too */
		struct addr a = numbered(2 * i);

		netlist_add(&keep, &a);
	}
	netlist_seal(&keep);
	memset(&err, 0, sizeof err);
	if (firewall_keep(fw, &keep, &err) == 0)
		assert_int_equal(err.code, 0);
	else /* without rights outside of the user namespace the socket's buffer is small */
		assert_non_null(strstr(err.text, "the ignore list (20000 networks) is too long"));
	netlist_free(&keep);
	finish(fw);
}

struct sum {
	unsigned bans;
	uint64_t packets;
};

static void add_drops(void *ctx, const struct inforce_ban *b, const struct firewall_drops *drops)
{
	struct sum *sum = ctx;

	(void)b;
	sum->bans++;
	sum->packets += drops->packets;
}

static void test_counters_in_slices(void **state)
{
	uint32_t cursor = UINT32_MAX;
	struct sum sum = {0};
	unsigned calls = 0;
	struct firewall *fw;
	int code = 1;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban_many(fw, 5000, 600);
	while (code == 1 && calls++ < 100)
		code = firewall_each_drops(fw, &cursor, 700, clock_now(), add_drops, &sum);
	assert_int_equal(code, 0);
	assert_int_equal(calls, 8);
	assert_int_equal(sum.bans, 5000);
	finish(fw);
}

/* Notifications that do not fit: everything is checked and set again. */
static void test_lost_notifications(void **state)
{
	struct firewall *fw;
	FILE *script;
	char path[] = "/tmp/test_firewall.XXXXXX";
	int fd = mkstemp(path), small = 4096;

	(void)state;
	NEED_NETNS();
	assert_true(fd >= 0);
	fw = open_firewall();
	ban_many(fw, 300, 600);
	setsockopt(firewall_fd(fw), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	script = fdopen(fd, "w");
	assert_non_null(script);
	fprintf(script, "flush set inet tailban ban4\nadd table inet other\n");
	fprintf(script, "add set inet other s { type ipv4_addr; }\n");
	for (unsigned i = 0; i < 3000; i++)
		fprintf(script, "add element inet other s { 10.%u.%u.1 }\n", i / 200, i % 200);
	fclose(script);
	assert_int_equal(NETNS_RUN("nft", "-f", path), 0);
	unlink(path);
	settle(fw);
	assert_true(firewall_counters(fw)->checks >= 1);
	assert_int_equal(firewall_counters(fw)->repairs, 1);
	assert_int_equal(told.repaired, 0); /* nobody to blame */
	assert_in_range(left_s(fw, "10.0.0.99"), 697, 699);
	nft("delete table inet other");
	finish(fw);
}

static void test_pace(void **state)
{
	struct repair_pace pace = {0};
	int64_t t = 5 * CLOCK_SECOND_NS, start = t;

	(void)state;
	assert_int_equal(repair_pace_due_ns(&pace, t), t);
	for (unsigned i = 0; i < 9; i++) {
		repair_pace_took(&pace, t);
		assert_int_equal(repair_pace_due_ns(&pace, t), t + CLOCK_SECOND_NS);
		t += CLOCK_SECOND_NS;
	}
	repair_pace_took(&pace, t);
	assert_int_equal(repair_pace_due_ns(&pace, t), t + 10 * CLOCK_SECOND_NS);
	for (unsigned i = 0; i < 3; i++) {
		t = repair_pace_due_ns(&pace, t);
		repair_pace_took(&pace, t);
	}
	assert_int_equal(t, start + 39 * CLOCK_SECOND_NS);
	t += 200 * CLOCK_SECOND_NS;
	assert_true(repair_pace_due_ns(&pace, t) <= t);
}

/* A rule manager that removes the table again and again, in virtual time. */
static void test_repair_war(void **state)
{
	struct now now;
	struct firewall *fw;
	unsigned wars = 0;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban_many(fw, 10, 6000);
	now = clock_now();
	for (unsigned step = 0; step < 120; step++) { /* one minute */
		if (NETNS_RUN("sh", "-c", "nft delete table inet tailban 2>/dev/null") == 0)
			wars++;
		firewall_work(fw, now);
		now.mono_ns += CLOCK_SECOND_NS / 2;
	}
	print_message("%u removals, %llu repairs in a minute\n", wars,
		      (unsigned long long)firewall_counters(fw)->repairs);
	assert_in_range(firewall_counters(fw)->repairs, 14, 16);
	/* Peace: the bans are all there. */
	for (unsigned step = 0; step < 30; step++) {
		now.mono_ns += CLOCK_SECOND_NS;
		firewall_work(fw, now);
	}
	assert_in_range(left_s(fw, "10.0.0.9"), 5900, 6010);
	finish(fw);
}

/* Bans that come while the table is away and its repair is not due yet are in afterwards. */
static void test_bans_wait_for_the_repair(void **state)
{
	struct now now;
	struct inforce_ban b = ban_of("192.0.2.77", 5000, 0);
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_firewall();
	ban(fw, "192.0.2.1", 6000);
	nft("delete table inet tailban");
	settle(fw);
	nft("delete table inet tailban");
	now = clock_now();
	firewall_work(fw, now);
	firewall_ban(fw, &b, NULL, now);
	assert_int_equal(firewall_commit(fw, now), -ENOENT);
	assert_int_equal(inforce.waiting, 1);
	now.mono_ns += 2 * CLOCK_SECOND_NS;
	firewall_work(fw, now);
	assert_int_equal(inforce.waiting, 0);
	assert_true(left_s(fw, "192.0.2.77") > 4900);
	finish(fw);
}

/* The sentence names what is missing. */
static void test_without_the_right(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	NEED_NETNS();
	pid = fork();
	if (pid == 0) {
		struct firewall_options options = {.inforce = &inforce, .maxbans = 100};
		struct firewall *fw = NULL;
		struct error err = {0};

		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(9); /* one id only in this user namespace */
		if (firewall_open(&options, clock_now(), &fw, &err) != -EPERM || fw)
			_exit(1);
		_exit(strstr(err.text, "CAP_NET_ADMIN is missing") ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 9)
		skip();
	assert_int_equal(status, 0);
}

static struct ev_loop *loop_done;

static void on_repaired_in_loop(void *ctx, uint32_t bans, uint32_t pid, const char *name)
{
	on_repaired(ctx, bans, pid, name);
	ev_break(loop_done, EVBREAK_ALL);
}

static void test_loop(void **state)
{
	struct firewall_options options = {.inforce = &inforce, .maxbans = 100};
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	memset(&told, 0, sizeof told);
	assert_int_equal(inforce_init(&inforce, 100), 0);
	options.loop = loop_done = ev_loop_new(EVFLAG_AUTO);
	options.hooks.repaired = on_repaired_in_loop;
	assert_int_equal(firewall_open(&options, clock_now(), &fw, NULL), 0);
	assert_int_equal(firewall_adopt(fw, clock_now(), NULL), 0);
	ban(fw, "192.0.2.1", 100);
	for (unsigned i = 1; i <= 2; i++) { /* the second repair waits for its time */
		nft("flush ruleset");
		ev_run(loop_done, 0);
		assert_int_equal(told.repaired, i);
		assert_in_range(left_s(fw, "192.0.2.1"), 97, 100);
	}
	assert_int_equal(firewall_remove(fw, NULL), 0);
	firewall_close(fw);
	ev_loop_destroy(loop_done);
	inforce_fini(&inforce);
}

/* A test that failed leaves its table. */
static int clean(void **state)
{
	(void)state;
	return netns_ready ? NETNS_RUN("nft", "flush", "ruleset") : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_shape, clean),
		cmocka_unit_test_teardown(test_set_this_end, clean),
		cmocka_unit_test_teardown(test_many_orders_in_one_commit, clean),
		cmocka_unit_test_teardown(test_refuses_nonsense, clean),
		cmocka_unit_test_teardown(test_burst, clean),
		cmocka_unit_test_teardown(test_set_full, clean),
		cmocka_unit_test_teardown(test_unban_is_not_lost, clean),
		cmocka_unit_test_teardown(test_back_off, clean),
		cmocka_unit_test_teardown(test_flush_is_repaired, clean),
		cmocka_unit_test_teardown(test_flush_under_a_commit, clean),
		cmocka_unit_test_teardown(test_structure_is_repaired, clean),
		cmocka_unit_test_teardown(test_element_by_hand, clean),
		cmocka_unit_test_teardown(test_adopt, clean),
		cmocka_unit_test_teardown(test_adopt_many, clean),
		cmocka_unit_test_teardown(test_adopt_foreign_shape, clean),
		cmocka_unit_test_teardown(test_overlapping_ports, clean),
		cmocka_unit_test_teardown(test_drops, clean),
		cmocka_unit_test_teardown(test_keep_edges, clean),
		cmocka_unit_test_teardown(test_counters_in_slices, clean),
		cmocka_unit_test_teardown(test_lost_notifications, clean),
		cmocka_unit_test_teardown(test_pace, clean),
		cmocka_unit_test_teardown(test_repair_war, clean),
		cmocka_unit_test_teardown(test_bans_wait_for_the_repair, clean),
		cmocka_unit_test_teardown(test_without_the_right, clean),
		cmocka_unit_test_teardown(test_loop, clean),
	};

	netns_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
