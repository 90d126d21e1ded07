/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what this node is told to run: takes tasks over with the secrets and configs they need. */
#include "control/agent/agent_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/agent/shim/shim.h"

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

static const struct md_secret *secret_of(const struct agent_deps *d, const char *id)
{
	for (size_t i = 0; i < d->n_secrets; i++)
		if (!strcmp(d->secrets[i]->meta.id, id))
			return d->secrets[i];
	return NULL;
}

static const struct md_config *config_of(const struct agent_deps *d, const char *id)
{
	for (size_t i = 0; i < d->n_configs; i++)
		if (!strcmp(d->configs[i]->meta.id, id))
			return d->configs[i];
	return NULL;
}

/* What the templates of a task may quote: its environment, and what it has as files, by their targets. */
struct quotable {
	const struct md_container_spec *c;
	const struct agent_deps *d;
};

static bool find_env(const struct quotable *q, const char *name, struct bytes *out)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < q->c->env.n; i++) {
		char *at = q->c->env.v[i];
		if (!strncmp(at, name, n) && at[n] == '=') {
			*out = (struct bytes){ (uint8_t *)at + n + 1, strlen(at + n + 1) };
			return true;
		}
	}
	return false;
}

static bool find_secret(const struct quotable *q, const char *target, struct bytes *out)
{
	const struct md_secret *s = NULL;
	for (size_t i = 0; i < q->c->secrets.n && !s; i++)
		if (q->c->secrets.v[i].file && streq(q->c->secrets.v[i].file->name, target))
			s = secret_of(q->d, q->c->secrets.v[i].secret.s);
	if (s)
		*out = s->spec.data;
	return s;
}

static bool find_config(const struct quotable *q, const char *target, struct bytes *out)
{
	const struct md_config *s = NULL;
	for (size_t i = 0; i < q->c->configs.n && !s; i++)
		if (q->c->configs.v[i].file && streq(q->c->configs.v[i].file->name, target))
			s = config_of(q->d, q->c->configs.v[i].config.s);
	if (s)
		*out = s->spec.data;
	return s;
}

static bool find_quoted(void *arg, enum tmpl_what what, const char *name, struct bytes *out)
{
	const struct quotable *q = arg;
	return what == TMPL_ENV      ? find_env(q, name, out)
	       : what == TMPL_SECRET ? find_secret(q, name, out)
	                             : find_config(q, name, out);
}

/* One file of the task; driver: what makes its contents of data, if anything. */
static int put_contents(struct atask *t, size_t index, const struct md_file_target *f, const struct md_driver *driver,
                        const struct bytes *data, const struct agent_deps *d, struct mesh_err *err)
{
	if (!driver || !driver->name || !*driver->name) {
		put_file(&t->files, index, f, data->p, data->n);
		return 0;
	}
	int rc = tmpl_check(driver->name, data, err);
	if (rc)
		return rc;
	struct quotable q = { t->rec.task.spec.container, d };
	const struct tmpl_sources sources = { find_quoted, &q };
	struct oci_ctx ctx;
	struct buf text = { 0 };
	oci_ctx_init(&ctx, t, NULL, "/nonexistent");
	rc = tmpl_expand(&ctx.vars, &sources, data->p, data->n, &text, err);
	oci_ctx_fini(&ctx);
	if (!rc)
		put_file(&t->files, index, f, text.data, text.len);
	mesh_wipe(text.data, text.cap);
	buf_fini(&text);
	return rc;
}

static int gather(struct atask *t, const struct agent_deps *d, struct mesh_err *err)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	size_t n = 0;
	for (size_t i = 0; c && i < c->secrets.n; i++, n++) {
		const struct md_secret_ref *r = &c->secrets.v[i];
		const struct md_secret *s = secret_of(d, r->secret.s);
		if (!s)
			return mesh_fail(err, MESH_E_NOT_FOUND, "secret %s not found", r->secret_name);
		int rc = put_contents(t, n, r->file, s->spec.templating, &s->spec.data, d, err);
		if (rc)
			return mesh_wrap(err, rc, "secret %s", r->secret_name);
	}
	for (size_t i = 0; c && i < c->configs.n; i++, n++) {
		const struct md_config_ref *r = &c->configs.v[i];
		const struct md_config *s = config_of(d, r->config.s);
		if (!s)
			return mesh_fail(err, MESH_E_NOT_FOUND, "config %s not found", r->config_name);
		int rc = put_contents(t, n, r->file, s->spec.templating, &s->spec.data, d, err);
		if (rc)
			return mesh_wrap(err, rc, "config %s", r->config_name);
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

void atask_take_facts(struct atask *t)
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
	atask_save(old);
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
	atask_take_facts(t);
	buf_clear(&t->files);
	take_deps(t, deps);
	(void)mkdir(t->dir, 0700); /* atask_save() says what is wrong */
	take_over(t);
	atask_save(t);
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
		atask_save(t);
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
