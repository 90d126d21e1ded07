/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    the shell around the pure Raft core (raft.h) and the write-ahead log (wal.h): feeds it ticks,
 *          messages and completed writes, carries out what it says. Everything above sees only: propose
 *          bytes, get them applied in order, know who leads.
 * Loop:    libuv; all callbacks on the loop's thread. fsync runs on the thread pool, one per batch.
 * Promise: a proposal's callback with status 0 comes after its entry is on a quorum's disk and was applied.
 */
#ifndef CONTROL_RAFT_RAFT_NODE_H
#define CONTROL_RAFT_RAFT_NODE_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

struct raft_node;
struct seal_key;

struct raft_node_config {
	const char *dir;            /* WAL and snapshots live here; made when absent (0700) */
	uint64_t id;                /* this member; not 0 */
	uint64_t cluster;           /* checked against what dir holds and what peers say */
	const struct seal_key *key; /* what is written is sealed with; outlives the node (wal.h) */
	unsigned election_ms, heartbeat_ms;
	uint64_t snapshot_entries; /* snapshot after so many applied entries */
	/* Applies one committed entry; its return value and err reach the proposer's callback. */
	int (*apply)(void *arg, uint64_t index, const void *p, size_t n, struct mesh_err *err);
	/* The state machine as bytes, and replaced by bytes (at start, and when far behind). */
	void (*snapshot)(void *arg, struct buf *out);
	int (*restore)(void *arg, const void *p, size_t n, struct mesh_err *err);
	/* Leadership came (true) or went; called after all entries of earlier terms are applied. */
	void (*on_leader)(void *arg, bool leads);
	/* A message for another member; the transport may drop it. Bytes are borrowed. */
	void (*send)(void *arg, uint64_t to, const void *p, size_t n);
	/* The disk failed: nothing can be promised any more. The process should stop. */
	void (*on_fatal)(void *arg, const struct mesh_err *err);
	void *arg;
};

/* Status: 0 applied (or the apply function's code); MESH_E_NO_LEADER, MESH_E_CLOSED, -EIO: not, or unknown. */
typedef void (*raft_propose_cb)(void *arg, int status, uint64_t index, const struct mesh_err *err);

/*
 * Opens dir, replays snapshot and log through restore/apply. bootstrap: dir must be empty, and this node is
 * the only voter. Errors name the file, the offset and the way out: a torn last record is cut off
 * (it was never acknowledged); damage before it is MESH_E_CORRUPT; another layout MESH_E_VERSION;
 * a lock held by another process -EBUSY.
 */
int raft_node_open(uv_loop_t *loop, const struct raft_node_config *c, bool bootstrap, struct raft_node **out,
                   struct mesh_err *err) MESH_MUST_CHECK;
/* Does dir hold a log? */
bool raft_node_exists(const char *dir);
/* Does it need a data key to be read? */
bool raft_node_sealed(const char *dir);
/* cb (may be NULL) once; after it n is gone. */
void raft_node_close(struct raft_node *n, void (*cb)(void *arg), void *arg);

/* Copies the bytes. cb is called exactly once, never from inside this call. */
void raft_node_propose(struct raft_node *n, const void *p, size_t len, raft_propose_cb cb, void *arg);
/* A message from another member. Malformed ones are dropped with a log line. */
void raft_node_receive(struct raft_node *n, uint64_t from, const void *p, size_t len);
bool raft_node_leads(const struct raft_node *n);
uint64_t raft_node_leader(const struct raft_node *n); /* 0 = unknown */
uint64_t raft_node_term(const struct raft_node *n);
/* One change at a time: MESH_E_CONFLICT while one runs. Members are learners before they vote. */
void raft_node_add(struct raft_node *n, uint64_t id, raft_propose_cb cb, void *arg);
void raft_node_promote(struct raft_node *n, uint64_t id, raft_propose_cb cb, void *arg);
void raft_node_remove(struct raft_node *n, uint64_t id, raft_propose_cb cb, void *arg);
void raft_node_transfer(struct raft_node *n, uint64_t to, raft_propose_cb cb, void *arg);
/* cb with 0 once this node has confirmed it leads and has applied everything committed before the call. */
void raft_node_read(struct raft_node *n, raft_propose_cb cb, void *arg);

#endif
