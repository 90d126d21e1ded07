/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: published ports: from a client's packet to the task, and from the task's answer to the client.
 * Wire: the inner frame's destination MAC names the task, its source MAC the ingress node:
 *       02 : 4c | HOP | MASQ : a.b.c.d. Answers carry the destination MAC reply_mac. IP headers are as the
 *       client sees them; only the task's node translates, and it keeps the flow.
 * Flows: keyed by how the task sees the client. Two dialled addresses (or two ports) may make the same client
 *       port reach one task port twice: the second gets another client port, found again by the same probing.
 */
#ifndef BPF_INGRESS_H
#define BPF_INGRESS_H

#include "bpf/fragment.h"
#include "bpf/lb.h"
#include "bpf/tunnel.h"

#define PORT_PROBES 4
#define FLOW_REUSE_NS (120ULL * 1000000000)

static const __u8 zero_mac[ETH_ALEN] = {};

/* Where a packet came from, for those who serve it. */
struct origin {
	__be32 node;    /* ingress node, 0 = this one */
	__u8 mac_flags; /* MAC_HOP, MAC_MASQ */
	__u8 egress;    /* we run on an egress hook */
	__u8 hops;      /* to take from the TTL: 1 at the ingress, 0 behind the tunnel */
};

struct target {
	__u32 backend; /* 0: a host-mode task of no service */
	__be32 ip;
	__be32 node; /* 0 = this one */
	__u32 ifindex;
	__u32 task;
	__u8 mac[ETH_ALEN];
	__u8 serving;
};

/* By the task, or by who talks to it. */
static __always_inline void add_resets(struct abi_stats *s, const struct packet *p, bool out)
{
	if (!(p->tcp & TCP_RST))
		return;
	if (out)
		s->resets_task++;
	else
		s->resets_peer++;
}

static __always_inline void add_stats(struct __sk_buff *skb, const struct packet *p, __u32 backend, bool out,
                                      bool begins)
{
	struct abi_stats *s = stats_of(backend);
	__u32 n = skb->gso_segs > 1 ? skb->gso_segs : 1;

	if (!s)
		return;
	if (out) {
		s->packets_out += n;
		s->bytes_out += skb->len;
	} else {
		s->packets_in += n;
		s->bytes_in += skb->len;
	}
	s->conns += begins;
	add_resets(s, p, out);
}

/* The same for what is not of a published port. */
static __always_inline void add_net_stats(struct __sk_buff *skb, const struct packet *p, __u32 backend, bool out)
{
	struct abi_stats *s = backend ? stats_of(backend) : 0;
	__u32 n = skb->gso_segs > 1 ? skb->gso_segs : 1;

	if (!s)
		return;
	if (out) {
		s->net_packets_out += n;
		s->net_bytes_out += skb->len;
	} else {
		s->net_packets_in += n;
		s->net_bytes_in += skb->len;
	}
	add_resets(s, p, out);
}

static __always_inline void add_refused(struct abi_service *s)
{
	if (s)
		__sync_fetch_and_add(&s->refused, 1);
}

/* A handshake ended, well or not. */
static __always_inline void add_opened(const struct abi_flow *f, __u8 state, __u64 now)
{
	__u32 backend = f->backend;
	struct abi_stats *s = stats_of(backend);

	if (!s)
		return;
	if (state == FLOW_CLOSED) {
		s->failed++;
		return;
	}
	s->opened++;
	if (now > f->seen_ns)
		s->open_ns += now - f->seen_ns;
}

static __always_inline struct abi_endpoint *endpoint_of(__u32 vni, __be32 ip)
{
	struct abi_endpoint_key k = { .vni = vni, .ip = addr4(ip) };

	return bpf_map_lookup_elem(&endpoints, &k);
}

static __always_inline bool target_of_backend(struct target *t, __u32 i)
{
	struct abi_backend *b = backend_of(i);

	if (!b)
		return false;
	t->backend = i;
	t->ip = b->ip.w[3];
	t->node = b->node.w[3];
	t->ifindex = b->ifindex;
	t->task = 0;
	t->serving = takes_new(b);
	__builtin_memcpy(t->mac, b->mac, ETH_ALEN);
	return true;
}

static __always_inline void target_of_endpoint(struct target *t, const struct abi_endpoint *ep, __be32 ip)
{
	struct abi_backend *b = backend_of(ep->backend);

	t->backend = ep->backend;
	t->ip = ip;
	t->node = ep->node.w[3];
	t->ifindex = ep->ifindex;
	t->task = ep->task;
	t->serving = !b || takes_new(b);
	__builtin_memcpy(t->mac, ep->mac, ETH_ALEN);
}

