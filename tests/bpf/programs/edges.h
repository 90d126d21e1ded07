/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what goes wrong seldom: full tables, tasks without an interface, ICMP errors about nothing, broken headers. */
#ifndef TESTS_BPF_EDGES_H
#define TESTS_BPF_EDGES_H

#include "tests/bpf/programs/node.h"
#include "tests/bpf/programs/task.h"

#define NOWHERE "203.0.113.9"
#define FROM_INGRESS(p) .smac = FROM_N2, .dmac = T1_MAC, .src = CLIENT, .dst = N2, .sport = 5000, .dport = p

static void edges(void **state)
{
	static const struct row rows[] = {
		{ "a task here without an interface",
		  PROG_UPLINK,
		  UP0,
		  { C(8085), .proto = TCP, .tcp = SYN },
		  DROPS(NOT_LOCAL) },
		{ "the same, from the node",
		  PROG_LO,
		  LO,
		  { .src = N1, .dst = N1, .sport = 1, .dport = 8085, .proto = TCP, .tcp = SYN },
		  DROPS(NOT_LOCAL) },
		{ "nobody serves, from the node",
		  PROG_LO,
		  LO,
		  { .src = N1, .dst = N1, .sport = 1, .dport = 8083, .proto = TCP, .tcp = SYN },
		  DROPS(NO_BACKEND) },
		{ "a neighbour without an interface",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.14"), .proto = UDP },
		  DROPS(NOT_LOCAL) },
		{ "a service without tasks",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.3"), .proto = TCP, .tcp = SYN },
		  DROPS(NO_BACKEND) },
		{ "a published port, TTL",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .src = "10.0.1.11",
		    .dst = N1,
		    .sport = 1,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN,
		    .ttl = 1 },
		  DROPS(TTL) },
		{ "another echo than a request to a service",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.2"), .proto = ICMP, .icmp = 13 },
		  DROPS(PROTOCOL) },
		{ "a client to whom nothing leads",
		  PROG_UPLINK,
		  UP0,
		  { .src = NOWHERE, .dst = N1, .sport = 1, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW) },
		{ "its answer",
		  PROG_TASK,
		  H1,
		  { .smac = T1_MAC,
		    .src = "10.0.0.11",
		    .dst = NOWHERE,
		    .sport = 80,
		    .dport = 1,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  DROPS(NO_ROUTE) },
		{ "its answer, from elsewhere",
		  PROG_VXLAN,
		  VX,
		  { .smac = T2_MAC,
		    .dmac = REPLY_MAC,
		    .src = N1,
		    .dst = NOWHERE,
		    .sport = 8082,
		    .dport = 1,
		    .proto = TCP,
		    .tcp = ACK },
		  DROPS(NO_ROUTE),
		  .vni = INGRESS_VNI,
		  .from = N2 },
	};

	(void)state;
	RUN(rows);
}

/* The client port the programs try after its own, as bpf/ingress.h finds it. */
static uint16_t probe(const char *client, const char *dst, uint16_t sport, uint16_t dport, uint32_t i)
{
	struct in_addr s, d;

	inet_pton(AF_INET, client, &s);
	inet_pton(AF_INET, dst, &d);
	uint32_t h = (d.s_addr ^ s.s_addr) * 0x9e3779b1U + ((uint32_t)htons(dport) << 16 | htons(sport)) * 0x85ebca77U +
	             i * 0xc2b2ae3dU;
	return i ? (uint16_t)(1024 + (h >> 8) % 64000) : sport;
}

