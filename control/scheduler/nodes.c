/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The books: what every node has, and what the tasks on it take. */
#include "control/scheduler/nodes.h"

#include "base/clock.h"

#define FAILURE_WINDOW (5 * 60 * NS_PER_SEC)

/* ---- counts ---- */

static uint32_t counts_slot(const struct counts *c, uint32_t key)
{
	uint32_t i = key * 2654435761u & (c->cap - 1);
	while (c->slots[i].key && c->slots[i].key != key + 1)
		i = (i + 1) & (c->cap - 1);
	return i;
}

uint32_t counts_get(const struct counts *c, uint32_t key)
{
	return c->cap ? c->slots[counts_slot(c, key)].value : 0;
}

static void counts_grow(struct counts *c)
{
	struct counts bigger = { .cap = c->cap ? c->cap * 2 : 8 };
	bigger.slots = xcalloc(bigger.cap, sizeof(*bigger.slots));
	for (uint32_t i = 0; i < c->cap; i++)
		if (c->slots[i].key && c->slots[i].value) {
			bigger.slots[counts_slot(&bigger, c->slots[i].key - 1)] = c->slots[i];
			bigger.used++;
		}
	free(c->slots);
	*c = bigger;
}

void counts_add(struct counts *c, uint32_t key, int32_t delta)
{
	if ((c->used + 1) * 4 > c->cap * 3)
		counts_grow(c);
	uint32_t i = counts_slot(c, key);
	if (!c->slots[i].key) {
		c->slots[i].key = key + 1;
		c->used++;
	}
	c->slots[i].value = (uint32_t)((int32_t)c->slots[i].value + delta);
}

void counts_fini(struct counts *c)
{
	free(c->slots);
	*c = (struct counts){ 0 };
}

/* ---- life ---- */

struct sched *sched_new(struct mesh_rng *rng)
{
	struct sched *s = XNEW(struct sched);
	s->rng = rng;
	return s;
}

static void extra_free(struct sextra *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->n_generic; i++) {
		if (x->generic[i].named) {
			free(x->generic[i].named->kind);
			free(x->generic[i].named->value);
		}
		if (x->generic[i].discrete)
			free(x->generic[i].discrete->kind);
		free(x->generic[i].named);
		free(x->generic[i].discrete);
	}
	free(x->generic);
	free(x->ports);
	free(x);
}

static void service_free(struct sservice *v)
{
	counts_fini(&v->on);
	vec_fini(&v->failures);
	free(v);
}

void sched_free(struct sched *s)
{
	if (!s)
		return;
	MAP_FOREACH(&s->tasks, e) {
		struct stask *t = e->value;
		extra_free(t->extra);
		free(t);
	}
	MAP_FOREACH(&s->services, e)
		service_free(e->value);
	for (size_t i = 0; i < s->nodes.len; i++) {
		sch_free(&md_node_schema, s->nodes.data[i].node);
		vec_fini(&s->nodes.data[i].generic);
		vec_fini(&s->nodes.data[i].ports);
	}
	for (size_t i = 0; i < s->by_tasks.len; i++)
		bits_fini(&s->by_tasks.data[i]);
	vec_fini(&s->by_tasks);
	bits_fini(&s->ready);
	fits_free(s);
	vec_fini(&s->nodes);
	map_fini(&s->node_index);
	map_fini(&s->services);
	map_fini(&s->tasks);
	free(s);
}

/* ---- nodes ---- */

struct snode *sched_snode(const struct sched *s, const char *id, uint32_t *index)
{
	uintptr_t at = (uintptr_t)map_get(&s->node_index, id);
	if (!at)
		return NULL;
	if (index)
		*index = (uint32_t)(at - 1);
	return &s->nodes.data[at - 1];
}

static void set_tasks(struct sched *s, uint32_t index, uint32_t tasks)
{
	struct snode *n = &s->nodes.data[index];
	while (s->by_tasks.len <= tasks) {
		struct bits none = { 0 };
		vec_push(&s->by_tasks, none);
	}
	bits_clear(&s->by_tasks.data[n->tasks], index);
	bits_set(&s->by_tasks.data[tasks], index);
	n->tasks = tasks;
}

static void set_ready(struct sched *s, uint32_t index, bool ready)
{
	s->nodes.data[index].ready = ready;
	if (ready)
		bits_set(&s->ready, index);
	else
		bits_clear(&s->ready, index);
}

