/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This machine and its kernel: see doctor.h. A file of /proc that is missing leaves out its line.
 */
#include "client/doctor.h"
#include "daemon/base/error.h"
#include "daemon/base/escape.h"
#include "daemon/base/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/landlock.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TOP 3u
#define FULL_PERCENT 95
#define TIGHT_PERCENT 80
#define TABLE "tailban"

static json_t *number(uint64_t n)
{
	return n > INT64_MAX ? json_null() : json_integer((json_int_t)n);
}

/* --- files of numbers ------------------------------------------------------------------------- */

/* How many of the file's numbers were read. */
static int read_numbers(const char *path, uint64_t n[static 3])
{
	FILE *f = fopen(path, "re");
	int got = 0;

	if (f) {
		got = fscanf(f, "%" SCNu64 " %" SCNu64 " %" SCNu64, &n[0], &n[1], &n[2]);
		fclose(f);
	}
	return got < 0 ? 0 : got;
}

static void set_sysctl(json_t *o, const char *key, const char *path)
{
	uint64_t n[3];

	if (read_numbers(path, n) > 0)
		json_object_set_new(o, key, number(n[0]));
}

static json_t *counters_json(const struct doctor *d)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < NETSTAT_COUNT; i++) {
		const struct netstat_counter before = netstat_counter(&d->counters[0], i),
					     after = netstat_counter(&d->counters[1], i);

		json_object_set_new(o, after.name,
				    json_pack("{s:o, s:o}", "total", number(after.value), "now",
					      number(after.value - before.value)));
	}
	return o;
}

/* --- descriptors of the machine --------------------------------------------------------------- */

struct top {
	struct {
		pid_t pid;
		int64_t fds;
	} list[TOP];
	size_t n;
	uint32_t hidden;
};

/* Most first. Where the kernel does not count, those of others cannot be counted either. */
static void take_process(void *ctx, pid_t pid)
{
	struct top *top = ctx;
	int64_t fds = budget_count_fds(pid);
	size_t at = 0;

	if (fds < 0) {
		top->hidden += fds == -EACCES;
		return;
	}
	while (at < top->n && top->list[at].fds >= fds)
		at++;
	if (at == TOP)
		return;
	if (top->n < TOP)
		top->n++;
	memmove(&top->list[at + 1], &top->list[at], (top->n - at - 1) * sizeof top->list[0]);
	top->list[at].pid = pid;
	top->list[at].fds = fds;
}

/* "python3 (pid 7) 256 of 256, ..." and the same as JSON. */
static void say_top(const struct top *top, json_t *list, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = 0;
	for (size_t i = 0; i < top->n && n < size; i++) {
		char comm[PROC_COMM_BYTES * ESCAPE_MAX_GROWTH], limit[DOCTOR_LIMIT_BYTES];
		uint64_t soft, hard;
		struct proc_info info;

		if (proc_info(top->list[i].pid, &info) < 0 ||
		    budget_limits(top->list[i].pid, &soft, &hard) < 0)
			continue;
		escape_text(comm, sizeof comm, slice_str(info.comm));
		n += (size_t)snprintf(buf + n, size - n, "%s%s (pid %d) %" PRId64 " of %s",
				      n ? ", " : "", comm, (int)info.pid, top->list[i].fds,
				      doctor_limit(soft, limit));
		json_array_append_new(list, json_pack("{s:i, s:s, s:I, s:o}", "pid", (int)info.pid,
						      "name", comm, "descriptors",
						      (json_int_t)top->list[i].fds, "soft",
						      number(soft)));
	}
}

static void judge_file_nr(struct doctor *d)
{
	struct proc_scan scan = {0};
	struct top top = {.n = 0};
	char most[300], max[DOCTOR_LIMIT_BYTES];
	json_t *list = json_array();
	uint64_t n[3], used;
	bool known = read_numbers("/proc/sys/fs/file-nr", n) == 3;

	proc_each(take_process, &top, &scan);
	say_top(&top, list, most, sizeof most);
	json_object_set_new(d->system, "most_descriptors", list);
	if (!known)
		return;
	used = n[2] && n[0] < UINT64_MAX / 100 ? n[0] * 100 / n[2] : 0;
	json_object_set_new(d->system, "file_nr", number(n[0]));
	json_object_set_new(d->system, "file_max", number(n[2]));
	findings_add(&d->findings,
		     used >= FULL_PERCENT    ? FINDING_FAIL
		     : used >= TIGHT_PERCENT ? FINDING_WARN
					     : FINDING_OK,
		     DOCTOR_MACHINE, "file-nr",
		     "%" PRIu64 " open on the machine (file-max: %s); most: %s", n[0],
		     doctor_limit(n[2], max), most);
	if (used >= TIGHT_PERCENT)
		findings_remedy(&d->findings, "sysctl -w fs.file-max=%" PRIu64, n[2] * 2);
}

