/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/model/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"

/* ---- writing ---------------------------------------------------------------------------------- */

static void separate(struct jw *w)
{
	if (w->comma)
		buf_put_u8(&w->b, ',');
}

void jw_open(struct jw *w, char bracket)
{
	separate(w);
	buf_put_u8(&w->b, (uint8_t)bracket);
	w->comma = false;
}

void jw_close(struct jw *w, char bracket)
{
	buf_put_u8(&w->b, (uint8_t)bracket);
	w->comma = true;
}

/* Length of the valid UTF-8 sequence at s, or 0. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	unsigned char c = s[0];
	if (c < 0x80)
		return 1;
	size_t len = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
	if (!len || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (c == 0xe0 && s[1] < 0xa0) || (c == 0xf0 && s[1] < 0x90);
	bool surrogate = c == 0xed && s[1] > 0x9f;
	bool beyond = c == 0xf4 && s[1] > 0x8f;
	return overlong || surrogate || beyond ? 0 : len;
}

static void put_escaped(struct buf *b, unsigned char c)
{
	static const char short_forms[] = "btn\0fr";
	if (c == '"' || c == '\\') {
		buf_put_u8(b, '\\');
		buf_put_u8(b, c);
	} else if (c >= 8 && c <= 13 && short_forms[c - 8]) {
		buf_put_u8(b, '\\');
		buf_put_u8(b, (uint8_t)short_forms[c - 8]);
	} else {
		buf_printf(b, "\\u%04x", c);
	}
}

static void put_text(struct buf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t run = 0;
	buf_put_u8(b, '"');
	for (size_t i = 0; i < n;) {
		size_t len = utf8_len(p + i, n - i);
		if (len && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\') {
			i += len;
			continue;
		}
		buf_put(b, p + run, i - run);
		if (len)
			put_escaped(b, p[i]);
		else
			buf_puts(b, "\xef\xbf\xbd");
		run = ++i;
	}
	buf_put(b, p + run, n - run);
	buf_put_u8(b, '"');
}

void jw_key(struct jw *w, const char *key)
{
	separate(w);
	put_text(&w->b, key, strlen(key));
	buf_put_u8(&w->b, ':');
	w->comma = false;
}

void jw_strn(struct jw *w, const char *s, size_t n)
{
	separate(w);
	put_text(&w->b, s, n);
	w->comma = true;
}

void jw_str(struct jw *w, const char *s)
{
	jw_strn(w, s ? s : "", s ? strlen(s) : 0);
}

void jw_raw(struct jw *w, const char *json)
{
	separate(w);
	buf_puts(&w->b, json);
	w->comma = true;
}

void jw_int(struct jw *w, int64_t v)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRId64, v);
	jw_raw(w, text);
}

void jw_uint(struct jw *w, uint64_t v)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64, v);
	jw_raw(w, text);
}

void jw_f64(struct jw *w, double v)
{
	char text[40];
	if (!isfinite(v))
		v = 0;
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	jw_raw(w, text);
}

void jw_bool(struct jw *w, bool v)
{
	jw_raw(w, v ? "true" : "false");
}

void jw_null(struct jw *w)
{
	jw_raw(w, "null");
}

void jw_time(struct jw *w, int64_t ns)
{
	char text[CLOCK_TEXT_MAX];
	jw_str(w, clock_format(ns, text));
}

void jw_base64(struct jw *w, const void *p, size_t n)
{
	separate(w);
	buf_put_u8(&w->b, '"');
	md_base64_encode(&w->b, p, n);
	buf_put_u8(&w->b, '"');
	w->comma = true;
}

void jw_strs(struct jw *w, const struct str_list *l)
{
	jw_open(w, '[');
	for (size_t i = 0; i < l->n; i++)
		jw_str(w, l->v[i]);
	jw_close(w, ']');
}

static int by_key(const void *a, const void *b)
{
	const struct str_pair *const *x = a, *const *y = b;
	return strcmp((*x)->key, (*y)->key);
}

void jw_map(struct jw *w, const struct str_map *m)
{
	const struct str_pair *few[32];
	const struct str_pair **order = m->n <= ARRAY_SIZE(few) ? few : xcalloc(m->n, sizeof(*order));
	for (size_t i = 0; i < m->n; i++)
		order[i] = &m->v[i];
	if (m->n > 1)
		qsort(order, m->n, sizeof(*order), by_key);
	jw_open(w, '{');
	for (size_t i = 0; i < m->n; i++)
		jw_kstr(w, order[i]->key, order[i]->value);
	jw_close(w, '}');
	if (order != few)
		free(order);
}

void jw_kstr(struct jw *w, const char *key, const char *v)
{
	jw_key(w, key);
	jw_str(w, v);
}

void jw_kint(struct jw *w, const char *key, int64_t v)
{
	jw_key(w, key);
	jw_int(w, v);
}

void jw_kbool(struct jw *w, const char *key, bool v)
{
	jw_key(w, key);
	jw_bool(w, v);
}

void jw_ktime(struct jw *w, const char *key, int64_t ns)
{
	jw_key(w, key);
	jw_time(w, ns);
}

void jw_kraw(struct jw *w, const char *key, const char *json)
{
	jw_key(w, key);
	jw_raw(w, json);
}

/* Every SCH_LIST has this layout whatever its element type. */
struct any_list {
	char *v;
	size_t n;
};

