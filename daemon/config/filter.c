/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filter files: from NAME[opt=val] to the expressions, with parameters put in and each with its
 * line. Fails with every fault said; what an expression means is the filter room's business.
 */
#include "daemon/config/loader.h"
#include "daemon/config/suggest.h"

#include <errno.h>
#include <stdio.h>

#define DEFINITION "Definition"
#define INIT "Init"
#define MAX_LINES 1000u /* of maxlines */

/* The keys of a filter's [Definition] that mean something; all others are helpers. */
static const char *const known_keys[] = {
	"failregex", "ignoreregex",  "prefregex", "partnerregex", "datepattern",
	"maxlines",  "journalmatch", "usedns",    "family",       "perconnection"};

/* Where the <parameters> of one filter come from. */
struct parameters {
	const struct ini *ini;
	const struct ini_spec *spec;
};

static bool has_upper(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] >= 'A' && name.p[i] <= 'Z')
			return true;
	return false;
}

/* The section in which a parameter's value stands: [Init] wins over [Definition]. */
static const struct ini_value *section_value(const struct ini *ini, const char *name,
					     const char **ret_section)
{
	const struct ini_value *v = ini_own(ini, INIT, name);

	*ret_section = v ? INIT : DEFINITION;
	return v ? v : ini_get(ini, DEFINITION, name);
}

static int find_parameter(void *context, struct slice tag, const char **ret_value,
			  struct error *err)
{
	const struct parameters *p = context;
	const char *name = arena_slicedup(p->ini->arena, tag), *slash = strchr(name, '/'), *section;
	const struct ini_value *v;
	int r;

	if (!slash && has_upper(tag)) /* <HOST>, <F-USER>: regex tags */
		return 0;
	if (!slash) {
		*ret_value = ini_spec_argument(p->spec, name);
		if (*ret_value)
			return 1;
		v = section_value(p->ini, name, &section);
	} else if (!strncmp(name, "known/", 6)) {
		v = section_value(p->ini, slash + 1, &section);
	} else {
		section = arena_slicedup(p->ini->arena, slice_of(name, (size_t)(slash - name)));
		v = ini_section(p->ini, section) ? ini_get(p->ini, section, slash + 1) : NULL;
	}
	if (!v)
		return 0;
	r = ini_expand(p->ini, section, v, NULL, 0, ret_value, err);
	return r ? r : 1;
}

struct list {
	struct text_at *items;
	size_t count;
};

/* Puts parameters into each line; one may become several, or none. */
static int substitute_lines(struct parameters *p, const struct text_at *lines, size_t count,
			    struct list *ret, struct error *err)
{
	struct arena *arena = p->ini->arena;

	for (size_t i = 0; i < count; i++) {
		struct slice rest, piece;
		const char *text;
		int r = ini_substitute(arena, &lines[i], find_parameter, p, &text, err);

		if (r)
			return r;
		rest = slice_str(text);
		while (slice_next(&rest, "\n", &piece)) {
			struct text_at item = lines[i];

			piece = slice_trim(piece);
			if (!piece.n)
				continue;
			item.text = arena_slicedup(arena, piece);
			ret->items =
				arena_append(arena, ret->items, ret->count++, sizeof item, &item);
		}
	}
	return 0;
}

/* The filter's own lines of a key: from an argument, [Init] or [Definition]. */
static int filter_lines(struct parameters *p, const struct text_at *where, const char *key,
			struct list *ret, struct conf_errors *errs)
{
	struct text_at given = {ini_spec_argument(p->spec, key), where->file, where->line},
		       *lines = &given;
	const char *section;
	const struct ini_value *v = section_value(p->ini, key, &section);
	struct error err = {0};
	int n = 1;

	if (!given.text && !v)
		return 0;
	if (!given.text)
		n = ini_lines(p->ini, section, v, NULL, 0, &lines, &err);
	if (n < 0 || substitute_lines(p, lines, (size_t)n, ret, &err))
		return conf_errors_take(errs, &err);
	return 0;
}

