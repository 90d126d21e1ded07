/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: which backend serves a flow. Tables are Maglev's, built by userspace; a service whose set changed also has
 *       the previous table. Where the two differ, flows that begin are remembered; a flow that is not remembered
 *       began when its slot was what the previous table says, however many changes ago that was.
 */
#ifndef BPF_LB_H
#define BPF_LB_H

#include "bpf/handover.h"

/* UDP has no SYN: for this long after a change an unknown flow may be an old one. */
#define UDP_OLD_NS (60ULL * 1000000000)
#define UDP_SWITCH_NS (3ULL * 1000000000)

static __always_inline __u32 flow_hash(const struct packet *p, __u32 flags)
{
	__u64 x = (__u64)p->saddr << 32 | p->daddr;
	__u64 y = (__u64)p->sport << 32 | (__u64)p->dport << 16 | p->proto;

	if (flags & SERVICE_AFFINITY) {
		x = p->saddr;
		y = 0;
	}
	x = (x ^ 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL;
	x ^= x >> 32;
	x = (x ^ y) * 0xc4ceb9fe1a85ec53ULL;
	x ^= x >> 29;
	x *= 0x9e3779b97f4a7c15ULL;
	return (__u32)(x >> 32);
}

static __always_inline __u32 slot_of(__u64 table, __u32 hash)
{
	__u32 i = hash & ((1U << (table & 31)) - 1);
	__u32 at = (__u32)(table >> 8) + i / ABI_CHUNK;
	struct abi_chunk *c = table ? SEGMENT_ELEM(&slots, ABI_SEGMENT_CHUNKS, at) : 0;

	return c ? c->slot[i % ABI_CHUNK] : 0;
}

static __always_inline struct abi_backend *backend_of(__u32 i)
{
	return i ? SEGMENT_ELEM(&backends, ABI_SEGMENT_BACKENDS, i) : 0;
}

static __always_inline bool takes_old(const struct abi_backend *b)
{
	return b && (b->state == BACKEND_SERVING || b->state == BACKEND_DRAINING);
}

/* At its own node a task that starts takes what another node, ahead of this one, already sends it. */
static __always_inline bool takes_new(const struct abi_backend *b)
{
	return b->state == BACKEND_SERVING || b->state == BACKEND_STARTING;
}

static __always_inline struct abi_service *service_of(__u32 i)
{
	return bpf_map_lookup_elem(&services, &i);
}

static __always_inline bool is_local(const struct abi_addr *node)
{
	return node->w[3] == 0;
}

/*
 * begins: by its SYN, which anybody can send for everybody; those fill a table of their own. One that uses the ports of
 * an earlier flow again takes its place.
 */
static __always_inline void remember(const struct abi_choice_key *k, __u32 i, bool begins)
{
	struct abi_backend *b = backend_of(i);
	struct abi_choice *known;

	if (!b)
		return;
	struct abi_choice c = { .backend = i, .uid = b->uid };
	known = begins ? bpf_map_lookup_elem(&choices, k) : 0;
	if (known)
		*known = c;
	else if (begins)
		insert(&syn_choices, TABLE_SYN_CHOICES, k, &c);
	else
		insert(&choices, TABLE_CHOICES, k, &c);
}

static __always_inline struct abi_choice_key choice_key(const struct packet *p)
{
	return (struct abi_choice_key){
		.client = p->saddr,
		.dst = p->daddr,
		.cport = p->sport,
		.dport = p->dport,
		.proto = p->proto,
	};
}

/* Whom the flow was given to, while that one takes its packets; 0 = not remembered. p is not its SYN. */
static __always_inline __u32 recall(const struct abi_choice_key *k)
{
	struct abi_choice *c = bpf_map_lookup_elem(&choices, k);
	struct abi_choice *syn = c || k->proto != IPPROTO_TCP ? 0 : bpf_map_lookup_elem(&syn_choices, k);
	struct abi_backend *b;

	c = c ? c : syn;
	b = c ? backend_of(c->backend) : 0;
	if (!b || b->uid != c->uid || !takes_old(b))
		return 0;
	if (syn)
		remember(k, syn->backend, false);
	return c->backend;
}

/*
 * Does an unremembered flow go on there? Datagrams only while it serves: nobody waits for them when it stops, and it may
 * drain because its machine is silent.
 */
static __always_inline bool keeps(const struct abi_backend *b, __u8 proto)
{
	return proto == IPPROTO_UDP ? b && b->state == BACKEND_SERVING : takes_old(b);
}

/* A task that is to get nothing new, for traffic was switched elsewhere, keeps what it hears from soon. */
static __always_inline __u64 udp_old_ns(__u32 backend)
{
	struct abi_backend *b = backend_of(backend);

	return b && b->spare ? UDP_SWITCH_NS : UDP_OLD_NS;
}

/* The two tables differ for this flow: the one place where an ingress keeps per-flow state. */
static __noinline __u32 choose_changing(struct abi_service *s, const struct packet *p, __u32 cur, __u32 prev)
{
	struct abi_choice_key k = choice_key(p);
	bool begins = p->proto == IPPROTO_TCP && is_new(p);
	__u32 known = begins ? 0 : recall(&k);

	if (known) {
		event(CACHED);
		return known;
	}
	if (begins || prev == cur || !keeps(backend_of(prev), p->proto)) {
		if (begins || prev != cur)
			remember(&k, cur, begins);
		return cur;
	}
	if (p->proto == IPPROTO_UDP && bpf_ktime_get_ns() - s->changed_ns > udp_old_ns(prev))
		return cur;
	remember(&k, prev, false);
	event(PREVIOUS);
	return prev;
}

/*
 * The task this client's new flows go to, for as long as the service says; who has none, or one that takes nothing new,
 * gets cur.
 */
static __noinline __u32 affine(struct abi_service *s, __u64 client, __u32 cur)
{
	struct abi_affinity_key k = { .service = s->key, .client = client };
	struct abi_affinity *a = bpf_map_lookup_elem(&affinity, &k);
	__u64 now = bpf_ktime_get_coarse_ns();
	struct abi_backend *b = a ? backend_of(a->backend) : 0;

	if (b && b->uid == a->uid && b->state == BACKEND_SERVING && !b->spare &&
	    now - a->seen_ns < s->affinity_s * 1000000000ULL) {
		if (now - a->seen_ns > 100000000)
			a->seen_ns = now;
		return a->backend;
	}
	b = backend_of(cur);
	if (!b)
		return 0;
	struct abi_affinity v = { .backend = cur, .uid = b->uid, .seen_ns = now };
	insert(&affinity, TABLE_AFFINITY, &k, &v);
	return cur;
}

/* A flow that follows its client elsewhere than the table says is remembered. */
static __noinline __u32 choose_affine(struct abi_service *s, const struct packet *p, __u32 cur)
{
	struct abi_choice_key k = choice_key(p);
	__u32 i;

	if (!is_new(p))
		return recall(&k);
	i = affine(s, p->saddr, cur);
	if (p->proto == IPPROTO_TCP && (i != cur || s->prev))
		remember(&k, i, true);
	return i;
}

/* The set changed, and who serves this flow may be remembered by the programs of before only. */
static __always_inline bool remembered_before(const struct abi_service *s, const struct packet *p)
{
	struct abi_choice_key k = choice_key(p);

	return config.handover && s->prev && may_be_older_connection(p) && !recall(&k);
}

/* Index of the backend for a packet at its ingress, 0 = none. */
static __always_inline __u32 choose(struct abi_service *s, const struct packet *p)
{
	__u32 hash = flow_hash(p, s->flags);
	__u64 old = *(volatile __u64 *)&s->prev;
	__u32 cur = slot_of(*(volatile __u64 *)&s->cur, hash);

	if (s->flags & SERVICE_AFFINITY) {
		__u32 known = choose_affine(s, p, cur);
		if (known)
			return known;
	}
	if (!old)
		return cur;
	__u32 prev = slot_of(old, hash);

	return prev == 0 || prev == cur ? cur : choose_changing(s, p, cur, prev & ~SLOT_LOOKUP);
}

/*
 * Another backend than the one at ip, which does not know this flow or takes no new ones; 0 = none. Who begins elsewhere
 * is remembered here too: until the ingress knows better, the rest of the flow comes the same way.
 */
ONCE __u32 pick_other(struct abi_service *s, const struct packet *p, __be32 ip)
{
	if (!s || !p)
		return 0;
	__u32 hash = flow_hash(p, s->flags);
	__u32 cur = slot_of(s->cur, hash), prev = slot_of(s->prev, hash) & ~SLOT_LOOKUP;
	struct abi_choice_key k = choice_key(p);
	/* A datagram nobody knows would find nobody at the previous choice either, and is passed on only once. */
	bool datagram = p->proto == IPPROTO_UDP, old = !datagram && !is_new(p);
	__u32 known = old || datagram ? recall(&k) : 0;
	struct abi_backend *b = backend_of(known);

	if (b && b->ip.w[3] != ip)
		return known;
	b = backend_of(prev);
	if (old && takes_old(b) && b->ip.w[3] != ip)
		return prev;
	b = backend_of(cur);
	if (!b || b->state != BACKEND_SERVING || b->ip.w[3] == ip)
		return 0;
	if (!old)
		remember(&k, cur, !datagram);
	return cur;
}

static __always_inline __u32 choose_other(struct abi_service *s, const struct packet *p, __be32 ip)
{
	return pick_other(s, p, ip);
}

#endif
