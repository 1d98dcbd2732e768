/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a line to a decision: filters, the ignore list, the ledger and ban growth of all jails.
 *
 * The engine and `tailban replay` run this same code; they differ in where lines come from and what
 * the hooks do. Blocks of whole lines come in (detector_block), each with the set of jails that
 * read this file; decisions go out through the hooks, at once and in order. No clock, no
 * descriptor, no kernel call and, after detector_new, no malloc a line (bans themselves allocate
 * their record).
 *
 * Time (DESIGN: log time): a line counts at its own date. While tailing, a date that is more than a
 * minute off counts as now, said once a file; a line without date counts as now. A backlog (what
 * was in the file when it was opened) counts at its dates, and a ban from it runs from the line's
 * time.
 *
 * The two lines of one bad request: a failure line of a filter with `partnerregex` leaves {address,
 * code} in the file's memory; the partner line that follows takes it out again and is quiet for
 * every jail of that file. Servers with threads put other lines between the two, so DETECTOR_PAIRS
 * are kept.
 */
#ifndef TAILBAN_ENGINE_DETECTOR_H
#define TAILBAN_ENGINE_DETECTOR_H

#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/ignore.h"
#include "daemon/config/conf.h"
#include "daemon/filter/filter.h"
#include "daemon/jail/bans.h"
#include "daemon/jail/evidence.h"
#include "daemon/jail/growth.h"
#include "daemon/jail/ledger.h"

#define DETECTOR_PAIRS 16
#define DETECTOR_OFF_BY_S 60 /* a date further off than this is not believed while tailing */

struct detector;

/* The memory of one log file between its lines; zero-initialised is ready. */
struct detector_file {
	const char *path;
	uint16_t path_index; /* for the evidence */
	bool told_clock_off;
	uint64_t backlog_end; /* lines that begin before this offset are backlog */
	uint64_t lines;
	struct {
		struct addr addr;
		uint32_t code_hash;
		int64_t time_s;
	} pairs[DETECTOR_PAIRS];
	unsigned next_pair;
};

/* What one jail has seen; for `status JAIL`. */
struct detector_counts {
	uint64_t matched, offences, repeated, ignored, old, unusable, already_banned, bans, refused;
};

struct detector_offence {
	uint16_t jail, rule; /* indexes in the configuration */
	struct addr host;    /* as the line names it */
	struct addr prefix;  /* what is counted and banned */
	int64_t time_s;
	unsigned count; /* offences in the window, this one included */
	struct slice line;
	const struct detector_file *file; /* NULL: a connection's, `line` says what it did */
	uint64_t offset;                  /* of the line in its file */
	uint64_t number;                  /* of the line since the start, from 1 */
};

/* Of an offence of a line that an engine before had in hand when it was killed. */
enum detector_again {
	DETECTOR_NEW,     /* not counted yet */
	DETECTOR_COUNTED, /* counted, but nothing came of it yet */
	DETECTOR_DONE,    /* counted and dealt with */
};

struct detector_hooks {
	/* Every counted offence. May be NULL. */
	void (*offence)(void *ctx, const struct detector_offence *o);
	/* The threshold is reached. duration_s is CLOCK_FOREVER or seconds from o->time_s; `before`
	 * is how often the prefix was banned before. */
	void (*ban)(void *ctx, const struct detector_offence *o, int64_t duration_s,
		    unsigned before);
	/* The offence is of an address that is never banned. May be NULL. */
	void (*refused)(void *ctx, const struct detector_offence *o, const struct ignore_hit *why);
	/* A sentence that is said once: a clock that is off, a line that does not name an address.
	 */
	void (*notice)(void *ctx, const struct detector_file *file, const char *text);
	/* Around each line that is given to the regexes; may be NULL. See resume.h. */
	void (*line_begins)(void *ctx, const struct detector_file *file, uint64_t offset);
	/* True when this line must not be looked at (it ended an engine before). May be NULL. */
	bool (*skip_line)(void *ctx, const struct detector_file *file, uint64_t offset,
			  struct slice line);
	/* Around each offence that is counted; `before` are in its window without it. Both or none.
	 */
	enum detector_again (*counting)(void *ctx, const struct detector_offence *o,
					unsigned before);
	void (*counted)(void *ctx);
	/* Live lines of logs with `perconnection`, see jail/tally.h; all three or none. A line
	 * begins with this address; `partner`: it is the second one of a bad request. A second one
	 * will come. Is one to come? */
	void (*named)(void *ctx, const struct addr *host, bool partner);
	void (*owes)(void *ctx, const struct addr *host);
	bool (*owed)(void *ctx, const struct addr *host);
};

