/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Socket dumps and destruction on real sockets over loopback, in a network namespace of our own. */
#include "tests/unit/netns.h"

#include "daemon/base/sockdiag.h"

#define PORT 8011

struct found {
	struct sock_info all[64];
	unsigned count;
};

static void collect(void *ctx, const struct sock_info *sock)
{
	struct found *found = ctx;

	if (found->count < 64)
		found->all[found->count++] = *sock;
}

static struct found dump(struct sockdiag *sd, int family, uint32_t states, uint16_t port)
{
	struct found found = {.count = 0};

	assert_int_equal(sockdiag_each(sd, family, states, port, collect, &found), 0);
	return found;
}

static int kill_one(struct sockdiag *sd, const struct sock_info *sock,
		    struct sockdiag_killed *killed)
{
	struct sock_kill victim = sock_kill_of(sock);

	*killed = (struct sockdiag_killed){0};
	assert_int_equal(sockdiag_destroy_batch(sd, &victim, 1, killed), 0);
	return victim.error;
}

static void test_fields(void **state)
{
	struct sockdiag sd;
	struct found f;
	int listener, client, server;
	struct addr peer = address("127.0.0.9");

	(void)state;
	NEED_NETNS();
	assert_int_equal(sockdiag_open(&sd, NULL), 0);
	listener = netns_listen("127.0.0.1", PORT);
	client = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	sd.want_tcp_info = true;
	f = dump(&sd, AF_INET, SOCK_CONNECTED, PORT);
	assert_int_equal(f.count, 1); /* the client's end has another local port */
	assert_true(addr_eq(&f.all[0].peer, &peer));
	assert_int_equal(f.all[0].lport, PORT);
	assert_int_equal(f.all[0].state, TCP_ESTABLISHED);
	assert_int_equal(f.all[0].inode, 0); /* not accepted yet */
	assert_true(f.all[0].cookie != 0);
	assert_true(f.all[0].has_tcp_info);
	assert_int_equal(f.all[0].bytes_received, 0);
	server = accept(listener, NULL, NULL);
	assert_int_equal(write(client, "abc", 3), 3);
	netns_sleep_ms(60);
	f = dump(&sd, AF_INET, SOCK_CONNECTED, PORT);
	assert_true(f.all[0].inode != 0);
	assert_int_equal(f.all[0].rqueue, 3);
	assert_int_equal(f.all[0].bytes_received, 3);
	assert_in_range(f.all[0].last_data_recv_ms, 40, 2000);
	f = dump(&sd, AF_UNSPEC, SOCK_CONNECTED, 0);
	assert_int_equal(f.count, 2);
	f = dump(&sd, AF_INET, SOCK_LISTENING, PORT);
	assert_int_equal(f.count, 1);
	assert_int_equal(f.all[0].pport, 0);
	f = dump(&sd, AF_INET, SOCK_CONNECTED, PORT + 1);
	assert_int_equal(f.count, 0);
	assert_int_equal(sockdiag_dump_start(&sd, AF_UNIX, SOCK_CONNECTED, 0), -EAFNOSUPPORT);
	close(client);
	close(server);
	close(listener);
	sockdiag_close(&sd);
}

