/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Into another network namespace and back: the enterer, the sockets that it brings, and what they
 * can hit.
 *
 * The "box" is a fork of this program in a namespace of its own. It writes the log, listens, and
 * holds a connection between the same addresses and to the same port as this namespace does.
 */
#include "daemon/base/message.h"
#include "daemon/enforcer/spaces.h"
#include "daemon/sockets/enterer.h"
#include "daemon/sockets/proc.h"

#include <cap-ng.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "tests/unit/netns.h"

#define PORT 8031
#define PEER "127.0.0.9"
#define OWN "198.51.100.1"
#define GATEWAY "203.0.113.9"

struct connected {
	int listener, client, server;
};

static struct {
	pid_t pid;
	int talk;
	bool rootless; /* in a user namespace of its own */
	bool missing;  /* which is not possible everywhere */
	char log[64];
	struct enterer_question question;
} box;

static struct connected connect_here(void)
{
	struct connected c;

	c.listener = netns_listen("0.0.0.0", PORT);
	c.client = netns_connect(PEER, "127.0.0.1", PORT);
	c.server = accept(c.listener, NULL, NULL);
	assert_true(c.client >= 0 && c.server >= 0);
	return c;
}

static void disconnect(struct connected *c)
{
	close(c->client);
	close(c->server);
	close(c->listener);
}

/* What a server's end sees now: 0 = still open, else errno or -1 for its end. */
static int fate(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

	if (n == 0)
		return -1;
	return n < 0 && errno != EAGAIN ? errno : 0;
}

/* Tells the fate of its connection for each byte that it gets. */
_Noreturn static void be_box(int talk)
{
	struct connected c;
	char byte = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if ((box.rootless ? netns_unshare_user() : unshare(CLONE_NEWNET)) < 0 ||
	    NETNS_RUN("ip", "link", "set", "lo", "up") != 0 ||
	    NETNS_RUN("ip", "address", "add", OWN "/32", "dev", "lo") != 0 ||
	    NETNS_RUN("ip", "route", "add", "default", "via", GATEWAY, "dev", "lo", "onlink") !=
		    0 ||
	    open(box.log, O_WRONLY | O_APPEND) < 0)
		_exit(1);
	c = connect_here();
	while (write(talk, &byte, 1) == 1 && read(talk, &byte, 1) == 1)
		byte = (char)fate(c.server);
	_exit(0);
}

static int box_fate(void)
{
	char byte = 0;

	assert_int_equal(write(box.talk, &byte, 1), 1);
	assert_int_equal(read(box.talk, &byte, 1), 1);
	return byte;
}

static int box_start(void **state)
{
	int pair[2], fd;
	struct proc_info info;
	struct stat st;
	char byte;

	(void)state;
	snprintf(box.log, sizeof box.log, "/tmp/test_spaces.XXXXXX");
	fd = mkstemp(box.log);
	if (fd < 0 || fstat(fd, &st) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -1;
	close(fd);
	box.pid = fork();
	if (box.pid == 0) {
		close(pair[0]);
		be_box(pair[1]);
	}
	close(pair[1]);
	box.talk = pair[0];
	if (read(box.talk, &byte, 1) != 1 || proc_info(box.pid, &info) < 0)
		return -1;
	box.question = (struct enterer_question){
		.pid = box.pid,
		.start_time = info.start_time,
		.log = {.kind = PROBER_LISTENER, .dev = st.st_dev, .ino = st.st_ino}};
	return 0;
}

static void box_end(void)
{
	if (box.pid <= 0)
		return;
	kill(box.pid, SIGKILL);
	waitpid(box.pid, NULL, 0);
	box.pid = 0;
}

static int rootless_start(void **state)
{
	box.rootless = true;
	box.missing = box_start(state) < 0;
	return 0;
}

static int box_stop(void **state)
{
	(void)state;
	box_end();
	box.rootless = false;
	close(box.talk);
	unlink(box.log);
	return 0;
}

/* --- the enterer ------------------------------------------------------------------------------ */

struct brought {
	int fds[ENTERER_SOCKETS];
	unsigned n;
	struct enterer_answer answer;
};

static ssize_t receive(int fd, void *bytes, size_t size, int *ret_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {bytes, size};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof control.bytes};
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*ret_fd = -1;
	if (c)
		memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
	return n;
}