static __always_inline __be16 other_port(const struct packet *p, __u32 i)
{
	__u32 h = (p->daddr ^ p->saddr) * 0x9e3779b1U + ((__u32)p->dport << 16 | p->sport) * 0x85ebca77U +
	          i * 0xc2b2ae3dU;

	return bpf_htons((__u16)(1024 + (h >> 8) % 64000));
}

static __always_inline bool same_flow(const struct abi_flow *f, const struct packet *p)
{
	return f->dst == p->daddr && f->dport == p->dport && f->client == p->saddr && f->cport == p->sport;
}

static __always_inline struct abi_flow *flow_at(const struct abi_flow_key *k)
{
	struct abi_flow *f = bpf_map_lookup_elem(&flows, k);

	if (f || k->proto != IPPROTO_TCP)
		return f;
	f = bpf_map_lookup_elem(&syns, k);
	return f && f->state == FLOW_SYN ? f : 0;
}

/* Has any flow of this node another client port than its client's own? Rarely; until then nobody need look for it. */
static __always_inline bool other_ports(void)
{
	__u32 zero = 0;
	struct abi_runtime *rt = bpf_map_lookup_elem(&runtime, &zero);

	return rt && rt->other_ports;
}

static __always_inline void note_other_port(void)
{
	__u32 zero = 0;
	struct abi_runtime *rt = bpf_map_lookup_elem(&runtime, &zero);

	if (rt)
		rt->other_ports = 1;
	event(OTHER_PORT);
}

/*
 * Some connection has p's own port at k->peer, or had: looks for p's flow among the other ports it may have got, from
 * the first on. True when found, at k; else k->pport is the one a new flow may have (0 = none free): one that nobody
 * has, or whose connection closed so long ago that the task has forgotten it; else that of whichever closed first. A
 * task that still remembers that one makes the client ask again, after which it takes it.
 */
ONCE int flow_probe(struct abi_flow_key *key, const struct packet *p)
{
	__be16 unused = 0, closed = 0;
	__u64 now = 0, closed_ns = ~0ULL;

	if (!key || !p)
		return false;
	struct abi_flow_key k = *key; /* Linux 6.1 looks up what is on the stack only */
#pragma unroll
	for (__u32 i = 0; i < PORT_PROBES; i++) {
		key->pport = k.pport = i ? other_port(p, i) : p->sport;
		struct abi_flow *f = flow_at(&k);
		if (!f) {
			unused = unused ? unused : k.pport;
			continue;
		}
		if (same_flow(f, p))
			return true;
		if (unused || f->state != FLOW_CLOSED)
			continue;
		now = now ? now : bpf_ktime_get_coarse_ns();
		if (now - f->seen_ns > FLOW_REUSE_NS)
			unused = k.pport;
		if (f->seen_ns < closed_ns) {
			closed = k.pport;
			closed_ns = f->seen_ns;
		}
	}
	key->pport = unused ? unused : closed;
	return false;
}

/* Finds p's flow; k->pport is the client port the task sees, or the one a new flow may have, see above. */
static __noinline struct abi_flow *flow_find(struct abi_flow_key *k, const struct packet *p)
{
	struct abi_flow *f;

	k->pport = p->sport;
	f = flow_at(k);
	if (f ? same_flow(f, p) : !other_ports())
		return f;
	return flow_probe(k, p) ? flow_at(k) : 0;
}

static __always_inline void flow_state(struct abi_flow *f, const struct packet *p, bool from_task)
{
	__u8 state = f->state, flags = f->flags;

	if (p->proto == IPPROTO_UDP) {
		__u64 now = bpf_ktime_get_coarse_ns();
		if (now - f->seen_ns > 1000000000)
			f->seen_ns = now;
		return;
	}
	if (!from_task && is_new(p)) {
		if (state == FLOW_OPEN)
			return;
		state = FLOW_SYN;
		flags &= ~(FLOW_FIN_CLIENT | FLOW_FIN_TASK);
	} else if (!from_task && state == FLOW_SYN) {
		state = FLOW_OPEN;
	}
	if (p->tcp & TCP_FIN)
		flags |= from_task ? FLOW_FIN_TASK : FLOW_FIN_CLIENT;
	if ((p->tcp & TCP_RST) || (flags & (FLOW_FIN_CLIENT | FLOW_FIN_TASK)) == (FLOW_FIN_CLIENT | FLOW_FIN_TASK))
		state = FLOW_CLOSED;
	if (state == f->state && flags == f->flags)
		return;
	__u64 now = bpf_ktime_get_coarse_ns();
	if (f->state == FLOW_SYN && state != FLOW_SYN)
		add_opened(f, state, now);
	f->state = state;
	f->flags = flags;
	f->seen_ns = now;
}

