/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Foreign changes of the table and their repair: see firewall.h. A repair that fails is tried again
 * at its pace and shows in firewall_state; lost notifications count as damage. */
#include "daemon/enforcer/firewall_impl.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>

#include "daemon/base/escape.h"
#include "daemon/base/log.h"

#define WATCH_BUFFER (8 << 20)
#define DRAIN_BYTES (8u << 20) /* of notifications per call */
#define DRAIN_ATTEMPTS 4       /* each begins behind what was lost */
#define SLICE_CHUNKS 2u        /* transactions of a rebuild per wake-up: 4 to 16 ms */
#define ADOPT_PAUSE_MS 50      /* between slices of reading a very large set */
#define PACE_ONE_NS CLOCK_SECOND_NS
#define PACE_MANY_NS (10 * CLOCK_SECOND_NS)
#define PACE_WINDOW_NS (60 * CLOCK_SECOND_NS)
#define PACE_RING (sizeof((struct repair_pace *)0)->last_ns / sizeof(int64_t))

int64_t repair_pace_due_ns(const struct repair_pace *pace, int64_t mono_ns)
{
	int64_t oldest = pace->last_ns[pace->next % PACE_RING];
	int64_t newest = pace->last_ns[(pace->next + PACE_RING - 1) % PACE_RING];

	if (!newest)
		return mono_ns;
	if (oldest && mono_ns - oldest < PACE_WINDOW_NS)
		return newest + PACE_MANY_NS;
	return newest + PACE_ONE_NS;
}

void repair_pace_took(struct repair_pace *pace, int64_t mono_ns)
{
	pace->last_ns[pace->next] = mono_ns;
	pace->next = (pace->next + 1) % PACE_RING;
}

/* --- Elements that others touched --- */

void firewall_take_element(struct firewall *fw, const struct element *element,
			   enum firewall_element what, struct now now)
{
	struct portset ports = {.count = 1, .port = {{element->port, element->proto}}};
	const struct portset *of = element->flags & INFORCE_SCOPE_PORT ? &ports : NULL;
	struct inforce_ban ban = {.addr = element->addr,
				  .flags = element->flags,
				  .source = fw->opt.source_kernel,
				  .end_ns = CLOCK_FOREVER};
	struct inforce_ban *stored =
		inforce_get(fw->inforce, &ban.addr, ban.flags, of, now.mono_ns);

	if (element->timed && element->expires_ms <= 0)
		return;
	if (element->timed && element->expires_ms < (CLOCK_FOREVER - now.mono_ns) / CLOCK_MSEC_NS)
		ban.end_ns = now.mono_ns + element->expires_ms * CLOCK_MSEC_NS;
	if (stored && what == FIREWALL_ADOPTED)
		return; /* set since the start */
	if (stored)
		stored->end_ns = ban.end_ns;
	else if (inforce_put(fw->inforce, &ban, of, now.mono_ns, &stored) < 0)
		return; /* at the cap: counted there; the kernel drops until the element's own end
			 */
	if (fw->opt.hooks.element)
		fw->opt.hooks.element(fw->opt.hooks.ctx, what, stored, of);
}

static void tell_deleted(struct firewall *fw, const struct inforce_ban *ban,
			 const struct portset *ports)
{
	if (fw->opt.hooks.element)
		fw->opt.hooks.element(fw->opt.hooks.ctx, FIREWALL_DELETED, ban, ports);
}

static void deleted_by_hand(struct firewall *fw, const struct element *e, struct now now)
{
	struct inforce_ban *ban, gone;
	uint32_t step = 0;

	fw->counters.by_hand++;
	while ((ban = inforce_of(fw->inforce, &e->addr, &step, now.mono_ns))) {
		const struct portset *ports = inforce_ports_of(fw->inforce, ban);
		struct portset copy;

		if ((ban->flags & INFORCE_CLASS) != e->flags ||
		    (ports && !portset_has(ports, e->proto, e->port)))
			continue;
		gone = *ban;
		if (ports)
			copy = *ports;
		inforce_remove(fw->inforce, ban);
		if (ports)
			firewall_queue_elements(fw, &gone.addr, gone.flags, &copy, now);
		tell_deleted(fw, &gone, ports ? &copy : NULL);
		step = 0;
	}
}

static void see_element(void *ctx, const struct element *element)
{
	(void)element;
	*(bool *)ctx = true;
}

/* An empty set is listed as a message without elements. */
static int see_any(void *ctx, const struct nlmsghdr *nlh)
{
	firewall_each_element(nlh, see_element, ctx);
	return 0;
}