/* The jail's lines of a key instead; %(known/KEY)s in them is the filter's. */
static int override_lines(struct parameters *p, const struct override *over, const char *key,
			  struct list *list, struct conf_errors *errs)
{
	const struct ini_value *v = ini_get(over->jails, over->section, key);
	struct arena *arena = p->ini->arena;
	struct textbuf known = {.arena = arena};
	struct ini_var *vars = arena_array(arena, over->nvars + 1, sizeof *vars);
	struct text_at *lines;
	struct error err = {0};
	int n;

	if (!v)
		return 0;
	for (size_t i = 0; i < list->count; i++) {
		textbuf_add(&known, slice_str(list->items[i].text));
		textbuf_add(&known, SLICE("\n"));
	}
	if (over->nvars)
		memcpy(vars, over->vars, over->nvars * sizeof *vars);
	vars[over->nvars] =
		(struct ini_var){arena_printf(arena, "known/%s", key), textbuf_text(&known)};
	n = ini_lines(over->jails, over->section, v, vars, over->nvars + 1, &lines, &err);
	*list = (struct list){0};
	if (n < 0 || substitute_lines(p, lines, (size_t)n, list, &err))
		return conf_errors_take(errs, &err);
	return 0;
}

static int key_lines(struct parameters *p, const struct text_at *where, const struct override *over,
		     const char *key, struct list *ret, struct conf_errors *errs)
{
	int r = filter_lines(p, where, key, ret, errs);

	if (r)
		ret->count = 0;
	if (over && override_lines(p, over, key, ret, errs))
		r = ERROR_CONFIG;
	return r;
}

static int max_lines(const struct list *list, unsigned *ret_maxlines, struct conf_errors *errs)
{
	const struct text_at *item = list->items;
	uint64_t n;

	*ret_maxlines = 1;
	if (!list->count)
		return 0;
	if (list->count > 1 || slice_u64(slice_str(item->text), MAX_LINES, &n) || !n)
		return conf_errors_add(errs, item->file, item->line,
				       "maxlines must be a number from 1 to %u: 'maxlines = %s'",
				       MAX_LINES, item->text);
	*ret_maxlines = (unsigned)n;
	return 0;
}

static int per_connection(const struct list *list, bool *ret, struct conf_errors *errs)
{
	const struct text_at *item = list->items;

	*ret = false;
	if (!list->count)
		return 0;
	if (list->count > 1 || (strcmp(item->text, "yes") != 0 && strcmp(item->text, "no") != 0))
		return conf_errors_add(errs, item->file, item->line,
				       "perconnection must be yes or no: 'perconnection = %s'",
				       item->text);
	*ret = !strcmp(item->text, "yes");
	return 0;
}

/* All the expressions of one filter. */
static int resolve(struct parameters *p, const struct text_at *where, const struct override *over,
		   struct filter_conf *f, struct conf_errors *errs)
{
	struct list pref = {0}, fail = {0}, ignore = {0}, date = {0}, partner = {0}, lines = {0},
		    single = {0};
	int r = 0;

	r |= key_lines(p, where, over, "prefregex", &pref, errs);
	r |= key_lines(p, where, over, "failregex", &fail, errs);
	r |= key_lines(p, where, over, "ignoreregex", &ignore, errs);
	r |= key_lines(p, where, over, "datepattern", &date, errs);
	r |= key_lines(p, where, NULL, "partnerregex", &partner, errs);
	r |= key_lines(p, where, over, "maxlines", &lines, errs);
	r |= key_lines(p, where, NULL, "perconnection", &single, errs);
	if (r)
		return ERROR_CONFIG;
	if (pref.count > 1)
		return conf_errors_add(errs, pref.items[1].file, pref.items[1].line,
				       "prefregex is one expression, this is a second one: '%s'",
				       pref.items[1].text);
	if (pref.count)
		f->prefregex = pref.items[0];
	f->failregex = fail.items;
	f->nfail = fail.count;
	f->ignoreregex = ignore.items;
	f->nignore = ignore.count;
	f->datepattern = date.items;
	f->ndate = date.count;
	f->partnerregex = partner.items;
	f->npartner = partner.count;
	if (!fail.count)
		return conf_errors_add(errs, f->file ? f->file : where->file,
				       f->file ? 0 : where->line, "filter '%s' has no failregex",
				       f->name);
	r = per_connection(&single, &f->perconnection, errs);
	return r ? r : max_lines(&lines, &f->maxlines, errs);
}

