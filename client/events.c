/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What replay tells: see events.h. Nothing fails but events_init. */
#include "client/events.h"
#include "client/text.h"
#include "daemon/base/escape.h"
#include "daemon/config/times.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define SEEN_MAX (1u << 20)

struct event {
	const char *name;
	int64_t time_s, duration_s; /* CLOCK_FOREVER */
	const struct addr *addr;
	uint16_t jail;
	uint64_t line, offset;
	const char *file, *reason;
};

int events_init(struct events *e, const struct conf *conf)
{
	e->conf = conf;
	e->first_s = INT64_MAX;
	e->last_s = INT64_MIN;
	e->seen = bans_new(SEEN_MAX);
	return e->seen ? 0 : -ENOMEM;
}

void events_fini(struct events *e)
{
	bans_free(e->seen);
	e->seen = NULL;
}

static json_t *utf8(const char *s)
{
	char text[1024];
	size_t n;

	escape_utf8(text, sizeof text, slice_str(s), &n);
	return json_stringn(text, n);
}

static void print_json(const struct event *v, const char *jail)
{
	struct addr host = *v->addr;
	char addr[ADDR_STRLEN];
	json_t *duration =
		       v->duration_s == CLOCK_FOREVER ? json_null() : json_integer(v->duration_s),
	       *o;

	host.plen = (uint8_t)addr_bits(&host);
	o = json_pack("{s:s, s:I, s:s, s:i, s:s, s:o, s:I, s:o, s:I, s:o}", "event", v->name,
		      "time", (json_int_t)v->time_s, "addr", addr_format(&host, addr), "prefix",
		      (int)v->addr->plen, "jail", jail, "duration", duration, "line",
		      (json_int_t)v->line, "file", utf8(v->file), "offset", (json_int_t)v->offset,
		      "reason", utf8(v->reason));
	json_dumpf(o, stdout, JSON_ENSURE_ASCII | JSON_COMPACT);
	putchar('\n');
	json_decref(o);
}

static struct event of_offence(const struct detector_offence *o, const char *name,
			       const char *reason)
{
	return (struct event){.name = name,
			      .time_s = o->time_s,
			      .addr = &o->prefix,
			      .jail = o->jail,
			      .line = o->file->lines,
			      .offset = o->offset,
			      .file = o->file->path,
			      .reason = reason};
}

static const char *jail_name(const struct events *e, uint16_t jail)
{
	return e->conf->jails[jail].name;
}

static const struct rule_conf *rule_of(const struct events *e, uint16_t jail, uint32_t rule)
{
	return &e->conf->jails[jail].rules[rule];
}

/* "werkzeug-probe: 2 different paths in 10m" */
static const char *ban_reason(const struct rule_conf *rule, unsigned offences, char *buf,
			      size_t size)
{
	char window[TIMES_STRLEN];

	snprintf(buf, size, "%s: %u %s%s%s in %s", rule->filter.name, offences,
		 rule->distinct ? "different " : "", rule->distinct ? rule->distinct : "offence",
		 offences == 1 ? "" : "s", times_format(rule->findtime_s, window, sizeof window));
	return buf;
}

void events_at(struct events *e, const struct detector_file *file, int64_t time_s)
{
	e->file = file;
	e->lines++;
	if (time_s < e->first_s)
		e->first_s = time_s;
	if (time_s > e->last_s)
		e->last_s = time_s;
}

void events_offence(struct events *e, const struct detector_offence *o)
{
	const struct rule_conf *rule = rule_of(e, o->jail, o->rule);
	struct event v;
	char reason[200];

	e->offences++;
	if (!e->json)
		return;
	snprintf(reason, sizeof reason, "%s: %u of %u", rule->filter.name, o->count,
		 rule->maxretry);
	v = of_offence(o, "offence", reason);
	print_json(&v, jail_name(e, o->jail));
}

static void remember_ignored(struct events *e, const struct detector_offence *o,
			     const struct ignore_hit *why)
{
	size_t i = 0;

	while (i < e->nignored && !addr_eq(&e->ignored[i].addr, &o->host))
		i++;
	if (i == EVENTS_IGNORED_MAX) {
		e->more_ignored++;
		return;
	}
	if (i == e->nignored) {
		e->nignored++;
		e->ignored[i].addr = o->host;
		e->ignored[i].why = *why;
	}
	e->ignored[i].count++;
}

