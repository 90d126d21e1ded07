/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Placing a batch: one pass over the nodes builds a tree of preferences with a heap of nodes in each leaf. */
#include "control/scheduler/nodes.h"

enum strategy { STRATEGY_SPREAD, STRATEGY_BINPACK, STRATEGY_RANDOM };

/* Smaller is better; compared in this order. */
struct key {
	uint32_t failures, first, second, index;
};
/* A value of a spread preference, or the root. */
struct branch {
	const char *value;
	uint64_t tasks; /* of this service */
	struct VEC(struct branch *) children;
	struct VEC(struct key) heap; /* leaves only */
};
struct sched_batch {
	struct sched *s;
	struct ask ask;
	enum strategy strategy;
	int64_t now;
	size_t depth;       /* of the tree */
	const char **words; /* the preference of each level */
	struct branch root;
};

static bool better(const struct key *a, const struct key *b)
{
	if (a->failures != b->failures)
		return a->failures < b->failures;
	if (a->first != b->first)
		return a->first < b->first;
	if (a->second != b->second)
		return a->second < b->second;
	return a->index < b->index;
}

/* How full a node is, 0 to 1 000 000, by the scarcer of its reserved resources. */
static uint32_t fullness(const struct snode *n)
{
	double cpu = n->cpu > 0 ? (double)n->cpu_used / (double)n->cpu : 0;
	double mem = n->memory > 0 ? (double)n->memory_used / (double)n->memory : 0;
	double full = cpu > mem ? cpu : mem;
	return full >= 1 ? 1000000 : (uint32_t)(full * 1e6);
}

static struct key key_of(struct sched_batch *b, uint32_t index, uint32_t of_service)
{
	const struct snode *n = &b->s->nodes.data[index];
	struct key k = { .failures = sched_penalty(b->ask.service, index, b->now), .index = index };
	switch (b->strategy) {
	case STRATEGY_SPREAD:
		k.first = of_service;
		k.second = n->tasks;
		break;
	case STRATEGY_BINPACK:
		k.first = 1000000 - fullness(n);
		k.second = UINT32_MAX - n->tasks;
		break;
	case STRATEGY_RANDOM:
		k.first = (uint32_t)mesh_rng_next(b->s->rng);
		break;
	}
	return k;
}

/* ---- heap ---- */

static void sift_down(struct key *h, size_t n, size_t i)
{
	for (;;) {
		size_t best = i, left = 2 * i + 1;
		if (left < n && better(&h[left], &h[best]))
			best = left;
		if (left + 1 < n && better(&h[left + 1], &h[best]))
			best = left + 1;
		if (best == i)
			return;
		struct key t = h[i];
		h[i] = h[best];
		h[best] = t;
		i = best;
	}
}

static void drop_top(struct branch *leaf)
{
	leaf->heap.data[0] = leaf->heap.data[--leaf->heap.len];
	sift_down(leaf->heap.data, leaf->heap.len, 0);
}

/* ---- tree ---- */

static struct branch *child_of(struct branch *b, const char *value)
{
	for (size_t i = 0; i < b->children.len; i++)
		if (!strcmp(b->children.data[i]->value, value))
			return b->children.data[i];
	struct branch *c = XNEW(struct branch);
	c->value = value;
	vec_push(&b->children, c);
	return c;
}

static void branch_fini(struct branch *b)
{
	for (size_t i = 0; i < b->children.len; i++) {
		branch_fini(b->children.data[i]);
		free(b->children.data[i]);
	}
	vec_fini(&b->children);
	vec_fini(&b->heap);
}

static void add_node(struct sched_batch *b, uint32_t index)
{
	const struct snode *n = &b->s->nodes.data[index];
	uint32_t here = counts_get(&b->ask.service->on, index);
	struct branch *at = &b->root;
	at->tasks += here;
	for (size_t level = 0; level < b->depth; level++) {
		const char *value = node_attribute(n->node, b->words[level]);
		at = child_of(at, value ? value : "");
		at->tasks += here;
	}
	/* Full nodes count for their branch but are no candidates. */
	if (ask_dynamic(&b->ask, n, here) == SCHED_OK)
		vec_push(&at->heap, key_of(b, index, here));
}

static void heapify(struct branch *b)
{
	for (size_t i = b->heap.len / 2; i-- > 0;)
		sift_down(b->heap.data, b->heap.len, i);
	for (size_t i = 0; i < b->children.len; i++)
		heapify(b->children.data[i]);
}

