/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent with real containers: needs root, crun and a busybox; each is probed for, and the skip says which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/map.h"
#include "control/agent/agent_int.h"

#define PATIENCE_MS 30000

/* ---- a double of the image store: one image, "bb:1" ---- */

static struct image bb;
static uv_timer_t images_timer;

int images_open(uv_loop_t *loop, const char *dir, struct images **out, struct mesh_err *err)
{
	(void)dir;
	(void)err;
	uv_timer_init(loop, &images_timer);
	*out = (struct images *)&bb;
	return 0;
}

static void (*images_close_cb)(void *arg);
static void *images_close_arg;
static void on_images_closed(uv_handle_t *h)
{
	(void)h;
	images_close_cb(images_close_arg);
}

void images_close(struct images *im, void (*cb)(void *arg), void *arg)
{
	(void)im;
	images_close_cb = cb;
	images_close_arg = arg;
	uv_close((uv_handle_t *)&images_timer, on_images_closed);
}

const struct image *images_find(struct images *im, const char *ref)
{
	(void)im;
	return streq(ref, "bb:1") || streq(ref, bb.id) ? &bb : NULL;
}

static struct {
	char ref[64];
	images_cb cb;
	void *arg;
} pull;

static void on_pull(uv_timer_t *t)
{
	struct mesh_err err = { 0 };
	(void)t;
	int code = mesh_fail(&err, MESH_E_NOT_FOUND, "No such image: %s", pull.ref);
	pull.cb(pull.arg, code, NULL, &err);
}

void images_pull(struct images *im, const char *ref, const char *auth, bool policy_always, images_progress progress,
                 images_cb cb, void *arg)
{
	(void)im;
	(void)auth;
	(void)policy_always;
	(void)progress;
	snprintf(pull.ref, sizeof(pull.ref), "%s", ref);
	pull.cb = cb;
	pull.arg = arg;
	uv_timer_start(&images_timer, on_pull, 0, 0);
}

/* ---- the fixture ---- */

struct seen {           /* one task's statuses */
	char path[512]; /* "accepted preparing ..." */
	struct md_task_status last;
	int traffic;
	int attach_pid, attaches, detaches, flows, listens;
};

struct fix {
	uv_loop_t loop;
	struct agent *a;
	char dir[128], state[160], run[160], cgroup[64], shim[512];
	struct map seen;
	struct mesh_rng rng;
	bool hold_attach, closed, adopted, timeout;
	int attach_code;
	uv_timer_t patience;
	int64_t until;
	struct str_list events;
};

static struct seen *seen_of(struct fix *f, const char *task)
{
	struct seen *s = map_get(&f->seen, task);
	if (!s) {
		s = XNEW(struct seen);
		map_put(&f->seen, task, s);
	}
	return s;
}

static void on_status(void *arg, const char *task, const struct md_task_status *st)
{
	struct seen *s = seen_of(arg, task);
	size_t n = strlen(s->path);
	snprintf(s->path + n, sizeof(s->path) - n, "%s%s", n ? " " : "", md_task_state_names.names[st->state]);
	sch_clear(&md_task_status_schema, &s->last);
	sch_copy(&md_task_status_schema, &s->last, st);
}

static void on_event(void *arg, const char *type, const char *action, const char *id, const struct str_map *attrs)
{
	struct fix *f = arg;
	(void)type;
	(void)id;
	(void)attrs;
	strs_add(&f->events, action);
}

static void on_attach(void *arg, const struct md_task *t, int pid, int udp, int tcp)
{
	struct fix *f = arg;
	struct seen *s = seen_of(f, t->meta.id);
	s->attach_pid = pid;
	s->attaches++;
	assert_int_equal(udp, 100);
	assert_int_equal(tcp, 101);
	if (!f->hold_attach)
		agent_attached(f->a, t->meta.id, f->attach_code, f->attach_code ? "no such network" : NULL);
}

