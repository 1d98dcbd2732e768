/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bans as the client keeps them: a million take about 200 MB, as JSON objects ten times that.
 *
 * Filled from pages of the daemon, sorted, printed as a table or as the JSON they came as. What a
 * page lacks is zero or empty.
 */
#ifndef TAILBAN_CLIENT_ROWS_H
#define TAILBAN_CLIENT_ROWS_H

#include "client/text.h"
#include "daemon/base/addr.h"

struct row {
	struct addr addr;
	bool confirmed;
	char source[8];
	int64_t since, until; /* until: INT64_MAX = for ever */
	int64_t count, killed, dropped_packets, dropped_bytes;
	char *jail, *reason; /* as the daemon sent them: not escaped */
};

struct rows {
	struct row *list;
	size_t n, room;
	int64_t now_s; /* for "ends in" */
};

enum rows_order { ROWS_SINCE, ROWS_END, ROWS_HITS, ROWS_DROPPED };

/* Takes over the array of a page. Ends the process with CLIENT_AWAY when memory is out. */
void rows_add(struct rows *rows, json_t *bans);

/* Since: oldest first; end: first to end first; hits (banned before) and dropped: most first. */
void rows_sort(struct rows *rows, enum rows_order order);

/* One of each ban. For lists that were sorted. */
void rows_unique(struct rows *rows);

void rows_print(const struct rows *rows);
json_t *rows_json(const struct row *row); /* new reference */
void rows_free(struct rows *rows);

#endif
