/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sockets jails: when a census is taken, and what is done with it.
 *
 * A watch is a sockets jail with its ports in one network namespace; a jail that covers services
 * here and in containers has several. While nobody connects nothing happens: the firewall's bell
 * rings at the first SYN, is re-armed, and a census follows; its report says when to come again, or
 * not at all. First the bell is armed again, then the sockets are listed: a SYN in between rings
 * again, a handshake under way is in the list.
 *
 * The port of a container's service on this host, before DNAT, is not known: its watches hear the
 * bell of any port, so a busy host costs them up to a census a second. That bell hears what passes
 * this host, which is so when all default gateways of the container are addresses of this host.
 * Where it is not so (macvlan, a bridge to the outer network), and where the kernel has no bell, a
 * census is taken each second.
 *
 * Offences go to the engine, which counts and bans as it does with log lines. Connections to close
 * are closed here, by the cookie of the census and in the namespace that it was taken in, never
 * those of the ignore list: for each of these another one is closed in its place.
 *
 * A census that fails is said once and tried again; nothing is closed then.
 */
#include "daemon/base/escape.h"
#include "daemon/enforcer/runner.h"
#include "daemon/enforcer/state.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING_DELAY_MS 100   /* from the first SYN to the census that it rings for */
#define RING_PAUSE_MS 250   /* and from a census to one that is rung for */
#define QUIET_PAUSE_MS 1000 /* between two censuses that found nothing due */
#define COST_SHARE 50       /* a census may take a 50th of the time between two, */
#define COST_SHARE_ALARM 10 /* or a 10th while descriptors run out */
#define PATIENCE_MS 30000   /* for the answer to a census */
#define EXHAUSTED_MS 10000  /* so long a service must be unable to accept */
#define EXHAUSTION_PAUSE_MS INT64_C(600000)
#define LOOK_FOR_PORTS_LEAST_S 1.
#define LOOK_FOR_PORTS_MOST_S 30.

static int64_t now_ms(void)
{
	return clock_now().mono_ns / CLOCK_MSEC_NS;
}

static const struct jail_conf *jail_of(const struct enforcer_watch *w)
{
	return &w->e->conf->jails[w->jail];
}

/* The slots that are in use, from *at on; NULL at the end. */
static struct enforcer_watch *next_watch(struct enforcer *e, size_t *at)
{
	while (*at < e->nwatches) {
		struct enforcer_watch *w = &e->watches[(*at)++];

		if (w->e)
			return w;
	}
	return NULL;
}

static uint64_t netns_of(const struct enforcer_watch *w)
{
	return w->space ? w->space->ino : 0;
}

static bool has_our_gateways(const struct enforcer *e, const struct space *space)
{
	for (size_t i = 0; i < space->gateways.count; i++) {
		struct ignore_hit hit;

		if (!ignore_check(e->ignore, &space->gateways.nets[i], IGNORE_ALL_JAILS, true,
				  clock_now().mono_ns, &hit) ||
		    hit.reason != IGNORE_OWN)
			return false;
	}
	return space->gateways.count;
}

static bool must_poll(const struct enforcer_watch *w)
{
	return w->e->bell_missing || (w->space && !w->space->behind_us);
}

/* A SYN from here on rings again. */
static void arm_bells(struct enforcer_watch *w)
{
	struct enforcer *e = w->e;

	w->unarmed = false;
	if (!e->firewall || must_poll(w))
		return;
	if (w->space) {
		w->unarmed = firewall_bell_arm(e->firewall, FIREWALL_ANY_PORT) < 0;
		return;
	}
	for (unsigned i = 0; i < w->ports.count; i++)
		if (w->ports.port[i].proto == IPPROTO_TCP)
			w->unarmed |= firewall_bell_arm(e->firewall, w->ports.port[i].number) < 0;
}

/* --- the next census -------------------------------------------------------------------------- */

static void schedule(struct enforcer_watch *w, int64_t due_ms);

