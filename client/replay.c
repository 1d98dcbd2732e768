/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban replay: old logs through the real detector, in the logs' own time.
 *
 * Nothing reaches the kernel and no daemon is asked. The lines of several logs are put in order by
 * their dates (a line without one goes with the line before it); the date of a line is the clock,
 * by which bans end. Since clients can write dates into a log, one that is more than a day ahead is
 * the clock only when the next line agrees. A log that cannot be read ends the command with status
 * 2, a line that cannot be used is left, as the engine does.
 */
#include "client/events.h"
#include "client/logreader.h"
#include "client/options.h"
#include "client/text.h"
#include "daemon/base/hostaddr.h"
#include "daemon/config/times.h"
#include "daemon/engine/detector.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct options {
	const char *dir, *since, *now, *tz;
	int64_t now_s, since_s; /* since_s: of a line; INT64_MIN = all */
};

/* A log and the line of it that comes next. */
struct log {
	struct logreader reader;
	struct detector_file file;
	struct slice line;
	uint64_t offset;
	int64_t time_s;
	bool has_line, dated;
};

struct replay {
	struct options o;
	struct conf conf;
	struct detector_memory memory;
	struct detector *detector;
	struct bans *bans;
	struct ignore *ignore;
	struct events events;
	uint16_t *jails;
	size_t njails;
	struct log *logs;
	size_t nlogs;
	int64_t clock_s, last_s; /* last_s: the date of the line before, believed or not */
	bool started;
};

/* --- hooks of the detector -------------------------------------------------------------------- */

static void on_offence(void *ctx, const struct detector_offence *o)
{
	struct replay *p = ctx;

	events_offence(&p->events, o);
}

static void on_refused(void *ctx, const struct detector_offence *o, const struct ignore_hit *why)
{
	struct replay *p = ctx;

	events_refused(&p->events, o, why);
}

static void on_ban(void *ctx, const struct detector_offence *o, int64_t duration_s, unsigned before)
{
	struct replay *p = ctx;
	struct ban b = {.addr = o->prefix,
			.jail = o->jail,
			.source = BAN_LOG,
			.since_wall_s = o->time_s,
			.until_wall_s = CLOCK_FOREVER,
			.end_mono_ns = CLOCK_FOREVER,
			.count = before,
			.rule = o->rule,
			.offences = o->count};

	if (duration_s != CLOCK_FOREVER) {
		b.until_wall_s = o->time_s + duration_s;
		if (b.until_wall_s < INT64_MAX / CLOCK_SECOND_NS)
			b.end_mono_ns = b.until_wall_s * CLOCK_SECOND_NS;
	}
	detector_banned(p->detector, o->jail, &o->prefix, o->time_s, b.until_wall_s);
	if (bans_add(p->bans, &b, NULL) != BANS_FULL)
		events_ban(&p->events, o, duration_s, before);
}

static void on_notice(void *ctx, const struct detector_file *file, const char *text)
{
	(void)ctx;
	client_complain("%s: %s", file->path, text);
}

static const struct detector_hooks hooks = {
	.offence = on_offence, .ban = on_ban, .refused = on_refused, .notice = on_notice};

static void on_end(void *ctx, const struct ban *b)
{
	struct replay *p = ctx;

	events_unban(&p->events, b);
}

/* --- set-up ----------------------------------------------------------------------------------- */

static int print_errors(const struct conf_errors *errs)
{
	char text[1200];

	for (size_t i = 0; i < errs->count; i++)
		client_complain("%s", error_format(&errs->items[i], text, sizeof text));
	if (errs->unsaid)
		client_complain("... and %zu more", errs->unsaid);
	return CLIENT_USAGE;
}

static int load(struct replay *p, char **paths, int npaths)
{
	struct conf_errors errs = {0};
	int r;

	if (p->o.dir)
		r = conf_load(p->o.dir, conf_datadir(), &p->conf, &errs);
	else
		r = conf_quick((const char *const *)paths, (size_t)npaths, conf_datadir(), &p->conf,
			       &errs);
	r = r < 0 ? print_errors(&errs) : CLIENT_YES;
	conf_errors_free(&errs);
	p->jails = calloc(p->conf.njails + 1, sizeof p->jails[0]);
	for (size_t i = 0; p->jails && i < p->conf.njails; i++)
		if (p->conf.jails[i].backend != BACKEND_SOCKETS)
			p->jails[p->njails++] = (uint16_t)i;
	if (r == CLIENT_YES && !p->njails) {
		client_complain("no jail with a filter is enabled in '%s'", p->o.dir);
		r = CLIENT_USAGE;
	}
	return r;
}

static int copy_list(struct ignore *ignore, enum ignore_reason reason, uint32_t jail,
		     const struct netlist *from)
{
	/* Copied by ignore_replace, which only reads it when it is sealed. */
	return from->count ? ignore_replace(ignore, reason, jail, from) : 0;
}

