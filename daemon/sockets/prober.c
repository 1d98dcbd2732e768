/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions to the prober: see prober.h. A question that breaks its form is answered with -EINVAL.
 */
#include "daemon/sockets/prober.h"
#include "daemon/base/clock.h"
#include "daemon/base/message.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- one question, one answer ----------------------------------------------------------------- */

static bool is_net(const struct addr *a)
{
	return (a->family == ADDR_IPV4 || a->family == ADDR_IPV6) && a->plen <= addr_bits(a);
}

static int listener(const struct prober_question *q, struct owner *ret_owner)
{
	struct netlist proxies = {0};
	int r = 0;

	if (q->nproxies > PROBER_PROXIES_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < q->nproxies && r == 0; i++)
		r = is_net(&q->proxies[i]) ? netlist_add(&proxies, &q->proxies[i]) : -EINVAL;
	if (r == 0) {
		netlist_seal(&proxies);
		r = owner_find(q->dev, q->ino, &proxies, ret_owner);
	}
	netlist_free(&proxies);
	return r;
}

void prober_handle(const struct prober_question *question, struct prober_answer *ret_answer)
{
	memset(ret_answer, 0, sizeof *ret_answer);
	ret_answer->kind = question->kind;
	ret_answer->token = question->token;
	switch (question->kind) {
	case PROBER_LISTENER:
		ret_answer->error = listener(question, &ret_answer->owner);
		break;
	case PROBER_SSHPEERS:
		ret_answer->error = sshpeers_find(NULL, &ret_answer->ssh);
		break;
	default:
		ret_answer->error = -EINVAL;
	}
}

/* --- messages --------------------------------------------------------------------------------- */

struct watch {
	struct census *census;
	struct sockdiag sd;
	bool open;
	uint32_t generation;
};

struct prober {
	int fd;
	struct watch watches[PROBER_WATCHES_MAX];
};

struct answer_message {
	struct message_head head;
	union {
		struct prober_answer answer;
		struct prober_report report;
		struct prober_offence offences[PROBER_BATCH];
		struct prober_cut cuts[PROBER_BATCH];
	};
};

struct question_message {
	struct message_head head;
	union {
		struct prober_question question;
		struct prober_census census;
	};
};

