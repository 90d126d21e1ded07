/* SPDX-License-Identifier: GPL-2.0-or-later */
/* New tasks get addresses, then a node: all tasks of one spec together. */
#include "control/orchestrator/brain_impl.h"

struct pick {
	const struct md_task *t;
	size_t order;
};

static int by_spec(const void *x, const void *y)
{
	const struct pick *a = x, *b = y;
	int d = strcmp(a->t->service.s, b->t->service.s);
	if (d)
		return d;
	if (a->t->spec_version.index != b->t->spec_version.index)
		return a->t->spec_version.index < b->t->spec_version.index ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static bool same_group(const struct md_task *a, const struct md_task *b)
{
	return ID_EQ(a->service, b->service) && a->spec_version.index == b->spec_version.index;
}

static void set_waiting(struct brain *b, const char *id)
{
	static char present;
	map_del(&b->fresh, id);
	map_put(&b->waiting, id, &present);
}

/* Writes why a task waits, when that is news. */
static void explain(struct brain *b, const struct md_task *t, int state, const char *message, const char *why)
{
	set_waiting(b, t->meta.id);
	if (t->status.state >= state && streq(t->status.err, why) && streq(t->status.message, message))
		return;
	CLEAN_FREE char *said = xstrdup(message); /* may be t's own */
	struct md_task *e = brain_edit_task(b, t->meta.id);
	if (e->status.state < state)
		e->status.state = state;
	str_set(&e->status.err, why);
	str_set(&e->status.message, said);
	e->status.timestamp = b->now;
}

static void assigned(struct brain *b, struct md_task *t, const char *message)
{
	t->status.state = MD_TASK_ASSIGNED;
	t->status.timestamp = b->now;
	str_set(&t->status.err, NULL);
	str_set(&t->status.message, message);
	map_del(&b->fresh, t->meta.id);
	map_del(&b->waiting, t->meta.id);
}

/* Addresses; false when it has to wait. */
static bool allocate(struct brain *b, const struct md_task *t)
{
	struct bservice *v = brain_service(b, t->service.s);
	if (v->alloc_error) {
		explain(b, t, MD_TASK_NEW, t->status.message, v->alloc_error);
		return false;
	}
	if (t->status.state >= MD_TASK_PENDING)
		return true;
	struct mesh_err err = { 0 };
	struct md_task *e = brain_edit_task(b, t->meta.id);
	if (alloc_task(b->alloc, e, &err)) {
		explain(b, e, MD_TASK_NEW, e->status.message, err.msg);
		return false;
	}
	e->status.state = MD_TASK_PENDING;
	e->status.timestamp = b->now;
	str_set(&e->status.message, "pending task scheduling");
	str_set(&e->status.err, NULL);
	return true;
}

static void explain_node(struct brain *b, const struct md_task *t)
{
	char text[SCHED_TEXT_MAX], detail[SCHED_TEXT_MAX];
	sched_explain(b->sched, t, text, detail);
	CLEAN_FREE char *message = xasprintf("pending task scheduling%s%s", detail[0] ? ": " : "", detail);
	explain(b, t, MD_TASK_PENDING, message, text);
}

static void confirm(struct brain *b, const struct md_task *t)
{
	struct md_task *e = brain_edit_task(b, t->meta.id);
	if (sched_confirm(b->sched, e) == SCHED_OK)
		assigned(b, e, "scheduler confirmed task can run on preassigned node");
	else
		explain_node(b, e);
}

/* The tasks of one spec; v[0..n). */
static void place_group(struct brain *b, const struct pick *v, size_t n)
{
	struct sched_batch *batch = NULL;
	bool full = false;
	char text[SCHED_TEXT_MAX] = "", detail[SCHED_TEXT_MAX] = "";
	CLEAN_FREE char *message = NULL;
	for (size_t i = 0; i < n && b->budget > 0; i++) {
		const char *id = v[i].t->meta.id;
		if (!allocate(b, store_tx_get(b->tx, STORE_TASK, id)))
			continue;
		const struct md_task *t = store_tx_get(b->tx, STORE_TASK, id);
		if (!ID_EMPTY(t->node)) {
			confirm(b, t);
			continue;
		}
		if (!full) {
			struct md_task *e = brain_edit_task(b, id);
			if (!batch)
				batch = sched_batch_new(b->sched, v[0].t, b->now);
			if (sched_place(batch, e)) {
				assigned(b, e, "scheduler assigned task to node");
				continue;
			}
			full = true;
			sched_explain(b->sched, e, text, detail);
			message = xasprintf("pending task scheduling%s%s", detail[0] ? ": " : "", detail);
		}
		explain(b, store_tx_get(b->tx, STORE_TASK, id), MD_TASK_PENDING, message, text);
	}
	sched_batch_free(batch);
}

static void collect(struct brain *b, struct map *from, struct pick *v, size_t *n)
{
	MAP_FOREACH(from, e) {
		const struct md_task *t = store_tx_get(b->tx, STORE_TASK, e->key);
		if (!t || t->desired_state > MD_TASK_RUNNING || t->status.state >= MD_TASK_ASSIGNED) {
			map_del(from, e->key);
			continue;
		}
		v[*n] = (struct pick){ t, *n };
		(*n)++;
	}
}

void brain_place(struct brain *b)
{
	bool all = b->retry_waiting;
	size_t max = b->fresh.count + (all ? b->waiting.count : 0), n = 0;
	if (!max) {
		b->retry_waiting = false;
		return;
	}
	CLEAN_FREE struct pick *v = xcalloc(max, sizeof(*v));
	b->budget = STEP_BUDGET; /* what this step created is placed by it, too */
	collect(b, &b->fresh, v, &n);
	if (all)
		collect(b, &b->waiting, v, &n);
	qsort(v, n, sizeof(*v), by_spec);
	for (size_t i = 0, j; i < n && b->budget > 0; i = j) {
		for (j = i + 1; j < n && same_group(v[i].t, v[j].t); j++)
			;
		place_group(b, v + i, j - i);
	}
	/* Out of budget: what was not reached is tried in the next step. */
	b->retry_waiting = all && b->budget <= 0;
}
