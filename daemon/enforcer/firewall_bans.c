/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Elements of the ban sets: queue, transactions, retries, counters; see firewall.h. Nothing fails
 * silently: what a transaction did not take is marked as waiting, told to the `result` hook and
 * sent again. */
#include "daemon/enforcer/firewall_impl.h"

#include <assert.h>
#include <errno.h>

#include "daemon/base/log.h"

#define ELEMENT_BYTES 192u /* the longest message of one element */
#define SMALL_CHUNK 100u   /* after a lost answer: few enough for every answer to fit */
#define RETRY_FIRST_NS (100 * CLOCK_MSEC_NS)
#define RETRY_LAST_NS (30 * CLOCK_SECOND_NS)
#define DELETIONS_MAX (FIREWALL_CHUNK / 4)
#define RETRY_SCAN 50000u /* bans looked at per wake-up for waiting ones */
#define ASK_CHUNK 500u    /* elements asked for in one send */

/* --- Messages --- */

struct key {
	uint8_t bytes[24];
	uint16_t length;
};

/* Fields of a concatenation are padded to four bytes. */
static struct key key_of(const struct addr *addr, uint8_t flags, uint8_t proto, uint16_t port)
{
	struct key key = {.length = (uint16_t)addr_bytes(addr)};
	uint16_t wire = htons(port);

	memcpy(key.bytes, addr->b, key.length);
	if (flags & INFORCE_SCOPE_PORT) {
		key.bytes[key.length] = proto;
		memcpy(key.bytes + key.length + 4, &wire, sizeof wire);
		key.length = (uint16_t)(key.length + 8);
	}
	return key;
}

/* timeout_ms: 0 = none. False when the batch is full. */
static bool put_element(struct netlink_batch *batch, uint16_t type, uint16_t flags, const char *set,
			const struct key *key, uint64_t timeout_ms)
{
	struct nlmsghdr *nlh = firewall_message(batch, type, flags);
	struct nlattr *list, *item, *nest;

	if (!nlh)
		return false;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, FIREWALL_TABLE);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	item = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	nest = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, key->length, key->bytes);
	mnl_attr_nest_end(nlh, nest);
	if (timeout_ms)
		mnl_attr_put_u64(nlh, NFTA_SET_ELEM_TIMEOUT, htobe64(timeout_ms));
	mnl_attr_nest_end(nlh, item);
	mnl_attr_nest_end(nlh, list);
	return true;
}

int firewall_list_elements(struct netlink *nl, struct netlink_batch *batch,
			   const struct ban_set *set)
{
	struct nlmsghdr *nlh;

	netlink_batch_begin(batch, nl);
	nlh = firewall_message(batch, NFT_MSG_GETSETELEM, NLM_F_DUMP);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, FIREWALL_TABLE);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set->name);
	return netlink_send(nl, nlh);
}

/* --- Reading elements --- */

static bool take_key(const struct nlattr *attr, const struct ban_set *set, struct element *e)
{
	struct attrs key;
	const uint8_t *bytes;
	uint32_t length;

	e->addr = (struct addr){.family = set->family, .plen = set->plen};
	e->flags = set->flags;
	length = addr_bytes(&e->addr);
	if (!attrs_nested(attr, &key) || !key.of[NFTA_DATA_VALUE] ||
	    mnl_attr_get_payload_len(key.of[NFTA_DATA_VALUE]) !=
		    length + (set->flags & INFORCE_SCOPE_PORT ? 8 : 0))
		return false;
	bytes = mnl_attr_get_payload(key.of[NFTA_DATA_VALUE]);
	memcpy(e->addr.b, bytes, length);
	if (set->flags & INFORCE_SCOPE_PORT) {
		e->proto = bytes[length];
		e->port = (uint16_t)(bytes[length + 4] << 8 | bytes[length + 5]);
	}
	return true;
}

struct element_list {
	struct ban_set set;
	element_callback *callback;
	void *ctx;
};

