/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which logs there are to follow: one source for each different list of patterns, with its jails.
 *
 * Engine and enforcer number sources alike, because both make the list from the same configuration.
 * Jails with the same logpath share a source, so a log is read once however many jails look at it.
 *
 * A sockets jail reads no lines. Without a logpath it has no source; with one it follows the log
 * all the same, since the process that writes it is the service whose ports are protected: it joins
 * a log jail's source of the same patterns, or has one that begins at the end.
 */
#ifndef TAILBAN_CONFIG_SOURCES_H
#define TAILBAN_CONFIG_SOURCES_H

#include "daemon/config/conf.h"

struct source_conf {
	const char *name; /* the first pattern, or "stdin" */
	const struct text_at *patterns;
	size_t npatterns;
	enum conf_backend backend;
	bool tail;       /* start at the end of what is there */
	uint16_t *jails; /* indexes in the configuration; first those that read the lines */
	size_t njails;
	size_t nreaders; /* of jails; the others are sockets jails */
};

/* The list in the arena; *ret_n entries. */
struct source_conf *sources_list(const struct conf *conf, struct arena *arena, size_t *ret_n);

#endif
