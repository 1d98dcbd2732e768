/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Durations: a recursive descent over sums and products. Fails with -EINVAL for what is no duration
 * and -ERANGE for what does not fit; nesting is limited, so that no text can exhaust the stack.
 */
#include "daemon/config/times.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#define MAX_NESTING 32u
#define MAX_SECONDS 9007199254740992.0 /* 2^53: every whole number below is exact */

#define MINUTE INT64_C(60)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define WEEK (7 * DAY)
#define YEAR INT64_C(31557600) /* 365.25 days */
#define MONTH (YEAR / 12)

static const struct {
	const char *word;
	int64_t seconds;
} units[] = {
	{"s", 1},           {"ss", 1},           {"sec", 1},     {"secs", 1},     {"second", 1},
	{"seconds", 1},     {"m", MINUTE},       {"mm", MINUTE}, {"min", MINUTE}, {"mins", MINUTE},
	{"minute", MINUTE}, {"minutes", MINUTE}, {"h", HOUR},    {"hh", HOUR},    {"hou", HOUR},
	{"hour", HOUR},     {"hours", HOUR},     {"d", DAY},     {"dd", DAY},     {"da", DAY},
	{"day", DAY},       {"days", DAY},       {"w", WEEK},    {"ww", WEEK},    {"wee", WEEK},
	{"week", WEEK},     {"weeks", WEEK},     {"mo", MONTH},  {"mon", MONTH},  {"month", MONTH},
	{"months", MONTH},  {"y", YEAR},         {"yy", YEAR},   {"yea", YEAR},   {"year", YEAR},
	{"years", YEAR},
};

struct parser {
	struct slice rest;
	unsigned nesting;
};

static int sum(struct parser *p, double *ret_value);

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The next byte that is no blank, or 0 at the end (a NUL in the text reads as a byte nobody takes).
 */
static char peek(struct parser *p)
{
	while (p->rest.n && (p->rest.p[0] == ' ' || (p->rest.p[0] >= '\t' && p->rest.p[0] <= '\r')))
		p->rest = slice_skip(p->rest, 1);
	return p->rest.n ? p->rest.p[0] : 0;
}

static int number(struct parser *p, double *ret_value)
{
	double value = 0, place = 1;
	size_t digits = 0;

	for (; p->rest.n && is_digit(p->rest.p[0]); digits++, p->rest = slice_skip(p->rest, 1))
		value = value * 10 + (p->rest.p[0] - '0');
	if (p->rest.n && p->rest.p[0] == '.') {
		p->rest = slice_skip(p->rest, 1);
		for (; p->rest.n && is_digit(p->rest.p[0]);
		     digits++, p->rest = slice_skip(p->rest, 1)) {
			place /= 10;
			value += place * (p->rest.p[0] - '0');
		}
	}
	*ret_value = value;
	return digits && !(p->rest.n && p->rest.p[0] == '.') ? 0 : -EINVAL;
}

static int unit(struct parser *p, double *value)
{
	size_t n = 0;

	if (!is_letter(peek(p)))
		return 0;
	while (n < p->rest.n && is_letter(p->rest.p[n]))
		n++;
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		if (strlen(units[i].word) == n && !strncasecmp(units[i].word, p->rest.p, n)) {
			*value *= (double)units[i].seconds;
			p->rest = slice_skip(p->rest, n);
			return 0;
		}
	}
	return -EINVAL;
}

static int factor(struct parser *p, double *ret_value)
{
	char c = peek(p);
	int r;

	if (p->nesting >= MAX_NESTING)
		return -EINVAL;
	p->nesting++;
	if (c == '-' || c == '+') {
		p->rest = slice_skip(p->rest, 1);
		r = factor(p, ret_value);
		if (c == '-')
			*ret_value = -*ret_value;
	} else if (c == '(') {
		p->rest = slice_skip(p->rest, 1);
		r = sum(p, ret_value);
		if (!r && peek(p) != ')')
			r = -EINVAL;
		p->rest = slice_skip(p->rest, 1);
		if (!r)
			r = unit(p, ret_value);
	} else {
		r = number(p, ret_value);
		if (!r)
			r = unit(p, ret_value);
	}
	p->nesting--;
	return r;
}

static int product(struct parser *p, double *ret_value)
{
	int r = factor(p, ret_value);

	while (!r) {
		char c = peek(p);
		double right = 0;

		if (c != '*' && c != '/')
			return 0;
		p->rest = slice_skip(p->rest, 1);
		r = factor(p, &right);
		if (!r && c == '/' && right == 0)
			return -EINVAL;
		if (!r)
			*ret_value = c == '*' ? *ret_value * right : *ret_value / right;
	}
	return r;
}

static int sum(struct parser *p, double *ret_value)
{
	int r = product(p, ret_value);

	while (!r) {
		char c = peek(p);
		double right = 0;

		if (c == '+' || c == '-')
			p->rest = slice_skip(p->rest, 1);
		else if (!is_digit(c) && c != '.' && c != '(')
			return 0;
		r = product(p, &right);
		*ret_value += c == '-' ? -right : right;
	}
	return r;
}

int times_parse(struct slice text, int64_t *ret_s)
{
	struct parser p = {.rest = text};
	double value = 0;
	int r = sum(&p, &value);

	if (r)
		return r;
	if (peek(&p) || p.rest.n)
		return -EINVAL;
	if (!(value >= -MAX_SECONDS && value <= MAX_SECONDS))
		return -ERANGE;
	*ret_s = (int64_t)value;
	return 0;
}

const char *times_format(int64_t s, char *buf, size_t size)
{
	static const struct {
		int64_t seconds;
		char letter;
	} steps[] = {{YEAR, 'y'}, {WEEK, 'w'}, {DAY, 'd'}, {HOUR, 'h'}, {MINUTE, 'm'}, {1, 's'}};
	size_t used = 0;

	if (s <= 0) {
		snprintf(buf, size, "%s", s ? "ever" : "0s");
		return buf;
	}
	for (size_t i = 0; i < sizeof steps / sizeof steps[0] && used < size; i++) {
		long long count = s / steps[i].seconds;
		int n;

		if (!count)
			continue;
		n = snprintf(buf + used, size - used, "%s%lld%c", used ? " " : "", count,
			     steps[i].letter);
		used += (size_t)n;
		s %= steps[i].seconds;
	}
	return buf;
}
