/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: one flow through the states of its service, of its connection and of the daemon. */
#ifndef TESTS_BPF_STATES_H
#define TESTS_BPF_STATES_H

#include "tests/bpf/programs/node.h"
#include "tests/bpf/programs/task.h"

static void drain(void **state)
{
	static const struct row old[] = {
		{ "begins while it serves",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7001,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .vni = INGRESS_VNI,
		  .from = N2 },
	};
	static const struct row draining[] = {
		{ "goes on while it drains",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7001,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .src = CLIENT, .dst = "10.0.0.11", .sport = 7001, .dport = 80, .proto = TCP } },
		{ "a new one is passed on, once",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7002,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(SECOND_CHANCE),
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .smac = "02:4d:ac:1f:09:0c",
		           .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N2,
		           .sport = 7002,
		           .dport = 8081,
		           .proto = TCP } },
		{ "an old one nobody knows, too",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7003,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(SECOND_CHANCE),
		  .vni = INGRESS_VNI,
		  .from = N2 },
		{ "not twice",
		  PROG_VXLAN,
		  VX,
		  { .smac = "02:4d:ac:1f:09:0c",
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7004,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW),
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .src = CLIENT, .dst = "10.0.0.11", .sport = 7004, .dport = 80, .proto = TCP } },
		{ "at the ingress a new one goes elsewhere",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 7005, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .smac = FROM_N1,
		           .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 7005,
		           .dport = 8081,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "and stays there",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 7005, .dport = 8081, .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(CACHED),
		  .out = { .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 7005,
		           .dport = 8081,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "an old one goes to the previous choice, which does not know it",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 7006, .dport = 8081, .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(PREVIOUS),
		  .out = { .smac = "02:4d:ac:1f:09:0b",
		           .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 7006,
		           .dport = 8081,
		           .proto = TCP,
		           .ttl = 63 } },
	};
	struct ebpf_backend b[2] = {
		{ .ip = ip_of("10.0.0.11"), .local = true, .state = DP_SERVING },
		{ .ip = ip_of("10.0.0.12"), .node = ip_of(N2), .state = DP_SERVING },
	};
	struct ebpf_service s = { .key = 21, .vni = INGRESS_VNI, .backends = b, .n = 1 };

	(void)state;
	RUN(old);
	b[0].state = DP_DRAINING;
	s.n = 2;
	OK(ebpf_set_service(e, &s, &err));
	for (size_t i = 0; i < ARRAY_SIZE(draining); i++)
		run_row(&draining[i]);
	/* Gone altogether: even at its own node a new flow finds another. */
	struct dp_ip t1 = ip_of("10.0.0.11");
	s.backends = &b[1];
	s.n = 1;
	OK(ebpf_set_service(e, &s, &err));
	ebpf_del_endpoint(e, INGRESS_VNI, &t1);
	static const struct row gone[] = {
		{ "a task that is gone",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7007,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(SECOND_CHANCE),
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .dmac = T2_MAC } },
		{ "gone and passed on already",
		  PROG_VXLAN,
		  VX,
		  { .smac = "02:4d:ac:1f:09:0c",
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7008,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  DROPS(NOT_LOCAL),
		  .vni = INGRESS_VNI,
		  .from = N2 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
		run_row(&gone[i]);
	set_endpoint(INGRESS_VNI, "10.0.0.11", NULL);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
}

static void flow_count_follows_tcp(void **state)
{
#define STEP(n_, p_, d_, flags, ...)                                                                                   \
	{                                                                                                              \
		n_, p_, d_, { __VA_ARGS__, .proto = TCP, .tcp = flags }, TC_ACT_REDIRECT                               \
	}
#define FROM_CLIENT .src = CLIENT, .dst = N1, .sport = 7100, .dport = 8081
#define FROM_TASK .smac = T1_MAC, .src = "10.0.0.11", .dst = CLIENT, .sport = 80, .dport = 7100
	static const struct {
		struct row row;
		size_t open;
	} steps[] = {
		{ STEP("SYN", PROG_UPLINK, UP0, SYN, FROM_CLIENT), 1 },
		{ STEP("SYN ACK", PROG_TASK, H1, SYN | ACK, FROM_TASK), 1 },
		{ STEP("ACK", PROG_UPLINK, UP0, ACK, FROM_CLIENT), 1 },
		{ STEP("FIN", PROG_UPLINK, UP0, FIN | ACK, FROM_CLIENT), 1 },
		{ STEP("FIN back", PROG_TASK, H1, FIN | ACK, FROM_TASK), 0 },
		{ STEP("last ACK", PROG_UPLINK, UP0, ACK, FROM_CLIENT), 0 },
		{ STEP("SYN again", PROG_UPLINK, UP0, SYN, FROM_CLIENT), 1 },
		{ STEP("ACK again", PROG_UPLINK, UP0, ACK, FROM_CLIENT), 1 },
		{ STEP("RST", PROG_TASK, H1, RST, FROM_TASK), 0 },
	};
	struct dp_ip t1 = ip_of("10.0.0.11");
	struct dp_counters st;
	size_t n;

	(void)state;
	ebpf_flow_purge(e, &t1);
	OK(ebpf_service_stats(e, 21, &t1, &st));
	uint64_t conns = st.conns, in = st.packets_in, out = st.packets_out;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		run_row(&steps[i].row);
		OK(ebpf_flow_count(e, &t1, &n));
		assert_int_equal(n, steps[i].open);
	}
	OK(ebpf_service_stats(e, 21, &t1, &st));
	assert_int_equal(st.conns - conns, 2);
	assert_int_equal(st.packets_in - in, 6);
	assert_int_equal(st.packets_out - out, 3);
}