/* It has been silent for too long: a new one is started when it has ended. */
static void give_up(struct enforcer *e)
{
	log_error("sockets", "no answer to a census: its process is ended");
	if (e->census.pid > 0)
		kill(e->census.pid, SIGKILL);
}

static void ask(struct enforcer_watch *w)
{
	struct enforcer *e = w->e;
	const struct jail_conf *j = jail_of(w);
	const struct sockets_conf *s = &j->sockets;
	struct prober_census q = {
		.watch = (uint32_t)(w - e->watches),
		.generation = w->generation,
		.netns = netns_of(w),
		.rule = {.limits = {.silent_ms = (uint32_t)s->silent_s * 1000,
				    .unanswered_ms = (uint32_t)s->unanswered_s * 1000,
				    .stalled_ms = (uint32_t)s->stalled_s * 1000,
				    .idle_ms = (uint32_t)s->idle_s * 1000,
				    .maxsilent = s->maxsilent,
				    .maxconns = s->maxconns,
				    .descriptors = s->descriptors},
			 .ipv4_prefix = j->ipv4_prefix,
			 .ipv6_prefix = j->ipv6_prefix},
		.raise = s->raise_nofile,
	};

	for (unsigned i = 0; i < w->ports.count && q.rule.nports < CENSUS_PORTS_MAX; i++)
		if (w->ports.port[i].proto == IPPROTO_TCP)
			q.rule.ports[q.rule.nports++] = w->ports.port[i].number;
	if (!q.rule.nports || !e->census.channel)
		return;
	arm_bells(w);
	if (channel_send(e->census.channel, PROBER_CENSUS, &q, 1,
			 w->space && !w->handed ? w->space->census_fd : -1) < 0) {
		schedule(w, now_ms() + QUIET_PAUSE_MS);
		return;
	}
	w->handed = w->space != NULL;
	w->asked = true;
	w->again = false;
	w->skipped = 0;
	w->due_ms = 0;
	schedule(w, now_ms() + PATIENCE_MS);
}

static void on_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct enforcer_watch *w = t->data;

	(void)loop;
	(void)revents;
	w->due_ms = 0;
	if (w->asked)
		give_up(w->e);
	else
		ask(w);
}

static void schedule(struct enforcer_watch *w, int64_t due_ms)
{
	int64_t wait_ms = due_ms - now_ms();

	if (w->due_ms && w->due_ms <= due_ms)
		return;
	w->due_ms = due_ms;
	ev_timer_stop(w->e->loop, &w->timer);
	ev_now_update(w->e->loop);
	ev_timer_set(&w->timer, wait_ms > 0 ? (double)wait_ms / 1e3 : 0., 0.);
	ev_timer_start(w->e->loop, &w->timer);
}

/* What a census costs bounds how often it is taken. */
static int64_t earliest_ms(const struct enforcer_watch *w)
{
	int64_t share = w->report.ncuts ? COST_SHARE_ALARM : COST_SHARE;

	return w->taken_ms + (int64_t)w->report.cost_us * share / 1000;
}

static void want(struct enforcer_watch *w, int64_t due_ms)
{
	if (w->asked) {
		w->again = true;
		return;
	}
	schedule(w, due_ms > earliest_ms(w) ? due_ms : earliest_ms(w));
}

/* A ring shortly after a census waits: a flood of SYNs costs four censuses a second. */
static void rung(struct enforcer_watch *w)
{
	int64_t due_ms = now_ms() + RING_DELAY_MS;
	/* The bell of any port rings for others, too. */
	int64_t pause_ms = w->space ? QUIET_PAUSE_MS : RING_PAUSE_MS;

	if (w->taken_ms && due_ms < w->taken_ms + pause_ms)
		due_ms = w->taken_ms + pause_ms;
	want(w, due_ms);
}

static bool hears(const struct enforcer_watch *w, int port)
{
	if (port == FIREWALL_ALL_BELLS)
		return true;
	if (port == FIREWALL_ANY_PORT)
		return w->space;
	return !w->space && portset_has(&w->ports, IPPROTO_TCP, (uint16_t)port);
}

