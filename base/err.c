/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	int code, http, exit;
	const char *text;
} table[] = {
#define X(name, value, http, exit, text) { value, http, exit, text },
	MESH_ERRORS(X)
#undef X
};

const char *mesh_code_text(int code)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			return table[i].text;
	if (code <= -1000)
		return "unknown error";
	const char *text = strerrordesc_np(-code);
	return text ? text : "unknown error";
}

int mesh_code_http(int code)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			return table[i].http;
	return 500;
}

int mesh_code_exit(int code)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			return table[i].exit;
	return code ? 1 : 0;
}

int mesh_fail(struct mesh_err *err, int code, const char *fmt, ...)
{
	if (!err)
		return code;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (code > -1000 && code < 0 && n >= 0 && (size_t)n < sizeof(err->msg))
		snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s", mesh_code_text(code));
	err->code = code;
	return code;
}

int mesh_wrap(struct mesh_err *err, int code, const char *fmt, ...)
{
	if (!err)
		return code;
	if (!err->msg[0])
		snprintf(err->msg, sizeof(err->msg), "%s", mesh_code_text(code));
	char old[sizeof(err->msg)];
	memcpy(old, err->msg, sizeof(old));
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(err->msg))
		snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s", old);
	if (!err->code)
		err->code = code;
	return err->code;
}

const char *mesh_err_text(const struct mesh_err *err, int code)
{
	return err && err->msg[0] ? err->msg : mesh_code_text(code);
}
