/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sorted list of networks: see netlist.h. Only adding can fail, with -ENOMEM. */
#include "daemon/base/netlist.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int netlist_add(struct netlist *list, const struct addr *net)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 16;
		struct addr *grown = reallocarray(list->nets, room, sizeof *grown);

		if (!grown)
			return -ENOMEM;
		list->nets = grown;
		list->room = room;
	}
	list->nets[list->count++] = *net;
	list->sealed = false;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return addr_cmp(a, b);
}

void netlist_seal(struct netlist *list)
{
	size_t kept = 0;

	if (list->count)
		qsort(list->nets, list->count, sizeof list->nets[0], compare);
	for (size_t i = 0; i < list->count; i++)
		if (!kept || !addr_contains(&list->nets[kept - 1], &list->nets[i]))
			list->nets[kept++] = list->nets[i];
	list->count = kept;
	list->sealed = true;
}

/* How many entries sort before or at `a`. */
static size_t rank(const struct netlist *list, const struct addr *a)
{
	size_t low = 0, high = list->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (addr_cmp(&list->nets[middle], a) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct addr *netlist_find(const struct netlist *list, const struct addr *a)
{
	size_t at;

	assert(list->sealed || !list->count);
	at = rank(list, a);
	if (at && addr_contains(&list->nets[at - 1], a))
		return &list->nets[at - 1];
	return NULL;
}

const struct addr *netlist_touches(const struct netlist *list, const struct addr *net)
{
	const struct addr *holder = netlist_find(list, net);
	size_t at;

	if (holder)
		return holder;
	at = rank(list, net);
	if (at < list->count && addr_contains(net, &list->nets[at]))
		return &list->nets[at];
	return NULL;
}

void netlist_free(struct netlist *list)
{
	free(list->nets);
	*list = (struct netlist){0};
}
