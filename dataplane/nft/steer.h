/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   makes the kernel what rules.h decided: two nftables transactions a change, routes and neighbours of the
 *         tunnel device.
 * Owner:  tables "ip <mark>_lb" and "netdev <mark>_lb"; routes of WIRE_PROTOCOL over the tunnel device.
 * Thread: the data plane's; blocks. A change of one service takes some milliseconds.
 * Life:   everything outlives the process. The first commit after steer_open replaces the rules in one transaction,
 *         around what was counted and whom connections were passed on to; translations are connection tracking's.
 */
#ifndef DATAPLANE_NFT_STEER_H
#define DATAPLANE_NFT_STEER_H

#include "dataplane/netlink/conntrack.h"
#include "dataplane/netlink/kern.h"
#include "dataplane/nft/rules.h"

struct steer;

int steer_open(struct kern *k, const char *mark, struct steer **out, struct mesh_err *err) MESH_MUST_CHECK;
void steer_close(struct steer *l);
/* 0 when this kernel can run the driver: tries the tables in a transaction that ends with none. */
int steer_probe(struct steer *l, const char *vxlan, const struct dp_ip *self, struct mesh_err *err) MESH_MUST_CHECK;

int steer_commit(struct steer *l, const struct rules_in *in, int vxlan_ifindex, struct mesh_err *err) MESH_MUST_CHECK;
/* Forgets what was loaded: the next commit does all of it again. */
void steer_reload(struct steer *l);

/* Reads what was counted; steer_counter and steer_counted tell of it. */
int steer_count(struct steer *l) MESH_MUST_CHECK;
struct nft_count steer_counter(const struct steer *l, const char *name);
struct nft_count steer_counted(const struct steer *l, enum rules_counting what, const struct dp_ip *ip);

/* Connections this machine translated, and one of them no more (dataplane/netlink/conntrack.h). */
int steer_translated(struct steer *l, struct ct_flows *out) MESH_MUST_CHECK;
int steer_forget(struct steer *l, const struct ct_flow *f) MESH_MUST_CHECK;

/* Routes of an earlier run that nothing wants any more. */
void steer_sweep(struct steer *l, int vxlan_ifindex);
/* Tables and routes away; fine when there are none. */
void steer_remove(struct steer *l, int vxlan_ifindex);

#endif
