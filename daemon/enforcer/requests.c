/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the engine asks of the enforcer: bans, log files, watches, counters, commands; see
 * protocol.h.
 *
 * Every field is checked here; what no honest engine sends ends the engine. Bans of one wake-up are
 * collected by the firewall and committed once, then answered, then their sockets are killed. A ban
 * that the kernel did not take is answered with its error and retried by the firewall.
 */
#include "daemon/base/netlist.h"
#include "daemon/base/notify.h"
#include "daemon/enforcer/logfile.h"
#include "daemon/enforcer/runner.h"
#include "daemon/enforcer/state.h"
#include "daemon/jail/bans.h"
#include "daemon/sockets/owner.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- ports ------------------------------------------------------------------------------------ */

#define KILL_PORTS_MAX 256u /* of one jail whose sockets are looked for */
#define PLACE_FRESH_NS CLOCK_SECOND_NS

/* How much has to be known of a log's writer before ports that the configuration names are taken
 * for ports of this namespace. */
enum certainty {
	PLACE_LIKELY, /* that it was not found elsewhere */
	PLACE_ASKED,  /* that it was looked for */
	PLACE_SURE    /* that what was found still holds */
};

/* Up to PORTSET_MAX ports of one namespace, behind those that were taken before. */
struct port_taker {
	struct portset set;
	size_t skip;
	const struct space *space; /* NULL: this namespace */
	enum certainty certainty;
};

static bool is_full(const struct port_taker *t)
{
	return t->set.count == PORTSET_MAX;
}

static void add_port(struct port_taker *t, uint16_t number)
{
	if (!number || is_full(t) || portset_has(&t->set, IPPROTO_TCP, number))
		return;
	if (t->skip)
		t->skip--;
	else
		t->set.port[t->set.count++] = (struct port){number, IPPROTO_TCP};
}

bool requests_is_of_source(const struct enforcer *e, const struct enforcer_source *s, uint16_t jail)
{
	if (jail < e->conf->njails && conf_borrows_ports(&e->conf->jails[jail]))
		return true;
	for (size_t k = 0; k < s->conf->njails; k++)
		if (s->conf->jails[k] == jail)
			return true;
	return false;
}

/* A log that is not there yet says nothing about its writer: this namespace is meant. Who was found
 * has to live, else it is outdated after a moment. */
static bool place_is_known(const struct enforcer_source *s, enum certainty certainty)
{
	if (certainty == PLACE_LIKELY || !s->conf->npatterns)
		return true;
	if (!s->opened)
		return s->tried;
	if (certainty == PLACE_ASKED)
		return s->answered;
	return enter_writer_lives(s) ||
	       (s->answered && clock_now().mono_ns - s->answered_mono_ns < PLACE_FRESH_NS);
}

static bool lives_in(const struct enforcer_source *s, const struct port_taker *t)
{
	if (s->elsewhere)
		return t->space && s->space == t->space;
	return !t->space && place_is_known(s, t->certainty);
}

/* Ports that the configuration names are ports of the namespace in which the jail's log is written;
 * without a log, of this one. */
static bool names_ports_in(const struct enforcer *e, uint16_t jail, const struct port_taker *t)
{
	bool has_log = false;

	for (size_t i = 0; i < e->nsources; i++) {
		const struct source_conf *s = e->sources[i].conf;

		for (size_t k = 0; k < s->njails; k++) {
			if (s->jails[k] != jail)
				continue;
			if (lives_in(&e->sources[i], t))
				return true;
			has_log = true;
		}
	}
	return !has_log && !t->space;
}

static void add_named_ports(const struct jail_conf *jc, struct port_taker *t)
{
	for (size_t i = 0; i < jc->nports; i++)
		for (uint32_t p = jc->ports[i].first; p <= jc->ports[i].last && !is_full(t); p++)
			add_port(t, (uint16_t)p);
}

static void add_found_ports(const struct enforcer_source *s, uint16_t jail, struct port_taker *t)
{
	if (s->elsewhere != (t->space != NULL) || s->space != t->space)
		return;
	for (size_t k = 0; k < s->conf->njails; k++)
		if (s->conf->jails[k] == jail)
			for (unsigned p = 0; p < s->ports.count; p++)
				add_port(t, s->ports.port[p].number);
}

static void add_own_ports(const struct enforcer *e, uint16_t jail, struct port_taker *t)
{
	const struct jail_conf *jc = &e->conf->jails[jail];

	if (jc->nports && names_ports_in(e, jail, t))
		add_named_ports(jc, t);
	if (!jc->port_auto)
		return;
	for (size_t i = 0; i < e->nsources; i++)
		add_found_ports(&e->sources[i], jail, t);
}

