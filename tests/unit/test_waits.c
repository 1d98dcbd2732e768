/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the threads of real servers wait for: forks of this program whose threads sleep in every
 * call that counts, one connection each, and a werkzeug development server.
 *
 * The other ends of the connections are held here; sock_diag says which inode the server's end has.
 */
#include "daemon/sockets/waits.h"

#include "daemon/base/sockdiag.h"

#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/unit/netns.h"
#include "tests/unit/random.h"

#define PORT 8001
#define NOBODY 65534
#define STACK_BYTES (256u << 10)
#define HOUR_MS 3600000
#define PYTHON "/usr/bin/python3"

static struct sockdiag sd;
static struct waits *waits;

static struct {
	int clients[1024];
	size_t nclients;
} scene;

/* A server's thread on its connection; `pair` is a socket that nobody writes to. */
typedef void way_function(int fd, int pair);

static void fill(int fd)
{
	static const char zeros[65536];

	/* The buffers of the kernel grow while they fill. */
	for (unsigned i = 0; i < 10; i++) {
		while (send(fd, zeros, sizeof zeros, MSG_DONTWAIT) > 0)
			;
		netns_sleep_ms(20);
	}
}

static void way_recv(int fd, int pair)
{
	char byte;

	(void)pair;
	recv(fd, &byte, 1, 0);
}

static void way_read(int fd, int pair)
{
	char byte;

	(void)pair;
	if (read(fd, &byte, 1) < 0)
		return;
}

static void way_recvmsg(int fd, int pair)
{
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	(void)pair;
	recvmsg(fd, &m, 0);
}

static void way_poll_in(int fd, int pair)
{
	struct pollfd p = {fd, POLLIN | POLLRDHUP, 0};

	(void)pair;
	poll(&p, 1, HOUR_MS);
}

static void way_ppoll_in(int fd, int pair)
{
	struct pollfd p[] = {{-1, POLLIN, 0}, {fd, POLLIN, 0}};

	(void)pair;
	ppoll(p, 2, NULL, NULL);
}

static void way_poll_out(int fd, int pair)
{
	struct pollfd p = {fd, POLLOUT, 0};

	(void)pair;
	fill(fd);
	poll(&p, 1, -1);
}

static void way_poll_both(int fd, int pair)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};

	(void)pair;
	fill(fd);
	poll(&p, 1, -1);
}

static void way_poll_hangup(int fd, int pair)
{
	struct pollfd p = {fd, POLLRDHUP, 0};

	(void)pair;
	poll(&p, 1, -1);
}

static void way_poll_two(int fd, int pair)
{
	struct pollfd p[] = {{pair, POLLIN, 0}, {fd, POLLIN, 0}};

	poll(p, 2, -1);
}

static void way_poll_two_out(int fd, int pair)
{
	struct pollfd p[] = {{fd, POLLOUT, 0}, {pair, POLLIN, 0}};

	fill(fd);
	poll(p, 2, -1);
}

static void way_poll_many(int fd, int pair)
{
	struct pollfd p[700];

	for (unsigned i = 0; i < 700; i++)
		p[i] = (struct pollfd){i == 699 ? fd : pair, POLLIN, 0};
	poll(p, 700, -1);
}

static void way_select_one(int fd, int pair)
{
	fd_set set;

	(void)pair;
	FD_ZERO(&set);
	FD_SET(fd, &set);
	select(fd + 1, &set, NULL, NULL, NULL);
}

/* What stands in the set beyond its end is not asked for. */
static void way_select_beyond(int fd, int pair)
{
	fd_set set;

	(void)pair;
	memset(&set, 0xff, sizeof set);
	for (int i = 0; i < fd; i++)
		FD_CLR(i, &set);
	select(fd + 1, &set, NULL, NULL, NULL);
}

static void way_select_two(int fd, int pair)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	FD_SET(pair, &set);
	pselect((fd > pair ? fd : pair) + 1, &set, NULL, NULL, NULL, NULL);
}

static void way_select_out(int fd, int pair)
{
	fd_set in, out;

	fill(fd);
	FD_ZERO(&in);
	FD_SET(pair, &in);
	FD_ZERO(&out);
	FD_SET(fd, &out);
	select((fd > pair ? fd : pair) + 1, &in, &out, NULL, NULL);
}

static int epoll_of(int fd, uint32_t events)
{
	struct epoll_event e = {.events = events};
	int set = epoll_create1(EPOLL_CLOEXEC);

	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	return set;
}

