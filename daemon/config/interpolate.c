/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interpolation of %(name)s and <name>: see ini.h. Fails with ERROR_CONFIG at the line that holds
 * the faulty reference; loops end at a limit of depth, steps or size.
 */
#include "daemon/config/ini.h"
#include "daemon/config/textbuf.h"

#include <strings.h>

struct expander {
	const struct ini *ini;
	const struct ini_var *vars;
	size_t nvars;
	unsigned steps;
	struct error *err;
};

/* What a reference leads to: a literal, or a value of `section`. */
struct target {
	const char *literal;
	const char *section;
	const struct ini_value *value;
};

/* The line on which position p of the value's text stands. */
static unsigned line_at(const struct ini_value *v, const char *p)
{
	unsigned line = v->line;

	for (const char *s = v->text; s < p; s++)
		line += *s == '\n';
	return v->line ? line : 0;
}

static int fail(struct expander *x, const struct ini_value *v, const char *p, const char *what)
{
	struct slice line = slice_str(p);
	char quoted[QUOTE_SIZE];

	line = slice_head(line, slice_find(line, '\n'));
	return error_at(x->err, ERROR_CONFIG, v->file, line_at(v, p), "%s: '%s'", what,
			textbuf_quote(line, quoted));
}

static const char *find_var(const struct expander *x, const char *name)
{
	for (size_t i = 0; i < x->nvars; i++)
		if (!strcmp(x->vars[i].name, name))
			return x->vars[i].value;
	return NULL;
}

/* The newest value of an option that is older than the file in which v stands. */
static const struct ini_value *known_value(const struct expander *x, const char *section,
					   const struct ini_value *v, const char *name)
{
	const struct ini_value *k;

	if (!strcmp(name, v->name) && v->known)
		return v->known;
	k = ini_own(x->ini, section, name);
	while (k && k->rank >= v->rank)
		k = k->known;
	if (k)
		return k;
	k = ini_own(x->ini, INI_DEFAULT, name);
	while (k && k->rank >= v->rank)
		k = k->known;
	return k;
}

/* Looks up the name of a %(reference)s that stands in v. False when there is no such thing. */
static bool resolve(const struct expander *x, const char *section, const struct ini_value *v,
		    const char *name, struct target *ret)
{
	const char *slash = strchr(name, '/');

	*ret = (struct target){.section = section};
	ret->literal = !strcmp(name, "__name__") ? section : NULL;
	if (ret->literal)
		return true;
	if (slash && !strncmp(name, "known/", 6)) {
		ret->value = known_value(x, section, v, slash + 1);
	} else if (slash && !strncasecmp(name, "default/", 8)) {
		ret->value = ini_own(x->ini, INI_DEFAULT, slash + 1);
	} else if (slash) {
		ret->section =
			arena_slicedup(x->ini->arena, slice_of(name, (size_t)(slash - name)));
		ret->value = ini_get(x->ini, ret->section, slash + 1);
	} else {
		ret->value = ini_get(x->ini, section, name);
	}
	if (!ret->value)
		ret->literal = find_var(x, name);
	return ret->value || ret->literal;
}

/* The name in "%(name)s" at p, option part in lower case; *ret_end is behind it. NULL: not one. */
static const char *reference_name(const struct expander *x, const char *p, const char **ret_end)
{
	const char *end = strchr(p, ')');
	char *name, *option;

	if (p[1] != '(' || !end || end[1] != 's' || end == p + 2)
		return NULL;
	name = arena_slicedup(x->ini->arena, slice_of(p + 2, (size_t)(end - p - 2)));
	option = strchr(name, '/') ? strchr(name, '/') + 1 : name;
	for (; *option; option++)
		if (*option >= 'A' && *option <= 'Z')
			*option = (char)(*option - 'A' + 'a');
	*ret_end = end + 2;
	return name;
}

static int expand(struct expander *x, const char *section, const struct ini_value *v,
		  const char *text, unsigned depth, struct textbuf *out);

