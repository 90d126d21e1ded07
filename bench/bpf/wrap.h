/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what bench/packet/ tells the wrapper about the next packets. */
#ifndef BENCH_BPF_WRAP_H
#define BENCH_BPF_WRAP_H

#include <linux/types.h>

#define WRAP_WORDS 8        /* 64 bytes */
#define WRAP_OUTER_WORDS 14 /* of what comes in a tunnel */

/* The end of the connection that differs from flow to flow. */
enum wrap_vary { WRAP_NOTHING, WRAP_SRC, WRAP_DST };

struct wrap {
	__u64 frame[2 * WRAP_WORDS];
	__u32 n;
	__u32 flow_mask; /* flows - 1 */
	__u32 vary;      /* enum wrap_vary */
	__u32 ports;     /* number of destination ports to go through, 0 = the frame's */
	__u32 first_port;
	__u32 len; /* of the frame: what the program before added or took off is undone */
	__u32 at;  /* where the frame that varies begins in it: 0, or behind outer headers */
	__u32 pad;
};

#endif
