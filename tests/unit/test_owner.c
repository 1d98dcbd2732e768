/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a log to its service's ports, with real processes and sockets in a network namespace of its
 * own.
 *
 * Every process of a scene is a fork of this program that opens the log, listens, connects and
 * waits to be killed. Connections from other hosts are sockets in repair mode (TCP_REPAIR):
 * established without a peer.
 */
#include "daemon/sockets/owner.h"
#include "daemon/sockets/proc.h"
#include "daemon/sockets/prober.h"

#include <linux/close_range.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "tests/unit/netns.h"

#define ACTORS_MAX 16

enum { LOG_NONE, LOG_WRITE, LOG_READ, LOG_CLOSE /* and all else that was inherited */ };

struct endpoint {
	const char *host;
	uint16_t port;
};

/* What a process of the scene does, in this order. */
struct actor {
	const char *comm;
	int log;
	bool new_netns;
	struct endpoint listens[4]; /* host NULL ends */
	struct endpoint connects;
	const struct actor *child; /* forked after listening: inherits everything */
	int pipe_in, pipe_out;     /* descriptors to keep as stdin, stdout; 0: none */
};

static struct {
	char path[64];
	uint64_t dev, ino;
	pid_t pids[ACTORS_MAX];
	size_t npids;
	int far[8];
	size_t nfar;
} scene;

static void fatal(const char *what)
{
	fprintf(stderr, "actor: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void do_listen(struct endpoint e)
{
	struct sockaddr_storage sa;
	socklen_t n = netns_sockaddr(e.host, e.port, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, n) < 0 || listen(fd, 64) < 0)
		fatal("listen");
}

static void do_connect(struct endpoint e)
{
	struct sockaddr_storage sa;
	socklen_t n = netns_sockaddr(e.host, e.port, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, n) < 0)
		fatal("connect");
}

static void bring_up_loopback(void)
{
	if (NETNS_RUN("ip", "link", "set", "lo", "up") != 0)
		fatal("lo up");
}

static void perform(const struct actor *a)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (a->comm)
		prctl(PR_SET_NAME, a->comm, 0, 0, 0);
	if (a->new_netns && unshare(CLONE_NEWNET) < 0)
		fatal("unshare");
	if (a->new_netns)
		bring_up_loopback();
	if (a->log == LOG_CLOSE)
		close_range(3, 99, 0);
	else if (a->log &&
		 open(scene.path, a->log == LOG_WRITE ? O_WRONLY | O_APPEND : O_RDONLY) < 0)
		fatal("log");
	for (size_t i = 0; i < 4 && a->listens[i].host; i++)
		do_listen(a->listens[i]);
	if (a->connects.host)
		do_connect(a->connects);
}

_Noreturn static void play(const struct actor *a, int ready, int pids)
{
	for (;; a = a->child) {
		pid_t self = getpid();

		perform(a);
		if (write(pids, &self, sizeof self) != sizeof self)
			fatal("pids");
		if (!a->child || fork() != 0)
			break;
	}
	if (!a->child && write(ready, "r", 1) != 1)
		fatal("ready");
	close(ready);
	close(pids);
	for (;;)
		pause();
}

/* Keeps 0-2 and moves what the actor needs there; nothing else is inherited. */
static void keep_only(const struct actor *a, int *ready, int *pids)
{
	int null = open("/dev/null", O_RDWR);

	dup2(a->pipe_in ? a->pipe_in : null, 0);
	dup2(a->pipe_out ? a->pipe_out : null, 1);
	*ready = fcntl(*ready, F_DUPFD, 100);
	*pids = fcntl(*pids, F_DUPFD, 102);
	close_range(3, 99, 0);
	close_range(103, ~0u, 0);
}

