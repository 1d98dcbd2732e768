/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a census means: see verdict.h. Fails only when memory is out. */
#include "daemon/sockets/verdict.h"

#include <errno.h>
#include <stdlib.h>

#define HALF_PERMILLE 500u
#define RELIEF_PERMILLE 50u /* so far below `descriptors` a pressed process has to come */
#define DEEP_PERMILLE 490u  /* and so far down heavy prefixes lose connections */
#define FULL_PERMILLE 1000u
#define FILL_MOST 10000u /* a limit that was lowered below what is in use */

/* All connections of one prefix. */
struct verdict_group {
	struct addr prefix;
	uint32_t open;   /* hold a descriptor, or will when they are accepted */
	uint32_t silent; /* of these */
	uint32_t over;   /* silent ones over the limit */
	uint32_t told[OFFENCE_KINDS];
	uint32_t answered, idle; /* what the prefix has earned by */
	uint32_t held;           /* all but those at work */
	uint32_t rests;          /* of these idle or busy: answered, and kept */
};

/* Connections that wait for the client, and those that rest. */
enum tier { TIER_WAITS, TIER_RESTS, TIERS };

/* In which order they are closed; a prefix is heavy in a tier when it holds more than maxsilent. */
enum stage {
	STAGE_HEAVY_WAITS,
	STAGE_SILENT,
	STAGE_HEAVY_RESTS,
	STAGE_FEW_SILENT, /* fewer than STAGE_HEAVY_RESTS */
	STAGE_LIGHT,
	STAGE_UNKNOWN,
	STAGES
};

/* A connection that may be closed, with what its prefix holds in this tier before it is. */
struct verdict_candidate {
	int64_t rank;
	uint32_t index, group, age_ms;
	uint8_t class, tier, stage;
};

const char *held_class_name(enum held_class class)
{
#define NAME(name, text) [name] = (text),
	static const char *const names[] = {VERDICT_CLASSES(NAME)};
#undef NAME

	return class < HELD_CLASSES ? names[class] : "?";
}

const char *offence_kind_name(enum offence_kind kind)
{
#define NAME(name, word, text) [name] = (word),
	static const char *const names[] = {VERDICT_KINDS(NAME)};
#undef NAME

	return kind < OFFENCE_KINDS ? names[kind] : "?";
}

/* --- limits ----------------------------------------------------------------------------------- */

uint32_t verdict_limit(uint32_t limit_ms, uint32_t fill_permille, uint32_t descriptors)
{
	uint32_t least = limit_ms / 10 > VERDICT_LEAST_MS ? limit_ms / 10 : VERDICT_LEAST_MS;
	uint32_t full = descriptors * 10;

	if (least > limit_ms)
		least = limit_ms;
	if (!descriptors || fill_permille <= HALF_PERMILLE)
		return limit_ms;
	if (fill_permille >= full || full <= HALF_PERMILLE)
		return least;
	return limit_ms - (uint32_t)((uint64_t)(limit_ms - least) *
				     (fill_permille - HALF_PERMILLE) / (full - HALF_PERMILLE));
}

static uint32_t fill_of(const struct verdict_task *t)
{
	const uint64_t permille = t->limit ? (uint64_t)t->fds * FULL_PERMILLE / t->limit : 0;

	return permille > FILL_MOST ? FILL_MOST : (uint32_t)permille;
}

void verdict_limits(struct verdict *v, const struct verdict_rule *rule,
		    const struct verdict_task *tasks, size_t ntasks, bool starved,
		    struct verdict_alarm *alarm, int64_t now_ms)
{
	uint32_t fill = 0;

	for (size_t i = 0; i < ntasks; i++)
		if (fill_of(&tasks[i]) > fill)
			fill = fill_of(&tasks[i]);
	v->fill_permille = fill;
	v->starved = starved && rule->descriptors;
	if (v->starved || (rule->descriptors && fill >= rule->descriptors * 10)) {
		*alarm = (struct verdict_alarm){.on = true};
	} else if (fill >= HALF_PERMILLE || !alarm->on) {
		alarm->calm_since_ms = 0;
	} else if (!alarm->calm_since_ms) {
		alarm->calm_since_ms = now_ms;
	} else if (now_ms - alarm->calm_since_ms >= VERDICT_CALM_MS) {
		alarm->on = false;
	}
	v->alarm = alarm->on;
	if (alarm->on && fill < FULL_PERMILLE)
		fill = FULL_PERMILLE;
	v->silent_ms = verdict_limit(rule->silent_ms, fill, rule->descriptors);
	v->unanswered_ms = verdict_limit(rule->unanswered_ms, fill, rule->descriptors);
	v->stalled_ms = verdict_limit(rule->stalled_ms, fill, rule->descriptors);
	v->idle_ms = verdict_limit(rule->idle_ms, fill, rule->descriptors);
}

