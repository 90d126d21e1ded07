/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler against a naive twin that recounts everything for every placement, over random clusters; and the
 * rules one by one: constraints, resources, host ports, replicas a node, preferences, strategies, failures, texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/map.h"
#include "control/scheduler/constraint.h"
#include "control/scheduler/scheduler.h"

#define GIB (1LL << 30)

/* ---- building ---- */

static struct md_node *new_node(const char *name, int64_t cpus, int64_t memory, const char *zone)
{
	struct md_node *n = sch_new(&md_node_schema);
	snprintf(n->meta.id, sizeof(n->meta.id), "%s", name);
	n->description.hostname = xstrdup(name);
	n->description.platform.os = xstrdup("linux");
	n->description.platform.architecture = xstrdup("x86_64");
	n->description.resources.nano_cpus = cpus * 1000000000;
	n->description.resources.memory_bytes = memory;
	n->status.state = MD_NODE_READY;
	n->status.addr = xstrdup("192.0.2.7");
	if (zone)
		smap_set(&n->spec.labels, "zone", zone);
	return n;
}

static struct md_task *new_task(const char *id, const char *service)
{
	struct md_task *t = sch_new(&md_task_schema);
	snprintf(t->meta.id, sizeof(t->meta.id), "%s", id);
	snprintf(t->service.s, sizeof(t->service.s), "%s", service);
	t->desired_state = MD_TASK_RUNNING;
	t->status.state = MD_TASK_PENDING;
	t->spec.placement = sch_new(&md_placement_schema);
	t->spec.resources = sch_new(&md_resource_requirements_schema);
	t->spec.resources->reservations = XNEW(struct md_resources);
	return t;
}

static void free_task(struct md_task *t)
{
	sch_free(&md_task_schema, t);
}

static void put_node(struct sched *s, const char *name, int64_t cpus, int64_t memory, const char *zone)
{
	struct md_node *n = new_node(name, cpus, memory, zone);
	sched_node_put(s, n);
	sch_free(&md_node_schema, n);
}

/* Places a task of its own spec; the node's name or "". */
static const char *place(struct sched *s, struct md_task *t, int64_t now)
{
	struct sched_batch *b = sched_batch_new(s, t, now);
	bool ok = sched_place(b, t);
	sched_batch_free(b);
	if (ok)
		t->status.state = MD_TASK_ASSIGNED;
	return ok ? t->node.s : "";
}

static void spread_by(struct md_task *t, const char *word)
{
	struct md_preference *p = LIST_ADD(&t->spec.placement->preferences);
	p->spread = XNEW(struct md_spread);
	p->spread->descriptor = xstrdup(word);
}

/* ---- the naive twin ---- */

#define SERVICES 10
#define MAX_NODES 165
struct twin {
	struct md_node **nodes;
	size_t n_nodes;
	struct VEC(struct md_task *) tasks;
	struct {
		uint32_t count;
		int64_t since;
	} failed[SERVICES][MAX_NODES];
	int64_t now;
};

static uint32_t count_on(const struct twin *w, size_t node, const char *service)
{
	uint32_t n = 0;
	for (size_t i = 0; i < w->tasks.len; i++) {
		const struct md_task *t = w->tasks.data[i];
		n += md_task_wanted(t) && !strcmp(t->node.s, w->nodes[node]->meta.id) &&
		     (!service || !strcmp(t->service.s, service));
	}
	return n;
}

static int64_t memory_on(const struct twin *w, size_t node)
{
	int64_t n = 0;
	for (size_t i = 0; i < w->tasks.len; i++) {
		const struct md_task *t = w->tasks.data[i];
		if (!md_task_ended(t) && !strcmp(t->node.s, w->nodes[node]->meta.id))
			n += t->spec.resources->reservations->memory_bytes;
	}
	return n;
}

static bool host_port_on(const struct twin *w, size_t node)
{
	for (size_t i = 0; i < w->tasks.len; i++) {
		const struct md_task *t = w->tasks.data[i];
		if (!md_task_ended(t) && !strcmp(t->node.s, w->nodes[node]->meta.id) && t->endpoint.ports.n)
			return true;
	}
	return false;
}

static const char *zone_of(const struct md_node *n)
{
	const char *z = smap_get(&n->spec.labels, "zone");
	return z ? z : "";
}

