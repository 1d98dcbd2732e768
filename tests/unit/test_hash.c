/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SipHash-2-4: the reference vectors (Aumasson and Bernstein), seeds, spread. */
#include "daemon/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

static void test_vectors(void **state)
{
	/* key 00 01 .. 0f, input 00 01 .. of the given length; read as little-endian words */
	static const struct hash_seed key = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	static const struct {
		size_t n;
		uint64_t want;
	} vectors[] = {
		{0, 0x726fdb47dd0e0e31u},
		{1, 0x74f839c593dc67fdu},
		{8, 0x93f5f5799a932462u},
		{15, 0xa129ca6149be45e5u},
	};
	unsigned char in[16];

	(void)state;
	if (*(const unsigned char *)&(const uint16_t){1} != 1)
		skip();
	for (unsigned i = 0; i < sizeof in; i++)
		in[i] = (unsigned char)i;
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
		assert_true(hash_bytes(&key, in, vectors[i].n) == vectors[i].want);
	assert_true(hash_bytes(&key, NULL, 0) == vectors[0].want);
}

static void test_seeds_differ(void **state)
{
	struct hash_seed a = hash_seed_new(), b = hash_seed_new();

	(void)state;
	assert_memory_not_equal(&a, &b, sizeof a);
	assert_true(hash_bytes(&a, "x", 1) != hash_bytes(&b, "x", 1));
}

/* Every part of the key counts. */
static void test_addr_parts(void **state)
{
	struct hash_seed seed = hash_seed_new();
	struct addr a = {{10, 0, 0, 0}, ADDR_IPV4, 32}, b = a;
	uint64_t one = hash_addr(&seed, &a, 0);

	(void)state;
	assert_true(one == hash_addr(&seed, &b, 0));
	assert_true(one != hash_addr(&seed, &a, 1));
	b.plen = 24;
	assert_true(one != hash_addr(&seed, &b, 0));
	b = a;
	b.family = ADDR_IPV6;
	assert_true(one != hash_addr(&seed, &b, 0));
	b = a;
	b.b[3] = 1;
	assert_true(one != hash_addr(&seed, &b, 0));
}

/* Neighbouring addresses fill buckets evenly, by the low and the high bits. */
static void test_spread(void **state)
{
	struct hash_seed seed = hash_seed_new();
	unsigned low[256] = {0}, high[256] = {0};

	(void)state;
	for (uint32_t i = 0; i < 65536; i++) {
		struct addr a = {{10, 0, (uint8_t)(i >> 8), (uint8_t)i}, ADDR_IPV4, 32};
		uint64_t h = hash_addr(&seed, &a, 0);

		low[h & 255]++;
		high[h >> 56]++;
	}
	for (int i = 0; i < 256; i++) { /* 256 expected, deviation 16 */
		assert_in_range(low[i], 128, 384);
		assert_in_range(high[i], 128, 384);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_seeds_differ),
		cmocka_unit_test(test_addr_parts),
		cmocka_unit_test(test_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
