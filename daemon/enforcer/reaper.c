/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Coalesced kill of banned peers' sockets: see reaper.h. A failure ends the dump or the kill that
 * it hit, is counted and told; the bans of the round are not tried again, as the drop already
 * holds. */
#include "daemon/enforcer/reaper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/log.h"

#define PORTS_MAX 128 /* different ports in one round; more: every port's sockets are looked at */
#define SETS_MAX 256  /* different port sets that wait at one time */
#define FIRST_ROOM 64u

struct target {
	struct addr addr;
	uint16_t set; /* index into reaper.sets */
	uint32_t killed;
};

struct targets {
	struct target *t;
	uint32_t count, room;
};

struct query {
	int family;
	uint16_t port; /* 0: all */
};

struct reaper {
	struct ev_loop *loop;
	struct reaper_hooks hooks;
	struct sockdiag dump, kill;
	ev_io io;
	struct targets waiting, active;
	uint32_t max_targets;
	struct portset sets[SETS_MAX]; /* TCP ports only */
	unsigned set_count;

	/* The running round. */
	bool running;
	uint8_t plens[2][129]; /* prefix lengths of the targets, IPv4 and IPv6 */
	unsigned plen_count[2];
	struct query queries[2 * REAPER_PORT_DUMPS];
	unsigned query_count, query_at, attempt;
	int error;
	struct sock_kill socks[SOCKDIAG_BATCH];
	uint32_t owner[SOCKDIAG_BATCH];
	uint32_t sock_count;

	struct reaper_counters counters;
	int state;
	char text[128];
};

static void next_dump(struct reaper *r);

/* --- What waits --- */

static struct portset tcp_ports(const struct portset *ports)
{
	struct portset tcp = {0};

	for (unsigned i = 0; i < ports->count && i < PORTSET_MAX; i++)
		if (ports->port[i].proto == IPPROTO_TCP && ports->port[i].number)
			tcp.port[tcp.count++] = ports->port[i];
	return tcp;
}

static bool equal_sets(const struct portset *a, const struct portset *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (a->port[i].number != b->port[i].number)
			return false;
	return true;
}

/* Index of the set, or -ENFILE. */
static int keep_set(struct reaper *r, const struct portset *tcp)
{
	for (unsigned i = 0; i < r->set_count; i++)
		if (equal_sets(&r->sets[i], tcp))
			return (int)i;
	if (r->set_count == SETS_MAX)
		return -ENFILE;
	r->sets[r->set_count] = *tcp;
	return (int)r->set_count++;
}

static int grow(struct reaper *r, struct targets *list)
{
	uint32_t room = list->room ? list->room * 2 : FIRST_ROOM;
	struct target *t;

	if (list->count < list->room)
		return 0;
	if (list->count >= r->max_targets)
		return -ENFILE;
	if (room > r->max_targets)
		room = r->max_targets;
	t = reallocarray(list->t, room, sizeof *t);
	if (!t)
		return -ENOMEM;
	list->t = t;
	list->room = room;
	return 0;
}

int reaper_add(struct reaper *r, const struct addr *prefix, const struct portset *ports)
{
	struct portset tcp = tcp_ports(ports);
	int set, code;

	if (!tcp.count || !prefix->plen ||
	    (prefix->family != ADDR_IPV4 && prefix->family != ADDR_IPV6))
		return -EINVAL;
	code = grow(r, &r->waiting);
	if (code == 0) {
		set = keep_set(r, &tcp);
		if (set >= 0) {
			r->waiting.t[r->waiting.count++] =
				(struct target){.addr = *prefix, .set = (uint16_t)set};
			return 0;
		}
		code = set;
	}
	r->counters.overflowed++;
	return code;
}

/* --- State --- */