static int take_listed(const struct nlattr *attr, void *ctx)
{
	const struct element_list *list = ctx;
	struct element e = {0};
	struct attrs of;

	if (!attrs_nested(attr, &of) || !take_key(of.of[NFTA_SET_ELEM_KEY], &list->set, &e))
		return MNL_CB_OK;
	e.timed = of.of[NFTA_SET_ELEM_TIMEOUT] != NULL;
	e.expires_ms =
		e.timed ? (int64_t)attr_be64(of.of[NFTA_SET_ELEM_EXPIRATION]) : CLOCK_FOREVER;
	attrs_counter(&of, &e.packets, &e.bytes);
	list->callback(list->ctx, &e);
	return MNL_CB_OK;
}

bool firewall_each_element(const struct nlmsghdr *nlh, element_callback *callback, void *ctx)
{
	struct element_list list = {.callback = callback, .ctx = ctx};
	struct attrs of = {0};

	if (!attrs_of(nlh, &of) || !attr_is_text(of.of[NFTA_SET_ELEM_LIST_SET]) ||
	    !firewall_parse_set_name(mnl_attr_get_str(of.of[NFTA_SET_ELEM_LIST_SET]), &list.set))
		return false;
	if (of.of[NFTA_SET_ELEM_LIST_ELEMENTS])
		mnl_attr_parse_nested(of.of[NFTA_SET_ELEM_LIST_ELEMENTS], take_listed, &list);
	return true;
}

/* --- One transaction --- */

static struct ban_set *set_of(struct firewall *fw, const struct element_op *op)
{
	return &fw->sets[firewall_set_index(op->addr.family, op->addr.plen, op->flags)];
}

/* Until when the element has to be there: the latest end of its bans; 0 = not at all. */
static int64_t element_end(struct firewall *fw, const struct element_op *op, int64_t mono_ns)
{
	const struct inforce_ban *ban;
	int64_t end = 0;
	uint32_t step = 0;

	while ((ban = inforce_of(fw->inforce, &op->addr, &step, mono_ns))) {
		if ((ban->flags & INFORCE_CLASS) != op->flags || ban->end_ns <= end)
			continue;
		if (!ban->ports ||
		    portset_has(inforce_ports_of(fw->inforce, ban), op->proto, op->port))
			end = ban->end_ns;
	}
	return end;
}

/*
 * Where adding an element again keeps the old timeout: add, delete, add. The first makes sure that
 * the delete finds something, as a transaction fails for deleting what is missing.
 */
static void put_op(struct firewall *fw, struct element_op *op, int64_t mono_ns)
{
	struct key key = key_of(&op->addr, op->flags, op->proto, op->port);
	int64_t end = element_end(fw, op, mono_ns);
	struct inforce_ban until = {.end_ns = end};
	const char *name = set_of(fw, op)->name;
	uint64_t timeout_ms = 0;

	op->first_message = fw->batch.count;
	op->add = end != 0;
	if (!op->add) {
		put_element(&fw->batch, NFT_MSG_DELSETELEM, 0, name, &key, 0);
		return;
	}
	if (end != CLOCK_FOREVER)
		timeout_ms = (uint64_t)inforce_remaining_ms(&until, mono_ns);
	put_element(&fw->batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, name, &key, timeout_ms);
	if (fw->replaces)
		return;
	put_element(&fw->batch, NFT_MSG_DELSETELEM, 0, name, &key, 0);
	put_element(&fw->batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, name, &key, timeout_ms);
}

static bool decided(const struct element_op *op)
{
	return op->done || op->error;
}

/* A part of the queue and what became of it. */
struct chunk {
	struct firewall *fw;
	uint32_t from, to;
	bool gone, attributed;
};

static void op_refused(void *ctx, uint32_t index, int error)
{
	struct chunk *c = ctx;
	struct element_op *ops = c->fw->ops;
	uint32_t low = c->from, high = c->to; /* the last op whose first message is <= index */

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (ops[middle].first_message <= index)
			low = middle;
		else
			high = middle;
	}
	if (index == 0 || decided(&ops[low]))
		return; /* the whole transaction, or said already */
	c->attributed = true;
	if (error != -ENOENT)
		ops[low].error = error;
	else if (ops[low].add)
		c->gone = true;
	else
		ops[low].done = true; /* is not there: as wanted */
}