static void way_epoll(int fd, int pair)
{
	struct epoll_event e;

	(void)pair;
	epoll_wait(epoll_of(fd, EPOLLIN), &e, 1, -1);
}

static void way_epoll_edge(int fd, int pair)
{
	struct epoll_event e;
	int set = epoll_of(fd, EPOLLIN | EPOLLOUT | EPOLLET);

	(void)pair;
	while (epoll_wait(set, &e, 1, -1) > 0)
		;
}

static void way_epoll_out(int fd, int pair)
{
	struct epoll_event e;

	(void)pair;
	fill(fd);
	epoll_wait(epoll_of(fd, EPOLLIN | EPOLLOUT), &e, 1, -1);
}

/* A loop that is busy elsewhere. */
static void way_epoll_and_sleep(int fd, int pair)
{
	(void)pair;
	epoll_of(fd, EPOLLIN);
	sleep(3600);
}

/* A pool of threads behind a loop. */
static void way_epoll_and_recv(int fd, int pair)
{
	epoll_of(fd, EPOLLIN);
	way_recv(fd, pair);
}

/* The event has come and was given to a worker, who works. */
static void way_epoll_spent(int fd, int pair)
{
	struct epoll_event e;
	int set = epoll_of(fd, EPOLLOUT | EPOLLONESHOT);

	(void)pair;
	epoll_wait(set, &e, 1, -1);
	sleep(3600);
}

static void way_epoll_paused(int fd, int pair)
{
	(void)pair;
	epoll_of(fd, EPOLLRDHUP);
	sleep(3600);
}

static void way_send(int fd, int pair)
{
	(void)pair;
	fill(fd);
	send(fd, "x", 1, 0);
}

static void way_write(int fd, int pair)
{
	(void)pair;
	fill(fd);
	if (write(fd, "x", 1) < 0)
		return;
}

static void way_sendfile(int fd, int pair)
{
	int file = memfd_create("answer", MFD_CLOEXEC);

	(void)pair;
	fill(fd);
	if (ftruncate(file, 1 << 20) == 0)
		sendfile(fd, file, NULL, 1 << 20);
}

static void way_splice_in(int fd, int pair)
{
	int ends[2];

	(void)pair;
	if (pipe2(ends, O_CLOEXEC) == 0)
		splice(fd, NULL, ends[1], NULL, 4096, 0);
}

static void way_sleep(int fd, int pair)
{
	(void)fd;
	(void)pair;
	sleep(3600);
}

/* The handler asks another server. */
static void way_other(int fd, int pair)
{
	(void)fd;
	way_recv(pair, fd);
}

static void way_run(int fd, int pair)
{
	(void)fd;
	(void)pair;
	for (;;)
		;
}

struct way {
	const char *name;
	way_function *function;
	enum wait_kind kind;
};

#define WAY(name, kind)                                                                            \
	{                                                                                          \
#name, way_##name, kind                                                            \
	}
static const struct way ways[] = {
	WAY(recv, WAIT_CLIENT),
	WAY(read, WAIT_CLIENT),
	WAY(recvmsg, WAIT_CLIENT),
	WAY(poll_in, WAIT_CLIENT),
	WAY(ppoll_in, WAIT_CLIENT),
	WAY(poll_out, WAIT_SENDING),
	WAY(poll_both, WAIT_SENDING),
	WAY(poll_hangup, WAIT_WORKS),
	WAY(poll_two, WAIT_LOOP),
	WAY(poll_two_out, WAIT_SENDING),
	WAY(poll_many, WAIT_LOOP),
	WAY(select_one, WAIT_CLIENT),
	WAY(select_beyond, WAIT_CLIENT),
	WAY(select_two, WAIT_LOOP),
	WAY(select_out, WAIT_SENDING),
	WAY(epoll, WAIT_LOOP),
	WAY(epoll_edge, WAIT_LOOP),
	WAY(epoll_out, WAIT_SENDING),
	WAY(epoll_and_sleep, WAIT_LOOP),
	WAY(epoll_and_recv, WAIT_CLIENT),
	WAY(epoll_spent, WAIT_WORKS),
	WAY(epoll_paused, WAIT_WORKS),
	WAY(send, WAIT_SENDING),
	WAY(write, WAIT_SENDING),
	WAY(sendfile, WAIT_SENDING),
	WAY(splice_in, WAIT_CLIENT),
	WAY(sleep, WAIT_WORKS),
	WAY(other, WAIT_WORKS),
	WAY(run, WAIT_WORKS),
};
#define NWAYS (sizeof ways / sizeof ways[0])

