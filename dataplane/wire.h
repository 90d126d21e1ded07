/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the devices of this node: a veth pair, addresses and routes for each interface of a task, the VXLAN
 *         device, sysctls. Idempotent: what stands as wanted is left alone.
 * Names:  the host end of a veth is <mark> and seven base-36 digits of a hash of task and network; the VXLAN
 *         device is <mark>vx; our routes carry WIRE_PROTOCOL. Only what carries these is ever removed.
 * Thread: the data plane's. Every call blocks in the kernel; deleting devices takes about 30 ms a call.
 */
#ifndef DATAPLANE_WIRE_H
#define DATAPLANE_WIRE_H

#include "dataplane/netlink/kern.h"

#define WIRE_PROTOCOL 77 /* of our routes; /etc/iproute2/rt_protos has no such number */

struct wire {
	struct kern *k; /* in the node's namespace */
	const char *mark;
	char vxlan_name[IFNAMSIZ];
};

/* One interface of a task. */
struct wire_iface {
	char host_name[IFNAMSIZ], name[IFNAMSIZ]; /* name: eth0 ... inside the task */
	int ifindex;                              /* of the host end; set by wire_task */
	struct dp_ip ip, gateway;
	unsigned prefix;
	uint32_t mtu;
	bool default_route;
	uint8_t host_mac[6]; /* set by wire_task */
};

/* The name of the host end. */
void wire_host_name(const struct wire *w, const char *task, const char *network, char out[IFNAMSIZ]);
bool wire_is_veth(const struct wire *w, const struct kern_link *l);
bool wire_is_own(const struct wire *w, const char *link_name);

/* The VXLAN device, made when absent, up; and the node's sysctls. Returns its ifindex or an error. */
int wire_node(struct wire *w, uint16_t port, uint32_t mtu, struct mesh_err *err) MESH_MUST_CHECK;
/* All interfaces of a task whose namespace is ns. On an error nothing new is left. */
int wire_task(struct wire *w, int ns, struct wire_iface *ifaces, size_t n, struct mesh_err *err) MESH_MUST_CHECK;
/* Both ends get i->mtu. */
int wire_set_mtu(struct wire *w, int ns, const struct wire_iface *i, struct mesh_err *err) MESH_MUST_CHECK;
/* The host's way to a task: route and neighbour. */
int wire_route(struct wire *w, const struct wire_iface *i) MESH_MUST_CHECK;
/* The address an interface has inside ns already; false when it has none. */
bool wire_adopt_addr(struct wire *w, int ns, const char *host_name, const char *name, struct dp_ip *ip);

#endif
