/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Translation of the failregex dialect: every tag, every rule, every refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "daemon/filter/tags.h"

static void expect(const char *source, enum tags_mode mode, const char *wanted)
{
	struct text_at at = {source, "t.conf", 7};
	struct error err = {0};
	struct tags_text text;
	int r = tags_translate(&at, mode, &text, &err);

	if (r < 0)
		print_error("%s: %s\n", source, err.text);
	assert_int_equal(r, 0);
	assert_string_equal(text.text, wanted);
	assert_int_equal(text.n, strlen(wanted));
	assert_int_equal(text.from[text.n], strlen(source));
	tags_free(&text);
}

static void expect_both(const char *source, const char *wanted)
{
	expect(source, TAGS_BYTES, wanted);
	expect(source, TAGS_UNICODE, wanted);
}

static void expect_refused(const char *source, const char *part)
{
	struct text_at at = {source, "t.conf", 7};
	struct error err = {0};
	struct tags_text text;

	assert_int_equal(tags_translate(&at, TAGS_UNICODE, &text, &err), ERROR_CONFIG);
	if (!strstr(err.text, part))
		print_error("'%s' does not hold '%s'\n", err.text, part);
	assert_non_null(strstr(err.text, part));
	assert_string_equal(err.file, "t.conf");
	assert_int_equal(err.line, 7);
	tags_free(&text);
}

static void test_plain(void **state)
{
	(void)state;
	expect_both("^abc \\d+ (?:x|y)$", "^abc \\d+ (?:x|y)$");
	expect_both("(?<=a)(?<!b)(?P<user>\\w+)(?P=user)(?(user)a|b)",
		    "(?<=a)(?<!b)(?P<user>\\w+)(?P=user)(?(user)a|b)");
	expect_both("a < b > <word> <x-y> <>", "a < b > <word> <x-y> <>");
	expect_both("(?P<HOST>x)", "(?P<HOST>x)");
	expect_both("(?#<HOST> ) is a comment)a", " is a comment)a");
}

static void test_custom_tags(void **state)
{
	(void)state;
	expect_both("<F-USER>\\w*</F-USER>", "(?P<user>\\w*)");
	expect_both("<F-ID>x</F-ID><F-PORT>y</F-PORT>", "(?P<fid>x)(?P<fport>y)");
	expect_both("<F-ID/> <F-PORT/>", "(?P<fid>\\S+) (?P<fport>\\w+)");
	expect_both("<F-CONTENT>.+</F-CONTENT>", "(?P<content>.+)");
	expect_both("<F-NOFAIL>ok</F-NOFAIL>", "(?P<nofail>ok)");
	expect_both("<F-ALT_USER_1>a</F-ALT_USER_1>", "(?P<alt_user_1>a)");
	expect_both("<F-TUPLE_ID>a</F-TUPLE_ID>", "(?P<tuple_id>a)");
	expect_both("<F-A>(<F-B>x</F-B>)</F-A>", "(?P<a>((?P<b>x)))");
	expect_both("<F-IP4>x</F-IP4>", "(?P<ip4>x)");
	expect_both("<F-CIDR/>|<CIDR>", "(?P<cidr>[0-9]+)|(?P<cidr>[0-9]+)");
	expect_both("<DNS>", "(?P<dns>[\\w\\-.^_]*\\w)");
	expect_both("<F-DNS/>", "(?P<dns>[\\w\\-.^_]*\\w)");
}

static void test_refused_tags(void **state)
{
	(void)state;
	expect_refused("<F-MLFID>a</F-MLFID>", "<F-MLFID> needs the multi-line state");
	expect_refused("^<F-MLFFORGET>a</F-MLFFORGET>", "<F-MLFFORGET>");
	expect_refused("^<F-MLFGAINED>a</F-MLFGAINED>", "<F-MLFGAINED>");
	expect_refused("a<SKIPLINES>b", "<SKIPLINES>");
	expect_refused("a</F-USER>", "</F-USER> closes a tag that is not open here");
	expect_refused("<F-A><F-B>x</F-A></F-B>", "</F-A> closes");
	expect_refused("<F-USER>x", "<F-USER> is opened and not closed");
	expect_refused("<F-FOO/>", "<F-FOO/> is no tag");
	expect_refused("<F-user>x", "<F-user> is no tag");
}

static void test_quantifier(void **state)
{
	(void)state;
	expect_both("\\d{,3}", "\\d{0,3}");
	expect_both("a{,}b{2,}c{1,2}d{3}", "a{0,}b{2,}c{1,2}d{3}");
	expect_both("\\{,3}[{,3}]{,x}", "\\{,3}[{,3}]{,x}");
}

