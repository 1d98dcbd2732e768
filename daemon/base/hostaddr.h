/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * This host's own addresses and default gateways, by rtnetlink (libmnl), in this network namespace.
 *
 * Own addresses: those of all interfaces, and what routes of type local and anycast deliver to this
 * host (AnyIP: `ip route add local 192.0.2.0/24 dev lo`). Loopback is in it. Gateways: next hops of
 * default routes of every routing table, both families, multipath and IPv6 next hops of IPv4 routes
 * included; a route of length 1 counts as half a default route, as VPN clients set them. Link-local
 * gateways (fe80::1) are kept without their interface.
 *
 * Needs no privilege. A host with a full Internet table pays for a dump of it.
 */
#ifndef TAILBAN_BASE_HOSTADDR_H
#define TAILBAN_BASE_HOSTADDR_H

#include "daemon/base/netlist.h"

/* Fills both lists (sealed); the caller frees them. 0 or errno, then both are empty. */
int hostaddr_read(struct netlist *ret_own, struct netlist *ret_gateways);

/*
 * A socket that becomes readable when addresses or routes change (non-blocking, close-on-exec), or
 * errno. hostaddr_changed empties it and says whether reading again is worth while.
 */
int hostaddr_watch(void);
bool hostaddr_changed(int fd);

#endif
