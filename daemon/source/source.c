/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files of a source: which are open, which lost their name, what is to be read next.
 *
 * How it fails: file by file, by events; a watch that cannot be placed turns the source to polling.
 * Callbacks of the watches only set flags; all work is done in `work`, a block per round of the
 * loop.
 */
#include "daemon/source/source.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/source/stream.h"
#include "daemon/source/tail.h"
#include "daemon/source/watch.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRS_MAX 2048u /* twice what the opener reports: old and new ones overlap */
#define MISSING_MAX 256u
#define NAMESAKES_MAX 4u /* younger nameless files of a name until one is given up */
#define QUIET_DELETED_NS (60 * CLOCK_SECOND_NS)
#define QUIET_NS (600 * CLOCK_SECOND_NS)
#define ASK_PERIOD_S 0.1 /* with so many requests in it at most */
#define ASK_BURST 10u
#define POLL_S 1.

struct file {
	struct tail tail;
	struct source *source;
	char *path;
	struct watch *watch;
	struct file *next_dirty;
	unsigned round;    /* of the last opening that reported it */
	uint64_t serial;   /* younger files have larger ones */
	int64_t active_ns; /* since it is nameless: last sign of life, monotonic */
	int err;           /* the last look's */
	bool dirty, nameless, leaving;
	bool said;    /* that it is open */
	bool written; /* a write was seen, so a writer has it open, until `closed` */
	bool closed;  /* a writer closed it and nothing was written since */
};

struct dir {
	struct watch *watch;
	unsigned round;
};

struct missing {
	char *path;
	int err;
	unsigned round;
	bool said;
};

struct source {
	struct ev_loop *loop;
	const char *name;
	const struct source_hooks *hooks;
	void *ctx;
	ev_idle work;
	ev_timer period, quiet, poll;
	ev_io io;
	struct stream *stream;
	struct file *files[SOURCE_FILES_MAX];
	struct missing missing[MISSING_MAX];
	struct dir *dirs;
	size_t dirs_n, dirs_room;
	struct file *dirty, **dirty_end;
	unsigned round;
	unsigned asked; /* requests in this period */
	uint64_t serial;
	bool asking; /* a request is under way */
	bool wanted; /* something changed: ask (again) */
	bool behind; /* while lines are passed on: their file has more */
	bool reap;   /* a nameless file changed: see which can go */
	bool ready;
	struct source_totals totals; /* with the lengths of files and missing */
};

static const char *const event_names[] = {
	[SOURCE_WAITING] = "waiting",
	[SOURCE_OPENED] = "opened",
	[SOURCE_ROTATED] = "rotated",
	[SOURCE_TRUNCATED] = "truncated",
	[SOURCE_UNREADABLE] = "unreadable",
	[SOURCE_GONE] = "gone",
	[SOURCE_END] = "end",
};

const char *source_event_name(enum source_event event)
{
	return event_names[event];
}

const char *source_name(const struct source *s)
{
	return s->name;
}

static void say(struct source *s, const char *path, enum source_event event, int err)
{
	s->hooks->event(s->ctx, s, path, event, err);
}

/* `work` runs right after the callback of the loop that is running now. */
static void wake(struct source *s)
{
	ev_feed_event(s->loop, &s->work, EV_CUSTOM);
}

static void want(struct source *s)
{
	s->wanted = true;
	wake(s);
}

static void queue_last(struct file *f)
{
	struct source *s = f->source;

	if (f->dirty)
		return;
	f->dirty = true;
	f->next_dirty = NULL;
	*s->dirty_end = f;
	s->dirty_end = &f->next_dirty;
}

static void mark_dirty(struct file *f)
{
	queue_last(f);
	wake(f->source);
}

/* What was written before a rotation comes before what was written after it. */
static void queue_first(struct file *f)
{
	struct source *s = f->source;

	f->dirty = true;
	f->next_dirty = s->dirty;
	if (!s->dirty)
		s->dirty_end = &f->next_dirty;
	s->dirty = f;
}

