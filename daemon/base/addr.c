/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses: see addr.h. Parsers fail with -EINVAL and leave the result alone. */
#include "daemon/base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

static const uint8_t mapped_head[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void clear_host_bits(struct addr *a)
{
	unsigned whole = a->plen / 8, rest = a->plen % 8, bytes = addr_bytes(a);

	if (whole < bytes && rest)
		a->b[whole] &= (uint8_t)(0xff00u >> rest);
	if (whole + (rest > 0) < bytes)
		memset(a->b + whole + (rest > 0), 0, bytes - whole - (rest > 0));
}

struct addr addr_from_ipv4(const void *bytes)
{
	struct addr a = {.family = ADDR_IPV4, .plen = 32};

	memcpy(a.b, bytes, 4);
	return a;
}

struct addr addr_from_ipv6(const void *bytes)
{
	struct addr a = {.family = ADDR_IPV6, .plen = 128};

	if (memcmp(bytes, mapped_head, sizeof mapped_head) == 0)
		return addr_from_ipv4((const char *)bytes + 12);
	memcpy(a.b, bytes, 16);
	return a;
}

/* A zone is an interface name or index: printable, no blank, no slash. */
static bool zone_ok(struct slice zone)
{
	if (zone.n == 0 || zone.n > 15)
		return false;
	for (size_t i = 0; i < zone.n; i++)
		if (zone.p[i] <= ' ' || zone.p[i] > '~' || zone.p[i] == '/' || zone.p[i] == '%')
			return false;
	return true;
}

/* The commonest case, by hand: inet_pton wants a terminated copy. */
static int parse_ipv4(struct slice text, struct addr *ret_addr)
{
	struct addr a = {.family = ADDR_IPV4, .plen = 32};
	size_t i = 0;

	for (unsigned part = 0; part < 4; part++) {
		unsigned value = 0, digits = 0;

		if (part && (i >= text.n || text.p[i++] != '.'))
			return -EINVAL;
		for (; i < text.n && (unsigned)(text.p[i] - '0') <= 9 && digits < 4; i++, digits++)
			value = value * 10 + (unsigned)(text.p[i] - '0');
		if (!digits || value > 255 || (digits > 1 && text.p[i - digits] == '0'))
			return -EINVAL;
		a.b[part] = (uint8_t)value;
	}
	if (i != text.n)
		return -EINVAL;
	*ret_addr = a;
	return 0;
}

static int parse_ipv6(struct slice text, struct addr *ret_addr)
{
	char buf[INET6_ADDRSTRLEN];
	unsigned char raw[16];
	size_t percent = slice_find(text, '%');

	if (percent < text.n) {
		if (!zone_ok(slice_skip(text, percent + 1)))
			return -EINVAL;
		text = slice_head(text, percent);
	}
	if (text.n >= sizeof buf || memchr(text.p, 0, text.n))
		return -EINVAL;
	memcpy(buf, text.p, text.n);
	buf[text.n] = 0;
	if (inet_pton(AF_INET6, buf, raw) != 1)
		return -EINVAL;
	*ret_addr = addr_from_ipv6(raw);
	return 0;
}

int addr_parse(struct slice text, struct addr *ret_addr)
{
	if (text.n < 2)
		return -EINVAL;
	if (slice_find(text, ':') == text.n)
		return parse_ipv4(text, ret_addr);
	return parse_ipv6(text, ret_addr);
}

/* The length of an IPv4 netmask such as 255.255.255.0, or -EINVAL for one with holes. */
static int netmask_length(struct slice text)
{
	struct addr mask;
	uint32_t bits;

	if (parse_ipv4(text, &mask) < 0)
		return -EINVAL;
	bits = (uint32_t)mask.b[0] << 24 | (uint32_t)mask.b[1] << 16 | (uint32_t)mask.b[2] << 8 |
	       mask.b[3];
	if (~bits & (~bits + 1))
		return -EINVAL;
	return __builtin_popcount(bits);
}

int addr_parse_net(struct slice text, struct addr *ret_addr)
{
	size_t slash = slice_find(text, '/');
	struct slice host = slice_head(text, slash), tail = slice_skip(text, slash + 1);
	bool written_v6 = slice_find(host, ':') < host.n;
	struct addr a;
	uint64_t plen;

	if (addr_parse(host, &a) < 0)
		return -EINVAL;
	if (slash == text.n) {
		*ret_addr = a;
		return 0;
	}
	if (slice_u64(tail, written_v6 ? 128 : 32, &plen) < 0) {
		int length = written_v6 ? -EINVAL : netmask_length(tail);

		if (length < 0)
			return -EINVAL;
		plen = (uint64_t)length;
	}
	if (written_v6 && a.family == ADDR_IPV4) {
		if (plen < 96)
			return -EINVAL;
		plen -= 96;
	}
	*ret_addr = addr_mask(a, (unsigned)plen);
	return 0;
}

struct addr addr_mask(struct addr a, unsigned plen)
{
	if (plen < a.plen) {
		a.plen = (uint8_t)plen;
		clear_host_bits(&a);
	}
	return a;
}

bool addr_contains(const struct addr *outer, const struct addr *inner)
{
	struct addr cut;

	if (outer->family != inner->family || outer->plen > inner->plen)
		return false;
	cut = addr_mask(*inner, outer->plen);
	return memcmp(cut.b, outer->b, sizeof cut.b) == 0;
}

int addr_cmp(const struct addr *a, const struct addr *b)
{
	int order;

	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	order = memcmp(a->b, b->b, sizeof a->b);
	if (order)
		return order;
	return (int)a->plen - (int)b->plen;
}

bool addr_is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = {[15] = 1};

	if (a->family == ADDR_IPV4)
		return a->b[0] == 127;
	return memcmp(a->b, one, sizeof one) == 0;
}

bool addr_is_unspecified(const struct addr *a)
{
	static const uint8_t zero[16];

	if (a->family == ADDR_IPV4)
		return a->b[0] == 0;
	return memcmp(a->b, zero, sizeof zero) == 0;
}

bool addr_is_multicast(const struct addr *a)
{
	static const uint8_t all_ones[4] = {255, 255, 255, 255};

	if (a->family == ADDR_IPV4)
		return (a->b[0] & 0xf0) == 224 || memcmp(a->b, all_ones, 4) == 0;
	return a->b[0] == 0xff;
}

const char *addr_format(const struct addr *a, char buf[static ADDR_STRLEN])
{
	if (a->family == ADDR_NONE) {
		memcpy(buf, "-", 2);
		return buf;
	}
	inet_ntop(a->family == ADDR_IPV4 ? AF_INET : AF_INET6, a->b, buf, ADDR_STRLEN);
	if (a->plen < addr_bits(a)) {
		size_t n = strlen(buf);

		snprintf(buf + n, ADDR_STRLEN - n, "/%u", a->plen);
	}
	return buf;
}
