/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the firewall's messages are made of: headers, brackets of a transaction, expressions of
 * rules, attributes of answers. Without memory an expression is left out, and the kernel refuses
 * the transaction for what is missing in it. */
#include "daemon/enforcer/firewall_impl.h"

#include <assert.h>
#include <errno.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <stdio.h>

#define RULE_TEXT 1536
#define LIST_ATTEMPTS 4

/* --- Headers --- */

struct nlmsghdr *firewall_message(struct netlink_batch *batch, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = netlink_batch_next(batch, NFNL_SUBSYS_NFTABLES << 8 | type, flags);
	struct nfgenmsg *head;

	if (!nlh)
		return NULL;
	head = mnl_nlmsg_put_extra_header(nlh, sizeof *head);
	head->nfgen_family = NFPROTO_INET;
	head->version = NFNETLINK_V0;
	return nlh;
}

static void put_bracket(struct netlink_batch *batch, uint16_t type)
{
	struct nlmsghdr *nlh = netlink_batch_next(batch, type, 0);
	struct nfgenmsg *head;

	assert(nlh);
	head = mnl_nlmsg_put_extra_header(nlh, sizeof *head);
	head->nfgen_family = AF_UNSPEC;
	head->version = NFNETLINK_V0;
	head->res_id = htons(NFNL_SUBSYS_NFTABLES);
}

void firewall_batch_begin(const struct netlink *nl, struct netlink_batch *batch)
{
	netlink_batch_begin(batch, nl);
	put_bracket(batch, NFNL_MSG_BATCH_BEGIN);
}

void firewall_batch_end(struct netlink_batch *batch)
{
	put_bracket(batch, NFNL_MSG_BATCH_END);
}

/* The attributes "table" and "set" have the numbers 1 and 2 in every kind of request. */
int firewall_list(struct netlink *nl, const char *table, const char *set, uint16_t type,
		  netlink_message *message, void *ctx)
{
	int code = -EINTR;

	for (unsigned attempt = 0; attempt < LIST_ATTEMPTS && code == -EINTR; attempt++) {
		char buf[NETLINK_MESSAGE_MAX];
		struct nlmsghdr *nlh =
			nftnl_nlmsg_build_hdr(buf, type, NFPROTO_INET, NLM_F_DUMP, 0);

		mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
		if (set)
			mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
		code = netlink_dump(nl, nlh, message, ctx);
	}
	return code == -ENOENT ? 0 : code;
}

/* --- Rules --- */

struct nftnl_rule *rule_new(const char *table, const char *chain)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (!rule)
		return NULL;
	nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, table);
	nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain);
	return rule;
}

void rule_free(struct nftnl_rule *rule)
{
	if (rule)
		nftnl_rule_free(rule);
}

void rule_add(struct nftnl_rule *rule, struct nftnl_expr *e)
{
	if (e)
		nftnl_rule_add_expr(rule, e);
}

void rule_put(struct netlink_batch *batch, struct nftnl_rule *rule)
{
	struct nlmsghdr *nlh =
		firewall_message(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);

	if (nlh && rule)
		nftnl_rule_nlmsg_build_payload(nlh, rule);
	rule_free(rule);
}

void rule_flush(struct netlink_batch *batch, const char *table, const char *chain)
{
	struct nlmsghdr *nlh = firewall_message(batch, NFT_MSG_DELRULE, 0);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, chain);
}

/* The expressions as text, without handles and positions. */
static void rule_text(const struct nftnl_rule *rule, char text[static RULE_TEXT])
{
	struct nftnl_expr_iter *it = nftnl_expr_iter_create(rule);
	struct nftnl_expr *e;
	size_t n = 0;

	text[0] = 0;
	while (it && (e = nftnl_expr_iter_next(it)) && n < RULE_TEXT) {
		const char *kind = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
		int wrote = snprintf(text + n, RULE_TEXT - n, "[%s ", kind);

		n += wrote > 0 ? (size_t)wrote : 0;
		if (n >= RULE_TEXT)
			break;
		wrote = nftnl_expr_snprintf(text + n, RULE_TEXT - n, e, NFTNL_OUTPUT_DEFAULT, 0);
		n += wrote > 0 ? (size_t)wrote : 0;
	}
	if (it)
		nftnl_expr_iter_destroy(it);
}

bool rule_same(const struct nftnl_rule *a, const struct nftnl_rule *b)
{
	char texts[2][RULE_TEXT];

	rule_text(a, texts[0]);
	rule_text(b, texts[1]);
	return strcmp(texts[0], texts[1]) == 0;
}

/* --- Expressions --- */

struct nftnl_expr *expr_meta(uint32_t key, uint32_t reg)
{
	struct nftnl_expr *e = nftnl_expr_alloc("meta");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
		nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, reg);
	}
	return e;
}

static struct nftnl_expr *compare(uint32_t op, uint32_t length, uint32_t value)
{
	struct nftnl_expr *e = nftnl_expr_alloc("cmp");
	uint8_t byte = (uint8_t)value;

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
		nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
		nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, length == 1 ? (void *)&byte : &value,
			       length);
	}
	return e;
}

struct nftnl_expr *expr_equal(uint32_t length, uint32_t value)
{
	return compare(NFT_CMP_EQ, length, value);
}

struct nftnl_expr *expr_unequal(uint32_t length, uint32_t value)
{
	return compare(NFT_CMP_NEQ, length, value);
}

struct nftnl_expr *expr_payload(uint32_t base, uint32_t offset, uint32_t length, uint32_t reg)
{
	struct nftnl_expr *e = nftnl_expr_alloc("payload");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
		nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
		nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, length);
		nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, reg);
	}
	return e;
}

