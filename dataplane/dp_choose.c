/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which driver a node runs, and what it says of that. Pure. */
#include <stdio.h>

#include "dataplane/dp_int.h"

/* What a user meets: a list, which tests take from what a node says instead of from a list of theirs. */
#define NFT_LIMITS                                                                                                     \
	"cannot show packets, see handshakes, bring a task to a port of its own node that a task elsewhere on a "      \
	"network of both serves"

int dp_choose(const char *want, const struct dp_probed *probed, struct dp_choice *out, struct mesh_err *err)
{
	bool is_auto = !want || !*want || strcmp(want, "auto") == 0, forced = !is_auto && strcmp(want, "ebpf") == 0;
	if (!is_auto && !forced && strcmp(want, "nft") != 0)
		return mesh_fail(err, MESH_E_INVALID, "driver '%s': one of auto, ebpf, nft", want);
	if (!is_auto && !forced) {
		out->drv = &dp_driver_nft;
		snprintf(out->text, sizeof(out->text), "nft: as configured; " NFT_LIMITS);
	} else if (!probed->code) {
		out->drv = &dp_driver_ebpf;
		snprintf(out->text, sizeof(out->text), "ebpf: kernel %.64s has all it needs", probed->kernel);
	} else if (forced) {
		return mesh_fail(err, probed->code, "driver ebpf%s: %s; meshd --data-plane auto takes nft instead",
		                 probed->tried ? " does not start" : "", probed->why);
	} else {
		out->drv = &dp_driver_nft;
		snprintf(out->text, sizeof(out->text), "nft: %s (%.160s); " NFT_LIMITS,
		         probed->tried ? "eBPF does not start" : "no eBPF", probed->why);
	}
	return 0;
}