/* --- prefixes --------------------------------------------------------------------------------- */

static enum tier tier_of(uint8_t class)
{
	return class == HELD_IDLE || class == HELD_BUSY ? TIER_RESTS : TIER_WAITS;
}

static int make_room(struct verdict *v, uint32_t n)
{
	uint32_t slots = 64;

	if (!v->offences)
		v->offences = calloc(VERDICT_OFFENCES_MAX, sizeof *v->offences);
	if (!v->cuts)
		v->cuts = calloc(VERDICT_CUTS_MAX, sizeof *v->cuts);
	while (slots < 2 * n)
		slots *= 2;
	if (slots > v->nslots || slots < v->nslots / 16) {
		free(v->slots);
		free(v->groups);
		free(v->candidates);
		v->slots = calloc(slots, sizeof *v->slots);
		v->groups = calloc(slots / 2, sizeof *v->groups);
		v->candidates = calloc(slots / 2, sizeof *v->candidates);
		v->nslots = v->slots && v->groups && v->candidates ? slots : 0;
	}
	return v->nslots && v->offences && v->cuts ? 0 : -ENOMEM;
}

static uint32_t group_of(struct verdict *v, const struct addr *prefix)
{
	uint32_t at = (uint32_t)hash_addr(&v->seed, prefix, 0) & (v->nslots - 1);

	while (v->slots[at] && !addr_eq(&v->groups[v->slots[at] - 1].prefix, prefix))
		at = (at + 1) & (v->nslots - 1);
	if (!v->slots[at]) {
		v->groups[v->ngroups] = (struct verdict_group){.prefix = *prefix};
		v->slots[at] = ++v->ngroups;
	}
	return v->slots[at] - 1;
}

static void enter(struct verdict *v, struct held *h)
{
	struct verdict_group *g;

	h->group = group_of(v, &h->prefix);
	g = &v->groups[h->group];
	v->classes[h->class]++;
	g->open += h->class <= HELD_WORKS;
	g->silent += h->class == HELD_SILENT;
	g->over += h->class == HELD_SILENT && h->age_ms >= v->silent_ms;
	g->answered += h->class == HELD_DONE || h->class == HELD_BUSY ||
		       (h->class == HELD_WORKS && h->answered);
	g->idle += h->class == HELD_IDLE;
	g->held += h->class <= HELD_BUSY;
	g->rests += tier_of(h->class) == TIER_RESTS;
	for (unsigned kind = 0; kind < OFFENCE_KINDS; kind++)
		g->told[kind] += h->told >> kind & 1;
}

static uint32_t earned(const struct verdict_rule *rule, const struct verdict_group *g)
{
	uint64_t most = (uint64_t)rule->maxsilent * VERDICT_CREDIT;

	return g->answered + g->idle < most ? g->answered + g->idle : (uint32_t)most;
}

static uint32_t allowance(const struct verdict_rule *rule, const struct verdict_group *g)
{
	return rule->maxsilent + earned(rule, g);
}

/* --- offences --------------------------------------------------------------------------------- */

static void offend(struct verdict *v, uint32_t index, enum offence_kind kind,
		   struct verdict_group *g)
{
	if (v->noffences == VERDICT_OFFENCES_MAX)
		return;
	g->told[kind]++;
	v->offences[v->noffences++] = (struct verdict_offence){index, (uint8_t)kind};
}

static bool is_told(const struct held *h, enum offence_kind kind)
{
	return h->told >> kind & 1;
}

static void due(struct verdict *v, const struct held *h, uint32_t limit_ms)
{
	if (h->age_ms < limit_ms && limit_ms - h->age_ms < v->due_ms)
		v->due_ms = limit_ms - h->age_ms;
}

static void judge_silent(struct verdict *v, const struct verdict_rule *rule, const struct held *h,
			 uint32_t index)
{
	struct verdict_group *g = &v->groups[h->group];

	if (h->age_ms < v->silent_ms) {
		if (g->silent > allowance(rule, g))
			due(v, h, v->silent_ms);
		return;
	}
	if (!is_told(h, OFFENCE_SILENT) && g->over > allowance(rule, g) + g->told[OFFENCE_SILENT])
		offend(v, index, OFFENCE_SILENT, g);
}

