/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which services doctor looks at: see doctor.h. Those that cannot be found become findings. */
#include "client/doctor.h"
#include "daemon/base/error.h"
#include "daemon/base/escape.h"
#include "daemon/sockets/holders.h"
#include "daemon/sockets/owner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define AUTO_MAX 3u         /* services when nobody says which */
#define NAMESPACES_MAX 256u /* that are searched for a listener */

static struct service *add_service(struct doctor *d, const uint16_t *ports, size_t n)
{
	struct service *s = calloc(1, sizeof *s);
	size_t used;

	if (!s)
		client_no_memory();
	if (n > DOCTOR_PORTS_MAX)
		n = DOCTOR_PORTS_MAX;
	memcpy(s->ports, ports, n * sizeof ports[0]);
	s->nports = n;
	used = (size_t)snprintf(s->about, sizeof s->about, n == 1 ? "port" : "ports");
	for (size_t i = 0; i < n && used < sizeof s->about; i++)
		used += (size_t)snprintf(s->about + used, sizeof s->about - used, "%s %u",
					 i ? "," : "", ports[i]);
	d->services[d->nservices++] = s;
	return s;
}

static void take_listening(void *ctx, const struct sock_info *sock)
{
	struct doctor *d = ctx;

	if (d->nlistening == DOCTOR_LISTENING_MAX)
		return;
	if (!d->listening)
		d->listening = calloc(DOCTOR_LISTENING_MAX, sizeof d->listening[0]);
	if (!d->listening)
		client_no_memory();
	d->listening[d->nlistening++] = (struct listening){sock->local, sock->uid, sock->lport};
}

bool doctor_listener_uid(const struct doctor *d, uint16_t port, uint32_t *ret_uid)
{
	for (size_t i = 0; i < d->nlistening; i++) {
		if (d->listening[i].port != port)
			continue;
		*ret_uid = d->listening[i].uid;
		return true;
	}
	return false;
}

/* --- a port on which nobody listens here ------------------------------------------------------ */

struct elsewhere {
	uint16_t port;
	uint64_t seen[NAMESPACES_MAX];
	size_t nseen;
	pid_t found;
};

/* /proc/PID/net/tcp begins with the listeners (state 0A); what follows may be a million lines. */
static bool listens(pid_t pid, const char *name, uint16_t port)
{
	char path[64], line[512];
	unsigned number, state = 0x0a;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/net/%s", (int)pid, name);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(line, sizeof line, f))
		state = 0;
	while (state == 0x0a && !found && fgets(line, sizeof line, f)) {
		if (sscanf(line, " %*u: %*32[0-9A-Fa-f]:%x %*[0-9A-Fa-f:] %x", &number, &state) !=
		    2)
			break;
		found = state == 0x0a && number == port;
	}
	fclose(f);
	return found;
}

static void look_elsewhere(void *ctx, pid_t pid)
{
	struct elsewhere *e = ctx;
	uint64_t dev, ino;

	if (e->found || e->nseen == NAMESPACES_MAX || proc_netns(pid, &dev, &ino) < 0)
		return;
	for (size_t i = 0; i < e->nseen; i++)
		if (e->seen[i] == ino)
			return;
	e->seen[e->nseen++] = ino;
	if (listens(pid, "tcp", e->port) || listens(pid, "tcp6", e->port))
		e->found = pid;
}

static void nobody_listens(struct doctor *d, struct service *s)
{
	struct elsewhere e = {.port = s->ports[0]};
	struct proc_scan scan = {0};
	struct proc_info info;
	char comm[PROC_COMM_BYTES * ESCAPE_MAX_GROWTH];
	uint64_t dev;

	if (proc_netns(getpid(), &dev, &e.seen[0]) == 0)
		e.nseen = 1;
	proc_each(look_elsewhere, &e, &scan);
	if (!e.found || proc_info(e.found, &info) < 0) {
		findings_add(&d->findings, FINDING_FAIL, s->about, "listener",
			     "nobody listens on %s in this network namespace", s->about);
		findings_remedy(&d->findings, "start the service; `ss -ltnp` shows who listens");
		return;
	}
	findings_add(&d->findings, FINDING_FAIL, s->about, "namespace",
		     "nobody listens on %s here; somebody does in another network namespace, that "
		     "of %s (pid %d): a container?",
		     s->about, escape_text(comm, sizeof comm, slice_str(info.comm)), (int)e.found);
	findings_remedy(&d->findings, "nsenter -t %d -n tailban doctor --port %u", (int)e.found,
			s->ports[0]);
}

