/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    rewriting a packet, and the ways out of a tc program.
 * Offload: packets may be GSO super-packets and CHECKSUM_PARTIAL; layer 4 sums change through the helpers
 *          that know, the IP header's own sum by arithmetic.
 */
#ifndef BPF_TC_H
#define BPF_TC_H

#include "bpf/packet.h"

static const __u8 zero_mac[ETH_ALEN] MAC = {};

/*
 * Asked first, by programs whose main path is a function beside these: together their frames would be more than
 * the 512 bytes of stack there are.
 */
static __always_inline bool is_icmp(struct __sk_buff *skb)
{
	struct iphdr *ip;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return false;
	pull(skb, IP_OFF + sizeof(*ip));
	ip = data_of(skb) + IP_OFF;
	return (void *)(ip + 1) <= end_of(skb) && ip->protocol == IPPROTO_ICMP;
}

/*
 * The transport sum by arithmetic, where nobody is to finish it: addrs and ports are what is added. False: it is for the
 * kernel's helpers, each of which costs as much as a hot lookup.
 */
static __always_inline bool sum_in_place(struct __sk_buff *skb, const struct packet *p, __u32 addrs, __u32 ports)
{
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + IP_OFF;
	__u16 *check = data + L4_OFF(p) + CHECK_OFF(p->proto);
	__u64 sum = (__u64)addrs + ports;

	if (segment_of(skb) || (void *)(ip + 1) > end || (void *)(check + 1) > end || is_unfinished(ip, *check))
		return false;
	if (p->proto == IPPROTO_UDP && !*check)
		return true;
	sum = (__u16)~fold16(sum + (__u16) ~*check);
	*check = !sum && p->proto == IPPROTO_UDP ? 0xffff : (__u16)sum;
	/* Of a sum of the whole packet by the device only the addresses are left: the IP header sums to nothing. */
	if (addrs)
		bpf_csum_update(skb, ~addrs);
	return true;
}

/* Rewrites addresses, ports and TTL with all sums. 0 or -1. p still holds what was parsed. */
static __always_inline int rewrite(struct __sk_buff *skb, const struct packet *p, const struct rewrite *r)
{
	__u32 addrs = fold32((__u64)(__u32)~p->saddr + r->saddr + (__u32)~p->daddr + r->daddr);
	__u32 ports = (__u32)(__u16)~p->sport + r->sport + (__u16)~p->dport + r->dport;
	bool addr_change = p->saddr != r->saddr || p->daddr != r->daddr;
	bool port_change = p->sport != r->sport || p->dport != r->dport;

	if (!has_ports(p) || p->fragment)
		return rewrite_header(skb, p, r, addrs);
	bool done = sum_in_place(skb, p, addr_change ? addrs : 0, port_change ? ports : 0);
	if (rewrite_header(skb, p, r, addrs))
		return -1;
	if (done)
		return 0;
	__u64 flags = p->proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 off = L4_OFF(p) + CHECK_OFF(p->proto);
	if (addr_change && bpf_l4_csum_replace(skb, off, 0, addrs, flags | BPF_F_PSEUDO_HDR))
		return -1;
	if (port_change && bpf_l4_csum_replace(skb, off, 0, ports, flags))
		return -1;
	return 0;
}

/* Back out of the device it came in through: answers. */
static __always_inline int bounce(struct __sk_buff *skb)
{
	see_out(skb, VERDICT_ANSWER, skb->ifindex);
	return bpf_redirect(skb->ifindex, 0);
}

/* To a task of this node, from an ingress hook straight into its namespace. */
static __always_inline int to_task(struct __sk_buff *skb, __u32 ifindex, const __u8 *mac, bool egress)
{
	if (set_macs(skb, mac, 0))
		return drop(DROP_MALFORMED);
	see_out(skb, VERDICT_TASK, ifindex);
	if (egress)
		return bpf_redirect(ifindex, 0);
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(ifindex, 0);
}

/* To this machine's own stack, as if it had come over the loopback. */
static __always_inline int to_host(struct __sk_buff *skb)
{
	if (set_macs(skb, zero_mac, zero_mac))
		return drop(DROP_MALFORMED);
	see_out(skb, VERDICT_HOST, config.lo_ifindex);
	return bpf_redirect(config.lo_ifindex, BPF_F_INGRESS);
}

/* A program's last word: what it does not take goes to the host's stack. */
static __always_inline int see_pass(struct __sk_buff *skb, int rc)
{
	if ((rc == TC_ACT_OK || rc == TC_ACT_UNSPEC) && is_seen())
		seen_out(skb, VERDICT_PASS, 0);
	return rc;
}

#endif
