/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the record and the bells cost: nanoseconds that each layer adds to a round trip of one byte
 * (a segment each way) and to a whole connection (connect, request, answer, close), over a veth
 * pair with both ends on one processor. The layers take turns in each round, every time on an empty
 * table; of all parts of all rounds the least counts, as a busy machine blurs the others.
 *
 * "the address alone" is the rule without the count, loaded with nft: what membership would cost.
 */
#include "tests/bench/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/enforcer/firewall.h"

#define PORT 8000
#define PARTS 40
#define TRIPS 500 /* in one part */
#define CONNECTIONS 50

enum layer {
	NOTHING,
	BANS,
	ANY_BELL,
	ADDRESS,
	RECORD,
	RECORD_BELL,
	SINGLE_BELL,
	OTHER_PORT,
	LAYERS
};

static const struct {
	const char *name, *text;
	struct firewall_port port;
	bool table;
} layers[LAYERS] = {
	[NOTHING] = {"none", "no table", {0, 0}, false},
	[BANS] = {"bans", "table of the bans, one set", {0, 0}, true},
	[ANY_BELL] = {"any_bell",
		      "... and the bell of any port",
		      {FIREWALL_ANY_PORT, FIREWALL_BELL},
		      true},
	[ADDRESS] = {"address", "... and the address alone", {0, 0}, true},
	[RECORD] = {"record", "... and the record", {PORT, FIREWALL_RECORD}, true},
	[RECORD_BELL] = {"record_bell",
			 "... and the record and the bell",
			 {PORT, FIREWALL_RECORD | FIREWALL_BELL},
			 true},
	[SINGLE_BELL] = {"single_bell",
			 "... the same, listener on one address",
			 {PORT, FIREWALL_RECORD | FIREWALL_BELL | FIREWALL_SINGLE},
			 true},
	[OTHER_PORT] = {"other",
			"... the same, of another port",
			{PORT + 1, FIREWALL_RECORD | FIREWALL_BELL | FIREWALL_SINGLE},
			true},
};

static const char address_alone[] =
	"table inet tailban {\n"
	" set only4 { type ipv4_addr . inet_service; size 131072; flags dynamic,timeout; timeout "
	"1h; }\n"
	" set only6 { type ipv6_addr . inet_service; size 131072; flags dynamic,timeout; timeout "
	"1h; }\n"
	" chain output { type filter hook output priority 0;\n"
	"  tcp sport 8000 tcp flags & (syn|rst) == 0 ip daddr . tcp sport != @only4 socket "
	"wildcard "
	"0 add @only4 { ip daddr . tcp sport }\n"
	"  tcp sport 8000 tcp flags & (syn|rst) == 0 ip6 daddr & ffff:ffff:ffff:ffff:: . tcp sport "
	"!= @only6 socket wildcard 0 add @only6 { ip6 daddr & ffff:ffff:ffff:ffff:: . tcp sport }\n"
	" }\n"
	"}\n";

struct bench {
	struct lab lab;
	struct inforce inforce;
	int listener, client, server;
	struct series trip[LAYERS], whole[LAYERS];
};

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET) < 0)
		bench_die("setns: %s", strerror(errno));
}

static void on_one_processor(void)
{
	cpu_set_t all, one;

	if (sched_getaffinity(0, sizeof all, &all) < 0)
		bench_die("sched_getaffinity: %s", strerror(errno));
	CPU_ZERO(&one);
	for (int i = CPU_SETSIZE - 1; i >= 0; i--)
		if (CPU_ISSET(i, &all) && !CPU_COUNT(&one))
			CPU_SET(i, &one);
	(void)sched_setaffinity(0, sizeof one, &one);
}

static int listen_everywhere(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 64) < 0)
		bench_die("cannot listen: %s", strerror(errno));
	return fd;
}

static int connect_to(const struct bench *b)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd, on = 1;

	inet_pton(AF_INET, LAB_SERVER, &to.sin_addr);
	enter(b->lab.client_ns);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	enter(b->lab.server_ns);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		bench_die("cannot connect: %s", strerror(errno));
	return fd;
}

static void pass(int from, int to)
{
	char byte = 'x';

	if (write(from, &byte, 1) != 1 || read(to, &byte, 1) != 1)
		bench_die("the connection is lost: %s", strerror(errno));
}

static void trips(const struct bench *b)
{
	for (unsigned i = 0; i < TRIPS; i++) {
		pass(b->client, b->server);
		pass(b->server, b->client);
	}
}

