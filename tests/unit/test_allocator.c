/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The allocator against a naive twin (a list of who holds what), over random lives of tasks and services with
 * leaders that change; and its rules: pools, overlaps, ports kept, what is said when something runs out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/map.h"
#include "control/allocator/allocator.h"

static struct md_network *new_network(const char *id, const char *name, const char *subnet)
{
	struct md_network *n = sch_new(&md_network_schema);
	mesh_id_set(n->meta.id, id);
	n->spec.name = xstrdup(name);
	if (subnet) {
		n->spec.ipam = sch_new(&md_ipam_options_schema);
		LIST_ADD(&n->spec.ipam->configs)->subnet = xstrdup(subnet);
	}
	return n;
}

static struct md_task *new_task(const char *id, const char *net)
{
	struct md_task *t = sch_new(&md_task_schema);
	mesh_id_set(t->meta.id, id);
	if (net) {
		struct md_network_config *c = LIST_ADD(&t->spec.networks);
		c->target = xstrdup(net);
	}
	return t;
}

static struct md_service *new_service(const char *id, const char *net)
{
	struct md_service *s = sch_new(&md_service_schema);
	mesh_id_set(s->meta.id, id);
	s->spec.name = xstrdup(id);
	s->spec.endpoint = sch_new(&md_endpoint_spec_schema);
	if (net) {
		struct md_network_config *c = LIST_ADD(&s->spec.task.networks);
		c->target = xstrdup(net);
	}
	return s;
}

static struct md_port *add_port(struct md_service *s, uint32_t published, uint32_t target)
{
	struct md_port *p = LIST_ADD(&s->spec.endpoint->ports);
	p->published = published;
	p->target = target;
	p->protocol = MD_PROTO_TCP;
	return p;
}

