/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/gojson.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void put_string(struct buf *out, const char *s, size_t n, bool html)
{
	buf_puts(out, "\"");
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)s[i];
		if (ch == '"' || ch == '\\')
			buf_printf(out, "\\%c", ch);
		else if (ch == '\n')
			buf_puts(out, "\\n");
		else if (ch == '\t')
			buf_puts(out, "\\t");
		else if (ch == '\r')
			buf_puts(out, "\\r");
		else if (ch < 0x20 || (html && (ch == '<' || ch == '>' || ch == '&')))
			buf_printf(out, "\\u%04x", ch);
		else
			buf_put(out, &s[i], 1);
	}
	buf_puts(out, "\"");
}

/* The shortest text that reads back as the same number. */
static void put_real(struct buf *out, double v)
{
	char text[40];

	if (v == floor(v) && fabs(v) < 1e15) {
		buf_printf(out, "%.0f", v);
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	buf_puts(out, text);
}

static void newline(struct buf *out, int indent, int depth)
{
	if (!indent)
		return;
	buf_puts(out, "\n");
	for (int i = 0; i < indent * depth; i++)
		buf_puts(out, " ");
}

static int cmp_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct json_style {
	int indent;
	bool sorted, html;
};

static void put_value(struct buf *out, const json_t *v, const struct json_style *st, int depth);

static void put_object(struct buf *out, const json_t *v, const struct json_style *st, int depth)
{
	size_t n = json_object_size(v), i = 0;
	const char **keys = xcalloc(n + 1, sizeof(*keys));
	const char *key;
	json_t *item;

	json_object_foreach((json_t *)v, key, item) keys[i++] = key;
	if (st->sorted)
		qsort(keys, n, sizeof(*keys), cmp_key);
	buf_puts(out, "{");
	for (i = 0; i < n; i++) {
		buf_puts(out, i ? "," : "");
		newline(out, st->indent, depth + 1);
		put_string(out, keys[i], strlen(keys[i]), st->html);
		buf_puts(out, st->indent ? ": " : ":");
		put_value(out, json_object_get(v, keys[i]), st, depth + 1);
	}
	if (n)
		newline(out, st->indent, depth);
	buf_puts(out, "}");
	free(keys);
}

static void put_value(struct buf *out, const json_t *v, const struct json_style *st, int depth)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		put_object(out, v, st, depth);
		break;
	case JSON_ARRAY:
		buf_puts(out, "[");
		for (size_t i = 0; i < json_array_size(v); i++) {
			buf_puts(out, i ? "," : "");
			newline(out, st->indent, depth + 1);
			put_value(out, json_array_get(v, i), st, depth + 1);
		}
		if (json_array_size(v))
			newline(out, st->indent, depth);
		buf_puts(out, "]");
		break;
	case JSON_STRING:
		put_string(out, json_string_value(v), json_string_length(v), st->html);
		break;
	case JSON_INTEGER:
		buf_printf(out, "%lld", (long long)json_integer_value(v));
		break;
	case JSON_REAL:
		put_real(out, json_real_value(v));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		buf_puts(out, json_is_true(v) ? "true" : "false");
		break;
	case JSON_NULL:
		buf_puts(out, "null");
		break;
	}
}

void json_put(struct buf *out, const json_t *v, int indent, bool sorted, bool escape_html)
{
	struct json_style st = { .indent = indent, .sorted = sorted, .html = escape_html };

	put_value(out, v, &st, 0);
}
