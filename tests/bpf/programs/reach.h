/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: every pair of program and drop reason of bpf/reach.h was hit by the tables, and no other. */
#ifndef TESTS_BPF_REACH_H
#define TESTS_BPF_REACH_H

#include "bpf/reach.h"
#include "tests/bpf/programs/node.h"

static const char *const prog_texts[PROG_MAX] = { "from_uplink", "from_lo", "from_vxlan", "from_task", "from_xdp" };

static bool reachable(int prog, int reason)
{
	static const struct {
		enum ebpf_prog prog;
		enum abi_drop reason;
	} all[] = {
#define X(prog, reason) { PROG_##prog, DROP_##reason },
		ABI_REACH(X)
#undef X
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if ((int)all[i].prog == prog && (int)all[i].reason == reason)
			return true;
	return false;
}

/* The last test of all. */
static void every_drop_reason_was_hit(void **state)
{
	int wrong = 0;

	(void)state;
	for (int p = 0; p < PROG_MAX; p++)
		for (int r = 0; r < DROP_MAX; r++) {
			const char *id, *text;
			uint64_t packets;
			if (reachable(p, r) == (hits[p][r] > 0))
				continue;
			assert_true(ebpf_drop(e, (unsigned)r, &id, &text, &packets));
			print_error("%s: drop reason '%s' %s\n", prog_texts[p], id,
			            hits[p][r] ? "was hit, and bpf/reach.h does not know it"
			                       : "is in bpf/reach.h, and no row hits it");
			wrong++;
		}
	assert_int_equal(wrong, 0);
}

#endif
