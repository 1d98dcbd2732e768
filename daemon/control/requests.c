/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of the control socket: see requests.h.
 *
 * A request that is wrong is answered with "usage" and the offending piece; nothing here ends the
 * engine. Lists go out in pages, one a turn of the loop, so that a million bans stop nobody.
 */
#include "daemon/control/requests.h"
#include "daemon/base/escape.h"
#include "daemon/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE_BANS 500u       /* of a stream; about 2 ms of work */
#define PAGE_LOOKED_AT 5000u /* bans that a page may pass over */
#define PAGE_ADDRS 100u
#define FOR_MAX_S INT64_C(3155760000) /* 100 years, what ban growth is capped to as well */
#define ARGS_MAX 4

struct request {
	struct control_view *view;
	struct control_request *r;
	const char *cmd;
	json_t *args;
	struct now now;
};

/* --- arguments -------------------------------------------------------------------------------- */

enum arg_type { ARG_TEXT, ARG_TEXTS, ARG_SECONDS, ARG_FLAG };

__attribute__((format(printf, 3, 4))) static void fail(struct control_request *r, const char *code,
						       const char *format, ...)
{
	struct error err = {.code = -EINVAL};
	va_list args;

	va_start(args, format);
	vsnprintf(err.text, sizeof err.text, format, args);
	va_end(args);
	control_fail(r, code, &err);
}

static bool is_text(json_t *value)
{
	return json_is_string(value);
}

static bool is_texts(json_t *value)
{
	json_t *item;
	size_t i;

	if (!json_is_array(value) || !json_array_size(value))
		return false;
	json_array_foreach(value, i, item)
		if (!json_is_string(item))
			return false;
	return true;
}

static bool is_seconds(json_t *value)
{
	json_int_t s = json_integer_value(value);

	return json_is_integer(value) && (s == -1 || (s > 0 && s <= FOR_MAX_S));
}

static bool is_flag(json_t *value)
{
	return json_is_boolean(value);
}

static const struct {
	const char *what;
	bool (*is)(json_t *value);
} arg_types[] = {
	[ARG_TEXT] = {"a text", is_text},
	[ARG_TEXTS] = {"a list of texts", is_texts},
	[ARG_SECONDS] = {"a number of seconds up to 100 years, or -1 (for ever)", is_seconds},
	[ARG_FLAG] = {"true or false", is_flag},
};

struct arg {
	const char *name;
	enum arg_type type;
};

static const char *visible(char buf[static 128], const char *text)
{
	return escape_text(buf, 128, slice_str(text));
}

static bool args_fit(const struct request *q, const struct arg *known)
{
	const char *name;
	json_t *value;
	char text[128];

	json_object_foreach(q->args, name, value) {
		size_t i = 0;

		while (i < ARGS_MAX && known[i].name && strcmp(known[i].name, name) != 0)
			i++;
		if (i == ARGS_MAX || !known[i].name) {
			fail(q->r, "usage", "'%s' takes no argument '%s'", q->cmd,
			     visible(text, name));
			return false;
		}
		if (!arg_types[known[i].type].is(value)) {
			fail(q->r, "usage", "argument '%s' of '%s' must be %s", name, q->cmd,
			     arg_types[known[i].type].what);
			return false;
		}
	}
	return true;
}

static const char *text_arg(const struct request *q, const char *name)
{
	return json_string_value(json_object_get(q->args, name));
}

/* Jails that a ban may have without being configured ("hand", "kernel") are found as well. */
static int find_jail(const struct control_view *v, const char *name)
{
	int found = v->jail_find(v->ctx, name);

	for (uint32_t i = BANS_ANY_JAIL; found < 0 && --i >= CONTROL_UNNAMED_JAILS;)
		if (!strcmp(v->jail_name(v->ctx, (uint16_t)i), name))
			found = (int)i;
	return found;
}

/* The argument "jail", else `none`. False: it was answered that there is no such jail. */
static bool jail_arg(const struct request *q, bool configured, const char *code, uint16_t none,
		     uint16_t *ret_jail)
{
	const struct control_view *v = q->view;
	const char *name = text_arg(q, "jail");
	char text[128];
	int found;

	*ret_jail = none;
	if (!name)
		return true;
	found = configured ? v->jail_find(v->ctx, name) : find_jail(v, name);
	if (found < 0) {
		fail(q->r, code, "there is no jail '%s'", visible(text, name));
		return false;
	}
	*ret_jail = (uint16_t)found;
	return true;
}

