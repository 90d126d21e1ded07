/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes by what a placement asks of them. Services that ask for the same share one struct fit, which follows every
 * change of a node: so a placement evaluates no constraint and reads no label.
 */
#include "base/buf.h"
#include "control/scheduler/nodes.h"

#define FITS_MAX 256 /* more than this: those that nobody uses now are forgotten */

static uint32_t branch_new(struct fit *f, uint32_t parent, const char *value)
{
	struct branch fresh = { .value = xstrdup(value), .parent = parent };
	vec_push(&f->branches, fresh);
	return (uint32_t)f->branches.len - 1;
}

/* Children are in the order of their values, so that ties do not depend on who came first. */
static uint32_t child_of(struct fit *f, uint32_t parent, const char *value)
{
	const struct branch *p = &f->branches.data[parent];
	size_t low = 0, high = p->children.len;
	while (low < high) {
		size_t mid = (low + high) / 2;
		int d = strcmp(f->branches.data[p->children.data[mid]].value, value);
		if (!d)
			return p->children.data[mid];
		low = d < 0 ? mid + 1 : low;
		high = d < 0 ? high : mid;
	}
	uint32_t child = branch_new(f, parent, value);
	struct branch *q = &f->branches.data[parent]; /* the branches may have moved */
	vec_push(&q->children, child);
	memmove(&q->children.data[low + 1], &q->children.data[low], (q->children.len - 1 - low) * sizeof(child));
	q->children.data[low] = child;
	return child;
}

static uint32_t leaf_for(struct fit *f, const struct md_node *node)
{
	uint32_t at = 0;
	if (!node || constraints_unmet(&f->constraints, node) >= 0 || !platform_ok(f->placement, node))
		return NO_BRANCH;
	for (size_t level = 0; level < f->depth; level++) {
		const char *value = node_attribute(node, f->words[level]);
		at = child_of(f, at, value ? value : "");
	}
	return at;
}

static void update(struct fit *f, const struct md_node *node, uint32_t index)
{
	uint32_t leaf = leaf_for(f, node), was = fit_leaf(f, index);
	while (f->leaf.len <= index)
		vec_push(&f->leaf, NO_BRANCH);
	if (leaf == was)
		return;
	if (was != NO_BRANCH)
		bits_clear(&f->branches.data[was].nodes, index);
	if (leaf != NO_BRANCH)
		bits_set(&f->branches.data[leaf].nodes, index);
	f->leaf.data[index] = leaf;
}

uint32_t fit_leaf(const struct fit *f, uint32_t index)
{
	return index < f->leaf.len ? f->leaf.data[index] : NO_BRANCH;
}

void fits_node_changed(struct sched *s, uint32_t index)
{
	MAP_FOREACH(&s->fits, e)
		update(e->value, s->nodes.data[index].node, index);
}

/* What decides where tasks may go: everything of the placement but the count of replicas. */
static void key_of(const struct md_placement *p, struct buf *out)
{
	for (size_t i = 0; p && i < p->constraints.n; i++)
		buf_printf(out, "c%s\n", p->constraints.v[i]);
	for (size_t i = 0; p && i < p->platforms.n; i++)
		buf_printf(out, "p%s\t%s\n", p->platforms.v[i].os ? p->platforms.v[i].os : "",
		           p->platforms.v[i].architecture ? p->platforms.v[i].architecture : "");
	for (size_t i = 0; p && i < p->preferences.n; i++)
		if (p->preferences.v[i].spread && p->preferences.v[i].spread->descriptor)
			buf_printf(out, "s%s\n", p->preferences.v[i].spread->descriptor);
}

static void fit_free(struct fit *f)
{
	for (size_t i = 0; i < f->branches.len; i++) {
		free(f->branches.data[i].value);
		vec_fini(&f->branches.data[i].children);
		bits_fini(&f->branches.data[i].nodes);
	}
	vec_fini(&f->branches);
	vec_fini(&f->leaf);
	constraints_fini(&f->constraints);
	sch_free(&md_placement_schema, f->placement);
	free(f->words);
	free(f);
}

static struct fit *fit_new(struct sched *s, const struct md_placement *p)
{
	struct fit *f = XNEW(struct fit);
	f->placement = p ? sch_dup(&md_placement_schema, p) : sch_new(&md_placement_schema);
	p = f->placement;
	/* The API refused bad ones; one that slipped through (older version) must not match everything. */
	struct mesh_err err = { 0 };
	if (constraints_parse(&p->constraints, &f->constraints, &err)) {
		f->constraints.v = XNEW(struct constraint);
		f->constraints.v[0] = (struct constraint){ .key = CONSTRAINT_ID, .value = xstrdup(err.msg) };
		f->constraints.n = 1;
	}
	f->words = xcalloc(p->preferences.n + 1, sizeof(*f->words));
	for (size_t i = 0; i < p->preferences.n; i++)
		if (p->preferences.v[i].spread && p->preferences.v[i].spread->descriptor)
			f->words[f->depth++] = p->preferences.v[i].spread->descriptor;
	(void)branch_new(f, 0, "");
	for (uint32_t i = 0; i < s->nodes.len; i++)
		update(f, s->nodes.data[i].node, i);
	return f;
}

static void forget_unused(struct sched *s)
{
	MAP_FOREACH(&s->fits, e) {
		struct fit *f = e->value;
		if (f->refs)
			continue;
		map_del(&s->fits, e->key);
		fit_free(f);
	}
}

struct fit *fit_ref(struct sched *s, const struct md_placement *p)
{
	struct buf text = { 0 };
	key_of(p, &text);
	CLEAN_FREE char *key = buf_take_str(&text);
	struct fit *f = map_get(&s->fits, key);
	if (!f) {
		if (s->fits.count >= FITS_MAX)
			forget_unused(s);
		f = fit_new(s, p);
		map_put(&s->fits, key, f);
	}
	f->refs++;
	return f;
}

void fit_unref(struct fit *f)
{
	f->refs--;
}

void fits_free(struct sched *s)
{
	MAP_FOREACH(&s->fits, e)
		fit_free(e->value);
	map_fini(&s->fits);
}

size_t fits_bytes(const struct sched *s)
{
	size_t n = 0;
	MAP_FOREACH(&s->fits, e) {
		const struct fit *f = e->value;
		n += sizeof(*f) + f->leaf.cap * sizeof(uint32_t);
		for (size_t i = 0; i < f->branches.len; i++)
			n += sizeof(struct branch) + f->branches.data[i].nodes.n_words * 8;
	}
	return n;
}
