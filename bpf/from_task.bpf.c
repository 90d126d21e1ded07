// SPDX-License-Identifier: GPL-2.0-or-later
/* Hook: ingress of a task's host-end veth: everything a task sends. */
#include <linux/ipv6.h>

#include "bpf/icmp.h"
#include "bpf/overlay.h"

static __always_inline bool in_subnet(const struct abi_iface *i, __be32 a)
{
	return (a & i->mask.w[3]) == i->net.w[3];
}

static __always_inline struct abi_vip *vip_of(__be32 a)
{
	struct abi_addr key = addr4(a);

	return bpf_map_lookup_elem(&vips, &key);
}

static __always_inline struct abi_flow *detour_of(const struct abi_iface *i, __be32 dead, __be16 sport, __be16 dport,
                                                  __u8 proto)
{
	struct abi_flow_key k = { .task = i->ip.w[3], .peer = dead, .tport = sport, .pport = dport, .proto = proto };
	struct abi_flow *f = bpf_map_lookup_elem(&vip_flows, &k);

	return f && (f->flags & FLOW_DETOUR) ? f : 0;
}

/* The gateway and service addresses live behind the host end; a peer's MAC comes from the endpoint map. */
static __always_inline int on_arp(struct __sk_buff *skb, const struct abi_iface *i)
{
	struct abi_endpoint *ep;
	struct ethhdr *eth;
	struct arp4 *a;
	__u8 mac[ETH_ALEN] MAC;
	__be32 tip;

	pull(skb, ETH_HLEN + sizeof(*a));
	eth = data_of(skb);
	a = (void *)(eth + 1);
	if ((void *)(a + 1) > end_of(skb))
		return drop(DROP_MALFORMED);
	if (a->op != bpf_htons(ARP_REQUEST) || a->pro != bpf_htons(ETH_P_IP) || a->pln != 4 || a->hln != ETH_ALEN)
		return drop(DROP_ARP_UNKNOWN);
	tip = a->tip;
	/* Duplicate address detection and announcements ask for the task's own address: nobody else has it. */
	if (tip == i->ip.w[3])
		return drop(DROP_ARP_UNKNOWN);
	/* Linux asks with the address of the packet that waits, which may be another interface's. */
	if (!same_mac(a->smac, i->mac))
		return drop(DROP_SPOOF);
	if (tip == i->gateway.w[3] || vip_of(tip)) {
		copy_mac(mac, i->host_mac);
	} else {
		ep = endpoint_of(i->vni, tip);
		if (!ep && !detour_of(i, tip, 0, 0, 0))
			return drop(DROP_ARP_UNKNOWN);
		copy_mac(mac, ep ? ep->mac : i->host_mac);
	}
	a->op = bpf_htons(ARP_REPLY);
	a->tip = a->sip;
	copy_mac(a->tmac, a->smac);
	a->sip = tip;
	copy_mac(a->smac, mac);
	copy_mac(eth->h_dest, eth->h_source);
	copy_mac(eth->h_source, mac);
	event(ARP);
	return bounce(skb);
}

static __always_inline int on_ipv6(struct __sk_buff *skb)
{
	struct ipv6hdr *ip;

	pull(skb, ETH_HLEN + sizeof(*ip));
	ip = data_of(skb) + ETH_HLEN;
	if ((void *)(ip + 1) > end_of(skb))
		return drop(DROP_MALFORMED);
	/* Hop-by-hop: multicast listener reports. */
	return drop(ip->nexthdr == IPPROTO_ICMPV6 || ip->nexthdr == 0 ? DROP_IPV6_ND : DROP_IPV6);
}

/* Echo to an address that is ours but nobody's: a service's, a gateway's. */
static __always_inline int on_echo(struct __sk_buff *skb, const struct packet *p)
{
	struct rewrite r = rewrite_of(p);
	struct icmp4 *icmp = data_of(skb) + L4_OFF(p);
	__u64 sum;

	/* Later fragments are data of the echo: they go back as they are. */
	if (!p->fragment) {
		if ((void *)(icmp + 1) > end_of(skb))
			return drop(DROP_MALFORMED);
		if (icmp->type != ICMP_ECHO_REQUEST)
			return drop(DROP_PROTOCOL);
		icmp->type = ICMP_ECHO_REPLY;
		sum = (__u64)(__u16)~icmp->check + (__u16)~bpf_htons(ICMP_ECHO_REQUEST << 8);
		icmp->check = (__u16)~fold16(sum);
	}
	r.saddr = p->daddr;
	r.daddr = p->saddr;
	if (rewrite(skb, p, &r) || set_macs(skb, p->smac, p->dmac))
		return drop(DROP_NAT);
	event(ECHO);
	return bounce(skb);
}

