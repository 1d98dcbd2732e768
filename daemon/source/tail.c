/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole lines of one file, through truncation, holes and lines without end.
 *
 * How it fails: -errno of fstat or pread; the position stays, so a later look goes on where this
 * one was.
 */
#include "daemon/source/tail.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define FINGERPRINT_BYTES 64u
#define FINGERPRINT_SHIFT 25

static char buffer[TAIL_KEEP_BYTES + SOURCE_BLOCK_BYTES];

static uint64_t fingerprint_length(uint32_t fingerprint)
{
	return fingerprint >> FINGERPRINT_SHIFT;
}

/* FNV-1a of the first n bytes, folded to 25 bits, with n above them; 0 when they cannot be read. */
static uint32_t fingerprint_of(int fd, size_t n)
{
	unsigned char head[FINGERPRINT_BYTES];
	ssize_t got = pread(fd, head, n, 0);
	uint32_t h = 2166136261u;

	if (got <= 0)
		return 0;
	for (ssize_t i = 0; i < got; i++)
		h = (h ^ head[i]) * 16777619u;
	h = (h ^ h >> FINGERPRINT_SHIFT) & ((1u << FINGERPRINT_SHIFT) - 1);
	return (uint32_t)got << FINGERPRINT_SHIFT | h;
}

uint32_t source_fingerprint(int fd)
{
	return fingerprint_of(fd, FINGERPRINT_BYTES);
}

bool source_fingerprint_fits(int fd, uint32_t fingerprint)
{
	uint64_t n = fingerprint_length(fingerprint);

	return n == 0 || (n <= FINGERPRINT_BYTES && fingerprint_of(fd, n) == fingerprint);
}

int tail_open(struct tail *t, int fd)
{
	struct stat st;

	*t = (struct tail){.fd = fd, .hole = true};
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	t->id = (struct source_file_id){st.st_dev, st.st_ino};
	t->size = (uint64_t)st.st_size;
	t->links = st.st_nlink;
	t->fingerprint = source_fingerprint(fd);
	return 0;
}

static void restart(struct tail *t)
{
	t->offset = t->scanned = 0;
	t->kept = 0;
	t->fingerprint = 0;
	t->hole = true;
	t->truncated++;
}

/* Remembers the bytes in front of `end`, of which `n` are at hand. */
static void keep(struct tail *t, const char *end, size_t n)
{
	t->kept = n < TAIL_KEEP_BYTES ? n : TAIL_KEEP_BYTES;
	memcpy(t->keep, end - t->kept, t->kept);
}

/* Start of the line in which `at` lies; 0 or -errno. */
static int line_start(int fd, uint64_t at, uint64_t *ret_start)
{
	while (at > 0) {
		size_t want = at < SOURCE_BLOCK_BYTES ? at : SOURCE_BLOCK_BYTES;
		ssize_t n = pread(fd, buffer, want, (off_t)(at - want));
		const char *newline;

		if (n < 0)
			return -errno;
		newline = memrchr(buffer, '\n', (size_t)n);
		if (newline) {
			*ret_start = at - want + (uint64_t)(newline - buffer) + 1;
			return 0;
		}
		at -= want;
	}
	*ret_start = 0;
	return 0;
}

int tail_start(struct tail *t, uint64_t offset)
{
	size_t want;
	ssize_t n;
	int r = line_start(t->fd, offset < t->size ? offset : t->size, &t->offset);

	if (r < 0)
		return r;
	t->scanned = t->offset;
	t->hole = t->offset == 0;
	want = t->offset < TAIL_KEEP_BYTES ? t->offset : TAIL_KEEP_BYTES;
	n = pread(t->fd, buffer, want, (off_t)(t->offset - want));
	if (n < 0)
		return -errno;
	if ((size_t)n == want)
		keep(t, buffer + want, want);
	return 0;
}

/* Reads what is new behind `scanned`; false when the bytes before it are not what they were. */
static bool read_on(struct tail *t, struct slice *ret_new, int *ret_err)
{
	ssize_t n =
		pread(t->fd, buffer, t->kept + SOURCE_BLOCK_BYTES, (off_t)(t->scanned - t->kept));

	*ret_new = SLICE_NONE;
	if (n < 0) {
		*ret_err = -errno;
		return true;
	}
	if ((size_t)n < t->kept || memcmp(buffer, t->keep, t->kept) != 0)
		return false;
	*ret_new = slice_of(buffer + t->kept, (size_t)n - t->kept);
	return true;
}