#define must(call)                                                                                                     \
	do {                                                                                                           \
		struct mesh_err err_ = { 0 }, *err = &err_;                                                            \
		if (call)                                                                                              \
			fail_msg(#call ": %s", err_.msg);                                                              \
	} while (0)
#define refused(call, code, text)                                                                                      \
	do {                                                                                                           \
		struct mesh_err err_ = { 0 }, *err = &err_;                                                            \
		assert_int_equal((call), (code));                                                                      \
		assert_string_equal(err_.msg, (text));                                                                 \
	} while (0)

static struct alloc *fresh(void)
{
	struct alloc *a = alloc_new();
	struct md_cluster c = { .subnet_size = 24 };
	alloc_cluster_put(a, &c);
	return a;
}

/* ---- the twin ---- */

#define OBJECTS 60
struct world {
	struct alloc *a;
	struct md_network *net;
	struct md_task *tasks[OBJECTS];
	struct md_service *services[OBJECTS];
};

static bool held(const struct world *w, const char *addr, const void *except)
{
	for (size_t i = 0; i < OBJECTS; i++) {
		const struct md_task *t = w->tasks[i];
		if (t && t != except && !md_task_ended(t) && t->attachments.n &&
		    !strcmp(t->attachments.v[0].addresses.v[0], addr))
			return true;
		const struct md_service *s = w->services[i];
		if (s && s != except && s->endpoint.vips.n && !strcmp(s->endpoint.vips.v[0].addr, addr))
			return true;
	}
	return false;
}

static size_t count(const struct world *w)
{
	size_t n = 0;
	for (size_t i = 0; i < OBJECTS; i++) {
		n += w->tasks[i] && !md_task_ended(w->tasks[i]) && w->tasks[i]->attachments.n;
		n += w->services[i] && w->services[i]->endpoint.vips.n;
	}
	return n;
}

static void reload(struct world *w)
{
	alloc_free(w->a);
	w->a = fresh();
	alloc_resume(w->a, true);
	alloc_network_put(w->a, w->net);
	for (size_t i = 0; i < OBJECTS; i++) {
		if (w->services[i])
			alloc_service_put(w->a, w->services[i]);
		if (w->tasks[i])
			alloc_task_put(w->a, w->tasks[i]);
	}
	alloc_resume(w->a, false);
}

static void check_given(struct world *w, int rc, const char *addr, const void *who, size_t before, size_t total)
{
	if (before >= total) {
		assert_int_equal(rc, MESH_E_EXHAUSTED);
		return;
	}
	assert_int_equal(rc, 0);
	assert_false(held(w, addr, who));
	assert_string_not_equal(addr, "10.9.0.0/26");
	assert_string_not_equal(addr, "10.9.0.1/26");
	assert_string_not_equal(addr, "10.9.0.63/26");
}

static void touch_task(struct world *w, struct mesh_rng *r, size_t i, size_t total)
{
	char id[16];
	struct md_task *t = w->tasks[i];
	if (!t) {
		size_t before = count(w);
		snprintf(id, sizeof(id), "t%zu", i);
		t = w->tasks[i] = new_task(id, "net");
		int rc = alloc_task(w->a, t, NULL);
		check_given(w, rc, rc ? "" : t->attachments.v[0].addresses.v[0], t, before, total);
		assert_int_equal(t->attachments.n, rc ? 0 : 1);
	} else if (!md_task_ended(t) && mesh_rng_below(r, 2)) {
		t->status.state = MD_TASK_FAILED;
		alloc_task_put(w->a, t);
	} else {
		alloc_task_del(w->a, t->meta.id);
		sch_free(&md_task_schema, t);
		w->tasks[i] = NULL;
	}
}

static void touch_service(struct world *w, size_t i, size_t total)
{
	char id[16];
	struct md_service *s = w->services[i];
	if (!s) {
		size_t before = count(w);
		snprintf(id, sizeof(id), "s%zu", i);
		s = w->services[i] = new_service(id, "net");
		int rc = alloc_service(w->a, s, NULL);
		check_given(w, rc, rc ? "" : s->endpoint.vips.v[0].addr, s, before, total);
		assert_int_equal(alloc_service_done(w->a, s), !rc);
	} else {
		alloc_service_del(w->a, s->meta.id);
		sch_free(&md_service_schema, s);
		w->services[i] = NULL;
	}
}

static void test_twin(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct mesh_rng r;
		struct world w = { 0 };
		size_t used, total;
		mesh_rng_seed(&r, seed);
		w.a = fresh();
		w.net = new_network("n1", "net", "10.9.0.0/26");
		must(alloc_network(w.a, w.net, err));
		assert_true(alloc_network_usage(w.a, "n1", &used, &total));
		assert_int_equal(total, 61);
		for (int step = 0; step < 500; step++) {
			size_t i = mesh_rng_below(&r, OBJECTS);
			if (mesh_rng_below(&r, 3))
				touch_task(&w, &r, i, total);
			else
				touch_service(&w, i, total);
			if (mesh_rng_below(&r, 50) == 0)
				reload(&w);
			assert_true(alloc_network_usage(w.a, "n1", &used, &total));
			assert_int_equal(used, count(&w));
			assert_int_equal(alloc_network_users(w.a, "n1"), count(&w));
		}
		for (size_t i = 0; i < OBJECTS; i++) {
			sch_free(&md_task_schema, w.tasks[i]);
			sch_free(&md_service_schema, w.services[i]);
		}
		sch_free(&md_network_schema, w.net);
		alloc_free(w.a);
	}
}

/* ---- rules ---- */

static void test_freed_address_rests(void **state)
{
	struct alloc *a = fresh();
	struct md_network *n = new_network("n1", "net", "10.9.0.0/24");
	char id[16];
	(void)state;
	must(alloc_network(a, n, err));
	struct md_task *t = new_task("first", "net");
	must(alloc_task(a, t, err));
	char freed[32];
	snprintf(freed, sizeof(freed), "%s", t->attachments.v[0].addresses.v[0]);
	alloc_task_del(a, "first");
	sch_free(&md_task_schema, t);
	for (int i = 0; i < 252; i++) {
		snprintf(id, sizeof(id), "t%d", i);
		t = new_task(id, "net");
		must(alloc_task(a, t, err));
		assert_string_not_equal(t->attachments.v[0].addresses.v[0], freed);
		sch_free(&md_task_schema, t);
	}
	t = new_task("last", "net");
	must(alloc_task(a, t, err));
	assert_string_equal(t->attachments.v[0].addresses.v[0], freed);
	sch_free(&md_task_schema, t);
	t = new_task("none", "net");
	refused(alloc_task(a, t, err), MESH_E_EXHAUSTED, "network 'net': no free address in 10.9.0.0/24 (253 in use)");
	sch_free(&md_task_schema, t);
	sch_free(&md_network_schema, n);
	alloc_free(a);
}

