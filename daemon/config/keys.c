/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The types of configuration values and the tables of keys. Each fails with what would be right. */
#include "daemon/config/keys.h"
#include "daemon/config/textbuf.h"
#include "daemon/config/times.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define DEFAULT_FORMULA "ban.Time*(1<<(ban.Countifban.Count<20else20))*banFactor"

static key_parse_fn key_bool, key_auto, key_unsigned, key_u8, key_count, key_size, key_time,
	key_bantime, key_limit, key_number, key_numbers, key_formula, key_word, key_path, key_field,
	key_nets, key_ports, key_backend, key_witness, key_most, key_percent, key_nofile, key_level,
	key_target;

const struct key jail_keys[] = {
#define JAIL_KEY(name, type, field, fallback, min, max, help)                                      \
	{name, KEY_FIELD, key_##type, offsetof(struct jail_conf, field), fallback, min,            \
	 max,  true,      help},
#define RULE_KEY(name, type, field, fallback, min, max, help)                                      \
	{name, KEY_RULE, key_##type, offsetof(struct rule_conf, field), fallback, min,             \
	 max,  true,     help},
#define JAIL_READ(name, fallback, help) {name, KEY_READ, NULL, 0, fallback, 0, 0, true, help},
#define SOCKETS_KEY(name, type, field, fallback, min, max, help)                                   \
	{name, KEY_SOCKETS, key_##type, offsetof(struct jail_conf, field), fallback, min,          \
	 max,  true,        help},
#define SOCKETS_READ(name, fallback, help) {name, KEY_SOCKETS, NULL, 0, fallback, 0, 0, true, help},
#define JAIL_LATER(name, help) {name, KEY_LATER, NULL, 0, "", 0, 0, true, help},
#define JAIL_HELPER(name) {name, KEY_UNUSED, NULL, 0, "", 0, 0, true, ""},
#include "daemon/config/jail_keys.def"
};
const size_t jail_keys_count = sizeof jail_keys / sizeof jail_keys[0];

const struct key daemon_keys[] = {
#define DAEMON_KEY(name, type, field, fallback, min, max, shared, help)                            \
	{name, KEY_FIELD, key_##type, offsetof(struct conf, field), fallback, min,                 \
	 max,  shared,    help},
#define DAEMON_LATER(name, help) {name, KEY_LATER, NULL, 0, "", 0, 0, true, help},
#define DAEMON_UNUSED(name, help) {name, KEY_UNUSED, NULL, 0, "", 0, 0, true, help},
#include "daemon/config/daemon_keys.def"
};
const size_t daemon_keys_count = sizeof daemon_keys / sizeof daemon_keys[0];

const struct key *key_find(const struct key *keys, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(keys[i].name, name))
			return &keys[i];
	return NULL;
}

bool key_is_off(const char *text)
{
	return !*text || !strcasecmp(text, "off") || !strcasecmp(text, "no") ||
	       !strcasecmp(text, "none");
}

int key_fault(const struct key *key, const struct text_at *value, const char *what,
	      struct error *err)
{
	char quoted[QUOTE_SIZE];

	return error_at(err, ERROR_CONFIG, value->file, value->line, "%s %s: '%s = %s'", key->name,
			what, key->name, textbuf_quote(slice_str(value->text), quoted));
}

static int range_fault(const struct key *key, const struct text_at *value, struct error *err)
{
	char what[96];

	snprintf(what, sizeof what, "must be a number from %lld to %lld", (long long)key->min,
		 (long long)key->max);
	return key_fault(key, value, what, err);
}

