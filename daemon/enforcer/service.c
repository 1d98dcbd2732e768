/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the prober finds: the ports that jails protect, administrators' ssh peers; and the ignore
 * list.
 *
 * Questions go to the prober process and are answered some 10 ms later; bans do not wait for them.
 * A port that becomes known is followed by a kill for every ban that is in force. An ssh peer that
 * turns out to be banned is unbanned at once. Without an answer nothing is killed and nothing is
 * lost.
 *
 * Jails that name their ports are asked about as well: not for the ports, but for the network
 * namespace in which these are meant.
 */
#include "daemon/base/escape.h"
#include "daemon/base/hostaddr.h"
#include "daemon/base/log.h"
#include "daemon/enforcer/state.h"
#include "daemon/sockets/prober.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define SSH_TOKEN UINT32_MAX
/* A token: generation of the list of sources, number of the source. */
#define TOKEN_SOURCES 65536u
/* After a ban, ports found longer ago are looked up again; places, and ports in other namespaces,
 * where it takes a process of its own. */
#define PORTS_OLD_NS (10 * CLOCK_SECOND_NS)
#define PLACE_OLD_NS (60 * CLOCK_SECOND_NS)
#define ASK_AT_MOST_NS CLOCK_SECOND_NS /* of one source, whatever happens */
#define UTMP "/var/run/utmp"

/* --- questions ----------------------------------------------------------------------------------
 */

static void ask(struct enforcer *e, const struct prober_question *q)
{
	if (!e->prober.channel || channel_send(e->prober.channel, PROBER_ASK, q, 1, -1) < 0)
		return;
	e->prober_pending++;
}

/* --- protected ports -------------------------------------------------------------------------- */

static bool are_borrowed(const struct conf *conf)
{
	for (size_t i = 0; i < conf->njails; i++)
		if (conf_borrows_ports(&conf->jails[i]))
			return true;
	return false;
}

/* Something depends on where the writer is, or on which ports. */
static bool is_wanted(const struct enforcer *e, const struct enforcer_source *s)
{
	bool borrowed = are_borrowed(e->conf);

	for (size_t i = 0; i < s->conf->njails; i++) {
		const struct jail_conf *j = &e->conf->jails[s->conf->jails[i]];

		if (j->kill || j->scope_port || borrowed || j->backend == BACKEND_SOCKETS)
			return true;
	}
	return false;
}

bool service_asks_ports(const struct enforcer *e, const struct enforcer_source *s)
{
	for (size_t i = 0; i < s->conf->njails; i++)
		if (e->conf->jails[s->conf->jails[i]].port_auto)
			return true;
	return false;
}

bool service_is_watched(const struct enforcer *e, const struct enforcer_source *s)
{
	for (size_t i = 0; i < s->conf->njails; i++)
		if (e->conf->jails[s->conf->jails[i]].backend == BACKEND_SOCKETS)
			return true;
	return are_borrowed(e->conf);
}

static void add_proxies(const struct enforcer *e, const struct enforcer_source *s,
			struct prober_question *q)
{
	for (size_t i = 0; i < s->conf->njails; i++) {
		const struct netlist *list = &e->conf->jails[s->conf->jails[i]].trusted_proxy;

		for (size_t k = 0; k < list->count && q->nproxies < PROBER_PROXIES_MAX; k++)
			q->proxies[q->nproxies++] = list->nets[k];
	}
}

static uint32_t token_of(const struct enforcer *e, uint32_t source)
{
	return e->generation * TOKEN_SOURCES + source;
}

struct enforcer_source *service_source(struct enforcer *e, uint32_t token)
{
	uint32_t source = token % TOKEN_SOURCES;

	return source < e->nsources && token == token_of(e, source) ? &e->sources[source] : NULL;
}

void service_question(const struct enforcer *e, size_t source, struct prober_question *ret_q)
{
	const struct enforcer_source *s = &e->sources[source];

	*ret_q = (struct prober_question){.kind = PROBER_LISTENER,
					  .token = token_of(e, (uint32_t)source),
					  .dev = s->dev,
					  .ino = s->ino};
	add_proxies(e, s, ret_q);
}

