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
	struct map problems;
	bool scoped;    /* passes look at what changed only */
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

static void want_of(struct world *w, struct plan *plan)
{
	struct plan_in in = { .desired = &w->desired,
		              .all = w->desired.all_dirty || !w->scoped,
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
	plan_want(&in, plan, &w->problems);
}

/* One pass: the operations as text, and applied to have. */
static void pass(struct world *w)
{
	struct plan plan = { 0 };
	struct plan_ops ops = { 0 };
	char text[96];
	for (size_t i = 0; i < w->log.len; i++)
		free(w->log.data[i]);
	w->log.len = 0;
	want_of(w, &plan);
	plan_diff(&w->have, &plan, &ops);
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
	plan_diff(&w->have, &plan, &ops);
	assert_int_equal(ops.len, 0);
	vec_fini(&ops);
	plan_fini(&plan);
	map_fini(&w->desired.dirty);
	w->desired.all_dirty = false;
}

static void world_fini(struct world *w)
{
	for (size_t i = 0; i < w->log.len; i++)
		free(w->log.data[i]);
	vec_fini(&w->log);
	desired_fini(&w->desired);
	map_fini(&w->down);
	plan_table_fini(&w->have);
	MAP_FOREACH(&w->problems, e)
		free(e->value);
	map_fini(&w->problems);
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

static const char *first_problem(const struct world *w)
{
	MAP_FOREACH(&w->problems, e)
		return e->value;
	return "";
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
	assert_int_equal(w.problems.count, 0);
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
	/* What came to the canary through web stays there, also when the manager says everything anew. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(service_item(&w)->backends.len, 4);
		EXPECT_WEIGHT(&w, "10.0.1.5", 500, false);
		EXPECT_WEIGHT(&w, "10.0.1.7", 0, true);
		d = base_state();
		service(d, "canary", "blue", "10.0.1.3");
		endpoint(d, "c1", "blue", "canary", "n2", "10.0.1.7", DP_SERVING);
		endpoint(d, "c2", "blue", "canary", "n2", "10.0.1.8", DP_DRAINING);
		d->version = (uint64_t)(6 + i);
		desired_apply(&w.desired, d);
		pass(&w);
	}
	d = delta(8, false);
	endpoint(d, "c1", "blue", "canary", "n2", NULL, 0);
	endpoint(d, "c2", "blue", "canary", "n2", NULL, 0);
	desired_apply(&w.desired, d);
	d = delta(9, false);
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
	assert_int_equal(w.problems.count, 1);
	assert_string_equal(first_problem(&w), "service 'web': bad address range '10.300.0.0/8'");
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
	assert_int_equal(w.problems.count, 1);
	assert_non_null(strstr(first_problem(&w), "nginx"));
	assert_non_null(strstr(first_problem(&w), "8080/tcp"));
	/* The listener goes: it opens. It comes back: who was first keeps it, and the operator is told. */
	w.taken = 0;
	pass(&w);
	EXPECT(&w, "+port 8080/tcp");
	assert_false(port_item(&w, 8080)->port.closed_here);
	w.taken = 8080;
	pass(&w);
	assert_int_equal(w.log.len, 0);
	assert_int_equal(w.problems.count, 1);
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
	assert_int_equal(w.problems.count, 3);
	/* Two more want the one that is taken. */
	assert_int_equal(strlen(first_problem(&w)) > 100, true);
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
	assert_int_equal(w.problems.count, 1);
	assert_non_null(strstr(first_problem(&w), "red"));
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

/* ---- what changed alone, beside everything ------------------------------------------------------- */

static const char *const nets[] = { "blue", "red", "green" }, *const nodes[] = { "n1", "n2", "n3" },
			 *const services[] = { "web", "api", "db", "" };

static const char *pick(struct mesh_rng *r, const char *const *from, size_t n)
{
	return from[mesh_rng_below(r, n)];
}

static void random_endpoint(struct mesh_rng *r, struct dp_delta *d)
{
	char task[8], addr[24];
	snprintf(task, sizeof(task), "t%u", (unsigned)mesh_rng_below(r, 20));
	snprintf(addr, sizeof(addr), "10.0.1.%u", 5 + (unsigned)mesh_rng_below(r, 16));
	bool del = mesh_rng_below(r, 3) == 0;
	endpoint(d, task, pick(r, nets, 3), pick(r, services, 4), pick(r, nodes, 3), del ? NULL : addr,
	         (int)mesh_rng_below(r, DP_BACKEND_STATE_MAX))
		->weight = (uint32_t)mesh_rng_below(r, 3);
}

static void random_service(struct mesh_rng *r, struct dp_delta *d)
{
	char vip[24];
	snprintf(vip, sizeof(vip), "10.0.1.%u", 100 + (unsigned)mesh_rng_below(r, 4));
	struct dp_service *s = service(d, pick(r, services, 3), pick(r, nets, 3), mesh_rng_below(r, 3) ? vip : "");
	d->changes.v[d->changes.n - 1].del = mesh_rng_below(r, 4) == 0;
	s->direct_return = mesh_rng_below(r, 2);
	s->local = (int)mesh_rng_below(r, DP_LOCAL_MAX);
	for (size_t n = mesh_rng_below(r, 3); n; n--)
		share(s, pick(r, services, 3), (uint32_t)mesh_rng_below(r, 3));
	for (size_t n = mesh_rng_below(r, 3); n; n--)
		publish(s, mesh_rng_below(r, 4) ? IPPROTO_TCP : IPPROTO_SCTP, 8080 + (uint32_t)mesh_rng_below(r, 4),
		        80);
}

static void random_rest(struct mesh_rng *r, struct dp_delta *d)
{
	size_t i = mesh_rng_below(r, 3);
	if (mesh_rng_below(r, 2))
		node(d, nodes[i], mesh_rng_below(r, 4) ? "192.0.2.3" : NULL);
	else
		network(d, nets[i], mesh_rng_below(r, 4) ? 4097 + (uint32_t)i : 0, "10.0.1.0/24", "10.0.1.1");
}

/* What is known here alone: tasks wired and ended, ports the host takes. */
static void random_own(struct mesh_rng *r, struct world *w)
{
	task_id t = { "" };
	network_id n = { "" };
	snprintf(t.s, sizeof(t.s), "t%u", (unsigned)mesh_rng_below(r, 20));
	w->taken = mesh_rng_below(r, 2) ? 8080 + (uint16_t)mesh_rng_below(r, 4) : 0;
	for (uint32_t p = 8080; p < 8084; p++)
		desired_touch_port(&w->desired, IPPROTO_TCP, p);
	if (mesh_rng_below(r, 2))
		map_put(&w->down, t.s, w);
	else
		map_del(&w->down, t.s);
	for (size_t i = 0; i < 3; i++) {
		mesh_id_set(n.s, nets[i]);
		desired_touch_task(&w->desired, &t, &n);
	}
	n = (network_id){ "" };
	w->n_ifaces = mesh_rng_below(r, 2);
	w->ifaces[0] = (struct plan_iface){ .vni = 0, .ip = ip("172.18.0.2") };
	desired_touch_endpoint(&w->desired, &n, &w->ifaces[0].ip);
	w->n_host_ports = mesh_rng_below(r, 3);
	w->host_ports[0] = (struct plan_host_port){ { IPPROTO_TCP, 8081, 443 }, 4097, ip("10.0.1.5") };
	w->host_ports[1] = (struct plan_host_port){ { IPPROTO_TCP, 9090, 443 }, 4097, ip("10.0.1.5") };
	desired_touch_port(&w->desired, IPPROTO_TCP, 9090);
}

static void same_tables(const struct plan_table *a, const struct plan_table *b)
{
	assert_int_equal(a->items.count, b->items.count);
	MAP_FOREACH(&a->items, e) {
		const struct item *other = map_get(&b->items, e->key);
		assert_non_null(other);
		assert_true(item_equal(e->value, other));
	}
}

/* Everything is on its network, and nothing else is. */
static void check_networks(const struct desired *d)
{
	size_t n_services = 0, n_endpoints = 0;
	MAP_FOREACH(&d->by_network, e) {
		const struct desired_net *net = e->value;
		HSET_FOREACH(&net->services, struct dp_service, s)
		n_services += strcmp(s->network.s, e->key) == 0;
		HSET_FOREACH(&net->endpoints, struct dp_endpoint, ep)
		n_endpoints += strcmp(ep->network.s, e->key) == 0;
	}
	assert_int_equal(n_services, d->services.count);
	assert_int_equal(n_endpoints, d->endpoints.count);
}

static void same_problems(const struct map *a, const struct map *b)
{
	assert_int_equal(a->count, b->count);
	MAP_FOREACH(a, e)
		assert_string_equal(e->value, (const char *)map_get(b, e->key));
}

static struct dp_delta *random_delta(struct mesh_rng *r, uint64_t version)
{
	struct dp_delta *d = delta(version, false);
	for (unsigned k = 0; k < 1 + mesh_rng_below(r, 4); k++) {
		switch (mesh_rng_below(r, 12)) {
		case 0:
			random_rest(r, d);
			break;
		case 1:
		case 2:
		case 3:
			random_service(r, d);
			break;
		default:
			random_endpoint(r, d);
			break;
		}
	}
	return d;
}

/* Two that live through the same, one looking at what changed, the other at everything, hold the same. */
static void test_what_changed_is_enough(void **state)
{
	(void)state;
	struct mesh_rng rng;
	struct world some = { .scoped = true }, all = { 0 };
	mesh_rng_seed(&rng, 5);
	desired_apply(&some.desired, base_state());
	desired_apply(&all.desired, base_state());
	for (unsigned i = 0; i < 5000; i++) {
		struct mesh_rng again = rng;
		desired_apply(&some.desired, random_delta(&rng, 2 + i));
		desired_apply(&all.desired, random_delta(&again, 2 + i));
		if (i % 4 == 0) {
			again = rng;
			random_own(&rng, &some);
			random_own(&again, &all);
		}
		pass(&some);
		pass(&all);
		same_tables(&some.have, &all.have);
		same_problems(&some.problems, &all.problems);
		check_networks(&some.desired);
	}
	world_fini(&some);
	world_fini(&all);
}

/* Deltas one by one and the snapshot of where they lead give the same tables. */
static void test_deltas_converge_to_the_snapshot(void **state)
{
	(void)state;
	struct mesh_rng rng;
	mesh_rng_seed(&rng, 42);
	struct world step = { .scoped = true };
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
		same_tables(&step.have, &whole.have);
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
		cmocka_unit_test(test_what_changed_is_enough),
		cmocka_unit_test(test_deltas_converge_to_the_snapshot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
