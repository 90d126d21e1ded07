/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rolling updates and rollbacks. The state that matters is update_status of the service; which slots are done,
 * under way or still to do is read off their tasks every time.
 */
#include "control/orchestrator/slots.h"

static const struct md_update_config defaults = {
	.parallelism = 1, .failure_action = MD_FAILURE_PAUSE, .monitor = 5 * NS_PER_SEC, .order = MD_ORDER_STOP_FIRST
};

static int state_of(const struct md_service *s)
{
	return s->update_status ? s->update_status->state : MD_UPDATE_NONE;
}

static struct md_update_status *edit_status(struct look *l, int state, const char *message)
{
	struct md_service *s = brain_edit_service(l->b, l->svc->meta.id);
	l->svc = s;
	if (!s->update_status)
		s->update_status = XNEW(struct md_update_status);
	s->update_status->state = state;
	str_set(&s->update_status->message, message);
	return s->update_status;
}

static void forget_progress(struct bservice *m)
{
	map_fini(&m->up);
	map_fini(&m->failed);
	m->update_total = 0;
}

void brain_forget_update(struct bservice *m)
{
	forget_progress(m);
	m->update_version = 0;
}

bool slot_needs_update(const struct slot *s)
{
	return !s->good && s->outdated;
}

static int64_t started_at(const struct look *l)
{
	return l->svc->update_status ? l->svc->update_status->started_at : 0;
}

static int64_t monitor_of(const struct md_update_config *c)
{
	return c->monitor > 0 ? c->monitor : defaults.monitor;
}

/* ---- failures ---- */

static void pause_update(struct look *l, const char *task)
{
	CLEAN_FREE char *text = xasprintf("%s paused due to failure or early termination of task %s",
	                                  l->rolling_back ? "rollback" : "update", task);
	edit_status(l, l->rolling_back ? MD_UPDATE_ROLLBACK_PAUSED : MD_UPDATE_PAUSED, text);
	l->m->paused_version = l->svc->spec_version.index;
	l->updating = false;
	l->allowed = 0;
}

static void roll_back(struct look *l, const char *task)
{
	CLEAN_FREE char *text = xasprintf("update rolled back due to failure or early termination of task %s", task);
	struct md_update_status *u = edit_status(l, MD_UPDATE_ROLLBACK_STARTED, text);
	u->started_at = l->b->now;
	u->completed_at = 0;
	struct md_service *s = brain_edit_service(l->b, l->svc->meta.id);
	struct md_service_spec *before = TAKE(s->previous_spec);
	sch_clear(&md_service_spec_schema, &s->spec);
	s->spec = *before;
	free(before);
	if (s->previous_spec_version)
		s->spec_version = *s->previous_spec_version;
	else
		s->spec_version.index++;
	free(s->previous_spec_version);
	s->previous_spec_version = NULL;
	store_tx_touch_version(l->b->tx, s);
	forget_progress(l->m);
	l->m->update_version = s->spec_version.index;
	l->svc = s;
	/* Seen with other eyes from here on: everything else waits for the next look. */
	l->updating = false;
	l->allowed = 0;
	brain_dirty(l->b, l->m->id);
}

static void act_on_failure(struct look *l, const char *task)
{
	size_t total = l->m->update_total ? l->m->update_total : l->slots.len;
	double ratio = total ? (double)l->m->failed.count / (double)total : 1;
	if (ratio <= l->config->max_failure_ratio)
		return;
	switch (l->config->failure_action) {
	case MD_FAILURE_CONTINUE:
		return;
	case MD_FAILURE_ROLLBACK:
		/* A rollback is never rolled back. */
		if (!l->rolling_back && l->svc->previous_spec) {
			roll_back(l, task);
			return;
		}
		pause_update(l, task);
		return;
	default:
		pause_update(l, task);
	}
}

void update_saw_end(struct look *l, const struct md_task *t)
{
	static char present;
	if (!l->updating || t->meta.created_at < started_at(l) || !brain_task_current(l->b, l->svc, t))
		return;
	int64_t up = (int64_t)(intptr_t)map_get(&l->m->up, t->meta.id);
	if (up && l->b->now - up > monitor_of(l->config))
		return;
	/* Seen before when that step was refused: what it did about it was lost. */
	map_put(&l->m->failed, t->meta.id, &present);
	act_on_failure(l, t->meta.id);
}

/* ---- before the slots are decided ---- */

static void read_state(struct look *l)
{
	int state = state_of(l->svc);
	uint64_t version = l->svc->spec_version.index;
	struct bservice *m = l->m;
	/* Another update while one was paused, by somebody who left the status alone. */
	if ((state == MD_UPDATE_PAUSED || state == MD_UPDATE_ROLLBACK_PAUSED) && m->paused_version &&
	    m->paused_version != version)
		state = MD_UPDATE_NONE;
	l->rolling_back = state == MD_UPDATE_ROLLBACK_STARTED || state == MD_UPDATE_ROLLBACK_PAUSED;
	l->updating = state == MD_UPDATE_UPDATING || state == MD_UPDATE_ROLLBACK_STARTED;
	const struct md_update_config *c = l->rolling_back ? l->svc->spec.rollback : l->svc->spec.update;
	l->config = c ? c : &defaults;
	if (state == MD_UPDATE_PAUSED || state == MD_UPDATE_ROLLBACK_PAUSED)
		m->paused_version = version;
	if (l->updating && m->update_version != version) {
		/* Another one while one runs, or a leader that has just come. */
		bool known = m->update_version != 0;
		forget_progress(m);
		m->update_version = version;
		if (known && !l->rolling_back)
			edit_status(l, MD_UPDATE_UPDATING, "update in progress")->started_at = l->b->now;
	}
	if (state == MD_UPDATE_ROLLBACK_STARTED && !l->svc->update_status->started_at)
		edit_status(l, state, l->svc->update_status->message)->started_at = l->b->now;
}

