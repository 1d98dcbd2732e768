/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses: what is one and what is not, against tables, inet_pton and bit by bit. */
#include "daemon/base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

#define TEXT(literal)                                                                              \
	{                                                                                          \
		literal, sizeof(literal) - 1                                                       \
	}

static const struct {
	struct slice in;
	const char *out; /* NULL = refused */
} hosts[] = {
	{TEXT("192.0.2.1"), "192.0.2.1"},
	{TEXT("0.0.0.0"), "0.0.0.0"},
	{TEXT("255.255.255.255"), "255.255.255.255"},
	{TEXT("2001:DB8::1"), "2001:db8::1"},
	{TEXT("::"), "::"},
	{TEXT("::1"), "::1"},
	{TEXT("1:2:3:4:5:6:7:8"), "1:2:3:4:5:6:7:8"},
	{TEXT("::ffff:192.0.2.1"), "192.0.2.1"},
	{TEXT("::FFFF:c000:0201"), "192.0.2.1"},
	{TEXT("::192.0.2.1"), "::192.0.2.1"},
	{TEXT("64:ff9b::192.0.2.1"), "64:ff9b::c000:201"},
	{TEXT("fe80::1%eth0"), "fe80::1"},
	{TEXT("fe80::1%2"), "fe80::1"},
	{TEXT("::ffff:192.0.2.1%eth0"), "192.0.2.1"},
	{TEXT(""), NULL},
	{TEXT("1"), NULL},
	{TEXT("127.1"), NULL},
	{TEXT("2130706433"), NULL},
	{TEXT("192.030.0.6"), NULL},
	{TEXT("192.0.2.01"), NULL},
	{TEXT("00.0.0.0"), NULL},
	{TEXT("192.0.2.256"), NULL},
	{TEXT("192.0.2.99999999999"), NULL},
	{TEXT("4294967488.0.2.1"), NULL},
	{TEXT("192.0.2"), NULL},
	{TEXT("192.0.2."), NULL},
	{TEXT("192.0.2.1."), NULL},
	{TEXT(".192.0.2.1"), NULL},
	{TEXT("192..2.1"), NULL},
	{TEXT("192.0.2.1.5"), NULL},
	{TEXT("192.0.2.1 "), NULL},
	{TEXT(" 192.0.2.1"), NULL},
	{TEXT("192.0.2.1\n"), NULL},
	{TEXT("192.0.2.1\0"), NULL},
	{TEXT("192.0.2.1:80"), NULL},
	{TEXT("192.0.2.+1"), NULL},
	{TEXT("0x7f.0.0.1"), NULL},
	{TEXT("192.0.2.\xd9\xa1"), NULL}, /* an Arabic digit */
	{TEXT("[::1]"), NULL},
	{TEXT(":::"), NULL},
	{TEXT("::1::"), NULL},
	{TEXT("1:2:3:4:5:6:7:8:9"), NULL},
	{TEXT("12345::"), NULL},
	{TEXT("::ffff:192.030.0.6"), NULL},
	{TEXT("::1\0"), NULL},
	{TEXT("::1\0:"), NULL},
	{TEXT("fe80::1%"), NULL},
	{TEXT("fe80::1%e h"), NULL},
	{TEXT("fe80::1%../x"), NULL},
	{TEXT("fe80::1%eth0%eth1"), NULL},
	{TEXT("fe80::1%\x1b[31m"), NULL},
	{TEXT("fe80::1%aaaaaaaaaaaaaaaa"), NULL},
	{TEXT("%eth0:"), NULL},
	{TEXT("192.0.2.1%eth0"), NULL},
	{TEXT("example.org"), NULL},
	{TEXT("::ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"), NULL},
};

static void test_hosts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
		struct addr a = {.plen = 99};
		char buf[ADDR_STRLEN];
		int r = addr_parse(hosts[i].in, &a);

		if (!hosts[i].out) {
			if (r != -EINVAL || a.plen != 99)
				fail_msg("taken: %s", hosts[i].in.p);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(a.plen, addr_bits(&a));
		assert_string_equal(addr_format(&a, buf), hosts[i].out);
	}
}

static const struct {
	const char *in, *out;
} nets[] = {
	{"192.0.2.77/24", "192.0.2.0/24"},
	{"192.0.2.77/32", "192.0.2.77"},
	{"192.0.2.77", "192.0.2.77"},
	{"192.0.2.77/0", "0.0.0.0/0"},
	{"192.0.2.77/31", "192.0.2.76/31"},
	{"192.0.2.77/255.255.255.0", "192.0.2.0/24"},
	{"192.0.2.77/255.255.255.255", "192.0.2.77"},
	{"192.0.2.77/0.0.0.0", "0.0.0.0/0"},
	{"192.0.2.77/128.0.0.0", "128.0.0.0/1"},
	{"2001:db8::1/64", "2001:db8::/64"},
	{"2001:db8::1/0", "::/0"},
	{"2001:db8:ffff::/33", "2001:db8:8000::/33"},
	{"::ffff:10.1.2.3/104", "10.0.0.0/8"},
	{"::ffff:10.1.2.3/96", "0.0.0.0/0"},
	{"fe80::1%eth0/64", "fe80::/64"},
	{"::ffff:10.1.2.3/95", NULL},
	{"192.0.2.77/33", NULL},
	{"192.0.2.77/", NULL},
	{"192.0.2.77/-1", NULL},
	{"192.0.2.77/24/24", NULL},
	{"192.0.2.77/ 24", NULL},
	{"192.0.2.77/255.0.255.0", NULL},
	{"192.0.2.77/0.0.0.255", NULL},
	{"192.0.2.77/255.255.255", NULL},
	{"2001:db8::1/129", NULL},
	{"2001:db8::1/ffff::", NULL},
	{"::ffff:10.1.2.3/255.0.0.0", NULL},
	{"/24", NULL},
	{"", NULL},
};

