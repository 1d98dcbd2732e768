/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading a configuration: files in order, the daemon's keys, then each jail. See conf.h; fails
 * with ERROR_CONFIG after all that can be checked was checked.
 */
#include "daemon/base/hash.h"
#include "daemon/config/loader.h"
#include "daemon/config/suggest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PKGDATADIR
#define PKGDATADIR "/usr/share/tailban"
#endif

#define DEFINITION "Definition"
#define QUICK_FAMILY "werkzeug"
#define QUICK_NOT "werkzeug-method" /* it needs to be told what the service takes */
#define FAIL2BAN_VERSION "1.1.0"    /* what its files see as %(fail2ban_version)s */

const char *conf_datadir(void)
{
	const char *dir = getenv("TAILBAN_DATADIR");

	return dir && *dir ? dir : PKGDATADIR;
}

void conf_warn(struct conf *conf, const char *file, unsigned line, const char *format, ...)
{
	struct text_at warning = {.file = file, .line = line};
	char text[768];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	for (size_t i = 0; i < conf->nwarnings; i++)
		if (conf->warnings[i].line == line && !strcmp(conf->warnings[i].text, text))
			return;
	warning.text = arena_strdup(&conf->arena, text);
	conf->warnings = arena_append(&conf->arena, conf->warnings, conf->nwarnings++,
				      sizeof warning, &warning);
}

void conf_take_warnings(struct conf *conf, const struct ini *ini)
{
	for (size_t i = 0; i < ini->nwarnings; i++)
		conf_warn(conf, ini->warnings[i].file, ini->warnings[i].line, "%s",
			  ini->warnings[i].text);
}

int conf_value(const struct ini *ini, const char *section, const struct key *key,
	       const struct ini_var *vars, size_t nvars, struct text_at *ret_value,
	       struct conf_errors *errs)
{
	const struct ini_value *v = ini_get(ini, section, key->name);
	struct ini_value fallback = {.name = key->name, .text = key->fallback};
	struct error err = {0};
	const char *text;

	if (!v)
		v = &fallback;
	if (ini_expand(ini, section, v, vars, nvars, &text, &err))
		return conf_errors_take(errs, &err);
	ret_value->text = arena_slicedup(ini->arena, slice_trim(slice_str(text)));
	ret_value->file = v->file;
	ret_value->line = v->line;
	return 0;
}

int conf_unknown_key(struct loader *l, const struct ini_section *section, const struct ini_value *v,
		     const struct key *keys, size_t count, bool excused)
{
	struct suggest s = suggest_for(v->name);
	char buf[SUGGEST_STRLEN], quoted[QUOTE_SIZE], name[QUOTE_SIZE];

	for (size_t i = 0; i < count; i++)
		suggest_try(&s, keys[i].name);
	textbuf_quote(slice_str(v->text), quoted);
	textbuf_quote(slice_str(v->name), name);
	if (!excused)
		return conf_errors_add(l->errs, v->file, v->line,
				       "unknown key '%s' in [%s]%s: '%s = %s'", name, section->name,
				       suggest_text(&s, buf), name, quoted);
	conf_warn(l->conf, v->file, v->line, "unknown key '%s' in [%s]%s: '%s = %s'", name,
		  section->name, suggest_text(&s, buf), name, quoted);
	return 0;
}

void conf_digest_add(struct loader *l, const char *name, const char *text)
{
	textbuf_add(&l->digest, slice_str(name));
	textbuf_add(&l->digest, slice_of("", 1));
	textbuf_add(&l->digest, slice_str(text));
	textbuf_add(&l->digest, slice_of("", 1));
}

/* Two hashes with fixed seeds: the digest compares configurations and keeps out no attacker. */
static void finish_digest(struct loader *l)
{
	static const struct hash_seed seeds[2] = {{1, 2}, {3, 4}};

	for (size_t i = 0; i < 2; i++) {
		uint64_t h = hash_bytes(&seeds[i], l->digest.p, l->digest.n);

		memcpy(l->conf->digest + i * sizeof h, &h, sizeof h);
	}
}

/* The user's value of a daemon key: from tailban.conf, else fail2ban.conf's where that is shared.
 */
static int daemon_value(struct loader *l, const struct ini *own, const struct ini *theirs,
			const struct key *key, struct text_at *ret)
{
	const struct ini_value *v = ini_get(theirs, DEFINITION, key->name);

	if (v && !key->shared && !ini_get(own, DEFINITION, key->name))
		conf_warn(l->conf, v->file, v->line,
			  "%s is fail2ban's, tailban has its own in tailban.conf", key->name);
	return conf_value(!ini_get(own, DEFINITION, key->name) && v && key->shared ? theirs : own,
			  DEFINITION, key, l->vars, l->nvars, ret, l->errs);
}

