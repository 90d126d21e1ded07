/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Placements: a whole cluster's services from create to assigned tasks through the real path (step, encode, apply),
 * and the loss of a tenth of the nodes. One process, one core, no disk and no network: what the decisions cost.
 * Peers place over the network with their stores; their figures are what they published, not measured here.
 * Then one task at a time: through the whole path, and the choice of a node alone, for tasks that ask for different things.
 *
 *   bench/scheduler [-o file.json] [nodes tasks]
 */
#include <malloc.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/orchestrator/brain.h"
#include "control/scheduler/scheduler.h"

#define TASKS_PER_SERVICE 150
#define NOMAD_C1M 3750.0 /* placements a second, published */

struct bench {
	struct store *s;
	struct brain *b;
	struct mesh_rng rng;
	int64_t now, wake;
	uint64_t index;
	size_t largest, commands;
	double brain_s, encode_s, apply_s;
};

static double cpu_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void commit(struct bench *w, struct store_tx *tx)
{
	struct buf cmd = { 0 };
	double t0 = cpu_s();
	store_tx_encode(tx, &cmd);
	store_tx_free(tx);
	double t1 = cpu_s();
	if (store_apply(w->s, ++w->index, cmd.data, cmd.len, NULL))
		abort();
	w->encode_s += t1 - t0;
	w->apply_s += cpu_s() - t1;
	w->largest = cmd.len > w->largest ? cmd.len : w->largest;
	w->commands++;
	buf_fini(&cmd);
}

static void settle(struct bench *w)
{
	while (brain_pending(w->b) || w->wake <= w->now) {
		double t0 = cpu_s();
		struct store_tx *tx = store_tx_new(w->s, w->now);
		w->wake = brain_step(w->b, tx);
		bool any = store_tx_changes(tx);
		w->brain_s += cpu_s() - t0;
		if (any)
			commit(w, tx);
		else
			store_tx_free(tx);
	}
}

static void fill_node(struct md_node *n, size_t i)
{
	char text[32];
	snprintf(text, sizeof(text), "n%zu", i);
	n->description.hostname = xstrdup(text);
	n->status.state = MD_NODE_READY;
	n->status.addr = xstrdup("192.0.2.1");
	n->description.platform.os = xstrdup("linux");
	n->description.platform.architecture = xstrdup("x86_64");
	n->description.resources.nano_cpus = 32000000000;
	n->description.resources.memory_bytes = 128LL << 30;
	snprintf(text, sizeof(text), "z%zu", i % 5);
	smap_set(&n->spec.labels, "zone", text);
}

static void begin(struct bench *w, size_t nodes)
{
	*w = (struct bench){ .now = NS_PER_SEC, .wake = INT64_MAX };
	mesh_rng_seed(&w->rng, 1);
	w->s = store_new();
	struct md_cluster c = { 0 };
	struct md_node first = { 0 };
	fill_node(&first, 0);
	struct store_tx *tx = store_tx_new(w->s, w->now);
	brain_bootstrap(tx, &c, &first, &w->rng);
	for (size_t i = 1; i < nodes; i++) {
		char id[MESH_ID_LEN + 1];
		mesh_id_make(&w->rng, id);
		fill_node(store_tx_create(tx, STORE_NODE, id), i);
	}
	commit(w, tx);
	sch_clear(&md_node_schema, &first);
	w->b = brain_new(w->s, &w->rng);
	settle(w);
}

/* Half of them plain, a third with reservations, the rest spread over zones with a constraint. */
static void fill_service(struct md_service *s, size_t i, size_t replicas)
{
	char text[32];
	snprintf(text, sizeof(text), "svc%zu", i);
	s->spec.name = xstrdup(text);
	s->spec.task.container = sch_new(&md_container_spec_schema);
	s->spec.task.container->image = xstrdup("registry.example/app:1");
	md_service_spec_defaults(&s->spec);
	s->spec.mode.replicated->replicas.v = replicas;
	if (i % 3 == 0) {
		s->spec.task.resources->reservations->nano_cpus = 10000000;
		s->spec.task.resources->reservations->memory_bytes = 16 << 20;
	} else if (i % 6 == 1) {
		struct md_preference *p = LIST_ADD(&s->spec.task.placement->preferences);
		p->spread = XNEW(struct md_spread);
		p->spread->descriptor = xstrdup("node.labels.zone");
		strs_add(&s->spec.task.placement->constraints, "node.platform.os==linux");
	}
}

static void add_services(struct bench *w, size_t services, size_t replicas)
{
	for (size_t i = 0; i < services; i++) {
		char id[MESH_ID_LEN + 1];
		mesh_id_make(&w->rng, id);
		struct store_tx *tx = store_tx_new(w->s, w->now);
		fill_service(store_tx_create(tx, STORE_SERVICE, id), i, replicas);
		commit(w, tx);
		settle(w);
	}
}

