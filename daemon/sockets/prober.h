/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the prober process answers: questions about sockets and processes that need CAP_SYS_PTRACE.
 *
 * Question and answer are of fixed size without pointers, so they go over a SOCK_SEQPACKET pair as
 * they are, between two images of one program. The prober keeps no state: each question is answered
 * by itself, and nothing in it can make the prober do more than read /proc, utmp and sock_diag.
 * Answering takes some 10 ms and may block that long (owner.h), which is why it is a process.
 */
#ifndef TAILBAN_SOCKETS_PROBER_H
#define TAILBAN_SOCKETS_PROBER_H

#include "daemon/sockets/owner.h"
#include "daemon/sockets/sshpeers.h"

#define PROBER_PROXIES_MAX 32u

enum prober_kind { PROBER_LISTENER, PROBER_SSHPEERS, PROBER_KINDS };

struct prober_question {
	uint32_t kind;  /* enum prober_kind */
	uint32_t token; /* comes back in the answer */
	/* PROBER_LISTENER: the log, and networks of trusted proxies. */
	uint64_t dev, ino;
	uint32_t nproxies;
	struct addr proxies[PROBER_PROXIES_MAX];
};

struct prober_answer {
	uint32_t kind, token;
	int32_t error; /* 0; errno when /proc or sock_diag cannot be read, -EINVAL for a bad
			  question */
	union {
		struct owner owner;
		struct sshpeers ssh;
	};
};

/* Never fails: what goes wrong is in the answer, of which every byte is set. */
void prober_handle(const struct prober_question *question, struct prober_answer *ret_answer);

#endif