static bool eligible(const struct twin *w, size_t node, const struct md_task *t)
{
	const struct md_node *n = w->nodes[node];
	if (n->status.state != MD_NODE_READY || n->spec.availability != MD_AVAIL_ACTIVE)
		return false;
	const struct str_list *c = &t->spec.placement->constraints;
	return !c->n || !strcmp(zone_of(n), "a");
}

static bool fits(const struct twin *w, size_t node, const struct md_task *t)
{
	int64_t want = t->spec.resources->reservations->memory_bytes;
	if (want && memory_on(w, node) + want > w->nodes[node]->description.resources.memory_bytes)
		return false;
	if (t->endpoint.ports.n && host_port_on(w, node))
		return false;
	uint64_t max = t->spec.placement->max_replicas;
	return !max || count_on(w, node, t->service.s) < max;
}

static uint32_t zone_load(const struct twin *w, const char *zone, const struct md_task *t)
{
	uint32_t n = 0;
	for (size_t i = 0; i < w->n_nodes; i++)
		if (eligible(w, i, t) && !strcmp(zone_of(w->nodes[i]), zone))
			n += count_on(w, i, t->service.s);
	return n;
}

static uint32_t failures_on(const struct twin *w, size_t node, const struct md_task *t)
{
	size_t service = (size_t)(t->service.s[1] - '0');
	bool recent = w->now - w->failed[service][node].since <= 5 * 60 * NS_PER_SEC;
	return recent && w->failed[service][node].count >= 5 ? w->failed[service][node].count : 0;
}

static void twin_failed(struct twin *w, size_t service, size_t node)
{
	if (!w->failed[service][node].count || w->now - w->failed[service][node].since > 5 * 60 * NS_PER_SEC) {
		w->failed[service][node].count = 0;
		w->failed[service][node].since = w->now;
	}
	w->failed[service][node].count++;
}

static void twin_key(const struct twin *w, size_t i, const struct md_task *t, uint64_t key[5])
{
	bool zones = t->spec.placement->preferences.n;
	const char *zone = zone_of(w->nodes[i]);
	double memory = (double)w->nodes[i]->description.resources.memory_bytes;
	key[0] = zones ? zone_load(w, zone, t) : 0;
	key[1] = zones ? (uint64_t)*zone : 0;
	key[2] = failures_on(w, i, t);
	key[3] = count_on(w, i, t->service.s);
	key[4] = count_on(w, i, NULL);
	if (smap_get(&t->service_labels, "mesh.strategy")) {
		key[3] = 1000000 - (uint64_t)((double)memory_on(w, i) / memory * 1e6);
		key[4] = UINT32_MAX - key[4];
	}
}

static const char *twin_place(const struct twin *w, const struct md_task *t)
{
	size_t best = SIZE_MAX;
	uint64_t best_key[5] = { 0 }, key[5];
	for (size_t i = 0; i < w->n_nodes; i++) {
		if (!eligible(w, i, t) || !fits(w, i, t))
			continue;
		twin_key(w, i, t, key);
		bool less = best == SIZE_MAX;
		for (int k = 0; k < 5 && !less; k++) {
			if (key[k] > best_key[k])
				break;
			less = key[k] < best_key[k];
		}
		if (less) {
			best = i;
			memcpy(best_key, key, sizeof(key));
		}
	}
	return best == SIZE_MAX ? "" : w->nodes[best]->meta.id;
}

static void random_task(struct md_task *t, unsigned service)
{
	/* A service's tasks are alike: its number says how. */
	if (service % 2)
		t->spec.resources->reservations->memory_bytes = (1 + service % 3) * (GIB / 4);
	if (service % 3 == 1)
		spread_by(t, "node.labels.zone");
	if (service % 5 == 2)
		strs_add(&t->spec.placement->constraints, "node.labels.zone==a");
	if (service % 7 == 3)
		t->spec.placement->max_replicas = 2;
	if (service % 11 == 4) {
		struct md_port *p = LIST_ADD(&t->endpoint.ports);
		p->mode = MD_PUBLISH_HOST;
		p->published = p->target = 80;
	}
	if (service >= 8)
		smap_set(&t->service_labels, "mesh.strategy", "binpack");
}

static const char *const zones[] = { "a", "b", "c", NULL };

