/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of each address: see tally.h. Only tally_new can fail. */
#include "daemon/jail/tally.h"
#include "daemon/jail/slots.h"

#include <stdlib.h>
#include <sys/mman.h>

struct record {
	struct slot slot;
	int64_t last_s;
	uint32_t count; /* of lines, or of disputed offences in a jail */
	uint32_t owed;  /* second lines of bad requests that are still to come */
};

struct tally {
	struct slots slots;
	void *region;
	size_t bytes;
};

static bool ok(const void *ctx, const struct slot *s)
{
	(void)ctx;
	(void)s;
	return true;
}

static uint32_t used_bytes(const void *ctx, const struct slot *s)
{
	(void)ctx;
	(void)s;
	return sizeof(struct record);
}

static bool is_old(const struct record *r, int64_t now_s)
{
	return now_s - r->last_s > TALLY_KEEP_S;
}

static uint64_t rank(const void *ctx, const struct slot *s, int64_t now_s)
{
	const struct record *r = (const struct record *)s;

	(void)ctx;
	return is_old(r, now_s) ? 0 : (uint64_t)r->count + 1;
}

static const struct slots_hooks hooks = {ok, used_bytes, rank};

struct tally *tally_new(uint32_t records)
{
	struct tally *t = calloc(1, sizeof *t);
	void *region;

	if (!t)
		return NULL;
	t->slots = (struct slots){.hooks = &hooks,
				  .seed = hash_seed_new(),
				  .slot_bytes = sizeof(struct record),
				  .cap_sets = slots_cap_sets(records)};
	t->bytes = slots_bytes(t->slots.slot_bytes, t->slots.cap_sets);
	region = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region == MAP_FAILED) {
		free(t);
		return NULL;
	}
	t->region = region;
	slots_attach(&t->slots, region, false);
	return t;
}

void tally_free(struct tally *t)
{
	if (!t)
		return;
	munmap(t->region, t->bytes);
	free(t);
}

static struct addr key_of(const struct addr *host)
{
	return host->family == ADDR_IPV6 ? addr_mask(*host, 64) : *host;
}

#define LINES 0u /* the second part of the key; a jail has its number + 1 */

static struct record *record_of(struct tally *t, const struct addr *host, uint16_t salt,
				int64_t now_s)
{
	struct addr key = key_of(host);
	struct record *r = (struct record *)slots_find(&t->slots, &key, salt);

	if (!r)
		r = (struct record *)slots_insert(&t->slots, &key, salt, now_s);
	if (is_old(r, now_s))
		r->count = r->owed = 0;
	r->last_s = now_s;
	return r;
}

void tally_line(struct tally *t, const struct addr *host, bool partner, int64_t now_s)
{
	struct record *r = record_of(t, host, LINES, now_s);

	if (partner && r->owed)
		r->owed--;
	else if (r->count < UINT32_MAX)
		r->count++;
	slots_seal(&t->slots, &r->slot);
}

void tally_owe(struct tally *t, const struct addr *host, int64_t now_s)
{
	struct record *r = record_of(t, host, LINES, now_s);

	if (r->owed < UINT32_MAX)
		r->owed++;
	slots_seal(&t->slots, &r->slot);
}

bool tally_owed(const struct tally *t, const struct addr *host, int64_t now_s)
{
	struct addr key = key_of(host);
	const struct record *r = (const struct record *)slots_find(&t->slots, &key, LINES);

	return r && !is_old(r, now_s) && r->owed;
}

uint32_t tally_dispute(struct tally *t, const struct addr *host, uint16_t jail, uint32_t offences,
		       int64_t now_s)
{
	struct record *r = record_of(t, host, (uint16_t)(jail + 1u), now_s);

	r->count = offences < UINT32_MAX - r->count ? r->count + offences : UINT32_MAX;
	slots_seal(&t->slots, &r->slot);
	return r->count;
}

static uint32_t count_of(const struct tally *t, const struct addr *host, uint16_t salt,
			 int64_t now_s)
{
	struct addr key = key_of(host);
	const struct record *r = (const struct record *)slots_find(&t->slots, &key, salt);

	return r && !is_old(r, now_s) ? r->count : 0;
}

struct tally_entry tally_of(const struct tally *t, const struct addr *host, uint16_t jail,
			    int64_t now_s)
{
	return (struct tally_entry){count_of(t, host, LINES, now_s),
				    count_of(t, host, (uint16_t)(jail + 1u), now_s)};
}

uint64_t tally_evicted(const struct tally *t)
{
	return slots_evicted(&t->slots);
}
