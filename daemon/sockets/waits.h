/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a server's threads wait for, connection by connection.
 *
 * tcp_info cannot tell a half-sent request from a handler at work: all of its fields are equal. The
 * thread's system call can: /proc/PID/task/TID/syscall (proc(5)) names the call and its arguments
 * while a thread sleeps in it. So a picture is taken of the descriptors of some processes and their
 * descendants (socket inode -> process, descriptor) and of the system calls of all their threads:
 *
 *	WAIT_CLIENT   a thread sleeps in read, recv, poll or select on this descriptor alone: the
 *	              server can do nothing until the client sends
 *	WAIT_SENDING  a thread sleeps in write, send or sendfile on it, or polls it alone for output
 *	WAIT_LOOP     it is one of several that a thread waits for (epoll, poll, select): an event
 *	              loop, where a handler at work and a client that sends nothing look the same
 *	WAIT_WORKS    none of these: the handler does something else, it works on the request
 *	WAIT_UNKNOWN  the descriptor or its process could not be looked at
 *
 * Threads that run at the moment of the look have no system call; their connections are WAIT_WORKS.
 * The sets of poll and select are read from the process' memory (process_vm_readv), those of epoll
 * from /proc/PID/fdinfo. A process of another architecture (its ELF class or machine differs from
 * ours) has other system call numbers: WAIT_UNKNOWN.
 *
 * Needs CAP_SYS_PTRACE for other users' processes, and PTRACE_MODE_ATTACH: where yama's
 * ptrace_scope is 3 nothing can be read and everything is WAIT_UNKNOWN; waits_state says so.
 *
 * Cost: about 1 us a descriptor and 10 us a thread. Bounded by WAITS_PIDS_MAX, WAITS_FDS_MAX and
 * WAITS_THREADS_MAX; what is beyond is WAIT_UNKNOWN. Memory is kept and reused between pictures.
 */
#ifndef TAILBAN_SOCKETS_WAITS_H
#define TAILBAN_SOCKETS_WAITS_H

#include "daemon/sockets/proc.h"

#define WAITS_PIDS_MAX 1024u
#define WAITS_FDS_MAX 262144u
#define WAITS_THREADS_MAX 65536u

enum wait_kind { WAIT_UNKNOWN, WAIT_WORKS, WAIT_CLIENT, WAIT_SENDING, WAIT_LOOP };

struct waits;

/* NULL when memory is out. */
struct waits *waits_new(void);
void waits_free(struct waits *w);

/*
 * Takes the picture of these processes and all their descendants. 0, or -EACCES when not one of
 * them could be looked into, -ESRCH when none of them lives, -ENOMEM. Processes and threads that
 * end meanwhile are no error.
 */
int waits_read(struct waits *w, const pid_t *pids, size_t npids);

/* What the picture says of the socket with this inode; *ret_pid (may be NULL) is the process that
 * holds it, 0 when none of them does. An inode that nobody holds is WAIT_UNKNOWN. */
enum wait_kind waits_of(const struct waits *w, uint32_t inode, pid_t *ret_pid);

/* True when a thread of the process slept in select(2) or pselect(2): such a server breaks beyond
 * descriptor 1023. */
bool waits_selects(const struct waits *w, pid_t pid);

const char *wait_kind_name(enum wait_kind kind); /* "waits for the client", ... */

#endif
