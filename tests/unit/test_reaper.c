/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kill on real sockets over loopback, in a network namespace of our own. */
#include "tests/unit/netns.h"

#include <sys/resource.h>

#include "daemon/base/sockdiag.h"
#include "daemon/enforcer/reaper.h"

#define PORT 8021

struct told {
	unsigned rounds, killed, calls;
	int error;
	struct addr spared; /* family NONE: nobody */
	struct addr prefix;
};

static struct told told;

static bool spare(void *ctx, const struct addr *peer)
{
	(void)ctx;
	return addr_eq(&told.spared, peer);
}

static void killed(void *ctx, const struct addr *prefix, uint32_t count)
{
	(void)ctx;
	told.calls++;
	told.killed += count;
	told.prefix = *prefix;
}

static void done(void *ctx, int error)
{
	(void)ctx;
	told.rounds++;
	told.error = error;
}

static const struct portset one_port = {1, {{PORT, IPPROTO_TCP}}};

static struct reaper *open_reaper(struct ev_loop *loop, uint32_t max)
{
	struct reaper_hooks hooks = {NULL, spare, killed, done};
	struct reaper *r = NULL;
	struct error err = {0};

	memset(&told, 0, sizeof told);
	if (reaper_open(loop, &hooks, max, &r, &err) < 0)
		fail_msg("%s", err.text);
	return r;
}

static void run(struct reaper *r)
{
	reaper_run(r);
	for (unsigned i = 0; reaper_busy(r) && i < 100000; i++)
		reaper_step(r);
	assert_false(reaper_busy(r));
}

static void reap(struct reaper *r, const char *net)
{
	struct addr a = address(net);

	told.killed = told.calls = 0;
	assert_int_equal(reaper_add(r, &a, &one_port), 0);
	run(r);
}

/* What the other end of a connection sees now: 0 = still open, else errno or -1 for its end. */
static int fate(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

	if (n == 0)
		return -1;
	return n < 0 && errno != EAGAIN ? errno : 0;
}

static void test_states_of_sockets(void **state)
{
	struct reaper *r;
	int listener, silent, unread, waiting, other, silent_end, unread_end;
	char byte;

	(void)state;
	NEED_NETNS();
	r = open_reaper(NULL, 100);
	listener = netns_listen("127.0.0.1", PORT);
	silent = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	silent_end = accept(listener, NULL, NULL);
	unread = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	unread_end = accept(listener, NULL, NULL);
	assert_int_equal(write(unread, "z", 1), 1);
	waiting = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	other = netns_connect("127.0.0.8", "127.0.0.1", PORT);
	reap(r, "127.0.0.9");
	assert_int_equal(told.killed, 3);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.rounds, 1);
	assert_int_equal(told.error, 0);
	assert_int_equal(fate(silent_end), ECONNABORTED);
	assert_int_equal(recv(unread_end, &byte, 1, MSG_DONTWAIT), 1); /* first what was sent */
	assert_int_equal(fate(unread_end), ECONNABORTED);
	assert_int_equal(fate(silent), ECONNRESET);
	assert_int_equal(fate(unread), ECONNRESET);
	assert_int_equal(fate(waiting), ECONNRESET);
	assert_int_equal(fate(other), 0);
	/* Again, and again: nobody is there, and the listener lives. */
	reap(r, "127.0.0.9");
	reap(r, "127.0.0.9");
	assert_int_equal(told.killed, 0);
	assert_int_equal(told.rounds, 3);
	close(silent);
	silent = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	assert_true(silent >= 0);
	close(silent);
	close(unread);
	close(waiting);
	close(other);
	close(silent_end);
	close(unread_end);
	close(listener);
	reaper_close(r);
}

