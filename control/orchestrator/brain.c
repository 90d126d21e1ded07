/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The brain's frame: follows the store's events, keeps what to look at, runs a step. */
#include "control/orchestrator/brain_impl.h"

/* ---- what to look at ---- */

static void set_add(struct map *m, const char *id)
{
	static char present;
	if (!map_has(m, id))
		map_put(m, id, &present);
}

static void bslot_free(struct bslot *s)
{
	vec_fini(&s->restarts);
	free(s);
}

static void bservice_free(struct bservice *v)
{
	MAP_FOREACH(&v->slots, e)
		bslot_free(e->value);
	map_fini(&v->slots);
	map_fini(&v->up);
	map_fini(&v->failed);
	free(v->alloc_error);
	free(v);
}

struct bservice *brain_service(struct brain *b, const char *id)
{
	struct bservice *v = map_get(&b->services, id);
	if (v)
		return v;
	v = XNEW(struct bservice);
	mesh_id_set(v->id, id);
	v->wake = v->queued = NEVER;
	map_put(&b->services, id, v);
	return v;
}

void brain_dirty(struct brain *b, const char *service)
{
	if (*service)
		set_add(&b->dirty, service);
}

/* ---- alarms: a binary heap; an entry that its service no longer waits for is dropped when it comes up ---- */

void brain_alarm(struct brain *b, struct bservice *m, int64_t at)
{
	m->wake = at;
	if (at >= m->queued)
		return; /* the earlier alarm sets this one when it rings */
	m->queued = at;
	struct balarm a = { .at = at };
	mesh_id_set(a.id, m->id);
	vec_push(&b->alarms, a);
	struct balarm *h = b->alarms.data;
	for (size_t i = b->alarms.len - 1; i && h[i].at < h[(i - 1) / 2].at; i = (i - 1) / 2) {
		a = h[i];
		h[i] = h[(i - 1) / 2];
		h[(i - 1) / 2] = a;
	}
}

static struct balarm alarm_pop(struct brain *b)
{
	struct balarm *h = b->alarms.data, top = h[0];
	size_t n = --b->alarms.len, i = 0;
	h[0] = h[n];
	for (;;) {
		size_t best = i;
		for (size_t c = 2 * i + 1; c <= 2 * i + 2 && c < n; c++)
			best = h[c].at < h[best].at ? c : best;
		if (best == i)
			return top;
		struct balarm t = h[i];
		h[i] = h[best];
		h[best] = t;
		i = best;
	}
}

static bool unplaced(const struct md_task *t)
{
	return t->desired_state <= MD_TASK_RUNNING && t->status.state < MD_TASK_ASSIGNED;
}

/* ---- following the store ---- */

static void put_task(struct brain *b, const struct md_task *t)
{
	sched_task_put(b->sched, t);
	alloc_task_put(b->alloc, t);
	if (unplaced(t)) {
		if (!map_has(&b->waiting, t->meta.id))
			set_add(&b->fresh, t->meta.id);
	} else {
		map_del(&b->fresh, t->meta.id);
		map_del(&b->waiting, t->meta.id);
	}
}

static void del_task(struct brain *b, const char *id)
{
	sched_task_del(b->sched, id);
	alloc_task_del(b->alloc, id);
	map_del(&b->fresh, id);
	map_del(&b->waiting, id);
}

static bool failed(const struct md_task *t)
{
	return t->status.state == MD_TASK_FAILED || t->status.state == MD_TASK_REJECTED;
}

static void on_task(struct brain *b, const struct md_task *old, const struct md_task *t)
{
	const struct md_task *any = t ? t : old;
	if (t)
		put_task(b, t);
	else
		del_task(b, any->meta.id);
	if (t && failed(t) && (!old || !failed(old)) && !ID_EMPTY(t->node))
		sched_failed(b->sched, t->service.s, t->node.s, t->status.timestamp);
	if (t && md_task_standalone(t) && md_task_ended(t) && t->spec.attachment->auto_remove)
		set_add(&b->loose, t->meta.id);
	/* Something got free on a node or a network. */
	if (old && !md_task_ended(old) && (!t || md_task_ended(t) || md_task_wanted(old) != md_task_wanted(t)))
		b->retry_waiting = true;
	brain_dirty(b, any->service.s);
}

