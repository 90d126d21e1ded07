/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/agent_int.h"

#include "control/agent/log_file.h"

#define LINES_PER_TURN 2000 /* then the loop may do something else */
#define POLL_MS 250         /* where inotify has no room for us */

struct agent_log {
	struct agent *a;
	char *task;
	struct agent_log_opts o;
	agent_log_fn fn;
	agent_done_fn done;
	void *arg;
	struct log_reader reader;
	uv_timer_t timer;
	uv_fs_event_t watch;
	bool watching, paused, finished, closed;
	unsigned handles;
	struct mesh_err err;
};

static void on_turn(uv_timer_t *timer);

static void turn_soon(struct agent_log *l, uint64_t ms)
{
	if (!l->closed && !l->finished && !l->paused)
		uv_timer_start(&l->timer, on_turn, ms, 0);
}

static void finish(struct agent_log *l, int code)
{
	l->finished = true;
	uv_timer_stop(&l->timer);
	l->done(l->arg, code, &l->err);
}

static bool ended(const struct agent_log *l)
{
	const struct atask *t = map_get(&l->a->tasks, l->task);
	return !t || t->sm.phase == TK_END;
}

static bool wanted(const struct agent_log *l, const struct log_rec *r)
{
	return (r->stream == 1 ? l->o.out : l->o.err) && r->time_ns >= l->o.since;
}

static void on_turn(uv_timer_t *timer)
{
	struct agent_log *l = timer->data;
	struct log_rec r;
	if (l->err.code) {
		finish(l, l->err.code);
		return;
	}
	bool over = ended(l); /* asked first: what is written before the end is then read */
	for (int i = 0; i < LINES_PER_TURN; i++) {
		if (!log_reader_next(&l->reader, &r)) {
			if (!l->o.follow || over)
				finish(l, 0);
			else if (!l->watching)
				turn_soon(l, POLL_MS);
			return;
		}
		if (l->o.until && r.time_ns > l->o.until) {
			finish(l, 0);
			return;
		}
		if (!wanted(l, &r))
			continue;
		bool go_on = l->fn(l->arg, r.stream, r.time_ns, r.text, r.n);
		if (l->closed)
			return;
		if (!go_on) {
			l->paused = true;
			return;
		}
	}
	turn_soon(l, 0);
}

static void on_change(uv_fs_event_t *w, const char *file, int events, int status)
{
	(void)file;
	(void)events;
	(void)status;
	struct agent_log *l = w->data;
	if (!uv_is_active((uv_handle_t *)&l->timer))
		turn_soon(l, 0);
}

void agent_logs_kick(struct agent *a, const struct atask *t)
{
	for (size_t i = 0; i < a->logs.len; i++)
		if (!strcmp(a->logs.data[i]->task, t->rec.task.meta.id))
			turn_soon(a->logs.data[i], 0);
}

struct agent_log *agent_log_open(struct agent *a, const char *task, const struct agent_log_opts *o, agent_log_fn fn,
                                 agent_done_fn done, void *arg)
{
	struct agent_log *l = XNEW(struct agent_log);
	struct atask *t = map_get(&a->tasks, task);
	if (!t)
		t = agent_task_of(a, task, &l->err);
	else if (t->forget)
		(void)mesh_fail(&l->err, MESH_E_NOT_FOUND, "No such container: %s", task);
	l->a = a;
	l->o = *o;
	l->fn = fn;
	l->done = done;
	l->arg = arg;
	l->task = xstrdup(t ? t->rec.task.meta.id : task);
	l->reader.fd = -1;
	const struct md_driver *d = t ? t->rec.task.spec.log_driver : NULL;
	if (d && streq(d->name, "none"))
		(void)mesh_fail(&l->err, MESH_E_UNSUPPORTED, "configured logging driver does not support reading");
	if (!l->err.code)
		log_reader_open(&l->reader, t->dir, o->tail);
	uv_timer_init(a->loop, &l->timer);
	uv_fs_event_init(a->loop, &l->watch);
	l->timer.data = l->watch.data = l;
	l->handles = 2;
	a->pending++;
	vec_push(&a->logs, l);
	if (o->follow && !l->err.code)
		l->watching = !uv_fs_event_start(&l->watch, on_change, t->dir, 0);
	turn_soon(l, 0);
	return l;
}

void agent_log_resume(struct agent_log *l)
{
	l->paused = false;
	turn_soon(l, 0);
}

static void on_closed(uv_handle_t *h)
{
	struct agent_log *l = h->data;
	struct agent *a = l->a;
	if (--l->handles)
		return;
	free(l->task);
	free(l);
	agent_unpend(a);
}

void agent_log_close(struct agent_log *l)
{
	if (l->closed)
		return;
	l->closed = true;
	log_reader_close(&l->reader);
	for (size_t i = 0; i < l->a->logs.len; i++)
		if (l->a->logs.data[i] == l) {
			vec_remove(&l->a->logs, i);
			break;
		}
	uv_close((uv_handle_t *)&l->timer, on_closed);
	uv_close((uv_handle_t *)&l->watch, on_closed);
}
