/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   reads back what a table of ours holds: the names of its chains, how many rules each has, its counters, the
 *         elements that count of a set of addresses.
 * Owner, thread, errors: dataplane/netlink/nfnl.h. A struct nft_found owns its values. What is not there is empty.
 */
#ifndef DATAPLANE_NFT_READ_H
#define DATAPLANE_NFT_READ_H

#include "base/map.h"
#include "dataplane/netlink/nfnl.h"

struct nft_count {
	uint64_t packets, bytes;
};
struct nft_found {
	struct map chains;   /* names */
	struct map rules;    /* chain -> size_t, how many */
	struct map counters; /* name -> struct nft_count */
	struct map elems;    /* "set\naddress" -> struct nft_count */
};
void nft_found_fini(struct nft_found *f);

/* All add to out. */
int nft_read_chains(struct nfnl *l, const char *table, struct nft_found *out) MESH_MUST_CHECK;
int nft_read_rules(struct nfnl *l, const char *table, struct nft_found *out) MESH_MUST_CHECK;
int nft_read_counters(struct nfnl *l, const char *table, struct nft_found *out) MESH_MUST_CHECK;
int nft_read_elems(struct nfnl *l, const char *table, const char *set, struct nft_found *out) MESH_MUST_CHECK;

/* The nfnl_fn of these dumps. */
struct nft_reading {
	const char *table;
	struct nft_found *out;
};
void nft_found_take(void *arg, int type, const void *p, size_t n);

#endif