static void take_message(struct brought *b, int fd)
{
	struct {
		struct message_head head;
		union {
			struct enterer_socket_message socket;
			struct enterer_answer answer;
		};
	} m;
	int passed;
	ssize_t n = receive(fd, &m, sizeof m, &passed);

	assert_int_equal(m.head.count, 1);
	if (m.head.type == ENTERER_PASS) {
		assert_int_equal(n, sizeof m.head + sizeof m.socket);
		assert_int_equal(m.socket.which, b->n);
		assert_true(passed >= 0 && b->n < ENTERER_SOCKETS);
		b->fds[b->n++] = passed;
		return;
	}
	assert_int_equal(m.head.type, ENTERER_ANSWER);
	assert_int_equal(n, sizeof m.head + sizeof m.answer);
	assert_int_equal(passed, -1);
	b->answer = m.answer;
}

static void drop_right(int capability)
{
	if (capability < 0)
		return;
	capng_get_caps_process();
	capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, (unsigned)capability);
	capng_apply(CAPNG_SELECT_CAPS);
}

static struct brought enter_without(const struct enterer_question *q, int capability)
{
	struct enterer_question question = *q;
	struct brought b = {.n = 0};
	int pair[2], status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		drop_right(capability);
		_exit(enterer_run(&question, pair[1]));
	}
	close(pair[1]);
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	for (b.answer.step = UINT32_MAX; b.answer.step == UINT32_MAX;)
		take_message(&b, pair[0]);
	close(pair[0]);
	return b;
}

static struct brought enter(const struct enterer_question *q)
{
	return enter_without(q, -1);
}

static void drop_sockets(struct brought *b)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->fds[i] >= 0)
			close(b->fds[i]);
	b->n = 0;
}

static bool has_own(const struct enterer_answer *a, const char *text)
{
	struct addr wanted = address(text);

	for (uint32_t i = 0; i < a->own_count; i++)
		if (addr_eq(&a->own[i], &wanted))
			return true;
	return false;
}

static void test_brings_sockets_and_ports(void **state)
{
	struct brought b = enter(&box.question);
	const struct owner *o = &b.answer.found.owner;
	struct addr gateway = address(GATEWAY);
	uint64_t dev, ino, box_dev, box_ino;

	(void)state;
	assert_int_equal(b.answer.error, 0);
	assert_int_equal(b.n, ENTERER_SOCKETS);
	print_message("    %s\n", o->text);
	assert_int_equal(o->result, OWNER_FOUND);
	assert_int_equal(o->nports, 1);
	assert_int_equal(o->ports[0], PORT);
	assert_int_equal(o->pid, box.pid);
	assert_int_equal(o->writer_start_time, box.question.start_time);
	assert_int_equal(space_identify(b.fds, &dev, &ino, NULL), 0);
	assert_int_equal(proc_netns(box.pid, &box_dev, &box_ino), 0);
	assert_true(dev == box_dev && ino == box_ino);
	assert_true(has_own(&b.answer, OWN));
	assert_false(has_own(&b.answer, "127.0.0.1"));
	assert_int_equal(b.answer.gateway_count, 1);
	assert_true(addr_eq(&b.answer.gateways[0], &gateway));
	drop_sockets(&b);
}

static void assert_refused(const struct brought *b, int error, enum enterer_step step)
{
	char text[128];

	assert_int_equal(b->answer.error, error);
	assert_int_equal(b->answer.step, step);
	assert_int_equal(b->n, 0);
	print_message("    %s\n",
		      enterer_error(b->answer.error, b->answer.step, text, sizeof text));
}