void watches_ring(struct enforcer *e, int port)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at)))
		if (hears(w, port))
			rung(w);
}

/* --- what the engine is told ------------------------------------------------------------------ */

/* While a reload is under way the engine has other numbers; what is not told now is found again,
 * because the watches start afresh then. */
static bool engine_listens(const struct enforcer *e)
{
	return e->engine.channel && !e->conf_before;
}

static void tell_offence(const struct enforcer_watch *w, const struct protocol_offence *offence)
{
	if (engine_listens(w->e))
		channel_send(w->e->engine.channel, PROTOCOL_OFFENCE, offence, 1, -1);
}

static void tell_census(const struct enforcer_watch *w)
{
	struct protocol_census m = {.jail = w->jail,
				    .censuses = w->censuses,
				    .cuts = w->cuts,
				    .polls = must_poll(w),
				    .netns = netns_of(w),
				    .report = w->report};

	for (unsigned i = 0; i < w->ports.count && i < PROTOCOL_PORTS_MAX; i++)
		m.ports[m.nports++] = w->ports.port[i].number;
	if (engine_listens(w->e))
		channel_send(w->e->engine.channel, PROTOCOL_CENSUS, &m, 1, -1);
}

static void answer_looks(struct enforcer *e)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at)))
		if (w->asked)
			return;
	if (e->look_serial && e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_LOOKED,
			     &(struct protocol_ping){e->look_serial}, 1, -1);
	e->look_serial = 0;
}

void watches_look(struct enforcer *e, uint64_t serial)
{
	struct enforcer_watch *w;
	size_t at = 0;

	if (serial)
		e->look_serial = serial;
	while ((w = next_watch(e, &at))) {
		if (w->asked)
			w->again = true;
		else if (!serial)
			want(w, now_ms());
		else
			ask(w);
	}
	answer_looks(e);
}

/* --- the prober's answers --------------------------------------------------------------------- */

static struct enforcer_watch *watch_of(struct enforcer *e, uint32_t watch, uint32_t generation)
{
	struct enforcer_watch *w = watch < e->nwatches ? &e->watches[watch] : NULL;

	return w && w->e && w->generation == generation ? w : NULL;
}

void watches_offences(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct prober_offence *list = entries;

	(void)fds;
	for (uint32_t i = 0; i < count; i++) {
		const struct census_offence *o = &list[i].offence;
		struct enforcer_watch *w = watch_of(e, list[i].watch, list[i].generation);
		struct protocol_offence told = {.host = o->host,
						.kind = o->kind,
						.age_ms = o->age_ms,
						.held = o->held,
						.pport = o->pport,
						.lport = o->lport};

		if (!w)
			return;
		told.jail = w->jail;
		tell_offence(w, &told);
	}
}

struct cutting {
	struct enforcer_watch *w;
	struct sock_kill kills[SOCKDIAG_BATCH];
	struct protocol_offence offences[SOCKDIAG_BATCH];
	bool offends[SOCKDIAG_BATCH];
	uint32_t n;
};

static void close_them(struct cutting *c)
{
	struct enforcer *e = c->w->e;
	struct reaper *reaper = c->w->space ? c->w->space->reaper : e->reaper;
	struct sockdiag_killed killed = {0};
	int r;

	if (!c->n)
		return;
	r = reaper_destroy(reaper, c->kills, c->n, &killed);
	for (uint32_t i = 0; r == 0 && i < c->n; i++)
		if (c->offends[i] && !c->kills[i].error)
			tell_offence(c->w, &c->offences[i]);
	if ((r < 0 || killed.failed) && log_gate_open(&e->cut_gate, clock_now().mono_ns, 1, 60))
		log_warning("sockets", "cannot close connections: %s",
			    error_name(r < 0 ? r : killed.error));
	c->w->cuts += killed.destroyed;
	c->n = 0;
}

