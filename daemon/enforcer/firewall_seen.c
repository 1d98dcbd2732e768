/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions to the record and its state, the bells' arming, and the record of another namespace:
 * see firewall_record.h. A question that got no answer says so in its entry. */
#include "daemon/enforcer/firewall_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/log.h"

#define LOOK_CHUNK 128u /* answers that fit into a socket's default buffer */
#define ASK_OWN_ROOM (24u << 10)
#define REST_SHARE 10 /* times what a check of another namespace's table took */
#define SET_COUNT 20  /* NFTA_SET_COUNT, which our headers do not know yet */

/* --- The wanted ports --- */

/* What the kernel refuses is forgotten: a repair must be able to put back what was there. */
static int change_ports(struct firewall *fw, const struct record_port *ports, unsigned count,
			struct now now)
{
	struct record *r = &fw->record;
	struct record_port old[FIREWALL_PORTS_MAX];
	unsigned old_count = r->count;
	int code;

	memcpy(old, r->ports, sizeof old);
	code = record_check(r);
	if (code < 0)
		return code;
	record_want(r, ports, count);
	code = firewall_put_structure(fw, STRUCTURE_RECORD);
	if (code == -ENOENT) { /* the table is gone; its repair brings the record, too */
		firewall_want_rebuild(fw);
		firewall_try_repair(fw, now);
		if (fw->repair_wanted || r->in_force)
			return 0;
		code = r->error;
	}
	if (code == 0) {
		record_is_in_force(r, false, now);
		return 0;
	}
	memcpy(r->ports, old, sizeof old);
	r->count = old_count;
	return code;
}

int firewall_watch_ports(struct firewall *fw, const struct firewall_port *ports, size_t n,
			 struct now now, struct error *err)
{
	struct record *r = &fw->record;
	struct record_port sorted[FIREWALL_PORTS_MAX];
	bool first = !r->known;
	unsigned count;
	int code = record_sort(ports, n, sorted, &count, err);

	if (code < 0)
		return code;
	firewall_drain_watch(fw, now);
	if (first && (code = record_adopt(r)) < 0)
		return error_set(err, code, "reading the record: %s", error_name(code));
	firewall_try_repair(fw, now);
	if (record_is(r, sorted, count) && (r->in_force || fw->repair_wanted)) {
		if (first)
			firewall_ring_all(fw);
		return 0;
	}
	if (fw->repair_wanted) {
		record_want(r, sorted, count);
		return 0;
	}
	code = change_ports(fw, sorted, count, now);
	firewall_arm(fw, now);
	if (code < 0)
		return error_set(err, code, "recording who talks to %u ports: %s", count,
				 error_name(code));
	firewall_ring_all(fw);
	return 0;
}

/* --- Bells --- */

static void tell(struct firewall *fw, int port)
{
	if (fw->opt.hooks.bell)
		fw->opt.hooks.bell(fw->opt.hooks.ctx, port);
}

/* The kernel's own message, and not what somebody did to the object. */
bool firewall_take_ring(struct firewall *fw, const struct nlmsghdr *nlh)
{
	struct attrs of;
	int port;

	if (nlh->nlmsg_pid || (nlh->nlmsg_type & 0xff) != NFT_MSG_NEWOBJ)
		return false;
	if (!attrs_of(nlh, &of) || !attr_is_text(of.of[NFTA_OBJ_NAME]))
		return true;
	port = record_port_of_bell(mnl_attr_get_str(of.of[NFTA_OBJ_NAME]));
	if (port >= 0 && record_has_bell(&fw->record, (uint16_t)port))
		tell(fw, port);
	return true;
}

static int ignore_message(void *ctx, const struct nlmsghdr *nlh)
{
	(void)ctx;
	(void)nlh;
	return 0;
}

