/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network namespace of a test program's own, and sockets in it.
 *
 * netns_enter() is called once, before the tests: as root it leaves the machine's network alone, as
 * a plain user it tries a user namespace. Where neither is allowed the tests skip with the reason.
 */
#ifndef TAILBAN_TESTS_NETNS_H
#define TAILBAN_TESTS_NETNS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/addr.h"

static bool netns_ready;

static inline void netns_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	close(fd);
}

/* With a user namespace of its own, which it belongs to. */
static inline int netns_unshare_user(void)
{
	unsigned uid = getuid(), gid = getgid();
	char map[64];

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return -errno;
	netns_write("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", uid);
	netns_write("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", gid);
	netns_write("/proc/self/gid_map", map);
	return 0;
}

static inline int netns_unshare(void)
{
	return unshare(CLONE_NEWNET) == 0 ? 0 : netns_unshare_user();
}

/* Runs a program with its output thrown away. Exit status or -1. */
static inline int netns_run(const char *const argv[])
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		dup2(null, STDOUT_FILENO);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

#define NETNS_RUN(...) netns_run((const char *const[]){__VA_ARGS__, NULL})

/* What a program prints, in a buffer that the caller frees. */
static inline char *netns_output(const char *command)
{
	FILE *pipe = popen(command, "re");
	size_t room = 1 << 20, n = 0;
	char *text = malloc(room);

	assert_non_null(pipe);
	assert_non_null(text);
	while (n + 1 < room) {
		size_t got = fread(text + n, 1, room - 1 - n, pipe);

		if (!got)
			break;
		n += got;
	}
	text[n] = 0;
	pclose(pipe);
	return text;
}

static inline void netns_enter(void)
{
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd, code = netns_unshare();

	if (code < 0) {
		print_message("skipping: no network namespace of our own: %s\n", strerror(-code));
		return;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &up) < 0) {
		print_message("skipping: lo does not come up: %s\n", strerror(errno));
		return;
	}
	close(fd);
	netns_ready = true;
}

#define NEED_NETNS()                                                                               \
	do {                                                                                       \
		if (!netns_ready)                                                                  \
			skip();                                                                    \
	} while (0)

static inline void netns_sleep_ms(unsigned ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&ts, NULL);
}

static inline struct addr address(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_net(slice_str(text), &a), 0);
	return a;
}

static inline socklen_t netns_sockaddr(const char *text, uint16_t port, struct sockaddr_storage *ss)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof *ss);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof *v4;
	}
	assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof *v6;
}

/* A listener on that address; "::" takes IPv4 too. */
static inline int netns_listen(const char *on, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t size = netns_sockaddr(on, port, &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, no = 0;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, size), 0);
	assert_int_equal(listen(fd, 512), 0);
	return fd;
}

/* A connection from one local address to another; waits at most a second. -1 when it does not come.
 */
static inline int netns_connect(const char *from, const char *to, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t size = netns_sockaddr(from, 0, &ss);
	struct timeval second = {1, 0};
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, size), 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
	size = netns_sockaddr(to, port, &ss);
	if (connect(fd, (struct sockaddr *)&ss, size) == 0)
		return fd;
	close(fd);
	return -1;
}

#endif
