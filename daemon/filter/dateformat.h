/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One date format: a field program compiled from a datepattern, and the hand matcher that runs it.
 *
 * The program is a row of operations: a set of characters, blanks, a field (%d ...), or "the next k
 * operations are optional". The matcher looks for the program's first ':' (or other fixed
 * character) by memchr and tries the few places where the date can then start, so a line whose
 * address has another length costs nothing extra. This file knows digits and names; what time they
 * mean is date.c's business.
 *
 * A format is a plain value; its pattern text is only read while compiling.
 */
#ifndef TAILBAN_FILTER_DATEFORMAT_H
#define TAILBAN_FILTER_DATEFORMAT_H

#include "daemon/base/error.h"
#include "daemon/base/slice.h"

#define DATEFORMAT_OPS_MAX 64 /* operations of one format; a longer pattern is refused */
#define DATEFORMAT_SET_MAX 8  /* characters of one [set] */

/* Bits of date_parts.seen and date_format.fields. */
enum date_part {
	DATE_YEAR = 1,
	DATE_MONTH = 2,
	DATE_DAY = 4,
	DATE_HOUR = 8,
	DATE_PM = 16,
	DATE_ZONE = 32,
	DATE_EPOCH = 64
};

struct date_parts {
	unsigned seen; /* fields that were read; minute and second are 0 when they were not */
	int year, month, day, hour, minute, second;
	int pm;     /* 0 AM, 1 PM */
	int zone_s; /* seconds east of UTC */
	int64_t epoch_s;
};

struct date_field;

struct date_op {
	uint8_t kind;  /* enum in dateformat.c */
	uint8_t count; /* characters of the set, or operations that are optional */
	bool exact;    /* %ExX: both digits, no blank */
	char set[DATEFORMAT_SET_MAX];
	const struct date_field *field;
};

enum date_begin {
	DATE_ANYWHERE,
	DATE_AT_START,    /* ^ */
	DATE_NEAR_START,  /* {^LN-BEG}: behind at most two characters that belong to no word */
	DATE_EPOCH_STYLE, /* at the start, or in [..] or audit(..: */
};

struct date_format {
	struct date_op ops[DATEFORMAT_OPS_MAX];
	unsigned nops;
	unsigned fields; /* enum date_part bits that the pattern can set */
	enum date_begin begin;
	int anchor;                      /* a character that every match holds, -1 = none */
	bool anchor_digit;               /* a digit or blank follows it */
	bool digit_first;                /* every match begins with a digit or blank */
	unsigned anchor_min, anchor_max; /* its distance from the start of the date */
};

/* 0 or ERROR_CONFIG with file, line and the offending part. */
int date_format_compile(const struct text_at *pattern, struct date_format *ret_format,
			struct error *err);

/*
 * The leftmost place in line where f matches and that begins before `limit`: start and length of
 * the date's text, and its parts. Ranges of single fields hold; whether that day exists is not
 * checked.
 */
bool date_format_find(const struct date_format *f, struct slice line, size_t limit,
		      struct slice *ret_text, struct date_parts *ret_parts);

#endif
