/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process' numbers: see vitals.h. A field that the kernel does not tell is 0. */
#include "client/vitals.h"
#include "daemon/base/clock.h"
#include "daemon/base/escape.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* "NAME:   123 kB" */
static uint64_t status_field(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static int read_status(pid_t pid, struct vitals *v)
{
	char buf[4096];
	ssize_t n = proc_read(pid, "status", buf, sizeof buf);

	if (n < 0)
		return (int)n;
	v->virt_bytes = status_field(buf, "\nVmSize:") * 1024;
	v->rss_bytes = status_field(buf, "\nVmRSS:") * 1024;
	v->threads = (uint32_t)status_field(buf, "\nThreads:");
	v->uid = (uint32_t)status_field(buf, "\nUid:");
	return 0;
}

/* "Max stack size   8388608   unlimited   bytes" */
static uint64_t stack_limit(pid_t pid)
{
	static const char name[] = "\nMax stack size";
	char buf[4096], *at;

	if (proc_read(pid, "limits", buf, sizeof buf) < 0)
		return 0;
	at = strstr(buf, name);
	if (!at)
		return 0;
	at += sizeof name - 1;
	at += strspn(at, " ");
	return *at == 'u' ? VITALS_UNLIMITED : strtoull(at, NULL, 10);
}

/* Arguments are separated by NUL; a kernel thread has none. */
static void read_command(const struct proc_info *info, char command[static VITALS_COMMAND_BYTES])
{
	char raw[VITALS_COMMAND_BYTES];
	ssize_t n = proc_read(info->pid, "cmdline", raw, sizeof raw);

	while (n > 0 && !raw[n - 1])
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (!raw[i])
			raw[i] = ' ';
	escape_text(command, VITALS_COMMAND_BYTES,
		    n > 0 ? slice_of(raw, (size_t)n) : slice_str(info->comm));
}

/* CLOCK_BOOTTIME is what start times are counted by. */
static int64_t age_of(const struct proc_info *info)
{
	int64_t ticks = sysconf(_SC_CLK_TCK);
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec - (int64_t)(info->start_time / (uint64_t)(ticks > 0 ? ticks : 100));
}

const char *vitals_user(uint32_t uid, char buf[static VITALS_USER_BYTES])
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		escape_text(buf, VITALS_USER_BYTES, slice_str(pw->pw_name));
	else
		snprintf(buf, VITALS_USER_BYTES, "uid %" PRIu32, uid);
	return buf;
}

int vitals_read(pid_t pid, struct vitals *ret_vitals)
{
	struct proc_info info;
	int r = proc_info(pid, &info);

	*ret_vitals = (struct vitals){0};
	if (r == 0)
		r = read_status(pid, ret_vitals);
	if (r < 0)
		return r;
	ret_vitals->stack_bytes = stack_limit(pid);
	ret_vitals->age_s = age_of(&info);
	read_command(&info, ret_vitals->command);
	vitals_user(ret_vitals->uid, ret_vitals->user);
	return 0;
}

int64_t vitals_cpu_ns(pid_t pid)
{
	struct timespec used;
	clockid_t clock;
	int r = clock_getcpuclockid(pid, &clock);

	if (r)
		return -r;
	if (clock_gettime(clock, &used) < 0)
		return -errno;
	return used.tv_sec * CLOCK_SECOND_NS + used.tv_nsec;
}

/* --- descriptors ------------------------------------------------------------------------------ */

static void count_fd(void *ctx, const struct proc_fd *fd)
{
	struct fd_kinds *kinds = ctx;

	if (fd->type == PROC_FD_SOCKET)
		kinds->sockets++;
	else if (fd->type == PROC_FD_FILE)
		kinds->files++;
	else if (fd->type == PROC_FD_PIPE)
		kinds->pipes++;
	else
		kinds->others++;
}

int vitals_fd_kinds(pid_t pid, struct fd_kinds *ret_kinds)
{
	/* A scan ends at PROC_FDS_MAX: it begins as if it had seen the rest. */
	struct proc_scan scan = {.fds = PROC_FDS_MAX - VITALS_FDS_MAX};
	int r;

	*ret_kinds = (struct fd_kinds){0};
	r = proc_fds(pid, count_fd, ret_kinds, &scan);
	ret_kinds->cut = scan.cut;
	return r < 0 ? r : scan.denied ? -EACCES : 0;
}

/* A deleted file, or one of another mount namespace, is not what its name says. */
static bool is_there(const char *path, const struct stat *open)
{
	struct stat named;

	return path[0] == '/' && stat(path, &named) == 0 && named.st_dev == open->st_dev &&
	       named.st_ino == open->st_ino;
}

void vitals_output(pid_t pid, char *path, size_t size)
{
	for (int fd = 2; fd >= 1; fd--) {
		char link[64];
		struct stat st;
		ssize_t n;

		snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, fd);
		if (stat(link, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		n = readlink(link, path, size - 1);
		path[n > 0 ? n : 0] = 0;
		if (is_there(path, &st))
			return;
	}
	path[0] = 0;
}
