/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One jail: its section and [DEFAULT] to a struct jail_conf. Fails with all its faults said; a jail
 * that is not enabled is looked at for unknown keys only.
 */
#include "daemon/config/loader.h"
#include "daemon/config/suggest.h"

#include <stdio.h>
#include <strings.h>

#define MAX_JAILS 1000u
#define MAX_NAME 63u
#define MAX_LOGPATHS 1000u

static const struct key *key_named(const char *name)
{
	return key_find(jail_keys, jail_keys_count, name);
}

static int check_key(struct loader *l, const struct ini_section *section,
		     const struct ini_option *o)
{
	if (key_named(o->name) || !strncmp(o->name, "__", 2) || ini_refers(&l->jails, o->name))
		return 0;
	return conf_unknown_key(l, section, o->value, jail_keys, jail_keys_count,
				l->conf->is_fail2ban);
}

int jail_check_keys(struct loader *l)
{
	int r = 0;

	for (size_t i = 0; i < l->jails.count; i++) {
		const struct ini_section *s = &l->jails.sections[i];

		for (size_t k = 0; k < s->count; k++)
			r |= check_key(l, s, &s->options[k]);
	}
	return r ? ERROR_CONFIG : 0;
}

static int value(struct loader *l, const char *section, const struct key *key, struct text_at *ret)
{
	return conf_value(&l->jails, section, key, l->vars, l->nvars, ret, l->errs);
}

static bool is_field(const struct key *key, const struct jail_conf *jail)
{
	if (key->use == KEY_SOCKETS)
		return key->parse && jail->backend == BACKEND_SOCKETS;
	return key->use == KEY_FIELD;
}

/* All keys that are fields of struct jail_conf; `backend` comes before those that hang on it. */
static int fields(struct loader *l, const char *section, struct jail_conf *jail)
{
	int r = 0;

	for (size_t i = 0; i < jail_keys_count; i++) {
		const struct key *key = &jail_keys[i];
		struct error err = {0};
		struct text_at text;

		if (!is_field(key, jail))
			continue;
		if (value(l, section, key, &text)) {
			r = ERROR_CONFIG;
			continue;
		}
		conf_digest_add(l, key->name, text.text);
		if (key->parse(key, &text, (char *)jail + key->offset, &l->conf->arena, &err))
			r = conf_errors_take(l->errs, &err);
	}
	return r;
}

static int refused(struct loader *l, const char *section)
{
	int r = 0;

	for (size_t i = 0; i < jail_keys_count; i++) {
		struct text_at text;

		if (jail_keys[i].use != KEY_LATER)
			continue;
		if (value(l, section, &jail_keys[i], &text))
			r = ERROR_CONFIG;
		else if (!key_is_off(text.text))
			r = conf_errors_add(
				l->errs, text.file, text.line,
				"%s needs %s, which this version does not have: '%s = %.60s'",
				jail_keys[i].name, jail_keys[i].help, jail_keys[i].name, text.text);
	}
	return r;
}

static int refuse_own(struct loader *l, const struct ini_value *v, const char *why)
{
	char quoted[QUOTE_SIZE];

	return conf_errors_add(l->errs, v->file, v->line, "%s %s: '%s = %s'", v->name, why, v->name,
			       textbuf_quote(slice_str(v->text), quoted));
}

/* A sockets jail reads no lines, so what picks or counts lines has no meaning there. */
static int refuse_filter_keys(struct loader *l, const char *section)
{
	static const char *const names[] = {"filter",      "distinct",  "failregex", "ignoreregex",
					    "datepattern", "prefregex", "maxlines"};
	int r = 0;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const struct ini_value *v = ini_own(&l->jails, section, names[i]);

		if (v && *v->text)
			r = refuse_own(l, v, "has no meaning in a jail with backend = sockets");
	}
	return r;
}

