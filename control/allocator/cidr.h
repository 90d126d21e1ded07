/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  IPv4 prefixes as numbers: parse, format, overlap. Pure values.
 * Units: addresses in host byte order.
 */
#ifndef CONTROL_ALLOCATOR_CIDR_H
#define CONTROL_ALLOCATOR_CIDR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct cidr {
	uint32_t base; /* host bits are zero */
	unsigned bits;
};
#define CIDR_TEXT_MAX 20

/* "10.0.1.0/24", host bits cleared; without a prefix /32. MESH_E_INVALID, MESH_E_UNSUPPORTED for IPv6. */
int cidr_parse(const char *text, struct cidr *out) MESH_MUST_CHECK;
/* "10.0.1.7" or "10.0.1.7/24": the address itself. */
int cidr_parse_addr(const char *text, uint32_t *out) MESH_MUST_CHECK;
const char *cidr_format(struct cidr c, char out[CIDR_TEXT_MAX]);
const char *cidr_format_addr(uint32_t addr, char out[CIDR_TEXT_MAX]);

static inline uint64_t cidr_size(struct cidr c)
{
	return 1ULL << (32 - c.bits);
}
static inline bool cidr_has(struct cidr c, uint32_t addr)
{
	return addr >= c.base && addr - c.base < cidr_size(c);
}
static inline bool cidr_overlap(struct cidr a, struct cidr b)
{
	return cidr_has(a, b.base) || cidr_has(b, a.base);
}

#endif
