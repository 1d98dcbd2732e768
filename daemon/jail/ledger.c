/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offences in sliding windows: see ledger.h. Attaching can fail, counting cannot. */
#include "daemon/jail/ledger.h"

#include <errno.h>
#include <stdlib.h>

/*
 * The entries of a record are times, or with `distinct` pairs of time and value; ascending in time
 * and all inside the window of the last one. There are never more than maxretry - 1 of them.
 */
struct record {
	struct slot slot;
	uint32_t count;
	uint32_t entries[];
};

struct ledger_table {
	struct slots slots;
	struct ledger_rule rule;
};

static size_t stride(const struct ledger_rule *rule)
{
	return rule->distinct ? 2 : 1;
}

static uint32_t record_bytes(const struct ledger_rule *rule)
{
	uint32_t entries = rule->maxretry > 1 ? rule->maxretry - 1 : 1;
	uint32_t bytes = (uint32_t)(sizeof(struct record) + entries * stride(rule) * 4);

	return (bytes + 7) & ~7u;
}

static bool rule_ok(const struct ledger_rule *rule)
{
	return rule->maxretry >= 1 && rule->maxretry <= LEDGER_MAXRETRY_MAX && rule->findtime_s > 0;
}

/* The most sets for maxtracked records that fit into limit_bytes, but at least one. */
static uint32_t cap_sets(const struct ledger_rule *rule, uint32_t maxtracked, uint64_t limit_bytes)
{
	uint32_t sets = slots_cap_sets(maxtracked);

	while (sets > 1 && slots_bytes(record_bytes(rule), sets) > limit_bytes)
		sets /= 2;
	return sets;
}

static size_t total_bytes(const struct ledger_rule *rules, size_t n, uint32_t maxtracked,
			  uint64_t limit_bytes)
{
	size_t total = sizeof(struct slots_head);

	for (size_t i = 0; i < n; i++)
		total += slots_bytes(record_bytes(&rules[i]),
				     cap_sets(&rules[i], maxtracked, limit_bytes));
	return total;
}

/* The limit for a single table with which all together stay below the memory cap. */
static uint64_t table_limit(const struct ledger_rule *rules, size_t n, uint32_t maxtracked,
			    uint64_t maxmemory_bytes)
{
	uint64_t limit = maxmemory_bytes;

	while (limit && total_bytes(rules, n, maxtracked, limit) > maxmemory_bytes)
		limit /= 2;
	return limit;
}

size_t ledger_bytes(const struct ledger_rule *rules, size_t n, uint32_t maxtracked,
		    uint64_t maxmemory_bytes)
{
	for (size_t i = 0; i < n; i++)
		if (!rule_ok(&rules[i]))
			return 0;
	return total_bytes(rules, n, maxtracked,
			   table_limit(rules, n, maxtracked, maxmemory_bytes));
}

/* A number that changes with everything the layout and the meaning of a region depend on. */
static uint64_t shape_of(const struct ledger_rule *rules, size_t n, uint32_t maxtracked,
			 size_t bytes)
{
	static const struct hash_seed fixed = {0x7265676465, 0x6c};
	uint64_t shape = hash_bytes(&fixed, &(uint64_t[3]){n, maxtracked, bytes}, 24);

	for (size_t i = 0; i < n; i++) {
		uint64_t words[5] = {shape, rules[i].id, rules[i].maxretry,
				     (uint64_t)rules[i].findtime_s, rules[i].distinct};

		shape = hash_bytes(&fixed, words, sizeof words);
	}
	return shape;
}

static const struct record *as_record(const struct slot *s)
{
	return (const struct record *)(const void *)s;
}

static uint32_t entry_time(const struct ledger_table *t, const struct record *r, uint32_t i)
{
	return r->entries[i * stride(&t->rule)];
}

static uint32_t record_used(const void *ctx, const struct slot *s)
{
	const struct ledger_table *t = ctx;
	uint32_t count = as_record(s)->count;

	if (count >= t->rule.maxretry)
		count = 0;
	return (uint32_t)(sizeof(struct record) + count * stride(&t->rule) * 4);
}

static bool record_ok(const void *ctx, const struct slot *s)
{
	const struct ledger_table *t = ctx;
	const struct record *r = as_record(s);

	if (s->salt || !r->count || r->count >= t->rule.maxretry)
		return false;
	for (uint32_t i = 1; i < r->count; i++)
		if (entry_time(t, r, i - 1) > entry_time(t, r, i))
			return false;
	return entry_time(t, r, r->count - 1) - entry_time(t, r, 0) < t->rule.findtime_s;
}

