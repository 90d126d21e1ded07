/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several files into one: a later file adds to lists and mappings and replaces everything else. */
#include <string.h>

#include "cli/compose/schema.h"

static void merge_object(struct check *ck, const struct key *table, struct cv *base, struct cv *over);

static bool same_text(const struct cv *a, const struct cv *b, const char *name)
{
	return !strcmp(cv_at(a, name), cv_at(b, name));
}

static bool same_item(const struct key *k, const struct cv *a, const struct cv *b)
{
	if (k->flags & K_BY_SOURCE)
		return same_text(a, b, "source");
	if (k->flags & K_BY_TARGET)
		return same_text(a, b, "target");
	if (k->flags & K_BY_PORT)
		return same_text(a, b, "published") && same_text(a, b, "protocol") &&
		       (cv_get(a, "published") || same_text(a, b, "target"));
	return cv_equal(a, b);
}

static void merge_list(struct check *ck, const struct key *k, struct cv *base, struct cv *over)
{
	uint32_t had = base->n;

	CV_EACH(over, it)
	{
		uint32_t i = 0;
		while (i < had && !same_item(k, base->items[i].v, it->v))
			i++;
		if (i < had)
			base->items[i].v = it->v;
		else
			cv_add(ck->a, base, it->v);
	}
}

static void merge_named(struct check *ck, const struct key *k, struct cv *base, struct cv *over)
{
	CV_EACH(over, it)
	{
		struct cv *old = cv_get(base, it->key);
		if (it->v->flags & CV_RESET)
			cv_del(base, it->key);
		else if (cv_is(old, CV_MAP) && it->v->kind == CV_MAP && !(it->v->flags & CV_OVERRIDE))
			merge_object(ck, k->sub, old, it->v);
		else if (!old || it->v->kind != CV_NULL)
			cv_set(ck->a, base, it->key, it->v);
	}
}

static bool merges(const struct key *k, const struct cv *old, const struct cv *v)
{
	if (!old || old->kind != v->kind || old->kind < CV_LIST || (v->flags & CV_OVERRIDE) || (k->flags & K_REPLACE))
		return false;
	/* Options of one log driver mean nothing to another. */
	return strcmp(k->name, "logging") || !cv_get(v, "driver") || same_text(old, v, "driver");
}

static void merge_key(struct check *ck, const struct key *k, struct cv *base, struct cv *v)
{
	struct cv *old = cv_get(base, k->name);

	if (v->flags & CV_RESET) {
		cv_del(base, k->name);
	} else if (!merges(k, old, v)) {
		if (!old || v->kind != CV_NULL)
			cv_set(ck->a, base, k->name, v);
	} else if (k->shape == SH_OBJ) {
		merge_object(ck, k->sub, old, v);
	} else if (k->shape == SH_MAP) {
		merge_named(ck, k, old, v);
	} else if (old->kind == CV_MAP) {
		CV_EACH(v, it)
		{
			if (it->v->flags & CV_RESET)
				cv_del(old, it->key);
			else
				cv_set(ck->a, old, it->key, it->v);
		}
	} else {
		merge_list(ck, k, old, v);
	}
}

static void merge_object(struct check *ck, const struct key *table, struct cv *base, struct cv *over)
{
	CV_EACH(over, it)
	{
		const struct key *k = key_find(table, it->key);
		if (k)
			merge_key(ck, k, base, it->v);
		else
			cv_set(ck->a, base, it->key, it->v);
	}
}

void merge_trees(struct check *ck, struct cv *base, struct cv *over)
{
	merge_object(ck, compose_root, base, over);
}