/* To an address that nobody has: a connection that was given another task before that one ever answered. */
static __noinline struct abi_endpoint *take_detour(struct __sk_buff *skb, struct packet *p, const struct abi_iface *i)
{
	struct rewrite r = rewrite_of(p);
	struct abi_flow *f;

	if (p->proto != IPPROTO_TCP || p->fragment)
		return 0;
	f = detour_of(i, p->daddr, p->sport, p->dport, p->proto);
	if (!f)
		return 0;
	r.daddr = f->dst;
	if (rewrite(skb, p, &r))
		return 0;
	p->daddr = r.daddr;
	return endpoint_of(i->vni, p->daddr);
}

static __always_inline int to_peer(struct __sk_buff *skb, struct packet *p, const struct abi_iface *i)
{
	struct abi_endpoint *ep = endpoint_of(i->vni, p->daddr);

	if (!ep)
		ep = take_detour(skb, p, i);
	if (!ep)
		return drop(DROP_UNKNOWN_DST);
	add_net_stats(skb, p, i->backend, true);
	if (is_local(&ep->node))
		return to_endpoint(skb, p, ep);
	if (!i->vni)
		return drop(DROP_UNKNOWN_DST);
	if (set_macs(skb, ep->mac, 0))
		return drop(DROP_MALFORMED);
	return to_node(skb, ep->node.w[3], i->vni);
}

/* The backend a VIP flow goes to: the one it has, else a new one; 0 = none, NOT_KNOWN (no address) = perhaps of before. */
static __always_inline __be32 vip_backend(const struct packet *p, struct abi_vip *vip)
{
	struct abi_flow_key k = {
		.task = p->saddr,
		.peer = p->daddr,
		.tport = p->sport,
		.pport = p->dport,
		.proto = p->proto,
	};
	struct abi_flow *f = bpf_map_lookup_elem(&vip_flows, &k);
	struct abi_service *s;
	struct abi_backend *b = 0;
	struct abi_flow v = {};
	__u32 hash, i = 0;

	if (f && !(p->proto == IPPROTO_TCP && is_new(p))) {
		b = backend_of(f->backend);
		if (b && b->uid == f->task && keeps(b, p->proto))
			return f->dst;
	}
	if (!f && may_be_older(p))
		return (__be32)NOT_KNOWN;
	s = service_of(vip->service);
	if (!s)
		return 0;
	hash = flow_hash(p, s->flags);
	/* Not to itself: no stack takes a packet from its own address. Of two backends 16 tries miss the other in 1 of 65536. */
	for (int n = 0; n < 16; n++) {
		i = slot_of(s->cur, hash + n * 0x9e3779b1U);
		b = backend_of(i);
		if (b && b->ip.w[3] != p->saddr)
			break;
	}
	if (i && (s->flags & SERVICE_AFFINITY)) {
		__u32 own = affine(s, p->saddr, i);
		struct abi_backend *mine = backend_of(own);
		if (mine && mine->ip.w[3] != p->saddr) {
			i = own;
			b = mine;
		}
	}
	if (!b || b->ip.w[3] == p->saddr)
		return 0;
	v.dst = b->ip.w[3];
	v.backend = i;
	v.task = b->uid;
	if (insert(&vip_flows, TABLE_VIP_FLOWS, &k, &v))
		return 0;
	v.dst = k.peer;
	k.peer = b->ip.w[3];
	if (insert(&vip_flows, TABLE_VIP_FLOWS, &k, &v))
		return 0;
	return b->ip.w[3];
}

static __always_inline int to_vip(struct __sk_buff *skb, struct packet *p, const struct abi_iface *i,
                                  struct abi_vip *vip)
{
	struct abi_endpoint *me;
	struct rewrite r = rewrite_of(p);

	if (p->proto == IPPROTO_ICMP)
		return on_echo(skb, p);
	if (p->fragment)
		return drop(DROP_FRAGMENT);
	if (!has_ports(p))
		return drop(DROP_PROTOCOL);
	r.daddr = vip_backend(p, vip);
	if (r.daddr == (__be32)NOT_KNOWN)
		return NOT_KNOWN;
	if (!r.daddr) {
		add_refused(service_of(vip->service));
		return drop(DROP_NO_BACKEND);
	}
	me = endpoint_of(i->vni, p->saddr);
	if (me)
		me->flags |= ENDPOINT_VIP_FLOWS;
	event(VIP_PACKET);
	if (rewrite(skb, p, &r))
		return drop(DROP_NAT);
	if (p->first) {
		struct abi_endpoint *ep = endpoint_of(i->vni, r.daddr);
		if (ep && !set_macs(skb, ep->mac, 0))
			fragment_note(skb, p, ep->ifindex, ep->node.w[3], i->vni);
	}
	p->daddr = r.daddr;
	return to_peer(skb, p, i);
}

