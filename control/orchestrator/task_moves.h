/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  the life of a task as data: which states it may move to, and who may say so.
 *        Status only moves forward; the brain writes it up to ASSIGNED, the task's node from there, and either
 *        side may end it (the brain: ORPHANED when the node is gone). The wish (desired_state) only grows too.
 */
#ifndef CONTROL_ORCHESTRATOR_TASK_MOVES_H
#define CONTROL_ORCHESTRATOR_TASK_MOVES_H

#include "control/model/model.h"

enum task_writer { TASK_BY_BRAIN, TASK_BY_NODE };

/* May status go from one state to another? Staying is a move (the message may change). */
bool task_move_ok(enum task_writer who, int from, int to);
/* May desired_state go from one to another? READY, RUNNING, COMPLETE, SHUTDOWN, REMOVE, upwards only. */
bool task_wish_ok(int from, int to);
/*
 * What must hold between two versions of a task (old NULL: created). MESH_E_INVALID says what broke:
 * a node changed, a state moved back, an address changed hands.
 */
int task_check(const struct md_task *old, const struct md_task *now, struct mesh_err *err) MESH_MUST_CHECK;

#endif
