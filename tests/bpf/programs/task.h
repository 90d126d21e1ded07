/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what tasks send. */
#ifndef TESTS_BPF_TASK_H
#define TESTS_BPF_TASK_H

#include "tests/bpf/programs/node.h"

#define T_(d) .smac = O1_MAC, .src = "10.0.1.11", .dst = d, .sport = 100, .dport = 200
#define T(d) T_(d), .dmac = HOST_MAC

/* What a task sends. */
static void task(void **state)
{
	static const struct row rows[] = {
		{ "to a neighbour here",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.13"), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.13"), .dmac = O3_MAC, .proto = TCP } },
		{ "to a neighbour on n2",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.12"), .proto = UDP },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = UDP } },
		{ "fragments go like anything else",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.12"), .proto = UDP, .frag = 0x2010 },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = UDP, .frag = 1 } },
		{ "nobody has it", PROG_TASK, H0, { T("10.0.1.99"), .proto = UDP }, DROPS(UNKNOWN_DST) },
		{ "a wrong address",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC, .src = "10.0.1.12", .dst = "10.0.1.13", .proto = UDP },
		  DROPS(SPOOF) },
		{ "a wrong MAC",
		  PROG_TASK,
		  H0,
		  { .smac = O2_MAC, .src = "10.0.1.11", .dst = "10.0.1.13", .proto = UDP },
		  DROPS(SPOOF) },
		{ "a wrong address to the outside",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC, .src = "1.2.3.4", .dst = "8.8.8.8", .proto = UDP },
		  DROPS(SPOOF) },
		{ "another network", PROG_TASK, H0, { T("10.0.2.5"), .proto = TCP, .tcp = SYN }, DROPS(ISOLATED) },
		{ "the outside", PROG_TASK, H0, { T("8.8.8.8"), .proto = TCP, .tcp = SYN }, TC_ACT_OK },
		{ "the host", PROG_TASK, H0, { T(N1), .proto = TCP, .tcp = SYN }, TC_ACT_OK },
		{ "no way out",
		  PROG_TASK,
		  H2,
		  { .smac = O3_MAC, .src = "10.0.1.13", .dst = "8.8.8.8", .proto = UDP },
		  DROPS(INTERNAL) },
		{ "broadcast", PROG_TASK, H0, { T("255.255.255.255"), .proto = UDP }, DROPS(MULTICAST) },
		{ "multicast", PROG_TASK, H0, { T("239.1.1.1"), .proto = UDP }, DROPS(MULTICAST) },
		{ "IPv6", PROG_TASK, H0, { .ether = ETH_P_IPV6 }, DROPS(IPV6_ND) },
		{ "a device without a task", PROG_TASK, VX, { T("10.0.1.12"), .proto = UDP }, DROPS(NO_IFACE) },
		{ "LLDP", PROG_TASK, H0, { .ether = 0x88cc }, DROPS(ETHERTYPE) },
		{ "echo to the service",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.2"), .proto = ICMP, .icmp = 8 },
		  TC_ACT_REDIRECT,
		  EVENT(ECHO),
		  .out = { .smac = HOST_MAC,
		           .dmac = O1_MAC,
		           .src = "10.0.1.2",
		           .dst = "10.0.1.11",
		           .proto = ICMP,
		           .icmp = 0 } },
		{ "echo to the gateway",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.1"), .proto = ICMP, .icmp = 8 },
		  TC_ACT_REDIRECT,
		  EVENT(ECHO),
		  .out = { .smac = HOST_MAC,
		           .dmac = O1_MAC,
		           .src = "10.0.1.1",
		           .dst = "10.0.1.11",
		           .proto = ICMP,
		           .icmp = 0 } },
		{ "SCTP to the service", PROG_TASK, H0, { T("10.0.1.2"), .proto = 132 }, DROPS(PROTOCOL) },
		{ "a tunnel of its own making, to a node",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .dmac = HOST_MAC,
		    .src = "10.0.1.11",
		    .dst = N2,
		    .sport = 100,
		    .dport = 4789,
		    .proto = UDP },
		  DROPS(TUNNEL_PORT) },
		{ "and in fragments",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .dmac = HOST_MAC,
		    .src = "10.0.1.11",
		    .dst = N2,
		    .sport = 100,
		    .dport = 4789,
		    .proto = UDP,
		    .frag = 0x2000 },
		  DROPS(TUNNEL_PORT) },
		{ "a fragment to the service, without its first",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.2"), .proto = UDP, .frag = 0x10 },
		  DROPS(FRAGMENT) },
		{ "the service, packet by packet",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.2"), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(VIP_PACKET),
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = TCP } },
		{ "and back",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 200,
		    .dport = 100,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .dmac = O1_MAC,
		           .src = "10.0.1.2",
		           .dst = "10.0.1.11",
		           .sport = 200,
		           .dport = 100,
		           .proto = TCP } },
		{ "the backend itself keeps its own address",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 200,
		    .dport = 101,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .src = "10.0.1.12", .dst = "10.0.1.11", .sport = 200, .dport = 101, .proto = TCP } },
		{ "the backend by its own address, from a port the service was called from",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.12"), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT },
		{ "answers with its own address",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 200,
		    .dport = 100,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .src = "10.0.1.12", .dst = "10.0.1.11", .sport = 200, .dport = 100, .proto = TCP } },
		{ "a published port of this node, as the node",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .src = "10.0.1.11",
		    .dst = N1,
		    .sport = 102,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T1_MAC,
		           .src = N1,
		           .dst = "10.0.0.11",
		           .sport = 102,
		           .dport = 80,
		           .proto = TCP,
		           .ttl = 63 } },
	};

	(void)state;
	RUN(rows);
}

