/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of the control socket over a jail room without an engine: forms, refusals, pages. */
#include "tests/unit/control_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "daemon/control/requests.h"

#define HAND 0xfffeu
#define ITEMS_MAX 16

struct scene {
	struct harness h;
	struct control_view view;
	struct bans *bans;
	struct evidence *evidence;
	struct ignore *ignore;
	int fd;
	unsigned refreshed;
	void (*refresh_done)(void *arg); /* set: refreshing waits */
	void *refresh_arg;
	bool hold_refresh;
	struct control_ban items[ITEMS_MAX];
	size_t nitems;
	bool out_of_memory;
	struct error reload_error;
};

/* --- the view --------------------------------------------------------------------------------- */

static const char *const jails[] = {"flask", "nginx"};

static const char *jail_name(void *ctx, uint16_t jail)
{
	(void)ctx;
	return jail < 2 ? jails[jail] : jail == HAND ? "hand" : "kernel";
}

static int jail_find(void *ctx, const char *name)
{
	(void)ctx;
	for (int i = 0; i < 2; i++)
		if (!strcmp(jails[i], name))
			return i;
	return -ENOENT;
}

static const char *ban_reason(void *ctx, const struct ban *b, char *buf, size_t size)
{
	(void)ctx;
	snprintf(buf, size, "%s", b->reason ? b->reason : "rule: 2 offences in 10m");
	return buf;
}

static const char *rule_name(void *ctx, uint16_t jail, uint32_t rule)
{
	(void)ctx;
	return jail < 2 && rule == 0 ? "werkzeug" : "";
}

static const char *file_name(void *ctx, uint32_t file)
{
	(void)ctx;
	return file == 0 ? "/var/log/flask.log" : "";
}

static json_t *status(void *ctx, struct now now)
{
	struct scene *s = ctx;

	(void)now;
	return json_pack("{s:i}", "bans", (int)bans_count(s->bans));
}

static json_t *jail_status(void *ctx, uint16_t jail, struct now now)
{
	(void)now;
	return json_pack("{s:s}", "jail", jail_name(ctx, jail));
}

static void refresh_counters(void *ctx, void (*done)(void *arg), void *arg)
{
	struct scene *s = ctx;

	s->refreshed++;
	if (!s->hold_refresh) {
		done(arg);
		return;
	}
	s->refresh_done = done;
	s->refresh_arg = arg;
}

static void answer_items(struct scene *s, const struct control_ban *items, size_t n, int absent,
			 void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	struct control_result results[ITEMS_MAX] = {0};
	struct ignore_hit hit;

	if (s->out_of_memory) {
		done(arg, NULL, 0);
		return;
	}
	assert_true(n <= ITEMS_MAX);
	memcpy(s->items, items, n * sizeof items[0]);
	s->nitems = n;
	for (size_t i = 0; i < n; i++) {
		results[i].addr = items[i].addr;
		if (absent && !bans_remove(s->bans, &items[i].addr, BANS_ANY_JAIL))
			results[i].result = absent;
		if (!absent &&
		    ignore_check(s->ignore, &items[i].addr, IGNORE_ALL_JAILS, false, 0, &hit)) {
			results[i].result = ERROR_REFUSED;
			ignore_format(&hit, 0, results[i].text);
		}
	}
	done(arg, results, n);
}

static void ban(void *ctx, const struct control_ban *items, size_t n,
		void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	answer_items(ctx, items, n, 0, done, arg);
}

static void unban(void *ctx, const struct control_ban *items, size_t n,
		  void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	answer_items(ctx, items, n, -ENOENT, done, arg);
}

static void reload(void *ctx, void (*done)(void *arg, const struct error *err), void *arg)
{
	struct scene *s = ctx;

	done(arg, s->reload_error.code ? &s->reload_error : NULL);
}

/* --- scene ------------------------------------------------------------------------------------ */

static struct addr parse(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_net(slice_str(text), &a), 0);
	return a;
}

