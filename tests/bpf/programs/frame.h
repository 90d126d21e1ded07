/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: frames in words: built from them, compared with them. */
#ifndef TESTS_BPF_FRAME_H
#define TESTS_BPF_FRAME_H

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { TCP = IPPROTO_TCP, UDP = IPPROTO_UDP, ICMP = IPPROTO_ICMP };

struct icmp_head {
	uint8_t type, code;
	uint16_t checksum;
};

/* A packet in words. NULL mac: do not care. */
struct pk {
	const char *smac, *dmac;
	const char *src, *dst;
	uint16_t sport, dport;
	uint8_t proto, tcp, ttl;
	uint32_t ack;   /* TCP; 0 = do not care */
	uint16_t ether; /* 0 = IPv4 */
	uint16_t frag;
	uint8_t icmp; /* type */
	bool options; /* 8 bytes of IP options */
};

static uint32_t sum_words(const void *p, size_t n, uint32_t s)
{
	const uint8_t *b = p;

	for (size_t i = 0; i + 1 < n; i += 2)
		s += (uint32_t)b[i] << 8 | b[i + 1];
	if (n & 1)
		s += (uint32_t)b[n - 1] << 8;
	return s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static uint32_t pseudo(const struct iphdr *ip, size_t l4)
{
	return sum_words(&ip->saddr, 8, ip->protocol + (uint32_t)l4);
}

static void mac_of(const char *text, uint8_t mac[6])
{
	memset(mac, 0, 6);
	if (text)
		assert_int_equal(sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		                        &mac[4], &mac[5]),
		                 6);
}

static size_t build(const struct pk *p, uint8_t *f)
{
	struct ethhdr *eth = (void *)f;
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	size_t ihl = p->options ? 28 : 20, l4 = (p->proto == TCP ? 20 : 8) + 32;
	uint8_t *h = f + ETH_HLEN + ihl;

	memset(f, 0, 256);
	mac_of(p->smac, eth->h_source);
	mac_of(p->dmac, eth->h_dest);
	eth->h_proto = htons(p->ether ? p->ether : ETH_P_IP);
	if (p->ether)
		return 64;
	ip->version = 4;
	ip->ihl = ihl / 4;
	ip->tot_len = htons((uint16_t)(ihl + l4));
	ip->ttl = p->ttl ? p->ttl : 64;
	ip->protocol = p->proto;
	ip->frag_off = htons(p->frag);
	inet_pton(AF_INET, p->src, &ip->saddr);
	inet_pton(AF_INET, p->dst, &ip->daddr);
	ip->check = htons((uint16_t)~fold(sum_words(ip, ihl, 0)));
	for (int i = 0; i < 32; i++)
		h[l4 - 32 + i] = (uint8_t)i;
	*(uint16_t *)h = htons(p->sport);
	*(uint16_t *)(h + 2) = htons(p->dport);
	if (p->proto == TCP) {
		struct tcphdr *t = (void *)h;
		t->doff = 5;
		t->ack_seq = htonl(p->ack);
		h[13] = p->tcp;
		t->check = htons((uint16_t)~fold(sum_words(h, l4, pseudo(ip, l4))));
	} else if (p->proto == UDP) {
		struct udphdr *u = (void *)h;
		u->len = htons((uint16_t)l4);
		u->check = htons((uint16_t)~fold(sum_words(h, l4, pseudo(ip, l4))));
		if (!u->check) /* which would say that there is none */
			u->check = 0xffff;
	} else if (p->proto == ICMP) {
		struct icmp_head *i = (void *)h;
		memset(h, 0, 8);
		i->type = p->icmp;
		i->checksum = htons((uint16_t)~fold(sum_words(h, l4, 0)));
	}
	return ETH_HLEN + ihl + l4;
}

static void check_mac(const char *want, const uint8_t *got)
{
	uint8_t mac[6];

	if (!want)
		return;
	mac_of(want, mac);
	assert_memory_equal(mac, got, 6);
}

