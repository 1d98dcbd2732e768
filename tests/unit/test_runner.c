/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Command actions, run for real: environment, isolation, time-outs, order, limits. */
#include "daemon/enforcer/runner.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/random.h"

#define DONE_MAX 600

static char dir[64];
static struct ev_loop *loop;
static struct runner_done done[DONE_MAX];
static size_t ndone;
static unsigned most_running;
static struct runner *current;

static void note(void *ctx, const struct runner_done *d)
{
	(void)ctx;
	assert_true(ndone < DONE_MAX);
	done[ndone++] = *d;
}

/* Runs the loop until all jobs have ended. */
static void run_all(struct runner *r)
{
	for (;;) {
		struct runner_stats s = runner_stats(r);

		if (s.running > most_running)
			most_running = s.running;
		if (!s.running && !s.waiting)
			return;
		ev_run(loop, EVRUN_ONCE);
	}
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

/* A file's bytes, terminated; "" when it is not there. */
static char *slurp(const char *name, size_t *ret_n)
{
	static char buf[65536];
	int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = 0;
	if (ret_n)
		*ret_n = (size_t)n;
	return buf;
}

static int set_up(void **state)
{
	(void)state;
	ndone = 0;
	most_running = 0;
	current = NULL;
	memcpy(dir, "/tmp/test_runner.XXXXXX", sizeof "/tmp/test_runner.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	return log_open(path_of("log"), LOG_LEVEL_DEBUG, NULL);
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	runner_free(current);
	log_open("STDERR", LOG_LEVEL_NOTICE, NULL);
	snprintf(command, sizeof command, "rm -r %s", dir);
	return system(command);
}

static struct runner *make(const struct runner_action *actions, size_t n)
{
	runner_free(current);
	current = runner_new(loop, actions, n, note, NULL);
	assert_non_null(current);
	return current;
}

/* Runs one command with these values to its end. */
static struct runner_done run_one(const char *command, uint32_t timeout_ms,
				  const struct runner_value *values, size_t n)
{
	char text[1024];
	struct runner_action action = {.name = "test", .timeout_ms = timeout_ms};

	snprintf(text, sizeof text, "D=%s; %s", dir, command);
	action.commands[RUNNER_BAN] = text;
	make(&action, 1);
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, values, n), 1);
	run_all(current);
	assert_true(ndone > 0);
	runner_free(current);
	current = NULL;
	return done[ndone - 1];
}

static void test_environment(void **state)
{
	const struct runner_value values[] = {{RUNNER_ADDR, SLICE("192.0.2.1")},
					      {RUNNER_JAIL, SLICE("werkzeug-probe")},
					      {RUNNER_REASON, SLICE("")}};
	struct runner_done d;

	(void)state;
	setenv("SECRET", "x", 1);
	d = run_one("env | sort | grep -v '^_=\\|^PWD=' > $D/env; pwd > $D/pwd; umask > $D/umask",
		    0, values, 3);
	unsetenv("SECRET");
	assert_int_equal(d.status, 0);
	assert_int_equal(d.event, RUNNER_BAN);
	assert_string_equal(slurp("env", NULL),
			    "HOME=/\nLANG=C\n"
			    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
			    "TAILBAN_ADDR=192.0.2.1\nTAILBAN_EVENT=ban\n"
			    "TAILBAN_JAIL=werkzeug-probe\nTAILBAN_REASON=\n");
	assert_string_equal(slurp("pwd", NULL), "/\n");
	assert_string_equal(slurp("umask", NULL), "0022\n");
}

/* An attacker's text is data: not run, not cut at a NUL. */
static void test_hostile_value(void **state)
{
	static const char text[] =
		"$(touch $D/pwned) `touch $D/pwned`; ' \" \\ \n\033[2J\xff\0tail";
	static const char clean[] = "$(touch $D/pwned) `touch $D/pwned`; ' \" \\ \n\033[2J\xfftail";
	const struct runner_value value = {RUNNER_MATCHES, {text, sizeof text - 1}};
	size_t n;
	char *got;

	(void)state;
	assert_int_equal(run_one("printf %s \"$TAILBAN_MATCHES\" > $D/out", 0, &value, 1).status,
			 0);
	got = slurp("out", &n);
	assert_int_equal(n, sizeof clean - 1);
	assert_memory_equal(got, clean, n);
	assert_int_equal(access(path_of("pwned"), F_OK), -1);
}

