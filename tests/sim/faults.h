/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes on in a simulated cluster: nodes that work, fail and get lost, an operator, leaders that come late and change. */
#ifndef TESTS_SIM_FAULTS_H
#define TESTS_SIM_FAULTS_H

#include "tests/sim/simulated.h"

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

#endif
