/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The descriptor budget: see budget.h. Processes that end meanwhile are left out. */
#include "daemon/sockets/budget.h"

#include "daemon/base/slice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* The row of this listener, or NULL. */
static struct budget_listener *place_of(struct budget *b, const struct sock_info *sock)
{
	for (uint32_t i = 0; i < b->nlisteners; i++) {
		struct budget_listener *l = &b->listeners[i];

		if (l->inode == sock->inode && l->port == sock->lport &&
		    addr_eq(&l->local, &sock->local))
			return l;
	}
	return NULL;
}

static void take_listener(void *ctx, const struct sock_info *sock)
{
	struct budget *b = ctx;

	if (place_of(b, sock))
		return; /* a dump that was cut and repeated shows a socket again */
	if (b->nlisteners == BUDGET_LISTENERS_MAX) {
		b->cut = true;
		return;
	}
	b->listeners[b->nlisteners++] = (struct budget_listener){
		.local = sock->local,
		.inode = sock->inode,
		.queue = sock->rqueue,
		.backlog = sock->wqueue,
		.port = sock->lport,
		.v6only = sock->v6only,
	};
}

static int each_listener(struct sockdiag *sd, const uint16_t *ports, size_t nports,
			 sock_callback *callback, void *ctx)
{
	for (size_t i = 0; i < nports; i++) {
		int r;

		if (!ports[i])
			continue; /* would mean all ports */
		r = sockdiag_each(sd, AF_UNSPEC, SOCK_LISTENING, ports[i], callback, ctx);
		if (r < 0)
			return r;
	}
	return 0;
}

int64_t budget_count_fds(pid_t pid)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	if (stat(path, &st) < 0)
		return -errno;
	return st.st_size > 0 ? st.st_size : proc_count_fds(pid);
}

static bool limit_of(struct slice *rest, uint64_t *ret_limit)
{
	struct slice word;

	*ret_limit = BUDGET_UNLIMITED;
	return slice_word(rest, &word) &&
	       (slice_eq_str(word, "unlimited") || slice_u64(word, UINT64_MAX, ret_limit) == 0);
}

int budget_limits(pid_t pid, uint64_t *ret_soft, uint64_t *ret_hard)
{
	static const char name[] = "\nMax open files";
	char buf[4096], *line;
	struct slice rest;
	ssize_t n = proc_read(pid, "limits", buf, sizeof buf);

	if (n < 0)
		return (int)n;
	line = strstr(buf, name);
	if (!line)
		return -EPROTO;
	rest = slice_str(line + sizeof name - 1);
	return limit_of(&rest, ret_soft) && limit_of(&rest, ret_hard) ? 0 : -EPROTO;
}

static int count_again(struct budget_task *task)
{
	int64_t fds = budget_count_fds(task->pid);

	if (fds < 0)
		return (int)fds;
	task->fds = fds < UINT32_MAX ? (uint32_t)fds : UINT32_MAX;
	return budget_limits(task->pid, &task->soft, &task->hard);
}

static double fill_of(const struct budget_task *task)
{
	return (double)task->fds / (double)(task->soft ? task->soft : 1);
}

static int by_fill(const void *a, const void *b)
{
	double x = fill_of(a), y = fill_of(b);

	return (x < y) - (x > y);
}

static void sort_tasks(struct budget *b)
{
	qsort(b->tasks, b->ntasks, sizeof b->tasks[0], by_fill);
}

struct finding {
	struct budget *b;
	struct proc_scan scan;
	bool holds; /* the process in hand */
};

static void take_fd(void *ctx, const struct proc_fd *fd)
{
	struct finding *f = ctx;

	if (fd->type != PROC_FD_SOCKET)
		return;
	for (uint32_t i = 0; i < f->b->nlisteners; i++)
		f->holds |= f->b->listeners[i].inode == fd->ino;
}

static int describe(pid_t pid, struct budget_task *ret_task)
{
	struct proc_info info;
	int r = proc_info(pid, &info);

	if (r < 0)
		return r;
	*ret_task =
		(struct budget_task){.pid = pid, .ppid = info.ppid, .start_time = info.start_time};
	memcpy(ret_task->comm, info.comm, sizeof ret_task->comm);
	r = proc_uid(pid, &ret_task->uid);
	return r < 0 ? r : count_again(ret_task);
}

