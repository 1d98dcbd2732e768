/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shipped filters in the real detector, on logs of real servers and on their samples.
 *
 * tests/corpus/README.md says what is judged: no honest line is an offence of any filter but the
 * rate jail, and each offence is found once, with the right client. CORPUS_DIR names another
 * directory of the same kind (mutated copies); the samples are then left out, and so is the count
 * of files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <glob.h>
#include <sys/mman.h>

#include "daemon/base/escape.h"
#include "daemon/engine/detector.h"

#define BURST "werkzeug-burst"
#define FINDTIME_S (INT64_C(20) * 365 * 86400) /* nothing is ever too old */
#define MAXRETRY 1000                          /* and nothing is ever enough */
#define RULES_MAX 16u
#define BURST_SANE 20u
#define FILES_LEAST 10u
#define FOUND_PERMILLE 995u

/* --- files ------------------------------------------------------------------------------------ */

static const char *source_tree(void)
{
	const char *dir = getenv("TAILBAN_DATADIR");

	if (!dir)
		dir = getenv("srcdir");
	return dir ? dir : ".";
}

static char *read_file(const char *path, struct slice *ret_text)
{
	FILE *f = fopen(path, "re");
	size_t room = 4 << 20, n;
	char *text = malloc(room);

	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	assert_non_null(text);
	n = fread(text, 1, room, f);
	assert_true(n < room);
	fclose(f);
	*ret_text = slice_of(text, n);
	return text;
}

/* Cuts the next line off, without its \n; false at the end. */
static bool next_line(struct slice *rest, struct slice *ret_line)
{
	size_t end = slice_find(*rest, '\n');

	if (!rest->n)
		return false;
	*ret_line = slice_head(*rest, end);
	*rest = slice_skip(*rest, end + 1);
	return true;
}

static void each_file(const char *dir, const char *pattern, void (*fn)(const char *path),
		      size_t least)
{
	char path[512];
	glob_t found;

	snprintf(path, sizeof path, "%s/%s", dir, pattern);
	if (glob(path, 0, NULL, &found) != 0)
		fail_msg("there is no %s", path);
	assert_true(found.gl_pathc >= least);
	for (size_t i = 0; i < found.gl_pathc; i++)
		fn(found.gl_pathv[i]);
	globfree(&found);
}

/* --- the detector ----------------------------------------------------------------------------- */

struct bench {
	struct conf conf;
	struct detector *detector;
	struct detector_file file;
	struct detector_memory memory;
	struct bans *bans;
	struct ignore *ignore;
	uint16_t jails[RULES_MAX];
};

static void *map(size_t bytes)
{
	void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(region, MAP_FAILED);
	return region;
}

static void no_ban(void *ctx, const struct detector_offence *o, int64_t duration_s, unsigned before)
{
	(void)ctx;
	(void)o;
	(void)duration_s;
	(void)before;
}

static void no_notice(void *ctx, const struct detector_file *file, const char *text)
{
	(void)ctx;
	(void)file;
	fail_msg("%s", text);
}

static void no_refusal(void *ctx, const struct detector_offence *o, const struct ignore_hit *why)
{
	char host[ADDR_STRLEN];

	(void)ctx;
	(void)why;
	fail_msg("%s is on the ignore list", addr_format(&o->host, host));
}

