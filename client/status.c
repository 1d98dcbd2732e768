/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban status: what the daemon does and how it is, on one page; with a jail: its counters, files
 * and bans.
 *
 * The daemon's JSON is taken as it comes: what is missing is shown as "-".
 */
#include "client/link.h"
#include "client/options.h"
#include "client/rows.h"

#include <stdio.h>
#include <time.h>

static const struct text_key source_keys[] = {
	{"path", {"LOG", false}},        {"position", {"POSITION", true}},
	{"lag_bytes", {"BEHIND", true}}, {"lines", {"LINES", true}},
	{"state", {"STATE", false}},     {NULL, {NULL, false}}};

static const struct text_key service_keys[] = {{"port", {"PORT", true}},
					       {"pid", {"PID", true}},
					       {"descriptors", {"DESCRIPTORS", true}},
					       {"limit", {"LIMIT", true}},
					       {"text", {"SERVICE", false}},
					       {NULL, {NULL, false}}};

static const struct text_key rule_keys[] = {{"filter", {"FILTER", false}},
					    {"maxretry", {"MAXRETRY", true}},
					    {"findtime", {"FINDTIME (s)", true}},
					    {"distinct", {"DISTINCT", false}},
					    {"lines", {"LINES", true}},
					    {"failed", {"FAILED", true}},
					    {"ignored", {"IGNORED", true}},
					    {"limit_hits", {"GAVE UP", true}},
					    {NULL, {NULL, false}}};

/* What a census shows in one row; the counts by class lie in an object of their own. */
static const struct text_key census_keys[] = {{"jail", {"SOCKETS JAIL", false}},
					      {"descriptors", {"DESCRIPTORS", true}},
					      {"limit", {"LIMIT", true}},
					      {"sockets", {"SOCKETS", true}},
					      {"prefixes", {"ADDRESSES", true}},
					      {"unaccepted", {"UNACCEPTED", true}},
					      {"cut", {"CUT", true}},
					      {"short_limits", {"SHORT LIMITS", false}},
					      {NULL, {NULL, false}}};

/* "title  " and what follows on the same line. */
static void label(const char *title)
{
	printf("  %-12s", title);
}

/* "bans 3, kills 2" of what is there. */
static void print_pairs(json_t *o)
{
	char text[TEXT_CELL_BYTES];
	const char *key, *between = "";
	json_t *value;

	json_object_foreach(o, key, value) {
		printf("%s%s %s", between, key, text_json(value, text));
		between = ", ";
	}
	putchar('\n');
}

static void print_list(json_t *list)
{
	char text[TEXT_CELL_BYTES];
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
		printf("%s%s", i ? ", " : "", text_json(item, text));
	puts(json_array_size(list) ? "" : "none");
}

static void print_table(const char *title, json_t *list, const struct text_key *keys)
{
	putchar('\n');
	if (json_array_size(list))
		text_objects(list, keys);
	else
		printf("%s: none\n", title);
}

static void print_head(json_t *o)
{
	char text[TEXT_CELL_BYTES], lasts[TEXT_TIME_BYTES], since[TEXT_TIME_BYTES];
	int64_t uptime = json_integer_value(json_object_get(o, "uptime"));
	bool ready = json_is_true(json_object_get(o, "ready"));

	text_styled(TEXT_HEAD, "tailban %s", text_json(json_object_get(o, "version"), text));
	printf(": ");
	text_styled(ready ? TEXT_GOOD : TEXT_BAD, ready ? "ready" : "not ready");
	printf(", up %s (since %s)%s%s\n", text_duration(uptime, lasts),
	       text_time(time(NULL) - uptime, since),
	       json_is_true(json_object_get(o, "dry_run")) ? ", dry run: nothing reaches the kernel"
							   : "",
	       json_is_false(json_object_get(o, "jit")) ? ", no JIT: matching is slow" : "");
}

static const char *number(json_t *o, const char *key, char *text)
{
	return text_json(json_object_get(o, key), text);
}

static void print_counts(json_t *o)
{
	char a[TEXT_CELL_BYTES], b[TEXT_CELL_BYTES], c[TEXT_CELL_BYTES], d[TEXT_CELL_BYTES];

	label("bans");
	printf("%s now, %s made, %s sockets killed, %s refused\n", number(o, "bans", a),
	       number(o, "bans_total", b), number(o, "kills", c), number(o, "refused", d));
	label("read");
	printf("%s lines, %s offences, %s ms behind, %s lines skipped after a crash\n",
	       number(o, "lines_read", a), number(o, "offences", b), number(o, "lag_ms", c),
	       number(o, "guilty_lines", d));
}

static void print_memory(json_t *memory)
{
	char text[TEXT_TIME_BYTES], a[TEXT_CELL_BYTES], b[TEXT_CELL_BYTES], c[TEXT_CELL_BYTES];
	json_t *bytes = json_object_get(memory, "resident_bytes");

	label("memory");
	if (json_is_integer(memory)) {
		puts(text_bytes((uint64_t)json_integer_value(memory), text));
		return;
	}
	printf("%s, %s addresses tracked (%s evicted), %s bans kept out of a full list\n",
	       text_bytes((uint64_t)json_integer_value(bytes), text), number(memory, "tracked", a),
	       number(memory, "evicted", b), number(memory, "bans_kept_out", c));
}

