/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A store with a brain over it, a clock that the test moves, and nodes that do at once what they are told.
 * For tests of the brain; everything static, one translation unit each.
 */
#ifndef TESTS_SUPPORT_BRAIN_WORLD_H
#define TESTS_SUPPORT_BRAIN_WORLD_H

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "control/orchestrator/brain.h"
#include "control/orchestrator/task_moves.h"

struct world {
	struct store *s;
	struct brain *b;
	struct mesh_rng rng;
	int64_t now, wake;
	uint64_t index;
	size_t commits;
};

#define WORLD_UNUSED __attribute__((unused))

/* Applies tx and frees it; the code of store_apply. */
WORLD_UNUSED static int world_commit(struct world *w, struct store_tx *tx)
{
	struct buf cmd = { 0 };
	struct mesh_err err = { 0 };
	store_tx_encode(tx, &cmd);
	int rc = store_apply(w->s, ++w->index, cmd.data, cmd.len, &err);
	buf_fini(&cmd);
	store_tx_free(tx);
	w->commits++;
	return rc;
}

/* One step; true when it changed something. */
WORLD_UNUSED static bool world_step(struct world *w)
{
	struct store_tx *tx = store_tx_new(w->s, w->now);
	w->wake = brain_step(w->b, tx);
	if (!store_tx_changes(tx)) {
		store_tx_free(tx);
		return false;
	}
	if (world_commit(w, tx))
		brain_retry(w->b);
	return true;
}

/* Until the brain has nothing to say at this time. */
WORLD_UNUSED static void world_settle(struct world *w)
{
	for (int i = 0; i < 1000 && (brain_pending(w->b) || w->wake <= w->now); i++)
		(void)world_step(w);
}

/* What the world looks like at the beginning: a cluster, the ingress network, one manager node. */
WORLD_UNUSED static void world_open(struct world *w, uint64_t seed)
{
	*w = (struct world){ .now = 1000 * NS_PER_SEC, .wake = INT64_MAX };
	mesh_rng_seed(&w->rng, seed);
	w->s = store_new();
	struct md_cluster c = { 0 };
	struct md_node n = { 0 };
	n.spec.role = MD_ROLE_MANAGER;
	n.status.state = MD_NODE_READY;
	n.status.addr = xstrdup("172.31.0.1");
	n.description.hostname = xstrdup("n0");
	n.description.platform.os = xstrdup("linux");
	n.description.platform.architecture = xstrdup("x86_64");
	n.description.resources.nano_cpus = 4000000000;
	n.description.resources.memory_bytes = 8LL << 30;
	struct store_tx *tx = store_tx_new(w->s, w->now);
	brain_bootstrap(tx, &c, &n, &w->rng);
	(void)!world_commit(w, tx);
	sch_clear(&md_node_schema, &n);
	w->b = brain_new(w->s, &w->rng);
	world_settle(w);
}

WORLD_UNUSED static void world_close(struct world *w)
{
	brain_free(w->b);
	store_free(w->s);
}

/* Another leader: everything the brain remembered is lost. */
WORLD_UNUSED static void world_new_leader(struct world *w)
{
	brain_free(w->b);
	w->b = brain_new(w->s, &w->rng);
	w->wake = w->now;
}

WORLD_UNUSED static const char *world_add_node(struct world *w, const char *name)
{
	char id[MESH_ID_LEN + 1];
	mesh_id_make(&w->rng, id);
	struct store_tx *tx = store_tx_new(w->s, w->now);
	struct md_node *n = store_tx_create(tx, STORE_NODE, id);
	n->status.state = MD_NODE_READY;
	n->status.addr = xstrdup("172.31.0.9");
	n->description.hostname = xstrdup(name);
	n->description.platform.os = xstrdup("linux");
	n->description.platform.architecture = xstrdup("x86_64");
	n->description.resources.nano_cpus = 4000000000;
	n->description.resources.memory_bytes = 8LL << 30;
	(void)!world_commit(w, tx);
	return ((const struct md_meta *)store_get(w->s, STORE_NODE, id))->id;
}

