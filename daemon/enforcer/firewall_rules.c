/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of the record and of the bells: see firewall_record.h. Without memory an expression is
 * left out, and the kernel refuses the rule or the check finds it wrong. */
#include "daemon/enforcer/firewall_record_impl.h"

/* Longer than what may still come of a closed connection: the last pause between two FINs is 51 s,
 * FIN_WAIT2 without an owner and TIME_WAIT are no full sockets. */
#define CLOSED_MS UINT64_C(120000)
#define LOOPBACK_INDEX 1u        /* in every network namespace */
#define SYSTEM_CGROUP UINT32_MAX /* no socket has this class: unequal for each full one */

enum { FLAG_FIN = 1, FLAG_SYN = 2, FLAG_RST = 4, FLAG_PSH = 8, FLAG_ACK = 16 };

static const char *const seen_names[] = {"seen4", "seen6"};
static const char *const conn_names[] = {"conn4", "conn6"};

/* One rule. `in`: the peer is the source. */
struct record_rule {
	enum record_chain_id chain;
	enum record_when when;
	void (*build)(const struct record *r, const struct record_rule *row,
		      struct nftnl_rule *rule);
	bool v6, in;
	enum record_chain_id target;
	enum record_list list;
	uint8_t feature;
};

static void add_family(struct nftnl_rule *rule, bool v6)
{
	rule_add(rule, expr_meta(NFT_META_NFPROTO, NFT_REG_1));
	rule_add(rule, expr_equal(1, v6 ? NFPROTO_IPV6 : NFPROTO_IPV4));
}

static void add_port(struct nftnl_rule *rule, bool source, uint32_t reg)
{
	rule_add(rule, expr_payload(NFT_PAYLOAD_TRANSPORT_HEADER, source ? 0 : 2, 2, reg));
}

static void add_peer(struct nftnl_rule *rule, bool v6, bool in)
{
	uint32_t source = v6 ? 8 : 12, bytes = v6 ? 16 : 4;

	rule_add(rule, expr_payload(NFT_PAYLOAD_NETWORK_HEADER, in ? source : source + bytes, bytes,
				    NFT_REG_1));
}

/* Peer, its port, the service's port. */
static void add_connection(struct nftnl_rule *rule, bool v6, bool in)
{
	add_peer(rule, v6, in);
	add_port(rule, in, v6 ? NFT_REG_2 : NFT_REG32_01);
	add_port(rule, !in, v6 ? NFT_REG32_05 : NFT_REG32_02);
}

/* Peer (IPv6: its /64) and the service's port. */
static void add_address(struct nftnl_rule *rule, bool v6, bool in)
{
	add_peer(rule, v6, in);
	if (v6)
		rule_add(rule, expr_prefix(ADDR_IPV6, 64));
	add_port(rule, !in, v6 ? NFT_REG_2 : NFT_REG32_01);
}

/* Whether one of these flags is set, or none. */
static void add_flags(struct nftnl_rule *rule, uint8_t flags, bool set)
{
	rule_add(rule, expr_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, NFT_REG_1));
	rule_add(rule, expr_mask(&flags, 1));
	rule_add(rule, set ? expr_unequal(1, 0) : expr_equal(1, 0));
}

/* The packet belongs to a full socket whose own address is set. */
static void add_full_socket(const struct record *r, struct nftnl_rule *rule)
{
	if (r->lacks & RECORD_SOCKET)
		return;
	rule_add(rule, expr_socket(r->broken & RECORD_SOCKET ? UINT8_MAX : NFT_SOCKET_WILDCARD));
	rule_add(rule, expr_equal(1, 0));
}

static void add_goto(struct nftnl_rule *rule, enum record_chain_id target)
{
	rule_add(rule, expr_verdict(NFT_GOTO, record_chains[target].name));
}

static void build_ports(const struct record *r, const struct record_rule *row,
			struct nftnl_rule *rule)
{
	(void)r;
	rule_add(rule, expr_meta(NFT_META_L4PROTO, NFT_REG_1));
	rule_add(rule, expr_equal(1, IPPROTO_TCP));
	add_port(rule, !row->in, NFT_REG_1);
	rule_add(rule, expr_lookup(record_sets[SET_LISTS + row->list].name, false));
	add_goto(rule, row->target);
}

static void build_ending(const struct record *r, const struct record_rule *row,
			 struct nftnl_rule *rule)
{
	(void)r;
	add_flags(rule, FLAG_FIN | FLAG_SYN | FLAG_RST, true);
	add_goto(rule, row->target);
}

