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

/*
 * A CPU goes on for this many ticks with the way it found to a node: asking routes and neighbours is half of what such
 * a packet costs. A neighbour that changed its MAC gets nothing so much longer; what userspace changes counts at once.
 */
#define WAY_TICKS 64

struct way_out {
	__u32 ifindex;
	__u32 mtu;  /* of the route; find_out() */
	bool turns; /* out of where it came in */
	__u8 dmac[ETH_ALEN] MAC, smac[ETH_ALEN] MAC;
};

/* As it is in force now: one of them needs no lookup. */
static __always_inline struct abi_link *link_of(struct abi_runtime *rt, __u32 ifindex)
{
	return rt->link_ifindex == ifindex ? &rt->link : bpf_map_lookup_elem(&links, &ifindex);
}

/* Is the frame for the device it came by, and not seen because the device listens to everything? */
static __always_inline bool is_for_us(const ctx_t *ctx, struct abi_runtime *rt, const void *dmac)
{
	struct abi_link *l = link_of(rt, device_of(ctx));

	return l && same_mac(l->mac, dmac);
}

/* Does the device send for us? */
static __always_inline bool sends(const ctx_t *ctx, struct abi_runtime *rt, struct way_out *out)
{
	struct abi_link *l = link_of(rt, out->ifindex);

	out->turns = l && out->ifindex == device_of(ctx) && (l->flags & LINK_TURNS);
	return out->turns || (l && (l->flags & LINK_SENDS));
}

/* Where IP packets of len bytes to dst leave, if a neighbour is known there and the device sends for us. */
static __always_inline bool find_out(ctx_t *ctx, struct abi_runtime *rt, __be32 src, __be32 dst, __u16 len,
                                     struct way_out *out)
{
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
	out->mtu = fib.mtu_result;
	copy_mac(out->dmac, fib.dmac);
	copy_mac(out->smac, fib.smac);
	return sends(ctx, rt, out);
}

/* Asks the tables of routes and neighbours. */
static __noinline bool learn_way(ctx_t *ctx, struct abi_way *w, __be32 node, __u32 generation)
{
	struct abi_runtime *rt = runtime_of();
	struct abi_node *n = node_of(node);
	struct way_out out;

	w->node = 0;
	if (!rt || !n || !n->ifindex || !find_out(ctx, rt, config.self.w[3], n->next_hop, 1, &out) ||
	    out.ifindex != n->ifindex)
		return false;
	w->in = device_of(ctx);
	w->generation = generation;
	w->ifindex = out.ifindex;
	w->mtu = out.mtu < n->mtu ? out.mtu : n->mtu;
	w->until = bpf_jiffies64() + WAY_TICKS;
	copy_mac(w->dmac, out.dmac);
	copy_mac(w->smac, out.smac);
	w->node = node;
	return true;
}

/* The way of a frame to a node, if nothing of it is the stack's. */
static __always_inline bool find_way(ctx_t *ctx, struct abi_runtime *rt, __be32 node, struct way_out *out)
{
	__u32 i = node * 0x9e3779b1U >> 24, generation = *(volatile __u32 *)&rt->ways;
	struct abi_way *w = bpf_map_lookup_elem(&ways, &i);

	if (!w)
		return false;
	if ((w->node != node || w->in != device_of(ctx) || w->generation != generation ||
	     bpf_jiffies64() >= w->until) &&
	    !learn_way(ctx, w, node, generation))
		return false;
	out->ifindex = w->ifindex;
	copy_mac(out->dmac, w->dmac);
	copy_mac(out->smac, w->smac);
	return len_of(ctx) + OUTER_LEN - ETH_HLEN <= w->mtu && sends(ctx, rt, out);
}

static __always_inline int send_out(ctx_t *ctx, const struct way_out *out)
{
	struct ethhdr *eth = data_of(ctx);

	if ((void *)(eth + 1) > end_of(ctx))
		return drop(DROP_MALFORMED);
	copy_mac(eth->h_dest, out->dmac);
	copy_mac(eth->h_source, out->smac);
	eth->h_proto = bpf_htons(ETH_P_IP);
	return out->turns ? XDP_TX : (int)bpf_redirect(out->ifindex, 0);
}

#endif