static void take_process(void *ctx, pid_t pid)
{
	struct finding *f = ctx;
	struct budget *b = f->b;

	f->holds = false;
	proc_fds(pid, take_fd, f, &f->scan);
	if (!f->holds)
		return;
	if (b->ntasks == BUDGET_TASKS_MAX)
		b->cut = true;
	else if (describe(pid, &b->tasks[b->ntasks]) == 0)
		b->ntasks++;
}

static bool is_manager(const struct budget_task *task)
{
	return strcmp(task->comm, "systemd") == 0;
}

static void leave_out_managers(struct budget *b)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < b->ntasks; i++)
		if (!is_manager(&b->tasks[i]))
			b->tasks[kept++] = b->tasks[i];
	if (kept)
		b->ntasks = kept;
}

int budget_find(struct sockdiag *sd, const uint16_t *ports, size_t nports,
		struct budget *ret_budget)
{
	struct finding f = {.b = ret_budget};
	int r;

	memset(ret_budget, 0, sizeof *ret_budget);
	r = each_listener(sd, ports, nports, take_listener, ret_budget);
	if (r < 0)
		return r;
	if (!ret_budget->nlisteners)
		return -ENOENT;
	r = proc_each(take_process, &f, &f.scan);
	if (r < 0)
		return r;
	leave_out_managers(ret_budget);
	sort_tasks(ret_budget);
	ret_budget->cut |= f.scan.cut;
	ret_budget->denied = f.scan.denied && !ret_budget->ntasks;
	return 0;
}

int budget_read(struct budget *b)
{
	int error = 0;

	for (uint32_t i = 0; i < b->ntasks; i++) {
		struct budget_task fresh = b->tasks[i];
		int r = proc_same(fresh.pid, fresh.start_time) ? count_again(&fresh) : -ESRCH;

		if (r == 0)
			b->tasks[i] = fresh;
		else
			error = r == -ENOENT ? -ESRCH : r;
	}
	sort_tasks(b);
	return error;
}

struct queue_reading {
	struct budget *b;
	uint64_t seen; /* a bit for each listener */
	bool stranger;
};

static void take_queue(void *ctx, const struct sock_info *sock)
{
	struct queue_reading *q = ctx;
	struct budget_listener *l = place_of(q->b, sock);

	_Static_assert(BUDGET_LISTENERS_MAX <= 64, "a bit for each listener");
	if (!l) {
		q->stranger = true;
		return;
	}
	l->queue = sock->rqueue;
	l->backlog = sock->wqueue;
	q->seen |= UINT64_C(1) << (l - q->b->listeners);
}

int budget_listen_queues(struct budget *b, struct sockdiag *sd, const uint16_t *ports,
			 size_t nports)
{
	struct queue_reading q = {.b = b};
	int r = each_listener(sd, ports, nports, take_queue, &q);

	if (r < 0)
		return r;
	if (q.stranger && !b->cut)
		return -ESTALE;
	return (uint32_t)__builtin_popcountll(q.seen) == b->nlisteners ? 0 : -ESTALE;
}

/* The numbers stand in the limits that the kernel gives us, not in the row, which may be old. */
static int lift(pid_t pid, uint64_t wanted, uint64_t *ret_soft)
{
	struct rlimit limit;
	uint64_t goal;

	if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) < 0)
		return -errno;
	*ret_soft = limit.rlim_cur;
	goal = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	if (goal > limit.rlim_cur) {
		limit.rlim_cur = goal;
		if (prlimit(pid, RLIMIT_NOFILE, &limit, NULL) < 0)
			return -errno;
		*ret_soft = goal;
	}
	return wanted > limit.rlim_max && wanted != BUDGET_UNLIMITED ? -ERANGE : 0;
}

/* A pid that is given to somebody else between the two looks had its soft limit lifted within its
 * own hard limit, no more. */
int budget_raise(const struct budget_task *task, uint64_t wanted, uint64_t *ret_soft)
{
	int r;

	*ret_soft = task->soft;
	if (!proc_same(task->pid, task->start_time))
		return -ESRCH;
	r = lift(task->pid, wanted, ret_soft);
	return proc_same(task->pid, task->start_time) ? r : -ESRCH;
}