static void failed(struct reaper *r, int error, const char *what)
{
	r->counters.failed++;
	r->error = error;
	if (error == r->state)
		return;
	r->state = error;
	if (error == -EOPNOTSUPP)
		snprintf(r->text, sizeof r->text,
			 "kill: unavailable: this kernel lacks INET_DIAG_DESTROY");
	else if (error == -EPERM)
		snprintf(r->text, sizeof r->text, "kill: unavailable: CAP_NET_ADMIN is missing");
	else
		snprintf(r->text, sizeof r->text, "kill: %s: %s", what, error_name(error));
	log_error("reaper", "%s", r->text);
}

int reaper_state(const struct reaper *r, const char **ret_text)
{
	*ret_text = r->state ? r->text : NULL;
	return r->state;
}

const struct reaper_counters *reaper_counters(const struct reaper *r)
{
	return &r->counters;
}

/* --- Killing --- */

static void flush_kills(struct reaper *r)
{
	struct sockdiag_killed killed = {0};
	int code;

	if (!r->sock_count)
		return;
	code = sockdiag_destroy_batch(&r->kill, r->socks, r->sock_count, &killed);
	if (code < 0)
		failed(r, code, "destroying sockets");
	else if (killed.failed)
		failed(r, killed.error, "destroying sockets");
	for (uint32_t i = 0; code == 0 && i < r->sock_count; i++)
		r->active.t[r->owner[i]].killed += r->socks[i].error == 0;
	r->counters.killed += killed.destroyed;
	r->counters.gone += killed.gone;
	if (killed.destroyed && !killed.failed)
		r->state = 0;
	r->sock_count = 0;
}

