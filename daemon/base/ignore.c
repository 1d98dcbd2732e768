/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is never banned: see ignore.h. Replacing a list can fail with -ENOMEM, then the old one
 * stays. */
#include "daemon/base/ignore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/escape.h"

struct list {
	enum ignore_reason reason;
	uint32_t jail;
	struct netlist nets;
};

struct peer {
	struct addr addr;
	char user[IGNORE_USER_BYTES];
	int64_t seen_mono_ns;
};

struct ignore {
	struct list *lists; /* in the order of reasons */
	size_t nlists;
	struct peer peers[IGNORE_SSH_MAX];
	size_t npeers;
	uint64_t overflows;
};

static const struct {
	bool forcible;
	const char *word, *phrase;
} reasons[IGNORE_NREASONS] = {
#define REASON_ROW(name, can_force, word, phrase) [name] = {can_force, word, phrase},
	IGNORE_REASONS(REASON_ROW)
#undef REASON_ROW
};

static const struct {
	enum ignore_reason reason;
	struct addr net;
} builtin[] = {
	{IGNORE_LOOPBACK, {{127}, ADDR_IPV4, 8}},
	{IGNORE_LOOPBACK, {{[15] = 1}, ADDR_IPV6, 128}},
	{IGNORE_SPECIAL, {{0}, ADDR_IPV4, 8}},
	{IGNORE_SPECIAL, {{224}, ADDR_IPV4, 4}},
	{IGNORE_SPECIAL, {{255, 255, 255, 255}, ADDR_IPV4, 32}},
	{IGNORE_SPECIAL, {{0}, ADDR_IPV6, 128}},
	{IGNORE_SPECIAL, {{0xff}, ADDR_IPV6, 8}},
};

struct ignore *ignore_new(void)
{
	return calloc(1, sizeof(struct ignore));
}

void ignore_free(struct ignore *ig)
{
	if (!ig)
		return;
	for (size_t i = 0; i < ig->nlists; i++)
		netlist_free(&ig->lists[i].nets);
	free(ig->lists);
	free(ig);
}

static struct list *find_list(struct ignore *ig, enum ignore_reason reason, uint32_t jail)
{
	for (size_t i = 0; i < ig->nlists; i++)
		if (ig->lists[i].reason == reason && ig->lists[i].jail == jail)
			return &ig->lists[i];
	return NULL;
}

static void remove_list(struct ignore *ig, struct list *l)
{
	netlist_free(&l->nets);
	ig->nlists--;
	memmove(l, l + 1, (size_t)(ig->lists + ig->nlists - l) * sizeof *l);
}

/* An empty list in its place, or NULL. */
static struct list *insert_list(struct ignore *ig, enum ignore_reason reason, uint32_t jail)
{
	struct list *grown = reallocarray(ig->lists, ig->nlists + 1, sizeof *grown);
	size_t at = ig->nlists;

	if (!grown)
		return NULL;
	ig->lists = grown;
	while (at && grown[at - 1].reason > reason)
		at--;
	memmove(grown + at + 1, grown + at, (ig->nlists - at) * sizeof *grown);
	grown[at] = (struct list){.reason = reason, .jail = jail};
	ig->nlists++;
	return &grown[at];
}

static int copy_list(const struct netlist *from, struct netlist *ret_copy)
{
	struct netlist copy = {0};

	for (size_t i = 0; i < from->count; i++) {
		if (netlist_add(&copy, &from->nets[i]) < 0) {
			netlist_free(&copy);
			return -ENOMEM;
		}
	}
	netlist_seal(&copy);
	*ret_copy = copy;
	return 0;
}

int ignore_replace(struct ignore *ig, enum ignore_reason reason, uint32_t jail,
		   const struct netlist *list)
{
	bool empty = !list || !list->count;
	struct netlist copy;
	struct list *l;

	if (reason == IGNORE_SSH && empty) {
		ig->npeers = 0;
		return 0;
	}
	if (reason != IGNORE_OWN && reason != IGNORE_GATEWAY && reason != IGNORE_IP &&
	    reason != IGNORE_PROXY)
		return -EINVAL;
	l = find_list(ig, reason, jail);
	if (empty) {
		if (l)
			remove_list(ig, l);
		return 0;
	}
	if (copy_list(list, &copy) < 0)
		return -ENOMEM;
	if (!l)
		l = insert_list(ig, reason, jail);
	if (!l) {
		netlist_free(&copy);
		return -ENOMEM;
	}
	netlist_free(&l->nets);
	l->nets = copy;
	return 0;
}

