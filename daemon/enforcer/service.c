/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the prober finds: the ports that jails protect, administrators' ssh peers; and the ignore
 * list.
 *
 * Questions go to the prober process and are answered some 10 ms later; bans do not wait for them.
 * A port that becomes known is followed by a kill for every ban that is in force. An ssh peer that
 * turns out to be banned is unbanned at once. Without an answer nothing is killed and nothing is
 * lost.
 */
#include "daemon/base/escape.h"
#include "daemon/base/hostaddr.h"
#include "daemon/base/log.h"
#include "daemon/enforcer/state.h"
#include "daemon/sockets/prober.h"

#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#define SSH_TOKEN UINT32_MAX
/* A token: generation of the list of sources, number of the source. */
#define TOKEN_SOURCES 65536u
/* After a ban, ports found longer ago are looked up again. */
#define PORTS_OLD_NS (10 * CLOCK_SECOND_NS)
#define ASK_AT_MOST_NS CLOCK_SECOND_NS /* of one source, whatever happens */
#define UTMP "/var/run/utmp"

/* --- the prober process ----------------------------------------------------------------------- */

struct question_message {
	struct message_head head;
	struct prober_question question;
};

struct answer_message {
	struct message_head head;
	struct prober_answer answer;
};

/* One question at a time, until the enforcer is gone. */
int service_prober_run(void *arg, int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	struct question_message in;
	static struct answer_message out;

	(void)arg;
	for (;;) {
		ssize_t n;

		if (poll(&ready, 1, -1) < 0 && errno != EINTR)
			return 4;
		n = recv(fd, &in, sizeof in, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return 0;
		if (n != (ssize_t)sizeof in)
			continue;
		out.head = (struct message_head){SERVICE_PROBER_ASK, 1};
		prober_handle(&in.question, &out.answer);
		malloc_trim(0); /* a look at all of /proc takes megabytes, for a moment */
		if (send(fd, &out, sizeof out, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			return 0;
	}
}

static void ask(struct enforcer *e, const struct prober_question *q)
{
	if (!e->prober.channel || channel_send(e->prober.channel, SERVICE_PROBER_ASK, q, 1, -1) < 0)
		return;
	e->prober_pending++;
}

/* --- protected ports -------------------------------------------------------------------------- */

static bool wants_ports(const struct enforcer *e, const struct enforcer_source *s)
{
	for (size_t i = 0; i < s->conf->njails; i++) {
		const struct jail_conf *j = &e->conf->jails[s->conf->jails[i]];

		if (j->port_auto && (j->kill || j->scope_port))
			return true;
	}
	return false;
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

void service_look_up(struct enforcer *e, size_t source, int64_t min_age_ns)
{
	struct enforcer_source *s = &e->sources[source];
	struct prober_question q = {.kind = PROBER_LISTENER,
				    .token = token_of(e, (uint32_t)source)};
	int64_t now_ns = clock_now().mono_ns;

	if (!s->opened || !wants_ports(e, s) ||
	    (s->asked && now_ns - s->asked_mono_ns < min_age_ns))
		return;
	s->asked = true;
	s->asked_mono_ns = now_ns;
	q.dev = s->dev;
	q.ino = s->ino;
	add_proxies(e, s, &q);
	ask(e, &q);
}

void service_look_up_missing(struct enforcer *e)
{
	for (size_t i = 0; i < e->nsources; i++)
		service_look_up(e, i,
				e->sources[i].found && owner_alive(&e->sources[i].last)
					? PORTS_OLD_NS
					: ASK_AT_MOST_NS);
	service_ssh_peers(e, PORTS_OLD_NS / 2);
}

static void tell_service(struct enforcer *e, uint32_t source, const struct owner *o)
{
	struct protocol_service m = {
		.source = source, .result = (int32_t)o->result, .pid = o->pid, .nports = o->nports};

	_Static_assert(PROTOCOL_PORTS_MAX == OWNER_PORTS_MAX, "one limit of ports");
	memcpy(m.ports, o->ports, sizeof m.ports);
	snprintf(m.text, sizeof m.text, "%s", o->text);
	if (e->engine.channel)
		channel_send(e->engine.channel, PROTOCOL_SERVICE, &m, 1, -1);
}

static void take_owner(struct enforcer *e, uint32_t token, const struct owner *o)
{
	uint32_t source = token % TOKEN_SOURCES;
	struct portset fresh = {0};
	struct enforcer_source *s;

	if (source >= e->nsources || token != token_of(e, source))
		return; /* asked before a reload, when the number meant another source */
	s = &e->sources[source];
	for (unsigned i = 0; i < o->nports && i < PORTSET_MAX; i++)
		fresh.port[fresh.count++] = (struct port){o->ports[i], IPPROTO_TCP};
	s->found = o->result == OWNER_FOUND;
	s->last = *o;
	tell_service(e, source, o);
	/* A service that is just restarting listens on nothing: its old ports stay protected. */
	if (!s->found || portset_same(&fresh, &s->ports))
		return;
	s->ports = fresh;
	requests_ports_known(e, source);
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
	if (a->error)
		log_warning("prober", "cannot look at processes and sockets: %s",
			    error_name(a->error));
	else if (a->kind == PROBER_SSHPEERS)
		take_ssh(e, &a->ssh);
	else
		take_owner(e, a->token, &a->owner);
	requests_flush(e);
}

const struct message_type service_prober_questions[SERVICE_PROBER_TYPES] = {
	{"QUESTION", sizeof(struct prober_question), 1, 1, 0, 0, NULL}};
const struct message_type service_prober_answers[SERVICE_PROBER_TYPES] = {
	{"ANSWER", sizeof(struct prober_answer), 1, 1, 0, 0, on_answer}};

/* --- the ignore list -------------------------------------------------------------------------- */

int service_ignore_configured(struct enforcer *e, struct error *err)
{
	ignore_clear_jails(e->ignore);
	for (uint32_t i = 0; i < e->conf->njails; i++) {
		const struct jail_conf *j = &e->conf->jails[i];

		if (ignore_replace(e->ignore, IGNORE_IP, i, &j->ignoreip) < 0 ||
		    ignore_replace(e->ignore, IGNORE_PROXY, i, &j->trusted_proxy) < 0)
			return error_set(err, -ENOMEM, "out of memory");
	}
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
		if (e->sources[i].last.text[0])
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
