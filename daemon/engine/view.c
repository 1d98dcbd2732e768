/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What clients read of the engine: `status`, `status JAIL`, names, and fresh drop counters.
 *
 * Nothing here changes anything but the counters of bans. JSON that cannot be made (no memory) is
 * null.
 */
#include "daemon/base/log.h"
#include "daemon/config/times.h"
#include "daemon/engine/state.h"
#include "daemon/filter/pattern.h"
#include "daemon/sockets/owner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"

#define NOT_HERE "not in this version"

/* --- names ------------------------------------------------------------------------------------ */

static const char *jail_name(void *ctx, uint16_t jail)
{
	return banlist_jail_name(ctx, jail);
}

static int jail_find(void *ctx, const char *name)
{
	const struct engine *e = ctx;

	for (size_t i = 0; i < e->conf->njails; i++)
		if (!strcmp(e->conf->jails[i].name, name))
			return (int)i;
	return -ENOENT;
}

static const char *ban_reason(void *ctx, const struct ban *b, char *buf, size_t size)
{
	return banlist_reason(ctx, b, buf, size);
}

static const char *rule_name(void *ctx, uint16_t jail, uint32_t rule)
{
	const struct engine *e = ctx;

	if (jail >= e->conf->njails || rule >= e->conf->jails[jail].nrules)
		return "";
	return e->conf->jails[jail].rules[rule].filter.name;
}

static const char *file_name(void *ctx, uint32_t file)
{
	const struct engine *e = ctx;

	return file < e->npaths ? e->paths[file] : "";
}

/* --- status ----------------------------------------------------------------------------------- */

static json_t *text(const char *s)
{
	return control_text(s, strlen(s));
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *source_json(const struct source_status *st)
{
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "path", text(st->path), "position",
			      number(st->position), "size", number(st->size), "lag_bytes",
			      number(st->lag_bytes), "lines", number(st->lines), "rotated",
			      (int)st->nameless);

	json_object_set_new(o, "state", st->err ? text(error_name(st->err)) : json_string("open"));
	return o;
}

static json_t *sources_json(const struct engine *e)
{
	json_t *list = json_array();

	for (size_t i = 0; i < e->nsources; i++) {
		struct source_status st;
		size_t at = 0;

		while (e->sources[i].conf->nreaders && source_next(e->sources[i].source, &at, &st))
			json_array_append_new(list, source_json(&st));
	}
	return list;
}

/* Descriptors in use: the size of /proc/PID/fd since Linux 6.2, 0 before; anybody may stat it. */
static json_t *descriptors_json(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	if (pid <= 0 || stat(path, &st) < 0 || !st.st_size)
		return json_null();
	return number((uint64_t)st.st_size);
}

/* The soft limit of open files, from /proc/PID/limits. */
static json_t *limit_json(pid_t pid)
{
	char path[64], line[256];
	unsigned long long soft;
	json_t *found = NULL;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/limits", pid);
	f = pid > 0 ? fopen(path, "re") : NULL;
	while (f && !found && fgets(line, sizeof line, f))
		if (sscanf(line, "Max open files %llu", &soft) == 1)
			found = number(soft);
	if (f)
		fclose(f);
	return found ? found : json_null();
}

/* The inode of another network namespace, as lsns(8) shows it; null: this one. */
static json_t *netns_json(uint64_t netns)
{
	return netns ? number(netns) : json_null();
}

static void add_services(json_t *list, const struct engine_source *s)
{
	const struct protocol_service *v = &s->service;

	if (!v->nports && v->text[0])
		json_array_append_new(list, json_pack("{s:n, s:n, s:n, s:n, s:o, s:s, s:o}", "port",
						      "pid", "descriptors", "limit", "netns",
						      netns_json(v->netns), "log", s->conf->name,
						      "text", text(v->text)));
	for (uint32_t p = 0; p < v->nports && p < PROTOCOL_PORTS_MAX; p++)
		json_array_append_new(list,
				      json_pack("{s:i, s:i, s:o, s:o, s:o, s:s, s:o}", "port",
						(int)v->ports[p], "pid", (int)v->pid, "descriptors",
						descriptors_json(v->pid), "limit",
						limit_json(v->pid), "netns", netns_json(v->netns),
						"log", s->conf->name, "text", text(v->text)));
}

