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

/* Replaces the table. tasks: addresses of this node's tasks that have a way out (IPv4; others are skipped). */
int nft_apply(const char *mark, const struct dp_ip *tasks, size_t n, struct mesh_err *err) MESH_MUST_CHECK;
/* A table that is not there is fine. */
int nft_remove(const char *mark, struct mesh_err *err) MESH_MUST_CHECK;

#endif
