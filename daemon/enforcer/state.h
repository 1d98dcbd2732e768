/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the enforcer share: one struct, and which file answers for which part of it.
 *
 *   enforcer.c   life: start-up order, children, signals, restart, reload, stop
 *   requests.c   what the engine asks: bans, files, watches, counters, commands
 *   service.c    what the prober finds: protected ports, administrators' ssh peers; the ignore list
 *   witness.c    bans of log lines: has the kernel seen who they name? which ports are recorded
 *   enter.c      services in other network namespaces: the enterer, spaces, whose process lives
 *   watches.c    sockets jails: when a census is taken, and what is done with it
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
#include "daemon/base/process.h"
#include "daemon/config/sources.h"
#include "daemon/enforcer/enforcer.h"
#include "daemon/enforcer/firewall.h"
#include "daemon/enforcer/inforce.h"
#include "daemon/enforcer/protocol.h"
#include "daemon/enforcer/reaper.h"
#include "daemon/enforcer/spaces.h"
#include "daemon/sockets/prober.h"

#include <ev.h>

#define ENFORCER_RESULTS PROTOCOL_BATCH
#define ENFORCER_SPACES 16u    /* network namespaces of services at one time */
#define ENFORCER_DEFERRED 512u /* kills that wait until their place is known */

/* Tells when the process that writes a log ends. */
struct enforcer_guard {
	struct enforcer *e;
	pid_t pid;
	uint64_t start_time;
	int pidfd; /* -1: it has ended */
	ev_io ended;
	ev_timer patience; /* for news of its space, then that is closed */
};

/*
 * A log source as the enforcer sees it: its patterns, who writes it, and where that process lives.
 * The place decides where ports are protected and sockets are killed: in this network namespace, or
 * in the one of `space`, never in both.
 */
struct enforcer_source {
	const struct source_conf *conf;
	const char *name;  /* outlives the configuration, for a reload */
	uint64_t dev, ino; /* the file opened last; the writer is looked for by it */
	bool tried, opened, asked, found;
	bool waiting; /* for the prober's answer */
	bool answered;
	int64_t asked_mono_ns, answered_mono_ns;
	struct portset ports; /* of the service behind it, when found */
	struct owner last;    /* the last answer, from here or from its namespace */

	bool elsewhere; /* its writer lives in another namespace, until it is found in this one */
	bool lost;      /* and has ended: it is looked for */
	bool wants_entry, scope_said;
	struct owner away;            /* what is known of it from here */
	struct space *space;          /* NULL: here, or not (yet) entered */
	struct enforcer_guard *guard; /* of the writer; NULL: nobody is known */
};

/* A kill that has to wait. */
struct enforcer_deferred {
	struct addr addr;
	uint16_t jail;
};

/* A command action that the runner knows since its fork. */
struct enforcer_command {
	uint64_t hash;         /* of its jail's name and its own text */
	uint16_t jail, action; /* the runner's numbers */
};

/* A sockets jail and its ports in one namespace; see watches.c. Its index is the prober's number of
 * the watch. */
struct enforcer_watch {
	struct enforcer *e; /* NULL: the slot is free */
	uint16_t jail;
	struct space *space; /* NULL: this namespace */
	uint32_t generation; /* never the same for two watches */
	bool handed;         /* the prober has the space's socket */
	struct portset ports;
	ev_timer timer;
	int64_t due_ms;   /* of the timer; 0: none */
	int64_t taken_ms; /* the last census */
	bool asked;       /* one is under way */
	bool again;       /* and another is wanted */
	uint32_t skipped; /* connections of the ignore list that were to be closed */
	struct census_report report;
	uint64_t censuses, cuts;
	int64_t full_since_ms;
	bool unarmed; /* its bell could not be armed for the census under way */
	int error_said, raise_said;
	bool nobody_said, alarm_said, beyond_said;
	bool single; /* as the firewall was told: a listener is bound to one address */
};

