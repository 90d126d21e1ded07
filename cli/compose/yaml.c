/* SPDX-License-Identifier: GPL-2.0-or-later */
/* YAML text -> values. The only file that knows libyaml. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/map.h"
#include "cli/compose/value.h"

struct frame {
	struct cv *v;
	const char *key; /* mapping: the key that waits for its value */
	bool merge;      /* that key is a plain << */
	int key_line;
	struct cv *merges; /* list of mappings named by << */
	struct map seen;   /* keys -> line, so that a key twice is found in time */
};

struct reader {
	struct arena *a;
	const char *file;
	yaml_parser_t parser;
	struct map anchors;
	struct frame stack[COMPOSE_MAX_DEPTH];
	size_t depth, nodes0;
	struct cv *root;
};

static int fail_at(const struct reader *r, size_t line, struct mesh_err *err, const char *fmt, ...) MESH_PRINTF(4, 5);
static int fail_at(const struct reader *r, size_t line, struct mesh_err *err, const char *fmt, ...)
{
	struct cv at = { .file = r->file, .line = (int)line + 1 };
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return cv_fail(&at, err, "yaml: %s", text);
}

static int parser_failed(const struct reader *r, struct mesh_err *err)
{
	const yaml_parser_t *p = &r->parser;

	if (p->error == YAML_READER_ERROR)
		return mesh_fail(err, MESH_E_INVALID, "%s: yaml: %s at byte %zu", r->file,
		                 p->problem ? p->problem : "unreadable", p->problem_offset);
	return fail_at(r, p->problem_mark.line, err, "%s%s%s", p->problem ? p->problem : "syntax error",
	               p->context ? " " : "", p->context ? p->context : "");
}

static bool word_of(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(s, *words))
			return true;
	return false;
}

static bool integer(const char *s, int64_t *out)
{
	char digits[72];
	size_t n = 0;
	int base = 10, neg = 0;
	const char *p = s;
	char *end;

	if (*p == '-' || *p == '+')
		neg = *p++ == '-';
	if (!isdigit((unsigned char)*p))
		return false;
	if (*p == '0' && p[1]) {
		int c = tolower((unsigned char)p[1]);
		base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
		p += base == 8 && c != 'o' ? 1 : 2;
	}
	for (; *p; p++) {
		if (*p == '_')
			continue;
		if (!isxdigit((unsigned char)*p) || n + 1 >= sizeof(digits))
			return false;
		digits[n++] = *p;
	}
	digits[n] = 0;
	errno = 0;
	long long v = strtoll(digits, &end, base);
	if (!n || *end || errno)
		return false;
	*out = neg ? -v : v;
	return true;
}

static bool number(const char *s, double *out)
{
	static const char *const infinities[] = { ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", NULL };
	static const char *const negatives[] = { "-.inf", "-.Inf", "-.INF", NULL };
	static const char *const nans[] = { ".nan", ".NaN", ".NAN", NULL };
	const char *p = s + (*s == '-' || *s == '+');
	char *end;

	if (word_of(s, infinities) || word_of(s, negatives) || word_of(s, nans)) {
		*out = word_of(s, nans) ? NAN : word_of(s, negatives) ? -INFINITY : INFINITY;
		return true;
	}
	if (!isdigit((unsigned char)*p) && !(*p == '.' && isdigit((unsigned char)p[1])))
		return false;
	if (p[strspn(p, "0123456789.eE+-")])
		return false;
	*out = strtod(s, &end);
	return !*end;
}

void yaml_resolve(struct cv *v)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const trues[] = { "true", "True", "TRUE", NULL };
	static const char *const falses[] = { "false", "False", "FALSE", NULL };

	if (word_of(v->s, nulls)) {
		v->kind = CV_NULL;
	} else if (word_of(v->s, trues) || word_of(v->s, falses)) {
		v->kind = CV_BOOL;
		v->i = word_of(v->s, trues);
		v->s = v->i ? "true" : "false";
	} else if (integer(v->s, &v->i)) {
		v->kind = CV_INT;
	} else if (number(v->s, &v->f)) {
		v->kind = CV_FLOAT;
	} else {
		v->kind = CV_STR;
	}
}

static int budget(const struct reader *r, size_t line, struct mesh_err *err)
{
	if (r->a->nodes - r->nodes0 > COMPOSE_MAX_NODES)
		return fail_at(r, line, err, "more than %u values (aliases count as often as they are used)",
		               COMPOSE_MAX_NODES);
	if (r->a->text > COMPOSE_MAX_TEXT)
		return fail_at(r, line, err, "more than %u MiB of text (aliases count as often as they are used)",
		               COMPOSE_MAX_TEXT >> 20);
	return 0;
}

/* A copy of its own for every use: later stages change values in place. */
static int copy(struct reader *r, const struct cv *from, struct cv **out, size_t line, struct mesh_err *err)
{
	int rc = budget(r, line, err);

	if (rc < 0)
		return rc;
	struct cv *v = cv_new(r->a, from->kind, from);
	v->s = from->s;
	r->a->text += strlen(from->s);
	v->i = from->i;
	v->f = from->f;
	CV_EACH(from, it)
	{
		struct cv *item = NULL;
		rc = copy(r, it->v, &item, line, err);
		if (rc < 0)
			return rc;
		if (it->key)
			cv_set(r->a, v, it->key, item);
		else
			cv_add(r->a, v, item);
	}
	*out = v;
	return 0;
}

