/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes from sockets instead of lines: offences of connections, and the last census of each
 * sockets jail.
 *
 * An offence is counted as a line's is: ignore list, ledger, growth, evidence; its line is the
 * sentence that says what the connection did. An offence or a census of a jail that this engine
 * does not have is dropped.
 */
#include "daemon/config/times.h"
#include "daemon/engine/state.h"

#include <stdio.h>
#include <stdlib.h>

static const char *sentence_of(enum offence_kind kind)
{
#define SENTENCE(name, word, text) [name] = (text),
	static const char *const sentences[] = {VERDICT_KINDS(SENTENCE)};
#undef SENTENCE

	return kind < OFFENCE_KINDS ? sentences[kind] : "?";
}

/* "nothing received for 20s (port 51234 to 8001; its address holds 22 connections)" */
static struct slice describe(const struct protocol_offence *o, char *buf, size_t size)
{
	char lasted[64];
	int n;

	times_format(o->age_ms / 1000, lasted, sizeof lasted);
	n = snprintf(buf, size, "%s: ", offence_kind_name((enum offence_kind)o->kind));
	/* The sentences are ours: at most one %s in each. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	n += snprintf(buf + n, size - (size_t)n, sentence_of((enum offence_kind)o->kind), lasted);
#pragma GCC diagnostic pop
	n += snprintf(buf + n, size - (size_t)n,
		      " (port %u to %u; its address holds %u connection%s)", o->pport, o->lport,
		      o->held, o->held == 1 ? "" : "s");
	return slice_of(buf, (size_t)n);
}

static bool is_sockets_jail(const struct engine *e, uint16_t jail)
{
	return jail < e->conf->njails && e->conf->jails[jail].backend == BACKEND_SOCKETS;
}

void sockets_offence(struct engine *e, const struct protocol_offence *o)
{
	char text[256];

	if (is_sockets_jail(e, o->jail) && o->kind < OFFENCE_KINDS)
		detector_connection(e->detector, o->jail, &o->host, describe(o, text, sizeof text),
				    clock_now());
}

/* Connections that were closed without a ban are kills as well; a watch that is new counts from 0.
 */
static void count_cuts(struct engine *e, const struct protocol_census *c, uint64_t before)
{
	e->resume.head->counters.kills += c->cuts >= before ? c->cuts - before : c->cuts;
}

void sockets_census(struct engine *e, const struct protocol_census *c)
{
	uint32_t at = 0;

	if (!is_sockets_jail(e, c->jail) || c->nports > PROTOCOL_PORTS_MAX)
		return;
	while (at < e->ncensuses &&
	       (e->censuses[at].jail != c->jail || e->censuses[at].netns != c->netns))
		at++;
	count_cuts(e, c, at < e->ncensuses ? e->censuses[at].cuts : 0);
	if (!c->nports && at < e->ncensuses)
		e->censuses[at] = e->censuses[--e->ncensuses];
	else if (c->nports && at < ENGINE_CENSUSES)
		e->censuses[at] = *c;
	if (c->nports && at == e->ncensuses && at < ENGINE_CENSUSES)
		e->ncensuses++;
}

/* --- looking now ------------------------------------------------------------------------------ */

bool sockets_watched(const struct engine *e)
{
	for (uint16_t i = 0; i < e->conf->njails; i++)
		if (is_sockets_jail(e, i))
			return true;
	return false;
}

/* The service says that it has no descriptor left. That names nobody, but it is worth a look. */
void sockets_exhausted(struct engine *e)
{
	int64_t mono_ns = clock_now().mono_ns;
	const struct protocol_ping now = {0};

	if (mono_ns - e->exhausted_ns < CLOCK_SECOND_NS)
		return;
	e->exhausted_ns = mono_ns;
	e->exhausted++;
	channel_send(e->channel, PROTOCOL_LOOK, &now, 1, -1);
}

void sockets_look(void *ctx, void (*done)(void *arg), void *arg)
{
	struct engine *e = ctx;
	struct engine_waiter *w = sockets_watched(e) ? calloc(1, sizeof *w) : NULL;
	const struct protocol_ping p = {e->look_serial + 1};

	if (!w || channel_send(e->channel, PROTOCOL_LOOK, &p, 1, -1) < 0) {
		free(w);
		done(arg);
		return;
	}
	e->look_serial++;
	*w = (struct engine_waiter){e->look_waiters, done, arg};
	e->look_waiters = w;
}

void sockets_looked(struct engine *e, uint64_t serial)
{
	struct engine_waiter *w = e->look_waiters;

	if (serial < e->look_serial)
		return;
	e->look_waiters = NULL;
	while (w) {
		struct engine_waiter *next = w->next;

		w->done(w->arg);
		free(w);
		w = next;
	}
}

/* --- what the kernel saw of an address -------------------------------------------------------- */

void sockets_sight(void *ctx, const struct addr *a,
		   void (*done)(void *arg, const struct control_sighting *sighting), void *arg)
{
	struct engine *e = ctx;
	struct engine_sight *s = calloc(1, sizeof *s);
	const struct protocol_sighting p = {.serial = ++e->sight_serial, .addr = *a};

	if (!s || channel_send(e->channel, PROTOCOL_SEEN, &p, 1, -1) < 0) {
		free(s);
		done(arg, NULL);
		return;
	}
	*s = (struct engine_sight){e->sights, p.serial, done, arg};
	e->sights = s;
}

void sockets_sighted(struct engine *e, const struct protocol_sighting *p)
{
	const struct tally_entry said = tally_of(e->tally, &p->addr, 0, clock_wall_s(clock_now()));
	const struct control_sighting sighting = {.recorded = p->recorded != 0,
						  .seen = p->seen != 0,
						  .connections = p->connections,
						  .age_ms = p->age_ms,
						  .lines = said.lines};
	struct engine_sight **at = &e->sights;

	while (*at && (*at)->serial != p->serial)
		at = &(*at)->next;
	if (*at) {
		struct engine_sight *s = *at;

		*at = s->next;
		s->done(s->arg, &sighting);
		free(s);
	}
}
