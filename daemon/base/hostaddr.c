/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Own addresses and gateways: see hostaddr.h. Fails with errno of the netlink socket. */
#include "daemon/base/hostaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define TRIES 4 /* a dump that a change interrupted is taken again */
#define SEQUENCE 1u
#define READ_BYTES 32768 /* the kernel fills no longer datagrams */

struct reading {
	struct netlist *own, *gateways;
	bool interrupted;
	int error;
};

static void keep(struct reading *r, struct netlist *list, int family, const void *bytes)
{
	struct addr a;

	if (family == AF_INET)
		a = addr_from_ipv4(bytes);
	else if (family == AF_INET6)
		a = addr_from_ipv6(bytes);
	else
		return;
	if (!addr_is_unspecified(&a) && netlist_add(list, &a) < 0)
		r->error = -ENOMEM;
}

static bool has_address(const struct nlattr *attr, int family)
{
	return attr && mnl_attr_get_payload_len(attr) >= (family == AF_INET ? 4 : 16);
}

/* Attributes of one level by their type; a later one of the same type wins. */
static void sort_attrs(const struct nlattr **by_type, unsigned max, const void *first, size_t n)
{
	const struct nlattr *attr = first;
	int left = (int)n;

	while (mnl_attr_ok(attr, left)) {
		if (mnl_attr_get_type(attr) <= max)
			by_type[mnl_attr_get_type(attr)] = attr;
		left -= (int)MNL_ALIGN(attr->nla_len);
		attr = mnl_attr_next(attr);
	}
}

static void on_address(struct reading *r, const struct nlmsghdr *nlh)
{
	const struct ifaddrmsg *msg = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attrs[IFA_MAX + 1] = {0}, *own;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof *msg)
		return;
	sort_attrs(attrs, IFA_MAX, mnl_nlmsg_get_payload_offset(nlh, sizeof *msg),
		   mnl_nlmsg_get_payload_len(nlh) - MNL_ALIGN(sizeof *msg));
	/* On point-to-point links IFA_ADDRESS is the other end. */
	own = attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];
	if (has_address(own, msg->ifa_family))
		keep(r, r->own, msg->ifa_family, mnl_attr_get_payload(own));
}

static void keep_hop(struct reading *r, int family, const struct nlattr *gateway,
		     const struct nlattr *via)
{
	if (has_address(gateway, family))
		keep(r, r->gateways, family, mnl_attr_get_payload(gateway));
	if (via && mnl_attr_get_payload_len(via) > sizeof(struct rtvia)) {
		const struct rtvia *v = mnl_attr_get_payload(via);
		size_t n = mnl_attr_get_payload_len(via) - sizeof *v;

		if ((v->rtvia_family == AF_INET && n >= 4) ||
		    (v->rtvia_family == AF_INET6 && n >= 16))
			keep(r, r->gateways, v->rtvia_family, v->rtvia_addr);
	}
}

static void keep_multipath(struct reading *r, int family, const struct nlattr *multipath)
{
	const unsigned char *p = mnl_attr_get_payload(multipath);
	int left = mnl_attr_get_payload_len(multipath);

	while (left >= (int)sizeof(struct rtnexthop)) {
		const struct rtnexthop *hop = (const void *)p;
		const struct nlattr *attrs[RTA_MAX + 1] = {0};

		if (hop->rtnh_len < sizeof *hop || hop->rtnh_len > left)
			return;
		sort_attrs(attrs, RTA_MAX, p + sizeof *hop, hop->rtnh_len - sizeof *hop);
		keep_hop(r, family, attrs[RTA_GATEWAY], attrs[RTA_VIA]);
		if (RTNH_ALIGN(hop->rtnh_len) >= left)
			return;
		left -= RTNH_ALIGN(hop->rtnh_len);
		p += RTNH_ALIGN(hop->rtnh_len);
	}
}

static void keep_local(struct reading *r, const struct rtmsg *msg, const struct nlattr *dst)
{
	struct addr net;

	if (!has_address(dst, msg->rtm_family))
		return;
	net = msg->rtm_family == AF_INET ? addr_from_ipv4(mnl_attr_get_payload(dst))
					 : addr_from_ipv6(mnl_attr_get_payload(dst));
	net = addr_mask(net, msg->rtm_dst_len);
	if (netlist_add(r->own, &net) < 0)
		r->error = -ENOMEM;
}

static void on_route(struct reading *r, const struct nlmsghdr *nlh)
{
	const struct rtmsg *msg = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attrs[RTA_MAX + 1] = {0};

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof *msg)
		return;
	if (msg->rtm_family != AF_INET && msg->rtm_family != AF_INET6)
		return;
	sort_attrs(attrs, RTA_MAX, mnl_nlmsg_get_payload_offset(nlh, sizeof *msg),
		   mnl_nlmsg_get_payload_len(nlh) - MNL_ALIGN(sizeof *msg));
	if ((msg->rtm_type == RTN_LOCAL || msg->rtm_type == RTN_ANYCAST) && msg->rtm_dst_len > 1)
		keep_local(r, msg, attrs[RTA_DST]);
	if (msg->rtm_type != RTN_UNICAST || msg->rtm_dst_len > 1)
		return;
	keep_hop(r, msg->rtm_family, attrs[RTA_GATEWAY], attrs[RTA_VIA]);
	if (attrs[RTA_MULTIPATH])
		keep_multipath(r, msg->rtm_family, attrs[RTA_MULTIPATH]);
}

