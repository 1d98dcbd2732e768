/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who did what how often: offences per rule and prefix in an exact sliding window of log time.
 *
 * A rule (a jail) is reached when maxretry offences of one prefix lie in the half-open window
 * (newest - findtime, newest], whatever order they come in. With `distinct` different values are
 * counted instead, each at the latest time it was seen. A reached record starts afresh. (fail2ban
 * scales an old count instead, an estimate that can be early or late.)
 *
 * Times are whole seconds since 1970, kept in 32 bits: a time before 1970 or after 2106 is refused
 * and counted. A record believes its newest time, so what is wrongly dated far ahead must be
 * clamped by the caller (lines more than a minute off count as now while tailing); after the wall
 * clock was set back call ledger_drop_after. Keys are prefixes: the caller masks. value_hash must
 * come from a seeded hash, or attackers find two paths that count as one.
 *
 * Memory: a region given by the caller, for example a shared memfd that survives the process; see
 * slots.h for what is checked at a takeover. Each rule has its own table, which starts small and
 * doubles up to room for `maxtracked` records (and somewhat more, see slots.h); tables together
 * stay below the memory cap, the largest are cut first. In a full set the record that makes room
 * is, in this order: one whose offences are all out of the window; the one with the fewest
 * offences; of those the stalest. So a flood of addresses with one offence each displaces its own
 * kind and not those who are about to be banned; a newcomer always gets a place. Every live record
 * that was displaced is counted as evicted.
 *
 * ledger_add costs one hash, one set and at most maxretry entries of one record; no malloc, no
 * system call. Attach and detach allocate a small array.
 */
#ifndef TAILBAN_JAIL_LEDGER_H
#define TAILBAN_JAIL_LEDGER_H

#include "daemon/jail/slots.h"

#define LEDGER_MAXRETRY_MAX 1000u

struct ledger_rule {
	uint16_t id; /* the rule's name over restarts; its index in the array is used in calls */
	unsigned maxretry;  /* 1 ... LEDGER_MAXRETRY_MAX */
	int64_t findtime_s; /* > 0 */
	bool distinct;
};

enum ledger_result {
	LEDGER_COUNTED,
	LEDGER_REACHED,
	LEDGER_REPEATED, /* this distinct value is in the window already; its time is refreshed */
	LEDGER_OLD,      /* lies before the window, or was refused */
};

struct ledger_stats {
	uint32_t tracked; /* records now, expired ones included */
	uint64_t evicted; /* live records displaced by others */
	uint64_t refused; /* offences whose time cannot be kept */
	uint64_t dropped; /* records found damaged at takeovers */
	size_t bytes;     /* of the region, in use */
};

struct ledger_table;

struct ledger {
	struct slots_head *head; /* in the region */
	struct ledger_table *tables;
	size_t n;
};

/* Region to map; virtual, pages are touched as tables grow. 0 when a rule is out of range. */
size_t ledger_bytes(const struct ledger_rule *rules, size_t n, uint32_t maxtracked,
		    uint64_t maxmemory_bytes);

/*
 * Takes over a region that was formatted for the same rules and caps (*ret_kept true), else formats
 * it, whatever it holds. The region must be aligned to 64 bytes. 0, -EINVAL (rules), -ENOSPC,
 * -ENOMEM.
 */
int ledger_attach(struct ledger *l, void *region, size_t bytes, const struct ledger_rule *rules,
		  size_t n, uint32_t maxtracked, uint64_t maxmemory_bytes, bool *ret_kept);
void ledger_detach(struct ledger *l); /* the region stays as it is, and stays the caller's */

/*
 * Takes the offences of a rule of another ledger over, for a reload: times are kept, the new rule's
 * window and threshold hold. Nobody is reached by it: what is too much for a lower maxretry is left
 * out, oldest first. Both rules must be distinct, or none, with values of the same hash.
 */
void ledger_carry(struct ledger *to, unsigned to_rule, const struct ledger *from,
		  unsigned from_rule);

/*
 * Copies everything into another region of the same size, for ledger_attach by the same rules.
 * Reads and writes only what is in use: a plain memcpy of two mostly empty regions would make all
 * their pages real.
 */
void ledger_copy(const struct ledger *l, void *to_region);

/* `rule` is the index. *ret_count (may be NULL): offences in the window now; maxretry when reached.
 */
enum ledger_result ledger_add(struct ledger *l, unsigned rule, const struct addr *who,
			      int64_t time_s, uint32_t value_hash, unsigned *ret_count);

/* Offences of `who` in the window that ends at now_s. */
unsigned ledger_count(const struct ledger *l, unsigned rule, const struct addr *who, int64_t now_s);

/* Forgets this prefix (exactly this) in all rules. */
void ledger_forget(struct ledger *l, const struct addr *who);

/* Forgets all records with a time after time_s. A scan of all tables. */
void ledger_drop_after(struct ledger *l, int64_t time_s);

struct ledger_stats ledger_stats(const struct ledger *l);

#endif
