// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>

#include "base/mem.h"
#include "dataplane/ebpf/maglev.h"

struct member {
	const struct maglev_backend *b;
	uint32_t quota, have;
	uint32_t next, skip; /* its permutation: next, next + skip, ... */
	uint64_t rest;       /* what rounding down its quota lost */
};

unsigned maglev_bits(size_t n)
{
	unsigned bits = 10;

	if (n <= 1)
		return MAGLEV_BITS_MIN;
	while (bits < MAGLEV_BITS_MAX && n * 100 > (size_t)1 << bits)
		bits += 2;
	return bits;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static int by_id(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return x->b->id < y->b->id ? -1 : x->b->id > y->b->id;
}

static int by_rest(const void *a, const void *b)
{
	const struct member *x = *(struct member *const *)a, *y = *(struct member *const *)b;

	if (x->rest != y->rest)
		return x->rest > y->rest ? -1 : 1;
	return x->b->id < y->b->id ? -1 : x->b->id > y->b->id;
}

/* Shares of size by weight, largest remainder; nobody goes empty while there are slots for all. */
static void deal_quotas(struct member *m, size_t n, uint32_t size)
{
	CLEAN_FREE struct member **order = xcalloc(n, sizeof(*order));
	uint64_t total = 0;
	uint32_t dealt = 0;

	for (size_t i = 0; i < n; i++)
		total += m[i].b->weight ? m[i].b->weight : 1;
	for (size_t i = 0; i < n; i++) {
		uint64_t part = (uint64_t)size * (m[i].b->weight ? m[i].b->weight : 1);
		m[i].quota = (uint32_t)(part / total);
		m[i].rest = part % total;
		if (!m[i].quota && n <= size) {
			m[i].quota = 1;
			m[i].rest = 0;
		}
		dealt += m[i].quota;
		order[i] = &m[i];
	}
	qsort(order, n, sizeof(*order), by_rest);
	for (size_t i = 0; dealt < size; i = (i + 1) % n, dealt++)
		order[i]->quota++;
	/* Those lifted to one slot take it from the largest. */
	for (; dealt > size; dealt--) {
		struct member *most = m;
		for (size_t i = 1; i < n; i++)
			if (m[i].quota > most->quota)
				most = &m[i];
		most->quota--;
	}
}

/* In turn, each the next free slot of its permutation, until its quota is full. */
static void fill(uint32_t *out, uint32_t size, struct member *m, size_t n)
{
	uint32_t empty = size;

	while (empty)
		for (size_t i = 0; i < n && empty; i++) {
			if (m[i].have == m[i].quota)
				continue;
			while (out[m[i].next])
				m[i].next = (m[i].next + m[i].skip) & (size - 1);
			out[m[i].next] = m[i].b->value;
			m[i].have++;
			empty--;
		}
}

void maglev_build(uint32_t *out, unsigned bits, const struct maglev_backend *b, size_t n)
{
	uint32_t size = 1u << bits;

	memset(out, 0, size * sizeof(*out));
	if (!n)
		return;
	CLEAN_FREE struct member *m = xcalloc(n, sizeof(*m));
	for (size_t i = 0; i < n; i++)
		m[i].b = &b[i];
	qsort(m, n, sizeof(*m), by_id);
	for (size_t i = 0; i < n; i++) {
		m[i].next = (uint32_t)mix(m[i].b->id) & (size - 1);
		m[i].skip = ((uint32_t)mix(m[i].b->id ^ 0x5851f42d4c957f2dULL) | 1) & (size - 1);
	}
	deal_quotas(m, n, size);
	fill(out, size, m, n);
}
