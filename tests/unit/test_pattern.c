/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Matching: both copies of a pattern, broken UTF-8, line ends, address forms, match limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "daemon/filter/pattern.h"

static char line[PATTERN_SUBJECT_MAX + 1];

static struct pattern *make(const char *text)
{
	struct text_at at = {text, "p.conf", 3};
	struct error err = {0};
	struct pattern *p = NULL;

	if (pattern_new(&at, &p, &err) < 0)
		print_error("%s: %s\n", text, err.text);
	assert_non_null(p);
	return p;
}

static struct pattern_subject subject(struct slice text)
{
	struct pattern_subject s;

	memcpy(line, text.p, text.n);
	line[text.n] = '\n';
	pattern_subject_init(&s, slice_of(line, text.n));
	return s;
}

static unsigned number_of(const struct pattern *p, const char *name)
{
	unsigned number;

	for (unsigned i = 0; i < pattern_names(p); i++)
		if (strcmp(pattern_name(p, i, &number), name) == 0)
			return number;
	fail_msg("no group %s", name);
	return 0;
}

/* The named group of text, as a terminated string; NULL = no match, "(none)" = not set. */
static const char *get(const char *regex, struct slice text, const char *name)
{
	static char value[1024];
	struct pattern *p = make(regex);
	struct pattern_subject s = subject(text);
	struct slice found = SLICE_NONE;
	enum pattern_result result = pattern_match(p, &s);

	if (result == PATTERN_YES)
		found = pattern_group(p, &s, name ? number_of(p, name) : 0);
	snprintf(value, sizeof value, "%.*s", (int)found.n, found.p ? found.p : "(none)");
	if (result == PATTERN_YES && !found.p)
		strcpy(value, "(none)");
	pattern_free(p);
	return result == PATTERN_YES ? value : NULL;
}

static bool hits(const char *regex, struct slice text)
{
	return get(regex, text, NULL) != NULL;
}

static void expect_refused(const char *text, const char *part)
{
	struct text_at at = {text, "p.conf", 3};
	struct error err = {0};
	struct pattern *p;

	assert_int_equal(pattern_new(&at, &p, &err), ERROR_CONFIG);
	if (!strstr(err.text, part))
		print_error("'%s' does not hold '%s'\n", err.text, part);
	assert_non_null(strstr(err.text, part));
	assert_string_equal(err.file, "p.conf");
	assert_int_equal(err.line, 3);
}

static void test_errors(void **state)
{
	(void)state;
	expect_refused("^(?P<x", "at offset 6:");
	expect_refused("^<HOST> - (a", "at offset 12: missing closing parenthesis: '^<HOST> - (a'");
	expect_refused("<HOST> <HOST>", "two named subpatterns have the same name");
	expect_refused("<HOST> [b-a]", "range out of order");
	expect_refused("<HOST>**", "quantifier does not follow a repeatable item");
	expect_refused("\xff\xfe<HOST>", "UTF-8 error");
	expect_refused("<F-1X>a</F-1X>", "subpattern name must start with a non-digit");
}

