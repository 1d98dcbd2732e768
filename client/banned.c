/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban banned: the ban list.
 *
 * Without an order the JSON is printed as the pages come in, in constant memory; a daemon that goes
 * away meanwhile leaves it unfinished, with status 3.
 */
#include "client/link.h"
#include "client/options.h"
#include "client/rows.h"
#include "daemon/config/suggest.h"

#include <stdio.h>
#include <time.h>

static const struct {
	const char *name;
	enum rows_order order;
} orders[] = {
	{"end", ROWS_END}, {"hits", ROWS_HITS}, {"dropped", ROWS_DROPPED}, {"since", ROWS_SINCE}};
#define ORDERS (sizeof orders / sizeof orders[0])

struct banned {
	struct rows rows;
	bool stream; /* print at once */
	bool json;
	size_t printed, missing;
};

static void say_missing(const struct banned *b, json_t *missing)
{
	char text[TEXT_CELL_BYTES];
	json_t *addr;
	size_t i;

	json_array_foreach(missing, i, addr)
		if (!b->json)
			printf("%s is not banned\n", text_json(addr, text));
}

static void take_page(void *ctx, json_t *data)
{
	struct banned *b = ctx;
	json_t *bans = json_object_get(data, "bans"), *missing = json_object_get(data, "missing"),
	       *ban;
	size_t i;

	b->missing += json_array_size(missing);
	say_missing(b, missing);
	if (!b->stream) {
		rows_add(&b->rows, bans);
		return;
	}
	json_array_foreach(bans, i, ban)
		link_print_item(ban, &b->printed);
}

static void print(struct banned *b, enum rows_order order)
{
	rows_sort(&b->rows, order);
	rows_unique(&b->rows);
	if (!b->json && b->rows.n)
		rows_print(&b->rows);
	for (size_t i = 0; b->json && i < b->rows.n; i++) {
		json_t *o = rows_json(&b->rows.list[i]);

		link_print_item(o, &b->printed);
		json_decref(o);
	}
}

static int parse_order(const struct client *c, const char *name, enum rows_order *ret_order)
{
	struct suggest s = suggest_for(name);
	char text[SUGGEST_STRLEN];

	for (size_t i = 0; i < ORDERS; i++) {
		if (!strcmp(orders[i].name, name)) {
			*ret_order = orders[i].order;
			return CLIENT_YES;
		}
		suggest_try(&s, orders[i].name);
	}
	return client_usage(c, "--sort takes end, hits, dropped or since, not '%s'%s", name,
			    suggest_text(&s, text));
}

static json_t *make_args(const char *jail, char **addrs, int naddrs)
{
	json_t *args = json_object(), *list = json_array();

	for (int i = 0; i < naddrs; i++)
		json_array_append_new(list, json_string(addrs[i]));
	if (jail)
		json_object_set_new(args, "jail", json_string(jail));
	if (naddrs)
		json_object_set(args, "addrs", list);
	json_decref(list);
	return args;
}

static int fetch(struct client *c, json_t *args, struct banned *b)
{
	struct link link;
	int r = link_open(&link, c);

	if (r != CLIENT_YES) {
		json_decref(args);
		return r;
	}
	r = link_pages(&link, "banned", args, take_page, b);
	link_close(&link);
	return r;
}

int banned_command(struct client *c, int argc, char **argv)
{
	const char *jail = NULL, *sort = NULL;
	const struct option own[] = {
		{"jail", 'j', &jail, NULL}, {"sort", 0, &sort, NULL}, {NULL, 0, NULL, NULL}};
	int n = options_parse(c, argc, argv, own, false), r;
	enum rows_order order = ROWS_SINCE;
	struct banned b = {.rows = {.now_s = time(NULL)}};
	struct addr a;

	if (n < 0)
		return options_status(c);
	if (sort && parse_order(c, sort, &order) != CLIENT_YES)
		return CLIENT_USAGE;
	for (int i = 1; i <= n; i++)
		if (addr_parse_net(slice_str(argv[i]), &a) < 0)
			return client_usage(c, "'%s' is no address or network", argv[i]);
	text_set_up(c);
	b.json = c->json;
	b.stream = c->json && !sort && !n;
	r = fetch(c, make_args(jail, argv + 1, n), &b);
	if (r == CLIENT_YES) {
		print(&b, order);
		if (c->json)
			link_print_end(b.printed);
		else if (!n && !b.rows.n)
			puts("nobody is banned");
	}
	rows_free(&b.rows);
	return r != CLIENT_YES ? r : b.missing ? CLIENT_NO : CLIENT_YES;
}
