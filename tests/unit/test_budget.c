/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The descriptor budget of real processes: forks of this program that listen in a network namespace
 * of its own, open what they are told to, and wait to be killed.
 */
#include "daemon/sockets/budget.h"

#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/unit/netns.h"

#define PORT 8001
#define WORKERS 3
#define NOBODY 65534

static struct sockdiag sd;
static const uint16_t ports[] = {PORT, 8002};

static struct {
	pid_t pids[16];
	size_t npids;
} scene;

/* What a child does after it has only 0 to 2 and the descriptors of `keep`. */
struct part {
	const char *comm;
	int keep;       /* the one descriptor that stays, 0: none */
	uint16_t port;  /* listens, 0: does not */
	unsigned opens; /* that many descriptors more */
	rlim_t soft;    /* 0: as it is */
	unsigned uid;   /* 0: as it is */
};

_Noreturn static void play(const struct part *p, int ready)
{
	struct rlimit limit;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	ready = dup2(ready, 200);
	if (p->keep)
		dup2(p->keep, 3);
	close_range(p->keep ? 4 : 3, 199, 0);
	close_range(201, ~0u, 0);
	if (p->comm)
		prctl(PR_SET_NAME, p->comm, 0, 0, 0);
	if (p->port)
		netns_listen("0.0.0.0", p->port);
	for (unsigned i = 0; i < p->opens; i++)
		fcntl(0, F_DUPFD, 3);
	if (p->soft && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = p->soft;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (p->uid && setuid(p->uid) < 0)
		_exit(1);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	close(ready);
	for (;;)
		pause();
}

/* The child's pid, when it plays; 0 when it could not. */
static pid_t enter(struct part p)
{
	int ready[2];
	char byte;
	pid_t pid;
	bool plays;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		play(&p, ready[1]);
	close(ready[1]);
	plays = read(ready[0], &byte, 1) == 1 && read(ready[0], &byte, 1) == 0;
	close(ready[0]);
	scene.pids[scene.npids++] = pid;
	return plays ? pid : 0;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int scene_close(void **state)
{
	(void)state;
	while (scene.npids > 0)
		end(scene.pids[--scene.npids]);
	return 0;
}

static struct budget find(void)
{
	struct budget b;

	assert_int_equal(budget_find(&sd, ports, 2, &b), 0);
	assert_false(b.cut);
	return b;
}

static const struct budget_task *row_of(const struct budget *b, pid_t pid)
{
	for (uint32_t i = 0; i < b->ntasks; i++)
		if (b->tasks[i].pid == pid)
			return &b->tasks[i];
	fail_msg("no row of process %d", (int)pid);
	return NULL;
}

static int64_t count_names(pid_t pid)
{
	int64_t n = proc_count_fds(pid);

	assert_true(n > 0);
	return n;
}

static void test_workers(void **state)
{
	int fd = netns_listen("0.0.0.0", PORT);
	pid_t pids[WORKERS];
	struct budget b;

	(void)state;
	for (unsigned i = 0; i < WORKERS; i++)
		pids[i] = enter((struct part){.comm = "worker", .keep = fd, .opens = 10 * i});
	close(fd);
	b = find();
	assert_int_equal(b.ntasks, WORKERS);
	assert_int_equal(b.nlisteners, 1);
	assert_false(b.denied);
	for (unsigned i = 0; i < WORKERS; i++) {
		const struct budget_task *t = row_of(&b, pids[i]);

		assert_int_equal(t->fds, 4 + 10 * i);
		assert_int_equal(t->ppid, getpid());
		assert_int_equal(t->uid, geteuid());
		assert_string_equal(t->comm, "worker");
		assert_true(proc_same(t->pid, t->start_time));
	}
	/* Fullest first. */
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(b.tasks[i].pid, pids[WORKERS - 1 - i]);
}

/* The fill counts, not the number. */
static void test_order(void **state)
{
	pid_t many = enter((struct part){.port = PORT, .opens = 60, .soft = 1000});
	pid_t few = enter((struct part){.port = 8002, .opens = 20, .soft = 30});
	struct budget b = find();

	(void)state;
	assert_int_equal(b.ntasks, 2);
	assert_int_equal(b.nlisteners, 2);
	assert_int_equal(b.tasks[0].pid, few);
	assert_int_equal(b.tasks[1].pid, many);
	end(few);
	assert_int_equal(budget_read(&b), -ESRCH);
}

/* A parent that made the listener and only holds it is a row like its child. */
static void test_inherited(void **state)
{
	int fd = netns_listen("0.0.0.0", PORT);
	pid_t child = enter((struct part){.keep = fd});
	struct budget b = find();

	(void)state;
	assert_int_equal(b.ntasks, 2);
	row_of(&b, child);
	row_of(&b, getpid());
	close(fd);
	b = find();
	assert_int_equal(b.ntasks, 1);
	assert_int_equal(b.tasks[0].pid, child);
}

static void test_service_manager(void **state)
{
	int fd = netns_listen("0.0.0.0", PORT);
	pid_t manager = enter((struct part){.comm = "systemd", .keep = fd});
	pid_t service;
	struct budget b;

	(void)state;
	b = (close(fd), find());
	assert_int_equal(b.ntasks, 1);
	assert_int_equal(b.tasks[0].pid, manager);
	assert_string_equal(b.tasks[0].comm, "systemd");
	service = enter((struct part){.comm = "app", .port = 8002});
	b = find();
	assert_int_equal(b.nlisteners, 2);
	assert_int_equal(b.ntasks, 1);
	assert_int_equal(b.tasks[0].pid, service);
}

static void test_count(void **state)
{
	pid_t pid = enter((struct part){.opens = 157});
	struct stat st;
	char path[32];

	(void)state;
	assert_int_equal(count_names(pid), 160);
	assert_int_equal(budget_count_fds(pid), 160);
	assert_int_equal(budget_count_fds(getpid()), count_names(getpid()) - 1 /* its own */);
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	assert_int_equal(stat(path, &st), 0);
	print_message("    st_size of /proc/PID/fd %s\n",
		      st.st_size ? "is the count" : "is 0: names are counted");
	end(pid);
	assert_true(budget_count_fds(pid) < 0);
	assert_true(proc_count_fds(pid) < 0);
}

static void test_limits(void **state)
{
	pid_t pid = enter((struct part){.soft = 77});
	uint64_t soft, hard;
	struct rlimit own;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &own), 0);
	assert_int_equal(budget_limits(pid, &soft, &hard), 0);
	assert_int_equal(soft, 77);
	assert_int_equal(hard, own.rlim_max);
	end(pid);
	assert_int_equal(budget_limits(pid, &soft, &hard), -ENOENT);
}