static bool parse_addr(const struct request *q, const char *text, struct addr *ret_addr)
{
	char shown[128];

	if (addr_parse_net(slice_str(text), ret_addr) == 0)
		return true;
	fail(q->r, "usage", "'%s' is no address or network", visible(shown, text));
	return false;
}

/* --- pieces of answers ------------------------------------------------------------------------ */

static json_t *text_json(const char *s)
{
	return control_text(s, strlen(s));
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *host_json(const struct addr *a)
{
	struct addr host = *a;
	char text[ADDR_STRLEN];

	host.plen = (uint8_t)addr_bits(a);
	return json_string_nocheck(addr_format(&host, text));
}

static json_t *net_json(const struct addr *a)
{
	char text[ADDR_STRLEN];

	return json_string_nocheck(addr_format(a, text));
}

static json_t *ban_json(const struct control_view *v, const struct ban *b)
{
	json_t *o = json_object();
	char reason[256];

	json_object_set_new_nocheck(o, "addr", host_json(&b->addr));
	json_object_set_new_nocheck(o, "prefix", json_integer(b->addr.plen));
	json_object_set_new_nocheck(o, "jail", text_json(v->jail_name(v->ctx, b->jail)));
	json_object_set_new_nocheck(o, "since", json_integer(b->since_wall_s));
	json_object_set_new_nocheck(
		o, "until",
		b->until_wall_s == CLOCK_FOREVER ? json_null() : json_integer(b->until_wall_s));
	json_object_set_new_nocheck(o, "count", json_integer(b->count));
	json_object_set_new_nocheck(o, "killed", json_integer(b->killed));
	json_object_set_new_nocheck(o, "dropped_packets", number(b->dropped_packets));
	json_object_set_new_nocheck(o, "dropped_bytes", number(b->dropped_bytes));
	json_object_set_new_nocheck(o, "source",
				    json_string(bans_source_name((enum ban_source)b->source)));
	json_object_set_new_nocheck(o, "reason",
				    text_json(v->ban_reason(v->ctx, b, reason, sizeof reason)));
	json_object_set_new_nocheck(o, "confirmed", json_boolean(b->confirmed));
	return o;
}

/* Configured jails have the numbers from 0. */
static uint16_t count_jails(const struct control_view *v)
{
	uint16_t n = 0;

	while (n < CONTROL_UNNAMED_JAILS && v->jail_find(v->ctx, v->jail_name(v->ctx, n)) == n)
		n++;
	return n;
}

static void add_ban(const struct control_view *v, json_t *list, const struct addr *a, uint16_t jail)
{
	const struct ban *b = bans_find(v->bans, a, jail);

	if (b)
		json_array_append_new(list, ban_json(v, b));
}

/* The bans of exactly this prefix. */
static void add_prefix(const struct control_view *v, json_t *list, const struct addr *a,
		       uint16_t jail, uint16_t njails)
{
	if (jail != BANS_ANY_JAIL) {
		add_ban(v, list, a, jail);
		return;
	}
	for (uint16_t i = 0; i < njails; i++)
		add_ban(v, list, a, i);
	for (uint16_t i = CONTROL_UNNAMED_JAILS; i < BANS_ANY_JAIL; i++)
		add_ban(v, list, a, i);
}

/* All bans that hold `a`, narrowest first. Returns how many. */
static size_t add_covering(const struct control_view *v, json_t *list, struct addr a, uint16_t jail,
			   uint16_t njails)
{
	size_t before = json_array_size(list);
	const struct ban *b;

	while ((b = bans_covering(v->bans, &a))) {
		struct addr prefix = b->addr;

		add_prefix(v, list, &prefix, jail, njails);
		if (!prefix.plen)
			break;
		a = addr_mask(a, prefix.plen - 1u);
	}
	return json_array_size(list) - before;
}

/* --- banned, status --------------------------------------------------------------------------- */

/* A list that goes out in pages; freed when its request is ended. */
struct listing {
	struct control_view *view;
	struct control_request *r;
	uint16_t jail, njails;
	uint32_t cursor;
	size_t at, naddrs;
	struct addr addrs[]; /* empty: all bans */
};

static void end_listing(struct listing *l)
{
	struct control_request *r = l->r;

	free(l);
	control_end(r);
}

/* True when there is no more. */
static bool page_of_all(struct listing *l, json_t *bans)
{
	for (uint32_t i = 0; i < PAGE_LOOKED_AT && json_array_size(bans) < PAGE_BANS; i++) {
		const struct ban *b = bans_next(l->view->bans, &l->cursor);

		if (!b)
			return true;
		if (l->jail == BANS_ANY_JAIL || l->jail == b->jail)
			json_array_append_new(bans, ban_json(l->view, b));
	}
	return false;
}

static bool page_of_addrs(struct listing *l, json_t *bans, json_t *missing)
{
	size_t stop = l->at + PAGE_ADDRS;

	for (; l->at < l->naddrs && l->at < stop; l->at++)
		if (!add_covering(l->view, bans, l->addrs[l->at], l->jail, l->njails))
			json_array_append_new(missing, net_json(&l->addrs[l->at]));
	return l->at == l->naddrs;
}

static void next_page(void *arg, struct control_request *r)
{
	struct listing *l = arg;
	json_t *bans = json_array(), *missing = l->naddrs ? json_array() : NULL,
	       *page = json_object();
	bool last = l->naddrs ? page_of_addrs(l, bans, missing) : page_of_all(l, bans);

	json_object_set_new(page, "bans", bans);
	if (missing)
		json_object_set_new(page, "missing", missing);
	if (!control_stream(r, page) || last)
		end_listing(l);
}

static void counters_are_fresh(void *arg)
{
	struct listing *l = arg;

	control_pull(l->r, next_page, l);
}

static struct listing *new_listing(const struct request *q, size_t naddrs, uint16_t jail)
{
	struct listing *l = calloc(1, sizeof *l + naddrs * sizeof l->addrs[0]);

	if (!l) {
		fail(q->r, "internal", "out of memory");
		return NULL;
	}
	*l = (struct listing){.view = q->view,
			      .r = q->r,
			      .jail = jail,
			      .naddrs = naddrs,
			      .njails = count_jails(q->view)};
	return l;
}

static void handle_banned(struct request *q)
{
	json_t *addrs = json_object_get(q->args, "addrs"), *item;
	struct listing *l;
	bool found = !addrs;
	uint16_t jail;
	size_t i;

	if (!jail_arg(q, false, "not_found", BANS_ANY_JAIL, &jail))
		return;
	l = new_listing(q, json_array_size(addrs), jail);
	if (!l)
		return;
	json_array_foreach(addrs, i, item) {
		if (!parse_addr(q, json_string_value(item), &l->addrs[i])) {
			free(l);
			return;
		}
		found = found || bans_covering(q->view->bans, &l->addrs[i]);
	}
	/* Nothing to count: the kernel need not be asked. */
	if (found)
		q->view->refresh_counters(q->view->ctx, counters_are_fresh, l);
	else
		counters_are_fresh(l);
}

static void say_status(void *arg)
{
	struct listing *l = arg;
	struct control_view *v = l->view;
	json_t *head;

	if (l->jail == BANS_ANY_JAIL) {
		control_reply(l->r, v->status(v->ctx, clock_now()));
		free(l);
		return;
	}
	head = json_object();
	json_object_set_new(head, "status", v->jail_status(v->ctx, l->jail, clock_now()));
	if (!control_stream(l->r, head))
		end_listing(l);
	else
		v->refresh_counters(v->ctx, counters_are_fresh, l);
}

static void handle_status(struct request *q)
{
	struct control_view *v = q->view;
	struct listing *l;
	uint16_t jail;

	if (!jail_arg(q, true, "not_found", BANS_ANY_JAIL, &jail))
		return;
	l = new_listing(q, 0, jail);
	if (!l)
		return;
	if (v->look)
		v->look(v->ctx, say_status, l);
	else
		say_status(l);
}

/* --- ban, unban ------------------------------------------------------------------------------- */

static const char *result_word(int result)
{
	switch (result) {
	case 0:
		return "ok";
	case ERROR_REFUSED:
		return "refused";
	case -ENOENT:
		return "not_banned";
	default:
		return "error";
	}
}

static json_t *results_json(const struct control_result *results, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "addr",
						      net_json(&results[i].addr), "result",
						      result_word(results[i].result), "text",
						      text_json(results[i].text)));
	return list;
}

