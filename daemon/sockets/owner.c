/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a log to its service's ports: see owner.h. What cannot be decided is said in the text. */
#include "daemon/sockets/owner.h"

#include "daemon/base/escape.h"
#include "daemon/sockets/holders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PIPES_MAX 64u
#define CANDIDATES_MAX 8u
#define ANCESTORS_MAX 64u

struct search {
	struct holders *h;
	struct sockdiag sd;
	const struct netlist *trusted;
	struct owner *o;
	uint32_t inodes[HOLDERS_CONNECTIONS_MAX]; /* far ends, sorted */
	size_t ninodes;
	bool far_end_hit;
	bool text_is_full;
	struct proc_info stranger; /* a process at a far end that listens on nothing */
	struct pipe {
		uint64_t dev, ino;
	} pipes[PIPES_MAX];
	size_t npipes;
	pid_t candidates[CANDIDATES_MAX];
	size_t ncandidates;
};

/* They write what others say and may listen for their own ends (514, 9001, 2375). */
static const char *const collectors[] = {
	"rsyslogd", "syslog-ng", "systemd-journal", "journald", "dockerd", "containerd-shim",
	"podman",   "conmon",    "supervisord",     "circusd",  "fluentd", "fluent-bit",
	"td-agent", "vector",    "promtail",        "logstash", "tee",
};

/* Adds a piece to the sentence, whole or not at all: a character is never cut. */
__attribute__((format(printf, 2, 3))) static void say(struct search *s, const char *format, ...)
{
	char *text = s->o->text;
	size_t used = strlen(text), room = sizeof s->o->text - used;
	va_list ap;
	int n;

	if (s->text_is_full)
		return;
	va_start(ap, format);
	n = vsnprintf(text + used, room, format, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n + sizeof "..." <= room)
		return;
	memcpy(text + used, "...", sizeof "...");
	s->text_is_full = true;
}

static void say_process(struct search *s, const struct proc_info *info)
{
	char comm[PROC_COMM_BYTES * ESCAPE_MAX_GROWTH];

	escape_text(comm, sizeof comm, slice_str(info->comm));
	say(s, "%s (pid %d)", comm, (int)info->pid);
}

static void say_ports(struct search *s, const uint16_t *ports, unsigned n)
{
	say(s, n == 1 ? "port" : "ports");
	for (unsigned i = 0; i < n; i++)
		say(s, "%s %u", i ? "," : "", ports[i]);
}

static void add_port(uint16_t *ports, unsigned *n, uint16_t port)
{
	unsigned at = 0;

	while (at < *n && ports[at] < port)
		at++;
	if (*n == OWNER_PORTS_MAX || (at < *n && ports[at] == port))
		return;
	memmove(ports + at + 1, ports + at, (*n - at) * sizeof ports[0]);
	ports[at] = port;
	++*n;
}

static unsigned ports_of(struct search *s, const struct holder *t,
			 uint16_t ret_ports[OWNER_PORTS_MAX])
{
	unsigned n = 0;

	for (uint32_t i = 0; i < t->count; i++)
		add_port(ret_ports, &n, holders_listener(s->h, t, i)->port);
	return n;
}

/* "python3 (pid 7, port 8001)" */
static void say_holder(struct search *s, const struct holder *t)
{
	char comm[PROC_COMM_BYTES * ESCAPE_MAX_GROWTH];
	uint16_t ports[OWNER_PORTS_MAX];
	unsigned n = ports_of(s, t, ports);

	escape_text(comm, sizeof comm, slice_str(t->info.comm));
	say(s, "%s (pid %d", comm, (int)t->info.pid);
	if (n) {
		say(s, ", ");
		say_ports(s, ports, n);
	}
	say(s, ")");
}

static void say_group(struct search *s, uint8_t group)
{
	const char *between = "";

	for (size_t i = 0; i < s->h->ntasks; i++) {
		if (s->h->tasks[i].group != group)
			continue;
		say(s, "%s", between);
		say_holder(s, &s->h->tasks[i]);
		between = ", ";
	}
}

