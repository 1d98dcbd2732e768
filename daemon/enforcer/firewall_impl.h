/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the firewall share; nobody else includes it.
 *
 *	firewall.c          structure: table, sets, chain, rules, their check; open, adopt, keep
 *	firewall_bans.c     elements: the queue, transactions, retries, drop counters
 *	firewall_watch.c    notifications, repair and its pace, the event loop
 *	firewall_record.c   who talked to a port, and the bells; see firewall_record_impl.h
 *	firewall_message.c  what messages are made of
 *
 * An element operation names an element and nothing else: when it is sent, the list of what is in
 * force says whether the element has to be there and until when (the latest end of all bans that
 * cover it). So an operation can be repeated, doubled or reordered without harm.
 */
#ifndef TAILBAN_ENFORCER_FIREWALL_IMPL_H
#define TAILBAN_ENFORCER_FIREWALL_IMPL_H

#include <arpa/inet.h> /* before the kernel's headers, which yield to it */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "daemon/base/netlink.h"
#include "daemon/enforcer/firewall.h"

#define FIREWALL_TABLE "tailban"
#define FIREWALL_CHAIN "prerouting"
#define RECORD_TABLE "tailban_record" /* in other namespaces */
#define BELL_ANY "bell_any"
#define FIREWALL_NAME_MAX 16 /* "forcep6_128" and its terminator */
#define FIREWALL_SETS_MAX 64 /* prefix lengths, scopes and forces in use at one time */
#define FIREWALL_DELETED_MAX 1024

/* A set of bans: which addresses it takes. Index: see firewall_set_index. */
struct ban_set {
	char name[FIREWALL_NAME_MAX];
	uint8_t family, plen, flags; /* flags: INFORCE_CLASS bits */
	bool used;                   /* has its rule */
	bool made;                   /* exists in the kernel, as far as we know */
};
#define FIREWALL_SETS (8 * 129)

struct element {
	struct addr addr;
	uint8_t flags; /* INFORCE_CLASS bits */
	uint8_t proto; /* 0 and */
	uint16_t port; /* 0 for scope = all */
	bool timed;
	int64_t expires_ms;
	uint64_t packets, bytes;
};

struct element_op {
	struct addr addr;
	uint8_t flags, proto;
	uint16_t port;
	uint16_t ports; /* of the ban: number of its port set */
	uint16_t rest;  /* operations of the same ban that follow */
	bool add, done, of_ban;
	int error;
	uint32_t first_message;
};

/* What one foreign transaction did so far. */
struct notice {
	bool damage;            /* table, chain, set or rule */
	bool elements;          /* elements may be missing */
	bool keep;              /* the ignore sets were touched */
	bool record;            /* the record lost entries */
	uint32_t deleted_count; /* more than FIREWALL_DELETED_MAX: only counted */
	struct element *deleted;
};

/* Reading the elements of a table that was there at start. */
struct adoption {
	struct netlink nl; /* closed when all is read */
	struct ban_set *set;
	unsigned step, attempt;
	uint32_t elements; /* of the set in work */
	int error;
};

/* What a kernel may lack for the record. */
enum record_feature {
	RECORD_SOCKET = 1, /* `socket wildcard` */
	RECORD_CGROUP = 2, /* `meta cgroup` */
	RECORD_QUOTA = 4,  /* quota objects, for the bells */
};

struct record_port {
	uint16_t number;
	uint8_t flags;
	int64_t since_ns; /* CLOCK_FOREVER: not yet */
};

/* The rules of the bells, at the end of the chain that drops. */
enum record_bell_rule {
	BELL_RULE_PORTS = 1, /* uses the map of the ports' bells */
	BELL_RULE_ANY = 2,   /* and this one the bell of any port itself */
};
#define BELL_RULES_MAX 2

#define RECORD_LISTS 3
#define RECORD_LISTED_MAX (2 * FIREWALL_PORTS_MAX)
#define RECORD_CHAINS 10
#define RECORD_ROOM (96u << 10) /* bytes of record_put at most */
#define RECORD_MARKS 256        /* messages that fail where a feature lacks, in one transaction */