static size_t placed(const struct bench *w)
{
	size_t n = 0;
	STORE_EACH(w->s, STORE_TASK, struct md_task, t)
		n += md_task_wanted(t) && t->status.state >= MD_TASK_ASSIGNED;
	return n;
}

static size_t lose_nodes(struct bench *w, size_t count)
{
	struct store_tx *tx = store_tx_new(w->s, w->now);
	struct store_list l = store_all(w->s, STORE_NODE);
	for (size_t i = 0; i < count; i++) {
		struct md_node *n = store_tx_edit(tx, STORE_NODE, ((const struct md_meta *)l.v[i * 10])->id);
		n->status.state = MD_NODE_DOWN;
	}
	commit(w, tx);
	size_t before = store_count(w->s, STORE_TASK);
	settle(w);
	return store_count(w->s, STORE_TASK) - before;
}

/* One task at a time of a running cluster: fail, be replaced, be assigned. */
static double one_by_one(struct bench *w, size_t n)
{
	double t0 = cpu_s();
	for (size_t i = 0; i < n; i++) {
		struct store_list l = store_all(w->s, STORE_TASK);
		const struct md_task *t;
		do
			t = l.v[mesh_rng_below(&w->rng, l.n)];
		while (!md_task_wanted(t));
		struct store_tx *tx = store_tx_new(w->s, w->now);
		struct md_task *e = store_tx_edit(tx, STORE_TASK, t->meta.id);
		e->status.state = MD_TASK_FAILED;
		commit(w, tx);
		settle(w);
	}
	return (double)n / (cpu_s() - t0);
}

/* ---- the choice alone ---- */

enum kind { PLAIN, RESERVES, CONSTRAINED, ZONES, PACKED, KIND_MAX };
static const char *const kind_name[KIND_MAX] = { "plain", "reserves", "constraint", "zones", "binpack" };

static void fill_task(struct md_task *t, enum kind kind)
{
	snprintf(t->service.s, sizeof(t->service.s), "bench%d", kind);
	t->desired_state = MD_TASK_RUNNING;
	t->status.state = MD_TASK_PENDING;
	t->spec.placement = sch_new(&md_placement_schema);
	t->spec.resources = sch_new(&md_resource_requirements_schema);
	t->spec.resources->reservations = XNEW(struct md_resources);
	if (kind == RESERVES || kind == PACKED)
		t->spec.resources->reservations->memory_bytes = 16 << 20;
	if (kind == CONSTRAINED)
		strs_add(&t->spec.placement->constraints, "node.labels.zone==z3");
	if (kind == PACKED)
		smap_set(&t->service_labels, "mesh.strategy", "binpack");
	if (kind == ZONES) {
		struct md_preference *p = LIST_ADD(&t->spec.placement->preferences);
		p->spread = XNEW(struct md_spread);
		p->spread->descriptor = xstrdup("node.labels.zone");
	}
}

/* Microseconds a choice, each a batch of its own, until the service has as many tasks as the others. */
static double choice_us(struct sched *s, enum kind kind)
{
	struct md_task *t[TASKS_PER_SERVICE];
	for (size_t i = 0; i < TASKS_PER_SERVICE; i++) {
		t[i] = sch_new(&md_task_schema);
		snprintf(t[i]->meta.id, sizeof(t[i]->meta.id), "bench%d.%zu", kind, i);
		fill_task(t[i], kind);
	}
	double t0 = cpu_s();
	for (size_t i = 0; i < TASKS_PER_SERVICE; i++) {
		struct sched_batch *b = sched_batch_new(s, t[i], NS_PER_SEC);
		if (!sched_place(b, t[i]))
			abort();
		sched_batch_free(b);
	}
	double us = (cpu_s() - t0) * 1e6 / TASKS_PER_SERVICE;
	for (size_t i = 0; i < TASKS_PER_SERVICE; i++) {
		sched_task_del(s, t[i]->meta.id);
		sch_free(&md_task_schema, t[i]);
	}
	return us;
}

static void choices(struct bench *w, double us[KIND_MAX])
{
	struct sched *s = sched_new(&w->rng);
	STORE_EACH(w->s, STORE_NODE, struct md_node, n)
		sched_node_put(s, n);
	STORE_EACH(w->s, STORE_TASK, struct md_task, t)
		sched_task_put(s, t);
	for (enum kind k = 0; k < KIND_MAX; k++)
		us[k] = choice_us(s, k);
	sched_free(s);
}

/* ---- a cluster ---- */