/* Every match is reported: thresholds and `distinct` are the business of other tests. */
static void open_detector(struct bench *b, const char *path,
			  void (*on_offence)(void *, const struct detector_offence *), void *ctx)
{
	static struct detector_hooks hooks = {
		.ban = no_ban, .refused = no_refusal, .notice = no_notice};
	struct error err = {0};

	hooks.offence = on_offence;
	assert_true(b->conf.njails <= RULES_MAX);
	for (size_t i = 0; i < b->conf.njails; i++) {
		b->jails[i] = (uint16_t)i;
		for (size_t k = 0; k < b->conf.jails[i].nrules; k++) {
			b->conf.jails[i].rules[k].maxretry = MAXRETRY;
			b->conf.jails[i].rules[k].findtime_s = FINDTIME_S;
			b->conf.jails[i].rules[k].distinct = NULL;
		}
	}
	b->file.path = path;
	b->bans = bans_new(16);
	b->ignore = ignore_new();
	detector_sizes(&b->conf, &b->memory.ledger_bytes, &b->memory.growth_bytes);
	b->memory.ledger = map(b->memory.ledger_bytes);
	b->memory.growth = map(b->memory.growth_bytes);
	b->memory.seed = hash_seed_new();
	if (detector_new(&b->conf, &b->memory, b->bans, b->ignore, &hooks, ctx, &b->detector,
			 &err) < 0)
		fail_msg("%s:%u: %s", err.file, err.line, err.text);
}

static void close_detector(struct bench *b)
{
	detector_free(b->detector);
	munmap(b->memory.ledger, b->memory.ledger_bytes);
	munmap(b->memory.growth, b->memory.growth_bytes);
	bans_free(b->bans);
	ignore_free(b->ignore);
}

static const char *rule_name(const struct bench *b, const struct detector_offence *o)
{
	return b->conf.jails[o->jail].rules[o->rule].filter.name;
}

/* --- the corpus ------------------------------------------------------------------------------- */

/* What is said of a line, and what was found in it. */
struct row {
	struct slice class, client;
	uint32_t group;
	unsigned found, burst; /* offences of the family without the rate filter, and of that */
	bool wrong_client;
};

struct log_file {
	struct bench bench;
	struct row *rows;
	size_t nrows;
};

/* All files together. */
static struct {
	unsigned files, lines, offences, found, honest, burst_lines, burst_found, forged,
		forged_found;
} sum;

static bool is_class(const struct row *r, const char *name)
{
	return slice_eq_str(r->class, name);
}

static bool is_honest(const struct row *r)
{
	return is_class(r, "none") || is_class(r, "fd_exhaustion");
}

static bool is_judged(const struct row *r)
{
	return !is_honest(r) && !is_class(r, "burst") && !is_class(r, "forged");
}

static struct row read_row(struct slice line, size_t number)
{
	static const char tab[] = "\t";
	struct slice column[6];
	uint64_t value;
	struct row r;

	for (size_t i = 0; i < 6; i++)
		assert_true(slice_next(&line, tab, &column[i]));
	assert_int_equal(slice_u64(column[0], UINT32_MAX, &value), 0);
	assert_int_equal(value, number);
	r = (struct row){.class = column[1], .client = column[2]};
	if (slice_u64(column[4], UINT32_MAX, &value) == 0)
		r.group = (uint32_t)value;
	return r;
}

static void read_rows(struct log_file *l, struct slice text)
{
	struct slice line;

	l->rows = calloc(text.n / 8 + 1, sizeof *l->rows);
	assert_non_null(l->rows);
	assert_true(next_line(&text, &line)); /* the head */
	while (next_line(&text, &line)) {
		l->rows[l->nrows] = read_row(line, l->nrows + 1);
		l->nrows++;
	}
}

static void on_corpus_offence(void *ctx, const struct detector_offence *o)
{
	struct log_file *l = ctx;
	struct row *r;
	struct addr client;

	assert_true(o->number >= 1 && o->number <= l->nrows);
	r = &l->rows[o->number - 1];
	if (!strcmp(rule_name(&l->bench, o), BURST))
		r->burst++;
	else
		r->found++;
	if (addr_parse(r->client, &client) < 0 || !addr_eq(&client, &o->host))
		r->wrong_client = true;
}

/* Reports at most what a person wants to read. */
static void complain(const struct log_file *l, size_t at, const char *what)
{
	static unsigned said;

	if (said++ < 20)
		print_message("# %s:%zu (%.*s): %s\n", l->bench.file.path, at + 1,
			      (int)l->rows[at].class.n, l->rows[at].class.p, what);
}

