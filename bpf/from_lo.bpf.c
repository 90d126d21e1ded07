// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hook: egress of lo: the host's own connections to its addresses and to 127.0.0.0/8. A task cannot answer a
 * loopback address: such clients appear to it as this node's address.
 */
#include "bpf/ingress.h"

static __noinline int on_packet(struct __sk_buff *skb)
{
	struct origin o = { .egress = 1 };
	struct packet p;
	struct abi_published port;

	if (skb->protocol != bpf_htons(ETH_P_IP) || parse4(skb, &p) || !has_ports(&p) || p.fragment)
		return TC_ACT_UNSPEC;
	port = port_of(p.proto, p.dport);
	if (!is_published(port) || (!is_loopback(p.daddr) && !is_host_addr(p.daddr)))
		return TC_ACT_UNSPEC;
	if (is_loopback(p.saddr))
		o.mac_flags = MAC_MASQ;
	return take_in(skb, &p, port, &o);
}

static __always_inline int from_lo_path(struct __sk_buff *skb)
{
	int rc = -1;

	see(skb, HOOK_LO);
	if (special(skb) == SPECIAL_FRAGMENT)
		rc = fragment_follow(skb, skb->ifindex, true);
	return see_pass(skb, rc == -1 ? on_packet(skb) : rc);
}

MESH_PROGRAM(from_lo, from_lo_path)

char LICENSE[] SEC("license") = "GPL";
