/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/schema.h"

#include "base/id.h"
#include "base/mem.h"

#define MAX_DEPTH 24
#define MAX_ITEMS (1u << 20)

/* Every SCH_LIST has this layout whatever its element type. */
struct any_list {
	char *v;
	size_t n;
};

static void *at(const void *obj, const struct sch_field *f)
{
	return (char *)obj + f->off;
}

void *sch_new(const struct schema *s)
{
	return xcalloc(1, s->size);
}

static void clear_field(const struct sch_field *f, void *p)
{
	switch ((enum sch_type)f->type) {
	case SCH_STR:
		free(*(char **)p);
		break;
	case SCH_BYTES: {
		struct bytes *b = p;
		mesh_wipe(b->p, b->n);
		free(b->p);
		break;
	}
	case SCH_STRS:
		strs_clear(p);
		break;
	case SCH_MAP:
		smap_clear(p);
		break;
	case SCH_OBJ:
		sch_clear(f->sub, p);
		break;
	case SCH_PTR:
		sch_free(f->sub, *(void **)p);
		break;
	case SCH_LIST_OF: {
		struct any_list *l = p;
		for (size_t i = 0; i < l->n; i++)
			sch_clear(f->sub, l->v + i * f->sub->size);
		free(l->v);
		break;
	}
	default:
		break;
	}
}

void sch_clear(const struct schema *s, void *obj)
{
	for (size_t i = 0; i < s->n; i++)
		clear_field(&s->fields[i], at(obj, &s->fields[i]));
	memset(obj, 0, s->size);
}

void sch_free(const struct schema *s, void *obj)
{
	if (!obj)
		return;
	sch_clear(s, obj);
	free(obj);
}

static void copy_field(const struct sch_field *f, void *d, const void *s)
{
	switch ((enum sch_type)f->type) {
	case SCH_STR:
		*(char **)d = xstrdup(*(char *const *)s);
		break;
	case SCH_BYTES: {
		const struct bytes *b = s;
		*(struct bytes *)d = (struct bytes){ .p = b->n ? xmemdup(b->p, b->n) : NULL, .n = b->n };
		break;
	}
	case SCH_STRS: {
		const struct str_list *l = s;
		*(struct str_list *)d = (struct str_list){ 0 };
		for (size_t i = 0; i < l->n; i++)
			strs_add(d, l->v[i]);
		break;
	}
	case SCH_MAP: {
		const struct str_map *m = s;
		struct str_map *out = d;
		*out = (struct str_map){ .v = m->n ? xcalloc(m->n, sizeof(*m->v)) : NULL, .n = m->n };
		for (size_t i = 0; i < m->n; i++)
			out->v[i] = (struct str_pair){ xstrdup(m->v[i].key), xstrdup(m->v[i].value) };
		break;
	}
	case SCH_OBJ:
		sch_copy(f->sub, d, s);
		break;
	case SCH_PTR:
		*(void **)d = sch_dup(f->sub, *(void *const *)s);
		break;
	case SCH_LIST_OF: {
		const struct any_list *l = s;
		struct any_list *out = d;
		*out = (struct any_list){ .v = l->n ? xcalloc(l->n, f->sub->size) : NULL, .n = l->n };
		for (size_t i = 0; i < l->n; i++)
			sch_copy(f->sub, out->v + i * f->sub->size, l->v + i * f->sub->size);
		break;
	}
	default:
		break;
	}
}

void sch_copy(const struct schema *s, void *dst, const void *src)
{
	memcpy(dst, src, s->size);
	for (size_t i = 0; i < s->n; i++)
		copy_field(&s->fields[i], at(dst, &s->fields[i]), at(src, &s->fields[i]));
}

void *sch_dup(const struct schema *s, const void *src)
{
	if (!src)
		return NULL;
	void *dst = xrealloc(NULL, s->size);
	sch_copy(s, dst, src);
	return dst;
}