static void clean(struct file *f)
{
	struct source *s = f->source;
	struct file **at = &s->dirty;

	if (!f->dirty)
		return;
	while (*at != f)
		at = &(*at)->next_dirty;
	*at = f->next_dirty;
	if (s->dirty_end == &f->next_dirty)
		s->dirty_end = at;
	f->dirty = false;
}

static void start_polling(struct source *s, int err)
{
	if (s->totals.polling)
		return;
	s->totals.polling = true;
	log_warning("source", "%s: no inotify watch (%s): looking each second instead", s->name,
		    error_name(err));
	ev_timer_again(s->loop, &s->poll);
}

static struct file *find_id(const struct source *s, const struct stat *st)
{
	for (unsigned i = 0; i < s->totals.files; i++) {
		const struct source_file_id *id = &s->files[i]->tail.id;

		if (id->ino == st->st_ino && id->dev == st->st_dev)
			return s->files[i];
	}
	return NULL;
}

static struct file *find_named(const struct source *s, const char *path)
{
	for (unsigned i = 0; i < s->totals.files; i++) {
		if (!s->files[i]->nameless && strcmp(s->files[i]->path, path) == 0)
			return s->files[i];
	}
	return NULL;
}

static void file_free(struct file *f)
{
	watch_remove(f->watch); /* before the descriptor goes, see watch.h */
	close(f->tail.fd);
	free(f->path);
	free(f);
}

static void drop(struct file *f)
{
	struct source *s = f->source;
	unsigned i = 0;

	clean(f);
	while (s->files[i] != f)
		i++;
	s->totals.files--;
	memmove(&s->files[i], &s->files[i + 1], (s->totals.files - i) * sizeof(struct file *));
	file_free(f);
}

/* Room for one more file; the nameless one that has been read longest goes first. */
static bool make_room(struct source *s)
{
	if (s->totals.files < SOURCE_FILES_MAX)
		return true;
	for (unsigned i = 0; i < s->totals.files; i++) {
		if (s->files[i]->nameless) {
			drop(s->files[i]);
			return true;
		}
	}
	return false;
}

static void sign_of_life(struct file *f)
{
	if (!f->nameless)
		return;
	f->active_ns = clock_now().mono_ns;
	f->source->reap = true;
}

static void on_file(void *ctx, unsigned events)
{
	struct file *f = ctx;

	if (events & (WATCH_WRITTEN | WATCH_LOOK))
		f->closed = false;
	if (events & WATCH_WRITTEN)
		f->written = true;
	if (events & WATCH_LOOK)
		f->written = false;
	if (events & WATCH_CLOSED)
		f->closed = true;
	if (events & (WATCH_MOVED | WATCH_LOST))
		want(f->source);
	if (events & WATCH_LOST)
		start_polling(f->source, -EACCES);
	sign_of_life(f);
	mark_dirty(f);
}

static bool is_absent(int err)
{
	return err == -ENOENT || err == -ENOTDIR;
}

static struct missing *find_missing(struct source *s, const char *path)
{
	for (unsigned i = 0; i < s->totals.missing; i++) {
		if (strcmp(s->missing[i].path, path) == 0)
			return &s->missing[i];
	}
	return NULL;
}

static void add_missing(struct source *s, const char *path, int err)
{
	struct missing *m = find_missing(s, path);

	if (!m) {
		char *copy = s->totals.missing < MISSING_MAX ? strdup(path) : NULL;

		if (!copy) {
			s->totals.left_out++;
			return;
		}
		m = &s->missing[s->totals.missing++];
		*m = (struct missing){.path = copy, .err = err};
	}
	if (m->err != err)
		m->said = false;
	m->err = err;
	m->round = s->round;
}

