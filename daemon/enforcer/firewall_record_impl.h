/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the record share:
 *
 *	firewall_record.c   the wanted ports, and the transaction
 *	firewall_rules.c    the rules
 *	firewall_found.c    the check of what is there
 *	firewall_seen.c     questions, state, bells, the record of another namespace
 *
 * Chains, sets and rules are rows of tables; each row says when it is there.
 */
#ifndef TAILBAN_ENFORCER_FIREWALL_RECORD_IMPL_H
#define TAILBAN_ENFORCER_FIREWALL_RECORD_IMPL_H

#include "daemon/enforcer/firewall_impl.h"

enum record_when {
	WHEN_RECORD = 1, /* any port is recorded */
	WHEN_WILD = 2,
	WHEN_SINGLE = 4,
	WHEN_INPUT = 8,
	WHEN_BELLS = 16, /* of single ports: the map */
	WHEN_ANY = 32,   /* the bell of any port */
};
/* Of the wanted ports: these bits. */
unsigned record_wants(const struct record *r);

enum record_chain_id {
	CHAIN_OUTPUT,
	CHAIN_INPUT,
	CHAIN_WILD,
	CHAIN_SINGLE,
	CHAIN_CAME,
	CHAIN_ENDING,
	CHAIN_NEW4,
	CHAIN_NEW6,
	CHAIN_CAME4,
	CHAIN_CAME6,
};
struct record_chain {
	const char *name;
	int hook; /* -1: no base chain */
	enum record_when when;
};
extern const struct record_chain record_chains[RECORD_CHAINS];

/* The lists are the last ones of the sets. */
enum record_list { LIST_WILD, LIST_SINGLE, LIST_BELLS };
#define SET_LISTS 4
#define RECORD_SETS (SET_LISTS + RECORD_LISTS)
struct record_set {
	const char *name;
	uint32_t flags, type, length;
	uint64_t timeout_ms;
	enum record_when when;
};
extern const struct record_set record_sets[RECORD_SETS];
/* Counters of what met a full set: IPv4, IPv6. */
extern const char *const record_missed[2];

bool record_rings(const struct record *r, const struct record_port *port);
/* Whether this port belongs on this list. */
bool record_belongs(const struct record *r, const struct record_port *port, enum record_list list);
bool port_list_has(const struct port_list *list, uint16_t number);
/* Sorts `ports` and joins those of one number; at most FIREWALL_PORTS_MAX. */
unsigned record_merge(struct firewall_port *ports, size_t n, struct record_port *ret_ports);

/* Rule number `step` of this chain as it is wanted now, or NULL. */
struct record_rule;
const struct record_rule *record_rule_at(const struct record *r, unsigned chain, unsigned step);
struct nftnl_rule *record_make_rule(const struct record *r, const struct record_rule *row);
/* What a kernel lacks that refuses it. */
uint8_t record_rule_feature(const struct record_rule *row);
struct nftnl_rule *record_make_bell_rule(const struct record *r, enum record_bell_rule which);

#endif