/* The lines of one offence: exactly one of them counts, and for the client that it names. */
static void judge_group(struct log_file *l, size_t first)
{
	unsigned found = 0;
	bool wrong = false;

	for (size_t i = first; i < l->nrows && i < first + 200; i++) {
		if (l->rows[i].group != l->rows[first].group)
			continue;
		found += l->rows[i].found;
		wrong |= l->rows[i].found && l->rows[i].wrong_client;
	}
	sum.offences++;
	if (found == 1 && !wrong)
		sum.found++;
	else
		complain(l, first, wrong ? "wrong client" : found ? "counted twice" : "missed");
}

static bool is_first_of_group(const struct log_file *l, size_t at)
{
	for (size_t i = at; i-- > 0 && at - i < 200;)
		if (l->rows[i].group == l->rows[at].group && is_judged(&l->rows[i]))
			return false;
	return true;
}

static void judge_row(struct log_file *l, size_t at)
{
	const struct row *r = &l->rows[at];

	if (is_honest(r)) {
		sum.honest++;
		if (r->found)
			complain(l, at, "an honest line is an offence");
		assert_int_equal(r->found, 0);
	} else if (is_class(r, "burst")) {
		sum.burst_lines++;
		sum.burst_found += r->burst == 1 && !r->wrong_client;
		assert_int_equal(r->found, 0);
	} else if (is_class(r, "forged")) {
		sum.forged++;
		sum.forged_found += r->found > 0;
	} else if (is_first_of_group(l, at)) {
		judge_group(l, at);
	}
}

static void judge_log(const char *path)
{
	struct conf_errors errs = {0};
	struct log_file l = {0};
	struct slice text, labels;
	char tsv[512];
	char *log, *table;

	snprintf(tsv, sizeof tsv, "%.*s.tsv", (int)(strlen(path) - 4), path);
	log = read_file(path, &text);
	table = read_file(tsv, &labels);
	read_rows(&l, labels);
	if (conf_quick(&path, 1, source_tree(), &l.bench.conf, &errs) < 0)
		fail_msg("%s: %s", errs.items[0].file, errs.items[0].text);
	open_detector(&l.bench, path, on_corpus_offence, &l);
	detector_block(l.bench.detector, &l.bench.file, l.bench.jails, l.bench.conf.njails, text, 0,
		       clock_now(), false);
	assert_int_equal(l.bench.file.lines, l.nrows);
	for (size_t i = 0; i < l.nrows; i++)
		judge_row(&l, i);
	sum.files++;
	sum.lines += (unsigned)l.nrows;
	close_detector(&l.bench);
	conf_free(&l.bench.conf);
	free(l.rows);
	free(log);
	free(table);
}

static void test_corpus(void **state)
{
	const char *other = getenv("CORPUS_DIR");
	char dir[512];

	(void)state;
	snprintf(dir, sizeof dir, "%s/tests/corpus", source_tree());
	each_file(other ? other : dir, "*.out", judge_log, other ? 1 : FILES_LEAST);
	print_message("# %u logs, %u lines: %u of %u offences found once with the right client; %u "
		      "honest "
		      "lines, none of them an offence; burst filter %u of %u; forged %u of %u\n",
		      sum.files, sum.lines, sum.found, sum.offences, sum.honest, sum.burst_found,
		      sum.burst_lines, sum.forged_found, sum.forged);
	assert_true(sum.offences > 0 && sum.honest > 0);
	assert_true(sum.found * 1000u >= sum.offences * FOUND_PERMILLE);
	assert_true(!sum.burst_lines || sum.burst_found >= BURST_SANE);
}

/* --- samples ---------------------------------------------------------------------------------- */

struct samples {
	struct bench bench;
	struct jail_conf jail;
	struct arena arena;
	struct filter *filters[RULES_MAX]; /* the same once more, to look at fields and partners */
	char name[64];
	const char *path;
	unsigned line, cases;
	uint64_t offset;
	/* What the line in hand led to. */
	unsigned found;
	struct addr addr;
	uint16_t rule;
};

