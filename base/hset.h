/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   finds structs by a key of fixed size that they hold themselves: what a map of strings (base/map.h) is too
 *         large and too slow for.
 * Owner:  the set owns its index, never the structs. A struct that is in keeps its place and its key.
 * Order:  none. Nothing may be put or deleted while HSET_FOREACH goes over it.
 */
#ifndef MESH_BASE_HSET_H
#define MESH_BASE_HSET_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct hset {
	size_t offset, key_size; /* of the key in a struct */
	void **at;               /* open addressing, NULL = free */
	size_t cap, count;       /* cap: a power of two, or 0 */
};

#define HSET(type, key) ((struct hset){ .offset = offsetof(type, key), .key_size = sizeof(((type *)0)->key) })

void hset_fini(struct hset *h);
/* NULL when absent. */
void *hset_get(const struct hset *h, const void *key);
/* Inserts or replaces what has the same key; returns that or NULL. */
void *hset_put(struct hset *h, void *item);
/* Removes; returns what had the key or NULL. */
void *hset_del(struct hset *h, const void *key);

#define HSET_FOREACH(h, type, item)                                                                                    \
	for (size_t item##_i = 0; item##_i < (h)->cap; item##_i++)                                                     \
		for (type *item = (h)->at[item##_i]; item; item = NULL)

#endif
