/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What of a service is not well, and what to do: see doctor.h.
 *
 * Where the numbers come from: accept(2) fails when the soft limit is reached (FAIL a little
 * before); the kernel drops a handshake when more than the backlog wait; browsers open a few
 * connections and send nothing on them, so a peer is a culprit above SILENT_USUAL silent ones only
 * (`maxsilent` of a sockets jail), and a connection counts as silent after SILENT_LEAST_MS.
 */
#include "client/doctor.h"
#include "daemon/base/error.h"
#include "daemon/base/escape.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define FULL_PERCENT 95u
#define TIGHT_PERCENT 80u
#define SILENT_USUAL 6u
#define SILENT_LEAST_MS 2000u
#define CULPRITS_NAMED 4u
#define CLOSE_WAIT_LEAST 20u
#define FILES_LEAST 64u
#define BUSY_PERCENT 90
#define SPIN_PERCENT 25 /* of a process that can accept nobody */
#define WAITING_LEAST 32u
#define SELECT_MAX 1024u /* FD_SETSIZE */
#define WANTED_LEAST 10240u
#define COMM_BYTES (PROC_COMM_BYTES * ESCAPE_MAX_GROWTH)

const char *doctor_limit(uint64_t limit, char buf[static DOCTOR_LIMIT_BYTES])
{
	if (limit > UINT64_C(1) << 53)
		snprintf(buf, DOCTOR_LIMIT_BYTES, "no limit");
	else
		snprintf(buf, DOCTOR_LIMIT_BYTES, "%" PRIu64, limit);
	return buf;
}

static uint64_t percent(uint64_t part, uint64_t whole)
{
	return whole && part < UINT64_MAX / 100 ? part * 100 / whole : 0;
}

/* The fullest process, or NULL when none is known. */
static const struct budget_task *fullest(const struct service *s)
{
	return s->budget.ntasks ? &s->budget.tasks[0] : NULL;
}

static bool is_full(const struct service *s)
{
	const struct budget_task *t = fullest(s);

	return t && percent(t->fds, t->soft) >= FULL_PERCENT;
}

static bool is_tight(const struct service *s)
{
	const struct budget_task *t = fullest(s);

	return t && percent(t->fds, t->soft) >= TIGHT_PERCENT;
}

/* --- whose it is ------------------------------------------------------------------------------ */

static void judge_owner(struct doctor *d, const struct service *s)
{
	char user[VITALS_USER_BYTES];
	uint32_t uid;

	if (s->elsewhere) {
		findings_add(&d->findings, FINDING_WARN, s->about, "namespace",
			     "pid %d holds the listener but lives in another network namespace",
			     (int)s->budget.tasks[0].pid);
		findings_remedy(&d->findings, "nsenter -t %d -n tailban doctor",
				(int)s->budget.tasks[0].pid);
	}
	if (s->budget.ntasks || s->error == -ENOENT || !doctor_listener_uid(d, s->ports[0], &uid))
		return;
	if (s->error < 0 || d->privileged) {
		findings_add(&d->findings, FINDING_WARN, s->about, "process",
			     "no process is seen that holds this listener (%s): the kernel itself, "
			     "or one of another container",
			     s->error < 0 ? error_name(s->error) : "all were looked at");
		return;
	}
	findings_add(&d->findings, FINDING_WARN, s->about, "process",
		     "whose it is cannot be seen by you; the socket was made by user %s. Its "
		     "descriptors, memory and threads stay unknown",
		     vitals_user(uid, user));
	findings_remedy(&d->findings, "sudo tailban doctor --port %u", s->ports[0]);
}

/* --- descriptors ------------------------------------------------------------------------------ */

/* ": 253 sockets, 2 files, 1 other": those that occur. */
static void say_kinds(const struct service *s, char *buf, size_t size)
{
	const struct {
		uint32_t n;
		const char *one, *many;
	} kinds[] = {{s->fds.sockets, "socket", "sockets"},
		     {s->fds.files, "file", "files"},
		     {s->fds.pipes, "pipe", "pipes"},
		     {s->fds.others, "other", "others"}};
	const char *between = ": ";
	size_t n = 0;

	buf[0] = 0;
	for (size_t i = 0; s->fds_seen && i < sizeof kinds / sizeof kinds[0] && n < size; i++) {
		if (!kinds[i].n)
			continue;
		n += (size_t)snprintf(buf + n, size - n, "%s%" PRIu32 " %s", between, kinds[i].n,
				      kinds[i].n == 1 ? kinds[i].one : kinds[i].many);
		between = ", ";
	}
	if (s->fds.cut && n < size)
		snprintf(buf + n, size - n, " among the first");
}

