/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a service does about tasks that fail: attempts within a window, and how many an update bears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/support/brain_world.h"

/* The task that is wanted and runs image (NULL: any); NULL: there is none. */
static const struct md_task *running(const struct world *w, const char *image)
{
	struct store_list l = store_tasks_of_service(w->s, world_service(w, "web")->meta.id);
	for (size_t i = 0; i < l.n; i++) {
		const struct md_task *t = l.v[i];
		if (md_task_wanted(t) && t->status.state == MD_TASK_RUNNING &&
		    (!image || streq(t->spec.container->image, image)))
			return t;
	}
	return NULL;
}

static int update_state(const struct world *w)
{
	const struct md_service *s = world_service(w, "web");
	return s->update_status ? s->update_status->state : MD_UPDATE_NONE;
}

static void twice_in_ten_seconds(struct md_service_spec *s)
{
	md_service_spec_defaults(s);
	s->task.restart->delay.v = 0;
	s->task.restart->max_attempts = (struct opt_u64){ true, 2 };
	s->task.restart->window = (struct opt_i64){ true, 10 * NS_PER_SEC };
}

static void restart_window(void **state)
{
	struct world w;
	(void)state;
	world_open(&w, 1);
	world_add_service(&w, "web", 1, twice_in_ten_seconds);
	world_run_for(&w, NS_PER_SEC);
	/* One every six seconds: never more than two within the window. */
	for (int i = 0; i < 10; i++) {
		assert_non_null(running(&w, NULL));
		world_status(&w, running(&w, NULL)->meta.id, MD_TASK_FAILED, 0);
		world_run_for(&w, 6 * NS_PER_SEC);
	}
	assert_non_null(running(&w, NULL));
	/* One every three seconds is the end of it. */
	for (int i = 0; i < 3 && running(&w, NULL); i++) {
		world_status(&w, running(&w, NULL)->meta.id, MD_TASK_FAILED, 0);
		world_run_for(&w, 3 * NS_PER_SEC);
	}
	assert_null(running(&w, NULL));
	world_run_for(&w, 600 * NS_PER_SEC);
	assert_null(running(&w, NULL));
	world_close(&w);
}

/* Ten tasks, of which a third may fail: the fourth that does is one too many. */
static void a_third(struct md_service_spec *s)
{
	md_service_spec_defaults(s);
	s->update->max_failure_ratio = 0.3;
	s->update->monitor = 2 * NS_PER_SEC;
	s->update->delay = NS_PER_SEC;
	s->task.restart->condition = MD_RESTART_NONE;
}

static void image2(struct md_service_spec *s)
{
	str_set(&s->task.container->image, "bb:2");
}

static void update_with_failures(struct world *w, int failures)
{
	world_open(w, 1);
	world_add_service(w, "web", 10, a_third);
	world_run_for(w, NS_PER_SEC);
	world_update(w, "web", image2);
	for (int i = 0; i < failures; i++) {
		for (int k = 0; !running(w, "bb:2"); k++) {
			assert_true(k < 1000);
			world_run_for(w, NS_PER_SEC / 10);
		}
		world_status(w, running(w, "bb:2")->meta.id, MD_TASK_FAILED, 0);
		world_run(w);
	}
	world_run_for(w, 100 * NS_PER_SEC);
}

static void max_failure_ratio(void **state)
{
	struct world w;
	(void)state;
	update_with_failures(&w, 3);
	assert_int_equal(update_state(&w), MD_UPDATE_COMPLETED);
	assert_int_equal(world_running(&w, "web", "bb:2"), 7);
	world_close(&w);
	update_with_failures(&w, 4);
	assert_int_equal(update_state(&w), MD_UPDATE_PAUSED);
	assert_true(world_running(&w, "web", "bb:1") > 0);
	world_close(&w);
}

static void continues(struct md_service_spec *s)
{
	a_third(s);
	s->update->max_failure_ratio = 0;
	s->update->failure_action = MD_FAILURE_CONTINUE;
}

/* Tasks of bb:2 fail as soon as they run, for as long as time goes on. */
static void fail_all_of_image2(struct world *w)
{
	for (int i = 0; i < 200; i++) {
		const struct md_task *t = running(w, "bb:2");
		if (t)
			world_status(w, t->meta.id, MD_TASK_FAILED, 0);
		world_run_for(w, NS_PER_SEC / 10);
	}
}

static void failures_may_be_ignored(void **state)
{
	struct world w;
	(void)state;
	world_open(&w, 1);
	world_add_service(&w, "web", 3, continues);
	world_run_for(&w, NS_PER_SEC);
	world_update(&w, "web", image2);
	fail_all_of_image2(&w);
	assert_int_equal(update_state(&w), MD_UPDATE_COMPLETED);
	assert_int_equal(world_running(&w, "web", NULL), 0);
	world_close(&w);
}

static void rolls_back_by_ones(struct md_service_spec *s)
{
	a_third(s);
	str_set(&s->task.container->image, "bb:2");
	s->rollback->delay = NS_PER_SEC;
	s->rollback->monitor = 2 * NS_PER_SEC;
}

static void image3(struct md_service_spec *s)
{
	str_set(&s->task.container->image, "bb:3");
}

/* What was fine once fails now: a rollback stops at it, and is not rolled back. */
static void a_rollback_that_fails_pauses(void **state)
{
	struct world w;
	(void)state;
	world_open(&w, 1);
	world_add_service(&w, "web", 3, rolls_back_by_ones);
	world_run_for(&w, NS_PER_SEC);
	world_update(&w, "web", image3);
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_int_equal(world_running(&w, "web", "bb:3"), 3);
	WORLD_EDIT(&w, STORE_SERVICE, world_service(&w, "web")->meta.id, struct md_service, s,
	           assert_int_equal(brain_rollback(s, NULL), 0));
	world_run_for(&w, NS_PER_SEC / 10);
	fail_all_of_image2(&w);
	assert_int_equal(update_state(&w), MD_UPDATE_ROLLBACK_PAUSED);
	assert_int_equal(world_running(&w, "web", "bb:3"), 2);
	assert_non_null(strstr(world_service(&w, "web")->update_status->message,
	                       "rollback paused due to failure or early termination of task "));
	world_close(&w);
}

static void job_of_two(struct md_service_spec *s)
{
	s->mode.replicated_job = XNEW(struct md_replicated_job);
	s->mode.replicated_job->max_concurrent = s->mode.replicated_job->total_completions =
		(struct opt_u64){ true, 2 };
	md_service_spec_defaults(s);
	s->task.restart->condition = MD_RESTART_ON_FAILURE;
	s->task.restart->delay.v = 0;
	s->task.restart->max_attempts = (struct opt_u64){ true, 2 };
}

static void a_job_gives_up_too(void **state)
{
	struct world w;
	int ended = 0;
	(void)state;
	world_open(&w, 1);
	world_add_service(&w, "web", 0, job_of_two);
	world_run(&w);
	for (const struct md_task *t; ended < 100 && (t = running(&w, NULL)); ended++) {
		world_status(&w, t->meta.id, MD_TASK_FAILED, 0);
		w.now += NS_PER_SEC;
		world_run(&w);
	}
	assert_int_equal(ended, 6); /* either of two: the first and two attempts */
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restart_window),          cmocka_unit_test(max_failure_ratio),
		cmocka_unit_test(failures_may_be_ignored), cmocka_unit_test(a_rollback_that_fails_pauses),
		cmocka_unit_test(a_job_gives_up_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
