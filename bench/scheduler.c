/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Placements: a whole cluster's services from create to assigned tasks through the real path (step, encode, apply),
 * and the loss of a tenth of the nodes. One process, one core, no disk and no network: what the decisions cost.
 * Peers place over the network with their stores; their figures are what they published, not measured here.
 *
 *   bench/scheduler [nodes tasks]
 */
#include <malloc.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "control/orchestrator/brain.h"

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

static void run(size_t nodes, size_t tasks)
{
	struct bench w;
	size_t services = nodes / 5, replicas = tasks / services;
	begin(&w, nodes);
	size_t mem0 = mallinfo2().uordblks;
	w.brain_s = w.encode_s = w.apply_s = 0;
	w.commands = 0;
	double t0 = cpu_s();
	add_services(&w, services, replicas);
	double t = cpu_s() - t0;
	size_t n = placed(&w);
	size_t bytes = (mallinfo2().uordblks - mem0) / n;
	printf("%6zu %8zu %6zu %11.0f %9.2f %5.2f %5.2f %5.2f %8zu", nodes, n, services, (double)n / t, t, w.brain_s,
	       w.encode_s, w.apply_s, bytes);
	fflush(stdout);
	t0 = cpu_s();
	size_t moved = lose_nodes(&w, nodes / 10);
	t = cpu_s() - t0;
	printf(" %8zu %7.2f %11.0f", moved, t, (double)moved / t);
	fflush(stdout);
	printf(" %9.0f %7zu\n", one_by_one(&w, 300), w.largest >> 10);
	brain_free(w.b);
	store_free(w.s);
}

int main(int argc, char **argv)
{
	printf("%6s %8s %6s %11s %9s %5s %5s %5s %8s %8s %7s %11s %9s %7s\n", "nodes", "tasks", "svcs", "placed/s",
	       "cpu s", "brain", "enc", "apply", "B/task", "moved", "cpu s", "moved/s", "single/s", "max KiB");
	if (argc == 3) {
		run(strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10));
		return 0;
	}
	run(1000, 30000);
	run(5000, 150000);
	printf("\nplaced/s: create to assigned, decision + command + apply to the store, one core. moved: a tenth of "
	       "the\n"
	       "nodes goes down, until every task has a new node. single/s: one task fails, until it is placed again.\n"
	       "Published by peers (whole systems, clusters of machines): Nomad C1M 3750/s on 5000 hosts, C2M 1500/s "
	       "on\n"
	       "6100; Kubernetes 100/s on 5000 nodes; Swarm about 6/s on 5 nodes.\n");
	return 0;
}
