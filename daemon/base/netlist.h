/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A list of addresses and networks with fast look-up: sorted, disjoint, binary search.
 *
 * Built by netlist_add, then netlist_seal once (sorts, drops what a wider entry covers); look-ups
 * need a sealed list. Adding after sealing unseals it. Memory is the list's own.
 */
#ifndef TAILBAN_BASE_NETLIST_H
#define TAILBAN_BASE_NETLIST_H

#include "daemon/base/addr.h"

struct netlist {
	struct addr *nets;
	size_t count, room;
	bool sealed;
};

/* 0 or -ENOMEM. */
int netlist_add(struct netlist *list, const struct addr *net);
void netlist_seal(struct netlist *list);

/* The entry that holds all of `a`, or NULL. */
const struct addr *netlist_find(const struct netlist *list, const struct addr *a);

/* An entry that lies inside `net` or holds it, or NULL: would a ban of `net` hit the list? */
const struct addr *netlist_touches(const struct netlist *list, const struct addr *net);

void netlist_free(struct netlist *list);

#endif
