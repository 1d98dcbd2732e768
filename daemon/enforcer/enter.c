/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Services in other network namespaces: containers, `ip netns`.
 *
 * When a look-up says that a log's writer lives elsewhere, a one-shot process goes there
 * (sockets/enterer.h), one at a time. What it brings becomes a space, shared by all sources whose
 * writers live there, and the writer's ports are protected in it from then on; those of this
 * namespace with the same numbers are not.
 *
 * A guard (a pidfd) waits for the end of each writer. A writer that has ended is looked for at once
 * when its place matters at all times; its space is closed with the answer, or when none comes, for
 * it keeps the namespace of a dead container alive. A container that is started again has a new
 * namespace, and gets a new space.
 *
 * The addresses of the namespace itself are on the ignore list of the jails that protect it, and of
 * no others: whoever rules a container shall not shelter addresses from bans for other services.
 *
 * What cannot be entered is said in `status`; nothing is killed and no census taken then, the drop
 * in the host covers forwarded traffic all the same.
 */
#include "daemon/enforcer/state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTERER_PATIENCE_S 10.
#define NEWS_PATIENCE_S 5. /* of a service whose process has ended */

/* --- whose process lives ---------------------------------------------------------------------- */

bool enter_writer_lives(const struct enforcer_source *s)
{
	return s->guard && s->guard->pidfd >= 0;
}

static void stop_watching(struct enforcer_guard *g)
{
	if (g->pidfd < 0)
		return;
	ev_io_stop(g->e->loop, &g->ended);
	close(g->pidfd);
	g->pidfd = -1;
}

void enter_drop_guard(struct enforcer_source *s)
{
	if (!s->guard)
		return;
	stop_watching(s->guard);
	ev_timer_stop(s->guard->e->loop, &s->guard->patience);
	free(s->guard);
	s->guard = NULL;
}

static struct enforcer_source *guarded_source(struct enforcer_guard *g)
{
	for (size_t i = 0; i < g->e->nsources; i++)
		if (g->e->sources[i].guard == g)
			return &g->e->sources[i];
	return NULL;
}

static void on_ended(struct ev_loop *loop, ev_io *w, int revents)
{
	struct enforcer_guard *g = w->data;
	struct enforcer *e = g->e;
	struct enforcer_source *s = guarded_source(g);

	(void)revents;
	stop_watching(g);
	if (!s)
		return;
	if (s->elsewhere) {
		s->lost = true;
		ev_timer_start(loop, &g->patience);
	}
	if (s->elsewhere || service_is_watched(e, s))
		service_look_up(e, (size_t)(s - e->sources), 0);
	watches_ports(e);
}

/* No news: the namespace must not be kept alive any longer. */
static void on_no_news(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct enforcer_guard *g = w->data;
	struct enforcer_source *s = guarded_source(g);
	const struct owner nobody = {.result = OWNER_NO_WRITER,
				     .text = "the process that wrote the log has ended"};

	(void)loop;
	(void)revents;
	if (s && s->elsewhere && s->space)
		service_settle(g->e, (size_t)(s - g->e->sources), &nobody, true, NULL);
}

static bool is_guarded(const struct enforcer_source *s, pid_t pid, uint64_t start_time)
{
	return enter_writer_lives(s) && s->guard->pid == pid && s->guard->start_time == start_time;
}

/* Without the writer's process, or on a kernel without pidfd_open, there is none. */
void enter_guard(struct enforcer *e, struct enforcer_source *s, const struct owner *o)
{
	struct enforcer_guard *g;
	int pidfd;

	if (is_guarded(s, o->writer_pid, o->writer_start_time))
		return;
	enter_drop_guard(s);
	if (o->writer_pid <= 0)
		return;
	pidfd = (int)syscall(SYS_pidfd_open, o->writer_pid, 0);
	g = pidfd >= 0 && proc_same(o->writer_pid, o->writer_start_time) ? calloc(1, sizeof *g)
									 : NULL;
	if (!g) {
		if (pidfd >= 0)
			close(pidfd);
		return;
	}
	*g = (struct enforcer_guard){
		.e = e, .pid = o->writer_pid, .start_time = o->writer_start_time, .pidfd = pidfd};
	ev_io_init(&g->ended, on_ended, pidfd, EV_READ);
	ev_timer_init(&g->patience, on_no_news, NEWS_PATIENCE_S, 0.);
	g->ended.data = g->patience.data = g;
	ev_io_start(e->loop, &g->ended);
	s->guard = g;
}

/* --- spaces ----------------------------------------------------------------------------------- */

static bool is_lived_in(const struct enforcer *e, const struct space *space)
{
	for (size_t i = 0; i < e->nsources; i++)
		if (e->sources[i].space == space)
			return true;
	return false;
}

void enter_sweep(struct enforcer *e)
{
	size_t kept = 0;

	for (size_t i = 0; i < e->nspaces; i++) {
		if (is_lived_in(e, e->spaces[i])) {
			e->spaces[kept++] = e->spaces[i];
			continue;
		}
		log_notice("enforcer", "network namespace %llu is left",
			   (unsigned long long)e->spaces[i]->ino);
		watches_leave(e, e->spaces[i]);
		space_close(e->spaces[i]);
	}
	e->nspaces = kept;
}

