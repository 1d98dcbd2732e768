/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a ban costs in the kernel: single, in bursts, by the million, repaired, adopted; and the
 * same element by spawning nft, in the same run. Needs root or user namespaces; takes about half a
 * minute.
 *
 *	bench_firewall [number of bans of the load, default 1000000]
 */
#include <errno.h>
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/enforcer/firewall.h"

#define SINGLES 2000
#define SPAWNS 60

extern char **environ;

static struct inforce inforce;
static struct firewall *fw;

static double seconds(void)
{
	return (double)clock_now().mono_ns / 1e9;
}

/* Of this process, the kernel's work for it included: what a busy machine does not blur. */
static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_firewall: %s: %s\n", what, why);
	exit(1);
}

static void open_all(uint32_t max)
{
	struct firewall_options options = {.inforce = &inforce, .maxbans = max};
	struct error err = {0};

	if (inforce_init(&inforce, max) < 0)
		die("memory", "none");
	if (firewall_open(&options, clock_now(), &fw, &err) < 0 ||
	    firewall_adopt(fw, clock_now(), &err) < 0)
		die("firewall", err.text);
}

static void close_all(void)
{
	firewall_close(fw);
	inforce_fini(&inforce);
}

static void put(uint32_t i, struct now now)
{
	uint8_t bytes[4] = {(uint8_t)(11 + (i >> 24)), (uint8_t)(i >> 16), (uint8_t)(i >> 8),
			    (uint8_t)i};
	struct inforce_ban ban = {.addr = addr_from_ipv4(bytes),
				  .end_ns = now.mono_ns + 3600 * CLOCK_SECOND_NS};

	firewall_ban(fw, &ban, NULL, now);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *values, unsigned count, double q)
{
	qsort(values, count, sizeof *values, ascending);
	return values[(unsigned)(q * (count - 1))];
}

/* One ban a transaction, as when one line arrives; also over bans that are there already. */
static double singles(const char *what, uint32_t from)
{
	static double took[SINGLES];
	double p50;

	for (uint32_t i = 0; i < SINGLES; i++) {
		double start = seconds();

		put(from + i, clock_now());
		firewall_commit(fw, clock_now());
		took[i] = (seconds() - start) * 1e6;
	}
	p50 = quantile(took, SINGLES, 0.5);
	printf("%-44s p50 %8.2f us  p99 %8.2f us\n", what, p50, quantile(took, SINGLES, 0.99));
	return p50;
}

static struct nlmsghdr *message(char *buf, size_t *used, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf + *used);
	struct nfgenmsg *head = mnl_nlmsg_put_extra_header(nlh, sizeof *head);
	bool bracket = type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END;

	nlh->nlmsg_type = bracket ? type : NFNL_SUBSYS_NFTABLES << 8 | type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	head->nfgen_family = bracket ? AF_UNSPEC : NFPROTO_INET;
	head->res_id = bracket ? htons(NFNL_SUBSYS_NFTABLES) : 0;
	return nlh;
}

/* The least that the kernel needs: one element, built by hand, one send, one recv. */
static void bare_add(struct mnl_socket *nl, uint32_t i)
{
	char buf[1024], answer[1024];
	size_t used = 0;
	struct nlmsghdr *nlh = message(buf, &used, NFNL_MSG_BATCH_BEGIN, 0);
	struct nlattr *list, *item, *key;

	used += nlh->nlmsg_len;
	nlh = message(buf, &used, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_ACK);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, "tailban");
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, "ban4");
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	item = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put_u32(nlh, NFTA_DATA_VALUE, htonl(0xc6120000 + i));
	mnl_attr_nest_end(nlh, key);
	mnl_attr_put_u64(nlh, NFTA_SET_ELEM_TIMEOUT, htobe64(3600000));
	mnl_attr_nest_end(nlh, item);
	mnl_attr_nest_end(nlh, list);
	used += nlh->nlmsg_len;
	nlh = message(buf, &used, NFNL_MSG_BATCH_END, 0);
	used += nlh->nlmsg_len;
	if (mnl_socket_sendto(nl, buf, used) < 0 ||
	    mnl_socket_recvfrom(nl, answer, sizeof answer) < 0)
		die("bare netlink", strerror(errno));
}

static double bare(void)
{
	static double took[SINGLES];
	struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
	double p50;

	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
		die("bare netlink", strerror(errno));
	for (uint32_t i = 0; i < SINGLES; i++) {
		double start = seconds();

		bare_add(nl, i);
		took[i] = (seconds() - start) * 1e6;
	}
	mnl_socket_close(nl);
	p50 = quantile(took, SINGLES, 0.5);
	printf("%-44s p50 %8.2f us  p99 %8.2f us\n", "one element, bare send and recv", p50,
	       quantile(took, SINGLES, 0.99));
	return p50;
}