/* Waits while the other end reads slowly. False when it is gone. */
static bool say(struct prober *p, struct answer_message *m, uint32_t type, uint32_t count,
		size_t entry_bytes)
{
	struct pollfd room = {.fd = p->fd, .events = POLLOUT};

	m->head = (struct message_head){type, count};
	while (send(p->fd, m, sizeof m->head + count * entry_bytes, MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
			return false;
		if (poll(&room, 1, -1) < 0 && errno != EINTR)
			return false;
	}
	return true;
}

/* --- the census ------------------------------------------------------------------------------- */

static void close_watch(struct watch *w)
{
	census_free(w->census);
	if (w->open)
		sockdiag_close(&w->sd);
	*w = (struct watch){0};
}

/* Takes netns_fd over. */
static int open_watch(struct watch *w, const struct prober_census *q, int netns_fd)
{
	int r;

	close_watch(w);
	w->generation = q->generation;
	if (q->netns)
		r = netns_fd < 0 ? -EBADF : sockdiag_from_fd(&w->sd, netns_fd, NULL);
	else
		r = sockdiag_open(&w->sd, NULL);
	if (r < 0)
		return r;
	w->open = true;
	w->census = census_new();
	return w->census ? 0 : -ENOMEM;
}

static bool say_offences(struct prober *p, const struct prober_census *q, const struct census *c,
			 uint32_t n, struct answer_message *out)
{
	uint32_t filled = 0;

	for (uint32_t i = 0; i < n; i++) {
		out->offences[filled] =
			(struct prober_offence){.watch = q->watch, .generation = q->generation};
		census_offence(c, i, &out->offences[filled++].offence);
		if (filled < PROBER_BATCH && i + 1 < n)
			continue;
		if (!say(p, out, PROBER_OFFENCES, filled, sizeof out->offences[0]))
			return false;
		filled = 0;
	}
	return true;
}

static bool say_cuts(struct prober *p, const struct prober_census *q, const struct census *c,
		     uint32_t n, struct answer_message *out)
{
	uint32_t filled = 0;

	for (uint32_t i = 0; i < n; i++) {
		out->cuts[filled] =
			(struct prober_cut){.watch = q->watch, .generation = q->generation};
		census_cut(c, i, &out->cuts[filled++].cut);
		if (filled < PROBER_BATCH && i + 1 < n)
			continue;
		if (!say(p, out, PROBER_CUTS, filled, sizeof out->cuts[0]))
			return false;
		filled = 0;
	}
	return true;
}

static bool rule_is_sound(const struct census_rule *rule)
{
	return rule->nports <= CENSUS_PORTS_MAX && rule->ipv4_prefix <= 32 &&
	       rule->ipv6_prefix <= 128 && rule->limits.descriptors <= 100;
}

/* Takes netns_fd over. */
static int take_census(struct prober *p, const struct prober_census *q, int netns_fd,
		       struct census_report *ret_report)
{
	struct watch *w;
	int r = 0;

	if (q->watch >= PROBER_WATCHES_MAX || !rule_is_sound(&q->rule) ||
	    (netns_fd >= 0 && !q->netns)) {
		if (netns_fd >= 0)
			close(netns_fd);
		return -EINVAL;
	}
	w = &p->watches[q->watch];
	if (!w->census || w->generation != q->generation || netns_fd >= 0)
		r = open_watch(w, q, netns_fd);
	if (r == 0)
		r = census_take(w->census, &q->rule, &w->sd, q->raise,
				clock_now().mono_ns / CLOCK_MSEC_NS, ret_report);
	if (r < 0)
		close_watch(w);
	return r;
}

static bool answer_census(struct prober *p, const struct prober_census *q, int netns_fd,
			  struct answer_message *out)
{
	struct census_report report = {.next_ms = CENSUS_CALM_MS};
	int r = take_census(p, q, netns_fd, &report);
	const struct census *c;

	if (r < 0)
		report.error = r;
	c = r < 0 ? NULL : p->watches[q->watch].census;
	if (c && (!say_offences(p, q, c, report.noffences, out) ||
		  !say_cuts(p, q, c, report.ncuts, out)))
		return false;
	out->report = (struct prober_report){q->watch, q->generation, report};
	if (report.sockets > 4096)
		malloc_trim(0);
	return say(p, out, PROBER_CENSUS, 1, sizeof out->report);
}

/* --- the process ------------------------------------------------------------------------------ */

/* The length, 0 when the other end is closed, or negative errno. *ret_fd -1: none came along. */
static ssize_t receive(int fd, struct question_message *in, int *ret_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {in, sizeof *in};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof control.bytes};
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*ret_fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
	return n < 0 ? -errno : n;
}

static bool answer(struct prober *p, const struct question_message *in, size_t n, int netns_fd,
		   struct answer_message *out)
{
	if (in->head.type == PROBER_CENSUS && n == sizeof in->head + sizeof in->census &&
	    in->census.rule.nports)
		return answer_census(p, &in->census, netns_fd, out);
	if (netns_fd >= 0)
		close(netns_fd);
	if (in->head.type == PROBER_CENSUS && n == sizeof in->head + sizeof in->census &&
	    in->census.watch < PROBER_WATCHES_MAX)
		close_watch(&p->watches[in->census.watch]);
	if (in->head.type != PROBER_ASK || n != sizeof in->head + sizeof in->question)
		return true;
	prober_handle(&in->question, &out->answer);
	malloc_trim(0); /* a look at all of /proc takes megabytes, for a moment */
	return say(p, out, PROBER_ASK, 1, sizeof out->answer);
}

int prober_run(void *arg, int fd)
{
	static struct answer_message out;
	static struct prober p;
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	struct question_message in;

	(void)arg;
	p.fd = fd;
	for (;;) {
		int netns_fd;
		ssize_t n;

		if (poll(&ready, 1, -1) < 0 && errno != EINTR)
			return 4;
		n = receive(fd, &in, &netns_fd);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n <= 0 || !answer(&p, &in, (size_t)n, netns_fd, &out))
			return 0;
	}
}
