/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the enforcer share: one struct, and which file answers for which part of it.
 *
 *   enforcer.c   life: start-up order, children, signals, restart, reload, stop
 *   requests.c   what the engine asks: bans, files, watches, counters, commands
 *   service.c    what the prober finds: protected ports, administrators' ssh peers; the ignore list
 *   commands.c   the runner process
 *   endpoint.c   sockets and files of our own: control, force, lock, pid file, directories
 *
 * Private to this folder.
 */
#ifndef TAILBAN_ENFORCER_STATE_H
#define TAILBAN_ENFORCER_STATE_H

#include "daemon/base/clock.h"
#include "daemon/base/ignore.h"
#include "daemon/base/message.h"
#include "daemon/config/sources.h"
#include "daemon/enforcer/enforcer.h"
#include "daemon/enforcer/firewall.h"
#include "daemon/enforcer/inforce.h"
#include "daemon/enforcer/protocol.h"
#include "daemon/enforcer/reaper.h"
#include "daemon/sockets/owner.h"

#include <ev.h>

#define ENFORCER_RESULTS PROTOCOL_BATCH

/* A log source as the enforcer sees it: its patterns and who writes it. */
struct enforcer_source {
	const struct source_conf *conf;
	const char *name;  /* outlives the configuration, for a reload */
	uint64_t dev, ino; /* the file opened last; the writer is looked for by it */
	bool opened, asked, found;
	int64_t asked_mono_ns;
	struct portset ports; /* of the service behind it, when found */
	struct owner last;    /* the prober's last answer */
};

/* A command action that the runner knows since its fork. */
struct enforcer_command {
	uint64_t hash;         /* of its jail's name and its own text */
	uint16_t jail, action; /* the runner's numbers */
};

struct enforcer_child {
	pid_t pid;
	struct channel *channel;
};

struct enforcer {
	struct enforcer_start start;
	struct conf *conf;
	struct conf *conf_before; /* the engine's messages have its numbers until RELOAD_TAKEN; or
				     NULL */
	size_t nsources_before;
	struct arena arena; /* sources; replaced at reload */
	struct enforcer_source *sources;
	size_t nsources;
	uint32_t generation;  /* of the list of sources: answers about an older one are dropped */
	char privileges[256]; /* what is missing, for `status` */

	struct ev_loop *loop;
	ev_signal term, interrupt, hangup, user1, child;
	ev_prepare before_wait;
	ev_periodic far_off;
	ev_timer respawn, prober_again, impatience, speechless, counters_slice, watchdog;
	ev_io address_change, utmp_change, force_ready;

	struct enforcer_child engine, prober, runner;
	int inotify_fd, resume_fd, control_fd, force_fd, lock_fd;
	bool pidfile_made, stopping, ready, engine_failed, ever_started;
	int exit_status;
	double backoff_s;
	uint64_t progress_seen, crashes, malformed;
	int64_t malformed_mono_ns[3];
	int64_t started_mono_ns;

	struct inforce inforce;
	struct firewall *firewall; /* NULL in a dry run */
	struct reaper *reaper;
	struct ignore *ignore;
	bool work_queued, kill_queued, look_up_queued;
	struct protocol_ban results[ENFORCER_RESULTS];
	uint32_t nresults;
	struct protocol_killed killed[PROTOCOL_BATCH];
	uint32_t nkilled;
	uint32_t counters_cursor;
	uint64_t counters_serial;
	bool counters_running;
	uint32_t repairs;

	/* prober */
	int64_t ssh_asked_mono_ns;
	int64_t keep_until_ns; /* then an ssh peer in the kernel's copy of the ignore list is
				  outdated */
	uint32_t prober_pending;
	uint64_t runner_dropped;
	struct enforcer_command *commands; /* of the runner */
	size_t ncommands;
	char health_said[sizeof(struct protocol_health)];
};

/* enforcer.c */
void enforcer_engine_broke_rules(struct enforcer *e);
void enforcer_say_health(struct enforcer *e);
uint16_t enforcer_jail_now(const struct conf *before, const struct conf *now, uint16_t jail);
void enforcer_forget_conf(struct enforcer *e); /* the one before the reload */
int enforcer_reload(struct enforcer *e, const struct protocol_reload *wanted, struct error *err);
void enforcer_set_sources(struct enforcer *e);
void enforcer_ready(struct enforcer *e, uint32_t sources, uint32_t files);
void enforcer_pong(struct enforcer *e);

/* requests.c */
extern const struct message_type enforcer_engine_types[];
extern const uint32_t enforcer_engine_ntypes;
void requests_flush(struct enforcer *e);         /* commits what this wake-up collected */
void requests_forget_engine(struct enforcer *e); /* what the one before asked for */
void requests_bans_in_force(struct enforcer *e); /* tells a new engine */
int requests_firewall_open(struct enforcer *e, struct error *err);
void requests_ports_known(struct enforcer *e, size_t source); /* or have changed */
int requests_ban_by_force(struct enforcer *e, struct protocol_ban *ban);

/* service.c */
enum service_prober_type { SERVICE_PROBER_ASK, SERVICE_PROBER_TYPES };
extern const struct message_type service_prober_questions[]; /* what we send */
extern const struct message_type service_prober_answers[];
int service_prober_run(void *arg, int fd);
void service_look_up(struct enforcer *e, size_t source, int64_t min_age_ns);
void service_look_up_missing(
	struct enforcer *e); /* after bans: ports that are unknown or old, ssh peers */
void service_ssh_peers(struct enforcer *e, int64_t min_age_ns);
int service_ignore_set_up(struct enforcer *e, struct error *err);
int service_ignore_configured(struct enforcer *e, struct error *err);
void service_keep_fresh(struct enforcer *e, int64_t mono_ns); /* before a ban */
void service_tell_engine(struct enforcer *e);

/* commands.c: the runner's main function; takes the struct conf */
int commands_main(void *conf, int fd);
/* The enforcer's side: a reload may give jails and actions other numbers than the runner knows. */
int commands_remember(struct enforcer *e);
bool commands_to_runner(const struct enforcer *e, const struct conf *conf,
			struct protocol_run *run);
bool commands_from_runner(const struct enforcer *e, struct protocol_ran *ran);
void commands_warn(const struct enforcer *e);

/* endpoint.c */
int endpoint_lock(struct enforcer *e, struct error *err);
int endpoint_control(struct enforcer *e, struct error *err);
int endpoint_force(struct enforcer *e, struct error *err);
int endpoint_statedir(struct enforcer *e, struct error *err);
void endpoint_pidfile(struct enforcer *e);
void endpoint_remove(struct enforcer *e);
const char *endpoint_socket_path(const struct enforcer *e);

#endif
