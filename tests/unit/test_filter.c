/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole filters: order of the steps, fields, forged lines, refusals, limits, no allocation per
 * line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include <malloc.h>

#include "daemon/filter/filter.h"

#define NOW INT64_C(1720123456)
#define MANY 8
#define LINE(text) SLICE(text)

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* The texts of a filter, as the configuration would hand them over. */
struct texts {
	const char *prefregex;
	const char *fail[MANY], *ignore[MANY], *date[MANY], *partner[MANY];
	unsigned maxlines;
};

static size_t list(const char *const *texts, struct text_at *at, unsigned first_line)
{
	size_t n = 0;

	for (; n < MANY && texts[n]; n++)
		at[n] = (struct text_at){texts[n], "f.conf", first_line + (unsigned)n};
	return n;
}

static int try_make(const struct texts *t, struct filter **ret_filter, struct error *err)
{
	struct text_at fail[MANY], ignore[MANY], date[MANY], partner[MANY];
	struct filter_spec spec = {.name = "f", .maxlines = t->maxlines};

	spec.prefregex = (struct text_at){t->prefregex, "f.conf", 1};
	spec.failregex = fail;
	spec.ignoreregex = ignore;
	spec.datepattern = date;
	spec.partnerregex = partner;
	spec.nfail = list(t->fail, fail, 10);
	spec.nignore = list(t->ignore, ignore, 20);
	spec.ndate = list(t->date, date, 30);
	spec.npartner = list(t->partner, partner, 40);
	return filter_new(&spec, ret_filter, err);
}

static struct filter *make(struct texts t)
{
	struct error err = {0};
	struct filter *f = NULL;

	if (try_make(&t, &f, &err) < 0)
		fail_msg("%s:%u: %s", err.file, err.line, err.text);
	return f;
}

static struct filter_match judge(struct filter *f, struct slice line)
{
	struct filter_match m;

	memset(&m, 0xa5, sizeof m);
	filter_line(f, line, NOW, &m);
	return m;
}

static void expect_addr(const struct filter_match *m, const char *wanted)
{
	char text[ADDR_STRLEN];

	assert_int_equal(m->verdict, FILTER_FAIL);
	assert_true(m->has_addr);
	assert_string_equal(addr_format(&m->addr, text), wanted);
}

static void expect_slice(struct slice got, const char *wanted)
{
	if (!slice_eq_str(got, wanted))
		fail_msg("'%.*s' instead of '%s'", (int)got.n, got.p ? got.p : "", wanted);
}

#define WERKZEUG                                                                                   \
	"^<ADDR> - - \\[\\] \"(?:\\x1b\\[[\\d;]*m)*<F-METHOD>[A-Z]+</F-METHOD> "                   \
	"<F-PATH>\\S+</F-PATH> HTTP/\\d\\.\\d(?:\\x1b\\[0m)?\" <F-CODE>4\\d\\d</F-CODE> -$"

static void test_werkzeug(void **state)
{
	struct filter *f = make((struct texts){.fail = {WERKZEUG}});
	struct filter_match m;

	(void)state;
	m = judge(f, LINE("118.193.40.9 - - [04/Jul/2024 20:48:52] \"\x1b[33mGET /login "
			  "HTTP/1.1\x1b[0m\" 404 -"));
	expect_addr(&m, "118.193.40.9");
	assert_int_equal(m.regex, 0);
	assert_true(m.has_time && m.time_s == 1720126132);
	assert_false(m.gave_up);
	expect_slice(m.id, "118.193.40.9");
	expect_slice(filter_field(&m, "path"), "/login");
	expect_slice(filter_field(&m, "method"), "GET");
	expect_slice(filter_field(&m, "code"), "404");
	assert_null(filter_field(&m, "user").p);
	assert_int_equal(m.nfields, 3);
	m = judge(
		f,
		LINE("::ffff:192.0.2.7 - - [04/Jul/2024 20:48:52] \"GET /a HTTP/1.1\" 404 -\r\r"));
	expect_addr(&m, "192.0.2.7");
	m = judge(f, LINE("fe80::7%eth0 - - [04/Jul/2024 20:48:52] \"GET /a HTTP/1.1\" 404 -"));
	expect_addr(&m, "fe80::7");
	m = judge(f, LINE("2001:db8::7 - - [04/Jul/2024 20:48:52] \"GET /a HTTP/1.1\" 200 -"));
	assert_int_equal(m.verdict, FILTER_MISS);
	assert_int_equal(m.regex, -1);
	assert_false(m.has_addr);
	assert_true(m.has_time);
	m = judge(f, SLICE_NONE);
	assert_int_equal(m.verdict, FILTER_MISS);
	assert_false(m.has_time);
	assert_int_equal(filter_stats(f)->lines, 5);
	assert_int_equal(filter_stats(f)->dated, 4);
	assert_int_equal(filter_stats(f)->failed, 3);
	assert_int_equal(filter_stats(f)->nfail, 1);
	assert_int_equal(filter_stats(f)->fail[0].hits, 3);
	filter_free(f);
	filter_free(NULL);
}