static void remedy_limit(struct doctor *d, const struct service *s, const struct budget_task *t)
{
	uint64_t wanted = t->soft > WANTED_LEAST / 4 ? t->soft * 4 : WANTED_LEAST;

	if (s->selects && t->soft >= SELECT_MAX) {
		findings_remedy(&d->findings,
				"do not raise the limit: it uses select(2), which breaks beyond "
				"descriptor 1023");
		return;
	}
	if (s->selects)
		wanted = SELECT_MAX;
	if (wanted > t->hard)
		findings_remedy(&d->findings,
				"first aid, as root: prlimit --pid %d --nofile=%" PRIu64
				":%" PRIu64,
				(int)t->pid, wanted, wanted);
	else
		findings_remedy(&d->findings, "first aid: prlimit --pid %d --nofile=%" PRIu64 ":",
				(int)t->pid, wanted);
	findings_remedy(&d->findings,
			"for good (it only moves the limit): LimitNOFILE=%" PRIu64
			" in its unit, or ulimit -n %" PRIu64,
			wanted, wanted);
}

static void judge_descriptors(struct doctor *d, const struct service *s)
{
	const struct budget_task *t = fullest(s);
	char kinds[120], soft[DOCTOR_LIMIT_BYTES], hard[DOCTOR_LIMIT_BYTES], more[64] = "";
	enum finding_level level = is_full(s)    ? FINDING_FAIL
				   : is_tight(s) ? FINDING_WARN
						 : FINDING_OK;

	if (!t)
		return;
	say_kinds(s, kinds, sizeof kinds);
	if (s->budget.ntasks > 1)
		snprintf(more, sizeof more, "; %" PRIu32 " more processes have fewer",
			 s->budget.ntasks - 1);
	findings_add(&d->findings, level, s->about, "descriptors",
		     "%" PRIu32 " of %s in use (hard limit %s)%s%s%s", t->fds,
		     doctor_limit(t->soft, soft), doctor_limit(t->hard, hard), kinds, more,
		     is_full(s) ? "; accept() fails: \"Too many open files\"" : "");
	if (level != FINDING_OK)
		remedy_limit(d, s, t);
}

static void judge_files(struct doctor *d, const struct service *s)
{
	const struct budget_task *t = fullest(s);

	if (!t || !s->fds_seen || s->fds.files < FILES_LEAST || s->fds.files * 2 < t->fds)
		return;
	findings_add(&d->findings, FINDING_WARN, s->about, "files",
		     "%" PRIu32 " open files: the program does not close what it opens",
		     s->fds.files);
	findings_remedy(&d->findings, "ls -l /proc/%d/fd", (int)t->pid);
}

/* --- memory, threads, CPU --------------------------------------------------------------------- */

static void judge_memory(struct doctor *d, const struct service *s)
{
	const struct vitals *v = &s->vitals[0];
	uint64_t stack = v->stack_bytes == VITALS_UNLIMITED ? 0 : v->stack_bytes, stacks;
	char virt[TEXT_TIME_BYTES], rss[TEXT_TIME_BYTES], each[TEXT_TIME_BYTES],
		rest[TEXT_TIME_BYTES];

	if (!v->threads)
		return;
	/* The first thread's stack is not reserved. */
	stacks = (v->threads - 1) * stack;
	text_bytes(v->virt_bytes, virt);
	text_bytes(v->rss_bytes, rss);
	if (stacks && stacks <= v->virt_bytes)
		findings_add(&d->findings, FINDING_OK, s->about, "memory",
			     "VIRT %s = %" PRIu32 " threads x %s of stack + %s; RES %s%s", virt,
			     v->threads - 1, text_bytes(stack, each),
			     text_bytes(v->virt_bytes - stacks, rest), rss,
			     stacks > v->virt_bytes / 2 ? " is what it uses: threads, no leak"
							: "");
	else
		findings_add(&d->findings, FINDING_OK, s->about, "memory",
			     "VIRT %s is reserved, RES %s is what it uses", virt, rss);
}

