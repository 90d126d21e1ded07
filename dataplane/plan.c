/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/plan.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- items --------------------------------------------------------------------------------------- */

static struct item *item_new(enum item_kind kind)
{
	struct item *i = XNEW(struct item);
	i->kind = kind;
	return i;
}

void item_free(struct item *i)
{
	if (!i)
		return;
	vec_fini(&i->backends);
	vec_fini(&i->ranges);
	free(i);
}

struct item *item_dup(const struct item *i)
{
	struct item *out = xmemdup(i, sizeof(*i));
	out->backends.data = NULL;
	out->backends.len = out->backends.cap = 0;
	for (size_t b = 0; b < i->backends.len; b++)
		vec_push(&out->backends, i->backends.data[b]);
	out->svc.backends = out->backends.data;
	out->ranges.data = NULL;
	out->ranges.len = out->ranges.cap = 0;
	for (size_t r = 0; r < i->ranges.len; r++)
		vec_push(&out->ranges, i->ranges.data[r]);
	out->svc.ranges = out->ranges.data;
	return out;
}

static bool ip_eq(const struct dp_ip *a, const struct dp_ip *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static bool backend_equal(const struct ebpf_backend *a, const struct ebpf_backend *b)
{
	return ip_eq(&a->ip, &b->ip) && ip_eq(&a->node, &b->node) && a->local == b->local && a->weight == b->weight &&
	       a->state == b->state && a->spare == b->spare;
}

static bool range_equal(const struct ebpf_range *a, const struct ebpf_range *b)
{
	return ip_eq(&a->net, &b->net) && a->prefix == b->prefix && a->dialled == b->dialled;
}

static bool service_equal(const struct item *a, const struct item *b)
{
	if (a->svc.vni != b->svc.vni || a->svc.direct_return != b->svc.direct_return ||
	    a->svc.affinity_s != b->svc.affinity_s || a->backends.len != b->backends.len ||
	    a->ranges.len != b->ranges.len)
		return false;
	for (size_t i = 0; i < a->ranges.len; i++)
		if (!range_equal(&a->ranges.data[i], &b->ranges.data[i]))
			return false;
	for (size_t i = 0; i < a->backends.len; i++)
		if (!backend_equal(&a->backends.data[i], &b->backends.data[i]))
			return false;
	return true;
}

bool item_equal(const struct item *a, const struct item *b)
{
	const struct ebpf_network *na = &a->network, *nb = &b->network;
	const struct ebpf_endpoint *ea = &a->endpoint, *eb = &b->endpoint;
	const struct ebpf_port *pa = &a->port, *pb = &b->port;
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case ITEM_HOST_ADDR:
	case ITEM_NODE:
		return ip_eq(&a->addr, &b->addr);
	case ITEM_VIP:
		return ip_eq(&a->addr, &b->addr) && a->service == b->service;
	case ITEM_NETWORK:
		return na->vni == nb->vni && ip_eq(&na->subnet, &nb->subnet) && ip_eq(&na->gateway, &nb->gateway) &&
		       na->prefix == nb->prefix && na->internal == nb->internal && na->ingress == nb->ingress;
	case ITEM_ENDPOINT:
		return ea->vni == eb->vni && ip_eq(&ea->ip, &eb->ip) && ip_eq(&ea->node, &eb->node) &&
		       ea->local == eb->local;
	case ITEM_SERVICE:
		return a->svc.key == b->svc.key && service_equal(a, b);
	case ITEM_PORT:
		return pa->proto == pb->proto && pa->published == pb->published && pa->target == pb->target &&
		       pa->service == pb->service && pa->host_mode == pb->host_mode && pa->vni == pb->vni &&
		       ip_eq(&pa->ip, &pb->ip) && pa->closed_here == pb->closed_here;
	default:
		return false;
	}
}

static const char *proto_text(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "tcp" : proto == IPPROTO_UDP ? "udp" : "sctp";
}

const char *item_format(const struct item *i, char out[96])
{
	char ip[DP_IP_TEXT_MAX];
	switch (i->kind) {
	case ITEM_HOST_ADDR:
		snprintf(out, 96, "host address %s", dp_ip_format(&i->addr, ip));
		break;
	case ITEM_NODE:
		snprintf(out, 96, "node %s", dp_ip_format(&i->addr, ip));
		break;
	case ITEM_NETWORK:
		snprintf(out, 96, "network %u", i->network.vni);
		break;
	case ITEM_ENDPOINT:
		snprintf(out, 96, "endpoint %u/%s", i->endpoint.vni, dp_ip_format(&i->endpoint.ip, ip));
		break;
	case ITEM_SERVICE:
		snprintf(out, 96, "service %016llx", (unsigned long long)i->svc.key);
		break;
	case ITEM_VIP:
		snprintf(out, 96, "virtual address %s", dp_ip_format(&i->addr, ip));
		break;
	default:
		snprintf(out, 96, "port %u/%s", i->port.published, proto_text(i->port.proto));
		break;
	}
	return out;
}

/* ---- tables -------------------------------------------------------------------------------------- */