/* Starts an actor and waits until it plays. Its pid; its child's is the next in scene.pids. */
static pid_t enter(const struct actor *a)
{
	int ready[2], pids[2];
	pid_t first, pid;
	char byte;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(pids, O_CLOEXEC), 0);
	first = fork();
	assert_true(first >= 0);
	if (first == 0) {
		keep_only(a, &ready[1], &pids[1]);
		play(a, ready[1], pids[1]);
	}
	close(ready[1]);
	close(pids[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	/* Until the end of file: all of them have closed these pipes. */
	assert_int_equal(read(ready[0], &byte, 1), 0);
	while (read(pids[0], &pid, sizeof pid) == sizeof pid && scene.npids < ACTORS_MAX)
		scene.pids[scene.npids++] = pid;
	close(ready[0]);
	close(pids[0]);
	return first;
}

/* An established connection of ours with a peer that does not exist. */
static void from_afar(struct endpoint local, struct endpoint peer)
{
	struct sockaddr_storage sa;
	socklen_t n = netns_sockaddr(local.host, local.port, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, n), 0);
	n = netns_sockaddr(peer.host, peer.port, &sa);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, n), 0);
	scene.far[scene.nfar++] = fd;
}

static struct owner find(const char *trusted)
{
	struct netlist proxies = {0};
	struct owner o;
	struct addr net;

	if (trusted) {
		assert_int_equal(addr_parse_net(slice_str(trusted), &net), 0);
		assert_int_equal(netlist_add(&proxies, &net), 0);
	}
	netlist_seal(&proxies);
	assert_int_equal(owner_find(scene.dev, scene.ino, &proxies, &o), 0);
	netlist_free(&proxies);
	print_message("    %s: %s\n", owner_result_name(o.result), o.text);
	if (o.result != OWNER_FOUND)
		assert_int_equal(o.nports, 0);
	return o;
}

static void assert_ports(const struct owner *o, const uint16_t *ports, unsigned n)
{
	assert_int_equal(o->result, OWNER_FOUND);
	assert_int_equal(o->nports, n);
	assert_memory_equal(o->ports, ports, n * sizeof ports[0]);
}
#define PORTS(o, ...)                                                                              \
	assert_ports(o, (const uint16_t[]){__VA_ARGS__}, sizeof((uint16_t[]){__VA_ARGS__}) / 2)

static int scene_open(void **state)
{
	struct stat st;
	int fd;

	(void)state;
	memset(&scene, 0, sizeof scene);
	snprintf(scene.path, sizeof scene.path, "/tmp/test_owner.XXXXXX");
	fd = mkstemp(scene.path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	close(fd);
	scene.dev = st.st_dev;
	scene.ino = st.st_ino;
	return 0;
}

static int scene_close(void **state)
{
	(void)state;
	/* Children of actors first: they are not ours to wait for, and die with their parents
	 * anyway. */
	for (size_t i = scene.npids; i-- > 0;) {
		kill(scene.pids[i], SIGKILL);
		waitpid(scene.pids[i], NULL, 0);
	}
	for (size_t i = 0; i < scene.nfar; i++)
		close(scene.far[i]);
	unlink(scene.path);
	return 0;
}

static void test_single(void **state)
{
	const struct actor app = {
		.comm = "python3", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	char expected[128];
	pid_t pid = enter(&app);
	struct owner o = find(NULL);

	(void)state;
	PORTS(&o, 8001);
	assert_int_equal(o.pid, pid);
	assert_int_equal(o.writer_pid, pid);
	assert_string_equal(o.comm, "python3");
	assert_false(o.by_proxy);
	assert_true(o.provisional);
	snprintf(expected, sizeof expected, "port 8001 of python3 (pid %d), which writes the log",
		 (int)pid);
	assert_string_equal(o.text, expected);

	assert_true(owner_alive(&o));
	o.start_time++;
	assert_false(owner_alive(&o));
	o.start_time--;
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
	assert_false(owner_alive(&o));
	assert_false(owner_alive(&(struct owner){0}));
}

static void nothing(void *ctx, const struct proc_fd *fd)
{
	(void)ctx;
	(void)fd;
}

/* Some places hide a process even from root (a container's pid 1). */
static enum owner_result no_writer_here(void)
{
	struct proc_scan scan = {0};

	assert_int_equal(proc_each_fd(nothing, NULL, &scan), 0);
	assert_true(scan.pids > 0 && scan.fds > 0 && !scan.cut);
	return scan.denied ? OWNER_DENIED : OWNER_NO_WRITER;
}

static void test_no_writer(void **state)
{
	const struct actor tail = {.comm = "tail", .log = LOG_READ, .listens = {{"0.0.0.0", 8001}}};
	struct owner o;

	(void)state;
	o = find(NULL);
	assert_int_equal(o.result, no_writer_here());
	enter(&tail);
	o = find(NULL);
	assert_int_equal(o.result, no_writer_here());
	assert_int_equal(o.writer_pid, 0);
	assert_true(strlen(o.text) > 10);
}

/* The worker alone listens; the master alone listens; both hold the socket. */
static void test_master_and_worker(void **state)
{
	const struct actor worker = {.comm = "worker", .listens = {{"::", 8002}}};
	const struct actor master = {.comm = "master", .log = LOG_WRITE, .child = &worker};
	const struct actor idle = {.comm = "idle"};
	const struct actor reloader = {.comm = "reloader",
				       .log = LOG_WRITE,
				       .listens = {{"0.0.0.0", 8003}},
				       .child = &idle};
	struct owner o;

	enter(&master);
	o = find(NULL);
	PORTS(&o, 8002);
	assert_string_equal(o.comm, "worker");
	scene_close(state);
	scene_open(state);

	enter(&reloader);
	o = find(NULL);
	PORTS(&o, 8003);
}

static void test_tree_with_different_ports(void **state)
{
	const struct actor second = {.comm = "two", .listens = {{"0.0.0.0", 8005}}};
	const struct actor first = {
		.comm = "one", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8004}}, .child = &second};
	struct owner o;

	(void)state;
	enter(&first);
	o = find(NULL);
	PORTS(&o, 8004, 8005);
	assert_string_equal(o.comm, "two");
}

