/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A task's life: only forward, only by who may say so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "control/orchestrator/task_moves.h"

static void test_only_forward(void **state)
{
	(void)state;
	for (int from = 0; from < MD_TASK_STATE_MAX; from++)
		for (int to = 0; to < MD_TASK_STATE_MAX; to++) {
			bool brain = task_move_ok(TASK_BY_BRAIN, from, to), node = task_move_ok(TASK_BY_NODE, from, to);
			if (to < from)
				assert_false(brain || node);
			if (from == to)
				assert_true(brain && node);
			if (from > MD_TASK_RUNNING && from != to) /* the end is the end */
				assert_false(brain || node);
			if (from < MD_TASK_ASSIGNED && from != to) /* no node has it yet */
				assert_false(node);
			if (from >= MD_TASK_ASSIGNED && from != to && to != MD_TASK_ORPHANED) /* its node's business */
				assert_false(brain);
		}
	assert_true(task_move_ok(TASK_BY_BRAIN, MD_TASK_NEW, MD_TASK_ASSIGNED));
	assert_true(task_move_ok(TASK_BY_BRAIN, MD_TASK_RUNNING, MD_TASK_ORPHANED));
	assert_true(task_move_ok(TASK_BY_NODE, MD_TASK_ASSIGNED, MD_TASK_REJECTED));
	assert_false(task_move_ok(TASK_BY_NODE, -1, MD_TASK_READY));
	assert_false(task_move_ok(TASK_BY_NODE, MD_TASK_READY, MD_TASK_STATE_MAX));
}

static void test_wishes(void **state)
{
	(void)state;
	assert_true(task_wish_ok(MD_TASK_READY, MD_TASK_RUNNING));
	assert_true(task_wish_ok(MD_TASK_RUNNING, MD_TASK_SHUTDOWN));
	assert_true(task_wish_ok(MD_TASK_SHUTDOWN, MD_TASK_REMOVE));
	assert_false(task_wish_ok(MD_TASK_SHUTDOWN, MD_TASK_RUNNING));
	assert_false(task_wish_ok(MD_TASK_READY, MD_TASK_STARTING));
}

static void test_check(void **state)
{
	struct md_task a = { 0 }, b;
	struct mesh_err err = { 0 };
	(void)state;
	mesh_id_set(a.meta.id, "t1");
	a.desired_state = MD_TASK_RUNNING;
	a.status.state = MD_TASK_PENDING;
	assert_int_equal(task_check(NULL, &a, &err), 0);
	b = a;
	b.status.state = MD_TASK_ASSIGNED;
	assert_int_equal(task_check(&a, &b, &err), MESH_E_INVALID);
	assert_string_equal(err.msg, "task t1: assigned without a node");
	mesh_id_set(b.node.s, "n1");
	assert_int_equal(task_check(&a, &b, &err), 0);
	a = b;
	mesh_id_set(b.node.s, "n2");
	assert_int_equal(task_check(&a, &b, &err), MESH_E_INVALID);
	assert_string_equal(err.msg, "task t1: moved from node n1 to n2");
	b = a;
	b.status.state = MD_TASK_PENDING;
	assert_int_equal(task_check(&a, &b, &err), MESH_E_INVALID);
	a.status.state = MD_TASK_COMPLETE;
	b.status.state = MD_TASK_FAILED;
	assert_int_equal(task_check(&a, &b, &err), MESH_E_INVALID);
	b = a;
	b.desired_state = MD_TASK_READY;
	assert_int_equal(task_check(&a, &b, &err), MESH_E_INVALID);
	assert_string_equal(err.msg, "task t1: wanted ready after running");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_forward),
		cmocka_unit_test(test_wishes),
		cmocka_unit_test(test_check),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
