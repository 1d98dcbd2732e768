/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log files line by line: see logreader.h. */
#include "client/logreader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0 at the end of the file, 1 when there is more, negative errno. */
static int fill(struct logreader *r)
{
	ssize_t n;

	if (r->eof)
		return 0;
	memmove(r->buf, r->buf + r->at, r->n - r->at);
	r->n -= r->at;
	r->at = 0;
	do
		n = read(r->fd, r->buf + r->n, LOGREADER_BLOCK - r->n);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r->eof = n == 0;
	r->n += (size_t)n;
	return n > 0;
}

int logreader_open(struct logreader *r, const char *path)
{
	struct stat st;
	int more;

	*r = (struct logreader){.fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
					   : dup(STDIN_FILENO)};
	if (r->fd < 0)
		return -errno;
	if (fstat(r->fd, &st) == 0 && S_ISDIR(st.st_mode))
		return -EISDIR;
	r->buf = malloc(LOGREADER_BLOCK + 1); /* one for a missing newline */
	if (!r->buf)
		return -ENOMEM;
	more = fill(r);
	return more < 0 ? more : 0;
}

void logreader_close(struct logreader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	free(r->buf);
	*r = (struct logreader){.fd = -1};
}

struct slice logreader_ahead(const struct logreader *r)
{
	return slice_of(r->buf + r->at, r->n - r->at);
}

bool logreader_is_compressed(const struct logreader *r)
{
	static const struct slice magics[] = {{"\x1f\x8b", 2},
					      {"\xfd"
					       "7zXZ",
					       5},
					      {"BZh", 3},
					      {"\x28\xb5\x2f\xfd", 4}};
	struct slice head = logreader_ahead(r);

	for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
		if (slice_starts(head, magics[i]))
			return true;
	return false;
}

int logreader_seek_date(struct logreader *r, int64_t since_s, source_date_fn *date, void *ctx)
{
	struct stat st;
	int64_t at;

	if (fstat(r->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	at = source_seek_date(r->fd, (uint64_t)st.st_size, since_s, date, ctx);
	if (at < 0)
		return (int)at;
	if (lseek(r->fd, at, SEEK_SET) < 0)
		return -errno;
	r->at = r->n = 0;
	r->offset = (uint64_t)at;
	r->eof = false;
	at = fill(r);
	return at < 0 ? (int)at : 0;
}

static struct slice hand_out(struct logreader *r, size_t n)
{
	struct slice line = slice_of(r->buf + r->at, n);

	r->at += n;
	r->offset += n;
	return line;
}

/* The block is full and has no newline: its head is the line, the rest of it is passed over. */
static int long_line(struct logreader *r, struct slice *ret_line)
{
	static char head[SOURCE_HEAD_BYTES];
	size_t end;
	int more;

	memcpy(head, r->buf + r->at, sizeof head - 1);
	head[sizeof head - 1] = '\n';
	do {
		hand_out(r, r->n - r->at);
		more = fill(r);
		end = slice_find(slice_of(r->buf + r->at, r->n - r->at), '\n');
	} while (more > 0 && end == r->n - r->at);
	hand_out(r, end < r->n - r->at ? end + 1 : r->n - r->at);
	*ret_line = slice_of(head, sizeof head);
	return more < 0 ? more : 1;
}

int logreader_next(struct logreader *r, struct slice *ret_line, uint64_t *ret_offset)
{
	for (;;) {
		size_t left = r->n - r->at, end = slice_find(slice_of(r->buf + r->at, left), '\n');
		int more;

		*ret_offset = r->offset;
		if (end < left) {
			*ret_line = hand_out(r, end + 1);
			return 1;
		}
		if (left == LOGREADER_BLOCK)
			return long_line(r, ret_line);
		more = fill(r);
		if (more < 0)
			return more;
		if (more == 0 && !left)
			return 0;
		if (more == 0) {
			r->buf[r->n++] = '\n';
			*ret_line = hand_out(r, left + 1);
			return 1;
		}
	}
}
