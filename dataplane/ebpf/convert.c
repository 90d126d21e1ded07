// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include <bpf/btf.h>

#include "dataplane/ebpf/convert.h"

#define DEPTH_MAX 16

static const struct btf_type *type_of(struct btype *t)
{
	const struct btf_type *b = btf__type_by_id(t->btf, t->id);

	for (int i = 0; b && i < DEPTH_MAX && (btf_is_mod(b) || btf_is_typedef(b)); i++) {
		t->id = b->type;
		b = btf__type_by_id(t->btf, t->id);
	}
	return b;
}

struct btype btype_named(const struct btf *btf, const char *name)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);

	return (struct btype){ btf, id > 0 ? (uint32_t)id : 0 };
}

long btype_size(struct btype t)
{
	return t.id ? (long)btf__resolve_size(t.btf, t.id) : -1;
}

struct btype btype_member(struct btype t, const char *name, uint32_t *offset)
{
	const struct btf_type *b = type_of(&t);

	for (uint16_t i = 0; b && btf_is_struct(b) && i < btf_vlen(b); i++) {
		const struct btf_member *m = &btf_members(b)[i];
		const char *n = btf__name_by_offset(t.btf, m->name_off);
		if (!n || strcmp(n, name) != 0 || btf_member_bitfield_size(b, i))
			continue;
		*offset = btf_member_bit_offset(b, i) / 8;
		return (struct btype){ t.btf, m->type };
	}
	return (struct btype){ t.btf, 0 };
}

uint32_t btype_array(struct btype t, uint32_t *elem_size)
{
	const struct btf_type *b = type_of(&t);

	if (!b || !btf_is_array(b))
		return 0;
	long size = btype_size((struct btype){ t.btf, btf_array(b)->type });
	*elem_size = size > 0 ? (uint32_t)size : 0;
	return size > 0 ? btf_array(b)->nelems : 0;
}

/* A value of a type, or the room for one. */
struct value {
	struct btype type;
	uint8_t *p;
	size_t n;
};

/* size bytes at offset, of another type; false when they are not all there. */
static bool part_of(const struct value *v, struct btype type, uint64_t offset, uint64_t size, struct value *out)
{
	*out = (struct value){ type, v->p + offset, size };
	return offset <= v->n && size <= v->n - offset;
}

static bool member_of(const struct value *v, struct btype type, uint64_t offset, struct value *out)
{
	long size = btype_size(type);

	return size >= 0 && part_of(v, type, offset, (uint64_t)size, out);
}

static int convert(const struct value *from, const struct value *to, int depth);

static int convert_struct(const struct value *from, const struct value *to, const struct btf_type *b, int depth)
{
	for (uint16_t i = 0; i < btf_vlen(b); i++) {
		const struct btf_member *m = &btf_members(b)[i];
		uint32_t at;
		const char *name = btf__name_by_offset(to->type.btf, m->name_off);
		struct btype f = name ? btype_member(from->type, name, &at) : (struct btype){ 0 };
		struct btype t = { to->type.btf, m->type };
		struct value in, out;
		if (!f.id)
			continue;
		if (!member_of(from, f, at, &in) || !member_of(to, t, btf_member_bit_offset(b, i) / 8, &out))
			return MESH_E_UNSUPPORTED;
		int rc = convert(&in, &out, depth);
		if (rc)
			return rc;
	}
	return 0;
}

static int convert_array(const struct value *from, const struct value *to, int depth)
{
	uint32_t from_size, to_size, n = btype_array(from->type, &from_size), m = btype_array(to->type, &to_size);
	struct btype f = from->type, t = to->type;

	f.id = btf_array(type_of(&f))->type;
	t.id = btf_array(type_of(&t))->type;
	for (uint32_t i = 0; i < n && i < m; i++) {
		struct value in, out;
		if (!part_of(from, f, (uint64_t)i * from_size, from_size, &in) ||
		    !part_of(to, t, (uint64_t)i * to_size, to_size, &out))
			return MESH_E_UNSUPPORTED;
		int rc = convert(&in, &out, depth);
		if (rc)
			return rc;
	}
	return 0;
}

static int convert(const struct value *from, const struct value *to, int depth)
{
	struct btype ft = from->type, tt = to->type;
	const struct btf_type *f = type_of(&ft), *t = type_of(&tt);

	if (!f || !t || depth > DEPTH_MAX)
		return MESH_E_UNSUPPORTED;
	if (btf_is_struct(f) && btf_is_struct(t))
		return convert_struct(from, to, t, depth + 1);
	if (btf_is_array(f) && btf_is_array(t))
		return convert_array(from, to, depth + 1);
	if (!(btf_is_int(f) || btf_is_enum(f)) || !(btf_is_int(t) || btf_is_enum(t)) || f->size > from->n ||
	    t->size > to->n)
		return MESH_E_UNSUPPORTED;
	/* Little-endian, asserted in ebpf.c: the low bytes come first. */
	memcpy(to->p, from->p, f->size < t->size ? f->size : t->size);
	return 0;
}

int btf_convert(struct btype from, const void *in, struct btype to, void *out)
{
	long n = btype_size(from), m = btype_size(to);

	if (n < 0 || m < 0)
		return MESH_E_UNSUPPORTED;
	memset(out, 0, (size_t)m);
	return convert(&(struct value){ from, (uint8_t *)(uintptr_t)in, (size_t)n },
	               &(struct value){ to, out, (size_t)m }, 0);
}