/* Forgets what the last opening did not report any more, and says what is new. */
static void settle_missing(struct source *s)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < s->totals.missing; i++) {
		struct missing *m = &s->missing[i];

		if (m->round != s->round) {
			free(m->path);
			continue;
		}
		if (!m->said)
			say(s, m->path, is_absent(m->err) ? SOURCE_WAITING : SOURCE_UNREADABLE,
			    m->err);
		m->said = true;
		s->missing[kept++] = *m;
	}
	s->totals.missing = kept;
}

static void note_error(struct file *f, int err)
{
	if (f->err != err)
		say(f->source, f->path, err ? SOURCE_UNREADABLE : SOURCE_OPENED, err);
	f->err = err;
	if (err == -ESTALE) /* a network file system replaced it */
		f->source->wanted = true;
}

static void pass_on(struct source *s, const char *path, struct source_file_id id, uint64_t lines,
		    const struct source_block *block)
{
	if (block->text.n == 0)
		return;
	s->totals.lines += lines;
	s->totals.bytes += block->end - block->offset;
	s->totals.cut += block->cut;
	s->hooks->lines(s->ctx, s, path, id, block);
}

/*
 * One look at a file; the bytes it came on. At the end it is not looked at again: what is written
 * after the look makes an event of its own.
 */
static size_t look(struct source *s, struct file *f)
{
	uint64_t lines = f->tail.lines, truncated = f->tail.truncated;
	struct source_block block;
	int64_t n = tail_read(&f->tail, &block);

	if (f->tail.truncated != truncated) {
		s->totals.truncated++;
		say(s, f->path, SOURCE_TRUNCATED, 0);
	}
	note_error(f, n < 0 ? (int)n : 0);
	s->behind = n > 0 && f->tail.scanned < f->tail.size;
	if (n > 0)
		pass_on(s, f->path, f->tail.id, f->tail.lines - lines, &block);
	if (s->behind && f->nameless)
		queue_first(f);
	else if (s->behind)
		queue_last(f);
	else if (f->leaving)
		drop(f);
	s->behind = false;
	return n > 0 ? (size_t)n : 0;
}

static void read_some(struct source *s)
{
	size_t done = 0;

	while (s->dirty && done < SOURCE_BLOCK_BYTES) {
		struct file *f = s->dirty;

		clean(f);
		done += look(s, f);
	}
}

static unsigned younger_namesakes(const struct source *s, const struct file *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->totals.files; i++) {
		const struct file *o = s->files[i];

		n += o->nameless && o->serial > f->serial && strcmp(o->path, f->path) == 0;
	}
	return n;
}

/* When nothing was heard of it until then, it is given up. */
static int64_t deadline(const struct file *f)
{
	if (f->written && !f->closed)
		return CLOCK_FOREVER;
	return f->active_ns + (f->tail.links == 0 && f->closed ? QUIET_DELETED_NS : QUIET_NS);
}

static void reap(struct source *s)
{
	int64_t now_ns = clock_now().mono_ns, first = CLOCK_FOREVER;

	s->reap = false;
	for (unsigned i = 0; i < s->totals.files; i++) {
		struct file *f = s->files[i];
		int64_t end;

		if (!f->nameless || f->leaving)
			continue;
		end = deadline(f);
		if (end <= now_ns || younger_namesakes(s, f) >= NAMESAKES_MAX) {
			f->leaving = true; /* after a last look */
			queue_last(f);
		} else if (end < first) {
			first = end;
		}
	}
	ev_timer_stop(s->loop, &s->quiet);
	if (first == CLOCK_FOREVER)
		return;
	ev_timer_set(&s->quiet, (double)(first - now_ns) / (double)CLOCK_SECOND_NS + 0.01, 0.);
	ev_timer_start(s->loop, &s->quiet);
}

static void on_quiet(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct source *s = timer->data;

	(void)loop, (void)revents;
	s->reap = true;
	wake(s);
}

