/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/dispatcher/dispatcher.h"
#include "control/dispatcher/world.h"

/* Three nodes n1..n3, one overlay "blue", an ingress network, a service with one task on n1. */
struct world {
	struct store *store;
	struct disp *d;
	uint64_t index;
	int64_t now;
};

static const struct disp_config config = { .suspect_ns = 1500 * NS_PER_MS,
	                                   .down_ns = 3500 * NS_PER_MS,
	                                   .closed_ns = 10 * NS_PER_SEC };

static const char *id_of(char kind, int n)
{
	static char ring[8][MESH_ID_LEN + 1];
	static int next;
	char *s = ring[next++ % 8];
	memset(s, '0', MESH_ID_LEN);
	s[0] = kind;
	s[MESH_ID_LEN - 1] = (char)('0' + n);
	s[MESH_ID_LEN] = '\0';
	return s;
}

static void commit(struct world *w, struct store_tx *tx)
{
	struct buf b = { 0 };
	struct mesh_err err = { 0 };
	store_tx_encode(tx, &b);
	store_tx_free(tx);
	assert_int_equal(store_apply(w->store, ++w->index, b.data, b.len, &err), 0);
	buf_fini(&b);
}

static struct store_tx *begin(struct world *w)
{
	return store_tx_new(w->store, 1000 + w->now);
}

static void add_network(struct store_tx *tx, int n, const char *name, bool ingress)
{
	struct md_network *net = store_tx_create(tx, STORE_NETWORK, id_of('b', n));
	str_set(&net->spec.name, name);
	net->spec.ingress = ingress;
	net->vni = 4096 + (uint32_t)n;
	struct md_ipam_config *c = LIST_ADD(&net->ipam.configs);
	c->subnet = xasprintf("10.0.%d.0/24", n);
	c->gateway = xasprintf("10.0.%d.1", n);
}

static void add_task(struct store_tx *tx, int n, int node)
{
	struct md_task *t = store_tx_create(tx, STORE_TASK, id_of('t', n));
	mesh_id_set(t->service.s, id_of('s', 1));
	mesh_id_set(t->node.s, id_of('n', node));
	str_set(&t->service_name, "web");
	t->slot = (uint64_t)n;
	t->status.state = MD_TASK_ASSIGNED;
	t->desired_state = MD_TASK_RUNNING;
	struct md_attachment *a = LIST_ADD(&t->attachments);
	mesh_id_set(a->network.s, id_of('b', 1));
	char addr[32];
	snprintf(addr, sizeof(addr), "10.0.1.%d/24", 10 + n);
	strs_add(&a->addresses, addr);
}

static int setup(void **state)
{
	struct world *w = XNEW(struct world);
	w->store = store_new();
	w->now = NS_PER_SEC;
	struct store_tx *tx = begin(w);
	for (int i = 1; i <= 3; i++) {
		struct md_node *n = store_tx_create(tx, STORE_NODE, id_of('n', i));
		n->description.hostname = xasprintf("n%d", i);
		n->status.addr = xasprintf("172.31.0.1%d", i);
		n->status.state = MD_NODE_READY;
	}
	add_network(tx, 0, "ingress", true);
	add_network(tx, 1, "blue", false);
	struct md_service *svc = store_tx_create(tx, STORE_SERVICE, id_of('s', 1));
	str_set(&svc->spec.name, "web");
	struct md_network_config *nc = LIST_ADD(&svc->spec.task.networks);
	str_set(&nc->target, id_of('b', 1));
	struct md_vip *vip = LIST_ADD(&svc->endpoint.vips);
	mesh_id_set(vip->network.s, id_of('b', 1));
	vip->addr = xstrdup("10.0.1.2/24");
	add_task(tx, 1, 1);
	commit(w, tx);
	w->d = disp_new(w->store, &config, w->now);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	disp_free(w->d);
	store_free(w->store);
	free(w);
	return 0;
}

static void step(struct world *w)
{
	for (int i = 0; i < 4; i++) {
		struct store_tx *tx = begin(w);
		(void)disp_step(w->d, tx, w->now);
		if (store_tx_changes(tx)) {
			commit(w, tx);
		} else {
			store_tx_free(tx);
		}
		disp_settled(w->d, true);
	}
}

static void connect_node(struct world *w, int n)
{
	struct md_node_description d = { 0 };
	d.hostname = xasprintf("n%d", n);
	char addr[32];
	snprintf(addr, sizeof(addr), "172.31.0.1%d", n);
	disp_connect(w->d, id_of('n', n), addr, &d, w->now);
	sch_clear(&md_node_description_schema, &d);
}

