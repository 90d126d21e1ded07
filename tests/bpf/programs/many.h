/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: more services than one segment of anything holds, and more backends than 16 bits count. */
#ifndef TESTS_BPF_MANY_H
#define TESTS_BPF_MANY_H

#include "tests/bpf/programs/node.h"

#define MANY 7000
#define MANY_BACKENDS 10
#define MANY_PORT 20000

static struct dp_ip many_ip(uint32_t i)
{
	struct dp_ip ip = ip_of("10.9.0.0");

	ip.b[13] = (uint8_t)(9 + (i >> 16));
	ip.b[14] = (uint8_t)(i >> 8);
	ip.b[15] = (uint8_t)i;
	return ip;
}

static void set_many(uint32_t i, size_t n)
{
	struct ebpf_backend b[MANY_BACKENDS] = {};
	struct ebpf_service s = { .key = 1000 + i, .vni = INGRESS_VNI, .backends = b, .n = n };

	for (uint32_t k = 0; k < n; k++)
		b[k] = (struct ebpf_backend){ .ip = many_ip(i * MANY_BACKENDS + k),
			                      .node = ip_of(N2),
			                      .state = DP_SERVING };
	OK(ebpf_set_service(e, &s, &err));
}

static void many_services(void **state)
{
	static const struct row rows[] = {
		{ "to a backend beyond 65535",
		  PROG_UPLINK,
		  UP0,
		  { C(MANY_PORT + MANY - 1), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(INGRESS),
		  /* the only one that is left */
		  .out = { .dmac = "02:42:0a:0a:11:66",
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 5000,
		           .dport = MANY_PORT + MANY - 1,
		           .proto = TCP,
		           .ttl = 63 } },
	};
	char pin[96];

	(void)state;
	for (uint32_t i = 0; i < MANY; i++) {
		set_many(i, MANY_BACKENDS);
		set_port((uint16_t)(MANY_PORT + i), 1000 + i, false);
	}
	struct dp_ip ip = many_ip((MANY - 1) * MANY_BACKENDS);
	struct abi_addr at = ebpf_addr(&ip);
	uint32_t index = lb_backend_index(e, INGRESS_VNI, &at);
	assert_true(index > UINT16_MAX);
	set_many(MANY - 1, 1);
	RUN(rows);
	/* Found again, and what was free is free again, after a restart. */
	lb_limbo_release(e, true);
	uint32_t used = e->tables_used;
	ebpf_close(e);
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	open_node(pin);
	assert_int_equal(lb_backend_index(e, INGRESS_VNI, &at), index);
	assert_int_equal(e->tables_used, used);
	RUN(rows);
	for (uint32_t i = 0; i < MANY; i++)
		ebpf_del_service(e, 1000 + i);
	lb_limbo_release(e, true);
	assert_true(e->tables_used < used);
}

/* Does a published port's packet come in that node i took in? */
static bool hears_node(uint32_t i)
{
	char from[24], mac[24];
	_Alignas(8) uint8_t in_mem[2 + 256], out[512];
	struct row r = { "a node of many", PROG_VXLAN, VX, .vni = INGRESS_VNI, .from = from };
	size_t n;

	snprintf(from, sizeof(from), "10.77.%u.%u", i >> 8, i & 255);
	snprintf(mac, sizeof(mac), "02:4c:0a:4d:%02x:%02x", i >> 8, i & 255);
	struct pk p = { .smac = mac,
		        .dmac = T1_MAC,
		        .src = CLIENT,
		        .dst = N2,
		        .sport = 1,
		        .dport = 8081,
		        .proto = TCP,
		        .tcp = SYN };
	n = build(&p, in_mem + 2);
	return test_run(&r, in_mem + 2, n, out, &n) == TC_ACT_REDIRECT;
}

/* More than there are places for those found without a lookup: two in one place are both nodes, until one is not. */
static void many_nodes(void **state)
{
	static const struct ebpf_way none;
	struct dp_ip ip = ip_of("10.77.0.0");
	uint32_t many = 2 * ABI_NEAR;
	char pin[96];

	(void)state;
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	assert_false(hears_node(0));
	for (uint32_t i = 0; i < many; i++) {
		ip.b[14] = (uint8_t)(i >> 8);
		ip.b[15] = (uint8_t)i;
		OK(ebpf_set_node(e, &ip, &none, &err));
	}
	ebpf_close(e);
	open_node(pin);
	for (uint32_t i = 0; i < many; i++)
		assert_true(hears_node(i));
	for (uint32_t i = 0; i < many; i += 2) {
		ip.b[14] = (uint8_t)(i >> 8);
		ip.b[15] = (uint8_t)i;
		ebpf_del_node(e, &ip);
	}
	for (uint32_t i = 0; i < many; i++)
		assert_int_equal(hears_node(i), i % 2);
	for (uint32_t i = 1; i < many; i += 2) {
		ip.b[14] = (uint8_t)(i >> 8);
		ip.b[15] = (uint8_t)i;
		ebpf_del_node(e, &ip);
	}
	assert_false(hears_node(1));
}

static void dial_address(const char *dst, int verdict)
{
	struct row r = { dst,
		         PROG_UPLINK,
		         UP0,
		         { .src = CLIENT, .dst = dst, .sport = 5000, .dport = 8081, .proto = TCP, .tcp = SYN },
		         verdict };

	run_row(&r);
}

/* More than programs know without asking, also after a restart and for whoever takes the place of one that went. */
static void many_addresses(void **state)
{
	char text[ABI_OWN + 4][24], pin[96];
	struct dp_ip ip, n1 = ip_of(N1);

	(void)state;
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
		snprintf(text[i], sizeof(text[i]), "172.31.9.%zu", 130 + i);
		dial_address(text[i], TC_ACT_UNSPEC);
		ip = ip_of(text[i]);
		OK(ebpf_set_host_addr(e, &ip, &err));
	}
	for (int restarts = 0; restarts < 2; restarts++) {
		for (size_t i = 0; i < ARRAY_SIZE(text); i++)
			dial_address(text[i], TC_ACT_REDIRECT);
		dial_address(N1, TC_ACT_REDIRECT);
		dial_address("0.0.0.0", TC_ACT_UNSPEC);
		ebpf_close(e);
		open_node(pin);
	}
	for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
		ip = ip_of(text[i]);
		ebpf_del_host_addr(e, &ip);
		ebpf_del_host_addr(e, &n1);
		dial_address(N1, TC_ACT_UNSPEC);
		OK(ebpf_set_host_addr(e, &n1, &err));
		dial_address(N1, TC_ACT_REDIRECT);
		for (size_t j = 0; j < ARRAY_SIZE(text); j++)
			dial_address(text[j], j <= i ? TC_ACT_UNSPEC : TC_ACT_REDIRECT);
	}
}

#endif
