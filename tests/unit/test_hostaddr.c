/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Own addresses and gateways, in a network namespace of its own; skipped where none can be made or
 * ip(8) lacks. */
#include "daemon/base/hostaddr.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static bool alone;

static bool holds(const struct netlist *list, const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(slice_str(text), &a), 0);
	return netlist_find(list, &a) != NULL;
}

static void run(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

static int enter(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return 0;
	alone = system("ip link set lo up 2>/dev/null") == 0;
	return 0;
}

static void test_addresses(void **state)
{
	struct netlist own, gateways;

	(void)state;
	if (!alone)
		skip();
	run("ip link add uhost0 type veth peer name uhost1");
	run("ip addr add 192.0.2.5/24 dev uhost0");
	run("ip addr add 198.51.100.1 peer 198.51.100.2 dev uhost0");
	run("ip addr add 2001:db8::5/64 dev uhost0 nodad");
	run("ip link set uhost0 up && ip link set uhost1 up");
	run("ip route add local 203.0.113.0/28 dev lo");
	run("ip route add local 0.0.0.0/0 dev lo table 100"); /* a transparent proxy's */
	assert_int_equal(hostaddr_read(&own, &gateways), 0);
	assert_true(own.sealed && gateways.sealed);
	assert_true(holds(&own, "127.0.0.1"));
	assert_true(holds(&own, "::1"));
	assert_true(holds(&own, "192.0.2.5"));
	assert_true(holds(&own, "198.51.100.1"));
	assert_true(holds(&own, "2001:db8::5"));
	assert_true(holds(&own, "203.0.113.9"));
	assert_false(holds(&own, "192.0.2.6"));
	assert_false(holds(&own, "192.0.2.255"));
	assert_false(holds(&own, "198.51.100.2"));
	assert_false(holds(&own, "8.8.8.8"));
	assert_int_equal(gateways.count, 0);
	netlist_free(&own);
	netlist_free(&gateways);
}

static void test_gateways(void **state)
{
	struct netlist own, gateways;

	(void)state;
	if (!alone)
		skip();
	run("ip route add default via 192.0.2.1");
	run("ip route add default via 192.0.2.7 table 77");
	run("ip route add 0.0.0.0/1 via 192.0.2.8");
	run("ip route add 10.0.0.0/8 via 192.0.2.9");
	run("ip route add default metric 50 nexthop via 192.0.2.2 nexthop via 192.0.2.3");
	run("ip route add default via inet6 fe80::77 dev uhost0 metric 60");
	run("ip -6 route add default via fe80::1 dev uhost0");
	run("ip -6 route add default metric 9 nexthop via fe80::2 dev uhost0 nexthop via fe80::3 "
	    "dev uhost0");
	assert_int_equal(hostaddr_read(&own, &gateways), 0);
	assert_true(holds(&gateways, "192.0.2.1"));
	assert_true(holds(&gateways, "192.0.2.7"));
	assert_true(holds(&gateways, "192.0.2.8"));
	assert_true(holds(&gateways, "192.0.2.2"));
	assert_true(holds(&gateways, "192.0.2.3"));
	assert_true(holds(&gateways, "fe80::77"));
	assert_true(holds(&gateways, "fe80::1"));
	assert_true(holds(&gateways, "fe80::2"));
	assert_true(holds(&gateways, "fe80::3"));
	assert_int_equal(gateways.count, 9);
	netlist_free(&own);
	netlist_free(&gateways);
}

/* Many addresses need more than one datagram. */
static void test_many(void **state)
{
	struct netlist own, gateways;

	(void)state;
	if (!alone)
		skip();
	run("for i in 1 2 3 4 5 6 7 8; do for k in $(seq 1 250); do echo addr add 10.8.$i.$k/32 "
	    "dev uhost0; "
	    "done; done | ip -batch -");
	assert_int_equal(hostaddr_read(&own, &gateways), 0);
	assert_true(holds(&own, "10.8.1.1"));
	assert_true(holds(&own, "10.8.8.250"));
	assert_false(holds(&own, "10.8.8.251"));
	assert_true(own.count >= 2000);
	netlist_free(&own);
	netlist_free(&gateways);
}

static void test_watch(void **state)
{
	int fd;

	(void)state;
	if (!alone)
		skip();
	fd = hostaddr_watch();
	assert_true(fd >= 0);
	assert_false(hostaddr_changed(fd));
	run("ip route add 10.77.0.0/16 via 192.0.2.9");
	assert_false(hostaddr_changed(fd));
	run("ip addr add 192.0.2.66/32 dev uhost0");
	assert_true(hostaddr_changed(fd));
	assert_false(hostaddr_changed(fd));
	run("ip route del default via 192.0.2.1");
	assert_true(hostaddr_changed(fd));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_gateways),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_watch),
	};

	return cmocka_run_group_tests(tests, enter, NULL);
}