static __always_inline int flow_begin(struct abi_flow_key *k, const struct packet *p, const struct target *t,
                                      const struct origin *o, __u32 service_flags)
{
	struct abi_endpoint *ep;
	struct abi_flow f = {
		.dst = p->daddr,
		.client = p->saddr,
		.node = o->node,
		.dport = p->dport,
		.cport = p->sport,
		.backend = t->backend,
		.task = t->task,
		.state = is_new(p) && p->proto == IPPROTO_TCP ? FLOW_SYN : FLOW_OPEN,
		.seen_ns = bpf_ktime_get_coarse_ns(),
	};

	if (!k->pport)
		return -1;
	if (k->pport != p->sport)
		note_other_port();
	if ((service_flags & SERVICE_DIRECT) && !(o->mac_flags & MAC_MASQ))
		f.flags = FLOW_DIRECT;
	if (!f.task) {
		struct abi_backend *b = backend_of(t->backend);
		ep = b ? endpoint_of(b->vni, t->ip) : 0;
		f.task = ep ? ep->task : 0;
	}
	event(FLOW_NEW);
	/* The place of a closed connection is taken as it is: that pushes nobody out, and answers must not find the old one. */
	if (f.state != FLOW_SYN || bpf_map_lookup_elem(&flows, k))
		return insert(&flows, TABLE_FLOWS, k, &f) ? -1 : 0;
	f.flags |= FLOW_HALF;
	return insert(&syns, TABLE_SYNS, k, &f) ? -1 : 0;
}

static __always_inline __u32 heard_bit(__be16 port)
{
	return 1U << (bpf_ntohs(port) & 31);
}

/* The client has answered the task's SYN: a connection, which a flood of SYNs may not push out. */
static __noinline int flow_settle(const struct abi_flow_key *k, struct abi_flow *f)
{
	struct abi_flow settled = *f;

	struct abi_backend *b = backend_of(f->backend);

	/* Written once: this memory is read by everybody. */
	if (b && !(b->heard & heard_bit(k->tport)))
		__sync_fetch_and_or(&b->heard, heard_bit(k->tport));
	settled.flags &= ~FLOW_HALF;
	f->state = FLOW_CLOSED;
	return insert(&flows, TABLE_FLOWS, k, &settled) ? -1 : 0;
}

