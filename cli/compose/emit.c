/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The canonical form as YAML that reads back as the same. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/compose/schema.h"
#include "cli/units.h"

static void emit_value(struct buf *out, const struct key *k, const struct cv *v, int depth, bool in_list);

static void indent(struct buf *out, int depth)
{
	for (int i = 0; i < depth; i++)
		buf_puts(out, "  ");
}

/* The character at *p, which is UTF-8; *p moves on. */
static uint32_t character(const char **p)
{
	const unsigned char *s = (const unsigned char *)*p;
	int more = *s < 0x80 ? 0 : *s < 0xe0 ? 1 : *s < 0xf0 ? 2 : 3;
	uint32_t c = more ? *s & (0x3fu >> more) : *s;

	for (int i = 1; i <= more; i++)
		c = c << 6 | (s[i] & 0x3f);
	*p += more + 1;
	return c;
}

/* Characters that YAML does not take as they are, or takes for the end of a line. */
static bool needs_escape(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe ||
	       c == 0xffff;
}

/* Would a reader take it for something else than this text? */
static bool needs_quotes(const char *s)
{
	static const char *const words[] = { "y", "n", "yes", "no", "on", "off", "true", "false", "null" };
	struct cv v = { .s = s };

	yaml_resolve(&v);
	if (v.kind != CV_STR || strchr("?:,[]{}#&*!|>'\"%@` \t", *s) || (*s == '-' && (!s[1] || s[1] == ' ')))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcasecmp(s, words[i]))
			return true;
	for (const char *p = s; *p;)
		if (needs_escape(character(&p)))
			return true;
	for (const char *p = s; *p; p++)
		if ((*p == ':' && (p[1] == ' ' || !p[1])) || (*p == '#' && p > s && p[-1] == ' '))
			return true;
	if (s[strlen(s) - 1] == ' ' || !strcmp(s, "=") || !strcmp(s, "<<"))
		return true;
	/* 12:30:45 and 1_000 are numbers to older readers. */
	return isdigit((unsigned char)*s) && !s[strspn(s, "0123456789_:")];
}

/* False where a character needs an escape, which single quotes do not have. */
static bool single_quotes(const char *s, struct buf *out)
{
	for (const char *p = s; *p;)
		if (needs_escape(character(&p)))
			return false;
	buf_puts(out, "'");
	for (; *s; s++)
		buf_puts(out, *s == '\'' ? "''" : (char[]){ *s, 0 });
	buf_puts(out, "'");
	return true;
}

static void emit_text(struct buf *out, const char *s)
{
	if (*s && !needs_quotes(s)) {
		buf_puts(out, s);
		return;
	}
	if (strchr(s, '"') && single_quotes(s, out))
		return;
	buf_puts(out, "\"");
	while (*s) {
		const char *from = s;
		uint32_t c = character(&s);
		if (c == '"' || c == '\\')
			buf_printf(out, "\\%c", (char)c);
		else if (c == '\n')
			buf_puts(out, "\\n");
		else if (c == '\t')
			buf_puts(out, "\\t");
		else if (needs_escape(c))
			buf_printf(out, c < 0x100 ? "\\x%02x" : "\\u%04x", c);
		else
			buf_put(out, from, (size_t)(s - from));
	}
	buf_puts(out, "\"");
}

static void emit_scalar(struct buf *out, const struct key *k, const struct cv *v)
{
	char text[64];
	int64_t n;

	if (v->kind == CV_NULL) {
		buf_puts(out, "null");
	} else if (k && k->shape == SH_DURATION && parse_duration(v->s, &n, NULL) == 0) {
		format_duration(n, text, sizeof(text));
		emit_text(out, text);
	} else if (k && k->shape == SH_SIZE && parse_bytes(v->s, &n, NULL) == 0) {
		buf_printf(out, "\"%lld\"", (long long)n);
	} else if (v->kind == CV_STR) {
		emit_text(out, v->s);
	} else {
		buf_puts(out, v->s);
	}
}

static void emit_member(struct buf *out, const struct key *k, const char *key, const struct cv *v, int depth,
                        bool *first)
{
	if (!*first)
		indent(out, depth);
	*first = false;
	emit_text(out, key);
	buf_puts(out, ":");
	emit_value(out, k, v, depth, false);
}

static int cmp_item(const void *a, const void *b)
{
	return strcmp(((const struct cv_item *)a)->key, ((const struct cv_item *)b)->key);
}

