/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is never banned, whatever a filter, a hand or the fleet says. Engine and enforcer share it.
 *
 * Entries come in lists, each with a reason. Loopback and special addresses are built in; own
 * addresses, gateways, ignoreip and trusted proxies are replaced as a whole whenever they are read
 * again, for all jails or for one; peers of administrators' ssh sessions are noted one by one and
 * stay IGNORE_SSH_KEEP_NS after they were last seen. A network that holds one such address is
 * refused whole, so 0.0.0.0/0 and ::/0 always are.
 *
 * `forced` (ban --force) overrides all but loopback, own and special addresses.
 *
 * The ssh table holds IGNORE_SSH_MAX peers; when it is full the one not seen for longest goes,
 * counted.
 */
#ifndef TAILBAN_BASE_IGNORE_H
#define TAILBAN_BASE_IGNORE_H

#include "daemon/base/clock.h"
#include "daemon/base/netlist.h"

#define IGNORE_ALL_JAILS UINT32_MAX
#define IGNORE_ANY_JAIL (UINT32_MAX - 1) /* ignore_check: the lists of every jail */
#define IGNORE_SSH_MAX 256u
#define IGNORE_SSH_KEEP_NS (INT64_C(86400) * CLOCK_SECOND_NS)
#define IGNORE_USER_BYTES 33u  /* LOGIN_NAME_MAX of useradd is 32 */
#define IGNORE_TEXT_BYTES 320u /* room for ignore_format */

/* X(name, can be forced, word for JSON, "... is PHRASE"); the order is the order of checking. */
#define IGNORE_REASONS(X)                                                                          \
	X(IGNORE_LOOPBACK, false, "loopback", "loopback")                                          \
	X(IGNORE_SPECIAL, false, "special", "a special address (unspecified or multicast)")        \
	X(IGNORE_OWN, false, "own", "an address of this host")                                     \
	X(IGNORE_GATEWAY, true, "gateway", "a default gateway of this host")                       \
	X(IGNORE_IP, true, "ignoreip", "on the ignore list (ignoreip)")                            \
	X(IGNORE_PROXY, true, "trusted_proxy", "a trusted proxy (trusted_proxy)")                  \
	X(IGNORE_SSH, true, "ssh", "the peer of an ssh session")

enum ignore_reason {
#define IGNORE_ENUM(name, can_force, word, phrase) name,
	IGNORE_REASONS(IGNORE_ENUM)
#undef IGNORE_ENUM
		IGNORE_NREASONS
};

/* Which entry speaks against a ban; a value, good for as long as the caller likes. */
struct ignore_hit {
	enum ignore_reason reason;
	struct addr entry;            /* the protected address or network */
	struct addr asked;            /* what was to be banned */
	uint32_t jail;                /* whose list it is, or IGNORE_ALL_JAILS */
	int64_t last_seen_mono_ns;    /* IGNORE_SSH */
	char user[IGNORE_USER_BYTES]; /* IGNORE_SSH */
};

struct ignore;

struct ignore *ignore_new(void); /* NULL when memory is out */
void ignore_free(struct ignore *ig);

/*
 * Replaces the list of a reason (OWN, GATEWAY, IP or PROXY) for one jail or IGNORE_ALL_JAILS by a
 * copy of `list`; an empty or NULL list removes it. For IGNORE_SSH only removing (all peers) works.
 * 0, -EINVAL, or -ENOMEM, when the old list stays.
 */
int ignore_replace(struct ignore *ig, enum ignore_reason reason, uint32_t jail,
		   const struct netlist *list);

/* Forgets all lists of single jails (before a reload's are set). */
void ignore_clear_jails(struct ignore *ig);

/* The peer of a session of root or of a sudo/wheel member was last seen then (never moves back). */
void ignore_ssh_seen(struct ignore *ig, const struct addr *peer, const char *user,
		     int64_t seen_mono_ns);

/*
 * May `asked` (a host or a network) be banned by `jail` (IGNORE_ALL_JAILS: only the lists for all;
 * IGNORE_ANY_JAIL: every list)?
 * True when something speaks against it; *ret_hit (may be NULL) says what.
 */
bool ignore_check(const struct ignore *ig, const struct addr *asked, uint32_t jail, bool forced,
		  int64_t now_mono_ns, struct ignore_hit *ret_hit);

/*
 * The entries one by one, for showing who can never be banned: start with *cursor 0, false at the
 * end. Built-in ones and outdated ssh peers are left out.
 */
bool ignore_next(const struct ignore *ig, uint64_t *cursor, int64_t now_mono_ns,
		 struct ignore_hit *ret_hit);

/* "203.0.113.7 is the peer of an ssh session of root (last seen 3 min ago)". Returns buf. */
const char *ignore_format(const struct ignore_hit *hit, int64_t now_mono_ns,
			  char buf[static IGNORE_TEXT_BYTES]);

const char *ignore_reason_name(enum ignore_reason reason);
uint64_t ignore_ssh_overflows(const struct ignore *ig);

#endif
