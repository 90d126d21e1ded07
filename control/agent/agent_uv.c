/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/agent_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/agent/shim/shim.h"

/* ---- the record on disk ---- */

#define T struct task_rec
static const struct sch_field task_rec_fields[] = {
	SF_OBJ(1, "task", task, &md_task_schema, 0),
	SF(2, STR, "container_id", container_id, 0),
	SF(3, STR, "image_id", image_id, 0),
	SF(4, STR, "node_id", node_id, 0),
	SF(5, STR, "node_hostname", node_hostname, 0),
	SF(6, STR, "boot_id", boot_id, 0),
	SF(7, TIME, "created_at", created_at, 0),
	SF(8, TIME, "started_at", started_at, 0),
	SF(9, TIME, "finished_at", finished_at, 0),
	SF(10, I64, "exit_code", exit_code, 0),
	SF(11, I64, "pid", pid, 0),
	SF(12, BOOL, "oom", oom, 0),
	SF(13, BOOL, "spawned", spawned, 0),
	SF(14, BOOL, "ended", ended, 0),
	SF(15, BOOL, "removed", removed, 0),
	SF(16, BOOL, "host_network", host_network, 0),
	SF(17, BOOL, "health", health, 0),
};
#undef T
SCHEMA(task_rec_schema, task_rec, task_rec_fields);

static void save(struct atask *t)
{
	struct buf b = { 0 };
	struct mesh_err err = { 0 };
	struct md_container_spec *c = t->rec.task.spec.container;
	/* Credentials come again with the next assignment; they do not belong on the disk. */
	char *auth = c ? TAKE(c->pull_auth) : NULL;
	sch_encode(&task_rec_schema, &t->rec, &b);
	if (c)
		c->pull_auth = auth;
	CLEAN_FREE char *path = xasprintf("%s/task", t->dir);
	if (file_write(path, b.data, b.len, 0600, &err))
		log_error("cannot record a task; a restart of meshd will not know it task=%s reason=%s",
		          t->rec.task.meta.id, err.msg);
	buf_fini(&b);
}

/* ---- life of the agent: what is still open ---- */

static void maybe_closed(struct agent *a);

void agent_unpend(struct agent *a)
{
	a->pending--;
	maybe_closed(a);
}

static void work_run(uv_work_t *req)
{
	struct agent_work *w = CONTAINER_OF(req, struct agent_work, req);
	w->run(w);
}

static void work_done(uv_work_t *req, int status)
{
	(void)status;
	struct agent_work *w = CONTAINER_OF(req, struct agent_work, req);
	struct agent *a = w->a;
	w->done(w);
	agent_unpend(a);
}

void agent_work_start(struct agent *a, struct agent_work *w)
{
	w->a = a;
	a->pending++;
	if (uv_queue_work(a->loop, &w->req, work_run, work_done))
		abort(); /* only for a NULL callback */
}

static void images_gone(void *arg)
{
	struct agent *a = arg;
	a->images_closed = true;
	maybe_closed(a);
}

static void free_agent(struct agent *a)
{
	map_fini(&a->tasks);
	vec_fini(&a->spawn_queue);
	vec_fini(&a->logs);
	vec_fini(&a->execs);
	vec_fini(&a->attaches);
	free(a->name);
	free(a->state_dir);
	free(a->run_dir);
	free(a->shim);
	free(a->runtime);
	free(a->cgroup);
	free(a->tasks_dir);
	free(a->volumes_dir);
	free(a->crun_root);
	free(a);
}

static void maybe_closed(struct agent *a)
{
	if (!a->closing || a->pending || a->tasks.count)
		return;
	if (a->images && !a->images_closed) {
		struct images *im = TAKE(a->images);
		images_close(im, images_gone, a);
		return;
	}
	if (!a->images_closed)
		return;
	void (*cb)(void *arg) = a->close_cb;
	void *arg = a->close_arg;
	free_agent(a);
	if (cb)
		cb(arg);
}

/* ---- life of a task ---- */

static struct atask *atask_new(struct agent *a, const char *id)
{
	struct atask *t = XNEW(struct atask);
	t->a = a;
	t->dir = xasprintf("%s/%s", a->tasks_dir, id);
	t->cg = xasprintf("%s/%s", a->cgroup, id);
	map_put(&a->tasks, id, t);
	return t;
}

static void free_task(struct atask *t)
{
	sch_clear(&task_rec_schema, &t->rec);
	mesh_wipe(t->files.data, t->files.cap);
	buf_fini(&t->files);
	vec_fini(&t->waiters);
	free(t->dir);
	free(t->cg);
	free(t->name);
	free(t);
}

static void run_waiters(struct atask *t, int code)
{
	while (t->waiters.len) {
		struct stop_waiter w = t->waiters.data[0];
		vec_remove(&t->waiters, 0);
		w.cb(w.arg, code, NULL);
	}
}

struct forget_work {
	struct agent_work w;
	char *dir, *cg;
};

static void forget_run(struct agent_work *w)
{
	struct forget_work *f = CONTAINER_OF(w, struct forget_work, w);
	cgroup_remove(&w->a->cg, f->cg);
	tree_remove(f->dir);
}

static void check_purged(struct agent *a)
{
	if (!a->purge_cb || a->tasks.count || a->forgetting)
		return;
	cgroup_remove(&a->cg, a->cgroup);
	void (*cb)(void *arg) = a->purge_cb;
	a->purge_cb = NULL;
	cb(a->purge_arg);
}

static void forget_done(struct agent_work *w)
{
	struct forget_work *f = CONTAINER_OF(w, struct forget_work, w);
	w->a->forgetting--;
	check_purged(w->a);
	free(f->dir);
	free(f->cg);
	free(f);
}

/* Nothing of it is running any more, no handle, no work: leave (closing) or remove its files (forgotten). */
static void maybe_gone(struct atask *t)
{
	struct agent *a = t->a;
	bool idle = !t->works && !t->sock_on && !t->proc_on && !t->timer_on && !t->closing_handles && !t->health;
	if (!idle || !(t->forget || a->closing))
		return;
	map_del(&a->tasks, t->rec.task.meta.id);
	for (size_t i = a->spawn_queue.len; i-- > 0;)
		if (a->spawn_queue.data[i] == t)
			vec_remove(&a->spawn_queue, i);
	run_waiters(t, 0);
	if (t->forget && !a->closing) {
		if (!t->replaced)
			agent_emit(t, "destroy", NULL, NULL);
		struct forget_work *f = XNEW(struct forget_work);
		f->dir = xstrdup(t->dir);
		f->cg = xstrdup(t->cg);
		f->w.run = forget_run;
		f->w.done = forget_done;
		a->forgetting++;
		agent_work_start(a, &f->w);
	}
	free_task(t);
	maybe_closed(a);
}

static void on_handle_closed(uv_handle_t *h)
{
	struct atask *t = h->data;
	struct agent *a = t->a;
	t->closing_handles--;
	maybe_gone(t);
	agent_unpend(a);
}

static void close_handle(struct atask *t, void *h, bool *on)
{
	if (!*on)
		return;
	*on = false;
	t->closing_handles++;
	t->a->pending++;
	uv_close(h, on_handle_closed);
}

static void on_timer(uv_timer_t *timer)
{
	struct atask *t = timer->data;
	atask_event(t, &(struct tk_event){ .kind = TK_TIMEOUT });
}

