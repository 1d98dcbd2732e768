/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sources on real files in a real loop: every kind of rotation, the opener in this process. */
#include "daemon/source/source.h"

#include "daemon/enforcer/logfile.h"
#include "daemon/source/watch.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define NUMBERS_MAX 100000u

/* Time as the loop and the source see it: tests live minutes in no time. */
static time_t time_offset_s;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);

	ts->tv_sec += time_offset_s;
	return r;
}

struct seen_event {
	enum source_event event;
	int err;
	char path[256];
};

struct lab {
	struct ev_loop *loop;
	char root[64];
	struct text_at patterns[8];
	size_t npatterns;
	struct source *source;
	bool from_end, poll, as_user;
	bool late; /* the opener answers after a while, as a process of its own would */
	ev_timer answer;
	unsigned opens, starts;
	char *got;
	size_t got_n, room;
	unsigned cut;
	struct seen_event events[512];
	unsigned events_n, events_read;
	uint8_t *numbers; /* how often each numbered line came, when a test wants it */
	uint64_t count;
	_Atomic uint64_t *shared;
	struct {
		struct source_file_id id;
		uint64_t last;
	} order[1024];
	unsigned order_n;
	/* What the mock helper was asked. */
	int helper_fd;
	uint32_t helper_token, helper_mask;
	unsigned helper_asked;
};

static const char *at(const struct lab *lab, const char *name)
{
	static char paths[16][PATH_MAX];
	static unsigned next;
	char *p = paths[next++ % 16];

	snprintf(p, PATH_MAX, "%s/%s", lab->root, name);
	return p;
}

static void found(void *ctx, const struct logfile_found *f)
{
	struct lab *lab = ctx;

	if (lab->as_user)
		assert_int_equal(seteuid(1000), 0);
	if (f->kind == LOGFILE_FILE)
		source_file(lab->source, f->path, f->fd, f->err);
	else
		source_dir(lab->source, f->path, f->fd, f->kind == LOGFILE_ENTRIES);
	if (lab->as_user)
		assert_int_equal(seteuid(0), 0);
}

static void answer(struct lab *lab)
{
	logfile_open(lab->patterns, lab->npatterns,
		     lab->poll ? LOGFILE_WANT_FILES : LOGFILE_WANT_ALL, found, lab, NULL);
	source_opened(lab->source);
}

static void on_answer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	answer(timer->data);
}

static void on_open(void *ctx, struct source *s)
{
	struct lab *lab = ctx;

	lab->opens++;
	lab->source = s;
	if (!lab->late) {
		answer(lab);
		return;
	}
	assert_false(ev_is_active(&lab->answer)); /* one request at a time */
	ev_timer_init(&lab->answer, on_answer, (double)(random() % 4) / 1000, 0.);
	lab->answer.data = lab;
	ev_timer_start(lab->loop, &lab->answer);
}

static void check_order(struct lab *lab, struct source_file_id id, uint64_t number)
{
	unsigned i = 0;

	while (i < lab->order_n &&
	       (lab->order[i].id.ino != id.ino || lab->order[i].id.dev != id.dev))
		i++;
	if (i == lab->order_n)
		assert_true(lab->order_n++ < 1024);
	lab->order[i].id = id;
	if (number <= lab->order[i].last)
		fail_msg("line %ju after %ju", (uintmax_t)number, (uintmax_t)lab->order[i].last);
	lab->order[i].last = number;
}

static void take_numbers(struct lab *lab, struct source_file_id id, struct slice text)
{
	struct slice line;

	while (text.n) {
		uint64_t number;
		size_t n = slice_find(text, '\n');

		line = slice_head(text, n);
		text = slice_skip(text, n + 1);
		line = slice_head(line, slice_find(line, ' '));
		if (slice_u64(line, NUMBERS_MAX - 1, &number) < 0)
			fail_msg("broken line \"%.*s\"", (int)(line.n < 80 ? line.n : 80), line.p);
		lab->numbers[number]++;
		lab->count++;
		check_order(lab, id, number);
	}
	if (lab->shared)
		atomic_store(lab->shared, lab->count);
}

static void on_lines(void *ctx, struct source *s, const char *path, struct source_file_id id,
		     const struct source_block *b)
{
	struct lab *lab = ctx;

	assert_non_null(source_name(s));
	assert_non_null(path);
	assert_true(b->text.n > 0 && b->text.p[b->text.n - 1] == '\n');
	assert_true(b->text.n <= SOURCE_BLOCK_BYTES);
	lab->cut += b->cut;
	if (lab->numbers) {
		take_numbers(lab, id, b->text);
		return;
	}
	if (lab->got_n + b->text.n > lab->room) {
		lab->room = (lab->got_n + b->text.n) * 2;
		lab->got = realloc(lab->got, lab->room);
	}
	memcpy(lab->got + lab->got_n, b->text.p, b->text.n);
	lab->got_n += b->text.n;
}

static int64_t on_start(void *ctx, struct source *s, const char *path, struct source_file_id id,
			int fd, uint64_t size, uint32_t fingerprint)
{
	struct lab *lab = ctx;

	(void)s, (void)path, (void)id;
	lab->starts++;
	assert_true(source_fingerprint_fits(fd, fingerprint));
	return lab->from_end ? (int64_t)size : 0;
}

