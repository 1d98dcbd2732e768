/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of who talked to a port, and the bells, against the real kernel: spoofed packets are
 * not recorded, real connections are, each once. */
#include "tests/unit/rawtcp.h"

#include "daemon/enforcer/firewall.h"
#include "daemon/enforcer/firewall_impl.h"

#define V4 "10.9.0.1"
#define V6 "2001:db8:9::1"

enum { ALL4 = 8001, ALL = 8002, ONE4 = 8003, ONE6 = 8004, OTHER = 8005 };

static const struct firewall_port ports[] = {
	{ONE6, FIREWALL_RECORD | FIREWALL_SINGLE},
	{ALL4, FIREWALL_RECORD | FIREWALL_BELL},
	{ALL, FIREWALL_RECORD},
	{ONE4, FIREWALL_RECORD},
	{ONE4, FIREWALL_SINGLE},
};
#define PORTS (sizeof ports / sizeof ports[0])

static struct {
	unsigned all, one, deleted, repaired;
	int port;
} told;

static struct inforce inforce;
static int listeners[4];

static void on_bell(void *ctx, int port)
{
	(void)ctx;
	told.all += port == FIREWALL_ALL_BELLS;
	told.one += port != FIREWALL_ALL_BELLS;
	if (port != FIREWALL_ALL_BELLS)
		told.port = port;
}

static void on_element(void *ctx, enum firewall_element what, const struct inforce_ban *ban,
		       const struct portset *set)
{
	(void)ctx;
	(void)ban;
	(void)set;
	told.deleted += what == FIREWALL_DELETED;
}

static void on_repaired(void *ctx, uint32_t bans, uint32_t pid, const char *name)
{
	(void)ctx;
	(void)bans;
	(void)pid;
	(void)name;
	told.repaired++;
}

static struct firewall *open_with(uint32_t size, uint8_t broken)
{
	struct firewall_options options = {
		.inforce = &inforce,
		.maxbans = 65536,
		.record_size = size,
		.record_broken = broken,
		.hooks = {.bell = on_bell, .element = on_element, .repaired = on_repaired},
	};
	struct firewall *fw = NULL;
	struct error err = {0};

	memset(&told, 0, sizeof told);
	assert_int_equal(inforce_init(&inforce, 1000), 0);
	if (firewall_open(&options, clock_now(), &fw, &err) < 0 ||
	    firewall_adopt(fw, clock_now(), &err) < 0)
		fail_msg("%s", err.text);
	return fw;
}

static void watch(struct firewall *fw, const struct firewall_port *list, size_t n)
{
	struct error err = {0};

	if (firewall_watch_ports(fw, list, n, clock_now(), &err) < 0)
		fail_msg("%s", err.text);
}

static struct firewall *open_watching(void)
{
	struct firewall *fw = open_with(0, 0);

	watch(fw, ports, PORTS);
	return fw;
}

static void shut(struct firewall *fw)
{
	firewall_close(fw);
	inforce_fini(&inforce);
}

static void finish(struct firewall *fw)
{
	assert_int_equal(firewall_remove(fw, NULL), 0);
	shut(fw);
}

static struct firewall_sighting sighting(struct firewall *fw, const char *who, uint16_t port)
{
	struct firewall_sighting s = {.addr = address(who), .port = port};

	assert_int_equal(firewall_seen(fw, &s, 1, clock_now()), 0);
	return s;
}

/* Connections that the record has of this address; -1: it is not there. */
static int connections(struct firewall *fw, const char *who, uint16_t port)
{
	struct firewall_sighting s = sighting(fw, who, port);

	if (s.error)
		fail_msg("%s port %u: error %d", who, port, s.error);
	return s.seen ? (int)s.connections : -1;
}

static struct firewall_record_state state_of(struct firewall *fw)
{
	struct firewall_record_state state;

	firewall_record(fw, clock_now(), &state);
	return state;
}

static int settle(struct firewall *fw)
{
	int delay = 0;

	for (unsigned i = 0; i < 2000 && delay == 0; i++)
		delay = firewall_work(fw, clock_now());
	return delay;
}

static void nft(const char *command)
{
	char full[512];

	snprintf(full, sizeof full, "nft '%s'", command);
	assert_int_equal(NETNS_RUN("sh", "-c", full), 0);
}

static char *listed(const char *what)
{
	char command[128];

	snprintf(command, sizeof command, "nft -a -s list %s", what);
	return netns_output(command);
}

static bool has(const char *what)
{
	char *text = netns_output("nft list table inet tailban 2>&1");
	bool there = strstr(text, what);

	free(text);
	return there;
}

