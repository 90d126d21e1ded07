/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Services from create to removal, updates, jobs, global ones: one story a test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/support/brain_world.h"

#define assert_running(w, name, image, n)                                                                              \
	do {                                                                                                           \
		if (world_running((w), (name), (image)) != (n))                                                        \
			world_dump((w), stderr);                                                                       \
		assert_int_equal(world_running((w), (name), (image)), (n));                                            \
	} while (0)

static const struct md_task *task_of(const struct world *w, const char *service, size_t i)
{
	struct store_list l = store_tasks_of_service(w->s, world_service(w, service)->meta.id);
	return i < l.n ? l.v[i] : NULL;
}

static size_t on_node(const struct world *w, const char *node)
{
	struct store_list l = store_tasks_of_node(w->s, world_node(w, node)->meta.id);
	size_t n = 0;
	for (size_t i = 0; i < l.n; i++)
		n += md_task_wanted(l.v[i]);
	return n;
}

static int update_state(const struct world *w, const char *service)
{
	const struct md_service *s = world_service(w, service);
	return s->update_status ? s->update_status->state : MD_UPDATE_NONE;
}

static void three_nodes(struct world *w)
{
	world_open(w, 1);
	world_add_node(w, "n1");
	world_add_node(w, "n2");
	world_settle(w);
}

static void set_scale(struct world *w, const char *service, uint64_t n)
{
	WORLD_EDIT(w, STORE_SERVICE, world_service(w, service)->meta.id, struct md_service, s,
	           s->spec.mode.replicated->replicas.v = n);
}

static void publish(struct md_service_spec *s)
{
	s->endpoint = sch_new(&md_endpoint_spec_schema);
	struct md_port *p = LIST_ADD(&s->endpoint->ports);
	p->target = 80;
	p->protocol = MD_PROTO_TCP;
	p->mode = MD_PUBLISH_INGRESS;
	p = LIST_ADD(&s->endpoint->ports);
	p->target = 81;
	p->published = 8081;
}

static void create_scale_remove(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	char id[MESH_ID_LEN + 1];
	mesh_id_set(id, world_add_service(&w, "web", 6, publish));
	/* One step, one command: everything is assigned. */
	assert_true(world_step(&w));
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(task_of(&w, "web", i)->status.state, MD_TASK_ASSIGNED);
		assert_int_equal(task_of(&w, "web", i)->slot, i + 1);
	}
	world_run(&w);
	assert_running(&w, "web", NULL, 6);
	assert_int_equal(on_node(&w, "n0"), 2);
	assert_int_equal(on_node(&w, "n1"), 2);
	assert_int_equal(on_node(&w, "n2"), 2);
	const struct md_service *s = world_service(&w, "web");
	assert_int_equal(s->endpoint.ports.v[0].published, 30000);
	assert_int_equal(s->endpoint.ports.v[1].published, 8081);
	assert_int_equal(s->endpoint.vips.n, 1);
	assert_string_equal(task_of(&w, "web", 0)->attachments.v[0].network.s, s->endpoint.vips.v[0].network.s);

	set_scale(&w, "web", 2);
	world_run(&w);
	assert_running(&w, "web", NULL, 2);
	assert_int_equal(store_tasks_of_service(w.s, id).n, 2);
	assert_true(on_node(&w, "n0") < 2 && on_node(&w, "n1") < 2 && on_node(&w, "n2") < 2);

	struct store_tx *tx = store_tx_new(w.s, w.now);
	store_tx_delete(tx, STORE_SERVICE, id);
	assert_int_equal(world_commit(&w, tx), 0);
	world_run(&w);
	assert_int_equal(store_tasks_of_service(w.s, id).n, 0);
	/* Ports and addresses are free again. */
	world_add_service(&w, "two", 1, publish);
	world_run(&w);
	assert_running(&w, "two", NULL, 1);
	assert_int_equal(world_service(&w, "two")->endpoint.ports.v[1].published, 8081);
	world_close(&w);
}

static void failed_task_is_replaced_after_the_delay(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 2, NULL);
	world_run(&w);
	const struct md_task *t = task_of(&w, "web", 0);
	uint64_t slot = t->slot;
	world_status(&w, t->meta.id, MD_TASK_FAILED, 0);
	world_run(&w);
	assert_running(&w, "web", NULL, 1);
	assert_int_equal(store_tasks_of_service(w.s, world_service(&w, "web")->meta.id).n, 3);
	const struct md_task *next = task_of(&w, "web", 2);
	assert_int_equal(next->slot, slot);
	assert_int_equal(next->desired_state, MD_TASK_READY);
	assert_int_equal(next->status.state, MD_TASK_READY);
	world_run_for(&w, 4 * NS_PER_SEC);
	assert_running(&w, "web", NULL, 1);
	world_run_for(&w, 1 * NS_PER_SEC);
	assert_running(&w, "web", NULL, 2);
	world_close(&w);
}