static void test_read(void **state)
{
	pid_t pid = enter((struct part){.port = PORT, .opens = 5, .soft = 100});
	struct budget b = find();
	struct rlimit limit;

	(void)state;
	assert_int_equal(b.tasks[0].soft, 100);
	assert_int_equal(prlimit(pid, RLIMIT_NOFILE, NULL, &limit), 0);
	limit.rlim_cur = 200;
	assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &limit, NULL), 0);
	b.tasks[0].fds = 0;
	assert_int_equal(budget_read(&b), 0);
	assert_int_equal(b.tasks[0].soft, 200);
	assert_int_equal(b.tasks[0].fds, 9);
	/* The pid is somebody else's by now. */
	b.tasks[0].start_time--;
	assert_int_equal(budget_read(&b), -ESRCH);
	b.tasks[0].start_time++;
	end(pid);
	assert_int_equal(budget_read(&b), -ESRCH);
	assert_int_equal(b.ntasks, 1);
	assert_int_equal(b.tasks[0].fds, 9);
}

static void test_nobody_listens(void **state)
{
	struct budget b;

	(void)state;
	assert_int_equal(budget_find(&sd, ports, 2, &b), -ENOENT);
	assert_int_equal(budget_find(&sd, ports, 0, &b), -ENOENT);
	/* No port is not every port. */
	enter((struct part){.port = 9000});
	assert_int_equal(budget_find(&sd, (const uint16_t[]){0}, 1, &b), -ENOENT);
}