/* A jail for every port (fail2ban's 0:65535) says nothing about where a service listens. */
static bool lends_ports(const struct jail_conf *jc)
{
	return !conf_borrows_ports(jc) && conf_count_ports(jc) <= CONF_SCOPE_PORTS;
}

static void add_ports_of(const struct enforcer *e, uint16_t jail, struct port_taker *t)
{
	add_own_ports(e, jail, t);
	if (!conf_borrows_ports(&e->conf->jails[jail]))
		return;
	for (size_t i = 0; i < e->conf->njails; i++)
		if (lends_ports(&e->conf->jails[i]))
			add_own_ports(e, (uint16_t)i, t);
}

/* A ban by hand or from the kernel protects every port that some jail protects. */
static struct portset take_ports(const struct enforcer *e, uint16_t jail, struct port_taker t)
{
	if (jail < e->conf->njails) {
		add_ports_of(e, jail, &t);
		return t.set;
	}
	for (size_t i = 0; i < e->conf->njails; i++)
		if (e->conf->jails[i].kill)
			add_ports_of(e, (uint16_t)i, &t);
	return t.set;
}

struct portset requests_ports(const struct enforcer *e, uint16_t jail, const struct space *space)
{
	return take_ports(e, jail, (struct port_taker){.space = space, .certainty = PLACE_ASKED});
}

static bool is_elsewhere(const struct enforcer *e, uint16_t jail)
{
	for (size_t i = 0; i < e->nsources; i++)
		if (e->sources[i].elsewhere && requests_is_of_source(e, &e->sources[i], jail))
			return true;
	return false;
}

/* Where a scope = port ban drops; none: not known, or more than a ban can name. The drop comes
 * before DNAT: of a service in another namespace the port is another one there. */
static struct portset scope_ports(const struct enforcer *e, uint16_t jail)
{
	struct port_taker t = {.skip = PORTSET_MAX, .certainty = PLACE_LIKELY};
	struct portset ports = take_ports(e, jail, t);

	if (ports.count || is_elsewhere(e, jail))
		return (struct portset){0};
	t.skip = 0;
	return take_ports(e, jail, t);
}

static void say_scope(struct enforcer *e, uint16_t jail)
{
	for (size_t i = 0; i < e->nsources; i++) {
		struct enforcer_source *s = &e->sources[i];

		if (!s->elsewhere || s->scope_said || !requests_is_of_source(e, s, jail))
			continue;
		s->scope_said = true;
		log_notice("enforcer",
			   "%s: its service lives in another network namespace, and its port on "
			   "this host is not known: bans with scope = port drop everywhere",
			   s->name);
	}
}

/* --- answers ---------------------------------------------------------------------------------- */

static void send_results(struct enforcer *e)
{
	if (e->nresults && e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_RESULT, e->results, e->nresults, -1);
	e->nresults = 0;
}

static void answer(struct enforcer *e, const struct protocol_ban *ban)
{
	if (e->nresults == ENFORCER_RESULTS)
		send_results(e);
	e->results[e->nresults++] = *ban;
}

static struct protocol_ban from_inforce(const struct inforce_ban *b, int64_t mono_ns)
{
	int64_t left_ms = inforce_remaining_ms(b, mono_ns);
	struct protocol_ban p = {.addr = b->addr, .jail = b->jail, .source = b->source};

	if (b->flags & INFORCE_SCOPE_PORT)
		p.flags |= PROTOCOL_BAN_SCOPE_PORT;
	if (b->flags & INFORCE_FORCED)
		p.flags |= PROTOCOL_BAN_FORCED;
	p.remaining_ms = left_ms == CLOCK_FOREVER ? PROTOCOL_FOREVER : (uint64_t)left_ms;
	return p;
}

/* Firewall: a ban went in, or is waiting with an error. */
static void on_result(void *ctx, const struct inforce_ban *b, int error)
{
	struct enforcer *e = ctx;
	struct protocol_ban answer_ban = from_inforce(b, clock_now().mono_ns);

	answer_ban.result = error;
	answer(e, &answer_ban);
}

/* What comes from the kernel belongs to no jail that we know of. */
static void own_kernel_bans(struct enforcer *e, const struct addr *addr)
{
	uint32_t step = 0;
	struct inforce_ban *b;

	while ((b = inforce_of(&e->inforce, addr, &step, clock_now().mono_ns)))
		if (b->source == BAN_KERNEL)
			b->jail = PROTOCOL_JAIL_KERNEL;
}

