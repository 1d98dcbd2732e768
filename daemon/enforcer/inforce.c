/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of bans in force: see inforce.h. Fails with -ENFILE at the cap, -ENOSPC for too many
 * port sets, -ENOMEM when growing; the list is unchanged then. */
#include "daemon/enforcer/inforce.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define FIRST_ROOM 64u

_Static_assert(sizeof(struct inforce_ban) == 40, "a ban in force is 40 bytes");

bool portset_has(const struct portset *set, uint8_t proto, uint16_t number)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->port[i].proto == proto && set->port[i].number == number)
			return true;
	return false;
}

/* The same ports, in whatever order. */
bool portset_same(const struct portset *a, const struct portset *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (!portset_has(b, a->port[i].proto, a->port[i].number))
			return false;
	return true;
}

/* Number of the port set, or 0. */
static uint16_t find_ports(const struct inforce *list, const struct portset *set)
{
	for (uint16_t i = 1; i < PORTSETS_MAX; i++)
		if (list->ports[i].uses && portset_same(&list->ports[i].set, set))
			return i;
	return 0;
}

/* Number of the port set, stored if it is new; 0 when all places are taken. */
static uint16_t take_ports(struct inforce *list, const struct portset *set)
{
	uint16_t at = find_ports(list, set);

	for (uint16_t i = 1; !at && i < PORTSETS_MAX; i++)
		if (!list->ports[i].uses) {
			list->ports[i].set = *set;
			at = i;
		}
	if (at)
		list->ports[at].uses++;
	return at;
}

static void drop_ports(struct inforce *list, uint16_t at)
{
	if (at)
		list->ports[at].uses--;
}

const struct portset *inforce_ports_of(const struct inforce *list, const struct inforce_ban *ban)
{
	return ban->ports ? &list->ports[ban->ports].set : NULL;
}

int inforce_init(struct inforce *list, uint32_t max)
{
	*list = (struct inforce){.max = max, .seed = hash_seed_new()};
	list->room = max < FIRST_ROOM ? max : FIRST_ROOM;
	list->index_size = 2 * FIRST_ROOM;
	list->bans = calloc(list->room ? list->room : 1, sizeof *list->bans);
	list->index = calloc(list->index_size, sizeof *list->index);
	if (list->bans && list->index)
		return 0;
	inforce_fini(list);
	return -ENOMEM;
}

void inforce_fini(struct inforce *list)
{
	free(list->bans);
	free(list->index);
	*list = (struct inforce){0};
}

static uint32_t hash_of(const struct inforce *list, const struct addr *addr)
{
	return (uint32_t)hash_addr(&list->seed, addr, 0);
}

static uint32_t home(const struct inforce *list, uint32_t hash)
{
	return hash & (list->index_size - 1);
}

static uint32_t after(const struct inforce *list, uint32_t slot)
{
	return (slot + 1) & (list->index_size - 1);
}

static void index_slot(struct inforce *list, struct inforce_slot entry)
{
	uint32_t slot = home(list, entry.hash);

	while (list->index[slot].number)
		slot = after(list, slot);
	list->index[slot] = entry;
}

/* The index slot that holds this ban's number. */
static uint32_t slot_of(const struct inforce *list, uint32_t number)
{
	uint32_t slot = home(list, hash_of(list, &list->bans[number].addr));

	while (list->index[slot].number != number + 1) {
		assert(list->index[slot].number);
		slot = after(list, slot);
	}
	return slot;
}

/* Empties a slot and closes the gap: what lies behind it moves up unless that would pass its home.
 */
static void clear_slot(struct inforce *list, uint32_t gap)
{
	uint32_t mask = list->index_size - 1, slot = gap;

	for (;;) {
		uint32_t want;

		slot = after(list, slot);
		if (!list->index[slot].number)
			break;
		want = home(list, list->index[slot].hash);
		if (((slot - want) & mask) >= ((slot - gap) & mask)) {
			list->index[gap] = list->index[slot];
			gap = slot;
		}
	}
	list->index[gap].number = 0;
}