/* A flow of datagrams that went on was seen now, though not every packet reads the clock. */
static void datagrams_are_seen(void **state)
{
	static const struct row r = { "a datagram", PROG_UPLINK, UP0, { C(8081), .proto = UDP }, TC_ACT_REDIRECT };
	struct abi_flow_key k = { .tport = htons(80), .pport = htons(5000), .proto = UDP };
	struct abi_flow f;
	struct timespec now;

	(void)state;
	inet_pton(AF_INET, "10.0.0.11", &k.task);
	inet_pton(AF_INET, CLIENT, &k.peer);
	run_row(&r);
	assert_int_equal(bpf_map_lookup_elem(e->table_fd[TABLE_FLOWS], &k, &f), 0);
	f.seen_ns = 1;
	f.tick -= 1u << 20;
	assert_int_equal(bpf_map_update_elem(e->table_fd[TABLE_FLOWS], &k, &f, BPF_ANY), 0);
	run_row(&r);
	assert_int_equal(bpf_map_lookup_elem(e->table_fd[TABLE_FLOWS], &k, &f), 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_true(f.seen_ns + 60000000000ULL > (uint64_t)now.tv_sec * 1000000000ULL);
}

/* Gives every client port that a new flow could get, as its task sees it, to somebody else; the third is the oldest. */
static void take_ports_in(uint8_t proto, enum abi_flow_state flow_state, const char *client, const char *peer,
                          const char *dst, uint16_t sport)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	for (uint32_t i = 0; i < 4; i++) {
		struct abi_flow_key k = { .tport = htons(80),
			                  .pport = htons(probe(client, dst, sport, 8081, i)),
			                  .proto = proto };
		struct abi_flow f = { .dst = 1, .client = 2, .state = (uint8_t)flow_state };
		f.seen_ns = (uint64_t)now.tv_sec * 1000000000 - (i == 2 ? 2 : 1) * 1000000000ULL;
		inet_pton(AF_INET, "10.0.0.11", &k.task);
		inet_pton(AF_INET, peer, &k.peer);
		assert_int_equal(bpf_map_update_elem(e->table_fd[TABLE_FLOWS], &k, &f, BPF_ANY), 0);
	}
}

static void take_ports(const char *client, const char *peer, const char *dst, uint16_t sport)
{
	take_ports_in(TCP, FLOW_OPEN, client, peer, dst, sport);
}

/* All client ports that a new flow could get are somebody's: it gets the one that is longest of no use, and its own answer. */
static void uses_a_port_again(uint8_t proto, enum abi_flow_state taken, uint8_t begins, uint8_t answered)
{
	struct row row = { "all taken",
		           PROG_UPLINK,
		           UP0,
		           { C(8081), .proto = proto, .tcp = begins },
		           TC_ACT_REDIRECT,
		           .out = { .dst = "10.0.0.11", .dport = 80, .proto = proto, .tcp = begins, .ttl = 63 } };
	struct row answer = {
		"its answer is its own, not that of the old one",
		PROG_TASK,
		H1,
		{ .smac = T1_MAC, .src = "10.0.0.11", .dst = CLIENT, .sport = 80, .proto = proto, .tcp = answered },
		TC_ACT_REDIRECT,
		.out = { .src = N1,
		         .dst = CLIENT,
		         .sport = 8081,
		         .dport = 5000,
		         .proto = proto,
		         .tcp = answered,
		         .ttl = 63 }
	};
	struct dp_ip t1 = ip_of("10.0.0.11");

	ebpf_flow_purge(e, &t1);
	take_ports_in(proto, taken, CLIENT, CLIENT, N1, 5000);
	row.out.src = CLIENT;
	row.out.sport = answer.in.dport = probe(CLIENT, N1, 5000, 8081, 2);
	run_row(&row);
	run_row(&answer);
	ebpf_flow_purge(e, &t1);
}

/* A client that dials a task at several addresses, faster than the task forgets, is not refused for it. */
static void a_port_of_a_closed_connection_is_used_again(void **state)
{
	(void)state;
	uses_a_port_again(TCP, FLOW_CLOSED, SYN, SYN | ACK);
}

/* Datagrams say no end: a client of many sockets that dials several addresses would run out of ports in time. */
static void a_port_where_datagrams_rest_is_used_again(void **state)
{
	(void)state;
	uses_a_port_again(UDP, FLOW_OPEN, 0, 0);
}

