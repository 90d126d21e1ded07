/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The packet by which nodes try the way between them (bpf/abi.h, struct abi_probe). */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#include "bpf/abi.h"
#include "dataplane/seen.h"

#define OUTER 28 /* IPv4 and UDP, the sender's kernel's */
#define VXLAN 8
#define ETHERNET 14

static uint16_t sum16(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)b[i] << 8 | b[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

void dp_probe_put(struct buf *out, unsigned size, uint64_t token)
{
	static const uint8_t macs[12] = { 0x02, 0x50, 0, 0, 0, 2, 0x02, 0x50, 0, 0, 0, 3 };
	assert(size >= DP_PROBE_MIN && size <= DP_PROBE_MAX);
	unsigned inner = size - OUTER - VXLAN - ETHERNET;
	struct iphdr ip = { .version = 4,
		            .ihl = 5,
		            .tot_len = htons((uint16_t)inner),
		            .ttl = 1,
		            .protocol = IPPROTO_UDP,
		            .saddr = htonl(INADDR_LOOPBACK),
		            .daddr = htonl(INADDR_LOOPBACK) };
	struct udphdr udp = { .dest = htons(9), .len = htons((uint16_t)(inner - sizeof(ip))) };
	struct abi_probe probe = { .magic = ABI_PROBE_MAGIC, .size = size, .token = token };
	const uint8_t vxlan[VXLAN] = { 0x08, 0, 0, 0, 0, 0, ABI_PROBE_VNI, 0 };
	uint8_t *frame = buf_reserve(out, size - OUTER), *end = frame + size - OUTER;
	ip.check = sum16(&ip, sizeof(ip));
	memset(frame, 0, size - OUTER);
	memcpy(frame, vxlan, sizeof(vxlan));
	frame += VXLAN;
	memcpy(frame, macs, sizeof(macs));
	frame[12] = 0x08;
	memcpy(frame + ETHERNET, &ip, sizeof(ip));
	memcpy(frame + ETHERNET + sizeof(ip), &udp, sizeof(udp));
	memcpy(frame + ABI_PROBE_OFF, &probe, sizeof(probe));
	assert(frame + ABI_PROBE_OFF + sizeof(probe) <= end);
	out->len += size - OUTER;
}