static void test_addresses(void **state)
{
	static const struct {
		const char *regex, *text, *group, *value;
	} cases[] = {
		{"^<HOST> x$", "192.0.2.7 x", "ip4", "192.0.2.7"},
		{"^<HOST> x$", "::ffff:192.0.2.7 x", "ip4", "192.0.2.7"},
		{"^<HOST> x$", "::FFFF:192.0.2.7 x", "ip4", "192.0.2.7"},
		{"^<HOST> x$", "2001:db8::1 x", "ip6", "2001:db8::1"},
		{"^<HOST> x$", "[2001:db8::1] x", "ip6", "2001:db8::1"},
		{"^<HOST> x$", ":: x", "ip6",
		 NULL}, /* as in fail2ban; nobody connects from there */
		{"^<HOST> x$", "::1 x", "ip6", "::1"},
		{"^<HOST> x$", "fe80::1%eth0 x", "ip6", "fe80::1%eth0"},
		{"^<ADDR>(?:%[\\w.-]+)? x$", "fe80::1%eth0.5 x", "ip6", "fe80::1%eth0.5"},
		{"^<HOST> x$", "mail.example.org x", "dns", "mail.example.org"},
		{"^<HOST> x$", "192.0.2.7.example.org x", "dns", "192.0.2.7.example.org"},
		{"^<HOST> x$", "192.0.2.7777 x", "dns", "192.0.2.7777"},
		{"^<HOST>\\. x$", "host.example. x", "dns", "host.example"},
		{"^<ADDR>:\\d+ x$", "192.0.2.7:80 x", "ip4", "192.0.2.7"},
		{"^<ADDR>:\\d+ x$", "[2001:db8::1]:80 x", "ip6", "2001:db8::1"},
		{"^<ADDR> x$", "[192.0.2.7] x", "ip4", "192.0.2.7"},
		{"^<ADDR> x$", "example.org x", "ip4", NULL},
		{"^<ADDR>", "192.0.2.1234", "ip4", NULL},
		{"^<ADDR>2", "192.0.2.122", "ip4", NULL},
		{"^<IP4> x$", "::1 x", "ip4", NULL},
		{"^<IP6> x$", "192.0.2.7 x", "ip6", NULL},
		{"^<F-IP6/> x$", "::1 x", "ip6", "::1"},
		{"^<F-IP4/> x$", "192.0.2.7 x", "ip4", "192.0.2.7"},
		{"^<F-ADDR/> x$", "192.0.2.7 x", "ip4", "192.0.2.7"},
		{"^<DNS> x$", "example.org x", "dns", "example.org"},
		{"^<SUBNET> x$", "192.0.2.0/24 x", "cidr", "24"},
		{"^<SUBNET> x$", "192.0.2.0 x", "cidr", "(none)"},
		{"^<F-SUBNET/> x$", "[2001:db8::/32] x", "cidr", "32"},
		{"^<ADDR>/<CIDR> x$", "192.0.2.0/24 x", "cidr", "24"},
		{"^<F-ID/> x$", "session-17 x", "fid", "session-17"},
		{"^<ADDR> port <F-PORT/>$", "192.0.2.7 port 22", "fport", "22"},
		{"^<ADDR>$", "\xd9\xa1.0.2.7", "ip4", NULL}, /* an Arabic digit */
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *value = get(cases[i].regex, slice_str(cases[i].text), cases[i].group);

		if (!value != !cases[i].value || (value && strcmp(value, cases[i].value) != 0))
			fail_msg("%s on %s: %s", cases[i].regex, cases[i].text,
				 value ? value : "no match");
	}
}

/* Only \n ends a line, and it ends the subject: nothing else lets ^ or $ match inside. */
static void test_line_ends(void **state)
{
	static const struct slice others[] = {
		{"\r", 1},   {"\v", 1},       {"\f", 1},           {"\0", 1},
		{"\x85", 1}, {"\xc2\x85", 2}, {"\xe2\x80\xa8", 3}, {"\xe2\x80\xa9", 3},
		{"\x1c", 1}, {"\x1e", 1},     {"\r\r", 2},         {"\x1d", 1}};
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		size_t n = others[i].n;

		memcpy(text, "a", 1);
		memcpy(text + 1, others[i].p, n);
		memcpy(text + 1 + n, "b", 1);
		assert_false(hits("^b", slice_of(text, n + 2)));
		assert_false(hits("(?m)^b", slice_of(text, n + 2)));
		assert_false(hits("a$", slice_of(text, n + 2)));
		assert_true(hits("a.*b$", slice_of(text, n + 2)));
		assert_true(hits("^a[^x]+b$", slice_of(text, n + 2)));
	}
	assert_true(hits("a\\s$", SLICE("a")));
	assert_false(hits("a\\Z", SLICE("a")));
	assert_true(hits("a\n\\Z", SLICE("a")));
	assert_true(hits("^a.b$", slice_of("a\0b", 3)));
}