static int daemon_key(struct loader *l, const struct key *key, const struct text_at *text)
{
	struct error err = {0};

	if (key->use == KEY_LATER && !key_is_off(text->text))
		return conf_errors_add(
			l->errs, text->file, text->line,
			"%s needs %s, which this version does not have: '%s = %.60s'", key->name,
			key->help, key->name, text->text);
	if (key->use != KEY_FIELD)
		return 0;
	conf_digest_add(l, key->name, text->text);
	if (key->parse(key, text, (char *)l->conf + key->offset, &l->conf->arena, &err))
		return conf_errors_take(l->errs, &err);
	return 0;
}

static int check_daemon_key(struct loader *l, const struct ini_section *section,
			    const struct ini_value *v, bool theirs)
{
	const struct key *key = key_find(daemon_keys, daemon_keys_count, v->name);

	if (key && key->use == KEY_UNUSED && *key->help && !key_is_off(v->text))
		conf_warn(l->conf, v->file, v->line, "%s is not used, %s: '%s = %.60s'", v->name,
			  key->help, v->name, v->text);
	if (key)
		return 0;
	return conf_unknown_key(l, section, v, daemon_keys, daemon_keys_count, theirs);
}

/* Keys stand in [Definition] or [DEFAULT]; fail2ban has [Thread] beside them. */
static int check_daemon_keys(struct loader *l, const struct ini *ini, bool theirs)
{
	int r = 0;

	for (size_t i = 0; i < ini->count; i++) {
		const struct ini_section *s = &ini->sections[i];
		char quoted[QUOTE_SIZE];

		if (strcmp(s->name, DEFINITION) && strcmp(s->name, INI_DEFAULT) &&
		    strcmp(s->name, "Thread")) {
			textbuf_quote(slice_str(s->name), quoted);
			if (theirs)
				conf_warn(l->conf, s->file, s->line, "unknown section '[%s]'",
					  quoted);
			else
				r = conf_errors_add(l->errs, s->file, s->line,
						    "unknown section, the daemon's keys belong to "
						    "[Definition]: '[%s]'",
						    quoted);
			continue;
		}
		for (size_t k = 0; k < s->count; k++)
			r |= check_daemon_key(l, s, s->options[k].value, theirs);
	}
	return r;
}

static int load_daemon(struct loader *l, const struct ini *own, const struct ini *theirs)
{
	int r = 0;

	r |= check_daemon_keys(l, own, false);
	r |= check_daemon_keys(l, theirs, true);
	for (size_t i = 0; i < daemon_keys_count; i++) {
		struct text_at text;

		if (daemon_value(l, own, theirs, &daemon_keys[i], &text) ||
		    daemon_key(l, &daemon_keys[i], &text))
			r = ERROR_CONFIG;
	}
	return r ? ERROR_CONFIG : 0;
}

/* The shipped jail.conf, as it is installed or in a source tree. */
static int read_shipped(struct loader *l, struct ini *ini)
{
	static const char *const tails[] = {"jail.conf", "etc/jail.conf"};

	for (size_t i = 0; i < 2; i++) {
		int r = ini_read(ini,
				 arena_printf(&l->conf->arena, "%s/%s", l->place.datadir, tails[i]),
				 l->errs);

		if (r != -ENOENT)
			return r;
	}
	conf_warn(l->conf, NULL, 0,
		  "the shipped jail.conf is not in '%s': its defaults are missing",
		  l->place.datadir);
	return 0;
}

static int read_jails(struct loader *l, const char *dir)
{
	int r = read_shipped(l, &l->shipped);

	if (!r && !l->conf->is_fail2ban)
		r = read_shipped(l, &l->jails);
	if (r < 0)
		return r;
	return dir ? ini_read_tree(&l->jails, dir, "jail", l->errs) : 0;
}

bool conf_borrows_ports(const struct jail_conf *jail)
{
	return jail->backend == BACKEND_SOCKETS && jail->port_auto && !jail->nlogpaths;
}

unsigned conf_count_ports(const struct jail_conf *jail)
{
	unsigned ports = 0;

	for (size_t i = 0; i < jail->nports; i++)
		ports += jail->ports[i].last - jail->ports[i].first + 1u;
	return ports;
}

