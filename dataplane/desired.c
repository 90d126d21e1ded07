/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/desired.h"

#include <stdio.h>

static const struct schema *const schemas[DP_KIND_MAX] = {
	[DP_NODE] = &dp_node_schema,
	[DP_NETWORK] = &dp_network_schema,
	[DP_SERVICE] = &dp_service_schema,
	[DP_ENDPOINT] = &dp_endpoint_schema,
};

static struct map *map_of(struct desired *d, int kind)
{
	struct map *maps[DP_KIND_MAX] = { &d->nodes, &d->networks, &d->services, &d->endpoints };
	return maps[kind];
}

/* The object a change carries, as a place to take it from; NULL for a kind we do not know. */
static void **object_of(struct dp_change *c)
{
	switch (c->kind) {
	case DP_NODE:
		return (void **)&c->node;
	case DP_NETWORK:
		return (void **)&c->network;
	case DP_SERVICE:
		return (void **)&c->service;
	case DP_ENDPOINT:
		return (void **)&c->endpoint;
	default:
		return NULL;
	}
}

#define KEY_MAX (2 * (MESH_ID_LEN + 1))
static const char *key_of(int kind, const void *obj, char out[KEY_MAX])
{
	const struct dp_service *s = obj;
	const struct dp_endpoint *e = obj;
	switch (kind) {
	case DP_NODE:
		return ((const struct dp_node *)obj)->id.s;
	case DP_NETWORK:
		return ((const struct dp_network *)obj)->id.s;
	case DP_SERVICE:
		snprintf(out, KEY_MAX, "%s/%s", s->id.s, s->network.s);
		return out;
	default:
		snprintf(out, KEY_MAX, "%s/%s", e->task.s, e->network.s);
		return out;
	}
}

static void touch(struct desired *d, int kind, const void *obj)
{
	if (kind == DP_NETWORK)
		map_put(&d->dirty_nets, ((const struct dp_network *)obj)->id.s, d);
	else if (kind == DP_SERVICE)
		map_put(&d->dirty_nets, ((const struct dp_service *)obj)->network.s, d);
	else if (kind == DP_ENDPOINT)
		map_put(&d->dirty_nets, ((const struct dp_endpoint *)obj)->network.s, d);
}

static void clear_kind(struct desired *d, int kind)
{
	MAP_FOREACH(map_of(d, kind), e) {
		touch(d, kind, e->value);
		sch_free(schemas[kind], e->value);
	}
	map_fini(map_of(d, kind));
}

void desired_fini(struct desired *d)
{
	for (int k = 0; k < DP_KIND_MAX; k++)
		clear_kind(d, k);
	map_fini(&d->dirty_nets);
	*d = (struct desired){ 0 };
}

static void apply_change(struct desired *d, struct dp_change *c)
{
	void **slot = object_of(c);
	char key[KEY_MAX];
	if (!slot || !*slot)
		return;
	void *obj = *slot;
	*slot = NULL;
	touch(d, c->kind, obj);
	void *old;
	if (c->del) {
		old = map_del(map_of(d, c->kind), key_of(c->kind, obj, key));
		sch_free(schemas[c->kind], obj);
	} else {
		old = map_put(map_of(d, c->kind), key_of(c->kind, obj, key), obj);
	}
	sch_free(schemas[c->kind], old);
}

void desired_apply(struct desired *d, struct dp_delta *delta)
{
	if (delta->snapshot) {
		for (int k = 0; k < DP_KIND_MAX; k++)
			clear_kind(d, k);
		d->whole = true;
	}
	if (!ID_EMPTY(delta->self))
		d->self = delta->self;
	for (size_t i = 0; i < delta->changes.n; i++)
		apply_change(d, &delta->changes.v[i]);
	d->version = delta->version;
	dp_delta_free(delta);
}

struct dp_delta *desired_snapshot(const struct desired *d)
{
	struct dp_delta *out = XNEW(struct dp_delta);
	out->version = d->version;
	out->snapshot = true;
	out->self = d->self;
	for (int k = 0; k < DP_KIND_MAX; k++) {
		MAP_FOREACH(map_of((struct desired *)d, k), e) {
			struct dp_change *c = LIST_ADD(&out->changes);
			c->kind = k;
			*object_of(c) = sch_dup(schemas[k], e->value);
		}
	}
	return out;
}
