/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record's wanted ports, and the transaction that brings what the check found missing: see
 * firewall_record.h. What the kernel does not know is left out and remembered; other refusals are
 * the caller's, who keeps what was there. */
#include "daemon/enforcer/firewall_record_impl.h"

#include <assert.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/object.h>
#include <libnftnl/set.h>
#include <stdio.h>
#include <stdlib.h>

#define OPEN_MS UINT64_C(600000) /* a connection stays counted: as long as `findtime` */
#define PORTS_PER_MESSAGE 16u
#define SET_ID 4096u

/* Types of set keys as nft names them; a concatenation has six bits for each of its fields. */
enum {
	PORT = 13,
	ADDRESS4_PORT = 7 << 6 | PORT,
	ADDRESS6_PORT = 8 << 6 | PORT,
	CONNECTION4 = ADDRESS4_PORT << 6 | PORT,
	CONNECTION6 = ADDRESS6_PORT << 6 | PORT,
};

const struct record_chain record_chains[RECORD_CHAINS] = {
	[CHAIN_OUTPUT] = {"output", NF_INET_LOCAL_OUT, WHEN_RECORD},
	[CHAIN_INPUT] = {"input", NF_INET_LOCAL_IN, WHEN_INPUT},
	[CHAIN_WILD] = {"wild", -1, WHEN_WILD},
	[CHAIN_SINGLE] = {"single", -1, WHEN_SINGLE},
	[CHAIN_CAME] = {"came", -1, WHEN_INPUT},
	[CHAIN_ENDING] = {"ending", -1, WHEN_RECORD},
	[CHAIN_NEW4] = {"new4", -1, WHEN_RECORD},
	[CHAIN_NEW6] = {"new6", -1, WHEN_RECORD},
	[CHAIN_CAME4] = {"came4", -1, WHEN_INPUT},
	[CHAIN_CAME6] = {"came6", -1, WHEN_INPUT},
};

const struct record_set record_sets[RECORD_SETS] = {
	{"seen4", NFT_SET_TIMEOUT | NFT_SET_EVAL, ADDRESS4_PORT, 8, FIREWALL_RECORD_MS,
	 WHEN_RECORD},
	{"seen6", NFT_SET_TIMEOUT | NFT_SET_EVAL, ADDRESS6_PORT, 20, FIREWALL_RECORD_MS,
	 WHEN_RECORD},
	{"conn4", NFT_SET_TIMEOUT | NFT_SET_EVAL, CONNECTION4, 12, OPEN_MS, WHEN_RECORD},
	{"conn6", NFT_SET_TIMEOUT | NFT_SET_EVAL, CONNECTION6, 24, OPEN_MS, WHEN_RECORD},
	[SET_LISTS + LIST_WILD] = {"wild", 0, PORT, 2, 0, WHEN_WILD},
	[SET_LISTS + LIST_SINGLE] = {"single", 0, PORT, 2, 0, WHEN_SINGLE},
	[SET_LISTS + LIST_BELLS] = {"bells", NFT_SET_OBJECT, PORT, 2, 0, WHEN_BELLS},
};

const char *const record_missed[] = {"missed4", "missed6"};

enum record_part record_part_of(const char *set)
{
	for (unsigned i = 0; i < RECORD_SETS; i++)
		if (strcmp(set, record_sets[i].name) == 0)
			return i < SET_LISTS ? RECORD_MEMORY : RECORD_LIST;
	return RECORD_NO_PART;
}

/* --- The wanted ports --- */

bool record_rings(const struct record *r, const struct record_port *port)
{
	return port->flags & FIREWALL_BELL && !(r->lacks & RECORD_QUOTA);
}

bool record_belongs(const struct record *r, const struct record_port *port, enum record_list list)
{
	bool single = port->flags & FIREWALL_SINGLE || r->lacks & RECORD_SOCKET;

	if (list == LIST_BELLS)
		return port->number != FIREWALL_ANY_PORT && record_rings(r, port);
	return port->flags & FIREWALL_RECORD && single == (list == LIST_SINGLE);
}