static void change_node(struct sched *s, struct mesh_rng *r, struct md_node *n)
{
	n->status.state = mesh_rng_below(r, 4) ? MD_NODE_READY : MD_NODE_DOWN;
	n->spec.availability = mesh_rng_below(r, 5) ? MD_AVAIL_ACTIVE : MD_AVAIL_DRAIN;
	if (!mesh_rng_below(r, 4))
		smap_set(&n->spec.labels, "zone", zones[mesh_rng_below(r, 3)]);
	sched_node_put(s, n);
}

static void against_the_twin(uint64_t seed)
{
	struct mesh_rng r;
	struct twin w = { 0 };
	char name[32];
	mesh_rng_seed(&r, seed);
	struct sched *s = sched_new(&r);
	w.n_nodes = seed % 5 ? 2 + mesh_rng_below(&r, 12) : 65 + mesh_rng_below(&r, 100);
	w.nodes = xcalloc(w.n_nodes, sizeof(*w.nodes));
	for (size_t i = 0; i < w.n_nodes; i++) {
		snprintf(name, sizeof(name), "n%03zu", i);
		w.nodes[i] =
			new_node(name, 4, (1 + (int64_t)mesh_rng_below(&r, 8)) * GIB, zones[mesh_rng_below(&r, 4)]);
		sched_node_put(s, w.nodes[i]);
	}
	for (int step = 0; step < 250; step++) {
		unsigned what = (unsigned)mesh_rng_below(&r, 11);
		w.now = step * 4 * NS_PER_SEC;
		if (what == 10) {
			size_t node = mesh_rng_below(&r, w.n_nodes < 6 ? w.n_nodes : 6);
			unsigned service = (unsigned)mesh_rng_below(&r, SERVICES);
			snprintf(name, sizeof(name), "s%u", service);
			for (int i = 0; i < 3; i++, twin_failed(&w, service, node))
				sched_failed(s, name, w.nodes[node]->meta.id, w.now);
		} else if (what == 0) {
			change_node(s, &r, w.nodes[mesh_rng_below(&r, w.n_nodes)]);
		} else if (what <= 3 && w.tasks.len) {
			struct md_task *t = w.tasks.data[mesh_rng_below(&r, w.tasks.len)];
			if (mesh_rng_below(&r, 2))
				t->desired_state = MD_TASK_SHUTDOWN;
			else
				t->status.state = MD_TASK_FAILED;
			sched_task_put(s, t);
			sched_task_put(s, t); /* telling twice changes nothing */
		} else {
			unsigned service = (unsigned)mesh_rng_below(&r, SERVICES);
			char id[32];
			snprintf(id, sizeof(id), "t%d", step);
			snprintf(name, sizeof(name), "s%u", service);
			struct md_task *t = new_task(id, name);
			random_task(t, service);
			const char *want = twin_place(&w, t);
			assert_string_equal(place(s, t, w.now), want);
			if (*want)
				vec_push(&w.tasks, t);
			else
				free_task(t);
		}
		for (size_t i = 0; i < w.n_nodes && step % 25 == 0; i++)
			for (unsigned k = 0; k < SERVICES; k++) {
				snprintf(name, sizeof(name), "s%u", k);
				assert_int_equal(sched_count(s, name, w.nodes[i]->meta.id), count_on(&w, i, name));
			}
	}
	for (size_t i = 0; i < w.tasks.len; i++)
		free_task(w.tasks.data[i]);
	vec_fini(&w.tasks);
	for (size_t i = 0; i < w.n_nodes; i++)
		sch_free(&md_node_schema, w.nodes[i]);
	free(w.nodes);
	sched_free(s);
}

static void test_twin(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++)
		against_the_twin(seed);
}