WORLD_UNUSED static const struct md_node *world_node(const struct world *w, const char *name)
{
	return store_by_name(w->s, STORE_NODE, name);
}

/* One change to one object: WORLD_EDIT(w, STORE_NODE, id, struct md_node, n, n->... = ...). */
#define WORLD_EDIT(w, kind, id, type, var, change)                                                                     \
	do {                                                                                                           \
		struct store_tx *tx_ = store_tx_new((w)->s, (w)->now);                                                 \
		type *var = store_tx_edit(tx_, (kind), (id));                                                          \
		change;                                                                                                \
		(void)!world_commit((w), tx_);                                                                         \
	} while (0)

/* A replicated service with defaults; set receives the spec to change. Returns its id (borrowed). */
WORLD_UNUSED static const char *world_add_service(struct world *w, const char *name, uint64_t replicas,
                                                  void (*set)(struct md_service_spec *))
{
	char id[MESH_ID_LEN + 1];
	mesh_id_make(&w->rng, id);
	struct store_tx *tx = store_tx_new(w->s, w->now);
	struct md_service *s = store_tx_create(tx, STORE_SERVICE, id);
	s->spec.name = xstrdup(name);
	s->spec.task.container = sch_new(&md_container_spec_schema);
	s->spec.task.container->image = xstrdup("bb:1");
	if (set)
		set(&s->spec);
	md_service_spec_defaults(&s->spec);
	if (s->spec.mode.replicated)
		s->spec.mode.replicated->replicas = (struct opt_u64){ true, replicas };
	(void)!world_commit(w, tx);
	const struct md_service *got = store_get(w->s, STORE_SERVICE, id);
	return got ? got->meta.id : NULL;
}

WORLD_UNUSED static const struct md_service *world_service(const struct world *w, const char *name)
{
	return store_by_name(w->s, STORE_SERVICE, name);
}

/* As the API updates: previous spec kept, spec version moved, status cleared. */
WORLD_UNUSED static void world_update(struct world *w, const char *name, void (*set)(struct md_service_spec *))
{
	struct store_tx *tx = store_tx_new(w->s, w->now);
	struct md_service *s = store_tx_edit(tx, STORE_SERVICE, world_service(w, name)->meta.id);
	if (s->previous_spec)
		sch_free(&md_service_spec_schema, s->previous_spec);
	s->previous_spec = sch_dup(&md_service_spec_schema, &s->spec);
	set(&s->spec);
	if (!sch_equal(&md_task_spec_schema, &s->spec.task, &s->previous_spec->task) ||
	    !sch_equal(&md_endpoint_spec_schema, s->spec.endpoint, s->previous_spec->endpoint)) {
		if (!s->previous_spec_version)
			s->previous_spec_version = XNEW(struct md_version);
		*s->previous_spec_version = s->spec_version;
		s->spec_version.index = w->index + 1;
		if (s->update_status) {
			free(s->update_status->message);
			free(s->update_status);
			s->update_status = NULL;
		}
	}
	store_tx_touch_version(tx, s);
	(void)!world_commit(w, tx);
}

WORLD_UNUSED static void world_status(struct world *w, const char *task, int state, int traffic)
{
	const struct md_task *t = store_get(w->s, STORE_TASK, task);
	if (!t || (t->status.state == state && t->status.traffic == traffic))
		return;
	WORLD_EDIT(w, STORE_TASK, task, struct md_task, e, {
		e->status.state = state;
		e->status.traffic = traffic;
		e->known |= traffic == MD_TRAFFIC_SERVING;
		e->status.timestamp = w->now;
	});
}