struct nftnl_expr *expr_mask(const void *mask, uint32_t length)
{
	static const uint8_t zero[16];
	struct nftnl_expr *e = nftnl_expr_alloc("bitwise");

	assert(length <= sizeof zero);
	if (!e)
		return NULL;
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, length);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, mask, length);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zero, length);
	return e;
}

struct nftnl_expr *expr_prefix(uint8_t family, uint8_t plen)
{
	struct addr ones = {.family = family};
	uint32_t bytes = addr_bytes(&ones);

	memset(ones.b, 0xff, bytes);
	ones.plen = (uint8_t)addr_bits(&ones);
	ones = addr_mask(ones, plen);
	return expr_mask(ones.b, bytes);
}

struct nftnl_expr *expr_lookup(const char *set, bool inverted)
{
	struct nftnl_expr *e = nftnl_expr_alloc("lookup");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
		nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, set);
		nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, inverted ? NFT_LOOKUP_F_INV : 0);
	}
	return e;
}

struct nftnl_expr *expr_verdict(int verdict, const char *chain)
{
	struct nftnl_expr *e = nftnl_expr_alloc("immediate");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
		nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
		if (chain)
			nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, chain);
	}
	return e;
}

struct nftnl_expr *expr_socket(uint32_t key)
{
	struct nftnl_expr *e = nftnl_expr_alloc("socket");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_SOCKET_KEY, key);
		nftnl_expr_set_u32(e, NFTNL_EXPR_SOCKET_DREG, NFT_REG_1);
	}
	return e;
}

struct nftnl_expr *expr_dynset(uint32_t op, const char *set, uint64_t timeout_ms, bool counted)
{
	struct nftnl_expr *e = nftnl_expr_alloc("dynset"), *counter;

	if (!e)
		return NULL;
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_OP, op);
	nftnl_expr_set_u64(e, NFTNL_EXPR_DYNSET_TIMEOUT, timeout_ms);
	nftnl_expr_set_str(e, NFTNL_EXPR_DYNSET_SET_NAME, set);
	counter = counted ? nftnl_expr_alloc("counter") : NULL;
	if (counter)
		nftnl_expr_set(e, NFTNL_EXPR_DYNSET_EXPR, counter, 0);
	return e;
}

struct nftnl_expr *expr_object(uint32_t type, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc("objref");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_OBJREF_IMM_TYPE, type);
		nftnl_expr_set_str(e, NFTNL_EXPR_OBJREF_IMM_NAME, name);
	}
	return e;
}

struct nftnl_expr *expr_object_of(const char *map)
{
	struct nftnl_expr *e = nftnl_expr_alloc("objref");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_OBJREF_SET_SREG, NFT_REG_1);
		nftnl_expr_set_str(e, NFTNL_EXPR_OBJREF_SET_NAME, map);
	}
	return e;
}

/* --- Attributes --- */

static int store_attr(const struct nlattr *attr, void *ctx)
{
	struct attrs *attrs = ctx;

	if (mnl_attr_get_type(attr) < ATTRS_TYPES)
		attrs->of[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

bool attrs_of(const struct nlmsghdr *nlh, struct attrs *ret_attrs)
{
	*ret_attrs = (struct attrs){0};
	return mnl_nlmsg_get_payload_len(nlh) >= sizeof(struct nfgenmsg) &&
	       mnl_attr_parse(nlh, sizeof(struct nfgenmsg), store_attr, ret_attrs) >= 0;
}

bool attrs_nested(const struct nlattr *attr, struct attrs *ret_attrs)
{
	*ret_attrs = (struct attrs){0};
	return attr && mnl_attr_parse_nested(attr, store_attr, ret_attrs) >= 0;
}

bool attr_is_text(const struct nlattr *attr)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0;
}

uint32_t attr_be32(const struct nlattr *attr)
{
	return attr && mnl_attr_get_payload_len(attr) >= 4 ? ntohl(mnl_attr_get_u32(attr)) : 0;
}

uint64_t attr_be64(const struct nlattr *attr)
{
	return attr && mnl_attr_get_payload_len(attr) >= 8 ? be64toh(mnl_attr_get_u64(attr)) : 0;
}

struct count {
	uint64_t packets, bytes;
};

static int take_counter(const struct nlattr *attr, void *ctx)
{
	struct count *count = ctx;
	struct attrs expr, data;

	if (!attrs_nested(attr, &expr) || !expr.of[NFTA_EXPR_NAME] ||
	    strncmp(mnl_attr_get_str(expr.of[NFTA_EXPR_NAME]), "counter",
		    mnl_attr_get_payload_len(expr.of[NFTA_EXPR_NAME])) != 0 ||
	    !attrs_nested(expr.of[NFTA_EXPR_DATA], &data))
		return MNL_CB_OK;
	count->packets = attr_be64(data.of[NFTA_COUNTER_PACKETS]);
	count->bytes = attr_be64(data.of[NFTA_COUNTER_BYTES]);
	return MNL_CB_OK;
}

void attrs_counter(const struct attrs *element, uint64_t *ret_packets, uint64_t *ret_bytes)
{
	struct count count = {0};

	if (element->of[NFTA_SET_ELEM_EXPR])
		take_counter(element->of[NFTA_SET_ELEM_EXPR], &count);
	else if (element->of[NFTA_SET_ELEM_EXPRESSIONS])
		mnl_attr_parse_nested(element->of[NFTA_SET_ELEM_EXPRESSIONS], take_counter, &count);
	*ret_packets = count.packets;
	*ret_bytes = count.bytes;
}
