/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel has of the record and the bells, and whether it is what is wanted: see
 * firewall_record.h. Fails with the kernel's errno when it does not tell. */
#include "daemon/enforcer/firewall_record_impl.h"

#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#define AWAY_MESSAGES_MAX 4096u /* of another namespace's tables; ours there takes 40 */

struct listing {
	struct record *r;
	netlink_message *take;
	void *ctx;
};

/* Who rules another namespace may fill its tables, and shall not keep us busy. */
static int take_listed(void *ctx, const struct nlmsghdr *nlh)
{
	struct listing *l = ctx;

	if (++l->r->found.messages > AWAY_MESSAGES_MAX && l->r->nl == &l->r->own_nl)
		return -E2BIG;
	return l->take(l->ctx, nlh);
}

static int list(struct record *r, const char *set, uint16_t type, netlink_message *take, void *ctx)
{
	struct listing l = {r, take, ctx};

	return firewall_list(r->nl, r->table, set, type, take_listed, &l);
}

static bool ours(const struct record *r, const char *table)
{
	return table && strcmp(table, r->table) == 0;
}

static int see_table(void *ctx, const struct nlmsghdr *nlh)
{
	struct record *r = ctx;
	struct nftnl_table *t = nftnl_table_alloc();

	if (!t)
		return -ENOMEM;
	if (nftnl_table_nlmsg_parse(nlh, t) == 0 &&
	    ours(r, nftnl_table_get_str(t, NFTNL_TABLE_NAME))) {
		r->found.table = true;
		r->found.dormant = nftnl_table_get_u32(t, NFTNL_TABLE_FLAGS) & NFT_TABLE_F_DORMANT;
	}
	nftnl_table_free(t);
	return 0;
}

static bool set_ok(const struct record *r, const struct nftnl_set *s, const struct record_set *row)
{
	return nftnl_set_get_u32(s, NFTNL_SET_FLAGS) == row->flags &&
	       nftnl_set_get_u32(s, NFTNL_SET_KEY_LEN) == row->length &&
	       (!row->timeout_ms || (nftnl_set_get_u32(s, NFTNL_SET_DESC_SIZE) == r->size &&
				     nftnl_set_get_u64(s, NFTNL_SET_TIMEOUT) == row->timeout_ms)) &&
	       (!(row->flags & NFT_SET_OBJECT) ||
		nftnl_set_get_u32(s, NFTNL_SET_OBJ_TYPE) == NFT_OBJECT_QUOTA);
}

void record_see_bells(struct record *r, const struct nftnl_set *s)
{
	const struct record_set *row = &record_sets[SET_LISTS + LIST_BELLS];

	if (strcmp(nftnl_set_get_str(s, NFTNL_SET_NAME), row->name) == 0 && set_ok(r, s, row))
		r->bells_made |= BELL_RULE_PORTS;
}

static void look_at_set(struct record *r, const struct nftnl_set *s)
{
	const char *name = nftnl_set_get_str(s, NFTNL_SET_NAME);

	for (unsigned i = 0; i < RECORD_SETS; i++) {
		if (strcmp(name, record_sets[i].name) != 0)
			continue;
		r->found.sets |= 1u << i;
		if (!set_ok(r, s, &record_sets[i]))
			r->found.bad_sets |= 1u << i;
	}
	record_see_bells(r, s);
}

static int see_set(void *ctx, const struct nlmsghdr *nlh)
{
	struct record *r = ctx;
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		return -ENOMEM;
	if (nftnl_set_nlmsg_parse(nlh, s) == 0 && ours(r, nftnl_set_get_str(s, NFTNL_SET_TABLE)))
		look_at_set(r, s);
	nftnl_set_free(s);
	return 0;
}

static void add_found(struct port_list *list, uint16_t number)
{
	if (list->count < RECORD_LISTED_MAX)
		list->number[list->count] = number;
	list->count++;
}