static void set_timer(struct atask *t, int64_t ms)
{
	if (!t->timer_on) {
		if (!ms || t->a->closing)
			return;
		uv_timer_init(t->a->loop, &t->timer);
		t->timer.data = t;
		t->timer_on = true;
	}
	uv_timer_stop(&t->timer);
	if (ms)
		uv_timer_start(&t->timer, on_timer, (uint64_t)ms, 0);
}

/* ---- saying what happened ---- */

void agent_emit(struct atask *t, const char *action, const char *key, const char *value)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	if (!t->a->ops->on_event || !t->rec.container_id)
		return;
	struct str_map m = { 0 };
	for (size_t i = 0; c && i < c->labels.n; i++)
		smap_set(&m, c->labels.v[i].key, c->labels.v[i].value);
	if (!md_task_standalone(&t->rec.task)) {
		smap_set(&m, "com.docker.swarm.node.id", t->rec.node_id ? t->rec.node_id : "");
		smap_set(&m, "com.docker.swarm.service.id", t->rec.task.service.s);
		smap_set(&m, "com.docker.swarm.service.name", t->rec.task.service_name ? t->rec.task.service_name : "");
		smap_set(&m, "com.docker.swarm.task.id", t->rec.task.meta.id);
		smap_set(&m, "com.docker.swarm.task.name", t->name);
	}
	if (key)
		smap_set(&m, key, value);
	smap_set(&m, "image", c && c->image ? c->image : "");
	smap_set(&m, "name", t->name);
	t->a->ops->on_event(t->a->arg, "container", action, t->rec.container_id, &m);
	smap_clear(&m);
}

static void host_ports(const struct atask *t, struct md_task_status *s)
{
	if (s->ports.ports.n)
		return;
	for (size_t i = 0; i < t->rec.task.endpoint.ports.n; i++) {
		const struct md_port *p = &t->rec.task.endpoint.ports.v[i];
		if (p->mode == MD_PUBLISH_HOST)
			sch_copy(&md_port_schema, LIST_ADD(&s->ports.ports), p);
	}
}

static void tell_status(struct atask *t, const struct tk_action *act)
{
	struct md_task_status *s = &t->rec.task.status;
	s->timestamp = clock_wall_ns();
	s->state = act->state;
	s->traffic = act->traffic;
	str_set(&s->message, act->msg);
	str_set(&s->err, act->err[0] ? act->err : NULL);
	if (t->rec.container_id) {
		if (!s->container)
			s->container = XNEW(struct md_container_status);
		str_set(&s->container->container_id, t->rec.container_id);
		s->container->pid = t->rec.pid;
		s->container->exit_code = t->rec.exit_code;
	}
	if (tk_running(&t->sm))
		host_ports(t, s);
	save(t);
	t->a->ops->on_status(t->a->arg, t->rec.task.meta.id, s);
}

/* ---- actions ---- */

static const struct image *image_of(struct atask *t)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	const struct image *im = t->rec.image_id ? images_find(t->a->images, t->rec.image_id) : NULL;
	return im || !c || !c->image ? im : images_find(t->a->images, c->image);
}

static void use_image(struct atask *t, const struct image *im)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	struct md_health h;
	str_set(&t->rec.image_id, im->id);
	t->sm.has_health = t->rec.health = oci_health(c->health, im->config.health, &h);
	atask_event(t, &(struct tk_event){ .kind = TK_IMAGE_OK });
}

static void on_pulled(void *arg, int code, const struct image *image, const struct mesh_err *err)
{
	struct atask *t = arg;
	t->works--;
	if (!code && image)
		use_image(t, image);
	else
		atask_event(t, &(struct tk_event){
				       .kind = TK_IMAGE_FAILED, .code = code, .text = mesh_err_text(err, code) });
	maybe_gone(t);
}

static void do_pull(struct atask *t)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	struct tk_event failed = { .kind = TK_IMAGE_FAILED };
	if (!c || !c->image || !*c->image) {
		failed.text = "the task has no container spec";
		atask_event(t, &failed);
		return;
	}
	const struct image *im = images_find(t->a->images, c->image);
	if (im) {
		use_image(t, im);
		return;
	}
	t->works++;
	images_pull(t->a->images, c->image, c->pull_auth, false, NULL, on_pulled, t);
}

static int volume_cb(void *arg, const struct md_mount *m, struct oci_volume *out, struct mesh_err *err)
{
	return volume_resolve(arg, m, out, err);
}

void oci_ctx_init(struct oci_ctx *c, struct atask *t, const struct image *im, const char *root)
{
	const struct md_task *task = &t->rec.task;
	static struct utsname un;
	if (!un.machine[0])
		uname(&un);
	*c = (struct oci_ctx){ .passwd = oci_read_in_root(root, "/etc/passwd"),
		               .group = oci_read_in_root(root, "/etc/group") };
	if (task->slot)
		snprintf(c->slot, sizeof(c->slot), "%llu", (unsigned long long)task->slot);
	else
		snprintf(c->slot, sizeof(c->slot), "%s", t->rec.node_id ? t->rec.node_id : "");
	c->vars = (struct tmpl_vars){
		.service_id = task->service.s,
		.service_name = task->service_name,
		.service_labels = &task->service_labels,
		.node_id = t->rec.node_id,
		.node_hostname = t->rec.node_hostname,
		.node_os = "linux",
		.node_arch = un.machine,
		.task_id = task->meta.id,
		.task_name = t->name,
		.task_slot = c->slot,
	};
	c->in = (struct oci_in){
		.task = task,
		.image = im ? &im->config : NULL,
		.vars = &c->vars,
		.host = &t->a->host,
		.container_id = t->rec.container_id,
		.dir = t->dir,
		.cgroup = t->cg,
		.shim = t->a->shim,
		.passwd = c->passwd,
		.group = c->group,
		.host_network = t->rec.host_network,
		.volume = volume_cb,
		.arg = t->a,
	};
}

void oci_ctx_fini(struct oci_ctx *c)
{
	free(c->passwd);
	free(c->group);
}

struct prep_work {
	struct agent_work w;
	struct atask *t;
	struct prep p;
};

static void prep_work_run(struct agent_work *w)
{
	prep_run(&CONTAINER_OF(w, struct prep_work, w)->p);
}

static void prep_work_done(struct agent_work *w)
{
	struct prep_work *pw = CONTAINER_OF(w, struct prep_work, w);
	struct atask *t = pw->t;
	struct tk_event e = { .kind = TK_PREPARED };
	if (pw->p.rc)
		e = (struct tk_event){ .kind = TK_PREPARE_FAILED, .text = mesh_err_text(&pw->p.err, pw->p.rc) };
	else
		agent_emit(t, "create", NULL, NULL);
	t->works--;
	atask_event(t, &e);
	maybe_gone(t);
	free(pw->p.dir);
	free(pw->p.lower);
	free(pw->p.cg);
	oci_out_fini(&pw->p.out);
	free(pw);
}