static void test_unrelated_writers(void **state)
{
	const struct actor a = {.comm = "app-a", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	const struct actor b = {.comm = "app-b", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8002}}};
	struct owner o;

	(void)state;
	enter(&a);
	enter(&b);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_UNSURE);
	assert_non_null(strstr(o.text, "app-a"));
	assert_non_null(strstr(o.text, "port 8002"));
}

/* SO_REUSEPORT workers without a common parent, and a bystander that only writes. */
static void test_shared_port(void **state)
{
	const struct actor a = {.comm = "app", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	const struct actor editor = {.comm = "logger", .log = LOG_WRITE};
	struct owner o;

	(void)state;
	enter(&editor);
	enter(&a);
	enter(&a);
	o = find(NULL);
	PORTS(&o, 8001);
	assert_string_equal(o.comm, "app");
}

static void test_tee(void **state)
{
	int fds[2];
	struct actor app = {.comm = "flask", .listens = {{"0.0.0.0", 8001}}};
	struct actor tee = {.comm = "mytee", .log = LOG_WRITE};
	struct owner o;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	app.pipe_out = fds[1];
	tee.pipe_in = fds[0];
	enter(&app);
	pid = enter(&tee);
	close(fds[0]);
	close(fds[1]);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_NO_LISTENER);
	assert_int_equal(o.writer_pid, pid);
	assert_int_equal(o.pid, 0);
	assert_non_null(strstr(o.text, "mytee"));
	assert_non_null(strstr(o.text, "input comes from flask"));
	assert_non_null(strstr(o.text, "port 8001"));
}

/* Supervisors have listeners of their own, which are not the service's. */
static void test_supervisor(void **state)
{
	const struct actor app = {.comm = "app", .listens = {{"0.0.0.0", 8001}}};
	const struct actor supervisor = {
		.comm = "supervisord", .log = LOG_WRITE, .listens = {{"0.0.0.0", 9001}}};
	struct owner o;

	(void)state;
	enter(&supervisor);
	enter(&app);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_NO_LISTENER);
	assert_non_null(strstr(o.text, "for others"));
	assert_null(strstr(o.text, "8001")); /* unrelated */
}

/* sudo with a terminal of its own, script(1): the service runs below the writer. */
static void test_child_without_log(void **state)
{
	const struct actor app = {.comm = "app", .log = LOG_CLOSE, .listens = {{"0.0.0.0", 8001}}};
	const struct actor sudo = {.comm = "sudo", .log = LOG_WRITE, .child = &app};
	struct owner o;

	(void)state;
	enter(&sudo);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_NO_LISTENER);
	assert_non_null(strstr(o.text, "sudo"));
	assert_non_null(strstr(o.text, "app"));
	assert_non_null(strstr(o.text, "port 8001"));
}