static bool equal_field(const struct sch_field *f, const void *a, const void *b)
{
	switch ((enum sch_type)f->type) {
	case SCH_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case SCH_U8:
		return *(const uint8_t *)a == *(const uint8_t *)b;
	case SCH_U16:
		return *(const uint16_t *)a == *(const uint16_t *)b;
	case SCH_U32:
		return *(const uint32_t *)a == *(const uint32_t *)b;
	case SCH_U64:
	case SCH_I64:
	case SCH_TIME:
		return *(const uint64_t *)a == *(const uint64_t *)b;
	case SCH_F64:
		return memcmp(a, b, sizeof(double)) == 0;
	case SCH_ENUM:
		return *(const int *)a == *(const int *)b;
	case SCH_OPT_I64:
	case SCH_OPT_U64: {
		const struct opt_u64 *x = a, *y = b;
		return x->set == y->set && (!x->set || x->v == y->v);
	}
	case SCH_OPT_BOOL: {
		const struct opt_bool *x = a, *y = b;
		return x->set == y->set && (!x->set || x->v == y->v);
	}
	case SCH_STR:
		return streq(*(char *const *)a, *(char *const *)b);
	case SCH_ID:
		return strcmp(a, b) == 0;
	case SCH_BYTES: {
		const struct bytes *x = a, *y = b;
		return x->n == y->n && (!x->n || memcmp(x->p, y->p, x->n) == 0);
	}
	case SCH_STRS: {
		const struct str_list *x = a, *y = b;
		if (x->n != y->n)
			return false;
		for (size_t i = 0; i < x->n; i++)
			if (!streq(x->v[i], y->v[i]))
				return false;
		return true;
	}
	case SCH_MAP: {
		/* As sets of pairs: the order in which labels were given means nothing. It is mostly the same, though. */
		const struct str_map *x = a, *y = b;
		if (x->n != y->n)
			return false;
		for (size_t i = 0; i < x->n; i++) {
			if (streq(x->v[i].key, y->v[i].key) && streq(x->v[i].value, y->v[i].value))
				continue;
			const char *v = smap_get(y, x->v[i].key);
			if (!v || !streq(v, x->v[i].value))
				return false;
		}
		return true;
	}
	case SCH_OBJ:
		return sch_equal(f->sub, a, b);
	case SCH_PTR: {
		const void *x = *(void *const *)a, *y = *(void *const *)b;
		return !x || !y ? x == y : sch_equal(f->sub, x, y);
	}
	case SCH_LIST_OF: {
		const struct any_list *x = a, *y = b;
		if (x->n != y->n)
			return false;
		for (size_t i = 0; i < x->n; i++)
			if (!sch_equal(f->sub, x->v + i * f->sub->size, y->v + i * f->sub->size))
				return false;
		return true;
	}
	}
	return true;
}

bool sch_equal(const struct schema *s, const void *a, const void *b)
{
	for (size_t i = 0; i < s->n; i++)
		if (!equal_field(&s->fields[i], at(a, &s->fields[i]), at(b, &s->fields[i])))
			return false;
	return true;
}

bool sch_field_empty(const struct sch_field *f, const void *obj)
{
	const void *p = at(obj, f);
	switch ((enum sch_type)f->type) {
	case SCH_BOOL:
		return !*(const bool *)p;
	case SCH_U8:
		return !*(const uint8_t *)p;
	case SCH_U16:
		return !*(const uint16_t *)p;
	case SCH_U32:
		return !*(const uint32_t *)p;
	case SCH_U64:
	case SCH_I64:
	case SCH_TIME:
		return !*(const uint64_t *)p;
	case SCH_F64:
		return *(const uint64_t *)p == 0;
	case SCH_ENUM:
		return !*(const int *)p;
	case SCH_OPT_I64:
	case SCH_OPT_U64:
		return !((const struct opt_u64 *)p)->set;
	case SCH_OPT_BOOL:
		return !((const struct opt_bool *)p)->set;
	case SCH_STR:
		return !*(char *const *)p || !**(char *const *)p;
	case SCH_ID:
		return !*(const char *)p;
	case SCH_BYTES:
		return !((const struct bytes *)p)->n;
	case SCH_STRS:
		return !((const struct str_list *)p)->n;
	case SCH_MAP:
		return !((const struct str_map *)p)->n;
	case SCH_OBJ:
		return sch_empty(f->sub, p);
	case SCH_PTR:
		return !*(void *const *)p;
	case SCH_LIST_OF:
		return !((const struct any_list *)p)->n;
	}
	return true;
}