static void ask_object(struct record *r, uint16_t type, uint32_t kind, const char *name)
{
	struct nlmsghdr *nlh = firewall_message(r->ask, type, 0);

	mnl_attr_put_strz(nlh, NFTA_OBJ_TABLE, r->table);
	mnl_attr_put_strz(nlh, NFTA_OBJ_NAME, name);
	mnl_attr_put_u32(nlh, NFTA_OBJ_TYPE, htonl(kind));
}

/* Only the last one asks for an acknowledgement; what is answered is read at once. */
int firewall_bell_arm(struct firewall *fw, int port)
{
	struct record *r = &fw->record;
	char name[FIREWALL_NAME_MAX];

	if (r->lacks & RECORD_QUOTA)
		return -EOPNOTSUPP;
	netlink_batch_begin(r->ask, r->nl);
	for (unsigned i = 0; i < r->count; i++) {
		if (!(r->ports[i].flags & FIREWALL_BELL) ||
		    (port != FIREWALL_ALL_BELLS && r->ports[i].number != port))
			continue;
		record_name_bell(r->ports[i].number, name);
		ask_object(r, NFT_MSG_GETOBJ_RESET, NFT_OBJECT_QUOTA, name);
	}
	if (!r->ask->count)
		return port == FIREWALL_ALL_BELLS ? 0 : -ENOENT;
	netlink_batch_ack(r->ask);
	return netlink_query(r->nl, r->ask, ignore_message, NULL, NULL);
}

void firewall_ring_all(struct firewall *fw)
{
	int code;

	if (!record_wants_bells(&fw->record))
		return;
	code = firewall_bell_arm(fw, FIREWALL_ALL_BELLS);
	if (code < 0 && code != -ENOENT) /* gone: a repair is coming, and then this again */
		log_error("firewall", "the bells cannot be armed: %s", error_name(code));
	tell(fw, FIREWALL_ALL_BELLS);
}

/* --- Looking up --- */

struct looking {
	struct record *r;
	struct firewall_sighting *list;
	uint16_t owner[LOOK_CHUNK]; /* message -> list */
	uint32_t asked;
	uint32_t generation;
};

static const struct record_port *recorded(const struct record *r, uint16_t number)
{
	for (unsigned i = 0; i < r->count; i++)
		if (r->ports[i].number == number && r->ports[i].flags & FIREWALL_RECORD)
			return &r->ports[i];
	return NULL;
}

static int entry_error(const struct record *r, const struct firewall_sighting *s)
{
	if (s->addr.family != ADDR_IPV4 && s->addr.family != ADDR_IPV6)
		return -EINVAL;
	if (s->addr.plen < (s->addr.family == ADDR_IPV4 ? 32 : 64))
		return -EOPNOTSUPP;
	if (!recorded(r, s->port))
		return -ENOENT;
	return r->in_force ? -ENODATA : -EAGAIN;
}

static void ask_entry(struct looking *l, size_t index)
{
	const struct firewall_sighting *s = &l->list[index];
	bool v6 = s->addr.family == ADDR_IPV6;
	struct addr a = addr_mask(s->addr, v6 ? 64 : 32);
	struct nlmsghdr *nlh = firewall_message(l->r->ask, NFT_MSG_GETSETELEM, 0);
	uint16_t wire = htons(s->port);
	struct nlattr *list, *item, *nest;
	uint8_t key[20] = {0};

	memcpy(key, a.b, addr_bytes(&a));
	memcpy(key + addr_bytes(&a), &wire, sizeof wire);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, l->r->table);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, v6 ? "seen6" : "seen4");
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	item = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	nest = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, addr_bytes(&a) + 4, key);
	mnl_attr_nest_end(nlh, nest);
	mnl_attr_nest_end(nlh, item);
	mnl_attr_nest_end(nlh, list);
	l->owner[l->asked++] = (uint16_t)index;
}

