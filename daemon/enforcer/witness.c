/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The witness: has the kernel seen the address that a log line names?
 *
 * A log line can be forged, a connection cannot: the firewall's record holds who has spoken with
 * the service's ports (firewall_record.h), here and in each network namespace that a log's writer
 * lives in. Bans of log lines are compared with it before they go out, all of a message at once:
 *
 *	1. the records; 2. who is in none: the sockets themselves, without half-open ones (a spoofed
 *	SYN makes these); 3. who is not there: the records again, the socket may have died in
 *	between.
 *
 * Who is in none of them is refused. A jail can have services in several namespaces, and a ban does
 * not say which of its logs it is of: seen in any of them counts. Where the records count and the
 * log writes one line for each connection, lines beyond the connections are forged too, and are
 * taken off the offences: so an innocent client that really is connected is not banned by lines of
 * others in its name.
 *
 * `auto` asks for no witness where there is none: no port of the service known, a port on which
 * nobody listens (logs of other hosts), no TCP port, or a service in a namespace that cannot be
 * entered. `yes` refuses then. A record that cannot be kept in another namespace leaves the sockets
 * there to decide.
 */
#include "daemon/enforcer/state.h"
#include "daemon/jail/bans.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATES                                                                                     \
	((SOCK_CONNECTED | SOCK_STATE(TCP_TIME_WAIT)) &                                            \
	 ~(SOCK_STATE(TCP_SYN_RECV) | SOCK_STATE(TCP_SYN_SENT)))

/* One message of bans, in one place after the other. */
struct hearing {
	struct enforcer *e;
	const struct protocol_ban *bans;
	struct witness_word *words;
	uint32_t n;
	struct space *space; /* NULL: this namespace */
	bool again;          /* ask only for those that were not seen */
};

/* --- whom it concerns ------------------------------------------------------------------------- */

static bool is_of(const struct enforcer_source *s, uint16_t jail)
{
	for (size_t k = 0; k < s->conf->njails; k++)
		if (s->conf->jails[k] == jail)
			return true;
	return false;
}

static bool found_in(const struct enforcer *e, uint16_t jail, const struct space *space)
{
	for (size_t i = 0; i < e->nsources; i++) {
		const struct enforcer_source *s = &e->sources[i];

		if (is_of(s, jail) && s->found && s->elsewhere == (space != NULL) &&
		    s->space == space)
			return true;
	}
	return false;
}

/* A service of the jail is where nobody can be asked. */
static bool is_blind(const struct enforcer *e, uint16_t jail)
{
	for (size_t i = 0; i < e->nsources; i++)
		if (is_of(&e->sources[i], jail) && e->sources[i].elsewhere && !e->sources[i].space)
			return true;
	return false;
}

static void take_listener(void *ctx, const struct sock_info *sock)
{
	(void)sock;
	*(bool *)ctx = true;
}

static bool somebody_listens(struct sockdiag *sd, const struct portset *ports)
{
	bool found = false;

	for (unsigned i = 0; sd && i < ports->count && !found; i++)
		(void)sockdiag_each(sd, AF_UNSPEC, SOCK_LISTENING, ports->port[i].number,
				    take_listener, &found);
	return found;
}

static struct portset tcp_ports(const struct enforcer *e, uint16_t jail, const struct space *space)
{
	struct portset all = requests_ports(e, jail, space), tcp = {0};

	for (unsigned i = 0; i < all.count; i++)
		if (all.port[i].proto == IPPROTO_TCP)
			tcp.port[tcp.count++] = all.port[i];
	return tcp;
}

static bool has_witness_in(struct enforcer *e, uint16_t jail, struct space *space)
{
	struct portset ports = tcp_ports(e, jail, space);

	if (!ports.count)
		return false;
	return e->conf->jails[jail].port_auto ? found_in(e, jail, space)
					      : somebody_listens(witness_sockets(e, space), &ports);
}

/* Without a sighting: is there a witness at all for this jail? */
static bool has_witness(struct enforcer *e, uint16_t jail)
{
	bool any = !is_blind(e, jail) && has_witness_in(e, jail, NULL);

	for (size_t i = 0; i < e->nspaces && !any; i++)
		any = !is_blind(e, jail) && has_witness_in(e, jail, e->spaces[i]);
	return any;
}

static bool concerns(const struct enforcer *e, const struct protocol_ban *b)
{
	return b->source == BAN_LOG && b->host.family && b->jail < e->conf->njails &&
	       e->conf->jails[b->jail].witness != WITNESS_NO &&
	       (e->conf->jails[b->jail].port_auto ||
		conf_count_ports(&e->conf->jails[b->jail]) <= CONF_SCOPE_PORTS);
}

