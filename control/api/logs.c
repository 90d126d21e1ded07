/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/api/logs.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"

#define LOOK_AGAIN_MS 300 /* how often a followed service is asked for new tasks */

struct log_source {
	struct logread *lr;
	struct api_logs *many;
	struct agent_log *one;
	struct log_source *next;
	bool paused;
};
/* One client reading; lives as long as its stream or its timer, whichever is later. */
struct logread {
	struct api *api;
	struct stream *stream; /* NULL once closed */
	struct log_request q;
	struct log_source *sources;
	struct map seen; /* task ids opened so far */
	uv_timer_t look;
	bool looking;
	char task[MESH_ID_LEN + 1], node_id[MESH_ID_LEN + 1], service_id[MESH_ID_LEN + 1];
};

/* ---- format ----------------------------------------------------------------------------------- */

static void put_header(struct buf *out, int stream, size_t n)
{
	uint8_t h[8] = {
		(uint8_t)stream, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n
	};
	buf_put(out, h, sizeof(h));
}

void log_line_format(struct buf *out, const struct log_request *q, const struct api_log_line *l)
{
	struct buf line = { 0 };
	if (q->timestamps) {
		/* Nine digits always, so that columns stand under each other. */
		char t[CLOCK_TEXT_MAX];
		clock_format(l->time_ns - l->time_ns % NS_PER_SEC, t);
		buf_put(&line, t, strlen(t) - 1);
		buf_printf(&line, ".%09lldZ ", (long long)(l->time_ns % NS_PER_SEC));
	}
	if (q->details)
		buf_printf(&line,
		           "com.docker.swarm.node.id=%s,com.docker.swarm.service.id=%s,com.docker.swarm.task.id=%s ",
		           l->node, l->service, l->task);
	buf_put(&line, l->text, l->n);
	buf_put_u8(&line, '\n');
	if (!q->tty)
		put_header(out, l->stream, line.len);
	buf_put(out, line.data, line.len);
	buf_fini(&line);
}

/* ---- request ---------------------------------------------------------------------------------- */

static int query_time(struct req *r, const char *key, int64_t *out, struct mesh_err *err)
{
	const char *v = req_query(r, key);
	*out = 0;
	if (!v || !*v || streq(v, "0"))
		return 0;
	return clock_parse(v, out) ? mesh_fail(err, MESH_E_INVALID, "invalid value for \"%s\": %.64s", key, v) : 0;
}

static int query_tail(struct req *r, int64_t *out, struct mesh_err *err)
{
	const char *v = req_query(r, "tail");
	*out = -1;
	if (!v || !*v || strcasecmp(v, "all") == 0)
		return 0;
	int rc = req_number(r, "tail", -1, out, err);
	if (*out < 0)
		*out = -1;
	return rc;
}