int record_port_of_bell(const char *name)
{
	struct slice text = slice_str(name);
	uint64_t port;

	if (strcmp(name, BELL_ANY) == 0)
		return FIREWALL_ANY_PORT;
	if (!slice_starts(text, SLICE("bell_")) ||
	    slice_u64(slice_skip(text, 5), UINT16_MAX, &port) < 0 || !port)
		return -1;
	return (int)port;
}

/* The port of the bell that an object is, or -1. */
static int bell_of(struct nftnl_obj *o)
{
	const char *name = nftnl_obj_get_str(o, NFTNL_OBJ_NAME);

	return name && nftnl_obj_get_u32(o, NFTNL_OBJ_TYPE) == NFT_OBJECT_QUOTA
		       ? record_port_of_bell(name)
		       : -1;
}

static bool bell_ok(struct nftnl_obj *o)
{
	return nftnl_obj_get_u64(o, NFTNL_OBJ_QUOTA_BYTES) == 1 &&
	       nftnl_obj_get_u32(o, NFTNL_OBJ_QUOTA_FLAGS) & NFT_QUOTA_F_INV;
}

void record_see_bell(struct record *r, struct nftnl_obj *o)
{
	if (bell_of(o) == FIREWALL_ANY_PORT)
		r->bells_made |= BELL_RULE_ANY;
}

static void look_at_object(struct record *r, struct nftnl_obj *o)
{
	const char *name = nftnl_obj_get_str(o, NFTNL_OBJ_NAME);
	uint32_t kind = nftnl_obj_get_u32(o, NFTNL_OBJ_TYPE);
	int port = bell_of(o);

	for (unsigned i = 0; i < 2; i++)
		if (name && kind == NFT_OBJECT_COUNTER && strcmp(name, record_missed[i]) == 0)
			r->found.counters |= 1u << i;
	record_see_bell(r, o);
	if (port >= 0)
		add_found(bell_ok(o) ? &r->found.bells : &r->found.bad_bells, (uint16_t)port);
}

static int see_object(void *ctx, const struct nlmsghdr *nlh)
{
	struct record *r = ctx;
	struct nftnl_obj *o = nftnl_obj_alloc();

	if (!o)
		return -ENOMEM;
	if (nftnl_obj_nlmsg_parse(nlh, o) == 0 && ours(r, nftnl_obj_get_str(o, NFTNL_OBJ_TABLE)))
		look_at_object(r, o);
	nftnl_obj_free(o);
	return 0;
}

struct seen_list {
	struct record *r;
	enum record_list list;
};

/* What is not a port of its own bell counts as 0, which is no port. */
static int see_list_element(const struct nlattr *attr, void *ctx)
{
	const struct seen_list *seen = ctx;
	struct attrs of, key;
	uint16_t number = 0;

	if (attrs_nested(attr, &of) && attrs_nested(of.of[NFTA_SET_ELEM_KEY], &key) &&
	    key.of[NFTA_DATA_VALUE] && mnl_attr_get_payload_len(key.of[NFTA_DATA_VALUE]) == 2)
		number = ntohs(mnl_attr_get_u16(key.of[NFTA_DATA_VALUE]));
	if (seen->list == LIST_BELLS &&
	    (!attr_is_text(of.of[NFTA_SET_ELEM_OBJREF]) ||
	     record_port_of_bell(mnl_attr_get_str(of.of[NFTA_SET_ELEM_OBJREF])) != number))
		number = 0;
	add_found(&seen->r->found.lists[seen->list], number);
	return MNL_CB_OK;
}

static int see_list(void *ctx, const struct nlmsghdr *nlh)
{
	struct attrs of;

	if (attrs_of(nlh, &of) && of.of[NFTA_SET_ELEM_LIST_ELEMENTS])
		mnl_attr_parse_nested(of.of[NFTA_SET_ELEM_LIST_ELEMENTS], see_list_element, ctx);
	return 0;
}

/* -1: not ours. */
static int chain_of(const struct record *r, const char *table, const char *name)
{
	if (!ours(r, table) || !name)
		return -1;
	for (int i = 0; i < RECORD_CHAINS; i++)
		if (strcmp(name, record_chains[i].name) == 0)
			return i;
	return -1;
}

