/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: IP fragments follow the first of their packet, which alone has ports; and packets no tunnel takes in one piece.
 *       Fragments that come before the first are lost, as they would be to any balancer that keeps no packets back.
 */
#ifndef BPF_FRAGMENT_H
#define BPF_FRAGMENT_H

#include "bpf/encap.h"
#include "bpf/handover.h"

static __always_inline struct abi_fragment_key fragment_key(const struct packet *p)
{
	return (struct abi_fragment_key){
		.saddr = p->saddr, .daddr = p->daddr, .ifindex = p->in, .id = p->id, .proto = p->proto
	};
}

/*
 * p was the first fragment and skb is what it has become, MACs and all: the others shall become the same. One of ifindex
 * (a task's) and node; neither: to a client.
 */
static __noinline void fragment_note(struct __sk_buff *skb, const struct packet *p, __u32 ifindex, __be32 node,
                                     __u32 vni)
{
	struct abi_fragment_key k = fragment_key(p);
	struct ethhdr *eth = data_of(skb);
	struct iphdr *ip = data_of(skb) + IP_OFF;

	if ((void *)(ip + 1) > end_of(skb))
		return;
	struct abi_fragment v = { .saddr = ip->saddr,
		                  .daddr = ip->daddr,
		                  .ifindex = ifindex,
		                  .node = node,
		                  .vni = vni,
		                  .hops = p->ttl - ip->ttl };
	copy_mac(v.dmac, eth->h_dest);
	copy_mac(v.smac, eth->h_source);
	insert(&fragments, TABLE_FRAGMENTS, &k, &v);
}

static int to_client(struct __sk_buff *skb, __be32 saddr, __be32 daddr);

/*
 * A later fragment goes where the first went; -1 when that is not known, NOT_KNOWN when the programs of before may know.
 * Called before anything else and not from the main path, whose frame would not fit on the stack beside this one.
 */
static __noinline int fragment_follow(struct __sk_buff *skb, __u32 in, bool egress)
{
	struct abi_fragment *f;
	struct packet p;

	if (parse4(skb, &p))
		return -1;
	p.in = in;
	struct abi_fragment_key k = fragment_key(&p);
	struct rewrite r = rewrite_of(&p);
	f = bpf_map_lookup_elem(&fragments, &k);
	if (!f)
		return phase() == PHASE_COPYING ? NOT_KNOWN : -1;
	if (f->hops && p.ttl <= f->hops)
		return drop(DROP_TTL);
	event(FRAGMENT);
	r.saddr = f->saddr;
	r.daddr = f->daddr;
	r.hops = f->hops;
	if (rewrite(skb, &p, &r))
		return drop(DROP_NAT);
	if (!f->ifindex && !f->node)
		return to_client(skb, f->saddr, f->daddr);
	if (set_macs(skb, f->dmac, f->smac))
		return drop(DROP_NAT);
	return f->ifindex ? to_task(skb, f->ifindex, f->dmac, egress) : to_node(skb, f->node, f->vni);
}

/* ---- too big ---- */

#define QUOTE (sizeof(struct iphdr) + 8)
struct too_big_reply {
	struct iphdr ip;
	struct icmp4 icmp;
	__u8 quote[QUOTE];
};
_Static_assert(sizeof(struct too_big_reply) == 56, "three headers and eight bytes");

/* "Fragmentation needed" to the sender, from the address it dialled, out where the packet came in. */
static __noinline int say_too_big(struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	struct too_big_reply m = {
		.ip = { .version = 4,
		        .ihl = 5,
		        .tot_len = bpf_htons(sizeof(m)),
		        .ttl = 64,
		        .protocol = IPPROTO_ICMP,
		        .saddr = p->daddr,
		        .daddr = p->saddr },
		.icmp = { .type = 3, .code = 4, .rest = bpf_htonl(mtu) },
	};

	if (L4_OFF(p) != IP_OFF + sizeof(struct iphdr) || bpf_skb_load_bytes(skb, IP_OFF, m.quote, QUOTE))
		return drop(DROP_NAT);
	m.ip.check = (__u16)~fold16((__u32)bpf_csum_diff(0, 0, (__be32 *)&m.ip, sizeof(m.ip), 0));
	m.icmp.check = (__u16)~fold16((__u32)bpf_csum_diff(0, 0, (__be32 *)&m.icmp, sizeof(m) - sizeof(m.ip), 0));
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(m), 0) || bpf_skb_store_bytes(skb, IP_OFF, &m, sizeof(m), 0) ||
	    set_macs(skb, p->smac, p->dmac))
		return drop(DROP_NAT);
	event(TOO_BIG);
	return bounce(skb);
}

#endif
