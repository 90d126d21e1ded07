/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Containers run by hand: create, start, restart, rename, remove. Each is asked of the manager, whose word comes back
 * to this node's agent as an assignment; the answer waits until it is there.
 */
#include <stdio.h>
#include <strings.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/api/containers.h"
#include "control/api/run_spec.h"
#include "control/dispatcher/wire.h"
#include "control/scheduler/constraint.h"

#define LOOK_MS 10
#define PATIENCE_MS 90000

struct errand {
	struct req *r;
	struct api *api;
	uv_timer_t timer;
	char id[65];
	task_id task;     /* the run it is about */
	task_id previous; /* the one it follows, to be removed */
	struct md_task want;
	bool (*look)(struct errand *e, const struct agent_container *c); /* c NULL: not there; false: answered */
	int left_ms;
	struct mesh_err err;
};

static void on_errand_closed(uv_handle_t *h)
{
	struct errand *e = h->data;
	struct api *a = e->api;
	req_unref(e->r);
	sch_clear(&md_task_schema, &e->want);
	free(e);
	api_handle_closed(a);
}

static void errand_end(struct errand *e)
{
	uv_close((uv_handle_t *)&e->timer, on_errand_closed);
}

static void ignore(void *arg, int code, const char *text, const struct mesh_err *err)
{
	(void)arg;
	(void)text;
	if (code)
		log_warn("a container that could not be run stays in the store reason=\"%s\"",
		         mesh_err_text(err, code));
}

/* Nothing is left of a run that did not come to be. */
static void forget(struct api *a, const char *task)
{
	struct md_task t = { 0 };
	mesh_id_set(t.meta.id, task);
	a->ops->run(a->arg, WIRE_RUN_REMOVE, &t, ignore, NULL);
}

static void on_look(uv_timer_t *timer)
{
	struct errand *e = timer->data;
	struct agent_container c = { .pid = 0 };
	struct agent *agent = req_live(e->r) ? api_agent(e->api) : NULL;
	if (!agent) {
		errand_end(e);
		return;
	}
	bool there = agent_find_container(agent, e->id, &c, NULL) == 0;
	if (e->look(e, there ? &c : NULL)) {
		e->left_ms -= LOOK_MS;
		if (e->left_ms > 0)
			return;
		req_error(e->r, 500, "container %.12s: its node did not hear of the change within %d seconds", e->id,
		          PATIENCE_MS / 1000);
	}
	errand_end(e);
}

/* The manager has agreed: now this node's agent must come to know. */
static void on_agreed(void *arg, int code, const char *text, const struct mesh_err *err)
{
	struct errand *e = arg;
	(void)text;
	if (!req_live(e->r)) {
		errand_end(e);
		return;
	}
	if (code) {
		req_fail(e->r, code, err);
		if (!ID_EMPTY(e->task) && e->want.spec.container && code == MESH_E_CONFLICT)
			forget(e->api, e->task.s);
		errand_end(e);
		return;
	}
	(void)uv_timer_start(&e->timer, on_look, 0, LOOK_MS);
}

static struct errand *errand_new(struct req *r, const char *container)
{
	struct errand *e = XNEW(struct errand);
	e->r = req_ref(r);
	e->api = r->api;
	e->left_ms = PATIENCE_MS;
	snprintf(e->id, sizeof(e->id), "%s", container);
	(void)uv_timer_init(r->api->loop, &e->timer);
	e->timer.data = e;
	api_handle_opened(r->api);
	return e;
}

static void ask(struct errand *e, enum wire_run_op op)
{
	e->api->ops->run(e->api->arg, op, &e->want, on_agreed, e);
}

static bool can_run(struct req *r)
{
	if (r->api->ops->run && api_agent(r->api))
		return true;
	req_error(r, 501, "this daemon runs no containers");
	return false;
}

/* ---- create ----------------------------------------------------------------------------------- */

