// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The peer of bench/packet: an XDP balancer of our own with the structure that Katran's has, map by map, so that its
 * price can be asked for in the same run as ours. It is a model, not Katran: of what that program can do it has the way
 * of an IPv4 packet with TCP or UDP, IPIP encapsulation, and no option turned on.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bench/bpf/peer.h"

#define MAP(name_, type_, k, v, n)                                                                                     \
	struct {                                                                                                       \
		__uint(type, type_);                                                                                   \
		__uint(max_entries, n);                                                                                \
		__type(key, k);                                                                                        \
		__type(value, v);                                                                                      \
	} name_ SEC(".maps")

struct peer_lru {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PEER_FLOWS);
	__uint(key_size, sizeof(struct peer_flow_key)); /* clang leaves inner types incomplete */
	__uint(value_size, sizeof(struct peer_flow));
};
MAP(vips, BPF_MAP_TYPE_HASH, struct peer_vip_key, struct peer_vip, PEER_VIPS);
MAP(rings, BPF_MAP_TYPE_ARRAY, __u32, __u32, PEER_VIPS *PEER_RING);
MAP(reals, BPF_MAP_TYPE_ARRAY, __u32, struct peer_real, PEER_REALS);
MAP(counts, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct peer_count, PEER_COUNTS);
MAP(real_counts, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct peer_count, PEER_REALS);
MAP(rates, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct peer_rate, 1);
MAP(control, BPF_MAP_TYPE_ARRAY, __u32, __u64, 16); /* the first: the router's MAC */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PEER_CPUS);
	__type(key, __u32);
	__array(values, struct peer_lru);
} lrus SEC(".maps");

#define UDP_SECONDS 30
#define SECOND 1000000000ULL
#define FRAME_MAX 1514

struct packet {
	struct peer_flow_key flow;
	__u32 bytes;
	__u8 syn;
};

static __always_inline void add(void *map, __u32 i, __u64 bytes)
{
	struct peer_count *c = bpf_map_lookup_elem(map, &i);

	if (c) {
		c->packets++;
		c->bytes += bytes;
	}
}

/* False: nothing that a service could take. */
static __always_inline int parse(struct xdp_md *xdp, struct packet *p)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 ||
	    (ip->frag_off & bpf_htons(0x3fff)))
		return 0;
	p->flow.src[0] = ip->saddr;
	p->flow.dst[0] = ip->daddr;
	p->flow.proto = ip->protocol;
	p->bytes = bpf_ntohs(ip->tot_len);
	if (ip->protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return 0;
		p->syn = tcp->syn;
		p->flow.ports[0] = tcp->source;
		p->flow.ports[1] = tcp->dest;
	} else if (ip->protocol == IPPROTO_UDP) {
		if ((void *)(udp + 1) > end)
			return 0;
		p->flow.ports[0] = udp->source;
		p->flow.ports[1] = udp->dest;
	} else {
		return 0;
	}
	return 1;
}

static __always_inline struct peer_vip *vip_of(const struct packet *p)
{
	struct peer_vip_key k = { .addr = { p->flow.dst[0] }, .port = p->flow.ports[1], .proto = p->flow.proto };
	struct peer_vip *v = bpf_map_lookup_elem(&vips, &k);

	if (v)
		return v;
	k.port = 0;
	return bpf_map_lookup_elem(&vips, &k);
}

/* The real of a flow that is known. */
static __always_inline struct peer_real *recall(void *lru, const struct packet *p, __u32 *number)
{
	struct peer_flow *f = bpf_map_lookup_elem(lru, &p->flow);

	if (!f)
		return 0;
	if (p->flow.proto == IPPROTO_UDP) {
		__u64 now = bpf_ktime_get_ns();
		if (now - f->seen_ns > UDP_SECONDS * SECOND)
			return 0;
		f->seen_ns = now;
	}
	*number = f->real;
	return bpf_map_lookup_elem(&reals, number);
}

