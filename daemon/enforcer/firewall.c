/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table `inet tailban` and its structure: see firewall.h. The only user of libnftnl. Fails with
 * the kernel's errno and, at start, with a sentence that names what is missing. */
#include "daemon/enforcer/firewall_impl.h"

#include <assert.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <stdio.h>
#include <stdlib.h>

#define PRIORITY (-300) /* NF_IP_PRI_RAW: before conntrack and NAT */
#define SOCKET_BUFFER (4 << 20)
#define BATCH_ROOM (640u << 10) /* FIREWALL_CHUNK triples of the longest elements */
#define ASK_ROOM (128u << 10)
#define SET_BYTES 1536u  /* a set's message and its rule's, generously */
#define KEEP_BYTES 256u  /* both ends of an interval */
#define ADOPT_SLICES 128 /* of 32 KiB at start: 45,000 elements, 0.3 s */
#define ADOPT_ATTEMPTS 3
#define MESSAGE_SLACK ((size_t)8 * NETLINK_MESSAGE_MAX)

/* Types of set keys as nft names them; a concatenation has six bits for each of its fields. */
enum { KEY_IPV4 = 7, KEY_IPV6 = 8, KEY_PROTO = 12, KEY_SERVICE = 13, KEY_BITS = 6 };

unsigned firewall_set_index(uint8_t family, uint8_t plen, uint8_t flags)
{
	unsigned row = (family == ADDR_IPV6 ? 4u : 0u) + (flags & INFORCE_CLASS);

	assert(plen <= 128);
	return row * 129 + plen;
}

/* Into set->name. */
static void name_set(struct ban_set *set)
{
	struct addr a = {.family = set->family};
	const char *head = set->flags & INFORCE_FORCED ? "force" : "ban";
	const char *scope = set->flags & INFORCE_SCOPE_PORT ? "p" : "";

	if (set->plen == addr_bits(&a))
		snprintf(set->name, sizeof set->name, "%s%s%u", head, scope, set->family);
	else
		snprintf(set->name, sizeof set->name, "%s%s%u_%u", head, scope, set->family,
			 set->plen);
}

bool firewall_parse_set_name(const char *name, struct ban_set *ret_set)
{
	struct slice rest = slice_str(name);
	struct ban_set set = {0};
	struct addr a = {0};
	uint64_t plen;

	if (slice_starts(rest, SLICE("force")))
		set.flags |= INFORCE_FORCED;
	else if (!slice_starts(rest, SLICE("ban")))
		return false;
	rest = slice_skip(rest, set.flags ? 5 : 3);
	if (slice_starts(rest, SLICE("p"))) {
		set.flags |= INFORCE_SCOPE_PORT;
		rest = slice_skip(rest, 1);
	}
	if (!slice_starts(rest, SLICE("4")) && !slice_starts(rest, SLICE("6")))
		return false;
	set.family = rest.p[0] == '4' ? ADDR_IPV4 : ADDR_IPV6;
	a.family = set.family;
	plen = addr_bits(&a);
	rest = slice_skip(rest, 1);
	if (rest.n && (rest.p[0] != '_' || slice_u64(slice_skip(rest, 1), plen - 1, &plen) < 0))
		return false;
	if (!plen)
		return false;
	set.plen = (uint8_t)plen;
	*ret_set = set;
	return true;
}

static uint32_t key_type(const struct ban_set *set)
{
	uint32_t type = set->family == ADDR_IPV4 ? KEY_IPV4 : KEY_IPV6;

	if (!(set->flags & INFORCE_SCOPE_PORT))
		return type;
	return ((type << KEY_BITS | KEY_PROTO) << KEY_BITS) | KEY_SERVICE;
}

static uint32_t key_length(const struct ban_set *set)
{
	return (set->family == ADDR_IPV4 ? 4 : 16) + (set->flags & INFORCE_SCOPE_PORT ? 8 : 0);
}

/* --- Messages. libnftnl's objects live for one message; without memory a message is left out, and
 * the kernel refuses the transaction for what is missing in it. --- */

static void put_table(struct netlink_batch *batch, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = firewall_message(batch, type, flags);
	struct nftnl_table *t = nftnl_table_alloc();

	if (!nlh || !t)
		return;
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, FIREWALL_TABLE);
	nftnl_table_nlmsg_build_payload(nlh, t);
	nftnl_table_free(t);
}

