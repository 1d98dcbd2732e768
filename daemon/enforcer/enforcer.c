/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The enforcer's life: start-up, children, signals, restart of the engine, reload, stop; see
 * enforcer.h.
 *
 * Start-up fails with a sentence and exit status 1, 3 or 4. Later nothing ends the enforcer but a
 * signal and an engine that breaks the message rules three times in a minute (status 4): an engine
 * that crashes is started again, bans stay in the kernel meanwhile.
 */
#include "daemon/base/notify.h"
#include "daemon/base/process.h"
#include "daemon/enforcer/state.h"
#include "daemon/sockets/prober.h"

#include <errno.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_LEAST_S 0.01
#define BACKOFF_MOST_S 5.
#define STOP_PATIENCE_MS 2000
#define ENGINE_PATIENCE_S 3. /* for the engine's last words, when the daemon stops */
#define PROBER_PAUSE_S 1.    /* before a prober that ended is started again */
#define FAR_OFF_S 1e9        /* libev wakes each minute unless a periodic watcher exists */

static void start_engine(struct enforcer *e);

/* --- what is missing -------------------------------------------------------------------------- */

static const struct {
	int capability;
	const char *name, *what;
	bool needed;
} capabilities[] = {
	{CAP_NET_ADMIN, "CAP_NET_ADMIN", "bans and kills", true},
	{CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "finding the port of another user's service", false},
	{CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "logs that root may not read by mode", false},
	{CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "services in other network namespaces", false},
	{CAP_SETUID, "CAP_SETUID", "an engine with its own user", false},
	{CAP_KILL, "CAP_KILL", "ending an engine of another user", false},
};

static int check_privileges(struct enforcer *e, struct error *err)
{
	size_t n =
		(size_t)snprintf(e->privileges, sizeof e->privileges, "%s", process_users_text());

	for (size_t i = 0; i < sizeof capabilities / sizeof capabilities[0]; i++) {
		if (process_can(capabilities[i].capability))
			continue;
		if (capabilities[i].needed && !e->start.dry_run)
			return error_set(err, -EPERM, "missing %s, needed for %s",
					 capabilities[i].name, capabilities[i].what);
		log_warning("enforcer", "missing %s: %s", capabilities[i].name,
			    capabilities[i].what);
		if (n < sizeof e->privileges)
			n += (size_t)snprintf(e->privileges + n, sizeof e->privileges - n,
					      "%smissing %s (%s)", n ? "; " : "",
					      capabilities[i].name, capabilities[i].what);
	}
	return 0;
}

void enforcer_say_health(struct enforcer *e)
{
	struct protocol_health h = {.engine_crashes = e->crashes,
				    .runner_dropped = e->runner_dropped};
	const char *text = NULL;

	snprintf(h.firewall, sizeof h.firewall, "%s", e->firewall ? "ok" : "dry run");
	snprintf(h.kill, sizeof h.kill, "%s", e->reaper ? "ok" : "dry run");
	witness_health(e, h.witness, sizeof h.witness);
	if (e->firewall) {
		if (firewall_state(e->firewall, &text) < 0)
			snprintf(h.firewall, sizeof h.firewall, "%s", text);
		h.retries = firewall_counters(e->firewall)->retries;
		h.set_full = firewall_counters(e->firewall)->full;
	}
	if (e->reaper && (reaper_state(e->reaper, &text) < 0 || enter_state(e, &text) < 0))
		snprintf(h.kill, sizeof h.kill, "%s", text);
	snprintf(h.privileges, sizeof h.privileges, "%s", e->privileges);
	if (!e->engine.channel || !memcmp(e->health_said, &h, sizeof h))
		return;
	memcpy(e->health_said, &h, sizeof h);
	channel_send(e->engine.channel, PROTOCOL_HEALTH, &h, 1, -1);
}

/* --- sources ---------------------------------------------------------------------------------- */

