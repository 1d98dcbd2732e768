/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the three files of the firewall share; nobody else includes it.
 *
 *	firewall.c        structure: table, sets, chain, rules, their check; open, adopt, keep,
 * remove firewall_bans.c   elements: the queue, transactions and their results, retries, drop
 * counters firewall_watch.c  notifications, repair and its pace, the event loop
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
	STRUCTURE_FRESH = 1, /* delete the table first */
	STRUCTURE_CHAIN = 2, /* delete the chain first: its hook is wrong */
	STRUCTURE_KEEP = 4,  /* fill the ignore sets anew */
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

/* firewall_bans.c */
struct nlmsghdr *firewall_message(struct netlink_batch *batch, uint16_t type, uint16_t flags);
void firewall_batch_begin(struct firewall *fw, struct netlink_batch *batch);
void firewall_batch_end(struct netlink_batch *batch);
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
