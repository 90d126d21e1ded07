/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What nf_tables, connection tracking and routing answer. The first byte chooses the decoder, the rest is one datagram.
 */
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dataplane/netlink/conntrack.h"
#include "dataplane/netlink/kern.h"
#include "dataplane/netlink/way.h"
#include "dataplane/nft/nft.h"
#include "dataplane/nft/read.h"

#define SEQ 7

static void found(const uint8_t *p, size_t n)
{
	struct nft_found f = { 0 };
	struct nft_reading r = { "mesh_lb", &f };
	struct nfnl_answer a = { .subsystem = NFNL_SUBSYS_NFTABLES, .seq = SEQ, .fn = nft_found_take, .arg = &r };
	(void)!nfnl_decode(p, n, &a);
	MAP_FOREACH(&f.elems, e)
		if (!strchr(e->key, '\n') || !e->value)
			abort();
	nft_found_fini(&f);
}

static void tracked(const uint8_t *p, size_t n)
{
	struct ct_flows flows = { 0 };
	struct nfnl_answer a = { .subsystem = NFNL_SUBSYS_CTNETLINK, .seq = SEQ, .fn = ct_take, .arg = &flows };
	(void)!nfnl_decode(p, n, &a);
	for (size_t i = 0; i < flows.len; i++)
		if (!dp_ip_is_v4(&flows.data[i].src) || !dp_ip_is_v4(&flows.data[i].answers))
			abort();
	vec_fini(&flows);
}

static void acks(const uint8_t *p, size_t n)
{
	if (nft_acks_decode(p, n, SEQ - 1, SEQ) > 1)
		abort();
}

/* Message by message, as the libraries hand them on. */
static void routes(const uint8_t *p, size_t n)
{
	int left = (int)n;
	for (const struct nlmsghdr *h = (const void *)p; nfnl_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		struct kern_route r;
		struct way w = { 0 };
		bool ipsec;
		(void)kern_route_decode(h, &r);
		(void)way_on_route(h, &w);
		(void)way_on_policies(h, &ipsec);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static void (*const all[])(const uint8_t *p, size_t n) = { found, tracked, acks, routes };
	if (!n || n > 65536)
		return 0;
	uint8_t *copy = malloc(n); /* aligned, and no byte more */
	memcpy(copy, p + 1, n - 1);
	all[p[0] % 4](copy, n - 1);
	free(copy);
	return 0;
}