/* Outdated tasks that nobody replaces yet. Counted before anything is retired. */
static size_t outdated_slots(const struct look *l)
{
	size_t n = 0;
	if (l->one_version)
		return 0;
	for (size_t i = 0; i < l->slots.len; i++) {
		const struct slot *s = &l->slots.data[i];
		bool good = false, old = false;
		if (l->mode == MD_MODE_GLOBAL && !node_takes(l, sched_node(l->b->sched, s->node)))
			continue; /* could not be replaced there */
		for (size_t j = 0; j < s->n; j++) {
			const struct md_task *t = s->v[j].t;
			if (!md_task_wanted(t))
				continue;
			bool current = brain_task_current(l->b, l->svc, t);
			good = good || current;
			old = old || !current;
		}
		n += old && !good;
	}
	return n;
}

static bool paused(const struct look *l)
{
	int state = state_of(l->svc);
	return (state == MD_UPDATE_PAUSED || state == MD_UPDATE_ROLLBACK_PAUSED) &&
	       (!l->m->paused_version || l->m->paused_version == l->svc->spec_version.index);
}

static void start_update(struct look *l, size_t outdated)
{
	forget_progress(l->m);
	struct md_update_status *u = edit_status(l, MD_UPDATE_UPDATING, "update in progress");
	u->started_at = l->b->now;
	u->completed_at = 0;
	l->m->update_version = l->svc->spec_version.index;
	l->m->update_total = outdated;
	l->m->paused_version = 0;
	l->updating = true;
}

void update_before(struct look *l)
{
	read_state(l);
	if (paused(l))
		return;
	if (!l->updating) {
		size_t outdated = outdated_slots(l);
		if (!outdated)
			return;
		start_update(l, outdated);
	} else if (!l->m->update_total) {
		size_t outdated = outdated_slots(l);
		l->m->update_total = outdated ? outdated : l->slots.len;
	}
}

/* ---- how many may move ---- */

/* Is the slot's replacement under way, or up for less than the delay? */
static bool occupies(struct look *l, struct slot *s)
{
	if (!s->good || s->good->t->meta.created_at < started_at(l))
		return false;
	const struct md_task *t = s->good->t;
	if (!task_up(l->svc, t)) {
		/* One that failed before has had its turn; the restart policy looks after it. */
		return !s->failed;
	}
	int64_t up = (int64_t)(intptr_t)map_get(&l->m->up, t->meta.id);
	if (!up) {
		up = l->b->now | 1;
		map_put(&l->m->up, t->meta.id, (void *)(intptr_t)up);
	}
	if (up + l->config->delay > l->b->now) {
		wake_at(l, up + l->config->delay);
		return true;
	}
	return false;
}

static bool had_failure(const struct look *l, const struct slot *s)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct md_task *t = s->v[i].t;
		if (!s->v[i].deleted && t->meta.created_at >= started_at(l) && ended_by_itself(t) &&
		    brain_task_current(l->b, l->svc, t))
			return true;
	}
	return false;
}

/* Nobody serves in it, and what comes next there is of the new spec: left by an update that this one overtook. */
static bool vacant(const struct look *l, const struct slot *s)
{
	if (s->good || s->stranded || !s->live)
		return false;
	if (l->mode == MD_MODE_GLOBAL && !node_takes(l, sched_node(l->b->sched, s->node)))
		return false; /* nothing comes there */
	if (s->outdated)
		return !task_up(l->svc, s->outdated->t);
	return s->last && !brain_task_current(l->b, l->svc, s->last->t);
}

void update_count(struct look *l)
{
	l->allowed = l->allowed_vacant = 0;
	if (!l->updating)
		return;
	long busy = 0, free = 0;
	for (size_t i = 0; i < l->slots.len; i++) {
		struct slot *s = &l->slots.data[i];
		s->failed = had_failure(l, s);
		busy += occupies(l, s);
		free += vacant(l, s);
	}
	long limit = l->config->parallelism ? (long)l->config->parallelism : (long)l->slots.len + busy + free;
	l->allowed_vacant = limit - busy;
	l->allowed = limit - busy - free; /* they come first: taking from one that serves would make it one more */
}

/* ---- after ---- */

void update_after(struct look *l)
{
	if (!l->updating)
		return;
	const struct md_update_config *c = l->config;
	for (size_t i = 0; i < l->slots.len; i++) {
		struct slot *s = &l->slots.data[i];
		if (s->finished)
			continue;
		if (slot_needs_update(s))
			return;
		/* Its task was made just now, or waits to be. */
		if (!s->good && s->live && !s->failed)
			return;
		if (!s->good || s->good->t->meta.created_at < started_at(l))
			continue;
		int64_t up = (int64_t)(intptr_t)map_get(&l->m->up, s->good->t->meta.id);
		if (!up && !s->failed)
			return;
		if (up && c->failure_action != MD_FAILURE_CONTINUE && up + monitor_of(c) > l->b->now) {
			wake_at(l, up + monitor_of(c));
			return;
		}
	}
	struct md_update_status *u =
		edit_status(l, l->rolling_back ? MD_UPDATE_ROLLBACK_COMPLETED : MD_UPDATE_COMPLETED,
	                    l->rolling_back ? "rollback completed" : "update completed");
	u->completed_at = l->b->now;
	forget_progress(l->m);
	l->m->update_version = 0;
}
