/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Expands log patterns and opens the logs, for a process that has no right to.
 *
 * How it fails: every path on its own, by a report with an error. What does not fit under the caps
 * is counted, and so are directories that may not be read.
 */
#include "daemon/enforcer/logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40u    /* as the kernel's own limit on nested symbolic links */
#define NAMES_MAX 16384u /* names of one directory that match one wildcard */
#define OPEN_PATH (O_PATH | O_NOFOLLOW | O_CLOEXEC)
#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define OPEN_FILE (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

struct seen {
	dev_t dev;
	ino_t ino;
	bool entries;
};

struct walk {
	logfile_fn *fn;
	void *ctx;
	enum logfile_want want;
	struct logfile_count count;
	unsigned links; /* followed on the way to where the walk stands */
	struct seen root;
	struct seen seen[LOGFILE_DIRS_MAX];
	size_t path_n;
	char path[PATH_MAX];
};

static void walk_from(struct walk *w, int dir, const char *rest, bool globbed);

const char *logfile_reason(int err)
{
	switch (err) {
	case -ENOENT:
		return "does not exist (yet)";
	case -EISDIR:
		return "is a directory";
	case -ENOTSUP:
		return "is no regular file (FIFO, device or socket)";
	case -EPERM:
		return "is a symbolic link whose owner is neither root nor the owner of the target";
	default:
		return error_name(err);
	}
}

static void report(struct walk *w, const char *path, int fd, int err)
{
	struct logfile_found f = {.kind = LOGFILE_FILE, .path = path, .fd = fd, .err = err};

	if (w->count.files >= LOGFILE_FILES_MAX) {
		if (fd >= 0)
			close(fd);
		w->count.left_out++;
		return;
	}
	w->count.files++;
	w->fn(w->ctx, &f);
}

/* Puts "/name" behind the path; returns the length to go back to, or 0 when it does not fit. */
static size_t push(struct walk *w, const char *name)
{
	size_t before = w->path_n, n = strlen(name);
	bool slash = before > 0 && w->path[before - 1] != '/';

	if (before + n + 2 > sizeof(w->path))
		return 0;
	if (slash)
		w->path[w->path_n++] = '/';
	memcpy(w->path + w->path_n, name, n + 1);
	w->path_n += n;
	return before + 1;
}

static void pop(struct walk *w, size_t pushed)
{
	w->path_n = pushed - 1;
	w->path[w->path_n] = '\0';
}

/* The table's entry for a directory, maybe a new one; NULL when the table is full. */
static struct seen *remember(struct walk *w, const struct stat *st, bool *ret_new)
{
	struct seen *s = w->seen;

	for (unsigned i = 0; i < w->count.dirs; i++, s++) {
		if (s->dev == st->st_dev && s->ino == st->st_ino) {
			*ret_new = false;
			return s;
		}
	}
	*ret_new = true;
	if (w->count.dirs == LOGFILE_DIRS_MAX)
		return NULL;
	w->count.dirs++;
	*s = (struct seen){st->st_dev, st->st_ino, false};
	return s;
}

static void watch(struct walk *w, int dir, bool entries)
{
	struct logfile_found f = {.kind = entries ? LOGFILE_ENTRIES : LOGFILE_SELF,
				  .path = w->path};
	struct seen *seen;
	struct stat st;
	bool is_new;

	if (w->want == LOGFILE_WANT_FILES || fstat(dir, &st) < 0)
		return;
	if (!entries && st.st_dev == w->root.dev && st.st_ino == w->root.ino)
		return;
	seen = remember(w, &st, &is_new);
	if (!seen) {
		w->count.left_out++;
		return;
	}
	if (!is_new && (seen->entries || !entries))
		return;
	seen->entries = entries;
	f.fd = openat(dir, ".", OPEN_DIR);
	if (f.fd < 0) {
		w->count.unwatched++;
		return;
	}
	w->fn(w->ctx, &f);
}

/*
 * A name is missing here. A directory that is deleted while somebody works in it makes no event of
 * its own, so the one above is watched too as long as something is waited for.
 */