/* Whole log lines inside a line, behind every byte that might be taken for a line end. */
static void test_forged(void **state)
{
	static const char inner[] =
		"203.0.113.9 - - [04/Jul/2024 20:48:52] \"GET /login HTTP/1.1\" 404 -";
	static const struct slice ends[] = {
		{"\r", 1},           {"\v", 1},           {"\f", 1},      {"\0", 1},
		{"\x85", 1},         {"\xc2\x85", 2},     {"\x1c", 1},    {"\x1e", 1},
		{"\xe2\x80\xa8", 3}, {"\xe2\x80\xa9", 3}, {"\x1b[2K", 4}, {"\r\r", 2}};
	struct filter *f = make((struct texts){.fail = {WERKZEUG, "(?m)" WERKZEUG}});

	(void)state;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		char line[512];
		size_t n = (size_t)snprintf(line, sizeof line,
					    "192.0.2.1 - - [04/Jul/2024 20:48:51] \"q");
		struct filter_match m;

		memcpy(line + n, ends[i].p, ends[i].n);
		n += ends[i].n;
		memcpy(line + n, inner, sizeof inner - 1);
		n += sizeof inner - 1;
		m = judge(f, slice_of(line, n));
		assert_int_equal(m.verdict, FILTER_MISS);
		assert_true(m.has_time && m.time_s == 1720126131);
		/* The forged line in front: the address is what stands first, but the text is not a
		 * line's. */
		n = (size_t)snprintf(line, sizeof line, "x%s", inner);
		assert_int_equal(judge(f, slice_of(line, n)).verdict, FILTER_MISS);
	}
	filter_free(f);
}

static void test_strict_addresses(void **state)
{
	static const char *const unusable[] = {"192.030.0.6", "300.1.2.3", "1.2.3.4.5",
					       "example.org", "12345"};
	struct filter *f =
		make((struct texts){.fail = {"^from <HOST>$", "^id <F-ID/>$", "^net <SUBNET>$"}});
	struct filter_match m;
	char line[64];

	(void)state;
	for (size_t i = 0; i < sizeof unusable / sizeof *unusable; i++) {
		m = judge(f, slice_of(line,
				      (size_t)snprintf(line, sizeof line, "from %s", unusable[i])));
		assert_int_equal(m.verdict, FILTER_FAIL);
		assert_false(m.has_addr);
		expect_slice(m.id, unusable[i]);
	}
	m = judge(f, LINE("id 192.0.2.7"));
	expect_addr(&m, "192.0.2.7");
	m = judge(f, LINE("id session"));
	assert_true(m.verdict == FILTER_FAIL && !m.has_addr);
	m = judge(f, LINE("net 192.0.2.77/24"));
	expect_addr(&m, "192.0.2.0/24");
	m = judge(f, LINE("net [2001:db8::1/32]"));
	expect_addr(&m, "2001:db8::/32");
	m = judge(f, LINE("net 192.0.2.77"));
	expect_addr(&m, "192.0.2.77");
	m = judge(f, LINE("net 192.0.2.77/33"));
	assert_true(m.verdict == FILTER_FAIL && !m.has_addr);
	filter_free(f);
}

