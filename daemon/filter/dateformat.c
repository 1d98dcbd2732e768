/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Date formats: see dateformat.h. Compiling fails with ERROR_CONFIG, matching with false. */
#include "daemon/filter/dateformat.h"

#include <errno.h>
#include <stdio.h>

#include "daemon/filter/tags.h"

#define BLANKS_MAX 4 /* a blank in a datepattern stands for a run of them */
#define NEST_MAX 4
#define FREE_ANCHOR 24 /* widest uncertainty about the anchor's place that still pays */

enum op_kind { OP_SET, OP_BLANKS, OP_NUMBER, OP_FIELD, OP_OPTIONAL };

struct date_field {
	char letter;
	uint8_t min, max; /* width */
	bool blank;       /* may be padded by one */
	int low, high;
	size_t offset; /* of the int in struct date_parts */
	unsigned part;
	bool (*read)(const struct date_field *f, bool exact, struct slice *rest,
		     struct date_parts *parts);
};

static bool is_digit(char c)
{
	return (unsigned)(c - '0') <= 9;
}

static bool is_word(char c)
{
	return is_digit(c) || (unsigned)((c | 0x20) - 'a') < 26 || c == '_' ||
	       (unsigned char)c >= 0x80;
}

static bool read_number(const struct date_field *f, bool exact, struct slice *rest,
			struct date_parts *parts)
{
	size_t i = 0, digits = 0, min = exact ? f->max : f->min;
	int value = 0;

	if (f->max == 2 && rest->n > 1 && is_digit(rest->p[0]) && is_digit(rest->p[1])) {
		value = (rest->p[0] - '0') * 10 + (rest->p[1] - '0');
		i = digits = 2;
	} else if (f->blank && !exact && rest->n && rest->p[0] == ' ') {
		i = 1;
	}
	for (; i < rest->n && i < f->max && is_digit(rest->p[i]); i++, digits++)
		value = value * 10 + (rest->p[i] - '0');
	if (digits < min || digits == 0 || value < f->low || value > f->high)
		return false;
	*(int *)(void *)((char *)parts + f->offset) = value;
	*rest = slice_skip(*rest, i);
	return true;
}

static bool read_short_year(const struct date_field *f, bool exact, struct slice *rest,
			    struct date_parts *parts)
{
	if (!read_number(f, exact, rest, parts))
		return false;
	parts->year += parts->year < 69 ? 2000 : 1900;
	return true;
}

/* Fractions of a second are read and dropped. */
static bool read_fraction(const struct date_field *f, bool exact, struct slice *rest,
			  struct date_parts *parts)
{
	size_t i = 0;

	(void)exact;
	(void)parts;
	while (i < rest->n && i < f->max && is_digit(rest->p[i]))
		i++;
	*rest = slice_skip(*rest, i);
	return i > 0;
}

/* Index of the three-letter name at rest, or -1. */
static int name_index(const char *names, struct slice rest)
{
	char low[3];

	if (rest.n < 3)
		return -1;
	for (int k = 0; k < 3; k++)
		low[k] = (char)(rest.p[k] | 0x20);
	for (int k = 0; names[k]; k += 3)
		if (names[k] == low[0] && names[k + 1] == low[1] && names[k + 2] == low[2])
			return k / 3;
	return -1;
}

static bool read_month_name(const struct date_field *f, bool exact, struct slice *rest,
			    struct date_parts *parts)
{
	int index = name_index("janfebmaraprmayjunjulaugsepoctnovdec", *rest);

	(void)f;
	(void)exact;
	if (index < 0)
		return false;
	parts->month = index + 1;
	*rest = slice_skip(*rest, 3);
	return true;
}

static bool read_day_name(const struct date_field *f, bool exact, struct slice *rest,
			  struct date_parts *parts)
{
	(void)f;
	(void)exact;
	(void)parts;
	if (name_index("montuewedthufrisatsun", *rest) < 0)
		return false;
	*rest = slice_skip(*rest, 3);
	return true;
}

static bool read_pm(const struct date_field *f, bool exact, struct slice *rest,
		    struct date_parts *parts)
{
	char half = rest->n >= 2 ? (char)(rest->p[0] | 0x20) : 0;

