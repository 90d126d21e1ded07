/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what a driver's table holds, item by item: equality, names, and tables of them by key. */
#include "dataplane/plan.h"

#include <netinet/in.h>
#include <stdio.h>

/* ---- items --------------------------------------------------------------------------------------- */

struct item *item_new(enum item_kind kind)
{
	struct item *i = XNEW(struct item);
	i->kind = kind;
	return i;
}

void item_free(struct item *i)
{
	if (i && i->kind == ITEM_SERVICE) {
		vec_fini(&i->backends);
		vec_fini(&i->ranges);
	}
	free(i);
}

struct item *item_dup(const struct item *i)
{
	struct item *out = xmemdup(i, sizeof(*i));
	if (i->kind != ITEM_SERVICE)
		return out;
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

const char *plan_proto_text(uint8_t proto)
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
		snprintf(out, 96, "port %u/%s", i->port.published, plan_proto_text(i->port.proto));
		break;
	}
	return out;
}

/* ---- tables -------------------------------------------------------------------------------------- */

const char *plan_key(const struct item *i, char out[PLAN_KEY_MAX])
{
	char ip[DP_IP_TEXT_MAX];
	switch (i->kind) {
	case ITEM_NETWORK:
		snprintf(out, PLAN_KEY_MAX, "%d %u", i->kind, i->network.vni);
		break;
	case ITEM_ENDPOINT:
		snprintf(out, PLAN_KEY_MAX, "%d %u %s", i->kind, i->endpoint.vni, dp_ip_format(&i->endpoint.ip, ip));
		break;
	case ITEM_SERVICE:
		snprintf(out, PLAN_KEY_MAX, "%d %016llx", i->kind, (unsigned long long)i->svc.key);
		break;
	case ITEM_PORT:
		snprintf(out, PLAN_KEY_MAX, "%d %u %u", i->kind, i->port.proto, i->port.published);
		break;
	default:
		snprintf(out, PLAN_KEY_MAX, "%d %s", i->kind, dp_ip_format(&i->addr, ip));
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
	char key[PLAN_KEY_MAX];
	plan_key(i, key);
	if (map_has(&t->items, key)) {
		item_free(i);
		return false;
	}
	map_put(&t->items, key, i);
	return true;
}

void plan_table_put(struct plan_table *t, struct item *i)
{
	char key[PLAN_KEY_MAX];
	item_free(map_put(&t->items, plan_key(i, key), i));
}

void plan_table_del(struct plan_table *t, const struct item *i)
{
	char key[PLAN_KEY_MAX];
	item_free(map_del(&t->items, plan_key(i, key)));
}

const struct item *plan_table_get(const struct plan_table *t, const struct item *like)
{
	char key[PLAN_KEY_MAX];
	return map_get(&t->items, plan_key(like, key));
}