static void write_list(struct jw *w, const struct sch_field *f, const struct any_list *l)
{
	jw_open(w, '[');
	for (size_t i = 0; i < l->n; i++)
		md_json_write(w, f->sub, l->v + i * f->sub->size);
	jw_close(w, ']');
}

static const char *enum_text(const struct sch_enum *e, int v)
{
	return v >= 0 && (size_t)v < e->n && e->names[v] ? e->names[v] : "";
}

static void write_value(struct jw *w, const struct sch_field *f, const void *p)
{
	switch ((enum sch_type)f->type) {
	case SCH_BOOL:
		jw_bool(w, *(const bool *)p);
		break;
	case SCH_U8:
		jw_uint(w, *(const uint8_t *)p);
		break;
	case SCH_U16:
		jw_uint(w, *(const uint16_t *)p);
		break;
	case SCH_U32:
		jw_uint(w, *(const uint32_t *)p);
		break;
	case SCH_U64:
		jw_uint(w, *(const uint64_t *)p);
		break;
	case SCH_I64:
		jw_int(w, *(const int64_t *)p);
		break;
	case SCH_F64:
		jw_f64(w, *(const double *)p);
		break;
	case SCH_TIME:
		jw_time(w, *(const int64_t *)p);
		break;
	case SCH_OPT_I64:
		jw_int(w, ((const struct opt_i64 *)p)->v);
		break;
	case SCH_OPT_U64:
		jw_uint(w, ((const struct opt_u64 *)p)->v);
		break;
	case SCH_OPT_BOOL:
		jw_bool(w, ((const struct opt_bool *)p)->v);
		break;
	case SCH_STR:
		jw_str(w, *(char *const *)p);
		break;
	case SCH_ID:
		jw_str(w, p);
		break;
	case SCH_ENUM:
		jw_str(w, enum_text(f->names, *(const int *)p));
		break;
	case SCH_BYTES:
		jw_base64(w, ((const struct bytes *)p)->p, ((const struct bytes *)p)->n);
		break;
	case SCH_STRS:
		jw_strs(w, p);
		break;
	case SCH_MAP:
		jw_map(w, p);
		break;
	case SCH_OBJ:
		md_json_write(w, f->sub, p);
		break;
	case SCH_PTR:
		if (*(void *const *)p)
			md_json_write(w, f->sub, *(void *const *)p);
		else
			jw_null(w);
		break;
	case SCH_LIST_OF:
		write_list(w, f, p);
		break;
	}
}