void service_look_up(struct enforcer *e, size_t source, int64_t min_age_ns)
{
	struct enforcer_source *s = &e->sources[source];
	int64_t now_ns = clock_now().mono_ns;
	struct prober_question q;

	if (!s->opened || !is_wanted(e, s) || (s->asked && now_ns - s->asked_mono_ns < min_age_ns))
		return;
	s->asked = s->waiting = true;
	s->asked_mono_ns = now_ns;
	service_question(e, source, &q);
	ask(e, &q);
}

void service_look_again(struct enforcer *e)
{
	for (size_t i = 0; i < e->nsources; i++)
		if (e->sources[i].waiting)
			service_look_up(e, i, 0);
}

/* After a ban: so old may be what is known of a source. */
static int64_t old_ns(const struct enforcer *e, const struct enforcer_source *s)
{
	bool lives = s->found && owner_alive(&s->last);

	if (!enter_writer_lives(s))
		return lives ? PORTS_OLD_NS : ASK_AT_MOST_NS;
	if (s->elsewhere)
		return lives || !s->space ? PLACE_OLD_NS : ASK_AT_MOST_NS;
	if (!service_asks_ports(e, s))
		return PLACE_OLD_NS;
	return lives ? PORTS_OLD_NS : ASK_AT_MOST_NS;
}

void service_look_up_missing(struct enforcer *e)
{
	for (size_t i = 0; i < e->nsources; i++)
		service_look_up(e, i, old_ns(e, &e->sources[i]));
	service_ssh_peers(e, PORTS_OLD_NS / 2);
}

static void tell_service(struct enforcer *e, uint32_t source, const struct owner *o)
{
	struct protocol_service m = {.source = source,
				     .result = (int32_t)o->result,
				     .pid = o->pid,
				     .netns = o->netns,
				     .nports = o->nports};

	_Static_assert(PROTOCOL_PORTS_MAX == OWNER_PORTS_MAX, "one limit of ports");
	memcpy(m.ports, o->ports, sizeof m.ports);
	snprintf(m.text, sizeof m.text, "%s", o->text);
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_SERVICE, &m, 1, -1);
}

/* Ports that a jail names itself are shown by that jail, unless they are somewhere else. */
static bool is_told(const struct enforcer *e, const struct enforcer_source *s)
{
	return s->last.text[0] && (s->elsewhere || service_asks_ports(e, s));
}

/* True when they are others now. A service that is just restarting listens on nothing: its old
 * ports stay protected. */
static bool take_ports(struct enforcer_source *s, const struct owner *o)
{
	struct portset fresh = {0};

	for (unsigned i = 0; i < o->nports && i < PORTSET_MAX; i++)
		fresh.port[fresh.count++] = (struct port){o->ports[i], IPPROTO_TCP};
	if (!s->found || portset_same(&fresh, &s->ports))
		return false;
	s->ports = fresh;
	return true;
}

void service_settle(struct enforcer *e, size_t source, const struct owner *o, bool elsewhere,
		    struct space *space)
{
	struct enforcer_source *s = &e->sources[source];
	bool moved = elsewhere != s->elsewhere || space != s->space;
	bool changed;

	s->waiting = false;
	s->answered = true;
	s->answered_mono_ns = clock_now().mono_ns;
	s->found = o->result == OWNER_FOUND;
	s->last = *o;
	s->elsewhere = elsewhere;
	s->space = space;
	if (moved)
		s->ports.count = 0;
	changed = take_ports(s, o) || moved;
	s->lost = s->lost && elsewhere && !s->found && (!space || service_asks_ports(e, s));
	if (is_told(e, s))
		tell_service(e, (uint32_t)source, o);
	enter_sweep(e);
	service_ignore_spaces(e);
	requests_place_known(e);
	if (changed)
		requests_ports_known(e, source);
	else
		watches_ports(e);
}

