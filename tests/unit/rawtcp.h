/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second network namespace behind a veth pair, and TCP segments by hand from it.
 *
 * The test's own namespace is the server, 10.9.0.1 and 2001:db8:9::1. In the other one:
 *
 *	10.7.0.0/16, 2001:db8:7::/48	addresses of ordinary sockets (peer_connect)
 *	10.8.0.0/16, 2001:db8:8::/48	nobody's: what the server answers vanishes, as when spoofed
 *
 * A raw stack uses an address of nobody and reads the answers beside the kernel (raw_answer).
 */
#ifndef TAILBAN_TESTS_RAWTCP_H
#define TAILBAN_TESTS_RAWTCP_H

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "tests/unit/netns.h"

static int own_ns, peer_ns, raw_fd;
static struct sockaddr_ll raw_to;

static inline void in_ns(int ns)
{
	assert_int_equal(setns(ns, CLONE_NEWNET), 0);
}

static inline void sh(const char *command)
{
	if (NETNS_RUN("sh", "-ec", command) != 0)
		fail_msg("failed: %s", command);
}

static inline int this_ns(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Begins in the server's namespace and ends there. */
static inline void peer_open(void)
{
	char command[256];
	struct ifreq at = {.ifr_name = "veth1"};

	own_ns = this_ns();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	peer_ns = this_ns();
	sh("ip link set lo up");
	in_ns(own_ns);
	snprintf(command, sizeof command,
		 "ip link add veth0 address 02:00:00:00:00:01 type veth peer name veth1 "
		 "netns /proc/%d/fd/%d",
		 getpid(), peer_ns);
	sh(command);
	sh("ip addr add 10.9.0.1/24 dev veth0; ip addr add 2001:db8:9::1/64 dev veth0 nodad");
	sh("ip link set veth0 up");
	in_ns(peer_ns);
	sh("ip addr add 10.9.0.2/24 dev veth1; ip addr add 2001:db8:9::2/64 dev veth1 nodad");
	sh("ip link set veth1 up; ip route add local 10.7.0.0/16 dev lo");
	sh("ip -6 route add local 2001:db8:7::/48 dev lo");
	raw_fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	assert_true(raw_fd >= 0);
	assert_int_equal(ioctl(raw_fd, SIOCGIFINDEX, &at), 0);
	raw_to = (struct sockaddr_ll){.sll_family = AF_PACKET,
				      .sll_protocol = htons(ETH_P_ALL),
				      .sll_ifindex = at.ifr_ifindex,
				      .sll_halen = 6,
				      .sll_addr = {2, 0, 0, 0, 0, 1}};
	assert_int_equal(bind(raw_fd, (struct sockaddr *)&raw_to, sizeof raw_to), 0);
	in_ns(own_ns);
	sh("ip route add 10.7.0.0/16 via 10.9.0.2; ip route add 10.8.0.0/16 via 10.9.0.2");
	sh("ip -6 route add 2001:db8:7::/48 via 2001:db8:9::2");
	sh("ip -6 route add 2001:db8:8::/48 via 2001:db8:9::2");
}

/* --- Segments ----------------------------------------------------------------------------------
 */

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct segment {
	const char *from, *to;
	uint16_t from_port, to_port;
	uint8_t flags;
	uint32_t seq, ack;
	const char *data;
};

static inline uint32_t sum_up(const void *bytes, size_t size, uint32_t sum)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < size; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static inline uint16_t folded(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static inline size_t ip_header(const struct segment *s, uint8_t *buf, size_t payload,
			       uint32_t *ret_sum)
{
	struct ip ip = {.ip_hl = 5,
			.ip_v = 4,
			.ip_len = htons((uint16_t)(20 + payload)),
			.ip_ttl = 64,
			.ip_p = IPPROTO_TCP};
	struct ip6_hdr ip6 = {.ip6_flow = htonl(6u << 28),
			      .ip6_plen = htons((uint16_t)payload),
			      .ip6_nxt = IPPROTO_TCP,
			      .ip6_hlim = 64};

	*ret_sum = IPPROTO_TCP + (uint32_t)payload;
	if (inet_pton(AF_INET, s->from, &ip.ip_src) == 1) {
		assert_int_equal(inet_pton(AF_INET, s->to, &ip.ip_dst), 1);
		ip.ip_sum = folded(sum_up(&ip, 20, 0));
		memcpy(buf, &ip, 20);
		*ret_sum += sum_up(buf + 12, 8, 0);
		return 20;
	}
	assert_int_equal(inet_pton(AF_INET6, s->from, &ip6.ip6_src), 1);
	assert_int_equal(inet_pton(AF_INET6, s->to, &ip6.ip6_dst), 1);
	memcpy(buf, &ip6, 40);
	*ret_sum += sum_up(buf + 8, 32, 0);
	return 40;
}

static inline void raw_send(struct segment s)
{
	uint8_t buf[256] = {0};
	size_t data = s.data ? strlen(s.data) : 0, at;
	struct tcphdr tcp = {.source = htons(s.from_port),
			     .dest = htons(s.to_port),
			     .seq = htonl(s.seq),
			     .ack_seq = htonl(s.ack),
			     .doff = 5,
			     .window = htons(64000)};
	uint32_t sum;

	tcp.th_flags = s.flags;
	at = ip_header(&s, buf, 20 + data, &sum);
	memcpy(buf + at, &tcp, 20);
	if (data)
		memcpy(buf + at + 20, s.data, data);
	tcp.check = folded(sum_up(buf + at, 20 + data, sum));
	memcpy(buf + at, &tcp, 20);
	raw_to.sll_protocol = htons(at == 20 ? ETH_P_IP : ETH_P_IPV6);
	while (sendto(raw_fd, buf, at + 20 + data, 0, (struct sockaddr *)&raw_to, sizeof raw_to) <
	       0)
		assert_int_equal(errno, ENOBUFS);
}

static inline void raw_forget(void)
{
	char buf[2048];

	while (recv(raw_fd, buf, sizeof buf, 0) > 0)
		;
}

/* The server's SYN-ACK to that port of nobody; its sequence number. */
static inline uint32_t raw_answer(uint16_t port)
{
	struct pollfd p = {.fd = raw_fd, .events = POLLIN};
	uint8_t buf[2048];
	struct tcphdr tcp;
	ssize_t n;

	while (poll(&p, 1, 1000) > 0) {
		size_t at;

		n = recv(raw_fd, buf, sizeof buf, 0);
		if (n < 40)
			continue;
		at = buf[0] >> 4 == 4 ? 20 : 40;
		if ((size_t)n < at + sizeof tcp || buf[at == 20 ? 9 : 6] != IPPROTO_TCP)
			continue;
		memcpy(&tcp, buf + at, sizeof tcp);
		if (ntohs(tcp.dest) == port && tcp.th_flags == (SYN | ACK))
			return ntohl(tcp.seq);
	}
	fail_msg("no SYN-ACK for port %u", port);
	return 0;
}

/* --- Ordinary sockets ------------------------------------------------------------------------- */

/* from_port 0: any. */
static inline int peer_connect(const char *from, uint16_t from_port, const char *to, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t size = netns_sockaddr(from, from_port, &ss);
	int fd, yes = 1;

	in_ns(peer_ns);
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	in_ns(own_ns);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	setsockopt(fd, SOL_IP, IP_FREEBIND, &yes, sizeof yes);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, size), 0);
	size = netns_sockaddr(to, port, &ss);
	if (connect(fd, (struct sockaddr *)&ss, size) < 0)
		fail_msg("%s does not reach %s port %u: %s", from, to, port, strerror(errno));
	return fd;
}

/* Closes with a reset. */
static inline void hang_up(int fd)
{
	struct linger none = {1, 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	close(fd);
}

#endif