static void do_prepare(struct atask *t)
{
	const struct image *im = image_of(t);
	struct mesh_err err = { 0 };
	struct tk_event failed = { .kind = TK_PREPARE_FAILED, .text = err.msg };
	if (!im) {
		failed.text = "the image was removed meanwhile";
		atask_event(t, &failed);
		return;
	}
	struct prep_work *pw = XNEW(struct prep_work);
	struct oci_ctx c;
	oci_ctx_init(&c, t, im, im->rootfs);
	int rc = t->files_set ? 0 : mesh_fail(&err, MESH_E_NOT_FOUND, "%s", (const char *)buf_str(&t->files));
	if (!rc)
		rc = oci_spec_make(&c.in, &pw->p.out, &err);
	oci_ctx_fini(&c);
	if (rc) {
		free(pw);
		atask_event(t, &failed);
		return;
	}
	pw->t = t;
	pw->p.dir = xstrdup(t->dir);
	pw->p.lower = xstrdup(im->rootfs);
	pw->p.cg = xstrdup(t->cg);
	pw->p.host = &t->a->cg;
	pw->w.run = prep_work_run;
	pw->w.done = prep_work_done;
	t->works++;
	agent_work_start(t->a, &pw->w);
}

/* ---- the shim ---- */

static void order(struct atask *t, const char *fmt, ...) MESH_PRINTF(2, 3);
static void order(struct atask *t, const char *fmt, ...)
{
	char line[128];
	if (!t->sock_on)
		return;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	uv_buf_t b = uv_buf_init(line, (unsigned)n);
	int rc = uv_try_write((uv_stream_t *)&t->sock, &b, 1);
	if (rc != n)
		log_warn("order to a shim failed task=%s order=%.*s", t->rec.task.meta.id, n - 1, line);
}

static void on_shim_exit(uv_process_t *p, int64_t status, int sig)
{
	struct atask *t = p->data;
	log_debug("shim ended task=%s status=%lld signal=%d", t->rec.task.meta.id, (long long)status, sig);
	close_handle(t, &t->proc, &t->proc_on);
}

static void next_spawn(struct agent *a);

static void creating_over(struct atask *t)
{
	if (!t->creating)
		return;
	t->creating = false;
	t->a->creating--;
	next_spawn(t->a);
}

/* "exit CODE OOM START END TEXT", from the socket or TASK/exit. */
static void shim_exit(struct atask *t, const char *line)
{
	int code, used = 0;
	long oom;
	long long start, end;
	if (t->exit_seen || sscanf(line, "exit %d %ld %lld %lld %n", &code, &oom, &start, &end, &used) < 4 || !used)
		return;
	t->exit_seen = true;
	t->rec.exit_code = code;
	t->rec.oom = oom > 0;
	t->rec.finished_at = end;
	if (start)
		t->rec.started_at = start;
	t->rec.pid = 0;
	t->rec.ended = true;
	creating_over(t);
	char exit_text[16];
	snprintf(exit_text, sizeof(exit_text), "%d", code);
	if (oom > 0)
		agent_emit(t, "oom", NULL, NULL);
	agent_emit(t, "die", "exitCode", exit_text);
	atask_event(t, &(struct tk_event){ .kind = TK_EXIT, .code = code, .oom = oom > 0, .text = line + used });
}

static void shim_line(struct atask *t, const char *line)
{
	int pid;
	long long start = 0;
	if (sscanf(line, "created %d", &pid) == 1) {
		t->rec.pid = pid;
		creating_over(t);
		if (t->rows || t->cols)
			order(t, "resize %u %u\n", t->rows, t->cols);
		agent_attaches_connect(t);
		atask_event(t, &(struct tk_event){ .kind = TK_CREATED });
	} else if (sscanf(line, "running %d %lld", &pid, &start) >= 1) {
		t->rec.pid = pid;
		t->rec.started_at = start;
		creating_over(t);
		if (t->sm.phase != TK_RUN)
			agent_emit(t, "start", NULL, NULL);
		atask_event(t, &(struct tk_event){ .kind = TK_STARTED });
	} else if (!strncmp(line, "exit ", 5)) {
		shim_exit(t, line);
	}
}

struct orphan_work {
	struct agent_work w;
	struct atask *t;
	char *dir, *cg, *id;
};

static void orphan_run(struct agent_work *w)
{
	struct orphan_work *o = CONTAINER_OF(w, struct orphan_work, w);
	orphan_clean(w->a, o->dir, o->cg, o->id);
}

static void orphan_done(struct agent_work *w)
{
	struct orphan_work *o = CONTAINER_OF(w, struct orphan_work, w);
	struct atask *t = o->t;
	t->works--;
	char line[128];
	bool rebooted = t->rec.boot_id && strcmp(t->rec.boot_id, w->a->boot_id);
	snprintf(line, sizeof(line), "exit -1 0 %lld %lld %s", (long long)t->rec.started_at, (long long)clock_wall_ns(),
	         rebooted ? "the node was restarted" : "supervisor died");
	shim_exit(t, line);
	maybe_gone(t);
	free(o->dir);
	free(o->cg);
	free(o->id);
	free(o);
}

static char *read_text(const char *dir, const char *file)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", dir, file);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[1024];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	return n > 0 ? xstrndup(text, (size_t)n) : NULL;
}

/* The shim is gone. With an exit file all is well; without one it was killed, and its container is an orphan. */
static void shim_gone(struct atask *t)
{
	CLEAN_FREE char *line = t->exit_seen ? NULL : read_text(t->dir, "exit");
	if (line)
		shim_exit(t, line);
	if (!t->exit_seen && t->rec.spawned && !t->a->closing) {
		struct orphan_work *o = XNEW(struct orphan_work);
		o->t = t;
		o->dir = xstrdup(t->dir);
		o->cg = xstrdup(t->cg);
		o->id = xstrdup(t->rec.container_id);
		o->w.run = orphan_run;
		o->w.done = orphan_done;
		t->works++;
		agent_work_start(t->a, &o->w);
	}
	maybe_gone(t);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
	(void)want;
	struct atask *t = h->data;
	*b = uv_buf_init(t->in + t->in_len, (unsigned)(sizeof(t->in) - 1 - t->in_len));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	(void)b;
	struct atask *t = s->data;
	if (n < 0) {
		close_handle(t, &t->sock, &t->sock_on);
		shim_gone(t);
		return;
	}
	t->in_len += (size_t)n;
	t->in[t->in_len] = 0;
	for (char *nl; (nl = strchr(t->in, '\n'));) {
		char line[sizeof(t->in)];
		*nl = 0;
		memcpy(line, t->in, (size_t)(nl - t->in) + 1);
		t->in_len -= (size_t)(nl + 1 - t->in);
		memmove(t->in, nl + 1, t->in_len + 1);
		shim_line(t, line);
		if (!t->sock_on)
			return;
	}
	if (t->in_len == sizeof(t->in) - 1)
		t->in_len = 0; /* nothing the shim says is that long */
}

static void sock_start(struct atask *t, int fd)
{
	uv_pipe_init(t->a->loop, &t->sock, 0);
	t->sock.data = t;
	t->sock_on = true;
	t->in_len = 0;
	if (uv_pipe_open(&t->sock, fd)) {
		close(fd);
		close_handle(t, &t->sock, &t->sock_on);
		return;
	}
	uv_read_start((uv_stream_t *)&t->sock, on_alloc, on_read);
}

static void put_key(struct buf *b, const char *key, const char *fmt, ...) MESH_PRINTF(3, 4);
static void put_key(struct buf *b, const char *key, const char *fmt, ...)
{
	char value[4096];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	buf_put(b, key, strlen(key) + 1);
	buf_put(b, value, strlen(value) + 1);
}

/* "10m", "1g", "-1" */
static int64_t size_of(const char *s, int64_t dflt)
{
	char *end;
	if (!s || !*s)
		return dflt;
	double v = strtod(s, &end);
	switch (*end) {
	case 'k':
	case 'K':
		v *= 1 << 10;
		break;
	case 'm':
	case 'M':
		v *= 1 << 20;
		break;
	case 'g':
	case 'G':
		v *= 1 << 30;
		break;
	default:
		break;
	}
	return v <= 0 || v > 1e15 ? 0 : (int64_t)v;
}

