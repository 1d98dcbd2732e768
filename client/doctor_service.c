/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One service as the kernel shows it: see doctor.h. What cannot be read stays zero and is judged as
 * not known. */
#include "client/doctor.h"
#include "client/present.h"
#include "daemon/base/escape.h"
#include "daemon/sockets/holders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PEERS_LISTED 20u /* in JSON */
#define FAR_MAX 64u      /* sockets at the other end that are looked for */
#define GROUP 1u

static uint32_t looked_into(const struct service *s)
{
	return s->budget.ntasks < DOCTOR_TASKS_MAX ? s->budget.ntasks : DOCTOR_TASKS_MAX;
}

bool doctor_is_own(const struct doctor *d, const struct addr *a)
{
	return addr_is_loopback(a) || netlist_find(&d->own, a);
}

/* --- whose it is ------------------------------------------------------------------------------ */

static pid_t pid_by_daemon(const struct doctor *d, uint16_t port)
{
	json_t *o;
	size_t i;

	json_array_foreach(json_object_get(d->status, "services"), i, o)
		if (json_integer_value(json_object_get(o, "port")) == port)
			return (pid_t)json_integer_value(json_object_get(o, "pid"));
	return 0;
}

/* An ordinary user does not see who holds a socket; the daemon may have told. */
static void adopt(const struct doctor *d, struct service *s)
{
	struct budget_task *t = &s->budget.tasks[0];
	pid_t pid = pid_by_daemon(d, s->ports[0]);
	struct proc_info info;
	int64_t fds;

	if (pid <= 0 || proc_info(pid, &info) < 0)
		return;
	fds = budget_count_fds(pid);
	if (fds < 0 || budget_limits(pid, &t->soft, &t->hard) < 0)
		return;
	t->pid = pid;
	t->ppid = info.ppid;
	t->start_time = info.start_time;
	t->fds = (uint32_t)fds;
	memcpy(t->comm, info.comm, sizeof t->comm);
	s->budget.ntasks = 1;
	s->error = 0;
}

static bool is_elsewhere(pid_t pid)
{
	uint64_t dev, ino, here_dev, here_ino;

	return proc_netns(pid, &dev, &ino) == 0 &&
	       proc_netns(getpid(), &here_dev, &here_ino) == 0 &&
	       (dev != here_dev || ino != here_ino);
}

static void look_at_tasks(struct service *s)
{
	if (s->budget.ntasks)
		s->fds_seen = vitals_fd_kinds(s->budget.tasks[0].pid, &s->fds) == 0;
	for (uint32_t i = 0; i < looked_into(s); i++) {
		pid_t pid = s->budget.tasks[i].pid;

		vitals_read(pid, &s->vitals[i]);
		threads_read(pid, &s->threads);
		s->elsewhere |= is_elsewhere(pid);
	}
	if (!s->log[0] && s->budget.ntasks)
		vitals_output(s->budget.tasks[0].pid, s->log, sizeof s->log);
}

/* --- its connections -------------------------------------------------------------------------- */

static void take_inode(void *ctx, const struct sock_info *sock)
{
	struct service *s = ctx;

	if (!sock) {
		s->ninodes = 0;
		return;
	}
	if (!sock->inode || s->ninodes == WAITS_FDS_MAX)
		return;
	if (s->ninodes == s->inodes_room) {
		size_t room = s->inodes_room ? s->inodes_room * 2 : 1024;
		uint32_t *grown = reallocarray(s->inodes, room, sizeof *grown);

		if (!grown)
			client_no_memory();
		s->inodes = grown;
		s->inodes_room = room;
	}
	s->inodes[s->ninodes++] = sock->inode;
}

static void look_at_waits(struct service *s)
{
	pid_t pids[DOCTOR_TASKS_MAX];
	struct waits *w;
	uint32_t n = looked_into(s);

	if (!n || !s->ninodes)
		return;
	w = waits_new();
	if (!w)
		client_no_memory();
	for (uint32_t i = 0; i < n; i++)
		pids[i] = s->budget.tasks[i].pid;
	s->has_waits = waits_read(w, pids, n) == 0;
	for (size_t i = 0; s->has_waits && i < s->ninodes; i++)
		s->waits[waits_of(w, s->inodes[i], NULL)]++;
	for (uint32_t i = 0; s->has_waits && i < n; i++)
		s->selects |= waits_selects(w, pids[i]);
	waits_free(w);
}

/* --- a proxy on this host --------------------------------------------------------------------- */

struct far_ends {
	uint32_t inodes[FAR_MAX];
	size_t n;
	pid_t found;
};