static int refuse_sockets_keys(struct loader *l, const char *section)
{
	int r = 0;

	for (size_t i = 0; i < jail_keys_count; i++) {
		const struct ini_value *v = ini_own(&l->jails, section, jail_keys[i].name);

		if (v && jail_keys[i].use == KEY_SOCKETS)
			r = refuse_own(l, v, "is for jails with backend = sockets");
	}
	return r;
}

/* Keys of the other kind of jail. What stands in [DEFAULT] is meant for those that can use it. */
static int check_kind(struct loader *l, const char *section, const struct jail_conf *jail)
{
	return jail->backend == BACKEND_SOCKETS ? refuse_filter_keys(l, section)
						: refuse_sockets_keys(l, section);
}

/* `PATH`, `PATH tail` or `PATH head`. */
static int log_path(struct loader *l, struct jail_conf *jail, struct text_at item)
{
	struct slice text = slice_str(item.text);
	bool tail = false;
	char quoted[QUOTE_SIZE];

	if (text.n > 5 &&
	    (!strcmp(text.p + text.n - 5, " tail") || !strcmp(text.p + text.n - 5, " head"))) {
		tail = text.p[text.n - 4] == 't';
		text = slice_trim(slice_head(text, text.n - 5));
	}
	if (!text.n || text.p[0] != '/')
		return conf_errors_add(l->errs, item.file, item.line,
				       "logpath must be an absolute path: '%s'",
				       textbuf_quote(text, quoted));
	if (jail->nlogpaths >= MAX_LOGPATHS)
		return conf_errors_add(l->errs, item.file, item.line,
				       "too many logs in one jail: '%s'",
				       textbuf_quote(text, quoted));
	item.text = arena_slicedup(&l->conf->arena, text);
	conf_digest_add(l, tail ? "logpath tail" : "logpath", item.text);
	jail->logpath_tail = arena_append(&l->conf->arena, jail->logpath_tail, jail->nlogpaths,
					  sizeof tail, &tail);
	jail->logpaths = arena_append(&l->conf->arena, jail->logpaths, jail->nlogpaths++,
				      sizeof item, &item);
	return 0;
}

static int log_paths(struct loader *l, struct jail_conf *jail)
{
	const struct ini_value *v = ini_get(&l->jails, jail->name, "logpath");
	struct text_at *lines = NULL;
	struct error err = {0};
	int n = 0, r = 0;

	if (v)
		n = ini_lines(&l->jails, jail->name, v, l->vars, l->nvars, &lines, &err);
	if (n < 0)
		return conf_errors_take(l->errs, &err);
	for (int i = 0; i < n; i++)
		r |= log_path(l, jail, lines[i]);
	if (!n && jail->backend != BACKEND_STDIN && jail->backend != BACKEND_SOCKETS)
		return conf_errors_add(l->errs, jail->where.file, jail->where.line,
				       "jail [%s] is enabled and has no logpath", jail->name);
	return r ? ERROR_CONFIG : 0;
}

/* Where a threshold of a rule comes from: see conf.h. */
static const struct ini *threshold_place(const struct loader *l, const char *jail,
					 const char *filter, const char *key, bool family,
					 const char **ret_section)
{
	*ret_section = filter;
	if (ini_own(&l->jails, jail, key)) {
		*ret_section = jail;
		return &l->jails;
	}
	if ((family || !l->conf->is_fail2ban) && ini_own(&l->jails, filter, key))
		return &l->jails;
	if (ini_own(&l->shipped, filter, key))
		return &l->shipped;
	*ret_section = jail;
	return &l->jails;
}

static int thresholds(struct loader *l, const struct jail_conf *jail, struct rule_conf *rule,
		      bool family)
{
	int r = 0;

	for (size_t i = 0; i < jail_keys_count; i++) {
		const struct key *key = &jail_keys[i];
		const char *section;
		const struct ini *ini;
		struct error err = {0};
		struct text_at text;

		if (key->use != KEY_RULE)
			continue;
		ini = threshold_place(l, jail->name, rule->filter.name, key->name, family,
				      &section);
		if (conf_value(ini, section, key, l->vars, l->nvars, &text, l->errs)) {
			r = ERROR_CONFIG;
			continue;
		}
		conf_digest_add(l, key->name, text.text);
		if (key->parse(key, &text, (char *)rule + key->offset, &l->conf->arena, &err))
			r = conf_errors_take(l->errs, &err);
	}
	return r;
}

