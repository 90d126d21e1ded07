/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what XDP takes, byte for byte as tc would have sent it, and what it leaves to tc untouched. */
#ifndef TESTS_BPF_XDP_H
#define TESTS_BPF_XDP_H

#include <linux/if_link.h>
#include <bpf/libbpf.h>

#include "tests/bpf/programs/outer.h"

#define ANSWER(proto_)                                                                                                 \
	{                                                                                                              \
		.smac = T2_MAC, .dmac = REPLY_MAC, .src = N1, .dst = CLIENT, .sport = 8082, .dport = 5000,             \
		.proto = proto_, .tcp = ACK                                                                            \
	}

enum xdp_spoil { AS_IT_IS, UNFINISHED, NOT_FOR_US, TAGGED };
struct xdp_case {
	const char *name;
	struct pk p;
	const char *from; /* tunnelled by this node */
	uint32_t vni;
	enum xdp_spoil spoil;
	int taken; /* the verdict, 0 = XDP_PASS */
};

/* The sum field as a socket leaves it to a device. */
static void leave_sum(uint8_t *f)
{
	const struct iphdr *ip = (const void *)(f + ETH_HLEN);
	size_t l4 = ntohs(ip->tot_len) - ip->ihl * 4u;
	uint16_t sum = htons(fold(pseudo(ip, l4)));

	memcpy(f + ETH_HLEN + ip->ihl * 4u + (ip->protocol == TCP ? 16 : 6), &sum, 2);
}

static size_t build_case(const struct xdp_case *c, uint8_t *f)
{
	size_t n = build(&c->p, f);

	if (c->spoil == UNFINISHED)
		leave_sum(f);
	if (c->from)
		n = wrap(f, n, c->from, N1, c->vni, up0_mac);
	memcpy(f, up0_mac, 6);
	if (c->spoil == NOT_FOR_US)
		f[5] ^= 1;
	if (c->spoil == TAGGED) {
		memmove(f + 16, f + 12, n - 12);
		memcpy(f + 12, "\x81\x00\x00\x05", 4);
		n += 4;
	}
	return n;
}

/* But for what names a datagram and for the outer Ethernet header, which tc leaves to the neighbour's entry. */
static void assert_same_frame(uint8_t *a, uint8_t *b, size_t n, bool tunnelled)
{
	if (tunnelled) {
		memset(a, 0, 12);
		memset(b, 0, 12);
		memset(a + 18, 0, 2);
		memset(b + 18, 0, 2);
		memset(a + 24, 0, 2);
		memset(b + 24, 0, 2);
	}
	assert_memory_equal(a, b, n);
}

static void run_xdp_case(const struct xdp_case *c)
{
	_Alignas(8) uint8_t in_mem[2 + 256], xdp_mem[2 + 512], tc_mem[2 + 512];
	uint8_t *f = in_mem + 2, *by_xdp = xdp_mem + 2, *by_tc = tc_mem + 2;
	size_t n = build_case(c, f), xdp_len, tc_len;
	struct row r = { c->name, PROG_UPLINK, UP0 };
	uint64_t events[EVENT_MAX];

	print_message("  %s\n", c->name);
	for (uint32_t i = 0; i < EVENT_MAX; i++)
		events[i] = stats_event(e, i);
	uint32_t verdict = run_xdp(f, n, by_xdp, &xdp_len);
	assert_int_equal(verdict, c->taken ? c->taken : XDP_PASS);
	if (!c->taken) {
		assert_int_equal(xdp_len, n);
		assert_memory_equal(f, by_xdp, n);
		for (uint32_t i = 0; i < EVENT_MAX; i++)
			assert_int_equal(stats_event(e, i), events[i]);
		return;
	}
	assert_memory_equal(by_xdp + 6, up0_mac, 6);
	assert_int_equal(by_xdp[5], c->from ? 0x64 : 0x0c);
	assert_int_equal(run_tc(&r, PROG_UPLINK, f, n, by_tc, &tc_len), TC_ACT_REDIRECT);
	assert_int_equal(xdp_len, tc_len);
	/* Everything was counted twice, and by XDP once. */
	for (uint32_t i = 0; i < EVENT_MAX; i++)
		assert_int_equal((stats_event(e, i) - events[i]) % 2, i == EVENT_XDP);
	assert_same_frame(by_xdp, by_tc, tc_len, !c->from);
}