	(void)f;
	(void)exact;
	if ((half != 'a' && half != 'p') || (rest->p[1] | 0x20) != 'm')
		return false;
	parts->pm = half == 'p';
	*rest = slice_skip(*rest, 2);
	return true;
}

static bool read_utc_name(struct slice *rest, struct date_parts *parts)
{
	size_t n = slice_starts(*rest, SLICE("UTC")) || slice_starts(*rest, SLICE("GMT")) ? 3
		   : slice_starts(*rest, SLICE("Z"))                                      ? 1
											  : 0;

	if (!n)
		return false;
	parts->zone_s = 0;
	*rest = slice_skip(*rest, n);
	return true;
}

static int two_digits(struct slice text, size_t at)
{
	if (at + 2 > text.n || !is_digit(text.p[at]) || !is_digit(text.p[at + 1]))
		return -1;
	return (text.p[at] - '0') * 10 + (text.p[at + 1] - '0');
}

/* Z, UTC, GMT, +hh, +hhmm, +hh:mm */
static bool read_offset(const struct date_field *f, bool exact, struct slice *rest,
			struct date_parts *parts)
{
	int hours = two_digits(*rest, 1), minutes;
	size_t used = 3;

	(void)f;
	(void)exact;
	if (read_utc_name(rest, parts)) {
		parts->seen |= DATE_ZONE;
		return true;
	}
	if (hours < 0 || hours > 15 || (rest->p[0] != '+' && rest->p[0] != '-'))
		return false;
	used += used < rest->n && rest->p[used] == ':';
	minutes = two_digits(*rest, used);
	if (minutes > 59)
		return false;
	used = minutes < 0 ? 3 : used + 2;
	parts->zone_s = (hours * 60 + (minutes < 0 ? 0 : minutes)) * (rest->p[0] == '-' ? -60 : 60);
	parts->seen |= DATE_ZONE;
	*rest = slice_skip(*rest, used);
	return true;
}

/* A name of three to five capitals; only those of UTC are known, others mean local time. */
static bool read_zone_name(const struct date_field *f, bool exact, struct slice *rest,
			   struct date_parts *parts)
{
	struct slice utc = *rest;
	size_t n = 0;

	(void)exact;
	while (n < rest->n && n < f->max && rest->p[n] >= 'A' && rest->p[n] <= 'Z')
		n++;
	if (n < f->min && !(n == 1 && rest->p[0] == 'Z'))
		return false;
	if (read_utc_name(&utc, parts) && utc.n == rest->n - n)
		parts->seen |= DATE_ZONE;
	*rest = slice_skip(*rest, n);
	return true;
}

/* 10 or 11 digits and a fraction. */
static bool read_epoch(const struct date_field *f, bool exact, struct slice *rest,
		       struct date_parts *parts)
{
	size_t n = 0, k;
	int64_t value = 0;

	(void)f;
	(void)exact;
	for (; n < rest->n && n < 12 && is_digit(rest->p[n]); n++)
		value = value * 10 + (rest->p[n] - '0');
	if (n < 10 || n > 11)
		return false;
	for (k = n + 1;
	     n < rest->n && rest->p[n] == '.' && k < rest->n && k - n <= 9 && is_digit(rest->p[k]);)
		k++;
	parts->epoch_s = value;
	*rest = slice_skip(*rest, k > n + 1 ? k : n);
	return true;
}

#define AT(member) offsetof(struct date_parts, member)
static const struct date_field fields[] = {
	{'Y', 4, 4, false, 1970, 2262, AT(year), DATE_YEAR, read_number},
	{'y', 2, 2, false, 0, 99, AT(year), DATE_YEAR, read_short_year},
	{'m', 1, 2, false, 1, 12, AT(month), DATE_MONTH, read_number},
	{'b', 3, 3, false, 0, 0, 0, DATE_MONTH, read_month_name},
	{'d', 1, 2, true, 1, 31, AT(day), DATE_DAY, read_number},
	{'a', 3, 3, false, 0, 0, 0, 0, read_day_name},
	{'H', 1, 2, false, 0, 23, AT(hour), DATE_HOUR, read_number},
	{'k', 1, 2, true, 0, 23, AT(hour), DATE_HOUR, read_number},
	{'l', 1, 2, true, 1, 12, AT(hour), DATE_HOUR, read_number},
	{'M', 1, 2, false, 0, 59, AT(minute), 0, read_number},
	{'S', 1, 2, false, 0, 60, AT(second), 0, read_number},
	{'f', 1, 9, false, 0, 0, 0, 0, read_fraction},
	{'p', 2, 2, false, 0, 0, 0, DATE_PM, read_pm},
	{'z', 1, 6, false, 0, 0, 0, 0, read_offset},
	{'Z', 3, 5, false, 0, 0, 0, 0, read_zone_name},
};
#undef AT
static const struct date_field epoch_field = {'s', 10, 21, false, 0, 0, 0, DATE_EPOCH, read_epoch};

