/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From sources to the detector: who opens files, where reading starts, what is remembered of each
 * file.
 *
 * A source that cannot be made (no memory, no inotify) fails the start with a sentence; later
 * troubles of single files are said once and shown in `status`.
 */
#include "daemon/base/escape.h"
#include "daemon/base/log.h"
#include "daemon/engine/state.h"
#include "daemon/source/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- files ------------------------------------------------------------------------------------ */

uint32_t lines_path_index(struct engine *e, const char *path)
{
	for (uint32_t i = 0; i < e->npaths; i++)
		if (!strcmp(e->paths[i], path))
			return i;
	if (e->npaths == ENGINE_PATHS)
		return EVIDENCE_NO_FILE;
	e->paths[e->npaths] = arena_strdup(&e->arena, path);
	return e->npaths++;
}

static bool skips_in(const struct resume *r, const struct resume_file *row)
{
	for (uint32_t i = 0; i < r->head->nskips; i++)
		if (r->head->skips[i].dev == row->dev && r->head->skips[i].ino == row->ino)
			return true;
	return false;
}

/* A row that was taken over from the file that was not used for longest. */
static void forget_row(struct engine *e, const struct resume_file *row)
{
	for (size_t i = 0; i < e->nsources; i++)
		for (struct engine_file **at = &e->sources[i].files, *f; (f = *at);) {
			if (f->row != row) {
				at = &f->next;
				continue;
			}
			*at = f->next;
			free(f);
		}
}

/* The file's memory; made at its first block or its start. Moves to the front. */
static struct engine_file *file_of(struct engine_source *s, const char *path,
				   struct source_file_id id, bool *ret_known)
{
	struct engine *e = s->engine;
	struct engine_file *f;

	*ret_known = true;
	for (struct engine_file **at = &s->files; (f = *at); at = &f->next) {
		if (f->row->ino != id.ino || f->row->dev != id.dev)
			continue;
		*at = f->next;
		f->next = s->files;
		s->files = f;
		resume_use(&e->resume, f->row);
		if (f->detector.path_index >= e->npaths)
			f->detector.path = path; /* not kept: good for this call */
		return f;
	}
	f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->row = resume_file(&e->resume, s->hash, id.dev, id.ino, ret_known);
	forget_row(e, f->row);
	f->detector.path_index = (uint16_t)lines_path_index(e, path);
	f->detector.path = path;
	if (f->detector.path_index < e->npaths)
		f->detector.path = e->paths[f->detector.path_index];
	f->detector.backlog_end = f->row->backlog_end;
	f->has_skips = *ret_known && skips_in(&e->resume, f->row);
	f->next = s->files;
	s->files = f;
	return f;
}

static struct engine_file *file_behind(const struct detector_file *d)
{
	return (struct engine_file *)(uintptr_t)((const char *)d -
						 offsetof(struct engine_file, detector));
}

/* --- hooks of the detector -------------------------------------------------------------------- */

void lines_begins(void *ctx, const struct detector_file *file, uint64_t offset)
{
	struct engine *e = ctx;

	resume_line(&e->resume, file_behind(file)->row, offset);
}

/*
 * The line that was in hand when an engine was killed comes again. What is dealt with is passed
 * over; the offence that was under way has been counted when its record is not as it was before.
 */
static enum detector_again again(struct engine *e, const struct engine_file *f, uint64_t offset,
				 unsigned before)
{
	struct resume_step *s = &e->resume.again;

	if (!s->file || f->row != &e->resume.head->files[s->file - 1] || s->offset != offset)
		return DETECTOR_NEW;
	if (s->state >= 2) {
		s->state -= 2;
		return DETECTOR_DONE;
	}
	s->file = 0;
	return s->state && before != s->before ? DETECTOR_COUNTED : DETECTOR_NEW;
}

enum detector_again lines_counting(void *ctx, const struct detector_offence *o, unsigned before)
{
	struct engine *e = ctx;
	enum detector_again verdict = again(e, file_behind(o->file), o->offset, before);

	if (verdict == DETECTOR_NEW)
		resume_step_begin(&e->resume, before);
	return verdict;
}

void lines_counted(void *ctx)
{
	struct engine *e = ctx;

	resume_step_end(&e->resume);
}

/* Saves what an engine died of, for whoever looks into it: the head of the line, as it is. */
static void save_guilty(struct engine *e, const struct detector_file *file, uint64_t offset,
			struct slice line)
{
	char path[PATH_MAX], text[256];
	int fd;

	log_error("engine",
		  "the line at %s:%llu ended the engine before this one; it is skipped: %s",
		  file->path, (unsigned long long)offset, escape_text(text, sizeof text, line));
	/* The first configuration's: a reload does not move the state directory. */
	snprintf(path, sizeof path, "%s/guilty-lines", e->start.conf->statedir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		log_warning("engine", "cannot save it to '%s': %s", path, strerror(errno));
		return;
	}
	if (lseek(fd, 0, SEEK_END) < (off_t)(RESUME_POISON_BYTES * 128u)) {
		dprintf(fd, "%s:%llu\n", file->path, (unsigned long long)offset);
		line = slice_head(line, RESUME_POISON_BYTES);
		if (write(fd, line.p, line.n) < 0 || write(fd, "\n", 1) < 0)
			log_warning("engine", "cannot save it to '%s': %s", path, strerror(errno));
	}
	close(fd);
}