int enter_state(const struct enforcer *e, const char **ret_text)
{
	*ret_text = NULL;
	for (size_t i = 0; i < e->nspaces; i++) {
		int r = reaper_state(e->spaces[i]->reaper, ret_text);

		if (r < 0)
			return r;
	}
	return 0;
}

static void close_entered(struct enforcer *e)
{
	for (uint32_t i = 0; i < e->nentered; i++)
		if (e->entered_fds[i] >= 0)
			close(e->entered_fds[i]);
	e->nentered = 0;
}

static struct space *known_space(const struct enforcer *e, uint64_t dev, uint64_t ino)
{
	for (size_t i = 0; i < e->nspaces; i++)
		if (e->spaces[i]->dev == dev && e->spaces[i]->ino == ino)
			return e->spaces[i];
	return NULL;
}

/* The space of the sockets that have come, a known one or a new one; NULL with a sentence. */
static struct space *take_sockets(struct enforcer *e, struct error *err)
{
	const struct reaper_hooks hooks = requests_kill_hooks(e);
	struct space *space = NULL;
	uint64_t dev, ino;

	if (e->nentered != ENTERER_SOCKETS) {
		error_set(err, -EBADF, "sockets of the other namespace are missing");
		return NULL;
	}
	if (space_identify(e->entered_fds, &dev, &ino, err) < 0)
		return NULL;
	space = known_space(e, dev, ino);
	if (space)
		return space;
	if (e->nspaces == ENFORCER_SPACES) {
		error_set(err, -ENFILE, "more than %u network namespaces", ENFORCER_SPACES);
		return NULL;
	}
	e->nentered = 0; /* space_open takes them */
	if (space_open(e->loop, &hooks, e->conf->maxbans, e->entered_fds, &space, err) < 0)
		return NULL;
	e->spaces[e->nspaces++] = space;
	return space;
}

/* --- what comes back -------------------------------------------------------------------------- */

/* Adds a piece to the sentence, whole or not at all. */
static void add_text(struct owner *o, const char *between, const char *text)
{
	size_t used = strlen(o->text);

	if (used + strlen(between) + strlen(text) < sizeof o->text)
		snprintf(o->text + used, sizeof o->text - used, "%s%s", between, text);
}

/* A space that is there already stays while the writer lives: the next look may work again. */
static void not_entered(struct enforcer *e, struct enforcer_source *s, const char *why)
{
	struct owner o = s->away;

	add_text(&o, "; ", why);
	enter_guard(e, s, &o);
	s->lost = !enter_writer_lives(s);
	if (s->lost || !s->space || s->space->ino != s->away.netns)
		service_settle(e, (size_t)(s - e->sources), &o, true, NULL);
}

static void take_list(struct netlist *list, const struct addr *addrs, uint32_t count)
{
	netlist_free(list);
	*list = (struct netlist){0};
	for (uint32_t i = 0; i < count; i++)
		if (netlist_add(list, &addrs[i]) < 0)
			break;
	netlist_seal(list);
}

/* Gateways that have no room in the answer leave none: then it is not known what they are. */
static void take_addresses(struct space *space, const struct enterer_answer *a)
{
	take_list(&space->own, a->own, a->own_count);
	take_list(&space->gateways, a->gateways,
		  a->gateway_count <= ENTERER_GATEWAYS_MAX ? a->gateway_count : 0);
}

static void entered(struct enforcer *e, struct enforcer_source *s, const struct enterer_answer *a)
{
	struct owner o = a->found.owner;
	struct error err = {0};
	struct space *space = take_sockets(e, &err);

	if (!space) {
		not_entered(e, s, err.text);
		return;
	}
	if (!o.writer_pid) {
		o.writer_pid = s->away.writer_pid;
		o.writer_start_time = s->away.writer_start_time;
	}
	take_addresses(space, a);
	o.netns = space->ino;
	add_text(&o, ", in another network namespace", "");
	enter_guard(e, s, &o);
	service_settle(e, (size_t)(s - e->sources), &o, true, space);
}

static bool is_sound_addr(const struct addr *a)
{
	return (a->family == ADDR_IPV4 || a->family == ADDR_IPV6) && a->plen <= addr_bits(a);
}

/* Its numbers are used: those of an honest enterer fit. */
static bool is_sound(const struct enterer_answer *a)
{
	const struct owner *o = &a->found.owner;

	for (uint32_t i = 0; i < a->own_count && i < ENTERER_OWN_MAX; i++)
		if (!is_sound_addr(&a->own[i]))
			return false;
	for (uint32_t i = 0; i < a->gateway_count && i < ENTERER_GATEWAYS_MAX; i++)
		if (!is_sound_addr(&a->gateways[i]))
			return false;
	return a->own_count <= ENTERER_OWN_MAX && o->nports <= OWNER_PORTS_MAX &&
	       memchr(o->text, 0, sizeof o->text) && memchr(o->comm, 0, sizeof o->comm);
}

