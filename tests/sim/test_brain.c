/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole cluster's decisions from a seed: store, brain and simulated nodes in virtual time. Nodes report after
 * random delays, fail, get lost and come back; commands are applied late and are refused when something moved;
 * leaders change. After every command the invariants are checked; when the faults stop everything must converge.
 *
 * MESH_SIM_SEEDS: how many seeds (default 300). MESH_SIM_SEED: only this one, with a trace on stderr.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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

/* ---- nodes ---- */

static void report(struct sim *s, const char *task, int state, int traffic)
{
	if (s->trace) {
		const struct md_task *t = store_get(s->w.s, STORE_TASK, task);
		fprintf(stderr, "%10.3f %s %s.%llu %s\n", (double)s->w.now / 1e9, task, t->service_name,
		        (unsigned long long)t->slot, md_task_state_names.names[state]);
	}
	world_status(&s->w, task, state, traffic);
}

static bool unlucky(struct sim *s, unsigned percent)
{
	return s->faults && !s->quiet && rnd(s, 100) < percent;
}

/* Its image starts nothing that stays. */
static bool is_bad(const struct md_task *t)
{
	return !strncmp(t->spec.container->image, "bad", 3);
}

static bool is_job(const struct md_task *t)
{
	return t->job_iteration != NULL;
}

/* One move of one task on its node. */
static void work(struct sim *s, const char *id)
{
	const struct md_task *t = store_get(s->w.s, STORE_TASK, id);
	if (!t || md_task_ended(t) || t->status.state < MD_TASK_ASSIGNED || is_cut(s, t->node.s))
		return;
	int state = t->status.state;
	if (t->desired_state > MD_TASK_RUNNING) { /* stops; a slow one takes its time */
		bool slow = state == MD_TASK_RUNNING && t->status.traffic != MD_TRAFFIC_NONE && rnd(s, 4) == 0;
		if (slow)
			at(s, s->w.now + (int64_t)rnd(s, 10000) * MS, EV_TASK, id);
		else
			report(s, id, MD_TASK_SHUTDOWN, 0);
		return;
	}
	if (state < MD_TASK_READY) {
		if (unlucky(s, 3))
			report(s, id, MD_TASK_REJECTED, 0);
		else
			report(s, id, rnd(s, 2) ? MD_TASK_READY : state + 1, 0);
	} else if (state < MD_TASK_RUNNING && t->desired_state == MD_TASK_RUNNING) {
		if (unlucky(s, 5) || (is_bad(t) && rnd(s, 2)))
			report(s, id, MD_TASK_FAILED, 0);
		else
			report(s, id, rnd(s, 2) ? MD_TASK_RUNNING : state + 1, 0);
	} else if (state == MD_TASK_RUNNING) {
		if (is_job(t))
			report(s, id, MD_TASK_COMPLETE, 0);
		else if (is_bad(t))
			report(s, id, MD_TASK_FAILED, 0);
		else if (t->status.traffic < MD_TRAFFIC_SERVING)
			report(s, id, MD_TASK_RUNNING, t->status.traffic + 1);
		else if (unlucky(s, 10))
			at(s, s->w.now + (int64_t)rnd(s, 20000) * MS, EV_CRASH, id);
	}
}

static void crash(struct sim *s, const char *id)
{
	const struct md_task *t = store_get(s->w.s, STORE_TASK, id);
	if (t && t->status.state == MD_TASK_RUNNING && !is_cut(s, t->node.s))
		report(s, id, MD_TASK_FAILED, 0);
}

static void heal(struct sim *s, const char *node)
{
	if (!is_cut(s, node))
		return;
	map_del(&s->cut, node);
	const struct md_node *n = store_get(s->w.s, STORE_NODE, node);
	if (n && n->status.state != MD_NODE_READY)
		WORLD_EDIT(&s->w, STORE_NODE, node, struct md_node, e, e->status.state = MD_NODE_READY);
	struct store_list l = store_tasks_of_node(s->w.s, node);
	for (size_t i = 0; i < l.n; i++)
		at(s, s->w.now + delay(s), EV_TASK, ((const struct md_task *)l.v[i])->meta.id);
}

static void node_down(struct sim *s, const char *node)
{
	const struct md_node *n = store_get(s->w.s, STORE_NODE, node);
	if (n && is_cut(s, node))
		WORLD_EDIT(&s->w, STORE_NODE, node, struct md_node, e, e->status.state = MD_NODE_DOWN);
}