static void digest_lines(struct loader *l, const char *name, const struct text_at *lines,
			 size_t count)
{
	for (size_t i = 0; i < count; i++)
		conf_digest_add(l, name, lines[i].text);
}

static void digest_filter(struct loader *l, const struct filter_conf *f)
{
	char number[16];

	snprintf(number, sizeof number, "%u", f->maxlines);
	conf_digest_add(l, "filter", f->name);
	conf_digest_add(l, "maxlines", number);
	conf_digest_add(l, "perconnection", f->perconnection ? "yes" : "no");
	if (f->prefregex.text)
		conf_digest_add(l, "prefregex", f->prefregex.text);
	digest_lines(l, "failregex", f->failregex, f->nfail);
	digest_lines(l, "ignoreregex", f->ignoreregex, f->nignore);
	digest_lines(l, "datepattern", f->datepattern, f->ndate);
	digest_lines(l, "partnerregex", f->partnerregex, f->npartner);
}

/* The spec of a jail's filter, none for a jail with a failregex of its own and `filter =`. */
static int filter_spec(struct loader *l, const struct jail_conf *jail, struct ini_spec *ret_spec,
		       struct text_at *ret_where)
{
	struct ini_spec *specs;
	struct error err = {0};
	int n;

	if (value(l, jail->name, key_named("filter"), ret_where))
		return ERROR_CONFIG;
	if (!ret_where->file)
		*ret_where = (struct text_at){ret_where->text, jail->where.file, jail->where.line};
	n = ini_specs(&l->conf->arena, ret_where, &specs, &err);
	if (n < 0)
		return conf_errors_take(l->errs, &err);
	if (n > 1)
		return conf_errors_add(
			l->errs, ret_where->file, ret_where->line,
			"a jail has one filter (several make a family): 'filter = %.60s'",
			ret_where->text);
	*ret_spec = n ? specs[0] : (struct ini_spec){.name = ""};
	return 0;
}

/* Does an expression keep this field: <F-NAME>, (?P<name>...) or (?<name>...)? */
static bool text_keeps(const char *text, const char *field)
{
	size_t n = strlen(field);

	for (const char *at = text; at && (at = strchr(at, '<')); at++) {
		const char *name = at + (strncasecmp(at, "<f-", 3) ? 1 : 3);

		name += strncasecmp(name, "alt_", 4) ? 0 : 4;
		if (!strncasecmp(name, field, n) && name[n] == '>')
			return true;
	}
	return false;
}

static bool filter_keeps(const struct filter_conf *f, const char *field)
{
	if (text_keeps(f->prefregex.text, field))
		return true;
	for (size_t i = 0; i < f->nfail; i++)
		if (text_keeps(f->failregex[i].text, field))
			return true;
	return false;
}

/* Without the field all offences would be the same one. A family: for members that have it. */
static int settle_distinct(struct loader *l, const struct jail_conf *jail, struct rule_conf *rule,
			   bool family)
{
	const struct ini_value *own = ini_get(&l->jails, jail->name, "distinct");

	if (!rule->distinct || filter_keeps(&rule->filter, rule->distinct))
		return 0;
	if (!family)
		return conf_errors_add(l->errs, own ? own->file : jail->where.file,
				       own ? own->line : jail->where.line,
				       "distinct: the filter '%s' has no such field: '%.60s'",
				       rule->filter.name, rule->distinct);
	rule->distinct = NULL;
	return 0;
}

