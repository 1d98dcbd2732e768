/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * failregex dialect to PCRE2 text: see tags.h. One walk from left to right that knows classes,
 * escapes and group heads; it runs twice, first to measure, then to write. Fails with ERROR_CONFIG
 * at the first part that has no meaning here; what PCRE2 itself would refuse is left to PCRE2.
 */
#include "daemon/filter/tags.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/escape.h"

#define OPEN_MAX 32
#define SHOWN 48 /* bytes of the expression shown in an error */

#define IP4_TEXT "(?:[0-9]{1,3}\\.){3}[0-9]{1,3}+(?![0-9])"
#define IP4 "(?:::[fF]{4}:)?(?P<ip4>" IP4_TEXT ")"
#define IP6                                                                                        \
	"(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):)"                      \
	"(?:%[0-9A-Za-z_.~-]{1,15})?)"
#define DNS "(?P<dns>[\\w\\-.^_]*\\w)"
#define CIDR "(?P<cidr>[0-9]+)"
#define ADDR "\\[?(?:" IP4 "|" IP6 ")\\]?"

static const struct {
	const char *tag, *regex;
} fixed_tags[] = {
	{"HOST", "(?:" ADDR "|(?!" IP4_TEXT "(?![\\w\\-.^]))" DNS ")"},
	{"ADDR", "(?:" ADDR ")"},
	{"F-ADDR/", "(?:" ADDR ")"},
	{"IP4", IP4},
	{"F-IP4/", IP4},
	{"IP6", IP6},
	{"F-IP6/", IP6},
	{"DNS", DNS},
	{"F-DNS/", DNS},
	{"CIDR", CIDR},
	{"F-CIDR/", CIDR},
	{"SUBNET", "\\[?(?:" IP4 "|" IP6 ")(?:/" CIDR ")?\\]?"},
	{"F-SUBNET/", "\\[?(?:" IP4 "|" IP6 ")(?:/" CIDR ")?\\]?"},
	{"F-ID/", "(?P<fid>\\S+)"},
	{"F-PORT/", "(?P<fport>\\w+)"},
};

static const char *const unbuilt_tags[] = {"SKIPLINES", "F-MLFID", "F-MLFFORGET", "F-MLFGAINED"};

struct walk {
	const struct text_at *source;
	const char *s; /* the source, n bytes */
	size_t n, i;
	enum tags_mode mode;
	bool in_class;
	unsigned opened; /* tags that are open now, innermost last */
	struct slice open[OPEN_MAX];
	struct tags_text out; /* text NULL while measuring */
	struct error *err;
};

char *tags_show(char *dst, size_t size, struct slice text)
{
	size_t n = 0;

	escape_text(dst, size, text);
	for (const char *p = dst; *p; p++) {
		if (p[0] == '\\' && p[1] == '\\')
			p++;
		dst[n++] = *p;
	}
	dst[n] = 0;
	return dst;
}

int tags_error(struct error *err, const struct text_at *source, size_t offset, const char *reason)
{
	char shown[SHOWN * ESCAPE_MAX_GROWTH + 4];
	size_t n = strlen(source->text), start;

	if (offset > n)
		offset = n;
	start = offset > SHOWN ? offset - SHOWN : 0;
	tags_show(shown, sizeof shown, slice_of(source->text + start, offset - start));
	return error_at(err, ERROR_CONFIG, source->file, source->line,
			"bad regular expression at offset %zu: %s: '%s%s'", offset, reason,
			start ? "..." : "", shown);
}

static int fail(struct walk *w, size_t offset, const char *reason)
{
	return tags_error(w->err, w->source, offset, reason);
}

static int fail_quoted(struct walk *w, struct slice quoted, const char *reason)
{
	char shown[128], text[256];

	snprintf(text, sizeof text, "%s %s", tags_show(shown, sizeof shown, quoted), reason);
	return fail(w, (size_t)(quoted.p - w->s) + quoted.n, text);
}

/* Writes n bytes that stand for the source at w->i. */
static void emit(struct walk *w, const char *text, size_t n)
{
	for (size_t k = 0; w->out.text && k < n; k++) {
		w->out.text[w->out.n + k] = text[k];
		w->out.from[w->out.n + k] = (unsigned)w->i;
	}
	w->out.n += n;
}

