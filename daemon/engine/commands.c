/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command actions of a ban: collects the values and sends them to the runner, by way of the
 * enforcer.
 *
 * Never on the ban's way: what does not fit the channel or the runner's queue is dropped there and
 * counted. A value that is too long is cut.
 */
#include "daemon/engine/state.h"

#include <stdio.h>

struct matches {
	char text[RUNNER_VALUE_BYTES];
	size_t n;
};

struct values {
	struct runner_value list[RUNNER_KEYS];
	size_t n;
	char numbers[8][24];
	size_t nnumbers;
};

static bool add_match(void *ctx, const struct evidence_record *r)
{
	struct matches *m = ctx;

	if (r->verdict != EVIDENCE_OFFENCE)
		return true;
	if (m->n + r->text_n + 1 > sizeof m->text)
		return false;
	memcpy(m->text + m->n, r->text, r->text_n);
	m->n += r->text_n;
	m->text[m->n++] = '\n';
	return true;
}

static void put(struct values *v, enum runner_key key, struct slice text)
{
	v->list[v->n++] = (struct runner_value){key, slice_head(text, RUNNER_VALUE_BYTES)};
}

static void put_number(struct values *v, enum runner_key key, int64_t number)
{
	char *text = v->numbers[v->nnumbers++];

	snprintf(text, sizeof v->numbers[0], "%lld", (long long)number);
	put(v, key, slice_str(text));
}

static void put_ban(struct engine *e, struct values *v, const struct ban *b)
{
	const struct jail_conf *j = &e->conf->jails[b->jail];
	bool forever = b->until_wall_s == CLOCK_FOREVER;

	put(v, RUNNER_FAMILY, b->addr.family == ADDR_IPV4 ? SLICE("inet4") : SLICE("inet6"));
	put(v, RUNNER_JAIL, slice_str(j->name));
	if (b->rule < j->nrules)
		put(v, RUNNER_FILTER, slice_str(j->rules[b->rule].filter.name));
	put_number(v, RUNNER_PREFIX, b->addr.plen);
	put_number(v, RUNNER_TIME, b->since_wall_s);
	put_number(v, RUNNER_BANTIME, forever ? -1 : b->until_wall_s - b->since_wall_s);
	put_number(v, RUNNER_UNTIL, forever ? -1 : b->until_wall_s);
	put_number(v, RUNNER_FAILURES, b->offences);
	put_number(v, RUNNER_COUNT, (int64_t)b->count + 1);
	put_number(v, RUNNER_BANCOUNT, (int64_t)b->count + 1);
	put(v, RUNNER_RESTORED, b->source == BAN_KERNEL ? SLICE("1") : SLICE("0"));
}

static void send_command(struct engine *e, uint16_t jail, uint16_t action, enum runner_event event,
			 const struct values *v)
{
	static char message[PROTOCOL_VALUES_MAX]; /* too large for the stack, needed once a ban */
	const struct protocol_run run = {jail, action, (uint16_t)event, (uint16_t)v->n};
	ssize_t n = runner_values_pack(v->list, v->n, message + sizeof run,
				       sizeof message - sizeof run);

	if (n < 0)
		return;
	memcpy(message, &run, sizeof run);
	channel_send(e->channel, PROTOCOL_RUN, message, (uint32_t)((size_t)n + sizeof run), -1);
}

void commands_run(struct engine *e, const struct ban *b, enum runner_event event)
{
	char addr[ADDR_STRLEN], reason[256];
	struct values v = {.n = 0};
	struct matches matches = {.n = 0};
	const struct jail_conf *j;

	if (b->jail >= e->conf->njails)
		return;
	j = &e->conf->jails[b->jail];
	for (size_t i = 0; i < j->nactions; i++) {
		if (j->actions[i].kind != ACTION_COMMAND || j->actions[i].only_exhaustion)
			continue;
		if (!v.n) {
			put(&v, RUNNER_ADDR, slice_str(addr_format(&b->addr, addr)));
			put(&v, RUNNER_REASON,
			    slice_str(banlist_reason(e, b, reason, sizeof reason)));
			put_ban(e, &v, b);
			evidence_walk(e->evidence, &b->addr, add_match, &matches);
			put(&v, RUNNER_MATCHES, slice_of(matches.text, matches.n));
		}
		send_command(e, b->jail, (uint16_t)i, event, &v);
	}
}