/* The slot of a node, made when it is not known yet: tasks may be heard of before their node. */
static uint32_t node_slot(struct sched *s, const char *id)
{
	uint32_t index;
	if (sched_snode(s, id, &index))
		return index;
	struct snode fresh = { 0 };
	vec_push(&s->nodes, fresh);
	map_put(&s->node_index, id, (void *)(uintptr_t)s->nodes.len);
	set_tasks(s, (uint32_t)s->nodes.len - 1, 0);
	return (uint32_t)s->nodes.len - 1;
}

void sched_node_put(struct sched *s, const struct md_node *node)
{
	uint32_t slot = node_slot(s, node->meta.id); /* may move the array */
	struct snode *n = &s->nodes.data[slot];
	sch_free(&md_node_schema, n->node);
	n->node = sch_dup(&md_node_schema, node);
	sch_clear(&md_tls_info_schema, &n->node->description.tls);
	n->cpu = node->description.resources.nano_cpus;
	n->memory = node->description.resources.memory_bytes;
	set_ready(s, slot, node->status.state == MD_NODE_READY && node->spec.availability == MD_AVAIL_ACTIVE);
	fits_node_changed(s, slot);
}

void sched_node_del(struct sched *s, const char *id)
{
	uint32_t index;
	struct snode *n = sched_snode(s, id, &index);
	if (!n)
		return;
	sch_free(&md_node_schema, n->node);
	n->node = NULL;
	set_ready(s, index, false);
	fits_node_changed(s, index);
}

const struct md_node *sched_node(const struct sched *s, const char *id)
{
	const struct snode *n = sched_snode(s, id, NULL);
	return n ? n->node : NULL;
}

size_t sched_node_count(const struct sched *s)
{
	size_t n = 0;
	for (size_t i = 0; i < s->nodes.len; i++)
		n += s->nodes.data[i].node != NULL;
	return n;
}

size_t sched_node_slots(const struct sched *s)
{
	return s->nodes.len;
}

const struct md_node *sched_node_at(const struct sched *s, size_t i)
{
	return s->nodes.data[i].node;
}

/* ---- services ---- */

struct sservice *sched_service(struct sched *s, const char *id)
{
	struct sservice *v = map_get(&s->services, id);
	if (!v) {
		v = XNEW(struct sservice);
		map_put(&s->services, id, v);
	}
	return v;
}

void sched_service_del(struct sched *s, const char *service)
{
	struct sservice *v = map_get(&s->services, service);
	if (v && !v->refs) {
		map_del(&s->services, service);
		service_free(v);
	}
}

uint32_t sched_count(const struct sched *s, const char *service, const char *node)
{
	uint32_t index;
	const struct sservice *v = map_get(&s->services, service);
	return v && sched_snode(s, node, &index) ? counts_get(&v->on, index) : 0;
}

void sched_failed(struct sched *s, const char *service, const char *node, int64_t when)
{
	uint32_t index;
	if (!sched_snode(s, node, &index))
		return;
	struct sservice *v = sched_service(s, service);
	for (size_t i = 0; i < v->failures.len; i++) {
		struct sfail *f = &v->failures.data[i];
		if (f->node != index)
			continue;
		if (when - f->since > FAILURE_WINDOW)
			*f = (struct sfail){ .node = index, .since = when };
		f->count++;
		return;
	}
	struct sfail f = { .node = index, .count = 1, .since = when };
	vec_push(&v->failures, f);
}

bool sched_fail_counts(const struct sfail *f, int64_t now)
{
	return f->count >= SCHED_MAX_FAILURES && now - f->since <= FAILURE_WINDOW;
}

uint32_t sched_penalty(const struct sservice *svc, uint32_t node, int64_t now)
{
	for (size_t i = 0; svc && i < svc->failures.len; i++) {
		const struct sfail *f = &svc->failures.data[i];
		if (f->node == node)
			return sched_fail_counts(f, now) ? f->count : 0;
	}
	return 0;
}

/* ---- tasks ---- */

static void forget_ports(struct snode *n, const struct sextra *x)
{
	for (size_t i = 0; i < x->n_ports; i++)
		for (size_t j = 0; j < n->ports.len; j++)
			if (n->ports.data[j] == x->ports[i]) {
				vec_remove(&n->ports, j);
				break;
			}
	for (size_t i = 0; i < x->n_generic; i++)
		for (size_t j = 0; j < n->generic.len; j++)
			if (n->generic.data[j] == &x->generic[i]) {
				vec_remove(&n->generic, j);
				break;
			}
}

