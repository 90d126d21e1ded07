/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One look at one service: its tasks sorted into slots (a number for replicated services, a node for global ones),
 * and the decisions about each. Private to control/orchestrator.
 *
 * A slot is level-triggered: what to do follows from its tasks alone, whoever made them.
 *   dead task (ended, still wanted)      -> its wish becomes SHUTDOWN; the restart policy decides about a new one
 *   good task (current spec, usable node) -> all others of the slot go once it is up
 *   only outdated tasks                  -> replaced when the updater lets the slot go on
 *   only tasks on unusable nodes         -> replaced now
 * A replacement that must wait (restart delay, old task still stopping) is created with the wish READY, so that
 * its image is there, and gets RUNNING when its time has come.
 */
#ifndef CONTROL_ORCHESTRATOR_SLOTS_H
#define CONTROL_ORCHESTRATOR_SLOTS_H

#include "control/orchestrator/brain_impl.h"

struct view {
	const struct md_task *t;
	const struct md_node *node; /* where it is; NULL when not placed or the node is gone */
	size_t order;
	bool deleted; /* then t may be gone */
};

struct slot {
	struct view *v; /* oldest first; a span of look.views */
	size_t n;
	uint64_t num;
	const char *node;      /* global services; "" otherwise */
	struct view *good;     /* current spec, usable node, wanted */
	struct view *outdated; /* wanted, on a usable node, but not what the service says */
	struct view *stranded; /* wanted, on an unusable node */
	struct view *last;     /* the newest that is left and not to be removed, or NULL */
	bool live;             /* not one that is being removed */
	bool down;             /* stranded on a node that is down or gone */
	bool moving;           /* stranded is on its way to another node: it stays until its successor is up */
	bool finished; /* nothing more to do: its last task ended and policy says that is it, or its node is out */
	bool failed;   /* a task made by this update ended by itself here */
};

struct look {
	struct brain *b;
	struct bservice *m;
	const struct md_service *svc;
	enum md_service_mode mode;
	struct VEC(struct view) views;
	struct VEC(struct slot) slots;
	struct sched_matcher *match; /* may tasks of the service's spec be on a node? */
	bool one_version;            /* all tasks carry the service's spec version */
	/* the update */
	bool updating, rolling_back;
	const struct md_update_config *config;
	long allowed;        /* slots that serve and may be replaced now */
	long allowed_vacant; /* of those where nobody serves */
	int64_t wake;
};

/* ---- slots.c ---- */
void look_open(struct look *l, struct brain *b, struct bservice *m, const struct md_service *svc, const char *id);
void look_close(struct look *l);
/* Retires dead tasks, deletes what is over, fills in what each slot has. */
void slots_sort_out(struct look *l);
/* Creates, releases and retires tasks of one slot. */
void slot_decide(struct look *l, struct slot *s);
void view_wish(struct look *l, struct view *v, int desired);
bool task_up(const struct md_service *svc, const struct md_task *t);
bool node_keeps_tasks(const struct md_node *n);
/* A new task in a slot (made for it when s is new); counts as a restart of replaced when that is not NULL. */
void slot_create(struct look *l, struct slot *s, int desired, const struct md_task *replaced);
void reap_history(struct look *l);
void wake_at(struct look *l, int64_t when);

/* ---- restart.c ---- */
/* Did it end by itself (not because it was told to)? */
bool ended_by_itself(const struct md_task *t);
/* May the slot's last task, which ended by itself, be followed by another? */
bool restart_allowed(struct look *l, const struct slot *s);
void restart_note(struct look *l, const struct slot *s, const struct md_task *replaced);
/* When a task with the wish READY may run; NEVER while only an event can say. */
int64_t release_time(const struct look *l, const struct slot *s, const struct view *v);

/* ---- updater.c ---- */
/* Before the slots are decided: state of the update, what failed, how many slots may move. */
void update_before(struct look *l);
/* A wanted task was found ended. */
void update_saw_end(struct look *l, const struct md_task *t);
/* Once the slots are sorted out: how many may be replaced now. */
void update_count(struct look *l);
/* After: is it complete? */
void update_after(struct look *l);
bool slot_needs_update(const struct slot *s);

/* ---- rebalance.c ---- */
void rebalance_decide(struct look *l);

/* ---- modes.c ---- */
/* May a new task of a global service be started there? */
bool node_takes(const struct look *l, const struct md_node *n);
void replicated_decide(struct look *l);
void global_decide(struct look *l);
void job_decide(struct look *l);

#endif