static void judge_threads(struct doctor *d, const struct service *s)
{
	const struct threads *t = &s->threads;
	uint32_t waiting = t->counts[THREADS_RECV] + t->counts[THREADS_SOCKET];
	bool stuck = t->counts[THREADS_DISK] * 2 > t->looked_at ||
		     (t->counts[THREADS_LOCK] > WAITING_LEAST &&
		      t->counts[THREADS_LOCK] * 2 > t->looked_at);
	bool held = waiting >= WAITING_LEAST && waiting * 2 > t->looked_at;
	char text[400];

	if (!t->looked_at)
		return;
	findings_add(&d->findings, held || stuck ? FINDING_WARN : FINDING_OK, s->about, "threads",
		     "%" PRIu32 ": %s", t->total, threads_text(t, text, sizeof text));
	if (stuck)
		findings_remedy(&d->findings,
				"where in the program: py-spy dump --pid %d (Python), gdb -p %d",
				(int)s->budget.tasks[0].pid, (int)s->budget.tasks[0].pid);
}

static void judge_cpu(struct doctor *d, const struct service *s)
{
	int used = doctor_cpu_percent(d, s);
	bool spins = is_full(s) && used >= SPIN_PERCENT;

	if (used < 0)
		return;
	findings_add(&d->findings, spins || used >= BUSY_PERCENT ? FINDING_WARN : FINDING_OK,
		     s->about, "cpu", "%d %% of a core%s", used,
		     spins ? ": it tries to accept again and again, without a descriptor for it"
			   : "");
}

/* --- the listener ----------------------------------------------------------------------------- */

/* The fullest queue, or NULL. */
static const struct budget_listener *listener_of(const struct service *s)
{
	const struct budget_listener *worst = NULL;

	for (uint32_t i = 0; i < s->budget.nlisteners; i++) {
		const struct budget_listener *l = &s->budget.listeners[i];

		if (!worst || (uint64_t)l->queue * (worst->backlog + 1) >
				      (uint64_t)worst->queue * (l->backlog + 1))
			worst = l;
	}
	return worst;
}

static void judge_queue(struct doctor *d, const struct service *s)
{
	const struct budget_listener *l = listener_of(s);
	uint64_t lost = d->counters[1].overflows - d->counters[0].overflows;
	enum finding_level level = FINDING_OK;

	if (!l)
		return;
	if (l->queue >= l->backlog && l->queue)
		level = FINDING_FAIL;
	else if (l->queue * 2 > l->backlog)
		level = FINDING_WARN;
	findings_add(&d->findings, level, s->about, "queue",
		     "%" PRIu32 " of %" PRIu32
		     " wait for accept()%s; turned away so far, on all ports: %" PRIu64 "%s",
		     l->queue, l->backlog, level == FINDING_FAIL ? ": nobody else gets in" : "",
		     d->counters[1].overflows, lost ? ", some of them now" : "");
	if (level != FINDING_OK && !is_full(s))
		findings_remedy(&d->findings,
				"it does not accept in time: see threads; a longer queue does not "
				"help a server that hangs");
}

static void judge_half_open(struct doctor *d, const struct service *s)
{
	const struct budget_listener *l = listener_of(s);
	uint32_t half = s->peers.total.states[TCP_SYN_RECV];
	const struct netstat *a = &d->counters[0], *b = &d->counters[1];
	json_t *syncookies = json_object_get(d->system, "tcp_syncookies");
	bool off = json_is_integer(syncookies) && !json_integer_value(syncookies);
	bool flood = l && half > l->backlog / 2;

	if (!l)
		return;
	findings_add(&d->findings, flood ? FINDING_WARN : FINDING_OK, s->about, "half-open",
		     "%" PRIu32 " handshakes under way (backlog %" PRIu32 "); syncookies %s, sent "
		     "%" PRIu64 "%s, failed %" PRIu64,
		     half, l->backlog, off ? "are off" : "on", b->cookies_sent,
		     b->cookies_sent > a->cookies_sent ? " and now" : "", b->cookies_failed);
	if (flood)
		findings_remedy(&d->findings,
				off ? "a SYN flood, or spoofed: sysctl -w net.ipv4.tcp_syncookies=1"
				    : "a SYN flood: the syncookies keep the service reachable");
}

/* --- connections ------------------------------------------------------------------------------ */

