/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: published ports: from a client's packet to the task, and from the task's answer to the client. */
#ifndef BPF_INGRESS_H
#define BPF_INGRESS_H

#include "bpf/encap.h"
#include "bpf/flow.h"
#include "bpf/fragment.h"

static __always_inline int send_on(struct __sk_buff *skb, const struct packet *p, const struct target *t,
                                   const struct origin *o)
{
	int rc = address_to(skb, p, t, o);

	if (rc != DIALLED)
		return rc;
	if (p->first)
		fragment_note(skb, p, 0, t->node, ingress_vni());
	return to_node(skb, t->node, ingress_vni());
}

/* A flow's own packet: its sender hears of it when it does not fit. */
static __always_inline int send_flow_on(struct __sk_buff *skb, const struct packet *p, const struct target *t,
                                        const struct origin *o)
{
	__u32 mtu = o->hops && p->df ? tunnel_mtu() : 0;

	return mtu && too_big(skb, p, mtu) ? say_too_big(skb, p, mtu) : send_on(skb, p, t, o);
}

/* t is of this node and k its flow, known or begun now. */
static __always_inline int serve(struct __sk_buff *skb, const struct packet *p, const struct target *t,
                                 const struct origin *o, const struct abi_flow_key *k, bool begins)
{
	struct rewrite r = { .saddr = k->peer, .daddr = t->ip, .sport = k->pport, .dport = k->tport, .hops = o->hops };

	if (!t->ifindex)
		return drop(DROP_NOT_LOCAL);
	add_stats(skb, p, t->backend, false, begins);
	if (rewrite(skb, p, &r))
		return drop(DROP_NAT);
	if (p->first) {
		(void)set_macs(skb, t->mac, 0);
		fragment_note(skb, p, t->ifindex, 0, 0);
	}
	return to_task(skb, t->ifindex, t->mac, o->egress);
}

static __always_inline bool takes_begun(const struct target *t)
{
	const struct abi_backend *b = backend_of(t->backend);

	return t->ifindex && t->serving && b && !b->spare;
}

/*
 * Brings a packet to t, or to another task when t should not have it (second chance): t is draining or gone
 * and this is a new flow, or this is an old flow that its node does not know.
 */
static __always_inline int serve_or_pass_on(struct __sk_buff *skb, const struct packet *p, struct abi_service *s,
                                            __be16 port, struct target *t, struct origin *o)
{
	struct abi_flow_key k;
	struct abi_flow *f = 0;
	__u32 other;
	bool begins;

	if (t->node)
		return send_flow_on(skb, p, t, o);
	if (t->ifindex) {
		key_of_target(&k, p, t, o, port);
		f = flow_find_first(&k, p);
		/* Refused by a task that takes nothing new any more: it belongs to nobody. */
		if (f && !t->serving && f->state == FLOW_SYN && (f->flags & FLOW_REFUSED))
			f = 0;
	}
	if (!f && may_be_older_connection(p))
		return NOT_KNOWN;
	if (!f && s && !(o->mac_flags & MAC_HOP) &&
	    (!t->ifindex || !t->serving || p->proto == IPPROTO_UDP || !is_new(p))) {
		other = choose_other(s, p, t->ip, takes_begun(t));
		if (other && target_of_backend(t, other)) {
			event(SECOND_CHANCE);
			o->mac_flags |= MAC_HOP;
			if (t->node)
				return send_flow_on(skb, p, t, o);
			key_of_target(&k, p, t, o, port);
			f = flow_find(&k, p);
		}
	}
	if (!t->ifindex)
		return drop(DROP_NOT_LOCAL);
	begins = !f || (f->state == FLOW_CLOSED && is_new(p));
	if (f) {
		flow_state(f, p, false);
		if (f->node != o->node)
			f->node = o->node;
		if ((f->flags & FLOW_HALF) && f->state == FLOW_OPEN && flow_settle(&k, f))
			return drop(DROP_FLOW_FULL);
	} else if (flow_begin(&k, p, t, o, s ? s->flags : 0)) {
		return drop(DROP_FLOW_FULL);
	}
	return serve(skb, p, t, o, &k, begins);
}

static __always_inline int take_in(struct __sk_buff *skb, struct packet *p, struct abi_published port, struct origin *o)
{
	struct dialled d = {};
	int rc = dial(skb, p, port, o, &d);

	if (rc != DIALLED)
		return rc;
	if (d.s)
		take_choice(d.s, p, &d.c);
	event(INGRESS);
	return serve_or_pass_on(skb, p, d.s, port.target, &d.t, o);
}