/* What is known of a log's service is known after a reload too. */
static void keep_service(struct enforcer_source *s, struct enforcer_source *old, size_t nold)
{
	struct enforcer_source fresh = *s;

	for (size_t i = 0; i < nold; i++) {
		if (strcmp(old[i].name, s->name) != 0)
			continue;
		*s = old[i];
		s->conf = fresh.conf;
		s->name = fresh.name;
		s->opened = s->asked = s->waiting = s->wants_entry = s->scope_said = false;
		old[i].guard = NULL;
		return;
	}
}

void enforcer_set_sources(struct enforcer *e)
{
	struct arena before = e->arena;
	struct enforcer_source *old = e->sources;
	struct source_conf *list;
	size_t n, nold = e->nsources;

	e->arena = (struct arena){0};
	list = sources_list(e->conf, &e->arena, &n);
	e->sources = arena_array(&e->arena, n, sizeof *e->sources);
	e->nsources = n;
	e->generation++;
	for (size_t i = 0; i < n; i++) {
		e->sources[i].conf = &list[i];
		e->sources[i].name = arena_strdup(&e->arena, list[i].name);
		keep_service(&e->sources[i], old, nold);
	}
	for (size_t i = 0; i < nold; i++)
		enter_drop_guard(&old[i]);
	enter_sweep(e);
	arena_free(&before);
}

/* --- children --------------------------------------------------------------------------------- */

void enforcer_drop_channel(struct enforcer_child *child)
{
	channel_free(child->channel);
	child->channel = NULL;
}

static void engine_closed(void *ctx, int error)
{
	struct enforcer *e = ctx;

	if (error == ERROR_PROTOCOL) {
		enforcer_engine_broke_rules(e);
		return;
	}
	/* Its end of the pair is closed: it is ending or dead, SIGCHLD tells the rest. */
	enforcer_drop_channel(&e->engine);
	ev_timer_start(e->loop, &e->speechless);
}

/* Three in a minute: this engine, or whoever has taken it over, will not stop. */
static bool too_many_malformed(struct enforcer *e)
{
	int64_t now_ns = clock_now().mono_ns;
	int64_t oldest;

	e->malformed_mono_ns[e->malformed++ % 3] = now_ns;
	oldest = e->malformed_mono_ns[e->malformed % 3];
	return oldest && now_ns - oldest < 60 * CLOCK_SECOND_NS;
}

void enforcer_engine_broke_rules(struct enforcer *e)
{
	log_error("enforcer", "the engine sent a message that it cannot have meant; it is ended");
	if (e->engine.pid > 0)
		kill(e->engine.pid, SIGKILL);
	e->engine_failed = true;
	enforcer_drop_channel(&e->engine);
	if (too_many_malformed(e)) {
		log_error("enforcer", "three such messages within a minute: giving up");
		e->exit_status = 4;
		ev_break(e->loop, EVBREAK_ALL);
	}
}

static void helper_closed(void *ctx, int error)
{
	(void)ctx;
	(void)error; /* SIGCHLD tells */
}

static const struct message_type to_engine[] = {PROTOCOL_TO_ENGINE(PROTOCOL_SENT)};
static const struct message_type to_runner[] = {PROTOCOL_TO_ENFORCER(PROTOCOL_SENT)};

static const struct channel_hooks engine_hooks = {.in = enforcer_engine_types,
						  .nin = PROTOCOL_TO_ENFORCER_TYPES,
						  .out = to_engine,
						  .nout = PROTOCOL_TO_ENGINE_TYPES,
						  .closed = engine_closed};

static int spawn(struct enforcer *e, enum process_name name, int (*run)(void *, int), void *arg,
		 const int *keep, size_t nkeep, const struct channel_hooks *hooks,
		 struct enforcer_child *child, struct error *err)
{
	int fd;