/* The first target that sorts at or behind the address. */
static uint32_t rank(const struct reaper *r, const struct addr *a)
{
	uint32_t low = 0, high = r->active.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (addr_cmp(&r->active.t[middle].addr, a) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The target that this socket belongs to, or -1. */
static int64_t find_target(const struct reaper *r, const struct addr *peer, uint16_t port)
{
	unsigned v6 = peer->family == ADDR_IPV6;

	for (unsigned i = 0; i < r->plen_count[v6]; i++) {
		struct addr net = addr_mask(*peer, r->plens[v6][i]);

		for (uint32_t at = rank(r, &net); at < r->active.count; at++) {
			const struct target *t = &r->active.t[at];

			if (!addr_eq(&t->addr, &net))
				break;
			if (portset_has(&r->sets[t->set], IPPROTO_TCP, port))
				return at;
		}
	}
	return -1;
}

static void look_at(void *ctx, const struct sock_info *sock)
{
	struct reaper *r = ctx;
	int64_t target;

	r->counters.scanned++;
	target = find_target(r, &sock->peer, sock->lport);
	if (target < 0)
		return;
	if (r->hooks.spare && r->hooks.spare(r->hooks.ctx, &sock->peer)) {
		r->counters.spared++;
		return;
	}
	r->owner[r->sock_count] = (uint32_t)target;
	r->socks[r->sock_count++] = sock_kill_of(sock);
	if (r->sock_count == SOCKDIAG_BATCH)
		flush_kills(r);
}

/* --- Planning a round --- */

static int by_addr(const void *a, const void *b)
{
	return addr_cmp(&((const struct target *)a)->addr, &((const struct target *)b)->addr);
}

static void note_plen(struct reaper *r, const struct addr *a)
{
	unsigned v6 = a->family == ADDR_IPV6;

	for (unsigned i = 0; i < r->plen_count[v6]; i++)
		if (r->plens[v6][i] == a->plen)
			return;
	r->plens[v6][r->plen_count[v6]++] = a->plen;
}

struct ports {
	uint16_t of[PORTS_MAX];
	unsigned count; /* PORTS_MAX + 1: too many to name */
	bool dual_stack;
};

static bool has_port(const struct ports *ports, uint16_t number)
{
	if (ports->count > PORTS_MAX)
		return true;
	for (unsigned i = 0; i < ports->count; i++)
		if (ports->of[i] == number)
			return true;
	return false;
}

static void note_ports(struct ports *ports, const struct portset *set)
{
	for (unsigned i = 0; i < set->count && ports->count <= PORTS_MAX; i++) {
		if (has_port(ports, set->port[i].number))
			continue;
		if (ports->count < PORTS_MAX)
			ports->of[ports->count] = set->port[i].number;
		ports->count++;
	}
}

static void look_at_listener(void *ctx, const struct sock_info *sock)
{
	struct ports *ports = ctx;

	ports->dual_stack |= !sock->v6only && has_port(ports, sock->lport);
}

/* Without an answer the dump is made: it costs time, its absence sockets. */
static bool has_dual_stack(struct reaper *r, struct ports *ports)
{
	uint16_t port = ports->count == 1 ? ports->of[0] : 0;

	if (sockdiag_each(&r->dump, AF_INET6, SOCK_LISTENING, port, look_at_listener, ports) < 0)
		return true;
	return ports->dual_stack;
}

static void plan_family(struct reaper *r, int family, const struct ports *ports)
{
	if (ports->count > REAPER_PORT_DUMPS) {
		r->queries[r->query_count++] = (struct query){family, 0};
		return;
	}
	for (unsigned i = 0; i < ports->count; i++)
		r->queries[r->query_count++] = (struct query){family, ports->of[i]};
}

static void plan(struct reaper *r)
{
	struct ports ports = {.count = 0};
	bool set_noted[SETS_MAX] = {false};

	r->plen_count[0] = r->plen_count[1] = 0;
	r->query_count = r->query_at = r->attempt = 0;
	qsort(r->active.t, r->active.count, sizeof r->active.t[0], by_addr);
	for (uint32_t i = 0; i < r->active.count; i++) {
		const struct target *t = &r->active.t[i];

		note_plen(r, &t->addr);
		if (!set_noted[t->set])
			note_ports(&ports, &r->sets[t->set]);
		set_noted[t->set] = true;
	}
	if (r->plen_count[0])
		plan_family(r, AF_INET, &ports);
	if (r->plen_count[1] || has_dual_stack(r, &ports))
		plan_family(r, AF_INET6, &ports);
}

/* --- The round --- */

static void watch_dump(struct reaper *r, bool on)
{
	if (!r->loop)
		return;
	if (on)
		ev_io_start(r->loop, &r->io);
	else
		ev_io_stop(r->loop, &r->io);
}

static void begin_round(struct reaper *r)
{
	struct targets free_list = r->active;

	r->active = r->waiting;
	r->waiting = free_list;
	r->waiting.count = 0;
	r->running = true;
	r->error = 0;
	r->counters.rounds++;
	plan(r);
	next_dump(r);
}

static void end_round(struct reaper *r)
{
	r->running = false;
	for (uint32_t i = 0; i < r->active.count; i++) {
		const struct target *t = &r->active.t[i];

		if (t->killed && r->hooks.killed)
			r->hooks.killed(r->hooks.ctx, &t->addr, t->killed);
	}
	r->active.count = 0;
	if (r->hooks.done)
		r->hooks.done(r->hooks.ctx, r->error);
	if (r->waiting.count)
		begin_round(r);
	else
		r->set_count = 0;
}

/* Few targets: the kernel picks out their sockets. Of other families than the dump's none can
 * match. */
static int start_dump(struct reaper *r, const struct query *q)
{
	struct addr peers[SOCKDIAG_PEERS_MAX];
	size_t n = 0;

	if (r->active.count > SOCKDIAG_PEERS_MAX)
		return sockdiag_dump_start(&r->dump, q->family, SOCK_CONNECTED, q->port);
	for (uint32_t i = 0; i < r->active.count; i++)
		if (q->family == AF_INET6 || r->active.t[i].addr.family == ADDR_IPV4)
			peers[n++] = r->active.t[i].addr;
	return sockdiag_dump_start_of(&r->dump, q->family, SOCK_CONNECTED, q->port, peers, n);
}

/* Starts the next dump that can be started; without one the round is over. */
static void next_dump(struct reaper *r)
{
	while (r->query_at < r->query_count) {
		const struct query *q = &r->queries[r->query_at];
		int code = start_dump(r, q);

		r->counters.dumps++;
		if (code == 0)
			return;
		failed(r, code, "listing sockets");
		r->query_at++;
	}
	end_round(r);
}

static void end_dump(struct reaper *r, int code)
{
	if (code == -EINTR && r->attempt < REAPER_RETRIES) {
		r->attempt++;
		r->counters.dumps_cut++;
	} else {
		if (code < 0)
			failed(r, code, "listing sockets");
		r->attempt = 0;
		r->query_at++;
	}
	next_dump(r);
}

void reaper_step(struct reaper *r)
{
	for (unsigned i = 0; i < REAPER_SLICES && r->running; i++) {
		int code = sockdiag_dump_read(&r->dump, look_at, r, REAPER_SLICE_BYTES);

		flush_kills(r);
		if (code == -EAGAIN)
			break;
		if (code <= 0)
			end_dump(r, code);
	}
	watch_dump(r, r->running);
}

/* A kernel that cannot kill is not asked again: the bans hold without it. */
void reaper_run(struct reaper *r)
{
	if (r->running || !r->waiting.count)
		return;
	if (r->state == -EOPNOTSUPP) {
		r->counters.failed++;
		r->waiting.count = 0;
		r->set_count = 0;
		return;
	}
	begin_round(r);
	reaper_step(r);
}

int reaper_destroy(struct reaper *r, struct sock_kill *socks, size_t count,
		   struct sockdiag_killed *killed)
{
	return sockdiag_destroy_batch(&r->kill, socks, count, killed);
}

bool reaper_busy(const struct reaper *r)
{
	return r->running;
}

/* --- Opening and closing --- */

static void readable(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop;
	(void)events;
	reaper_step(w->data);
}

static void drop(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* Both sockets, of this namespace or as they were given. */
static int open_sockets(struct reaper *r, int dump_fd, int kill_fd, struct error *err)
{
	int code = dump_fd < 0 ? sockdiag_open(&r->dump, err)
			       : sockdiag_from_fd(&r->dump, dump_fd, err);

	if (code < 0) {
		drop(kill_fd);
		return code;
	}
	return kill_fd < 0 ? sockdiag_open(&r->kill, err)
			   : sockdiag_from_fd(&r->kill, kill_fd, err);
}

static int new_reaper(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
		      int dump_fd, int kill_fd, struct reaper **ret_reaper, struct error *err)
{
	struct reaper *r = calloc(1, sizeof *r);
	int code;

	if (!r) {
		drop(dump_fd);
		drop(kill_fd);
		return error_set(err, -ENOMEM, "no memory for the reaper");
	}
	r->hooks = *hooks;
	r->max_targets = max_targets;
	code = open_sockets(r, dump_fd, kill_fd, err);
	if (code < 0) {
		reaper_close(r);
		return code;
	}
	code = sockdiag_can_destroy(&r->kill);
	if (code < 0)
		failed(r, code, "asking the kernel");
	r->loop = loop;
	ev_io_init(&r->io, readable, sockdiag_fd(&r->dump), EV_READ);
	r->io.data = r;
	*ret_reaper = r;
	return 0;
}

int reaper_open(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
		struct reaper **ret_reaper, struct error *err)
{
	return new_reaper(loop, hooks, max_targets, -1, -1, ret_reaper, err);
}

int reaper_open_at(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
		   int dump_fd, int kill_fd, struct reaper **ret_reaper, struct error *err)
{
	if (dump_fd >= 0 && kill_fd >= 0)
		return new_reaper(loop, hooks, max_targets, dump_fd, kill_fd, ret_reaper, err);
	drop(dump_fd);
	drop(kill_fd);
	return error_set(err, -EBADF, "sockets of the other namespace are missing");
}

void reaper_close(struct reaper *r)
{
	if (!r)
		return;
	watch_dump(r, false);
	sockdiag_close(&r->dump);
	sockdiag_close(&r->kill);
	free(r->waiting.t);
	free(r->active.t);
	free(r);
}