/* ---- compiling ---- */

struct build {
	const struct text_at *pattern;
	struct slice rest;
	struct date_format *f;
	struct error *err;
	unsigned opened[NEST_MAX], depth; /* operations that began a (?: */
};

static int refuse(const struct build *b, struct slice part)
{
	char shown[128];

	return error_at(b->err, ERROR_CONFIG, b->pattern->file, b->pattern->line,
			"datepattern: this version does not know '%s'",
			tags_show(shown, sizeof shown, part));
}

static int add(struct build *b, struct date_op op)
{
	if (b->f->nops == DATEFORMAT_OPS_MAX)
		return error_at(b->err, ERROR_CONFIG, b->pattern->file, b->pattern->line,
				"datepattern is too long");
	b->f->ops[b->f->nops++] = op;
	return 0;
}

static int add_char(struct build *b, char c)
{
	struct date_op op = {.kind = c == ' ' ? OP_BLANKS : OP_SET, .count = 1};

	op.set[0] = c;
	return add(b, op);
}

/* Makes the operations from `first` on optional. */
static int make_optional(struct build *b, unsigned first)
{
	unsigned n = b->f->nops - first;
	int r = add(b, (struct date_op){.kind = OP_OPTIONAL});

	if (r < 0)
		return r;
	memmove(&b->f->ops[first + 1], &b->f->ops[first], n * sizeof b->f->ops[0]);
	b->f->ops[first] = (struct date_op){.kind = OP_OPTIONAL, .count = (uint8_t)n};
	return 0;
}

/* %X, %ExX, %% */
static int percent(struct build *b)
{
	bool exact = slice_starts(b->rest, SLICE("%Ex"));
	size_t letter_at = exact ? 3 : 1;
	char letter = letter_at < b->rest.n ? b->rest.p[letter_at] : 0;
	struct slice whole = slice_head(b->rest, letter_at + 1);

	b->rest = slice_skip(b->rest, letter_at + 1);
	if (letter == '%' && !exact)
		return add_char(b, '%');
	for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
		if (fields[k].letter != letter)
			continue;
		b->f->fields |= fields[k].part;
		return add(b, (struct date_op){.kind = fields[k].read == read_number ? OP_NUMBER
										     : OP_FIELD,
					       .exact = exact,
					       .field = &fields[k]});
	}
	return refuse(b, whole);
}

/* [T ] and [-/.]: plain characters, no ranges. */
static int set(struct build *b)
{
	struct slice whole = slice_head(b->rest, slice_find(b->rest, ']') + 1);
	struct date_op op = {.kind = OP_SET};

	for (size_t k = 1; k + 1 < whole.n; k++) {
		char c = whole.p[k];

		if (c == '\\' && k + 2 < whole.n && !is_word(whole.p[k + 1]))
			c = whole.p[++k];
		else if (c == '\\' || c == '^' || c == '[' ||
			 (c == '-' && k > 1 && k + 2 < whole.n))
			return refuse(b, whole);
		if (op.count == DATEFORMAT_SET_MAX)
			return refuse(b, whole);
		op.set[op.count++] = c;
	}
	if (!op.count || whole.p[whole.n - 1] != ']')
		return refuse(b, whole);
	b->rest = slice_skip(b->rest, whole.n);
	return add(b, op);
}

