/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Administrators' ssh sessions: see sshpeers.h. A session that cannot be proved is left out. */
#include "daemon/sockets/sshpeers.h"

#include "daemon/base/escape.h"
#include "daemon/base/sockdiag.h"
#include "daemon/sockets/proc.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <utmp.h>
#include <utmpx.h>

#define SESSIONS_MAX 128u
#define SOCKETS_EACH 16u /* the session's own connection is one of its first descriptors */
#define SOCKETS_MAX (SESSIONS_MAX * SOCKETS_EACH)
#define GROUPS_MAX 256
#define TITLE_BYTES 512

struct session {
	pid_t pid;
	pid_t monitor; /* its parent when that is root's sshd, else 0; of root's session: the
			  listening one */
	bool is_root;
	char user[SSHPEERS_USER_BYTES];
};

struct session_socket {
	uint64_t inode;
	uint32_t session;
	bool shared;  /* the parent holds it too */
	bool is_peer; /* an established connection from `peer` to `lport` */
	struct addr peer;
	uint16_t lport;
};

struct search {
	struct sshpeers *ret;
	struct session sessions[SESSIONS_MAX];
	struct session_socket sockets[SOCKETS_MAX];
	size_t nsessions, nsockets;
	uint8_t listening[65536 / 8]; /* ports on which somebody else than a session listens */
	struct proc_scan scan;
};

static const char *const admin_groups[] = {"sudo", "wheel", "admin"};

struct slice sshpeers_title_user(struct slice title)
{
	static const char *const heads[] = {"sshd: ", "sshd-session: "};
	struct slice tty;
	size_t at;

	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
		if (!slice_starts(title, slice_str(heads[i])))
			continue;
		title = slice_skip(title, strlen(heads[i]));
		for (at = title.n; at > 0 && title.p[at - 1] != '@'; at--)
			;
		tty = slice_trim(slice_skip(title, at));
		if (at < 2 || (!slice_eq_str(tty, "notty") && !slice_starts(tty, SLICE("pts/")) &&
			       !slice_starts(tty, SLICE("tty"))))
			return SLICE_NONE;
		if (slice_find(tty, ' ') < tty.n || slice_find(tty, '[') < tty.n)
			return SLICE_NONE; /* "root@tty [priv]": a user of that name, not logged in
					      yet */
		return slice_head(title, at - 1);
	}
	return SLICE_NONE;
}

/* An administrator's uid in *ret_uid, or false. */
static bool is_admin(const char *user, uid_t *ret_uid)
{
	const struct passwd *pw = getpwnam(user);
	gid_t groups[GROUPS_MAX];
	int n = GROUPS_MAX;

	if (!pw)
		return false;
	*ret_uid = pw->pw_uid;
	if (pw->pw_uid == 0)
		return true;
	if (getgrouplist(user, pw->pw_gid, groups, &n) < 0)
		n = GROUPS_MAX;
	for (size_t i = 0; i < sizeof admin_groups / sizeof admin_groups[0]; i++) {
		const struct group *gr = getgrnam(admin_groups[i]);

		for (int k = 0; gr && k < n; k++)
			if (groups[k] == gr->gr_gid)
				return true;
	}
	return false;
}

static bool is_sshd(pid_t pid)
{
	char path[64], target[512], *name;
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
	n = readlink(path, target, sizeof target - 1);
	if (n <= 0 || stat(path, &st) < 0 || st.st_uid != 0)
		return false;
	target[n] = 0;
	name = strrchr(target, '/');
	if (!name)
		return false;
	/* After an upgrade of the package: "/usr/sbin/sshd (deleted)". */
	name[1 + strcspn(name + 1, " ")] = 0;
	return strcmp(name + 1, "sshd") == 0 || strcmp(name + 1, "sshd-session") == 0;
}

/* The owner of /proc/PID of a process that has changed its user is root; its status says who it is.
 */
static bool runs_as(pid_t pid, uid_t uid)
{
	char status[2048];
	unsigned real, effective;
	const char *line;

	if (proc_read(pid, "status", status, sizeof status) < 0)
		return false;
	line = strstr(status, "\nUid:");
	return line && sscanf(line, "\nUid: %u %u", &real, &effective) == 2 && effective == uid;
}

static void take_process(void *ctx, pid_t pid)
{
	struct search *s = ctx;
	struct session *session = &s->sessions[s->nsessions];
	char title[TITLE_BYTES];
	struct proc_info info;
	struct slice user;
	uid_t uid;

	if (s->nsessions == SESSIONS_MAX || proc_read(pid, "cmdline", title, sizeof title) <= 0)
		return;
	user = sshpeers_title_user(slice_str(title));
	if (!user.n || user.n >= sizeof session->user)
		return;
	*session = (struct session){.pid = pid};
	memcpy(session->user, user.p, user.n);
	if (!is_sshd(pid) || !is_admin(session->user, &uid) || !runs_as(pid, uid))
		return;
	session->is_root = uid == 0;
	if (proc_info(pid, &info) == 0 && is_sshd(info.ppid) && runs_as(info.ppid, 0))
		session->monitor = info.ppid;
	s->nsessions++;
}