/* Somebody must have the ports that a sockets jail borrows. */
static int check_borrowers(struct loader *l)
{
	const struct jail_conf *borrower = NULL;
	size_t borrowers = 0;

	for (size_t i = 0; i < l->conf->njails; i++) {
		if (!conf_borrows_ports(&l->conf->jails[i]))
			continue;
		borrower = &l->conf->jails[i];
		borrowers++;
	}
	if (!borrower || borrowers < l->conf->njails)
		return 0;
	return conf_errors_add(
		l->errs, borrower->where.file, borrower->where.line,
		"jail [%s] is enabled and has no port, no logpath, and no other jail "
		"beside it whose ports it could take",
		borrower->name);
}

static int load_jails(struct loader *l)
{
	int r = jail_check_keys(l);

	for (size_t i = 0; i < l->jails.count; i++)
		r |= jail_load(l, &l->jails.sections[i]);
	if (!r)
		r = check_borrowers(l);
	if (!r && !l->conf->njails)
		conf_warn(l->conf, NULL, 0, "no jail is enabled");
	return r ? ERROR_CONFIG : 0;
}

static void start(struct loader *l, const char *dir, const char *datadir, struct conf *conf,
		  struct conf_errors *errs)
{
	memset(conf, 0, sizeof *conf);
	*l = (struct loader){.conf = conf, .errs = errs};
	conf->dir = dir ? arena_strdup(&conf->arena, dir) : NULL;
	l->place = (struct place){conf->dir,
				  arena_strdup(&conf->arena, datadir ? datadir : conf_datadir()),
				  &conf->arena};
	l->digest.arena = &conf->arena;
	ini_init(&l->jails, &conf->arena);
	ini_init(&l->shipped, &conf->arena);
	l->vars[l->nvars++] = (struct ini_var){"fail2ban_version", FAIL2BAN_VERSION};
	l->vars[l->nvars++] = (struct ini_var){"fail2ban_confpath", conf->dir ? conf->dir : ""};
}

static int finish(struct loader *l, int r)
{
	if (r < 0) {
		conf_free(l->conf);
		return ERROR_CONFIG;
	}
	conf_take_warnings(l->conf, &l->jails);
	finish_digest(l);
	return 0;
}