static int braces(struct build *b)
{
	struct slice whole = slice_head(b->rest, slice_find(b->rest, '}') + 1);

	if (!slice_eq_str(whole, "{EPOCH}"))
		return refuse(b, whole);
	b->rest = slice_skip(b->rest, whole.n);
	b->f->fields |= DATE_EPOCH;
	return add(b, (struct date_op){.kind = OP_FIELD, .field = &epoch_field});
}

static int open_group(struct build *b)
{
	if (!slice_starts(b->rest, SLICE("(?:")) || b->depth == NEST_MAX)
		return refuse(b, b->rest);
	b->opened[b->depth++] = b->f->nops;
	b->rest = slice_skip(b->rest, 3);
	return 0;
}

static int close_group(struct build *b)
{
	if (!b->depth || !slice_starts(b->rest, SLICE(")?")))
		return refuse(b, slice_head(b->rest, 2));
	b->rest = slice_skip(b->rest, 2);
	return make_optional(b, b->opened[--b->depth]);
}

static int escaped(struct build *b)
{
	char c = b->rest.n > 1 ? b->rest.p[1] : 'x';

	if (is_word(c))
		return refuse(b, slice_head(b->rest, 2));
	b->rest = slice_skip(b->rest, 2);
	return add_char(b, c);
}

static int atom(struct build *b)
{
	char c = b->rest.p[0];

	switch (c) {
	case '%':
		return percent(b);
	case '\\':
		return escaped(b);
	case '[':
		return set(b);
	case '{':
		return braces(b);
	default:
		if (strchr(".*+?|$^", c))
			return refuse(b, slice_head(b->rest, 2));
		b->rest = slice_skip(b->rest, 1);
		return add_char(b, c);
	}
}

static int part(struct build *b)
{
	unsigned first = b->f->nops;
	int r;

	if (b->rest.p[0] == '(')
		return open_group(b);
	if (b->rest.p[0] == ')')
		return close_group(b);
	r = atom(b);
	if (r < 0 || !slice_starts(b->rest, SLICE("?")))
		return r;
	b->rest = slice_skip(b->rest, 1);
	return make_optional(b, first);
}

static unsigned op_min(const struct date_op *op)
{
	return op->field ? op->field->min : op->kind == OP_OPTIONAL ? 0 : 1;
}

static unsigned op_max(const struct date_op *op)
{
	if (op->field)
		return op->field->max;
	return op->kind == OP_OPTIONAL ? 0 : op->kind == OP_BLANKS ? BLANKS_MAX : 1;
}

/* The first ':' that every match has, else the first such other mark, and its distance from the
 * start. */
static void find_anchor(struct date_format *f)
{
	unsigned min = 0, max = 0, optional_end = 0;

	f->anchor = -1;
	for (unsigned i = 0; i < f->nops && max - min <= FREE_ANCHOR; i++) {
		const struct date_op *op = &f->ops[i];
		bool sure = i >= optional_end;

		if (op->kind == OP_OPTIONAL && i + 1 + op->count > optional_end)
			optional_end = i + 1 + op->count;
		if (sure && op->kind == OP_SET && op->count == 1 &&
		    (op->set[0] == ':' || f->anchor < 0)) {
			f->anchor = (unsigned char)op->set[0];
			f->anchor_min = min;
			f->anchor_max = max;
			f->anchor_digit = i + 1 < f->nops && f->ops[i + 1].kind == OP_NUMBER;
			if (op->set[0] == ':')
				return;
		}
		min += sure ? op_min(op) : 0;
		max += op_max(op);
	}
}

/* Year or nothing, month and day or nothing: other mixtures name no time. */
static int check_fields(const struct build *b)
{
	unsigned have = b->f->fields, day = have & (DATE_MONTH | DATE_DAY);

	if (have & DATE_EPOCH)
		return 0;
	if (day == (DATE_MONTH | DATE_DAY) ||
	    (day == 0 && !(have & DATE_YEAR) && (have & DATE_HOUR)))
		return 0;
	return error_at(b->err, ERROR_CONFIG, b->pattern->file, b->pattern->line,
			"datepattern names no time: it needs month and day, an hour, or EPOCH");
}

