/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bans in the client: see rows.h. Out of memory ends the process with a sentence. */
#include "client/rows.h"
#include "client/link.h"
#include "daemon/base/escape.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static char *copy(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	char *text = strdup(s ? s : "");

	if (!text)
		client_no_memory();
	return text;
}

static int64_t number(json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static struct addr prefix_of(json_t *o)
{
	struct addr a = {0};

	if (addr_parse(slice_str(json_string_value(json_object_get(o, "addr"))), &a) == 0)
		a.plen = (uint8_t)number(o, "prefix");
	return a;
}

static struct row *new_row(struct rows *rows)
{
	if (rows->n == rows->room) {
		size_t room = rows->room ? rows->room * 2 : 256;
		struct row *grown = reallocarray(rows->list, room, sizeof *grown);

		if (!grown)
			client_no_memory();
		rows->list = grown;
		rows->room = room;
	}
	return &rows->list[rows->n++];
}

void rows_add(struct rows *rows, json_t *bans)
{
	json_t *o;
	size_t i;

	json_array_foreach(bans, i, o) {
		json_t *until = json_object_get(o, "until");
		struct row *row = new_row(rows);

		*row = (struct row){.addr = prefix_of(o),
				    .confirmed = json_is_true(json_object_get(o, "confirmed")),
				    .since = number(o, "since"),
				    .until = json_is_integer(until) ? json_integer_value(until)
								    : INT64_MAX,
				    .count = number(o, "count"),
				    .killed = number(o, "killed"),
				    .dropped_packets = number(o, "dropped_packets"),
				    .dropped_bytes = number(o, "dropped_bytes"),
				    .jail = copy(o, "jail"),
				    .reason = copy(o, "reason")};
		snprintf(row->source, sizeof row->source, "%s",
			 json_string_value(json_object_get(o, "source"))
				 ? json_string_value(json_object_get(o, "source"))
				 : "");
	}
}

void rows_free(struct rows *rows)
{
	for (size_t i = 0; i < rows->n; i++) {
		free(rows->list[i].jail);
		free(rows->list[i].reason);
	}
	free(rows->list);
	*rows = (struct rows){0};
}

/* --- order ------------------------------------------------------------------------------------ */

static int by_addr(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int order = addr_cmp(&x->addr, &y->addr);

	return order ? order : strcmp(x->jail, y->jail);
}

static int compare(const void *a, const void *b, int64_t x, int64_t y)
{
	return x < y ? -1 : x > y ? 1 : by_addr(a, b);
}

static int by_since(const void *a, const void *b)
{
	return compare(a, b, ((const struct row *)a)->since, ((const struct row *)b)->since);
}

static int by_end(const void *a, const void *b)
{
	return compare(a, b, ((const struct row *)a)->until, ((const struct row *)b)->until);
}

static int by_hits(const void *a, const void *b)
{
	return compare(a, b, -((const struct row *)a)->count, -((const struct row *)b)->count);
}

static int by_dropped(const void *a, const void *b)
{
	return compare(a, b, -((const struct row *)a)->dropped_packets,
		       -((const struct row *)b)->dropped_packets);
}

void rows_sort(struct rows *rows, enum rows_order order)
{
	static int (*const orders[])(const void *, const void *) = {[ROWS_SINCE] = by_since,
								    [ROWS_END] = by_end,
								    [ROWS_HITS] = by_hits,
								    [ROWS_DROPPED] = by_dropped};

	if (rows->n)
		qsort(rows->list, rows->n, sizeof rows->list[0], orders[order]);
}

void rows_unique(struct rows *rows)
{
	size_t kept = 0;

	for (size_t i = 0; i < rows->n; i++) {
		if (kept && by_addr(&rows->list[kept - 1], &rows->list[i]) == 0) {
			free(rows->list[i].jail);
			free(rows->list[i].reason);
			continue;
		}
		rows->list[kept++] = rows->list[i];
	}
	rows->n = kept;
}

/* --- out -------------------------------------------------------------------------------------- */

enum { ADDRESS, JAIL, SINCE, ENDS, BEFORE, KILLED, PACKETS, BYTES, REASON, NCOLUMNS };

static const struct text_column columns[NCOLUMNS] = {
	[ADDRESS] = {"ADDRESS", false}, [JAIL] = {"JAIL", false},    [SINCE] = {"SINCE", false},
	[ENDS] = {"ENDS IN", true},     [BEFORE] = {"BEFORE", true}, [KILLED] = {"KILLED", true},
	[PACKETS] = {"DROPPED", true},  [BYTES] = {"BYTES", true},   [REASON] = {"REASON", false},
};

static void reason_cell(const struct row *row, char *buf)
{
	const char *mark = row->confirmed ? "" : "(not in the kernel yet) ";
	size_t n = strlen(mark);

	memcpy(buf, mark, n + 1);
	escape_text(buf + n, TEXT_CELL_BYTES - n, slice_str(row->reason));
}

static void ends_cell(const struct rows *rows, const struct row *row, char *buf)
{
	if (row->until == INT64_MAX)
		memcpy(buf, "never", sizeof "never");
	else
		text_duration(row->until - rows->now_s, buf);
}

static void cell(const void *ctx, size_t i, size_t column, char *buf)
{
	const struct rows *rows = ctx;
	const struct row *row = &rows->list[i];

	switch (column) {
	case ADDRESS:
		addr_format(&row->addr, buf);
		break;
	case JAIL:
		escape_text(buf, TEXT_CELL_BYTES, slice_str(row->jail));
		break;
	case SINCE:
		text_time(row->since, buf);
		break;
	case ENDS:
		ends_cell(rows, row, buf);
		break;
	case BEFORE:
		snprintf(buf, TEXT_CELL_BYTES, "%" PRId64, row->count);
		break;
	case KILLED:
		snprintf(buf, TEXT_CELL_BYTES, "%" PRId64, row->killed);
		break;
	case PACKETS:
		snprintf(buf, TEXT_CELL_BYTES, "%" PRId64, row->dropped_packets);
		break;
	case BYTES:
		text_bytes((uint64_t)row->dropped_bytes, buf);
		break;
	case REASON:
		reason_cell(row, buf);
		break;
	}
}

void rows_print(const struct rows *rows)
{
	text_table(columns, NCOLUMNS, rows->n, cell, rows);
}

json_t *rows_json(const struct row *row)
{
	struct addr host = row->addr;
	char addr[ADDR_STRLEN];

	host.plen = (uint8_t)addr_bits(&host);
	return json_pack("{s:s, s:i, s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:s, s:s, s:b}", "addr",
			 addr_format(&host, addr), "prefix", (int)row->addr.plen, "jail", row->jail,
			 "since", (json_int_t)row->since, "until",
			 row->until == INT64_MAX ? json_null() : json_integer(row->until), "count",
			 (json_int_t)row->count, "killed", (json_int_t)row->killed,
			 "dropped_packets", (json_int_t)row->dropped_packets, "dropped_bytes",
			 (json_int_t)row->dropped_bytes, "source", row->source, "reason",
			 row->reason, "confirmed", (int)row->confirmed);
}
