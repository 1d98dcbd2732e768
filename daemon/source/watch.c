/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inotify by libinotifytools: one table of watched inodes, each with its subscribers.
 *
 * How it fails: a watch that cannot be placed is an error of watch_add; one that ends by itself is
 * WATCH_LOST; a queue that overflows is WATCH_LOOK to everybody.
 */
#include "daemon/source/watch.h"

#include "daemon/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <inotifytools/inotifytools.h>

#define BUCKETS 1024u
#define FD_MAX 1024 /* FD_SETSIZE: the library calls select */
#define SELF_BITS (IN_MOVE_SELF | IN_DELETE_SELF)

enum node_state {
	NODE_OURS,    /* the library knows it */
	NODE_FOREIGN, /* placed by the helper: the library must not be asked to remove it */
	NODE_PENDING, /* asked of the helper, no descriptor yet */
	NODE_GONE     /* the kernel has ended it; only the subscribers hold it */
};

/* One inode in the kernel's table. */
struct node {
	struct node *next_wd, *next_id;
	struct watch *subs;
	dev_t dev;
	ino_t ino;
	uint32_t mask, token;
	int wd; /* -1 while pending */
	enum node_state state;
	uint64_t generation; /* overflows seen when it was known to live */
};

struct watch {
	struct watch *next;
	struct node *node;
	watch_fn *fn;
	void *ctx;
	uint32_t mask;
};

static struct {
	ev_io io;
	struct ev_loop *loop;
	int fd;
	struct node *by_wd[BUCKETS], *by_id[BUCKETS];
	watch_helper_fn *ask;
	void *ask_ctx;
	uint32_t next_token;
	struct watch_stats stats;
} state = {.fd = -1};

static const uint32_t kind_mask[] = {
	[WATCH_FILE] = IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | SELF_BITS,
	[WATCH_SELF] = SELF_BITS,
	[WATCH_ENTRIES] =
		IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | SELF_BITS,
};

static const struct {
	uint32_t inotify;
	unsigned event;
} event_map[] = {
	{IN_MODIFY, WATCH_WRITTEN},
	{IN_CLOSE_WRITE, WATCH_CLOSED},
	{IN_ATTRIB, WATCH_CHANGED},
	{IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO, WATCH_ENTRY},
	{SELF_BITS, WATCH_MOVED},
};

static struct node **bucket_wd(int wd)
{
	return &state.by_wd[(unsigned)wd % BUCKETS];
}

static struct node **bucket_id(ino_t ino)
{
	return &state.by_id[(size_t)ino % BUCKETS];
}

static struct node *find_wd(int wd)
{
	struct node *n = *bucket_wd(wd);

	while (n && n->wd != wd)
		n = n->next_wd;
	return n;
}

static struct node *find_id(dev_t dev, ino_t ino)
{
	struct node *n = *bucket_id(ino);

	while (n && (n->ino != ino || n->dev != dev))
		n = n->next_id;
	return n;
}

static void link_wd(struct node *n, int wd)
{
	struct node **at = bucket_wd(wd);

	n->wd = wd;
	n->next_wd = *at;
	*at = n;
	state.stats.watches++;
}

/* Out of both tables; the node itself stays with its subscribers. */
static void unlink_node(struct node *n)
{
	struct node **at;

	if (n->wd >= 0) {
		for (at = bucket_wd(n->wd); *at != n; at = &(*at)->next_wd)
			;
		*at = n->next_wd;
		state.stats.watches--;
	}
	if (n->state == NODE_PENDING)
		state.stats.pending--;
	for (at = bucket_id(n->ino); *at != n; at = &(*at)->next_id)
		;
	*at = n->next_id;
	n->state = NODE_GONE;
	n->wd = -1;
}

static void tell(struct node *n, unsigned events)
{
	for (struct watch *w = n->subs, *next; w; w = next) {
		next = w->next;
		w->fn(w->ctx, events);
	}
}

static void node_lost(struct node *n)
{
	unlink_node(n);
	tell(n, WATCH_LOST);
	if (!n->subs)
		free(n);
}

/*
 * Ends the kernel's watch. The library is only asked when the watch surely lives: it complains on
 * stderr about others. After an overflow that may have swallowed IN_IGNORED its entry is left
 * behind.
 */
static void kernel_remove(const struct node *n)
{
	if (n->wd < 0)
		return;
	if (n->state == NODE_OURS && n->generation == state.stats.overflows)
		inotifytools_remove_watch_by_wd(n->wd);
	else
		inotify_rm_watch(state.fd, n->wd);
}

static void end_node(struct node *n)
{
	kernel_remove(n);
	node_lost(n);
}

