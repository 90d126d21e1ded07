/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   which resolvers to ask: text forms of addresses, and the nameserver lines of resolv.conf.
 */
#ifndef DATAPLANE_DNS_UPSTREAM_H
#define DATAPLANE_DNS_UPSTREAM_H

#include "dataplane/state.h"

#define DNS_UPSTREAMS_MAX 3 /* as the C library */

struct dns_upstream {
	struct dp_ip ip;
	uint16_t port;
};
struct dns_upstreams {
	struct dns_upstream v[DNS_UPSTREAMS_MAX];
	size_t n;
};

/* "10.1.1.1" or "10.1.1.1#5353". */
int dns_upstream_parse(const char *text, struct dns_upstream *out) MESH_MUST_CHECK;
/* Appends while there is room; others are ignored. */
void dns_upstreams_add(struct dns_upstreams *u, const char *text);
/* The nameserver lines of a resolv.conf's text, in order. */
void dns_resolv_conf_parse(const char *text, struct dns_upstreams *out);

#endif
