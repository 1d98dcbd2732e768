/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long from write(2) of an offending line to the ban and to the freed descriptor, for tailband
 * and for a bare path beside it in the same run.
 *
 *   active  write(2) -> the kernel's notification of the new element, no connections
 *   held    the same, with the connections of `recv`
 *   recv    write(2) -> the server's blocked recv(2) returns; SOCKETS connections on the port
 *   burst   one write(2) with a line of each of SOCKETS clients, all connected: the last element,
 * and the last closed connection nft     fork, exec and end of `nft add element`, what a shell
 * action does for a ban
 *
 * Blocks of both sides alternate (A B A B), so a disturbed machine disturbs both. See README.md.
 * A sample that does not come within WAIT_MS ends the program with status 2.
 */
#include "tests/bench/bench.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS 2000u
#define BLOCK 20u
#define GAP_LEAST_US 5000u
#define GAP_MOST_US 20000u
#define WAIT_MS 5000
#define LINE_BYTES 128u

/* What is measured; the order of the results. */
enum measure { ACTIVE, HELD, RECV, BURST_ACTIVE, BURST_KILLED, NMEASURES };

static const struct {
	const char *key, *text;
	double target_us; /* of the median */
} measures[NMEASURES] = {
	[ACTIVE] = {"active", "write(2) -> element active", 150},
	[HELD] = {"held", "the same, 2,000 connections", 0},
	[RECV] = {"recv", "write(2) -> recv(2) returns, 2,000 connections", 1500},
	[BURST_ACTIVE] = {"burst_active", "2,000 addresses in one write: all active", 50000},
	[BURST_KILLED] = {"burst_killed", "2,000 addresses in one write: all killed", 200000},
};

struct side {
	const char *name, *table;
	int log_fd;
	struct series series[NMEASURES];
};

enum { DAEMON, BARE, NSIDES };

/* The server's thread that waits for a client which says nothing. */
struct receiver {
	pthread_t thread;
	sem_t go, done;
	int fd; /* -1 ends the thread */
	int64_t returned_ns;
};

struct bench {
	struct lab lab;
	struct watcher watcher;
	struct receiver receiver;
	struct side sides[NSIDES];
	struct series nft;
	struct lab_conn conns[SOCKETS];
	struct bare bare;
	/* What the watcher is waiting for. */
	uint32_t first, last; /* clients */
	size_t seen;
	int64_t seen_ns;
};

/* --- waiting ---------------------------------------------------------------------------------- */

static void on_element(void *ctx, uint32_t client)
{
	struct bench *b = ctx;

	if (client < b->first || client > b->last)
		return;
	b->seen++;
	b->seen_ns = bench_now_ns();
}

static void expect(struct bench *b, const struct side *side, uint32_t first, uint32_t last)
{
	watcher_read(&b->watcher); /* what is still there from before */
	b->watcher.table = side->table;
	b->first = first;
	b->last = last;
	b->seen = 0;
}

static void wait_for_element(struct bench *b, const struct side *side)
{
	struct pollfd p = {.fd = watcher_fd(&b->watcher), .events = POLLIN};

	while (!b->seen) {
		if (poll(&p, 1, WAIT_MS) != 1)
			bench_die("no element of the side '%s' within %d ms", side->name, WAIT_MS);
		watcher_read(&b->watcher);
	}
}

static void *receive(void *arg)
{
	struct receiver *r = arg;
	char byte;

	for (;;) {
		while (sem_wait(&r->go) < 0)
			;
		if (r->fd < 0)
			return NULL;
		(void)!recv(r->fd, &byte, 1, 0);
		r->returned_ns = bench_now_ns();
		sem_post(&r->done);
	}
}

static void wait_for_recv(struct bench *b, const struct side *side)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += WAIT_MS / 1000;
	if (sem_timedwait(&b->receiver.done, &end) < 0)
		bench_die("the side '%s' does not close a connection within %d ms", side->name,
			  WAIT_MS);
}

static void gap(void)
{
	uint32_t r = 0;

	if (getrandom(&r, sizeof r, 0) < 0)
		bench_die("getrandom: %s", strerror(errno));
	bench_sleep_us(GAP_LEAST_US + r % (GAP_MOST_US - GAP_LEAST_US));
}

static int64_t write_log(const struct side *side, const char *text, size_t n)
{
	int64_t begin_ns = bench_now_ns();

	if (write(side->log_fd, text, n) != (ssize_t)n)
		bench_die("cannot write the log: %s", strerror(errno));
	return begin_ns;
}

/* --- one at a time ---------------------------------------------------------------------------- */

static void sample_active(struct bench *b, struct side *side)
{
	char line[LINE_BYTES];
	struct lab_conn c;
	int64_t begin_ns;

	lab_connect(&b->lab, &c, 1); /* the witness wants to have seen it */
	lab_hang_up(&c, 1);
	gap();
	expect(b, side, c.client, c.client);
	begin_ns = write_log(side, line, lab_line(c.client, line, sizeof line));
	wait_for_element(b, side);
	series_add(&side->series[ACTIVE], begin_ns, b->seen_ns);
}