static void put_chain(struct netlink_batch *batch, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = firewall_message(batch, type, flags);
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (!nlh || !c)
		return;
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, FIREWALL_TABLE);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, FIREWALL_CHAIN);
	if (type == NFT_MSG_NEWCHAIN) {
		nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter");
		nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, NF_INET_PRE_ROUTING);
		nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, PRIORITY);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	}
	nftnl_chain_nlmsg_build_payload(nlh, c);
	nftnl_chain_free(c);
}

static void finish_set(struct nlmsghdr *nlh, struct nftnl_set *s, const char *name, uint32_t id)
{
	nftnl_set_set_str(s, NFTNL_SET_TABLE, FIREWALL_TABLE);
	nftnl_set_set_str(s, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(s, NFTNL_SET_ID, id);
	nftnl_set_nlmsg_build_payload(nlh, s);
	nftnl_set_free(s);
}

static void put_ban_set(struct firewall *fw, struct netlink_batch *batch, const struct ban_set *set)
{
	struct nlmsghdr *nlh = firewall_message(batch, NFT_MSG_NEWSET, NLM_F_CREATE);
	struct nftnl_set *s = nftnl_set_alloc();
	struct nftnl_expr *counter = nftnl_expr_alloc("counter");

	if (!nlh || !s || !counter)
		return;
	nftnl_set_set_u32(s, NFTNL_SET_FLAGS, NFT_SET_TIMEOUT);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, key_type(set));
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, key_length(set));
	nftnl_set_set_u32(s, NFTNL_SET_DESC_SIZE, fw->opt.maxbans);
	nftnl_set_add_expr(s, counter);
	finish_set(nlh, s, set->name, 16 + (uint32_t)(set - fw->sets));
}

static const char *keep_name(uint8_t family)
{
	return family == ADDR_IPV4 ? "keep4" : "keep6";
}

static void put_keep_set(struct netlink_batch *batch, uint8_t family)
{
	struct nlmsghdr *nlh = firewall_message(batch, NFT_MSG_NEWSET, NLM_F_CREATE);
	struct nftnl_set *s = nftnl_set_alloc();

	if (!nlh || !s)
		return;
	nftnl_set_set_u32(s, NFTNL_SET_FLAGS, NFT_SET_INTERVAL);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, family == ADDR_IPV4 ? KEY_IPV4 : KEY_IPV6);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, family == ADDR_IPV4 ? 4 : 16);
	finish_set(nlh, s, keep_name(family), family);
}

static struct nftnl_expr *source_address(const struct ban_set *set)
{
	bool v4 = set->family == ADDR_IPV4;

	return expr_payload(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 12 : 8, v4 ? 4 : 16, NFT_REG_1);
}

/* The rule of a set. */
static struct nftnl_rule *make_rule(const struct ban_set *set)
{
	bool v4 = set->family == ADDR_IPV4;
	struct addr a = {.family = set->family};
	struct nftnl_rule *rule = rule_new(FIREWALL_TABLE, FIREWALL_CHAIN);

	if (!rule)
		return NULL;
	rule_add(rule, expr_meta(NFT_META_NFPROTO, NFT_REG_1));
	rule_add(rule, expr_equal(1, v4 ? NFPROTO_IPV4 : NFPROTO_IPV6));
	rule_add(rule, source_address(set));
	if (set->plen < addr_bits(&a))
		rule_add(rule, expr_prefix(set->family, set->plen));
	if (set->flags & INFORCE_SCOPE_PORT) {
		rule_add(rule, expr_meta(NFT_META_L4PROTO, v4 ? NFT_REG32_01 : NFT_REG_2));
		rule_add(rule, expr_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2,
					    v4 ? NFT_REG32_02 : NFT_REG32_05));
	}
	rule_add(rule, expr_lookup(set->name, false));
	if (!(set->flags & INFORCE_FORCED)) {
		rule_add(rule, source_address(set));
		rule_add(rule, expr_lookup(keep_name(set->family), true));
	}
	rule_add(rule, expr_verdict(NF_DROP, NULL));
	return rule;
}

