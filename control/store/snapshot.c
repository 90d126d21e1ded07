/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Format: "MSHS", u32 version, u64 index of the last command, u64 number of objects, then of each, by kind and
 * in order of creation: u8 kind, varint length, the object by sch_encode.
 */
#include "control/store/store_impl.h"

#include "base/mem.h"

#define SNAPSHOT_MAGIC 0x5348534dU /* "MSHS" */
#define SNAPSHOT_VERSION 1

void store_snapshot_encode(const struct store *s, struct buf *out)
{
	uint64_t count = 0;
	for (int k = 0; k < STORE_KIND_MAX; k++)
		count += store_count(s, (enum store_kind)k);
	buf_put_u32(out, SNAPSHOT_MAGIC);
	buf_put_u32(out, SNAPSHOT_VERSION);
	buf_put_u64(out, s->index);
	buf_put_u64(out, count);
	struct buf body = { 0 };
	for (int k = 0; k < STORE_KIND_MAX; k++) {
		struct store_list l = store_all(s, (enum store_kind)k);
		for (size_t i = 0; i < l.n; i++) {
			buf_clear(&body);
			sch_encode(store_kind_schema((enum store_kind)k), l.v[i], &body);
			buf_put_u8(out, (uint8_t)k);
			buf_put_varint(out, body.len);
			buf_put(out, body.data, body.len);
		}
	}
	if (body.cap)
		mesh_wipe(body.data, body.cap);
	buf_fini(&body);
}

/* What is wrong with the bytes of one object, or NULL. */
static const char *object_decode(struct store *s, struct rd *r)
{
	unsigned k = rd_u8(r);
	uint64_t n = rd_varint(r);
	const uint8_t *p = rd_bytes(r, n);
	if (!p)
		return "cut short";
	if (k >= STORE_KIND_MAX)
		return "unknown kind of object";
	const struct schema *schema = store_kind_schema((enum store_kind)k);
	struct md_meta *obj = sch_new(schema);
	const char *wrong = NULL;
	if (sch_decode(schema, obj, p, n) || !obj->id[0])
		wrong = "bad object";
	else if (store_row(s, (enum store_kind)k, obj->id))
		wrong = "object twice";
	if (wrong)
		sch_free(schema, obj);
	else
		(void)store_put(s, (enum store_kind)k, obj); /* nothing is replaced: the id is new */
	return wrong;
}

int store_snapshot_decode(struct store *s, const void *p, size_t n, struct mesh_err *err)
{
	struct rd r = rd_of(p, n);
	uint32_t magic = rd_u32(&r), version = rd_u32(&r);
	uint64_t index = rd_u64(&r), count = rd_u64(&r);
	if (r.bad || magic != SNAPSHOT_MAGIC)
		return mesh_fail(err, MESH_E_CORRUPT, "store snapshot: not a snapshot");
	if (version != SNAPSHOT_VERSION)
		return mesh_fail(err, MESH_E_VERSION, "store snapshot: version %u, this program knows %d", version,
		                 SNAPSHOT_VERSION);
	for (uint64_t i = 0; i < count; i++) {
		const char *wrong = object_decode(s, &r);
		if (wrong)
			return mesh_fail(err, MESH_E_CORRUPT, "store snapshot: object %llu: %s", (unsigned long long)i,
			                 wrong);
	}
	if (rd_left(&r))
		return mesh_fail(err, MESH_E_CORRUPT, "store snapshot: bytes after the last object");
	s->index = index;
	return 0;
}

/* ---- into a store in use ---- */

/* Swaps everything but who watches. */
static void swap_contents(struct store *a, struct store *b)
{
	struct store t = *a;
	*a = *b;
	*b = t;
	b->watchers = a->watchers;
	a->watchers = t.watchers;
}

/* What the watchers of now must hear to get from old to now. Objects that did not change are still other pointers. */
static void difference(const struct store *now, struct store *old, struct store_events *evs)
{
	for (int i = 0; i < STORE_KIND_MAX; i++) {
		enum store_kind k = (enum store_kind)i;
		struct store_list gone = store_all(old, k), have = store_all(now, k);
		for (size_t j = 0; j < gone.n; j++) {
			const struct md_meta *m = gone.v[j];
			if (!store_get(now, k, m->id))
				vec_push(evs, ((struct store_event){ STORE_DELETED, k, m, NULL }));
		}
		for (size_t j = 0; j < have.n; j++) {
			const struct md_meta *m = have.v[j], *was = store_get(old, k, m->id);
			if (!was)
				vec_push(evs, ((struct store_event){ STORE_CREATED, k, NULL, m }));
			else if (was->rev != m->rev)
				vec_push(evs, ((struct store_event){ STORE_UPDATED, k, was, m }));
		}
	}
	/* The events own their old objects from here. */
	for (size_t i = 0; i < evs->len; i++)
		if (evs->data[i].old)
			(void)store_remove(old, evs->data[i].object, ((const struct md_meta *)evs->data[i].old)->id);
}

int store_snapshot_restore(struct store *s, const void *p, size_t n, struct mesh_err *err)
{
	struct store *fresh = store_new();
	int rc = store_snapshot_decode(fresh, p, n, err);
	if (rc) {
		store_free(fresh);
		return rc;
	}
	struct store_events evs = { 0 };
	swap_contents(s, fresh);
	difference(s, fresh, &evs);
	store_emit(s, &evs);
	store_free(fresh);
	return 0;
}