/* Puts as many undecided operations of the chunk into the batch as fit; cuts the chunk there. */
static uint32_t build(struct chunk *c, int64_t mono_ns)
{
	struct firewall *fw = c->fw;
	uint32_t messages;

	firewall_batch_begin(&fw->nft, &fw->batch);
	messages = fw->batch.count;
	for (uint32_t i = c->from; i < c->to; i++) {
		fw->ops[i].first_message = fw->batch.count;
		if (decided(&fw->ops[i]))
			continue;
		if (netlink_batch_left(&fw->batch) < 3 * ELEMENT_BYTES + 4 * NETLINK_MESSAGE_MAX) {
			c->to = i;
			break;
		}
		put_op(fw, &fw->ops[i], mono_ns);
	}
	messages = fw->batch.count - messages;
	if (messages) {
		netlink_batch_ack(&fw->batch);
		firewall_batch_end(&fw->batch);
	}
	return messages;
}

static void decide_rest(struct chunk *c, int error)
{
	for (uint32_t i = c->from; i < c->to; i++) {
		struct element_op *op = &c->fw->ops[i];

		if (decided(op))
			continue;
		op->error = error;
		op->done = !error;
		c->fw->counters.unbans += op->done && !op->add;
	}
}

/*
 * Sends until each operation of the chunk is decided: what the kernel refuses is taken out, and the
 * rest, that was undone with it, sent again. -ENOENT when set or table are gone, with the rest
 * undecided.
 */
static int send_chunk(struct chunk *c, int64_t mono_ns)
{
	struct firewall *fw = c->fw;
	unsigned lost = 0;
	int code;

	while (build(c, mono_ns)) {
		c->gone = c->attributed = false;
		fw->counters.transactions++;
		code = netlink_commit(&fw->nft, &fw->batch, op_refused, c);
		if (c->gone)
			return -ENOENT;
		if (code == -ENOBUFS) {
			fw->counters.lost_answers++;
			if (c->to - c->from > SMALL_CHUNK)
				c->to = c->from + SMALL_CHUNK;
			else if (lost++)
				decide_rest(c, code);
		} else if (code == 0 || !c->attributed) {
			decide_rest(c, code);
		}
	}
	return 0;
}

/* --- The queue --- */

/* Gives the set its rule, before its first element. */
static int make_set(struct firewall *fw, struct ban_set *set)
{
	bool fresh = !set->used;
	int code;

	if (fresh && fw->sets_used == FIREWALL_SETS_MAX)
		return -ENOSPC;
	set->used = true;
	fw->sets_used += fresh;
	code = firewall_put_structure(fw, 0);
	if (code < 0 && fresh) {
		set->used = false;
		fw->sets_used--;
	}
	return code;
}

/* -ENOENT: what should be there is gone. */
static int make_sets(struct firewall *fw)
{
	for (uint32_t i = 0; i < fw->op_count; i++) {
		struct element_op *op = &fw->ops[i];
		struct ban_set *set = set_of(fw, op);

		if (set->made)
			continue;
		if (op->of_ban)
			op->error = make_set(fw, set);
		else if (!set->used)
			op->done = true; /* no set, no element */
		if (op->error == -ENOENT)
			return -ENOENT;
	}
	return 0;
}

/* The elements of one ban are neighbours in the queue; the ban is in when all of them are. */
static int settle_ban(struct firewall *fw, uint32_t first, uint32_t last, struct now now)
{
	const struct element_op *op = &fw->ops[first];
	struct inforce_ban *ban =
		inforce_numbered(fw->inforce, &op->addr, op->flags, op->ports, now.mono_ns);
	int error = 0;
	bool waited;

	for (uint32_t i = first; i <= last; i++)
		if (fw->ops[i].error)
			error = fw->ops[i].error;
	if (!ban)
		return 0;
	waited = ban->flags & INFORCE_WAITING;
	fw->counters.bans += waited && !error;
	fw->counters.full += error == -ENFILE;
	fw->counters.failed += error && error != -ENFILE;
	inforce_set_waiting(fw->inforce, ban, error != 0);
	if (fw->opt.hooks.result && (waited || error))
		fw->opt.hooks.result(fw->opt.hooks.ctx, ban, error);
	return error;
}