static void lost_and_drained_nodes(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 6, NULL);
	world_run(&w);
	char n1[MESH_ID_LEN + 1];
	mesh_id_set(n1, world_node(&w, "n1")->meta.id);
	WORLD_EDIT(&w, STORE_NODE, n1, struct md_node, n, n->status.state = MD_NODE_DOWN);
	world_run(&w);
	assert_running(&w, "web", NULL, 6);
	assert_int_equal(on_node(&w, "n1"), 0);
	/* Back again: its old tasks were told to stop and nothing moves back. */
	WORLD_EDIT(&w, STORE_NODE, n1, struct md_node, n, n->status.state = MD_NODE_READY);
	world_run(&w);
	assert_running(&w, "web", NULL, 6);
	struct store_list l = store_tasks_of_node(w.s, n1);
	for (size_t i = 0; i < l.n; i++)
		assert_int_equal(((const struct md_task *)l.v[i])->status.state, MD_TASK_SHUTDOWN);
	WORLD_EDIT(&w, STORE_NODE, world_node(&w, "n2")->meta.id, struct md_node, n,
	           n->spec.availability = MD_AVAIL_DRAIN);
	world_run(&w);
	assert_running(&w, "web", NULL, 6);
	assert_int_equal(on_node(&w, "n2"), 0);
	assert_int_equal(on_node(&w, "n1"), 3);
	/* Removed: its tasks leave no trace. */
	struct store_tx *tx = store_tx_new(w.s, w.now);
	store_tx_delete(tx, STORE_NODE, n1);
	assert_int_equal(world_commit(&w, tx), 0);
	world_run(&w);
	assert_running(&w, "web", NULL, 6);
	assert_int_equal(on_node(&w, "n0"), 6);
	l = store_tasks_of_node(w.s, n1);
	for (size_t i = 0; i < l.n; i++)
		assert_true(md_task_ended(l.v[i]));
	world_close(&w);
}

static void image2(struct md_service_spec *s)
{
	str_set(&s->task.container->image, "bb:2");
}
static void image3(struct md_service_spec *s)
{
	str_set(&s->task.container->image, "bb:3");
}
static void by_two(struct md_service_spec *s)
{
	md_service_spec_defaults(s);
	s->update->parallelism = 2;
	s->update->delay = 3 * NS_PER_SEC;
}
static void start_first(struct md_service_spec *s)
{
	publish(s);
	md_service_spec_defaults(s);
	s->update->order = MD_ORDER_START_FIRST;
}

static void rolling_update(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 5, by_two);
	world_run(&w);
	world_update(&w, "web", image2);
	world_settle(&w);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_UPDATING);
	assert_string_equal(world_service(&w, "web")->update_status->message, "update in progress");
	/* Two at once: the other three run on. */
	assert_running(&w, "web", "bb:1", 3);
	world_run(&w);
	assert_running(&w, "web", "bb:2", 2);
	world_run_for(&w, 2 * NS_PER_SEC);
	assert_running(&w, "web", "bb:2", 2);
	world_run_for(&w, 2 * NS_PER_SEC);
	assert_running(&w, "web", "bb:2", 4);
	world_run_for(&w, 3 * NS_PER_SEC);
	assert_running(&w, "web", "bb:2", 5);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_UPDATING);
	world_run_for(&w, 6 * NS_PER_SEC);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_COMPLETED);
	assert_string_equal(world_service(&w, "web")->update_status->message, "update completed");
	/* The same spec again, and a scale: no task is touched. */
	size_t before = store_count(w.s, STORE_TASK);
	set_scale(&w, "web", 6);
	world_run(&w);
	assert_int_equal(store_count(w.s, STORE_TASK), before + 1);
	world_close(&w);
}

static void start_first_waits_for_traffic(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 2, start_first);
	world_run(&w);
	world_update(&w, "web", image2);
	world_settle(&w);
	assert_int_equal(store_count(w.s, STORE_TASK), 3);
	const struct md_task *t = task_of(&w, "web", 2);
	char id[MESH_ID_LEN + 1];
	mesh_id_set(id, t->meta.id);
	world_status(&w, id, MD_TASK_RUNNING, MD_TRAFFIC_STARTING);
	world_settle(&w);
	assert_running(&w, "web", "bb:1", 2); /* it runs but takes no traffic yet */
	world_status(&w, id, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	world_settle(&w);
	assert_running(&w, "web", "bb:1", 1);
	world_run_for(&w, 20 * NS_PER_SEC);
	assert_running(&w, "web", "bb:2", 2);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_COMPLETED);
	world_close(&w);
}

