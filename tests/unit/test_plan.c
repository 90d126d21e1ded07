/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Desired state and plan: what the driver should hold, the order of changes, and that plans converge. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "dataplane/plan.h"

static struct dp_ip ip(const char *text)
{
	struct dp_ip out;
	assert_int_equal(dp_ip_parse(text, &out, NULL), 0);
	return out;
}

/* ---- building deltas ----------------------------------------------------------------------------- */

static struct dp_delta *delta(uint64_t version, bool snapshot)
{
	struct dp_delta *d = XNEW(struct dp_delta);
	d->version = version;
	d->snapshot = snapshot;
	mesh_id_set(d->self.s, "n1");
	return d;
}

static struct dp_change *add(struct dp_delta *d, int kind, bool del)
{
	struct dp_change *c = LIST_ADD(&d->changes);
	c->kind = kind;
	c->del = del;
	return c;
}

static void node(struct dp_delta *d, const char *id, const char *addr)
{
	struct dp_node *n = add(d, DP_NODE, !addr)->node = XNEW(struct dp_node);
	mesh_id_set(n->id.s, id);
	n->addr = xstrdup(addr);
}

static void network(struct dp_delta *d, const char *id, uint32_t vni, const char *subnet, const char *gateway)
{
	struct dp_network *n = add(d, DP_NETWORK, !vni)->network = XNEW(struct dp_network);
	mesh_id_set(n->id.s, id);
	n->name = xstrdup(id);
	n->vni = vni;
	n->subnet = xstrdup(subnet);
	n->gateway = xstrdup(gateway);
}

static struct dp_service *service(struct dp_delta *d, const char *id, const char *net, const char *vip)
{
	struct dp_service *s = add(d, DP_SERVICE, false)->service = XNEW(struct dp_service);
	mesh_id_set(s->id.s, id);
	mesh_id_set(s->network.s, net);
	s->name = xstrdup(id);
	s->vip = xstrdup(vip);
	return s;
}

static void publish(struct dp_service *s, int protocol, uint32_t published, uint32_t target)
{
	*LIST_ADD(&s->ports) = (struct dp_port){ protocol, published, target };
}

static struct dp_endpoint *endpoint(struct dp_delta *d, const char *task, const char *net, const char *svc,
                                    const char *on, const char *addr, int state)
{
	struct dp_endpoint *e = add(d, DP_ENDPOINT, !addr)->endpoint = XNEW(struct dp_endpoint);
	mesh_id_set(e->task.s, task);
	mesh_id_set(e->network.s, net);
	mesh_id_set(e->service.s, svc);
	mesh_id_set(e->node.s, on);
	e->addr = xstrdup(addr);
	e->state = state;
	return e;
}

static struct dp_delta *base_state(void)
{
	struct dp_delta *d = delta(1, true);
	node(d, "n1", "192.0.2.1");
	node(d, "n2", "192.0.2.2");
	network(d, "blue", 4097, "10.0.1.0/24", "10.0.1.1");
	publish(service(d, "web", "blue", "10.0.1.2"), IPPROTO_TCP, 8080, 80);
	endpoint(d, "t1", "blue", "web", "n1", "10.0.1.5", DP_SERVING);
	endpoint(d, "t2", "blue", "web", "n2", "10.0.1.6", DP_SERVING);
	return d;
}

/* ---- planning ------------------------------------------------------------------------------------ */

struct world {
	struct desired desired;
	struct map down;
	struct plan_table have;
	struct str_list problems;
	uint16_t taken; /* the port the host listens on */
	struct VEC(char *) log;
	struct plan_iface ifaces[4];
	size_t n_ifaces;
	struct plan_host_port host_ports[2];
	size_t n_host_ports;
};

static const char *taken(void *arg, uint8_t proto, uint16_t port)
{
	struct world *w = arg;
	return proto == IPPROTO_TCP && port == w->taken ? "nginx" : NULL;
}

static void want_of(struct world *w, struct plan_table *want)
{
	struct plan_in in = { .desired = &w->desired,
		              .self = ip("192.0.2.1"),
		              .ifaces = w->ifaces,
		              .n_ifaces = w->n_ifaces,
		              .host_ports = w->host_ports,
		              .n_host_ports = w->n_host_ports,
		              .down = &w->down,
		              .local = { .subnet = ip("172.18.0.0"), .gateway = ip("172.18.0.1"), .prefix = 16 },
		              .taken = taken,
		              .arg = w,
		              .have = &w->have };
	strs_clear(&w->problems);
	plan_want(&in, want, &w->problems);
}

