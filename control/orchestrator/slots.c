/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/orchestrator/slots.h"

void wake_at(struct look *l, int64_t when)
{
	if (when < l->wake)
		l->wake = when;
}

bool node_keeps_tasks(const struct md_node *n)
{
	return n && n->status.state != MD_NODE_DOWN && n->spec.availability != MD_AVAIL_DRAIN;
}

bool task_up(const struct md_service *svc, const struct md_task *t)
{
	if (t->status.state != MD_TASK_RUNNING || t->desired_state > MD_TASK_RUNNING)
		return false;
	(void)svc;
	return t->status.traffic >= MD_TRAFFIC_SERVING ? t->known : !t->endpoint.ports.n;
}

/* ---- opening: the tasks of the service, slot by slot ---- */

static int by_slot(const void *x, const void *y)
{
	const struct view *a = x, *b = y;
	if (a->t->slot != b->t->slot)
		return a->t->slot < b->t->slot ? -1 : 1;
	int d = a->t->slot ? 0 : strcmp(a->t->node.s, b->t->node.s);
	if (d)
		return d;
	if (a->t->meta.created_at != b->t->meta.created_at)
		return a->t->meta.created_at < b->t->meta.created_at ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static bool same_slot(const struct md_task *a, const struct md_task *b)
{
	return a->slot == b->slot && (a->slot || ID_EQ(a->node, b->node));
}

void look_open(struct look *l, struct brain *b, struct bservice *m, const struct md_service *svc, const char *id)
{
	*l = (struct look){ .b = b, .m = m, .svc = svc, .wake = NEVER };
	if (svc)
		l->mode = md_service_mode_of(&svc->spec);
	/*
	 * As the store has them: a step looks at a service once, before it changes any of its tasks. The dispatcher
	 * may have reports of some in the same transaction; their events come when it is applied.
	 */
	struct store_list tasks = store_tasks_of_service(b->s, id);
	l->one_version = true;
	for (size_t i = 0; i < tasks.n; i++) {
		const struct md_task *t = tasks.v[i];
		struct view v = { .t = t, .order = i };
		v.node = ID_EMPTY(t->node) ? NULL : sched_node(b->sched, t->node.s);
		l->one_version = l->one_version && svc && t->spec_version.index == svc->spec_version.index;
		vec_push(&l->views, v);
	}
	if (l->views.len)
		qsort(l->views.data, l->views.len, sizeof(struct view), by_slot);
	for (size_t i = 0, j; i < l->views.len; i = j) {
		for (j = i + 1; j < l->views.len && same_slot(l->views.data[i].t, l->views.data[j].t); j++)
			;
		const struct md_task *t = l->views.data[i].t;
		struct slot s = {
			.v = &l->views.data[i], .n = j - i, .num = t->slot, .node = t->slot ? "" : t->node.s
		};
		vec_push(&l->slots, s);
	}
}

void look_close(struct look *l)
{
	vec_fini(&l->views);
	vec_fini(&l->slots);
	sched_matcher_free(l->match);
}

/* ---- writing ---- */

void view_wish(struct look *l, struct view *v, int desired)
{
	if (v->deleted || v->t->desired_state >= desired)
		return;
	struct md_task *t = brain_edit_task(l->b, v->t->meta.id);
	v->t = t;
	t->desired_state = desired;
	sched_task_put(l->b->sched, t);
	if (desired > MD_TASK_RUNNING) {
		map_del(&l->b->fresh, t->meta.id);
		map_del(&l->b->waiting, t->meta.id);
	}
}

static void view_delete(struct look *l, struct view *v)
{
	brain_delete_task(l->b, v->t->meta.id);
	v->deleted = true;
}

void slot_create(struct look *l, struct slot *s, int desired, const struct md_task *replaced)
{
	if (replaced)
		restart_note(l, s, replaced);
	(void)brain_new_task(l->b, l->svc, s->num, s->node, desired);
}

/* ---- what a slot has ---- */

/* Nothing more will come of it: it ended, or never got to a node, or its node is gone. */
static bool over(const struct view *v)
{
	if (md_task_ended(v->t))
		return true;
	if (v->t->status.state < MD_TASK_ASSIGNED)
		return v->t->desired_state > MD_TASK_RUNNING;
	return !v->node;
}

static void retire_dead(struct look *l, struct slot *s, struct view *v)
{
	const struct md_task *t = v->t;
	/*
	 * One that ended before its time had come (an image that is not there fails while it waits out the
	 * restart delay) stays until then: its replacement must not come sooner.
	 */
	if (t->desired_state < MD_TASK_RUNNING) {
		int64_t at = release_time(l, s, v);
		if (at > l->b->now && at != NEVER) {
			wake_at(l, at);
			return;
		}
	}
	update_saw_end(l, t);
	view_wish(l, v,
	          t->status.state == MD_TASK_COMPLETE && l->mode >= MD_MODE_REPLICATED_JOB ? MD_TASK_COMPLETE
	                                                                                   : MD_TASK_SHUTDOWN);
}

/* Of two of a kind, the one that is up; else the older. */
static struct view *better(const struct look *l, struct view *a, struct view *b)
{
	return !a || (!task_up(l->svc, a->t) && task_up(l->svc, b->t)) ? b : a;
}

static void file_wanted(struct look *l, struct slot *s, struct view *v)
{
	const struct md_task *t = v->t;
	const struct md_node *n = v->node;
	bool placed = !ID_EMPTY(t->node);
	bool current = brain_task_current(l->b, l->svc, t);
	if (placed && (!node_keeps_tasks(n) || (current && !sched_matcher_ok(l->match, n)))) {
		s->stranded = better(l, s->stranded, v);
		s->down = s->down || !n || n->status.state == MD_NODE_DOWN;
	} else if (current && placed && t->moving) {
		s->stranded = better(l, s->stranded, v);
		s->moving = true;
	} else if (!current) {
		s->outdated = better(l, s->outdated, v);
	} else {
		s->good = better(l, s->good, v);
	}
}

static void slot_sort_out(struct look *l, struct slot *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct view *v = &s->v[i];
		if (v->t->desired_state <= MD_TASK_RUNNING && md_task_ended(v->t))
			retire_dead(l, s, v);
		/* A node that left took its tasks along; what is to be removed goes without a trace. */
		bool lost = v->t->status.state >= MD_TASK_ASSIGNED && !md_task_ended(v->t) && over(v);
		bool unborn = v->t->status.state < MD_TASK_ASSIGNED && over(v);
		if (lost || unborn || (v->t->desired_state >= MD_TASK_REMOVE && over(v))) {
			s->live = s->live || v->t->desired_state < MD_TASK_REMOVE;
			view_delete(l, v);
			continue;
		}
		if (v->t->desired_state < MD_TASK_REMOVE) {
			s->live = true;
			s->last = v;
		}
		if (md_task_wanted(v->t))
			file_wanted(l, s, v);
	}
}