struct port_list {
	uint16_t number[RECORD_LISTED_MAX];
	unsigned count; /* also beyond the maximum, of which nothing more is known */
};

/* What the kernel has of our names; a bit for each row of the tables in firewall_record.c. */
struct record_found {
	bool table, dormant;
	unsigned chains, bad_chains;
	unsigned sets, bad_sets;
	unsigned counters; /* of what was missed: IPv4, IPv6 */
	struct port_list lists[RECORD_LISTS], bells, bad_bells;
	unsigned messages;
	unsigned steps[RECORD_CHAINS]; /* rules that are as expected */
	bool rules_differ;
};

struct record {
	const char *table;
	struct netlink *nl;        /* for queries, and transactions of its own */
	struct netlink_batch *ask; /* for queries */
	struct netlink own_nl;     /* of another namespace's record */
	struct netlink_batch own_ask;
	uint32_t generation;   /* of that namespace's tables, when they were looked at last, */
	int64_t rest_until_ns; /* and before then they are not again */
	uint32_t size;
	struct record_port ports[FIREWALL_PORTS_MAX]; /* wanted, in ascending order */
	unsigned count;
	bool known;          /* the wanted ports were told */
	bool in_force;       /* the kernel has all of it, as far as known */
	uint8_t bells_made;  /* record_bell_rule bits: what these use exists, as far as known */
	uint8_t lacks;       /* record_feature bits that this kernel has shown not to have, */
	uint8_t lacks_fresh; /* in the last transaction */
	uint8_t broken;      /* tests: these features are asked for in a way no kernel knows */
	bool refused_other;
	unsigned mark_count;
	struct {
		uint32_t message;
		uint8_t feature;
	} marks[RECORD_MARKS];
	struct record_found found;
	uint64_t missed[2]; /* the counters when they were read last */
	int64_t full_until_ns[2];
	int error;
	char text[320];
};

struct firewall {
	struct firewall_options opt;
	struct inforce *inforce;
	struct netlink nft, query, watch; /* transactions, dumps and queries, notifications */
	struct netlink_batch batch, ask;
	struct ban_set sets[FIREWALL_SETS];
	unsigned sets_used;
	bool keep_made;   /* the ignore sets exist */
	bool keep_filled; /* with `keep` */
	bool replaces;    /* adding an element again replaces its timeout */
	struct netlist keep;

	struct element_op *ops; /* FIREWALL_CHUNK */
	uint32_t op_count;
	uint32_t deletions_left; /* at the queue's start: failed, to be sent again */
	uint32_t retry_cursor;
	int64_t retry_due_ns, retry_delay_ns;

	struct record record;
	struct adoption adoption;
	struct notice notice;
	struct repair_pace pace;
	bool repair_wanted, repair_elements, repair_keep; /* seen, not yet put right */
	bool rebuilding;                                  /* all bans are being set again, */
	bool repairing; /* for a repair, which is told at the end */
	uint32_t rebuild_cursor, rebuilt;
	bool notices_lost; /* the repair is for lost notifications */
	uint32_t culprit_pid;
	char culprit[32], culprit_said[32]; /* escaped */

	ev_io watch_io;
	ev_timer timer;
	struct firewall_counters counters;
	int last_error; /* of a repair or a ban */
	char text[256];
};

/* firewall.c */
unsigned firewall_set_index(uint8_t family, uint8_t plen, uint8_t flags);
/* Everything but the name. */
bool firewall_parse_set_name(const char *name, struct ban_set *ret_set);

enum structure_flags {
	STRUCTURE_FRESH = 1,  /* delete the table first */
	STRUCTURE_CHAIN = 2,  /* delete the chain first: its hook is wrong */
	STRUCTURE_KEEP = 4,   /* fill the ignore sets anew */
	STRUCTURE_RECORD = 8, /* the record and the bells as record_check found them lacking */
};
int firewall_put_structure(struct firewall *fw, unsigned what);
/* Creates or deletes a set that has no rule. */
int firewall_temporary_set(struct firewall *fw, const struct ban_set *set, bool create);