/* inline_first: the first key follows "- " on its line. */
static void emit_map(struct buf *out, const struct key *table, const struct key *item, const struct cv *v, int depth,
                     bool first)
{
	struct cv_item *sorted = xcalloc(v->n + 1, sizeof(*sorted));

	for (const struct key *k = table; k && k->name; k++)
		if (cv_get(v, k->name))
			emit_member(out, k, k->name, cv_get(v, k->name), depth, &first);
	memcpy(sorted, v->items, v->n * sizeof(*sorted));
	qsort(sorted, v->n, sizeof(*sorted), cmp_item);
	for (uint32_t i = 0; i < v->n; i++)
		if (!table || !key_find(table, sorted[i].key))
			emit_member(out, item, sorted[i].key, sorted[i].v, depth, &first);
	free(sorted);
}

static void emit_list(struct buf *out, const struct key *k, const struct cv *v, int depth)
{
	CV_EACH(v, it)
	{
		indent(out, depth);
		buf_puts(out, "-");
		emit_value(out, k, it->v, depth, true);
	}
}

/* depends_on as docker prints it where it says no more than the names. */
static bool plain_dependencies(const struct cv *v)
{
	CV_EACH(v, it)
	if (it->v->kind != CV_MAP || it->v->n != 1 || strcmp(cv_at(it->v, "condition"), "service_started"))
		return false;
	return true;
}

static void emit_names(struct buf *out, const struct cv *v, int depth)
{
	buf_puts(out, "\n");
	CV_EACH(v, it)
	{
		indent(out, depth);
		buf_puts(out, "- ");
		emit_text(out, it->key);
		buf_puts(out, "\n");
	}
}

static void emit_container(struct buf *out, const struct key *k, const struct cv *v, int depth, bool in_list)
{
	const struct key *table = k && (k->shape == SH_OBJ || (k->shape == SH_LIST && in_list)) ? k->sub : NULL;
	struct key item = { 0 };

	if (k && k->shape == SH_MAP) {
		item = (struct key){ k->name, SH_OBJ, .sub = k->sub };
		if (!strcmp(k->name, "depends_on") && plain_dependencies(v)) {
			emit_names(out, v, depth + 1);
			return;
		}
	}
	buf_puts(out, in_list ? " " : "\n");
	if (v->kind == CV_MAP)
		emit_map(out, table, item.name ? &item : NULL, v, depth + 1, in_list);
	else if (in_list) {
		buf_puts(out, "\n");
		emit_list(out, NULL, v, depth + 1);
	} else {
		emit_list(out, k, v, depth + 1);
	}
}

static void emit_value(struct buf *out, const struct key *k, const struct cv *v, int depth, bool in_list)
{
	const struct cv *single = k && k->sub && k->shape == SH_OBJ ? cv_get(v, "single") : NULL;

	if (single && key_find(k->sub, "single")) /* ulimits: {nproc: 5} */
		v = single;
	if (v->kind >= CV_LIST && v->n) {
		emit_container(out, k, v, depth, in_list);
		return;
	}
	buf_puts(out, " ");
	if (v->kind >= CV_LIST)
		buf_puts(out, v->kind == CV_MAP ? "{}" : "[]");
	else
		emit_scalar(out, k, v);
	buf_puts(out, "\n");
}

/* Declarations without a body are printed as docker prints them. */
static void emit_section(struct buf *out, const struct key *k, const struct cv *v)
{
	struct key item = { k->name, SH_OBJ, .sub = k->sub };
	struct cv_item *sorted = xcalloc(v->n + 1, sizeof(*sorted));
	struct cv empty = { .kind = CV_MAP, .s = "" };

	memcpy(sorted, v->items, v->n * sizeof(*sorted));
	qsort(sorted, v->n, sizeof(*sorted), cmp_item);
	buf_printf(out, "%s:\n", k->name);
	for (uint32_t i = 0; i < v->n; i++) {
		bool first = false;
		emit_member(out, &item, sorted[i].key, sorted[i].v->kind == CV_NULL ? &empty : sorted[i].v, 1, &first);
	}
	free(sorted);
}

void compose_emit(const struct compose *c, struct buf *out)
{
	const char *version = cv_at(c->root, "version");
	bool first = false;

	buf_puts(out, "version: ");
	emit_text(out, *version && strcmp(version, "3") ? version : "3.13");
	buf_puts(out, "\n");
	for (const struct key *k = compose_root; k->name; k++) {
		const struct cv *v = cv_get(c->root, k->name);
		if (v && k->shape == SH_MAP && v->kind == CV_MAP && v->n)
			emit_section(out, k, v);
		else if (v && !strcmp(k->name, "name"))
			emit_member(out, k, "name", v, 0, &first);
	}
	CV_EACH(c->root, it)
	if (!strncmp(it->key, "x-", 2))
		emit_member(out, NULL, it->key, it->v, 0, &first);
}
