/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  what an operation costs on each path from a client to a task. A bed is a set of namespaces with one path
 *        through them; beds.c has what they are made of, ours.c and peers.c make them, load.c and load_guest.c send
 *        through them, report.c prints, main.c holds the list.
 * Clock: on a host CPU time, us, of one thread that is client and server. In a guest with an instruction clock
 *        (qemu -icount shift=0) time is instructions: 1 us of it is 1000 of them, and client and server are two
 *        processes as in life, for there is no noise that one thread would have to keep out.
 * Owner: namespaces and programs of this process; all vanish with it.
 */
#ifndef BENCH_PATH_PATH_H
#define BENCH_PATH_PATH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "base/mem.h"
#include "bench/calls.h"
#include "dataplane/ebpf/ebpf.h"

enum op { CRR, RR, BULK, UDP, OP_MAX };
#define ROUNDS_MAX 31
#define BEDS_MAX 32

struct bed;
/* What a bed is to show. aim: cost of a connection, times the peer's; aim_k: thousands of instructions. 0 = none. */
struct kind {
	const char *name, *peer;
	double aim;
	unsigned aim_k;
	unsigned on; /* ON_HOST | ON_GUEST, OURS */
	void (*make)(struct bed *b);
	unsigned services;
};
enum { ON_HOST = 1, ON_GUEST = 2, ON_BOTH = 3, OURS = 4 };
struct bed {
	const struct kind *kind;
	int client, server, listen_port;
	const char *dial;
	uint16_t port;
	bool no_udp, absent; /* absent: something it needs is not here; make said what */
	const char *cgroup;  /* the client is in it */
	pid_t helper;
	int node[2]; /* of peers */
	double cpu[OP_MAX][ROUNDS_MAX], wall[OP_MAX][ROUNDS_MAX], p99[OP_MAX][ROUNDS_MAX], rate[OP_MAX][ROUNDS_MAX];
};
struct figure {
	double cpu_us, wall_us, p99_us, rate; /* wall_us: the median; rate: operations a second */
};

extern struct bed beds[BEDS_MAX];
extern size_t n_beds;
extern bool guest;
extern bool by_device;               /* tunnels by the VXLAN device rather than by the programs, to compare */
extern char bpffs[64], cgroups[128]; /* directories of this run */

/* ---- beds.c: every function exits with the reason when it cannot ---- */
_Noreturn void die(const char *what);
void need(bool ok, const char *what);
void enter(int ns);
void sh(const char *fmt, ...) MESH_PRINTF(1, 2);
bool sh_ok(const char *fmt, ...) MESH_PRINTF(1, 2);
int new_ns(void);
/* A pair of devices: a of namespace na with address aa, b of nb with ab (addresses with prefix, or ""). */
void wire(int na, const char *a, const char *aa, int nb, const char *b, const char *ab, int mtu);

/* ---- ours.c ---- */
void mesh_here(struct bed *b);
void mesh_tunnel(struct bed *b);
void mesh_direct(struct bed *b);
void overlay_two(struct bed *b);
void task_to_task(struct bed *b);
void task_to_vip(struct bed *b);
void ours_destroy(void);

/* ---- nft_driver.c ---- */
void nft_mesh_here(struct bed *b);
void nft_mesh_two(struct bed *b);
void nft_overlay(struct bed *b);
void nft_vip(struct bed *b);
void nft_destroy(void);

/* ---- peers.c ---- */
void direct_routed(struct bed *b);
void conntrack(struct bed *b);
void nft_dnat(struct bed *b);
void iptables_dnat(struct bed *b);
void ipvs_rr(struct bed *b);
void ipvs_mh(struct bed *b);
void ipvs_docker(struct bed *b);
void haproxy(struct bed *b);
void routed_two(struct bed *b);
void vxlan_bridge(struct bed *b);
void swarm(struct bed *b);
void swarm_ipvs(struct bed *b);

/* ---- load.c, load_guest.c: in a child of their own, one round ---- */
struct ends {
	int listener, udp, out;
	struct sockaddr_in to;
};
void run_round(struct bed *b, int round); /* round < 0: to warm up */
void load_host(const struct bed *b, const struct ends *e, struct figure f[OP_MAX]);
void load_guest(const struct bed *b, const struct ends *e, struct figure f[OP_MAX]);

/* ---- report.c ---- */
void report(int rounds, const char *json_path);
int by_value(const void *a, const void *b); /* doubles, for qsort */

#endif
