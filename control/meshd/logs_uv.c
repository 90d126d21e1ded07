/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logs of tasks wherever they run. The manager opens one stream to each node concerned; the node sends lines while
 * it has credit, so that a slow reader holds up its own stream and nothing else.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/meshd/meshd.h"

#define CREDIT (256 * 1024) /* bytes of lines on their way, per stream */

/* ---- manager's side ---- */

struct part {
	struct api_logs *logs;
	node_id node;
	uint32_t stream;
	bool ended;
	size_t taken; /* bytes consumed since the last window update */
};
struct queued {
	struct wire_log_line line;
	struct part *part;
};
struct api_logs {
	struct manager *mgr;
	const struct api_logs_ops *ops;
	void *arg;
	struct VEC(struct part *) parts;
	struct VEC(struct queued) queue; /* lines the reader has not taken */
	bool paused;
	int code; /* first failure of a part */
	struct mesh_err err;
	uv_timer_t finish;
	bool closing;
};

static void stream_key(uint32_t stream, char out[16])
{
	snprintf(out, 16, "%u", stream);
}

static void send_call(struct manager *mgr, struct part *p, const struct wire_call *call)
{
	struct buf b = { 0 };
	char key[16];
	p->stream = manager_new_stream(mgr);
	stream_key(p->stream, key);
	map_put(manager_streams(mgr), key, p);
	sch_encode(&wire_call_schema, call, &b);
	if (!manager_send(mgr, p->node.s, NET_CALL, p->stream, &b))
		p->ended = true;
	buf_fini(&b);
}

static void on_finish_closed(uv_handle_t *h)
{
	free(CONTAINER_OF(h, struct api_logs, finish));
}

static void release(struct api_logs *l)
{
	char key[16];
	l->closing = true;
	for (size_t i = 0; i < l->parts.len; i++) {
		stream_key(l->parts.data[i]->stream, key);
		if (l->mgr)
			map_del(manager_streams(l->mgr), key);
		free(l->parts.data[i]);
	}
	vec_fini(&l->parts);
	for (size_t i = 0; i < l->queue.len; i++)
		sch_clear(&wire_log_line_schema, &l->queue.data[i].line);
	vec_fini(&l->queue);
	uv_close((uv_handle_t *)&l->finish, on_finish_closed);
}

static void on_finish(uv_timer_t *t)
{
	struct api_logs *l = CONTAINER_OF(t, struct api_logs, finish);
	if (l->queue.len || l->paused)
		return;
	for (size_t i = 0; i < l->parts.len; i++)
		if (!l->parts.data[i]->ended)
			return;
	l->ops->on_end(l->arg, l->code, &l->err);
	release(l);
}

/* The end is told from the loop, never from inside a call of the reader. */
static void check_end(struct api_logs *l)
{
	uv_timer_start(&l->finish, on_finish, 0, 0);
}

static bool give(struct api_logs *l, struct part *p, const struct wire_log_line *w)
{
	const struct md_task *t = l->mgr ? store_get(manager_store(l->mgr), STORE_TASK, w->task.s) : NULL;
	struct api_log_line line = { .stream = (int)w->stream,
		                     .time_ns = w->time_ns,
		                     .node = p->node.s,
		                     .service = t ? t->service.s : "",
		                     .task = w->task.s,
		                     .text = (const char *)w->text.p,
		                     .n = w->text.n };
	p->taken += w->text.n + 32;
	if (l->mgr && p->taken >= CREDIT / 2 && !p->ended) {
		struct buf b = { 0 };
		buf_put_u32(&b, (uint32_t)p->taken);
		(void)manager_send(l->mgr, p->node.s, NET_WINDOW, p->stream, &b);
		buf_fini(&b);
		p->taken = 0;
	}
	return l->ops->on_line(l->arg, &line);
}