	child->pid = process_spawn(name, run, arg, keep, nkeep, &fd, err);
	if (child->pid < 0)
		return err->code;
	child->channel = channel_new(e->loop, fd, hooks, e);
	return child->channel ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int enforcer_spawn(struct enforcer *e, enum process_name name, int (*run)(void *, int), void *arg,
		   const struct channel_hooks *hooks, struct enforcer_child *child,
		   struct error *err)
{
	return spawn(e, name, run, arg, NULL, 0, hooks, child, err);
}

static void on_ran(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	struct protocol_ran ran = *(const struct protocol_ran *)entries;

	(void)count;
	(void)fds;
	if (e->engine.channel && commands_from_runner(e, &ran))
		channel_send(e->engine.channel, PROTOCOL_RAN, &ran, 1, -1);
}

static const struct message_type from_runner[PROTOCOL_TO_ENGINE_TYPES] = {
	[PROTOCOL_RAN] = {"RAN", sizeof(struct protocol_ran), 1, 1, 0, 0, on_ran}};
static const struct channel_hooks runner_hooks = {.in = from_runner,
						  .nin = PROTOCOL_TO_ENGINE_TYPES,
						  .out = to_runner,
						  .nout = PROTOCOL_TO_ENFORCER_TYPES,
						  .closed = helper_closed};

static bool has_commands(const struct conf *conf)
{
	for (size_t i = 0; i < conf->njails; i++)
		for (size_t k = 0; k < conf->jails[i].nactions; k++)
			if (conf->jails[i].actions[k].kind == ACTION_COMMAND)
				return true;
	return false;
}

/* Forked while this process is still full root: command actions are the administrator's own. */
static int start_runner(struct enforcer *e, struct error *err)
{
	if (!has_commands(e->conf))
		return 0;
	if (commands_remember(e) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return spawn(e, PROCESS_RUNNER, commands_main, e->conf, NULL, 0, &runner_hooks, &e->runner,
		     err);
}

static const struct channel_hooks prober_hooks = {.in = service_prober_answers,
						  .nin = PROBER_TYPES,
						  .out = service_prober_questions,
						  .nout = PROBER_TYPES,
						  .closed = helper_closed};

static void start_prober(struct enforcer *e)
{
	struct error err = {0};

	e->prober_pending = 0;
	if (spawn(e, PROCESS_PROBER, prober_run, NULL, NULL, 0, &prober_hooks, &e->prober, &err) <
	    0)
		log_error("enforcer", "%s; ports and ssh peers are not looked up", err.text);
}

void enforcer_start_census(struct enforcer *e)
{
	struct error err = {0};

	if (!e->nwatches || e->census.pid > 0)
		return;
	if (spawn(e, PROCESS_CENSUS, prober_run, NULL, NULL, 0, &prober_hooks, &e->census, &err) <
	    0)
		log_error("enforcer", "%s; it is tried again", err.text);
	if (e->census.pid > 0)
		return;
	e->census.pid = 0;
	ev_timer_set(&e->census_again, BACKOFF_MOST_S, 0.);
	ev_timer_start(e->loop, &e->census_again);
}

static void census_again(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	enforcer_start_census(w->data);
	watches_census_gone(w->data);
}

static void prober_again(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	start_prober(w->data);
	service_look_again(w->data);
}

static void respawn(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	start_engine(w->data);
}

static void start_engine(struct enforcer *e)
{
	struct engine_start start = {
		.conf = e->conf,
		.conf_dir = e->start.conf_dir,
		.datadir = e->start.datadir,
		.quick_paths = e->start.quick_paths,
		.nquick_paths = e->start.nquick_paths,
		.control_fd = e->control_fd,
		.resume_fd = e->resume_fd,
		.crashed = e->engine_failed,
		.first = !e->ever_started,
		.started_mono_ns = e->started_mono_ns,
		.dry_run = e->start.dry_run,
	};
	const int keep[] = {e->control_fd, e->resume_fd};
	struct error err = {0};

	e->health_said[0] = 0;
	requests_forget_engine(e);
	enforcer_forget_conf(e);
	if (spawn(e, PROCESS_ENGINE_ROW, e->start.engine_main, &start, keep, 2, &engine_hooks,
		  &e->engine, &err) < 0) {
		log_error("enforcer", "%s", err.text);
		ev_timer_set(&e->respawn, BACKOFF_MOST_S, 0.);
		ev_timer_start(e->loop, &e->respawn);
		return;
	}
	e->ever_started = true;
	e->engine_failed = false;
	watches_afresh(e);
	requests_bans_in_force(e);
	service_tell_engine(e);
	enforcer_say_health(e);
}

static bool reads_stdin(const struct conf *conf)
{
	for (size_t i = 0; i < conf->njails; i++)
		if (conf->jails[i].backend == BACKEND_STDIN)
			return true;
	return false;
}

/* Back-off grows only while crashes come without any line in between. */
static void engine_ended(struct enforcer *e, int status)
{
	uint64_t progress = e->start.engine_progress(e->resume_fd);
	bool killed =
		WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);

	e->engine.pid = 0;
	ev_timer_stop(e->loop, &e->speechless);
	channel_drain(e->engine.channel);
	enforcer_drop_channel(&e->engine);
	if (e->stopping) {
		requests_flush(e); /* its last bans */
		ev_break(e->loop, EVBREAK_ALL);
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) && !e->ready) {
		e->exit_status = WEXITSTATUS(status);
		ev_break(e->loop, EVBREAK_ALL);
		return;
	}
	if (WIFEXITED(status) && !WEXITSTATUS(status) && reads_stdin(e->conf)) { /* it has ended */
		ev_break(e->loop, EVBREAK_ALL);
		return;
	}
	e->crashes++;
	e->engine_failed = e->engine_failed || !killed;
	if (progress != e->progress_seen)
		e->backoff_s = BACKOFF_LEAST_S;
	else if (e->backoff_s < BACKOFF_MOST_S)
		e->backoff_s *= 2;
	e->progress_seen = progress;
	log_error("enforcer",
		  "the engine ended (%s %d); starting it again in %.2f s, bans stay in force",
		  WIFSIGNALED(status) ? "signal" : "status",
		  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), e->backoff_s);
	ev_timer_stop(e->loop, &e->respawn);
	ev_timer_set(&e->respawn, e->backoff_s, 0.);
	ev_timer_start(e->loop, &e->respawn);
}