static void release(struct sched *s, struct stask *t)
{
	struct snode *n = &s->nodes.data[t->node];
	n->cpu_used -= t->cpu;
	n->memory_used -= t->memory;
	if (t->wanted) {
		set_tasks(s, t->node, n->tasks - 1);
		counts_add(&t->service->on, t->node, -1);
	}
	if (t->extra)
		forget_ports(n, t->extra);
	extra_free(t->extra);
	t->extra = NULL;
	t->service->refs--;
}

static size_t host_ports(const struct md_task *t, uint32_t *out)
{
	size_t n = 0;
	for (size_t i = 0; i < t->endpoint.ports.n; i++) {
		const struct md_port *p = &t->endpoint.ports.v[i];
		if (p->mode != MD_PUBLISH_HOST || !p->published)
			continue;
		if (out)
			out[n] = (uint32_t)(p->protocol ? p->protocol : MD_PROTO_TCP) << 16 | p->published;
		n++;
	}
	return n;
}

static void generic_copy(struct md_generic *dst, const struct md_generic *src)
{
	*dst = (struct md_generic){ 0 };
	if (src->named) {
		dst->named = XNEW(struct md_named_resource);
		dst->named->kind = xstrdup(src->named->kind);
		dst->named->value = xstrdup(src->named->value);
	}
	if (src->discrete) {
		dst->discrete = XNEW(struct md_discrete_resource);
		dst->discrete->kind = xstrdup(src->discrete->kind);
		dst->discrete->value = src->discrete->value;
	}
}

static struct sextra *extra_of(const struct md_task *t)
{
	size_t ports = host_ports(t, NULL);
	if (!ports && !t->generic.n)
		return NULL;
	struct sextra *x = XNEW(struct sextra);
	x->n_ports = ports;
	x->ports = xcalloc(ports ? ports : 1, sizeof(*x->ports));
	(void)host_ports(t, x->ports);
	x->n_generic = t->generic.n;
	x->generic = xcalloc(t->generic.n ? t->generic.n : 1, sizeof(*x->generic));
	for (size_t i = 0; i < t->generic.n; i++)
		generic_copy(&x->generic[i], &t->generic.v[i]);
	return x;
}

void sched_task_put(struct sched *s, const struct md_task *t)
{
	/* What has ended takes nothing, nor does one that waits for its node to have room. */
	if (md_task_ended(t) || ID_EMPTY(t->node) || t->status.state < MD_TASK_ASSIGNED)
		sched_task_del(s, t->meta.id);
	else
		sched_task_count(s, t);
}

void sched_task_count(struct sched *s, const struct md_task *t)
{
	struct stask *r = map_get(&s->tasks, t->meta.id);
	if (r) {
		release(s, r);
	} else {
		r = XNEW(struct stask);
		map_put(&s->tasks, t->meta.id, r);
	}
	const struct md_resources *want = t->spec.resources ? t->spec.resources->reservations : NULL;
	*r = (struct stask){ .service = sched_service(s, t->service.s),
		             .node = node_slot(s, t->node.s),
		             .cpu = want ? want->nano_cpus : 0,
		             .memory = want ? want->memory_bytes : 0,
		             .wanted = md_task_wanted(t),
		             .extra = extra_of(t) };
	struct snode *n = &s->nodes.data[r->node];
	n->cpu_used += r->cpu;
	n->memory_used += r->memory;
	r->service->refs++;
	if (r->wanted) {
		set_tasks(s, r->node, n->tasks + 1);
		counts_add(&r->service->on, r->node, 1);
	}
	for (size_t i = 0; r->extra && i < r->extra->n_ports; i++)
		vec_push(&n->ports, r->extra->ports[i]);
	for (size_t i = 0; r->extra && i < r->extra->n_generic; i++)
		vec_push(&n->generic, &r->extra->generic[i]);
}

void sched_task_del(struct sched *s, const char *id)
{
	struct stask *r = map_del(&s->tasks, id);
	if (!r)
		return;
	release(s, r);
	free(r);
}

size_t sched_bytes(const struct sched *s)
{
	size_t n = sizeof(*s) + s->nodes.cap * sizeof(struct snode) + fits_bytes(s);
	for (size_t i = 0; i < s->by_tasks.len; i++)
		n += s->by_tasks.data[i].n_words * 8;
	n += s->tasks.cap * sizeof(struct map_entry) + s->tasks.index_cap * 4;
	n += s->tasks.count * (sizeof(struct stask) + MESH_ID_LEN + 1 + 16);
	MAP_FOREACH(&s->services, e) {
		const struct sservice *v = e->value;
		n += sizeof(*v) + v->on.cap * 8;
	}
	return n;
}
