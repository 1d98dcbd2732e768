/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ban growth and the history behind it: see growth.h. Attaching can fail, nothing else. */
#include "daemon/jail/growth.h"

#include <errno.h>

#define FOREVER UINT32_MAX

struct record {
	struct slot slot; /* its salt is the jail */
	uint32_t count;
	uint32_t end_s; /* FOREVER = has not ended */
};

static int64_t clamp(double seconds, int64_t least)
{
	if (!(seconds < (double)GROWTH_MAX_S)) /* NaN and infinity too */
		return GROWTH_MAX_S;
	return seconds < (double)least ? least : (int64_t)seconds;
}

static double grown(const struct growth_rule *g, unsigned count)
{
	double base = (double)g->base_s, factor = g->factor >= 0 ? g->factor : 1.0, time;

	if (g->multipliers && g->nmultipliers) {
		size_t last = g->nmultipliers - 1;

		return base * factor * g->multipliers[count < last ? count : last];
	}
	time = base * (double)(1u << (count < 20 ? count : 20)) * factor;
	return time < base ? base : time;
}

int64_t growth_bantime(const struct growth_rule *g, unsigned count, uint32_t random)
{
	double time;

	if (g->base_s < 0)
		return GROWTH_FOREVER_S;
	if (!g->increment || !count)
		return clamp((double)g->base_s, 0);
	time = grown(g, count);
	if (g->maxtime_s > 0 && !(time < (double)g->maxtime_s))
		time = (double)g->maxtime_s;
	if (g->rndtime_s > 0)
		time += (double)g->rndtime_s * ((double)random / 4294967296.0);
	return clamp(time, g->base_s > 0);
}

static const struct record *as_record(const struct slot *s)
{
	return (const struct record *)(const void *)s;
}

static bool is_over(const struct growth *g, const struct record *r, int64_t now_s)
{
	return r->end_s != FOREVER && r->end_s < now_s - g->purgeage_s;
}

static bool record_ok(const void *ctx, const struct slot *s)
{
	(void)ctx;
	return as_record(s)->count > 0;
}

static uint32_t record_used(const void *ctx, const struct slot *s)
{
	(void)ctx;
	(void)s;
	return sizeof(struct record);
}

static uint64_t record_rank(const void *ctx, const struct slot *s, int64_t now_s)
{
	const struct record *r = as_record(s);

	return is_over(ctx, r, now_s) ? 0 : (uint64_t)r->count << 32 | r->end_s;
}

static const struct slots_hooks record_hooks = {record_ok, record_used, record_rank};

size_t growth_bytes(uint32_t maxrecords)
{
	return sizeof(struct slots_head) +
	       slots_bytes(sizeof(struct record), slots_cap_sets(maxrecords));
}

int growth_attach(struct growth *g, void *region, size_t bytes, uint32_t maxrecords,
		  int64_t purgeage_s, bool *ret_kept)
{
	if (bytes < growth_bytes(maxrecords))
		return -ENOSPC;
	*g = (struct growth){.head = region, .purgeage_s = purgeage_s};
	*ret_kept = slots_head_open(g->head, growth_bytes(maxrecords));
	g->slots = (struct slots){.hooks = &record_hooks,
				  .ctx = g,
				  .seed = g->head->seed,
				  .slot_bytes = sizeof(struct record),
				  .cap_sets = slots_cap_sets(maxrecords)};
	g->head->dropped += slots_attach(&g->slots, (char *)region + sizeof *g->head, *ret_kept);
	return 0;
}

void growth_copy(const struct growth *g, void *to_region)
{
	memcpy(to_region, g->head, sizeof *g->head);
	slots_copy(&g->slots, (char *)to_region + sizeof *g->head);
}

unsigned growth_count(const struct growth *g, const struct addr *who, uint16_t jail,
		      int64_t now_wall_s)
{
	const struct slot *s = slots_find(&g->slots, who, jail);

	return s && !is_over(g, as_record(s), now_wall_s) ? as_record(s)->count : 0;
}

static uint32_t end_of(int64_t end_wall_s)
{
	if (end_wall_s == CLOCK_FOREVER)
		return FOREVER;
	return end_wall_s < 0 ? 0 : end_wall_s >= FOREVER ? FOREVER - 1 : (uint32_t)end_wall_s;
}

static void note(struct growth *g, const struct addr *who, uint16_t salt, int64_t now_s,
		 uint32_t end_s)
{
	struct slot *s = slots_find(&g->slots, who, salt);
	struct record *r;

	if (!s)
		s = slots_insert(&g->slots, who, salt, now_s);
	r = (struct record *)(void *)s;
	if (is_over(g, r, now_s))
		r->count = 0;
	if (r->count < UINT32_MAX)
		r->count++;
	if (r->end_s < end_s)
		r->end_s = end_s;
	slots_seal(&g->slots, s);
}

void growth_note(struct growth *g, const struct addr *who, uint16_t jail, int64_t now_wall_s,
		 int64_t end_wall_s)
{
	note(g, who, GROWTH_ALL_JAILS, now_wall_s, end_of(end_wall_s));
	if (jail != GROWTH_ALL_JAILS)
		note(g, who, jail, now_wall_s, end_of(end_wall_s));
}

static void ended(struct growth *g, const struct addr *who, uint16_t salt, uint32_t end_s)
{
	struct slot *s = slots_find(&g->slots, who, salt);
	struct record *r = (struct record *)(void *)s;

	if (!s || r->end_s <= end_s)
		return;
	r->end_s = end_s;
	slots_seal(&g->slots, s);
}

void growth_ended(struct growth *g, const struct addr *who, uint16_t jail, int64_t end_wall_s)
{
	ended(g, who, GROWTH_ALL_JAILS, end_of(end_wall_s));
	if (jail != GROWTH_ALL_JAILS)
		ended(g, who, jail, end_of(end_wall_s));
}

struct purge {
	const struct growth *g;
	int64_t now_s;
};

static bool is_purged(const void *arg, const struct slot *s)
{
	const struct purge *p = arg;

	return is_over(p->g, as_record(s), p->now_s);
}

uint32_t growth_purge(struct growth *g, int64_t now_wall_s)
{
	return slots_sweep(&g->slots, is_purged, &(struct purge){g, now_wall_s});
}

struct growth_stats growth_stats(const struct growth *g)
{
	return (struct growth_stats){.tracked = g->slots.used,
				     .evicted = slots_evicted(&g->slots),
				     .dropped = g->head->dropped,
				     .bytes = sizeof *g->head + slots_touched(&g->slots)};
}