static void judge_sockets(struct doctor *d, const struct service *s)
{
	const struct peer *total = &s->peers.total;
	uint32_t left = total->states[TCP_CLOSE_WAIT];
	bool leak = left >= CLOSE_WAIT_LEAST && left * 5 > total->connections;

	findings_add(&d->findings, leak ? FINDING_WARN : FINDING_OK, s->about, "sockets",
		     "%" PRIu32 " established, %" PRIu32 " close-wait%s, %" PRIu32 " ending",
		     total->states[TCP_ESTABLISHED], left,
		     leak ? " (the client has gone, the service has not closed)" : "",
		     total->connections - total->states[TCP_ESTABLISHED] - left -
			     total->states[TCP_SYN_RECV]);
	if (leak)
		findings_remedy(&d->findings,
				"the program forgets to close connections that its clients have "
				"ended, or hangs: see threads");
}

static bool is_culprit(const struct doctor *d, const struct peer *peer)
{
	return peer->silent > SILENT_USUAL && peer->oldest_silent_ms >= SILENT_LEAST_MS &&
	       !doctor_is_own(d, &peer->prefix);
}

struct culprits {
	uint32_t peers, silent;
	const struct peer *named[CULPRITS_NAMED];
	size_t nnamed;
};

static struct culprits culprits_of(const struct doctor *d, const struct service *s)
{
	struct culprits c = {0};

	for (size_t i = 0; i < s->peers.n; i++) {
		const struct peer *peer = &s->peers.list[i];

		if (!is_culprit(d, peer))
			continue;
		if (c.nnamed < CULPRITS_NAMED)
			c.named[c.nnamed++] = peer;
		c.peers++;
		c.silent += peer->silent;
	}
	return c;
}

/* "10.66.1.1 (69), 10.66.1.2 (69), ..." or with another separator and without counts. */
static void name_them(const struct culprits *c, const char *before, const char *between,
		      bool counts, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = 0;
	for (size_t i = 0; i < c->nnamed && n < size; i++) {
		char addr[ADDR_STRLEN];

		n += (size_t)snprintf(buf + n, size - n, "%s%s%s", i ? between : "", before,
				      addr_format(&c->named[i]->prefix, addr));
		if (counts && n < size)
			n += (size_t)snprintf(buf + n, size - n, " (%" PRIu32 "%s)",
					      c->named[i]->silent,
					      c->named[i]->banned == PEER_BANNED ? ", banned" : "");
	}
}

static void remedy_jail(struct doctor *d, const struct service *s)
{
	if (!doctor_has_jail(d, "sockets"))
		findings_remedy(&d->findings,
				"for good: a jail [sockets] with enabled = yes and port = %u%s",
				s->ports[0], d->status ? ", then tailban reload" : "");
}

static bool are_banned(const struct culprits *c)
{
	for (size_t i = 0; i < c->nnamed; i++)
		if (c->named[i]->banned != PEER_BANNED)
			return false;
	return true;
}

static void remedy_kill(struct doctor *d, const struct service *s, const struct culprits *c)
{
	char names[CULPRITS_NAMED * (ADDR_STRLEN + 12)];

	name_them(c, "dst ", " or ", false, names, sizeof names);
	findings_remedy(&d->findings, "by hand%s: ss -K 'sport = :%u and ( %s )'",
			are_banned(c) ? "" : ", until they come again", s->ports[0], names);
}

static void remedy_culprits(struct doctor *d, const struct service *s, const struct culprits *c)
{
	char names[CULPRITS_NAMED * (ADDR_STRLEN + 12)];

	if (d->status && !are_banned(c)) {
		name_them(c, "", " ", false, names, sizeof names);
		findings_remedy(&d->findings, "tailban ban %s", names);
	} else if (d->status) {
		findings_remedy(&d->findings,
				"they are banned, but their connections were left: kill "
				"= yes in the jail");
		remedy_kill(d, s, c);
	} else {
		if (s->log[0])
			findings_remedy(&d->findings, "tailband -q %s", doctor_plain_path(s->log));
		remedy_kill(d, s, c);
	}
	if (c->peers > c->nnamed)
		findings_remedy(&d->findings, "and %zu more: tailban conns --port %u --silent",
				(size_t)c->peers - c->nnamed, s->ports[0]);
	remedy_jail(d, s);
}

static enum finding_level silent_level(const struct service *s, uint32_t silent)
{
	const struct budget_task *t = fullest(s);
	const struct budget_listener *l = listener_of(s);
	bool blocks = (t && percent(silent, t->soft) >= 50) || is_tight(s) ||
		      (l && l->queue && l->queue >= l->backlog);

