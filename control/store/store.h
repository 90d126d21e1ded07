/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    all objects of the cluster in memory, indexed, with change events. The only way in is a command
 *          that went through the Raft log: a transaction collects new versions of objects, is encoded,
 *          proposed, and applied on every manager alike. Decisions (scheduler, orchestrators, API) are
 *          functions from (transaction, now) to the changes they put into it.
 * Pure:    no clock, randomness, sockets or JSON. Applying the same commands gives the same store.
 * Owner:   the store owns its objects; what store_get returns is borrowed and valid until the next apply.
 *          Objects in the store are never changed in place.
 * Thread:  one.
 */
#ifndef CONTROL_STORE_STORE_H
#define CONTROL_STORE_STORE_H

#include "base/buf.h"
#include "base/map.h"
#include "control/model/model.h"

enum store_kind {
	STORE_CLUSTER,
	STORE_NODE,
	STORE_SERVICE,
	STORE_TASK,
	STORE_NETWORK,
	STORE_SECRET,
	STORE_CONFIG,
	STORE_KIND_MAX
};
/* "cluster", "node", ... and the schema of each kind. */
const char *store_kind_name(enum store_kind k);
const struct schema *store_kind_schema(enum store_kind k);

struct store;
struct store *store_new(void);
void store_free(struct store *s);

/* ---- reading ---- */

/* By exact id; NULL when absent. Cast to the kind's struct; all start with struct md_meta. */
const void *store_get(const struct store *s, enum store_kind k, const char *id);
/* By name (nodes: hostname), NULL when absent or, for nodes, ambiguous. */
const void *store_by_name(const struct store *s, enum store_kind k, const char *name);
/* A service as labels of another name it: its name, or its name within the stack the labels say. NULL when absent. */
const struct md_service *store_service_named(const struct store *s, const struct str_map *labels, const char *name);
/*
 * As the API addresses objects: full id, else name, else unique id prefix.
 * MESH_E_NOT_FOUND "service nope not found"; MESH_E_INVALID when ambiguous.
 */
int store_find(const struct store *s, enum store_kind k, const char *ref, const void **out,
               struct mesh_err *err) MESH_MUST_CHECK;
size_t store_count(const struct store *s, enum store_kind k);
/* All objects of a kind in creation order: for (i = 0; i < n; i++) v[i]. Borrowed. */
struct store_list {
	const void *const *v;
	size_t n;
};
struct store_list store_all(const struct store *s, enum store_kind k);
struct store_list store_tasks_of_service(const struct store *s, const char *service);
struct store_list store_tasks_of_node(const struct store *s, const char *node);
/* The one cluster object, or NULL before init. */
const struct md_cluster *store_cluster(const struct store *s);
/* Index of the last command applied. */
uint64_t store_index(const struct store *s);

#define STORE_EACH(s, kind, type, var)                                                                                 \
	for (struct store_list var##_l = store_all((s), (kind)), *var##_once = &var##_l; var##_once;                   \
	     var##_once = NULL)                                                                                        \
		for (size_t var##_i = 0; var##_i < var##_l.n; var##_i++)                                               \
			for (const type *var = var##_l.v[var##_i]; var; var = NULL)

/* ---- transactions ---- */

/*
 * Sees the store through its own changes. Several transactions may be open; each carries the rev of
 * every object it changes, and a command whose objects moved meanwhile is refused when it is applied.
 */
struct store_tx;
struct store_tx *store_tx_new(const struct store *s, int64_t now_ns);
void store_tx_free(struct store_tx *tx);
const struct store *store_tx_base(const struct store_tx *tx);
int64_t store_tx_now(const struct store_tx *tx);
/* Through the overlay; NULL when absent or deleted in tx. */
const void *store_tx_get(const struct store_tx *tx, enum store_kind k, const char *id);
/* A new zeroed object with this id; created_at = updated_at = now. Never NULL; id must be unused. */
void *store_tx_create(struct store_tx *tx, enum store_kind k, const char *id);
/* A private copy to change; the same pointer when edited again. NULL when absent. */
void *store_tx_edit(struct store_tx *tx, enum store_kind k, const char *id);
/* Nothing when absent. */
void store_tx_delete(struct store_tx *tx, enum store_kind k, const char *id);
/* The spec was written: meta.version and updated_at move when this is applied. create implies it. */
void store_tx_touch_version(struct store_tx *tx, void *obj);
/* Number of objects created, changed or deleted; edits that changed nothing do not count. */
size_t store_tx_changes(struct store_tx *tx);
/* The objects tx created or edited of a kind, in order of first touch (deleted ones not). */
size_t store_tx_touched(const struct store_tx *tx, enum store_kind k, const void *const **out);

/* The command. Appends to out. */
void store_tx_encode(struct store_tx *tx, struct buf *out);

/* ---- applying ---- */

enum store_event_kind { STORE_CREATED, STORE_UPDATED, STORE_DELETED };
struct store_event {
	enum store_event_kind kind;
	enum store_kind object;
	const void *old; /* NULL for created; valid during the callback only */
	const void *new; /* NULL for deleted; borrowed */
};
typedef void (*store_watch_fn)(void *arg, const struct store_event *ev);
/* Called for every change, after the whole command is applied, in order of registration. */
void store_watch(struct store *s, store_watch_fn fn, void *arg);
void store_unwatch(struct store *s, store_watch_fn fn, void *arg);

/*
 * Applies one command. MESH_E_OUT_OF_SEQUENCE when an object it changes has moved since, MESH_E_CONFLICT
 * when a name is taken: nothing is changed then, the same on every manager. MESH_E_CORRUPT is not
 * survivable: the log or this program is broken.
 */
int store_apply(struct store *s, uint64_t index, const void *cmd, size_t n, struct mesh_err *err) MESH_MUST_CHECK;

/* The whole store as bytes and back (into a fresh store; no events). */
void store_snapshot_encode(const struct store *s, struct buf *out);
int store_snapshot_decode(struct store *s, const void *p, size_t n, struct mesh_err *err) MESH_MUST_CHECK;
/* Into a store in use: watchers hear the difference, s stays the same pointer. On error s is unchanged. */
int store_snapshot_restore(struct store *s, const void *p, size_t n, struct mesh_err *err) MESH_MUST_CHECK;

#endif
