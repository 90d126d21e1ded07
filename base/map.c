/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/map.h"

uint32_t hash32(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 16777619u;
	return h;
}

uint64_t hash64(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t h = 14695981039346656037ULL;
	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 1099511628211ULL;
	return h;
}

void map_fini(struct map *m)
{
	for (size_t i = 0; i < m->len; i++)
		free(m->entries[i].key);
	free(m->entries);
	free(m->index);
	*m = (struct map){ 0 };
}

/* The index slot that holds key, or the free one where it would go. */
static size_t slot_of(const struct map *m, const char *key, uint32_t hash)
{
	size_t mask = m->index_cap - 1;
	for (size_t i = hash & mask;; i = (i + 1) & mask) {
		uint32_t at = m->index[i];
		if (!at)
			return i;
		const struct map_entry *e = &m->entries[at - 1];
		if (e->key && e->hash == hash && strcmp(e->key, key) == 0)
			return i;
	}
}

/* Compacts deleted entries away and rebuilds an index with room for twice the live count. */
static void rebuild(struct map *m)
{
	size_t live = 0;
	for (size_t i = 0; i < m->len; i++)
		if (m->entries[i].key)
			m->entries[live++] = m->entries[i];
	m->len = live;
	size_t cap = 16;
	while (cap < (live + 1) * 3)
		cap *= 2;
	free(m->index);
	m->index = xcalloc(cap, sizeof(*m->index));
	m->index_cap = cap;
	for (size_t i = 0; i < live; i++) {
		size_t s = m->entries[i].hash & (cap - 1);
		while (m->index[s])
			s = (s + 1) & (cap - 1);
		m->index[s] = (uint32_t)i + 1;
	}
}

static struct map_entry *find(const struct map *m, const char *key)
{
	if (!m->count)
		return NULL;
	uint32_t at = m->index[slot_of(m, key, hash32(key, strlen(key)))];
	return at ? &m->entries[at - 1] : NULL;
}

void *map_get(const struct map *m, const char *key)
{
	struct map_entry *e = find(m, key);
	return e ? e->value : NULL;
}

bool map_has(const struct map *m, const char *key)
{
	return find(m, key) != NULL;
}

void *map_put(struct map *m, const char *key, void *value)
{
	struct map_entry *e = find(m, key);
	if (e) {
		void *old = e->value;
		e->value = value;
		return old;
	}
	/* Deleted entries keep their index slot until a rebuild, so len counts towards the load. */
	if ((m->len + 1) * 2 > m->index_cap)
		rebuild(m);
	if (m->len == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 8;
		m->entries = xrealloc(m->entries, m->cap * sizeof(*m->entries));
	}
	uint32_t hash = hash32(key, strlen(key));
	size_t s = slot_of(m, key, hash);
	m->entries[m->len] = (struct map_entry){ .key = xstrdup(key), .value = value, .hash = hash };
	m->index[s] = (uint32_t)++m->len;
	m->count++;
	return NULL;
}

void *map_del(struct map *m, const char *key)
{
	struct map_entry *e = find(m, key);
	if (!e)
		return NULL;
	void *old = e->value;
	free(e->key);
	*e = (struct map_entry){ 0 };
	if (--m->count == 0) {
		m->len = 0;
		memset(m->index, 0, m->index_cap * sizeof(*m->index));
	}
	return old;
}