/* A name that is nearly a known one and that nothing refers to is a slip of the pen. */
static int check_key(const struct ini_value *v, const struct ini *ini, struct conf *conf,
		     struct conf_errors *errs)
{
	struct suggest s = suggest_for(v->name);
	char buf[SUGGEST_STRLEN], quoted[QUOTE_SIZE];

	if (strlen(v->name) < 5)
		return 0;
	s.distance = 3;
	for (size_t i = 0; i < sizeof known_keys / sizeof known_keys[0]; i++) {
		if (!strcmp(v->name, known_keys[i]))
			return 0;
		suggest_try(&s, known_keys[i]);
	}
	if (!s.best[0] || ini_refers(ini, v->name))
		return 0;
	textbuf_quote(slice_str(v->text), quoted);
	if (conf && conf->is_fail2ban)
		conf_warn(conf, v->file, v->line, "unknown key '%s' in a filter%s: '%s = %s'",
			  v->name, suggest_text(&s, buf), v->name, quoted);
	else
		return conf_errors_add(errs, v->file, v->line,
				       "unknown key '%s' in a filter%s: '%s = %s'", v->name,
				       suggest_text(&s, buf), v->name, quoted);
	return 0;
}

static int check_keys(const struct ini *ini, struct conf *conf, struct conf_errors *errs)
{
	static const char *const sections[] = {DEFINITION, INIT};
	int r = 0;

	for (size_t i = 0; i < 2; i++) {
		const struct ini_section *s = ini_section(ini, sections[i]);

		for (size_t k = 0; s && k < s->count; k++)
			r |= check_key(s->options[k].value, ini, conf, errs);
	}
	return r ? ERROR_CONFIG : 0;
}

int filter_family(const struct place *place, const struct ini *ini, struct ini_spec **ret_specs,
		  struct text_at *ret_where, struct conf_errors *errs)
{
	const struct ini_value *v = ini_own(ini, DEFINITION, "family");
	struct error err = {0};
	int r;

	if (!v)
		return 0;
	*ret_where = (struct text_at){.file = v->file, .line = v->line};
	r = ini_expand(ini, DEFINITION, v, NULL, 0, &ret_where->text, &err);
	if (!r)
		r = ini_specs(place->arena, ret_where, ret_specs, &err);
	return r < 0 ? conf_errors_take(errs, &err) : r;
}

/* The jail's spec reaches the members too, behind their own arguments. */
static struct ini_spec member_spec(struct arena *arena, const struct ini_spec *member,
				   const struct ini_spec *spec)
{
	struct ini_spec both = {.name = member->name, .nargs = member->nargs + spec->nargs};

	both.args = arena_array(arena, both.nargs + 1, sizeof *both.args);
	if (member->nargs)
		memcpy(both.args, member->args, member->nargs * sizeof *both.args);
	if (spec->nargs)
		memcpy(both.args + member->nargs, spec->args, spec->nargs * sizeof *both.args);
	return both;
}

/* "y" for the path "/x/y.conf", else the name itself. */
static const char *short_name(struct arena *arena, const char *name)
{
	const char *slash = strrchr(name, '/');
	struct slice base = slice_str(slash ? slash + 1 : name);

	if (slash && base.n > 5 && !strcmp(base.p + base.n - 5, ".conf"))
		base.n -= 5;
	return slash ? arena_slicedup(arena, base) : name;
}

