/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   where tasks go. Keeps per node what its tasks take, and sets of nodes (those a placement leaves, those that
 *         have so many tasks), told of every change of a node or a task: a placement walks over no tasks, and over
 *         nodes sixty-four at a time; closely it looks only at those that are full, once a batch.
 * Idempotent: sched_task_put says what a task takes NOW; telling the same twice changes nothing. So the same
 *         call serves events of the store and decisions that are not committed yet.
 * Rules:  filters (ready, resources, constraints, platform, host ports, replicas per node), then placement
 *         preferences (the branch with the fewest tasks of the service), then the strategy of the service label
 *         mesh.strategy: spread (default: fewest tasks of this service, then fewest tasks), binpack (the
 *         fullest node that still fits), random. Nodes where five tasks of the service failed within five
 *         minutes come last.
 * Pure:   time and randomness are parameters. Deterministic: ties go to the branch whose value sorts
 *         first, then to the node that is known longer.
 */
#ifndef CONTROL_SCHEDULER_SCHEDULER_H
#define CONTROL_SCHEDULER_SCHEDULER_H

#include "control/model/model.h"

struct sched;
struct sched *sched_new(struct mesh_rng *rng);
void sched_free(struct sched *s);

/* Copies what it needs. */
void sched_node_put(struct sched *s, const struct md_node *node);
void sched_node_del(struct sched *s, const char *id);
/* The copy (without certificates), or NULL. Valid until the next put or del of this node. */
const struct md_node *sched_node(const struct sched *s, const char *id);
size_t sched_node_count(const struct sched *s);
/* Every node in the order they became known; NULL for the removed. i < sched_node_slots. */
size_t sched_node_slots(const struct sched *s);
const struct md_node *sched_node_at(const struct sched *s, size_t i);

void sched_task_put(struct sched *s, const struct md_task *t);
void sched_task_del(struct sched *s, const char *id);
/* A task of this service failed on this node, at a time (ns). */
void sched_failed(struct sched *s, const char *service, const char *node, int64_t when);
void sched_service_del(struct sched *s, const char *service);
/* How many wanted tasks of a service a node has; 0 for unknown ones. */
uint32_t sched_count(const struct sched *s, const char *service, const char *node);

enum sched_filter {
	SCHED_OK,
	SCHED_NOT_READY,
	SCHED_RESOURCES,
	SCHED_CONSTRAINT,
	SCHED_PLATFORM,
	SCHED_HOST_PORT,
	SCHED_MAX_REPLICAS,
	SCHED_FILTER_MAX
};

/* Tasks of the same spec, placed one after the other. like is borrowed until the batch is freed. */
struct sched_batch;
struct sched_batch *sched_batch_new(struct sched *s, const struct md_task *like, int64_t now);
void sched_batch_free(struct sched_batch *b);
/*
 * Sets t->node and t->generic and counts the task there; false when no node can take it. Between calls on one
 * batch nothing else may be put into s.
 */
bool sched_place(struct sched_batch *b, struct md_task *t);
/* A task whose node is given: may it run there? Sets t->generic and counts it. */
enum sched_filter sched_confirm(struct sched *s, struct md_task *t);

#define SCHED_TEXT_MAX 256
/*
 * Why nothing fits. text as the engine says it: "no suitable node (insufficient resources on 3 nodes)"; detail is
 * ours: which constraint, which resource ("" when there is nothing to add).
 */
void sched_explain(struct sched *s, const struct md_task *t, char text[SCHED_TEXT_MAX], char detail[SCHED_TEXT_MAX]);

/* Could tasks of this spec run on this node at all (constraints, platform)? */
bool sched_node_matches(const struct md_task_spec *spec, const struct md_node *node);
/* The same, asked of many nodes. spec is borrowed. */
struct sched_matcher;
struct sched_matcher *sched_matcher_new(const struct md_task_spec *spec);
void sched_matcher_free(struct sched_matcher *m);
bool sched_matcher_ok(const struct sched_matcher *m, const struct md_node *node);

/* Memory its books take. */
size_t sched_bytes(const struct sched *s);

#endif
