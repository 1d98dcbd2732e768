/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors: negative errno values, own codes from -1000, and sentences for people.
 *
 * A struct error travels as the last parameter on configuration, start-up and control paths. It
 * holds one sentence and, for configuration, where the fault stands. The caller owns it, may reuse
 * it and may pass NULL when nobody will read it. Setting never fails; a long sentence is cut.
 */
#ifndef TAILBAN_BASE_ERROR_H
#define TAILBAN_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

/* Own codes beside errno: a file that does not parse, a list that refuses, a peer that breaks
 * rules. */
enum error_code { ERROR_CONFIG = -1000, ERROR_REFUSED = -1001, ERROR_PROTOCOL = -1002 };

struct error {
	int code;       /* negative; 0 while unset */
	unsigned line;  /* 1-based, 0 = none */
	char file[256]; /* path as the user gave it; empty = none */
	char text[768]; /* without newline at the end; attackers' bytes already escaped */
};

/* A piece of configuration text and the place it came from; all strings are the configuration's. */
struct text_at {
	const char *text;
	const char *file;
	unsigned line;
};

/* Both set the sentence and return code. */
__attribute__((format(printf, 3, 4))) int error_set(struct error *err, int code, const char *format,
						    ...);
__attribute__((format(printf, 5, 6))) int error_at(struct error *err, int code, const char *file,
						   unsigned line, const char *format, ...);

/* Puts "context: " in front of the sentence and returns the error's code (code when err is NULL).
 */
__attribute__((format(printf, 3, 4))) int error_wrap(struct error *err, int code,
						     const char *format, ...);

/* "file:line: text" (or only "text") into buf; returns buf. */
const char *error_format(const struct error *err, char *buf, size_t size);

/* strerror for errno values and the own codes; never NULL, thread-unsafe like strerror. */
const char *error_name(int code);

#endif