/* Firewall: an element was found at start, or changed with nft by hand. */
static void on_element(void *ctx, enum firewall_element what, const struct inforce_ban *b,
		       const struct portset *ports)
{
	struct enforcer *e = ctx;
	struct protocol_ban entry = from_inforce(b, clock_now().mono_ns);
	char text[ADDR_STRLEN];

	(void)ports;
	own_kernel_bans(e, &b->addr);
	if (!e->engine.channel)
		return; /* told all at once when the engine starts */
	if (what != FIREWALL_DELETED) {
		entry.jail = PROTOCOL_JAIL_KERNEL;
		channel_send(e->engine.channel, PROTOCOL_INFORCE, &entry, 1, -1);
	}
	if (what == FIREWALL_ADOPTED)
		return; /* a large set is read on while the engine already runs */
	log_notice("firewall", "%s was %s with nft by hand", addr_format(&b->addr, text),
		   what == FIREWALL_ADDED ? "banned" : "unbanned");
	if (what == FIREWALL_ADDED)
		return;
	entry.remaining_ms = 0;
	entry.result = ERROR_REFUSED;
	entry.reason = PROTOCOL_REASON_BY_HAND;
	answer(e, &entry);
	send_results(e);
}

static void on_bell(void *ctx, int port)
{
	watches_ring(ctx, port);
}

static void on_repaired(void *ctx, uint32_t bans, uint32_t pid, const char *name)
{
	struct enforcer *e = ctx;
	struct protocol_repaired entry = {.pid = (int32_t)pid, .bans = bans, .times = ++e->repairs};

	snprintf(entry.comm, sizeof entry.comm, "%s", name ? name : "");
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_REPAIRED, &entry, 1, -1);
}

/* --- the kill --------------------------------------------------------------------------------- */

static bool spare(void *ctx, const struct addr *peer)
{
	struct enforcer *e = ctx;

	return ignore_check(e->ignore, peer, IGNORE_ALL_JAILS, false, clock_now().mono_ns, NULL);
}

static void send_killed(struct enforcer *e)
{
	if (e->nkilled && e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_KILLED, e->killed, e->nkilled, -1);
	e->nkilled = 0;
}

static void on_killed(void *ctx, const struct addr *prefix, uint32_t count)
{
	struct enforcer *e = ctx;
	uint32_t step = 0;
	struct inforce_ban *b;

	b = inforce_of(&e->inforce, prefix, &step, clock_now().mono_ns);
	if (b)
		b->killed += count;
	if (e->nkilled == PROTOCOL_BATCH)
		send_killed(e);
	e->killed[e->nkilled++] = (struct protocol_killed){.addr = *prefix, .count = count};
}

static void on_kill_done(void *ctx, int error)
{
	struct enforcer *e = ctx;

	(void)error;
	send_killed(e);
	enforcer_say_health(e);
}

struct reaper_hooks requests_kill_hooks(struct enforcer *e)
{
	return (struct reaper_hooks){
		.ctx = e, .spare = spare, .killed = on_killed, .done = on_kill_done};
}

static void kill_in(struct enforcer *e, struct reaper *reaper, const struct space *space,
		    const struct addr *prefix, uint16_t jail)
{
	for (size_t taken = 0; taken < KILL_PORTS_MAX; taken += PORTSET_MAX) {
		struct port_taker t = {.skip = taken, .space = space, .certainty = PLACE_SURE};
		struct portset ports = take_ports(e, jail, t);

		if (!ports.count)
			return;
		if (reaper_add(reaper, prefix, &ports) == 0)
			e->kill_queued = true;
	}
}

/* Ports that the configuration names are not killed on before it is known where. */
static bool must_wait(const struct enforcer *e, uint16_t jail)
{
	for (size_t i = 0; i < e->nsources; i++) {
		const struct enforcer_source *s = &e->sources[i];

		if (s->elsewhere || place_is_known(s, PLACE_SURE))
			continue;
		for (size_t k = 0; k < s->conf->njails; k++)
			if (e->conf->jails[s->conf->jails[k]].nports &&
			    (jail >= e->conf->njails || requests_is_of_source(e, s, jail)))
				return true;
	}
	return false;
}

static void defer(struct enforcer *e, const struct addr *prefix, uint16_t jail)
{
	if (e->ndeferred == ENFORCER_DEFERRED)
		e->deferred_all = true;
	else
		e->deferred[e->ndeferred++] = (struct enforcer_deferred){*prefix, jail};
	e->look_up_queued = true;
}

static void kill_peer(struct enforcer *e, const struct addr *prefix, uint16_t jail)
{
	if (!e->reaper)
		return;
	kill_in(e, e->reaper, NULL, prefix, jail);
	for (size_t i = 0; i < e->nspaces; i++)
		kill_in(e, e->spaces[i]->reaper, e->spaces[i], prefix, jail);
	if (must_wait(e, jail))
		defer(e, prefix, jail);
}

/* Of a ban that is in force; where its jail kills at all. */
static void kill_banned(struct enforcer *e, const struct inforce_ban *b)
{
	if (b->jail >= e->conf->njails || e->conf->jails[b->jail].kill)
		kill_peer(e, &b->addr, b->jail);
}

