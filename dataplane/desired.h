/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the newest desired state: objects by key, kept current by deltas. Pure.
 * Owner:  the objects in the maps. desired_apply moves them out of the delta.
 * Claims: who asks for a place in the driver's tables, by that place; so that a change is planned by looking at what it
 *         touches and not at everything. Keys are text:
 *           "e NETWORK ADDRESS"   endpoints at an address
 *           "s SERVICE/NETWORK"   endpoints of a service on a network (and that service, in services)
 *           "v ADDRESS"           services with that virtual address
 *           "p PROTOCOL PORT"     services that publish it; numbers as in dp_port
 *           "t SERVICE/NETWORK"   services whose split names it; no place, but a way to theirs
 */
#ifndef DATAPLANE_DESIRED_H
#define DATAPLANE_DESIRED_H

#include "base/hset.h"
#include "base/map.h"
#include "dataplane/state.h"

struct claim {
	size_t n;
	const void *by[]; /* the oldest first; as long as they are in force */
};

struct desired {
	uint64_t version;
	node_id self;
	bool whole;            /* a snapshot has come */
	struct map nodes;      /* node id -> struct dp_node */
	struct map networks;   /* network id -> struct dp_network */
	struct map services;   /* "service/network" -> struct dp_service */
	struct map endpoints;  /* "task/network" -> struct dp_endpoint */
	struct map by_network; /* network id -> struct desired_net */
	struct map claims;     /* key -> struct claim; none is empty */
	struct map dirty;      /* claims that changed; the caller clears it */
	bool all_dirty;        /* what claims lead to changed: a node, a network; the caller clears it */
	struct map dirty_nets; /* ids of networks whose names may have changed; the caller clears it */
};

/* What is on a network; in no order. */
struct desired_net {
	struct hset services;  /* of struct dp_service, by id */
	struct hset endpoints; /* of struct dp_endpoint, by task */
};

#define DESIRED_CLAIM_MAX (2 * (MESH_ID_LEN + 1) + 64)

void desired_fini(struct desired *d);
/* NULL when nobody claims it. */
const struct claim *desired_claim(const struct desired *d, const char *key);
/* Something beside the desired state changed about a place. */
void desired_touch_endpoint(struct desired *d, const network_id *n, const struct dp_ip *ip);
void desired_touch_port(struct desired *d, int protocol, uint32_t published);
/* As if the object had come again; nothing when it is not there. */
void desired_touch_task(struct desired *d, const task_id *task, const network_id *n);
/* Takes delta. A change without its object is ignored. */
void desired_apply(struct desired *d, struct dp_delta *delta);
/* The whole state as one snapshot, to be freed with dp_delta_free: what the node knows while it has no manager. */
struct dp_delta *desired_snapshot(const struct desired *d);

#endif
