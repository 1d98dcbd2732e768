/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's life: start-up, messages of the enforcer, ready, stop; see engine.h.
 *
 * A start that fails says why and exits with status 1 (configuration) or 4; the enforcer decides
 * what comes next. A channel that ends or breaks the rules ends the engine: alone it can do
 * nothing.
 */
#include "daemon/engine/engine.h"
#include "daemon/base/log.h"
#include "daemon/engine/state.h"
#include "daemon/source/watch.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#define FAR_OFF_S 1e9 /* libev wakes each minute unless a periodic watcher exists */

/* --- messages --------------------------------------------------------------------------------- */

#define HANDLER(name, entry)                                                                       \
	static void on_##name(void *ctx, const void *entries, uint32_t count, int *fds)            \
	{                                                                                          \
		struct engine *e = ctx;                                                            \
		const entry *list = entries;                                                       \
                                                                                                   \
		(void)fds;                                                                         \
		for (uint32_t i = 0; i < count; i++)                                               \
			take_##name(e, &list[i], fds);                                             \
	}

static void take_PING(struct engine *e, const struct protocol_ping *p, int *fds)
{
	(void)fds;
	channel_send(e->channel, PROTOCOL_PONG, p, 1, -1);
}

static void take_STOP(struct engine *e, const struct protocol_ping *p, int *fds)
{
	(void)p;
	(void)fds;
	banlist_flush(e);
	channel_flush(e->channel, 1000);
	ev_break(e->loop, EVBREAK_ALL);
}

static void take_FILE(struct engine *e, const struct protocol_file *f, int *fds)
{
	lines_file(e, f, fds[0]);
	fds[0] = -1;
}

static void take_DIR(struct engine *e, const struct protocol_file *f, int *fds)
{
	lines_dir(e, f, fds[0]);
	fds[0] = -1;
}

static void take_OPENED(struct engine *e, const struct protocol_open *o, int *fds)
{
	(void)fds;
	lines_opened(e, o);
}

static void take_WATCHED(struct engine *e, const struct protocol_watch *w, int *fds)
{
	(void)e;
	(void)fds;
	watch_added(w->token, w->wd);
}

static void take_INFORCE(struct engine *e, const struct protocol_ban *b, int *fds)
{
	(void)fds;
	banlist_in_force(e, b);
}

static void take_INFORCE_END(struct engine *e, const struct protocol_ping *p, int *fds)
{
	(void)p;
	(void)fds;
	e->in_force_known = true;
}

static void take_RESULT(struct engine *e, const struct protocol_ban *b, int *fds)
{
	(void)fds;
	banlist_result(e, b);
}

static void take_SYNCED(struct engine *e, const struct protocol_ping *p, int *fds)
{
	(void)fds;
	banlist_synced(e, p->serial);
}

static void take_KILLED(struct engine *e, const struct protocol_killed *k, int *fds)
{
	(void)fds;
	banlist_killed(e, k);
}

static void take_COUNTED(struct engine *e, const struct protocol_counted *c, int *fds)
{
	(void)fds;
	view_counted(e, c);
}

static void take_COUNTED_ALL(struct engine *e, const struct protocol_ping *p, int *fds)
{
	(void)fds;
	view_counted_all(e, p->serial);
}

static void take_SERVICE(struct engine *e, const struct protocol_service *s, int *fds)
{
	(void)fds;
	if (s->source >= e->nsources)
		return;
	if (strcmp(e->sources[s->source].service.text, s->text) != 0)
		log_notice("service", "%s: %s", e->sources[s->source].conf->name, s->text);
	e->sources[s->source].service = *s;
}

static void take_OFFENCE(struct engine *e, const struct protocol_offence *o, int *fds)
{
	(void)fds;
	sockets_offence(e, o);
}

static void take_CENSUS(struct engine *e, const struct protocol_census *c, int *fds)
{
	(void)fds;
	sockets_census(e, c);
}

static void take_SIGHTED(struct engine *e, const struct protocol_sighting *s, int *fds)
{
	(void)fds;
	sockets_sighted(e, s);
}

static void take_LOOKED(struct engine *e, const struct protocol_ping *p, int *fds)
{
	(void)fds;
	sockets_looked(e, p->serial);
}

static void take_list(struct engine *e, enum ignore_reason reason)
{
	struct netlist *list = &e->ignore_coming[reason];

	if (ignore_replace(e->ignore, reason, IGNORE_ALL_JAILS, list) < 0)
		log_error("engine", "out of memory: the old list of addresses to ignore stays");
	netlist_free(list);
}

