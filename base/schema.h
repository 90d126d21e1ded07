/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   one table per struct drives everything that must know its fields: the binary encoding
 *         (Raft log, snapshots, frames between nodes), JSON (control/model/json.h), deep copy,
 *         comparison and freeing. No field is handled by hand twice.
 * Format: the binary form is a sequence of (varint tag << 3 | wire type) and value, as protobuf lays it
 *         out: 0 varint (zigzag for signed), 1 eight bytes little endian, 2 length and bytes. Zero
 *         values are left out; unknown tags are skipped, so that versions mix.
 * Owner:  an object owns every char *, list and pointer its table names. sch_clear frees them and zeroes
 *         the struct; the struct itself belongs to whoever holds it.
 * Errors: sch_decode of foreign bytes is bounded (depth, counts, lengths) and gives MESH_E_CORRUPT.
 */
#ifndef MESH_BASE_SCHEMA_H
#define MESH_BASE_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Fields that are absent or present, whatever their value. */
struct opt_i64 {
	bool set;
	int64_t v;
};
struct opt_u64 {
	bool set;
	uint64_t v;
};
struct opt_bool {
	bool set;
	bool v;
};
/* A list of strings, and a list of pairs kept in the order given (maps of labels, options). */
struct str_list {
	char **v;
	size_t n;
};
struct str_pair {
	char *key, *value;
};
struct str_map {
	struct str_pair *v;
	size_t n;
};
struct bytes {
	uint8_t *p;
	size_t n;
};
/* A list of structs: v points to n consecutive objects of the sub-schema. Declared per type. */
#define SCH_LIST(type)                                                                                                 \
	struct {                                                                                                       \
		type *v;                                                                                               \
		size_t n;                                                                                              \
	}

enum sch_type {
	SCH_BOOL,     /* bool */
	SCH_U8,       /* uint8_t */
	SCH_U16,      /* uint16_t */
	SCH_U32,      /* uint32_t */
	SCH_U64,      /* uint64_t */
	SCH_I64,      /* int64_t */
	SCH_F64,      /* double */
	SCH_TIME,     /* int64_t ns since 1970; RFC 3339 in JSON */
	SCH_OPT_I64,  /* struct opt_i64 */
	SCH_OPT_U64,  /* struct opt_u64 */
	SCH_OPT_BOOL, /* struct opt_bool */
	SCH_STR,      /* char *, NULL = empty */
	SCH_ID,       /* char[26] or an id struct */
	SCH_ENUM,     /* int; names in .names, text in JSON */
	SCH_BYTES,    /* struct bytes; base64 in JSON */
	SCH_STRS,     /* struct str_list */
	SCH_MAP,      /* struct str_map */
	SCH_OBJ,      /* embedded struct of .sub */
	SCH_PTR,      /* pointer to struct of .sub, NULL = absent */
	SCH_LIST_OF,  /* SCH_LIST(struct of .sub) */
};

enum sch_flag {
	SCH_ALWAYS = 1 << 0,   /* JSON: written even when empty ({} / [] / "" / 0) */
	SCH_NULL = 1 << 1,     /* JSON: written as null when empty */
	SCH_INTERNAL = 1 << 2, /* never in JSON, neither way */
	SCH_READONLY = 1 << 3, /* JSON: written, ignored when read */
	SCH_SECRET = 1 << 4,   /* JSON: read, never written */
	SCH_INLINE = 1 << 5,   /* SCH_OBJ: its fields stand in the parent's JSON object */
};

struct sch_enum {
	const char *const *names; /* text of each value; NULL entry = not a value */
	size_t n;
};

struct schema;
struct sch_field {
	uint16_t tag; /* unique in its schema, never reused */
	uint8_t type, flags;
	const char *name; /* JSON key */
	size_t off;
	const struct schema *sub;
	const struct sch_enum *names;
};
struct schema {
	const char *name; /* for messages */
	size_t size;
	const struct sch_field *fields;
	size_t n;
};

/*
 * Tables are written with  #define T struct md_x  and one line a field:
 *   SF(1, STR, "Name", name, SCH_ALWAYS), SF_OBJ(2, "Spec", spec, &md_spec_schema, 0), ...
 */
#define SF(tag_, type_, json_, member_, flags_)                                                                        \
	{                                                                                                              \
		.tag = (tag_), .type = SCH_##type_, .flags = (flags_), .name = (json_), .off = offsetof(T, member_)    \
	}
#define SF_ENUM(tag_, json_, member_, names_, flags_)                                                                  \
	{                                                                                                              \
		.tag = (tag_), .type = SCH_ENUM, .flags = (flags_), .name = (json_), .off = offsetof(T, member_),      \
		.names = (names_)                                                                                      \
	}
#define SF_SUB(tag_, type_, json_, member_, sub_, flags_)                                                              \
	{                                                                                                              \
		.tag = (tag_), .type = SCH_##type_, .flags = (flags_), .name = (json_), .off = offsetof(T, member_),   \
		.sub = (sub_)                                                                                          \
	}
#define SF_OBJ(tag_, json_, member_, sub_, flags_) SF_SUB(tag_, OBJ, json_, member_, sub_, flags_)
#define SF_PTR(tag_, json_, member_, sub_, flags_) SF_SUB(tag_, PTR, json_, member_, sub_, flags_)
#define SF_LIST(tag_, json_, member_, sub_, flags_) SF_SUB(tag_, LIST_OF, json_, member_, sub_, flags_)
#define SCHEMA(var_, type_, fields_)                                                                                   \
	const struct schema var_ = { .name = #type_,                                                                   \
		                     .size = sizeof(struct type_),                                                     \
		                     .fields = (fields_),                                                              \
		                     .n = sizeof(fields_) / sizeof((fields_)[0]) }

/* A zeroed object on the heap, and its end: free(clear(obj)). NULL is fine for sch_free. */
void *sch_new(const struct schema *s);
void sch_free(const struct schema *s, void *obj);
void sch_clear(const struct schema *s, void *obj);
/* dst is overwritten, not cleared first. */
void sch_copy(const struct schema *s, void *dst, const void *src);
void *sch_dup(const struct schema *s, const void *src);
bool sch_equal(const struct schema *s, const void *a, const void *b);
/* Is every field zero or empty? */
bool sch_empty(const struct schema *s, const void *obj);
/* One field. */
bool sch_field_empty(const struct sch_field *f, const void *obj);

void sch_encode(const struct schema *s, const void *obj, struct buf *out);
/* obj must be zeroed; on error it holds what was read and must still be cleared. */
int sch_decode(const struct schema *s, void *obj, const void *p, size_t n) MESH_MUST_CHECK;

/* Appends a zeroed element to a SCH_LIST and returns it. size is the element's. */
void *sch_list_add(void *list, size_t size);
#define LIST_ADD(l) ((__typeof__((l)->v))sch_list_add((l), sizeof(*(l)->v)))

void strs_add(struct str_list *l, const char *s);
void strs_clear(struct str_list *l);
bool strs_has(const struct str_list *l, const char *s);
/* NULL when absent. */
const char *smap_get(const struct str_map *m, const char *key);
void smap_set(struct str_map *m, const char *key, const char *value);
void smap_clear(struct str_map *m);
void bytes_set(struct bytes *b, const void *p, size_t n);
/* Replaces an owned string. */
void str_set(char **dst, const char *s);

/* Index of text in an enum, or -1. The empty string is value 0 when allow_empty. */
int sch_enum_parse(const struct sch_enum *e, const char *text);

#endif
