/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors: see error.h. Nothing here fails; what does not fit is cut. */
#include "daemon/base/error.h"

#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 5, 0))) static void set_text(struct error *err, int code,
							   const char *file, unsigned line,
							   const char *format, va_list ap)
{
	err->code = code;
	err->line = line;
	snprintf(err->file, sizeof err->file, "%s", file ? file : "");
	vsnprintf(err->text, sizeof err->text, format, ap);
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, format);
	set_text(err, code, NULL, 0, format, ap);
	va_end(ap);
	return code;
}

int error_at(struct error *err, int code, const char *file, unsigned line, const char *format, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, format);
	set_text(err, code, file, line, format, ap);
	va_end(ap);
	return code;
}

int error_wrap(struct error *err, int code, const char *format, ...)
{
	char context[256], old[sizeof err->text];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, format);
	vsnprintf(context, sizeof context, format, ap);
	va_end(ap);
	memcpy(old, err->text, sizeof old);
	snprintf(err->text, sizeof err->text, "%s: %.*s", context,
		 (int)(sizeof err->text - sizeof context - 3), old);
	if (!err->code)
		err->code = code;
	return err->code;
}

const char *error_format(const struct error *err, char *buf, size_t size)
{
	if (err->file[0] && err->line)
		snprintf(buf, size, "%s:%u: %s", err->file, err->line, err->text);
	else if (err->file[0])
		snprintf(buf, size, "%s: %s", err->file, err->text);
	else
		snprintf(buf, size, "%s", err->text);
	return buf;
}

const char *error_name(int code)
{
	switch (code) {
	case ERROR_CONFIG:
		return "configuration error";
	case ERROR_REFUSED:
		return "refused";
	case ERROR_PROTOCOL:
		return "protocol violation";
	default:
		return strerror(code < 0 ? -code : code);
	}
}