static void test_queues(void **state)
{
	int fd = netns_listen("0.0.0.0", PORT), clients[5];
	struct budget b = find();

	(void)state;
	assert_int_equal(listen(fd, 9), 0);
	for (unsigned i = 0; i < 5; i++)
		clients[i] = netns_connect("127.0.0.1", "127.0.0.1", PORT);
	assert_int_equal(b.listeners[0].queue, 0);
	assert_int_equal(budget_listen_queues(&b, &sd, ports, 2), 0);
	assert_int_equal(b.listeners[0].queue, 5);
	assert_int_equal(b.listeners[0].backlog, 9);
	assert_int_equal(b.listeners[0].port, PORT);
	for (unsigned i = 0; i < 5; i++)
		close(clients[i]);
	close(fd);
}

static void test_stale(void **state)
{
	int fd = netns_listen("0.0.0.0", PORT), more;
	struct budget b = find();

	(void)state;
	more = netns_listen("0.0.0.0", 8002);
	assert_int_equal(budget_listen_queues(&b, &sd, ports, 2), -ESTALE);
	assert_int_equal(budget_listen_queues(&b, &sd, ports, 1), 0);
	close(more);
	close(fd);
	assert_int_equal(budget_listen_queues(&b, &sd, ports, 2), -ESTALE);
	fd = netns_listen("0.0.0.0", PORT);
	assert_int_equal(budget_listen_queues(&b, &sd, ports, 2), -ESTALE);
	b = find();
	assert_int_equal(budget_listen_queues(&b, &sd, ports, 2), 0);
	close(fd);
}

/* More listeners than rows: cut, and what there is still counts. */
static void test_many_listeners(void **state)
{
	int fds[BUDGET_LISTENERS_MAX + 6], one = 1;
	struct budget b;

	(void)state;
	for (unsigned i = 0; i < BUDGET_LISTENERS_MAX + 6; i++) {
		struct sockaddr_storage ss;
		socklen_t size = netns_sockaddr("127.0.0.1", PORT, &ss);

		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
		assert_int_equal(bind(fds[i], (struct sockaddr *)&ss, size), 0);
		assert_int_equal(listen(fds[i], 8), 0);
	}
	assert_int_equal(budget_find(&sd, ports, 2, &b), 0);
	assert_true(b.cut);
	assert_int_equal(b.nlisteners, BUDGET_LISTENERS_MAX);
	assert_int_equal(b.ntasks, 1);
	assert_int_equal(budget_listen_queues(&b, &sd, ports, 2), 0);
	for (unsigned i = 0; i < BUDGET_LISTENERS_MAX + 6; i++)
		close(fds[i]);
}

static void test_raise(void **state)
{
	pid_t pid = enter((struct part){.port = PORT, .soft = 64});
	struct budget b = find();
	struct budget_task *t = &b.tasks[0];
	uint64_t soft = 0, hard = t->hard;

	(void)state;
	assert_int_equal(t->soft, 64);
	assert_true(hard > 200 && hard != BUDGET_UNLIMITED);
	assert_int_equal(budget_raise(t, 100, &soft), 0);
	assert_int_equal(soft, 100);
	/* Never down. */
	assert_int_equal(budget_raise(t, 70, &soft), 0);
	assert_int_equal(soft, 100);
	assert_int_equal(budget_read(&b), 0);
	assert_int_equal(t->soft, 100);
	assert_int_equal(budget_raise(t, BUDGET_UNLIMITED, &soft), 0);
	assert_int_equal(soft, hard);
	assert_int_equal(budget_read(&b), 0);
	assert_int_equal(t->soft, hard);
	assert_int_equal(t->hard, hard);
	assert_int_equal(budget_raise(t, hard + 1, &soft), -ERANGE);
	assert_int_equal(soft, hard);
	t->start_time++;
	assert_int_equal(budget_raise(t, 100, &soft), -ESRCH);
	t->start_time--;
	end(pid);
	assert_int_equal(budget_raise(t, 100, &soft), -ESRCH);
}