static void ask(struct source *s)
{
	s->wanted = false;
	s->asking = true;
	s->round++;
	if (s->asked++ == 0) {
		ev_timer_set(&s->period, ASK_PERIOD_S, 0.);
		ev_timer_start(s->loop, &s->period);
	}
	s->hooks->open(s->ctx, s);
}

static void on_period(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct source *s = timer->data;

	(void)loop, (void)revents;
	s->asked = 0;
	wake(s);
}

static bool may_ask(const struct source *s)
{
	return s->wanted && !s->asking && s->asked < ASK_BURST;
}

static void on_work(struct ev_loop *loop, ev_idle *idle, int revents)
{
	struct source *s = idle->data;

	(void)revents;
	if (may_ask(s))
		ask(s);
	if (s->reap)
		reap(s);
	read_some(s);
	/* ev_idle_stop also forgets a `wake` that came meanwhile, so what is left is asked for
	 * here. */
	if (s->dirty || s->reap || may_ask(s))
		ev_idle_start(loop, idle);
	else
		ev_idle_stop(loop, idle);
}

static void on_poll(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct source *s = timer->data;

	(void)loop, (void)revents;
	for (unsigned i = 0; i < s->totals.files; i++)
		mark_dirty(s->files[i]);
	want(s);
}

/* A file that is known already, reported again. */
static void meet(struct source *s, struct file *f, const char *path)
{
	char *copy;

	if (f->round == s->round)
		return;
	f->round = s->round;
	if (strcmp(f->path, path) != 0 && (copy = strdup(path))) {
		if (!f->nameless) {
			s->totals.rotated++;
			say(s, f->path, SOURCE_ROTATED, 0);
		}
		free(f->path);
		f->path = copy;
	}
	if (f->nameless)
		f->nameless = f->leaving = f->said = false;
	mark_dirty(f);
}

/* What was there before us starts where the user of the source says, the rest is new. */
static int start_position(struct source *s, struct file *f)
{
	const struct missing *m = find_missing(s, f->path);
	int64_t at = 0;

	if (!s->ready || (m && !is_absent(m->err)))
		at = s->hooks->start(s->ctx, s, f->path, f->tail.id, f->tail.fd, f->tail.size,
				     f->tail.fingerprint);
	return at > 0 ? tail_start(&f->tail, (uint64_t)at) : 0;
}

static struct file *file_new(struct source *s, const char *path, int fd, int *ret_err)
{
	struct file *f = calloc(1, sizeof(*f));

	*ret_err = -ENOMEM;
	if (!f)
		return NULL;
	f->source = s;
	f->path = strdup(path);
	if (f->path)
		*ret_err = tail_open(&f->tail, fd);
	if (*ret_err == 0)
		*ret_err = start_position(s, f);
	if (*ret_err == 0)
		return f;
	free(f->path);
	free(f);
	return NULL;
}

static void watch_file(struct source *s, struct file *f)
{
	int err;

	if (s->totals.polling)
		return;
	f->watch = watch_add(f->tail.fd, WATCH_FILE, on_file, f, NULL, &err);
	if (!f->watch)
		start_polling(s, err);
}

static void add_file(struct source *s, const char *path, int fd)
{
	struct file *f, *before = find_named(s, path);
	int err;

	if (!make_room(s)) {
		s->totals.left_out++;
		close(fd);
		return;
	}
	f = file_new(s, path, fd, &err);
	if (!f) {
		close(fd);
		add_missing(s, path, err);
		return;
	}
	f->round = s->round;
	f->serial = ++s->serial;
	f->said = before != NULL; /* `rotated` is said instead */
	s->files[s->totals.files++] = f;
	s->totals.opened++;
	if (before)
		mark_dirty(before);
	watch_file(s, f);
	mark_dirty(f);
}

void source_file(struct source *s, const char *path, int fd, int err)
{
	struct file *f;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) < 0) {
		err = -errno;
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		add_missing(s, path, err < 0 ? err : -EBADF);
		return;
	}
	f = find_id(s, &st);
	if (!f) {
		add_file(s, path, fd);
		return;
	}
	close(fd);
	meet(s, f, path);
}

