/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters: see filter.h. Loading fails with ERROR_CONFIG and a sentence; judging a line never
 * fails, a line that is odd in any way is a miss.
 */
#include "daemon/filter/filter.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/base/arena.h"
#include "daemon/filter/date.h"
#include "daemon/filter/pattern.h"

#define IDS 4

/* What a named group of an expression is for. Slots below IDS are the failure's id, in this order.
 */
enum slot {
	SLOT_FID,
	SLOT_IP4,
	SLOT_IP6,
	SLOT_DNS,
	SLOT_CIDR,
	SLOT_CONTENT,
	SLOT_NOFAIL,
	SLOT_FIELD
};

/* How its text gets there: as it is, only when nothing is there yet (alt_), or added behind
 * (tuple_). */
enum merge { MERGE_SET, MERGE_ALT, MERGE_TUPLE, MERGES };

static const char *const slot_names[] = {"fid", "ip4", "ip6", "dns", "cidr", "content", "nofail"};

static const char *const unbuilt_groups[] = {"mlfid", "mlfforget", "mlfgained"};

struct group {
	enum slot slot;
	enum merge merge;
	unsigned number;
	const char *name; /* of the field */
};

struct rule {
	struct pattern *pattern;
	struct group *groups; /* MERGE_SET first, MERGE_TUPLE last */
	unsigned ngroups;
	bool has_id;
};

struct rules {
	struct rule *rule;
	size_t n;
};

/* A line without its date, \n-terminated, and where the matching stands. */
struct work {
	struct pattern_subject subject;
	struct slice slot[SLOT_FIELD];
	size_t joined; /* bytes used of the join buffer */
	bool gave_up;
};

struct filter {
	struct arena arena;
	struct rules pref, fail, ignore, partner;
	struct date *date;
	struct filter_stats stats;
	struct filter_regex_stats *regex_stats;
	struct work work;
	int64_t now_s; /* of the last line: filter_partner only cuts dates, for which it is good
			  enough */
	char line[FILTER_LINE_MAX + 1];
	char partner_line[FILTER_LINE_MAX + 1];
	char join[2 * FILTER_LINE_MAX];
};

_Static_assert(FILTER_LINE_MAX <= PATTERN_SUBJECT_MAX, "a line must fit a subject");

/* ---- loading ---- */

static bool starts(const char *s, const char *head)
{
	return strncmp(s, head, strlen(head)) == 0;
}

/* "alt_user_1" and "alt_user1" mean "user"; "id" and "port" have other names inside. */
static const char *merged_name(struct filter *f, const char *name, size_t skip)
{
	char *target = arena_strdup(&f->arena, name + skip);
	size_t n = strlen(target);

	while (n > 1 && target[n - 1] >= '0' && target[n - 1] <= '9')
		n--;
	if (n > 1 && target[n - 1] == '_')
		n--;
	target[n] = 0;
	if (strcmp(target, "id") == 0 || strcmp(target, "port") == 0)
		return arena_printf(&f->arena, "f%s", target);
	return target;
}

static struct group describe(struct filter *f, const char *name, unsigned number)
{
	struct group g = {.slot = SLOT_FIELD, .merge = MERGE_SET, .number = number};

	if (starts(name, "alt_") && name[4]) {
		g.merge = MERGE_ALT;
		g.name = merged_name(f, name, 4);
	} else if (starts(name, "tuple_") && name[6]) {
		g.merge = MERGE_TUPLE;
		g.name = merged_name(f, name, 6);
	} else {
		g.name = arena_strdup(&f->arena, name);
	}
	for (enum slot s = SLOT_FID; s < SLOT_FIELD; s++)
		if (strcmp(g.name, slot_names[s]) == 0)
			g.slot = s;
	return g;
}

static int check_built(const struct text_at *source, const char *name, struct error *err)
{
	bool unbuilt = starts(name, "skiplines");

	for (size_t i = 0; i < sizeof unbuilt_groups / sizeof *unbuilt_groups; i++)
		unbuilt = unbuilt || strcmp(name, unbuilt_groups[i]) == 0;
	if (!unbuilt)
		return 0;
	return error_at(err, ERROR_CONFIG, source->file, source->line,
			"the group %s needs the multi-line state, which this version does not have",
			name);
}

static unsigned count_fields(const struct rule *rule)
{
	unsigned n = 0;

	for (unsigned i = 0; rule && i < rule->ngroups; i++)
		n += rule->groups[i].slot == SLOT_FIELD;
	return n;
}

/* The groups of a rule, ordered by the way they are merged. */
static int load_groups(struct filter *f, struct rule *rule, const struct text_at *source,
		       struct error *err)
{
	unsigned n = pattern_names(rule->pattern), number;