bool sch_empty(const struct schema *s, const void *obj)
{
	for (size_t i = 0; i < s->n; i++)
		if (!sch_field_empty(&s->fields[i], obj))
			return false;
	return true;
}

/* ---- binary ---------------------------------------------------------------------------------- */

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2 };

static uint64_t zigzag(int64_t v)
{
	return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static void put_key(struct buf *out, const struct sch_field *f, enum wire w)
{
	buf_put_varint(out, (uint64_t)f->tag << 3 | w);
}

static void put_varint(struct buf *out, const struct sch_field *f, uint64_t v)
{
	put_key(out, f, WIRE_VARINT);
	buf_put_varint(out, v);
}

static void put_bytes(struct buf *out, const struct sch_field *f, const void *p, size_t n)
{
	put_key(out, f, WIRE_BYTES);
	buf_put_varint(out, n);
	buf_put(out, p, n);
}

static void put_object(struct buf *out, const struct sch_field *f, const void *obj)
{
	struct buf inner = { 0 };
	sch_encode(f->sub, obj, &inner);
	put_bytes(out, f, inner.data, inner.len);
	buf_fini(&inner);
}

static void put_pair(struct buf *out, const struct sch_field *f, const struct str_pair *pair)
{
	struct buf inner = { 0 };
	size_t klen = pair->key ? strlen(pair->key) : 0, vlen = pair->value ? strlen(pair->value) : 0;
	buf_put_varint(&inner, klen);
	buf_put(&inner, pair->key, klen);
	buf_put(&inner, pair->value, vlen);
	put_bytes(out, f, inner.data, inner.len);
	buf_fini(&inner);
}

static void encode_field(const struct sch_field *f, const void *p, struct buf *out)
{
	switch ((enum sch_type)f->type) {
	case SCH_BOOL:
		put_varint(out, f, *(const bool *)p);
		break;
	case SCH_U8:
		put_varint(out, f, *(const uint8_t *)p);
		break;
	case SCH_U16:
		put_varint(out, f, *(const uint16_t *)p);
		break;
	case SCH_U32:
		put_varint(out, f, *(const uint32_t *)p);
		break;
	case SCH_U64:
		put_varint(out, f, *(const uint64_t *)p);
		break;
	case SCH_I64:
	case SCH_TIME:
		put_varint(out, f, zigzag(*(const int64_t *)p));
		break;
	case SCH_ENUM:
		put_varint(out, f, zigzag(*(const int *)p));
		break;
	case SCH_OPT_I64:
		put_varint(out, f, zigzag(((const struct opt_i64 *)p)->v));
		break;
	case SCH_OPT_U64:
		put_varint(out, f, ((const struct opt_u64 *)p)->v);
		break;
	case SCH_OPT_BOOL:
		put_varint(out, f, ((const struct opt_bool *)p)->v);
		break;
	case SCH_F64:
		put_key(out, f, WIRE_FIXED64);
		uint64_t bits;
		memcpy(&bits, p, sizeof(bits));
		buf_put_u64(out, bits);
		break;
	case SCH_STR:
		put_bytes(out, f, *(char *const *)p, strlen(*(char *const *)p));
		break;
	case SCH_ID:
		put_bytes(out, f, p, strlen(p));
		break;
	case SCH_BYTES:
		put_bytes(out, f, ((const struct bytes *)p)->p, ((const struct bytes *)p)->n);
		break;
	case SCH_STRS: {
		const struct str_list *l = p;
		for (size_t i = 0; i < l->n; i++)
			put_bytes(out, f, l->v[i] ? l->v[i] : "", l->v[i] ? strlen(l->v[i]) : 0);
		break;
	}
	case SCH_MAP: {
		const struct str_map *m = p;
		for (size_t i = 0; i < m->n; i++)
			put_pair(out, f, &m->v[i]);
		break;
	}
	case SCH_OBJ:
		put_object(out, f, p);
		break;
	case SCH_PTR:
		put_object(out, f, *(void *const *)p);
		break;
	case SCH_LIST_OF: {
		const struct any_list *l = p;
		for (size_t i = 0; i < l->n; i++)
			put_object(out, f, l->v + i * f->sub->size);
		break;
	}
	}
}

void sch_encode(const struct schema *s, const void *obj, struct buf *out)
{
	for (size_t i = 0; i < s->n; i++)
		if (!sch_field_empty(&s->fields[i], obj))
			encode_field(&s->fields[i], at(obj, &s->fields[i]), out);
}

static int decode(const struct schema *s, void *obj, struct rd *r, int depth);

/* Text from elsewhere must be text: no NUL inside. */
static char *take_text(const uint8_t *p, size_t n)
{
	return n && memchr(p, 0, n) ? NULL : xstrndup((const char *)(n ? p : (const uint8_t *)""), n);
}

static int decode_bytes(const struct sch_field *f, void *p, const uint8_t *b, size_t n, int depth)
{
	struct rd inner = rd_of(b, n);
	switch ((enum sch_type)f->type) {
	case SCH_STR: {
		char *text = take_text(b, n);
		if (!text)
			return MESH_E_CORRUPT;
		free(*(char **)p);
		*(char **)p = text;
		return 0;
	}
	case SCH_ID:
		if (n > MESH_ID_LEN || memchr(b, 0, n))
			return MESH_E_CORRUPT;
		memset(p, 0, MESH_ID_LEN + 1);
		memcpy(p, b, n);
		return 0;
	case SCH_BYTES:
		bytes_set(p, b, n);
		return 0;
	case SCH_STRS: {
		struct str_list *l = p;
		char *text = l->n < MAX_ITEMS ? take_text(b, n) : NULL;
		if (!text)
			return MESH_E_CORRUPT;
		strs_add(l, text);
		free(text);
		return 0;
	}
	case SCH_MAP: {
		struct str_map *m = p;
		size_t klen = rd_varint(&inner);
		const uint8_t *k = rd_bytes(&inner, klen);
		if (!k || m->n >= MAX_ITEMS)
			return MESH_E_CORRUPT;
		char *key = take_text(k, klen), *value = take_text(inner.p, rd_left(&inner));
		if (!key || !value) {
			free(key);
			free(value);
			return MESH_E_CORRUPT;
		}
		m->v = xrealloc(m->v, (m->n + 1) * sizeof(*m->v));
		m->v[m->n++] = (struct str_pair){ key, value };
		return 0;
	}
	case SCH_OBJ:
		return decode(f->sub, p, &inner, depth + 1);
	case SCH_PTR:
		if (!*(void **)p)
			*(void **)p = sch_new(f->sub);
		return decode(f->sub, *(void **)p, &inner, depth + 1);
	case SCH_LIST_OF:
		if (((struct any_list *)p)->n >= MAX_ITEMS)
			return MESH_E_CORRUPT;
		return decode(f->sub, sch_list_add(p, f->sub->size), &inner, depth + 1);
	default:
		return MESH_E_CORRUPT;
	}
}

static int decode_varint(const struct sch_field *f, void *p, uint64_t v)
{
	switch ((enum sch_type)f->type) {
	case SCH_BOOL:
		*(bool *)p = v != 0;
		return v > 1 ? MESH_E_CORRUPT : 0;
	case SCH_U8:
		*(uint8_t *)p = (uint8_t)v;
		return v > UINT8_MAX ? MESH_E_CORRUPT : 0;
	case SCH_U16:
		*(uint16_t *)p = (uint16_t)v;
		return v > UINT16_MAX ? MESH_E_CORRUPT : 0;
	case SCH_U32:
		*(uint32_t *)p = (uint32_t)v;
		return v > UINT32_MAX ? MESH_E_CORRUPT : 0;
	case SCH_U64:
		*(uint64_t *)p = v;
		return 0;
	case SCH_I64:
	case SCH_TIME:
		*(int64_t *)p = unzigzag(v);
		return 0;
	case SCH_ENUM: {
		int64_t e = unzigzag(v);
		if (e < 0 || (size_t)e >= f->names->n || !f->names->names[e])
			return MESH_E_CORRUPT;
		*(int *)p = (int)e;
		return 0;
	}
	case SCH_OPT_I64:
		*(struct opt_i64 *)p = (struct opt_i64){ true, unzigzag(v) };
		return 0;
	case SCH_OPT_U64:
		*(struct opt_u64 *)p = (struct opt_u64){ true, v };
		return 0;
	case SCH_OPT_BOOL:
		*(struct opt_bool *)p = (struct opt_bool){ true, v != 0 };
		return v > 1 ? MESH_E_CORRUPT : 0;
	default:
		return MESH_E_CORRUPT;
	}
}

static const struct sch_field *field_by_tag(const struct schema *s, uint64_t tag)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->fields[i].tag == tag)
			return &s->fields[i];
	return NULL;
}

