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

/* ---- claims -------------------------------------------------------------------------------------- */

const struct claim *desired_claim(const struct desired *d, const char *key)
{
	return map_get(&d->claims, key);
}

static void touch_key(struct desired *d, const char *key)
{
	map_put(&d->dirty, key, d);
}

/* Puts new (nullable) in the place of old (nullable) among those who claim key. */
static void claim(struct desired *d, const char *key, const void *old, const void *new)
{
	struct claim *c = map_get(&d->claims, key), *was = c;
	size_t i = 0, n = c ? c->n : 0;
	touch_key(d, key);
	while (i < n && (!old || c->by[i] != old))
		i++;
	if (i < n && new) {
		c->by[i] = new;
	} else if (i < n) {
		memmove(&c->by[i], &c->by[i + 1], (n - i - 1) * sizeof(c->by[0]));
		if (--c->n == 0)
			free(map_del(&d->claims, key));
	} else if (new) {
		c = xrealloc(c, sizeof(*c) + (n + 1) * sizeof(c->by[0]));
		c->n = n + 1;
		c->by[n] = new;
		if (c != was)
			map_put(&d->claims, key, c);
	}
}

static void claim_service(struct desired *d, const struct dp_service *s, const void *old, const void *new)
{
	char key[DESIRED_CLAIM_MAX];
	snprintf(key, sizeof(key), "s %s/%s", s->id.s, s->network.s);
	touch_key(d, key);
	if (s->vip && *s->vip) {
		snprintf(key, sizeof(key), "v %s", s->vip);
		claim(d, key, old, new);
	}
	for (size_t i = 0; i < s->ports.n; i++) {
		snprintf(key, sizeof(key), "p %d %u", s->ports.v[i].protocol, s->ports.v[i].published);
		claim(d, key, old, new);
	}
	for (size_t i = 0; i < s->split.n; i++) {
		snprintf(key, sizeof(key), "t %s/%s", s->split.v[i].service.s, s->network.s);
		claim(d, key, old, new);
	}
}

/* Services whose split names this one have its tasks among their backends. */
static void touch_sharers(struct desired *d, const struct dp_endpoint *e)
{
	char key[DESIRED_CLAIM_MAX];
	snprintf(key, sizeof(key), "t %s/%s", e->service.s, e->network.s);
	const struct claim *c = desired_claim(d, key);
	for (size_t i = 0; c && i < c->n; i++) {
		const struct dp_service *s = c->by[i];
		snprintf(key, sizeof(key), "s %s/%s", s->id.s, s->network.s);
		touch_key(d, key);
	}
}

static void claim_endpoint(struct desired *d, const struct dp_endpoint *e, const void *old, const void *new)
{
	char key[DESIRED_CLAIM_MAX];
	snprintf(key, sizeof(key), "e %s %s", e->network.s, e->addr ? e->addr : "");
	claim(d, key, old, new);
	if (ID_EMPTY(e->service))
		return;
	snprintf(key, sizeof(key), "s %s/%s", e->service.s, e->network.s);
	claim(d, key, old, new);
	touch_sharers(d, e);
}

/* What obj claims: new (nullable) in the place of old (nullable), of which obj is one. */
static void claim_as(struct desired *d, int kind, const void *obj, const void *old, const void *new)
{
	if (kind == DP_SERVICE)
		claim_service(d, obj, old, new);
	else if (kind == DP_ENDPOINT)
		claim_endpoint(d, obj, old, new);
	else
		d->all_dirty = true;
}

void desired_touch_endpoint(struct desired *d, const network_id *n, const struct dp_ip *ip)
{
	char key[DESIRED_CLAIM_MAX], text[DP_IP_TEXT_MAX];
	snprintf(key, sizeof(key), "e %s %s", n->s, dp_ip_format(ip, text));
	touch_key(d, key);
}

void desired_touch_port(struct desired *d, int protocol, uint32_t published)
{
	char key[DESIRED_CLAIM_MAX];
	snprintf(key, sizeof(key), "p %d %u", protocol, published);
	touch_key(d, key);
}

void desired_touch_task(struct desired *d, const task_id *task, const network_id *n)
{
	char key[KEY_MAX];
	snprintf(key, sizeof(key), "%s/%s", task->s, n->s);
	const struct dp_endpoint *e = map_get(&d->endpoints, key);
	if (e)
		claim_endpoint(d, e, e, e);
}

/* ---- networks ------------------------------------------------------------------------------------ */

