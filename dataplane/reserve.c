/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/reserve.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dataplane/netlink/netns.h"

#define SYSCTL "net/ipv4/ip_local_reserved_ports"
#define TEXT_MAX 65536

int port_set_parse(const char *text, struct port_set *out)
{
	memset(out, 0, sizeof(*out));
	while (*text) {
		char *end;
		unsigned long lo, hi;
		if (!isdigit((unsigned char)*text))
			return MESH_E_INVALID;
		lo = hi = strtoul(text, &end, 10);
		if (*end == '-') {
			if (!isdigit((unsigned char)end[1]))
				return MESH_E_INVALID;
			hi = strtoul(end + 1, &end, 10);
		}
		if (lo > hi || hi > 65535 || (*end && *end != ','))
			return MESH_E_INVALID;
		for (; lo <= hi; lo++)
			port_set_add(out, (unsigned)lo);
		text = end + (*end == ',');
	}
	return 0;
}

void port_set_format(const struct port_set *s, struct buf *out)
{
	size_t start = out->len;
	for (unsigned p = 0; p < 65536; p++) {
		unsigned last = p;
		if (!port_set_has(s, p))
			continue;
		while (last < 65535 && port_set_has(s, last + 1))
			last++;
		buf_printf(out, "%s%u", out->len > start ? "," : "", p);
		if (last > p)
			buf_printf(out, "-%u", last);
		p = last;
	}
}

int reserve_apply(struct port_set *ours, const struct port_set *want)
{
	if (memcmp(ours, want, sizeof(*want)) == 0)
		return 0;
	CLEAN_FREE char *text = xcalloc(1, TEXT_MAX);
	struct port_set all;
	struct buf b = { 0 };
	int rc = sysctl_get(SYSCTL, text, TEXT_MAX);
	if (!rc)
		rc = port_set_parse(text, &all);
	if (rc)
		return rc;
	struct port_set added = *ours;
	for (size_t i = 0; i < sizeof(all.bits); i++) {
		all.bits[i] &= (uint8_t)~ours->bits[i];
		/* What an operator reserved as well is not ours to take away later. */
		added.bits[i] = want->bits[i] & (uint8_t)~all.bits[i];
		all.bits[i] |= want->bits[i];
	}
	port_set_format(&all, &b);
	buf_puts(&b, "\n");
	rc = sysctl_set(SYSCTL, buf_str(&b));
	buf_fini(&b);
	if (!rc)
		*ours = added;
	return rc;
}
