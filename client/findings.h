/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What doctor finds: each finding is a level, a sentence and, when it is not well, what to do.
 *
 * A finding is about something ("port 8001", "this machine"): findings about the same thing are
 * printed together. Texts are made of what may be printed as it is: strangers' bytes are escaped by
 * whoever makes the text. Out of memory ends the process with a sentence.
 */
#ifndef TAILBAN_CLIENT_FINDINGS_H
#define TAILBAN_CLIENT_FINDINGS_H

#include "client/text.h"

enum finding_level { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct finding {
	enum finding_level level;
	const char *about, *what; /* the caller's, for the life of the list; what: a word or two */
	char *text;
	char *remedy; /* lines; NULL = none */
};

struct findings {
	struct finding *list;
	size_t n, room;
};

__attribute__((format(printf, 5, 6))) void findings_add(struct findings *f,
							enum finding_level level, const char *about,
							const char *what, const char *format, ...);

/* A line of what to do about the finding that was added last. */
__attribute__((format(printf, 2, 3))) void findings_remedy(struct findings *f, const char *format,
							   ...);

bool findings_has(const struct findings *f, enum finding_level level);

/* Those about `about`, worst first. brief: the good ones are named in one line. */
void findings_print(const struct findings *f, const char *about, bool brief);

/* [{"level", "about", "what", "text", "remedy"}]; a new reference. */
json_t *findings_json(const struct findings *f);

void findings_free(struct findings *f);

#endif
