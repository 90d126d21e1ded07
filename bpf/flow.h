/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: flows of the tasks of this node, which their node translates.
 * Key:  how the task sees the client. Two dialled addresses (or two ports) may make the same client port reach one
 *       task port twice: the second gets another client port, found again by the same probing.
 */
#ifndef BPF_FLOW_H
#define BPF_FLOW_H

#include "bpf/dial.h"
#include "bpf/stats.h"

#define PORT_PROBES 4
#define CLOCK_TICKS 64 /* 64 to 640 ms: reading the clock costs a fifth of a datagram */
#define FLOW_REUSE_NS (120ULL * 1000000000)

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
 * task that still remembers that one makes the client ask again, after which it takes it. Datagrams have no end: of those,
 * whichever rests longest.
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
		if (unused || (f->state != FLOW_CLOSED && k.proto != IPPROTO_UDP))
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
static __always_inline struct abi_flow *flow_find_first(struct abi_flow_key *k, const struct packet *p)
{
	struct abi_flow *f;

	k->pport = p->sport;
	f = flow_at(k);
	if (f ? same_flow(f, p) : !other_ports())
		return f;
	return flow_probe(k, p) ? flow_at(k) : 0;
}

/* The same in a function of its own, for those who ask twice. */
static __noinline struct abi_flow *flow_find(struct abi_flow_key *k, const struct packet *p)
{
	return flow_find_first(k, p);
}

static __always_inline void flow_state(struct abi_flow *f, const struct packet *p, bool from_task)
{
	__u8 state = f->state, flags = f->flags;

	if (p->proto == IPPROTO_UDP) {
		__u32 tick = (__u32)bpf_jiffies64();
		if (tick - f->tick < CLOCK_TICKS)
			return;
		f->tick = tick;
		f->seen_ns = bpf_ktime_get_coarse_ns();
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

#endif
