/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: between two layouts. Programs of another layout have maps of their own; while userspace copies what they know,
 *       every hook runs NAME_handover, which holds on to the program that ran there before:
 *       PHASE_BEFORE   the old programs do everything, in their maps
 *       PHASE_COPYING  flows begin in our maps; a packet of a flow that is not there goes to the old program
 *       PHASE_OWN      everything is ours
 *       So all hooks change at once, with a word, and no packet meets maps that do not know its flow.
 * Cost: none outside a hand-over: NAME itself is compiled without, config.handover is constant.
 */
#ifndef BPF_HANDOVER_H
#define BPF_HANDOVER_H

#include "bpf/packet.h"

/* What a path returns for a packet that the programs of before may know; nothing of it was changed. */
#define NOT_KNOWN (-2)

static __always_inline __u32 phase(void)
{
	__u32 zero = 0;
	struct abi_runtime *rt = config.handover ? bpf_map_lookup_elem(&runtime, &zero) : 0;

	return rt ? rt->phase : PHASE_OWN;
}

/* Not with us, but perhaps with the programs of before? Connections that begin now are ours. */
static __always_inline bool may_be_older(const struct packet *p)
{
	return !(p->proto == IPPROTO_TCP && is_new(p)) && phase() == PHASE_COPYING;
}

/* The same at an ingress. A datagram begins anew: its flow is the same again, and its answer finds it. */
static __always_inline bool may_be_older_connection(const struct packet *p)
{
	return p->proto == IPPROTO_TCP && may_be_older(p);
}

#define MESH_PROGRAM(name, path)                                                                                       \
	SEC("tc")                                                                                                      \
	int name(struct __sk_buff *skb)                                                                                \
	{                                                                                                              \
		return path(skb);                                                                                      \
	}                                                                                                              \
	SEC("tc")                                                                                                      \
	int name##_handover(struct __sk_buff *skb)                                                                     \
	{                                                                                                              \
		__u32 now = phase();                                                                                   \
		int rc;                                                                                                \
		if (now == PHASE_BEFORE || (now == PHASE_COPYING && is_icmp(skb)))                                     \
			bpf_tail_call(skb, &before, 0);                                                                \
		rc = path(skb);                                                                                        \
		if (rc != NOT_KNOWN)                                                                                   \
			return rc;                                                                                     \
		bpf_tail_call(skb, &before, 0);                                                                        \
		return TC_ACT_UNSPEC;                                                                                  \
	}

#endif
