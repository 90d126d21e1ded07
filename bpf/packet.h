/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   one parsed IPv4 packet and its IP header, for tc and XDP alike. Every drop goes through drop().
 */
#ifndef BPF_PACKET_H
#define BPF_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/pkt_cls.h>

#include "bpf/seen.h"

#ifndef AF_INET
#define AF_INET 2
#endif
/* linux/icmp.h and linux/if_arp.h draw in the C library. */
enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO_REQUEST = 8 };
struct icmp4 {
	__u8 type, code;
	__be16 check;
	__be32 rest;
};
enum { ARP_REQUEST = 1, ARP_REPLY = 2 };
struct arp4 {
	__be16 hrd, pro;
	__u8 hln, pln;
	__be16 op;
	__u8 smac[ETH_ALEN];
	__be32 sip;
	__u8 tmac[ETH_ALEN];
	__be32 tip;
} __attribute__((packed));

#define L4_OFF(p) ((p)->l4 & 0x7f)
#define IP_OFF ETH_HLEN

enum tcp_bits { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

/*
 * A MAC address in halves: where neither frame nor stack is known to be aligned to more, clang copies octets, which reads
 * of more than one then wait for. Whatever holds one begins at an even address.
 */
typedef __u16 half_mac __attribute__((may_alias));
#define MAC __attribute__((aligned(2)))

static __always_inline void copy_mac(void *to, const void *from)
{
	half_mac *t = to;
	const half_mac *f = from;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
}

static __always_inline bool same_mac(const void *a, const void *b)
{
	const half_mac *x = a, *y = b;

	return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2])) == 0;
}

struct packet {
	__be32 saddr, daddr;
	__be16 sport, dport; /* zero for anything but TCP and UDP */
	__u8 proto;
	__u8 tcp; /* enum tcp_bits */
	__u8 ttl;
	__u8 fragment; /* not the first: ports are unknown */
	__u8 first;    /* the first of several */
	__u8 df;
	__be16 id;
	__u32 l4; /* offset from the frame's start */
	__u32 in; /* the device it came by; the VXLAN device for what came through a tunnel, whoever took that off */
	__u8 smac[ETH_ALEN] MAC, dmac[ETH_ALEN] MAC;
};

static __always_inline int drop(enum abi_drop reason)
{
	count(&drops, reason);
	if (is_seen())
		seen_drop(reason);
	return CTX_DROP;
}

static __always_inline bool has_ports(const struct packet *p)
{
	return p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP;
}

