/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Set-associative table in foreign memory: see slots.h. Nothing fails; a full set displaces. */
#include "daemon/jail/slots.h"

#define START_SETS 4u
#define SPARSE 8u /* a table less than an eighth full does not double for one unlucky set */
#define ALIGN_BYTES 64u
#define MAGIC UINT64_C(0x31736e6162747373) /* goes up with each change of the layout */

struct slots_control {
	uint64_t size_mark; /* number of sets, and its complement in the upper half */
	uint64_t evicted;
	uint8_t spare[ALIGN_BYTES - 16];
};

/* A set is its tags (0 = free) and its slots behind them. */
#define TAGS_BYTES (SLOTS_WAYS * sizeof(uint16_t))

static size_t set_bytes(uint32_t slot_bytes)
{
	return TAGS_BYTES + (size_t)SLOTS_WAYS * slot_bytes;
}

static unsigned char *set_at(const struct slots *t, uint32_t set)
{
	return t->sets + set * set_bytes(t->slot_bytes);
}

static uint16_t *tags_of(unsigned char *set)
{
	return (uint16_t *)(void *)set;
}

static struct slot *slot_of(const struct slots *t, unsigned char *set, unsigned way)
{
	return (struct slot *)(void *)(set + TAGS_BYTES + (size_t)way * t->slot_bytes);
}

static uint64_t head_check(const struct slots_head *head)
{
	return hash_bytes(&head->seed, head, offsetof(struct slots_head, seed));
}

bool slots_head_open(struct slots_head *head, uint64_t shape)
{
	if (head->magic == MAGIC && head->shape == shape && head->check == head_check(head))
		return true;
	*head = (struct slots_head){.magic = MAGIC, .shape = shape, .seed = hash_seed_new()};
	head->check = head_check(head);
	return false;
}

uint32_t slots_cap_sets(uint32_t records)
{
	uint32_t sets = 1;

	while (sets < (1u << 24) && (uint64_t)sets * SLOTS_WAYS * 2 < (uint64_t)records * 3)
		sets *= 2;
	return sets;
}

