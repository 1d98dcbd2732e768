/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What reading a configuration has to say: every error, not only the first.
 *
 * `tailband -t` prints all of them, so parsers go on after a fault where they can. The list owns
 * its memory (conf_errors_free) and is ready when zeroed. It is capped: what comes after
 * CONF_MAX_ERRORS is only counted. Every function takes NULL for "nobody will read it".
 */
#ifndef TAILBAN_CONFIG_REPORT_H
#define TAILBAN_CONFIG_REPORT_H

#include "daemon/base/error.h"

#define CONF_MAX_ERRORS 100

struct conf_errors {
	struct error *items;
	size_t count;
	size_t unsaid; /* further ones that were not kept */
};

/* A new item; fields as error_at. All return ERROR_CONFIG. */
__attribute__((format(printf, 4, 5))) int
conf_errors_add(struct conf_errors *errs, const char *file, unsigned line, const char *format, ...);
int conf_errors_take(struct conf_errors *errs, const struct error *err);

void conf_errors_free(struct conf_errors *errs);

#endif