/* As Python 3 sees them; each expression also on an ASCII line by the other copy. */
static void test_unicode(void **state)
{
	(void)state;
	assert_true(hits("^a\\sb$", SLICE("a\xc2\xa0"
					  "b")));
	assert_true(hits("^a\\sb$", SLICE("a\xc2\x85"
					  "b")));
	assert_true(hits("^a\\sb$", SLICE("a\x1f"
					  "b")));
	assert_true(hits("^a[\\s.]b$", SLICE("a\x1c"
					     "b")));
	assert_false(hits("^a\\Sb$", SLICE("a\x1d"
					   "b")));
	assert_true(hits("^\\d$", SLICE("\xd9\xa3")));
	assert_true(hits("^\\w+$", SLICE("stra\xc3\x9f"
					 "e")));
	assert_true(hits("^caf\xc3\xa9?$", SLICE("caf")));
	assert_true(hits("^caf\xc3\xa9?$", SLICE("caf\xc3\xa9")));
	assert_true(hits("^x[\xd0\xb0-\xd1\x8f]$", SLICE("x\xd0\xbf")));
	assert_false(hits("^x[\xd0\xb0-\xd1\x8f]$", SLICE("xp")));
	assert_true(hits("^x[^\xd0\xb0-\xd1\x8f]$", SLICE("xp")));
	assert_true(hits("^a\\u2028b$", SLICE("a\xe2\x80\xa8"
					      "b")));
	assert_true(hits("^a[\\u2028 ]b$", SLICE("a b")));
	assert_true(hits("^a\\x{2028}?b$", SLICE("ab")));
	assert_true(hits("(?iu)^\xc3\x84$", SLICE("\xc3\xa4")));
	assert_true(hits("^a\\vb$", SLICE("a\x0b"
					  "b")));
	assert_false(hits("^a\\vb$", SLICE("a\x0c"
					   "b")));
	assert_true(hits("^.{3}$", SLICE("\xf0\x9f\x98\x80"
					 "ab")));
	assert_true(hits("^\\d{,3}x$", SLICE("12x")));
	assert_false(hits("^[[:alpha:]]$", SLICE("x")));
	assert_true(hits("^[[:alpha:]]$", SLICE("[]")));
}

static void test_invalid_utf8(void **state)
{
	(void)state;
	assert_string_equal(get("^<ADDR> (?P<a>.)(?P<b>..)(?P<c>.+)$",
				SLICE("192.0.2.1 \xff\xfe"
				      "b\xc3(end"),
				"a"),
			    "\xff");
	assert_string_equal(get("^<ADDR> (?P<a>.)(?P<b>..)(?P<c>.+)$",
				SLICE("192.0.2.1 \xff\xfe"
				      "b\xc3(end"),
				"b"),
			    "\xfe"
			    "b");
	assert_string_equal(get("^<ADDR> (?P<a>.)(?P<b>..)(?P<c>.+)$",
				SLICE("192.0.2.1 \xff\xfe"
				      "b\xc3(end"),
				"c"),
			    "\xc3(end");
	assert_string_equal(get("^.{4}(?P<a>x)",
				SLICE("\xef\xbf\xbd\xef\xbf"
				      "1xy"),
				"a"),
			    "x");
	assert_string_equal(get("^.{2}(?P<a>..)", SLICE("\xc0\xaf\xed\xa0\x80"), "a"), "\xed\xa0");
	assert_string_equal(get("(?P<a>z)", SLICE("\xf4\x90\x80\x80\xff\xc3\xa9z"), "a"), "z");
	assert_true(hits("^a\\x{fffd}b$", SLICE("a\x80"
						"b")));
}