/* With start-first a drained node's only task goes when its successor serves; a lost node's at once. */
static void drain_starts_first(void **state)
{
	struct world w;
	char id[MESH_ID_LEN + 1];
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 1, start_first);
	world_run(&w);
	mesh_id_set(id, task_of(&w, "web", 0)->node.s);
	WORLD_EDIT(&w, STORE_NODE, id, struct md_node, n, n->spec.availability = MD_AVAIL_DRAIN);
	world_settle(&w);
	assert_int_equal(store_count(w.s, STORE_TASK), 2);
	assert_running(&w, "web", NULL, 1); /* still the old one */
	world_run(&w);
	assert_running(&w, "web", NULL, 1);
	assert_int_equal(task_of(&w, "web", 0)->status.state, MD_TASK_SHUTDOWN);
	assert_string_not_equal(task_of(&w, "web", 1)->node.s, id);
	mesh_id_set(id, task_of(&w, "web", 1)->node.s);
	WORLD_EDIT(&w, STORE_NODE, id, struct md_node, n, n->status.state = MD_NODE_DOWN);
	world_settle(&w);
	assert_int_equal(task_of(&w, "web", 1)->desired_state, MD_TASK_SHUTDOWN);
	assert_int_equal(store_count(w.s, STORE_TASK), 3);
	world_close(&w);
}

static const struct md_task *newest(const struct world *w, const char *service)
{
	struct store_list l = store_tasks_of_service(w->s, world_service(w, service)->meta.id);
	const struct md_task *best = NULL;
	for (size_t i = 0; i < l.n; i++) {
		const struct md_task *t = l.v[i];
		best = !best || t->meta.created_at >= best->meta.created_at ? t : best;
	}
	return best;
}

static void failure_pauses(void **state)
{
	struct world w;
	char want[128];
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 3, NULL);
	world_run_for(&w, NS_PER_SEC);
	world_update(&w, "web", image2);
	world_run(&w);
	const struct md_task *t = newest(&w, "web");
	assert_string_equal(t->spec.container->image, "bb:2");
	snprintf(want, sizeof(want), "update paused due to failure or early termination of task %s", t->meta.id);
	world_status(&w, t->meta.id, MD_TASK_FAILED, 0);
	world_run_for(&w, 30 * NS_PER_SEC);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_PAUSED);
	assert_string_equal(world_service(&w, "web")->update_status->message, want);
	assert_running(&w, "web", "bb:1", 2);
	/* Another update resumes. */
	world_update(&w, "web", image3);
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_COMPLETED);
	assert_running(&w, "web", "bb:3", 3);
	world_close(&w);
}

static void rolls_back(struct md_service_spec *s)
{
	md_service_spec_defaults(s);
	s->update->failure_action = MD_FAILURE_ROLLBACK;
	s->rollback->parallelism = 0;
}

static void failure_rolls_back(void **state)
{
	struct world w;
	char want[128];
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 3, rolls_back);
	world_run_for(&w, NS_PER_SEC);
	world_update(&w, "web", image2);
	world_run(&w);
	const struct md_task *t = newest(&w, "web");
	snprintf(want, sizeof(want), "update rolled back due to failure or early termination of task %s", t->meta.id);
	world_status(&w, t->meta.id, MD_TASK_FAILED, 0);
	world_settle(&w);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_ROLLBACK_STARTED);
	assert_string_equal(world_service(&w, "web")->update_status->message, want);
	assert_string_equal(world_service(&w, "web")->spec.task.container->image, "bb:1");
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_ROLLBACK_COMPLETED);
	assert_string_equal(world_service(&w, "web")->update_status->message, "rollback completed");
	assert_running(&w, "web", "bb:1", 3);
	world_close(&w);
}

static void manual_rollback(void **state)
{
	struct world w;
	struct mesh_err err = { 0 };
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 3, NULL);
	world_run_for(&w, NS_PER_SEC);
	struct md_service fresh = { 0 };
	assert_int_equal(brain_rollback(&fresh, &err), MESH_E_INVALID);
	world_update(&w, "web", image2);
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_running(&w, "web", "bb:2", 3);
	WORLD_EDIT(&w, STORE_SERVICE, world_service(&w, "web")->meta.id, struct md_service, s,
	           assert_int_equal(brain_rollback(s, &err), 0));
	world_run(&w);
	assert_string_equal(world_service(&w, "web")->update_status->message, "manually requested rollback");
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_ROLLBACK_COMPLETED);
	assert_running(&w, "web", "bb:1", 3);
	world_close(&w);
}