static void build_new(const struct record *r, const struct record_rule *row,
		      struct nftnl_rule *rule)
{
	add_family(rule, row->v6);
	add_connection(rule, row->v6, row->in);
	rule_add(rule, expr_lookup(conn_names[row->v6], true));
	add_full_socket(r, rule);
	add_goto(rule, row->target);
}

static void build_answered(const struct record *r, const struct record_rule *row,
			   struct nftnl_rule *rule)
{
	(void)r;
	add_family(rule, row->v6);
	add_flags(rule, FLAG_PSH, true);
	add_connection(rule, row->v6, row->in);
	rule_add(rule, expr_lookup(conn_names[row->v6], true));
	add_goto(rule, row->target);
}

static void build_came(const struct record *r, const struct record_rule *row,
		       struct nftnl_rule *rule)
{
	add_family(rule, row->v6);
	add_connection(rule, row->v6, row->in);
	rule_add(rule, expr_lookup(conn_names[row->v6], true));
	rule_add(rule,
		 expr_meta(r->broken & RECORD_CGROUP ? UINT8_MAX : NFT_META_CGROUP, NFT_REG_1));
	rule_add(rule, expr_unequal(4, SYSTEM_CGROUP));
	add_full_socket(r, rule);
	add_goto(rule, row->target);
}

/* A SYN-ACK: there is no connection between these ports any more. */
static void build_forget(const struct record *r, const struct record_rule *row,
			 struct nftnl_rule *rule)
{
	(void)r;
	add_family(rule, row->v6);
	add_flags(rule, FLAG_SYN, true);
	add_connection(rule, row->v6, row->in);
	rule_add(rule, expr_dynset(NFT_DYNSET_OP_DELETE, conn_names[row->v6], 0, false));
	rule_add(rule, expr_verdict(NFT_RETURN, NULL));
}

static void build_close(const struct record *r, const struct record_rule *row,
			struct nftnl_rule *rule)
{
	(void)r;
	add_family(rule, row->v6);
	add_connection(rule, row->v6, row->in);
	rule_add(rule, expr_lookup(conn_names[row->v6], false));
	rule_add(rule, expr_dynset(NFT_DYNSET_OP_UPDATE, conn_names[row->v6], CLOSED_MS, false));
	rule_add(rule, expr_verdict(NFT_RETURN, NULL));
}

/* Its first segment is the server's FIN. */
static void build_fin(const struct record *r, const struct record_rule *row,
		      struct nftnl_rule *rule)
{
	add_family(rule, row->v6);
	add_flags(rule, FLAG_SYN | FLAG_RST, false);
	add_full_socket(r, rule);
	add_goto(rule, row->target);
}

static void build_count(const struct record *r, const struct record_rule *row,
			struct nftnl_rule *rule)
{
	(void)r;
	add_family(rule, row->v6);
	add_connection(rule, row->v6, row->in);
	rule_add(rule, expr_dynset(NFT_DYNSET_OP_ADD, conn_names[row->v6], 0, false));
	add_address(rule, row->v6, row->in);
	rule_add(rule, expr_dynset(NFT_DYNSET_OP_UPDATE, seen_names[row->v6], 0, true));
	rule_add(rule, expr_verdict(NFT_RETURN, NULL));
}

/* Reached when one of the two sets has no room. */
static void build_missed(const struct record *r, const struct record_rule *row,
			 struct nftnl_rule *rule)
{
	(void)r;
	add_family(rule, row->v6);
	rule_add(rule, expr_object(NFT_OBJECT_COUNTER, record_missed[row->v6]));
	add_address(rule, row->v6, row->in);
	rule_add(rule, expr_lookup(seen_names[row->v6], true));
	rule_add(rule, expr_dynset(NFT_DYNSET_OP_UPDATE, seen_names[row->v6], 0, true));
}

