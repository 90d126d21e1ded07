/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Go's text/template: how values are written and compared, and the functions over them. */
#include "base/gotmpl_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

bool gotmpl_truth(const json_t *v)
{
	if (!v)
		return false;
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return json_object_size(v) > 0;
	case JSON_ARRAY:
		return json_array_size(v) > 0;
	case JSON_STRING:
		return json_string_length(v) > 0;
	case JSON_INTEGER:
	case JSON_REAL:
		return json_number_value(v) != 0;
	default:
		return json_is_true(v);
	}
}

void gotmpl_print(struct buf *out, const json_t *v, int depth)
{
	const char *key;
	json_t *item;
	size_t i;

	if (!v || json_is_null(v)) {
		buf_puts(out, "<no value>");
	} else if (json_is_string(v)) {
		buf_put(out, json_string_value(v), json_string_length(v));
	} else if (json_is_object(v) && depth < DEPTH_MAX) {
		const char *sep = "";
		buf_puts(out, "map[");
		json_object_foreach((json_t *)v, key, item)
		{
			buf_printf(out, "%s%s:", sep, key);
			gotmpl_print(out, item, depth + 1);
			sep = " ";
		}
		buf_puts(out, "]");
	} else if (json_is_array(v) && depth < DEPTH_MAX) {
		buf_puts(out, "[");
		json_array_foreach((json_t *)v, i, item)
		{
			buf_puts(out, i ? " " : "");
			gotmpl_print(out, item, depth + 1);
		}
		buf_puts(out, "]");
	} else {
		json_put(out, v, 0, true, false);
	}
}

json_t *gotmpl_take(struct buf *b)
{
	json_t *j = json_stringn_nocheck((const char *)(b->data ? b->data : (uint8_t *)""), b->len);

	buf_fini(b);
	return j;
}

char *gotmpl_text(const json_t *v)
{
	struct buf b = { 0 };

	gotmpl_print(&b, v, 0);
	return buf_take_str(&b);
}

static int compare(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b)) {
		double x = json_number_value(a), y = json_number_value(b);
		return x < y ? -1 : x > y;
	}
	CLEAN_FREE char *x = gotmpl_text(a);
	CLEAN_FREE char *y = gotmpl_text(b);
	return strcmp(x, y);
}

static json_t *fn_index(json_t **v, size_t n)
{
	json_t *at = v[0];

	for (size_t i = 1; i < n && at; i++) {
		if (json_is_array(at))
			at = json_is_integer(v[i]) ? json_array_get(at, (size_t)json_integer_value(v[i])) : NULL;
		else
			at = json_is_string(v[i]) ? json_object_get(at, json_string_value(v[i])) : NULL;
	}
	return at ? json_incref(at) : json_string("");
}

/* %s %v %d %q %%, widths and '-' passed on */
static json_t *fn_printf(json_t **v, size_t n)
{
	struct buf b = { 0 };
	size_t arg = 1;
	const char *p = json_is_string(v[0]) ? json_string_value(v[0]) : "";

	for (; *p; p++) {
		if (*p != '%') {
			buf_put(&b, p, 1);
			continue;
		}
		bool left = p[1] == '-';
		int width = (int)strtol(p + 1 + left, (char **)&p, 10);
		if (!*p)
			break;
		if (*p == '%') {
			buf_puts(&b, "%");
			continue;
		}
		CLEAN_FREE char *text = arg < n ? gotmpl_text(v[arg]) : xstrdup("%!(MISSING)");
		arg++;
		width = width > 1000 ? 1000 : width;
		if (*p == 'q')
			buf_printf(&b, "\"%s\"", text);
		else
			buf_printf(&b, "%*s", left ? -width : width, text);
	}
	return gotmpl_take(&b);
}

static json_t *fn_print(json_t **v, size_t n, bool line)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++) {
		if (line && i)
			buf_puts(&b, " ");
		gotmpl_print(&b, v[i], 0);
	}
	if (line)
		buf_puts(&b, "\n");
	return gotmpl_take(&b);
}

static json_t *fn_len(const json_t *v)
{
	return json_integer((json_int_t)(json_is_array(v)    ? json_array_size(v)
	                                 : json_is_object(v) ? json_object_size(v)
	                                                     : json_string_length(v)));
}

static json_t *fn_compare(const char *name, json_t **v, size_t n)
{
	int c = compare(v[0], v[1]);
	bool yes;

	if (!strcmp(name, "eq")) {
		yes = false;
		for (size_t i = 1; i < n; i++)
			yes |= compare(v[0], v[i]) == 0;
	} else {
		yes = name[0] == 'n'   ? c != 0
		      : name[0] == 'l' ? (name[1] == 't' ? c < 0 : c <= 0)
		      : name[1] == 't' ? c > 0
		                       : c >= 0;
	}
	return json_boolean(yes);
}

static json_t *logic(const char *name, json_t **v, size_t n)
{
	size_t i = 0;

	for (; i + 1 < n; i++)
		if (gotmpl_truth(v[i]) == (name[0] == 'o'))
			break;
	return v[i] ? json_incref(v[i]) : json_false();
}

static json_t *call(void *arg, const char *name, json_t **v, size_t n, struct mesh_err *err)
{
	(void)arg;
	(void)err;
	if (!strcmp(name, "index"))
		return fn_index(v, n);
	if (!strcmp(name, "len"))
		return fn_len(v[0]);
	if (!strcmp(name, "print") || !strcmp(name, "println"))
		return fn_print(v, n, name[5] != 0);
	if (!strcmp(name, "printf"))
		return fn_printf(v, n);
	if (!strcmp(name, "and") || !strcmp(name, "or"))
		return logic(name, v, n);
	if (!strcmp(name, "not"))
		return json_boolean(!gotmpl_truth(v[0]));
	return fn_compare(name, v, n);
}

static const struct gotmpl_function functions[] = {
	{ "index", 1, 9, false },   { "len", 1, 1, true }, { "print", 0, 16, false }, { "println", 0, 16, false },
	{ "printf", 1, 16, false }, { "eq", 2, 9, true },  { "ne", 2, 2, true },      { "lt", 2, 2, true },
	{ "le", 2, 2, true },       { "gt", 2, 2, true },  { "ge", 2, 2, true },      { "and", 1, 16, true },
	{ "or", 1, 16, true },      { "not", 1, 1, true },
};
const struct gotmpl_functions gotmpl_builtin = { functions, ARRAY_SIZE(functions), call, NULL };