static int rules(struct loader *l, struct jail_conf *jail)
{
	const struct override over = {&l->jails, jail->name, l->vars, l->nvars};
	struct filter_conf *filters = NULL;
	struct ini_spec *spec = arena_alloc(&l->conf->arena, sizeof *spec);
	struct text_at where;
	bool family;
	int r = 0, n;

	if (filter_spec(l, jail, spec, &where))
		return ERROR_CONFIG;
	n = filter_load(&l->place, spec, &where, &over, l->conf, &filters, l->errs);
	if (n < 0)
		return ERROR_CONFIG;
	family = n > 1;
	jail->rules = arena_array(&l->conf->arena, (size_t)n, sizeof *jail->rules);
	jail->nrules = (size_t)n;
	for (size_t i = 0; i < jail->nrules; i++) {
		jail->rules[i].filter = filters[i];
		digest_filter(l, &filters[i]);
		r |= thresholds(l, jail, &jail->rules[i], family);
		if (!r)
			r = settle_distinct(l, jail, &jail->rules[i], family);
	}
	return r ? ERROR_CONFIG : 0;
}

/* What is counted are connections: thresholds and a name, no expressions. */
static int sockets_rule(struct loader *l, struct jail_conf *jail)
{
	int r;

	jail->rules = arena_array(&l->conf->arena, 1, sizeof *jail->rules);
	jail->nrules = 1;
	jail->rules[0].filter = (struct filter_conf){.name = CONF_SOCKETS, .maxlines = 1};
	digest_filter(l, &jail->rules[0].filter);
	r = thresholds(l, jail, &jail->rules[0], false);
	jail->rules[0].distinct = NULL; /* of [DEFAULT] */
	return r;
}

static void digest_action(struct loader *l, const struct action_conf *a)
{
	const struct text_at *commands[] = {&a->ban, &a->unban, &a->start, &a->stop, &a->check};
	char limits[48];

	snprintf(limits, sizeof limits, "%d %lld %d %d", (int)a->kind, (long long)a->timeout_s,
		 a->norestored, a->only_exhaustion);
	conf_digest_add(l, "action", a->name);
	conf_digest_add(l, "limits", limits);
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
		conf_digest_add(l, "command", commands[i]->text ? commands[i]->text : "");
	for (size_t i = 0; i < a->nparams; i++)
		conf_digest_add(l, a->params[i].name, a->params[i].value);
}

/* What a fail2ban tree's firewall action says about ports: by its name, its type and its port. */
static int firewall_ports(struct loader *l, struct jail_conf *jail, const struct action_conf *a)
{
	const struct key *key = key_named("port");
	const char *type = "";
	struct error err = {0};

	if (!l->conf->is_fail2ban || a->kind != ACTION_NFTABLES)
		return 0;
	for (size_t i = 0; i < a->nparams; i++)
		if (!strcmp(a->params[i].name, "type"))
			type = a->params[i].value;
	jail->scope_port = !strstr(a->name, "allports") && strcmp(type, "allports");
	for (size_t i = 0; i < a->nparams; i++) {
		struct text_at text = {a->params[i].value, a->where.file, a->where.line};

		if (!strcmp(a->params[i].name, "port") &&
		    key->parse(key, &text, &jail->port_auto, &l->conf->arena, &err))
			return conf_errors_take(l->errs, &err);
	}
	return 0;
}

static int add_action(struct loader *l, struct jail_conf *jail, const struct ini_spec *spec,
		      const struct text_at *where)
{
	struct conf_errors faults = {0};
	struct action_conf a;
	char text[1100];
	int r = action_load(&l->place, spec, where, &a, l->conf, &faults);

	if (r && l->conf->is_fail2ban && faults.count) {
		conf_warn(l->conf, where->file, where->line, "action '%s' of [%s] is left out: %s",
			  spec->name, jail->name,
			  error_format(&faults.items[0], text, sizeof text));
		conf_errors_free(&faults);
		return 0;
	}
	for (size_t i = 0; i < faults.count; i++)
		conf_errors_take(l->errs, &faults.items[i]);
	conf_errors_free(&faults);
	if (r)
		return r;
	digest_action(l, &a);
	jail->actions =
		arena_append(&l->conf->arena, jail->actions, jail->nactions++, sizeof a, &a);
	return firewall_ports(l, jail, &a);
}

