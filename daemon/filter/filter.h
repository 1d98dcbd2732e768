/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One filter: decides for a log line whether it is an offence, whose, and when.
 *
 * Order of a line, as in fail2ban: the date is found and its text cut out (`[04/Jul/2024 20:48:52]`
 * leaves `[]`), prefregex must match and may narrow the text to its <F-CONTENT>, then failregex in
 * order, the first match wins. ignoreregex is asked first when there are fewer of them than
 * failregex minus two, else only after a match. Lines are bytes: NUL, ESC, CR and invalid UTF-8 are
 * allowed, only the caller's \n ended the line. Bytes above FILTER_LINE_MAX are not looked at (the
 * head is kept), trailing \r are dropped. The dialect is described in tags.h, dates in date.h,
 * match limits in pattern.h.
 *
 * Ownership: the spec and its strings are the caller's and must outlive the filter. Slices in a
 * match point into the filter and are valid until the next filter_line of that filter; those of
 * filter_partner until the next filter_partner. A filter keeps nothing from line to line but
 * counters and the date's cache. After filter_new a line costs no malloc, with one exception: the
 * first line with a byte >= 0x80 (or \x1c-\x1f) that reaches a regex compiles its Unicode copy.
 *
 * Not built yet, refused by name at load: maxlines above 1, <SKIPLINES>, <F-MLFID>, <F-MLFFORGET>,
 * <F-MLFGAINED>.
 *
 * Times are seconds since 1970 UTC. filter_new calls tzset; a log time without a zone is local
 * time.
 */
#ifndef TAILBAN_FILTER_FILTER_H
#define TAILBAN_FILTER_FILTER_H

#include "daemon/base/addr.h"
#include "daemon/base/error.h"
#include "daemon/base/slice.h"

#define FILTER_FIELDS_MAX 16  /* a filter with more named groups in one expression is refused */
#define FILTER_LINE_MAX 8192  /* bytes of a line that are matched */
#define FILTER_REGEX_MAX 4096 /* expressions of one kind */

/* What a filter file says. Expressions are fail2ban's dialect, parameters already filled in. */
struct filter_spec {
	const char *name;
	struct text_at prefregex; /* .text NULL = none */
	const struct text_at *failregex, *ignoreregex, *datepattern, *partnerregex;
	size_t nfail, nignore, ndate, npartner;
	unsigned maxlines; /* 0 and 1 mean line by line */
};

enum filter_verdict {
	FILTER_MISS,    /* no failregex matched */
	FILTER_IGNORED, /* an ignoreregex matched */
	FILTER_QUIET,   /* matched with <F-NOFAIL>: known, no offence */
	FILTER_FAIL     /* an offence */
};

struct filter_field {
	const char *name; /* lower case, the filter's */
	struct slice value;
};

struct filter_match {
	enum filter_verdict verdict;
	int regex; /* index of the failregex that matched, -1 = none */
	/* False with FILTER_FAIL: id is no address, but a name or not strictly written. */
	bool has_addr;
	bool has_time; /* a date was found; on lines of any verdict */
	/*
	 * An expression ran into its match limit: a failregex then counts as no match (another one
	 * may still match), prefregex or ignoreregex make the line a miss.
	 */
	bool gave_up;
	struct addr addr; /* a network only when the filter has <CIDR> or <SUBNET> */
	struct slice id;  /* text of the first set group of fid, ip4, ip6, dns */
	int64_t time_s;
	/* Named groups that took part, those of prefregex included. */
	struct filter_field fields[FILTER_FIELDS_MAX];
	unsigned nfields;
};

struct filter_regex_stats {
	uint64_t hits;       /* lines it decided */
	uint64_t limit_hits; /* lines it gave up on */
};

struct filter_stats {
	uint64_t lines, dated, ignored, quiet, failed;
	uint64_t overlong;   /* lines cut to FILTER_LINE_MAX */
	uint64_t limit_hits; /* all expressions together, prefregex and ignoreregex included */
	size_t nfail;
	const struct filter_regex_stats *fail; /* nfail of them, the filter's */
};

struct filter;

/*
 * 0, or ERROR_CONFIG with file, line and the offending part in err: a bad expression (position
 * shown), one without an address or id, an empty one, an unknown date field, a part that is not
 * built yet.
 */
int filter_new(const struct filter_spec *spec, struct filter **ret_filter, struct error *err);
void filter_free(struct filter *f);

/* Judges one line (without its \n). *ret is always filled. */
void filter_line(struct filter *f, struct slice line, int64_t now_s, struct filter_match *ret);

/* The field's value, or SLICE_NONE. */
struct slice filter_field(const struct filter_match *m, const char *name);

/*
 * Is the line the second one of an offence that a failregex already counted (partnerregex)? The
 * address is required; ret_code is <F-CODE> or SLICE_NONE. Either result pointer may be NULL.
 */
bool filter_partner(struct filter *f, struct slice line, struct addr *ret_addr,
		    struct slice *ret_code);

/* Only the date of a line: for the binary search in an old log. */
bool filter_date(struct filter *f, struct slice line, int64_t now_s, int64_t *ret_time_s);

const struct filter_stats *filter_stats(const struct filter *f);

#endif