static void on_child(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct enforcer *e = w->data;
	int status;
	pid_t pid;

	(void)loop;
	(void)revents;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == e->engine.pid) {
			engine_ended(e, status);
		} else if (pid == e->prober.pid) {
			log_error("enforcer", "the prober ended; starting it again");
			enforcer_drop_channel(&e->prober);
			e->prober.pid = 0;
			ev_timer_set(&e->prober_again, PROBER_PAUSE_S, 0.);
			ev_timer_start(e->loop, &e->prober_again);
		} else if (pid == e->census.pid) {
			log_error("enforcer", "the census process ended; starting it again");
			enforcer_drop_channel(&e->census);
			e->census.pid = 0;
			ev_timer_set(&e->census_again, PROBER_PAUSE_S, 0.);
			ev_timer_start(e->loop, &e->census_again);
		} else if (enter_ended(e, pid)) {
			continue;
		} else if (pid == e->runner.pid) {
			log_error("enforcer", "the runner ended: command actions no longer run; "
					      "restart tailband to have them back");
			enforcer_drop_channel(&e->runner);
			e->runner.pid = 0;
		}
	}
}

/* --- signals and messages that concern life --------------------------------------------------- */

/* An engine that hangs must not keep the daemon: it is killed, its bans are in the kernel. */
static void on_impatience(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)w;
	(void)revents;
	log_warning("enforcer", "the engine does not end");
	ev_break(loop, EVBREAK_ALL);
}

/* It closed its end of the pair and lives on: alone it protects nobody. */
static void on_speechless(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct enforcer *e = w->data;

	(void)loop;
	(void)revents;
	e->engine_failed = true;
	if (e->engine.pid > 0)
		kill(e->engine.pid, SIGKILL);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct enforcer *e = w->data;

	(void)revents;
	notify("STOPPING=1");
	e->stopping = true;
	if (!e->engine.channel) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	ev_timer_start(loop, &e->impatience);
	channel_send(e->engine.channel, PROTOCOL_STOP, &(struct protocol_ping){0}, 1, -1);
}

static void on_hangup(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct enforcer *e = w->data;

	(void)loop;
	(void)revents;
	log_reopen();
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_RELOAD_ASK, &(struct protocol_ping){0}, 1,
			     -1);
}