static __always_inline int send_on(struct __sk_buff *skb, const struct packet *p, const struct target *t,
                                   const struct origin *o)
{
	__be32 node = o->node ? o->node : config.self.w[3];
	__u8 mac[ETH_ALEN] = { 0x02, MAC_MARK | o->mac_flags };
	struct rewrite r = rewrite_of(p);

	__builtin_memcpy(mac + 2, &node, 4);
	r.hops = o->hops;
	if (r.hops && rewrite(skb, p, &r))
		return drop(DROP_NAT);
	if (set_macs(skb, t->mac, mac))
		return drop(DROP_MALFORMED);
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

static __always_inline void key_of_target(struct abi_flow_key *k, const struct packet *p, const struct target *t,
                                          const struct origin *o, __be16 port)
{
	__be32 peer = p->saddr;

	if (o->mac_flags & MAC_MASQ)
		peer = o->node ? o->node : config.self.w[3];
	__builtin_memset(k, 0, sizeof(*k));
	k->task = t->ip;
	k->peer = peer;
	k->tport = port;
	k->proto = p->proto;
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
		f = flow_find(&k, p);
		/* Refused by a task that takes nothing new any more: it belongs to nobody. */
		if (f && !t->serving && f->state == FLOW_SYN && (f->flags & FLOW_REFUSED))
			f = 0;
	}
	if (!f && may_be_older_connection(p))
		return NOT_KNOWN;
	if (!f && s && !(o->mac_flags & MAC_HOP) &&
	    (!t->ifindex || !t->serving || p->proto == IPPROTO_UDP || !is_new(p))) {
		other = choose_other(s, p, t->ip);
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

static __always_inline struct abi_port *port_of(__u8 proto, __be16 port)
{
	struct abi_port_key k = { .proto = proto, .port = port };

	return bpf_map_lookup_elem(&ports, &k);
}

/* Published ports above this may be some connection's own port: then a socket of the host decides. */
#define EPHEMERAL_MIN 32768

static __always_inline bool is_host_socket(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_sock_tuple t = { .ipv4 = { p->saddr, p->daddr, p->sport, p->dport } };
	struct bpf_sock *sk;
	bool ours;

	if (bpf_ntohs(p->dport) < EPHEMERAL_MIN)
		return false;
	if (p->proto == IPPROTO_TCP) {
		if (is_new(p))
			return false;
		sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
		ours = sk && sk->state != BPF_TCP_LISTEN;
	} else {
		sk = bpf_sk_lookup_udp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
		ours = sk && sk->state == BPF_TCP_ESTABLISHED;
	}
	if (sk)
		bpf_sk_release(sk);
	return ours;
}

static __noinline bool in_range(__u32 service, enum abi_range_kind kind, __be32 addr)
{
	struct abi_range_key k = { .prefix = 192, .service = service, .kind = kind, .net = addr4(addr) };

	return bpf_map_lookup_elem(&ranges, &k) != 0;
}

/* Whether a service's ranges let a packet in: TC_ACT_OK, or what becomes of it. The machine itself may always dial. */
static __always_inline int admit(const struct abi_service *s, __u32 service, const struct packet *p)
{
	if ((s->flags & SERVICE_DIALLED) && !in_range(service, RANGE_DIALLED, p->daddr))
		return TC_ACT_UNSPEC;
	if ((s->flags & SERVICE_SOURCES) && !is_loopback(p->saddr) && !in_range(service, RANGE_SOURCE, p->saddr))
		return drop(DROP_SOURCE);
	return TC_ACT_OK;
}

/*
 * A packet to one of the host's addresses whose port is published. TC_ACT_UNSPEC: not ours after all.
 */
static __always_inline int take_in(struct __sk_buff *skb, struct packet *p, struct abi_port *port, struct origin *o)
{
	struct abi_service *s = 0;
	struct abi_endpoint *ep;
	struct target t = {};

	if ((port->flags & PORT_CLOSED_HERE) || is_host_socket(skb, p))
		return TC_ACT_UNSPEC;
	if (o->hops && p->ttl <= 1)
		return drop(DROP_TTL);
	if (port->kind == PORT_HOST) {
		ep = endpoint_of(port->vni, port->ip.w[3]);
		if (!ep || !ep->ifindex)
			return drop(DROP_NO_BACKEND);
		target_of_endpoint(&t, ep, port->ip.w[3]);
		t.serving = 1;
	} else {
		s = service_of(port->service);
		if (s && (s->flags & (SERVICE_SOURCES | SERVICE_DIALLED))) {
			int rc = admit(s, port->service, p);
			if (rc != TC_ACT_OK)
				return rc;
		}
		if (s && remembered_before(s, p))
			return NOT_KNOWN;
		if (!s || !target_of_backend(&t, choose(s, p))) {
			add_refused(s);
			return drop(DROP_NO_BACKEND);
		}
	}
	event(INGRESS);
	return serve_or_pass_on(skb, p, s, port->target, &t, o);
}

/* To this machine's own stack, as if it had come over the loopback. */
static __always_inline int to_host(struct __sk_buff *skb)
{
	if (set_macs(skb, zero_mac, zero_mac))
		return drop(DROP_MALFORMED);
	see_out(skb, VERDICT_HOST, config.lo_ifindex);
	return bpf_redirect(config.lo_ifindex, BPF_F_INGRESS);
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

static __always_inline struct abi_flow *flow_of_answer(const struct packet *p, __be32 task)
{
	struct abi_flow_key k = {
		.task = task,
		.peer = p->daddr,
		.tport = p->sport,
		.pport = p->dport,
		.proto = p->proto,
	};
	struct abi_flow *f = bpf_map_lookup_elem(&flows, &k);

	/* What answers a SYN. */
	if (f || p->proto != IPPROTO_TCP || !(p->tcp & (TCP_SYN | TCP_RST)))
		return f;
	f = bpf_map_lookup_elem(&syns, &k);
	return f && f->state == FLOW_SYN ? f : 0;
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