static void new_leader_finishes_the_update(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 4, NULL);
	world_run_for(&w, NS_PER_SEC);
	world_update(&w, "web", image2);
	for (int i = 0; i < 6; i++) {
		world_settle(&w);
		world_new_leader(&w);
		world_obey(&w);
	}
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_int_equal(update_state(&w, "web"), MD_UPDATE_COMPLETED);
	assert_running(&w, "web", "bb:2", 4);
	world_close(&w);
}

static void no_restart(struct md_service_spec *s)
{
	md_service_spec_defaults(s);
	s->task.restart->condition = MD_RESTART_ON_FAILURE;
	s->task.restart->delay.v = 0;
	s->task.restart->max_attempts.v = 3;
}

static void restart_policy(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 1, no_restart);
	world_run(&w);
	for (int i = 0; i < 10; i++) {
		world_status(&w, newest(&w, "web")->meta.id, MD_TASK_FAILED, 0);
		w.now += NS_PER_SEC;
		world_run(&w);
		if (i == 1)
			world_new_leader(&w);
	}
	/* The first and three attempts. */
	assert_running(&w, "web", NULL, 0);
	assert_int_equal(store_count(w.s, STORE_TASK), 4);
	/* A new spec starts afresh; one that ends well is left alone. */
	world_update(&w, "web", image2);
	world_run(&w);
	assert_running(&w, "web", "bb:2", 1);
	world_status(&w, newest(&w, "web")->meta.id, MD_TASK_COMPLETE, 0);
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_running(&w, "web", NULL, 0);
	world_close(&w);
}

static void crash_loop_keeps_delay_and_history(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 1, NULL);
	world_run(&w);
	int64_t begin = w.now;
	for (int i = 0; i < 20; i++) {
		/* Rejected at once, as a missing image is, while it still waits for its time. */
		world_status(&w, newest(&w, "web")->meta.id, MD_TASK_REJECTED, 0);
		world_settle(&w);
		assert_true(store_count(w.s, STORE_TASK) <= 5);
		w.now = w.wake != INT64_MAX && w.wake > w.now ? w.wake : w.now;
		world_settle(&w);
	}
	assert_true(w.now - begin >= 18 * 5 * NS_PER_SEC);
	world_close(&w);
}

static void is_global(struct md_service_spec *s)
{
	s->mode.global = XNEW(struct md_empty);
	md_service_spec_defaults(s);
	s->task.placement->constraints = (struct str_list){ 0 };
	strs_add(&s->task.placement->constraints, "node.labels.disk != slow");
}

static void global_service(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "agent", 0, is_global);
	world_run(&w);
	assert_running(&w, "agent", NULL, 3);
	world_add_node(&w, "n3");
	world_run(&w);
	assert_running(&w, "agent", NULL, 4);
	WORLD_EDIT(&w, STORE_NODE, world_node(&w, "n3")->meta.id, struct md_node, n,
	           smap_set(&n->spec.labels, "disk", "slow"));
	world_run(&w);
	assert_running(&w, "agent", NULL, 3);
	WORLD_EDIT(&w, STORE_NODE, world_node(&w, "n1")->meta.id, struct md_node, n,
	           n->spec.availability = MD_AVAIL_PAUSE);
	world_run(&w);
	assert_running(&w, "agent", NULL, 3);
	WORLD_EDIT(&w, STORE_NODE, world_node(&w, "n1")->meta.id, struct md_node, n,
	           n->spec.availability = MD_AVAIL_DRAIN);
	world_run(&w);
	assert_running(&w, "agent", NULL, 2);
	WORLD_EDIT(&w, STORE_NODE, world_node(&w, "n1")->meta.id, struct md_node, n,
	           n->spec.availability = MD_AVAIL_ACTIVE);
	world_run(&w);
	assert_running(&w, "agent", NULL, 3);
	world_update(&w, "agent", image2);
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_running(&w, "agent", "bb:2", 3);
	world_close(&w);
}

static void is_job(struct md_service_spec *s)
{
	s->mode.replicated_job = XNEW(struct md_replicated_job);
	s->mode.replicated_job->max_concurrent = (struct opt_u64){ true, 2 };
	s->mode.replicated_job->total_completions = (struct opt_u64){ true, 5 };
	md_service_spec_defaults(s);
	s->task.restart->condition = MD_RESTART_ON_FAILURE;
}

