/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading /proc: see proc.h. What vanishes while it is read is skipped. */
#include "daemon/sockets/proc.h"

#include "daemon/base/slice.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PATH_BYTES 64
#define GENERATIONS_MAX 64

static void path_of(char path[static PATH_BYTES], pid_t pid, const char *name)
{
	snprintf(path, PATH_BYTES, "/proc/%d/%s", (int)pid, name);
}

ssize_t proc_read(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[PATH_BYTES];
	size_t n = 0;
	ssize_t r;
	int fd;

	path_of(path, pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		r = read(fd, buf + n, size - 1 - n);
		if (r > 0)
			n += (size_t)r;
	} while ((r > 0 && n < size - 1) || (r < 0 && errno == EINTR));
	r = r < 0 ? -errno : (ssize_t)n;
	close(fd);
	buf[n] = 0;
	return r;
}

/* The fields behind the name, which may itself hold blanks and brackets; `rest` is "S 1 ...". */
static int parse_stat(const char *rest, struct proc_info *info)
{
	unsigned long long start;
	int ppid;

	if (sscanf(rest,
		   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
		   "%llu",
		   &info->state, &ppid, &start) != 3)
		return -EPROTO;
	info->ppid = ppid;
	info->start_time = start;
	return 0;
}

int proc_info(pid_t pid, struct proc_info *ret_info)
{
	char buf[1024], *open, *shut;
	ssize_t n = proc_read(pid, "stat", buf, sizeof buf);
	size_t len;

	if (n < 0)
		return (int)n;
	*ret_info = (struct proc_info){.pid = pid};
	open = strchr(buf, '(');
	shut = strrchr(buf, ')');
	if (!open || !shut || shut < open)
		return -EPROTO;
	len = (size_t)(shut - open - 1);
	if (len > PROC_COMM_BYTES - 1)
		len = PROC_COMM_BYTES - 1;
	memcpy(ret_info->comm, open + 1, len);
	return parse_stat(shut + 1, ret_info);
}

bool proc_same(pid_t pid, uint64_t start_time)
{
	struct proc_info info;

	return proc_info(pid, &info) == 0 && info.start_time == start_time && info.state != 'Z' &&
	       info.state != 'X';
}

int proc_uid(pid_t pid, uint32_t *ret_uid)
{
	char buf[4096], *line;
	ssize_t n = proc_read(pid, "status", buf, sizeof buf);

	if (n < 0)
		return (int)n;
	line = strstr(buf, "\nUid:");
	return line && sscanf(line, "\nUid: %*u %" SCNu32, ret_uid) == 1 ? 0 : -EPROTO;
}

int proc_netns(pid_t pid, uint64_t *ret_dev, uint64_t *ret_ino)
{
	char path[PATH_BYTES];
	struct stat st;

	path_of(path, pid, "ns/net");
	if (stat(path, &st) < 0)
		return -errno;
	*ret_dev = st.st_dev;
	*ret_ino = st.st_ino;
	return 0;
}

int proc_each(proc_pid_callback *callback, void *ctx, struct proc_scan *scan)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	uint64_t pid;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (slice_u64(slice_str(entry->d_name), INT32_MAX, &pid) < 0)
			continue;
		if (scan->pids >= PROC_PIDS_MAX || scan->fds >= PROC_FDS_MAX) {
			scan->cut = true;
			break;
		}
		scan->pids++;
		callback(ctx, (pid_t)pid);
	}
	closedir(dir);
	return 0;
}

static enum proc_fd_type type_of(mode_t mode)
{
	return S_ISREG(mode)    ? PROC_FD_FILE
	       : S_ISSOCK(mode) ? PROC_FD_SOCKET
	       : S_ISFIFO(mode) ? PROC_FD_PIPE
				: PROC_FD_OTHER;
}

/* The directory may be readable (CAP_DAC_READ_SEARCH) where the links are not (CAP_SYS_PTRACE). */
static int one_fd(struct proc_fd *fd, proc_fd_callback *callback, void *ctx)
{
	const int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
	struct statx st;

	if (statx(fd->dirfd, fd->name, flags, STATX_TYPE | STATX_INO, &st) < 0) {
		int e = errno;
		char target[2];

		/* FUSE refuses even root a look at the file; the link itself is readable then. */
		return readlinkat(fd->dirfd, fd->name, target, sizeof target) < 0 ? -e : 0;
	}
	fd->type = type_of(st.stx_mode);
	fd->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	fd->ino = st.stx_ino;
	callback(ctx, fd);
	return 0;
}

static bool is_denial(int error)
{
	return error == -EACCES || error == -EPERM;
}