/* Regions for the pointer-free tables; see ledger.h and growth.h. */
struct detector_memory {
	void *ledger, *growth;
	size_t ledger_bytes, growth_bytes;
	struct hash_seed seed; /* of distinct values; kept with the ledger */
};
void detector_sizes(const struct conf *conf, size_t *ret_ledger_bytes, size_t *ret_growth_bytes);

/*
 * Compiles all filters; `conf`, `bans` and `ignore` stay the caller's and must outlive the
 * detector. 0, or ERROR_CONFIG with file and line, or -EINVAL for regions of a wrong size.
 */
int detector_new(const struct conf *conf, const struct detector_memory *memory, struct bans *bans,
		 const struct ignore *ignore, const struct detector_hooks *hooks, void *ctx,
		 struct detector **ret_detector, struct error *err);

/*
 * All lines of a block (each ends in \n) for the jails whose indexes are in `jails`. `offset` is
 * where the text stands in its file. tailing = false takes every date as it is (replay).
 */
void detector_block(struct detector *d, struct detector_file *file, const uint16_t *jails,
		    size_t njails, struct slice text, uint64_t offset, struct now now,
		    bool tailing);

/* An offence of a connection, in a sockets jail; `text` is what `why` shows. */
void detector_connection(struct detector *d, uint16_t jail, const struct addr *host,
			 struct slice text, struct now now);

/* Compiles every filter of the configuration and throws it away: all errors, for `tailband -t`. */
void detector_check(const struct conf *conf, struct conf_errors *errs);

/* The date of a line by the first of these jails' filters that finds one. */
bool detector_date(struct detector *d, const uint16_t *jails, size_t njails, struct slice line,
		   int64_t now_s, int64_t *ret_time_s);

/* The longest findtime of these jails, in seconds. */
int64_t detector_findtime(const struct detector *d, const uint16_t *jails, size_t njails);

/* An administrator's unban: the counted offences of the prefix are void. */
void detector_forget(struct detector *d, const struct addr *prefix);

/* The duration of a ban by hand, and the history that bans and unbans leave. */
int64_t detector_bantime(struct detector *d, uint16_t jail, const struct addr *prefix,
			 int64_t now_s, unsigned *ret_before);
void detector_banned(struct detector *d, uint16_t jail, const struct addr *prefix, int64_t now_s,
		     int64_t until_s);
void detector_unbanned(struct detector *d, uint16_t jail, const struct addr *prefix, int64_t now_s);

/* What a jail counts and bans for a host: its network of ipv4_prefix or ipv6_prefix bits. */
struct addr detector_prefix(const struct conf *conf, uint16_t jail, const struct addr *host);

/* Drops what is older than dbpurgeage from the ban history; a scan, for once an hour. */
void detector_purge(struct detector *d, int64_t now_s);

/* The wall clock was set back: offences from the future would hide new ones. */
void detector_clock_back(struct detector *d, int64_t now_s);

/* Before a reload: the ban history into a fresh region of the same size. */
void detector_copy_growth(const struct detector *d, void *to_region);

/* After a reload: counters and offences of jails and filters that are still there. */
void detector_carry(struct detector *to, const struct detector *from);

const struct detector_counts *detector_counts(const struct detector *d, uint16_t jail);
const struct ledger_stats *detector_ledger_stats(struct detector *d);
const struct filter_stats *detector_filter_stats(const struct detector *d, uint16_t jail,
						 uint16_t rule);

void detector_free(struct detector *d);

#endif