static void take_fd(void *ctx, const struct proc_fd *fd)
{
	struct search *s = ctx;

	if (fd->type != PROC_FD_SOCKET || s->nsockets >= (s->nsessions + 1) * SOCKETS_EACH)
		return;
	s->sockets[s->nsockets++] = (struct session_socket){
		.inode = fd->ino, .session = (uint32_t)s->nsessions, /* the one in hand */
	};
}

static void take_monitor_fd(void *ctx, const struct proc_fd *fd)
{
	struct search *s = ctx;

	for (size_t i = 0; fd->type == PROC_FD_SOCKET && i < s->nsockets; i++)
		s->sockets[i].shared |= s->sockets[i].inode == fd->ino;
}

static void take_sockets(struct search *s)
{
	size_t n = s->nsessions;

	for (s->nsessions = 0; s->nsessions < n; s->nsessions++) {
		const struct session *session = &s->sessions[s->nsessions];

		proc_fds(session->pid, take_fd, s, &s->scan);
		if (session->monitor)
			proc_fds(session->monitor, take_monitor_fd, s, &s->scan);
	}
}

static struct session_socket *find_socket(struct search *s, uint32_t inode)
{
	for (size_t i = 0; inode && i < s->nsockets; i++)
		if (s->sockets[i].inode == inode)
			return &s->sockets[i];
	return NULL;
}

static void take_diag(void *ctx, const struct sock_info *sock)
{
	struct search *s = ctx;
	struct session_socket *mine = find_socket(s, sock->inode);

	if (sock->state == TCP_LISTEN) {
		if (!mine)
			s->listening[sock->lport / 8] |= (uint8_t)(1u << sock->lport % 8);
	} else if (mine) {
		mine->is_peer = true;
		mine->peer = sock->peer;
		mine->lport = sock->lport;
	}
}

static void add(struct sshpeers *ret, const struct addr *addr, const char *user)
{
	struct sshpeer *peer = &ret->peers[ret->count];
	char text[SSHPEERS_USER_BYTES];

	if (addr_is_loopback(addr) || addr_is_unspecified(addr))
		return;
	escape_text(text, sizeof text, slice_str(user));
	for (uint32_t i = 0; i < ret->count; i++)
		if (addr_eq(&ret->peers[i].addr, addr) && strcmp(ret->peers[i].user, text) == 0)
			return;
	if (ret->count == SSHPEERS_MAX) {
		ret->left_out++;
		return;
	}
	peer->addr = *addr;
	memcpy(peer->user, text, sizeof text);
	ret->count++;
}

static int from_sockets(struct search *s)
{
	struct sockdiag sd;
	int r = sockdiag_open(&sd, NULL);

	if (r < 0)
		return r;
	r = sockdiag_each(&sd, AF_UNSPEC, SOCK_LISTENING | SOCK_STATE(TCP_ESTABLISHED), 0,
			  take_diag, s);
	sockdiag_close(&sd);
	for (size_t i = 0; i < s->nsockets; i++) {
		const struct session_socket *k = &s->sockets[i];
		bool accepted = s->listening[k->lport / 8] & (1u << k->lport % 8);

		if (k->is_peer && (k->shared || (accepted && s->sessions[k->session].is_root)))
			add(s->ret, &k->peer, s->sessions[k->session].user);
	}
	return r;
}

static int from_processes(struct sshpeers *ret)
{
	struct search *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	s->ret = ret;
	r = proc_each(take_process, s, &s->scan);
	if (r == 0 && s->nsessions) {
		take_sockets(s);
		r = from_sockets(s);
	}
	free(s);
	return r;
}

/* An IPv4 address lies in the first word, the others are zero. */
static struct addr utmp_addr(const int32_t words[4])
{
	if (!words[1] && !words[2] && !words[3])
		return addr_from_ipv4(words);
	return addr_from_ipv6(words);
}

static void from_utmp(const char *utmp, struct sshpeers *ret)
{
	const struct utmpx *ut;
	char user[SSHPEERS_USER_BYTES];
	struct addr addr;
	uid_t uid;

	utmpxname(utmp ? utmp : _PATH_UTMP);
	setutxent();
	while ((ut = getutxent())) {
		if (ut->ut_type != USER_PROCESS || ut->ut_pid <= 0)
			continue;
		memcpy(user, ut->ut_user, sizeof ut->ut_user);
		user[sizeof ut->ut_user] = 0;
		addr = utmp_addr(ut->ut_addr_v6);
		if (addr_is_unspecified(&addr) || !is_admin(user, &uid))
			continue;
		if (kill(ut->ut_pid, 0) == 0 || errno == EPERM)
			add(ret, &addr, user);
	}
	endutxent();
}

int sshpeers_find(const char *utmp, struct sshpeers *ret_peers)
{
	int r;

	memset(ret_peers, 0, sizeof *ret_peers);
	r = from_processes(ret_peers);
	from_utmp(utmp, ret_peers);
	return r;
}
