/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * evidence_mask: secrets out of log lines, see evidence.h. Nothing fails.
 *
 * One pass, a character at a time, with %XX decoded (also %25XX, as in a URL inside a URL): the
 * last name is remembered, and when = or : follows a name that sounds like a secret, its value is
 * left out. In doubt too much is masked: the line is evidence of who did what, not a copy.
 */
#include "daemon/jail/evidence.h"

#define NAME_BYTES 48u /* the end of a name; more does not matter */

/* One character of the line: decoded, and what it takes raw. */
struct letter {
	char c;
	uint8_t depth; /* how often it was percent-encoded */
	size_t n;
};

struct mask {
	struct slice text;
	size_t at;
	char *dst;
	size_t size, n;
	bool cut;
	char name[NAME_BYTES];
	size_t name_n;
	bool closed; /* a quote, bracket or blank ended the name; = or : may still follow */
};

/* A name with one of these in it holds a secret. */
static const struct slice inside[] = {
	SLICE("passw"), SLICE("passphrase"), SLICE("secret"), SLICE("token"), SLICE("credential"),
};

/* A name that ends so holds a secret. */
static const struct slice ending[] = {
	SLICE("pwd"),        SLICE("pass"), SLICE("key"),  SLICE("session"), SLICE("sessionid"),
	SLICE("session_id"), SLICE("sid"),  SLICE("auth"), SLICE("jwt"),     SLICE("sig"),
	SLICE("signature"),  SLICE("otp"),  SLICE("pin"),
};

/* Headers: the value runs to the end of the line. */
static const struct slice headers[] = {SLICE("authorization"), SLICE("cookie")};

/* Schemes of Authorization whose value is one word; the scheme is left readable. */
static const struct slice schemes[] = {SLICE("basic"), SLICE("bearer"), SLICE("token"),
				       SLICE("negotiate")};

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static struct letter letter_at(struct slice text, size_t at)
{
	struct letter l = {text.p[at], 0, 1};
	size_t i = at + 1;

	if (l.c != '%')
		return l;
	while (i + 2 <= text.n && text.p[i] == '2' && text.p[i + 1] == '5' && l.depth < 8) {
		i += 2;
		l.depth++;
	}
	if (i + 2 <= text.n && hex(text.p[i]) >= 0 && hex(text.p[i + 1]) >= 0)
		return (struct letter){(char)(hex(text.p[i]) * 16 + hex(text.p[i + 1])),
				       (uint8_t)(l.depth + 1), i + 2 - at};
	return (struct letter){'%', 0, 1};
}

static void put(struct mask *m, const char *p, size_t n)
{
	size_t room = m->size - m->n;

	if (n > room) {
		n = room;
		m->cut = true;
	}
	memcpy(m->dst + m->n, p, n);
	m->n += n;
}

static struct letter peek(const struct mask *m)
{
	return letter_at(m->text, m->at);
}

static bool more(const struct mask *m)
{
	return m->at < m->text.n;
}

static void copy(struct mask *m, size_t n)
{
	put(m, m->text.p + m->at, n);
	m->at += n;
}

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

static bool name_ends(const struct mask *m, struct slice word)
{
	return m->name_n >= word.n && memcmp(m->name + m->name_n - word.n, word.p, word.n) == 0;
}

static bool name_is_header(const struct mask *m)
{
	for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
		if (name_ends(m, headers[i]))
			return true;
	return false;
}

static bool name_is_secret(const struct mask *m)
{
	for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++)
		if (memmem(m->name, m->name_n, inside[i].p, inside[i].n))
			return true;
	for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++)
		if (name_ends(m, ending[i]))
			return true;
	return false;
}

static void add_to_name(struct mask *m, char c)
{
	if (m->closed)
		m->name_n = 0;
	m->closed = false;
	if (m->name_n == NAME_BYTES) {
		memmove(m->name, m->name + NAME_BYTES / 2, NAME_BYTES / 2);
		m->name_n = NAME_BYTES / 2;
	}
	m->name[m->name_n++] = c;
}

/* Blanks and an opening quote in front of a value; returns the quote or 0. */
static char open_value(struct mask *m, bool blanks)
{
	while (blanks && more(m) && peek(m).c == ' ')
		copy(m, peek(m).n);
	if (more(m) && (peek(m).c == '"' || peek(m).c == '\'')) {
		char quote = peek(m).c;

		copy(m, peek(m).n);
		return quote;
	}
	return 0;
}

/* A CR or LF, raw or as somebody's repr() wrote it. */
static bool at_line_end(const struct mask *m)
{
	char next = m->at + 1 < m->text.n ? m->text.p[m->at + 1] : 0;
	char c = m->text.p[m->at];

	return c == '\r' || c == '\n' || (c == '\\' && (next == 'r' || next == 'n'));
}

/* Does the value go on at this letter? */
static bool in_value(const struct mask *m, struct letter l, char quote, unsigned depth)
{
	if (l.depth > depth)
		return true;
	if (quote)
		return l.c != quote;
	return l.c != '&' && l.c != '"' && (unsigned char)l.c > ' ' && !at_line_end(m);
}

static void skip_value(struct mask *m, char quote, unsigned depth)
{
	size_t start = m->at;

	while (more(m) && in_value(m, peek(m), quote, depth)) {
		/* A backslash keeps the quote behind it inside. */
		if (quote && peek(m).c == '\\' && m->at + 1 < m->text.n)
			m->at++;
		m->at += peek(m).n;
	}
	if (m->at > start)
		put(m, "***", 3);
}

static bool copy_scheme(struct mask *m)
{
	struct slice rest = slice_skip(m->text, m->at);

	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
		size_t n = schemes[i].n, same = 0;

		while (same < n && same < rest.n && lower(rest.p[same]) == schemes[i].p[same])
			same++;
		if (same == n && rest.n > n && rest.p[n] == ' ') {
			copy(m, n + 1);
			return true;
		}
	}
	return false;
}

static void skip_header(struct mask *m, char quote)
{
	size_t start;

	if (copy_scheme(m)) {
		skip_value(m, quote, 0);
		return;
	}
	start = m->at;
	while (more(m) && !at_line_end(m) && (!quote || m->text.p[m->at] != quote))
		m->at++;
	if (m->at > start)
		put(m, "***", 3);
}

/* At = or : behind a name. */
static void separator(struct mask *m, struct letter l)
{
	bool header = name_is_header(m), secret = header || name_is_secret(m);
	bool spaced = m->at && m->text.p[m->at - 1] == ' ';
	char quote;

	copy(m, l.n);
	m->name_n = 0;
	m->closed = false;
	if (!secret)
		return;
	quote = open_value(m, l.c == ':' || spaced);
	if (header)
		skip_header(m, quote);
	else
		skip_value(m, quote, l.depth);
}

size_t evidence_mask(char *dst, size_t size, struct slice text, bool *ret_cut)
{
	struct mask m = {.text = text, .dst = dst, .size = size};

	while (more(&m) && m.n < m.size) {
		struct letter l = peek(&m);

		if (l.c == '=' || l.c == ':') {
			separator(&m, l);
			continue;
		}
		if (is_name(lower(l.c)))
			add_to_name(&m, lower(l.c));
		else if (l.c == '"' || l.c == '\'' || l.c == ']' || l.c == ' ')
			m.closed = true;
		else
			m.name_n = 0;
		copy(&m, l.n);
	}
	if (ret_cut)
		*ret_cut = m.cut || more(&m);
	return m.n;
}
