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

static __always_inline __u32 quote_off(const struct packet *p)
{
	return L4_OFF(p) + sizeof(struct icmp4);
}

/*
 * The quoted packet went to the client; c is what the client's next one would look like here: the other way round.
 * Options in the quote are not supported: too rare to pay for.
 */
static __always_inline bool parse_quote(struct __sk_buff *skb, const struct packet *p, struct packet *c)
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
	c->saddr = ip->daddr;
	c->daddr = ip->saddr;
	c->sport = ports[1];
	c->dport = ports[0];
	c->proto = ip->protocol;
	c->tcp = TCP_ACK;
	return has_ports(c);
}

/*
 * Makes the quoted packet one of the flow n (as c: from the client). Its IP header sums to the same as before, so
 * only ports touch the ICMP sum.
 */
static __always_inline int rewrite_quote(struct __sk_buff *skb, const struct packet *p, const struct packet *c,
                                         const struct rewrite *n)
{
	void *data = data_of(skb), *end = end_of(skb);
	struct iphdr *ip = data + quote_off(p);
	struct icmp4 *icmp = data + L4_OFF(p);
	__be16 *ports = (void *)(ip + 1);
	__u64 sum;

	if ((void *)(ports + 4) > end || (void *)(icmp + 1) > end)
		return -1;
	sum = (__u64)(__u16)~ip->check + (__u32)~c->daddr + n->daddr + (__u32)~c->saddr + n->saddr;
	ip->saddr = n->daddr;
	ip->daddr = n->saddr;
	ip->check = (__u16)~fold16(sum);
	sum = (__u64)(__u16)~icmp->check + (__u16)~c->dport + n->dport + (__u16)~c->sport + n->sport;
	ports[0] = n->dport;
	ports[1] = n->sport;
	icmp->check = (__u16)~fold16(sum);
	return 0;
}

/* An error from the client's side on its way to a task. */
struct error {
	struct packet c;
	struct origin o;
	struct target t;
	__u32 service; /* 0: host mode */
	__be16 port;
};

/* x->t is of this node. Passed on like the flow's own packets where this task does not have it. */
ONCE int icmp_to_task(struct __sk_buff *skb, const struct packet *p, struct error *x)
{
	if (!p || !x)
		return TC_ACT_SHOT;
	struct abi_service *s = x->service ? service_of(x->service) : 0;
	struct rewrite r = rewrite_of(p);
	struct abi_flow_key k;
	struct abi_flow *f = 0;
	__u32 other;

	if (x->t.ifindex) {
		key_of_target(&k, &x->c, &x->t, &x->o, x->port);
		f = flow_find(&k, &x->c);
	}
	if (!f && s && !(x->o.mac_flags & MAC_HOP)) {
		other = choose_other(s, &x->c, x->t.ip, false);
		if (!other || !target_of_backend(&x->t, other))
			return drop(DROP_ICMP);
		x->o.mac_flags |= MAC_HOP;
		if (x->t.node)
			return send_on(skb, p, &x->t, &x->o);
		key_of_target(&k, &x->c, &x->t, &x->o, x->port);
		f = flow_find(&k, &x->c);
	}
	if (!f || !x->t.ifindex)
		return drop(DROP_ICMP);
	struct rewrite n = { .saddr = k.peer, .daddr = x->t.ip, .sport = k.pport, .dport = x->port };
	r.daddr = x->t.ip;
	r.hops = x->o.hops;
	if (rewrite(skb, p, &r) || rewrite_quote(skb, p, &x->c, &n))
		return drop(DROP_NAT);
	return to_task(skb, x->t.ifindex, x->t.mac, false);
}

/* At the ingress: TC_ACT_UNSPEC when the error is not about a published port. */
SUBPROG int icmp_take_in(struct __sk_buff *skb)
{
	struct error x = { .o = { .hops = 1 } };
	struct abi_endpoint *ep;
	struct abi_service *s;
	struct abi_published port;
	__be32 ip = 0;
	struct packet p;

	if (parse4(skb, &p) || !parse_quote(skb, &p, &x.c))
		return TC_ACT_UNSPEC;
	port = port_of(x.c.proto, x.c.dport);
	if (!is_published(port) || (port.flags & PORT_CLOSED_HERE) || !is_host_addr(x.c.daddr) || p.ttl <= 1)
		return TC_ACT_UNSPEC;
	x.port = port.target;
	if (port.kind == PORT_HOST) {
		ep = host_task(x.c.proto, x.c.dport, &ip);
		if (!ep)
			return TC_ACT_UNSPEC;
		target_of_endpoint(&x.t, ep, ip);
	} else {
		x.service = port.service;
		s = service_of(x.service);
		if (!s)
			return TC_ACT_UNSPEC;
		struct choice c = {};
		choose(s, &x.c, &c);
		if (!target_of_backend(&x.t, c.backend))
			return TC_ACT_UNSPEC;
		take_choice(s, &x.c, &c);
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
	struct rewrite r, n = {};
	struct packet p, c;
	struct abi_flow *f;
	__be32 node;

	if (!i || parse4(skb, &p) || !parse_quote(skb, &p, &c))
		return -1;
	/* The quote went to the task here: c is an answer of the task's, the way flows are looked up for those. */
	c.tcp |= TCP_SYN; /* it may have refused one */
	f = flow_of_answer(&c, c.saddr);
	if (!f || f->task != i->task)
		return -1;
	node = f->flags & FLOW_DIRECT ? 0 : f->node;
	r = rewrite_of(&p);
	n.saddr = r.saddr = f->dst;
	n.daddr = r.daddr = f->client;
	n.sport = f->dport;
	n.dport = f->cport;
	r.hops = p.ttl > 1;
	if (rewrite(skb, &p, &r) || rewrite_quote(skb, &p, &c, &n))
		return drop(DROP_NAT);
	return send_answer(skb, r.saddr, r.daddr, node, p.smac);
}

#endif
