/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Suggestions: see suggest.h. Nothing fails; words that are too long are left without one. */
#include "daemon/config/suggest.h"

#include <stdio.h>
#include <string.h>

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Optimal string alignment, three rows of the table at a time. */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned rows[3][SUGGEST_MAX_WORD + 1];
	unsigned *before = rows[0], *last = rows[1], *row = rows[2];

	for (size_t j = 0; j <= nb; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *spare = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			row[j] = least(last[j] + 1, row[j - 1] + 1,
				       last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = last;
		last = row;
		row = spare;
	}
	return last[nb];
}

struct suggest suggest_for(const char *word)
{
	size_t n = strlen(word);

	return (struct suggest){.word = word, .distance = n < 6 ? 2 : (unsigned)(n / 3 + 1)};
}

void suggest_try(struct suggest *s, const char *candidate)
{
	size_t na = strlen(s->word), nb = strlen(candidate);
	unsigned d;

	if (na > SUGGEST_MAX_WORD || nb > SUGGEST_MAX_WORD)
		return;
	d = distance(s->word, na, candidate, nb);
	if (d >= s->distance)
		return;
	s->distance = d;
	memcpy(s->best, candidate, nb + 1);
}

const char *suggest_text(const struct suggest *s, char buf[static SUGGEST_STRLEN])
{
	if (s->best[0])
		snprintf(buf, SUGGEST_STRLEN, ", did you mean '%s'?", s->best);
	else
		buf[0] = 0;
	return buf;
}
