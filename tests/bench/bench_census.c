/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a census costs: CPU time of census_take over 1,000, 10,000 and 50,000 connections to one
 * port, beside a bare dump of the same sockets that looks at nothing.
 *
 * Connections are made over loopback, in a network namespace of their own, by processes that hold
 * both ends (a process may have 20,000 descriptors only). One in ten is silent, the others have had
 * a byte and no answer. Medians of ROUNDS rounds; the threads of the holders are looked at in the
 * first census whose requests are over their limit, which is the third column.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/sockets/census.h"

#define PORT 8001
#define HOLD 9000u /* connections of one process */
#define ROUNDS 9
#define HOLDERS_MOST 16u

static const struct census_rule RULE = {
	.limits = {.silent_ms = 20000,
		   .unanswered_ms = 60000,
		   .stalled_ms = 30000,
		   .idle_ms = 60000,
		   .maxsilent = 1u << 20}, /* no budget: the holders are full by themselves */
	.nports = 1,
	.ports = {PORT},
	.ipv4_prefix = 32,
	.ipv6_prefix = 64};

static void die(const char *what)
{
	fprintf(stderr, "bench_census: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		die("lo");
	close(fd);
}

static int listen_on(void)
{
	const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 4096) < 0)
		die("listen");
	return fd;
}

/* Makes its share of the connections, says so, and holds them until it is killed. */
static void hold(int listener, unsigned number, unsigned count, int ready)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(0x7f000100 + number)};
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(PORT),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0), got;
		char byte = 'G';

		if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof from) < 0 ||
		    connect(fd, (const struct sockaddr *)&to, sizeof to) < 0)
			die("connect");
		if (i % 10 && write(fd, &byte, 1) != 1)
			die("write");
		got = accept(listener, NULL, NULL);
		if (got < 0)
			die("accept");
		if (fcntl(got, F_SETFL, O_NONBLOCK) == 0)
			while (read(got, &byte, 1) > 0)
				;
	}
	if (write(ready, "", 1) != 1)
		die("write");
	for (;;)
		pause();
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *list, size_t n)
{
	qsort(list, n, sizeof *list, by_value);
	return list[n / 2];
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void count(void *ctx, const struct sock_info *sock)
{
	(void)sock;
	++*(unsigned *)ctx;
}

static void measure(void)
{
	double bare[ROUNDS], census[ROUNDS], looked;
	struct census_report report;
	struct sockdiag sd, bare_sd;
	struct census *c = census_new();
	int64_t now_ms = 1000000;
	unsigned seen = 0;

	if (!c || sockdiag_open(&sd, NULL) < 0 || sockdiag_open(&bare_sd, NULL) < 0)
		die("sock_diag");
	for (int i = 0; i < ROUNDS; i++, now_ms += 1000) {
		double begin = cpu_ms();

		seen = 0;
		bare_sd.want_tcp_info = true;
		sockdiag_each(&bare_sd, AF_UNSPEC, SOCK_CONNECTED | SOCK_STATE(TCP_TIME_WAIT), PORT,
			      count, &seen);
		bare[i] = cpu_ms() - begin;
		if (census_take(c, &RULE, &sd, 0, now_ms, &report) < 0 || report.error)
			die("census");
		census[i] = report.cost_us / 1e3;
	}
	census_take(c, &RULE, &sd, 0, now_ms + 120000, &report);
	looked = report.cost_us / 1e3;
	printf("| %u | %.1f | %.1f | %.2f | %.1f |\n", report.sockets, median(bare, ROUNDS),
	       median(census, ROUNDS), median(census, ROUNDS) / median(bare, ROUNDS), looked);
	census_free(c);
	sockdiag_close(&sd);
	sockdiag_close(&bare_sd);
}

int main(int argc, char **argv)
{
	const unsigned sizes[] = {1000, 10000, 50000};
	unsigned most = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 50000, made = 0;
	pid_t holders[HOLDERS_MOST];
	unsigned nholders = 0;
	int ready[2], listener;
	struct rlimit limit;

	if (unshare(CLONE_NEWNET) < 0)
		die("unshare");
	loopback_up();
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	listener = listen_on();
	if (pipe(ready) < 0)
		die("pipe");
	puts("| sockets | bare dump, ms | census, ms | ratio | with the threads, ms |");
	puts("|---|---|---|---|---|");
	for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0] && sizes[s] <= most; s++) {
		while (made < sizes[s] && nholders < HOLDERS_MOST) {
			unsigned share = sizes[s] - made < HOLD ? sizes[s] - made : HOLD;
			char byte;

			holders[nholders] = fork();
			if (holders[nholders] == 0)
				hold(listener, nholders, share, ready[1]);
			if (read(ready[0], &byte, 1) != 1)
				die("a holder");
			nholders++;
			made += share;
		}
		fflush(stdout);
		measure();
	}
	while (nholders) {
		kill(holders[--nholders], SIGKILL);
		waitpid(holders[nholders], NULL, 0);
	}
	return 0;
}