static void on_event(void *ctx, struct source *s, const char *path, enum source_event event,
		     int err)
{
	struct lab *lab = ctx;
	struct seen_event *e = &lab->events[lab->events_n % 512];

	(void)s;
	assert_true(strlen(path) < sizeof(e->path));
	*e = (struct seen_event){.event = event, .err = err};
	strcpy(e->path, path);
	lab->events_n++;
}

static const struct source_hooks hooks = {on_open, on_lines, on_start, on_event};

/* Lets the loop run until it has had nothing to do for some rounds. */
static void settle(struct lab *lab)
{
	for (int i = 0, quiet = 0; i < 4000 && quiet < 4; i++) {
		ev_run(lab->loop, EVRUN_NOWAIT);
		quiet = source_busy(lab->source) ? 0 : quiet + 1;
		usleep(source_busy(lab->source) ? 200 : 500);
	}
	assert_false(source_busy(lab->source));
}

static void begin(struct lab *lab, const char *pattern)
{
	lab->patterns[lab->npatterns++] =
		(struct text_at){strdup(at(lab, pattern)), "jail.conf", 1};
	lab->source = source_new(lab->loop, "test", lab->poll, &hooks, lab);
	assert_non_null(lab->source);
	assert_false(source_ready(lab->source));
	source_begin(lab->source);
	settle(lab);
	assert_true(source_ready(lab->source));
}

static void assert_got(struct lab *lab, const char *text)
{
	settle(lab);
	if (!slice_eq_str(slice_of(lab->got, lab->got_n), text))
		fail_msg("got \"%.*s\" instead of \"%s\"", (int)lab->got_n, lab->got, text);
	lab->got_n = 0;
}

static void assert_event(struct lab *lab, enum source_event event, const char *name, int err)
{
	const struct seen_event *e = &lab->events[lab->events_read];

	if (lab->events_read == lab->events_n)
		fail_msg("no event instead of %s %s", source_event_name(event), name);
	lab->events_read++;
	if (e->event != event || strcmp(e->path, at(lab, name)) != 0 || e->err != err)
		fail_msg("%s %s %d instead of %s %s %d", source_event_name(e->event), e->path,
			 e->err, source_event_name(event), name, err);
}

static void assert_no_event(struct lab *lab)
{
	if (lab->events_read < lab->events_n)
		fail_msg("%s %s", source_event_name(lab->events[lab->events_read].event),
			 lab->events[lab->events_read].path);
}

static int log_fd(struct lab *lab, const char *name)
{
	int fd = open(at(lab, name), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

static void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void add(struct lab *lab, const char *name, const char *text)
{
	int fd = log_fd(lab, name);

	put(fd, text);
	close(fd);
}

static void make_dir(struct lab *lab, const char *name)
{
	assert_int_equal(mkdir(at(lab, name), 0755), 0);
}

static void move(struct lab *lab, const char *from, const char *to)
{
	assert_int_equal(rename(at(lab, from), at(lab, to)), 0);
}

static void relink(struct lab *lab, const char *target, const char *name)
{
	assert_int_equal(symlink(target, at(lab, "new-link")), 0);
	move(lab, "new-link", name);
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	strcpy(lab->root, "/tmp/tailban-source-XXXXXX");
	if (!mkdtemp(lab->root))
		return -1;
	lab->loop = ev_loop_new(EVFLAG_AUTO);
	lab->helper_fd = -1;
	*state = lab;
	return watch_init(lab->loop);
}

static int teardown(void **state)
{
	struct lab *lab = *state;
	char command[128];
	int r;

	time_offset_s = 0;
	ev_timer_stop(lab->loop, &lab->answer);
	source_free(lab->source);
	assert_int_equal(watch_stats().watches, 0);
	watch_fini();
	assert_int_equal(watch_fd(), -1);
	ev_loop_destroy(lab->loop);
	snprintf(command, sizeof(command), "rm -rf '%s'", lab->root);
	r = system(command);
	for (size_t i = 0; i < lab->npatterns; i++)
		free((void *)(uintptr_t)lab->patterns[i].text);
	free(lab->numbers);
	free(lab->got);
	free(lab);
	return r;
}

static void test_append(void **state)
{
	struct lab *lab = *state;
	struct source_status st;
	size_t i = 0;
	unsigned opens;
	int fd = log_fd(lab, "x.log");

	put(fd, "old\n");
	lab->from_end = true;
	begin(lab, "x.log");
	assert_event(lab, SOURCE_OPENED, "x.log", 0);
	assert_int_equal(lab->starts, 1);
	assert_got(lab, "");
	opens = lab->opens;
	put(fd, "1.2.3.4 - - [..] \"");
	settle(lab);
	put(fd, "GET / HTTP/1.1");
	settle(lab);
	put(fd, "\" 404 -\nnext\nha");
	assert_got(lab, "1.2.3.4 - - [..] \"GET / HTTP/1.1\" 404 -\nnext\n");
	put(fd, "lf\n");
	assert_got(lab, "half\n");
	assert_int_equal(lab->opens, opens);
	assert_true(source_next(lab->source, &i, &st));
	assert_string_equal(st.path, at(lab, "x.log"));
	assert_int_equal(st.lag_bytes, 0);
	assert_int_equal(st.lines, 3);
	assert_int_equal(st.position, st.size);
	assert_false(source_next(lab->source, &i, &st));
	assert_int_equal(source_totals(lab->source).lines, 3);
	assert_no_event(lab);
	close(fd);
}

static void test_rename(void **state)
{
	struct lab *lab = *state;
	int old = log_fd(lab, "x.log"), new;

	begin(lab, "x.log");
	put(old, "one\n");
	move(lab, "x.log", "x.log.1");
	put(old, "two\n");
	assert_got(lab, "one\ntwo\n");
	assert_event(lab, SOURCE_OPENED, "x.log", 0);
	assert_event(lab, SOURCE_GONE, "x.log", 0);
	put(old, "three\n");
	new = log_fd(lab, "x.log");
	put(new, "four\n");
	put(old, "five\n");
	settle(lab);
	put(old, "six\n");
	assert_got(lab, "three\nfive\nfour\nsix\n");
	assert_event(lab, SOURCE_OPENED, "x.log", 0);
	move(lab, "x.log", "x.log.2");
	close(new);
	new = log_fd(lab, "x.log");
	put(new, "seven\n");
	assert_got(lab, "seven\n");
	assert_event(lab, SOURCE_ROTATED, "x.log", 0);
	assert_no_event(lab);
	close(old);
	close(new);
}

/* A nameless file is given up when four younger ones lost the name too. */
static void test_many_renames(void **state)
{
	struct lab *lab = *state;
	int old = log_fd(lab, "x.log");
	char name[32];

	begin(lab, "x.log");
	put(old, "a\n");
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "x.log.%d", i);
		move(lab, "x.log", name);
		add(lab, "x.log", "b\n");
		settle(lab);
	}
	assert_int_equal(source_totals(lab->source).files, 5);
	assert_int_equal(source_totals(lab->source).rotated, 10);
	assert_got(lab, "a\nb\nb\nb\nb\nb\nb\nb\nb\nb\nb\n");
	close(old);
}

