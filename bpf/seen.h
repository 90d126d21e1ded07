/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: packets on show: what "meshctl trace" and "meshctl drops" report. While nobody watches, a program pays one
 *       load and one branch at its entry and at its exit; all else here is in functions of their own.
 * How:  the entry notes what came in, in this CPU's "seeing"; drops and exits send that with what was decided. A
 *       program runs to its end on its CPU, so nothing else writes there meanwhile.
 */
#ifndef BPF_SEEN_H
#define BPF_SEEN_H

#include <stddef.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#include "bpf/maps.h"

/* A function of its own for the verifier; not every program calls each. */
#define SEEN_FN static __attribute__((noinline, unused))

static __always_inline struct abi_seen *seeing_of(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&seeing, &zero);
}

/* ---- who watches ---- */

static __always_inline void add_roles(struct abi_watch *w, __u64 id, __be16 port)
{
	struct abi_watch_key k = { .id = id, .port = port };
	struct abi_watch *found = bpf_map_lookup_elem(&watched, &k);

	if (found) {
		w->from |= found->from;
		w->to |= found->to;
	}
}

static __always_inline struct abi_watch roles_of(const struct abi_runtime *rt, __be32 addr, __be16 port)
{
	struct abi_watch w = { .from = rt->from_any, .to = rt->to_any };

	add_roles(&w, addr, 0);
	if (port)
		add_roles(&w, addr, port);
	return w;
}

static __always_inline __u16 of_protocol(const struct abi_runtime *rt, __u8 proto)
{
	return proto == IPPROTO_TCP ? rt->tcp : proto == IPPROTO_UDP ? rt->udp : rt->other;
}

/* In either direction: answers are of interest too. */
SEEN_FN int watch(struct abi_seen *s)
{
	struct abi_runtime *rt = runtime_of();

	if (!rt || !s)
		return 0;
	struct abi_watch a = roles_of(rt, s->saddr, s->sport), b = roles_of(rt, s->daddr, s->dport);
	s->watchers = ((a.from & b.to) | (b.from & a.to)) & of_protocol(rt, s->proto);
	return 0;
}

/* ---- what came in ---- */

static __always_inline void look_ports(struct __sk_buff *skb, __u8 proto, __u32 off, __be16 ports[2], __u8 *tcp)
{
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return;
	if (bpf_skb_load_bytes(skb, off, ports, 4))
		ports[0] = ports[1] = 0;
	if (tcp && proto == IPPROTO_TCP && bpf_skb_load_bytes(skb, off + 13, tcp, 1))
		*tcp = 0;
}

static __always_inline void look4(struct __sk_buff *skb, struct abi_seen *s)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return;
	s->saddr = s->new_saddr = ip.saddr;
	s->daddr = s->new_daddr = ip.daddr;
	s->proto = ip.protocol;
	s->ttl = ip.ttl;
	if (!(ip.frag_off & bpf_htons(0x1fff)))
		look_ports(skb, ip.protocol, ETH_HLEN + ip.ihl * 4, &s->sport, &s->tcp);
	s->new_sport = s->sport;
	s->new_dport = s->dport;
}

static __always_inline void look_arp(struct __sk_buff *skb, struct abi_seen *s)
{
	if (bpf_skb_load_bytes(skb, ETH_HLEN + 14, &s->saddr, 4) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 24, &s->daddr, 4))
		s->saddr = s->daddr = 0;
	s->new_saddr = s->saddr;
	s->new_daddr = s->daddr;
}

static __always_inline void look_tunnel(struct __sk_buff *skb, struct abi_seen *s)
{
	struct bpf_tunnel_key key = {};

	if (config.test_tunnel) {
		s->node = bpf_htonl(skb->priority);
		s->vni = skb->mark;
	} else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		s->node = bpf_htonl(key.remote_ipv4);
		s->vni = key.tunnel_id;
	}
}

/* The task a frame names, see dp_mac_of. */
static __always_inline void look_target(struct __sk_buff *skb, struct abi_seen *s)
{
	__u8 mac[ETH_ALEN];

	if (!bpf_skb_load_bytes(skb, 0, mac, sizeof(mac)) && mac[0] == 0x02 && mac[1] == 0x42)
		__builtin_memcpy(&s->target, mac + 2, 4);
}