static size_t complete(const struct world *w, const char *service)
{
	struct store_list l = store_tasks_of_service(w->s, world_service(w, service)->meta.id);
	size_t n = 0;
	for (size_t i = 0; i < l.n; i++)
		n += ((const struct md_task *)l.v[i])->status.state == MD_TASK_COMPLETE;
	return n;
}

static void end_one(struct world *w, const char *service, int state)
{
	struct store_list l = store_tasks_of_service(w->s, world_service(w, service)->meta.id);
	for (size_t i = 0; i < l.n; i++) {
		const struct md_task *t = l.v[i];
		if (t->status.state == MD_TASK_RUNNING) {
			world_status(w, t->meta.id, state, 0);
			return;
		}
	}
	fail_msg("no task of %s runs", service);
}

static void replicated_job_runs_to_its_end(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "job", 0, is_job);
	world_run(&w);
	assert_running(&w, "job", NULL, 2);
	end_one(&w, "job", MD_TASK_FAILED);
	world_run_for(&w, 6 * NS_PER_SEC);
	assert_running(&w, "job", NULL, 2);
	for (int i = 0; i < 5; i++) {
		end_one(&w, "job", MD_TASK_COMPLETE);
		world_run(&w);
	}
	assert_running(&w, "job", NULL, 0);
	assert_int_equal(complete(&w, "job"), 5);
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_running(&w, "job", NULL, 0);
	/* Another template is another run. */
	world_update(&w, "job", image2);
	world_run(&w);
	assert_running(&w, "job", "bb:2", 2);
	assert_int_equal(complete(&w, "job"), 0);
	world_close(&w);
}

static void is_global_job(struct md_service_spec *s)
{
	s->mode.global_job = XNEW(struct md_empty);
}

static void global_job_runs_once_a_node(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "job", 0, is_global_job);
	world_run(&w);
	assert_running(&w, "job", NULL, 3);
	for (int i = 0; i < 3; i++)
		end_one(&w, "job", MD_TASK_COMPLETE);
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_running(&w, "job", NULL, 0);
	world_add_node(&w, "n3");
	world_run(&w);
	assert_running(&w, "job", NULL, 1);
	world_close(&w);
}

static void wants_ssd(struct md_service_spec *s)
{
	md_service_spec_defaults(s);
	strs_add(&s->task.placement->constraints, "node.labels.disk==ssd");
}
static void wants_memory(struct md_service_spec *s)
{
	md_service_spec_defaults(s);
	s->task.resources->reservations->memory_bytes = 6LL << 30;
}

static void another_version_of_the_same_spec_replaces_nothing(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 3, NULL);
	world_run_for(&w, NS_PER_SEC);
	uint64_t version = world_service(&w, "web")->spec_version.index + 100;
	WORLD_EDIT(&w, STORE_SERVICE, world_service(&w, "web")->meta.id, struct md_service, s,
	           s->spec_version.index = version);
	world_run_for(&w, 20 * NS_PER_SEC);
	assert_int_equal(store_count(w.s, STORE_TASK), 3);
	for (size_t i = 0; i < 3; i++) /* clients compare versions */
		assert_int_equal(task_of(&w, "web", i)->spec_version.index, version);
	/* Nor do other credentials: they are for the next pull. */
	WORLD_EDIT(&w, STORE_SERVICE, world_service(&w, "web")->meta.id, struct md_service, s, {
		str_set(&s->spec.task.container->pull_auth, "another");
		s->spec_version.index++;
	});
	world_run_for(&w, 20 * NS_PER_SEC);
	assert_int_equal(store_count(w.s, STORE_TASK), 3);
	/* A constraint that its node meets anyway moves nothing either; one that it does not meet moves it. */
	WORLD_EDIT(&w, STORE_SERVICE, world_service(&w, "web")->meta.id, struct md_service, s, {
		strs_add(&s->spec.task.placement->constraints, "node.platform.os==linux");
		s->spec_version.index++;
	});
	world_run_for(&w, 20 * NS_PER_SEC);
	assert_int_equal(store_count(w.s, STORE_TASK), 3);
	WORLD_EDIT(&w, STORE_SERVICE, world_service(&w, "web")->meta.id, struct md_service, s, {
		strs_add(&s->spec.task.placement->constraints, "node.hostname!=n1");
		s->spec_version.index++;
	});
	world_run_for(&w, 60 * NS_PER_SEC);
	assert_running(&w, "web", NULL, 3);
	assert_int_equal(on_node(&w, "n1"), 0);
	world_close(&w);
}

