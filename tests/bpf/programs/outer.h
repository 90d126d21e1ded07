/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Outer headers of our own: what is opened, what is left to the stack untouched, and what is left to the device. */
#ifndef TESTS_BPF_OUTER_H
#define TESTS_BPF_OUTER_H

#include "tests/bpf/programs/node.h"

static const struct pk neighbour = {
	.smac = O2_MAC, .dmac = O1_MAC, .src = "10.0.1.12", .dst = "10.0.1.11", .sport = 1, .dport = 2, .proto = UDP
};

/* One change of a good packet. at counts from the frame's start; 14 IP, 34 UDP, 42 VXLAN, 50 the frame inside. */
struct mutation {
	const char *name;
	uint8_t at, n, bytes[6];
	int verdict; /* UNSPEC: the frame is as it came, and nothing is counted */
	int drop;
	bool keep_sum; /* of the IP header, as it was */
};

static void run_mutation(const struct mutation *m)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	uint8_t *f = in_mem + 2, *out = out_mem + 2;
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	struct row r = { m->name, PROG_UPLINK, UP0 };
	int dropped;
	size_t out_len, n = wrap(f, build(&neighbour, f), N2, N1, VNI, up0_mac);
	uint64_t opened = stats_event(e, EVENT_DECAP);

	print_message("  %s\n", m->name);
	memcpy(f + m->at, m->bytes, m->n);
	if (!m->keep_sum) {
		ip->check = 0;
		ip->check = htons((uint16_t)~fold(sum_words(ip, 20, 0)));
	}
	assert_int_equal(test_run_prog(&r, PROG_UPLINK, f, n, out, &out_len, &dropped), m->verdict);
	assert_int_equal(dropped, m->drop);
	assert_int_equal(stats_event(e, EVENT_DECAP) - opened, m->verdict == TC_ACT_UNSPEC ? 0 : 1);
	if (m->verdict == TC_ACT_UNSPEC) {
		assert_int_equal(out_len, n);
		assert_memory_equal(f, out, n);
	} else if (m->verdict == TC_ACT_REDIRECT) {
		check_frame(&neighbour, out, out_len);
	}
}

static void outer_received(void **state)
{
	static const struct mutation all[] = {
		{ "as it should be", 0, 0, {}, TC_ACT_REDIRECT },
		{ "may not be fragmented", 20, 1, { 0x40 }, TC_ACT_REDIRECT },
		{ "capable of congestion marks", 15, 1, { 2 }, TC_ACT_REDIRECT },
		{ "marked for congestion", 15, 1, { 3 }, TC_ACT_UNSPEC },
		{ "a first fragment", 20, 1, { 0x20 }, TC_ACT_UNSPEC },
		{ "a later fragment", 21, 1, { 4 }, TC_ACT_UNSPEC },
		{ "IP options", 14, 1, { 0x46 }, TC_ACT_UNSPEC },
		{ "IP version", 14, 1, { 0x65 }, TC_ACT_UNSPEC },
		{ "IP checksum", 24, 1, { 0x77 }, TC_ACT_UNSPEC, .keep_sum = true },
		{ "IP length short", 17, 1, { 30 }, TC_ACT_UNSPEC },
		{ "IP length long", 16, 1, { 1 }, TC_ACT_UNSPEC },
		{ "another protocol", 23, 1, { TCP }, TC_ACT_UNSPEC },
		{ "to another node", 33, 1, { 12 }, TC_ACT_UNSPEC },
		{ "to another machine's MAC", 5, 1, { 0x0c }, TC_ACT_UNSPEC },
		{ "UDP port", 37, 1, { 0xb6 }, TC_ACT_UNSPEC },
		{ "UDP length short", 39, 1, { 30 }, TC_ACT_UNSPEC },
		{ "UDP length long", 38, 1, { 1 }, TC_ACT_UNSPEC },
		{ "UDP checksum", 40, 1, { 1 }, TC_ACT_UNSPEC },
		{ "no VNI", 42, 1, { 0 }, TC_ACT_UNSPEC },
		{ "another VXLAN flag", 42, 1, { 0x88 }, TC_ACT_UNSPEC },
		{ "group policy", 44, 2, { 0, 7 }, TC_ACT_UNSPEC },
		{ "reserved bits behind the VNI", 49, 1, { 1 }, TC_ACT_UNSPEC },
		{ "ARP inside", 62, 2, { 0x08, 0x06 }, TC_ACT_UNSPEC },
		{ "IPv6 inside", 62, 2, { 0x86, 0xdd }, TC_ACT_UNSPEC },
		{ "an IP header of nothing inside", 64, 1, { 0x41 }, DROPS(MALFORMED) },
		{ "from a stranger", 29, 1, { 66 }, DROPS(UNKNOWN_NODE) },
		{ "another network", 48, 1, { 99 }, DROPS(UNKNOWN_SRC) },
	};

	(void)state;
	ebpf_via_device(e, false);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		run_mutation(&all[i]);
	struct mutation left = all[0];
	left.verdict = TC_ACT_UNSPEC;
	left.name = "the device's after all";
	ebpf_via_device(e, true);
	run_mutation(&left);
	ebpf_via_device(e, false);
}