#define KEY_MAX 96
static const char *key_of(const struct item *i, char out[KEY_MAX])
{
	char ip[DP_IP_TEXT_MAX];
	switch (i->kind) {
	case ITEM_NETWORK:
		snprintf(out, KEY_MAX, "%d %u", i->kind, i->network.vni);
		break;
	case ITEM_ENDPOINT:
		snprintf(out, KEY_MAX, "%d %u %s", i->kind, i->endpoint.vni, dp_ip_format(&i->endpoint.ip, ip));
		break;
	case ITEM_SERVICE:
		snprintf(out, KEY_MAX, "%d %016llx", i->kind, (unsigned long long)i->svc.key);
		break;
	case ITEM_PORT:
		snprintf(out, KEY_MAX, "%d %u %u", i->kind, i->port.proto, i->port.published);
		break;
	default:
		snprintf(out, KEY_MAX, "%d %s", i->kind, dp_ip_format(&i->addr, ip));
		break;
	}
	return out;
}

void plan_table_fini(struct plan_table *t)
{
	MAP_FOREACH(&t->items, e)
		item_free(e->value);
	map_fini(&t->items);
}

bool plan_table_add(struct plan_table *t, struct item *i)
{
	char key[KEY_MAX];
	key_of(i, key);
	if (map_has(&t->items, key)) {
		item_free(i);
		return false;
	}
	map_put(&t->items, key, i);
	return true;
}

void plan_table_put(struct plan_table *t, struct item *i)
{
	char key[KEY_MAX];
	item_free(map_put(&t->items, key_of(i, key), i));
}

void plan_table_del(struct plan_table *t, const struct item *i)
{
	char key[KEY_MAX];
	item_free(map_del(&t->items, key_of(i, key)));
}

const struct item *plan_table_get(const struct plan_table *t, const struct item *like)
{
	char key[KEY_MAX];
	return map_get(&t->items, key_of(like, key));
}

/* ---- want ---------------------------------------------------------------------------------------- */

uint64_t plan_service_key(const service_id *s, const network_id *n)
{
	char text[2 * (MESH_ID_LEN + 1)];
	int len = snprintf(text, sizeof(text), "%s/%s", s->s, n->s);
	uint64_t h = hash64(text, (size_t)len);
	return h ? h : 1;
}

void plan_problem(struct str_list *l, const char *fmt, ...)
{
	char text[200];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	strs_add(l, text);
}

static void want_addrs(const struct plan_in *in, struct plan_table *out)
{
	for (size_t i = 0; i < in->n_host_addrs; i++) {
		struct item *it = item_new(ITEM_HOST_ADDR);
		it->addr = in->host_addrs[i];
		plan_table_add(out, it);
	}
	MAP_FOREACH(&in->desired->nodes, e) {
		const struct dp_node *n = e->value;
		struct item *it = item_new(ITEM_NODE);
		if (dp_ip_parse(n->addr, &it->addr, NULL) == 0)
			plan_table_add(out, it);
		else
			item_free(it);
	}
}

static void want_networks(const struct plan_in *in, struct plan_table *out, struct str_list *problems)
{
	struct item *local = item_new(ITEM_NETWORK);
	local->network = in->local;
	plan_table_add(out, local);
	MAP_FOREACH(&in->desired->networks, e) {
		const struct dp_network *n = e->value;
		struct item *it = item_new(ITEM_NETWORK);
		it->network = (struct ebpf_network){ .vni = n->vni, .internal = n->internal, .ingress = n->ingress };
		if (dp_ip_parse(n->subnet, &it->network.subnet, &it->network.prefix) != 0 ||
		    dp_ip_parse(n->gateway, &it->network.gateway, NULL) != 0 || !n->vni) {
			plan_problem(problems, "network '%s': bad subnet or gateway", n->name ? n->name : n->id.s);
			item_free(it);
			continue;
		}
		plan_table_add(out, it);
	}
}

bool plan_place_of(const struct plan_in *in, const struct dp_endpoint *e, struct plan_place *out)
{
	const struct dp_node *node = map_get(&in->desired->nodes, e->node.s);
	out->net = map_get(&in->desired->networks, e->network.s);
	out->local = ID_EQ(e->node, in->desired->self);
	out->node = in->self;
	if (!out->net || !out->net->vni || dp_ip_parse(e->addr, &out->ip, NULL) != 0)
		return false;
	if (out->local)
		return !map_has(in->down, e->task.s);
	return node && dp_ip_parse(node->addr, &out->node, NULL) == 0;
}

static void want_endpoints(const struct plan_in *in, struct plan_table *out)
{
	for (size_t i = 0; i < in->n_ifaces; i++) {
		struct item *it = item_new(ITEM_ENDPOINT);
		it->endpoint = (struct ebpf_endpoint){
			.vni = in->ifaces[i].vni, .ip = in->ifaces[i].ip, .node = in->self, .local = true
		};
		plan_table_add(out, it);
	}
	MAP_FOREACH(&in->desired->endpoints, e) {
		struct plan_place p;
		if (!plan_place_of(in, e->value, &p))
			continue;
		struct item *it = item_new(ITEM_ENDPOINT);
		it->endpoint =
			(struct ebpf_endpoint){ .vni = p.net->vni, .ip = p.ip, .node = p.node, .local = p.local };
		plan_table_add(out, it);
	}
}