static void test_escapes(void **state)
{
	(void)state;
	expect_both("a\\Z\\v\\b\\w\\W\\d\\D\\t\\.\\<", "a\\z\\x0b\\b\\w\\W\\d\\D\\t\\.\\<");
	expect("\\s\\S[\\s\\S]", TAGS_BYTES, "\\s\\S[\\s\\S]");
	expect("\\s\\S[a\\s][\\S]", TAGS_UNICODE,
	       "[\\s\\x1c-\\x1f][^\\s\\x1c-\\x1f][a\\s\\x1c-\\x1f][\\S]");
	expect("\\u2028\\U0001F600\\x41\\x{e9}", TAGS_UNICODE, "\\x{2028}\\x{1f600}\\x{41}\\x{e9}");
	expect("\\u2028\\x41\\xe9[\\u0400-\\u04ff]", TAGS_BYTES, "\\xff\\x{41}\\xff[\\xff-\\xff]");
	expect("\xc3\xa9?[\xd0\xb0-\xd1\x8f]", TAGS_BYTES, "\\xff?[\\xff-\\xff]");
	expect("\xc3\xa9?\\\xc3\xa9", TAGS_UNICODE, "\xc3\xa9?\xc3\xa9");
	expect("\\\xc3\xa9", TAGS_BYTES, "\\xff");
	for (const char *c = "CEGHKLMNOPQRVXceghijklmopqy"; *c; c++) {
		char text[4] = {'a', '\\', *c, 0};

		expect_refused(text, "is no escape of this dialect");
	}
	expect_refused("a\\", "a backslash at the end");
	expect_refused("\\u12", "incomplete");
	expect_refused("\\U00110000", "no such character");
	expect_refused("\\x{12", "unfinished");
}

static void test_classes(void **state)
{
	(void)state;
	expect_both("[[:alpha:]]", "[\\[:alpha:]]");
	expect_both("[]a][^]b]", "[\\]a][^\\]b]");
	expect_both("[<HOST>(?i)(*X)]", "[<HOST>(?i)(*X)]");
	expect_both("[\\]<]<x", "[\\]<]<x");
}

static void test_flags(void **state)
{
	(void)state;
	expect_both("(?iu)a", "(?i)a");
	expect_both("(?u)a(?L:b)(?a)", "a(?:b)");
	expect_both("(?i:a)(?s-i:b)((?i)c)", "(?i:a)(?s-i:b)((?i)c)");
	expect_both("(?-u:a)", "(?:a)");
	expect_refused("(*CRLF)a", "verbs");
	expect_refused("a(*LIMIT_MATCH=1)", "verbs");
}

static void test_position(void **state)
{
	struct text_at at = {"^<HOST> abcdefghijklmnopqrstuvwxyz0123456789 and more text \\K", "f",
			     1};
	struct tags_text text;
	struct error err = {0};

	(void)state;
	assert_int_equal(tags_translate(&at, TAGS_BYTES, &text, &err), ERROR_CONFIG);
	assert_string_equal(
		err.text, "bad regular expression at offset 61: \\K is no escape of this dialect: "
			  "'...fghijklmnopqrstuvwxyz0123456789 and more text \\K'");
	tags_free(&text);
	expect_refused("", "empty regular expression");
	expect_refused("  \t", "empty regular expression");
}

/* What the translation gives must always point back into the source. */
static void test_random(void **state)
{
	static const char *const pieces[] = {
		"<HOST>", "[",      "]", "\\", "(",        ")",    "(?", "{,", "3}",
		"<F-A>",  "</F-A>", "u", ":",  "\xc3\xa9", "\xff", "<",  ">",  "P<",
		"*",      "\\x",    "^", "-",  "s",        "Z",    "/"};
	unsigned seed = 20261123;

	(void)state;
	print_message("seed %u\n", seed);
	for (int round = 0; round < 20000; round++) {
		char source[128] = "";
		struct text_at at = {source, "r", 1};
		struct tags_text text;

		for (int k = 0; k < 10; k++) {
			seed = seed * 1103515245 + 12345;
			strcat(source, pieces[(seed >> 16) % (sizeof pieces / sizeof *pieces)]);
		}
		if (tags_translate(&at, round & 1, &text, NULL) == 0)
			for (size_t i = 0; i <= text.n; i++)
				assert_true(text.from[i] <= strlen(source) &&
					    (!i || text.from[i] >= text.from[i - 1]));
		tags_free(&text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),        cmocka_unit_test(test_custom_tags),
		cmocka_unit_test(test_refused_tags), cmocka_unit_test(test_quantifier),
		cmocka_unit_test(test_escapes),      cmocka_unit_test(test_classes),
		cmocka_unit_test(test_flags),        cmocka_unit_test(test_position),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
