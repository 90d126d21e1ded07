/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: outer Ethernet, IPv4, UDP and VXLAN headers: written, and known again. How room is made and sent on differs:
 *       bpf/encap.h for tc, bpf/xdp.h.
 * Sent: by way of the node's entry in "nodes" (device and next hop, which userspace looks up). Not fragmented: what
 *       does not fit the way's MTU is the VXLAN device's to cut, whose frames on the wire are the same.
 */
#ifndef BPF_TUNNEL_H
#define BPF_TUNNEL_H

#include "bpf/packet.h"

struct vxlan_head {
	__be32 flags, vni;
};
#define VXLAN_HAS_VNI bpf_htonl(0x08000000)

enum {
	OUTER_UDP = IP_OFF + sizeof(struct iphdr),
	OUTER_VXLAN = OUTER_UDP + sizeof(struct udphdr),
	OUTER_LEN = OUTER_VXLAN + sizeof(struct vxlan_head), /* the inner frame begins here */
};
_Static_assert(OUTER_LEN == 50, "outer headers");

/* Inner source MAC of what an ingress sends on; destination MAC of answers: bpf/ingress.h. */
enum { MAC_MARK = 0x4c, MAC_HOP = 1, MAC_MASQ = 2 };
static const __u8 reply_mac[ETH_ALEN] MAC = { 0x02, 0x50, 0, 0, 0, 1 };

static __always_inline bool is_answer_mac(const __u8 *mac)
{
	return mac[0] == reply_mac[0] && mac[1] == reply_mac[1];
}

enum { ECN_MASK = 3, ECN_ECT0 = 2, ECN_CE = 3 };

static __always_inline __u32 ingress_vni(void)
{
	struct abi_runtime *rt = runtime_of();

	return rt ? rt->ingress_vni : 0;
}

static __always_inline struct abi_node *node_of(__be32 a)
{
	struct abi_addr key = addr4(a);
	__u32 i = ABI_NEAR_SLOT(a);
	struct abi_node *n = bpf_map_lookup_elem(&near, &i);

	return n && n->addr == a && a ? n : bpf_map_lookup_elem(&nodes, &key);
}

static __always_inline bool is_node(__be32 a)
{
	return node_of(a) != 0;
}

/* ---- out ---- */

/* What the outer headers take from the frame they go around. */
struct inner {
	struct ethhdr eth;
	__u8 ecn;
	__u16 heads; /* up to the payload that offload cuts */
	__u32 hash;
};

static __always_inline int read_inner(ctx_t *ctx, struct inner *in)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + IP_OFF;
	__u8 *l4 = (void *)(ip + 1);

	if ((void *)l4 > end)
		return -1;
	if (!ETH_STAYS)
		__builtin_memcpy(&in->eth, data, ETH_HLEN);
	in->ecn = ip->tos & ECN_MASK;
	in->hash = ip->saddr * 0x9e3779b1U ^ ip->daddr * 0x85ebca77U;
	in->heads = IP_OFF + ip->ihl * 4 + sizeof(struct udphdr);
	if (ip->ihl == 5 && (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) &&
	    !(ip->frag_off & bpf_htons(0x3fff)) && (void *)(l4 + 13) <= end) {
		in->hash ^= *(__u32 *)l4 * 0xc2b2ae3dU;
		if (ip->protocol == IPPROTO_TCP)
			in->heads = IP_OFF + sizeof(*ip) + (l4[12] >> 4) * 4;
	}
	in->hash *= 0x9e3779b1U;
	return 0;
}

/* In one piece (or one super-packet) on this way? heads: of each packet of a super-packet. */
static __always_inline bool fits(const ctx_t *ctx, const struct abi_node *way, __u32 heads)
{
	__u32 len = len_of(ctx) + OUTER_LEN - ETH_HLEN;

	if (len > 0xffff)
		return false;
	if (len <= way->mtu)
		return true;
	return segment_of(ctx) && segment_of(ctx) + heads + OUTER_LEN - ETH_HLEN <= way->mtu;
}

static __always_inline __u32 sum_half(__be32 x)
{
	return (x >> 16) + (x & 0xffff);
}

/* The node counts what it sends this way; the count names datagrams should a router have to cut them. */
static __always_inline __u16 next_id(const ctx_t *ctx, struct abi_events *ev)
{
	if (!ev)
		return 0;
	ev->n[EVENT_ENCAP] += packets_of(ctx);
	return (__u16)(ev->n[EVENT_ENCAP] + bpf_get_smp_processor_id() * 0x3d09);
}

