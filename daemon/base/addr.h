/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses and networks as values.
 *
 * A struct addr is an address with a prefix length; a single host has the family's full length.
 * IPv4 lies in b[0..3], the other bytes are zero, so two values that mean the same are equal byte
 * by byte and can be hashed as they are. Host bits are zero wherever a prefix is shorter.
 *
 * Parsing is strict, because attackers write what is parsed: no names, no leading zeros
 * (192.030.0.6), no short forms (127.1), no ports. `::ffff:a.b.c.d` becomes the IPv4 address (a
 * dual-stack listener logs it so), a zone id (`fe80::1%eth0`) is checked for form and dropped:
 * python 2.7 and 3.6 log it, 3.7 and later do not.
 */
#ifndef TAILBAN_BASE_ADDR_H
#define TAILBAN_BASE_ADDR_H

#include "daemon/base/slice.h"

#define ADDR_STRLEN 64 /* room for any formatted address or network, terminator included */

enum addr_family { ADDR_NONE = 0, ADDR_IPV4 = 4, ADDR_IPV6 = 6 };

struct addr {
	uint8_t b[16];
	uint8_t family; /* enum addr_family */
	uint8_t plen;   /* prefix length in bits, <= addr_bits() */
};

/* Bits of the family: 32 or 128. */
static inline unsigned addr_bits(const struct addr *a)
{
	return a->family == ADDR_IPV4 ? 32 : 128;
}

/* Bytes of the family: 4 or 16. */
static inline unsigned addr_bytes(const struct addr *a)
{
	return a->family == ADDR_IPV4 ? 4 : 16;
}

static inline bool addr_eq(const struct addr *a, const struct addr *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

/* A host address, whole slice. 0 or -EINVAL. */
int addr_parse(struct slice text, struct addr *ret_addr);

/*
 * A host address or a network: ADDR, ADDR/LEN, ADDR/NETMASK (IPv4). Host bits are cleared.
 * An IPv4-mapped network (::ffff:10.0.0.0/104) becomes the IPv4 one. 0 or -EINVAL.
 */
int addr_parse_net(struct slice text, struct addr *ret_addr);

/* From the bytes of a struct in_addr or in6_addr; mapped addresses are folded. */
struct addr addr_from_ipv4(const void *bytes);
struct addr addr_from_ipv6(const void *bytes);

/* The network of `plen` bits around a; a itself when it is already shorter. */
struct addr addr_mask(struct addr a, unsigned plen);

/* True when every address of `inner` lies in `outer`. */
bool addr_contains(const struct addr *outer, const struct addr *inner);

/* Order: family, address bytes, prefix length (a network sorts before what it holds). */
int addr_cmp(const struct addr *a, const struct addr *b);

bool addr_is_loopback(const struct addr *a);    /* 127.0.0.0/8, ::1 */
bool addr_is_unspecified(const struct addr *a); /* 0.0.0.0/8 (this host), :: */
bool addr_is_multicast(const struct addr *a);   /* 224.0.0.0/4, 255.255.255.255, ff00::/8 */

/* Writes "192.0.2.1" or "2001:db8::/64" (no length for single hosts). Returns buf. */
const char *addr_format(const struct addr *a, char buf[static ADDR_STRLEN]);

#endif
