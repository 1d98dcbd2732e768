/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Action files: the native ones and commands. Commands with a tag for a value of the ban are
 * refused.
 *
 * In a fail2ban tree the names of its firewall actions stand for the native one; what it has beside
 * (mails, reports) is left out with a warning by the caller.
 */
#include "daemon/config/loader.h"
#include "daemon/config/suggest.h"
#include "daemon/config/times.h"

#include <errno.h>
#include <stdio.h>

#define DEFINITION "Definition"
#define INIT "Init"
#define DEFAULT_TIMEOUT_S 60 /* as fail2ban's */
#define MAX_TIMEOUT_S 3600

static const struct {
	const char *tag, *variable;
} tags[] = {
#define ACTION_TAG(tag, variable) {tag, variable},
#include "daemon/config/action_tags.def"
};

static const struct {
	const char *name;
	enum action_kind kind;
} natives[] = {{"nftables", ACTION_NFTABLES}, {"kill", ACTION_KILL}};

/* Actions of fail2ban that drop packets on a Linux host, by the start of their name. */
static const char *const firewalls[] = {"iptables",  "nftables", "firewallcmd", "ufw",
					"shorewall", "route",    "apf"};

struct parameters {
	const struct ini *ini;
	const struct ini_spec *spec;
};

static int find_parameter(void *context, struct slice tag, const char **ret_value,
			  struct error *err)
{
	const struct parameters *p = context;
	const char *name = arena_slicedup(p->ini->arena, tag), *section = INIT;
	const struct ini_value *v;
	int r;

	*ret_value = ini_spec_argument(p->spec, name);
	if (*ret_value)
		return 1;
	v = ini_own(p->ini, INIT, name);
	if (!v) {
		section = DEFINITION;
		v = ini_get(p->ini, DEFINITION, name);
	}
	if (!v)
		return 0;
	r = ini_expand(p->ini, section, v, NULL, 0, ret_value, err);
	return r ? r : 1;
}

static int tag_fault(const struct text_at *command, struct slice tag, const char *variable,
		     struct error *err)
{
	char quoted[QUOTE_SIZE];

	textbuf_quote(slice_str(command->text), quoted);
	if (variable)
		return error_at(err, ERROR_CONFIG, command->file, command->line,
				"<%.*s> would put what an attacker chose into the command, use "
				"\"$%s\": '%s'",
				(int)tag.n, tag.p, variable, quoted);
	return error_at(err, ERROR_CONFIG, command->file, command->line,
			"<%.*s> is no value that a command gets in this version: '%s'", (int)tag.n,
			tag.p, quoted);
}

/* Called for what is left when all parameters are in. */
static int refuse_tag(void *context, struct slice tag, const char **ret_value, struct error *err)
{
	(void)ret_value;
	if (slice_starts(tag, SLICE("F-")))
		return tag_fault(context, tag, NULL, err);
	for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
		if (slice_eq_str(tag, tags[i].tag))
			return tag_fault(context, tag, tags[i].variable, err);
	return 0;
}

/* One option of the file, an argument of the same name wins; text NULL when it is not set or empty.
 */
static int option(struct parameters *p, const struct text_at *where, const char *name,
		  struct text_at *ret, struct error *err)
{
	const struct ini_value *v = ini_own(p->ini, INIT, name);
	const char *section = v ? INIT : DEFINITION;
	int r = 0;

	*ret = (struct text_at){ini_spec_argument(p->spec, name), where->file, where->line};
	if (!v)
		v = ini_get(p->ini, DEFINITION, name);
	if (!ret->text && v) {
		ret->file = v->file;
		ret->line = v->line;
		r = ini_expand(p->ini, section, v, NULL, 0, &ret->text, err);
	}
	if (r || !ret->text)
		return r;
	r = ini_substitute(p->ini->arena, ret, find_parameter, p, &ret->text, err);
	if (!r)
		ret->text = arena_slicedup(p->ini->arena, slice_trim(slice_str(ret->text)));
	if (!r && !*ret->text)
		ret->text = NULL;
	return r;
}

static int command(struct parameters *p, const struct text_at *where, const char *name,
		   struct text_at *ret, struct conf_errors *errs)
{
	struct error err = {0};
	const char *ignored;
	int r = option(p, where, name, ret, &err);

	if (!r && ret->text)
		r = ini_substitute(p->ini->arena, ret, refuse_tag, ret, &ignored, &err);
	return r ? conf_errors_take(errs, &err) : 0;
}

/* The same for arguments, so that the fault is shown in the jail which has it. */
static int check_arguments(struct parameters *p, const struct text_at *where,
			   struct conf_errors *errs)
{
	struct error err = {0};
	const char *ignored;

	for (size_t i = 0; i < p->spec->nargs; i++) {
		struct text_at value = {p->spec->args[i].value, where->file, where->line};

		if (ini_substitute(p->ini->arena, &value, refuse_tag, &value, &ignored, &err))
			return conf_errors_take(errs, &err);
	}
	return 0;
}