static void add_ban(struct scene *s, const char *addr, uint16_t jail, int64_t until_s,
		    const char *reason)
{
	const struct ban b = {.addr = parse(addr),
			      .jail = jail,
			      .source = jail == HAND ? BAN_HAND : BAN_LOG,
			      .since_wall_s = 1000,
			      .until_wall_s = until_s,
			      .end_mono_ns = until_s,
			      .count = 3,
			      .killed = 4,
			      .dropped_packets = 5,
			      .dropped_bytes = 6,
			      .reason = reason};

	assert_int_equal(bans_add(s->bans, &b, NULL), BANS_ADDED);
}

static int set_up(void **state)
{
	struct scene *s = calloc(1, sizeof *s);
	struct netlist nets = {0};
	struct addr own = {0};

	if (!s)
		return -1;
	s->bans = bans_new(100000);
	s->evidence = evidence_new(100, 0);
	s->ignore = ignore_new();
	own = parse("192.0.2.1");
	netlist_add(&nets, &own);
	netlist_seal(&nets);
	ignore_replace(s->ignore, IGNORE_IP, 1, &nets);
	netlist_free(&nets);
	s->view = (struct control_view){.ctx = s,
					.bans = s->bans,
					.evidence = s->evidence,
					.ignore = s->ignore,
					.jail_name = jail_name,
					.jail_find = jail_find,
					.ban_reason = ban_reason,
					.rule_name = rule_name,
					.file_name = file_name,
					.status = status,
					.jail_status = jail_status,
					.refresh_counters = refresh_counters,
					.ban = ban,
					.unban = unban,
					.reload = reload};
	harness_open(&s->h, requests_handle, &s->view);
	s->fd = harness_connect(&s->h);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *s = *state;

	close(s->fd);
	harness_close(&s->h);
	bans_free(s->bans);
	evidence_free(s->evidence);
	ignore_free(s->ignore);
	free(s);
	return 0;
}

/* cmd and args as JSON text. */
static json_t *ask(struct scene *s, const char *cmd, const char *args)
{
	char line[4096];

	snprintf(line, sizeof line, "{\"v\":1,\"cmd\":\"%s\",\"args\":%s}", cmd, args);
	harness_say(&s->h, s->fd, line);
	return harness_hear_json(&s->h, s->fd);
}

static json_t *ask_data(struct scene *s, const char *cmd, const char *args)
{
	json_t *o = ask(s, cmd, args), *data = json_incref(json_object_get(o, "data"));

	assert_true(json_is_true(json_object_get(o, "ok")));
	json_decref(o);
	return data;
}

static void expect_failure(struct scene *s, const char *cmd, const char *args, const char *code,
			   const char *piece)
{
	json_t *o = ask(s, cmd, args);
	const char *text = json_string_value(json_object_get(o, "text"));

	assert_true(json_is_false(json_object_get(o, "ok")));
	assert_string_equal(json_string_value(json_object_get(o, "code")), code);
	assert_non_null(text);
	if (!strstr(text, piece))
		fail_msg("'%s' is not in '%s'", piece, text);
	json_decref(o);
}

