/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/agent_int.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/agent/health.h"

struct health {
	struct agent *a;
	struct atask *t; /* valid until health_stop */
	struct health_count count;
	struct str_list argv;
	int64_t timeout, began;
	struct agent_exec *exec;
	uv_timer_t timer; /* the next probe, or the end of this one's patience */
	bool stopping, closed, timed_out;
	char last[512]; /* of the probe's output */
	size_t last_len;
};

static void on_next(uv_timer_t *timer);

static void schedule(struct health *h)
{
	int64_t wait = health_wait(&h->count, clock_mono_ns());
	uv_timer_start(&h->timer, on_next, (uint64_t)(wait / NS_PER_MS), 0);
}

static void on_closed(uv_handle_t *handle)
{
	struct health *h = handle->data;
	struct agent *a = h->a;
	strs_clear(&h->argv);
	free(h);
	agent_unpend(a);
}

/* Gone when it is stopped and no probe runs. The task may end meanwhile: it no longer knows of us. */
static void maybe_close(struct health *h)
{
	if (!h->stopping || h->exec || h->closed)
		return;
	h->closed = true;
	uv_close((uv_handle_t *)&h->timer, on_closed);
}

static void show(struct atask *t, const char *text)
{
	if (!strcmp(t->health_text, text))
		return;
	char action[40];
	snprintf(t->health_text, sizeof(t->health_text), "%s", text);
	if (strcmp(text, "starting")) {
		snprintf(action, sizeof(action), "health_status: %s", text);
		agent_emit(t, action, NULL, NULL);
	}
}

static void result(struct health *h, bool ok)
{
	struct atask *t = h->t;
	enum health_verdict before = h->count.verdict;
	health_result(&h->count, ok, h->began);
	if (!ok)
		log_debug("health check failed task=%s fails=%lld timeout=%d output=%.*s", t->rec.task.meta.id,
		          (long long)h->count.fails, h->timed_out, (int)h->last_len, h->last);
	schedule(h);
	if (h->count.verdict == before)
		return;
	bool healthy = h->count.verdict == HEALTH_HEALTHY;
	show(t, healthy ? "healthy" : "unhealthy");
	atask_event(t, &(struct tk_event){ .kind = healthy ? TK_HEALTHY : TK_UNHEALTHY });
}

static void on_data(void *arg, int stream, const uint8_t *p, size_t n)
{
	struct health *h = arg;
	(void)stream;
	size_t room = sizeof(h->last) - h->last_len;
	n = n < room ? n : room;
	memcpy(h->last + h->last_len, p, n);
	h->last_len += n;
}

static void on_exit_(void *arg, int code, const struct mesh_err *err)
{
	struct health *h = arg;
	(void)err;
	h->exec = NULL;
	if (h->stopping)
		maybe_close(h);
	else
		result(h, code == 0 && !h->timed_out);
}

static void on_timeout(uv_timer_t *timer)
{
	struct health *h = timer->data;
	h->timed_out = true;
	if (h->exec)
		agent_exec_kill(h->exec);
}

static void on_next(uv_timer_t *timer)
{
	static const struct agent_exec_ops ops = { on_data, on_exit_ };
	struct health *h = timer->data;
	struct mesh_err err = { 0 };
	struct agent_exec_spec spec = { .cmd = h->argv };
	h->last_len = 0;
	h->timed_out = false;
	h->began = clock_mono_ns();
	if (agent_exec_start(h->t->a, h->t->rec.container_id, &spec, &ops, h, &h->exec, &err)) {
		log_debug("health check cannot run task=%s reason=%s", h->t->rec.task.meta.id, err.msg);
		h->exec = NULL;
		result(h, false);
		return;
	}
	uv_timer_start(&h->timer, on_timeout, (uint64_t)(h->timeout / NS_PER_MS), 0);
}

void health_start(struct atask *t, const struct md_health *md)
{
	if (t->health)
		return;
	struct health *h = t->health = XNEW(struct health);
	h->a = t->a;
	h->t = t;
	h->timeout = md->timeout;
	health_command(md, &h->argv);
	health_begin(&h->count, md, clock_mono_ns());
	if (t->sm.phase == TK_RUN)
		h->count.verdict = HEALTH_HEALTHY; /* adopted: it was, or it would not run */
	show(t, t->sm.phase == TK_RUN ? "healthy" : "starting");
	uv_timer_init(t->a->loop, &h->timer);
	h->timer.data = h;
	t->a->pending++;
	schedule(h);
}

void health_stop(struct atask *t)
{
	struct health *h = TAKE(t->health);
	if (!h)
		return;
	h->stopping = true;
	uv_timer_stop(&h->timer);
	if (h->exec)
		agent_exec_kill(h->exec);
	maybe_close(h);
}