struct row {
	size_t nodes, tasks, services, bytes, moved, command;
	double placed, place_s, brain, encode, apply, moved_s, single, us[KIND_MAX];
};

static struct row measure(size_t nodes, size_t tasks)
{
	struct bench w;
	struct row r = { .nodes = nodes, .services = tasks / TASKS_PER_SERVICE };
	begin(&w, nodes);
	size_t mem0 = mallinfo2().uordblks;
	w.brain_s = w.encode_s = w.apply_s = 0;
	double t0 = cpu_s();
	add_services(&w, r.services, TASKS_PER_SERVICE);
	r.place_s = cpu_s() - t0;
	r.tasks = placed(&w);
	r.placed = (double)r.tasks / r.place_s;
	r.brain = w.brain_s, r.encode = w.encode_s, r.apply = w.apply_s;
	r.bytes = (mallinfo2().uordblks - mem0) / r.tasks;
	choices(&w, r.us);
	t0 = cpu_s();
	r.moved = lose_nodes(&w, nodes / 10);
	r.moved_s = cpu_s() - t0;
	r.single = one_by_one(&w, 1000);
	r.command = w.largest;
	brain_free(w.b);
	store_free(w.s);
	return r;
}

static void show(const struct row *r, FILE *json, bool first)
{
	printf("%6zu %8zu %5zu %9.0f %6.1f %5.2f %5.2f %5.2f %7zu %7zu %6.2f %8.0f %9.0f %6.1f %6zu ", r->nodes,
	       r->tasks, r->services, r->placed, r->placed / NOMAD_C1M, r->brain, r->encode, r->apply, r->bytes,
	       r->moved, r->moved_s, (double)r->moved / r->moved_s, r->single, r->single / NOMAD_C1M, r->command >> 10);
	for (enum kind k = 0; k < KIND_MAX; k++)
		printf(" %10.1f", r->us[k]);
	printf("\n");
	fflush(stdout);
	if (!json)
		return;
	fprintf(json,
	        "%s\n {\"nodes\": %zu, \"tasks\": %zu, \"services\": %zu, \"placed_per_s\": %.0f, \"bytes_per_task\": "
	        "%zu, "
	        "\"moved\": %zu, \"moved_s\": %.3f, \"single_per_s\": %.0f, \"command_bytes\": %zu, \"choice_us\": {",
	        first ? "" : ",", r->nodes, r->tasks, r->services, r->placed, r->bytes, r->moved, r->moved_s, r->single,
	        r->command);
	for (enum kind k = 0; k < KIND_MAX; k++)
		fprintf(json, "%s\"%s\": %.2f", k ? ", " : "", kind_name[k], r->us[k]);
	fprintf(json, "}}");
}

int main(int argc, char **argv)
{
	static const size_t sizes[][2] = { { 1000, 30000 }, { 1000, 150000 }, { 5000, 30000 }, { 5000, 150000 } };
	FILE *json = NULL;
	for (int c; (c = getopt(argc, argv, "o:")) != -1;)
		json = c == 'o' ? fopen(optarg, "we") : json;
	printf("%6s %8s %5s %9s %6s %5s %5s %5s %7s %7s %6s %8s %9s %6s %6s ", "nodes", "tasks", "svcs", "placed/s",
	       "ratio", "brain", "enc", "apply", "B/task", "moved", "cpu s", "moved/s", "single/s", "ratio", "maxKiB");
	for (enum kind k = 0; k < KIND_MAX; k++)
		printf(" %7s us", kind_name[k]);
	printf("\n");
	if (json)
		fprintf(json, "[");
	if (argc - optind == 2) {
		struct row r = measure(strtoull(argv[optind], NULL, 10), strtoull(argv[optind + 1], NULL, 10));
		show(&r, json, true);
	} else {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			struct row r = measure(sizes[i][0], sizes[i][1]);
			show(&r, json, i == 0);
		}
	}
	if (json) {
		fprintf(json, "\n]\n");
		fclose(json);
	}
	printf("\nplaced/s: create to assigned, decision + command + apply to the store, one core. moved: a tenth of "
	       "the nodes\n"
	       "goes down, until every task has a new node. single/s: one task fails, until it is placed again. us: "
	       "one choice\n"
	       "of a node in a cluster that runs, for tasks that ask for nothing, memory, a label, spread over labels, "
	       "binpack.\n"
	       "ratio: of Nomad C1M's 3750/s on 5000 hosts. Published by peers (whole systems, clusters of machines): "
	       "Nomad C2M\n"
	       "1500/s on 6100; Kubernetes 100/s on 5000 nodes; Swarm about 6/s on 5 nodes.\n");
	return 0;
}
