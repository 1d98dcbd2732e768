/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a server's threads wait for, connection by connection.
 *
 * tcp_info cannot tell a half-sent request from a handler at work: all of its fields are equal. The
 * thread's system call can: /proc/PID/task/TID/syscall (proc(5)) names the call and its arguments
 * while a thread sleeps in it. So a picture is taken of the descriptors of some processes and their
 * descendants (socket inode -> process, descriptor) and of the system calls of all their threads:
 *
 *	WAIT_UNKNOWN  the descriptor or its process could not be looked at
 *	WAIT_WORKS    none of those below: the handler does something else, it works on the request
 *	WAIT_LOOP     it is one of several that are waited for (poll, select, an epoll set): an
 *	              event loop, where a handler at work and a client that sends nothing look the
 *	              same
 *	WAIT_CLIENT   a thread sleeps in read, recv, poll or select on this descriptor alone: it can
 *	              do nothing until the client sends
 *	WAIT_SENDING  a thread sleeps in write, send or sendfile on it, or in poll or select that
 *	              asks for output; or a level-triggered epoll set asks for output on it, which
 *	              an event loop does only while it has something left to send
 *
 * A socket that several processes or threads hold has the strongest of their answers, in this
 * order. Who merely has a copy of a descriptor (the parent of a fork-per-connection server, a child
 * that inherited it) does something else and says nothing of the connection; otherwise a forgotten
 * child would shelter every connection of its parent. A process that works on the request does not
 * sleep in recv on it, nor does the one that gave it away.
 *
 * The epoll sets alone make a WAIT_LOOP, also while the loop's thread runs; but who sleeps on the
 * descriptor alone wins (a pool of threads behind an epoll set). A member that the set asks for
 * neither input nor output (EPOLLONESHOT after its event, reading paused) and a poll for hang-up
 * only are no wait.
 *
 * What WAIT_CLIENT and WAIT_SENDING do not say, and the caller has to add from sock_diag:
 *	- a keep-alive connection between two requests is WAIT_CLIENT, too, and so are a websocket
 *	  and a proxy with one thread for each direction: was anything answered since the last byte
 *	  came?
 *	- with unread bytes in the receive queue it is not the client who is late;
 *	- with nothing in the send queue a sender waits for something else (a disk behind sendfile).
 * WAIT_WORKS with unread bytes may be a request that waits in the server's own queue for a thread
 * (gunicorn's gthread when all threads are taken): nobody works on it, but nor is the client late.
 * And it is a moment's picture: only connections that are older than the limit are to be judged by
 * it.
 *
 * Threads that run at the moment of the look have no system call; their connections are WAIT_WORKS.
 * The sets of poll and select are read from the process' memory (process_vm_readv) and count when
 * the thread sleeps in the same call before and after; those of epoll come from /proc/PID/fdinfo.
 * Descriptors are read before threads, so a number that is reused in between accuses a connection
 * that has just been closed, never the new one. WAIT_UNKNOWN instead of WAIT_WORKS: a process of
 * another architecture (32 bit, other system call numbers), a stopped one, one with a thread or a
 * set that could not be read.
 *
 * Needs CAP_SYS_PTRACE for other users' processes, and PTRACE_MODE_ATTACH: where yama's
 * ptrace_scope is 3 no thread can be read, and waits_read says -EACCES.
 *
 * Cost: 3 us a descriptor, 8 us a thread, 20 us a process, 11-15 us each process of the machine (to
 * find the descendants); 1,000 threads with a connection each 12 ms, 200 forks 13 ms. Bounded by
 * WAITS_xxx_MAX; what is beyond is WAIT_UNKNOWN. Memory is kept and reused between pictures.
 */
#ifndef TAILBAN_SOCKETS_WAITS_H
#define TAILBAN_SOCKETS_WAITS_H

#include "daemon/sockets/proc.h"

#define WAITS_PIDS_MAX 1024u
#define WAITS_FDS_MAX 262144u
#define WAITS_THREADS_MAX 65536u
#define WAITS_MEMBERS_MAX (1u << 20) /* of all sets of poll, select and epoll together */

/* In the order of their strength. */
enum wait_kind { WAIT_UNKNOWN, WAIT_WORKS, WAIT_LOOP, WAIT_CLIENT, WAIT_SENDING };

struct waits;

/* NULL when memory is out. */
struct waits *waits_new(void);
void waits_free(struct waits *w);

/*
 * Takes the picture of these processes and all their descendants. 0, or -EACCES when not one of
 * them could be looked into, -ESRCH when none of them lives, -ENOMEM. Processes and threads that
 * end meanwhile are no error. After an error the picture is empty.
 */
int waits_read(struct waits *w, const pid_t *pids, size_t npids);

/* What the picture says of the socket with this inode; *ret_pid (may be NULL) is the process that
 * holds it, of several the one that gave the answer, 0 when none of them does. An inode that nobody
 * holds is WAIT_UNKNOWN. */
enum wait_kind waits_of(const struct waits *w, uint32_t inode, pid_t *ret_pid);

/* True when a thread of the process slept in select(2) or pselect(2): such a server breaks beyond
 * descriptor 1023. */
bool waits_selects(const struct waits *w, pid_t pid);

const char *wait_kind_name(enum wait_kind kind); /* "waits for the client", ... */

#endif
