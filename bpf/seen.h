/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: packets on show: what "meshctl trace" and "meshctl drops" report. While nobody watches, a program pays one
 *       load and one branch at its entry and at its exit; all else here is in functions of their own.
 * How:  the entry notes what came in, in this CPU's "seeing"; drops and exits send that with what was decided. A
 *       program runs to its end on its CPU, so nothing else writes there meanwhile.
 */
#ifndef BPF_SEEN_H
#define BPF_SEEN_H

#include <linux/in.h>
#include <linux/ip.h>

#include "bpf/ctx.h"
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

static __always_inline void look_ports(ctx_t *ctx, __u8 proto, __u32 off, __be16 ports[2], __u8 *tcp)
{
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return;
	if (ctx_load(ctx, off, ports, 4))
		ports[0] = ports[1] = 0;
	if (tcp && proto == IPPROTO_TCP && ctx_load(ctx, off + 13, tcp, 1))
		*tcp = 0;
}

static __always_inline void look4(ctx_t *ctx, struct abi_seen *s)
{
	struct iphdr ip;

	if (ctx_load(ctx, ETH_HLEN, &ip, sizeof(ip)))
		return;
	s->saddr = s->new_saddr = ip.saddr;
	s->daddr = s->new_daddr = ip.daddr;
	s->proto = ip.protocol;
	s->ttl = ip.ttl;
	if (!(ip.frag_off & bpf_htons(0x1fff)))
		look_ports(ctx, ip.protocol, ETH_HLEN + ip.ihl * 4, &s->sport, &s->tcp);
	s->new_sport = s->sport;
	s->new_dport = s->dport;
}

static __always_inline void look_arp(ctx_t *ctx, struct abi_seen *s)
{
	if (ctx_load(ctx, ETH_HLEN + 14, &s->saddr, 4) || ctx_load(ctx, ETH_HLEN + 24, &s->daddr, 4))
		s->saddr = s->daddr = 0;
	s->new_saddr = s->saddr;
	s->new_daddr = s->daddr;
}

/* The task a frame names, see dp_mac_of. */
static __always_inline void look_target(ctx_t *ctx, struct abi_seen *s)
{
	__u8 mac[ETH_ALEN];

	if (!ctx_load(ctx, 0, mac, sizeof(mac)) && mac[0] == 0x02 && mac[1] == 0x42)
		__builtin_memcpy(&s->target, mac + 2, 4);
}

SEEN_FN int seen_begin(ctx_t *ctx, __u32 hook)
{
	struct abi_seen *s = seeing_of();

	if (!s)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	s->hook = (__u8)hook;
	s->ifindex = device_of(ctx);
	s->len = len_of(ctx);
	s->ethertype = protocol_of(ctx);
	if (s->ethertype == bpf_htons(ETH_P_IP))
		look4(ctx, s);
	else if (s->ethertype == bpf_htons(ETH_P_ARP))
		look_arp(ctx, s);
	return watch(s);
}

SEEN_FN int seen_arrival(ctx_t *ctx, __be32 node, __u32 vni)
{
	struct abi_seen *s = seeing_of();

	seen_begin(ctx, HOOK_VXLAN);
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
		event_add(EVENT_UNSEEN);
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

/* The packet is as it leaves. */
SEEN_FN int seen_out(ctx_t *ctx, __u32 verdict, __u32 ifindex)
{
	struct abi_seen *s = seeing_of();
	struct iphdr ip;

	if (!s || !s->watchers)
		return 0;
	s->out_ifindex = ifindex;
	look_target(ctx, s);
	if (s->saddr && s->ethertype == bpf_htons(ETH_P_IP) && !ctx_load(ctx, ETH_HLEN, &ip, sizeof(ip))) {
		s->new_saddr = ip.saddr;
		s->new_daddr = ip.daddr;
		if (s->sport)
			look_ports(ctx, ip.protocol, ETH_HLEN + ip.ihl * 4, &s->new_sport, 0);
	}
	send_seen(s, (__u8)verdict);
	return 0;
}

SEEN_FN int seen_node(ctx_t *ctx, __be32 node, __u32 vni)
{
	struct abi_seen *s = seeing_of();

	if (s) {
		s->node = node;
		s->vni = vni;
	}
	return seen_out(ctx, VERDICT_NODE, config.vxlan_ifindex);
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

static __always_inline void see(ctx_t *ctx, enum abi_hook hook)
{
	if (is_seen())
		seen_begin(ctx, hook);
}

/* What another node sent, once its tunnel is off by our own hand. */
static __always_inline void see_arrival(ctx_t *ctx, __be32 node, __u32 vni)
{
	if (is_seen())
		seen_arrival(ctx, node, vni);
}

static __always_inline void see_out(ctx_t *ctx, enum abi_verdict verdict, __u32 ifindex)
{
	if (is_seen())
		seen_out(ctx, verdict, ifindex);
}

static __always_inline void see_node(ctx_t *ctx, __be32 node, __u32 vni)
{
	if (is_seen())
		seen_node(ctx, node, vni);
}

#endif
