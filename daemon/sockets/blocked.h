/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which descriptors one thread sleeps for: its system call by /proc/PID/task/TID/syscall (proc(5)),
 * and the sets of poll and select from its memory.
 *
 * Calls that read or write one descriptor name it in their arguments. A set counts when the thread
 * sleeps in the same call before and after it was copied. After a stop (SIGSTOP, a debugger) the
 * kernel goes on with a timed poll as restart_syscall, with poll's arguments:
 * /proc/PID/task/TID/wchan tells which one it is. Of splice both ends count. Members that are asked
 * for neither input nor output (hang-up only) are reported with wants 0.
 *
 * The numbers of system calls are those of this program's own architecture; asking for processes of
 * the same one only is up to the caller.
 *
 * One thread costs 8 us, with a set 2 us more. No memory is allocated.
 */
#ifndef TAILBAN_SOCKETS_BLOCKED_H
#define TAILBAN_SOCKETS_BLOCKED_H

#include <stdbool.h>
#include <stdint.h>

#define BLOCKED_INPUT 1u
#define BLOCKED_OUTPUT 2u

struct blocked {
	/* Called for each descriptor; alone: the thread waits for no other one. */
	void (*callback)(void *ctx, int fd, unsigned wants, bool alone);
	void *ctx;
	uint32_t members_left; /* how much of sets may still be read; counts down */
	bool selects;          /* set when the thread sleeps in select with a descriptor */
};

/*
 * taskdir: an open /proc/PID/task. 1: looked at, whether it slept or not; 0: it has ended.
 * -EACCES or -EPERM: not allowed; -EFAULT, -E2BIG: its set cannot be read, or is beyond
 * members_left.
 */
int blocked_read(struct blocked *b, int taskdir, const char *tid);

#endif