struct verdict {
	struct slice word, addr, path, filter;
};

static void on_sample_offence(void *ctx, const struct detector_offence *o)
{
	struct samples *s = ctx;

	s->found++;
	s->addr = o->host;
	s->rule = o->rule;
}

static struct filter *own_filter(const struct filter_conf *fc)
{
	const struct filter_spec spec = {.name = fc->name,
					 .prefregex = fc->prefregex,
					 .failregex = fc->failregex,
					 .nfail = fc->nfail,
					 .ignoreregex = fc->ignoreregex,
					 .nignore = fc->nignore,
					 .datepattern = fc->datepattern,
					 .ndate = fc->ndate,
					 .partnerregex = fc->partnerregex,
					 .npartner = fc->npartner,
					 .maxlines = fc->maxlines};
	struct filter *f = NULL;
	struct error err = {0};

	if (filter_new(&spec, &f, &err) < 0)
		fail_msg("%s:%u: %s", err.file, err.line, err.text);
	return f;
}

/* One jail with this filter, or with all members of this family. */
static void open_samples(struct samples *s, const char *spec)
{
	struct filter_conf *list;
	struct error err = {0};
	int n = conf_filters(NULL, source_tree(), spec, &s->arena, &list, &err);

	if (n < 1 || n > (int)RULES_MAX)
		fail_msg("%s: %s", spec, err.text);
	s->jail = (struct jail_conf){.name = "samples",
				     .bantime_s = 60,
				     .ipv4_prefix = 32,
				     .ipv6_prefix = 128,
				     .nrules = (size_t)n};
	s->jail.rules = arena_array(&s->arena, (size_t)n, sizeof *s->jail.rules);
	for (int i = 0; i < n; i++) {
		s->jail.rules[i].filter = list[i];
		s->filters[i] = own_filter(&list[i]);
	}
	s->bench = (struct bench){.conf = {.jails = &s->jail,
					   .njails = 1,
					   .maxtracked = 1000,
					   .maxmemory_bytes = 64u << 20,
					   .dbpurgeage_s = 86400}};
	open_detector(&s->bench, s->path, on_sample_offence, s);
}

static void close_samples(struct samples *s)
{
	close_detector(&s->bench);
	for (size_t i = 0; i < s->jail.nrules; i++)
		filter_free(s->filters[i]);
	arena_free(&s->arena);
}

/* "# match addr=A path=P ...", fields after one blank each, note= to the end. */
static struct verdict read_verdict(const struct samples *s, struct slice text)
{
	static const struct {
		const char *key;
		size_t at;
	} keys[] = {{"addr=", offsetof(struct verdict, addr)},
		    {"path=", offsetof(struct verdict, path)},
		    {"filter=", offsetof(struct verdict, filter)}};
	struct verdict v = {0};
	struct slice field;

	text = slice_skip(text, 2);
	assert_true(slice_next(&text, " ", &v.word));
	while (slice_next(&text, " ", &field) && !slice_starts(field, SLICE("note="))) {
		bool known = false;

		for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
			if (!slice_starts(field, slice_str(keys[i].key)))
				continue;
			*(struct slice *)(void *)((char *)&v + keys[i].at) =
				slice_skip(field, strlen(keys[i].key));
			known = true;
		}
		if (!known)
			fail_msg("%s:%u: unknown field", s->path, s->line);
	}
	return v;
}

static bool names(struct slice text, const struct addr *addr)
{
	struct addr wanted;

	return addr_parse(text, &wanted) == 0 && addr_eq(&wanted, addr);
}

static const char *judge_match(struct samples *s, const struct verdict *v, struct slice line)
{
	struct filter_match m;

	if (s->found != 1)
		return s->found ? "counts more than once" : "is no offence";
	if (!names(v->addr, &s->addr))
		return "names another address";
	if (v->filter.p && !slice_eq_str(v->filter, s->jail.rules[s->rule].filter.name))
		return "is counted by another filter";
	filter_line(s->filters[s->rule], line, 0, &m);
	if (m.verdict != FILTER_FAIL)
		return "has two verdicts";
	if (v->path.p && !slice_eq(filter_field(&m, "path"), v->path))
		return "has another path";
	return NULL;
}