static void put_log_conf(struct buf *b, const struct md_driver *d)
{
	bool none = d && streq(d->name, "none");
	const char *files = d ? smap_get(&d->options, "max-file") : NULL;
	put_key(b, "log", "%d", none ? 0 : 1);
	put_key(b, "log_max", "%lld", (long long)size_of(d ? smap_get(&d->options, "max-size") : NULL, 10 << 20));
	put_key(b, "log_files", "%d", files && atoi(files) > 0 ? atoi(files) : 5);
}

static int conf_fd(struct atask *t, const struct image *im)
{
	const struct agent *a = t->a;
	const struct md_container_spec *c = t->rec.task.spec.container;
	char oom[512], kill_path[512];
	struct buf b = { 0 };
	cgroup_oom_path(&a->cg, t->cg, oom, sizeof(oom));
	cgroup_kill_path(&a->cg, t->cg, kill_path, sizeof(kill_path));
	put_key(&b, "dir", "%s", t->dir);
	put_key(&b, "id", "%s", t->rec.container_id);
	put_key(&b, "runtime", "%s", a->runtime);
	put_key(&b, "root", "%s", a->crun_root);
	put_key(&b, "lower", "%s", im->rootfs);
	if (a->cg.mask)
		put_key(&b, "mask", "%s/cgroup.controllers", a->cg.unified);
	put_key(&b, "oom", "%s", oom);
	put_key(&b, "kill", "%s", kill_path);
	put_key(&b, "netns", "%d", !t->rec.host_network);
	put_key(&b, "dns", "%d", !t->rec.host_network);
	put_key(&b, "tty", "%d", c->tty);
	put_key(&b, "stdin", "%d", c->open_stdin);
	if (md_task_standalone(&t->rec.task))
		put_key(&b, "stdin_once", "%d", t->rec.task.spec.attachment->stdin_once);
	put_log_conf(&b, t->rec.task.spec.log_driver);
	buf_put_u8(&b, 0);
	buf_put(&b, t->files.data, t->files.len);
	int fd = memfd_create("mesh-task", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, b.data, b.len) != (ssize_t)b.len) {
		close(fd);
		fd = -1;
	}
	mesh_wipe(b.data, b.cap);
	buf_fini(&b);
	mesh_wipe(t->files.data, t->files.cap);
	buf_fini(&t->files);
	return fd;
}

static int spawn_shim(struct atask *t, struct mesh_err *err)
{
	const struct image *im = image_of(t);
	int sv[2];
	if (!im)
		return mesh_fail(err, MESH_E_NOT_FOUND, "the image was removed meanwhile");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return mesh_fail(err, -errno, "socketpair");
	CLEAN_CLOSE int conf = conf_fd(t, im);
	char *args[] = { t->a->shim, t->rec.task.meta.id, NULL };
	uv_stdio_container_t io[5] = {
		[3] = { .flags = UV_INHERIT_FD, .data.fd = sv[1] }, [4] = { .flags = UV_INHERIT_FD, .data.fd = conf }
	};
	uv_process_options_t o = {
		.file = t->a->shim,
		.args = args,
		.flags = UV_PROCESS_DETACHED,
		.stdio_count = 5,
		.stdio = io,
		.exit_cb = on_shim_exit,
	};
	t->rec.spawned = true;
	save(t);
	int rc = conf < 0 ? -EIO : uv_spawn(t->a->loop, &t->proc, &o);
	t->proc.data = t;
	t->proc_on = true;
	close(sv[1]);
	if (rc) {
		close(sv[0]);
		close_handle(t, &t->proc, &t->proc_on);
		return mesh_fail(err, rc, "%s", t->a->shim);
	}
	t->shim_pid = t->proc.pid;
	sock_start(t, sv[0]);
	return 0;
}

static void spawn_now(struct atask *t)
{
	struct mesh_err err = { 0 };
	t->creating = true;
	t->a->creating++;
	if (!spawn_shim(t, &err))
		return;
	char line[1024];
	long long now = clock_wall_ns();
	snprintf(line, sizeof(line), "exit -1 0 0 %lld %s", now, err.msg);
	shim_exit(t, line);
}

static void next_spawn(struct agent *a)
{
	while (a->spawn_queue.len && a->creating < AGENT_CREATES_MAX && !a->closing) {
		struct atask *t = a->spawn_queue.data[0];
		vec_remove(&a->spawn_queue, 0);
		t->queued = false;
		spawn_now(t);
	}
}

static void do_spawn(struct atask *t)
{
	if (t->a->creating < AGENT_CREATES_MAX) {
		spawn_now(t);
		return;
	}
	t->queued = true;
	vec_push(&t->a->spawn_queue, t);
}

/* Its network is the host's, or nothing but loopback. */
static bool no_wiring(const struct atask *t)
{
	const struct md_task *task = &t->rec.task;
	return t->rec.host_network || (md_task_standalone(task) && task->spec.attachment->no_network);
}

static void do_attach(struct atask *t)
{
	if (no_wiring(t)) {
		atask_event(t, &(struct tk_event){ .kind = TK_ATTACHED });
		return;
	}
	t->a->ops->attach(t->a->arg, &t->rec.task, t->shim_pid, SHIM_DNS_UDP_FD, SHIM_DNS_TCP_FD);
}

static void do_kill(struct atask *t)
{
	if (t->queued) { /* never spawned */
		for (size_t i = t->a->spawn_queue.len; i-- > 0;)
			if (t->a->spawn_queue.data[i] == t)
				vec_remove(&t->a->spawn_queue, i);
		t->queued = false;
		char line[128];
		snprintf(line, sizeof(line), "exit -1 0 0 %lld stopped before it started", (long long)clock_wall_ns());
		shim_exit(t, line);
		return;
	}
	order(t, "abort\nsig 9\n");
	if (t->sm.timed_out && t->shim_pid > 0)
		kill(-t->shim_pid, SIGKILL); /* it leads its own session: the runtime dies with it */
	char path[512];
	cgroup_kill_path(&t->a->cg, t->cg, path, sizeof(path));
	CLEAN_CLOSE int fd = path[0] ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	if (fd >= 0)
		(void)!write(fd, "1", 1);
}

static void do_signal(struct atask *t)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	const struct image *im = image_of(t);
	int sig = oci_signal_parse(c ? c->stop_signal : NULL);
	if (!sig && im)
		sig = oci_signal_parse(im->config.stop_signal);
	sig = sig ? sig : SIGTERM;
	char text[8];
	snprintf(text, sizeof(text), "%d", sig);
	order(t, "sig %d\n", sig);
	agent_emit(t, "kill", "signal", text);
}

static int proto_number(int proto)
{
	return proto == MD_PROTO_UDP ? 17 : proto == MD_PROTO_SCTP ? 132 : 6;
}

static void do_watch_listen(struct atask *t)
{
	const struct md_endpoint_spec *e = &t->rec.task.endpoint;
	struct dp_port *ports = xcalloc(e->ports.n + 1, sizeof(*ports));
	for (size_t i = 0; i < e->ports.n; i++)
		ports[i] = (struct dp_port){ proto_number(e->ports.v[i].protocol), e->ports.v[i].published,
			                     e->ports.v[i].target };
	t->a->ops->watch_listen(t->a->arg, t->rec.task.meta.id, ports, e->ports.n);
	free(ports);
}

