/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Evidence by address: see evidence.h. Only making the list can fail; what does not fit is cut. */
#include "daemon/jail/evidence.h"

#include <stdlib.h>

/* Numbers in links and buckets are index + 1; 0 = none. Both lists run from the oldest to the
 * newest. */
struct link {
	uint32_t older, newer;             /* all records */
	uint32_t chain_older, chain_newer; /* those of one bucket */
};

struct chain {
	uint32_t oldest, newest;
};

struct evidence {
	struct evidence_record *records;
	struct link *links;
	struct chain *chains;
	struct chain all;
	uint32_t cap, high, count, free, maxmatches;
	uint32_t nwide; /* records of networks wider than what a chain holds together */
	uint32_t mask;  /* number of chains - 1 */
	struct hash_seed seed;
	uint64_t overwritten;
};

static const struct {
	const char *word;
	bool has_line;
} verdicts[EVIDENCE_NVERDICTS] = {
#define VERDICT_ROW(name, word, line) [name] = {word, line},
	EVIDENCE_VERDICTS(VERDICT_ROW)
#undef VERDICT_ROW
};

const char *evidence_verdict_name(enum evidence_verdict verdict)
{
	return verdict < EVIDENCE_NVERDICTS ? verdicts[verdict].word : "unknown";
}

struct evidence *evidence_new(uint32_t records, uint32_t maxmatches)
{
	struct evidence *e = calloc(1, sizeof *e);
	uint32_t nchains = 16;

	if (!e || !records || records > UINT32_MAX / 2)
		goto out;
	while (nchains < records)
		nchains *= 2;
	e->cap = records;
	e->mask = nchains - 1;
	e->maxmatches = maxmatches ? maxmatches : EVIDENCE_MAXMATCHES;
	e->seed = hash_seed_new();
	/* Zeroed memory of this size comes as untouched pages. */
	e->records = calloc(records, sizeof e->records[0]);
	e->links = calloc(records, sizeof e->links[0]);
	e->chains = calloc(nchains, sizeof e->chains[0]);
	if (e->records && e->links && e->chains)
		return e;
out:
	evidence_free(e);
	return NULL;
}

void evidence_free(struct evidence *e)
{
	if (!e)
		return;
	free(e->records);
	free(e->links);
	free(e->chains);
	free(e);
}

/* One chain holds together what one attacker can easily change: an IPv4 host, an IPv6 /64. */
static unsigned unit_bits(const struct addr *a)
{
	return a->family == ADDR_IPV4 ? 32 : 64;
}

static struct addr unit_of(const struct addr *a)
{
	return addr_mask(*a, unit_bits(a));
}

static struct chain *chain_of(const struct evidence *e, const struct addr *a)
{
	struct addr unit = unit_of(a);

	return &e->chains[hash_addr(&e->seed, &unit, 0) & e->mask];
}

static struct link *link_at(const struct evidence *e, uint32_t at)
{
	return &e->links[at - 1];
}

static struct evidence_record *record_at(const struct evidence *e, uint32_t at)
{
	return &e->records[at - 1];
}

static void append(struct evidence *e, uint32_t at)
{
	struct chain *c = chain_of(e, &record_at(e, at)->addr);
	struct link *l = link_at(e, at);

	*l = (struct link){.older = e->all.newest, .chain_older = c->newest};
	if (l->older)
		link_at(e, l->older)->newer = at;
	else
		e->all.oldest = at;
	e->all.newest = at;
	if (l->chain_older)
		link_at(e, l->chain_older)->chain_newer = at;
	else
		c->oldest = at;
	c->newest = at;
	e->count++;
	e->nwide += record_at(e, at)->addr.plen < unit_bits(&record_at(e, at)->addr);
}

static void unlink_record(struct evidence *e, uint32_t at)
{
	struct chain *c = chain_of(e, &record_at(e, at)->addr);
	const struct link *l = link_at(e, at);

	*(l->older ? &link_at(e, l->older)->newer : &e->all.oldest) = l->newer;
	*(l->newer ? &link_at(e, l->newer)->older : &e->all.newest) = l->older;
	*(l->chain_older ? &link_at(e, l->chain_older)->chain_newer : &c->oldest) = l->chain_newer;
	*(l->chain_newer ? &link_at(e, l->chain_newer)->chain_older : &c->newest) = l->chain_older;
	e->count--;
	e->nwide -= record_at(e, at)->addr.plen < unit_bits(&record_at(e, at)->addr);
}

/* The oldest record of this address and kind when it has its full share, else 0. */
static uint32_t over_share(const struct evidence *e, const struct addr *addr, bool has_line)
{
	struct addr unit = unit_of(addr);
	uint32_t oldest = 0, n = 0;

	for (uint32_t at = chain_of(e, addr)->oldest; at; at = link_at(e, at)->chain_newer) {
		const struct evidence_record *r = record_at(e, at);
		struct addr other = unit_of(&r->addr);

		if (verdicts[r->verdict].has_line != has_line || !addr_eq(&other, &unit))
			continue;
		if (!n++)
			oldest = at;
	}
	return n >= e->maxmatches ? oldest : 0;
}

static uint32_t make_room(struct evidence *e, const struct addr *addr, bool has_line)
{
	uint32_t at = over_share(e, addr, has_line);

	if (at) {
		unlink_record(e, at);
	} else if (e->free) {
		at = e->free;
		e->free = link_at(e, at)->newer;
	} else if (e->high < e->cap) {
		at = ++e->high;
	} else {
		at = e->all.oldest;
		unlink_record(e, at);
		e->overwritten++;
	}
	return at;
}

void evidence_add(struct evidence *e, const struct evidence_record *r, struct slice text)
{
	uint32_t at = make_room(e, &r->addr, verdicts[r->verdict].has_line);
	struct evidence_record *kept = record_at(e, at);

	memcpy(kept, r, offsetof(struct evidence_record, text));
	kept->text_n = (uint16_t)evidence_mask(kept->text, sizeof kept->text, text, &kept->cut);
	append(e, at);
}

uint32_t evidence_walk(const struct evidence *e, const struct addr *prefix,
		       bool (*each)(void *ctx, const struct evidence_record *r), void *ctx)
{
	bool one_chain = !e->nwide && prefix->plen >= unit_bits(prefix);
	uint32_t at = one_chain ? chain_of(e, prefix)->oldest : e->all.oldest, n = 0;

	while (at) {
		const struct evidence_record *r = record_at(e, at);
		const struct link *l = link_at(e, at);

		if (addr_contains(prefix, &r->addr) || addr_contains(&r->addr, prefix)) {
			n++;
			if (!each(ctx, r))
				break;
		}
		at = one_chain ? l->chain_newer : l->newer;
	}
	return n;
}

uint32_t evidence_purge(struct evidence *e, int64_t noted_s)
{
	uint32_t before = e->count, next;

	for (uint32_t at = e->all.oldest; at; at = next) {
		next = link_at(e, at)->newer;
		if (record_at(e, at)->noted_s >= noted_s)
			continue;
		unlink_record(e, at);
		link_at(e, at)->newer = e->free;
		e->free = at;
	}
	return before - e->count;
}

uint32_t evidence_count(const struct evidence *e)
{
	return e->count;
}

uint64_t evidence_overwritten(const struct evidence *e)
{
	return e->overwritten;
}