/* A batch places as the same tasks one by one do. */
static void test_batch_is_one_by_one(void **state)
{
	struct mesh_rng r;
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		char got[2][40][MESH_ID_LEN + 1];
		for (int batched = 0; batched < 2; batched++) {
			mesh_rng_seed(&r, seed);
			struct sched *s = sched_new(&r);
			for (int i = 0; i < 7; i++) {
				char name[8], zone[4];
				snprintf(name, sizeof(name), "n%d", i);
				snprintf(zone, sizeof(zone), "%d", (int)mesh_rng_below(&r, 3));
				put_node(s, name, 8, (2 + (int64_t)mesh_rng_below(&r, 3)) * GIB, zone);
			}
			struct md_task *t[40];
			struct sched_batch *b = NULL;
			for (int i = 0; i < 40; i++) {
				char id[8];
				snprintf(id, sizeof(id), "t%d", i);
				t[i] = new_task(id, "s");
				t[i]->spec.resources->reservations->memory_bytes = GIB / 2;
				if (seed % 2)
					spread_by(t[i], "node.labels.zone");
				if (!b && batched)
					b = sched_batch_new(s, t[0], 0);
				if (batched)
					(void)sched_place(b, t[i]);
				else
					(void)place(s, t[i], 0);
				mesh_id_set(got[batched][i], t[i]->node.s);
			}
			sched_batch_free(b);
			for (int i = 0; i < 40; i++)
				free_task(t[i]);
			sched_free(s);
		}
		for (int i = 0; i < 40; i++)
			assert_string_equal(got[0][i], got[1][i]);
	}
}

/* ---- rules ---- */

static void test_strategies(void **state)
{
	struct mesh_rng r;
	char id[8];
	(void)state;
	mesh_rng_seed(&r, 1);
	struct sched *s = sched_new(&r);
	put_node(s, "n0", 4, 4 * GIB, NULL);
	put_node(s, "n1", 4, 2 * GIB, NULL);
	put_node(s, "n2", 4, 4 * GIB, NULL);
	/* Fills the one that is fullest and still fits, then the next. */
	static const char *const want[] = { "n0", "n0", "n0", "n0", "n1", "n1", "n2" };
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		snprintf(id, sizeof(id), "t%zu", i);
		struct md_task *t = new_task(id, "packed");
		smap_set(&t->service_labels, "mesh.strategy", "binpack");
		t->spec.resources->reservations->memory_bytes = GIB;
		assert_string_equal(place(s, t, 0), want[i]);
		sched_task_put(s, t);
		free_task(t);
	}
	/* Random reaches every node that fits. */
	bool seen[3] = { false };
	for (int i = 0; i < 60; i++) {
		struct md_task *t = new_task("r", "any");
		smap_set(&t->service_labels, "mesh.strategy", "random");
		seen[place(s, t, 0)[1] - '0'] = true;
		sched_task_del(s, "r");
		free_task(t);
	}
	assert_true(seen[0] && seen[1] && seen[2]);
	sched_free(s);
}

/* First evenly over zones, then within each over racks, then over nodes: 16 tasks, zone a has a third of the nodes. */
static void test_nested_preferences(void **state)
{
	static const struct {
		const char *name, *zone, *rack;
		int want;
	} nodes[] = { { "n0", "a", "r1", 4 },
		      { "n1", "a", "r2", 4 },
		      { "n2", "b", "r1", 2 },
		      { "n3", "b", "r1", 2 },
		      { "n4", "b", "r2", 4 } };
	struct mesh_rng r;
	char id[8];
	int got[ARRAY_SIZE(nodes)] = { 0 };
	(void)state;
	mesh_rng_seed(&r, 1);
	struct sched *s = sched_new(&r);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		struct md_node *n = new_node(nodes[i].name, 4, 4 * GIB, nodes[i].zone);
		smap_set(&n->description.engine.labels, "rack", nodes[i].rack);
		sched_node_put(s, n);
		sch_free(&md_node_schema, n);
	}
	for (int i = 0; i < 16; i++) {
		snprintf(id, sizeof(id), "t%d", i);
		struct md_task *t = new_task(id, "web");
		spread_by(t, "node.labels.zone");
		spread_by(t, "engine.labels.rack");
		got[place(s, t, 0)[1] - '0']++;
		sched_task_put(s, t);
		free_task(t);
	}
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		assert_int_equal(got[i], nodes[i].want);
	sched_free(s);
}

