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

#include "tests/sim/faults.h"

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
