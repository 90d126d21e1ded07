/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: fifty networks and five thousand tasks of other nodes: each found by one lookup, nothing flooded, nothing learned. */
#ifndef TESTS_BPF_NETWORKS_H
#define TESTS_BPF_NETWORKS_H

#include "tests/bpf/programs/node.h"

enum { NETWORKS = 50, PEERS = 100, FIRST_VNI = 4100 };

static void overlay_addr(char out[16], int network, int host)
{
	snprintf(out, 16, "10.50.%d.%d", network, host);
}

/* What the task of a network sends to an address. */
static struct row sent(int network, const char *dst, char src[16], char smac[24])
{
	overlay_addr(src, network, 250);
	snprintf(smac, 24, "02:42:0a:32:%02x:fa", network);
	return (struct row){
		.name = dst,
		.prog = PROG_TASK,
		.dev = H2,
		.in = { .smac = smac, .dmac = HOST_MAC, .src = src, .dst = dst, .sport = 1, .dport = 2, .proto = UDP }
	};
}

static void one_network(int k)
{
	char me[16], dst[16], src[16], smac[24], dmac[24];

	overlay_addr(me, k, 250);
	attach(H2, FIRST_VNI + (uint32_t)k, me, 20, false);
	for (int host = 2; host < 2 + PEERS; host += 33) {
		overlay_addr(dst, k, host);
		snprintf(dmac, sizeof(dmac), "02:42:0a:32:%02x:%02x", k, host);
		struct row r = sent(k, dst, src, smac);
		r.verdict = TC_ACT_REDIRECT;
		r.out = (struct pk){ .dmac = dmac };
		run_row(&r);
	}
	overlay_addr(dst, k, 249);
	struct row nobody = sent(k, dst, src, smac);
	nobody.verdict = TC_ACT_SHOT;
	nobody.drop = 1 + DROP_UNKNOWN_DST;
	run_row(&nobody);
	overlay_addr(dst, (k + 1) % NETWORKS, 2);
	struct row other = sent(k, dst, src, smac);
	other.verdict = TC_ACT_SHOT;
	other.drop = 1 + DROP_ISOLATED;
	run_row(&other);
	ebpf_detach_task(e, devs[H2]);
}

static void many_networks(void **state)
{
	char text[16], gateway[16];

	(void)state;
	ebpf_detach_task(e, devs[H2]);
	for (int k = 0; k < NETWORKS; k++) {
		overlay_addr(text, k, 0);
		overlay_addr(gateway, k, 1);
		set_network(FIRST_VNI + (uint32_t)k, text, gateway, false);
		for (int host = 2; host < 2 + PEERS; host++) {
			overlay_addr(text, k, host);
			set_endpoint(FIRST_VNI + (uint32_t)k, text, N2);
		}
	}
	for (int k = 0; k < NETWORKS; k += 7)
		one_network(k);
	for (int k = 0; k < NETWORKS; k++) {
		for (int host = 2; host < 2 + PEERS; host++) {
			overlay_addr(text, k, host);
			struct dp_ip ip = ip_of(text);
			ebpf_del_endpoint(e, FIRST_VNI + (uint32_t)k, &ip);
		}
		ebpf_del_network(e, FIRST_VNI + (uint32_t)k);
	}
}

#endif