/* One of the connections loses its client, and a new one takes its place. */
static void sample_recv(struct bench *b, struct side *side)
{
	struct lab_conn *c = &b->conns[b->lab.next_client % SOCKETS];
	char line[LINE_BYTES];
	int64_t begin_ns;

	b->receiver.fd = c->server_fd;
	sem_post(&b->receiver.go);
	gap();
	expect(b, side, c->client, c->client);
	begin_ns = write_log(side, line, lab_line(c->client, line, sizeof line));
	wait_for_element(b, side);
	wait_for_recv(b, side);
	series_add(&side->series[HELD], begin_ns, b->seen_ns);
	series_add(&side->series[RECV], begin_ns, b->receiver.returned_ns);
	lab_hang_up(c, 1);
	lab_connect(&b->lab, c, 1);
}

static void alternate(struct bench *b, size_t samples,
		      void (*sample)(struct bench *b, struct side *side))
{
	for (size_t done = 0; done < samples; done += BLOCK)
		for (size_t s = 0; s < NSIDES; s++)
			for (size_t i = done; i < done + BLOCK && i < samples; i++)
				sample(b, &b->sides[s]);
}

/* --- many at once ----------------------------------------------------------------------------- */

static int watch_connections(struct bench *b)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	for (size_t i = 0; fd >= 0 && i < SOCKETS; i++) {
		struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT};

		if (epoll_ctl(fd, EPOLL_CTL_ADD, b->conns[i].server_fd, &e) < 0)
			bench_die("epoll: %s", strerror(errno));
	}
	if (fd < 0)
		bench_die("epoll: %s", strerror(errno));
	return fd;
}

static void wait_for_all(struct bench *b, struct side *side, int epoll_fd, int64_t begin_ns)
{
	static struct epoll_event events[SOCKETS];
	struct pollfd p[2] = {{.fd = watcher_fd(&b->watcher), .events = POLLIN},
			      {.fd = epoll_fd, .events = POLLIN}};
	size_t closed = 0;
	int64_t closed_ns = 0;

	while (b->seen < SOCKETS || closed < SOCKETS) {
		int n;

		if (poll(p, 2, WAIT_MS) < 1)
			bench_die("side '%s': %zu elements and %zu closed connections after %d ms",
				  side->name, b->seen, closed, WAIT_MS);
		if (p[0].revents)
			watcher_read(&b->watcher);
		if (!p[1].revents)
			continue;
		n = epoll_wait(epoll_fd, events, SOCKETS, 0);
		closed_ns = bench_now_ns();
		closed += n > 0 ? (size_t)n : 0;
	}
	series_add(&side->series[BURST_ACTIVE], begin_ns, b->seen_ns);
	series_add(&side->series[BURST_KILLED], begin_ns, closed_ns);
}

static void round_of_burst(struct bench *b, struct side *side)
{
	static char text[SOCKETS * LINE_BYTES];
	size_t n = 0;
	int epoll_fd;

	lab_connect(&b->lab, b->conns, SOCKETS);
	epoll_fd = watch_connections(b);
	for (size_t i = 0; i < SOCKETS; i++)
		n += lab_line(b->conns[i].client, text + n, sizeof text - n);
	bench_sleep_us(300000);
	expect(b, side, b->conns[0].client, b->conns[SOCKETS - 1].client);
	wait_for_all(b, side, epoll_fd, write_log(side, text, n));
	close(epoll_fd);
	lab_hang_up(b->conns, SOCKETS);
	bench_sleep_us(200000);
}

/* --- a program a ban -------------------------------------------------------------------------- */

static void sample_nft(struct bench *b)
{
	char element[128], address[16];
	const char *const argv[] = {"nft",      "add", "element", "inet",
				    BARE_TABLE, "b",   element,   NULL};
	int64_t begin_ns;

	snprintf(element, sizeof element, "{ %s timeout 1h }",
		 lab_text(lab_client(&b->lab), address));
	begin_ns = bench_now_ns();
	if (lab_run(argv, NULL) != 0)
		bench_die("nft add element fails");
	series_add(&b->nft, begin_ns, bench_now_ns());
}

/* --- results ---------------------------------------------------------------------------------- */

static double median(const struct bench *b, int side, int measure)
{
	return series_percentile(&b->sides[side].series[measure], 50);
}

static json_t *summary(const struct series *s)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:I}", "p50", series_percentile(s, 50), "p99",
			 series_percentile(s, 99), "min", series_percentile(s, 0), "max",
			 series_percentile(s, 100), "n", (json_int_t)s->n);
}

