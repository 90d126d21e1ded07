/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running a command in a container, and attaching to a container's output: answers that are raw connections. */
#include <stdio.h>

#include "base/mem.h"
#include "control/api/containers.h"
#include "control/api/logs.h"

#define EXECS_KEPT 512
#define OUTPUT_MAX (32u << 20) /* what a client may leave unread before the command is ended */

struct exec {
	struct execs *all;
	char id[65], container[65];
	struct agent_exec_spec spec;
	char *detach_keys;
	struct agent_exec *run; /* while it runs */
	struct hijack *hijack;  /* once open */
	struct stream *stream;  /* for clients that did not ask for an upgrade */
	struct buf early;       /* output before the connection is open */
	bool attached;          /* a connection is there or on its way */
	bool started, exited;
	int exit_code, pid;
};
struct execs {
	struct map by_id;
};

struct execs *execs_new(void)
{
	return XNEW(struct execs);
}

static void exec_free(struct exec *e)
{
	sch_clear(&agent_exec_spec_schema, &e->spec);
	free(e->detach_keys);
	buf_fini(&e->early);
	free(e);
}

static bool idle(const struct exec *e)
{
	return !e->run && !e->hijack && !e->stream && !e->attached;
}

void execs_free(struct execs *all)
{
	/* One that still runs is the agent's: it lets go of it in on_exit, which finds no table then. */
	MAP_FOREACH(&all->by_id, entry) {
		struct exec *e = entry->value;
		e->all = NULL;
		if (idle(e))
			exec_free(e);
	}
	map_fini(&all->by_id);
	free(all);
}

static void drop_oldest(struct execs *all)
{
	MAP_FOREACH(&all->by_id, entry) {
		struct exec *e = entry->value;
		if (all->by_id.count <= EXECS_KEPT)
			return;
		if (idle(e)) {
			(void)map_del(&all->by_id, e->id);
			exec_free(e);
		}
	}
}

static void let_go(struct exec *e)
{
	if (!e->all && idle(e))
		exec_free(e);
}

static struct exec *req_exec(struct req *r)
{
	struct exec *e = map_get(&r->api->execs->by_id, r->arg[0]);
	if (!e)
		req_error(r, 404, "No such exec instance: %.128s", r->arg[0]);
	return e;
}

/* ---- create, inspect, resize ------------------------------------------------------------------ */

struct exec_create {
	bool in, out, err, tty, privileged, detach;
	char *keys, *user, *dir;
	struct str_list env, cmd;
};
#define T struct exec_create
static const struct sch_field create_fields[] = {
	SF(1, BOOL, "AttachStdin", in, 0),
	SF(2, BOOL, "AttachStdout", out, 0),
	SF(3, BOOL, "AttachStderr", err, 0),
	SF(4, BOOL, "Tty", tty, 0),
	SF(5, BOOL, "Privileged", privileged, 0),
	SF(6, STR, "DetachKeys", keys, 0),
	SF(7, STR, "User", user, 0),
	SF(8, STR, "WorkingDir", dir, 0),
	SF(9, STRS, "Env", env, 0),
	SF(10, STRS, "Cmd", cmd, 0),
	SF(11, BOOL, "Detach", detach, 0),
};
static SCHEMA(create_schema, exec_create, create_fields);
#undef T

/* [rows, columns]; taken out, so that it does not count as unknown. */
static void take_console(json_t *j, uint16_t *rows, uint16_t *cols)
{
	const json_t *size = json_object_get(j, "ConsoleSize");
	if (json_array_size(size) == 2) {
		*rows = (uint16_t)json_integer_value(json_array_get(size, 0));
		*cols = (uint16_t)json_integer_value(json_array_get(size, 1));
	}
	(void)json_object_del(j, "ConsoleSize"); /* absent is fine */
}