unsigned record_wants(const struct record *r)
{
	unsigned when = 0;

	for (unsigned i = 0; i < r->count; i++) {
		if (record_belongs(r, &r->ports[i], LIST_WILD))
			when |= WHEN_RECORD | WHEN_WILD;
		if (record_belongs(r, &r->ports[i], LIST_SINGLE))
			when |= WHEN_RECORD | WHEN_SINGLE | WHEN_INPUT;
		if (record_belongs(r, &r->ports[i], LIST_BELLS))
			when |= WHEN_BELLS;
		if (r->ports[i].number == FIREWALL_ANY_PORT && record_rings(r, &r->ports[i]))
			when |= WHEN_ANY;
	}
	if (r->lacks & (RECORD_SOCKET | RECORD_CGROUP))
		when &= ~(unsigned)WHEN_INPUT;
	return when;
}

unsigned record_wants_bells(const struct record *r)
{
	unsigned when = record_wants(r);

	return (when & WHEN_BELLS ? BELL_RULE_PORTS : 0u) | (when & WHEN_ANY ? BELL_RULE_ANY : 0u);
}

static int by_number(const void *a, const void *b)
{
	const struct firewall_port *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

unsigned record_merge(struct firewall_port *ports, size_t n, struct record_port *ret_ports)
{
	unsigned count = 0;

	if (n)
		qsort(ports, n, sizeof ports[0], by_number);
	for (size_t i = 0; i < n; i++) {
		if (!count || ret_ports[count - 1].number != ports[i].number) {
			if (count == FIREWALL_PORTS_MAX)
				break;
			ret_ports[count++] = (struct record_port){.number = ports[i].number};
		}
		ret_ports[count - 1].flags |= ports[i].flags;
	}
	return count;
}

int record_sort(const struct firewall_port *ports, size_t n, struct record_port *ret_ports,
		unsigned *ret_count, struct error *err)
{
	struct firewall_port sorted[FIREWALL_PORTS_MAX];

	*ret_count = 0;
	if (n > FIREWALL_PORTS_MAX)
		return error_set(err, -E2BIG, "%zu ports to watch, at most %u", n,
				 FIREWALL_PORTS_MAX);
	for (size_t i = 0; i < n; i++) {
		sorted[i] = ports[i];
		if (sorted[i].number == FIREWALL_ANY_PORT && sorted[i].flags != FIREWALL_BELL)
			return error_set(err, -EINVAL, "port 0 cannot be recorded");
	}
	*ret_count = record_merge(sorted, n, ret_ports);
	for (unsigned i = 0; i < *ret_count; i++)
		if (!(ret_ports[i].flags & FIREWALL_RECORD))
			ret_ports[i].flags &= (uint8_t)~FIREWALL_SINGLE;
	return 0;
}

bool record_is(const struct record *r, const struct record_port *ports, unsigned count)
{
	if (r->count != count)
		return false;
	for (unsigned i = 0; i < count; i++)
		if (r->ports[i].number != ports[i].number || r->ports[i].flags != ports[i].flags)
			return false;
	return true;
}

static struct record_port *port_of(struct record *r, uint16_t number)
{
	for (unsigned i = 0; i < r->count; i++)
		if (r->ports[i].number == number)
			return &r->ports[i];
	return NULL;
}

void record_want(struct record *r, const struct record_port *ports, unsigned count)
{
	struct record_port fresh[FIREWALL_PORTS_MAX];

	assert(count <= FIREWALL_PORTS_MAX);
	for (unsigned i = 0; i < count; i++) {
		const struct record_port *old = port_of(r, ports[i].number);

		fresh[i] = ports[i];
		fresh[i].since_ns = CLOCK_FOREVER;
		if (old && old->flags & ports[i].flags & FIREWALL_RECORD)
			fresh[i].since_ns = old->since_ns;
	}
	if (count)
		memcpy(r->ports, fresh, count * sizeof fresh[0]);
	r->count = count;
	r->known = true;
}

/* --- Messages --- */

/* The message in work fails where the feature lacks; 0: it fails with others that are marked. */
static void mark(struct record *r, const struct netlink_batch *batch, uint8_t feature)
{
	if (r->mark_count < RECORD_MARKS) {
		r->marks[r->mark_count].message = batch->count - 1;
		r->marks[r->mark_count++].feature = feature;
	}
}

static void put_chain(struct record *r, struct netlink_batch *batch, uint16_t type,
		      const struct record_chain *row)
{
	struct nlmsghdr *nlh =
		firewall_message(batch, type, type == NFT_MSG_NEWCHAIN ? NLM_F_CREATE : 0);
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (!nlh || !c)
		return;
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, r->table);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, row->name);
	if (type == NFT_MSG_NEWCHAIN && row->hook >= 0) {
		nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter");
		nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, (uint32_t)row->hook);
		nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, 0);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	}
	nftnl_chain_nlmsg_build_payload(nlh, c);
	nftnl_chain_free(c);
}

