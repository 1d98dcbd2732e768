/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runner process: takes RUN messages, runs the configured command, says how it ended.
 *
 * It was forked first and is root without limits, because command actions are the administrator's
 * own scripts. It believes nothing: indexes, keys and lengths are checked; a message that does not
 * fit is dropped and said. It knows the configuration of its fork. After a reload the enforcer
 * translates the numbers of jails and actions; command actions that are new or have changed do not
 * run before a restart of tailband, and the enforcer says so. It ends with the enforcer.
 */
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/enforcer/runner.h"
#include "daemon/enforcer/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STOP_S 1.5 /* the enforcer kills us after 2 */

struct commands {
	const struct conf *conf;
	struct ev_loop *loop;
	struct channel *channel;
	struct runner *runner;
	struct runner_action *actions; /* all command actions of all jails, in order */
	struct protocol_ran *names;    /* jail and action of each */
	size_t n;
	struct log_gate gate;
};

/* What a jail and an action come to in the runner's list, or -1. */
static int find(const struct commands *c, const struct protocol_run *run)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->names[i].jail == run->jail && c->names[i].action == run->action)
			return (int)i;
	return -1;
}

static void on_run(void *ctx, const void *bytes, uint32_t count, int *fds)
{
	struct commands *c = ctx;
	struct runner_value values[RUNNER_KEYS];
	struct protocol_run run;
	int action, r = -EINVAL;

	(void)fds;
	if (count < sizeof run)
		return;
	memcpy(&run, bytes, sizeof run);
	action = find(c, &run);
	if (action >= 0 && run.nvalues <= RUNNER_KEYS && run.event < RUNNER_EVENTS)
		r = runner_values_unpack(
			slice_of((const char *)bytes + sizeof run, count - sizeof run), run.nvalues,
			values);
	if (r == 0)
		r = runner_submit(c->runner, (unsigned)action, (enum runner_event)run.event, values,
				  run.nvalues);
	/* What finds no room is said by the runner itself, once a minute. */
	if (r < 0 && r != -ENOBUFS && r != -ENOMEM &&
	    log_gate_open(&c->gate, clock_now().mono_ns, 3, 60))
		log_warning("runner", "a command was not run: %s", error_name(r));
}

static void on_done(void *ctx, const struct runner_done *done)
{
	struct commands *c = ctx;
	struct protocol_ran ran = c->names[done->action];

	ran.status = done->status;
	ran.timed_out = done->timed_out;
	if (c->channel)
		channel_send(c->channel, PROTOCOL_RAN, &ran, 1, -1);
}

static void on_closed(void *ctx, int error)
{
	struct commands *c = ctx;

	(void)error;
	ev_break(c->loop, EVBREAK_ALL);
}

static const struct message_type from_enforcer[PROTOCOL_TO_ENFORCER_TYPES] = {
	[PROTOCOL_RUN] = {"RUN", 1, 1, PROTOCOL_VALUES_MAX, 0, 0, on_run}};
static const struct message_type to_enforcer[] = {PROTOCOL_TO_ENGINE(PROTOCOL_SENT)};
static const struct channel_hooks hooks = {.in = from_enforcer,
					   .nin = PROTOCOL_TO_ENFORCER_TYPES,
					   .out = to_enforcer,
					   .nout = PROTOCOL_TO_ENGINE_TYPES,
					   .closed = on_closed};

static void add_action(struct commands *c, uint16_t jail, uint16_t action)
{
	const struct action_conf *a = &c->conf->jails[jail].actions[action];

	c->actions[c->n] = (struct runner_action){
		.name = a->name,
		.commands = {[RUNNER_BAN] = a->ban.text,
			     [RUNNER_UNBAN] = a->unban.text,
			     [RUNNER_START] = a->start.text,
			     [RUNNER_STOP] = a->stop.text,
			     [RUNNER_CHECK] = a->check.text},
		.timeout_ms = (uint32_t)(a->timeout_s * 1000),
	};
	/* Only this event runs it, and under a name of its own: commands of bans that share its
	 * action file do not come before it. */
	if (a->only_exhaustion)
		c->actions[c->n] = (struct runner_action){
			.name = "on_exhaustion",
			.commands = {[RUNNER_EXHAUSTION] = a->ban.text},
			.timeout_ms = (uint32_t)(a->timeout_s * 1000),
		};
	c->names[c->n++] = (struct protocol_ran){.jail = jail, .action = action};
}

static int list_actions(struct commands *c)
{
	size_t most = 1;

	for (size_t i = 0; i < c->conf->njails; i++)
		most += c->conf->jails[i].nactions;
	c->actions = calloc(most, sizeof *c->actions);
	c->names = calloc(most, sizeof *c->names);
	if (!c->actions || !c->names)
		return -ENOMEM;
	for (uint16_t i = 0; i < c->conf->njails; i++)
		for (uint16_t k = 0; k < c->conf->jails[i].nactions; k++)
			if (c->conf->jails[i].actions[k].kind == ACTION_COMMAND)
				add_action(c, i, k);
	return 0;
}