static void test_prefregex(void **state)
{
	struct filter *f = make((struct texts){
		.prefregex = "^\\S+ <F-SERVICE>\\w+</F-SERVICE>\\[\\d+\\]: "
			     "<F-CONTENT>.+?</F-CONTENT>(?: END<F-TAIL>.*</F-TAIL>)?$",
		.fail = {"^bad <F-USER>\\S*</F-USER> from <HOST>$",
			 "^worse <F-SERVICE>x?</F-SERVICE> <HOST>$"},
	});
	struct filter_match m =
		judge(f, LINE("Jul  4 19:48:52 host sshd[17]: bad root from 192.0.2.7"));

	(void)state;
	assert_int_equal(m.verdict, FILTER_MISS); /* the blank behind the date remains */
	filter_free(f);
	f = make((struct texts){
		.prefregex = "^\\s*\\S+ <F-SERVICE>\\w+</F-SERVICE>\\[\\d+\\]: "
			     "<F-CONTENT>.+?</F-CONTENT>(?: END<F-TAIL>.*</F-TAIL>)?$",
		.fail = {"^bad <F-USER>\\S*</F-USER> from <HOST>$",
			 "^worse <F-SERVICE>x?</F-SERVICE> <HOST>$"},
	});
	m = judge(f, LINE("Jul  4 19:48:52 host sshd[17]: bad root from 192.0.2.7"));
	expect_addr(&m, "192.0.2.7");
	expect_slice(filter_field(&m, "service"), "sshd");
	expect_slice(filter_field(&m, "user"), "root");
	assert_null(filter_field(&m, "tail").p);
	assert_null(filter_field(&m, "content").p);
	m = judge(f, LINE("Jul  4 19:48:52 host sshd[17]: bad \xff\xe9 from 192.0.2.8 END of it"));
	expect_addr(&m, "192.0.2.8");
	expect_slice(filter_field(&m, "user"), "\xff\xe9");
	expect_slice(filter_field(&m, "tail"), " of it");
	m = judge(f, LINE("Jul  4 19:48:52 host sshd[17]: worse x 192.0.2.7"));
	expect_slice(filter_field(&m, "service"), "x");
	m = judge(f, LINE("Jul  4 19:48:52 host sshd[17]: worse  192.0.2.7"));
	expect_slice(filter_field(&m, "service"),
		     ""); /* a group of the failregex wins, even when empty */
	assert_int_equal(judge(f, LINE("bad root from 192.0.2.7")).verdict, FILTER_MISS);
	filter_free(f);
	/* The address may stand in prefregex alone. */
	f = make((struct texts){.prefregex = "^<HOST> <F-CONTENT>.*</F-CONTENT>$",
				.fail = {"^bad$", "^$"}});
	m = judge(f, LINE("192.0.2.7 bad"));
	expect_addr(&m, "192.0.2.7");
	m = judge(f, LINE("192.0.2.7 "));
	assert_int_equal(m.regex, 1);
	assert_int_equal(judge(f, LINE("192.0.2.7 good")).verdict, FILTER_MISS);
	filter_free(f);
}

