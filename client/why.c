/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban why: the story of an address, oldest first.
 *
 * The log lines in it are the attackers' own words: all of it goes through escape_text. A line that
 * is no UTF-8 comes in base64 as well and is shown byte by byte.
 */
#include "client/link.h"
#include "client/options.h"
#include "client/rows.h"
#include "daemon/base/escape.h"

#include <stdio.h>
#include <time.h>

#define LINE_BYTES 4096

static const char *value(json_t *o, const char *key, char *buf)
{
	return text_json(json_object_get(o, key), buf);
}

static int digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* What fits of it; stops at the padding. Returns the length. */
static size_t decode_base64(const char *text, char *out, size_t size)
{
	uint32_t bits = 0;
	unsigned nbits = 0;
	size_t n = 0;

	for (; digit(*text) >= 0 && n < size; text++) {
		bits = bits << 6 | (uint32_t)digit(*text);
		nbits += 6;
		if (nbits >= 8) {
			nbits -= 8;
			out[n++] = (char)(bits >> nbits & 0xff);
		}
	}
	return n;
}

static void print_line(json_t *event)
{
	json_t *line = json_object_get(event, "line");
	const char *coded = json_string_value(json_object_get(event, "line_b64"));
	char raw[LINE_BYTES], shown[LINE_BYTES * 2];
	struct slice text = slice_of(json_string_value(line), json_string_length(line));

	if (coded)
		text = slice_of(raw, decode_base64(coded, raw, sizeof raw));
	if (!text.p)
		return;
	printf("    %s%s\n", escape_text(shown, sizeof shown, text),
	       json_is_true(json_object_get(event, "cut")) ? " ..." : "");
}

/* "for 1h", "3 sockets", "(2 in the window)": what the verdict's number means. */
static void print_number(json_t *event)
{
	json_t *duration = json_object_get(event, "duration"),
	       *sockets = json_object_get(event, "sockets");
	json_t *count = json_object_get(event, "count");
	char text[TEXT_TIME_BYTES];

	if (json_is_null(duration))
		printf(" for ever");
	else if (duration)
		printf(" for %s", text_duration(json_integer_value(duration), text));
	if (sockets)
		printf(" %" JSON_INTEGER_FORMAT " sockets", json_integer_value(sockets));
	if (count)
		printf(" (%" JSON_INTEGER_FORMAT " in the window)", json_integer_value(count));
}

static void print_event(json_t *event, const char *whose)
{
	char when[TEXT_TIME_BYTES], a[TEXT_CELL_BYTES], b[TEXT_CELL_BYTES];
	json_t *text = json_object_get(event, "text"), *file = json_object_get(event, "file");

	printf("%s  ", text_time(json_integer_value(json_object_get(event, "time")), when));
	text_styled(TEXT_HEAD, "%s", value(event, "verdict", a));
	print_number(event);
	printf("  %s", value(event, "jail", a));
	if (strcmp(value(event, "filter", b), a) != 0 && b[0] && strcmp(b, "-") != 0)
		printf("  %s", b);
	if (strcmp(value(event, "addr", a), whose) != 0)
		printf("  (%s)", a);
	if (file)
		printf("  %s, byte %s", text_json(file, a), value(event, "offset", b));
	if (text)
		printf(": %s", text_json(text, a));
	putchar('\n');
	print_line(event);
}

static void print_ban(json_t *ban, int64_t now_s)
{
	char a[TEXT_CELL_BYTES], b[TEXT_CELL_BYTES], when[TEXT_TIME_BYTES], left[TEXT_TIME_BYTES];
	json_t *until = json_object_get(ban, "until");

	printf("  banned as %s/%s", value(ban, "addr", a), value(ban, "prefix", b));
	printf(" by %s (%s)", value(ban, "jail", a), value(ban, "source", b));
	if (json_is_integer(until))
		printf(" until %s, %s left\n", text_time(json_integer_value(until), when),
		       text_duration(json_integer_value(until) - now_s, left));
	else
		puts(" for ever");
	printf("  because of %s\n", value(ban, "reason", a));
	printf("  banned %s times before; ", value(ban, "count", a));
	printf("%s sockets killed, %s packets ", value(ban, "killed", a),
	       value(ban, "dropped_packets", b));
	printf("(%s) dropped\n",
	       text_bytes((uint64_t)json_integer_value(json_object_get(ban, "dropped_bytes")),
			  when));
	if (json_is_false(json_object_get(ban, "confirmed")))
		text_styled(TEXT_BAD, "  the kernel has not taken it yet\n");
}

static void print_witness(json_t *w)
{
	char connections[TEXT_CELL_BYTES], lines[TEXT_CELL_BYTES], ago[TEXT_TIME_BYTES];
	json_t *last = json_object_get(w, "last_s_ago");

	printf("  kernel witness: ");
	if (!json_is_object(w))
		printf("%s", json_is_string(w) ? json_string_value(w) : "-");
	else if (json_is_false(json_object_get(w, "seen")))
		printf("has not seen it");
	else
		printf("saw %s connections, the last %s ago", value(w, "connections", connections),
		       text_duration(json_integer_value(last), ago));
	if (json_integer_value(json_object_get(w, "lines")))
		printf("; %s lines of the logs name it", value(w, "lines", lines));
	puts("\n");
}

static void print_story(json_t *o)
{
	json_t *bans = json_object_get(o, "banned"), *history = json_object_get(o, "history"),
	       *item;
	json_t *ignored = json_object_get(o, "ignored");
	char whose[TEXT_CELL_BYTES], text[TEXT_CELL_BYTES];
	size_t i;

	text_styled(TEXT_HEAD, "%s\n", value(o, "addr", whose));
	if (!json_array_size(bans))
		puts("  not banned");
	json_array_foreach(bans, i, item)
		print_ban(item, time(NULL));
	if (json_is_object(ignored))
		printf("  never banned: %s\n", value(ignored, "text", text));
	print_witness(json_object_get(o, "witness"));
	json_array_foreach(history, i, item)
		print_event(item, whose);
	if (!json_array_size(history))
		puts("nothing is on record");
}

int why_command(struct client *c, int argc, char **argv)
{
	int n = options_parse(c, argc, argv, NULL, false), r;
	json_t *data = NULL;
	struct addr a;
	bool known;

	if (n < 0)
		return options_status(c);
	if (n != 1)
		return client_usage(c, "whose story? one address");
	if (addr_parse_net(slice_str(argv[1]), &a) < 0)
		return client_usage(c, "'%s' is no address or network", argv[1]);
	text_set_up(c);
	r = link_once(c, "why", json_pack("{s:s}", "addr", argv[1]), &data);
	if (r != CLIENT_YES)
		return r;
	known = json_array_size(json_object_get(data, "banned")) ||
		json_array_size(json_object_get(data, "history")) ||
		json_is_object(json_object_get(data, "ignored"));
	if (c->json)
		link_print(data);
	else
		print_story(data);
	json_decref(data);
	return known ? CLIENT_YES : CLIENT_NO;
}