static bool any_unreadable(const struct source *s)
{
	for (unsigned i = 0; i < s->totals.missing; i++) {
		if (!is_absent(s->missing[i].err))
			return true;
	}
	return false;
}

static void on_dir(void *ctx, unsigned events)
{
	struct source *s = ctx;

	/* The mode of some file changed: of interest only while one cannot be read. */
	if (events != WATCH_CHANGED || any_unreadable(s))
		want(s);
}

static bool dirs_grow(struct source *s)
{
	size_t room = s->dirs_room ? s->dirs_room * 2 : 16;
	struct dir *dirs;

	if (s->dirs_n < s->dirs_room)
		return true;
	dirs = room <= DIRS_MAX ? reallocarray(s->dirs, room, sizeof(*dirs)) : NULL;
	if (!dirs)
		return false;
	s->dirs = dirs;
	s->dirs_room = room;
	return true;
}

void source_dir(struct source *s, const char *path, int fd, bool entries)
{
	enum watch_kind kind = entries ? WATCH_ENTRIES : WATCH_SELF;
	struct watch *w;
	bool is_new;
	int err = 0;

	(void)path;
	if (fd < 0)
		return;
	if (!s->totals.polling) {
		w = dirs_grow(s) ? watch_add(fd, kind, on_dir, s, &is_new, &err) : NULL;
		if (w)
			s->dirs[s->dirs_n++] = (struct dir){w, s->round};
		else if (err < 0)
			start_polling(s, err);
		else
			s->totals.left_out++;
		/* It may have changed between the look that found it and now. */
		s->wanted |= w && is_new;
	}
	close(fd);
}

/* The watches of the last opening stay, those of the ones before go. */
static void settle_dirs(struct source *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->dirs_n; i++) {
		if (s->dirs[i].round == s->round)
			s->dirs[kept++] = s->dirs[i];
		else
			watch_remove(s->dirs[i].watch);
	}
	s->dirs_n = kept;
}

/* The last opening did not find it under any name. */
static void lose_name(struct source *s, struct file *f)
{
	struct missing *m = find_missing(s, f->path);

	f->nameless = true;
	sign_of_life(f);
	mark_dirty(f);
	if (find_named(s, f->path)) {
		s->totals.rotated++;
		say(s, f->path, SOURCE_ROTATED, 0);
		return;
	}
	say(s, f->path, SOURCE_GONE, 0);
	if (m && is_absent(m->err))
		m->said = true;
}

void source_opened(struct source *s)
{
	if (!s->asking)
		return;
	s->asking = false;
	for (unsigned i = 0; i < s->totals.files; i++) {
		struct file *f = s->files[i];

		if (!f->nameless && f->round != s->round)
			lose_name(s, f);
	}
	for (unsigned i = 0; i < s->totals.files; i++) {
		struct file *f = s->files[i];

		if (!f->nameless && !f->said)
			say(s, f->path, SOURCE_OPENED, 0);
		f->said = true;
	}
	settle_missing(s);
	settle_dirs(s);
	s->ready = true;
	s->reap = true; /* namesakes may have become too many */
	wake(s);
}

static void on_stream(struct ev_loop *loop, ev_io *io, int revents)
{
	static const char path[] = "stdin";
	struct source *s = io->data;
	struct source_block block;
	int64_t n;

	(void)revents;
	do {
		uint64_t lines = s->stream->lines;

		n = stream_read(s->stream, &block);
		if (n == -EAGAIN || n == -EINTR)
			return;
		pass_on(s, path, (struct source_file_id){0, 0}, s->stream->lines - lines, &block);
	} while (s->stream->more);
	if (n > 0)
		return;
	ev_io_stop(loop, io);
	say(s, path, SOURCE_END, (int)n);
}