/*
 * A connection to a task by its own address, from a port that a connection to it by a service's address had: its answers
 * keep that task's address.
 */
static __always_inline void forget_vip_flow(const struct abi_iface *i, const struct packet *p)
{
	struct abi_endpoint *me = endpoint_of(i->vni, p->saddr);
	struct abi_flow_key k = {
		.task = p->saddr,
		.peer = p->daddr,
		.tport = p->sport,
		.pport = p->dport,
		.proto = p->proto,
	};

	if (!me || !(me->flags & ENDPOINT_VIP_FLOWS))
		return;
	/* The SYN of a detour comes again, as long as nobody else has got the address. */
	if (!detour_of(i, p->daddr, p->sport, p->dport, p->proto) || endpoint_of(i->vni, p->daddr))
		forget(&vip_flows, TABLE_VIP_FLOWS, &k);
}

static __always_inline bool is_own(const struct packet *p, const struct abi_iface *i)
{
	return p->saddr == i->ip.w[3] && same_mac(p->smac, i->mac);
}

/* Everything that is not of the task's own network. */
static __always_inline int to_outside(struct __sk_buff *skb, struct packet *p, const struct abi_iface *i)
{
	struct origin o = { .mac_flags = MAC_MASQ, .hops = 1 };
	struct abi_subnet_key net = { .prefix = 128, .net = addr4(p->daddr) };
	struct abi_flow *f;
	struct abi_published port;

	/* Answers leave through the interface with the default route, whichever they came in by. */
	if (has_ports(p) && !p->fragment) {
		f = flow_of_answer(p, p->saddr);
		/* A datagram socket bound to no address answers from this interface's. */
		if (!f && p->proto == IPPROTO_UDP && i->published.w[3] && is_own(p, i))
			f = flow_of_answer(p, i->published.w[3]);
		if (f && f->task == i->task)
			return answer(skb, p, f);
		if (!f && may_be_older(p))
			return NOT_KNOWN;
	}
	if (!is_own(p, i))
		return drop(DROP_SPOOF);
	if (bpf_map_lookup_elem(&subnets, &net))
		return drop(DROP_ISOLATED);
	if (p->proto == IPPROTO_UDP && !p->fragment && config.tunnel_port && p->dport == config.tunnel_port)
		return drop(DROP_TUNNEL_PORT);
	if (has_ports(p) && !p->fragment && is_host_addr(p->daddr)) {
		port = port_of(p->proto, p->dport);
		if (is_published(port) && !(port.flags & PORT_CLOSED_HERE))
			return take_in(skb, p, port, &o);
	}
	return i->flags & IFACE_INTERNAL ? drop(DROP_INTERNAL) : TC_ACT_OK;
}

static __noinline int on_packet(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct abi_iface *i = bpf_map_lookup_elem(&ifaces, &ifindex);
	struct abi_vip *vip;
	struct packet p;

	if (!i)
		return drop(DROP_NO_IFACE);
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return on_arp(skb, i);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return on_ipv6(skb);
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return drop(DROP_ETHERTYPE);
	if (parse4(skb, &p))
		return drop(DROP_MALFORMED);
	if (is_multicast(p.daddr))
		return drop(DROP_MULTICAST);
	if (!in_subnet(i, p.daddr))
		return to_outside(skb, &p, i);
	if (!is_own(&p, i))
		return drop(DROP_SPOOF);
	if (p.daddr == i->gateway.w[3] && p.proto == IPPROTO_ICMP)
		return on_echo(skb, &p);
	vip = vip_of(p.daddr);
	if (vip)
		return to_vip(skb, &p, i, vip);
	if (p.proto == IPPROTO_TCP && is_new(&p))
		forget_vip_flow(i, &p);
	return to_peer(skb, &p, i);
}

static __always_inline int from_task_path(struct __sk_buff *skb)
{
	int rc = -1;

	see(skb, HOOK_TASK);
	enum special what = special(skb);
	if (what == SPECIAL_ICMP)
		rc = icmp_answer(skb);
	else if (what == SPECIAL_FRAGMENT)
		rc = fragment_follow(skb, skb->ifindex, false);
	return rc == -1 ? see_pass(skb, on_packet(skb)) : rc;
}

MESH_PROGRAM(from_task, from_task_path)

char LICENSE[] SEC("license") = "GPL";
