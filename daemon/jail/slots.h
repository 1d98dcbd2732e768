/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounded table of records keyed by address, in memory that outlives the process.
 *
 * The ledger and the ban history are made of it. It is set-associative: a seeded hash names a set
 * of SLOTS_WAYS slots, a look-up reads 16 two-byte tags and compares one key, so it costs the same
 * with ten addresses or a million. When a set is full of live records the table doubles, up to its
 * cap; from then on the record with the lowest rank of the set makes room, which is counted.
 *
 * The memory holds no pointers. It may be a shared mapping that a new process takes over after the
 * old one crashed in the middle of anything: nothing in it is believed. slots_attach checks every
 * slot (key well-formed, in its right set, not there twice, checksum, and what `ok` says of the
 * payload), drops and counts the bad ones. Doubling needs no journal: records are copied to the new
 * half, then one 64-bit store makes the half valid, then the originals go; a crash before the store
 * leaves the old table, one after it leaves records that are in the wrong set and are dropped while
 * their copies stay.
 *
 * A changed record must be closed by slots_seal, which writes its checksum; a process that dies
 * between the two loses this record only. No malloc, no system call.
 */
#ifndef TAILBAN_JAIL_SLOTS_H
#define TAILBAN_JAIL_SLOTS_H

#include "daemon/base/addr.h"
#include "daemon/base/hash.h"

#define SLOTS_WAYS 16u

/* Every record starts so; the user's payload follows and is part of the checksum. */
struct slot {
	uint8_t b[16];
	uint8_t family, plen;
	uint16_t salt; /* second part of the key */
	uint32_t check;
};

/* What the table asks its user; both get `ctx`. */
struct slots_hooks {
	/* Is the payload sound? Sees any bytes; key and checksum were found good. */
	bool (*ok)(const void *ctx, const struct slot *s);
	/* Bytes of s in use from its start; the rest is not part of the checksum. Sees any bytes.
	 */
	uint32_t (*used_bytes)(const void *ctx, const struct slot *s);
	/* Who goes first: lowest. 0 = dead at `now_s`, goes without being counted as an eviction.
	 */
	uint64_t (*rank)(const void *ctx, const struct slot *s, int64_t now_s);
};

struct slots_control; /* lives in the region */

/* What a region begins with: whose it is and the seed of its tables. */
struct slots_head {
	uint64_t magic, shape;
	struct hash_seed seed;
	uint64_t check;
	uint64_t dropped, refused; /* counters of the user */
	uint64_t spare;
};

/* True when the head is sound and of this shape; else it is written afresh, with a new seed. */
bool slots_head_open(struct slots_head *head, uint64_t shape);

struct slots {
	struct slots_control *control;
	unsigned char *sets;
	const struct slots_hooks *hooks;
	const void *ctx;
	struct hash_seed seed;
	uint32_t slot_bytes; /* multiple of 8 */
	uint32_t cap_sets;   /* power of two */
	uint32_t nsets;      /* power of two <= cap_sets */
	uint32_t used;
};

/*
 * Sets for `records`, a power of two. Half as many slots again are in it, because sets fill
 * unevenly and the first would overflow long before all are full.
 */
uint32_t slots_cap_sets(uint32_t records);

/* Bytes of region that a table needs (a multiple of 64). */
size_t slots_bytes(uint32_t slot_bytes, uint32_t cap_sets);

/*
 * t's slot_bytes, cap_sets, hooks, ctx and seed are set by the caller. With `keep` the region's
 * records are checked and taken over; else, and when its size mark is not sound, it is formatted.
 * Returns how many bad records were dropped.
 */
uint32_t slots_attach(struct slots *t, void *region, bool keep);

/* The record of this key, or NULL. */
struct slot *slots_find(const struct slots *t, const struct addr *key, uint16_t salt);

/* A new record (the key must be absent) with a zeroed payload; never NULL. Seal it. */
struct slot *slots_insert(struct slots *t, const struct addr *key, uint16_t salt, int64_t now_s);

void slots_seal(const struct slots *t, struct slot *s);
void slots_remove(struct slots *t, struct slot *s);

/* Removes every record for which `drop` says so; returns how many. A scan of the whole table. */
uint32_t slots_sweep(struct slots *t, bool (*drop)(const void *arg, const struct slot *s),
		     const void *arg);

/* Copies the table into another region of its size; reads and writes only what is in use. */
void slots_copy(const struct slots *t, void *to_region);

struct addr slots_key(const struct slot *s);

/* Records that made room for others while they were alive, since the region was formatted. */
uint64_t slots_evicted(const struct slots *t);

/* Bytes of the region that are in use now. */
size_t slots_touched(const struct slots *t);

#endif