static void test_reused_and_vanished_pid(void **state)
{
	struct enterer_question q = box.question;
	struct brought b;

	(void)state;
	q.start_time--;
	b = enter(&q);
	assert_refused(&b, -ESRCH, ENTERER_FIND);
	/* A zombie has no namespace any more. */
	kill(box.pid, SIGKILL);
	waitid(P_PID, (id_t)box.pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
	b = enter(&box.question);
	assert_refused(&b, -ESRCH, ENTERER_FIND);
	box_end();
	b = enter(&box.question);
	assert_refused(&b, -ESRCH, ENTERER_FIND);
}

static void test_without_rights(void **state)
{
	struct brought b = enter_without(&box.question, CAP_SYS_ADMIN);
	char text[128];

	(void)state;
	assert_refused(&b, -EPERM, ENTERER_ENTER);
	enterer_error(b.answer.error, b.answer.step, text, sizeof text);
	assert_non_null(strstr(text, "CAP_SYS_ADMIN"));
	enterer_error(-EPERM, 1000, text, sizeof text);
	assert_true(strlen(text) > 10);
}

/* --- spaces ----------------------------------------------------------------------------------- */

static unsigned killed;

static void on_killed(void *ctx, const struct addr *prefix, uint32_t count)
{
	(void)ctx;
	(void)prefix;
	killed += count;
}

static const struct reaper_hooks hooks = {.killed = on_killed};

static struct space *open_space(struct brought *b)
{
	struct space *space = NULL;
	struct error err = {0};

	if (space_open(NULL, &hooks, 100, b->fds, &space, &err) < 0)
		fail_msg("%s", err.text);
	return space;
}

static void reap(struct reaper *r)
{
	const struct portset ports = {1, {{PORT, IPPROTO_TCP}}};
	struct addr peer = address(PEER);

	killed = 0;
	assert_int_equal(reaper_add(r, &peer, &ports), 0);
	reaper_run(r);
	for (unsigned i = 0; reaper_busy(r) && i < 100000; i++)
		reaper_step(r);
	assert_false(reaper_busy(r));
}

/* The same addresses and ports on both sides. */
static void test_kills_only_there(void **state)
{
	struct brought b = enter(&box.question);
	struct connected here = connect_here();
	struct reaper *ours = NULL;
	struct space *space;

	(void)state;
	space = open_space(&b);
	assert_int_equal(reaper_open(NULL, &hooks, 100, &ours, NULL), 0);
	assert_true(space_nfnetlink_fd(space) >= 0);
	assert_int_equal(box_fate(), 0);
	reap(space->reaper);
	assert_int_equal(killed, 1);
	assert_int_equal(box_fate(), ECONNABORTED);
	assert_int_equal(fate(here.server), 0);
	reap(space->reaper);
	assert_int_equal(killed, 0);
	reap(ours);
	assert_int_equal(killed, 1);
	assert_int_equal(fate(here.server), ECONNABORTED);
	space_close(space);
	reaper_close(ours);
	disconnect(&here);
}

static void test_not_there(void **state)
{
	struct connected here = connect_here();
	struct brought b = enter(&box.question);
	struct reaper *ours = NULL;

	(void)state;
	assert_int_equal(reaper_open(NULL, &hooks, 100, &ours, NULL), 0);
	reap(ours);
	assert_int_equal(killed, 1);
	assert_int_equal(box_fate(), 0);
	reaper_close(ours);
	drop_sockets(&b);
	disconnect(&here);
}

static void take_listed(void *ctx, const struct sock_info *sock)
{
	*(struct sock_kill *)ctx = sock_kill_of(sock);
}

static void take_state(void *ctx, const struct sock_info *sock)
{
	*(unsigned *)ctx |= SOCK_STATE(sock->state);
}

static unsigned states_of(struct sockdiag *sd)
{
	unsigned states = 0;

	assert_int_equal(sockdiag_each(sd, AF_UNSPEC, SOCK_LISTENING | SOCK_CONNECTED, PORT,
				       take_state, &states),
			 0);
	return states;
}

static void test_questions_there(void **state)
{
	struct brought b = enter(&box.question);
	struct space *space = open_space(&b);

	(void)state;
	assert_int_equal(states_of(&space->look),
			 SOCK_STATE(TCP_LISTEN) | SOCK_STATE(TCP_ESTABLISHED));
	reap(space->reaper);
	assert_int_equal(killed, 1);
	assert_int_equal(states_of(&space->look), SOCK_STATE(TCP_LISTEN));
	space_close(space);
}

static struct firewall_sighting sighting(struct space *space)
{
	struct firewall_sighting s = {.addr = address(PEER), .port = PORT};

	assert_int_equal(record_seen(space->record, &s, 1, clock_now()), 0);
	return s;
}

static void record_in(struct space *space, size_t n)
{
	static const struct firewall_port port[] = {{PORT, FIREWALL_RECORD}};
	struct error err = {0};

	if (space_record(space, port, n, clock_now(), &err) < 0)
		fail_msg("%s", err.text);
}

/* It stays when the space is closed, and goes with its last port. */
static void test_record_there(void **state)
{
	struct brought b;
	struct space *space;

	(void)state;
	if (box.missing)
		skip();
	b = enter(&box.question);
	space = open_space(&b);
	record_in(space, 0); /* nothing is touched */
	assert_null(space->record);
	record_in(space, 1);
	assert_int_equal(sighting(space).error, 0);
	assert_true(sighting(space).since_mono_ns > 0);
	record_in(space, 1);
	space_close(space);
	b = enter(&box.question);
	space = open_space(&b);
	record_in(space, 1);
	assert_int_equal(sighting(space).since_mono_ns, 0);
	record_in(space, 0);
	assert_null(space->record);
	record_in(space, 1); /* by the same socket */
	assert_true(sighting(space).since_mono_ns > 0);
	record_in(space, 0);
	space_close(space);
}

/* A namespace that belongs to another user namespace, as a rootless container's. */
static void test_rootless(void **state)
{
	struct brought b;
	struct space *space;

	(void)state;
	if (box.missing)
		skip();
	b = enter(&box.question);
	assert_int_equal(b.answer.error, 0);
	assert_int_equal(b.answer.found.owner.result, OWNER_FOUND);
	space = open_space(&b);
	reap(space->reaper);
	assert_int_equal(killed, 1);
	assert_int_equal(box_fate(), ECONNABORTED);
	space_close(space);
}

/* What a census there has found cannot be closed through the reaper of this namespace. */
static void test_destroy_of_a_census(void **state)
{
	struct brought b = enter(&box.question);
	struct space *space = open_space(&b);
	struct sockdiag_killed here = {0}, there = {0};
	struct reaper *ours = NULL;
	struct sock_kill victim = {0};
	struct sockdiag sd;

	(void)state;
	assert_int_equal(reaper_open(NULL, &hooks, 100, &ours, NULL), 0);
	assert_int_equal(sockdiag_from_fd(&sd, dup(space->census_fd), NULL), 0);
	assert_int_equal(sockdiag_each(&sd, AF_INET, SOCK_CONNECTED, PORT, take_listed, &victim),
			 0);
	assert_int_equal(reaper_destroy(ours, &victim, 1, &here), 0);
	assert_int_equal(here.gone, 1);
	assert_int_equal(box_fate(), 0);
	assert_int_equal(reaper_destroy(space->reaper, &victim, 1, &there), 0);
	assert_int_equal(there.destroyed, 1);
	assert_int_equal(box_fate(), ECONNABORTED);
	sockdiag_close(&sd);
	reaper_close(ours);
	space_close(space);
}

static int try_open(int fds[static ENTERER_SOCKETS])
{
	struct space *space = NULL;
	struct error err = {0};
	int code = space_open(NULL, &hooks, 100, fds, &space, &err);

	print_message("    %s\n", err.text);
	assert_null(space);
	for (unsigned i = 0; i < ENTERER_SOCKETS; i++)
		assert_int_equal(fds[i], -1); /* taken over, and closed */
	return code;
}

static void test_refuses_other_sockets(void **state)
{
	struct enterer_question self = box.question;
	struct proc_info info;
	struct brought b, mine;
	int swap;

	(void)state;
	assert_int_equal(proc_info(getpid(), &info), 0);
	self.pid = getpid();
	self.start_time = info.start_time;
	mine = enter(&self);
	assert_int_equal(mine.answer.error, 0);
	b = enter(&box.question);
	swap = b.fds[ENTERER_KILL];
	b.fds[ENTERER_KILL] = mine.fds[ENTERER_KILL];
	mine.fds[ENTERER_KILL] = swap;
	assert_int_equal(try_open(b.fds), -EXDEV);
	assert_int_equal(try_open(mine.fds), -EXDEV);

	mine = enter(&self);
	assert_int_equal(try_open(mine.fds), -EEXIST);

	b = enter(&box.question);
	swap = b.fds[ENTERER_NFNETLINK];
	b.fds[ENTERER_NFNETLINK] = b.fds[ENTERER_CENSUS];
	b.fds[ENTERER_CENSUS] = swap;
	assert_int_equal(try_open(b.fds), -EBADF);

	b = enter(&box.question);
	close(b.fds[ENTERER_CENSUS]);
	b.fds[ENTERER_CENSUS] = -1;
	assert_int_equal(try_open(b.fds), -EBADF);
}

static bool has_link(void)
{
	return if_nametoindex("tobox") != 0;
}

/* A space keeps the namespace of a dead service alive, and lets go of it when it is closed. */
static void test_lets_go(void **state)
{
	struct brought b = enter(&box.question);
	struct space *space = open_space(&b);
	const char *text;
	char pid[16];

	(void)state;
	snprintf(pid, sizeof pid, "%d", (int)box.pid);
	if (NETNS_RUN("ip", "link", "add", "tobox", "type", "veth", "peer", "name", "eth0", "netns",
		      pid) != 0)
		skip();
	box_end();
	netns_sleep_ms(200);
	assert_true(has_link());
	reap(space->reaper);
	assert_int_equal(reaper_state(space->reaper, &text), 0);
	space_close(space);
	for (unsigned i = 0; has_link() && i < 100; i++)
		netns_sleep_ms(50);
	assert_false(has_link());
}

/* --- the prober ------------------------------------------------------------------------------- */

struct census_answer {
	struct message_head head;
	struct prober_report report;
};

static struct census_report take_census(int to, struct prober_census q, int fd)
{
	struct census_answer a;
	int passed;

	assert_int_equal(message_send(to, PROBER_CENSUS, &q, sizeof q, fd), 0);
	assert_int_equal(receive(to, &a, sizeof a, &passed), sizeof a);
	assert_int_equal(a.head.type, PROBER_CENSUS);
	return a.report.report;
}

/* The prober never looks at its own namespace in the place of another one. */
static void test_census_there(void **state)
{
	struct brought b = enter(&box.question);
	struct space *space = open_space(&b);
	struct prober_census q = {.watch = 3, .generation = 1, .netns = space->ino};
	struct connected here = connect_here();
	struct census_report report;
	int pair[2], more;
	pid_t pid;

	(void)state;
	q.rule = (struct census_rule){.nports = 1,
				      .ports = {PORT},
				      .limits = {.silent_ms = 20000,
						 .unanswered_ms = 60000,
						 .stalled_ms = 30000,
						 .idle_ms = 60000,
						 .maxsilent = 6},
				      .ipv4_prefix = 32,
				      .ipv6_prefix = 64};
	more = netns_connect(PEER, "127.0.0.1", PORT);
	assert_true(more >= 0);
	assert_int_equal(message_pair(pair), 0);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(prober_run(NULL, pair[1]));
	}
	close(pair[1]);
	fcntl(pair[0], F_SETFL, 0);
	assert_int_equal(take_census(pair[0], q, -1).error, -EBADF);
	report = take_census(pair[0], q, space->census_fd);
	assert_int_equal(report.error, 0);
	assert_int_equal(report.sockets, 1);
	assert_int_equal(report.pid, box.pid);
	assert_int_equal(take_census(pair[0], q, -1).sockets, 1);
	/* A new generation has to bring its socket again. */
	q.generation++;
	assert_int_equal(take_census(pair[0], q, -1).error, -EBADF);
	assert_int_equal(take_census(pair[0], q, space->census_fd).error, 0);
	/* A watch of this namespace in the same place. */
	q.netns = 0;
	assert_int_equal(take_census(pair[0], q, space->census_fd).error, -EINVAL);
	q.generation++;
	report = take_census(pair[0], q, -1);
	assert_int_equal(report.sockets, 2);
	/* Its end. */
	q.netns = space->ino;
	q.generation++;
	assert_int_equal(take_census(pair[0], q, space->census_fd).error, 0);
	q.rule.nports = 0;
	assert_int_equal(message_send(pair[0], PROBER_CENSUS, &q, sizeof q, -1), 0);
	q.rule.nports = 1;
	assert_int_equal(take_census(pair[0], q, -1).error, -EBADF);
	close(pair[0]);
	waitpid(pid, NULL, 0);
	close(more);
	disconnect(&here);
	space_close(space);
}