static int accept_of(unsigned listener)
{
	struct timeval second = {1, 0};
	int fd;

	setsockopt(listeners[listener], SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
	fd = accept(listeners[listener], NULL, NULL);
	assert_true(fd >= 0);
	return fd;
}

static void empty_backlog(unsigned listener)
{
	struct timeval none = {0, 1};
	int fd;

	setsockopt(listeners[listener], SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
	while ((fd = accept(listeners[listener], NULL, NULL)) >= 0)
		hang_up(fd);
}

/* --- Spoofed packets -------------------------------------------------------------------------- */

#define CHALLENGE UINT32_C(0x80000000)

struct spoof {
	const char *name;
	struct {
		uint8_t flags;
		uint32_t seq, ack;
		const char *data;
	} then[3]; /* behind a SYN; flags 0: nothing */
	bool no_syn;
};

static const struct spoof spoofs[] = {
	{"lone SYN", {{0}}, false},
	{"SYN twice", {{SYN, 0, 0, NULL}}, false},
	{"SYN, ACK with a wrong number", {{ACK, 1, 12345, NULL}}, false},
	{"SYN, ACK with data and a wrong number", {{ACK | PSH, 1, 77777, "GET /"}}, false},
	{"SYN, ACK out of the window", {{ACK, CHALLENGE, 12345, NULL}}, false},
	{"SYN, ACK with data out of the window", {{ACK | PSH, CHALLENGE, 1, "GET /"}}, false},
	{"lone ACK twice", {{ACK, 1, 1, NULL}, {ACK, 1, 1, NULL}}, true},
	{"lone FIN twice", {{FIN | ACK, 1, 1, NULL}, {FIN | ACK, 1, 1, NULL}}, true},
	{"SYN, RST", {{RST, 1, 0, NULL}}, false},
	{"SYN, PSH without ACK", {{PSH, 1, 0, "GET /"}}, false},
	{"SYN, FIN without ACK", {{FIN, 1, 0, NULL}}, false},
	{"SYN, SYN 2^31 away", {{SYN, CHALLENGE, 0, NULL}}, false},
	{"SYN, PSH 2^31 away", {{PSH, CHALLENGE, 0, "GET /"}}, false},
	{"SYN, FIN 2^31 away", {{FIN, CHALLENGE, 0, NULL}, {FIN, CHALLENGE, 0, NULL}}, false},
};
#define SPOOFS (sizeof spoofs / sizeof spoofs[0])

static void spoof(const struct spoof *kind, const char *from, const char *to, uint16_t port)
{
	struct segment s = {.from = from, .to = to, .from_port = 4000, .to_port = port};

	if (!kind->no_syn) {
		s.flags = SYN;
		s.seq = 1000;
		raw_send(s);
	}
	for (unsigned i = 0; i < 3 && kind->then[i].flags; i++) {
		s.flags = kind->then[i].flags;
		s.seq = 1000 + kind->then[i].seq;
		s.ack = kind->then[i].ack;
		s.data = kind->then[i].data;
		raw_send(s);
	}
}

/* An acknowledgement number that conntrack would take is hit for sure, TCP's own is not. */
static void stepped_acks(const char *from, const char *to, uint16_t port)
{
	struct segment s = {.from = from, .to = to, .from_port = 4001, .to_port = port};

	s.flags = SYN;
	s.seq = 1000;
	raw_send(s);
	s.flags = ACK;
	s.seq = 1001;
	for (unsigned i = 0; i < 71582; i++) {
		s.ack = i * 60000;
		raw_send(s);
	}
}

static void spoof_all(struct firewall *fw, const char *to, uint16_t port)
{
	const char *form = strchr(to, ':') ? "2001:db8:8:%x%02x::1" : "10.8.%u.%u";
	char from[64];

	for (unsigned i = 0; i < SPOOFS; i++) {
		snprintf(from, sizeof from, form, port - 8000, i + 1);
		spoof(&spoofs[i], from, to, port);
	}
	netns_sleep_ms(20);
	for (unsigned i = 0; i < SPOOFS; i++) {
		snprintf(from, sizeof from, form, port - 8000, i + 1);
		if (connections(fw, from, port) >= 0)
			fail_msg("port %u of %s took in: %s", port, to, spoofs[i].name);
	}
}

static void test_spoofed(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	spoof_all(fw, V4, ALL4);
	spoof_all(fw, V4, ALL);
	spoof_all(fw, V4, ONE4);
	spoof_all(fw, V6, ALL);
	spoof_all(fw, V6, ONE6);
	assert_int_equal(state_of(fw).addresses > 0, 0);
	finish(fw);
}

static void test_stepped_acks(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	stepped_acks("10.8.100.1", V4, ALL4);
	stepped_acks("10.8.100.2", V4, ALL);
	stepped_acks("10.8.100.3", V4, ONE4);
	stepped_acks("2001:db8:8:ff::1", V6, ALL);
	assert_int_equal(connections(fw, "10.8.100.1", ALL4), -1);
	assert_int_equal(connections(fw, "10.8.100.2", ALL), -1);
	assert_int_equal(connections(fw, "10.8.100.3", ONE4), -1);
	assert_int_equal(connections(fw, "2001:db8:8:ff::1", ALL), -1);
	finish(fw);
}

/* --- Connections ------------------------------------------------------------------------------ */

enum { PEERS = 20 };

typedef void scene(const char *from, const char *to, uint16_t port, unsigned listener);

static void silent(const char *from, const char *to, uint16_t port, unsigned listener)
{
	(void)listener;
	peer_connect(from, 0, to, port); /* stays open to the end of the program */
}

static void ask_and_answer(const char *from, const char *to, uint16_t port, unsigned listener)
{
	int fd = peer_connect(from, 0, to, port), server;
	char buf[64];

	assert_int_equal(write(fd, "GET /\n", 6), 6);
	server = accept_of(listener);
	assert_int_equal(read(server, buf, sizeof buf), 6);
	assert_int_equal(write(server, "200\n", 4), 4);
	close(server); /* first: its TIME_WAIT is the server's */
	assert_int_equal(read(fd, buf, sizeof buf), 4);
	assert_int_equal(read(fd, buf, sizeof buf), 0);
	close(fd);
}

static void connect_and_close(const char *from, const char *to, uint16_t port, unsigned listener)
{
	(void)listener;
	close(peer_connect(from, 0, to, port));
}

static void send_and_close(const char *from, const char *to, uint16_t port, unsigned listener)
{
	int fd = peer_connect(from, 0, to, port);

	(void)listener;
	assert_int_equal(write(fd, "GET /\n", 6), 6);
	close(fd);
}

static void send_and_reset(const char *from, const char *to, uint16_t port, unsigned listener)
{
	int fd = peer_connect(from, 0, to, port);

	(void)listener;
	assert_int_equal(write(fd, "GET /\n", 6), 6);
	hang_up(fd);
}

/* A stack of its own: data on the third segment of the handshake. */
static void data_at_once(const char *from, const char *to, uint16_t port, bool reset)
{
	struct segment s = {.from = from, .to = to, .from_port = 4002, .to_port = port};

	raw_forget();
	s.flags = SYN;
	s.seq = 1000;
	raw_send(s);
	s.ack = raw_answer(4002) + 1;
	s.seq = 1001;
	s.flags = ACK | PSH;
	s.data = "GET /\n";
	raw_send(s);
	if (!reset)
		return;
	s.seq += 6;
	s.flags = RST | ACK;
	s.data = NULL;
	raw_send(s);
}

static void data_first(const char *from, const char *to, uint16_t port, unsigned listener)
{
	(void)listener;
	data_at_once(from, to, port, false);
}

static void data_first_and_reset(const char *from, const char *to, uint16_t port, unsigned listener)
{
	(void)listener;
	data_at_once(from, to, port, true);
}

static unsigned scene_count; /* addresses are not used twice */

/* How many of PEERS addresses are recorded, each with one connection. */
static unsigned play(struct firewall *fw, scene *act, bool raw, const char *to, uint16_t port,
		     unsigned listener)
{
	static const char *const forms[] = {"10.%u.%u.%u", "2001:db8:%u:%x%02x::1"};
	const char *form = forms[strchr(to, ':') != NULL];
	unsigned seen = 0;
	char from[64];

	scene_count++;
	assert_true(scene_count < 128);
	for (unsigned i = 0; i < PEERS; i++) {
		snprintf(from, sizeof from, form, raw ? 8 : 7, 128 + scene_count, i + 1);
		act(from, to, port, listener);
	}
	netns_sleep_ms(10);
	for (unsigned i = 0; i < PEERS; i++) {
		int count;

		snprintf(from, sizeof from, form, raw ? 8 : 7, 128 + scene_count, i + 1);
		count = connections(fw, from, port);
		if (count > 1)
			fail_msg("%s was counted %d times", from, count);
		seen += count == 1;
	}
	empty_backlog(listener);
	return seen;
}

struct place {
	const char *to;
	uint16_t port;
	unsigned listener;
};

static void see_everything(struct firewall *fw, const struct place *p, unsigned of_first)
{
	assert_int_equal(play(fw, ask_and_answer, false, p->to, p->port, p->listener), PEERS);
	assert_int_equal(play(fw, connect_and_close, false, p->to, p->port, p->listener), PEERS);
	assert_int_equal(play(fw, send_and_close, false, p->to, p->port, p->listener), PEERS);
	assert_int_equal(play(fw, send_and_reset, false, p->to, p->port, p->listener), PEERS);
	assert_int_equal(play(fw, data_first, true, p->to, p->port, p->listener), of_first);
	assert_int_equal(play(fw, data_first_and_reset, true, p->to, p->port, p->listener), PEERS);
	/* No segment of the server's, so nothing yet; sock_diag knows them. */
	assert_int_equal(play(fw, silent, false, p->to, p->port, p->listener), 0);
}

static void test_connections(void **state)
{
	static const struct place wild[] = {{V4, ALL4, 0}, {V4, ALL, 1}, {V6, ALL, 1}};
	static const struct place single[] = {{V4, ONE4, 2}, {V6, ONE6, 3}};
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	for (unsigned i = 0; i < 3; i++)
		see_everything(fw, &wild[i], PEERS);
	/* Data on the third segment belong to the half-open socket: until the next segment of
	 * either side they are sock_diag's. */
	for (unsigned i = 0; i < 2; i++)
		see_everything(fw, &single[i], 0);
	assert_int_equal(connections(fw, "10.7.0.99", ALL4), -1);
	finish(fw);
}

static void set_cookies(const char *mode)
{
	netns_write("/proc/sys/net/ipv4/tcp_syncookies", mode);
}

/* As under a flood: no half-open sockets at all. */
static void test_syn_cookies(void **state)
{
	static const struct place places[] = {{V4, ALL4, 0}, {V4, ALL, 1}, {V6, ALL, 1}};
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	set_cookies("2");
	for (unsigned i = 0; i < 3; i++) {
		const struct place *p = &places[i];

		spoof_all(fw, p->to, p->port);
		assert_int_equal(play(fw, ask_and_answer, false, p->to, p->port, p->listener),
				 PEERS);
		assert_int_equal(play(fw, send_and_reset, false, p->to, p->port, p->listener),
				 PEERS);
		assert_int_equal(play(fw, data_first_and_reset, true, p->to, p->port, p->listener),
				 PEERS);
	}
	spoof_all(fw, V4, ONE4);
	spoof_all(fw, V6, ONE6);
	set_cookies("1");
	finish(fw);
}

static void set_early_demux(bool yes)
{
	netns_write("/proc/sys/net/ipv4/tcp_early_demux", yes ? "1" : "0");
}

/* The record of listeners on all addresses does not need it; the other one then wants an answer. */
static void test_without_early_demux(void **state)
{
	static const struct place wild[] = {{V4, ALL4, 0}, {V6, ALL, 1}};
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	set_early_demux(false);
	for (unsigned i = 0; i < 2; i++)
		see_everything(fw, &wild[i], PEERS);
	assert_int_equal(play(fw, ask_and_answer, false, V4, ONE4, 2), PEERS);
	assert_int_equal(play(fw, send_and_reset, false, V4, ONE4, 2), 0);
	set_early_demux(true);
	finish(fw);
}

/* --- The count -------------------------------------------------------------------------------- */

static void count_them(struct firewall *fw, const char *who, const struct place *p)
{
	int fd, server;
	char buf[64];

	for (unsigned i = 0; i < 7; i++)
		ask_and_answer(who, p->to, p->port, p->listener);
	assert_int_equal(connections(fw, who, p->port), 7);
	for (unsigned i = 0; i < 3; i++) { /* the peer's FIN finds no full socket any more */
		fd = peer_connect(who, 0, p->to, p->port);
		server = accept_of(p->listener);
		assert_int_equal(write(fd, "GET /\n", 6), 6);
		assert_int_equal(read(server, buf, sizeof buf), 6);
		close(server);
		netns_sleep_ms(50);
		close(fd);
		netns_sleep_ms(50);
	}
	assert_int_equal(connections(fw, who, p->port), 10);
	for (unsigned i = 0; i < 5; i++) { /* the same port of the peer each time */
		fd = peer_connect(who, 5000, p->to, p->port);
		assert_int_equal(write(fd, "GET /\n", 6), 6);
		hang_up(fd);
		hang_up(accept_of(p->listener));
	}
	assert_int_equal(connections(fw, who, p->port), 15);
	fd = peer_connect(who, 5001, p->to, p->port);
	server = accept_of(p->listener);
	for (unsigned i = 0; i < 20; i++) { /* keep-alive: one connection */
		assert_int_equal(write(fd, "GET /\n", 6), 6);
		assert_int_equal(read(server, buf, sizeof buf), 6);
		assert_int_equal(write(server, "200\n", 4), 4);
		assert_int_equal(read(fd, buf, sizeof buf), 4);
	}
	assert_int_equal(connections(fw, who, p->port), 16);
	/* A SYN in the name of a connection that lives does not begin another one. */
	raw_send((struct segment){.from = who,
				  .to = p->to,
				  .from_port = 5001,
				  .to_port = p->port,
				  .flags = SYN,
				  .seq = 5});
	assert_int_equal(write(fd, "GET /\n", 6), 6);
	assert_int_equal(read(server, buf, sizeof buf), 6);
	assert_int_equal(write(server, "200\n", 4), 4);
	assert_int_equal(connections(fw, who, p->port), 16);
	close(fd);
	close(server);
}

static void test_count(void **state)
{
	static const struct place places[] = {
		{V4, ALL4, 0}, {V4, ALL, 1}, {V6, ALL, 1}, {V4, ONE4, 2}, {V6, ONE6, 3}};
	struct firewall *fw;
	char *table;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	ask_and_answer("10.7.0.78", V4, ALL4, 0);
	ask_and_answer("10.7.0.78", V4, ONE4, 2);
	table = netns_output("nft list table inet tailban 2>&1");
	assert_true(strstr(table, "expires 1m5") || strstr(table, "expires 2m"));
	assert_false(strstr(table, "expires 9m") || strstr(table, "expires 10m")); /* closed */
	free(table);
	for (unsigned i = 0; i < 5; i++) {
		bool v6 = strchr(places[i].to, ':') != NULL;

		count_them(fw, v6 ? "2001:db8:7::77" : "10.7.0.77", &places[i]);
	}
	/* A /64 is one entry. */
	ask_and_answer("2001:db8:7::abcd", V6, ALL, 1);
	assert_int_equal(connections(fw, "2001:db8:7::/64", ALL), 17);
	assert_int_equal(connections(fw, "2001:db8:7:1::/64", ALL), -1);
	finish(fw);
}

static void test_questions(void **state)
{
	struct firewall_sighting many[FIREWALL_SEEN_MAX + 1];
	int64_t start, took;
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	for (unsigned i = 0; i < 20; i++) {
		char from[32];

		snprintf(from, sizeof from, "10.7.1.%u", i);
		send_and_close(from, V4, ALL4, 0);
	}
	empty_backlog(0);
	for (unsigned i = 0; i < FIREWALL_SEEN_MAX; i++) {
		uint8_t bytes[4] = {10, 7, (uint8_t)(1 + i / 256), (uint8_t)i};

		many[i] = (struct firewall_sighting){.addr = addr_from_ipv4(bytes), .port = ALL4};
	}
	many[30].addr = address("10.7.0.0/24");
	many[31].addr = address("2001:db8::/48");
	many[32].port = OTHER;
	many[33].addr.family = 9;
	start = clock_now().mono_ns;
	assert_int_equal(firewall_seen(fw, many, FIREWALL_SEEN_MAX, clock_now()), 0);
	took = clock_now().mono_ns - start;
	print_message("%u looked up in %.2f ms\n", FIREWALL_SEEN_MAX, (double)took / 1e6);
	for (unsigned i = 0; i < FIREWALL_SEEN_MAX; i++) {
		static const int errors[] = {-EOPNOTSUPP, -EOPNOTSUPP, -ENOENT, -EINVAL};

		assert_int_equal(many[i].error, i >= 30 && i < 34 ? errors[i - 30] : 0);
		assert_int_equal(many[i].seen, i < 20);
		assert_in_range(many[i].age_ms, 0, i < 20 ? 5000 : 0);
	}
	assert_int_equal(many[32].since_mono_ns, CLOCK_FOREVER);
	assert_true(many[0].since_mono_ns > 0 && many[0].since_mono_ns <= start);
	assert_int_equal(firewall_seen(fw, many, FIREWALL_SEEN_MAX + 1, clock_now()), -E2BIG);
	assert_int_equal(firewall_seen(fw, many, 0, clock_now()), 0);
	finish(fw);
}

/* No room for connections: the address is recorded, the count is too low, and that is told. */
static void test_full(void **state)
{
	static const struct firewall_port small[] = {{ALL4, FIREWALL_RECORD}};
	struct firewall *fw;
	unsigned seen = 0;
	char from[32];

	(void)state;
	NEED_NETNS();
	fw = open_with(16, 0);
	watch(fw, small, 1);
	for (unsigned i = 0; i < 20; i++)
		send_and_reset("10.7.2.1", V4, ALL4, 0);
	assert_int_equal(connections(fw, "10.7.2.1", ALL4), 16);
	assert_true(state_of(fw).full4);
	assert_false(state_of(fw).full6);
	assert_non_null(strstr(state_of(fw).text, "the record of IPv4 is full (16)"));
	for (unsigned i = 2; i < 40; i++) {
		snprintf(from, sizeof from, "10.7.2.%u", i);
		send_and_reset(from, V4, ALL4, 0);
		seen += connections(fw, from, ALL4) == 1;
	}
	assert_int_equal(seen, 15); /* until that set is full, too */
	assert_true(state_of(fw).addresses == 16 || state_of(fw).addresses == -1);
	empty_backlog(0);
	finish(fw);
	/* And an hour later nobody speaks of it. */
	fw = open_with(0, 0);
	watch(fw, small, 1);
	assert_false(state_of(fw).full4);
	finish(fw);
}

/* --- Bells ------------------------------------------------------------------------------------ */

static void syns(unsigned count, uint16_t port)
{
	char from[32];

	for (unsigned i = 0; i < count; i++) {
		snprintf(from, sizeof from, "10.8.%u.%u", 200 + i / 250, i % 250 + 1);
		raw_send((struct segment){.from = from,
					  .to = V4,
					  .from_port = 4004,
					  .to_port = port,
					  .flags = SYN,
					  .seq = 7});
	}
}

static unsigned rings(struct firewall *fw)
{
	unsigned before = told.one;

	settle(fw);
	return told.one - before;
}

static void test_bell(void **state)
{
	struct inforce_ban b = {.addr = address("10.8.201.1"), .end_ns = CLOCK_FOREVER};
	struct pollfd p = {.events = POLLIN};
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	assert_int_equal(told.all, 1); /* at start: look once */
	assert_true(state_of(fw).bell);
	assert_int_equal(firewall_bell_arm(fw, OTHER), -ENOENT);
	assert_int_equal(firewall_bell_arm(fw, FIREWALL_ANY_PORT), -ENOENT);
	syns(1000, ALL4);
	assert_int_equal(rings(fw), 1);
	assert_int_equal(told.port, ALL4);
	syns(100, ALL4);
	syns(100, ALL);
	p.fd = firewall_fd(fw);
	assert_int_equal(poll(&p, 1, 200), 0); /* silence */
	assert_int_equal(firewall_bell_arm(fw, ALL4), 0);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 1);
	for (unsigned i = 0; i < 2000; i++) /* nothing stays in the socket */
		assert_int_equal(firewall_bell_arm(fw, FIREWALL_ALL_BELLS), 0);
	assert_int_equal(rings(fw), 0);
	/* The banned do not ring. */
	assert_int_equal(firewall_ban(fw, &b, NULL, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	raw_send((struct segment){.from = "10.8.201.1", .to = V4, .to_port = ALL4, .flags = SYN});
	assert_int_equal(rings(fw), 0);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 1);
	assert_int_equal(firewall_counters(fw)->foreign, 0);
	finish(fw);
}

static const struct firewall_port any[] = {
	{FIREWALL_ANY_PORT, FIREWALL_BELL},
	{ALL4, FIREWALL_BELL},
	{ALL, FIREWALL_RECORD},
};
#define ANY (sizeof any / sizeof any[0])

static struct firewall *open_any(void)
{
	struct firewall *fw = open_with(0, 0);

	watch(fw, any, ANY);
	return fw;
}

/* The bell of any port, beside one of a port: each has to be armed for itself. */
static void test_bell_of_any_port(void **state)
{
	struct inforce_ban b = {.addr = address("10.8.201.1"), .end_ns = CLOCK_FOREVER};
	struct segment banned = {.from = "10.8.201.1", .to = V4, .to_port = OTHER, .flags = SYN};
	struct firewall_port wrong = {FIREWALL_ANY_PORT, FIREWALL_BELL | FIREWALL_RECORD};
	struct error err = {0};
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_any();
	assert_int_equal(told.all, 1);
	assert_true(has("if != \"lo\" quota name \"bell_any\""));
	syns(1000, OTHER);
	assert_int_equal(rings(fw), 1);
	assert_int_equal(told.port, FIREWALL_ANY_PORT);
	syns(100, ALL);
	assert_int_equal(rings(fw), 0);
	syns(1, ALL4); /* the port's own is still armed */
	assert_int_equal(rings(fw), 1);
	assert_int_equal(told.port, ALL4);
	assert_int_equal(firewall_bell_arm(fw, ALL4), 0);
	assert_int_equal(firewall_bell_arm(fw, FIREWALL_ANY_PORT), 0);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 2);
	assert_int_equal(firewall_bell_arm(fw, FIREWALL_ANY_PORT), 0);
	/* Answers, other segments, and what this host says to itself are nothing new. */
	raw_send((struct segment){.from = "10.8.202.1", .to = V4, .to_port = OTHER, .flags = ACK});
	raw_send((struct segment){
		.from = "10.8.202.1", .to = V4, .to_port = OTHER, .flags = SYN | ACK});
	close(netns_connect("127.0.0.1", "127.0.0.1", ALL4));
	empty_backlog(0);
	assert_int_equal(rings(fw), 0);
	/* Nor are the banned. */
	assert_int_equal(firewall_ban(fw, &b, NULL, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	raw_send(banned);
	assert_int_equal(rings(fw), 0);
	syns(1, OTHER);
	assert_int_equal(rings(fw), 1);
	assert_int_equal(firewall_watch_ports(fw, &wrong, 1, clock_now(), &err), -EINVAL);
	watch(fw, any + 1, 1);
	assert_false(has("bell_any"));
	assert_true(has("bell_8001"));
	watch(fw, any, 1); /* alone */
	assert_true(has("bell_any"));
	assert_false(has("bells"));
	syns(1, OTHER);
	assert_int_equal(rings(fw), 1);
	watch(fw, NULL, 0);
	assert_false(has("quota"));
	assert_int_equal(firewall_counters(fw)->foreign, 0);
	finish(fw);
}

static void test_bell_of_any_port_stays(void **state)
{
	static const char *const damage[] = {
		"flush ruleset",
		"flush chain inet tailban prerouting",
		"flush chain inet tailban prerouting; delete quota inet tailban bell_any",
		("flush chain inet tailban prerouting; delete quota inet tailban bell_any; "
		 "add quota inet tailban bell_any { over 5 bytes }"),
		"add rule inet tailban prerouting tcp dport 1 quota name bell_any",
	};
	struct firewall *fw;
	struct now now;
	uint64_t sent;

	(void)state;
	NEED_NETNS();
	fw = open_any();
	now = clock_now();
	for (unsigned i = 0; i < sizeof damage / sizeof damage[0]; i++) {
		nft(damage[i]);
		now.mono_ns += 20 * CLOCK_SECOND_NS;
		while (firewall_work(fw, now) == 0)
			;
		syns(1, OTHER);
		firewall_work(fw, now);
		if (told.repaired != i + 1 || told.all != i + 2 || told.one != i + 1)
			fail_msg("%u repairs, %u, %u rings after: %s", told.repaired, told.all,
				 told.one, damage[i]);
	}
	/* The next start finds it, depleted, and changes nothing; the one after does not want it.
	 */
	shut(fw);
	fw = open_with(0, 0);
	sent = firewall_counters(fw)->transactions;
	assert_int_equal(sent, 0);
	watch(fw, any, ANY);
	assert_int_equal(firewall_counters(fw)->transactions, sent);
	syns(1, OTHER);
	assert_int_equal(rings(fw), 1);
	shut(fw);
	fw = open_with(0, 0);
	watch(fw, any + 1, ANY - 1);
	assert_false(has("bell_any"));
	syns(1, OTHER);
	assert_int_equal(rings(fw), 0);
	finish(fw);
	fw = open_with(0, RECORD_QUOTA);
	watch(fw, any, ANY);
	assert_true(state_of(fw).on && !state_of(fw).bell);
	assert_false(has("bell_any"));
	finish(fw);
}

static void test_bell_comes_back(void **state)
{
	struct firewall *fw;
	char flood[] = "nft add table inet other; for i in $(seq 200); do echo "
		       "add set inet other s$i \\{ type ipv4_addr\\; \\}; done | nft -f -; "
		       "nft delete table inet other";
	int small = 4096;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	syns(1, ALL4);
	assert_int_equal(rings(fw), 1);
	nft("flush ruleset"); /* somebody else's flush */
	settle(fw);
	assert_int_equal(told.repaired, 1);
	assert_int_equal(told.all, 2);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 1);
	/* The next start finds it depleted, and nobody listened. */
	shut(fw);
	syns(3, ALL4);
	fw = open_watching();
	assert_int_equal(told.all, 1);
	assert_int_equal(rings(fw), 0);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 1);
	/* Its event was lost. */
	setsockopt(firewall_fd(fw), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	firewall_bell_arm(fw, FIREWALL_ALL_BELLS);
	sh(flood);
	syns(1, ALL4);
	settle(fw);
	assert_true(firewall_counters(fw)->checks >= 1);
	assert_true(told.all >= 2);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 1);
	finish(fw);
}

/* --- Start, change, repair -------------------------------------------------------------------- */

static void test_restart(void **state)
{
	char *before, *after;
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	ask_and_answer("10.7.3.1", V4, ALL4, 0);
	before = listed("table inet tailban");
	shut(fw);
	ask_and_answer("10.7.3.1", V4, ALL4, 0); /* nobody at home */
	ask_and_answer("10.7.3.2", V4, ONE4, 2);
	fw = open_with(0, 0);
	assert_int_equal(firewall_work(fw, clock_now()), -1);
	watch(fw, ports, PORTS);
	assert_int_equal(connections(fw, "10.7.3.1", ALL4), 2);
	assert_int_equal(connections(fw, "10.7.3.2", ONE4), 1);
	assert_int_equal(sighting(fw, "10.7.3.1", ALL4).since_mono_ns, 0);
	assert_int_equal(state_of(fw).since_mono_ns, 0);
	nft("flush set inet tailban seen4; flush set inet tailban conn4");
	after = listed("table inet tailban");
	assert_string_equal(strstr(before, "chain prerouting"), strstr(after, "chain prerouting"));
	assert_int_equal(firewall_counters(fw)->transactions, 0); /* nothing was sent */
	free(before);
	free(after);
	finish(fw);
}

static void test_same_list_sends_nothing(void **state)
{
	static const struct firewall_port other[] = {{ALL4, FIREWALL_BELL | FIREWALL_RECORD},
						     {ALL, FIREWALL_RECORD},
						     {ONE6, FIREWALL_RECORD | FIREWALL_SINGLE},
						     {ONE4, FIREWALL_SINGLE | FIREWALL_RECORD}};
	struct firewall *fw;
	uint64_t sent;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	sent = firewall_counters(fw)->transactions;
	watch(fw, ports, PORTS);
	watch(fw, other, 4); /* another order */
	assert_int_equal(firewall_counters(fw)->transactions, sent);
	assert_int_equal(told.all, 1);
	finish(fw);
}

/* A table of an older version: its bans stay. Ports come and go. */
static void test_change(void **state)
{
	static const struct firewall_port one[] = {{ALL4, FIREWALL_RECORD}};
	static const struct firewall_port two[] = {{ALL4, FIREWALL_RECORD | FIREWALL_BELL},
						   {ONE4, FIREWALL_RECORD | FIREWALL_SINGLE}};
	static const struct firewall_port bell[] = {{ALL, FIREWALL_BELL}};
	struct inforce_ban b = {.addr = address("192.0.2.1"), .end_ns = CLOCK_FOREVER};
	struct firewall_port many[FIREWALL_PORTS_MAX + 1];
	struct firewall_sighting s;
	struct firewall *fw;
	struct error err;
	char *bare, *text;
	int64_t since;

	(void)state;
	NEED_NETNS();
	fw = open_with(0, 0);
	assert_int_equal(firewall_ban(fw, &b, NULL, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	bare = netns_output("nft -s list table inet tailban");
	shut(fw);
	fw = open_with(0, 0);
	watch(fw, one, 1);
	assert_true(has("192.0.2.1"));
	assert_true(has("tcp sport @wild goto wild"));
	assert_false(has("@single"));
	assert_false(has("hook input"));
	assert_false(has("quota"));
	assert_int_equal(told.all, 0);
	ask_and_answer("10.7.4.1", V4, ALL4, 0);
	since = sighting(fw, "10.7.4.1", ALL4).since_mono_ns;
	watch(fw, two, 2);
	assert_int_equal(told.all, 1);
	assert_true(has("@single"));
	assert_true(has("hook input"));
	s = sighting(fw, "10.7.4.1", ALL4);
	assert_true(s.seen && s.since_mono_ns == since);
	assert_true(sighting(fw, "10.7.4.1", ONE4).since_mono_ns > since);
	assert_true(state_of(fw).since_mono_ns > since);
	ask_and_answer("10.7.4.1", V4, ONE4, 2);
	assert_int_equal(connections(fw, "10.7.4.1", ONE4), 1);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 1);
	text = netns_output("nft -j list table inet tailban | python3 -m json.tool");
	assert_non_null(strstr(text, "missed4"));
	free(text);
	watch(fw, bell, 1);
	assert_false(has("seen4"));
	assert_false(state_of(fw).on);
	assert_true(state_of(fw).bell);
	assert_int_equal(sighting(fw, "10.7.4.1", ALL4).error, -ENOENT);
	syns(1, ALL4);
	assert_int_equal(rings(fw), 0);
	syns(1, ALL);
	assert_int_equal(rings(fw), 1);
	watch(fw, NULL, 0);
	text = netns_output("nft -s list table inet tailban");
	assert_string_equal(bare, text);
	assert_string_equal(state_of(fw).text, "off");
	free(text);
	free(bare);
	/* The most there may be, and one more. */
	for (unsigned i = 0; i <= FIREWALL_PORTS_MAX; i++)
		many[i] = (struct firewall_port){(uint16_t)(65535 - i),
						 FIREWALL_RECORD | FIREWALL_BELL |
							 (i < 32 ? FIREWALL_SINGLE : 0)};
	watch(fw, many, FIREWALL_PORTS_MAX);
	assert_true(has("65535 : \"bell_65535\""));
	memset(&err, 0, sizeof err);
	assert_int_equal(firewall_watch_ports(fw, many, FIREWALL_PORTS_MAX + 1, clock_now(), &err),
			 -E2BIG);
	assert_non_null(strstr(err.text, "65 ports to watch, at most 64"));
	many[0].number = 0;
	assert_int_equal(firewall_watch_ports(fw, many, 1, clock_now(), &err), -EINVAL);
	assert_int_equal(firewall_counters(fw)->foreign, 0);
	/* The next start wants another list: what stays keeps its record. */
	watch(fw, one, 1);
	ask_and_answer("10.7.4.1", V4, ALL4, 0);
	shut(fw);
	fw = open_with(0, 0);
	watch(fw, two, 2);
	s = sighting(fw, "10.7.4.1", ALL4);
	assert_true(s.seen && s.since_mono_ns == 0);
	assert_true(sighting(fw, "10.7.4.1", ONE4).since_mono_ns > 0);
	finish(fw);
}

static void test_repair(void **state)
{
	static const char *const damage[] = {
		"flush table inet tailban",
		"flush ruleset",
		"flush chain inet tailban wild",
		"insert rule inet tailban new4 accept",
		"add rule inet tailban output tcp dport 1 accept",
		"delete element inet tailban wild { 8001 }",
		"add element inet tailban wild { 77 }",
		"delete element inet tailban single { 8003 }",
		"delete element inet tailban bells { 8001 }; delete quota inet tailban bell_8001",
		"delete element inet tailban bells { 8001 }",
		"add quota inet tailban bell_77 { over 5 bytes }",
		"flush chain inet tailban output; delete chain inet tailban output",
		("flush chain inet tailban output; delete chain inet tailban output; add chain "
		 "inet "
		 "tailban output { type filter hook output priority 7; }"),
		"add chain inet tailban output { policy drop; }",
		"add table inet tailban { flags dormant; }",
		"flush chain inet tailban prerouting",
		"flush chain inet tailban prerouting; delete map inet tailban bells",
	};
	struct firewall *fw;
	struct now now;
	char *before, *after;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	before = netns_output("nft -s list table inet tailban");
	now = clock_now();
	for (unsigned i = 0; i < sizeof damage / sizeof damage[0]; i++) {
		unsigned all = told.all;

		nft(damage[i]);
		now.mono_ns += 20 * CLOCK_SECOND_NS;
		while (firewall_work(fw, now) == 0)
			;
		if (told.repaired != i + 1 || told.all != all + 1)
			fail_msg("not repaired: %s", damage[i]);
		after = netns_output("nft -s list table inet tailban");
		if (strlen(before) != strlen(after)) /* the order of rows may be another one */
			fail_msg("%s: is now\n%s", damage[i], after);
		free(after);
		firewall_bell_arm(fw, FIREWALL_ALL_BELLS);
		syns(1, ALL4);
		firewall_work(fw, now);
		if (told.one != i + 1)
			fail_msg("no bell after: %s", damage[i]);
	}
	send_and_reset("10.7.5.1", V4, ALL4, 0);
	assert_int_equal(connections(fw, "10.7.5.1", ALL4), 1);
	send_and_reset("10.7.5.1", V4, ONE4, 2);
	assert_int_equal(connections(fw, "10.7.5.1", ONE4), 1);
	assert_int_equal(told.deleted, 0);
	free(before);
	finish(fw);
}

/* What stands in the record's way does not stand in the bans'. */
static void test_repair_without_record(void **state)
{
	struct inforce_ban b = {.addr = address("192.0.2.1"), .end_ns = CLOCK_FOREVER};
	struct firewall *fw;
	struct error err;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	assert_int_equal(firewall_ban(fw, &b, NULL, clock_now()), 0);
	assert_int_equal(firewall_commit(fw, clock_now()), 0);
	nft("flush table inet tailban; flush set inet tailban ban4; delete set inet tailban conn4; "
	    "add set inet tailban conn4 { type ipv4_addr; }; add chain inet tailban mine; "
	    "add rule inet tailban mine ip saddr @conn4 accept; delete set inet tailban ban4");
	settle(fw);
	assert_int_equal(told.repaired, 1);
	assert_true(has("192.0.2.1"));
	assert_true(has("ip saddr @ban4 ip saddr != @keep4 drop"));
	assert_false(state_of(fw).on);
	assert_non_null(strstr(state_of(fw).text, "no record: "));
	assert_int_equal(sighting(fw, "10.7.5.1", ALL4).error, -EAGAIN);
	assert_true(firewall_watch_ports(fw, ports, PORTS, clock_now(), &err) < 0);
	assert_non_null(strstr(err.text, "recording who talks to 4 ports"));
	nft("delete chain inet tailban mine");
	netns_sleep_ms(1100); /* the pace of repairs */
	settle(fw);
	assert_true(state_of(fw).on);
	send_and_reset("10.7.5.9", V4, ALL4, 0);
	assert_int_equal(connections(fw, "10.7.5.9", ALL4), 1);
	finish(fw);
}

/* The record is younger after a change by others; entries are nobody's bans. */
static void test_gaps(void **state)
{
	struct firewall *fw;
	int64_t since;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	send_and_reset("10.7.6.1", V4, ALL4, 0);
	since = sighting(fw, "10.7.6.1", ALL4).since_mono_ns;
	nft("add element inet tailban seen4 { 192.0.2.5 . 8001 }");
	assert_int_equal(sighting(fw, "10.7.6.1", ALL4).since_mono_ns, since);
	assert_true(sighting(fw, "192.0.2.5", ALL4).seen);
	nft("delete element inet tailban seen4 { 10.7.6.1 . 8001 }");
	assert_true(sighting(fw, "10.7.6.1", ALL4).since_mono_ns > since);
	assert_int_equal(connections(fw, "10.7.6.1", ALL4), -1);
	since = sighting(fw, "10.7.6.1", ALL4).since_mono_ns;
	nft("insert rule inet tailban prerouting accept"); /* none of the record's */
	settle(fw);
	assert_int_equal(told.repaired, 1);
	assert_int_equal(sighting(fw, "10.7.6.1", ALL4).since_mono_ns, since);
	/* A flush, and its repair is not due yet: no answer, and no record. */
	nft("delete table inet tailban");
	assert_int_equal(sighting(fw, "10.7.6.1", ALL4).error, -EAGAIN);
	assert_int_equal(sighting(fw, "10.7.6.1", ALL4).since_mono_ns, CLOCK_FOREVER);
	assert_false(state_of(fw).on);
	assert_non_null(strstr(state_of(fw).text, "waits for its repair"));
	watch(fw, ports, 1);
	watch(fw, ports, PORTS);
	netns_sleep_ms(1100);
	settle(fw);
	assert_true(state_of(fw).on);
	send_and_reset("10.7.6.1", V4, ALL4, 0);
	assert_int_equal(connections(fw, "10.7.6.1", ALL4), 1);
	assert_int_equal(told.deleted, 0);
	empty_backlog(0);
	finish(fw);
}

/* A flush that a change of the ports meets before its notification was read. */
static void test_change_meets_a_flush(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_watching();
	nft("delete table inet tailban");
	watch(fw, ports, 2);
	assert_true(state_of(fw).on);
	assert_true(has("@single"));
	send_and_reset("10.7.6.9", V4, ALL4, 0);
	assert_int_equal(connections(fw, "10.7.6.9", ALL4), 1);
	empty_backlog(0);
	finish(fw);
}

/* What a kernel lacks is left out, and told. */
static void test_poor_kernels(void **state)
{
	struct firewall *fw;

	(void)state;
	NEED_NETNS();
	fw = open_with(0, RECORD_SOCKET);
	watch(fw, ports, PORTS);
	assert_true(state_of(fw).on && state_of(fw).weak && state_of(fw).bell);
	assert_non_null(strstr(state_of(fw).text, "no `socket` expression (NFT_SOCKET)"));
	assert_int_equal(play(fw, ask_and_answer, false, V4, ALL4, 0), PEERS);
	assert_int_equal(play(fw, send_and_reset, false, V4, ALL4, 0), 0);
	spoof_all(fw, V4, ALL4);
	spoof_all(fw, V4, ONE4);
	finish(fw);
	fw = open_with(0, RECORD_CGROUP | RECORD_QUOTA);
	watch(fw, ports, PORTS);
	assert_true(state_of(fw).on && state_of(fw).weak && !state_of(fw).bell);
	assert_non_null(strstr(state_of(fw).text, "no `meta cgroup`"));
	assert_int_equal(firewall_bell_arm(fw, FIREWALL_ALL_BELLS), -EOPNOTSUPP);
	assert_int_equal(play(fw, send_and_reset, false, V4, ALL4, 0), PEERS);
	assert_int_equal(play(fw, ask_and_answer, false, V4, ONE4, 2), PEERS);
	assert_int_equal(play(fw, send_and_reset, false, V4, ONE4, 2), 0);
	finish(fw);
	fw = open_with(0, RECORD_QUOTA);
	watch(fw, ports, PORTS);
	assert_non_null(strstr(state_of(fw).text, "no bell"));
	assert_int_equal(told.all, 0);
	finish(fw);
}

/* --- Another namespace ------------------------------------------------------------------------ */

static int netlink_of(int ns)
{
	int fd;

	in_ns(ns);
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	in_ns(own_ns);
	assert_true(fd >= 0);
	return fd;
}

static struct record *open_away(int fd)
{
	static const struct firewall_port there[] = {{OTHER, FIREWALL_RECORD | FIREWALL_BELL}};
	struct record *r = NULL;
	struct error err = {0};

	if (record_open_at(fd, there, 1, clock_now(), &r, &err) < 0)
		fail_msg("%s", err.text);
	return r;
}

static struct firewall_sighting away(struct record *r, const char *who)
{
	struct firewall_sighting s = {.addr = address(who), .port = OTHER};

	assert_int_equal(record_seen(r, &s, 1, clock_now()), 0);
	return s;
}

static void talk_there(void)
{
	int fd = netns_connect("10.9.0.1", "10.9.0.2", OTHER);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "GET /\n", 6), 6);
	hang_up(fd);
}

