/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: ways out of an XDP program. All that can fail is asked before a frame is touched: what does not come to the
 *       end here is passed up as it came, and the tc program behind does the whole of it.
 * Sums: a frame that came from a socket of this machine (veth) may have its transport sum left to a device that it
 *       never meets here: is_unfinished().
 */
#ifndef BPF_XDP_H
#define BPF_XDP_H

#include "bpf/dial.h"

struct way_out {
	__u32 ifindex;
	bool turns; /* out of where it came in */
	__u8 dmac[ETH_ALEN], smac[ETH_ALEN];
};

static __always_inline __u8 link_flags(__u32 ifindex)
{
	struct abi_link *l = bpf_map_lookup_elem(&links, &ifindex);

	return l ? l->flags : 0;
}

/* Is the frame for the device it came by, and not seen because the device listens to everything? */
static __always_inline bool is_for_us(const ctx_t *ctx, const __u8 *dmac)
{
	__u32 ifindex = device_of(ctx);
	struct abi_link *l = bpf_map_lookup_elem(&links, &ifindex);

	return l && same_mac(l->mac, dmac);
}

/* Where IP packets of len bytes to dst leave, if a neighbour is known there and the device sends for us. */
static __always_inline bool find_out(ctx_t *ctx, __be32 src, __be32 dst, __u16 len, struct way_out *out)
{
	__u8 flags;

	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.tot_len = len,
		.ipv4_src = src,
		.ipv4_dst = dst,
		.ifindex = device_of(ctx),
	};

	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return false;
	out->ifindex = fib.ifindex;
	flags = link_flags(out->ifindex);
	out->turns = out->ifindex == device_of(ctx) && (flags & LINK_TURNS);
	if (!out->turns && !(flags & LINK_SENDS))
		return false;
	__builtin_memcpy(out->dmac, fib.dmac, ETH_ALEN);
	__builtin_memcpy(out->smac, fib.smac, ETH_ALEN);
	return true;
}

static __always_inline int send_out(ctx_t *ctx, const struct way_out *out)
{
	struct ethhdr *eth = data_of(ctx);

	if ((void *)(eth + 1) > end_of(ctx))
		return drop(DROP_MALFORMED);
	__builtin_memcpy(eth->h_dest, out->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, out->smac, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	count(&events, EVENT_XDP);
	return out->turns ? XDP_TX : (int)bpf_redirect(out->ifindex, 0);
}

/*
 * Whoever leaves a transport sum to a device puts the pseudo header's there for it to begin with. A finished sum looks
 * like that once in 65536 packets; the tc program, which knows, has those as well. The frame's TCP or UDP header is whole.
 */
static __always_inline bool is_unfinished(const struct iphdr *ip, const void *l4)
{
	__u16 len = bpf_ntohs(ip->tot_len) - ip->ihl * 4;
	__u64 sum = (__u64)ip->saddr + ip->daddr + bpf_htons(ip->protocol) + bpf_htons(len);
	__u16 check =
		ip->protocol == IPPROTO_TCP ? ((const struct tcphdr *)l4)->check : ((const struct udphdr *)l4)->check;

	return fold16(sum + (__u16)~check) == 0xffff;
}

#endif