int log_request_parse(struct req *r, struct log_request *q, struct mesh_err *err)
{
	*q = (struct log_request){ .timestamps = req_flag(r, "timestamps"), .details = req_flag(r, "details") };
	q->opts.out = req_flag(r, "stdout");
	q->opts.err = req_flag(r, "stderr");
	q->opts.follow = req_flag(r, "follow");
	if (!q->opts.out && !q->opts.err)
		return mesh_fail(err, MESH_E_INVALID, "Bad parameters: you must choose at least one stream");
	int rc = query_time(r, "since", &q->opts.since, err);
	if (!rc)
		rc = query_time(r, "until", &q->opts.until, err);
	return rc ? rc : query_tail(r, &q->opts.tail, err);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static void logread_free(struct logread *lr)
{
	if (lr->stream || lr->looking || lr->sources)
		return;
	map_fini(&lr->seen);
	free(lr);
}

static void check_end(struct logread *lr)
{
	if (lr->stream && !lr->sources && !lr->looking)
		stream_end(lr->stream);
}

static void on_look_closed(uv_handle_t *h)
{
	struct logread *lr = CONTAINER_OF((uv_timer_t *)h, struct logread, look);
	struct api *a = lr->api;
	lr->looking = false;
	check_end(lr);
	logread_free(lr);
	api_handle_closed(a);
}

static void stop_looking(struct logread *lr)
{
	if (lr->looking && !uv_is_closing((uv_handle_t *)&lr->look))
		uv_close((uv_handle_t *)&lr->look, on_look_closed);
}

static void source_drop(struct log_source *s)
{
	struct log_source **p = &s->lr->sources;
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	free(s);
}

static bool send_line(struct log_source *s, const struct api_log_line *l)
{
	struct logread *lr = s->lr;
	struct buf out = { 0 };
	if (!lr->stream)
		return true;
	log_line_format(&out, &lr->q, l);
	s->paused = !stream_write(lr->stream, out.data, out.len);
	buf_fini(&out);
	return !s->paused;
}

static void source_ended(struct log_source *s, int code, const struct mesh_err *err)
{
	struct logread *lr = s->lr;
	if (code && lr->stream && !lr->q.tty) {
		struct buf out = { 0 };
		const char *text = mesh_err_text(err, code);
		put_header(&out, 3, strlen(text));
		buf_puts(&out, text);
		(void)stream_write(lr->stream, out.data, out.len);
		buf_fini(&out);
	}
	source_drop(s);
	check_end(lr);
	logread_free(lr);
}

static bool on_many_line(void *arg, const struct api_log_line *l)
{
	return send_line(arg, l);
}

static void on_many_end(void *arg, int code, const struct mesh_err *err)
{
	source_ended(arg, code, err);
}

static bool on_one_line(void *arg, int stream, int64_t time_ns, const char *text, size_t n)
{
	struct log_source *s = arg;
	struct api_log_line l = { stream, time_ns, s->lr->node_id, s->lr->service_id, s->lr->task, text, n };
	return send_line(s, &l);
}

static void on_one_end(void *arg, int code, const struct mesh_err *err)
{
	struct log_source *s = arg;
	if (s->one)
		agent_log_close(s->one); /* the agent keeps it until told */
	s->one = NULL;
	source_ended(s, code, err);
}

static void on_drained(void *arg)
{
	struct logread *lr = arg;
	for (struct log_source *s = lr->sources, *next; s; s = next) {
		next = s->next;
		if (!s->paused)
			continue;
		s->paused = false;
		if (s->many)
			lr->api->ops->logs_resume(s->many);
		else if (s->one)
			agent_log_resume(s->one);
	}
}

static void on_closed(void *arg)
{
	struct logread *lr = arg;
	lr->stream = NULL;
	while (lr->sources) {
		struct log_source *s = lr->sources;
		if (s->many)
			lr->api->ops->logs_close(s->many);
		else if (s->one)
			agent_log_close(s->one);
		source_drop(s);
	}
	stop_looking(lr);
	logread_free(lr);
}

static const struct stream_ops stream_ops = { .drained = on_drained, .closed = on_closed };

static struct logread *logread_new(struct req *r, const struct log_request *q)
{
	struct logread *lr = XNEW(struct logread);
	lr->api = r->api;
	lr->q = *q;
	lr->stream = req_stream(
		r, 200, q->tty ? "application/vnd.docker.raw-stream" : "application/vnd.docker.multiplexed-stream",
		&stream_ops, lr);
	return lr;
}

static struct log_source *source_new(struct logread *lr)
{
	struct log_source *s = XNEW(struct log_source);
	*s = (struct log_source){ .lr = lr, .next = lr->sources };
	lr->sources = s;
	return s;
}

static void open_tasks(struct logread *lr, const char *const *tasks, size_t n, const struct agent_log_opts *o)
{
	static const struct api_logs_ops ops = { .on_line = on_many_line, .on_end = on_many_end };
	struct api *a = lr->api;
	if (!n)
		return;
	for (size_t i = 0; i < n; i++)
		(void)map_put(&lr->seen, tasks[i], lr);
	struct log_source *s = source_new(lr);
	s->many = a->ops->logs_open(a->arg, tasks, n, o, &ops, s);
	if (!s->many)
		source_drop(s);
}

/* A followed service gets new tasks: their logs belong to the answer too, from their beginning. */
static void on_look(uv_timer_t *t)
{
	struct logread *lr = CONTAINER_OF(t, struct logread, look);
	struct store *s = lr->api->ops->store(lr->api->arg);
	struct VEC(const char *) ids = { 0 };
	if (!s || !store_get(s, STORE_SERVICE, lr->q.service)) {
		stop_looking(lr); /* what is open goes on to its end */
		return;
	}
	struct store_list l = store_tasks_of_service(s, lr->q.service);
	for (size_t i = 0; i < l.n; i++) {
		const struct md_task *task = l.v[i];
		if (!ID_EMPTY(task->node) && !map_has(&lr->seen, task->meta.id))
			vec_push(&ids, task->meta.id);
	}
	struct agent_log_opts o = lr->q.opts;
	o.tail = -1;
	open_tasks(lr, ids.data, ids.len, &o);
	vec_fini(&ids);
}

void logs_of_tasks(struct req *r, const struct log_request *q, const char *const *tasks, size_t n)
{
	struct logread *lr = logread_new(r, q);
	if (q->opts.follow && q->service[0] && !uv_timer_init(lr->api->loop, &lr->look)) {
		lr->looking = true;
		api_handle_opened(lr->api);
		(void)uv_timer_start(&lr->look, on_look, LOOK_AGAIN_MS, LOOK_AGAIN_MS);
	}
	open_tasks(lr, tasks, n, &q->opts);
	check_end(lr);
}

void logs_of_container(struct req *r, const struct log_request *q, const struct agent_container *c)
{
	struct logread *lr = logread_new(r, q);
	struct log_source *s = source_new(lr);
	mesh_id_set(lr->task, c->task->meta.id);
	mesh_id_set(lr->node_id, c->task->node.s);
	mesh_id_set(lr->service_id, c->task->service.s);
	struct agent_log *one =
		agent_log_open(api_agent(r->api), c->task->meta.id, &q->opts, on_one_line, on_one_end, s);
	/* It may have ended before this returned: then s is gone. */
	if (lr->sources == s && one)
		s->one = one;
	else if (lr->sources == s)
		source_ended(s, MESH_E_NOT_FOUND, NULL);
}

/* ---- handlers --------------------------------------------------------------------------------- */

static bool is_tty(const struct md_task_spec *t)
{
	return t->container && t->container->tty;
}

void api_service_logs(struct req *r)
{
	struct mesh_err err = { 0 };
	struct log_request q;
	const void *found = NULL;
	int rc = api_find(r, STORE_SERVICE, &found, &err);
	if (!rc)
		rc = log_request_parse(r, &q, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	const struct md_service *sv = found;
	struct store_list l = store_tasks_of_service(r->store, sv->meta.id);
	struct VEC(const char *) ids = { 0 };
	for (size_t i = 0; i < l.n; i++)
		if (!ID_EMPTY(((const struct md_task *)l.v[i])->node))
			vec_push(&ids, ((const struct md_task *)l.v[i])->meta.id);
	q.tty = is_tty(&sv->spec.task);
	mesh_id_set(q.service, sv->meta.id);
	logs_of_tasks(r, &q, ids.data, ids.len);
	vec_fini(&ids);
}

void api_task_logs(struct req *r)
{
	struct mesh_err err = { 0 };
	struct log_request q;
	const void *found = NULL;
	int rc = api_find(r, STORE_TASK, &found, &err);
	if (!rc)
		rc = log_request_parse(r, &q, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	const struct md_task *t = found;
	const char *id = t->meta.id;
	q.tty = is_tty(&t->spec);
	logs_of_tasks(r, &q, &id, ID_EMPTY(t->node) ? 0 : 1);
}
