/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Escaping: nothing that moves a cursor or forges a line gets out, whatever goes in. */
#include "daemon/base/escape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

#define TEXT(literal)                                                                              \
	{                                                                                          \
		literal, sizeof(literal) - 1                                                       \
	}

static const struct {
	struct slice in;
	const char *out;
} cases[] = {
	{TEXT(""), ""},
	{TEXT("GET / HTTP/1.1"), "GET / HTTP/1.1"},
	{TEXT("\x1b[31mred\x1b[0m"), "\\x1b[31mred\\x1b[0m"},
	{TEXT("a\0b"), "a\\x00b"},
	{TEXT("a\r\nb\tc"), "a\\x0d\\x0ab\\x09c"},
	{TEXT("\x7f"), "\\x7f"},
	{TEXT("a\\x1b"), "a\\\\x1b"},
	{TEXT("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
	 "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
	{TEXT("\xc2\x85\xc2\x9b"
	      "31m"),
	 "\\u{85}\\u{9b}31m"},
	{TEXT("\xe2\x80\xa8\xe2\x80\xa9"), "\\u{2028}\\u{2029}"},
	{TEXT("a\xe2\x80\xae"
	      "b"),
	 "a\\u{202e}b"},
	{TEXT("a\xe2\x81\xa6"
	      "b"),
	 "a\\u{2066}b"},
	{TEXT("\xe2\x80\x8b\xef\xbb\xbf"), "\\u{200b}\\u{feff}"},
	{TEXT("\xf3\xa0\x81\x81"), "\\u{e0041}"},
	{TEXT("\xff\xfe"), "\\xff\\xfe"},
	{TEXT("\xc3"), "\\xc3"},
	{TEXT("\xe2\x82"), "\\xe2\\x82"},
	{TEXT("\xc0\x80"), "\\xc0\\x80"},                   /* overlong NUL */
	{TEXT("\xe0\x80\x80"), "\\xe0\\x80\\x80"},          /* overlong */
	{TEXT("\xed\xa0\x80"), "\\xed\\xa0\\x80"},          /* surrogate */
	{TEXT("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
	{TEXT("\xf5\x80\x80\x80"), "\\xf5\\x80\\x80\\x80"},
};

static void test_text(void **state)
{
	char buf[200];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_string_equal(escape_text(buf, sizeof buf, cases[i].in), cases[i].out);
	assert_string_equal(escape_text(buf, sizeof buf, SLICE_NONE), "");
}

static void test_cut(void **state)
{
	char buf[16];

	(void)state;
	assert_string_equal(escape_text(buf, 8, SLICE("abcdefg")), "abcdefg");
	assert_string_equal(escape_text(buf, 8, SLICE("abcdefgh")), "abcd...");
	assert_string_equal(escape_text(buf, 4, SLICE("abcd")), "...");
	assert_string_equal(escape_text(buf, 4, SLICE("abc")), "abc");
	assert_string_equal(escape_text(buf, 8, SLICE("\x1b\x1b")), "\\x1b...");
	assert_string_equal(escape_text(buf, 8,
					SLICE("abc\xc3\xbc"
					      "defg")),
			    "abc...");
}

/* A decoder of its own: every character printable, on one line. */
static bool is_clean(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	while (*p) {
		unsigned n = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
		uint32_t cp = n == 1 ? *p : *p & (0xffu >> (n + 1));

		if (*p < 0x20 || *p == 0x7f || (*p >= 0x80 && *p < 0xc2) || *p > 0xf4)
			return false;
		for (unsigned i = 1; i < n; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return false;
			cp = cp << 6 | (p[i] & 0x3fu);
		}
		if ((cp >= 0x80 && cp < 0xa0) || (cp >= 0xd800 && cp < 0xe000) || cp > 0x10ffff ||
		    (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069) ||
		    cp == 0x200f)
			return false;
		p += n;
	}
	return true;
}

static size_t some_bytes(char *text, size_t max)
{
	static const char *const pieces[] = {
		"\xe2\x80\xae", "\xc2\x9b", "\xc3\xbc", "\xf0\x9f\x98\x80", "\x1b", "\\", "a",
		"\xe2",         "\x80",     "\xf0",     "\xed\xa0\x80"};
	size_t n = 0;

	while (n + 4 <= max && random_below(30)) {
		const char *piece = pieces[random_below(sizeof pieces / sizeof pieces[0])];

		if (random_below(3) == 0) {
			text[n++] = (char)random_u64();
			continue;
		}
		memcpy(text + n, piece, strlen(piece));
		n += strlen(piece);
	}
	return n;
}

static void test_random_text(void **state)
{
	(void)state;
	random_start("escape_text");
	for (int round = 0; round < 100000; round++) {
		char text[128];
		size_t n = some_bytes(text, sizeof text), size = 4 + random_below(200);
		char *in = malloc(n ? n : 1), *dst = malloc(size),
		     *all = malloc(n * ESCAPE_MAX_GROWTH + 4);

		memcpy(in, text, n);
		escape_text(dst, size, slice_of(in, n));
		assert_true(strlen(dst) < size);
		assert_true(is_clean(dst));
		escape_text(all, n * ESCAPE_MAX_GROWTH + 4, slice_of(in, n));
		if (strlen(all) < size)
			assert_string_equal(dst, all);
		else
			assert_true(strlen(dst) >= 3 && strcmp(dst + strlen(dst) - 3, "...") == 0);
		free(in);
		free(dst);
		free(all);
	}
}

static void test_utf8(void **state)
{
	char buf[64];
	size_t n;

	(void)state;
	assert_true(escape_utf8(buf, sizeof buf, SLICE("a\x1b\0\xc3\xbc"), &n));
	assert_int_equal(n, 5);
	assert_memory_equal(buf, "a\x1b\0\xc3\xbc", 6);
	assert_false(escape_utf8(buf, sizeof buf,
				 SLICE("a\xff"
				       "b"),
				 &n));
	assert_string_equal(buf, "a\xef\xbf\xbd"
				 "b");
	assert_false(escape_utf8(buf, 4, SLICE("abcd"), NULL));
	assert_string_equal(buf, "abc");
	assert_false(escape_utf8(buf, 4, SLICE("ab\xc3\xbc"), NULL));
	assert_string_equal(buf, "ab");
	assert_true(escape_utf8(buf, 1, SLICE_NONE, &n));
	assert_int_equal(n, 0);
}

static void test_random_utf8(void **state)
{
	(void)state;
	random_start("escape_utf8");
	for (int round = 0; round < 100000; round++) {
		char text[128];
		size_t n = some_bytes(text, sizeof text), got, again;
		char *dst = malloc(3 * n + 1), *twice = malloc(9 * n + 1);
		bool same = escape_utf8(dst, 3 * n + 1, slice_of(text, n), &got);

		assert_int_equal(same, got == n && memcmp(dst, text, n) == 0);
		/* what came out is valid, so it passes unchanged */
		assert_true(escape_utf8(twice, 9 * n + 1, slice_of(dst, got), &again));
		assert_int_equal(again, got);
		free(dst);
		free(twice);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),        cmocka_unit_test(test_cut),
		cmocka_unit_test(test_random_text), cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_random_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