/* "80%": a percent sign behind a digit that ends the text begins nothing. */
static bool is_per_cent(const char *text, const char *p)
{
	return !p[1] && p > text && p[-1] >= '0' && p[-1] <= '9';
}

/* One "%..." at *p, which is moved behind it. */
static int expand_percent(struct expander *x, const char *section, const struct ini_value *v,
			  const char **p, unsigned depth, struct textbuf *out)
{
	struct target target;
	const char *start = *p, *name;

	if (start[1] == '%') {
		textbuf_add(out, SLICE("%"));
		*p += 2;
		return 0;
	}
	name = reference_name(x, start, p);
	if (!name)
		return fail(x, v, start, "a percent sign is written %%, or begins a %(name)s");
	if (!resolve(x, section, v, name, &target))
		return fail(x, v, start, "the name in %(name)s is not defined");
	if (depth >= INI_MAX_DEPTH || ++x->steps > INI_MAX_STEPS)
		return fail(x, v, start, "interpolation without end, does it refer to itself?");
	if (target.value)
		return expand(x, target.section, target.value, target.value->text, depth + 1, out);
	textbuf_add(out, slice_str(target.literal));
	return 0;
}

/* `text` is all or a line of v's. */
static int expand(struct expander *x, const char *section, const struct ini_value *v,
		  const char *text, unsigned depth, struct textbuf *out)
{
	const char *p = text;

	while (*p) {
		size_t plain = strcspn(p, "%");
		int r = 0;

		textbuf_add(out, slice_of(p, plain));
		p += plain;
		if (*p && is_per_cent(text, p))
			textbuf_add(out, slice_of(p++, 1));
		else if (*p)
			r = expand_percent(x, section, v, &p, depth, out);
		if (r)
			return r;
		if (out->n > INI_MAX_TEXT)
			return fail(x, v, text, "interpolation gives more than 1 MiB");
	}
	return 0;
}

int ini_expand(const struct ini *ini, const char *section, const struct ini_value *value,
	       const struct ini_var *vars, size_t nvars, const char **ret_text, struct error *err)
{
	struct expander x = {ini, vars, nvars, 0, err};
	struct textbuf out = {.arena = ini->arena};
	int r = expand(&x, section, value, value->text, 0, &out);

	if (r)
		return r;
	*ret_text = textbuf_text(&out);
	return 0;
}

struct lines {
	struct arena *arena;
	struct text_at *items;
	size_t count, room;
};

/* Every line of the text that is not empty, all at one place. */
static void add_lines(struct lines *lines, const char *text, const char *file, unsigned line)
{
	struct slice rest = slice_str(text), piece;

	while (slice_next(&rest, "\n", &piece)) {
		struct text_at item = {NULL, file, line};

		piece = slice_trim(piece);
		if (!piece.n)
			continue;
		if (lines->count == lines->room) {
			struct text_at *old = lines->items;

			lines->room = lines->room ? lines->room * 2 : 8;
			lines->items = arena_array(lines->arena, lines->room, sizeof *old);
			if (old)
				memcpy(lines->items, old, lines->count * sizeof *old);
		}
		item.text = arena_slicedup(lines->arena, piece);
		lines->items[lines->count++] = item;
	}
}

static int value_lines(struct expander *x, const char *section, const struct ini_value *v,
		       unsigned depth, struct lines *lines);

static int one_line(struct expander *x, const char *section, const struct ini_value *v,
		    struct slice line, unsigned number, unsigned depth, struct lines *lines)
{
	struct ini_value alone = *v;
	struct textbuf out = {.arena = x->ini->arena};
	struct target target;
	const char *end, *name = NULL;
	int r;