/* A list comes entry by entry and takes effect as a whole with op 2; ssh peers one by one. */
static void take_IGNORE(struct engine *e, const struct protocol_ignore *i, int *fds)
{
	(void)fds;
	if (i->reason >= IGNORE_NREASONS)
		return;
	if (i->reason == IGNORE_SSH)
		ignore_ssh_seen(e->ignore, &i->addr, i->who,
				clock_now().mono_ns - i->age_ms * CLOCK_MSEC_NS);
	else if (i->op == PROTOCOL_IGNORE_ADD)
		netlist_add(&e->ignore_coming[i->reason], &i->addr);
	else
		take_list(e, (enum ignore_reason)i->reason);
}

static void take_REPAIRED(struct engine *e, const struct protocol_repaired *r, int *fds)
{
	(void)fds;
	e->repaired = *r;
}

static void take_FORCED(struct engine *e, const struct protocol_ban *b, int *fds)
{
	(void)fds;
	banlist_forced(e, b);
}

static void take_HEALTH(struct engine *e, const struct protocol_health *h, int *fds)
{
	(void)fds;
	e->health = *h;
}

static void take_RAN(struct engine *e, const struct protocol_ran *r, int *fds)
{
	(void)fds;
	if (r->jail < e->conf->njails && r->action < e->conf->jails[r->jail].nactions &&
	    (r->status || r->timed_out))
		log_warning("action", "[%s] %s %s (status %d)", e->conf->jails[r->jail].name,
			    e->conf->jails[r->jail].actions[r->action].name,
			    r->timed_out ? "took too long and was ended" : "failed", r->status);
}

static void take_RELOAD_ASK(struct engine *e, const struct protocol_ping *p, int *fds)
{
	(void)p;
	(void)fds;
	reload_start(e, NULL, NULL);
}

static void take_RELOADED(struct engine *e, const struct protocol_reload *r, int *fds)
{
	reload_finish(e, r, fds[0]);
	fds[0] = -1;
}

static void take_DUMP(struct engine *e, const struct protocol_ping *p, int *fds)
{
	const struct resume_counters *c = &e->resume.head->counters;

	(void)p;
	(void)fds;
	log_notice("counters",
		   "lines %llu, bytes %llu, guilty lines %llu, offences %llu, bans %llu, "
		   "unbans %llu, kills %llu, refused %llu",
		   (unsigned long long)c->lines_read, (unsigned long long)c->bytes_read,
		   (unsigned long long)c->poison_lines, (unsigned long long)c->offences,
		   (unsigned long long)c->bans, (unsigned long long)c->unbans,
		   (unsigned long long)c->kills, (unsigned long long)c->refused);
}

#define MAKE_HANDLER(name, entry, most, fds_least, fds_most) HANDLER(name, entry)
PROTOCOL_TO_ENGINE(MAKE_HANDLER)