static void do_health(struct atask *t)
{
	const struct image *im = image_of(t);
	struct md_health h;
	if (oci_health(t->rec.task.spec.container->health, im ? im->config.health : NULL, &h))
		health_start(t, &h);
}

static void on_end(struct atask *t)
{
	run_waiters(t, 0);
	agent_attaches_end(t);
	agent_logs_kick(t->a, t);
}

/* Before it is out of sight: who waits for its exit may look only now. */
static void remember_exit(struct atask *t)
{
	struct agent *a = t->a;
	if (t->replaced || !t->rec.container_id)
		return;
	unsigned at = a->n_gone++ % ARRAY_SIZE(a->gone);
	snprintf(a->gone[at].id, sizeof(a->gone[at].id), "%s", t->rec.container_id);
	a->gone[at].code = (int)t->rec.exit_code;
	bool ran = t->rec.started_at && t->rec.exit_code >= 0;
	snprintf(a->gone[at].why, sizeof(a->gone[at].why), "%s",
	         ran                      ? ""
	         : t->rec.task.status.err ? t->rec.task.status.err
	                                  : "it was removed");
}

static void act_on(struct atask *t, const struct tk_action *act)
{
	struct agent *a = t->a;
	const char *id = t->rec.task.meta.id;
	switch (act->kind) {
	case TK_A_STATUS:
		tell_status(t, act);
		break;
	case TK_A_PULL:
		do_pull(t);
		break;
	case TK_A_PREPARE:
		do_prepare(t);
		break;
	case TK_A_SPAWN:
		do_spawn(t);
		break;
	case TK_A_ATTACH:
		do_attach(t);
		break;
	case TK_A_DETACH:
		if (!no_wiring(t))
			a->ops->detach(a->arg, id);
		break;
	case TK_A_GO:
		order(t, "go\n");
		break;
	case TK_A_WATCH_LISTEN:
		do_watch_listen(t);
		break;
	case TK_A_WATCH_FLOWS:
		a->ops->watch_flows(a->arg, id);
		break;
	case TK_A_HEALTH:
		do_health(t);
		break;
	case TK_A_HEALTH_STOP:
		health_stop(t);
		break;
	case TK_A_TIMER:
		set_timer(t, act->ms);
		break;
	case TK_A_SIGNAL:
		do_signal(t);
		break;
	case TK_A_KILL:
		do_kill(t);
		break;
	case TK_A_FORGET:
		remember_exit(t);
		t->forget = true;
		set_timer(t, 0);
		close_handle(t, &t->timer, &t->timer_on);
		break;
	}
}

/* Events that actions bring at once are nested; each sees the state its predecessor left. */
void atask_event(struct atask *t, const struct tk_event *e)
{
	struct tk_actions todo;
	if (t->a->closing)
		return;
	enum tk_phase before = t->sm.phase;
	t->works++; /* stays alive while its actions run */
	tk_step(&t->sm, e, &todo);
	for (size_t i = 0; i < todo.n; i++)
		act_on(t, &todo.v[i]);
	if (before != TK_END && t->sm.phase == TK_END)
		on_end(t);
	t->works--;
	maybe_gone(t);
}

/* ---- assignment ---- */

static void make_ids(struct atask *t)
{
	char id[65];
	for (int i = 0; i < 4; i++)
		snprintf(id + 16 * i, 17, "%016llx", (unsigned long long)mesh_rng_next(&t->a->rng));
	const struct md_attachment_spec *at = t->rec.task.spec.attachment;
	str_set(&t->rec.container_id, at && at->container_id && strlen(at->container_id) == 64 ? at->container_id : id);
	t->rec.created_at = clock_wall_ns();
	str_set(&t->rec.boot_id, t->a->boot_id);
}

static void put_file(struct buf *b, size_t index, const struct md_file_target *f, const void *p, size_t n)
{
	struct shim_file sf = { .uid = f && f->uid ? (uint32_t)strtoul(f->uid, NULL, 10) : 0,
		                .gid = f && f->gid ? (uint32_t)strtoul(f->gid, NULL, 10) : 0,
		                .mode = f && f->mode ? f->mode : 0444,
		                .len = (uint32_t)n };
	snprintf(sf.name, sizeof(sf.name), "%zu", index);
	buf_put(b, &sf, sizeof(sf));
	buf_put(b, p, n);
}

static int put_config(struct atask *t, size_t index, const struct md_config_ref *r, const struct md_config *c,
                      struct mesh_err *err)
{
	const struct md_driver *tm = c->spec.templating;
	if (!tm || !tm->name || !*tm->name) {
		put_file(&t->files, index, r->file, c->spec.data.p, c->spec.data.n);
		return 0;
	}
	struct oci_ctx ctx;
	struct buf text = { 0 };
	oci_ctx_init(&ctx, t, NULL, "/nonexistent");
	int rc = strcmp(tm->name, "golang")
	                 ? mesh_fail(err, MESH_E_UNSUPPORTED, "unsupported template driver %s", tm->name)
	                 : tmpl_expand(&ctx.vars, (const char *)c->spec.data.p, c->spec.data.n, &text, err);
	oci_ctx_fini(&ctx);
	if (!rc)
		put_file(&t->files, index, r->file, text.data, text.len);
	buf_fini(&text);
	return rc;
}

static int gather(struct atask *t, const struct agent_deps *d, struct mesh_err *err)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	size_t n = 0;
	for (size_t i = 0; c && i < c->secrets.n; i++, n++) {
		const struct md_secret *s = NULL;
		for (size_t k = 0; k < d->n_secrets && !s; k++)
			if (!strcmp(d->secrets[k]->meta.id, c->secrets.v[i].secret.s))
				s = d->secrets[k];
		if (!s)
			return mesh_fail(err, MESH_E_NOT_FOUND, "secret %s not found", c->secrets.v[i].secret_name);
		put_file(&t->files, n, c->secrets.v[i].file, s->spec.data.p, s->spec.data.n);
	}
	for (size_t i = 0; c && i < c->configs.n; i++, n++) {
		const struct md_config *s = NULL;
		for (size_t k = 0; k < d->n_configs && !s; k++)
			if (!strcmp(d->configs[k]->meta.id, c->configs.v[i].config.s))
				s = d->configs[k];
		if (!s)
			return mesh_fail(err, MESH_E_NOT_FOUND, "config %s not found", c->configs.v[i].config_name);
		int rc = put_config(t, n, &c->configs.v[i], s, err);
		if (rc)
			return mesh_wrap(err, rc, "config %s", c->configs.v[i].config_name);
	}
	return 0;
}

/* What is missing is said when the task is prepared: files then holds the reason. */
static void take_deps(struct atask *t, const struct agent_deps *d)
{
	struct mesh_err err = { 0 };
	str_set(&t->rec.node_id, d->node_id);
	str_set(&t->rec.node_hostname, d->node_hostname);
	t->rec.host_network = d->host_network;
	t->files_set = !gather(t, d, &err);
	if (t->files_set)
		return;
	mesh_wipe(t->files.data, t->files.cap);
	buf_clear(&t->files);
	buf_puts(&t->files, err.msg);
}

static void take_facts(struct atask *t)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	int64_t grace = c && c->stop_grace_period.set ? c->stop_grace_period.v : 10 * NS_PER_SEC;
	t->sm.grace_ms = grace / NS_PER_MS;
	t->sm.has_ports = t->rec.task.endpoint.ports.n > 0;
	free(t->name);
	t->name = md_task_container_name(&t->rec.task);
}