void requests_place_known(struct enforcer *e)
{
	static struct enforcer_deferred waited[ENFORCER_DEFERRED];
	uint32_t n = e->ndeferred, cursor = UINT32_MAX;
	bool all = e->deferred_all;
	struct inforce_ban *b;

	memcpy(waited, e->deferred, n * sizeof waited[0]);
	e->ndeferred = 0;
	e->deferred_all = false;
	for (uint32_t i = 0; i < n; i++)
		kill_peer(e, &waited[i].addr, waited[i].jail);
	while (all && (b = inforce_prev(&e->inforce, &cursor, clock_now().mono_ns)))
		kill_banned(e, b);
}

/* --- bans ------------------------------------------------------------------------------------- */

/* The configuration that the engine's numbers belong to. */
static const struct conf *engine_conf(const struct enforcer *e)
{
	return e->conf_before ? e->conf_before : e->conf;
}

static bool known_jail(const struct enforcer *e, uint16_t jail)
{
	return jail < engine_conf(e)->njails || jail == PROTOCOL_JAIL_HAND ||
	       jail == PROTOCOL_JAIL_KERNEL;
}

/* Well-formed, canonical, and of a jail that exists; the flags are known ones. */
static bool ban_is_honest(const struct enforcer *e, const struct protocol_ban *b, uint8_t flags)
{
	struct addr canonical = b->addr;

	if ((b->addr.family != ADDR_IPV4 && b->addr.family != ADDR_IPV6) ||
	    b->addr.plen > addr_bits(&b->addr))
		return false;
	canonical.plen = (uint8_t)addr_bits(&b->addr);
	canonical = addr_mask(canonical, b->addr.plen);
	if (b->addr.family == ADDR_IPV4)
		memset(canonical.b + 4, 0, 12);
	return addr_eq(&canonical, &b->addr) && known_jail(e, b->jail) &&
	       !(b->flags & (uint8_t)~flags) && b->source <= BAN_KERNEL;
}

/* With the jail's number of now: a reload is faster than what the engine has on its way. */
static struct protocol_ban current(const struct enforcer *e, const struct protocol_ban *b)
{
	struct protocol_ban copy = *b;

	if (e->conf_before)
		copy.jail = enforcer_jail_now(e->conf_before, e->conf, b->jail);
	return copy;
}

static uint8_t class_of(const struct protocol_ban *b)
{
	return (uint8_t)((b->flags & PROTOCOL_BAN_SCOPE_PORT ? INFORCE_SCOPE_PORT : 0) |
			 (b->flags & PROTOCOL_BAN_FORCED ? INFORCE_FORCED : 0));
}

static int64_t end_of(const struct protocol_ban *b, int64_t mono_ns)
{
	if (b->remaining_ms >= (uint64_t)(INT64_MAX - mono_ns) / CLOCK_MSEC_NS)
		return CLOCK_FOREVER;
	return mono_ns + (int64_t)b->remaining_ms * CLOCK_MSEC_NS;
}

/*
 * No port is known (yet), or too many: a drop everywhere is what protects, until the port is found.
 * A longer ban that covers everything anyhow is not touched.
 */
static void drop_everywhere(struct enforcer *e, struct inforce_ban *entry, int64_t mono_ns)
{
	const struct inforce_ban *there;

	entry->flags &= (uint8_t)~INFORCE_SCOPE_PORT;
	there = inforce_get(&e->inforce, &entry->addr, entry->flags, NULL, mono_ns);
	if (!there || there->jail == entry->jail)
		return;
	entry->jail = there->jail;
	entry->source = there->source;
	if (there->end_ns > entry->end_ns)
		entry->end_ns = there->end_ns;
}

/* Into the firewall's queue, or an answer at once when it is refused. */
static void ban(struct enforcer *e, const struct protocol_ban *b, struct now now)
{
	const bool forced = b->flags & PROTOCOL_BAN_FORCED;
	struct protocol_ban reply = *b;
	struct portset ports = {0};
	struct inforce_ban entry;
	struct ignore_hit hit;
	int r;

	if (ignore_check(e->ignore, &b->addr, b->jail < e->conf->njails ? b->jail : IGNORE_ANY_JAIL,
			 forced, now.mono_ns, &hit)) {
		reply.result = ERROR_REFUSED;
		reply.reason = hit.reason;
		answer(e, &reply);
		return;
	}
	if (!e->firewall) {
		answer(e, &reply);
		return;
	}
	service_keep_fresh(e, now.mono_ns);
	entry = (struct inforce_ban){.end_ns = end_of(b, now.mono_ns),
				     .addr = b->addr,
				     .jail = b->jail,
				     .source = b->source,
				     .flags = class_of(b)};
	if (b->flags & PROTOCOL_BAN_SCOPE_PORT) {
		ports = scope_ports(e, b->jail);
		if (!ports.count)
			drop_everywhere(e, &entry, now.mono_ns);
		say_scope(e, b->jail);
	}
	r = firewall_ban(e->firewall, &entry, ports.count ? &ports : NULL, now);
	if (r < 0) {
		reply.result = r;
		answer(e, &reply);
	}
	if (b->flags & PROTOCOL_BAN_KILL) {
		kill_peer(e, &b->addr, b->jail);
		e->look_up_queued = true;
	}
	e->work_queued = true;
}

