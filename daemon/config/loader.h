/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of conf_load that work on one thing each: private to daemon/config.
 *
 * Everything is in the configuration's arena. Functions report to `errs` themselves and return
 * ERROR_CONFIG after that; they go on after a fault where the rest can still be checked.
 */
#ifndef TAILBAN_CONFIG_LOADER_H
#define TAILBAN_CONFIG_LOADER_H

#include "daemon/config/ini.h"
#include "daemon/config/keys.h"
#include "daemon/config/textbuf.h"

/* Where filter and action files are: the user's directory (NULL: none), behind it the shipped ones.
 */
struct place {
	const char *dir, *datadir;
	struct arena *arena;
};

enum place_kind { PLACE_FILTER, PLACE_ACTION };

struct loader {
	struct conf *conf;
	struct conf_errors *errs;
	struct place place;
	struct ini
		jails; /* jail.conf and what overrides it; in our own trees the shipped one first */
	struct ini shipped; /* the shipped jail.conf alone */
	struct ini_var vars[2];
	size_t nvars;
	struct textbuf digest; /* all effective values as text */
};

/* Jail keys that replace the filter's: the section they stand in. */
struct override {
	const struct ini *jails;
	const char *section;
	const struct ini_var *vars;
	size_t nvars;
};

/* place.c: reads NAME.conf with its .local files. 0, -ENOENT (nothing said), ERROR_CONFIG (said).
 */
int place_read(const struct place *place, enum place_kind kind, const char *name,
	       struct ini *ret_ini, const char **ret_file, struct conf_errors *errs);
/* ", did you mean '...'?" for a name that is not there, or "". */
const char *place_suggest(const struct place *place, enum place_kind kind, const char *name,
			  char buf[static 80]);

/*
 * filter.c: a spec to its filters, the members of a family or one; `where` is the place of the
 * spec. over may be NULL. The count, -ENOENT (said) or ERROR_CONFIG. Warnings go to conf when it is
 * not NULL.
 */
int filter_load(const struct place *place, const struct ini_spec *spec, const struct text_at *where,
		const struct override *over, struct conf *conf, struct filter_conf **ret_filters,
		struct conf_errors *errs);
/* The members' specs of a family's file; 0 when it is none. */
int filter_family(const struct place *place, const struct ini *ini, struct ini_spec **ret_specs,
		  struct text_at *ret_where, struct conf_errors *errs);

/* action.c: one action of a jail. */
int action_load(const struct place *place, const struct ini_spec *spec, const struct text_at *where,
		struct action_conf *ret_action, struct conf *conf, struct conf_errors *errs);

/* jail.c: every key of every section is known or helps one that is. */
int jail_check_keys(struct loader *l);
/* Appends the jail to conf when it is enabled. */
int jail_load(struct loader *l, const struct ini_section *section);

/* conf.c */
__attribute__((format(printf, 4, 5))) void conf_warn(struct conf *conf, const char *file,
						     unsigned line, const char *format, ...);
void conf_take_warnings(struct conf *conf, const struct ini *ini);
/* The key's text from `section` of the ini (or its DEFAULT), interpolated and trimmed; else its
 * default. */
int conf_value(const struct ini *ini, const char *section, const struct key *key,
	       const struct ini_var *vars, size_t nvars, struct text_at *ret_value,
	       struct conf_errors *errs);
/* Reports a key that none of `keys` is, with the one it nearly is: a warning when excused, else an
 * error. */
int conf_unknown_key(struct loader *l, const struct ini_section *section, const struct ini_value *v,
		     const struct key *keys, size_t count, bool excused);
void conf_digest_add(struct loader *l, const char *name, const char *text);

#endif
