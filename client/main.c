/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban: asks the daemon, tells it, and replays logs. This file holds the table of subcommands.
 *
 * Exit status: 0 yes or done, 1 no or nothing found, 2 usage, 3 no daemon, 4 refused.
 */
#include "client/client.h"
#include "client/options.h"
#include "client/text.h"
#include "daemon/base/escape.h"
#include "daemon/config/suggest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

static int version_command(struct client *c, int argc, char **argv);
static int help_command(struct client *c, int argc, char **argv);

static const struct subcommand commands[] = {
	{"status", status_command, "[JAIL]",
	 "what the daemon does and how it is; with JAIL: that jail and its bans"},
	{"banned", banned_command, "[--jail J] [--sort end|hits|dropped] [ADDR...]",
	 "the ban list; with ADDR: status 0 when all of them are banned"},
	{"ban", ban_command,
	 "ADDR[/LEN]... | --file LIST  [--jail J] [--for TIME|ever] [--reason TEXT] [--force]",
	 "ban by hand"},
	{"unban", unban_command, "ADDR[/LEN]... [--jail J] | --all [--jail J] | --me", "lift bans"},
	{"why", why_command, "ADDR", "the story of an address: offences, log lines, decisions"},
	{"conns", conns_command, "[--port P] [--silent]",
	 "who holds connections: count, states, silent ones, bytes, banned or not"},
	{"doctor", doctor_command, "[--port P | --log FILE]",
	 "what ails a service: limits, descriptors, threads, sockets, culprits; what to do"},
	{"reload", reload_command, "[JAIL]", "read the configuration again, all or nothing"},
	{"replay", replay_command, "[-c DIR] [--since TIME] [--now EPOCH] [--tz TZ] LOG...|-",
	 "who would have been banned by old logs; touches nothing"},
	{"version", version_command, "", "print the version"},
	{"help", help_command, "[COMMAND]", "this list, or one command"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

/* Fixed names of what later versions bring. */
static const char *const later[] = {"test",    "lint",   "top",    "report",
				    "metrics", "events", "config", "import"};
#define LATER (sizeof later / sizeof later[0])

/* Words of the command line and of the daemon may be an attacker's. */
__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
	char raw[1500], text[3000];

	vsnprintf(raw, sizeof raw, format, args);
	fprintf(stderr, "tailban: %s\n", escape_text(text, sizeof text, slice_str(raw)));
}

void client_complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

void client_no_memory(void)
{
	client_complain("out of memory");
	exit(CLIENT_AWAY);
}

int client_usage(const struct client *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	if (c->command)
		fprintf(stderr, "usage: tailban %s %s\n", c->command->name, c->command->arguments);
	else
		fputs("see: tailban help\n", stderr);
	return CLIENT_USAGE;
}

void client_print_command(const struct subcommand *command)
{
	printf("usage: tailban [-s SOCKET] [--json] [--no-color] %s %s\n%s\n", command->name,
	       command->arguments, command->help);
}

static void print_help(FILE *out)
{
	fputs("usage: tailban [-s SOCKET] [--json] [--no-color] COMMAND\n"
	      "Options may also follow the command.\n\n",
	      out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].help);
	fputs("\n`tailban help COMMAND` shows its arguments; everything is in tailban(1).\n", out);
}

static const struct subcommand *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int unknown(const struct client *c, const char *name)
{
	struct suggest s = suggest_for(name);
	char text[SUGGEST_STRLEN];

	for (size_t i = 0; i < LATER; i++)
		if (!strcmp(later[i], name))
			return client_usage(c, "'%s' is not in this version", name);
	for (size_t i = 0; i < COMMANDS; i++)
		suggest_try(&s, commands[i].name);
	return client_usage(c, "unknown command '%s'%s", name, suggest_text(&s, text));
}

static int version_command(struct client *c, int argc, char **argv)
{
	int n = options_parse(c, argc, argv, NULL, false);

	if (n < 0)
		return options_status(c);
	if (n > 0)
		return client_usage(c, "unexpected argument '%s'", argv[1]);
	if (c->json)
		puts("{\"version\": \"" PACKAGE_VERSION "\"}");
	else
		puts(PACKAGE_STRING);
	return CLIENT_YES;
}

static int help_command(struct client *c, int argc, char **argv)
{
	int n = options_parse(c, argc, argv, NULL, false);

	if (n < 0)
		return options_status(c);
	if (n > 1)
		return client_usage(c, "unexpected argument '%s'", argv[2]);
	if (n == 1 && !find(argv[1])) {
		c->command = NULL;
		return unknown(c, argv[1]);
	}
	if (n == 1)
		client_print_command(find(argv[1]));
	else
		print_help(stdout);
	return CLIENT_YES;
}

int main(int argc, char **argv)
{
	struct client c = {.socket = RUNSTATEDIR "/tailban/control"};
	bool version = false;
	const struct option own[] = {{"version", 'V', NULL, &version}, {NULL, 0, NULL, NULL}};
	int at = options_parse(&c, argc, argv, own, true);

	if (at < 0)
		return CLIENT_USAGE;
	if (version) {
		puts(PACKAGE_STRING);
		return CLIENT_YES;
	}
	if (at == argc) {
		print_help(c.help ? stdout : stderr);
		return c.help ? CLIENT_YES : CLIENT_USAGE;
	}
	c.command = find(argv[at]);
	if (!c.command)
		return unknown(&c, argv[at]);
	return c.command->run(&c, argc - at, argv + at);
}