static bool is_spared(const struct enforcer_watch *w, const struct addr *host)
{
	return ignore_check(w->e->ignore, host, w->jail, false, clock_now().mono_ns, NULL);
}

static void one_cut(struct cutting *c, const struct census_cut *cut)
{
	struct enforcer_watch *w = c->w;

	if (cut->spare && !w->skipped)
		return;
	if (is_spared(w, &cut->host)) {
		w->skipped += !cut->spare;
		return;
	}
	w->skipped -= cut->spare;
	c->kills[c->n] = cut->kill;
	c->offends[c->n] = cut->offence;
	c->offences[c->n++] = (struct protocol_offence){.host = cut->host,
							.jail = w->jail,
							.kind = OFFENCE_CUT,
							.age_ms = cut->age_ms,
							.held = cut->held,
							.pport = cut->pport,
							.lport = cut->lport};
	if (c->n == SOCKDIAG_BATCH)
		close_them(c);
}

void watches_cuts(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct prober_cut *list = entries;
	struct cutting c = {.w = watch_of(e, list[0].watch, list[0].generation)};

	(void)fds;
	if (!c.w || !e->reaper || !jail_of(c.w)->kill)
		return;
	for (uint32_t i = 0; i < count; i++)
		one_cut(&c, &list[i].cut);
	close_them(&c);
}

/* --- what a report leads to ------------------------------------------------------------------- */

static const char *raise_text(int error)
{
	switch (error) {
	case -ERANGE:
		return "that is its hard limit";
	case -EDOM:
		return "it uses select(2), which breaks beyond descriptor 1023";
	case -EPERM:
		return "another user's process needs CAP_SYS_RESOURCE";
	default:
		return error_name(error);
	}
}

/* The prober may lack the right where this process, by its uid, has it. */
static void lift_limit(struct enforcer_watch *w)
{
	const struct census_report *r = &w->report;
	struct budget_task task = {.pid = r->pid, .start_time = r->start_time};
	uint64_t soft = 0;
	int raised = r->raised;
	char comm[ESCAPE_MAX_GROWTH * PROC_COMM_BYTES + 4];

	if (!raised)
		return;
	if (raised == -EPERM)
		raised = budget_raise(&task, jail_of(w)->sockets.raise_nofile, &soft);
	escape_text(comm, sizeof comm, slice_str(r->comm));
	if (raised >= 0)
		log_notice("sockets", "[%s] the limit of open files of %s (pid %d) is lifted",
			   jail_of(w)->name, comm, r->pid);
	else if (raised != w->raise_said)
		log_warning("sockets", "[%s] the limit of open files of %s (pid %d) stays %llu: %s",
			    jail_of(w)->name, comm, r->pid, (unsigned long long)r->soft,
			    raise_text(raised));
	w->raise_said = raised;
}

static void run_last_resort(struct enforcer_watch *w)
{
	struct enforcer *e = w->e;
	const struct jail_conf *j = jail_of(w);
	struct protocol_run run = {.jail = w->jail,
				   .action = (uint16_t)(j->sockets.exhaustion_action - 1),
				   .event = RUNNER_EXHAUSTION,
				   .nvalues = 1};
	const struct runner_value value = {RUNNER_JAIL, slice_str(j->name)};
	char message[sizeof run + 512];
	ssize_t n =
		runner_values_pack(&value, 1, message + sizeof run, sizeof message - sizeof run);

	if (n < 0 || !e->runner.channel || !commands_to_runner(e, e->conf, &run)) {
		e->runner_dropped++;
		return;
	}
	memcpy(message, &run, sizeof run);
	if (channel_send(e->runner.channel, PROTOCOL_RUN, message,
			 (uint32_t)(sizeof run + (size_t)n), -1) < 0)
		e->runner_dropped++;
}