static bool template_differs(const struct md_service_spec *a, const struct md_service_spec *b)
{
	static const struct md_endpoint_spec none;
	return !sch_equal(&md_task_spec_schema, &a->task, &b->task) ||
	       !sch_equal(&md_endpoint_spec_schema, a->endpoint ? a->endpoint : &none,
	                  b->endpoint ? b->endpoint : &none);
}

static void on_service(struct brain *b, const char *id, const struct md_service *old, const struct md_service *s)
{
	if (!s) {
		alloc_service_del(b->alloc, id);
		b->retry_waiting = true;
		brain_dirty(b, id);
		return;
	}
	alloc_service_put(b->alloc, s);
	struct bservice *v = brain_service(b, s->meta.id);
	enum md_service_mode mode = md_service_mode_of(&s->spec);
	v->global = mode == MD_MODE_GLOBAL || mode == MD_MODE_GLOBAL_JOB;
	if (old && old->spec_version.index == s->spec_version.index && template_differs(&old->spec, &s->spec))
		v->spec_moved = true;
	brain_dirty(b, s->meta.id);
}

static bool node_usable(const struct md_node *n)
{
	return n && n->status.state == MD_NODE_READY && n->spec.availability == MD_AVAIL_ACTIVE;
}

/* What a constraint or the scheduler could see of it. */
static bool node_differs(const struct md_node *a, const struct md_node *b)
{
	return a->status.state != b->status.state || !streq(a->status.addr, b->status.addr) ||
	       !sch_equal(&md_node_spec_schema, &a->spec, &b->spec) ||
	       !sch_equal(&md_node_description_schema, &a->description, &b->description);
}

static void on_node(struct brain *b, const char *id, const struct md_node *old, const struct md_node *n)
{
	if (old && n && !node_differs(old, n))
		return;
	if (n) {
		sched_node_put(b->sched, n);
		alloc_node_put(b->alloc, n);
	} else {
		sched_node_del(b->sched, id);
		alloc_node_del(b->alloc, id);
	}
	b->retry_waiting = b->retry_waiting || node_usable(n);
	struct store_list tasks = store_tasks_of_node(b->s, id);
	for (size_t i = 0; i < tasks.n; i++) {
		const struct md_task *t = tasks.v[i];
		brain_dirty(b, t->service.s);
		if (!n && md_task_standalone(t))
			set_add(&b->loose, t->meta.id);
	}
	MAP_FOREACH(&b->services, e)
		if (((struct bservice *)e->value)->global)
			brain_dirty(b, e->key);
}

static void services_on_network(struct brain *b, const struct md_network *n)
{
	STORE_EACH(b->s, STORE_SERVICE, struct md_service, s) {
		const struct md_service_spec *p = &s->spec;
		bool hit = n->spec.ingress && md_endpoint_has_ingress(p->endpoint);
		for (size_t i = 0; i < p->task.networks.n && !hit; i++)
			hit = streq(p->task.networks.v[i].target, n->meta.id) ||
			      streq(p->task.networks.v[i].target, n->spec.name);
		for (size_t i = 0; i < p->networks.n && !hit; i++)
			hit = streq(p->networks.v[i].target, n->meta.id) ||
			      streq(p->networks.v[i].target, n->spec.name);
		if (hit)
			brain_dirty(b, s->meta.id);
	}
}

static void on_network(struct brain *b, const char *id, const struct md_network *n)
{
	if (!n) {
		alloc_network_del(b->alloc, id);
		map_del(&b->nets, id);
		return;
	}
	alloc_network_put(b->alloc, n);
	set_add(&b->nets, n->meta.id);
	b->retry_waiting = true;
	services_on_network(b, n);
}