static bool look_created(struct errand *e, const struct agent_container *c)
{
	if (!c || c->state < MD_TASK_READY)
		return true;
	if (c->state > MD_TASK_RUNNING) {
		const char *why = c->task->status.err;
		req_error(e->r, c->state == MD_TASK_REJECTED ? 400 : 500, "%s", why && *why ? why : "container ended");
		forget(e->api, e->task.s);
		return false;
	}
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_kstr(&w, "Id", e->id);
	jw_key(&w, "Warnings");
	jw_strs(&w, &e->r->warnings);
	jw_close(&w, '}');
	req_reply_json(e->r, 201, &w);
	return false;
}

static int check_name(struct req *r, const char *name, struct mesh_err *err)
{
	struct agent_container c;
	int rc = run_name_check(name, err);
	if (rc || !agent_name_taken(api_agent(r->api), name))
		return rc;
	const char *id = agent_find_container(api_agent(r->api), name, &c, NULL) ? "" : c.id;
	return mesh_fail(err, MESH_E_CONFLICT,
	                 "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to "
	                 "remove (or rename) that container to be able to reuse that name.",
	                 name, id);
}

static void make_name(struct api *a, char out[64])
{
	static const char *const left[] = { "amber", "brisk", "coral", "dusty", "early", "frosty", "golden", "hazel",
		                            "ivory", "jolly", "kind",  "lunar", "misty", "noble",  "opal",   "proud" };
	static const char *const right[] = { "alder", "birch", "cedar", "elm",  "fern",  "heath", "iris",  "juniper",
		                             "larch", "maple", "oak",   "pine", "rowan", "sedge", "thyme", "willow" };
	struct mesh_rng *rng = a->ops->rng(a->arg);
	do {
		snprintf(out, 64, "%s_%s%u", left[mesh_rng_below(rng, ARRAY_SIZE(left))],
		         right[mesh_rng_below(rng, ARRAY_SIZE(right))], (unsigned)mesh_rng_below(rng, 1000));
	} while (agent_name_taken(api_agent(a), out));
}

struct used {
	unsigned port;
	int protocol;
	bool taken;
};

static bool look_used(void *arg, const struct agent_container *c)
{
	struct used *u = arg;
	for (size_t i = 0; i < c->task->endpoint.ports.n; i++)
		u->taken = u->taken || (c->task->endpoint.ports.v[i].published == u->port &&
		                        c->task->endpoint.ports.v[i].protocol == u->protocol);
	return !u->taken;
}

/* -p 80 without a port of the host: one of the dynamic ones no container here has. */
static void choose_ports(struct api *a, struct md_task *t)
{
	for (size_t i = 0; i < t->endpoint.ports.n; i++) {
		struct md_port *p = &t->endpoint.ports.v[i];
		for (int tries = 0; !p->published && tries < 1000; tries++) {
			struct used u = { .port = 49153 + (unsigned)mesh_rng_below(a->ops->rng(a->arg), 16000),
				          .protocol = p->protocol };
			agent_each_container(api_agent(a), true, look_used, &u);
			if (!u.taken)
				p->published = u.port;
		}
	}
}

/* platform: "linux/arm64[/v8]" or "arm64", as docker run --platform sends it. */
static int check_platform(const char *image, const char *platform, struct mesh_err *err)
{
	struct utsname here;
	const char *slash = strchr(platform, '/'), *arch = slash ? slash + 1 : platform;
	CLEAN_FREE char *want = xasprintf("%.*s", (int)strcspn(arch, "/"), arch);
	uname(&here);
	if ((!slash || strncasecmp(platform, "linux/", 6) == 0) &&
	    streq(platform_arch(want), platform_arch(here.machine)))
		return 0;
	/* Not "not found", upon which docker's client pulls what would not run here either. */
	return mesh_fail(
		err, MESH_E_INVALID,
		"image with reference %s was found but does not provide the specified platform (%.60s): this node "
		"runs linux/%s",
		image, platform, platform_arch(here.machine));
}