/* Goes past leading NULs, by seeking where they are a hole. Returns the bytes gone past. */
static uint64_t skip_hole(struct tail *t, struct slice *text)
{
	uint64_t from = t->scanned;
	size_t n = 0;
	off_t data;

	while (n < text->n && text->p[n] == '\0')
		n++;
	t->hole = n == text->n;
	*text = slice_skip(*text, n);
	t->offset = t->scanned = from + n;
	if (n)
		keep(t, text->p, n);
	if (!t->hole || n == 0)
		return n;
	data = lseek(t->fd, (off_t)t->scanned, SEEK_DATA);
	if (data > 0 && (uint64_t)data > t->scanned) {
		t->offset = t->scanned = (uint64_t)data;
		t->kept = 0;
	}
	return t->scanned - from;
}

/* The head of a line that is longer than a block and ends before `end`. */
static int64_t cut_line(struct tail *t, struct source_block *block, uint64_t end)
{
	uint64_t from = t->scanned;
	ssize_t n = pread(t->fd, buffer, SOURCE_HEAD_BYTES, (off_t)t->offset);

	if (n < 0)
		return -errno;
	buffer[n] = '\n';
	block->text = slice_of(buffer, (size_t)n + 1);
	block->cut = true;
	block->end = t->offset = t->scanned = end;
	t->lines++;
	t->cut++;
	return (int64_t)(end - from);
}

static uint64_t count_lines(struct slice text)
{
	uint64_t n = 0;

	for (size_t i = 0; i < text.n; i++)
		n += text.p[i] == '\n';
	return n;
}

/* Bytes come on since `from`; never 0, also when the file changed between two reads of one look. */
static int64_t advance(const struct tail *t, uint64_t from)
{
	return t->scanned > from ? (int64_t)(t->scanned - from) : 1;
}

/* Delivers the whole lines of what was read at `offset`. */
static int64_t whole_lines(struct tail *t, struct source_block *block, struct slice text,
			   size_t before)
{
	uint64_t from = t->scanned;
	const char *newline = memrchr(text.p, '\n', text.n);
	size_t n = newline ? (size_t)(newline - text.p) + 1 : 0;

	if (n == 0) {
		keep(t, text.p + text.n, before + text.n);
		t->scanned = t->offset + text.n;
		return advance(t, from);
	}
	block->text = slice_of(text.p, n);
	t->lines += count_lines(block->text);
	keep(t, text.p + n, before + n);
	block->end = t->offset = t->scanned = t->offset + n;
	return advance(t, from);
}

/* New bytes behind an unfinished line. */
static int64_t finish_line(struct tail *t, struct source_block *block, struct slice text)
{
	const char *newline = memchr(text.p, '\n', text.n);
	size_t n = newline ? (size_t)(newline - text.p) + 1 : text.n;
	uint64_t end = t->scanned + n;
	ssize_t got;

	if (!newline || end - t->offset > SOURCE_BLOCK_BYTES) {
		keep(t, text.p + n, t->kept + n);
		if (newline)
			return cut_line(t, block, end);
		t->scanned = end;
		return (int64_t)n;
	}
	got = pread(t->fd, buffer, SOURCE_BLOCK_BYTES, (off_t)t->offset);
	if (got < 0)
		return -errno;
	if ((uint64_t)got < end - t->offset)
		return 0; /* truncated since: the next look notices */
	return whole_lines(t, block, slice_of(buffer, (size_t)got), 0);
}

int64_t tail_read(struct tail *t, struct source_block *block)
{
	struct slice text;
	struct stat st;
	uint64_t skipped = 0;
	int64_t n;
	int err = 0;

	if (fstat(t->fd, &st) < 0)
		return -errno;
	t->size = (uint64_t)st.st_size;
	t->links = st.st_nlink;
	if (t->size < t->scanned || !read_on(t, &text, &err)) {
		restart(t);
		read_on(t, &text, &err);
	}
	if (err == 0 && t->size > fingerprint_length(t->fingerprint) &&
	    fingerprint_length(t->fingerprint) < FINGERPRINT_BYTES)
		t->fingerprint = source_fingerprint(t->fd);
	if (t->hole && text.n)
		skipped = skip_hole(t, &text);
	*block = (struct source_block){.offset = t->offset, .end = t->offset};
	if (err < 0 || text.n == 0)
		return err < 0 ? err : (int64_t)skipped;
	if (t->scanned == t->offset)
		n = whole_lines(t, block, text, t->kept);
	else
		n = finish_line(t, block, text);
	return n < 0 ? n : n + (int64_t)skipped;
}
