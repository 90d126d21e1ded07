// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hook: ingress of the node's own links. Takes in published ports and what other nodes tunnel here; anything else
 * passes after one lookup.
 */
#include "bpf/arrival.h"

static __noinline int on_packet(struct __sk_buff *skb)
{
	struct origin o = { .hops = 1 };
	struct packet p;
	struct abi_published port;

	if (skb->protocol != bpf_htons(ETH_P_IP) || parse4(skb, &p))
		return TC_ACT_UNSPEC;
	if (!has_ports(&p))
		return TC_ACT_UNSPEC;
	port = port_of(p.proto, p.dport);
	if (!is_published(port) || !is_host_addr(p.daddr))
		return TC_ACT_UNSPEC;
	return take_in(skb, &p, port, &o);
}

static __always_inline int from_uplink_path(struct __sk_buff *skb)
{
	struct arrival a;
	int rc;

	if (is_tunnelled(skb) && decapsulate(skb, &a)) {
		see_arrival(skb, a.node, a.vni);
		return arrived(skb, &a);
	}
	see(skb, HOOK_UPLINK);
	switch (special(skb)) {
	case SPECIAL_ICMP:
		rc = icmp_take_in(skb);
		break;
	case SPECIAL_FRAGMENT:
		rc = fragment_follow(skb, skb->ifindex, false);
		rc = rc == -1 ? TC_ACT_UNSPEC : rc;
		break;
	default:
		rc = on_packet(skb);
	}
	return see_pass(skb, rc);
}

MESH_PROGRAM(from_uplink, from_uplink_path)

char LICENSE[] SEC("license") = "GPL";
