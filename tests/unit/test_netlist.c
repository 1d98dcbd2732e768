/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of networks against a plain scan. */
#include "daemon/base/netlist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

static struct addr net(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_net(slice_str(text), &a), 0);
	return a;
}

static void add(struct netlist *list, const char *text)
{
	struct addr a = net(text);

	assert_int_equal(netlist_add(list, &a), 0);
}

static void test_find(void **state)
{
	struct netlist list = {0};
	struct addr a = net("10.1.2.3"), whole = net("0.0.0.0/0"), six = net("::/0");

	(void)state;
	assert_null(netlist_find(&list, &a)); /* an empty list needs no sealing */
	assert_null(netlist_touches(&list, &whole));
	add(&list, "10.1.2.3");
	add(&list, "10.1.0.0/16");
	add(&list, "10.1.2.0/24");
	add(&list, "2001:db8::/32");
	add(&list, "10.1.0.0/16");
	netlist_seal(&list);
	assert_int_equal(list.count, 2);
	assert_int_equal(netlist_find(&list, &a)->plen, 16);
	a = net("10.2.0.0");
	assert_null(netlist_find(&list, &a));
	a = net("10.0.0.0/8");
	assert_null(netlist_find(&list, &a)); /* only a part of it */
	assert_int_equal(netlist_touches(&list, &a)->plen, 16);
	assert_non_null(netlist_touches(&list, &whole));
	assert_int_equal(netlist_touches(&list, &six)->family, ADDR_IPV6);
	a = net("10.1.0.0/17");
	assert_non_null(netlist_touches(&list, &a));
	a = net("10.2.0.0/15");
	assert_null(netlist_touches(&list, &a));
	add(&list, "0.0.0.0/0");
	assert_false(list.sealed);
	netlist_seal(&list);
	assert_int_equal(list.count, 2);
	netlist_free(&list);
	netlist_free(&list);
	assert_int_equal(list.count, 0);
}

static struct addr some_net(void)
{
	unsigned char b[16] = {
		0x20, 0, [14] = (unsigned char)random_below(4), [15] = (unsigned char)random_u64()};
	struct addr a = random_below(2) ? addr_from_ipv4(b + 12) : addr_from_ipv6(b);

	return addr_mask(a, addr_bits(&a) - (random_below(3) ? random_below(12) : 0));
}

static void test_model(void **state)
{
	(void)state;
	random_start("netlist");
	for (int round = 0; round < 1000; round++) {
		struct addr all[40];
		uint32_t n = random_below(40);
		struct netlist list = {0};

		for (uint32_t i = 0; i < n; i++) {
			all[i] = some_net();
			assert_int_equal(netlist_add(&list, &all[i]), 0);
			if (random_below(9) == 0)
				netlist_seal(&list);
		}
		netlist_seal(&list);
		for (size_t i = 1; i < list.count; i++) {
			assert_true(addr_cmp(&list.nets[i - 1], &list.nets[i]) < 0);
			assert_false(addr_contains(&list.nets[i - 1], &list.nets[i]));
		}
		for (int k = 0; k < 60; k++) {
			struct addr a = some_net();
			const struct addr *found = netlist_find(&list, &a),
					  *touched = netlist_touches(&list, &a);
			bool in = false, near = false;

			for (uint32_t i = 0; i < n; i++) {
				in = in || addr_contains(&all[i], &a);
				near = near || addr_contains(&all[i], &a) ||
				       addr_contains(&a, &all[i]);
			}
			assert_int_equal(found != NULL, in);
			assert_int_equal(touched != NULL, near);
			if (found)
				assert_true(addr_contains(found, &a));
			if (touched)
				assert_true(addr_contains(touched, &a) ||
					    addr_contains(&a, touched));
		}
		netlist_free(&list);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
