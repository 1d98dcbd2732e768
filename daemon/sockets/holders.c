/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The picture of listeners and their processes: see holders.h. Processes that end meanwhile are
 * left out. */
#include "daemon/sockets/holders.h"

#include <stdlib.h>

struct reading {
	struct holders *h;
	struct holder *task; /* the process in hand */
	uint64_t dev, ino;
	uint64_t netns_dev, netns_ino;
};

struct holders *holders_new(void)
{
	return calloc(1, sizeof(struct holders));
}

void holders_free(struct holders *h)
{
	free(h);
}

static void take_listener(void *ctx, const struct sock_info *sock)
{
	struct holders *h = ctx;

	if (h->nlisteners == HOLDERS_LISTENERS_MAX) {
		h->cut = true;
		return;
	}
	h->listeners[h->nlisteners++] = (struct listener){
		.local = sock->local,
		.inode = sock->inode,
		.port = sock->lport,
		.loopback = addr_is_loopback(&sock->local),
		.v6only = sock->v6only,
		.group = HOLDERS_NO_GROUP,
	};
}

static int by_inode(const void *a, const void *b)
{
	uint32_t x = ((const struct listener *)a)->inode, y = ((const struct listener *)b)->inode;

	return (x > y) - (x < y);
}

static void sort_listeners(struct holders *h)
{
	size_t kept = 0;

	qsort(h->listeners, h->nlisteners, sizeof h->listeners[0], by_inode);
	/* A dump that was cut and repeated shows a socket again. */
	for (size_t i = 0; i < h->nlisteners; i++)
		if (!kept || h->listeners[kept - 1].inode != h->listeners[i].inode)
			h->listeners[kept++] = h->listeners[i];
	h->nlisteners = kept;
}

static void take_socket(struct holders *h, struct holder *task, uint64_t ino)
{
	struct listener key = {.inode = (uint32_t)ino};
	struct listener *l = bsearch(&key, h->listeners, h->nlisteners, sizeof key, by_inode);
	uint16_t index;

	if (ino > UINT32_MAX || !l)
		return;
	index = (uint16_t)(l - h->listeners);
	for (uint32_t i = 0; i < task->count; i++)
		if (h->held[task->first + i] == index)
			return; /* a duplicate of the descriptor */
	if (h->nheld == HOLDERS_HELD_MAX) {
		h->cut = true;
		return;
	}
	h->held[h->nheld++] = index;
	task->count++;
}

static void take_fd(void *ctx, const struct proc_fd *fd)
{
	struct reading *r = ctx;

	if (fd->type == PROC_FD_SOCKET)
		take_socket(r->h, r->task, fd->ino);
	else if (fd->ino == r->ino && fd->dev == r->dev && !r->task->writes)
		r->task->writes = proc_fd_writes(fd);
}

static void take_process(void *ctx, pid_t pid)
{
	struct reading *r = ctx;
	struct holders *h = r->h;
	struct holder task = {.first = (uint32_t)h->nheld, .group = HOLDERS_NO_GROUP};
	uint64_t dev, ino;
	int n;

	r->task = &task;
	n = proc_fds(pid, take_fd, r, &h->scan);
	if (n <= 0 || (!task.writes && !task.count))
		return;
	if (h->ntasks == HOLDERS_MAX) {
		h->cut = true;
		return;
	}
	if (proc_info(pid, &task.info) < 0)
		return;
	task.nfds = (uint32_t)n;
	if (proc_netns(pid, &dev, &ino) == 0) {
		task.other_netns = dev != r->netns_dev || ino != r->netns_ino;
		task.netns = ino;
	}
	h->tasks[h->ntasks++] = task;
}

int holders_read(struct holders *h, struct sockdiag *sd, uint64_t dev, uint64_t ino)
{
	struct reading reading = {.h = h, .dev = dev, .ino = ino};
	int r;

	r = proc_netns(getpid(), &reading.netns_dev, &reading.netns_ino);
	if (r < 0)
		return r;
	r = sockdiag_each(sd, AF_UNSPEC, SOCK_LISTENING, 0, take_listener, h);
	if (r < 0)
		return r;
	sort_listeners(h);
	r = proc_each(take_process, &reading, &h->scan);
	h->cut |= h->scan.cut;
	return r;
}

struct holder *holders_find(struct holders *h, pid_t pid)
{
	for (size_t i = 0; i < h->ntasks; i++)
		if (h->tasks[i].info.pid == pid)
			return &h->tasks[i];
	return NULL;
}

struct choice {
	struct holders *h;
	uint8_t group;
	bool loopback;
};

static bool serves(const struct listener *l, const struct sock_info *sock)
{
	if (l->port != sock->lport)
		return false;
	if (!addr_is_unspecified(&l->local))
		return addr_eq(&l->local, &sock->local);
	return l->local.family == sock->local.family ||
	       (l->local.family == ADDR_IPV6 && !l->v6only);
}

static void take_end(struct holders *h, struct connection *table, size_t *count, struct ends ends,
		     uint32_t inode)
{
	if (*count == HOLDERS_CONNECTIONS_MAX)
		h->conns_cut = true;
	else
		table[(*count)++] = (struct connection){ends, inode};
}

/* A socket of ours is kept as from its peer, a socket towards our ports as from itself: the two
 * ends of a connection within this namespace then have the same key. */
static void take_connection(void *ctx, const struct sock_info *sock)
{
	const struct choice *c = ctx;
	struct holders *h = c->h;
	bool towards = false;

	for (size_t i = 0; i < h->nlisteners; i++) {
		const struct listener *l = &h->listeners[i];

		if (l->group != c->group || l->loopback != c->loopback)
			continue;
		if (serves(l, sock)) {
			take_end(h, h->conns, &h->nconns,
				 (struct ends){sock->peer, sock->local, sock->pport, sock->lport},
				 0);
			return;
		}
		towards |= l->port == sock->pport;
	}
	if (towards && sock->inode)
		take_end(h, h->far, &h->nfar,
			 (struct ends){sock->local, sock->peer, sock->lport, sock->pport},
			 sock->inode);
}

static int by_ends(const void *a, const void *b)
{
	return memcmp(&((const struct connection *)a)->ends, &((const struct connection *)b)->ends,
		      sizeof(struct ends));
}

int holders_connections(struct holders *h, struct sockdiag *sd, uint8_t group, bool loopback)
{
	struct choice choice = {h, group, loopback};
	int r;

	_Static_assert(sizeof(struct ends) == 2 * sizeof(struct addr) + 4,
		       "ends are compared as bytes");
	h->nconns = h->nfar = 0;
	h->conns_cut = false;
	r = sockdiag_each(sd, AF_UNSPEC, SOCK_STATE(TCP_ESTABLISHED), 0, take_connection, &choice);
	if (r < 0)
		return r;
	qsort(h->far, h->nfar, sizeof h->far[0], by_ends);
	for (size_t i = 0; i < h->nconns; i++) {
		const struct connection *far =
			bsearch(&h->conns[i], h->far, h->nfar, sizeof h->far[0], by_ends);

		if (far)
			h->conns[i].far_inode = far->far_inode;
	}
	return 0;
}
