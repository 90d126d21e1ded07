/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Templates of --format: Go's, with the functions that docker's client adds. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/gotmpl.h"
#include "base/mem.h"
#include "cli/api.h"
#include "cli/format.h"

static json_t *fn_join(json_t **v)
{
	struct buf b = { 0 };
	json_t *item;
	size_t i;

	json_array_foreach(v[0], i, item)
	{
		CLEAN_FREE char *text = gotmpl_text(item);
		if (i)
			buf_puts(&b, json_is_string(v[1]) ? json_string_value(v[1]) : "");
		buf_puts(&b, text);
	}
	return gotmpl_take(&b);
}

static json_t *fn_split(json_t **v)
{
	CLEAN_FREE char *text = gotmpl_text(v[0]);
	CLEAN_FREE char *sep = gotmpl_text(v[1]);
	json_t *out = json_array();
	char *at = text;

	for (char *hit; *sep && (hit = strstr(at, sep)); at = hit + strlen(sep))
		json_array_append_new(out, json_stringn(at, (size_t)(hit - at)));
	json_array_append_new(out, json_string(at));
	return out;
}

static json_t *fn_case(const char *name, const json_t *v)
{
	CLEAN_FREE char *text = gotmpl_text(v);

	for (char *p = text; *p; p++)
		*p = (char)(name[0] == 'l' ? tolower((unsigned char)*p) : toupper((unsigned char)*p));
	if (name[0] == 't') {
		free(TAKE(text));
		text = gotmpl_text(v);
		text[0] = (char)toupper((unsigned char)text[0]);
	}
	return json_string(text);
}

static json_t *fn_truncate(json_t **v)
{
	CLEAN_FREE char *text = gotmpl_text(v[0]);
	size_t n = (size_t)json_integer_value(v[1]);

	if (json_is_integer(v[1]) && json_integer_value(v[1]) >= 0 && strlen(text) > n)
		text[n] = 0;
	json_t *out = json_string(text);
	return out ? out : json_string("");
}

static json_t *fn_pad(json_t **v)
{
	CLEAN_FREE char *text = gotmpl_text(v[0]);
	int64_t before = json_integer_value(v[1]), after = json_integer_value(v[2]);
	struct buf b = { 0 };

	if (*text) {
		before = before < 0 || before > 1000 ? 0 : before;
		after = after < 0 || after > 1000 ? 0 : after;
		buf_printf(&b, "%*s%s%*s", (int)before, "", text, (int)after, "");
	}
	return gotmpl_take(&b);
}

static json_t *fn_json(const json_t *v)
{
	struct buf b = { 0 };

	if (v)
		json_put(&b, v, 0, false, true);
	else
		buf_puts(&b, "null");
	return gotmpl_take(&b);
}

static json_t *client_call(void *arg, const char *name, json_t **v, size_t n, struct mesh_err *err)
{
	(void)arg;
	(void)n;
	(void)err;
	if (!strcmp(name, "json"))
		return fn_json(v[0]);
	if (!strcmp(name, "join"))
		return fn_join(v);
	if (!strcmp(name, "split"))
		return fn_split(v);
	if (!strcmp(name, "truncate"))
		return fn_truncate(v);
	if (!strcmp(name, "pad"))
		return fn_pad(v);
	return fn_case(name, v[0]);
}

int template_run(const char *text, const json_t *value, bool strict, struct buf *out, struct mesh_err *err)
{
	static const struct gotmpl_function list[] = {
		{ "json", 1, 1, true },      { "join", 2, 2, true },   { "split", 2, 2, false },
		{ "upper", 1, 1, false },    { "lower", 1, 1, false }, { "title", 1, 1, false },
		{ "truncate", 2, 2, false }, { "pad", 3, 3, false },
	};
	static const struct gotmpl_functions client = { list, ARRAY_SIZE(list), client_call, NULL };

	return gotmpl_run(text, value, strict, &client, out, err);
}
