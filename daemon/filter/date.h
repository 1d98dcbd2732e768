/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the date of a log line and says when it was.
 *
 * Formats are small field programs, run by hand matchers. Without a datepattern these are known:
 *
 *   04/Jul/2024 20:48:52, also 04/Jul/2024:20:48:52.123 +0200      werkzeug, CLF
 *   2024-07-04 20:48:52, also with T, / or . and ,123 +02:00, Z    ISO 8601
 *   [Thu ]Jul  4 20:48:52[.123][ 2024]                             syslog, asctime
 *   1720118932[.123] at the line's start, in [] or in audit(..:    epoch
 *
 * Of several dates the leftmost counts, so text that a client sends cannot move the date of a line
 * that has its own in front. A date must stand free (no word character on either side) and begin
 * within DATE_SEARCH_MAX bytes.
 *
 * A datepattern may use %d %m %b %Y %y %H %M %S %f %z %Z %k %l %p %a %% and their exact forms %ExX,
 * {EPOCH}, plain characters, \ before a character, [abc] (plain characters), X?, (?:..)?, and in
 * front ^ or {^LN-BEG}. EPOCH alone is the epoch format above; {NONE} means that lines have no
 * date. Anything else is refused by name. Optional parts are taken when they fit, without
 * backtracking.
 *
 * Rules: without a year the latest year that is not more than 24 h ahead of now; without a day
 * today, or yesterday when that would be ahead. Without a zone local time; of an hour that occurs
 * twice the first, an hour that is left out counts on from the one before. A zone name other than
 * UTC, GMT and Z is taken as local time. Dates that do not exist (31 Feb, hour 25), times before
 * 1970 and years after 2262 are no dates. The time zone is asked about once for each hour of log
 * time. No malloc after date_new, which calls tzset. `now_s` and results are seconds since 1970
 * UTC.
 */
#ifndef TAILBAN_FILTER_DATE_H
#define TAILBAN_FILTER_DATE_H

#include "daemon/base/error.h"
#include "daemon/base/slice.h"

#define DATE_SEARCH_MAX 1024

struct date;

struct date_hit {
	size_t start, n; /* the date's text in the line: what is cut out before matching */
	int64_t time_s;
};

/* npatterns = 0: the built-in formats. 0, -ENOMEM, or ERROR_CONFIG with file, line, bad part. */
int date_new(const struct text_at *patterns, size_t npatterns, struct date **ret_date,
	     struct error *err);
void date_free(struct date *d);

/* The date of a line, if it has one. */
bool date_find(struct date *d, struct slice line, int64_t now_s, struct date_hit *ret_hit);

#endif
