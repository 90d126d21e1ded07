// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Makes repeated test runs honest: every run finds the same packet again (the one before rewrote it), of the next
 * flow. What this costs itself is measured by letting it call "nothing".
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "bench/bpf/wrap.h"

#define NEXT(name)                                                                                                     \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, 1);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, __u32);                                                                                  \
	} name SEC(".maps")
NEXT(next);
NEXT(next_xdp);

struct wrap wrap = {};

#define OUTER 50
#define ROOM_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

static __always_inline int restore(__u64 *to, void *end)
{
	__u64 *from = wrap.frame;

	if ((void *)(to + WRAP_WORDS) > end)
		return -1;
#pragma unroll
	for (int i = 0; i < WRAP_WORDS; i++)
		to[i] = from[i];
	if (!wrap.at)
		return 0;
	if ((void *)(to + WRAP_OUTER_WORDS) > end)
		return -1;
#pragma unroll
	for (int i = WRAP_WORDS; i < WRAP_OUTER_WORDS; i++)
		to[i] = from[i];
	return 0;
}

/* The other end: below the address's last octets and the port, in network order. */
static __always_inline int vary(__u8 *at, void *end)
{
	__u32 n = wrap.n++;
	__u32 flow = (n * 2654435761U) & wrap.flow_mask;

	if (wrap.at)
		at += OUTER;
	if (at + 38 > (__u8 *)end)
		return -1;
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
	return 0;
}

SEC("tc")
int again(struct __sk_buff *skb)
{
	__s32 room = (__s32)(wrap.len - skb->len);

	if (room && bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, ROOM_FLAGS))
		return TC_ACT_SHOT;
	if (restore((void *)(long)skb->data, (void *)(long)skb->data_end) ||
	    vary((void *)(long)skb->data, (void *)(long)skb->data_end))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &next, 0);
	return TC_ACT_SHOT;
}

SEC("xdp")
int again_xdp(struct xdp_md *xdp)
{
	__u32 len = xdp->data_end - xdp->data;

	if (len != wrap.len && bpf_xdp_adjust_head(xdp, (int)(len - wrap.len)))
		return XDP_ABORTED;
	if (restore((void *)(long)xdp->data, (void *)(long)xdp->data_end) ||
	    vary((void *)(long)xdp->data, (void *)(long)xdp->data_end))
		return XDP_ABORTED;
	bpf_tail_call(xdp, &next_xdp, 0);
	return XDP_ABORTED;
}

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("xdp")
int nothing_xdp(struct xdp_md *xdp)
{
	return XDP_PASS;
}

/* Outer headers taken off, nothing else: the wrapper puts room back at about the same price. */
SEC("tc")
int shrink(struct __sk_buff *skb)
{
	return bpf_skb_adjust_room(skb, -OUTER, BPF_ADJ_ROOM_MAC, ROOM_FLAGS) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
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
