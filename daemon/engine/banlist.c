/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decisions to the enforcer and its answers back.
 *
 * A decision goes into the list and into the outbox (in memory that outlives this engine) at once,
 * and to the enforcer at the end of the wake-up. The enforcer answers every ban: done, refused
 * (then it leaves the list again), or waiting (the firewall tries again by itself; the ban stays,
 * unconfirmed).
 */
#include "daemon/base/escape.h"
#include "daemon/base/log.h"
#include "daemon/config/times.h"
#include "daemon/engine/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PURGE_PERIOD_S 3600
#define BURST_BANS 256

const char *banlist_jail_name(const struct engine *e, uint16_t jail)
{
	if (jail < e->conf->njails)
		return e->conf->jails[jail].name;
	return jail == PROTOCOL_JAIL_HAND ? "hand" : "kernel";
}

const char *banlist_reason(const struct engine *e, const struct ban *b, char *buf, size_t size)
{
	const struct rule_conf *rule;
	char window[64];

	if (b->reason) {
		snprintf(buf, size, "%s", b->reason);
	} else if (b->jail < e->conf->njails && b->rule < e->conf->jails[b->jail].nrules) {
		rule = &e->conf->jails[b->jail].rules[b->rule];
		times_format(rule->findtime_s, window, sizeof window);
		snprintf(buf, size, "%s: %u %s%s%s in %s", rule->filter.name, b->offences,
			 rule->distinct ? "different " : "",
			 rule->distinct ? rule->distinct : "offence", b->offences == 1 ? "" : "s",
			 window);
	} else {
		snprintf(buf, size, "unknown (kernel)");
	}
	return buf;
}

/* --- notes ------------------------------------------------------------------------------------ */

static void note(struct engine *e, enum evidence_verdict verdict, const struct addr *addr,
		 uint16_t jail, uint32_t rule, int64_t value, const char *text)
{
	int64_t now_s = clock_wall_s(clock_now());
	const struct evidence_record r = {.time_s = now_s,
					  .noted_s = now_s,
					  .value = value,
					  .file = EVIDENCE_NO_FILE,
					  .rule = rule,
					  .addr = *addr,
					  .jail = jail,
					  .verdict = (uint8_t)verdict};

	evidence_add(e->evidence, &r, slice_str(text));
}

static void note_line(struct engine *e, enum evidence_verdict verdict,
		      const struct detector_offence *o, int64_t value)
{
	const struct evidence_record r = {.time_s = o->time_s,
					  .noted_s = clock_wall_s(clock_now()),
					  .value = value,
					  .offset = o->offset,
					  .file = o->file && o->file->path_index < e->npaths
							  ? o->file->path_index
							  : EVIDENCE_NO_FILE,
					  .rule = o->rule,
					  .addr = o->prefix,
					  .jail = o->jail,
					  .verdict = (uint8_t)verdict};

	evidence_add(e->evidence, &r, o->line);
}

static void say(struct engine *e, const char *what, const struct ban *b)
{
	char addr[ADDR_STRLEN], reason[256], lasts[64] = "ever";

	if (!log_enabled(LOG_LEVEL_NOTICE))
		return;
	if (b->until_wall_s != CLOCK_FOREVER)
		times_format(b->until_wall_s - b->since_wall_s, lasts, sizeof lasts);
	log_notice("jail", "[%s] %s %s for %s (%s)", banlist_jail_name(e, b->jail), what,
		   addr_format(&b->addr, addr), lasts, banlist_reason(e, b, reason, sizeof reason));
}

/* --- out -------------------------------------------------------------------------------------- */

/*
 * What was sent stays in the outbox until no message of ours waits in this process: should it
 * crash, the next engine sends it again, which changes nothing where it had arrived.
 */
void banlist_flush(struct engine *e)
{
	struct resume_head *h = e->resume.head;

	while (h->outbox_sent < h->outbox_count) {
		uint32_t n = h->outbox_count - h->outbox_sent;

		if (n > PROTOCOL_BATCH)
			n = PROTOCOL_BATCH;
		if (channel_send(e->channel, PROTOCOL_BAN, &h->outbox[h->outbox_sent], n, -1) < 0)
			return; /* the enforcer is gone, and so are we soon */
		h->outbox_sent += n;
	}
	if (!channel_backlog(e->channel))
		h->outbox_count = h->outbox_sent = 0;
}

