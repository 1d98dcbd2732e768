/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration, read, checked and resolved: what the daemon runs by.
 *
 * conf_load reads a directory (tailban.conf, jail.conf, filter.d/, action.d/, see tailban.conf(5))
 * behind the shipped jail.conf, filters and actions; in a fail2ban tree (one that holds
 * fail2ban.conf) unknown keys are warnings, and the shipped jail.conf gives only the thresholds of
 * shipped filters. Keys, their types and defaults are the tables jail_keys.def and daemon_keys.def.
 * Only enabled jails are resolved, all sections are checked for unknown keys.
 *
 * A struct conf owns its memory by its arena; every string in it lives until conf_free. It holds no
 * attacker's bytes. Loading does not stop at the first fault: all of them are in `errs`, and any
 * means that the whole configuration is refused (ERROR_CONFIG; *ret_conf is then empty).
 *
 * Thresholds of a rule: the jail's own maxretry, findtime and distinct; else those of the jail
 * section that bears the filter's name (so `filter = werkzeug-burst` keeps 35 in 2 s in any jail);
 * else [DEFAULT].
 */
#ifndef TAILBAN_CONFIG_CONF_H
#define TAILBAN_CONFIG_CONF_H

#include "daemon/base/arena.h"
#include "daemon/base/log.h"
#include "daemon/base/netlist.h"
#include "daemon/config/report.h"

#define CONF_FOREVER (-1)      /* bantime_s */
#define CONF_SCOPE_PORTS 16u   /* most ports of a jail with scope = port, and of a sockets jail */
#define CONF_SOCKETS "sockets" /* the shipped sockets jail, and every sockets jail's rule */

struct conf_param {
	const char *name, *value;
};

/* A filter file, resolved for one jail. */
struct filter_conf {
	const char *name;         /* "werkzeug-probe" */
	const char *file;         /* where it was found */
	struct text_at prefregex; /* text NULL when unset */
	struct text_at *failregex, *ignoreregex, *datepattern, *partnerregex;
	size_t nfail, nignore, ndate, npartner;
	unsigned maxlines; /* 1 = a line at a time */
	/* The server closes the connection after each answer: lines that name an address are as
	 * many as its connections. See jail/tally.h. */
	bool perconnection;
};

enum action_kind { ACTION_NFTABLES, ACTION_KILL, ACTION_COMMAND };

/*
 * Commands hold configuration text only; a ban's values come as environment variables
 * (action_tags.def). ban, unban, ... have text NULL when the action file does not define them.
 */
struct action_conf {
	const char *name;
	enum action_kind kind;
	struct text_at where; /* the jail's action list */
	struct text_at ban, unban, start, stop, check;
	int64_t timeout_s;
	bool norestored;      /* not for bans found in the kernel or the store at start */
	bool only_exhaustion; /* on_exhaustion's: `ban` is its command, no ban and no unban runs it
			       */
	struct conf_param *params;
	size_t nparams;
};

/*
 * One filter of a jail with its own threshold; a family has several. A sockets jail has one rule,
 * for its threshold: its filter is a name ("sockets") without expressions (nfail 0) and reads no
 * line.
 */
struct rule_conf {
	struct filter_conf filter;
	unsigned maxretry;
	int64_t findtime_s;
	const char *distinct; /* field name in lower case, or NULL */
};

struct port_range {
	uint16_t first, last;
};

enum conf_backend {
	BACKEND_AUTO,
	BACKEND_POLLING,
	BACKEND_STDIN,
	BACKEND_SYSTEMD,
	BACKEND_SOCKETS
};
enum conf_witness { WITNESS_AUTO, WITNESS_YES, WITNESS_NO };

struct growth_conf {
	bool increment, overalljails;
	double factor;
	double *multipliers; /* empty: the formula of fail2ban, time * 2^min(count, 20) * factor */
	size_t nmultipliers;
	int64_t maxtime_s; /* 0 = none */
	int64_t rndtime_s;
	const char *formula; /* NULL = the default one, the only one there is */
};