static struct desired_net *net_of(struct desired *d, const network_id *n)
{
	struct desired_net *net = map_get(&d->by_network, n->s);
	if (net)
		return net;
	net = XNEW(struct desired_net);
	net->services = HSET(struct dp_service, id);
	net->endpoints = HSET(struct dp_endpoint, task);
	map_put(&d->by_network, n->s, net);
	return net;
}

/* new (nullable) is in force now instead of old (nullable), which has the same key. */
static void place_on_network(struct desired *d, int kind, const void *old, void *new)
{
	const void *any = new ? new : old;
	const struct dp_service *s = any;
	const struct dp_endpoint *e = any;
	if (!any || (kind != DP_SERVICE && kind != DP_ENDPOINT))
		return;
	struct desired_net *net = net_of(d, kind == DP_SERVICE ? &s->network : &e->network);
	struct hset *h = kind == DP_SERVICE ? &net->services : &net->endpoints;
	if (new)
		(void)hset_put(h, new);
	else
		(void)hset_del(h, kind == DP_SERVICE ? (const void *)&s->id : (const void *)&e->task);
}

/* ---- changes ------------------------------------------------------------------------------------- */

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

static void clear(struct desired *d)
{
	for (int k = 0; k < DP_KIND_MAX; k++)
		clear_kind(d, k);
	MAP_FOREACH(&d->by_network, e) {
		struct desired_net *net = e->value;
		hset_fini(&net->services);
		hset_fini(&net->endpoints);
		free(net);
	}
	map_fini(&d->by_network);
	MAP_FOREACH(&d->claims, e)
		free(e->value);
	map_fini(&d->claims);
	map_fini(&d->dirty);
	d->all_dirty = true;
}

void desired_fini(struct desired *d)
{
	clear(d);
	map_fini(&d->dirty_nets);
	*d = (struct desired){ 0 };
}

static bool in_split(const struct dp_service *s, const service_id *id)
{
	for (size_t i = 0; i < s->split.n; i++)
		if (ID_EQ(s->split.v[i].service, *id))
			return true;
	return ID_EQ(s->id, *id);
}

/*
 * Who took part in a split and does no more still has connections that came through it: it stays with weight 0, as long
 * as it has tasks. The manager does not say so, for it does not know when they end.
 */
static void keep_sharers(struct desired *d, const struct dp_service *old, struct dp_service *new, bool all)
{
	char key[DESIRED_CLAIM_MAX];
	for (size_t i = 0; old && i < old->split.n; i++) {
		const service_id *id = &old->split.v[i].service;
		snprintf(key, sizeof(key), "s %s/%s", id->s, new->network.s);
		if (in_split(new, id) || (!all && !desired_claim(d, key)))
			continue;
		if (!new->split.n)
			*LIST_ADD(&new->split) = (struct dp_share){ .service = new->id, .weight = 1 };
		LIST_ADD(&new->split)->service = *id;
	}
}

static void apply_change(struct desired *d, struct dp_change *c, const struct map *before)
{
	void **slot = object_of(c);
	char key[KEY_MAX];
	if (!slot || !*slot)
		return;
	void *obj = *slot;
	const char *k = key_of(c->kind, obj, key);
	void *old = map_get(map_of(d, c->kind), k);
	*slot = NULL;
	if (c->kind == DP_SERVICE && !c->del)
		keep_sharers(d, before ? map_get(before, k) : old, obj, before);
	touch(d, c->kind, obj);
	if (!c->del)
		claim_as(d, c->kind, obj, old, obj);
	/* What is claimed no more. */
	if (old)
		claim_as(d, c->kind, old, old, NULL);
	if (c->del)
		map_del(map_of(d, c->kind), k);
	else
		map_put(map_of(d, c->kind), k, obj);
	place_on_network(d, c->kind, old, c->del ? NULL : obj);
	sch_free(schemas[c->kind], c->del ? obj : NULL);
	sch_free(schemas[c->kind], old);
}

void desired_apply(struct desired *d, struct dp_delta *delta)
{
	struct map before = { 0 };
	if (delta->snapshot) {
		before = d->services;
		MAP_FOREACH(&before, e)
			touch(d, DP_SERVICE, e->value);
		d->services = (struct map){ 0 };
		clear(d);
		d->whole = true;
	}
	if (!ID_EMPTY(delta->self)) {
		d->all_dirty |= !ID_EQ(d->self, delta->self);
		d->self = delta->self;
	}
	for (size_t i = 0; i < delta->changes.n; i++)
		apply_change(d, &delta->changes.v[i], delta->snapshot ? &before : NULL);
	MAP_FOREACH(&before, e)
		sch_free(schemas[DP_SERVICE], e->value);
	map_fini(&before);
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
