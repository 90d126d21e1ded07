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

static int convert(struct btype from, const uint8_t *in, struct btype to, uint8_t *out, int depth);

static int convert_struct(struct btype from, const uint8_t *in, struct btype to, const struct btf_type *b, uint8_t *out,
                          int depth)
{
	for (uint16_t i = 0; i < btf_vlen(b); i++) {
		const struct btf_member *m = &btf_members(b)[i];
		uint32_t at;
		const char *name = btf__name_by_offset(to.btf, m->name_off);
		struct btype f = name ? btype_member(from, name, &at) : (struct btype){ 0 };
		if (!f.id)
			continue;
		int rc = convert(f, in + at, (struct btype){ to.btf, m->type }, out + btf_member_bit_offset(b, i) / 8,
		                 depth);
		if (rc)
			return rc;
	}
	return 0;
}

static int convert_array(struct btype from, const uint8_t *in, struct btype to, uint8_t *out, int depth)
{
	uint32_t from_size, to_size, n = btype_array(from, &from_size), m = btype_array(to, &to_size);
	struct btype f = { from.btf, btf_array(type_of(&from))->type }, t = { to.btf, btf_array(type_of(&to))->type };

	for (uint32_t i = 0; i < n && i < m; i++) {
		int rc = convert(f, in + (size_t)i * from_size, t, out + (size_t)i * to_size, depth);
		if (rc)
			return rc;
	}
	return 0;
}

static int convert(struct btype from, const uint8_t *in, struct btype to, uint8_t *out, int depth)
{
	const struct btf_type *f = type_of(&from), *t = type_of(&to);

	if (!f || !t || depth > DEPTH_MAX)
		return MESH_E_UNSUPPORTED;
	if (btf_is_struct(f) && btf_is_struct(t))
		return convert_struct(from, in, to, t, out, depth + 1);
	if (btf_is_array(f) && btf_is_array(t))
		return convert_array(from, in, to, out, depth + 1);
	if (!(btf_is_int(f) || btf_is_enum(f)) || !(btf_is_int(t) || btf_is_enum(t)))
		return MESH_E_UNSUPPORTED;
	/* Little-endian, asserted in ebpf.c: the low bytes come first. */
	memcpy(out, in, f->size < t->size ? f->size : t->size);
	return 0;
}

int btf_convert(struct btype from, const void *in, struct btype to, void *out)
{
	long size = btype_size(to);

	if (size < 0 || btype_size(from) < 0)
		return MESH_E_UNSUPPORTED;
	memset(out, 0, (size_t)size);
	return convert(from, in, to, out, 0);
}