/* Nobody was seen writing the log of a service that lives elsewhere: it has ended, or it will be
 * found again. Its ports are not taken for ports of this namespace. */
static void not_seen(struct enforcer *e, size_t source, const struct owner *o)
{
	struct enforcer_source *s = &e->sources[source];

	s->waiting = false;
	if (enter_writer_lives(s))
		return;
	s->lost = true;
	service_settle(e, source, o, true, NULL);
}

static void take_owner(struct enforcer *e, uint32_t token, const struct owner *o)
{
	struct enforcer_source *s = service_source(e, token);
	size_t source = token % TOKEN_SOURCES;

	if (!s)
		return; /* asked before a reload, when the number meant another source */
	if (o->result == OWNER_OTHER_NAMESPACE) {
		enter_begin(e, source, o);
	} else if (s->elsewhere && !o->writer_pid) {
		not_seen(e, source, o);
	} else {
		enter_guard(e, s, o);
		service_settle(e, source, o, false, NULL);
	}
}

/* What cannot be looked at is taken as it is named: see owner.h for what comes from that. */
static void take_failure(struct enforcer *e, uint32_t token)
{
	struct enforcer_source *s = service_source(e, token);

	if (!s)
		return;
	s->waiting = false;
	s->answered = true;
	s->answered_mono_ns = clock_now().mono_ns;
	requests_place_known(e);
	watches_ports(e);
}

/* --- administrators' ssh peers ---------------------------------------------------------------- */

void service_ssh_peers(struct enforcer *e, int64_t min_age_ns)
{
	const struct prober_question q = {.kind = PROBER_SSHPEERS, .token = SSH_TOKEN};
	int64_t now_ns = clock_now().mono_ns;

	if (e->ssh_asked_mono_ns && now_ns - e->ssh_asked_mono_ns < min_age_ns)
		return;
	e->ssh_asked_mono_ns = now_ns;
	ask(e, &q);
}

static void tell_ignore(struct enforcer *e, const struct protocol_ignore *entry)
{
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_IGNORE, entry, 1, -1);
}

/* A ban that hits a protected address after all: it was found too late, or appeared after the ban.
 */
static void lift_bans(struct enforcer *e)
{
	uint32_t cursor = UINT32_MAX;
	struct now now = clock_now();
	struct inforce_ban *b;
	struct ignore_hit hit;
	char text[IGNORE_TEXT_BYTES];

	while ((b = inforce_prev(&e->inforce, &cursor, now.mono_ns))) {
		const struct inforce_ban copy = *b;
		struct protocol_ban told = {.addr = b->addr,
					    .jail = b->jail,
					    .source = b->source,
					    .result = ERROR_REFUSED};

		if (copy.flags & INFORCE_FORCED ||
		    !ignore_check(e->ignore, &copy.addr,
				  copy.jail < e->conf->njails ? copy.jail : IGNORE_ALL_JAILS, false,
				  now.mono_ns, &hit))
			continue;
		log_warning("enforcer", "unbanned: %s", ignore_format(&hit, now.mono_ns, text));
		told.reason = hit.reason;
		firewall_unban(e->firewall, &copy.addr, copy.flags & INFORCE_CLASS, NULL, now);
		e->work_queued = true;
		if (e->engine.channel)
			channel_send(e->engine.channel, PROTOCOL_RESULT, &told, 1, -1);
	}
}

/* The kernel's copy: what no ban may ever drop. ignoreip of single jails is left to the check
 * above. */
static void update_keep(struct enforcer *e)
{
	struct netlist keep = {0};
	struct ignore_hit hit;
	struct error err = {0};
	uint64_t cursor = 0;

	if (!e->firewall)
		return;
	e->keep_until_ns = CLOCK_FOREVER;
	while (ignore_next(e->ignore, &cursor, clock_now().mono_ns, &hit)) {
		int64_t until_ns = hit.last_seen_mono_ns + IGNORE_SSH_KEEP_NS;

		if (hit.jail == IGNORE_ALL_JAILS)
			netlist_add(&keep, &hit.entry);
		if (hit.reason == IGNORE_SSH && until_ns < e->keep_until_ns)
			e->keep_until_ns = until_ns;
	}
	netlist_seal(&keep);
	if (firewall_keep(e->firewall, &keep, &err) < 0)
		log_error("firewall", "cannot set the ignore list: %s", err.text);
	netlist_free(&keep);
	lift_bans(e);
}

