/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one way by which attackers' bytes reach a terminal, a log or JSON.
 *
 * Log lines carry ESC sequences, NUL, NEL, bidirectional overrides and invalid UTF-8 on purpose;
 * printed raw they rewrite the administrator's screen or forge a second line.
 */
#ifndef TAILBAN_BASE_ESCAPE_H
#define TAILBAN_BASE_ESCAPE_H

#include "daemon/base/slice.h"

/* A buffer of this many bytes per input byte, plus 4, never cuts escape_text. */
#define ESCAPE_MAX_GROWTH 6

/*
 * Text for people, terminated, always printable UTF-8 in one line: control characters (C0, DEL,
 * C1), line and paragraph separators, bidirectional and invisible format characters and invalid
 * bytes become \xNN or \u{NNNN}; a backslash becomes two. Cut with "..." when `size` (>= 4) is too
 * small. Returns dst.
 */
char *escape_text(char *dst, size_t size, struct slice text);

/*
 * Valid UTF-8 for JSON: each invalid byte sequence becomes U+FFFD, everything else stays (the JSON
 * writer escapes control characters). Terminated; cut at a character when `size` is too small.
 * Writes the length without terminator to *ret_n when that is not NULL. True when nothing had to be
 * replaced or cut. 3 bytes of room per input byte plus 1 never cut.
 */
bool escape_utf8(char *dst, size_t size, struct slice text, size_t *ret_n);

#endif
