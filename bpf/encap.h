/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: tunnels of tc programs, in and out: by headers of our own, or through the VXLAN device.
 * Offload: a super-packet stays one. What was received as one keeps its tunnel's mark (skb->encapsulation,
 *       SKB_GSO_UDP_TUNNEL), which no program can take off: see may_open().
 */
#ifndef BPF_ENCAP_H
#define BPF_ENCAP_H

#include "bpf/tc.h"
#include "bpf/tunnel.h"

#define ENCAP_FLAGS                                                                                                    \
	(BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |              \
	 BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_FIXED_GSO)
#define DECAP_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

/* The verdict, -1, or FOR_DEVICE: then the packet is as it was. (In its callers' frames Linux 6.1 has too little stack.) */
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
	if (read_inner(skb, &in) || !fits(skb, way, in.heads))
		return FOR_DEVICE;
	ifindex = way->ifindex;
	nh.ipv4_nh = way->next_hop;
	if (bpf_skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, config.test_room ? DECAP_FLAGS : ENCAP_FLAGS))
		return FOR_DEVICE;
	if (write_outer(skb, &in, node, vni, next_id(skb, events_of())))
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
	event_add(EVENT_DECAP);
	data = data_of(skb);
	if (data + ETH_HLEN <= end_of(skb))
		__builtin_memcpy(data, mac, ETH_HLEN);
	return true;
}

#endif
