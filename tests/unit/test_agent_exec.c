/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes beside a task's own: exec, health checks. */
#include "tests/support/agent_fixture.h"

static void test_exec(void **state)
{
	NEED(f);
	static struct execd x; /* outlives a test that fails before its process ends */
	struct md_task *t = task_new(f, "sleep 100");
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);

	exec_start(f, t, &x, false, false, ARGV("sh", "-c", "echo hi; echo no >&2; echo $FROM_IMAGE; exit 5"));
	UNTIL(f, x.done);
	assert_int_equal(x.code, 5);
	assert_string_equal(buf_str(&x.out), "hi\n1\n");
	assert_string_equal(buf_str(&x.err_out), "no\n");
	exec_fini(&x);

	struct agent_exec *e = exec_start(f, t, &x, false, true, ARGV("cat"));
	agent_exec_write(e, "abc", 3);
	agent_exec_write(e, NULL, 0);
	UNTIL(f, x.done);
	assert_int_equal(x.code, 0);
	assert_string_equal(buf_str(&x.out), "abc");
	exec_fini(&x);

	exec_start(f, t, &x, false, false, ARGV("nosuchprogram"));
	UNTIL(f, x.done);
	assert_int_equal(x.code, 127);
	assert_non_null(strstr(x.err.msg, "exec: \"nosuchprogram\": executable file not found in $PATH"));
	assert_int_equal(x.err_out.len, 0);
	exec_fini(&x);

	exec_start(f, t, &x, true, true,
	           ARGV("sh", "-c", "test -t 0 || exit 9; until stty size 2>/dev/null; do sleep 0.01; done"));
	UNTIL(f, x.done);
	assert_int_equal(x.code, 0);
	assert_string_equal(buf_str(&x.out), "40 100\r\n");
	exec_fini(&x);
	agent_remove(f->a, t->meta.id);
	task_free(t);
}

static void test_exec_kill_takes_children(void **state)
{
	NEED(f);
	static struct execd x; /* outlives a test that fails before its process ends */
	struct md_task *t = task_new(f, "exec sleep 100");
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	assert_int_equal(pids_in(f, t), 1);
	struct agent_exec *e =
		exec_start(f, t, &x, false, false, ARGV("sh", "-c", "sleep 99 & (sleep 98; :) & echo up; wait"));
	UNTIL(f, x.out.len == 3);
	UNTIL(f, agent_exec_pid(e) > 0); /* the runtime writes it when the process may have spoken already */
	assert_true(pids_in(f, t) >= 4);
	agent_exec_kill(e);
	UNTIL(f, x.done);
	assert_int_equal(x.code, 137);
	UNTIL(f, pids_in(f, t) == 1);
	exec_fini(&x);
	agent_remove(f->a, t->meta.id);
	task_free(t);
}

/* ---- health ---- */

static struct md_health *health_of(const char *cmd)
{
	struct md_health *h = XNEW(struct md_health);
	strs_add(&h->test, "CMD-SHELL");
	strs_add(&h->test, cmd);
	h->interval = 600 * NS_PER_MS;
	h->timeout = 300 * NS_PER_MS;
	h->retries = 1;
	return h;
}

static void test_health_gates_running(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "sleep 100");
	t->spec.container->health = health_of("test -e /ok");
	t->spec.container->stop_grace_period.v = 100 * NS_PER_MS;
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.message && strstr(s->last.message, "waiting for the health check"));
	assert_int_equal(s->last.state, MD_TASK_STARTING);
	assert_int_equal(s->last.traffic, MD_TRAFFIC_STARTING);
	static struct execd x; /* outlives a test that fails before its process ends */
	exec_start(f, t, &x, false, false, ARGV("touch", "/ok"));
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	assert_int_equal(s->last.traffic, MD_TRAFFIC_SERVING);
	UNTIL(f, x.done);
	exec_fini(&x);
	exec_start(f, t, &x, false, false, ARGV("rm", "/ok"));
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_string_equal(s->last.err, "unhealthy container");
	UNTIL(f, x.done);
	exec_fini(&x);
	task_free(t);
}

static void test_hung_health_check_is_killed(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "exec sleep 100");
	t->spec.container->health = health_of("sleep 97 & sleep 98");
	t->spec.container->stop_grace_period.v = 100 * NS_PER_MS;
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_string_equal(s->last.err, "unhealthy container");
	task_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_exec),
		TEST(test_exec_kill_takes_children),
		TEST(test_health_gates_running),
		TEST(test_hung_health_check_is_killed),
	};
	return RUN_TESTS(tests);
}
