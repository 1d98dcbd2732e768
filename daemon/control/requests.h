/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of the control socket: checks arguments, reads the jail room's tables, makes JSON.
 *
 * Commands are a table in requests.c (name, argument names, handler). Reading goes through the
 * const views below; what changes something is a call back to the engine, which answers when the
 * kernel has. Shapes of the JSON are fixed in tailban(1); unknown arguments are refused.
 */
#ifndef TAILBAN_CONTROL_REQUESTS_H
#define TAILBAN_CONTROL_REQUESTS_H

#include "daemon/base/clock.h"
#include "daemon/base/ignore.h"
#include "daemon/control/server.h"
#include "daemon/jail/bans.h"
#include "daemon/jail/evidence.h"

/* A ban or unban that a client asks for; the engine keeps its own copy. */
struct control_ban {
	/* As given; a bare IPv6 address stands for its jail's ipv6_prefix. */
	struct addr addr;
	bool exact;         /* a length was written */
	uint16_t jail;      /* index; CONTROL_NO_JAIL when none was named */
	int64_t duration_s; /* CLOCK_FOREVER, or 0 = the jail's own rule */
	char reason[200];
};
#define CONTROL_NO_JAIL UINT16_MAX
#define CONTROL_UNNAMED_JAILS 0xfff0u /* numbers from here on are no configured jail */

/* One result of a list: 0 done, else ERROR_REFUSED (why in text), -ENOENT (not banned), -errno. */
struct control_result {
	struct addr addr;
	int result;
	char text[IGNORE_TEXT_BYTES];
};

/* What the kernel saw of an address, for `why`. */
struct control_sighting {
	bool recorded; /* there is a record */
	bool seen;
	uint64_t connections;
	int64_t age_ms; /* of the last one */
	uint32_t lines; /* of the logs that name it; 0 where they are not counted */
};

struct control_view {
	void *ctx;
	const struct bans *bans;
	const struct evidence *evidence;
	const struct ignore *ignore;

	/* "flask"; also for numbers that are no configured jail ("hand", "kernel"). Never NULL. */
	const char *(*jail_name)(void *ctx, uint16_t jail);
	/* Index of a configured jail, or -ENOENT. */
	int (*jail_find)(void *ctx, const char *name);
	/* "werkzeug-probe: 2 different path in 10m", into buf. */
	const char *(*ban_reason)(void *ctx, const struct ban *b, char *buf, size_t size);
	/* Name of a rule of a jail ("werkzeug-probe"); of a file by its index in the evidence. */
	const char *(*rule_name)(void *ctx, uint16_t jail, uint32_t rule);
	const char *(*file_name)(void *ctx, uint32_t file);
	/* New references. */
	json_t *(*status)(void *ctx, struct now now);
	json_t *(*jail_status)(void *ctx, uint16_t jail, struct now now);

	/* Brings dropped_packets and dropped_bytes of the bans up to date, then calls done(arg), at
	 * once when the kernel cannot be asked. */
	void (*refresh_counters)(void *ctx, void (*done)(void *arg), void *arg);
	/* Takes a census of the protected services for `status`, then calls done(arg), at once when
	 * there is none to take. May be NULL. */
	void (*look)(void *ctx, void (*done)(void *arg), void *arg);
	/* done(arg, sighting) once; NULL: nobody can be asked. May be NULL itself. */
	void (*sight)(void *ctx, const struct addr *a,
		      void (*done)(void *arg, const struct control_sighting *sighting), void *arg);
	/* done(arg, results, n) once, when the kernel has answered. `items` are copied. */
	void (*ban)(void *ctx, const struct control_ban *items, size_t n,
		    void (*done)(void *arg, const struct control_result *results, size_t n),
		    void *arg);
	void (*unban)(void *ctx, const struct control_ban *items, size_t n,
		      void (*done)(void *arg, const struct control_result *results, size_t n),
		      void *arg);
	/* done(arg, err): err NULL when the new configuration is in force. */
	void (*reload)(void *ctx, void (*done)(void *arg, const struct error *err), void *arg);
};

/* A control_fn; ctx is the struct control_view. */
void requests_handle(void *view, struct control_request *r, const char *cmd, json_t *args,
		     const struct control_peer *peer);

#endif
