/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tasks outlive the daemon; what is listed, removed and rotated. */
#include "tests/support/agent_fixture.h"

/* ---- restarts ---- */

static void test_restart_adopts(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "trap 'exit 9' TERM; echo one; while :; do sleep 0.02; done");
	t->drained = true;
	struct seen *s = assign(f, t);
	struct lines l;
	do {
		UNTIL(f, s->last.state >= MD_TASK_RUNNING);
		read_logs(f, t->meta.id, &l);
		buf_fini(&l.text);
	} while (!l.n);
	int64_t pid = s->last.container->pid;
	close_agent(f);
	assert_int_equal(kill((pid_t)pid, 0), 0);
	open_agent(f);
	UNTIL(f, f->adopted);
	UNTIL(f, s->attaches == 2);
	assert_int_equal(s->last.state, MD_TASK_RUNNING);
	assert_int_equal(s->last.container->pid, pid);
	struct agent_container c;
	assert_int_equal(agent_find_container(f->a, s->last.container->container_id, &c, NULL), 0);
	assert_int_equal(c.pid, pid);
	t->desired_state = MD_TASK_SHUTDOWN;
	agent_assign(f->a, t, &no_deps);
	agent_flows_ended(f->a, t->meta.id);
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	assert_int_equal(s->last.state, MD_TASK_SHUTDOWN);
	assert_int_equal(s->last.container->exit_code, 9);
	expect_log(f, t->meta.id, "1:one\n");
	task_free(t);
}

/* A child process is the meshd that is killed: SIGKILL, in the middle of a running task. */
static pid_t meshd_that_starts(struct fix *f, const struct md_task *t, const char *until)
{
	int p[2];
	assert_int_equal(pipe(p), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		uv_loop_fork(&f->loop);
		open_agent(f);
		struct seen *s = assign(f, t);
		while (!strstr(s->path, until))
			uv_run(&f->loop, UV_RUN_ONCE);
		(void)!write(p[1], "x", 1);
		for (;;)
			uv_run(&f->loop, UV_RUN_ONCE);
	}
	char byte;
	close(p[1]);
	assert_int_equal(read(p[0], &byte, 1), 1);
	close(p[0]);
	return child;
}

static void test_killed_meshd_loses_nothing(void **state)
{
	NEED(f);
	close_agent(f);
	struct md_task *t = task_new(f, "echo a; while ! test -e /tmp/go; do sleep 0.02; done; echo b; exit 4");
	pid_t child = meshd_that_starts(f, t, "running");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	/* While nobody watches: the task ends. */
	char path[512];
	snprintf(path, sizeof(path), "%s/tasks/%s/upper/tmp/go", f->state, t->meta.id);
	struct seen *s = seen_of(f, t->meta.id);
	open_agent(f);
	UNTIL(f, f->adopted);
	assert_int_equal(s->last.state, MD_TASK_RUNNING);
	static struct execd x; /* outlives a test that fails before its process ends */
	exec_start(f, t, &x, false, false, ARGV("touch", "/tmp/go"));
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	assert_string_equal(s->last.err, "task: non-zero exit (4)");
	UNTIL(f, x.done);
	exec_fini(&x);
	expect_log(f, t->meta.id, "1:a\n1:b\n");
	task_free(t);
}

static bool file_there(const struct fix *f, const struct md_task *t, const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/tasks/%s/%s", f->state, t->meta.id, name);
	return !access(path, F_OK);
}

static void test_exit_while_meshd_is_down(void **state)
{
	NEED(f);
	close_agent(f);
	struct md_task *t = task_new(f, "sleep 0.3; exit 6");
	pid_t child = meshd_that_starts(f, t, "running");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	for (int i = 0; i < 1000 && !file_there(f, t, "exit"); i++)
		poll(NULL, 0, 10);
	assert_true(file_there(f, t, "exit"));
	struct seen *s = seen_of(f, t->meta.id);
	open_agent(f);
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	assert_string_equal(s->path, "running failed");
	assert_string_equal(s->last.err, "task: non-zero exit (6)");
	task_free(t);
}

static void test_killed_while_attaching(void **state)
{
	NEED(f);
	close_agent(f);
	struct md_task *t = task_new(f, "echo started; sleep 100");
	/* The attach is never answered there: the shim waits for its go. */
	f->hold_attach = true;
	pid_t child = meshd_that_starts(f, t, "starting");
	for (int i = 0; i < 1000 && !file_there(f, t, "pid"); i++)
		poll(NULL, 0, 10);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	f->hold_attach = false;
	open_agent(f);
	struct seen *s = seen_of(f, t->meta.id);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	assert_string_equal(s->path, "starting running");
	agent_remove(f->a, t->meta.id);
	task_free(t);
}

