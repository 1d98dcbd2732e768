/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sockets of another network namespace: see spaces.h. Sockets that do not fit are closed. */
#include "daemon/enforcer/spaces.h"
#include "daemon/sockets/proc.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static bool is_netlink(int fd, int protocol)
{
	int domain = -1, found = -1;
	socklen_t size = sizeof domain;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_NETLINK &&
	       getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &found, &size) == 0 && found == protocol;
}

static int namespace_of(int fd, uint64_t *ret_dev, uint64_t *ret_ino)
{
	int ns = ioctl(fd, SIOCGSKNS);
	struct stat st;
	int r = 0;

	if (ns < 0)
		return -errno;
	if (fstat(ns, &st) < 0)
		r = -errno;
	close(ns);
	*ret_dev = st.st_dev;
	*ret_ino = st.st_ino;
	return r;
}

int space_identify(const int fds[static ENTERER_SOCKETS], uint64_t *ret_dev, uint64_t *ret_ino,
		   struct error *err)
{
	for (unsigned i = 0; i < ENTERER_SOCKETS; i++) {
		uint64_t dev = 0, ino = 0;
		int r;

		if (!is_netlink(fds[i], enterer_protocol((enum enterer_socket)i)))
			return error_set(err, -EBADF, "sockets of the other namespace are missing");
		r = namespace_of(fds[i], &dev, &ino);
		if (r < 0)
			return error_set(err, r, "cannot ask which namespace a socket is of: %s",
					 error_name(r));
		if (i && (dev != *ret_dev || ino != *ret_ino))
			return error_set(err, -EXDEV, "sockets of different namespaces");
		*ret_dev = dev;
		*ret_ino = ino;
	}
	return 0;
}

static int check(const int fds[static ENTERER_SOCKETS], struct space *s, struct error *err)
{
	uint64_t dev, ino;
	int r = space_identify(fds, &s->dev, &s->ino, err);

	if (r < 0)
		return r;
	r = proc_netns(getpid(), &dev, &ino);
	if (r < 0)
		return error_set(err, r, "cannot tell our own network namespace: %s",
				 error_name(r));
	if (dev == s->dev && ino == s->ino)
		return error_set(err, -EEXIST, "the sockets are of our own network namespace");
	return 0;
}

static int take(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
		int fds[static ENTERER_SOCKETS], struct space *s, struct error *err)
{
	int r = check(fds, s, err);

	if (r < 0)
		return r;
	r = reaper_open_at(loop, hooks, max_targets, fds[ENTERER_DUMP], fds[ENTERER_KILL],
			   &s->reaper, err);
	fds[ENTERER_DUMP] = fds[ENTERER_KILL] = -1;
	if (r < 0)
		return r;
	r = sockdiag_from_fd(&s->look, fds[ENTERER_QUERY], err);
	fds[ENTERER_QUERY] = -1;
	if (r < 0) {
		reaper_close(s->reaper);
		return r;
	}
	s->census_fd = fds[ENTERER_CENSUS];
	s->nfnetlink_fd = fds[ENTERER_NFNETLINK];
	fds[ENTERER_CENSUS] = fds[ENTERER_NFNETLINK] = -1;
	return 0;
}

int space_open(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
	       int fds[static ENTERER_SOCKETS], struct space **ret_space, struct error *err)
{
	struct space *s = calloc(1, sizeof *s);
	int r = -ENOMEM;

	if (s) {
		s->census_fd = s->nfnetlink_fd = -1;
		r = take(loop, hooks, max_targets, fds, s, err);
	} else {
		error_set(err, r, "out of memory");
	}
	for (unsigned i = 0; i < ENTERER_SOCKETS; i++)
		drop(&fds[i]);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret_space = s;
	return 0;
}

void space_close(struct space *space)
{
	if (!space)
		return;
	reaper_close(space->reaper);
	record_close(space->record);
	sockdiag_close(&space->look);
	drop(&space->census_fd);
	drop(&space->nfnetlink_fd);
	netlist_free(&space->own);
	netlist_free(&space->gateways);
	free(space);
}

int space_nfnetlink_fd(const struct space *space)
{
	return space->nfnetlink_fd;
}

static int forget_record(struct space *space, struct error *err)
{
	int r = space->record ? record_remove(space->record) : 0;

	record_close(space->record);
	space->record = NULL;
	return r < 0 ? error_set(err, r,
				 "the record in a service's namespace cannot be removed: %s",
				 error_name(r))
		     : 0;
}

static int open_record(struct space *space, const struct firewall_port *ports, size_t n,
		       struct now now, struct error *err)
{
	int fd = dup(space->nfnetlink_fd);

	if (fd < 0)
		return error_set(err, -EMFILE,
				 "no descriptor for a record in a service's namespace");
	return record_open_at(fd, ports, n, now, &space->record, err);
}

int space_record(struct space *space, const struct firewall_port *ports, size_t n, struct now now,
		 struct error *err)
{
	int r;

	if (!n)
		r = forget_record(space, err);
	else if (space->record)
		r = record_watch_ports(space->record, ports, n, now, err);
	else
		r = open_record(space, ports, n, now, err);
	space->record_error = r;
	return r;
}