static void test_fresh_process(void **state)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
	int fd = dup2(open("/dev/null", O_RDONLY), 50); /* without close-on-exec */
	unsigned long long blocked, ignored;
	sigset_t set, old;

	(void)state;
	sigaction(SIGTERM, &ignore, &before);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	run_one("ls /proc/self/fd > $D/fds;"
		"grep -E 'Sig(Blk|Ign)' /proc/self/status > $D/signals;"
		"set -- $(cat /proc/$$/stat); test $5 = $$ && test $6 = $$ && echo leader > "
		"$D/session;"
		"readlink /proc/$$/fd/0 > $D/stdin; cat > $D/read",
		0, NULL, 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	sigaction(SIGTERM, &before, NULL);
	close(fd);
	/* 3 is the directory that ls reads. */
	assert_string_equal(slurp("fds", NULL), "0\n1\n2\n3\n");
	assert_int_equal(
		sscanf(slurp("signals", NULL), "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
	assert_int_equal(blocked, 0);
	/* 32 and 33 belong to the C library, which lets nobody change what was inherited. */
	assert_int_equal(ignored & ~(3ull << 31), 0);
	assert_string_equal(slurp("session", NULL), "leader\n");
	assert_string_equal(slurp("stdin", NULL), "/dev/null\n");
	assert_string_equal(slurp("read", NULL), "");
}

static void test_status(void **state)
{
	(void)state;
	assert_int_equal(run_one("exit 3", 0, NULL, 0).status, 3);
	assert_int_equal(run_one("kill -9 $$", 0, NULL, 0).status, 256 + SIGKILL);
	assert_int_equal(run_one("/nonexistent/program", 0, NULL, 0).status, 127);
	assert_non_null(strstr(slurp("log", NULL), "test (ban) ended with status 3"));
}

/* Output goes to the log, printable, in lines, and a flood neither blocks nor fills it. */
static void test_output(void **state)
{
	struct stat st;
	const char *log;

	(void)state;
	run_one("printf 'one\\033[2J\\n'; echo two >&2; exit 1", 0, NULL, 0);
	log = slurp("log", NULL);
	assert_non_null(strstr(log, "warning runner: test (ban): one\\x1b[2J\n"));
	assert_non_null(strstr(log, "test (ban): two\n"));
	assert_int_equal(run_one("head -c 3000000 /dev/zero | tr '\\0' x", 0, NULL, 0).status, 0);
	assert_int_equal(stat(path_of("log"), &st), 0);
	assert_true(st.st_size < 8192);
	assert_non_null(strstr(slurp("log", NULL), "more bytes of output"));
	assert_int_equal(run_one("yes | head -n 100000", 0, NULL, 0).status, 0);
	assert_int_equal(stat(path_of("log"), &st), 0);
	assert_true(st.st_size < 16384);
}

static double seconds_since(struct now start)
{
	return (double)(clock_now().mono_ns - start.mono_ns) / 1e9;
}

/* Orphans become our children (main), so none stays as a zombie. */
static void assert_dead(pid_t pid)
{
	assert_true(pid > 1);
	for (int i = 0; i < 300 && kill(pid, 0) == 0; i++) {
		waitpid(pid, NULL, WNOHANG);
		usleep(10000);
	}
	assert_int_equal(kill(pid, 0), -1);
}

static void test_timeout(void **state)
{
	struct now start = clock_now();
	struct runner_done d = run_one("sleep 60 & echo $! > $D/pid; wait", 200, NULL, 0);
	pid_t grandchild = (pid_t)strtol(slurp("pid", NULL), NULL, 10);

	(void)state;
	assert_true(d.timed_out);
	assert_int_equal(d.status, 256 + SIGTERM);
	assert_true(seconds_since(start) < 2);
	assert_dead(grandchild);
}

/* What ignores SIGTERM is killed two seconds later, or when its shell is gone. */
static void test_timeout_ignored(void **state)
{
	struct now start = clock_now();
	struct runner_done d = run_one("trap '' TERM; sleep 60", 200, NULL, 0);
	pid_t stubborn;

	(void)state;
	assert_true(d.timed_out);
	assert_int_equal(d.status, 256 + SIGKILL);
	assert_in_range((int)(seconds_since(start) * 10), 20, 60);

	d = run_one("(trap '' TERM; sleep 60) & echo $! > $D/pid; wait", 200, NULL, 0);
	stubborn = (pid_t)strtol(slurp("pid", NULL), NULL, 10);
	assert_true(d.timed_out);
	assert_dead(stubborn);
}

/* A background process does not hold the job up, and lives on. */
static void test_background(void **state)
{
	struct now start = clock_now();
	struct runner_done d = run_one("sleep 30 & echo $! > $D/pid", 10000, NULL, 0);
	pid_t left = (pid_t)strtol(slurp("pid", NULL), NULL, 10);

	(void)state;
	assert_int_equal(d.status, 0);
	assert_true(seconds_since(start) < 5);
	assert_int_equal(kill(left, SIGKILL), 0);
}

static void test_order(void **state)
{
	char command[256], expected[256] = "";
	struct runner_action actions[2] = {{.name = "same"}, {.name = "same"}};

	(void)state;
	snprintf(command, sizeof command,
		 "echo $TAILBAN_COUNT$TAILBAN_EVENT >> %s/order; sleep 0.02", dir);
	for (int i = 0; i < 2; i++)
		actions[i].commands[RUNNER_BAN] = actions[i].commands[RUNNER_UNBAN] = command;
	make(actions, 2);
	for (int i = 0; i < 10; i++) {
		char digit[2] = {(char)('0' + i), 0};
		struct runner_value value = {RUNNER_COUNT, slice_str(digit)};

		assert_int_equal(
			runner_submit(current, i % 2, i % 3 ? RUNNER_UNBAN : RUNNER_BAN, &value, 1),
			1);
		snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%d%s\n",
			 i, i % 3 ? "unban" : "ban");
	}
	run_all(current);
	assert_string_equal(slurp("order", NULL), expected);
	assert_int_equal(most_running, 1);
	assert_int_equal(ndone, 10);
}

static void test_parallel(void **state)
{
	struct runner_action actions[6] = {{.name = "a"}, {.name = "b"}, {.name = "c"},
					   {.name = "d"}, {.name = "e"}, {.name = "f"}};
	struct now start = clock_now();

	(void)state;
	for (int i = 0; i < 6; i++)
		actions[i].commands[RUNNER_START] = "sleep 0.3";
	make(actions, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(runner_submit(current, i, RUNNER_START, NULL, 0), 1);
	assert_int_equal(runner_stats(current).running, RUNNER_PARALLEL);
	assert_int_equal(runner_stats(current).waiting, 2);
	run_all(current);
	assert_int_equal(most_running, RUNNER_PARALLEL);
	assert_int_equal(runner_stats(current).started, 6);
	assert_true(seconds_since(start) < 1.7); /* one after the other: 1.8 */
}

/* A stuck action fills its half of the queue; the others go on. Alone it may fill all of it. */
static void test_queue(void **state)
{
	struct runner_action actions[2] = {{.name = "stuck"}, {.name = "quick"}};
	int taken = 0;

	(void)state;
	actions[0].commands[RUNNER_BAN] = "sleep 30";
	actions[1].commands[RUNNER_BAN] = "true";
	make(actions, 2);
	for (int i = 0; i < 300; i++)
		taken += runner_submit(current, 0, RUNNER_BAN, NULL, 0) == 1;
	assert_int_equal(taken, 1 + RUNNER_QUEUE_MAX / 2);
	assert_int_equal(runner_stats(current).dropped, 300 - taken);
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, NULL, 0), -ENOBUFS);
	for (int i = 0; i < 20; i++)
		assert_int_equal(runner_submit(current, 1, RUNNER_BAN, NULL, 0), 1);
	while (ndone < 20)
		ev_run(loop, EVRUN_ONCE);
	assert_int_equal(done[19].action, 1);

	make(actions, 1);
	for (taken = 0; runner_submit(current, 0, RUNNER_BAN, NULL, 0) == 1;)
		taken++;
	assert_int_equal(taken, 1 + RUNNER_QUEUE_MAX);
	assert_non_null(strstr(slurp("log", NULL), "is dropped"));
}