static void by_port(struct doctor *d)
{
	struct service *s = add_service(d, &d->port, 1);
	uint32_t uid;

	if (!doctor_listener_uid(d, d->port, &uid))
		nobody_listens(d, s);
}

/* --- the writer of a log ---------------------------------------------------------------------- */

static void no_owner(struct doctor *d, const struct owner *o)
{
	enum finding_level level = o->result == OWNER_NO_WRITER ? FINDING_FAIL : FINDING_WARN;

	findings_add(&d->findings, level, DOCTOR_LOGS, "service", "%s", o->text);
	if (o->result == OWNER_OTHER_NAMESPACE && o->writer_pid)
		findings_remedy(&d->findings, "nsenter -t %d -n tailban doctor --log %s",
				(int)o->writer_pid, doctor_plain_path(d->log));
	else if (o->result == OWNER_NO_WRITER)
		findings_remedy(&d->findings, "start the service, or name its port: tailban "
					      "doctor --port PORT");
	else if (o->result == OWNER_DENIED && !d->privileged)
		findings_remedy(&d->findings, "sudo tailban doctor --log %s",
				doctor_plain_path(d->log));
	else
		findings_remedy(&d->findings,
				"name its port: tailban doctor --port PORT; in the jail: port = "
				"PORT");
}

static void by_log(struct doctor *d)
{
	struct owner o = {.result = OWNER_UNSURE};
	struct stat st;
	int r = stat(d->log, &st) < 0 ? -errno : 0;

	if (r == 0)
		r = owner_find(st.st_dev, st.st_ino, NULL, &o);
	if (r < 0) {
		findings_add(&d->findings, FINDING_FAIL, DOCTOR_LOGS, "service",
			     "who writes the log is not known: %s", error_name(r));
		return;
	}
	if (o.result != OWNER_FOUND) {
		no_owner(d, &o);
		return;
	}
	snprintf(add_service(d, o.ports, o.nports)->log, PATH_MAX, "%s", d->log);
	if (o.by_proxy)
		findings_add(&d->findings, FINDING_OK, d->services[0]->about, "proxy", "%s",
			     o.text);
}

/* --- the daemon's ----------------------------------------------------------------------------- */

static bool serves(const struct service *s, uint16_t port)
{
	for (size_t i = 0; i < s->nports; i++)
		if (s->ports[i] == port)
			return true;
	return false;
}

static bool is_taken(const struct doctor *d, uint16_t port)
{
	for (size_t i = 0; i < d->nservices; i++)
		if (serves(d->services[i], port))
			return true;
	return false;
}

/* All ports that the daemon found for one process, from `first` on. */
static size_t ports_of(json_t *services, size_t first, uint16_t ports[static DOCTOR_PORTS_MAX])
{
	json_int_t pid =
		json_integer_value(json_object_get(json_array_get(services, first), "pid"));
	size_t n = 0;

	for (size_t i = first; i < json_array_size(services) && n < DOCTOR_PORTS_MAX; i++) {
		json_t *o = json_array_get(services, i);
		json_int_t port = json_integer_value(json_object_get(o, "port"));

		if ((i == first || json_integer_value(json_object_get(o, "pid")) == pid) &&
		    port > 0 && port < 65536)
			ports[n++] = (uint16_t)port;
	}
	return n;
}

static void take_log(struct service *s, json_t *o)
{
	const char *log = json_string_value(json_object_get(o, "log"));
	struct stat st;

	if (log && stat(log, &st) == 0 && S_ISREG(st.st_mode))
		snprintf(s->log, sizeof s->log, "%s", log);
}