static int read_filter(const struct place *place, const struct ini_spec *spec,
		       const struct text_at *where, struct ini *ini, const char **ret_file,
		       struct conf *conf, struct conf_errors *errs)
{
	int r = place_read(place, PLACE_FILTER, spec->name, ini, ret_file, errs);
	char buf[SUGGEST_STRLEN];

	if (r == -ENOENT)
		conf_errors_add(errs, where->file, where->line,
				"there is no filter '%s'%s (looked in %s%s%s)", spec->name,
				place_suggest(place, PLACE_FILTER, spec->name, buf),
				place->dir ? place->dir : "", place->dir ? "/filter.d and " : "",
				place->datadir);
	if (r)
		return r;
	if (conf)
		conf_take_warnings(conf, ini);
	return check_keys(ini, conf, errs);
}

static int load_member(const struct place *place, const struct ini_spec *spec,
		       const struct text_at *where, struct conf *conf, struct filter_conf *ret,
		       struct conf_errors *errs)
{
	struct ini ini;
	struct parameters p = {&ini, spec};
	int r;

	ret->name = short_name(place->arena, spec->name);
	r = read_filter(place, spec, where, &ini, &ret->file, conf, errs);
	if (r)
		return r;
	if (ini_own(&ini, DEFINITION, "family"))
		return conf_errors_add(errs, where->file, where->line,
				       "a family cannot have a family as its member: '%s'",
				       spec->name);
	return resolve(&p, where, NULL, ret, errs);
}

static int load_family(const struct place *place, const struct ini_spec *spec,
		       const struct ini_spec *members, size_t count, const struct text_at *where,
		       struct conf *conf, struct filter_conf **ret_filters,
		       struct conf_errors *errs)
{
	int r = 0;

	*ret_filters = arena_array(place->arena, count, sizeof **ret_filters);
	for (size_t i = 0; i < count; i++) {
		struct ini_spec *both = arena_alloc(place->arena, sizeof *both);

		*both = member_spec(place->arena, &members[i], spec);
		if (load_member(place, both, where, conf, &(*ret_filters)[i], errs))
			r = ERROR_CONFIG;
	}
	return r ? r : (int)count;
}

/* Jail keys that replace a filter's make no sense for several filters at once. */
static int no_override(const struct override *over, struct conf_errors *errs)
{
	static const char *const keys[] = {"failregex", "ignoreregex", "prefregex", "datepattern",
					   "maxlines"};
	int r = 0;

	for (size_t i = 0; over && i < sizeof keys / sizeof keys[0]; i++) {
		const struct ini_value *v = ini_own(over->jails, over->section, keys[i]);

		if (v)
			r = conf_errors_add(
				errs, v->file, v->line,
				"%s cannot be set in a jail whose filter is a family: '%s'",
				keys[i], over->section);
	}
	return r;
}

int filter_load(const struct place *place, const struct ini_spec *spec, const struct text_at *where,
		const struct override *over, struct conf *conf, struct filter_conf **ret_filters,
		struct conf_errors *errs)
{
	struct ini *ini = arena_alloc(place->arena, sizeof *ini);
	struct parameters p = {ini, spec};
	struct filter_conf f = {.name = short_name(place->arena, spec->name)};
	struct ini_spec *members = NULL;
	struct text_at family;
	int r;

	ini_init(ini, place->arena);
	if (*spec->name) {
		r = read_filter(place, spec, where, ini, &f.file, conf, errs);
		if (r)
			return r;
	}
	r = filter_family(place, ini, &members, &family, errs);
	if (r > 0 && no_override(over, errs))
		return ERROR_CONFIG;
	if (r)
		return r < 0 ? r
			     : load_family(place, spec, members, (size_t)r, &family, conf,
					   ret_filters, errs);
	r = resolve(&p, where, over, &f, errs);
	if (r)
		return r;
	*ret_filters = arena_append(place->arena, NULL, 0, sizeof f, &f);
	return 1;
}
