/* SPDX-License-Identifier: GPL-2.0-or-later */
/* New set elements as the kernel announces them (NFNLGRP_NFTABLES); see bench.h. */
#include "tests/bench/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#define QUEUE_BYTES (16 << 20)

void watcher_open(struct watcher *w)
{
	struct error err = {0};

	if (netlink_open(&w->nl, NETLINK_NETFILTER, NFNLGRP_NFTABLES, QUEUE_BYTES, &err) < 0)
		bench_die("%s", err.text);
}

void watcher_close(struct watcher *w)
{
	netlink_close(&w->nl);
}

int watcher_fd(const struct watcher *w)
{
	return w->nl.fd;
}

static const struct nlattr *inner(const struct nlattr *nest, uint16_t type)
{
	struct nlattr *a;

	mnl_attr_for_each_nested(a, nest)
	{
		if (mnl_attr_get_type(a) == type)
			return a;
	}
	return NULL;
}

static void take_element(struct watcher *w, const struct nlattr *element)
{
	const struct nlattr *key = inner(element, NFTA_SET_ELEM_KEY);
	const struct nlattr *value = key ? inner(key, NFTA_DATA_VALUE) : NULL;
	uint32_t client;

	if (!value || mnl_attr_get_payload_len(value) != sizeof client)
		return;
	memcpy(&client, mnl_attr_get_payload(value), sizeof client);
	w->seen(w->ctx, ntohl(client));
}

static int take_message(void *ctx, const struct nlmsghdr *nlh)
{
	struct nlattr *a, *list = NULL;
	struct watcher *w = ctx;
	bool ours = false;

	if (nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM))
		return 0;
	mnl_attr_for_each(a, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) == NFTA_SET_ELEM_LIST_TABLE)
			ours = w->table && !strcmp(mnl_attr_get_str(a), w->table);
		if (mnl_attr_get_type(a) == NFTA_SET_ELEM_LIST_ELEMENTS)
			list = a;
	}
	if (!ours || !list)
		return 0;
	mnl_attr_for_each_nested(a, list)
	{
		take_element(w, a);
	}
	return 0;
}

void watcher_read(struct watcher *w)
{
	int n = netlink_events(&w->nl, take_message, w, 1 << 20);

	if (n < 0 && n != -EAGAIN)
		bench_die("notifications were lost: %s", strerror(-n));
}
