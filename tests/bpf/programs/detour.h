/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: a socket that was pointed at a task which is gone before it answered goes to another (dataplane/ebpf/detour.c). */
#ifndef TESTS_BPF_DETOUR_H
#define TESTS_BPF_DETOUR_H

#include "tests/bpf/programs/task.h"

#define DEAD "10.0.1.98"

static void detour(void **state)
{
	static const struct row before[] = {
		{ "to the dead", PROG_TASK, H0, { T(DEAD), .proto = TCP, .tcp = SYN }, DROPS(UNKNOWN_DST) },
	};
	static const struct row after[] = {
		{ "to another",
		  PROG_TASK,
		  H0,
		  { T(DEAD), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = TCP } },
		{ "again, and later",
		  PROG_TASK,
		  H0,
		  { T(DEAD), .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = TCP } },
		{ "its answer",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 200,
		    .dport = 100,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .src = DEAD, .dst = "10.0.1.11", .sport = 200, .dport = 100, .proto = TCP } },
		{ "another connection to the dead",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .dmac = HOST_MAC,
		    .src = "10.0.1.11",
		    .dst = DEAD,
		    .sport = 101,
		    .dport = 200,
		    .proto = TCP,
		    .tcp = SYN },
		  DROPS(UNKNOWN_DST) },
	};
	struct ebpf_conn c = {
		.vni = VNI, .cookie = 77, .ip = ip_of("10.0.1.11"), .peer = ip_of(DEAD), .port = 100, .peer_port = 200
	};
	struct dp_ip vip = ip_of("10.0.1.2");
	struct abi_sock_key k = { .cookie = 77, .addr = ebpf_addr(&c.peer), .port = htons(200), .kind = SOCK_PEER };
	struct abi_sock s = { .addr = ebpf_addr(&vip) };

	(void)state;
	RUN(before);
	/* A socket that dialled that task itself. */
	assert_false(ebpf_detour(e, &c));
	assert_int_equal(bpf_map_update_elem(e->table_fd[TABLE_SOCKS], &k, &s, BPF_ANY), 0);
	assert_false(ebpf_is_detoured(e, &c));
	assert_true(ebpf_detour(e, &c));
	assert_true(ebpf_is_detoured(e, &c));
	RUN(after);
	/* The other goes, too: nobody answers any more, and the socket may be closed. */
	struct dp_ip other = ip_of("10.0.1.12");
	ebpf_del_endpoint(e, VNI, &other);
	assert_false(ebpf_is_detoured(e, &c));
	set_endpoint(VNI, "10.0.1.12", N2);
	/* The address is somebody's again: who dials it means that one. */
	set_endpoint(VNI, DEAD, N2);
	run_row(&(struct row){ "a new task at the old address",
	                       PROG_TASK,
	                       H0,
	                       { T(DEAD), .proto = TCP, .tcp = SYN },
	                       TC_ACT_REDIRECT,
	                       .out = { T_(DEAD), .proto = TCP } });
	assert_false(ebpf_is_detoured(e, &c));
	struct dp_ip dead = ip_of(DEAD);
	ebpf_del_endpoint(e, VNI, &dead);
}

#endif
