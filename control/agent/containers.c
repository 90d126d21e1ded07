/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: tasks as the Engine API shows them: containers. */
#include "control/agent/agent_int.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

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
	shim_order(t, "sig %d\n", number);
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
		atask_save(t);
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
		shim_order(t, "resize %u %u\n", rows, cols);
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
	atask_save(t);
	agent_emit(t, "rename", "oldName", old);
	return 0;
}