/* One datagram: 1 when the dump is complete, 0 when more comes, or errno. */
static int on_datagram(struct reading *r, const void *buf, int n)
{
	for (const struct nlmsghdr *nlh = buf; mnl_nlmsg_ok(nlh, n);
	     nlh = mnl_nlmsg_next(nlh, &n)) {
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			r->interrupted = true;
		if (nlh->nlmsg_type == NLMSG_DONE)
			return 1;
		if (nlh->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

			return mnl_nlmsg_get_payload_len(nlh) >= sizeof *e && e->error < 0
				       ? e->error
				       : -EPROTO;
		}
		if (nlh->nlmsg_type == RTM_NEWADDR)
			on_address(r, nlh);
		else if (nlh->nlmsg_type == RTM_NEWROUTE)
			on_route(r, nlh);
	}
	return 0;
}

/* One dump request and all of its answer. */
static int dump(struct mnl_socket *nl, uint16_t type, uint8_t family, struct reading *r)
{
	char buf[READ_BYTES] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	size_t head = type == RTM_GETADDR ? sizeof(struct ifaddrmsg) : sizeof(struct rtmsg);
	ssize_t n;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = SEQUENCE;
	/* The family is the first byte of both heads. */
	*(uint8_t *)mnl_nlmsg_put_extra_header(nlh, head) = family;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	for (int done = 0; !done;) {
		n = mnl_socket_recvfrom(nl, buf, sizeof buf);
		if (n < 0 && errno != EINTR)
			return -errno;
		done = n > 0 ? on_datagram(r, buf, (int)n) : 0;
		if (done < 0)
			return done;
	}
	return 0;
}

static int read_all(struct reading *r)
{
	static const struct timeval patience = {
		.tv_sec = 5}; /* the kernel answers at once or never */
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	int e;

	if (!nl)
		return -errno;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) <
		    0) {
		e = -errno;
		goto out;
	}
	e = dump(nl, RTM_GETADDR, AF_UNSPEC, r);
	if (!e)
		e = dump(nl, RTM_GETROUTE, AF_INET, r);
	if (!e) {
		e = dump(nl, RTM_GETROUTE, AF_INET6, r);
		if (e == -EOPNOTSUPP || e == -EAFNOSUPPORT) /* ipv6.disable=1 */
			e = 0;
	}
out:
	mnl_socket_close(nl);
	return e ? e : r->error;
}

int hostaddr_read(struct netlist *ret_own, struct netlist *ret_gateways)
{
	struct netlist own = {0}, gateways = {0};
	int e = -EINTR;

	*ret_own = *ret_gateways = (struct netlist){0};
	for (int i = 0; i < TRIES && e == -EINTR; i++) {
		struct reading r = {.own = &own, .gateways = &gateways};

		/* What an interrupted dump missed comes with the next; what is gone protects nobody
		 * longer. */
		own.count = gateways.count = 0;
		e = read_all(&r);
		if (!e && r.interrupted && i + 1 < TRIES)
			e = -EINTR; /* a router that never rests: the last try has to do */
	}
	if (e) {
		netlist_free(&own);
		netlist_free(&gateways);
		return e;
	}
	netlist_seal(&own);
	netlist_seal(&gateways);
	*ret_own = own;
	*ret_gateways = gateways;
	return 0;
}

int hostaddr_watch(void)
{
	struct sockaddr_nl name = {.nl_family = AF_NETLINK,
				   .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
						RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	int e;

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&name, sizeof name) == 0)
		return fd;
	e = -errno;
	close(fd);
	return e;
}

static bool matters(const struct nlmsghdr *nlh)
{
	const struct rtmsg *msg = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_type != RTM_NEWROUTE && nlh->nlmsg_type != RTM_DELROUTE)
		return nlh->nlmsg_type == RTM_NEWADDR || nlh->nlmsg_type == RTM_DELADDR;
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof *msg)
		return false;
	return msg->rtm_dst_len <= 1 || msg->rtm_type == RTN_LOCAL || msg->rtm_type == RTN_ANYCAST;
}

bool hostaddr_changed(int fd)
{
	char buf[8192] __attribute__((aligned(8)));
	bool changed = false;
	ssize_t got;

	while ((got = recv(fd, buf, sizeof buf, 0)) > 0 ||
	       (got < 0 && (errno == EINTR || errno == ENOBUFS))) {
		int n = (int)got;

		changed |= got < 0 && errno == ENOBUFS;
		for (const struct nlmsghdr *nlh = (const void *)buf;
		     got > 0 && mnl_nlmsg_ok(nlh, n); nlh = mnl_nlmsg_next(nlh, &n))
			changed |= matters(nlh);
	}
	return changed;
}
