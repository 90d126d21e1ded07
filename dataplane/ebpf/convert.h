/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   a value of one layout as another layout has it, by what BTF says of both: fields go by name, integers widen or
 *         narrow, what the other does not have is zero. Pure.
 * Bounds: the buffers have the size of their types (btype_size); what BTF says is inside them is checked to be. Types nest as
 *         deep as C code nests them.
 */
#ifndef DATAPLANE_EBPF_CONVERT_H
#define DATAPLANE_EBPF_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct btf;
struct btype {
	const struct btf *btf;
	uint32_t id;
};

/* A struct of that name; id 0 when there is none. */
struct btype btype_named(const struct btf *btf, const char *name);
/* Bytes; negative when unknown. */
long btype_size(struct btype t);
/* A member of a struct: its type and where it is; id 0 when there is none. Nothing for bit fields. */
struct btype btype_member(struct btype t, const char *name, uint32_t *offset);
/* Elements of an array type and the size of each; 0 when it is none. */
uint32_t btype_array(struct btype t, uint32_t *elem_size);

/* MESH_E_UNSUPPORTED when the two are of different kinds. */
int btf_convert(struct btype from, const void *in, struct btype to, void *out) MESH_MUST_CHECK;

#endif
