/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What outlives an engine: file positions, the line in hand, unsent bans, counters, the ledger.
 *
 * A memfd that the enforcer makes and gives to each new engine; only engines map it. When an engine
 * crashes, the line it had in hand is the guilty one: the next engine skips exactly that line and
 * goes on behind it, and every other line counts once. An engine that was killed from outside
 * (SIGKILL) did nothing wrong, its line is taken again.
 *
 * Pointer-free. A region of another shape (other jails, other sizes, damaged head) is formatted
 * afresh; each file row is checked against the file itself (device, inode, size) before it is
 * believed.
 */
#ifndef TAILBAN_ENGINE_RESUME_H
#define TAILBAN_ENGINE_RESUME_H

#include "daemon/base/hash.h"
#include "daemon/config/conf.h"
#include "daemon/enforcer/protocol.h"

#define RESUME_FILES 1024u
#define RESUME_SKIPS 1024u
#define RESUME_OUTBOX 2048u
#define RESUME_POISON_BYTES 8192u /* of a guilty line that are saved */

struct resume_file {
	uint64_t source; /* a hash of its patterns: two sources may read one file */
	uint64_t dev, ino;
	uint64_t offset;      /* everything before it is counted */
	uint64_t backlog_end; /* see detector_file */
	uint32_t fingerprint;
	uint32_t used; /* serial of the last use, 0 = free row */
};

/*
 * How far the offences of the line in hand are counted, for the engine that takes the line again
 * after a SIGKILL: an offence that is counted twice bans the innocent, one that reached its
 * threshold and was not dealt with is a lost ban.
 */
struct resume_step {
	uint64_t offset; /* of the line */
	uint32_t file;   /* row + 1; 0 = none */
	uint32_t before; /* offences in the window before the one under way */
	uint32_t state;  /* offences that are dealt with * 2, + 1 when one is under way */
};

struct resume_counters {
	uint64_t lines_read, bytes_read, poison_lines;
	uint64_t bans, unbans, kills, refused, unwitnessed, offences;
};

struct resume_head {
	uint64_t magic;
	uint8_t shape[16]; /* the configuration's digest */
	uint64_t ledger_at, ledger_bytes, growth_at, growth_bytes;
	struct hash_seed seed; /* of the ledger's distinct values */
	uint32_t serial;
	uint32_t hand_file; /* row + 1 of the line in hand, 0 = none */
	uint64_t hand_offset;
	struct resume_step step;
	uint32_t nskips;
	uint32_t outbox_count, outbox_sent; /* sent ones stay until the kernel has taken them */
	struct resume_counters counters;
	struct resume_file files[RESUME_FILES];
	struct {
		uint64_t dev, ino, offset;
	} skips[RESUME_SKIPS];
	struct protocol_ban outbox[RESUME_OUTBOX];
};

struct resume {
	struct resume_head *head;
	void *ledger, *growth;
	size_t bytes;
	bool kept;                /* taken over from an engine before */
	struct resume_step again; /* of the line that was in hand, as the engine before left it */
};

/* The size of the region for this configuration. */
size_t resume_bytes(const struct conf *conf);

/* Makes the memfd. Descriptor or negative errno. */
int resume_create(const struct conf *conf);

/* Lines read so far, without mapping the region: grows while an engine gets on. */
uint64_t resume_progress(int fd);

/*
 * Maps it. `crashed` says that the engine before died of its own fault: the line in hand, if any,
 * goes to the skips and its place into *ret_guilty (row and offset; row NULL when there was none).
 */
struct resume_guilty {
	const struct resume_file *file;
	uint64_t offset;
};
int resume_attach(int fd, const struct conf *conf, bool crashed, struct resume *ret_resume,
		  struct resume_guilty *ret_guilty);

/* The row of a file; made when it is new (the least recently used one goes when all are taken). */
struct resume_file *resume_file(struct resume *r, uint64_t source, uint64_t dev, uint64_t ino,
				bool *ret_known);

/* It is being read, so its row is not the one that goes. */
static inline void resume_use(struct resume *r, struct resume_file *f)
{
	if (f->used != r->head->serial)
		f->used = ++r->head->serial;
}

/* The line in hand ends at `offset` of its file: it is read, whatever comes now. */
static inline void resume_count(struct resume *r, uint64_t offset)
{
	if (!r->head->hand_file)
		return;
	r->head->counters.lines_read++;
	r->head->counters.bytes_read += offset - r->head->hand_offset;
}

/*
 * The line at this offset is being looked at; the hot path's few stores. A line is counted when the
 * next one begins, so one that is cut short by a crash is counted by the engine that gets past it.
 */
static inline void resume_line(struct resume *r, const struct resume_file *f, uint64_t offset)
{
	resume_count(r, offset);
	r->head->hand_offset = offset;
	__atomic_signal_fence(__ATOMIC_RELEASE);
	r->head->hand_file = (uint32_t)(f - r->head->files) + 1;
}

/* One offence of the line in hand: `before` are in the window without it. */
void resume_step_begin(struct resume *r, uint32_t before);
void resume_step_end(struct resume *r);

/* Everything before `offset` is done and no line is in hand. */
void resume_done(struct resume *r, struct resume_file *f, uint64_t offset);

bool resume_skips(const struct resume *r, const struct resume_file *f, uint64_t offset);

void resume_detach(struct resume *r);

#endif
