/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The four modes: how many slots a service has, and which. */
#include "control/orchestrator/slots.h"

/* ---- replicated ---- */

struct rank {
	struct slot *s;
	bool up;
	uint32_t on_node; /* how many better ones of the service share its node */
	int64_t since;
};

static const struct view *face(const struct slot *s)
{
	return s->good ? s->good : s->outdated ? s->outdated : s->stranded;
}

static int by_worth(const void *x, const void *y)
{
	const struct rank *a = x, *b = y;
	if (a->up != b->up)
		return a->up ? -1 : 1;
	if (a->on_node != b->on_node)
		return a->on_node < b->on_node ? -1 : 1;
	if (a->since != b->since)
		return a->since < b->since ? -1 : 1;
	return a->s->num < b->s->num ? -1 : a->s->num > b->s->num;
}

static void remove_slot(struct look *l, struct slot *s)
{
	for (size_t i = 0; i < s->n; i++)
		view_wish(l, &s->v[i], MD_TASK_REMOVE);
	s->live = false;
	s->last = s->good = s->outdated = s->stranded = NULL;
}

/* Keeps the ones that run, from nodes that have few; among those the oldest. */
static void scale_down(struct look *l, struct rank *r, size_t n, size_t keep)
{
	struct map on_node = { 0 };
	for (size_t i = 0; i < n; i++) {
		const struct view *v = face(r[i].s);
		r[i].up = v && task_up(l->svc, v->t);
		r[i].since = v ? v->t->meta.created_at : INT64_MAX;
	}
	qsort(r, n, sizeof(*r), by_worth);
	for (size_t i = 0; i < n; i++) {
		const struct view *v = face(r[i].s);
		if (!v || ID_EMPTY(v->t->node))
			continue;
		uintptr_t seen = (uintptr_t)map_get(&on_node, v->t->node.s);
		r[i].on_node = (uint32_t)seen;
		map_put(&on_node, v->t->node.s, (void *)(seen + 1));
	}
	map_fini(&on_node);
	qsort(r, n, sizeof(*r), by_worth);
	for (size_t i = keep; i < n; i++) {
		if (l->b->budget <= 0) {
			brain_dirty(l->b, l->m->id);
			return;
		}
		remove_slot(l, r[i].s);
	}
}

/* New slots take the lowest numbers that are free; slots are sorted by number. */
static void scale_up(struct look *l, size_t missing)
{
	size_t i = 0;
	for (uint64_t num = 1; missing; num++) {
		while (i < l->slots.len && l->slots.data[i].num < num)
			i++;
		if (i < l->slots.len && l->slots.data[i].num == num && l->slots.data[i].live)
			continue;
		if (l->b->budget <= 0) {
			brain_dirty(l->b, l->m->id);
			return;
		}
		struct slot fresh = { .num = num, .node = "" };
		slot_create(l, &fresh, MD_TASK_RUNNING, NULL);
		missing--;
	}
}

void replicated_decide(struct look *l)
{
	size_t want = (size_t)md_service_replicas(&l->svc->spec), n = 0;
	CLEAN_FREE struct rank *r = xcalloc(l->slots.len + 1, sizeof(*r));
	for (size_t i = 0; i < l->slots.len; i++) {
		struct slot *s = &l->slots.data[i];
		if (!s->num) /* left from when the service was global */
			remove_slot(l, s);
		else if (s->live)
			r[n++].s = s;
	}
	if (n > want)
		scale_down(l, r, n, want);
	update_count(l);
	for (size_t i = 0; i < l->slots.len; i++)
		if (l->slots.data[i].live)
			slot_decide(l, &l->slots.data[i]);
	if (n < want)
		scale_up(l, want - n);
	else
		rebalance_decide(l);
}

/* ---- global ---- */

