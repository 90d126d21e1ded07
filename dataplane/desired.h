/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the newest desired state: objects by key, kept current by deltas. Pure.
 * Owner:  the objects in the maps. desired_apply moves them out of the delta.
 */
#ifndef DATAPLANE_DESIRED_H
#define DATAPLANE_DESIRED_H

#include "base/map.h"
#include "dataplane/state.h"

struct desired {
	uint64_t version;
	node_id self;
	bool whole;            /* a snapshot has come */
	struct map nodes;      /* node id -> struct dp_node */
	struct map networks;   /* network id -> struct dp_network */
	struct map services;   /* "service/network" -> struct dp_service */
	struct map endpoints;  /* "task/network" -> struct dp_endpoint */
	struct map dirty_nets; /* ids of networks whose names may have changed; the caller clears it */
};

void desired_fini(struct desired *d);
/* Takes delta. A change without its object is ignored. */
void desired_apply(struct desired *d, struct dp_delta *delta);
/* The whole state as one snapshot, to be freed with dp_delta_free: what the node knows while it has no manager. */
struct dp_delta *desired_snapshot(const struct desired *d);

#endif
