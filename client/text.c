/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text for people: see text.h. Nothing fails; what does not fit is cut. */
#include "client/text.h"
#include "daemon/base/escape.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define COLUMNS_MAX 16
#define PAGE_LEAST 60

static bool coloured;

static const char *const styles[] = {[TEXT_PLAIN] = "",
				     [TEXT_HEAD] = "\x1b[1m",
				     [TEXT_GOOD] = "\x1b[32m",
				     [TEXT_WARN] = "\x1b[1;33m",
				     [TEXT_BAD] = "\x1b[1;31m"};

void text_set_up(const struct client *c)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	coloured = !c->no_colour && isatty(STDOUT_FILENO) && !(no_color && no_color[0]) && term &&
		   strcmp(term, "dumb") != 0;
}

void text_styled(enum text_style style, const char *format, ...)
{
	bool on = coloured && style != TEXT_PLAIN;
	va_list args;

	if (on)
		fputs(styles[style], stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	if (on)
		fputs("\x1b[0m", stdout);
}

const char *text_time(int64_t epoch_s, char buf[static TEXT_TIME_BYTES])
{
	time_t t = (time_t)epoch_s;
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(buf, TEXT_TIME_BYTES, "%Y-%m-%d %H:%M:%S %Z", &tm))
		snprintf(buf, TEXT_TIME_BYTES, "%" PRId64, epoch_s);
	return buf;
}

const char *text_duration(int64_t s, char buf[static TEXT_TIME_BYTES])
{
	static const struct {
		int64_t seconds;
		char letter;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	size_t i = 0;
	int n;

	if (s <= 0)
		return memcpy(buf, "0s", 3);
	while (s < units[i].seconds)
		i++;
	n = snprintf(buf, TEXT_TIME_BYTES, "%" PRId64 "%c", s / units[i].seconds, units[i].letter);
	s = i < 3 ? s % units[i].seconds / units[i + 1].seconds : 0;
	if (s)
		snprintf(buf + n, TEXT_TIME_BYTES - (size_t)n, " %" PRId64 "%c", s,
			 units[i + 1].letter);
	return buf;
}

const char *text_bytes(uint64_t n, char buf[static TEXT_TIME_BYTES])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)n / 1024;
	size_t i = 0;

	if (n < 1024) {
		snprintf(buf, TEXT_TIME_BYTES, "%u B", (unsigned)n);
		return buf;
	}
	for (; value >= 1024 && i < 5; i++)
		value /= 1024;
	snprintf(buf, TEXT_TIME_BYTES, "%.1f %s", value, units[i]);
	return buf;
}

const char *text_json(json_t *value, char buf[static TEXT_CELL_BYTES])
{
	if (json_is_string(value))
		escape_text(buf, TEXT_CELL_BYTES,
			    slice_of(json_string_value(value), json_string_length(value)));
	else if (json_is_integer(value))
		snprintf(buf, TEXT_CELL_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_boolean(value))
		snprintf(buf, TEXT_CELL_BYTES, "%s", json_is_true(value) ? "yes" : "no");
	else
		snprintf(buf, TEXT_CELL_BYTES, "-");
	return buf;
}

/* --- lines ------------------------------------------------------------------------------------ */

static int page_width(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return TEXT_PAGE;
	return size.ws_col < PAGE_LEAST ? PAGE_LEAST : size.ws_col;
}

static int characters(struct slice text)
{
	int n = 0;

	for (size_t i = 0; i < text.n; i++)
		n += ((unsigned char)text.p[i] & 0xc0) != 0x80;
	return n;
}

void text_wrapped(struct slice text, int indent)
{
	int page = page_width(), column = indent;
	struct slice word;

	while (slice_next(&text, " ", &word)) {
		int wide = characters(word);

		if (column > indent && column + 1 + wide > page) {
			printf("\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			putchar(' ');
			column++;
		}
		fwrite(word.p, 1, word.n, stdout);
		column += wide;
	}
	putchar('\n');
}

void text_clipped(struct slice text, int indent)
{
	int room = page_width() - indent;
	bool cut = characters(text) > room;
	size_t n = 0;

	if (cut)
		room -= 3;
	for (; n < text.n; n++)
		if (((unsigned char)text.p[n] & 0xc0) != 0x80 && room-- <= 0)
			break;
	fwrite(text.p, 1, n, stdout);
	puts(cut ? "..." : "");
}

/* --- tables ----------------------------------------------------------------------------------- */

static int width(const char *s)
{
	return characters(slice_str(s));
}

/* The last column ends where its text ends. */
static void print_cell(enum text_style style, const char *text, int wide, bool right, bool last)
{
	int blanks = wide - width(text);

	if (right)
		printf("%*s", blanks, "");
	text_styled(style, "%s", text);
	if (!last)
		printf("%*s", right ? 2 : blanks + 2, "");
}

void text_table(const struct text_column *columns, size_t ncolumns, size_t nrows,
		void (*cell)(const void *ctx, size_t row, size_t column, char *buf),
		const void *ctx)
{
	char buf[TEXT_CELL_BYTES];
	int widths[COLUMNS_MAX];

	if (ncolumns > COLUMNS_MAX)
		ncolumns = COLUMNS_MAX;
	for (size_t i = 0; i < ncolumns; i++)
		widths[i] = width(columns[i].title);
	for (size_t row = 0; row < nrows; row++) {
		for (size_t i = 0; i < ncolumns; i++) {
			cell(ctx, row, i, buf);
			if (width(buf) > widths[i])
				widths[i] = width(buf);
		}
	}
	for (size_t i = 0; i < ncolumns; i++)
		print_cell(TEXT_HEAD, columns[i].title, widths[i], columns[i].right,
			   i + 1 == ncolumns);
	putchar('\n');
	for (size_t row = 0; row < nrows; row++) {
		for (size_t i = 0; i < ncolumns; i++) {
			cell(ctx, row, i, buf);
			print_cell(TEXT_PLAIN, buf, widths[i], columns[i].right, i + 1 == ncolumns);
		}
		putchar('\n');
	}
}

struct objects {
	json_t *array;
	const struct text_key *keys;
};

static void object_cell(const void *ctx, size_t row, size_t column, char *buf)
{
	const struct objects *o = ctx;

	text_json(json_object_get(json_array_get(o->array, row), o->keys[column].key), buf);
}

void text_objects(json_t *array, const struct text_key *keys)
{
	const struct objects objects = {array, keys};
	struct text_column columns[COLUMNS_MAX];
	size_t n = 0;

	for (; n < COLUMNS_MAX && keys[n].key; n++)
		columns[n] = keys[n].column;
	text_table(columns, n, json_array_size(array), object_cell, &objects);
}