static void emit_str(struct walk *w, const char *text)
{
	emit(w, text, strlen(text));
}

/* Copies n source bytes as they are. */
static void copy(struct walk *w, size_t n)
{
	for (; n && w->i < w->n; n--, w->i++)
		emit(w, w->s + w->i, 1);
}

static struct slice rest(const struct walk *w)
{
	return slice_of(w->s + w->i, w->n - w->i);
}

static bool at(const struct walk *w, const char *text)
{
	return slice_starts(rest(w), slice_str(text));
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex(char c)
{
	if (is_digit(c))
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* A character given by number; the source behind it starts at `next`. */
static void emit_code_point(struct walk *w, uint32_t cp, size_t next)
{
	char text[16];

	if (cp > 0x7f && w->mode == TAGS_BYTES)
		snprintf(text, sizeof text, "\\xff");
	else
		snprintf(text, sizeof text, "\\x{%x}", cp);
	emit_str(w, text);
	w->i = next;
}

/* \xHH (Python: two digits, PCRE2: up to two), \x{H..}, \uHHHH, \UHHHHHHHH. */
static int number_escape(struct walk *w)
{
	char kind = w->s[w->i + 1];
	bool braced = kind == 'x' && w->i + 2 < w->n && w->s[w->i + 2] == '{';
	size_t want = kind == 'u' ? 4 : braced || kind == 'U' ? 8 : 2;
	size_t k = w->i + 2 + braced, digits = 0;
	uint32_t cp = 0;

	for (; k < w->n && digits < want && hex(w->s[k]) >= 0; k++, digits++)
		cp = cp << 4 | (uint32_t)hex(w->s[k]);
	if (braced && (k >= w->n || w->s[k++] != '}' || !digits))
		return fail(w, k, "unfinished \\x{...}");
	if (kind != 'x' && digits != want)
		return fail(w, k, "incomplete escape of a character by number");
	if (cp > 0x10ffff)
		return fail(w, k, "there is no such character");
	emit_code_point(w, cp, k);
	return 0;
}

/* Python's white space has \x1c-\x1f, PCRE2's has not. Byte copies never see these characters. */
static void space_escape(struct walk *w)
{
	bool negated = w->s[w->i + 1] == 'S';

	if (w->mode == TAGS_BYTES || (w->in_class && negated)) {
		copy(w, 2);
		return;
	}
	emit_str(w, w->in_class ? "\\s\\x1c-\\x1f"
		    : negated   ? "[^\\s\\x1c-\\x1f]"
				: "[\\s\\x1c-\\x1f]");
	w->i += 2;
}

static int escape(struct walk *w)
{
	char c = w->i + 1 < w->n ? w->s[w->i + 1] : 0;
	const char *same = "abBAdDfnrtwWz", *replaced = NULL;

	if (!c)
		return fail(w, w->n, "a backslash at the end");
	if (c == 'x' || c == 'u' || c == 'U')
		return number_escape(w);
	if (c == 's' || c == 'S') {
		space_escape(w);
		return 0;
	}
	if (c == 'Z')
		replaced = "\\z";
	else if (c == 'v')
		replaced = "\\x0b";
	else if (is_letter(c) && !strchr(same, c))
		return fail_quoted(w, slice_of(w->s + w->i, 2), "is no escape of this dialect");
	if (replaced) {
		emit_str(w, replaced);
		w->i += 2;
	} else if ((unsigned char)c >= 0x80) {
		w->i++; /* never special: the backslash adds nothing */
	} else {
		copy(w, 2);
	}
	return 0;
}

/* One UTF-8 character written as it is; broken ones are reported by the Unicode copy's compiler. */
static void non_ascii(struct walk *w)
{
	size_t n = 1;

	while (w->i + n < w->n && ((unsigned char)w->s[w->i + n] & 0xc0) == 0x80)
		n++;
	if (w->mode == TAGS_UNICODE) {
		copy(w, n);
		return;
	}
	emit_str(w, "\\xff");
	w->i += n;
}

static void class_start(struct walk *w)
{
	w->in_class = true;
	copy(w, 1);
	if (w->i < w->n && w->s[w->i] == '^')
		copy(w, 1);
	if (w->i < w->n && w->s[w->i] == ']') {
		emit_str(w, "\\]");
		w->i++;
	}
}

static void class_char(struct walk *w)
{
	if (w->s[w->i] == '[') {
		emit_str(w, "\\[");
		w->i++;
		return;
	}
	w->in_class = w->s[w->i] != ']';
	copy(w, 1);
}

/* (?iu) and (?iu:...): without the flags that only Python has. False when it is something else. */
static bool inline_flags(struct walk *w)
{
	size_t k = w->i + 2, kept = 0;
	char flags[16], end;

	for (; k < w->n && (is_letter(w->s[k]) || w->s[k] == '-'); k++) {
		if (strchr("aLu", w->s[k]))
			continue;
		if (kept == sizeof flags)
			return false;
		flags[kept++] = w->s[k];
	}
	end = k < w->n ? w->s[k] : 0;
	if (k == w->i + 2 || (end != ')' && end != ':'))
		return false;
	if (kept == 1 && flags[0] == '-')
		kept = 0;
	if (kept || end == ':') {
		emit_str(w, "(?");
		emit(w, flags, kept);
		emit(w, &end, 1);
	}
	w->i = k + 1;
	return true;
}

/* The head of a group; names in <> must not be taken for tags. */
static int group(struct walk *w)
{
	size_t close;

	if (at(w, "(*"))
		return fail(w, w->i + 2, "verbs are not part of this dialect");
	if (at(w, "(?#")) {
		close = slice_find(rest(w), ')');
		w->i += close < w->n - w->i ? close + 1 : w->n - w->i;
		return 0;
	}
	if (at(w, "(?P<") || (at(w, "(?<") && !at(w, "(?<=") && !at(w, "(?<!"))) {
		close = slice_find(rest(w), '>');
		copy(w, close + 1);
		return 0;
	}
	if (at(w, "(?") && inline_flags(w))
		return 0;
	copy(w, at(w, "(?<") ? 3 : 1);
	return 0;
}

/* x{,n} and x{,} */
static void brace(struct walk *w)
{
	size_t k = w->i + 2;

	if (!at(w, "{,")) {
		copy(w, 1);
		return;
	}
	while (k < w->n && is_digit(w->s[k]))
		k++;
	copy(w, 1);
	if (k < w->n && w->s[k] == '}')
		emit(w, "0", 1);
}

/* </F-NAME/> at w->i; the empty slice when this is no tag. */
static struct slice tag_at(const struct walk *w)
{
	size_t k = w->i + 1, start;

	if (k < w->n && w->s[k] == '/')
		k++;
	start = k;
	while (k < w->n &&
	       (is_letter(w->s[k]) || is_digit(w->s[k]) || w->s[k] == '_' || w->s[k] == '-'))
		k++;
	if (k == start)
		return SLICE_NONE;
	if (k < w->n && w->s[k] == '/')
		k++;
	return k < w->n && w->s[k] == '>' ? slice_of(w->s + w->i, k + 1 - w->i) : SLICE_NONE;
}

static const char *fixed_regex(struct slice inner)
{
	for (size_t k = 0; k < sizeof fixed_tags / sizeof *fixed_tags; k++)
		if (slice_eq_str(inner, fixed_tags[k].tag))
			return fixed_tags[k].regex;
	return NULL;
}

static bool is_unbuilt(struct slice inner)
{
	for (size_t k = 0; k < sizeof unbuilt_tags / sizeof *unbuilt_tags; k++)
		if (slice_eq_str(inner, unbuilt_tags[k]))
			return true;
	return false;
}

/* F- and capitals, digits, _ as in <F-ALT_USER_1>. */
static bool is_custom(struct slice inner)
{
	if (inner.n < 3 || !slice_starts(inner, SLICE("F-")))
		return false;
	for (size_t k = 2; k < inner.n; k++)
		if (!(inner.p[k] >= 'A' && inner.p[k] <= 'Z') && !is_digit(inner.p[k]) &&
		    inner.p[k] != '_')
			return false;
	return true;
}

static int open_tag(struct walk *w, struct slice tag, struct slice inner)
{
	struct slice name = slice_skip(inner, 2);

	if (w->opened == OPEN_MAX)
		return fail_quoted(w, tag, "is nested too deep");
	w->open[w->opened++] = inner;
	emit_str(w, "(?P<");
	if (slice_eq_str(name, "ID") || slice_eq_str(name, "PORT"))
		emit_str(w, "f");
	for (size_t k = 0; k < name.n; k++) {
		char c = is_letter(name.p[k]) ? (char)(name.p[k] | 0x20) : name.p[k];

		emit(w, &c, 1);
	}
	emit_str(w, ">");
	w->i += tag.n;
	return 0;
}

static int close_tag(struct walk *w, struct slice tag, struct slice inner)
{
	if (!w->opened || !slice_eq(w->open[w->opened - 1], inner))
		return fail_quoted(w, tag, "closes a tag that is not open here");
	w->opened--;
	emit_str(w, ")");
	w->i += tag.n;
	return 0;
}

static int tag(struct walk *w)
{
	struct slice t = tag_at(w), inner = t.n ? slice_of(t.p + 1, t.n - 2) : SLICE_NONE;
	bool closing = inner.n && inner.p[0] == '/';
	struct slice name = closing ? slice_skip(inner, 1) : inner;
	const char *regex = fixed_regex(inner);

	if (regex) {
		emit_str(w, regex);
		w->i += t.n;
		return 0;
	}
	if (is_unbuilt(inner))
		return fail_quoted(w, t,
				   "needs the multi-line state, which this version does not have");
	if (is_custom(name))
		return closing ? close_tag(w, t, name) : open_tag(w, t, inner);
	if (slice_starts(name, SLICE("F-")))
		return fail_quoted(w, t, "is no tag of this dialect");
	copy(w, 1);
	return 0;
}

static int step(struct walk *w)
{
	char c = w->s[w->i];

	if (c == '\\')
		return escape(w);
	if ((unsigned char)c >= 0x80)
		non_ascii(w);
	else if (w->in_class)
		class_char(w);
	else if (c == '[')
		class_start(w);
	else if (c == '(')
		return group(w);
	else if (c == '<')
		return tag(w);
	else if (c == '{')
		brace(w);
	else
		copy(w, 1);
	return 0;
}

static int walk(struct walk *w)
{
	int r = 0;

	w->i = 0;
	w->out.n = 0;
	w->opened = 0;
	w->in_class = false;
	while (w->i < w->n && r == 0)
		r = step(w);
	if (r == 0 && w->opened) {
		struct slice inner = w->open[w->opened - 1];

		return fail_quoted(w, slice_of(inner.p - 1, inner.n + 2),
				   "is opened and not closed");
	}
	return r;
}

int tags_translate(const struct text_at *source, enum tags_mode mode, struct tags_text *ret_text,
		   struct error *err)
{
	struct walk w = {.source = source, .s = source->text, .mode = mode, .err = err};
	int r;

	*ret_text = (struct tags_text){0};
	w.n = strlen(source->text);
	if (slice_trim(slice_of(w.s, w.n)).n == 0)
		return error_at(err, ERROR_CONFIG, source->file, source->line,
				"empty regular expression");
	if (w.n > TAGS_TEXT_MAX)
		return fail(&w, TAGS_TEXT_MAX, "it is too long");
	r = walk(&w);
	if (r < 0)
		return r;
	ret_text->text = malloc(w.out.n + 1);
	ret_text->from = calloc(w.out.n + 1, sizeof *ret_text->from);
	if (!ret_text->text || !ret_text->from)
		return -ENOMEM;
	w.out.text = ret_text->text;
	w.out.from = ret_text->from;
	walk(&w);
	ret_text->n = w.out.n;
	ret_text->text[w.out.n] = 0;
	ret_text->from[w.out.n] = (unsigned)w.n;
	return 0;
}

void tags_free(struct tags_text *t)
{
	free(t->text);
	free(t->from);
	*t = (struct tags_text){0};
}
