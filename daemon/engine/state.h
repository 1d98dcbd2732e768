/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the engine share: one struct, and which file answers for which part of it.
 *
 *   engine.c    life: start-up order, messages, ready, stop
 *   lines.c     from sources to the detector; positions; guilty lines
 *   banlist.c   decisions to the enforcer and its answers back; bans by hand; ends
 *   commands.c  command actions of bans
 *   sockets.c   offences of connections, the last census of each sockets jail
 *   view.c      what `status`, `banned` and `why` read
 *   reload.c    a new configuration, all or nothing
 *   detector.c  from a line to a decision (also for `tailban replay`)
 *   resume.c    what outlives an engine
 *
 * Private to this folder.
 */
#ifndef TAILBAN_ENGINE_STATE_H
#define TAILBAN_ENGINE_STATE_H

#include "daemon/base/message.h"
#include "daemon/config/sources.h"
#include "daemon/control/requests.h"
#include "daemon/engine/detector.h"
#include "daemon/engine/resume.h"
#include "daemon/enforcer/protocol.h"
#include "daemon/enforcer/runner.h"
#include "daemon/jail/tally.h"
#include "daemon/source/source.h"

#include <ev.h>

#define ENGINE_CENSUSES                                                                            \
	16u                /* of sockets jails and namespaces; as many as the prober has watches   \
			    */
#define ENGINE_PATHS 1024u /* names of log files in the evidence */

struct engine;

/* One log file that is being read. */
struct engine_file {
	struct engine_file *next;
	struct detector_file detector;
	struct resume_file *row;
	bool has_skips; /* a guilty line lies in it */
};

struct engine_source {
	struct engine *engine;
	uint32_t index; /* in the configuration's list */
	struct source_conf *conf;
	uint64_t hash; /* of its patterns */
	struct source *source;
	struct engine_file *files; /* the one used last comes first */
	int64_t busy_since_ns;     /* 0: everything is read */
	bool ended;
	struct protocol_service service;
};

/* A ban or unban by hand that waits for the kernel's answers. */
struct engine_order {
	struct engine_order *next;
	struct control_result *results; /* sorted by address */
	size_t n;
	uint64_t serial; /* of the SYNC that ends it */
	void (*done)(void *arg, const struct control_result *results, size_t n);
	void *arg;
};

/* A `why` that waits for what the kernel saw. */
struct engine_sight {
	struct engine_sight *next;
	uint64_t serial;
	void (*done)(void *arg, const struct control_sighting *sighting);
	void *arg;
};

struct engine_waiter {
	struct engine_waiter *next;
	void (*done)(void *arg);
	void *arg;
};

struct engine {
	struct engine_start start;
	struct conf *own_conf; /* after a reload; start.conf before */
	const struct conf *conf;
	struct arena arena, list; /* paths; the list of sources */
	struct ev_loop *loop;
	struct channel *channel;
	struct control *control;
	struct control_view view;
	ev_prepare before_wait;
	ev_timer end_of_ban;
	int64_t armed_ns; /* the end that end_of_ban waits for */
	ev_periodic far_off;
	int exit_status;

	struct engine_source *sources;
	size_t nsources;
	uint32_t generation; /* of the list: answers to questions of an older one are dropped */
	struct resume resume;
	struct resume_guilty guilty;
	struct detector *detector;
	struct bans *bans;
	struct ignore *ignore;
	struct evidence *evidence;
	struct tally *tally;
	struct netlist ignore_coming[IGNORE_NREASONS];
	const char *paths[ENGINE_PATHS];
	uint32_t npaths;
	int64_t purged_s, last_wall_s;

	bool in_force_known, ready, ending, reloading;
	uint64_t sync_sent, sync_seen; /* serials */
	struct engine_order *orders;
	struct engine_waiter *counter_waiters;
	uint64_t counters_serial;
	struct protocol_census censuses[ENGINE_CENSUSES];
	uint32_t ncensuses;
	struct engine_waiter *look_waiters;
	uint64_t look_serial;
	struct engine_sight *sights;
	uint64_t sight_serial;
	bool has_sockets_jail;
	int64_t exhausted_ns; /* "Too many open files" was read last */
	uint64_t exhausted;
	struct protocol_health health;
	struct protocol_repaired repaired;
	struct log_gate full_gate, error_gate, unban_gate, witness_gate;
	struct protocol_ban unbans[PROTOCOL_BATCH];
	uint32_t nunbans;