size_t slots_bytes(uint32_t slot_bytes, uint32_t cap_sets)
{
	size_t bytes = sizeof(struct slots_control) + cap_sets * set_bytes(slot_bytes);

	return (bytes + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
}

struct addr slots_key(const struct slot *s)
{
	struct addr a = {.family = s->family, .plen = s->plen};

	memcpy(a.b, s->b, sizeof a.b);
	return a;
}

static uint64_t hash_of(const struct slots *t, const struct slot *s)
{
	struct addr key = slots_key(s);

	return hash_addr(&t->seed, &key, s->salt);
}

static uint32_t home(const struct slots *t, uint64_t hash)
{
	return (uint32_t)hash & (t->nsets - 1);
}

static uint16_t tag(uint64_t hash)
{
	return (uint16_t)(hash >> 48) | 1;
}

/* A quick mix over whole words: finds half-written records and stray bytes, no defence against
 * forgery. */
static uint32_t checksum(const struct slots *t, const struct slot *s)
{
	const unsigned char *p = (const unsigned char *)s;
	uint32_t n = t->hooks->used_bytes(t->ctx, s);
	uint64_t sum = t->seed.k0 ^ n, word;

	if (n > t->slot_bytes)
		n = t->slot_bytes;
	for (uint32_t i = 0; i + 4 <= n; i += 4) {
		uint32_t part;

		if (i == offsetof(struct slot, check))
			continue;
		memcpy(&part, p + i, 4);
		word = (sum ^ part) * 0x9e3779b97f4a7c15u;
		sum = word ^ word >> 29;
	}
	return (uint32_t)(sum ^ sum >> 32);
}

static bool key_ok(const struct slot *s)
{
	struct addr key = slots_key(s), cut = key;

	if (key.family != ADDR_IPV4 && key.family != ADDR_IPV6)
		return false;
	if (key.plen > addr_bits(&key))
		return false;
	cut.plen = (uint8_t)addr_bits(&key);
	cut = addr_mask(cut, key.plen);
	memset(cut.b + addr_bytes(&cut), 0, sizeof cut.b - addr_bytes(&cut));
	return addr_eq(&cut, &key);
}

static bool is_there_before(const struct slots *t, unsigned char *set, unsigned way)
{
	const struct slot *s = slot_of(t, set, way);

	for (unsigned i = 0; i < way; i++) {
		const struct slot *other = slot_of(t, set, i);

		if (tags_of(set)[i] && memcmp(other, s, offsetof(struct slot, check)) == 0)
			return true;
	}
	return false;
}

enum verdict { SLOT_GOOD, SLOT_BAD, SLOT_MOVED };

/* A sound record in the wrong set was copied to its right one just before a crash. */
static enum verdict slot_check(const struct slots *t, uint32_t index, unsigned char *set,
			       unsigned way)
{
	const struct slot *s = slot_of(t, set, way);
	uint64_t hash;

	if (!key_ok(s) || s->check != checksum(t, s) || !t->hooks->ok(t->ctx, s))
		return SLOT_BAD;
	hash = hash_of(t, s);
	if (tags_of(set)[way] != tag(hash) || is_there_before(t, set, way))
		return SLOT_BAD;
	return home(t, hash) == index ? SLOT_GOOD : SLOT_MOVED;
}

static uint32_t check_all(struct slots *t)
{
	uint32_t bad = 0;

	t->used = 0;
	for (uint32_t i = 0; i < t->nsets; i++) {
		unsigned char *set = set_at(t, i);

		for (unsigned way = 0; way < SLOTS_WAYS; way++) {
			enum verdict v;

			if (!tags_of(set)[way])
				continue;
			v = slot_check(t, i, set, way);
			if (v != SLOT_GOOD)
				tags_of(set)[way] = 0;
			t->used += v == SLOT_GOOD;
			bad += v == SLOT_BAD;
		}
	}
	return bad;
}

static void write_size(struct slots *t, uint32_t nsets)
{
	uint64_t mark = (uint64_t)~nsets << 32 | nsets;

	__atomic_store_n(&t->control->size_mark, mark, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	t->nsets = nsets;
}

static bool read_size(struct slots *t)
{
	uint64_t mark = t->control->size_mark;
	uint32_t nsets = (uint32_t)mark;

	if ((uint32_t)(mark >> 32) != ~nsets || !nsets || (nsets & (nsets - 1)) ||
	    nsets > t->cap_sets)
		return false;
	t->nsets = nsets;
	return true;
}

static void clear_tags(struct slots *t, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		memset(set_at(t, i), 0, TAGS_BYTES);
}

uint32_t slots_attach(struct slots *t, void *region, bool keep)
{
	t->control = region;
	t->sets = (unsigned char *)region + sizeof(struct slots_control);
	if (keep && read_size(t))
		return check_all(t);
	t->used = 0;
	t->control->evicted = 0;
	t->nsets = t->cap_sets < START_SETS ? t->cap_sets : START_SETS;
	clear_tags(t, 0, t->nsets);
	write_size(t, t->nsets);
	return keep ? 1 : 0;
}

static bool is_key(const struct slot *s, const struct addr *key, uint16_t salt)
{
	return memcmp(s->b, key->b, sizeof s->b) == 0 && s->family == key->family &&
	       s->plen == key->plen && s->salt == salt;
}

struct slot *slots_find(const struct slots *t, const struct addr *key, uint16_t salt)
{
	uint64_t hash = hash_addr(&t->seed, key, salt);
	unsigned char *set = set_at(t, home(t, hash));
	uint16_t want = tag(hash);

	for (unsigned way = 0; way < SLOTS_WAYS; way++) {
		struct slot *s = slot_of(t, set, way);

		if (tags_of(set)[way] == want && is_key(s, key, salt))
			return s;
	}
	return NULL;
}

/* Copies to the set `high` what belongs there once the table has twice its sets. */
static void copy_upper(struct slots *t, uint32_t low)
{
	unsigned char *from = set_at(t, low), *to = set_at(t, low + t->nsets);
	unsigned out = 0;

	memset(to, 0, TAGS_BYTES);
	for (unsigned way = 0; way < SLOTS_WAYS; way++) {
		const struct slot *s = slot_of(t, from, way);

		if (!tags_of(from)[way] || !((uint32_t)hash_of(t, s) & t->nsets))
			continue;
		memcpy(slot_of(t, to, out), s, t->slot_bytes);
		tags_of(to)[out++] = tags_of(from)[way];
	}
}

static void drop_upper(struct slots *t, uint32_t low)
{
	unsigned char *set = set_at(t, low);

	for (unsigned way = 0; way < SLOTS_WAYS; way++)
		if (tags_of(set)[way] && home(t, hash_of(t, slot_of(t, set, way))) != low)
			tags_of(set)[way] = 0;
}

static void grow(struct slots *t)
{
	uint32_t before = t->nsets;

	for (uint32_t i = 0; i < before; i++)
		copy_upper(t, i);
	write_size(t, before * 2);
	for (uint32_t i = 0; i < before; i++)
		drop_upper(t, i);
}

/* A place in the set: a free one, or that of the record with the lowest rank. */
static unsigned place(const struct slots *t, unsigned char *set, int64_t now_s, uint64_t *ret_rank)
{
	uint64_t lowest = UINT64_MAX;
	unsigned at = 0;

	*ret_rank = 0;
	for (unsigned way = 0; way < SLOTS_WAYS; way++)
		if (!tags_of(set)[way])
			return way;
	for (unsigned way = 0; way < SLOTS_WAYS; way++) {
		uint64_t rank = t->hooks->rank(t->ctx, slot_of(t, set, way), now_s);

		if (rank < lowest) {
			lowest = rank;
			at = way;
		}
	}
	*ret_rank = lowest;
	return at;
}

struct slot *slots_insert(struct slots *t, const struct addr *key, uint16_t salt, int64_t now_s)
{
	uint64_t hash = hash_addr(&t->seed, key, salt), rank;
	unsigned char *set = set_at(t, home(t, hash));
	unsigned way = place(t, set, now_s, &rank);
	struct slot *s;

	while (rank && t->nsets < t->cap_sets && t->used >= t->nsets * SLOTS_WAYS / SPARSE) {
		grow(t);
		set = set_at(t, home(t, hash));
		way = place(t, set, now_s, &rank);
	}
	if (tags_of(set)[way]) {
		tags_of(set)[way] = 0;
		t->used--;
		t->control->evicted += rank > 0;
	}
	s = slot_of(t, set, way);
	memset(s, 0, t->slot_bytes);
	memcpy(s->b, key->b, sizeof s->b);
	s->family = key->family;
	s->plen = key->plen;
	s->salt = salt;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	tags_of(set)[way] = tag(hash);
	t->used++;
	return s;
}

void slots_seal(const struct slots *t, struct slot *s)
{
	s->check = checksum(t, s);
}

void slots_remove(struct slots *t, struct slot *s)
{
	size_t offset = (size_t)((unsigned char *)s - t->sets);
	unsigned char *set = t->sets + offset / set_bytes(t->slot_bytes) * set_bytes(t->slot_bytes);
	size_t way = (size_t)((unsigned char *)s - set - TAGS_BYTES) / t->slot_bytes;

	tags_of(set)[way] = 0;
	t->used--;
}

uint32_t slots_sweep(struct slots *t, bool (*drop)(const void *arg, const struct slot *s),
		     const void *arg)
{
	uint32_t before = t->used;

	for (uint32_t i = 0; i < t->nsets; i++) {
		unsigned char *set = set_at(t, i);

		for (unsigned way = 0; way < SLOTS_WAYS; way++) {
			struct slot *s = slot_of(t, set, way);

			if (tags_of(set)[way] && drop(arg, s))
				slots_remove(t, s);
		}
	}
	return before - t->used;
}

void slots_copy(const struct slots *t, void *to_region)
{
	memcpy(to_region, t->control, slots_touched(t));
}

uint64_t slots_evicted(const struct slots *t)
{
	return t->control->evicted;
}

size_t slots_touched(const struct slots *t)
{
	return sizeof(struct slots_control) + t->nsets * set_bytes(t->slot_bytes);
}
