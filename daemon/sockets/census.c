/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The census: see census.h. Processes and sockets that vanish meanwhile are left out; a service
 * that restarts is looked for again. A dump that fails is said in the report, with nothing judged.
 */
#include "daemon/sockets/census.h"
#include "daemon/sockets/netstat.h"
#include "daemon/sockets/waits.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FIND_AGAIN_MS 1000 /* a service that was not found is not looked for more often */
#define STATES (SOCK_CONNECTED | SOCK_STATE(TCP_TIME_WAIT))
#define SMALL 4096u /* tables of up to so many connections are never given back */

/* A connection as the dump shows it. */
struct conn {
	struct inet_diag_sockid id;
	uint64_t cookie, received, acked;
	struct addr peer;
	uint32_t recv_ms, sent_ms, ack_ms, inode, rqueue, wqueue;
	uint16_t pport, lport;
	uint8_t state, diag_family;
	bool has_info;
};

/* What is remembered of it. Times are of the caller's clock. */
struct past {
	uint64_t cookie;
	uint64_t received; /* when the request began */
	uint64_t acked;    /* when the answer got on last */
	int64_t began_ms;  /* 0: no request yet */
	int64_t stuck_ms;  /* 0: nothing to send */
	int64_t looked_ms; /* at the server's threads; 0: never */
	uint8_t wait;      /* enum wait_kind, when it was looked */
	uint8_t told;
};

struct memory {
	struct past *list;
	uint32_t *slots, nslots, n;
};

struct census {
	struct conn *conns;
	struct held *held;
	uint32_t n, room, beyond;
	struct memory now, before;
	struct budget budget;
	bool found;
	int64_t looked_for_ms;
	struct waits *waits;
	bool waits_fresh; /* taken in this census */
	struct verdict verdict;
	struct verdict_alarm alarm;
	int64_t last_ms;
	uint32_t last_fds;
	bool out_of_memory;
};

struct census *census_new(void)
{
	struct census *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->waits = waits_new();
	c->verdict.seed = hash_seed_new();
	if (!c->waits) {
		free(c);
		return NULL;
	}
	return c;
}

static void forget(struct memory *m)
{
	free(m->list);
	free(m->slots);
	*m = (struct memory){0};
}

void census_free(struct census *c)
{
	if (!c)
		return;
	forget(&c->now);
	forget(&c->before);
	free(c->conns);
	free(c->held);
	waits_free(c->waits);
	verdict_fini(&c->verdict);
	free(c);
}

/* --- the dump --------------------------------------------------------------------------------- */

static void take_conn(void *ctx, const struct sock_info *s)
{
	struct census *c = ctx;
	struct conn *grown;

	if (c->n == CENSUS_SOCKETS_MAX) {
		c->beyond++;
		return;
	}
	if (c->n == c->room) {
		grown = realloc(c->conns, (c->room ? c->room * 2 : 256) * sizeof *grown);
		if (!grown) {
			c->out_of_memory = true;
			return;
		}
		c->conns = grown;
		c->room = c->room ? c->room * 2 : 256;
	}
	c->conns[c->n++] = (struct conn){.id = s->id,
					 .cookie = s->cookie,
					 .received = s->bytes_received,
					 .acked = s->bytes_acked,
					 .peer = s->peer,
					 .recv_ms = s->last_data_recv_ms,
					 .sent_ms = s->last_data_sent_ms,
					 .ack_ms = s->last_ack_recv_ms,
					 .inode = s->inode,
					 .rqueue = s->rqueue,
					 .wqueue = s->wqueue,
					 .pport = s->pport,
					 .lport = s->lport,
					 .state = s->state,
					 .diag_family = s->diag_family,
					 .has_info = s->has_tcp_info};
}

/* What a burst has left behind is given back. */
static void shrink(struct census *c)
{
	struct conn *smaller;

	if (c->room <= SMALL || c->n > c->room / 8)
		return;
	smaller = realloc(c->conns, c->room / 4 * sizeof *smaller);
	if (!smaller)
		return;
	c->conns = smaller;
	c->room /= 4;
}