/* A container that is started again has what it wrote and what it said before. */
static void take_over(struct atask *t)
{
	static const char *const what[] = { "upper", "log", "log.1", "log.2", "log.3", "log.4" };
	const struct md_attachment_spec *at = t->rec.task.spec.attachment;
	struct atask *old = at && at->previous ? map_get(&t->a->tasks, at->previous) : NULL;
	if (!old || old->replaced || old->sm.phase != TK_END || !streq(old->rec.container_id, t->rec.container_id))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
		CLEAN_FREE char *from = xasprintf("%s/%s", old->dir, what[i]);
		CLEAN_FREE char *to = xasprintf("%s/%s", t->dir, what[i]);
		if (rename(from, to) && errno != ENOENT)
			log_warn("a container starts without what it wrote before task=%s file=%s", t->rec.task.meta.id,
			         what[i]);
	}
	t->rec.created_at = old->rec.created_at;
	old->replaced = old->rec.removed = true;
	save(old);
}

static void take_new(struct atask *t, const struct md_task *task, const struct agent_deps *deps)
{
	struct md_task_status keep = t->rec.task.status;
	t->rec.task.status = (struct md_task_status){ 0 };
	sch_clear(&md_task_schema, &t->rec.task);
	sch_copy(&md_task_schema, &t->rec.task, task);
	if (keep.state) {
		struct md_task_status theirs = t->rec.task.status;
		t->rec.task.status = keep;
		sch_clear(&md_task_status_schema, &theirs);
	}
	if (!t->rec.container_id)
		make_ids(t);
	take_facts(t);
	buf_clear(&t->files);
	take_deps(t, deps);
	(void)mkdir(t->dir, 0700); /* save() says what is wrong */
	take_over(t);
	save(t);
}

void agent_assign(struct agent *a, const struct md_task *task, const struct agent_deps *deps)
{
	struct atask *t = map_get(&a->tasks, task->meta.id);
	if (!mesh_id_valid(task->meta.id) || a->closing)
		return;
	if (!t)
		t = atask_new(a, task->meta.id);
	if (t->forget)
		return;
	if (t->sm.phase == TK_NEW) {
		take_new(t, task, deps);
	} else {
		t->rec.task.desired_state = task->desired_state;
		t->rec.task.drained |= task->drained;
		save(t);
	}
	atask_event(t,
	            &(struct tk_event){ .kind = TK_ASSIGN, .desired = task->desired_state, .drained = task->drained });
}

void agent_remove(struct agent *a, const char *task)
{
	struct atask *t = map_get(&a->tasks, task);
	if (t)
		atask_event(t, &(struct tk_event){ .kind = TK_REMOVE });
}

void agent_assign_only(struct agent *a, const char *const *tasks, size_t n)
{
	struct map keep = { 0 };
	struct str_list gone = { 0 };
	for (size_t i = 0; i < n; i++)
		map_put(&keep, tasks[i], &keep);
	MAP_FOREACH(&a->tasks, e)
		if (!map_has(&keep, e->key))
			strs_add(&gone, e->key);
	for (size_t i = 0; i < gone.n; i++)
		agent_remove(a, gone.v[i]);
	strs_clear(&gone);
	map_fini(&keep);
}

void agent_attached(struct agent *a, const char *task, int code, const char *text)
{
	struct atask *t = map_get(&a->tasks, task);
	if (!t)
		return;
	if (code && t->sm.phase != TK_ATTACH)
		log_warn("network of a running task failed task=%s reason=%s", task, text ? text : "");
	atask_event(t, &(struct tk_event){ .kind = code ? TK_ATTACH_FAILED : TK_ATTACHED, .text = text });
}

void agent_listening(struct agent *a, const char *task)
{
	struct atask *t = map_get(&a->tasks, task);
	if (t)
		atask_event(t, &(struct tk_event){ .kind = TK_LISTENING });
}

void agent_flows_ended(struct agent *a, const char *task)
{
	struct atask *t = map_get(&a->tasks, task);
	if (t)
		atask_event(t, &(struct tk_event){ .kind = TK_FLOWS_ENDED });
}

/* ---- adoption ---- */

static bool load(struct atask *t)
{
	CLEAN_FREE char *path = xasprintf("%s/task", t->dir);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) || st.st_size > (16 << 20))
		return false;
	CLEAN_FREE uint8_t *p = xcalloc(1, (size_t)st.st_size + 1);
	ssize_t n = read(fd, p, (size_t)st.st_size);
	if (n <= 0 || sch_decode(&task_rec_schema, &t->rec, p, (size_t)n))
		return false;
	return t->rec.container_id && strlen(t->rec.container_id) == 64 && t->rec.task.spec.container;
}

static int sock_connect(const char *dir)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	CLEAN_CLOSE int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* Through /proc, since the directory's own path may be longer than a socket's name. */
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/sock", at);
	if (at < 0 || fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static int sock_peer(int fd)
{
	struct ucred u;
	socklen_t n = sizeof(u);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n) ? 0 : u.pid;
}

static void adopt_sm(struct atask *t)
{
	int state = t->rec.task.status.state;
	t->sm.state = state;
	t->sm.has_health = t->rec.health;
	t->sm.attached = true;
	t->sm.desired = t->rec.task.desired_state;
	t->sm.drained = t->rec.task.drained;
	t->sm.traffic = t->rec.task.status.traffic;
	t->sm.phase = state == MD_TASK_RUNNING ? TK_RUN : TK_CREATE;
	if (state < MD_TASK_RUNNING)
		t->sm.attached = false;
}

/* One task directory of an earlier run. */
static void adopt(struct atask *t)
{
	take_facts(t);
	t->adopted = true;
	if (t->rec.task.status.state > MD_TASK_RUNNING) {
		t->sm.phase = TK_END;
		t->sm.state = t->rec.task.status.state;
		t->exit_seen = true;
		return;
	}
	if (!t->rec.spawned) {
		t->sm.state = t->rec.task.status.state; /* begins again when it is assigned again */
		return;
	}
	adopt_sm(t);
	int fd = lock_held(t->dir) ? sock_connect(t->dir) : -1;
	if (fd < 0)
		return; /* adopt_tick tells its end */
	t->shim_pid = sock_peer(fd);
	sock_start(t, fd);
}

static void adopt_one(struct atask *t)
{
	struct agent *a = t->a;
	const struct md_task_status *s = &t->rec.task.status;
	if (!t->adopted)
		return; /* assigned since */
	if (s->state > 0)
		a->ops->on_status(a->arg, t->rec.task.meta.id, s);
	if (!tk_has_shim(&t->sm))
		return;
	if (!t->sock_on) {
		shim_gone(t);
		return;
	}
	if (t->sm.phase == TK_RUN)
		do_attach(t);
	/* The rest comes with the line the shim says to whoever connects. */
}

static void on_adopt_closed(uv_handle_t *h)
{
	agent_unpend(h->data);
}

static void adopt_tick(uv_timer_t *timer)
{
	struct agent *a = timer->data;
	uv_close((uv_handle_t *)timer, on_adopt_closed);
	if (a->closing)
		return;
	struct str_list ids = { 0 };
	MAP_FOREACH(&a->tasks, e)
		strs_add(&ids, e->key);
	for (size_t i = 0; i < ids.n; i++) {
		struct atask *t = map_get(&a->tasks, ids.v[i]);
		if (t)
			adopt_one(t);
	}
	strs_clear(&ids);
	if (a->ops->adopted)
		a->ops->adopted(a->arg);
}

