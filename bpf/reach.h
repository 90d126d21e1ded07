/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: which program can drop a packet for which reason. The packet tables (tests/bpf) must hit every pair, and fail
 *       when they meet one that is not here. Who adds a drop() adds a line here and a row there.
 *       Left out is what only the verifier asks for: bounds that parse4() has checked before (NAT, MALFORMED of
 *       set_macs), and helpers that fail for want of memory (TUNNEL).
 */
#ifndef BPF_REACH_H
#define BPF_REACH_H

#define ABI_REACH(X)                                                                                                   \
	X(UPLINK, TTL)                                                                                                 \
	X(UPLINK, NO_BACKEND)                                                                                          \
	X(UPLINK, NOT_LOCAL)                                                                                           \
	X(UPLINK, FLOW_FULL)                                                                                           \
	X(UPLINK, ICMP)                                                                                                \
	X(UPLINK, SOURCE)                                                                                              \
	X(UPLINK, MALFORMED)                                                                                           \
	X(UPLINK, MULTICAST)                                                                                           \
	X(UPLINK, UNKNOWN_NODE)                                                                                        \
	X(UPLINK, UNKNOWN_SRC)                                                                                         \
	X(UPLINK, UNKNOWN_DST)                                                                                         \
	X(UPLINK, NO_PORT)                                                                                             \
	X(UPLINK, NO_ROUTE)                                                                                            \
	X(UPLINK, FRAGMENT)                                                                                            \
	X(XDP, TTL)                                                                                                    \
	X(XDP, NO_BACKEND)                                                                                             \
	X(XDP, SOURCE)                                                                                                 \
	X(LO, NO_BACKEND)                                                                                              \
	X(LO, NOT_LOCAL)                                                                                               \
	X(LO, FLOW_FULL)                                                                                               \
	X(LO, SOURCE)                                                                                                  \
	X(VXLAN, MALFORMED)                                                                                            \
	X(VXLAN, IPV6)                                                                                                 \
	X(VXLAN, ETHERTYPE)                                                                                            \
	X(VXLAN, MULTICAST)                                                                                            \
	X(VXLAN, UNKNOWN_NODE)                                                                                         \
	X(VXLAN, UNKNOWN_SRC)                                                                                          \
	X(VXLAN, UNKNOWN_DST)                                                                                          \
	X(VXLAN, NOT_LOCAL)                                                                                            \
	X(VXLAN, NO_PORT)                                                                                              \
	X(VXLAN, FLOW_FULL)                                                                                            \
	X(VXLAN, FRAGMENT)                                                                                             \
	X(VXLAN, NO_ROUTE)                                                                                             \
	X(VXLAN, ICMP)                                                                                                 \
	X(TASK, MALFORMED)                                                                                             \
	X(TASK, SPOOF)                                                                                                 \
	X(TASK, MULTICAST)                                                                                             \
	X(TASK, IPV6)                                                                                                  \
	X(TASK, IPV6_ND)                                                                                               \
	X(TASK, ETHERTYPE)                                                                                             \
	X(TASK, ARP_UNKNOWN)                                                                                           \
	X(TASK, UNKNOWN_DST)                                                                                           \
	X(TASK, ISOLATED)                                                                                              \
	X(TASK, INTERNAL)                                                                                              \
	X(TASK, NO_BACKEND)                                                                                            \
	X(TASK, PROTOCOL)                                                                                              \
	X(TASK, FRAGMENT)                                                                                              \
	X(TASK, TTL)                                                                                                   \
	X(TASK, NOT_LOCAL)                                                                                             \
	X(TASK, NO_IFACE)                                                                                              \
	X(TASK, FLOW_FULL)                                                                                             \
	X(TASK, TUNNEL_PORT)                                                                                           \
	X(TASK, NO_ROUTE)                                                                                              \
	X(TASK, SOURCE)                                                                                                \
	X(TASK, REFUSAL)

#endif