static int dump(struct census *c, const struct census_rule *rule, struct sockdiag *sd)
{
	c->n = c->beyond = 0;
	sd->want_tcp_info = true;
	for (uint32_t i = 0; i < rule->nports; i++) {
		int r = sockdiag_each(sd, AF_UNSPEC, STATES, rule->ports[i], take_conn, c);

		if (r < 0)
			return r;
	}
	shrink(c);
	return 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

static uint32_t slot_of(const struct memory *m, uint64_t cookie)
{
	uint32_t at = (uint32_t)(cookie * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (m->nslots - 1);

	while (m->slots[at] && m->list[m->slots[at] - 1].cookie != cookie)
		at = (at + 1) & (m->nslots - 1);
	return at;
}

static const struct past *recall(const struct memory *m, uint64_t cookie)
{
	uint32_t at = m->nslots ? m->slots[slot_of(m, cookie)] : 0;

	return at ? &m->list[at - 1] : NULL;
}

static int make_memory(struct memory *m, uint32_t n)
{
	uint32_t slots = 64;

	while (slots < 2 * n)
		slots *= 2;
	forget(m);
	m->list = calloc(n ? n : 1, sizeof *m->list);
	m->slots = calloc(slots, sizeof *m->slots);
	if (!m->list || !m->slots) {
		forget(m);
		return -ENOMEM;
	}
	m->nslots = slots;
	return 0;
}

/* When this request began, and what was there then: see census.h. */
static void follow_request(struct past *p, const struct conn *s, int64_t now_ms)
{
	int64_t passed_ms;

	if (!s->received || s->acked >= CENSUS_ANSWER_BYTES) {
		p->began_ms = 0;
		return;
	}
	if (!p->began_ms) {
		p->began_ms = now_ms - s->recv_ms;
		p->received = s->received;
		return;
	}
	passed_ms = now_ms - p->began_ms;
	if (passed_ms >= 1000 &&
	    (s->received - p->received) * 1000 >= (uint64_t)passed_ms * CENSUS_RATE) {
		p->began_ms = now_ms;
		p->received = s->received;
	}
}

/* Since when the answer does not get on. */
static void follow_answer(struct past *p, const struct conn *s, int64_t now_ms)
{
	int64_t passed_ms;

	if (!s->wqueue) {
		p->stuck_ms = 0;
		return;
	}
	if (!p->stuck_ms) {
		p->stuck_ms = now_ms - s->sent_ms;
		p->acked = s->acked;
		return;
	}
	passed_ms = now_ms - p->stuck_ms;
	if (s->acked > p->acked &&
	    (s->acked - p->acked) * 1000 >= (uint64_t)passed_ms * CENSUS_RATE) {
		p->stuck_ms = now_ms;
		p->acked = s->acked;
	}
}

/* A dump that was cut and repeated shows a connection again: the first of them is kept. */
static int remember(struct census *c, int64_t now_ms)
{
	struct memory swap = c->before;
	uint32_t kept = 0;
	int r;

	c->before = c->now;
	c->now = swap;
	r = make_memory(&c->now, c->n);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < c->n; i++) {
		const struct conn s = c->conns[i];
		uint32_t at = slot_of(&c->now, s.cookie);
		const struct past *old = recall(&c->before, s.cookie);
		struct past *p = &c->now.list[kept];

		if (c->now.slots[at])
			continue;
		*p = old ? *old : (struct past){.cookie = s.cookie};
		if (s.has_info) {
			follow_request(p, &s, now_ms);
			follow_answer(p, &s, now_ms);
		}
		c->conns[kept++] = s;
		c->now.slots[at] = kept;
	}
	c->n = c->now.n = kept;
	forget(&c->before);
	return 0;
}

/* --- the service ------------------------------------------------------------------------------ */

static void look_for(struct census *c, const struct census_rule *rule, struct sockdiag *sd,
		     int64_t now_ms)
{
	if (c->looked_for_ms && now_ms - c->looked_for_ms < FIND_AGAIN_MS)
		return;
	c->looked_for_ms = now_ms;
	c->found = budget_find(sd, rule->ports, rule->nports, &c->budget) == 0;
}

static void count_budget(struct census *c, const struct census_rule *rule, struct sockdiag *sd,
			 int64_t now_ms)
{
	if (c->found && (budget_listen_queues(&c->budget, sd, rule->ports, rule->nports) < 0 ||
			 budget_read(&c->budget) < 0)) {
		c->found = false;
		c->looked_for_ms = 0;
	}
	if (!c->found)
		look_for(c, rule, sd, now_ms);
	if (!c->found)
		c->budget = (struct budget){.denied = c->budget.denied};
}

static uint32_t unaccepted(const struct census *c)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < c->n; i++)
		count += !c->conns[i].inode && (c->conns[i].state == TCP_ESTABLISHED ||
						c->conns[i].state == TCP_CLOSE_WAIT);
	return count;
}