/* Sets in the order of their rules: longest prefixes first, so single addresses before networks. */
static struct ban_set *next_used(struct firewall *fw, unsigned *step)
{
	while (*step < FIREWALL_SETS) {
		unsigned row = *step % 8, plen = 128 - *step / 8;
		struct ban_set *set = &fw->sets[row * 129 + plen];

		++*step;
		if (set->used)
			return set;
	}
	return NULL;
}

/* --- The ignore sets --- */

/* One end of an interval. */
static void put_keep_end(struct netlink_batch *batch, uint8_t family, const uint8_t *bytes,
			 bool end)
{
	struct nlmsghdr *nlh = firewall_message(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
	struct nlattr *list, *item, *key;

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, FIREWALL_TABLE);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, keep_name(family));
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	item = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	if (end)
		mnl_attr_put_u32(nlh, NFTA_SET_ELEM_FLAGS, htonl(NFT_SET_ELEM_INTERVAL_END));
	key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, family == ADDR_IPV4 ? 4 : 16, bytes);
	mnl_attr_nest_end(nlh, key);
	mnl_attr_nest_end(nlh, item);
	mnl_attr_nest_end(nlh, list);
}

/* The first address behind the network; false when the network reaches the end of the family. */
static bool behind(const struct addr *net, uint8_t ret_bytes[16])
{
	unsigned bit = net->plen;

	memcpy(ret_bytes, net->b, 16);
	while (bit--) {
		uint8_t one = (uint8_t)(0x80u >> bit % 8);

		ret_bytes[bit / 8] ^= one; /* add one at the last bit of the prefix, with carry */
		if (ret_bytes[bit / 8] & one)
			return true;
	}
	return false;
}

/* Networks that touch are one interval: the kernel refuses an end where another one starts. */
static void put_keep_elements(struct netlink_batch *batch, const struct netlist *keep,
			      uint8_t family)
{
	static const uint8_t zero[16];
	bool open = false, first = true;
	uint8_t end[16];

	for (size_t i = 0; i < keep->count; i++) {
		const struct addr *net = &keep->nets[i];

		if (net->family != family)
			continue;
		if (open && memcmp(end, net->b, 16) == 0) {
			open = behind(net, end);
			continue;
		}
		if (open)
			put_keep_end(batch, family, end, true);
		if (first && memcmp(net->b, zero, 16) != 0)
			put_keep_end(batch, family, zero, true); /* as nft does */
		first = false;
		put_keep_end(batch, family, net->b, false);
		open = behind(net, end);
	}
	if (open)
		put_keep_end(batch, family, end, true);
}

static void put_keep_flush(struct netlink_batch *batch, uint8_t family)
{
	struct nlmsghdr *nlh = firewall_message(batch, NFT_MSG_DELSETELEM, 0);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, FIREWALL_TABLE);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, keep_name(family));
}

static void put_keep(struct netlink_batch *batch, const struct netlist *keep)
{
	static const uint8_t families[] = {ADDR_IPV4, ADDR_IPV6};

	for (unsigned i = 0; i < 2; i++) {
		put_keep_flush(batch, families[i]);
		put_keep_elements(batch, keep, families[i]);
	}
}

/* --- Transactions of structure --- */

static void build_table(struct firewall *fw, struct netlink_batch *batch, unsigned what)
{
	put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	if (!(what & STRUCTURE_FRESH))
		return;
	put_table(batch, NFT_MSG_DELTABLE, 0);
	put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	record_forget(&fw->record);
}

static void build_sets(struct firewall *fw, struct netlink_batch *batch, unsigned what)
{
	struct ban_set *set;

	if (!fw->keep_made || what & STRUCTURE_FRESH) {
		put_keep_set(batch, ADDR_IPV4);
		put_keep_set(batch, ADDR_IPV6);
	}
	if (what & STRUCTURE_KEEP)
		put_keep(batch, &fw->keep);
	for (unsigned step = 0; (set = next_used(fw, &step));)
		if (!set->made || what & STRUCTURE_FRESH)
			put_ban_set(fw, batch, set);
}