static void put_set(struct record *r, struct netlink_batch *batch, const struct record_set *row)
{
	struct nlmsghdr *nlh = firewall_message(batch, NFT_MSG_NEWSET, NLM_F_CREATE);
	struct nftnl_set *s = nftnl_set_alloc();

	if (!nlh || !s)
		return;
	nftnl_set_set_str(s, NFTNL_SET_TABLE, r->table);
	nftnl_set_set_str(s, NFTNL_SET_NAME, row->name);
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(s, NFTNL_SET_ID, SET_ID + (uint32_t)(row - record_sets));
	nftnl_set_set_u32(s, NFTNL_SET_FLAGS, row->flags);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, row->type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, row->length);
	if (row->flags & NFT_SET_OBJECT)
		nftnl_set_set_u32(s, NFTNL_SET_OBJ_TYPE, NFT_OBJECT_QUOTA);
	if (row->timeout_ms) {
		nftnl_set_set_u64(s, NFTNL_SET_TIMEOUT, row->timeout_ms);
		nftnl_set_set_u32(s, NFTNL_SET_DESC_SIZE, r->size);
	}
	nftnl_set_nlmsg_build_payload(nlh, s);
	nftnl_set_free(s);
}

static void put_set_end(struct record *r, struct netlink_batch *batch, uint16_t type,
			const char *name)
{
	struct nlmsghdr *nlh = firewall_message(batch, type, 0);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, r->table);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, name);
}

void record_name_bell(uint16_t port, char name[static FIREWALL_NAME_MAX])
{
	if (port == FIREWALL_ANY_PORT)
		snprintf(name, FIREWALL_NAME_MAX, BELL_ANY);
	else
		snprintf(name, FIREWALL_NAME_MAX, "bell_%u", port);
}

static void put_object(struct record *r, struct netlink_batch *batch, uint16_t type, uint32_t kind,
		       const char *name)
{
	struct nlmsghdr *nlh =
		firewall_message(batch, type, type == NFT_MSG_NEWOBJ ? NLM_F_CREATE : 0);
	struct nftnl_obj *o = nftnl_obj_alloc();

	if (!nlh || !o)
		return;
	nftnl_obj_set_str(o, NFTNL_OBJ_TABLE, r->table);
	nftnl_obj_set_str(o, NFTNL_OBJ_NAME, name);
	nftnl_obj_set_u32(o, NFTNL_OBJ_TYPE, kind);
	if (type == NFT_MSG_NEWOBJ && kind == NFT_OBJECT_QUOTA) {
		uint32_t unknown = r->broken & RECORD_QUOTA ? 1u << 31 : 0;

		nftnl_obj_set_u64(o, NFTNL_OBJ_QUOTA_BYTES, 1);
		nftnl_obj_set_u32(o, NFTNL_OBJ_QUOTA_FLAGS, NFT_QUOTA_F_INV | unknown);
	} else if (type == NFT_MSG_NEWOBJ) {
		nftnl_obj_set_u64(o, NFTNL_OBJ_CTR_PKTS, 0);
	}
	nftnl_obj_nlmsg_build_payload(nlh, o);
	nftnl_obj_free(o);
}

static void put_bell(struct record *r, struct netlink_batch *batch, uint16_t type, uint16_t port)
{
	char name[FIREWALL_NAME_MAX];

	record_name_bell(port, name);
	put_object(r, batch, type, NFT_OBJECT_QUOTA, name);
	if (type == NFT_MSG_NEWOBJ)
		mark(r, batch, RECORD_QUOTA);
}

static void put_list_element(struct nlmsghdr *nlh, uint16_t port, enum record_list list)
{
	struct nlattr *item = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM), *key;
	uint16_t wire = htons(port);
	char name[FIREWALL_NAME_MAX];

	key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, sizeof wire, &wire);
	mnl_attr_nest_end(nlh, key);
	if (list == LIST_BELLS) {
		record_name_bell(port, name);
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_OBJREF, name);
	}
	mnl_attr_nest_end(nlh, item);
}

