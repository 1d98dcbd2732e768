/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What outlives an engine: see resume.h. Creating and mapping fail with errno; nothing else fails.
 */
#include "daemon/engine/resume.h"
#include "daemon/engine/detector.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x74616c62616e3031)
#define PAGE UINT64_C(4096)

struct layout {
	uint64_t ledger_at, ledger_bytes, growth_at, growth_bytes, total;
};

static uint64_t round_up(uint64_t n)
{
	return (n + PAGE - 1) & ~(PAGE - 1);
}

static struct layout lay_out(const struct conf *conf)
{
	struct layout l = {.ledger_at = round_up(sizeof(struct resume_head))};
	size_t ledger, growth;

	detector_sizes(conf, &ledger, &growth);
	l.ledger_bytes = ledger;
	l.growth_at = l.ledger_at + round_up(ledger);
	l.growth_bytes = growth;
	l.total = l.growth_at + round_up(growth);
	return l;
}

size_t resume_bytes(const struct conf *conf)
{
	return lay_out(conf).total;
}

int resume_create(const struct conf *conf)
{
	int fd = memfd_create("tailban-resume", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)resume_bytes(conf)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

uint64_t resume_progress(int fd)
{
	uint64_t lines = 0;
	const off_t at = offsetof(struct resume_head, counters.lines_read);

	return pread(fd, &lines, sizeof lines, at) == (ssize_t)sizeof lines ? lines : 0;
}

static bool same_shape(const struct resume_head *h, const struct layout *l, const struct conf *conf)
{
	return h->magic == MAGIC && !memcmp(h->shape, conf->digest, sizeof h->shape) &&
	       h->ledger_at == l->ledger_at && h->ledger_bytes == l->ledger_bytes &&
	       h->growth_at == l->growth_at && h->growth_bytes == l->growth_bytes &&
	       h->nskips <= RESUME_SKIPS && h->outbox_count <= RESUME_OUTBOX;
}

static void format(struct resume_head *h, const struct layout *l, const struct conf *conf)
{
	memset(h, 0, sizeof *h);
	memcpy(h->shape, conf->digest, sizeof h->shape);
	h->ledger_at = l->ledger_at;
	h->ledger_bytes = l->ledger_bytes;
	h->growth_at = l->growth_at;
	h->growth_bytes = l->growth_bytes;
	h->seed = hash_seed_new();
	h->magic = MAGIC;
}

/* The line in hand becomes the position of its file and, after a crash, a line to skip. */
static void take_over(struct resume_head *h, bool crashed, struct resume_guilty *ret_guilty,
		      struct resume_step *ret_again)
{
	struct resume_file *f;

	if (!h->hand_file || h->hand_file > RESUME_FILES) {
		h->hand_file = h->step.file = 0;
		return;
	}
	if (h->step.file == h->hand_file && h->step.offset == h->hand_offset)
		*ret_again = h->step;
	f = &h->files[h->hand_file - 1];
	f->offset = h->hand_offset;
	h->hand_file = 0;
	if (!crashed)
		return;
	ret_guilty->file = f;
	ret_guilty->offset = f->offset;
	if (h->nskips == RESUME_SKIPS) {
		memmove(h->skips, h->skips + 1, sizeof h->skips - sizeof h->skips[0]);
		h->nskips--;
	}
	h->skips[h->nskips].dev = f->dev;
	h->skips[h->nskips].ino = f->ino;
	h->skips[h->nskips].offset = f->offset;
	h->nskips++;
	h->counters.poison_lines++;
}

int resume_attach(int fd, const struct conf *conf, bool crashed, struct resume *ret_resume,
		  struct resume_guilty *ret_guilty)
{
	struct layout l = lay_out(conf);
	void *map = mmap(NULL, l.total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	*ret_guilty = (struct resume_guilty){0};
	if (map == MAP_FAILED)
		return -errno;
	*ret_resume = (struct resume){.head = map, .bytes = l.total};
	ret_resume->kept = same_shape(map, &l, conf);
	((struct resume_head *)map)->outbox_sent = 0;
	if (ret_resume->kept)
		take_over(map, crashed, ret_guilty, &ret_resume->again);
	else
		format(map, &l, conf);
	ret_resume->ledger = (char *)map + l.ledger_at;
	ret_resume->growth = (char *)map + l.growth_at;
	return 0;
}

struct resume_file *resume_file(struct resume *r, uint64_t source, uint64_t dev, uint64_t ino,
				bool *ret_known)
{
	struct resume_head *h = r->head;
	struct resume_file *oldest = &h->files[0];

	for (size_t i = 0; i < RESUME_FILES; i++) {
		struct resume_file *f = &h->files[i];

		if (f->used && f->dev == dev && f->ino == ino && f->source == source) {
			f->used = ++h->serial;
			*ret_known = true;
			return f;
		}
		if (f->used < oldest->used)
			oldest = f;
	}
	*oldest =
		(struct resume_file){.source = source, .dev = dev, .ino = ino, .used = ++h->serial};
	*ret_known = false;
	return oldest;
}

void resume_done(struct resume *r, struct resume_file *f, uint64_t offset)
{
	resume_count(r, offset);
	/* In this order a SIGKILL between any two stores leaves the same position. */
	r->head->hand_offset = offset;
	__atomic_signal_fence(__ATOMIC_RELEASE);
	f->offset = offset;
	__atomic_signal_fence(__ATOMIC_RELEASE);
	r->head->hand_file = 0;
	__atomic_signal_fence(__ATOMIC_RELEASE);
	r->head->step.file = 0;
}

/* Each store leaves something true, whenever a SIGKILL comes. */
void resume_step_begin(struct resume *r, uint32_t before)
{
	struct resume_head *h = r->head;
	struct resume_step *s = &h->step;

	if (s->file != h->hand_file || s->offset != h->hand_offset) {
		s->file = 0;
		__atomic_signal_fence(__ATOMIC_RELEASE);
		s->offset = h->hand_offset;
		s->state = 0;
		__atomic_signal_fence(__ATOMIC_RELEASE);
		s->file = h->hand_file;
	}
	s->before = before;
	__atomic_signal_fence(__ATOMIC_RELEASE);
	s->state |= 1;
	__atomic_signal_fence(__ATOMIC_RELEASE);
}

void resume_step_end(struct resume *r)
{
	__atomic_signal_fence(__ATOMIC_RELEASE);
	r->head->step.state = (r->head->step.state | 1) + 1;
	__atomic_signal_fence(__ATOMIC_RELEASE);
}

bool resume_skips(const struct resume *r, const struct resume_file *f, uint64_t offset)
{
	for (uint32_t i = 0; i < r->head->nskips; i++)
		if (r->head->skips[i].offset == offset && r->head->skips[i].ino == f->ino &&
		    r->head->skips[i].dev == f->dev)
			return true;
	return false;
}

void resume_detach(struct resume *r)
{
	if (r->head)
		munmap(r->head, r->bytes);
	*r = (struct resume){0};
}
