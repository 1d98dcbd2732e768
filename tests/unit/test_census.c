/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The census on real sockets: classes by what the kernel and this process' own threads show, what
 * is remembered from one census to the next, offences told once, cuts that can be destroyed.
 */
#include "daemon/sockets/census.h"
#include "daemon/sockets/netstat.h"
#include "tests/unit/netns.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#define PORT 8001

/* A server of one thread a connection, and its clients, all in this process. */
struct scene {
	int listener;
	int clients[64], served[64];
	pthread_t threads[64];
	unsigned nclients, nserved, nthreads;
	struct census *census;
	struct sockdiag sd;
	struct census_rule rule;
	int64_t now_ms;
	struct census_report report;
};

static int set_up(void **state)
{
	static struct scene s;

	if (!netns_ready)
		return 0;
	s = (struct scene){
		.rule = {.limits = {.silent_ms = 20000,
				    .unanswered_ms = 60000,
				    .stalled_ms = 30000,
				    .idle_ms = 60000,
				    .maxsilent = 2},
			 .nports = 1,
			 .ports = {PORT},
			 .ipv4_prefix = 32,
			 .ipv6_prefix = 64},
		.now_ms = 1000000,
	};
	s.listener = netns_listen("0.0.0.0", PORT);
	s.census = census_new();
	assert_true(s.listener >= 0);
	assert_non_null(s.census);
	assert_int_equal(sockdiag_open(&s.sd, NULL), 0);
	*state = &s;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *s = *state;

	if (!netns_ready)
		return 0;
	for (unsigned i = 0; i < s->nclients; i++)
		close(s->clients[i]);
	for (unsigned i = 0; i < s->nthreads; i++)
		pthread_join(s->threads[i], NULL);
	for (unsigned i = 0; i < s->nserved; i++)
		close(s->served[i]);
	close(s->listener);
	census_free(s->census);
	sockdiag_close(&s->sd);
	return 0;
}

static int client(struct scene *s)
{
	int fd = netns_connect("127.0.0.2", "127.0.0.1", PORT);

	assert_true(fd >= 0);
	s->clients[s->nclients++] = fd;
	return fd;
}

static int serve(struct scene *s)
{
	int fd = accept(s->listener, NULL, NULL);

	assert_true(fd >= 0);
	s->served[s->nserved++] = fd;
	return fd;
}

static void *reader(void *arg)
{
	char buf[4096];

	while (recv(*(int *)arg, buf, sizeof buf, 0) > 0)
		;
	return NULL;
}

static void read_in_thread(struct scene *s, unsigned served)
{
	assert_int_equal(
		pthread_create(&s->threads[s->nthreads++], NULL, reader, &s->served[served]), 0);
}

static void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* The census is told that so much time has passed; last_data_recv of the kernel is real. */
static void take(struct scene *s, int64_t passed_ms)
{
	s->now_ms += passed_ms;
	assert_int_equal(census_take(s->census, &s->rule, &s->sd, 0, s->now_ms, &s->report), 0);
	assert_int_equal(s->report.error, 0);
}

static void needs_netns(void)
{
	if (!netns_ready)
		skip();
}

static void test_nobody(void **state)
{
	struct scene *s = *state;

	needs_netns();
	take(s, 0);
	assert_int_equal(s->report.sockets, 0);
	assert_int_equal(s->report.pid, getpid());
	assert_int_equal(s->report.next_ms, VERDICT_NEVER_MS);
	assert_true(s->report.fds > 3);
	assert_true(s->report.backlog > 0);
	assert_false(s->report.single);
}

static void test_silent(void **state)
{
	struct scene *s = *state;

	needs_netns();
	for (int i = 0; i < 3; i++)
		client(s);
	serve(s);
	take(s, 0);
	assert_int_equal(s->report.classes[HELD_SILENT], 3);
	assert_int_equal(s->report.unaccepted, 2);
	assert_int_equal(s->report.queue, 2);
	assert_int_equal(s->report.noffences, 0);
	/* Two wait for accept(): are they still there in a moment? */
	assert_in_range(s->report.next_ms, 1500, 2000);
	serve(s);
	serve(s);
	take(s, 0);
	/* One more than maxsilent: the next comes when its limit is over. */
	assert_in_range(s->report.next_ms, 19000, 20000);
	s->rule.limits.silent_ms = 100;
	netns_sleep_ms(150);
	take(s, 150);
	assert_int_equal(s->report.noffences, 1);
	take(s, 150);
	assert_int_equal(s->report.noffences, 0);
}