static __always_inline __u32 hash_of(const struct packet *p)
{
	__u64 x = ((__u64)p->flow.src[0] << 32 | (__u32)p->flow.ports[0] << 16 | p->flow.ports[1]) *
	          0x9e3779b97f4a7c15ULL;

	x ^= x >> 32;
	return (__u32)((x * 0xff51afd7ed558ccdULL) >> 32);
}

static __always_inline int is_flood(__u64 now)
{
	__u32 zero = 0;
	struct peer_rate *r = bpf_map_lookup_elem(&rates, &zero);

	if (!r)
		return 1;
	if (now - r->since_ns > SECOND) {
		r->since_ns = now;
		r->n = 0;
	}
	return ++r->n > PEER_RATE_MAX;
}

static __always_inline struct peer_real *choose(void *lru, const struct packet *p, const struct peer_vip *v,
                                                __u32 *number)
{
	__u32 at = v->number * PEER_RING + hash_of(p) % PEER_RING;
	__u32 *slot = bpf_map_lookup_elem(&rings, &at);
	struct peer_real *real;
	struct peer_flow f = {};
	__u64 now = bpf_ktime_get_ns();

	if (!slot)
		return 0;
	*number = f.real = *slot;
	real = bpf_map_lookup_elem(&reals, number);
	if (!real || is_flood(now))
		return real;
	f.seen_ns = p->flow.proto == IPPROTO_UDP ? now : 0;
	bpf_map_update_elem(lru, &p->flow, &f, BPF_ANY);
	return real;
}

static __always_inline int encapsulate(struct xdp_md *xdp, const struct packet *p, const struct peer_real *real,
                                       const __u8 *router)
{
	struct ethhdr *eth, *old;
	struct iphdr *ip;
	__u64 sum = 0;

	if (bpf_xdp_adjust_head(xdp, -(int)sizeof(*ip)))
		return -1;
	eth = (void *)(long)xdp->data;
	ip = (void *)(eth + 1);
	old = (void *)(long)xdp->data + sizeof(*ip);
	if ((void *)(old + 1) > (void *)(long)xdp->data_end)
		return -1;
	__builtin_memcpy(eth->h_source, old->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, router, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	*(__be32 *)ip = bpf_htonl(0x45000000U | (p->bytes + sizeof(*ip)));
	*((__be32 *)ip + 1) = 0;
	*((__be32 *)ip + 2) = bpf_htonl(64U << 24 | IPPROTO_IPIP << 16);
	/* An address of the flow's own, so that the real's receive queues share the work. */
	ip->saddr = bpf_htonl(0xac100000) | ((p->flow.src[0] ^ (__u32)p->flow.ports[0] << 16) & bpf_htonl(0xffff));
	ip->daddr = real->addr[0];
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += ((__u16 *)ip)[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = (__u16) ~(sum + (sum >> 16));
	return 0;
}

SEC("xdp")
int peer(struct xdp_md *xdp)
{
	__u32 cpu = bpf_get_smp_processor_id(), zero = 0, number = 0;
	struct peer_real *real = 0;
	struct packet p = {};
	struct peer_vip *v;
	void *lru, *router;

	if (!parse(xdp, &p))
		return XDP_PASS;
	add(&counts, PEER_ALL, p.bytes);
	v = vip_of(&p);
	if (!v) {
		add(&counts, PEER_PASSED, p.bytes);
		return XDP_PASS;
	}
	if (xdp->data_end - xdp->data > FRAME_MAX)
		return XDP_DROP;
	lru = bpf_map_lookup_elem(&lrus, &cpu);
	if (!lru)
		return XDP_DROP;
	if (p.syn)
		add(&counts, PEER_SYNS, 0);
	else
		real = recall(lru, &p, &number);
	if (!real) {
		if (!p.syn)
			add(&counts, PEER_MISSES, 0);
		real = choose(lru, &p, v, &number);
		if (!real)
			return XDP_DROP;
	}
	router = bpf_map_lookup_elem(&control, &zero);
	if (!router)
		return XDP_DROP;
	add(&counts, v->number & (PEER_VIPS - 1), p.bytes);
	add(&real_counts, number, p.bytes);
	return encapsulate(xdp, &p, real, router) ? XDP_DROP : XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
