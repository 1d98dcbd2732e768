/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processes and their rights: see process.h. A child that cannot limit itself says why in the log
 * and exits with status 3; it never runs with more rights than its row.
 */
#include "daemon/base/process.h"
#include "daemon/base/log.h"
#include "daemon/base/message.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <unistd.h>

const struct process_row process_table[PROCESS_NAMES] = {
	[PROCESS_ENFORCER] =
		{
			.name = "tailband",
			.user = PROCESS_ROOT,
			.effective = PROCESS_CAP(CAP_NET_ADMIN) | PROCESS_CAP(CAP_KILL) |
				     PROCESS_CAP(CAP_CHOWN) | PROCESS_CAP(CAP_DAC_READ_SEARCH),
			.permitted_only = PROCESS_CAP(CAP_SETUID) | PROCESS_CAP(CAP_SETGID) |
					  PROCESS_CAP(CAP_SETPCAP) | PROCESS_CAP(CAP_SYS_PTRACE) |
					  PROCESS_CAP(CAP_SYS_RESOURCE) |
					  PROCESS_CAP(CAP_SYS_ADMIN),
			.no_new_privs = true,
			.noroot = true,
		},
	/* Command actions are the administrator's own scripts: whatever root may do, they may do.
	 */
	[PROCESS_RUNNER] = {.name = "tailban-runner",
			    .user = PROCESS_ROOT,
			    .effective = UINT64_MAX},
	[PROCESS_PROBER] =
		{
			.name = "tailban-prober",
			.user = PROCESS_ENGINE,
			.effective = PROCESS_CAP(CAP_SYS_PTRACE) | PROCESS_CAP(CAP_DAC_READ_SEARCH),
			.no_new_privs = true,
			.noroot = true,
		},
	/* The same program as the prober: a look at all of /proc must not keep a census waiting. */
	[PROCESS_CENSUS] =
		{
			.name = "tailban-census",
			.user = PROCESS_ENGINE,
			.effective = PROCESS_CAP(CAP_SYS_PTRACE) |
				     PROCESS_CAP(CAP_DAC_READ_SEARCH) |
				     PROCESS_CAP(CAP_SYS_RESOURCE),
			.no_new_privs = true,
			.noroot = true,
		},
	/* CAP_SYS_ADMIN for setns. CAP_NET_ADMIN because the kernel asks for it twice: of who uses
	 * a netlink socket, and of who opened it. */
	[PROCESS_ENTERER] =
		{
			.name = "tailban-enter",
			.user = PROCESS_ENGINE,
			.effective = PROCESS_CAP(CAP_SYS_ADMIN) | PROCESS_CAP(CAP_NET_ADMIN) |
				     PROCESS_CAP(CAP_SYS_PTRACE) | PROCESS_CAP(CAP_DAC_READ_SEARCH),
			.no_new_privs = true,
			.noroot = true,
		},
	[PROCESS_ENGINE_ROW] =
		{
			.name = "tailban-engine",
			.user = PROCESS_ENGINE,
			.no_new_privs = true,
			.noroot = true,
		},
};

static struct {
	uid_t uid;
	gid_t gid;
	bool known, fixed;
} engine_user;

/* The number of ids that this user namespace maps, 0 when it cannot be read. */
static unsigned long long mapped_ids(void)
{
	FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long long inside, outside, count, sum = 0;

	if (!f)
		return 0;
	while (fscanf(f, "%llu %llu %llu", &inside, &outside, &count) == 3)
		sum += count;
	fclose(f);
	return sum;
}

int process_users(const char *wanted, char *ret_warning, size_t size)
{
	struct passwd *pw = getpwnam(wanted);

	ret_warning[0] = 0;
	engine_user.known = true;
	if (getuid() != 0 || mapped_ids() == 1 || !process_can(CAP_SETUID) ||
	    !process_can(CAP_SETGID)) {
		engine_user.uid = getuid();
		engine_user.gid = getgid();
		engine_user.fixed = true;
		return 0;
	}
	if (!pw) {
		snprintf(ret_warning, size,
			 "the user '%s' does not exist, the engine runs as nobody", wanted);
		pw = getpwnam("nobody");
	}
	if (!pw)
		return -ENOENT;
	engine_user.uid = pw->pw_uid;
	engine_user.gid = pw->pw_gid;
	return 0;
}

uid_t process_engine_uid(void)
{
	return engine_user.known ? engine_user.uid : getuid();
}

gid_t process_engine_gid(void)
{
	return engine_user.known ? engine_user.gid : getgid();
}

