/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files and sockets of our own: lock, control socket, force socket, state directory, pid file.
 *
 * Start-up errors name the path and end the start. Sockets are made under a tight umask and get
 * their mode and group before anybody can connect by them.
 */
#include "daemon/base/log.h"
#include "daemon/base/process.h"
#include "daemon/enforcer/state.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GROUP "tailban"

const char *endpoint_socket_path(const struct enforcer *e)
{
	return e->start.socket_override ? e->start.socket_override : e->conf->socket;
}

/* A directory with all that is missing above it. */
static int make_dirs(const char *dir, mode_t mode)
{
	char copy[PATH_MAX];

	if (mkdir(dir, mode) == 0 || errno == EEXIST)
		return 0;
	if (errno != ENOENT || strlen(dir) >= sizeof copy)
		return -errno;
	snprintf(copy, sizeof copy, "%s", dir);
	if (strcmp(dirname(copy), dir) == 0 || make_dirs(copy, 0755) < 0)
		return -ENOENT;
	return mkdir(dir, mode) == 0 || errno == EEXIST ? 0 : -errno;
}

/* The directory that a path lies in; made when it is missing. */
static int make_parent(const char *path, mode_t mode, struct error *err)
{
	char copy[PATH_MAX];
	const char *dir;
	int r;

	snprintf(copy, sizeof copy, "%s", path);
	dir = dirname(copy);
	r = make_dirs(dir, mode);
	if (r < 0)
		return error_set(err, r, "cannot make the directory '%s': %s", dir, error_name(r));
	return 0;
}

/* 1 when somebody holds it, 0 when we do now, negative when it cannot be opened. */
static int try_lock(struct enforcer *e, const char *dir, unsigned long long netns)
{
	char path[PATH_MAX];
	int fd, r;

	snprintf(path, sizeof path, "%s/netns-%llu.lock", dir, netns);
	r = make_dirs(dir, 0755);
	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return 1;
	}
	e->lock_fd = fd;
	return 0;
}

int endpoint_lock(struct enforcer *e, struct error *err)
{
	struct stat st;
	int r;

	if (stat("/proc/self/ns/net", &st) < 0)
		return error_set(err, -errno, "cannot read /proc/self/ns/net: %s", strerror(errno));
	r = try_lock(e, RUNSTATEDIR "/tailban", st.st_ino);
	/* A user namespace's root may not write there; its own state directory is the next best
	 * place. */
	if (r < 0)
		r = try_lock(e, e->conf->statedir, st.st_ino);
	if (r < 0)
		return error_set(err, r, "cannot lock in '%s' or '%s': %s", RUNSTATEDIR "/tailban",
				 e->conf->statedir, error_name(r));
	if (r > 0)
		return error_set(err, -EBUSY, "another tailband runs in this network namespace");
	return 0;
}

static int answers(const struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) == 0;

	if (fd >= 0)
		close(fd);
	return r;
}

/* Bound, of this mode and group, and not yet listening. Descriptor or negative errno. */
static int bind_socket(const char *path, int type, mode_t mode, gid_t gid, struct error *err)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	mode_t before;
	int fd, r;

	if (strlen(path) >= sizeof at.sun_path)
		return error_set(err, -ENAMETOOLONG,
				 "the socket path is longer than %zu bytes: '%s'",
				 sizeof at.sun_path - 1, path);
	memcpy(at.sun_path, path, strlen(path) + 1);
	r = make_parent(path, 0755, err);
	if (r < 0)
		return r;
	if (type == SOCK_STREAM && answers(&at))
		return error_set(err, -EADDRINUSE, "a daemon answers on '%s' already", path);
	unlink(path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	before = umask(0177);
	r = bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? -errno : 0;
	umask(before);
	if (r == 0 && gid != (gid_t)-1 && lchown(path, (uid_t)-1, gid) < 0)
		log_warning("control", "cannot give '%s' to its group: %s", path, strerror(errno));
	if (r == 0 && chmod(path, mode) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return error_set(err, r, "cannot bind '%s': %s", path, error_name(r));
	}
	return fd;
}

int endpoint_control(struct enforcer *e, struct error *err)
{
	const struct group *group = getgrnam(GROUP);
	int fd = bind_socket(endpoint_socket_path(e), SOCK_STREAM, 0660,
			     group ? group->gr_gid : (gid_t)-1, err);

	if (fd < 0)
		return fd;
	e->control_fd = fd;
	return 0;
}

static void on_force(struct ev_loop *loop, ev_io *w, int revents)
{
	struct enforcer *e = w->data;
	struct protocol_ban ban;
	struct ucred who;
	socklen_t n = sizeof who;
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
	struct timeval patience = {.tv_usec = 200000};

	(void)loop;
	(void)revents;
	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && who.uid == getuid() &&
	    recv(fd, &ban, sizeof ban, 0) == (ssize_t)sizeof ban) {
		char text[ADDR_STRLEN];

		ban.result = requests_ban_by_force(e, &ban);
		requests_flush(e);
		log_notice("enforcer", "ban of %s by force, asked by uid %u pid %d: %s",
			   addr_format(&ban.addr, text), who.uid, who.pid,
			   ban.result ? error_name(ban.result) : "done");
		(void)send(fd, &ban, sizeof ban, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	close(fd);
}

int endpoint_force(struct enforcer *e, struct error *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s.force", endpoint_socket_path(e));
	e->force_fd = bind_socket(path, SOCK_SEQPACKET, 0600, (gid_t)-1, err);
	if (e->force_fd < 0)
		return e->force_fd;
	if (listen(e->force_fd, 4) < 0)
		return error_set(err, -errno, "cannot listen on '%s': %s", path, strerror(errno));
	ev_io_init(&e->force_ready, on_force, e->force_fd, EV_READ);
	e->force_ready.data = e;
	ev_io_start(e->loop, &e->force_ready);
	return 0;
}

int endpoint_statedir(struct enforcer *e, struct error *err)
{
	const char *dir = e->conf->statedir;
	int r = make_dirs(dir, 0700);

	if (r < 0)
		return error_set(err, r, "cannot make the state directory '%s': %s", dir,
				 error_name(r));
	if (getuid() == 0 && chown(dir, process_engine_uid(), process_engine_gid()) < 0)
		log_warning("enforcer", "cannot give '%s' to the engine's user: %s", dir,
			    strerror(errno));
	return 0;
}

void endpoint_pidfile(struct enforcer *e)
{
	FILE *f = e->conf->pidfile ? fopen(e->conf->pidfile, "we") : NULL;

	e->pidfile_made = f != NULL;
	if (f) {
		fprintf(f, "%d\n", getpid());
		fclose(f);
	} else if (e->conf->pidfile) {
		log_warning("enforcer", "cannot write '%s': %s", e->conf->pidfile, strerror(errno));
	}
}

void endpoint_remove(struct enforcer *e)
{
	char path[PATH_MAX];

	if (e->control_fd >= 0)
		unlink(endpoint_socket_path(e));
	snprintf(path, sizeof path, "%s.force", endpoint_socket_path(e));
	if (e->force_fd >= 0)
		unlink(path);
	if (e->pidfile_made && e->conf->pidfile)
		unlink(e->conf->pidfile);
}