void slots_sort_out(struct look *l)
{
	l->match = sched_matcher_new(&l->svc->spec.task);
	for (size_t i = 0; i < l->slots.len; i++)
		slot_sort_out(l, &l->slots.data[i]);
}

/* ---- decisions ---- */

static bool still_stopping(const struct look *l, const struct slot *s)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct md_task *t = s->v[i].t;
		if (s->v[i].deleted || md_task_ended(t) || t->desired_state <= MD_TASK_RUNNING ||
		    t->desired_state >= MD_TASK_REMOVE)
			continue;
		const struct md_node *n = sched_node(l->b->sched, t->node.s);
		if (n && n->status.state != MD_NODE_DOWN)
			return true;
	}
	return false;
}

/* Ends every wanted task of the slot but one or two. */
static void retire_others(struct look *l, struct slot *s, const struct view *keep, const struct view *keep2)
{
	for (size_t i = 0; i < s->n; i++)
		if (&s->v[i] != keep && &s->v[i] != keep2 && !s->v[i].deleted && md_task_wanted(s->v[i].t))
			view_wish(l, &s->v[i], MD_TASK_SHUTDOWN);
}

/* The one that serves until its successor is up; NULL when there is none worth keeping. */
static struct view *elder(const struct look *l, const struct slot *s)
{
	struct view *stays = s->down ? NULL : s->stranded;
	if (s->outdated && stays)
		return task_up(l->svc, s->outdated->t) ? s->outdated : better(l, s->outdated, stays);
	return s->outdated ? s->outdated : stays;
}

static bool start_first(const struct look *l, const struct slot *s)
{
	if (s->moving)
		return true;

	const struct md_update_config *c = l->config ? l->config : l->svc->spec.update;
	bool job = l->mode == MD_MODE_REPLICATED_JOB || l->mode == MD_MODE_GLOBAL_JOB;
	return !job && c && c->order == MD_ORDER_START_FIRST;
}