/* What was asked, and how many bans there were. */
struct order {
	struct control_request *r;
	struct control_view *view;
	uint32_t before;
};

static void ban_done(void *arg, const struct control_result *results, size_t n)
{
	struct control_request *r = arg;

	control_reply(r, n ? results_json(results, n) : NULL);
}

static void unban_done(void *arg, const struct control_result *results, size_t n)
{
	struct order *order = arg;
	uint32_t left = bans_count(order->view->bans);
	uint32_t removed = order->before > left ? order->before - left : 0;
	json_t *data = NULL;

	if (n)
		data = json_pack("{s:o, s:i}", "results", results_json(results, n), "removed",
				 (int)removed);
	control_reply(order->r, data);
	free(order);
}

/* The addresses with what is common to them, or NULL when it is answered why not. */
static struct control_ban *parse_items(const struct request *q, json_t *addrs,
				       const struct control_ban *common)
{
	struct control_ban *items = calloc(json_array_size(addrs), sizeof *items);
	json_t *item;
	size_t i;

	if (!items) {
		fail(q->r, "internal", "out of memory");
		return NULL;
	}
	json_array_foreach(addrs, i, item) {
		const char *text = json_string_value(item);

		items[i] = *common;
		if (!parse_addr(q, text, &items[i].addr)) {
			free(items);
			return NULL;
		}
		items[i].exact = strchr(text, '/') != NULL;
	}
	return items;
}