/* --- the record ------------------------------------------------------------------------------- */

static int ask(struct enforcer *e, struct space *space, struct firewall_sighting *list, size_t n)
{
	if (!space)
		return firewall_seen(e->firewall, list, n, clock_now());
	return space->record ? record_seen(space->record, list, n, clock_now()) : -ENOENT;
}

static void ask_some(struct hearing *h, struct firewall_sighting *list, const uint32_t *whose,
		     uint32_t n)
{
	int r = n ? ask(h->e, h->space, list, n) : 0;

	for (uint32_t i = 0; i < n; i++) {
		struct witness_word *w = &h->words[whose[i]];

		if (r < 0 || list[i].error) {
			w->uncounted = true;
			continue;
		}
		w->seen |= list[i].seen;
		w->counted |= list[i].seen;
		w->connections += list[i].connections;
	}
}

/* The record of one place, about everybody or those who are not seen yet. */
static void ask_record(struct hearing *h)
{
	struct firewall_sighting list[FIREWALL_SEEN_MAX];
	uint32_t whose[FIREWALL_SEEN_MAX], n = 0;

	for (uint32_t i = 0; i < h->n; i++) {
		const struct portset *ports = &h->words[i].ports;

		if (h->again && h->words[i].seen)
			continue;
		if (n + ports->count > FIREWALL_SEEN_MAX) {
			ask_some(h, list, whose, n);
			n = 0;
		}
		for (unsigned k = 0; k < ports->count; k++) {
			list[n] = (struct firewall_sighting){.addr = h->bans[i].host,
							     .port = ports->port[k].number};
			whose[n++] = i;
		}
	}
	ask_some(h, list, whose, n);
}

/* --- the sockets ------------------------------------------------------------------------------ */

struct looking {
	struct hearing *h;
	const uint32_t *order; /* unseen ones, sorted by host */
	uint32_t n;
};

/* As the record keeps them. */
static struct addr unit_of(const struct addr *host)
{
	return host->family == ADDR_IPV6 ? addr_mask(*host, 64) : *host;
}

static void take_socket(void *ctx, const struct sock_info *sock)
{
	struct looking *l = ctx;
	struct addr peer = unit_of(&sock->peer);
	uint32_t low = 0, high = l->n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		struct addr host = unit_of(&l->h->bans[l->order[middle]].host);

		if (addr_cmp(&host, &peer) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < l->n; low++) {
		struct witness_word *w = &l->h->words[l->order[low]];
		struct addr host = unit_of(&l->h->bans[l->order[low]].host);

		if (!addr_eq(&host, &peer))
			return;
		w->seen |= portset_has(&w->ports, IPPROTO_TCP, sock->lport);
	}
}

static int by_host(const void *a, const void *b, void *hearing)
{
	const struct protocol_ban *list = ((const struct hearing *)hearing)->bans;
	struct addr x = unit_of(&list[*(const uint32_t *)a].host);
	struct addr y = unit_of(&list[*(const uint32_t *)b].host);

	return addr_cmp(&x, &y);
}

/* One dump for each port that some unseen ban has. */
static void ask_sockets(struct hearing *h)
{
	uint32_t order[PROTOCOL_BATCH];
	struct looking l = {.h = h, .order = order};
	struct sockdiag *sd = witness_sockets(h->e, h->space);
	struct portset asked = {0};

	for (uint32_t i = 0; i < h->n; i++)
		if (h->words[i].ports.count && !h->words[i].seen)
			order[l.n++] = i;
	if (!l.n || !sd)
		return;
	qsort_r(order, l.n, sizeof order[0], by_host, h);
	for (uint32_t i = 0; i < l.n; i++) {
		const struct portset *ports = &h->words[order[i]].ports;

		for (unsigned k = 0; k < ports->count; k++) {
			if (asked.count == PORTSET_MAX ||
			    portset_has(&asked, IPPROTO_TCP, ports->port[k].number))
				continue;
			asked.port[asked.count++] = ports->port[k];
			(void)sockdiag_each(sd, AF_UNSPEC, STATES, ports->port[k].number,
					    take_socket, &l);
		}
	}
}

/* --- the verdict ------------------------------------------------------------------------------ */