	return blocks ? FINDING_FAIL : FINDING_WARN;
}

/* What the server itself waits for, where its threads tell. */
static void say_waits(const struct service *s, char *buf, size_t size)
{
	uint32_t works = s->waits[WAIT_WORKS] + s->waits[WAIT_SENDING];

	buf[0] = 0;
	if (s->has_waits && s->waits[WAIT_CLIENT])
		snprintf(buf, size,
			 "; on %" PRIu32 " the server waits for the client, on %" PRIu32
			 " it works",
			 s->waits[WAIT_CLIENT], works);
}

static void say_culprits(struct doctor *d, const struct service *s, const struct culprits *c)
{
	const struct peer *total = &s->peers.total;
	char names[CULPRITS_NAMED * (ADDR_STRLEN + 32)], waits[120];

	say_waits(s, waits, sizeof waits);
	name_them(c, "", ", ", true, names, sizeof names);
	findings_add(&d->findings, silent_level(s, c->silent), s->about, "silent",
		     "%" PRIu32 " of %" PRIu32 " connections never sent a byte, %" PRIu32
		     " of them from %" PRIu32 " %s: %s%s%s",
		     total->silent, total->connections, c->silent, c->peers,
		     c->peers == 1 ? "peer" : "peers", names, c->peers > c->nnamed ? ", ..." : "",
		     waits);
	remedy_culprits(d, s, c);
}

static void judge_silent(struct doctor *d, const struct service *s)
{
	const struct peer *total = &s->peers.total;
	struct culprits c = culprits_of(d, s);

	if (c.peers) {
		say_culprits(d, s, &c);
	} else if (total->silent > SILENT_USUAL && silent_level(s, total->silent) == FINDING_FAIL) {
		findings_add(&d->findings, FINDING_FAIL, s->about, "silent",
			     "%" PRIu32 " of %" PRIu32 " connections never sent a byte, from %zu "
			     "peers, none of which holds many: no ban helps",
			     total->silent, total->connections, s->peers.n);
		remedy_jail(d, s);
	} else {
		findings_add(&d->findings, FINDING_OK, s->about, "silent",
			     "%" PRIu32 " of %" PRIu32 " connections never sent a byte",
			     total->silent, total->connections);
	}
}

/* One peer with very many connections that are not silent. */
static void judge_peers(struct doctor *d, const struct service *s)
{
	const struct peer *first = s->peers.n ? &s->peers.list[0] : NULL;
	const struct budget_task *t = fullest(s);
	char addr[ADDR_STRLEN];

	if (!first || !t || doctor_is_own(d, &first->prefix) ||
	    percent(first->connections - first->silent, t->soft) < 25)
		return;
	findings_add(&d->findings, FINDING_WARN, s->about, "peers",
		     "%s alone holds %" PRIu32 " connections, %" PRIu32 " of them not silent",
		     addr_format(&first->prefix, addr), first->connections,
		     first->connections - first->silent);
	findings_remedy(&d->findings,
			"a proxy: trusted_proxy = %s. Else a limit in the sockets jail: maxconns = "
			"50",
			addr);
}

static bool is_loopback_only(const struct service *s)
{
	for (uint32_t i = 0; i < s->budget.nlisteners; i++)
		if (!addr_is_loopback(&s->budget.listeners[i].local))
			return false;
	return s->budget.nlisteners > 0;
}

static void judge_proxy(struct doctor *d, const struct service *s)
{
	if (!is_loopback_only(s) && !s->from_here)
		return;
	findings_add(&d->findings, FINDING_WARN, s->about, "proxy", "%s; %s%s",
		     is_loopback_only(s) ? "only this host can connect (loopback)"
					 : "every connection comes from this host",
		     s->proxy[0] ? "the connections are those of " : "no proxy is seen", s->proxy);
	findings_remedy(&d->findings,
			"what attacks comes by the proxy: look at and protect the proxy's port");
}

void doctor_judge(struct doctor *d, struct service *s)
{
	judge_owner(d, s);
	if (s->error == -ENOENT && !s->peers.n)
		return;
	judge_descriptors(d, s);
	judge_files(d, s);
	judge_memory(d, s);
	judge_threads(d, s);
	judge_cpu(d, s);
	judge_queue(d, s);
	judge_half_open(d, s);
	judge_sockets(d, s);
	judge_silent(d, s);
	judge_peers(d, s);
	judge_proxy(d, s);
}
