/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options of a subcommand: --name VALUE, --name=VALUE, -n VALUE, -nVALUE, flags; `--` ends them,
 * `-` is none.
 *
 * Those in front of the subcommand (--socket, --json, --no-color, --help) are taken anywhere. An
 * unknown one is answered with the nearest that exists.
 */
#ifndef TAILBAN_CLIENT_OPTIONS_H
#define TAILBAN_CLIENT_OPTIONS_H

#include "client/client.h"

#include <stdint.h>

struct option {
	const char *name;   /* without dashes */
	char letter;        /* 0 = none */
	const char **value; /* where its value goes; NULL for a flag */
	bool *flag;
};

/*
 * Reads argv[1...]; what is no option is moved to argv[1] and on, and counted. `own` ends with a
 * NULL name and may be NULL. With until_word reading ends at the first word, which is what is
 * counted. Returns the count, or -EINVAL after it has said what is wrong, or printed the help that
 * was asked for: then the command is over with options_status().
 */
int options_parse(struct client *c, int argc, char **argv, const struct option *own,
		  bool until_word);
int options_status(const struct client *c);

/* The value of --port. False after it has said that it is none. */
bool options_port(const struct client *c, const char *text, uint16_t *ret_port);

#endif