static void test_failures_weigh(void **state)
{
	struct mesh_rng r;
	(void)state;
	mesh_rng_seed(&r, 1);
	struct sched *s = sched_new(&r);
	put_node(s, "n0", 4, GIB, NULL);
	put_node(s, "n1", 4, GIB, NULL);
	for (int i = 0; i < 5; i++)
		sched_failed(s, "web", "n0", NS_PER_SEC * i);
	struct md_task *a = new_task("a", "web"), *b = new_task("b", "web"), *c = new_task("c", "web"),
		       *d = new_task("d", "other");
	assert_string_equal(place(s, a, 10 * NS_PER_SEC), "n1");
	assert_string_equal(place(s, b, 10 * NS_PER_SEC), "n1");
	assert_string_equal(place(s, d, 10 * NS_PER_SEC), "n0");   /* not its failures */
	assert_string_equal(place(s, c, 1000 * NS_PER_SEC), "n0"); /* forgotten */
	free_task(a);
	free_task(b);
	free_task(c);
	free_task(d);
	sched_free(s);
}

static void add_generic(struct md_resources *r, const char *kind, const char *value, int64_t units)
{
	struct md_generic *g = sch_list_add(&r->generic, sizeof(struct md_generic));
	if (value) {
		g->named = XNEW(struct md_named_resource);
		g->named->kind = xstrdup(kind);
		g->named->value = xstrdup(value);
	} else {
		g->discrete = XNEW(struct md_discrete_resource);
		g->discrete->kind = xstrdup(kind);
		g->discrete->value = units;
	}
}

static void test_generic_resources(void **state)
{
	struct mesh_rng r;
	char id[8];
	(void)state;
	mesh_rng_seed(&r, 1);
	struct sched *s = sched_new(&r);
	struct md_node *n = new_node("n0", 4, GIB, NULL);
	add_generic(&n->description.resources, "gpu", "uuid-1", 0);
	add_generic(&n->description.resources, "gpu", "uuid-2", 0);
	add_generic(&n->description.resources, "ssd", NULL, 3);
	sched_node_put(s, n);
	sch_free(&md_node_schema, n);
	struct md_task *t[3];
	for (int i = 0; i < 3; i++) {
		snprintf(id, sizeof(id), "t%d", i);
		t[i] = new_task(id, "ml");
		add_generic(t[i]->spec.resources->reservations, "gpu", NULL, 1);
		add_generic(t[i]->spec.resources->reservations, "ssd", NULL, 1);
		assert_string_equal(place(s, t[i], 0), i < 2 ? "n0" : "");
	}
	assert_string_equal(t[0]->generic.v[0].named->value, "uuid-1");
	assert_string_equal(t[1]->generic.v[0].named->value, "uuid-2");
	assert_int_equal(t[1]->generic.v[1].discrete->value, 1);
	/* One ends: its card is free for the next. */
	t[0]->status.state = MD_TASK_COMPLETE;
	sched_task_put(s, t[0]);
	assert_string_equal(place(s, t[2], 0), "n0");
	assert_string_equal(t[2]->generic.v[0].named->value, "uuid-1");
	for (int i = 0; i < 3; i++)
		free_task(t[i]);
	sched_free(s);
}

static void test_explanations(void **state)
{
	struct mesh_rng r;
	char text[SCHED_TEXT_MAX], detail[SCHED_TEXT_MAX];
	(void)state;
	mesh_rng_seed(&r, 1);
	struct sched *s = sched_new(&r);
	struct md_task *t = new_task("t", "web");
	sched_explain(s, t, text, detail);
	assert_string_equal(text, "no suitable node");
	put_node(s, "n0", 1, GIB, "a");
	put_node(s, "n1", 1, GIB, "a");
	put_node(s, "n2", 1, GIB, "b");
	t->spec.resources->reservations->memory_bytes = 2 * GIB;
	sched_explain(s, t, text, detail);
	assert_string_equal(text, "no suitable node (insufficient resources on 3 nodes)");
	assert_string_equal(detail, "memory: 2048 MiB wanted, 1024 of 1024 MiB free on n0");
	t->spec.resources->reservations->memory_bytes = 0;
	strs_add(&t->spec.placement->constraints, "node.labels.zone != a");
	struct md_node *n = new_node("n2", 1, GIB, "b");
	n->spec.availability = MD_AVAIL_PAUSE;
	sched_node_put(s, n);
	sch_free(&md_node_schema, n);
	sched_explain(s, t, text, detail);
	assert_string_equal(text, "no suitable node (scheduling constraints not satisfied on 2 nodes; "
	                          "1 node not available for new tasks)");
	assert_string_equal(detail, "constraint node.labels.zone != a");
	struct md_platform *p = LIST_ADD(&t->spec.placement->platforms);
	p->architecture = xstrdup("arm64");
	strs_clear(&t->spec.placement->constraints);
	sched_explain(s, t, text, detail);
	assert_string_equal(text,
	                    "no suitable node (unsupported platform on 2 nodes; 1 node not available for new tasks)");
	free_task(t);
	sched_free(s);
}

