/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cluster in virtual time: its queue of events, and what must hold after every change of its store. Everything static, one
 * translation unit each; the test brings cmocka.
 */
#ifndef TESTS_SIM_SIMULATED_H
#define TESTS_SIM_SIMULATED_H

#include "control/scheduler/scheduler.h"
#include "tests/support/brain_world.h"

#define MS NS_PER_MS
#define SEC NS_PER_SEC

enum kind { EV_APPLY, EV_TASK, EV_CRASH, EV_NODE_DOWN, EV_NODE_HEAL, EV_CHAOS, EV_KIND_MAX };
struct event {
	int64_t at;
	uint64_t seq;
	enum kind kind;
	char id[MESH_ID_LEN + 1];
};

/* What is promised of a service while nothing but an update goes on. */
struct promise {
	char id[MESH_ID_LEN + 1];
	bool on, stop_first;
	size_t serving_min, busy_max, wanted_max;
};

struct sim {
	struct world w;
	uint64_t seed;
	bool faults, trace, quiet; /* quiet: faults are over */
	struct VEC(struct event) heap;
	uint64_t seq;
	struct map cut;    /* node ids that are not reachable */
	struct map owners; /* "network/address" and "port" -> owner id (heap string) */
	struct promise promises[8];
	size_t n_promises;
	struct buf proposal;
	uint64_t decided; /* the index that the proposal has seen */
	struct map moved; /* node id -> index of its last change */
	bool in_flight;
	size_t refused, steps;
};

static struct sim *watched; /* for the watch callback's failures */

#define check(sm, cond, ...)                                                                                           \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "seed %llu at %.3f s: ", (unsigned long long)(sm)->seed,                       \
			        (double)(sm)->w.now / 1e9);                                                            \
			fprintf(stderr, __VA_ARGS__);                                                                  \
			fprintf(stderr, "\n");                                                                         \
			world_dump(&(sm)->w, stderr);                                                                  \
			fail_msg("seed %llu: " #cond, (unsigned long long)(sm)->seed);                                 \
		}                                                                                                      \
	} while (0)

static uint64_t rnd(struct sim *s, uint64_t n)
{
	return mesh_rng_below(&s->w.rng, n);
}

/* ---- the queue ---- */

