/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Expansion of log patterns: what is opened, what is refused, what is to be watched. */
#include "daemon/enforcer/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FOUND_MAX 2048

struct found {
	enum logfile_kind kind;
	char path[PATH_MAX];
	int err;
	ino_t ino;
};

struct lab {
	char root[64];
	struct found *found;
	unsigned n;
	struct logfile_count count;
};

static void collect(void *ctx, const struct logfile_found *f)
{
	struct lab *lab = ctx;
	struct found *to = &lab->found[lab->n++];
	struct stat st = {0};

	assert_true(lab->n <= FOUND_MAX);
	to->kind = f->kind;
	to->err = f->err;
	snprintf(to->path, sizeof(to->path), "%s", f->path);
	assert_true((f->fd >= 0) == (f->err == 0));
	if (f->fd < 0)
		return;
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_true(fcntl(f->fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(f->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(f->fd, F_GETFL) & O_PATH, 0);
	assert_true(f->kind == LOGFILE_FILE ? S_ISREG(st.st_mode) : S_ISDIR(st.st_mode));
	to->ino = st.st_ino;
	close(f->fd);
}

/* "name" in the laboratory's directory; valid until the eighth next call. */
static const char *at(const struct lab *lab, const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *p = paths[next++ % 8];

	snprintf(p, PATH_MAX, "%s%s%s", lab->root, *name ? "/" : "", name);
	return p;
}

static void make_dir(const struct lab *lab, const char *name)
{
	assert_int_equal(mkdir(at(lab, name), 0755), 0);
}

static void make_file(const struct lab *lab, const char *name)
{
	int fd = open(at(lab, name), O_WRONLY | O_CREAT | O_EXCL, 0644);

	assert_true(fd >= 0);
	close(fd);
}

static void make_link(const struct lab *lab, const char *target, const char *name)
{
	assert_int_equal(symlink(target, at(lab, name)), 0);
}

static void run_want(struct lab *lab, enum logfile_want want, const char *pattern)
{
	struct text_at text = {at(lab, pattern), "jail.conf", 1};

	lab->n = 0;
	logfile_open(&text, 1, want, collect, lab, &lab->count);
}

static void run(struct lab *lab, const char *pattern)
{
	run_want(lab, LOGFILE_WANT_ALL, pattern);
}

static unsigned count(const struct lab *lab, enum logfile_kind kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < lab->n; i++)
		n += lab->found[i].kind == kind;
	return n;
}

/* The i-th report of a kind. */
static const struct found *nth(const struct lab *lab, enum logfile_kind kind, unsigned n)
{
	for (unsigned i = 0; i < lab->n; i++) {
		if (lab->found[i].kind == kind && n-- == 0)
			return &lab->found[i];
	}
	fail_msg("only %u reports of kind %d", count(lab, kind), kind);
	return NULL;
}

static bool watched(const struct lab *lab, enum logfile_kind kind, const char *name)
{
	struct stat st;

	if (stat(at(lab, name), &st) < 0)
		return false;
	for (unsigned i = 0; i < lab->n; i++) {
		if (lab->found[i].kind == kind && lab->found[i].ino == st.st_ino)
			return true;
	}
	return false;
}

static void assert_file(const struct lab *lab, unsigned i, const char *name, int err)
{
	const struct found *f = nth(lab, LOGFILE_FILE, i);

	assert_string_equal(f->path, at(lab, name));
	assert_int_equal(f->err, err);
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	lab->found = calloc(FOUND_MAX, sizeof(*lab->found));
	strcpy(lab->root, "/tmp/tailban-logfile-XXXXXX");
	if (!mkdtemp(lab->root))
		return -1;
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;
	char command[128];
	int r;

	snprintf(command, sizeof(command), "rm -rf '%s'", lab->root);
	r = system(command);
	free(lab->found);
	free(lab);
	return r;
}

static void test_plain(void **state)
{
	struct lab *lab = *state;

	make_dir(lab, "a");
	make_dir(lab, "a/b");
	make_file(lab, "a/b/x.log");
	run(lab, "a/b/x.log");
	assert_int_equal(count(lab, LOGFILE_FILE), 1);
	assert_file(lab, 0, "a/b/x.log", 0);
	assert_true(watched(lab, LOGFILE_ENTRIES, "a/b"));
	assert_int_equal(count(lab, LOGFILE_ENTRIES), 1);
	assert_true(watched(lab, LOGFILE_SELF, "a"));
	assert_true(watched(lab, LOGFILE_SELF, ""));
	assert_false(watched(lab, LOGFILE_SELF, "../.."));
	assert_int_equal(lab->count.dirs, 4); /* /tmp, root, a, b */
	assert_int_equal(lab->count.files, 1);
	run_want(lab, LOGFILE_WANT_FILES, "a//b///x.log");
	assert_int_equal(lab->n, 1);
	assert_file(lab, 0, "a/b/x.log", 0);
}

static void test_missing(void **state)
{
	struct lab *lab = *state;

	make_dir(lab, "a");
	run(lab, "a/b/c/x.log");
	assert_file(lab, 0, "a/b/c/x.log", -ENOENT);
	assert_true(watched(lab, LOGFILE_ENTRIES, "a"));
	run(lab, "a/x.log");
	assert_file(lab, 0, "a/x.log", -ENOENT);
	assert_true(watched(lab, LOGFILE_ENTRIES, "a"));
	assert_true(watched(lab, LOGFILE_ENTRIES, "")); /* "a" itself may be replaced unseen */
	make_file(lab, "f");
	run(lab, "f/x.log");
	assert_file(lab, 0, "f/x.log", -ENOTDIR);
	assert_true(watched(lab, LOGFILE_ENTRIES, ""));
}

static void test_wildcards(void **state)
{
	struct lab *lab = *state;

	make_dir(lab, "b");
	make_dir(lab, "a");
	make_dir(lab, ".c");
	make_dir(lab, "a/dir.log");
	make_file(lab, "a/2.log");
	make_file(lab, "a/1.log");
	make_file(lab, "a/.hidden.log");
	make_file(lab, "a/1.logx");
	make_file(lab, "b/1.log");
	make_file(lab, ".c/1.log");
	make_file(lab, "x.log");
	run(lab, "*/*.log");
	assert_int_equal(count(lab, LOGFILE_FILE), 3);
	assert_file(lab, 0, "a/1.log", 0);
	assert_file(lab, 1, "a/2.log", 0);
	assert_file(lab, 2, "b/1.log", 0);
	assert_true(watched(lab, LOGFILE_ENTRIES, ""));
	assert_true(watched(lab, LOGFILE_ENTRIES, "a"));
	assert_true(watched(lab, LOGFILE_ENTRIES, "b"));
	run(lab, "[!a]/[0-9].lo?");
	assert_int_equal(count(lab, LOGFILE_FILE), 1);
	assert_file(lab, 0, "b/1.log", 0);
	run(lab, "*/2.log"); /* that b has none is no news */
	assert_int_equal(count(lab, LOGFILE_FILE), 1);
	assert_true(watched(lab, LOGFILE_ENTRIES, "b"));
	run(lab, "*.txt");
	assert_int_equal(count(lab, LOGFILE_FILE), 1);
	assert_file(lab, 0, "*.txt", -ENOENT);
	assert_true(watched(lab, LOGFILE_ENTRIES, ""));
}

static void test_links(void **state)
{
	struct lab *lab = *state;

	make_dir(lab, "real");
	make_dir(lab, "real/deep");
	make_dir(lab, "links");
	make_file(lab, "real/deep/x.log");
	make_link(lab, "../real/deep", "links/dir");
	make_link(lab, at(lab, "real/deep/x.log"), "links/current");
	make_link(lab, "current", "links/chain");
	make_link(lab, "loop", "links/loop");
	make_link(lab, "nowhere", "links/dangling");
	make_link(lab, "a*b", "links/star"); /* no wildcard */
	make_file(lab, "links/axb");

	run(lab, "links/dir/x.log");
	assert_file(lab, 0, "links/dir/x.log", 0);
	assert_true(watched(lab, LOGFILE_ENTRIES, "links"));
	assert_true(watched(lab, LOGFILE_ENTRIES, "real/deep"));
	assert_true(watched(lab, LOGFILE_SELF, "real"));
	run(lab, "links/chain");
	assert_file(lab, 0, "links/chain", 0);
	assert_true(watched(lab, LOGFILE_ENTRIES, "real/deep"));
	run(lab, "links/loop");
	assert_file(lab, 0, "links/loop", -ELOOP);
	run(lab, "links/dangling");
	assert_file(lab, 0, "links/dangling", -ENOENT);
	assert_true(watched(lab, LOGFILE_ENTRIES, "links"));
	run(lab, "links/star");
	assert_file(lab, 0, "links/star", -ENOENT);
	run(lab, "links/../links/./current");
	assert_int_equal(nth(lab, LOGFILE_FILE, 0)->err, 0);
}

/* Links are believed when root made them or the owner of what they point to. */
static void test_link_owner(void **state)
{
	struct lab *lab = *state;

	if (geteuid() != 0 || chown(lab->root, 1000, 1000) < 0)
		skip();
	make_file(lab, "secret");
	make_file(lab, "own");
	assert_int_equal(chown(at(lab, "own"), 1000, 1000), 0);
	make_dir(lab, "rootdir");
	make_file(lab, "rootdir/x.log");
	make_link(lab, "secret", "evil");
	make_link(lab, "own", "good");
	make_link(lab, "own", "rooted");
	make_link(lab, "evil", "rooted-chain");
	make_link(lab, "rootdir", "evil-dir");
	assert_int_equal(lchown(at(lab, "evil"), 1000, 1000), 0);
	assert_int_equal(lchown(at(lab, "good"), 1000, 1000), 0);
	assert_int_equal(lchown(at(lab, "evil-dir"), 1000, 1000), 0);
	run(lab, "evil");
	assert_file(lab, 0, "evil", -EPERM);
	run(lab, "evil-dir/x.log");
	assert_file(lab, 0, "evil-dir/x.log", -EPERM);
	run(lab, "rooted-chain");
	assert_file(lab, 0, "rooted-chain", -EPERM);
	run(lab, "e*");
	assert_int_equal(count(lab, LOGFILE_FILE), 2);
	assert_file(lab, 0, "evil", -EPERM);
	run(lab, "good");
	assert_file(lab, 0, "good", 0);
	run(lab, "rooted");
	assert_file(lab, 0, "rooted", 0);
}

static void test_refused(void **state)
{
	struct lab *lab = *state;
	struct text_at device = {"/dev/null", "jail.conf", 1};

	make_dir(lab, "dir");
	assert_int_equal(mkfifo(at(lab, "fifo"), 0600), 0);
	run(lab, "dir");
	assert_file(lab, 0, "dir", -EISDIR);
	run(lab, "dir/");
	assert_file(lab, 0, "dir", -EISDIR);
	run(lab, "fifo"); /* and does not block */
	assert_file(lab, 0, "fifo", -ENOTSUP);
	run(lab, "*");
	assert_int_equal(count(lab, LOGFILE_FILE), 1);
	assert_file(lab, 0, "fifo", -ENOTSUP);
	lab->n = 0;
	logfile_open(&device, 1, LOGFILE_WANT_FILES, collect, lab, NULL);
	assert_int_equal(nth(lab, LOGFILE_FILE, 0)->err, -ENOTSUP);
	for (int err = -140; err <= 0; err++)
		assert_non_null(logfile_reason(err));
}

static void test_no_rights(void **state)
{
	struct lab *lab = *state;

	make_dir(lab, "closed");
	make_file(lab, "closed/x.log");
	make_file(lab, "y.log");
	if (geteuid() != 0 || seteuid(1000) < 0 || seteuid(0) < 0)
		skip();
	assert_int_equal(chmod(lab->root, 0755), 0);
	assert_int_equal(chmod(at(lab, "closed"), 0700), 0);
	assert_int_equal(chmod(at(lab, "y.log"), 0600), 0);
	assert_int_equal(seteuid(1000), 0);
	run(lab, "closed/x.log");
	assert_file(lab, 0, "closed/x.log", -EACCES);
	run(lab, "y.log");
	assert_file(lab, 0, "y.log", -EACCES);
	assert_true(watched(lab, LOGFILE_ENTRIES, ""));
	assert_int_equal(seteuid(0), 0);
	run(lab, "y.log");
	assert_file(lab, 0, "y.log", 0);
}

static void test_long_names(void **state)
{
	struct lab *lab = *state;
	char name[PATH_MAX + 16];
	struct text_at text = {name, "jail.conf", 1};

	memset(name, 'n', sizeof(name));
	name[300] = '\0';
	run(lab, name);
	assert_int_equal(nth(lab, LOGFILE_FILE, 0)->err, -ENAMETOOLONG);
	name[300] = 'n';
	name[sizeof(name) - 1] = '\0';
	logfile_open(&text, 1, LOGFILE_WANT_ALL, collect, lab, &lab->count);
	assert_int_equal(lab->count.left_out, 1);
	for (size_t i = 0; i < PATH_MAX - 1; i++)
		name[i] = i % 2 ? '/' : '.';
	name[PATH_MAX - 1] = '\0';
	lab->n = 0;
	logfile_open(&text, 1, LOGFILE_WANT_ALL, collect, lab, &lab->count);
	assert_int_equal(count(lab, LOGFILE_FILE), 1);
}

/* The newest dated names are kept. */
static void test_caps(void **state)
{
	struct lab *lab = *state;
	char name[32];

	make_dir(lab, "d");
	for (unsigned i = 0; i < LOGFILE_FILES_MAX + 44; i++) {
		snprintf(name, sizeof(name), "d/%04u.log", i);
		make_file(lab, name);
	}
	run(lab, "d/*.log");
	assert_int_equal(count(lab, LOGFILE_FILE), LOGFILE_FILES_MAX);
	assert_int_equal(lab->count.left_out, 44);
	assert_file(lab, 0, "d/0044.log", 0);
	for (unsigned i = 0; i < LOGFILE_DIRS_MAX + 8; i++) {
		snprintf(name, sizeof(name), "e%04u", i);
		make_dir(lab, name);
	}
	run(lab, "e*/x.log");
	assert_int_equal(lab->count.dirs, LOGFILE_DIRS_MAX);
	assert_true(lab->count.left_out > 0);
}

/* Two patterns in one directory: the directory comes once. */
static void test_several(void **state)
{
	struct lab *lab = *state;
	struct text_at texts[3];

	make_dir(lab, "d");
	make_file(lab, "d/a.log");
	make_file(lab, "d/b.log");
	texts[0] = (struct text_at){at(lab, "d/a.log"), "jail.conf", 1};
	texts[1] = (struct text_at){at(lab, "d/b.log"), "jail.conf", 2};
	texts[2] = (struct text_at){at(lab, "d/c*"), "jail.conf", 3};
	lab->n = 0;
	logfile_open(texts, 3, LOGFILE_WANT_ALL, collect, lab, &lab->count);
	assert_int_equal(count(lab, LOGFILE_FILE), 3);
	assert_int_equal(count(lab, LOGFILE_ENTRIES), 1);
	assert_int_equal(lab->count.dirs, 3);
	assert_file(lab, 2, "d/c*", -ENOENT);
}

static void test_relative(void **state)
{
	struct lab *lab = *state;
	struct text_at text = {"d/x.log", "jail.conf", 1};
	int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	make_dir(lab, "d");
	make_file(lab, "d/x.log");
	assert_int_equal(chdir(lab->root), 0);
	lab->n = 0;
	logfile_open(&text, 1, LOGFILE_WANT_ALL, collect, lab, NULL);
	assert_int_equal(fchdir(cwd), 0);
	close(cwd);
	assert_string_equal(nth(lab, LOGFILE_FILE, 0)->path, "d/x.log");
	assert_int_equal(nth(lab, LOGFILE_FILE, 0)->err, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wildcards, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_rights, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_caps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_several, setup, teardown),
		cmocka_unit_test_setup_teardown(test_relative, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