static void deliver(struct node *n, uint32_t mask)
{
	bool wanted = false;

	for (struct watch *w = n->subs, *next; w; w = next) {
		unsigned events = 0;

		next = w->next;
		for (size_t i = 0; i < sizeof(event_map) / sizeof(event_map[0]); i++) {
			if (mask & w->mask & event_map[i].inotify)
				events |= event_map[i].event;
		}
		if (!events)
			continue;
		wanted = true;
		w->fn(w->ctx, events);
	}
	/*
	 * Something that nobody wants: the mask is wider than its subscribers since another one
	 * left. It cannot be narrowed without a descriptor, so the watch ends and who is left
	 * places a new one.
	 */
	if (!wanted && (mask & IN_ALL_EVENTS))
		end_node(n);
}

void watch_overflow(void)
{
	state.stats.overflows++;
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct node *n = state.by_wd[i]; n; n = n->next_wd)
			tell(n, WATCH_LOOK);
	}
}

static void handle(const struct inotify_event *e)
{
	struct node *n;

	state.stats.events++;
	if (e->mask & IN_Q_OVERFLOW) {
		watch_overflow();
		return;
	}
	n = e->wd >= 0 ? find_wd(e->wd) : NULL;
	if (!n)
		return;
	if (e->mask & IN_IGNORED)
		node_lost(n);
	else
		deliver(n, e->mask);
}

/* After this the table says what the kernel has. */
static void drain(void)
{
	const struct inotify_event *e;

	while ((e = inotifytools_next_events(0, 1)))
		handle(e);
}

static void on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop, (void)io, (void)revents;
	drain();
}

/* Marks the descriptors that are inotify's; with `known` given, returns one that is not in it. */
static int scan_fds(bool *mark, const bool *known)
{
	DIR *d = opendir("/proc/self/fd");
	int found = -ENOENT;
	char target[32];
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target));
		long fd = strtol(e->d_name, NULL, 10);

		if (!slice_eq(slice_of(target, n < 0 ? 0 : (size_t)n), SLICE("anon_inode:inotify")))
			continue;
		if (fd >= FD_MAX)
			found = found < 0 ? -ERANGE : found;
		else if (known && !known[fd])
			found = (int)fd;
		else if (mark)
			mark[fd] = true;
	}
	closedir(d);
	return found;
}

int watch_init(struct ev_loop *loop)
{
	bool known[FD_MAX] = {false};
	int r = scan_fds(known, NULL);

	if (r != -ENOENT && r != -ERANGE)
		return r;
	if (!inotifytools_initialize())
		return inotifytools_error() > 0 ? -inotifytools_error() : -EMFILE;
	r = scan_fds(NULL, known);
	if (r < 0) {
		inotifytools_cleanup();
		return r;
	}
	state.fd = r;
	state.loop = loop;
	fcntl(r, F_SETFD, FD_CLOEXEC);
	fcntl(r, F_SETFL, fcntl(r, F_GETFL) | O_NONBLOCK);
	ev_io_init(&state.io, on_readable, r, EV_READ);
	ev_io_start(loop, &state.io);
	return 0;
}

void watch_fini(void)
{
	if (state.fd < 0)
		return;
	drain(); /* the library keeps unread events in a static buffer for the next instance */
	for (size_t i = 0; i < BUCKETS; i++) {
		while (state.by_id[i]) { /* only those that wait for a helper */
			struct node *n = state.by_id[i];

			unlink_node(n);
			free(n);
		}
	}
	ev_io_stop(state.loop, &state.io);
	inotifytools_cleanup();
	memset(&state, 0, sizeof(state));
	state.fd = -1;
}

int watch_fd(void)
{
	return state.fd;
}

void watch_set_helper(watch_helper_fn *ask, void *ctx)
{
	state.ask = ask;
	state.ask_ctx = ctx;
}

/* Asks for a watch of n with this mask, under n's token when it has one. 0 or -errno. */
static int ask_helper(struct node *n, int fd, uint32_t mask)
{
	int r;

	if (!state.ask)
		return -EACCES;
	if (n->token == 0)
		n->token = ++state.next_token;
	r = state.ask(state.ask_ctx, n->token, fd, mask);
	if (r < 0)
		return r;
	n->mask = mask;
	state.stats.helped++;
	return 0;
}

/* Places a new watch. 1: placed, 0: the helper was asked, or -errno. */
static int place(struct node *n, int fd, uint32_t mask)
{
	char self[32];
	int wd;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (!inotifytools_watch_file(self, (int)mask)) {
		int err = inotifytools_error();

		return err == EACCES ? ask_helper(n, fd, mask) : -(err > 0 ? err : EIO);
	}
	/* The library does not tell the descriptor, and finds stale ones by name: ask again. */
	wd = inotify_add_watch(state.fd, self, mask | IN_MASK_ADD);
	if (wd < 0)
		return -errno;
	state.stats.pending--;
	n->state = NODE_OURS;
	n->mask = mask;
	n->generation = state.stats.overflows;
	link_wd(n, wd);
	return 1;
}