void inforce_remove(struct inforce *list, struct inforce_ban *ban)
{
	uint32_t number = (uint32_t)(ban - list->bans), last = list->count - 1;

	assert(number < list->count);
	inforce_set_waiting(list, ban, false);
	drop_ports(list, ban->ports);
	clear_slot(list, slot_of(list, number));
	if (number != last) {
		list->index[slot_of(list, last)].number = number + 1;
		list->bans[number] = list->bans[last];
	}
	list->count--;
}

void inforce_set_waiting(struct inforce *list, struct inforce_ban *ban, bool waiting)
{
	if (waiting == !!(ban->flags & INFORCE_WAITING))
		return;
	if (waiting) {
		ban->flags |= INFORCE_WAITING;
		list->waiting++;
	} else {
		ban->flags &= (uint8_t)~INFORCE_WAITING;
		list->waiting--;
	}
}

static bool expired(const struct inforce_ban *ban, int64_t mono_ns)
{
	return ban->end_ns != CLOCK_FOREVER && ban->end_ns <= mono_ns;
}

static bool forget_expired(struct inforce *list, uint32_t number, int64_t mono_ns)
{
	if (!expired(&list->bans[number], mono_ns))
		return false;
	inforce_remove(list, &list->bans[number]);
	list->forgotten++;
	return true;
}

static void sweep(struct inforce *list, uint32_t steps, int64_t mono_ns)
{
	while (steps-- && list->count) {
		if (list->hand >= list->count)
			list->hand = list->count;
		if (!list->hand)
			list->hand = list->count;
		list->hand--;
		forget_expired(list, list->hand, mono_ns);
	}
}

/* The ban of this identity, live or not. */
static struct inforce_ban *find(struct inforce *list, const struct addr *addr, uint8_t class,
				uint16_t ports)
{
	uint32_t hash = hash_of(list, addr), slot;

	for (slot = home(list, hash); list->index[slot].number; slot = after(list, slot)) {
		struct inforce_ban *ban = &list->bans[list->index[slot].number - 1];

		if (list->index[slot].hash == hash && addr_eq(&ban->addr, addr) &&
		    (ban->flags & INFORCE_CLASS) == class && ban->ports == ports)
			return ban;
	}
	return NULL;
}

static int grow_index(struct inforce *list)
{
	struct inforce_slot *old = list->index, *fresh;
	uint32_t old_size = list->index_size;

	if (list->count < old_size / 4 * 3)
		return 0;
	fresh = calloc((size_t)old_size * 2, sizeof *fresh);
	if (!fresh)
		return -ENOMEM;
	list->index = fresh;
	list->index_size = old_size * 2;
	for (uint32_t i = 0; i < old_size; i++)
		if (old[i].number)
			index_slot(list, old[i]);
	free(old);
	return 0;
}

static int grow(struct inforce *list)
{
	uint32_t room = list->room > list->max / 2 ? list->max : list->room * 2;
	struct inforce_ban *bans;

	if (list->count < list->room)
		return grow_index(list);
	bans = reallocarray(list->bans, room, sizeof *bans);
	if (!bans)
		return -ENOMEM;
	list->bans = bans;
	list->room = room;
	return grow_index(list);
}

/* Looks at every ban, and remembers when the next look can find something: a full list under attack
 * must not be walked for each ban that it refuses. */
static void sweep_all(struct inforce *list, int64_t mono_ns)
{
	list->full_until_ns = CLOCK_FOREVER;
	for (uint32_t i = list->count; i-- > 0;)
		if (!forget_expired(list, i, mono_ns) && list->bans[i].end_ns < list->full_until_ns)
			list->full_until_ns = list->bans[i].end_ns;
}

static int make_room(struct inforce *list, int64_t mono_ns)
{
	if (list->count >= list->max && mono_ns >= list->full_until_ns)
		sweep_all(list, mono_ns);
	if (list->count >= list->max) {
		list->refused++;
		return -ENFILE;
	}
	return grow(list);
}

static int add(struct inforce *list, const struct inforce_ban *ban, uint16_t ports,
	       struct inforce_ban **ret_ban)
{
	struct inforce_ban *stored = &list->bans[list->count];

