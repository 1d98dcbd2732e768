/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The failregex dialect (fail2ban's tags around Python's `re`) as PCRE2 10.42 text.
 *
 * Tags:   <HOST> <ADDR> <IP4> <IP6> <DNS> <CIDR> <SUBNET>, the self-closed <F-ID/> <F-PORT/>
 * <F-IP4/> <F-IP6/> <F-ADDR/> <F-DNS/> <F-CIDR/> <F-SUBNET/>, and <F-NAME>..</F-NAME> for any
 * capital NAME: a group in lower case (ID -> fid, PORT -> fport). Other <words> stay literal text.
 *         <HOST> and friends give the groups ip4, ip6, dns, cidr. Address digits are ASCII, an IPv6
 *         address may carry a zone (%eth0), and an IPv4 address is taken whole or not at all: a
 * text such as 192.0.2.1234 never gives 192.0.2.123. <HOST> does not try an address as a name
 *         again, because that second try is the main cost of a failing match.
 * Rules:  {,n} -> {0,n}; \Z -> \z; \v -> \x0b; \uXXXX and \UXXXXXXXX -> \x{..}; inline flags a, L,
 * u are dropped; `[` inside a class is literal (no POSIX classes); \s also means \x1c-\x1f.
 * Refused: escapes that Python's re does not know (\K, \Q, \C, ...), verbs such as (*CRLF), tags of
 *         the multi-line state, a closing tag without its opening one.
 *
 * A pattern is translated twice. TAGS_UNICODE is exact for all (repaired) lines. TAGS_BYTES is only
 * for lines without a byte >= 0x80, compiled without UTF: there every character above 0x7f is
 * equally absent, so it becomes \xff, one unit long, and quantifiers and class ranges keep their
 * meaning.
 */
#ifndef TAILBAN_FILTER_TAGS_H
#define TAILBAN_FILTER_TAGS_H

#include "daemon/base/error.h"
#include "daemon/base/slice.h"

#define TAGS_TEXT_MAX 65536 /* bytes of an expression as written; longer ones are refused */

enum tags_mode { TAGS_BYTES, TAGS_UNICODE };

struct tags_text {
	char *text;     /* n bytes and a terminator */
	unsigned *from; /* for each of the n + 1 offsets in text, the offset in the source */
	size_t n;
};

/* 0, or ERROR_CONFIG (err names file, line and place), or -ENOMEM. Ends with tags_free, also after
 * errors. */
int tags_translate(const struct text_at *source, enum tags_mode mode, struct tags_text *ret_text,
		   struct error *err);
void tags_free(struct tags_text *t);

/*
 * Sets "file:line: bad regular expression at offset N: REASON: '...the text up to there'" and
 * returns ERROR_CONFIG.
 */
int tags_error(struct error *err, const struct text_at *source, size_t offset, const char *reason);

/* Configuration text for an error message: escape_text, but a backslash stays one. Returns dst. */
char *tags_show(char *dst, size_t size, struct slice text);

#endif
