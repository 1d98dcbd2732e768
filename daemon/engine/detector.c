/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a line to a decision: see detector.h. Only detector_new can fail; afterwards a line that
 * cannot be used is counted and left.
 */
#include "daemon/engine/detector.h"
#include "daemon/base/escape.h"
#include "daemon/base/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

struct rule {
	struct filter *filter; /* NULL: a sockets jail's, it reads no lines */
	const char *distinct;
	unsigned ledger_rule;
	bool has_partner;
	bool perconnection; /* each line is a connection of its own */
};

struct jail {
	struct rule *rules;
	size_t nrules;
	struct growth_rule growth;
	double *multipliers;
	bool overalljails;
	int64_t findtime_s;
	struct detector_counts counts;
};

struct detector {
	const struct conf *conf;
	struct jail *jails;
	struct ledger ledger;
	struct growth growth;
	struct ledger_stats stats;
	struct bans *bans;
	const struct ignore *ignore;
	const struct detector_hooks *hooks;
	void *ctx;
	struct hash_seed seed;
	uint64_t line_number;
};

/* --- set-up ----------------------------------------------------------------------------------- */

static size_t count_rules(const struct conf *conf)
{
	size_t n = 0;

	for (size_t i = 0; i < conf->njails; i++)
		n += conf->jails[i].nrules;
	return n;
}

/* The ledger's rules, one for each rule of each jail, in order. */
static struct ledger_rule *ledger_rules(const struct conf *conf, size_t *ret_n)
{
	size_t n = count_rules(conf), at = 0;
	struct ledger_rule *rules = calloc(n ? n : 1, sizeof *rules);

	if (!rules)
		return NULL;
	for (size_t i = 0; i < conf->njails; i++) {
		for (size_t k = 0; k < conf->jails[i].nrules; k++, at++) {
			const struct rule_conf *rc = &conf->jails[i].rules[k];

			rules[at] = (struct ledger_rule){.id = (uint16_t)at,
							 .maxretry = rc->maxretry,
							 .findtime_s = rc->findtime_s,
							 .distinct = rc->distinct != NULL};
		}
	}
	*ret_n = n;
	return rules;
}

void detector_sizes(const struct conf *conf, size_t *ret_ledger_bytes, size_t *ret_growth_bytes)
{
	size_t n = 0;
	struct ledger_rule *rules = ledger_rules(conf, &n);

	*ret_ledger_bytes =
		rules ? ledger_bytes(rules, n, conf->maxtracked, conf->maxmemory_bytes) : 0;
	*ret_growth_bytes = growth_bytes(2 * conf->maxtracked); /* a ban makes two records */
	free(rules);
}

/* NULL for the rule of a sockets jail, which has no expressions. */
static int compile(const struct filter_conf *fc, struct filter **ret_filter, struct error *err)
{
	const struct filter_spec spec = {
		.name = fc->name,
		.prefregex = fc->prefregex,
		.failregex = fc->failregex,
		.nfail = fc->nfail,
		.ignoreregex = fc->ignoreregex,
		.nignore = fc->nignore,
		.datepattern = fc->datepattern,
		.ndate = fc->ndate,
		.partnerregex = fc->partnerregex,
		.npartner = fc->npartner,
		.maxlines = fc->maxlines,
	};

	*ret_filter = NULL;
	return fc->nfail ? filter_new(&spec, ret_filter, err) : 0;
}

void detector_check(const struct conf *conf, struct conf_errors *errs)
{
	for (size_t i = 0; i < conf->njails; i++) {
		for (size_t k = 0; k < conf->jails[i].nrules; k++) {
			struct filter *filter = NULL;
			struct error err = {0};

			if (compile(&conf->jails[i].rules[k].filter, &filter, &err) < 0)
				conf_errors_take(errs, &err);
			filter_free(filter);
		}
	}
}

