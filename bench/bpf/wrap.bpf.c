// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Makes repeated test runs honest: every run finds the same packet again (the one before rewrote it), of the next
 * flow. What this costs itself is measured by letting it call "nothing".
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "bench/bpf/wrap.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

struct wrap wrap = {};

SEC("tc")
int again(struct __sk_buff *skb)
{
	__u32 n = wrap.n++;
	__u32 flow = (n * 2654435761U) & wrap.flow_mask;
	__u64 *to = (void *)(long)skb->data, *from = wrap.frame;

	if ((void *)(to + WRAP_WORDS) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
#pragma unroll
	for (int i = 0; i < WRAP_WORDS; i++)
		to[i] = from[i];
	/* The other end: below the address's last octets and the port, in network order. */
	__u8 *at = (void *)to;
	if (wrap.vary == WRAP_DST) {
		*(__u16 *)(at + 32) = (__u16)(flow >> 8);
		*(at + 36) = (__u8)flow;
		*(at + 37) = 77;
	} else if (wrap.vary == WRAP_SRC) {
		*(__u16 *)(at + 28) = (__u16)(flow >> 8);
		*(at + 34) = (__u8)flow;
		*(at + 35) = 77;
	}
	if (wrap.ports) {
		__u32 port = wrap.first_port + n % wrap.ports;
		*(at + 36) = (__u8)(port >> 8);
		*(at + 37) = (__u8)port;
	}
	bpf_tail_call(skb, &next, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

/* The flow table of a balancer that keeps every flow at its ingress, as katran's: a lookup, an insert on a miss. */
struct lru_key {
	__u32 src[4], dst[4];
	__u32 ports;
	__u32 proto;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 20);
	__type(key, struct lru_key);
	__type(value, __u64);
} lru SEC(".maps");

SEC("tc")
int table(struct __sk_buff *skb)
{
	__u8 *at = (void *)(long)skb->data;
	struct lru_key k = {};
	__u64 one = 1;

	if ((void *)(at + 42) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	k.src[0] = *(__u32 *)(at + 26);
	k.dst[0] = *(__u32 *)(at + 30);
	k.ports = *(__u32 *)(at + 34);
	k.proto = at[23];
	if (!bpf_map_lookup_elem(&lru, &k))
		bpf_map_update_elem(&lru, &k, &one, BPF_ANY);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