	rule->groups = arena_array(&f->arena, n + 1, sizeof *rule->groups);
	for (enum merge merge = MERGE_SET; merge < MERGES; merge++) {
		for (unsigned i = 0; i < n; i++) {
			const char *name = pattern_name(rule->pattern, i, &number);
			int r = check_built(source, name, err);
			struct group g;

			if (r < 0)
				return r;
			g = describe(f, name, number);
			if (g.merge != merge)
				continue;
			rule->groups[rule->ngroups++] = g;
			rule->has_id = rule->has_id || g.slot < (enum slot)IDS;
		}
	}
	return 0;
}

static int load_rule(struct filter *f, const struct text_at *source, struct rule *rule,
		     struct error *err)
{
	int r = pattern_new(source, &rule->pattern, err);

	return r < 0 ? r : load_groups(f, rule, source, err);
}

static int load_rules(struct filter *f, const struct text_at *source, size_t n, struct rules *rules,
		      struct error *err)
{
	if (n > FILTER_REGEX_MAX)
		return error_at(err, ERROR_CONFIG, source[0].file, source[0].line,
				"more than %d expressions of one kind", FILTER_REGEX_MAX);
	rules->rule = arena_array(&f->arena, n + 1, sizeof *rules->rule);
	for (size_t i = 0; i < n; i++) {
		int r;

		rules->n = i + 1;
		r = load_rule(f, &source[i], &rules->rule[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Who did it must be known, by the expression itself or by prefregex; and its fields must fit. */
static int check_rules(const struct rules *rules, const struct rule *pref,
		       const struct text_at *source, struct error *err)
{
	for (size_t i = 0; i < rules->n; i++) {
		const struct rule *rule = &rules->rule[i];

		if (!rule->has_id && !(pref && pref->has_id))
			return error_at(
				err, ERROR_CONFIG, source[i].file, source[i].line,
				"no address in this expression: it needs <HOST>, <ADDR>, <IP4>, "
				"<IP6>, <DNS>, <SUBNET> or <F-ID>");
		if (count_fields(rule) + count_fields(pref) > FILTER_FIELDS_MAX)
			return error_at(err, ERROR_CONFIG, source[i].file, source[i].line,
					"more than %d named groups", FILTER_FIELDS_MAX);
	}
	return 0;
}

static int load(struct filter *f, const struct filter_spec *spec, struct error *err)
{
	const struct rule *pref;
	int r;

	if (spec->maxlines > 1)
		return error_set(
			err, ERROR_CONFIG,
			"filter %s: maxlines = %u: several lines at once are not built yet",
			spec->name ? spec->name : "-", spec->maxlines);
	r = load_rules(f, &spec->prefregex, spec->prefregex.text ? 1 : 0, &f->pref, err);
	if (r == 0)
		r = load_rules(f, spec->failregex, spec->nfail, &f->fail, err);
	if (r == 0)
		r = load_rules(f, spec->ignoreregex, spec->nignore, &f->ignore, err);
	if (r == 0)
		r = load_rules(f, spec->partnerregex, spec->npartner, &f->partner, err);
	if (r == 0)
		r = date_new(spec->datepattern, spec->ndate, &f->date, err);
	if (r < 0)
		return r;
	pref = f->pref.n ? &f->pref.rule[0] : NULL;
	r = check_rules(&f->fail, pref, spec->failregex, err);
	return r < 0 ? r : check_rules(&f->partner, NULL, spec->partnerregex, err);
}

int filter_new(const struct filter_spec *spec, struct filter **ret_filter, struct error *err)
{
	struct filter *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return error_set(err, -ENOMEM, "out of memory");
	r = load(f, spec, err);
	if (r < 0) {
		filter_free(f);
		return r == -ENOMEM ? error_set(err, r, "out of memory") : r;
	}
	f->regex_stats = arena_array(&f->arena, f->fail.n + 1, sizeof *f->regex_stats);
	f->stats.fail = f->regex_stats;
	f->stats.nfail = f->fail.n;
	f->now_s = INT64_MAX;
	*ret_filter = f;
	return 0;
}

static void free_rules(struct rules *rules)
{
	for (size_t i = 0; i < rules->n; i++)
		pattern_free(rules->rule[i].pattern);
}

void filter_free(struct filter *f)
{
	if (!f)
		return;
	free_rules(&f->pref);
	free_rules(&f->fail);
	free_rules(&f->ignore);
	free_rules(&f->partner);
	date_free(f->date);
	arena_free(&f->arena);
	free(f);
}

/* ---- judging ---- */

static struct slice head_of(struct slice line)
{
	line = slice_head(line, FILTER_LINE_MAX);
	while (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

/* Copies the line without its date into buf, which also gets the final \n. */
static struct slice cut(struct filter *f, char *buf, struct slice line, int64_t now_s,
			struct date_hit *ret_hit, bool *ret_dated)
{
	size_t n = line.n;

	*ret_dated = date_find(f->date, line, now_s, ret_hit);
	if (*ret_dated) {
		size_t after = ret_hit->start + ret_hit->n;

		n = line.n - ret_hit->n;
		memcpy(buf, line.p, ret_hit->start);
		memcpy(buf + ret_hit->start, line.p + after, line.n - after);
	} else if (n) {
		memcpy(buf, line.p, n);
	}
	buf[n] = '\n';
	return slice_of(buf, n);
}

static bool match(struct filter *f, struct rule *rule, bool *ret_gave_up)
{
	enum pattern_result result = pattern_match(rule->pattern, &f->work.subject);

	*ret_gave_up = result == PATTERN_GAVE_UP;
	if (*ret_gave_up) {
		f->work.gave_up = true;
		f->stats.limit_hits++;
	}
	return result == PATTERN_YES;
}

/* Puts `more` behind `old` with a comma between; what no longer fits is dropped. */
static struct slice join(struct filter *f, struct slice old, struct slice more)
{
	size_t room = sizeof f->join - f->work.joined;
	char *start = f->join + f->work.joined;

	if (old.n + 1 + more.n > room)
		return old;
	if (old.n)
		memcpy(start, old.p, old.n);
	start[old.n] = ',';
	if (more.n)
		memcpy(start + old.n + 1, more.p, more.n);
	f->work.joined += old.n + 1 + more.n;
	return slice_of(start, old.n + 1 + more.n);
}

static struct slice *find_field(struct filter_match *m, const char *name)
{
	for (unsigned i = 0; i < m->nfields; i++)
		if (strcmp(m->fields[i].name, name) == 0)
			return &m->fields[i].value;
	return NULL;
}

static void merge_into(struct filter *f, struct slice *place, enum merge how, struct slice value)
{
	if (how == MERGE_TUPLE && place->p)
		*place = join(f, *place, value);
	else if (how != MERGE_ALT || place->n == 0)
		*place = value;
}

static void take_group(struct filter *f, const struct group *g, struct slice value,
		       struct filter_match *m)
{
	struct slice *place =
		g->slot < SLOT_FIELD ? &f->work.slot[g->slot] : find_field(m, g->name);

	if (!place) {
		if (m->nfields == FILTER_FIELDS_MAX)
			return;
		m->fields[m->nfields] = (struct filter_field){g->name, SLICE_NONE};
		place = &m->fields[m->nfields++].value;
	}
	merge_into(f, place, g->merge, value);
}

static void take_groups(struct filter *f, const struct rule *rule, struct filter_match *m)
{
	for (unsigned i = 0; i < rule->ngroups; i++) {
		struct slice value =
			pattern_group(rule->pattern, &f->work.subject, rule->groups[i].number);

		if (value.p)
			take_group(f, &rule->groups[i], value, m);
	}
}

/* prefregex: false when the line is done. Its content, if any, becomes the subject. */
static bool prefix(struct filter *f, struct filter_match *m)
{
	struct rule *pref = f->pref.rule;
	bool gave_up;

	if (!f->pref.n)
		return true;
	if (!match(f, pref, &gave_up))
		return false;
	take_groups(f, pref, m);
	return true;
}

static bool ignored(struct filter *f, bool *ret_unsure)
{
	for (size_t i = 0; i < f->ignore.n; i++) {
		bool gave_up;

		if (match(f, &f->ignore.rule[i], &gave_up))
			return true;
		*ret_unsure = *ret_unsure || gave_up;
	}
	return false;
}

/* The first set id, and the address that its text is, if it is one. */
static bool identify(const struct work *w, struct filter_match *m)
{
	struct addr addr;
	uint64_t plen;

	m->id = SLICE_NONE;
	for (unsigned i = 0; i < IDS && !m->id.n; i++)
		m->id = w->slot[i];
	if (!m->id.n)
		return false;
	m->has_addr = addr_parse(m->id, &addr) == 0;
	if (m->has_addr && w->slot[SLOT_CIDR].n) {
		m->has_addr = slice_u64(w->slot[SLOT_CIDR], addr_bits(&addr), &plen) == 0;
		if (m->has_addr)
			addr = addr_mask(addr, (unsigned)plen);
	}
	if (m->has_addr)
		m->addr = addr;
	return true;
}

/* The first failregex that matches and names somebody; -1 = none. */
static int first_match(struct filter *f, struct filter_match *m)
{
	for (size_t i = 0; i < f->fail.n; i++) {
		struct slice slots[SLOT_FIELD];
		struct filter_match before;
		bool gave_up;

		if (!match(f, &f->fail.rule[i], &gave_up)) {
			f->regex_stats[i].limit_hits += gave_up;
			continue;
		}
		before = *m;
		memcpy(slots, f->work.slot, sizeof slots);
		take_groups(f, &f->fail.rule[i], m);
		if (identify(&f->work, m))
			return (int)i;
		memcpy(f->work.slot, slots, sizeof slots);
		*m = before;
	}
	return -1;
}

/* failregex on the subject, and ignoreregex behind it. */
static enum filter_verdict judge_subject(struct filter *f, bool ignore_after,
					 struct filter_match *m)
{
	bool unsure = false;
	int regex = first_match(f, m);

	if (regex < 0)
		return FILTER_MISS;
	m->regex = regex;
	if (ignore_after && ignored(f, &unsure))
		return FILTER_IGNORED;
	if (unsure) {
		m->regex = -1;
		return FILTER_MISS;
	}
	f->regex_stats[regex].hits++;
	return f->work.slot[SLOT_NOFAIL].n ? FILTER_QUIET : FILTER_FAIL;
}

static enum filter_verdict judge(struct filter *f, struct filter_match *m)
{
	bool ignore_first = f->ignore.n + 2 < f->fail.n, unsure = false;
	enum filter_verdict verdict;
	struct slice content;
	char *behind, kept;

	if (ignore_first && ignored(f, &unsure))
		return FILTER_IGNORED;
	if (unsure || !prefix(f, m))
		return FILTER_MISS;
	content = f->work.slot[SLOT_CONTENT];
	if (!content.p)
		return judge_subject(f, !ignore_first, m);
	/* The content lies in f->line: the byte behind it gives way for the \n that ends a subject.
	 */
	behind = f->line + (content.p - f->line) + content.n;
	kept = *behind;
	*behind = '\n';
	pattern_subject_init(&f->work.subject, content);
	verdict = judge_subject(f, !ignore_first, m);
	*behind = kept;
	return verdict;
}

static void count(struct filter *f, const struct filter_match *m)
{
	f->stats.lines++;
	f->stats.dated += m->has_time;
	f->stats.ignored += m->verdict == FILTER_IGNORED;
	f->stats.quiet += m->verdict == FILTER_QUIET;
	f->stats.failed += m->verdict == FILTER_FAIL;
}

static void start_work(struct filter *f, struct slice raw)
{
	memset(f->work.slot, 0, sizeof f->work.slot);
	f->work.gave_up = false;
	pattern_subject_init(&f->work.subject, raw);
}

static void clear_match(struct filter_match *m)
{
	m->verdict = FILTER_MISS;
	m->regex = -1;
	m->has_addr = m->has_time = m->gave_up = false;
	m->addr = (struct addr){0};
	m->id = SLICE_NONE;
	m->time_s = 0;
	m->nfields = 0;
}

void filter_line(struct filter *f, struct slice line, int64_t now_s, struct filter_match *ret)
{
	struct date_hit hit;
	struct slice raw;

	clear_match(ret);
	f->now_s = now_s;
	f->work.joined = 0;
	f->stats.overlong += line.n > FILTER_LINE_MAX;
	raw = cut(f, f->line, head_of(line), now_s, &hit, &ret->has_time);
	if (ret->has_time)
		ret->time_s = hit.time_s;
	start_work(f, raw);
	ret->verdict = judge(f, ret);
	ret->gave_up = f->work.gave_up;
	count(f, ret);
}

struct slice filter_field(const struct filter_match *m, const char *name)
{
	for (unsigned i = 0; i < m->nfields; i++)
		if (strcmp(m->fields[i].name, name) == 0)
			return m->fields[i].value;
	return SLICE_NONE;
}

bool filter_partner(struct filter *f, struct slice line, struct addr *ret_addr,
		    struct slice *ret_code)
{
	struct filter_match m;
	struct date_hit hit;
	bool dated, gave_up;
	struct slice raw;

	if (!f->partner.n)
		return false;
	raw = cut(f, f->partner_line, head_of(line), f->now_s, &hit, &dated);
	start_work(f, raw);
	for (size_t i = 0; i < f->partner.n; i++) {
		clear_match(&m);
		if (!match(f, &f->partner.rule[i], &gave_up))
			continue;
		memset(f->work.slot, 0, sizeof f->work.slot);
		take_groups(f, &f->partner.rule[i], &m);
		if (!identify(&f->work, &m) || !m.has_addr)
			continue;
		if (ret_addr)
			*ret_addr = m.addr;
		if (ret_code)
			*ret_code = filter_field(&m, "code");
		return true;
	}
	return false;
}

bool filter_date(struct filter *f, struct slice line, int64_t now_s, int64_t *ret_time_s)
{
	struct date_hit hit;

	f->now_s = now_s;
	if (!date_find(f->date, head_of(line), now_s, &hit))
		return false;
	*ret_time_s = hit.time_s;
	return true;
}

const struct filter_stats *filter_stats(const struct filter *f)
{
	return &f->stats;
}
