/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the scheduler: what it knows of nodes, services and tasks. Private to control/scheduler. */
#ifndef CONTROL_SCHEDULER_NODES_H
#define CONTROL_SCHEDULER_NODES_H

#include "base/map.h"
#include "control/scheduler/bits.h"
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
	struct bits ready;
	struct VEC(struct bits) by_tasks; /* number of wanted tasks -> nodes that have as many */
	struct map fits;                  /* placement in words -> struct fit */
	struct map node_index;            /* id -> index + 1 */
	struct map services;              /* id -> struct sservice */
	struct map tasks;                 /* id -> struct stask */
};

struct snode *sched_snode(const struct sched *s, const char *id, uint32_t *index);
struct sservice *sched_service(struct sched *s, const char *id);
/* Counts t on its node, whatever its state. */
void sched_task_count(struct sched *s, const struct md_task *t);

/* ---- fit.c: the nodes that constraints and platforms leave, divided by placement preferences ---- */

#define NO_BRANCH UINT32_MAX
/* A value of a spread preference, or the root. */
struct branch {
	char *value;
	uint32_t parent;
	struct VEC(uint32_t) children;
	struct bits nodes; /* leaves only */
};
struct fit {
	struct md_placement *placement;
	struct constraints constraints;
	const char **words; /* the preference of each level, borrowed from placement */
	size_t depth;
	struct VEC(struct branch) branches; /* the first is the root */
	struct VEC(uint32_t) leaf;          /* node index -> branch; NO_BRANCH: not this node */
	uint32_t refs;
};
struct fit *fit_ref(struct sched *s, const struct md_placement *p);
void fit_unref(struct fit *f);
uint32_t fit_leaf(const struct fit *f, uint32_t index);
void fits_node_changed(struct sched *s, uint32_t index);
void fits_free(struct sched *s);
size_t fits_bytes(const struct sched *s);

/* What the tasks of one spec ask for. */
struct ask {
	const struct md_task *like;
	struct fit *fit;
	int64_t cpu, memory;
	uint64_t max_replicas;
	bool rare; /* generic resources or host ports */
	struct sservice *service;
};
bool platform_ok(const struct md_placement *p, const struct md_node *node);
void ask_init(struct ask *a, struct sched *s, const struct md_task *like);
void ask_fini(struct ask *a);
/*
 * Filters that do not change while tasks of a batch are placed, then those that do. A node passes the static ones when
 * it is ready and has a leaf in ask.fit.
 */
enum sched_filter ask_static(const struct ask *a, const struct snode *n);
enum sched_filter ask_dynamic(const struct ask *a, const struct snode *n, uint32_t of_service);
/* Chooses the generic resources t gets on n; ask_dynamic said there are enough. */
void ask_take_generic(const struct ask *a, const struct snode *n, struct md_task *t);

#define SCHED_MAX_FAILURES 5
/* Do they count against the node now? Below the limit, or long ago, they do not. */
bool sched_fail_counts(const struct sfail *f, int64_t now);
/* Failures that count against a node now. */
uint32_t sched_penalty(const struct sservice *svc, uint32_t node, int64_t now);

#endif
