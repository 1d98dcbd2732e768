/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of bans: see bans.h. Only making the list can fail; a full one keeps out. */
#include "daemon/jail/bans.h"

#include <stdlib.h>

#include "daemon/base/hash.h"

enum {
	CHAIN,
	HEAP
}; /* struct ban's links; numbers in them and in buckets are index + 1, 0 = none */

#define START_BUCKETS 16u

struct bans {
	struct ban *entries; /* free ones have the family ADDR_NONE */
	uint32_t *buckets, *heap;
	uint32_t cap, high, count, free, nheap;
	uint32_t nbuckets, mask, max_buckets; /* mask: the power of two >= nbuckets, less one */
	struct hash_seed seed;
	uint32_t lengths[2][129]; /* entries per family and prefix length */
	uint64_t in_use[2][3];    /* the same as bits */
	uint64_t kept_out;
};

struct bans *bans_new(uint32_t cap)
{
	struct bans *list = calloc(1, sizeof *list);

	if (!list || !cap || cap > UINT32_MAX / 2)
		goto out;
	list->cap = cap;
	list->mask = START_BUCKETS - 1;
	list->nbuckets = START_BUCKETS;
	for (list->max_buckets = START_BUCKETS; list->max_buckets < cap;)
		list->max_buckets *= 2;
	list->seed = hash_seed_new();
	/* Zeroed memory of this size comes as untouched pages. */
	list->entries = calloc(cap, sizeof list->entries[0]);
	list->buckets = calloc(list->max_buckets, sizeof list->buckets[0]);
	list->heap = calloc(cap, sizeof list->heap[0]);
	if (list->entries && list->buckets && list->heap)
		return list;
out:
	bans_free(list);
	return NULL;
}

static void free_reason(const char *reason)
{
	free((void *)(uintptr_t)reason);
}

void bans_free(struct bans *list)
{
	if (!list)
		return;
	for (uint32_t i = 0; i < list->high; i++)
		free_reason(list->entries[i].reason);
	free(list->entries);
	free(list->buckets);
	free(list->heap);
	free(list);
}

static struct ban *entry(const struct bans *list, uint32_t link)
{
	return link ? &list->entries[link - 1] : NULL;
}

/* For links that cannot be 0: those in the heap. */
static struct ban *heap_entry(const struct bans *list, uint32_t link)
{
	return &list->entries[link - 1];
}

static uint32_t link_to(const struct bans *list, const struct ban *b)
{
	return (uint32_t)(b - list->entries) + 1;
}

/* Linear hashing: bucket i splits into i and i + (mask + 1) / 2, one bucket for each new ban. */
static uint32_t *bucket_of(const struct bans *list, const struct addr *addr)
{
	uint32_t i = (uint32_t)hash_addr(&list->seed, addr, 0) & list->mask;

	return &list->buckets[i < list->nbuckets ? i : i & list->mask >> 1];
}

static void split_bucket(struct bans *list)
{
	uint32_t *fresh = &list->buckets[list->nbuckets], *from, link;

	if (list->nbuckets > list->mask)
		list->mask = list->mask * 2 + 1;
	from = &list->buckets[list->nbuckets & list->mask >> 1];
	list->nbuckets++;
	link = *from;
	*from = *fresh = 0;
	while (link) {
		struct ban *b = entry(list, link);
		uint32_t next = b->links[CHAIN], *to = bucket_of(list, &b->addr);

		b->links[CHAIN] = *to;
		*to = link;
		link = next;
	}
}

static void chain(struct bans *list, struct ban *b)
{
	uint32_t *bucket;

	if (list->count > list->nbuckets && list->nbuckets < list->max_buckets)
		split_bucket(list);
	bucket = bucket_of(list, &b->addr);
	b->links[CHAIN] = *bucket;
	*bucket = link_to(list, b);
}

