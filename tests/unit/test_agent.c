/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A task on its node: from its image to its end, its limits and its files. */
#include "tests/support/agent_fixture.h"

static void test_runs_and_ends(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "echo out; echo err >&2; hostname; id -u; echo $FROM_IMAGE $X; exit 0");
	t->spec.container->hostname = xstrdup("{{.Service.Name}}-{{.Task.Slot}}");
	strs_add(&t->spec.container->env, "X={{.Node.Hostname}}");
	struct seen *s = run_to_end(f, t);
	assert_string_equal(s->path, "accepted preparing ready starting running complete");
	assert_string_equal(s->last.container->container_id, s->last.container->container_id);
	assert_int_equal(strlen(s->last.container->container_id), 64);
	assert_int_equal(s->attaches, 1);
	assert_int_equal(s->detaches, 1);
	struct agent_log_opts o = { .out = true, .tail = -1 };
	struct lines l = { 0 };
	l.log = agent_log_open(f->a, t->meta.id, &o, on_line, on_log_done, &l);
	UNTIL(f, l.done);
	agent_log_close(l.log);
	assert_string_equal(buf_str(&l.text), "1:out\n1:web-1\n1:0\n1:1 host1\n");
	buf_clear(&l.text);
	o = (struct agent_log_opts){ .err = true, .tail = -1 };
	l.done = false;
	l.log = agent_log_open(f->a, t->meta.id, &o, on_line, on_log_done, &l);
	UNTIL(f, l.done);
	agent_log_close(l.log);
	assert_string_equal(buf_str(&l.text), "2:err\n");
	buf_fini(&l.text);
	task_free(t);
}

static void test_exit_code(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "exit 7");
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_string_equal(s->last.err, "task: non-zero exit (7)");
	assert_int_equal(s->last.container->exit_code, 7);
	task_free(t);
}

static void test_no_such_image(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "true");
	str_set(&t->spec.container->image, "nosuch:9");
	struct seen *s = run_to_end(f, t);
	assert_string_equal(s->path, "accepted preparing rejected");
	assert_string_equal(s->last.err, "No such image: nosuch:9");
	task_free(t);
}

static void test_no_such_program(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, NULL);
	strs_add(&t->spec.container->command, "/nope");
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_non_null(strstr(s->last.err, "starting container failed: OCI runtime create failed"));
	assert_non_null(strstr(s->last.err, "/nope"));
	expect_log(f, t->meta.id, "");
	task_free(t);
}

static void test_network_fails(void **state)
{
	NEED(f);
	f->attach_code = MESH_E_NOT_FOUND;
	struct md_task *t = task_new(f, "sleep 100");
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_string_equal(s->last.err, "network: no such network");
	agent_remove(f->a, t->meta.id);
	f->attach_code = 0;
	task_free(t);
}

static void test_stop_with_term(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done");
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	assert_int_equal(s->last.traffic, MD_TRAFFIC_SERVING);
	assert_true(s->last.container->pid > 0);
	struct lines l = { 0 };
	struct agent_log_opts o = all_logs;
	o.follow = true;
	l.log = agent_log_open(f->a, t->meta.id, &o, on_line, on_log_done, &l);
	UNTIL(f, l.n == 1); /* the trap is set */
	t->desired_state = MD_TASK_SHUTDOWN;
	agent_assign(f->a, t, &no_deps); /* not drained: nothing happens */
	for (int i = 0; i < 5; i++)
		uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_int_equal(s->last.state, MD_TASK_RUNNING);
	assert_int_equal(s->flows, 0);
	t->drained = true;
	agent_assign(f->a, t, &no_deps);
	assert_int_equal(s->flows, 1);
	agent_flows_ended(f->a, t->meta.id);
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	assert_int_equal(s->last.state, MD_TASK_SHUTDOWN);
	assert_int_equal(s->last.container->exit_code, 0);
	UNTIL(f, l.done);
	assert_string_equal(buf_str(&l.text), "1:up\n1:bye\n");
	agent_log_close(l.log);
	buf_fini(&l.text);
	task_free(t);
}

static void test_stop_by_force(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "trap '' TERM; echo up; while :; do sleep 0.02; done");
	t->spec.container->stop_grace_period.v = 200 * NS_PER_MS;
	t->drained = true;
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	t->desired_state = MD_TASK_SHUTDOWN;
	agent_assign(f->a, t, &no_deps);
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	assert_int_equal(s->last.state, MD_TASK_SHUTDOWN);
	assert_int_equal(s->last.container->exit_code, 137);
	task_free(t);
}

static void test_ready_waits(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "exit 0");
	t->desired_state = MD_TASK_READY;
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_READY);
	for (int i = 0; i < 20; i++)
		uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_int_equal(s->last.state, MD_TASK_READY);
	t->desired_state = MD_TASK_RUNNING;
	run_to_end(f, t);
	assert_string_equal(s->path, "accepted preparing ready starting running complete");
	task_free(t);
}