static void test_dual_stack_and_ipv6(void **state)
{
	struct reaper *r;
	int listener, mapped, v6, near;

	(void)state;
	NEED_NETNS();
	assert_int_equal(NETNS_RUN("ip", "addr", "add", "2001:db8::1/64", "dev", "lo", "nodad"), 0);
	assert_int_equal(NETNS_RUN("ip", "addr", "add", "2001:db8::2/64", "dev", "lo", "nodad"), 0);
	assert_int_equal(NETNS_RUN("ip", "addr", "add", "2001:db8:0:1::2/64", "dev", "lo", "nodad"),
			 0);
	r = open_reaper(NULL, 100);
	listener = netns_listen("::", PORT);
	mapped = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	v6 = netns_connect("2001:db8::2", "2001:db8::1", PORT);
	near = netns_connect("2001:db8:0:1::2", "2001:db8::1", PORT);
	reap(r, "127.0.0.0/28");
	assert_int_equal(told.killed, 1);
	assert_int_equal(told.prefix.plen, 28);
	assert_int_equal(fate(mapped), ECONNRESET);
	assert_int_equal(fate(v6), 0);
	reap(r, "2001:db8::/64");
	assert_int_equal(told.killed, 1);
	assert_int_equal(fate(v6), ECONNRESET);
	assert_int_equal(fate(near), 0);
	close(mapped);
	close(v6);
	close(near);
	close(listener);
	reaper_close(r);
}

static void count_sock(void *ctx, const struct sock_info *sock)
{
	(void)sock;
	++*(unsigned *)ctx;
}

/* Half-open sockets: the answer to the SYN is dropped on the way, so the handshake stays
 * unfinished. */
static void test_half_open(void **state)
{
	struct reaper *r;
	struct sockdiag sd;
	unsigned count = 0;
	struct sockaddr_storage ss;
	socklen_t size;
	int listener, client;

	(void)state;
	NEED_NETNS();
	assert_int_equal(
		NETNS_RUN("sh", "-c",
			  "nft 'add table ip t; add chain ip t c { type filter hook output "
			  "priority 0; }; add rule ip t c ip daddr 127.0.0.7 drop'"),
		0);
	r = open_reaper(NULL, 100);
	assert_int_equal(sockdiag_open(&sd, NULL), 0);
	listener = netns_listen("127.0.0.1", PORT);
	client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	size = netns_sockaddr("127.0.0.7", 0, &ss);
	assert_int_equal(bind(client, (struct sockaddr *)&ss, size), 0);
	size = netns_sockaddr("127.0.0.1", PORT, &ss);
	assert_int_equal(connect(client, (struct sockaddr *)&ss, size), -1);
	netns_sleep_ms(20);
	reap(r, "127.0.0.7");
	assert_int_equal(told.killed, 1);
	assert_int_equal(
		sockdiag_each(&sd, AF_INET, SOCK_STATE(TCP_SYN_RECV), PORT, count_sock, &count), 0);
	assert_int_equal(count, 0);
	close(client);
	close(listener);
	sockdiag_close(&sd);
	reaper_close(r);
	assert_int_equal(NETNS_RUN("nft", "flush", "ruleset"), 0);
}

static void test_spared(void **state)
{
	struct reaper *r;
	int listener, friend, foe;

	(void)state;
	NEED_NETNS();
	r = open_reaper(NULL, 100);
	told.spared = address("127.0.1.1");
	listener = netns_listen("127.0.0.1", PORT);
	friend = netns_connect("127.0.1.1", "127.0.0.1", PORT);
	foe = netns_connect("127.0.1.2", "127.0.0.1", PORT);
	reap(r, "127.0.1.0/24");
	assert_int_equal(told.killed, 1);
	assert_int_equal(reaper_counters(r)->spared, 1);
	assert_int_equal(fate(friend), 0);
	assert_int_equal(fate(foe), ECONNRESET);
	close(friend);
	close(foe);
	close(listener);
	reaper_close(r);
}

/* Only the protected ports, and only the server's side of a connection. */
static void test_ports(void **state)
{
	struct portset six = {6, {{8031, 6}, {8032, 6}, {8033, 6}, {8034, 6}, {8035, 6}, {53, 17}}};
	struct portset udp = {1, {{53, IPPROTO_UDP}}}, none = {0};
	struct addr a = address("127.0.0.9"), all = {.family = ADDR_IPV4};
	struct reaper *r;
	int listeners[2], inside, outside;

	(void)state;
	NEED_NETNS();
	r = open_reaper(NULL, 100);
	listeners[0] = netns_listen("127.0.0.1", 8033);
	listeners[1] = netns_listen("127.0.0.1", 8040);
	inside = netns_connect("127.0.0.9", "127.0.0.1", 8033);
	outside = netns_connect("127.0.0.9", "127.0.0.1", 8040);
	assert_int_equal(reaper_add(r, &a, &udp), -EINVAL);
	assert_int_equal(reaper_add(r, &a, &none), -EINVAL);
	assert_int_equal(reaper_add(r, &all, &six), -EINVAL);
	assert_int_equal(reaper_add(r, &a, &six), 0);
	run(r);
	assert_int_equal(told.killed, 1);
	assert_int_equal(reaper_counters(r)->dumps, 1); /* unfiltered, IPv4 only */
	assert_int_equal(fate(inside), ECONNRESET);
	assert_int_equal(fate(outside), 0);
	close(inside);
	close(outside);
	close(listeners[0]);
	close(listeners[1]);
	reaper_close(r);
}