static uint64_t record_rank(const void *ctx, const struct slot *s, int64_t now_s)
{
	const struct ledger_table *t = ctx;
	const struct record *r = as_record(s);
	uint32_t newest = entry_time(t, r, r->count - 1);

	if (newest <= now_s - t->rule.findtime_s)
		return 0;
	return (uint64_t)r->count << 32 | newest;
}

static const struct slots_hooks record_hooks = {record_ok, record_used, record_rank};

int ledger_attach(struct ledger *l, void *region, size_t bytes, const struct ledger_rule *rules,
		  size_t n, uint32_t maxtracked, uint64_t maxmemory_bytes, bool *ret_kept)
{
	size_t want = ledger_bytes(rules, n, maxtracked, maxmemory_bytes);
	uint64_t limit = table_limit(rules, n, maxtracked, maxmemory_bytes);
	unsigned char *at = region;

	if (!want)
		return -EINVAL;
	if (bytes < want)
		return -ENOSPC;
	*l = (struct ledger){.head = region, .n = n};
	l->tables = calloc(n ? n : 1, sizeof l->tables[0]);
	if (!l->tables)
		return -ENOMEM;
	*ret_kept = slots_head_open(l->head, shape_of(rules, n, maxtracked, want));
	at += sizeof *l->head;
	for (size_t i = 0; i < n; i++) {
		struct ledger_table *t = &l->tables[i];

		t->rule = rules[i];
		t->slots = (struct slots){.hooks = &record_hooks,
					  .ctx = t,
					  .seed = l->head->seed,
					  .slot_bytes = record_bytes(&rules[i]),
					  .cap_sets = cap_sets(&rules[i], maxtracked, limit)};
		l->head->dropped += slots_attach(&t->slots, at, *ret_kept);
		at += slots_bytes(t->slots.slot_bytes, t->slots.cap_sets);
	}
	return 0;
}

void ledger_detach(struct ledger *l)
{
	free(l->tables);
	*l = (struct ledger){0};
}

void ledger_copy(const struct ledger *l, void *to_region)
{
	unsigned char *to = to_region;

	memcpy(to, l->head, sizeof *l->head);
	to += sizeof *l->head;
	for (size_t i = 0; i < l->n; i++) {
		const struct slots *s = &l->tables[i].slots;

		slots_copy(s, to);
		to += slots_bytes(s->slot_bytes, s->cap_sets);
	}
}

static void set_entry(const struct ledger_table *t, struct record *r, uint32_t i, uint32_t time,
		      uint32_t value)
{
	r->entries[i * stride(&t->rule)] = time;
	if (t->rule.distinct)
		r->entries[i * 2 + 1] = value;
}

static void move_entries(const struct ledger_table *t, struct record *r, uint32_t to, uint32_t from,
			 uint32_t n)
{
	size_t step = stride(&t->rule);

	memmove(&r->entries[to * step], &r->entries[from * step], n * step * 4);
}

static void remove_entry(const struct ledger_table *t, struct record *r, uint32_t i)
{
	move_entries(t, r, i, i + 1, r->count - i - 1);
	r->count--;
}

static void insert_entry(const struct ledger_table *t, struct record *r, uint32_t time,
			 uint32_t value)
{
	uint32_t i = r->count;

	while (i && entry_time(t, r, i - 1) > time)
		i--;
	move_entries(t, r, i + 1, i, r->count - i);
	set_entry(t, r, i, time, value);
	r->count++;
}

/* Drops what lies before the window that ends at `newest`. */
static void slide(const struct ledger_table *t, struct record *r, uint32_t newest)
{
	uint32_t gone = 0;

	while (gone < r->count && entry_time(t, r, gone) <= newest - t->rule.findtime_s)
		gone++;
	if (gone) {
		move_entries(t, r, 0, gone, r->count - gone);
		r->count -= gone;
	}
}

/* Is this value in the record? Then at its latest time. */
static bool refresh(const struct ledger_table *t, struct record *r, uint32_t time, uint32_t value)
{
	for (uint32_t i = 0; i < r->count; i++) {
		if (r->entries[i * 2 + 1] != value)
			continue;
		if (entry_time(t, r, i) < time) {
			remove_entry(t, r, i);
			insert_entry(t, r, time, value);
		}
		return true;
	}
	return false;
}