int key_parse_bool(const char *text, bool *ret_value)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = {{"yes", true},  {"no", false},    {"on", true}, {"off", false},
		     {"true", true}, {"false", false}, {"1", true},  {"0", false}};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (!strcasecmp(text, words[i].word)) {
			*ret_value = words[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

static int key_bool(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	(void)arena;
	return key_parse_bool(value->text, field) ? key_fault(key, value, "must be yes or no", err)
						  : 0;
}

static int key_auto(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	bool *b = field;

	(void)arena;
	if (!strcasecmp(value->text, "auto")) {
		*b = true;
		return 0;
	}
	return key_parse_bool(value->text, b)
		       ? key_fault(key, value, "must be yes, no or auto", err)
		       : 0;
}

static int whole(const struct key *key, const struct text_at *value, uint64_t *ret_n,
		 struct error *err)
{
	if (slice_u64(slice_str(value->text), (uint64_t)key->max, ret_n) ||
	    *ret_n < (uint64_t)key->min)
		return range_fault(key, value, err);
	return 0;
}

static int key_unsigned(const struct key *key, const struct text_at *value, void *field,
			struct arena *arena, struct error *err)
{
	uint64_t n = 0;
	int r = whole(key, value, &n, err);

	(void)arena;
	if (!r)
		*(unsigned *)field = (unsigned)n;
	return r;
}

static int key_u8(const struct key *key, const struct text_at *value, void *field,
		  struct arena *arena, struct error *err)
{
	uint64_t n = 0;
	int r = whole(key, value, &n, err);

	(void)arena;
	if (!r)
		*(uint8_t *)field = (uint8_t)n;
	return r;
}

/* A number with k, M or G behind it, each `step` times the one before. */
static int scaled(const struct key *key, const struct text_at *value, uint64_t step,
		  uint64_t *ret_n, struct error *err)
{
	static const char letters[] = "kmg";
	struct slice digits = slice_str(value->text);
	const char *at = digits.n ? strchr(letters, digits.p[digits.n - 1] | 0x20) : NULL;
	size_t power = at ? (size_t)(at - letters) + 1 : 0;
	uint64_t n = 0;

	if (power)
		digits = slice_trim(slice_head(digits, digits.n - 1));
	if (slice_u64(digits, (uint64_t)key->max, &n))
		return range_fault(key, value, err);
	for (; power; power--)
		if (__builtin_mul_overflow(n, step, &n))
			return range_fault(key, value, err);
	if (n < (uint64_t)key->min || n > (uint64_t)key->max)
		return range_fault(key, value, err);
	*ret_n = n;
	return 0;
}

static int key_count(const struct key *key, const struct text_at *value, void *field,
		     struct arena *arena, struct error *err)
{
	uint64_t n = 0;
	int r = scaled(key, value, 1000, &n, err);

	(void)arena;
	if (!r)
		*(uint32_t *)field = (uint32_t)n;
	return r;
}

static int key_size(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	uint64_t n = 0;
	int r = scaled(key, value, 1024, &n, err);

	(void)arena;
	if (!r)
		*(uint64_t *)field = n;
	return r;
}

static int key_time(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	char least[TIMES_STRLEN], most[TIMES_STRLEN], what[224];
	int64_t s;

	(void)arena;
	if (times_parse(slice_str(value->text), &s))
		return key_fault(key, value, "must be a time such as '90', '10m' or '1h 30m'", err);
	if (s < key->min || s > key->max) {
		snprintf(what, sizeof what, "must be a time from %s to %s",
			 times_format(key->min, least, sizeof least),
			 times_format(key->max, most, sizeof most));
		return key_fault(key, value, what, err);
	}
	*(int64_t *)field = s;
	return 0;
}

static int key_bantime(const struct key *key, const struct text_at *value, void *field,
		       struct arena *arena, struct error *err)
{
	int64_t s;

	(void)arena;
	if (times_parse(slice_str(value->text), &s) || (s < 1 && s != CONF_FOREVER))
		return key_fault(key, value,
				 "must be a time such as '10m' or '1h 30m', or -1 for ever", err);
	*(int64_t *)field = s;
	return 0;
}

/* A time, or nothing (0). */
static int key_limit(const struct key *key, const struct text_at *value, void *field,
		     struct arena *arena, struct error *err)
{
	if (!key_is_off(value->text))
		return key_time(key, value, field, arena, err);
	*(int64_t *)field = 0;
	return 0;
}

/* A decimal number, whatever the locale says. */
static bool decimal(const char *text, double max, double *ret_value)
{
	double value = 0, place = 1;
	bool point = false, digits = false;

	for (; *text; text++) {
		if (*text == '.' && !point) {
			point = true;
			continue;
		}
		if (*text < '0' || *text > '9')
			return false;
		digits = true;
		if (point)
			place /= 10;
		value = point ? value + place * (*text - '0') : value * 10 + (*text - '0');
	}
	*ret_value = value;
	return digits && value > 0 && value <= max;
}

static int key_number(const struct key *key, const struct text_at *value, void *field,
		      struct arena *arena, struct error *err)
{
	double d;

	(void)arena;
	if (!decimal(value->text, (double)key->max, &d))
		return key_fault(key, value, "must be a number above 0, such as '1' or '2.5'", err);
	*(double *)field = d;
	return 0;
}

static int key_numbers(const struct key *key, const struct text_at *value, void *field,
		       struct arena *arena, struct error *err)
{
	struct growth_conf *growth = field;
	struct slice rest = slice_str(value->text), word;
	double *list = NULL, d;
	size_t count = 0;

	while (slice_word(&rest, &word)) {
		if (!decimal(arena_slicedup(arena, word), (double)key->max, &d))
			return key_fault(key, value,
					 "must be numbers above 0, such as '1 2 4 8 16'", err);
		list = arena_append(arena, list, count++, sizeof d, &d);
	}
	growth->multipliers = list;
	growth->nmultipliers = count;
	return 0;
}

static int key_formula(const struct key *key, const struct text_at *value, void *field,
		       struct arena *arena, struct error *err)
{
	struct slice rest = slice_str(value->text), word;
	struct textbuf plain = {.arena = arena};

	while (slice_word(&rest, &word))
		textbuf_add(&plain, word);
	if (plain.n && strcmp(textbuf_text(&plain), DEFAULT_FORMULA))
		return key_fault(key, value,
				 "is Python: only fail2ban's default formula is known here, use "
				 "bantime.multipliers or bantime.factor",
				 err);
	*(const char **)field = NULL;
	return 0;
}

static int key_word(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	(void)arena;
	if (!*value->text || strpbrk(value->text, " \t\n"))
		return key_fault(key, value, "must be one word", err);
	*(const char **)field = value->text;
	return 0;
}

static int key_path(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	bool may_lack = !*key->fallback;

	(void)arena;
	if (may_lack && key_is_off(value->text)) {
		*(const char **)field = NULL;
		return 0;
	}
	if (value->text[0] != '/' || strchr(value->text, '\n'))
		return key_fault(key, value, "must be an absolute path", err);
	*(const char **)field = value->text;
	return 0;
}

/* The name of a captured field: <F-PATH> is "path". */
static int key_field(const struct key *key, const struct text_at *value, void *field,
		     struct arena *arena, struct error *err)
{
	char *name = arena_strdup(arena, value->text);

	for (char *c = name; *c; c++) {
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
		if (!(*c >= 'a' && *c <= 'z') && !(*c >= '0' && *c <= '9') && *c != '_')
			return key_fault(key, value,
					 "must be the name of a field, such as 'path' for <F-PATH>",
					 err);
	}
	*(const char **)field = *name ? name : NULL;
	return 0;
}

static int bad_net(const struct key *key, const struct text_at *value, struct slice word,
		   struct error *err)
{
	char quoted[QUOTE_SIZE];

	if (slice_starts(word, SLICE("file:")))
		return error_at(err, ERROR_CONFIG, value->file, value->line,
				"%s from a file is not in this version: '%s'", key->name,
				textbuf_quote(word, quoted));
	for (size_t i = 0; i < word.n; i++) {
		char c = (char)(word.p[i] | 0x20);

		if (c >= 'g' && c <= 'z' && slice_find(word, ':') == word.n &&
		    slice_find(word, '/') == word.n)
			return error_at(err, ERROR_CONFIG, value->file, value->line,
					"%s: names need the resolver, which this version does not "
					"have: '%s'",
					key->name, textbuf_quote(word, quoted));
	}
	return error_at(err, ERROR_CONFIG, value->file, value->line,
			"%s has something that is no address or network: '%s'", key->name,
			textbuf_quote(word, quoted));
}

static int key_nets(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	struct slice rest = slice_str(value->text), word;
	struct netlist *list = field, fresh = {0};

	(void)arena;
	while (slice_word(&rest, &word)) {
		struct addr net;

		if (addr_parse_net(word, &net) || netlist_add(&fresh, &net)) {
			netlist_free(&fresh);
			return bad_net(key, value, word, err);
		}
	}
	netlist_seal(&fresh);
	netlist_free(list);
	*list = fresh;
	return 0;
}

/* By /etc/services, and the common ones where that file is not installed. */
static int service_port(struct slice name, uint16_t *ret_port)
{
	static const struct {
		const char *name;
		uint16_t port;
	} common[] = {{"ssh", 22},      {"http", 80},    {"https", 443}, {"ftp", 21},
		      {"ftp-data", 20}, {"ftps", 990},   {"smtp", 25},   {"submission", 587},
		      {"imap", 143},    {"imap2", 143},  {"imaps", 993}, {"pop3", 110},
		      {"pop3s", 995},   {"sieve", 4190}, {"domain", 53}};
	char text[32];
	struct servent *s;

	if (name.n >= sizeof text)
		return -EINVAL;
	snprintf(text, sizeof text, "%.*s", (int)name.n, name.p);
	s = getservbyname(text, "tcp");
	if (!s)
		s = getservbyname(text, "udp");
	if (s) {
		unsigned n = (unsigned)s->s_port; /* network byte order */

		*ret_port = (uint16_t)((n & 0xff) << 8 | (n >> 8 & 0xff));
		return 0;
	}
	for (size_t i = 0; i < sizeof common / sizeof common[0]; i++) {
		if (!strcmp(common[i].name, text)) {
			*ret_port = common[i].port;
			return 0;
		}
	}
	return -EINVAL;
}

static int port_number(struct slice text, uint16_t *ret_port)
{
	uint64_t n;

	if (slice_u64(text, UINT16_MAX, &n))
		return text.n && (text.p[0] < '0' || text.p[0] > '9') ? service_port(text, ret_port)
								      : -EINVAL;
	*ret_port = (uint16_t)n;
	return 0;
}

/* `80`, `http`, `8000:8010`, `8000-8010`. */
static int port_range(struct slice text, struct port_range *ret)
{
	size_t at = slice_find(text, ':');

	if (!port_number(text, &ret->first)) {
		ret->last = ret->first;
		return ret->first ? 0 : -EINVAL;
	}
	if (at == text.n)
		at = slice_find(text, '-');
	if (at == text.n || port_number(slice_head(text, at), &ret->first) ||
	    port_number(slice_skip(text, at + 1), &ret->last))
		return -EINVAL;
	return ret->first <= ret->last && ret->last ? 0 : -EINVAL;
}

static int key_ports(const struct key *key, const struct text_at *value, void *field,
		     struct arena *arena, struct error *err)
{
	struct jail_conf *jail = (void *)((char *)field - offsetof(struct jail_conf, port_auto));
	struct slice rest = slice_str(value->text), word;
	struct port_range range, *ports = NULL;
	size_t count = 0;

	if (!*value->text || !strcasecmp(value->text, "auto")) {
		jail->port_auto = true;
		return 0;
	}
	while (slice_word(&rest, &word)) {
		if ((slice_eq_str(word, "all") || slice_eq_str(word, "any")))
			range = (struct port_range){0, UINT16_MAX};
		else if (port_range(word, &range))
			return key_fault(key, value,
					 "must be ports, ranges (8000:8010) or names of "
					 "/etc/services, or auto",
					 err);
		ports = arena_append(arena, ports, count++, sizeof range, &range);
	}
	jail->port_auto = false;
	jail->ports = ports;
	jail->nports = count;
	return 0;
}

static int key_backend(const struct key *key, const struct text_at *value, void *field,
		       struct arena *arena, struct error *err)
{
	static const struct {
		const char *word;
		enum conf_backend backend;
	} words[] = {{"auto", BACKEND_AUTO},       {"inotify", BACKEND_AUTO},
		     {"pyinotify", BACKEND_AUTO},  {"gamin", BACKEND_AUTO},
		     {"polling", BACKEND_POLLING}, {"stdin", BACKEND_STDIN},
		     {"sockets", BACKEND_SOCKETS}};

	(void)arena;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (!strcasecmp(value->text, words[i].word)) {
			*(enum conf_backend *)field = words[i].backend;
			return 0;
		}
	}
	if (!strncasecmp(value->text, "systemd", strlen("systemd")))
		return key_fault(key, value,
				 "of the journal is not in this version: use a log file", err);
	return key_fault(key, value, "must be auto, polling, stdin or sockets", err);
}

static int key_witness(const struct key *key, const struct text_at *value, void *field,
		       struct arena *arena, struct error *err)
{
	enum conf_witness *witness = field;
	bool yes;

	(void)arena;
	if (!strcasecmp(value->text, "auto")) {
		*witness = WITNESS_AUTO;
		return 0;
	}
	if (key_parse_bool(value->text, &yes))
		return key_fault(key, value, "must be yes, no or auto", err);
	*witness = yes ? WITNESS_YES : WITNESS_NO;
	return 0;
}

/* A number, or nothing (0). */
static int key_most(const struct key *key, const struct text_at *value, void *field,
		    struct arena *arena, struct error *err)
{
	char what[96];

	if (key_is_off(value->text)) {
		*(unsigned *)field = 0;
		return 0;
	}
	if (!key_unsigned(key, value, field, arena, NULL))
		return 0;
	snprintf(what, sizeof what, "must be off or a number from %lld to %lld",
		 (long long)key->min, (long long)key->max);
	return key_fault(key, value, what, err);
}

/* The sign is wanted: a bare number might be meant as a count. */
static int key_percent(const struct key *key, const struct text_at *value, void *field,
		       struct arena *arena, struct error *err)
{
	struct slice digits = slice_str(value->text);
	bool has_sign = digits.n && digits.p[digits.n - 1] == '%';
	uint64_t n = 0;

	(void)arena;
	if (has_sign)
		digits = slice_head(digits, digits.n - 1);
	if (!key_is_off(value->text) &&
	    (!has_sign || slice_u64(digits, (uint64_t)key->max, &n) || n < (uint64_t)key->min))
		return key_fault(key, value,
				 "must be off or a part of the service's limit, from 1% to 100%",
				 err);
	*(unsigned *)field = (unsigned)n;
	return 0;
}

static int key_nofile(const struct key *key, const struct text_at *value, void *field,
		      struct arena *arena, struct error *err)
{
	char what[96];
	uint64_t n = 0;

	(void)arena;
	if (!strcasecmp(value->text, "hard")) {
		n = UINT64_MAX;
	} else if (!key_is_off(value->text) && whole(key, value, &n, NULL)) {
		snprintf(what, sizeof what, "must be no, hard or a number from %lld to %lld",
			 (long long)key->min, (long long)key->max);
		return key_fault(key, value, what, err);
	}
	*(uint64_t *)field = n;
	return 0;
}

static int key_level(const struct key *key, const struct text_at *value, void *field,
		     struct arena *arena, struct error *err)
{
	enum log_level level;

	(void)arena;
	if (!strcasecmp(value->text, "TRACEDEBUG")) /* one of fail2ban's */
		level = LOG_LEVEL_DEBUG;
	else if (log_level_parse(slice_str(value->text), &level))
		return key_fault(key, value, "must be error, warning, notice, info or debug", err);
	*(enum log_level *)field = level;
	return 0;
}

/* fail2ban's targets may carry options, as in SYSLOG[facility=...]; they mean nothing here. */
static int key_target(const struct key *key, const struct text_at *value, void *field,
		      struct arena *arena, struct error *err)
{
	static const struct {
		const char *word, *target;
	} words[] = {{"STDERR", "STDERR"}, {"STDOUT", "STDOUT"},          {"SYSOUT", "STDOUT"},
		     {"SYSLOG", "SYSLOG"}, {"SYSTEMD-JOURNAL", "SYSLOG"}, {"journal", "SYSLOG"}};
	struct slice name = slice_str(value->text);
	const char *text;

	name = slice_trim(slice_head(name, slice_find(name, '[')));
	text = arena_slicedup(arena, name);
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (!strcasecmp(text, words[i].word)) {
			*(const char **)field = words[i].target;
			return 0;
		}
	}
	if (text[0] != '/' || strchr(text, '\n'))
		return key_fault(key, value,
				 "must be an absolute path, SYSLOG, journal, STDERR or STDOUT",
				 err);
	*(const char **)field = text;
	return 0;
}
