/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole lines from files and pipes, and the search by date. */
#include "daemon/source/stream.h"
#include "daemon/source/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct lab {
	int fd; /* the writer's */
	struct tail tail;
	char *got;
	size_t got_n, room;
	unsigned blocks, cut;
};

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	lab->fd = memfd_create("log", MFD_CLOEXEC);
	*state = lab;
	return lab->fd < 0 ? -1 : tail_open(&lab->tail, lab->fd);
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	close(lab->fd);
	free(lab->got);
	free(lab);
	return 0;
}

static void append(struct lab *lab, const char *text, size_t n)
{
	struct stat st;

	assert_int_equal(fstat(lab->fd, &st), 0);
	assert_int_equal(pwrite(lab->fd, text, n, st.st_size), n);
}

static void add(struct lab *lab, const char *text)
{
	append(lab, text, strlen(text));
}

static void take(struct lab *lab, const struct source_block *b)
{
	if (b->text.n == 0)
		return;
	assert_true(b->text.p[b->text.n - 1] == '\n');
	lab->blocks++;
	lab->cut += b->cut;
	if (lab->got_n + b->text.n > lab->room) {
		lab->room = (lab->got_n + b->text.n) * 2;
		lab->got = realloc(lab->got, lab->room);
	}
	memcpy(lab->got + lab->got_n, b->text.p, b->text.n);
	lab->got_n += b->text.n;
}

static void read_all(struct lab *lab)
{
	struct source_block b;
	int64_t n;

	while ((n = tail_read(&lab->tail, &b)) > 0) {
		assert_true(b.text.n <= SOURCE_BLOCK_BYTES);
		assert_true(b.end == lab->tail.offset);
		assert_true(b.cut || b.end - b.offset == b.text.n);
		take(lab, &b);
	}
	assert_int_equal(n, 0);
}

static void assert_got(struct lab *lab, const char *text)
{
	read_all(lab);
	assert_int_equal(lab->got_n, strlen(text));
	assert_memory_equal(lab->got, text, lab->got_n);
	lab->got_n = 0;
}

static void test_three_writes(void **state)
{
	struct lab *lab = *state;

	add(lab, "10.0.0.1 - - [date] \"");
	assert_got(lab, "");
	add(lab, "GET /login HTTP/1.1");
	assert_got(lab, "");
	add(lab, "\" 404 -\n10.0");
	assert_got(lab, "10.0.0.1 - - [date] \"GET /login HTTP/1.1\" 404 -\n");
	add(lab, ".0.2\n\n");
	assert_got(lab, "10.0.0.2\n\n");
	assert_int_equal(lab->tail.lines, 3);
	assert_int_equal(lab->tail.offset, lab->tail.size);
}

static void test_only_newline_ends(void **state)
{
	struct lab *lab = *state;
	static const char text[] = "a\r\0b\x0b\x0c\x1c\xc2\x85\xe2\x80\xa8\xff\n";

	append(lab, text, sizeof(text) - 1);
	read_all(lab);
	assert_int_equal(lab->blocks, 1);
	assert_int_equal(lab->tail.lines, 1);
	assert_int_equal(lab->got_n, sizeof(text) - 1);
	assert_memory_equal(lab->got, text, lab->got_n);
}

static char *long_line(size_t n)
{
	char *line = malloc(n);

	for (size_t i = 0; i < n; i++)
		line[i] = (char)('a' + i % 23);
	line[n - 1] = '\n';
	return line;
}

static void test_long_lines(void **state)
{
	struct lab *lab = *state;
	size_t sizes[] = {200 * 1000, SOURCE_BLOCK_BYTES, SOURCE_BLOCK_BYTES + 1, 2000 * 1000};

	for (size_t i = 0; i < 4; i++) {
		char *line = long_line(sizes[i]);
		bool cut = sizes[i] > SOURCE_BLOCK_BYTES;
		uint64_t cuts = lab->tail.cut;

		lab->got_n = 0;
		append(lab, line, sizes[i] - 1);
		read_all(lab);
		assert_int_equal(lab->got_n, 0);
		append(lab, "\nnext\n", 6);
		read_all(lab);
		assert_int_equal(lab->tail.cut - cuts, cut);
		assert_int_equal(lab->got_n, (cut ? SOURCE_HEAD_BYTES + 1 : sizes[i]) + 5);
		assert_memory_equal(lab->got, line, lab->got_n - 6);
		assert_memory_equal(lab->got + lab->got_n - 6, "\nnext\n", 6);
		free(line);
	}
	assert_int_equal(lab->tail.lines, 8);
}

