/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Evidence: order, shares, overwriting and purging against a naive model; masking by a table. */
#include "daemon/jail/evidence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/random.h"

static struct addr net(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_net(slice_str(text), &a), 0);
	return a;
}

struct found {
	uint32_t n, most;
	struct evidence_record records[256];
};

static bool collect(void *ctx, const struct evidence_record *r)
{
	struct found *f = ctx;

	assert_true(f->n < 256);
	f->records[f->n++] = *r;
	return f->n != f->most;
}

static struct found walk(const struct evidence *e, const char *prefix, uint32_t most)
{
	struct found f = {.most = most};
	struct addr a = net(prefix);
	uint32_t n = evidence_walk(e, &a, collect, &f);

	assert_int_equal(n, f.n);
	return f;
}

static void note(struct evidence *e, const char *addr, enum evidence_verdict verdict,
		 int64_t time_s, const char *text)
{
	struct evidence_record r = {.time_s = time_s,
				    .noted_s = time_s,
				    .addr = net(addr),
				    .verdict = verdict,
				    .file = EVIDENCE_NO_FILE,
				    .value = time_s * 2};

	evidence_add(e, &r, slice_str(text));
}

static void test_walk(void **state)
{
	struct evidence *e = evidence_new(64, 0);
	struct found f;

	(void)state;
	assert_non_null(e);
	note(e, "192.0.2.1", EVIDENCE_OFFENCE, 1, "one");
	note(e, "192.0.2.2", EVIDENCE_OFFENCE, 2, "two");
	note(e, "192.0.2.1", EVIDENCE_BANNED, 3, "");
	note(e, "2001:db8::1", EVIDENCE_OFFENCE, 4, "six");
	note(e, "2001:db8::/64", EVIDENCE_BANNED, 5, "");
	note(e, "2001:db8::2", EVIDENCE_REPEATED, 6, "seven");
	f = walk(e, "192.0.2.1", 0);
	assert_int_equal(f.n, 2);
	assert_int_equal(f.records[0].time_s, 1);
	assert_int_equal(f.records[0].value, 2);
	assert_memory_equal(f.records[0].text, "one", f.records[0].text_n);
	assert_int_equal(f.records[1].verdict, EVIDENCE_BANNED);
	assert_int_equal(walk(e, "192.0.2.0/24", 0).n, 3);
	assert_int_equal(walk(e, "192.0.2.0/24", 2).n, 2);
	assert_int_equal(walk(e, "192.0.2.3", 0).n, 0);
	/* the host's own, and its network's */
	f = walk(e, "2001:db8::1", 0);
	assert_int_equal(f.n, 2);
	assert_int_equal(f.records[1].addr.plen, 64);
	assert_int_equal(walk(e, "2001:db8::/64", 0).n, 3);
	assert_int_equal(walk(e, "2001:db8::/32", 0).n, 3);
	/* a ban of a wider network belongs to the story of each host in it */
	note(e, "192.0.2.0/24", EVIDENCE_BANNED, 7, "");
	f = walk(e, "192.0.2.1", 0);
	assert_int_equal(f.n, 3);
	assert_int_equal(f.records[2].addr.plen, 24);
	assert_int_equal(evidence_count(e), 7);
	assert_int_equal(evidence_purge(e, 3), 2);
	assert_int_equal(walk(e, "192.0.2.0/24", 0).n, 2);
	assert_int_equal(evidence_purge(e, 100), 5);
	assert_int_equal(evidence_count(e), 0);
	assert_int_equal(walk(e, "::/0", 0).n, 0);
	evidence_free(e);
	evidence_free(NULL);
	assert_null(evidence_new(0, 1));
}

