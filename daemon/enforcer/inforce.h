/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of what is in force: every ban that the kernel's sets should hold.
 *
 * The enforcer rebuilds a flushed table from it without the engine. A ban is 40 bytes in one dense
 * array plus 11 to 21 bytes of hash index. Its identity is address with prefix length, scope,
 * force, and for scope = port the set of ports; putting the same one again replaces its end (the
 * sender decides which end is right). There are no timers: an expired ban is forgotten when it is
 * met, and each put looks at two more slots so that garbage cannot pile up. At the cap a put sweeps
 * once and then fails with -ENFILE, counted.
 *
 * Pointers into the list are valid until the next put or remove. Bans are visited from the end of
 * the array to its start with a cursor: removing moves the last ban into the hole, so a visit that
 * is continued after changes can meet a ban twice but never misses one that was there from the
 * start.
 *
 * Port sets are kept once each and counted; a ban refers to its set by number. Errors: -ENFILE (cap
 * of bans), -ENOSPC (more than PORTSETS_MAX different port sets), -ENOMEM, -EINVAL.
 */
#ifndef TAILBAN_ENFORCER_INFORCE_H
#define TAILBAN_ENFORCER_INFORCE_H

#include "daemon/base/addr.h"
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"

#define PORTSET_MAX 16   /* ports of one jail */
#define PORTSETS_MAX 256 /* different sets at one time */

struct port {
	uint16_t number; /* host order */
	uint8_t proto;   /* IPPROTO_TCP, IPPROTO_UDP, ... */
};

struct portset {
	uint8_t count;
	struct port port[PORTSET_MAX];
};

bool portset_has(const struct portset *set, uint8_t proto, uint16_t number);
/* The same ports, in any order. */
bool portset_same(const struct portset *a, const struct portset *b);

enum inforce_flags {
	INFORCE_SCOPE_PORT = 1, /* drop only on the ban's ports */
	INFORCE_FORCED = 2,     /* stronger than the ignore list */
	INFORCE_CLASS = 3,      /* the two that belong to the identity */
	INFORCE_WAITING = 4,    /* not in the kernel yet; retried */
	INFORCE_SEEN = 8,       /* mark of a running check */
};

struct inforce_ban {
	int64_t end_ns; /* CLOCK_MONOTONIC, or CLOCK_FOREVER */
	struct addr addr;
	uint16_t jail;
	uint16_t ports; /* number of the port set, 0 = none */
	uint8_t source; /* meaning is the sender's */
	uint8_t flags;  /* enum inforce_flags */
	uint32_t killed;
};

struct inforce_ports {
	struct portset set;
	uint32_t uses;
};

/* Of the index: with the hash, most slots are judged without touching their ban. */
struct inforce_slot {
	uint32_t number; /* of the ban + 1, 0 = empty */
	uint32_t hash;
};

struct inforce {
	struct inforce_ban *bans;
	uint32_t count, room, max;
	struct inforce_slot *index; /* open addressing by the address */
	uint32_t index_size;
	uint32_t hand;               /* of the sweep */
	uint32_t waiting;            /* bans with INFORCE_WAITING */
	int64_t full_until_ns;       /* nothing expires earlier, while full */
	uint64_t refused, forgotten; /* counters: at the cap; expired and dropped */
	struct hash_seed seed;
	struct inforce_ports ports[PORTSETS_MAX]; /* [0] is unused */
};

int inforce_init(struct inforce *list, uint32_t max);
void inforce_fini(struct inforce *list);

/* Adds or replaces; ban->ports is ignored, `ports` is taken for INFORCE_SCOPE_PORT. `killed` of a
 * replaced ban is kept. *ret_ban (may be NULL) is the stored one. 1: new, 0: replaced. */
int inforce_put(struct inforce *list, const struct inforce_ban *ban, const struct portset *ports,
		int64_t mono_ns, struct inforce_ban **ret_ban);

/* The ban of exactly this identity, or NULL when there is none or it has expired. */
struct inforce_ban *inforce_get(struct inforce *list, const struct addr *addr, uint8_t flags,
				const struct portset *ports, int64_t mono_ns);

/* The same with the number of the port set (0 for scope = all). */
struct inforce_ban *inforce_numbered(struct inforce *list, const struct addr *addr, uint8_t flags,
				     uint16_t ports, int64_t mono_ns);

/* Visits all live bans of exactly this address and length, whatever their scope. Start with *step =
 * 0. */
struct inforce_ban *inforce_of(struct inforce *list, const struct addr *addr, uint32_t *step,
			       int64_t mono_ns);

void inforce_remove(struct inforce *list, struct inforce_ban *ban);

/* Sets or clears INFORCE_WAITING and keeps the count right. */
void inforce_set_waiting(struct inforce *list, struct inforce_ban *ban, bool waiting);

/* Visits live bans. Start with *cursor = UINT32_MAX; NULL at the end. */
struct inforce_ban *inforce_prev(struct inforce *list, uint32_t *cursor, int64_t mono_ns);

/* The ports of a ban, or NULL for scope = all. */
const struct portset *inforce_ports_of(const struct inforce *list, const struct inforce_ban *ban);

/* Milliseconds that are left, at least 1, or CLOCK_FOREVER. */
int64_t inforce_remaining_ms(const struct inforce_ban *ban, int64_t mono_ns);

#endif