static void test_copytruncate(void **state)
{
	struct lab *lab = *state;
	int fd = log_fd(lab, "x.log");

	begin(lab, "x.log");
	put(fd, "one\ntwo\n");
	assert_got(lab, "one\ntwo\n");
	assert_event(lab, SOURCE_OPENED, "x.log", 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	settle(lab);
	assert_event(lab, SOURCE_TRUNCATED, "x.log", 0);
	put(fd, "three\n");
	assert_got(lab, "three\n");
	assert_int_equal(ftruncate(fd, 0), 0);
	put(fd, "four, which is longer\n"); /* grown beyond the position before anybody looks */
	assert_got(lab, "four, which is longer\n");
	assert_event(lab, SOURCE_TRUNCATED, "x.log", 0);
	assert_no_event(lab);
	close(fd);
}

/* `nohup app > logs.out` and copytruncate: the writer goes on at its own position. */
static void test_truncate_without_append(void **state)
{
	struct lab *lab = *state;
	int fd = open(at(lab, "logs.out"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	begin(lab, "logs.out");
	put(fd, "one\ntwo\n");
	assert_got(lab, "one\ntwo\n");
	assert_int_equal(ftruncate(fd, 0), 0);
	put(fd, "three\n");
	assert_got(lab, "three\n");
	assert_int_equal(ftruncate(fd, 0), 0);
	settle(lab);
	put(fd, "four\n");
	assert_got(lab, "four\n");
	close(fd);
}

static void test_symlinks(void **state)
{
	struct lab *lab = *state;

	make_dir(lab, "v1");
	make_dir(lab, "v2");
	add(lab, "v1/x.log", "v1\n");
	relink(lab, "v1", "now");
	begin(lab, "now/x.log");
	assert_got(lab, "v1\n");
	add(lab, "v2/x.log", "v2\n");
	relink(lab, "v2", "now");
	assert_got(lab, "v2\n");
	add(lab, "v1/x.log", "v1 late\n");
	assert_got(lab, "v1 late\n");
	assert_int_equal(unlink(at(lab, "v2/x.log")), 0);
	add(lab, "a.log", "a\n");
	add(lab, "b.log", "b\n");
	relink(lab, "../a.log", "v2/x.log");
	assert_got(lab, "a\n");
	relink(lab, "../b.log", "v2/x.log");
	assert_got(lab, "b\n");
	move(lab, "b.log", "c.log"); /* dangles */
	settle(lab);
	add(lab, "b.log", "new b\n");
	assert_got(lab, "new b\n");
	add(lab, "c.log", "old b\n");
	assert_got(lab, "old b\n");
}

static void test_directory_rotation(void **state)
{
	struct lab *lab = *state;
	int old;

	make_dir(lab, "p");
	make_dir(lab, "p/logs");
	make_dir(lab, "p/logs/deep");
	old = log_fd(lab, "p/logs/deep/x.log");
	begin(lab, "p/logs/deep/x.log");
	put(old, "one\n");
	move(lab, "p/logs", "p/logs.1");
	put(old, "two\n");
	assert_got(lab, "one\ntwo\n");
	make_dir(lab, "p/logs");
	settle(lab);
	make_dir(lab, "p/logs/deep");
	add(lab, "p/logs/deep/x.log", "three\n");
	put(old, "four\n");
	settle(lab);
	add(lab, "p/logs/deep/x.log", "five\n");
	settle(lab);
	assert_int_equal(lab->got_n, strlen("three\nfour\nfive\n"));
	lab->got_n = 0;
	/* All at once, at the top. */
	move(lab, "p", "p.1");
	make_dir(lab, "p");
	make_dir(lab, "p/logs");
	make_dir(lab, "p/logs/deep");
	add(lab, "p/logs/deep/x.log", "six\n");
	assert_got(lab, "six\n");
	close(old);
}

static void test_not_there_yet(void **state)
{
	struct lab *lab = *state;
	struct source_status st;
	size_t i = 0;

	lab->from_end = true;
	begin(lab, "a/b/c/x.log");
	assert_event(lab, SOURCE_WAITING, "a/b/c/x.log", -ENOENT);
	assert_true(source_next(lab->source, &i, &st));
	assert_int_equal(st.err, -ENOENT);
	assert_string_equal(st.path, at(lab, "a/b/c/x.log"));
	assert_false(source_next(lab->source, &i, &st));
	make_dir(lab, "a");
	settle(lab);
	make_dir(lab, "a/b");
	make_dir(lab, "a/b/c");
	settle(lab);
	add(lab, "a/b/c/x.log", "one\n");
	assert_got(lab, "one\n");
	assert_event(lab, SOURCE_OPENED, "a/b/c/x.log", 0);
	assert_no_event(lab);
	assert_int_equal(lab->starts, 0);
	assert_int_equal(source_totals(lab->source).missing, 0);
}

static void test_delete_and_recreate(void **state)
{
	struct lab *lab = *state;
	int old = log_fd(lab, "x.log");
	char line[64];

	begin(lab, "x.log");
	put(old, "one\n");
	assert_got(lab, "one\n");
	assert_int_equal(unlink(at(lab, "x.log")), 0);
	settle(lab);
	assert_event(lab, SOURCE_OPENED, "x.log", 0);
	assert_event(lab, SOURCE_GONE, "x.log", 0);
	assert_no_event(lab);
	put(old, "still\n");
	assert_got(lab, "still\n");
	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "%d\n", i);
		add(lab, "x.log", line);
		assert_got(lab, line);
		assert_int_equal(unlink(at(lab, "x.log")), 0);
	}
	settle(lab);
	assert_true(source_totals(lab->source).files <= 5);
	close(old);
}

static void test_glob(void **state)
{
	struct lab *lab = *state;

	make_dir(lab, "a");
	add(lab, "a/1.log", "old\n");
	lab->from_end = true;
	begin(lab, "*/*.log");
	assert_got(lab, "");
	add(lab, "a/2.log", "two\n");
	assert_got(lab, "two\n");
	make_dir(lab, "b");
	add(lab, "b/1.log", "three\n");
	add(lab, "b/1.txt", "not matched\n");
	assert_got(lab, "three\n");
	add(lab, "a/1.log", "four\n");
	assert_got(lab, "four\n");
	/* A name that the pattern matches as well: known, not read again. */
	move(lab, "a/1.log", "b/9.log");
	add(lab, "a/1.log", "five\n");
	assert_got(lab, "five\n");
	/* A second name of the same file. */
	assert_int_equal(link(at(lab, "b/9.log"), at(lab, "b/8.log")), 0);
	settle(lab);
	add(lab, "b/8.log", "six\n");
	assert_got(lab, "six\n");
	assert_int_equal(source_totals(lab->source).files, 4);
}

static void test_glob_finds_nothing(void **state)
{
	struct lab *lab = *state;

	begin(lab, "*.log");
	assert_event(lab, SOURCE_WAITING, "*.log", -ENOENT);
	add(lab, "x.log", "one\n");
	assert_got(lab, "one\n");
	assert_event(lab, SOURCE_OPENED, "x.log", 0);
	assert_no_event(lab);
}

static void test_two_patterns_one_file(void **state)
{
	struct lab *lab = *state;

	add(lab, "x.log", "one\n");
	lab->patterns[lab->npatterns++] =
		(struct text_at){strdup(at(lab, "*.log")), "jail.conf", 1};
	begin(lab, "x.log");
	assert_got(lab, "one\n");
	assert_int_equal(source_totals(lab->source).files, 1);
}

static void test_long_lines(void **state)
{
	struct lab *lab = *state;
	size_t sizes[] = {200 * 1000, 2000 * 1000};
	int fd = log_fd(lab, "x.log");
	char *line = malloc(2000 * 1000);

	memset(line, 0, 2000 * 1000); /* NULs are bytes like any other */
	memset(line, 'a', 100);
	begin(lab, "x.log");
	for (int i = 0; i < 2; i++) {
		put(fd, "before\n");
		line[sizes[i] - 1] = '\n';
		assert_int_equal(write(fd, line, sizes[i]), sizes[i]);
		line[sizes[i] - 1] = 0;
		put(fd, "after\n");
	}
	settle(lab);
	assert_int_equal(lab->cut, 1);
	assert_int_equal(lab->got_n, 26 + 200 * 1000 + SOURCE_HEAD_BYTES + 1);
	assert_memory_equal(lab->got + lab->got_n - 7, "\nafter\n", 7);
	assert_int_equal(source_totals(lab->source).cut, 1);
	free(line);
	close(fd);
}

struct ticker {
	ev_timer timer;
	unsigned ticks;
};

static void tick(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct ticker *t = timer->data;

	(void)loop, (void)revents;
	t->ticks++;
}

/* While much is to be read, the loop serves others after each block. */
static void test_yields(void **state)
{
	struct lab *lab = *state;
	struct ticker t = {.ticks = 0};
	char *text = malloc(8u << 20);
	int fd = log_fd(lab, "x.log");

	begin(lab, "x.log");
	for (size_t i = 0; i < 8u << 20; i++)
		text[i] = i % 64 == 63 ? '\n' : 'x';
	ev_timer_init(&t.timer, tick, 0., 1e-6);
	t.timer.data = &t;
	ev_timer_start(lab->loop, &t.timer);
	assert_int_equal(write(fd, text, 8u << 20), 8u << 20);
	while (lab->got_n < 8u << 20) {
		size_t before = lab->got_n;

		ev_run(lab->loop, EVRUN_NOWAIT);
		assert_true(lab->got_n - before <= 2 * SOURCE_BLOCK_BYTES);
	}
	assert_true(t.ticks >= 16);
	ev_timer_stop(lab->loop, &t.timer);
	assert_memory_equal(lab->got, text, 8u << 20);
	free(text);
	close(fd);
}

/* Events that the kernel had no room for. */
static void test_overflow(void **state)
{
	struct lab *lab = *state;
	char events[8192];
	int fd;

	make_dir(lab, "d");
	fd = log_fd(lab, "d/x.log");
	begin(lab, "d/x.log");
	put(fd, "one\n");
	assert_true(read(watch_fd(), events, sizeof(events)) > 0);
	assert_got(lab, "");
	watch_overflow();
	assert_got(lab, "one\n");
	put(fd, "two\n");
	close(fd);
	move(lab, "d", "d.1");
	make_dir(lab, "d");
	add(lab, "d/x.log", "three\n");
	while (read(watch_fd(), events, sizeof(events)) > 0)
		;
	assert_got(lab, "");
	watch_overflow();
	assert_got(lab, "two\nthree\n");
	/* And the watches work again. */
	add(lab, "d/x.log", "four\n");
	assert_got(lab, "four\n");
	/* A directory that was deleted unseen, its inode used again. */
	assert_int_equal(unlink(at(lab, "d/x.log")), 0);
	assert_int_equal(rmdir(at(lab, "d")), 0);
	make_dir(lab, "d");
	while (read(watch_fd(), events, sizeof(events)) > 0)
		;
	watch_overflow();
	settle(lab);
	add(lab, "d/x.log", "five\n");
	assert_got(lab, "five\n");
	assert_int_equal(watch_stats().overflows, 3);
}

/* The kernel's own overflow: more events than fs.inotify.max_queued_events. */
static void test_real_overflow(void **state)
{
	struct lab *lab = *state;
	char from[PATH_MAX], to[PATH_MAX];
	int fd = log_fd(lab, "x.log");

	begin(lab, "x.log");
	strcpy(from, at(lab, "a"));
	strcpy(to, at(lab, "b"));
	add(lab, "a", "");
	for (int i = 0; i < 30000; i++)
		assert_int_equal(i % 2 ? rename(to, from) : rename(from, to), 0);
	put(fd, "one\n");
	move(lab, "x.log", "x.log.1");
	add(lab, "x.log", "two\n");
	settle(lab);
	if (watch_stats().overflows == 0)
		print_message("no overflow here\n");
	assert_got(lab, "one\ntwo\n");
	close(fd);
}

static void test_polling(void **state)
{
	struct lab *lab = *state;
	int fd = log_fd(lab, "x.log");

	lab->poll = true;
	begin(lab, "x.log");
	put(fd, "one\n");
	assert_int_equal(watch_stats().watches, 0);
	assert_got(lab, "");
	for (int i = 0; i < 150 && lab->got_n < 4; i++) {
		ev_run(lab->loop, EVRUN_NOWAIT);
		usleep(10000);
	}
	assert_got(lab, "one\n");
	put(fd, "two\n");
	move(lab, "x.log", "x.log.1");
	add(lab, "x.log", "three\n");
	for (int i = 0; i < 150 && lab->got_n < 10; i++) {
		ev_run(lab->loop, EVRUN_NOWAIT);
		usleep(10000);
	}
	assert_got(lab, "two\nthree\n");
	close(fd);
}

static void run_stdin(struct lab *lab, int fd)
{
	lab->source = source_stdin(lab->loop, "stdin", fd, &hooks, lab);
	assert_non_null(lab->source);
	source_begin(lab->source);
	for (int i = 0; i < 2000 && lab->events_n == 0; i++) {
		ev_run(lab->loop, EVRUN_NOWAIT);
		usleep(500);
	}
	assert_int_equal(lab->events[0].event, SOURCE_END);
	assert_int_equal(lab->events[0].err, 0);
}

static void test_stdin(void **state)
{
	struct lab *lab = *state;
	struct source_status st;
	size_t i = 0;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	put(fds[1], "one\ntwo\nend");
	close(fds[1]);
	run_stdin(lab, fds[0]);
	assert_int_equal(lab->opens + lab->starts, 0);
	assert_got(lab, "one\ntwo\nend\n");
	assert_true(source_next(lab->source, &i, &st));
	assert_string_equal(st.path, "stdin");
	assert_int_equal(st.lines, 3);
	assert_false(source_next(lab->source, &i, &st));
}

static void test_stdin_from_file(void **state)
{
	struct lab *lab = *state;

	add(lab, "x.log", "one\ntwo\n");
	run_stdin(lab, open(at(lab, "x.log"), O_RDONLY | O_CLOEXEC));
	assert_got(lab, "one\ntwo\n");
}

/* Root, and in a user namespace that has other users. */
static bool can_change_user(void)
{
	return geteuid() == 0 && seteuid(1000) == 0 && seteuid(0) == 0;
}

static void test_unreadable(void **state)
{
	struct lab *lab = *state;

	if (!can_change_user())
		skip();
	assert_int_equal(chmod(lab->root, 0755), 0);
	add(lab, "x.log", "old\n");
	assert_int_equal(chmod(at(lab, "x.log"), 0600), 0);
	lab->from_end = true;
	assert_int_equal(seteuid(1000), 0);
	begin(lab, "x.log");
	assert_event(lab, SOURCE_UNREADABLE, "x.log", -EACCES);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(at(lab, "x.log"), 0644), 0);
	assert_int_equal(seteuid(1000), 0);
	settle(lab);
	assert_int_equal(seteuid(0), 0);
	assert_event(lab, SOURCE_OPENED, "x.log", 0);
	assert_int_equal(lab->starts, 1); /* it was there before us */
	add(lab, "x.log", "new\n");
	assert_got(lab, "new\n");
	assert_no_event(lab);
}

