/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what a link's driver does for XDP programs.
 * Thread: the data plane's. A round trip to the kernel or two a call.
 */
#ifndef DATAPLANE_NETLINK_XDP_LINK_H
#define DATAPLANE_NETLINK_XDP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xdp_link {
	uint8_t mac[6];
	bool turns,
		sends; /* what came in by it (XDP_TX); what is redirected to it. Some only once a program is on it */
};
/* NULL, or why no program should be there (static text). Of the caller's network namespace. */
const char *xdp_link_get(unsigned ifindex, struct xdp_link *out);

/* The features of the first answer in a reply of generic netlink's "netdev" family; -1: none. Pure. */
int64_t xdp_features_decode(const void *reply, size_t n);

#endif