/* Everything queued, merged per node; the last version in *version. */
struct heard {
	bool snapshot;
	uint64_t version;
	size_t tasks, removed;
	int endpoint_state; /* of the last endpoint put; -1 deleted, -2 not mentioned */
	size_t networks, services;
};

static struct heard listen_to(struct world *w, int node)
{
	struct heard h = { .endpoint_state = -2 };
	node_id id;
	struct wire_assign a;
	while (disp_next(w->d, &id, &a)) {
		if (streq(id.s, id_of('n', node))) {
			h.snapshot |= a.snapshot;
			h.version = a.version;
			h.tasks += a.tasks.n;
			h.removed += a.removed.n;
			for (size_t i = 0; i < a.net.changes.n; i++) {
				const struct dp_change *c = &a.net.changes.v[i];
				h.networks += c->kind == DP_NETWORK && !c->del;
				h.services += c->kind == DP_SERVICE && !c->del;
				if (c->kind == DP_ENDPOINT)
					h.endpoint_state = c->del ? -1 : c->endpoint->state;
			}
		}
		sch_clear(&wire_assign_schema, &a);
	}
	return h;
}

static uint64_t version_of(struct world *w, int node)
{
	return listen_to(w, node).version;
}

static void say(struct world *w, int node, int task, int task_state, int traffic)
{
	struct wire_status st = { 0 };
	struct wire_task_status *t = LIST_ADD(&st.tasks);
	mesh_id_set(t->task.s, id_of('t', task));
	t->status.state = task_state;
	t->status.traffic = traffic;
	disp_status(w->d, id_of('n', node), &st);
	sch_clear(&wire_status_schema, &st);
}

static const struct md_task *task(struct world *w, int n)
{
	return store_get(w->store, STORE_TASK, id_of('t', n));
}

static void want(struct world *w, int n, int desired)
{
	struct store_tx *tx = begin(w);
	struct md_task *t = store_tx_edit(tx, STORE_TASK, id_of('t', n));
	t->desired_state = desired;
	commit(w, tx);
}

static void snapshot_holds_only_what_a_node_needs(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	step(w);
	struct heard h = listen_to(w, 1);
	assert_true(h.snapshot);
	assert_int_equal(h.tasks, 1);
	assert_int_equal(h.networks, 2); /* ingress and blue */
	assert_int_equal(h.services, 1);
	assert_int_equal(h.endpoint_state, DP_STARTING);
	connect_node(w, 2);
	step(w);
	h = listen_to(w, 2);
	assert_true(h.snapshot);
	assert_int_equal(h.tasks, 0);
	assert_int_equal(h.networks, 1); /* no task on blue here */
	assert_int_equal(h.endpoint_state, -2);
}

static void interest_comes_and_goes_with_tasks(void **state)
{
	struct world *w = *state;
	connect_node(w, 2);
	step(w);
	(void)listen_to(w, 2);
	struct store_tx *tx = begin(w);
	add_task(tx, 2, 2);
	commit(w, tx);
	struct heard h = listen_to(w, 2);
	assert_false(h.snapshot);
	assert_int_equal(h.networks, 1);
	assert_int_equal(h.tasks, 1);
	tx = begin(w);
	store_tx_delete(tx, STORE_TASK, id_of('t', 2));
	commit(w, tx);
	h = listen_to(w, 2);
	assert_int_equal(h.removed, 1);
	assert_int_equal(h.endpoint_state, -1);
}

static void a_task_stops_only_after_all_nodes_acknowledged(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	connect_node(w, 2);
	struct store_tx *tx = begin(w);
	add_task(tx, 2, 2);
	commit(w, tx);
	step(w);
	(void)listen_to(w, 1);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	step(w);
	assert_int_equal(task(w, 1)->status.state, MD_TASK_RUNNING);
	assert_int_equal(listen_to(w, 2).endpoint_state, DP_SERVING);
	want(w, 1, MD_TASK_SHUTDOWN);
	step(w);
	assert_false(task(w, 1)->drained);
	/* Both hear of it; versions differ per node, so each is asked for its own. */
	node_id id;
	struct wire_assign a;
	uint64_t v[4] = { 0 };
	while (disp_next(w->d, &id, &a)) {
		v[id.s[MESH_ID_LEN - 1] - '0'] = a.version;
		sch_clear(&wire_assign_schema, &a);
	}
	assert_true(v[1] && v[2]);
	disp_ack(w->d, id_of('n', 1), v[1], w->now);
	step(w);
	assert_false(task(w, 1)->drained);
	disp_ack(w->d, id_of('n', 2), v[2], w->now);
	step(w);
	/* n3 has no session but the store calls it ready, and it does not see the network: it holds nothing up. */
	assert_true(task(w, 1)->drained);
}

