/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines out of files, pipes and date searches, against plain models.
 *
 * The input is a list of steps on one log file: append text, append a long run of one byte, look,
 * truncate. What comes out must be the file's lines: nothing missing, nothing twice, each block
 * where it says it is. The bytes that are there at the end then go through a stream and a search.
 */
#include "daemon/source/stream.h"
#include "daemon/source/tail.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MODEL_MAX (4u << 20)

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

enum step { STEP_TEXT, STEP_RUN, STEP_LOOK, STEP_TRUNCATE, STEPS };

/* What the file holds, and how much of it was delivered. */
static struct {
	int fd;
	size_t n, at;
	char text[MODEL_MAX];
} model;

static struct tail tail;

static void append(const void *text, size_t n)
{
	if (n > MODEL_MAX - model.n)
		n = MODEL_MAX - model.n;
	memcpy(model.text + model.n, text, n);
	CHECK(pwrite(model.fd, text, n, (off_t)model.n) == (ssize_t)n);
	model.n += n;
}

static void append_run(char c, size_t n)
{
	static char run[64 * 1024];

	memset(run, c, sizeof(run));
	append(run, n < sizeof(run) ? n : sizeof(run));
}

/* Length of the line at `at` with its '\n'; 0 when it has none yet. */
static size_t line_length(const char *text, size_t at, size_t n)
{
	const char *end = n > at ? memchr(text + at, '\n', n - at) : NULL;

	return end ? (size_t)(end - (text + at)) + 1 : 0;
}

static void check_block(const struct source_block *b)
{
	/* NULs at the start of a file are taken for a hole. */
	while (model.at < b->offset && model.text[model.at] == '\0')
		model.at++;
	CHECK(b->offset == model.at);
	CHECK(b->end <= model.n);
	CHECK(b->text.p[b->text.n - 1] == '\n');
	CHECK(model.text[b->end - 1] == '\n');
	if (b->cut) {
		CHECK(b->end - b->offset > SOURCE_BLOCK_BYTES);
		CHECK(line_length(model.text, model.at, model.n) == b->end - b->offset);
		CHECK(b->text.n == SOURCE_HEAD_BYTES + 1);
	} else {
		CHECK(b->text.n == b->end - b->offset);
	}
	CHECK(memcmp(b->text.p, model.text + model.at, b->text.n - 1) == 0);
	model.at = b->end;
}

static void look(void)
{
	struct source_block b;
	int64_t n;

	while ((n = tail_read(&tail, &b)) > 0) {
		if (b.text.n)
			check_block(&b);
	}
	CHECK(n == 0);
	CHECK(line_length(model.text, model.at, model.n) == 0 || tail.offset == tail.size);
}

static void truncate_log(void)
{
	uint64_t before = tail.truncated;
	bool read = tail.scanned > 0;

	CHECK(ftruncate(model.fd, 0) == 0);
	model.n = model.at = 0;
	look();
	CHECK(tail.truncated - before == read);
}

static void run_steps(const uint8_t *data, size_t size)
{
	while (size >= 2) {
		size_t n = data[1];
		unsigned step = data[0] % STEPS;

		data += 2;
		size -= 2;
		if (step == STEP_TEXT) {
			n = n < size ? n : size;
			append(data, n);
			data += n;
			size -= n;
		} else if (step == STEP_RUN) {
			append_run((char)(data[-2] >> 2 ? 'x' : 0), n * n);
		} else if (step == STEP_LOOK) {
			look();
		} else {
			truncate_log();
		}
	}
	look();
}

/* The file's bytes as a pipe would give them. */
static void run_stream(void)
{
	struct stream *s = stream_new(dup(model.fd));
	struct source_block b;
	uint64_t at = 0;

	CHECK(s && lseek(s->fd, 0, SEEK_SET) == 0);
	do {
		CHECK(stream_read(s, &b) >= 0);
		if (b.text.n == 0)
			continue;
		CHECK(b.offset == at && b.end <= model.n);
		CHECK(b.text.p[b.text.n - 1] == '\n');
		CHECK(b.cut || b.text.n - (b.end - b.offset) <= (b.end == model.n));
		CHECK(memcmp(b.text.p, model.text + at, b.text.n - 1) == 0);
		at = b.end;
	} while (!s->ended);
	CHECK(at == model.n);
	stream_free(s);
}

/* A line is dated by its first byte. */
static bool first_byte(void *ctx, struct slice line, int64_t *ret_s)
{
	(void)ctx;
	if (line.n == 0 || line.p[0] < '0')
		return false;
	*ret_s = line.p[0];
	return true;
}

static void run_seek(void)
{
	for (int since = '0'; since < 128; since += 13) {
		int64_t at = source_seek_date(model.fd, model.n, since, first_byte, NULL);

		CHECK(at >= 0 && (uint64_t)at <= model.n);
		CHECK(at == 0 || (uint64_t)at == model.n || model.text[at - 1] == '\n');
		CHECK((uint64_t)at == model.n || model.text[at] >= since);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	model.fd = memfd_create("log", MFD_CLOEXEC);
	model.n = model.at = 0;
	CHECK(model.fd >= 0);
	CHECK(tail_open(&tail, model.fd) == 0);
	run_steps(data, size);
	run_stream();
	run_seek();
	close(model.fd);
	return 0;
}