/* A packet that may begin a flow. */
static __always_inline bool is_new(const struct packet *p)
{
	return p->proto != IPPROTO_TCP || (p->tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline bool is_loopback(__be32 a)
{
	return (a & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

static __always_inline bool is_multicast(__be32 a)
{
	return a == 0xffffffff || (a & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
}

enum special { NOT_SPECIAL, SPECIAL_ICMP, SPECIAL_FRAGMENT };

/*
 * Asked first, by programs whose main path is a function beside those for these packets: together their frames would
 * be more than the 512 bytes of stack there are.
 */
static __always_inline enum special special(ctx_t *ctx)
{
	struct iphdr *ip;

	if (protocol_of(ctx) != bpf_htons(ETH_P_IP))
		return NOT_SPECIAL;
	pull(ctx, IP_OFF + sizeof(*ip));
	ip = data_of(ctx) + IP_OFF;
	if ((void *)(ip + 1) > end_of(ctx))
		return NOT_SPECIAL;
	if (ip->frag_off & bpf_htons(0x1fff))
		return SPECIAL_FRAGMENT;
	return ip->protocol == IPPROTO_ICMP ? SPECIAL_ICMP : NOT_SPECIAL;
}

static __always_inline int parse_ports(ctx_t *ctx, struct packet *p)
{
	void *data = data_of(ctx), *end = end_of(ctx);

	if (p->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = data + L4_OFF(p);

		if ((void *)(tcp + 1) > end)
			return -1;
		p->sport = tcp->source;
		p->dport = tcp->dest;
		p->tcp = ((__u8 *)tcp)[13];
	} else if (p->proto == IPPROTO_UDP) {
		struct udphdr *udp = data + L4_OFF(p);

		if ((void *)(udp + 1) > end)
			return -1;
		p->sport = udp->source;
		p->dport = udp->dest;
	}
	return 0;
}

/* The frame's EtherType is IPv4. 0, or -1 for a packet that is cut short or broken. */
static __always_inline int parse4(ctx_t *ctx, struct packet *p)
{
	pull(ctx, ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr));
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ethhdr *eth = data;
	struct iphdr *ip = data + IP_OFF;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return -1;
	copy_mac(p->smac, eth->h_source);
	copy_mac(p->dmac, eth->h_dest);
	p->saddr = ip->saddr;
	p->daddr = ip->daddr;
	p->proto = ip->protocol;
	p->ttl = ip->ttl;
	p->tcp = 0;
	p->sport = p->dport = 0;
	p->l4 = IP_OFF + ip->ihl * 4;
	p->id = ip->id;
	p->in = device_of(ctx);
	p->df = (ip->frag_off & bpf_htons(0x4000)) != 0;
	p->first = (ip->frag_off & bpf_htons(0x3fff)) == bpf_htons(0x2000);
	p->fragment = (ip->frag_off & bpf_htons(0x1fff)) != 0;
	if (p->fragment)
		return 0;
	if (ip->ihl > 5)
		pull(ctx, IP_OFF + 60 + sizeof(struct tcphdr));
	return parse_ports(ctx, p);
}

static __always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)((sum & 0xffffffff) + (sum >> 32));
}

static __always_inline __u16 fold16(__u64 sum)
{
	__u32 s = fold32(sum);

	s = (s & 0xffff) + (s >> 16);
	return (__u16)((s & 0xffff) + (s >> 16));
}

#define CHECK_OFF(proto) ((proto) == IPPROTO_UDP ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check))

/*
 * Whoever leaves a transport sum to a device puts the pseudo header's there for it to begin with. A finished sum looks
 * like that once in 65536 packets: those go the way of whoever knows.
 */
static __always_inline bool is_unfinished(const struct iphdr *ip, __u16 check)
{
	__u16 len = bpf_ntohs(ip->tot_len) - ip->ihl * 4;
	__u64 sum = (__u64)ip->saddr + ip->daddr + bpf_htons(ip->protocol) + bpf_htons(len);

	return fold16(sum + (__u16)~check) == 0xffff;
}

/* What a packet should say; equal fields cost nothing. */
struct rewrite {
	__be32 saddr, daddr;
	__be16 sport, dport;
	__u8 hops; /* taken from the TTL */
};

static __always_inline struct rewrite rewrite_of(const struct packet *p)
{
	return (struct rewrite){ .saddr = p->saddr, .daddr = p->daddr, .sport = p->sport, .dport = p->dport };
}

static __always_inline int rewrite_header(ctx_t *ctx, const struct packet *p, const struct rewrite *r, __u32 addr_diff)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + IP_OFF;
	__be16 *ports = data + L4_OFF(p);

	if ((void *)(ip + 1) > end)
		return -1;
	__u16 old_word = bpf_htons((__u16)(ip->ttl << 8 | ip->protocol));
	__u8 ttl = ip->ttl - r->hops;
	__u16 new_word = bpf_htons((__u16)(ttl << 8 | ip->protocol));
	__u64 sum = (__u64)(__u16)~ip->check + addr_diff + (__u16)~old_word + new_word;

	ip->ttl = ttl;
	ip->saddr = r->saddr;
	ip->daddr = r->daddr;
	ip->check = (__u16)~fold16(sum);
	if (has_ports(p) && !p->fragment) {
		if ((void *)(ports + 2) > end)
			return -1;
		ports[0] = r->sport;
		ports[1] = r->dport;
	}
	return 0;
}

static __always_inline int set_macs(ctx_t *ctx, const void *dst, const void *src)
{
	struct ethhdr *eth = data_of(ctx);

	if ((void *)(eth + 1) > end_of(ctx))
		return -1;
	copy_mac(eth->h_dest, dst);
	if (src)
		copy_mac(eth->h_source, src);
	return 0;
}

static __always_inline bool is_own_addr(const struct abi_runtime *rt, __be32 a)
{
	struct abi_addr key = addr4(a);

	if (!a)
		return false;
#pragma unroll
	for (int i = 0; i < ABI_OWN; i++)
		if (rt->own[i] == a)
			return true;
	return rt->own_more && bpf_map_lookup_elem(&host_addrs, &key);
}

static __always_inline bool is_host_addr(__be32 a)
{
	struct abi_runtime *rt = runtime_of();

	return rt && is_own_addr(rt, a);
}

#endif
