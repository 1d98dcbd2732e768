/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The picture of what threads wait for: see waits.h. Processes and threads that end meanwhile are
 * left out. */
#include "daemon/sockets/waits.h"

#include "daemon/sockets/blocked.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PATH_BYTES 64
#define EPOLLS_MAX 256u /* sets of one process */
#define CHUNK_BYTES 32768u
#define ROOM_MIN 1024u

struct sock {
	uint32_t inode;
	pid_t pid;
	enum wait_kind kind;
};

/* A descriptor of the process in hand. */
struct held {
	int fd;
	uint32_t sock;
};

struct waits {
	struct proc_family family;
	struct proc_scan scan;
	pid_t selecting[WAITS_PIDS_MAX]; /* processes with a thread in select */
	struct sock *socks;
	uint32_t *slots; /* by inode: number of the sock and one more, 0: empty; twice `room` */
	struct held *held;
	uint32_t nselecting, nsocks, room; /* room: of socks and held */
	uint32_t threads_left;
	uint32_t looked, denied; /* processes */
	uint64_t sockfs;         /* device of all sockets, as /proc/PID/fdinfo writes it */
	struct blocked blocked;
	int error;
	/* The process in hand: */
	pid_t pid;
	uint32_t nheld, nepolls;
	int epolls[EPOLLS_MAX];
	bool whole; /* everything about it could be read: who waits for nothing works */
	char chunk[CHUNK_BYTES] __attribute__((aligned(8)));
};

/* Inodes of sockets are the kernel's own counter, nobody outside chooses them. */
static uint32_t slot_of(const struct waits *w, uint32_t inode)
{
	uint32_t mask = 2 * w->room - 1, at = inode * UINT32_C(0x9e3779b1);

	at ^= at >> 15;
	while (w->slots[at & mask] && w->socks[w->slots[at & mask] - 1].inode != inode)
		at++;
	return at & mask;
}

static int resize(struct waits *w, uint32_t room)
{
	struct sock *socks = reallocarray(w->socks, room, sizeof *socks);
	struct held *held;
	uint32_t *slots;

	if (!socks)
		return -ENOMEM;
	w->socks = socks;
	held = reallocarray(w->held, room, sizeof *held);
	if (!held)
		return -ENOMEM;
	w->held = held;
	slots = calloc(room, 2 * sizeof *slots);
	if (!slots)
		return -ENOMEM;
	free(w->slots);
	w->slots = slots;
	w->room = room;
	for (uint32_t i = 0; i < w->nsocks; i++)
		w->slots[slot_of(w, w->socks[i].inode)] = i + 1;
	return 0;
}

struct waits *waits_new(void)
{
	struct waits *w = calloc(1, sizeof *w);

	if (w && resize(w, ROOM_MIN) == 0)
		return w;
	waits_free(w);
	return NULL;
}

void waits_free(struct waits *w)
{
	if (!w)
		return;
	proc_family_free(&w->family);
	free(w->socks);
	free(w->slots);
	free(w->held);
	free(w);
}

static bool make_room(struct waits *w)
{
	if (w->nsocks < w->room && w->nheld < w->room)
		return true;
	if (!w->error)
		w->error = resize(w, 2 * w->room);
	return !w->error;
}

static void take_socket(struct waits *w, int fd, uint32_t inode)
{
	uint32_t slot;

	if (!make_room(w))
		return;
	slot = slot_of(w, inode);
	if (!w->slots[slot]) {
		w->socks[w->nsocks++] = (struct sock){.inode = inode};
		w->slots[slot] = w->nsocks;
	}
	w->held[w->nheld++] = (struct held){fd, w->slots[slot] - 1};
}

static void take_epoll(struct waits *w, int fd)
{
	if (w->nepolls < EPOLLS_MAX)
		w->epolls[w->nepolls++] = fd;
	else
		w->whole = false;
}

static bool is_epoll(const struct proc_fd *fd)
{
	static const char name[] = "anon_inode:[eventpoll]";
	char target[sizeof name];

	return readlinkat(fd->dirfd, fd->name, target, sizeof target) == sizeof name - 1 &&
	       memcmp(target, name, sizeof name - 1) == 0;
}

static void take_fd(void *ctx, const struct proc_fd *fd)
{
	struct waits *w = ctx;
	int number = (int)strtol(fd->name, NULL, 10);

	if (fd->type == PROC_FD_SOCKET && fd->ino <= UINT32_MAX) {
		w->sockfs = (uint64_t)major(fd->dev) << 20 | minor(fd->dev);
		take_socket(w, number, (uint32_t)fd->ino);
	} else if (fd->type == PROC_FD_OTHER && is_epoll(fd)) {
		take_epoll(w, number);
	}
}