static void begin(struct build *b)
{
	static const struct slice near = {"{^LN-BEG}", 9};

	b->f->begin = DATE_ANYWHERE;
	if (slice_starts(b->rest, near)) {
		b->f->begin = DATE_NEAR_START;
		b->rest = slice_skip(b->rest, near.n);
	} else if (slice_starts(b->rest, SLICE("^"))) {
		b->f->begin = DATE_AT_START;
		b->rest = slice_skip(b->rest, 1);
	}
}

int date_format_compile(const struct text_at *pattern, struct date_format *ret_format,
			struct error *err)
{
	struct build b = {
		.pattern = pattern, .rest = slice_str(pattern->text), .f = ret_format, .err = err};
	int r = 0;

	*ret_format = (struct date_format){0};
	b.rest = slice_trim(b.rest);
	begin(&b);
	if (slice_eq_str(b.rest, "EPOCH")) {
		if (ret_format->begin == DATE_ANYWHERE)
			ret_format->begin = DATE_EPOCH_STYLE;
		b.rest = SLICE("{EPOCH}");
	}
	if (slice_eq_str(b.rest, "LEPOCH") || slice_eq_str(b.rest, "TAI64N"))
		return refuse(&b, b.rest);
	while (b.rest.n && r == 0)
		r = part(&b);
	if (r < 0)
		return r;
	if (b.depth)
		return refuse(&b, SLICE("(?: without )?"));
	r = check_fields(&b);
	find_anchor(ret_format);
	ret_format->digit_first =
		ret_format->ops[0].kind == OP_NUMBER || ret_format->ops[0].field == &epoch_field;
	return r;
}

/* ---- matching ---- */

static bool in_set(const struct date_op *op, char c)
{
	for (unsigned k = 0; k < op->count; k++)
		if (op->set[k] == c)
			return true;
	return false;
}

static bool blanks(struct slice *rest)
{
	size_t n = 0;

	while (n < rest->n && n < BLANKS_MAX && (rest->p[n] == ' ' || rest->p[n] == '\t'))
		n++;
	*rest = slice_skip(*rest, n);
	return n > 0;
}

static bool step(const struct date_op *op, struct slice *rest, struct date_parts *parts)
{
	if (op->field) {
		if (op->kind == OP_NUMBER ? !read_number(op->field, op->exact, rest, parts)
					  : !op->field->read(op->field, op->exact, rest, parts))
			return false;
		parts->seen |= op->field->part;
		return true;
	}
	if (op->kind == OP_BLANKS)
		return blanks(rest);
	if (!rest->n || !in_set(op, rest->p[0]))
		return false;
	*rest = slice_skip(*rest, 1);
	return true;
}

/* A date does not end inside a word. */
static bool ends_free(struct slice rest)
{
	return !rest.n || !is_word(rest.p[0]) || !is_word(rest.p[-1]);
}

static bool run(const struct date_op *ops, unsigned n, bool last, struct slice *rest,
		struct date_parts *parts);

/* Takes the n operations when they fit, else leaves everything as it was. */
static void run_optional(const struct date_op *ops, unsigned n, bool last, struct slice *rest,
			 struct date_parts *parts)
{
	struct slice before = *rest;
	struct date_parts kept;

	/* The commonest case first: it does not even begin. */
	if (ops[0].kind == OP_SET && !(rest->n && in_set(&ops[0], rest->p[0])))
		return;
	kept = *parts;
	if (!run(ops, n, last, rest, parts) || (last && !ends_free(*rest))) {
		*rest = before;
		*parts = kept;
	}
}

/* Runs n operations; `last` when the program ends with them. Optional parts nest at most NEST_MAX
 * deep. */
static bool run(const struct date_op *ops, unsigned n, bool last, struct slice *rest,
		struct date_parts *parts)
{
	for (unsigned i = 0; i < n; i++) {
		if (ops[i].kind == OP_OPTIONAL) {
			run_optional(&ops[i + 1], ops[i].count, last && i + 1 + ops[i].count == n,
				     rest, parts);
			i += ops[i].count;
		} else if (!step(&ops[i], rest, parts)) {
			return false;
		}
	}
	return true;
}

static bool match_at(const struct date_format *f, struct slice line, size_t start,
		     struct slice *ret_text, struct date_parts *ret_parts)
{
	struct slice rest = slice_skip(line, start);

