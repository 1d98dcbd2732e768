/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `why ADDR` shows: the last events of each address with the log line behind them.
 *
 * A fixed number of records in memory whose pages are touched as it fills; the oldest makes room
 * and is counted. One address keeps at most maxmatches records with lines and as many decisions;
 * its own oldest goes first, so that nobody fills the list alone. No malloc after evidence_new.
 *
 * Lines are masked before they are kept: values of password, passwd, passphrase, pwd, token,
 * secret, key, api_key, session and the like (as key=value, key: value, "key": "value" and with
 * %3D), Authorization and Cookie headers become ***. Other bytes are kept raw, so whoever prints
 * them goes through escape.h.
 */
#ifndef TAILBAN_JAIL_EVIDENCE_H
#define TAILBAN_JAIL_EVIDENCE_H

#include "daemon/base/addr.h"
#include "daemon/base/hash.h"

#define EVIDENCE_RECORDS 8192u
#define EVIDENCE_TEXT_BYTES 448u /* makes a record 512 */
#define EVIDENCE_MAXMATCHES 10u
#define EVIDENCE_NO_FILE UINT32_MAX

/* X(name, word for people, has a log line) */
#define EVIDENCE_VERDICTS(X)                                                                       \
	X(EVIDENCE_OFFENCE, "offence", true)                                                       \
	X(EVIDENCE_REPEATED, "repeated", true)                                                     \
	X(EVIDENCE_POISON, "poison", true)                                                         \
	X(EVIDENCE_BANNED, "banned", false)                                                        \
	X(EVIDENCE_EXTENDED, "extended", false)                                                    \
	X(EVIDENCE_REFUSED, "refused", false)                                                      \
	X(EVIDENCE_UNBANNED, "unbanned", false)                                                    \
	X(EVIDENCE_EXPIRED, "expired", false)                                                      \
	X(EVIDENCE_KILLED, "killed", false)                                                        \
	X(EVIDENCE_RESTORED, "restored", false)

enum evidence_verdict {
#define EVIDENCE_ENUM(name, word, line) name,
	EVIDENCE_VERDICTS(EVIDENCE_ENUM)
#undef EVIDENCE_ENUM
		EVIDENCE_NVERDICTS
};

struct evidence_record {
	int64_t time_s;  /* of the event: log time for lines, wall time for decisions */
	int64_t noted_s; /* wall time when it was noted; evidence_purge looks at this */
	int64_t value;   /* BANNED, EXTENDED: seconds (-1 = for ever); KILLED: sockets */
	uint64_t offset; /* of the line in its file */
	uint32_t file;   /* index of the path, EVIDENCE_NO_FILE */
	uint32_t rule;
	struct addr addr;
	uint16_t jail;
	uint8_t verdict; /* enum evidence_verdict */
	bool cut;        /* text was longer */
	uint16_t text_n;
	char text[EVIDENCE_TEXT_BYTES]; /* raw bytes, masked, not terminated */
};

struct evidence;

/* 0 as maxmatches takes the default. NULL when memory is out. */
struct evidence *evidence_new(uint32_t records, uint32_t maxmatches);
void evidence_free(struct evidence *e);

/* Notes r's fields with `text` (log line, or a reason); r's cut, text and text_n are not read. */
void evidence_add(struct evidence *e, const struct evidence_record *r, struct slice text);

/*
 * Hands out, oldest first, the records whose address lies in `prefix` or is a network that holds
 * it, until `each` returns false. The list must not change meanwhile. Returns how many were handed
 * out.
 */
uint32_t evidence_walk(const struct evidence *e, const struct addr *prefix,
		       bool (*each)(void *ctx, const struct evidence_record *r), void *ctx);

/* Drops what was noted before noted_s; returns how many. A scan: call it hourly. */
uint32_t evidence_purge(struct evidence *e, int64_t noted_s);

/*
 * Copies text into dst (at most size bytes, not terminated) with secrets masked, all other bytes as
 * they are. Returns the length; *ret_cut (may be NULL) says whether something did not fit.
 */
size_t evidence_mask(char *dst, size_t size, struct slice text, bool *ret_cut);

uint32_t evidence_count(const struct evidence *e);
uint64_t evidence_overwritten(const struct evidence *e); /* by newer events of other addresses */

const char *evidence_verdict_name(enum evidence_verdict verdict);

#endif