static void judge_slow(struct verdict *v, const struct verdict_rule *rule, const struct held *h,
		       uint32_t index)
{
	bool stalled = h->class == HELD_STALLED;
	enum offence_kind kind = stalled ? OFFENCE_STALLED : OFFENCE_UNANSWERED;
	uint32_t configured_ms = stalled ? rule->stalled_ms : rule->unanswered_ms;
	uint32_t limit_ms = stalled ? v->stalled_ms : v->unanswered_ms;
	struct verdict_group *g = &v->groups[h->group];

	if (is_told(h, kind))
		return;
	if (g->open <= rule->maxsilent)
		limit_ms = configured_ms;
	if (h->age_ms >= limit_ms)
		offend(v, index, kind, g);
	else
		due(v, h, limit_ms);
}

static void judge_offences(struct verdict *v, const struct verdict_rule *rule,
			   const struct held *held, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct held *h = &held[i];
		struct verdict_group *g = &v->groups[h->group];

		if (h->class == HELD_SILENT)
			judge_silent(v, rule, h, i);
		else if (h->class == HELD_UNFINISHED || h->class == HELD_STALLED)
			judge_slow(v, rule, h, i);
		if (rule->maxconns && h->class <= HELD_WORKS && !is_told(h, OFFENCE_MAXCONNS) &&
		    g->open > (uint64_t)rule->maxconns + g->told[OFFENCE_MAXCONNS])
			offend(v, i, OFFENCE_MAXCONNS, g);
	}
}

/* --- cuts ------------------------------------------------------------------------------------- */

static int by_age(const struct verdict_candidate *x, const struct verdict_candidate *y)
{
	if (x->class != y->class)
		return x->class < y->class ? -1 : 1;
	return (x->age_ms < y->age_ms) - (x->age_ms > y->age_ms);
}

static int within_group(const void *a, const void *b)
{
	const struct verdict_candidate *x = a, *y = b;

	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	if (x->tier != y->tier)
		return x->tier < y->tier ? -1 : 1;
	return by_age(x, y);
}

static int by_rank(const void *a, const void *b)
{
	const struct verdict_candidate *x = a, *y = b;

	if (x->stage != y->stage)
		return x->stage < y->stage ? -1 : 1;
	if (x->tier != y->tier)
		return x->tier < y->tier ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank > y->rank ? -1 : 1;
	return by_age(x, y);
}

struct pressure {
	int64_t need[VERDICT_TASKS_MAX]; /* descriptors that a process has to give back */
	int64_t all;
	bool some;
	bool pressed[VERDICT_TASKS_MAX];
};

/* What processes that use `from` of their descriptors or more have to give back to use `to`. */
static struct pressure pressure_of(const struct verdict_task *tasks, size_t ntasks, uint32_t from,
				   uint32_t to)
{
	struct pressure p = {.all = 0};

	for (size_t i = 0; i < ntasks && i < VERDICT_TASKS_MAX; i++) {
		p.pressed[i] = fill_of(&tasks[i]) >= from;
		if (!p.pressed[i])
			continue;
		p.need[i] = (int64_t)tasks[i].fds - (int64_t)(tasks[i].limit * to / FULL_PERMILLE);
		p.all += p.need[i];
	}
	return p;
}

static uint32_t relieved(uint32_t from)
{
	return from > RELIEF_PERMILLE ? from - RELIEF_PERMILLE : 0;
}

/* What heavy prefixes have to give back while the short limits hold. */
static struct pressure deep_pressure(const struct verdict_rule *rule,
				     const struct verdict_task *tasks, size_t ntasks)
{
	uint32_t from = rule->descriptors * 10, to = relieved(from);

	return pressure_of(tasks, ntasks, from < HALF_PERMILLE ? from : HALF_PERMILLE,
			   to < DEEP_PERMILLE ? to : DEEP_PERMILLE);
}

uint32_t verdict_need(const struct verdict_rule *rule, const struct verdict_task *tasks,
		      size_t ntasks, bool deep)
{
	uint32_t from = rule->descriptors * 10;
	int64_t need;

	if (!from)
		return 0;
	need = deep ? deep_pressure(rule, tasks, ntasks).all
		    : pressure_of(tasks, ntasks, from, relieved(from)).all;
	return need > 0 ? (uint32_t)need : 0;
}

/* What a prefix holds in a tier, without the spare connections that it has earned. */
static uint32_t load_of(const struct verdict_rule *rule, const struct verdict_group *g,
			enum tier tier)
{
	uint32_t spare = earned(rule, g) < g->silent ? earned(rule, g) : g->silent;