/* actionstart or actionstop of every action, once a jail. */
static void submit_all(struct commands *c, enum runner_event event)
{
	for (unsigned i = 0; i < c->n; i++) {
		const struct runner_value jail = {RUNNER_JAIL,
						  slice_str(c->conf->jails[c->names[i].jail].name)};

		runner_submit(c->runner, i, event, &jail, 1);
	}
}

static void out_of_time(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	*(bool *)w->data = true;
}

/* actionstop, and time for it to end: less than the enforcer has for us, so that what hangs is
 * killed with all of its process group. */
static void stop_actions(struct commands *c)
{
	bool over = false;
	ev_timer timer;

	submit_all(c, RUNNER_STOP);
	ev_timer_init(&timer, out_of_time, STOP_S, 0.);
	timer.data = &over;
	ev_now_update(c->loop);
	ev_timer_start(c->loop, &timer);
	while (!over && (runner_stats(c->runner).running || runner_stats(c->runner).waiting))
		ev_run(c->loop, EVRUN_ONCE);
	ev_timer_stop(c->loop, &timer);
	if (over)
		log_warning("runner", "%u commands were cut short by the stop, %u were not run",
			    runner_stats(c->runner).running, runner_stats(c->runner).waiting);
}

int commands_main(void *conf, int fd)
{
	static struct commands c;

	c = (struct commands){.conf = conf, .loop = ev_default_loop(EVFLAG_AUTO)};
	if (!c.loop || list_actions(&c) < 0)
		return 4;
	c.channel = channel_new(c.loop, fd, &hooks, &c);
	c.runner = runner_new(c.loop, c.actions, c.n, on_done, &c);
	if (!c.channel || !c.runner)
		return 4;
	submit_all(&c, RUNNER_START);
	ev_run(c.loop, 0);
	channel_free(c.channel);
	c.channel = NULL;
	stop_actions(&c);
	runner_free(c.runner);
	return 0;
}

/* --- the enforcer's side ---------------------------------------------------------------------- */

static const struct hash_seed fixed_seed = {1, 2};

static uint64_t add_text(uint64_t sum, const char *text)
{
	return sum * 31 + (text ? hash_bytes(&fixed_seed, text, strlen(text)) : 1);
}

static uint64_t hash_of(const struct jail_conf *j, const struct action_conf *a)
{
	const char *const texts[] = {j->name,       a->name,      a->ban.text,  a->unban.text,
				     a->start.text, a->stop.text, a->check.text};
	uint64_t sum = (uint64_t)a->timeout_s * 2 + a->only_exhaustion;

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		sum = add_text(sum, texts[i]);
	return sum;
}

int commands_remember(struct enforcer *e)
{
	size_t most = 0;

	for (size_t i = 0; i < e->conf->njails; i++)
		most += e->conf->jails[i].nactions;
	e->commands = calloc(most ? most : 1, sizeof *e->commands);
	if (!e->commands)
		return -ENOMEM;
	for (uint16_t i = 0; i < e->conf->njails; i++) {
		const struct jail_conf *j = &e->conf->jails[i];

		for (uint16_t k = 0; k < j->nactions; k++)
			if (j->actions[k].kind == ACTION_COMMAND)
				e->commands[e->ncommands++] =
					(struct enforcer_command){hash_of(j, &j->actions[k]), i, k};
	}
	return 0;
}

static const struct enforcer_command *
find_command(const struct enforcer *e, const struct jail_conf *j, const struct action_conf *a)
{
	uint64_t hash = hash_of(j, a);

	for (size_t i = 0; i < e->ncommands; i++)
		if (e->commands[i].hash == hash)
			return &e->commands[i];
	return NULL;
}

bool commands_to_runner(const struct enforcer *e, const struct conf *conf, struct protocol_run *run)
{
	const struct jail_conf *j = &conf->jails[run->jail];
	const struct enforcer_command *c = find_command(e, j, &j->actions[run->action]);

	if (!c)
		return false;
	run->jail = c->jail;
	run->action = c->action;
	return true;
}

static bool has_hash(const struct enforcer *e, uint64_t hash, struct protocol_ran *ran)
{
	for (uint16_t i = 0; i < e->conf->njails; i++) {
		const struct jail_conf *j = &e->conf->jails[i];

		for (uint16_t k = 0; k < j->nactions; k++) {
			if (j->actions[k].kind != ACTION_COMMAND ||
			    hash_of(j, &j->actions[k]) != hash)
				continue;
			ran->jail = i;
			ran->action = k;
			return true;
		}
	}
	return false;
}

bool commands_from_runner(const struct enforcer *e, struct protocol_ran *ran)
{
	for (size_t i = 0; i < e->ncommands; i++)
		if (e->commands[i].jail == ran->jail && e->commands[i].action == ran->action)
			return has_hash(e, e->commands[i].hash, ran);
	return false;
}

void commands_warn(const struct enforcer *e)
{
	for (size_t i = 0; i < e->conf->njails; i++) {
		const struct jail_conf *j = &e->conf->jails[i];

		for (size_t k = 0; k < j->nactions; k++)
			if (j->actions[k].kind == ACTION_COMMAND &&
			    !find_command(e, j, &j->actions[k]))
				log_warning("reload",
					    "[%s] action %s is new or has changed: its commands do "
					    "not run before tailband is restarted",
					    j->name, j->actions[k].name);
	}
}