static uint64_t remaining_ms(int64_t end_mono_ns, int64_t mono_ns)
{
	if (end_mono_ns == CLOCK_FOREVER)
		return PROTOCOL_FOREVER;
	return end_mono_ns > mono_ns ? (uint64_t)(end_mono_ns - mono_ns) / CLOCK_MSEC_NS : 0;
}

static bool jail_kills(const struct engine *e, uint16_t jail)
{
	return jail >= e->conf->njails || e->conf->jails[jail].kill;
}

static bool jail_drops(const struct engine *e, uint16_t jail)
{
	const struct jail_conf *j = &e->conf->jails[jail];

	for (size_t i = 0; i < j->nactions; i++)
		if (j->actions[i].kind == ACTION_NFTABLES)
			return true;
	return false;
}

/* The kernel's element ends with the latest ban of this prefix. */
static struct protocol_ban message_of(const struct engine *e, const struct ban *b)
{
	enum bans_scope scope = b->scope_port ? BANS_SCOPE_PORT : BANS_SCOPE_ALL;
	int64_t mono_ns = clock_now().mono_ns;

	return (struct protocol_ban){
		.addr = b->addr,
		.jail = b->jail,
		.source = b->source,
		.flags = (uint8_t)((jail_kills(e, b->jail) ? PROTOCOL_BAN_KILL : 0) |
				   (b->scope_port ? PROTOCOL_BAN_SCOPE_PORT : 0)),
		.remaining_ms = remaining_ms(bans_end(e->bans, &b->addr, scope), mono_ns),
		.since_wall_s = b->since_wall_s,
	};
}

static void queue_message(struct engine *e, const struct protocol_ban *p)
{
	struct resume_head *h = e->resume.head;

	/* In a burst the enforcer starts on the first bans while the next are found. */
	if (h->outbox_count - h->outbox_sent >= BURST_BANS || h->outbox_count == RESUME_OUTBOX)
		banlist_flush(e);
	if (h->outbox_count < RESUME_OUTBOX)
		h->outbox[h->outbox_count++] = *p;
	else /* the enforcer is far behind: the channel's own queue holds it */
		channel_send(e->channel, PROTOCOL_BAN, p, 1, -1);
}

static void queue(struct engine *e, const struct ban *b)
{
	const struct protocol_ban p = message_of(e, b);

	queue_message(e, &p);
}

/* With what the log says of the host, for the enforcer to compare with what the kernel saw. */
static void queue_for_witness(struct engine *e, const struct ban *b,
			      const struct detector_offence *o)
{
	struct protocol_ban p = message_of(e, b);
	struct tally_entry said = tally_of(e->tally, &o->host, o->jail, clock_wall_s(clock_now()));

	p.host = o->host;
	p.lines = said.lines;
	p.offences = said.disputed + o->count;
	p.needed = e->conf->jails[o->jail].rules[o->rule].maxretry;
	queue_message(e, &p);
}

/* What a ban means to others, said when it is sure: a forged one must run no command. */
static void announce(struct engine *e, struct ban *b)
{
	if (b->announced)
		return;
	b->announced = true;
	note(e, EVIDENCE_BANNED, &b->addr, b->jail, b->rule,
	     b->until_wall_s == CLOCK_FOREVER ? -1 : b->until_wall_s - b->since_wall_s,
	     b->reason ? b->reason : "");
	detector_banned(e->detector, b->jail, &b->addr, b->since_wall_s, b->until_wall_s);
	say(e, "Ban", b);
	if (b->jail < e->conf->njails)
		commands_run(e, b, RUNNER_BAN);
}

/* --- hooks of the detector -------------------------------------------------------------------- */

void banlist_offence(void *ctx, const struct detector_offence *o)
{
	struct engine *e = ctx;

	e->resume.head->counters.offences++;
	note_line(e, EVIDENCE_OFFENCE, o, o->count);
}