/* In the order in which they stand in their chain. */
static const struct record_rule rules[] = {
	{CHAIN_OUTPUT, WHEN_WILD, build_ports, .list = LIST_WILD, .target = CHAIN_WILD},
	{CHAIN_OUTPUT, WHEN_SINGLE, build_ports, .list = LIST_SINGLE, .target = CHAIN_SINGLE},
	{CHAIN_INPUT, WHEN_INPUT, build_ports, .list = LIST_SINGLE, .target = CHAIN_CAME,
	 .in = true},
	{CHAIN_WILD, WHEN_WILD, build_ending, .target = CHAIN_ENDING},
	{CHAIN_WILD, WHEN_WILD, build_new, .target = CHAIN_NEW4, .feature = RECORD_SOCKET},
	{CHAIN_WILD, WHEN_WILD, build_new, .v6 = true, .target = CHAIN_NEW6,
	 .feature = RECORD_SOCKET},
	{CHAIN_SINGLE, WHEN_SINGLE, build_ending, .target = CHAIN_ENDING},
	{CHAIN_SINGLE, WHEN_SINGLE, build_answered, .target = CHAIN_NEW4},
	{CHAIN_SINGLE, WHEN_SINGLE, build_answered, .v6 = true, .target = CHAIN_NEW6},
	{CHAIN_CAME, WHEN_INPUT, build_came, .in = true, .target = CHAIN_CAME4,
	 .feature = RECORD_CGROUP},
	{CHAIN_CAME, WHEN_INPUT, build_came, .in = true, .v6 = true, .target = CHAIN_CAME6,
	 .feature = RECORD_CGROUP},
	{CHAIN_ENDING, WHEN_RECORD, build_forget, .v6 = false},
	{CHAIN_ENDING, WHEN_RECORD, build_forget, .v6 = true},
	{CHAIN_ENDING, WHEN_RECORD, build_close, .v6 = false},
	{CHAIN_ENDING, WHEN_RECORD, build_close, .v6 = true},
	{CHAIN_ENDING, WHEN_RECORD, build_fin, .target = CHAIN_NEW4, .feature = RECORD_SOCKET},
	{CHAIN_ENDING, WHEN_RECORD, build_fin, .v6 = true, .target = CHAIN_NEW6,
	 .feature = RECORD_SOCKET},
	{CHAIN_NEW4, WHEN_RECORD, build_count, .v6 = false},
	{CHAIN_NEW4, WHEN_RECORD, build_missed, .v6 = false},
	{CHAIN_NEW6, WHEN_RECORD, build_count, .v6 = true},
	{CHAIN_NEW6, WHEN_RECORD, build_missed, .v6 = true},
	{CHAIN_CAME4, WHEN_INPUT, build_count, .in = true},
	{CHAIN_CAME4, WHEN_INPUT, build_missed, .in = true},
	{CHAIN_CAME6, WHEN_INPUT, build_count, .in = true, .v6 = true},
	{CHAIN_CAME6, WHEN_INPUT, build_missed, .in = true, .v6 = true},
};
#define RULES (sizeof rules / sizeof rules[0])

const struct record_rule *record_rule_at(const struct record *r, unsigned chain, unsigned step)
{
	unsigned when = record_wants(r);

	for (unsigned i = 0; i < RULES; i++)
		if (rules[i].chain == chain && rules[i].when & when && !step--)
			return &rules[i];
	return NULL;
}

uint8_t record_rule_feature(const struct record_rule *row)
{
	return row->feature;
}

struct nftnl_rule *record_make_rule(const struct record *r, const struct record_rule *row)
{
	struct nftnl_rule *rule = rule_new(r->table, record_chains[row->chain].name);

	if (rule)
		row->build(r, row, rule);
	return rule;
}

struct nftnl_rule *record_make_bell_rule(const struct record *r, enum record_bell_rule which)
{
	const uint8_t flags = FLAG_SYN | FLAG_ACK;
	struct nftnl_rule *rule = rule_new(r->table, FIREWALL_CHAIN);

	if (!rule)
		return NULL;
	rule_add(rule, expr_meta(NFT_META_L4PROTO, NFT_REG_1));
	rule_add(rule, expr_equal(1, IPPROTO_TCP));
	rule_add(rule, expr_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, NFT_REG_1));
	rule_add(rule, expr_mask(&flags, 1));
	rule_add(rule, expr_equal(1, FLAG_SYN));
	if (which == BELL_RULE_ANY) {
		rule_add(rule, expr_meta(NFT_META_IIF, NFT_REG_1));
		rule_add(rule, expr_unequal(4, LOOPBACK_INDEX));
		rule_add(rule, expr_object(NFT_OBJECT_QUOTA, BELL_ANY));
	} else {
		add_port(rule, false, NFT_REG_1);
		rule_add(rule, expr_object_of(record_sets[SET_LISTS + LIST_BELLS].name));
	}
	return rule;
}
