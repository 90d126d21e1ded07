/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One look at one service. */
#include "control/orchestrator/slots.h"

/* The service is gone or going: its tasks end and leave no trace. */
static void remove_all(struct look *l, const char *id)
{
	size_t left = 0;
	for (size_t i = 0; i < l->views.len; i++) {
		struct view *v = &l->views.data[i];
		if (l->b->budget <= 0) {
			brain_dirty(l->b, id);
			return;
		}
		const struct md_task *t = v->t;
		bool over = md_task_ended(t) || t->status.state < MD_TASK_ASSIGNED || !v->node;
		if (over) {
			brain_delete_task(l->b, t->meta.id);
			continue;
		}
		left++;
		view_wish(l, v, MD_TASK_REMOVE);
	}
	if (!left && l->svc) {
		brain_touch(l->b, STORE_SERVICE, id, "");
		store_tx_delete(l->b->tx, STORE_SERVICE, id);
		alloc_service_del(l->b->alloc, id);
	}
}

/* A template nobody gave a version, or changed without moving it: tasks could not be told apart. */
static const struct md_service *check_version(struct look *l, const struct md_service *svc)
{
	if (svc->spec_version.index && !l->m->spec_moved)
		return svc;
	struct md_service *e = brain_edit_service(l->b, svc->meta.id);
	uint64_t next = svc->meta.version.index > svc->spec_version.index ? svc->meta.version.index
	                                                                  : svc->spec_version.index + 1;
	e->spec_version.index = next ? next : 1;
	l->m->spec_moved = false;
	return e;
}

static void allocate_service(struct look *l)
{
	free(TAKE(l->m->alloc_error));
	map_del(&l->b->unallocated, l->m->id);
	if (alloc_service_done(l->b->alloc, l->svc))
		return;
	struct mesh_err err = { 0 };
	struct md_service *e = brain_edit_service(l->b, l->svc->meta.id);
	l->svc = e;
	if (alloc_service(l->b->alloc, e, &err)) {
		l->m->alloc_error = xstrdup(err.msg);
		map_put(&l->b->unallocated, l->m->id, l->m);
		return;
	}
	l->b->retry_waiting = true; /* its tasks may have waited for this */
}

/* Tasks that are what the service says but carry an older version: clients compare versions. */
static void restamp(struct look *l)
{
	for (size_t i = 0; i < l->slots.len && l->b->budget > 0; i++) {
		struct view *v = l->slots.data[i].good;
		if (v && !v->deleted && v->t->spec_version.index != l->svc->spec_version.index) {
			struct md_task *t = brain_edit_task(l->b, v->t->meta.id);
			t->spec_version = l->svc->spec_version;
			v->t = t;
		}
	}
}

static void decide(struct look *l)
{
	switch (l->mode) {
	case MD_MODE_REPLICATED:
		replicated_decide(l);
		break;
	case MD_MODE_GLOBAL:
		global_decide(l);
		break;
	default:
		job_decide(l);
	}
}

void brain_reconcile(struct brain *b, const char *id)
{
	struct bservice *m = brain_service(b, id);
	const struct md_service *svc = store_tx_get(b->tx, STORE_SERVICE, id);
	struct look l;
	m->wake = NEVER;
	look_open(&l, b, m, svc, id);
	if (!svc || svc->pending_delete) {
		remove_all(&l, id);
		look_close(&l);
		return;
	}
	l.svc = check_version(&l, svc);
	l.one_version = l.one_version && l.svc == svc;
	allocate_service(&l);
	bool job = l.mode == MD_MODE_REPLICATED_JOB || l.mode == MD_MODE_GLOBAL_JOB;
	if (!job)
		update_before(&l);
	uint64_t version = l.svc->spec_version.index;
	slots_sort_out(&l);
	/* A failure just turned the service back to its previous spec: look again with that. */
	if (l.svc->spec_version.index == version) {
		decide(&l);
		if (!job)
			update_after(&l);
		restamp(&l);
		reap_history(&l);
	}
	brain_alarm(b, m, l.wake);
	look_close(&l);
}