/* ---- the operator and the weather ---- */

static const char *any(struct sim *s, enum store_kind kind)
{
	struct store_list l = store_all(s->w.s, kind);
	return l.n ? ((const struct md_meta *)l.v[rnd(s, l.n)])->id : NULL;
}

static void cut(struct sim *s, const char *node)
{
	static char present;
	if (is_cut(s, node))
		return;
	map_put(&s->cut, node, &present);
	at(s, s->w.now + 10 * SEC, EV_NODE_DOWN, node);
	at(s, s->w.now + (int64_t)(1 + rnd(s, 60)) * SEC, EV_NODE_HEAL, node);
}

static unsigned images;

static void new_image(struct md_service_spec *spec)
{
	char text[32];
	snprintf(text, sizeof(text), "bb:%u", ++images);
	str_set(&spec->task.container->image, text);
}

static void remove_service(struct sim *s, const char *id)
{
	struct store_tx *tx = store_tx_new(s->w.s, s->w.now);
	store_tx_delete(tx, STORE_SERVICE, id);
	(void)!world_commit(&s->w, tx);
}

/* Some nodes have room for two tasks that reserve memory, and no more. */
#define SMALL (250LL << 20)

static size_t large_nodes(struct sim *s)
{
	size_t count = 0;
	STORE_EACH(s->w.s, STORE_NODE, struct md_node, n)
		count += n->description.resources.memory_bytes > SMALL;
	return count;
}

static void remove_node(struct sim *s, const char *id)
{
	const struct md_node *n = store_get(s->w.s, STORE_NODE, id);
	/* What is left must hold everything in the end. */
	if (n->description.resources.memory_bytes > SMALL && large_nodes(s) < 3)
		return;
	struct store_tx *tx = store_tx_new(s->w.s, s->w.now);
	store_tx_delete(tx, STORE_NODE, id);
	(void)!world_commit(&s->w, tx);
	map_del(&s->cut, id);
}

static void set_availability(struct sim *s, const char *id, int availability)
{
	WORLD_EDIT(&s->w, STORE_NODE, id, struct md_node, n, n->spec.availability = availability);
}

static void scale(struct sim *s, const char *id)
{
	const struct md_service *v = store_get(s->w.s, STORE_SERVICE, id);
	bool host_port = v->spec.endpoint->ports.n && v->spec.endpoint->ports.v[0].mode == MD_PUBLISH_HOST;
	if (md_service_mode_of(&v->spec) == MD_MODE_REPLICATED && !host_port)
		WORLD_EDIT(&s->w, STORE_SERVICE, id, struct md_service, e,
		           e->spec.mode.replicated->replicas.v = rnd(s, 15));
}

static void new_leader(struct sim *s)
{
	/* The old one's proposal may or may not be applied; this one was not. */
	s->in_flight = false;
	buf_clear(&s->proposal);
	world_new_leader(&s->w);
}

static void chaos(struct sim *s)
{
	char node[MESH_ID_LEN + 1], svc[MESH_ID_LEN + 1]; /* copies: what is borrowed ends with the change */
	mesh_id_set(node, any(s, STORE_NODE));
	mesh_id_set(svc, any(s, STORE_SERVICE));
	const char *service = svc[0] ? svc : NULL;
	switch (rnd(s, 12)) {
	case 0:
	case 1:
		cut(s, node);
		break;
	case 2:
		set_availability(s, node, (int)rnd(s, 3));
		break;
	case 3:
		set_availability(s, node, MD_AVAIL_ACTIVE);
		break;
	case 4:
		remove_node(s, node);
		break;
	case 5:
		world_add_node(&s->w, "late");
		break;
	case 6:
		if (service)
			scale(s, service);
		break;
	case 7:
	case 8:
		if (service)
			world_update(&s->w,
			             ((const struct md_service *)store_get(s->w.s, STORE_SERVICE, service))->spec.name,
			             new_image);
		break;
	case 9:
		new_leader(s);
		break;
	case 10:
		if (service && store_count(s->w.s, STORE_SERVICE) > 2 && rnd(s, 3) == 0)
			remove_service(s, service);
		break;
	default:
		WORLD_EDIT(&s->w, STORE_NODE, node, struct md_node, n,
		           smap_set(&n->spec.labels, "zone", rnd(s, 2) ? "a" : "b"));
		break;
	}
}

