/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   would this machine's nftables ruleset drop a packet, and which rule? Pure, over the ruleset as "nft -j" prints
 *         it. What a rule asks that is not known here (sets, marks, limits, maps) makes its verdict a "maybe".
 * Limit:  rules of iptables-legacy and of other machines are not in the ruleset.
 */
#ifndef CONTROL_API_FIREWALL_H
#define CONTROL_API_FIREWALL_H

#include <jansson.h>

#include "base/buf.h"

struct fw_packet {
	const char *hook;     /* "input", "output", ... */
	const char *protocol; /* "tcp", "udp" */
	unsigned dport;
	const char *saddr, *daddr; /* IPv4 text */
};
struct fw_finding {
	char where[160]; /* "table inet filter, chain input" */
	char text[256];  /* "udp dport 4789 drop", "policy drop" */
	bool maybe;
};
/* The first chain of the hook that drops it, by priority; false: none does. mark: our own tables, not looked at. */
bool firewall_drops(const json_t *ruleset, const struct fw_packet *p, const char *mark, struct fw_finding *out);

#endif