static void by_daemon(struct doctor *d)
{
	json_t *services = json_object_get(d->status, "services");
	uint16_t ports[DOCTOR_PORTS_MAX];
	size_t n;

	for (size_t i = 0; i < json_array_size(services); i++) {
		json_t *o = json_array_get(services, i);
		json_int_t port = json_integer_value(json_object_get(o, "port"));
		uint32_t uid;

		if (port <= 0 || port > 65535 || is_taken(d, (uint16_t)port))
			continue;
		if (d->nservices == DOCTOR_SERVICES_MAX) {
			d->left++;
			continue;
		}
		n = ports_of(services, i, ports);
		take_log(add_service(d, ports, n), o);
		if (!doctor_listener_uid(d, (uint16_t)port, &uid))
			nobody_listens(d, d->services[d->nservices - 1]);
	}
}

/* --- whoever listens -------------------------------------------------------------------------- */

struct choice {
	struct doctor *d;
	struct holders *h;
	struct port_bits done;
	bool loopback; /* there are no others */
};

struct rank {
	uint32_t nfds, at; /* at: in the table of holders */
};

static int by_descriptors(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;

	return (x->nfds < y->nfds) - (x->nfds > y->nfds);
}

static void offer(struct choice *c, const uint16_t *ports, size_t n)
{
	bool is_new = false;

	for (size_t i = 0; i < n; i++) {
		is_new |= !port_bits_has(&c->done, ports[i]);
		port_bits_add(&c->done, ports[i]);
	}
	if (is_new && c->d->nservices < AUTO_MAX)
		add_service(c->d, ports, n);
	else if (is_new)
		c->d->left++;
}

static void offer_task(struct choice *c, const struct holder *t)
{
	uint16_t ports[DOCTOR_PORTS_MAX] = {0};
	size_t n = 0;

	for (uint32_t i = 0; i < t->count && n < DOCTOR_PORTS_MAX; i++) {
		const struct listener *l = holders_listener(c->h, t, i);
		bool known = l->loopback && !c->loopback;

		for (size_t k = 0; k < n; k++)
			known |= ports[k] == l->port;
		if (!known)
			ports[n++] = l->port;
	}
	offer(c, ports, n);
}

/* A service manager holds the sockets of others: it comes last, by its ports. */
static void offer_tasks(struct choice *c)
{
	struct rank *order = calloc(c->h->ntasks + 1, sizeof *order);
	size_t n = 0;

	if (!order)
		client_no_memory();
	for (uint32_t i = 0; i < c->h->ntasks; i++)
		if (c->h->tasks[i].info.pid != 1)
			order[n++] = (struct rank){c->h->tasks[i].nfds, i};
	qsort(order, n, sizeof *order, by_descriptors);
	for (size_t i = 0; i < n; i++)
		offer_task(c, &c->h->tasks[order[i].at]);
	free(order);
}

/* Ports whose process is not seen. */
static void offer_ports(struct choice *c)
{
	for (size_t i = 0; i < c->d->nlistening; i++)
		if (c->loopback || !addr_is_loopback(&c->d->listening[i].local))
			offer(c, &c->d->listening[i].port, 1);
}

static void by_listeners(struct doctor *d)
{
	struct choice c = {.d = d, .h = holders_new(), .loopback = true};

	if (!c.h)
		client_no_memory();
	for (size_t i = 0; i < d->nlistening; i++)
		c.loopback &= addr_is_loopback(&d->listening[i].local);
	if (holders_read(c.h, d->sd, 0, 0) == 0)
		offer_tasks(&c);
	offer_ports(&c);
	holders_free(c.h);
	if (!d->nservices)
		findings_add(&d->findings, FINDING_WARN, DOCTOR_MACHINE, "listener",
			     "nobody listens on a TCP port in this network namespace");
}

void doctor_find(struct doctor *d)
{
	sockdiag_each(d->sd, AF_UNSPEC, SOCK_LISTENING, 0, take_listening, d);
	if (d->port)
		by_port(d);
	else if (d->log)
		by_log(d);
	else if (d->status)
		by_daemon(d);
	if (!d->nservices && !d->port && !d->log)
		by_listeners(d);
}