static void log_counters(struct enforcer *e)
{
#define X(name, help)                                                                              \
	log_notice("counters", "firewall " #name " %llu",                                          \
		   (unsigned long long)firewall_counters(e->firewall)->name);
	if (e->firewall) {
		FIREWALL_COUNTERS(X)
	}
#undef X
#define X(name, help)                                                                              \
	log_notice("counters", "kill " #name " %llu",                                              \
		   (unsigned long long)reaper_counters(e->reaper)->name);
	if (e->reaper) {
		REAPER_COUNTERS(X)
	}
#undef X
	for (size_t i = 0; i < e->nspaces; i++)
		log_notice("counters", "kill in network namespace %llu: killed %llu, failed %llu",
			   (unsigned long long)e->spaces[i]->ino,
			   (unsigned long long)reaper_counters(e->spaces[i]->reaper)->killed,
			   (unsigned long long)reaper_counters(e->spaces[i]->reaper)->failed);
	log_notice("counters", "in force %u, waiting %u, engine crashes %llu", e->inforce.count,
		   e->inforce.waiting, (unsigned long long)e->crashes);
}

static void on_user1(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct enforcer *e = w->data;

	(void)loop;
	(void)revents;
	log_counters(e);
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_DUMP, &(struct protocol_ping){0}, 1, -1);
}

void enforcer_say_ready(struct enforcer *e)
{
	uint32_t sources = e->ready_sources, files = e->ready_files;

	if (!e->ready || !e->settled)
		return;
	notify("READY=1\nSTATUS=%u source%s, %u file%s, %u bans in force", sources,
	       sources == 1 ? "" : "s", files, files == 1 ? "" : "s", e->inforce.count);
	if (!e->ready_said)
		log_notice("enforcer", "ready: %u sources, %u files, %u bans in force", sources,
			   files, e->inforce.count);
	e->ready_said = true;
	malloc_trim(0);
}

/* Said when the services are known as well: from then on the kernel records who talks to them. */
void enforcer_ready(struct enforcer *e, uint32_t sources, uint32_t files)
{
	e->ready = true;
	e->ready_sources = sources;
	e->ready_files = files;
	witness_settle(e);
	enforcer_say_ready(e);
}

void enforcer_pong(struct enforcer *e)
{
	(void)e;
	notify("WATCHDOG=1");
}

static void on_watchdog(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct enforcer *e = w->data;

	(void)loop;
	(void)revents;
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_PING, &(struct protocol_ping){0}, 1, -1);
}

/* --- reload ----------------------------------------------------------------------------------- */

/* Bans keep their jail over a reload by its name. */
uint16_t enforcer_jail_now(const struct conf *before, const struct conf *now, uint16_t jail)
{
	if (jail >= before->njails)
		return jail;
	for (size_t i = 0; i < now->njails; i++)
		if (!strcmp(now->jails[i].name, before->jails[jail].name))
			return (uint16_t)i;
	return PROTOCOL_JAIL_KERNEL;
}

static void renumber(struct enforcer *e, const struct conf *old, const struct conf *new)
{
	uint32_t cursor = UINT32_MAX;
	struct inforce_ban *b;

	while ((b = inforce_prev(&e->inforce, &cursor, clock_now().mono_ns)))
		b->jail = enforcer_jail_now(old, new, b->jail);
	for (uint32_t i = 0; i < e->ndeferred; i++)
		e->deferred[i].jail = enforcer_jail_now(old, new, e->deferred[i].jail);
	for (uint32_t i = 0; i < e->nheld; i++)
		e->held[i].jail = enforcer_jail_now(old, new, e->held[i].jail);
}

static int parse(const struct enforcer *e, struct conf *ret_conf, struct error *err)
{
	struct conf_errors errs = {0};
	int r;

	if (e->start.conf_dir)
		r = conf_load(e->start.conf_dir, e->start.datadir, ret_conf, &errs);
	else
		r = conf_quick(e->start.quick_paths, e->start.nquick_paths, e->start.datadir,
			       ret_conf, &errs);
	if (r < 0 && errs.count)
		*err = errs.items[0];
	conf_errors_free(&errs);
	return r;
}