void events_refused(struct events *e, const struct detector_offence *o,
		    const struct ignore_hit *why)
{
	char reason[IGNORE_TEXT_BYTES];
	struct event v;

	e->nrefused++;
	remember_ignored(e, o, why);
	if (!e->json)
		return;
	v = of_offence(o, "refused", ignore_format(why, 0, reason));
	print_json(&v, jail_name(e, o->jail));
}

static void print_ban(const struct events *e, const struct detector_offence *o, const char *reason,
		      int64_t duration_s, unsigned before)
{
	char when[TEXT_TIME_BYTES], addr[ADDR_STRLEN], lasts[TIMES_STRLEN] = "ever", file[300];

	if (duration_s != CLOCK_FOREVER)
		times_format(duration_s, lasts, sizeof lasts);
	printf("%s  %-18s for %-10s %s", text_time(o->time_s, when), addr_format(&o->prefix, addr),
	       lasts, reason);
	if (strcmp(jail_name(e, o->jail), rule_of(e, o->jail, o->rule)->filter.name) != 0)
		printf(", jail %s", jail_name(e, o->jail));
	if (before)
		printf(", banned %u time%s before", before, before == 1 ? "" : "s");
	printf(", %s %" PRIu64, e->by_offset ? "byte" : "line",
	       e->by_offset ? o->offset : o->file->lines);
	if (e->many_files)
		printf(" of %s", escape_text(file, sizeof file, slice_str(o->file->path)));
	putchar('\n');
}

void events_ban(struct events *e, const struct detector_offence *o, int64_t duration_s,
		unsigned before)
{
	const struct ban seen = {
		.addr = o->prefix, .until_wall_s = CLOCK_FOREVER, .end_mono_ns = CLOCK_FOREVER};
	char reason[200];
	struct event v;

	ban_reason(rule_of(e, o->jail, o->rule), o->count, reason, sizeof reason);
	bans_add(e->seen, &seen, NULL);
	e->nbans++;
	if (!e->json) {
		print_ban(e, o, reason, duration_s, before);
		return;
	}
	v = of_offence(o, "ban", reason);
	v.duration_s = duration_s;
	print_json(&v, jail_name(e, o->jail));
}

void events_unban(struct events *e, const struct ban *b)
{
	struct event v = {.name = "unban",
			  .time_s = b->until_wall_s,
			  .duration_s = b->until_wall_s - b->since_wall_s,
			  .addr = &b->addr,
			  .line = e->file->lines + 1,
			  .file = e->file->path,
			  .reason = "time is over"};

	e->unbans++;
	if (e->json)
		print_json(&v, jail_name(e, b->jail));
}

static void print_ignored(const struct events *e)
{
	char text[IGNORE_TEXT_BYTES];

	for (size_t i = 0; i < e->nignored; i++) {
		if (i == 0)
			puts("Never banned, whatever they do:");
		printf("  %s (offences: %" PRIu64 ")\n", ignore_format(&e->ignored[i].why, 0, text),
		       e->ignored[i].count);
	}
	if (e->more_ignored)
		printf("  and others (offences: %" PRIu64 ")\n", e->more_ignored);
}

void events_summary(const struct events *e)
{
	char from[TEXT_TIME_BYTES], to[TEXT_TIME_BYTES];

	if (e->json)
		return;
	if (!e->lines) {
		puts(e->by_offset ? "no line is as young as that" : "no line to look at");
		return;
	}
	if (e->nbans)
		putchar('\n');
	printf("From %s to %s: lines %" PRIu64 ", offences %" PRIu64 "\n",
	       text_time(e->first_s, from), text_time(e->last_s, to), e->lines, e->offences);
	if (e->nbans)
		printf("Would have been banned: addresses %u, bans %" PRIu64
		       ", still in force at the end %" PRIu64 "\n",
		       bans_count(e->seen), e->nbans, e->nbans - e->unbans);
	else
		puts("Nobody would have been banned.");
	print_ignored(e);
}