	alone.text = arena_slicedup(x->ini->arena, line);
	alone.line = number;
	if (line.n && line.p[0] == '%')
		name = reference_name(x, alone.text, &end);
	if (name && !*end && depth < INI_MAX_DEPTH && ++x->steps <= INI_MAX_STEPS &&
	    resolve(x, section, v, name, &target) && target.value)
		return value_lines(x, target.section, target.value, depth + 1, lines);
	r = expand(x, section, &alone, alone.text, depth, &out);
	if (!r)
		add_lines(lines, textbuf_text(&out), v->file, number);
	return r;
}

static int value_lines(struct expander *x, const char *section, const struct ini_value *v,
		       unsigned depth, struct lines *lines)
{
	struct slice rest = slice_str(v->text), line;
	unsigned number = v->line;
	int r = 0;

	while (!r && slice_next(&rest, "\n", &line)) {
		if (line.n)
			r = one_line(x, section, v, line, number, depth, lines);
		number += v->line != 0;
		if (!r && lines->count > INI_MAX_STEPS)
			r = fail(x, v, v->text, "interpolation gives too many lines");
	}
	return r;
}

int ini_lines(const struct ini *ini, const char *section, const struct ini_value *value,
	      const struct ini_var *vars, size_t nvars, struct text_at **ret_lines,
	      struct error *err)
{
	struct expander x = {ini, vars, nvars, 0, err};
	struct lines lines = {.arena = ini->arena};
	int r = value_lines(&x, section, value, 0, &lines);

	if (r)
		return r;
	*ret_lines = lines.items;
	return (int)lines.count;
}

static bool text_refers(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = text; (at = strcasestr(at, name)); at += n)
		if (at > text &&
		    ((strchr("(/", at[-1]) && at[n] == ')') || (at[-1] == '<' && at[n] == '>')))
			return true;
	return false;
}

bool ini_refers(const struct ini *ini, const char *name)
{
	for (size_t i = 0; i < ini->count; i++)
		for (size_t k = 0; k < ini->sections[i].count; k++)
			if (text_refers(ini->sections[i].options[k].value->text, name))
				return true;
	return false;
}

/* The name of the <parameter> that begins at p, or an empty slice. */
static struct slice parameter(const char *start, const char *p)
{
	size_t n = strcspn(p + 1, "<> \t\n");

	if (p[1 + n] != '>' || n == 0 || (p - start >= 2 && p[-1] == 'P' && p[-2] == '?'))
		return SLICE_NONE; /* (?P<name>...) is a regex group */
	return slice_of(p + 1, n);
}

/* One round over the text: the count of parameters replaced, or negative. */
static int substitute_once(const char *text, ini_find_fn *find, void *context, struct textbuf *out,
			   struct error *err)
{
	const char *p = text;
	int replaced = 0;

	while (*p && out->n <= INI_MAX_TEXT) {
		size_t plain = strcspn(p, "<");
		const char *value;
		struct slice name;
		int r = 0;

		textbuf_add(out, slice_of(p, plain));
		p += plain;
		if (!*p)
			break;
		name = parameter(text, p);
		if (name.n)
			r = find(context, name, &value, err);
		if (r < 0)
			return r;
		if (r > 0) {
			textbuf_add(out, slice_str(value));
			p += name.n + 2;
			replaced++;
		} else {
			textbuf_add(out, SLICE("<"));
			p++;
		}
	}
	return replaced;
}

int ini_substitute(struct arena *arena, const struct text_at *text, ini_find_fn *find,
		   void *context, const char **ret_text, struct error *err)
{
	const char *now = text->text;
	char quoted[QUOTE_SIZE];

	for (unsigned round = 0; round < INI_MAX_DEPTH; round++) {
		struct textbuf out = {.arena = arena};
		int r = substitute_once(now, find, context, &out, err);

		if (r < 0)
			return r;
		if (out.n > INI_MAX_TEXT)
			break;
		if (r == 0) {
			*ret_text = now;
			return 0;
		}
		now = textbuf_text(&out);
	}
	return error_at(err, ERROR_CONFIG, text->file, text->line,
			"<parameters> without end, does one refer to itself?: '%s'",
			textbuf_quote(slice_str(text->text), quoted));
}