static int mock_helper(void *ctx, uint32_t token, int fd, uint32_t mask)
{
	struct lab *lab = ctx;

	lab->helper_asked++;
	lab->helper_token = token;
	lab->helper_mask = mask;
	if (lab->helper_fd >= 0)
		close(lab->helper_fd);
	lab->helper_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return 0;
}

static void helper_answers(struct lab *lab)
{
	char self[32];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", lab->helper_fd);
	watch_added(lab->helper_token, inotify_add_watch(watch_fd(), self, lab->helper_mask));
	close(lab->helper_fd);
	lab->helper_fd = -1;
}

/* The log is root's alone: inotify refuses, somebody else places the watch. */
static void test_helper(void **state)
{
	struct lab *lab = *state;
	int fd;

	if (!can_change_user())
		skip();
	assert_int_equal(chmod(lab->root, 0755), 0);
	watch_set_helper(mock_helper, lab);
	fd = log_fd(lab, "x.log");
	assert_int_equal(fchmod(fd, 0600), 0);
	lab->as_user = true;
	begin(lab, "x.log");
	assert_int_equal(lab->helper_asked, 1);
	assert_int_equal(watch_stats().pending, 1);
	put(fd, "before\n"); /* nobody watches yet */
	assert_got(lab, "");
	helper_answers(lab);
	assert_got(lab, "before\n");
	put(fd, "after\n");
	assert_got(lab, "after\n");
	move(lab, "x.log", "x.log.1");
	add(lab, "x.log", "");
	assert_int_equal(chmod(at(lab, "x.log"), 0600), 0);
	settle(lab);
	assert_int_equal(lab->helper_asked, 2);
	put(fd, "late\n");
	assert_got(lab, "late\n");
	add(lab, "x.log", "new\n");
	helper_answers(lab);
	assert_got(lab, "new\n");
	assert_false(source_totals(lab->source).polling);
	close(fd);
}