/* The server closes first and keeps no TIME_WAIT: ports would run out. */
static void whole_connections(const struct bench *b)
{
	struct linger none = {1, 0};
	char byte;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		int client = connect_to(b), server = accept(b->listener, NULL, NULL);

		pass(client, server);
		pass(server, client);
		shutdown(server, SHUT_WR);
		if (read(client, &byte, 1) != 0)
			bench_die("no end of the answer");
		setsockopt(server, SOL_SOCKET, SO_LINGER, &none, sizeof none);
		close(client);
		close(server);
	}
}

/* Picoseconds, so that the series hold nanoseconds. */
static int64_t measure(const struct bench *b, void (*part)(const struct bench *), unsigned count)
{
	int64_t best = INT64_MAX;

	part(b);
	for (unsigned i = 0; i < PARTS; i++) {
		int64_t begin = bench_now_ns(), took;

		part(b);
		took = bench_now_ns() - begin;
		best = took < best ? took : best;
	}
	return best * 1000 / count;
}

static void put_layer(struct bench *b, enum layer layer)
{
	const char *const nft[] = {"nft", "-f", "-", NULL};
	struct firewall_options options = {.inforce = &b->inforce, .maxbans = 65536};
	struct inforce_ban ban = {.end_ns = CLOCK_FOREVER};
	struct now now = clock_now();
	struct firewall *fw;
	struct error err;

	if (lab_run(nft, "flush ruleset\n") != 0)
		bench_die("nft does not flush");
	if (!layers[layer].table)
		return;
	if (inforce_init(&b->inforce, 100) < 0 || firewall_open(&options, now, &fw, &err) < 0 ||
	    firewall_adopt(fw, now, &err) < 0)
		bench_die("no firewall");
	addr_parse(slice_str("192.0.2.1"), &ban.addr);
	firewall_ban(fw, &ban, NULL, now);
	if (firewall_commit(fw, now) < 0 ||
	    firewall_watch_ports(fw, &layers[layer].port, layers[layer].port.flags ? 1 : 0, now,
				 &err) < 0)
		bench_die("the table is not as wanted");
	firewall_close(fw);
	inforce_fini(&b->inforce);
	if (layer == ADDRESS && lab_run(nft, address_alone) != 0)
		bench_die("nft does not load the rule");
}

static void one_round(struct bench *b)
{
	for (unsigned i = 0; i < LAYERS; i++) {
		put_layer(b, (enum layer)i);
		bench_sleep_us(20000);
		series_add(&b->trip[i], 0, measure(b, trips, TRIPS));
		series_add(&b->whole[i], 0, measure(b, whole_connections, CONNECTIONS));
	}
}

static double least(const struct series *s)
{
	return series_percentile(s, 0);
}

static void print_table(const struct bench *b)
{
	double trip0 = least(&b->trip[NOTHING]), whole0 = least(&b->whole[NOTHING]);

	puts("| | round trip | added | ratio | connection | added | ratio |");
	puts("|---|---|---|---|---|---|---|");
	for (unsigned i = 0; i < LAYERS; i++) {
		double trip = least(&b->trip[i]), whole = least(&b->whole[i]);

		printf("| %s | %.0f ns | %+.0f | %.3f | %.0f ns | %+.0f | %.3f |\n", layers[i].text,
		       trip, trip - trip0, trip / trip0, whole, whole - whole0, whole / whole0);
	}
}

static void print_json(const struct bench *b)
{
	printf("{");
	for (unsigned i = 0; i < LAYERS; i++)
		printf("%s\"%s\": {\"trip_ns\": %.1f, \"connection_ns\": %.1f}", i ? ", " : "",
		       layers[i].name, least(&b->trip[i]), least(&b->whole[i]));
	puts("}");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"rounds", required_argument, NULL, 'r'},
						{NULL, 0, NULL, 0}};
	static struct bench b;
	unsigned rounds = 7;
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'j')
			json = true;
		else if (option == 'r')
			rounds = (unsigned)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	lab_open(&b.lab);
	on_one_processor();
	b.listener = listen_everywhere();
	b.client = connect_to(&b);
	b.server = accept(b.listener, NULL, NULL);
	for (unsigned i = 0; i < rounds; i++)
		one_round(&b);
	if (json)
		print_json(&b);
	else
		print_table(&b);
	lab_close(&b.lab);
	return 0;
}
