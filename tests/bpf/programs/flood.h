/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: floods of SYNs push out nothing that connections need. */
#ifndef TESTS_BPF_FLOOD_H
#define TESTS_BPF_FLOOD_H

#include "dataplane/seen.h"
#include "tests/bpf/programs/changes.h"

#define FLOOD 100000 /* each way: six times what the tables of SYNs hold, a hundred times what the others do */

static struct dp_table_stats table_stats(const char *name)
{
	struct dp_stats *s = sch_new(&dp_stats_schema);
	struct dp_table_stats found = { 0 };

	ebpf_stats(e, s);
	for (size_t i = 0; i < s->tables.n; i++)
		if (!strcmp(s->tables.v[i].name, name))
			found = s->tables.v[i];
	found.name = NULL;
	sch_free(&dp_stats_schema, s);
	return found;
}

/* SYNs from everywhere, each a connection nobody ever finishes. */
static void flood(uint16_t port)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[512];
	struct pk p = { C(port), .proto = TCP, .tcp = SYN };
	struct __sk_buff skb = { .ifindex = devs[UP0] };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in_mem + 2, .data_size_in = (uint32_t)build(&p, in_mem + 2),
	            .data_out = out_mem, .data_size_out = sizeof(out_mem), .ctx_in = &skb, .ctx_size_in = sizeof(skb),
	            .repeat = 1);
	uint32_t rnd = 7;

	for (int i = 0; i < FLOOD; i++) {
		rnd = rnd * 1664525 + 1013904223;
		memcpy(in_mem + 2 + ETH_HLEN + offsetof(struct iphdr, saddr), &rnd, sizeof(rnd));
		o.data_size_out = sizeof(out_mem);
		assert_int_equal(bpf_prog_test_run_opts(e->prog_fd[PROG_UPLINK], &o), 0);
		assert_int_equal(o.retval, TC_ACT_REDIRECT);
	}
}

static void syn_flood(void **state)
{
	static const struct row open[] = {
		{ "SYN", PROG_UPLINK, UP0, { C(8081), .proto = TCP, .tcp = SYN }, TC_ACT_REDIRECT, EVENT(FLOW_NEW) },
		{ "the task answers",
		  PROG_TASK,
		  H1,
		  { .smac = T1_MAC,
		    .src = "10.0.0.11",
		    .dst = CLIENT,
		    .sport = 80,
		    .dport = 5000,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  TC_ACT_REDIRECT,
		  .out = { .src = N1, .dst = CLIENT, .sport = 8081, .dport = 5000, .proto = TCP, .ttl = 63 } },
		{ "ACK", PROG_UPLINK, UP0, { C(8081), .proto = TCP, .tcp = ACK }, TC_ACT_REDIRECT },
	};
	static const struct row answer = {
		"still answered",
		PROG_TASK,
		H1,
		{ .smac = T1_MAC,
		  .src = "10.0.0.11",
		  .dst = CLIENT,
		  .sport = 80,
		  .dport = 5000,
		  .proto = TCP,
		  .tcp = ACK },
		TC_ACT_REDIRECT,
		.out = { .src = N1, .dst = CLIENT, .sport = 8081, .dport = 5000, .proto = TCP, .ttl = 63 }
	};
	enum dp_backend_state states[CROWD] = { DP_SERVING, DP_SERVING, DP_SERVING, DP_SERVING };
	int owner[100];

	(void)state;
	RUN(open);
	/* At the ingress: connections begun while the set changes, which its memory alone keeps where they are. */
	states[4] = states[5] = DP_BACKEND_STATE_MAX;
	set_crowd(states);
	set_port(8099, 77, false);
	states[4] = DP_SERVING;
	set_crowd(states);
	for (int f = 0; f < 100; f++) {
		owner[f] = goes_to(3000 + f, SYN);
		assert_int_equal(goes_to(3000 + f, ACK), owner[f]);
	}
	struct dp_table_stats flows = table_stats("flows"), choices = table_stats("choices");
	uint64_t begun = stats_event(e, EVENT_FLOW_NEW), cached = stats_event(e, EVENT_CACHED);
	flood(8081);
	flood(8099);
	assert_int_equal(stats_event(e, EVENT_FLOW_NEW), begun + FLOOD);
	assert_int_equal(table_stats("flows").used, flows.used);
	assert_int_equal(table_stats("flows").evicted, flows.evicted);
	assert_int_equal(table_stats("choices").used, choices.used);
	assert_int_equal(table_stats("choices").evicted, choices.evicted);
	assert_true(table_stats("syns").evicted > 0);
	assert_true(table_stats("syn_choices").evicted + table_stats("syn_choices").used > 0);
	run_row(&open[2]);
	run_row(&answer);
	assert_int_equal(stats_event(e, EVENT_FLOW_NEW), begun + FLOOD);
	for (int f = 0; f < 100; f++)
		assert_int_equal(goes_to(3000 + f, ACK), owner[f]);
	assert_true(stats_event(e, EVENT_CACHED) > cached);
	ebpf_del_service(e, 77);
}

#endif
