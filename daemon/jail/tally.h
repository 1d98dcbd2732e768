/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many lines of the logs name an address, honest ones and offences alike.
 *
 * The kernel's record of who connected counts connections (enforcer/firewall_record.h). Where a
 * server closes the connection after each answer, an address cannot have more lines than
 * connections: what is more was forged, by an application that prints what clients send, say. The
 * difference is taken off the offences of the address, so that who is named by others is not
 * banned. Offences that were disputed so are remembered, and count when the address goes on.
 *
 * An address is forgotten TALLY_KEEP_S after its last line, like the record's entries after the
 * last connection. A bounded table: in a full set the address with the fewest lines makes room; who
 * comes back then starts at none, which believes its lines. Keys are what the record keeps: IPv4
 * addresses, IPv6 networks of 64 bits.
 */
#ifndef TAILBAN_JAIL_TALLY_H
#define TAILBAN_JAIL_TALLY_H

#include "daemon/base/addr.h"

#define TALLY_RECORDS 65536u
#define TALLY_KEEP_S 3600

struct tally;

struct tally_entry {
	uint32_t lines, disputed;
};

/* NULL when memory is out. */
struct tally *tally_new(uint32_t records);
void tally_free(struct tally *t);

/* A line that names this host; a partner is counted only when none is owed. */
void tally_line(struct tally *t, const struct addr *host, bool partner, int64_t now_s);
/* One bad request makes two lines of one connection: the second is owed from the first on. */
void tally_owe(struct tally *t, const struct addr *host, int64_t now_s);
bool tally_owed(const struct tally *t, const struct addr *host, int64_t now_s);
/* Offences in a jail that led to no ban because of the difference; their sum from now on. Each jail
 * has its own: one line may be an offence in several. */
uint32_t tally_dispute(struct tally *t, const struct addr *host, uint16_t jail, uint32_t offences,
		       int64_t now_s);
struct tally_entry tally_of(const struct tally *t, const struct addr *host, uint16_t jail,
			    int64_t now_s);

/* Addresses that made room for others, counted since tally_new. */
uint64_t tally_evicted(const struct tally *t);

#endif