void ignore_clear_jails(struct ignore *ig)
{
	for (size_t i = ig->nlists; i-- > 0;)
		if (ig->lists[i].jail != IGNORE_ALL_JAILS)
			remove_list(ig, &ig->lists[i]);
}

static struct peer *find_peer(struct ignore *ig, const struct addr *addr, const char *user)
{
	for (size_t i = 0; i < ig->npeers; i++)
		if (addr_eq(&ig->peers[i].addr, addr) &&
		    strncmp(ig->peers[i].user, user, IGNORE_USER_BYTES - 1) == 0)
			return &ig->peers[i];
	return NULL;
}

static struct peer *place_peer(struct ignore *ig, int64_t seen_mono_ns)
{
	struct peer *oldest = &ig->peers[0];

	if (ig->npeers < IGNORE_SSH_MAX)
		return &ig->peers[ig->npeers++];
	for (size_t i = 1; i < IGNORE_SSH_MAX; i++)
		if (ig->peers[i].seen_mono_ns < oldest->seen_mono_ns)
			oldest = &ig->peers[i];
	if (oldest->seen_mono_ns > seen_mono_ns - IGNORE_SSH_KEEP_NS)
		ig->overflows++;
	return oldest;
}

void ignore_ssh_seen(struct ignore *ig, const struct addr *peer, const char *user,
		     int64_t seen_mono_ns)
{
	struct peer *p = find_peer(ig, peer, user);

	if (!p) {
		p = place_peer(ig, seen_mono_ns);
		*p = (struct peer){.addr = *peer, .seen_mono_ns = seen_mono_ns};
		snprintf(p->user, sizeof p->user, "%s", user);
	}
	if (p->seen_mono_ns < seen_mono_ns)
		p->seen_mono_ns = seen_mono_ns;
}

static bool is_live(const struct peer *p, int64_t now_mono_ns)
{
	return p->seen_mono_ns > now_mono_ns - IGNORE_SSH_KEEP_NS;
}

static bool overlap(const struct addr *a, const struct addr *b)
{
	return addr_contains(a, b) || addr_contains(b, a);
}

static bool check_builtin(const struct addr *asked, struct ignore_hit *hit)
{
	for (size_t i = 0; i < sizeof builtin / sizeof builtin[0]; i++) {
		if (!overlap(&builtin[i].net, asked))
			continue;
		hit->reason = builtin[i].reason;
		hit->entry = builtin[i].net;
		return true;
	}
	return false;
}

static bool check_lists(const struct ignore *ig, const struct addr *asked, uint32_t jail,
			bool forced, struct ignore_hit *hit)
{
	for (size_t i = 0; i < ig->nlists; i++) {
		const struct list *l = &ig->lists[i];
		const struct addr *entry;

		if (l->jail != IGNORE_ALL_JAILS && l->jail != jail && jail != IGNORE_ANY_JAIL)
			continue;
		if (forced && reasons[l->reason].forcible)
			continue;
		entry = netlist_touches(&l->nets, asked);
		if (!entry)
			continue;
		hit->reason = l->reason;
		hit->entry = *entry;
		hit->jail = l->jail;
		return true;
	}
	return false;
}

static void hit_peer(struct ignore_hit *hit, const struct peer *p)
{
	hit->reason = IGNORE_SSH;
	hit->entry = p->addr;
	hit->last_seen_mono_ns = p->seen_mono_ns;
	memcpy(hit->user, p->user, sizeof hit->user);
}

static bool check_peers(const struct ignore *ig, const struct addr *asked, int64_t now_mono_ns,
			struct ignore_hit *hit)
{
	for (size_t i = 0; i < ig->npeers; i++) {
		if (!is_live(&ig->peers[i], now_mono_ns) || !overlap(&ig->peers[i].addr, asked))
			continue;
		hit_peer(hit, &ig->peers[i]);
		return true;
	}
	return false;
}