static const char *text_of(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int64_t number_of(json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* All pages of a list together; what else they hold is put into *ret_rest. */
static json_t *pages(struct scene *s, const char *cmd, const char *args, json_t **ret_rest)
{
	json_t *all = json_array(), *rest = json_object(), *o = ask(s, cmd, args);

	while (!json_object_get(o, "end")) {
		json_t *data = json_object_get(o, "data");

		assert_true(json_is_true(json_object_get(o, "ok")));
		json_array_extend(all, json_object_get(data, "bans"));
		json_object_update(rest, data);
		json_decref(o);
		o = harness_hear_json(&s->h, s->fd);
	}
	json_decref(o);
	if (ret_rest)
		*ret_rest = rest;
	else
		json_decref(rest);
	return all;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_usage(void **state)
{
	static const struct {
		const char *cmd, *args, *piece;
	} cases[] = {
		{"nosuch", "{}", "'nosuch'"},
		{"\\u001b[2J", "{}", "\\x1b[2J"},
		{"", "{}", "''"},
		{"status", "{\"jial\":\"flask\"}", "'jial'"},
		{"status", "{\"jail\":7}", "a text"},
		{"banned", "{\"addrs\":\"1.2.3.4\"}", "a list"},
		{"banned", "{\"addrs\":[]}", "a list"},
		{"banned", "{\"addrs\":[1]}", "a list"},
		{"banned", "{\"addrs\":[\"1.2.3.4\",\"1.2.3\"]}", "'1.2.3'"},
		{"ban", "{}", "addrs"},
		{"ban", "{\"addrs\":[\"300.1.1.1\"]}", "300.1.1.1"},
		{"ban", "{\"addrs\":[\"\"]}", "''"},
		{"ban", "{\"addrs\":[\"\\u001b]0;x\"]}", "\\x1b]0;x"},
		{"ban", "{\"addrs\":[\"1.2.3.4\"],\"for\":0}", "seconds"},
		{"ban", "{\"addrs\":[\"1.2.3.4\"],\"for\":-2}", "seconds"},
		{"ban", "{\"addrs\":[\"1.2.3.4\"],\"for\":1.5}", "seconds"},
		{"ban", "{\"addrs\":[\"1.2.3.4\"],\"for\":\"1h\"}", "seconds"},
		{"ban", "{\"addrs\":[\"1.2.3.4\"],\"for\":9223372036854775807}", "seconds"},
		{"ban", "{\"addrs\":[\"1.2.3.4\"],\"jail\":\"nosuch\"}", "'nosuch'"},
		{"ban", "{\"addrs\":[\"1.2.3.4\"],\"jail\":\"hand\"}", "'hand'"},
		{"unban", "{}", "whom"},
		{"unban", "{\"all\":true,\"addrs\":[\"1.2.3.4\"]}", "whom"},
		{"unban", "{\"all\":false}", "whom"},
		{"unban", "{\"all\":1}", "true or false"},
		{"why", "{}", "addr"},
		{"why", "{\"addr\":\"x\"}", "'x'"},
		{"reload", "{\"all\":true}", "'all'"},
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		expect_failure(s, cases[i].cmd, cases[i].args, "usage", cases[i].piece);
	assert_int_equal(s->nitems, 0);
}

static void test_status(void **state)
{
	struct scene *s = *state;
	json_t *o = ask_data(s, "status", "{}"), *bans, *rest;

	assert_int_equal(number_of(o, "bans"), 0);
	json_decref(o);
	expect_failure(s, "status", "{\"jail\":\"nosuch\"}", "not_found", "'nosuch'");
	add_ban(s, "198.51.100.1", 0, 5000, NULL);
	add_ban(s, "198.51.100.2", 1, 5000, NULL);
	bans = pages(s, "status", "{\"jail\":\"nginx\"}", &rest);
	assert_int_equal(json_array_size(bans), 1);
	assert_string_equal(text_of(json_array_get(bans, 0), "addr"), "198.51.100.2");
	assert_string_equal(text_of(json_object_get(rest, "status"), "jail"), "nginx");
	json_decref(bans);
	json_decref(rest);
}

static void test_banned_form(void **state)
{
	struct scene *s = *state;
	json_t *bans, *b;

	add_ban(s, "2001:db8:1:2::/64", HAND, CLOCK_FOREVER, "spam \xff by hand");
	bans = pages(s, "banned", "{}", NULL);
	assert_int_equal(json_array_size(bans), 1);
	assert_int_equal(s->refreshed, 1);
	b = json_array_get(bans, 0);
	assert_string_equal(text_of(b, "addr"), "2001:db8:1:2::");
	assert_int_equal(number_of(b, "prefix"), 64);
	assert_string_equal(text_of(b, "jail"), "hand");
	assert_int_equal(number_of(b, "since"), 1000);
	assert_true(json_is_null(json_object_get(b, "until")));
	assert_int_equal(number_of(b, "count"), 3);
	assert_int_equal(number_of(b, "killed"), 4);
	assert_int_equal(number_of(b, "dropped_packets"), 5);
	assert_int_equal(number_of(b, "dropped_bytes"), 6);
	assert_string_equal(text_of(b, "source"), "hand");
	assert_string_equal(text_of(b, "reason"), "spam \xef\xbf\xbd by hand");
	assert_true(json_is_false(json_object_get(b, "confirmed")));
	json_decref(bans);
}

static void test_banned_selection(void **state)
{
	struct scene *s = *state;
	json_t *bans, *rest;

	add_ban(s, "198.51.100.1", 0, 5000, NULL);
	add_ban(s, "198.51.100.1", 1, 6000, NULL);
	add_ban(s, "198.51.100.1", HAND, 5500, NULL);
	add_ban(s, "198.51.100.0/24", 0, 5000, NULL);
	bans = pages(s, "banned", "{\"jail\":\"flask\"}", NULL);
	assert_int_equal(json_array_size(bans), 2);
	json_decref(bans);
	bans = pages(s, "banned", "{\"jail\":\"hand\"}", NULL);
	assert_int_equal(json_array_size(bans), 1);
	json_decref(bans);
	expect_failure(s, "banned", "{\"jail\":\"nosuch\"}", "not_found", "'nosuch'");
	/* Every ban that holds the address, narrowest first. */
	bans = pages(s, "banned", "{\"addrs\":[\"198.51.100.1\",\"198.51.100.2\",\"203.0.113.1\"]}",
		     &rest);
	assert_int_equal(json_array_size(bans), 5);
	assert_int_equal(number_of(json_array_get(bans, 3), "prefix"), 24);
	assert_int_equal(json_array_size(json_object_get(rest, "missing")), 1);
	assert_string_equal(json_string_value(json_array_get(json_object_get(rest, "missing"), 0)),
			    "203.0.113.1");
	json_decref(bans);
	json_decref(rest);
	bans = pages(s, "banned", "{\"jail\":\"nginx\",\"addrs\":[\"198.51.100.2\"]}", &rest);
	assert_int_equal(json_array_size(bans), 0);
	assert_int_equal(json_array_size(json_object_get(rest, "missing")), 1);
	json_decref(bans);
	json_decref(rest);
	s->refreshed = 0;
	json_decref(pages(s, "banned", "{\"addrs\":[\"203.0.113.1\"]}", NULL));
	assert_int_equal(s->refreshed, 0);
}

static void test_banned_pages(void **state)
{
	struct scene *s = *state;
	json_t *bans;

	for (unsigned i = 0; i < 20000; i++) {
		char addr[32];

		snprintf(addr, sizeof addr, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		add_ban(s, addr, i % 2, 5000, NULL);
	}
	bans = pages(s, "banned", "{}", NULL);
	assert_int_equal(json_array_size(bans), 20000);
	json_decref(bans);
	bans = pages(s, "banned", "{\"jail\":\"nginx\"}", NULL);
	assert_int_equal(json_array_size(bans), 10000);
	json_decref(bans);
}

/* The client goes while the kernel is asked, or in the middle of the pages. */
static void test_banned_gone(void **state)
{
	struct scene *s = *state;

	add_ban(s, "198.51.100.1", 0, 5000, NULL);
	s->hold_refresh = true;
	harness_say(&s->h, s->fd, "{\"v\":1,\"cmd\":\"banned\"}");
	harness_turn(&s->h, 5);
	assert_non_null(s->refresh_done);
	close(s->fd);
	s->refresh_done(s->refresh_arg);
	harness_turn(&s->h, 5);
	s->fd = harness_connect(&s->h);
	json_decref(ask_data(s, "status", "{}"));
}

static void test_ban(void **state)
{
	struct scene *s = *state;
	json_t *results = ask_data(
		s, "ban",
		"{\"addrs\":[\"198.51.100.7\",\"127.0.0.1\",\"2001:db8::1\","
		"\"2001:db8::1/128\"],\"jail\":\"nginx\",\"for\":600,\"reason\":\"spam\"}");

	assert_int_equal(json_array_size(results), 4);
	assert_string_equal(text_of(json_array_get(results, 0), "addr"), "198.51.100.7");
	assert_string_equal(text_of(json_array_get(results, 0), "result"), "ok");
	assert_string_equal(text_of(json_array_get(results, 1), "result"), "refused");
	assert_non_null(strstr(text_of(json_array_get(results, 1), "text"), "loopback"));
	json_decref(results);
	assert_int_equal(s->nitems, 4);
	assert_int_equal(s->items[0].jail, 1);
	assert_int_equal(s->items[0].duration_s, 600);
	assert_string_equal(s->items[0].reason, "spam");
	assert_false(s->items[2].exact);
	assert_true(s->items[3].exact);
	json_decref(ask_data(s, "ban", "{\"addrs\":[\"198.51.100.7\"],\"for\":-1}"));
	assert_int_equal(s->items[0].jail, CONTROL_NO_JAIL);
	assert_true(s->items[0].duration_s == CLOCK_FOREVER);
	json_decref(ask_data(s, "ban", "{\"addrs\":[\"198.51.100.7\"]}"));
	assert_int_equal(s->items[0].duration_s, 0);
	assert_string_equal(s->items[0].reason, "");
	s->out_of_memory = true;
	expect_failure(s, "ban", "{\"addrs\":[\"198.51.100.7\"]}", "internal", "memory");
}

static void test_long_reason(void **state)
{
	struct scene *s = *state;
	char args[400], reason[250];

	memset(reason, 'r', sizeof reason - 1);
	reason[200] = 0;
	snprintf(args, sizeof args, "{\"addrs\":[\"198.51.100.7\"],\"reason\":\"%s\"}", reason);
	expect_failure(s, "ban", args, "usage", "199 bytes");
	reason[199] = 0;
	snprintf(args, sizeof args, "{\"addrs\":[\"198.51.100.7\"],\"reason\":\"%s\"}", reason);
	json_decref(ask_data(s, "ban", args));
	assert_string_equal(s->items[0].reason, reason);
}

static void test_unban(void **state)
{
	struct scene *s = *state;
	json_t *o, *results;

	add_ban(s, "198.51.100.1", 0, 5000, NULL);
	o = ask_data(s, "unban", "{\"addrs\":[\"198.51.100.1\",\"198.51.100.2\"]}");
	results = json_object_get(o, "results");
	assert_int_equal(number_of(o, "removed"), 1);
	assert_string_equal(text_of(json_array_get(results, 0), "result"), "ok");
	assert_string_equal(text_of(json_array_get(results, 1), "result"), "not_banned");
	json_decref(o);
	json_decref(ask_data(s, "unban", "{\"all\":true,\"jail\":\"hand\"}"));
	assert_int_equal(s->nitems, 2);
	assert_int_equal(s->items[0].addr.plen + s->items[1].addr.plen, 0);
	assert_true(s->items[0].addr.family != s->items[1].addr.family);
	assert_int_equal(s->items[0].jail, HAND);
	expect_failure(s, "unban", "{\"all\":true,\"jail\":\"nosuch\"}", "not_found", "nosuch");
	s->out_of_memory = true;
	expect_failure(s, "unban", "{\"all\":true}", "internal", "memory");
}

static void note(struct scene *s, enum evidence_verdict verdict, int64_t value, uint32_t file,
		 struct slice text)
{
	const struct evidence_record r = {.time_s = 1000,
					  .noted_s = 1000,
					  .value = value,
					  .offset = 77,
					  .file = file,
					  .addr = parse("198.51.100.1"),
					  .jail = 0,
					  .verdict = (uint8_t)verdict};

	evidence_add(s->evidence, &r, text);
}

static void test_why(void **state)
{
	struct scene *s = *state;
	json_t *o, *history, *event;

	add_ban(s, "198.51.100.0/24", 0, 5000, NULL);
	note(s, EVIDENCE_OFFENCE, 1, 0, SLICE("GET /\x1b[31m\xff\0x"));
	note(s, EVIDENCE_BANNED, -1, EVIDENCE_NO_FILE, SLICE(""));
	note(s, EVIDENCE_KILLED, 3, EVIDENCE_NO_FILE, SLICE(""));
	note(s, EVIDENCE_REFUSED, 0, EVIDENCE_NO_FILE, SLICE("it is loopback"));
	o = ask_data(s, "why", "{\"addr\":\"198.51.100.1\"}");
	assert_string_equal(text_of(o, "addr"), "198.51.100.1");
	assert_int_equal(json_array_size(json_object_get(o, "banned")), 1);
	assert_true(json_is_null(json_object_get(o, "ignored")));
	assert_string_equal(text_of(o, "witness"), "no record");
	history = json_object_get(o, "history");
	assert_int_equal(json_array_size(history), 4);
	event = json_array_get(history, 0);
	assert_string_equal(text_of(event, "verdict"), "offence");
	assert_string_equal(text_of(event, "jail"), "flask");
	assert_string_equal(text_of(event, "filter"), "werkzeug");
	assert_string_equal(text_of(event, "file"), "/var/log/flask.log");
	assert_int_equal(number_of(event, "offset"), 77);
	assert_int_equal(json_string_length(json_object_get(event, "line")), 15);
	assert_string_equal(text_of(event, "line_b64"), "R0VUIC8bWzMxbf8AeA==");
	event = json_array_get(history, 1);
	assert_true(json_is_null(json_object_get(event, "duration")));
	assert_null(json_object_get(event, "file"));
	assert_int_equal(number_of(json_array_get(history, 2), "sockets"), 3);
	assert_string_equal(text_of(json_array_get(history, 3), "text"), "it is loopback");
	json_decref(o);
}

static void test_why_ignored(void **state)
{
	struct scene *s = *state;
	json_t *o = ask_data(s, "why", "{\"addr\":\"127.0.0.1\"}"),
	       *ignored = json_object_get(o, "ignored");

	assert_string_equal(text_of(ignored, "reason"), "loopback");
	assert_null(json_object_get(ignored, "jail"));
	json_decref(o);
	o = ask_data(s, "why", "{\"addr\":\"192.0.2.1\"}");
	ignored = json_object_get(o, "ignored");
	assert_string_equal(text_of(ignored, "reason"), "ignoreip");
	assert_string_equal(text_of(ignored, "jail"), "nginx");
	assert_int_equal(json_array_size(json_object_get(o, "history")), 0);
	json_decref(o);
}

static void test_reload(void **state)
{
	struct scene *s = *state;
	json_t *o = ask(s, "reload", "{}");

	assert_true(json_is_true(json_object_get(o, "ok")));
	json_decref(o);
	json_decref(ask_data(s, "reload", "{\"jail\":\"flask\"}"));
	expect_failure(s, "reload", "{\"jail\":\"nosuch\"}", "not_found", "'nosuch'");
	error_at(&s->reload_error, ERROR_CONFIG, "jail.conf", 12, "unknown key 'maxretri'");
	o = ask(s, "reload", "{}");
	assert_string_equal(text_of(o, "code"), "config");
	assert_string_equal(text_of(o, "file"), "jail.conf");
	assert_int_equal(number_of(o, "line"), 12);
	json_decref(o);
	error_set(&s->reload_error, -EBUSY, "a reload is under way");
	expect_failure(s, "reload", "{}", "refused", "under way");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_usage),        TEST(test_status),
		TEST(test_banned_form),  TEST(test_banned_selection),
		TEST(test_banned_pages), TEST(test_banned_gone),
		TEST(test_ban),          TEST(test_long_reason),
		TEST(test_unban),        TEST(test_why),
		TEST(test_why_ignored),  TEST(test_reload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