/* A new leader knows only the objects; it goes on behind the newest, ended or not. */
static void test_new_leader_goes_on(void **state)
{
	struct alloc *a = fresh();
	struct md_network *n = new_network("n1", "net", "10.9.0.0/24");
	struct md_task *t[10];
	char id[16];
	(void)state;
	must(alloc_network(a, n, err));
	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof(id), "t%d", i);
		t[i] = new_task(id, "net");
		t[i]->meta.created_at = 100 + i / 5; /* five a command */
		must(alloc_task(a, t[i], err));
	}
	t[9]->status.state = MD_TASK_FAILED;
	alloc_free(a);
	a = fresh();
	alloc_resume(a, true);
	alloc_network_put(a, n);
	for (int i = 0; i < 10; i++)
		alloc_task_put(a, t[(i * 7) % 10]); /* in any order */
	alloc_resume(a, false);
	struct md_task *next = new_task("next", "net");
	must(alloc_task(a, next, err));
	assert_string_equal(next->attachments.v[0].addresses.v[0], "10.9.0.12/24");
	sch_free(&md_task_schema, next);
	for (int i = 0; i < 10; i++)
		sch_free(&md_task_schema, t[i]);
	sch_free(&md_network_schema, n);
	alloc_free(a);
}

static void test_subnets(void **state)
{
	struct alloc *a = fresh();
	struct md_node node = { 0 };
	char id[16];
	struct md_network *n[5];
	static const char *const want[] = { "10.0.0.0/20", "10.0.16.0/24", "10.0.17.0/24", "10.0.20.0/24",
		                            "10.0.21.0/24" };
	(void)state;
	mesh_id_set(node.meta.id, "node1");
	node.description.hostname = xstrdup("host1");
	strs_add(&node.description.underlay, "10.0.18.0/23");
	strs_add(&node.description.underlay, "fd00::/64"); /* not ours to avoid */
	alloc_node_put(a, &node);
	for (int i = 0; i < 5; i++) {
		snprintf(id, sizeof(id), "n%d", i);
		n[i] = new_network(id, id, NULL);
		n[i]->spec.ingress = i == 0;
		must(alloc_network(a, n[i], err));
		assert_string_equal(n[i]->ipam.configs.v[0].subnet, want[i]);
		assert_int_equal(n[i]->vni, 4096 + i);
	}
	assert_string_equal(n[1]->ipam.configs.v[0].gateway, "10.0.16.1");
	/* Freed ones rest, too. */
	alloc_network_del(a, "n1");
	struct md_network *m = new_network("m", "m", NULL);
	must(alloc_network(a, m, err));
	assert_string_equal(m->ipam.configs.v[0].subnet, "10.0.22.0/24");
	assert_int_equal(m->vni, 4101);
	struct md_network *x = new_network("x", "x", "10.0.17.128/25");
	refused(alloc_network(a, x, err), MESH_E_CONFLICT,
	        "network 'x': subnet 10.0.17.128/25 overlaps 10.0.17.0/24 of network 'n2'");
	str_set(&x->spec.ipam->configs.v[0].subnet, "10.0.19.0/24");
	refused(alloc_check_network(a, &x->spec, err), MESH_E_CONFLICT,
	        "network 'x': subnet 10.0.19.0/24 overlaps 10.0.18.0/23 of node 'host1'");
	str_set(&x->spec.ipam->configs.v[0].subnet, "10.1.0.0");
	refused(alloc_check_network(a, &x->spec, err), MESH_E_INVALID,
	        "network 'x': invalid subnet '10.1.0.0': want an IPv4 subnet from /8 to /29");
	str_set(&x->spec.ipam->configs.v[0].subnet, "fd01::/64");
	refused(alloc_check_network(a, &x->spec, err), MESH_E_UNSUPPORTED,
	        "network 'x': IPv6 subnet fd01::/64 is not supported");
	str_set(&x->spec.ipam->configs.v[0].subnet, "10.1.0.0/24");
	str_set(&x->spec.ipam->configs.v[0].gateway, "10.2.0.1");
	refused(alloc_check_network(a, &x->spec, err), MESH_E_INVALID,
	        "network 'x': gateway '10.2.0.1' is not in subnet 10.1.0.0/24");
	for (int i = 0; i < 5; i++)
		sch_free(&md_network_schema, n[i]);
	sch_free(&md_network_schema, m);
	sch_free(&md_network_schema, x);
	sch_clear(&md_node_schema, &node);
	alloc_free(a);
}

