/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bans in force, as the engine knows them.
 *
 * One entry per (prefix, jail): several jails may ban one prefix, and the kernel's element then
 * ends with the latest of them (bans_end). Made for a million entries of about 120 bytes: one array
 * whose pages are touched as it fills, entries never move, so a struct ban * is good until this ban
 * is removed. Hash chains grow bucket by bucket (no pause), ends lie in a binary heap: add and
 * remove are O(log n), look-ups O(1). No malloc after bans_new but for `reason` texts.
 *
 * When the list is full a new ban is kept out (BANS_FULL, counted), as a full kernel set does.
 */
#ifndef TAILBAN_JAIL_BANS_H
#define TAILBAN_JAIL_BANS_H

#include "daemon/base/addr.h"
#include "daemon/base/clock.h"

#define BANS_ANY_JAIL UINT16_MAX
#define BANS_REASON_BYTES_MAX 200u

enum ban_source { BAN_LOG, BAN_SOCKETS, BAN_HAND, BAN_FLEET, BAN_KERNEL };

struct ban {
	struct addr addr;
	uint16_t jail;   /* < BANS_ANY_JAIL */
	uint8_t source;  /* enum ban_source */
	bool scope_port; /* the drop covers the jail's ports only */
	bool confirmed;  /* the kernel has acknowledged it */
	bool announced;  /* said, and its commands are under way */
	int64_t since_wall_s;
	int64_t until_wall_s; /* CLOCK_FOREVER = for ever */
	int64_t end_mono_ns;  /* the same end for timers; CLOCK_FOREVER */
	uint32_t count;       /* times banned before */
	uint32_t killed;      /* sockets destroyed */
	uint64_t dropped_packets, dropped_bytes;
	uint32_t rule, offences; /* the reason of a ban by log or sockets is made from these */
	const char *reason;      /* own text of a ban by hand, fleet or kernel, or NULL */
	uint32_t links[2];       /* the list's own */
};

struct bans;

enum bans_result {
	BANS_ADDED,
	BANS_EXTENDED, /* was there, now ends later */
	BANS_KEPT,     /* is there already and ends no earlier; nothing changed */
	BANS_FULL,
};

/* Which drops to look at; scope = all and scope = port bans lie in different kernel sets. */
enum bans_scope { BANS_SCOPE_ALL = 1, BANS_SCOPE_PORT = 2, BANS_SCOPE_ANY = 3 };

struct bans *bans_new(uint32_t cap); /* cap >= 1; NULL when memory is out */
void bans_free(struct bans *list);

/*
 * Copies b; its reason is copied too, cut to BANS_REASON_BYTES_MAX. An extended ban keeps since,
 * killed and dropped; source, scope, count, rule, offences and reason become b's, confirmed false.
 * *ret_ban (may be NULL): the entry; untouched when full.
 */
enum bans_result bans_add(struct bans *list, const struct ban *b, struct ban **ret_ban);

/* Removes this prefix's ban of a jail, or of all jails with BANS_ANY_JAIL. Returns how many went.
 */
unsigned bans_remove(struct bans *list, const struct addr *addr, uint16_t jail);

/* Moves the end of a ban either way (both clocks). */
void bans_move_end(struct bans *list, struct ban *b, int64_t until_wall_s, int64_t end_mono_ns);

/* The ban of exactly this prefix; with BANS_ANY_JAIL the one that ends last. NULL when there is
 * none. */
struct ban *bans_find(const struct bans *list, const struct addr *addr, uint16_t jail);

/* A ban of any prefix length that holds all of `addr`: the narrowest, of those the one that ends
 * last. */
struct ban *bans_covering(const struct bans *list, const struct addr *addr);

/* When the last ban of exactly this prefix ends (end_mono_ns), or -1 when there is none. */
int64_t bans_end(const struct bans *list, const struct addr *addr, enum bans_scope scope);

/* The earliest end, CLOCK_FOREVER when nothing will end. */
int64_t bans_next_end(const struct bans *list);

/*
 * Takes out bans whose end is <= now, at most `max` a call, earliest first. `ended` gets a copy
 * after the ban has left the list (reason is good during the call) and may change the list. Returns
 * how many.
 */
uint32_t bans_expire(struct bans *list, int64_t now_mono_ns, uint32_t max,
		     void (*ended)(void *ctx, const struct ban *b), void *ctx);

/*
 * Iteration in no order: start with *cursor 0, NULL at the end. The list may change between calls:
 * what stays is seen exactly once, what is added meanwhile may or may not be seen.
 */
struct ban *bans_next(const struct bans *list, uint32_t *cursor);

uint32_t bans_count(const struct bans *list);
uint64_t bans_kept_out(const struct bans *list); /* because it was full */

/* "log", "sockets", "hand", "fleet", "kernel" */
const char *bans_source_name(enum ban_source source);

#endif
