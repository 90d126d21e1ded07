/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what a service's labels say about its traffic: who may dial, where, and who comes back to whom. */
#ifndef TESTS_BPF_POLICY_H
#define TESTS_BPF_POLICY_H

#include "tests/bpf/programs/flood.h"

static void address_ranges(void **state)
{
	static const struct row limited[] = {
		{ "source in a range",
		  PROG_UPLINK,
		  UP0,
		  { C(8090), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(INGRESS) },
		{ "source of no range",
		  PROG_UPLINK,
		  UP0,
		  { .src = "172.31.8.100", .dst = N1, .sport = 5000, .dport = 8090, .proto = TCP, .tcp = SYN },
		  DROPS(SOURCE) },
		{ "nor what looks like an open connection",
		  PROG_UPLINK,
		  UP0,
		  { .src = "172.31.8.100", .dst = N1, .sport = 5000, .dport = 8090, .proto = UDP },
		  DROPS(SOURCE) },
		{ "a single address",
		  PROG_UPLINK,
		  UP0,
		  { .src = "203.0.113.7", .dst = N1, .sport = 5000, .dport = 8090, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT },
		{ "its neighbour",
		  PROG_UPLINK,
		  UP0,
		  { .src = "203.0.113.8", .dst = N1, .sport = 5000, .dport = 8090, .proto = TCP, .tcp = SYN },
		  DROPS(SOURCE) },
		{ "the machine itself over its loopback",
		  PROG_LO,
		  LO,
		  { .src = "127.0.0.1", .dst = N1, .sport = 5000, .dport = 8090, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT },
		{ "the machine itself from another address",
		  PROG_LO,
		  LO,
		  { .src = "172.31.8.11", .dst = N1, .sport = 5000, .dport = 8090, .proto = TCP, .tcp = SYN },
		  DROPS(SOURCE) },
		{ "a task counts with its own address",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .dmac = HOST_MAC,
		    .src = "10.0.1.11",
		    .dst = N1,
		    .sport = 5000,
		    .dport = 8090,
		    .proto = TCP,
		    .tcp = SYN },
		  DROPS(SOURCE) },
		{ "another service has no ranges",
		  PROG_UPLINK,
		  UP0,
		  { .src = "172.31.8.100", .dst = N1, .sport = 5000, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT },
	};
	static const struct row elsewhere[] = {
		{ "not published at this address",
		  PROG_UPLINK,
		  UP0,
		  { C(8090), .proto = TCP, .tcp = SYN },
		  TC_ACT_UNSPEC },
	};
	static const struct row open[] = {
		{ "no ranges any more",
		  PROG_UPLINK,
		  UP0,
		  { .src = "172.31.8.100", .dst = N1, .sport = 5000, .dport = 8090, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT },
	};
	struct ebpf_backend b = { .ip = ip_of("10.0.0.11"), .local = true, .state = DP_SERVING };
	struct ebpf_range r[] = { { .net = ip_of("172.31.9.0"), .prefix = 24 },
		                  { .net = ip_of("203.0.113.7"), .prefix = 32 },
		                  { .net = ip_of("172.31.9.128"), .prefix = 25, .dialled = true } };
	struct ebpf_service s = { .key = 80, .vni = INGRESS_VNI, .backends = &b, .n = 1, .ranges = r, .n_ranges = 2 };

	(void)state;
	OK(ebpf_set_service(e, &s, &err));
	set_port(8090, 80, false);
	RUN(limited);
	s.n_ranges = 3;
	OK(ebpf_set_service(e, &s, &err));
	RUN(elsewhere);
	s.n_ranges = 0;
	OK(ebpf_set_service(e, &s, &err));
	RUN(open);
	ebpf_del_port(e, TCP, 8090);
	ebpf_del_port(e, UDP, 8090);
	ebpf_del_service(e, 80);
}

static void set_affine(const enum dp_backend_state *states, const bool *spare, uint32_t seconds)
{
	struct ebpf_backend b[CROWD] = {};
	struct ebpf_service s = { .key = 77, .vni = INGRESS_VNI, .backends = b, .affinity_s = seconds };

	for (int i = 0; i < CROWD; i++) {
		char ip[16];
		snprintf(ip, sizeof(ip), "10.0.0.%d", 21 + i);
		if (states[i] == DP_BACKEND_STATE_MAX)
			continue;
		b[s.n] = (struct ebpf_backend){
			.ip = ip_of(ip), .node = ip_of(N2), .state = states[i], .spare = spare && spare[i]
		};
		s.n++;
	}
	OK(ebpf_set_service(e, &s, &err));
}

static int datagram_goes_to(int f)
{
	return packet_goes_to(UDP, 30000 + f, 0);
}

static void age_service(uint64_t key, uint64_t seconds)
{
	for (uint32_t i = 1; i < e->n_services; i++)
		if (e->services[i].key == key)
			e->services[i].changed_ns -= seconds * 1000000000u;
}

static void check_connections(const int *at, int n)
{
	for (int f = 0; f < n; f++)
		assert_int_equal(goes_to(5000 + f, ACK), at[f]);
}

static void begin_connections(int *at, int from, int to)
{
	for (int f = from; f < to; f++) {
		at[f] = goes_to(5000 + f, SYN);
		assert_int_equal(goes_to(5000 + f, ACK), at[f]);
	}
}

/* What earlier tests left fills the table, and a full one may forget what is new. */
static void empty_choices(void)
{
	struct abi_choice_key k;

	while (!bpf_map_get_next_key(e->table_fd[TABLE_CHOICES], NULL, &k))
		assert_int_equal(bpf_map_delete_elem(e->table_fd[TABLE_CHOICES], &k), 0);
}

/* The first n of the crowd serve, and nobody remembers anything. */
static void begin_crowd(enum dp_backend_state *states, int n)
{
	empty_choices();
	for (int i = 0; i < CROWD; i++)
		states[i] = i < n ? DP_SERVING : DP_BACKEND_STATE_MAX;
	set_affine(states, NULL, 0);
	set_port(8099, 77, false);
}

/* Affinity comes and goes, and the set changes in between: what is open stays where it is. */
static void affinity_turned_on_and_off(void **state)
{
	enum dp_backend_state states[CROWD];
	static const struct {
		unsigned seconds;
		int tasks;
	} steps[] = { { 600, 4 }, { 600, 5 }, { 0, 5 }, { 600, 5 }, { 0, 6 }, { 0, 5 }, { 600, 6 } };
	int at[240], n = 60;

	(void)state;
	begin_crowd(states, 4);
	begin_connections(at, 0, n);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		for (int t = 4; t < 6; t++)
			states[t] = t < steps[i].tasks ? DP_SERVING : states[t] == DP_SERVING ? DP_DRAINING : states[t];
		set_affine(states, NULL, steps[i].seconds);
		check_connections(at, n);
		begin_connections(at, n, n + 20);
		for (int f = n; steps[i].seconds && f < n + 20; f++)
			assert_int_equal(at[f], at[n]);
		n += 20;
		check_connections(at, n);
	}
	ebpf_del_service(e, 77);
}

/* Of the task here (mine) and one on n2, those that serve. */
static void serve_by(bool mine, bool other)
{
	struct ebpf_backend b[2] = {};
	struct ebpf_service s = { .key = 78, .vni = INGRESS_VNI, .backends = b };

	if (mine)
		b[s.n++] = (struct ebpf_backend){ .ip = ip_of("10.0.0.11"), .local = true, .state = DP_SERVING };
	if (other)
		b[s.n++] = (struct ebpf_backend){ .ip = ip_of("10.0.0.21"), .node = ip_of(N2), .state = DP_SERVING };
	OK(ebpf_set_service(e, &s, &err));
}

/* Of a hundred datagrams that n2 sends to the task here, each the first of its flow: how many are passed on? */
static unsigned passed_on(unsigned first)
{
	unsigned n = 0;

	for (unsigned f = first; f < first + 100; f++) {
		_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
		struct row r = { .prog = PROG_VXLAN,
			         .dev = VX,
			         .vni = INGRESS_VNI,
			         .from = N2,
			         .in = { .smac = FROM_N2,
			                 .dmac = T1_MAC,
			                 .src = CLIENT,
			                 .dst = N2,
			                 .sport = (uint16_t)(40000 + f),
			                 .dport = 8098,
			                 .proto = UDP } };
		size_t len = build(&r.in, in_mem + 2), out_len;
		uint64_t chances = stats_event(e, EVENT_SECOND_CHANCE);
		assert_int_equal(test_run(&r, in_mem + 2, len, out_mem + 2, &out_len), TC_ACT_REDIRECT);
		n += stats_event(e, EVENT_SECOND_CHANCE) > chances;
	}
	return n;
}

/* Who had the slot before passes a new datagram on; whom another node's table names, which may be younger, keeps it. */
static void datagrams_by_another_table(void **state)
{
	(void)state;
	empty_choices();
	serve_by(true, false);
	set_port(8098, 78, false);
	serve_by(true, true);
	assert_in_range(passed_on(0), 25, 75);
	serve_by(false, true);
	age_service(78, 100);
	serve_by(true, true);
	assert_int_equal(passed_on(100), 0);
	ebpf_del_service(e, 78);
}

/* Datagram flows that are heard from soon after traffic was switched stay where they are, for good; others go along. */
static void datagrams_through_a_switch(void **state)
{
	enum dp_backend_state states[CROWD];
	bool spare[CROWD] = { true };
	int mine[40], n = 0;

	(void)state;
	begin_crowd(states, 2);
	for (int f = 0; n < 40; f++)
		if (datagram_goes_to(f) == 0)
			mine[n++] = f;
	set_affine(states, spare, 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(datagram_goes_to(mine[i]), 0);
	age_service(77, 4);
	for (int i = 0; i < 40; i++)
		assert_int_equal(datagram_goes_to(mine[i]), i < 20 ? 0 : 1);
	ebpf_del_service(e, 77);
}

/* Remembered or not: nobody waits for datagrams when a task stops. */
static void datagrams_leave_who_drains(void **state)
{
	enum dp_backend_state states[CROWD];
	unsigned there = 0;

	(void)state;
	begin_crowd(states, 2);
	states[2] = DP_SERVING;
	set_affine(states, NULL, 0);
	for (int f = 0; f < 100; f++)
		there += datagram_goes_to(f) == 0;
	assert_in_range(there, 25, 75);
	assert_in_range(table_stats("choices").used, 10, 100);
	states[0] = DP_DRAINING;
	set_affine(states, NULL, 0);
	for (int f = 0; f < 100; f++)
		assert_int_not_equal(datagram_goes_to(f), 0);
	ebpf_del_service(e, 77);
}

static void age_affinity(uint64_t seconds)
{
	int fd = e->table_fd[TABLE_AFFINITY];
	struct abi_affinity_key k;
	struct abi_affinity a;

	for (void *last = NULL; !bpf_map_get_next_key(fd, last, &k); last = &k) {
		assert_int_equal(bpf_map_lookup_elem(fd, &k, &a), 0);
		a.seen_ns -= seconds * 1000000000u;
		assert_int_equal(bpf_map_update_elem(fd, &k, &a, BPF_EXIST), 0);
	}
}

/* A client's connections all go where its first went, also when the set changes; open ones stay when that ends. */
static void affinity(void **state)
{
	enum dp_backend_state states[CROWD];
	bool spare[CROWD] = {};

	(void)state;
	for (int i = 0; i < CROWD; i++)
		states[i] = DP_BACKEND_STATE_MAX;
	states[0] = DP_SERVING;
	set_affine(states, NULL, 3600);
	set_port(8099, 77, false);
	/* An earlier flow had the same ports. */
	struct dp_ip client = ip_of(CLIENT), dst = ip_of(N1);
	struct abi_choice_key earlier = { .client = ebpf_addr(&client).w[3],
		                          .dst = ebpf_addr(&dst).w[3],
		                          .cport = htons(20000),
		                          .dport = htons(8099),
		                          .proto = TCP };
	struct abi_choice gone = { .backend = 1 };
	empty_choices();
	assert_int_equal(bpf_map_update_elem(e->table_fd[TABLE_CHOICES], &earlier, &gone, BPF_ANY), 0);
	/* A SYN alone is nobody: anybody could have sent it. */
	assert_int_equal(goes_to(0, SYN), 0);
	assert_int_equal(table_stats("affinity").used, 0);
	assert_int_equal(goes_to(0, ACK), 0);
	assert_int_equal(table_stats("affinity").used, 1);
	for (int i = 1; i < CROWD; i++)
		states[i] = DP_SERVING;
	set_affine(states, NULL, 3600);
	for (int f = 0; f < 50; f++)
		assert_int_equal(goes_to(f, SYN), 0);
	flood(8099);
	assert_int_equal(table_stats("affinity").used, 1);
	assert_int_equal(table_stats("affinity").evicted, 0);
	for (int f = 0; f < 50; f++) {
		assert_int_equal(goes_to(f, SYN), 0);
		assert_int_equal(goes_to(f, ACK), 0);
	}
	age_affinity(3601);
	int now = goes_to(100, SYN);
	assert_int_equal(goes_to(100, ACK), now);
	for (int f = 101; f < 150; f++)
		assert_int_equal(goes_to(f, SYN), now);
	for (int f = 0; f < 50; f++)
		assert_int_equal(goes_to(f, ACK), 0);
	/* Whoever takes nothing new loses its clients' new connections, and keeps the open ones. */
	spare[now] = true;
	set_affine(states, spare, 3600);
	int next = goes_to(200, SYN);
	assert_int_equal(goes_to(200, ACK), next);
	assert_int_not_equal(next, now);
	for (int f = 100; f < 150; f++)
		assert_int_equal(goes_to(f, ACK), now);
	states[next] = DP_DRAINING;
	set_affine(states, spare, 3600);
	assert_int_not_equal(goes_to(201, SYN), next);
	assert_int_equal(goes_to(200, ACK), next);
	ebpf_del_service(e, 77);
}

#endif