/* What the kernel says of a ban's host; see witness.c. */
struct witness_word {
	bool concerned; /* a witness was wanted */
	bool seen;
	bool counted;         /* in the record, so connections is their number */
	bool uncounted;       /* some of its ports have no record that answers */
	struct portset ports; /* in the place that is asked now */
	uint32_t reason;      /* 0, or the PROTOCOL_REASON_* that refuses it */
	uint64_t connections;
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
	ev_timer respawn, prober_again, census_again, impatience, speechless, counters_slice,
		watchdog;
	ev_io address_change, utmp_change, force_ready;

	struct enforcer_child engine, prober, census, runner, enterer;
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
	/* other network namespaces */
	struct space *spaces[ENFORCER_SPACES];
	size_t nspaces;
	struct enterer_question enterer_question;
	uint32_t enterer_token;
	bool enterer_answered;
	int entered_fds[ENTERER_SOCKETS];
	uint32_t nentered;
	ev_timer enterer_patience;
	struct enforcer_deferred deferred[ENFORCER_DEFERRED];
	uint32_t ndeferred;
	bool deferred_all; /* more than fit: every ban in force is looked at */
	/* sockets jails */
	struct enforcer_watch *watches;
	size_t nwatches;
	uint32_t watch_generation; /* the last one that was given */
	bool watches_full_said;
	uint64_t look_serial; /* a LOOK that waits for its censuses; 0: none */
	ev_timer port_timer;
	double port_wait_s;
	int64_t resorted_ms; /* on_exhaustion ran last, of whatever watch */
	bool bell_missing;   /* a census each second instead */
	struct log_gate cut_gate;

	/* witness */
	struct sockdiag witness_sd; /* of this namespace; for witness_sockets */
	bool witness_open;
	uint32_t ready_sources, ready_files;
	bool ready_said;
	bool settled; /* every log's service was looked for, or has had its time */
	ev_timer settle_timer;
	struct protocol_ban *held; /* bans of log lines that wait for that */
	uint32_t nheld, held_room;
	bool single;    /* a recorded port has a listener on one address: connections are missed */
	bool uncounted; /* the record's connections are not all of them */
	struct firewall_record_state record;
	struct log_gate record_gate;

	struct enforcer_command *commands; /* of the runner */
	size_t ncommands;
	char health_said[sizeof(struct protocol_health)];
};

/* enforcer.c */
void enforcer_start_census(struct enforcer *e); /* when there is something to watch */
int enforcer_spawn(struct enforcer *e, enum process_name name, int (*run)(void *, int), void *arg,
		   const struct channel_hooks *hooks, struct enforcer_child *child,
		   struct error *err);
void enforcer_drop_channel(struct enforcer_child *child);
void enforcer_engine_broke_rules(struct enforcer *e);
void enforcer_say_health(struct enforcer *e);
uint16_t enforcer_jail_now(const struct conf *before, const struct conf *now, uint16_t jail);
void enforcer_forget_conf(struct enforcer *e); /* the one before the reload */
int enforcer_reload(struct enforcer *e, const struct protocol_reload *wanted, struct error *err);
void enforcer_set_sources(struct enforcer *e);
void enforcer_ready(struct enforcer *e, uint32_t sources, uint32_t files);
void enforcer_say_ready(struct enforcer *e); /* when it is, and the services are known */
void enforcer_pong(struct enforcer *e);

/* requests.c */
extern const struct message_type enforcer_engine_types[];
extern const uint32_t enforcer_engine_ntypes;
void requests_flush(struct enforcer *e);         /* commits what this wake-up collected */
void requests_forget_engine(struct enforcer *e); /* what the one before asked for */
void requests_bans_in_force(struct enforcer *e); /* tells a new engine */
int requests_firewall_open(struct enforcer *e, struct error *err);
void requests_ports_known(struct enforcer *e, size_t source); /* or have changed */
void requests_place_known(struct enforcer *e); /* of some source: kills that waited for it */
/* Is the jail one of those that the log's service is protected by? */
bool requests_is_of_source(const struct enforcer *e, const struct enforcer_source *s,
			   uint16_t jail);