/* ---- the leader ---- */

/* The dispatcher writes into the same transaction first: a task moves on, or dies. */
static void share(struct sim *s, struct store_tx *tx)
{
	for (uint64_t n = rnd(s, 4); n; n--) {
		const char *id = any(s, STORE_TASK);
		const struct md_task *t = id ? store_tx_get(tx, STORE_TASK, id) : NULL;
		if (!t || md_task_ended(t) || t->status.state < MD_TASK_ASSIGNED || is_cut(s, t->node.s))
			continue;
		int state = t->status.state, to = state < MD_TASK_READY ? MD_TASK_READY : state;
		if (t->desired_state > MD_TASK_RUNNING)
			to = MD_TASK_SHUTDOWN;
		else if (s->faults && rnd(s, 10) == 0)
			to = MD_TASK_FAILED;
		else if (t->desired_state == MD_TASK_RUNNING && state == MD_TASK_READY)
			to = MD_TASK_RUNNING;
		if (to == state)
			continue;
		struct md_task *e = store_tx_edit(tx, STORE_TASK, id);
		e->status.state = to;
		e->status.timestamp = s->w.now;
		at(s, s->w.now + delay(s), EV_TASK, id); /* reports again should this be refused */
	}
}

static void lead(struct sim *s)
{
	if (s->in_flight || !(brain_pending(s->w.b) || s->w.wake <= s->w.now))
		return;
	struct store_tx *tx = store_tx_new(s->w.s, s->w.now);
	s->decided = s->w.index;
	if (!s->quiet)
		share(s, tx);
	s->w.wake = brain_step(s->w.b, tx);
	if (store_tx_changes(tx)) {
		buf_clear(&s->proposal);
		store_tx_encode(tx, &s->proposal);
		s->in_flight = true;
		at(s, s->w.now + (int64_t)(1 + rnd(s, 20)) * MS, EV_APPLY, "");
	}
	store_tx_free(tx);
}

static void apply(struct sim *s)
{
	struct mesh_err err = { 0 };
	if (!s->in_flight)
		return;
	s->in_flight = false;
	int rc = store_apply(s->w.s, ++s->w.index, s->proposal.data, s->proposal.len, &err);
	check(s, !rc || rc == MESH_E_OUT_OF_SEQUENCE || rc == MESH_E_CONFLICT, "apply: %s", err.msg);
	s->steps++;
	if (rc) {
		s->refused++;
		brain_retry(s->w.b);
	}
}

static void handle(struct sim *s, const struct event *e)
{
	switch (e->kind) {
	case EV_APPLY:
		apply(s);
		break;
	case EV_TASK:
		work(s, e->id);
		break;
	case EV_CRASH:
		crash(s, e->id);
		break;
	case EV_NODE_DOWN:
		node_down(s, e->id);
		break;
	case EV_NODE_HEAL:
		heal(s, e->id);
		break;
	case EV_CHAOS:
		if (s->quiet)
			break;
		chaos(s);
		at(s, s->w.now + (int64_t)rnd(s, 4000) * MS, EV_CHAOS, "");
		break;
	case EV_KIND_MAX:
		break;
	}
}

static void run_until(struct sim *s, int64_t end)
{
	for (;;) {
		lead(s);
		int64_t due = s->heap.len ? s->heap.data[0].at : INT64_MAX;
		if (!s->in_flight && s->w.wake < due)
			due = s->w.wake;
		if (due > end)
			break;
		s->w.now = due > s->w.now ? due : s->w.now;
		if (s->heap.len && s->heap.data[0].at <= s->w.now) {
			struct event e = next(s);
			handle(s, &e);
			check_all(s);
		}
	}
	s->w.now = end;
}

/* ---- building and judging ---- */

static struct {
	uint64_t parallelism;
	int order;
	int failure;
	bool ports, host_port, memory, global, job, net;
	bool zone;
	int restart;
} shape;