static void test_refused(void **state)
{
	static char big[RUNNER_VALUE_BYTES + 1];
	struct runner_action action = {.name = "test", .commands = {[RUNNER_BAN] = "true"}};
	struct runner_value value = {RUNNER_MATCHES, {big, sizeof big}};
	const struct runner_value twice[] = {{RUNNER_ADDR, SLICE("a")}, {RUNNER_ADDR, SLICE("b")}};

	(void)state;
	memset(big, 'x', sizeof big);
	make(&action, 1);
	assert_int_equal(runner_submit(current, 1, RUNNER_BAN, NULL, 0), -EINVAL);
	assert_int_equal(runner_submit(current, 0, RUNNER_EVENTS, NULL, 0), -EINVAL);
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, twice, 2), -EINVAL);
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, &value, 1), -E2BIG);
	value.text.n--;
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, &value, 1), 1);
	value.key = RUNNER_KEYS;
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, &value, 1), -EINVAL);
	assert_int_equal(runner_submit(current, 0, RUNNER_UNBAN, NULL, 0), 0);
	run_all(current);
	assert_int_equal(ndone, 1);
	assert_int_equal(done[0].status, 0);
}

/* No descriptor left for the pipe. */
static void test_cannot_start(void **state)
{
	struct runner_action action = {.name = "test", .commands = {[RUNNER_BAN] = "true"}};
	struct rlimit before, none = {3, 0};

	(void)state;
	make(&action, 1);
	getrlimit(RLIMIT_NOFILE, &before);
	none.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, NULL, 0), 1);
	assert_int_equal(ndone, 0);
	setrlimit(RLIMIT_NOFILE, &before);
	run_all(current);
	assert_int_equal(ndone, 1);
	assert_int_equal(done[0].status, -EMFILE);
	assert_int_equal(runner_stats(current).failed, 1);
	assert_int_equal(runner_stats(current).started, 0);
}

