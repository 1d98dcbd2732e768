/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The census: all connections of a service as the kernel and the server's threads show them.
 *
 * One dump of sock_diag (filtered by port in the kernel, both families, every state but LISTEN),
 * the service's descriptor budget, and, for connections that tcp_info cannot judge, what the
 * server's threads wait for (waits.h). verdict.h says what follows from it. What decides the class:
 *
 *	silent      ESTABLISHED, nothing received. last_data_recv is then the time since the
 *	            handshake. Connections that wait for accept() count too (inode 0).
 *	stalled     something in the send queue, and less than CENSUS_RATE bytes a second of it
 *	            acknowledged, by a client that does answer the probes of its window; one that
 *	            answers nothing has lost its network and is unknown
 *	busy        answered, and with traffic both ways within CENSUS_BUSY_MS
 *	at work     something in the receive queue (the server's turn), or the server's thread is at
 *	            something else
 *	unfinished  received, not answered, and a thread sleeps in recv on it; or (event loops,
 *where no thread tells) it still sends, less than CENSUS_RATE bytes a second. The age is that of
 *the request, so drops of data do not renew it idle        answered, everything read and
 *acknowledged, and a thread waits for more, or (event loops) the answer came after the last data
 *received unknown     none of these can be told
 *
 * "Answered" means CENSUS_ANSWER_BYTES acknowledged by the client: an interim answer
 * ("HTTP/1.1 100 Continue" is 25 bytes, werkzeug sends two of them) is none. So threaded servers
 * (werkzeug, gunicorn, uWSGI, mod_wsgi) are judged by their threads; forking ones the same way,
 * through the processes that descend from the holder of the listener; of event loops (uvicorn,
 * hypercorn, node, waitress' own loop) only silence, stalled answers and dripping are decided.
 *
 * A struct census remembers each connection by its cookie from one census to the next: when its
 * request began, how far it has come, what was told of it. Memory is about 300 bytes a connection,
 * of CENSUS_SOCKETS_MAX at most; further ones are counted and not judged.
 *
 * Reading threads takes 10 us each. They are looked at when a request is over its limit, again
 *after a quarter of it, and when descriptors are needed and closing silent connections does not
 *give enough. A connection that was never looked at counts as at work.
 */
#ifndef TAILBAN_SOCKETS_CENSUS_H
#define TAILBAN_SOCKETS_CENSUS_H

#include "daemon/base/sockdiag.h"
#include "daemon/sockets/budget.h"
#include "daemon/sockets/verdict.h"

#define CENSUS_PORTS_MAX 16u
#define CENSUS_SOCKETS_MAX (1u << 18)
#define CENSUS_ANSWER_BYTES 64u /* no HTTP answer is shorter, two interim ones are */
#define CENSUS_RATE 100u        /* bytes a second: slower is no progress */
#define CENSUS_BUSY_MS 2000u
#define CENSUS_SOON_MS 100u   /* the shortest pause between two */
#define CENSUS_CALM_MS 1000u  /* and the longest while the budget is more than half used */
#define CENSUS_STEP_MS 30000u /* and while connections of event loops stay unanswered */

struct census_rule {
	struct verdict_rule limits;
	uint32_t nports;
	uint16_t ports[CENSUS_PORTS_MAX];
	uint8_t ipv4_prefix, ipv6_prefix;
};

struct census_offence {
	struct addr host;
	uint32_t age_ms;
	uint32_t held; /* connections of its prefix */
	uint16_t pport, lport;
	uint8_t kind; /* enum offence_kind */
};

/* A connection to close. */
struct census_cut {
	struct sock_kill kill;
	struct addr host;
	uint32_t age_ms;
	uint32_t held;
	uint16_t pport, lport;
	uint8_t class; /* enum held_class */
	bool offence, spare;
};

struct census_report {
	int32_t error; /* 0, or why there was no census: negative errno of sock_diag */
	uint32_t sockets, unaccepted, prefixes;
	uint32_t beyond; /* more than CENSUS_SOCKETS_MAX */
	uint32_t classes[HELD_CLASSES];
	uint32_t noffences, ncuts;
	/* The service: its fullest process. */
	int32_t pid; /* 0: nobody found */
	uint32_t processes;
	uint64_t start_time, soft, hard;
	uint32_t fds, uid;
	char comm[PROC_COMM_BYTES];            /* raw */
	uint32_t queue, backlog;               /* of the accept queue */
	uint64_t syncookies, overflows, drops; /* see netstat.h */
	uint32_t fill_permille;
	bool alarm, starved, denied, selects;
	bool full;   /* at its limit, with connections waiting: it cannot accept */
	bool single; /* a listener is bound to one address */
	uint32_t silent_ms, unanswered_ms, stalled_ms; /* limits that hold now */
	uint32_t next_ms; /* when to come again; VERDICT_NEVER_MS: when somebody connects */
	uint32_t cost_us; /* CPU time */
	int32_t raised;   /* 0: nothing was asked; 1: done; negative errno of budget_raise */
};

struct census;

/* NULL when memory is out. */
struct census *census_new(void);
void census_free(struct census *c);

/*
 * Takes one. sd: an open sock_diag socket of the service's network namespace, used for dumps only.
 * 0 or -ENOMEM; what the kernel refuses is in *ret_report, and nothing is judged then. raise: soft
 * limit to lift a pressed process to, 0 = none.
 */
int census_take(struct census *c, const struct census_rule *rule, struct sockdiag *sd,
		uint64_t raise, int64_t now_ms, struct census_report *ret_report);

/* Of the census taken last; i below noffences and ncuts of its report. */
void census_offence(const struct census *c, uint32_t i, struct census_offence *ret_offence);
void census_cut(const struct census *c, uint32_t i, struct census_cut *ret_cut);

#endif