static int set_up_growth(struct jail *j, const struct jail_conf *jc)
{
	const struct growth_conf *g = &jc->growth;

	j->overalljails = g->overalljails;
	j->growth = (struct growth_rule){.base_s = jc->bantime_s,
					 .increment = g->increment,
					 .factor = g->factor,
					 .maxtime_s = g->maxtime_s,
					 .rndtime_s = g->rndtime_s};
	if (!g->nmultipliers)
		return 0;
	j->multipliers = calloc(g->nmultipliers, sizeof *j->multipliers);
	if (!j->multipliers)
		return -ENOMEM;
	for (size_t i = 0; i < g->nmultipliers; i++)
		j->multipliers[i] = g->multipliers[i];
	j->growth.multipliers = j->multipliers;
	j->growth.nmultipliers = g->nmultipliers;
	return 0;
}

static int set_up_jail(struct jail *j, const struct jail_conf *jc, unsigned *ledger_rule,
		       struct error *err)
{
	j->rules = calloc(jc->nrules ? jc->nrules : 1, sizeof *j->rules);
	if (!j->rules || set_up_growth(j, jc) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t k = 0; k < jc->nrules; k++) {
		struct rule *rule = &j->rules[k];
		int r = compile(&jc->rules[k].filter, &rule->filter, err);

		if (r < 0)
			return r;
		j->nrules++;
		rule->distinct = jc->rules[k].distinct;
		rule->has_partner = jc->rules[k].filter.npartner > 0;
		rule->perconnection = jc->rules[k].filter.perconnection;
		rule->ledger_rule = (*ledger_rule)++;
		if (jc->rules[k].findtime_s > j->findtime_s)
			j->findtime_s = jc->rules[k].findtime_s;
	}
	return 0;
}

static int attach(struct detector *d, const struct detector_memory *memory)
{
	size_t n = 0;
	struct ledger_rule *rules = ledger_rules(d->conf, &n);
	bool kept;
	int r;

	if (!rules)
		return -ENOMEM;
	r = ledger_attach(&d->ledger, memory->ledger, memory->ledger_bytes, rules, n,
			  d->conf->maxtracked, d->conf->maxmemory_bytes, &kept);
	free(rules);
	if (r < 0)
		return r;
	return growth_attach(&d->growth, memory->growth, memory->growth_bytes,
			     2 * d->conf->maxtracked, d->conf->dbpurgeage_s, &kept);
}

int detector_new(const struct conf *conf, const struct detector_memory *memory, struct bans *bans,
		 const struct ignore *ignore, const struct detector_hooks *hooks, void *ctx,
		 struct detector **ret_detector, struct error *err)
{
	struct detector *d = calloc(1, sizeof *d);
	unsigned ledger_rule = 0;
	int r = 0;

	if (!d)
		return error_set(err, -ENOMEM, "out of memory");
	*d = (struct detector){.conf = conf,
			       .bans = bans,
			       .ignore = ignore,
			       .hooks = hooks,
			       .ctx = ctx,
			       .seed = memory->seed};
	d->jails = calloc(conf->njails ? conf->njails : 1, sizeof *d->jails);
	if (!d->jails)
		r = error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < conf->njails; i++)
		r = set_up_jail(&d->jails[i], &conf->jails[i], &ledger_rule, err);
	if (r == 0) {
		r = attach(d, memory);
		if (r < 0)
			error_set(err, r, "cannot set up the ledger: %s", error_name(r));
	}
	if (r < 0) {
		detector_free(d);
		return r;
	}
	*ret_detector = d;
	return 0;
}

void detector_free(struct detector *d)
{
	if (!d)
		return;
	for (size_t i = 0; d->jails && i < d->conf->njails; i++) {
		for (size_t k = 0; k < d->jails[i].nrules; k++)
			filter_free(d->jails[i].rules[k].filter);
		free(d->jails[i].rules);
		free(d->jails[i].multipliers);
	}
	free(d->jails);
	ledger_detach(&d->ledger);
	free(d);
}

/* --- the two lines of one bad request --------------------------------------------------------- */

static uint32_t code_hash(const struct detector *d, struct slice code)
{
	return (uint32_t)hash_bytes(&d->seed, code.p, code.n);
}

