/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   keeps the kernel from choosing a published port as the source port of one of the host's own
 *         connections, whose answers would then be taken for new clients (ip_local_reserved_ports).
 * Owner:  only the ports we added are taken away again; what an operator reserved stays. Ports of an earlier run
 *         that are published no more stay reserved until reboot: nothing tells them from an operator's.
 */
#ifndef DATAPLANE_RESERVE_H
#define DATAPLANE_RESERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct port_set {
	uint8_t bits[8192];
};
static inline bool port_set_has(const struct port_set *s, unsigned port)
{
	return s->bits[port / 8] >> (port % 8) & 1;
}
static inline void port_set_add(struct port_set *s, unsigned port)
{
	s->bits[port / 8] |= (uint8_t)(1u << (port % 8));
}

static inline void port_set_put(struct port_set *s, unsigned port, bool in)
{
	s->bits[port / 8] &= (uint8_t) ~(1u << (port % 8));
	if (in)
		port_set_add(s, port);
}

/* "8080,9000-9010"; MESH_E_INVALID. */
int port_set_parse(const char *text, struct port_set *out) MESH_MUST_CHECK;
void port_set_format(const struct port_set *s, struct buf *out);

/* Makes want reserved beside what others reserved. ours is what we added so far; updated. */
int reserve_apply(struct port_set *ours, const struct port_set *want) MESH_MUST_CHECK;

#endif
