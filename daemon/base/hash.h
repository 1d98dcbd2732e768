/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Seeded hashing (SipHash-2-4 with 64-bit result, Aumasson and Bernstein 2012).
 *
 * Attackers choose the keys of every table here, so each table is seeded from the kernel's random
 * source and its collisions cannot be prepared from outside.
 */
#ifndef TAILBAN_BASE_HASH_H
#define TAILBAN_BASE_HASH_H

#include "daemon/base/addr.h"

struct hash_seed {
	uint64_t k0, k1;
};

/* Fresh random seed by getrandom(2); falls back to clock and pid only when the call fails. */
struct hash_seed hash_seed_new(void);

uint64_t hash_bytes(const struct hash_seed *seed, const void *bytes, size_t n);

/* Address with family and prefix length, plus a small number (a jail, a port) in one go. */
uint64_t hash_addr(const struct hash_seed *seed, const struct addr *a, uint32_t salt);

#endif