static void shaped(struct md_service_spec *p)
{
	if (shape.global)
		p->mode.global = XNEW(struct md_empty);
	if (shape.job) {
		p->mode.replicated_job = XNEW(struct md_replicated_job);
		p->mode.replicated_job->max_concurrent = (struct opt_u64){ true, 3 };
		p->mode.replicated_job->total_completions = (struct opt_u64){ true, 8 };
	}
	if (shape.ports || shape.host_port) {
		p->endpoint = sch_new(&md_endpoint_spec_schema);
		struct md_port *port = LIST_ADD(&p->endpoint->ports);
		port->target = 80;
		port->mode = shape.host_port ? MD_PUBLISH_HOST : MD_PUBLISH_INGRESS;
		port->published = shape.host_port ? 7000 : 0;
	}
	if (shape.net) {
		struct md_network_config *c = LIST_ADD(&p->task.networks);
		c->target = xstrdup("small");
	}
	md_service_spec_defaults(p);
	p->update->parallelism = shape.parallelism;
	p->update->order = shape.order;
	p->update->failure_action = shape.failure;
	p->update->monitor = 2 * SEC;
	p->rollback->parallelism = shape.parallelism;
	p->rollback->order = shape.order;
	p->rollback->monitor = 2 * SEC;
	if (shape.zone)
		strs_add(&p->task.placement->constraints, "node.labels.zone!=b");
	p->task.restart->delay.v = shape.restart * SEC;
	if (shape.memory)
		p->task.resources->reservations->memory_bytes = 100 << 20; /* room for two of each on two nodes */
}

static void roll_shape(struct sim *s)
{
	memset(&shape, 0, sizeof(shape));
	shape.parallelism = rnd(s, 4);
	shape.order = rnd(s, 2) ? MD_ORDER_START_FIRST : MD_ORDER_STOP_FIRST;
	shape.failure = MD_FAILURE_PAUSE + (int)rnd(s, 3);
	shape.ports = rnd(s, 2);
	shape.memory = rnd(s, 2);
	shape.net = rnd(s, 2);
	shape.restart = (int)rnd(s, 4);
}

static void sim_open(struct sim *s, uint64_t seed, size_t nodes)
{
	*s = (struct sim){ .seed = seed };
	char name[16], id[MESH_ID_LEN + 1];
	watched = s;
	images = 1;
	world_open(&s->w, seed);
	store_watch(s->w.s, on_change, s);
	for (size_t i = 1; i < nodes; i++) {
		snprintf(name, sizeof(name), "n%zu", i);
		mesh_id_set(id, world_add_node(&s->w, name));
		if (i % 4 == 3)
			WORLD_EDIT(&s->w, STORE_NODE, id, struct md_node, n,
			           n->description.resources.memory_bytes = SMALL);
	}
	/* Small enough that its addresses come round. */
	mesh_id_make(&s->w.rng, id);
	struct store_tx *tx = store_tx_new(s->w.s, s->w.now);
	struct md_network *n = store_tx_create(tx, STORE_NETWORK, id);
	n->spec.name = xstrdup("small");
	n->spec.ipam = sch_new(&md_ipam_options_schema);
	LIST_ADD(&n->spec.ipam->configs)->subnet = xstrdup(nodes > 50 ? "10.9.0.0/23" : "10.9.0.0/25");
	(void)!world_commit(&s->w, tx);
}

static void sim_close(struct sim *s)
{
	store_unwatch(s->w.s, on_change, s);
	MAP_FOREACH(&s->owners, e)
		free(e->value);
	map_fini(&s->owners);
	map_fini(&s->cut);
	map_fini(&s->moved);
	vec_fini(&s->heap);
	buf_fini(&s->proposal);
	world_close(&s->w);
}

static size_t up_count(const struct sim *s, const struct md_service *v, bool current)
{
	struct store_list l = store_tasks_of_service(s->w.s, v->meta.id);
	size_t n = 0;
	for (size_t i = 0; i < l.n; i++) {
		const struct md_task *t = l.v[i];
		const struct md_node *node = store_get(s->w.s, STORE_NODE, t->node.s);
		n += md_task_wanted(t) && t->status.state == MD_TASK_RUNNING && node &&
		     node->status.state == MD_NODE_READY && node->spec.availability != MD_AVAIL_DRAIN &&
		     (!current || streq(t->spec.container->image, v->spec.task.container->image));
	}
	return n;
}