	if (!rest.n || (f->digit_first && !is_digit(rest.p[0]) && rest.p[0] != ' '))
		return false;
	if (start > 0 && is_word(rest.p[0]) && is_word(rest.p[-1]))
		return false;
	*ret_parts = (struct date_parts){0};
	if (!run(f->ops, f->nops, true, &rest, ret_parts) || rest.p == line.p + start ||
	    !ends_free(rest))
		return false;
	*ret_text = slice_of(line.p + start, (size_t)(rest.p - (line.p + start)));
	return true;
}

static bool find_near_start(const struct date_format *f, struct slice line, struct slice *ret_text,
			    struct date_parts *ret_parts)
{
	for (size_t start = 0; start <= 2 && start < line.n; start++) {
		if (start > 0 && is_word(line.p[start - 1]))
			return false;
		if (match_at(f, line, start, ret_text, ret_parts))
			return true;
	}
	return false;
}

/* The first `open` with an epoch behind it that `close` follows, and the word `before` in front. */
static bool find_enclosed(const struct date_format *f, struct slice line, size_t limit,
			  struct slice before, char open, char close, struct slice *ret_text,
			  struct date_parts *ret_parts)
{
	for (size_t i = 0; i < limit && i < line.n; i++) {
		const char *after;

		i += slice_find(slice_skip(line, i), open);
		if (i >= limit || i < before.n ||
		    memcmp(line.p + i - before.n, before.p, before.n) != 0)
			continue;
		if (!match_at(f, line, i + 1, ret_text, ret_parts))
			continue;
		after = ret_text->p + ret_text->n;
		if (after < line.p + line.n && *after == close)
			return true;
	}
	return false;
}

/* At the start of the line, "[1720118932]", or "audit(1720118932.123:7)". */
static bool find_epoch(const struct date_format *f, struct slice line, size_t limit,
		       struct slice *ret_text, struct date_parts *ret_parts)
{
	return find_near_start(f, line, ret_text, ret_parts) ||
	       find_enclosed(f, line, limit, SLICE(""), '[', ']', ret_text, ret_parts) ||
	       find_enclosed(f, line, limit, SLICE("audit"), '(', ':', ret_text, ret_parts);
}

/* All starts that put the anchor at `at`. */
static bool around_anchor(const struct date_format *f, struct slice line, size_t at, size_t limit,
			  struct slice *ret_text, struct date_parts *ret_parts)
{
	size_t first = at > f->anchor_max ? at - f->anchor_max : 0;

	if (at < f->anchor_min)
		return false;
	for (size_t start = first; start <= at - f->anchor_min && start < limit; start++)
		if (match_at(f, line, start, ret_text, ret_parts))
			return true;
	return false;
}

static bool find_anywhere(const struct date_format *f, struct slice line, size_t limit,
			  struct slice *ret_text, struct date_parts *ret_parts)
{
	struct slice head = slice_head(line, limit + f->anchor_max);

	if (f->anchor < 0) {
		for (size_t start = 0; start < line.n && start < limit; start++)
			if (match_at(f, line, start, ret_text, ret_parts))
				return true;
		return false;
	}
	for (size_t at = 0; at < head.n; at++) {
		char next;

		at += slice_find(slice_skip(head, at), (char)f->anchor);
		next = at + 1 < line.n ? line.p[at + 1] : 0;
		if (at >= head.n || (f->anchor_digit && !is_digit(next) && next != ' '))
			continue;
		if (around_anchor(f, line, at, limit, ret_text, ret_parts))
			return true;
	}
	return false;
}

bool date_format_find(const struct date_format *f, struct slice line, size_t limit,
		      struct slice *ret_text, struct date_parts *ret_parts)
{
	switch (f->begin) {
	case DATE_AT_START:
		return match_at(f, line, 0, ret_text, ret_parts);
	case DATE_NEAR_START:
		return find_near_start(f, line, ret_text, ret_parts);
	case DATE_EPOCH_STYLE:
		return find_epoch(f, line, limit, ret_text, ret_parts);
	case DATE_ANYWHERE:
		return find_anywhere(f, line, limit, ret_text, ret_parts);
	}
	return false;
}