static double spawns(void)
{
	static double took[SPAWNS];
	char element[64];
	char command[] = "nft\0add\0element\0inet\0tailban\0ban4";
	char *argv[] = {command,      command + 4,  command + 8, command + 16,
			command + 21, command + 29, element,     NULL};
	double p50;

	for (unsigned i = 0; i < SPAWNS; i++) {
		double start = seconds();
		int status = 0;
		pid_t pid;

		snprintf(element, sizeof element, "{ 198.51.100.%u timeout 1h }", i);
		if (posix_spawnp(&pid, "nft", NULL, NULL, argv, environ) != 0 ||
		    waitpid(pid, &status, 0) < 0 || status)
			die("nft", "cannot be run");
		took[i] = (seconds() - start) * 1e6;
	}
	p50 = quantile(took, SPAWNS, 0.5);
	printf("%-44s p50 %8.0f us  p99 %8.0f us\n", "the same by spawning nft", p50,
	       quantile(took, SPAWNS, 0.99));
	return p50;
}

static void burst(uint32_t from, uint32_t count, const char *what)
{
	double start = seconds(), cpu = cpu_seconds(), took;
	struct now now = clock_now();

	for (uint32_t i = 0; i < count; i++)
		put(from + i, now);
	firewall_commit(fw, now);
	took = seconds() - start;
	printf("%-44s %8.2f ms  %8.0f bans/s, %.2f us of CPU each\n", what, took * 1e3,
	       count / took, (cpu_seconds() - cpu) / count * 1e6);
}

static unsigned work_until_idle(double *ret_longest)
{
	unsigned calls = 0;
	double longest = 0;
	int delay;

	do {
		double start = seconds();

		delay = firewall_work(fw, clock_now());
		if (seconds() - start > longest)
			longest = seconds() - start;
		calls++;
	} while (delay == 0);
	*ret_longest = longest;
	return calls;
}

static void flush(void)
{
	double start, longest;
	unsigned calls;

	sleep(2); /* beyond the pace of repairs */
	if (system("nft flush ruleset") != 0)
		die("nft", "cannot flush");
	start = seconds();
	calls = work_until_idle(&longest);
	printf("%-44s %8.2f ms  in %u slices, longest %.1f ms, %u waiting\n", "flushed: all back",
	       (seconds() - start) * 1e3, calls, longest * 1e3, inforce.waiting);
}

static void count_drops(void *ctx, const struct inforce_ban *ban,
			const struct firewall_drops *drops)
{
	(void)ban;
	(void)drops;
	++*(uint32_t *)ctx;
}

static void counters(void)
{
	uint32_t cursor = UINT32_MAX, found = 0;
	double start = seconds(), longest = 0, before, took;
	int code;

	do {
		before = seconds();
		code = firewall_each_drops(fw, &cursor, 1000, clock_now(), count_drops, &found);
		took = seconds() - before;
		longest = took > longest ? took : longest;
	} while (code == 1);
	printf("%-44s %8.2f ms  of %u bans, longest slice %.2f ms\n", "drop counters",
	       (seconds() - start) * 1e3, found, longest * 1e3);
}

static void adopt(uint32_t max)
{
	double start;

	close_all();
	start = seconds();
	open_all(max);
	printf("%-44s %8.2f ms  %u bans\n", "restart: adopted", (seconds() - start) * 1e3,
	       inforce.count);
}

int main(int argc, char **argv)
{
	uint32_t load = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000, max;
	double ours, theirs, least;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		die("network namespace", strerror(errno));
	max = load + 100000;
	open_all(max);
	singles("one ban, empty set (warming up)", 0);
	ours = singles("one ban, small set", SINGLES);
	singles("the same bans again", SINGLES);
	least = bare();
	theirs = spawns();
	printf("%-44s %8.2f\n", "ratio ours / bare", ours / least);
	printf("%-44s %8.0f\n", "ratio nft / netlink", theirs / ours);
	burst(10000, 2000, "2,000 bans in one wake-up");
	firewall_work(fw, clock_now());
	flush();
	burst(20000, load - 20000, "load");
	singles("one ban, full load", load + 10000);
	counters();
	flush();
	adopt(max);
	firewall_remove(fw, NULL);
	close_all();
	return 0;
}