static void test_ignoreregex(void **state)
{
	/* One of both: after the match. Four against one: before, on the whole line. */
	struct filter *after = make((struct texts){.prefregex = "^pre <F-CONTENT>.*</F-CONTENT>$",
						   .fail = {"^<HOST> (?:bad|odd)$"},
						   .ignore = {"^\\S+ odd$"}});
	struct filter *before = make(
		(struct texts){.prefregex = "^pre <F-CONTENT>.*</F-CONTENT>$",
			       .fail = {"^<HOST> bad$", "^<HOST> odd$", "^<HOST> c$", "^<HOST> d$"},
			       .ignore = {"^pre \\S+ (?:odd|else)$"}});

	(void)state;
	assert_int_equal(judge(after, LINE("pre 192.0.2.7 bad")).verdict, FILTER_FAIL);
	assert_int_equal(judge(after, LINE("pre 192.0.2.7 odd")).verdict, FILTER_IGNORED);
	assert_int_equal(judge(after, LINE("pre 192.0.2.7 else")).verdict, FILTER_MISS);
	assert_int_equal(judge(before, LINE("pre 192.0.2.7 bad")).verdict, FILTER_FAIL);
	assert_int_equal(judge(before, LINE("pre 192.0.2.7 odd")).verdict, FILTER_IGNORED);
	assert_int_equal(judge(before, LINE("pre 192.0.2.7 else")).verdict, FILTER_IGNORED);
	assert_int_equal(filter_stats(before)->ignored, 2);
	assert_int_equal(filter_stats(after)->fail[0].hits, 1);
	filter_free(after);
	filter_free(before);
}

static void test_order_and_quiet(void **state)
{
	struct filter *f =
		make((struct texts){.fail = {"^<F-NOFAIL>hello</F-NOFAIL> from <HOST>$",
					     "^hello (?:from )?<HOST>$", "^(?:<HOST>|nobody) x$",
					     "^nobody x(?P<fid>\\b)?", "^nobody <F-ID>x</F-ID>$"}});
	struct filter_match m = judge(f, LINE("hello from 192.0.2.7"));

	(void)state;
	assert_int_equal(m.verdict, FILTER_QUIET);
	assert_int_equal(m.regex, 0);
	m = judge(f, LINE("hello 192.0.2.7"));
	assert_int_equal(m.regex, 1);
	m = judge(f, LINE("nobody x")); /* <HOST> takes the word as a name */
	assert_int_equal(m.regex, 2);
	expect_slice(m.id, "nobody");
	filter_free(f);
	f = make((struct texts){
		.fail = {"^(?:<ADDR>|nobody) <F-A>x</F-A>$", "^nobody <F-ID>x</F-ID>$"}});
	m = judge(f, LINE("nobody x")); /* names nobody: the next one is tried */
	assert_int_equal(m.regex, 1);
	assert_int_equal(m.nfields, 0);
	expect_slice(m.id, "x");
	filter_free(f);
}

static void test_merged_fields(void **state)
{
	struct filter *f = make((struct texts){
		.fail = {
			"^a <HOST>(?: u=<F-USER>\\S*</F-USER>)?(?: "
			"v=<F-ALT_USER>\\S*</F-ALT_USER>)?(?: w=<F-ALT_USER1>\\S*</F-ALT_USER1>)?$",
			"^b <F-ID/> <F-TUPLE_ID>\\S+</F-TUPLE_ID>(?: "
			"<F-TUPLE_ID_2>\\S+</F-TUPLE_ID_2>)?$",
			"^c (?:<F-ALT_IP4_1>\\S+</F-ALT_IP4_1>|<IP6>)$",
		}});
	struct filter_match m = judge(f, LINE("a 192.0.2.7 u=one v=two w=three"));

	(void)state;
	expect_slice(filter_field(&m, "user"), "one");
	assert_int_equal(m.nfields, 1);
	m = judge(f, LINE("a 192.0.2.7 u= v= w=three"));
	expect_slice(filter_field(&m, "user"), "three");
	m = judge(f, LINE("a 192.0.2.7 v=two w=three"));
	expect_slice(filter_field(&m, "user"), "two");
	m = judge(f, LINE("b one two three"));
	expect_slice(m.id, "one,two,three");
	assert_false(m.has_addr);
	m = judge(f, LINE("c 192.0.2.7"));
	expect_addr(&m, "192.0.2.7");
	filter_free(f);
}

