/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the command line: see options.h. */
#include "client/options.h"
#include "daemon/base/slice.h"
#include "daemon/config/suggest.h"

#include <errno.h>
#include <string.h>

#define OPTIONS_MAX 16

struct parser {
	struct client *client;
	struct option all[OPTIONS_MAX]; /* everybody's and the subcommand's */
	size_t n;
	int argc, at;
	char **argv;
};

static void add(struct parser *p, struct option o)
{
	if (p->n < OPTIONS_MAX)
		p->all[p->n++] = o;
}

static void collect(struct parser *p, const struct option *own)
{
	struct client *c = p->client;

	add(p, (struct option){"socket", 's', &c->socket, NULL});
	add(p, (struct option){"json", 0, NULL, &c->json});
	add(p, (struct option){"no-color", 0, NULL, &c->no_colour});
	add(p, (struct option){"help", 'h', NULL, &c->help});
	for (; own && own->name; own++)
		add(p, *own);
}

static int unknown(const struct parser *p, const char *word)
{
	char name[SUGGEST_MAX_WORD + 1] = "", text[SUGGEST_STRLEN];
	size_t n = strcspn(word, "=");
	struct suggest s;

	if (n < sizeof name)
		memcpy(name, word, n);
	s = suggest_for(name);
	for (size_t i = 0; i < p->n && name[0]; i++) {
		char candidate[SUGGEST_MAX_WORD + 1] = "--";

		strncat(candidate, p->all[i].name, sizeof candidate - 3);
		suggest_try(&s, candidate);
	}
	client_usage(p->client, "unknown option '%s'%s", word, suggest_text(&s, text));
	return -EINVAL;
}

/* `value` stands behind the option in the same word, or is NULL. */
static int take(struct parser *p, const struct option *o, const char *value)
{
	if (!o->value && value) {
		client_usage(p->client, "--%s takes no value", o->name);
		return -EINVAL;
	}
	if (!o->value) {
		*o->flag = true;
		return 0;
	}
	if (!value && p->at + 1 < p->argc)
		value = p->argv[++p->at];
	if (!value) {
		client_usage(p->client, "--%s needs a value", o->name);
		return -EINVAL;
	}
	*o->value = value;
	return 0;
}

static int long_option(struct parser *p, const char *word)
{
	size_t n = strcspn(word + 2, "=");

	for (size_t i = 0; i < p->n; i++)
		if (strlen(p->all[i].name) == n && !memcmp(p->all[i].name, word + 2, n))
			return take(p, &p->all[i], word[2 + n] ? word + 3 + n : NULL);
	return unknown(p, word);
}

static int short_option(struct parser *p, const char *word)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->all[i].letter == word[1])
			return take(p, &p->all[i], word[2] ? word + 2 : NULL);
	return unknown(p, word);
}

int options_parse(struct client *c, int argc, char **argv, const struct option *own,
		  bool until_word)
{
	struct parser p = {.client = c, .argc = argc, .argv = argv};
	int words = 0, r = 0;
	bool over = false;

	collect(&p, own);
	for (p.at = 1; p.at < argc && r == 0; p.at++) {
		char *word = argv[p.at];

		if (over || word[0] != '-' || !word[1]) {
			if (until_word)
				return p.at;
			argv[++words] = word;
		} else if (!strcmp(word, "--")) {
			over = true;
		} else {
			r = word[1] == '-' ? long_option(&p, word) : short_option(&p, word);
		}
	}
	if (r < 0) {
		c->help = false;
		return r;
	}
	if (c->help && c->command) {
		client_print_command(c->command);
		return -EINVAL;
	}
	return until_word ? argc : words;
}

int options_status(const struct client *c)
{
	return c->help ? CLIENT_YES : CLIENT_USAGE;
}

bool options_port(const struct client *c, const char *text, uint16_t *ret_port)
{
	uint64_t port;

	if (slice_u64(slice_str(text), UINT16_MAX, &port) < 0 || !port) {
		client_usage(c, "--port takes a TCP port from 1 to 65535, not '%s'", text);
		return false;
	}
	*ret_port = (uint16_t)port;
	return true;
}