/* Nothing else helped: it still has no descriptor for those who wait. */
static void watch_exhaustion(struct enforcer_watch *w)
{
	int64_t now = now_ms();

	if (!w->report.full) {
		w->full_since_ms = 0;
		return;
	}
	if (!w->full_since_ms)
		w->full_since_ms = now;
	if (!jail_of(w)->sockets.exhaustion_action || now - w->full_since_ms < EXHAUSTED_MS ||
	    (w->e->resorted_ms && now - w->e->resorted_ms < EXHAUSTION_PAUSE_MS))
		return;
	w->e->resorted_ms = now;
	log_warning("sockets", "[%s] the service has accepted nobody for %d s: on_exhaustion runs",
		    jail_of(w)->name, EXHAUSTED_MS / 1000);
	run_last_resort(w);
}

static void say_state(struct enforcer_watch *w)
{
	const struct census_report *r = &w->report;

	if (r->error != w->error_said) {
		if (r->error)
			log_warning("sockets",
				    "[%s] cannot list the sockets: %s; it is tried again",
				    jail_of(w)->name, error_name(r->error));
		w->error_said = r->error;
	}
	if (r->error)
		return;
	if ((r->pid == 0) != w->nobody_said) {
		w->nobody_said = r->pid == 0;
		if (w->nobody_said)
			log_notice("sockets", "[%s] %s", jail_of(w)->name,
				   r->denied ? "the service's process cannot be looked into"
					     : "nobody listens on its ports yet");
	}
	if (r->alarm != w->alarm_said) {
		w->alarm_said = r->alarm;
		log_notice("sockets",
			   r->alarm
				   ? "[%s] %u of %llu descriptors in use: limits are short"
				   : "[%s] %u of %llu descriptors in use: limits are as configured",
			   jail_of(w)->name, r->fds, (unsigned long long)r->soft);
	}
	if (r->beyond && !w->beyond_said)
		log_warning("sockets", "[%s] %u connections are too many to judge: %u are left out",
			    jail_of(w)->name, r->sockets, r->beyond);
	w->beyond_said = r->beyond != 0;
}

/* A service that is restarted may listen elsewhere. */
static void look_for_moved_service(struct enforcer *e, const struct census_report *r)
{
	if (r->error || r->pid)
		return;
	for (size_t i = 0; i < e->nsources; i++)
		if (e->sources[i].found && !owner_alive(&e->sources[i].last))
			service_look_up(e, i, CLOCK_SECOND_NS);
}

static void tell_firewall(struct enforcer *e);

void watches_report(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct prober_report *m = entries;
	struct enforcer_watch *w = watch_of(e, m->watch, m->generation);
	uint32_t next_ms = m->report.next_ms;

	(void)count;
	(void)fds;
	if (!w || !w->asked)
		return;
	w->asked = false;
	w->due_ms = 0;
	ev_timer_stop(e->loop, &w->timer);
	w->report = m->report;
	w->handed = w->handed && !m->report.error; /* the prober may have closed it */
	w->taken_ms = now_ms();
	w->censuses++;
	say_state(w);
	lift_limit(w);
	watch_exhaustion(w);
	if (w->report.pid && w->report.single != w->single) {
		w->single = w->report.single;
		tell_firewall(e);
	}
	look_for_moved_service(e, &w->report);
	tell_census(w);
	if (w->full_since_ms && next_ms > QUIET_PAUSE_MS)
		next_ms = QUIET_PAUSE_MS;
	if ((must_poll(w) || w->unarmed) && next_ms > QUIET_PAUSE_MS)
		next_ms = QUIET_PAUSE_MS;
	if (next_ms != VERDICT_NEVER_MS)
		want(w, w->taken_ms + next_ms);
	if (w->again)
		rung(w);
	w->again = false;
	answer_looks(e);
}

void watches_census_gone(struct enforcer *e)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at))) {
		w->asked = w->handed = false;
		w->due_ms = 0;
		want(w, now_ms() + QUIET_PAUSE_MS);
	}
	answer_looks(e);
}