static void test_away(void **state)
{
	struct firewall_record_state there;
	struct record *r;
	int64_t since;
	int listener;

	(void)state;
	NEED_NETNS();
	in_ns(peer_ns);
	listener = netns_listen("0.0.0.0", OTHER);
	in_ns(own_ns);
	r = open_away(netlink_of(peer_ns));
	assert_false(away(r, "10.9.0.1").seen);
	talk_there();
	assert_int_equal(away(r, "10.9.0.1").connections, 1);
	since = away(r, "10.9.0.1").since_mono_ns;
	record_state(r, clock_now(), &there);
	assert_true(there.on && !there.bell && there.since_mono_ns == since);
	/* Others' changes there. */
	in_ns(peer_ns);
	nft("add table inet other");
	in_ns(own_ns);
	assert_int_equal(away(r, "10.9.0.1").since_mono_ns, since);
	in_ns(peer_ns);
	nft("flush ruleset");
	in_ns(own_ns);
	assert_true(away(r, "10.9.0.1").since_mono_ns > since);
	assert_false(away(r, "10.9.0.1").seen);
	talk_there();
	talk_there();
	assert_int_equal(away(r, "10.9.0.1").connections, 2);
	record_close(r);
	talk_there();
	r = open_away(netlink_of(peer_ns));
	assert_int_equal(away(r, "10.9.0.1").connections, 3);
	assert_int_equal(away(r, "10.9.0.1").since_mono_ns, 0);
	assert_int_equal(record_remove(r), 0);
	record_close(r);
	in_ns(peer_ns);
	assert_true(NETNS_RUN("sh", "-c", "nft list table inet tailban_record 2>/dev/null") != 0);
	in_ns(own_ns);
	assert_int_equal(
		record_open_at(open("/dev/null", O_RDONLY), NULL, 0, clock_now(), &r, NULL) < 0, 1);
	close(listener);
}

