/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new configuration, all or nothing.
 *
 * The engine parses and compiles everything first; any error is answered with file and line and
 * nothing has changed. Then the enforcer parses for itself; only when both read the same does it
 * say yes, and then nothing can fail any more but memory. Bans, history and evidence stay; jails
 * are matched by name; logs that are still read go on at their positions.
 */
#include "daemon/base/log.h"
#include "daemon/engine/state.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void answer(struct engine *e, const struct error *err)
{
	void (*done)(void *, const struct error *) = e->reload_done;
	char text[1200];

	e->reloading = false;
	e->reload_done = NULL;
	if (err)
		log_error("reload", "refused, the old configuration stays: %s",
			  error_format(err, text, sizeof text));
	else
		log_notice("reload", "done: %zu jails", e->conf->njails);
	if (done)
		done(e->reload_arg, err);
}

static void forget_next(struct engine *e)
{
	if (e->next_conf)
		conf_free(e->next_conf);
	free(e->next_conf);
	e->next_conf = NULL;
}

static int parse(struct engine *e, struct error *err)
{
	struct conf_errors errs = {0};
	int r;

	e->next_conf = calloc(1, sizeof *e->next_conf);
	if (!e->next_conf)
		return error_set(err, -ENOMEM, "out of memory");
	if (e->start.conf_dir)
		r = conf_load(e->start.conf_dir, e->start.datadir, e->next_conf, &errs);
	else
		r = conf_quick(e->start.quick_paths, e->start.nquick_paths, e->start.datadir,
			       e->next_conf, &errs);
	if (r == 0)
		detector_check(e->next_conf, &errs);
	if (errs.count) {
		*err = errs.items[0];
		r = ERROR_CONFIG;
	}
	conf_errors_free(&errs);
	return r;
}

void reload_start(void *engine, void (*done)(void *arg, const struct error *err), void *arg)
{
	struct engine *e = engine;
	struct protocol_reload wanted = {0};
	struct error err = {0};

	if (e->reloading) {
		error_set(&err, -EBUSY, "a reload is under way");
		if (done)
			done(arg, &err);
		return;
	}
	e->reloading = true;
	e->reload_done = done;
	e->reload_arg = arg;
	if (parse(e, &err) < 0) {
		forget_next(e);
		answer(e, &err);
		return;
	}
	memcpy(wanted.digest, e->next_conf->digest, sizeof wanted.digest);
	if (channel_send(e->channel, PROTOCOL_RELOAD, &wanted, 1, -1) < 0) {
		error_set(&err, -EPIPE, "the enforcer does not answer");
		forget_next(e);
		answer(e, &err);
	}
}

/* Bans go on under the number that their jail has now; those of a jail that is gone stay in force.
 */
static void renumber(struct engine *e, const struct conf *old, const struct conf *new)
{
	struct bans *fresh = bans_new(new->maxbans);
	uint32_t cursor = 0;
	struct ban *b;

	if (!fresh) {
		log_error("reload", "out of memory: the ban list is not renumbered");
		return;
	}
	while ((b = bans_next(e->bans, &cursor))) {
		struct ban copy = *b, *entered = NULL;

		if (b->jail < old->njails) {
			copy.jail = PROTOCOL_JAIL_KERNEL;
			for (size_t i = 0; i < new->njails; i++)
				if (!strcmp(new->jails[i].name, old->jails[b->jail].name))
					copy.jail = (uint16_t)i;
		}
		if (bans_add(fresh, &copy, &entered) != BANS_FULL && entered)
			entered->confirmed = b->confirmed;
	}
	bans_free(e->bans);
	e->bans = fresh;
}

/* Positions, counters, and the ban history when its table has the same size. */
static void carry_over(const struct resume *old, const struct detector *old_detector,
		       struct resume *fresh)
{
	struct resume_head *h = fresh->head;

	memcpy(h->files, old->head->files, sizeof h->files);
	h->serial = old->head->serial;
	h->seed = old->head->seed;
	h->counters = old->head->counters;
	memcpy(h->skips, old->head->skips, sizeof h->skips);
	h->nskips = old->head->nskips;
	if (old->head->growth_bytes == h->growth_bytes)
		detector_copy_growth(old_detector, fresh->growth);
	else
		log_warning("reload", "maxtracked has changed: how often addresses were banned "
				      "before is forgotten");
}

/* What cannot be carried out now ends the engine; the next one starts with the new configuration.
 */
static void give_up(struct engine *e, const struct error *err)
{
	log_error("reload", "%s; starting again with the new configuration", err->text);
	e->exit_status = 4;
	ev_break(e->loop, EVBREAK_ALL);
}

static int put_in_force(struct engine *e, int fd, struct error *err)
{
	const struct conf *old = e->conf;
	struct conf *old_own = e->own_conf;
	struct resume fresh;
	struct resume_guilty guilty;
	struct detector *detector;
	int r;

	banlist_flush(e);
	channel_send(e->channel, PROTOCOL_RELOAD_TAKEN, &(struct protocol_ping){0}, 1, -1);
	r = resume_attach(fd, e->next_conf, false, &fresh, &guilty);
	if (r < 0)
		return error_set(err, r, "cannot map the new memory: %s", error_name(r));
	carry_over(&e->resume, e->detector, &fresh);
	renumber(e, old, e->next_conf);
	r = engine_make_detector(e, e->next_conf, &fresh, &detector, err);
	if (r < 0)
		return r;
	detector_carry(detector, e->detector);
	lines_close(e);
	detector_free(e->detector);
	resume_detach(&e->resume);
	e->resume = fresh;
	e->detector = detector;
	e->conf = e->own_conf = e->next_conf;
	e->next_conf = NULL;
	e->ncensuses = 0; /* they had the old numbers */
	engine_ignore_configured(e, e->conf);
	view_set_up(e);
	banlist_arm(e);
	r = lines_open(e, err);
	if (old_own) {
		conf_free(old_own);
		free(old_own);
	}
	return r;
}

void reload_finish(struct engine *e, const struct protocol_reload *done, int fd)
{
	struct error err = {0};

	if (done->result == 0 && (!e->next_conf || fd < 0)) {
		/* The enforcer has the new configuration and we cannot follow. */
		error_set(&err, -ENOBUFS, "the new memory did not arrive");
		give_up(e, &err);
		answer(e, &err);
	} else if (done->result < 0) {
		error_set(&err, done->result, "%s", done->text);
		forget_next(e);
		answer(e, &err);
	} else if (put_in_force(e, fd, &err) < 0) {
		give_up(e, &err);
		answer(e, &err);
	} else {
		answer(e, NULL);
	}
	if (fd >= 0)
		close(fd);
}
