/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the threads of a process do or wait for, added up: `top -H` and a debugger's first question.
 *
 * From /proc/PID/task/TID: the state (everybody), the system call in which a thread sleeps (the
 * process' own user or CAP_SYS_PTRACE, and nobody else where yama forbids it), or else the kernel
 * function in which it sleeps (wchan; its own user). What cannot be read is THREADS_HIDDEN, not
 * guessed. 10 us a thread; of more than THREADS_LOOKED_AT the first are looked at.
 */
#ifndef TAILBAN_CLIENT_THREADS_H
#define TAILBAN_CLIENT_THREADS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define THREADS_LOOKED_AT 16384u

/* X(name, word for JSON, "N ..."): by how much it says. */
#define THREADS_KINDS(X)                                                                           \
	X(RUNNING, "running", "running")                                                           \
	X(RECV, "recv", "in recv, waiting for what their clients send")                            \
	X(SEND, "send", "in send, waiting for clients that do not read")                           \
	X(SOCKET, "socket", "waiting for their clients (a socket)")                                \
	X(READ, "read", "in read")                                                                 \
	X(WRITE, "write", "in write")                                                              \
	X(ACCEPT, "accept", "in accept, waiting for a connection")                                 \
	X(POLL, "poll", "in poll or select")                                                       \
	X(EPOLL, "epoll", "in epoll, an event loop with nothing to do")                            \
	X(LOCK, "lock", "waiting for a lock or another thread (futex)")                            \
	X(SLEEP, "sleep", "sleeping for a time")                                                   \
	X(CHILD, "child", "waiting for a child process")                                           \
	X(DISK, "disk", "in state D, waiting for a disk or a network file system")                 \
	X(STOPPED, "stopped", "stopped by a signal or a debugger")                                 \
	X(OTHER, "other", "in something else")                                                     \
	X(HIDDEN, "hidden", "in what you may not see")

enum threads_kind {
#define THREADS_ENUM(name, word, text) THREADS_##name,
	THREADS_KINDS(THREADS_ENUM)
#undef THREADS_ENUM
		THREADS_NKINDS
};

struct threads {
	uint32_t total, looked_at;
	uint32_t counts[THREADS_NKINDS];
};

/* Adds the threads of this process. 0 or negative errno. */
int threads_read(pid_t pid, struct threads *t);

/* "612 in recv, waiting for ...; 1 running": the commonest three. Returns buf. */
const char *threads_text(const struct threads *t, char *buf, size_t size);

/* {"recv": n, ...}; a new reference. */
json_t *threads_json(const struct threads *t);

#endif