static int by_fd(const void *a, const void *b)
{
	int x = ((const struct held *)a)->fd, y = ((const struct held *)b)->fd;

	return (x > y) - (x < y);
}

/* /proc lists them in this order already. */
static void sort_held(struct waits *w)
{
	uint32_t i = 1;

	while (i < w->nheld && w->held[i - 1].fd < w->held[i].fd)
		i++;
	if (i < w->nheld)
		qsort(w->held, w->nheld, sizeof w->held[0], by_fd);
}

static void raise_to(struct waits *w, uint32_t number, enum wait_kind kind)
{
	struct sock *s = &w->socks[number];

	if (s->pid && kind <= s->kind)
		return;
	s->pid = w->pid;
	s->kind = kind;
}

static void take_wait(void *ctx, int fd, unsigned wants, bool alone)
{
	struct waits *w = ctx;
	struct held key = {.fd = fd}, *held;

	held = w->nheld ? bsearch(&key, w->held, w->nheld, sizeof key, by_fd) : NULL;
	if (!held || !wants)
		return;
	if (wants & BLOCKED_OUTPUT)
		raise_to(w, held->sock, WAIT_SENDING);
	else
		raise_to(w, held->sock, alone ? WAIT_CLIENT : WAIT_LOOP);
}

/* "tfd: 5 events: 2001 data: 5 pos:0 ino:221bd sdev:9", numbers but the first in hex. */
static void take_member(struct waits *w, const char *line)
{
	const char *events = strstr(line, "events:"), *ino = strstr(line, "ino:"),
		   *sdev = strstr(line, "sdev:");
	unsigned long long inode, mask;
	uint32_t slot;

	if (strncmp(line, "tfd:", 4) != 0 || !events || !ino || !sdev ||
	    strtoull(sdev + 5, NULL, 16) != w->sockfs)
		return;
	inode = strtoull(ino + 4, NULL, 16);
	mask = strtoull(events + 7, NULL, 16);
	if (inode > UINT32_MAX)
		return;
	slot = w->slots[slot_of(w, (uint32_t)inode)];
	if (!slot)
		return;
	if (mask & EPOLLOUT && !(mask & EPOLLET))
		raise_to(w, slot - 1, WAIT_SENDING);
	else if (mask & (EPOLLIN | EPOLLOUT))
		raise_to(w, slot - 1, WAIT_LOOP);
}

/* Takes the whole lines out of the first n bytes of the chunk; what is left of the last one moves
 * to the front. The number of its bytes. */
static size_t take_lines(struct waits *w, size_t n)
{
	char *line = w->chunk, *end;

	while ((end = memchr(line, '\n', n - (size_t)(line - w->chunk)))) {
		*end = 0;
		if (!w->blocked.members_left) {
			w->whole = false;
			return 0;
		}
		w->blocked.members_left--;
		take_member(w, line);
		line = end + 1;
	}
	n -= (size_t)(line - w->chunk);
	memmove(w->chunk, line, n);
	return n < CHUNK_BYTES ? n : 0;
}

static void read_epoll(struct waits *w, int epoll)
{
	char path[PATH_BYTES];
	size_t kept = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)w->pid, epoll);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		w->whole &= errno == ENOENT;
		return;
	}
	while ((n = read(fd, w->chunk + kept, CHUNK_BYTES - kept)) > 0)
		kept = take_lines(w, kept + (size_t)n);
	close(fd);
}

static bool is_denial(int error)
{
	return error == -EACCES || error == -EPERM;
}

/* 1, 0 when the thread has ended, or -EACCES, -EPERM. */
static int read_thread(struct waits *w, int taskdir, const char *tid)
{
	int r;

	if (!w->threads_left) {
		w->whole = false;
		return 1;
	}
	w->threads_left--;
	r = blocked_read(&w->blocked, taskdir, tid);
	if (is_denial(r))
		return r;
	w->whole &= r >= 0;
	return r != 0;
}

/* 1, 0 when there was no thread any more, or errno. */
static int read_threads(struct waits *w, int taskdir)
{
	int alive = 0;
	ssize_t n;

	while ((n = getdents64(taskdir, w->chunk, CHUNK_BYTES)) > 0) {
		const struct dirent64 *entry;

		for (ssize_t at = 0; at < n; at += entry->d_reclen) {
			int r;

			entry = (const struct dirent64 *)(w->chunk + at);
			r = entry->d_name[0] == '.' ? 0 : read_thread(w, taskdir, entry->d_name);
			if (r < 0)
				return r;
			alive |= r;
		}
	}
	return alive;
}

/*
 * 1: a process of our own architecture, 0: it has ended, -ENOEXEC: another one.
 * Type and value of the first entry of the auxiliary vector are a word each; in a 32-bit process
 * both together make our first word. No type is greater than 2^16.
 */
