/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket against rude clients: nobody but the rude one notices. */
#include "tests/unit/control_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "daemon/base/slice.h"

#define PAGE_BYTES 4096

struct scene {
	struct harness h;
	struct control_request *later; /* waits for its answer */
	size_t pages, pages_max;
	bool pull_ended, stream_broke;
	char *filler;
};

static json_t *page(const struct scene *s)
{
	return json_pack("{s:s}", "filler", s->filler);
}

static void next_page(void *arg, struct control_request *r)
{
	struct scene *s = arg;

	if (s->pages < s->pages_max && control_stream(r, page(s))) {
		s->pages++;
		return;
	}
	s->pull_ended = true;
	control_end(r);
}

/* More than may wait, at once. */
static void flood(struct scene *s, struct control_request *r)
{
	for (size_t sent = 0; sent < 2 * CONTROL_BACKLOG_BYTES && !s->stream_broke;
	     sent += PAGE_BYTES)
		s->stream_broke = !control_stream(r, page(s));
	control_end(r);
}

static void handle(void *ctx, struct control_request *r, const char *cmd, json_t *args,
		   const struct control_peer *peer)
{
	struct scene *s = ctx;
	struct error err = {0};

	if (!strcmp(cmd, "echo")) {
		control_reply(r, json_incref(args));
	} else if (!strcmp(cmd, "peer")) {
		control_reply(r, json_pack("[i, i]", (int)peer->pid, (int)peer->uid));
	} else if (!strcmp(cmd, "later")) {
		s->later = r;
	} else if (!strcmp(cmd, "pull")) {
		control_pull(r, next_page, s);
	} else if (!strcmp(cmd, "flood")) {
		flood(s, r);
	} else if (!strcmp(cmd, "nothing")) {
		control_reply(r, NULL);
	} else {
		error_at(&err, ERROR_CONFIG, "jail.conf", 7, "what is '%s'?", cmd);
		control_fail(r, "config", &err);
	}
}

static int set_up(void **state)
{
	struct scene *s = calloc(1, sizeof *s);

	if (!s)
		return -1;
	s->filler = malloc(PAGE_BYTES);
	memset(s->filler, 'x', PAGE_BYTES - 1);
	s->filler[PAGE_BYTES - 1] = 0;
	harness_open(&s->h, handle, s);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *s = *state;

	harness_close(&s->h);
	free(s->filler);
	free(s);
	return 0;
}

static void hear(struct scene *s, int fd, const char *wanted)
{
	char *line = harness_hear(&s->h, fd);

	assert_string_equal(line, wanted);
	free(line);
}

static void hear_closed(struct scene *s, int fd)
{
	hear(s, fd, "");
	close(fd);
}

static void hear_protocol_error(struct scene *s, int fd)
{
	json_t *o = harness_hear_json(&s->h, fd);

	assert_true(json_is_false(json_object_get(o, "ok")));
	assert_string_equal(json_string_value(json_object_get(o, "code")), "protocol");
	assert_non_null(json_string_value(json_object_get(o, "text")));
	json_decref(o);
	hear_closed(s, fd);
}

static void echo_works(struct scene *s, int fd)
{
	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"echo\",\"args\":{\"a\":1}}");
	hear(s, fd, "{\"ok\":true,\"data\":{\"a\":1}}");
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_requests(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h);
	char peer[100];

	echo_works(s, fd);
	echo_works(s, fd);
	harness_say(&s->h, fd,
		    "{\"v\":1,\"cmd\":\"echo\"}\n{\"v\":1,\"cmd\":\"echo\",\"args\":{\"b\":[]}}");
	hear(s, fd, "{\"ok\":true,\"data\":{}}");
	hear(s, fd, "{\"ok\":true,\"data\":{\"b\":[]}}");
	harness_say(&s->h, fd, " { \"v\" : 1 , \"cmd\" : \"huh\" } \r");
	hear(s, fd,
	     "{\"ok\":false,\"code\":\"config\",\"text\":\"what is 'huh'?\",\"file\":\"jail.conf\","
	     "\"line\":7}");
	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"nothing\"}");
	hear(s, fd, "{\"ok\":false,\"code\":\"internal\",\"text\":\"out of memory\"}");
	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"peer\"}");
	snprintf(peer, sizeof peer, "{\"ok\":true,\"data\":[%d,%d]}", getpid(), (int)getuid());
	hear(s, fd, peer);
	close(fd);
}

