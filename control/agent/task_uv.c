/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: one task: its handles, what it says of itself, and the effects of its state machine (task.h). */
#include "control/agent/agent_int.h"

#include <signal.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "control/agent/shim/shim.h"

/* ---- life of a task ---- */

struct atask *atask_new(struct agent *a, const char *id)
{
	struct atask *t = XNEW(struct atask);
	t->a = a;
	t->dir = xasprintf("%s/%s", a->tasks_dir, id);
	t->cg = xasprintf("%s/%s", a->cgroup, id);
	map_put(&a->tasks, id, t);
	return t;
}

void atask_free(struct atask *t)
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
	fs_remove_tree(f->dir);
}

void agent_check_purged(struct agent *a)
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
	agent_check_purged(w->a);
	free(f->dir);
	free(f->cg);
	free(f);
}

/* Nothing of it is running any more, no handle, no work: leave (closing) or remove its files (forgotten). */
void atask_maybe_gone(struct atask *t)
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
	atask_free(t);
	agent_maybe_closed(a);
}

static void on_handle_closed(uv_handle_t *h)
{
	struct atask *t = h->data;
	struct agent *a = t->a;
	t->closing_handles--;
	atask_maybe_gone(t);
	agent_unpend(a);
}

void atask_close_handle(struct atask *t, void *h, bool *on)
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
	atask_save(t);
	t->a->ops->on_status(t->a->arg, t->rec.task.meta.id, s);
}

/* ---- actions ---- */

const struct image *atask_image(struct atask *t)
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
	if (!code && image)
		use_image(t, image);
	else
		atask_event(t, &(struct tk_event){
				       .kind = TK_IMAGE_FAILED, .code = code, .text = mesh_err_text(err, code) });
	t->works--;
	atask_maybe_gone(t);
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
		.node_id = t->rec.node_id ? t->rec.node_id : "",
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
	atask_event(t, &e);
	t->works--; /* not before: a task that was removed meanwhile is gone with its last work */
	atask_maybe_gone(t);
	free(pw->p.dir);
	free(pw->p.lower);
	free(pw->p.cg);
	oci_out_fini(&pw->p.out);
	free(pw);
}

static void do_prepare(struct atask *t)
{
	const struct image *im = atask_image(t);
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

/* Its network is the host's, or nothing but loopback. */
static bool no_wiring(const struct atask *t)
{
	const struct md_task *task = &t->rec.task;
	return t->rec.host_network || (md_task_standalone(task) && task->spec.attachment->no_network);
}

void atask_attach(struct atask *t)
{
	if (no_wiring(t)) {
		atask_event(t, &(struct tk_event){ .kind = TK_ATTACHED });
		return;
	}
	t->a->ops->attach(t->a->arg, &t->rec.task, t->shim_pid, SHIM_DNS_UDP_FD, SHIM_DNS_TCP_FD);
}

static void do_signal(struct atask *t)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	const struct image *im = atask_image(t);
	int sig = oci_signal_parse(c ? c->stop_signal : NULL);
	if (!sig && im)
		sig = oci_signal_parse(im->config.stop_signal);
	sig = sig ? sig : SIGTERM;
	char text[8];
	snprintf(text, sizeof(text), "%d", sig);
	shim_order(t, "sig %d\n", sig);
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
	const struct image *im = atask_image(t);
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
		shim_spawn(t);
		break;
	case TK_A_ATTACH:
		atask_attach(t);
		break;
	case TK_A_DETACH:
		if (!no_wiring(t))
			a->ops->detach(a->arg, id);
		break;
	case TK_A_GO:
		shim_order(t, "go\n");
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
		shim_kill(t);
		break;
	case TK_A_FORGET:
		remember_exit(t);
		t->forget = true;
		set_timer(t, 0);
		atask_close_handle(t, &t->timer, &t->timer_on);
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
	atask_maybe_gone(t);
}