static void take_answer(struct enforcer *e, struct enforcer_source *s,
			const struct enterer_answer *a)
{
	int error = a->error < 0 || is_sound(a) ? a->error : -EPROTO;
	char text[128];

	if (error == 0)
		entered(e, s, a);
	else
		not_entered(e, s, enterer_error(error, a->step, text, sizeof text));
}

/* With an answer (NULL: none has come, for that reason). */
static void finish(struct enforcer *e, const struct enterer_answer *a, const char *reason)
{
	struct enforcer_source *s = service_source(e, e->enterer_token);

	e->enterer_answered = true;
	if (s) {
		s->wants_entry = false;
		if (a)
			take_answer(e, s, a);
		else
			not_entered(e, s, reason);
		requests_flush(e);
	}
	close_entered(e);
}

static void on_pass(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct enterer_socket_message *m = entries;

	(void)count;
	if (e->enterer_answered || m->which != e->nentered || e->nentered == ENTERER_SOCKETS)
		return;
	e->entered_fds[e->nentered++] = fds[0];
	fds[0] = -1;
}

static void on_answer(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;

	(void)count;
	(void)fds;
	if (!e->enterer_answered)
		finish(e, entries, "");
}

#define HANDLER_ENTERER_PASS on_pass
#define HANDLER_ENTERER_ANSWER on_answer
#define ROW(type, entry, nfds) [type] = {#type, sizeof(entry), 1, 1, nfds, nfds, HANDLER_##type},
static const struct message_type from_enterer[] = {ENTERER_MESSAGES(ROW)};
#undef ROW

/* --- the process ------------------------------------------------------------------------------ */

static void enterer_closed(void *ctx, int error)
{
	(void)ctx;
	(void)error; /* SIGCHLD tells */
}

static void on_patience(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct enforcer *e = w->data;

	(void)loop;
	(void)revents;
	log_error("enforcer", "the process in another network namespace does not answer; it is "
			      "ended");
	if (e->enterer.pid > 0)
		kill(e->enterer.pid, SIGKILL);
}

static int start_enterer(struct enforcer *e, size_t source, struct error *err)
{
	static const struct channel_hooks hooks = {
		.in = from_enterer, .nin = ENTERER_TYPES, .closed = enterer_closed};
	const struct owner *away = &e->sources[source].away;

	e->enterer_question = (struct enterer_question){.pid = away->writer_pid,
							.start_time = away->writer_start_time};
	service_question(e, source, &e->enterer_question.log);
	e->enterer_token = e->enterer_question.log.token;
	e->enterer_answered = false;
	e->nentered = 0;
	ev_timer_init(&e->enterer_patience, on_patience, ENTERER_PATIENCE_S, 0.);
	e->enterer_patience.data = e;
	ev_timer_start(e->loop, &e->enterer_patience);
	return enforcer_spawn(e, PROCESS_ENTERER, enterer_run, &e->enterer_question, &hooks,
			      &e->enterer, err);
}

static void start_next(struct enforcer *e)
{
	struct error err = {0};

	for (size_t i = 0; i < e->nsources && e->enterer.pid <= 0; i++) {
		if (!e->sources[i].wants_entry)
			continue;
		if (start_enterer(e, i, &err) < 0) {
			ev_timer_stop(e->loop, &e->enterer_patience);
			e->enterer.pid = 0;
			finish(e, NULL, err.text);
		}
	}
}

void enter_begin(struct enforcer *e, size_t source, const struct owner *owner)
{
	struct enforcer_source *s = &e->sources[source];

	s->waiting = false;
	s->away = *owner;
	s->wants_entry = true;
	if (!s->elsewhere) { /* from now on its ports are none of ours */
		s->elsewhere = true;
		s->ports.count = 0;
		requests_ports_known(e, source);
	}
	start_next(e);
}

bool enter_ended(struct enforcer *e, pid_t pid)
{
	if (pid != e->enterer.pid)
		return false;
	channel_drain(e->enterer.channel);
	enforcer_drop_channel(&e->enterer);
	ev_timer_stop(e->loop, &e->enterer_patience);
	e->enterer.pid = 0;
	if (!e->enterer_answered)
		finish(e, NULL, "the process that went there ended without an answer");
	start_next(e);
	return true;
}

void enter_close(struct enforcer *e)
{
	struct error err = {0};

	for (size_t i = 0; i < e->nsources; i++) {
		enter_drop_guard(&e->sources[i]);
		e->sources[i].space = NULL;
	}
	close_entered(e);
	for (size_t i = 0; i < e->nspaces; i++) {
		if (e->start.flush_on_stop &&
		    space_record(e->spaces[i], NULL, 0, clock_now(), &err) < 0)
			log_error("enforcer", "%s", err.text);
		space_close(e->spaces[i]);
	}
	e->nspaces = 0;
}