/* Every cut of the frame, with outer lengths that are true: what has no inner header goes to the stack whole. */
static void outer_cut_short(void **state)
{
	struct row r = { "cut", PROG_UPLINK, UP0 };

	(void)state;
	for (size_t cut = 20; cut < ETH_HLEN + 20 + 8; cut++) {
		_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
		uint8_t *f = in_mem + 2, *out = out_mem + 2;
		size_t out_len, n;
		(void)build(&neighbour, f);
		n = wrap(f, cut, N2, N1, VNI, up0_mac);
		int verdict = test_run_prog(&r, PROG_UPLINK, f, n, out, &out_len, NULL);
		assert_int_equal(verdict, cut < ETH_HLEN + 20 ? TC_ACT_UNSPEC : TC_ACT_SHOT);
		if (verdict == TC_ACT_UNSPEC)
			assert_memory_equal(f, out, n);
	}
}

struct sent {
	bool own;
	uint16_t port, id;
	uint8_t tos;
};
static struct sent send_one(uint16_t sport, uint8_t tos)
{
	struct pk p = { .smac = O1_MAC,
		        .dmac = O2_MAC,
		        .src = "10.0.1.11",
		        .dst = "10.0.1.12",
		        .sport = sport,
		        .dport = 80,
		        .proto = TCP };
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	uint8_t *f = in_mem + 2, *out = out_mem + 2;
	struct row r = { "", PROG_TASK, H0 };
	size_t out_len, n = build(&p, f);

	f[15] = tos;
	assert_int_equal(test_run_prog(&r, PROG_TASK, f, n, out, &out_len, NULL), TC_ACT_REDIRECT);
	struct sent s = { .own = out_len == n + OUTER };
	if (s.own) {
		const struct iphdr *ip = (const void *)(out + ETH_HLEN);
		s.port = ntohs(*(const uint16_t *)(ip + 1));
		s.id = ntohs(ip->id);
		s.tos = ip->tos;
		assert_memory_equal(out + OUTER, f, n);
		unwrap(out, &out_len, N1, N2);
	}
	return s;
}

static void set_way(unsigned ifindex, uint32_t mtu)
{
	struct dp_ip n2 = ip_of(N2);
	struct ebpf_way way = { .ifindex = ifindex, .next_hop = n2, .mtu = mtu };

	OK(ebpf_set_node(e, &n2, &way, &err));
}

static void outer_sent(void **state)
{
	static const uint8_t ecn[][2] = { { 0, 0 }, { 1, 1 }, { 2, 2 }, { 3, 2 }, { 0xb8 | 2, 2 } };
	struct sent a = send_one(1000, 0), b = send_one(1000, 0);
	int differ = 0;

	(void)state;
	assert_true(a.own && b.own);
	assert_int_equal(a.port, b.port);
	assert_int_not_equal(a.id, b.id);
	for (uint16_t i = 1; i < 50; i++)
		differ += send_one((uint16_t)(1000 + i), 0).port != a.port;
	assert_true(differ > 45);
	for (size_t i = 0; i < ARRAY_SIZE(ecn); i++)
		assert_int_equal(send_one(1000, ecn[i][0]).tos, ecn[i][1]);
	/* 14 + 20 + 20 + 32 inside: 122 with the outer IP header. */
	set_way(devs[UP0], 122);
	assert_true(send_one(1000, 0).own);
	set_way(devs[UP0], 121);
	assert_false(send_one(1000, 0).own);
	set_way(0, 1500);
	assert_false(send_one(1000, 0).own);
	set_nodes();
	ebpf_via_device(e, true);
	assert_false(send_one(1000, 0).own);
	ebpf_via_device(e, false);
}

#endif
