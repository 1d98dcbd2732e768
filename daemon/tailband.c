/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailband: the daemon. This file reads the command line; the rest is the library beside it.
 *
 * The way of a log line, and of the reader through the tree:
 *
 *   source/     finds, follows and splits logs: watch.c (inotify), source.c (files, rotation,
 * lines) filter/     fail2ban's expressions on PCRE2: tags.c, pattern.c, date.c, filter.c jail/
 * counts and remembers: ledger.c (sliding windows), growth.c, bans.c, evidence.c detector.c  puts
 * the two together: from a line to a decision; `tailban replay` runs it too resume.c    what
 * outlives an engine: positions, the line in hand, the ledger engine.c    the unprivileged process:
 * wires source, detector, enforcer and control enforcer/   the privileged process: enforcer.c,
 * firewall.c (nftables), reaper.c (SOCK_DESTROY), inforce.c, logfile.c (opens logs), runner.c
 * (command actions), protocol.h sockets/    the prober process: which port a log's writer serves,
 * who sits in an ssh session control/    the unix socket and its commands config/     the INI
 * dialect, jails, actions base/       slices, addresses, lists, netlink, sock_diag, messages,
 * processes and their rights
 *
 * Fails with the exit statuses of tailband(8): 1 configuration, 2 usage, 3 privilege or kernel, 4
 * internal.
 */
#include "daemon/base/log.h"
#include "daemon/config/conf.h"
#include "daemon/engine/detector.h"
#include "daemon/engine/engine.h"
#include "daemon/enforcer/enforcer.h"
#include "daemon/engine/resume.h"

#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"

enum exit_status { EXIT_FINE, EXIT_CONFIG, EXIT_USAGE, EXIT_PRIVILEGE, EXIT_INTERNAL };

struct options {
	const char *dir, *socket, *statedir;
	enum log_level level;
	bool level_given, foreground, test, dry_run, quick, flush_on_stop;
};

static const char usage_text[] =
	"usage: tailband [-c DIR] [-f] [-t] [-n] [-l LEVEL] [-s SOCKET] [-S STATEDIR]\n"
	"                [--flush-on-stop] [-V]\n"
	"       tailband -q [options] LOG...\n"
	"  -c DIR           configuration directory (" SYSCONFDIR
	"/tailban; a fail2ban one works too)\n"
	"  -f               stay in the foreground, log to stderr\n"
	"  -t               check the configuration and exit\n"
	"  -n               dry run: everything but the kernel calls\n"
	"  -l LEVEL         error, warning, notice, info or debug\n"
	"  -s SOCKET        control socket\n"
	"  -S STATEDIR      state directory\n"
	"  -q LOG...        no configuration: the werkzeug jails on these logs, and their sockets\n"
	"  --flush-on-stop  remove the bans when stopping (they stay otherwise)\n"
	"  -V               version\n";