void md_json_members(struct jw *w, const struct schema *s, const void *obj, size_t lo, size_t hi)
{
	for (size_t i = lo; i < hi && i < s->n; i++) {
		const struct sch_field *f = &s->fields[i];
		const void *p = (const char *)obj + f->off;
		if (f->flags & (SCH_INTERNAL | SCH_SECRET))
			continue;
		if (f->flags & SCH_INLINE) {
			md_json_members(w, f->sub, p, 0, f->sub->n);
			continue;
		}
		bool empty = sch_field_empty(f, obj);
		if (empty && !(f->flags & (SCH_ALWAYS | SCH_NULL)))
			continue;
		jw_key(w, f->name);
		if (empty && f->flags & SCH_NULL)
			jw_null(w);
		else
			write_value(w, f, p);
	}
}

void md_json_write(struct jw *w, const struct schema *s, const void *obj)
{
	jw_open(w, '{');
	md_json_members(w, s, obj, 0, s->n);
	jw_close(w, '}');
}

size_t md_json_field(const struct schema *s, const char *name)
{
	size_t i = 0;
	while (i < s->n && strcmp(s->fields[i].name, name) != 0)
		i++;
	return i;
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Where we are; lives on the stack of the recursion, turned into text only for a message. */
struct path {
	const struct path *up;
	const char *name; /* NULL: index */
	size_t index;
};
struct reader {
	const char *at;
	struct str_list *unknown;
	struct mesh_err *err;
};

static void put_path(const struct reader *r, const struct path *p, struct buf *out)
{
	if (!p) {
		buf_puts(out, r->at);
		return;
	}
	put_path(r, p->up, out);
	if (!p->name) {
		buf_printf(out, "[%zu]", p->index);
		return;
	}
	if (out->len)
		buf_put_u8(out, '.');
	buf_puts(out, p->name);
}

static int fail(const struct reader *r, const struct path *p, const char *fmt, ...) MESH_PRINTF(3, 4);
static int fail(const struct reader *r, const struct path *p, const char *fmt, ...)
{
	struct buf where = { 0 };
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put_path(r, p, &where);
	const char *at = buf_str(&where);
	int rc = mesh_fail(r->err, MESH_E_INVALID, "%.300s%s%s", at, *at ? ": " : "", text);
	buf_fini(&where);
	return rc;
}

static const char *kind_of(const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	default:
		return "null";
	}
}

static int wrong_kind(const struct reader *r, const struct path *at, const char *expected, const json_t *j)
{
	return fail(r, at, "expected %s, got %s", expected, kind_of(j));
}

static int read_whole(const struct reader *r, const struct path *at, const json_t *j, int64_t lo, uint64_t hi,
                      int64_t *out)
{
	if (json_is_real(j)) {
		double d = json_real_value(j);
		if (d != floor(d) || fabs(d) > 9007199254740992.0)
			return fail(r, at, "expected a whole number, got %g", d);
		*out = (int64_t)d;
	} else if (json_is_integer(j)) {
		*out = json_integer_value(j);
	} else {
		return wrong_kind(r, at, "a number", j);
	}
	if (*out < lo || (*out > 0 && (uint64_t)*out > hi))
		return fail(r, at, "expected a number from %" PRId64 " to %" PRIu64 ", got %" PRId64, lo, hi, *out);
	return 0;
}