static struct exec *exec_new(struct api *a, struct exec_create *q, const struct agent_container *c)
{
	struct exec *e = XNEW(struct exec);
	e->all = a->execs;
	api_new_hex(a, e->id);
	strcpy(e->container, c->id);
	e->detach_keys = q->keys;
	q->keys = NULL;
	char *user = q->user, *dir = q->dir;
	q->user = q->dir = NULL;
	e->spec = (struct agent_exec_spec){
		.cmd = q->cmd,
		.env = q->env,
		.user = user,
		.dir = dir,
		.tty = q->tty,
		.stdin_ = q->in,
		.stdout_ = q->out,
		.stderr_ = q->err,
		.privileged = q->privileged,
	};
	q->cmd = q->env = (struct str_list){ 0 };
	(void)map_put(&a->execs->by_id, e->id, e);
	drop_oldest(a->execs);
	return e;
}

void api_exec_create(struct req *r)
{
	struct agent_container c;
	struct exec_create q = { 0 };
	struct mesh_err err = { 0 };
	uint16_t rows = 0, cols = 0;
	if (!req_container(r, &c))
		return;
	json_t *j = req_json(r);
	if (!j)
		return;
	take_console(j, &rows, &cols);
	int rc = md_json_read(&create_schema, &q, j, "", NULL, &err);
	json_decref(j);
	if (rc) {
		req_fail(r, rc, &err);
	} else if (c.pid <= 0) {
		req_error(r, 409, "container %s is not running", c.id);
	} else if (!q.cmd.n || !q.cmd.v[0][0]) {
		req_error(r, 400, "No exec command specified");
	} else {
		struct exec *e = exec_new(r->api, &q, &c);
		e->spec.rows = rows;
		e->spec.cols = cols;
		req_reply_id(r, 201, "Id", e->id);
	}
	sch_clear(&create_schema, &q);
}

void api_exec_inspect(struct req *r)
{
	struct exec *e = req_exec(r);
	struct jw w = { 0 };
	if (!e)
		return;
	jw_open(&w, '{');
	jw_kstr(&w, "ID", e->id);
	jw_kbool(&w, "Running", e->run != NULL);
	jw_key(&w, "ExitCode");
	if (e->exited)
		jw_int(&w, e->exit_code);
	else
		jw_null(&w);
	jw_key(&w, "ProcessConfig");
	jw_open(&w, '{');
	jw_kbool(&w, "tty", e->spec.tty);
	jw_kstr(&w, "entrypoint", e->spec.cmd.n ? e->spec.cmd.v[0] : "");
	jw_key(&w, "arguments");
	jw_open(&w, '[');
	for (size_t i = 1; i < e->spec.cmd.n; i++)
		jw_str(&w, e->spec.cmd.v[i]);
	jw_close(&w, ']');
	jw_kbool(&w, "privileged", e->spec.privileged);
	jw_close(&w, '}');
	jw_kbool(&w, "OpenStdin", e->spec.stdin_);
	jw_kbool(&w, "OpenStderr", e->spec.stderr_);
	jw_kbool(&w, "OpenStdout", e->spec.stdout_);
	jw_kbool(&w, "CanRemove", false);
	jw_kstr(&w, "ContainerID", e->container);
	jw_kstr(&w, "DetachKeys", e->detach_keys);
	jw_kint(&w, "Pid", e->run ? agent_exec_pid(e->run) : e->pid);
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

void api_exec_resize(struct req *r)
{
	struct exec *e = req_exec(r);
	struct mesh_err err = { 0 };
	int64_t h, w;
	if (!e)
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
	e->spec.rows = (uint16_t)h;
	e->spec.cols = (uint16_t)w;
	if (e->run)
		agent_exec_resize(e->run, (uint16_t)h, (uint16_t)w);
	req_reply_empty(r, 200);
}

/* ---- start ------------------------------------------------------------------------------------ */

static void emit(struct exec *e, const void *p, size_t n)
{
	if (e->hijack) {
		hijack_write(e->hijack, p, n);
		if (hijack_queued(e->hijack) > OUTPUT_MAX && e->run)
			agent_exec_kill(e->run);
	} else if (e->stream) {
		(void)stream_write(e->stream, p, n); /* bounded by what the command says before it ends */
	} else if (e->attached && e->early.len < OUTPUT_MAX) {
		buf_put(&e->early, p, n);
	}
}

static void on_output(void *arg, int stream, const uint8_t *p, size_t n)
{
	struct exec *e = arg;
	if (!e->spec.tty) {
		uint8_t h[8] = { (uint8_t)stream,   0,         0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16),
			         (uint8_t)(n >> 8), (uint8_t)n };
		emit(e, h, sizeof(h));
	}
	emit(e, p, n);
}