static int read_task(struct req *r, const json_t *body, struct md_task *t, struct mesh_err *err)
{
	const char *name = req_query(r, "name");
	char made[64], id[65];
	int rc = run_spec_read(body, t, &r->warnings, err);
	if (rc)
		return rc;
	const char *image = t->spec.container->image, *slash = strrchr(image, '/');
	if (!images_find(agent_images(api_agent(r->api)), image))
		return mesh_fail(err, MESH_E_NOT_FOUND, "No such image: %s%s", image,
		                 strchr(slash ? slash : image, ':') ? "" : ":latest");
	const char *platform = req_query(r, "platform");
	rc = platform && *platform ? check_platform(image, platform, err) : 0;
	if (rc)
		return rc;
	if (name && name[0] == '/')
		name++;
	if (name && *name)
		rc = check_name(r, name, err);
	else
		make_name(r->api, made);
	api_new_hex(r->api, id);
	api_new_id(r->api, t->meta.id);
	str_set(&t->spec.attachment->container_id, id);
	str_set(&t->spec.attachment->name, name && *name ? name : made);
	t->desired_state = MD_TASK_READY;
	choose_ports(r->api, t);
	return rc;
}

void api_container_create(struct req *r)
{
	struct md_task t = { 0 };
	struct mesh_err err = { 0 };
	json_t *body = can_run(r) ? req_json(r) : NULL;
	if (!body)
		return;
	int rc = read_task(r, body, &t, &err);
	json_decref(body);
	if (rc) {
		req_fail(r, rc, &err);
		sch_clear(&md_task_schema, &t);
		return;
	}
	struct errand *e = errand_new(r, t.spec.attachment->container_id);
	e->want = t;
	mesh_id_set(e->task.s, t.meta.id);
	e->look = look_created;
	ask(e, WIRE_RUN_CREATE);
}

/* ---- start, restart --------------------------------------------------------------------------- */

/* The runtime's words; docker's client knows by these two of its own what to exit with (127, 126). */
static void refuse_start(struct errand *e, const char *why)
{
	bool missing = strstr(why, "No such file") || strstr(why, "not found"),
	     denied = strstr(why, "ermission denied");
	req_error(e->r, 400, "failed to create task for container: %s%s", *why ? why : "unknown",
	          missing  ? ": executable file not found in $PATH"
	          : denied ? ": permission denied"
	                   : "");
}

static bool look_started(struct errand *e, const struct agent_container *c)
{
	char gone[256] = "";
	int code;
	if (!c && ID_EMPTY(e->previous) && agent_gone_exit(api_agent(e->api), e->id, &code, gone)) {
		if (*gone)
			refuse_start(e, gone);
		else
			req_reply_empty(e->r, 204);
		return false;
	}
	if (!c || !streq(c->task->meta.id, e->task.s))
		return true;
	bool ended = c->state > MD_TASK_RUNNING;
	if (c->pid <= 0 && !ended)
		return true;
	if (!ID_EMPTY(e->previous))
		forget(e->api, e->previous.s);
	/* The end of what was started is no failure of starting it; a runtime that refused is. */
	if (ended && (!c->started_at || c->exit_code < 0)) {
		refuse_start(e, c->task->status.err ? c->task->status.err : "");
	} else {
		req_reply_empty(e->r, 204);
	}
	return false;
}

/* A container that has ended runs again as a new task with the same id, name and files. */
static void start_again(struct req *r, const struct agent_container *c)
{
	struct errand *e = errand_new(r, c->id);
	struct md_task *t = &e->want;
	sch_copy(&md_task_spec_schema, &t->spec, &c->task->spec);
	sch_copy(&md_endpoint_spec_schema, &t->endpoint, &c->task->endpoint);
	api_new_id(r->api, t->meta.id);
	str_set(&t->spec.attachment->previous, c->task->meta.id);
	t->desired_state = MD_TASK_RUNNING;
	mesh_id_set(e->task.s, t->meta.id);
	mesh_id_set(e->previous.s, c->task->meta.id);
	e->look = look_started;
	ask(e, WIRE_RUN_CREATE);
}

static void start_first(struct req *r, const struct agent_container *c)
{
	struct errand *e = errand_new(r, c->id);
	mesh_id_set(e->want.meta.id, c->task->meta.id);
	mesh_id_set(e->task.s, c->task->meta.id);
	e->look = look_started;
	ask(e, WIRE_RUN_START);
}

