/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of a configuration's errors. Without memory for one more, it is counted as unsaid. A
 * sentence that is there already (a bad [DEFAULT] value is met once a jail) is not repeated.
 */
#include "daemon/config/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_known(const struct conf_errors *errs, const struct error *err)
{
	for (size_t i = 0; i < errs->count; i++) {
		const struct error *e = &errs->items[i];

		if (e->line == err->line && !strcmp(e->file, err->file) &&
		    !strcmp(e->text, err->text))
			return 1;
	}
	return 0;
}

int conf_errors_take(struct conf_errors *errs, const struct error *err)
{
	struct error *grown;

	if (!errs || is_known(errs, err))
		return ERROR_CONFIG;
	grown = errs->count < CONF_MAX_ERRORS
			? realloc(errs->items, (errs->count + 1) * sizeof *grown)
			: NULL;
	if (!grown) {
		errs->unsaid++;
		return ERROR_CONFIG;
	}
	errs->items = grown;
	errs->items[errs->count++] = *err;
	return ERROR_CONFIG;
}

int conf_errors_add(struct conf_errors *errs, const char *file, unsigned line, const char *format,
		    ...)
{
	struct error err = {.code = ERROR_CONFIG};
	char text[sizeof err.text];
	va_list ap;

	if (!errs)
		return ERROR_CONFIG;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	error_at(&err, ERROR_CONFIG, file, line, "%s", text);
	return conf_errors_take(errs, &err);
}

void conf_errors_free(struct conf_errors *errs)
{
	free(errs->items);
	memset(errs, 0, sizeof *errs);
}
