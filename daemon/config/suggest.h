/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "did you mean": the nearest of the names that would have been right.
 *
 *	struct suggest s = suggest_for("bantme");
 *	suggest_try(&s, "bantime"); ...
 *	suggest_text(&s, buf)	->  ", did you mean 'bantime'?" or ""
 *
 * Distance is the number of letters to insert, delete, change or swap with the next one. A
 *candidate counts up to a third of the word's length, at least one.
 */
#ifndef TAILBAN_CONFIG_SUGGEST_H
#define TAILBAN_CONFIG_SUGGEST_H

#define SUGGEST_MAX_WORD 48 /* longer words get no suggestion */
#define SUGGEST_STRLEN 80

struct suggest {
	const char *word;
	char best[SUGGEST_MAX_WORD + 1]; /* empty while there is none */
	unsigned distance;
};

struct suggest suggest_for(const char *word);
void suggest_try(struct suggest *s, const char *candidate);
const char *suggest_text(const struct suggest *s, char buf[static SUGGEST_STRLEN]);

#endif