struct reaper_hooks requests_kill_hooks(struct enforcer *e);
void requests_hear_held(struct enforcer *e); /* bans that waited for the witness */
int requests_ban_by_force(struct enforcer *e, struct protocol_ban *ban);

/* The jail's ports in one namespace; space NULL: this one. */
struct portset requests_ports(const struct enforcer *e, uint16_t jail, const struct space *space);

/* witness.c: one word for each ban. */
void witness_hear(struct enforcer *e, const struct protocol_ban *bans, uint32_t n,
		  struct witness_word *ret_words);
void witness_tell(struct enforcer *e, const struct protocol_sighting *asked);
void witness_health(struct enforcer *e, char *text, size_t size);
/* For questions that are answered at once, of this namespace (NULL) or that one; or NULL. */
struct sockdiag *witness_sockets(struct enforcer *e, struct space *space);
/* Until every log's service was looked for the record is left as it is, and bans of lines wait. */
void witness_settle(struct enforcer *e);
void witness_unsettle(struct enforcer *e); /* at start and at reload */
void witness_close(struct enforcer *e);

/* watches.c */
int watches_set_up(struct enforcer *e);          /* also after a reload */
void watches_ports(struct enforcer *e);          /* known ports have changed */
void watches_ring(struct enforcer *e, int port); /* as the firewall's hook `bell` */
void watches_look(struct enforcer *e, uint64_t serial);
void watches_afresh(struct enforcer *e);
void watches_leave(struct enforcer *e, const struct space *space); /* before it is closed */
void watches_census_gone(struct enforcer *e);
void watches_offences(void *ctx, const void *entries, uint32_t count, int *fds);
void watches_cuts(void *ctx, const void *entries, uint32_t count, int *fds);
void watches_report(void *ctx, const void *entries, uint32_t count, int *fds);
void watches_close(struct enforcer *e);

/* service.c */
extern const struct message_type service_prober_questions[]; /* what we send */
extern const struct message_type service_prober_answers[];
void service_look_up(struct enforcer *e, size_t source, int64_t min_age_ns);
void service_look_again(struct enforcer *e); /* a new prober: what the one before was asked */
/* The service behind a log was found (or not) in this namespace, or elsewhere; space NULL and
 * elsewhere: in a namespace that cannot be entered, or that has gone. */
void service_settle(struct enforcer *e, size_t source, const struct owner *owner, bool elsewhere,
		    struct space *space);
bool service_is_watched(const struct enforcer *e, const struct enforcer_source *s);
bool service_asks_ports(const struct enforcer *e, const struct enforcer_source *s);
void service_question(const struct enforcer *e, size_t source, struct prober_question *ret_q);
/* The source that a token means, or NULL when that was before a reload. */
struct enforcer_source *service_source(struct enforcer *e, uint32_t token);
void service_look_up_missing(
	struct enforcer *e); /* after bans: ports that are unknown or old, ssh peers */
void service_ssh_peers(struct enforcer *e, int64_t min_age_ns);
int service_ignore_set_up(struct enforcer *e, struct error *err);
void service_ignore_spaces(struct enforcer *e); /* own addresses of other namespaces */
int service_ignore_configured(struct enforcer *e, struct error *err);
void service_keep_fresh(struct enforcer *e, int64_t mono_ns); /* before a ban */
void service_tell_engine(struct enforcer *e);

/* enter.c */
void enter_begin(struct enforcer *e, size_t source, const struct owner *owner);
bool enter_ended(struct enforcer *e, pid_t pid); /* SIGCHLD: was it the enterer? */
void enter_guard(struct enforcer *e, struct enforcer_source *s, const struct owner *owner);
bool enter_writer_lives(const struct enforcer_source *s);
void enter_drop_guard(struct enforcer_source *s);
void enter_sweep(struct enforcer *e); /* closes spaces that no source is in any more */
int enter_state(const struct enforcer *e, const char **ret_text); /* as reaper_state, of all */
void enter_close(struct enforcer *e);

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