static int by_created(const void *pa, const void *pb)
{
	const struct atask *x = *(struct atask *const *)pa, *y = *(struct atask *const *)pb;
	return x->rec.created_at < y->rec.created_at ? -1 : x->rec.created_at > y->rec.created_at;
}

static void scan_tasks(struct agent *a)
{
	uv_fs_t req;
	uv_dirent_t e;
	struct VEC(struct atask *) found = { 0 };
	if (uv_fs_scandir(NULL, &req, a->tasks_dir, 0, NULL) < 0) {
		uv_fs_req_cleanup(&req);
		return;
	}
	while (!uv_fs_scandir_next(&req, &e)) {
		struct atask *t = atask_new(a, e.name);
		map_del(&a->tasks, e.name);
		if (mesh_id_valid(e.name) && load(t) && !strcmp(t->rec.task.meta.id, e.name)) {
			vec_push(&found, t);
			continue;
		}
		log_warn("removing what is no task directory path=%s", t->dir);
		(void)!cgroup_kill_wait(&a->cg, t->cg, 2000);
		tree_remove(t->dir);
		free_task(t);
	}
	uv_fs_req_cleanup(&req);
	if (found.len)
		qsort(found.data, found.len, sizeof(found.data[0]), by_created);
	for (size_t i = 0; i < found.len; i++) {
		map_put(&a->tasks, found.data[i]->rec.task.meta.id, found.data[i]);
		adopt(found.data[i]);
	}
	vec_fini(&found);
}

/* ---- open, close, purge ---- */

static bool in_path(const char *prog)
{
	if (strchr(prog, '/'))
		return !access(prog, X_OK);
	CLEAN_FREE char *path = xstrdup(getenv("PATH") ? getenv("PATH") : "/usr/sbin:/usr/bin:/sbin:/bin");
	char *save_ptr = NULL;
	for (char *d = strtok_r(path, ":", &save_ptr); d; d = strtok_r(NULL, ":", &save_ptr)) {
		CLEAN_FREE char *p = xasprintf("%s/%s", d, prog);
		if (!access(p, X_OK))
			return true;
	}
	return false;
}

static int make_dirs(struct agent *a, struct mesh_err *err)
{
	a->tasks_dir = xasprintf("%s/tasks", a->state_dir);
	a->volumes_dir = xasprintf("%s/volumes", a->state_dir);
	a->crun_root = xasprintf("%s/crun", a->run_dir);
	CLEAN_FREE char *execs = xasprintf("%s/exec", a->run_dir);
	tree_remove(execs); /* execs do not outlive meshd */
	const char *dirs[] = { a->tasks_dir, a->volumes_dir, a->crun_root, execs };
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		int rc = dirs_make(dirs[i], 0700, err);
		if (rc)
			return rc;
	}
	return 0;
}

static void read_boot_id(struct agent *a)
{
	CLEAN_FREE char *id = read_text("/proc/sys/kernel/random", "boot_id");
	snprintf(a->boot_id, sizeof(a->boot_id), "%.36s", id ? id : "");
}

static char *absolute(const char *path)
{
	char *real = strchr(path, '/') ? realpath(path, NULL) : NULL;
	return real ? real : xstrdup(path);
}

int agent_open(uv_loop_t *loop, const struct agent_config *c, const struct agent_ops *ops, void *arg,
               struct agent **out, struct mesh_err *err)
{
	struct agent *a = XNEW(struct agent);
	a->loop = loop;
	a->ops = ops;
	a->arg = arg;
	a->name = xstrdup(c->name);
	a->runtime = xstrdup(c->runtime ? c->runtime : "crun");
	a->cgroup = xstrdup(c->cgroup);
	a->shim = absolute(c->shim_path);
	int rc = dirs_make(c->state_dir, 0711, err);
	if (!rc)
		rc = dirs_make(c->run_dir, 0711, err);
	a->state_dir = absolute(c->state_dir);
	a->run_dir = absolute(c->run_dir);
	if (!rc)
		rc = make_dirs(a, err);
	cgroup_probe(&a->cg);
	oci_host_probe(&a->host);
	a->host.memory = a->cg.memory;
	a->host.swap = a->cg.swap;
	a->host.cpu = a->cg.cpu;
	a->host.pids = a->cg.pids;
	a->host.net_sysctls = strstr(a->runtime, "crun") != NULL; /* runc refuses them with our namespace path */
	mesh_rng_seed_random(&a->rng);
	read_boot_id(a);
	if (!rc)
		rc = cgroup_make(&a->cg, a->cgroup, err);
	CLEAN_FREE char *images_dir = xasprintf("%s/images", a->state_dir);
	if (!rc)
		rc = images_open(loop, images_dir, &a->images, err);
	if (rc) {
		free_agent(a);
		return mesh_wrap(err, rc, "agent");
	}
	if (!in_path(a->runtime))
		log_warn("no container runtime: tasks will fail runtime=%s mend=install the package %s", a->runtime,
		         a->runtime);
	if (access(a->shim, X_OK))
		log_error("the task shim is missing: tasks will fail path=%s", a->shim);
	scan_tasks(a);
	a->pending++;
	uv_timer_init(loop, &a->adopt_timer);
	a->adopt_timer.data = a;
	uv_timer_start(&a->adopt_timer, adopt_tick, 0, 0);
	*out = a;
	return 0;
}

void agent_close(struct agent *a, void (*cb)(void *arg), void *arg)
{
	a->closing = true;
	a->close_cb = cb;
	a->close_arg = arg;
	a->pending++; /* until everything has been told */
	if (!uv_is_closing((uv_handle_t *)&a->adopt_timer))
		uv_close((uv_handle_t *)&a->adopt_timer, on_adopt_closed);
	while (a->execs.len)
		agent_exec_drop(a->execs.data[0]);
	agent_attaches_drop(a);
	struct str_list ids = { 0 };
	MAP_FOREACH(&a->tasks, e)
		strs_add(&ids, e->key);
	for (size_t i = 0; i < ids.n; i++) {
		struct atask *t = map_get(&a->tasks, ids.v[i]);
		t->works++;
		health_stop(t);
		close_handle(t, &t->timer, &t->timer_on);
		close_handle(t, &t->sock, &t->sock_on);
		close_handle(t, &t->proc, &t->proc_on);
		t->works--;
		maybe_gone(t);
	}
	strs_clear(&ids);
	agent_unpend(a);
}

static void nothing_run(struct agent_work *w)
{
	(void)w;
}

static void purge_free(struct agent_work *w)
{
	check_purged(w->a);
	free(w);
}

void agent_purge(struct agent *a, void (*cb)(void *arg), void *arg)
{
	a->purge_cb = cb;
	a->purge_arg = arg;
	agent_assign_only(a, NULL, 0);
	struct agent_work *w = XNEW(struct agent_work); /* the answer never comes before the return */
	w->run = nothing_run;
	w->done = purge_free;
	agent_work_start(a, w);
}

struct images *agent_images(struct agent *a)
{
	return a->images;
}

/* ---- containers ---- */