/* Nothing wanted is left in it. */
static void decide_empty(struct look *l, struct slot *s)
{
	const struct md_task *last = s->last ? s->last->t : NULL;
	if (last && last->desired_state <= MD_TASK_RUNNING)
		return; /* ended early, waits for its time */
	if (last && ended_by_itself(last) && brain_task_current(l->b, l->svc, last)) {
		if (!restart_allowed(l, s)) {
			s->finished = true;
			return;
		}
		slot_create(l, s, MD_TASK_READY, last);
		return;
	}
	slot_create(l, s, still_stopping(l, s) ? MD_TASK_READY : MD_TASK_RUNNING, NULL);
}

/*
 * Replaces what the slot has. With start-first the old one stays until the new one is up; one made before may have
 * failed: then the restart policy has its say.
 */
static void replace(struct look *l, struct slot *s, bool first)
{
	const struct md_task *last = s->last ? s->last->t : NULL;
	bool again = last && last->desired_state > MD_TASK_RUNNING && ended_by_itself(last) &&
	             brain_task_current(l->b, l->svc, last);
	if (first) {
		retire_others(l, s, elder(l, s), NULL);
		if (last && md_task_ended(last) && last->desired_state <= MD_TASK_RUNNING)
			return;
		if (again && !restart_allowed(l, s))
			return;
		slot_create(l, s, again ? MD_TASK_READY : MD_TASK_RUNNING, again ? last : NULL);
		return;
	}
	retire_others(l, s, NULL, NULL);
	slot_create(l, s, still_stopping(l, s) ? MD_TASK_READY : MD_TASK_RUNNING, NULL);
}

static void decide_good(struct look *l, struct slot *s)
{
	const struct md_task *t = s->good->t;
	if (t->desired_state < MD_TASK_RUNNING) {
		int64_t at = release_time(l, s, s->good);
		if (at <= l->b->now)
			view_wish(l, s->good, MD_TASK_RUNNING);
		else
			wake_at(l, at);
	}
	bool alone = task_up(l->svc, t) || !start_first(l, s);
	retire_others(l, s, s->good, alone ? NULL : elder(l, s));
}

void slot_decide(struct look *l, struct slot *s)
{
	if (l->b->budget < SLOT_BUDGET) {
		brain_dirty(l->b, l->m->id);
		return;
	}
	if (s->good) {
		decide_good(l, s);
	} else if (s->outdated) {
		/* One that was never told to run serves nobody: no update has to be careful with it. */
		bool idle = s->outdated->t->desired_state < MD_TASK_RUNNING;
		long *allowed = task_up(l->svc, s->outdated->t) ? &l->allowed : &l->allowed_vacant;
		if (!idle && *allowed <= 0) {
			/* Left by an update over an update: one is enough. */
			retire_others(l, s, elder(l, s), NULL);
			return;
		}
		--*allowed;
		if (s->stranded && s->down)
			view_wish(l, s->stranded, MD_TASK_SHUTDOWN);
		replace(l, s, start_first(l, s));
	} else if (s->stranded) {
		replace(l, s, start_first(l, s) && !s->down);
	} else {
		decide_empty(l, s);
	}
}

/* ---- history ---- */

static void reap_slot(struct look *l, struct slot *s, size_t keep)
{
	size_t have = 0;
	for (size_t i = 0; i < s->n; i++)
		have += !s->v[i].deleted;
	for (size_t i = 0; i < s->n && have > keep; i++) {
		struct view *v = &s->v[i];
		/* The newest says what happened last: a policy may depend on it. */
		if (v->deleted || v == s->last || v->t->desired_state <= MD_TASK_RUNNING || !over(v))
			continue;
		view_delete(l, v);
		have--;
	}
}

void reap_history(struct look *l)
{
	const struct md_cluster *c = store_cluster(l->b->s);
	struct opt_i64 limit = c ? c->spec.orchestration.task_history : (struct opt_i64){ 0 };
	int64_t keep = limit.set ? limit.v : 5;
	if (keep < 0)
		return;
	for (size_t i = 0; i < l->slots.len && l->b->budget > 0; i++)
		if (l->slots.data[i].n > (size_t)keep)
			reap_slot(l, &l->slots.data[i], (size_t)keep);
}
