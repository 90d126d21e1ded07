/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The restart supervisor: condition, delay, attempts within a window. */
#include <stdio.h>

#include "control/orchestrator/slots.h"

bool ended_by_itself(const struct md_task *t)
{
	int s = t->status.state;
	return s == MD_TASK_COMPLETE || s == MD_TASK_FAILED || s == MD_TASK_REJECTED;
}

static const char *slot_key(const struct slot *s, char out[48])
{
	if (s->num)
		snprintf(out, 48, "%llu", (unsigned long long)s->num);
	else
		snprintf(out, 48, "%s", s->node);
	return out;
}

static struct bslot *bslot_of(struct look *l, const struct slot *s)
{
	char key[48];
	struct bslot *m = map_get(&l->m->slots, slot_key(s, key));
	if (!m) {
		m = XNEW(struct bslot);
		m->version = l->svc->spec_version.index;
		map_put(&l->m->slots, key, m);
		/* After a change of leader: what the history says. */
		const struct md_task *before = NULL;
		for (size_t i = 0; i < s->n; i++) {
			const struct md_task *t = s->v[i].t;
			if (s->v[i].deleted || t->spec_version.index != m->version)
				continue;
			if (before) {
				struct brestart r = { hash64(before->meta.id, MESH_ID_LEN), t->meta.created_at };
				vec_push(&m->restarts, r);
			}
			before = t;
		}
	}
	if (m->version != l->svc->spec_version.index) { /* another spec: past failures do not count against it */
		m->version = l->svc->spec_version.index;
		m->restarts.len = 0;
	}
	return m;
}

void restart_note(struct look *l, const struct slot *s, const struct md_task *replaced)
{
	const struct md_restart_policy *p = replaced->spec.restart;
	if (!p || !p->max_attempts.set || !p->max_attempts.v)
		return;
	struct bslot *m = bslot_of(l, s);
	struct brestart r = { hash64(replaced->meta.id, MESH_ID_LEN), l->b->now };
	for (size_t i = 0; i < m->restarts.len; i++)
		if (m->restarts.data[i].replaced == r.replaced)
			return; /* noted by a step whose changes were refused */
	if (m->restarts.len > 2 * p->max_attempts.v && m->restarts.len > 64)
		vec_remove(&m->restarts, 0);
	vec_push(&m->restarts, r);
}

bool restart_allowed(struct look *l, const struct slot *s)
{
	const struct md_task *t = s->last->t;
	const struct md_restart_policy *p = t->spec.restart;
	int condition = p ? p->condition : MD_RESTART_ANY;
	if (condition == MD_RESTART_NONE || (condition == MD_RESTART_ON_FAILURE && t->status.state == MD_TASK_COMPLETE))
		return false;
	if (!p || !p->max_attempts.set || !p->max_attempts.v)
		return true;
	const struct bslot *m = bslot_of(l, s);
	int64_t since = p->window.set && p->window.v > 0 ? t->status.timestamp - p->window.v : INT64_MIN;
	uint64_t count = 0;
	for (size_t i = 0; i < m->restarts.len; i++)
		count += m->restarts.data[i].when > since;
	return count < p->max_attempts.v;
}

static int64_t delay_of(const struct md_task *t)
{
	const struct md_restart_policy *p = t->spec.restart;
	return p && p->delay.set ? p->delay.v : 5 * NS_PER_SEC;
}

static int64_t patience(const struct md_task *t)
{
	const struct md_container_spec *c = t->spec.container;
	int64_t grace = c && c->stop_grace_period.set ? c->stop_grace_period.v : 10 * NS_PER_SEC;
	return OLD_TASK_PATIENCE + 2 * grace;
}

int64_t release_time(const struct look *l, const struct slot *s, const struct view *v)
{
	int64_t at = v->t->meta.created_at;
	const struct md_task *before = NULL;
	for (const struct view *o = s->v; o < v; o++)
		if (!o->deleted && o->t->desired_state < MD_TASK_REMOVE)
			before = o->t;
	const struct md_node *n = before ? sched_node(l->b->sched, before->node.s) : NULL;
	if (before && ended_by_itself(before) && before->spec_version.index == v->t->spec_version.index &&
	    !(n && n->spec.availability == MD_AVAIL_DRAIN))
		at += delay_of(before);
	for (const struct view *o = s->v; o < v; o++) {
		const struct md_task *t = o->t;
		if (o->deleted || md_task_ended(t) || t->desired_state <= MD_TASK_RUNNING ||
		    t->desired_state >= MD_TASK_REMOVE || t->status.state < MD_TASK_ASSIGNED)
			continue;
		n = sched_node(l->b->sched, t->node.s);
		if (!n || n->status.state == MD_NODE_DOWN)
			continue;
		/* Its end is an event; this is for one that never ends. */
		int64_t until = v->t->meta.created_at + patience(t);
		at = until > at ? until : at;
	}
	return at;
}