static bool is_collector(const struct holder *t)
{
	for (size_t i = 0; i < sizeof collectors / sizeof collectors[0]; i++)
		if (strcmp(t->info.comm, collectors[i]) == 0)
			return true;
	return false;
}

/* The topmost ancestor that writes the log, or the process itself. */
static pid_t writing_root(struct search *s, const struct holder *t)
{
	struct proc_info info = t->info;
	pid_t root = info.pid;

	for (unsigned i = 0; i < ANCESTORS_MAX && info.ppid > 1; i++) {
		const struct holder *parent = holders_find(s->h, info.ppid);

		if (parent)
			info = parent->info;
		else if (proc_info(info.ppid, &info) < 0)
			break;
		if (parent && parent->writes)
			root = info.pid;
	}
	return root;
}

static bool share_port(struct search *s, const struct holder *a, const struct holder *b)
{
	for (uint32_t i = 0; i < a->count; i++)
		for (uint32_t k = 0; k < b->count; k++)
			if (holders_listener(s->h, a, i)->port ==
			    holders_listener(s->h, b, k)->port)
				return true;
	return false;
}

static bool is_one_service(struct search *s, uint8_t group)
{
	const struct holder *first = NULL;

	for (size_t i = 0; i < s->h->ntasks; i++) {
		const struct holder *t = &s->h->tasks[i];

		if (t->group != group)
			continue;
		if (!first)
			first = t;
		else if (!share_port(s, first, t) &&
			 (group > 0 || writing_root(s, first) != writing_root(s, t)))
			return false;
	}
	return true;
}

static void join(struct search *s, struct holder *t, uint8_t group)
{
	t->group = group;
	for (uint32_t i = 0; i < t->count; i++)
		holders_listener(s->h, t, i)->group = group;
}

static bool has_listener(const struct holders *h, uint8_t group, bool loopback)
{
	for (size_t i = 0; i < h->nlisteners; i++)
		if (h->listeners[i].group == group && h->listeners[i].loopback == loopback)
			return true;
	return false;
}

static bool is_public(struct search *s, const struct holder *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (!holders_listener(s->h, t, i)->loopback)
			return true;
	return false;
}

/* Adds the group's public ports; the first group that has some gives the process. */
static void take_group(struct search *s, uint8_t group)
{
	struct owner *o = s->o;
	const struct holder *best = NULL;

	for (size_t i = 0; i < s->h->nlisteners; i++)
		if (s->h->listeners[i].group == group && !s->h->listeners[i].loopback)
			add_port(o->ports, &o->nports, s->h->listeners[i].port);
	for (size_t i = 0; i < s->h->ntasks && !o->pid; i++) {
		const struct holder *t = &s->h->tasks[i];

		if (t->group == group && is_public(s, t) && (!best || t->nfds > best->nfds))
			best = t;
	}
	if (!best)
		return;
	o->pid = best->info.pid;
	o->start_time = best->info.start_time;
	escape_text(o->comm, sizeof o->comm, slice_str(best->info.comm));
	o->by_proxy = group > 0;
}

/* The answer: the ports of this group, and of the groups behind it that can be reached from
 * outside. */
static enum owner_result found(struct search *s, uint8_t group)
{
	struct owner *o = s->o;
	const struct holder *writer = holders_find(s->h, o->writer_pid);

	for (int g = group; g >= 0; g--)
		take_group(s, (uint8_t)g);
	say_ports(s, o->ports, o->nports);
	say(s, " of %s (pid %d), ", o->comm, (int)o->pid);
	if (!o->by_proxy)
		say(s, "which writes the log");
	if (o->by_proxy && writer) {
		say(s, "the proxy in front of ");
		say_holder(s, writer);
		say(s, ", which writes the log");
	}
	return OWNER_FOUND;
}

struct peers {
	size_t local, trusted, foreign;
	struct addr proxy; /* one of the trusted */
};