/* ---- the batch ---- */

static enum strategy strategy_of(const struct md_task *like)
{
	const char *name = smap_get(&like->service_labels, "mesh.strategy");
	if (name && !strcmp(name, "binpack"))
		return STRATEGY_BINPACK;
	if (name && !strcmp(name, "random"))
		return STRATEGY_RANDOM;
	return STRATEGY_SPREAD;
}

struct sched_batch *sched_batch_new(struct sched *s, const struct md_task *like, int64_t now)
{
	struct sched_batch *b = XNEW(struct sched_batch);
	const struct md_placement *p = like->spec.placement;
	b->s = s;
	b->now = now;
	b->strategy = strategy_of(like);
	ask_init(&b->ask, s, like);
	size_t n = p ? p->preferences.n : 0;
	b->words = xcalloc(n ? n : 1, sizeof(*b->words));
	for (size_t i = 0; i < n; i++)
		if (p->preferences.v[i].spread && p->preferences.v[i].spread->descriptor)
			b->words[b->depth++] = p->preferences.v[i].spread->descriptor;
	if (!b->depth) {
		b->root.heap.cap = s->nodes.len + 1;
		b->root.heap.data = xcalloc(b->root.heap.cap, sizeof(struct key));
	}
	for (uint32_t i = 0; i < s->nodes.len; i++)
		if (ask_static(&b->ask, &s->nodes.data[i]) == SCHED_OK)
			add_node(b, i);
	heapify(&b->root);
	return b;
}

void sched_batch_free(struct sched_batch *b)
{
	if (!b)
		return;
	branch_fini(&b->root);
	ask_fini(&b->ask);
	free(b->words);
	free(b);
}

/* Descends into the branch with the fewest tasks that still has a node; counts on the way back. */
static bool place_in(struct sched_batch *b, struct branch *at, size_t level, uint32_t *index)
{
	if (level == b->depth) {
		if (!at->heap.len)
			return false;
		*index = at->heap.data[0].index;
		at->tasks++;
		return true;
	}
	CLEAN_FREE bool *tried = xcalloc(at->children.len + 1, sizeof(bool));
	for (;;) {
		struct branch *best = NULL;
		size_t which = 0;
		for (size_t i = 0; i < at->children.len; i++)
			if (!tried[i] && (!best || at->children.data[i]->tasks < best->tasks)) {
				best = at->children.data[i];
				which = i;
			}
		if (!best)
			return false;
		if (place_in(b, best, level + 1, index)) {
			at->tasks++;
			return true;
		}
		tried[which] = true;
	}
}

/* The leaf a node belongs to, to move its heap's top after the node's numbers changed. */
static struct branch *leaf_of(struct sched_batch *b, uint32_t index)
{
	struct branch *at = &b->root;
	for (size_t level = 0; level < b->depth; level++) {
		const char *value = node_attribute(b->s->nodes.data[index].node, b->words[level]);
		at = child_of(at, value ? value : "");
	}
	return at;
}

bool sched_place(struct sched_batch *b, struct md_task *t)
{
	uint32_t index;
	if (!place_in(b, &b->root, 0, &index))
		return false;
	struct snode *n = &b->s->nodes.data[index];
	ask_take_generic(&b->ask, n, t);
	mesh_id_set(t->node.s, n->node->meta.id);
	sched_task_count(b->s, t);
	struct branch *leaf = leaf_of(b, index);
	uint32_t here = counts_get(&b->ask.service->on, index);
	if (ask_dynamic(&b->ask, n, here) != SCHED_OK) {
		drop_top(leaf);
		return true;
	}
	leaf->heap.data[0] = key_of(b, index, here);
	sift_down(leaf->heap.data, leaf->heap.len, 0);
	return true;
}

enum sched_filter sched_confirm(struct sched *s, struct md_task *t)
{
	uint32_t index;
	struct snode *n = sched_snode(s, t->node.s, &index);
	if (!n || !n->node)
		return SCHED_NOT_READY;
	sched_task_del(s, t->meta.id);
	struct ask a;
	ask_init(&a, s, t);
	enum sched_filter f = ask_static(&a, n);
	if (f == SCHED_OK)
		f = ask_dynamic(&a, n, counts_get(&a.service->on, index));
	if (f == SCHED_OK) {
		ask_take_generic(&a, n, t);
		sched_task_count(s, t);
	}
	ask_fini(&a);
	return f;
}