static void xdp(void **state)
{
	static const struct xdp_case cases[] = {
		{ "SYN to a task elsewhere", { C(8082), .proto = TCP, .tcp = SYN }, .taken = XDP_TX },
		{ "ACK to a task elsewhere", { C(8082), .proto = TCP, .tcp = ACK }, .taken = XDP_TX },
		{ "UDP to a task elsewhere", { C(8082), .proto = UDP }, .taken = XDP_TX },
		{ "IP options", { C(8082), .proto = TCP, .tcp = ACK, .options = true }, .taken = XDP_TX },
		{ "TCP answer", ANSWER(TCP), N2, INGRESS_VNI, .taken = XDP_TX },
		{ "UDP answer", ANSWER(UDP), N2, INGRESS_VNI, .taken = XDP_TX },
		{ "a TCP sum left to a device", { C(8082), .proto = TCP, .tcp = ACK }, .spoil = UNFINISHED },
		{ "a UDP sum left to a device", { C(8082), .proto = UDP }, .spoil = UNFINISHED },
		{ "an answer's TCP sum left to a device", ANSWER(TCP), N2, INGRESS_VNI, UNFINISHED },
		{ "an answer's UDP sum left to a device", ANSWER(UDP), N2, INGRESS_VNI, UNFINISHED },
		{ "another machine's frame", { C(8082), .proto = TCP, .tcp = SYN }, .spoil = NOT_FOR_US },
		{ "another machine's answer", ANSWER(TCP), N2, INGRESS_VNI, NOT_FOR_US },
		{ "a VLAN tag", { C(8082), .proto = TCP, .tcp = SYN }, .spoil = TAGGED },
		{ "a task here", { C(8081), .proto = TCP, .tcp = SYN } },
		{ "host mode", { C(9090), .proto = TCP, .tcp = SYN } },
		{ "the host's own", { C(22), .proto = TCP, .tcp = SYN } },
		{ "a first fragment", { C(8082), .proto = UDP, .frag = 0x2000 } },
		{ "a later fragment", { C(8082), .proto = UDP, .frag = 0x10 } },
		{ "ICMP", { C(0), .proto = ICMP, .icmp = 3 } },
		{ "ARP", { .ether = ETH_P_ARP } },
		{ "an answer of a stranger", ANSWER(TCP), "172.31.9.66", INGRESS_VNI },
		{ "an answer of another network", ANSWER(TCP), N2, VNI },
		{ "an answer to a fragment",
		  { .dmac = REPLY_MAC, .src = N1, .dst = CLIENT, .proto = UDP, .frag = 0x2000 },
		  N2,
		  INGRESS_VNI },
		{ "an answer with somebody else's address",
		  { .dmac = REPLY_MAC, .src = "8.8.8.8", .dst = CLIENT, .proto = TCP },
		  N2,
		  INGRESS_VNI },
		{ "an answer to nowhere",
		  { .dmac = REPLY_MAC, .src = N1, .dst = "203.0.113.9", .proto = TCP },
		  N2,
		  INGRESS_VNI },
		{ "an answer to nobody known",
		  { .dmac = REPLY_MAC, .src = N1, .dst = "172.31.9.201", .proto = TCP },
		  N2,
		  INGRESS_VNI },
		{ "a task to a task",
		  { .dmac = O1_MAC, .src = "10.0.1.12", .dst = "10.0.1.11", .proto = UDP },
		  N2,
		  VNI },
	};

	(void)state;
	set_how(BY_XDP);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		run_xdp_case(&cases[i]);
}