/* The host of a log line lies in what is to be banned. */
static bool host_is_honest(const struct protocol_ban *b)
{
	return !b->host.family ||
	       (b->host.plen == addr_bits(&b->host) && addr_contains(&b->addr, &b->host));
}

static void refuse_forged(struct enforcer *e, const struct protocol_ban *b,
			  const struct witness_word *word)
{
	struct protocol_ban reply = *b;

	reply.result = ERROR_REFUSED;
	reply.reason = word->reason;
	reply.connections =
		word->connections < UINT32_MAX ? (uint32_t)word->connections : UINT32_MAX;
	answer(e, &reply);
}

static void hear_and_ban(struct enforcer *e, const struct protocol_ban *bans, uint32_t count)
{
	static struct witness_word words[PROTOCOL_BATCH];
	struct now now = clock_now();

	witness_hear(e, bans, count, words);
	for (uint32_t i = 0; i < count; i++) {
		if (words[i].reason)
			refuse_forged(e, &bans[i], &words[i]);
		else
			ban(e, &bans[i], now);
	}
}

#define HELD_MOST 65536u

/* False when there is no room: then it is heard as it is. */
static bool hold(struct enforcer *e, const struct protocol_ban *b)
{
	struct protocol_ban *grown;

	if (e->settled || !b->host.family || e->nheld == HELD_MOST)
		return false;
	if (e->nheld == e->held_room) {
		grown = realloc(e->held, (e->held_room ? 2 * e->held_room : 256) * sizeof *grown);
		if (!grown)
			return false;
		e->held = grown;
		e->held_room = e->held_room ? 2 * e->held_room : 256;
	}
	e->held[e->nheld++] = *b;
	return true;
}

void requests_hear_held(struct enforcer *e)
{
	struct protocol_ban *held = e->held;
	uint32_t n = e->nheld;

	e->held = NULL;
	e->nheld = e->held_room = 0;
	for (uint32_t at = 0; at < n; at += PROTOCOL_BATCH)
		hear_and_ban(e, held + at, n - at < PROTOCOL_BATCH ? n - at : PROTOCOL_BATCH);
	free(held);
}

static void on_ban(void *ctx, const void *entries, uint32_t count, int *fds)
{
	static struct protocol_ban wanted[PROTOCOL_BATCH];
	struct enforcer *e = ctx;
	const struct protocol_ban *b = entries;
	uint32_t n = 0;

	(void)fds;
	for (uint32_t i = 0; i < count; i++) {
		wanted[n] = current(e, &b[i]);
		if (!ban_is_honest(e, &b[i], PROTOCOL_BAN_KILL | PROTOCOL_BAN_SCOPE_PORT) ||
		    !host_is_honest(&b[i])) {
			enforcer_engine_broke_rules(e);
			return;
		}
		n += !hold(e, &wanted[n]);
	}
	hear_and_ban(e, wanted, n);
}

int requests_ban_by_force(struct enforcer *e, struct protocol_ban *b)
{
	struct now now = clock_now();
	struct ignore_hit hit;

	b->flags = PROTOCOL_BAN_FORCED | (b->flags & PROTOCOL_BAN_KILL);
	if (!ban_is_honest(e, b, PROTOCOL_BAN_FORCED | PROTOCOL_BAN_KILL))
		return -EINVAL;
	if (ignore_check(e->ignore, &b->addr, IGNORE_ALL_JAILS, true, now.mono_ns, &hit)) {
		b->reason = hit.reason;
		return ERROR_REFUSED;
	}
	ban(e, b, now);
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_FORCED, b, 1, -1);
	return 0;
}

/* A ban of a port that was not known then drops everywhere, in the name of its jail. */
static void unban(struct enforcer *e, const struct protocol_ban *b, struct now now)
{
	const struct inforce_ban *everywhere;

	if (firewall_unban(e->firewall, &b->addr, class_of(b), NULL, now) ||
	    !(b->flags & PROTOCOL_BAN_SCOPE_PORT))
		return;
	everywhere = inforce_get(&e->inforce, &b->addr, 0, NULL, now.mono_ns);
	if (everywhere && everywhere->jail == b->jail)
		firewall_unban(e->firewall, &b->addr, 0, NULL, now);
}