	if (ban->end_ns < list->full_until_ns)
		list->full_until_ns = ban->end_ns;
	*stored = *ban;
	stored->ports = ports;
	stored->flags = ban->flags & INFORCE_CLASS;
	list->count++;
	index_slot(list, (struct inforce_slot){list->count, hash_of(list, &ban->addr)});
	if (ret_ban)
		*ret_ban = stored;
	return 1;
}

static int replace(struct inforce *list, struct inforce_ban *stored, const struct inforce_ban *ban,
		   struct inforce_ban **ret_ban)
{
	if (ban->end_ns < list->full_until_ns)
		list->full_until_ns = ban->end_ns;
	stored->end_ns = ban->end_ns;
	stored->jail = ban->jail;
	stored->source = ban->source;
	if (ret_ban)
		*ret_ban = stored;
	return 0;
}

static bool ports_ok(uint8_t flags, const struct portset *ports)
{
	if (!(flags & INFORCE_SCOPE_PORT))
		return true;
	return ports && ports->count && ports->count <= PORTSET_MAX;
}

int inforce_put(struct inforce *list, const struct inforce_ban *ban, const struct portset *ports,
		int64_t mono_ns, struct inforce_ban **ret_ban)
{
	bool scoped = ban->flags & INFORCE_SCOPE_PORT;
	uint16_t number = 0;
	struct inforce_ban *stored;
	int code;

	if (!ports_ok(ban->flags, ports))
		return -EINVAL;
	sweep(list, 2, mono_ns);
	if (scoped)
		number = find_ports(list, ports);
	if (!scoped || number) {
		stored = find(list, &ban->addr, ban->flags & INFORCE_CLASS, number);
		if (stored)
			return replace(list, stored, ban, ret_ban);
	}
	code = make_room(list, mono_ns);
	if (code < 0)
		return code;
	if (scoped && !(number = take_ports(list, ports)))
		return -ENOSPC;
	return add(list, ban, number, ret_ban);
}

struct inforce_ban *inforce_get(struct inforce *list, const struct addr *addr, uint8_t flags,
				const struct portset *ports, int64_t mono_ns)
{
	uint16_t number = 0;

	if (flags & INFORCE_SCOPE_PORT) {
		number = ports ? find_ports(list, ports) : 0;
		if (!number)
			return NULL;
	}
	return inforce_numbered(list, addr, flags, number, mono_ns);
}

struct inforce_ban *inforce_numbered(struct inforce *list, const struct addr *addr, uint8_t flags,
				     uint16_t ports, int64_t mono_ns)
{
	struct inforce_ban *ban = find(list, addr, flags & INFORCE_CLASS, ports);

	return ban && !expired(ban, mono_ns) ? ban : NULL;
}

struct inforce_ban *inforce_of(struct inforce *list, const struct addr *addr, uint32_t *step,
			       int64_t mono_ns)
{
	uint32_t mask = list->index_size - 1, hash = hash_of(list, addr);

	for (;;) {
		const struct inforce_slot *slot = &list->index[(hash + *step) & mask];
		struct inforce_ban *ban;

		if (!slot->number)
			return NULL;
		++*step;
		ban = &list->bans[slot->number - 1];
		if (slot->hash == hash && addr_eq(&ban->addr, addr) && !expired(ban, mono_ns))
			return ban;
	}
}

struct inforce_ban *inforce_prev(struct inforce *list, uint32_t *cursor, int64_t mono_ns)
{
	if (*cursor > list->count)
		*cursor = list->count;
	while (*cursor) {
		--*cursor;
		if (!forget_expired(list, *cursor, mono_ns))
			return &list->bans[*cursor];
		if (*cursor > list->count)
			*cursor = list->count;
	}
	return NULL;
}

int64_t inforce_remaining_ms(const struct inforce_ban *ban, int64_t mono_ns)
{
	int64_t left;

	if (ban->end_ns == CLOCK_FOREVER)
		return CLOCK_FOREVER;
	left = (ban->end_ns - mono_ns) / CLOCK_MSEC_NS;
	return left > 0 ? left : 1;
}