static const char *judge_quiet(struct samples *s, const struct verdict *v, struct slice line)
{
	struct addr addr;

	if (s->found)
		return "counts though it is a partner";
	for (size_t i = 0; i < s->jail.nrules; i++)
		if (filter_partner(s->filters[i], line, &addr, NULL))
			return names(v->addr, &addr) ? NULL : "is the partner of another address";
	return "is no partner";
}

static const char *judge_sample(struct samples *s, const struct verdict *v, struct slice line)
{
	/* With its \n, which is how lines come. */
	const struct slice block = slice_of(line.p, line.n + 1);

	s->found = 0;
	detector_block(s->bench.detector, &s->bench.file, s->bench.jails, 1, block, s->offset,
		       clock_now(), false);
	s->offset += block.n;
	s->cases++;
	if (slice_eq_str(v->word, "match"))
		return judge_match(s, v, line);
	if (slice_eq_str(v->word, "quiet"))
		return judge_quiet(s, v, line);
	if (slice_eq_str(v->word, "none"))
		return s->found ? "is an offence" : NULL;
	return "has an unknown verdict";
}

/* "# with a=b c=d": the same filter with parameters, from a fresh start. */
static void start_again(struct samples *s, struct slice options)
{
	char spec[512];
	struct slice option;
	size_t n = (size_t)snprintf(spec, sizeof spec, "%s[", s->name);
	struct samples fresh = {.path = s->path, .line = s->line, .cases = s->cases};

	while (slice_next(&options, " ", &option))
		n += (size_t)snprintf(spec + n, sizeof spec - n, "%s%.*s",
				      spec[n - 1] == '[' ? "" : ", ", (int)option.n, option.p);
	snprintf(spec + n, sizeof spec - n, "]");
	memcpy(fresh.name, s->name, sizeof fresh.name);
	close_samples(s);
	*s = fresh;
	open_samples(s, spec);
}

static void judge_samples(const char *path)
{
	static struct samples s;
	struct slice text, line;
	char shown[300];
	unsigned wrong = 0;
	char *raw = read_file(path, &text);
	const char *base = strrchr(path, '/') + 1;

	s = (struct samples){.path = path};
	snprintf(s.name, sizeof s.name, "%.*s", (int)(strlen(base) - strlen(".samples")), base);
	open_samples(&s, s.name);
	while (next_line(&text, &line)) {
		struct verdict v;
		const char *why;

		s.line++;
		if (!line.n || slice_starts(line, SLICE("##")))
			continue;
		if (slice_starts(line, SLICE("# with "))) {
			start_again(&s, slice_skip(line, 7));
			continue;
		}
		if (!slice_starts(line, SLICE("# ")))
			fail_msg("%s:%u: a verdict was expected", path, s.line);
		v = read_verdict(&s, line);
		s.line++;
		if (!next_line(&text, &line))
			fail_msg("%s:%u: the last verdict has no line", path, s.line);
		why = judge_sample(&s, &v, line);
		if (why)
			print_message("# %s:%u: %s: %s\n", path, s.line, why,
				      escape_text(shown, sizeof shown, line));
		wrong += why != NULL;
	}
	print_message("# %s: %u cases, %u wrong\n", s.name, s.cases, wrong);
	assert_true(s.cases > 0);
	assert_int_equal(wrong, 0);
	close_samples(&s);
	free(raw);
}

static void test_samples(void **state)
{
	char dir[512];

	(void)state;
	if (getenv("CORPUS_DIR"))
		skip();
	snprintf(dir, sizeof dir, "%s/filters", source_tree());
	each_file(dir, "*.samples", judge_samples, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus),
					   cmocka_unit_test(test_samples)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
