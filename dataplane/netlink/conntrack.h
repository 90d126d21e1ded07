/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  translated TCP and UDP connections (IPv4) as connection tracking knows them. A dump walks all connections.
 * Owner, thread, errors: dataplane/netlink/nfnl.h.
 */
#ifndef DATAPLANE_NETLINK_CONNTRACK_H
#define DATAPLANE_NETLINK_CONNTRACK_H

#include "base/map.h"
#include "dataplane/netlink/nfnl.h"
#include "dataplane/state.h"

#define CT_UNKNOWN UINT32_MAX
struct ct_flow {
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	struct dp_ip src, dst;
	uint16_t sport, dport; /* as it began */
	struct dp_ip answers;  /* who answers: the task behind dst */
	uint32_t id;           /* as the kernel wrote it */
	uint32_t left_s;       /* until it is forgotten when nothing more comes; CT_UNKNOWN: its packets go past */
	bool answered, stream; /* packets came both ways; also after the first two seconds */
	uint16_t zone;
	bool zoned, zone_of_tuple;
};
struct ct_flows VEC(struct ct_flow);

/* Appends those whose destination was translated. */
int ct_translated(struct nfnl *l, struct ct_flows *out) MESH_MUST_CHECK;
/* Its next packet begins a new connection. One that is gone is fine. */
int ct_forget(struct nfnl *l, const struct ct_flow *f) MESH_MUST_CHECK;

/* The nfnl_fn of a dump; arg: struct ct_flows. */
void ct_take(void *arg, int type, const void *p, size_t n);

#endif