/* Some of the ports from *at on. */
static void put_some_ports(struct record *r, struct netlink_batch *batch, enum record_list list,
			   unsigned *at)
{
	struct nlmsghdr *nlh = firewall_message(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
	struct nlattr *items;
	unsigned end = *at + PORTS_PER_MESSAGE < r->count ? *at + PORTS_PER_MESSAGE : r->count;

	if (!nlh) {
		*at = end;
		return;
	}
	if (list == LIST_BELLS)
		mark(r, batch, 0);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, r->table);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, record_sets[SET_LISTS + list].name);
	items = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	for (; *at < end; ++*at)
		if (record_belongs(r, &r->ports[*at], list))
			put_list_element(nlh, r->ports[*at].number, list);
	mnl_attr_nest_end(nlh, items);
}

/* --- The transaction --- */

bool port_list_has(const struct port_list *list, uint16_t number)
{
	for (unsigned i = 0; i < list->count && i < RECORD_LISTED_MAX; i++)
		if (list->number[i] == number)
			return true;
	return false;
}

bool record_has_bell(struct record *r, uint16_t number)
{
	const struct record_port *port = port_of(r, number);

	return port && record_rings(r, port);
}

static void put_bells_end(struct record *r, struct netlink_batch *batch,
			  const struct port_list *list, bool all)
{
	for (unsigned i = 0; i < list->count && i < RECORD_LISTED_MAX; i++)
		if (all || !record_has_bell(r, list->number[i]))
			put_bell(r, batch, NFT_MSG_DELOBJ, list->number[i]);
}

/* Rules first, they use the others; elements before the objects that they name. */
static void put_ends(struct record *r, struct netlink_batch *batch, unsigned when)
{
	const struct record_found *f = &r->found;

	for (unsigned i = 0; i < RECORD_CHAINS; i++)
		if (f->chains >> i & 1)
			rule_flush(batch, r->table, record_chains[i].name);
	for (unsigned i = 0; i < RECORD_CHAINS; i++)
		if (f->chains >> i & 1 &&
		    (!(record_chains[i].when & when) || f->bad_chains >> i & 1))
			put_chain(r, batch, NFT_MSG_DELCHAIN, &record_chains[i]);
	for (unsigned i = SET_LISTS; i < RECORD_SETS; i++)
		if (f->sets >> i & 1)
			put_set_end(r, batch, NFT_MSG_DELSETELEM, record_sets[i].name);
	for (unsigned i = 0; i < RECORD_SETS; i++)
		if (f->sets >> i & 1 && (!(record_sets[i].when & when) || f->bad_sets >> i & 1))
			put_set_end(r, batch, NFT_MSG_DELSET, record_sets[i].name);
	put_bells_end(r, batch, &f->bad_bells, true);
	put_bells_end(r, batch, &f->bells, false);
	for (unsigned i = 0; i < 2; i++)
		if (f->counters >> i & 1 && !(when & WHEN_RECORD))
			put_object(r, batch, NFT_MSG_DELOBJ, NFT_OBJECT_COUNTER, record_missed[i]);
}

static void put_objects(struct record *r, struct netlink_batch *batch, unsigned when)
{
	for (unsigned i = 0; i < r->count; i++)
		if (record_rings(r, &r->ports[i]) &&
		    !port_list_has(&r->found.bells, r->ports[i].number))
			put_bell(r, batch, NFT_MSG_NEWOBJ, r->ports[i].number);
	for (unsigned i = 0; i < 2 && when & WHEN_RECORD; i++)
		if (!(r->found.counters >> i & 1))
			put_object(r, batch, NFT_MSG_NEWOBJ, NFT_OBJECT_COUNTER, record_missed[i]);
}

static void put_lists(struct record *r, struct netlink_batch *batch, unsigned when)
{
	for (unsigned list = 0; list < RECORD_LISTS; list++)
		for (unsigned at = 0; record_sets[SET_LISTS + list].when & when && at < r->count;)
			put_some_ports(r, batch, (enum record_list)list, &at);
}

static void put_rules(struct record *r, struct netlink_batch *batch, unsigned chain)
{
	const struct record_rule *row;

	for (unsigned step = 0; (row = record_rule_at(r, chain, step)); step++) {
		rule_put(batch, record_make_rule(r, row));
		if (record_rule_feature(row))
			mark(r, batch, record_rule_feature(row));
	}
}