static void test_helper_late(void **state)
{
	struct lab *lab = *state;
	int fd;

	if (!can_change_user())
		skip();
	assert_int_equal(chmod(lab->root, 0755), 0);
	watch_set_helper(mock_helper, lab);
	fd = log_fd(lab, "x.log");
	assert_int_equal(fchmod(fd, 0600), 0);
	lab->as_user = true;
	begin(lab, "x.log");
	source_free(lab->source);
	lab->source = NULL;
	helper_answers(lab);
	assert_int_equal(watch_stats().watches, 0);
	assert_int_equal(watch_stats().pending, 0);
	watch_added(12345, -EACCES);
	close(fd);
}

/* Without a helper the source looks each second. */
static void test_no_helper(void **state)
{
	struct lab *lab = *state;
	int fd;

	if (!can_change_user())
		skip();
	assert_int_equal(chmod(lab->root, 0755), 0);
	fd = log_fd(lab, "x.log");
	assert_int_equal(fchmod(fd, 0600), 0);
	lab->as_user = true;
	begin(lab, "x.log");
	assert_true(source_totals(lab->source).polling);
	put(fd, "one\n");
	for (int i = 0; i < 150 && lab->got_n < 4; i++) {
		ev_run(lab->loop, EVRUN_NOWAIT);
		usleep(10000);
	}
	assert_got(lab, "one\n");
	close(fd);
}