struct api_logs *logs_open(struct manager *mgr, const char *const *tasks, size_t n, const struct agent_log_opts *o,
                           const struct api_logs_ops *ops, void *arg)
{
	struct api_logs *l = XNEW(struct api_logs);
	struct map by_node = { 0 }; /* node id -> struct wire_call */
	*l = (struct api_logs){ .mgr = mgr, .ops = ops, .arg = arg };
	uv_timer_init(manager_loop(mgr), &l->finish);
	for (size_t i = 0; i < n; i++) {
		const struct md_task *t = store_get(manager_store(mgr), STORE_TASK, tasks[i]);
		if (!t || ID_EMPTY(t->node))
			continue;
		struct wire_call *call = map_get(&by_node, t->node.s);
		if (!call) {
			call = XNEW(struct wire_call);
			*call = (struct wire_call){ .what = xstrdup("logs"),
				                    .out = o->out,
				                    .err = o->err,
				                    .follow = o->follow,
				                    .since = o->since,
				                    .until = o->until,
				                    .tail = o->tail };
			map_put(&by_node, t->node.s, call);
		}
		strs_add(&call->tasks, tasks[i]);
	}
	MAP_FOREACH(&by_node, e) {
		struct part *p = XNEW(struct part);
		p->logs = l;
		mesh_id_set(p->node.s, e->key);
		vec_push(&l->parts, p);
		send_call(mgr, p, e->value);
		sch_free(&wire_call_schema, e->value);
	}
	map_fini(&by_node);
	check_end(l);
	return l;
}

void logs_resume(struct api_logs *l)
{
	size_t done = 0;
	l->paused = false;
	while (done < l->queue.len && !l->paused) {
		l->paused = !give(l, l->queue.data[done].part, &l->queue.data[done].line);
		sch_clear(&wire_log_line_schema, &l->queue.data[done].line);
		done++;
	}
	memmove(l->queue.data, l->queue.data + done, (l->queue.len - done) * sizeof(*l->queue.data));
	l->queue.len -= done;
	check_end(l);
}

void logs_close(struct api_logs *l)
{
	struct buf none = { 0 };
	for (size_t i = 0; i < l->parts.len; i++)
		if (l->mgr && !l->parts.data[i]->ended)
			(void)manager_send(l->mgr, l->parts.data[i]->node.s, NET_END, l->parts.data[i]->stream, &none);
	release(l);
}

void logs_frame(struct manager *mgr, const char *node, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	char key[16];
	stream_key(stream, key);
	struct part *part = map_get(manager_streams(mgr), key);
	if (!part || !streq(part->node.s, node) || part->ended)
		return; /* of a stream that was closed meanwhile */
	struct api_logs *l = part->logs;
	if (type == NET_END) {
		struct wire_end end = { 0 };
		if (sch_decode(&wire_end_schema, &end, p, n) == 0 && end.code && !l->code)
			l->code = mesh_fail(&l->err, (int)end.code, "%s", end.text ? end.text : "");
		sch_clear(&wire_end_schema, &end);
		part->ended = true;
		check_end(l);
		return;
	}
	struct wire_log_line line = { 0 };
	if (sch_decode(&wire_log_line_schema, &line, p, n)) {
		sch_clear(&wire_log_line_schema, &line);
		return;
	}
	if (l->paused) {
		struct queued q = { line, part };
		vec_push(&l->queue, q);
		return;
	}
	l->paused = !give(l, part, &line);
	sch_clear(&wire_log_line_schema, &line);
}

void logs_node_gone(struct manager *mgr, const char *node)
{
	MAP_FOREACH(manager_streams(mgr), e) {
		struct part *p = e->value;
		if (streq(p->node.s, node) && !p->ended) {
			p->ended = true;
			check_end(p->logs);
		}
	}
}

void logs_manager_gone(struct manager *mgr)
{
	MAP_FOREACH(manager_streams(mgr), e) {
		struct part *p = e->value;
		p->ended = true;
		p->logs->mgr = NULL;
		check_end(p->logs);
	}
}

/* ---- agent's side ---- */

struct served_call {
	struct logserve *ls;
	uint32_t stream;
	int64_t credit;
	size_t open;
	struct VEC(struct served_log *) logs;
};
struct served_log {
	struct served_call *call;
	task_id task;
	struct agent_log *log;
	bool waits;
};
struct logserve {
	struct agent *agent;
	struct net_conn *conn;
	struct map calls; /* stream -> struct served_call */
};