bool lines_skip(void *ctx, const struct detector_file *file, uint64_t offset, struct slice line)
{
	struct engine *e = ctx;
	struct engine_file *f = file_behind(file);

	if (!f->has_skips || !resume_skips(&e->resume, f->row, offset))
		return false;
	save_guilty(e, file, offset, line);
	return true;
}

void lines_named(void *ctx, const struct addr *host, bool partner)
{
	struct engine *e = ctx;

	tally_line(e->tally, host, partner, e->last_wall_s);
}

void lines_owes(void *ctx, const struct addr *host)
{
	struct engine *e = ctx;

	tally_owe(e->tally, host, e->last_wall_s);
}

bool lines_owed(void *ctx, const struct addr *host)
{
	const struct engine *e = ctx;

	return tally_owed(e->tally, host, e->last_wall_s);
}

void lines_notice(void *ctx, const struct detector_file *file, const char *text)
{
	(void)ctx;
	log_warning("source", "%s: %s", file->path, text);
}

/* --- hooks of the sources --------------------------------------------------------------------- */

static void on_open(void *ctx, struct source *source)
{
	struct engine_source *s = ctx;
	const struct protocol_open o = {.source = s->index, .generation = s->engine->generation};

	(void)source;
	if (channel_send(s->engine->channel, PROTOCOL_OPEN, &o, 1, -1) < 0)
		log_error("source", "cannot ask the enforcer to open %s", s->conf->name);
}

struct date_search {
	struct engine_source *s;
	int64_t now_s;
};

static bool date_of(void *ctx, struct slice line, int64_t *ret_s)
{
	const struct date_search *search = ctx;

	return detector_date(search->s->engine->detector, search->s->conf->jails,
			     search->s->conf->nreaders, line, search->now_s, ret_s);
}

/* Where the engine before stopped; else the first line within findtime; else the end. */
static int64_t on_start(void *ctx, struct source *source, const char *path,
			struct source_file_id id, int fd, uint64_t size, uint32_t fingerprint)
{
	struct engine_source *s = ctx;
	struct date_search search = {s, clock_wall_s(clock_now())};
	int64_t findtime_s =
		detector_findtime(s->engine->detector, s->conf->jails, s->conf->nreaders);
	struct engine_file *f;
	int64_t offset;
	bool known;

	(void)source;
	f = file_of(s, path, id, &known);
	if (!f)
		return (int64_t)size;
	if (known && f->row->offset <= size && source_fingerprint_fits(fd, f->row->fingerprint))
		return (int64_t)f->row->offset;
	offset = s->conf->tail
			 ? (int64_t)size
			 : source_seek_date(fd, size, search.now_s - findtime_s, date_of, &search);
	if (offset < 0)
		offset = (int64_t)size;
	f->row->fingerprint = fingerprint;
	f->row->offset = (uint64_t)offset;
	f->row->backlog_end = f->detector.backlog_end = size;
	return offset;
}

/* EMFILE of whatever call; the address beside it belongs to an innocent client, so it names nobody.
 */
static bool says_exhausted(struct slice text)
{
	static const char words[] = "Too many open files";

	return memmem(text.p, text.n, words, sizeof words - 1) != NULL;
}

static void on_lines(void *ctx, struct source *source, const char *path, struct source_file_id id,
		     const struct source_block *block)
{
	struct engine_source *s = ctx;
	struct engine *e = s->engine;
	struct now now = clock_now();
	bool known;
	struct engine_file *f = file_of(s, path, id, &known);

	if (!f)
		return;
	if (clock_wall_s(now) + DETECTOR_OFF_BY_S < e->last_wall_s)
		detector_clock_back(e->detector, clock_wall_s(now));
	e->last_wall_s = clock_wall_s(now);
	/* Truncated and written anew: nothing of it was there when we came. */
	if (block->offset < f->row->offset && f->row->backlog_end) {
		f->row->backlog_end = f->detector.backlog_end = 0;
		f->has_skips = false;
	}
	if (e->has_sockets_jail && says_exhausted(block->text))
		sockets_exhausted(e);
	if (s->conf->nreaders)
		detector_block(e->detector, &f->detector, s->conf->jails, s->conf->nreaders,
			       block->text, block->offset, now, true);
	resume_done(&e->resume, f->row, block->end);
	if (!source_busy(source))
		s->busy_since_ns = 0;
	else if (!s->busy_since_ns)
		s->busy_since_ns = now.mono_ns;
}