void api_container_start(struct req *r)
{
	struct agent_container c;
	if (!req_container(r, &c))
		return;
	if (c.pid > 0)
		req_reply_empty(r, 304);
	else if (!md_task_standalone(c.task))
		req_error(r, 501, "container %.12s belongs to a task that has ended: its service starts another one",
		          c.id);
	else if (!can_run(r))
		return;
	else if (c.state > MD_TASK_RUNNING)
		start_again(r, &c);
	else
		start_first(r, &c);
}

static void on_stopped(void *arg, int code, const struct mesh_err *err)
{
	struct req *r = arg;
	struct agent_container c = { .pid = 0 };
	struct agent *agent = req_live(r) ? api_agent(r->api) : NULL;
	if (agent && !code && agent_find_container(agent, r->arg[0], &c, NULL) == 0)
		start_again(r, &c);
	else if (agent && code)
		req_fail(r, code, err);
	else if (agent)
		req_error(r, 404, "No such container: %.300s", r->arg[0]);
	req_unref(r);
}

void api_container_restart(struct req *r)
{
	struct agent_container c;
	struct mesh_err err = { 0 };
	int64_t timeout;
	if (!req_container(r, &c))
		return;
	/* A service's task that is stopped gets a successor: what a restart is for. */
	if (!md_task_standalone(c.task)) {
		api_container_stop(r);
		return;
	}
	if (c.pid <= 0) {
		api_container_start(r);
		return;
	}
	int rc = req_number(r, "t", -1, &timeout, &err);
	if (rc)
		req_fail(r, rc, &err);
	else if (can_run(r))
		agent_stop_container(api_agent(r->api), c.id, timeout < 0 || timeout > INT32_MAX ? -1 : (int)timeout,
		                     on_stopped, req_ref(r));
}

/* ---- rename, remove --------------------------------------------------------------------------- */

static bool look_renamed(struct errand *e, const struct agent_container *c)
{
	struct mesh_err err = { 0 };
	int rc = c ? agent_rename_container(api_agent(e->api), e->id, e->want.spec.attachment->name, &err)
	           : mesh_fail(&err, MESH_E_NOT_FOUND, "No such container: %s", e->id);
	if (rc)
		req_fail(e->r, rc, &err);
	else
		req_reply_empty(e->r, 204);
	return false;
}

void api_container_rename(struct req *r)
{
	struct agent_container c;
	struct mesh_err err = { 0 };
	const char *name = req_query(r, "name");
	if (!req_container(r, &c) || !can_run(r))
		return;
	if (!md_task_standalone(c.task)) {
		req_error(r, 501, "container %.12s belongs to a service: its name is its task's", c.id);
		return;
	}
	name += name && *name == '/';
	int rc = !name || !*name ? mesh_fail(&err, MESH_E_INVALID, "Neither old nor new names may be empty")
	                         : check_name(r, name, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	struct errand *e = errand_new(r, c.id);
	mesh_id_set(e->want.meta.id, c.task->meta.id);
	e->want.spec.attachment = XNEW(struct md_attachment_spec);
	str_set(&e->want.spec.attachment->name, name);
	e->look = look_renamed;
	ask(e, WIRE_RUN_RENAME);
}

static bool look_removed(struct errand *e, const struct agent_container *c)
{
	if (c)
		return true;
	req_reply_empty(e->r, 204);
	return false;
}

void run_remove(struct req *r, const struct agent_container *c)
{
	if (!can_run(r))
		return;
	struct errand *e = errand_new(r, c->id);
	mesh_id_set(e->want.meta.id, c->task->meta.id);
	e->look = look_removed;
	ask(e, WIRE_RUN_REMOVE);
}

void api_container_resize(struct req *r)
{
	struct agent_container c;
	struct mesh_err err = { 0 };
	int64_t h, w;
	if (!req_container(r, &c))
		return;
	int rc = req_number(r, "h", 0, &h, &err);
	if (!rc)
		rc = req_number(r, "w", 0, &w, &err);
	if (!rc && (h < 0 || h > UINT16_MAX || w < 0 || w > UINT16_MAX))
		rc = mesh_fail(&err, MESH_E_INVALID, "invalid terminal size %lldx%lld", (long long)h, (long long)w);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	agent_resize_container(api_agent(r->api), c.id, (uint16_t)h, (uint16_t)w);
	req_reply_empty(r, 200);
}