/* Nobody fills the list alone, and lines do not push out decisions. */
static void test_share(void **state)
{
	struct evidence *e = evidence_new(64, 4);
	struct found f;

	(void)state;
	note(e, "192.0.2.2", EVIDENCE_OFFENCE, 1, "quiet one");
	note(e, "192.0.2.1", EVIDENCE_BANNED, 2, "");
	for (int i = 0; i < 1000; i++)
		note(e, "192.0.2.1", i % 2 ? EVIDENCE_REPEATED : EVIDENCE_OFFENCE, 10 + i, "line");
	for (int i = 0; i < 50; i++) /* a /64 is one somebody */
		note(e, i % 2 ? "2001:db8::1" : "2001:db8::2", EVIDENCE_OFFENCE, 2000, "line");
	f = walk(e, "192.0.2.1", 0);
	assert_int_equal(f.n, 5);
	assert_int_equal(f.records[0].verdict, EVIDENCE_BANNED);
	assert_int_equal(f.records[1].time_s, 1006);
	assert_int_equal(f.records[4].time_s, 1009);
	assert_int_equal(walk(e, "192.0.2.2", 0).n, 1);
	assert_int_equal(walk(e, "2001:db8::/64", 0).n, 4);
	assert_int_equal(evidence_overwritten(e), 0);
	evidence_free(e);
}

struct model {
	struct evidence_record records[64];
	uint32_t n;
	uint64_t overwritten;
};

static void model_drop(struct model *m, uint32_t at)
{
	m->n--;
	memmove(&m->records[at], &m->records[at + 1], (m->n - at) * sizeof m->records[0]);
}

static bool has_line(uint8_t verdict)
{
	return verdict <= EVIDENCE_POISON;
}

static void model_add(struct model *m, const struct evidence_record *r, uint32_t cap,
		      uint32_t share)
{
	unsigned bits = r->addr.family == ADDR_IPV4 ? 32 : 64;
	struct addr unit = addr_mask(r->addr, bits);
	uint32_t mine = 0, oldest = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		struct addr other = addr_mask(m->records[i].addr, bits);

		if (!addr_eq(&other, &unit) ||
		    has_line(m->records[i].verdict) != has_line(r->verdict))
			continue;
		if (!mine++)
			oldest = i;
	}
	if (mine >= share) {
		model_drop(m, oldest);
	} else if (m->n == cap) {
		model_drop(m, 0);
		m->overwritten++;
	}
	m->records[m->n++] = *r;
}

static struct addr some_addr(void)
{
	unsigned char six[16] = {
		0x20,
		1, [7] = (unsigned char)random_below(3), [15] = (unsigned char)random_below(3)};
	unsigned char four[4] = {10, 0, 0, (unsigned char)random_below(9)};
	struct addr a = random_below(2) ? addr_from_ipv4(four) : addr_from_ipv6(six);
	unsigned plen = a.family == ADDR_IPV4 ? 29 + random_below(4) : 60 + random_below(70);

	return random_below(3) ? a : addr_mask(a, plen);
}

static void model_compare(const struct evidence *e, const struct model *m)
{
	struct addr a = some_addr();
	struct found f = {0};
	uint32_t n = 0;

	assert_int_equal(evidence_count(e), m->n);
	assert_int_equal(evidence_overwritten(e), m->overwritten);
	evidence_walk(e, &a, collect, &f);
	for (uint32_t i = 0; i < m->n; i++) {
		const struct evidence_record *r = &m->records[i];

		if (!addr_contains(&a, &r->addr) && !addr_contains(&r->addr, &a))
			continue;
		assert_true(n < f.n);
		assert_int_equal(f.records[n].time_s, r->time_s);
		assert_int_equal(f.records[n].verdict, r->verdict);
		n++;
	}
	assert_int_equal(n, f.n);
}