static void on_exit_(void *arg, int exit_code, const struct mesh_err *err)
{
	struct exec *e = arg;
	if (err && err->msg[0]) {
		char *text = xasprintf("%s\r\n", err->msg);
		on_output(e, 2, (const uint8_t *)text, strlen(text));
		free(text);
	}
	e->run = NULL;
	e->exited = true;
	e->exit_code = exit_code;
	if (e->hijack)
		hijack_end(e->hijack);
	else if (e->stream)
		stream_end(e->stream);
	let_go(e);
}

static void on_open(void *arg, struct hijack *h)
{
	struct exec *e = arg;
	e->hijack = h;
	hijack_write(h, e->early.data, e->early.len);
	buf_fini(&e->early);
	e->early = (struct buf){ 0 };
	if (e->exited)
		hijack_end(h);
}

static void on_input(void *arg, const uint8_t *p, size_t n)
{
	struct exec *e = arg;
	if (e->run && e->spec.stdin_)
		agent_exec_write(e->run, p, n);
}

/* The client has gone. What it typed into ends; what only printed goes on, as in the engine. */
static void on_detached(struct exec *e)
{
	e->attached = false;
	if (e->run && (e->spec.stdin_ || e->spec.tty))
		agent_exec_kill(e->run);
	let_go(e);
}

static void on_hijack_closed(void *arg)
{
	struct exec *e = arg;
	e->hijack = NULL;
	on_detached(e);
}

static void on_stream_closed(void *arg)
{
	struct exec *e = arg;
	e->stream = NULL;
	on_detached(e);
}

static int run(struct req *r, struct exec *e, struct mesh_err *err)
{
	static const struct agent_exec_ops ops = { .on_data = on_output, .on_exit = on_exit_ };
	struct agent *agent = api_agent(r->api);
	if (!agent)
		return mesh_fail(err, MESH_E_NOT_FOUND, "No such container: %s", e->container);
	struct agent_exec *started = NULL;
	int rc = agent_exec_start(agent, e->container, &e->spec, &ops, e, &started, err);
	if (rc)
		return rc;
	e->started = true;
	if (!e->exited) {
		e->run = started;
		e->pid = agent_exec_pid(started);
	}
	return 0;
}

void api_exec_start(struct req *r)
{
	static const struct hijack_ops raw = { .open = on_open, .data = on_input, .closed = on_hijack_closed };
	static const struct stream_ops plain = { .closed = on_stream_closed };
	struct exec *e = req_exec(r);
	struct mesh_err err = { 0 };
	json_t *j = e ? req_json(r) : NULL;
	if (!j)
		return;
	bool detach = json_is_true(json_object_get(j, "Detach"));
	take_console(j, &e->spec.rows, &e->spec.cols);
	json_decref(j);
	if (e->started) {
		req_error(r, 409, "exec %s has been started already", e->id);
		return;
	}
	/* Started before the connection is taken over: its failure is still a proper answer. */
	e->attached = !detach;
	int rc = run(r, e, &err);
	if (rc) {
		e->attached = false;
		req_fail(r, rc, &err);
	} else if (detach) {
		req_reply_empty(r, 200);
	} else if (req_header(r, "Upgrade")) {
		if (!req_hijack(r, "application/vnd.docker.raw-stream", &raw, e))
			on_detached(e);
	} else {
		e->stream = req_stream(r, 200, "application/vnd.docker.raw-stream", &plain, e);
		emit(e, e->early.data, e->early.len);
		if (e->exited)
			stream_end(e->stream);
	}
}

/* ---- attach ----------------------------------------------------------------------------------- */

/* A container's own stdio from now on; with logs=1 its output as its log has it. */
struct attach {
	struct api *api;
	struct log_request q;
	char task[MESH_ID_LEN + 1];
	struct hijack *hijack;
	struct agent_log *log;
	struct agent_attach *live;
	struct buf early; /* output before the connection is open */
	bool ended, tty;
	uint8_t held; /* ctrl-p, waiting for ctrl-q */
};

static void attach_drop(struct attach *at)
{
	buf_fini(&at->early);
	free(at);
}