static int read_number(const struct reader *r, const struct path *at, const struct sch_field *f, void *p,
                       const json_t *j)
{
	static const struct {
		int64_t lo;
		uint64_t hi;
	} range[] = {
		[SCH_U8] = { 0, UINT8_MAX },
		[SCH_U16] = { 0, UINT16_MAX },
		[SCH_U32] = { 0, UINT32_MAX },
		[SCH_U64] = { 0, INT64_MAX },
		[SCH_I64] = { INT64_MIN, INT64_MAX },
		[SCH_OPT_U64] = { 0, INT64_MAX },
		[SCH_OPT_I64] = { INT64_MIN, INT64_MAX },
	};
	int64_t v = 0;
	int rc = read_whole(r, at, j, range[f->type].lo, range[f->type].hi, &v);
	if (rc)
		return rc;
	switch ((enum sch_type)f->type) {
	case SCH_U8:
		*(uint8_t *)p = (uint8_t)v;
		break;
	case SCH_U16:
		*(uint16_t *)p = (uint16_t)v;
		break;
	case SCH_U32:
		*(uint32_t *)p = (uint32_t)v;
		break;
	case SCH_OPT_I64:
	case SCH_OPT_U64:
		*(struct opt_i64 *)p = (struct opt_i64){ true, v };
		break;
	default:
		*(int64_t *)p = v;
	}
	return 0;
}

static int read_bool(const struct reader *r, const struct path *at, const json_t *j, bool *out)
{
	if (!json_is_boolean(j))
		return wrong_kind(r, at, "a boolean", j);
	*out = json_is_true(j);
	return 0;
}

static int read_enum(const struct reader *r, const struct path *at, const struct sch_enum *e, const json_t *j, int *out)
{
	const char *text = json_string_value(j);
	if (!text)
		return wrong_kind(r, at, "a string", j);
	if (!*text) {
		*out = 0;
		return 0;
	}
	for (size_t i = 0; i < e->n; i++) {
		if (e->names[i] && strcasecmp(e->names[i], text) == 0) {
			*out = (int)i;
			return 0;
		}
	}
	struct buf names = { 0 };
	for (size_t i = 0; i < e->n; i++)
		if (e->names[i] && e->names[i][0])
			buf_printf(&names, "%s%s", names.len ? ", " : "", e->names[i]);
	int rc = fail(r, at, "\"%.64s\" is not one of: %s", text, buf_str(&names));
	buf_fini(&names);
	return rc;
}

static int read_text(const struct reader *r, const struct path *at, const struct sch_field *f, void *p, const json_t *j)
{
	const char *text = json_string_value(j);
	if (!text)
		return wrong_kind(r, at, "a string", j);
	switch ((enum sch_type)f->type) {
	case SCH_TIME:
		if (clock_parse(text, p))
			return fail(r, at, "\"%.64s\" is not a time in RFC 3339", text);
		return 0;
	case SCH_ID:
		if (strlen(text) > MESH_ID_LEN)
			return fail(r, at, "\"%.80s\" is not an id: more than %d characters", text, MESH_ID_LEN);
		mesh_id_set(p, text);
		return 0;
	case SCH_BYTES:
		bytes_set(p, NULL, 0);
		return md_base64_decode(text, p) ? fail(r, at, "not base64") : 0;
	default:
		str_set(p, text);
		return 0;
	}
}

static int read_strs(const struct reader *r, const struct path *at, struct str_list *out, const json_t *j)
{
	if (!json_is_array(j))
		return wrong_kind(r, at, "a list", j);
	strs_clear(out);
	for (size_t i = 0; i < json_array_size(j); i++) {
		const json_t *item = json_array_get(j, i);
		struct path here = { at, NULL, i };
		if (!json_is_string(item))
			return wrong_kind(r, &here, "a string", item);
		strs_add(out, json_string_value(item));
	}
	return 0;
}

static int read_map(const struct reader *r, const struct path *at, struct str_map *out, const json_t *j)
{
	const char *key;
	json_t *item;
	if (!json_is_object(j))
		return wrong_kind(r, at, "an object", j);
	smap_clear(out);
	out->v = json_object_size(j) ? xcalloc(json_object_size(j), sizeof(*out->v)) : NULL;
	json_object_foreach((json_t *)j, key, item)
	{
		struct path here = { at, key, 0 };
		if (!json_is_string(item))
			return wrong_kind(r, &here, "a string", item);
		/* Appended directly: the parser has refused duplicate keys, and smap_set would look for one. */
		out->v[out->n++] = (struct str_pair){ xstrdup(key), xstrdup(json_string_value(item)) };
	}
	return 0;
}