static void again(void *ctx, const struct runner_done *d)
{
	note(ctx, d);
	if (ndone < 5)
		assert_int_equal(runner_submit(current, 0, RUNNER_BAN, NULL, 0), 1);
}

static void test_submit_from_done(void **state)
{
	struct runner_action action = {.name = "test", .commands = {[RUNNER_BAN] = "true"}};

	(void)state;
	current = runner_new(loop, &action, 1, again, NULL);
	assert_non_null(current);
	assert_int_equal(runner_submit(current, 0, RUNNER_BAN, NULL, 0), 1);
	run_all(current);
	assert_int_equal(ndone, 5);
}

static void test_free_while_running(void **state)
{
	char command[256];
	struct runner_action action = {.name = "test"};
	pid_t pid;

	(void)state;
	snprintf(command, sizeof command, "echo $$ > %s/pid.new; mv %s/pid.new %s/pid; sleep 60",
		 dir, dir, dir);
	action.commands[RUNNER_BAN] = command;
	make(&action, 1);
	runner_submit(current, 0, RUNNER_BAN, NULL, 0);
	runner_submit(current, 0, RUNNER_BAN, NULL, 0);
	for (int i = 0; i < 500 && access(path_of("pid"), F_OK) < 0; i++)
		usleep(10000);
	pid = (pid_t)strtol(slurp("pid", NULL), NULL, 10);
	runner_free(current);
	current = NULL;
	assert_dead(pid);
	assert_int_equal(ndone, 0);
	runner_free(NULL);
}