static void test_partner(void **state)
{
	struct filter *f = make((struct texts){
		.fail = {"^<ADDR> - - \\[\\] code <F-CODE>\\d+</F-CODE>, message .*$"},
		.partner = {"^<ADDR> - - \\[\\] \"(?!GET ).*\" <F-CODE>\\d+</F-CODE> -$",
			    "^<HOST> plain$"}});
	struct filter_match m;
	struct slice code;
	struct addr addr;
	char text[ADDR_STRLEN];

	(void)state;
	assert_true(filter_partner(
		f, LINE("192.0.2.7 - - [04/Jul/2024 20:48:52] \"\x16\x03\xff\" 400 -"), &addr,
		&code));
	assert_string_equal(addr_format(&addr, text), "192.0.2.7");
	expect_slice(code, "400");
	m = judge(f, LINE("192.0.2.7 - - [04/Jul/2024 20:48:52] code 400, message Bad request "
			  "syntax ('123')"));
	expect_addr(&m, "192.0.2.7");
	assert_true(filter_partner(f, LINE("192.0.2.9 - - [04/Jul/2024 20:48:52] \"123\" 505 -"),
				   &addr, &code));
	expect_slice(code, "505");
	expect_slice(filter_field(&m, "code"), "400"); /* still there */
	assert_true(filter_partner(f, LINE("2001:db8::1 plain"), &addr, &code));
	assert_null(code.p);
	assert_true(filter_partner(f, LINE("2001:db8::1 plain"), NULL, NULL));
	assert_false(filter_partner(f, LINE("example.org plain"), &addr, &code));
	assert_false(filter_partner(
		f, LINE("192.0.2.7 - - [04/Jul/2024 20:48:52] \"GET / HTTP/1.1\" 400 -"), &addr,
		&code));
	assert_int_equal(filter_stats(f)->lines, 1);
	filter_free(f);
	f = make((struct texts){.fail = {"^<HOST>$"}});
	assert_false(filter_partner(f, LINE("192.0.2.7"), &addr, &code));
	filter_free(f);
}

static void test_date(void **state)
{
	struct filter *f =
		make((struct texts){.fail = {"^<HOST>$"}, .date = {"%Y-%m-%d %H:%M:%S"}});
	int64_t time_s = 0;

	(void)state;
	assert_true(filter_date(f, LINE("x 2024-07-04 20:48:52 y"), NOW, &time_s));
	assert_int_equal(time_s, 1720126132);
	assert_false(filter_date(f, LINE("[04/Jul/2024 20:48:52]"), NOW, &time_s));
	assert_false(filter_date(f, SLICE_NONE, NOW, &time_s));
	filter_free(f);
	f = make((struct texts){.fail = {"^<HOST> \\[04/Jul/2024 20:48:52\\]$"},
				.date = {"{NONE}"}});
	assert_int_equal(judge(f, LINE("192.0.2.7 [04/Jul/2024 20:48:52]")).verdict, FILTER_FAIL);
	assert_false(judge(f, LINE("192.0.2.7 [04/Jul/2024 20:48:52]")).has_time);
	filter_free(f);
}

static void refused(struct texts t, const char *part, unsigned line)
{
	struct error err = {0};
	struct filter *f = NULL;

	assert_int_equal(try_make(&t, &f, &err), ERROR_CONFIG);
	if (!strstr(err.text, part))
		fail_msg("'%s' does not hold '%s'", err.text, part);
	assert_int_equal(err.line, line);
}

static void test_refused(void **state)
{
	(void)state;
	refused((struct texts){.fail = {"^<HOST>$", "^no address$"}},
		"no address in this expression", 11);
	refused((struct texts){.fail = {"^<HOST>$", ""}}, "empty regular expression", 11);
	refused((struct texts){.fail = {"^<HOST> (a"}}, "missing closing parenthesis: '^<HOST> (a'",
		10);
	refused((struct texts){.fail = {"^<HOST>$"}, .ignore = {"a**"}}, "offset 2", 20);
	refused((struct texts){.fail = {"^<HOST>$"}, .date = {"%Y", NULL}}, "datepattern", 30);
	refused((struct texts){.fail = {"^<HOST>$"}, .partner = {"^x$"}}, "no address", 40);
	refused((struct texts){.prefregex = "^<F-MLFID>x</F-MLFID>", .fail = {"^<HOST>$"}},
		"<F-MLFID>", 1);
	refused((struct texts){.fail = {"^(?P<mlfid>x) <HOST>$"}}, "the group mlfid", 10);
	refused((struct texts){.fail = {"^a<SKIPLINES><HOST>$"}}, "<SKIPLINES>", 10);
	refused((struct texts){.fail = {"^<HOST>$"}, .maxlines = 10}, "maxlines = 10", 0);
	refused(
		(struct texts){
			.prefregex =
				"(?P<a>)(?P<b>)(?P<c>)(?P<d>)(?P<e>)(?P<f>)(?P<g>)(?P<h>)(?P<i>)",
			.fail = {"^<HOST>(?P<j>)(?P<k>)(?P<l>)(?P<m>)(?P<n>)(?P<o>)(?P<p>)(?P<q>)"
				 "$"}},
		"more than 16 named groups", 10);
}

