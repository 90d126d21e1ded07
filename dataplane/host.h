/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what the machine itself looks like: its addresses, routes and listening ports, without what is ours.
 * Thread: the data plane's. host_ports reads sock_diag, and /proc only for sockets it has not seen before.
 */
#ifndef DATAPLANE_HOST_H
#define DATAPLANE_HOST_H

#include "dataplane/dp.h"
#include "dataplane/netlink/sockdiag.h"
#include "dataplane/wire.h"

struct host_seen; /* a socket and whose it is */
struct host_watch {
	int sd; /* sock_diag of the node's namespace */
	uint16_t vxlan_port;
	struct map seen; /* inode text -> struct host_seen */
};
void host_watch_fini(struct host_watch *w);

/* Replaces h->ports by what listens now: sorted, each port once a protocol. */
int host_ports(struct host_watch *w, struct dp_host *h) MESH_MUST_CHECK;
/* Replaces h->addrs and h->subnets. */
void host_links(const struct wire *w, const struct kern_links *links, const struct kern_addrs *addrs,
                const struct kern_routes *routes, struct dp_host *h);
bool host_equal(const struct dp_host *a, const struct dp_host *b);
struct dp_host *host_dup(const struct dp_host *h);
/* NULL when the host does not listen there. */
const struct dp_host_port *host_listens(const struct dp_host *h, uint8_t proto, uint16_t port);

#endif
