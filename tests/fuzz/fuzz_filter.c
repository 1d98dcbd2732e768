/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters. The input is a failregex, then after the first \n log lines. Every input goes through
 * the translation and the compiler; lines run through it and through a fixed filter with prefregex,
 * ignoreregex and partnerregex. A filter must load or say why not, and whatever it reports of a
 * line must lie in memory that may be read.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/filter/filter.h"

#define NOW INT64_C(1720123456)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long read_all; /* keeps the reads from being optimised away */

static void read_slice(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		read_all += (unsigned char)s.p[i];
}

static void judge(struct filter *f, struct slice line)
{
	struct filter_match m;
	struct slice code = SLICE_NONE;
	struct addr addr;
	int64_t time_s;

	filter_line(f, line, NOW, &m);
	if (m.verdict == FILTER_FAIL && (m.regex < 0 || !m.id.n))
		abort();
	if (m.has_time && m.time_s < 0)
		abort();
	read_slice(m.id);
	for (unsigned i = 0; i < m.nfields; i++)
		read_slice(m.fields[i].value);
	if (filter_partner(f, line, &addr, &code))
		read_slice(code);
	if (filter_date(f, line, NOW, &time_s) != m.has_time || (m.has_time && time_s != m.time_s))
		abort();
}

static struct filter *fixed(void)
{
	static const struct text_at fail[] = {
		{"^<ADDR> - - \\[\\] code <F-CODE>\\d{3}</F-CODE>, message", "fixed", 1},
		{"^<HOST>(?: - (?P<user>\\S*))? \\[\\] \"(?:\\x1b\\[[\\d;]*m)*[A-Z]+ "
		 "<F-PATH>\\S+</F-PATH>.*\" 4\\d\\d",
		 "fixed", 2},
		{"^\\s*\\w+ (?:<F-NOFAIL>ok</F-NOFAIL> )?<F-ID/> <F-TUPLE_ID>\\S+</F-TUPLE_ID>",
		 "fixed", 3}};
	static const struct text_at ignore[] = {{"ignore(?:d|me)\\s*$", "fixed", 4}};
	static const struct text_at partner[] = {
		{"^<ADDR> - - \\[\\] \".*\" <F-CODE>\\d+</F-CODE> -$", "fixed", 5}};
	struct filter_spec spec = {
		.name = "fixed",
		.prefregex = {"^(?:x )?<F-CONTENT>.+?</F-CONTENT>(?: END<F-TAIL>.*</F-TAIL>)?$",
			      "fixed", 6},
		.failregex = fail,
		.nfail = 3,
		.ignoreregex = ignore,
		.nignore = 1,
		.partnerregex = partner,
		.npartner = 1};
	struct filter *f;

	setenv("TZ", "Europe/Zurich", 1);
	if (filter_new(&spec, &f, NULL) < 0)
		abort();
	return f;
}

static struct filter *from_input(struct slice regex)
{
	static char text[4096];
	struct text_at at = {text, "input", 1};
	struct filter_spec spec = {.name = "input", .failregex = &at, .nfail = 1};
	struct error err = {0};
	struct filter *f = NULL;

	regex = slice_head(regex, sizeof text - 1);
	memcpy(text, regex.p, regex.n);
	text[regex.n] = 0;
	if (filter_new(&spec, &f, &err) < 0) {
		if (!err.text[0])
			abort();
		return NULL;
	}
	return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_of((const char *)data, size), line;
	static struct filter *always;
	struct filter *f;

	if (!size)
		return 0;
	if (!always)
		always = fixed();
	line = slice_head(rest, slice_find(rest, '\n'));
	f = from_input(line);
	for (rest = slice_skip(rest, line.n + 1); rest.n; rest = slice_skip(rest, line.n + 1)) {
		line = slice_head(rest, slice_find(rest, '\n'));
		judge(always, line);
		if (f)
			judge(f, line);
	}
	filter_free(f);
	return 0;
}
