/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Escaping: see escape.h. Nothing fails; what does not fit is cut. */
#include "daemon/base/escape.h"

#include <stdio.h>

/* Length of the valid UTF-8 sequence at p (n >= 1) and its code point; 0 when it is invalid. */
static size_t utf8_next(const char *text, size_t n, uint32_t *ret_cp)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *)text;
	size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	uint32_t cp = len == 1 ? p[0] : p[0] & (0x7fu >> len);

	if ((p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3fu);
	}
	if (cp < least[len] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	*ret_cp = cp;
	return len;
}

/* Characters that are invisible, move the cursor or turn the writing direction. */
static bool is_unsafe(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || cp == 0xad || cp == 0x61c ||
	       cp == 0x180e || (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
	       (cp >= 0x2060 && cp <= 0x206f) || cp == 0xfeff || (cp >= 0xfff9 && cp <= 0xfffb) ||
	       (cp >= 0xe0000 && cp <= 0xe007f);
}

/* One output unit for the input at p; its length, and the consumed input in *ret_used. */
static size_t unit(char out[16], const char *p, size_t n, size_t *ret_used)
{
	uint32_t cp;
	size_t len = utf8_next(p, n, &cp);

	*ret_used = len ? len : 1;
	if (!len || (len == 1 && is_unsafe(cp)))
		return (size_t)snprintf(out, 16, "\\x%02x", (unsigned char)*p);
	if (is_unsafe(cp))
		return (size_t)snprintf(out, 16, "\\u{%x}", cp);
	if (cp == '\\') {
		memcpy(out, "\\\\", 2);
		return 2;
	}
	memcpy(out, p, len);
	return len;
}

char *escape_text(char *dst, size_t size, struct slice text)
{
	size_t at = 0, safe = 0, used, i = 0;
	char out[16];

	while (i < text.n) {
		size_t len = unit(out, text.p + i, text.n - i, &used);

		if (at + len >= size)
			break;
		memcpy(dst + at, out, len);
		at += len;
		i += used;
		if (at + 4 <= size)
			safe = at;
	}
	if (i < text.n) {
		memcpy(dst + safe, "...", 3);
		at = safe + 3;
	}
	dst[at] = 0;
	return dst;
}

bool escape_utf8(char *dst, size_t size, struct slice text, size_t *ret_n)
{
	bool same = true;
	size_t at = 0, i = 0;

	while (i < text.n) {
		uint32_t cp;
		size_t len = utf8_next(text.p + i, text.n - i, &cp);
		size_t room = len ? len : 3;

		if (at + room >= size) {
			same = false;
			break;
		}
		memcpy(dst + at, len ? text.p + i : "\xef\xbf\xbd", room);
		same = same && len;
		at += room;
		i += len ? len : 1;
	}
	dst[at] = 0;
	if (ret_n)
		*ret_n = at;
	return same;
}
