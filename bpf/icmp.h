/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: ICMP errors about published ports' flows: what a task refuses reaches its client, and "fragmentation
 *       needed" from the client's side reaches the task. The packet quoted inside is translated like the flow.
 */
#ifndef BPF_ICMP_H
#define BPF_ICMP_H

#include "bpf/ingress.h"

/* A function of its own for the verifier; not every program that includes this calls each. */
#define SUBPROG static __attribute__((noinline, unused))

enum { ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER = 12 };

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

/* The packet an error quotes. Options in it are not supported: too rare to pay for. */
struct quoted {
	__be32 saddr, daddr;
	__be16 sport, dport;
	__u8 proto;
};

static __always_inline __u32 quote_off(const struct packet *p)
{
	return L4_OFF(p) + sizeof(struct icmp4);
}

static __always_inline bool parse_quote(struct __sk_buff *skb, const struct packet *p, struct quoted *q)
{
	__u32 off = quote_off(p);

	if (p->proto != IPPROTO_ICMP || p->fragment)
		return false;
	pull(skb, off + sizeof(struct iphdr) + 8);
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + off;
	struct icmp4 *icmp = data + L4_OFF(p);
	__be16 *ports = (void *)(ip + 1);

	if ((void *)(ports + 4) > end || (void *)(icmp + 1) > end)
		return false;
	if (icmp->type != ICMP_UNREACHABLE && icmp->type != ICMP_TIME_EXCEEDED && icmp->type != ICMP_PARAMETER)
		return false;
	if (ip->version != 4 || ip->ihl != 5 || (ip->frag_off & bpf_htons(0x1fff)))
		return false;
	q->saddr = ip->saddr;
	q->daddr = ip->daddr;
	q->sport = ports[0];
	q->dport = ports[1];
	q->proto = ip->protocol;
	return q->proto == IPPROTO_TCP || q->proto == IPPROTO_UDP;
}

/* Changes the quoted packet to n. Its IP header sums to the same as before, so only ports touch the ICMP sum. */
static __always_inline int rewrite_quote(struct __sk_buff *skb, const struct packet *p, const struct quoted *q,
                                         const struct quoted *n)
{
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + quote_off(p);
	struct icmp4 *icmp = data + L4_OFF(p);
	__be16 *ports = (void *)(ip + 1);
	__u64 sum;

	if ((void *)(ports + 4) > end || (void *)(icmp + 1) > end)
		return -1;
	sum = (__u64)(__u16)~ip->check + (__u32)~q->saddr + n->saddr + (__u32)~q->daddr + n->daddr;
	ip->saddr = n->saddr;
	ip->daddr = n->daddr;
	ip->check = (__u16)~fold16(sum);
	sum = (__u64)(__u16)~icmp->check + (__u16)~q->sport + n->sport + (__u16)~q->dport + n->dport;
	ports[0] = n->sport;
	ports[1] = n->dport;
	icmp->check = (__u16)~fold16(sum);
	return 0;
}

/* What the client's next packet of the quoted flow would look like here. */
static __always_inline struct packet client_packet(const struct quoted *q)
{
	return (struct packet){
		.saddr = q->daddr,
		.daddr = q->saddr,
		.sport = q->dport,
		.dport = q->sport,
		.proto = q->proto,
		.tcp = TCP_ACK,
	};
}

/* An error from the client's side on its way to a task. */
struct error {
	struct quoted q;
	struct origin o;
	struct target t;
	__u32 service; /* 0: host mode */
	__be16 port;
};

/* x->t is of this node. Passed on like the flow's own packets where this task does not have it. */
SUBPROG int icmp_to_task(struct __sk_buff *skb, const struct packet *p, struct error *x)
{
	struct packet c = client_packet(&x->q);
	struct abi_service *s = x->service ? service_of(x->service) : 0;
	struct rewrite r = rewrite_of(p);
	struct abi_flow_key k;
	struct abi_flow *f = 0;
	__u32 other;

	if (x->t.ifindex) {
		key_of_target(&k, &c, &x->t, &x->o, x->port);
		f = flow_find(&k, &c);
	}
	if (!f && s && !(x->o.mac_flags & MAC_HOP)) {
		other = choose_other(s, &c, x->t.ip);
		if (!other || !target_of_backend(&x->t, other))
			return drop(DROP_ICMP);
		x->o.mac_flags |= MAC_HOP;
		if (x->t.node)
			return send_on(skb, p, &x->t, &x->o);
		key_of_target(&k, &c, &x->t, &x->o, x->port);
		f = flow_find(&k, &c);
	}
	if (!f || !x->t.ifindex)
		return drop(DROP_ICMP);
	struct quoted n = { .saddr = x->t.ip, .daddr = k.peer.w[3], .sport = x->port, .dport = k.pport };
	r.daddr = x->t.ip;
	if (rewrite(skb, p, &r) || rewrite_quote(skb, p, &x->q, &n))
		return drop(DROP_NAT);
	return to_task(skb, x->t.ifindex, x->t.mac, false);
}

/* At the ingress: TC_ACT_UNSPEC when the error is not about a published port. */
SUBPROG int icmp_take_in(struct __sk_buff *skb)
{
	struct error x = { .o = { .hops = 1 } };
	struct abi_endpoint *ep;
	struct abi_service *s;
	struct abi_port *port;
	struct packet p;

	if (parse4(skb, &p) || !parse_quote(skb, &p, &x.q))
		return TC_ACT_UNSPEC;
	port = port_of(x.q.proto, x.q.sport);
	if (!port || (port->flags & PORT_CLOSED_HERE) || !is_host_addr(x.q.saddr) || p.ttl <= 1)
		return TC_ACT_UNSPEC;
	x.port = port->target;
	if (port->kind == PORT_HOST) {
		ep = endpoint_of(port->vni, port->ip.w[3]);
		if (!ep)
			return TC_ACT_UNSPEC;
		target_of_endpoint(&x.t, ep, port->ip.w[3]);
	} else {
		struct packet c = client_packet(&x.q);
		x.service = port->service;
		s = service_of(x.service);
		if (!s || !target_of_backend(&x.t, choose(s, &c)))
			return TC_ACT_UNSPEC;
	}
	if (x.t.node)
		return send_on(skb, &p, &x.t, &x.o);
	return icmp_to_task(skb, &p, &x);
}

/* A task's own error about something a client sent it. -1: about no flow. */
SUBPROG int icmp_answer(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct abi_iface *i = bpf_map_lookup_elem(&ifaces, &ifindex);
	struct quoted q, n = {};
	struct rewrite r;
	struct packet p;
	struct abi_flow *f;
	__be32 node;

	if (!i || parse4(skb, &p) || !parse_quote(skb, &p, &q))
		return -1;
	struct packet a = { .saddr = q.daddr, .daddr = q.saddr, .sport = q.dport, .dport = q.sport, .proto = q.proto };
	f = flow_of_answer(&a, a.saddr);
	if (!f || f->task != i->task)
		return -1;
	node = f->flags & FLOW_DIRECT ? 0 : f->node.w[3];
	r = rewrite_of(&p);
	n.saddr = r.daddr = f->client.w[3];
	n.daddr = r.saddr = f->dst.w[3];
	n.sport = f->cport;
	n.dport = f->dport;
	r.hops = p.ttl > 1;
	if (rewrite(skb, &p, &r) || rewrite_quote(skb, &p, &q, &n))
		return drop(DROP_NAT);
	return send_answer(skb, r.saddr, r.daddr, node, p.smac);
}

#endif