static int take_element(const struct nlattr *attr, void *ctx)
{
	struct firewall_sighting *s = ctx;
	uint64_t bytes, left_ms;
	struct attrs of;

	if (!attrs_nested(attr, &of))
		return MNL_CB_OK;
	left_ms = attr_be64(of.of[NFTA_SET_ELEM_EXPIRATION]);
	attrs_counter(&of, &s->connections, &bytes);
	s->age_ms = left_ms < FIREWALL_RECORD_MS ? FIREWALL_RECORD_MS - (int64_t)left_ms : 0;
	s->seen = true;
	s->error = 0;
	return MNL_CB_OK;
}

static int take_answer(void *ctx, const struct nlmsghdr *nlh)
{
	struct looking *l = ctx;
	uint32_t index = nlh->nlmsg_seq - l->r->ask->first_seq;
	struct attrs of;

	if (!attrs_of(nlh, &of))
		return 0;
	if ((nlh->nlmsg_type & 0xff) == NFT_MSG_NEWGEN)
		l->generation = attr_be32(of.of[NFTA_GEN_ID]);
	else if (index < l->asked && of.of[NFTA_SET_ELEM_LIST_ELEMENTS])
		mnl_attr_parse_nested(of.of[NFTA_SET_ELEM_LIST_ELEMENTS], take_element,
				      &l->list[l->owner[index]]);
	return 0;
}

static void not_found(void *ctx, uint32_t index, int error)
{
	struct looking *l = ctx;

	if (index < l->asked)
		l->list[l->owner[index]].error = error == -ENOENT ? 0 : error;
}

/* The generation stands behind the look-ups: when it is the known one, nothing was gone. */
static int ask_all(struct looking *l)
{
	int code;

	firewall_message(l->r->ask, NFT_MSG_GETGEN, 0);
	netlink_batch_ack(l->r->ask);
	code = netlink_query(l->r->nl, l->r->ask, take_answer, not_found, l);
	l->asked = 0;
	netlink_batch_begin(l->r->ask, l->r->nl);
	return code == -ENOENT ? 0 : code;
}

static int look(struct record *r, struct firewall_sighting *list, size_t n,
		uint32_t *ret_generation)
{
	struct looking l = {.r = r, .list = list, .generation = r->generation};
	int code = 0, last = 0;

	netlink_batch_begin(r->ask, r->nl);
	for (size_t i = 0; i < n; i++) {
		struct firewall_sighting *s = &list[i];

		s->seen = false;
		s->connections = 0;
		s->age_ms = 0;
		s->error = entry_error(r, s);
		if (s->error != -ENODATA)
			continue;
		ask_entry(&l, i);
		if (l.asked == LOOK_CHUNK && (code = ask_all(&l)) < 0)
			last = code;
	}
	if ((l.asked || !n) && (code = ask_all(&l)) < 0)
		last = code;
	*ret_generation = l.generation;
	return last;
}

static void say_since(const struct record *r, struct firewall_sighting *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct record_port *port = recorded(r, list[i].port);

		list[i].since_mono_ns = port && r->in_force ? port->since_ns : CLOCK_FOREVER;
	}
}

/* A flush between the look-up and its notification makes the record younger than the answer. */
int firewall_seen(struct firewall *fw, struct firewall_sighting *list, size_t n, struct now now)
{
	uint32_t generation;
	int code;

	if (n > FIREWALL_SEEN_MAX)
		return -E2BIG;
	firewall_drain_watch(fw, now);
	firewall_try_repair(fw, now);
	code = look(&fw->record, list, n, &generation);
	firewall_drain_watch(fw, now);
	say_since(&fw->record, list, n);
	firewall_arm(fw, now);
	return code;
}

/* --- State --- */

struct stating {
	struct record *r;
	uint64_t missed[2];
	int64_t addresses;
};

static void ask_set(struct record *r, const char *name)
{
	struct nlmsghdr *nlh = firewall_message(r->ask, NFT_MSG_GETSET, 0);

	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, r->table);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, name);
}

