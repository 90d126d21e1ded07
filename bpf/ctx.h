/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: what the same code asks of a packet as a tc program and, built with MESH_XDP, as an XDP program. Everything
 *       that needs more than this (a socket buffer's offloads, a way into a task) is in headers of tc alone.
 */
#ifndef BPF_CTX_H
#define BPF_CTX_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#ifdef MESH_XDP
typedef struct xdp_md ctx_t;
enum { CTX_DROP = XDP_DROP, CTX_PASS = XDP_PASS };
#define ctx_load xdp_load
#else
typedef struct __sk_buff ctx_t;
enum { CTX_DROP = TC_ACT_SHOT, CTX_PASS = TC_ACT_UNSPEC };
#define ctx_load bpf_skb_load_bytes
#endif

/* clang narrows plain reads of these to 32-bit moves, which the verifier does not take for pointers. */
static __always_inline void *data_of(const ctx_t *ctx)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(ctx), "i"(offsetof(ctx_t, data)));
	return p;
}

static __always_inline void *end_of(const ctx_t *ctx)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(ctx), "i"(offsetof(ctx_t, data_end)));
	return p;
}

#ifdef MESH_XDP

/* Room for outer headers is made before the frame. */
#define ETH_STAYS 1

static __always_inline long xdp_load(ctx_t *ctx, __u32 off, void *to, __u32 n)
{
	return bpf_xdp_load_bytes(ctx, off, to, n);
}

static __always_inline __u32 len_of(const ctx_t *ctx)
{
	return (__u32)(end_of(ctx) - data_of(ctx));
}

/* Of several merged on receipt: none are, yet. */
static __always_inline __u32 packets_of(const ctx_t *ctx)
{
	(void)ctx;
	return 1;
}

static __always_inline __u32 segment_of(const ctx_t *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline __u32 device_of(const ctx_t *ctx)
{
	return ctx->ingress_ifindex;
}

static __always_inline __be16 protocol_of(const ctx_t *ctx)
{
	struct ethhdr *eth = data_of(ctx);

	return (void *)(eth + 1) <= end_of(ctx) ? eth->h_proto : 0;
}

/* No device has a say in sums here. */
static __always_inline void grown(ctx_t *ctx, __u32 sum)
{
	(void)ctx, (void)sum;
}

/* A frame lies in one piece. */
static __always_inline void pull(ctx_t *ctx, __u32 n)
{
	(void)ctx, (void)n;
}

#else

/* It is made behind the Ethernet header, which becomes the outer one. */
#define ETH_STAYS 0

static __always_inline __u32 len_of(const ctx_t *ctx)
{
	return ctx->len;
}

static __always_inline __u32 packets_of(const ctx_t *ctx)
{
	return ctx->gso_segs > 1 ? ctx->gso_segs : 1;
}

/* Payload of each packet of a super-packet; 0: it is one packet. */
static __always_inline __u32 segment_of(const ctx_t *ctx)
{
	return ctx->gso_size;
}

static __always_inline __u32 device_of(const ctx_t *ctx)
{
	return ctx->ifindex;
}

static __always_inline __be16 protocol_of(const ctx_t *ctx)
{
	return (__be16)ctx->protocol;
}

/* Where the device gave the sum of the whole packet: what was added to it sums to this. */
static __always_inline void grown(ctx_t *ctx, __u32 sum)
{
	bpf_csum_update(ctx, sum);
}

/* Makes the first n bytes (or all there are) readable in place. */
static __always_inline void pull(ctx_t *ctx, __u32 n)
{
	if (data_of(ctx) + n > end_of(ctx))
		bpf_skb_pull_data(ctx, ctx->len < n ? ctx->len : n);
}

#endif
#endif