static enum ledger_result count_offence(struct ledger_table *t, struct record *r, uint32_t time,
					uint32_t value, unsigned *ret_count)
{
	uint32_t newest = entry_time(t, r, r->count - 1);
	enum ledger_result result = LEDGER_COUNTED;

	if (time <= newest - t->rule.findtime_s) {
		*ret_count = r->count;
		return LEDGER_OLD;
	}
	if (time > newest)
		slide(t, r, time);
	if (t->rule.distinct && refresh(t, r, time, value))
		result = LEDGER_REPEATED;
	else if (r->count + 1 >= t->rule.maxretry)
		result = LEDGER_REACHED;
	else
		insert_entry(t, r, time, value);
	*ret_count = result == LEDGER_REACHED ? t->rule.maxretry : r->count;
	if (result == LEDGER_REACHED)
		slots_remove(&t->slots, &r->slot);
	else
		slots_seal(&t->slots, &r->slot);
	return result;
}

static enum ledger_result first_offence(struct ledger_table *t, const struct addr *who,
					uint32_t time, uint32_t value, unsigned *ret_count)
{
	struct record *r;

	*ret_count = 1;
	if (t->rule.maxretry == 1)
		return LEDGER_REACHED;
	r = (struct record *)(void *)slots_insert(&t->slots, who, 0, time);
	set_entry(t, r, 0, time, value);
	r->count = 1;
	slots_seal(&t->slots, &r->slot);
	return LEDGER_COUNTED;
}

enum ledger_result ledger_add(struct ledger *l, unsigned rule, const struct addr *who,
			      int64_t time_s, uint32_t value_hash, unsigned *ret_count)
{
	struct ledger_table *t = &l->tables[rule];
	unsigned unused;
	struct slot *s;

	if (!ret_count)
		ret_count = &unused;
	if (time_s < 0 || time_s > UINT32_MAX) {
		l->head->refused++;
		*ret_count = 0;
		return LEDGER_OLD;
	}
	s = slots_find(&t->slots, who, 0);
	if (!s)
		return first_offence(t, who, (uint32_t)time_s, value_hash, ret_count);
	return count_offence(t, (struct record *)(void *)s, (uint32_t)time_s, value_hash,
			     ret_count);
}

unsigned ledger_count(const struct ledger *l, unsigned rule, const struct addr *who, int64_t now_s)
{
	const struct ledger_table *t = &l->tables[rule];
	const struct slot *s = slots_find(&t->slots, who, 0);
	unsigned count = 0;

	for (uint32_t i = 0; s && i < as_record(s)->count; i++) {
		int64_t time = entry_time(t, as_record(s), i);

		count += time <= now_s && time > now_s - t->rule.findtime_s;
	}
	return count;
}

void ledger_forget(struct ledger *l, const struct addr *who)
{
	for (size_t i = 0; i < l->n; i++) {
		struct slot *s = slots_find(&l->tables[i].slots, who, 0);

		if (s)
			slots_remove(&l->tables[i].slots, s);
	}
}

struct after {
	const struct ledger_table *table;
	int64_t time_s;
};

static bool is_after(const void *arg, const struct slot *s)
{
	const struct after *a = arg;
	const struct record *r = as_record(s);

	return entry_time(a->table, r, r->count - 1) > a->time_s;
}

void ledger_drop_after(struct ledger *l, int64_t time_s)
{
	for (size_t i = 0; i < l->n; i++)
		slots_sweep(&l->tables[i].slots, is_after, &(struct after){&l->tables[i], time_s});
}

struct ledger_stats ledger_stats(const struct ledger *l)
{
	struct ledger_stats stats = {
		.refused = l->head->refused, .dropped = l->head->dropped, .bytes = sizeof *l->head};

	for (size_t i = 0; i < l->n; i++) {
		stats.tracked += l->tables[i].slots.used;
		stats.evicted += slots_evicted(&l->tables[i].slots);
		stats.bytes += slots_touched(&l->tables[i].slots);
	}
	return stats;
}

struct carry {
	struct ledger *to;
	unsigned to_rule;
	const struct ledger_table *from;
};

static bool carry_record(const void *arg, const struct slot *s)
{
	const struct carry *c = arg;
	const struct record *r = as_record(s);
	unsigned most = c->to->tables[c->to_rule].rule.maxretry - 1;
	struct addr who = slots_key(s);

	for (uint32_t i = r->count > most ? r->count - most : 0; i < r->count; i++)
		ledger_add(c->to, c->to_rule, &who, entry_time(c->from, r, i),
			   c->from->rule.distinct ? r->entries[i * 2 + 1] : 0, NULL);
	return false;
}

void ledger_carry(struct ledger *to, unsigned to_rule, const struct ledger *from,
		  unsigned from_rule)
{
	struct carry c = {to, to_rule, &from->tables[from_rule]};
	/* A sweep that drops nothing: it does not write. */
	struct slots walk = from->tables[from_rule].slots;

	slots_sweep(&walk, carry_record, &c);
}