/* Who can never be banned: this host, its gateways, and what the configuration says. */
static int fill_ignore(struct replay *p)
{
	struct netlist own = {0}, gateways = {0};
	int r = hostaddr_read(&own, &gateways);

	if (r < 0)
		client_complain("this host's own addresses are not known: %s", error_name(r));
	r = copy_list(p->ignore, IGNORE_OWN, IGNORE_ALL_JAILS, &own);
	if (r == 0)
		r = copy_list(p->ignore, IGNORE_GATEWAY, IGNORE_ALL_JAILS, &gateways);
	for (size_t i = 0; r == 0 && i < p->conf.njails; i++) {
		r = copy_list(p->ignore, IGNORE_IP, (uint32_t)i, &p->conf.jails[i].ignoreip);
		if (r == 0)
			r = copy_list(p->ignore, IGNORE_PROXY, (uint32_t)i,
				      &p->conf.jails[i].trusted_proxy);
	}
	netlist_free(&own);
	netlist_free(&gateways);
	return r;
}

/* Zeroed pages, which are there when they are touched. */
static void *map(size_t bytes)
{
	void *region =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return region == MAP_FAILED ? NULL : region;
}

static void unmap(void *region, size_t bytes)
{
	if (region)
		munmap(region, bytes);
}

static int set_up(struct replay *p)
{
	struct detector_memory *m = &p->memory;
	struct error err = {0};
	char text[1200];

	detector_sizes(&p->conf, &m->ledger_bytes, &m->growth_bytes);
	m->ledger = map(m->ledger_bytes);
	m->growth = map(m->growth_bytes);
	m->seed = hash_seed_new();
	p->bans = bans_new(p->conf.maxbans);
	p->ignore = ignore_new();
	if (!m->ledger || !m->growth || !p->bans || !p->ignore || fill_ignore(p) < 0 ||
	    events_init(&p->events, &p->conf) < 0) {
		client_complain("out of memory");
		return CLIENT_USAGE;
	}
	if (detector_new(&p->conf, m, p->bans, p->ignore, &hooks, p, &p->detector, &err) < 0) {
		client_complain("%s", error_format(&err, text, sizeof text));
		return CLIENT_USAGE;
	}
	return CLIENT_YES;
}

static void tear_down(struct replay *p)
{
	for (size_t i = 0; i < p->nlogs; i++)
		logreader_close(&p->logs[i].reader);
	free(p->logs);
	detector_free(p->detector);
	events_fini(&p->events);
	bans_free(p->bans);
	ignore_free(p->ignore);
	unmap(p->memory.ledger, p->memory.ledger_bytes);
	unmap(p->memory.growth, p->memory.growth_bytes);
	free(p->jails);
	conf_free(&p->conf);
}

/* --- lines ------------------------------------------------------------------------------------ */

static bool date_of(void *ctx, struct slice line, int64_t *ret_s)
{
	struct replay *p = ctx;

	return detector_date(p->detector, p->jails, p->njails, line, p->o.now_s, ret_s);
}

/* The line that comes next in a log, with its time. 0 at the end, negative when reading failed. */
static int next_line(struct replay *p, struct log *log)
{
	int64_t time_s;
	int r;

	do {
		r = logreader_next(&log->reader, &log->line, &log->offset);
		log->has_line = r > 0;
		if (r <= 0)
			break;
		if (date_of(p, slice_head(log->line, log->line.n - 1), &time_s)) {
			log->time_s = time_s;
			log->dated = true;
		} else if (!log->dated && p->o.since_s != INT64_MIN) {
			log->time_s = p->o.since_s - 1;
		}
	} while (log->time_s < p->o.since_s);
	if (r < 0)
		client_complain("cannot read '%s': %s", log->file.path, error_name(r));
	return r;
}

/* Lines before the first one with a date belong to that; without any it is now. */
static int64_t first_date(struct replay *p, const struct log *log)
{
	struct slice rest = logreader_ahead(&log->reader), line;
	int64_t time_s;

	while (slice_next(&rest, "\n", &line))
		if (date_of(p, line, &time_s))
			return time_s;
	return p->o.now_s;
}

static int open_log(struct replay *p, struct log *log, const char *path)
{
	bool is_stdin = !strcmp(path, "-");
	int r = logreader_open(&log->reader, is_stdin ? NULL : path);

	if (r < 0) {
		client_complain("cannot read '%s': %s", path, error_name(r));
		return r;
	}
	if (logreader_is_compressed(&log->reader)) {
		client_complain("'%s' is compressed: zcat it and replay -", path);
		return -EINVAL;
	}
	log->file.path = is_stdin ? "stdin" : path;
	if (p->o.since_s != INT64_MIN) {
		r = logreader_seek_date(&log->reader, p->o.since_s, date_of, p);
		if (r < 0)
			client_complain("cannot read '%s': %s", path, error_name(r));
	}
	log->time_s = first_date(p, log);
	return r < 0 ? r : next_line(p, log);
}

