/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Namespaces, connections, series and small helpers of the measuring programs; see bench.h. */
#include "tests/bench/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

void bench_die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(2);
}

int64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void bench_sleep_us(unsigned us)
{
	const struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

	nanosleep(&t, NULL);
}

/* --- series ----------------------------------------------------------------------------------- */

void series_add(struct series *s, int64_t begin_ns, int64_t end_ns)
{
	if (s->n < SERIES_MAX)
		s->us[s->n++] = (double)(end_ns - begin_ns) / 1000.;
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double series_percentile(const struct series *s, double percent)
{
	static double sorted[SERIES_MAX];
	size_t at;

	if (!s->n)
		return 0.;
	memcpy(sorted, s->us, s->n * sizeof sorted[0]);
	qsort(sorted, s->n, sizeof sorted[0], by_value);
	at = (size_t)(percent / 100. * (double)s->n);
	return sorted[at < s->n ? at : s->n - 1];
}

/* --- programs --------------------------------------------------------------------------------- */

static void feed(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left) {
		ssize_t n = write(fd, text, left);

		if (n < 0)
			bench_die("cannot write to a child: %s", strerror(errno));
		text += n;
		left -= (size_t)n;
	}
}

int lab_run(const char *const argv[], const char *input)
{
	posix_spawn_file_actions_t files;
	int pipe_fd[2], status, r;
	pid_t pid;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		bench_die("pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, pipe_fd[0], STDIN_FILENO);
	r = posix_spawnp(&pid, argv[0], &files, NULL, (char *const *)(uintptr_t)argv, environ);
	if (r)
		bench_die("cannot run %s: %s", argv[0], strerror(r));
	close(pipe_fd[0]);
	feed(pipe_fd[1], input ? input : "");
	close(pipe_fd[1]);
	posix_spawn_file_actions_destroy(&files);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			bench_die("waitpid: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* --- namespaces ------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		bench_die("%s: %s", path, strerror(errno));
	close(fd);
}

/* As a plain user: root of a user namespace of our own. */
static void become_root(void)
{
	char map[32];
	const unsigned uid = getuid(), gid = getgid();

	if (uid == 0)
		return;
	if (unshare(CLONE_NEWUSER) < 0)
		bench_die("needs root, or user namespaces: %s", strerror(errno));
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", uid);
	write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", gid);
	write_file("/proc/self/gid_map", map);
}

static int new_namespace(void)
{
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		bench_die("cannot make a network namespace: %s", strerror(errno));
	fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		bench_die("/proc/thread-self/ns/net: %s", strerror(errno));
	return fd;
}

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET) < 0)
		bench_die("setns: %s", strerror(errno));
}

static void ip(int ns, const char *lines)
{
	const char *const argv[] = {"ip", "-batch", "-", NULL};

	enter(ns);
	if (lab_run(argv, lines) != 0)
		bench_die("ip does not do what the laboratory needs");
}

static int listen_on_port(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(LAB_PORT)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, LAB_SERVER, &at.sin_addr) != 1 ||
	    bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 1024) < 0)
		bench_die("cannot listen on %s: %s", LAB_SERVER, strerror(errno));
	return fd;
}

void lab_open(struct lab *lab)
{
	struct rlimit limit;
	char lines[512];

	*lab = (struct lab){.next_client = 0};
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	become_root();
	lab->client_ns = new_namespace();
	lab->server_ns = new_namespace();
	snprintf(lines, sizeof lines,
		 "link add clients type veth peer name eth0 netns /proc/%d/fd/%d\n"
		 "addr add %s/24 dev clients\nlink set lo up\nlink set clients up\n"
		 "route add 10.64.0.0/12 via 192.168.77.2\n",
		 getpid(), lab->client_ns, LAB_SERVER);
	ip(lab->server_ns, lines);
	ip(lab->client_ns, "link set lo up\naddr add 192.168.77.2/24 dev eth0\nlink set eth0 up\n"
			   "route add local 10.64.0.0/12 dev lo\n");
	enter(lab->server_ns);
	lab->listener = listen_on_port();
	snprintf(lab->dir, sizeof lab->dir, "/tmp/tailban-bench-XXXXXX");
	if (!mkdtemp(lab->dir) || chmod(lab->dir, 0755) < 0)
		bench_die("%s: %s", lab->dir, strerror(errno));
}

void lab_close(struct lab *lab)
{
	const char *const argv[] = {"rm", "-rf", lab->dir, NULL};

	lab_run(argv, NULL);
	close(lab->listener);
	close(lab->client_ns);
	close(lab->server_ns);
}

/* --- clients ---------------------------------------------------------------------------------- */

uint32_t lab_client(struct lab *lab)
{
	if (lab->next_client == LAB_CLIENTS - 2)
		bench_die("no client's address is left");
	return LAB_FIRST_CLIENT + lab->next_client++;
}

const char *lab_text(uint32_t client, char buf[static 16])
{
	snprintf(buf, 16, "%u.%u.%u.%u", client >> 24, client >> 16 & 255, client >> 8 & 255,
		 client & 255);
	return buf;
}

static void connect_one(const struct lab *lab, struct lab_conn *c)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(c->client)};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(LAB_PORT)};
	char byte;

	inet_pton(AF_INET, LAB_SERVER, &to.sin_addr);
	c->client_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->client_fd < 0 || bind(c->client_fd, (struct sockaddr *)&from, sizeof from) < 0 ||
	    connect(c->client_fd, (struct sockaddr *)&to, sizeof to) < 0)
		bench_die("a client cannot connect: %s", strerror(errno));
	c->server_fd = accept4(lab->listener, NULL, NULL, SOCK_CLOEXEC);
	if (c->server_fd < 0)
		bench_die("accept: %s", strerror(errno));
	/* Something said and read: who never spoke is not in the kernel's record. */
	if (write(c->client_fd, "x", 1) != 1 || read(c->server_fd, &byte, 1) != 1)
		bench_die("a client cannot speak: %s", strerror(errno));
}

void lab_connect(struct lab *lab, struct lab_conn *conns, size_t n)
{
	enter(lab->client_ns);
	for (size_t i = 0; i < n; i++) {
		conns[i].client = lab_client(lab);
		connect_one(lab, &conns[i]);
	}
	enter(lab->server_ns);
}

void lab_hang_up(struct lab_conn *conns, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		close(conns[i].client_fd);
		close(conns[i].server_fd);
	}
}

/* --- logs ------------------------------------------------------------------------------------- */

int lab_log(const struct lab *lab, const char *name, char path[static 96])
{
	int fd;

	snprintf(path, 96, "%s/%s", lab->dir, name);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		bench_die("%s: %s", path, strerror(errno));
	return fd;
}

size_t lab_line(uint32_t client, char *buf, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;
	char date[32], address[16];

	localtime_r(&now, &tm);
	strftime(date, sizeof date, "%d/%b/%Y %H:%M:%S", &tm);
	return (size_t)snprintf(buf, size,
				"%s - - [%s] code 400, message Bad request syntax ('123')\n",
				lab_text(client, address), date);
}
