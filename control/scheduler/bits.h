/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   sets of node indexes, a bit each: sixty-four nodes a step, so that a choice among thousands reads a few
 *         hundred words. Grow as needed; what was never set is not in. Zero is an empty set.
 *         Private to control/scheduler.
 */
#ifndef CONTROL_SCHEDULER_BITS_H
#define CONTROL_SCHEDULER_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct bits {
	uint64_t *words;
	uint32_t n_words, count;
};

static inline uint64_t bits_word(const struct bits *b, size_t w)
{
	return w < b->n_words ? b->words[w] : 0;
}

static inline bool bits_has(const struct bits *b, uint32_t i)
{
	return bits_word(b, i / 64) >> (i % 64) & 1;
}

static inline void bits_set(struct bits *b, uint32_t i)
{
	if (i / 64 >= b->n_words) {
		uint32_t n = i / 64 + 1 > b->n_words * 2 ? i / 64 + 1 : b->n_words * 2;
		b->words = xrealloc(b->words, n * sizeof(*b->words));
		memset(b->words + b->n_words, 0, (n - b->n_words) * sizeof(*b->words));
		b->n_words = n;
	}
	b->count += !bits_has(b, i);
	b->words[i / 64] |= 1ull << (i % 64);
}

static inline void bits_clear(struct bits *b, uint32_t i)
{
	if (!bits_has(b, i))
		return;
	b->words[i / 64] &= ~(1ull << (i % 64));
	b->count--;
}

static inline void bits_fini(struct bits *b)
{
	free(b->words);
	*b = (struct bits){ 0 };
}

/* BITS_EACH(word, base, i) { use i }: the members of one word, whose first bit is base; it may change meanwhile. */
#define BITS_EACH(word, base, i)                                                                                       \
	for (uint64_t i##_left = (word); i##_left; i##_left &= i##_left - 1)                                           \
		for (uint32_t i = (base) + (uint32_t)__builtin_ctzll(i##_left), i##_once = 1; i##_once; i##_once = 0)

#endif