static void on_event(void *arg, const struct store_event *ev)
{
	struct brain *b = arg;
	const struct md_meta *meta = ev->new ? ev->new : ev->old;
	switch (ev->object) {
	case STORE_TASK:
		on_task(b, ev->old, ev->new);
		break;
	case STORE_SERVICE:
		on_service(b, meta->id, ev->old, ev->new);
		break;
	case STORE_NODE:
		on_node(b, meta->id, ev->old, ev->new);
		break;
	case STORE_NETWORK:
		on_network(b, meta->id, ev->new);
		break;
	case STORE_CLUSTER:
		if (ev->new) {
			alloc_cluster_put(b->alloc, ev->new);
			STORE_EACH(b->s, STORE_SERVICE, struct md_service, s)
				brain_dirty(b, s->meta.id);
		}
		break;
	default:
		break;
	}
}

struct brain *brain_new(struct store *s, struct mesh_rng *rng)
{
	struct brain *b = XNEW(struct brain);
	b->s = s;
	b->rng = rng;
	b->sched = sched_new(rng);
	b->alloc = alloc_new();
	alloc_resume(b->alloc, true);
	alloc_cluster_put(b->alloc, store_cluster(s) ? store_cluster(s) : &(struct md_cluster){ 0 });
	STORE_EACH(s, STORE_NODE, struct md_node, n)
		on_node(b, n->meta.id, NULL, n);
	STORE_EACH(s, STORE_NETWORK, struct md_network, n)
		on_network(b, n->meta.id, n);
	STORE_EACH(s, STORE_SERVICE, struct md_service, v)
		on_service(b, v->meta.id, NULL, v);
	STORE_EACH(s, STORE_TASK, struct md_task, t)
		on_task(b, NULL, t);
	alloc_resume(b->alloc, false);
	store_watch(s, on_event, b);
	return b;
}

void brain_free(struct brain *b)
{
	if (!b)
		return;
	store_unwatch(b->s, on_event, b);
	MAP_FOREACH(&b->services, e)
		bservice_free(e->value);
	map_fini(&b->services);
	map_fini(&b->dirty);
	map_fini(&b->nets);
	map_fini(&b->fresh);
	map_fini(&b->waiting);
	map_fini(&b->loose);
	map_fini(&b->unallocated);
	vec_fini(&b->alarms);
	vec_fini(&b->touched);
	map_fini(&b->touched_ids);
	sched_free(b->sched);
	alloc_free(b->alloc);
	free(b);
}

bool brain_pending(const struct brain *b)
{
	return b->dirty.count || b->nets.count || b->fresh.count || b->loose.count ||
	       (b->retry_waiting && b->waiting.count);
}

/* ---- writing ---- */

void brain_touch(struct brain *b, enum store_kind kind, const char *id, const char *service)
{
	struct btouch t = { .kind = kind };
	mesh_id_set(t.id, id);
	mesh_id_set(t.service, service);
	vec_push(&b->touched, t);
	map_put(&b->touched_ids, id, b);
	b->budget--;
}

struct md_task *brain_edit_task(struct brain *b, const char *id)
{
	bool again = map_has(&b->touched_ids, id);
	struct md_task *t = store_tx_edit(b->tx, STORE_TASK, id);
	if (!again)
		brain_touch(b, STORE_TASK, id, t->service.s);
	return t;
}

void brain_delete_task(struct brain *b, const char *which)
{
	char id[MESH_ID_LEN + 1]; /* which may be the task's own, that goes with it */
	mesh_id_set(id, which);
	const struct md_task *t = store_tx_get(b->tx, STORE_TASK, id);
	if (!map_has(&b->touched_ids, id))
		brain_touch(b, STORE_TASK, id, t->service.s);
	store_tx_delete(b->tx, STORE_TASK, id);
	del_task(b, id);
}

struct md_service *brain_edit_service(struct brain *b, const char *id)
{
	if (!map_has(&b->touched_ids, id))
		brain_touch(b, STORE_SERVICE, id, "");
	return store_tx_edit(b->tx, STORE_SERVICE, id);
}

/* ---- networks ---- */

static void look_at_network(struct brain *b, const char *id)
{
	const struct md_network *n = store_tx_get(b->tx, STORE_NETWORK, id);
	if (!n || !alloc_network_ours(&n->spec))
		return;
	if (n->pending_delete) {
		if (alloc_network_users(b->alloc, id)) {
			set_add(&b->nets, id);
			return;
		}
		brain_touch(b, STORE_NETWORK, id, "");
		store_tx_delete(b->tx, STORE_NETWORK, id);
		return;
	}
	if (n->vni && n->ipam.configs.n)
		return;
	brain_touch(b, STORE_NETWORK, id, "");
	struct mesh_err err = { 0 };
	/* On failure the network stays without a subnet, and what wants to use it says so. */
	if (!alloc_network(b->alloc, store_tx_edit(b->tx, STORE_NETWORK, id), &err))
		b->retry_waiting = true;
}