/* Somebody waits for accept() longer than a server that works lets him. */
static bool is_starved(const struct census *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (!c->conns[i].inode && c->conns[i].state == TCP_ESTABLISHED &&
		    c->conns[i].recv_ms >= VERDICT_STARVED_MS)
			return true;
	return false;
}

/* Each process with its share of the connections that wait for accept(). */
static uint32_t tasks_of(const struct census *c, struct verdict_task tasks[VERDICT_TASKS_MAX])
{
	uint32_t n = c->budget.ntasks, share;

	_Static_assert(BUDGET_TASKS_MAX <= VERDICT_TASKS_MAX, "each process has its place");
	if (!n)
		return 0;
	share = unaccepted(c) / n;
	for (uint32_t i = 0; i < n; i++)
		tasks[i] = (struct verdict_task){.limit = c->budget.tasks[i].soft,
						 .fds = c->budget.tasks[i].fds + share};
	return n;
}

/* --- classes ---------------------------------------------------------------------------------- */

static bool is_answered(const struct conn *s)
{
	return s->acked >= CENSUS_ANSWER_BYTES;
}

static bool is_busy(const struct conn *s)
{
	return is_answered(s) && s->recv_ms < CENSUS_BUSY_MS && s->sent_ms < CENSUS_BUSY_MS;
}

/* Received and read, nothing to send: only the server's threads can tell what it waits for. */
static bool is_open_question(const struct conn *s)
{
	return s->state == TCP_ESTABLISHED && s->has_info && s->received && !s->wqueue &&
	       !s->rqueue && s->inode && !is_busy(s);
}

static uint32_t lasted(int64_t since_ms, int64_t now_ms)
{
	int64_t passed = since_ms && now_ms > since_ms ? now_ms - since_ms : 0;

	return passed < UINT32_MAX ? (uint32_t)passed : UINT32_MAX - 1;
}

static uint32_t quiet_ms(const struct conn *s)
{
	return s->recv_ms < s->sent_ms ? s->recv_ms : s->sent_ms;
}

/* It still sends, long after its request began: an event loop with a whole request in hand would
 * see nothing more. */
static bool drips(const struct conn *s, uint32_t age_ms, uint32_t limit_ms)
{
	return age_ms >= limit_ms && s->recv_ms <= age_ms / 4;
}

static enum held_class by_wait(const struct census *c, const struct conn *s, const struct past *p,
			       uint32_t age_ms)
{
	bool client = p->wait == WAIT_CLIENT;

	if (!p->looked_ms || p->wait == WAIT_WORKS || p->wait == WAIT_SENDING)
		return HELD_WORKS;
	if (is_answered(s))
		return client || s->sent_ms <= s->recv_ms ? HELD_IDLE : HELD_UNKNOWN;
	return client || drips(s, age_ms, c->verdict.unanswered_ms) ? HELD_UNFINISHED
								    : HELD_UNKNOWN;
}

/* A client that does not read still acknowledges the probes of its window; one that has gone to
 * sleep, or lost its network, says nothing at all. */
static bool has_vanished(const struct conn *s, uint32_t stuck_ms)
{
	return stuck_ms >= VERDICT_LEAST_MS && s->ack_ms + 1000u >= stuck_ms;
}

static enum held_class established(const struct census *c, const struct conn *s,
				   const struct past *p, int64_t now_ms, uint32_t *ret_age_ms)
{
	*ret_age_ms = s->recv_ms;
	if (!s->has_info)
		return HELD_WORKS;
	if (!s->received)
		return HELD_SILENT;
	if (s->wqueue) {
		*ret_age_ms = lasted(p->stuck_ms, now_ms);
		return has_vanished(s, *ret_age_ms) ? HELD_UNKNOWN : HELD_STALLED;
	}
	if (is_busy(s)) {
		*ret_age_ms = quiet_ms(s);
		return HELD_BUSY;
	}
	if (!is_open_question(s))
		return HELD_WORKS;
	*ret_age_ms = is_answered(s) ? quiet_ms(s) : lasted(p->began_ms, now_ms);
	return by_wait(c, s, p, *ret_age_ms);
}

