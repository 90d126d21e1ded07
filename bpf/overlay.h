/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the way to an endpoint of a network, and service addresses translated packet by packet. */
#ifndef BPF_OVERLAY_H
#define BPF_OVERLAY_H

#include "bpf/ingress.h"

/* What a task hears from a backend it dialled by VIP gets the VIP back as its source. 0, -1 or NOT_KNOWN. */
static __noinline int undo_vip(struct __sk_buff *skb, struct packet *p)
{
	struct abi_flow_key k = {
		.task = p->daddr,
		.peer = p->saddr,
		.tport = p->dport,
		.pport = p->sport,
		.proto = p->proto,
	};
	struct abi_flow *f = bpf_map_lookup_elem(&vip_flows, &k);
	struct rewrite r = rewrite_of(p);

	if (!f)
		return may_be_older(p) ? NOT_KNOWN : 0;
	r.saddr = f->dst;
	return rewrite(skb, p, &r);
}

/* Delivers to a task of this node. */
static __always_inline int to_endpoint(struct __sk_buff *skb, struct packet *p, struct abi_endpoint *ep)
{
	__u32 ifindex = ep->ifindex;
	__u8 mac[ETH_ALEN] MAC;

	if (!ifindex)
		return drop(DROP_NOT_LOCAL);
	copy_mac(mac, ep->mac);
	if (((ep->flags & ENDPOINT_VIP_FLOWS) || phase() == PHASE_COPYING) && has_ports(p) && !p->fragment) {
		int rc = undo_vip(skb, p);
		if (rc)
			return rc == NOT_KNOWN ? rc : drop(DROP_NAT);
		if (p->first) {
			(void)set_macs(skb, mac, 0);
			fragment_note(skb, p, ifindex, 0, 0);
		}
	}
	add_net_stats(skb, p, ep->backend, false);
	return to_task(skb, ifindex, mac, false);
}

#endif
