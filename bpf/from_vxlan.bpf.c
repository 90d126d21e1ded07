// SPDX-License-Identifier: GPL-2.0-or-later
/* Hook: ingress of the collect-metadata VXLAN device: what other nodes send. */
#include "bpf/icmp.h"
#include "bpf/overlay.h"

static __always_inline int tunnel_key(struct __sk_buff *skb, __be32 *node, __u32 *vni)
{
	struct bpf_tunnel_key key = {};

	if (config.test_tunnel) {
		*node = bpf_htonl(skb->priority);
		*vni = skb->mark;
		return 0;
	}
	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		return -1;
	*node = bpf_htonl(key.remote_ipv4);
	*vni = key.tunnel_id;
	return 0;
}

static __always_inline bool is_node(__be32 a)
{
	struct abi_addr key = addr4(a);

	return bpf_map_lookup_elem(&nodes, &key) != 0;
}

static __always_inline bool from_node(struct __sk_buff *skb)
{
	__be32 node;
	__u32 vni;

	return !tunnel_key(skb, &node, &vni) && is_node(node);
}

/* A published port that another node took in: the destination MAC names the task. */
static __always_inline int from_ingress(struct __sk_buff *skb, struct packet *p, __be32 node, __u32 vni)
{
	struct origin o = { .mac_flags = p->smac[1] & (MAC_HOP | MAC_MASQ) };
	struct abi_port *port;
	struct abi_service *s;
	struct abi_endpoint *ep;
	struct target t = {};

	__builtin_memcpy(&o.node, p->smac + 2, 4);
	__builtin_memcpy(&t.ip, p->dmac + 2, 4);
	/* Mostly the sender itself, which was asked about before. */
	if (o.node != node && !is_node(o.node))
		return drop(DROP_UNKNOWN_NODE);
	if (o.node == config.self.w[3])
		o.node = 0;
	ep = endpoint_of(vni, t.ip);
	if (ep && ep->ifindex)
		target_of_endpoint(&t, ep, t.ip);
	port = has_ports(p) ? port_of(p->proto, p->dport) : 0;
	if (!port || port->kind != PORT_MESH)
		return drop(DROP_NO_PORT);
	s = service_of(port->service);
	return serve_or_pass_on(skb, p, s, port->target, &t, &o);
}

/* An answer to a client whose packets we took in. */
static __always_inline int from_answer(struct __sk_buff *skb, struct packet *p)
{
	if (!is_host_addr(p->saddr) && !is_loopback(p->saddr))
		return drop(DROP_UNKNOWN_SRC);
	return to_client(skb, p->saddr, p->daddr);
}

/* An error from a client's side that another node took in. -1: it is something else. */
static __noinline int icmp_from_ingress(struct __sk_buff *skb)
{
	struct abi_endpoint *ep;
	struct abi_port *port;
	struct error x = {};
	struct packet p;
	__be32 node;
	__u32 vni;

	if (tunnel_key(skb, &node, &vni) || !vni || vni != ingress_vni() || !is_node(node) || parse4(skb, &p) ||
	    (p.smac[1] & ~(MAC_HOP | MAC_MASQ)) != MAC_MARK)
		return -1;
	port = parse_quote(skb, &p, &x.c) ? port_of(x.c.proto, x.c.dport) : 0;
	if (!port || port->kind != PORT_MESH)
		return drop(DROP_ICMP);
	__builtin_memcpy(&x.t.ip, p.dmac + 2, 4);
	__builtin_memcpy(&x.o.node, p.smac + 2, 4);
	x.o.mac_flags = p.smac[1] & MAC_HOP;
	x.service = port->service;
	x.port = port->target;
	ep = endpoint_of(vni, x.t.ip);
	if (ep && ep->ifindex)
		target_of_endpoint(&x.t, ep, x.t.ip);
	return icmp_to_task(skb, &p, &x);
}

static __noinline int on_packet(struct __sk_buff *skb)
{
	struct packet p;
	struct abi_endpoint *ep, *from;
	__be32 node;
	__u32 vni;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return drop(skb->protocol == bpf_htons(ETH_P_IPV6) ? DROP_IPV6 : DROP_ETHERTYPE);
	if (tunnel_key(skb, &node, &vni))
		return drop(DROP_TUNNEL);
	if (!is_node(node))
		return drop(DROP_UNKNOWN_NODE);
	if (parse4(skb, &p))
		return drop(DROP_MALFORMED);
	if (vni && vni == ingress_vni()) {
		if (p.dmac[0] == reply_mac[0] && p.dmac[1] == reply_mac[1])
			return from_answer(skb, &p);
		if ((p.smac[1] & ~(MAC_HOP | MAC_MASQ)) == MAC_MARK)
			return p.fragment ? drop(DROP_FRAGMENT) : from_ingress(skb, &p, node, vni);
	}
	if (is_multicast(p.daddr))
		return drop(DROP_MULTICAST);
	from = endpoint_of(vni, p.saddr);
	if (!from || from->node.w[3] != node)
		return drop(DROP_UNKNOWN_SRC);
	ep = endpoint_of(vni, p.daddr);
	if (!ep)
		return drop(DROP_UNKNOWN_DST);
	return to_endpoint(skb, &p, ep);
}

static __always_inline int from_vxlan_path(struct __sk_buff *skb)
{
	int rc = -1;

	see(skb, HOOK_VXLAN);
	enum special what = special(skb);
	if (what == SPECIAL_ICMP)
		rc = icmp_from_ingress(skb);
	else if (what == SPECIAL_FRAGMENT && from_node(skb))
		rc = fragment_follow(skb, false);
	return rc == -1 ? on_packet(skb) : rc;
}

MESH_PROGRAM(from_vxlan, from_vxlan_path)

char LICENSE[] SEC("license") = "GPL";