enum shape {
	SHAPE_OK,
	SHAPE_RULES,   /* rules or chain missing or not ours */
	SHAPE_CHAIN,   /* the chain has another hook */
	SHAPE_SETS,    /* a set or the table is missing, and elements with it */
	SHAPE_FOREIGN, /* a set of our name has another form */
};
/* Reads on; false when everything is read. */
bool firewall_adopt_slice(struct firewall *fw, struct now now, bool at_start, size_t max_bytes);
/* enum shape or negative errno. Corrects `made` of all sets. */
int firewall_check_shape(struct firewall *fw);
/* structure_flags that put this shape right. */
unsigned firewall_shape_cure(enum shape shape);

/* firewall_message.c */
struct nftnl_rule;
struct nftnl_expr;
struct nlmsghdr *firewall_message(struct netlink_batch *batch, uint16_t type, uint16_t flags);
void firewall_batch_begin(const struct netlink *nl, struct netlink_batch *batch);
void firewall_batch_end(struct netlink_batch *batch);
/* One dump over the table, or over one of its sets. 0 also when there is no such table. */
int firewall_list(struct netlink *nl, const char *table, const char *set, uint16_t type,
		  netlink_message *message, void *ctx);

/* NULL without memory, which the others take. Registers are to be named as the kernel
 * names them when it lists the rule, else rule_same says no. */
struct nftnl_rule *rule_new(const char *table, const char *chain);
void rule_free(struct nftnl_rule *rule);
void rule_add(struct nftnl_rule *rule, struct nftnl_expr *e);
/* Appends it to its chain and frees it. */
void rule_put(struct netlink_batch *batch, struct nftnl_rule *rule);
void rule_flush(struct netlink_batch *batch, const char *table, const char *chain);
bool rule_same(const struct nftnl_rule *a, const struct nftnl_rule *b);
/* All of them read register 1; lengths in bytes (1 or 4 in a comparison, as the packet has them).
 */
struct nftnl_expr *expr_meta(uint32_t key, uint32_t reg);
struct nftnl_expr *expr_payload(uint32_t base, uint32_t offset, uint32_t length, uint32_t reg);
struct nftnl_expr *expr_equal(uint32_t length, uint32_t value);
struct nftnl_expr *expr_unequal(uint32_t length, uint32_t value);
struct nftnl_expr *expr_mask(const void *mask, uint32_t length);
struct nftnl_expr *expr_prefix(uint8_t family, uint8_t plen);
struct nftnl_expr *expr_lookup(const char *set, bool inverted);
struct nftnl_expr *expr_verdict(int verdict, const char *chain);
struct nftnl_expr *expr_socket(uint32_t key);
struct nftnl_expr *expr_dynset(uint32_t op, const char *set, uint64_t timeout_ms, bool counted);
struct nftnl_expr *expr_object(uint32_t type, const char *name);
struct nftnl_expr *expr_object_of(const char *map);

#define ATTRS_TYPES 24
struct attrs {
	const struct nlattr *of[ATTRS_TYPES]; /* by type; NULL: not there */
};
bool attrs_of(const struct nlmsghdr *nlh, struct attrs *ret_attrs);
bool attrs_nested(const struct nlattr *attr, struct attrs *ret_attrs);
bool attr_is_text(const struct nlattr *attr);
uint32_t attr_be32(const struct nlattr *attr); /* 0 when it is not there */
uint64_t attr_be64(const struct nlattr *attr);
/* The counter of an element. */
void attrs_counter(const struct attrs *element, uint64_t *ret_packets, uint64_t *ret_bytes);

/* firewall_record.c */
enum record_part {
	RECORD_NO_PART,
	RECORD_MEMORY, /* its entries: what is deleted there is a gap in the record */
	RECORD_LIST,   /* the ports */
};
enum record_part record_part_of(const char *set);
/* Sorted and merged. 0, -EINVAL, -E2BIG. */
int record_sort(const struct firewall_port *ports, size_t n, struct record_port *ret_ports,
		unsigned *ret_count, struct error *err);