static void stop_first_waits_for_the_old_one(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 1, NULL);
	world_run_for(&w, NS_PER_SEC);
	char old[MESH_ID_LEN + 1];
	mesh_id_set(old, newest(&w, "web")->meta.id);
	world_update(&w, "web", image2);
	world_settle(&w);
	const struct md_task *t = newest(&w, "web");
	assert_int_equal(t->desired_state, MD_TASK_READY);
	world_status(&w, t->meta.id, MD_TASK_READY, 0);
	/* It drains for a while; its successor is ready and waits. */
	w.now += 30 * NS_PER_SEC;
	world_settle(&w);
	assert_int_equal(newest(&w, "web")->desired_state, MD_TASK_READY);
	world_status(&w, old, MD_TASK_SHUTDOWN, 0);
	world_settle(&w);
	assert_int_equal(newest(&w, "web")->desired_state, MD_TASK_RUNNING);
	/* One that never ends does not stop an update for ever. */
	world_run_for(&w, 20 * NS_PER_SEC);
	mesh_id_set(old, newest(&w, "web")->meta.id);
	world_update(&w, "web", image3);
	world_settle(&w);
	assert_int_equal(newest(&w, "web")->desired_state, MD_TASK_READY);
	w.now += 100 * NS_PER_SEC;
	world_settle(&w);
	assert_int_equal(newest(&w, "web")->desired_state, MD_TASK_RUNNING);
	world_close(&w);
}

static void big_service_goes_in_pieces(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 3500, publish);
	size_t commits = w.commits;
	world_settle(&w);
	assert_true(w.commits - commits >= 4);
	world_run(&w);
	assert_running(&w, "web", NULL, 3500);
	assert_true(on_node(&w, "n0") >= 1166 && on_node(&w, "n0") <= 1167);
	commits = w.commits;
	set_scale(&w, "web", 10);
	world_settle(&w);
	assert_true(w.commits - commits >= 4);
	world_run(&w);
	assert_running(&w, "web", NULL, 10);
	assert_int_equal(store_count(w.s, STORE_TASK), 10);
	set_scale(&w, "web", 2500);
	world_run(&w);
	struct store_tx *tx = store_tx_new(w.s, w.now);
	store_tx_delete(tx, STORE_SERVICE, world_service(&w, "web")->meta.id);
	assert_int_equal(world_commit(&w, tx), 0);
	world_run(&w);
	assert_int_equal(store_count(w.s, STORE_TASK), 0);
	world_close(&w);
}

static void pending_says_why(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "un", 1, wants_ssd);
	world_run(&w);
	const struct md_task *t = task_of(&w, "un", 0);
	assert_int_equal(t->status.state, MD_TASK_PENDING);
	assert_string_equal(t->status.err, "no suitable node (scheduling constraints not satisfied on 3 nodes)");
	assert_non_null(strstr(t->status.message, "node.labels.disk==ssd"));
	size_t commits = w.commits;
	world_run(&w);
	assert_int_equal(w.commits, commits); /* said once */
	WORLD_EDIT(&w, STORE_NODE, world_node(&w, "n2")->meta.id, struct md_node, n,
	           smap_set(&n->spec.labels, "disk", "SSD"));
	world_run(&w);
	assert_running(&w, "un", NULL, 1);
	assert_null(task_of(&w, "un", 0)->status.err);

	world_add_service(&w, "big", 4, wants_memory);
	world_run(&w);
	assert_running(&w, "big", NULL, 3);
	assert_string_equal(task_of(&w, "big", 3)->status.err, "no suitable node (insufficient resources on 3 nodes)");
	world_add_node(&w, "n3");
	world_run(&w);
	assert_running(&w, "big", NULL, 4);
	world_close(&w);
}

static void on_tiny_network(struct md_service_spec *s)
{
	struct md_network_config *c = LIST_ADD(&s->task.networks);
	c->target = xstrdup("tiny");
}

