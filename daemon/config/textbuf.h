/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text that grows in an arena, for interpolation and for messages about configuration.
 *
 * Terminated at all times once something was added; textbuf_text gives "" before. Outgrown copies
 * stay in the arena until it is freed.
 */
#ifndef TAILBAN_CONFIG_TEXTBUF_H
#define TAILBAN_CONFIG_TEXTBUF_H

#include "daemon/base/arena.h"

struct textbuf {
	struct arena *arena;
	char *p;
	size_t n, room;
};

void textbuf_add(struct textbuf *b, struct slice text);
const char *textbuf_text(const struct textbuf *b);

/* The text for a message: one printable line, cut after about 60 bytes. */
#define QUOTE_SIZE 80
const char *textbuf_quote(struct slice text, char buf[static QUOTE_SIZE]);

#endif
