/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Go's text/template: how values are written and compared, and the functions over them. */
#include "cli/template.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/api.h"
#include "cli/format.h"

bool value_truth(const json_t *v)
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

void value_print(struct buf *out, const json_t *v, int depth)
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
			value_print(out, item, depth + 1);
			sep = " ";
		}
		buf_puts(out, "]");
	} else if (json_is_array(v) && depth < DEPTH_MAX) {
		buf_puts(out, "[");
		json_array_foreach((json_t *)v, i, item)
		{
			buf_puts(out, i ? " " : "");
			value_print(out, item, depth + 1);
		}
		buf_puts(out, "]");
	} else {
		json_put(out, v, 0, true, false);
	}
}

static json_t *text_value(struct buf *b)
{
	json_t *j = json_stringn((const char *)(b->data ? b->data : (uint8_t *)""), b->len);

	buf_fini(b);
	return j ? j : json_string("");
}

static char *plain(const json_t *v)
{
	struct buf b = { 0 };

	value_print(&b, v, 0);
	return buf_take_str(&b);
}

static int compare(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b)) {
		double x = json_number_value(a), y = json_number_value(b);
		return x < y ? -1 : x > y;
	}
	CLEAN_FREE char *x = plain(a);
	CLEAN_FREE char *y = plain(b);
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

static json_t *fn_join(json_t **v)
{
	struct buf b = { 0 };
	json_t *item;
	size_t i;

	json_array_foreach(v[0], i, item)
	{
		CLEAN_FREE char *text = plain(item);
		if (i)
			buf_puts(&b, json_is_string(v[1]) ? json_string_value(v[1]) : "");
		buf_puts(&b, text);
	}
	return text_value(&b);
}

static json_t *fn_split(json_t **v)
{
	CLEAN_FREE char *text = plain(v[0]);
	CLEAN_FREE char *sep = plain(v[1]);
	json_t *out = json_array();
	char *at = text;

	for (char *hit; *sep && (hit = strstr(at, sep)); at = hit + strlen(sep))
		json_array_append_new(out, json_stringn(at, (size_t)(hit - at)));
	json_array_append_new(out, json_string(at));
	return out;
}

static json_t *fn_case(const char *name, const json_t *v)
{
	CLEAN_FREE char *text = plain(v);

	for (char *p = text; *p; p++)
		*p = (char)(name[0] == 'l' ? tolower((unsigned char)*p) : toupper((unsigned char)*p));
	if (name[0] == 't') {
		free(TAKE(text));
		text = plain(v);
		text[0] = (char)toupper((unsigned char)text[0]);
	}
	return json_string(text);
}

static json_t *fn_truncate(json_t **v)
{
	CLEAN_FREE char *text = plain(v[0]);
	size_t n = (size_t)json_integer_value(v[1]);

	if (json_is_integer(v[1]) && json_integer_value(v[1]) >= 0 && strlen(text) > n)
		text[n] = 0;
	json_t *out = json_string(text);
	return out ? out : json_string("");
}

static json_t *fn_pad(json_t **v)
{
	CLEAN_FREE char *text = plain(v[0]);
	int64_t before = json_integer_value(v[1]), after = json_integer_value(v[2]);
	struct buf b = { 0 };

	if (*text) {
		before = before < 0 || before > 1000 ? 0 : before;
		after = after < 0 || after > 1000 ? 0 : after;
		buf_printf(&b, "%*s%s%*s", (int)before, "", text, (int)after, "");
	}
	return text_value(&b);
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
		CLEAN_FREE char *text = arg < n ? plain(v[arg]) : xstrdup("%!(MISSING)");
		arg++;
		width = width > 1000 ? 1000 : width;
		if (*p == 'q')
			buf_printf(&b, "\"%s\"", text);
		else
			buf_printf(&b, "%*s", left ? -width : width, text);
	}
	return text_value(&b);
}

static json_t *fn_print(json_t **v, size_t n, bool line)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++) {
		if (line && i)
			buf_puts(&b, " ");
		value_print(&b, v[i], 0);
	}
	if (line)
		buf_puts(&b, "\n");
	return text_value(&b);
}

static json_t *fn_json(const json_t *v)
{
	struct buf b = { 0 };

	if (v)
		json_put(&b, v, 0, false, true);
	else
		buf_puts(&b, "null");
	return text_value(&b);
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

static const struct template_function functions[] = {
	{ "json", 1, 1, true },      { "index", 1, 9, false },    { "len", 1, 1, true },      { "join", 2, 2, true },
	{ "split", 2, 2, false },    { "upper", 1, 1, false },    { "lower", 1, 1, false },   { "title", 1, 1, false },
	{ "print", 0, 16, false },   { "println", 0, 16, false }, { "printf", 1, 16, false }, { "eq", 2, 9, true },
	{ "ne", 2, 2, true },        { "lt", 2, 2, true },        { "le", 2, 2, true },       { "gt", 2, 2, true },
	{ "ge", 2, 2, true },        { "and", 1, 16, true },      { "or", 1, 16, true },      { "not", 1, 1, true },
	{ "truncate", 2, 2, false }, { "pad", 3, 3, false },
};

const struct template_function *template_function(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (!strcmp(functions[i].name, name))
			return &functions[i];
	return NULL;
}

static json_t *logic(const char *name, json_t **v, size_t n)
{
	size_t i = 0;

	for (; i + 1 < n; i++)
		if (value_truth(v[i]) == (name[0] == 'o'))
			break;
	return v[i] ? json_incref(v[i]) : json_false();
}

json_t *template_call(const char *name, json_t **v, size_t n)
{
	if (!strcmp(name, "json"))
		return fn_json(v[0]);
	if (!strcmp(name, "index"))
		return fn_index(v, n);
	if (!strcmp(name, "len"))
		return fn_len(v[0]);
	if (!strcmp(name, "join"))
		return fn_join(v);
	if (!strcmp(name, "split"))
		return fn_split(v);
	if (!strcmp(name, "upper") || !strcmp(name, "lower") || !strcmp(name, "title"))
		return fn_case(name, v[0]);
	if (!strcmp(name, "print") || !strcmp(name, "println"))
		return fn_print(v, n, name[5] != 0);
	if (!strcmp(name, "printf"))
		return fn_printf(v, n);
	if (!strcmp(name, "and") || !strcmp(name, "or"))
		return logic(name, v, n);
	if (!strcmp(name, "not"))
		return json_boolean(!value_truth(v[0]));
	if (!strcmp(name, "truncate"))
		return fn_truncate(v);
	if (!strcmp(name, "pad"))
		return fn_pad(v);
	return fn_compare(name, v, n);
}
