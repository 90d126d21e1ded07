/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/store/store_impl.h"

#include <assert.h>

#include "base/mem.h"

struct tx_touched VEC(const void *);

struct store_tx {
	const struct store *base;
	int64_t now;
	struct map changes[STORE_KIND_MAX]; /* id -> struct store_change */
	struct VEC(struct store_change *) order;
	struct tx_touched touched[STORE_KIND_MAX];
};

struct store_tx *store_tx_new(const struct store *s, int64_t now_ns)
{
	struct store_tx *tx = XNEW(struct store_tx);
	tx->base = s;
	tx->now = now_ns;
	return tx;
}

void store_tx_free(struct store_tx *tx)
{
	if (!tx)
		return;
	for (size_t i = 0; i < tx->order.len; i++) {
		struct store_change *c = tx->order.data[i];
		sch_free(store_kind_schema(c->kind), c->obj);
		free(c);
	}
	vec_fini(&tx->order);
	for (int k = 0; k < STORE_KIND_MAX; k++) {
		map_fini(&tx->changes[k]);
		vec_fini(&tx->touched[k]);
	}
	free(tx);
}

const struct store *store_tx_base(const struct store_tx *tx)
{
	return tx->base;
}

int64_t store_tx_now(const struct store_tx *tx)
{
	return tx->now;
}

const void *store_tx_get(const struct store_tx *tx, enum store_kind k, const char *id)
{
	if (!id)
		return NULL;
	const struct store_change *c = map_get(&tx->changes[k], id);
	return c ? c->obj : store_get(tx->base, k, id);
}

static struct store_change *change_add(struct store_tx *tx, enum store_kind k, const char *id, enum store_op op)
{
	struct store_change *c = XNEW(struct store_change);
	c->op = op;
	c->kind = k;
	mesh_id_set(c->id, id);
	map_put(&tx->changes[k], c->id, c);
	vec_push(&tx->order, c);
	return c;
}

/* Forgets a change: what the store holds shows through again. */
static void change_drop(struct store_tx *tx, struct store_change *c)
{
	map_del(&tx->changes[c->kind], c->id);
	for (size_t i = 0; i < tx->order.len; i++) {
		if (tx->order.data[i] == c) {
			vec_remove(&tx->order, i);
			break;
		}
	}
	free(c);
}

static void untouch(struct store_tx *tx, enum store_kind k, const void *obj)
{
	struct tx_touched *t = &tx->touched[k];
	for (size_t i = 0; i < t->len; i++) {
		if (t->data[i] == obj) {
			vec_remove(t, i);
			return;
		}
	}
}

void *store_tx_create(struct store_tx *tx, enum store_kind k, const char *id)
{
	assert(!store_tx_get(tx, k, id));
	/* Deleted before in this transaction: the two together replace the object. */
	struct store_change *c = map_get(&tx->changes[k], id);
	if (!c)
		c = change_add(tx, k, id, STORE_OP_CREATE);
	else
		c->op = STORE_OP_UPDATE;
	c->touch = true;
	c->obj = sch_new(store_kind_schema(k));
	struct md_meta *m = store_meta(c->obj);
	mesh_id_set(m->id, id);
	m->created_at = m->updated_at = tx->now;
	vec_push(&tx->touched[k], c->obj);
	return c->obj;
}

void *store_tx_edit(struct store_tx *tx, enum store_kind k, const char *id)
{
	if (!id)
		return NULL;
	struct store_change *c = map_get(&tx->changes[k], id);
	if (c)
		return c->obj;
	const struct md_meta *have = store_get(tx->base, k, id);
	if (!have)
		return NULL;
	c = change_add(tx, k, id, STORE_OP_UPDATE);
	c->base = have->rev;
	c->obj = sch_dup(store_kind_schema(k), have);
	vec_push(&tx->touched[k], c->obj);
	return c->obj;
}

void store_tx_delete(struct store_tx *tx, enum store_kind k, const char *id)
{
	if (!id)
		return;
	struct store_change *c = map_get(&tx->changes[k], id);
	if (!c) {
		const struct md_meta *have = store_get(tx->base, k, id);
		if (have)
			change_add(tx, k, id, STORE_OP_DELETE)->base = have->rev;
		return;
	}
	if (!c->obj)
		return;
	untouch(tx, k, c->obj);
	sch_free(store_kind_schema(k), c->obj);
	c->obj = NULL;
	c->touch = false;
	if (c->op == STORE_OP_CREATE)
		change_drop(tx, c);
	else
		c->op = STORE_OP_DELETE;
}

void store_tx_touch_version(struct store_tx *tx, void *obj)
{
	for (int k = 0; k < STORE_KIND_MAX; k++) {
		struct store_change *c = map_get(&tx->changes[k], store_meta(obj)->id);
		if (!c || c->obj != obj)
			continue;
		c->touch = true;
		store_meta(obj)->updated_at = tx->now;
		return;
	}
	assert(!"object is not part of this transaction");
}

/* Edits that changed nothing are left out; if the store has moved on, the command must be refused, so it stays. */
static bool changes_something(const struct store_tx *tx, const struct store_change *c)
{
	if (c->op != STORE_OP_UPDATE || c->touch)
		return true;
	const struct md_meta *have = store_get(tx->base, c->kind, c->id);
	if (!have || have->rev != c->base)
		return true;
	return !sch_equal(store_kind_schema(c->kind), have, c->obj);
}

size_t store_tx_changes(struct store_tx *tx)
{
	size_t n = 0;
	for (size_t i = 0; i < tx->order.len; i++)
		n += changes_something(tx, tx->order.data[i]);
	return n;
}

size_t store_tx_touched(const struct store_tx *tx, enum store_kind k, const void *const **out)
{
	*out = tx->touched[k].data;
	return tx->touched[k].len;
}

void store_tx_encode(struct store_tx *tx, struct buf *out)
{
	struct VEC(struct store_change *) live = { 0 };
	for (size_t i = 0; i < tx->order.len; i++)
		if (changes_something(tx, tx->order.data[i]))
			vec_push(&live, tx->order.data[i]);
	buf_put_u8(out, STORE_COMMAND_VERSION);
	buf_put_varint(out, live.len);
	for (size_t i = 0; i < live.len; i++) {
		struct store_change *c = live.data[i];
		/* A task's version follows every change of it, and so does the time of its update. */
		if (c->kind == STORE_TASK && c->obj)
			store_meta(c->obj)->updated_at = tx->now;
		store_change_encode(c, out);
	}
	vec_fini(&live);
}