static void on_event(void *ctx, struct source *source, const char *path, enum source_event event,
		     int err)
{
	struct engine_source *s = ctx;
	char text[512];

	(void)source;
	escape_text(text, sizeof text, slice_str(path));
	switch (event) {
	case SOURCE_WAITING:
		log_warning("source", "%s does not exist (yet); waiting for it", text);
		break;
	case SOURCE_UNREADABLE:
		log_error("source", "%s cannot be read: %s", text, error_name(err));
		break;
	case SOURCE_END:
		log_notice("source", "%s has ended", text);
		s->ended = true;
		s->engine->ending = true;
		break;
	case SOURCE_OPENED:
	case SOURCE_ROTATED:
	case SOURCE_TRUNCATED:
	case SOURCE_GONE:
		log_info("source", "%s: %s", text, source_event_name(event));
		break;
	}
}

static const struct source_hooks hooks = {
	.open = on_open, .lines = on_lines, .start = on_start, .event = on_event};

/* --- answers of the enforcer ------------------------------------------------------------------ */

static struct source *source_at(struct engine *e, uint32_t index, uint32_t generation)
{
	if (generation != e->generation || index >= e->nsources)
		return NULL;
	return e->sources[index].source;
}

void lines_file(struct engine *e, const struct protocol_file *f, int fd)
{
	struct source *s = source_at(e, f->source, f->generation);

	if (s)
		source_file(s, f->path, fd, f->error);
	else if (fd >= 0)
		close(fd);
}

void lines_dir(struct engine *e, const struct protocol_file *f, int fd)
{
	struct source *s = source_at(e, f->source, f->generation);

	if (s)
		source_dir(s, f->path, fd, f->entries);
	else
		close(fd);
}

void lines_opened(struct engine *e, const struct protocol_open *o)
{
	struct source *s = source_at(e, o->source, o->generation);

	if (!s)
		return;
	if (o->left_out)
		log_warning("source", "%s: %u files are too many and left out",
			    e->sources[o->source].conf->name, o->left_out);
	source_opened(s);
}

/* --- life ------------------------------------------------------------------------------------- */

static int ask_for_watch(void *ctx, uint32_t token, int fd, uint32_t mask)
{
	struct engine *e = ctx;
	const struct protocol_watch w = {.token = token, .mask = mask};

	return channel_send(e->channel, PROTOCOL_WATCH, &w, 1, fd);
}

/* Tells the positions of different sources apart, over restarts of the engine and reloads. */
static uint64_t hash_of(const struct source_conf *s)
{
	static const struct hash_seed fixed = {1, 2};
	uint64_t sum = (uint64_t)s->backend;

	for (size_t i = 0; i < s->npatterns; i++)
		sum = sum * 31 +
		      hash_bytes(&fixed, s->patterns[i].text, strlen(s->patterns[i].text));
	return sum;
}

static int share_inotify(struct engine *e, struct error *err)
{
	int r = watch_init(e->loop);

	if (r < 0)
		return error_set(err, r, "cannot use inotify: %s", error_name(r));
	watch_set_helper(ask_for_watch, e);
	return channel_send(e->channel, PROTOCOL_INOTIFY, &(struct protocol_ping){0}, 1,
			    watch_fd());
}

int lines_open(struct engine *e, struct error *err)
{
	struct source_conf *list = sources_list(e->conf, &e->list, &e->nsources);

	e->has_sockets_jail = sockets_watched(e);
	e->generation++;
	if (watch_fd() < 0) {
		int r = share_inotify(e, err);

		if (r < 0)
			return r;
	}
	e->sources = calloc(e->nsources ? e->nsources : 1, sizeof *e->sources);
	if (!e->sources)
		return error_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < e->nsources; i++) {
		struct engine_source *s = &e->sources[i];

		s->engine = e;
		s->index = i;
		s->conf = &list[i];
		s->hash = hash_of(s->conf);
		if (list[i].backend == BACKEND_STDIN)
			s->source = source_stdin(e->loop, s->conf->name, STDIN_FILENO, &hooks, s);
		else
			s->source = source_new(e->loop, s->conf->name,
					       list[i].backend == BACKEND_POLLING, &hooks, s);
		if (!s->source)
			return error_set(err, -ENOMEM, "out of memory");
		source_begin(s->source);
	}
	return 0;
}

void lines_close(struct engine *e)
{
	for (size_t i = 0; i < e->nsources; i++) {
		struct engine_source *s = &e->sources[i];
		struct engine_file *f = s->files;

		source_free(s->source);
		while (f) {
			struct engine_file *next = f->next;

			free(f);
			f = next;
		}
	}
	free(e->sources);
	e->sources = NULL;
	e->nsources = 0;
	arena_free(&e->list);
}

bool lines_all_ready(const struct engine *e)
{
	for (size_t i = 0; i < e->nsources; i++)
		if (!source_ready(e->sources[i].source))
			return false;
	return true;
}

uint32_t lines_file_count(const struct engine *e)
{
	uint32_t files = 0;

	for (size_t i = 0; i < e->nsources; i++)
		files += source_totals(e->sources[i].source).files;
	return files;
}