static void handle_ban(struct request *q)
{
	struct control_ban common = {.jail = CONTROL_NO_JAIL}, *items;
	json_t *addrs = json_object_get(q->args, "addrs");
	json_int_t seconds = json_integer_value(json_object_get(q->args, "for"));
	const char *reason = text_arg(q, "reason");

	if (!addrs) {
		fail(q->r, "usage", "whom? argument 'addrs' is missing");
		return;
	}
	if (!jail_arg(q, true, "usage", CONTROL_NO_JAIL, &common.jail))
		return;
	if (reason && strlen(reason) >= sizeof common.reason) {
		fail(q->r, "usage", "the reason is longer than %zu bytes",
		     sizeof common.reason - 1);
		return;
	}
	common.duration_s = seconds < 0 ? CLOCK_FOREVER : seconds;
	snprintf(common.reason, sizeof common.reason, "%s", reason ? reason : "");
	items = parse_items(q, addrs, &common);
	if (!items)
		return;
	q->view->ban(q->view->ctx, items, json_array_size(addrs), ban_done, q->r);
	free(items);
}

static void send_unban(const struct request *q, const struct control_ban *items, size_t n)
{
	struct order *order = calloc(1, sizeof *order);

	if (!order) {
		fail(q->r, "internal", "out of memory");
		return;
	}
	*order = (struct order){q->r, q->view, bans_count(q->view->bans)};
	q->view->unban(q->view->ctx, items, n, unban_done, order);
}

static void handle_unban(struct request *q)
{
	struct control_ban common = {0}, *items;
	json_t *addrs = json_object_get(q->args, "addrs");
	bool all = json_is_true(json_object_get(q->args, "all"));

	if (all == (addrs != NULL)) {
		fail(q->r, "usage", "whom? either addresses or all");
		return;
	}
	if (!jail_arg(q, false, "not_found", CONTROL_NO_JAIL, &common.jail))
		return;
	if (all) {
		struct control_ban everybody[2] = {common, common};

		everybody[0].addr.family = ADDR_IPV4;
		everybody[1].addr.family = ADDR_IPV6;
		everybody[0].exact = everybody[1].exact = true;
		send_unban(q, everybody, 2);
		return;
	}
	items = parse_items(q, addrs, &common);
	if (!items)
		return;
	send_unban(q, items, json_array_size(addrs));
	free(items);
}

/* --- why -------------------------------------------------------------------------------------- */

static const char *const text_key[EVIDENCE_NVERDICTS] = {
#define TEXT_KEY(name, word, line) [name] = (line) ? "line" : "text",
	EVIDENCE_VERDICTS(TEXT_KEY)
#undef TEXT_KEY
};