static bool chain_ok(const struct nftnl_chain *c, const struct record_chain *row)
{
	if (row->hook < 0 || !nftnl_chain_is_set(c, NFTNL_CHAIN_HOOKNUM))
		return (row->hook < 0) == !nftnl_chain_is_set(c, NFTNL_CHAIN_HOOKNUM);
	return nftnl_chain_get_u32(c, NFTNL_CHAIN_HOOKNUM) == (uint32_t)row->hook &&
	       nftnl_chain_get_s32(c, NFTNL_CHAIN_PRIO) == 0 &&
	       nftnl_chain_get_u32(c, NFTNL_CHAIN_POLICY) == NF_ACCEPT;
}

static int see_chain(void *ctx, const struct nlmsghdr *nlh)
{
	struct record *r = ctx;
	struct nftnl_chain *c = nftnl_chain_alloc();
	int i;

	if (!c)
		return -ENOMEM;
	if (nftnl_chain_nlmsg_parse(nlh, c) == 0) {
		i = chain_of(r, nftnl_chain_get_str(c, NFTNL_CHAIN_TABLE),
			     nftnl_chain_get_str(c, NFTNL_CHAIN_NAME));
		if (i >= 0)
			r->found.chains |= 1u << i;
		if (i >= 0 && !chain_ok(c, &record_chains[i]))
			r->found.bad_chains |= 1u << i;
	}
	nftnl_chain_free(c);
	return 0;
}