/* A proxy in front may keep a client's connection for many requests. */
static bool by_proxy(const struct enforcer *e, uint16_t jail)
{
	for (size_t i = 0; i < e->nsources; i++)
		for (size_t k = 0; k < e->sources[i].conf->njails; k++)
			if (e->sources[i].conf->jails[k] == jail && e->sources[i].last.by_proxy)
				return true;
	return false;
}

static uint32_t forged_lines(const struct enforcer *e, const struct witness_word *w,
			     const struct protocol_ban *b)
{
	if (by_proxy(e, b->jail) || e->uncounted)
		return 0;
	return w->counted && !w->uncounted && b->lines > w->connections ? b->lines - w->connections
									: 0;
}

static uint32_t verdict(struct hearing *h, uint32_t i)
{
	const struct protocol_ban *b = &h->bans[i];
	struct witness_word *w = &h->words[i];
	uint32_t forged;

	if (!w->concerned)
		return 0;
	if (!w->seen) {
		if (has_witness(h->e, b->jail))
			return PROTOCOL_REASON_UNSEEN;
		return h->e->conf->jails[b->jail].witness == WITNESS_YES ? PROTOCOL_REASON_NO_RECORD
									 : 0;
	}
	forged = forged_lines(h->e, w, b);
	return b->offences < b->needed + forged && forged ? PROTOCOL_REASON_FORGED : 0;
}

struct sockdiag *witness_sockets(struct enforcer *e, struct space *space)
{
	if (space)
		return &space->look;
	if (!e->witness_open)
		e->witness_open = sockdiag_open(&e->witness_sd, NULL) == 0;
	return e->witness_open ? &e->witness_sd : NULL;
}

/* In this namespace, then in each other one. Places where the bans' jails have no port cost
 * nothing.
 */
static void in_each_place(struct hearing *h, void (*ask_there)(struct hearing *h))
{
	for (size_t place = 0; place <= h->e->nspaces; place++) {
		h->space = place ? h->e->spaces[place - 1] : NULL;
		for (uint32_t i = 0; i < h->n; i++)
			if (h->words[i].concerned)
				h->words[i].ports = tcp_ports(h->e, h->bans[i].jail, h->space);
		ask_there(h);
	}
}

static bool all_are_seen(const struct hearing *h)
{
	for (uint32_t i = 0; i < h->n; i++)
		if (h->words[i].concerned && !h->words[i].seen)
			return false;
	return true;
}

void witness_hear(struct enforcer *e, const struct protocol_ban *bans, uint32_t n,
		  struct witness_word *ret_words)
{
	struct hearing h = {.e = e, .bans = bans, .words = ret_words, .n = n};
	bool any = false;

	memset(ret_words, 0, n * sizeof *ret_words);
	if (!e->firewall || !witness_sockets(e, NULL))
		return;
	for (uint32_t i = 0; i < n; i++) {
		ret_words[i].concerned = concerns(e, &bans[i]);
		ret_words[i].uncounted =
			ret_words[i].concerned && e->nspaces && is_blind(e, bans[i].jail);
		any |= ret_words[i].concerned;
	}
	if (!any)
		return;
	if (e->firewall) {
		firewall_record(e->firewall, clock_now(), &e->record);
		e->uncounted = e->single || e->record.weak || e->record.full4 || e->record.full6;
	}
	in_each_place(&h, ask_record);
	h.again = true;
	if (!all_are_seen(&h)) {
		in_each_place(&h, ask_sockets);
		in_each_place(&h, ask_record);
	}
	for (uint32_t i = 0; i < n; i++)
		ret_words[i].reason = verdict(&h, i);
}

static void add_sighting(struct protocol_sighting *s, const struct firewall_sighting *f)
{
	if (f->error)
		return;
	s->recorded++;
	if (!f->seen)
		return;
	if (!s->seen || f->age_ms < s->age_ms)
		s->age_ms = f->age_ms;
	s->seen = 1;
	s->connections += f->connections;
}

static void tell_place(struct enforcer *e, struct space *space, struct protocol_sighting *told)
{
	struct firewall_sighting list[PORTSET_MAX];
	struct portset done = {0};
	size_t n = 0;

	for (size_t i = 0; i < e->conf->njails; i++) {
		struct portset ports = tcp_ports(e, (uint16_t)i, space);

		for (unsigned k = 0; k < ports.count && done.count < PORTSET_MAX; k++) {
			if (portset_has(&done, IPPROTO_TCP, ports.port[k].number))
				continue;
			done.port[done.count++] = ports.port[k];
			list[n++] = (struct firewall_sighting){.addr = told->addr,
							       .port = ports.port[k].number};
		}
	}
	if (n && ask(e, space, list, n) == 0)
		for (size_t i = 0; i < n; i++)
			add_sighting(told, &list[i]);
}