static bool has_port(json_t *list, uint16_t port, uint64_t netns)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
		if (json_integer_value(json_object_get(item, "port")) == port &&
		    (uint64_t)json_integer_value(json_object_get(item, "netns")) == netns)
			return true;
	return false;
}

/* Ports that a sockets jail names by itself. */
static void add_watched(json_t *list, const struct protocol_census *c)
{
	const struct census_report *r = &c->report;

	for (uint16_t p = 0; p < c->nports; p++) {
		if (has_port(list, c->ports[p], c->netns))
			continue;
		json_array_append_new(
			list,
			json_pack("{s:i, s:o, s:o, s:o, s:o, s:n, s:o}", "port", (int)c->ports[p],
				  "pid", r->pid ? json_integer(r->pid) : json_null(), "descriptors",
				  r->pid ? number(r->fds) : json_null(), "limit",
				  r->pid ? number(r->soft) : json_null(), "netns",
				  netns_json(c->netns), "log", "text",
				  text(r->pid ? r->comm : "nobody listens there")));
	}
}

static json_t *services_json(const struct engine *e)
{
	json_t *list = json_array();

	for (size_t i = 0; i < e->nsources; i++)
		add_services(list, &e->sources[i]);
	for (uint32_t i = 0; i < e->ncensuses; i++)
		add_watched(list, &e->censuses[i]);
	return list;
}

static json_t *classes_json(const struct census_report *r)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < HELD_CLASSES; i++)
		json_object_set_new(o, held_class_name((enum held_class)i), number(r->classes[i]));
	return o;
}

static json_t *ports_json(const struct protocol_census *c)
{
	json_t *list = json_array();

	for (uint16_t p = 0; p < c->nports; p++)
		json_array_append_new(list, json_integer(c->ports[p]));
	return list;
}

/* More handshakes under way than half of the room for accepted ones: a flood of SYNs. */
static bool is_flooded(const struct census_report *r)
{
	return r->backlog && 2 * r->classes[HELD_HALF_OPEN] > r->backlog;
}

static json_t *census_json(const struct engine *e, const struct protocol_census *c)
{
	const struct census_report *r = &c->report;
	json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "jail",
			      e->conf->jails[c->jail].name, "ports", ports_json(c), "pid",
			      r->pid ? json_integer(r->pid) : json_null(), "process", text(r->comm),
			      "processes", number(r->processes), "descriptors", number(r->fds),
			      "limit", number(r->soft), "hard_limit", number(r->hard));

	json_object_set_new(o, "netns", netns_json(c->netns));
	json_object_set_new(o, "used_percent", number(r->fill_permille / 10));
	json_object_set_new(o, "short_limits", json_boolean(r->alarm));
	json_object_set_new(o, "starved", json_boolean(r->starved));
	json_object_set_new(o, "silent_ms", number(r->silent_ms));
	json_object_set_new(o, "unanswered_ms", number(r->unanswered_ms));
	json_object_set_new(o, "stalled_ms", number(r->stalled_ms));
	json_object_set_new(o, "sockets", number(r->sockets));
	json_object_set_new(o, "connections", classes_json(r));
	json_object_set_new(o, "prefixes", number(r->prefixes));
	json_object_set_new(o, "unaccepted", number(r->unaccepted));
	json_object_set_new(o, "queue", number(r->queue));
	json_object_set_new(o, "backlog", number(r->backlog));
	json_object_set_new(o, "half_open_flood", json_boolean(is_flooded(r)));
	json_object_set_new(o, "syncookies_sent", number(r->syncookies));
	json_object_set_new(o, "listen_overflows", number(r->overflows));
	json_object_set_new(o, "censuses", number(c->censuses));
	json_object_set_new(o, "cost_us", number(r->cost_us));
	json_object_set_new(o, "cut", number(c->cuts));
	json_object_set_new(o, "polls", json_boolean(c->polls != 0));
	json_object_set_new(o, "error", r->error ? text(error_name(r->error)) : json_null());
	return o;
}

static json_t *censuses_json(const struct engine *e, uint16_t jail)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < e->ncensuses; i++)
		if (jail == BANS_ANY_JAIL || jail == e->censuses[i].jail)
			json_array_append_new(list, census_json(e, &e->censuses[i]));
	return list;
}

