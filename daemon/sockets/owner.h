/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which TCP ports does the process serve that writes this log?
 *
 * The writers are the processes that hold the file (device and inode) open for writing; their
 * listeners are found by socket inode. Master and workers, a reloader and its child: the listener
 * may be with any of the writers, so they are taken together when they are one process tree (the
 * topmost ancestor that writes the log is the same) or share a port. Unrelated writers with
 * different listeners are OWNER_UNSURE.
 *
 * Listeners that are bound to loopback (debuggers, metrics) are left out when the writers have
 * others. A local reverse proxy is followed when the listener is bound to loopback, or when every
 * one of its ESTABLISHED connections (at least one) comes from this host or from trusted_proxy: the
 * far ends of these connections lead to the proxy, whose listeners are looked at in the same way,
 * OWNER_HOPS_MAX deep. A listener that is reachable from outside stays in the list beside the
 * proxy's, since nothing keeps attackers from connecting to it directly.
 *
 * A writer in another network namespace counts when none of this one listens:
 * OWNER_OTHER_NAMESPACE. Its listeners cannot be seen from here; enterer.h asks there.
 *
 * Programs that collect other programs' logs (tee, journald, docker, supervisors) are never the
 * service, even when they listen: OWNER_NO_LISTENER, and the text names who writes into their pipe,
 * who runs below them, and on which ports these listen. Named, not used.
 *
 * The rule behind all this: ports that are not sure are not returned, because on the returned ones
 * connections get killed. nports is 0 unless OWNER_FOUND.
 *
 * Needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH for other users' processes; costs some 10 ms
 * (proc.h), so it runs in the prober, once a log and again when owner_alive says no. It may block
 * no longer than that.
 */
#ifndef TAILBAN_SOCKETS_OWNER_H
#define TAILBAN_SOCKETS_OWNER_H

#include "daemon/base/netlist.h"

#include <sys/types.h>

#define OWNER_PORTS_MAX 16
#define OWNER_HOPS_MAX 3 /* proxies behind each other: TLS terminator, cache, balancer */

enum owner_result {
	OWNER_FOUND,
	OWNER_NO_WRITER,       /* nobody has the file open for writing */
	OWNER_NO_LISTENER,     /* a writer, but no TCP listener of its own */
	OWNER_OTHER_NAMESPACE, /* the writer lives in another network namespace */
	OWNER_UNSURE,          /* several answers, or none yet; ask again later */
	OWNER_DENIED /* processes that cannot be looked into, and no writer among the others */
};

struct owner {
	enum owner_result result;
	pid_t pid; /* holds the listeners; of several the one with most descriptors; 0: none */
	uint64_t start_time;             /* of pid, see proc.h */
	char comm[16];                   /* of pid, escaped */
	uint16_t ports[OWNER_PORTS_MAX]; /* ascending */
	unsigned nports;
	bool by_proxy;
	/* Found, but no connection from outside was there to judge by: a local proxy may still show
	 * itself. Ask again when connections have come (at the next offence, say). */
	bool provisional;
	pid_t writer_pid; /* a process that writes the log, 0: none */
	uint64_t writer_start_time;
	/* Inode of the network namespace of OWNER_OTHER_NAMESPACE, as lsns(8) shows it; else 0. */
	uint64_t netns;
	/* A sentence for status: "port 8001 of python3 (pid 123), which writes the log", or why
	 * nothing was found, with the candidates by name. Printable. */
	char text[256];
};

/*
 * dev and ino are st_dev and st_ino of the log; trusted_proxy (sealed) may be NULL. 0 with every
 * field of *ret_owner set, whatever the result; errno only when /proc or sock_diag itself cannot be
 * read.
 */
int owner_find(uint64_t dev, uint64_t ino, const struct netlist *trusted_proxy,
	       struct owner *ret_owner);

/* The process still is the same one. False without a pid. */
bool owner_alive(const struct owner *owner);

/* "found", "no writer", ...: the word for JSON. */
const char *owner_result_name(enum owner_result result);

#endif