/* ARP: {asked for, answered MAC}; no MAC: dropped. */
static void arp(void **state)
{
	static const struct {
		const char *tip, *mac;
		enum abi_drop drop;
	} rows[] = {
		{ "10.0.1.1", HOST_MAC, 0 },
		{ "10.0.1.2", HOST_MAC, 0 },
		{ "10.0.1.13", O3_MAC, 0 },
		{ "10.0.1.12", O2_MAC, 0 },
		{ "10.0.1.98", HOST_MAC, 0 }, /* gone, but a connection to it goes to another: detour.h */
		{ "10.0.1.99", NULL, DROP_ARP_UNKNOWN },
		{ "10.0.1.11", NULL, DROP_ARP_UNKNOWN },
		{ "10.0.0.12", NULL, DROP_ARP_UNKNOWN },
	};
	static const struct row run = { "arp", PROG_TASK, H0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t f[64] = {}, out[512], mac[6], me[6];
		uint64_t before = counter(e->drops_fd, DROP_ARP_UNKNOWN);
		size_t n;
		print_message("  who has %s\n", rows[i].tip);
		mac_of(O1_MAC, me);
		memset(f, 0xff, 6);
		memcpy(f + 6, me, 6);
		memcpy(f + 12, (uint8_t[]){ 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 }, 10);
		memcpy(f + 22, me, 6);
		inet_pton(AF_INET, "10.0.1.11", f + 28);
		inet_pton(AF_INET, rows[i].tip, f + 38);
		int verdict = test_run(&run, f, 42, out, &n);
		if (!rows[i].mac) {
			assert_int_equal(verdict, TC_ACT_SHOT);
			assert_int_equal(counter(e->drops_fd, DROP_ARP_UNKNOWN) - before, 1);
			continue;
		}
		assert_int_equal(verdict, TC_ACT_REDIRECT);
		mac_of(rows[i].mac, mac);
		assert_memory_equal(out, me, 6);
		assert_memory_equal(out + 6, mac, 6);
		assert_int_equal(out[21], 2);
		assert_memory_equal(out + 22, mac, 6);
		assert_memory_equal(out + 28, f + 38, 4);
		assert_memory_equal(out + 32, me, 6);
		assert_memory_equal(out + 38, f + 28, 4);
	}
}

/* Datagrams to a service, packet by packet: another answers as soon as their task takes nothing new. */
static void service_datagrams_leave_who_drains(void **state)
{
	struct ebpf_backend b[2] = { { .ip = ip_of("10.0.1.12"), .node = ip_of(N2) },
		                     { .ip = ip_of("10.0.1.13"), .node = ip_of(N2) } };
	struct ebpf_service s = { .key = 92, .vni = VNI, .backends = b, .n = 2 };
	struct row row = { "",
		           PROG_TASK,
		           H0,
		           { T("10.0.1.4"), .proto = UDP },
		           TC_ACT_REDIRECT,
		           EVENT(VIP_PACKET),
		           .out = { .proto = UDP } };
	struct dp_ip vip = ip_of("10.0.1.4");

	(void)state;
	set_endpoint(VNI, "10.0.1.13", N2);
	for (int i = 0; i < 3; i++) {
		b[i % 2].state = DP_SERVING;
		b[1 - i % 2].state = DP_DRAINING;
		OK(ebpf_set_service(e, &s, &err));
		OK(ebpf_set_vip(e, &vip, 92, &err));
		row.name = row.out.dst = i % 2 ? "10.0.1.13" : "10.0.1.12";
		run_row(&row);
	}
	ebpf_del_vip(e, &vip);
	ebpf_del_service(e, 92);
	ebpf_del_endpoint(e, VNI, &b[1].ip);
}

#endif
