/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `name[opt=val, opt2="a,b"]` and lists of it: see ini.h. Fails with ERROR_CONFIG and the piece at
 * which the form breaks.
 */
#include "daemon/config/ini.h"
#include "daemon/config/textbuf.h"

#define MAX_ARGS 100u
#define MAX_SPECS 100u

struct reader {
	struct arena *arena;
	const struct text_at *where;
	struct slice rest;
	struct error *err;
};

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static int fail(struct reader *r, const char *what, struct slice text)
{
	char quoted[QUOTE_SIZE];

	return error_at(r->err, ERROR_CONFIG, r->where->file, r->where->line, "%s: '%s'", what,
			textbuf_quote(text, quoted));
}

static void skip_blanks(struct reader *r)
{
	while (r->rest.n && is_blank(r->rest.p[0]))
		r->rest = slice_skip(r->rest, 1);
}

/* What stands before the first byte of `stops`; the rest begins with that byte. */
static struct slice take(struct reader *r, const char *stops)
{
	size_t n = 0;
	struct slice piece;

	while (n < r->rest.n && !strchr(stops, r->rest.p[n]))
		n++;
	piece = slice_head(r->rest, n);
	r->rest = slice_skip(r->rest, n);
	return piece;
}

static int argument_value(struct reader *r, struct slice *ret_value)
{
	struct slice start;
	size_t end;

	skip_blanks(r);
	start = r->rest;
	if (!start.n || (start.p[0] != '"' && start.p[0] != '\'')) {
		*ret_value = slice_trim(take(r, ",]"));
		return 0;
	}
	end = slice_find(slice_skip(start, 1), start.p[0]);
	if (end == start.n - 1)
		return fail(r, "a quote is not closed", start);
	*ret_value = slice_trim(slice_head(slice_skip(start, 1), end));
	r->rest = slice_skip(start, end + 2);
	skip_blanks(r);
	if (r->rest.n && r->rest.p[0] != ',' && r->rest.p[0] != ']')
		return fail(r, "a comma or ] is missing behind a quoted value", r->rest);
	return 0;
}

/* `opt=val` or `opt?family=inet6=val`; an empty one (a comma too many) is left out. */
static int argument(struct reader *r, struct ini_spec *spec)
{
	struct slice start = r->rest, name = slice_trim(take(r, "=,]")), value;
	struct ini_var var;
	char *lower;
	int e;

	if (!name.n && (!r->rest.n || r->rest.p[0] != '='))
		return 0;
	if (!name.n || !r->rest.n || r->rest.p[0] != '=')
		return fail(r, "an argument is written opt=value", start);
	r->rest = slice_skip(r->rest, 1);
	if (slice_find(name, '?') < name.n) {
		take(r, "=,]");
		if (!r->rest.n || r->rest.p[0] != '=')
			return fail(r, "a condition is written opt?family=inet6=value", start);
		name.n = (size_t)(r->rest.p - name.p);
		r->rest = slice_skip(r->rest, 1);
	}
	e = argument_value(r, &value);
	if (e)
		return e;
	if (spec->nargs >= MAX_ARGS)
		return fail(r, "too many arguments", start);
	lower = arena_slicedup(r->arena, name);
	for (char *c = lower; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	var = (struct ini_var){lower, arena_slicedup(r->arena, value)};
	spec->args = arena_append(r->arena, spec->args, spec->nargs++, sizeof var, &var);
	return 0;
}

/* From behind '[' to behind ']'. */
static int arguments(struct reader *r, struct ini_spec *spec)
{
	struct slice start = r->rest;

	for (;;) {
		int e;

		skip_blanks(r);
		if (!r->rest.n)
			return fail(r, "the arguments have no ]", start);
		if (r->rest.p[0] == ']')
			break;
		e = argument(r, spec);
		if (e)
			return e;
		if (r->rest.n && r->rest.p[0] == ',')
			r->rest = slice_skip(r->rest, 1);
	}
	r->rest = slice_skip(r->rest, 1);
	return 0;
}

static int one_spec(struct reader *r, struct ini_spec *spec)
{
	struct slice start = r->rest;
	struct slice name = take(r, " \t\n\v\f\r,[");
	int e = 0;

	if (!name.n)
		return fail(r, "arguments without a name", start);
	if (slice_find(name, ']') < name.n)
		return fail(r, "a ] without its [", start);
	spec->name = arena_slicedup(r->arena, name);
	while (!e && r->rest.n && r->rest.p[0] == '[') {
		r->rest = slice_skip(r->rest, 1);
		e = arguments(r, spec);
	}
	return e;
}

int ini_specs(struct arena *arena, const struct text_at *text, struct ini_spec **ret_specs,
	      struct error *err)
{
	struct reader r = {arena, text, slice_str(text->text), err};
	struct ini_spec *specs = NULL;
	size_t count = 0;

	for (;;) {
		struct ini_spec spec = {0};
		int e;

		while (r.rest.n && (is_blank(r.rest.p[0]) || r.rest.p[0] == ','))
			r.rest = slice_skip(r.rest, 1);
		if (!r.rest.n)
			break;
		if (count >= MAX_SPECS)
			return fail(&r, "too many entries in the list", r.rest);
		e = one_spec(&r, &spec);
		if (e)
			return e;
		specs = arena_append(arena, specs, count++, sizeof spec, &spec);
	}
	*ret_specs = specs;
	return (int)count;
}

const char *ini_spec_argument(const struct ini_spec *spec, const char *name)
{
	const char *value = NULL;

	for (size_t i = 0; i < spec->nargs; i++)
		if (!strcmp(spec->args[i].name, name))
			value = spec->args[i].value;
	return value;
}