struct source *source_new(struct ev_loop *loop, const char *name, bool polling,
			  const struct source_hooks *hooks, void *ctx)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->loop = loop;
	s->name = name;
	s->hooks = hooks;
	s->ctx = ctx;
	s->totals.polling = polling;
	s->dirty_end = &s->dirty;
	ev_idle_init(&s->work, on_work);
	/* So that it runs in each round of the loop, whatever else is pending. */
	ev_set_priority(&s->work, EV_MAXPRI);
	ev_timer_init(&s->period, on_period, ASK_PERIOD_S, 0.);
	ev_timer_init(&s->quiet, on_quiet, 0., 0.);
	ev_timer_init(&s->poll, on_poll, 0., POLL_S);
	s->work.data = s->period.data = s->quiet.data = s->poll.data = s->io.data = s;
	return s;
}

struct source *source_stdin(struct ev_loop *loop, const char *name, int fd,
			    const struct source_hooks *hooks, void *ctx)
{
	struct stream *stream = stream_new(fd);
	struct source *s = stream ? source_new(loop, name, false, hooks, ctx) : NULL;

	if (!s) {
		stream_free(stream);
		return NULL;
	}
	s->stream = stream;
	ev_io_init(&s->io, on_stream, fd, EV_READ);
	return s;
}

void source_free(struct source *s)
{
	if (!s)
		return;
	ev_idle_stop(s->loop, &s->work);
	ev_clear_pending(s->loop, &s->work);
	ev_timer_stop(s->loop, &s->period);
	ev_timer_stop(s->loop, &s->quiet);
	ev_timer_stop(s->loop, &s->poll);
	if (s->stream)
		ev_io_stop(s->loop, &s->io);
	stream_free(s->stream);
	for (unsigned i = 0; i < s->totals.files; i++)
		file_free(s->files[i]);
	for (size_t i = 0; i < s->dirs_n; i++)
		watch_remove(s->dirs[i].watch);
	for (unsigned i = 0; i < s->totals.missing; i++)
		free(s->missing[i].path);
	free(s->dirs);
	free(s);
}

void source_begin(struct source *s)
{
	if (s->stream) {
		s->ready = true;
		ev_io_start(s->loop, &s->io);
		return;
	}
	if (s->totals.polling)
		ev_timer_again(s->loop, &s->poll);
	want(s);
}

void source_reopen(struct source *s)
{
	if (!s->stream)
		want(s);
}

bool source_ready(const struct source *s)
{
	return s->ready;
}

bool source_busy(const struct source *s)
{
	return s->dirty || s->behind || s->asking || s->wanted;
}

static struct source_status stream_status(const struct stream *s)
{
	return (struct source_status){
		.path = "stdin",
		.position = s->offset,
		.size = s->end,
		.lag_bytes = s->end - s->offset,
		.lines = s->lines,
		.cut = s->cut,
	};
}

static struct source_status file_status(const struct file *f)
{
	const struct tail *t = &f->tail;
	struct source_status r = {
		.path = f->path,
		.id = t->id,
		.position = t->offset,
		.lines = t->lines,
		.cut = t->cut,
		.truncated = t->truncated,
		.fingerprint = t->fingerprint,
		.nameless = f->nameless,
		.err = f->err,
	};
	struct stat st;

	r.size = fstat(t->fd, &st) == 0 ? (uint64_t)st.st_size : t->size;
	r.lag_bytes = r.size > r.position ? r.size - r.position : 0;
	return r;
}

bool source_next(const struct source *s, size_t *i, struct source_status *ret)
{
	size_t n = (*i)++;

	if (s->stream) {
		*ret = stream_status(s->stream);
		return n == 0;
	}
	if (n < s->totals.files) {
		*ret = file_status(s->files[n]);
		return true;
	}
	n -= s->totals.files;
	if (n >= s->totals.missing)
		return false;
	*ret = (struct source_status){.path = s->missing[n].path, .err = s->missing[n].err};
	return true;
}

struct source_totals source_totals(const struct source *s)
{
	return s->totals;
}