static void test_helper_port(void **state)
{
	const struct actor app = {
		.comm = "app",
		.log = LOG_WRITE,
		.listens = {{"127.0.0.1", 5678}, {"0.0.0.0", 8001}, {"::1", 5679}}};
	struct owner o;

	(void)state;
	enter(&app);
	o = find(NULL);
	PORTS(&o, 8001);
}

static void test_loopback_unconnected(void **state)
{
	const struct actor app = {
		.comm = "app", .log = LOG_WRITE, .listens = {{"127.0.0.1", 8001}}};
	const struct actor curl = {.comm = "curl", .connects = {"127.0.0.1", 8001}};
	struct owner o;

	(void)state;
	enter(&app);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_UNSURE);
	assert_non_null(strstr(o.text, "no connection to follow yet"));
	enter(&curl);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_UNSURE);
	assert_non_null(strstr(o.text, "curl"));
}

static void test_proxy(void **state)
{
	const struct actor app = {
		.comm = "gunicorn", .log = LOG_WRITE, .listens = {{"127.0.0.1", 8001}}};
	const struct actor nginx = {
		.comm = "nginx",
		.listens = {{"0.0.0.0", 443}, {"0.0.0.0", 80}, {"127.0.0.1", 8080}},
		.connects = {"127.0.0.1", 8001}};
	struct owner o;
	pid_t writer, proxy;

	(void)state;
	writer = enter(&app);
	proxy = enter(&nginx);
	o = find(NULL);
	PORTS(&o, 80, 443);
	assert_true(o.by_proxy);
	assert_int_equal(o.pid, proxy);
	assert_int_equal(o.writer_pid, writer);
	assert_string_equal(o.comm, "nginx");
	assert_non_null(strstr(o.text, "gunicorn"));
}

/* The service listens everywhere, and all its connections come from this host's own address. */
static void test_proxy_before_public(void **state)
{
	const struct actor app = {.comm = "flask", .log = LOG_WRITE, .listens = {{"::", 8001}}};
	const struct actor nginx = {
		.comm = "nginx", .listens = {{"::", 80}}, .connects = {"203.0.113.1", 8001}};
	struct owner o;

	(void)state;
	enter(&app);
	enter(&nginx);
	o = find(NULL);
	PORTS(&o, 80, 8001);
	assert_true(o.by_proxy);
	/* Somebody comes in directly: no longer only a proxy's service. */
	from_afar((struct endpoint){"203.0.113.1", 8001}, (struct endpoint){"198.51.100.7", 4000});
	o = find(NULL);
	PORTS(&o, 8001);
	assert_false(o.by_proxy);
	assert_false(o.provisional);
	/* ... unless that one is a trusted proxy itself. */
	o = find("198.51.100.0/24");
	PORTS(&o, 80, 8001);
}

static void test_trusted_elsewhere(void **state)
{
	const struct actor app = {
		.comm = "flask", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	struct owner o;

	(void)state;
	enter(&app);
	from_afar((struct endpoint){"203.0.113.1", 8001}, (struct endpoint){"198.51.100.7", 4000});
	o = find("198.51.100.7");
	PORTS(&o, 8001);
	assert_non_null(strstr(o.text, "198.51.100.7 on another host"));
}

static void test_health_check(void **state)
{
	const struct actor app = {
		.comm = "flask", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	const struct actor agent = {
		.comm = "agent", .listens = {{"127.0.0.1", 9100}}, .connects = {"127.0.0.1", 8001}};
	struct owner o;

	(void)state;
	enter(&app);
	enter(&agent);
	o = find(NULL);
	PORTS(&o, 8001);
	assert_false(o.by_proxy);
	assert_true(o.provisional);
}

static void test_two_proxies_deep(void **state)
{
	const struct actor app = {
		.comm = "flask", .log = LOG_WRITE, .listens = {{"127.0.0.1", 8001}}};
	const struct actor cache = {.comm = "varnish",
				    .listens = {{"127.0.0.1", 6081}},
				    .connects = {"127.0.0.1", 8001}};
	const struct actor tls = {
		.comm = "hitch", .listens = {{"0.0.0.0", 443}}, .connects = {"127.0.0.1", 6081}};
	struct owner o;

	(void)state;
	enter(&app);
	enter(&cache);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_UNSURE);
	enter(&tls);
	o = find(NULL);
	PORTS(&o, 443);
	assert_string_equal(o.comm, "hitch");
}

static void test_unrelated_proxies(void **state)
{
	const struct actor app = {
		.comm = "flask", .log = LOG_WRITE, .listens = {{"127.0.0.1", 8001}}};
	const struct actor a = {
		.comm = "nginx", .listens = {{"0.0.0.0", 80}}, .connects = {"127.0.0.1", 8001}};
	const struct actor b = {.comm = "netdata",
				.listens = {{"0.0.0.0", 19999}},
				.connects = {"127.0.0.1", 8001}};
	struct owner o;

	(void)state;
	enter(&app);
	enter(&a);
	enter(&b);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_UNSURE);
	assert_non_null(strstr(o.text, "netdata"));
}