static void no_client_port_is_free(void **state)
{
	static const struct row rows[] = {
		{ "from outside", PROG_UPLINK, UP0, { C(8081), .proto = TCP, .tcp = SYN }, DROPS(FLOW_FULL) },
		{ "from the node",
		  PROG_LO,
		  LO,
		  { .src = N1, .dst = N1, .sport = 5000, .dport = 8081, .proto = TCP, .tcp = SYN },
		  DROPS(FLOW_FULL) },
		{ "from another node",
		  PROG_VXLAN,
		  VX,
		  { FROM_INGRESS(8081), .proto = TCP, .tcp = SYN },
		  DROPS(FLOW_FULL),
		  .vni = INGRESS_VNI,
		  .from = N2 },
		{ "from a task",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .src = "10.0.1.11",
		    .dst = N1,
		    .sport = 5000,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  DROPS(FLOW_FULL) },
	};
	struct dp_ip t1 = ip_of("10.0.0.11");

	(void)state;
	ebpf_flow_purge(e, &t1);
	take_ports(CLIENT, CLIENT, N1, 5000);
	take_ports(CLIENT, CLIENT, N2, 5000);
	take_ports(N1, N1, N1, 5000);
	take_ports("10.0.1.11", N1, N1, 5000);
	FOR_EACH_WAY
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		run_row(&rows[i]);
	ebpf_flow_purge(e, &t1);
}

/* An ICMP error in words: who says it to whom, about which packet. */
struct icmp_error {
	struct row row; /* .in: the outer packet */
	struct pk about;
};

static void run_error(const struct icmp_error *x)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out[512], quoted[2 + 256];
	uint8_t *f = in_mem + 2;
	size_t n = build(&x->row.in, f), out_len;
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	struct icmp_head *icmp = (void *)(f + ETH_HLEN + 20);
	int dropped;

	print_message("  %s\n", x->row.name);
	(void)build(&x->about, quoted + 2);
	memcpy(f + ETH_HLEN + 28, quoted + 2 + ETH_HLEN, 28);
	icmp->checksum = 0;
	icmp->checksum = htons((uint16_t)~fold(sum_words(icmp, ntohs(ip->tot_len) - 20u, 0)));
	assert_int_equal(test_run_drop(&x->row, f, n, out + 2, &out_len, &dropped), x->row.verdict);
	assert_int_equal(dropped, x->row.drop);
	if (x->row.out.src)
		check_frame(&x->row.out, out + 2, out_len);
}

#define OUTER(s, d) .src = s, .dst = d, .proto = ICMP, .icmp = 3
#define ABOUT(s, sp, d, dp, p) .src = s, .sport = sp, .dst = d, .dport = dp, .proto = p

static void icmp_errors(void **state)
{
	static const struct row begin[] = {
		{ "a flow", PROG_UPLINK, UP0, { C(8081), .proto = UDP }, TC_ACT_REDIRECT, EVENT(FLOW_NEW) },
		{ "another, from n2",
		  PROG_VXLAN,
		  VX,
		  { FROM_INGRESS(8081), .proto = UDP },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW),
		  .vni = INGRESS_VNI,
		  .from = N2 },
	};
	static const struct icmp_error errors[] = {
		{ { "about the flow, to its task",
		    PROG_UPLINK,
		    UP0,
		    { OUTER("172.31.9.1", N1) },
		    TC_ACT_REDIRECT,
		    .out = { OUTER("172.31.9.1", "10.0.0.11"), .dmac = T1_MAC, .ttl = 63 } },
		  { ABOUT(N1, 8081, CLIENT, 5000, UDP) } },
		{ { "about no flow", PROG_UPLINK, UP0, { OUTER("172.31.9.1", N1) }, DROPS(ICMP) },
		  { ABOUT(N1, 8081, CLIENT, 4999, UDP) } },
		{ { "about a port that is not ours", PROG_UPLINK, UP0, { OUTER("172.31.9.1", N1) }, TC_ACT_UNSPEC },
		  { ABOUT(N1, 22, CLIENT, 5000, TCP) } },
		{ { "about a task elsewhere: there it goes",
		    PROG_UPLINK,
		    UP0,
		    { OUTER("172.31.9.1", N1) },
		    TC_ACT_REDIRECT,
		    .out = { OUTER("172.31.9.1", N1), .smac = FROM_N1, .dmac = T2_MAC, .ttl = 63 } },
		  { ABOUT(N1, 8082, CLIENT, 5000, UDP) } },
		{ { "from n2, to the task",
		    PROG_VXLAN,
		    VX,
		    { OUTER("172.31.9.1", N2), .smac = FROM_N2, .dmac = T1_MAC },
		    TC_ACT_REDIRECT,
		    .vni = INGRESS_VNI,
		    .from = N2,
		    .out = { OUTER("172.31.9.1", "10.0.0.11"), .dmac = T1_MAC } },
		  { ABOUT(N2, 8081, CLIENT, 5000, UDP) } },
		{ { "from n2, about no flow",
		    PROG_VXLAN,
		    VX,
		    { OUTER("172.31.9.1", N2), .smac = FROM_N2, .dmac = T1_MAC },
		    DROPS(ICMP),
		    .vni = INGRESS_VNI,
		    .from = N2 },
		  { ABOUT(N2, 8081, CLIENT, 4999, UDP) } },
		{ { "from n2, about no port",
		    PROG_VXLAN,
		    VX,
		    { OUTER("172.31.9.1", N2), .smac = FROM_N2, .dmac = T1_MAC },
		    DROPS(ICMP),
		    .vni = INGRESS_VNI,
		    .from = N2 },
		  { ABOUT(N2, 7777, CLIENT, 5000, UDP) } },
		{ { "a task refuses a client",
		    PROG_TASK,
		    H1,
		    { OUTER("10.0.0.11", CLIENT), .smac = T1_MAC },
		    TC_ACT_REDIRECT,
		    .out = { OUTER(N1, CLIENT), .dmac = "02:aa:00:00:00:64", .ttl = 63 } },
		  { ABOUT(CLIENT, 5000, "10.0.0.11", 80, UDP) } },
		{ { "another task cannot",
		    PROG_TASK,
		    H2,
		    { OUTER("10.0.0.11", CLIENT), .smac = T1_MAC },
		    DROPS(SPOOF) },
		  { ABOUT(CLIENT, 5000, "10.0.0.11", 80, UDP) } },
	};

	(void)state;
	RUN(begin);
	FOR_EACH_WAY
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		run_error(&errors[i]);
}