static int take_merge(struct reader *r, struct frame *f, struct cv *v, size_t line, struct mesh_err *err)
{
	f->merges = v;
	if (v->kind == CV_MAP) {
		f->merges = cv_new(r->a, CV_LIST, v);
		cv_add(r->a, f->merges, v);
	}
	bool ok = f->merges->kind == CV_LIST;
	CV_EACH(f->merges, it)
	ok = ok && it->v->kind == CV_MAP;
	return ok ? 0 : fail_at(r, line, err, "map merge requires map or sequence of maps as the value");
}

/* Puts a finished value where it belongs. */
static int place(struct reader *r, struct cv *v, size_t line, struct mesh_err *err)
{
	if (!r->depth) {
		r->root = v;
		return 0;
	}
	struct frame *f = &r->stack[r->depth - 1];
	if (f->v->kind == CV_LIST) {
		cv_add(r->a, f->v, v);
		return 0;
	}
	const char *key = f->key;
	f->key = NULL;
	if (f->merge)
		return take_merge(r, f, v, line, err);
	if (f->v->n >= COMPOSE_MAX_KEYS)
		return fail_at(r, line, err, "more than %u keys in one mapping", COMPOSE_MAX_KEYS);
	/* The mapping's own index says that it is new, so no search here. */
	struct cv_item item = { key, v };
	cv_add(r->a, f->v, v);
	f->v->items[f->v->n - 1] = item;
	return 0;
}

static int take_key(struct reader *r, struct frame *f, const char *key, size_t line, struct mesh_err *err)
{
	void *before = map_get(&f->seen, key);

	if (before)
		return fail_at(r, line, err, "mapping key \"%.100s\" already defined at line %d", key,
		               (int)(intptr_t)before);
	map_put(&f->seen, key, (void *)(intptr_t)(line + 1));
	f->key = key;
	f->merge = false;
	f->key_line = (int)line + 1;
	return 0;
}