/* Every ready node does what it was told; true when something moved. */
WORLD_UNUSED static bool world_obey(struct world *w)
{
	struct store_list all = store_all(w->s, STORE_TASK);
	struct {
		char id[MESH_ID_LEN + 1];
		int state, traffic;
	} *todo = xcalloc(all.n + 1, sizeof(*todo));
	size_t n = 0;
	for (size_t i = 0; i < all.n; i++) {
		const struct md_task *t = all.v[i];
		const struct md_node *node = store_get(w->s, STORE_NODE, t->node.s);
		if (t->status.state < MD_TASK_ASSIGNED || md_task_ended(t) || !node ||
		    node->status.state != MD_NODE_READY)
			continue;
		int state = t->desired_state > MD_TASK_RUNNING    ? MD_TASK_SHUTDOWN
		            : t->desired_state == MD_TASK_RUNNING ? MD_TASK_RUNNING
		                                                  : MD_TASK_READY;
		int traffic = state == MD_TASK_RUNNING ? MD_TRAFFIC_SERVING : MD_TRAFFIC_NONE;
		if (state == t->status.state && traffic == t->status.traffic)
			continue;
		memcpy(todo[n].id, t->meta.id, sizeof(todo[n].id));
		todo[n].state = state;
		todo[n++].traffic = traffic;
	}
	for (size_t i = 0; i < n; i++)
		world_status(w, todo[i].id, todo[i].state, todo[i].traffic);
	free(todo);
	return n > 0;
}

/* Brain and nodes in turn until both are content at this time. */
WORLD_UNUSED static void world_run(struct world *w)
{
	do
		world_settle(w);
	while (world_obey(w));
}

/* Moves the clock from wake to wake. */
WORLD_UNUSED static void world_run_for(struct world *w, int64_t ns)
{
	int64_t end = w->now + ns;
	world_run(w);
	while (w->wake <= end) {
		w->now = w->wake > w->now ? w->wake : w->now;
		world_run(w);
	}
	w->now = end;
	world_run(w);
}

/* Tasks of a service that run, are wanted, and (image) run that image. */
WORLD_UNUSED static size_t world_running(const struct world *w, const char *name, const char *image)
{
	const struct md_service *s = world_service(w, name);
	struct store_list l = s ? store_tasks_of_service(w->s, s->meta.id) : (struct store_list){ 0 };
	size_t n = 0;
	for (size_t i = 0; i < l.n; i++) {
		const struct md_task *t = l.v[i];
		n += md_task_wanted(t) && t->status.state == MD_TASK_RUNNING &&
		     (!image || streq(t->spec.container->image, image));
	}
	return n;
}

WORLD_UNUSED static void world_dump(const struct world *w, FILE *f)
{
	STORE_EACH(w->s, STORE_NODE, struct md_node, n)
		fprintf(f, "node %s %s %s %s\n", n->meta.id, n->description.hostname,
		        md_node_state_names.names[n->status.state], md_availability_names.names[n->spec.availability]);
	STORE_EACH(w->s, STORE_SERVICE, struct md_service, s)
		fprintf(f, "service %s v%llu update %s: %s\n", s->spec.name, (unsigned long long)s->spec_version.index,
		        s->update_status ? md_update_state_names.names[s->update_status->state] : "-",
		        s->update_status && s->update_status->message ? s->update_status->message : "");
	STORE_EACH(w->s, STORE_TASK, struct md_task, t)
		fprintf(f, "  %s %s.%llu v%llu node %s want %s is %s traffic %d addr %s: %s %s\n", t->meta.id,
		        t->service_name, (unsigned long long)t->slot, (unsigned long long)t->spec_version.index,
		        t->node.s, md_task_state_names.names[t->desired_state],
		        md_task_state_names.names[t->status.state], t->status.traffic,
		        t->attachments.n ? t->attachments.v[0].addresses.v[0] : "-",
		        t->status.message ? t->status.message : "", t->status.err ? t->status.err : "");
}

#endif