struct job {
	way_function *function;
	int fd, pair;
};

static void *work(void *argument)
{
	struct job *job = argument;

	job->function(job->fd, job->pair);
	/* A thread that did not sleep for ever would be a wrong test: it shows as one that works.
	 */
	for (;;)
		pause();
	return NULL;
}

static void start_thread(way_function *function, int fd, int pair)
{
	struct job *job = malloc(sizeof *job);
	pthread_attr_t small;
	pthread_t thread;

	*job = (struct job){function, fd, pair};
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK_BYTES);
	if (pthread_create(&thread, &small, work, job) != 0)
		_exit(1);
	pthread_attr_destroy(&small);
}

/* A server accepts as many connections as `n` says; what it does with each is up to it. */
typedef void server_function(int listener, size_t n, void *argument);

static pid_t serve(server_function *server, size_t n, void *argument)
{
	int listener = netns_listen("127.0.0.1", PORT);
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		dup2(listener, 3);
		close_range(4, ~0u, 0);
		server(3, n, argument);
		for (;;)
			pause();
	}
	close(listener);
	return pid;
}

static int connect_one(void)
{
	int fd = netns_connect("127.0.0.1", "127.0.0.1", PORT);

	assert_true(fd >= 0);
	scene.clients[scene.nclients++] = fd;
	return fd;
}

struct end_of {
	uint16_t port;
	uint32_t inode;
};

static void take_end(void *ctx, const struct sock_info *sock)
{
	struct end_of *e = ctx;

	if (sock->pport == e->port && sock->inode)
		e->inode = sock->inode;
}

/* The inode of the server's end, 0 until it is accepted. */
static uint32_t inode_of(int client)
{
	struct sockaddr_in own;
	socklen_t size = sizeof own;
	struct end_of e = {0};

	assert_int_equal(getsockname(client, (struct sockaddr *)&own, &size), 0);
	e.port = ntohs(own.sin_port);
	assert_int_equal(
		sockdiag_each(&sd, AF_INET, SOCK_STATE(TCP_ESTABLISHED), PORT, take_end, &e), 0);
	return e.inode;
}

static void wait_accepted(int client)
{
	for (unsigned i = 0; i < 500 && !inode_of(client); i++)
		netns_sleep_ms(20);
}

static enum wait_kind look(pid_t pid, int client, pid_t *ret_pid)
{
	assert_int_equal(waits_read(waits, &pid, 1), 0);
	return waits_of(waits, inode_of(client), ret_pid);
}

/* Looks until it is so, 10 s at most. */
static void expect(pid_t pid, int client, enum wait_kind kind, const char *name)
{
	enum wait_kind seen = WAIT_UNKNOWN;

	for (unsigned i = 0; i < 200; i++) {
		seen = look(pid, client, NULL);
		if (seen == kind)
			return;
		netns_sleep_ms(50);
	}
	fail_msg("%s: %s, not %s", name, wait_kind_name(seen), wait_kind_name(kind));
}

/* Children of servers come to us when these die: see main. */
static int scene_close(void **state)
{
	struct proc_family family = {0};
	pid_t self = getpid();

	(void)state;
	assert_int_equal(proc_family_read(&family), 0);
	proc_family_mark(&family, &self, 1);
	for (size_t i = 0; i < family.count; i++)
		if (family.kin[i].marked && family.kin[i].pid != self)
			kill(family.kin[i].pid, SIGKILL);
	proc_family_free(&family);
	while (wait(NULL) > 0)
		;
	while (scene.nclients > 0)
		close(scene.clients[--scene.nclients]);
	return 0;
}

static void serve_ways(int listener, size_t n, void *argument)
{
	const struct way *list = argument;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		_exit(1);
	for (size_t i = 0; i < n; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			_exit(1);
		start_thread(list[i].function, fd, pair[0]);
	}
}

static pid_t serve_list(const struct way *list, size_t n)
{
	pid_t pid = serve(serve_ways, n, (void *)(uintptr_t)list);

	for (size_t i = 0; i < n; i++) {
		int fd = connect_one();

		/* The queue of the listener is not endless. */
		if (i % 100 == 99)
			wait_accepted(fd);
	}
	return pid;
}