static void a_task_is_known_once_all_nodes_acknowledged_that_it_serves(void **state)
{
	struct world *w = *state;
	uint64_t v[4] = { 0 };
	struct wire_assign a;
	node_id id;
	connect_node(w, 1);
	connect_node(w, 2);
	struct store_tx *tx = begin(w);
	add_task(tx, 2, 2);
	commit(w, tx);
	step(w);
	(void)listen_to(w, 1);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_STARTING);
	step(w);
	(void)listen_to(w, 1);
	assert_false(task(w, 1)->known);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	step(w);
	assert_false(task(w, 1)->known);
	while (disp_next(w->d, &id, &a)) {
		v[id.s[MESH_ID_LEN - 1] - '0'] = a.version;
		sch_clear(&wire_assign_schema, &a);
	}
	disp_ack(w->d, id_of('n', 1), v[1], w->now);
	step(w);
	assert_false(task(w, 1)->known);
	disp_ack(w->d, id_of('n', 2), v[2], w->now);
	assert_true(disp_pending(w->d));
	step(w);
	assert_true(task(w, 1)->known);
}

static void a_task_that_never_served_is_drained_at_once(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	step(w);
	(void)listen_to(w, 1);
	want(w, 1, MD_TASK_SHUTDOWN);
	step(w);
	assert_true(task(w, 1)->drained);
}

static void a_dead_node_holds_nothing_up(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	connect_node(w, 2);
	struct store_tx *tx = begin(w);
	add_task(tx, 2, 2);
	commit(w, tx);
	step(w);
	(void)listen_to(w, 1);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	step(w);
	(void)listen_to(w, 2);
	want(w, 1, MD_TASK_SHUTDOWN);
	step(w);
	disp_ack(w->d, id_of('n', 1), version_of(w, 1), w->now);
	step(w);
	assert_false(task(w, 1)->drained);
	w->now += 4 * NS_PER_SEC; /* n2 silent for longer than down_ns, n1 not */
	disp_beat(w->d, id_of('n', 1), w->now);
	step(w);
	const struct md_node *n2 = store_get(w->store, STORE_NODE, id_of('n', 2));
	assert_int_equal(n2->status.state, MD_NODE_DOWN);
	disp_ack(w->d, id_of('n', 1), version_of(w, 1), w->now);
	step(w);
	assert_true(task(w, 1)->drained);
}

/* Who was heard under the old period is not silent under the new one. */
static void another_period_counts_from_its_change(void **state)
{
	struct world *w = *state;
	struct disp_config slow = disp_config_of(60 * NS_PER_SEC), fast = disp_config_of(2 * NS_PER_SEC);
	connect_node(w, 1);
	step(w);
	disp_configure(w->d, &slow, w->now);
	w->now += 10 * NS_PER_SEC;
	step(w);
	assert_int_equal(((const struct md_node *)store_get(w->store, STORE_NODE, id_of('n', 1)))->status.state,
	                 MD_NODE_READY);
	disp_configure(w->d, &fast, w->now);
	assert_true(disp_pending(w->d));
	step(w);
	assert_int_equal(((const struct md_node *)store_get(w->store, STORE_NODE, id_of('n', 1)))->status.state,
	                 MD_NODE_READY);
	w->now += 2 * NS_PER_SEC;
	step(w);
	assert_int_equal(((const struct md_node *)store_get(w->store, STORE_NODE, id_of('n', 1)))->status.state,
	                 MD_NODE_DOWN);
}

static void silence_takes_traffic_away_before_the_node_is_down(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	connect_node(w, 2);
	struct store_tx *tx = begin(w);
	add_task(tx, 2, 2);
	commit(w, tx);
	step(w);
	(void)listen_to(w, 2);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	step(w);
	assert_int_equal(listen_to(w, 2).endpoint_state, DP_SERVING);
	w->now += 2 * NS_PER_SEC;
	disp_beat(w->d, id_of('n', 2), w->now);
	step(w);
	assert_int_equal(listen_to(w, 2).endpoint_state, DP_DRAINING);
	const struct md_node *n1 = store_get(w->store, STORE_NODE, id_of('n', 1));
	assert_int_equal(n1->status.state, MD_NODE_READY);
	disp_beat(w->d, id_of('n', 1), w->now);
	step(w);
	assert_int_equal(listen_to(w, 2).endpoint_state, DP_SERVING);
}