static void test_pool_runs_out(void **state)
{
	struct alloc *a = alloc_new();
	struct md_cluster c = { .subnet_size = 28 };
	struct md_network *n[3];
	char id[16];
	(void)state;
	strs_add(&c.default_addr_pool, "10.5.0.0/27");
	alloc_cluster_put(a, &c);
	strs_clear(&c.default_addr_pool);
	for (int i = 0; i < 3; i++) {
		snprintf(id, sizeof(id), "n%d", i);
		n[i] = new_network(id, id, NULL);
		if (i < 2)
			must(alloc_network(a, n[i], err));
	}
	refused(alloc_network(a, n[2], err), MESH_E_EXHAUSTED,
	        "network 'n2': no free /28 subnet in the default address pool");
	alloc_network_del(a, "n0");
	must(alloc_network(a, n[2], err));
	assert_string_equal(n[2]->ipam.configs.v[0].subnet, "10.5.0.0/28");
	for (int i = 0; i < 3; i++)
		sch_free(&md_network_schema, n[i]);
	alloc_free(a);
}

static void test_ip_range_and_gateway(void **state)
{
	struct alloc *a = fresh();
	struct md_network *n = new_network("n1", "net", "10.9.0.0/24");
	(void)state;
	n->spec.ipam->configs.v[0].ip_range = xstrdup("10.9.0.8/30");
	n->spec.ipam->configs.v[0].gateway = xstrdup("10.9.0.9");
	must(alloc_network(a, n, err));
	assert_string_equal(n->ipam.configs.v[0].gateway, "10.9.0.9");
	static const char *const want[] = { "10.9.0.8/24", "10.9.0.10/24", "10.9.0.11/24" };
	char id[8];
	for (int i = 0; i < 3; i++) {
		snprintf(id, sizeof(id), "t%d", i);
		struct md_task *t = new_task(id, "n1");
		must(alloc_task(a, t, err));
		assert_string_equal(t->attachments.v[0].addresses.v[0], want[i]);
		sch_free(&md_task_schema, t);
	}
	struct md_task *t = new_task("x", "n1");
	refused(alloc_task(a, t, err), MESH_E_EXHAUSTED, "network 'net': no free address in 10.9.0.8/30 (3 in use)");
	sch_free(&md_task_schema, t);
	t = new_task("y", "nowhere");
	refused(alloc_task(a, t, err), MESH_E_NOT_FOUND, "network 'nowhere': not found");
	sch_free(&md_task_schema, t);
	sch_free(&md_network_schema, n);
	alloc_free(a);
}

