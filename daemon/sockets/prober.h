/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The prober process: questions about sockets and processes that need CAP_SYS_PTRACE.
 *
 * Questions and answers are of fixed size without pointers, so they go over a SOCK_SEQPACKET pair
 * as they are (base/message.h), between two images of one program. Nothing in a question can make
 * the prober do more than read /proc, utmp and sock_diag, and lift a soft limit. Answering takes
 * some 10 ms and may block that long (owner.h), which is why it is a process.
 *
 *	ASK      struct prober_question -> ASK, struct prober_answer
 *	CENSUS   struct prober_census   -> OFFENCES and CUTS (any number), then REPORT
 *
 * A census belongs to a watch, a number of the asker's; what is remembered of its connections lives
 * here until a question with another generation comes. A CENSUS that carries a descriptor gives the
 * watch its sock_diag socket, opened in the service's network namespace; what it remembers begins
 * anew then. A watch of another namespace (`netns`) that has no socket, because it is new here or
 * the last census failed, is answered with -EBADF: never is this namespace looked at in its place.
 * A CENSUS without ports ends its watch, which closes the socket, and has no answer.
 */
#ifndef TAILBAN_SOCKETS_PROBER_H
#define TAILBAN_SOCKETS_PROBER_H

#include "daemon/sockets/census.h"
#include "daemon/sockets/owner.h"
#include "daemon/sockets/sshpeers.h"

#define PROBER_PROXIES_MAX 32u
#define PROBER_WATCHES_MAX 16u
#define PROBER_BATCH 256u

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

struct prober_census {
	uint32_t watch, generation;
	uint64_t netns; /* inode of the service's network namespace; 0: this one */
	struct census_rule rule;
	uint64_t raise; /* see census_take */
};

struct prober_offence {
	uint32_t watch, generation;
	struct census_offence offence;
};

struct prober_cut {
	uint32_t watch, generation;
	struct census_cut cut;
};

struct prober_report {
	uint32_t watch, generation;
	struct census_report report;
};

/* X(type, entry of the question, most descriptors, entry of the answer, most entries) */
#define PROBER_MESSAGES(X)                                                                         \
	X(ASK, struct prober_question, 0, struct prober_answer, 1)                                 \
	X(CENSUS, struct prober_census, 1, struct prober_report, 1)                                \
	X(OFFENCES, char, 0, struct prober_offence, PROBER_BATCH)                                  \
	X(CUTS, char, 0, struct prober_cut, PROBER_BATCH)

#define PROBER_NUMBER(type, ...) PROBER_##type,
enum prober_message { PROBER_MESSAGES(PROBER_NUMBER) PROBER_TYPES };
#undef PROBER_NUMBER

/* One question; never fails: what goes wrong is in the answer, of which every byte is set. */
void prober_handle(const struct prober_question *question, struct prober_answer *ret_answer);

/* The process' main function: answers until the other end is closed. Exit status. */
int prober_run(void *arg, int fd);

#endif
