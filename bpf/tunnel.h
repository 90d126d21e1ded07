/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: to another node and from it. Outer Ethernet, IPv4, UDP and VXLAN headers are written and stripped here; what
 *       these functions do not take goes through the VXLAN device, whose frames on the wire are the same.
 * Sent: by way of the node's entry in "nodes" (device and next hop, which userspace looks up); the neighbour's
 *       address is the kernel's business. Not fragmented: what does not fit the way's MTU is the device's to cut.
 * Offload: a super-packet stays one. What was received as one keeps its tunnel's mark (skb->encapsulation,
 *       SKB_GSO_UDP_TUNNEL), which no program can take off: see may_open().
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

#define ENCAP_FLAGS                                                                                                    \
	(BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |              \
	 BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_FIXED_GSO)
#define DECAP_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

/* Inner source MAC of what an ingress sends on; destination MAC of answers: bpf/ingress.h. */
enum { MAC_MARK = 0x4c, MAC_HOP = 1, MAC_MASQ = 2 };
static const __u8 reply_mac[ETH_ALEN] = { 0x02, 0x50, 0, 0, 0, 1 };

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

	return bpf_map_lookup_elem(&nodes, &key);
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

static __always_inline int read_inner(struct __sk_buff *skb, struct inner *in)
{
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + IP_OFF;
	__u8 *l4 = (void *)(ip + 1);

	if ((void *)l4 > end)
		return -1;
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

/* In one piece (or one super-packet) on this way? */
static __always_inline bool fits(const struct __sk_buff *skb, const struct abi_node *way, const struct inner *in)
{
	__u32 len = skb->len + OUTER_LEN - ETH_HLEN;

	if (len > 0xffff)
		return false;
	if (len <= way->mtu)
		return true;
	return skb->gso_size && skb->gso_size + in->heads + OUTER_LEN - ETH_HLEN <= way->mtu;
}

static __always_inline __u32 sum_half(__be32 x)
{
	return (x >> 16) + (x & 0xffff);
}

/* The node counts what it sends this way; the count names datagrams should a router have to cut them. */
static __always_inline __u16 next_id(struct __sk_buff *skb)
{
	__u32 i = EVENT_ENCAP;
	__u64 *n = bpf_map_lookup_elem(&events, &i);

	if (!n)
		return 0;
	*n += skb->gso_segs > 1 ? skb->gso_segs : 1;
	return (__u16)(*n + bpf_get_smp_processor_id() * 0x3d09);
}

static __always_inline int write_outer(struct __sk_buff *skb, const struct inner *in, __be32 node, __u32 vni, __u16 id)
{
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + IP_OFF;
	struct udphdr *udp = data + OUTER_UDP;
	struct vxlan_head *vx = data + OUTER_VXLAN;
	__u16 *eth = data + OUTER_LEN;
	__u16 len = (__u16)(skb->len - ETH_HLEN);

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
	__builtin_memcpy(eth, &in->eth, ETH_HLEN);
	/* Where the device gave the sum of the whole packet, what was added belongs to it; an IP header sums to nothing. */
	sum = (__u64)udp->source + udp->dest + udp->len + sum_half(vx->flags) + sum_half(vx->vni);
	for (int i = 0; i < ETH_HLEN / 2; i++)
		sum += eth[i];
	bpf_csum_update(skb, fold32(sum));
	return 0;
}

/* The verdict, -1, or FOR_DEVICE: then the packet is as it was. */
#define FOR_DEVICE (-2)
static __attribute__((noinline, unused)) int encapsulate(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	struct bpf_redir_neigh nh = { .nh_family = AF_INET };
	struct abi_runtime *rt = runtime_of();
	struct abi_node *way = node_of(node);
	struct inner in;
	__u32 ifindex;

	if (!rt || rt->via_device || !way || !way->ifindex)
		return FOR_DEVICE;
	if (read_inner(skb, &in) || !fits(skb, way, &in))
		return FOR_DEVICE;
	ifindex = way->ifindex;
	nh.ipv4_nh = way->next_hop;
	if (bpf_skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, ENCAP_FLAGS))
		return FOR_DEVICE;
	if (write_outer(skb, &in, node, vni, next_id(skb)))
		return -1;
	return bpf_redirect_neigh(ifindex, &nh, sizeof(nh), 0);
}

