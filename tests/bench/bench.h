/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the measuring programs share: time series, a laboratory of two network namespaces, the
 * daemon as a child, and the bare path beside it.
 *
 * The laboratory: this process is the server and, by sockets made in the second namespace, all of
 * its clients. Every address of 10.64.0.0/12 is a client's (a local route, so none of them is
 * assigned and none is "an address of this host"). The namespaces have no name and vanish with the
 * process.
 *
 * A measuring program that cannot go on says why and exits with status 2 (bench_die); it is no
 * place for error handling. Times are CLOCK_MONOTONIC in nanoseconds, series hold microseconds.
 */
#ifndef TAILBAN_TESTS_BENCH_H
#define TAILBAN_TESTS_BENCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/netlink.h"

__attribute__((format(printf, 1, 2), noreturn)) void bench_die(const char *format, ...);
int64_t bench_now_ns(void);
void bench_sleep_us(unsigned us);

/* --- series ----------------------------------------------------------------------------------- */

#define SERIES_MAX 4096u

struct series {
	double us[SERIES_MAX];
	size_t n;
};

void series_add(struct series *s, int64_t begin_ns, int64_t end_ns);
/* The value that `percent` of all do not exceed; 0 percent is the least. 0 for an empty series. */
double series_percentile(const struct series *s, double percent);

/* --- the laboratory --------------------------------------------------------------------------- */

#define LAB_PORT 8001
#define LAB_SERVER "192.168.77.1"
#define LAB_FIRST_CLIENT UINT32_C(0x0a400001) /* 10.64.0.1 */
#define LAB_CLIENTS (UINT32_C(1) << 20)

struct lab {
	int server_ns, client_ns, listener;
	char dir[64]; /* temporary files */
	uint32_t next_client;
};

/* One connection, both ends; client is the address in host order. */
struct lab_conn {
	uint32_t client;
	int server_fd, client_fd;
};

void lab_open(struct lab *lab);
void lab_close(struct lab *lab);
/* An address that was not used before. */
uint32_t lab_client(struct lab *lab);
void lab_connect(struct lab *lab, struct lab_conn *conns, size_t n);
void lab_hang_up(struct lab_conn *conns, size_t n);
const char *lab_text(uint32_t client, char buf[static 16]);

/* Runs a program with `input` on its standard input; its exit status. */
int lab_run(const char *const argv[], const char *input);

/* Creates a log in the laboratory's directory and opens it for appending. */
int lab_log(const struct lab *lab, const char *name, char path[static 96]);

/* The line of one bad request, as werkzeug writes it; its length. */
size_t lab_line(uint32_t client, char *buf, size_t size);

/* --- elements as the kernel tells of them ------------------------------------------------------
 */

/* Every new element in the table `table` of an IPv4 set, by a socket of our own. */
struct watcher {
	struct netlink nl;
	const char *table;
	void (*seen)(void *ctx, uint32_t client);
	void *ctx;
};

void watcher_open(struct watcher *w);
void watcher_close(struct watcher *w);
int watcher_fd(const struct watcher *w);
void watcher_read(struct watcher *w);

/* --- the two sides -----------------------------------------------------------------------------
 */

/* tailband in the server's namespace, a jail with maxretry 1 on the log. */
struct daemon_child {
	pid_t pid;
};

void daemon_start(struct daemon_child *d, const struct lab *lab, const char *program,
		  const char *datadir, const char *log);
void daemon_stop(struct daemon_child *d);

#define BARE_TABLE "bare"
#define DAEMON_TABLE "tailban"

/*
 * inotify, read, PCRE2, NEWSETELEM and its acknowledgement; with `kill` set also dump and destroy.
 * One thread, nothing else: no filter file, no date, no ledger, no ignore list, no second process.
 */
struct bare {
	pthread_t thread;
	int log_fd, inotify_fd;
	bool kill;
};

void bare_start(struct bare *b, const char *log);
/* Ends the thread by a line of its own. */
void bare_stop(struct bare *b, int log_fd);

#endif