static void look_at_fd(void *ctx, const struct proc_fd *fd)
{
	struct far_ends *far = ctx;

	if (fd->type != PROC_FD_SOCKET)
		return;
	for (size_t i = 0; i < far->n && !far->found; i++)
		if (far->inodes[i] == fd->ino)
			far->found = fd->pid;
}

static void mark(struct service *s, struct holders *h)
{
	for (size_t i = 0; i < h->nlisteners; i++)
		for (size_t p = 0; p < s->nports; p++)
			if (h->listeners[i].port == s->ports[p])
				h->listeners[i].group = GROUP;
}

static void take_far_ends(const struct doctor *d, struct holders *h, struct far_ends *far,
			  bool loopback)
{
	if (holders_connections(h, d->sd, GROUP, loopback) < 0)
		return;
	for (size_t i = 0; i < h->nconns && far->n < FAR_MAX; i++)
		if (h->conns[i].far_inode)
			far->inodes[far->n++] = h->conns[i].far_inode;
}

static void name_proxy(struct service *s, struct holders *h, pid_t pid)
{
	const struct holder *t = holders_find(h, pid);
	char comm[PROC_COMM_BYTES * ESCAPE_MAX_GROWTH];
	struct proc_info info;
	size_t n;

	if (proc_info(pid, &info) < 0)
		return;
	escape_text(comm, sizeof comm, slice_str(info.comm));
	n = (size_t)snprintf(s->proxy, sizeof s->proxy, "%s (pid %d", comm, (int)pid);
	if (t && t->count && n < sizeof s->proxy)
		n += (size_t)snprintf(s->proxy + n, sizeof s->proxy - n, ", port %u",
				      holders_listener(h, t, 0)->port);
	if (n < sizeof s->proxy)
		snprintf(s->proxy + n, sizeof s->proxy - n, ")");
}

/* Every peer is this host: who is at the other end? */
static void look_for_proxy(const struct doctor *d, struct service *s)
{
	struct holders *h = holders_new();
	struct far_ends far = {.n = 0};
	struct proc_scan scan = {0};

	if (!h)
		client_no_memory();
	if (holders_read(h, d->sd, 0, 0) == 0) {
		mark(s, h);
		take_far_ends(d, h, &far, true);
		take_far_ends(d, h, &far, false);
		if (far.n)
			proc_each_fd(look_at_fd, &far, &scan);
		if (far.found)
			name_proxy(s, h, far.found);
	}
	holders_free(h);
}

static bool all_from_here(const struct doctor *d, const struct service *s)
{
	for (size_t i = 0; i < s->peers.n; i++)
		if (!doctor_is_own(d, &s->peers.list[i].prefix))
			return false;
	return s->peers.n > 0;
}

/* --- the look --------------------------------------------------------------------------------- */

void doctor_whose(const struct doctor *d, struct service *s)
{
	s->error = budget_find(d->sd, s->ports, s->nports, &s->budget);
	if (!s->budget.ntasks && s->error != -ENOENT)
		adopt(d, s);
}

void doctor_look(struct doctor *d, struct service *s)
{
	struct port_bits ports = {0};

	for (size_t i = 0; i < s->nports; i++)
		port_bits_add(&ports, s->ports[i]);
	look_at_tasks(s);
	peers_read(&s->peers, d->sd, &ports, NULL, take_inode, s);
	peers_sort(&s->peers);
	look_at_waits(s);
	if (d->status)
		present_banned(d->client, s->peers.list,
			       s->peers.n < PEERS_LISTED ? s->peers.n : PEERS_LISTED);
	s->from_here = all_from_here(d, s);
	if (s->from_here)
		look_for_proxy(d, s);
}

void doctor_sample(struct service *s, unsigned which)
{
	for (uint32_t i = 0; i < looked_into(s); i++)
		s->cpu_ns[i][which] = vitals_cpu_ns(s->budget.tasks[i].pid);
}

int doctor_cpu_percent(const struct doctor *d, const struct service *s)
{
	int64_t between_ns = d->looked_ns[1] - d->looked_ns[0], used_ns = 0;

	if (between_ns <= 0 || !s->budget.ntasks)
		return -1;
	for (uint32_t i = 0; i < looked_into(s); i++) {
		if (s->cpu_ns[i][0] < 0 || s->cpu_ns[i][1] < s->cpu_ns[i][0])
			return -1;
		used_ns += s->cpu_ns[i][1] - s->cpu_ns[i][0];
	}
	return (int)(used_ns * 100 / between_ns);
}