/* A reader that was killed in the middle of its dump leaves the rest behind. */
static void test_socket_of_a_dead_reader(void **state)
{
	struct brought b = enter(&box.question);
	struct space *space = open_space(&b);
	struct sock_kill seen = {0};
	struct sockdiag first, second;

	(void)state;
	assert_int_equal(sockdiag_from_fd(&first, dup(space->census_fd), NULL), 0);
	assert_int_equal(sockdiag_dump_start(&first, AF_INET, SOCK_CONNECTED, PORT), 0);
	sockdiag_close(&first);
	assert_int_equal(sockdiag_from_fd(&second, dup(space->census_fd), NULL), 0);
	assert_int_equal(sockdiag_each(&second, AF_INET, SOCK_CONNECTED, PORT, take_listed, &seen),
			 0);
	assert_int_equal(seen.state, TCP_ESTABLISHED);
	sockdiag_close(&second);
	space_close(space);
}

int main(void)
{
#define BOX(name) cmocka_unit_test_setup_teardown(name, box_start, box_stop)
	const struct CMUnitTest tests[] = {
		BOX(test_brings_sockets_and_ports),
		BOX(test_reused_and_vanished_pid),
		BOX(test_without_rights),
		BOX(test_kills_only_there),
		BOX(test_not_there),
		cmocka_unit_test_setup_teardown(test_rootless, rootless_start, box_stop),
		BOX(test_questions_there),
		BOX(test_record_there),
		cmocka_unit_test_setup_teardown(test_record_there, rootless_start, box_stop),
		BOX(test_destroy_of_a_census),
		BOX(test_refuses_other_sockets),
		BOX(test_lets_go),
		BOX(test_census_there),
		BOX(test_socket_of_a_dead_reader),
	};

	netns_enter();
	if (!netns_ready) {
		puts("1..0 # SKIP no network namespace of our own is possible here");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