/* A ban of somebody whose session is long over must not run into the kernel's old copy. */
void service_keep_fresh(struct enforcer *e, int64_t mono_ns)
{
	if (mono_ns >= e->keep_until_ns)
		update_keep(e);
}

static void take_ssh(struct enforcer *e, const struct sshpeers *peers)
{
	int64_t now_ns = clock_now().mono_ns;
	bool fresh = false;

	for (uint32_t i = 0; i < peers->count && i < SSHPEERS_MAX; i++) {
		const struct sshpeer *p = &peers->peers[i];
		struct protocol_ignore entry = {.addr = p->addr, .reason = IGNORE_SSH};

		fresh = fresh ||
			!ignore_check(e->ignore, &p->addr, IGNORE_ALL_JAILS, false, now_ns, NULL);
		ignore_ssh_seen(e->ignore, &p->addr, p->user, now_ns);
		snprintf(entry.who, sizeof entry.who, "%s", p->user);
		tell_ignore(e, &entry);
	}
	if (fresh)
		update_keep(e);
}

static void on_answer(void *ctx, const void *entries, uint32_t count, int *fds)
{
	struct enforcer *e = ctx;
	const struct prober_answer *a = entries;

	(void)count;
	(void)fds;
	e->prober_pending--;
	if (a->error) {
		log_warning("prober", "cannot look at processes and sockets: %s",
			    error_name(a->error));
		take_failure(e, a->token);
	} else if (a->kind == PROBER_SSHPEERS) {
		take_ssh(e, &a->ssh);
	} else {
		take_owner(e, a->token, &a->owner);
	}
	requests_flush(e);
}

