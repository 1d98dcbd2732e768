/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands of tailban share.
 *
 *   main.c      the table of subcommands, options in front of them, help
 *   options.c   options of a subcommand
 *   link.c      the way to the daemon: requests, answers, pages
 *   text.c      tables, times, sizes and colours for people
 *   NAME.c      one subcommand each (ban.c also holds unban, they send the same way)
 *   present.c   what the daemon adds where it need not be there
 *   peers.c     the kernel's sockets, added up by peer
 *   replay.c    runs the detector itself, in this process; no daemon is needed
 *
 * A subcommand returns the exit status. What it has to complain about goes to stderr as one
 * sentence. Text of the daemon may hold attackers' bytes: it is printed through escape_text only,
 * with --json as ASCII.
 */
#ifndef TAILBAN_CLIENT_CLIENT_H
#define TAILBAN_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

enum client_exit {
	CLIENT_YES,     /* done, found */
	CLIENT_NO,      /* nothing found, was not banned */
	CLIENT_USAGE,   /* a word of the command line is wrong */
	CLIENT_AWAY,    /* no daemon answers */
	CLIENT_REFUSED, /* the daemon says no */
};

struct client {
	const char *socket;
	bool json, no_colour, help;
	const struct subcommand *command;
};

struct subcommand {
	const char *name;
	int (*run)(struct client *c, int argc, char **argv); /* argv[0] is the name */
	const char *arguments;                               /* "[JAIL]" */
	const char *help;                                    /* a line */
};

/*
 * "tailban: text" on stderr, escaped as a whole: words of the command line may be an attacker's.
 * The first adds how the command is used and returns CLIENT_USAGE.
 */
__attribute__((format(printf, 2, 3))) int client_usage(const struct client *c, const char *format,
						       ...);
__attribute__((format(printf, 1, 2))) void client_complain(const char *format, ...);

/* Says it and ends the process with CLIENT_AWAY. */
__attribute__((noreturn)) void client_no_memory(void);

void client_print_command(const struct subcommand *command);

/* One a file. */
int status_command(struct client *c, int argc, char **argv);
int banned_command(struct client *c, int argc, char **argv);
int ban_command(struct client *c, int argc, char **argv);
int unban_command(struct client *c, int argc, char **argv);
int why_command(struct client *c, int argc, char **argv);
int reload_command(struct client *c, int argc, char **argv);
int doctor_command(struct client *c, int argc, char **argv);
int conns_command(struct client *c, int argc, char **argv);
int replay_command(struct client *c, int argc, char **argv);

#endif