static void test_offence_names_the_peer(void **state)
{
	struct scene *s = *state;
	struct census_offence o;
	struct addr expected = address("127.0.0.2");

	needs_netns();
	for (int i = 0; i < 3; i++)
		client(s);
	s->rule.limits.silent_ms = 100;
	netns_sleep_ms(150);
	take(s, 0);
	assert_int_equal(s->report.noffences, 1);
	census_offence(s->census, 0, &o);
	assert_true(addr_eq(&o.host, &expected));
	assert_int_equal(o.kind, OFFENCE_SILENT);
	assert_int_equal(o.lport, PORT);
	assert_int_equal(o.held, 3);
	assert_true(o.age_ms >= 100);
}

/* Half a header, and the thread in recv: unfinished when it is over the limit. */
static void test_unfinished(void **state)
{
	struct scene *s = *state;

	needs_netns();
	put(client(s), "GET / HT");
	serve(s);
	read_in_thread(s, 0);
	netns_sleep_ms(50);
	take(s, 0);
	assert_int_equal(s->report.classes[HELD_WORKS], 1); /* not looked at yet */
	assert_in_range(s->report.next_ms, 29000, CENSUS_STEP_MS);
	take(s, 30000);
	assert_int_equal(s->report.noffences, 0);
	take(s, 31000);
	assert_int_equal(s->report.classes[HELD_UNFINISHED], 1);
	assert_int_equal(s->report.noffences, 1);
	take(s, 1000);
	assert_int_equal(s->report.noffences, 0);
}

/* The same bytes, and nobody in recv: the handler works, for as long as it likes. */
static void test_handler_at_work(void **state)
{
	struct scene *s = *state;
	char buf[64];

	needs_netns();
	put(client(s), "GET / HTTP/1.1\r\n\r\n");
	assert_true(read(serve(s), buf, sizeof buf) > 0);
	take(s, 0);
	take(s, 600000);
	assert_int_equal(s->report.classes[HELD_WORKS], 1);
	assert_int_equal(s->report.noffences, 0);
}

/* Drops of data do not renew a request, a real upload does. */
static void test_drip_and_upload(void **state)
{
	struct scene *s = *state;
	char chunk[8001];
	unsigned offences = 0;
	int slow, fast;

	needs_netns();
	memset(chunk, 'x', sizeof chunk - 1);
	chunk[sizeof chunk - 1] = 0;
	slow = client(s);
	put(slow, "POST / HTTP/1.1\r\n");
	serve(s);
	fast = client(s);
	put(fast, "POST / HTTP/1.1\r\n");
	serve(s);
	read_in_thread(s, 0);
	read_in_thread(s, 1);
	netns_sleep_ms(50);
	take(s, 0);
	for (int i = 0; i < 7; i++) {
		put(slow, "x");
		put(fast, chunk);
		netns_sleep_ms(20);
		take(s, 10000);
		offences += s->report.noffences;
	}
	assert_int_equal(s->report.classes[HELD_UNFINISHED], 2);
	assert_int_equal(offences, 1);
}

/* Interim answers are none. */
static void test_continue_is_no_answer(void **state)
{
	struct scene *s = *state;

	needs_netns();
	put(client(s), "POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n");
	put(serve(s), "HTTP/1.1 100 Continue\r\n\r\n");
	put(s->served[0], "HTTP/1.1 100 Continue\r\n\r\n");
	read_in_thread(s, 0);
	netns_sleep_ms(50);
	take(s, 0);
	take(s, 61000);
	assert_int_equal(s->report.classes[HELD_UNFINISHED], 1);
}