static enum held_class class_of(const struct census *c, const struct conn *s, const struct past *p,
				int64_t now_ms, uint32_t *ret_age_ms)
{
	*ret_age_ms = 0;
	switch (s->state) {
	case TCP_ESTABLISHED:
		return established(c, s, p, now_ms, ret_age_ms);
	case TCP_SYN_RECV:
		return HELD_HALF_OPEN;
	case TCP_TIME_WAIT:
		return HELD_DONE;
	case TCP_CLOSE_WAIT:
		return HELD_WORKS; /* the client has gone, the server has yet to notice */
	default:
		return s->inode ? HELD_WORKS : HELD_CLOSING;
	}
}

static uint16_t task_of(const struct census *c, const struct conn *s)
{
	pid_t pid = 0;

	if (!s->inode)
		return VERDICT_NO_TASK;
	if (c->budget.ntasks > 1 && c->waits_fresh) {
		waits_of(c->waits, s->inode, &pid);
		for (uint32_t i = 0; pid && i < c->budget.ntasks; i++)
			if (c->budget.tasks[i].pid == pid)
				return (uint16_t)i;
	}
	return 0;
}

/* --- the server's threads --------------------------------------------------------------------- */

static uint32_t look_again_ms(const struct census *c)
{
	uint32_t quarter = c->verdict.unanswered_ms / 4;

	return quarter > 1000 ? quarter : 1000;
}

static bool wants_look(const struct census *c, const struct conn *s, const struct past *p,
		       int64_t now_ms)
{
	return is_open_question(s) && !is_answered(s) &&
	       lasted(p->began_ms, now_ms) >= c->verdict.unanswered_ms &&
	       (!p->looked_ms || now_ms - p->looked_ms >= look_again_ms(c));
}

static bool worth_a_look(const struct census *c, uint32_t need, int64_t now_ms)
{
	if (need && c->budget.ntasks > 1)
		return true; /* whose descriptor is it? */
	for (uint32_t i = 0; i < c->n; i++) {
		const struct conn *s = &c->conns[i];

		if ((need || c->verdict.starved) && is_open_question(s))
			return true;
		if (wants_look(c, s, &c->now.list[i], now_ms))
			return true;
	}
	return false;
}

static void look(struct census *c, int64_t now_ms)
{
	pid_t pids[BUDGET_TASKS_MAX];

	for (uint32_t i = 0; i < c->budget.ntasks; i++)
		pids[i] = c->budget.tasks[i].pid;
	c->waits_fresh = c->budget.ntasks && waits_read(c->waits, pids, c->budget.ntasks) == 0;
	for (uint32_t i = 0; i < c->n; i++) {
		struct past *p = &c->now.list[i];

		if (!is_open_question(&c->conns[i]))
			continue;
		p->wait = WAIT_UNKNOWN;
		if (c->waits_fresh)
			p->wait = (uint8_t)waits_of(c->waits, c->conns[i].inode, NULL);
		p->looked_ms = now_ms;
	}
}

/* --- when to come again ----------------------------------------------------------------------- */

static void sooner(uint32_t *next_ms, int64_t ms)
{
	if (ms < CENSUS_SOON_MS)
		ms = CENSUS_SOON_MS;
	if (ms < *next_ms)
		*next_ms = (uint32_t)ms;
}

/* At the pace of the last census, half of the time until `descriptors` is reached. */
static void before_full(const struct census *c, const struct census_rule *rule,
			const struct verdict_task *fullest, int64_t now_ms, uint32_t *next_ms)
{
	int64_t room =
		(int64_t)(fullest->limit * rule->limits.descriptors / 100) - (int64_t)fullest->fds;
	int64_t grown = (int64_t)fullest->fds - (int64_t)c->last_fds;
	int64_t passed_ms = now_ms - c->last_ms;

	if (c->last_ms && grown > 0 && passed_ms < INT64_C(10) * CENSUS_CALM_MS)
		sooner(next_ms, room > 0 ? room * passed_ms / grown / 2 : 0);
}