static void unchain(struct bans *list, const struct ban *b)
{
	uint32_t *at = bucket_of(list, &b->addr), link = link_to(list, b);

	while (*at != link)
		at = &entry(list, *at)->links[CHAIN];
	*at = b->links[CHAIN];
}

static void heap_put(struct bans *list, uint32_t at, uint32_t link)
{
	list->heap[at] = link;
	heap_entry(list, link)->links[HEAP] = at + 1;
}

static int64_t heap_end(const struct bans *list, uint32_t at)
{
	return heap_entry(list, list->heap[at])->end_mono_ns;
}

/* Puts `link` where it belongs, starting from the hole `at`. */
static void heap_settle(struct bans *list, uint32_t at, uint32_t link)
{
	int64_t end = heap_entry(list, link)->end_mono_ns;

	while (at && heap_end(list, (at - 1) / 2) > end) {
		heap_put(list, at, list->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	for (uint32_t child; (child = at * 2 + 1) < list->nheap; at = child) {
		if (child + 1 < list->nheap && heap_end(list, child + 1) < heap_end(list, child))
			child++;
		if (heap_end(list, child) >= end)
			break;
		heap_put(list, at, list->heap[child]);
	}
	heap_put(list, at, link);
}

static void heap_remove(struct bans *list, struct ban *b)
{
	uint32_t at = b->links[HEAP], last;

	if (!at)
		return;
	b->links[HEAP] = 0;
	last = list->heap[--list->nheap];
	if (at - 1 < list->nheap)
		heap_settle(list, at - 1, last);
}

static void heap_insert(struct bans *list, struct ban *b)
{
	if (b->end_mono_ns == CLOCK_FOREVER)
		return;
	list->nheap++;
	heap_settle(list, list->nheap - 1, link_to(list, b));
}

static void count_length(struct bans *list, const struct addr *a, bool add)
{
	unsigned family = a->family == ADDR_IPV6, plen = a->plen;
	uint64_t bit = UINT64_C(1) << (plen % 64);

	list->lengths[family][plen] += add ? 1 : UINT32_MAX;
	if (list->lengths[family][plen])
		list->in_use[family][plen / 64] |= bit;
	else
		list->in_use[family][plen / 64] &= ~bit;
}

static struct ban *take_free(struct bans *list)
{
	struct ban *b = entry(list, list->free);

	if (b)
		list->free = b->links[CHAIN];
	else
		b = &list->entries[list->high++];
	return b;
}

static const char *copy_reason(const char *reason)
{
	return reason ? strndup(reason, BANS_REASON_BYTES_MAX) : NULL;
}

static void extend(struct bans *list, struct ban *old, const struct ban *b)
{
	const char *reason = copy_reason(b->reason);

	heap_remove(list, old);
	free_reason(old->reason);
	old->reason = reason;
	old->source = b->source;
	old->scope_port = b->scope_port;
	old->confirmed = false;
	old->until_wall_s = b->until_wall_s;
	old->end_mono_ns = b->end_mono_ns;
	old->count = b->count;
	old->rule = b->rule;
	old->offences = b->offences;
	heap_insert(list, old);
}

enum bans_result bans_add(struct bans *list, const struct ban *b, struct ban **ret_ban)
{
	struct ban *old = bans_find(list, &b->addr, b->jail), *unused;

	if (!ret_ban)
		ret_ban = &unused;
	if (old) {
		*ret_ban = old;
		if (old->end_mono_ns >= b->end_mono_ns)
			return BANS_KEPT;
		extend(list, old, b);
		return BANS_EXTENDED;
	}
	if (list->count == list->cap) {
		list->kept_out++;
		return BANS_FULL;
	}
	old = take_free(list);
	*old = *b;
	old->links[HEAP] = 0;
	old->reason = copy_reason(b->reason);
	list->count++;
	chain(list, old);
	heap_insert(list, old);
	count_length(list, &old->addr, true);
	*ret_ban = old;
	return BANS_ADDED;
}

/* Takes it off the list; its reason is the caller's now. */
static const char *detach(struct bans *list, struct ban *b)
{
	const char *reason = b->reason;

	heap_remove(list, b);
	unchain(list, b);
	count_length(list, &b->addr, false);
	*b = (struct ban){.links = {[CHAIN] = list->free}};
	list->free = link_to(list, b);
	list->count--;
	return reason;
}

unsigned bans_remove(struct bans *list, const struct addr *addr, uint16_t jail)
{
	struct addr key = *addr; /* may lie in the entry that goes */
	unsigned gone = 0;
	struct ban *b;

	while ((b = bans_find(list, &key, jail))) {
		free_reason(detach(list, b));
		gone++;
	}
	return gone;
}

void bans_move_end(struct bans *list, struct ban *b, int64_t until_wall_s, int64_t end_mono_ns)
{
	heap_remove(list, b);
	b->until_wall_s = until_wall_s;
	b->end_mono_ns = end_mono_ns;
	heap_insert(list, b);
}

struct ban *bans_find(const struct bans *list, const struct addr *addr, uint16_t jail)
{
	struct ban *found = NULL;

	for (struct ban *b = entry(list, *bucket_of(list, addr)); b;
	     b = entry(list, b->links[CHAIN])) {
		if (!addr_eq(&b->addr, addr) || (jail != BANS_ANY_JAIL && b->jail != jail))
			continue;
		if (!found || b->end_mono_ns > found->end_mono_ns)
			found = b;
	}
	return found;
}

struct ban *bans_covering(const struct bans *list, const struct addr *addr)
{
	const uint64_t *in_use = list->in_use[addr->family == ADDR_IPV6];

	for (int plen = addr->plen; plen >= 0; plen--) {
		struct addr net;
		struct ban *b;

		if (!(in_use[plen / 64] & UINT64_C(1) << (plen % 64)))
			continue;
		net = addr_mask(*addr, (unsigned)plen);
		b = bans_find(list, &net, BANS_ANY_JAIL);
		if (b)
			return b;
	}
	return NULL;
}

int64_t bans_end(const struct bans *list, const struct addr *addr, enum bans_scope scope)
{
	int64_t end = -1;

	for (struct ban *b = entry(list, *bucket_of(list, addr)); b;
	     b = entry(list, b->links[CHAIN]))
		if (addr_eq(&b->addr, addr) && b->end_mono_ns > end &&
		    (b->scope_port ? BANS_SCOPE_PORT : BANS_SCOPE_ALL) & scope)
			end = b->end_mono_ns;
	return end;
}

int64_t bans_next_end(const struct bans *list)
{
	return list->nheap ? heap_end(list, 0) : CLOCK_FOREVER;
}

uint32_t bans_expire(struct bans *list, int64_t now_mono_ns, uint32_t max,
		     void (*ended)(void *ctx, const struct ban *b), void *ctx)
{
	uint32_t gone = 0;

	while (gone < max && list->nheap && heap_end(list, 0) <= now_mono_ns) {
		struct ban *b = heap_entry(list, list->heap[0]), copy = *b;

		detach(list, b);
		gone++;
		if (ended)
			ended(ctx, &copy);
		free_reason(copy.reason);
	}
	return gone;
}

struct ban *bans_next(const struct bans *list, uint32_t *cursor)
{
	while (*cursor < list->high) {
		struct ban *b = &list->entries[(*cursor)++];

		if (b->addr.family != ADDR_NONE)
			return b;
	}
	return NULL;
}

uint32_t bans_count(const struct bans *list)
{
	return list->count;
}

uint64_t bans_kept_out(const struct bans *list)
{
	return list->kept_out;
}

const char *bans_source_name(enum ban_source source)
{
	static const char *const names[] = {"log", "sockets", "hand", "fleet", "kernel"};

	return source < sizeof names / sizeof names[0] ? names[source] : "unknown";
}
