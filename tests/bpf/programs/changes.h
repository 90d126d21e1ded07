/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: many changes of a set: nothing leaks, and flows keep their task. */
#ifndef TESTS_BPF_CHANGES_H
#define TESTS_BPF_CHANGES_H

#include "tests/bpf/programs/node.h"

static size_t chunks_in_use(void)
{
	lb_limbo_release(e, true);
	return e->tables_used;
}

/* Many sets, many changes: tables and slots are given back. */
static void nothing_leaks(void **state)
{
	size_t before = chunks_in_use();

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct ebpf_backend b[40];
		struct ebpf_service s = { .key = 99, .vni = VNI, .backends = b };
		for (int i = 0; i < 40; i++) {
			char ip[20];
			snprintf(ip, sizeof(ip), "10.0.1.%d", 20 + (round * 3 + i) % 200);
			b[i] = (struct ebpf_backend){ .ip = ip_of(ip), .node = ip_of(N2), .state = DP_SERVING };
		}
		s.n = 20 + round % 20;
		OK(ebpf_set_service(e, &s, &err));
	}
	ebpf_del_service(e, 99);
	assert_int_equal(chunks_in_use(), before);
	for (uint32_t i = 1; i < segments_size(&e->backends); i++)
		assert_int_not_equal(backend_at(e, i)->state, BACKEND_GONE);
}

#define CROWD 6
#define FLOWS 1200

static void set_crowd(const enum dp_backend_state *states)
{
	struct ebpf_backend b[CROWD] = {};
	struct ebpf_service s = { .key = 77, .vni = INGRESS_VNI, .backends = b };

	for (int i = 0; i < CROWD; i++) {
		char ip[32];
		if (states[i] == DP_BACKEND_STATE_MAX)
			continue;
		snprintf(ip, sizeof(ip), "10.0.0.%d", 21 + i);
		b[s.n++] = (struct ebpf_backend){ .ip = ip_of(ip), .node = ip_of(N2), .state = states[i] };
	}
	OK(ebpf_set_service(e, &s, &err));
}

/* Which of the crowd the ingress chooses for a packet of the client. */
static int packet_goes_to(uint8_t proto, int sport, uint8_t flags)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	struct row r = { .prog = PROG_UPLINK,
		         .dev = UP0,
		         .in = { .src = CLIENT,
		                 .dst = N1,
		                 .sport = (uint16_t)sport,
		                 .dport = 8099,
		                 .proto = proto,
		                 .tcp = flags } };
	size_t n = build(&r.in, in_mem + 2), out_len;

	assert_int_equal(test_run(&r, in_mem + 2, n, out_mem + 2, &out_len), TC_ACT_REDIRECT);
	return out_mem[2 + 5] - 21;
}

static int goes_to(int f, uint8_t flags)
{
	return packet_goes_to(TCP, 20000 + f, flags);
}

/* Whatever comes and goes, a flow whose task lives stays with it, seen often or seldom. */
static void flows_keep_their_task(void **state)
{
	static int owner[FLOWS], n;
	enum dp_backend_state states[CROWD] = { DP_SERVING, DP_SERVING, DP_SERVING };
	uint64_t rnd = 42;

	(void)state;
	for (int i = 3; i < CROWD; i++)
		states[i] = DP_BACKEND_STATE_MAX;
	set_crowd(states);
	set_port(8099, 77, false);
	for (int change = 0; change < 100; change++) {
		for (int k = 0; k < 12 && n < FLOWS; k++) {
			owner[n] = goes_to(n, SYN);
			assert_int_equal(states[owner[n]], DP_SERVING);
			n++;
		}
		for (int f = 0; f < n; f++) {
			rnd = rnd * 6364136223846793005u + 1442695040888963407u;
			if (owner[f] >= 0 && rnd >> 62 == 0 && goes_to(f, ACK) != owner[f])
				fail_msg("flow %d of task %d went to another after change %d", f, owner[f], change);
		}
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		int at = (int)((rnd >> 33) % CROWD), serving = 0;
		for (int i = 0; i < CROWD; i++)
			serving += i != at && states[i] == DP_SERVING;
		if (states[at] == DP_BACKEND_STATE_MAX) {
			states[at] = DP_SERVING;
		} else if (states[at] == DP_DRAINING) {
			states[at] = DP_BACKEND_STATE_MAX;
			for (int f = 0; f < n; f++)
				owner[f] = owner[f] == at ? -1 : owner[f];
		} else if (serving) {
			states[at] = DP_DRAINING;
		}
		set_crowd(states);
	}
	ebpf_del_service(e, 77);
}

#endif