static void open_questions(const struct census *c, int64_t now_ms, uint32_t *next_ms)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const struct past *p = &c->now.list[i];
		int64_t over_ms;

		if (!c->conns[i].inode && c->conns[i].state == TCP_ESTABLISHED)
			sooner(next_ms, (int64_t)VERDICT_STARVED_MS - c->conns[i].recv_ms);
		if (!is_open_question(&c->conns[i]) || is_answered(&c->conns[i]) ||
		    p->told & 1u << OFFENCE_UNANSWERED)
			continue;
		over_ms = p->began_ms + c->verdict.unanswered_ms - now_ms;
		if (over_ms <= 0 && p->looked_ms)
			over_ms = p->looked_ms + look_again_ms(c) - now_ms;
		sooner(next_ms, over_ms < CENSUS_STEP_MS ? over_ms : CENSUS_STEP_MS);
	}
}

static uint32_t next_ms(const struct census *c, const struct census_rule *rule,
			const struct verdict_task *tasks, uint32_t ntasks, int64_t now_ms)
{
	uint32_t next = c->verdict.due_ms;

	if (next != VERDICT_NEVER_MS)
		sooner(&next, (int64_t)next);
	if (c->alarm.on || c->verdict.fill_permille >= 500)
		sooner(&next, CENSUS_CALM_MS);
	if (verdict_need(&rule->limits, tasks, ntasks, false))
		sooner(&next, CENSUS_SOON_MS);
	if (ntasks && rule->limits.descriptors)
		before_full(c, rule, &tasks[0], now_ms, &next);
	open_questions(c, now_ms, &next);
	return next;
}

/* --- all of it -------------------------------------------------------------------------------- */

static int make_held(struct census *c)
{
	struct held *grown = realloc(c->held, (c->n ? c->n : 1) * sizeof *grown);

	if (!grown)
		return -ENOMEM;
	c->held = grown;
	return 0;
}

static void classify(struct census *c, const struct census_rule *rule, int64_t now_ms)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const struct conn *s = &c->conns[i];
		struct held *h = &c->held[i];

		*h = (struct held){.prefix = addr_mask(s->peer, s->peer.family == ADDR_IPV4
									? rule->ipv4_prefix
									: rule->ipv6_prefix),
				   .task = task_of(c, s),
				   .told = c->now.list[i].told,
				   .answered = is_answered(s)};
		h->class = (uint8_t)class_of(c, s, &c->now.list[i], now_ms, &h->age_ms);
	}
}

static void mark_told(struct census *c)
{
	const struct verdict *v = &c->verdict;

	for (uint32_t i = 0; i < v->noffences; i++)
		c->now.list[v->offences[i].index].told |= (uint8_t)(1u << v->offences[i].kind);
}

static void count_half_open(struct census_report *r)
{
	struct netstat counters;

	if (netstat_read(r->pid ? r->pid : getpid(), &counters) < 0)
		return;
	r->syncookies = counters.cookies_sent;
	r->overflows = counters.overflows;
	r->drops = counters.drops;
}

static void report(const struct census *c, const struct verdict_task *tasks, uint32_t ntasks,
		   struct census_report *r)
{
	const struct verdict *v = &c->verdict;
	const struct budget *b = &c->budget;

	r->sockets = c->n + c->beyond;
	r->beyond = c->beyond;
	r->unaccepted = unaccepted(c);
	r->prefixes = v->prefixes;
	memcpy(r->classes, v->classes, sizeof r->classes);
	r->noffences = v->noffences;
	r->ncuts = v->ncuts;
	for (uint32_t i = 0; i < b->nlisteners; i++) {
		r->queue += b->listeners[i].queue;
		r->backlog += b->listeners[i].backlog;
		r->single |= !addr_is_unspecified(&b->listeners[i].local);
	}
	r->processes = b->ntasks;
	r->denied = b->denied;
	if (ntasks) {
		const struct budget_task *t = &b->tasks[0];

		r->pid = t->pid;
		r->start_time = t->start_time;
		r->soft = t->soft;
		r->hard = t->hard;
		r->fds = t->fds;
		r->uid = t->uid;
		memcpy(r->comm, t->comm, sizeof r->comm);
		r->full = tasks[0].limit && t->fds + 1 >= tasks[0].limit && r->queue;
		r->selects = c->waits_fresh && waits_selects(c->waits, t->pid);
	}
	count_half_open(r);
	r->fill_permille = v->fill_permille;
	r->alarm = c->alarm.on;
	r->starved = v->starved;
	r->silent_ms = v->silent_ms;
	r->unanswered_ms = v->unanswered_ms;
	r->stalled_ms = v->stalled_ms;
}