static void exhausted_network_says_so(void **state)
{
	struct world w;
	char id[MESH_ID_LEN + 1];
	(void)state;
	three_nodes(&w);
	mesh_id_make(&w.rng, id);
	struct store_tx *tx = store_tx_new(w.s, w.now);
	struct md_network *n = store_tx_create(tx, STORE_NETWORK, id);
	n->spec.name = xstrdup("tiny");
	n->spec.ipam = sch_new(&md_ipam_options_schema);
	LIST_ADD(&n->spec.ipam->configs)->subnet = xstrdup("10.9.0.0/29");
	assert_int_equal(world_commit(&w, tx), 0);
	world_run(&w);
	const struct md_network *net = store_get(w.s, STORE_NETWORK, id);
	assert_string_equal(net->ipam.configs.v[0].gateway, "10.9.0.1");
	assert_int_equal(net->vni, 4097);
	/* /29: six hosts, a gateway, a VIP: four tasks. */
	world_add_service(&w, "web", 6, on_tiny_network);
	world_run(&w);
	assert_running(&w, "web", NULL, 4);
	assert_string_equal(task_of(&w, "web", 5)->status.err,
	                    "network 'tiny': no free address in 10.9.0.0/29 (5 in use)");
	set_scale(&w, "web", 4);
	world_run(&w);
	assert_running(&w, "web", NULL, 4);
	world_close(&w);
}

static void refused_steps_leave_no_trace(void **state)
{
	struct world w;
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 4, publish);
	for (int i = 0; i < 3; i++) {
		struct store_tx *tx = store_tx_new(w.s, w.now);
		(void)brain_step(w.b, tx);
		assert_true(store_tx_changes(tx) > 0);
		store_tx_free(tx);
		brain_retry(w.b);
	}
	world_run(&w);
	assert_running(&w, "web", NULL, 4);
	for (size_t i = 0; i < 4; i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(task_of(&w, "web", i)->attachments.v[0].addresses.v[0],
			                        task_of(&w, "web", j)->attachments.v[0].addresses.v[0]);
	assert_true(on_node(&w, "n0") && on_node(&w, "n1") && on_node(&w, "n2"));
	world_close(&w);
}

static void traffic_labels(void **state)
{
	static const struct {
		const char *label, *value, *error; /* NULL: accepted */
	} rows[] = {
		{ "mesh.publish.return", "direct", NULL },
		{ "mesh.publish.return", "tunnel", NULL },
		{ "mesh.publish.return", "dsr", "label mesh.publish.return: 'dsr' is none of tunnel, direct" },
		{ "mesh.publish.local", "require", NULL },
		{ "mesh.publish.local", "yes", "label mesh.publish.local: 'yes' is none of prefer, require, off" },
		{ "mesh.publish.sources", "192.0.2.0/24, 198.51.100.7", NULL },
		{ "mesh.publish.sources", "192.0.2.0/33",
		  "label mesh.publish.sources: '192.0.2.0/33' is no IPv4 address or range" },
		{ "mesh.publish.sources", ", ", "label mesh.publish.sources: empty: remove it instead" },
		{ "mesh.publish.addresses", "everywhere", "label mesh.publish.addresses: 'everywhere' is no IPv4" },
		{ "mesh.affinity", "client", NULL },
		{ "mesh.affinity", "cookie", "label mesh.affinity: 'cookie' is none of client, none" },
		{ "mesh.affinity.timeout", "3h",
		  "label mesh.affinity.timeout: means nothing without mesh.affinity=client" },
		{ "mesh.affinity.timeout", "10ms",
		  "label mesh.affinity.timeout: '10ms' is not a duration of 1s to 720h" },
		{ "mesh.split", "web=90,later=10", NULL },
		{ "mesh.split", "web=90,web=10", "label mesh.split: service 'web' is named twice" },
		{ "mesh.split", "web=0", "label mesh.split: 'web=0' leaves nobody with a weight above 0" },
		{ "mesh.split", "web=-1", "label mesh.split: 'web=-1' is not SERVICE=WEIGHT" },
		{ "mesh.split", "web", "label mesh.split: 'web' is not SERVICE=WEIGHT" },
		{ "mesh.afinity", "client",
		  "label mesh.afinity: unknown; labels that begin with mesh. are mesh.strategy, " },
	};
	struct world w;
	(void)state;
	three_nodes(&w);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct md_service_spec s = { 0 };
		struct mesh_err err = { 0 };
		smap_set(&s.labels, rows[i].label, rows[i].value);
		int rc = brain_check_service(w.s, &s, "", &err);
		assert_int_equal(rc, rows[i].error ? MESH_E_INVALID : 0);
		if (rows[i].error && strncmp(err.msg, rows[i].error, strlen(rows[i].error)) != 0)
			fail_msg("%s=%s: %s", rows[i].label, rows[i].value, err.msg);
		sch_clear(&md_service_spec_schema, &s);
	}
	world_close(&w);
}