static void test_dual_stack(void **state)
{
	struct addr peer = address("127.0.0.9");
	struct sockdiag sd;
	struct sockdiag_killed killed;
	struct found f;
	int listener, client, client6, server;
	char byte;

	(void)state;
	NEED_NETNS();
	assert_int_equal(sockdiag_open(&sd, NULL), 0);
	listener = netns_listen("::", PORT);
	client = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	server = accept(listener, NULL, NULL);
	client6 = netns_connect("::1", "::1", PORT);
	assert_int_equal(dump(&sd, AF_INET, SOCK_CONNECTED, PORT).count, 0);
	f = dump(&sd, AF_INET6, SOCK_CONNECTED, PORT);
	assert_int_equal(f.count, 2);
	for (unsigned i = 0; i < 2; i++) {
		if (!addr_eq(&f.all[i].peer, &peer))
			continue;
		assert_int_equal(f.all[i].diag_family, AF_INET6);
		assert_int_equal(kill_one(&sd, &f.all[i], &killed), 0);
		assert_int_equal(killed.destroyed, 1);
	}
	assert_int_equal(recv(server, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_int_equal(recv(client, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	f = dump(&sd, AF_INET6, SOCK_CONNECTED, PORT);
	assert_int_equal(f.count, 1);
	assert_int_equal(f.all[0].peer.family, ADDR_IPV6);
	f = dump(&sd, AF_INET6, SOCK_LISTENING, PORT);
	assert_int_equal(f.count, 1);
	assert_false(f.all[0].v6only);
	close(client);
	close(client6);
	close(server);
	close(listener);
	sockdiag_close(&sd);
}

/* The trap: killing what is gone must not reach the listener. */
static void test_listener_lives(void **state)
{
	struct sockdiag sd;
	struct sockdiag_killed killed;
	struct sock_info victim, none;
	struct found f;
	int listener, client, again;

	(void)state;
	NEED_NETNS();
	assert_int_equal(sockdiag_open(&sd, NULL), 0);
	listener = netns_listen("127.0.0.1", PORT);
	client = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	f = dump(&sd, AF_INET, SOCK_CONNECTED, PORT);
	assert_int_equal(f.count, 1);
	victim = f.all[0];
	assert_int_equal(kill_one(&sd, &victim, &killed), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(kill_one(&sd, &victim, &killed), -ENOENT);
		assert_int_equal(killed.gone, 1);
	}
	/* Without a cookie nothing is sent. */
	none = victim;
	none.id.idiag_cookie[0] = none.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	assert_int_equal(kill_one(&sd, &none, &killed), -EINVAL);
	none.id.idiag_cookie[0] = none.id.idiag_cookie[1] = 0;
	assert_int_equal(kill_one(&sd, &none, &killed), -EINVAL);
	assert_int_equal(killed.refused, 1);
	f = dump(&sd, AF_INET, SOCK_LISTENING, PORT);
	assert_int_equal(kill_one(&sd, &f.all[0], &killed), -EINVAL);
	again = netns_connect("127.0.0.10", "127.0.0.1", PORT);
	assert_true(again >= 0);
	close(again);
	close(client);
	close(listener);
	sockdiag_close(&sd);
}

static void test_mixed_batch(void **state)
{
	struct sock_kill socks[SOCKDIAG_BATCH + 1];
	struct sockdiag_killed killed = {0};
	struct sockdiag sd;
	struct found f;
	int listener, clients[10];

	(void)state;
	NEED_NETNS();
	assert_int_equal(sockdiag_open(&sd, NULL), 0);
	listener = netns_listen("127.0.0.1", PORT);
	for (unsigned i = 0; i < 10; i++)
		clients[i] = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	f = dump(&sd, AF_INET, SOCK_CONNECTED, PORT);
	assert_int_equal(f.count, 10);
	for (unsigned i = 0; i < SOCKDIAG_BATCH; i++) {
		socks[i] = sock_kill_of(&f.all[i / 10]);
		if (i % 10 == 9)
			socks[i].id.idiag_cookie[0] = INET_DIAG_NOCOOKIE,
			socks[i].id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	}
	assert_int_equal(sockdiag_destroy_batch(&sd, socks, SOCKDIAG_BATCH + 1, &killed), -E2BIG);
	assert_int_equal(sockdiag_destroy_batch(&sd, socks, SOCKDIAG_BATCH, &killed), 0);
	assert_int_equal(killed.destroyed, 10);
	assert_int_equal(killed.gone, 80);
	assert_int_equal(killed.refused, 10);
	assert_int_equal(killed.failed, 0);
	assert_int_equal(sockdiag_destroy_batch(&sd, socks, 0, &killed), 0);
	assert_int_equal(dump(&sd, AF_INET, SOCK_CONNECTED, PORT).count, 0);
	for (unsigned i = 0; i < 10; i++)
		close(clients[i]);
	close(listener);
	sockdiag_close(&sd);
}

static void count_sock(void *ctx, const struct sock_info *sock)
{
	(void)sock;
	++*(unsigned *)ctx;
}

static void test_slices(void **state)
{
	struct sockdiag sd;
	int listener, clients[400], code;
	unsigned sockets = 0, reads = 0;

	(void)state;
	NEED_NETNS();
	assert_int_equal(sockdiag_open(&sd, NULL), 0);
	listener = netns_listen("127.0.0.1", PORT);
	sd.want_tcp_info = true;
	for (unsigned i = 0; i < 400; i++)
		clients[i] = netns_connect("127.0.0.9", "127.0.0.1", PORT);
	assert_int_equal(sockdiag_dump_start(&sd, AF_INET, SOCK_CONNECTED, PORT), 0);
	do {
		code = sockdiag_dump_read(&sd, count_sock, &sockets, 1);
		reads++;
	} while (code == 1);
	assert_int_equal(code, 0);
	assert_int_equal(sockets, 400);
	assert_true(reads >= 3);
	assert_int_equal(sockdiag_dump_read(&sd, count_sock, &sockets, 1), 0); /* over */
	for (unsigned i = 0; i < 400; i++)
		close(clients[i]);
	close(listener);
	sockdiag_close(&sd);
}

static void test_passed_descriptor(void **state)
{
	struct sockdiag sd;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	int listener;

	(void)state;
	NEED_NETNS();
	assert_true(fd >= 0);
	assert_int_equal(sockdiag_from_fd(&sd, fd, NULL), 0);
	listener = netns_listen("127.0.0.1", PORT);
	assert_int_equal(dump(&sd, AF_INET, SOCK_LISTENING, PORT).count, 1);
	assert_int_equal(sockdiag_can_destroy(&sd), 0);
	close(listener);
	sockdiag_close(&sd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),         cmocka_unit_test(test_dual_stack),
		cmocka_unit_test(test_listener_lives), cmocka_unit_test(test_mixed_batch),
		cmocka_unit_test(test_slices),         cmocka_unit_test(test_passed_descriptor),
	};

	netns_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