static void watch_missing(struct walk *w, int dir)
{
	int up = openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

	watch(w, dir, true);
	if (up < 0)
		return;
	watch(w, up, true);
	close(up);
}

/* Cuts the next component off *text into name[NAME_MAX + 1]. 1, 0 at the end, -ENAMETOOLONG. */
static int component(const char **text, char *name)
{
	size_t n;

	while (**text == '/')
		(*text)++;
	n = strcspn(*text, "/");
	if (n == 0)
		return 0;
	if (n > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, *text, n);
	name[n] = '\0';
	*text += n;
	while (**text == '/')
		(*text)++;
	return 1;
}

static int follow(struct walk *w, int dir, int link, const struct stat *link_st,
		  struct stat *ret_st);

/* Opens `name` in dir with links followed, and has dir watched for what that name can do. */
static int step(struct walk *w, int dir, const char *name, struct stat *ret_st)
{
	int fd = openat(dir, name, OPEN_PATH), target;
	struct stat st;

	if (fd < 0) {
		int err = -errno;

		watch_missing(w, dir);
		return err;
	}
	if (fstat(fd, &st) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	watch(w, dir, !S_ISDIR(st.st_mode));
	*ret_st = st;
	if (!S_ISLNK(st.st_mode))
		return fd;
	target = follow(w, dir, fd, &st, ret_st);
	close(fd);
	return target;
}

/* Opens what the text of a link says, component by component, nothing in it is a wildcard. */
static int resolve(struct walk *w, int dir, const char *text, struct stat *ret_st)
{
	int at = text[0] == '/' ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)
				: openat(dir, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char name[NAME_MAX + 1];
	int next, r = 0;

	if (at < 0 || fstat(at, ret_st) < 0)
		r = -errno;
	while (r >= 0 && (r = component(&text, name)) > 0) {
		next = S_ISDIR(ret_st->st_mode) ? step(w, at, name, ret_st) : -ENOTDIR;
		close(at);
		at = next;
		r = next < 0 ? next : 1;
	}
	if (r < 0 && at >= 0)
		close(at);
	return r < 0 ? r : at;
}

static int follow(struct walk *w, int dir, int link, const struct stat *link_st,
		  struct stat *ret_st)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(link, "", text, sizeof(text) - 1);
	int fd;

	if (n < 0)
		return -errno;
	if (w->links == LINKS_MAX)
		return -ELOOP;
	text[n] = '\0';
	w->links++;
	fd = resolve(w, dir, text, ret_st);
	w->links--;
	if (fd >= 0 && link_st->st_uid != 0 && link_st->st_uid != ret_st->st_uid) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

/* By the O_PATH descriptor: what is opened is what was checked. */
static void open_regular(struct walk *w, int fd, const struct stat *st)
{
	char self[32];
	int log;

	if (!S_ISREG(st->st_mode)) {
		report(w, w->path, -1, -ENOTSUP);
		return;
	}
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	log = open(self, OPEN_FILE);
	report(w, w->path, log, log < 0 ? -errno : 0);
}

/* What a wildcard finds may vanish again and may be a directory: that is nothing to talk about. */
static bool is_quiet(int err, bool globbed)
{
	return globbed && (err == -ENOENT || err == -ENOTDIR || err == -EISDIR);
}

static void fail(struct walk *w, const char *rest, int err, bool globbed)
{
	size_t pushed;

	if (is_quiet(err, globbed))
		return;
	pushed = *rest ? push(w, rest) : 0;
	report(w, w->path, -1, err);
	if (pushed)
		pop(w, pushed);
}

/* Goes on with what a name led to. */
static void enter_found(struct walk *w, int dir, int fd, const struct stat *st, const char *rest,
			bool globbed)
{
	if (*rest && S_ISDIR(st->st_mode)) {
		walk_from(w, fd, rest, globbed);
	} else if (*rest) {
		fail(w, rest, -ENOTDIR, globbed);
	} else if (S_ISDIR(st->st_mode)) {
		watch(w, dir, true);
		fail(w, rest, -EISDIR, globbed);
	} else {
		open_regular(w, fd, st);
	}
}

static void enter(struct walk *w, int dir, const char *name, const char *rest, bool globbed)
{
	size_t pushed = push(w, name);
	struct stat st = {0};
	int fd;

	if (!pushed) {
		fail(w, "", -ENAMETOOLONG, globbed);
		return;
	}
	fd = step(w, dir, name, &st);
	if (fd < 0) {
		fail(w, rest, fd, globbed);
	} else {
		enter_found(w, dir, fd, &st, rest, globbed);
		close(fd);
	}
	pop(w, pushed);
}

struct names {
	char **list;
	size_t n, room;
};

static bool add_name(struct names *names, const char *name)
{
	if (names->n == names->room) {
		size_t room = names->room ? names->room * 2 : 64;
		char **list = names->n < NAMES_MAX ? reallocarray(names->list, room, sizeof(*list))
						   : NULL;

		if (!list)
			return false;
		names->list = list;
		names->room = room;
	}
	names->list[names->n] = strdup(name);
	return names->list[names->n] && ++names->n;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in dir that fit, sorted. 0 or -errno. */
static int match_names(struct walk *w, int dir, const char *pattern, struct names *names)
{
	int fd = openat(dir, ".", OPEN_DIR);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int err = -errno;
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	while ((e = readdir(d))) {
		if (fnmatch(pattern, e->d_name, FNM_NOESCAPE | FNM_PERIOD) != 0)
			continue;
		if (!add_name(names, e->d_name))
			w->count.left_out++;
	}
	closedir(d);
	if (names->n)
		qsort(names->list, names->n, sizeof(*names->list), by_bytes);
	return 0;
}

/* With too many files the last names win: dated names sort by age. */
static void expand(struct walk *w, int dir, const char *pattern, const char *rest)
{
	size_t room = LOGFILE_FILES_MAX - w->count.files, skip = 0;
	struct names names = {0};
	int err = match_names(w, dir, pattern, &names);

	if (err < 0)
		fail(w, pattern, err, false);
	if (*rest == '\0' && names.n > room) {
		skip = names.n - room;
		w->count.left_out += (unsigned)skip;
	}
	for (size_t i = skip; i < names.n; i++)
		enter(w, dir, names.list[i], rest, true);
	for (size_t i = 0; i < names.n; i++)
		free(names.list[i]);
	free(names.list);
}

static void walk_from(struct walk *w, int dir, const char *rest, bool globbed)
{
	char name[NAME_MAX + 1];
	int r = component(&rest, name);

	if (r < 0) {
		fail(w, "", r, false);
	} else if (r == 0) {
		fail(w, "", -EISDIR, globbed);
	} else if (strpbrk(name, "*?[")) {
		watch(w, dir, true);
		expand(w, dir, name, rest);
	} else {
		enter(w, dir, name, rest, globbed);
	}
}

static void walk_pattern(struct walk *w, const char *pattern)
{
	bool absolute = pattern[0] == '/';
	int dir = open(absolute ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	unsigned before = w->count.files + w->count.left_out;

	w->path_n = absolute;
	w->path[0] = '/';
	w->path[w->path_n] = '\0';
	if (dir < 0) {
		report(w, pattern, -1, -errno);
		return;
	}
	walk_from(w, dir, pattern, false);
	close(dir);
	if (w->count.files + w->count.left_out == before)
		report(w, pattern, -1, -ENOENT);
}

void logfile_open(const struct text_at *patterns, size_t n, enum logfile_want want, logfile_fn *fn,
		  void *ctx, struct logfile_count *ret)
{
	struct walk w;
	struct stat root = {0};

	memset(&w, 0, offsetof(struct walk, seen));
	w.fn = fn;
	w.ctx = ctx;
	w.want = want;
	if (stat("/", &root) == 0)
		w.root = (struct seen){root.st_dev, root.st_ino, false};
	for (size_t i = 0; i < n; i++) {
		if (strnlen(patterns[i].text, PATH_MAX) >= PATH_MAX)
			w.count.left_out++;
		else
			walk_pattern(&w, patterns[i].text);
	}
	if (ret)
		*ret = w.count;
}