/* Messages 0 and 1 ask for the counters, 2 and 3 for the sets. */
static int take_state(void *ctx, const struct nlmsghdr *nlh)
{
	struct stating *s = ctx;
	uint32_t index = nlh->nlmsg_seq - s->r->ask->first_seq;
	struct attrs of, data;

	if (!attrs_of(nlh, &of))
		return 0;
	if (index < 2 && attrs_nested(of.of[NFTA_OBJ_DATA], &data))
		s->missed[index] = attr_be64(data.of[NFTA_COUNTER_PACKETS]);
	else if (index >= 2 && of.of[SET_COUNT] && s->addresses >= 0)
		s->addresses += attr_be32(of.of[SET_COUNT]);
	else if (index >= 2)
		s->addresses = -1;
	return 0;
}

static void note_missed(struct record *r, const uint64_t missed[2], struct now now)
{
	for (unsigned i = 0; i < 2; i++) {
		if (missed[i] && missed[i] != r->missed[i])
			r->full_until_ns[i] = now.mono_ns + FIREWALL_RECORD_MS * CLOCK_MSEC_NS;
		r->missed[i] = missed[i];
	}
}

static void ask_state(struct record *r, struct now now, struct firewall_record_state *state)
{
	struct stating s = {.r = r};
	int code;

	netlink_batch_begin(r->ask, r->nl);
	ask_object(r, NFT_MSG_GETOBJ, NFT_OBJECT_COUNTER, "missed4");
	ask_object(r, NFT_MSG_GETOBJ, NFT_OBJECT_COUNTER, "missed6");
	ask_set(r, "seen4");
	ask_set(r, "seen6");
	netlink_batch_ack(r->ask);
	code = netlink_query(r->nl, r->ask, take_state, NULL, &s);
	if (code == 0)
		note_missed(r, s.missed, now);
	else
		r->error = code;
	state->addresses = code == 0 ? s.addresses : -1;
	state->full4 = r->full_until_ns[0] > now.mono_ns;
	state->full6 = r->full_until_ns[1] > now.mono_ns;
}

static const char *lack(const struct record *r)
{
	if (r->lacks & RECORD_SOCKET)
		return "this kernel has no `socket` expression (NFT_SOCKET): only who was answered "
		       "with data is recorded";
	if (r->lacks & RECORD_CGROUP)
		return "this kernel has no `meta cgroup` (CGROUP_NET_CLASSID): of ports that "
		       "listen on one address only who was answered with data is recorded";
	return "this kernel has no quota objects (NFT_QUOTA): no bell";
}

static void say_state(struct record *r, unsigned ports, const struct firewall_record_state *state)
{
	const char *full = state->full4 && state->full6 ? "IPv4 and IPv6"
			   : state->full4               ? "IPv4"
							: "IPv6";

	if (!ports && !state->weak)
		snprintf(r->text, sizeof r->text, "off");
	else if (ports && !state->on)
		snprintf(r->text, sizeof r->text, "no record: %s",
			 r->error ? error_name(r->error)
				  : "table inet tailban waits for its repair");
	else if (state->full4 || state->full6)
		snprintf(r->text, sizeof r->text,
			 "the record of %s is full (%u): connections were not counted", full,
			 r->size);
	else if (state->weak)
		snprintf(r->text, sizeof r->text, "%s", lack(r));
	else
		snprintf(r->text, sizeof r->text, "connections to %u ports are recorded", ports);
}

void record_state(struct record *r, struct now now, struct firewall_record_state *ret_state)
{
	struct firewall_record_state state = {.size = r->size, .addresses = -1, .text = r->text};
	unsigned ports = 0;

	for (unsigned i = 0; i < r->count; i++) {
		if (!(r->ports[i].flags & FIREWALL_RECORD))
			continue;
		ports++;
		if (r->ports[i].since_ns > state.since_mono_ns)
			state.since_mono_ns = r->ports[i].since_ns;
	}
	state.on = ports && r->in_force;
	state.bell = r->in_force && record_wants_bells(r);
	state.weak = r->lacks;
	if (state.on)
		ask_state(r, now, &state);
	else
		state.since_mono_ns = CLOCK_FOREVER;
	say_state(r, ports, &state);
	*ret_state = state;
}

