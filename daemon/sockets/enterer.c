/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Into another network namespace and out with sockets: see enterer.h. Every failure ends in an
 * answer; a receiver that is gone ends it silently. */
#include "daemon/sockets/enterer.h"
#include "daemon/base/hostaddr.h"
#include "daemon/base/message.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int enterer_protocol(enum enterer_socket which)
{
	return which == ENTERER_NFNETLINK ? NETLINK_NETFILTER : NETLINK_SOCK_DIAG;
}

/* The descriptor of the process' namespace, or errno. */
static int namespace_of(const struct enterer_question *q, uint32_t *step)
{
	char path[48];
	int fd, r = 0;

	*step = ENTERER_SEE;
	snprintf(path, sizeof path, "/proc/%d/ns/net", q->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		r = -errno;
	if (!proc_same(q->pid, q->start_time)) {
		*step = ENTERER_FIND;
		r = -ESRCH;
	}
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int pass_sockets(int to)
{
	for (uint32_t i = 0; i < ENTERER_SOCKETS; i++) {
		const struct enterer_socket_message m = {i};
		int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
				enterer_protocol((enum enterer_socket)i));
		int r = fd < 0 ? -errno : message_send(to, ENTERER_PASS, &m, sizeof m, fd);

		if (fd >= 0)
			close(fd);
		if (r < 0)
			return r;
	}
	return 0;
}

static int enter(const struct enterer_question *q, int to, uint32_t *step)
{
	int fd = namespace_of(q, step), r = 0;

	if (fd < 0)
		return fd;
	*step = ENTERER_ENTER;
	if (setns(fd, CLONE_NEWNET) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		return r;
	*step = ENTERER_OPEN;
	return pass_sockets(to);
}

/* Without them the others are told all the same. */
static void take_own(struct enterer_answer *a)
{
	struct netlist own, gateways;

	if (hostaddr_read(&own, &gateways) < 0)
		return;
	for (size_t i = 0; i < gateways.count && i < ENTERER_GATEWAYS_MAX; i++)
		a->gateways[i] = gateways.nets[i];
	a->gateway_count = (uint32_t)gateways.count;
	for (size_t i = 0; i < own.count && a->own_count < ENTERER_OWN_MAX; i++)
		if (own.nets[i].plen == addr_bits(&own.nets[i]) && !addr_is_loopback(&own.nets[i]))
			a->own[a->own_count++] = own.nets[i];
	netlist_free(&own);
	netlist_free(&gateways);
}

int enterer_run(void *question, int fd)
{
	const struct enterer_question *q = question;
	static struct enterer_answer a;

	a.error = enter(q, fd, &a.step);
	if (a.error == 0) {
		a.step = ENTERER_LOOK;
		prober_handle(&q->log, &a.found);
		a.error = a.found.error;
		take_own(&a);
	}
	return message_send(fd, ENTERER_ANSWER, &a, sizeof a, -1) < 0;
}

const char *enterer_error(int error, uint32_t step, char *buf, size_t size)
{
#define TEXT(name, text) [name] = (text),
	static const char *const texts[] = {ENTERER_STEPS(TEXT)};
#undef TEXT
	const char *right = step == ENTERER_ENTER ? " (CAP_SYS_ADMIN)" : " (CAP_SYS_PTRACE)";

	if (step >= ENTERER_STEP_COUNT)
		step = ENTERER_LOOK;
	if (step == ENTERER_FIND)
		snprintf(buf, size, "%s", texts[step]);
	else
		snprintf(buf, size, "%s: %s%s", texts[step], error_name(error),
			 error == -EPERM || error == -EACCES ? right : "");
	return buf;
}