static void lift_limit(const struct census *c, const struct census_rule *rule,
		       const struct verdict_task *tasks, uint32_t ntasks, uint64_t raise,
		       struct census_report *r)
{
	uint64_t soft;

	if (!raise || !verdict_need(&rule->limits, tasks, ntasks, false) ||
	    c->budget.tasks[0].soft >= raise)
		return;
	if (c->budget.tasks[0].soft >= c->budget.tasks[0].hard) {
		r->raised = raise == BUDGET_UNLIMITED ? 0 : -ERANGE;
		return;
	}
	if (r->selects) {
		r->raised = -EDOM; /* select(2) has room for descriptors up to 1023 */
		return;
	}
	r->raised = budget_raise(&c->budget.tasks[0], raise, &soft);
	if (r->raised == 0)
		r->raised = 1;
}

static int judge(struct census *c, const struct census_rule *rule, uint64_t raise, int64_t now_ms,
		 struct census_report *r)
{
	struct verdict_task tasks[VERDICT_TASKS_MAX] = {{0}};
	uint32_t ntasks = tasks_of(c, tasks);
	uint32_t need;
	int code;

	verdict_limits(&c->verdict, &rule->limits, tasks, ntasks, is_starved(c), &c->alarm, now_ms);
	need = verdict_need(&rule->limits, tasks, ntasks, c->alarm.on);
	c->waits_fresh = false;
	/* A limit is lifted only for who can use it. */
	if ((raise && need) || worth_a_look(c, need, now_ms))
		look(c, now_ms);
	code = make_held(c);
	if (code < 0)
		return code;
	classify(c, rule, now_ms);
	code = verdict_judge(&c->verdict, &rule->limits, tasks, ntasks, c->held, c->n);
	if (code < 0)
		return code;
	mark_told(c);
	report(c, tasks, ntasks, r);
	lift_limit(c, rule, tasks, ntasks, raise, r);
	r->next_ms = next_ms(c, rule, tasks, ntasks, now_ms);
	c->last_ms = now_ms;
	c->last_fds = ntasks ? tasks[0].fds : 0;
	return 0;
}

int census_take(struct census *c, const struct census_rule *rule, struct sockdiag *sd,
		uint64_t raise, int64_t now_ms, struct census_report *ret_report)
{
	struct timespec before, after;
	int r;

	*ret_report = (struct census_report){.next_ms = CENSUS_CALM_MS};
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	c->out_of_memory = false;
	c->verdict.noffences = c->verdict.ncuts = 0;
	ret_report->error = dump(c, rule, sd);
	if (ret_report->error < 0)
		return 0;
	count_budget(c, rule, sd, now_ms);
	r = c->out_of_memory ? -ENOMEM : remember(c, now_ms);
	if (r == 0)
		r = judge(c, rule, raise, now_ms, ret_report);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	ret_report->cost_us = (uint32_t)((after.tv_sec - before.tv_sec) * 1000000 +
					 (after.tv_nsec - before.tv_nsec) / 1000);
	return r;
}

void census_offence(const struct census *c, uint32_t i, struct census_offence *ret_offence)
{
	const struct verdict_offence *o = &c->verdict.offences[i];
	const struct conn *s = &c->conns[o->index];

	*ret_offence =
		(struct census_offence){.host = s->peer,
					.age_ms = c->held[o->index].age_ms,
					.held = verdict_holds(&c->verdict, &c->held[o->index]),
					.pport = s->pport,
					.lport = s->lport,
					.kind = o->kind};
}

void census_cut(const struct census *c, uint32_t i, struct census_cut *ret_cut)
{
	const struct verdict_cut *cut = &c->verdict.cuts[i];
	const struct conn *s = &c->conns[cut->index];

	*ret_cut = (struct census_cut){
		.kill = {.id = s->id, .diag_family = s->diag_family, .state = s->state},
		.host = s->peer,
		.age_ms = c->held[cut->index].age_ms,
		.held = verdict_holds(&c->verdict, &c->held[cut->index]),
		.pport = s->pport,
		.lport = s->lport,
		.class = c->held[cut->index].class,
		.offence = cut->offence,
		.spare = cut->spare};
}
