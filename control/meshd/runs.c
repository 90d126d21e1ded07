/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager's side of containers run by hand: a node asks for a task on itself, for its start, its removal. The
 * decision is brain_run; here it is committed, tried again when others were faster, and answered.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/dispatcher/wire.h"
#include "control/meshd/meshd.h"
#include "control/orchestrator/brain.h"

#define TRIES 32

struct run_asked {
	struct manager *mgr;
	node_id node;
	uint64_t number;
	unsigned op;
	int tries;
	struct md_task task;
};

static void answer(struct run_asked *q, int code, const char *text)
{
	struct wire_ran ran = { .number = q->number, .code = code, .text = (char *)(uintptr_t)text };
	struct buf b = { 0 };
	wire_encode(WIRE_RAN, &wire_ran_schema, &ran, &b);
	(void)manager_send(q->mgr, q->node.s, NET_SESSION, 0, &b);
	buf_fini(&b);
	sch_clear(&md_task_schema, &q->task);
	free(q);
}

static void try_it(struct run_asked *q);

static void on_committed(void *arg, int code, const char *text, const struct mesh_err *err)
{
	struct run_asked *q = arg;
	(void)text;
	if (code == MESH_E_OUT_OF_SEQUENCE && q->tries < TRIES) {
		try_it(q);
		return;
	}
	if (code || q->op != WIRE_RUN_CREATE) {
		answer(q, code, code ? mesh_err_text(err, code) : NULL);
		return;
	}
	/* Answered when it has its place, or a reason why there is none. */
	map_put(manager_runs(q->mgr), q->task.meta.id, q);
	const struct md_task *t = store_get(manager_store(q->mgr), STORE_TASK, q->task.meta.id);
	if (t)
		runs_on_task(q->mgr, t);
}

static void try_it(struct run_asked *q)
{
	struct mesh_err err = { 0 };
	if (!manager_leads(q->mgr)) {
		answer(q, MESH_E_NO_LEADER, "this manager does not lead the swarm any more");
		return;
	}
	struct store_tx *tx = store_tx_new(manager_store(q->mgr), clock_wall_ns());
	int rc = brain_run(tx, (enum brain_run_op)q->op, q->node.s, &q->task, &err);
	q->tries++;
	if (!rc && store_tx_changes(tx)) {
		manager_commit(q->mgr, tx, on_committed, q);
		return;
	}
	store_tx_free(tx);
	answer(q, rc, rc ? mesh_err_text(&err, rc) : NULL);
}

void runs_request(struct manager *mgr, const char *node, struct wire_run *run)
{
	struct run_asked *q = XNEW(struct run_asked);
	*q = (struct run_asked){ .mgr = mgr, .number = run->number, .op = run->op, .task = run->task };
	run->task = (struct md_task){ 0 };
	mesh_id_set(q->node.s, node);
	try_it(q);
}

void runs_on_task(struct manager *mgr, const struct md_task *t)
{
	struct run_asked *q = manager_runs(mgr)->count ? map_get(manager_runs(mgr), t->meta.id) : NULL;
	bool placed = t->status.state >= MD_TASK_ASSIGNED, refused = !placed && t->status.err && *t->status.err;
	if (!q || (!placed && !refused))
		return;
	map_del(manager_runs(mgr), t->meta.id);
	if (placed) {
		answer(q, 0, NULL);
		return;
	}
	CLEAN_FREE char *why = xasprintf("cannot run the container on this node: %s", t->status.err);
	/* It is still there; its node asks for its removal. */
	answer(q, MESH_E_CONFLICT, why);
}

void runs_node_gone(struct manager *mgr, const char *node)
{
	struct str_list gone = { 0 };
	MAP_FOREACH(manager_runs(mgr), e) {
		const struct run_asked *q = e->value;
		if (!node || streq(q->node.s, node))
			strs_add(&gone, e->key);
	}
	for (size_t i = 0; i < gone.n; i++) {
		struct run_asked *q = map_del(manager_runs(mgr), gone.v[i]);
		sch_clear(&md_task_schema, &q->task);
		free(q);
	}
	strs_clear(&gone);
}
