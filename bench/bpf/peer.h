/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: sizes and map entries of the balancer that bench/packet measures itself against. */
#ifndef BENCH_BPF_PEER_H
#define BENCH_BPF_PEER_H

#include <linux/types.h>

enum { PEER_VIPS = 512, PEER_REALS = 4096, PEER_RING = 65537, PEER_FLOWS = 1 << 20, PEER_CPUS = 128 };

struct peer_vip_key {
	__be32 addr[4];
	__be16 port; /* 0: all */
	__u8 proto;
	__u8 pad;
};
struct peer_vip {
	__u32 flags;
	__u32 number; /* its ring begins at number * PEER_RING */
};
struct peer_real {
	__be32 addr[4];
	__u32 flags;
};
struct peer_flow_key {
	__be32 src[4], dst[4];
	__be16 ports[2];
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct peer_flow_key) == 40, "as large as its model's");
struct peer_flow {
	__u32 real;
	__u32 pad;
	__u64 seen_ns; /* UDP */
};
struct peer_count {
	__u64 packets, bytes;
};
/* Indexes of "counts" behind those of services. */
enum { PEER_ALL = PEER_VIPS, PEER_PASSED, PEER_SYNS, PEER_MISSES, PEER_COUNTS };

/* Connections begun in this second, by CPU: a flood would not be remembered. */
struct peer_rate {
	__u64 since_ns, n;
};
enum { PEER_RATE_MAX = 2000000000 }; /* of no effect here */

#endif