static int usage(const char *what, const char *arg)
{
	if (what)
		fprintf(stderr, "tailband: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
	fputs(usage_text, what ? stderr : stdout);
	return what ? EXIT_USAGE : EXIT_FINE;
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option long_options[] = {
		{"flush-on-stop", no_argument, NULL, 'F'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{"config", required_argument, NULL, 'c'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:ftnl:s:S:qVh", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->dir = optarg;
			break;
		case 'f':
			o->foreground = true;
			break;
		case 't':
			o->test = true;
			break;
		case 'n':
			o->dry_run = true;
			break;
		case 'l':
			if (log_level_parse(slice_str(optarg), &o->level) < 0)
				return usage("unknown log level", optarg);
			o->level_given = true;
			break;
		case 's':
			o->socket = optarg;
			break;
		case 'S':
			o->statedir = optarg;
			break;
		case 'q':
			o->quick = true;
			break;
		case 'F':
			o->flush_on_stop = true;
			break;
		case 'V':
			puts(PACKAGE_STRING);
			exit(EXIT_FINE);
		case 'h':
			exit(usage(NULL, NULL));
		default:
			return usage("unknown option or missing value", NULL);
		}
	}
	if (o->quick && o->dir)
		return usage("-q takes no configuration directory", o->dir);
	if (o->quick && optind == argc)
		return usage("-q needs at least one log", NULL);
	if (!o->quick && optind < argc)
		return usage("unexpected argument", argv[optind]);
	return EXIT_FINE;
}

static void print_errors(const struct conf_errors *errs)
{
	char text[1200];

	for (size_t i = 0; i < errs->count; i++)
		fprintf(stderr, "%s\n", error_format(&errs->items[i], text, sizeof text));
	if (errs->unsaid)
		fprintf(stderr, "... and %zu more\n", errs->unsaid);
}

static void print_warnings(const struct conf *conf)
{
	for (size_t i = 0; i < conf->nwarnings; i++)
		fprintf(stderr, "%s:%u: warning: %s\n", conf->warnings[i].file,
			conf->warnings[i].line, conf->warnings[i].text);
}

/* The expressions are part of the configuration: they are compiled once to see that they can be. */
static int check_filters(const struct conf *conf)
{
	struct conf_errors errs = {0};
	bool broken;

	detector_check(conf, &errs);
	print_errors(&errs);
	broken = errs.count > 0;
	conf_errors_free(&errs);
	return broken ? EXIT_CONFIG : EXIT_FINE;
}

static int load(const struct options *o, char **paths, size_t npaths, struct conf *conf)
{
	struct conf_errors errs = {0};
	int r;

	if (o->quick)
		r = conf_quick((const char *const *)paths, npaths, conf_datadir(), conf, &errs);
	else
		r = conf_load(o->dir ? o->dir : SYSCONFDIR "/tailban", conf_datadir(), conf, &errs);
	print_errors(&errs);
	conf_errors_free(&errs);
	if (r < 0)
		return EXIT_CONFIG;
	return check_filters(conf);
}

static int open_log(const struct options *o, const struct conf *conf)
{
	enum log_level level = o->level_given ? o->level : conf->loglevel;
	struct error err = {0};

	if (log_open(o->foreground ? "STDERR" : conf->logtarget, level, &err) < 0) {
		fprintf(stderr, "tailband: %s\n", err.text);
		return EXIT_CONFIG;
	}
	return EXIT_FINE;
}

static bool reads_stdin(const struct conf *conf)
{
	for (size_t i = 0; i < conf->njails; i++)
		if (conf->jails[i].backend == BACKEND_STDIN)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct conf conf;
	struct enforcer_start start;
	int r;

	/* Large tables are mapped, so that pages which are never touched cost nothing; glibc would
	 * raise its threshold after the first large free. */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	r = parse_options(argc, argv, &o);

	if (r)
		return r;
	r = load(&o, argv + optind, (size_t)(argc - optind), &conf);
	if (r)
		return r;
	print_warnings(&conf);
	if (o.test) {
		printf("configuration is fine: %zu jail%s\n", conf.njails,
		       conf.njails == 1 ? "" : "s");
		conf_free(&conf);
		return EXIT_FINE;
	}
	/* A daemon has no standard input; whoever pipes into it wants it to stay. */
	o.foreground = o.foreground || reads_stdin(&conf);
	r = open_log(&o, &conf);
	if (r)
		return r;
	if (!o.foreground && daemon(1, 0) < 0) {
		perror("tailband: cannot go to the background");
		return EXIT_INTERNAL;
	}
	start = (struct enforcer_start){
		.conf = &conf,
		.conf_dir = o.quick ? NULL
			    : o.dir ? o.dir
				    : SYSCONFDIR "/tailban",
		.datadir = conf_datadir(),
		.quick_paths = (const char *const *)argv + optind,
		.nquick_paths = (size_t)(argc - optind),
		.dry_run = o.dry_run,
		.flush_on_stop = o.flush_on_stop,
		.socket_override = o.socket,
		.statedir_override = o.statedir,
		.engine_main = engine_run,
		.resume_create = resume_create,
		.engine_progress = resume_progress,
	};
	return enforcer_run(&start);
}
