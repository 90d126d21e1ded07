/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "base/mem.h"
#include "dataplane/plan.h"

/* A split's weights are shared by the tasks of each service: this keeps what rounding takes small. */
#define SHARE_SCALE 1000
#define KEY_MAX (2 * (MESH_ID_LEN + 1))

/* A service as its backends are found: those of each service that has a part in it. */
struct candidate {
	struct ebpf_backend b;
	size_t share; /* whose task: index in the split */
};
struct build {
	const struct dp_service *s;
	struct item *it;
	struct VEC(struct candidate) found;
};
struct part {
	struct build *of;
	size_t share;
};
struct parts VEC(struct part);

struct building {
	struct VEC(struct build *) builds;
	struct map parts; /* "service/network" of the endpoints -> struct parts */
};

static void add_part(struct building *bg, const service_id *whose, struct build *of, size_t share)
{
	char key[KEY_MAX];
	snprintf(key, sizeof(key), "%s/%s", whose->s, of->s->network.s);
	struct parts *p = map_get(&bg->parts, key);
	if (!p)
		map_put(&bg->parts, key, p = XNEW(struct parts));
	vec_push(p, ((struct part){ of, share }));
}

static void add_ranges(struct item *it, const struct str_list *texts, bool dialled, const struct dp_service *s,
                       struct str_list *problems)
{
	for (size_t i = 0; i < texts->n; i++) {
		struct ebpf_range r = { .dialled = dialled };
		if (dp_ip_parse(texts->v[i], &r.net, &r.prefix) == 0)
			vec_push(&it->ranges, r);
		else
			plan_problem(problems, "service '%s': bad address range '%s'", s->name ? s->name : s->id.s,
			             texts->v[i]);
	}
	it->svc.ranges = it->ranges.data;
	it->svc.n_ranges = it->ranges.len;
}

static void add_service(struct building *bg, const struct dp_service *s, uint32_t vni, struct plan_table *out,
                        struct str_list *problems)
{
	struct item *it = XNEW(struct item);
	it->kind = ITEM_SERVICE;
	it->svc = (struct ebpf_service){ .key = plan_service_key(&s->id, &s->network),
		                         .vni = vni,
		                         .direct_return = s->direct_return,
		                         .affinity_s = s->affinity_s };
	add_ranges(it, &s->sources, false, s, problems);
	add_ranges(it, &s->addresses, true, s, problems);
	if (!plan_table_add(out, it))
		return;
	struct build *b = XNEW(struct build);
	b->s = s;
	b->it = it;
	vec_push(&bg->builds, b);
	bool own = false;
	for (size_t i = 0; i < s->split.n; i++) {
		own |= ID_EQ(s->split.v[i].service, s->id);
		add_part(bg, &s->split.v[i].service, b, i);
	}
	if (!own) /* beyond the split: old flows only */
		add_part(bg, &s->id, b, s->split.n);
}

static void add_endpoint(const struct plan_in *in, const struct building *bg, const struct dp_endpoint *ep)
{
	char key[KEY_MAX];
	struct plan_place p;
	snprintf(key, sizeof(key), "%s/%s", ep->service.s, ep->network.s);
	const struct parts *parts = ID_EMPTY(ep->service) ? NULL : map_get(&bg->parts, key);
	if (!parts || !plan_place_of(in, ep, &p))
		return;
	struct candidate c = { .b = { .ip = p.ip,
		                      .node = p.node,
		                      .local = p.local,
		                      .weight = ep->weight ? ep->weight : 1,
		                      .state = (enum dp_backend_state)ep->state } };
	for (size_t i = 0; i < parts->len; i++) {
		c.share = parts->data[i].share;
		vec_push(&parts->data[i].of->found, c);
	}
}

static uint32_t weight_of(const struct dp_service *s, size_t share)
{
	return share < s->split.n ? s->split.v[share].weight : 0;
}

/* Those of other nodes take nothing new where a task of this one does, or must. */
static void keep_local(struct build *b)
{
	bool here = false;
	for (size_t i = 0; i < b->found.len; i++) {
		const struct ebpf_backend *x = &b->found.data[i].b;
		here |= x->local && x->state == DP_SERVING && !x->spare;
	}
	for (size_t i = 0; i < b->found.len; i++)
		if (!b->found.data[i].b.local && (here || b->s->local == DP_LOCAL_REQUIRE))
			b->found.data[i].b.spare = true;
}

/* A service's part is shared by those of its tasks that take new flows. */
static void weigh(struct build *b)
{
	CLEAN_FREE uint32_t *n = xcalloc(b->s->split.n + 1, sizeof(*n));
	for (size_t i = 0; i < b->found.len; i++) {
		const struct candidate *c = &b->found.data[i];
		n[c->share] += c->b.state == DP_SERVING && !c->b.spare;
	}
	for (size_t i = 0; i < b->found.len; i++) {
		struct candidate *c = &b->found.data[i];
		uint32_t share = weight_of(b->s, c->share) * SHARE_SCALE;
		c->b.weight = n[c->share] && share > n[c->share] ? share / n[c->share] : 1;
	}
}

static int backend_cmp(const void *a, const void *b)
{
	return memcmp(&((const struct ebpf_backend *)a)->ip, &((const struct ebpf_backend *)b)->ip,
	              sizeof(struct dp_ip));
}

static void finish(struct build *b)
{
	struct item *it = b->it;
	for (size_t i = 0; i < b->found.len && b->s->split.n; i++)
		b->found.data[i].b.spare = !weight_of(b->s, b->found.data[i].share);
	if (b->s->local != DP_LOCAL_OFF)
		keep_local(b);
	if (b->s->split.n)
		weigh(b);
	for (size_t i = 0; i < b->found.len; i++)
		vec_push(&it->backends, b->found.data[i].b);
	if (it->backends.len > 1)
		qsort(it->backends.data, it->backends.len, sizeof(*it->backends.data), backend_cmp);
	it->svc.backends = it->backends.data;
	it->svc.n = it->backends.len;
}

void plan_want_services(const struct plan_in *in, struct plan_table *out, struct str_list *problems)
{
	struct building bg = { 0 };
	MAP_FOREACH(&in->desired->services, e) {
		const struct dp_service *s = e->value;
		const struct dp_network *net = map_get(&in->desired->networks, s->network.s);
		if (net && net->vni)
			add_service(&bg, s, net->vni, out, problems);
	}
	MAP_FOREACH(&in->desired->endpoints, e)
		add_endpoint(in, &bg, e->value);
	for (size_t i = 0; i < bg.builds.len; i++) {
		finish(bg.builds.data[i]);
		vec_fini(&bg.builds.data[i]->found);
		free(bg.builds.data[i]);
	}
	vec_fini(&bg.builds);
	MAP_FOREACH(&bg.parts, e) {
		struct parts *p = e->value;
		vec_fini(p);
		free(p);
	}
	map_fini(&bg.parts);
}
