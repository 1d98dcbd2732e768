/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the engine and the enforcer say to each other: fixed-size entries, each fully checked.
 *
 * The engine parses what attackers write, so the enforcer believes none of its fields: indexes are
 * checked against its own configuration, addresses for form, every ban against the ignore list. A
 * message that no honest engine sends is ERROR_PROTOCOL and ends the engine, not the protection.
 *
 * Durations are milliseconds from now on CLOCK_MONOTONIC (PROTOCOL_FOREVER: no end); both sides run
 * on one machine and the way takes microseconds. Paths are terminated. All structs are copied as
 * bytes between two images of one program.
 */
#ifndef TAILBAN_ENFORCER_PROTOCOL_H
#define TAILBAN_ENFORCER_PROTOCOL_H

#include "daemon/base/addr.h"
#include "daemon/config/conf.h"
#include "daemon/sockets/census.h"

#include <limits.h>

#define PROTOCOL_FOREVER UINT64_MAX
#define PROTOCOL_BATCH 512u          /* most entries of a list message */
#define PROTOCOL_JAIL_HAND 0xfffeu   /* a ban by hand that names no jail */
#define PROTOCOL_JAIL_KERNEL 0xfffdu /* found in the kernel: its jail is not known */
/* RESULT: reasons beside those of the ignore list. */
#define PROTOCOL_REASON_BY_HAND 1000u   /* somebody deleted the element with nft */
#define PROTOCOL_REASON_UNSEEN 1001u    /* the kernel has not seen the address on the port */
#define PROTOCOL_REASON_FORGED 1002u    /* the log names it more often than it connected */
#define PROTOCOL_REASON_NO_RECORD 1003u /* witness = yes, and there is no port to look at */
#define PROTOCOL_VALUES_MAX 49152u
#define PROTOCOL_PORTS_MAX 16u
#define PROTOCOL_IGNORE_BATCH 256u

/* What an engine gets at its fork; all of it is the enforcer's and stays in the child's memory. */
struct engine_start {
	const struct conf *conf;
	const char *conf_dir; /* to parse again at reload; NULL for -q */
	const char *datadir;
	const char *const *quick_paths; /* -q */
	size_t nquick_paths;
	int control_fd; /* bound, made by the enforcer */
	int resume_fd;  /* memfd, see engine/resume.h */
	bool crashed;   /* the engine before died of its own fault */
	bool first;     /* no engine ran before under this enforcer */
	bool dry_run;
	int64_t started_mono_ns; /* of the daemon, for `uptime` */
};

/* Types; the columns are: name, entry, most entries, descriptors at least, at most. */
#define PROTOCOL_TO_ENFORCER(X)                                                                    \
	X(READY, struct protocol_ready, 1, 0, 0) /* sources are open: say so */                    \
	X(PONG, struct protocol_ping, 1, 0, 0)                                                     \
	X(INOTIFY, struct protocol_ping, 1, 1, 1) /* fd: the engine's inotify */                   \
	X(OPEN, struct protocol_open, 1, 0, 0)    /* the files of a source */                      \
	X(WATCH, struct protocol_watch, 1, 1, 1)  /* fd: place this watch for me */                \
	X(BAN, struct protocol_ban, PROTOCOL_BATCH, 0, 0)                                          \
	X(UNBAN, struct protocol_ban, PROTOCOL_BATCH, 0, 0)                                        \
	X(SYNC, struct protocol_ping, 1, 0, 0)         /* say when all before it is done */        \
	X(COUNTERS, struct protocol_ping, 1, 0, 0)     /* the kernel's drop counters */            \
	X(LOOK, struct protocol_ping, 1, 0, 0)         /* take a census; serial 0: no answer */    \
	X(SEEN, struct protocol_sighting, 1, 0, 0)     /* has the kernel seen this address? */     \
	X(RUN, char, PROTOCOL_VALUES_MAX, 0, 0)        /* struct protocol_run + values */          \
	X(RELOAD, struct protocol_reload, 1, 0, 0)     /* my parse gave this digest */             \
	X(RELOAD_TAKEN, struct protocol_ping, 1, 0, 0) /* my numbers are the new ones now */