static bool has_action(const struct jail_conf *jail, enum action_kind kind)
{
	for (size_t i = 0; i < jail->nactions; i++)
		if (jail->actions[i].kind == kind)
			return true;
	return false;
}

/* fail2ban's files do not name the kill, it goes with their drop. */
static void settle_kill(struct loader *l, struct jail_conf *jail)
{
	struct action_conf kill = {.name = "kill", .kind = ACTION_KILL, .where = jail->where};

	if (l->conf->is_fail2ban && jail->kill && has_action(jail, ACTION_NFTABLES) &&
	    !has_action(jail, ACTION_KILL))
		jail->actions = arena_append(&l->conf->arena, jail->actions, jail->nactions++,
					     sizeof kill, &kill);
	jail->kill = jail->kill && has_action(jail, ACTION_KILL);
}

static int scope(struct loader *l, struct jail_conf *jail)
{
	struct text_at text;

	if (value(l, jail->name, key_named("scope"), &text))
		return ERROR_CONFIG;
	conf_digest_add(l, "scope", text.text);
	if (!text.file) /* not set: what the actions said */
		return 0;
	jail->scope_port = !strcasecmp(text.text, "port");
	if (jail->scope_port || !strcasecmp(text.text, "all"))
		return 0;
	return conf_errors_add(l->errs, text.file, text.line,
			       "scope must be all or port: 'scope = %.60s'", text.text);
}

static int actions(struct loader *l, struct jail_conf *jail)
{
	struct text_at *where = arena_alloc(&l->conf->arena, sizeof *where);
	struct ini_spec *specs;
	struct error err = {0};
	int n, r = 0;

	if (value(l, jail->name, key_named("action"), where))
		return ERROR_CONFIG;
	if (!where->file)
		*where = (struct text_at){where->text, jail->where.file, jail->where.line};
	n = ini_specs(&l->conf->arena, where, &specs, &err);
	if (n < 0)
		return conf_errors_take(l->errs, &err);
	for (int i = 0; i < n; i++)
		r |= add_action(l, jail, &specs[i], where);
	r |= scope(l, jail);
	settle_kill(l, jail);
	return r ? ERROR_CONFIG : 0;
}

/* One command, kept among the actions for the runner; see only_exhaustion. */
static int exhaustion(struct loader *l, struct jail_conf *jail)
{
	const struct key *key = key_named("on_exhaustion");
	struct text_at *where = arena_alloc(&l->conf->arena, sizeof *where);
	struct ini_spec *specs;
	struct action_conf a;
	struct error err = {0};
	int n;

	if (value(l, jail->name, key, where))
		return ERROR_CONFIG;
	if (key_is_off(where->text))
		return 0;
	n = ini_specs(&l->conf->arena, where, &specs, &err);
	if (n < 0)
		return conf_errors_take(l->errs, &err);
	if (n != 1) {
		key_fault(key, where, "must be one action", &err);
		return conf_errors_take(l->errs, &err);
	}
	if (action_load(&l->place, specs, where, &a, l->conf, l->errs))
		return ERROR_CONFIG;
	if (a.kind != ACTION_COMMAND || !a.ban.text) {
		key_fault(key, where,
			  "must be a command, such as run[command=\"systemctl restart flask\"]",
			  &err);
		return conf_errors_take(l->errs, &err);
	}
	a.only_exhaustion = true;
	digest_action(l, &a);
	jail->actions =
		arena_append(&l->conf->arena, jail->actions, jail->nactions++, sizeof a, &a);
	jail->sockets.exhaustion_action = jail->nactions;
	return 0;
}

