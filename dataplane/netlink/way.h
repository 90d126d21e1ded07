/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   how this machine would send to an address of another: for programs that send by themselves.
 * Owner:  libmnl. A struct ways is two netlink sockets; it stays in the namespace it was opened in.
 * Thread: one thread at a time. Every call blocks for a few kernel round trips.
 */
#ifndef DATAPLANE_NETLINK_WAY_H
#define DATAPLANE_NETLINK_WAY_H

#include "base/err.h"
#include "dataplane/state.h"

struct ways;

int ways_open(struct ways **out, struct mesh_err *err) MESH_MUST_CHECK;
void ways_close(struct ways *w); /* NULL is fine */

struct way {
	int ifindex; /* 0: none a program could take; the stack may still have one */
	struct dp_ip next_hop;
	uint32_t mtu;
};
/*
 * The route to dst from src, both IPv4. None when it is this machine's own address, leaves by something that is no
 * Ethernet, has an encapsulation of its own, or is one of several among which the stack balances.
 */
struct way ways_to(struct ways *w, const struct dp_ip *dst, const struct dp_ip *src);
/* Are there IPsec policies? Then the stack may have to encrypt what goes out, and to refuse what comes in clear. */
bool ways_have_ipsec(struct ways *w);

/* Callbacks of libmnl for one message, whole but foreign; arg: struct way, bool. Pure. */
struct nlmsghdr;
int way_on_route(const struct nlmsghdr *h, void *arg);
int way_on_policies(const struct nlmsghdr *h, void *arg);

#endif