#define PROTOCOL_TO_ENGINE(X)                                                                      \
	X(PING, struct protocol_ping, 1, 0, 0)                                                     \
	X(STOP, struct protocol_ping, 1, 0, 0)                                                     \
	X(FILE, struct protocol_file, 1, 0, 1)   /* fd: the log, opened */                         \
	X(DIR, struct protocol_file, 1, 1, 1)    /* fd: a directory to watch */                    \
	X(OPENED, struct protocol_open, 1, 0, 0) /* that was all of OPEN */                        \
	X(WATCHED, struct protocol_watch, 1, 0, 0)                                                 \
	X(INFORCE, struct protocol_ban, PROTOCOL_BATCH, 0, 0) /* at start: bans that are live */   \
	X(INFORCE_END, struct protocol_ping, 1, 0, 0)                                              \
	X(RESULT, struct protocol_ban, PROTOCOL_BATCH, 0, 0) /* of BAN and UNBAN */                \
	X(SYNCED, struct protocol_ping, 1, 0, 0)             /* every RESULT of before is sent */  \
	X(KILLED, struct protocol_killed, PROTOCOL_BATCH, 0, 0)                                    \
	X(COUNTED, struct protocol_counted, PROTOCOL_BATCH, 0, 0)                                  \
	X(COUNTED_ALL, struct protocol_ping, 1, 0, 0)                                              \
	X(SERVICE, struct protocol_service, 1, 0, 0)                                               \
	X(OFFENCE, struct protocol_offence, PROTOCOL_BATCH, 0, 0) /* of a connection */            \
	X(CENSUS, struct protocol_census, 1, 0, 0)                                                 \
	X(SIGHTED, struct protocol_sighting, 1, 0, 0)                                              \
	X(LOOKED, struct protocol_ping, 1, 0, 0) /* every CENSUS of the LOOK is sent */            \
	X(IGNORE, struct protocol_ignore, PROTOCOL_IGNORE_BATCH, 0, 0)                             \
	X(REPAIRED, struct protocol_repaired, 1, 0, 0)                                             \
	X(FORCED, struct protocol_ban, PROTOCOL_BATCH, 0, 0) /* banned past the engine */          \
	X(HEALTH, struct protocol_health, 1, 0, 0)                                                 \
	X(RAN, struct protocol_ran, 1, 0, 0)         /* a command action ended */                  \
	X(RELOAD_ASK, struct protocol_ping, 1, 0, 0) /* SIGHUP came */                             \
	X(DUMP, struct protocol_ping, 1, 0, 0)       /* SIGUSR1 came */                            \
	X(RELOADED, struct protocol_reload, 1, 0, 1) /* fd: the new resume region */

#define PROTOCOL_NUMBER(name, ...) PROTOCOL_##name,
enum protocol_to_enforcer { PROTOCOL_TO_ENFORCER(PROTOCOL_NUMBER) PROTOCOL_TO_ENFORCER_TYPES };
enum protocol_to_engine { PROTOCOL_TO_ENGINE(PROTOCOL_NUMBER) PROTOCOL_TO_ENGINE_TYPES };

