/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    the Raft consensus algorithm as a step machine. Events in (tick, message, persisted, propose, ...),
 *          effects out (save, append, install, send, apply, ...), nothing else: no clock, disk or socket.
 * Effects: a queue in the order in which they must be carried out. Those for the disk carry a growing number
 *          (seq); the shell reports raft_persisted(seq) once everything up to it is durable, in that order.
 *          A message that promises something is only queued once the writes before it are durable, so the
 *          shell may send at once whatever it finds in the queue.
 * Safety:  a leader counts replicas only for entries of its own term (the paper's Figure 8). Entries are applied
 *          when they are committed and durable here. A candidate's own vote counts when it is durable.
 * Extras:  pre-vote, check-quorum with the followers' lease, learners, one membership change at a time, leadership
 *          transfer, read index, snapshots in chunks.
 * Thread:  one. Units: milliseconds on any steadily growing clock; indexes and terms start at 1, 0 is none.
 */
#ifndef CONTROL_RAFT_RAFT_H
#define CONTROL_RAFT_RAFT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"

/* ---- values ---- */

enum raft_entry_type { RAFT_NOOP = 1, RAFT_COMMAND, RAFT_CONFIG, RAFT_ENTRY_MAX };

/* Immutable and counted, so that the log, messages and writes on their way share one copy. */
struct raft_entry {
	uint64_t index, term;
	uint32_t refs;
	uint32_t n;
	uint8_t type; /* enum raft_entry_type */
	uint8_t p[];
};
#define RAFT_ENTRY_BYTES_MAX (8u << 20)
struct raft_entry *raft_entry_new(uint64_t index, uint64_t term, enum raft_entry_type type, const void *p, size_t n);
struct raft_entry *raft_entry_ref(struct raft_entry *e);
void raft_entry_unref(struct raft_entry *e);

#define RAFT_MEMBERS_MAX 32
struct raft_member {
	uint64_t id;
	bool voter; /* else a learner */
};
struct raft_conf {
	unsigned n;
	struct raft_member m[RAFT_MEMBERS_MAX];
};
/* Format: u8 count, then of each u64 id, u8 voter. */
void raft_conf_encode(const struct raft_conf *c, struct buf *out);
int raft_conf_decode(struct raft_conf *c, const void *p, size_t n) MESH_MUST_CHECK;

enum raft_msg_type {
	RAFT_MSG_PREVOTE = 1,
	RAFT_MSG_PREVOTE_REPLY,
	RAFT_MSG_VOTE,
	RAFT_MSG_VOTE_REPLY,
	RAFT_MSG_APPEND,
	RAFT_MSG_APPEND_REPLY,
	RAFT_MSG_SNAPSHOT,
	RAFT_MSG_SNAPSHOT_REPLY,
	RAFT_MSG_TIMEOUT_NOW,
	RAFT_MSG_MAX
};
#define RAFT_SNAPSHOT_CHUNK (256u << 10)
struct raft_msg {
	enum raft_msg_type type;
	uint64_t from, to, term;
	bool ok;       /* replies: granted, accepted */
	bool transfer; /* vote: the leader asked for it, leases do not protect it */
	/* vote: last entry; append: the entry before the first; its reply: last entry that matches, or, refused, the
	 * entry that did not; snapshot: the last entry in it */
	uint64_t index, log_term;
	uint64_t commit;        /* append */
	uint64_t hint;          /* append refused: the last entry that may match */
	uint64_t round;         /* append and reply: which confirmation of leadership this belongs to */
	uint64_t offset, total; /* snapshot: of this chunk, of all; reply: bytes held */
	struct raft_conf conf;  /* snapshot */
	struct raft_entry **entries;
	size_t n_entries;
	const uint8_t *data; /* snapshot chunk; borrowed */
	size_t n_data;
};
/* Format: see message.c. cluster is checked by whoever decodes. */
void raft_msg_encode(const struct raft_msg *m, uint64_t cluster, struct buf *out);
/* MESH_E_CORRUPT, MESH_E_VERSION. m->data borrows from p. m must be finished with raft_msg_fini if 0 is returned. */
int raft_msg_decode(struct raft_msg *m, uint64_t *cluster, const void *p, size_t n) MESH_MUST_CHECK;
void raft_msg_fini(struct raft_msg *m);

/* ---- effects ---- */

enum raft_fx_type {
	RAFT_FX_SAVE,          /* disk: term and vote */
	RAFT_FX_APPEND,        /* disk: entry; replaces what the log held from its index on */
	RAFT_FX_INSTALL,       /* disk and state machine: both become the snapshot; the log starts after it */
	RAFT_FX_SEND,          /* msg */
	RAFT_FX_SEND_SNAPSHOT, /* msg; the shell adds data and total of the newest snapshot, from msg->offset */
	RAFT_FX_APPLY,         /* entry, of any type */
	RAFT_FX_DONE,          /* a change of members, transfer or read with this ctx has ended with status */
	RAFT_FX_LOST,          /* this node led: what it proposed and has not applied has an unknown outcome */
};
struct raft_fx {
	enum raft_fx_type type;
	uint64_t seq; /* disk effects */
	uint64_t term, vote;
	struct raft_entry *entry; /* a reference */
	struct raft_msg *msg;     /* owned */
	uint64_t index;           /* install: of the snapshot; done: of the entry, or the index to be read at */
	struct raft_conf conf;    /* install */
	struct buf data;          /* install: the state machine; owned */
	uint64_t ctx;
	int status;
};

struct raft;
/* false when the queue is empty. Finish with raft_fx_fini. */
bool raft_next_fx(struct raft *r, struct raft_fx *fx);
void raft_fx_fini(struct raft_fx *fx);

/* ---- life ---- */

struct raft_config {
	uint64_t id;
	int64_t election_ms, heartbeat_ms;
	uint64_t seed;
	int64_t now;
};
/* What the disk held. entries (references taken) follow the snapshot without a gap. */
struct raft_saved {
	uint64_t term, vote;
	uint64_t snap_index, snap_term;
	struct raft_conf snap_conf;
	struct raft_entry **entries;
	size_t n_entries;
};
/* A sole voter campaigns at once. */
struct raft *raft_new(const struct raft_config *c, const struct raft_saved *saved);
void raft_free(struct raft *r);

/* ---- events ---- */

void raft_tick(struct raft *r, int64_t now);
/* When the next tick is needed. */
int64_t raft_due(const struct raft *r);
/* m is borrowed; references to its entries are taken. */
void raft_receive(struct raft *r, const struct raft_msg *m, int64_t now);
void raft_persisted(struct raft *r, uint64_t seq, int64_t now);
/*
 * Appends to the log when this node leads; *index says where. MESH_E_NO_LEADER, -EAGAIN when too much waits.
 * Call raft_flush after the last of a batch: it sends them together.
 */
int raft_propose(struct raft *r, const void *p, size_t n, uint64_t *index) MESH_MUST_CHECK;
void raft_flush(struct raft *r);

enum raft_change { RAFT_ADD, RAFT_PROMOTE, RAFT_REMOVE };
/*
 * 0: RAFT_FX_DONE comes later, when the change is applied or failed. Promotion waits for the learner to catch up.
 * MESH_E_CONFLICT while another runs, MESH_E_NO_LEADER, MESH_E_NOT_FOUND, MESH_E_INVALID, MESH_E_EXHAUSTED.
 */
int raft_change(struct raft *r, enum raft_change what, uint64_t id, uint64_t ctx, struct mesh_err *err) MESH_MUST_CHECK;
int raft_transfer(struct raft *r, uint64_t to, uint64_t ctx, struct mesh_err *err) MESH_MUST_CHECK;
int raft_read(struct raft *r, uint64_t ctx) MESH_MUST_CHECK;

/* A snapshot of everything up to index is on disk; keeps that many entries before it for slow followers. */
void raft_compacted(struct raft *r, uint64_t index, uint64_t keep);
/*
 * What is appended and not durable could not be written for want of space and never will. A sole member forgets it
 * and returns true: the shell drops its queue of writes. Otherwise the shell must keep trying; a leader steps down.
 */
bool raft_disk_full(struct raft *r);

/* ---- questions ---- */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };
enum raft_role raft_role_of(const struct raft *r);
uint64_t raft_id(const struct raft *r);
uint64_t raft_term(const struct raft *r);
uint64_t raft_leader(const struct raft *r); /* 0: unknown */
uint64_t raft_commit(const struct raft *r);
uint64_t raft_applied(const struct raft *r);
uint64_t raft_last_index(const struct raft *r);
uint64_t raft_durable(const struct raft *r);
/* Leader: has its first entry, and so everything of earlier terms, been applied? */
bool raft_ready(const struct raft *r);
/* 0 when the log does not reach there (any more). */
uint64_t raft_term_at(const struct raft *r, uint64_t index);
const struct raft_entry *raft_entry_at(const struct raft *r, uint64_t index);
const struct raft_conf *raft_conf_latest(const struct raft *r);
/* The members as of the last applied entry: what a snapshot taken now must say. */
const struct raft_conf *raft_conf_applied(const struct raft *r);
/* Is a snapshot being sent to somebody who answers? */
bool raft_sends_snapshot(const struct raft *r);

#endif