static void remember_pair(struct detector *d, struct detector_file *file,
			  const struct filter_match *m, int64_t time_s)
{
	unsigned at = file->next_pair++ % DETECTOR_PAIRS;

	file->pairs[at].addr = m->addr;
	file->pairs[at].code_hash = code_hash(d, filter_field(m, "code"));
	file->pairs[at].time_s = time_s;
}

/*
 * Takes the pair out when this line is its second half. A status by name (HTTPStatus.BAD_REQUEST)
 * has no number to compare; address and order decide then.
 */
static bool take_pair(struct detector *d, struct detector_file *file, const struct addr *addr,
		      struct slice code)
{
	bool by_name = !code.n || code.p[0] < '0' || code.p[0] > '9';
	uint32_t hash = code_hash(d, code);

	for (unsigned back = 1; back <= DETECTOR_PAIRS; back++) {
		unsigned at = (file->next_pair - back) % DETECTOR_PAIRS;

		if (addr_eq(&file->pairs[at].addr, addr) &&
		    (by_name || file->pairs[at].code_hash == hash)) {
			file->pairs[at].addr = (struct addr){0};
			return true;
		}
	}
	return false;
}

static bool any_pair(const struct detector_file *file)
{
	for (unsigned i = 0; i < DETECTOR_PAIRS; i++)
		if (file->pairs[i].addr.family)
			return true;
	return false;
}

static bool looks_like_partner(const struct detector *d, const uint16_t *jails, size_t njails,
			       struct slice line)
{
	struct addr addr;
	struct slice code;

	for (size_t i = 0; i < njails; i++) {
		const struct jail *j = &d->jails[jails[i]];

		for (size_t k = 0; k < j->nrules; k++)
			if (j->rules[k].has_partner &&
			    filter_partner(j->rules[k].filter, line, &addr, &code))
				return true;
	}
	return false;
}

static bool is_partner(struct detector *d, struct detector_file *file, const uint16_t *jails,
		       size_t njails, struct slice line)
{
	struct addr addr;
	struct slice code;

	if (!any_pair(file))
		return false;
	for (size_t i = 0; i < njails; i++) {
		const struct jail *j = &d->jails[jails[i]];

		for (size_t k = 0; k < j->nrules; k++)
			if (j->rules[k].has_partner &&
			    filter_partner(j->rules[k].filter, line, &addr, &code))
				return take_pair(d, file, &addr, code);
	}
	return false;
}

/* --- one line --------------------------------------------------------------------------------- */

struct addr detector_prefix(const struct conf *conf, uint16_t jail, const struct addr *host)
{
	const struct jail_conf *jc = &conf->jails[jail];

	return addr_mask(*host, host->family == ADDR_IPV4 ? jc->ipv4_prefix : jc->ipv6_prefix);
}

/* What is known of the line that is being looked at. */
struct in_hand {
	struct detector_file *file;
	struct slice line;
	uint64_t offset;
	int64_t now_s, mono_ns;
	bool tailing, backlog;
	bool names;   /* who begins a line is counted, */
	bool counted; /* also this one */
	bool paired;
};

/* The time that the offence counts at. */
static int64_t line_time(struct detector *d, const struct in_hand *in, const struct filter_match *m)
{
	char text[160];
	int64_t off;

	if (!m->has_time)
		return in->now_s;
	if (!in->tailing)
		return m->time_s;
	off = m->time_s - in->now_s;
	if (in->backlog && off <= DETECTOR_OFF_BY_S)
		return m->time_s;
	if (off <= DETECTOR_OFF_BY_S && off >= -DETECTOR_OFF_BY_S)
		return m->time_s;
	if (!in->file->told_clock_off) {
		in->file->told_clock_off = true;
		snprintf(
			text, sizeof text,
			"its dates are %lld s off (another zone or clock?); its lines count as now",
			(long long)off);
		d->hooks->notice(d->ctx, in->file, text);
	}
	return in->now_s;
}