static json_t *base64(const char *bytes, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)bytes;
	char out[(EVIDENCE_TEXT_BYTES + 2) / 3 * 4];
	size_t at = 0;

	for (size_t i = 0; i < n && at < sizeof out; i += 3) {
		uint32_t three = (uint32_t)p[i] << 16;

		three |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
		three |= i + 2 < n ? p[i + 2] : 0;
		out[at++] = digits[three >> 18];
		out[at++] = digits[three >> 12 & 63];
		out[at++] = i + 1 < n ? digits[three >> 6 & 63] : '=';
		out[at++] = i + 2 < n ? digits[three & 63] : '=';
	}
	return json_stringn_nocheck(out, at);
}

static void add_text(json_t *o, const struct evidence_record *r)
{
	char utf8[EVIDENCE_TEXT_BYTES * 3 + 1];
	const char *key = text_key[r->verdict];
	struct slice text = slice_of(r->text, r->text_n);
	size_t n;

	if (!r->text_n && strcmp(key, "line") != 0)
		return;
	if (!escape_utf8(utf8, sizeof utf8, text, &n) && !strcmp(key, "line"))
		json_object_set_new(o, "line_b64", base64(r->text, r->text_n));
	json_object_set_new(o, key, json_stringn_nocheck(utf8, n));
	if (r->cut)
		json_object_set_new(o, "cut", json_true());
}

/* What `value` means depends on the verdict. */
static void add_value(json_t *o, const struct evidence_record *r)
{
	switch (r->verdict) {
	case EVIDENCE_BANNED:
	case EVIDENCE_EXTENDED:
		json_object_set_new(o, "duration",
				    r->value < 0 ? json_null() : json_integer(r->value));
		break;
	case EVIDENCE_KILLED:
		json_object_set_new(o, "sockets", json_integer(r->value));
		break;
	case EVIDENCE_OFFENCE:
		json_object_set_new(o, "count", json_integer(r->value));
		break;
	}
}

struct story {
	const struct control_view *view;
	json_t *history;
};

static bool tell(void *ctx, const struct evidence_record *r)
{
	const struct story *story = ctx;
	const struct control_view *v = story->view;
	json_t *o = json_object();

	json_object_set_new(o, "time", json_integer(r->time_s));
	json_object_set_new(o, "verdict",
			    json_string(evidence_verdict_name((enum evidence_verdict)r->verdict)));
	json_object_set_new(o, "addr", net_json(&r->addr));
	json_object_set_new(o, "jail", text_json(v->jail_name(v->ctx, r->jail)));
	json_object_set_new(o, "filter", text_json(v->rule_name(v->ctx, r->jail, r->rule)));
	if (r->file != EVIDENCE_NO_FILE) {
		json_object_set_new(o, "file", text_json(v->file_name(v->ctx, r->file)));
		json_object_set_new(o, "offset", number(r->offset));
	}
	add_value(o, r);
	add_text(o, r);
	json_array_append_new(story->history, o);
	return true;
}

/* The first entry that speaks against a ban, by the lists for all and then by those of each jail.
 */
static json_t *ignored_json(const struct request *q, const struct addr *a, uint16_t njails)
{
	const struct control_view *v = q->view;
	struct ignore_hit hit;
	char text[IGNORE_TEXT_BYTES];
	uint16_t jail = 0;
	json_t *o;

	if (!ignore_check(v->ignore, a, IGNORE_ALL_JAILS, false, q->now.mono_ns, &hit)) {
		while (jail < njails &&
		       !ignore_check(v->ignore, a, jail, false, q->now.mono_ns, &hit))
			jail++;
		if (jail == njails)
			return json_null();
	}
	o = json_pack("{s:s, s:o}", "reason", ignore_reason_name(hit.reason), "text",
		      text_json(ignore_format(&hit, q->now.mono_ns, text)));
	if (hit.jail != IGNORE_ALL_JAILS)
		json_object_set_new(o, "jail", text_json(v->jail_name(v->ctx, (uint16_t)hit.jail)));
	return o;
}

struct telling {
	struct request q; /* args are not valid any more */
	struct addr a;
};

static json_t *witness_json(const struct control_sighting *s)
{
	if (!s || !s->recorded)
		return json_string("no record");
	return json_pack("{s:b, s:I, s:o, s:I}", "seen", (int)s->seen, "connections",
			 (json_int_t)s->connections, "last_s_ago",
			 s->seen ? json_integer(s->age_ms / 1000) : json_null(), "lines",
			 (json_int_t)s->lines);
}