static struct peers sort_peers(struct search *s)
{
	struct peers p = {0};

	for (size_t i = 0; i < s->h->nconns; i++) {
		const struct connection *c = &s->h->conns[i];

		if (c->far_inode || addr_is_loopback(&c->ends.from)) {
			p.local++;
		} else if (s->trusted && netlist_find(s->trusted, &c->ends.from)) {
			p.trusted++;
			p.proxy = c->ends.from;
		} else {
			p.foreign++;
		}
	}
	p.foreign += s->h->conns_cut;
	return p;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void far_fd(void *ctx, const struct proc_fd *fd)
{
	struct search *s = ctx;
	uint32_t ino = (uint32_t)fd->ino;

	if (fd->type == PROC_FD_SOCKET && fd->ino <= UINT32_MAX &&
	    bsearch(&ino, s->inodes, s->ninodes, sizeof ino, by_number))
		s->far_end_hit = true;
}

struct following {
	struct search *s;
	uint8_t group;
	size_t found;
};

static void far_process(void *ctx, pid_t pid)
{
	struct following *f = ctx;
	struct search *s = f->s;
	struct holder *t;

	s->far_end_hit = false;
	proc_fds(pid, far_fd, s, &s->h->scan);
	if (!s->far_end_hit)
		return;
	t = holders_find(s->h, pid);
	if (t && t->group != HOLDERS_NO_GROUP)
		return; /* a service that talks to itself */
	if (!t || !t->count) {
		proc_info(pid, &s->stranger);
		return;
	}
	join(s, t, f->group);
	f->found++;
}

/* Puts the processes at the far ends into `group`. How many there are, or errno. */
static int follow(struct search *s, uint8_t group)
{
	struct following f = {s, group, 0};
	int r;

	s->ninodes = 0;
	s->h->scan = (struct proc_scan){0};
	for (size_t i = 0; i < s->h->nconns; i++)
		if (s->h->conns[i].far_inode)
			s->inodes[s->ninodes++] = s->h->conns[i].far_inode;
	if (!s->ninodes)
		return 0;
	qsort(s->inodes, s->ninodes, sizeof s->inodes[0], by_number);
	r = proc_each(far_process, &f, &s->h->scan);
	return r < 0 ? r : (int)f.found;
}

/* A listener that only this host can reach, and no proxy found in front of it. */
static enum owner_result no_proxy(struct search *s, uint8_t group, const struct peers *p)
{
	say_group(s, group);
	if (!p->local) {
		say(s, " listens on loopback only, and there is no connection to follow yet");
	} else if (s->stranger.pid) {
		say(s, " listens on loopback only; its connections come from ");
		say_process(s, &s->stranger);
		say(s, ", which listens on nothing");
	} else {
		say(s, " listens on loopback only, and the processes at the other end of its "
		       "connections cannot be seen");
	}
	return OWNER_UNSURE;
}

static enum owner_result several_proxies(struct search *s, uint8_t group)
{
	say(s, "connections come from several unrelated proxies: ");
	say_group(s, group);
	say(s, "; set `port`");
	return OWNER_UNSURE;
}

static void say_remote_proxy(struct search *s, const struct addr *proxy)
{
	char text[ADDR_STRLEN];

	say(s,
	    "; all its connections come from the trusted proxy %s on another host, where bans have "
	    "to act",
	    addr_format(proxy, text));
}

/* Why the processes in front of `group` give no answer. */
static enum owner_result stuck(struct search *s, uint8_t group, int fronts, const struct peers *p)
{
	if (!fronts)
		return no_proxy(s, group, p);
	return several_proxies(s, (uint8_t)(group + 1));
}

/* Goes from the writers' listeners to the ones that the world connects to. */
static int settle(struct search *s)
{
	int reached = -1; /* the last group that can be reached from outside */

	for (uint8_t group = 0; group <= OWNER_HOPS_MAX; group++) {
		bool open = has_listener(s->h, group, false);
		struct peers p;
		int n = holders_connections(s->h, &s->sd, group, !open);

		if (n < 0)
			return n;
		if (open)
			reached = group;
		p = sort_peers(s);
		if (open && (p.foreign || !p.local)) {
			s->o->provisional = !p.foreign && !p.trusted;
			n = (int)found(s, group);
			if (p.trusted && !p.foreign)
				say_remote_proxy(s, &p.proxy);
			return n;
		}
		n = follow(s, (uint8_t)(group + 1));
		if (n < 0)
			return n;
		if (n > 0 && is_one_service(s, (uint8_t)(group + 1)))
			continue;
		if (reached < 0)
			return (int)stuck(s, group, n, &p);
		s->o->provisional = true;
		return (int)found(s, (uint8_t)reached);
	}
	if (reached >= 0)
		return (int)found(s, (uint8_t)reached);
	say(s, "more than %d proxies in front of each other; set `port`", OWNER_HOPS_MAX);
	return OWNER_UNSURE;
}

static void take_pipe(void *ctx, const struct proc_fd *fd)
{
	struct search *s = ctx;

	if (fd->type == PROC_FD_PIPE && s->npipes < PIPES_MAX && !proc_fd_writes(fd))
		s->pipes[s->npipes++] = (struct pipe){fd->dev, fd->ino};
}

static void pipe_fd(void *ctx, const struct proc_fd *fd)
{
	struct search *s = ctx;

	for (size_t i = 0; fd->type == PROC_FD_PIPE && i < s->npipes; i++)
		if (s->pipes[i].ino == fd->ino && s->pipes[i].dev == fd->dev && proc_fd_writes(fd))
			s->far_end_hit = true;
}

static bool below_writer(struct search *s, pid_t pid)
{
	struct proc_info info;

	for (unsigned i = 0; i < ANCESTORS_MAX && pid > 1 && proc_info(pid, &info) == 0; i++) {
		const struct holder *parent = holders_find(s->h, info.ppid);

		if (parent && parent->writes)
			return true;
		pid = info.ppid;
	}
	return false;
}

static void pipe_process(void *ctx, pid_t pid)
{
	struct search *s = ctx;
	const struct holder *t = holders_find(s->h, pid);

	if ((t && t->writes) || s->ncandidates == CANDIDATES_MAX)
		return;
	s->far_end_hit = false;
	if (s->npipes)
		proc_fds(pid, pipe_fd, s, &s->h->scan);
	if (s->far_end_hit || (t && t->count && below_writer(s, pid)))
		s->candidates[s->ncandidates++] = pid;
}

/* Who may be the service behind a collector; those that listen first, others only when none does.
 */
static void say_candidates(struct search *s)
{
	const char *before = "; its input comes from ";
	struct proc_info info;

	for (size_t i = 0; i < s->h->ntasks; i++)
		if (s->h->tasks[i].writes)
			proc_fds(s->h->tasks[i].info.pid, take_pipe, s, &s->h->scan);
	s->h->scan = (struct proc_scan){0};
	proc_each(pipe_process, s, &s->h->scan);
	for (size_t i = 0; i < s->ncandidates; i++) {
		const struct holder *t = holders_find(s->h, s->candidates[i]);

		if (!t)
			continue;
		say(s, "%s", before);
		say_holder(s, t);
		before = ", ";
	}
	if (*before == ';' && s->ncandidates && proc_info(s->candidates[0], &info) == 0) {
		say(s, "%s", before);
		say_process(s, &info);
	}
}

static void take_writer(struct search *s, const struct holder *writer)
{
	s->o->writer_pid = writer->info.pid;
	s->o->writer_start_time = writer->info.start_time;
}

static enum owner_result elsewhere(struct search *s, const struct holder *writer)
{
	take_writer(s, writer);
	s->o->netns = writer->netns;
	say_process(s, &writer->info);
	say(s, " writes the log in another network namespace");
	return OWNER_OTHER_NAMESPACE;
}

static enum owner_result no_listener(struct search *s, const struct holder *writer)
{
	take_writer(s, writer);
	say_process(s, &writer->info);
	say(s, is_collector(writer) ? " writes the log for others"
				    : " writes the log and has no TCP listener");
	say_candidates(s);
	say(s, "; set `port`");
	return OWNER_NO_LISTENER;
}

static enum owner_result no_writer(struct search *s)
{
	const struct proc_scan *scan = &s->h->scan;