static bool on_attach_line(void *arg, int stream, int64_t time_ns, const char *text, size_t n)
{
	struct attach *at = arg;
	struct buf out = { 0 };
	struct api_log_line l = { stream, time_ns, "", "", at->task, text, n };
	log_line_format(&out, &at->q, &l);
	if (at->hijack && hijack_queued(at->hijack) < OUTPUT_MAX)
		hijack_write(at->hijack, out.data, out.len);
	buf_fini(&out);
	return true;
}

static void on_attach_end(void *arg, int code, const struct mesh_err *err)
{
	struct attach *at = arg;
	(void)code;
	(void)err;
	if (at->log)
		agent_log_close(at->log); /* the agent keeps it until told */
	at->log = NULL;
	if (at->hijack)
		hijack_end(at->hijack);
}

static void on_attach_open(void *arg, struct hijack *h)
{
	struct attach *at = arg;
	struct agent *agent = api_agent(at->api);
	at->hijack = h;
	if (at->early.len)
		hijack_write(h, at->early.data, at->early.len);
	buf_fini(&at->early);
	at->early = (struct buf){ 0 };
	if (at->ended)
		hijack_end(h);
	if (at->live || at->ended)
		return;
	struct agent_log *log =
		agent ? agent_log_open(agent, at->task, &at->q.opts, on_attach_line, on_attach_end, at) : NULL;
	if (!log)
		hijack_end(h);
	at->log = log;
}

/* Ctrl-p ctrl-q leaves a terminal without ending what runs in it. */
static bool leaves(struct attach *at, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n && at->tty; i++) {
		if (at->held && p[i] == 0x11)
			return true;
		at->held = p[i] == 0x10;
	}
	return false;
}

static void on_attach_data(void *arg, const uint8_t *p, size_t n)
{
	struct attach *at = arg;
	if (!at->live)
		return;
	if (leaves(at, p, n))
		hijack_end(at->hijack);
	else
		agent_attach_write(at->live, p, n);
}

static void on_attach_closed(void *arg)
{
	struct attach *at = arg;
	if (at->log)
		agent_log_close(at->log);
	if (at->live)
		agent_attach_close(at->live);
	attach_drop(at);
}

static void on_live_data(void *arg, const uint8_t *p, size_t n)
{
	struct attach *at = arg;
	if (!at->hijack)
		buf_put(&at->early, p, n);
	else if (hijack_queued(at->hijack) < OUTPUT_MAX)
		hijack_write(at->hijack, p, n);
}

static void on_live_end(void *arg)
{
	struct attach *at = arg;
	at->live = NULL;
	at->ended = true;
	if (at->hijack)
		hijack_end(at->hijack);
}

void api_container_attach(struct req *r)
{
	static const struct hijack_ops ops = { on_attach_open, on_attach_data, on_attach_closed };
	static const struct agent_attach_ops live = { on_live_data, on_live_end };
	struct agent_container c;
	struct mesh_err err = { 0 };
	if (!req_container(r, &c))
		return;
	bool logs = req_flag(r, "logs");
	if (c.pid <= 0 && (logs || !md_task_standalone(c.task))) {
		req_error(r, 409, "Container %s is not running", c.id);
		return;
	}
	struct attach *at = XNEW(struct attach);
	at->api = r->api;
	at->q.opts = (struct agent_log_opts){ .out = req_flag(r, "stdout"),
		                              .err = req_flag(r, "stderr"),
		                              .follow = req_flag(r, "stream"),
		                              .tail = logs ? -1 : 0 };
	at->tty = at->q.tty = c.task->spec.container && c.task->spec.container->tty;
	mesh_id_set(at->task, c.task->meta.id);
	bool in = req_flag(r, "stdin") && c.task->spec.container && c.task->spec.container->open_stdin;
	int rc = logs ? 0
	              : agent_attach_open(api_agent(r->api), c.id, in, at->q.opts.out, at->q.opts.err, &live, at,
	                                  &at->live, &err);
	if (rc) {
		req_fail(r, rc, &err);
		attach_drop(at);
	} else if (!req_hijack(r, "application/vnd.docker.raw-stream", &ops, at)) {
		if (at->live)
			agent_attach_close(at->live);
		attach_drop(at);
	}
}
