/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The INI dialect: grammar, merging, includes, interpolation, parameters, specs, and each error's
 * text. */
#include "daemon/config/ini.h"
#include "tests/unit/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

static struct arena arena;
static struct ini ini;
static struct conf_errors errs;
static char dir[64];

static int begin(void **state)
{
	(void)state;
	memset(&arena, 0, sizeof arena);
	ini_init(&ini, &arena);
	snprintf(dir, sizeof dir, "/tmp/tailban-ini-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	conf_errors_free(&errs);
	arena_free(&arena);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

static const char *in_dir(const char *name)
{
	return arena_printf(&arena, "%s/%s", dir, name);
}

static void put_bytes(const char *name, const char *bytes, size_t n)
{
	FILE *f = fopen(in_dir(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
}

static void put(const char *name, const char *text)
{
	put_bytes(name, text, strlen(text));
}

static void parse(const char *text)
{
	assert_int_equal(ini_parse(&ini, "x.conf", slice_str(text), &errs), 0);
}

static void expect_errors(const char *text)
{
	struct textual {
		char line[1100];
	} *now = malloc(sizeof *now);
	struct slice rest = slice_str(text), wanted;
	size_t i = 0;

	assert_non_null(now);
	while (slice_next(&rest, "\n", &wanted)) {
		if (i >= errs.count)
			fail_msg("missing: %.*s", (int)wanted.n, wanted.p);
		error_format(&errs.items[i++], now->line, sizeof now->line);
		if (strncmp(now->line, dir, strlen(dir)) == 0)
			memmove(now->line, now->line + strlen(dir) + 1,
				strlen(now->line) - strlen(dir));
		if (!slice_eq_str(wanted, now->line))
			fail_msg("wanted '%.*s', got '%s'", (int)wanted.n, wanted.p, now->line);
	}
	assert_int_equal(errs.count, i);
	free(now);
}

static void refuse(const char *text, const char *wanted)
{
	conf_errors_free(&errs);
	assert_int_equal(ini_parse(&ini, "x.conf", slice_str(text), &errs), ERROR_CONFIG);
	expect_errors(wanted);
}

static const char *raw(const char *section, const char *name)
{
	const struct ini_value *v = ini_get(&ini, section, name);

	return v ? v->text : "(none)";
}

static const char *value(const char *section, const char *name)
{
	const struct ini_value *v = ini_get(&ini, section, name);
	const char *text = NULL;
	struct error err = {0};

	assert_non_null(v);
	if (ini_expand(&ini, section, v, NULL, 0, &text, &err))
		fail_msg("%s", err.text);
	return text;
}

static void value_fails(const char *section, const char *name, const char *wanted)
{
	const char *text;
	struct error err = {0};
	char line[1100];

	assert_int_equal(
		ini_expand(&ini, section, ini_get(&ini, section, name), NULL, 0, &text, &err),
		ERROR_CONFIG);
	assert_string_equal(error_format(&err, line, sizeof line), wanted);
}

static void grammar(void **state)
{
	(void)state;
	parse("\xef\xbb\xbf# comment\r\n; another\r\n\r\n[One]\r\nA = b c\r\nx: y ; gone\r\nurl = "
	      "a;b=c\r\n"
	      "empty =\r\n[ Two words ]\nmulti = first\n  second ; no\n# between\n\n\tthird = :\n\n"
	      "after = 1\n  [not a section]\n[One]\nmore = 2\n");
	assert_string_equal(raw("One", "a"), "b c");
	assert_string_equal(raw("One", "x"), "y");
	assert_string_equal(raw("One", "url"), "a;b=c");
	assert_string_equal(raw("One", "empty"), "");
	assert_string_equal(raw("One", "more"), "2");
	assert_string_equal(raw("Two words", "multi"), "first\nsecond\n\n\nthird = :");
	assert_string_equal(raw("Two words", "after"), "1\n[not a section]");
	assert_int_equal(ini_get(&ini, "Two words", "multi")->line, 10);
	assert_int_equal(ini_section(&ini, "One")->line, 4);
	assert_null(ini_section(&ini, "one"));
	assert_int_equal(ini.count, 2);
}

static void conditions(void **state)
{
	(void)state;
	parse("[Init]\nblock = a\nblock?family=inet6 = b\n[Init?family=inet6]\nmax = "
	      "128\n[Init]\nmax=32\n");
	assert_string_equal(raw("Init", "block"), "a");
	assert_string_equal(raw("Init", "max"), "32");
	assert_int_equal(ini.count, 2);
	assert_string_equal(ini.sections[0].options[1].cond, "family=inet6");
	assert_string_equal(ini.sections[1].cond, "family=inet6");
}

static void bad_lines(void **state)
{
	(void)state;
	refuse("a = 1\n[x]\n", "x.conf:1: text before the first [section]: 'a = 1'");
	refuse("[x]\nword\n[y\n[z] more\n[]\n= 1\n",
	       "x.conf:2: neither '[section]' nor 'name = value': 'word'\n"
	       "x.conf:3: the section's name has no ']': '[y'\n"
	       "x.conf:4: text behind a section's name: '[z] more'\n"
	       "x.conf:5: a section needs a name: '[]'\n"
	       "x.conf:6: neither '[section]' nor 'name = value': '= 1'");
	refuse("[x]\na = \xff\xfe\n", "x.conf:2: bytes that are not UTF-8: 'a = \\xff\\xfe'");
	refuse("[x]\na = \xc0\xaf\n", "x.conf:2: bytes that are not UTF-8: 'a = \\xc0\\xaf'");
	refuse("[x?y]\n", "x.conf:1: a section needs a name: '[x?y]'");
	assert_int_equal(ini.count, 0);
	conf_errors_free(&errs);
	assert_int_equal(ini_parse(&ini, "x.conf", SLICE("[x]\na = \0b\n"), &errs), ERROR_CONFIG);
	expect_errors("x.conf:2: a NUL byte in the line: 'a = \\x00b'");
}

static void long_lines(void **state)
{
	size_t n = 1 << 20;
	char *text = malloc(n);

	(void)state;
	assert_non_null(text);
	memset(text, 'a', n);
	memcpy(text, "[x]\nb=", 6);
	assert_int_equal(ini_parse(&ini, "x.conf", slice_of(text, n), &errs), ERROR_CONFIG);
	assert_int_equal(errs.count, 1);
	assert_int_equal(errs.items[0].line, 2);
	assert_non_null(strstr(errs.items[0].text, "a line of more than 64 KiB"));
	conf_errors_free(&errs);
	assert_int_equal(ini_parse(&ini, "x.conf", slice_of(text, 6 + INI_MAX_LINE - 2), &errs), 0);
	memset(text, '\n', n);
	memcpy(text, "[x]\nb=", 6);
	assert_int_equal(ini_parse(&ini, "x.conf", slice_of(text, n), &errs), 0);
	for (size_t i = 0; i + 1 < n; i += 2)
		memcpy(text + i, "a\n", 2);
	assert_int_equal(ini_parse(&ini, "x.conf", slice_of(text, n), &errs), ERROR_CONFIG);
	assert_int_equal(errs.count, 21);
	free(text);
}

static void twice(void **state)
{
	(void)state;
	parse("[x]\na = 1\n");
	parse("[x]\na = 2\na = 3\n");
	assert_string_equal(raw("x", "a"), "3");
	assert_string_equal(ini_get(&ini, "x", "a")->known->text, "1");
	assert_int_equal(ini.nwarnings, 1);
	assert_string_equal(ini.warnings[0].text,
			    "'a' is set twice in [x], this one counts and line 2 does not");
	assert_int_equal(ini.warnings[0].line, 3);
}

static void order_of_files(void **state)
{
	(void)state;
	assert_int_equal(mkdir(in_dir("jail.d"), 0755), 0);
	put("jail.conf", "[x]\na = conf\nb = conf\nc = conf\nd = conf\ne = conf\n");
	put("jail.d/10.conf", "[x]\nb = 10\nc = 10\nd = 10\ne = 10\n");
	put("jail.d/20.conf", "[x]\nc = 20\nd = 20\ne = 20\n");
	put("jail.local", "[x]\nd = local\ne = local\n");
	put("jail.d/05.local", "[x]\ne = 05\n");
	put("jail.d/.hidden.conf", "broken");
	put("jail.d/notes.txt", "broken");
	assert_int_equal(ini_read_tree(&ini, dir, "jail", &errs), 5);
	assert_string_equal(raw("x", "a"), "conf");
	assert_string_equal(raw("x", "b"), "10");
	assert_string_equal(raw("x", "c"), "20");
	assert_string_equal(raw("x", "d"), "local");
	assert_string_equal(raw("x", "e"), "05");
	assert_int_equal(ini_read_tree(&ini, dir, "none", &errs), 0);
}

static void includes(void **state)
{
	(void)state;
	put("a.conf", "[INCLUDES]\nbefore = b.conf\n\tb2.conf\nafter = c.conf\n   "
		      "maybe.local\n[x]\nk = a\nl = a\n");
	put("b.conf", "[x]\nk = b\nl = b\nm = b\nn = b\n");
	put("b.local", "[x]\nm = blocal\nn = blocal\n");
	put("b2.conf", "[x]\nn = b2\n");
	put("c.conf", "[x]\nl = c\n");
	assert_int_equal(ini_read(&ini, in_dir("a.conf"), &errs), 0);
	assert_string_equal(raw("x", "k"), "a");
	assert_string_equal(raw("x", "l"), "c");
	assert_string_equal(raw("x", "m"), "blocal");
	assert_string_equal(raw("x", "n"), "b2");
	assert_null(ini_section(&ini, "INCLUDES"));
	assert_int_equal(ini_read(&ini, in_dir("nothing.conf"), &errs), -ENOENT);
	assert_int_equal(errs.count, 0);
}

static void local_includes_its_conf(void **state)
{
	(void)state;
	put("f.conf", "[x]\nk = conf\n");
	put("f.local", "[INCLUDES]\nbefore = f.conf\n[x]\nk = %(known/k)s local\n");
	assert_int_equal(ini_read_tree(&ini, dir, "f", &errs), 2);
	assert_string_equal(value("x", "k"), "conf local");
}

static void bad_includes(void **state)
{
	(void)state;
	put("a.conf", "[INCLUDES]\nbefore = b.conf\n");
	put("b.conf", "[INCLUDES]\nafter = a.conf\n");
	assert_int_equal(ini_read(&ini, in_dir("a.conf"), &errs), ERROR_CONFIG);
	expect_errors("b.conf:2: the include leads back to a file that is being read: 'a.conf'");
	conf_errors_free(&errs);
	put("a.conf", "[INCLUDES]\nbefore = gone.conf\n");
	assert_int_equal(ini_read(&ini, in_dir("a.conf"), &errs), ERROR_CONFIG);
	expect_errors("a.conf:2: no such file to include: 'gone.conf'");
	conf_errors_free(&errs);
	put("a.conf", "[INCLUDES]\nbefore = a.conf\n");
	assert_int_equal(ini_read(&ini, in_dir("a.conf"), &errs), ERROR_CONFIG);
	assert_int_equal(errs.count, 1);
	conf_errors_free(&errs);
	assert_int_equal(mkdir(in_dir("d.conf"), 0755), 0);
	assert_int_equal(ini_read(&ini, in_dir("d.conf"), &errs), ERROR_CONFIG);
	expect_errors("d.conf: is no regular file");
	conf_errors_free(&errs);
	assert_int_equal(mkdir(in_dir("t.d"), 0755), 0);
	assert_int_equal(symlink("nowhere", in_dir("t.d/x.conf")), 0);
	assert_int_equal(ini_read_tree(&ini, dir, "t", &errs), ERROR_CONFIG);
	expect_errors("t.d/x.conf: cannot be read: No such file or directory");
}

static void interpolation(void **state)
{
	(void)state;
	parse("[DEFAULT]\nhome = /srv\nname = default\nlate = %(later)s\nUpper = U\n"
	      "[a]\nlog = %(home)s/%(name)s.log\nname = a\nlater = set\nper = 100%%\nbare = "
	      "80%\nself = "
	      "%(__name__)s\n"
	      "other = %(b/log)s %(default/name)s %(DEFAULT/name)s\nup = %(UPPER)s\n"
	      "[b]\nlog = b:%(name)s\n");
	assert_string_equal(value("a", "log"), "/srv/a.log");
	assert_string_equal(value("a", "late"), "set");
	assert_string_equal(value("a", "per"), "100%");
	assert_string_equal(value("a", "bare"), "80%");
	assert_string_equal(value("a", "self"), "a");
	assert_string_equal(value("a", "other"), "b:default default default");
	assert_string_equal(value("a", "up"), "U");
}

static void known(void **state)
{
	(void)state;
	parse("[DEFAULT]\nlist = d\n[x]\nre = one\nother = o1\n");
	parse("[x]\nre = %(known/re)s\n two\nother = o2\nuses = %(known/other)s %(other)s\n");
	parse("[x]\nre = %(known/re)s\n three\nlist = %(known/list)s more\nnone = "
	      "%(known/none)s\n");
	assert_string_equal(value("x", "re"), "one\ntwo\nthree");
	assert_string_equal(value("x", "uses"), "o1 o2");
	assert_string_equal(value("x", "list"), "d more");
	value_fails("x", "none", "x.conf:5: the name in %(name)s is not defined: '%(known/none)s'");
}

static void bad_interpolation(void **state)
{
	struct error err = {0};
	const char *text;

	(void)state;
	parse("[x]\na = %(a)s\nb = 50% off\nc = ok\n  %(gone)s here\nd = %(open\ne = %(c/x)s\nf = "
	      "%()s\n"
	      "l0 = "
	      "aaaaaaaaaaaaaaaaaaaa\nl1=%(l0)s%(l0)s%(l0)s%(l0)s%(l0)s%(l0)s%(l0)s%(l0)s%(l0)s%(l0)"
	      "s\n"
	      "l2=%(l1)s%(l1)s%(l1)s%(l1)s%(l1)s%(l1)s%(l1)s%(l1)s%(l1)s%(l1)s\n"
	      "l3=%(l2)s%(l2)s%(l2)s%(l2)s%(l2)s%(l2)s%(l2)s%(l2)s%(l2)s%(l2)s\n"
	      "l4=%(l3)s%(l3)s%(l3)s%(l3)s%(l3)s%(l3)s%(l3)s%(l3)s%(l3)s%(l3)s\n");
	value_fails("x", "a",
		    "x.conf:2: interpolation without end, does it refer to itself?: '%(a)s'");
	value_fails("x", "b",
		    "x.conf:3: a percent sign is written %%, or begins a %(name)s: '% off'");
	value_fails("x", "c", "x.conf:5: the name in %(name)s is not defined: '%(gone)s here'");
	value_fails("x", "d",
		    "x.conf:6: a percent sign is written %%, or begins a %(name)s: '%(open'");
	value_fails("x", "e", "x.conf:7: the name in %(name)s is not defined: '%(c/x)s'");
	value_fails("x", "f",
		    "x.conf:8: a percent sign is written %%, or begins a %(name)s: '%()s'");
	assert_int_equal(ini_expand(&ini, "x", ini_get(&ini, "x", "l4"), NULL, 0, &text, &err),
			 ERROR_CONFIG);
	assert_non_null(strstr(err.text, "interpolation without end"));
}

static void lines(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
	} wanted[] = {{"one", 3}, {"two", 5}, {"b1 x", 7}, {"v1", 0},
		      {"v2", 0},  {"c1", 12}, {"c2", 13},  {"last", 10}};
	const struct ini_var vars[] = {{"known/list", "v1\nv2\n"}};
	struct text_at *got;
	struct error err = {0};
	int n;

	(void)state;
	parse("[x]\nlist =\n  one\n# no\n  two\n\n  %(b)s x\n  %(known/list)s\n  %(c)s\n  last\n"
	      "b = b1\nc = c1\n  c2\n");
	n = ini_lines(&ini, "x", ini_get(&ini, "x", "list"), vars, 1, &got, &err);
	assert_int_equal(n, sizeof wanted / sizeof wanted[0]);
	for (int i = 0; i < n; i++) {
		assert_string_equal(got[i].text, wanted[i].text);
		assert_int_equal(got[i].line, wanted[i].line ? wanted[i].line : 8);
		assert_string_equal(got[i].file, "x.conf");
	}
	parse("[x]\nloop = %(loop)s\n");
	assert_int_equal(ini_lines(&ini, "x", ini_get(&ini, "x", "loop"), NULL, 0, &got, &err),
			 ERROR_CONFIG);
	assert_int_equal(err.line, 2);
}

static int find(void *context, struct slice name, const char **ret_value, struct error *err)
{
	static const char *const table[][2] = {
		{"mode", "fast"},    {"re-fast", "^<deep>$"},  {"deep", "x"},
		{"self", "a<self>"}, {"grow", "<grow><grow>"}, {"empty", ""}};

	(void)context;
	if (slice_eq_str(name, "broken"))
		return error_set(err, ERROR_CONFIG, "broken");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (slice_eq_str(name, table[i][0])) {
			*ret_value = table[i][1];
			return 1;
		}
	}
	return 0;
}

static void parameters(void **state)
{
	struct text_at text = {.file = "f.conf", .line = 7};
	const char *got;
	struct error err = {0};
	char line[1100];

	(void)state;
	text.text =
		"<HOST> <re-<mode>> <F-USER>\\S+</F-USER> (?P<mode>x) a<b <empty>| <unknown> << <";
	assert_int_equal(ini_substitute(&arena, &text, find, NULL, &got, &err), 0);
	assert_string_equal(got,
			    "<HOST> ^x$ <F-USER>\\S+</F-USER> (?P<mode>x) a<b | <unknown> << <");
	text.text = "<self>";
	assert_int_equal(ini_substitute(&arena, &text, find, NULL, &got, &err), ERROR_CONFIG);
	assert_string_equal(
		error_format(&err, line, sizeof line),
		"f.conf:7: <parameters> without end, does one refer to itself?: '<self>'");
	text.text = "<grow>";
	assert_int_equal(ini_substitute(&arena, &text, find, NULL, &got, &err), ERROR_CONFIG);
	text.text = "<broken>";
	assert_int_equal(ini_substitute(&arena, &text, find, NULL, &got, &err), ERROR_CONFIG);
}

static int specs(const char *text, struct ini_spec **ret, struct error *err)
{
	struct text_at at = {text, "j.conf", 3};

	return ini_specs(&arena, &at, ret, err);
}

static void spec_lists(void **state)
{
	struct ini_spec *s;
	struct error err = {0};

	(void)state;
	assert_int_equal(specs("sshd[mode=aggressive, x=\"a,b]\", Y='it''', e=]", &s, &err),
			 ERROR_CONFIG);
	assert_int_equal(specs("sshd[mode=aggressive, x=\"a,b]\", Y='\"', e=]", &s, &err), 1);
	assert_string_equal(s[0].name, "sshd");
	assert_int_equal(s[0].nargs, 4);
	assert_string_equal(s[0].args[0].value, "aggressive");
	assert_string_equal(s[0].args[1].value, "a,b]");
	assert_string_equal(s[0].args[2].name, "y");
	assert_string_equal(s[0].args[2].value, "\"");
	assert_string_equal(s[0].args[3].value, "");
	assert_int_equal(specs("a\n b[x=1][y=2],c d[]\n\n e[f=\"1\n2\",]\n", &s, &err), 5);
	assert_int_equal(s[1].nargs, 2);
	assert_string_equal(s[1].args[1].value, "2");
	assert_string_equal(s[4].args[0].value, "1\n2");
	assert_int_equal(specs("n[max?family=inet6=128]", &s, &err), 1);
	assert_string_equal(s[0].args[0].name, "max?family=inet6");
	assert_string_equal(s[0].args[0].value, "128");
	assert_int_equal(specs(" \n", &s, &err), 0);
}

static void bad_specs(void **state)
{
	static const char *const cases[][2] = {
		{"a[x=1", "j.conf:3: the arguments have no ]: 'x=1'"},
		{"a[x=\"1]", "j.conf:3: a quote is not closed: '\"1]'"},
		{"a[x]", "j.conf:3: an argument is written opt=value: 'x]'"},
		{"a[x=\"1\" y=2]",
		 "j.conf:3: a comma or ] is missing behind a quoted value: 'y=2]'"},
		{"[x=1]", "j.conf:3: arguments without a name: '[x=1]'"},
		{"a]", "j.conf:3: a ] without its [: 'a]'"},
		{"a[=1]", "j.conf:3: an argument is written opt=value: '=1]'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct ini_spec *s;
		struct error err = {0};
		char line[1100];

		assert_int_equal(specs(cases[i][0], &s, &err), ERROR_CONFIG);
		assert_string_equal(error_format(&err, line, sizeof line), cases[i][1]);
	}
}

/* Whatever the bytes: a verdict, no crash, and what is kept can be asked for. */
static void random_text(void **state)
{
	static const char *const pieces[] = {"[x]\n", "a", "=",           "%(a)s",       "%(x/a)s",
					     "\n",    " ", "%%",          "[DEFAULT]\n", "?f=1",
					     ";",     "#", "%(known/a)s", "<a>",         "\xc3\xa4",
					     "[",     "]", "b",           "\r\n",        "%"};
	(void)state;
	random_start("ini text");
	for (int i = 0; i < 2000; i++) {
		struct arena a = {0};
		struct ini x;
		char text[400] = "";

		for (int n = (int)random_below(60); n > 0; n--)
			strcat(text, pieces[random_below(sizeof pieces / sizeof pieces[0])]);
		ini_init(&x, &a);
		ini_parse(&x, "r.conf", slice_str(text), NULL);
		for (size_t s = 0; s < x.count; s++) {
			for (size_t o = 0; o < x.sections[s].count; o++) {
				const char *got;
				struct text_at *list;

				ini_expand(&x, x.sections[s].name, x.sections[s].options[o].value,
					   NULL, 0, &got, NULL);
				ini_lines(&x, x.sections[s].name, x.sections[s].options[o].value,
					  NULL, 0, &list, NULL);
			}
		}
		arena_free(&a);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(grammar),      TEST(conditions),
		TEST(bad_lines),    TEST(long_lines),
		TEST(twice),        TEST(order_of_files),
		TEST(includes),     TEST(local_includes_its_conf),
		TEST(bad_includes), TEST(interpolation),
		TEST(known),        TEST(bad_interpolation),
		TEST(lines),        TEST(parameters),
		TEST(spec_lists),   TEST(bad_specs),
		TEST(random_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
