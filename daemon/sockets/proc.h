/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processes and their open descriptors, as /proc shows them: what owner, sshpeers, budget and waits
 * search.
 *
 * A descriptor is looked at by one statx of /proc/PID/fd/N, which follows the link: that gives the
 * file's device and inode as well as a socket's or a pipe's inode (sock_diag reports the same
 * number), without readlink and without parsing text. AT_STATX_DONT_SYNC keeps a dead network file
 * system from holding the scan. A descriptor costs 3 us, nearly all of it the kernel's; a complete
 * scan of 120 processes with 4,000 descriptors takes about 20 ms.
 *
 * Bounds: PROC_PIDS_MAX processes and PROC_FDS_MAX descriptors a scan; a scan that met one says
 * `cut`. Processes that end in the middle are no error. Descriptors of other users' processes need
 * CAP_SYS_PTRACE (in the user namespace of the process); those without are counted in `denied`.
 *
 * Errors: negative errno; -ENOENT and -ESRCH both mean that the process has ended.
 */
#ifndef TAILBAN_SOCKETS_PROC_H
#define TAILBAN_SOCKETS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_PIDS_MAX 65536u
#define PROC_FDS_MAX (1u << 20)
#define PROC_COMM_BYTES 16 /* the kernel's TASK_COMM_LEN, terminator included */

struct proc_info {
	pid_t pid, ppid;
	char state; /* 'R', 'S', ... 'Z' */
	uint64_t
		start_time; /* clock ticks since boot: pid and start time name a process for ever */
	char comm[PROC_COMM_BYTES]; /* raw: escape before printing */
};

int proc_info(pid_t pid, struct proc_info *ret_info);

/* True when the process still lives (not as a zombie) and is the one that started then. */
bool proc_same(pid_t pid, uint64_t start_time);

/* Effective user id. The owner of /proc/PID would be root for whoever gave up root (proc(5)). */
int proc_uid(pid_t pid, uint32_t *ret_uid);

/* Reads /proc/PID/NAME, cut to size - 1 bytes, terminated. The length (may hold NULs) or errno. */
ssize_t proc_read(pid_t pid, const char *name, char *buf, size_t size);

/* Device and inode of the process' network namespace. */
int proc_netns(pid_t pid, uint64_t *ret_dev, uint64_t *ret_ino);

enum proc_fd_type { PROC_FD_FILE, PROC_FD_SOCKET, PROC_FD_PIPE, PROC_FD_OTHER };

struct proc_fd {
	pid_t pid;
	int dirfd;        /* /proc/PID/fd; for proc_fd_writes, during the callback only */
	const char *name; /* the number, as text */
	enum proc_fd_type type;
	uint64_t dev, ino;
};

struct proc_scan {
	uint32_t pids, fds, denied;
	bool cut;
};

typedef void proc_fd_callback(void *ctx, const struct proc_fd *fd);
typedef void proc_pid_callback(void *ctx, pid_t pid);

/* Each process in /proc's order; adds to scan->pids. 0, or errno when /proc cannot be read. */
int proc_each(proc_pid_callback *callback, void *ctx, struct proc_scan *scan);

/* Each descriptor of one process; adds to *scan. The number of descriptors or errno. */
int proc_fds(pid_t pid, proc_fd_callback *callback, void *ctx, struct proc_scan *scan);

/* Each descriptor of each process. As proc_each. */
int proc_each_fd(proc_fd_callback *callback, void *ctx, struct proc_scan *scan);

/* The number of descriptors by reading their names only, PROC_FDS_MAX at most, or errno: 0.4 us
 * each. */
int64_t proc_count_fds(pid_t pid);

/* Is it open for writing? The link's own mode bits say so (proc(5)). */
bool proc_fd_writes(const struct proc_fd *fd);

/* Who is whose child: one read of each process' stat, some 15 us a process. */
struct proc_kin {
	pid_t pid, ppid;
	char state;
	bool marked;
};

struct proc_family {
	struct proc_kin *kin; /* ascending by pid */
	size_t count, room;
	bool cut; /* PROC_PIDS_MAX */
};

/* Starts as {0}; the memory is kept for the next read. -ENOMEM, or errno of /proc. */
int proc_family_read(struct proc_family *family);
void proc_family_free(struct proc_family *family);
/* Marks these processes and all their descendants. */
void proc_family_mark(struct proc_family *family, const pid_t *pids, size_t npids);
/* NULL when there is no such process. */
struct proc_kin *proc_family_find(struct proc_family *family, pid_t pid);

#endif
