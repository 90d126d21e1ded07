/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what the files of the store share: its tables and indexes, and the command as it looks decoded.
 *         Nobody outside control/store includes this.
 * Owner:  the store owns rows and the objects in them; lists and indexes borrow.
 */
#ifndef CONTROL_STORE_STORE_IMPL_H
#define CONTROL_STORE_STORE_IMPL_H

#include "control/store/store.h"

/*
 * Objects ordered by the sequence number of their creation. Removal leaves a hole that the next reader
 * closes, so that applying costs what it changes and reading costs nothing when nothing was removed.
 */
struct store_olist {
	const void **v;
	uint64_t *seq;
	size_t n, cap, live;
};

struct store_row {
	void *obj;
	uint64_t seq;
};

struct store_table {
	struct map rows;  /* id -> struct store_row */
	struct map names; /* name -> struct store_olist */
	struct store_olist all;
};

struct store_watcher {
	store_watch_fn fn; /* NULL: gone, removed after the round of callbacks */
	void *arg;
};

struct store {
	struct store_table tables[STORE_KIND_MAX];
	struct map tasks_of_service, tasks_of_node; /* id -> struct store_olist */
	uint64_t index, next_seq;
	struct VEC(struct store_watcher) watchers;
	bool calling; /* inside the watchers: no apply */
};

/* ---- rows and indexes (store.c) ---- */

struct md_meta *store_meta(void *obj);
/* The name an object holds in its kind, or NULL: tasks have none, and what is being deleted gave its up. */
const char *store_name_of(enum store_kind k, const void *obj);
bool store_names_unique(enum store_kind k);
struct store_row *store_row(const struct store *s, enum store_kind k, const char *id);
/* Takes obj; returns the object it replaced (owned by the caller), or NULL. */
void *store_put(struct store *s, enum store_kind k, void *obj);
/* Returns the object, owned by the caller. It must exist. */
void *store_remove(struct store *s, enum store_kind k, const char *id);
const struct store_olist *store_name_holders(const struct store *s, enum store_kind k, const char *name);

/* ---- events (apply.c) ---- */

struct store_events VEC(struct store_event);
/* Calls every watcher for every event, then frees the old objects and the list. */
void store_emit(struct store *s, struct store_events *evs);

/* ---- commands (command.c) ---- */

/*
 * Format: u8 version, varint number of changes, then of each:
 *   u8 op, u8 kind, u8 flags, varint base rev (not for create), varint length, bytes:
 *   the object by sch_encode, or for delete its id.
 */
#define STORE_COMMAND_VERSION 1
enum store_op { STORE_OP_CREATE = 1, STORE_OP_UPDATE, STORE_OP_DELETE };
enum { STORE_FLAG_TOUCH = 1 << 0 };

struct store_change {
	enum store_op op;
	enum store_kind kind;
	bool touch;
	uint64_t base; /* rev of the object the change was made from */
	void *obj;     /* owned; NULL for delete */
	char id[MESH_ID_LEN + 1];
};
struct store_command VEC(struct store_change);

void store_change_encode(const struct store_change *c, struct buf *out);
/* MESH_E_CORRUPT or MESH_E_VERSION; cmd holds nothing then. */
int store_command_decode(const void *p, size_t n, struct store_command *cmd, struct mesh_err *err) MESH_MUST_CHECK;
void store_command_fini(struct store_command *cmd);

#endif