bool record_is(const struct record *r, const struct record_port *ports, unsigned count);
/* Replaces the wanted ports; those that were recorded already keep their `since`. */
void record_want(struct record *r, const struct record_port *ports, unsigned count);
/* The first look: wants what is there. As record_check. */
int record_adopt(struct record *r);
/* Reads what there is. 0 when it is what is wanted, else these bits, or negative errno. */
enum record_difference { RECORD_DIFFERS = 1, BELLS_DIFFER = 2 };
int record_check(struct record *r);
/* Whether this set is the map of the bells, or this object the bell of any port. */
struct nftnl_set;
struct nftnl_obj;
void record_see_bells(struct record *r, const struct nftnl_set *s);
void record_see_bell(struct record *r, struct nftnl_obj *o);
/* There is nothing. */
void record_forget(struct record *r);
/* All that record_check found missing, wrong or too much. The rules of the chain that drops are
 * not in the batch yet: they may hold the bells' rules. */
void record_put(struct record *r, struct netlink_batch *batch);
/* These and the next two are bits of enum record_bell_rule. */
void record_put_bell_rules(struct record *r, struct netlink_batch *batch, unsigned which);
unsigned record_is_bell_rule(const struct record *r, const struct nftnl_rule *rule);
unsigned record_wants_bells(const struct record *r);
bool record_has_bell(struct record *r, uint16_t number);
/* Refusals of a transaction with record_put in it. */
void record_refused(void *ctx, uint32_t index, int error);
/* True when only features were refused: they are known to lack, build it again. */
bool record_learn(struct record *r);
/* The transaction is in. gap: nothing was recorded before. */
void record_is_in_force(struct record *r, bool gap, struct now now);
/* Entries were lost. */
void record_gap(struct record *r, struct now now);
/* The whole transaction, where the table holds nothing but the record. */
int record_commit(struct record *r);
void record_name_bell(uint16_t port, char name[static FIREWALL_NAME_MAX]);
/* -1: that is no bell's name. */
int record_port_of_bell(const char *name);

/* firewall_seen.c */
/* True when this notification of our table is a ring, which is then told. */
bool firewall_take_ring(struct firewall *fw, const struct nlmsghdr *nlh);
/* Arms all bells and says so: something may have been missed. */
void firewall_ring_all(struct firewall *fw);

/* firewall_bans.c */
/* Starts a dump of the set's elements on that socket. */
int firewall_list_elements(struct netlink *nl, struct netlink_batch *batch,
			   const struct ban_set *set);
typedef void element_callback(void *ctx, const struct element *element);
/* Each element of a message about one of our ban sets. False when it is about something else. */
bool firewall_each_element(const struct nlmsghdr *nlh, element_callback *callback, void *ctx);
int firewall_probe_replace(struct firewall *fw);
/* Queues all elements of a ban that is in force. */
void firewall_queue_ban(struct firewall *fw, const struct inforce_ban *ban);
/* Queues the elements of these ports, to be set or deleted as the list says. */
void firewall_queue_elements(struct firewall *fw, const struct addr *addr, uint8_t flags,
			     const struct portset *ports, struct now now);
/* Sends the queue, without looking for notifications first. */
int firewall_send_queue(struct firewall *fw, struct now now);
/* Bans or deletions that have not reached the kernel. */
bool firewall_has_open(const struct firewall *fw);
/* Sends them again when it is time. */
void firewall_retry(struct firewall *fw, struct now now);

/* firewall_watch.c */
int firewall_watch_open(struct firewall *fw, struct error *err);
void firewall_watch_start(struct firewall *fw);
void firewall_watch_stop(struct firewall *fw);
/* Takes all queued notifications in. */
void firewall_drain_watch(struct firewall *fw, struct now now);
/* Repairs when it is wanted and due. */
void firewall_try_repair(struct firewall *fw, struct now now);
/* The table is gone, as a transaction has shown. */
void firewall_want_rebuild(struct firewall *fw);
/* Some transactions of the running rebuild; true while there are more. */
bool firewall_rebuild_slice(struct firewall *fw, struct now now);
/* Puts a found or hand-made element on the list of what is in force. */
void firewall_take_element(struct firewall *fw, const struct element *element,
			   enum firewall_element what, struct now now);
void firewall_arm(struct firewall *fw, struct now now);

#endif