static void test_ways(void **state)
{
	pid_t pid = serve_list(ways, NWAYS), holder;

	(void)state;
	for (size_t i = 0; i < NWAYS; i++)
		expect(pid, scene.clients[i], ways[i].kind, ways[i].name);
	/* And all in one picture. */
	assert_int_equal(waits_read(waits, &pid, 1), 0);
	for (size_t i = 0; i < NWAYS; i++) {
		assert_int_equal(waits_of(waits, inode_of(scene.clients[i]), &holder),
				 ways[i].kind);
		assert_int_equal(holder, pid);
	}
	assert_true(waits_selects(waits, pid));
	assert_int_equal(waits_of(waits, 1, &holder), WAIT_UNKNOWN);
	assert_int_equal(holder, 0);
	/* What is sent is not waited for. */
	assert_int_equal(send(scene.clients[0], "x", 1, 0), 1);
	expect(pid, scene.clients[0], WAIT_WORKS, "an answered recv");
}

static void test_no_select(void **state)
{
	const struct way list[] = {WAY(poll_in, WAIT_CLIENT)};
	pid_t pid = serve_list(list, 1);

	(void)state;
	expect(pid, scene.clients[0], WAIT_CLIENT, "poll_in");
	assert_false(waits_selects(waits, pid));
	assert_false(waits_selects(waits, getpid()));
}

/* A debugger's stop turns a timed poll into restart_syscall. */
static void test_stop(void **state)
{
	const struct way list[] = {
		WAY(poll_in, WAIT_CLIENT),
		WAY(recv, WAIT_CLIENT),
		WAY(select_one, WAIT_CLIENT),
		WAY(sleep, WAIT_WORKS),
	};
	pid_t pid = serve_list(list, 4);

	(void)state;
	for (size_t i = 0; i < 4; i++)
		expect(pid, scene.clients[i], list[i].kind, list[i].name);
	kill(pid, SIGSTOP);
	for (size_t i = 0; i < 4; i++)
		expect(pid, scene.clients[i], WAIT_UNKNOWN, "stopped");
	kill(pid, SIGCONT);
	for (size_t i = 0; i < 4; i++)
		expect(pid, scene.clients[i], list[i].kind, list[i].name);
}

/* A child for each connection; the parent keeps its copies and waits for the next. */
static void serve_forks(int listener, size_t n, void *argument)
{
	const struct way *list = argument;

	for (size_t i = 0; i < n; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			list[i].function(fd, fd);
			_exit(0);
		}
	}
	accept(listener, NULL, NULL);
}

static void test_fork_per_connection(void **state)
{
	static const struct way list[] = {
		WAY(recv, WAIT_CLIENT),
		WAY(sleep, WAIT_WORKS),
		WAY(send, WAIT_SENDING),
		WAY(poll_in, WAIT_CLIENT),
	};
	pid_t pid = serve(serve_forks, 4, (void *)(uintptr_t)list), holder, first;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		connect_one();
	for (size_t i = 0; i < 4; i++)
		expect(pid, scene.clients[i], list[i].kind, list[i].name);
	assert_int_equal(look(pid, scene.clients[0], &first), WAIT_CLIENT);
	assert_int_equal(look(pid, scene.clients[3], &holder), WAIT_CLIENT);
	assert_true(first != pid && holder != pid && first != holder);
	/* Who is asked for alone does not know what its parent holds. */
	assert_int_equal(waits_read(waits, &first, 1), 0);
	assert_int_equal(waits_of(waits, inode_of(scene.clients[0]), &holder), WAIT_CLIENT);
	assert_int_equal(holder, first);
	assert_int_equal(waits_of(waits, inode_of(scene.clients[3]), &holder), WAIT_UNKNOWN);
}

/* A handler forks a helper, which inherits everybody's connections and works. */
static void serve_helper(int listener, size_t n, void *argument)
{
	int fd = 0;

	(void)argument;
	for (size_t i = 0; i < n; i++) {
		fd = accept(listener, NULL, NULL);
		if (i + 1 < n)
			start_thread(way_recv, fd, fd);
	}
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		for (;;)
			sleep(3600);
	}
	while (wait(NULL) < 0)
		;
}