/* Rows of a struct message_type table for what a side sends. */
#define PROTOCOL_SENT(name, entry, most, fds_least, fds_most)                                      \
	[PROTOCOL_##name] = {#name, sizeof(entry), 1, most, fds_least, fds_most, NULL},

struct protocol_ping {
	uint64_t serial;
};

struct protocol_ready {
	uint32_t sources, files;
};

struct protocol_open {
	uint32_t source;
	uint32_t generation; /* of the engine's list of sources; comes back in every answer */
	uint32_t count;      /* in OPENED: entries reported, too many ones left out are counted in
				`left_out` */
	uint32_t left_out;
};

struct protocol_watch {
	uint32_t token;
	uint32_t mask;
	int32_t wd; /* in WATCHED: descriptor or negative errno */
};

enum protocol_ban_flag {
	PROTOCOL_BAN_KILL = 1,       /* and destroy the peer's sockets on the jail's ports */
	PROTOCOL_BAN_SCOPE_PORT = 2, /* drop only there */
	PROTOCOL_BAN_FORCED = 4      /* only in INFORCE and FORCED: past the ignore list */
};

struct protocol_ban {
	struct addr addr;
	uint16_t jail;   /* index in the configuration, or PROTOCOL_JAIL_* */
	uint8_t flags;   /* enum protocol_ban_flag */
	uint8_t source;  /* enum ban_source */
	int32_t result;  /* RESULT: 0, -errno, or ERROR_REFUSED with a reason in `reason` */
	uint32_t reason; /* RESULT: enum ignore_reason, or PROTOCOL_REASON_* */
	uint64_t remaining_ms;
	int64_t since_wall_s;
	/* Bans of log lines, for the witness: */
	struct addr host;     /* that the last line names; NONE: not to be witnessed */
	uint32_t lines;       /* that name it; 0: not counted */
	uint32_t offences;    /* among them */
	uint32_t needed;      /* for a ban */
	uint32_t connections; /* RESULT: that the kernel saw */
};

struct protocol_killed {
	struct addr addr; /* the ban's */
	uint32_t count;
	int32_t error; /* 0 or -errno */
};

struct protocol_counted {
	struct addr addr;
	uint8_t flags;
	uint64_t packets, bytes;
};

struct protocol_file {
	uint32_t source;
	uint32_t generation;
	int32_t error;    /* FILE without descriptor: -errno */
	uint32_t entries; /* DIR: its entries matter, else only itself */
	char path[PATH_MAX];
};

/* Which ports a source's jails protect; sent when it is found and when it changes. */
struct protocol_service {
	uint32_t source;
	int32_t result; /* enum owner_result */
	int32_t pid;
	uint32_t nports;
	uint64_t netns; /* inode of another network namespace that it lives in, or 0 */
	uint16_t ports[PROTOCOL_PORTS_MAX];
	char text[256];
};

/* A connection that is an offence in a sockets jail. */
struct protocol_offence {
	struct addr host;
	uint16_t jail;
	uint16_t pport, lport;
	uint8_t kind; /* enum offence_kind */
	uint32_t age_ms, held;
};

/* What the record of the kernel says of an address, all protected ports together. */
struct protocol_sighting {
	uint64_t serial;
	struct addr addr;
	uint32_t recorded; /* ports that are recorded; 0: there is no record */
	uint32_t seen;
	uint64_t connections;
	int64_t age_ms; /* of the last one */
};

/* The last census of a sockets jail in one namespace; without ports: there is none there any more.
 */
struct protocol_census {
	uint16_t jail, nports;
	uint16_t ports[PROTOCOL_PORTS_MAX];
	uint32_t polls; /* no bell: a census each second */
	uint64_t netns; /* as in struct protocol_service */
	uint64_t censuses, cuts;
	struct census_report report;
};

/* A list comes as any number of ADD and one DONE, which puts it in place of the old one. */
enum protocol_ignore_op { PROTOCOL_IGNORE_ADD, PROTOCOL_IGNORE_DONE };

struct protocol_ignore {
	struct addr addr;
	uint32_t reason; /* enum ignore_reason: OWN, GATEWAY; SSH peers are single, without DONE */
	uint32_t op;     /* enum protocol_ignore_op */
	int64_t age_ms;  /* SSH: since it was last seen */
	char who[36];    /* SSH: user of the session */
};

struct protocol_repaired {
	int32_t pid; /* of the culprit, 0 unknown */
	uint32_t bans;
	uint32_t times; /* repairs since start */
	char comm[16];
};

struct protocol_health {
	char firewall[160]; /* "ok" or what is wrong */
	char kill[160];
	char witness[160];
	char privileges[256];
	uint64_t retries, set_full, engine_crashes, runner_dropped;
};

/* RUN's payload: this, then `nvalues` times { uint16_t key, uint16_t length, bytes }. */
struct protocol_run {
	uint16_t jail, action; /* indexes in the configuration */
	uint16_t event;        /* enum runner_event */
	uint16_t nvalues;
};

struct protocol_ran {
	uint16_t jail, action;
	int32_t status; /* exit status, 256 + signal, or negative errno */
	uint32_t timed_out;
};

struct protocol_reload {
	uint8_t digest[16];
	int32_t result; /* RELOADED: 0 or negative */
	char text[1024];
};

#endif