static void test_model(void **state)
{
	(void)state;
	random_start("evidence model");
	for (int round = 0; round < 40; round++) {
		uint32_t cap = 1 + random_below(64), share = 1 + random_below(8);
		struct evidence *e = evidence_new(cap, share);
		struct model m = {0};

		for (int i = 0; i < 600; i++) {
			struct evidence_record r = {
				.time_s = i,
				.noted_s = i - (int)random_below(20),
				.addr = some_addr(),
				.verdict = (uint8_t)random_below(EVIDENCE_NVERDICTS)};

			evidence_add(e, &r, SLICE("x"));
			model_add(&m, &r, cap, share);
			if (random_below(60) == 0) {
				uint32_t gone = 0;

				for (uint32_t k = m.n; k-- > 0;)
					if (m.records[k].noted_s < i - 30) {
						model_drop(&m, k);
						gone++;
					}
				assert_int_equal(evidence_purge(e, i - 30), gone);
			}
			model_compare(e, &m);
		}
		evidence_free(e);
	}
}

static const char *const masked[][2] = {
	{"", ""},
	{"GET /admin/ HTTP/1.1", "GET /admin/ HTTP/1.1"},
	{"GET /?password=hunter2 HTTP/1.1", "GET /?password=*** HTTP/1.1"},
	{"GET /?a=1&passwd=x&b=2 HTTP/1.1", "GET /?a=1&passwd=***&b=2 HTTP/1.1"},
	{"GET /?PassWord=x&Pwd=y&TOKEN=z&secret=q",
	 "GET /?PassWord=***&Pwd=***&TOKEN=***&secret=***"},
	{"GET /?api_key=1&api-key=2&apikey=3&key=4&x=5",
	 "GET /?api_key=***&api-key=***&apikey=***&key=***&x=5"},
	{"access_token=abc&client_secret=d&new_password2=e",
	 "access_token=***&client_secret=***&new_password2=***"},
	{"user[password]=x&user[name]=y", "user[password]=***&user[name]=y"},
	{"?next=%2Flogin%3Fpassword%3Dhunter2%26a%3Db&c=d",
	 "?next=%2Flogin%3Fpassword%3D***%26a%3Db&c=d"},
	{"?n=%252F%253Ftoken%253Dabc%2526a=1", "?n=%252F%253Ftoken%253D***%2526a=1"},
	{"?password=a%26b%3Dc&d=e", "?password=***&d=e"}, /* encoded, so part of the value */
	{"?%70assword=x y", "?%70assword=*** y"},
	{"?pass%77ord=x y", "?pass%77ord=*** y"},
	{"?password=&user=x", "?password=&user=x"},
	{"token=abc== next", "token=*** next"},
	{"password = secret1 then", "password = *** then"},
	{"password=\"two words\" x", "password=\"***\" x"},
	{"password='it\\'s' x", "password='***' x"},
	{"{\"password\": \"a \\\" b\", \"x\": 1}", "{\"password\": \"***\", \"x\": 1}"},
	{"{'token':'abc'}", "{'token':'***'}"},
	{"%22password%22%3A%22x%22%2C%22a%22", "%22password%22%3A%22***%22%2C%22a%22"},
	{"Authorization: Basic dXNlcjpwdw== x", "Authorization: Basic *** x"},
	{"authorization: bearer abc.def", "authorization: bearer ***"},
	{"'Authorization': 'Bearer a b', 'x'", "'Authorization': 'Bearer ***', 'x'"},
	{"Authorization: Digest username=\"u\", response=\"r\"", "Authorization: ***"},
	{"Proxy-Authorization: weird a b c", "Proxy-Authorization: ***"},
	{"Cookie: a=b; session=c\r\nHost: x", "Cookie: ***\r\nHost: x"},
	{"Cookie: a=b\\r\\nHost: x", "Cookie: ***\\r\\nHost: x"},
	{"Set-Cookie: id=1; Path=/", "Set-Cookie: ***"},
	{"X-Auth-Token: abc", "X-Auth-Token: ***"},
	/* nothing secret: stays */
	{"Failed password for root from 192.0.2.1 port 22",
	 "Failed password for root from 192.0.2.1 port 22"},
	{"sshd[77]: Accepted publickey for x: RSA SHA256:abc",
	 "sshd[77]: Accepted publickey for x: RSA SHA256:abc"},
	{"pam_unix(sshd:auth): authentication failure",
	 "pam_unix(sshd:auth): authentication failure"},
	{"192.0.2.1 - - [01/Jan/2024 00:00:00] \"GET /?id=7 HTTP/1.1\" 404 -",
	 "192.0.2.1 - - [01/Jan/2024 00:00:00] \"GET /?id=7 HTTP/1.1\" 404 -"},
	{"100%", "100%"},
	{"%2", "%2"},
	{"%zz=%", "%zz=%"},
	{"password=", "password="},
	{"password=%", "password=***"},
	{"key='", "key='"},
	{"key='\\", "key='***"},
};