static void test_raise_beyond_hard(void **state)
{
	struct budget b;
	uint64_t soft, hard;
	pid_t pid = enter((struct part){.port = PORT, .soft = 64});

	(void)state;
	b = find();
	assert_int_equal(budget_raise(&b.tasks[0], b.tasks[0].hard + 1, &soft), -ERANGE);
	assert_int_equal(soft, b.tasks[0].hard);
	assert_int_equal(budget_limits(pid, &soft, &hard), 0);
	assert_int_equal(soft, hard);
}

/* Runs the function as another user without any right; its result. */
static int as_nobody(int (*function)(void *), void *argument)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(setgid(NOBODY) < 0 || setuid(NOBODY) < 0 ? 255 : function(argument));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int raise_it(void *argument)
{
	uint64_t soft;

	return -budget_raise(argument, BUDGET_UNLIMITED, &soft);
}

static int find_it(void *argument)
{
	struct budget *b = argument;
	struct sockdiag own;
	uint64_t soft, hard;
	pid_t pid = b->tasks[0].pid;

	if (sockdiag_open(&own, NULL) < 0 || budget_find(&own, ports, 2, b) != 0)
		return 1;
	if (!b->denied || b->ntasks || b->nlisteners != 1)
		return 2;
	/* What everybody may read. */
	if (budget_limits(pid, &soft, &hard) != 0)
		return 3;
	if (budget_count_fds(pid) != 4 && budget_count_fds(pid) != -EACCES)
		return 4;
	return 0;
}

static void test_other_user(void **state)
{
	struct budget b;
	int r;

	(void)state;
	enter((struct part){.port = PORT, .soft = 64});
	b = find();
	r = as_nobody(raise_it, &b.tasks[0]);
	if (r == 255) {
		print_message("skipping: no other user than ours in this user namespace\n");
		skip();
	}
	assert_int_equal(r, EPERM);
	assert_int_equal(as_nobody(find_it, &b), 0);
}

/* The owner of a process' files in /proc is root for whoever gave up root. */
static void test_uid(void **state)
{
	struct budget b;

	(void)state;
	if (!enter((struct part){.port = PORT, .uid = NOBODY})) {
		print_message("skipping: no other user than ours in this user namespace\n");
		skip();
	}
	b = find();
	assert_int_equal(b.ntasks, 1);
	assert_int_equal(b.tasks[0].uid, NOBODY);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* What it costs, for the reader; nothing is judged. */
static void test_cost(void **state)
{
	struct budget b;
	double t;

	(void)state;
	enter((struct part){.port = PORT, .opens = 100});
	t = now_us();
	b = find();
	print_message("    find: %.0f us\n", now_us() - t);
	t = now_us();
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(budget_read(&b), 0);
	print_message("    read: %.1f us a process\n", (now_us() - t) / 100);
	t = now_us();
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(budget_listen_queues(&b, &sd, ports, 1), 0);
	print_message("    queues: %.1f us a port\n", (now_us() - t) / 100);
	t = now_us();
	for (unsigned i = 0; i < 100; i++)
		assert_true(budget_count_fds(b.tasks[0].pid) == 104);
	print_message("    count: %.1f us\n", (now_us() - t) / 100);
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_teardown(name, scene_close)
	const struct CMUnitTest tests[] = {
		SCENE(test_workers),
		SCENE(test_order),
		SCENE(test_inherited),
		SCENE(test_service_manager),
		SCENE(test_count),
		SCENE(test_limits),
		SCENE(test_read),
		SCENE(test_nobody_listens),
		SCENE(test_queues),
		SCENE(test_stale),
		SCENE(test_many_listeners),
		SCENE(test_raise),
		SCENE(test_raise_beyond_hard),
		SCENE(test_other_user),
		SCENE(test_uid),
		SCENE(test_cost),
	};
	int r;

	netns_enter();
	if (!netns_ready || sockdiag_open(&sd, NULL) < 0) {
		puts("1..0 # SKIP no network namespace of our own is possible here");
		return 0;
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	sockdiag_close(&sd);
	return r;
}