static int scalar_tag(const struct reader *r, struct cv *v, const yaml_event_t *e, struct mesh_err *err)
{
	const char *tag = (const char *)e->data.scalar.tag;
	static const struct {
		const char *tag;
		int kind;
	} tags[] = { { YAML_NULL_TAG, CV_NULL },   { YAML_BOOL_TAG, CV_BOOL }, { YAML_INT_TAG, CV_INT },
		     { YAML_FLOAT_TAG, CV_FLOAT }, { YAML_STR_TAG, CV_STR },   { "!", CV_STR } };

	if (!strcmp(tag, "!reset") || !strcmp(tag, "!override")) {
		v->flags |= tag[1] == 'r' ? CV_RESET : CV_OVERRIDE;
		yaml_resolve(v);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (!strcmp(tag, tags[i].tag)) {
			if (tags[i].kind != CV_STR)
				yaml_resolve(v);
			if (v->kind != tags[i].kind && !(v->kind == CV_INT && tags[i].kind == CV_FLOAT))
				return fail_at(r, e->start_mark.line, err, "cannot decode `%.60s` as a %.60s", v->s,
				               tag);
			return 0;
		}
	return fail_at(r, e->start_mark.line, err, "unknown tag %.60s", tag);
}

static void anchor(struct reader *r, const yaml_char_t *name, struct cv *v)
{
	if (name)
		map_put(&r->anchors, (const char *)name, v);
}

static int on_scalar(struct reader *r, const yaml_event_t *e, struct mesh_err *err)
{
	size_t line = e->start_mark.line, len = e->data.scalar.length;
	const char *text = (const char *)e->data.scalar.value;
	struct frame *f = r->depth ? &r->stack[r->depth - 1] : NULL;

	if (memchr(text, 0, len))
		return fail_at(r, line, err, "a NUL character cannot be part of a stack file");
	if (f && f->v->kind == CV_MAP && !f->key) {
		int taken = take_key(r, f, arena_str(r->a, text, len), line, err);
		f->merge = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !strcmp(text, "<<");
		return taken;
	}
	struct cv *v = cv_new(r->a, CV_STR, NULL);
	v->file = r->file;
	v->line = (int)line + 1;
	v->s = arena_str(r->a, text, len);
	int rc = 0;
	if (e->data.scalar.tag)
		rc = scalar_tag(r, v, e, err);
	else if (e->data.scalar.plain_implicit && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		yaml_resolve(v);
	anchor(r, e->data.scalar.anchor, v);
	return rc < 0 ? rc : place(r, v, line, err);
}

static int on_alias(struct reader *r, const yaml_event_t *e, struct mesh_err *err)
{
	const char *name = (const char *)e->data.alias.anchor;
	const struct cv *from = map_get(&r->anchors, name);
	struct frame *f = r->depth ? &r->stack[r->depth - 1] : NULL;
	size_t line = e->start_mark.line;
	struct cv *v = NULL;

	if (!from)
		return fail_at(r, line, err, "unknown anchor '%.60s' referenced", name);
	if (from->flags & CV_OPEN)
		return fail_at(r, line, err, "anchor '%.60s' value contains itself", name);
	if (f && f->v->kind == CV_MAP && !f->key)
		return from->kind < CV_LIST ? take_key(r, f, from->s, line, err)
		                            : fail_at(r, line, err, "a mapping key must be a text");
	int rc = copy(r, from, &v, line, err);
	return rc < 0 ? rc : place(r, v, line, err);
}

static int on_open(struct reader *r, const yaml_event_t *e, enum cv_kind kind, struct mesh_err *err)
{
	bool seq = kind == CV_LIST;
	const char *tag = (const char *)(seq ? e->data.sequence_start.tag : e->data.mapping_start.tag);
	struct frame *f = r->depth ? &r->stack[r->depth - 1] : NULL;

	if (r->depth == COMPOSE_MAX_DEPTH)
		return fail_at(r, e->start_mark.line, err, "nested deeper than %u levels", COMPOSE_MAX_DEPTH);
	if (f && f->v->kind == CV_MAP && !f->key)
		return fail_at(r, e->start_mark.line, err, "a mapping key must be a text");
	struct cv *v = cv_new(r->a, kind, NULL);
	v->file = r->file;
	/* A block mapping begins at its first key; the key that holds it is where people look. */
	v->line = f && f->v->kind == CV_MAP ? f->key_line : (int)e->start_mark.line + 1;
	v->flags = CV_OPEN;
	if (tag && (!strcmp(tag, "!reset") || !strcmp(tag, "!override")))
		v->flags |= tag[1] == 'r' ? CV_RESET : CV_OVERRIDE;
	else if (tag && strcmp(tag, "!") && strcmp(tag, seq ? YAML_SEQ_TAG : YAML_MAP_TAG))
		return fail_at(r, e->start_mark.line, err, "unknown tag %.60s", tag);
	anchor(r, seq ? e->data.sequence_start.anchor : e->data.mapping_start.anchor, v);
	r->stack[r->depth++] = (struct frame){ .v = v };
	return 0;
}

/* Explicit keys win, then the mappings of << from left to right. */
static int merge_into(struct reader *r, struct frame *f, size_t line, struct mesh_err *err)
{
	CV_EACH(f->merges, from)
	CV_EACH(from->v, it)
	{
		if (map_has(&f->seen, it->key))
			continue;
		if (f->v->n >= COMPOSE_MAX_KEYS)
			return fail_at(r, line, err, "more than %u keys in one mapping", COMPOSE_MAX_KEYS);
		map_put(&f->seen, it->key, f->v);
		cv_add(r->a, f->v, it->v);
		f->v->items[f->v->n - 1].key = it->key;
	}
	return 0;
}

static int on_close(struct reader *r, const yaml_event_t *e, struct mesh_err *err)
{
	struct frame *f = &r->stack[r->depth - 1];
	int rc = merge_into(r, f, e->start_mark.line, err);

	map_fini(&f->seen);
	f->v->flags &= (uint8_t)~CV_OPEN;
	r->depth--;
	return rc < 0 ? rc : place(r, f->v, e->start_mark.line, err);
}

static int on_event(struct reader *r, const yaml_event_t *e, bool *done, struct mesh_err *err)
{
	int rc = budget(r, e->start_mark.line, err);

	if (rc < 0)
		return rc;
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return on_scalar(r, e, err);
	case YAML_ALIAS_EVENT:
		return on_alias(r, e, err);
	case YAML_SEQUENCE_START_EVENT:
		return on_open(r, e, CV_LIST, err);
	case YAML_MAPPING_START_EVENT:
		return on_open(r, e, CV_MAP, err);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return on_close(r, e, err);
	case YAML_DOCUMENT_END_EVENT:
	case YAML_STREAM_END_EVENT:
		*done = true;
		return 0;
	default:
		return 0;
	}
}

int yaml_read(struct arena *a, const char *file, const char *text, size_t len, struct cv **out, struct mesh_err *err)
{
	struct reader r = { .a = a, .file = arena_str(a, file, strlen(file)), .nodes0 = a->nodes };
	yaml_event_t e;
	bool done = false;
	int rc = 0;

	*out = NULL;
	if (len > COMPOSE_MAX_FILE)
		return mesh_fail(err, MESH_E_INVALID, "%s: larger than %u MiB, which no stack file is", file,
		                 COMPOSE_MAX_FILE >> 20);
	if (!yaml_parser_initialize(&r.parser))
		return mesh_fail(err, -ENOMEM, "%s: yaml", file);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	while (!done && rc >= 0) {
		if (!yaml_parser_parse(&r.parser, &e)) {
			rc = parser_failed(&r, err);
			break;
		}
		rc = on_event(&r, &e, &done, err);
		yaml_event_delete(&e);
	}
	while (r.depth)
		map_fini(&r.stack[--r.depth].seen);
	map_fini(&r.anchors);
	yaml_parser_delete(&r.parser);
	if (rc < 0)
		return rc;
	*out = r.root;
	return 0;
}