static __always_inline int write_outer(ctx_t *ctx, const struct inner *in, __be32 node, __u32 vni, __u16 id)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + IP_OFF;
	struct udphdr *udp = data + OUTER_UDP;
	struct vxlan_head *vx = data + OUTER_VXLAN;
	__u16 *eth = data + OUTER_LEN;
	__u16 len = (__u16)(len_of(ctx) - ETH_HLEN);

	if (data + OUTER_LEN + ETH_HLEN > end)
		return -1;
	__u8 tos = in->ecn == ECN_CE ? ECN_ECT0 : in->ecn;
	*(__be32 *)ip = bpf_htonl(0x45000000U | (__u32)tos << 16 | len);
	*((__be32 *)ip + 1) = bpf_htonl((__u32)id << 16);
	*((__be32 *)ip + 2) = bpf_htonl(64U << 24 | IPPROTO_UDP << 16);
	ip->saddr = config.self.w[3];
	ip->daddr = node;
	__u64 sum = (__u64) * (__be32 *)ip + *((__be32 *)ip + 1) + *((__be32 *)ip + 2) + ip->saddr + ip->daddr;
	ip->check = (__u16)~fold16(sum);
	udp->source = bpf_htons((__u16)(0x8000 | in->hash >> 17));
	udp->dest = config.tunnel_port;
	udp->len = bpf_htons((__u16)(len - sizeof(*ip)));
	udp->check = 0;
	vx->flags = VXLAN_HAS_VNI;
	vx->vni = bpf_htonl(vni << 8);
	if (ETH_STAYS)
		return 0;
	__builtin_memcpy(eth, &in->eth, ETH_HLEN);
	/* Where the device gave the sum of the whole packet, what was added belongs to it; an IP header sums to nothing. */
	sum = (__u64)udp->source + udp->dest + udp->len + sum_half(vx->flags) + sum_half(vx->vni);
	for (int i = 0; i < ETH_HLEN / 2; i++)
		sum += eth[i];
	grown(ctx, fold32(sum));
	return 0;
}

static __always_inline __u32 tunnel_mtu(void)
{
	struct abi_runtime *rt = runtime_of();

	return rt ? rt->tunnel_mtu : 0;
}

/* One that may be cut to pieces on its way is nobody's problem; of a super-packet, each of its packets counts. */
static __always_inline bool too_big(ctx_t *ctx, const struct packet *p, __u32 mtu)
{
	__u32 size = segment_of(ctx);

	if (!p->df || len_of(ctx) <= mtu + ETH_HLEN)
		return false;
	size = size ? size + L4_OFF(p) + (p->proto == IPPROTO_TCP ? 20 : 8) : len_of(ctx);
	return mtu && size > mtu + ETH_HLEN;
}

/* ---- in ---- */

static __always_inline bool is_outer(const ctx_t *ctx, const struct iphdr *ip, const struct udphdr *udp,
                                     const struct vxlan_head *vx)
{
	const __be32 *w = (const void *)ip;
	__u16 len = bpf_ntohs(ip->tot_len);

	/* 45: no options. Fragments and marks of congestion are the stack's. */
	if (*(const __u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP || udp->dest != config.tunnel_port ||
	    ip->daddr != config.self.w[3])
		return false;
	if ((ip->frag_off & bpf_htons(0x3fff)) || (ip->tos & ECN_MASK) == ECN_CE || udp->check ||
	    len + ETH_HLEN != len_of(ctx) || bpf_ntohs(udp->len) + sizeof(*ip) != len)
		return false;
	if (vx->flags != VXLAN_HAS_VNI || (vx->vni & bpf_htonl(0xff)))
		return false;
	return fold16((__u64)w[0] + w[1] + w[2] + w[3] + w[4]) == 0xffff;
}

struct arrival {
	__be32 node;
	__u32 vni;
};

/* Asked of every packet that comes in: is it worth a look? */
static __always_inline bool is_tunnelled(ctx_t *ctx)
{
	pull(ctx, OUTER_VXLAN);
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + IP_OFF;
	struct udphdr *udp = data + OUTER_UDP;

	return (void *)(udp + 1) <= end && ip->protocol == IPPROTO_UDP && udp->dest == config.tunnel_port &&
	       protocol_of(ctx) == bpf_htons(ETH_P_IP);
}

#endif