static void test_garbage(void **state)
{
	static const struct slice garbage[] = {
		SLICE("\n"),
		SLICE("hello\n"),
		SLICE("GET / HTTP/1.1\r\n"),
		SLICE("[]\n"),
		SLICE("1\n"),
		SLICE("{}\n"),
		SLICE("{\"v\":1}\n"),
		SLICE("{\"v\":2,\"cmd\":\"echo\"}\n"),
		SLICE("{\"v\":\"1\",\"cmd\":\"echo\"}\n"),
		SLICE("{\"v\":1.0,\"cmd\":\"echo\"}\n"),
		SLICE("{\"cmd\":\"echo\"}\n"),
		SLICE("{\"v\":1,\"cmd\":7}\n"),
		SLICE("{\"v\":1,\"cmd\":\"echo\",\"args\":[]}\n"),
		SLICE("{\"v\":1,\"cmd\":\"echo\",\"args\":null}\n"),
		SLICE("{\"v\":1,\"cmd\":\"echo\",\"more\":1}\n"),
		SLICE("{\"v\":1,\"cmd\":\"echo\"} {}\n"),
		SLICE("{\"v\":1,\"v\":1,\"cmd\":\"echo\"}\n"),
		SLICE("{\"v\":1,\"cmd\":\"ec\0ho\"}\n"),
		SLICE("{\"v\":1,\"cmd\":\"ec\\u0000ho\"}\n"),
		SLICE("{\"v\":1,\"cmd\":\"ec\xffho\"}\n"),
		SLICE("\0\0\0\0\n"),
		SLICE("\x1b]0;title\x07\n"),
	};
	struct scene *s = *state;
	int witness = harness_connect(&s->h);

	for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
		int fd = harness_connect(&s->h);

		harness_send(&s->h, fd, garbage[i].p, garbage[i].n);
		hear_protocol_error(s, fd);
		echo_works(s, witness);
	}
	close(witness);
}

static void test_deep_nesting(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h);
	char deep[30001];

	memset(deep, '[', sizeof deep - 1);
	deep[sizeof deep - 1] = 0;
	harness_say(&s->h, fd, deep);
	hear_protocol_error(s, fd);
}

static void test_size(void **state)
{
	struct scene *s = *state;
	char *line = malloc(CONTROL_REQUEST_BYTES + 2);
	int fd = harness_connect(&s->h);
	static const char head[] = "{\"v\":1,\"cmd\":\"echo\"}";

	memset(line, ' ', CONTROL_REQUEST_BYTES);
	memcpy(line, head, sizeof head - 1);
	line[CONTROL_REQUEST_BYTES] = 0;
	harness_say(&s->h, fd, line);
	hear(s, fd, "{\"ok\":true,\"data\":{}}");
	memcpy(line + CONTROL_REQUEST_BYTES, " ", 2);
	harness_say(&s->h, fd, line);
	hear_protocol_error(s, fd);
	free(line);
}

static void test_patience(void **state)
{
	struct scene *s = *state;
	int slow = harness_connect(&s->h), idle = harness_connect(&s->h),
	    busy = harness_connect(&s->h);
	int64_t start_ns = clock_now().mono_ns, took_ns;

	harness_send(&s->h, slow, "{\"v\":1,", 7);
	harness_turn(&s->h, 5);
	harness_say(&s->h, busy, "{\"v\":1,\"cmd\":\"later\"}");
	harness_turn(&s->h, 5);
	hear_protocol_error(s, slow);
	took_ns = clock_now().mono_ns - start_ns;
	assert_in_range(took_ns / CLOCK_MSEC_NS, 1900, 4000);
	hear_closed(s, idle);
	/* Who waits for an answer has sent its line. */
	control_reply(s->later, json_true());
	hear(s, busy, "{\"ok\":true,\"data\":true}");
	close(busy);
}

static void test_too_many(void **state)
{
	struct scene *s = *state;
	int fds[CONTROL_CLIENTS], fd;

	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		fds[i] = harness_connect(&s->h);
		echo_works(s, fds[i]);
	}
	fd = harness_connect(&s->h);
	hear(s, fd,
	     "{\"ok\":false,\"code\":\"internal\",\"text\":\"too many clients are connected; "
	     "try again\"}");
	hear_closed(s, fd);
	echo_works(s, fds[7]);
	close(fds[3]);
	harness_turn(&s->h, 5);
	fds[3] = harness_connect(&s->h);
	echo_works(s, fds[3]);
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		close(fds[i]);
}

