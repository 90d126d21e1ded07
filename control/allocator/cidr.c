/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/allocator/cidr.h"

#include <stdio.h>

#include "dataplane/state.h"

static int parse(const char *text, uint32_t *addr, unsigned *bits)
{
	struct dp_ip ip;
	*bits = 128;
	if (!text || dp_ip_parse(text, &ip, bits))
		return MESH_E_INVALID;
	if (!dp_ip_is_v4(&ip))
		return MESH_E_UNSUPPORTED;
	*addr = (uint32_t)ip.b[12] << 24 | (uint32_t)ip.b[13] << 16 | (uint32_t)ip.b[14] << 8 | ip.b[15];
	if (*bits > 32)
		*bits = *bits >= 96 ? *bits - 96 : 32;
	return 0;
}

int cidr_parse(const char *text, struct cidr *out)
{
	uint32_t addr;
	unsigned bits;
	int rc = parse(text, &addr, &bits);
	if (rc)
		return rc;
	*out = (struct cidr){ .base = bits ? addr & (uint32_t)(0xffffffffULL << (32 - bits)) : 0, .bits = bits };
	return 0;
}

int cidr_parse_addr(const char *text, uint32_t *out)
{
	unsigned bits;
	return parse(text, out, &bits);
}

const char *cidr_format_addr(uint32_t a, char out[CIDR_TEXT_MAX])
{
	snprintf(out, CIDR_TEXT_MAX, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
	return out;
}

const char *cidr_format(struct cidr c, char out[CIDR_TEXT_MAX])
{
	snprintf(out, CIDR_TEXT_MAX, "%u.%u.%u.%u/%u", c.base >> 24, c.base >> 16 & 255, c.base >> 8 & 255,
	         c.base & 255, c.bits);
	return out;
}
