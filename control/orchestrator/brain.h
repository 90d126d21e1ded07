/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    everything the leader decides, in one place to call: allocator (VNIs, subnets, addresses, VIPs, ports),
 *          orchestrators (replicated, global, jobs), updater, restart supervisor, scheduler, reaper of old tasks.
 * Pure:    (store, now) -> changes in a transaction. No clock, sockets, files or JSON; randomness is a parameter.
 * Use:     the leader's shell calls brain_step with a fresh transaction whenever the store changed or a deadline
 *          has come, proposes what it holds, and calls again after that was applied. One proposal in flight.
 * Cost:    it watches the store and keeps what changed: a step costs what changed, not what exists.
 */
#ifndef CONTROL_ORCHESTRATOR_BRAIN_H
#define CONTROL_ORCHESTRATOR_BRAIN_H

#include "control/store/store.h"

struct brain;
/* Watches s from now on; looks at everything once. Made when leadership comes, freed when it goes. */
struct brain *brain_new(struct store *s, struct mesh_rng *rng);
void brain_free(struct brain *b);
/* Is there anything to look at? */
bool brain_pending(const struct brain *b);
/*
 * Looks at what changed and puts decisions into tx (whose now it uses). Returns when it wants to be called again
 * even if nothing changes: ns on the same clock, INT64_MAX for never.
 */
int64_t brain_step(struct brain *b, struct store_tx *tx);
/* The last step's transaction was refused: look at everything it touched again. */
void brain_retry(struct brain *b);

/* ---- what the API asks before it accepts a spec ---- */

/* Ports taken by another service, VIP mode with host ports, dnsrr with ingress ports, ... self: "" when new. */
int brain_check_service(const struct store *s, const struct md_service_spec *spec, const char *self,
                        struct mesh_err *err) MESH_MUST_CHECK;
/* Subnet malformed, overlapping another network or a node's underlay (names both). */
int brain_check_network(const struct store *s, const struct md_network_spec *spec,
                        struct mesh_err *err) MESH_MUST_CHECK;
/* Constraint expressions: MESH_E_INVALID names the bad one. */
int brain_check_constraints(const struct str_list *constraints, struct mesh_err *err) MESH_MUST_CHECK;
/* The rollback of a service: previous spec becomes spec. MESH_E_INVALID without one. */
int brain_rollback(struct md_service *service, struct mesh_err *err) MESH_MUST_CHECK;
/* Its tasks are to be moved until they are even; MESH_E_INVALID for what cannot be (global, binpack). */
int brain_rebalance(struct md_service *service, struct mesh_err *err) MESH_MUST_CHECK;
/*
 * What a node asks for a container that was run on it (the numbers are enum wire_run_op's): a task without a
 * service that stays on that node. want: CREATE the whole task (desired READY or RUNNING; networks by name), RENAME
 * its id and name, else its id. MESH_E_FORBIDDEN: a network that is not attachable, a task of somebody else.
 */
enum brain_run_op { BRAIN_RUN_CREATE, BRAIN_RUN_START, BRAIN_RUN_RENAME, BRAIN_RUN_REMOVE };
int brain_run(struct store_tx *tx, enum brain_run_op op, const char *node, const struct md_task *want,
              struct mesh_err *err) MESH_MUST_CHECK;
/*
 * A new cluster's objects: the cluster (defaults filled, ids from rng), its first node and the ingress network.
 */
void brain_bootstrap(struct store_tx *tx, const struct md_cluster *cluster, const struct md_node *first,
                     struct mesh_rng *rng);

#endif
