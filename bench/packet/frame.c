// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <linux/ip.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/packet/packet.h"

void mac_of(const char *text, uint8_t *mac)
{
	if (text &&
	    sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) != 6)
		abort();
}

static uint16_t header_sum(const struct iphdr *ip)
{
	const uint16_t *h = (const void *)ip;
	uint32_t s = 0;

	for (int i = 0; i < 10; i++)
		s += h[i];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* The 64 bytes of a frame at f. */
static void frame_of(const struct packet_of *p, uint8_t *f)
{
	struct ethhdr *eth = (void *)f;
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	uint8_t *l4 = f + ETH_HLEN + sizeof(*ip);
	uint16_t ports[2] = { htons(p->sport), htons(p->dport) };

	mac_of(p->smac, eth->h_source);
	mac_of(p->dmac ? p->dmac : UP0_MAC, eth->h_dest);
	eth->h_proto = htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(50);
	ip->ttl = 64;
	ip->protocol = p->proto;
	inet_pton(AF_INET, p->src, &ip->saddr);
	inet_pton(AF_INET, p->dst, &ip->daddr);
	ip->check = header_sum(ip);
	memcpy(l4, ports, 4);
	if (p->proto == TCP) {
		l4[12] = 5 << 4;
		l4[13] = p->tcp;
		l4[16] = 1;
	} else {
		l4[5] = 30;
		l4[6] = 1;
	}
}

size_t packet_of(const struct packet_of *p, uint8_t f[FRAME_MAX])
{
	static const struct packet_of outer = {
		.src = "172.31.9.12", .dst = "172.31.9.11", .sport = 40000, .dport = 4789, .proto = UDP
	};
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	uint8_t *udp = (void *)(ip + 1);

	memset(f, 0, FRAME_MAX);
	if (!p->outer) {
		frame_of(p, f);
		return FRAME;
	}
	frame_of(&outer, f);
	ip->tot_len = htons(FRAME + OUTER - ETH_HLEN);
	ip->check = 0;
	ip->check = header_sum(ip);
	udp[5] = FRAME + OUTER - ETH_HLEN - sizeof(*ip);
	udp[6] = 0;
	memset(udp + 8, 0, OUTER - ETH_HLEN - sizeof(*ip) - 8);
	udp[8] = 8;
	udp[13] = INGRESS_VNI >> 8;
	udp[14] = INGRESS_VNI & 0xff;
	frame_of(p, f + OUTER);
	return FRAME + OUTER;
}