/* --- ports ------------------------------------------------------------------------------------ */

/* The log's writer is not there (yet), or was elsewhere and has ended. */
static bool is_missing(const struct enforcer *e, const struct enforcer_source *s)
{
	return s->opened && service_is_watched(e, s) && (s->lost || !enter_writer_lives(s));
}

/* Ports that are not found yet are looked for again, at growing intervals. */
static void look_for_ports(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct enforcer *e = t->data;

	(void)revents;
	for (size_t i = 0; i < e->nsources; i++)
		if (!e->sources[i].found || is_missing(e, &e->sources[i]))
			service_look_up(e, i, 0);
	e->port_wait_s = e->port_wait_s * 2 < LOOK_FOR_PORTS_MOST_S ? e->port_wait_s * 2
								    : LOOK_FOR_PORTS_MOST_S;
	ev_timer_set(t, e->port_wait_s, 0.);
	ev_timer_start(loop, t);
}

/* A jail without any port, or a service that is not there. */
static bool are_missing(struct enforcer *e)
{
	bool served[PROBER_WATCHES_MAX] = {false};
	struct enforcer_watch *w, *other;
	size_t at = 0, to;

	while ((w = next_watch(e, &at)))
		for (to = 0; (other = next_watch(e, &to));)
			served[w - e->watches] |= other->jail == w->jail && other->ports.count;
	for (at = 0; (w = next_watch(e, &at));)
		if (!served[w - e->watches])
			return true;
	for (size_t i = 0; i < e->nsources; i++)
		if (is_missing(e, &e->sources[i]))
			return true;
	return false;
}

static void arm_look_for_ports(struct enforcer *e)
{
	bool missing = are_missing(e);

	if (missing == (bool)ev_is_active(&e->port_timer))
		return;
	ev_timer_stop(e->loop, &e->port_timer);
	e->port_wait_s = LOOK_FOR_PORTS_LEAST_S;
	ev_timer_set(&e->port_timer, e->port_wait_s, 0.);
	if (missing)
		ev_timer_start(e->loop, &e->port_timer);
}

struct listening {
	bool any, single;
};

static void take_listener(void *ctx, const struct sock_info *sock)
{
	struct listening *l = ctx;

	l->any = true;
	l->single |= !addr_is_unspecified(&sock->local);
}

/* A port without a listener counts as bound to one address: the safer rules are for these. */
static bool is_single(struct sockdiag *sd, uint16_t port)
{
	struct listening l = {0};

	if (sd)
		(void)sockdiag_each(sd, AF_UNSPEC, SOCK_LISTENING, port, take_listener, &l);
	return l.single || !l.any;
}

struct port_list {
	struct firewall_port ports[FIREWALL_PORTS_MAX];
	size_t n;
	bool full;
};

static void list_port(struct port_list *list, uint16_t number, uint8_t flags)
{
	size_t at = 0;

	while (at < list->n && list->ports[at].number != number)
		at++;
	if (at == FIREWALL_PORTS_MAX) {
		list->full = true;
		return;
	}
	list->n += at == list->n;
	list->ports[at] = (struct firewall_port){
		number, (uint8_t)(flags | (at < list->n ? list->ports[at].flags : 0))};
}

static void list_ports(struct port_list *list, const struct portset *ports, uint8_t flags)
{
	for (unsigned i = 0; i < ports->count; i++)
		if (ports->port[i].proto == IPPROTO_TCP)
			list_port(list, ports->port[i].number, flags);
}

static bool wants_record(const struct jail_conf *j)
{
	return j->backend != BACKEND_SOCKETS && j->witness != WITNESS_NO &&
	       (j->port_auto || conf_count_ports(j) <= CONF_SCOPE_PORTS);
}