/* A task that has answered on a port and now refuses has died: the client is made to ask again. Twice, for it may be that. */
static void refusals(void **state)
{
#define REFUSES(n_, ...)                                                                                               \
	{                                                                                                              \
		n_, PROG_TASK, H1, { FROM_TASK, .proto = TCP, .tcp = RST | ACK, .ack = 1000 }, __VA_ARGS__             \
	}
#define TOLD(ack_)                                                                                                     \
	TC_ACT_REDIRECT, .out = {                                                                                      \
		.src = N1, .dst = CLIENT, .sport = 8081, .dport = 7100, .proto = TCP, .ttl = 63, .ack = ack_           \
	}
	static const struct row never[] = {
		STEP("SYN", PROG_UPLINK, UP0, SYN, FROM_CLIENT),
		REFUSES("nobody ever answered on the port", TOLD(1000)),
	};
	static const struct row died[] = {
		STEP("SYN", PROG_UPLINK, UP0, SYN, FROM_CLIENT),
		STEP("SYN ACK", PROG_TASK, H1, SYN | ACK, FROM_TASK),
		STEP("ACK", PROG_UPLINK, UP0, ACK, FROM_CLIENT),
		STEP("RST", PROG_TASK, H1, RST, FROM_TASK),
		STEP("SYN to the dead", PROG_UPLINK, UP0, SYN, FROM_CLIENT),
		REFUSES("asks again at once", TOLD(999), EVENT(ASK_AGAIN)),
		STEP("SYN at once", PROG_UPLINK, UP0, SYN, FROM_CLIENT),
		REFUSES("asks again by itself", DROPS(REFUSAL)),
		STEP("SYN after a second", PROG_UPLINK, UP0, SYN, FROM_CLIENT),
		REFUSES("is told", TOLD(1000)),
	};
	struct dp_ip t1 = ip_of("10.0.0.11");
	struct abi_addr at = ebpf_addr(&t1);

	(void)state;
	backend_at(e, lb_backend_index(e, INGRESS_VNI, &at))->heard = 0;
	RUN(never);
	RUN(died);
}

/* After a restart what is not wanted any more goes, and what is wanted was never away. */
static void restart_sweeps(void **state)
{
	static const struct row kept[] = {
		{ "a flow of before",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW) },
	};
	static const struct row after[] = {
		{ "is known after",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T1_MAC,
		           .src = CLIENT,
		           .dst = "10.0.0.11",
		           .sport = 5000,
		           .dport = 80,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "a port that was not set again",
		  PROG_UPLINK,
		  UP0,
		  { C(8082), .proto = TCP, .tcp = SYN },
		  TC_ACT_UNSPEC },
		{ "a network that was not set again",
		  PROG_TASK,
		  H0,
		  { T("10.0.2.5"), .proto = TCP, .tcp = SYN },
		  TC_ACT_OK },
	};
	char pin[96];
	struct dp_counters st;

	(void)state;
	RUN(kept);
	uint64_t table = e->services[lb_service_index(e, 21)].cur;
	ebpf_close(e);
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	open_node(pin);
	assert_int_equal(e->services[lb_service_index(e, 21)].cur, table);
	run_row(&after[0]);
	set_network(INGRESS_VNI, "10.0.0.0", "10.0.0.1", true);
	set_network(VNI, "10.0.1.0", "10.0.1.1", false);
	attach(H0, VNI, "10.0.1.11", 7, false);
	attach(H1, INGRESS_VNI, "10.0.0.11", 7, false);
	struct dp_ip n1 = ip_of(N1);
	OK(ebpf_set_host_addr(e, &n1, &err));
	set_nodes();
	set_endpoint(INGRESS_VNI, "10.0.0.11", NULL);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
	set_port(8081, 21, false);
	set_xdp(UP0, true, false);
	ebpf_sweep(e);
	/* The same set again is the same table, untouched. */
	assert_int_equal(e->services[lb_service_index(e, 21)].cur, table);
	assert_int_equal(ebpf_service_stats(e, 22, NULL, &st), MESH_E_NOT_FOUND);
	for (size_t i = 0; i < ARRAY_SIZE(after); i++)
		run_row(&after[i]);
}

#endif