static void reached(struct detector *d, struct jail *j, const struct detector_offence *o)
{
	uint16_t scope = j->overalljails ? GROWTH_ALL_JAILS : o->jail;
	unsigned before;
	uint32_t random = 0;
	int64_t duration_s;

	if (bans_find(d->bans, &o->prefix, o->jail)) {
		j->counts.already_banned++;
		return;
	}
	before = growth_count(&d->growth, &o->prefix, scope, o->time_s);
	if (j->growth.rndtime_s && getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
		random = 0;
	duration_s = growth_bantime(&j->growth, before, random);
	j->counts.bans++;
	d->hooks->ban(d->ctx, o, duration_s < 0 ? CLOCK_FOREVER : duration_s, before);
}

static void decide(struct detector *d, struct jail *j, const struct detector_offence *o,
		   enum ledger_result result)
{
	j->counts.offences += result != LEDGER_OLD && result != LEDGER_REPEATED;
	j->counts.repeated += result == LEDGER_REPEATED;
	j->counts.old += result == LEDGER_OLD;
	if (result == LEDGER_OLD || result == LEDGER_REPEATED)
		return;
	if (d->hooks->offence)
		d->hooks->offence(d->ctx, o);
	if (result == LEDGER_REACHED)
		reached(d, j, o);
}

static void offence(struct detector *d, uint16_t jail, uint16_t rule, const struct in_hand *in,
		    const struct filter_match *m, int64_t time_s)
{
	struct jail *j = &d->jails[jail];
	const struct rule *r = &j->rules[rule];
	struct detector_offence o = {
		.jail = jail,
		.rule = rule,
		.host = m->addr,
		.time_s = time_s,
		.line = in->line,
		.prefix = detector_prefix(d->conf, jail, &m->addr),
		.file = in->file,
		.offset = in->offset,
		.number = d->line_number,
	};
	enum detector_again again = DETECTOR_NEW;
	struct ignore_hit hit;
	uint32_t value = 0;
	unsigned before = 0;

	if (ignore_check(d->ignore, &m->addr, jail, false, in->mono_ns, &hit)) {
		j->counts.ignored++;
		if (d->hooks->refused)
			d->hooks->refused(d->ctx, &o, &hit);
		return;
	}
	if (r->distinct) {
		struct slice v = filter_field(m, r->distinct);

		value = (uint32_t)hash_bytes(&d->seed, v.p, v.n);
	}
	if (d->hooks->counting && in->file) {
		before = ledger_count(&d->ledger, r->ledger_rule, &o.prefix, time_s);
		again = d->hooks->counting(d->ctx, &o, before);
	}
	if (again == DETECTOR_DONE)
		return;
	if (again == DETECTOR_COUNTED) {
		/* A record that is reached starts afresh. */
		o.count = before ? before : d->conf->jails[jail].rules[rule].maxretry;
		decide(d, j, &o, before ? LEDGER_COUNTED : LEDGER_REACHED);
	} else {
		decide(d, j, &o,
		       ledger_add(&d->ledger, r->ledger_rule, &o.prefix, time_s, value, &o.count));
	}
	if (d->hooks->counted && in->file)
		d->hooks->counted(d->ctx);
}

void detector_connection(struct detector *d, uint16_t jail, const struct addr *host,
			 struct slice text, struct now now)
{
	const struct in_hand in = {
		.line = text, .now_s = clock_wall_s(now), .mono_ns = now.mono_ns, .tailing = true};
	const struct filter_match m = {.addr = *host, .has_addr = true};

	d->jails[jail].counts.matched++;
	offence(d, jail, 0, &in, &m, in.now_s);
}

static void apply_rule(struct detector *d, uint16_t jail, uint16_t rule, struct in_hand *in)
{
	struct jail *j = &d->jails[jail];
	struct filter_match m;
	int64_t time_s;

	if (!j->rules[rule].filter)
		return;
	filter_line(j->rules[rule].filter, in->line, in->now_s, &m);
	if (m.verdict != FILTER_FAIL)
		return;
	j->counts.matched++;
	if (!m.has_addr) {
		j->counts.unusable++;
		return;
	}
	time_s = line_time(d, in, &m);
	if (j->rules[rule].has_partner && !in->paired && filter_field(&m, "code").n) {
		remember_pair(d, in->file, &m, time_s);
		in->paired = true;
		if (in->counted)
			d->hooks->owes(d->ctx, &m.addr);
	}
	offence(d, jail, rule, in, &m, time_s);
}

#ifdef TAILBAN_CRASH_LINE
/* Test builds only: a line with this text ends the engine as a bug in a parser would. */
static void crash_if_asked(struct slice line)
{
	if (memmem(line.p, line.n, TAILBAN_CRASH_LINE, strlen(TAILBAN_CRASH_LINE)))
		__builtin_trap();
}
#else
static void crash_if_asked(struct slice line)
{
	(void)line;
}
#endif

/* Is a line a connection in this log? Then who it names is counted, see jail/tally.h. */
static bool counts_names(const struct detector *d, const uint16_t *jails, size_t njails)
{
	for (size_t i = 0; d->hooks->named && i < njails; i++)
		for (size_t k = 0; k < d->jails[jails[i]].nrules; k++)
			if (d->jails[jails[i]].rules[k].perconnection)
				return true;
	return false;
}

/* The second line of a bad request is none of its own. A server with many threads may write it so
 * late that it is not remembered with the file any more; what its address owes still tells. */
static void count_name(struct detector *d, const uint16_t *jails, size_t njails, struct slice line,
		       bool partner)
{
	struct slice name = slice_head(line, slice_find(slice_head(line, ADDR_STRLEN), ' '));
	struct addr host;

	if (addr_parse(name, &host) < 0)
		return;
	if (!partner && d->hooks->owed(d->ctx, &host))
		partner = looks_like_partner(d, jails, njails, line);
	d->hooks->named(d->ctx, &host, partner);
}

static void one_line(struct detector *d, const uint16_t *jails, size_t njails, struct in_hand *in)
{
	bool partner;

	if (d->hooks->line_begins)
		d->hooks->line_begins(d->ctx, in->file, in->offset);
	if (d->hooks->skip_line && d->hooks->skip_line(d->ctx, in->file, in->offset, in->line))
		return;
	crash_if_asked(in->line);
	partner = is_partner(d, in->file, jails, njails, in->line);
	in->counted = in->names && !in->backlog;
	if (in->counted)
		count_name(d, jails, njails, in->line, partner);
	if (partner)
		return;
	for (size_t i = 0; i < njails; i++)
		for (size_t k = 0; k < d->jails[jails[i]].nrules; k++)
			apply_rule(d, jails[i], (uint16_t)k, in);
}

void detector_block(struct detector *d, struct detector_file *file, const uint16_t *jails,
		    size_t njails, struct slice text, uint64_t offset, struct now now, bool tailing)
{
	struct in_hand in = {.file = file,
			     .now_s = clock_wall_s(now),
			     .mono_ns = now.mono_ns,
			     .tailing = tailing,
			     .names = tailing && counts_names(d, jails, njails)};

	while (text.n) {
		size_t end = slice_find(text, '\n');

		in.line = slice_head(text, end);
		if (in.line.n && in.line.p[in.line.n - 1] == '\r')
			in.line.n--;
		in.offset = offset;
		in.backlog = offset < file->backlog_end;
		in.paired = false;
		d->line_number++;
		file->lines++;
		one_line(d, jails, njails, &in);
		text = slice_skip(text, end + 1);
		offset += end + 1;
	}
}

/* --- reload ----------------------------------------------------------------------------------- */

void detector_purge(struct detector *d, int64_t now_s)
{
	growth_purge(&d->growth, now_s);
}

void detector_clock_back(struct detector *d, int64_t now_s)
{
	ledger_drop_after(&d->ledger, now_s);
}

void detector_copy_growth(const struct detector *d, void *to_region)
{
	growth_copy(&d->growth, to_region);
}

/* The new number of a rule of an old jail, or NULL when it is gone or counts otherwise. */
static const struct rule *same_rule(const struct detector *d, const char *jail, const char *filter,
				    bool distinct)
{
	for (size_t i = 0; i < d->conf->njails; i++) {
		const struct jail_conf *j = &d->conf->jails[i];

		for (size_t k = 0; k < j->nrules && !strcmp(j->name, jail); k++)
			if (!strcmp(j->rules[k].filter.name, filter) &&
			    distinct == (j->rules[k].distinct != NULL))
				return &d->jails[i].rules[k];
	}
	return NULL;
}

void detector_carry(struct detector *to, const struct detector *from)
{
	for (size_t i = 0; i < from->conf->njails; i++) {
		const struct jail_conf *j = &from->conf->jails[i];

		for (size_t n = 0; n < to->conf->njails; n++)
			if (!strcmp(to->conf->jails[n].name, j->name))
				to->jails[n].counts = from->jails[i].counts;
		for (size_t k = 0; k < j->nrules; k++) {
			const struct rule *rule = same_rule(to, j->name, j->rules[k].filter.name,
							    j->rules[k].distinct != NULL);

			if (rule)
				ledger_carry(&to->ledger, rule->ledger_rule, &from->ledger,
					     from->jails[i].rules[k].ledger_rule);
		}
	}
}

/* --- around it -------------------------------------------------------------------------------- */

bool detector_date(struct detector *d, const uint16_t *jails, size_t njails, struct slice line,
		   int64_t now_s, int64_t *ret_time_s)
{
	for (size_t i = 0; i < njails; i++)
		for (size_t k = 0; k < d->jails[jails[i]].nrules; k++) {
			struct filter *f = d->jails[jails[i]].rules[k].filter;

			if (f && filter_date(f, line, now_s, ret_time_s))
				return true;
		}
	return false;
}

int64_t detector_findtime(const struct detector *d, const uint16_t *jails, size_t njails)
{
	int64_t longest = 0;

	for (size_t i = 0; i < njails; i++)
		if (d->jails[jails[i]].findtime_s > longest)
			longest = d->jails[jails[i]].findtime_s;
	return longest;
}

void detector_forget(struct detector *d, const struct addr *prefix)
{
	ledger_forget(&d->ledger, prefix);
}

int64_t detector_bantime(struct detector *d, uint16_t jail, const struct addr *prefix,
			 int64_t now_s, unsigned *ret_before)
{
	struct jail *j = &d->jails[jail];
	uint16_t scope = j->overalljails ? GROWTH_ALL_JAILS : jail;
	int64_t duration_s;

	*ret_before = growth_count(&d->growth, prefix, scope, now_s);
	duration_s = growth_bantime(&j->growth, *ret_before, 0);
	return duration_s < 0 ? CLOCK_FOREVER : duration_s;
}

void detector_banned(struct detector *d, uint16_t jail, const struct addr *prefix, int64_t now_s,
		     int64_t until_s)
{
	growth_note(&d->growth, prefix, jail, now_s, until_s);
}

/* An unban by hand says that the ban was wrong: what led to it is forgotten, that it was there is
 * not. */
void detector_unbanned(struct detector *d, uint16_t jail, const struct addr *prefix, int64_t now_s)
{
	growth_ended(&d->growth, prefix, jail, now_s);
	ledger_forget(&d->ledger, prefix);
}

const struct detector_counts *detector_counts(const struct detector *d, uint16_t jail)
{
	return &d->jails[jail].counts;
}

const struct ledger_stats *detector_ledger_stats(struct detector *d)
{
	d->stats = ledger_stats(&d->ledger);
	return &d->stats;
}

const struct filter_stats *detector_filter_stats(const struct detector *d, uint16_t jail,
						 uint16_t rule)
{
	static const struct filter_stats none;
	const struct filter *f = d->jails[jail].rules[rule].filter;

	return f ? filter_stats(f) : &none;
}
