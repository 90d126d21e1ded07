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

/* The same for the previous table. */
static __always_inline __u32 flow_hash_prev(const struct packet *p, __u32 flags, __u32 hash)
{
	return flags & SERVICE_PREV_OTHER ? flow_hash(p, flags ^ SERVICE_AFFINITY) : hash;
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
 * an earlier flow again is not that one any more.
 */
static __always_inline void remember(const struct abi_choice_key *k, __u32 i, bool begins)
{
	struct abi_backend *b = backend_of(i);

	if (!b)
		return;
	struct abi_choice c = { .backend = i, .uid = b->uid };
	if (!begins) {
		insert(&choices, TABLE_CHOICES, k, &c);
		return;
	}
	if (bpf_map_lookup_elem(&choices, k))
		forget(&choices, TABLE_CHOICES, k);
	insert(&syn_choices, TABLE_SYN_CHOICES, k, &c);
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

/*
 * Does an old flow go on there? Datagrams only while it serves: nobody waits for them when it stops, it may drain because
 * its machine is silent, and what comes from this port now may be another socket's.
 */
static __always_inline bool keeps(const struct abi_backend *b, __u8 proto)
{
	return proto == IPPROTO_UDP ? b && b->state == BACKEND_SERVING : takes_old(b);
}

/*
 * Whom the flow was given to, while that one takes its packets; 0 = not remembered. p is not its SYN. *settles: until
 * now by its SYN alone.
 */
static __always_inline __u32 recall(const struct abi_choice_key *k, bool *settles)
{
	struct abi_choice *c = bpf_map_lookup_elem(&choices, k);
	struct abi_choice *syn = c || k->proto != IPPROTO_TCP ? 0 : bpf_map_lookup_elem(&syn_choices, k);
	struct abi_backend *b;

	c = c ? c : syn;
	b = c ? backend_of(c->backend) : 0;
	if (!b || b->uid != c->uid || !keeps(b, k->proto))
		return 0;
	*settles = syn != 0;
	return c->backend;
}

/* A task that is to get nothing new, for traffic was switched elsewhere, keeps what it hears from soon. */
static __always_inline __u64 udp_old_ns(__u32 backend)
{
	struct abi_backend *b = backend_of(backend);

	return b && b->spare ? UDP_SWITCH_NS : UDP_OLD_NS;
}

/* Who serves a packet, and what is to be remembered of it; nothing has happened yet. */
enum keep { KEEP_NOT, KEEP_SYN, KEEP_FLOW, KEEP_AFFINE };
struct choice {
	__u32 backend; /* 0 = none */
	__u8 keep;
	__u8 event;  /* 1 + enum abi_event */
	__u8 affine; /* its client's new flows go there, too */
	__u8 pad;
};

/* The two tables differ for this flow: the one place where an ingress keeps per-flow state. */
static __noinline int choose_changing(struct abi_service *s, const struct packet *p, struct choice *c, __u32 prev)
{
	struct abi_choice_key k = choice_key(p);
	bool begins = p->proto == IPPROTO_TCP && is_new(p), settles = false;
	__u32 cur = c->backend, known = begins ? 0 : recall(&k, &settles);

	if (known) {
		c->backend = known;
		c->keep = settles ? KEEP_FLOW : KEEP_NOT;
		c->event = 1 + EVENT_CACHED;
	} else if (begins || prev == cur || !keeps(backend_of(prev), p->proto)) {
		c->keep = begins ? KEEP_SYN : prev != cur ? KEEP_FLOW : KEEP_NOT;
	} else if (p->proto != IPPROTO_UDP || bpf_ktime_get_ns() - s->changed_ns <= udp_old_ns(prev)) {
		c->backend = prev;
		c->keep = KEEP_FLOW;
		c->event = 1 + EVENT_PREVIOUS;
	}
	return 0;
}

static __always_inline struct abi_affinity_key affinity_key(const struct abi_service *s, __u64 client)
{
	return (struct abi_affinity_key){ .service = s->key, .client = client };
}

/* The task this client's new flows go to, for as long as the service says; 0: it has none, or one that takes nothing new. */
static __always_inline __u32 affine_of(const struct abi_service *s, __u64 client)
{
	struct abi_affinity_key k = affinity_key(s, client);
	struct abi_affinity *a = bpf_map_lookup_elem(&affinity, &k);
	struct abi_backend *b = a ? backend_of(a->backend) : 0;

	if (!b || b->uid != a->uid || b->state != BACKEND_SERVING || b->spare)
		return 0;
	return bpf_ktime_get_coarse_ns() - a->seen_ns < s->affinity_s * 1000000000ULL ? a->backend : 0;
}

static __always_inline void affine_keep(const struct abi_service *s, __u64 client, __u32 i)
{
	struct abi_affinity_key k = affinity_key(s, client);
	struct abi_affinity *a = bpf_map_lookup_elem(&affinity, &k);
	struct abi_backend *b = backend_of(i);

	if (!b)
		return;
	struct abi_affinity v = { .backend = i, .uid = b->uid, .seen_ns = bpf_ktime_get_coarse_ns() };
	if (!a || a->backend != i || a->uid != v.uid)
		insert(&affinity, TABLE_AFFINITY, &k, &v);
	else if (v.seen_ns - a->seen_ns > 100000000)
		a->seen_ns = v.seen_ns;
}

/* The same with cur for who has none, for those whose address is theirs for certain. */
static __attribute__((noinline, unused)) __u32 affine(struct abi_service *s, __u64 client, __u32 cur)
{
	__u32 i = affine_of(s, client);

	i = i ? i : cur;
	affine_keep(s, client, i);
	return backend_of(i) ? i : 0;
}

/*
 * A flow that follows its client elsewhere than the table says is remembered. A client is, once it has answered its
 * task's SYN: anybody can send the first packet for everybody.
 */
static __noinline bool choose_affine(struct abi_service *s, const struct packet *p, struct choice *c)
{
	struct abi_choice_key k = choice_key(p);
	bool settles = false;
	__u32 i;

	if (!is_new(p)) {
		i = recall(&k, &settles);
		if (settles)
			c->keep = i == c->backend && !s->prev ? KEEP_AFFINE : KEEP_FLOW;
		c->affine = settles;
	} else {
		i = affine_of(s, p->saddr);
		c->affine = i || p->proto != IPPROTO_TCP;
		if (p->proto == IPPROTO_TCP && (!i || i != c->backend || s->prev))
			c->keep = KEEP_SYN;
		i = i ? i : c->backend;
	}
	if (!i) {
		c->keep = KEEP_NOT;
		c->affine = 0;
		return false;
	}
	c->backend = i;
	return true;
}

/* The set changed, and who serves this flow may be remembered by the programs of before only. */
static __always_inline bool remembered_before(const struct abi_service *s, const struct packet *p)
{
	struct abi_choice_key k = choice_key(p);
	bool settles;

	return config.handover && s->prev && may_be_older_connection(p) && !recall(&k, &settles);
}

/* The backend for a packet at its ingress. c is zero. */
static __always_inline void choose(struct abi_service *s, const struct packet *p, struct choice *c)
{
	__u32 flags = *(volatile __u32 *)&s->flags, hash = flow_hash(p, flags);
	__u64 old = *(volatile __u64 *)&s->prev;

	c->backend = slot_of(*(volatile __u64 *)&s->cur, hash);
	if ((flags & SERVICE_AFFINITY) && choose_affine(s, p, c))
		return;
	__u32 prev = old ? slot_of(old, flow_hash_prev(p, flags, hash)) : 0;
	if (prev && prev != c->backend)
		choose_changing(s, p, c, prev & ~SLOT_LOOKUP);
}

static __noinline int remember_choice(const struct abi_service *s, const struct packet *p, const struct choice *c)
{
	struct abi_choice_key k = choice_key(p);

	if (c->event)
		event_count(c->event - 1);
	if (c->affine)
		affine_keep(s, p->saddr, c->backend);
	if (c->keep == KEEP_AFFINE)
		forget(&syn_choices, TABLE_SYN_CHOICES, &k);
	else if (c->keep)
		remember(&k, c->backend, c->keep == KEEP_SYN);
	return 0;
}

/* It is what happens to p. */
static __always_inline void take_choice(const struct abi_service *s, const struct packet *p, const struct choice *c)
{
	if (c->keep || c->event || c->affine)
		remember_choice(s, p, c);
}

/*
 * Another backend than the one at ip, which does not know this flow or takes no new ones; 0 = none. Who begins elsewhere
 * is remembered here too: until the ingress knows better, the rest of the flow comes the same way. takes: the one at ip
 * takes new flows. A datagram that nobody knows came to it because it had the slot before, when our table says so too;
 * otherwise by a table that may be younger than ours, and it stays.
 */
ONCE __u32 pick_other(struct abi_service *s, const struct packet *p, __be32 ip, bool takes)
{
	if (!s || !p)
		return 0;
	__u32 flags = *(volatile __u32 *)&s->flags, hash = flow_hash(p, flags);
	__u32 cur = slot_of(s->cur, hash), prev = slot_of(s->prev, flow_hash_prev(p, flags, hash)) & ~SLOT_LOOKUP;
	struct abi_choice_key k = choice_key(p);
	/* A datagram nobody knows would find nobody at the previous choice either, and is passed on only once. */
	bool datagram = p->proto == IPPROTO_UDP, old = !datagram && !is_new(p), settles = false;
	__u32 known = old || datagram ? recall(&k, &settles) : 0;
	struct abi_backend *b = backend_of(known);

	if (settles)
		remember(&k, known, false);
	if (b && b->ip.w[3] != ip)
		return known;
	b = backend_of(prev);
	if (old && takes_old(b) && b->ip.w[3] != ip)
		return prev;
	if (datagram && takes && (!b || b->ip.w[3] != ip))
		return 0;
	b = backend_of(cur);
	if (!b || b->state != BACKEND_SERVING || b->ip.w[3] == ip)
		return 0;
	if (!old)
		remember(&k, cur, !datagram);
	return cur;
}

static __always_inline __u32 choose_other(struct abi_service *s, const struct packet *p, __be32 ip, bool takes)
{
	return pick_other(s, p, ip, takes);
}

#endif