/* What a jail with `backend = sockets` looks for; see sockets/census.h. */
struct sockets_conf {
	int64_t silent_s, unanswered_s, stalled_s, idle_s;
	unsigned maxsilent;
	unsigned maxconns;        /* 0 = off */
	unsigned descriptors;     /* per cent of the service's limit, 0 = no budget */
	uint64_t raise_nofile;    /* 0 = no, UINT64_MAX = to the hard limit */
	size_t exhaustion_action; /* index + 1 in the jail's actions (only_exhaustion), 0 = none */
};

struct jail_conf {
	const char *name;
	struct text_at where; /* its name and where it is enabled */
	bool enabled;         /* always true in struct conf */
	enum conf_backend backend;
	struct text_at
		*logpaths; /* absolute patterns, see enforcer/logfile.h; empty for BACKEND_STDIN,
			      may be for BACKEND_SOCKETS, which reads none of their lines */
	size_t nlogpaths;
	bool *logpath_tail; /* one a path: start at the end ("tail") instead of findtime ago
			       ("head") */
	struct rule_conf *rules;
	size_t nrules;
	int64_t bantime_s; /* > 0, or CONF_FOREVER */
	struct growth_conf growth;
	struct netlist ignoreip, trusted_proxy; /* sealed */
	bool ignoreself;
	bool port_auto; /* ask the listener; ports is then empty */
	struct port_range *ports;
	size_t nports;
	bool scope_port; /* the drop covers the ports only */
	bool kill;       /* the key says so and the action list has it */
	uint8_t ipv4_prefix, ipv6_prefix;
	enum conf_witness witness;
	unsigned networks_count; /* 0 = off */
	uint8_t networks_len;
	struct sockets_conf sockets; /* BACKEND_SOCKETS */
	unsigned maxmatches;
	const char *logencoding; /* "auto" or a name */
	struct action_conf *actions;
	size_t nactions;
};

struct conf {
	struct arena arena;
	const char *dir; /* as given; NULL for conf_quick */
	bool is_fail2ban;
	enum log_level loglevel;
	const char *logtarget;                          /* for log_open */
	const char *socket, *pidfile, *statedir, *user; /* pidfile NULL = none */
	uint32_t maxbans, maxtracked;
	uint64_t maxmemory_bytes;
	bool allowipv6;
	int64_t dbpurgeage_s;
	unsigned dbmaxmatches;
	struct text_at *warnings; /* text is the sentence */
	size_t nwarnings;
	struct jail_conf *jails; /* enabled ones, in the files' order */
	size_t njails;
	uint8_t digest[16]; /* over every effective value: equal files give equal digests */
};

/* $TAILBAN_DATADIR, else the directory chosen at build time. */
const char *conf_datadir(void);

int conf_load(const char *dir, const char *datadir, struct conf *ret_conf,
	      struct conf_errors *errs);

/*
 * `tailband -q` and `tailban replay` without -c: the shipped werkzeug jails (one for each member of
 * the family, without werkzeug-method) on these logs, and behind them the sockets jail on their
 * ports. Paths are literal, no patterns, and may be relative.
 */
int conf_quick(const char *const *paths, size_t npaths, const char *datadir, struct conf *ret_conf,
	       struct conf_errors *errs);

/*
 * One filter for `tailban test` and `lint`: NAME[opt=val,...] from dir (NULL: shipped only) or
 * behind it, or the path of a file. *ret_filters are the members of a family, else one; returned is
 * the count. -ENOENT with a sentence when there is no such filter.
 */
int conf_filters(const char *dir, const char *datadir, const char *spec, struct arena *arena,
		 struct filter_conf **ret_filters, struct error *err);
/* The same for a filter that is no family: 0. */
int conf_filter(const char *dir, const char *datadir, const char *spec, struct arena *arena,
		struct filter_conf *ret_filter, struct error *err);

/* A sockets jail that names neither ports nor a log: its ports are those of the log jails and of
 * the sockets jails that do. */
bool conf_borrows_ports(const struct jail_conf *jail);

/* How many ports it names, ranges counted out. */
unsigned conf_count_ports(const struct jail_conf *jail);

void conf_free(struct conf *conf);

#endif
