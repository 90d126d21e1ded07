/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what another node sent, its tunnel taken off: a.node is who, a.vni which network. Every verdict is here. */
#ifndef BPF_ARRIVAL_H
#define BPF_ARRIVAL_H

#include "bpf/icmp.h"
#include "bpf/overlay.h"

/* A published port that another node took in: the destination MAC names the task. */
static __always_inline int from_ingress(struct __sk_buff *skb, struct packet *p, const struct arrival *a)
{
	struct origin o = { .mac_flags = p->smac[1] & (MAC_HOP | MAC_MASQ) };
	struct abi_published port = {};
	struct abi_service *s;
	struct abi_endpoint *ep;
	struct target t = {};

	__builtin_memcpy(&o.node, p->smac + 2, 4);
	__builtin_memcpy(&t.ip, p->dmac + 2, 4);
	/* Mostly the sender itself, which was asked about before. */
	if (o.node != a->node && !is_node(o.node))
		return drop(DROP_UNKNOWN_NODE);
	if (o.node == config.self.w[3])
		o.node = 0;
	ep = endpoint_of(a->vni, t.ip);
	if (ep && ep->ifindex)
		target_of_endpoint(&t, ep, t.ip);
	if (has_ports(p))
		port = port_of(p->proto, p->dport);
	if (!is_published(port) || port.kind != PORT_MESH)
		return drop(DROP_NO_PORT);
	s = service_of(port.service);
	return serve_or_pass_on(skb, p, s, port.target, &t, &o);
}

/* An answer to a client whose packets we took in. */
static __always_inline int from_answer(struct __sk_buff *skb, struct packet *p)
{
	if (!is_host_addr(p->saddr) && !is_loopback(p->saddr))
		return drop(DROP_UNKNOWN_SRC);
	return to_client(skb, p->saddr, p->daddr);
}

/* An error from a client's side that another node took in. -1: it is something else. */
SUBPROG int icmp_from_ingress(struct __sk_buff *skb, const struct arrival *a)
{
	struct abi_endpoint *ep;
	struct abi_published port = {};
	struct error x = {};
	struct packet p;

	if (!a->vni || a->vni != ingress_vni() || !is_node(a->node) || parse4(skb, &p) || is_answer_mac(p.dmac) ||
	    (p.smac[1] & ~(MAC_HOP | MAC_MASQ)) != MAC_MARK)
		return -1;
	if (parse_quote(skb, &p, &x.c))
		port = port_of(x.c.proto, x.c.dport);
	if (!is_published(port) || port.kind != PORT_MESH)
		return drop(DROP_ICMP);
	__builtin_memcpy(&x.t.ip, p.dmac + 2, 4);
	__builtin_memcpy(&x.o.node, p.smac + 2, 4);
	x.o.mac_flags = p.smac[1] & MAC_HOP;
	x.service = port.service;
	x.port = port.target;
	ep = endpoint_of(a->vni, x.t.ip);
	if (ep && ep->ifindex)
		target_of_endpoint(&x.t, ep, x.t.ip);
	return icmp_to_task(skb, &p, &x);
}

/* "meshctl doctor" of another node asks whether packets of this size come here; or it is the answer to ours. */
SUBPROG int probe(struct __sk_buff *skb, __be32 node)
{
	struct abi_probe p;

	if (bpf_skb_load_bytes(skb, ABI_PROBE_OFF, &p, sizeof(p)) || p.magic != ABI_PROBE_MAGIC)
		return drop(DROP_MALFORMED);
	event(PROBE);
	if (p.answer) {
		if (is_seen())
			seen_probe(p.token, p.size, node);
		return TC_ACT_SHOT;
	}
	p.answer = 1;
	if (bpf_skb_store_bytes(skb, ABI_PROBE_OFF, &p, sizeof(p), 0) ||
	    bpf_skb_change_tail(skb, ABI_PROBE_OFF + sizeof(p), 0))
		return drop(DROP_MALFORMED);
	return to_node(skb, node, ABI_PROBE_VNI);
}

SUBPROG int on_arrival(struct __sk_buff *skb, const struct arrival *a)
{
	struct packet p;
	struct abi_endpoint *ep, *from;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return drop(skb->protocol == bpf_htons(ETH_P_IPV6) ? DROP_IPV6 : DROP_ETHERTYPE);
	if (!is_node(a->node))
		return drop(DROP_UNKNOWN_NODE);
	if (a->vni == ABI_PROBE_VNI)
		return probe(skb, a->node);
	if (parse4(skb, &p))
		return drop(DROP_MALFORMED);
	p.in = config.vxlan_ifindex;
	if (a->vni && a->vni == ingress_vni()) {
		if (is_answer_mac(p.dmac))
			return from_answer(skb, &p);
		if ((p.smac[1] & ~(MAC_HOP | MAC_MASQ)) == MAC_MARK)
			return p.fragment ? drop(DROP_FRAGMENT) : from_ingress(skb, &p, a);
	}
	if (is_multicast(p.daddr))
		return drop(DROP_MULTICAST);
	from = endpoint_of(a->vni, p.saddr);
	if (!from || from->node.w[3] != a->node)
		return drop(DROP_UNKNOWN_SRC);
	ep = endpoint_of(a->vni, p.daddr);
	if (!ep)
		return drop(DROP_UNKNOWN_DST);
	return to_endpoint(skb, &p, ep);
}

static __always_inline int arrived(struct __sk_buff *skb, const struct arrival *a)
{
	enum special what = special(skb);
	int rc = -1;

	if (what == SPECIAL_ICMP)
		rc = icmp_from_ingress(skb, a);
	else if (what == SPECIAL_FRAGMENT && is_node(a->node))
		rc = fragment_follow(skb, config.vxlan_ifindex, false);
	return rc == -1 ? on_arrival(skb, a) : rc;
}

#endif