static void say_why(void *arg, const struct control_sighting *sighting)
{
	struct telling *t = arg;
	const struct control_view *v = t->q.view;
	struct story story = {.view = v, .history = json_array()};
	uint16_t njails = count_jails(v);
	json_t *o = json_object(), *bans = json_array();

	add_covering(v, bans, t->a, BANS_ANY_JAIL, njails);
	evidence_walk(v->evidence, &t->a, tell, &story);
	json_object_set_new(o, "addr", net_json(&t->a));
	json_object_set_new(o, "banned", bans);
	json_object_set_new(o, "ignored", ignored_json(&t->q, &t->a, njails));
	json_object_set_new(o, "history", story.history);
	json_object_set_new(o, "witness", witness_json(sighting));
	control_reply(t->q.r, o);
	free(t);
}

static void handle_why(struct request *q)
{
	const char *text = text_arg(q, "addr");
	struct telling *t;
	struct addr a;

	if (!text)
		fail(q->r, "usage", "whose story? argument 'addr' is missing");
	if (!text || !parse_addr(q, text, &a))
		return;
	t = calloc(1, sizeof *t);
	if (!t) {
		fail(q->r, "internal", "out of memory");
		return;
	}
	*t = (struct telling){*q, a};
	if (q->view->sight)
		q->view->sight(q->view->ctx, &a, say_why, t);
	else
		say_why(t, NULL);
}

/* --- reload ----------------------------------------------------------------------------------- */

struct reloading {
	struct control_request *r;
	struct control_view *view;
	char jail[]; /* must be there afterwards; empty: none was named */
};

static void reload_done(void *arg, const struct error *err)
{
	struct reloading *l = arg;
	char text[128];

	if (err)
		control_fail(l->r, err->code == ERROR_CONFIG ? "config" : "refused", err);
	else if (l->jail[0] && l->view->jail_find(l->view->ctx, l->jail) < 0)
		fail(l->r, "not_found",
		     "the configuration is loaded, but there is no enabled jail '%s'",
		     visible(text, l->jail));
	else
		control_reply(l->r, json_true());
	free(l);
}

static void handle_reload(struct request *q)
{
	const char *jail = text_arg(q, "jail");
	size_t n = jail ? strlen(jail) : 0;
	struct reloading *l = calloc(1, sizeof *l + n + 1);

	if (!l) {
		fail(q->r, "internal", "out of memory");
		return;
	}
	l->r = q->r;
	l->view = q->view;
	if (n)
		memcpy(l->jail, jail, n);
	q->view->reload(q->view->ctx, reload_done, l);
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct command {
	const char *name;
	void (*handle)(struct request *q);
	bool changes; /* who asked goes into the log */
	struct arg args[ARGS_MAX];
} commands[] = {
	{"status", handle_status, false, {{"jail", ARG_TEXT}}},
	{"banned", handle_banned, false, {{"jail", ARG_TEXT}, {"addrs", ARG_TEXTS}}},
	{"ban",
	 handle_ban,
	 true,
	 {{"addrs", ARG_TEXTS}, {"jail", ARG_TEXT}, {"for", ARG_SECONDS}, {"reason", ARG_TEXT}}},
	{"unban",
	 handle_unban,
	 true,
	 {{"addrs", ARG_TEXTS}, {"all", ARG_FLAG}, {"jail", ARG_TEXT}}},
	{"why", handle_why, false, {{"addr", ARG_TEXT}}},
	{"reload", handle_reload, true, {{"jail", ARG_TEXT}}},
};

void requests_handle(void *view, struct control_request *r, const char *cmd, json_t *args,
		     const struct control_peer *peer)
{
	struct request q = {.view = view, .r = r, .args = args, .now = clock_now()};
	char text[128];

	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		if (strcmp(commands[i].name, cmd) != 0)
			continue;
		q.cmd = commands[i].name;
		if (!args_fit(&q, commands[i].args))
			return;
		if (commands[i].changes)
			log_info("control", "%s, asked by uid %u pid %d", q.cmd, peer->uid,
				 peer->pid);
		commands[i].handle(&q);
		return;
	}
	fail(r, "usage", "there is no command '%s'", visible(text, cmd));
}