static void build_chain(struct firewall *fw, struct netlink_batch *batch, unsigned what)
{
	unsigned bells =
		what & STRUCTURE_RECORD ? record_wants_bells(&fw->record) : fw->record.bells_made;
	struct ban_set *set;

	if (what & STRUCTURE_CHAIN)
		put_chain(batch, NFT_MSG_DELCHAIN, 0);
	put_chain(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	rule_flush(batch, FIREWALL_TABLE, FIREWALL_CHAIN);
	if (what & STRUCTURE_RECORD)
		record_put(&fw->record, batch);
	for (unsigned step = 0; (set = next_used(fw, &step));)
		rule_put(batch, make_rule(set));
	record_put_bell_rules(&fw->record, batch, bells);
}

static int send_structure(struct firewall *fw, struct netlink_batch *batch, unsigned what)
{
	firewall_batch_begin(&fw->nft, batch);
	if (batch->limit < batch->room)
		return -E2BIG;
	build_table(fw, batch, what);
	build_sets(fw, batch, what);
	build_chain(fw, batch, what);
	netlink_batch_ack(batch);
	firewall_batch_end(batch);
	fw->counters.transactions++;
	return netlink_commit(&fw->nft, batch, record_refused, &fw->record);
}

/* Everything of a kind that a transaction may be refused for is in it, so the first error tells. */
int firewall_put_structure(struct firewall *fw, unsigned what)
{
	size_t keep_bytes = what & STRUCTURE_KEEP ? (fw->keep.count + 2) * KEEP_BYTES : 0;
	size_t record_bytes = what & STRUCTURE_RECORD ? RECORD_ROOM : 0;
	struct netlink_batch batch;
	struct ban_set *set;
	int code;

	code = netlink_batch_init(&batch, (size_t)fw->sets_used * SET_BYTES + keep_bytes +
						  record_bytes + MESSAGE_SLACK);
	if (code < 0)
		return code;
	do
		code = send_structure(fw, &batch, what);
	while (code < 0 && what & STRUCTURE_RECORD && record_learn(&fw->record));
	netlink_batch_fini(&batch);
	if (code < 0)
		return code;
	fw->keep_made = true;
	for (unsigned step = 0; (set = next_used(fw, &step));)
		set->made = true;
	return 0;
}

int firewall_temporary_set(struct firewall *fw, const struct ban_set *set, bool create)
{
	struct nlmsghdr *nlh;

	firewall_batch_begin(&fw->nft, &fw->batch);
	if (create) {
		put_ban_set(fw, &fw->batch, set);
	} else {
		nlh = firewall_message(&fw->batch, NFT_MSG_DELSET, 0);
		mnl_attr_put_strz(nlh, NFTA_SET_TABLE, FIREWALL_TABLE);
		mnl_attr_put_strz(nlh, NFTA_SET_NAME, set->name);
	}
	netlink_batch_ack(&fw->batch);
	firewall_batch_end(&fw->batch);
	return netlink_commit(&fw->nft, &fw->batch, NULL, NULL);
}

/* --- The check of what is there --- */

struct seen {
	struct firewall *fw;
	bool dormant, keep[2], foreign, chain, chain_ok, rules_differ;
	unsigned bell_rules; /* record_bell_rule bits */
	unsigned step;       /* of the expected rules */
};

static bool ban_set_ok(struct firewall *fw, const struct nftnl_set *s, const struct ban_set *set)
{
	return nftnl_set_get_u32(s, NFTNL_SET_FLAGS) == NFT_SET_TIMEOUT &&
	       nftnl_set_get_u32(s, NFTNL_SET_KEY_TYPE) == key_type(set) &&
	       nftnl_set_get_u32(s, NFTNL_SET_KEY_LEN) == key_length(set) &&
	       nftnl_set_get_u32(s, NFTNL_SET_DESC_SIZE) == fw->opt.maxbans &&
	       nftnl_set_is_set(s, NFTNL_SET_EXPR);
}

static bool ours(const char *table)
{
	return table && strcmp(table, FIREWALL_TABLE) == 0;
}

static void look_at_set(struct seen *seen, const struct nftnl_set *s)
{
	const char *name = nftnl_set_get_str(s, NFTNL_SET_NAME);
	struct firewall *fw = seen->fw;
	struct ban_set want;

	if (strcmp(name, keep_name(ADDR_IPV4)) == 0 || strcmp(name, keep_name(ADDR_IPV6)) == 0) {
		bool v6 = name[4] == '6';

		seen->keep[v6] = true;
		if (nftnl_set_get_u32(s, NFTNL_SET_FLAGS) != NFT_SET_INTERVAL ||
		    nftnl_set_get_u32(s, NFTNL_SET_KEY_LEN) != (v6 ? 16 : 4))
			seen->foreign = true;
	} else if (firewall_parse_set_name(name, &want)) {
		struct ban_set *set =
			&fw->sets[firewall_set_index(want.family, want.plen, want.flags)];

		if (!ban_set_ok(fw, s, &want))
			seen->foreign = true;
		else if (set->used)
			set->made = true;
	} else {
		record_see_bells(&fw->record, s);
	}
}

static int see_set(void *ctx, const struct nlmsghdr *nlh)
{
	struct seen *seen = ctx;
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		return -ENOMEM;
	if (nftnl_set_nlmsg_parse(nlh, s) == 0 && ours(nftnl_set_get_str(s, NFTNL_SET_TABLE)))
		look_at_set(seen, s);
	nftnl_set_free(s);
	return 0;
}

static int see_object(void *ctx, const struct nlmsghdr *nlh)
{
	struct seen *seen = ctx;
	struct nftnl_obj *o = nftnl_obj_alloc();

	if (!o)
		return -ENOMEM;
	if (nftnl_obj_nlmsg_parse(nlh, o) == 0 && ours(nftnl_obj_get_str(o, NFTNL_OBJ_TABLE)))
		record_see_bell(&seen->fw->record, o);
	nftnl_obj_free(o);
	return 0;
}

static int see_table(void *ctx, const struct nlmsghdr *nlh)
{
	struct seen *seen = ctx;
	struct nftnl_table *t = nftnl_table_alloc();

	if (!t)
		return -ENOMEM;
	if (nftnl_table_nlmsg_parse(nlh, t) == 0 && ours(nftnl_table_get_str(t, NFTNL_TABLE_NAME)))
		seen->dormant = nftnl_table_get_u32(t, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_DORMANT;
	nftnl_table_free(t);
	return 0;
}

static int see_chain(void *ctx, const struct nlmsghdr *nlh)
{
	struct seen *seen = ctx;
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (!c)
		return -ENOMEM;
	if (nftnl_chain_nlmsg_parse(nlh, c) == 0 &&
	    ours(nftnl_chain_get_str(c, NFTNL_CHAIN_TABLE)) &&
	    strcmp(nftnl_chain_get_str(c, NFTNL_CHAIN_NAME), FIREWALL_CHAIN) == 0) {
		seen->chain = true;
		seen->chain_ok =
			nftnl_chain_is_set(c, NFTNL_CHAIN_HOOKNUM) &&
			nftnl_chain_get_u32(c, NFTNL_CHAIN_HOOKNUM) == NF_INET_PRE_ROUTING &&
			nftnl_chain_get_s32(c, NFTNL_CHAIN_PRIO) == PRIORITY &&
			nftnl_chain_get_u32(c, NFTNL_CHAIN_POLICY) == NF_ACCEPT;
	}
	nftnl_chain_free(c);
	return 0;
}

static bool same_rule(const struct nftnl_rule *rule, const struct ban_set *set)
{
	struct nftnl_rule *want = make_rule(set);
	bool same = want && rule_same(rule, want);

	rule_free(want);
	return same;
}

/* The bells' rules are the last ones. */
static void look_at_rule(struct seen *seen, const struct nftnl_rule *rule)
{
	struct record *record = &seen->fw->record;
	const struct ban_set *want = next_used(seen->fw, &seen->step);
	unsigned bell = want ? 0 : record_is_bell_rule(record, rule);

	if (want ? !same_rule(rule, want) : !(bell & record->bells_made) || bell & seen->bell_rules)
		seen->rules_differ = true;
	seen->bell_rules |= bell;
}

static int see_rule(void *ctx, const struct nlmsghdr *nlh)
{
	struct seen *seen = ctx;
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (!rule)
		return -ENOMEM;
	if (nftnl_rule_nlmsg_parse(nlh, rule) == 0 &&
	    ours(nftnl_rule_get_str(rule, NFTNL_RULE_TABLE)) &&
	    strcmp(nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN), FIREWALL_CHAIN) == 0)
		look_at_rule(seen, rule);
	nftnl_rule_free(rule);
	return 0;
}

static bool sets_missing(struct firewall *fw, const struct seen *seen)
{
	const struct ban_set *set;

	for (unsigned step = 0; (set = next_used(fw, &step));)
		if (!set->made)
			return true;
	return !seen->keep[0] || !seen->keep[1];
}

int firewall_check_shape(struct firewall *fw)
{
	struct seen seen = {.fw = fw};
	int code;

	for (unsigned i = 0; i < FIREWALL_SETS; i++)
		fw->sets[i].made = false;
	fw->record.bells_made = 0;
	code = firewall_list(&fw->query, FIREWALL_TABLE, NULL, NFT_MSG_GETTABLE, see_table, &seen);
	if (code == 0)
		code = firewall_list(&fw->query, FIREWALL_TABLE, NULL, NFT_MSG_GETSET, see_set,
				     &seen);
	fw->keep_made = seen.keep[0] && seen.keep[1];
	if (code == 0)
		code = firewall_list(&fw->query, FIREWALL_TABLE, NULL, NFT_MSG_GETOBJ, see_object,
				     &seen);
	if (code == 0)
		code = firewall_list(&fw->query, FIREWALL_TABLE, NULL, NFT_MSG_GETCHAIN, see_chain,
				     &seen);
	if (code == 0)
		code = firewall_list(&fw->query, FIREWALL_TABLE, NULL, NFT_MSG_GETRULE, see_rule,
				     &seen);
	if (code < 0)
		return code;
	if (seen.foreign || seen.dormant)
		return SHAPE_FOREIGN;
	if (sets_missing(fw, &seen))
		return SHAPE_SETS;
	if (seen.chain && !seen.chain_ok)
		return SHAPE_CHAIN;
	if (!seen.chain || seen.rules_differ || next_used(fw, &seen.step) ||
	    seen.bell_rules != fw->record.bells_made)
		return SHAPE_RULES;
	return SHAPE_OK;
}

unsigned firewall_shape_cure(enum shape shape)
{
	switch (shape) {
	case SHAPE_FOREIGN:
		return STRUCTURE_FRESH | STRUCTURE_KEEP;
	case SHAPE_CHAIN:
		return STRUCTURE_CHAIN | STRUCTURE_KEEP;
	default:
		return STRUCTURE_KEEP;
	}
}

/*
 * --- Taking over a table ---
 *
 * The kernel walks a set from its start for each 32 KiB that it lists, so reading n elements costs
 * n * n: 0.3 s for 50,000, a minute and a half for a million. What a start does not read at once is
 * read in slices while the bans are in force anyway.
 */

static int find_set(void *ctx, const struct nlmsghdr *nlh)
{
	struct firewall *fw = ctx;
	struct nftnl_set *s = nftnl_set_alloc();
	struct ban_set found;

	if (!s)
		return -ENOMEM;
	if (nftnl_set_nlmsg_parse(nlh, s) == 0 && ours(nftnl_set_get_str(s, NFTNL_SET_TABLE)) &&
	    firewall_parse_set_name(nftnl_set_get_str(s, NFTNL_SET_NAME), &found) &&
	    nftnl_set_get_u32(s, NFTNL_SET_KEY_LEN) == key_length(&found) &&
	    fw->sets_used < FIREWALL_SETS_MAX) {
		fw->sets[firewall_set_index(found.family, found.plen, found.flags)].used = true;
		fw->sets_used++;
	}
	nftnl_set_free(s);
	return 0;
}

struct adopting {
	struct firewall *fw;
	struct now now;
};

static void adopt_element(void *ctx, const struct element *element)
{
	struct adopting *a = ctx;

	a->fw->adoption.elements++;
	firewall_take_element(a->fw, element, FIREWALL_ADOPTED, a->now);
}

static int adopt_message(void *ctx, const struct nlmsghdr *nlh)
{
	firewall_each_element(nlh, adopt_element, ctx);
	return 0;
}

/* Begins with the set in work; false when there is none. */
static bool adopt_begin(struct firewall *fw)
{
	struct adoption *a = &fw->adoption;

	while (a->set) {
		int code = firewall_list_elements(&a->nl, &fw->ask, a->set);

		a->elements = 0;
		if (code == 0)
			return true;
		a->error = code;
		a->set = next_used(fw, &a->step);
	}
	netlink_close(&a->nl);
	return false;
}

/* A set without elements loses its rule, so packets do not pay for what was in use long ago; only
 * at start, as later the set may be in use again. */
static bool adopt_end_set(struct firewall *fw, int code, bool at_start)
{
	struct adoption *a = &fw->adoption;

	if (code == -EINTR && at_start && a->attempt++ < ADOPT_ATTEMPTS)
		return adopt_begin(fw);
	if (code < 0 && code != -EINTR)
		a->error = code;
	if (code == 0 && at_start && !a->elements) {
		a->set->used = false;
		fw->sets_used--;
	}
	a->attempt = 0;
	a->set = next_used(fw, &a->step);
	return adopt_begin(fw);
}

bool firewall_adopt_slice(struct firewall *fw, struct now now, bool at_start, size_t max_bytes)
{
	struct adopting a = {fw, now};
	int code;

	if (!fw->adoption.nl.sock)
		return false;
	code = netlink_dump_read(&fw->adoption.nl, adopt_message, &a, max_bytes);
	return code == 1 || adopt_end_set(fw, code, at_start);
}

static int adopt_start(struct firewall *fw, struct now now)
{
	int code = netlink_open(&fw->adoption.nl, NETLINK_NETFILTER, 0, 0, NULL);

	if (code < 0)
		return code;
	fw->adoption.step = 0;
	fw->adoption.set = next_used(fw, &fw->adoption.step);
	if (!adopt_begin(fw))
		return fw->adoption.error;
	for (unsigned i = 0; i < ADOPT_SLICES; i++)
		if (!firewall_adopt_slice(fw, now, true, 1))
			break;
	return fw->adoption.error;
}

static int put_right(struct firewall *fw, enum shape shape, struct now now)
{
	bool again = shape == SHAPE_FOREIGN || shape == SHAPE_SETS;
	int code;

	while (again && firewall_adopt_slice(fw, now, true, SIZE_MAX))
		; /* what is about to go must be known first */
	code = firewall_put_structure(fw, shape == SHAPE_FOREIGN ? STRUCTURE_FRESH
								 : firewall_shape_cure(shape));
	if (code < 0)
		return code;
	if (!again)
		return 0;
	fw->rebuilding = true;
	fw->rebuild_cursor = UINT32_MAX;
	while (firewall_rebuild_slice(fw, now))
		;
	return 0;
}

int firewall_adopt(struct firewall *fw, struct now now, struct error *err)
{
	int code = firewall_list(&fw->query, FIREWALL_TABLE, NULL, NFT_MSG_GETSET, find_set, fw),
	    shape;

	if (code == 0)
		code = adopt_start(fw, now);
	if (code < 0)
		return error_set(err, code, "reading table inet tailban: %s", error_name(code));
	shape = firewall_check_shape(fw);
	if (shape < 0)
		return error_set(err, shape, "checking table inet tailban: %s", error_name(shape));
	if (shape != SHAPE_OK)
		code = put_right(fw, (enum shape)shape, now);
	if (code == 0 && !fw->opt.old_kernel)
		code = firewall_probe_replace(fw);
	if (code < 0)
		return error_set(err, code, "creating table inet tailban: %s", error_name(code));
	firewall_drain_watch(fw, now);
	firewall_arm(fw, now);
	return (int)fw->inforce->count;
}

static int copy_list(const struct netlist *from, struct netlist *ret_copy)
{
	struct netlist copy = {0};

	for (size_t i = 0; i < from->count; i++)
		if (netlist_add(&copy, &from->nets[i]) < 0) {
			netlist_free(&copy);
			return -ENOMEM;
		}
	netlist_seal(&copy);
	*ret_copy = copy;
	return 0;
}

static bool same_list(const struct netlist *a, const struct netlist *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (!addr_eq(&a->nets[i], &b->nets[i]))
			return false;
	return true;
}

/* What the kernel refused is forgotten: a repair must be able to put back what was there. */
int firewall_keep(struct firewall *fw, const struct netlist *keep, struct error *err)
{
	struct netlist old = fw->keep, fresh;
	int code;

	if (fw->keep_filled && same_list(&old, keep))
		return 0;
	code = copy_list(keep, &fresh);
	if (code == 0) {
		fw->keep = fresh;
		code = firewall_put_structure(fw, STRUCTURE_KEEP);
		if (code < 0)
			fw->keep = old;
		netlist_free(code < 0 ? &fresh : &old);
	}
	fw->keep_filled |= code == 0;
	if (code == -E2BIG)
		return error_set(err, code,
				 "the ignore list (%zu networks) is too long for one transaction",
				 keep->count);
	if (code < 0)
		return error_set(err, code, "filling the ignore sets: %s", error_name(code));
	return 0;
}

int firewall_remove(struct firewall *fw, struct error *err)
{
	int code;

	firewall_watch_stop(fw);
	firewall_batch_begin(&fw->nft, &fw->batch);
	put_table(&fw->batch, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	put_table(&fw->batch, NFT_MSG_DELTABLE, 0);
	netlink_batch_ack(&fw->batch);
	firewall_batch_end(&fw->batch);
	code = netlink_commit(&fw->nft, &fw->batch, NULL, NULL);
	if (code < 0)
		return error_set(err, code, "removing table inet tailban: %s", error_name(code));
	return 0;
}

/* --- Opening and closing --- */

static int ignore_message(void *ctx, const struct nlmsghdr *nlh)
{
	(void)ctx;
	(void)nlh;
	return 0;
}

static int probe_kernel(struct firewall *fw, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *nlh = nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETGEN, AF_UNSPEC, 0, 0);
	int code = netlink_dump(&fw->query, nlh, ignore_message, NULL);

	if (code == 0)
		return 0;
	if (code == -EPERM)
		return error_set(err, code, "nftables: CAP_NET_ADMIN is missing");
	return error_set(err, code, "this kernel has no nf_tables: %s", error_name(code));
}

static int open_all(struct firewall *fw, struct error *err)
{
	int code;

	fw->ops = calloc(FIREWALL_CHUNK, sizeof *fw->ops);
	fw->notice.deleted = calloc(FIREWALL_DELETED_MAX, sizeof *fw->notice.deleted);
	if (!fw->ops || !fw->notice.deleted || netlink_batch_init(&fw->batch, BATCH_ROOM) < 0 ||
	    netlink_batch_init(&fw->ask, ASK_ROOM) < 0)
		return error_set(err, -ENOMEM, "no memory for the firewall");
	code = netlink_open(&fw->nft, NETLINK_NETFILTER, 0, SOCKET_BUFFER, err);
	if (code == 0)
		code = netlink_open(&fw->query, NETLINK_NETFILTER, 0, SOCKET_BUFFER, err);
	if (code < 0)
		return error_wrap(err, code, "nftables");
	code = probe_kernel(fw, err);
	return code < 0 ? code : firewall_watch_open(fw, err);
}

static void name_sets(struct firewall *fw)
{
	for (unsigned i = 0; i < FIREWALL_SETS; i++) {
		struct ban_set *set = &fw->sets[i];

		set->family = i / 129 < 4 ? ADDR_IPV4 : ADDR_IPV6;
		set->plen = (uint8_t)(i % 129);
		set->flags = i / 129 % 4;
		name_set(set);
	}
}

int firewall_open(const struct firewall_options *options, struct now now, struct firewall **ret_fw,
		  struct error *err)
{
	struct firewall *fw = calloc(1, sizeof *fw);
	int code;

	if (!fw)
		return error_set(err, -ENOMEM, "no memory for the firewall");
	fw->opt = *options;
	fw->inforce = options->inforce;
	fw->keep.sealed = true;
	fw->record.table = FIREWALL_TABLE;
	fw->record.nl = &fw->query;
	fw->record.ask = &fw->ask;
	fw->record.size = options->record_size ? options->record_size : FIREWALL_RECORD_SIZE;
	fw->record.broken = options->record_broken;
	name_sets(fw);
	code = open_all(fw, err);
	if (code < 0) {
		firewall_close(fw);
		return code;
	}
	firewall_watch_start(fw);
	firewall_arm(fw, now);
	*ret_fw = fw;
	return 0;
}

void firewall_close(struct firewall *fw)
{
	if (!fw)
		return;
	firewall_watch_stop(fw);
	netlink_close(&fw->nft);
	netlink_close(&fw->query);
	netlink_close(&fw->watch);
	netlink_close(&fw->adoption.nl);
	netlink_batch_fini(&fw->batch);
	netlink_batch_fini(&fw->ask);
	netlist_free(&fw->keep);
	free(fw->notice.deleted);
	free(fw->ops);
	free(fw);
}

const struct firewall_counters *firewall_counters(const struct firewall *fw)
{
	return &fw->counters;
}