/* One part of a dump on a socket of its own, which is thrown away: a dump cannot be broken off. */
static bool set_is_empty(const struct ban_set *set)
{
	struct netlink_batch batch;
	struct netlink nl;
	bool any = false;

	if (netlink_open(&nl, NETLINK_NETFILTER, 0, 0, NULL) < 0)
		return false;
	if (netlink_batch_init(&batch, NETLINK_MESSAGE_MAX) < 0) {
		netlink_close(&nl);
		return false;
	}
	if (firewall_list_elements(&nl, &batch, set) < 0 ||
	    netlink_dump_read(&nl, see_any, &any, 1) < 0)
		any = true;
	netlink_batch_fini(&batch);
	netlink_close(&nl);
	return !any;
}

/* A set that lost several elements and is empty now was flushed; anything else is meant. */
static bool was_flushed(struct firewall *fw, uint32_t at)
{
	const struct element *e = &fw->notice.deleted[at];
	unsigned index = firewall_set_index(e->addr.family, e->addr.plen, e->flags);
	uint32_t same = 0;

	for (uint32_t i = 0; i < fw->notice.deleted_count; i++) {
		const struct element *other = &fw->notice.deleted[i];

		same += firewall_set_index(other->addr.family, other->addr.plen, other->flags) ==
			index;
	}
	return same > 1 && set_is_empty(&fw->sets[index]);
}

/* Neighbours of one set share the verdict: a flush lists one set after the other. */
static void judge_deleted(struct firewall *fw, struct now now)
{
	struct notice *n = &fw->notice;
	unsigned judged = FIREWALL_SETS;
	bool flushed = false;

	if (n->deleted_count > FIREWALL_DELETED_MAX) {
		n->elements = true;
		return;
	}
	for (uint32_t i = 0; i < n->deleted_count; i++) {
		const struct element *e = &n->deleted[i];
		unsigned index = firewall_set_index(e->addr.family, e->addr.plen, e->flags);

		if (index != judged)
			flushed = was_flushed(fw, i);
		judged = index;
		if (flushed)
			n->elements = true;
		else
			deleted_by_hand(fw, e, now);
	}
}

/* --- Notifications --- */

struct draining {
	struct firewall *fw;
	struct now now;
};

static void see_deleted(void *ctx, const struct element *element)
{
	struct notice *n = &((struct draining *)ctx)->fw->notice;

	if (n->deleted_count < FIREWALL_DELETED_MAX)
		n->deleted[n->deleted_count] = *element;
	if (n->deleted_count <= FIREWALL_DELETED_MAX)
		n->deleted_count++;
}

static void see_added(void *ctx, const struct element *element)
{
	struct draining *d = ctx;

	d->fw->counters.by_hand++;
	firewall_take_element(d->fw, element, FIREWALL_ADDED, d->now);
}

struct culprit {
	uint32_t pid;
	char name[32];
};