static void test_listen_makes_serving(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "sleep 100");
	struct md_port *p = LIST_ADD(&t->endpoint.ports);
	p->protocol = MD_PROTO_TCP;
	p->target = 80;
	p->published = 8080;
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	assert_int_equal(s->last.traffic, MD_TRAFFIC_STARTING);
	assert_int_equal(s->listens, 1);
	agent_listening(f->a, t->meta.id);
	assert_int_equal(s->last.traffic, MD_TRAFFIC_SERVING);
	agent_remove(f->a, t->meta.id);
	task_free(t);
}

static void test_memory_limit_and_oom(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "exec tail /dev/zero");
	t->spec.resources = XNEW(struct md_resource_requirements);
	t->spec.resources->limits = XNEW(struct md_limit);
	t->spec.resources->limits->memory_bytes = 32 << 20;
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_FAILED);
	assert_string_equal(s->last.err, "task: non-zero exit (137): out of memory");
	assert_true(strs_has(&f->events, "oom"));
	task_free(t);
}

static void test_limits_are_set(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "sleep 100");
	struct cgroup_host h;
	char path[256], text[64] = "";
	cgroup_probe(&h);
	t->spec.resources = XNEW(struct md_resource_requirements);
	t->spec.resources->limits = XNEW(struct md_limit);
	*t->spec.resources->limits = (struct md_limit){ .nano_cpus = 250000000, .memory_bytes = 64 << 20, .pids = 33 };
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state == MD_TASK_RUNNING);
	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s/%s/pids.max", h.layout == CGROUP_V2 ? "" : "pids", f->cgroup,
	         t->meta.id);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_int_equal(atoi(text), 33);
	if (h.layout != CGROUP_V2) {
		snprintf(path, sizeof(path), "/sys/fs/cgroup/cpu%s/%s/cpu.cfs_quota_us", f->cgroup, t->meta.id);
		fd = open(path, O_RDONLY);
		assert_true(read(fd, text, sizeof(text) - 1) > 0);
		close(fd);
		assert_int_equal(atoi(text), 25000);
	}
	agent_remove(f->a, t->meta.id);
	task_free(t);
}

/* ---- secrets, configs, volumes, users ---- */

static bool grep_tree(const char *dir, const char *word)
{
	char cmd[512];
	snprintf(cmd, sizeof(cmd), "grep -rqs --exclude-dir=rootfs %s %s", word, dir);
	return system(cmd) == 0;
}

static void test_secrets_and_configs(void **state)
{
	NEED(f);
	struct md_secret sec = { .spec = { .name = (char *)"pw", .data = { (uint8_t *)"hunter2hunter", 13 } } };
	struct md_driver golang = { .name = (char *)"golang" };
	const char *text = "svc={{.Service.Name}} pw={{secret \"pw\"}} slot={{env \"SLOT\"}}\n";
	struct md_config conf = {
		.spec = { .name = (char *)"cf", .data = { (uint8_t *)text, strlen(text) }, .templating = &golang }
	};
	const struct md_secret *secs[] = { &sec };
	const struct md_config *confs[] = { &conf };
	struct agent_deps deps = { secs, 1, confs, 1, "node1", "host1" };
	mesh_id_make(&f->rng, sec.meta.id);
	mesh_id_make(&f->rng, conf.meta.id);
	struct md_task *t = task_new(f, "cat /run/secrets/pw; echo; cat /etc/cf; stat -c %a:%u /run/secrets/pw; "
	                                "echo x 2>/dev/null > /run/secrets/pw || echo ro; sleep 100");
	strs_add(&t->spec.container->env, "SLOT=one");
	struct md_secret_ref *r = LIST_ADD(&t->spec.container->secrets);
	strcpy(r->secret.s, sec.meta.id);
	r->secret_name = xstrdup("pw");
	r->file = XNEW(struct md_file_target);
	r->file->name = xstrdup("pw");
	r->file->uid = xstrdup("5");
	r->file->mode = 0400;
	struct md_config_ref *c = LIST_ADD(&t->spec.container->configs);
	strcpy(c->config.s, conf.meta.id);
	c->config_name = xstrdup("cf");
	c->file = XNEW(struct md_file_target);
	c->file->name = xstrdup("/etc/cf");
	agent_assign(f->a, t, &deps);
	struct seen *s = seen_of(f, t->meta.id);
	struct lines l = { 0 };
	struct agent_log_opts o = all_logs;
	o.follow = true;
	l.log = agent_log_open(f->a, t->meta.id, &o, on_line, on_log_done, &l);
	UNTIL(f, l.n == 4 || s->last.state > MD_TASK_RUNNING);
	assert_string_equal(buf_str(&l.text), "1:hunter2hunter\n1:svc=web pw=hunter2hunter slot=one\n1:400:5\n1:ro\n");
	agent_log_close(l.log);
	/* In the log because it was printed there, nowhere else. */
	char path[512];
	snprintf(path, sizeof(path), "%s/tasks/%s/log", f->state, t->meta.id);
	unlink(path);
	assert_false(grep_tree(f->state, "hunter2hunter"));
	agent_remove(f->a, t->meta.id);
	buf_fini(&l.text);
	task_free(t);
}