static bool earlier(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void at(struct sim *s, int64_t when, enum kind kind, const char *id)
{
	struct event e = { .at = when, .seq = s->seq++, .kind = kind };
	mesh_id_set(e.id, id);
	vec_push(&s->heap, e);
	for (size_t i = s->heap.len - 1; i && earlier(&s->heap.data[i], &s->heap.data[(i - 1) / 2]); i = (i - 1) / 2) {
		struct event t = s->heap.data[i];
		s->heap.data[i] = s->heap.data[(i - 1) / 2];
		s->heap.data[(i - 1) / 2] = t;
	}
}

static struct event next(struct sim *s)
{
	struct event top = s->heap.data[0];
	s->heap.data[0] = s->heap.data[--s->heap.len];
	for (size_t i = 0, best;; i = best) {
		best = i;
		for (size_t c = 2 * i + 1; c <= 2 * i + 2 && c < s->heap.len; c++)
			if (earlier(&s->heap.data[c], &s->heap.data[best]))
				best = c;
		if (best == i)
			return top;
		struct event t = s->heap.data[i];
		s->heap.data[i] = s->heap.data[best];
		s->heap.data[best] = t;
	}
}

/* ---- invariants: what one change may do ---- */

/* Events come one by one after the whole command was applied: the old owner's may still be to come. */
static bool still_owns(const struct sim *s, const char *id)
{
	const struct md_task *t = store_get(s->w.s, STORE_TASK, id);
	return t ? !md_task_ended(t) : store_get(s->w.s, STORE_SERVICE, id) != NULL;
}

static void own(struct sim *s, const char *what, const char *owner)
{
	const char *had = map_get(&s->owners, what);
	if (had && strcmp(had, owner) && !still_owns(s, had)) {
		free(map_del(&s->owners, what));
		had = NULL;
	}
	check(s, !had || !strcmp(had, owner), "%s given to %s while %s holds it", what, owner, had);
	if (!had)
		map_put(&s->owners, what, xstrdup(owner));
}

static void disown(struct sim *s, const char *what, const char *owner)
{
	const char *had = map_get(&s->owners, what);
	if (had && !strcmp(had, owner))
		free(map_del(&s->owners, what));
}

static void task_addresses(struct sim *s, const struct md_task *t, void (*fn)(struct sim *, const char *, const char *))
{
	for (size_t i = 0; t && !md_task_ended(t) && i < t->attachments.n; i++)
		for (size_t j = 0; j < t->attachments.v[i].addresses.n; j++) {
			char key[80];
			snprintf(key, sizeof(key), "%s/%s", t->attachments.v[i].network.s,
			         t->attachments.v[i].addresses.v[j]);
			fn(s, key, t->meta.id);
		}
}

static void service_holdings(struct sim *s, const struct md_service *v,
                             void (*fn)(struct sim *, const char *, const char *))
{
	char key[80];
	for (size_t i = 0; v && i < v->endpoint.vips.n; i++) {
		snprintf(key, sizeof(key), "%s/%s", v->endpoint.vips.v[i].network.s, v->endpoint.vips.v[i].addr);
		fn(s, key, v->meta.id);
	}
	for (size_t i = 0; v && i < v->endpoint.ports.n; i++)
		if (v->endpoint.ports.v[i].mode != MD_PUBLISH_HOST) {
			snprintf(key, sizeof(key), "port %u", v->endpoint.ports.v[i].published);
			fn(s, key, v->meta.id);
		}
}

static bool is_cut(const struct sim *s, const char *node)
{
	return map_has(&s->cut, node);
}

/*
 * Given to a node: one that is there, ready, active, and of the kind the service asked for; unless the node changed while
 * the decision was on its way, which the next one mends.
 */
static void check_placed(struct sim *s, const struct md_task *old, const struct md_task *t)
{
	if (!t || t->status.state < MD_TASK_ASSIGNED || (old && old->status.state >= MD_TASK_ASSIGNED))
		return;
	const struct md_node *n = store_get(s->w.s, STORE_NODE, t->node.s);
	check(s, !ID_EMPTY(t->node), "task %s assigned to no node", t->meta.id);
	if (!n || (uintptr_t)map_get(&s->moved, t->node.s) > s->decided)
		return;
	check(s, n->status.state == MD_NODE_READY && n->spec.availability == MD_AVAIL_ACTIVE,
	      "task %s assigned to %s, which is %s, %s", t->meta.id, n->description.hostname,
	      md_node_state_names.names[n->status.state], md_availability_names.names[n->spec.availability]);
	check(s, sched_node_matches(&t->spec, n), "task %s assigned to %s against its constraints", t->meta.id,
	      n->description.hostname);
}

static int64_t delay(struct sim *s)
{
	return (int64_t)(1 + rnd(s, rnd(s, 10) ? 200 : 3000)) * MS;
}

static void on_change(void *arg, const struct store_event *ev)
{
	struct sim *s = arg;
	if (ev->object == STORE_TASK) {
		const struct md_task *t = ev->new;
		struct mesh_err err = { 0 };
		if (t)
			check(s, task_check(ev->old, t, &err) == 0, "%s", err.msg);
		check_placed(s, ev->old, t);
		task_addresses(s, ev->old, disown);
		task_addresses(s, t, own);
		if (t && t->status.state >= MD_TASK_ASSIGNED && !md_task_ended(t) && !is_cut(s, t->node.s))
			at(s, s->w.now + delay(s), EV_TASK, t->meta.id);
	} else if (ev->object == STORE_SERVICE) {
		service_holdings(s, ev->old, disown);
		service_holdings(s, ev->new, own);
	} else if (ev->object == STORE_NODE) {
		map_put(&s->moved, ((const struct md_meta *)(ev->new ? ev->new : ev->old))->id,
		        (void *)(uintptr_t)s->w.index);
	}
}

/* ---- invariants: the whole picture ---- */

static void check_promises(struct sim *s)
{
	for (size_t i = 0; i < s->n_promises; i++) {
		struct promise *p = &s->promises[i];
		const struct md_service *svc = store_get(s->w.s, STORE_SERVICE, p->id);
		if (!p->on || !svc)
			continue;
		struct store_list l = store_tasks_of_service(s->w.s, p->id);
		size_t serving = 0, busy = 0, wanted = 0;
		for (size_t j = 0; j < l.n; j++) {
			const struct md_task *t = l.v[j];
			if (!md_task_wanted(t))
				continue;
			bool up = t->status.state == MD_TASK_RUNNING && t->status.traffic >= MD_TRAFFIC_SERVING;
			wanted++;
			serving += up;
			busy += !up;
		}
		/* Stop-first: where one starts, the one before has ended. */
		for (size_t j = 0; j < l.n && p->stop_first; j++)
			for (size_t k = 0; k < j; k++) {
				const struct md_task *x = l.v[j], *y = l.v[k];
				check(s,
				      x->slot != y->slot || x->status.state != MD_TASK_RUNNING ||
				              y->status.state != MD_TASK_RUNNING,
				      "%s.%llu runs twice", svc->spec.name, (unsigned long long)x->slot);
			}
		check(s, serving >= p->serving_min, "%s: %zu serving, %zu promised", svc->spec.name, serving,
		      p->serving_min);
		check(s, busy <= p->busy_max, "%s: %zu being replaced, %zu allowed", svc->spec.name, busy, p->busy_max);
		check(s, wanted <= p->wanted_max, "%s: %zu wanted, %zu allowed", svc->spec.name, wanted, p->wanted_max);
		if (svc->update_status && svc->update_status->state == MD_UPDATE_COMPLETED)
			p->on = false;
	}
}

static void check_nodes(struct sim *s)
{
	STORE_EACH(s->w.s, STORE_NODE, struct md_node, n) {
		struct store_list l = store_tasks_of_node(s->w.s, n->meta.id);
		int64_t memory = 0;
		size_t host_port = 0;
		for (size_t i = 0; i < l.n; i++) {
			const struct md_task *t = l.v[i];
			if (md_task_ended(t) || t->status.state < MD_TASK_ASSIGNED)
				continue;
			const struct md_resources *r = t->spec.resources ? t->spec.resources->reservations : NULL;
			memory += r ? r->memory_bytes : 0;
			for (size_t j = 0; j < t->endpoint.ports.n; j++)
				host_port += t->endpoint.ports.v[j].mode == MD_PUBLISH_HOST;
		}
		check(s, memory <= n->description.resources.memory_bytes, "node %s: over its memory",
		      n->description.hostname);
		check(s, host_port <= 1, "node %s: host port given %zu times", n->description.hostname, host_port);
	}
}

static void check_services(struct sim *s)
{
	STORE_EACH(s->w.s, STORE_SERVICE, struct md_service, v) {
		if (md_service_mode_of(&v->spec) != MD_MODE_REPLICATED)
			continue;
		struct store_list l = store_tasks_of_service(s->w.s, v->meta.id);
		for (size_t i = 0; i < l.n; i++) {
			const struct md_task *a = l.v[i];
			size_t wanted = 0, history = 0;
			for (size_t j = 0; j < l.n; j++) {
				const struct md_task *t = l.v[j];
				if (t->slot != a->slot)
					continue;
				wanted += md_task_wanted(t);
				history += md_task_ended(t) && t->desired_state < MD_TASK_REMOVE;
			}
			check(s, wanted <= 2, "%s.%llu: %zu tasks wanted", v->spec.name, (unsigned long long)a->slot,
			      wanted);
			check(s, history <= 7, "%s.%llu: %zu ended tasks kept", v->spec.name,
			      (unsigned long long)a->slot, history);
		}
	}
}

static void check_all(struct sim *s)
{
	check_promises(s);
	if (s->steps % 8 == 0) {
		check_nodes(s);
		check_services(s);
	}
}

#endif