/* A service that is its own client. */
static void test_own_client(void **state)
{
	const struct actor app = {.comm = "flask",
				  .log = LOG_WRITE,
				  .listens = {{"127.0.0.1", 8001}},
				  .connects = {"127.0.0.1", 8001}};
	struct owner o;

	(void)state;
	enter(&app);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_UNSURE);
}

static void test_dual_stack(void **state)
{
	const struct actor app = {.comm = "flask", .log = LOG_WRITE, .listens = {{"::", 8001}}};
	struct owner o;

	(void)state;
	enter(&app);
	from_afar((struct endpoint){"::ffff:203.0.113.1", 8001},
		  (struct endpoint){"::ffff:198.51.100.7", 4000});
	o = find(NULL);
	PORTS(&o, 8001);
	assert_false(o.provisional);
	o = find("198.51.100.7");
	assert_non_null(strstr(o.text, "198.51.100.7 on another host"));
}

static void test_other_namespace(void **state)
{
	const struct actor app = {.comm = "container",
				  .log = LOG_WRITE,
				  .new_netns = true,
				  .listens = {{"0.0.0.0", 8001}}};
	const struct actor sudo = {.comm = "sudo", .log = LOG_WRITE};
	const struct actor here = {
		.comm = "here", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	uint64_t dev, ino;
	struct owner o;
	pid_t pid;

	(void)state;
	enter(&sudo); /* holds the log open, as what starts a container may */
	pid = enter(&app);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_OTHER_NAMESPACE);
	assert_non_null(strstr(o.text, "container"));
	assert_int_equal(o.writer_pid, pid);
	assert_true(proc_same(o.writer_pid, o.writer_start_time));
	assert_int_equal(proc_netns(pid, &dev, &ino), 0);
	assert_true(o.netns == ino);
	/* Who listens in this namespace comes first. */
	enter(&here);
	o = find(NULL);
	PORTS(&o, 8001);
	assert_string_equal(o.comm, "here");
	assert_true(o.netns == 0);
}

static void test_collector_elsewhere(void **state)
{
	const struct actor conmon = {.comm = "conmon", .log = LOG_WRITE, .new_netns = true};
	struct owner o;

	(void)state;
	enter(&conmon);
	o = find(NULL);
	assert_int_equal(o.result, OWNER_NO_LISTENER);
	assert_non_null(strstr(o.text, "for others"));
}

static void test_hostile_name(void **state)
{
	const struct actor app = {
		.comm = "\033[2J\n\xff)x (", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	struct owner o;

	(void)state;
	enter(&app);
	o = find(NULL);
	PORTS(&o, 8001);
	for (const char *p = o.text; *p; p++)
		assert_true(*p >= 0x20 && *p < 0x7f);
	for (const char *p = o.comm; *p; p++)
		assert_true(*p >= 0x20 && *p < 0x7f);
}

/* Names and ports fill the sentence: it ends at a whole piece. */
static void test_long_text(void **state)
{
	struct actor app = {.comm = "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4",
			    .log = LOG_WRITE};
	struct owner o;
	size_t n;

	(void)state;
	for (uint16_t i = 0; i < 12; i++) {
		app.listens[0] = (struct endpoint){"0.0.0.0", (uint16_t)(20000 + i)};
		enter(&app);
	}
	o = find(NULL);
	assert_int_equal(o.result, OWNER_UNSURE);
	n = strlen(o.text);
	assert_in_range(n, 200, sizeof o.text - 1);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)o.text[i] == 0xc3)
			assert_true((o.text[++i] & 0xc0) == 0x80);
}