static void a_closed_session_leaves_traffic_alone(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	connect_node(w, 2);
	struct store_tx *tx = begin(w);
	add_task(tx, 2, 2);
	commit(w, tx);
	step(w);
	(void)listen_to(w, 2);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	step(w);
	assert_int_equal(listen_to(w, 2).endpoint_state, DP_SERVING);
	disp_disconnect(w->d, id_of('n', 1), true, w->now);
	for (int i = 0; i < 9; i++) {
		w->now += NS_PER_SEC;
		disp_beat(w->d, id_of('n', 2), w->now);
		step(w);
		assert_int_equal(listen_to(w, 2).endpoint_state, -2);
	}
	w->now += 2 * NS_PER_SEC;
	disp_beat(w->d, id_of('n', 2), w->now);
	step(w);
	const struct md_node *n1 = store_get(w->store, STORE_NODE, id_of('n', 1));
	assert_int_equal(n1->status.state, MD_NODE_DOWN);
	assert_int_equal(listen_to(w, 2).endpoint_state, -1);
}

static void old_news_does_not_turn_time_back(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	step(w);
	say(w, 1, 1, MD_TASK_FAILED, MD_TRAFFIC_NONE);
	step(w);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	say(w, 2, 1, MD_TASK_ORPHANED, MD_TRAFFIC_NONE); /* not its node */
	step(w);
	assert_int_equal(task(w, 1)->status.state, MD_TASK_FAILED);
}

static void a_refused_step_is_put_together_again(void **state)
{
	struct world *w = *state;
	connect_node(w, 1);
	step(w);
	say(w, 1, 1, MD_TASK_RUNNING, MD_TRAFFIC_SERVING);
	struct store_tx *tx = begin(w);
	(void)disp_step(w->d, tx, w->now);
	assert_true(store_tx_changes(tx) > 0);
	store_tx_free(tx);
	disp_settled(w->d, false);
	assert_true(disp_pending(w->d));
	step(w);
	assert_int_equal(task(w, 1)->status.state, MD_TASK_RUNNING);
}

/* What tells tasks apart names the task, what does not names the service. */
static void aliases_are_filled_in(void **state)
{
	struct world *w = *state;
	static const char *const aliases[] = { "plain", "{{.Service.Name}}-all", "web-{{.Task.Slot}}",
		                               "on-{{.node.hostname}}" };
	char key[WORLD_KEY_MAX];
	struct dp_change c = { 0 };
	struct store_tx *tx = begin(w);
	struct md_service *svc = store_tx_edit(tx, STORE_SERVICE, id_of('s', 1));
	struct md_task *task = store_tx_edit(tx, STORE_TASK, id_of('t', 1));
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		strs_add(&svc->spec.task.networks.v[0].aliases, aliases[i]);
		strs_add(&task->attachments.v[0].aliases, aliases[i]);
	}
	commit(w, tx);
	world_key(key, 's', id_of('s', 1), id_of('b', 1));
	assert_true(world_object(w->store, key, WORLD_NODE_UP, &c));
	assert_int_equal(c.service->aliases.n, 2);
	assert_string_equal(c.service->aliases.v[0], "plain");
	assert_string_equal(c.service->aliases.v[1], "web-all");
	sch_clear(&dp_change_schema, &c);
	world_key(key, 'e', id_of('t', 1), id_of('b', 1));
	assert_true(world_object(w->store, key, WORLD_NODE_UP, &c));
	assert_int_equal(c.endpoint->names.n, 3); /* after "web.1.<id>" */
	assert_string_equal(c.endpoint->names.v[1], "web-1");
	assert_string_equal(c.endpoint->names.v[2], "on-n1");
	sch_clear(&dp_change_schema, &c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(snapshot_holds_only_what_a_node_needs),
		T(interest_comes_and_goes_with_tasks),
		T(a_task_stops_only_after_all_nodes_acknowledged),
		T(a_task_is_known_once_all_nodes_acknowledged_that_it_serves),
		T(a_task_that_never_served_is_drained_at_once),
		T(a_dead_node_holds_nothing_up),
		T(another_period_counts_from_its_change),
		T(silence_takes_traffic_away_before_the_node_is_down),
		T(a_closed_session_leaves_traffic_alone),
		T(old_news_does_not_turn_time_back),
		T(a_refused_step_is_put_together_again),
		T(aliases_are_filled_in),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
