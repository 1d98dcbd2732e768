/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading /proc: see proc.h. What vanishes while it is read is skipped. */
#include "daemon/sockets/proc.h"

#include "daemon/base/slice.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PATH_BYTES 64

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

bool proc_fd_writes(const struct proc_fd *fd)
{
	struct stat st;

	return fstatat(fd->dirfd, fd->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (st.st_mode & S_IWUSR);
}