static int native_kind(const struct text_at *native, struct action_conf *a,
		       struct conf_errors *errs)
{
	for (size_t i = 0; i < sizeof natives / sizeof natives[0]; i++) {
		if (!strcmp(native->text, natives[i].name)) {
			a->kind = natives[i].kind;
			return 0;
		}
	}
	return conf_errors_add(errs, native->file, native->line,
			       "native must be nftables or kill: 'native = %s'", native->text);
}

static int limits(struct parameters *p, const struct text_at *where, struct action_conf *a,
		  struct conf_errors *errs)
{
	struct text_at timeout, norestored;
	struct error err = {0};
	int64_t s = DEFAULT_TIMEOUT_S;

	if (option(p, where, "timeout", &timeout, &err) ||
	    option(p, where, "norestored", &norestored, &err))
		return conf_errors_take(errs, &err);
	if (timeout.text &&
	    (times_parse(slice_str(timeout.text), &s) || s < 1 || s > MAX_TIMEOUT_S))
		return conf_errors_add(errs, timeout.file, timeout.line,
				       "timeout must be a time from 1s to 1h: 'timeout = %s'",
				       timeout.text);
	if (norestored.text && key_parse_bool(norestored.text, &a->norestored))
		return conf_errors_add(errs, norestored.file, norestored.line,
				       "norestored must be yes or no: 'norestored = %s'",
				       norestored.text);
	a->timeout_s = s;
	return 0;
}

/* Arguments first, then the [Init] values which they do not replace. */
static int params(struct parameters *p, struct action_conf *a, struct conf_errors *errs)
{
	const struct ini_section *init = ini_section(p->ini, INIT);
	struct arena *arena = p->ini->arena;
	struct error err = {0};

	for (size_t i = 0; i < p->spec->nargs; i++) {
		struct conf_param param = {p->spec->args[i].name, p->spec->args[i].value};

		a->params = arena_append(arena, a->params, a->nparams++, sizeof param, &param);
	}
	for (size_t i = 0; init && i < init->count; i++) {
		const struct ini_option *o = &init->options[i];
		struct conf_param param = {.name = o->name};

		if (o->cond || ini_spec_argument(p->spec, o->name))
			continue;
		if (ini_expand(p->ini, INIT, o->value, NULL, 0, &param.value, &err))
			return conf_errors_take(errs, &err);
		a->params = arena_append(arena, a->params, a->nparams++, sizeof param, &param);
	}
	return 0;
}

static int commands(struct parameters *p, const struct text_at *where, const char *file,
		    struct action_conf *a, struct conf_errors *errs)
{
	int r = 0;

	a->kind = ACTION_COMMAND;
	if (check_arguments(p, where, errs))
		return ERROR_CONFIG;
	r |= command(p, where, "actionban", &a->ban, errs);
	r |= command(p, where, "actionunban", &a->unban, errs);
	r |= command(p, where, "actionstart", &a->start, errs);
	r |= command(p, where, "actionstop", &a->stop, errs);
	r |= command(p, where, "actioncheck", &a->check, errs);
	if (r)
		return ERROR_CONFIG;
	if (!a->ban.text && !a->unban.text && !a->start.text && !a->stop.text)
		return conf_errors_add(
			errs, where->file, where->line,
			"action '%s' has nothing to do: %s has neither 'native' nor a command",
			a->name, file);
	return 0;
}

static bool is_firewall(const char *name)
{
	for (size_t i = 0; i < sizeof firewalls / sizeof firewalls[0]; i++)
		if (!strncmp(name, firewalls[i], strlen(firewalls[i])))
			return true;
	return false;
}

int action_load(const struct place *place, const struct ini_spec *spec, const struct text_at *where,
		struct action_conf *ret_action, struct conf *conf, struct conf_errors *errs)
{
	struct ini *ini = arena_alloc(place->arena, sizeof *ini);
	struct parameters p = {ini, spec};
	struct text_at native = {0};
	struct error err = {0};
	char buf[SUGGEST_STRLEN];
	const char *file;
	int r;

	*ret_action = (struct action_conf){
		.name = spec->name, .where = *where, .timeout_s = DEFAULT_TIMEOUT_S};
	ini_init(ini, place->arena);
	if (conf->is_fail2ban && is_firewall(spec->name)) {
		ret_action->kind = ACTION_NFTABLES;
		return params(&p, ret_action, errs);
	}
	r = place_read(place, PLACE_ACTION, spec->name, ini, &file, errs);
	if (r == -ENOENT)
		return conf_errors_add(errs, where->file, where->line, "there is no action '%s'%s",
				       spec->name,
				       place_suggest(place, PLACE_ACTION, spec->name, buf));
	if (r)
		return r;
	conf_take_warnings(conf, ini);
	if (option(&p, where, "native", &native, &err))
		return conf_errors_take(errs, &err);
	r = native.text ? native_kind(&native, ret_action, errs)
			: commands(&p, where, file, ret_action, errs);
	if (limits(&p, where, ret_action, errs) || params(&p, ret_action, errs))
		return ERROR_CONFIG;
	return r;
}