static void use_statedir(struct enforcer *e)
{
	if (e->start.statedir_override)
		e->conf->statedir = e->start.statedir_override;
}

void enforcer_forget_conf(struct enforcer *e)
{
	if (!e->conf_before)
		return;
	conf_free(e->conf_before);
	if (e->conf_before != e->start.conf)
		free(e->conf_before);
	e->conf_before = NULL;
}

/* The engine has parsed and prepared everything; both must have read the same. */
int enforcer_reload(struct enforcer *e, const struct protocol_reload *wanted, struct error *err)
{
	struct conf *fresh = e->conf_before ? NULL : malloc(sizeof *fresh);
	int r, fd;

	if (e->conf_before)
		return error_set(err, -EBUSY, "a reload is under way");
	if (!fresh)
		return error_set(err, -ENOMEM, "out of memory");
	r = parse(e, fresh, err);
	if (r < 0) {
		free(fresh);
		return r;
	}
	fd = memcmp(fresh->digest, wanted->digest, sizeof fresh->digest)
		     ? -ESTALE
		     : e->start.resume_create(fresh);
	if (fd < 0) {
		conf_free(fresh);
		free(fresh);
		return error_set(err, fd,
				 fd == -ESTALE
					 ? "the files changed while they were read; reload again"
					 : "cannot make the new engine's memory");
	}
	close(e->resume_fd);
	e->resume_fd = fd;
	requests_flush(e); /* answers with the old numbers go out before ours */
	renumber(e, e->conf, fresh);
	e->conf_before = e->conf;
	e->nsources_before = e->nsources;
	e->conf = fresh;
	use_statedir(e);
	enforcer_set_sources(e);
	log_set_level(fresh->loglevel);
	commands_warn(e);
	witness_unsettle(e);
	if (watches_set_up(e) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return service_ignore_configured(e, err);
}

/* --- start and stop --------------------------------------------------------------------------- */

static void before_wait(struct ev_loop *loop, ev_prepare *w, int revents)
{
	(void)loop;
	(void)revents;
	requests_flush(w->data);
}

static void never(struct ev_loop *loop, ev_periodic *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void watch_signal(struct enforcer *e, ev_signal *w, int sig,
			 void (*fn)(struct ev_loop *, ev_signal *, int))
{
	ev_signal_init(w, fn, sig);
	w->data = e;
	ev_signal_start(e->loop, w);
}

static void watch_events(struct enforcer *e)
{
	uint64_t watchdog_us = notify_watchdog_us();

	watch_signal(e, &e->term, SIGTERM, on_stop);
	watch_signal(e, &e->interrupt, SIGINT, on_stop);
	watch_signal(e, &e->hangup, SIGHUP, on_hangup);
	watch_signal(e, &e->user1, SIGUSR1, on_user1);
	watch_signal(e, &e->child, SIGCHLD, on_child);
	signal(SIGPIPE, SIG_IGN);
	ev_prepare_init(&e->before_wait, before_wait);
	e->before_wait.data = e;
	ev_prepare_start(e->loop, &e->before_wait);
	ev_periodic_init(&e->far_off, never, ev_time() + FAR_OFF_S, 0., NULL);
	ev_periodic_start(e->loop, &e->far_off);
	ev_timer_init(&e->respawn, respawn, 0., 0.);
	ev_timer_init(&e->prober_again, prober_again, 0., 0.);
	ev_timer_init(&e->census_again, census_again, 0., 0.);
	e->census_again.data = e;
	ev_timer_init(&e->impatience, on_impatience, ENGINE_PATIENCE_S, 0.);
	ev_timer_init(&e->speechless, on_speechless, ENGINE_PATIENCE_S, 0.);
	e->respawn.data = e->prober_again.data = e->impatience.data = e->speechless.data = e;
	if (watchdog_us) {
		ev_timer_init(&e->watchdog, on_watchdog, 0., (double)watchdog_us / 2e6);
		e->watchdog.data = e;
		ev_timer_start(e->loop, &e->watchdog);
	}
}

/* Logs and sources need descriptors; the soft limit is only a habit. */
static void raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Exit status 3 for the kernel and privileges, 4 for everything else that fails at start. */
static int start_up(struct enforcer *e, struct error *err)
{
	char warning[256];

	if (process_users(e->conf->user, warning, sizeof warning) < 0)
		return error_set(err, 3, "neither the user '%s' nor nobody exists", e->conf->user),
		       3;
	if (warning[0])
		log_warning("enforcer", "%s", warning);
	raise_nofile();
	if (check_privileges(e, err) < 0)
		return 3;
	if (endpoint_statedir(e, err) < 0 || endpoint_lock(e, err) < 0 ||
	    endpoint_control(e, err) < 0)
		return 4;
	e->resume_fd = e->start.resume_create(e->conf);
	if (e->resume_fd < 0)
		return error_set(err, e->resume_fd, "cannot make the engine's memory: %s",
				 error_name(e->resume_fd)),
		       4;
	if (inforce_init(&e->inforce, e->conf->maxbans) < 0)
		return error_set(err, -ENOMEM, "out of memory"), 4;
	enforcer_set_sources(e);
	e->loop = ev_loop_new(EVFLAG_AUTO);
	if (!e->loop)
		return error_set(err, -ENOMEM, "cannot make an event loop"), 4;
	/* The runner first: it stays full root, and libev in it must not find our signal watchers.
	 */
	if (start_runner(e, err) < 0)
		return 4;
	watch_events(e);
	if (process_limit(PROCESS_ENFORCER, err) < 0)
		return 3;
	if (!e->start.dry_run && requests_firewall_open(e, err) < 0)
		return 3;
	if (service_ignore_set_up(e, err) < 0 || endpoint_force(e, err) < 0)
		return 4;
	start_prober(e);
	service_ssh_peers(e, 0);
	witness_unsettle(e);
	if (watches_set_up(e) < 0)
		return error_set(err, -ENOMEM, "out of memory"), 4;
	start_engine(e);
	endpoint_pidfile(e);
	return 0;
}

/* Without its channel a child ends by itself; one that does not in time is killed. */
static void end_child(struct enforcer_child *child)
{
	const struct timespec a_while = {.tv_nsec = 1000000};

	enforcer_drop_channel(child);
	if (child->pid <= 0)
		return;
	for (int waited_ms = 0; waited_ms < STOP_PATIENCE_MS; waited_ms++) {
		if (waitpid(child->pid, NULL, WNOHANG) != 0) {
			child->pid = 0;
			return;
		}
		nanosleep(&a_while, NULL);
	}
	kill(child->pid, SIGKILL);
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
		;
	child->pid = 0;
}

static void stop(struct enforcer *e)
{
	struct error err = {0};

	end_child(&e->engine);
	end_child(&e->prober);
	end_child(&e->census);
	end_child(&e->enterer);
	end_child(&e->runner);
	watches_close(e);
	witness_close(e);
	enter_close(e);
	if (e->start.flush_on_stop && e->firewall && firewall_remove(e->firewall, &err) < 0)
		log_error("firewall", "%s", err.text);
	log_notice("enforcer",
		   e->start.flush_on_stop ? "stopped, bans removed"
					  : "stopped, %u bans stay in the kernel",
		   e->inforce.count);
	endpoint_remove(e);
}

int enforcer_run(const struct enforcer_start *start)
{
	static struct enforcer e;
	struct error err = {0};
	int status;

	e = (struct enforcer){.start = *start,
			      .conf = start->conf,
			      .inotify_fd = -1,
			      .resume_fd = -1,
			      .control_fd = -1,
			      .force_fd = -1,
			      .lock_fd = -1,
			      .backoff_s = BACKOFF_LEAST_S,
			      .started_mono_ns = clock_now().mono_ns};
	use_statedir(&e);
	status = start_up(&e, &err);
	if (status) {
		log_error("enforcer", "%s", err.text);
		endpoint_remove(&e);
		return status;
	}
	ev_run(e.loop, 0);
	stop(&e);
	return e.exit_status;
}