/* For the witness, in one namespace. */
static void list_recorded(struct enforcer *e, struct space *space, struct port_list *list)
{
	struct sockdiag *sd = witness_sockets(e, space);

	for (size_t i = 0; i < e->conf->njails; i++) {
		struct portset ports = requests_ports(e, (uint16_t)i, space);

		if (wants_record(&e->conf->jails[i]))
			list_ports(list, &ports, FIREWALL_RECORD);
	}
	for (size_t i = 0; i < list->n; i++) {
		if (!(list->ports[i].flags & FIREWALL_RECORD) ||
		    !is_single(sd, list->ports[i].number))
			continue;
		list->ports[i].flags |= FIREWALL_SINGLE;
		e->single = true;
	}
	if (list->full && log_gate_open(&e->record_gate, clock_now().mono_ns, 1, 3600))
		log_warning("sockets",
			    "more than %d protected ports: the others have neither bell nor record",
			    FIREWALL_PORTS_MAX);
}

/* True when a watch is to hear the bell of any port. Who heard it and no longer does is looked at.
 */
static bool place_spaces(struct enforcer *e)
{
	struct enforcer_watch *w;
	bool any = false;
	size_t at = 0;

	while ((w = next_watch(e, &at))) {
		bool behind_us = w->space && has_our_gateways(e, w->space);

		if (!w->space || !w->ports.count)
			continue;
		if (w->space->behind_us && !behind_us)
			want(w, now_ms());
		any |= behind_us;
	}
	for (size_t i = 0; i < e->nspaces; i++)
		e->spaces[i]->behind_us = has_our_gateways(e, e->spaces[i]);
	return any;
}

/* Of all spaces there is one bell. */
static void list_bells(struct enforcer *e, struct port_list *list)
{
	struct enforcer_watch *w;
	size_t at = 0;

	if (place_spaces(e))
		list->ports[list->n++] = (struct firewall_port){FIREWALL_ANY_PORT, FIREWALL_BELL};
	while ((w = next_watch(e, &at)))
		if (!w->space)
			list_ports(list, &w->ports, FIREWALL_BELL);
}

static void tell_spaces(struct enforcer *e)
{
	for (size_t i = 0; i < e->nspaces; i++) {
		struct port_list list = {.n = 0};
		struct space *space = e->spaces[i];
		int before = space->record_error;
		struct error err = {0};

		list_recorded(e, space, &list);
		if (space_record(space, list.ports, list.n, clock_now(), &err) < 0 &&
		    space->record_error != before)
			log_warning("sockets", "network namespace %llu: %s",
				    (unsigned long long)space->ino, err.text);
	}
}

/* Which ports ring, and which are recorded for the witness. */
static void tell_firewall(struct enforcer *e)
{
	struct port_list list = {.n = 0};
	struct error err = {0};
	int r;

	e->bell_missing = true;
	e->single = false;
	if (!e->firewall || !e->settled)
		return;
	list_bells(e, &list);
	list_recorded(e, NULL, &list);
	r = firewall_watch_ports(e->firewall, list.ports, list.n, clock_now(), &err);
	if (r < 0 && log_gate_open(&e->record_gate, clock_now().mono_ns, 1, 3600))
		log_warning("sockets", "neither bell nor record: %s", err.text);
	firewall_record(e->firewall, clock_now(), &e->record);
	e->bell_missing = r < 0 || !e->record.bell;
	tell_spaces(e);
	enforcer_say_health(e);
}

static void say_full(struct enforcer *e, uint16_t jail)
{
	if (!e->watches_full_said)
		log_warning("sockets",
			    "[%s] more than %u sockets jails and network namespaces: left out",
			    e->conf->jails[jail].name, PROBER_WATCHES_MAX);
	e->watches_full_said = true;
}

/* NULL when there are too many. */
static struct enforcer_watch *open_watch(struct enforcer *e, uint16_t jail, struct space *space)
{
	size_t at = 0;