static void test_mask(void **state)
{
	char dst[600];

	(void)state;
	for (size_t i = 0; i < sizeof masked / sizeof masked[0]; i++) {
		bool cut;
		size_t n = evidence_mask(dst, sizeof dst - 1, slice_str(masked[i][0]), &cut);

		dst[n] = 0;
		assert_string_equal(dst, masked[i][1]);
		assert_false(cut);
	}
}

/* Long lines are cut, a secret at the cut is masked all the same, raw bytes stay. */
static void test_mask_cut(void **state)
{
	const char raw[] = "\x1b[31m\0\xff\n=:";
	char line[9000], dst[64];
	bool cut;

	(void)state;
	assert_int_equal(evidence_mask(dst, sizeof dst, slice_of(raw, sizeof raw - 1), &cut),
			 sizeof raw - 1);
	assert_memory_equal(dst, raw, sizeof raw - 1);
	assert_false(cut);
	memset(line, 'a', sizeof line);
	memcpy(line + 50, "?password=hunter2hunter2", 24);
	memset(dst, 0, sizeof dst);
	assert_int_equal(evidence_mask(dst, sizeof dst, slice_of(line, sizeof line), &cut), 63);
	assert_memory_equal(dst + 50, "?password=***", 13);
	assert_false(cut); /* the value ran to the end */
	assert_int_equal(evidence_mask(dst, 55, slice_of(line, sizeof line), &cut), 55);
	assert_true(cut);
	assert_int_equal(evidence_mask(dst, 0, slice_of(line, 1), &cut), 0);
	assert_true(cut);
}

/* Any bytes: stays in bounds, gives back what holds no separator. */
static void test_mask_random(void **state)
{
	static const char *const pieces[] = {
		"password", "=",   ":", "%3D",    "%25",           "%",      "\"", "'",
		" ",        "\\",  "&", "Cookie", "Authorization", "Basic ", "x",  "\r\n",
		"\xc3",     "key", "%2"};

	(void)state;
	random_start("mask");
	for (int round = 0; round < 50000; round++) {
		char text[256];
		size_t n = 0, size = random_below(80), got;
		char *in, *dst = malloc(size + 1);

		for (uint32_t i = random_below(20); i > 0; i--) {
			const char *piece = pieces[random_below(sizeof pieces / sizeof pieces[0])];

			memcpy(text + n, piece, strlen(piece));
			n += strlen(piece);
		}
		in = malloc(n ? n : 1); /* exact, so that the sanitizer sees a step too far */
		memcpy(in, text, n);
		got = evidence_mask(dst, size, slice_of(in, n), NULL);
		assert_true(got <= size);
		free(in);
		free(dst);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(evidence_verdict_name(EVIDENCE_BANNED), "banned");
	assert_string_equal(evidence_verdict_name(EVIDENCE_NVERDICTS), "unknown");
	assert_int_equal(sizeof(struct evidence_record), 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk),     cmocka_unit_test(test_share),
		cmocka_unit_test(test_model),    cmocka_unit_test(test_mask),
		cmocka_unit_test(test_mask_cut), cmocka_unit_test(test_mask_random),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