static void on_unban(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct protocol_ban *b = entries;
	struct now now = clock_now();

	(void)fds;
	for (uint32_t i = 0; i < count; i++) {
		struct protocol_ban reply = current(e, &b[i]);

		if (!ban_is_honest(e, &b[i], PROTOCOL_BAN_FORCED | PROTOCOL_BAN_SCOPE_PORT)) {
			enforcer_engine_broke_rules(e);
			return;
		}
		reply.remaining_ms = 0;
		if (e->firewall)
			unban(e, &reply, now);
		answer(e, &reply);
	}
	e->work_queued = true;
}

/* It dropped on ports that are known no longer: now everywhere. */
static bool widen_scope(struct enforcer *e, const struct inforce_ban *b,
			const struct portset *before, struct now now)
{
	const struct inforce_ban old = *b;
	struct inforce_ban fresh = *b;

	if (!(old.flags & INFORCE_SCOPE_PORT) || !is_elsewhere(e, old.jail))
		return false;
	fresh.flags = 0;
	drop_everywhere(e, &fresh, now.mono_ns);
	if (firewall_ban(e->firewall, &fresh, NULL, now) < 0)
		return false;
	firewall_unban(e->firewall, &old.addr, old.flags, before->count ? before : NULL, now);
	return true;
}

/* The ports of a scope = port ban are those of now; true when it had others. */
static bool move_scope(struct enforcer *e, const struct inforce_ban *b, struct now now)
{
	const struct portset ports = scope_ports(e, b->jail);
	const struct inforce_ban old = *b;
	struct inforce_ban fresh = *b;
	struct portset before = {0};

	if (b->flags & INFORCE_FORCED)
		return false;
	if (old.ports)
		before = *inforce_ports_of(&e->inforce, b);
	if (!ports.count)
		return widen_scope(e, b, &before, now);
	fresh.flags = INFORCE_SCOPE_PORT;
	if (b == inforce_get(&e->inforce, &b->addr, fresh.flags, &ports, now.mono_ns))
		return false;
	if (firewall_ban(e->firewall, &fresh, &ports, now) < 0)
		return false;
	firewall_unban(e->firewall, &old.addr, old.flags, before.count ? &before : NULL, now);
	return true;
}

/* Bans with scope = port move to the ports of now, and all that hold connections there lose them.
 */
void requests_ports_known(struct enforcer *e, size_t source)
{
	struct now now = clock_now();
	uint32_t cursor = UINT32_MAX;
	struct inforce_ban *b;

	watches_ports(e);
	while ((b = inforce_prev(&e->inforce, &cursor, now.mono_ns))) {
		const struct inforce_ban copy = *b;
		bool ours = requests_is_of_source(e, &e->sources[source], copy.jail);

		if (ours && e->firewall && e->conf->jails[copy.jail].scope_port &&
		    move_scope(e, b, now))
			e->work_queued = true;
		if (ours || copy.jail >= e->conf->njails)
			kill_banned(e, &copy);
	}
}

void requests_flush(struct enforcer *e)
{
	if (e->work_queued && e->firewall) {
		e->work_queued = false;
		if (firewall_commit(e->firewall, clock_now()) < 0)
			enforcer_say_health(e);
	}
	send_results(e);
	if (e->kill_queued) {
		e->kill_queued = false;
		reaper_run(e->reaper);
		for (size_t i = 0; i < e->nspaces; i++)
			reaper_run(e->spaces[i]->reaper);
	}
	if (e->look_up_queued) {
		e->look_up_queued = false;
		service_look_up_missing(e);
	}
}

void requests_bans_in_force(struct enforcer *e)
{
	struct protocol_ban batch[64];
	uint32_t cursor = UINT32_MAX, n = 0;
	int64_t mono_ns = clock_now().mono_ns;
	struct inforce_ban *b;

	while ((b = inforce_prev(&e->inforce, &cursor, mono_ns))) {
		batch[n++] = from_inforce(b, mono_ns);
		if (n == sizeof batch / sizeof batch[0]) {
			channel_send(e->engine.channel, PROTOCOL_INFORCE, batch, n, -1);
			n = 0;
		}
	}
	if (n)
		channel_send(e->engine.channel, PROTOCOL_INFORCE, batch, n, -1);
	channel_send(e->engine.channel, PROTOCOL_INFORCE_END, &(struct protocol_ping){0}, 1, -1);
}

int requests_firewall_open(struct enforcer *e, struct error *err)
{
	const struct firewall_options options = {
		.loop = e->loop,
		.inforce = &e->inforce,
		.maxbans = e->conf->maxbans,
		.source_kernel = BAN_KERNEL,
		.hooks = {.ctx = e,
			  .result = on_result,
			  .element = on_element,
			  .repaired = on_repaired,
			  .bell = on_bell},
	};
	const struct reaper_hooks hooks = requests_kill_hooks(e);
	int r;

	r = firewall_open(&options, clock_now(), &e->firewall, err);
	if (r < 0)
		return r;
	r = firewall_adopt(e->firewall, clock_now(), err);
	if (r < 0)
		return r;
	return reaper_open(e->loop, &hooks, e->conf->maxbans, &e->reaper, err);
}