static int open_logs(struct replay *p, char **paths, int n)
{
	p->logs = calloc((size_t)n, sizeof p->logs[0]);
	if (!p->logs) {
		client_complain("out of memory");
		return -ENOMEM;
	}
	for (int i = 0; i < n; i++) {
		int r = open_log(p, &p->logs[p->nlogs++], paths[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static struct log *earliest(struct replay *p)
{
	struct log *first = NULL;

	for (size_t i = 0; i < p->nlogs; i++)
		if (p->logs[i].has_line && (!first || p->logs[i].time_s < first->time_s))
			first = &p->logs[i];
	return first;
}

#define BELIEVED_S 86400 /* a date further ahead needs another line that agrees */
#define CLOCK_MAX_S (INT64_MAX / CLOCK_SECOND_NS)

static int64_t believe(const struct replay *p, int64_t time_s)
{
	int64_t agreed_s = time_s < p->last_s ? time_s : p->last_s;

	if (!p->started || time_s <= p->clock_s || time_s - p->clock_s <= BELIEVED_S)
		return time_s;
	return agreed_s > p->clock_s ? agreed_s : p->clock_s;
}

static void one_line(struct replay *p, struct log *log)
{
	int64_t time_s = log->time_s < CLOCK_MAX_S ? log->time_s : CLOCK_MAX_S;
	struct now now = {.wall_ns = time_s * CLOCK_SECOND_NS};

	p->clock_s = believe(p, time_s);
	p->last_s = time_s;
	p->started = true;
	now.mono_ns = p->clock_s * CLOCK_SECOND_NS;
	events_at(&p->events, &log->file, p->clock_s);
	bans_expire(p->bans, now.mono_ns, UINT32_MAX, on_end, p);
	detector_block(p->detector, &log->file, p->jails, p->njails, log->line, log->offset, now,
		       false);
}

static int run(struct replay *p)
{
	struct log *log;
	int r = 0;

	while (r >= 0 && (log = earliest(p))) {
		one_line(p, log);
		r = next_line(p, log);
	}
	return r;
}

/* --- the command ------------------------------------------------------------------------------ */

/* "CET-1CEST", "<+03>-3": a name and an offset. */
static bool is_posix_zone(const char *tz)
{
	size_t n = tz[0] == '<' ? strcspn(tz, ">") + 1 : strcspn(tz, "+-0123456789/");

	if (n < 3 || n >= strlen(tz))
		return false;
	tz += n;
	tz += *tz == '+' || *tz == '-';
	return *tz >= '0' && *tz <= '9';
}

/* Anything else would silently be UTC. */
static bool zone_exists(const char *tz)
{
	char path[512];

	if (is_posix_zone(tz))
		return true;
	if (!tz[0] || tz[0] == '/' || tz[0] == '.' || strstr(tz, ".."))
		return false;
	snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", tz);
	return access(path, R_OK) == 0;
}

static int parse(struct client *c, struct options *o)
{
	uint64_t now_s = 0;
	int64_t back_s = 0;

	if (o->tz && !zone_exists(o->tz))
		return client_usage(c, "--tz: there is no time zone '%s'", o->tz);
	if (o->tz && setenv("TZ", o->tz, 1) < 0)
		return client_usage(c, "--tz: '%s' cannot be used", o->tz);
	if (o->now && slice_u64(slice_str(o->now), INT64_C(9000000000), &now_s) < 0)
		return client_usage(c, "--now takes seconds since 1970, not '%s'", o->now);
	o->now_s = o->now ? (int64_t)now_s : clock_wall_s(clock_now());
	o->since_s = INT64_MIN;
	if (o->since && (times_parse(slice_str(o->since), &back_s) < 0 || back_s <= 0))
		return client_usage(c, "--since takes a time such as 10m or 2h, not '%s'",
				    o->since);
	if (o->since)
		o->since_s = o->now_s - back_s;
	return CLIENT_YES;
}

int replay_command(struct client *c, int argc, char **argv)
{
	struct replay p = {0};
	const struct option own[] = {{"config", 'c', &p.o.dir, NULL},
				     {"since", 0, &p.o.since, NULL},
				     {"now", 0, &p.o.now, NULL},
				     {"tz", 0, &p.o.tz, NULL},
				     {NULL, 0, NULL, NULL}};
	int n = options_parse(c, argc, argv, own, false), r;

	if (n < 0)
		return options_status(c);
	if (!n)
		return client_usage(c, "which log?");
	r = parse(c, &p.o);
	if (r != CLIENT_YES)
		return r;
	text_set_up(c);
	p.events.json = c->json;
	p.events.by_offset = p.o.since != NULL;
	p.events.many_files = n > 1;
	r = load(&p, argv + 1, n);
	if (r == CLIENT_YES)
		r = set_up(&p);
	if (r == CLIENT_YES && (open_logs(&p, argv + 1, n) < 0 || run(&p) < 0))
		r = CLIENT_USAGE;
	if (r == CLIENT_YES) {
		events_summary(&p.events);
		r = p.events.nbans ? CLIENT_YES : CLIENT_NO;
	}
	tear_down(&p);
	return r;
}