void banlist_refused(void *ctx, const struct detector_offence *o, const struct ignore_hit *why)
{
	struct engine *e = ctx;
	char text[IGNORE_TEXT_BYTES];

	e->resume.head->counters.refused++;
	note(e, EVIDENCE_REFUSED, &o->prefix, o->jail, o->rule, why->reason,
	     ignore_format(why, clock_now().mono_ns, text));
}

/* Into the list; NULL when it is full or the ban would be over already. */
static struct ban *enter(struct engine *e, const struct ban *b)
{
	struct ban *entered = NULL;
	char addr[ADDR_STRLEN];

	if (bans_add(e->bans, b, &entered) == BANS_FULL) {
		if (log_gate_open(&e->full_gate, clock_now().mono_ns, 1, 60))
			log_error("jail",
				  "the ban list is full (%u): %s is not banned; raise maxbans",
				  bans_count(e->bans), addr_format(&b->addr, addr));
		return NULL;
	}
	e->resume.head->counters.bans++;
	banlist_arm(e);
	return entered;
}

void banlist_ban(void *ctx, const struct detector_offence *o, int64_t duration_s, unsigned before)
{
	struct engine *e = ctx;
	struct now now = clock_now();
	int64_t now_s = clock_wall_s(now);
	/* Dates have whole seconds: a ban made now runs from now; one from a backlog from its line.
	 */
	int64_t since_s = now_s - o->time_s <= DETECTOR_OFF_BY_S ? now_s : o->time_s;
	int64_t until_s = duration_s == CLOCK_FOREVER ? CLOCK_FOREVER : since_s + duration_s;
	struct ban b = {.addr = o->prefix,
			.jail = o->jail,
			.source = o->file ? BAN_LOG : BAN_SOCKETS,
			.scope_port = e->conf->jails[o->jail].scope_port,
			.since_wall_s = since_s,
			.until_wall_s = until_s,
			.end_mono_ns = CLOCK_FOREVER,
			.count = before,
			.rule = o->rule,
			.offences = o->count};
	struct ban *entered;

	if (until_s != CLOCK_FOREVER && until_s <= now_s) {
		/* A backlog told of a ban that would have ended by now. */
		detector_banned(e->detector, o->jail, &o->prefix, since_s, until_s);
		return;
	}
	if (until_s != CLOCK_FOREVER)
		b.end_mono_ns = now.mono_ns + (until_s - now_s) * CLOCK_SECOND_NS;
	entered = enter(e, &b);
	/* Into the outbox first: what comes behind it may be missing when we are killed here. */
	if (entered && jail_drops(e, o->jail) && o->file)
		queue_for_witness(e, entered, o);
	else if (entered && jail_drops(e, o->jail))
		queue(e, entered);
	if (entered && !jail_drops(e, o->jail))
		announce(e, entered);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void ended(void *ctx, const struct ban *b)
{
	struct engine *e = ctx;

	note(e, EVIDENCE_EXPIRED, &b->addr, b->jail, b->rule, 0, "");
	say(e, "Unban (time is over)", b);
	e->resume.head->counters.unbans++;
	if (b->jail < e->conf->njails)
		commands_run(e, b, RUNNER_UNBAN);
}

static void purge(struct engine *e, int64_t now_s)
{
	if (now_s - e->purged_s < PURGE_PERIOD_S)
		return;
	e->purged_s = now_s;
	evidence_purge(e->evidence, now_s - e->conf->dbpurgeage_s);
	detector_purge(e->detector, now_s);
}

static void on_end(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct engine *e = w->data;
	struct now now = clock_now();

	(void)loop;
	(void)revents;
	bans_expire(e->bans, now.mono_ns, 1000, ended, e);
	purge(e, clock_wall_s(now));
	banlist_arm(e);
}

/* The kernel ends a ban by itself; the list follows up to a second later, many at a time. */
void banlist_arm(struct engine *e)
{
	int64_t next_ns = bans_next_end(e->bans), mono_ns;
	double wait_s;

	/* Waking too early is harmless and rare, setting the timer anew for each of many bans is
	 * not. */
	if (ev_is_active(&e->end_of_ban) && e->armed_ns <= next_ns && next_ns != CLOCK_FOREVER)
		return;
	ev_timer_stop(e->loop, &e->end_of_ban);
	if (next_ns == CLOCK_FOREVER)
		return;
	e->armed_ns = next_ns;
	mono_ns = clock_now().mono_ns;
	wait_s = next_ns > mono_ns ? (double)(next_ns - mono_ns) / 1e9 + 0.05 : 0.;
	ev_timer_init(&e->end_of_ban, on_end, wait_s, 0.);
	e->end_of_ban.data = e;
	ev_now_update(e->loop);
	ev_timer_start(e->loop, &e->end_of_ban);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* A ban that this engine does not know: found in the kernel, or made before this engine was
 * started. */
static struct ban *restore(struct engine *e, const struct protocol_ban *p, const char *reason)
{
	struct now now = clock_now();
	bool forever = p->remaining_ms == PROTOCOL_FOREVER;
	int64_t left_ns = forever ? 0 : (int64_t)p->remaining_ms * CLOCK_MSEC_NS;
	const struct ban b = {.addr = p->addr,
			      .jail = p->jail,
			      .source = p->source,
			      .scope_port = p->flags & PROTOCOL_BAN_SCOPE_PORT,
			      .confirmed = true,
			      .since_wall_s = p->since_wall_s ? p->since_wall_s : clock_wall_s(now),
			      .until_wall_s = forever ? CLOCK_FOREVER
						      : (now.wall_ns + left_ns) / CLOCK_SECOND_NS,
			      .end_mono_ns = forever ? CLOCK_FOREVER : now.mono_ns + left_ns,
			      .reason = reason};
	struct ban *entered = NULL;

	if (bans_add(e->bans, &b, &entered) == BANS_FULL)
		return NULL;
	if (entered)
		entered->confirmed = entered->announced = true;
	banlist_arm(e);
	return entered;
}

void banlist_in_force(struct engine *e, const struct protocol_ban *p)
{
	const char *reason =
		p->source == BAN_KERNEL ? "unknown (kernel)" : "unknown (engine restarted)";

	if (bans_find(e->bans, &p->addr, p->jail))
		return;
	if (restore(e, p, reason))
		note(e, EVIDENCE_RESTORED, &p->addr, p->jail, 0, 0, reason);
}

void banlist_forced(struct engine *e, const struct protocol_ban *p)
{
	if (restore(e, p, "by force"))
		note(e, EVIDENCE_BANNED, &p->addr, p->jail, 0, -1, "by force");
}

/* Why the witness speaks against a ban. */
static const char *unwitnessed(const struct protocol_ban *p, char *buf, size_t size)
{
	if (p->reason == PROTOCOL_REASON_UNSEEN)
		return "forged: the kernel has not seen it on the service's port (behind a proxy: "
		       "witness = no)";
	if (p->reason == PROTOCOL_REASON_NO_RECORD)
		return "witness = yes, but the service's port is not known";
	snprintf(buf, size, "forged: the log names it %u times, it connected %u times", p->lines,
		 p->connections);
	return buf;
}

static void refused_by_witness(struct engine *e, const struct protocol_ban *p)
{
	char addr[ADDR_STRLEN], buf[128];
	const char *why = unwitnessed(p, buf, sizeof buf);
	const struct ban *b = bans_find(e->bans, &p->addr, p->jail);
	int64_t now_ns = clock_now().mono_ns;

	e->resume.head->counters.refused++;
	e->resume.head->counters.unwitnessed++;
	if (p->reason == PROTOCOL_REASON_FORGED)
		tally_dispute(e->tally, &p->host, p->jail, p->needed, clock_wall_s(clock_now()));
	if (log_gate_open(&e->witness_gate, now_ns, 10, 60))
		log_notice("jail", "[%s] %s is not banned: %s", banlist_jail_name(e, p->jail),
			   addr_format(&p->addr, addr), why);
	note(e, EVIDENCE_REFUSED, &p->addr, p->jail, b ? b->rule : 0, p->reason, why);
	if (!b || b->announced) /* a ban by hand may have come in its place */
		return;
	e->resume.head->counters.bans--;
	bans_remove(e->bans, &p->addr, p->jail);
}

static void refused(struct engine *e, const struct protocol_ban *p)
{
	char addr[ADDR_STRLEN];

	if (p->reason > PROTOCOL_REASON_BY_HAND) {
		refused_by_witness(e, p);
		return;
	}
	if (p->reason == PROTOCOL_REASON_BY_HAND) {
		note(e, EVIDENCE_UNBANNED, &p->addr, p->jail, 0, 0, "deleted with nft by hand");
		detector_forget(e->detector, &p->addr);
		bans_remove(e->bans, &p->addr, BANS_ANY_JAIL);
		return;
	}
	e->resume.head->counters.refused++;
	log_notice("jail", "[%s] %s is not banned: %s", banlist_jail_name(e, p->jail),
		   addr_format(&p->addr, addr), ignore_reason_name((enum ignore_reason)p->reason));
	note(e, EVIDENCE_REFUSED, &p->addr, p->jail, 0, p->reason,
	     ignore_reason_name((enum ignore_reason)p->reason));
	bans_remove(e->bans, &p->addr, p->jail);
}

static int by_addr(const void *a, const void *b)
{
	return addr_cmp(&((const struct control_result *)a)->addr,
			&((const struct control_result *)b)->addr);
}

static void free_order(struct engine_order *order)
{
	free(order->results);
	free(order);
}

static void explain(struct engine *e, const struct protocol_ban *p, struct control_result *r)
{
	struct ignore_hit hit;

	r->result = p->result;
	if (p->result != ERROR_REFUSED) {
		snprintf(r->text, sizeof r->text, "%s", p->result ? error_name(p->result) : "");
		return;
	}
	if (ignore_check(e->ignore, &p->addr, p->jail, false, clock_now().mono_ns, &hit))
		ignore_format(&hit, clock_now().mono_ns, r->text);
	else
		snprintf(r->text, sizeof r->text, "it is never banned (%s)",
			 ignore_reason_name((enum ignore_reason)p->reason));
}

/* An answer that is not "done" goes into the order that asked for it. */
static void note_answer(struct engine *e, const struct protocol_ban *p)
{
	const struct control_result key = {.addr = p->addr};

	for (struct engine_order *o = e->orders; o && p->result; o = o->next) {
		struct control_result *r = bsearch(&key, o->results, o->n, sizeof key, by_addr);

		if (r)
			explain(e, p, r);
	}
}

/* Everything that was sent before this serial has been answered. */
void banlist_synced(struct engine *e, uint64_t serial)
{
	struct engine_order **at = &e->orders;

	e->sync_seen = serial;
	while (*at) {
		struct engine_order *order = *at;

		if (order->serial > serial) {
			at = &order->next;
			continue;
		}
		*at = order->next;
		order->done(order->arg, order->results, order->n);
		free_order(order);
	}
}

void banlist_sync(struct engine *e)
{
	const struct protocol_ping p = {++e->sync_sent};

	banlist_flush(e);
	channel_send(e->channel, PROTOCOL_SYNC, &p, 1, -1);
}

void banlist_result(struct engine *e, const struct protocol_ban *p)
{
	struct ban *b = bans_find(e->bans, &p->addr, p->jail);
	char addr[ADDR_STRLEN];

	note_answer(e, p);
	if (p->result == ERROR_REFUSED) {
		refused(e, p);
		return;
	}
	if (p->result < 0 && log_gate_open(&e->error_gate, clock_now().mono_ns, 3, 60))
		log_error("firewall", "%s is not in the kernel yet: %s; it is tried again",
			  addr_format(&p->addr, addr), error_name(p->result));
	if (b) {
		b->confirmed = p->result == 0;
		announce(e, b);
	} else if (p->result == 0 && p->remaining_ms) { /* sent by the engine before this one */
		restore(e, p, "unknown (engine restarted)");
	}
}

void banlist_killed(struct engine *e, const struct protocol_killed *k)
{
	struct ban *b = bans_find(e->bans, &k->addr, BANS_ANY_JAIL);

	e->resume.head->counters.kills += k->count;
	if (b)
		b->killed += k->count;
	note(e, EVIDENCE_KILLED, &k->addr, b ? b->jail : PROTOCOL_JAIL_HAND, 0, k->count, "");
}

/* --- by hand ---------------------------------------------------------------------------------- */

static struct engine_order *
new_order(size_t n, void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	struct engine_order *order = calloc(1, sizeof *order);

	if (!order)
		return NULL;
	order->results = calloc(n ? n : 1, sizeof *order->results);
	if (!order->results) {
		free_order(order);
		return NULL;
	}
	order->n = n;
	order->done = done;
	order->arg = arg;
	return order;
}

/* Answered when the kernel has; by then errors of the enforcer have found their place. */
static void start_order(struct engine *e, struct engine_order *order)
{
	qsort(order->results, order->n, sizeof order->results[0], by_addr);
	order->next = e->orders;
	e->orders = order;
	order->serial = e->sync_sent + 1;
	banlist_sync(e);
}

static struct addr prefix_of(const struct engine *e, const struct control_ban *c)
{
	if (c->exact || c->addr.family == ADDR_IPV4)
		return c->addr;
	return addr_mask(c->addr,
			 c->jail < e->conf->njails ? e->conf->jails[c->jail].ipv6_prefix : 64);
}

#define BY_HAND_S 3600 /* without a jail and without --for */

/* 0, or why it is not sent: then the result says so. */
static int ban_by_hand(struct engine *e, const struct control_ban *c, struct control_result *r)
{
	struct now now = clock_now();
	struct ban b = {.addr = prefix_of(e, c),
			.source = BAN_HAND,
			.since_wall_s = clock_wall_s(now),
			.until_wall_s = CLOCK_FOREVER,
			.end_mono_ns = CLOCK_FOREVER,
			.jail = c->jail < e->conf->njails ? c->jail : PROTOCOL_JAIL_HAND,
			.reason = c->reason[0] ? c->reason : "by hand"};
	int64_t duration_s = c->duration_s;
	struct ban *entered = NULL;
	struct ignore_hit hit;

	r->addr = b.addr;
	if (ignore_check(e->ignore, &b.addr, b.jail < e->conf->njails ? b.jail : IGNORE_ANY_JAIL,
			 false, now.mono_ns, &hit)) {
		ignore_format(&hit, now.mono_ns, r->text);
		e->resume.head->counters.refused++;
		note(e, EVIDENCE_REFUSED, &b.addr, b.jail, 0, hit.reason, r->text);
		return ERROR_REFUSED;
	}
	if (!duration_s && c->jail < e->conf->njails)
		duration_s =
			detector_bantime(e->detector, c->jail, &b.addr, b.since_wall_s, &b.count);
	else if (!duration_s)
		duration_s = BY_HAND_S;
	if (duration_s != CLOCK_FOREVER) {
		b.until_wall_s = b.since_wall_s + duration_s;
		b.end_mono_ns = now.mono_ns + duration_s * CLOCK_SECOND_NS;
	}
	if (b.jail < e->conf->njails)
		b.scope_port = e->conf->jails[b.jail].scope_port;
	/* A hand's word replaces what was there, also when it ends earlier. */
	bans_remove(e->bans, &b.addr, b.jail);
	entered = enter(e, &b);
	if (!entered) {
		snprintf(r->text, sizeof r->text, "the ban list is full");
		return -ENFILE;
	}
	queue(e, entered);
	announce(e, entered);
	return 0;
}

void banlist_order_bans(void *ctx, const struct control_ban *items, size_t n,
			void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	struct engine *e = ctx;
	struct engine_order *order = new_order(n, done, arg);

	if (!order) {
		done(arg, NULL, 0);
		return;
	}
	for (size_t i = 0; i < n; i++)
		order->results[i].result = ban_by_hand(e, &items[i], &order->results[i]);
	start_order(e, order);
}

/* Unbans on their way, many to a message: `unban --all` may be a million of them. */
static void flush_unbans(struct engine *e)
{
	if (!e->nunbans)
		return;
	banlist_flush(e); /* bans of the same prefixes were decided before */
	channel_send(e->channel, PROTOCOL_UNBAN, e->unbans, e->nunbans, -1);
	e->nunbans = 0;
}

static void send_unban(struct engine *e, const struct ban *b, uint8_t flags)
{
	if (e->nunbans == PROTOCOL_BATCH)
		flush_unbans(e);
	e->unbans[e->nunbans++] = (struct protocol_ban){
		.addr = b->addr, .jail = b->jail, .source = b->source, .flags = flags};
}

/* Another jail's ban of the same prefix that lies in the same kernel set. */
static struct ban *same_element(const struct engine *e, const struct ban *b)
{
	const uint16_t others[] = {PROTOCOL_JAIL_HAND, PROTOCOL_JAIL_KERNEL};
	struct ban *found = NULL;

	for (uint16_t j = 0; !found && j < e->conf->njails + 2; j++) {
		found = bans_find(e->bans, &b->addr,
				  j < e->conf->njails ? j : others[j - e->conf->njails]);
		if (found && found->scope_port != b->scope_port)
			found = NULL;
	}
	return found;
}

/* Takes one ban out of the list; the kernel's element goes, or ends with the next jail's ban. */
static void take_out(struct engine *e, const struct ban *b)
{
	struct ban copy = *b, *left;

	copy.reason = NULL;
	note(e, EVIDENCE_UNBANNED, &b->addr, b->jail, b->rule, 0, "by hand");
	if (log_gate_open(&e->unban_gate, clock_now().mono_ns, 100, 1))
		say(e, "Unban (by hand)", b);
	e->resume.head->counters.unbans++;
	bans_remove(e->bans, &copy.addr, copy.jail);
	detector_unbanned(e->detector, copy.jail, &copy.addr, clock_wall_s(clock_now()));
	commands_run(e, &copy, RUNNER_UNBAN);
	left = same_element(e, &copy);
	if (left) {
		queue(e, left);
		return;
	}
	send_unban(e, &copy, copy.scope_port ? PROTOCOL_BAN_SCOPE_PORT : 0);
	/* Forced bans lie in a set of their own, and are by hand without a jail. */
	if (copy.jail == PROTOCOL_JAIL_HAND || copy.jail == PROTOCOL_JAIL_KERNEL)
		send_unban(e, &copy, PROTOCOL_BAN_FORCED);
}

static bool wanted(const struct control_ban *c, const struct ban *b)
{
	return (c->jail == CONTROL_NO_JAIL || b->jail == c->jail) &&
	       addr_contains(&c->addr, &b->addr);
}

/* The ban that holds a host: of a jail, or the narrowest of any. */
static struct ban *holder(const struct engine *e, const struct control_ban *c)
{
	if (c->jail == CONTROL_NO_JAIL)
		return bans_covering(e->bans, &c->addr);
	for (unsigned plen = addr_bits(&c->addr); plen > 0; plen--) {
		struct addr prefix = addr_mask(c->addr, plen);
		struct ban *b = bans_find(e->bans, &prefix, c->jail);

		if (b)
			return b;
	}
	return NULL;
}

/* All bans inside a network, or those that hold a host. Returns how many went. */
static unsigned unban(struct engine *e, const struct control_ban *c)
{
	uint32_t cursor = 0;
	unsigned gone = 0;
	struct ban *b;

	if (c->addr.plen == addr_bits(&c->addr)) {
		for (; (b = holder(e, c)); gone++)
			take_out(e, b);
		detector_forget(e->detector, &c->addr);
		return gone;
	}
	while ((b = bans_next(e->bans, &cursor))) {
		if (!wanted(c, b))
			continue;
		take_out(e, b);
		gone++;
	}
	return gone;
}

void banlist_order_unbans(void *ctx, const struct control_ban *items, size_t n,
			  void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	struct engine *e = ctx;
	struct engine_order *order = new_order(n, done, arg);

	if (!order) {
		done(arg, NULL, 0);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct control_result *r = &order->results[i];

		r->addr = items[i].addr;
		if (!unban(e, &items[i])) {
			r->result = -ENOENT;
			snprintf(r->text, sizeof r->text, "is not banned");
		}
	}
	flush_unbans(e);
	banlist_arm(e);
	start_order(e, order);
}