/* Whoever takes a part must be where the traffic comes to; one that is not there yet may come. */
static void split_needs_the_same_networks(void **state)
{
	struct world w;
	struct mesh_err err = { 0 };
	struct md_service_spec s = { 0 };
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "canary", 1, NULL);
	world_run(&w);
	s.name = xstrdup("web");
	smap_set(&s.labels, "mesh.split", "web=9,canary=1");
	assert_int_equal(brain_check_service(w.s, &s, "", &err), 0);
	publish(&s);
	assert_int_equal(brain_check_service(w.s, &s, "", &err), MESH_E_INVALID);
	assert_non_null(strstr(err.msg, "the tasks of 'canary' are not on the ingress network"));
	for (size_t i = 0; i < s.endpoint->ports.n; i++)
		s.endpoint->ports.v[i].mode = MD_PUBLISH_HOST;
	assert_int_equal(brain_check_service(w.s, &s, "", &err), 0);
	smap_set(&s.labels, "mesh.publish.sources", "192.0.2.0/24");
	assert_int_equal(brain_check_service(w.s, &s, "", &err), MESH_E_INVALID);
	assert_non_null(strstr(err.msg, "is published in host mode, which it does not limit"));
	smap_clear(&s.labels);
	smap_set(&s.labels, "mesh.split", "web=9,canary=1");
	LIST_ADD(&s.task.networks)->target = xstrdup("nowhere");
	assert_int_equal(brain_check_service(w.s, &s, "", &err), MESH_E_INVALID);
	assert_non_null(strstr(err.msg, "service 'canary' is not on network 'nowhere'"));
	sch_clear(&md_service_spec_schema, &s);
	world_close(&w);
}

static void checks(void **state)
{
	struct world w;
	struct mesh_err err = { 0 };
	(void)state;
	three_nodes(&w);
	world_add_service(&w, "web", 1, publish);
	world_run(&w);
	struct md_service_spec s = { 0 };
	publish(&s);
	assert_int_equal(brain_check_service(w.s, &s, "", &err), MESH_E_INVALID);
	assert_non_null(strstr(err.msg, "port '8081' is already in use by service 'web'"));
	assert_int_equal(brain_check_service(w.s, &s, world_service(&w, "web")->meta.id, &err), 0);
	s.endpoint->mode = MD_ENDPOINT_DNSRR;
	assert_int_equal(brain_check_service(w.s, &s, world_service(&w, "web")->meta.id, &err), MESH_E_INVALID);
	s.endpoint->mode = MD_ENDPOINT_VIP;
	smap_set(&s.labels, "mesh.strategy", "best");
	assert_int_equal(brain_check_service(w.s, &s, world_service(&w, "web")->meta.id, &err), MESH_E_INVALID);
	sch_clear(&md_service_spec_schema, &s);
	struct md_network_spec n = { 0 };
	n.name = xstrdup("x");
	n.ipam = sch_new(&md_ipam_options_schema);
	LIST_ADD(&n.ipam->configs)->subnet = xstrdup("10.0.3.0/24");
	assert_int_equal(brain_check_network(w.s, &n, &err), MESH_E_CONFLICT);
	assert_string_equal(err.msg, "network 'x': subnet 10.0.3.0/24 overlaps 10.0.0.0/20 of network 'ingress'");
	str_set(&n.ipam->configs.v[0].subnet, "10.300.3.0/24");
	assert_int_equal(brain_check_network(w.s, &n, &err), MESH_E_INVALID);
	sch_clear(&md_network_spec_schema, &n);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create_scale_remove),
		cmocka_unit_test(failed_task_is_replaced_after_the_delay),
		cmocka_unit_test(lost_and_drained_nodes),
		cmocka_unit_test(rolling_update),
		cmocka_unit_test(start_first_waits_for_traffic),
		cmocka_unit_test(drain_starts_first),
		cmocka_unit_test(failure_pauses),
		cmocka_unit_test(failure_rolls_back),
		cmocka_unit_test(manual_rollback),
		cmocka_unit_test(new_leader_finishes_the_update),
		cmocka_unit_test(restart_policy),
		cmocka_unit_test(crash_loop_keeps_delay_and_history),
		cmocka_unit_test(global_service),
		cmocka_unit_test(replicated_job_runs_to_its_end),
		cmocka_unit_test(global_job_runs_once_a_node),
		cmocka_unit_test(another_version_of_the_same_spec_replaces_nothing),
		cmocka_unit_test(stop_first_waits_for_the_old_one),
		cmocka_unit_test(big_service_goes_in_pieces),
		cmocka_unit_test(pending_says_why),
		cmocka_unit_test(exhausted_network_says_so),
		cmocka_unit_test(refused_steps_leave_no_trace),
		cmocka_unit_test(checks),
		cmocka_unit_test(traffic_labels),
		cmocka_unit_test(split_needs_the_same_networks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