#define ROW(name, entry, most, fds_least, fds_most)                                                \
	[PROTOCOL_##name] = {#name, sizeof(entry), 1, most, fds_least, fds_most, on_##name},
static const struct message_type from_enforcer[] = {PROTOCOL_TO_ENGINE(ROW)};
static const struct message_type to_enforcer[] = {PROTOCOL_TO_ENFORCER(PROTOCOL_SENT)};

static void enforcer_closed(void *ctx, int error)
{
	struct engine *e = ctx;

	if (error)
		log_error("engine", "the enforcer's messages do not fit: %s", error_name(error));
	e->exit_status = 4;
	ev_break(e->loop, EVBREAK_ALL);
}

static const struct channel_hooks channel_hooks = {.in = from_enforcer,
						   .nin = PROTOCOL_TO_ENGINE_TYPES,
						   .out = to_enforcer,
						   .nout = PROTOCOL_TO_ENFORCER_TYPES,
						   .closed = enforcer_closed};

/* --- the detector and its memory -------------------------------------------------------------- */

static const struct detector_hooks detector_hooks = {.offence = banlist_offence,
						     .ban = banlist_ban,
						     .refused = banlist_refused,
						     .notice = lines_notice,
						     .line_begins = lines_begins,
						     .skip_line = lines_skip,
						     .counting = lines_counting,
						     .counted = lines_counted,
						     .named = lines_named,
						     .owes = lines_owes,
						     .owed = lines_owed};

int engine_make_detector(struct engine *e, const struct conf *conf, const struct resume *resume,
			 struct detector **ret_detector, struct error *err)
{
	const struct detector_memory memory = {.ledger = resume->ledger,
					       .ledger_bytes = resume->head->ledger_bytes,
					       .growth = resume->growth,
					       .growth_bytes = resume->head->growth_bytes,
					       .seed = resume->head->seed};

	return detector_new(conf, &memory, e->bans, e->ignore, &detector_hooks, e, ret_detector,
			    err);
}

int engine_ignore_configured(struct engine *e, const struct conf *conf)
{
	int r = 0;

	ignore_clear_jails(e->ignore);
	for (uint32_t i = 0; i < conf->njails && r == 0; i++) {
		r = ignore_replace(e->ignore, IGNORE_IP, i, &conf->jails[i].ignoreip);
		if (r == 0)
			r = ignore_replace(e->ignore, IGNORE_PROXY, i,
					   &conf->jails[i].trusted_proxy);
	}
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

static int listen_control(struct engine *e, struct error *err)
{
	e->control = control_new(e->loop, e->start.control_fd, requests_handle, &e->view, err);
	return e->control ? 0 : -EIO;
}

void engine_check_ready(struct engine *e)
{
	struct protocol_ready ready;
	struct error err = {0};

	if (e->ready || !e->in_force_known || !lines_all_ready(e))
		return;
	e->ready = true;
	if (listen_control(e, &err) < 0)
		log_error("control", "%s", err.text);
	ready = (struct protocol_ready){(uint32_t)e->nsources, lines_file_count(e)};
	channel_send(e->channel, PROTOCOL_READY, &ready, 1, -1);
	malloc_trim(0); /* what compiling the filters took */
}

/* The log has ended (stdin): what was decided must be in force before we go. */
static bool all_said(struct engine *e)
{
	if (!e->ready || !e->ending)
		return false;
	if (!e->sync_sent || e->sync_seen != e->sync_sent || e->resume.head->outbox_count) {
		if (e->sync_seen == e->sync_sent)
			banlist_sync(e);
		return false;
	}
	return true;
}

static void before_wait(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct engine *e = w->data;

	(void)revents;
	log_flush();
	engine_check_ready(e);
	if (all_said(e))
		ev_break(loop, EVBREAK_ALL);
	else if (e->in_force_known)
		banlist_flush(e);
}

static void never(struct ev_loop *loop, ev_periodic *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static int open_tables(struct engine *e, struct error *err)
{
	int r = resume_attach(e->start.resume_fd, e->conf, e->start.crashed, &e->resume,
			      &e->guilty);

	if (r < 0)
		return error_set(err, r, "cannot map the engine's memory: %s", error_name(r));
	e->bans = bans_new(e->conf->maxbans);
	e->ignore = ignore_new();
	e->evidence = evidence_new(EVIDENCE_RECORDS, e->conf->dbmaxmatches);
	e->tally = tally_new(TALLY_RECORDS);
	if (!e->bans || !e->ignore || !e->evidence || !e->tally ||
	    engine_ignore_configured(e, e->conf) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return engine_make_detector(e, e->conf, &e->resume, &e->detector, err);
}

static int open_loop(struct engine *e, int fd, struct error *err)
{
	e->loop = ev_loop_new(EVFLAG_AUTO);
	if (!e->loop)
		return error_set(err, -ENOMEM, "cannot make an event loop");
	e->channel = channel_new(e->loop, fd, &channel_hooks, e);
	if (!e->channel)
		return error_set(err, -ENOMEM, "out of memory");
	ev_prepare_init(&e->before_wait, before_wait);
	e->before_wait.data = e;
	ev_prepare_start(e->loop, &e->before_wait);
	ev_periodic_init(&e->far_off, never, ev_time() + FAR_OFF_S, 0., NULL);
	ev_periodic_start(e->loop, &e->far_off);
	return 0;
}

static void close_all(struct engine *e)
{
	control_free(e->control);
	lines_close(e);
	watch_fini();
	detector_free(e->detector);
	bans_free(e->bans);
	evidence_free(e->evidence);
	tally_free(e->tally);
	ignore_free(e->ignore);
	for (int i = 0; i < IGNORE_NREASONS; i++)
		netlist_free(&e->ignore_coming[i]);
	channel_free(e->channel);
	resume_detach(&e->resume);
	arena_free(&e->arena);
	ev_loop_destroy(e->loop);
}

int engine_run(void *arg, int fd)
{
	static struct engine e;
	struct error err = {0};

	e = (struct engine){.start = *(const struct engine_start *)arg};
	log_batch();
	e.conf = e.start.conf;
	if (open_loop(&e, fd, &err) < 0 || open_tables(&e, &err) < 0 || lines_open(&e, &err) < 0) {
		log_error("engine", "%s%s%s", err.file, err.file[0] ? ": " : "", err.text);
		return err.code == ERROR_CONFIG ? 1 : 4;
	}
	view_set_up(&e);
	ev_run(e.loop, 0);
	log_flush();
	close_all(&e);
	return e.exit_status;
}
