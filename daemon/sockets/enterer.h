/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The enterer process: goes into the network namespace of one process (a container's), and brings
 * sockets and an answer out of it.
 *
 * A socket belongs to the namespace that it was opened in, for ever and whoever uses it. So this
 * process enters, opens netlink sockets, passes them to the enforcer, looks there for the listeners
 * of the log's writer (owner.h), says what it has found, and ends. It is the only one with
 * CAP_SYS_ADMIN, lives some 30 ms, and is given nothing but its question: a pid with its start time
 * and a log's device and inode. The namespace is reached through the process, /proc/PID/ns/net; pid
 * and start time are compared behind the opening, so a reused pid never leads elsewhere.
 *
 * What comes out is of fixed size: ENTERER_SOCKETS messages with one descriptor each, in the order
 * of enum enterer_socket, then one answer; or the answer alone, with an error and the step that it
 * happened in. The receiver can ask the kernel which namespace a socket is of, and has to.
 *
 * Needs CAP_SYS_ADMIN in the user namespaces of both sides (setns), CAP_SYS_PTRACE and
 * CAP_DAC_READ_SEARCH for processes of other users, CAP_NET_ADMIN so that the sockets may be used
 * for killing and for nftables: the kernel asks for it of who opened them as well.
 */
#ifndef TAILBAN_SOCKETS_ENTERER_H
#define TAILBAN_SOCKETS_ENTERER_H

#include "daemon/sockets/prober.h"

#define ENTERER_OWN_MAX 32u
#define ENTERER_GATEWAYS_MAX 8u

enum enterer_socket {
	ENTERER_DUMP,      /* sock_diag: for the kill's dumps */
	ENTERER_KILL,      /* sock_diag: for destroying */
	ENTERER_CENSUS,    /* sock_diag: for the prober */
	ENTERER_QUERY,     /* sock_diag: for questions that are answered at once */
	ENTERER_NFNETLINK, /* nftables of that namespace */
	ENTERER_SOCKETS
};

/* NETLINK_SOCK_DIAG or NETLINK_NETFILTER. */
int enterer_protocol(enum enterer_socket which);

/* X(step, what went wrong there) */
#define ENTERER_STEPS(X)                                                                           \
	X(ENTERER_FIND, "the process has ended")                                                   \
	X(ENTERER_SEE, "its namespace cannot be looked at")                                        \
	X(ENTERER_ENTER, "it cannot be entered")                                                   \
	X(ENTERER_OPEN, "no netlink socket can be opened there")                                   \
	X(ENTERER_LOOK, "processes and sockets cannot be looked at there")

#define ENTERER_STEP(name, text) name,
enum enterer_step { ENTERER_STEPS(ENTERER_STEP) ENTERER_STEP_COUNT };
#undef ENTERER_STEP

struct enterer_question {
	int32_t pid;
	uint64_t start_time;
	struct prober_question log; /* PROBER_LISTENER, to be asked there */
};

struct enterer_socket_message {
	uint32_t which; /* enum enterer_socket */
};

struct enterer_answer {
	int32_t error; /* 0, or negative errno; -ESRCH: the process is gone or another one */
	uint32_t step; /* enum enterer_step, of the error */
	struct prober_answer found;
	/* The namespace's own addresses without loopback and networks, the first of them: a drop of
	 * one would cut the service off. */
	uint32_t own_count;
	struct addr own[ENTERER_OWN_MAX];
	/* Its default gateways; more than there is room for count, too, and are not named. */
	uint32_t gateway_count;
	struct addr gateways[ENTERER_GATEWAYS_MAX];
};

/* X(type, entry, descriptors) */
#define ENTERER_MESSAGES(X)                                                                        \
	X(ENTERER_PASS, struct enterer_socket_message, 1)                                          \
	X(ENTERER_ANSWER, struct enterer_answer, 0)

#define ENTERER_NUMBER(type, ...) type,
enum enterer_message { ENTERER_MESSAGES(ENTERER_NUMBER) ENTERER_TYPES };
#undef ENTERER_NUMBER

/* The process' main function; `question` is a struct enterer_question. Exit status. */
int enterer_run(void *question, int fd);

/* "it cannot be entered: ...", with the capability that is missing. Returns buf. */
const char *enterer_error(int error, uint32_t step, char *buf, size_t size);

#endif