struct logserve *logserve_new(struct agent *a, struct net_conn *c)
{
	struct logserve *ls = XNEW(struct logserve);
	ls->agent = a;
	ls->conn = c;
	return ls;
}

static void call_free(struct served_call *c)
{
	char key[16];
	stream_key(c->stream, key);
	map_del(&c->ls->calls, key);
	for (size_t i = 0; i < c->logs.len; i++) {
		if (c->logs.data[i]->log)
			agent_log_close(c->logs.data[i]->log);
		free(c->logs.data[i]);
	}
	vec_fini(&c->logs);
	free(c);
}

static bool on_line(void *arg, int stream, int64_t time_ns, const char *text, size_t n)
{
	struct served_log *s = arg;
	struct wire_log_line line = { .task = s->task,
		                      .stream = (uint32_t)stream,
		                      .time_ns = time_ns,
		                      .text = { (uint8_t *)(uintptr_t)text, n } };
	struct buf b = { 0 };
	sch_encode(&wire_log_line_schema, &line, &b);
	bool room = net_send(s->call->ls->conn, NET_DATA, s->call->stream, b.data, b.len);
	buf_fini(&b);
	s->call->credit -= (int64_t)n + 32;
	s->waits = !room || s->call->credit <= 0;
	return !s->waits;
}

static void on_log_done(void *arg, int code, const struct mesh_err *err)
{
	struct served_log *s = arg;
	struct served_call *c = s->call;
	if (s->log)
		agent_log_close(TAKE(s->log)); /* the agent keeps it until told */
	if (code)
		log_debug("log of a task ended task=%s reason=\"%s\"", s->task.s, mesh_err_text(err, code));
	if (--c->open)
		return;
	struct wire_end end = { 0 };
	struct buf b = { 0 };
	sch_encode(&wire_end_schema, &end, &b);
	(void)net_send(c->ls->conn, NET_END, c->stream, b.data, b.len);
	buf_fini(&b);
	call_free(c);
}

void logserve_call(struct logserve *ls, uint32_t stream, const struct wire_call *call)
{
	struct agent_log_opts o = { .out = call->out,
		                    .err = call->err,
		                    .follow = call->follow,
		                    .since = call->since,
		                    .until = call->until,
		                    .tail = call->tail };
	struct served_call *c = XNEW(struct served_call);
	char key[16];
	*c = (struct served_call){ .ls = ls, .stream = stream, .credit = CREDIT, .open = call->tasks.n + 1 };
	stream_key(stream, key);
	map_put(&ls->calls, key, c);
	for (size_t i = 0; i < call->tasks.n; i++) {
		struct served_log *s = XNEW(struct served_log);
		s->call = c;
		mesh_id_set(s->task.s, call->tasks.v[i]);
		vec_push(&c->logs, s);
		s->log = agent_log_open(ls->agent, s->task.s, &o, on_line, on_log_done, s);
	}
	/* The call itself counts as open until here, so that it cannot end while it is being set up. */
	struct served_log *self = XNEW(struct served_log);
	self->call = c;
	vec_push(&c->logs, self);
	on_log_done(self, 0, NULL);
}

static void resume_call(struct served_call *c)
{
	for (size_t i = 0; i < c->logs.len && c->credit > 0; i++) {
		struct served_log *s = c->logs.data[i];
		if (s->log && s->waits) {
			s->waits = false;
			agent_log_resume(s->log);
		}
	}
}

void logserve_frame(struct logserve *ls, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	char key[16];
	stream_key(stream, key);
	struct served_call *c = map_get(&ls->calls, key);
	if (!c)
		return;
	if (type == NET_END) {
		call_free(c);
		return;
	}
	struct rd r = rd_of(p, n);
	c->credit += rd_u32(&r);
	resume_call(c);
}

void logserve_drain(struct logserve *ls)
{
	MAP_FOREACH(&ls->calls, e)
		resume_call(e->value);
}

void logserve_free(struct logserve *ls)
{
	while (ls->calls.count)
		MAP_FOREACH(&ls->calls, e) {
			call_free(e->value);
			break;
		}
	map_fini(&ls->calls);
	free(ls);
}