static __attribute__((noinline, unused)) int to_device(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = vni,
		.remote_ipv4 = bpf_ntohl(node),
		.tunnel_ttl = 64,
	};

	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), config.zero_csum ? BPF_F_ZERO_CSUM_TX : 0))
		return -1;
	return bpf_redirect(config.vxlan_ifindex, 0);
}

/* Functions one after the other, and drop() by who calls them: one above the other their frames would not fit the stack. */
static __always_inline int to_node(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	int rc;

	see_node(skb, node, vni);
	rc = encapsulate(skb, node, vni);
	if (rc == FOR_DEVICE)
		rc = to_device(skb, node, vni);
	return rc < 0 ? drop(DROP_TUNNEL) : rc;
}

/* ---- in ---- */

/*
 * A super-packet keeps its tunnel's mark. Its task's stack does not mind with TCP; a device that cuts TCP on the way
 * to a client would, and so does the stack with UDP. Those go through the device.
 */
static __always_inline bool may_open(const struct __sk_buff *skb, const struct ethhdr *eth, const struct iphdr *ip)
{
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return false;
	if (!skb->gso_size)
		return true;
	return ip->protocol == IPPROTO_TCP && !is_answer_mac(eth->h_dest);
}

static __always_inline bool is_outer(const struct __sk_buff *skb, const struct iphdr *ip, const struct udphdr *udp,
                                     const struct vxlan_head *vx)
{
	const __be32 *w = (const void *)ip;
	__u16 len = bpf_ntohs(ip->tot_len);

	/* 45: no options. Fragments and marks of congestion are the stack's. */
	if (*(const __u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP || udp->dest != config.tunnel_port ||
	    ip->daddr != config.self.w[3])
		return false;
	if ((ip->frag_off & bpf_htons(0x3fff)) || (ip->tos & ECN_MASK) == ECN_CE || udp->check ||
	    len + ETH_HLEN != skb->len || bpf_ntohs(udp->len) + sizeof(*ip) != len)
		return false;
	if (vx->flags != VXLAN_HAS_VNI || (vx->vni & bpf_htonl(0xff)))
		return false;
	return fold16((__u64)w[0] + w[1] + w[2] + w[3] + w[4]) == 0xffff;
}

struct arrival {
	__be32 node;
	__u32 vni;
};

/* True: it was one of a tunnel to us, and skb is now the frame inside. False: it is as it was. */
static __always_inline bool decapsulate(struct __sk_buff *skb, struct arrival *a)
{
	__u8 mac[ETH_HLEN];

	pull(skb, OUTER_LEN + ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr));
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + IP_OFF;
	struct vxlan_head *vx = data + OUTER_VXLAN;
	struct ethhdr *eth = data + OUTER_LEN;
	struct iphdr *inner = (void *)(eth + 1);
	struct abi_runtime *rt = runtime_of();

	if ((void *)(inner + 1) > end || !is_outer(skb, ip, data + OUTER_UDP, vx) || !may_open(skb, eth, inner))
		return false;
	/* Of a hand-over, what we do not know must go on to the program of before as it came. */
	if (config.handover || !rt || rt->via_device || skb->pkt_type == PACKET_OTHERHOST)
		return false;
	a->node = ip->saddr;
	a->vni = bpf_ntohl(vx->vni) >> 8;
	__builtin_memcpy(mac, eth, ETH_HLEN);
	if (bpf_skb_adjust_room(skb, -OUTER_LEN, BPF_ADJ_ROOM_MAC, DECAP_FLAGS))
		return false;
	/* What was verified outside says nothing about the inside. */
	bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
	count(&events, EVENT_DECAP);
	data = data_of(skb);
	if (data + ETH_HLEN <= end_of(skb))
		__builtin_memcpy(data, mac, ETH_HLEN);
	return true;
}

/* Asked of every packet that comes in: is it worth a look? */
static __always_inline bool is_tunnelled(struct __sk_buff *skb)
{
	pull(skb, OUTER_VXLAN);
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + IP_OFF;
	struct udphdr *udp = data + OUTER_UDP;

	return (void *)(udp + 1) <= end && ip->protocol == IPPROTO_UDP && udp->dest == config.tunnel_port &&
	       skb->protocol == bpf_htons(ETH_P_IP);
}

#endif
