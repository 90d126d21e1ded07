/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   questions to netfilter (nf_tables, connection tracking) and what answers them.
 * Owner:  a struct nfnl is a netlink socket of the namespace it was opened in.
 * Thread: one at a time. nfnl_talk blocks, two seconds at most for each datagram.
 * Errors: -errno, MESH_E_PROTOCOL for what no kernel says.
 */
#ifndef DATAPLANE_NETLINK_NFNL_H
#define DATAPLANE_NETLINK_NFNL_H

#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

struct nfnl;

int nfnl_open(struct nfnl **out, struct mesh_err *err) MESH_MUST_CHECK;
/* NULL is fine. */
void nfnl_close(struct nfnl *l);

#define NFNL_REQUEST_MAX 512
/* Begins a request of IPv4 in buf, NFNL_REQUEST_MAX bytes, aligned as netlink is. */
struct nlmsghdr *nfnl_request(struct nfnl *l, void *buf, int subsystem, int type, int flags);
/* One message of an answer, its length checked, as of a type of the subsystem; n bytes of attributes at p. */
typedef void (*nfnl_fn)(void *arg, int type, const void *p, size_t n);
/* Sends h and reads to the end of what answers. -EINTR: what was dumped changed meanwhile. */
int nfnl_talk(struct nfnl *l, const struct nlmsghdr *h, nfnl_fn fn, void *arg) MESH_MUST_CHECK;

/* What answers seq. */
struct nfnl_answer {
	int subsystem;
	uint32_t seq;
	nfnl_fn fn;
	void *arg;
	bool torn; /* out: what was dumped changed meanwhile */
};
/* One datagram of it, foreign bytes. 1: more is to come, 0: that was the end, else an error. Pure. */
int nfnl_decode(const void *p, size_t n, struct nfnl_answer *a) MESH_MUST_CHECK;

/* Is there a whole message among left bytes? (libmnl's own test takes a length beyond 2 GiB for a negative one.) */
static inline bool nfnl_ok(const struct nlmsghdr *h, int left)
{
	return left >= (int)sizeof(*h) && h->nlmsg_len >= sizeof(*h) && h->nlmsg_len <= (unsigned)left;
}

/* ---- attributes; all take NULL for one that is not there ---- */
/* The attribute of a type among those of n bytes. */
const struct nlattr *nfnl_find(const void *p, size_t n, uint16_t type);
const struct nlattr *nfnl_in(const struct nlattr *a, uint16_t type);
/* NULL when it has no end. */
const char *nfnl_text(const struct nlattr *a);
/* False when it has another length. */
bool nfnl_value(const struct nlattr *a, void *out, size_t n);

#endif
