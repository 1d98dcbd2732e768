/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What one thread sleeps for: see blocked.h. A thread that wakes meanwhile waits for nothing. */
#include "daemon/sockets/blocked.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINE_BYTES 256 /* nine numbers */
#define NAME_BYTES 32
#define POLL_CHUNK 256u
#define SELECT_CHUNK 16u /* words */
#define WORD_BITS 64u

enum call {
	CALL_OTHER,
	CALL_INPUT,
	CALL_OUTPUT,
	CALL_SPLICE,
	CALL_POLL,
	CALL_SELECT,
	CALL_RESTART
};

/* Some architectures have the newer ones only. */
static const uint8_t calls[] = {
	[SYS_read] = CALL_INPUT,
	[SYS_readv] = CALL_INPUT,
	[SYS_preadv2] = CALL_INPUT,
	[SYS_recvfrom] = CALL_INPUT,
	[SYS_recvmsg] = CALL_INPUT,
	[SYS_recvmmsg] = CALL_INPUT,
	[SYS_write] = CALL_OUTPUT,
	[SYS_writev] = CALL_OUTPUT,
	[SYS_pwritev2] = CALL_OUTPUT,
	[SYS_sendto] = CALL_OUTPUT,
	[SYS_sendmsg] = CALL_OUTPUT,
	[SYS_sendmmsg] = CALL_OUTPUT,
	[SYS_sendfile] = CALL_OUTPUT,
	[SYS_splice] = CALL_SPLICE,
	[SYS_ppoll] = CALL_POLL,
	[SYS_pselect6] = CALL_SELECT,
#ifdef SYS_poll
	[SYS_poll] = CALL_POLL,
#endif
#ifdef SYS_select
	[SYS_select] = CALL_SELECT,
#endif
	[SYS_restart_syscall] = CALL_RESTART,
};

struct thread {
	struct blocked *b;
	int taskdir, file; /* file: its syscall, open */
	const char *tid;
	char line[LINE_BYTES];
	long nr;
	uint64_t args[6];
	/* The set: its first member waits until it is known to be the only one. */
	int first;
	unsigned first_wants;
	uint32_t members;
};

static int read_line(const struct thread *t, char line[static LINE_BYTES])
{
	ssize_t n = pread(t->file, line, LINE_BYTES - 1, 0);

	if (n < 0)
		return -errno;
	line[n] = 0;
	return 0;
}

/* "running" has no number and gives 0 here, which would be a call; -1 sleeps outside of a call. */
static void parse_line(struct thread *t)
{
	char *p = t->line;

	t->nr = *p == 'r' ? -1 : strtol(p, &p, 10);
	for (size_t i = 0; i < 6; i++)
		t->args[i] = strtoull(p, &p, 16);
}

static enum call call_of(long nr)
{
	return nr >= 0 && (size_t)nr < sizeof calls ? calls[nr] : CALL_OTHER;
}

static bool still_sleeps(const struct thread *t)
{
	char line[LINE_BYTES];

	return read_line(t, line) == 0 && strcmp(line, t->line) == 0;
}

/* 1, 0 when the thread does something else by now, or errno. */
static int copy(const struct thread *t, uint64_t from, void *to, size_t n)
{
	struct iovec local = {to, n}, remote = {(void *)(uintptr_t)from, n};
	ssize_t r = process_vm_readv((pid_t)strtol(t->tid, NULL, 10), &local, 1, &remote, 1, 0);
	int e = r < 0 ? -errno : -EFAULT;

	if (!still_sleeps(t))
		return 0;
	return r == (ssize_t)n ? 1 : e;
}

static bool may_read(struct blocked *b, uint32_t members)
{
	if (b->members_left < members)
		return false;
	b->members_left -= members;
	return true;
}

static void report(const struct thread *t, int fd, unsigned wants, bool alone)
{
	t->b->callback(t->b->ctx, fd, wants, alone);
}

static void add_member(struct thread *t, int fd, unsigned wants)
{
	if (++t->members == 1) {
		t->first = fd;
		t->first_wants = wants;
		return;
	}
	if (t->members == 2)
		report(t, t->first, t->first_wants, false);
	report(t, fd, wants, false);
}

static void add_pollfd(struct thread *t, const struct pollfd *p)
{
	unsigned wants = 0;

	if (p->fd < 0)
		return;
	if (p->events & (POLLIN | POLLRDNORM))
		wants |= BLOCKED_INPUT;
	if (p->events & (POLLOUT | POLLWRNORM))
		wants |= BLOCKED_OUTPUT;
	add_member(t, p->fd, wants);
}