const char *process_users_text(void)
{
	if (!engine_user.fixed)
		return "";
	if (getuid() == 0 && mapped_ids() != 1)
		return "CAP_SETUID or CAP_SETGID is missing: all processes share uid 0";
	return getuid() == 0 ? "this user namespace maps one id: all processes share uid 0"
			     : "not started as root: all processes share one uid";
}

bool process_can(int capability)
{
	return capng_get_caps_process() == 0 &&
	       capng_have_capability(CAPNG_EFFECTIVE, (unsigned)capability);
}

static int change_user(enum process_user user)
{
	if (user != PROCESS_ENGINE || engine_user.fixed)
		return 0;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(engine_user.gid, engine_user.gid, engine_user.gid) < 0 ||
	    setresuid(engine_user.uid, engine_user.uid, engine_user.uid) < 0)
		return -errno;
	return 0;
}

/* Sets exactly these of the capabilities that we have; what is missing is reported by who needs it.
 */
static int set_caps(uint64_t effective, uint64_t permitted)
{
	uint64_t have = 0;

	if (capng_get_caps_process() < 0)
		return -EPERM;
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (capng_have_capability(CAPNG_PERMITTED, cap))
			have |= PROCESS_CAP(cap);
	capng_clear(CAPNG_SELECT_CAPS);
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (permitted & have & PROCESS_CAP(cap))
			capng_update(CAPNG_ADD, CAPNG_PERMITTED, cap);
		if (effective & have & PROCESS_CAP(cap))
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, cap);
	}
	return capng_apply(CAPNG_SELECT_CAPS) < 0 ? -EPERM : 0;
}

int process_limit(enum process_name name, struct error *err)
{
	const struct process_row *row = &process_table[name];
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
	int r;

	prctl(PR_SET_NAME, row->name, 0, 0, 0);
	if (row->effective == UINT64_MAX)
		return 0;
	r = set_caps(UINT64_MAX, UINT64_MAX);
	if (r < 0)
		return error_set(err, r, "cannot raise the permitted capabilities: %s",
				 error_name(r));
	r = change_user(row->user);
	if (r < 0)
		return error_set(err, r, "cannot become the engine's user: %s", error_name(r));
	set_caps(UINT64_MAX, UINT64_MAX);
	/* Without CAP_SETPCAP (no root to begin with) uid 0 means nothing anyway. */
	if (row->noroot && process_can(CAP_SETPCAP) && prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return error_set(err, -errno, "cannot set the secure bits: %s", strerror(errno));
	if (row->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "cannot set no_new_privs: %s", strerror(errno));
	r = set_caps(row->effective, row->effective | row->permitted_only);
	if (r < 0)
		return error_set(err, r, "cannot drop capabilities: %s", error_name(r));
	return 0;
}

/* Closes all descriptors but stdio, the log, our end and keep[]; keep[] holds few, in any order. */
static void close_others(int fd, const int *keep, size_t nkeep)
{
	unsigned from = 3;
	int log = log_fd();

	for (;;) {
		unsigned next = UINT32_MAX;

		if (fd >= (int)from)
			next = (unsigned)fd;
		if (log >= (int)from && (unsigned)log < next)
			next = (unsigned)log;
		for (size_t i = 0; i < nkeep; i++)
			if (keep[i] >= (int)from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		if (next > from)
			close_range(from, next - 1, 0);
		if (next == UINT32_MAX)
			return;
		from = next + 1;
	}
}

static void reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, sig == SIGPIPE ? SIG_IGN : SIG_DFL);
	/* A terminal's Ctrl-C reaches the whole group; the enforcer ends its children itself. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void child(enum process_name name, pid_t parent, int (*run)(void *, int),
			    void *arg, int fd)
{
	struct error err = {0};

	reset_signals();
	if (process_limit(name, &err) < 0) {
		log_error(process_table[name].name, "%s", err.text);
		_exit(3);
	}
	/* After the change of user, which clears it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(0);
	_exit(run(arg, fd));
}

pid_t process_spawn(enum process_name name, int (*run)(void *arg, int fd), void *arg,
		    const int *keep, size_t nkeep, int *ret_fd, struct error *err)
{
	pid_t parent = getpid(), pid;
	int pair[2], r;

	r = message_pair(pair);
	if (r < 0)
		return error_set(err, r, "cannot make a socket pair: %s", error_name(r));
	pid = fork();
	if (pid < 0) {
		r = -errno;
		close(pair[0]);
		close(pair[1]);
		return error_set(err, r, "cannot start %s: %s", process_table[name].name,
				 error_name(r));
	}
	if (pid == 0) {
		/* syslog() would write to, and close, whatever gets its descriptor's number next.
		 */
		closelog();
		close_others(pair[1], keep, nkeep);
		child(name, parent, run, arg, pair[1]);
	}
	close(pair[1]);
	*ret_fd = pair[0];
	return pid;
}