static int see_rule(void *ctx, const struct nlmsghdr *nlh)
{
	struct record *r = ctx;
	struct nftnl_rule *rule = nftnl_rule_alloc(), *want;
	const struct record_rule *row;
	int chain = -1;

	if (!rule)
		return -ENOMEM;
	if (nftnl_rule_nlmsg_parse(nlh, rule) == 0)
		chain = chain_of(r, nftnl_rule_get_str(rule, NFTNL_RULE_TABLE),
				 nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
	if (chain >= 0) {
		row = record_rule_at(r, (unsigned)chain, r->found.steps[chain]++);
		want = row ? record_make_rule(r, row) : NULL;
		if (!want || !rule_same(rule, want))
			r->found.rules_differ = true;
		rule_free(want);
	}
	nftnl_rule_free(rule);
	return 0;
}

unsigned record_is_bell_rule(const struct record *r, const struct nftnl_rule *rule)
{
	unsigned same = 0;

	for (unsigned i = 0; i < BELL_RULES_MAX && !same; i++) {
		struct nftnl_rule *want =
			record_make_bell_rule(r, (enum record_bell_rule)(1u << i));

		if (want && rule_same(rule, want))
			same = 1u << i;
		rule_free(want);
	}
	return same;
}

static int list_ports(struct record *r)
{
	int code = 0;

	for (unsigned i = 0; i < RECORD_LISTS && code == 0; i++) {
		unsigned bit = 1u << (SET_LISTS + i);
		struct seen_list seen = {r, (enum record_list)i};

		if (r->found.sets & bit && !(r->found.bad_sets & bit))
			code = list(r, record_sets[SET_LISTS + i].name, NFT_MSG_GETSETELEM,
				    see_list, &seen);
	}
	return code;
}

static int read_parts(struct record *r)
{
	int code;

	r->found = (struct record_found){0};
	r->bells_made = 0;
	code = list(r, NULL, NFT_MSG_GETTABLE, see_table, r);
	if (code == 0)
		code = list(r, NULL, NFT_MSG_GETSET, see_set, r);
	if (code == 0)
		code = list(r, NULL, NFT_MSG_GETOBJ, see_object, r);
	if (code == 0)
		code = list_ports(r);
	return code;
}

static int read_rules(struct record *r)
{
	int code = list(r, NULL, NFT_MSG_GETCHAIN, see_chain, r);

	if (code == 0)
		code = list(r, NULL, NFT_MSG_GETRULE, see_rule, r);
	for (unsigned i = 0; i < RECORD_CHAINS && code == 0; i++)
		if (record_rule_at(r, i, r->found.steps[i]))
			r->found.rules_differ = true;
	return code;
}

static bool list_differs(const struct record *r, enum record_list list)
{
	const struct port_list *found = &r->found.lists[list];
	unsigned wanted = 0;

	for (unsigned i = 0; i < r->count; i++) {
		if (!record_belongs(r, &r->ports[i], list))
			continue;
		wanted++;
		if (!port_list_has(found, r->ports[i].number))
			return true;
	}
	return found->count != wanted;
}

static bool bells_differ(const struct record *r)
{
	unsigned wanted = 0;

	for (unsigned i = 0; i < r->count; i++) {
		if (!record_rings(r, &r->ports[i]))
			continue;
		wanted++;
		if (!port_list_has(&r->found.bells, r->ports[i].number))
			return true;
	}
	return r->found.bells.count != wanted || r->found.bad_bells.count ||
	       list_differs(r, LIST_BELLS);
}

static int judge(const struct record *r)
{
	const struct record_found *f = &r->found;
	const unsigned bell_bit = 1u << (SET_LISTS + LIST_BELLS);
	const unsigned when = record_wants(r), counters = (when & WHEN_RECORD) ? 3 : 0;
	unsigned chains = 0, sets = 0;
	int differs = 0;

	for (unsigned i = 0; i < RECORD_CHAINS; i++)
		if (record_chains[i].when & when)
			chains |= 1u << i;
	for (unsigned i = 0; i < RECORD_SETS; i++)
		if (record_sets[i].when & when)
			sets |= 1u << i;
	if (f->dormant || f->chains != chains || f->bad_chains || f->rules_differ ||
	    (f->sets ^ sets) & ~bell_bit || f->bad_sets & ~bell_bit || f->counters != counters ||
	    list_differs(r, LIST_WILD) || list_differs(r, LIST_SINGLE))
		differs |= RECORD_DIFFERS;
	if ((f->sets ^ sets) & bell_bit || f->bad_sets & bell_bit || bells_differ(r))
		differs |= BELLS_DIFFER;
	return differs;
}

int record_check(struct record *r)
{
	int code = read_parts(r);

	if (code == 0)
		code = read_rules(r);
	return code < 0 ? code : judge(r);
}

static unsigned collect(const struct port_list *list, uint8_t flags, struct firewall_port *ports,
			unsigned count)
{
	for (unsigned i = 0; i < list->count && i < RECORD_LISTED_MAX; i++)
		if (list->number[i])
			ports[count++] = (struct firewall_port){list->number[i], flags};
	return count;
}

/* The lists as somebody wanted them; those that are no list of ours become none. */
static void want_found(struct record *r)
{
	struct firewall_port ports[3 * RECORD_LISTED_MAX + 1];
	struct record_port sorted[FIREWALL_PORTS_MAX];
	unsigned count = 0;

	count = collect(&r->found.lists[LIST_WILD], FIREWALL_RECORD, ports, count);
	count = collect(&r->found.lists[LIST_SINGLE], FIREWALL_RECORD | FIREWALL_SINGLE, ports,
			count);
	count = collect(&r->found.lists[LIST_BELLS], FIREWALL_BELL, ports, count);
	if (port_list_has(&r->found.bells, FIREWALL_ANY_PORT))
		ports[count++] = (struct firewall_port){FIREWALL_ANY_PORT, FIREWALL_BELL};
	count = record_merge(ports, count, sorted);
	record_want(r, sorted, count);
}

int record_adopt(struct record *r)
{
	int code = read_parts(r);

	if (code < 0)
		return code;
	want_found(r);
	code = read_rules(r);
	if (code == 0)
		code = judge(r);
	if (code >= 0)
		for (unsigned i = 0; i < r->count; i++)
			r->ports[i].since_ns = code & RECORD_DIFFERS ? CLOCK_FOREVER : 0;
	r->in_force = code == 0;
	return code;
}
