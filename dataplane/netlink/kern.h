/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the kernel's links, addresses, routes and neighbours of one network namespace.
 * Owner:  libnl (its types and codes stop here). A struct kern is one rtnetlink socket; it stays in the
 *         namespace it was opened in, wherever the thread goes later, and keeps that namespace alive.
 * Thread: one thread at a time. Every call blocks for one kernel round trip.
 * Errors: -errno. Setting what stands already succeeds; deleting what is gone succeeds.
 */
#ifndef DATAPLANE_NETLINK_KERN_H
#define DATAPLANE_NETLINK_KERN_H

#include <net/if.h>
#include <sys/types.h>

#include "base/map.h"
#include "dataplane/state.h"

struct kern;

int kern_open(struct kern **out, struct mesh_err *err) MESH_MUST_CHECK;
void kern_close(struct kern *k);

struct kern_link {
	int ifindex, peer; /* peer: IFLA_LINK, for a veth the other end's index in its own namespace */
	char name[IFNAMSIZ], kind[16];
	uint32_t mtu;
	bool up;
	uint8_t mac[6];
};
struct kern_addr {
	int ifindex;
	struct dp_ip ip;
	unsigned prefix; /* of the family: 24, 64 */
};
struct kern_route {
	int ifindex;
	struct dp_ip dst; /* ::ffff:0.0.0.0 or :: with prefix 0: default */
	unsigned prefix;
	uint8_t protocol;
	bool has_via;
	struct dp_ip via;
};
struct kern_neigh {
	int ifindex;
	struct dp_ip ip;
	uint8_t mac[6];
};
struct kern_links VEC(struct kern_link);
struct kern_addrs VEC(struct kern_addr);
struct kern_routes VEC(struct kern_route);
struct kern_neighs VEC(struct kern_neigh);

/* Dumps; out must be zeroed, vec_fini it. Routes of the main table; permanent neighbours. */
int kern_links(struct kern *k, struct kern_links *out) MESH_MUST_CHECK;
int kern_addrs(struct kern *k, struct kern_addrs *out) MESH_MUST_CHECK;
int kern_routes(struct kern *k, struct kern_routes *out) MESH_MUST_CHECK;
int kern_neighs(struct kern *k, struct kern_neighs *out) MESH_MUST_CHECK;
/* -ENODEV when there is none of that name. */
int kern_link_get(struct kern *k, const char *name, struct kern_link *out) MESH_MUST_CHECK;

/* One message of a dump of routes, whole but foreign: false for what kern_routes leaves out. Pure. */
struct nlmsghdr;
bool kern_route_decode(const struct nlmsghdr *msg, struct kern_route *out);

struct kern_veth {
	const char *name, *peer_name;
	uint8_t mac[6], peer_mac[6];
	uint32_t mtu;
	int peer_ns; /* namespace fd */
};
/* Both ends down. */
int kern_veth_add(struct kern *k, const struct kern_veth *v) MESH_MUST_CHECK;
/* Collect-metadata ("external") device, down. */
int kern_vxlan_add(struct kern *k, const char *name, uint16_t port) MESH_MUST_CHECK;
/* mtu 0: as it is. */
int kern_link_up(struct kern *k, int ifindex, uint32_t mtu) MESH_MUST_CHECK;
/*
 * Deletes all of them with one grace period of the kernel (a single deletion takes 30 ms, so does a
 * hundred): they are put into a link group of their own, and the group is deleted.
 */
int kern_links_del(struct kern *k, const int *ifindex, size_t n) MESH_MUST_CHECK;

int kern_addr_set(struct kern *k, int ifindex, const struct dp_ip *ip, unsigned prefix) MESH_MUST_CHECK;
/* via NULL: on link. dst with prefix 0 is the default route. protocol marks whose it is. */
int kern_route_set(struct kern *k, const struct kern_route *r) MESH_MUST_CHECK;
int kern_route_del(struct kern *k, const struct kern_route *r) MESH_MUST_CHECK;
/* A route through a collect-metadata device: r (its via is used) with the tunnel's id and far end, IPv4. */
int kern_route_tunnel_set(struct kern *k, const struct kern_route *r, uint32_t vni, const struct dp_ip *from,
                          const struct dp_ip *to) MESH_MUST_CHECK;
int kern_link_mac(struct kern *k, int ifindex, const uint8_t mac[6]) MESH_MUST_CHECK;
int kern_neigh_set(struct kern *k, const struct kern_neigh *n) MESH_MUST_CHECK;
int kern_neigh_del(struct kern *k, const struct kern_neigh *n) MESH_MUST_CHECK;

/* A non-blocking socket that wakes when links, addresses or routes change; -errno. */
int kern_monitor_open(struct mesh_err *err) MESH_MUST_CHECK;
/*
 * Reads what is there. True when something changed that is not our own doing: links not named mark* (or the
 * end of one that is named exactly keep), addresses, routes of other protocols; or when messages were lost.
 */
bool kern_monitor_drain(int fd, const char *mark, const char *keep, uint8_t own_protocol);

#endif
