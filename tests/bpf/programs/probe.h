/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: probes of the way between nodes (bpf/abi.h, struct abi_probe): answered cut to their shortest, believed of nodes only. */
#ifndef TESTS_BPF_PROBE_H
#define TESTS_BPF_PROBE_H

#include "tests/bpf/programs/node.h"

enum { PROBE_MIN = ABI_PROBE_OFF + sizeof(struct abi_probe), PROBE_SIZE = PROBE_MIN + 40 };

static size_t build_probe(uint8_t *f, const struct abi_probe *p, size_t size)
{
	static const struct pk carrier = {
		.smac = O2_MAC, .dmac = O1_MAC, .src = "127.0.0.1", .dst = "127.0.0.1", .dport = 9, .proto = UDP
	};

	(void)build(&carrier, f);
	memset(f + ABI_PROBE_OFF, 0, PROBE_SIZE - ABI_PROBE_OFF);
	memcpy(f + ABI_PROBE_OFF, p, sizeof(*p));
	return size;
}

struct probe_case {
	const char *name;
	struct abi_probe p;
	const char *from;
	size_t size;
	int verdict, drop, events;
};

static void run_probe(const struct probe_case *c)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	uint8_t *f = in_mem + 2, *out = out_mem + 2;
	struct row r = { c->name, PROG_VXLAN, VX, .vni = ABI_PROBE_VNI, .from = c->from };
	uint64_t dropped = counter(e->drops_fd, DROP_MALFORMED) + counter(e->drops_fd, DROP_UNKNOWN_NODE);
	uint64_t seen = stats_event(e, EVENT_PROBE), sent = stats_event(e, EVENT_ENCAP);
	size_t len, n = build_probe(f, &c->p, c->size);

	print_message("  %s\n", c->name);
	if (own_tunnel)
		n = wrap(f, n, c->from, N1, ABI_PROBE_VNI, up0_mac);
	assert_int_equal(run_tc(&r, own_tunnel ? PROG_UPLINK : PROG_VXLAN, f, n, out, &len), c->verdict);
	assert_int_equal(counter(e->drops_fd, DROP_MALFORMED) + counter(e->drops_fd, DROP_UNKNOWN_NODE) - dropped,
	                 c->drop);
	assert_int_equal(stats_event(e, EVENT_PROBE) - seen, c->events);
	assert_int_equal(stats_event(e, EVENT_ENCAP) - sent, own_tunnel && c->verdict == TC_ACT_REDIRECT);
	if (c->verdict != TC_ACT_REDIRECT)
		return;
	if (own_tunnel)
		unwrap(out, &len, N1, N2);
	struct abi_probe answer = c->p;
	answer.answer = 1;
	assert_int_equal(len, PROBE_MIN);
	assert_memory_equal(out + ABI_PROBE_OFF, &answer, sizeof(answer));
}

static void probes(void **state)
{
#define QUESTION                                                                                                       \
	{                                                                                                              \
		.magic = ABI_PROBE_MAGIC, .size = PROBE_SIZE, .token = 0x1122334455667788                              \
	}
#define REPLY                                                                                                          \
	{                                                                                                              \
		.magic = ABI_PROBE_MAGIC, .size = PROBE_SIZE, .token = 7, .answer = 1                                  \
	}
	static const struct probe_case cases[] = {
		{ "a question is answered", QUESTION, N2, PROBE_SIZE, TC_ACT_REDIRECT, 0, 1 },
		{ "also the shortest", QUESTION, N2, PROBE_MIN, TC_ACT_REDIRECT, 0, 1 },
		{ "an answer ends here, and is no drop", REPLY, N2, PROBE_MIN, TC_ACT_SHOT, 0, 1 },
		{ "cut short", QUESTION, N2, PROBE_MIN - 1, TC_ACT_SHOT, 1, 0 },
		{ "something else", { .magic = 7 }, N2, PROBE_SIZE, TC_ACT_SHOT, 1, 0 },
		{ "of a stranger", QUESTION, "172.31.9.66", PROBE_SIZE, TC_ACT_SHOT, 1, 0 },
	};

	(void)state;
	FOR_EACH_WAY
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		run_probe(&cases[i]);
}

#endif