/* What is not as ordered yet; NULL when all is. */
static const char *unfinished(struct sim *s)
{
	static char text[160];
	STORE_EACH(s->w.s, STORE_SERVICE, struct md_service, v) {
		enum md_service_mode mode = md_service_mode_of(&v->spec);
		int state = v->update_status ? v->update_status->state : MD_UPDATE_NONE;
		bool paused = state == MD_UPDATE_PAUSED || state == MD_UPDATE_ROLLBACK_PAUSED;
		size_t want = mode == MD_MODE_REPLICATED ? md_service_replicas(&v->spec)
		              : mode == MD_MODE_GLOBAL   ? store_count(s->w.s, STORE_NODE)
		                                         : 0;
		size_t have = up_count(s, v, !paused);
		snprintf(text, sizeof(text), "%s: %zu of %zu run, update %s", v->spec.name, have, want,
		         md_update_state_names.names[state]);
		if (have != want || state == MD_UPDATE_UPDATING || state == MD_UPDATE_ROLLBACK_STARTED)
			return text;
	}
	STORE_EACH(s->w.s, STORE_TASK, struct md_task, t) {
		snprintf(text, sizeof(text), "task %s is %s, wanted %s", t->meta.id,
		         md_task_state_names.names[t->status.state], md_task_state_names.names[t->desired_state]);
		if (!store_get(s->w.s, STORE_SERVICE, t->service.s))
			return "a task without a service";
		if (!md_task_ended(t) && t->desired_state != MD_TASK_RUNNING)
			return text;
	}
	return NULL;
}

/* Runs until everything is as ordered; a big cluster updated one by one takes its time. */
static void converge(struct sim *s)
{
	int64_t patience = s->w.now + (300 + 30 * (int64_t)store_count(s->w.s, STORE_TASK)) * SEC;
	do
		run_until(s, s->w.now + 20 * SEC);
	while (unfinished(s) && s->w.now < patience);
	const char *left = unfinished(s);
	check(s, !left, "not converged: %s", left);
	/* And it stays so: nothing more is written. */
	size_t steps = s->steps;
	run_until(s, s->w.now + 60 * SEC);
	check(s, s->steps == steps, "writes with nothing to do");
}

static void end_faults(struct sim *s)
{
	s->quiet = true;
	STORE_EACH(s->w.s, STORE_NODE, struct md_node, n) {
		char id[MESH_ID_LEN + 1];
		mesh_id_set(id, n->meta.id);
		heal(s, id);
		set_availability(s, id, MD_AVAIL_ACTIVE);
		WORLD_EDIT(&s->w, STORE_NODE, id, struct md_node, e, smap_set(&e->spec.labels, "zone", "a"));
	}
}

static void services(struct sim *s, size_t n)
{
	char name[16];
	for (size_t i = 0; i < n; i++) {
		roll_shape(s);
		shape.global = i == 1;
		shape.job = i == 2;
		shape.zone = i == 4;
		shape.memory = shape.memory && !shape.global; /* it must have room on every node */
		shape.host_port = i == 3;
		if (shape.host_port) /* one a node: with start-first there is no room for another */
			shape.order = MD_ORDER_STOP_FIRST;
		snprintf(name, sizeof(name), "s%zu", i);
		world_add_service(&s->w, name, i == 3 ? 2 : 1 + rnd(s, 10), shaped);
	}
}

/* Everything at once, then silence, then all must be as ordered. */
static void faulty(uint64_t seed, bool trace)
{
	struct sim s;
	mesh_rng_seed(&s.w.rng, seed);
	sim_open(&s, seed, seed % 50 == 0 ? 200 : 4 + seed % 9);
	s.trace = trace;
	s.faults = true;
	services(&s, 3 + rnd(&s, 4));
	at(&s, s.w.now + SEC, EV_CHAOS, "");
	run_until(&s, s.w.now + 90 * SEC);
	end_faults(&s);
	converge(&s);
	sim_close(&s);
}

static void promise(struct sim *s, const char *name)
{
	const struct md_service *v = world_service(&s->w, name);
	uint64_t n = md_service_replicas(&v->spec), p = v->spec.update->parallelism;
	if (!p || p > n)
		p = n;
	bool first = v->spec.update->order == MD_ORDER_START_FIRST;
	struct promise *out = &s->promises[s->n_promises++];
	*out = (struct promise){ .on = true,
		                 .stop_first = !first,
		                 .serving_min = first ? n : n - p,
		                 .busy_max = p,
		                 .wanted_max = first ? n + p : n };
	mesh_id_set(out->id, v->meta.id);
}