void witness_tell(struct enforcer *e, const struct protocol_sighting *asked)
{
	struct protocol_sighting told = {.serial = asked->serial, .addr = asked->addr};

	if (e->firewall)
		tell_place(e, NULL, &told);
	for (size_t i = 0; i < e->nspaces; i++)
		tell_place(e, e->spaces[i], &told);
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_SIGHTED, &told, 1, -1);
}

/* Lines that are older than the record are decided by the sockets alone. */
static void say_since(const struct firewall_record_state *r, bool on, char *text, size_t size)
{
	struct now now = clock_now();
	bool known = r->since_mono_ns > 0 && r->since_mono_ns != CLOCK_FOREVER;
	int64_t ago_ns = known ? now.mono_ns - r->since_mono_ns : 0;
	time_t since_s = (time_t)((now.wall_ns - ago_ns) / CLOCK_SECOND_NS);
	struct tm tm;
	char date[32];

	if (!on)
		snprintf(text, size, "none: no jail has a port to record, or witness = no");
	else if (!known || ago_ns > FIREWALL_RECORD_MS * CLOCK_MSEC_NS ||
		 !localtime_r(&since_s, &tm) || !strftime(date, sizeof date, "%F %T", &tm))
		snprintf(text, size, "ok");
	else
		snprintf(text, size, "ok, for lines since %s", date);
}

/* --- health ----------------------------------------------------------------------------------- */

/* False when there is nothing to say of this namespace's record. */
static bool health_there(struct space *space, bool *on, char *text, size_t size)
{
	unsigned long long ino = space->ino;
	struct firewall_record_state state;

	if (!space->record) {
		if (space->record_error)
			snprintf(text, size,
				 "no record in network namespace %llu (%s): its sockets decide",
				 ino, error_name(space->record_error));
		return space->record_error;
	}
	record_state(space->record, clock_now(), &state);
	*on |= state.on;
	if (state.full4 || state.full6)
		snprintf(text, size,
			 "the record in network namespace %llu is full: its sockets decide", ino);
	else if (!state.on || state.weak)
		snprintf(text, size, "network namespace %llu: %s", ino, state.text);
	return !state.on || state.weak || state.full4 || state.full6;
}

/* "ok" or why the records are not all there is to go by. */
void witness_health(struct enforcer *e, char *text, size_t size)
{
	const struct firewall_record_state *r = &e->record;
	bool said = false, on;

	if (!e->firewall) {
		snprintf(text, size, "dry run");
		return;
	}
	firewall_record(e->firewall, clock_now(), &e->record);
	on = r->on;
	for (size_t i = 0; i < e->nspaces && !said; i++)
		said = health_there(e->spaces[i], &on, text, size);
	if (r->full4 || r->full6)
		snprintf(text, size, "the record is full (%u): the sockets decide", r->size);
	else if (r->weak)
		snprintf(text, size, "%s", r->text);
	else if (!said)
		say_since(r, on, text, size);
}

/* --- when the services are known -------------------------------------------------------------- */

#define SETTLE_S 5. /* a log whose service is still not found by then has none */

static bool still_looking(const struct enforcer *e)
{
	if (!e->ready)
		return true;
	for (size_t i = 0; i < e->nsources; i++)
		if (e->sources[i].waiting)
			return true;
	return false;
}

void witness_settle(struct enforcer *e)
{
	if (e->settled || (still_looking(e) && ev_is_active(&e->settle_timer)))
		return;
	ev_timer_stop(e->loop, &e->settle_timer);
	e->settled = true;
	watches_ports(e);
	requests_hear_held(e);
	enforcer_say_ready(e);
}

static void on_settle(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct enforcer *e = w->data;

	(void)loop;
	(void)revents;
	witness_settle(e);
	requests_flush(e);
}

void witness_unsettle(struct enforcer *e)
{
	if (ev_is_active(&e->settle_timer))
		ev_timer_stop(e->loop, &e->settle_timer);
	ev_timer_init(&e->settle_timer, on_settle, SETTLE_S, 0.);
	e->settle_timer.data = e;
	ev_timer_start(e->loop, &e->settle_timer);
	e->settled = false;
}

void witness_close(struct enforcer *e)
{
	free(e->held);
	e->held = NULL;
	if (e->witness_open)
		sockdiag_close(&e->witness_sd);
	e->witness_open = false;
}