static void print_json(const struct bench *b)
{
	json_t *root = json_object(), *list = json_array();

	for (int m = 0; m < NMEASURES; m++)
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:o, s:o, s:f, s:f}", "key",
						measures[m].key, "text", measures[m].text,
						"tailband", summary(&b->sides[DAEMON].series[m]),
						"bare", summary(&b->sides[BARE].series[m]), "ratio",
						median(b, DAEMON, m) / median(b, BARE, m),
						"target_us", measures[m].target_us));
	json_object_set_new(root, "unit", json_string("us"));
	json_object_set_new(root, "measures", list);
	json_object_set_new(root, "nft", summary(&b->nft));
	json_object_set_new(root, "nft_ratio",
			    json_real(series_percentile(&b->nft, 50) / median(b, DAEMON, ACTIVE)));
	json_dumpf(root, stdout, JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(root);
}

static void print_table(const struct bench *b)
{
	printf("%-48s %29s %29s %6s %8s\n", "microseconds", "tailband p50 / p99 / min",
	       "bare p50 / p99 / min", "ratio", "target");
	for (int m = 0; m < NMEASURES; m++) {
		const struct series *a = &b->sides[DAEMON].series[m],
				    *c = &b->sides[BARE].series[m];

		printf("%-48s %9.0f %9.0f %9.0f %9.0f %9.0f %9.0f %6.2f %8.0f\n", measures[m].text,
		       series_percentile(a, 50), series_percentile(a, 99), series_percentile(a, 0),
		       series_percentile(c, 50), series_percentile(c, 99), series_percentile(c, 0),
		       median(b, DAEMON, m) / median(b, BARE, m), measures[m].target_us);
	}
	printf("%-48s %9.0f %9.0f %9.0f, %.0f times tailband's element active\n",
	       "a spawned `nft add element`", series_percentile(&b->nft, 50),
	       series_percentile(&b->nft, 99), series_percentile(&b->nft, 0),
	       series_percentile(&b->nft, 50) / median(b, DAEMON, ACTIVE));
}

/* --- main ------------------------------------------------------------------------------------- */

static void measure(struct bench *b, size_t samples)
{
	const size_t rounds = samples >= 100 ? 5 : 3, spawns = samples / 8 + 5;

	alternate(b, samples, sample_active);
	lab_connect(&b->lab, b->conns, SOCKETS);
	alternate(b, samples, sample_recv);
	lab_hang_up(b->conns, SOCKETS);
	bench_sleep_us(200000);
	for (size_t i = 0; i < rounds; i++)
		for (size_t s = 0; s < NSIDES; s++)
			round_of_burst(b, &b->sides[s]);
	for (size_t i = 0; i < spawns; i++)
		sample_nft(b);
}

/*
 * The observer must not wait for a processor behind what it observes. The threads and children that
 * it makes are ordinary ones; without the right to do this it is one too.
 */
static void observe_at_once(void)
{
	const struct sched_param priority = {.sched_priority = 1};

	(void)!sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority);
}

static void start_receiver(struct receiver *r)
{
	sem_init(&r->go, 0, 0);
	sem_init(&r->done, 0, 0);
	if (pthread_create(&r->thread, NULL, receive, r) != 0)
		bench_die("cannot make a thread");
}

static void stop_receiver(struct receiver *r)
{
	r->fd = -1;
	sem_post(&r->go);
	pthread_join(r->thread, NULL);
}

static int usage(void)
{
	fputs("usage: bench_latency [--json] [--samples N] [--daemon PROGRAM] [--datadir DIR]\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"samples", required_argument, NULL, 'n'},
						{"daemon", required_argument, NULL, 'd'},
						{"datadir", required_argument, NULL, 'D'},
						{NULL, 0, NULL, 0}};
	const char *program = "daemon/tailband", *datadir = getenv("TAILBAN_DATADIR");
	static struct bench b;
	struct daemon_child daemon;
	char logs[NSIDES][96];
	size_t samples = 400;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'n':
			samples = strtoul(optarg, NULL, 10);
			break;
		case 'd':
			program = optarg;
			break;
		case 'D':
			datadir = optarg;
			break;
		default:
			return usage();
		}
	}
	if (!samples || samples > SERIES_MAX || optind < argc)
		return usage();
	observe_at_once();
	lab_open(&b.lab);
	b.sides[DAEMON] = (struct side){.name = "tailband", .table = DAEMON_TABLE};
	b.sides[BARE] = (struct side){.name = "bare", .table = BARE_TABLE};
	for (int i = 0; i < NSIDES; i++)
		b.sides[i].log_fd = lab_log(&b.lab, b.sides[i].name, logs[i]);
	b.bare.kill = true;
	bare_start(&b.bare, logs[BARE]);
	daemon_start(&daemon, &b.lab, program, datadir ? datadir : ".", logs[DAEMON]);
	b.watcher = (struct watcher){.seen = on_element, .ctx = &b};
	watcher_open(&b.watcher);
	start_receiver(&b.receiver);
	measure(&b, samples);
	stop_receiver(&b.receiver);
	daemon_stop(&daemon);
	bare_stop(&b.bare, b.sides[BARE].log_fd);
	watcher_close(&b.watcher);
	lab_close(&b.lab);
	if (json)
		print_json(&b);
	else
		print_table(&b);
	return 0;
}
