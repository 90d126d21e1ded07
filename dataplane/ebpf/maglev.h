/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   Maglev lookup tables with weights, built from the table that is in force: a slot whose owner stays
 *         and is within its quota does not move (the paper's full rebuild moves about half a percent of all
 *         flows for nothing). Pure; without an old table the result depends on the set alone.
 * Units:  tables have 1 << bits slots; 0 is an empty slot.
 */
#ifndef DATAPLANE_EBPF_MAGLEV_H
#define DATAPLANE_EBPF_MAGLEV_H

#include <stddef.h>
#include <stdint.h>

#define MAGLEV_BITS_MIN 8
#define MAGLEV_BITS_MAX 16

struct maglev_backend {
	uint64_t id;     /* names it on every node alike: decides its preferences */
	uint32_t weight; /* 0 = 1 */
	uint16_t value;  /* what its slots hold, nonzero, distinct */
};

/* Slots for n backends: at least 100 each, within the limits above. */
unsigned maglev_bits(size_t n);

/*
 * Fills out[1 << bits]. old (nullable) has 1 << old_bits slots, old_bits <= bits: it is read as if it had been
 * repeated to the new size, which keeps every flow where it is. n = 0 gives all zeros.
 */
void maglev_build(uint16_t *out, unsigned bits, const uint16_t *old, unsigned old_bits, const struct maglev_backend *b,
                  size_t n);

#endif