	/* A browser's silent connection speaks for the one beside it, too. */
	if (tier == TIER_RESTS)
		return g->rests - (spare < g->rests ? spare : g->rests);
	return g->held - g->rests - spare;
}

static bool is_heavy(const struct verdict_rule *rule, const struct verdict_group *g, enum tier tier)
{
	return load_of(rule, g, tier) > rule->maxsilent;
}

/* Who comes in a burst holds young ones; old ones of others are not closed in their stead. */
static bool is_several(const struct verdict_rule *rule, const struct verdict_group *g)
{
	return load_of(rule, g, TIER_WAITS) > rule->maxsilent / 3;
}

/* The first tier in which the connections of one prefix can make the room, now or in a moment. */
static enum tier heavy_tier(const struct verdict *v, const struct verdict_rule *rule)
{
	enum tier first = TIERS;

	for (uint32_t i = 0; i < v->ngroups && first != TIER_WAITS; i++)
		for (enum tier t = TIER_WAITS; t < first; t++)
			if (is_heavy(rule, &v->groups[i], t))
				first = t;
	return first;
}

static enum stage stage_of(const struct verdict_rule *rule, const struct verdict_candidate *c)
{
	if (c->rank > (int64_t)rule->maxsilent)
		return c->tier == TIER_WAITS ? STAGE_HEAVY_WAITS : STAGE_HEAVY_RESTS;
	if (c->class == HELD_UNKNOWN && c->rank <= (int64_t)(rule->maxsilent / 3))
		return STAGE_UNKNOWN;
	return c->class == HELD_SILENT && c->rank > 0 ? STAGE_SILENT : STAGE_LIGHT;
}

/* How far it goes: few are not why the budget runs out, while somebody holds many. */
static enum stage last_stage(const struct verdict *v, const struct verdict_rule *rule)
{
	enum tier heavy = heavy_tier(v, rule);

	if (v->fill_permille >= VERDICT_LAST_PERMILLE || heavy == TIERS)
		return STAGE_UNKNOWN;
	return heavy == TIER_WAITS ? STAGE_HEAVY_WAITS : STAGE_HEAVY_RESTS;
}

/* Few browsers' spare connections are not why the budget runs out, a thousand strangers' are. */
static void put_few_silent_behind(struct verdict *v, uint32_t n)
{
	uint32_t count[STAGES] = {0};

	for (uint32_t i = 0; i < n; i++)
		count[v->candidates[i].stage]++;
	if (count[STAGE_SILENT] >= count[STAGE_HEAVY_RESTS])
		return;
	for (uint32_t i = 0; i < n; i++)
		if (v->candidates[i].stage == STAGE_SILENT)
			v->candidates[i].stage = STAGE_FEW_SILENT;
}

static void rank(struct verdict *v, const struct verdict_rule *rule, uint32_t n)
{
	const struct verdict_candidate *before = NULL;
	int64_t left = 0;

	qsort(v->candidates, n, sizeof v->candidates[0], within_group);
	for (uint32_t i = 0; i < n; i++) {
		struct verdict_candidate *c = &v->candidates[i];

		if (!before || c->group != before->group || c->tier != before->tier)
			left = load_of(rule, &v->groups[c->group], c->tier);
		c->rank = left--;
		c->stage = (uint8_t)stage_of(rule, c);
		before = c;
	}
	put_few_silent_behind(v, n);
	qsort(v->candidates, n, sizeof v->candidates[0], by_rank);
}

static uint32_t limit_of(const struct verdict *v, uint8_t class)
{
	return class == HELD_SILENT    ? v->silent_ms
	       : class == HELD_STALLED ? v->stalled_ms
				       : v->unanswered_ms;
}

static bool is_heavy_stage(uint8_t stage)
{
	return stage == STAGE_HEAVY_WAITS || stage == STAGE_HEAVY_RESTS;
}

static bool cut_is_offence(const struct verdict_candidate *c, const struct held *h)
{
	return h->class != HELD_UNKNOWN && !h->told && is_heavy_stage(c->stage);
}

static bool may_be_cut(const struct verdict *v, const struct verdict_rule *rule,
		       const struct held *h)
{
	if (h->class > HELD_BUSY)
		return false;
	if (is_heavy(rule, &v->groups[h->group], tier_of(h->class)) ||
	    (tier_of(h->class) == TIER_WAITS && is_several(rule, &v->groups[h->group])))
		return h->age_ms >= VERDICT_CUT_HEAVY_MS;
	switch (h->class) {
	case HELD_SILENT:
		return h->age_ms >= VERDICT_CUT_SILENT_MS;
	case HELD_IDLE:
		return h->age_ms >=
		       (v->fill_permille < VERDICT_LAST_PERMILLE ? v->idle_ms : VERDICT_CUT_MS);
	case HELD_BUSY:
		return false;
	default:
		return h->age_ms >= VERDICT_CUT_MS;
	}
}