static void check_frame(const struct pk *p, const uint8_t *f, size_t n)
{
	const struct ethhdr *eth = (const void *)f;
	const struct iphdr *ip = (const void *)(f + ETH_HLEN);
	const uint8_t *h = f + ETH_HLEN + ip->ihl * 4;
	size_t l4 = n - (size_t)(h - f);
	char a[INET_ADDRSTRLEN];

	check_mac(p->smac, eth->h_source);
	check_mac(p->dmac, eth->h_dest);
	if (!p->src)
		return;
	assert_string_equal(inet_ntop(AF_INET, &ip->saddr, a, sizeof(a)), p->src);
	assert_string_equal(inet_ntop(AF_INET, &ip->daddr, a, sizeof(a)), p->dst);
	assert_int_equal(ip->ttl, p->ttl ? p->ttl : 64);
	assert_int_equal(fold(sum_words(ip, ip->ihl * 4, 0)), 0xffff);
	if (p->frag)
		return;
	if (p->proto == ICMP) {
		assert_int_equal(h[0], p->icmp);
		assert_int_equal(fold(sum_words(h, l4, 0)), 0xffff);
		return;
	}
	assert_int_equal(ntohs(*(const uint16_t *)h), p->sport);
	assert_int_equal(ntohs(*(const uint16_t *)(h + 2)), p->dport);
	if (p->ack)
		assert_int_equal(ntohl(*(const uint32_t *)(h + 8)), p->ack);
	assert_int_equal(fold(sum_words(h, l4, pseudo(ip, l4))), 0xffff);
}

/* ---- VXLAN ---- */

enum { OUTER = 50 };
static const uint8_t up0_mac[6] = { 2, 0xaa, 0, 0, 0, 0x0b };

/* Puts outer headers before the n bytes at f, as Linux's VXLAN device sends them. */
static inline size_t wrap(uint8_t *f, size_t n, const char *from, const char *to, uint32_t vni, const uint8_t dmac[6])
{
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	struct udphdr *udp = (void *)(ip + 1);
	uint32_t *vx = (void *)(udp + 1);

	memmove(f + OUTER, f, n);
	memset(f, 0, OUTER);
	memcpy(f, dmac, 6);
	f[6] = 2;
	f[12] = 8;
	*ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .id = htons(77) };
	ip->tot_len = htons((uint16_t)(n + OUTER - ETH_HLEN));
	inet_pton(AF_INET, from, &ip->saddr);
	inet_pton(AF_INET, to, &ip->daddr);
	ip->check = htons((uint16_t)~fold(sum_words(ip, 20, 0)));
	udp->source = htons(40000);
	udp->dest = htons(4789);
	udp->len = htons((uint16_t)(n + OUTER - ETH_HLEN - 20));
	vx[0] = htonl(0x08000000);
	vx[1] = htonl(vni << 8);
	return n + OUTER;
}

/* Checks and takes off outer headers. Their Ethernet addresses are the neighbour's to fill in. */
static inline void unwrap(uint8_t *f, size_t *n, const char *from, const char *to)
{
	_Alignas(8) uint8_t outer[2 + OUTER];
	const struct iphdr *ip = (const void *)(outer + 2 + ETH_HLEN);
	const struct udphdr *udp = (const void *)(ip + 1);
	const uint32_t *vx = (const void *)(udp + 1);
	char a[INET_ADDRSTRLEN];

	assert_true(*n > OUTER + ETH_HLEN + 20);
	memcpy(outer + 2, f, OUTER);
	assert_int_equal(*(const uint8_t *)ip, 0x45);
	assert_int_equal(ntohs(ip->tot_len), *n - ETH_HLEN);
	assert_int_equal(ip->ttl, 64);
	assert_int_equal(ip->frag_off, 0);
	assert_int_equal(ip->protocol, IPPROTO_UDP);
	assert_int_equal(fold(sum_words(ip, 20, 0)), 0xffff);
	assert_string_equal(inet_ntop(AF_INET, &ip->saddr, a, sizeof(a)), from);
	assert_string_equal(inet_ntop(AF_INET, &ip->daddr, a, sizeof(a)), to);
	assert_in_range(ntohs(udp->source), 32768, 65535);
	assert_int_equal(ntohs(udp->dest), 4789);
	assert_int_equal(ntohs(udp->len), *n - ETH_HLEN - 20);
	assert_int_equal(udp->check, 0);
	assert_int_equal(vx[0], htonl(0x08000000));
	if (ntohl(vx[1]) >> 8 != 1) /* a probe */
		assert_in_range(ntohl(vx[1]) >> 8, 4096, 4200);
	*n -= OUTER;
	memmove(f, f + OUTER, *n);
}

#endif
