/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/compose/value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define CHUNK 65536

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, cap;
	_Alignas(16) uint8_t bytes[];
};

void arena_fini(struct arena *a)
{
	while (a->chunks) {
		struct arena_chunk *next = a->chunks->next;
		free(a->chunks);
		a->chunks = next;
	}
}

void *arena_alloc(struct arena *a, size_t n)
{
	n = (n + 15) & ~(size_t)15;
	if (!a->chunks || a->chunks->cap - a->chunks->used < n) {
		size_t cap = n > CHUNK / 4 ? n : CHUNK;
		struct arena_chunk *c = xcalloc(1, sizeof(*c) + cap);
		c->cap = cap;
		c->next = a->chunks;
		a->chunks = c;
	}
	void *p = a->chunks->bytes + a->chunks->used;
	a->chunks->used += n;
	return p;
}

char *arena_str(struct arena *a, const char *s, size_t n)
{
	char *p = arena_alloc(a, n + 1);

	memcpy(p, s, n);
	a->text += n;
	return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	CLEAN_FREE char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	return arena_str(a, s, (size_t)n);
}

struct cv *cv_new(struct arena *a, enum cv_kind kind, const struct cv *at)
{
	struct cv *v = arena_alloc(a, sizeof(*v));

	v->kind = (uint8_t)kind;
	v->s = "";
	if (at) {
		v->file = at->file;
		v->line = at->line;
	}
	a->nodes++;
	return v;
}

struct cv *cv_str(struct arena *a, const char *s, const struct cv *at)
{
	struct cv *v = cv_new(a, CV_STR, at);

	v->s = arena_str(a, s, strlen(s));
	return v;
}

struct cv *cv_int(struct arena *a, int64_t i, const struct cv *at)
{
	struct cv *v = cv_new(a, CV_INT, at);

	v->i = i;
	v->s = arena_printf(a, "%lld", (long long)i);
	return v;
}

struct cv *cv_bool(struct arena *a, bool b, const struct cv *at)
{
	struct cv *v = cv_new(a, CV_BOOL, at);

	v->i = b;
	v->s = b ? "true" : "false";
	return v;
}

static void push(struct arena *a, struct cv *v, const char *key, struct cv *item)
{
	if (v->n == v->cap) {
		uint32_t cap = v->cap ? v->cap * 2 : 4;
		struct cv_item *items = arena_alloc(a, cap * sizeof(*items));
		if (v->n)
			memcpy(items, v->items, v->n * sizeof(*items));
		v->items = items;
		v->cap = cap;
	}
	v->items[v->n++] = (struct cv_item){ key, item };
}

void cv_add(struct arena *a, struct cv *list, struct cv *v)
{
	push(a, list, NULL, v);
}

void cv_set(struct arena *a, struct cv *map, const char *key, struct cv *v)
{
	CV_EACH(map, it)
	if (!strcmp(it->key, key)) {
		it->v = v;
		return;
	}
	push(a, map, arena_str(a, key, strlen(key)), v);
}

void cv_del(struct cv *map, const char *key)
{
	for (uint32_t i = 0; map && map->kind == CV_MAP && i < map->n; i++)
		if (!strcmp(map->items[i].key, key)) {
			memmove(&map->items[i], &map->items[i + 1], (map->n - i - 1) * sizeof(*map->items));
			map->n--;
			return;
		}
}

struct cv *cv_get(const struct cv *map, const char *key)
{
	if (!map || map->kind != CV_MAP)
		return NULL;
	CV_EACH(map, it)
	if (!strcmp(it->key, key))
		return it->v;
	return NULL;
}

const char *cv_text(const struct cv *v)
{
	return v && v->kind != CV_NULL && v->kind < CV_LIST ? v->s : "";
}

const char *cv_at(const struct cv *map, const char *key)
{
	return cv_text(cv_get(map, key));
}

bool utf8_ok(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p) {
		int more = *p < 0x80                 ? 0
		           : *p >= 0xc2 && *p < 0xe0 ? 1
		           : (*p & 0xf0) == 0xe0     ? 2
		           : *p >= 0xf0 && *p < 0xf5 ? 3
		                                     : -1;
		unsigned char first = p[0], second = more > 0 ? p[1] : 0;
		if (more < 0 || (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
		    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
			return false;
		for (p++; more > 0; more--, p++)
			if ((*p & 0xc0) != 0x80)
				return false;
	}
	return true;
}

bool cv_true(const struct cv *v)
{
	return cv_is(v, CV_BOOL) && v->i;
}

bool cv_equal(const struct cv *a, const struct cv *b)
{
	if (a->kind != b->kind || a->n != b->n)
		return false;
	if (a->kind < CV_LIST)
		return a->kind == CV_NULL || !strcmp(a->s, b->s);
	for (uint32_t i = 0; i < a->n; i++) {
		const struct cv *other = a->kind == CV_MAP ? cv_get(b, a->items[i].key) : b->items[i].v;
		if (!other || !cv_equal(a->items[i].v, other))
			return false;
	}
	return true;
}

int cv_fail(const struct cv *v, struct mesh_err *err, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!v || !v->file || !*v->file)
		return mesh_fail(err, MESH_E_INVALID, "%s", text);
	return mesh_fail(err, MESH_E_INVALID, "%s:%d: %s", v->file, v->line, text);
}

static void path_put(struct buf *b, const struct cv_path *p)
{
	if (p->up) {
		path_put(b, p->up);
		buf_puts(b, ".");
	}
	if (p->key)
		buf_puts(b, p->key);
	else
		buf_printf(b, "%u", p->index);
}

const char *cv_path_str(struct arena *a, const struct cv_path *p)
{
	struct buf b = { 0 };

	path_put(&b, p);
	const char *s = arena_str(a, buf_str(&b), b.len);
	buf_fini(&b);
	return s;
}