static struct node *node_new(const struct stat *st)
{
	struct node *n = calloc(1, sizeof(*n)), **at = bucket_id(st->st_ino);

	if (!n)
		return NULL;
	n->dev = st->st_dev;
	n->ino = st->st_ino;
	n->wd = -1;
	n->state = NODE_PENDING;
	state.stats.pending++;
	n->next_id = *at;
	*at = n;
	return n;
}

/*
 * A node that is there already: widens its mask if need be and, after an overflow, makes sure that
 * it is still this inode's. 0, 1 when it sees more than before, -ESTALE when it is none any more,
 * or what the helper says.
 */
static int reuse(struct node *n, int fd, uint32_t mask)
{
	bool covers = (n->mask & mask) == mask;
	char self[32];
	int wd;

	if (n->state == NODE_PENDING)
		return covers ? 0 : ask_helper(n, fd, n->mask | mask);
	if (covers && n->generation == state.stats.overflows)
		return 0;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	wd = inotify_add_watch(state.fd, self, mask | n->mask | IN_MASK_ADD);
	if (wd == n->wd) {
		n->mask |= mask;
		n->generation = state.stats.overflows;
		return !covers;
	}
	if (wd >= 0) /* made by this call, but the library is to make it */
		inotify_rm_watch(state.fd, wd);
	end_node(n);
	return -ESTALE;
}

/* The node for what is behind fd. 1 when it is new, 0, or -errno. */
static int get_node(int fd, uint32_t mask, struct node **ret_node)
{
	struct stat st;
	struct node *n;
	int r = -ESTALE;

	if (state.fd < 0 || fstat(fd, &st) < 0)
		return -EBADF;
	drain();
	n = find_id(st.st_dev, st.st_ino);
	if (n)
		r = reuse(n, fd, mask);
	if (r == -ESTALE) {
		n = node_new(&st);
		if (!n)
			return -ENOMEM;
		r = place(n, fd, mask);
		if (r < 0) {
			unlink_node(n);
			free(n);
			return r;
		}
	}
	*ret_node = n;
	return r;
}

struct watch *watch_add(int fd, enum watch_kind kind, watch_fn *fn, void *ctx, bool *ret_new,
			int *ret_err)
{
	struct watch *w = calloc(1, sizeof(*w));
	struct node *n = NULL;
	int r = w ? get_node(fd, kind_mask[kind], &n) : -ENOMEM;

	if (ret_new)
		*ret_new = r > 0;
	*ret_err = r < 0 ? r : 0;
	if (r < 0) {
		free(w);
		return NULL;
	}
	*w = (struct watch){
		.next = n->subs, .node = n, .fn = fn, .ctx = ctx, .mask = kind_mask[kind]};
	n->subs = w;
	return w;
}

void watch_remove(struct watch *w)
{
	struct watch **at;
	struct node *n;

	if (!w)
		return;
	n = w->node;
	for (at = &n->subs; *at != w; at = &(*at)->next)
		;
	*at = w->next;
	free(w);
	if (n->subs || n->state == NODE_PENDING)
		return;
	if (n->state != NODE_GONE) {
		/* Events of others may end this node meanwhile, and then free it. */
		int wd = n->wd;

		drain();
		n = find_wd(wd);
		if (!n || n->subs)
			return;
		kernel_remove(n);
		unlink_node(n);
	}
	free(n);
}

static struct node *find_token(uint32_t token)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct node *n = state.by_id[i]; n; n = n->next_id) {
			if (n->token == token)
				return n;
		}
	}
	return NULL;
}

void watch_added(uint32_t token, int wd)
{
	struct node *n = token ? find_token(token) : NULL;

	if (!n) {
		if (wd >= 0 && !find_wd(wd))
			inotify_rm_watch(state.fd, wd);
		return;
	}
	if (wd < 0) {
		end_node(n);
		return;
	}
	if (n->state == NODE_PENDING) {
		state.stats.pending--;
		n->state = NODE_FOREIGN;
		n->generation = state.stats.overflows;
		link_wd(n, wd);
	}
	if (n->subs) {
		tell(n, WATCH_LOOK);
		return;
	}
	inotify_rm_watch(state.fd, wd);
	unlink_node(n);
	free(n);
}

struct watch_stats watch_stats(void)
{
	return state.stats;
}