static void look_at_networks(struct brain *b)
{
	struct map nets = b->nets;
	b->nets = (struct map){ 0 };
	MAP_FOREACH(&nets, e)
		look_at_network(b, e->key);
	map_fini(&nets);
}

/* ---- a step ---- */

static bool service_gone(struct brain *b, const char *id)
{
	return !store_tx_get(b->tx, STORE_SERVICE, id) && !store_get(b->s, STORE_SERVICE, id) &&
	       !store_tasks_of_service(b->s, id).n;
}

static void look_at_services(struct brain *b)
{
	struct map dirty = b->dirty;
	b->dirty = (struct map){ 0 };
	while (b->alarms.len && b->alarms.data[0].at <= b->now) {
		struct balarm due = alarm_pop(b);
		struct bservice *v = map_get(&b->services, due.id);
		if (!v || due.at != v->queued)
			continue;
		v->queued = NEVER;
		if (v->wake <= b->now)
			set_add(&dirty, v->id);
		else
			brain_alarm(b, v, v->wake);
	}
	/* Those that found no port or address try again when one may have become free. */
	if (b->retry_waiting)
		MAP_FOREACH(&b->unallocated, e)
			set_add(&dirty, e->key);
	MAP_FOREACH(&dirty, e) {
		if (b->budget < SLOT_BUDGET) {
			brain_dirty(b, e->key);
			continue;
		}
		brain_reconcile(b, e->key);
		if (service_gone(b, e->key)) {
			struct bservice *v = map_del(&b->services, e->key);
			map_del(&b->unallocated, e->key);
			if (v)
				bservice_free(v);
			sched_service_del(b->sched, e->key);
		}
	}
	map_fini(&dirty);
}

int64_t brain_step(struct brain *b, struct store_tx *tx)
{
	b->tx = tx;
	b->now = store_tx_now(tx);
	b->budget = STEP_BUDGET;
	b->touched.len = 0;
	map_fini(&b->touched_ids);
	look_at_networks(b);
	look_at_services(b);
	brain_standalone(b);
	brain_place(b);
	b->tx = NULL;
	return b->alarms.len ? b->alarms.data[0].at : NEVER;
}

static void put_back(struct brain *b, const struct btouch *t)
{
	const void *o = store_get(b->s, t->kind, t->id);
	switch (t->kind) {
	case STORE_TASK:
		if (o)
			put_task(b, o);
		else
			del_task(b, t->id);
		brain_dirty(b, t->service);
		if (!t->service[0])
			set_add(&b->loose, t->id);
		break;
	case STORE_SERVICE:
		if (o)
			alloc_service_put(b->alloc, o);
		else
			alloc_service_del(b->alloc, t->id);
		if (map_has(&b->services, t->id))
			brain_forget_update(map_get(&b->services, t->id));
		brain_dirty(b, t->id);
		break;
	case STORE_NETWORK:
		alloc_network_del(b->alloc, t->id);
		if (o)
			alloc_network_put(b->alloc, o);
		set_add(&b->nets, t->id);
		break;
	default:
		break;
	}
}

void brain_retry(struct brain *b)
{
	/* Networks first: addresses are counted in them. */
	for (size_t i = 0; i < b->touched.len; i++)
		if (b->touched.data[i].kind == STORE_NETWORK)
			put_back(b, &b->touched.data[i]);
	for (size_t i = 0; i < b->touched.len; i++)
		if (b->touched.data[i].kind != STORE_NETWORK)
			put_back(b, &b->touched.data[i]);
	b->touched.len = 0;
	b->retry_waiting = true;
	/* Services whose only change was a task that never came to be are not named by what is in the store. */
	STORE_EACH(b->s, STORE_SERVICE, struct md_service, s)
		brain_dirty(b, s->meta.id);
}
