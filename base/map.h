/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   containers: a hash map from strings to pointers, and typed growable arrays.
 * Owner:  the map owns its keys, never its values.
 * Order:  iteration is in insertion order (deletions keep it), so decisions over a map are
 *         deterministic.
 */
#ifndef MESH_BASE_MAP_H
#define MESH_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct map_entry {
	char *key; /* NULL: deleted */
	void *value;
	uint32_t hash;
};
struct map {
	struct map_entry *entries; /* dense, insertion order */
	size_t len, cap;           /* used slots including deleted ones */
	size_t count;              /* live entries */
	uint32_t *index;           /* open addressing: entry number + 1, 0 = free */
	size_t index_cap;          /* power of two */
};

void map_fini(struct map *m);
/* NULL when absent. */
void *map_get(const struct map *m, const char *key);
bool map_has(const struct map *m, const char *key);
/* Inserts or replaces; returns the old value or NULL. */
void *map_put(struct map *m, const char *key, void *value);
/* Removes; returns the old value or NULL. Safe during MAP_EACH for the current entry. */
void *map_del(struct map *m, const char *key);

/* MAP_FOREACH(m, e) { use e->key, e->value; }  Inserting during iteration is not allowed. */
#define MAP_FOREACH(m, e)                                                                                              \
	for (struct map_entry *e = (m)->entries, *e##_end = (m)->entries + (m)->len; e < e##_end; e++)                 \
		if (e->key)

/* A typed array: struct VEC(int) v = {0}; vec_push(&v, 3); v.data[0]; vec_fini(&v). */
#define VEC(type)                                                                                                      \
	{                                                                                                              \
		type *data;                                                                                            \
		size_t len, cap;                                                                                       \
	}
#define vec_push(v, item)                                                                                              \
	do {                                                                                                           \
		if ((v)->len == (v)->cap) {                                                                            \
			(v)->cap = (v)->cap ? (v)->cap * 2 : 8;                                                        \
			(v)->data = xrealloc((v)->data, (v)->cap * sizeof(*(v)->data));                                \
		}                                                                                                      \
		(v)->data[(v)->len++] = (item);                                                                        \
	} while (0)
#define vec_fini(v)                                                                                                    \
	do {                                                                                                           \
		free((v)->data);                                                                                       \
		(v)->data = NULL;                                                                                      \
		(v)->len = (v)->cap = 0;                                                                               \
	} while (0)
/* Order-keeping removal. */
#define vec_remove(v, i)                                                                                               \
	do {                                                                                                           \
		memmove(&(v)->data[i], &(v)->data[(i) + 1], ((v)->len - (i)-1) * sizeof(*(v)->data));                  \
		(v)->len--;                                                                                            \
	} while (0)

/* FNV-1a, 32 and 64 bits. */
uint32_t hash32(const void *p, size_t n);
uint64_t hash64(const void *p, size_t n);

#endif
