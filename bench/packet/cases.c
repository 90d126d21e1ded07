// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/bpf.h>

#include "bench/packet/packet.h"

#define AT_UP0(prog, port) prog, "up0", "10.64.0.0", "172.31.9.11", 0, port
/* An answer to a client, out of the tunnel. */
#define BACK(prog)                                                                                                     \
	prog, "up0", "172.31.9.11", "10.80.0.0", 8082, 0, TCP, ACK, WRAP_DST, .dmac = REPLY_MAC, .outer = true
#define IN_LOCAL AT_UP0(PROG_UPLINK, 8081)
#define IN_FAR AT_UP0(PROG_UPLINK, 8082)
#define XDP_FAR AT_UP0(PROG_XDP, 8082)
#define IN_FLOOD PROG_UPLINK, "up0", "10.96.0.0", "172.31.9.11", 0, 8083
#define OTHER_ADDRESS PROG_UPLINK, "up0", "10.64.0.0", "10.99.0.1", 0, 8081
#define TUNNELLED                                                                                                      \
	PROG_VXLAN, "vx", "10.80.0.0", "172.31.9.12", 0, 8081, TCP, ACK, .smac = FROM_N2, .dmac = TASK_MAC,            \
									 .vni = INGRESS_VNI
#define ANSWER PROG_TASK, "h1", "10.0.0.11", "10.80.0.0", 80, 0, TCP, ACK, WRAP_DST, .smac = TASK_MAC
#define OF_TASK(to, sport, dport) PROG_TASK, "h0", "10.0.1.11", to, sport, dport, TCP, ACK, .smac = "02:42:0a:00:01:0b"

#define THE_PEER(ns) .subject = PEER, .katran = (ns)
#define PASSED TC_ACT_UNSPEC
#define SENT TC_ACT_REDIRECT
#define GROWS .grows = true

/*
 * Order matters. The peer's come first, and where flows must exist a case that makes them comes before those that use
 * them.
 */