bool ignore_check(const struct ignore *ig, const struct addr *asked, uint32_t jail, bool forced,
		  int64_t now_mono_ns, struct ignore_hit *ret_hit)
{
	struct ignore_hit hit = {.asked = *asked, .jail = IGNORE_ALL_JAILS};

	if (!check_builtin(asked, &hit) && !check_lists(ig, asked, jail, forced, &hit) &&
	    (forced || !check_peers(ig, asked, now_mono_ns, &hit)))
		return false;
	if (ret_hit)
		*ret_hit = hit;
	return true;
}

/* The cursor: number of the list (or nlists for the peers) in the upper half, of the entry below.
 */
bool ignore_next(const struct ignore *ig, uint64_t *cursor, int64_t now_mono_ns,
		 struct ignore_hit *ret_hit)
{
	size_t list = *cursor >> 32, at = (uint32_t)*cursor;

	for (; list < ig->nlists; list++, at = 0) {
		const struct list *l = &ig->lists[list];

		if (at >= l->nets.count)
			continue;
		*ret_hit = (struct ignore_hit){.reason = l->reason,
					       .jail = l->jail,
					       .entry = l->nets.nets[at],
					       .asked = l->nets.nets[at]};
		*cursor = (uint64_t)list << 32 | (at + 1);
		return true;
	}
	while (at < ig->npeers && !is_live(&ig->peers[at], now_mono_ns))
		at++;
	*cursor = (uint64_t)list << 32 | (at + 1);
	if (at >= ig->npeers)
		return false;
	*ret_hit = (struct ignore_hit){.jail = IGNORE_ALL_JAILS, .asked = ig->peers[at].addr};
	hit_peer(ret_hit, &ig->peers[at]);
	return true;
}

static void format_age(int64_t age_ns, char buf[static 32])
{
	int64_t s = age_ns > 0 ? age_ns / CLOCK_SECOND_NS : 0;

	if (s < 60)
		snprintf(buf, 32, "%d s", (int)s);
	else if (s < 3600)
		snprintf(buf, 32, "%d min", (int)(s / 60));
	else
		snprintf(buf, 32, "%lld h", (long long)(s / 3600));
}

const char *ignore_format(const struct ignore_hit *hit, int64_t now_mono_ns,
			  char buf[static IGNORE_TEXT_BYTES])
{
	char asked[ADDR_STRLEN], entry[ADDR_STRLEN], user[128], age[32];
	int n = 0;

	addr_format(&hit->asked, asked);
	addr_format(&hit->entry, entry);
	if (addr_eq(&hit->asked, &hit->entry))
		n = snprintf(buf, IGNORE_TEXT_BYTES, "%s is ", asked);
	else if (addr_contains(&hit->entry, &hit->asked))
		n = snprintf(buf, IGNORE_TEXT_BYTES, "%s is in %s, which is ", asked, entry);
	else
		n = snprintf(buf, IGNORE_TEXT_BYTES, "%s holds %s, which is ", asked, entry);
	if (hit->reason != IGNORE_SSH) {
		snprintf(buf + n, IGNORE_TEXT_BYTES - (size_t)n, "%s",
			 hit->reason < IGNORE_NREASONS ? reasons[hit->reason].phrase : "protected");
		return buf;
	}
	escape_text(user, sizeof user, slice_of(hit->user, strnlen(hit->user, sizeof hit->user)));
	format_age(now_mono_ns - hit->last_seen_mono_ns, age);
	snprintf(buf + n, IGNORE_TEXT_BYTES - (size_t)n, "%s of %s (last seen %s ago)",
		 reasons[IGNORE_SSH].phrase, user, age);
	return buf;
}

const char *ignore_reason_name(enum ignore_reason reason)
{
	return reason < IGNORE_NREASONS ? reasons[reason].word : "unknown";
}

uint64_t ignore_ssh_overflows(const struct ignore *ig)
{
	return ig->overflows;
}