static int decode(const struct schema *s, void *obj, struct rd *r, int depth)
{
	if (depth > MAX_DEPTH)
		return MESH_E_CORRUPT;
	while (rd_left(r)) {
		uint64_t key = rd_varint(r);
		const struct sch_field *f = field_by_tag(s, key >> 3);
		int rc = 0;
		switch (key & 7) {
		case WIRE_VARINT: {
			uint64_t v = rd_varint(r);
			if (f && !r->bad)
				rc = decode_varint(f, at(obj, f), v);
			break;
		}
		case WIRE_FIXED64: {
			uint64_t v = rd_u64(r);
			if (f && f->type != SCH_F64)
				rc = MESH_E_CORRUPT;
			else if (f && !r->bad)
				memcpy(at(obj, f), &v, sizeof(v));
			break;
		}
		case WIRE_BYTES: {
			uint64_t n = rd_varint(r);
			const uint8_t *p = rd_bytes(r, n);
			if (f && p)
				rc = decode_bytes(f, at(obj, f), p, n, depth);
			break;
		}
		default:
			rc = MESH_E_CORRUPT;
		}
		if (rc)
			return rc;
		if (r->bad)
			return MESH_E_CORRUPT;
	}
	return 0;
}

int sch_decode(const struct schema *s, void *obj, const void *p, size_t n)
{
	struct rd r = rd_of(p, n);
	return decode(s, obj, &r, 0);
}