/* Two sources in one directory, one of which leaves. */
static void test_shared_watches(void **state)
{
	struct lab *lab = *state, other = *lab;
	unsigned watches;

	make_dir(lab, "d");
	add(lab, "d/x.log", "one\n");
	begin(lab, "d/x.log");
	watches = watch_stats().watches;
	other.patterns[0] = (struct text_at){strdup(at(lab, "d/missing/x.log")), "jail.conf", 1};
	other.npatterns = 1;
	other.source = source_new(lab->loop, "other", false, &hooks, &other);
	source_begin(other.source);
	settle(&other);
	assert_int_equal(watch_stats().watches, watches);
	assert_got(lab, "one\n");
	make_dir(lab, "d/missing");
	add(lab, "d/missing/x.log", "two\n");
	assert_got(&other, "two\n");
	source_free(other.source);
	assert_int_equal(watch_stats().watches, watches);
	/* The root's watch is wider than anybody needs now: it is placed anew, once. */
	for (int i = 0; i < 4; i++) {
		uint64_t before;

		settle(lab);
		before = watch_stats().events;
		add(lab, i % 2 ? "noise1" : "noise2", "");
		settle(lab);
		if (i >= 2)
			assert_int_equal(watch_stats().events, before);
	}
	move(lab, "d/x.log", "d/x.log.1");
	add(lab, "d/x.log", "three\n");
	assert_got(lab, "three\n");
	free((void *)(uintptr_t)other.patterns[0].text);
	free(other.got);
}