static int check_dir(const char *dir, struct conf_errors *errs)
{
	struct stat st;

	if (stat(dir, &st))
		return conf_errors_add(errs, dir, 0, "cannot read the configuration directory: %s",
				       strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return conf_errors_add(errs, dir, 0, "is no directory");
	return 0;
}

static bool holds(const char *dir, const char *name)
{
	char path[4096];

	return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path &&
	       !access(path, F_OK);
}

int conf_load(const char *dir, const char *datadir, struct conf *ret_conf, struct conf_errors *errs)
{
	struct loader l;
	struct ini own, theirs;
	int files, more = 0, jails, r;

	start(&l, dir, datadir, ret_conf, errs);
	if (check_dir(dir, errs))
		return finish(&l, ERROR_CONFIG);
	ini_init(&own, &ret_conf->arena);
	ini_init(&theirs, &ret_conf->arena);
	ret_conf->is_fail2ban = holds(dir, "fail2ban.conf");
	files = ini_read_tree(&own, dir, "tailban", errs);
	if (ret_conf->is_fail2ban)
		more = ini_read_tree(&theirs, dir, "fail2ban", errs);
	jails = read_jails(&l, dir);
	if (files < 0 || more < 0 || jails < 0)
		return finish(&l, ERROR_CONFIG);
	if (!files && !jails) {
		conf_errors_add(errs, dir, 0, "holds no jail.conf, jail.d/*.conf or tailban.conf");
		return finish(&l, ERROR_CONFIG);
	}
	conf_take_warnings(ret_conf, &own);
	conf_take_warnings(ret_conf, &theirs);
	r = load_daemon(&l, &own, &theirs);
	r |= load_jails(&l);
	return finish(&l, r);
}

/* Wildcards know no escapes but a set of one: see enforcer/logfile.h. */
static void add_literal(struct textbuf *lines, const char *path)
{
	for (; *path; path++) {
		bool wild = strchr("*?[", *path) != NULL;

		textbuf_add(lines, wild ? SLICE("[") : SLICE(""));
		textbuf_add(lines, slice_of(path, 1));
		textbuf_add(lines, wild ? SLICE("]") : SLICE(""));
		if (*path == '%')
			textbuf_add(lines, SLICE("%"));
	}
}

/* A path as one logpath line: absolute, wildcards and percent signs taken literally. */
static int quick_path(struct loader *l, const char *path, struct textbuf *lines)
{
	char cwd[4096] = "";

	if (!*path || strchr(path, '\n'))
		return conf_errors_add(l->errs, NULL, 0,
				       "this cannot be the path of a log: '%.60s'", path);
	if (*path != '/' && !getcwd(cwd, sizeof cwd))
		return conf_errors_add(l->errs, NULL, 0, "the current directory is not known: %s",
				       strerror(errno));
	if (strchr(cwd, '\n'))
		return conf_errors_add(l->errs, NULL, 0,
				       "the current directory cannot stand in the path of a log");
	textbuf_add(lines, SLICE("\n"));
	add_literal(lines, cwd);
	textbuf_add(lines, *path == '/' ? SLICE("") : SLICE("/"));
	add_literal(lines, path);
	textbuf_add(lines, SLICE(" head"));
	return 0;
}

static int quick_jails(struct loader *l, const char *logpath)
{
	struct ini_spec *members = NULL;
	struct text_at where;
	struct ini ini;
	const char *file;
	int n = place_read(&l->place, PLACE_FILTER, QUICK_FAMILY, &ini, &file, l->errs);

	if (n == -ENOENT)
		return conf_errors_add(l->errs, NULL, 0, "the shipped filters are not in '%s'",
				       l->place.datadir);
	if (!n)
		n = filter_family(&l->place, &ini, &members, &where, l->errs);
	for (int i = 0; i < n; i++) {
		if (!strcmp(members[i].name, QUICK_NOT))
			continue;
		ini_set(&l->jails, members[i].name, "enabled", "yes", NULL);
		ini_set(&l->jails, members[i].name, "logpath", logpath, NULL);
	}
	ini_set(&l->jails, CONF_SOCKETS, "backend", CONF_SOCKETS, NULL);
	ini_set(&l->jails, CONF_SOCKETS, "enabled", "yes", NULL);
	return n < 0 ? n : 0;
}

int conf_quick(const char *const *paths, size_t npaths, const char *datadir, struct conf *ret_conf,
	       struct conf_errors *errs)
{
	struct textbuf lines;
	struct ini none;
	struct loader l;
	int r = 0;

	start(&l, NULL, datadir, ret_conf, errs);
	lines = (struct textbuf){.arena = &ret_conf->arena};
	ini_init(&none, &ret_conf->arena);
	for (size_t i = 0; i < npaths; i++)
		r |= quick_path(&l, paths[i], &lines);
	if (r || read_jails(&l, NULL) || quick_jails(&l, textbuf_text(&lines)))
		return finish(&l, ERROR_CONFIG);
	r = load_daemon(&l, &none, &none);
	r |= load_jails(&l);
	return finish(&l, r);
}

int conf_filters(const char *dir, const char *datadir, const char *spec, struct arena *arena,
		 struct filter_conf **ret_filters, struct error *err)
{
	struct place place = {dir, datadir ? datadir : conf_datadir(), arena};
	struct conf notes = {
		.is_fail2ban = dir && holds(dir, "fail2ban.conf")}; /* its warnings are dropped */
	struct text_at where = {.text = spec};
	struct conf_errors errs = {0};
	struct ini_spec *specs;
	int r = ini_specs(arena, &where, &specs, err);

	if (r < 0)
		return r;
	if (r != 1)
		return error_set(err, ERROR_CONFIG,
				 "one filter is wanted, as NAME[opt=value,...]: '%.60s'", spec);
	r = filter_load(&place, specs, &where, NULL, &notes, ret_filters, &errs);
	if (r < 0 && err && errs.count)
		*err = errs.items[0];
	conf_errors_free(&errs);
	arena_free(&notes.arena);
	return r;
}

int conf_filter(const char *dir, const char *datadir, const char *spec, struct arena *arena,
		struct filter_conf *ret_filter, struct error *err)
{
	struct filter_conf *filters;
	int n = conf_filters(dir, datadir, spec, arena, &filters, err);

	if (n < 0)
		return n;
	if (n != 1)
		return error_set(err, ERROR_CONFIG,
				 "'%.60s' is a family of %d filters, one of them is wanted", spec,
				 n);
	*ret_filter = filters[0];
	return 0;
}

void conf_free(struct conf *conf)
{
	for (size_t i = 0; i < conf->njails; i++) {
		netlist_free(&conf->jails[i].ignoreip);
		netlist_free(&conf->jails[i].trusted_proxy);
	}
	arena_free(&conf->arena);
	memset(conf, 0, sizeof *conf);
}
