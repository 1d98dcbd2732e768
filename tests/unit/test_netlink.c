/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The netlink engine on rtnetlink, which every kernel has: batches, refusals, dumps. */
#include "tests/unit/netns.h"

#include <linux/rtnetlink.h>

#include "daemon/base/netlink.h"

static struct nlmsghdr *put_dellink(struct netlink_batch *batch, int index)
{
	struct nlmsghdr *nlh = netlink_batch_next(batch, RTM_DELLINK, 0);
	struct ifinfomsg *info;

	if (!nlh)
		return NULL;
	info = mnl_nlmsg_put_extra_header(nlh, sizeof *info);
	info->ifi_family = AF_UNSPEC;
	info->ifi_index = index;
	return nlh;
}

static struct nlmsghdr *put_getlink(struct netlink_batch *batch, int index)
{
	struct nlmsghdr *nlh = netlink_batch_next(batch, RTM_GETLINK, 0);
	struct ifinfomsg *info;

	info = mnl_nlmsg_put_extra_header(nlh, sizeof *info);
	info->ifi_family = AF_UNSPEC;
	info->ifi_index = index;
	return nlh;
}

struct refusals {
	unsigned count;
	uint32_t index[64];
	int error;
};

static void refused(void *ctx, uint32_t index, int error)
{
	struct refusals *r = ctx;

	r->index[r->count++ % 64] = index;
	r->error = error;
}

static int count_message(void *ctx, const struct nlmsghdr *nlh)
{
	(void)nlh;
	++*(unsigned *)ctx;
	return 0;
}

static void test_refusals_have_their_index(void **state)
{
	struct netlink nl;
	struct netlink_batch batch;
	struct refusals r = {0};

	(void)state;
	NEED_NETNS();
	assert_int_equal(netlink_open(&nl, NETLINK_ROUTE, 0, 0, NULL), 0);
	assert_int_equal(netlink_batch_init(&batch, 65536), 0);
	for (unsigned round = 0; round < 3; round++) {
		r = (struct refusals){0};
		netlink_batch_begin(&batch, &nl);
		put_getlink(&batch, 1);
		put_dellink(&batch, 777);
		put_getlink(&batch, 1);
		put_dellink(&batch, 778);
		put_getlink(&batch, 1);
		netlink_batch_ack(&batch);
		assert_int_equal(netlink_commit(&nl, &batch, refused, &r), -ENODEV);
		assert_int_equal(r.count, 2);
		assert_int_equal(r.index[0], 1);
		assert_int_equal(r.index[1], 3);
	}
	netlink_batch_fini(&batch);
	netlink_close(&nl);
}

static void test_query_gives_data(void **state)
{
	struct netlink nl;
	struct netlink_batch batch;
	unsigned messages = 0;

	(void)state;
	NEED_NETNS();
	assert_int_equal(netlink_open(&nl, NETLINK_ROUTE, 0, 1 << 20, NULL), 0);
	assert_int_equal(netlink_batch_init(&batch, 65536), 0);
	netlink_batch_begin(&batch, &nl);
	for (unsigned i = 0; i < 10; i++)
		put_getlink(&batch, 1);
	netlink_batch_ack(&batch);
	assert_int_equal(netlink_query(&nl, &batch, count_message, NULL, &messages), 0);
	assert_int_equal(messages, 10);
	netlink_batch_fini(&batch);
	netlink_close(&nl);
}

/* More refusals than the receive buffer holds: unknown, and the socket works afterwards. */
static void test_lost_answers(void **state)
{
	struct netlink nl;
	struct netlink_batch batch;
	struct refusals r = {0};
	unsigned sent = 0;

	(void)state;
	NEED_NETNS();
	assert_int_equal(netlink_open(&nl, NETLINK_ROUTE, 0, 8192, NULL), 0);
	nl.max_send = 200000;
	assert_int_equal(setsockopt(nl.fd, SOL_SOCKET, SO_SNDBUF, &(int){400000}, sizeof(int)), 0);
	assert_int_equal(netlink_batch_init(&batch, 200000), 0);
	netlink_batch_begin(&batch, &nl);
	while (sent < 1000 && put_dellink(&batch, 1000))
		sent++;
	netlink_batch_ack(&batch);
	assert_int_equal(netlink_commit(&nl, &batch, refused, &r), -ENOBUFS);
	netlink_batch_begin(&batch, &nl);
	put_getlink(&batch, 1);
	netlink_batch_ack(&batch);
	assert_int_equal(netlink_commit(&nl, &batch, refused, &r), 0);
	netlink_batch_fini(&batch);
	netlink_close(&nl);
}

static void test_batch_is_bounded(void **state)
{
	struct netlink nl;
	struct netlink_batch batch;
	unsigned put = 0;

	(void)state;
	NEED_NETNS();
	assert_int_equal(netlink_open(&nl, NETLINK_ROUTE, 0, 16384, NULL), 0);
	assert_int_equal(netlink_batch_init(&batch, 1 << 20), 0);
	netlink_batch_begin(&batch, &nl);
	while (put_getlink(&batch, 1) && netlink_batch_left(&batch) >= 2 * NETLINK_MESSAGE_MAX)
		put++;
	assert_in_range(put, 100, 2000); /* the socket's buffer decides, not the batch's */
	netlink_batch_ack(&batch);
	assert_int_not_equal(netlink_commit(&nl, &batch, NULL, NULL), -EMSGSIZE);
	netlink_batch_begin(&batch, &nl);
	while (put_getlink(&batch, 1) != NULL && batch.used < nl.max_send)
		if (netlink_batch_left(&batch) < NETLINK_MESSAGE_MAX)
			break;
	assert_null(netlink_batch_next(&batch, RTM_GETLINK, 0));
	netlink_batch_fini(&batch);
	netlink_close(&nl);
}

static void test_dump(void **state)
{
	char buf[256];
	struct netlink nl;
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	unsigned links = 0;

	(void)state;
	NEED_NETNS();
	nlh->nlmsg_type = RTM_GETLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	assert_int_equal(netlink_open(&nl, NETLINK_ROUTE, 0, 0, NULL), 0);
	assert_int_equal(netlink_dump(&nl, nlh, count_message, &links), 0);
	assert_true(links >= 1);
	assert_int_equal(netlink_dump_read(&nl, count_message, &links, 1), 0);
	nlh->nlmsg_type = 9999;
	assert_true(netlink_dump(&nl, nlh, count_message, &links) < 0);
	netlink_close(&nl);
	netlink_close(&nl);
}

static void test_open_errors(void **state)
{
	struct netlink nl;
	struct error err = {0};

	(void)state;
	assert_int_equal(netlink_open(&nl, 31, 0, 0, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.text, "netlink socket 31"));
	assert_null(nl.sock);
	assert_true(netlink_from_fd(&nl, -1, &err) < 0);
	netlink_close(&nl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals_have_their_index),
		cmocka_unit_test(test_query_gives_data),
		cmocka_unit_test(test_lost_answers),
		cmocka_unit_test(test_batch_is_bounded),
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_open_errors),
	};

	netns_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
