/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: an agent with a real runtime and a double of the image store, for the tests of its parts. Skips where it cannot be. */
#ifndef TESTS_SUPPORT_AGENT_FIXTURE_H
#define TESTS_SUPPORT_AGENT_FIXTURE_H

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
static inline void on_images_closed(uv_handle_t *h)
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

static inline void on_pull(uv_timer_t *t)
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

static inline struct seen *seen_of(struct fix *f, const char *task)
{
	struct seen *s = map_get(&f->seen, task);
	if (!s) {
		s = XNEW(struct seen);
		map_put(&f->seen, task, s);
	}
	return s;
}

static inline void on_status(void *arg, const char *task, const struct md_task_status *st)
{
	struct seen *s = seen_of(arg, task);
	size_t n = strlen(s->path);
	snprintf(s->path + n, sizeof(s->path) - n, "%s%s", n ? " " : "", md_task_state_names.names[st->state]);
	sch_clear(&md_task_status_schema, &s->last);
	sch_copy(&md_task_status_schema, &s->last, st);
}

static inline void on_event(void *arg, const char *type, const char *action, const char *id,
                            const struct str_map *attrs)
{
	struct fix *f = arg;
	(void)type;
	(void)id;
	(void)attrs;
	strs_add(&f->events, action);
}

static inline void on_attach(void *arg, const struct md_task *t, int pid, int udp, int tcp)
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

static inline void on_detach(void *arg, const char *task)
{
	seen_of(arg, task)->detaches++;
}

static inline void on_watch_listen(void *arg, const char *task, const struct dp_port *ports, size_t n)
{
	assert_int_equal(n, 1);
	assert_int_equal(ports[0].target, 80);
	seen_of(arg, task)->listens++;
}

static inline void on_watch_flows(void *arg, const char *task)
{
	seen_of(arg, task)->flows++;
}

static inline void on_adopted(void *arg)
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
static inline void on_patience(uv_timer_t *t)
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

static inline void open_agent(struct fix *f)
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

static inline void on_agent_closed(void *arg)
{
	((struct fix *)arg)->closed = true;
}

static inline void close_agent(struct fix *f)
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

static inline void make_rootfs(struct fix *f)
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

static inline int setup(void **state)
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
static inline int teardown(void **state)
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

static inline struct md_task *task_new(struct fix *f, const char *script)
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

static inline void task_free(struct md_task *t)
{
	sch_free(&md_task_schema, t);
}

static const struct agent_deps no_deps = { .node_id = "node1", .node_hostname = "host1" };

static inline struct seen *assign(struct fix *f, const struct md_task *t)
{
	agent_assign(f->a, t, &no_deps);
	return seen_of(f, t->meta.id);
}

static inline struct seen *run_to_end(struct fix *f, const struct md_task *t)
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

static inline bool on_line(void *arg, int stream, int64_t time_ns, const char *line, size_t n)
{
	struct lines *l = arg;
	assert_true(time_ns > 0);
	buf_printf(&l->text, "%d:%.*s\n", stream, (int)n, line);
	l->n++;
	return !l->pause_each;
}

static inline void on_log_done(void *arg, int code, const struct mesh_err *err)
{
	struct lines *l = arg;
	(void)err;
	assert_false(l->done);
	l->done = true;
	l->code = code;
}

static const struct agent_log_opts all_logs = { .out = true, .err = true, .tail = -1 };

static inline void read_logs(struct fix *f, const char *task, struct lines *l)
{
	*l = (struct lines){ 0 };
	l->log = agent_log_open(f->a, task, &all_logs, on_line, on_log_done, l);
	UNTIL(f, l->done);
	agent_log_close(l->log);
}

static inline void expect_log(struct fix *f, const char *task, const char *text)
{
	struct lines l;
	read_logs(f, task, &l);
	assert_string_equal(buf_str(&l.text), text);
	buf_fini(&l.text);
}

/* ---- exec ---- */

struct execd {
	struct buf out, err_out;
	bool done;
	int code;
	struct mesh_err err;
};

static inline void on_exec_data(void *arg, int stream, const uint8_t *p, size_t n)
{
	struct execd *x = arg;
	buf_put(stream == 1 ? &x->out : &x->err_out, p, n);
}

static inline void on_exec_exit(void *arg, int code, const struct mesh_err *err)
{
	struct execd *x = arg;
	assert_false(x->done);
	x->done = true;
	x->code = code;
	x->err = *err;
}

static const struct agent_exec_ops exec_ops = { on_exec_data, on_exec_exit };

static inline struct agent_exec *exec_start(struct fix *f, const struct md_task *t, struct execd *x, bool tty, bool in,
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

static inline void exec_fini(struct execd *x)
{
	buf_fini(&x->out);
	buf_fini(&x->err_out);
}

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

static inline size_t pids_in(struct fix *f, const struct md_task *t)
{
	struct cgroup_host h;
	char cg[128];
	int pids[64];
	cgroup_probe(&h);
	snprintf(cg, sizeof(cg), "%s/%s", f->cgroup, t->meta.id);
	return cgroup_pids(&h, cg, pids, 64);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* TEST_ONLY in the environment picks one. */
#define RUN_TESTS(tests)                                                                                               \
	(getenv("TEST_ONLY") ? cmocka_set_test_filter(getenv("TEST_ONLY")) : (void)0,                                  \
	 cmocka_run_group_tests(tests, NULL, NULL))

#endif