/* The position is a line's start at all times: after a crash the line is read again. */
static void test_position_in_long_line(void **state)
{
	struct lab *lab = *state;
	char *line = long_line(1000 * 1000);
	struct tail again;

	add(lab, "first\n");
	append(lab, line, 999 * 1000);
	read_all(lab);
	assert_int_equal(lab->tail.offset, 6);
	assert_int_equal(tail_open(&again, lab->fd), 0);
	assert_int_equal(tail_start(&again, 500 * 1000), 0);
	assert_int_equal(again.offset, 6);
	free(line);
}

static void test_start_in_line(void **state)
{
	struct lab *lab = *state;

	add(lab, "one\ntwo\nthr");
	assert_int_equal(tail_open(&lab->tail, lab->fd), 0);
	assert_int_equal(tail_start(&lab->tail, lab->tail.size), 0);
	assert_int_equal(lab->tail.offset, 8);
	add(lab, "ee\n");
	assert_got(lab, "three\n");
	assert_int_equal(tail_start(&lab->tail, 4), 0);
	assert_got(lab, "two\nthree\n");
	assert_int_equal(tail_start(&lab->tail, UINT64_MAX), 0);
	assert_got(lab, "");
}

static void test_truncated(void **state)
{
	struct lab *lab = *state;

	add(lab, "one\ntwo\nhalf");
	assert_got(lab, "one\ntwo\n");
	assert_int_equal(ftruncate(lab->fd, 0), 0);
	add(lab, "three\n");
	assert_got(lab, "three\n");
	assert_int_equal(lab->tail.truncated, 1);
}

static void test_regrown(void **state)
{
	struct lab *lab = *state;

	add(lab, "one 1\ntwo 2\n");
	assert_got(lab, "one 1\ntwo 2\n");
	assert_int_equal(ftruncate(lab->fd, 0), 0);
	add(lab, "one 3\ntwo 4\n"); /* the same size */
	assert_got(lab, "one 3\ntwo 4\n");
	assert_int_equal(ftruncate(lab->fd, 0), 0);
	add(lab, "one 5\ntwo 6\nthree\n"); /* larger */
	assert_got(lab, "one 5\ntwo 6\nthree\n");
	assert_int_equal(lab->tail.truncated, 2);
}

/* A writer without O_APPEND goes on at its own position after a truncation. */
static void test_hole(void **state)
{
	struct lab *lab = *state;
	off_t at = 1000 * 1000 + 17;

	add(lab, "one\n");
	assert_got(lab, "one\n");
	for (int looked_between = 0; looked_between < 2; looked_between++) {
		assert_int_equal(ftruncate(lab->fd, 0), 0);
		if (looked_between)
			assert_got(lab, "");
		assert_int_equal(pwrite(lab->fd, "two\nthr", 7, at), 7);
		assert_got(lab, "two\n");
		add(lab, "ee\n");
		assert_got(lab, "three\n");
	}
	assert_int_equal(lab->tail.truncated, 2);
	assert_int_equal(ftruncate(lab->fd, 0), 0);
	assert_int_equal(pwrite(lab->fd, "four\n", 5, 10), 5);
	assert_got(lab, "four\n");
	assert_int_equal(ftruncate(lab->fd, 2 * at), 0);
	assert_got(lab, "");
}

static void test_fingerprint(void **state)
{
	struct lab *lab = *state;
	uint32_t empty = source_fingerprint(lab->fd), some, full;

	assert_true(source_fingerprint_fits(lab->fd, empty));
	add(lab, "0123456789");
	some = source_fingerprint(lab->fd);
	for (int i = 0; i < 10; i++)
		add(lab, "0123456789");
	full = source_fingerprint(lab->fd);
	assert_int_not_equal(some, full);
	assert_true(source_fingerprint_fits(lab->fd, some));
	assert_true(source_fingerprint_fits(lab->fd, full));
	assert_true(source_fingerprint_fits(lab->fd, empty));
	read_all(lab);
	assert_int_equal(lab->tail.fingerprint, full);
	assert_int_equal(pwrite(lab->fd, "x", 1, 5), 1);
	assert_false(source_fingerprint_fits(lab->fd, some));
	assert_false(source_fingerprint_fits(lab->fd, full));
	assert_false(source_fingerprint_fits(lab->fd, UINT32_MAX));
}