static void set_neighbour(const char *mac)
{
	char cmd[96];

	snprintf(cmd, sizeof(cmd), "ip neigh replace " N2 " lladdr %s dev up0", mac);
	assert_int_equal(system(cmd), 0);
}

/* The last octet of whom a packet to N2's task is sent to. */
static uint8_t neighbour_asked(void)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	static const struct xdp_case c = { "to a task elsewhere", { C(8082), .proto = TCP, .tcp = SYN } };
	size_t len, n = build_case(&c, in_mem + 2);

	assert_int_equal(run_xdp(in_mem + 2, n, out_mem + 2, &len), XDP_TX);
	return out_mem[2 + 5];
}

/* A node's neighbour is asked of the kernel now and then; what we learn counts at once. */
static void xdp_neighbour_moves(void **state)
{
	struct timespec tick = { .tv_nsec = 10000000 };
	int tries = 3000;

	(void)state;
	set_how(BY_XDP);
	assert_int_equal(neighbour_asked(), 0x0c);
	set_neighbour("02:aa:00:00:00:0e");
	while (neighbour_asked() != 0x0e && tries--)
		nanosleep(&tick, NULL);
	assert_true(tries > 0);
	set_neighbour("02:aa:00:00:00:0c");
	set_nodes();
	assert_int_equal(neighbour_asked(), 0x0c);
}

/* Whoever was first stays. */
static void another_xdp_program_stays(void **state)
{
	/* r0 = XDP_PASS; exit */
	static const struct bpf_insn pass[] = { { .code = 0xb7, .imm = XDP_PASS }, { .code = 0x95 } };
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "another", "GPL", pass, 2, NULL);
	LIBBPF_OPTS(bpf_xdp_attach_opts, o);
	uint32_t id, still;
	struct mesh_err err = {};

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(bpf_xdp_attach((int)devs[VX], fd, XDP_FLAGS_DRV_MODE, &o), 0);
	assert_int_equal(bpf_xdp_query_id((int)devs[VX], XDP_FLAGS_DRV_MODE, &id), 0);
	assert_true(ebpf_attach_xdp(e, devs[VX], &err) < 0);
	assert_non_null(strstr(err.msg, "another XDP program is on it, which stays"));
	ebpf_detach_xdp(e, devs[VX]);
	assert_int_equal(bpf_xdp_query_id((int)devs[VX], XDP_FLAGS_DRV_MODE, &still), 0);
	assert_int_equal(id, still);
	assert_int_equal(bpf_xdp_detach((int)devs[VX], XDP_FLAGS_DRV_MODE, &o), 0);
	close(fd);
}

/* The way there is not XDP's: everything is passed. */
static void xdp_has_no_way(void **state)
{
	struct xdp_case out = { "to a task elsewhere", { C(8082), .proto = TCP, .tcp = SYN } };
	struct xdp_case in = { "its answer", ANSWER(TCP), N2, INGRESS_VNI };

	(void)state;
	set_how(BY_XDP);
	set_way(devs[UP0], 100);
	run_xdp_case(&out);
	set_way(devs[H0], 1500);
	run_xdp_case(&out);
	set_way(0, 1500);
	run_xdp_case(&out);
	set_nodes();
	ebpf_via_device(e, true);
	run_xdp_case(&out);
	run_xdp_case(&in);
	ebpf_via_device(e, false);
	set_xdp(UP0, false, false);
	run_xdp_case(&out);
	run_xdp_case(&in);
	set_xdp(UP0, false, true);
	out.taken = in.taken = XDP_REDIRECT;
	run_xdp_case(&out);
	run_xdp_case(&in);
	set_xdp(UP0, true, false);
	out.taken = in.taken = XDP_TX;
	run_xdp_case(&out);
	run_xdp_case(&in);
}

#endif