static void on_detach(void *arg, const char *task)
{
	seen_of(arg, task)->detaches++;
}

static void on_watch_listen(void *arg, const char *task, const struct dp_port *ports, size_t n)
{
	assert_int_equal(n, 1);
	assert_int_equal(ports[0].target, 80);
	seen_of(arg, task)->listens++;
}

static void on_watch_flows(void *arg, const char *task)
{
	seen_of(arg, task)->flows++;
}

static void on_adopted(void *arg)
{
	((struct fix *)arg)->adopted = true;
}

static const struct agent_ops ops = {
	.on_status = on_status,
	.on_event = on_event,
	.attach = on_attach,
	.detach = on_detach,
	.watch_listen = on_watch_listen,
	.watch_flows = on_watch_flows,
	.adopted = on_adopted,
};

/* A turn of the loop may block although a timer of the same turn made the condition true: hence the ticks. */
static void on_patience(uv_timer_t *t)
{
	struct fix *f = t->data;
	f->timeout = clock_mono_ns() > f->until;
}

/* Turns the loop until cond holds. */
#define UNTIL(f, cond)                                                                                                 \
	do {                                                                                                           \
		(f)->timeout = false;                                                                                  \
		(f)->until = clock_mono_ns() + PATIENCE_MS * NS_PER_MS;                                                \
		uv_timer_start(&(f)->patience, on_patience, 10, 10);                                                   \
		while (!(cond) && !(f)->timeout)                                                                       \
			uv_run(&(f)->loop, UV_RUN_ONCE);                                                               \
		uv_timer_stop(&(f)->patience);                                                                         \
		if (!(cond))                                                                                           \
			fail_msg("waited %d s for: %s", PATIENCE_MS / 1000, #cond);                                    \
	} while (0)

static void open_agent(struct fix *f)
{
	struct mesh_err err = { 0 };
	struct agent_config c = { .name = "mesh-t",
		                  .state_dir = f->state,
		                  .run_dir = f->run,
		                  .shim_path = f->shim,
		                  .runtime = "crun",
		                  .cgroup = f->cgroup };
	f->closed = f->adopted = false;
	if (agent_open(&f->loop, &c, &ops, f, &f->a, &err))
		fail_msg("%s", err.msg);
}

static void on_agent_closed(void *arg)
{
	((struct fix *)arg)->closed = true;
}

static void close_agent(struct fix *f)
{
	agent_close(f->a, on_agent_closed, f);
	UNTIL(f, f->closed);
	f->a = NULL;
}

static const char *why_not(void)
{
	if (geteuid())
		return "root";
	if (access("/usr/bin/crun", X_OK))
		return "crun";
	if (access("/bin/busybox", X_OK) && access("/usr/bin/busybox", X_OK))
		return "busybox";
	return NULL;
}

static void make_rootfs(struct fix *f)
{
	char cmd[1024], root[256];
	snprintf(root, sizeof(root), "%s/rootfs", f->dir);
	snprintf(cmd, sizeof(cmd),
	         "mkdir -p %s/bin %s/etc %s/tmp %s/data && cp $(command -v busybox) %s/bin/ && cd %s/bin && "
	         "for x in $(./busybox --list); do [ $x = busybox ] || ln -s busybox $x; done; "
	         "printf 'root:x:0:0::/root:/bin/sh\\nbob:x:1000:1000::/home/bob:/bin/sh\\n' > %s/etc/passwd; "
	         "printf 'root:x:0:\\nbob:x:1000:\\nextra:x:44:bob\\n' > %s/etc/group; echo seed > %s/data/seed",
	         root, root, root, root, root, root, root, root, root);
	assert_int_equal(system(cmd), 0);
	snprintf(bb.id, sizeof(bb.id), "sha256:%064d", 7);
	bb.rootfs = xstrdup(root);
	strs_add(&bb.config.env, "PATH=/bin");
	strs_add(&bb.config.env, "FROM_IMAGE=1");
	strs_add(&bb.config.cmd, "sleep");
	strs_add(&bb.config.cmd, "1000");
}

static int setup(void **state)
{
	if (why_not())
		return 0;
	struct fix *f = XNEW(struct fix);
	char self[256] = "";
	(void)!readlink("/proc/self/exe", self, sizeof(self) - 1);
	snprintf(f->shim, sizeof(f->shim), "%s/../../mesh-shim", dirname(self));
	strcpy(f->dir, "/tmp/mesh-agent-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
	snprintf(f->run, sizeof(f->run), "%s/run", f->dir);
	snprintf(f->cgroup, sizeof(f->cgroup), "/mesh-t-%d", getpid());
	mesh_rng_seed_random(&f->rng);
	make_rootfs(f);
	uv_loop_init(&f->loop);
	uv_timer_init(&f->loop, &f->patience);
	f->patience.data = f;
	open_agent(f);
	*state = f;
	return 0;
}

/* Whatever a test left behind: containers, shims, directories, cgroups. */
static int teardown(void **state)
{
	struct fix *f = *state;
	struct cgroup_host h;
	if (!f)
		return 0;
	if (!f->a)
		open_agent(f);
	UNTIL(f, f->adopted);
	bool purged = false;
	f->closed = false;
	agent_purge(f->a, on_agent_closed, f);
	UNTIL(f, f->closed);
	purged = f->closed;
	close_agent(f);
	cgroup_probe(&h);
	(void)!cgroup_kill_wait(&h, f->cgroup, 5000);
	cgroup_remove(&h, f->cgroup);
	uv_close((uv_handle_t *)&f->patience, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	int left = uv_loop_close(&f->loop);
	char cmd[256];
	snprintf(cmd, sizeof(cmd), "rm -rf --one-file-system %s", f->dir);
	int rc = system(cmd);
	MAP_FOREACH(&f->seen, e) {
		sch_clear(&md_task_status_schema, &((struct seen *)e->value)->last);
		free(e->value);
	}
	map_fini(&f->seen);
	strs_clear(&f->events);
	strs_clear(&bb.config.env);
	strs_clear(&bb.config.cmd);
	free(bb.rootfs);
	bb.rootfs = NULL;
	char path[128];
	snprintf(path, sizeof(path), "/sys/fs/cgroup/unified%s", f->cgroup);
	int cgroup_left = !access(path, F_OK);
	free(f);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (left || cgroup_left || !purged)
		fprintf(stderr, "left behind: handles %d cgroup %d\n", left, cgroup_left);
	return rc || left || cgroup_left;
}

#define NEED(f)                                                                                                        \
	struct fix *f = *state;                                                                                        \
	if (!f) {                                                                                                      \
		print_message("needs %s\n", why_not());                                                                \
		skip();                                                                                                \
	}

/* ---- tasks ---- */

static struct md_task *task_new(struct fix *f, const char *script)
{
	struct md_task *t = sch_new(&md_task_schema);
	mesh_id_make(&f->rng, t->meta.id);
	mesh_id_make(&f->rng, t->service.s);
	t->service_name = xstrdup("web");
	t->slot = 1;
	t->desired_state = MD_TASK_RUNNING;
	t->status.state = MD_TASK_ASSIGNED;
	struct md_container_spec *c = t->spec.container = XNEW(struct md_container_spec);
	c->image = xstrdup("bb:1");
	if (script) {
		strs_add(&c->command, "/bin/sh");
		strs_add(&c->command, "-c");
		strs_add(&c->command, script);
	}
	c->stop_grace_period = (struct opt_i64){ true, 5 * NS_PER_SEC };
	return t;
}

static void task_free(struct md_task *t)
{
	sch_free(&md_task_schema, t);
}

static const struct agent_deps no_deps = { .node_id = "node1", .node_hostname = "host1" };

static struct seen *assign(struct fix *f, const struct md_task *t)
{
	agent_assign(f->a, t, &no_deps);
	return seen_of(f, t->meta.id);
}

static struct seen *run_to_end(struct fix *f, const struct md_task *t)
{
	struct seen *s = assign(f, t);
	UNTIL(f, s->last.state > MD_TASK_RUNNING);
	return s;
}

/* ---- logs ---- */

struct lines {
	struct buf text; /* "1:line\n" */
	size_t n;
	bool done, pause_each;
	int code;
	struct agent_log *log;
};

static bool on_line(void *arg, int stream, int64_t time_ns, const char *line, size_t n)
{
	struct lines *l = arg;
	assert_true(time_ns > 0);
	buf_printf(&l->text, "%d:%.*s\n", stream, (int)n, line);
	l->n++;
	return !l->pause_each;
}

static void on_log_done(void *arg, int code, const struct mesh_err *err)
{
	struct lines *l = arg;
	(void)err;
	assert_false(l->done);
	l->done = true;
	l->code = code;
}

static const struct agent_log_opts all_logs = { .out = true, .err = true, .tail = -1 };

static void read_logs(struct fix *f, const char *task, struct lines *l)
{
	*l = (struct lines){ 0 };
	l->log = agent_log_open(f->a, task, &all_logs, on_line, on_log_done, l);
	UNTIL(f, l->done);
	agent_log_close(l->log);
}

static void expect_log(struct fix *f, const char *task, const char *text)
{
	struct lines l;
	read_logs(f, task, &l);
	assert_string_equal(buf_str(&l.text), text);
	buf_fini(&l.text);
}

/* ---- tests ---- */

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
	const char *text = "svc={{.Service.Name}}\n";
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
	assert_string_equal(buf_str(&l.text), "1:hunter2hunter\n1:svc=web\n1:400:5\n1:ro\n");
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

/* ---- exec ---- */

struct execd {
	struct buf out, err_out;
	bool done;
	int code;
	struct mesh_err err;
};

static void on_exec_data(void *arg, int stream, const uint8_t *p, size_t n)
{
	struct execd *x = arg;
	buf_put(stream == 1 ? &x->out : &x->err_out, p, n);
}

static void on_exec_exit(void *arg, int code, const struct mesh_err *err)
{
	struct execd *x = arg;
	assert_false(x->done);
	x->done = true;
	x->code = code;
	x->err = *err;
}

static const struct agent_exec_ops exec_ops = { on_exec_data, on_exec_exit };

static struct agent_exec *exec_start(struct fix *f, const struct md_task *t, struct execd *x, bool tty, bool in,
                                     const char *const *argv)
{
	struct agent_exec_spec spec = { .tty = tty, .stdin_ = in, .rows = 40, .cols = 100 };
	struct agent_exec *e = NULL;
	struct mesh_err err = { 0 };
	*x = (struct execd){ 0 };
	for (; *argv; argv++)
		strs_add(&spec.cmd, *argv);
	if (agent_exec_start(f->a, t->meta.id, &spec, &exec_ops, x, &e, &err))
		fail_msg("%s", err.msg);
	strs_clear(&spec.cmd);
	return e;
}

static void exec_fini(struct execd *x)
{
	buf_fini(&x->out);
	buf_fini(&x->err_out);
}

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

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

static size_t pids_in(struct fix *f, const struct md_task *t)
{
	struct cgroup_host h;
	char cg[128];
	int pids[64];
	cgroup_probe(&h);
	snprintf(cg, sizeof(cg), "%s/%s", f->cgroup, t->meta.id);
	return cgroup_pids(&h, cg, pids, 64);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(test_exec),
		TEST(test_exec_kill_takes_children),
		TEST(test_health_gates_running),
		TEST(test_hung_health_check_is_killed),
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
	const char *only = getenv("TEST_ONLY");
	if (only)
		cmocka_set_test_filter(only);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