/* A census asks the kernel for named ports; "all ports" would take in this host's own clients. */
static int check_sockets_ports(struct loader *l, const struct jail_conf *jail)
{
	unsigned ports = conf_count_ports(jail);

	if (jail->backend != BACKEND_SOCKETS || ports <= CONF_SCOPE_PORTS)
		return 0;
	return conf_errors_add(
		l->errs, jail->where.file, jail->where.line,
		"[%s] names %u ports, backend = sockets takes at most %u: 'backend = "
		"sockets'",
		jail->name, ports, CONF_SCOPE_PORTS);
}

/*
 * A ban with scope = port is one element a port in the kernel. In a fail2ban tree a multiport
 * action on 0:65535, which is its default, means every port.
 */
static int check_scope(struct loader *l, struct jail_conf *jail)
{
	unsigned ports = conf_count_ports(jail);

	if (!jail->scope_port || ports <= CONF_SCOPE_PORTS)
		return 0;
	if (l->conf->is_fail2ban) {
		jail->scope_port = false;
		return 0;
	}
	return conf_errors_add(l->errs, jail->where.file, jail->where.line,
			       "[%s] names %u ports, scope = port takes at most %u: 'scope = port'",
			       jail->name, ports, CONF_SCOPE_PORTS);
}

static int check_name(struct loader *l, const struct ini_section *s)
{
	size_t n = strlen(s->name);
	char quoted[QUOTE_SIZE];

	for (size_t i = 0; i < n; i++) {
		char c = s->name[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    !strchr("_.-", c))
			n = MAX_NAME + 1;
	}
	if (n <= MAX_NAME)
		return 0;
	return conf_errors_add(l->errs, s->file, s->line,
			       "a jail's name is up to 63 letters, digits, '_', '.' or '-': '[%s]'",
			       textbuf_quote(slice_str(s->name), quoted));
}

/* A ban that grows is never shorter than one that does not. */
static void settle_growth(struct loader *l, struct jail_conf *jail)
{
	struct growth_conf *g = &jail->growth;

	if (!g->increment || !g->maxtime_s || jail->bantime_s <= g->maxtime_s)
		return;
	g->maxtime_s = jail->bantime_s;
	conf_warn(l->conf, jail->where.file, jail->where.line,
		  "bans of [%s] do not grow, since bantime is above bantime.maxtime", jail->name);
}

int jail_load(struct loader *l, const struct ini_section *section)
{
	struct jail_conf jail = {.name = section->name};
	const struct key *enabled = key_named("enabled");
	struct error err = {0};
	struct text_at text;
	bool sockets;
	int r = 0;

	if (section->cond || !strcmp(section->name, INI_DEFAULT))
		return 0;
	if (value(l, section->name, enabled, &text))
		return ERROR_CONFIG;
	if (enabled->parse(enabled, &text, &jail.enabled, &l->conf->arena, &err))
		return conf_errors_take(l->errs, &err);
	if (!jail.enabled)
		return 0;
	if (l->conf->njails >= MAX_JAILS)
		return conf_errors_add(l->errs, section->file, section->line, "more than %u jails",
				       MAX_JAILS);
	jail.where = (struct text_at){section->name, text.file, text.line};
	conf_digest_add(l, "jail", section->name);
	r |= check_name(l, section);
	r |= fields(l, section->name, &jail);
	r |= refused(l, section->name);
	if (!r)
		r |= check_kind(l, section->name, &jail) | log_paths(l, &jail);
	sockets = jail.backend == BACKEND_SOCKETS;
	r |= sockets ? sockets_rule(l, &jail) : rules(l, &jail);
	r |= actions(l, &jail);
	if (sockets)
		r |= exhaustion(l, &jail) | check_sockets_ports(l, &jail);
	settle_growth(l, &jail);
	r |= check_scope(l, &jail);
	l->conf->jails = arena_append(&l->conf->arena, l->conf->jails, l->conf->njails++,
				      sizeof jail, &jail);
	return r ? ERROR_CONFIG : 0;
}