static int take_culprit(const struct nlattr *attr, void *ctx)
{
	struct culprit *c = ctx;

	if (mnl_attr_get_type(attr) == NFTA_GEN_PROC_PID && mnl_attr_get_payload_len(attr) >= 4)
		c->pid = ntohl(mnl_attr_get_u32(attr));
	else if (mnl_attr_get_type(attr) == NFTA_GEN_PROC_NAME &&
		 mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		escape_text(c->name, sizeof c->name, slice_str(mnl_attr_get_str(attr)));
	return MNL_CB_OK;
}

/* Until the repair there may be no rules either. */
static void record_lost(struct firewall *fw, bool damage, struct now now)
{
	record_gap(&fw->record, now);
	if (damage)
		fw->record.in_force = false;
}

static void end_transaction(struct draining *d, const struct nlmsghdr *nlh)
{
	struct firewall *fw = d->fw;
	struct notice *n = &fw->notice;
	struct culprit c = {.pid = nlh->nlmsg_pid};

	if (n->deleted_count && !n->elements)
		judge_deleted(fw, d->now);
	if (n->record)
		record_lost(fw, n->damage, d->now);
	if (n->damage || n->elements || n->keep) {
		mnl_attr_parse(nlh, sizeof(struct nfgenmsg), take_culprit, &c);
		fw->counters.foreign++;
		fw->repair_wanted = true;
		fw->repair_elements |= n->elements;
		fw->repair_keep |= n->keep;
		fw->culprit_pid = c.pid;
		memcpy(fw->culprit, c.name, sizeof fw->culprit);
	}
	*n = (struct notice){.deleted = n->deleted};
}

/* The attribute "table" has number 1 in every kind of notification. */
static int take_table(const struct nlattr *attr, void *ctx)
{
	if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*(bool *)ctx = strcmp(mnl_attr_get_str(attr), FIREWALL_TABLE) == 0;
	return MNL_CB_OK;
}

static bool about_us(const struct nlmsghdr *nlh)
{
	bool ours = false;

	return mnl_attr_parse(nlh, sizeof(struct nfgenmsg), take_table, &ours) >= 0 && ours;
}

/* A ring has the family of its packet. */
static bool is_inet(const struct nlmsghdr *nlh)
{
	const struct nfgenmsg *head = mnl_nlmsg_get_payload(nlh);

	return head->nfgen_family == NFPROTO_INET;
}

/* The attribute "set" has number 2 in messages about sets and about elements. */
static enum record_part part_of(const struct nlmsghdr *nlh)
{
	struct attrs of;

	if (!attrs_of(nlh, &of) || !attr_is_text(of.of[NFTA_SET_NAME]))
		return RECORD_NO_PART;
	return record_part_of(mnl_attr_get_str(of.of[NFTA_SET_NAME]));
}

static void see_object(struct draining *d, const struct nlmsghdr *nlh)
{
	struct notice *n = &d->fw->notice;
	enum record_part part = part_of(nlh);

	switch (nlh->nlmsg_type & 0xff) {
	case NFT_MSG_DELTABLE:
		n->elements = n->damage = n->record = true;
		break;
	case NFT_MSG_DELSET:
		n->damage = true;
		n->elements |= part == RECORD_NO_PART;
		n->record |= part != RECORD_NO_PART;
		break;
	case NFT_MSG_NEWTABLE:
	case NFT_MSG_NEWCHAIN:
	case NFT_MSG_DELCHAIN:
	case NFT_MSG_NEWRULE:
	case NFT_MSG_DELRULE:
	case NFT_MSG_NEWOBJ:
	case NFT_MSG_DELOBJ:
		n->damage = true;
		break;
	case NFT_MSG_DELSETELEM:
		n->damage |= part == RECORD_LIST;
		n->record |= part == RECORD_MEMORY;
		if (part == RECORD_NO_PART)
			n->keep |= !firewall_each_element(nlh, see_deleted, d);
		break;
	case NFT_MSG_NEWSETELEM:
		n->damage |= part == RECORD_LIST;
		if (part == RECORD_NO_PART)
			n->keep |= !firewall_each_element(nlh, see_added, d);
		break;
	default:
		break;
	}
}

static int see_notification(void *ctx, const struct nlmsghdr *nlh)
{
	struct draining *d = ctx;

	if (nlh->nlmsg_pid == d->fw->nft.portid || nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(struct nfgenmsg))
		return 0;
	if ((nlh->nlmsg_type & 0xff) == NFT_MSG_NEWGEN)
		end_transaction(d, nlh);
	else if (about_us(nlh) && !firewall_take_ring(d->fw, nlh) && is_inet(nlh))
		see_object(d, nlh);
	return 0;
}

/* What is lost before the queue was empty once is not reported again, so it is emptied first. */
void firewall_drain_watch(struct firewall *fw, struct now now)
{
	struct draining d = {fw, now};
	unsigned lost = 0;

	while (lost < DRAIN_ATTEMPTS &&
	       netlink_events(&fw->watch, see_notification, &d, DRAIN_BYTES) == -ENOBUFS)
		lost++;
	if (!lost)
		return;
	fw->counters.checks++;
	fw->repair_wanted = fw->repair_elements = fw->repair_keep = true;
	fw->notices_lost = true;
	fw->notice = (struct notice){.deleted = fw->notice.deleted};
	firewall_ring_all(fw);
}

/* --- Repair --- */

void firewall_want_rebuild(struct firewall *fw)
{
	fw->repair_wanted = fw->repair_elements = true;
}

static void report_culprit(struct firewall *fw)
{
	bool new = strcmp(fw->culprit, fw->culprit_said) != 0;

	log_write(new ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "firewall",
		  "table inet tailban was changed by %s (pid %u): repaired, %u bans set again",
		  fw->culprit[0] ? fw->culprit : "somebody", fw->culprit_pid, fw->rebuilt);
	memcpy(fw->culprit_said, fw->culprit, sizeof fw->culprit_said);
	if (fw->opt.hooks.repaired)
		fw->opt.hooks.repaired(fw->opt.hooks.ctx, fw->rebuilt, fw->culprit_pid,
				       fw->culprit);
}

/* Lost notifications are mostly somebody else's large change of another table. */
static void report(struct firewall *fw)
{
	if (fw->notices_lost)
		log_info("firewall", "notifications were lost: checked, %u bans set again",
			 fw->rebuilt);
	else
		report_culprit(fw);
	fw->notices_lost = false;
}

static void end_rebuild(struct firewall *fw)
{
	fw->rebuilding = false;
	if (fw->repairing && !fw->repair_wanted)
		report(fw);
	fw->repairing = false;
}

/* Fills the queue from the list; false when the list is through. */
static bool queue_next_bans(struct firewall *fw, struct now now)
{
	const struct inforce_ban *ban;

	while (fw->op_count + PORTSET_MAX <= FIREWALL_CHUNK) {
		ban = inforce_prev(fw->inforce, &fw->rebuild_cursor, now.mono_ns);
		if (!ban)
			return false;
		firewall_queue_ban(fw, ban);
		fw->rebuilt++;
	}
	return true;
}

bool firewall_rebuild_slice(struct firewall *fw, struct now now)
{
	bool more = fw->rebuilding;

	for (unsigned i = 0; more && i < SLICE_CHUNKS; i++) {
		more = queue_next_bans(fw, now);
		firewall_send_queue(fw, now);
		if (fw->repair_wanted)
			more = false; /* flushed again: from the start */
	}
	if (fw->rebuilding && !more)
		end_rebuild(fw);
	return more;
}

static void begin_rebuild(struct firewall *fw, int shape)
{
	bool elements = fw->repair_elements || shape == SHAPE_SETS || shape == SHAPE_FOREIGN;

	fw->repairing = fw->rebuilding = true;
	fw->rebuilt = 0;
	fw->rebuild_cursor = elements ? UINT32_MAX : 0;
	fw->repair_wanted = fw->repair_elements = fw->repair_keep = false;
}

/* structure_flags for the record; negative errno. */
static int record_cure(struct firewall *fw, int shape, bool *ret_gap)
{
	int differs = fw->record.known ? record_check(&fw->record) : 0;

	if (differs < 0)
		return differs;
	*ret_gap = differs & RECORD_DIFFERS || shape == SHAPE_FOREIGN;
	return fw->record.known && (differs || shape == SHAPE_FOREIGN) ? STRUCTURE_RECORD : 0;
}

/* A record that cannot be put right must not keep the bans away. */
static int put_cure(struct firewall *fw, unsigned cure, unsigned record)
{
	int code = firewall_put_structure(fw, cure | record);

	fw->record.error = 0;
	if (code == 0 || !record)
		return code;
	fw->record.error = code;
	fw->record.in_force = false;
	log_error("firewall", "the record of connections cannot be repaired: %s", error_name(code));
	return firewall_put_structure(fw, cure);
}

static int repair(struct firewall *fw, struct now now)
{
	int shape = firewall_check_shape(fw), record, code;
	bool gap;

	if (shape < 0)
		return shape;
	record = record_cure(fw, shape, &gap);
	if (record < 0)
		return record;
	if (shape == SHAPE_OK && !record && !fw->repair_elements && !fw->repair_keep) {
		fw->repair_wanted = false;
		fw->record.in_force = fw->record.known;
		fw->record.error = 0;
		return 0;
	}
	repair_pace_took(&fw->pace, now.mono_ns);
	fw->counters.repairs++;
	code = put_cure(fw, firewall_shape_cure((enum shape)shape), (unsigned)record);
	if (code < 0)
		return code;
	if (fw->record.known && !fw->record.error)
		record_is_in_force(&fw->record, gap, now);
	begin_rebuild(fw, shape);
	firewall_ring_all(fw);
	firewall_rebuild_slice(fw, now);
	return 0;
}

void firewall_try_repair(struct firewall *fw, struct now now)
{
	int code;

	if (!fw->repair_wanted || repair_pace_due_ns(&fw->pace, now.mono_ns) > now.mono_ns)
		return;
	code = repair(fw, now);
	if (code < 0) {
		repair_pace_took(&fw->pace, now.mono_ns);
		fw->last_error = code;
		log_error("firewall", "table inet tailban cannot be repaired: %s",
			  error_name(code));
	}
}

/* --- Work and loop --- */

static int delay_ms(int64_t due_ns, int64_t mono_ns)
{
	return due_ns <= mono_ns ? 0 : (int)((due_ns - mono_ns) / CLOCK_MSEC_NS) + 1;
}

static int next_work_ms(const struct firewall *fw, int64_t mono_ns)
{
	int repair_ms = -1, retry_ms = -1;

	if (fw->rebuilding)
		return 0;
	if (fw->adoption.nl.sock)
		retry_ms = ADOPT_PAUSE_MS;
	if (fw->repair_wanted)
		repair_ms = delay_ms(repair_pace_due_ns(&fw->pace, mono_ns), mono_ns);
	if (firewall_has_open(fw) && retry_ms < 0)
		retry_ms = delay_ms(fw->retry_due_ns, mono_ns);
	if (repair_ms < 0 || retry_ms < 0)
		return repair_ms < 0 ? retry_ms : repair_ms;
	return repair_ms < retry_ms ? repair_ms : retry_ms;
}

int firewall_work(struct firewall *fw, struct now now)
{
	firewall_drain_watch(fw, now);
	firewall_try_repair(fw, now);
	if (fw->rebuilding)
		firewall_rebuild_slice(fw, now);
	else if (!fw->repair_wanted)
		firewall_retry(fw, now);
	firewall_adopt_slice(fw, now, false, 1);
	firewall_send_queue(fw, now);
	firewall_arm(fw, now);
	return next_work_ms(fw, now.mono_ns);
}

static void watch_ready(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop;
	(void)events;
	firewall_work(w->data, clock_now());
}

static void timer_fired(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	firewall_work(w->data, clock_now());
}

void firewall_arm(struct firewall *fw, struct now now)
{
	int ms = next_work_ms(fw, now.mono_ns);

	if (!fw->opt.loop)
		return;
	ev_timer_stop(fw->opt.loop, &fw->timer);
	if (ms < 0)
		return;
	ev_timer_set(&fw->timer, ms / 1000.0, 0);
	ev_timer_start(fw->opt.loop, &fw->timer);
}

/* Keeps our own notifications off the socket: the word at offset 12 is nlmsg_pid. Loading a million
 * bans would otherwise overrun it. Where this fails they are skipped one by one. */
static void filter_own(struct firewall *fw)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(fw->nft.portid), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = {sizeof code / sizeof code[0], code};

	(void)setsockopt(fw->watch.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

int firewall_watch_open(struct firewall *fw, struct error *err)
{
	int code = netlink_open(&fw->watch, NETLINK_NETFILTER, NFNLGRP_NFTABLES, WATCH_BUFFER, err);

	if (code < 0)
		return error_wrap(err, code, "notifications of nftables");
	filter_own(fw);
	return 0;
}

void firewall_watch_start(struct firewall *fw)
{
	ev_io_init(&fw->watch_io, watch_ready, fw->watch.fd, EV_READ);
	ev_timer_init(&fw->timer, timer_fired, 0, 0);
	fw->watch_io.data = fw->timer.data = fw;
	if (fw->opt.loop)
		ev_io_start(fw->opt.loop, &fw->watch_io);
}

void firewall_watch_stop(struct firewall *fw)
{
	if (!fw->opt.loop)
		return;
	ev_io_stop(fw->opt.loop, &fw->watch_io);
	ev_timer_stop(fw->opt.loop, &fw->timer);
}

int firewall_fd(const struct firewall *fw)
{
	return fw->watch.fd;
}

int firewall_state(struct firewall *fw, const char **ret_text)
{
	const char *why = error_name(fw->last_error);
	int code = 0;

	if (fw->last_error == -ENFILE)
		why = "set full";
	if (fw->repair_wanted) {
		code = fw->last_error ? fw->last_error : -EAGAIN;
		snprintf(fw->text, sizeof fw->text,
			 "table inet tailban was changed by %s (pid %u) and waits for its repair",
			 fw->culprit[0] ? fw->culprit : "somebody", fw->culprit_pid);
	} else if (fw->rebuilding) {
		code = -EAGAIN;
		snprintf(fw->text, sizeof fw->text, "setting bans again: %u of %u", fw->rebuilt,
			 fw->inforce->count);
	} else if (firewall_has_open(fw)) {
		code = fw->last_error ? fw->last_error : -EAGAIN;
		snprintf(fw->text, sizeof fw->text,
			 "%u of %u bans and %u unbans are not in the kernel: %s",
			 fw->inforce->waiting, fw->inforce->count, fw->deletions_left, why);
	} else {
		snprintf(fw->text, sizeof fw->text, "%u bans are in the kernel",
			 fw->inforce->count);
	}
	*ret_text = fw->text;
	return code;
}
