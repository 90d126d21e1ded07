/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "base/mem.h"
#include "dataplane/plan.h"

/* A split's weights are shared by the tasks of each service: this keeps what rounding takes small. */
#define SHARE_SCALE 1000

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

static void add_ranges(struct wanting *w, struct item *it, const struct str_list *texts, bool dialled,
                       const struct dp_service *s)
{
	for (size_t i = 0; i < texts->n; i++) {
		struct ebpf_range r = { .dialled = dialled };
		if (dp_ip_parse(texts->v[i], &r.net, &r.prefix) == 0)
			vec_push(&it->ranges, r);
		else
			plan_problem(w, "service '%s': bad address range '%s'", s->name ? s->name : s->id.s,
			             texts->v[i]);
	}
	it->svc.ranges = it->ranges.data;
	it->svc.n_ranges = it->ranges.len;
}

/* The tasks of whose (on the network of b->s) that have a place. */
static void add_part(struct build *b, const struct plan_in *in, const service_id *whose, size_t share)
{
	char key[DESIRED_CLAIM_MAX];
	struct plan_place p;
	snprintf(key, sizeof(key), "s %s/%s", whose->s, b->s->network.s);
	const struct claim *c = desired_claim(in->desired, key);
	for (size_t i = 0; c && i < c->n; i++) {
		const struct dp_endpoint *ep = c->by[i];
		if (!plan_place_of(in, ep, &p))
			continue;
		struct candidate x = { .b = { .ip = p.ip,
			                      .node = p.node,
			                      .local = p.local,
			                      .weight = ep->weight ? ep->weight : 1,
			                      .state = (enum dp_backend_state)ep->state },
			               .share = share };
		vec_push(&b->found, x);
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

struct item *plan_service_item(struct wanting *w, const struct plan_in *in, const struct dp_service *s, uint32_t vni)
{
	struct build b = { .s = s, .it = XNEW(struct item) };
	bool own = false;
	b.it->kind = ITEM_SERVICE;
	b.it->svc = (struct ebpf_service){ .key = plan_service_key(&s->id, &s->network),
		                           .vni = vni,
		                           .direct_return = s->direct_return,
		                           .affinity_s = s->affinity_s };
	add_ranges(w, b.it, &s->sources, false, s);
	add_ranges(w, b.it, &s->addresses, true, s);
	for (size_t i = 0; i < s->split.n; i++) {
		own |= ID_EQ(s->split.v[i].service, s->id);
		add_part(&b, in, &s->split.v[i].service, i);
	}
	if (!own) /* beyond the split: old flows only */
		add_part(&b, in, &s->id, s->split.n);
	finish(&b);
	vec_fini(&b.found);
	return b.it;
}
