/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys with a type: from the text of a value to a field, with one sentence when it does not fit.
 *
 * The tables are made from jail_keys.def and daemon_keys.def. A parser writes to its field only
 * when it succeeds; what it keeps is the arena's, but a netlist has memory of its own (conf_free).
 */
#ifndef TAILBAN_CONFIG_KEYS_H
#define TAILBAN_CONFIG_KEYS_H

#include "daemon/config/conf.h"

struct key;
/* 0 or ERROR_CONFIG. `value` is interpolated and trimmed. */
typedef int key_parse_fn(const struct key *key, const struct text_at *value, void *field,
			 struct arena *arena, struct error *err);

enum key_use {
	KEY_FIELD,   /* parse, offset in struct jail_conf or struct conf */
	KEY_RULE,    /* parse, offset in struct rule_conf */
	KEY_READ,    /* code of its own */
	KEY_SOCKETS, /* as KEY_FIELD, or KEY_READ when parse is NULL: for sockets jails only */
	KEY_LATER,   /* refused when set */
	KEY_UNUSED,  /* a warning when set and help is not empty */
};

struct key {
	const char *name;
	enum key_use use;
	key_parse_fn *parse;
	size_t offset;
	const char *fallback;
	int64_t min, max;
	bool shared;
	const char *help;
};

extern const struct key jail_keys[], daemon_keys[];
extern const size_t jail_keys_count, daemon_keys_count;

const struct key *key_find(const struct key *keys, size_t count, const char *name);

/* A value that says "not wanted": empty, off, no, none. */
bool key_is_off(const char *text);

/* "KEY what: 'KEY = text'" at the value's place; returns ERROR_CONFIG. */
int key_fault(const struct key *key, const struct text_at *value, const char *what,
	      struct error *err);

/* yes/no/on/off/true/false/1/0 in either case. 0 or -EINVAL. */
int key_parse_bool(const char *text, bool *ret_value);

#endif