	if (s->h->cut) {
		say(s, "no writer among the first %u processes with %u descriptors; set `port`",
		    scan->pids, scan->fds);
		return OWNER_UNSURE;
	}
	if (scan->denied) {
		say(s,
		    "no writer found, but %u of %u processes cannot be looked into "
		    "(CAP_SYS_PTRACE)",
		    scan->denied, scan->pids);
		return OWNER_DENIED;
	}
	say(s, "no process has the log open for writing");
	return OWNER_NO_WRITER;
}

/* The writers that may be the service become group 0. *ret_writer: the first of any kind, or NULL.
 */
static size_t choose_writers(struct search *s, const struct holder **ret_writer)
{
	const struct holder *best = NULL;
	size_t serving = 0;

	*ret_writer = NULL;
	for (size_t i = 0; i < s->h->ntasks; i++) {
		struct holder *t = &s->h->tasks[i];

		if (!t->writes)
			continue;
		if (!*ret_writer)
			*ret_writer = t;
		if (!t->count || is_collector(t))
			continue;
		join(s, t, 0);
		serving++;
		if (!best || t->nfds > best->nfds)
			best = t;
	}
	if (best)
		take_writer(s, best);
	return serving;
}

/* A writer in another network namespace that may be the service there, or NULL. */
static const struct holder *foreign_writer(struct search *s)
{
	for (size_t i = 0; i < s->h->ntasks; i++) {
		const struct holder *t = &s->h->tasks[i];

		if (t->writes && t->other_netns && !is_collector(t))
			return t;
	}
	return NULL;
}

static int decide(struct search *s)
{
	const struct holder *writer, *foreign;

	if (!choose_writers(s, &writer)) {
		foreign = foreign_writer(s);
		if (foreign)
			return (int)elsewhere(s, foreign);
		return (int)(writer ? no_listener(s, writer) : no_writer(s));
	}
	if (is_one_service(s, 0))
		return settle(s);
	say(s, "several unrelated processes write the log: ");
	say_group(s, 0);
	say(s, "; set `port`");
	return OWNER_UNSURE;
}

int owner_find(uint64_t dev, uint64_t ino, const struct netlist *trusted_proxy,
	       struct owner *ret_owner)
{
	struct search *s = calloc(1, sizeof *s);
	int r = -ENOMEM;

	memset(ret_owner, 0, sizeof *ret_owner);
	ret_owner->result = OWNER_UNSURE;
	if (!s)
		return r;
	s->o = ret_owner;
	s->trusted = trusted_proxy;
	s->h = holders_new();
	if (s->h)
		r = sockdiag_open(&s->sd, NULL);
	if (r == 0) {
		r = holders_read(s->h, &s->sd, dev, ino);
		if (r == 0)
			r = decide(s);
		sockdiag_close(&s->sd);
	}
	holders_free(s->h);
	free(s);
	if (r < 0)
		return r;
	ret_owner->result = (enum owner_result)r;
	return 0;
}

bool owner_alive(const struct owner *owner)
{
	return owner->pid > 0 && proc_same(owner->pid, owner->start_time);
}

const char *owner_result_name(enum owner_result result)
{
	static const char *const names[] = {
		[OWNER_FOUND] = "found",
		[OWNER_NO_WRITER] = "no writer",
		[OWNER_NO_LISTENER] = "no listener",
		[OWNER_OTHER_NAMESPACE] = "other namespace",
		[OWNER_UNSURE] = "unsure",
		[OWNER_DENIED] = "denied",
	};

	return (size_t)result < sizeof names / sizeof names[0] ? names[result] : "?";
}