/* A deletion that failed stays in the queue: nothing else would remember it. */
static bool keep_deletion(struct firewall *fw, uint32_t at)
{
	struct element_op *op = &fw->ops[at];

	fw->counters.failed++;
	if (fw->deletions_left == DELETIONS_MAX)
		return false;
	op->error = 0;
	op->done = false;
	fw->ops[fw->deletions_left++] = *op;
	return true;
}

/* The end of all attempts: tells what became of each ban and empties the queue. */
static int settle(struct firewall *fw, struct now now)
{
	uint32_t count = fw->op_count;
	int last = 0;

	fw->deletions_left = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t first = i;
		int error = fw->ops[i].error;

		if (fw->ops[i].of_ban) {
			i += fw->ops[i].rest;
			error = settle_ban(fw, first, i, now);
		} else if (error && !keep_deletion(fw, i)) {
			log_error("firewall", "too many unbans fail: some are left to their end");
		}
		if (error)
			last = error;
	}
	fw->op_count = fw->deletions_left;
	if (last)
		fw->last_error = last;
	if (!firewall_has_open(fw)) {
		fw->retry_due_ns = 0;
	} else if (!fw->retry_due_ns) {
		fw->retry_delay_ns = RETRY_FIRST_NS;
		fw->retry_due_ns = now.mono_ns + fw->retry_delay_ns;
	}
	return last;
}

static int send_all(struct firewall *fw, int64_t mono_ns)
{
	uint32_t from = 0;

	while (from < fw->op_count) {
		struct chunk c = {.fw = fw, .from = from, .to = fw->op_count};
		int code = send_chunk(&c, mono_ns);

		if (code < 0)
			return code;
		from = c.to;
	}
	return 0;
}

static void fail_rest(struct firewall *fw, int error)
{
	struct chunk all = {.fw = fw, .from = 0, .to = fw->op_count};

	decide_rest(&all, error);
}

int firewall_send_queue(struct firewall *fw, struct now now)
{
	int code;

	if (!fw->op_count)
		return 0;
	code = make_sets(fw);
	if (code == 0)
		code = send_all(fw, now.mono_ns);
	if (code == -ENOENT) {
		fail_rest(fw, code);
		firewall_want_rebuild(fw);
	}
	return settle(fw, now);
}

int firewall_commit(struct firewall *fw, struct now now)
{
	int code;

	if (!fw->op_count)
		return 0;
	firewall_drain_watch(fw, now);
	firewall_try_repair(fw, now);
	code = firewall_send_queue(fw, now);
	if (fw->repair_wanted) {
		/* Seen by the refusal; now the notifications are there, too. */
		firewall_drain_watch(fw, now);
		firewall_try_repair(fw, now);
		if (!firewall_has_open(fw))
			code = 0;
	}
	firewall_arm(fw, now);
	return code;
}

static void reserve(struct firewall *fw, uint32_t count, struct now now)
{
	if (fw->op_count + count > FIREWALL_CHUNK)
		firewall_commit(fw, now);
}

static struct element_op *queue(struct firewall *fw, const struct addr *addr, uint8_t flags)
{
	struct element_op *op = &fw->ops[fw->op_count++];

	*op = (struct element_op){.addr = *addr, .flags = flags & INFORCE_CLASS};
	return op;
}

static void queue_ports(struct firewall *fw, const struct addr *addr, uint8_t flags,
			const struct portset *ports)
{
	for (unsigned i = 0; i < ports->count; i++) {
		struct element_op *op = queue(fw, addr, flags);

		op->proto = ports->port[i].proto;
		op->port = ports->port[i].number;
	}
}