static void test_confirm(void **state)
{
	struct mesh_rng r;
	char text[SCHED_TEXT_MAX], detail[SCHED_TEXT_MAX];
	(void)state;
	mesh_rng_seed(&r, 1);
	struct sched *s = sched_new(&r);
	put_node(s, "n0", 1, GIB, NULL);
	put_node(s, "n1", 1, GIB, NULL);
	struct md_task *a = new_task("a", "g"), *b = new_task("b", "g");
	a->spec.resources->reservations->memory_bytes = GIB;
	b->spec.resources->reservations->memory_bytes = GIB;
	mesh_id_set(a->node.s, "n0");
	mesh_id_set(b->node.s, "n0");
	assert_int_equal(sched_confirm(s, a), SCHED_OK);
	assert_int_equal(sched_confirm(s, a), SCHED_OK); /* its own share is not in its way */
	assert_int_equal(sched_confirm(s, b), SCHED_RESOURCES);
	sched_explain(s, b, text, detail);
	assert_string_equal(text, "no suitable node (insufficient resources on 1 node)");
	sched_task_del(s, "a");
	assert_int_equal(sched_confirm(s, b), SCHED_OK);
	mesh_id_set(a->node.s, "gone");
	assert_int_equal(sched_confirm(s, a), SCHED_NOT_READY);
	free_task(a);
	free_task(b);
	sched_free(s);
}

/* ---- constraints ---- */

static void test_constraints(void **state)
{
	static const struct {
		const char *expr;
		bool holds;
	} cases[] = {
		{ "node.id==N0", true },
		{ "node.id != n0", false },
		{ "node.hostname == n0", true },
		{ "node.role==worker", true },
		{ "node.role!=manager", true },
		{ "node.platform.os==Linux", true },
		{ "node.platform.arch==amd64", true },
		{ "node.platform.arch==x86_64", true },
		{ "node.platform.arch!=amd64", false },
		{ "node.labels.zone==a", true },
		{ "node.labels.zone == A", true },
		{ "node.labels.none==a", false },
		{ "node.labels.none!=a", true },
		{ "engine.labels.disk==ssd", true },
		{ "node.ip==192.0.2.7", true },
		{ "node.ip==192.0.2.0/24", true },
		{ "node.ip==192.0.3.0/24", false },
		{ "node.ip!=10.0.0.0/8", true },
	};
	static const char *const bad[] = { "",          "node.id", "node.id=x",   "zone==a",     "node.labels.==a",
		                           "node.id==", "==x",     "node.ip==me", "node.id==a;b" };
	struct md_node *n = new_node("n0", 1, GIB, "a");
	(void)state;
	smap_set(&n->description.engine.labels, "disk", "ssd");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str_list l = { 0 };
		struct constraints c;
		struct mesh_err err = { 0 };
		strs_add(&l, cases[i].expr);
		assert_int_equal(constraints_parse(&l, &c, &err), 0);
		if ((constraints_unmet(&c, n) < 0) != cases[i].holds)
			fail_msg("%s", cases[i].expr);
		constraints_fini(&c);
		strs_clear(&l);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct str_list l = { 0 };
		struct constraints c;
		struct mesh_err err = { 0 };
		strs_add(&l, "node.role==worker");
		strs_add(&l, bad[i]);
		if (constraints_parse(&l, &c, &err) != MESH_E_INVALID)
			fail_msg("'%s' was accepted", bad[i]);
		assert_non_null(strstr(err.msg, bad[i]));
		assert_int_equal(c.n, 0);
		strs_clear(&l);
	}
	sch_free(&md_node_schema, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_twin),
		cmocka_unit_test(test_batch_is_one_by_one),
		cmocka_unit_test(test_strategies),
		cmocka_unit_test(test_nested_preferences),
		cmocka_unit_test(test_failures_weigh),
		cmocka_unit_test(test_confirm),
		cmocka_unit_test(test_generic_resources),
		cmocka_unit_test(test_explanations),
		cmocka_unit_test(test_constraints),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