static void test_caps(void **state)
{
	struct addr a = address("127.0.0.9");
	struct reaper *r;

	(void)state;
	NEED_NETNS();
	r = open_reaper(NULL, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(reaper_add(r, &a, &one_port), 0);
	assert_int_equal(reaper_add(r, &a, &one_port), -ENFILE);
	assert_int_equal(reaper_counters(r)->overflowed, 1);
	run(r);
	assert_int_equal(reaper_add(r, &a, &one_port), 0);
	run(r);
	assert_int_equal(told.rounds, 2);
	run(r); /* nothing waits: no round */
	assert_int_equal(told.rounds, 2);
	reaper_close(r);
	reaper_close(NULL);
}

#define CROWD 2500

static void test_crowd_in_a_loop(void **state)
{
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
	struct rlimit limit;
	struct reaper *r;
	static int clients[CROWD];
	int listener;
	char text[32];
	struct addr late = address("127.9.0.1");
	int late_client;
	int64_t start_ns;

	(void)state;
	NEED_NETNS();
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	netns_write("/proc/sys/net/core/somaxconn", "4096");
	r = open_reaper(loop, 10000);
	listener = netns_listen("127.0.0.1", PORT);
	assert_int_equal(listen(listener, 4096), 0);
	for (unsigned i = 0; i < CROWD; i++) {
		snprintf(text, sizeof text, "127.1.%u.%u", i / 200, 1 + i % 200);
		clients[i] = netns_connect(text, "127.0.0.1", PORT);
		assert_true(clients[i] >= 0);
	}
	late_client = netns_connect("127.9.0.1", "127.0.0.1", PORT);
	for (unsigned i = 0; i < CROWD; i++) {
		struct addr a;

		snprintf(text, sizeof text, "127.1.%u.%u", i / 200, 1 + i % 200);
		a = address(text);
		assert_int_equal(reaper_add(r, &a, &one_port), 0);
	}
	start_ns = clock_now().mono_ns;
	reaper_run(r);
	assert_true(reaper_busy(r)); /* more than the first slices hold */
	assert_int_equal(reaper_add(r, &late, &one_port), 0);
	reaper_run(r); /* joins the next round */
	ev_run(loop, 0);
	print_message("%d bans, %d sockets: killed in %.2f ms\n", CROWD + 1, CROWD + 1,
		      (double)(clock_now().mono_ns - start_ns) / 1e6);
	assert_false(reaper_busy(r));
	assert_int_equal(told.rounds, 2);
	assert_int_equal(told.killed, CROWD + 1);
	assert_int_equal(told.calls, CROWD + 1);
	assert_int_equal(reaper_counters(r)->killed, CROWD + 1);
	assert_int_equal(fate(late_client), ECONNRESET);
	for (unsigned i = 0; i < CROWD; i++)
		close(clients[i]);
	close(late_client);
	close(listener);
	reaper_close(r);
	ev_loop_destroy(loop);
}

/* Without the right the dump works and the kill is refused: said, not hidden. */
static void test_without_the_right(void **state)
{
	int listener, client, status;
	pid_t pid;

	(void)state;
	NEED_NETNS();
	listener = netns_listen("127.0.0.1", PORT);
	client = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	pid = fork();
	if (pid == 0) {
		const char *text = NULL;
		struct addr a = address("127.0.0.9");
		struct reaper *r = open_reaper(NULL, 10);

		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(9);
		reaper_add(r, &a, &one_port);
		run(r);
		_exit(reaper_state(r, &text) == -EPERM && text && strstr(text, "CAP_NET_ADMIN")
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(fate(client), 0);
	close(client);
	close(listener);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 9)
		skip(); /* one id only in this user namespace */
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states_of_sockets),
		cmocka_unit_test(test_dual_stack_and_ipv6),
		cmocka_unit_test(test_half_open),
		cmocka_unit_test(test_spared),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_crowd_in_a_loop),
		cmocka_unit_test(test_without_the_right),
	};

	netns_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