static void test_many_files(void **state)
{
	struct lab *lab = *state;
	struct rlimit limit;
	char name[32];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	lab->numbers = calloc(NUMBERS_MAX, 1);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%d.log", i);
		add(lab, name, "");
	}
	begin(lab, "*.log");
	assert_int_equal(source_totals(lab->source).files, 200);
	for (int i = 0; i < 2000; i++) {
		char line[32];

		snprintf(name, sizeof(name), "%d.log", i % 200);
		snprintf(line, sizeof(line), "%d\n", i + 1);
		add(lab, name, line);
	}
	settle(lab);
	for (int i = 1; i <= 2000; i++)
		assert_int_equal(lab->numbers[i], 1);
}

static void test_ten_sources(void **state)
{
	struct lab *lab = *state;
	struct source *sources[10];
	struct lab *labs[10];
	char name[32];

	for (int i = 0; i < 10; i++) {
		labs[i] = calloc(1, sizeof(struct lab));
		labs[i]->loop = lab->loop;
		strcpy(labs[i]->root, lab->root);
		snprintf(name, sizeof(name), "%d*.log", i);
		begin(labs[i], name);
		sources[i] = labs[i]->source;
	}
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "%d.log", i);
		add(lab, name, "line\n");
	}
	for (int i = 0; i < 10; i++) {
		settle(labs[i]);
		assert_int_equal(labs[i]->got_n, 5 * (i ? 11 : 1));
		source_free(sources[i]);
		free((void *)(uintptr_t)labs[i]->patterns[0].text);
		free(labs[i]->got);
		free(labs[i]);
	}
}

static void later(struct lab *lab, time_t seconds)
{
	time_offset_s += seconds;
	settle(lab);
}

/* Deleted and closed: its disk space is free after a minute. */
static void test_deleted_and_closed(void **state)
{
	struct lab *lab = *state;
	int fd = log_fd(lab, "x.log");

	begin(lab, "x.log");
	put(fd, "one\n");
	settle(lab);
	assert_int_equal(unlink(at(lab, "x.log")), 0);
	settle(lab);
	later(lab, 5000); /* a writer is known to hold it */
	assert_int_equal(source_totals(lab->source).files, 1);
	put(fd, "two\n");
	close(fd);
	assert_got(lab, "one\ntwo\n");
	later(lab, 50);
	assert_int_equal(source_totals(lab->source).files, 1);
	later(lab, 11);
	assert_int_equal(source_totals(lab->source).files, 0);
	assert_int_equal(source_totals(lab->source).missing, 1);
}

/* No sign of a writer at all, or closed but still there under another name. */
static void test_nameless_and_quiet(void **state)
{
	struct lab *lab = *state;

	add(lab, "x.log", "one\n");
	begin(lab, "x.log");
	assert_int_equal(unlink(at(lab, "x.log")), 0);
	add(lab, "x.log", "two\n");
	assert_got(lab, "one\ntwo\n");
	move(lab, "x.log", "x.log.1");
	settle(lab);
	assert_int_equal(source_totals(lab->source).files, 2);
	later(lab, 300);
	add(lab, "x.log.1", "three\n");
	assert_got(lab, "three\n");
	later(lab, 400);
	assert_int_equal(source_totals(lab->source).files, 1);
	later(lab, 300);
	assert_int_equal(source_totals(lab->source).files, 0);
}

/* Garbage from the opener: answers nobody asked for, no descriptor, no regular file. */
static void test_odd_answers(void **state)
{
	struct lab *lab = *state;

	add(lab, "x.log", "one\n");
	begin(lab, "x.log");
	source_opened(lab->source);
	source_file(lab->source, "/nowhere", -1, 0);
	source_file(lab->source, "/nowhere", 9999, 0);
	source_file(lab->source, "/dev/null", open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
	source_dir(lab->source, "/", -1, true);
	source_dir(lab->source, "/", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), false);
	assert_got(lab, "one\n");
	source_reopen(lab->source);
	add(lab, "x.log", "two\n");
	assert_got(lab, "two\n");
	assert_int_equal(source_totals(lab->source).files, 1);
	assert_int_equal(source_totals(lab->source).missing, 0);
}

/* The random writer: numbered lines, every kind of rotation, in a process of its own. */
struct writer {
	struct lab *lab;
	_Atomic uint64_t *seen;
	uint64_t written;
	unsigned rotations;
	int fd;
};

static void write_lines(struct writer *w, int fd, unsigned n)
{
	char text[4096];
	size_t len = 0;

	for (unsigned i = 0; i < n; i++) {
		int k = snprintf(text + len, sizeof(text) - len, "%ju %.*s\n",
				 (uintmax_t)++w->written, (int)(random() % 60),
				 "------------------------------------------------------------");

		len += (size_t)k;
		if (random() % 3 || len > sizeof(text) - 100) {
			size_t cut = (size_t)random() % (len + 1);

			if (write(fd, text, cut) != (ssize_t)cut)
				_exit(3);
			if (write(fd, text + cut, len - cut) != (ssize_t)(len - cut))
				_exit(3);
			len = 0;
		}
	}
	if (len && write(fd, text, len) != (ssize_t)len)
		_exit(3);
}

/* Until the reader has everything; with what it may lose by nature, this comes before. */
static void wait_for_reader(struct writer *w)
{
	for (int i = 0; i < 20000; i++) {
		if (atomic_load(w->seen) == w->written)
			return;
		usleep(500);
	}
	fprintf(stderr, "%ju lines written, %ju read\n", (uintmax_t)w->written,
		(uintmax_t)atomic_load(w->seen));
	_exit(4);
}