static void test_not_regular(void **state)
{
	struct lab *lab = *state;
	struct tail t;
	struct source_block b;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_int_equal(tail_open(&t, fd), -EINVAL);
	close(fd);
	assert_int_equal(tail_open(&t, fd), -EBADF);
	lab->tail.fd = fd;
	assert_int_equal(tail_read(&lab->tail, &b), -EBADF);
}

/* Random appends, looks and truncations against a plain model. */
static void test_random(void **state)
{
	struct lab *lab = *state;
	unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid();
	char *expect = malloc(8u << 20), *piece = malloc(400u << 10);
	size_t n = 0, half = 0;

	print_message("seed %u\n", seed);
	srandom(seed);
	for (int i = 0; i < 600; i++) {
		size_t len = 1 + (size_t)random() % (random() % 50 ? 300 : 100 * 1000);

		for (size_t k = 0; k < len; k++)
			piece[k] = random() % 40 ? (char)(32 + random() % 200) : '\n';
		append(lab, piece, len);
		memcpy(expect + n, piece, len);
		n += len;
		if (random() % 3)
			read_all(lab);
		if (random() % 40 == 0) {
			read_all(lab);
			for (half = 0; half < n && expect[n - half - 1] != '\n'; half++)
				;
			n -= half; /* the unfinished line is lost by nature */
			assert_int_equal(ftruncate(lab->fd, 0), 0);
			if (random() % 2)
				read_all(lab);
		}
		assert_true(n < 7u << 20);
	}
	append(lab, "\n", 1);
	expect[n++] = '\n';
	read_all(lab);
	assert_int_equal(lab->got_n, n);
	assert_memory_equal(lab->got, expect, n);
	free(expect);
	free(piece);
}

static void pipe_all(struct lab *lab, struct stream *s)
{
	struct source_block b;
	int64_t n;

	do {
		n = stream_read(s, &b);
		assert_true(n >= 0 || n == -EAGAIN);
		if (n >= 0)
			take(lab, &b);
	} while (n > 0);
}

static void test_stream(void **state)
{
	struct lab *lab = *state;
	char *line = long_line(2000 * 1000);
	int fds[2];
	struct stream *s;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	s = stream_new(fds[0]);
	assert_int_equal(write(fds[1], "one\ntw", 6), 6);
	pipe_all(lab, s);
	assert_int_equal(lab->got_n, 4);
	assert_int_equal(write(fds[1], "o\n", 2), 2);
	pipe_all(lab, s);
	assert_int_equal(lab->got_n, 8);
	for (size_t at = 0; at < 2000 * 1000; at += 50 * 1000) {
		assert_int_equal(write(fds[1], line + at, 50 * 1000), 50 * 1000);
		if (at + 50 * 1000 == 2000 * 1000)
			assert_int_equal(write(fds[1], "a\nb\nc", 5), 5);
		pipe_all(lab, s);
	}
	assert_int_equal(lab->cut, 1);
	assert_int_equal(lab->got_n, 8 + SOURCE_HEAD_BYTES + 1 + 4);
	close(fds[1]);
	pipe_all(lab, s);
	assert_memory_equal(lab->got, "one\ntwo\nabc", 11);
	assert_memory_equal(lab->got + lab->got_n - 7, "\na\nb\nc\n", 7);
	assert_int_equal(s->lines, 6);
	assert_int_equal(s->offset, 8 + 2000 * 1000 + 5);
	assert_int_equal(s->offset, s->end);
	stream_free(s);
	free(line);
}

static void test_stream_ends_in_long_line(void **state)
{
	struct lab *lab = *state;
	char *line = long_line(400 * 1000);
	int fds[2];
	struct stream *s;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	s = stream_new(fds[0]);
	for (int i = 0; i < 7; i++) {
		assert_int_equal(write(fds[1], line, 50 * 1000), 50 * 1000);
		pipe_all(lab, s);
	}
	close(fds[1]);
	pipe_all(lab, s);
	assert_int_equal(lab->got_n, SOURCE_HEAD_BYTES + 1);
	assert_int_equal(lab->cut, 1);
	pipe_all(lab, s);
	assert_int_equal(lab->blocks, 1);
	stream_free(s);
	free(line);
}