static void test_killed_shim(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "sleep 100");
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	kill(s->attach_pid, SIGKILL);
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_string_equal(s->last.err, "supervisor died");
	assert_int_equal(pids_in(f, t), 0);
	task_free(t);
}

/* ---- containers ---- */

static bool count_one(void *arg, const struct agent_container *c)
{
	(void)c;
	++*(int *)arg;
	return true;
}

static int count(struct fix *f, bool all)
{
	int n = 0;
	agent_each_container(f->a, all, count_one, &n);
	return n;
}

static void on_done(void *arg, int code, const struct mesh_err *err)
{
	(void)err;
	*(int *)arg = code ? code : 1;
}

static void test_containers(void **state)
{
	NEED(f);
	struct agent_container c;
	struct mesh_err err = { 0 };
	struct md_task *t = task_new(f, "sleep 100");
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	assert_int_equal(count(f, false), 1);
	char prefix[13];
	snprintf(prefix, sizeof(prefix), "%.12s", s->last.container->container_id);
	assert_int_equal(agent_find_container(f->a, prefix, &c, &err), 0);
	char name[64];
	snprintf(name, sizeof(name), "web.1.%s", t->meta.id);
	assert_string_equal(c.name, name);
	assert_int_equal(agent_find_container(f->a, "nope", &c, &err), MESH_E_NOT_FOUND);
	assert_string_equal(err.msg, "No such container: nope");
	int rc = 0;
	agent_rm_container(f->a, prefix, false, on_done, &rc);
	assert_int_equal(rc, MESH_E_CONFLICT);
	rc = 0;
	agent_stop_container(f->a, prefix, 0, on_done, &rc);
	UNTIL(f, rc);
	assert_int_equal(rc, 1);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_string_equal(s->last.err, "task: non-zero exit (137)");
	assert_int_equal(count(f, false), 0);
	assert_int_equal(count(f, true), 1);
	assert_int_equal(agent_kill_container(f->a, prefix, "9", &err), MESH_E_CONFLICT);
	rc = 0;
	agent_rm_container(f->a, prefix, false, on_done, &rc);
	assert_int_equal(rc, 1);
	assert_int_equal(count(f, true), 0);
	task_free(t);
}

static void test_remove_leaves_nothing(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "sleep 100");
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	assert_true(file_there(f, t, "config.json"));
	agent_assign_only(f->a, NULL, 0);
	UNTIL(f, !file_there(f, t, "."));
	assert_int_equal(s->detaches, 1);
	assert_int_equal(s->last.state, MD_TASK_SHUTDOWN);
	task_free(t);
}

/* More than are made at once, and one is stopped before its turn. */
static void test_many(void **state)
{
	NEED(f);
	struct md_task *t[12];
	struct seen *s[12];
	for (int i = 0; i < 12; i++) {
		t[i] = task_new(f, "sleep 100");
		s[i] = assign(f, t[i]);
	}
	for (int i = 0; i < 12; i++)
		UNTIL(f, s[i]->last.state == MD_TASK_RUNNING);
	int64_t began = clock_mono_ns();
	agent_assign_only(f->a, NULL, 0);
	for (int i = 0; i < 12; i++) {
		UNTIL(f, !file_there(f, t[i], "."));
		task_free(t[i]);
	}
	assert_true(clock_mono_ns() - began < 20 * NS_PER_SEC);
}

static void test_log_rotation_and_pause(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done");
	t->spec.log_driver = XNEW(struct md_driver);
	t->spec.log_driver->name = xstrdup("json-file");
	smap_set(&t->spec.log_driver->options, "max-size", "16k");
	smap_set(&t->spec.log_driver->options, "max-file", "20");
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_COMPLETE);
	assert_true(file_there(f, t, "log.5"));
	struct lines l = { .pause_each = true };
	struct agent_log_opts o = all_logs;
	o.tail = 1000;
	l.log = agent_log_open(f->a, t->meta.id, &o, on_line, on_log_done, &l);
	size_t before = 0;
	while (!l.done) {
		UNTIL(f, l.n > before || l.done);
		before = l.n;
		agent_log_resume(l.log);
	}
	agent_log_close(l.log);
	assert_int_equal(l.n, 1000);
	assert_memory_equal(buf_str(&l.text), "1:line 2000\n1:line 2001\n", 24);
	buf_fini(&l.text);
	read_logs(f, t->meta.id, &l);
	assert_int_equal(l.n, 3000);
	buf_fini(&l.text);
	task_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_restart_adopts),
		TEST(test_killed_meshd_loses_nothing),
		TEST(test_exit_while_meshd_is_down),
		TEST(test_killed_while_attaching),
		TEST(test_killed_shim),
		TEST(test_containers),
		TEST(test_remove_leaves_nothing),
		TEST(test_many),
		TEST(test_log_rotation_and_pause),
	};
	return RUN_TESTS(tests);
}