static json_t *health_json(const struct engine *e)
{
	const struct protocol_health *h = &e->health;

	return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "firewall",
			 text(h->firewall), "kill", text(h->kill), "store",
			 "none: evidence and history live in memory; after a restart the last "
			 "findtime of each log is read again",
			 "fleet", NOT_HERE, "witness", text(h->witness), "privileges",
			 text(h->privileges[0] ? h->privileges : "ok"), "retries",
			 number(h->retries), "set_full", number(h->set_full), "engine_crashes",
			 number(h->engine_crashes), "repairs", number(e->repaired.times),
			 "repaired_after", text(e->repaired.comm));
}

/* Resident memory of this process in bytes. */
static uint64_t resident_bytes(void)
{
	unsigned long long pages = 0, ignored;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f) {
		if (fscanf(f, "%llu %llu", &ignored, &pages) != 2)
			pages = 0;
		fclose(f);
	}
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static json_t *memory_json(struct engine *e)
{
	const struct ledger_stats *l = detector_ledger_stats(e->detector);

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "resident_bytes",
			 number(resident_bytes()), "tracked", number(l->tracked), "evicted",
			 number(l->evicted), "ledger_bytes", number(l->bytes), "bans_kept_out",
			 number(bans_kept_out(e->bans)), "evidence",
			 number(evidence_count(e->evidence)), "evidence_overwritten",
			 number(evidence_overwritten(e->evidence)));
}

static int64_t lag_ms(const struct engine *e, struct now now)
{
	int64_t longest_ns = 0;

	for (size_t i = 0; i < e->nsources; i++) {
		const struct engine_source *s = &e->sources[i];

		if (s->busy_since_ns && source_busy(s->source) &&
		    now.mono_ns - s->busy_since_ns > longest_ns)
			longest_ns = now.mono_ns - s->busy_since_ns;
	}
	return longest_ns / CLOCK_MSEC_NS;
}

static json_t *jails_json(const struct engine *e)
{
	json_t *list = json_array();

	for (size_t i = 0; i < e->conf->njails; i++)
		json_array_append_new(list, json_string(e->conf->jails[i].name));
	return list;
}

static json_t *status(void *ctx, struct now now)
{
	struct engine *e = ctx;
	const struct resume_counters *c = &e->resume.head->counters;
	json_t *o = json_object();

	json_object_set_new(o, "version", json_string(PACKAGE_VERSION));
	json_object_set_new(o, "ready", json_boolean(e->ready));
	json_object_set_new(
		o, "uptime",
		number((uint64_t)(now.mono_ns - e->start.started_mono_ns) / 1000000000u));
	json_object_set_new(o, "jit", json_boolean(pattern_jit()));
	json_object_set_new(o, "dry_run", json_boolean(e->start.dry_run));
	json_object_set_new(o, "lines_read", number(c->lines_read));
	json_object_set_new(o, "bytes_read", number(c->bytes_read));
	json_object_set_new(o, "guilty_lines", number(c->poison_lines));
	json_object_set_new(o, "lag_ms", number((uint64_t)lag_ms(e, now)));
	json_object_set_new(o, "bans", number(bans_count(e->bans)));
	json_object_set_new(o, "bans_total", number(c->bans));
	json_object_set_new(o, "offences", number(c->offences));
	json_object_set_new(o, "kills", number(c->kills));
	json_object_set_new(o, "refused", number(c->refused));
	json_object_set_new(o, "unwitnessed", number(c->unwitnessed));
	json_object_set_new(o, "jails", jails_json(e));
	json_object_set_new(o, "sources", sources_json(e));
	json_object_set_new(o, "services", services_json(e));
	json_object_set_new(o, "sockets", censuses_json(e, BANS_ANY_JAIL));
	json_object_set_new(o, "out_of_descriptors_said", number(e->exhausted));
	json_object_set_new(o, "memory", memory_json(e));
	json_object_set_new(o, "health", health_json(e));
	return o;
}

/* --- status JAIL ------------------------------------------------------------------------------ */

static json_t *rule_json(const struct engine *e, uint16_t jail, uint16_t rule)
{
	const struct rule_conf *r = &e->conf->jails[jail].rules[rule];
	const struct filter_stats *f = detector_filter_stats(e->detector, jail, rule);
	json_t *o = json_pack("{s:s, s:i, s:I, s:o, s:o, s:o, s:o}", "filter", r->filter.name,
			      "maxretry", (int)r->maxretry, "findtime", (json_int_t)r->findtime_s,
			      "lines", number(f->lines), "failed", number(f->failed), "ignored",
			      number(f->ignored), "limit_hits", number(f->limit_hits));

	if (r->distinct)
		json_object_set_new(o, "distinct", json_string(r->distinct));
	return o;
}

