/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text for people: tables, times, sizes, colours.
 *
 * Colour only when stdout is a terminal, --no-color is not given, NO_COLOR is unset and TERM is not
 * dumb. Widths count characters, not bytes (wide ones count as one).
 */
#ifndef TAILBAN_CLIENT_TEXT_H
#define TAILBAN_CLIENT_TEXT_H

#include "client/client.h"
#include "daemon/base/slice.h"

#include <jansson.h>
#include <stdint.h>

#define TEXT_TIME_BYTES 40
#define TEXT_CELL_BYTES 512

enum text_style { TEXT_PLAIN, TEXT_HEAD, TEXT_GOOD, TEXT_WARN, TEXT_BAD };

/* Call once before printing. */
void text_set_up(const struct client *c);

/* printf in a style. */
__attribute__((format(printf, 2, 3))) void text_styled(enum text_style style, const char *format,
						       ...);

/* "2026-02-01 12:00:00 CET" */
const char *text_time(int64_t epoch_s, char buf[static TEXT_TIME_BYTES]);

/* The two largest units: "3d 4h", "59m 12s"; "0s" for what is over. */
const char *text_duration(int64_t s, char buf[static TEXT_TIME_BYTES]);

/* "1.5 MiB" */
const char *text_bytes(uint64_t n, char buf[static TEXT_TIME_BYTES]);

/* A JSON string escaped for the terminal, a number, yes or no; "-" for null and what is missing. */
const char *text_json(json_t *value, char buf[static TEXT_CELL_BYTES]);

/*
 * Prints a line of words, broken where the terminal ends (TEXT_PAGE columns when there is none);
 * `indent` characters stand before it already and before each further line.
 */
#define TEXT_PAGE 100
void text_wrapped(struct slice text, int indent);
/* As much of it as the line has room for behind `indent` characters, and a newline. */
void text_clipped(struct slice text, int indent);

struct text_column {
	const char *title;
	bool right;
};

/*
 * A table with a head line. cell() fills buf (TEXT_CELL_BYTES) with what may be printed as it is;
 * it is called twice for each cell, first for the widths.
 */
void text_table(const struct text_column *columns, size_t ncolumns, size_t nrows,
		void (*cell)(const void *ctx, size_t row, size_t column, char *buf),
		const void *ctx);

/* A table of an array of objects: one column for each key (keys end with NULL). */
struct text_key {
	const char *key;
	struct text_column column;
};
void text_objects(json_t *array, const struct text_key *keys);

#endif
