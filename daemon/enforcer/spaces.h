/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Spaces: network namespaces of services other than our own, as far as the enforcer works there.
 *
 * A space is the netlink sockets that an enterer opened in a namespace (sockets/enterer.h): a
 * reaper of its own, a sock_diag socket that the prober gets for its census, one for the witness,
 * one for nftables there. They stay sockets of that namespace whatever happens, so what is done
 * through a space can hit nothing in ours, and the namespace lives as long as its space: a space
 * must be closed when the service has gone.
 *
 * Which namespace sockets are of is not believed but asked of the kernel (SIOCGSKNS): space_open
 * refuses sockets of another kind, of different namespaces, and of our own.
 */
#ifndef TAILBAN_ENFORCER_SPACES_H
#define TAILBAN_ENFORCER_SPACES_H

#include "daemon/base/netlist.h"
#include "daemon/base/sockdiag.h"
#include "daemon/enforcer/firewall_record.h"
#include "daemon/enforcer/reaper.h"
#include "daemon/sockets/enterer.h"

struct space {
	uint64_t dev, ino; /* of the namespace; the inode is what people see (lsns(8)) */
	struct reaper *reaper;
	int census_fd, nfnetlink_fd;
	struct sockdiag look; /* for questions that are answered at once */
	/* The owner's to fill: its own addresses and default gateways, sealed; */
	struct netlist own, gateways;
	bool behind_us;        /* who connects there comes through this host's prerouting */
	struct record *record; /* who talked to its ports, NULL: there is none, */
	int record_error;      /* and why, where one is wanted */
};

/*
 * Takes the sockets over, also on failure (they are -1 then); fds is by enum enterer_socket. 0, or
 * with a sentence: -EBADF (one is missing or no such socket), -EXDEV (not of one namespace),
 * -EEXIST (of our own), -ENOMEM, errno of the kernel.
 */
int space_open(struct ev_loop *loop, const struct reaper_hooks *hooks, uint32_t max_targets,
	       int fds[static ENTERER_SOCKETS], struct space **ret_space, struct error *err);
/* Leaves the record's table there. */
void space_close(struct space *space);

/* Device and inode of the namespace that all these sockets are of. 0 or as space_open. */
int space_identify(const int fds[static ENTERER_SOCKETS], uint64_t *ret_dev, uint64_t *ret_ino,
		   struct error *err);

/* A NETLINK_NETFILTER socket there, for a table in that namespace; stays the space's: dup(2) it. */
int space_nfnetlink_fd(const struct space *space);

/* Records who talks to these ports, as record_watch_ports; without any the table is deleted.
 * 0 or negative errno, which record_error keeps. */
int space_record(struct space *space, const struct firewall_port *ports, size_t n, struct now now,
		 struct error *err);

#endif