static void test_ports(void **state)
{
	struct alloc *a = fresh();
	struct md_network *ingress = new_network("ing", "ingress", NULL);
	struct md_node node = { 0 };
	(void)state;
	mesh_id_set(node.meta.id, "node1");
	struct md_host_port *hp = LIST_ADD(&node.description.host_ports);
	hp->port = 30001;
	hp->protocol = MD_PROTO_TCP;
	alloc_node_put(a, &node);
	ingress->spec.ingress = true;
	must(alloc_network(a, ingress, err));
	struct md_service *s = new_service("web", NULL), *o = new_service("other", NULL);
	add_port(s, 0, 80);
	add_port(s, 8080, 81);
	add_port(s, 0, 82);
	assert_false(alloc_service_done(a, s));
	must(alloc_service(a, s, err));
	assert_true(alloc_service_done(a, s));
	assert_int_equal(s->endpoint.ports.v[0].published, 30000);
	assert_int_equal(s->endpoint.ports.v[1].published, 8080);
	assert_int_equal(s->endpoint.ports.v[2].published, 30002); /* the host listens on 30001 */
	assert_int_equal(s->endpoint.vips.n, 1);
	char *vip = xstrdup(s->endpoint.vips.v[0].addr);
	/* Again with one more: what was given stays. */
	add_port(s, 0, 83);
	assert_false(alloc_service_done(a, s));
	must(alloc_service(a, s, err));
	assert_int_equal(s->endpoint.ports.v[0].published, 30000);
	assert_int_equal(s->endpoint.ports.v[2].published, 30002);
	assert_int_equal(s->endpoint.ports.v[3].published, 30003);
	assert_string_equal(s->endpoint.vips.v[0].addr, vip);
	add_port(o, 8080, 80);
	refused(alloc_service(a, o, err), MESH_E_CONFLICT, "port 8080/tcp is already published by service 'web'");
	refused(alloc_check_ports(a, o->spec.endpoint, "other", err), MESH_E_CONFLICT,
	        "port '8080' is already in use by service 'web' (web) as an ingress port");
	/* The same number in another protocol is another port. */
	o->spec.endpoint->ports.v[0].protocol = MD_PROTO_UDP;
	must(alloc_service(a, o, err));
	/* dnsrr gives the VIP back. */
	o->spec.endpoint->mode = MD_ENDPOINT_DNSRR;
	o->spec.endpoint->ports.v[0].mode = MD_PUBLISH_HOST;
	must(alloc_service(a, o, err));
	assert_int_equal(o->endpoint.vips.n, 0);
	assert_int_equal(alloc_network_users(a, "ing"), 1);
	alloc_service_del(a, "web");
	o->spec.endpoint->ports.v[0].protocol = MD_PROTO_TCP;
	o->spec.endpoint->ports.v[0].mode = MD_PUBLISH_INGRESS;
	o->spec.endpoint->mode = MD_ENDPOINT_VIP;
	must(alloc_service(a, o, err));
	free(vip);
	sch_free(&md_service_schema, s);
	sch_free(&md_service_schema, o);
	sch_free(&md_network_schema, ingress);
	sch_clear(&md_node_schema, &node);
	alloc_free(a);
}

static void test_cidr(void **state)
{
	struct cidr c, d;
	char text[CIDR_TEXT_MAX];
	uint32_t addr;
	(void)state;
	assert_int_equal(cidr_parse("10.0.1.77/24", &c), 0);
	assert_string_equal(cidr_format(c, text), "10.0.1.0/24");
	assert_int_equal(cidr_size(c), 256);
	assert_int_equal(cidr_parse("10.0.1.77", &d), 0);
	assert_int_equal(d.bits, 32);
	assert_true(cidr_overlap(c, d) && cidr_overlap(d, c));
	assert_int_equal(cidr_parse("0.0.0.0/0", &d), 0);
	assert_true(cidr_overlap(c, d));
	assert_int_equal(cidr_parse("10.0.2.0/23", &d), 0);
	assert_false(cidr_overlap(c, d));
	assert_int_equal(cidr_parse("255.255.255.0/24", &d), 0);
	assert_true(cidr_has(d, 0xffffffff));
	assert_int_equal(cidr_parse("10.0.1.0/33", &c), MESH_E_INVALID);
	assert_int_equal(cidr_parse("nonsense", &c), MESH_E_INVALID);
	assert_int_equal(cidr_parse(NULL, &c), MESH_E_INVALID);
	assert_int_equal(cidr_parse("fd00::/64", &c), MESH_E_UNSUPPORTED);
	assert_int_equal(cidr_parse_addr("10.0.1.7/24", &addr), 0);
	assert_string_equal(cidr_format_addr(addr, text), "10.0.1.7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_twin),
		cmocka_unit_test(test_freed_address_rests),
		cmocka_unit_test(test_new_leader_goes_on),
		cmocka_unit_test(test_subnets),
		cmocka_unit_test(test_pool_runs_out),
		cmocka_unit_test(test_ip_range_and_gateway),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_cidr),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