void firewall_queue_elements(struct firewall *fw, const struct addr *addr, uint8_t flags,
			     const struct portset *ports, struct now now)
{
	if (fw->op_count + PORTSET_MAX > FIREWALL_CHUNK)
		firewall_send_queue(fw, now);
	queue_ports(fw, addr, flags, ports);
}

void firewall_queue_ban(struct firewall *fw, const struct inforce_ban *ban)
{
	const struct portset *ports = inforce_ports_of(fw->inforce, ban);
	uint32_t count = ports ? ports->count : 1, first;

	assert(fw->op_count + count <= FIREWALL_CHUNK);
	first = fw->op_count;
	if (ports)
		queue_ports(fw, &ban->addr, ban->flags, ports);
	else
		queue(fw, &ban->addr, ban->flags);
	for (uint32_t i = 0; i < count; i++) {
		fw->ops[first + i].of_ban = true;
		fw->ops[first + i].ports = ban->ports;
		fw->ops[first + i].rest = (uint16_t)(count - 1 - i);
	}
}

static bool addr_ok(const struct addr *addr)
{
	return (addr->family == ADDR_IPV4 || addr->family == ADDR_IPV6) && addr->plen > 0 &&
	       addr->plen <= addr_bits(addr);
}

int firewall_ban(struct firewall *fw, const struct inforce_ban *ban, const struct portset *ports,
		 struct now now)
{
	struct inforce_ban *stored;
	int code;

	if (!addr_ok(&ban->addr))
		return -EINVAL;
	if (ban->end_ns <= now.mono_ns) {
		firewall_unban(fw, &ban->addr, ban->flags, ports, now);
		return 0;
	}
	reserve(fw, PORTSET_MAX, now);
	code = inforce_put(fw->inforce, ban, ports, now.mono_ns, &stored);
	if (code < 0) {
		fw->counters.failed++;
		return code;
	}
	inforce_set_waiting(fw->inforce, stored, true);
	firewall_queue_ban(fw, stored);
	return 0;
}

static bool matches(struct firewall *fw, const struct inforce_ban *ban, uint8_t flags,
		    const struct portset *ports, int64_t mono_ns)
{
	if ((ban->flags & INFORCE_CLASS) != (flags & INFORCE_CLASS))
		return false;
	return !ports || !ban->ports ||
	       inforce_get(fw->inforce, &ban->addr, flags, ports, mono_ns) == ban;
}

static struct inforce_ban *find_match(struct firewall *fw, const struct addr *addr, uint8_t flags,
				      const struct portset *ports, int64_t mono_ns)
{
	struct inforce_ban *ban;
	uint32_t step = 0;

	while ((ban = inforce_of(fw->inforce, addr, &step, mono_ns)))
		if (matches(fw, ban, flags, ports, mono_ns))
			return ban;
	return NULL;
}

int firewall_unban(struct firewall *fw, const struct addr *addr, uint8_t flags,
		   const struct portset *ports, struct now now)
{
	struct inforce_ban *ban;
	int found = 0;

	if (!addr_ok(addr))
		return -EINVAL;
	reserve(fw, PORTSET_MAX, now);
	while ((ban = find_match(fw, addr, flags, ports, now.mono_ns))) {
		if (ban->ports)
			queue_ports(fw, addr, flags, inforce_ports_of(fw->inforce, ban));
		inforce_remove(fw->inforce, ban);
		found = 1;
		reserve(fw, PORTSET_MAX, now);
	}
	if (!(flags & INFORCE_SCOPE_PORT))
		queue(fw, addr, flags);
	else if (ports && !found)
		queue_ports(fw, addr, flags, ports);
	return found;
}

/* --- Waiting bans --- */

bool firewall_has_open(const struct firewall *fw)
{
	return fw->inforce->waiting || fw->deletions_left;
}

static void queue_waiting(struct firewall *fw, struct now now)
{
	struct inforce_ban *ban = NULL;

	for (uint32_t looked = 0; looked < RETRY_SCAN; looked++) {
		if (fw->op_count + PORTSET_MAX > FIREWALL_CHUNK)
			return;
		ban = inforce_prev(fw->inforce, &fw->retry_cursor, now.mono_ns);
		if (!ban)
			break;
		if (ban->flags & INFORCE_WAITING) {
			fw->counters.retries++;
			firewall_queue_ban(fw, ban);
		}
	}
	if (!ban)
		fw->retry_cursor = 0; /* once through */
}