	/* reload.c: what is prepared and waits for the enforcer's word */
	struct conf *next_conf;
	void (*reload_done)(void *arg, const struct error *err);
	void *reload_arg;
};

/* engine.c */
void engine_check_ready(struct engine *e);
int engine_make_detector(struct engine *e, const struct conf *conf, const struct resume *resume,
			 struct detector **ret_detector, struct error *err);
int engine_ignore_configured(struct engine *e, const struct conf *conf);

/* lines.c */
int lines_open(struct engine *e, struct error *err);
void lines_close(struct engine *e);
void lines_file(struct engine *e, const struct protocol_file *f, int fd);
void lines_dir(struct engine *e, const struct protocol_file *f, int fd);
void lines_opened(struct engine *e, const struct protocol_open *o);
bool lines_all_ready(const struct engine *e);
uint32_t lines_file_count(const struct engine *e);
uint32_t lines_path_index(struct engine *e, const char *path);
void lines_begins(void *ctx, const struct detector_file *file, uint64_t offset);
bool lines_skip(void *ctx, const struct detector_file *file, uint64_t offset, struct slice line);
enum detector_again lines_counting(void *ctx, const struct detector_offence *o, unsigned before);
void lines_counted(void *ctx);
void lines_named(void *ctx, const struct addr *host, bool partner);
void lines_owes(void *ctx, const struct addr *host);
bool lines_owed(void *ctx, const struct addr *host);
void lines_notice(void *ctx, const struct detector_file *file, const char *text);

/* banlist.c */
void banlist_offence(void *ctx, const struct detector_offence *o);
void banlist_ban(void *ctx, const struct detector_offence *o, int64_t duration_s, unsigned before);
void banlist_refused(void *ctx, const struct detector_offence *o, const struct ignore_hit *why);
void banlist_flush(struct engine *e);
void banlist_in_force(struct engine *e, const struct protocol_ban *b);
void banlist_result(struct engine *e, const struct protocol_ban *b);
void banlist_synced(struct engine *e, uint64_t serial);
void banlist_sync(struct engine *e);
void banlist_killed(struct engine *e, const struct protocol_killed *k);
void banlist_forced(struct engine *e, const struct protocol_ban *b);
void banlist_order_bans(void *ctx, const struct control_ban *items, size_t n,
			void (*done)(void *, const struct control_result *, size_t), void *arg);
void banlist_order_unbans(void *ctx, const struct control_ban *items, size_t n,
			  void (*done)(void *, const struct control_result *, size_t), void *arg);
void banlist_arm(struct engine *e);
const char *banlist_jail_name(const struct engine *e, uint16_t jail);
const char *banlist_reason(const struct engine *e, const struct ban *b, char *buf, size_t size);

/* commands.c */
void commands_run(struct engine *e, const struct ban *b, enum runner_event event);

/* sockets.c */
void sockets_offence(struct engine *e, const struct protocol_offence *o);
void sockets_census(struct engine *e, const struct protocol_census *c);
bool sockets_watched(const struct engine *e); /* is there a sockets jail? */
void sockets_exhausted(struct engine *e);
void sockets_look(void *ctx, void (*done)(void *arg), void *arg); /* a fresh census of each */
void sockets_sight(void *ctx, const struct addr *a,
		   void (*done)(void *arg, const struct control_sighting *sighting), void *arg);
void sockets_sighted(struct engine *e, const struct protocol_sighting *s);
void sockets_looked(struct engine *e, uint64_t serial);

/* view.c */
void view_set_up(struct engine *e);
void view_counted(struct engine *e, const struct protocol_counted *c);
void view_counted_all(struct engine *e, uint64_t serial);

/* reload.c */
void reload_start(void *engine, void (*done)(void *arg, const struct error *err), void *arg);
void reload_finish(struct engine *e, const struct protocol_reload *answer, int fd);

#endif