static int each_entry(DIR *dir, pid_t pid, proc_fd_callback *callback, void *ctx,
		      struct proc_scan *scan)
{
	struct proc_fd fd = {.pid = pid, .dirfd = dirfd(dir)};
	struct dirent *entry;
	bool denied = false;
	int count = 0;

	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (scan->fds >= PROC_FDS_MAX) {
			scan->cut = true;
			break;
		}
		scan->fds++;
		count++;
		fd.name = entry->d_name;
		denied |= is_denial(one_fd(&fd, callback, ctx));
	}
	scan->denied += denied;
	return count;
}

int proc_fds(pid_t pid, proc_fd_callback *callback, void *ctx, struct proc_scan *scan)
{
	char path[PATH_BYTES];
	DIR *dir;
	int r;

	path_of(path, pid, "fd");
	dir = opendir(path);
	if (!dir) {
		r = -errno;
		scan->denied += is_denial(r);
		return r;
	}
	r = each_entry(dir, pid, callback, ctx, scan);
	closedir(dir);
	return r;
}

struct each_fd {
	proc_fd_callback *callback;
	void *ctx;
	struct proc_scan *scan;
};

static void fds_of(void *ctx, pid_t pid)
{
	struct each_fd *each = ctx;

	proc_fds(pid, each->callback, each->ctx, each->scan);
}

int proc_each_fd(proc_fd_callback *callback, void *ctx, struct proc_scan *scan)
{
	struct each_fd each = {callback, ctx, scan};

	return proc_each(fds_of, &each, scan);
}

int64_t proc_count_fds(pid_t pid)
{
	char path[PATH_BYTES];
	struct dirent *entry;
	int64_t n = 0;
	DIR *dir;

	path_of(path, pid, "fd");
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (n < PROC_FDS_MAX && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

bool proc_fd_writes(const struct proc_fd *fd)
{
	struct stat st;

	return fstatat(fd->dirfd, fd->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (st.st_mode & S_IWUSR);
}

static bool make_room(struct proc_family *family)
{
	size_t room = family->room ? 2 * family->room : 256;
	struct proc_kin *kin;

	if (family->count < family->room)
		return true;
	kin = reallocarray(family->kin, room, sizeof *kin);
	if (!kin)
		return false;
	family->kin = kin;
	family->room = room;
	return true;
}

struct gathering {
	struct proc_family *family;
	int error;
};

static void gather(void *ctx, pid_t pid)
{
	struct gathering *g = ctx;
	struct proc_info info;

	if (g->error || proc_info(pid, &info) < 0)
		return;
	if (!make_room(g->family)) {
		g->error = -ENOMEM;
		return;
	}
	g->family->kin[g->family->count++] =
		(struct proc_kin){.pid = pid, .ppid = info.ppid, .state = info.state};
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = ((const struct proc_kin *)a)->pid, y = ((const struct proc_kin *)b)->pid;

	return (x > y) - (x < y);
}

/* /proc lists them in this order already. */
static void sort_kin(struct proc_family *family)
{
	size_t i = 1;

	while (i < family->count && family->kin[i - 1].pid < family->kin[i].pid)
		i++;
	if (i < family->count)
		qsort(family->kin, family->count, sizeof family->kin[0], by_pid);
}

int proc_family_read(struct proc_family *family)
{
	struct gathering g = {family, 0};
	struct proc_scan scan = {0};
	int r;

	family->count = 0;
	r = proc_each(gather, &g, &scan);
	family->cut = scan.cut;
	sort_kin(family);
	return r < 0 ? r : g.error;
}

void proc_family_free(struct proc_family *family)
{
	free(family->kin);
	*family = (struct proc_family){0};
}

struct proc_kin *proc_family_find(struct proc_family *family, pid_t pid)
{
	struct proc_kin key = {.pid = pid};

	return family->count ? bsearch(&key, family->kin, family->count, sizeof key, by_pid) : NULL;
}

/* True when somebody was marked. */
static bool mark_children(struct proc_family *family)
{
	bool changed = false;

	for (size_t i = 0; i < family->count; i++) {
		struct proc_kin *kin = &family->kin[i], *parent;

		if (kin->marked)
			continue;
		parent = proc_family_find(family, kin->ppid);
		kin->marked = parent && parent->marked;
		changed |= kin->marked;
	}
	return changed;
}

/* A child has the higher pid, so one pass finds all, and the next one that there are no more; only
 * where the numbers have wrapped around a generation takes a pass of its own. */
void proc_family_mark(struct proc_family *family, const pid_t *pids, size_t npids)
{
	unsigned passes = 0;

	for (size_t i = 0; i < npids; i++) {
		struct proc_kin *kin = proc_family_find(family, pids[i]);

		if (kin)
			kin->marked = true;
	}
	while (mark_children(family) && ++passes < GENERATIONS_MAX)
		;
}