const struct bench_case cases[] = {
	{ "peer: pass", { AT_UP0(PROG_XDP, 22), TCP, ACK }, K, 0, XDP_PASS, P_PASS, THE_PEER(52) },
	{ "peer: ACK, 1 flow", { XDP_FAR, TCP, ACK }, 1, 0, XDP_TX, P_HIT_1, THE_PEER(110) },
	{ "peer: ACK, 64k flows", { XDP_FAR, TCP, ACK }, 64 * K, 0, XDP_TX, P_HIT_64K, THE_PEER(173) },
	{ "peer: ACK, 512k flows", { XDP_FAR, TCP, ACK }, 512 * K, 0, XDP_TX, P_HIT_512K, THE_PEER(444) },
	{ "peer: SYN, 1 flow", { XDP_FAR, TCP, SYN }, 1, 0, XDP_TX, P_SYN_1, THE_PEER(281) },
	{ "peer: SYN, 64k flows", { XDP_FAR, TCP, SYN }, 64 * K, 0, XDP_TX, P_SYN_64K, THE_PEER(491) },
	{ "peer: UDP, 1 flow", { XDP_FAR, UDP, 0 }, 1, 0, XDP_TX, P_UDP_1, THE_PEER(141) },
	{ "peer: UDP, 64k flows", { XDP_FAR, UDP, 0 }, 64 * K, 0, XDP_TX, P_UDP_64K, THE_PEER(238) },
	{ "a 40-byte LRU lookup, nothing else", { IN_FAR, TCP, ACK }, 1, 0, PASSED, .subject = TABLE },
	{ "a 40-byte LRU lookup, 64k flows", { IN_FAR, TCP, ACK }, 64 * K, 0, PASSED, .subject = TABLE },
	{ "a 40-byte LRU lookup, 512k flows", { IN_FAR, TCP, ACK }, 512 * K, 0, PASSED, .subject = TABLE },
	{ "pass: TCP, port not published", { AT_UP0(PROG_UPLINK, 22), TCP, ACK }, K, 0, PASSED, P_PASS },
	{ "pass: not our address", { OTHER_ADDRESS, TCP, ACK }, K, 0, PASSED, P_PASS },
	{ "ingress, task elsewhere: ACK, 1 flow", { IN_FAR, TCP, ACK }, 1, 0, SENT, P_HIT_1, GROWS },
	{ "ingress, task elsewhere: ACK, 64k flows", { IN_FAR, TCP, ACK }, 64 * K, 0, SENT, P_HIT_64K, GROWS },
	{ "ingress, task elsewhere: ACK, 64k, VXLAN device",
	  { IN_FAR, TCP, ACK },
	  64 * K,
	  0,
	  SENT,
	  P_HIT_64K,
	  .device = true },
	{ "ingress, task elsewhere: ACK, 512k flows", { IN_FAR, TCP, ACK }, 512 * K, 0, SENT, P_HIT_512K, GROWS },
	{ "ingress, task elsewhere: SYN, 1 flow", { IN_FAR, TCP, SYN }, 1, 0, SENT, P_SYN_1, GROWS },
	{ "ingress, task elsewhere: SYN, 64k flows", { IN_FAR, TCP, SYN }, 64 * K, 0, SENT, P_SYN_64K, GROWS },
	{ "ingress, task elsewhere: UDP, 1 flow", { IN_FAR, UDP, 0 }, 1, 0, SENT, P_UDP_1, GROWS },
	{ "ingress, task elsewhere: UDP, 64k flows", { IN_FAR, UDP, 0 }, 64 * K, 0, SENT, P_UDP_64K, GROWS },
	{ "ingress, task elsewhere: ACK, 10000 services",
	  { IN_FAR, TCP, ACK },
	  64 * K,
	  MANY,
	  SENT,
	  P_HIT_64K,
	  1,
	  GROWS },
	{ "XDP pass: TCP, port not published", { AT_UP0(PROG_XDP, 22), TCP, ACK }, K, 0, XDP_PASS, P_PASS },
	{ "XDP pass: task here, 64k flows", { AT_UP0(PROG_XDP, 8081), TCP, ACK }, 64 * K, 0, XDP_PASS },
	{ "XDP, task elsewhere: ACK, 1 flow", { XDP_FAR, TCP, ACK }, 1, 0, XDP_TX, P_HIT_1 },
	{ "XDP, task elsewhere: ACK, 64k flows", { XDP_FAR, TCP, ACK }, 64 * K, 0, XDP_TX, P_HIT_64K },
	{ "XDP, task elsewhere: ACK, 512k flows", { XDP_FAR, TCP, ACK }, 512 * K, 0, XDP_TX, P_HIT_512K },
	{ "XDP, task elsewhere: SYN, 1 flow", { XDP_FAR, TCP, SYN }, 1, 0, XDP_TX, P_SYN_1 },
	{ "XDP, task elsewhere: SYN, 64k flows", { XDP_FAR, TCP, SYN }, 64 * K, 0, XDP_TX, P_SYN_64K },
	{ "XDP, task elsewhere: UDP, 1 flow", { XDP_FAR, UDP, 0 }, 1, 0, XDP_TX, P_UDP_1 },
	{ "XDP, task elsewhere: UDP, 64k flows", { XDP_FAR, UDP, 0 }, 64 * K, 0, XDP_TX, P_UDP_64K },
	{ "one alone, task elsewhere, tc: ACK", { IN_FAR, TCP, ACK }, 0, 0, SENT, .once = true },
	{ "one alone, task elsewhere, XDP: ACK", { XDP_FAR, TCP, ACK }, 0, 0, XDP_TX, .once = true },
	{ "one alone, tunnel to client, tc: ACK", { BACK(PROG_UPLINK) }, 0, 0, SENT, .once = true },
	{ "one alone, tunnel to client, XDP: ACK", { BACK(PROG_XDP) }, 0, 0, XDP_TX, .once = true },
	{ "tunnel to client, tc: ACK, 64k flows", { BACK(PROG_UPLINK) }, 64 * K, 0, SENT },
	{ "tunnel to client, XDP: ACK, 64k flows", { BACK(PROG_XDP) }, 64 * K, 0, XDP_TX },
	{ "ingress, task here: SYN, 1 flow", { IN_LOCAL, TCP, SYN }, 1, 0, SENT, P_SYN_1 },
	{ "ingress, task here: ACK, 1 flow", { IN_LOCAL, TCP, ACK }, 1, 0, SENT, P_HIT_1 },
	{ "ingress, task here: SYN, 64k flows", { IN_LOCAL, TCP, SYN }, 64 * K, 0, SENT, P_SYN_64K },
	{ "ingress, task here: ACK, 64k flows", { IN_LOCAL, TCP, ACK }, 64 * K, 0, SENT, P_HIT_64K },
	{ "ingress, task here: UDP, 1 flow", { IN_LOCAL, UDP, 0 }, 1, 0, SENT, P_UDP_1 },
	{ "ingress, task here: UDP, 64k flows", { IN_LOCAL, UDP, 0 }, 64 * K, 0, SENT, P_UDP_64K },
	{ "ingress, task here: ACK, 512k flows", { IN_LOCAL, TCP, ACK }, 512 * K, 0, SENT, P_HIT_512K },
	{ "ingress, task here: SYNs of 1024k strangers", { IN_FLOOD, TCP, SYN }, FLOWS_MAX, 0, SENT, P_SYN_64K },
	{ "tunnel to task: ACK, 1 flow", { TUNNELLED }, 1, 0, SENT },
	{ "task's answer into tunnel, 1 flow", { ANSWER }, 1, 0, SENT, GROWS },
	{ "tunnel to task: ACK, 64k flows", { TUNNELLED }, 64 * K, 0, SENT },
	{ "task's answer into tunnel, 64k flows", { ANSWER }, 64 * K, 0, SENT, GROWS },
	{ "overlay: task to task elsewhere", { OF_TASK("10.0.1.12", 5000, 80) }, 0, 0, SENT, GROWS },
	{ "overlay: tunnel to task",
	  { PROG_VXLAN, "vx", "10.0.1.12", "10.0.1.11", 80, 5000, TCP, ACK, .vni = VNI },
	  0,
	  0,
	  SENT },
	{ "overlay: task to task here", { OF_TASK("10.0.1.13", 5000, 80) }, 0, 0, SENT },
	{ "VIP packet by packet", { OF_TASK("10.0.1.2", 5000, 80) }, 0, 0, SENT, GROWS },
};
const size_t n_cases = ARRAY_SIZE(cases);

const struct packet_of plain_tc = { IN_FAR, TCP, ACK }, plain_xdp = { XDP_FAR, TCP, ACK },
		       back_tc = { BACK(PROG_UPLINK) }, back_xdp = { BACK(PROG_XDP) };