static int is_native(pid_t pid)
{
	uint64_t first;
	char buf[sizeof first + 1];
	ssize_t n = proc_read(pid, "auxv", buf, sizeof buf);

	if (n != sizeof first)
		return n < 0 ? (int)n : 0;
	memcpy(&first, buf, sizeof first);
	return sizeof(long) == sizeof first && first <= UINT16_MAX ? 1 : -ENOEXEC;
}

/* What is left of a process that has ended is closed to all but root. */
static bool has_ended(pid_t pid)
{
	struct proc_info info;

	return proc_info(pid, &info) < 0 || info.state == 'Z' || info.state == 'X';
}

/* 1: looked at, 0: it has ended, or errno. */
static int look_at(struct waits *w, int taskdir, char state)
{
	int r = proc_fds(w->pid, take_fd, w, &w->scan);

	if (r >= 0)
		r = is_native(w->pid);
	if (r == -ENOEXEC || ((state == 'T' || state == 't') && r > 0)) {
		w->whole = false;
		return 1;
	}
	if (r <= 0)
		return r;
	sort_held(w);
	for (uint32_t i = 0; i < w->nepolls; i++)
		read_epoll(w, w->epolls[i]);
	return read_threads(w, taskdir);
}

/* A directory of /proc that is open stays with its process: what is read by it after all else
 * proves that the pid was not somebody else's in between. */
static void take_process(struct waits *w, const struct proc_kin *kin)
{
	char path[PATH_BYTES];
	int taskdir, r;

	snprintf(path, sizeof path, "/proc/%d/task", (int)kin->pid);
	taskdir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (taskdir < 0)
		return;
	w->pid = kin->pid;
	w->nheld = w->nepolls = 0;
	w->whole = true;
	w->blocked.selects = false;
	r = look_at(w, taskdir, kin->state);
	close(taskdir);
	w->denied += is_denial(r) && !has_ended(kin->pid);
	w->looked += r > 0;
	if (w->blocked.selects)
		w->selecting[w->nselecting++] = kin->pid;
	for (uint32_t i = 0; i < w->nheld; i++)
		raise_to(w, w->held[i].sock, r > 0 && w->whole ? WAIT_WORKS : WAIT_UNKNOWN);
}

static void forget(struct waits *w)
{
	w->nsocks = w->nselecting = 0;
	memset(w->slots, 0, 2 * sizeof w->slots[0] * w->room);
}

static void start(struct waits *w)
{
	forget(w);
	/* So that the scan's own bound is ours. */
	w->scan = (struct proc_scan){.fds = PROC_FDS_MAX - WAITS_FDS_MAX};
	w->threads_left = WAITS_THREADS_MAX;
	w->blocked = (struct blocked){
		.callback = take_wait, .ctx = w, .members_left = WAITS_MEMBERS_MAX};
	w->looked = w->denied = 0;
	w->sockfs = UINT64_MAX;
	w->error = 0;
}

int waits_read(struct waits *w, const pid_t *pids, size_t npids)
{
	uint32_t n = 0;
	int r;

	start(w);
	r = proc_family_read(&w->family);
	if (r < 0)
		return r;
	proc_family_mark(&w->family, pids, npids);
	/* Those that were asked for come before their descendants. */
	for (size_t i = 0; i < npids; i++) {
		struct proc_kin *kin = proc_family_find(&w->family, pids[i]);

		if (!kin || !kin->marked || n++ >= WAITS_PIDS_MAX)
			continue;
		take_process(w, kin);
		kin->marked = false;
	}
	for (size_t i = 0; i < w->family.count; i++)
		if (w->family.kin[i].marked && n++ < WAITS_PIDS_MAX)
			take_process(w, &w->family.kin[i]);
	r = w->error ? w->error : w->looked ? 0 : w->denied ? -EACCES : -ESRCH;
	if (r < 0)
		forget(w);
	return r;
}

enum wait_kind waits_of(const struct waits *w, uint32_t inode, pid_t *ret_pid)
{
	uint32_t number = w->slots[slot_of(w, inode)];

	if (ret_pid)
		*ret_pid = number ? w->socks[number - 1].pid : 0;
	return number ? w->socks[number - 1].kind : WAIT_UNKNOWN;
}

bool waits_selects(const struct waits *w, pid_t pid)
{
	for (uint32_t i = 0; i < w->nselecting; i++)
		if (w->selecting[i] == pid)
			return true;
	return false;
}

const char *wait_kind_name(enum wait_kind kind)
{
	static const char *const names[] = {
		[WAIT_UNKNOWN] = "unknown",
		[WAIT_WORKS] = "works on the request",
		[WAIT_LOOP] = "waits for many",
		[WAIT_CLIENT] = "waits for the client",
		[WAIT_SENDING] = "waits for the client to read",
	};

	return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}
