/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Evening out the tasks of a replicated service that runs as it should, when somebody asks for it: one task after the
 * other is marked as moving; its slot then starts another, and lets go of it once that one is up.
 */
#include "control/orchestrator/slots.h"

struct place {
	const struct md_node *node;
	uint32_t here; /* tasks of the service */
	size_t all;    /* tasks of anybody */
};

static size_t wanted_on(const struct look *l, const char *node)
{
	struct store_list t = store_tasks_of_node(l->b->s, node);
	size_t n = 0;
	for (size_t i = 0; i < t.n; i++)
		n += md_task_wanted(t.v[i]);
	return n;
}

/* Nothing is under way in any slot: each has its one task, which is up. */
static bool settled(const struct look *l)
{
	for (size_t i = 0; i < l->slots.len; i++) {
		const struct slot *s = &l->slots.data[i];
		if (!s->live)
			continue;
		if (s->moving || s->outdated || s->stranded || !s->good || s->good->deleted ||
		    !task_up(l->svc, s->good->t))
			return false;
		for (size_t k = 0; k < s->n; k++)
			if (!s->v[k].deleted && s->v[k].node && !md_task_ended(s->v[k].t) && &s->v[k] != s->good)
				return false;
	}
	return true;
}

/* The successor of a moving task found no better place: what is there stays. */
static bool in_vain(const struct slot *s)
{
	if (!s->moving || !s->good || !s->stranded)
		return false;
	const struct md_task *t = s->good->t;
	bool unplaced = ID_EMPTY(t->node) && t->status.err && *t->status.err;
	return unplaced || ID_EQ(t->node, s->stranded->t->node);
}

static void stop(struct look *l)
{
	struct md_service *e = brain_edit_service(l->b, l->svc->meta.id);
	e->rebalance = 0;
	l->svc = e;
	for (size_t i = 0; i < l->slots.len; i++)
		for (size_t k = 0; k < l->slots.data[i].n; k++) {
			struct view *v = &l->slots.data[i].v[k];
			if (!v->deleted && v->t->moving) {
				struct md_task *t = brain_edit_task(l->b, v->t->meta.id);
				t->moving = false;
				v->t = t;
			}
		}
	brain_dirty(l->b, l->m->id);
}

/* The fullest and the emptiest node; false when a move between them evens nothing out. */
static bool find_move(const struct look *l, struct place *from, struct place *to)
{
	bool first = true;
	for (size_t i = 0; i < sched_node_slots(l->b->sched); i++) {
		const struct md_node *n = sched_node_at(l->b->sched, i);
		if (!n || !node_takes(l, n))
			continue;
		struct place p = { n, sched_count(l->b->sched, l->m->id, n->meta.id), wanted_on(l, n->meta.id) };
		if (first || p.here > from->here || (p.here == from->here && p.all > from->all))
			*from = p;
		if (first || p.here < to->here || (p.here == to->here && p.all < to->all))
			*to = p;
		first = false;
	}
	if (first || from->here <= to->here)
		return false;
	return from->here - to->here >= 2 || from->all >= to->all + 2;
}

void rebalance_decide(struct look *l)
{
	struct place from = { 0 }, to = { 0 };
	if (!l->svc->rebalance)
		return;
	for (size_t i = 0; i < l->slots.len; i++)
		if (in_vain(&l->slots.data[i])) {
			stop(l);
			return;
		}
	if (l->updating || !settled(l))
		return;
	if (!find_move(l, &from, &to)) {
		stop(l);
		return;
	}
	for (size_t i = l->slots.len; i-- > 0;) {
		struct slot *s = &l->slots.data[i];
		if (!s->live || !streq(s->good->t->node.s, from.node->meta.id))
			continue;
		struct md_service *e = brain_edit_service(l->b, l->svc->meta.id);
		e->rebalance--;
		l->svc = e;
		struct md_task *t = brain_edit_task(l->b, s->good->t->meta.id);
		t->moving = true;
		s->good->t = t;
		brain_dirty(l->b, l->m->id);
		return;
	}
	stop(l);
}

int brain_rebalance(struct md_service *s, struct mesh_err *err)
{
	const char *strategy = smap_get(&s->spec.labels, "mesh.strategy");
	if (md_service_mode_of(&s->spec) != MD_MODE_REPLICATED)
		return mesh_fail(err, MESH_E_INVALID, "service %s: only replicated services can be rebalanced",
		                 s->spec.name);
	if (strategy && strcmp(strategy, "spread"))
		return mesh_fail(err, MESH_E_INVALID, "service %s: its strategy is %s, which evens nothing out",
		                 s->spec.name, strategy);
	if (s->update_status && s->update_status->state == MD_UPDATE_PAUSED)
		return mesh_fail(err, MESH_E_CONFLICT, "service %s: its update is paused; end that first",
		                 s->spec.name);
	s->rebalance = md_service_replicas(&s->spec);
	return 0;
}