static json_t *counts_json(const struct detector_counts *c)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "matched", number(c->matched),
			 "offences", number(c->offences), "repeated", number(c->repeated),
			 "ignored", number(c->ignored), "old", number(c->old), "unusable",
			 number(c->unusable), "already_banned", number(c->already_banned), "bans",
			 number(c->bans));
}

/* Does the jail read this source, or protect the service behind it? */
static bool has_to_do(const struct engine *e, const struct engine_source *s, uint16_t jail)
{
	if (conf_borrows_ports(&e->conf->jails[jail]))
		return true;
	for (size_t i = 0; i < s->conf->njails; i++)
		if (s->conf->jails[i] == jail)
			return true;
	return false;
}

static json_t *jail_status(void *ctx, uint16_t jail, struct now now)
{
	struct engine *e = ctx;
	const struct jail_conf *j = &e->conf->jails[jail];
	json_t *rules = json_array(), *files = json_array(), *services = json_array(), *o;

	(void)now;
	for (uint16_t i = 0; i < j->nrules; i++)
		json_array_append_new(rules, rule_json(e, jail, i));
	for (size_t i = 0; i < e->nsources; i++) {
		struct source_status st;
		size_t at = 0;

		if (!has_to_do(e, &e->sources[i], jail))
			continue;
		while (j->backend != BACKEND_SOCKETS && source_next(e->sources[i].source, &at, &st))
			json_array_append_new(files, source_json(&st));
		add_services(services, &e->sources[i]);
	}
	o = json_pack("{s:s, s:I, s:b, s:s, s:o, s:o, s:o, s:o}", "jail", j->name, "bantime",
		      (json_int_t)j->bantime_s, "kill", (int)j->kill, "scope",
		      j->scope_port ? "port" : "all", "rules", rules, "counts",
		      counts_json(detector_counts(e->detector, jail)), "sources", files, "services",
		      services);
	if (j->backend == BACKEND_SOCKETS)
		json_object_set_new(o, "sockets", censuses_json(e, jail));
	return o;
}

/* --- counters of the kernel ------------------------------------------------------------------- */

static void refresh_counters(void *ctx, void (*done)(void *arg), void *arg)
{
	struct engine *e = ctx;
	struct engine_waiter *w = calloc(1, sizeof *w);
	const struct protocol_ping p = {++e->counters_serial};

	if (!w || e->start.dry_run || channel_send(e->channel, PROTOCOL_COUNTERS, &p, 1, -1) < 0) {
		free(w);
		done(arg);
		return;
	}
	*w = (struct engine_waiter){e->counter_waiters, done, arg};
	e->counter_waiters = w;
}

void view_counted(struct engine *e, const struct protocol_counted *c)
{
	struct ban *b = bans_find(e->bans, &c->addr, BANS_ANY_JAIL);

	if (!b)
		return;
	b->dropped_packets = c->packets;
	b->dropped_bytes = c->bytes;
}

/* A pass that began before the newest question is followed by one more answer with its serial. */
void view_counted_all(struct engine *e, uint64_t serial)
{
	struct engine_waiter *w = e->counter_waiters;

	if (serial < e->counters_serial)
		return;
	e->counter_waiters = NULL;
	while (w) {
		struct engine_waiter *next = w->next;

		w->done(w->arg);
		free(w);
		w = next;
	}
}

void view_set_up(struct engine *e)
{
	e->view = (struct control_view){
		.ctx = e,
		.bans = e->bans,
		.evidence = e->evidence,
		.ignore = e->ignore,
		.jail_name = jail_name,
		.jail_find = jail_find,
		.ban_reason = ban_reason,
		.rule_name = rule_name,
		.file_name = file_name,
		.status = status,
		.jail_status = jail_status,
		.refresh_counters = refresh_counters,
		.look = sockets_look,
		.sight = sockets_sight,
		.ban = banlist_order_bans,
		.unban = banlist_order_unbans,
		.reload = reload_start,
	};
}
