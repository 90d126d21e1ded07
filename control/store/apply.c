/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/store/store_impl.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"

/* ---- may it be applied? ---- */

/* What a command says of an id, and which of its objects claims a name, per kind. */
struct claims {
	struct map ids[STORE_KIND_MAX];   /* id -> struct store_change */
	struct map names[STORE_KIND_MAX]; /* name -> struct store_change */
};

static void claims_fini(struct claims *c)
{
	for (int k = 0; k < STORE_KIND_MAX; k++) {
		map_fini(&c->ids[k]);
		map_fini(&c->names[k]);
	}
}

static int check_sequence(const struct store *s, const struct store_change *c, struct mesh_err *err)
{
	const struct md_meta *have = store_get(s, c->kind, c->id);
	const char *kind = store_kind_name(c->kind);
	if (c->op == STORE_OP_CREATE)
		return have ? mesh_fail(err, MESH_E_OUT_OF_SEQUENCE, "%s %s already exists", kind, c->id) : 0;
	if (!have)
		return mesh_fail(err, MESH_E_OUT_OF_SEQUENCE, "update out of sequence: %s %s is gone", kind, c->id);
	if (have->rev != c->base)
		return mesh_fail(err, MESH_E_OUT_OF_SEQUENCE, "update out of sequence: %s %s has changed", kind, c->id);
	return 0;
}

static int name_taken(enum store_kind k, const char *name, struct mesh_err *err)
{
	return mesh_fail(err, MESH_E_CONFLICT, "name conflicts with an existing object: %s %s already exists",
	                 store_kind_name(k), name);
}

/* The holder in the store stands in the way unless this very command renames or deletes it. */
static bool holder_stays(const struct claims *claims, const struct store_change *c, const char *name,
                         const void *holder)
{
	const struct md_meta *m = holder;
	if (strcmp(m->id, c->id) == 0)
		return false;
	const struct store_change *its = map_get(&claims->ids[c->kind], m->id);
	if (!its)
		return true;
	return its->obj && streq(store_name_of(c->kind, its->obj), name);
}

static int check_name(const struct store *s, struct claims *claims, struct store_change *c, struct mesh_err *err)
{
	const char *name = c->obj && store_names_unique(c->kind) ? store_name_of(c->kind, c->obj) : NULL;
	if (!name || !*name)
		return 0;
	if (map_put(&claims->names[c->kind], name, c))
		return name_taken(c->kind, name, err);
	const struct store_olist *holders = store_name_holders(s, c->kind, name);
	for (size_t i = 0; holders && i < holders->n; i++)
		if (holders->v[i] && holder_stays(claims, c, name, holders->v[i]))
			return name_taken(c->kind, name, err);
	return 0;
}

static int check_single_cluster(const struct store *s, const struct store_change *c, struct mesh_err *err)
{
	if (c->kind == STORE_CLUSTER && c->op == STORE_OP_CREATE && store_cluster(s))
		return mesh_fail(err, MESH_E_CONFLICT, "this store already holds a cluster");
	return 0;
}

static int check(const struct store *s, const struct store_command *cmd, struct mesh_err *err)
{
	struct claims claims = { 0 };
	int rc = 0;
	for (size_t i = 0; !rc && i < cmd->len; i++) {
		struct store_change *c = &cmd->data[i];
		if (map_put(&claims.ids[c->kind], c->id, c))
			rc = mesh_fail(err, MESH_E_CORRUPT, "store command: %s %s changed twice",
			               store_kind_name(c->kind), c->id);
	}
	for (size_t i = 0; !rc && i < cmd->len; i++) {
		rc = check_sequence(s, &cmd->data[i], err);
		if (!rc)
			rc = check_single_cluster(s, &cmd->data[i], err);
		if (!rc)
			rc = check_name(s, &claims, &cmd->data[i], err);
	}
	claims_fini(&claims);
	return rc;
}

/* ---- applying ---- */

/* Versions are the store's to give, whatever the command's object says. */
static void stamp(struct store_change *c, const struct md_meta *old, uint64_t index)
{
	struct md_meta *m = store_meta(c->obj);
	m->rev = index;
	if (c->op == STORE_OP_CREATE || c->touch || c->kind == STORE_TASK)
		m->version.index = index;
	else
		m->version = old->version;
	if (old)
		m->created_at = old->created_at;
}

static void change_apply(struct store *s, uint64_t index, struct store_change *c, struct store_events *evs)
{
	if (c->op == STORE_OP_DELETE) {
		void *old = store_remove(s, c->kind, c->id);
		vec_push(evs, ((struct store_event){ STORE_DELETED, c->kind, old, NULL }));
		return;
	}
	stamp(c, store_get(s, c->kind, c->id), index);
	void *new = TAKE(c->obj);
	void *old = store_put(s, c->kind, new);
	vec_push(evs, ((struct store_event){ old ? STORE_UPDATED : STORE_CREATED, c->kind, old, new }));
}

int store_apply(struct store *s, uint64_t index, const void *cmd, size_t n, struct mesh_err *err)
{
	assert(!s->calling);
	struct store_command c;
	int rc = store_command_decode(cmd, n, &c, err);
	if (rc)
		return rc;
	s->index = index;
	rc = check(s, &c, err);
	if (!rc) {
		struct store_events evs = { 0 };
		for (size_t i = 0; i < c.len; i++)
			change_apply(s, index, &c.data[i], &evs);
		store_emit(s, &evs);
	}
	store_command_fini(&c);
	return rc;
}

/* ---- watching ---- */

void store_watch(struct store *s, store_watch_fn fn, void *arg)
{
	vec_push(&s->watchers, ((struct store_watcher){ fn, arg }));
}

static void sweep_watchers(struct store *s)
{
	for (size_t i = s->watchers.len; i-- > 0;)
		if (!s->watchers.data[i].fn)
			vec_remove(&s->watchers, i);
}

void store_unwatch(struct store *s, store_watch_fn fn, void *arg)
{
	for (size_t i = 0; i < s->watchers.len; i++) {
		struct store_watcher *w = &s->watchers.data[i];
		if (w->fn == fn && w->arg == arg) {
			w->fn = NULL;
			break;
		}
	}
	if (!s->calling)
		sweep_watchers(s);
}

void store_emit(struct store *s, struct store_events *evs)
{
	/* Who registers during the round has already seen the new state. */
	size_t watchers = s->watchers.len;
	s->calling = true;
	for (size_t i = 0; i < evs->len; i++)
		for (size_t w = 0; w < watchers; w++)
			if (s->watchers.data[w].fn)
				s->watchers.data[w].fn(s->watchers.data[w].arg, &evs->data[i]);
	s->calling = false;
	sweep_watchers(s);
	for (size_t i = 0; i < evs->len; i++)
		sch_free(store_kind_schema(evs->data[i].object), (void *)evs->data[i].old);
	vec_fini(evs);
}