void doctor_service_free(struct service *s)
{
	peers_free(&s->peers);
	free(s->inodes);
	free(s);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *number(uint64_t n)
{
	return n > INT64_MAX ? json_null() : json_integer((json_int_t)n);
}

static json_t *listeners_json(const struct budget *b)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < b->nlisteners; i++) {
		const struct budget_listener *l = &b->listeners[i];
		char addr[ADDR_STRLEN];

		json_array_append_new(list, json_pack("{s:s, s:i, s:o, s:o}", "addr",
						      addr_format(&l->local, addr), "port",
						      (int)l->port, "queue", number(l->queue),
						      "backlog", number(l->backlog)));
	}
	return list;
}

static json_t *task_json(const struct doctor *d, const struct service *s, uint32_t i)
{
	const struct budget_task *t = &s->budget.tasks[i];
	json_t *o = json_pack("{s:i, s:i, s:o, s:o, s:o}", "pid", (int)t->pid, "ppid", (int)t->ppid,
			      "descriptors", number(t->fds), "soft", number(t->soft), "hard",
			      number(t->hard));
	const struct vitals *v = &s->vitals[i];
	int64_t between_ns = d->looked_ns[1] - d->looked_ns[0];
	char comm[PROC_COMM_BYTES * ESCAPE_MAX_GROWTH];

	json_object_set_new(o, "name",
			    json_string(escape_text(comm, sizeof comm, slice_str(t->comm))));
	if (i >= looked_into(s) || !v->threads)
		return o;
	json_object_set_new(o, "command", json_string(v->command));
	json_object_set_new(o, "user", json_string(v->user));
	json_object_set_new(o, "uid", number(v->uid));
	json_object_set_new(o, "age_s", json_integer(v->age_s));
	json_object_set_new(o, "threads", number(v->threads));
	json_object_set_new(o, "stack_bytes", number(v->stack_bytes));
	json_object_set_new(o, "virt_bytes", number(v->virt_bytes));
	json_object_set_new(o, "rss_bytes", number(v->rss_bytes));
	if (s->cpu_ns[i][0] >= 0 && s->cpu_ns[i][1] >= s->cpu_ns[i][0] && between_ns > 0)
		json_object_set_new(
			o, "cpu_percent",
			json_integer((s->cpu_ns[i][1] - s->cpu_ns[i][0]) * 100 / between_ns));
	return o;
}

static json_t *tasks_json(const struct doctor *d, const struct service *s)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < s->budget.ntasks; i++)
		json_array_append_new(list, task_json(d, s, i));
	return list;
}

static json_t *waits_json(const struct service *s)
{
	static const char *const words[] = {[WAIT_UNKNOWN] = "unknown",
					    [WAIT_WORKS] = "works",
					    [WAIT_CLIENT] = "client",
					    [WAIT_SENDING] = "sending",
					    [WAIT_LOOP] = "loop"};
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		json_object_set_new(o, words[i], number(s->waits[i]));
	return o;
}

static json_t *list_peers(const struct peers *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n && i < PEERS_LISTED; i++)
		json_array_append_new(list, peers_json(&p->list[i]));
	return list;
}

json_t *doctor_service_json(const struct doctor *d, const struct service *s)
{
	const struct peer *total = &s->peers.total;
	json_t *o = json_object(), *ports = json_array();
	char path[PATH_MAX];

	for (size_t i = 0; i < s->nports; i++)
		json_array_append_new(ports, json_integer(s->ports[i]));
	json_object_set_new(o, "about", json_string(s->about));
	json_object_set_new(o, "ports", ports);
	json_object_set_new(o, "listeners", listeners_json(&s->budget));
	json_object_set_new(o, "processes", tasks_json(d, s));
	if (s->fds_seen)
		json_object_set_new(o, "descriptors",
				    json_pack("{s:o, s:o, s:o, s:o}", "sockets",
					      number(s->fds.sockets), "files", number(s->fds.files),
					      "pipes", number(s->fds.pipes), "others",
					      number(s->fds.others)));
	json_object_set_new(o, "threads", threads_json(&s->threads));
	json_object_set_new(o, "connections", number(total->connections));
	json_object_set_new(o, "states", peers_states_json(total));
	json_object_set_new(o, "unaccepted", number(total->unaccepted));
	json_object_set_new(o, "silent", number(total->silent));
	json_object_set_new(o, "waits_for", s->has_waits ? waits_json(s) : json_null());
	json_object_set_new(o, "npeers", number(s->peers.n));
	json_object_set_new(o, "peers", list_peers(&s->peers));
	escape_utf8(path, sizeof path, slice_str(s->log), NULL);
	json_object_set_new(o, "log", s->log[0] ? json_string(path) : json_null());
	return o;
}