/* A longest subject of nothing but broken bytes fits the repair buffer. */
static void test_longest(void **state)
{
	struct pattern *p = make("^.*(?P<last>.)$");
	struct pattern_subject s;
	struct slice got;

	(void)state;
	memset(line, 0xff, PATTERN_SUBJECT_MAX);
	line[PATTERN_SUBJECT_MAX - 1] = (char)0xfe;
	line[PATTERN_SUBJECT_MAX] = '\n';
	pattern_subject_init(&s, slice_of(line, PATTERN_SUBJECT_MAX));
	assert_int_equal(pattern_match(p, &s), PATTERN_YES);
	got = pattern_group(p, &s, number_of(p, "last"));
	assert_int_equal(got.n, 1);
	assert_ptr_equal(got.p, line + PATTERN_SUBJECT_MAX - 1);
	pattern_free(p);
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The costliest of `rounds` matches, the first of them with a full retry budget. */
static void attack(const char *regex, struct slice text)
{
	struct pattern *p = make(regex);
	double start = cpu_ms(), total;

	for (int i = 0; i < 200; i++) {
		struct pattern_subject s = subject(text);

		assert_int_equal(pattern_match(p, &s), PATTERN_GAVE_UP);
	}
	total = cpu_ms() - start;
	print_message("%s on %zu bytes: %.2f ms a line\n", regex, text.n, total / 200);
	/* 50 ms of retries and one debt, and 200 short tries; 5 ms a line leave room for
	 * sanitizers. */
	assert_true(total < 200 * 5);
	pattern_free(p);
}

static void test_match_limit(void **state)
{
	static char text[PATTERN_SUBJECT_MAX];

	(void)state;
	memset(text, 'a', sizeof text);
	text[sizeof text - 1] = '!';
	attack("(a+)+$", slice_of(text, sizeof text));
	attack("^(?:a|aa)+$", slice_of(text, sizeof text));
	memset(text, ' ', sizeof text);
	attack("^(?: +)*(?: *)*\\w$", slice_of(text, sizeof text));
	text[5] = (char)0xff;
	attack("^(?:\\s|.)*(?:.+)*\\d$", slice_of(text, sizeof text));
}

/* 20,000 steps are more than the first try has; the retry finds the honest match. */
static void test_retry(void **state)
{
	static char text[PATTERN_SUBJECT_MAX];
	struct pattern *p = make("^(?:a|aa)*b(?P<end>c)$");
	struct pattern_subject s;
	struct timespec pause = {1, 200000000};
	unsigned found = 0;

	(void)state;
	nanosleep(&pause, NULL); /* the attacks before have used the budget up */
	memset(text, 'a', sizeof text);
	for (size_t n = 8; n < 30; n++) {
		text[n] = 'd';
		memcpy(text + 4000, "bc", 2);
		s = subject(slice_of(text, n + 1));
		found += pattern_match(p, &s) == PATTERN_NO;
		text[n] = 'a';
	}
	/* Fibonacci growth: about a dozen of these need more than 10,000 and less than 1,000,000
	 * steps. */
	assert_in_range(found, 18, 22);
	pattern_free(p);
}

/* Without patterns nothing is machine code; with one it depends on the machine, and is said. */
static void test_jit(void **state)
{
	struct pattern *p;

	(void)state;
	assert_false(pattern_jit());
	p = make("^<HOST>$");
	print_message("jit %s\n", pattern_jit() ? "yes" : "no");
	pattern_free(p);
	assert_false(pattern_jit());
}

static void test_groups(void **state)
{
	(void)state;
	assert_string_equal(get("^(?P<a>x)(?P<b>y)?(?P<c>z)?", SLICE("xz"), "b"), "(none)");
	assert_string_equal(get("^(?P<a>x)(?P<b>y)?(?P<c>z)?", SLICE("x"), "c"), "(none)");
	assert_string_equal(get("^(?P<a>x)(?P<b>.*)", SLICE("x"), "b"), "");
	assert_string_equal(get("^(?P<a>[^x]*)", SLICE("ab"), "a"), "ab"); /* without the \n */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),      cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_line_ends),   cmocka_unit_test(test_unicode),
		cmocka_unit_test(test_longest),     cmocka_unit_test(test_invalid_utf8),
		cmocka_unit_test(test_match_limit), cmocka_unit_test(test_retry),
		cmocka_unit_test(test_groups),      cmocka_unit_test(test_jit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