/* Who rules that namespace fills our table there: no record, and little of our time. */
static void test_away_filled(void **state)
{
	static const struct firewall_port there[] = {{OTHER, FIREWALL_RECORD}};
	char fill[] = "{ echo add table inet tailban_record; echo add chain inet tailban_record c; "
		      "yes add rule inet tailban_record c tcp dport 1 accept | head -20000; } | "
		      "nft -f -";
	struct firewall_sighting s = {.addr = address("10.9.0.1"), .port = OTHER};
	struct error err = {0};
	struct record *r;
	int64_t start, took;

	(void)state;
	NEED_NETNS();
	r = open_away(netlink_of(peer_ns));
	in_ns(peer_ns);
	sh(fill);
	in_ns(own_ns);
	start = clock_now().mono_ns;
	assert_int_equal(record_seen(r, &s, 1, clock_now()), -E2BIG);
	took = clock_now().mono_ns - start;
	print_message("20000 rules are given up after %.1f ms\n", (double)took / 1e6);
	/* Not at once again. */
	start = clock_now().mono_ns;
	assert_int_equal(record_seen(r, &s, 1, clock_now()), 0);
	assert_int_equal(s.error, -EAGAIN);
	assert_true(clock_now().mono_ns - start < took / 2);
	record_close(r);
	assert_int_equal(record_open_at(netlink_of(peer_ns), there, 1, clock_now(), &r, &err),
			 -E2BIG);
	in_ns(peer_ns);
	nft("flush ruleset");
	in_ns(own_ns);
	r = open_away(netlink_of(peer_ns));
	assert_int_equal(record_seen(r, &s, 1, clock_now()), 0);
	assert_int_equal(record_remove(r), 0);
	record_close(r);
}

