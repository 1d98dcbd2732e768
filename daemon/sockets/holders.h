/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who holds which listening TCP socket of this network namespace, and who writes one file: a
 * picture taken in one pass over sock_diag and one over /proc, on which owner decides.
 *
 * A struct holders is some hundred kilobytes of fixed tables (pages that stay empty are never
 * touched); what does not fit is left out and `cut` says so. Pointers into it hold until
 * holders_free.
 *
 * holders_connections fills the second half: the ESTABLISHED connections of chosen listeners and,
 * for those whose other end lies in this namespace as well, the inode of that end. A peer counts as
 * local by that (or as loopback), not by a list of addresses.
 *
 * Errors: negative errno of sock_diag or /proc.
 */
#ifndef TAILBAN_SOCKETS_HOLDERS_H
#define TAILBAN_SOCKETS_HOLDERS_H

#include "daemon/base/sockdiag.h"
#include "daemon/sockets/proc.h"

#define HOLDERS_LISTENERS_MAX 4096u
#define HOLDERS_MAX 1024u
#define HOLDERS_HELD_MAX 16384u
#define HOLDERS_CONNECTIONS_MAX 32768u
#define HOLDERS_NO_GROUP 0xffu

struct listener {
	struct addr local; /* unspecified: all addresses */
	uint32_t inode;
	uint16_t port;
	bool loopback; /* bound to a loopback address: nobody outside reaches it */
	bool v6only;
	uint8_t group; /* the caller's mark, HOLDERS_NO_GROUP at first */
};

/* A process that holds a listener or writes the file. */
struct holder {
	struct proc_info info;
	uint32_t nfds;
	uint32_t first, count; /* its listeners: held[first] ... */
	bool writes, other_netns;
	uint64_t netns; /* inode of its network namespace; 0: cannot be seen */
	uint8_t group;  /* the caller's mark */
};

/* One direction of a connection; no padding, so ends are compared as bytes. */
struct ends {
	struct addr from, to;
	uint16_t from_port, to_port;
};

struct connection {
	struct ends ends;   /* from the peer to the listener */
	uint32_t far_inode; /* the peer's own socket when it is in this namespace, else 0 */
};

struct holders {
	struct listener listeners[HOLDERS_LISTENERS_MAX]; /* sorted by inode */
	struct holder tasks[HOLDERS_MAX];
	uint16_t held[HOLDERS_HELD_MAX]; /* indexes of listeners */
	struct connection conns[HOLDERS_CONNECTIONS_MAX], far[HOLDERS_CONNECTIONS_MAX];
	size_t nlisteners, ntasks, nheld, nconns, nfar;
	struct proc_scan scan;
	bool cut;       /* tables or scan: something was left out */
	bool conns_cut; /* the same for connections */
};

/* NULL when memory is out. */
struct holders *holders_new(void);
void holders_free(struct holders *h);

/* Takes the picture; dev and ino name the file. */
int holders_read(struct holders *h, struct sockdiag *sd, uint64_t dev, uint64_t ino);

/* The process, or NULL when it holds no listener and does not write the file. */
struct holder *holders_find(struct holders *h, pid_t pid);

static inline struct listener *holders_listener(struct holders *h, const struct holder *task,
						uint32_t i)
{
	return &h->listeners[h->held[task->first + i]];
}

/* Fills conns with the connections of the listeners in `group` that are bound to loopback or not.
 */
int holders_connections(struct holders *h, struct sockdiag *sd, uint8_t group, bool loopback);

#endif