static void test_inherited(void **state)
{
	pid_t pid = serve(serve_helper, 3, NULL), holder;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		connect_one();
	for (size_t i = 0; i < 2; i++) {
		expect(pid, scene.clients[i], WAIT_CLIENT, "recv beside a helper");
		look(pid, scene.clients[i], &holder);
		assert_int_equal(holder, pid);
	}
	expect(pid, scene.clients[2], WAIT_WORKS, "the helper's connection");
}

static int read_as_nobody(void *argument)
{
	if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		return 255;
	return -waits_read(waits, argument, 1);
}

static void test_denied(void **state)
{
	const struct way list[] = {WAY(recv, WAIT_CLIENT)};
	pid_t pid = serve_list(list, 1), child;
	int status;

	(void)state;
	expect(pid, scene.clients[0], WAIT_CLIENT, "recv");
	child = fork();
	if (child == 0)
		_exit(read_as_nobody(&pid));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 255) {
		print_message("skipping: no other user than ours in this user namespace\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), EACCES);
}

static void test_gone(void **state)
{
	const struct way list[] = {WAY(recv, WAIT_CLIENT)};
	pid_t both[] = {serve_list(list, 1), getpid()}, holder;
	uint32_t inode;

	(void)state;
	expect(both[0], scene.clients[0], WAIT_CLIENT, "recv");
	inode = inode_of(scene.clients[0]);
	kill(both[0], SIGKILL);
	/* A zombie has no descriptors. */
	waitid(P_PID, (id_t)both[0], &(siginfo_t){0}, WEXITED | WNOWAIT);
	assert_int_equal(waits_read(waits, both, 1), -ESRCH);
	assert_int_equal(waits_of(waits, inode, &holder), WAIT_UNKNOWN);
	assert_int_equal(holder, 0);
	waitpid(both[0], NULL, 0);
	assert_int_equal(waits_read(waits, both, 1), -ESRCH);
	assert_int_equal(waits_read(waits, both, 0), -ESRCH);
	/* One of two is enough. */
	assert_int_equal(waits_read(waits, both, 2), 0);
}

/* Processes with threads that are killed while they are looked at, and started anew. */
static void test_dies_meanwhile(void **state)
{
	struct way list[20];
	unsigned whole = 0, gone = 0;

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		list[i] = (struct way){"recv", way_recv, WAIT_CLIENT};
	for (unsigned round = 0; round < 20; round++) {
		pid_t pid = serve_list(list, 20), killer;
		int r = 0;

		expect(pid, scene.clients[19], WAIT_CLIENT, "recv");
		killer = fork();
		if (killer == 0) {
			usleep(round * 100);
			kill(pid, SIGKILL);
			_exit(0);
		}
		/* In the middle of its end it is closed to all but root. */
		for (unsigned i = 0; i < 10000 && (r == 0 || r == -EACCES); i++) {
			r = waits_read(waits, &pid, 1);
			whole += r == 0;
		}
		assert_int_equal(r, -ESRCH);
		gone++;
		waitpid(killer, NULL, 0);
		scene_close(NULL);
	}
	print_message("    %u pictures, then gone in %u rounds\n", whole, gone);
}

#if defined(__x86_64__)
/* A whole 32-bit program: read(5, ...) for ever, whose number would be close here. */
static const unsigned char foreign_program[] = {
	0x7f, 'E',  'L',  'F', 1,  1,    1,  0,
	0,    0,    0,    0,   0,  0,    0,  0, /* class 32, little endian */
	2,    0,    3,    0,   1,  0,    0,  0,
	0x54, 0x80, 4,    8,   52, 0,    0,  0, /* i386, entry 0x8048054 */
	0,    0,    0,    0,   0,  0,    0,  0,
	52,   0,    32,   0,   1,  0,    40, 0, /* one program header at 52 */
	0,    0,    0,    0,                    /* no sections */
	1,    0,    0,    0,   0,  0,    0,  0,
	0,    0x80, 4,    8,   0,  0x80, 4,  8, /* load at 0x8048000 */
	110,  0,    0,    0,   0,  0x10, 0,  0,
	7,    0,    0,    0,   0,  0x10, 0,  0, /* 110 bytes, 4096 in memory */
	0xb8, 3,    0,    0,   0,               /* mov eax, 3 */
	0xbb, 5,    0,    0,   0,               /* mov ebx, 5 */
	0xb9, 0,    0x84, 4,   8,               /* mov ecx, 0x8048400 */
	0xba, 1,    0,    0,   0,               /* mov edx, 1 */
	0xcd, 0x80,                             /* int 0x80 */
	0xeb, 0xe8,                             /* jmp to the start */
	0,    0,
};

static void serve_foreign(int listener, size_t n, void *argument)
{
	int fd = accept(listener, NULL, NULL);
	int file = memfd_create("foreign", MFD_CLOEXEC);
	char *const none[] = {NULL};

	(void)n;
	(void)argument;
	file = fcntl(file, F_DUPFD_CLOEXEC, 20);
	dup2(fd, 5);
	if (write(file, foreign_program, sizeof foreign_program) > 0)
		fexecve(file, none, none);
	_exit(errno == ENOEXEC ? 77 : 1);
}

static void test_other_architecture(void **state)
{
	pid_t pid = serve(serve_foreign, 1, NULL), holder;
	siginfo_t info = {0};
	char buf[256];

	(void)state;
	connect_one();
	for (unsigned i = 0; i < 100; i++) {
		/* Until it sleeps in a call that bears number 3. */
		if (proc_read(pid, "syscall", buf, sizeof buf) > 0 && strncmp(buf, "3 0x5", 5) == 0)
			break;
		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
		if (info.si_pid) {
			assert_int_equal(info.si_status, 77);
			print_message("skipping: this kernel runs no 32-bit programs\n");
			skip();
		}
		netns_sleep_ms(20);
	}
	assert_int_equal(strncmp(buf, "3 0x5", 5), 0);
	assert_int_equal(look(pid, scene.clients[0], &holder), WAIT_UNKNOWN);
	assert_int_equal(holder, pid);
}
#endif

/* More descriptors than a picture holds, in 15 processes: the last one's are not in it. */
static void serve_copies(int listener, size_t n, void *argument)
{
	int first = accept(listener, NULL, NULL);

	(void)n;
	(void)argument;
	for (unsigned i = 0; i < WAITS_FDS_MAX / 14; i++)
		if (dup(first) < 0)
			_exit(1);
	for (unsigned i = 0; i < 14; i++) {
		if (fork() != 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (i == 13)
			way_recv(accept(listener, NULL, NULL), 0);
		for (;;)
			pause();
	}
	way_recv(first, first);
}

static void test_many_descriptors(void **state)
{
	struct rlimit limit;
	pid_t pid;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < WAITS_FDS_MAX / 14 + 20) {
		print_message("skipping: the hard limit of descriptors is %u here\n",
			      (unsigned)limit.rlim_max);
		skip();
	}
	pid = serve(serve_copies, 2, NULL);
	connect_one();
	expect(pid, scene.clients[0], WAIT_CLIENT, "the first of many");
	connect_one();
	wait_accepted(scene.clients[1]);
	assert_int_equal(look(pid, scene.clients[1], NULL), WAIT_UNKNOWN);
	assert_int_equal(look(pid, scene.clients[0], NULL), WAIT_CLIENT);
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void nothing(void *ctx, const struct proc_fd *fd)
{
	(void)ctx;
	(void)fd;
}

/* The bare system calls: each descriptor's statx, each thread's open, read, close. */
static double bare_ms(pid_t pid)
{
	struct proc_scan scan = {0};
	double start = cpu_ms();
	char path[64], buf[256];

	assert_true(proc_fds(pid, nothing, NULL, &scan) > 0);
	for (pid_t tid = pid, seen = 0; seen < 1000 && tid < pid + 4000; tid++) {
		int fd;

		snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)pid, (int)tid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		seen += read(fd, buf, sizeof buf) > 0;
		close(fd);
	}
	return cpu_ms() - start;
}

static void test_cost(void **state)
{
	static struct way list[1000];
	double picture = 1e9, bare = 1e9;
	pid_t pid;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		list[i] = i % 4 ? (struct way){"recv", way_recv, WAIT_CLIENT}
				: (struct way){"poll", way_poll_in, WAIT_CLIENT};
	pid = serve_list(list, 1000);
	expect(pid, scene.clients[999], WAIT_CLIENT, "the last of 1,000");
	for (unsigned i = 0; i < 7; i++) {
		double start = cpu_ms(), took;

		assert_int_equal(waits_read(waits, &pid, 1), 0);
		took = cpu_ms() - start;
		picture = took < picture ? took : picture;
		took = bare_ms(pid);
		bare = took < bare ? took : bare;
	}
	print_message("    1,000 threads with a connection each: %.1f ms, the bare calls %.1f ms\n",
		      picture, bare);
	if (!TEST_SANITIZED)
		assert_true(picture < 2 * bare + 5);
	for (unsigned i = 0; i < 1000; i += 37)
		assert_int_equal(waits_of(waits, inode_of(scene.clients[i]), NULL), WAIT_CLIENT);
}

static const char flask_app[] = "import os, time\n"
				"from flask import Flask, request\n"
				"app = Flask('app')\n"
				"@app.route('/slow')\n"
				"def slow():\n"
				"    time.sleep(5)\n"
				"    return 'done'\n"
				"@app.route('/big')\n"
				"def big():\n"
				"    return bytes(32 << 20)\n"
				"@app.route('/fork')\n"
				"def fork():\n"
				"    child = os.fork()\n"
				"    if child == 0:\n"
				"        time.sleep(5)\n"
				"        os._exit(0)\n"
				"    os.waitpid(child, 0)\n"
				"    return 'done'\n"
				"@app.route('/body', methods=['POST'])\n"
				"def body():\n"
				"    return str(len(request.get_data()))\n"
				"@app.route('/')\n"
				"def root():\n"
				"    return 'hello'\n"
				"app.run(host='127.0.0.1', port=8001, threaded=True)\n";

static pid_t start_flask(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execl(PYTHON, PYTHON, "-c", flask_app, (char *)NULL);
		_exit(127);
	}
	for (unsigned i = 0; i < 400; i++) {
		int fd = netns_connect("127.0.0.1", "127.0.0.1", PORT);

		if (fd >= 0) {
			close(fd);
			return pid;
		}
		netns_sleep_ms(50);
	}
	fail_msg("the Flask service does not listen");
	return -1;
}

