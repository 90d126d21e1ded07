/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/compose/interpolate.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define MAX_NESTING 16

enum { MALFORMED = -1, REQUIRED = -2, TOO_LONG = -3, NOT_UTF8 = -4 };

struct walk {
	struct arena *a;
	const struct compose_env *env;
	struct str_list *unset;
	const char *need;
	int depth;
};

static int expand(struct walk *w, const char *p, const char *end, struct buf *out);

static size_t name_len(const char *p, const char *end)
{
	size_t n = 0;

	if (p < end && (isalpha((unsigned char)*p) || *p == '_'))
		while (p + n < end && (isalnum((unsigned char)p[n]) || p[n] == '_'))
			n++;
	return n;
}

/* The brace that closes, with inner ${} skipped; NULL when there is none. */
static const char *closing(const char *p, const char *end)
{
	int open = 0;

	for (; p < end; p++) {
		if (*p == '$' && p + 1 < end && p[1] == '{') {
			open++;
			p++;
		} else if (*p == '}' && !open--) {
			return p;
		}
	}
	return NULL;
}

static int put(struct walk *w, struct buf *out, const char *text)
{
	if (w->a->text + out->len + strlen(text) > COMPOSE_MAX_TEXT)
		return TOO_LONG;
	if (!utf8_ok(text))
		return NOT_UTF8;
	buf_puts(out, text);
	return 0;
}

static int missing(struct walk *w, const char *name, const char *from, const char *end)
{
	struct buf why = { 0 };
	int rc = expand(w, from, end, &why);

	if (!rc) {
		w->need =
			arena_printf(w->a, "required variable %.100s is missing a value: %.300s", name, buf_str(&why));
		rc = REQUIRED;
	}
	buf_fini(&why);
	return rc;
}

static int braced(struct walk *w, const char *p, const char *end, struct buf *out)
{
	size_t n = name_len(p, end);

	if (!n)
		return MALFORMED;
	const char *name = arena_str(w->a, p, n), *value = w->env->get(w->env->arg, name);
	p += n;
	if (p == end) {
		if (!value && !strs_has(w->unset, name))
			strs_add(w->unset, name);
		return put(w, out, value ? value : "");
	}
	bool colon = *p == ':';
	p += colon;
	bool have = value && (!colon || *value);
	if (p == end)
		return MALFORMED;
	switch (*p++) {
	case '-':
		return have ? put(w, out, value) : expand(w, p, end, out);
	case '+':
		return have ? expand(w, p, end, out) : 0;
	case '?':
		return have ? put(w, out, value) : missing(w, name, p, end);
	default:
		return MALFORMED;
	}
}

static int dollar(struct walk *w, const char **at, const char *end, struct buf *out)
{
	const char *p = *at + 1;
	size_t n = name_len(p, end);

	if (p < end && *p == '$') {
		*at = p + 1;
		return put(w, out, "$");
	}
	if (n) {
		*at = p + n;
		return braced(w, p, p + n, out);
	}
	if (p == end || *p != '{')
		return MALFORMED;
	const char *close = closing(++p, end);
	if (!close)
		return MALFORMED;
	*at = close + 1;
	return braced(w, p, close, out);
}

static int expand(struct walk *w, const char *p, const char *end, struct buf *out)
{
	int rc = 0;

	if (w->depth == MAX_NESTING)
		return MALFORMED;
	w->depth++;
	while (!rc && p < end) {
		const char *next = memchr(p, '$', (size_t)(end - p));
		buf_put(out, p, (size_t)((next ? next : end) - p));
		if (!next)
			break;
		p = next;
		rc = dollar(w, &p, end, out);
	}
	w->depth--;
	return rc;
}

int interpolate_text(struct arena *a, const char *text, const struct compose_env *env, struct str_list *unset,
                     const char **out, const char **need)
{
	struct walk w = { .a = a, .env = env, .unset = unset };
	struct buf b = { 0 };
	int rc;

	*out = text;
	*need = NULL;
	if (!strchr(text, '$'))
		return 0;
	rc = expand(&w, text, text + strlen(text), &b);
	if (!rc)
		*out = arena_str(a, buf_str(&b), b.len);
	*need = w.need;
	buf_fini(&b);
	return rc;
}

static int text_failed(struct arena *a, const struct cv *v, const struct cv_path *at, int why, const char *need,
                       struct mesh_err *err)
{
	const char *where = cv_path_str(a, at);

	if (why == TOO_LONG)
		return cv_fail(v, err, "%.200s: more than %u MiB of text once variables are filled in", where,
		               COMPOSE_MAX_TEXT >> 20);
	if (why == NOT_UTF8)
		return cv_fail(v, err, "%.200s: the value of a variable is not UTF-8", where);
	return cv_fail(
		v, err,
		"invalid interpolation format for %.200s: \"%.300s\"; you may need to escape any $ with another $",
		where, need ? need : v->s);
}

static int walk_value(struct arena *a, struct cv *v, const struct cv_path *at, const struct compose_env *env,
                      struct str_list *unset, struct mesh_err *err)
{
	const char *need;
	uint32_t i = 0;
	int rc = 0;

	if (v->kind == CV_STR) {
		rc = interpolate_text(a, v->s, env, unset, &v->s, &need);
		return rc ? text_failed(a, v, at, rc, need, err) : 0;
	}
	CV_EACH(v, it)
	{
		struct cv_path here = { at, it->key, i++ };
		rc = walk_value(a, it->v, &here, env, unset, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int interpolate(struct arena *a, struct cv *root, const struct compose_env *env, struct str_list *unset,
                struct mesh_err *err)
{
	static const char *const sections[] = { "name", "services", "volumes", "networks", "secrets", "configs" };

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		struct cv_path here = { NULL, sections[i], 0 };
		struct cv *v = cv_get(root, sections[i]);
		int rc = v ? walk_value(a, v, &here, env, unset, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}
