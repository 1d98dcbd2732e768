/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SipHash-2-4: see hash.h. Nothing fails. */
#include "daemon/base/hash.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = ROTL(s->v1, 13) ^ s->v0;
	s->v0 = ROTL(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = ROTL(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = ROTL(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = ROTL(s->v1, 17) ^ s->v2;
	s->v2 = ROTL(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

struct hash_seed hash_seed_new(void)
{
	struct hash_seed seed;

	if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		seed.k0 = (uint64_t)ts.tv_nsec * 0x9e3779b97f4a7c15u;
		seed.k1 = (uint64_t)getpid() * 0xc2b2ae3d27d4eb4fu ^ (uint64_t)ts.tv_sec;
	}
	return seed;
}

uint64_t hash_bytes(const struct hash_seed *seed, const void *bytes, size_t n)
{
	struct sip s = {seed->k0 ^ 0x736f6d6570736575u, seed->k1 ^ 0x646f72616e646f6du,
			seed->k0 ^ 0x6c7967656e657261u, seed->k1 ^ 0x7465646279746573u};
	const unsigned char *p = bytes;
	uint64_t word, last = (uint64_t)n << 56;
	size_t left = n;

	for (; left >= 8; left -= 8, p += 8) {
		memcpy(&word, p, 8);
		sip_word(&s, word);
	}
	for (size_t i = 0; i < left; i++)
		last |= (uint64_t)p[i] << (8 * i);
	sip_word(&s, last);
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t hash_addr(const struct hash_seed *seed, const struct addr *a, uint32_t salt)
{
	unsigned char key[24] = {0};

	memcpy(key, a->b, 16);
	key[16] = a->family;
	key[17] = a->plen;
	memcpy(key + 20, &salt, 4);
	return hash_bytes(seed, key, sizeof key);
}