/* A container: a third namespace, reached through this one. */
static int open_container(void)
{
	char command[256];
	int ns;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	ns = this_ns();
	sh("ip link set lo up");
	in_ns(own_ns);
	snprintf(command, sizeof command,
		 "ip link add box0 type veth peer name box1 netns /proc/%d/fd/%d; "
		 "ip addr add 10.6.0.1/24 dev box0; ip link set box0 up",
		 getpid(), ns);
	sh(command);
	in_ns(ns);
	sh("ip addr add 10.6.0.2/24 dev box1; ip link set box1 up; ip route add default via "
	   "10.6.0.1");
	in_ns(own_ns);
	netns_write("/proc/sys/net/ipv4/ip_forward", "1");
	nft("add table ip box; add chain ip box prerouting { type nat hook prerouting priority "
	    "-100; }; add rule ip box prerouting tcp dport 8080 dnat to 10.6.0.2:8005");
	return ns;
}

/* Real addresses behind DNAT, no spoofed ones; and the host's bell rings. */
static void test_behind_dnat(void **state)
{
	static const struct firewall_port bell[] = {{8080, FIREWALL_BELL},
						    {FIREWALL_ANY_PORT, FIREWALL_BELL}};
	struct firewall *fw;
	struct record *r;
	char from[32];
	int ns, listener, fd;

	(void)state;
	NEED_NETNS();
	ns = open_container();
	in_ns(ns);
	listener = netns_listen("0.0.0.0", OTHER);
	in_ns(own_ns);
	r = open_away(netlink_of(ns));
	fw = open_with(0, 0);
	watch(fw, bell, 2);
	for (unsigned i = 0; i < SPOOFS; i++) {
		snprintf(from, sizeof from, "10.8.55.%u", i + 1);
		spoof(&spoofs[i], from, V4, 8080);
	}
	stepped_acks("10.8.55.100", V4, 8080);
	assert_int_equal(rings(fw), 2);
	for (unsigned i = 0; i < PEERS; i++) {
		snprintf(from, sizeof from, "10.7.55.%u", i + 1);
		fd = peer_connect(from, 0, V4, 8080);
		assert_int_equal(write(fd, "GET /\n", 6), 6);
		hang_up(fd);
	}
	netns_sleep_ms(10);
	for (unsigned i = 0; i < SPOOFS; i++) {
		snprintf(from, sizeof from, "10.8.55.%u", i + 1);
		assert_false(away(r, from).seen);
	}
	assert_false(away(r, "10.8.55.100").seen);
	for (unsigned i = 0; i < PEERS; i++) {
		snprintf(from, sizeof from, "10.7.55.%u", i + 1);
		assert_int_equal(away(r, from).connections, 1);
	}
	record_close(r);
	close(listener);
	finish(fw);
	sh("ip link del box0");
	close(ns);
}