static void test_half_closed(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h);
	static const char two[] = "{\"v\":1,\"cmd\":\"echo\"}\n{\"v\":1,\"cmd\":\"later\"}";

	harness_send(&s->h, fd, two, sizeof two - 1);
	shutdown(fd, SHUT_WR);
	hear(s, fd, "{\"ok\":true,\"data\":{}}");
	harness_turn(&s->h, 10);
	assert_non_null(s->later);
	control_reply(s->later, json_true());
	hear(s, fd, "{\"ok\":true,\"data\":true}");
	hear_closed(s, fd);
}

static void test_gone_before_answer(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h);

	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"later\"}");
	harness_turn(&s->h, 5);
	close(fd);
	harness_turn(&s->h, 5);
	/* The first may find it out by writing. */
	control_stream(s->later, json_true());
	assert_false(control_stream(s->later, json_true()));
	control_end(s->later);
}

static void test_lines_wait_for_the_answer(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h);

	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"later\"}\n{\"v\":1,\"cmd\":\"echo\"}");
	harness_turn(&s->h, 10);
	control_reply(s->later, json_true());
	hear(s, fd, "{\"ok\":true,\"data\":true}");
	hear(s, fd, "{\"ok\":true,\"data\":{}}");
	close(fd);
}

static void test_stream(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h);

	s->pages_max = 1000;
	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"pull\"}");
	for (size_t i = 0; i < s->pages_max; i++)
		json_decref(harness_hear_json(&s->h, fd));
	hear(s, fd, "{\"end\":true}");
	assert_true(s->pull_ended);
	echo_works(s, fd);
	close(fd);
}

/* A stream waits for its reader: memory stays small, others are served, and it ends with the
 * reader. */
static void test_does_not_read(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h), other = harness_connect(&s->h);

	s->pages_max = SIZE_MAX;
	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"pull\"}");
	harness_turn(&s->h, 5000);
	assert_in_range(s->pages * PAGE_BYTES, 1, 2 * CONTROL_LOW_BYTES);
	echo_works(s, other);
	assert_false(s->pull_ended);
	close(fd);
	harness_turn(&s->h, 10);
	assert_true(s->pull_ended);
	echo_works(s, other);
	close(other);
}

static void test_flood(void **state)
{
	struct scene *s = *state;
	int fd = harness_connect(&s->h), other = harness_connect(&s->h);

	harness_say(&s->h, fd, "{\"v\":1,\"cmd\":\"flood\"}");
	harness_turn(&s->h, 5);
	assert_true(s->stream_broke);
	echo_works(s, other);
	close(fd);
	close(other);
}

/* The engine ends while clients wait: streams are ended, late answers go nowhere. */
static void test_free_with_clients(void **state)
{
	struct scene *s = *state;
	int pulls = harness_connect(&s->h), waits = harness_connect(&s->h),
	    half = harness_connect(&s->h);

	s->pages_max = SIZE_MAX;
	harness_say(&s->h, pulls, "{\"v\":1,\"cmd\":\"pull\"}");
	harness_say(&s->h, waits, "{\"v\":1,\"cmd\":\"later\"}");
	harness_send(&s->h, half, "{", 1);
	harness_turn(&s->h, 5);
	control_free(s->h.control);
	s->h.control = NULL;
	assert_true(s->pull_ended);
	control_reply(s->later, json_true());
	close(pulls);
	close(waits);
	close(half);
}

static void test_text(void **state)
{
	json_t *text = control_text("a\0b\xff\x1b", 5);
	char *long_text = calloc(1, 100000);

	(void)state;
	assert_int_equal(json_string_length(text), 7);
	assert_memory_equal(json_string_value(text), "a\0b\xef\xbf\xbd\x1b", 7);
	json_decref(text);
	memset(long_text, 0xff, 100000);
	text = control_text(long_text, 100000);
	assert_int_equal(json_string_length(text), 300000);
	json_decref(text);
	free(long_text);
	text = control_text("", 0);
	assert_string_equal(json_string_value(text), "");
	json_decref(text);
}

static void test_bad_descriptor(void **state)
{
	struct error err = {0};
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_null(control_new(NULL, pair[0], handle, NULL, &err));
	assert_true(err.code < 0 && err.text[0]);
	close(pair[0]);
	close(pair[1]);
	control_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_requests),
		TEST(test_garbage),
		TEST(test_deep_nesting),
		TEST(test_size),
		TEST(test_patience),
		TEST(test_too_many),
		TEST(test_half_closed),
		TEST(test_gone_before_answer),
		TEST(test_lines_wait_for_the_answer),
		TEST(test_stream),
		TEST(test_does_not_read),
		TEST(test_flood),
		TEST(test_free_with_clients),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_bad_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