void record_put(struct record *r, struct netlink_batch *batch)
{
	const struct record_found *f = &r->found;
	unsigned when = record_wants(r);

	r->mark_count = 0;
	r->lacks_fresh = 0;
	r->refused_other = false;
	put_ends(r, batch, when);
	for (unsigned i = 0; i < RECORD_SETS; i++)
		if (record_sets[i].when & when && (!(f->sets >> i & 1) || f->bad_sets >> i & 1))
			put_set(r, batch, &record_sets[i]);
	put_objects(r, batch, when);
	put_lists(r, batch, when);
	for (unsigned i = 0; i < RECORD_CHAINS; i++)
		if (record_chains[i].when & when)
			put_chain(r, batch, NFT_MSG_NEWCHAIN, &record_chains[i]);
	for (unsigned i = 0; i < RECORD_CHAINS; i++)
		put_rules(r, batch, i);
}

void record_put_bell_rules(struct record *r, struct netlink_batch *batch, unsigned which)
{
	for (unsigned i = 0; i < BELL_RULES_MAX; i++) {
		if (!(which >> i & 1))
			continue;
		rule_put(batch, record_make_bell_rule(r, (enum record_bell_rule)(1u << i)));
		mark(r, batch, 0);
	}
}

void record_refused(void *ctx, uint32_t index, int error)
{
	struct record *r = ctx;

	(void)error;
	for (unsigned i = 0; i < r->mark_count; i++)
		if (r->marks[i].message == index) {
			r->lacks_fresh |= r->marks[i].feature;
			return;
		}
	r->refused_other = true;
}

bool record_learn(struct record *r)
{
	if (r->refused_other || !(r->lacks_fresh & ~r->lacks))
		return false;
	r->lacks |= r->lacks_fresh;
	return true;
}

void record_gap(struct record *r, struct now now)
{
	for (unsigned i = 0; i < r->count; i++)
		r->ports[i].since_ns =
			r->ports[i].flags & FIREWALL_RECORD ? now.mono_ns : CLOCK_FOREVER;
}

void record_is_in_force(struct record *r, bool gap, struct now now)
{
	r->in_force = true;
	r->error = 0;
	r->bells_made = (uint8_t)record_wants_bells(r);
	if (gap)
		record_gap(r, now);
	for (unsigned i = 0; i < r->count; i++)
		if (r->ports[i].flags & FIREWALL_RECORD && r->ports[i].since_ns == CLOCK_FOREVER)
			r->ports[i].since_ns = now.mono_ns;
}

void record_forget(struct record *r)
{
	r->found = (struct record_found){0};
	r->bells_made = 0;
	r->in_force = false;
}

/* --- Alone in a table --- */

static void put_table(struct record *r, struct netlink_batch *batch, uint16_t type)
{
	struct nlmsghdr *nlh =
		firewall_message(batch, type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);

	if (nlh)
		mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, r->table);
}

static int commit(struct record *r, struct netlink_batch *batch)
{
	firewall_batch_begin(r->nl, batch);
	put_table(r, batch, NFT_MSG_NEWTABLE);
	if (r->found.dormant) {
		put_table(r, batch, NFT_MSG_DELTABLE);
		put_table(r, batch, NFT_MSG_NEWTABLE);
		record_forget(r);
	}
	record_put(r, batch);
	netlink_batch_ack(batch);
	firewall_batch_end(batch);
	return netlink_commit(r->nl, batch, record_refused, r);
}

int record_commit(struct record *r)
{
	struct netlink_batch batch;
	int code = netlink_batch_init(&batch, RECORD_ROOM);

	if (code < 0)
		return code;
	do
		code = commit(r, &batch);
	while (code < 0 && record_learn(r));
	netlink_batch_fini(&batch);
	return code;
}

int record_remove(struct record *r)
{
	struct netlink_batch batch;
	int code = netlink_batch_init(&batch, RECORD_ROOM);

	if (code < 0)
		return code;
	firewall_batch_begin(r->nl, &batch);
	put_table(r, &batch, NFT_MSG_NEWTABLE);
	put_table(r, &batch, NFT_MSG_DELTABLE);
	netlink_batch_ack(&batch);
	firewall_batch_end(&batch);
	code = netlink_commit(r->nl, &batch, NULL, NULL);
	netlink_batch_fini(&batch);
	record_forget(r);
	return code;
}