static void test_long_lines(void **state)
{
	static char line[200000];
	struct filter *f = make((struct texts){
		.fail = {"^<ADDR> - - \\[\\] .*END$", "^<ADDR> - - \\[\\] \"a{4000}.*"}});
	struct filter_match m;

	(void)state;
	memset(line, 'a', sizeof line);
	memcpy(line, "192.0.2.7 - - [04/Jul/2024 20:48:52] \"", 38);
	memcpy(line + sizeof line - 3, "END", 3);
	m = judge(f, slice_of(line, sizeof line));
	expect_addr(&m, "192.0.2.7");
	assert_int_equal(m.regex, 1);
	assert_int_equal(filter_stats(f)->overlong, 1);
	memcpy(line + FILTER_LINE_MAX - 3, "END", 3);
	assert_int_equal(judge(f, slice_of(line, FILTER_LINE_MAX)).regex, 0);
	assert_int_equal(filter_stats(f)->overlong, 1);
	memset(line + 40, 0xff, FILTER_LINE_MAX);
	assert_int_equal(judge(f, slice_of(line, sizeof line)).verdict, FILTER_MISS);
	filter_free(f);
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* An exploding expression costs little, is counted, is no failure, and hides nothing from the
 * others. */
static void test_gave_up(void **state)
{
	static char line[FILTER_LINE_MAX];
	struct filter *f = make((struct texts){.fail = {"^<ADDR> (a+)+$", "^<ADDR> a"}});
	struct filter *ignoring = make((struct texts){.fail = {"^<ADDR> a"}, .ignore = {"(a+)+$"}});
	struct filter *pref = make((struct texts){.prefregex = "^<ADDR> (?:a+)+$", .fail = {"^"}});
	double start = cpu_ms();
	struct filter_match m;

	(void)state;
	memset(line, 'a', sizeof line);
	memcpy(line, "192.0.2.7 ", 10);
	line[sizeof line - 1] = '!';
	for (int i = 0; i < 50; i++) {
		m = judge(f, slice_of(line, sizeof line));
		assert_true(m.gave_up);
		assert_int_equal(m.verdict, FILTER_FAIL); /* by the second one */
		assert_int_equal(m.regex, 1);
		m = judge(ignoring, slice_of(line, sizeof line));
		assert_true(m.gave_up && m.verdict == FILTER_MISS && m.regex == -1);
		m = judge(pref, slice_of(line, sizeof line));
		assert_true(m.gave_up && m.verdict == FILTER_MISS);
	}
	assert_true(cpu_ms() - start < 150 * 5);
	assert_int_equal(filter_stats(f)->fail[0].limit_hits, 50);
	assert_int_equal(filter_stats(f)->fail[0].hits, 0);
	assert_int_equal(filter_stats(f)->limit_hits, 50);
	assert_int_equal(filter_stats(ignoring)->limit_hits, 50);
	assert_int_equal(filter_stats(pref)->limit_hits, 50);
	filter_free(f);
	filter_free(ignoring);
	filter_free(pref);
}

/* Hits, misses, dates of several hours, broken UTF-8, overlong lines: nothing is allocated. */
#ifndef SANITIZED /* whose own allocator mallinfo2 does not know */
static void test_no_malloc(void **state)
{
	static char line[20000];
	struct filter *f = make((struct texts){.prefregex = "^<F-CONTENT>.*</F-CONTENT>$",
					       .fail = {WERKZEUG, "^<HOST> x$"},
					       .ignore = {"never"},
					       .partner = {"^<ADDR> y$"}});
	struct mallinfo2 before, after;
	struct filter_match m;

	(void)state;
	/* These compile the Unicode copies of all four. */
	judge(f, LINE("192.0.2.7 - - [01/Jul/2024 20:48:52] \"GET /\xff HTTP/1.1\" 404 -"));
	judge(f, LINE("192.0.2.7 \xff"));
	filter_partner(f, LINE("192.0.2.7 \xff"), NULL, NULL);
	before = mallinfo2();
	for (int i = 0; i < 20000; i++) {
		size_t n = (size_t)snprintf(
			line, sizeof line,
			"192.0.2.%d - - [%02d/Jul/2024 %02d:48:52] \"GET /%s HTTP/1.1\" %d -",
			i % 256, 1 + i % 31, i % 24, i % 3 ? "x" : "\xff\xc3\xa9", 200 + i % 300);

		filter_line(f, slice_of(line, i % 100 ? n : sizeof line), NOW, &m);
		filter_line(f, LINE("Jul  4 20:48:52 h x"), NOW, &m);
		filter_partner(f, slice_of(line, n), NULL, NULL);
	}
	after = mallinfo2();
	assert_int_equal(after.uordblks, before.uordblks);
	assert_int_equal(after.hblks, before.hblks);
	filter_free(f);
}
#endif

/* Random bytes and pieces of lines: a failure always has its text in the line, and spans stay
 * inside. */
static void test_random(void **state)
{
	static const char *const pieces[] = {"192.0.2.7",   " - - ",       "[04/Jul/2024 20:48:52]",
					     " \"GET /",    " HTTP/1.1\"", " 404 -",
					     "\xff",        "\xc2\x85",    "\x1b[33m",
					     "2001:db8::1", "\r",          "::ffff:1.2.3.4",
					     " ",           "\"",          "é"};
	struct filter *f = make((struct texts){
		.prefregex = "^<F-CONTENT>.*?</F-CONTENT>(?:\"<F-REST>.*</F-REST>)?$",
		.fail = {"<HOST>(?P<a>.*)$", "(?P<fid>[\\x80-\\xff]+)"}});
	unsigned seed = (unsigned)time(NULL);

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	for (int round = 0; round < 20000; round++) {
		char line[512];
		size_t n = 0;
		struct filter_match m;

		for (int k = 0; k < 12; k++) {
			const char *piece =
				pieces[(size_t)random() % (sizeof pieces / sizeof *pieces)];
			size_t length = strlen(piece);

			memcpy(line + n, piece, length);
			n += length;
			if (random() % 8 == 0)
				line[n++] = (char)random();
		}
		m = judge(f, slice_of(line, n));
		if (m.verdict != FILTER_FAIL)
			continue;
		assert_true(m.id.n > 0 && memmem(line, n, m.id.p, m.id.n) != NULL);
		for (unsigned i = 0; i < m.nfields; i++)
			assert_true(m.fields[i].value.n <= n);
	}
	filter_free(f);
}

static int utc(void **state)
{
	(void)state;
	setenv("TZ", "UTC0", 1);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_werkzeug),  cmocka_unit_test(test_forged),
		cmocka_unit_test(test_prefregex), cmocka_unit_test(test_strict_addresses),
		cmocka_unit_test(test_partner),   cmocka_unit_test(test_ignoreregex),
		cmocka_unit_test(test_date),      cmocka_unit_test(test_order_and_quiet),
		cmocka_unit_test(test_refused),   cmocka_unit_test(test_merged_fields),
		cmocka_unit_test(test_gave_up),   cmocka_unit_test(test_long_lines),
#ifndef SANITIZED
		cmocka_unit_test(test_no_malloc),
#endif
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, utc, NULL);
}