SEEN_FN int seen_begin(struct __sk_buff *skb, __u32 hook)
{
	struct abi_seen *s = seeing_of();

	if (!s)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	s->hook = (__u8)hook;
	s->ifindex = skb->ifindex;
	s->len = skb->len;
	s->ethertype = (__be16)skb->protocol;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		look4(skb, s);
	else if (skb->protocol == bpf_htons(ETH_P_ARP))
		look_arp(skb, s);
	if (hook == HOOK_VXLAN)
		look_tunnel(skb, s);
	return watch(s);
}

SEEN_FN int seen_arrival(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	struct abi_seen *s = seeing_of();

	seen_begin(skb, HOOK_VXLAN);
	if (s) {
		s->node = node;
		s->vni = vni;
	}
	return 0;
}

/* ---- what became of it ---- */

static __always_inline void send_seen(struct abi_seen *s, __u8 verdict)
{
	s->verdict = verdict;
	s->time_ns = bpf_ktime_get_ns();
	/* No wakeup: it is read at intervals, while somebody watches. */
	if (bpf_ringbuf_output(&seen, s, sizeof(*s), BPF_RB_NO_WAKEUP))
		count(&events, EVENT_UNSEEN);
}

SEEN_FN int seen_drop(__u32 reason)
{
	struct abi_seen *s = seeing_of();
	struct abi_runtime *rt = runtime_of();

	if (!s || !rt)
		return 0;
	s->watchers |= rt->drops;
	s->reason = (__u8)reason;
	if (s->watchers)
		send_seen(s, VERDICT_DROP);
	return 0;
}

/* skb is as it leaves. */
SEEN_FN int seen_out(struct __sk_buff *skb, __u32 verdict, __u32 ifindex)
{
	struct abi_seen *s = seeing_of();
	struct iphdr ip;

	if (!s || !s->watchers)
		return 0;
	s->out_ifindex = ifindex;
	look_target(skb, s);
	if (s->saddr && s->ethertype == bpf_htons(ETH_P_IP) && !bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip))) {
		s->new_saddr = ip.saddr;
		s->new_daddr = ip.daddr;
		if (s->sport)
			look_ports(skb, ip.protocol, ETH_HLEN + ip.ihl * 4, &s->new_sport, 0);
	}
	send_seen(s, (__u8)verdict);
	return 0;
}

SEEN_FN int seen_node(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	struct abi_seen *s = seeing_of();

	if (s) {
		s->node = node;
		s->vni = vni;
	}
	return seen_out(skb, VERDICT_NODE, config.vxlan_ifindex);
}

/* Our probe's answer is for everybody who listens. */
SEEN_FN int seen_probe(__u64 token, __u32 size, __be32 node)
{
	struct abi_seen *s = seeing_of();

	if (!s)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	s->hook = HOOK_VXLAN;
	s->netns = token;
	s->len = size;
	s->node = node;
	s->watchers = 0xffff;
	send_seen(s, VERDICT_PROBE);
	return 0;
}

/* ---- what programs call ---- */

static __always_inline void see(struct __sk_buff *skb, enum abi_hook hook)
{
	if (is_seen())
		seen_begin(skb, hook);
}

/* What another node sent, once its tunnel is off by our own hand. */
static __always_inline void see_arrival(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	if (is_seen())
		seen_arrival(skb, node, vni);
}

static __always_inline void see_out(struct __sk_buff *skb, enum abi_verdict verdict, __u32 ifindex)
{
	if (is_seen())
		seen_out(skb, verdict, ifindex);
}

static __always_inline void see_node(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	if (is_seen())
		seen_node(skb, node, vni);
}

/* A program's last word: what it does not take goes to the host's stack. */
static __always_inline int see_pass(struct __sk_buff *skb, int rc)
{
	if ((rc == TC_ACT_OK || rc == TC_ACT_UNSPEC) && is_seen())
		seen_out(skb, VERDICT_PASS, 0);
	return rc;
}

#endif
