/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ban growth: who comes back is banned for longer.
 *
 * growth_bantime is fail2ban's rule (bantime.increment and its companions): the first ban takes the
 * base time; after `count` earlier bans it is max(base, base * 2^min(count, 20) * factor)      or,
 * with multipliers, base * factor * multipliers[count]               (the last one repeats), capped
 * by maxtime, then up to rndtime seconds are added at random. A ban for ever stays for ever;
 * nothing overflows. Not taken over: fail2ban's rule that one failure of a known address counts as
 * 2^count/2+1 failures. It bans a returning honest person at the first typing error. Its `formula`
 * (Python source) is not evaluated here either.
 *
 * The history (how often was this prefix banned, when did the last ban end) is a bounded table,
 * pointer-free, in a region like the ledger's; see slots.h for crash and takeover rules. A ban is
 * noted for its jail and for all jails together. In a full set the record that makes room is: one
 * older than dbpurgeage, else the one with the fewest bans, of those the one that ended first.
 */
#ifndef TAILBAN_JAIL_GROWTH_H
#define TAILBAN_JAIL_GROWTH_H

#include "daemon/base/clock.h"
#include "daemon/jail/slots.h"

#define GROWTH_ALL_JAILS UINT16_MAX
#define GROWTH_FOREVER_S INT64_C(-1)     /* bantime that never ends */
#define GROWTH_MAX_S INT64_C(3155760000) /* 100 years: what longer times become */

struct growth_rule {
	int64_t base_s; /* GROWTH_FOREVER_S = for ever */
	bool increment;
	double factor;             /* 1.0 when not configured; below 0 or NaN counts as 1.0 */
	const double *multipliers; /* NULL: powers of two */
	size_t nmultipliers;
	int64_t maxtime_s; /* 0 = no cap */
	int64_t rndtime_s; /* 0 = none */
};

/* Seconds, or GROWTH_FOREVER_S. `count` = earlier bans, `random` = 32 fresh random bits. */
int64_t growth_bantime(const struct growth_rule *g, unsigned count, uint32_t random);

struct growth {
	struct slots_head *head; /* in the region */
	struct slots slots;
	int64_t purgeage_s;
};

struct growth_stats {
	uint32_t tracked;
	uint64_t evicted; /* live records displaced by others */
	uint64_t dropped; /* records found damaged at takeovers */
	size_t bytes;
};

/* Region to map for this many records (a ban makes two). */
size_t growth_bytes(uint32_t maxrecords);

/* Takes over a region of the same maxrecords (*ret_kept true), else formats it. 0 or -ENOSPC. */
int growth_attach(struct growth *g, void *region, size_t bytes, uint32_t maxrecords,
		  int64_t purgeage_s, bool *ret_kept);

/* Copies everything into another region of the same size; reads and writes only what is in use. */
void growth_copy(const struct growth *g, void *to_region);

/* Earlier bans of exactly this prefix; jail or GROWTH_ALL_JAILS. */
unsigned growth_count(const struct growth *g, const struct addr *who, uint16_t jail,
		      int64_t now_wall_s);

/* A ban began; end_wall_s is its end or CLOCK_FOREVER. Counts it for the jail and for all jails. */
void growth_note(struct growth *g, const struct addr *who, uint16_t jail, int64_t now_wall_s,
		 int64_t end_wall_s);

/* A ban ended early (unban): the history keeps the count and remembers the real end. */
void growth_ended(struct growth *g, const struct addr *who, uint16_t jail, int64_t end_wall_s);

/* Drops what ended more than purgeage_s ago; returns how many. A scan: call it hourly. */
uint32_t growth_purge(struct growth *g, int64_t now_wall_s);

struct growth_stats growth_stats(const struct growth *g);

#endif
