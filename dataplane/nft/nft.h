/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   our own nftables table "ip <mark>": task traffic to the outside is masqueraded, and nobody outside
 *         reaches a task's address but in answer. Published ports do not pass netfilter under the ebpf driver.
 * Limit:  a drop in somebody else's table stays a drop: an accept of ours cannot overrule it.
 * Owner:  only this table is touched, always in one transaction.
 * Thread: the data plane's; blocks for one kernel round trip.
 */
#ifndef DATAPLANE_NFT_NFT_H
#define DATAPLANE_NFT_NFT_H

#include "dataplane/state.h"

struct nft;

/* Keeps one socket: closing one waits until the kernel has freed what earlier transactions replaced (20 ms). */
int nft_open(const char *mark, struct nft **out, struct mesh_err *err) MESH_MUST_CHECK;
/* The table stays. NULL is fine. */
void nft_close(struct nft *n);

/* Replaces the table. tasks: addresses of this node's tasks that have a way out (IPv4; others are skipped). */
int nft_apply(struct nft *n, const struct dp_ip *tasks, size_t count, struct mesh_err *err) MESH_MUST_CHECK;
/* Changes only the addresses; the table stands as nft_apply made it. */
int nft_update(struct nft *n, const struct dp_ip *add, size_t n_add, const struct dp_ip *del, size_t n_del,
               struct mesh_err *err) MESH_MUST_CHECK;
/* A table that is not there is fine. */
int nft_remove(struct nft *n, struct mesh_err *err) MESH_MUST_CHECK;

/*
 * One datagram of what answers the messages after first, up to last; foreign bytes. 1: more is to come, 0: all were
 * taken, else why one was not. Pure.
 */
int nft_acks_decode(const void *p, size_t n, uint32_t first, uint32_t last) MESH_MUST_CHECK;

#endif
