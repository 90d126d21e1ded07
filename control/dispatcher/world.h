/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  the data plane's objects as they follow from the store: which exist, their content, and the network each
 *        belongs to. Pure functions from store objects to dp objects, and the keys they are known by.
 * Keys:  "N/<node>", "n/<network>", "s/<service>/<network>", "e/<task>/<network>".
 */
#ifndef CONTROL_DISPATCHER_WORLD_H
#define CONTROL_DISPATCHER_WORLD_H

#include "control/store/store.h"
#include "dataplane/state.h"

#define WORLD_KEY_MAX (2 + MESH_ID_LEN + 1 + MESH_ID_LEN + 1)

void world_key(char out[WORLD_KEY_MAX], char kind, const char *id, const char *network);
/* The network of a key, or "" for nodes. Borrowed from key. */
const char *world_key_network(const char *key);
/* Fills the key fields of a removal. */
void world_removal(const char *key, struct dp_change *out);

/* How a task's node looks to the dispatcher. */
enum world_node { WORLD_NODE_UP, WORLD_NODE_SUSPECT, WORLD_NODE_DOWN };

/*
 * The object behind a key as it should be on every node that may see it; false when there is none. out is a zeroed
 * change. node_state answers for the node of an endpoint.
 */
bool world_object(const struct store *s, const char *key, enum world_node node_state, struct dp_change *out);
/* The traffic state of a task's endpoints; -1 when it has none (not assigned, ended, node down). */
int world_backend_state(const struct md_task *t, enum world_node node_state);
/* Does the node of t need the networks of t? */
bool world_task_holds_networks(const struct md_task *t);

#endif