#define HANDLER_ASK on_answer
#define HANDLER_CENSUS watches_report
#define HANDLER_OFFENCES watches_offences
#define HANDLER_CUTS watches_cuts
#define QUESTION(type, entry, most_fds, ...)                                                       \
	[PROBER_##type] = {#type, sizeof(entry), 1, 1, 0, most_fds, NULL},
#define ANSWER(type, question, most_fds, entry, most)                                              \
	[PROBER_##type] = {#type, sizeof(entry), 1, most, 0, 0, HANDLER_##type},
const struct message_type service_prober_questions[] = {PROBER_MESSAGES(QUESTION)};
const struct message_type service_prober_answers[] = {PROBER_MESSAGES(ANSWER)};

/* --- the ignore list -------------------------------------------------------------------------- */

/* Own addresses of the namespaces that a jail protects. */
static void add_own_of(const struct enforcer *e, uint16_t jail, struct netlist *list)
{
	for (size_t i = 0; i < e->nsources; i++) {
		const struct enforcer_source *s = &e->sources[i];

		for (size_t k = 0;
		     s->space && requests_is_of_source(e, s, jail) && k < s->space->own.count; k++)
			netlist_add(list, &s->space->own.nets[k]);
	}
}

void service_ignore_spaces(struct enforcer *e)
{
	for (size_t i = 0; i < e->conf->njails; i++) {
		struct netlist list = {0};

		add_own_of(e, (uint16_t)i, &list);
		netlist_seal(&list);
		if (ignore_replace(e->ignore, IGNORE_OWN, (uint32_t)i, &list) < 0)
			log_error("enforcer", "out of memory: the addresses of other network "
					      "namespaces are not on the ignore list");
		netlist_free(&list);
	}
}

int service_ignore_configured(struct enforcer *e, struct error *err)
{
	ignore_clear_jails(e->ignore);
	for (uint32_t i = 0; i < e->conf->njails; i++) {
		const struct jail_conf *j = &e->conf->jails[i];

		if (ignore_replace(e->ignore, IGNORE_IP, i, &j->ignoreip) < 0 ||
		    ignore_replace(e->ignore, IGNORE_PROXY, i, &j->trusted_proxy) < 0)
			return error_set(err, -ENOMEM, "out of memory");
	}
	service_ignore_spaces(e);
	update_keep(e);
	return 0;
}

static void tell_list(struct enforcer *e, enum ignore_reason reason)
{
	struct protocol_ignore entry = {.reason = reason, .op = PROTOCOL_IGNORE_ADD};
	struct ignore_hit hit;
	uint64_t cursor = 0;

	while (ignore_next(e->ignore, &cursor, clock_now().mono_ns, &hit)) {
		if (hit.reason != reason || hit.jail != IGNORE_ALL_JAILS)
			continue;
		entry.addr = hit.entry;
		entry.age_ms = (clock_now().mono_ns - hit.last_seen_mono_ns) / CLOCK_MSEC_NS;
		snprintf(entry.who, sizeof entry.who, "%s", hit.user);
		tell_ignore(e, &entry);
	}
	entry.op = PROTOCOL_IGNORE_DONE;
	if (reason != IGNORE_SSH)
		tell_ignore(e, &entry);
}

void service_tell_engine(struct enforcer *e)
{
	tell_list(e, IGNORE_OWN);
	tell_list(e, IGNORE_GATEWAY);
	tell_list(e, IGNORE_SSH);
	for (uint32_t i = 0; i < e->nsources; i++)
		if (is_told(e, &e->sources[i]))
			tell_service(e, i, &e->sources[i].last);
}

static int read_host(struct enforcer *e)
{
	struct netlist own, gateways;
	int r = hostaddr_read(&own, &gateways);

	if (r < 0)
		return r;
	r = ignore_replace(e->ignore, IGNORE_OWN, IGNORE_ALL_JAILS, &own);
	if (r == 0)
		r = ignore_replace(e->ignore, IGNORE_GATEWAY, IGNORE_ALL_JAILS, &gateways);
	netlist_free(&own);
	netlist_free(&gateways);
	return r;
}

static void on_address_change(struct ev_loop *loop, ev_io *w, int revents)
{
	struct enforcer *e = w->data;

	(void)loop;
	(void)revents;
	if (!hostaddr_changed(w->fd))
		return;
	if (read_host(e) < 0)
		log_warning("enforcer",
			    "cannot read this host's addresses again; the old list stays");
	tell_list(e, IGNORE_OWN);
	tell_list(e, IGNORE_GATEWAY);
	update_keep(e);
	if (e->nspaces)
		watches_ports(e);
}

static void on_utmp_change(struct ev_loop *loop, ev_io *w, int revents)
{
	char events[4096];

	(void)loop;
	(void)revents;
	while (read(w->fd, events, sizeof events) > 0)
		;
	service_ssh_peers(w->data, 0);
}

/* Logins change utmp; where there is none (Debian 13) peers are looked up after bans only. */
static void watch_utmp(struct enforcer *e)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0 || inotify_add_watch(fd, UTMP, IN_MODIFY) < 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	ev_io_init(&e->utmp_change, on_utmp_change, fd, EV_READ);
	e->utmp_change.data = e;
	ev_io_start(e->loop, &e->utmp_change);
}

int service_ignore_set_up(struct enforcer *e, struct error *err)
{
	int r, fd;

	e->ignore = ignore_new();
	if (!e->ignore)
		return error_set(err, -ENOMEM, "out of memory");
	r = read_host(e);
	if (r < 0)
		return error_set(err, r, "cannot read this host's addresses: %s", error_name(r));
	fd = hostaddr_watch();
	if (fd >= 0) {
		ev_io_init(&e->address_change, on_address_change, fd, EV_READ);
		e->address_change.data = e;
		ev_io_start(e->loop, &e->address_change);
	}
	watch_utmp(e);
	return service_ignore_configured(e, err);
}
