/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One regular expression of the failregex dialect (tags.h), compiled by PCRE2 with its JIT. The
 * only part of the tree that knows PCRE2.
 *
 * A pattern exists twice. The bytes copy serves lines of ASCII without \x1c-\x1f, for which it is
 * exact and 1.5 to 1.8 times faster; the Unicode copy (UTF and UCP) serves all others and is
 * compiled when the first such line comes. Invalid UTF-8 is matched as U+FFFD, results are given in
 * the bytes of the original. Only \n is a line end; the subject ends with one, as in fail2ban.
 *
 * Cost is bounded. A match may use 10,000 steps of PCRE2's match limit (all real hits of fail2ban's
 * corpus need less than 3,000; the worst attack on 8 KiB takes 0.6 ms). If it runs into that, it is
 * tried once more with 1,000,000, so that an expensive line is no cloak, as long as such retries
 * took less than 50 ms of CPU a second in this process (a token bucket that may go into debt by one
 * retry, about 5 ms). What still fails is PATTERN_GAVE_UP: counted by the caller, and never a
 * match. The JIT stack is 1 MiB.
 *
 * Scratch memory, limits and the retry budget are one set a process, made with the first pattern
 * and freed with the last. Not for use by several threads. The budget reads the clocks itself,
 * because it measures CPU and not the time of the log; nothing else here does. Matching does not
 * allocate (but see above: the first non-ASCII line of a pattern; and PCRE2 without JIT may).
 */
#ifndef TAILBAN_FILTER_PATTERN_H
#define TAILBAN_FILTER_PATTERN_H

#include "daemon/base/error.h"
#include "daemon/base/slice.h"

#define PATTERN_SUBJECT_MAX 8192 /* longest raw subject, without its \n */

struct pattern;

/* A line made ready for matching; cheap to make, valid until the next pattern_subject_init. */
struct pattern_subject {
	struct slice raw;  /* the caller's bytes; raw.p[raw.n] is '\n' */
	struct slice text; /* what PCRE2 sees: raw, or its repaired copy */
	bool unicode;
};

enum pattern_result { PATTERN_NO, PATTERN_YES, PATTERN_GAVE_UP };

/* 0, -ENOMEM, or ERROR_CONFIG with file, line and position of the fault. The source must outlive
 * the pattern. */
int pattern_new(const struct text_at *source, struct pattern **ret_pattern, struct error *err);
void pattern_free(struct pattern *p);

/* raw.p[raw.n] must be '\n', raw.n <= PATTERN_SUBJECT_MAX; raw stays the caller's and unchanged
 * while in use. */
void pattern_subject_init(struct pattern_subject *s, struct slice raw);

/* Searches s for p (anchored only if the expression says so). */
enum pattern_result pattern_match(struct pattern *p, const struct pattern_subject *s);

/*
 * A group of the last PATTERN_YES of p on s, as bytes of s->raw (without the final \n). p is NULL
 * when the group took no part. Valid for as long as raw.
 */
struct slice pattern_group(const struct pattern *p, const struct pattern_subject *s,
			   unsigned number);

/* Named groups in alphabetical order: count, and name (the pattern's) and number of each. */
unsigned pattern_names(const struct pattern *p);
const char *pattern_name(const struct pattern *p, unsigned i, unsigned *ret_number);

/* True when the patterns that exist run as machine code (PCRE2 has a JIT and got executable
 * memory). */
bool pattern_jit(void);

#endif