/* Lines "N text" are dated N; others have no date. */
static bool number_date(void *ctx, struct slice line, int64_t *ret_s)
{
	unsigned *calls = ctx;
	int64_t v = 0;
	size_t i;

	(*calls)++;
	for (i = 0; i < line.n && line.p[i] >= '0' && line.p[i] <= '9' && i < 12; i++)
		v = v * 10 + (line.p[i] - '0');
	*ret_s = v;
	return i > 0;
}

static int64_t seek(struct lab *lab, int64_t since, unsigned *ret_calls)
{
	struct stat st;

	*ret_calls = 0;
	assert_int_equal(fstat(lab->fd, &st), 0);
	return source_seek_date(lab->fd, (uint64_t)st.st_size, since, number_date, ret_calls);
}

/* The line at this position; and that it is the start of one. */
static int64_t date_at(struct lab *lab, int64_t at)
{
	char text[32] = "";
	char before = '\n';

	assert_true(at >= 0);
	assert_true(pread(lab->fd, text, sizeof(text) - 1, at) > 0);
	if (at > 0)
		assert_int_equal(pread(lab->fd, &before, 1, at - 1), 1);
	assert_int_equal(before, '\n');
	return strtol(text, NULL, 10);
}

static void test_seek(void **state)
{
	struct lab *lab = *state;
	char *big = malloc(8u << 20), *p = big;
	unsigned calls;

	assert_int_equal(seek(lab, 5, &calls), 0);
	for (int i = 1; i <= 80000; i++) {
		p += sprintf(p, "%d some text in this line\n", i);
		if (i % 100 == 0)
			p += sprintf(p,
				     "Traceback (most recent call last):\n  File\n\nTypeError\n");
	}
	append(lab, big, (size_t)(p - big));
	for (int i = 1; i <= 80000; i += 997) {
		assert_int_equal(date_at(lab, seek(lab, i, &calls)), i);
		assert_true(calls < 12000);
	}
	assert_int_equal(seek(lab, 0, &calls), 0);
	assert_int_equal(seek(lab, 80001, &calls), p - big);
	assert_int_equal(date_at(lab, seek(lab, 80000, &calls)), 80000);
	free(big);
}

/* A time that jumped, single wrong dates, long stretches without any: never too late. */
static void test_seek_disorder(void **state)
{
	struct lab *lab = *state;
	char *big = malloc(16u << 20), *p = big;
	unsigned calls;

	for (int i = 1; i <= 60000; i++) {
		int wrong = i % 501 == 0 ? 1 : i % 1777 == 0 ? 99999999 : i;

		p += sprintf(p, "%d text of the line\n", i > 30000 ? wrong - 200 : wrong);
		if (i % 20000 == 0) {
			memset(p, 'x', 300 * 1000);
			p[300 * 1000] = '\n';
			p += 300 * 1000 + 1;
			for (int k = 0; k < 20000; k++)
				p += sprintf(p, "no date here\n");
		}
	}
	append(lab, big, (size_t)(p - big));
	for (int i = 100; i < 59000; i += 1013) {
		int64_t at = seek(lab, i, &calls);
		char *first = big;

		/* The first line of the run that is dated right. */
		while (strtol(first, NULL, 10) != i)
			first = strchr(first, '\n') + 1;
		date_at(lab, at);
		assert_true(at <= first - big);
	}
	free(big);
}

static void test_seek_no_dates(void **state)
{
	struct lab *lab = *state;
	char *line = long_line(900 * 1000);
	unsigned calls;

	append(lab, line, 900 * 1000);
	assert_int_equal(seek(lab, 1, &calls), 900 * 1000);
	append(lab, "7\n", 2);
	assert_int_equal(seek(lab, 1, &calls), 900 * 1000);
	append(lab, line, 900 * 1000 - 1);
	assert_int_equal(seek(lab, 8, &calls), 1800 * 1000 + 1);
	assert_int_equal(source_seek_date(-1, 10, 1, number_date, &calls), -EBADF);
	free(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_three_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_newline_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_position_in_long_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_in_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_regrown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fingerprint, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_regular, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_ends_in_long_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seek, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seek_disorder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seek_no_dates, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
