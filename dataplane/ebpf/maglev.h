/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   Maglev lookup tables with weights. Pure, and a function of the set alone: every node that knows the same
 *         backends has the same table, whatever came before (docs/decisions/0008-tables-from-the-set.md).
 * Units:  tables have 1 << bits slots; 0 is an empty slot.
 */
#ifndef DATAPLANE_EBPF_MAGLEV_H
#define DATAPLANE_EBPF_MAGLEV_H

#include <stddef.h>
#include <stdint.h>

/* Few sizes, 4, 10, 12, 14 and 16 bits: another size deals everything anew. */
#define MAGLEV_BITS_MIN 4
#define MAGLEV_BITS_MAX 16

struct maglev_backend {
	uint64_t id;     /* names it on every node alike: decides its preferences */
	uint32_t weight; /* 0 = 1 */
	uint32_t value;  /* what its slots hold, nonzero, distinct */
};

/* Slots for n backends: at least 100 each up to 655 of them, and never more than 512 each. One alone has 16. */
unsigned maglev_bits(size_t n);

/* Fills out[1 << bits], every slot. n = 0 gives all zeros. */
void maglev_build(uint32_t *out, unsigned bits, const struct maglev_backend *b, size_t n);

#endif
