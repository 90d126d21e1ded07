/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: the benchmark of single packets in parts: cases (cases.c), the frames they are (frame.c), the node they come to
 *       (node.c), the peer beside it (peer.c), and who runs and reports them (main.c). What fails ends the process.
 */
#ifndef BENCH_PACKET_H
#define BENCH_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include <netinet/in.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include "bench/bpf/wrap.h"
#include "bench/calls.h"
#include "dataplane/ebpf/internal.h"

enum { SYN = 2, ACK = 16 };
enum { TCP = IPPROTO_TCP, UDP = IPPROTO_UDP };
#define INGRESS_VNI 4096
#define VNI 4097
#define BACKENDS 10
#define MANY 10000
#define MANY_PORT 20000 /* below EPHEMERAL_MIN of bpf/ingress.h to the last */
#define TASK_MAC "02:42:0a:00:00:0b"
#define FROM_N2 "02:4c:ac:1f:09:0c"
#define REPLY_MAC "02:50:00:00:00:01"
#define UP0_MAC "02:aa:00:00:00:0b"
#define ROUTER_MAC "02:aa:00:00:00:64"
#define K (1u << 10)
#define FLOWS_MAX (1024 * K)

/* Whose program a case runs. */
enum subject { OURS, PEER, TABLE /* a lookup alone */ };

struct packet_of {
	enum ebpf_prog prog; /* of the peer: PROG_XDP */
	const char *dev;
	const char *src, *dst;
	uint16_t sport, dport;
	uint8_t proto, tcp;
	enum wrap_vary vary;
	const char *smac, *dmac;
	uint32_t vni;
	bool outer; /* in outer headers from n2 */
};

/* What the peer is measured at, each by one of its cases. */
enum peer_row { NO_PEER, P_PASS, P_HIT_1, P_HIT_64K, P_HIT_512K, P_SYN_1, P_SYN_64K, P_UDP_1, P_UDP_64K, PEER_ROWS };

struct bench_case {
	const char *name;
	struct packet_of p;
	uint32_t flows, ports;
	int verdict;
	enum peer_row peer; /* of the peer itself: which it is; of others: with which they compare */
	double aim;         /* the ratio to it; 0 = AIM */
	bool once;          /* one packet at a time, caches as a system call leaves them */
	bool device;        /* tunnels by the VXLAN device */
	bool grows;         /* tc: room for outer headers is made, which the wrapper takes away */
	enum subject subject;
	int katran; /* of the peer: ns net of the wrapper that Katran had, published of another machine */
};
#define AIM 0.67

extern const struct bench_case cases[];
extern const size_t n_cases;
/* What the harness alone is measured with: as it comes in from a client, and an answer in a tunnel. */
extern const struct packet_of plain_tc, plain_xdp, back_tc, back_xdp;

void must(int rc, const char *what);

/* frame.c */
enum { FRAME = 64, OUTER = 50, FRAME_MAX = 128 };
/* Its length. */
size_t packet_of(const struct packet_of *p, uint8_t f[FRAME_MAX]);
void mac_of(const char *text, uint8_t *mac);

/* node.c */
void make_devices(void);
/* many: with MANY services more, from MANY_PORT on. */
struct ebpf *make_node(const char *pin, bool many);

/* peer.c: loaded and with its services; the program's fd. */
int peer_open(void);
void peer_close(void);
/* Flows its table did not know, of this CPU. */
uint64_t peer_misses(void);

#endif
