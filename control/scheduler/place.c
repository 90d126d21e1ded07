/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Placing a batch. Who may take a task at all is a set that struct fit keeps; who has how many tasks is a set per
 * number. So a choice is the intersection of a few sets, and looks closely only at nodes that turn out to be full, once
 * a batch.
 */
#include "control/scheduler/nodes.h"

/* Among no more nodes than this, a look at each beats the intersection with the sets by number of tasks. */
#define FEW 64

enum strategy { STRATEGY_SPREAD, STRATEGY_BINPACK, STRATEGY_RANDOM };

/* Smaller is better; compared in this order. */
struct key {
	uint32_t failures, first, second, index;
};
struct sched_batch {
	struct sched *s;
	struct ask ask;
	enum strategy strategy;
	int64_t now;
	size_t n_words;               /* of a set of all nodes */
	uint64_t *set;                /* scratch: the candidates of this choice */
	uint64_t *tasks;              /* branch -> tasks of this service on ready nodes */
	uint32_t *last;               /* branch -> the node chosen last, + 1: what binpack fills first */
	struct bits out;              /* full ones, and those below */
	struct bits bad;              /* too many failures: only when there is nothing else */
	struct VEC(struct bits) have; /* number of tasks of this service -> nodes; [0]: nodes with any */
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

static struct key key_of(struct sched_batch *b, uint32_t index)
{
	uint32_t of_service = counts_get(&b->ask.service->on, index);
	const struct snode *n = &b->s->nodes.data[index];
	bool bad = bits_has(&b->bad, index);
	struct key k = { .failures = bad ? sched_penalty(b->ask.service, index, b->now) : 0, .index = index };
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

/* ---- who has how many ---- */

static void have_add(struct sched_batch *b, uint32_t index, uint32_t n)
{
	struct bits none = { 0 };
	while (b->have.len <= n)
		vec_push(&b->have, none);
	if (n > 1)
		bits_clear(&b->have.data[n - 1], index);
	bits_set(&b->have.data[0], index);
	bits_set(&b->have.data[n], index);
}

static void count_up(struct sched_batch *b, uint32_t leaf, uint32_t n)
{
	for (uint32_t at = leaf; at; at = b->ask.fit->branches.data[at].parent)
		b->tasks[at] += n;
}

/* Full nodes count for their branch but are no candidates. */
static void count_service(struct sched_batch *b)
{
	const struct counts *on = &b->ask.service->on;
	for (uint32_t i = 0; i < on->cap; i++) {
		if (!on->slots[i].key || !on->slots[i].value)
			continue;
		uint32_t index = on->slots[i].key - 1, leaf = fit_leaf(b->ask.fit, index);
		have_add(b, index, on->slots[i].value);
		if (leaf != NO_BRANCH && bits_has(&b->s->ready, index))
			count_up(b, leaf, on->slots[i].value);
	}
	const struct sservice *v = b->ask.service;
	for (size_t i = 0; i < v->failures.len; i++)
		if (sched_fail_counts(&v->failures.data[i], b->now)) {
			bits_set(&b->bad, v->failures.data[i].node);
			bits_set(&b->out, v->failures.data[i].node);
		}
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
	b->s = s;
	b->now = now;
	b->strategy = strategy_of(like);
	ask_init(&b->ask, s, like);
	b->n_words = s->nodes.len / 64 + 1;
	b->set = xcalloc(b->n_words, sizeof(*b->set));
	b->tasks = xcalloc(b->ask.fit->branches.len, sizeof(*b->tasks));
	b->last = xcalloc(b->ask.fit->branches.len, sizeof(*b->last));
	vec_push(&b->have, (struct bits){ 0 });
	count_service(b);
	return b;
}

void sched_batch_free(struct sched_batch *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->have.len; i++)
		bits_fini(&b->have.data[i]);
	vec_fini(&b->have);
	bits_fini(&b->out);
	bits_fini(&b->bad);
	ask_fini(&b->ask);
	free(b->set);
	free(b->tasks);
	free(b->last);
	free(b);
}

/* ---- one choice within a leaf ---- */

/* May it take one more? One that may not is out for the rest of the batch: nothing gets free within it. */
static bool takes(struct sched_batch *b, uint32_t index)
{
	if (ask_dynamic(&b->ask, &b->s->nodes.data[index], counts_get(&b->ask.service->on, index)) == SCHED_OK)
		return true;
	bits_set(&b->out, index);
	return false;
}

/* Candidates with so many tasks of the service into b->set; of any number with ANY. Returns how many. */
#define ANY UINT32_MAX
static uint32_t candidates(struct sched_batch *b, const struct bits *leaf, uint32_t have)
{
	uint32_t n = 0;
	for (size_t w = 0; w < b->n_words; w++) {
		uint64_t m = bits_word(leaf, w) & bits_word(&b->s->ready, w) & ~bits_word(&b->out, w);
		if (!have)
			m &= ~bits_word(&b->have.data[0], w);
		else if (have != ANY)
			m &= bits_word(&b->have.data[have], w);
		b->set[w] = m;
		n += (uint32_t)__builtin_popcountll(m);
	}
	return n;
}

/* A look at each of the set. */
static bool best_of(struct sched_batch *b, uint32_t *index)
{
	struct key best = { 0 };
	bool any = false;
	for (size_t w = 0; w < b->n_words; w++)
		BITS_EACH(b->set[w], (uint32_t)w * 64, i)
		{
			if (!takes(b, i))
				continue;
			struct key k = key_of(b, i);
			if (!any || better(&k, &best))
				best = k;
			any = true;
		}
	*index = best.index;
	return any;
}

static bool fewest_tasks(struct sched_batch *b, uint32_t *index)
{
	for (size_t t = 0; t < b->s->by_tasks.len; t++) {
		const struct bits *these = &b->s->by_tasks.data[t];
		for (size_t w = 0; these->count && w < b->n_words; w++)
			BITS_EACH(b->set[w] & bits_word(these, w), (uint32_t)w * 64, i)
		if (takes(b, i)) {
			*index = i;
			return true;
		}
	}
	return false;
}

static bool spread(struct sched_batch *b, const struct bits *leaf, uint32_t *index)
{
	for (uint32_t have = 0; have < b->have.len; have++) {
		if (have && !b->have.data[have].count)
			continue;
		uint32_t n = candidates(b, leaf, have);
		if (n && (n <= FEW ? best_of(b, index) : fewest_tasks(b, index)))
			return true;
	}
	return false;
}

static uint32_t nth(const struct sched_batch *b, uint32_t n)
{
	for (size_t w = 0; w < b->n_words; w++) {
		uint32_t here = (uint32_t)__builtin_popcountll(b->set[w]);
		if (n >= here) {
			n -= here;
			continue;
		}
		BITS_EACH(b->set[w], (uint32_t)w * 64, i)
		if (n-- == 0)
			return i;
	}
	return 0;
}

static bool at_random(struct sched_batch *b, const struct bits *leaf, uint32_t *index)
{
	for (;;) {
		uint32_t n = candidates(b, leaf, ANY);
		if (!n)
			return false;
		*index = nth(b, (uint32_t)mesh_rng_below(b->s->rng, n));
		if (takes(b, *index))
			return true;
	}
}

/* The fullest stays the fullest while it is filled. */
static bool binpack(struct sched_batch *b, uint32_t leaf, uint32_t *index)
{
	if (b->last[leaf] && !bits_has(&b->out, b->last[leaf] - 1) && takes(b, b->last[leaf] - 1)) {
		*index = b->last[leaf] - 1;
		return true;
	}
	return candidates(b, &b->ask.fit->branches.data[leaf].nodes, ANY) && best_of(b, index);
}

static bool bad_ones(struct sched_batch *b, const struct bits *leaf, uint32_t *index)
{
	for (size_t w = 0; b->bad.count && w < b->n_words; w++)
		b->set[w] = bits_word(leaf, w) & bits_word(&b->s->ready, w) & bits_word(&b->bad, w);
	return b->bad.count && best_of(b, index);
}

static bool choose(struct sched_batch *b, uint32_t leaf, uint32_t *index)
{
	const struct bits *nodes = &b->ask.fit->branches.data[leaf].nodes;
	bool ok = b->strategy == STRATEGY_BINPACK  ? binpack(b, leaf, index)
	          : b->strategy == STRATEGY_RANDOM ? at_random(b, nodes, index)
	                                           : spread(b, nodes, index);
	return ok || bad_ones(b, nodes, index);
}

/* Descends into the branch with the fewest tasks that still has a node. */
static bool place_in(struct sched_batch *b, uint32_t at, size_t level, uint32_t *index)
{
	const struct branch *here = &b->ask.fit->branches.data[at];
	if (level == b->ask.fit->depth)
		return choose(b, at, index);
	CLEAN_FREE bool *tried = xcalloc(here->children.len + 1, sizeof(bool));
	for (;;) {
		size_t which = SIZE_MAX;
		for (size_t i = 0; i < here->children.len; i++)
			if (!tried[i] && (which == SIZE_MAX ||
			                  b->tasks[here->children.data[i]] < b->tasks[here->children.data[which]]))
				which = i;
		if (which == SIZE_MAX)
			return false;
		if (place_in(b, here->children.data[which], level + 1, index))
			return true;
		tried[which] = true;
	}
}

bool sched_place(struct sched_batch *b, struct md_task *t)
{
	uint32_t index;
	if (!place_in(b, 0, 0, &index))
		return false;
	struct snode *n = &b->s->nodes.data[index];
	uint32_t leaf = fit_leaf(b->ask.fit, index);
	ask_take_generic(&b->ask, n, t);
	mesh_id_set(t->node.s, n->node->meta.id);
	sched_task_count(b->s, t);
	have_add(b, index, counts_get(&b->ask.service->on, index));
	count_up(b, leaf, 1);
	b->last[leaf] = index + 1;
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
