/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what is counted of a backend, by its index: its own CPU's line, so that nobody waits for another. */
#ifndef BPF_STATS_H
#define BPF_STATS_H

#include "bpf/packet.h"

/* By the task, or by who talks to it. */
static __always_inline void add_resets(struct abi_stats *s, const struct packet *p, bool out)
{
	if (!(p->tcp & TCP_RST))
		return;
	if (out)
		s->resets_task++;
	else
		s->resets_peer++;
}

static __always_inline void add_stats(struct __sk_buff *skb, const struct packet *p, __u32 backend, bool out,
                                      bool begins)
{
	struct abi_stats *s = stats_of(backend);
	__u32 n = skb->gso_segs > 1 ? skb->gso_segs : 1;

	if (!s)
		return;
	if (out) {
		s->packets_out += n;
		s->bytes_out += skb->len;
	} else {
		s->packets_in += n;
		s->bytes_in += skb->len;
	}
	s->conns += begins;
	add_resets(s, p, out);
}

/* The same for what is not of a published port. */
static __always_inline void add_net_stats(struct __sk_buff *skb, const struct packet *p, __u32 backend, bool out)
{
	struct abi_stats *s = backend ? stats_of(backend) : 0;
	__u32 n = skb->gso_segs > 1 ? skb->gso_segs : 1;

	if (!s)
		return;
	if (out) {
		s->net_packets_out += n;
		s->net_bytes_out += skb->len;
	} else {
		s->net_packets_in += n;
		s->net_bytes_in += skb->len;
	}
	add_resets(s, p, out);
}

/* A handshake ended, well or not. */
static __always_inline void add_opened(const struct abi_flow *f, __u8 state, __u64 now)
{
	__u32 backend = f->backend;
	struct abi_stats *s = stats_of(backend);

	if (!s)
		return;
	if (state == FLOW_CLOSED) {
		s->failed++;
		return;
	}
	s->opened++;
	if (now > f->seen_ns)
		s->open_ns += now - f->seen_ns;
}

#endif
