/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Peers of the ssh sessions of administrators: who must not be locked out by a ban.
 *
 * An administrator is a user with uid 0 or a member of the groups sudo, wheel or admin.
 *
 * First source, the process table. After authentication sshd (sshd-session since OpenSSH 9.8) calls
 * its process "sshd: USER@pts/0" or "sshd: USER@notty". No other title is proof: "sshd: USER
 * [priv]" is there from the moment a client has named an existing user, before any password, and
 * "unknown", "[net]",
 * "[accepted]" belong to clients that are not logged in. Since anybody may call his process so, its
 * executable must be named sshd or sshd-session and belong to root, and its effective user must be
 * USER: another user who starts /usr/sbin/sshd under that name gains nothing.
 *
 * Of the process' connections only the session's own one counts, not what is forwarded through it
 * (with `ssh -R` strangers connect to the session process): it is shared with the privileged
 * monitor, its parent; root's sessions have no monitor, there it must lie on a port on which
 * somebody else listens.
 *
 * Second source, utmp: USER_PROCESS records of such users with a foreign address and a living
 * process. Whoever can forge it is root or in group utmp. Debian 13 has no utmp any more; that is
 * no error.
 *
 * Loopback peers are left out. Needs CAP_SYS_PTRACE for other users' processes.
 */
#ifndef TAILBAN_SOCKETS_SSHPEERS_H
#define TAILBAN_SOCKETS_SSHPEERS_H

#include "daemon/base/addr.h"

#define SSHPEERS_MAX 32u
#define SSHPEERS_USER_BYTES 33u /* LOGIN_NAME_MAX of useradd is 32 */

struct sshpeer {
	struct addr addr;
	char user[SSHPEERS_USER_BYTES]; /* escaped */
};

struct sshpeers {
	uint32_t count;
	uint32_t left_out; /* did not fit */
	struct sshpeer peers[SSHPEERS_MAX];
};

/*
 * Each pair of address and user once. utmp: the file, NULL for the system's. 0, or errno when /proc
 * or sock_diag cannot be read; what utmp gave is in *ret_peers then too.
 */
int sshpeers_find(const char *utmp, struct sshpeers *ret_peers);

/*
 * The user of a session's process title, or the empty slice when the title is no proof of one: the
 * part before the last '@', when what follows is a list of terminals or "notty".
 */
struct slice sshpeers_title_user(struct slice title);

#endif