void firewall_record(struct firewall *fw, struct now now, struct firewall_record_state *ret_state)
{
	firewall_drain_watch(fw, now);
	firewall_try_repair(fw, now);
	record_state(&fw->record, now, ret_state);
	firewall_arm(fw, now);
}

/* --- In another namespace --- */

/* Puts right what is not as wanted; `gap` when nothing was recorded in between. */
static int put_right(struct record *r, bool gap, struct now now)
{
	int code = record_check(r);

	gap &= code != 0;
	code = code > 0 ? record_commit(r) : code;
	if (code < 0) {
		r->in_force = false;
		r->error = code;
		return code;
	}
	record_is_in_force(r, gap, now);
	return look(r, NULL, 0, &r->generation);
}

static void without_bells(struct record_port *ports, unsigned *count)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < *count; i++) {
		ports[i].flags &= (uint8_t)~FIREWALL_BELL;
		if (ports[i].flags)
			ports[kept++] = ports[i];
	}
	*count = kept;
}

int record_watch_ports(struct record *r, const struct firewall_port *ports, size_t n,
		       struct now now, struct error *err)
{
	struct record_port sorted[FIREWALL_PORTS_MAX];
	unsigned count;
	int code = record_sort(ports, n, sorted, &count, err);

	if (code < 0)
		return code;
	without_bells(sorted, &count);
	if (record_is(r, sorted, count) && r->in_force)
		return 0;
	record_want(r, sorted, count);
	code = put_right(r, false, now);
	if (code < 0)
		return error_set(err, code, "table inet %s in the service's namespace: %s",
				 r->table, error_name(code));
	return 0;
}

static int open_away(struct record *r, int fd, struct error *err)
{
	int code = netlink_from_fd(&r->own_nl, fd, err);

	if (code < 0) {
		if (code != -ENOMEM) /* then it is closed already */
			close(fd);
		return code;
	}
	r->nl = &r->own_nl;
	r->ask = &r->own_ask;
	if (netlink_batch_init(&r->own_ask, ASK_OWN_ROOM) < 0)
		return error_set(err, -ENOMEM, "no memory for a record");
	code = record_adopt(r);
	if (code < 0)
		return error_set(err, code, "reading table inet %s: %s", r->table,
				 error_name(code));
	return 0;
}

int record_open_at(int nfnetlink_fd, const struct firewall_port *ports, size_t n, struct now now,
		   struct record **ret_record, struct error *err)
{
	struct record *r = calloc(1, sizeof *r);
	int code;

	if (!r) {
		close(nfnetlink_fd);
		return error_set(err, -ENOMEM, "no memory for a record");
	}
	r->table = RECORD_TABLE;
	r->size = FIREWALL_RECORD_SIZE;
	code = open_away(r, nfnetlink_fd, err);
	if (code == 0)
		code = record_watch_ports(r, ports, n, now, err);
	if (code < 0) {
		record_close(r);
		return code;
	}
	*ret_record = r;
	return 0;
}

int record_seen(struct record *r, struct firewall_sighting *list, size_t n, struct now now)
{
	uint32_t generation = r->generation;
	int code;

	if (n > FIREWALL_SEEN_MAX)
		return -E2BIG;
	code = look(r, list, n, &generation);
	if ((generation != r->generation || !r->in_force) && now.mono_ns >= r->rest_until_ns) {
		int repaired = put_right(r, true, now);

		code = code < 0 ? code : repaired;
		r->rest_until_ns = now.mono_ns + REST_SHARE * (clock_now().mono_ns - now.mono_ns);
	}
	say_since(r, list, n);
	return code;
}

void record_close(struct record *r)
{
	if (!r)
		return;
	netlink_close(&r->own_nl);
	netlink_batch_fini(&r->own_ask);
	free(r);
}
