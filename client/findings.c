/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Findings and how they are shown: see findings.h. Nothing fails but memory. */
#include "client/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT_WIDTH 12
#define TEXT_INDENT (5 + WHAT_WIDTH + 1)
#define REMEDY_INDENT 5

static const struct {
	const char *word;
	enum text_style style;
} levels[] = {
	[FINDING_OK] = {"OK", TEXT_GOOD},
	[FINDING_WARN] = {"WARN", TEXT_WARN},
	[FINDING_FAIL] = {"FAIL", TEXT_BAD},
};

__attribute__((format(printf, 1, 0))) static char *format_text(const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) < 0)
		client_no_memory();
	return text;
}

static struct finding *new_finding(struct findings *f)
{
	if (f->n == f->room) {
		size_t room = f->room ? f->room * 2 : 32;
		struct finding *grown = reallocarray(f->list, room, sizeof *grown);

		if (!grown)
			client_no_memory();
		f->list = grown;
		f->room = room;
	}
	return &f->list[f->n++];
}

void findings_add(struct findings *f, enum finding_level level, const char *about, const char *what,
		  const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	text = format_text(format, args);
	va_end(args);
	*new_finding(f) = (struct finding){level, about, what, text, NULL};
}

void findings_remedy(struct findings *f, const char *format, ...)
{
	struct finding *last;
	char *line, *both;
	va_list args;

	if (!f->n)
		return;
	last = &f->list[f->n - 1];
	va_start(args, format);
	line = format_text(format, args);
	va_end(args);
	if (!last->remedy) {
		last->remedy = line;
		return;
	}
	if (asprintf(&both, "%s\n%s", last->remedy, line) < 0)
		client_no_memory();
	free(last->remedy);
	free(line);
	last->remedy = both;
}

bool findings_has(const struct findings *f, enum finding_level level)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->list[i].level == level)
			return true;
	return false;
}

/* --- out -------------------------------------------------------------------------------------- */

static void print_remedy(const char *remedy)
{
	while (*remedy) {
		size_t n = strcspn(remedy, "\n");

		text_styled(TEXT_HEAD, "  -> ");
		text_wrapped(slice_of(remedy, n), REMEDY_INDENT);
		remedy += n + (remedy[n] == '\n');
	}
}

static void print_finding(const struct finding *finding)
{
	text_styled(levels[finding->level].style, "%-5s", levels[finding->level].word);
	printf("%-*s ", WHAT_WIDTH, finding->what);
	text_wrapped(slice_str(finding->text), TEXT_INDENT);
	if (finding->remedy)
		print_remedy(finding->remedy);
}

/* "OK   descriptors, memory, threads" */
static void print_good(const struct findings *f, const char *about)
{
	const char *between = "";
	char line[512];
	size_t n = 0;

	for (size_t i = 0; i < f->n && n < sizeof line; i++) {
		if (f->list[i].level != FINDING_OK || strcmp(f->list[i].about, about) != 0)
			continue;
		n += (size_t)snprintf(line + n, sizeof line - n, "%s%s", between, f->list[i].what);
		between = ", ";
	}
	if (!n)
		return;
	text_styled(levels[FINDING_OK].style, "%-5s", levels[FINDING_OK].word);
	text_wrapped(slice_str(line), REMEDY_INDENT);
}

void findings_print(const struct findings *f, const char *about, bool brief)
{
	for (int level = FINDING_FAIL; level >= (brief ? FINDING_WARN : FINDING_OK); level--)
		for (size_t i = 0; i < f->n; i++)
			if ((int)f->list[i].level == level && !strcmp(f->list[i].about, about))
				print_finding(&f->list[i]);
	if (brief)
		print_good(f, about);
}

json_t *findings_json(const struct findings *f)
{
	json_t *list = json_array();

	for (size_t i = 0; i < f->n; i++) {
		const struct finding *v = &f->list[i];

		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:s, s:s?}", "level",
						levels[v->level].word, "about", v->about, "what",
						v->what, "text", v->text, "remedy", v->remedy));
	}
	return list;
}

void findings_free(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->list[i].text);
		free(f->list[i].remedy);
	}
	free(f->list);
	*f = (struct findings){0};
}