static int read_object(const struct reader *r, const struct path *at, const struct schema *s, void *obj,
                       const json_t *j);

static int read_list(const struct reader *r, const struct path *at, const struct sch_field *f, void *list,
                     const json_t *j)
{
	struct any_list *l = list;
	if (!json_is_array(j))
		return wrong_kind(r, at, "a list", j);
	/* Once for all: growing one by one would be quadratic for long lists. */
	size_t n = json_array_size(j);
	if (!n || l->n)
		return 0;
	l->v = xcalloc(n, f->sub->size);
	for (size_t i = 0; i < n; i++) {
		struct path here = { at, NULL, i };
		const json_t *item = json_array_get(j, i);
		l->n = i + 1;
		if (json_is_null(item))
			continue;
		int rc = read_object(r, &here, f->sub, l->v + i * f->sub->size, item);
		if (rc)
			return rc;
	}
	return 0;
}

static int read_value(const struct reader *r, const struct path *at, const struct sch_field *f, void *p,
                      const json_t *j)
{
	if (json_is_null(j))
		return 0;
	switch ((enum sch_type)f->type) {
	case SCH_BOOL:
		return read_bool(r, at, j, p);
	case SCH_OPT_BOOL:
		((struct opt_bool *)p)->set = true;
		return read_bool(r, at, j, &((struct opt_bool *)p)->v);
	case SCH_U8:
	case SCH_U16:
	case SCH_U32:
	case SCH_U64:
	case SCH_I64:
	case SCH_OPT_I64:
	case SCH_OPT_U64:
		return read_number(r, at, f, p, j);
	case SCH_F64:
		if (!json_is_number(j))
			return wrong_kind(r, at, "a number", j);
		*(double *)p = json_number_value(j);
		return 0;
	case SCH_STR:
	case SCH_ID:
	case SCH_TIME:
	case SCH_BYTES:
		return read_text(r, at, f, p, j);
	case SCH_ENUM:
		return read_enum(r, at, f->names, j, p);
	case SCH_STRS:
		return read_strs(r, at, p, j);
	case SCH_MAP:
		return read_map(r, at, p, j);
	case SCH_OBJ:
		return read_object(r, at, f->sub, p, j);
	case SCH_PTR:
		if (!*(void **)p)
			*(void **)p = sch_new(f->sub);
		return read_object(r, at, f->sub, *(void **)p, j);
	case SCH_LIST_OF:
		return read_list(r, at, f, p, j);
	}
	return 0;
}

/* The field for a key, also among those that stand inline; *obj moves to the struct that has it. */
static const struct sch_field *find_field(const struct schema *s, void **obj, const char *key,
                                          int (*cmp)(const char *, const char *), bool *readonly)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct sch_field *f = &s->fields[i];
		if (f->flags & SCH_INTERNAL)
			continue;
		if (f->flags & SCH_INLINE) {
			void *inner = (char *)*obj + f->off;
			const struct sch_field *g = find_field(f->sub, &inner, key, cmp, readonly);
			if (g) {
				*obj = inner;
				*readonly = *readonly || f->flags & SCH_READONLY;
				return g;
			}
		} else if (cmp(f->name, key) == 0) {
			*readonly = f->flags & SCH_READONLY;
			return f;
		}
	}
	return NULL;
}

static bool json_empty(const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return !json_object_size(j);
	case JSON_ARRAY:
		return !json_array_size(j);
	case JSON_STRING:
		return !json_string_length(j);
	case JSON_INTEGER:
		return !json_integer_value(j);
	case JSON_REAL:
		return json_real_value(j) == 0;
	case JSON_TRUE:
		return false;
	default:
		return true;
	}
}

#define MAX_UNKNOWN 32 /* enough to see what is meant; a hostile body must not grow the answer */