/* One pass over the waiting bans takes several calls; the next pass waits twice as long. */
void firewall_retry(struct firewall *fw, struct now now)
{
	if (!firewall_has_open(fw) || now.mono_ns < fw->retry_due_ns)
		return;
	if (!fw->retry_cursor)
		fw->retry_cursor = UINT32_MAX;
	queue_waiting(fw, now);
	firewall_send_queue(fw, now);
	if (!firewall_has_open(fw)) {
		fw->last_error = 0;
		fw->retry_cursor = 0;
	} else if (!fw->retry_cursor) {
		fw->retry_delay_ns *= 2;
		if (fw->retry_delay_ns > RETRY_LAST_NS)
			fw->retry_delay_ns = RETRY_LAST_NS;
		fw->retry_due_ns = now.mono_ns + fw->retry_delay_ns;
	}
}

/* --- Does adding an element again replace its timeout? --- */

struct probe {
	bool found, timed;
	int64_t expires_ms;
};

static void probe_element(void *ctx, const struct element *e)
{
	struct probe *p = ctx;

	*p = (struct probe){true, e->timed, e->expires_ms};
}

static int probe_message(void *ctx, const struct nlmsghdr *nlh)
{
	firewall_each_element(nlh, probe_element, ctx);
	return 0;
}

/* Adds the element with both timeouts in one transaction; true when the second one holds. */
static bool probe_ends_with(struct firewall *fw, const struct ban_set *set, uint64_t first_ms,
			    uint64_t then_ms)
{
	struct addr nobody = {.family = set->family, .plen = set->plen};
	struct key key = key_of(&nobody, 0, 0, 0);
	struct probe p = {0};

	firewall_batch_begin(&fw->nft, &fw->batch);
	put_element(&fw->batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set->name, &key, first_ms);
	put_element(&fw->batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set->name, &key, then_ms);
	netlink_batch_ack(&fw->batch);
	firewall_batch_end(&fw->batch);
	if (netlink_commit(&fw->nft, &fw->batch, NULL, NULL) < 0 ||
	    firewall_list_elements(&fw->query, &fw->ask, set) < 0 ||
	    netlink_dump_read(&fw->query, probe_message, &p, SIZE_MAX) != 0 || !p.found)
		return false;
	if (!then_ms)
		return !p.timed;
	return p.timed && (uint64_t)p.expires_ms <= then_ms &&
	       (uint64_t)p.expires_ms > then_ms - then_ms / 4;
}

/*
 * Longer, shorter, for ever and back, within one transaction and over an element that is there.
 * Linux 6.18 does all of it; kernels before about 6.12 keep the old timeout.
 */
int firewall_probe_replace(struct firewall *fw)
{
	static const uint64_t steps_ms[][2] = {{100000, 200000}, {900000, 300000}, {300000, 0},
					       {0, 100000},      {100000, 100000}, {0, 0},
					       {500000, 500000}};
	struct ban_set *set = &fw->sets[firewall_set_index(ADDR_IPV4, 1, 0)];
	int code;

	if (set->used)
		return 0; /* in earnest: stay with what always works */
	code = firewall_temporary_set(fw, set, true);
	if (code < 0)
		return code;
	fw->replaces = true;
	for (size_t i = 0; i < sizeof steps_ms / sizeof steps_ms[0]; i++)
		fw->replaces &= probe_ends_with(fw, set, steps_ms[i][0], steps_ms[i][1]);
	return firewall_temporary_set(fw, set, false);
}

/* --- Drop counters --- */

struct asked {
	struct inforce_ban ban; /* a copy: the list moves when it forgets */
	struct firewall_drops drops;
	bool found;
};

struct asking {
	struct firewall *fw;
	uint32_t count, elements;
	struct asked bans[ASK_CHUNK];
	uint16_t owner[ASK_CHUNK + PORTSET_MAX]; /* message -> bans */
	uint16_t answer;                         /* of the message in work */
};