static bool is_good(json_t *value)
{
	const char *s = json_string_value(value);

	return !s || !strncmp(s, "ok", 2) || !strncmp(s, "not in this version", 19) || !s[0] ||
	       !strncmp(s, "none", 4);
}

static void print_health(json_t *health)
{
	char text[TEXT_CELL_BYTES];
	const char *key;
	json_t *value;

	putchar('\n');
	text_styled(TEXT_HEAD, "HEALTH\n");
	json_object_foreach(health, key, value) {
		/* Counters that are zero and texts that are empty say nothing. */
		if ((json_is_integer(value) && !json_integer_value(value)) ||
		    (json_is_string(value) && !json_string_length(value)))
			continue;
		printf("  %-15s", key);
		text_styled(is_good(value) ? TEXT_PLAIN : TEXT_BAD, "%s\n", text_json(value, text));
	}
}

/* "12 silent, 3 at work": classes that are not empty. */
static void print_classes(json_t *census)
{
	char text[TEXT_CELL_BYTES];
	const char *class, *between = "";
	json_t *count;

	label(text_json(json_object_get(census, "jail"), text));
	json_object_foreach(json_object_get(census, "connections"), class, count) {
		if (!json_integer_value(count))
			continue;
		printf("%s%lld %s", between, (long long)json_integer_value(count), class);
		between = ", ";
	}
	printf("%s\n", between[0] ? "" : "no connections");
	if (json_is_true(json_object_get(census, "half_open_flood")))
		text_styled(TEXT_BAD,
			    "  a flood of SYNs: more half-open than half of the backlog\n");
	if (json_is_true(json_object_get(census, "polls")))
		puts("  a census each second: no bell rings for it");
}

static void print_sockets(json_t *list)
{
	json_t *census;
	size_t i;

	if (!json_array_size(list))
		return;
	putchar('\n');
	text_objects(list, census_keys);
	json_array_foreach(list, i, census)
		print_classes(census);
}

static void print_status(json_t *o)
{
	print_head(o);
	print_counts(o);
	print_memory(json_object_get(o, "memory"));
	label("jails");
	print_list(json_object_get(o, "jails"));
	print_table("logs", json_object_get(o, "sources"), source_keys);
	print_table("services", json_object_get(o, "services"), service_keys);
	print_sockets(json_object_get(o, "sockets"));
	print_health(json_object_get(o, "health"));
}

static int daemon_status(struct client *c)
{
	json_t *data = NULL;
	int r = link_once(c, "status", NULL, &data);

	if (r != CLIENT_YES)
		return r;
	if (c->json)
		link_print(data);
	else
		print_status(data);
	json_decref(data);
	return CLIENT_YES;
}

/* --- a jail ----------------------------------------------------------------------------------- */

struct jail {
	json_t *status;
	struct rows rows;
};

static void take_page(void *ctx, json_t *data)
{
	struct jail *jail = ctx;
	json_t *status = json_object_get(data, "status");

	if (status)
		jail->status = json_incref(status);
	rows_add(&jail->rows, json_object_get(data, "bans"));
}

static void print_jail(struct jail *jail)
{
	json_t *o = jail->status, *bantime = json_object_get(o, "bantime");
	char text[TEXT_CELL_BYTES], lasts[TEXT_TIME_BYTES];

	text_styled(TEXT_HEAD, "jail %s", number(o, "jail", text));
	printf(": bans %s, drops on %s ports, %s\n",
	       json_integer_value(bantime) < 0 ? "for ever"
					       : text_duration(json_integer_value(bantime), lasts),
	       !strcmp(number(o, "scope", text), "port") ? "its" : "all",
	       json_is_true(json_object_get(o, "kill")) ? "kills sockets" : "leaves sockets alone");
	label("counts");
	print_pairs(json_object_get(o, "counts"));
	print_table("filters", json_object_get(o, "rules"), rule_keys);
	print_table("logs", json_object_get(o, "sources"), source_keys);
	print_table("services", json_object_get(o, "services"), service_keys);
	print_sockets(json_object_get(o, "sockets"));
	putchar('\n');
	if (jail->rows.n)
		rows_print(&jail->rows);
	else
		puts("nobody is banned");
}

static void print_jail_json(struct jail *jail)
{
	json_t *bans = json_array();

	for (size_t i = 0; i < jail->rows.n; i++)
		json_array_append_new(bans, rows_json(&jail->rows.list[i]));
	json_object_set_new(jail->status, "bans", bans);
	link_print(jail->status);
}

static int jail_status(struct client *c, const char *name)
{
	struct jail jail = {.rows = {.now_s = time(NULL)}};
	struct link link;
	int r = link_open(&link, c);

	if (r != CLIENT_YES)
		return r;
	r = link_pages(&link, "status", json_pack("{s:s}", "jail", name), take_page, &jail);
	link_close(&link);
	rows_sort(&jail.rows, ROWS_SINCE);
	if (r == CLIENT_YES && c->json)
		print_jail_json(&jail);
	else if (r == CLIENT_YES)
		print_jail(&jail);
	json_decref(jail.status);
	rows_free(&jail.rows);
	return r;
}

int status_command(struct client *c, int argc, char **argv)
{
	int n = options_parse(c, argc, argv, NULL, false);

	if (n < 0)
		return options_status(c);
	if (n > 1)
		return client_usage(c, "unexpected argument '%s'", argv[2]);
	text_set_up(c);
	return n ? jail_status(c, argv[1]) : daemon_status(c);
}