/* ---- small containers ------------------------------------------------------------------------ */

void *sch_list_add(void *list, size_t size)
{
	struct any_list *l = list;
	/* Rounded to a power of two, so that appending is linear without a capacity field. */
	size_t cap = 1;
	while (cap < l->n + 1)
		cap *= 2;
	l->v = xrealloc(l->v, cap * size);
	char *item = l->v + l->n++ * size;
	memset(item, 0, size);
	return item;
}

void strs_add(struct str_list *l, const char *s)
{
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n++] = xstrdup(s ? s : "");
}

void strs_clear(struct str_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct str_list){ 0 };
}

bool strs_has(const struct str_list *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->v[i], s) == 0)
			return true;
	return false;
}

const char *smap_get(const struct str_map *m, const char *key)
{
	for (size_t i = 0; i < m->n; i++)
		if (streq(m->v[i].key, key))
			return m->v[i].value ? m->v[i].value : "";
	return NULL;
}

void smap_set(struct str_map *m, const char *key, const char *value)
{
	for (size_t i = 0; i < m->n; i++) {
		if (streq(m->v[i].key, key)) {
			str_set(&m->v[i].value, value);
			return;
		}
	}
	m->v = xrealloc(m->v, (m->n + 1) * sizeof(*m->v));
	m->v[m->n++] = (struct str_pair){ xstrdup(key), xstrdup(value ? value : "") };
}

void smap_clear(struct str_map *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->v[i].key);
		free(m->v[i].value);
	}
	free(m->v);
	*m = (struct str_map){ 0 };
}

void bytes_set(struct bytes *b, const void *p, size_t n)
{
	uint8_t *copy = n ? xmemdup(p, n) : NULL;
	mesh_wipe(b->p, b->n);
	free(b->p);
	*b = (struct bytes){ copy, n };
}

void str_set(char **dst, const char *s)
{
	char *copy = xstrdup(s);
	free(*dst);
	*dst = copy;
}

int sch_enum_parse(const struct sch_enum *e, const char *text)
{
	for (size_t i = 0; i < e->n; i++)
		if (e->names[i] && strcmp(e->names[i], text) == 0)
			return (int)i;
	return -1;
}