static void take_drops(void *ctx, const struct element *e)
{
	struct asking *a = ctx;
	struct asked *asked = &a->bans[a->answer];

	asked->found = true;
	asked->drops.packets += e->packets;
	asked->drops.bytes += e->bytes;
	asked->drops.expires_ms = e->expires_ms;
}

static int take_answer(void *ctx, const struct nlmsghdr *nlh)
{
	struct asking *a = ctx;

	a->answer = a->owner[nlh->nlmsg_seq - a->fw->ask.first_seq];
	firewall_each_element(nlh, take_drops, a);
	return 0;
}

static void ask_element(struct asking *a, const struct ban_set *set, uint8_t proto, uint16_t port)
{
	const struct inforce_ban *ban = &a->bans[a->count].ban;
	struct key key = key_of(&ban->addr, ban->flags, proto, port);

	a->owner[a->elements++] = (uint16_t)a->count;
	put_element(&a->fw->ask, NFT_MSG_GETSETELEM, 0, set->name, &key, 0);
}

static void ask_ban(struct asking *a, const struct inforce_ban *ban)
{
	const struct portset *ports = inforce_ports_of(a->fw->inforce, ban);
	const struct ban_set *set =
		&a->fw->sets[firewall_set_index(ban->addr.family, ban->addr.plen, ban->flags)];

	a->bans[a->count] = (struct asked){.ban = *ban, .drops.expires_ms = CLOCK_FOREVER};
	if (!ports)
		ask_element(a, set, 0, 0);
	for (unsigned i = 0; ports && i < ports->count; i++)
		ask_element(a, set, ports->port[i].proto, ports->port[i].number);
	a->count++;
}

static void begin_asking(struct asking *a, struct firewall *fw)
{
	a->fw = fw;
	a->count = a->elements = 0;
	netlink_batch_begin(&fw->ask, &fw->query);
}

/* Elements that are missing are refused with ENOENT: expired, or waiting. */
static int finish_asking(struct asking *a, firewall_drops_callback *callback, void *ctx)
{
	int code;

	if (!a->elements)
		return 0;
	netlink_batch_ack(&a->fw->ask);
	code = netlink_query(&a->fw->query, &a->fw->ask, take_answer, NULL, a);
	for (uint32_t i = 0; i < a->count; i++)
		if (a->bans[i].found)
			callback(ctx, &a->bans[i].ban, &a->bans[i].drops);
	return code == -ENOENT ? 0 : code;
}

static bool can_ask_more(const struct asking *a)
{
	return a->elements < ASK_CHUNK &&
	       netlink_batch_left(&a->fw->ask) > PORTSET_MAX * ELEMENT_BYTES + NETLINK_MESSAGE_MAX;
}

int firewall_each_drops(struct firewall *fw, uint32_t *cursor, uint32_t max_bans, struct now now,
			firewall_drops_callback *callback, void *ctx)
{
	struct inforce_ban *ban = NULL;
	struct asking a;
	int code = 0;

	while (max_bans && code == 0) {
		begin_asking(&a, fw);
		while (max_bans && can_ask_more(&a)) {
			ban = inforce_prev(fw->inforce, cursor, now.mono_ns);
			if (!ban)
				break;
			ask_ban(&a, ban);
			max_bans--;
		}
		code = finish_asking(&a, callback, ctx);
		if (!ban)
			return code;
	}
	return code < 0 ? code : 1;
}

static void copy_drops(void *ctx, const struct inforce_ban *ban, const struct firewall_drops *drops)
{
	(void)ban;
	*(struct firewall_drops *)ctx = *drops;
}

int firewall_drops(struct firewall *fw, const struct inforce_ban *ban,
		   struct firewall_drops *ret_drops)
{
	struct asking a;
	int code;

	begin_asking(&a, fw);
	ask_ban(&a, ban);
	code = finish_asking(&a, copy_drops, ret_drops);
	if (code < 0)
		return code;
	return a.bans[0].found ? 0 : -ENOENT;
}