static void fill(const struct atask *t, struct agent_container *c)
{
	*c = (struct agent_container){
		.task = &t->rec.task,
		.name = t->name,
		.image_id = t->rec.image_id ? t->rec.image_id : "",
		.state = t->rec.task.status.state,
		.pid = tk_running(&t->sm) ? (int)t->rec.pid : 0,
		.created_at = t->rec.created_at,
		.started_at = t->rec.started_at,
		.finished_at = t->rec.finished_at,
		.exit_code = (int)t->rec.exit_code,
		.oom_killed = t->rec.oom,
		.health = t->health_text,
		.log_path = t->dir,
	};
	memcpy(c->id, t->rec.container_id, 65);
}

static bool shown(const struct atask *t, bool all)
{
	bool made = t->rec.spawned || (md_task_standalone(&t->rec.task) && t->rec.container_id);
	return made && !t->rec.removed && !t->forget && (all || tk_running(&t->sm));
}

void agent_each_container(struct agent *a, bool all, bool (*fn)(void *arg, const struct agent_container *c), void *arg)
{
	struct agent_container c;
	MAP_FOREACH(&a->tasks, e) {
		const struct atask *t = e->value;
		if (!shown(t, all))
			continue;
		fill(t, &c);
		if (!fn(arg, &c))
			return;
	}
}

struct atask *agent_task_of(struct agent *a, const char *ref, struct mesh_err *err)
{
	struct atask *found = NULL;
	size_t n = strlen(ref);
	ref += *ref == '/';
	MAP_FOREACH(&a->tasks, e) {
		struct atask *t = e->value;
		if (!shown(t, true) || !*ref)
			continue;
		if (!strcmp(ref, t->name) || !strcmp(ref, t->rec.container_id) || !strcmp(ref, e->key))
			return t;
		if (strncmp(ref, t->rec.container_id, n))
			continue;
		if (found) {
			(void)mesh_fail(err, MESH_E_INVALID, "Multiple IDs found with provided prefix: %s", ref);
			return NULL;
		}
		found = t;
	}
	if (!found)
		(void)mesh_fail(err, MESH_E_NOT_FOUND, "No such container: %s", ref);
	return found;
}

int agent_find_container(struct agent *a, const char *ref, struct agent_container *out, struct mesh_err *err)
{
	struct mesh_err local = { 0 };
	struct atask *t = agent_task_of(a, ref, err ? err : &local);
	if (!t)
		return err ? err->code : local.code;
	fill(t, out);
	return 0;
}

static int not_running(const struct atask *t, struct mesh_err *err)
{
	return mesh_fail(err, MESH_E_CONFLICT, "container %s is not running", t->rec.container_id);
}

int agent_kill_container(struct agent *a, const char *id, const char *sig, struct mesh_err *err)
{
	struct mesh_err local = { 0 };
	err = err ? err : &local;
	struct atask *t = agent_task_of(a, id, err);
	if (!t)
		return err->code;
	int number = sig && *sig ? oci_signal_parse(sig) : SIGKILL;
	if (!number)
		return mesh_fail(err, MESH_E_INVALID, "Invalid signal: %s", sig);
	if (!tk_running(&t->sm))
		return mesh_wrap(err, not_running(t, err), "cannot kill container: %s", id);
	char text[8];
	snprintf(text, sizeof(text), "%d", number);
	order(t, "sig %d\n", number);
	agent_emit(t, "kill", "signal", text);
	return 0;
}

static void wait_end(struct atask *t, agent_done_fn cb, void *arg)
{
	struct stop_waiter w = { cb, arg };
	vec_push(&t->waiters, w);
}

void agent_stop_container(struct agent *a, const char *id, int timeout_s, agent_done_fn cb, void *arg)
{
	struct mesh_err err = { 0 };
	struct atask *t = agent_task_of(a, id, &err);
	if (!t || !tk_running(&t->sm)) {
		cb(arg, t ? 0 : err.code, &err);
		return;
	}
	wait_end(t, cb, arg);
	int64_t ms = timeout_s < 0 ? t->sm.grace_ms : timeout_s * 1000LL;
	atask_event(t, &(struct tk_event){ .kind = TK_USER_STOP, .ms = ms });
}

void agent_rm_container(struct agent *a, const char *id, bool force, agent_done_fn cb, void *arg)
{
	struct mesh_err err = { 0 };
	struct atask *t = agent_task_of(a, id, &err);
	if (!t) {
		cb(arg, err.code, &err);
		return;
	}
	if (!tk_has_shim(&t->sm)) {
		t->rec.removed = true;
		save(t);
		agent_emit(t, "destroy", NULL, NULL);
		cb(arg, 0, NULL);
		return;
	}
	if (!force) {
		int rc = mesh_fail(&err, MESH_E_CONFLICT,
		                   "cannot remove container \"/%s\": container is running: stop the container before "
		                   "removing or force remove",
		                   t->name);
		cb(arg, rc, &err);
		return;
	}
	t->rec.removed = true;
	wait_end(t, cb, arg);
	atask_event(t, &(struct tk_event){ .kind = TK_USER_STOP, .ms = 0 });
}

void agent_resize_container(struct agent *a, const char *id, uint16_t rows, uint16_t cols)
{
	struct atask *t = agent_task_of(a, id, NULL);
	if (!t)
		return;
	t->rows = rows;
	t->cols = cols;
	if (t->sm.phase > TK_CREATE)
		order(t, "resize %u %u\n", rows, cols);
}

bool agent_gone_exit(const struct agent *a, const char *id, int *code, char why[256])
{
	for (size_t i = 0; i < ARRAY_SIZE(a->gone); i++)
		if (!strcmp(a->gone[i].id, id)) {
			*code = a->gone[i].code;
			if (why)
				memcpy(why, a->gone[i].why, 256);
			return true;
		}
	return false;
}

bool agent_name_taken(struct agent *a, const char *name)
{
	MAP_FOREACH(&a->tasks, e) {
		const struct atask *t = e->value;
		if (shown(t, true) && streq(t->name, name))
			return true;
	}
	return false;
}

int agent_rename_container(struct agent *a, const char *id, const char *name, struct mesh_err *err)
{
	struct mesh_err local = { 0 };
	struct atask *t = agent_task_of(a, id, err ? err : &local);
	if (!t)
		return err ? err->code : local.code;
	if (!md_task_standalone(&t->rec.task))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "the name of a service's container is its task's");
	CLEAN_FREE char *old = xasprintf("/%s", t->name);
	str_set(&t->rec.task.spec.attachment->name, name);
	str_set(&t->name, name);
	save(t);
	agent_emit(t, "rename", "oldName", old);
	return 0;
}

/* ---- what this machine is ---- */

void agent_describe(struct agent *a, struct md_node_description *out)
{
	static const char *const plugins[][2] = { { "Log", "json-file" }, { "Log", "local" },
		                                  { "Log", "none" },      { "Network", "host" },
		                                  { "Network", "null" },  { "Network", "overlay" },
		                                  { "Volume", "local" } };
	struct utsname un;
	uname(&un);
	str_set(&out->hostname, un.nodename);
	str_set(&out->platform.architecture, un.machine);
	str_set(&out->platform.os, "linux");
	out->resources.nano_cpus = sysconf(_SC_NPROCESSORS_ONLN) * 1000000000LL;
	out->resources.memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	str_set(&out->engine.engine_version, MESH_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(plugins); i++) {
		struct md_plugin *p = LIST_ADD(&out->engine.plugins);
		p->type = xstrdup(plugins[i][0]);
		p->name = xstrdup(plugins[i][1]);
	}
	(void)a;
}