	while (at < e->nwatches && e->watches[at].e)
		at++;
	if (at == PROBER_WATCHES_MAX) {
		say_full(e, jail);
		return NULL;
	}
	e->watches[at] = (struct enforcer_watch){
		.e = e, .jail = jail, .space = space, .generation = ++e->watch_generation};
	ev_timer_init(&e->watches[at].timer, on_timer, 0., 0.);
	e->watches[at].timer.data = &e->watches[at];
	if (at == e->nwatches)
		e->nwatches++;
	return &e->watches[at];
}

/* The prober's socket keeps the namespace alive as well. */
static void close_watch(struct enforcer_watch *w)
{
	struct enforcer *e = w->e;
	const struct prober_census end = {.watch = (uint32_t)(w - e->watches)};

	ev_timer_stop(e->loop, &w->timer);
	if (w->handed && e->census.channel)
		channel_send(e->census.channel, PROBER_CENSUS, &end, 1, -1);
	w->ports.count = 0;
	tell_census(w);
	w->e = NULL;
	w->asked = false;
}

void watches_leave(struct enforcer *e, const struct space *space)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at)))
		if (w->space == space)
			close_watch(w);
	answer_looks(e);
}

static struct enforcer_watch *find_watch(struct enforcer *e, uint16_t jail,
					 const struct space *space)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at)))
		if (w->jail == jail && w->space == space)
			return w;
	return NULL;
}

/* A watch for each namespace in which the jail has ports. True when something changed. */
static bool watch_in(struct enforcer *e, uint16_t jail, struct space *space)
{
	struct portset ports = requests_ports(e, jail, space);
	struct enforcer_watch *w = find_watch(e, jail, space);

	if (!w && !ports.count)
		return false;
	if (!w)
		w = open_watch(e, jail, space);
	if (!w || portset_same(&ports, &w->ports))
		return false;
	if (space && !ports.count) {
		close_watch(w);
		return true;
	}
	w->ports = ports;
	if (ports.count)
		want(w, now_ms());
	else
		tell_census(w);
	return true;
}

void watches_ports(struct enforcer *e)
{
	for (size_t i = 0; i < e->conf->njails; i++) {
		if (e->conf->jails[i].backend != BACKEND_SOCKETS)
			continue;
		watch_in(e, (uint16_t)i, NULL);
		for (size_t k = 0; k < e->nspaces; k++)
			watch_in(e, (uint16_t)i, e->spaces[k]);
	}
	tell_firewall(e);
	arm_look_for_ports(e);
	witness_settle(e);
}

/* --- life ------------------------------------------------------------------------------------- */

static void stop_timers(struct enforcer *e)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at)))
		ev_timer_stop(e->loop, &w->timer);
}

/* The engine is a new one: what the one before was told it does not know. */
void watches_afresh(struct enforcer *e)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at))) {
		w->generation = ++e->watch_generation;
		w->asked = w->again = w->handed = false;
		w->due_ms = 0;
		ev_timer_stop(e->loop, &w->timer);
		if (w->ports.count)
			want(w, now_ms());
	}
}

/* All of a configuration before. */
static void close_all(struct enforcer *e)
{
	struct enforcer_watch *w;
	size_t at = 0;

	while ((w = next_watch(e, &at)))
		close_watch(w);
	e->nwatches = 0;
}

int watches_set_up(struct enforcer *e)
{
	if (!e->port_timer.data) {
		ev_timer_init(&e->port_timer, look_for_ports, 0., 0.);
		e->port_timer.data = e;
	}
	if (!e->watches)
		e->watches = calloc(PROBER_WATCHES_MAX, sizeof *e->watches);
	if (!e->watches)
		return -ENOMEM;
	close_all(e);
	e->watches_full_said = false;
	for (size_t i = 0; i < e->conf->njails; i++)
		if (e->conf->jails[i].backend == BACKEND_SOCKETS)
			open_watch(e, (uint16_t)i, NULL);
	enforcer_start_census(e);
	watches_ports(e);
	answer_looks(e);
	return 0;
}

void watches_close(struct enforcer *e)
{
	stop_timers(e);
	free(e->watches);
	e->watches = NULL;
	e->nwatches = 0;
}