static void judge_nofile(struct doctor *d)
{
	char soft[DOCTOR_LIMIT_BYTES], hard[DOCTOR_LIMIT_BYTES];
	struct rlimit own;

	if (getrlimit(RLIMIT_NOFILE, &own) < 0)
		return;
	json_object_set_new(d->system, "nofile",
			    json_pack("{s:o, s:o}", "soft", number(own.rlim_cur), "hard",
				      number(own.rlim_max)));
	set_sysctl(d->system, "nr_open", "/proc/sys/fs/nr_open");
	findings_add(&d->findings, FINDING_OK, DOCTOR_MACHINE, "nofile",
		     "%s for what is started from here (ulimit -n), at most %s (ulimit -Hn)",
		     doctor_limit(own.rlim_cur, soft), doctor_limit(own.rlim_max, hard));
}

/* --- sockets of the namespace (ss -s) --------------------------------------------------------- */

struct sockstat {
	uint64_t used, tcp, orphaned, time_wait;
};

static uint64_t word_after(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Adds what this file says. */
static bool read_sockstat(const char *path, struct sockstat *s)
{
	FILE *f = fopen(path, "re");
	char line[256];

	if (!f)
		return false;
	while (fgets(line, sizeof line, f)) {
		if (!strncmp(line, "sockets:", 8))
			s->used += word_after(line, "used ");
		if (strncmp(line, "TCP:", 4) != 0 && strncmp(line, "TCP6:", 5) != 0)
			continue;
		s->tcp += word_after(line, "inuse ");
		s->orphaned += word_after(line, "orphan ");
		s->time_wait += word_after(line, "tw ");
	}
	fclose(f);
	return true;
}

static void judge_sockstat(struct doctor *d)
{
	struct sockstat s = {0};

	if (!read_sockstat("/proc/self/net/sockstat", &s))
		return;
	read_sockstat("/proc/self/net/sockstat6", &s);
	json_object_set_new(d->system, "sockets",
			    json_pack("{s:o, s:o, s:o, s:o}", "used", number(s.used), "tcp",
				      number(s.tcp), "orphaned", number(s.orphaned), "time_wait",
				      number(s.time_wait)));
	findings_add(&d->findings, FINDING_OK, DOCTOR_MACHINE, "sockets",
		     "%" PRIu64 " in use here; of TCP %" PRIu64 ", in time-wait %" PRIu64
		     "; without a process, on the whole machine: %" PRIu64,
		     s.used, s.tcp, s.time_wait, s.orphaned);
}

/* --- the kernel ------------------------------------------------------------------------------- */

static int take_name(const struct nlattr *attr, void *ctx)
{
	bool *found = ctx;

	if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*found |= !strcmp(mnl_attr_get_str(attr), TABLE);
	return MNL_CB_OK;
}

static int take_table(void *ctx, const struct nlmsghdr *nlh)
{
	const struct nfgenmsg *head = mnl_nlmsg_get_payload(nlh);

	if (mnl_nlmsg_get_payload_len(nlh) >= sizeof *head && head->nfgen_family == NFPROTO_INET)
		mnl_attr_parse(nlh, sizeof *head, take_name, ctx);
	return 0;
}

/* Lists the tables: 0 or negative errno. */
static int look_at_tables(bool *ret_found)
{
	struct {
		struct nlmsghdr nlh;
		struct nfgenmsg head;
	} m = {.nlh = {.nlmsg_len = sizeof m,
		       .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
	       .head = {.nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0}};
	struct netlink nl;
	int r = netlink_open(&nl, NETLINK_NETFILTER, 0, 0, NULL);

	*ret_found = false;
	if (r < 0)
		return r;
	r = netlink_dump(&nl, &m.nlh, take_table, ret_found);
	netlink_close(&nl);
	return r == -EINTR ? 0 : r;
}

static void lacks(struct doctor *d, enum finding_level level, const char *what, const char *text,
		  const char *remedy)
{
	findings_add(&d->findings, level, DOCTOR_KERNEL, what, "%s", text);
	findings_remedy(&d->findings, "%s", remedy);
}

static void judge_nftables(struct doctor *d)
{
	bool found;
	int r = look_at_tables(&found);
	bool denied = r == -EPERM || r == -EACCES;

	json_object_set_new(d->kernel, "nftables", denied ? json_null() : json_boolean(r == 0));
	json_object_set_new(d->kernel, "table", r == 0 ? json_boolean(found) : json_null());
	if (denied)
		return;
	if (r < 0)
		lacks(d, FINDING_FAIL, "nftables",
		      "this kernel has none that can be used: no ban can be made",
		      "modprobe nf_tables, or a kernel with CONFIG_NF_TABLES and "
		      "CONFIG_NF_TABLES_INET");
	else if (d->status && !found)
		lacks(d, FINDING_FAIL, "nftables",
		      "the daemon runs, but its table inet " TABLE " is not in this network "
		      "namespace",
		      "run doctor where the daemon runs: nsenter -t PID -n tailban doctor");
}

static void judge_destroy(struct doctor *d)
{
	int r = sockdiag_can_destroy(d->sd);
	bool denied = r == -EPERM || r == -EACCES, can = r == 0 || r == -ENOENT;

	json_object_set_new(d->kernel, "destroy", denied ? json_null() : json_boolean(can));
	if (!can && !denied)
		lacks(d, FINDING_FAIL, "destroy",
		      "this kernel cannot close a peer's sockets (INET_DIAG_DESTROY): a ban gives "
		      "no "
		      "descriptor back",
		      "a kernel with CONFIG_INET_DIAG_DESTROY, or restart the service after bans");
}

static void judge_sandbox(struct doctor *d)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	uint32_t action = SECCOMP_RET_KILL_PROCESS;
	bool seccomp = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;

	json_object_set_new(d->kernel, "landlock_abi", json_integer(abi > 0 ? abi : 0));
	json_object_set_new(d->kernel, "seccomp", json_boolean(seccomp));
	if (abi <= 0)
		lacks(d, FINDING_WARN, "landlock", "not in this kernel, or switched off",
		      "boot with lsm=landlock,...: it fences in the process that parses logs");
	if (!seccomp)
		lacks(d, FINDING_WARN, "seccomp", "not in this kernel",
		      "a kernel with CONFIG_SECCOMP_FILTER");
}

static const char *or_not(json_t *value)
{
	return json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "?";
}

static void judge_kernel(struct doctor *d)
{
	struct utsname name;
	char release[120];

	if (uname(&name) < 0)
		return;
	escape_text(release, sizeof release, slice_str(name.release));
	json_object_set_new(d->kernel, "release", json_string(release));
	judge_nftables(d);
	judge_destroy(d);
	judge_sandbox(d);
	set_sysctl(d->kernel, "ptrace_scope", "/proc/sys/kernel/yama/ptrace_scope");
	findings_add(&d->findings, FINDING_OK, DOCTOR_KERNEL, "kernel",
		     "%s: nftables %s, kill of sockets %s, Landlock ABI %" JSON_INTEGER_FORMAT
		     ", seccomp %s",
		     release, or_not(json_object_get(d->kernel, "nftables")),
		     or_not(json_object_get(d->kernel, "destroy")),
		     json_integer_value(json_object_get(d->kernel, "landlock_abi")),
		     or_not(json_object_get(d->kernel, "seccomp")));
}

static void judge_rights(struct doctor *d)
{
	char user[VITALS_USER_BYTES];

	if (d->privileged)
		return;
	findings_add(
		&d->findings, FINDING_WARN, DOCTOR_MACHINE, "rights",
		"run by %s: processes of other users, the firewall and what only root may read "
		"are not seen",
		vitals_user(geteuid(), user));
	findings_remedy(&d->findings, "sudo tailban doctor");
}

void doctor_host(struct doctor *d)
{
	judge_rights(d);
	judge_file_nr(d);
	judge_nofile(d);
	judge_sockstat(d);
	set_sysctl(d->system, "tcp_syncookies", "/proc/sys/net/ipv4/tcp_syncookies");
	set_sysctl(d->system, "tcp_max_syn_backlog", "/proc/sys/net/ipv4/tcp_max_syn_backlog");
	set_sysctl(d->system, "somaxconn", "/proc/sys/net/core/somaxconn");
	json_object_set_new(d->system, "counters", counters_json(d));
	judge_kernel(d);
}