static int ask(const char *text)
{
	int fd = connect_one();

	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	return fd;
}

static void test_werkzeug(void **state)
{
	static const struct {
		const char *name, *text;
		enum wait_kind kind;
	} clients[] = {
		{"silent", "", WAIT_CLIENT},
		{"half a header", "GET / HTTP/1.1\r\nHost: a\r\nX-", WAIT_CLIENT},
		{"half a body", "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12",
		 WAIT_CLIENT},
		{"an answer that is not read", "GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
		 WAIT_SENDING},
		{"a handler that sleeps", "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", WAIT_WORKS},
		{"a handler that forks", "GET /fork HTTP/1.1\r\nHost: a\r\n\r\n", WAIT_WORKS},
	};
	const size_t n = sizeof clients / sizeof clients[0];
	pid_t pid;

	(void)state;
	if (NETNS_RUN(PYTHON, "-c", "import flask") != 0) {
		print_message("skipping: python3-flask is not installed\n");
		skip();
	}
	pid = start_flask();
	for (size_t i = 0; i < n; i++)
		ask(clients[i].text);
	netns_sleep_ms(500);
	for (size_t i = 0; i < n; i++)
		expect(pid, scene.clients[i], clients[i].kind, clients[i].name);
	/* The fork holds copies of all of them. */
	assert_int_equal(waits_read(waits, &pid, 1), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(waits_of(waits, inode_of(scene.clients[i]), NULL),
				 clients[i].kind);
}

static void test_names(void **state)
{
	(void)state;
	for (int i = WAIT_UNKNOWN; i <= WAIT_SENDING; i++)
		assert_true(strlen(wait_kind_name((enum wait_kind)i)) > 3);
	assert_string_equal(wait_kind_name((enum wait_kind)99), "?");
	waits_free(NULL);
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_teardown(name, scene_close)
	const struct CMUnitTest tests[] = {
		SCENE(test_ways),
		SCENE(test_no_select),
		SCENE(test_stop),
		SCENE(test_fork_per_connection),
		SCENE(test_inherited),
		SCENE(test_denied),
		SCENE(test_gone),
		SCENE(test_dies_meanwhile),
#if defined(__x86_64__)
		SCENE(test_other_architecture),
#endif
		SCENE(test_cost),
		SCENE(test_many_descriptors),
		SCENE(test_werkzeug),
		SCENE(test_names),
	};
	struct rlimit limit;
	int r;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	/* Connections are held at both ends. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	netns_enter();
	waits = waits_new();
	if (!netns_ready || !waits || sockdiag_open(&sd, NULL) < 0) {
		puts("1..0 # SKIP no network namespace of our own is possible here");
		return 0;
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	sockdiag_close(&sd);
	waits_free(waits);
	return r;
}