static void want_vips(const struct plan_in *in, struct plan_table *out)
{
	MAP_FOREACH(&in->desired->services, e) {
		const struct dp_service *s = e->value;
		const struct dp_network *net = map_get(&in->desired->networks, s->network.s);
		struct item *it = item_new(ITEM_VIP);
		it->service = plan_service_key(&s->id, &s->network);
		if (net && net->vni && s->vip && *s->vip && dp_ip_parse(s->vip, &it->addr, NULL) == 0)
			plan_table_add(out, it);
		else
			item_free(it);
	}
}

/* Does it stand open already? Then it came before whoever listens there now. */
static bool in_force(const struct plan_in *in, const struct item *it)
{
	const struct item *have = in->have ? plan_table_get(in->have, it) : NULL;
	return have && !have->port.closed_here;
}

static void want_port(const struct plan_in *in, struct plan_table *out, struct item *it, const char *who,
                      struct str_list *problems)
{
	struct ebpf_port *p = &it->port;
	unsigned published = p->published;
	const char *proto = proto_text(p->proto);
	const char *process = in->taken ? in->taken(in->arg, p->proto, p->published) : NULL;
	if (process) {
		if (!*process)
			process = "the host";
		p->closed_here = !in_force(in, it);
		if (p->closed_here)
			plan_problem(problems, "port %u/%s of %s: %s listens on it already: not published on this node",
			             published, proto, who, process);
		else
			plan_problem(problems,
			             "port %u/%s of %s: %s began to listen on it, but it is published and keeps it",
			             published, proto, who, process);
	}
	/* The one who holds it would be refused too, and its tasks need the entry for what other nodes take in. */
	if (!plan_table_add(out, it))
		plan_problem(problems, "port %u/%s of %s: published twice, the first keeps it", published, proto, who);
}

static bool port_valid(const struct dp_port *p)
{
	return (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP) && p->published && p->published <= 65535 &&
	       p->target && p->target <= 65535;
}

static void want_ports(const struct plan_in *in, struct plan_table *out, struct str_list *problems)
{
	MAP_FOREACH(&in->desired->services, e) {
		const struct dp_service *s = e->value;
		const struct dp_network *net = map_get(&in->desired->networks, s->network.s);
		if (!net || !net->vni)
			continue;
		for (size_t i = 0; i < s->ports.n; i++) {
			const struct dp_port *p = &s->ports.v[i];
			if (!port_valid(p)) {
				plan_problem(problems, "port %u of service '%s': only TCP and UDP are balanced",
				             p->published, s->name ? s->name : s->id.s);
				continue;
			}
			struct item *it = item_new(ITEM_PORT);
			it->port = (struct ebpf_port){ .proto = (uint8_t)p->protocol,
				                       .published = (uint16_t)p->published,
				                       .target = (uint16_t)p->target,
				                       .service = plan_service_key(&s->id, &s->network) };
			want_port(in, out, it, s->name ? s->name : s->id.s, problems);
		}
	}
	for (size_t i = 0; i < in->n_host_ports; i++) {
		const struct plan_host_port *hp = &in->host_ports[i];
		if (!port_valid(&hp->port)) {
			plan_problem(problems, "port %u: only TCP and UDP can be published", hp->port.published);
			continue;
		}
		struct item *it = item_new(ITEM_PORT);
		it->port = (struct ebpf_port){ .proto = (uint8_t)hp->port.protocol,
			                       .published = (uint16_t)hp->port.published,
			                       .target = (uint16_t)hp->port.target,
			                       .host_mode = true,
			                       .vni = hp->vni,
			                       .ip = hp->ip };
		want_port(in, out, it, "a task", problems);
	}
}

void plan_want(const struct plan_in *in, struct plan_table *out, struct str_list *problems)
{
	want_addrs(in, out);
	want_networks(in, out, problems);
	want_endpoints(in, out);
	plan_want_services(in, out, problems);
	want_vips(in, out);
	want_ports(in, out, problems);
}

/* ---- difference ---------------------------------------------------------------------------------- */

void plan_diff(const struct plan_table *have, const struct plan_table *want, struct plan_ops *out)
{
	for (int k = 0; k < ITEM_KIND_MAX; k++) {
		MAP_FOREACH(&want->items, e) {
			const struct item *w = e->value, *h;
			if ((int)w->kind != k)
				continue;
			h = map_get(&have->items, e->key);
			if (!h || !item_equal(h, w))
				vec_push(out, ((struct plan_op){ .item = w }));
		}
	}
	for (int k = ITEM_KIND_MAX - 1; k >= 0; k--) {
		MAP_FOREACH(&have->items, e) {
			const struct item *h = e->value;
			if ((int)h->kind == k && !map_has(&want->items, e->key))
				vec_push(out,
				         ((struct plan_op){ .del = true,
				                            .item = h,
				                            .lost_vni = k == ITEM_ENDPOINT ? h->endpoint.vni : 0 }));
		}
	}
}
