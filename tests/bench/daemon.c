/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailband as a child of a measuring program; see bench.h. */
#include "tests/bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS 10000

static void write_jail(const struct lab *lab, const char *log)
{
	char path[96];
	FILE *f;

	snprintf(path, sizeof path, "%s/conf", lab->dir);
	mkdir(path, 0755);
	snprintf(path, sizeof path, "%s/state", lab->dir);
	mkdir(path, 0755);
	snprintf(path, sizeof path, "%s/conf/jail.conf", lab->dir);
	f = fopen(path, "we");
	if (!f)
		bench_die("%s: %s", path, strerror(errno));
	fprintf(f,
		"[bench]\nenabled = yes\nfilter = werkzeug\nlogpath = %s\nport = %d\n"
		"maxretry = 1\nbantime = 1h\nbantime.increment = no\n",
		log, LAB_PORT);
	fclose(f);
}

static int notify_socket(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		bench_die("%s: %s", path, strerror(errno));
	return fd;
}

static void wait_ready(int fd, const char *log)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char text[512];
	ssize_t n = 0;

	while (poll(&p, 1, READY_MS) == 1) {
		n = recv(fd, text, sizeof text - 1, 0);
		text[n > 0 ? n : 0] = 0;
		if (strstr(text, "READY=1"))
			return;
	}
	bench_die("tailband is not ready after %d ms, see %s", READY_MS, log);
}

static void become_daemon(const struct lab *lab, const char *program, const char *datadir,
			  const char *notify, const char *log)
{
	char conf[96], state[96], control[96];
	int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	setenv("NOTIFY_SOCKET", notify, 1);
	setenv("TAILBAN_DATADIR", datadir, 1);
	snprintf(conf, sizeof conf, "%s/conf", lab->dir);
	snprintf(state, sizeof state, "%s/state", lab->dir);
	snprintf(control, sizeof control, "%s/control", lab->dir);
	execl(program, program, "-f", "-l", "warning", "-c", conf, "-S", state, "-s", control,
	      (char *)NULL);
	fprintf(stderr, "%s: %s\n", program, strerror(errno));
	_exit(127);
}

void daemon_start(struct daemon_child *d, const struct lab *lab, const char *program,
		  const char *datadir, const char *log)
{
	char notify[96], own_log[96];
	int fd;

	write_jail(lab, log);
	snprintf(notify, sizeof notify, "%s/notify", lab->dir);
	snprintf(own_log, sizeof own_log, "%s/tailband.log", lab->dir);
	fd = notify_socket(notify);
	d->pid = fork();
	if (d->pid == 0)
		become_daemon(lab, program, datadir, notify, own_log);
	if (d->pid < 0)
		bench_die("fork: %s", strerror(errno));
	wait_ready(fd, own_log);
	close(fd);
}

void daemon_stop(struct daemon_child *d)
{
	int status = 0;

	kill(d->pid, SIGTERM);
	while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		bench_die("tailband ended badly (wait status %d)", status);
}