static void test_missing_secret(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "true");
	struct md_secret_ref *r = LIST_ADD(&t->spec.container->secrets);
	mesh_id_make(&f->rng, r->secret.s);
	r->secret_name = xstrdup("pw");
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_REJECTED);
	assert_string_equal(s->last.err, "secret pw not found");
	task_free(t);
}

static void test_volume_user_readonly(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "cat /data/seed; id; touch /x 2>/dev/null || echo readonly; pwd; "
	                                "touch /tmp/t && echo tmp");
	struct md_container_spec *c = t->spec.container;
	c->user = xstrdup("bob");
	c->dir = xstrdup("/tmp");
	c->read_only = true;
	struct md_mount *m = LIST_ADD(&c->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_VOLUME, .source = xstrdup("vol1"), .target = xstrdup("/data") };
	m = LIST_ADD(&c->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_TMPFS, .target = xstrdup("/tmp") };
	m->tmpfs = XNEW(struct md_tmpfs_options);
	m->tmpfs->mode = 01777;
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_COMPLETE);
	expect_log(f, t->meta.id,
	           "1:seed\n1:uid=1000(bob) gid=1000(bob) groups=44(extra)\n1:readonly\n1:/tmp\n1:tmp\n");
	struct agent_volume v;
	assert_int_equal(agent_volume_get(f->a, "vol1", &v, NULL), 0);
	assert_string_equal(v.driver, "local");
	sch_clear(&agent_volume_schema, &v);
	assert_int_equal(agent_volume_remove(f->a, "vol1", false, NULL), MESH_E_CONFLICT);
	agent_remove(f->a, t->meta.id);
	assert_int_equal(agent_volume_remove(f->a, "vol1", false, NULL), 0);
	assert_int_equal(agent_volume_get(f->a, "vol1", &v, NULL), MESH_E_NOT_FOUND);
	task_free(t);
}

static void test_bind_source_missing(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "true");
	struct md_mount *m = LIST_ADD(&t->spec.container->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_BIND, .source = xstrdup("/no/such/dir"), .target = xstrdup("/mnt") };
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_REJECTED);
	assert_non_null(strstr(s->last.err, "bind source path does not exist: /no/such/dir"));
	task_free(t);
}

static void test_init_reaps_and_forwards(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.02; done");
	t->spec.container->init = (struct opt_bool){ true, true };
	t->spec.container->tty = false;
	struct seen *s = assign(f, t);
	struct lines l = { 0 };
	struct agent_log_opts o = all_logs;
	o.follow = true;
	l.log = agent_log_open(f->a, t->meta.id, &o, on_line, on_log_done, &l);
	UNTIL(f, l.n == 1 || s->last.state > MD_TASK_RUNNING);
	assert_int_equal(s->last.state, MD_TASK_RUNNING);
	struct mesh_err err = { 0 };
	assert_int_equal(agent_kill_container(f->a, t->meta.id, "TERM", &err), 0);
	UNTIL(f, l.done);
	assert_string_equal(buf_str(&l.text), "1:up\n1:got\n");
	assert_string_equal(s->last.err, "task: non-zero exit (3)");
	agent_log_close(l.log);
	buf_fini(&l.text);
	task_free(t);
}

static void test_tty(void **state)
{
	NEED(f);
	struct md_task *t = task_new(f, "test -t 1 && echo tty");
	t->spec.container->tty = true;
	struct seen *s = run_to_end(f, t);
	assert_int_equal(s->last.state, MD_TASK_COMPLETE);
	expect_log(f, t->meta.id, "1:tty\r\n");
	task_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_runs_and_ends),
		TEST(test_exit_code),
		TEST(test_no_such_image),
		TEST(test_no_such_program),
		TEST(test_network_fails),
		TEST(test_stop_with_term),
		TEST(test_stop_by_force),
		TEST(test_ready_waits),
		TEST(test_listen_makes_serving),
		TEST(test_memory_limit_and_oom),
		TEST(test_limits_are_set),
		TEST(test_secrets_and_configs),
		TEST(test_missing_secret),
		TEST(test_volume_user_readonly),
		TEST(test_bind_source_missing),
		TEST(test_init_reaps_and_forwards),
		TEST(test_tty),
	};
	return RUN_TESTS(tests);
}
