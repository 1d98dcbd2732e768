/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The runner process behind its socket: on_exhaustion runs for its own event and for no other. */
#include "daemon/base/message.h"
#include "daemon/enforcer/protocol.h"
#include "daemon/enforcer/runner.h"
#include "daemon/enforcer/state.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ANSWER_MS 10000

struct ran_message {
	struct message_head head;
	struct protocol_ran ran;
};

static char dir[64];
static int runner_fd;
static pid_t runner_pid;

/* One jail: a command of bans that is slow, and the same command for exhaustion. */
static void start_runner(void)
{
	static char slow[192];
	static struct action_conf actions[2];
	static struct jail_conf jail;
	static struct conf conf;
	int fds[2];

	snprintf(slow, sizeof slow,
		 "touch '%s'/$TAILBAN_EVENT; test $TAILBAN_EVENT != ban || sleep 9", dir);
	for (size_t i = 0; i < 2; i++)
		actions[i] = (struct action_conf){.name = "run",
						  .kind = ACTION_COMMAND,
						  .ban.text = slow,
						  .unban.text = slow,
						  .start.text = i ? slow : NULL,
						  .stop.text = i ? slow : NULL,
						  .timeout_s = 20,
						  .only_exhaustion = i == 1};
	jail = (struct jail_conf){.name = "s",
				  .backend = BACKEND_SOCKETS,
				  .actions = actions,
				  .nactions = 2,
				  .sockets.exhaustion_action = 2};
	conf = (struct conf){.jails = &jail, .njails = 1};
	assert_int_equal(message_pair(fds), 0);
	runner_pid = fork();
	assert_true(runner_pid >= 0);
	if (!runner_pid) {
		close(fds[0]);
		_exit(commands_main(&conf, fds[1]));
	}
	close(fds[1]);
	runner_fd = fds[0];
}

static void ask(uint16_t action, enum runner_event event)
{
	const struct protocol_run run = {.action = action, .event = (uint16_t)event};
	const struct message_head head = {PROTOCOL_RUN, sizeof run};
	char bytes[sizeof head + sizeof run];

	memcpy(bytes, &head, sizeof head);
	memcpy(bytes + sizeof head, &run, sizeof run);
	assert_int_equal(send(runner_fd, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
}

/* The next command that has ended. */
static struct protocol_ran answer(void)
{
	struct pollfd ready = {.fd = runner_fd, .events = POLLIN};
	struct ran_message m = {0};

	assert_int_equal(poll(&ready, 1, ANSWER_MS), 1);
	assert_int_equal(recv(runner_fd, &m, sizeof m, 0), sizeof m);
	assert_int_equal(m.head.type, PROTOCOL_RAN);
	return m.ran;
}

static bool ran_for(const char *event)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", dir, event);
	return !stat(path, &st);
}

static void end_runner(void)
{
	int status;

	close(runner_fd);
	assert_int_equal(waitpid(runner_pid, &status, 0), runner_pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
}

static void no_other_event(void **state)
{
	(void)state;
	start_runner();
	ask(1, RUNNER_BAN);
	ask(1, RUNNER_UNBAN);
	ask(0, RUNNER_EXHAUSTION);
	ask(1, RUNNER_EXHAUSTION);
	assert_int_equal(answer().action, 1);
	end_runner();
	assert_true(ran_for("exhaustion"));
	assert_false(ran_for("ban") || ran_for("unban") || ran_for("start") || ran_for("stop"));
}

/* A command of bans of the same action file is under way: the last resort does not wait for it. */
static void does_not_wait(void **state)
{
	(void)state;
	start_runner();
	ask(0, RUNNER_BAN);
	ask(1, RUNNER_EXHAUSTION);
	assert_int_equal(answer().action, 1);
	end_runner();
	assert_true(ran_for("ban") && ran_for("exhaustion"));
}

static int begin(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tailban-commands-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_other_event),
		TEST(does_not_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