/* --- files and watches ------------------------------------------------------------------------ */

struct open_job {
	struct enforcer *e;
	uint32_t source, generation;
	bool first; /* the first file is the one whose writer we look for */
};

static void found_file(void *ctx, const struct logfile_found *found)
{
	struct open_job *job = ctx;
	struct enforcer_source *s = &job->e->sources[job->source];
	struct protocol_file entry = {.source = job->source,
				      .generation = job->generation,
				      .error = found->err,
				      .entries = found->kind == LOGFILE_ENTRIES};
	struct stat st;

	snprintf(entry.path, sizeof entry.path, "%s", found->path);
	channel_send(job->e->engine.channel,
		     found->kind == LOGFILE_FILE ? PROTOCOL_FILE : PROTOCOL_DIR, &entry, 1,
		     found->fd);
	if (found->kind == LOGFILE_FILE && found->fd >= 0 && job->first &&
	    fstat(found->fd, &st) == 0) {
		job->first = false;
		s->opened = true;
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
	if (found->fd >= 0)
		close(found->fd);
}

static void on_open(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct protocol_open *o = entries;
	struct open_job job = {e, o->source, o->generation, true};
	struct logfile_count counted = {0};
	struct protocol_open done = *o;
	const struct source_conf *sc;

	(void)count;
	(void)fds;
	if (o->source >= (e->conf_before ? e->nsources_before : e->nsources)) {
		enforcer_engine_broke_rules(e);
		return;
	}
	if (e->conf_before)
		return; /* it asks for all of its sources anew when it has taken the new list */
	sc = e->sources[o->source].conf;
	logfile_open(sc->patterns, sc->npatterns,
		     sc->backend == BACKEND_POLLING ? LOGFILE_WANT_FILES : LOGFILE_WANT_ALL,
		     found_file, &job, &counted);
	done.count = counted.files;
	done.left_out = counted.left_out;
	channel_send(e->engine.channel, PROTOCOL_OPENED, &done, 1, -1);
	e->sources[o->source].tried = true;
	if (!job.first) {
		service_look_up(e, o->source, CLOCK_SECOND_NS);
	} else {
		requests_place_known(e);
		watches_ports(e);
	}
}

static void on_inotify(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;

	(void)entries;
	(void)count;
	if (e->inotify_fd >= 0)
		close(e->inotify_fd);
	e->inotify_fd = fds[0];
	fds[0] = -1;
}

/* The engine may not read this inode, but it has been given a descriptor of it: watch it on its
 * behalf. */
static void on_watch(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	struct protocol_watch w = *(const struct protocol_watch *)entries;
	char path[64];
	struct stat st;

	(void)count;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
	if (e->inotify_fd < 0 || fstat(fds[0], &st) < 0 ||
	    !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		w.wd = -EBADF;
	else
		w.wd = inotify_add_watch(e->inotify_fd, path, w.mask);
	if (w.wd < 0 && w.wd != -EBADF)
		w.wd = -errno;
	channel_send(e->engine.channel, PROTOCOL_WATCHED, &w, 1, -1);
}

/* --- counters, commands, the rest ------------------------------------------------------------- */

struct counted_batch {
	struct enforcer *e;
	struct protocol_counted entries[PROTOCOL_BATCH];
	uint32_t n;
};

static void send_counted(struct counted_batch *batch)
{
	if (batch->n)
		channel_send(batch->e->engine.channel, PROTOCOL_COUNTED, batch->entries, batch->n,
			     -1);
	batch->n = 0;
}

static void counted(void *ctx, const struct inforce_ban *b, const struct firewall_drops *drops)
{
	struct counted_batch *batch = ctx;

	batch->entries[batch->n++] = (struct protocol_counted){
		.addr = b->addr,
		.flags = b->flags & INFORCE_SCOPE_PORT ? PROTOCOL_BAN_SCOPE_PORT : 0,
		.packets = drops->packets,
		.bytes = drops->bytes,
	};
	if (batch->n == PROTOCOL_BATCH)
		send_counted(batch);
}

/* One slice; the timer brings the next, so that bans go out in between. */
static void counters_slice(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct enforcer *e = w->data;
	struct counted_batch batch = {.e = e};
	int r = 0;

	(void)revents;
	if (!e->engine.channel)
		return;
	if (e->firewall)
		r = firewall_each_drops(e->firewall, &e->counters_cursor, 1000, clock_now(),
					counted, &batch);
	send_counted(&batch);
	if (r > 0) {
		ev_timer_set(w, 0., 0.);
		ev_timer_start(loop, w);
		return;
	}
	e->counters_running = false;
	channel_send(e->engine.channel, PROTOCOL_COUNTED_ALL,
		     &(struct protocol_ping){e->counters_serial}, 1, -1);
}

static void on_counters(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;

	(void)count;
	(void)fds;
	e->counters_serial = ((const struct protocol_ping *)entries)->serial;
	e->counters_cursor = UINT32_MAX;
	if (e->counters_running)
		return;
	e->counters_running = true;
	ev_timer_init(&e->counters_slice, counters_slice, 0., 0.);
	e->counters_slice.data = e;
	ev_timer_start(e->loop, &e->counters_slice);
}

void requests_forget_engine(struct enforcer *e)
{
	if (e->counters_running)
		ev_timer_stop(e->loop, &e->counters_slice);
	e->counters_running = false;
}

/* Goes to the runner with its numbers; the runner checks the values, indexes are checked here. */
static void on_run(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	static char message[PROTOCOL_VALUES_MAX];
	const struct conf *conf = engine_conf(e);
	struct protocol_run run;

	(void)fds;
	if (count < sizeof run) {
		enforcer_engine_broke_rules(e);
		return;
	}
	memcpy(&run, entries, sizeof run);
	if (run.jail >= conf->njails || run.action >= conf->jails[run.jail].nactions ||
	    conf->jails[run.jail].actions[run.action].kind != ACTION_COMMAND) {
		enforcer_engine_broke_rules(e);
		return;
	}
	memcpy(message, entries, count);
	if (e->runner.channel && commands_to_runner(e, conf, &run)) {
		memcpy(message, &run, sizeof run);
		if (channel_send(e->runner.channel, PROTOCOL_RUN, message, count, -1) == 0)
			return;
	}
	e->runner_dropped++;
}

static void on_seen(void *ctx, const void *entries, uint32_t count, int *fds)
{
	const struct protocol_sighting *s = entries;

	(void)count;
	(void)fds;
	if (s->addr.family != ADDR_IPV4 && s->addr.family != ADDR_IPV6)
		enforcer_engine_broke_rules(ctx);
	else
		witness_tell(ctx, s);
}

static void on_look(void *ctx, const void *entries, uint32_t count, int *fds)
{
	(void)count;
	(void)fds;
	watches_look(ctx, ((const struct protocol_ping *)entries)->serial);
}

static void on_sync(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;

	(void)count;
	(void)fds;
	requests_flush(e);
	channel_send(e->engine.channel, PROTOCOL_SYNCED, entries, 1, -1);
}

static void on_ready(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct protocol_ready *ready = entries;

	(void)count;
	(void)fds;
	enforcer_ready(e, ready->sources, ready->files);
}

static void on_pong(void *ctx, const void *entries, uint32_t count, int *fds)
{
	(void)entries;
	(void)count;
	(void)fds;
	enforcer_pong(ctx);
}

static void on_reload(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct protocol_reload *wanted = entries;
	struct protocol_reload done = *wanted;
	struct error err = {0};
	int fd;

	(void)count;
	(void)fds;
	notify("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_now().mono_ns / 1000));
	done.result = enforcer_reload(e, wanted, &err);
	error_format(&err, done.text, sizeof done.text);
	fd = done.result == 0 ? e->resume_fd : -1;
	channel_send(e->engine.channel, PROTOCOL_RELOADED, &done, 1, fd);
	notify("READY=1");
	if (done.result == 0)
		service_tell_engine(e);
}

static void on_reload_taken(void *ctx, const void *entries, uint32_t count, int *fds)
{
	(void)entries;
	(void)count;
	(void)fds;
	enforcer_forget_conf(ctx);
	watches_afresh(ctx); /* what was found meanwhile was told to nobody */
}

#define ROW(type, entry, most, fds_least, fds_most)                                                \
	[PROTOCOL_##type] = {#type, sizeof(entry), 1, most, fds_least, fds_most, HANDLER_##type},
#define HANDLER_READY on_ready
#define HANDLER_PONG on_pong
#define HANDLER_INOTIFY on_inotify
#define HANDLER_OPEN on_open
#define HANDLER_WATCH on_watch
#define HANDLER_BAN on_ban
#define HANDLER_UNBAN on_unban
#define HANDLER_SYNC on_sync
#define HANDLER_COUNTERS on_counters
#define HANDLER_LOOK on_look
#define HANDLER_SEEN on_seen
#define HANDLER_RUN on_run
#define HANDLER_RELOAD on_reload
#define HANDLER_RELOAD_TAKEN on_reload_taken

const struct message_type enforcer_engine_types[] = {PROTOCOL_TO_ENFORCER(ROW)};
const uint32_t enforcer_engine_ntypes = PROTOCOL_TO_ENFORCER_TYPES;
