/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/orchestrator/task_moves.h"

#define B(state) (1u << MD_TASK_##state)
#define ENDED (B(COMPLETE) | B(SHUTDOWN) | B(FAILED) | B(REJECTED) | B(REMOVE) | B(ORPHANED))

/* From each state, where each writer may take it. A node may be heard of late, so it may skip states. */
static const struct {
	uint32_t brain, node;
} moves[MD_TASK_STATE_MAX] = {
	[MD_TASK_NEW] = { B(ALLOCATED) | B(PENDING) | B(ASSIGNED) | B(SHUTDOWN), 0 },
	[MD_TASK_ALLOCATED] = { B(PENDING) | B(ASSIGNED) | B(SHUTDOWN), 0 },
	[MD_TASK_PENDING] = { B(ASSIGNED) | B(SHUTDOWN), 0 },
	[MD_TASK_ASSIGNED] = { B(ORPHANED), B(ACCEPTED) | B(PREPARING) | B(READY) | B(STARTING) | B(RUNNING) | ENDED },
	[MD_TASK_ACCEPTED] = { B(ORPHANED), B(PREPARING) | B(READY) | B(STARTING) | B(RUNNING) | ENDED },
	[MD_TASK_PREPARING] = { B(ORPHANED), B(READY) | B(STARTING) | B(RUNNING) | ENDED },
	[MD_TASK_READY] = { B(ORPHANED), B(STARTING) | B(RUNNING) | ENDED },
	[MD_TASK_STARTING] = { B(ORPHANED), B(RUNNING) | ENDED },
	[MD_TASK_RUNNING] = { B(ORPHANED), ENDED },
};

bool task_move_ok(enum task_writer who, int from, int to)
{
	if (from < 0 || from >= MD_TASK_STATE_MAX || to < 0 || to >= MD_TASK_STATE_MAX)
		return false;
	uint32_t may = who == TASK_BY_BRAIN ? moves[from].brain : moves[from].node;
	return from == to || (may & 1u << to);
}

bool task_wish_ok(int from, int to)
{
	const uint32_t wishes = B(READY) | B(RUNNING) | B(COMPLETE) | B(SHUTDOWN) | B(REMOVE);
	return to >= from && to < MD_TASK_STATE_MAX && (wishes & 1u << to);
}

int task_check(const struct md_task *old, const struct md_task *now, struct mesh_err *err)
{
	const char *id = now->meta.id;
	const char *const *text = md_task_state_names.names;
	if (now->status.state >= MD_TASK_ASSIGNED && now->status.state <= MD_TASK_RUNNING && ID_EMPTY(now->node))
		return mesh_fail(err, MESH_E_INVALID, "task %s: %s without a node", id, text[now->status.state]);
	if (!old)
		return task_wish_ok(now->desired_state, now->desired_state)
		               ? 0
		               : mesh_fail(err, MESH_E_INVALID, "task %s: no such wish as %d", id, now->desired_state);
	if (!ID_EMPTY(old->node) && !ID_EQ(old->node, now->node))
		return mesh_fail(err, MESH_E_INVALID, "task %s: moved from node %s to %s", id, old->node.s,
		                 now->node.s);
	if (now->status.state < old->status.state || (md_task_ended(old) && now->status.state != old->status.state))
		return mesh_fail(err, MESH_E_INVALID, "task %s: %s after %s", id, text[now->status.state],
		                 text[old->status.state]);
	if (now->desired_state < old->desired_state)
		return mesh_fail(err, MESH_E_INVALID, "task %s: wanted %s after %s", id, text[now->desired_state],
		                 text[old->desired_state]);
	return 0;
}