/* An answer, already as the client expects it (its addresses are r's), from this node to the client. */
static __noinline int to_client(struct __sk_buff *skb, __be32 saddr, __be32 daddr)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.ipv4_src = saddr,
		.ipv4_dst = daddr,
		.ifindex = skb->ifindex,
	};
	struct bpf_redir_neigh nh = { .nh_family = AF_INET };
	long rc;

	if (is_loopback(daddr))
		return to_host(skb);
	rc = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	switch (rc) {
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return to_host(skb);
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		nh.ipv4_nh = fib.ipv4_dst;
		see_out(skb, VERDICT_OUT, fib.ifindex);
		return bpf_redirect_neigh(fib.ifindex, &nh, sizeof(nh), 0);
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		if (set_macs(skb, fib.dmac, fib.smac))
			return drop(DROP_MALFORMED);
		see_out(skb, VERDICT_OUT, fib.ifindex);
		return bpf_redirect(fib.ifindex, 0);
	}
	return drop(DROP_NO_ROUTE);
}

/* Out to the client from here, or back through the ingress node. */
static __always_inline int send_answer(struct __sk_buff *skb, __be32 saddr, __be32 daddr, __be32 node, const __u8 *smac)
{
	if (!node)
		return to_client(skb, saddr, daddr);
	if (set_macs(skb, reply_mac, smac))
		return drop(DROP_MALFORMED);
	return to_node(skb, node, ingress_vni());
}

/*
 * Makes a refusal one of something that was never asked (its acknowledgement is one too low). RFC 9293 3.10.7.3 has the
 * client drop it; Linux sends its SYN again at once then (two ticks), others after their second.
 */
static __noinline int ask_again(struct __sk_buff *skb, const struct packet *p)
{
	struct tcphdr *tcp = data_of(skb) + L4_OFF(p);
	__be32 old, low;

	if ((void *)(tcp + 1) > end_of(skb))
		return -1;
	old = tcp->ack_seq;
	low = bpf_htonl(bpf_ntohl(old) - 1);
	tcp->ack_seq = low;
	event(ASK_AGAIN);
	return bpf_l4_csum_replace(skb, L4_OFF(p) + offsetof(struct tcphdr, check), old, low, sizeof(low));
}

enum refusal { REFUSAL_TELL, REFUSAL_ASK_AGAIN, REFUSAL_HOLD };

/*
 * A SYN refused by a task that answered others on this port: it has died a moment ago, and its node will have taken it
 * out of the tables when the client asks again. A port nobody ever answered on is refused at once.
 */
static __always_inline enum refusal refusal_of(struct abi_flow *f, const struct packet *p)
{
	struct abi_backend *b;

	if (p->proto != IPPROTO_TCP || f->state != FLOW_SYN)
		return REFUSAL_TELL;
	if (!(p->tcp & TCP_RST)) /* it lives */
		f->flags &= ~FLOW_REFUSED;
	if (!(p->tcp & TCP_RST) || (f->flags & FLOW_HELD))
		return REFUSAL_TELL;
	b = backend_of(f->backend);
	if (!b || !(b->heard & heard_bit(p->sport)))
		return REFUSAL_TELL;
	if ((f->flags & FLOW_ASKED) || !(p->tcp & TCP_ACK)) {
		f->flags |= FLOW_HELD;
		return REFUSAL_HOLD;
	}
	f->flags |= FLOW_ASKED;
	return REFUSAL_ASK_AGAIN;
}

/* A task's answer on flow f: as the client expects it, back to where it came in. */
static __always_inline int answer(struct __sk_buff *skb, const struct packet *p, struct abi_flow *f)
{
	__be32 node = f->flags & FLOW_DIRECT ? 0 : f->node;
	struct rewrite r = {
		.saddr = f->dst,
		.daddr = f->client,
		.sport = f->dport,
		.dport = f->cport,
		.hops = p->ttl > 1,
	};

	switch (refusal_of(f, p)) {
	case REFUSAL_HOLD:
		return drop(DROP_REFUSAL);
	case REFUSAL_ASK_AGAIN:
		if (ask_again(skb, p))
			return drop(DROP_NAT);
		break;
	case REFUSAL_TELL:
		flow_state(f, p, true);
	}
	add_stats(skb, p, f->backend, true, false);
	if (rewrite(skb, p, &r))
		return drop(DROP_NAT);
	if (p->first) {
		if (node)
			(void)set_macs(skb, reply_mac, p->smac);
		fragment_note(skb, p, 0, node, node ? ingress_vni() : 0);
	}
	return send_answer(skb, r.saddr, r.daddr, node, p->smac);
}

#endif