static void test_keep_alive_is_idle(void **state)
{
	struct scene *s = *state;
	char answer[200], buf[512];

	needs_netns();
	memset(answer, 'a', sizeof answer - 1);
	answer[sizeof answer - 1] = 0;
	put(client(s), "GET / HTTP/1.1\r\n\r\n");
	assert_true(read(serve(s), buf, sizeof buf) > 0);
	put(s->served[0], answer);
	assert_true(read(s->clients[0], buf, sizeof buf) > 0);
	read_in_thread(s, 0);
	netns_sleep_ms(50);
	take(s, 0);
	assert_int_equal(s->report.classes[HELD_BUSY], 1);
	s->rule.limits.descriptors = 1; /* so that the threads are looked at */
	netns_sleep_ms(CENSUS_BUSY_MS);
	take(s, CENSUS_BUSY_MS);
	assert_int_equal(s->report.classes[HELD_IDLE], 1);
	assert_int_equal(s->report.noffences, 0);
}

/* The answer fills the buffers and is not read. */
static void test_stalled(void **state)
{
	struct scene *s = *state;
	static char bulk[1 << 20];

	needs_netns();
	put(client(s), "GET /big HTTP/1.1\r\n\r\n");
	serve(s);
	for (int i = 0; i < 64; i++)
		(void)!send(s->served[0], bulk, sizeof bulk, MSG_DONTWAIT);
	netns_sleep_ms(300);
	take(s, 0);
	assert_int_equal(s->report.classes[HELD_STALLED], 1);
	assert_int_equal(s->report.noffences, 0);
	take(s, 31000);
	assert_int_equal(s->report.noffences, 1);
}

static void test_cut_frees_a_connection(void **state)
{
	struct scene *s = *state;
	struct sockdiag_killed killed = {0};
	struct census_cut cut;
	char byte;

	needs_netns();
	for (int i = 0; i < 4; i++) {
		client(s);
		serve(s);
	}
	s->rule.limits.descriptors = 1;
	netns_sleep_ms(VERDICT_CUT_SILENT_MS + 100);
	take(s, 0);
	assert_true(s->report.alarm);
	assert_true(s->report.ncuts > 0);
	census_cut(s->census, 0, &cut);
	assert_false(cut.spare);
	assert_true(cut.offence); /* 4 held, 2 are allowed */
	assert_int_equal(sockdiag_destroy_batch(&s->sd, &cut.kill, 1, &killed), 0);
	assert_int_equal(killed.destroyed, 1);
	for (int i = 0; i < 4; i++)
		if (recv(s->served[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNABORTED)
			return;
	fail_msg("no served connection was closed");
}

static void test_listener_that_comes_later(void **state)
{
	struct scene *s = *state;

	needs_netns();
	close(s->listener);
	take(s, 0);
	assert_int_equal(s->report.pid, 0);
	s->listener = netns_listen("127.0.0.1", PORT);
	take(s, 2000);
	assert_int_equal(s->report.pid, getpid());
	assert_true(s->report.single);
}

static void test_many_are_bounded(void **state)
{
	struct scene *s = *state;

	needs_netns();
	s->rule.nports = 0; /* nothing to look for: nothing is found, nothing fails */
	take(s, 0);
	assert_int_equal(s->report.sockets, 0);
}

static void test_netstat(void **state)
{
	struct netstat n;

	(void)state;
	needs_netns();
	assert_int_equal(netstat_read(getpid(), &n), 0);
	assert_int_equal(n.cookies_sent, 0);
	assert_true(netstat_read(INT32_MAX, &n) < 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_nobody),
		T(test_silent),
		T(test_offence_names_the_peer),
		T(test_unfinished),
		T(test_handler_at_work),
		T(test_drip_and_upload),
		T(test_continue_is_no_answer),
		T(test_keep_alive_is_idle),
		T(test_stalled),
		T(test_cut_frees_a_connection),
		T(test_listener_that_comes_later),
		T(test_many_are_bounded),
		T(test_netstat),
	};

	/* So that one per cent of the descriptors are in use whatever a test does. */
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){256, 256});
	signal(SIGPIPE, SIG_IGN);
	netns_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