static void test_pack(void **state)
{
	static char buf[RUNNER_KEYS * (RUNNER_VALUE_BYTES + 4)], noise[RUNNER_VALUE_BYTES];
	struct runner_value in[RUNNER_KEYS], out[RUNNER_KEYS];

	(void)state;
	random_start("pack");
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (char)random_u64();
	for (int round = 0; round < 500; round++) {
		size_t n = random_below(RUNNER_KEYS + 1);
		ssize_t used, cut;

		for (size_t i = 0; i < n; i++)
			in[i] = (struct runner_value){
				(enum runner_key)i,
				slice_of(noise, random_below(round % 2 ? 20 : 4097))};
		used = runner_values_pack(in, n, buf, sizeof buf);
		assert_true(used >= 0);
		assert_int_equal(runner_values_unpack(slice_of(buf, (size_t)used), n, out), 0);
		for (size_t i = 0; i < n; i++)
			assert_true(in[i].key == out[i].key && slice_eq(in[i].text, out[i].text));
		if (!used)
			continue;
		cut = (ssize_t)random_below((uint32_t)used);
		assert_int_equal(runner_values_unpack(slice_of(buf, (size_t)cut), n, out), -EINVAL);
		assert_int_equal(runner_values_pack(in, n, buf, (size_t)cut), -ENOBUFS);
		assert_int_equal(runner_values_unpack(slice_of(buf, (size_t)used), n - 1, out),
				 -EINVAL);
	}
	for (int round = 0; round < 20000; round++) {
		for (size_t i = 0; i < 64; i++)
			buf[i] = (char)random_below(i % 2 ? 2 : 20);
		runner_values_unpack(slice_of(buf, random_below(65)), random_below(20), out);
	}
	assert_int_equal(runner_values_unpack(SLICE_NONE, RUNNER_KEYS + 1, out), -EINVAL);
	in[0] = (struct runner_value){RUNNER_ADDR, {buf, RUNNER_VALUE_BYTES + 1}};
	assert_int_equal(runner_values_pack(in, 1, buf + 8192, sizeof buf - 8192),
			 RUNNER_VALUE_BYTES + 5);
	assert_int_equal(runner_values_unpack(slice_of(buf + 8192, RUNNER_VALUE_BYTES + 5), 1, out),
			 -E2BIG);
}

/* The variables that configuration errors name instead of fail2ban's tags are those that exist. */
static void test_tags(void **state)
{
	static const char *const variables[] = {
#define ACTION_TAG(tag, variable) variable,
#include "daemon/config/action_tags.def"
	};

	(void)state;
	for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
		bool known = !variables[i];

		for (unsigned k = 0; k < RUNNER_KEYS; k++)
			known |= variables[i] &&
				 strcmp(variables[i], runner_key_name((enum runner_key)k)) == 0;
		if (!known)
			fail_msg("%s is not a value of the runner", variables[i]);
	}
	assert_string_equal(runner_event_name(RUNNER_UNBAN), "unban");
	assert_string_equal(runner_event_name(RUNNER_EVENTS), "?");
	assert_string_equal(runner_key_name(RUNNER_KEYS), "?");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(test_environment),
		CASE(test_hostile_value),
		CASE(test_fresh_process),
		CASE(test_status),
		CASE(test_output),
		CASE(test_timeout),
		CASE(test_timeout_ignored),
		CASE(test_background),
		CASE(test_order),
		CASE(test_parallel),
		CASE(test_queue),
		CASE(test_refused),
		CASE(test_cannot_start),
		CASE(test_submit_from_done),
		CASE(test_free_while_running),
		CASE(test_pack),
		CASE(test_tags),
	};

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	loop = ev_default_loop(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