static struct slot *slot_of_node(struct look *l, const char *node)
{
	size_t lo = 0, hi = l->slots.len; /* sorted: numbered ones behind, nodes by id */
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct slot *s = &l->slots.data[mid];
		int d = s->num ? 1 : strcmp(s->node, node);
		if (!d)
			return &l->slots.data[mid];
		if (d < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

bool node_takes(const struct look *l, const struct md_node *n)
{
	return n && n->status.state == MD_NODE_READY && n->spec.availability == MD_AVAIL_ACTIVE &&
	       (l->match ? sched_matcher_ok(l->match, n) : sched_node_matches(&l->svc->spec.task, n));
}

static void leave_node(struct look *l, struct slot *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (!s->v[i].deleted && md_task_wanted(s->v[i].t))
			view_wish(l, &s->v[i], MD_TASK_SHUTDOWN);
}

static void decide_node(struct look *l, struct slot *s)
{
	const struct md_node *n = sched_node(l->b->sched, s->node);
	if (!node_keeps_tasks(n) || !sched_matcher_ok(l->match, n)) {
		leave_node(l, s);
		s->good = s->outdated = s->stranded = NULL;
		s->finished = true;
	} else if (node_takes(l, n) || s->good) {
		slot_decide(l, s);
	} else {
		s->finished = true; /* paused: what runs stays, nothing new comes */
	}
}

static void new_nodes(struct look *l)
{
	for (size_t i = 0; i < sched_node_slots(l->b->sched); i++) {
		const struct md_node *n = sched_node_at(l->b->sched, i);
		if (!node_takes(l, n) || slot_of_node(l, n->meta.id))
			continue;
		if (l->b->budget <= 0) {
			brain_dirty(l->b, l->m->id);
			return;
		}
		struct slot fresh = { .node = n->meta.id };
		slot_create(l, &fresh, MD_TASK_RUNNING, NULL);
	}
}

void global_decide(struct look *l)
{
	for (size_t i = 0; i < l->slots.len; i++)
		if (l->slots.data[i].num)
			remove_slot(l, &l->slots.data[i]);
	update_count(l);
	for (size_t i = 0; i < l->slots.len; i++)
		if (!l->slots.data[i].num)
			decide_node(l, &l->slots.data[i]);
	new_nodes(l);
}

/* ---- jobs ---- */

static uint64_t iteration_of(const struct md_task *t)
{
	return t->job_iteration ? t->job_iteration->index : 0;
}

/* Is the newest task of the slot of this run of the job? */
static bool this_run(const struct look *l, const struct slot *s)
{
	return s->last && iteration_of(s->last->t) == l->svc->job_status->iteration.index;
}

/* A template that changed is a new run, whether or not the API counted it. */
static void check_iteration(struct look *l)
{
	const struct md_service *s = l->svc;
	bool stale = !s->job_status;
	for (size_t i = 0; i < l->views.len && !stale; i++) {
		if (l->views.data[i].deleted)
			continue;
		const struct md_task *t = l->views.data[i].t;
		stale = t->desired_state < MD_TASK_REMOVE && iteration_of(t) == s->job_status->iteration.index &&
		        !brain_task_current(l->b, s, t);
	}
	if (!stale)
		return;
	struct md_service *e = brain_edit_service(l->b, s->meta.id);
	if (!e->job_status)
		e->job_status = XNEW(struct md_job_status);
	else
		e->job_status->iteration.index++;
	e->job_status->last_execution = l->b->now;
	l->svc = e;
}

static void drop_old_runs(struct look *l)
{
	for (size_t i = 0; i < l->slots.len; i++) {
		struct slot *s = &l->slots.data[i];
		for (size_t j = 0; j < s->n; j++)
			if (!s->v[j].deleted && iteration_of(s->v[j].t) != l->svc->job_status->iteration.index)
				view_wish(l, &s->v[j], MD_TASK_REMOVE);
		s->live = s->live && (!s->last || this_run(l, s));
		if (!s->live)
			s->last = s->good = s->outdated = s->stranded = NULL;
	}
}

static bool slot_complete(const struct slot *s)
{
	return s->last && s->last->t->status.state == MD_TASK_COMPLETE;
}

static void replicated_job(struct look *l)
{
	const struct md_replicated_job *j = l->svc->spec.mode.replicated_job;
	uint64_t total = j->total_completions.set ? j->total_completions.v
	                 : j->max_concurrent.set  ? j->max_concurrent.v
	                                          : 1;
	uint64_t at_once = j->max_concurrent.set && j->max_concurrent.v ? j->max_concurrent.v : total;
	uint64_t taken = 0, active = 0;
	for (size_t i = 0; i < l->slots.len; i++) {
		struct slot *s = &l->slots.data[i];
		if (!s->live)
			continue;
		taken++;
		if (slot_complete(s)) {
			leave_node(l, s); /* another of it, on its way out, is not needed any more */
			continue;
		}
		slot_decide(l, s); /* restarts, moves away from nodes that went */
		active += !s->finished;
	}
	uint64_t room = at_once > active ? at_once - active : 0, left = total > taken ? total - taken : 0;
	scale_up(l, (size_t)(room < left ? room : left));
}

static void global_job(struct look *l)
{
	for (size_t i = 0; i < l->slots.len; i++) {
		struct slot *s = &l->slots.data[i];
		if (slot_complete(s))
			leave_node(l, s);
		else if (s->live)
			decide_node(l, s);
	}
	for (size_t i = 0; i < sched_node_slots(l->b->sched); i++) {
		const struct md_node *n = sched_node_at(l->b->sched, i);
		const struct slot *s = n ? slot_of_node(l, n->meta.id) : NULL;
		if (!node_takes(l, n) || (s && s->live))
			continue;
		if (l->b->budget <= 0) {
			brain_dirty(l->b, l->m->id);
			return;
		}
		struct slot fresh = { .node = n->meta.id };
		slot_create(l, &fresh, MD_TASK_RUNNING, NULL);
	}
}

void job_decide(struct look *l)
{
	check_iteration(l);
	drop_old_runs(l);
	if (l->mode == MD_MODE_REPLICATED_JOB)
		replicated_job(l);
	else
		global_job(l);
}