static void test_nets(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
		char buf[ADDR_STRLEN];
		struct addr a;
		int r = addr_parse_net(slice_str(nets[i].in), &a);

		if (r != (nets[i].out ? 0 : -EINVAL))
			fail_msg("%s: %d", nets[i].in, r);
		if (nets[i].out)
			assert_string_equal(addr_format(&a, buf), nets[i].out);
	}
}

static void test_kinds(void **state)
{
	static const struct {
		const char *text;
		bool loopback, unspecified, multicast;
	} kinds[] = {
		{"127.0.0.1", true, false, false},
		{"127.255.255.255", true, false, false},
		{"128.0.0.1", false, false, false},
		{"::1", true, false, false},
		{"::2", false, false, false},
		{"::", false, true, false},
		{"0.0.0.0", false, true, false},
		{"0.1.2.3", false, true, false},
		{"224.0.0.1", false, false, true},
		{"239.255.255.255", false, false, true},
		{"240.0.0.1", false, false, false},
		{"255.255.255.255", false, false, true},
		{"ff02::1", false, false, true},
		{"fe80::1", false, false, false},
		{"::ffff:127.0.0.1", true, false, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct addr a;

		assert_int_equal(addr_parse(slice_str(kinds[i].text), &a), 0);
		assert_int_equal(addr_is_loopback(&a), kinds[i].loopback);
		assert_int_equal(addr_is_unspecified(&a), kinds[i].unspecified);
		assert_int_equal(addr_is_multicast(&a), kinds[i].multicast);
	}
}

static void test_format(void **state)
{
	struct addr none = {0}, a;
	char buf[ADDR_STRLEN];

	(void)state;
	assert_string_equal(addr_format(&none, buf), "-");
	assert_int_equal(addr_parse_net(SLICE("1111:2222:3333:4444:5555:6666:7777:8888/127"), &a),
			 0);
	assert_string_equal(addr_format(&a, buf), "1111:2222:3333:4444:5555:6666:7777:8888/127");
}

/* Near-addresses: the verdict and the bytes are inet_pton's (glibc's is as strict as ours). */
static void test_like_inet_pton(void **state)
{
	static const char letters[] = "0123456789.:f";
	unsigned taken = 0;

	(void)state;
	random_start("inet_pton");
	for (int round = 0; round < 400000; round++) {
		unsigned char raw[16];
		char text[48];
		size_t n = 0;
		bool ok4, ok6;
		struct addr a;
		int r;

		if (random_below(2)) {
			n = (size_t)snprintf(text, sizeof text, "%u.%u.%u.%u", random_below(300),
					     random_below(300), random_below(300),
					     random_below(300));
		} else {
			for (int i = 0; i < 16; i++)
				raw[i] = random_below(3) ? 0 : (unsigned char)random_u64();
			inet_ntop(AF_INET6, raw, text, sizeof text);
			n = strlen(text);
		}
		if (random_below(2))
			text[random_below((uint32_t)n)] = letters[random_below(sizeof letters - 1)];
		r = addr_parse(slice_of(text, n), &a);
		ok4 = inet_pton(AF_INET, text, raw) == 1;
		ok6 = !ok4 && inet_pton(AF_INET6, text, raw) == 1;
		assert_int_equal(r, ok4 || ok6 ? 0 : -EINVAL);
		if (!r) {
			struct addr b = ok4 ? addr_from_ipv4(raw) : addr_from_ipv6(raw);

			assert_true(addr_eq(&a, &b));
			taken++;
		}
	}
	assert_true(taken > 100000);
}

static bool bit(const struct addr *a, unsigned i)
{
	return a->b[i / 8] >> (7 - i % 8) & 1;
}

static struct addr some_addr(void)
{
	unsigned char b[16];
	struct addr a;

	for (int i = 0; i < 16; i++)
		b[i] = random_below(4) ? 0xaa : (unsigned char)random_u64();
	a = random_below(2) ? addr_from_ipv4(b) : addr_from_ipv6(b);
	return addr_mask(a, random_below(2) ? addr_bits(&a) : random_below(addr_bits(&a) + 1));
}

static void test_masks(void **state)
{
	(void)state;
	random_start("masks");
	for (int round = 0; round < 100000; round++) {
		struct addr a = some_addr(), b = some_addr(), cut, again;
		unsigned plen = random_below(130);
		bool inside = a.family == b.family && a.plen <= b.plen;
		char buf[ADDR_STRLEN];

		cut = addr_mask(a, plen);
		assert_int_equal(cut.plen, plen < a.plen ? plen : a.plen);
		for (unsigned i = 0; i < 128; i++)
			assert_int_equal(bit(&cut, i), i < cut.plen && bit(&a, i));
		assert_true(addr_contains(&cut, &a));
		for (unsigned i = 0; inside && i < a.plen; i++)
			inside = bit(&a, i) == bit(&b, i);
		assert_int_equal(addr_contains(&a, &b), inside);
		assert_int_equal(addr_cmp(&a, &b) == 0, addr_eq(&a, &b));
		assert_int_equal(addr_cmp(&a, &b) < 0, addr_cmp(&b, &a) > 0);
		if (inside && !addr_eq(&a, &b))
			assert_true(addr_cmp(&a, &b) < 0); /* a network before what it holds */
		assert_int_equal(addr_parse_net(slice_str(addr_format(&a, buf)), &again), 0);
		assert_true(addr_eq(&a, &again));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts),          cmocka_unit_test(test_nets),
		cmocka_unit_test(test_kinds),          cmocka_unit_test(test_format),
		cmocka_unit_test(test_like_inet_pton), cmocka_unit_test(test_masks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