/* A frame cut to n bytes, or with one byte wrong. */
static void broken(void **state)
{
	static const struct {
		struct row row;
		size_t n, at;
		uint8_t byte;
	} rows[] = {
		{ { "header length of 4 words, from a task",
		    PROG_TASK,
		    H0,
		    { T("10.0.1.13"), .proto = UDP },
		    DROPS(MALFORMED) },
		  0,
		  14,
		  0x44 },
		{ { "the same, tunnelled",
		    PROG_VXLAN,
		    VX,
		    { T("10.0.1.13"), .proto = UDP },
		    DROPS(MALFORMED),
		    .vni = VNI,
		    .from = N2 },
		  0,
		  14,
		  0x44 },
		{ { "UDP that ends before its ports",
		    PROG_TASK,
		    H0,
		    { T("10.0.1.13"), .proto = UDP },
		    DROPS(MALFORMED) },
		  ETH_HLEN + 20 + 7,
		  14,
		  0x45 },
		{ { "ARP that is cut", PROG_TASK, H0, { .ether = ETH_P_ARP }, DROPS(MALFORMED) }, 41, 0, 0 },
		{ { "IPv6 TCP", PROG_TASK, H0, { .ether = ETH_P_IPV6 }, DROPS(IPV6) }, 64, 20, IPPROTO_TCP },
		{ { "IPv6 router solicitation", PROG_TASK, H0, { .ether = ETH_P_IPV6 }, DROPS(IPV6_ND) },
		  64,
		  20,
		  IPPROTO_ICMPV6 },
		{ { "ARP reply", PROG_TASK, H0, { .ether = ETH_P_ARP }, DROPS(ARP_UNKNOWN) }, 42, 21, 2 },
		{ { "an echo that is cut",
		    PROG_TASK,
		    H0,
		    { T("10.0.1.2"), .proto = ICMP, .icmp = 8 },
		    DROPS(MALFORMED) },
		  ETH_HLEN + 20 + 7,
		  14,
		  0x45 },
	};

	(void)state;
	FOR_EACH_WAY
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_Alignas(8) uint8_t in_mem[2 + 256], out[512];
		size_t n = build(&rows[i].row.in, in_mem + 2), out_len;
		int dropped;
		print_message("  %s\n", rows[i].row.name);
		in_mem[2 + rows[i].at] = rows[i].byte;
		assert_int_equal(
			test_run_drop(&rows[i].row, in_mem + 2, rows[i].n ? rows[i].n : n, out, &out_len, &dropped),
			rows[i].row.verdict);
		assert_int_equal(dropped, rows[i].row.drop);
	}
}

#endif