static uint32_t collect(struct verdict *v, const struct verdict_rule *rule,
			const struct pressure *p, const struct held *held, uint32_t n)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct held *h = &held[i];

		if (!may_be_cut(v, rule, h) ||
		    (h->task < VERDICT_TASKS_MAX && !p->pressed[h->task]))
			continue;
		v->candidates[count++] = (struct verdict_candidate){.index = i,
								    .group = h->group,
								    .age_ms = h->age_ms,
								    .class = h->class,
								    .tier = tier_of(h->class)};
	}
	return count;
}

/* Takes one off the need of its process; what is not accepted yet off the first that needs. */
static bool relieve(struct pressure *p, uint16_t task)
{
	for (unsigned i = 0; task == VERDICT_NO_TASK && i < VERDICT_TASKS_MAX; i++)
		if (p->need[i] > 0)
			task = (uint16_t)i;
	if (task >= VERDICT_TASKS_MAX || p->need[task] <= 0)
		return false;
	p->need[task]--;
	p->all--;
	return true;
}

static void cut(struct verdict *v, const struct verdict_rule *rule, struct pressure *p,
		struct pressure *deep, const struct held *held, uint32_t count)
{
	enum stage last = last_stage(v, rule);

	for (uint32_t i = 0; i < count && v->ncuts < VERDICT_CUTS_MAX; i++) {
		const struct verdict_candidate *c = &v->candidates[i];
		const struct held *h = &held[c->index];
		bool needed;

		if (c->stage > last)
			break;
		if (!p->some && !is_heavy_stage(c->stage))
			continue;
		needed = relieve(p, h->task);
		if (is_heavy_stage(c->stage))
			needed |= relieve(deep, h->task);
		if (v->starved && c->stage == STAGE_HEAVY_WAITS)
			needed |= h->age_ms >= limit_of(v, h->class);
		v->cuts[v->ncuts++] = (struct verdict_cut){
			.index = c->index, .offence = cut_is_offence(c, h), .spare = !needed};
	}
}

static void judge_cuts(struct verdict *v, const struct verdict_rule *rule,
		       const struct verdict_task *tasks, size_t ntasks, const struct held *held,
		       uint32_t n)
{
	uint32_t from = rule->descriptors * 10;
	struct pressure p, deep;
	uint32_t count;

	if (!from || !v->alarm)
		return;
	if (heavy_tier(v, rule) != TIERS && from < VERDICT_LAST_PERMILLE)
		from = VERDICT_LAST_PERMILLE;
	p = pressure_of(tasks, ntasks, from, relieved(from));
	deep = deep_pressure(rule, tasks, ntasks);
	p.some = p.all > 0;
	if (deep.all <= 0 && !v->starved)
		return;
	if (v->starved) /* of any process */
		memset(deep.pressed, true, sizeof deep.pressed);
	count = collect(v, rule, &deep, held, n);
	rank(v, rule, count);
	cut(v, rule, &p, &deep, held, count);
}

/* --- all of it -------------------------------------------------------------------------------- */

int verdict_judge(struct verdict *v, const struct verdict_rule *rule,
		  const struct verdict_task *tasks, size_t ntasks, struct held *held, uint32_t n)
{
	int r = make_room(v, n);

	v->noffences = v->ncuts = v->ngroups = 0;
	v->due_ms = VERDICT_NEVER_MS;
	memset(v->classes, 0, sizeof v->classes);
	if (r < 0)
		return r;
	memset(v->slots, 0, v->nslots * sizeof v->slots[0]);
	for (uint32_t i = 0; i < n; i++)
		enter(v, &held[i]);
	v->prefixes = v->ngroups;
	judge_offences(v, rule, held, n);
	judge_cuts(v, rule, tasks, ntasks, held, n);
	return 0;
}

uint32_t verdict_holds(const struct verdict *v, const struct held *h)
{
	return v->groups[h->group].open;
}

void verdict_fini(struct verdict *v)
{
	free(v->groups);
	free(v->candidates);
	free(v->slots);
	free(v->offences);
	free(v->cuts);
	*v = (struct verdict){.seed = v->seed};
}