static void note_unknown(const struct reader *r, const struct path *at, const json_t *j)
{
	if (!r->unknown || r->unknown->n >= MAX_UNKNOWN || json_empty(j))
		return;
	struct buf where = { 0 };
	put_path(r, at, &where);
	if (where.len <= 300)
		strs_add(r->unknown, buf_str(&where));
	buf_fini(&where);
}

static int read_object(const struct reader *r, const struct path *at, const struct schema *s, void *obj,
                       const json_t *j)
{
	const char *key;
	json_t *item;
	if (!json_is_object(j))
		return wrong_kind(r, at, "an object", j);
	json_object_foreach((json_t *)j, key, item)
	{
		void *owner = obj;
		bool readonly = false;
		const struct sch_field *f = find_field(s, &owner, key, strcmp, &readonly);
		if (!f)
			f = find_field(s, &owner, key, strcasecmp, &readonly);
		struct path here = { at, f ? f->name : key, 0 };
		if (!f) {
			note_unknown(r, &here, item);
			continue;
		}
		if (readonly)
			continue;
		int rc = read_value(r, &here, f, (char *)owner + f->off, item);
		if (rc)
			return rc;
	}
	return 0;
}

int md_json_parse(const void *p, size_t n, json_t **out, struct mesh_err *err)
{
	json_error_t e;
	*out = json_loadb(p ? p : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
	if (*out)
		return 0;
	return mesh_fail(err, MESH_E_INVALID, "invalid JSON at line %d column %d: %s", e.line, e.column, e.text);
}

int md_json_read(const struct schema *s, void *obj, const json_t *j, const char *at, struct str_list *unknown,
                 struct mesh_err *err)
{
	struct reader r = { at ? at : "", unknown, err };
	return read_object(&r, NULL, s, obj, j);
}

int md_json_decode(const struct schema *s, void *obj, const void *p, size_t n, struct str_list *unknown,
                   struct mesh_err *err)
{
	json_t *j;
	int rc = md_json_parse(p, n, &j, err);
	if (rc)
		return rc;
	rc = md_json_read(s, obj, j, "", unknown, err);
	json_decref(j);
	return rc;
}

/* ---- base64 ----------------------------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void md_base64_encode(struct buf *out, const void *p, size_t n)
{
	const uint8_t *s = p;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v =
			(uint32_t)s[i] << 16 | (i + 1 < n ? (uint32_t)s[i + 1] << 8 : 0) | (i + 2 < n ? s[i + 2] : 0);
		char q[4] = { alphabet[v >> 18], alphabet[v >> 12 & 63], i + 1 < n ? alphabet[v >> 6 & 63] : '=',
			      i + 2 < n ? alphabet[v & 63] : '=' };
		buf_put(out, q, 4);
	}
}

static int digit(char c, bool url)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || (url && c == '-'))
		return 62;
	if (c == '/' || (url && c == '_'))
		return 63;
	return -1;
}

static int decode64(const char *text, bool url, struct bytes *out)
{
	size_t n = strlen(text), padded = n;
	while (n && text[n - 1] == '=' && padded - n < 2)
		n--;
	*out = (struct bytes){ 0 };
	if (n % 4 == 1 || (padded % 4 && (!url || padded != n)))
		return MESH_E_INVALID;
	if (!n)
		return 0;
	uint8_t *p = xcalloc(1, n / 4 * 3 + 3);
	size_t len = 0;
	uint32_t acc = 0;
	for (size_t i = 0; i < n; i++) {
		int d = digit(text[i], url);
		if (d < 0) {
			mesh_wipe(p, len);
			free(p);
			return MESH_E_INVALID;
		}
		acc = acc << 6 | (uint32_t)d;
		if (i % 4) {
			int shift = 6 - 2 * (int)(i % 4);
			p[len++] = (uint8_t)(acc >> shift);
		}
	}
	*out = (struct bytes){ p, len };
	return 0;
}

int md_base64_decode(const char *text, struct bytes *out)
{
	return decode64(text, false, out);
}

int md_base64url_decode(const char *text, struct bytes *out)
{
	return decode64(text, true, out);
}