static int read_poll(struct thread *t)
{
	struct pollfd chunk[POLL_CHUNK];
	uint32_t count = (uint32_t)t->args[1], n;

	for (uint32_t done = 0; done < count; done += n) {
		int r;

		n = count - done < POLL_CHUNK ? count - done : POLL_CHUNK;
		if (!may_read(t->b, n))
			return -E2BIG;
		r = copy(t, t->args[0] + (uint64_t)done * sizeof chunk[0], chunk,
			 n * sizeof chunk[0]);
		if (r <= 0)
			return r;
		for (uint32_t i = 0; i < n; i++)
			add_pollfd(t, &chunk[i]);
	}
	return 1;
}

static int add_word(struct thread *t, uint32_t base, uint64_t in, uint64_t out, uint64_t all)
{
	if (!may_read(t->b, 1 + (uint32_t)__builtin_popcountll(all)))
		return -E2BIG;
	for (; all; all &= all - 1) {
		unsigned bit = (unsigned)__builtin_ctzll(all);

		add_member(t, (int)(base + bit),
			   (in >> bit & 1 ? BLOCKED_INPUT : 0) |
				   (out >> bit & 1 ? BLOCKED_OUTPUT : 0));
	}
	return 1;
}

/* The three sets from the word `first` on, up to the bit `count`. */
static int read_words(struct thread *t, uint32_t first, uint32_t words, uint32_t count)
{
	uint64_t sets[3][SELECT_CHUNK] = {{0}};
	int r = 1;

	for (size_t s = 0; s < 3 && r > 0; s++)
		if (t->args[1 + s])
			r = copy(t, t->args[1 + s] + first * sizeof(uint64_t), sets[s],
				 words * sizeof(uint64_t));
	for (uint32_t i = 0; i < words && r > 0; i++) {
		uint32_t base = (first + i) * WORD_BITS;
		uint64_t mask =
			count - base < WORD_BITS ? (UINT64_C(1) << (count - base)) - 1 : UINT64_MAX;
		uint64_t all = (sets[0][i] | sets[1][i] | sets[2][i]) & mask;

		r = add_word(t, base, sets[0][i], sets[1][i], all);
	}
	return r;
}

static int read_select(struct thread *t)
{
	uint32_t count = (int)t->args[0] > 0 ? (uint32_t)t->args[0] : 0, n;
	uint32_t words = (uint32_t)(((uint64_t)count + WORD_BITS - 1) / WORD_BITS);

	for (uint32_t done = 0; done < words; done += n) {
		int r;

		n = words - done < SELECT_CHUNK ? words - done : SELECT_CHUNK;
		r = read_words(t, done, n, count);
		if (r <= 0)
			return r;
	}
	t->b->selects |= t->members > 0;
	return 1;
}

static int read_set(struct thread *t, int (*reader)(struct thread *))
{
	int r = reader(t);

	if (r > 0 && t->members == 1)
		report(t, t->first, t->first_wants, true);
	return r < 0 ? r : 1;
}

static bool restarts_poll(const struct thread *t)
{
	char name[NAME_BYTES], buf[64];
	ssize_t n = -1;
	int fd;

	snprintf(name, sizeof name, "%s/wchan", t->tid);
	fd = openat(t->taskdir, name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, sizeof buf - 1);
		close(fd);
	}
	buf[n < 0 ? 0 : n] = 0;
	return strstr(buf, "poll");
}

static int judge(struct thread *t)
{
	switch (call_of(t->nr)) {
	case CALL_INPUT:
		report(t, (int)t->args[0], BLOCKED_INPUT, true);
		return 1;
	case CALL_OUTPUT:
		report(t, (int)t->args[0], BLOCKED_OUTPUT, true);
		return 1;
	case CALL_SPLICE:
		report(t, (int)t->args[0], BLOCKED_INPUT, true);
		report(t, (int)t->args[2], BLOCKED_OUTPUT, true);
		return 1;
	case CALL_POLL:
		return read_set(t, read_poll);
	case CALL_SELECT:
		return read_set(t, read_select);
	case CALL_RESTART:
		return restarts_poll(t) ? read_set(t, read_poll) : 1;
	case CALL_OTHER:
		break;
	}
	return 1;
}

static bool is_over(int error)
{
	return error == -ENOENT || error == -ESRCH;
}

int blocked_read(struct blocked *b, int taskdir, const char *tid)
{
	struct thread t = {.b = b, .taskdir = taskdir, .tid = tid};
	char name[NAME_BYTES];
	int r;

	snprintf(name, sizeof name, "%s/syscall", tid);
	t.file = openat(taskdir, name, O_RDONLY | O_CLOEXEC);
	if (t.file < 0)
		return is_over(-errno) ? 0 : -errno;
	r = read_line(&t, t.line);
	if (r == 0) {
		parse_line(&t);
		r = judge(&t);
	}
	close(t.file);
	return is_over(r) ? 0 : r;
}
