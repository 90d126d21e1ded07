/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/hset.h"

/* Eight bytes a step: keys here are binary, and often differ in their last bytes alone. */
static size_t hash_of(const void *key, size_t n)
{
	const uint8_t *p = key;
	uint64_t h = n, word;

	for (; n; p += sizeof(word), n -= n < sizeof(word) ? n : sizeof(word)) {
		word = 0;
		memcpy(&word, p, n < sizeof(word) ? n : sizeof(word));
		h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 32;
	}
	return (size_t)h;
}

static const void *key_of(const struct hset *h, const void *item)
{
	return (const char *)item + h->offset;
}

/* The place that holds key, or the free one where it would go. */
static size_t place_of(const struct hset *h, const void *key)
{
	size_t i = hash_of(key, h->key_size) & (h->cap - 1);

	while (h->at[i] && memcmp(key_of(h, h->at[i]), key, h->key_size) != 0)
		i = (i + 1) & (h->cap - 1);
	return i;
}

static void grow(struct hset *h)
{
	void **old = h->at;
	size_t n = h->cap;

	h->cap = n ? 2 * n : 16;
	h->at = xcalloc(h->cap, sizeof(*h->at));
	for (size_t i = 0; i < n; i++)
		if (old[i])
			h->at[place_of(h, key_of(h, old[i]))] = old[i];
	free(old);
}

void hset_fini(struct hset *h)
{
	free(h->at);
	h->at = NULL;
	h->cap = h->count = 0;
}

void *hset_get(const struct hset *h, const void *key)
{
	return h->cap ? h->at[place_of(h, key)] : NULL;
}

void *hset_put(struct hset *h, void *item)
{
	if (h->count * 4 >= h->cap * 3)
		grow(h);
	void **place = &h->at[place_of(h, key_of(h, item))], *old = *place;
	*place = item;
	h->count += !old;
	return old;
}

void *hset_del(struct hset *h, const void *key)
{
	if (!h->cap)
		return NULL;
	size_t hole = place_of(h, key), mask = h->cap - 1;
	void *old = h->at[hole];
	if (!old)
		return NULL;
	/* Who stands behind the hole and could stand in it, goes there: no tombs. */
	for (size_t i = (hole + 1) & mask; h->at[i]; i = (i + 1) & mask) {
		size_t home = hash_of(key_of(h, h->at[i]), h->key_size) & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		h->at[hole] = h->at[i];
		hole = i;
	}
	h->at[hole] = NULL;
	h->count--;
	return old;
}