static void rotate(struct writer *w)
{
	struct lab *lab = w->lab;
	char name[64], target[64];
	unsigned n = ++w->rotations;
	int old = w->fd;

	switch (random() % 6) {
	case 0:
	case 1:
		snprintf(name, sizeof(name), "p/d/app.log.%u", n);
		rename(at(lab, "p/d/app.log"), at(lab, name));
		break;
	case 2:
		unlink(at(lab, "p/d/app.log"));
		break;
	case 3:
		snprintf(name, sizeof(name), "p/d.%u", n);
		rename(at(lab, "p/d"), at(lab, name));
		if (random() % 2)
			usleep((useconds_t)(random() % 3000));
		mkdir(at(lab, "p/d"), 0755);
		break;
	case 4:
		snprintf(target, sizeof(target), "../../files/%u", n);
		snprintf(name, sizeof(name), "files/%u", n);
		close(open(at(lab, name), O_WRONLY | O_CREAT, 0644));
		if (symlink(target, at(lab, "p/d/link")) < 0)
			fail_msg("symlink: %s", strerror(errno));
		rename(at(lab, "p/d/link"), at(lab, "p/d/app.log"));
		break;
	case 5:
		wait_for_reader(w);
		if (ftruncate(w->fd, 0) < 0)
			_exit(5);
		return;
	}
	if (random() % 2)
		write_lines(w, old, (unsigned)random() % 50);
	w->fd = open(at(lab, "p/d/app.log"), O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (w->fd < 0)
		_exit(6);
	write_lines(w, w->fd, 1 + (unsigned)random() % 20);
	if (random() % 2) /* one more writer that has not yet opened the new file */
		write_lines(w, old, (unsigned)random() % 50);
	/* A file that comes and goes before anybody can open it is lost by nature. */
	wait_for_reader(w);
	if (random() % 2)
		write_lines(w, old, (unsigned)random() % 50);
	close(old);
}

static void writer_main(struct lab *lab, unsigned seed, _Atomic uint64_t *seen,
			_Atomic uint64_t *total)
{
	struct writer w = {.lab = lab, .seen = seen};

	srandom(seed);
	w.fd = open(at(lab, "p/d/app.log"), O_WRONLY | O_CREAT | O_APPEND, 0644);
	write_lines(&w, w.fd, 1);
	wait_for_reader(&w);
	for (int i = 0; i < 120; i++) {
		write_lines(&w, w.fd, (unsigned)random() % 300);
		if (random() % 3 == 0)
			usleep((useconds_t)(random() % 2000));
		rotate(&w);
	}
	wait_for_reader(&w);
	atomic_store(total, w.written);
	_exit(0);
}

static void random_rotation(struct lab *lab)
{
	const char *given = getenv("TAILBAN_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10)
			      : (unsigned)time(NULL) ^ (unsigned)getpid();
	_Atomic uint64_t *shared =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;
	pid_t pid;

	print_message("seed %u\n", seed);
	make_dir(lab, "p");
	make_dir(lab, "p/d");
	make_dir(lab, "files");
	lab->numbers = calloc(NUMBERS_MAX, 1);
	lab->shared = shared;
	begin(lab, "p/d/app.log");
	pid = fork();
	if (pid == 0)
		writer_main(lab, seed, shared, shared + 8);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		ev_run(lab->loop, EVRUN_NOWAIT);
		if (!source_busy(lab->source))
			usleep(100);
	}
	settle(lab);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != 0)
		print_message("writer ended with %d\n", WEXITSTATUS(status));
	for (uint64_t i = 1; i <= shared[8]; i++) {
		if (lab->numbers[i] != 1)
			fail_msg("line %ju came %d times", (uintmax_t)i, lab->numbers[i]);
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(lab->count, shared[8]);
	assert_true(lab->count > 1000);
	print_message("%ju lines, %ju rotations, %ju truncations, %u openings\n",
		      (uintmax_t)lab->count, (uintmax_t)source_totals(lab->source).rotated,
		      (uintmax_t)source_totals(lab->source).truncated, lab->opens);
	munmap(shared, 4096);
}

static void test_random_rotation(void **state)
{
	random_rotation(*state);
}

static void test_random_rotation_late(void **state)
{
	struct lab *lab = *state;

	lab->late = true;
	random_rotation(lab);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_append),
		TEST(test_rename),
		TEST(test_many_renames),
		TEST(test_copytruncate),
		TEST(test_truncate_without_append),
		TEST(test_symlinks),
		TEST(test_directory_rotation),
		TEST(test_not_there_yet),
		TEST(test_delete_and_recreate),
		TEST(test_glob),
		TEST(test_glob_finds_nothing),
		TEST(test_two_patterns_one_file),
		TEST(test_long_lines),
		TEST(test_yields),
		TEST(test_overflow),
		TEST(test_real_overflow),
		TEST(test_polling),
		TEST(test_stdin),
		TEST(test_stdin_from_file),
		TEST(test_unreadable),
		TEST(test_helper),
		TEST(test_helper_late),
		TEST(test_no_helper),
		TEST(test_shared_watches),
		TEST(test_many_files),
		TEST(test_ten_sources),
		TEST(test_deleted_and_closed),
		TEST(test_nameless_and_quiet),
		TEST(test_odd_answers),
		TEST(test_random_rotation),
		TEST(test_random_rotation_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