static void test_denied(void **state)
{
	const struct actor app = {.comm = "app", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	struct owner o;
	int status;
	pid_t pid;

	(void)state;
	enter(&app);
	pid = fork();
	if (pid == 0) {
		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(77);
		_exit(owner_find(scene.dev, scene.ino, NULL, &o) == 0 ? (int)o.result : 99);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* a user namespace with one id */
	assert_int_equal(WEXITSTATUS(status), OWNER_DENIED);
}

static void test_missing_file(void **state)
{
	struct owner o;

	(void)state;
	assert_int_equal(owner_find(0, 0, NULL, &o), 0);
	assert_int_not_equal(o.result, OWNER_FOUND);
}

static void test_prober(void **state)
{
	const struct actor app = {
		.comm = "flask", .log = LOG_WRITE, .listens = {{"0.0.0.0", 8001}}};
	struct prober_question q = {.kind = PROBER_LISTENER,
				    .token = 7,
				    .dev = scene.dev,
				    .ino = scene.ino,
				    .nproxies = 1};
	struct prober_answer a;

	(void)state;
	enter(&app);
	from_afar((struct endpoint){"203.0.113.1", 8001}, (struct endpoint){"198.51.100.7", 4000});
	assert_int_equal(addr_parse(SLICE("198.51.100.7"), &q.proxies[0]), 0);
	prober_handle(&q, &a);
	assert_int_equal(a.error, 0);
	assert_int_equal(a.token, 7);
	assert_int_equal(a.owner.result, OWNER_FOUND);
	assert_non_null(strstr(a.owner.text, "on another host"));

	q.proxies[0].plen = 33;
	prober_handle(&q, &a);
	assert_int_equal(a.error, -EINVAL);
	q.nproxies = PROBER_PROXIES_MAX + 1;
	prober_handle(&q, &a);
	assert_int_equal(a.error, -EINVAL);
	q.kind = PROBER_KINDS;
	prober_handle(&q, &a);
	assert_int_equal(a.error, -EINVAL);
	assert_int_equal(a.token, 7);
	q.kind = PROBER_SSHPEERS;
	prober_handle(&q, &a);
	assert_int_equal(a.error, 0);
}

/* Own address 203.0.113.1, and a way to another network. */
static int build_network(void **state)
{
	(void)state;
	return NETNS_RUN("ip", "address", "add", "203.0.113.1/32", "dev", "lo") ||
	       NETNS_RUN("ip", "route", "add", "198.51.100.0/24", "dev", "lo");
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)
	const struct CMUnitTest tests[] = {
		SCENE(test_single),
		SCENE(test_no_writer),
		SCENE(test_master_and_worker),
		SCENE(test_tree_with_different_ports),
		SCENE(test_unrelated_writers),
		SCENE(test_shared_port),
		SCENE(test_tee),
		SCENE(test_supervisor),
		SCENE(test_child_without_log),
		SCENE(test_helper_port),
		SCENE(test_loopback_unconnected),
		SCENE(test_proxy),
		SCENE(test_proxy_before_public),
		SCENE(test_trusted_elsewhere),
		SCENE(test_health_check),
		SCENE(test_two_proxies_deep),
		SCENE(test_unrelated_proxies),
		SCENE(test_own_client),
		SCENE(test_dual_stack),
		SCENE(test_other_namespace),
		SCENE(test_collector_elsewhere),
		SCENE(test_hostile_name),
		SCENE(test_long_text),
		SCENE(test_denied),
		SCENE(test_missing_file),
		SCENE(test_prober),
	};

	netns_enter();
	if (!netns_ready) {
		puts("1..0 # SKIP no network namespace of our own is possible here");
		return 0;
	}
	return cmocka_run_group_tests(tests, build_network, NULL);
}