/* One pass: the operations as text, and applied to have. */
static void pass(struct world *w)
{
	struct plan_table want = { 0 };
	struct plan_ops ops = { 0 };
	char text[96];
	for (size_t i = 0; i < w->log.len; i++)
		free(w->log.data[i]);
	w->log.len = 0;
	want_of(w, &want);
	plan_diff(&w->have, &want, &ops);
	for (size_t i = 0; i < ops.len; i++)
		vec_push(&w->log, xasprintf("%c%s", ops.data[i].del ? '-' : '+', item_format(ops.data[i].item, text)));
	for (size_t i = 0; i < ops.len; i++) {
		if (ops.data[i].del)
			plan_table_del(&w->have, ops.data[i].item);
		else
			plan_table_put(&w->have, item_dup(ops.data[i].item));
	}
	/* Whatever was planned, a second plan has nothing left to do. */
	ops.len = 0;
	plan_diff(&w->have, &want, &ops);
	assert_int_equal(ops.len, 0);
	vec_fini(&ops);
	plan_table_fini(&want);
}

static void world_fini(struct world *w)
{
	for (size_t i = 0; i < w->log.len; i++)
		free(w->log.data[i]);
	vec_fini(&w->log);
	desired_fini(&w->desired);
	map_fini(&w->down);
	plan_table_fini(&w->have);
	strs_clear(&w->problems);
}

static void expect_log(const struct world *w, const char *const *want, size_t n)
{
	for (size_t i = 0; i < n && i < w->log.len; i++)
		assert_string_equal(w->log.data[i], want[i]);
	assert_int_equal(w->log.len, n);
}
#define EXPECT(w, ...)                                                                                                 \
	do {                                                                                                           \
		static const char *const _want[] = { __VA_ARGS__ };                                                    \
		expect_log(w, _want, ARRAY_SIZE(_want));                                                               \
	} while (0)

static const struct item *service_item(const struct world *w)
{
	service_id s;
	network_id n;
	mesh_id_set(s.s, "web");
	mesh_id_set(n.s, "blue");
	struct item like = { .kind = ITEM_SERVICE, .svc.key = plan_service_key(&s, &n) };
	const struct item *i = plan_table_get(&w->have, &like);
	assert_non_null(i);
	return i;
}

