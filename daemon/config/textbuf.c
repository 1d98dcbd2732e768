/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Growing text: see textbuf.h. Out of memory ends the process, as the arena does. */
#include "daemon/config/textbuf.h"
#include "daemon/base/escape.h"

#define FIRST_ROOM 64

void textbuf_add(struct textbuf *b, struct slice text)
{
	if (b->n + text.n + 1 > b->room) {
		size_t room = b->room ? b->room * 2 : FIRST_ROOM;
		char *grown;

		if (room < b->n + text.n + 1)
			room = b->n + text.n + 1;
		grown = arena_alloc(b->arena, room);
		if (b->n)
			memcpy(grown, b->p, b->n);
		b->p = grown;
		b->room = room;
	}
	if (text.n)
		memcpy(b->p + b->n, text.p, text.n);
	b->n += text.n;
	b->p[b->n] = 0;
}

const char *textbuf_text(const struct textbuf *b)
{
	return b->p ? b->p : "";
}

const char *textbuf_quote(struct slice text, char buf[static QUOTE_SIZE])
{
	return escape_text(buf, QUOTE_SIZE, text);
}
