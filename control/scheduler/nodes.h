/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the scheduler: what it knows of nodes, services and tasks. Private to control/scheduler. */
#ifndef CONTROL_SCHEDULER_NODES_H
#define CONTROL_SCHEDULER_NODES_H

#include "base/map.h"
#include "control/scheduler/constraint.h"
#include "control/scheduler/scheduler.h"

/* uint32 -> uint32, open addressing; for counts of a service on nodes. */
struct counts {
	struct {
		uint32_t key; /* + 1; 0 = free */
		uint32_t value;
	} * slots;
	uint32_t cap, used;
};
uint32_t counts_get(const struct counts *c, uint32_t key);
void counts_add(struct counts *c, uint32_t key, int32_t delta);
void counts_fini(struct counts *c);

struct snode {
	struct md_node *node; /* NULL: removed; the slot is kept for its tasks */
	bool ready;
	int64_t cpu, memory; /* what the machine has */
	int64_t cpu_used, memory_used;
	uint32_t tasks;                          /* wanted ones */
	struct VEC(struct md_generic *) generic; /* taken, borrowed from the tasks' records */
	struct VEC(uint32_t) ports;              /* protocol << 16 | port, one entry a task */
};

struct sfail {
	uint32_t node, count;
	int64_t since;
};
struct sservice {
	struct counts on; /* node index -> wanted tasks */
	struct VEC(struct sfail) failures;
	uint32_t refs; /* task records */
};

/* The rare part of what a task takes. */
struct sextra {
	struct md_generic *generic;
	size_t n_generic;
	uint32_t *ports;
	size_t n_ports;
};
struct stask {
	struct sservice *service;
	struct sextra *extra;
	int64_t cpu, memory;
	uint32_t node;
	bool wanted;
};

struct sched {
	struct mesh_rng *rng;
	struct VEC(struct snode) nodes;
	struct map node_index; /* id -> index + 1 */
	struct map services;   /* id -> struct sservice */
	struct map tasks;      /* id -> struct stask */
};

struct snode *sched_snode(const struct sched *s, const char *id, uint32_t *index);
struct sservice *sched_service(struct sched *s, const char *id);
/* Counts t on its node, whatever its state. */
void sched_task_count(struct sched *s, const struct md_task *t);

/* What the tasks of one spec ask for. */
struct ask {
	const struct md_task *like;
	struct constraints constraints;
	int64_t cpu, memory;
	uint64_t max_replicas;
	bool rare; /* generic resources or host ports */
	bool platforms;
	struct sservice *service;
};
void ask_init(struct ask *a, struct sched *s, const struct md_task *like);
void ask_fini(struct ask *a);
/* Filters that do not change while tasks of a batch are placed, then those that do. */
enum sched_filter ask_static(const struct ask *a, const struct snode *n);
enum sched_filter ask_dynamic(const struct ask *a, const struct snode *n, uint32_t of_service);
/* Chooses the generic resources t gets on n; ask_dynamic said there are enough. */
void ask_take_generic(const struct ask *a, const struct snode *n, struct md_task *t);

#define SCHED_MAX_FAILURES 5
/* Failures that count against a node now: 0 below the limit. */
uint32_t sched_penalty(const struct sservice *svc, uint32_t node, int64_t now);

#endif