/* No faults: an update keeps what it promises, with leaders changing under it. */
static void plain_update(uint64_t seed, bool trace)
{
	struct sim s;
	char name[16];
	sim_open(&s, seed, 3 + seed % 7);
	s.trace = trace;
	size_t n = 1 + rnd(&s, 3);
	for (size_t i = 0; i < n; i++) {
		roll_shape(&s);
		shape.ports = true;
		snprintf(name, sizeof(name), "u%zu", i);
		world_add_service(&s.w, name, 1 + rnd(&s, 12), shaped);
	}
	converge(&s);
	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "u%zu", i);
		world_update(&s.w, name, new_image);
		promise(&s, name);
	}
	for (int i = 0; i < 20; i++) {
		run_until(&s, s.w.now + 10 * SEC);
		if (rnd(&s, 4) == 0)
			new_leader(&s);
	}
	converge(&s);
	for (size_t i = 0; i < n; i++)
		check(&s, !s.promises[i].on, "update of u%zu did not complete", i);
	sim_close(&s);
}

static void bad_image(struct md_service_spec *spec)
{
	str_set(&spec->task.container->image, "bad:1");
}

static void expect_state(struct sim *s, const char *name, int state)
{
	const struct md_service *v = world_service(&s->w, name);
	int is = v->update_status ? v->update_status->state : MD_UPDATE_NONE;
	check(s, is == state, "%s is %s, not %s", name, md_update_state_names.names[is],
	      md_update_state_names.names[state]);
}

static void one_service(struct sim *s, int failure)
{
	roll_shape(s);
	shape.ports = true;
	shape.failure = failure;
	world_add_service(&s->w, "web", 1 + rnd(s, 12), shaped);
	converge(s);
}

/* An update to an image that does not work stops by itself or goes back; what was promised of it holds all the time. */
static void bad_update(uint64_t seed, bool trace)
{
	struct sim s;
	bool back = seed % 2;
	sim_open(&s, seed, 3 + seed % 7);
	s.trace = trace;
	one_service(&s, back ? MD_FAILURE_ROLLBACK : MD_FAILURE_PAUSE);
	world_update(&s.w, "web", bad_image);
	promise(&s, "web");
	for (int i = 0; i < 20; i++) {
		run_until(&s, s.w.now + 10 * SEC);
		if (rnd(&s, 6) == 0)
			new_leader(&s);
	}
	expect_state(&s, "web", back ? MD_UPDATE_ROLLBACK_COMPLETED : MD_UPDATE_PAUSED);
	world_update(&s.w, "web", new_image); /* over a paused one: resumes with what it asks for */
	converge(&s);
	expect_state(&s, "web", MD_UPDATE_COMPLETED);
	check(&s, !s.promises[0].on, "the promise was not held to the end");
	sim_close(&s);
}

/* A second update while one runs. */
static void two_updates(uint64_t seed, bool trace)
{
	struct sim s;
	sim_open(&s, seed, 3 + seed % 7);
	s.trace = trace;
	one_service(&s, MD_FAILURE_PAUSE);
	world_update(&s.w, "web", new_image);
	promise(&s, "web");
	for (int i = 0; i < 3; i++) {
		run_until(&s, s.w.now + (int64_t)rnd(&s, 5000) * MS);
		if (!s.promises[0].on)
			break;
		world_update(&s.w, "web", new_image);
	}
	converge(&s);
	expect_state(&s, "web", MD_UPDATE_COMPLETED);
	sim_close(&s);
}

static void over_seeds(void (*fn)(uint64_t seed, bool trace))
{
	const char *one = getenv("MESH_SIM_SEED"), *many = getenv("MESH_SIM_SEEDS");
	if (one) {
		fn(strtoull(one, NULL, 10), true);
		return;
	}
	uint64_t n = many ? strtoull(many, NULL, 10) : 300;
	for (uint64_t seed = 1; seed <= n; seed++)
		fn(seed, false);
}

static void test_faults(void **state)
{
	(void)state;
	over_seeds(faulty);
}

static void test_bad_updates(void **state)
{
	(void)state;
	over_seeds(bad_update);
}

static void test_second_updates(void **state)
{
	(void)state;
	over_seeds(two_updates);
}

static void test_updates(void **state)
{
	(void)state;
	over_seeds(plain_update);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_updates),
		cmocka_unit_test(test_bad_updates),
		cmocka_unit_test(test_second_updates),
		cmocka_unit_test(test_faults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
