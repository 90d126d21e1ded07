/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the brain. Private to control/orchestrator.
 *
 * One step looks at every service that changed (reconcile.c), creates, retires and deletes tasks there, then gives
 * new tasks addresses and nodes (place.c). Everything is decided from what the transaction sees; the books of
 * scheduler and allocator follow both the store's events and the step's own changes. What is only in memory
 * (struct bservice) can be lost: it makes an update wait a little longer, never do something else.
 */
#ifndef CONTROL_ORCHESTRATOR_BRAIN_IMPL_H
#define CONTROL_ORCHESTRATOR_BRAIN_IMPL_H

#include "base/clock.h"
#include "base/map.h"
#include "control/allocator/allocator.h"
#include "control/orchestrator/brain.h"
#include "control/scheduler/scheduler.h"

/* Objects one step may write, so that a command stays small; the rest waits for the next step. */
#define STEP_BUDGET 1000
/* What the decision about one slot may write. With less left there is no use in a look at a service. */
#define SLOT_BUDGET 4
/* Longer than its grace period and this, an old task does not hold up the one that replaces it. */
#define OLD_TASK_PATIENCE (60 * NS_PER_SEC)
#define NEVER INT64_MAX

/* A restart that happened in a slot, told apart by the task it replaced. */
struct brestart {
	uint64_t replaced; /* hash of the task id */
	int64_t when;
};
struct bslot {
	uint64_t version; /* of the spec these belong to */
	struct VEC(struct brestart) restarts;
};

/* What the brain remembers of a service beside the store. */
struct bservice {
	char id[MESH_ID_LEN + 1];
	bool global;       /* new nodes concern it */
	bool spec_moved;   /* the template changed and nobody moved spec_version */
	int64_t wake;      /* look again then */
	int64_t queued;    /* the earliest alarm it has in brain.alarms */
	char *alloc_error; /* why it has no ports or VIPs; told through its tasks */
	struct map slots;  /* slot key -> struct bslot; only with max attempts */
	/* the update under way */
	uint64_t update_version; /* spec version it leads to */
	size_t update_total;     /* slots it had to change */
	struct map up;           /* task id -> when it was first seen up */
	struct map failed;       /* task ids */
	uint64_t paused_version; /* spec version that was paused */
};

struct btouch {
	enum store_kind kind;
	char id[MESH_ID_LEN + 1];
	char service[MESH_ID_LEN + 1]; /* tasks: whose */
};

struct balarm {
	int64_t at;
	char id[MESH_ID_LEN + 1];
};

struct brain {
	struct store *s;
	struct mesh_rng *rng;
	struct sched *sched;
	struct alloc *alloc;
	struct map services; /* id -> struct bservice */
	struct map dirty;    /* services to look at */
	struct map nets;     /* networks to look at */
	struct map fresh;    /* tasks to place now */
	struct map waiting;  /* tasks nothing could be done for; tried again when something got free */
	struct map loose;    /* standalone tasks that may have to be deleted */
	bool retry_waiting;
	struct map unallocated;            /* services with an alloc_error */
	struct VEC(struct balarm) alarms;  /* a heap, earliest first; checked against bservice.wake */
	struct VEC(struct btouch) touched; /* by the last step */
	struct map touched_ids;
	/* one step */
	struct store_tx *tx;
	int64_t now;
	long budget;
};

/* ---- brain.c ---- */
struct bservice *brain_service(struct brain *b, const char *id);
void brain_dirty(struct brain *b, const char *service);
/* Looks at the service again at this time; NEVER: only when something changes. */
void brain_alarm(struct brain *b, struct bservice *m, int64_t at);
struct md_task *brain_edit_task(struct brain *b, const char *id);
void brain_delete_task(struct brain *b, const char *which);
struct md_service *brain_edit_service(struct brain *b, const char *id);
/* Remembers what the step is about to change, once; service: whose task it is, "" for other kinds. */
void brain_touch(struct brain *b, enum store_kind kind, const char *id, const char *service);

/* ---- tasks.c ---- */
/* A new task from the service's spec; node "" when the scheduler chooses. */
struct md_task *brain_new_task(struct brain *b, const struct md_service *svc, uint64_t slot, const char *node,
                               int desired);
/* Does the task run what the service says now? The one question that decides what an update replaces. */
bool brain_task_current(const struct brain *b, const struct md_service *svc, const struct md_task *t);

/* ---- updater.c ---- */
/* What a step remembered of an update and did not get written: as if another leader had begun it. */
void brain_forget_update(struct bservice *m);

/* ---- reconcile.c ---- */
void brain_reconcile(struct brain *b, const char *service);

/* ---- standalone.c ---- */
void brain_standalone(struct brain *b);

/* ---- place.c ---- */
void brain_place(struct brain *b);

#endif
