/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The INI dialect of fail2ban: files merged in order, each value with the place it came from.
 *
 * Grammar. `[section]` and `[section?condition]`; `name = value` or `name: value`; a line indented
 * deeper than its option continues the value; `#` and `;` at the start of a line, and `;` after a
 * blank, start a comment. Option names are folded to lower case. Blank and comment lines inside a
 * value stay as empty lines, so the n-th line of a value is the n-th line after its option. CRLF
 * and a byte order mark are tolerated; NUL, bad UTF-8, lines above INI_MAX_LINE and text outside a
 * section are errors at their line.
 *
 * Merging. A later value of an option wins and keeps the one before it as `known`. `[INCLUDES]
 * before` and `after` name files relative to the including one; the `.local` beside each is read
 * after it. A missing include is an error unless its name ends in `.local`; so is a file that
 * includes itself.
 *
 * Interpolation is late, after all files are merged:
 *   %(name)s  the section's option, else [DEFAULT]'s      %(section/name)s, %(default/name)s
 *   %(known/name)s  its value before this file            %(__name__)s  the section's name
 *   %%  a percent sign; a single one that ends the value behind a digit (80%) is one too
 *   <name>, <section/name>, <known/name>  parameters of filters and actions, by ini_substitute
 * Depth, steps and the size of the result are limited (INI_MAX_*).
 *
 * Everything lives in the arena given to ini_init. Functions that return int give 0 or a count, or
 * ERROR_CONFIG with the sentence in `errs` or `err`.
 */
#ifndef TAILBAN_CONFIG_INI_H
#define TAILBAN_CONFIG_INI_H

#include "daemon/base/arena.h"
#include "daemon/config/report.h"

#define INI_MAX_FILE (4u << 20) /* bytes of one file */
#define INI_MAX_LINE 65536u
#define INI_MAX_TEXT (1u << 20) /* bytes of one interpolated value */
#define INI_MAX_DEPTH 16u       /* nested interpolations, includes, <parameter> rounds */
#define INI_MAX_STEPS 5000u     /* interpolations within one value */
#define INI_DEFAULT "DEFAULT"

struct ini_value {
	const char *name; /* of its option, lower case */
	const char *text; /* raw: comments cut, lines trimmed and joined by \n, not interpolated */
	const char *file;
	unsigned line;                 /* of the option's name */
	unsigned rank;                 /* order of the file in the merge */
	const struct ini_value *known; /* the value that this one replaced, or NULL */
};

struct ini_option {
	const char *name;
	const char *cond; /* "family=inet6", or NULL */
	const struct ini_value *value;
};

struct ini_section {
	const char *name; /* as written; compared exactly, but "default" in references */
	const char *cond;
	const char *file; /* first seen */
	unsigned line;
	struct ini_option *options;
	size_t count, room;
};

struct ini {
	struct arena *arena;
	const char *behind; /* directory where includes are looked up when not beside the file, or
			       NULL */
	struct ini_section *sections;
	size_t count, room;
	struct text_at *warnings;
	size_t nwarnings;
	unsigned rank;
};

/* A name with a literal value, for references that the files do not answer (not interpolated
 * again). */
struct ini_var {
	const char *name, *value;
};

/* `name[opt=val, opt2="a,b"]`; option names in lower case, the values as they stand in quotes. */
struct ini_spec {
	const char *name;
	struct ini_var *args;
	size_t nargs;
};

void ini_init(struct ini *ini, struct arena *arena);

/* One file with its includes, without a .local of its own. Also -ENOENT, then nothing is said. */
int ini_read(struct ini *ini, const char *path, struct conf_errors *errs);
/* DIR/X.conf, DIR/X.d/<any>.conf in order of name, DIR/X.local, DIR/X.d/<any>.local: the number of
 * files. */
int ini_read_tree(struct ini *ini, const char *dir, const char *base, struct conf_errors *errs);
/* From memory; `file` is only for messages. [INCLUDES] is kept as a section and not followed. */
int ini_parse(struct ini *ini, const char *file, struct slice text, struct conf_errors *errs);
/* One option, as a file that is read last would set it; strings are kept, not copied. */
void ini_set(struct ini *ini, const char *section, const char *name, const char *text,
	     const char *file);

/* NULL when there is none. Sections and options with a condition are not found by these. */
const struct ini_section *ini_section(const struct ini *ini, const char *name);
const struct ini_value *ini_own(const struct ini *ini, const char *section, const char *name);
const struct ini_value *ini_get(const struct ini *ini, const char *section,
				const char *name); /* or DEFAULT's */

/* True when some value says %(name)s, %(section/name)s or <name>. */
bool ini_refers(const struct ini *ini, const char *name);

/* The interpolated text of a value, as seen from `section`. */
int ini_expand(const struct ini *ini, const char *section, const struct ini_value *value,
	       const struct ini_var *vars, size_t nvars, const char **ret_text, struct error *err);

/*
 * The same as a list of its lines without empty ones, each with its own place: a line that is
 * nothing but one %(reference)s keeps the places of what it refers to. Returns the count.
 */
int ini_lines(const struct ini *ini, const char *section, const struct ini_value *value,
	      const struct ini_var *vars, size_t nvars, struct text_at **ret_lines,
	      struct error *err);

/*
 * Replaces <name> by what find gives for it: 1 and *ret_value, 0 for "leave it" (a regex tag such
 * as <HOST>), or negative with err set. Values may hold further parameters, names too:
 * <mdre-<mode>>.
 */
typedef int ini_find_fn(void *context, struct slice name, const char **ret_value,
			struct error *err);
int ini_substitute(struct arena *arena, const struct text_at *text, ini_find_fn *find,
		   void *context, const char **ret_text, struct error *err);

/* Specs separated by blanks, newlines or commas. Returns the count; a broken one is an error. */
int ini_specs(struct arena *arena, const struct text_at *text, struct ini_spec **ret_specs,
	      struct error *err);
/* The value of the last argument of that name, as the last one wins, or NULL. */
const char *ini_spec_argument(const struct ini_spec *spec, const char *name);

#endif