static const struct item *port_item(const struct world *w, uint16_t port)
{
	struct item like = { .kind = ITEM_PORT, .port = { .proto = IPPROTO_TCP, .published = port } };
	return plan_table_get(&w->have, &like);
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void test_make_before_break(void **state)
{
	(void)state;
	struct world w = { 0 };
	char svc[32];
	desired_apply(&w.desired, base_state());
	pass(&w);
	snprintf(svc, sizeof(svc), "+service %016llx", (unsigned long long)service_item(&w)->svc.key);
	const char *const want[] = {
		"+node 192.0.2.1",         "+node 192.0.2.2",         "+network 0", "+network 4097",
		"+endpoint 4097/10.0.1.5", "+endpoint 4097/10.0.1.6", svc,          "+virtual address 10.0.1.2",
		"+port 8080/tcp"
	};
	expect_log(&w, want, ARRAY_SIZE(want));
	assert_int_equal(w.problems.n, 0);
	/* Gone as a whole: in the opposite order. */
	desired_apply(&w.desired, delta(2, true));
	pass(&w);
	svc[0] = '-';
	const char *const gone[] = { "-port 8080/tcp",
		                     "-virtual address 10.0.1.2",
		                     svc,
		                     "-endpoint 4097/10.0.1.5",
		                     "-endpoint 4097/10.0.1.6",
		                     "-network 4097",
		                     "-node 192.0.2.1",
		                     "-node 192.0.2.2" };
	expect_log(&w, gone, ARRAY_SIZE(gone));
	world_fini(&w);
}

static void test_replacement_removes_nothing_first(void **state)
{
	(void)state;
	struct world w = { 0 };
	desired_apply(&w.desired, base_state());
	pass(&w);
	/* t2 moves: a new task on n1 gets its address, the old one goes, in one delta. */
	struct dp_delta *d = delta(2, false);
	endpoint(d, "t2", "blue", "", "", NULL, 0);
	endpoint(d, "t3", "blue", "web", "n1", "10.0.1.6", DP_SERVING);
	desired_apply(&w.desired, d);
	pass(&w);
	assert_int_equal(w.log.len, 2);
	assert_string_equal(w.log.data[0], "+endpoint 4097/10.0.1.6");
	assert_int_equal(strncmp(w.log.data[1], "+service ", 9), 0);
	assert_int_equal(service_item(&w)->backends.len, 2);
	assert_true(service_item(&w)->backends.data[1].local);
	world_fini(&w);
}

static void test_states_and_weights(void **state)
{
	(void)state;
	struct world w = { 0 };
	desired_apply(&w.desired, base_state());
	pass(&w);
	struct dp_delta *d = delta(2, false);
	endpoint(d, "t2", "blue", "web", "n2", "10.0.1.6", DP_DRAINING)->weight = 7;
	desired_apply(&w.desired, d);
	pass(&w);
	const struct item *s = service_item(&w);
	assert_int_equal(w.log.len, 1);
	assert_int_equal(s->svc.n, 2);
	assert_int_equal(s->svc.backends[0].weight, 1);
	assert_int_equal(s->svc.backends[1].weight, 7);
	assert_int_equal(s->svc.backends[1].state, DP_DRAINING);
	/* The same state again is no work. */
	d = delta(3, false);
	endpoint(d, "t2", "blue", "web", "n2", "10.0.1.6", DP_DRAINING)->weight = 7;
	desired_apply(&w.desired, d);
	pass(&w);
	assert_int_equal(w.log.len, 0);
	world_fini(&w);
}

static uint32_t weight_at(const struct world *w, const char *addr, bool *spare)
{
	const struct item *i = service_item(w);
	struct dp_ip a = ip(addr);
	for (size_t b = 0; b < i->backends.len; b++)
		if (memcmp(&i->backends.data[b].ip, &a, sizeof(a)) == 0) {
			*spare = i->backends.data[b].spare;
			return i->backends.data[b].weight;
		}
	fail_msg("%s is no backend", addr);
	return 0;
}
#define EXPECT_WEIGHT(w, addr, want, is_spare)                                                                         \
	do {                                                                                                           \
		bool _spare;                                                                                           \
		uint32_t _weight = weight_at(w, addr, &_spare);                                                        \
		assert_int_equal(_spare, is_spare);                                                                    \
		if (!_spare)                                                                                           \
			assert_int_equal(_weight, want);                                                               \
	} while (0)

static void share(struct dp_service *s, const char *whose, uint32_t weight)
{
	struct dp_share *x = LIST_ADD(&s->split);
	mesh_id_set(x->service.s, whose);
	x->weight = weight;
}

/* web 90, canary 10: shared by the tasks of each that serve; what has weight 0 or is not named keeps old flows only. */
static void test_split(void **state)
{
	(void)state;
	struct world w = { 0 };
	desired_apply(&w.desired, base_state());
	struct dp_delta *d = delta(2, false);
	service(d, "canary", "blue", "10.0.1.3");
	endpoint(d, "c1", "blue", "canary", "n2", "10.0.1.7", DP_SERVING);
	endpoint(d, "c2", "blue", "canary", "n2", "10.0.1.8", DP_DRAINING);
	struct dp_service *web = service(d, "web", "blue", "10.0.1.2");
	share(web, "web", 90);
	share(web, "canary", 10);
	desired_apply(&w.desired, d);
	pass(&w);
	assert_int_equal(service_item(&w)->backends.len, 4);
	EXPECT_WEIGHT(&w, "10.0.1.5", 45000, false);
	EXPECT_WEIGHT(&w, "10.0.1.6", 45000, false);
	EXPECT_WEIGHT(&w, "10.0.1.7", 10000, false);
	d = delta(3, false);
	web = service(d, "web", "blue", "10.0.1.2");
	share(web, "web", 0);
	share(web, "canary", 100);
	desired_apply(&w.desired, d);
	pass(&w);
	EXPECT_WEIGHT(&w, "10.0.1.5", 0, true);
	EXPECT_WEIGHT(&w, "10.0.1.7", 100000, false);
	d = delta(4, false);
	share(service(d, "web", "blue", "10.0.1.2"), "canary", 1);
	desired_apply(&w.desired, d);
	pass(&w);
	EXPECT_WEIGHT(&w, "10.0.1.6", 0, true);
	d = delta(5, false);
	service(d, "web", "blue", "10.0.1.2");
	desired_apply(&w.desired, d);
	pass(&w);
	assert_int_equal(service_item(&w)->backends.len, 2);
	EXPECT_WEIGHT(&w, "10.0.1.5", 1, false);
	world_fini(&w);
}

static void set_local(struct world *w, uint64_t version, int local, int state_here)
{
	struct dp_delta *d = delta(version, false);
	service(d, "web", "blue", "10.0.1.2")->local = local;
	endpoint(d, "t1", "blue", "web", "n1", "10.0.1.5", state_here);
	desired_apply(&w->desired, d);
	pass(w);
}

static void test_local(void **state)
{
	(void)state;
	struct world w = { 0 };
	desired_apply(&w.desired, base_state());
	set_local(&w, 2, DP_LOCAL_PREFER, DP_SERVING);
	EXPECT_WEIGHT(&w, "10.0.1.5", 1, false);
	EXPECT_WEIGHT(&w, "10.0.1.6", 1, true);
	set_local(&w, 3, DP_LOCAL_PREFER, DP_DRAINING);
	EXPECT_WEIGHT(&w, "10.0.1.6", 1, false);
	set_local(&w, 4, DP_LOCAL_REQUIRE, DP_DRAINING);
	EXPECT_WEIGHT(&w, "10.0.1.6", 1, true);
	world_fini(&w);
}

static void test_ranges(void **state)
{
	(void)state;
	struct world w = { 0 };
	desired_apply(&w.desired, base_state());
	struct dp_delta *d = delta(2, false);
	struct dp_service *web = service(d, "web", "blue", "10.0.1.2");
	strs_add(&web->sources, "192.0.2.0/24");
	strs_add(&web->sources, "10.300.0.0/8");
	strs_add(&web->addresses, "192.0.2.1");
	desired_apply(&w.desired, d);
	pass(&w);
	assert_int_equal(service_item(&w)->ranges.len, 2);
	assert_int_equal(service_item(&w)->ranges.data[0].prefix, 24);
	assert_true(service_item(&w)->ranges.data[1].dialled);
	assert_int_equal(w.problems.n, 1);
	assert_string_equal(w.problems.v[0], "service 'web': bad address range '10.300.0.0/8'");
	world_fini(&w);
}

static void test_dead_task_is_out_before_the_manager_knows(void **state)
{
	(void)state;
	struct world w = { 0 };
	desired_apply(&w.desired, base_state());
	pass(&w);
	map_put(&w.down, "t1", &w);
	pass(&w);
	assert_int_equal(w.log.len, 2);
	assert_int_equal(strncmp(w.log.data[0], "+service ", 9), 0);
	assert_string_equal(w.log.data[1], "-endpoint 4097/10.0.1.5");
	assert_int_equal(service_item(&w)->svc.n, 1);
	/* Only what ended here: the same word about another node's task changes nothing. */
	map_put(&w.down, "t2", &w);
	pass(&w);
	assert_int_equal(w.log.len, 0);
	world_fini(&w);
}

static void test_host_ports(void **state)
{
	(void)state;
	struct world w = { .taken = 8080 };
	desired_apply(&w.desired, base_state());
	pass(&w);
	assert_true(port_item(&w, 8080)->port.closed_here);
	assert_int_equal(w.problems.n, 1);
	assert_non_null(strstr(w.problems.v[0], "nginx"));
	assert_non_null(strstr(w.problems.v[0], "8080/tcp"));
	/* The listener goes: it opens. It comes back: who was first keeps it, and the operator is told. */
	w.taken = 0;
	pass(&w);
	EXPECT(&w, "+port 8080/tcp");
	assert_false(port_item(&w, 8080)->port.closed_here);
	w.taken = 8080;
	pass(&w);
	assert_int_equal(w.log.len, 0);
	assert_int_equal(w.problems.n, 1);
	world_fini(&w);
}

static void test_ports_published_twice_and_host_mode(void **state)
{
	(void)state;
	struct world w = { 0 };
	struct dp_delta *d = base_state();
	struct dp_service *s = service(d, "api", "blue", "10.0.1.3");
	publish(s, IPPROTO_TCP, 8080, 90);
	publish(s, IPPROTO_SCTP, 9000, 90);
	publish(s, IPPROTO_TCP, 70000, 90);
	w.host_ports[0] = (struct plan_host_port){ { IPPROTO_TCP, 8443, 443 }, 4097, ip("10.0.1.5") };
	w.host_ports[1] = (struct plan_host_port){ { IPPROTO_TCP, 8080, 443 }, 4097, ip("10.0.1.5") };
	w.n_host_ports = 2;
	desired_apply(&w.desired, d);
	pass(&w);
	assert_int_equal(port_item(&w, 8080)->port.target, 80); /* the first keeps it */
	assert_int_equal(w.problems.n, 4);
	assert_true(port_item(&w, 8443)->port.host_mode);
	assert_int_equal(port_item(&w, 8443)->port.target, 443);
	world_fini(&w);
}

static void test_attached_before_the_manager_says(void **state)
{
	(void)state;
	struct world w = { .n_ifaces = 1 };
	w.ifaces[0] = (struct plan_iface){ .vni = 0, .ip = ip("172.18.0.2") };
	pass(&w);
	EXPECT(&w, "+network 0", "+endpoint 0/172.18.0.2");
	world_fini(&w);
}

static void test_bad_objects_are_said_and_left_out(void **state)
{
	(void)state;
	struct world w = { 0 };
	struct dp_delta *d = base_state();
	node(d, "n3", "not an address");
	network(d, "red", 4098, "10.0.2.0", "gateway");
	network(d, "none", 0, "10.0.3.0/24", "10.0.3.1");
	endpoint(d, "t4", "red", "web", "n2", "10.0.2.4", DP_SERVING);
	endpoint(d, "t5", "blue", "web", "nowhere", "10.0.1.9", DP_SERVING);
	endpoint(d, "t6", "blue", "web", "n2", "x", DP_SERVING);
	LIST_ADD(&d->changes)->kind = DP_NODE; /* without its object */
	LIST_ADD(&d->changes)->kind = 99;
	desired_apply(&w.desired, d);
	pass(&w);
	assert_int_equal(w.problems.n, 1);
	assert_non_null(strstr(w.problems.v[0], "red"));
	assert_int_equal(service_item(&w)->svc.n, 2);
	world_fini(&w);
}

static void test_snapshot_round_trip(void **state)
{
	(void)state;
	struct desired a = { 0 }, b = { 0 };
	desired_apply(&a, base_state());
	assert_true(map_has(&a.dirty_nets, "blue"));
	struct dp_delta *s = desired_snapshot(&a), *back = sch_new(&dp_delta_schema);
	struct buf bytes = { 0 };
	sch_encode(&dp_delta_schema, s, &bytes);
	assert_int_equal(sch_decode(&dp_delta_schema, back, bytes.data, bytes.len), 0);
	assert_true(sch_equal(&dp_delta_schema, s, back));
	desired_apply(&b, back);
	assert_int_equal(b.version, 1);
	assert_int_equal(b.endpoints.count, 2);
	assert_true(b.whole);
	dp_delta_free(s);
	buf_fini(&bytes);
	desired_fini(&a);
	desired_fini(&b);
}

/* Deltas one by one and the snapshot of where they lead give the same tables. */
static void test_deltas_converge_to_the_snapshot(void **state)
{
	(void)state;
	struct mesh_rng rng;
	mesh_rng_seed(&rng, 42);
	struct world step = { 0 };
	desired_apply(&step.desired, base_state());
	pass(&step);
	for (unsigned i = 0; i < 400; i++) {
		struct dp_delta *d = delta(2 + i, false);
		for (unsigned k = 0; k < 1 + mesh_rng_below(&rng, 4); k++) {
			char task[8], addr[24];
			unsigned t = (unsigned)mesh_rng_below(&rng, 20);
			snprintf(task, sizeof(task), "t%u", t);
			snprintf(addr, sizeof(addr), "10.0.1.%u", 5 + t);
			bool del = mesh_rng_below(&rng, 3) == 0;
			endpoint(d, task, "blue", "web", mesh_rng_below(&rng, 2) ? "n1" : "n2", del ? NULL : addr,
			         (int)mesh_rng_below(&rng, DP_BACKEND_STATE_MAX));
		}
		desired_apply(&step.desired, d);
		pass(&step);
		struct world whole = { 0 };
		desired_apply(&whole.desired, desired_snapshot(&step.desired));
		pass(&whole);
		assert_int_equal(step.have.items.count, whole.have.items.count);
		MAP_FOREACH(&whole.have.items, e) {
			const struct item *other = map_get(&step.have.items, e->key);
			assert_non_null(other);
			assert_true(item_equal(e->value, other));
		}
		world_fini(&whole);
	}
	world_fini(&step);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_make_before_break),
		cmocka_unit_test(test_replacement_removes_nothing_first),
		cmocka_unit_test(test_states_and_weights),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_dead_task_is_out_before_the_manager_knows),
		cmocka_unit_test(test_host_ports),
		cmocka_unit_test(test_ports_published_twice_and_host_mode),
		cmocka_unit_test(test_attached_before_the_manager_says),
		cmocka_unit_test(test_bad_objects_are_said_and_left_out),
		cmocka_unit_test(test_snapshot_round_trip),
		cmocka_unit_test(test_deltas_converge_to_the_snapshot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
