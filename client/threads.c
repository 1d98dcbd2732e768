/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What threads wait for: see threads.h. Threads that end meanwhile are left out. */
#include "client/threads.h"
#include "daemon/base/slice.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KINDS_SAID 3

static const struct {
	const char *word, *text;
} kinds[THREADS_NKINDS] = {
#define THREADS_ROW(name, word, text) {word, text},
	THREADS_KINDS(THREADS_ROW)
#undef THREADS_ROW
};

/* Not every architecture has all of them. */
static const struct {
	long number;
	enum threads_kind kind;
} calls[] = {
	{SYS_recvfrom, THREADS_RECV},      {SYS_recvmsg, THREADS_RECV},
	{SYS_recvmmsg, THREADS_RECV},      {SYS_sendto, THREADS_SEND},
	{SYS_sendmsg, THREADS_SEND},       {SYS_sendfile, THREADS_SEND},
	{SYS_read, THREADS_READ},          {SYS_readv, THREADS_READ},
	{SYS_write, THREADS_WRITE},        {SYS_writev, THREADS_WRITE},
	{SYS_accept, THREADS_ACCEPT},      {SYS_accept4, THREADS_ACCEPT},
	{SYS_ppoll, THREADS_POLL},         {SYS_pselect6, THREADS_POLL},
	{SYS_epoll_pwait, THREADS_EPOLL},
#ifdef SYS_poll
	{SYS_poll, THREADS_POLL},
#endif
#ifdef SYS_select
	{SYS_select, THREADS_POLL},
#endif
#ifdef SYS_epoll_wait
	{SYS_epoll_wait, THREADS_EPOLL},
#endif
#ifdef SYS_epoll_pwait2
	{SYS_epoll_pwait2, THREADS_EPOLL},
#endif
	{SYS_futex, THREADS_LOCK},         {SYS_flock, THREADS_LOCK},
	{SYS_nanosleep, THREADS_SLEEP},    {SYS_clock_nanosleep, THREADS_SLEEP},
	{SYS_wait4, THREADS_CHILD},        {SYS_waitid, THREADS_CHILD},
};

/* Beginnings of kernel functions; names differ between versions. */
static const struct {
	const char *begin;
	enum threads_kind kind;
} channels[] = {
	{"inet_csk_accept", THREADS_ACCEPT},
	{"sk_wait_data", THREADS_RECV},
	{"sk_stream_wait_memory", THREADS_SEND},
	{"wait_woken", THREADS_SOCKET},
	{"ep_poll", THREADS_EPOLL},
	{"do_epoll_wait", THREADS_EPOLL},
	{"poll_schedule", THREADS_POLL},
	{"do_poll", THREADS_POLL},
	{"do_sys_poll", THREADS_POLL},
	{"do_select", THREADS_POLL},
	{"futex_", THREADS_LOCK},
	{"__futex_", THREADS_LOCK},
	{"hrtimer_nanosleep", THREADS_SLEEP},
	{"do_nanosleep", THREADS_SLEEP},
	{"do_wait", THREADS_CHILD},
	{"pipe_read", THREADS_READ},
	{"pipe_write", THREADS_WRITE},
};

/* Terminated; the length or negative errno. */
static ssize_t read_file(int dir, const char *tid, const char *name, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/%s", tid, name);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	n = n < 0 ? -errno : n;
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n;
}

/* 0 when the thread has ended. */
static char state_of(int dir, const char *tid)
{
	char buf[512], *shut;

	if (read_file(dir, tid, "stat", buf, sizeof buf) <= 0)
		return 0;
	shut = strrchr(buf, ')');
	return shut && shut[1] == ' ' ? shut[2] : 0;
}

static enum threads_kind by_channel(int dir, const char *tid)
{
	char buf[128];

	if (read_file(dir, tid, "wchan", buf, sizeof buf) <= 0 || !strcmp(buf, "0"))
		return THREADS_HIDDEN;
	for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++)
		if (!strncmp(buf, channels[i].begin, strlen(channels[i].begin)))
			return channels[i].kind;
	return THREADS_OTHER;
}

/* "running", "-1 SP PC" (asleep, but in no call), or "NUMBER ARGUMENTS". */
static enum threads_kind by_call(int dir, const char *tid)
{
	char buf[256] = "", *end;
	long number;

	if (read_file(dir, tid, "syscall", buf, sizeof buf) <= 0)
		return by_channel(dir, tid);
	if (buf[0] == 'r')
		return THREADS_RUNNING;
	number = strtol(buf, &end, 10);
	if (end == buf)
		return THREADS_HIDDEN;
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
		if (calls[i].number == number)
			return calls[i].kind;
	return THREADS_OTHER;
}

static void count(struct threads *t, int dir, const char *tid)
{
	char state = state_of(dir, tid);

	if (!state || state == 'Z' || state == 'X')
		return;
	t->looked_at++;
	if (state == 'R')
		t->counts[THREADS_RUNNING]++;
	else if (state == 'D')
		t->counts[THREADS_DISK]++;
	else if (state == 'T' || state == 't')
		t->counts[THREADS_STOPPED]++;
	else
		t->counts[by_call(dir, tid)]++;
}

int threads_read(pid_t pid, struct threads *t)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		t->total++;
		if (t->looked_at < THREADS_LOOKED_AT)
			count(t, dirfd(dir), entry->d_name);
	}
	closedir(dir);
	return 0;
}

const char *threads_text(const struct threads *t, char *buf, size_t size)
{
	bool said[THREADS_NKINDS] = {0};
	size_t n = 0;

	buf[0] = 0;
	for (unsigned i = 0; i < KINDS_SAID && n < size; i++) {
		size_t most = THREADS_NKINDS;

		for (size_t k = 0; k < THREADS_NKINDS; k++)
			if (!said[k] && t->counts[k] &&
			    (most == THREADS_NKINDS || t->counts[k] > t->counts[most]))
				most = k;
		if (most == THREADS_NKINDS)
			break;
		said[most] = true;
		n += (size_t)snprintf(buf + n, size - n, "%s%" PRIu32 " %s", i ? "; " : "",
				      t->counts[most], kinds[most].text);
	}
	return buf;
}

json_t *threads_json(const struct threads *t)
{
	json_t *o = json_object();

	for (size_t k = 0; k < THREADS_NKINDS; k++)
		if (t->counts[k])
			json_object_set_new(o, kinds[k].word, json_integer(t->counts[k]));
	return o;
}
