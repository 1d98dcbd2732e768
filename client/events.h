/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `tailban replay` tells: one JSON object a line, or a list of bans and a summary for people.
 *
 * {"event":"offence"|"ban"|"unban"|"refused","time","addr","prefix","jail","duration","line",
 * "file","offset","reason"}; duration in seconds, null for ever, 0 where there is none.
 */
#ifndef TAILBAN_CLIENT_EVENTS_H
#define TAILBAN_CLIENT_EVENTS_H

#include "daemon/engine/detector.h"

#define EVENTS_IGNORED_MAX 32u

struct events {
	const struct conf *conf;
	bool json, many_files;
	bool by_offset; /* lines were left out: their numbers say nothing */
	/* The line in hand. */
	const struct detector_file *file;
	uint64_t lines, offences, nbans, nrefused, unbans;
	int64_t first_s, last_s;
	struct bans *seen; /* every prefix that was banned once, for the summary */
	struct {
		struct addr addr;
		uint64_t count;
		struct ignore_hit why;
	} ignored[EVENTS_IGNORED_MAX];
	size_t nignored;
	uint64_t more_ignored; /* lines of those that found no place */
};

/* The three flags are the caller's. 0 or -ENOMEM. */
int events_init(struct events *e, const struct conf *conf);
void events_fini(struct events *e);

/* A line of this file comes next; the clock is at time_s. */
void events_at(struct events *e, const struct detector_file *file, int64_t time_s);

void events_offence(struct events *e, const struct detector_offence *o);
void events_refused(struct events *e, const struct detector_offence *o,
		    const struct ignore_hit *why);
void events_ban(struct events *e, const struct detector_offence *o, int64_t duration_s,
		unsigned before);
void events_unban(struct events *e, const struct ban *b);

/* For people; with json nothing. */
void events_summary(const struct events *e);

#endif