static int clean(void **state)
{
	(void)state;
	if (!netns_ready)
		return 0;
	in_ns(own_ns);
	set_early_demux(true);
	set_cookies("1");
	for (unsigned i = 0; i < 4; i++)
		empty_backlog(i);
	return NETNS_RUN("nft", "flush", "ruleset");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_spoofed, clean),
		cmocka_unit_test_teardown(test_stepped_acks, clean),
		cmocka_unit_test_teardown(test_connections, clean),
		cmocka_unit_test_teardown(test_syn_cookies, clean),
		cmocka_unit_test_teardown(test_without_early_demux, clean),
		cmocka_unit_test_teardown(test_count, clean),
		cmocka_unit_test_teardown(test_questions, clean),
		cmocka_unit_test_teardown(test_full, clean),
		cmocka_unit_test_teardown(test_bell, clean),
		cmocka_unit_test_teardown(test_bell_of_any_port, clean),
		cmocka_unit_test_teardown(test_bell_of_any_port_stays, clean),
		cmocka_unit_test_teardown(test_bell_comes_back, clean),
		cmocka_unit_test_teardown(test_restart, clean),
		cmocka_unit_test_teardown(test_same_list_sends_nothing, clean),
		cmocka_unit_test_teardown(test_change, clean),
		cmocka_unit_test_teardown(test_repair, clean),
		cmocka_unit_test_teardown(test_repair_without_record, clean),
		cmocka_unit_test_teardown(test_gaps, clean),
		cmocka_unit_test_teardown(test_change_meets_a_flush, clean),
		cmocka_unit_test_teardown(test_poor_kernels, clean),
		cmocka_unit_test_teardown(test_away, clean),
		cmocka_unit_test_teardown(test_away_filled, clean),
		cmocka_unit_test_teardown(test_behind_dnat, clean),
	};

	netns_enter();
	if (netns_ready) {
		peer_open();
		listeners[0] = netns_listen("0.0.0.0", ALL4);
		listeners[1] = netns_listen("::", ALL);
		listeners[2] = netns_listen(V4, ONE4);
		listeners[3] = netns_listen(V6, ONE6);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
