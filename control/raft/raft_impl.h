/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what the files of the Raft core share. Nobody outside them includes this. */
#ifndef CONTROL_RAFT_RAFT_IMPL_H
#define CONTROL_RAFT_RAFT_IMPL_H

#include "base/map.h"
#include "control/raft/raft.h"

enum raft_peer_state {
	PEER_PROBE,     /* where its log ends is a guess: one message at a time */
	PEER_REPLICATE, /* known: messages follow each other without waiting */
	PEER_SNAPSHOT,  /* its log ends before ours begins */
};
#define PEER_INFLIGHT_MAX 64
/* What the leader knows of another member. */
struct raft_peer {
	uint64_t id;
	bool voter;
	enum raft_peer_state state;
	bool paused; /* probe, snapshot: sent, no answer yet */
	uint64_t match, next;
	uint64_t inflight[PEER_INFLIGHT_MAX]; /* ring: last index of each message without an answer */
	unsigned inflight_at, inflight_n;
	uint64_t snap_index, snap_offset;
	uint64_t round;   /* highest confirmation of leadership it answered */
	int64_t heard_at; /* last answer; the start of the term before the first */
};

struct raft_read {
	uint64_t ctx, index, round;
};
/* A disk effect that is not durable yet, and the last entry that is in the log once it is. */
struct raft_write {
	uint64_t seq, last;
};
/* A message that may go once writes up to seq are durable. */
struct raft_held {
	uint64_t seq;
	struct raft_msg *msg;
};

struct raft {
	uint64_t id;
	int64_t election_ms, heartbeat_ms, now;
	struct mesh_rng rng;

	/* Persistent. */
	uint64_t term, vote;
	uint64_t base, base_term;            /* the log holds what comes after */
	struct VEC(struct raft_entry *) log; /* log.data[i]->index == base + 1 + i */
	uint64_t snap_index, snap_term;      /* newest snapshot, at or after base */
	struct raft_conf snap_conf;

	/* What is durable. */
	uint64_t write_seq, durable_seq, durable;
	struct VEC(struct raft_write) writes;
	struct VEC(struct raft_held) held;

	enum raft_role role;
	uint64_t leader;
	int64_t leader_seen; /* when the leader was last heard */
	int64_t election_due;
	uint64_t commit, applied;
	struct raft_conf conf, applied_conf;
	uint64_t conf_index; /* of the entry conf comes from */

	/* Candidates. */
	uint64_t votes[RAFT_MEMBERS_MAX], refusals[RAFT_MEMBERS_MAX];
	unsigned n_votes, n_refusals;
	uint64_t vote_seq; /* own vote counts once this is durable */
	bool by_transfer;

	/* Leader. */
	struct raft_peer peers[RAFT_MEMBERS_MAX];
	unsigned n_peers;
	uint64_t noop_index, round;
	int64_t heartbeat_due, quorum_due;
	struct VEC(struct raft_read) reads;
	uint64_t change_ctx, change_index, promote_id; /* the change of members that runs */
	bool change_runs;
	int64_t promote_due;
	uint64_t transfer_to, transfer_ctx; /* 0: none */
	int64_t transfer_due;

	/* Follower: the snapshot that is arriving. */
	uint64_t in_index, in_term;
	struct buf in_data;

	struct raft_fx *fx; /* ring-less queue: fx_head..fx_len */
	size_t fx_head, fx_len, fx_cap;
};

/* ---- raft.c ---- */
struct raft_fx *raft_emit(struct raft *r, enum raft_fx_type type);
void raft_done(struct raft *r, uint64_t ctx, int status, uint64_t index);
/* Takes over a copy of m (entries by reference already held by m). now_ok: it promises nothing. */
void raft_send(struct raft *r, struct raft_msg *m, bool now_ok);
struct raft_msg *raft_msg_new(struct raft *r, enum raft_msg_type type, uint64_t to);
uint64_t raft_write_add(struct raft *r, uint64_t last);
void raft_save(struct raft *r);
void raft_apply_ready(struct raft *r);
void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader);

/* ---- log.c ---- */
void raft_log_append(struct raft *r, struct raft_entry *e); /* takes the reference; emits the write */
void raft_log_truncate(struct raft *r, uint64_t from);
void raft_log_reset(struct raft *r, uint64_t index, uint64_t term);
void raft_log_drop_to(struct raft *r, uint64_t index);

/* ---- election.c ---- */
void raft_election_reset(struct raft *r);
void raft_campaign(struct raft *r, bool pre, bool transfer);
void raft_count_own_vote(struct raft *r);
void raft_on_vote_request(struct raft *r, const struct raft_msg *m);
void raft_on_vote_reply(struct raft *r, const struct raft_msg *m);
bool raft_lease_held(const struct raft *r);

/* ---- replication.c ---- */
void raft_on_append(struct raft *r, const struct raft_msg *m);
void raft_on_append_reply(struct raft *r, const struct raft_msg *m);
void raft_on_snapshot(struct raft *r, const struct raft_msg *m);
void raft_on_snapshot_reply(struct raft *r, const struct raft_msg *m);
void raft_lead(struct raft *r);
void raft_heartbeat(struct raft *r);
void raft_advance_commit(struct raft *r);
void raft_reads_check(struct raft *r);
bool raft_quorum_heard(const struct raft *r);
struct raft_peer *raft_peer_get(struct raft *r, uint64_t id);

/* ---- membership.c ---- */
const struct raft_member *raft_member_get(const struct raft_conf *c, uint64_t id);
bool raft_is_voter(const struct raft *r);
unsigned raft_quorum(const struct raft_conf *c);
void raft_conf_rescan(struct raft *r); /* after the log changed: its last CONFIG, or the snapshot's */
void raft_conf_appended(struct raft *r, const struct raft_entry *e);
void raft_conf_applied_entry(struct raft *r, const struct raft_entry *e);
void raft_peers_sync(struct raft *r);
void raft_promote_check(struct raft *r);
void raft_transfer_check(struct raft *r);
/* succeeded: somebody has taken over in a later term. */
void raft_leader_ops_fail(struct raft *r, bool succeeded);

#endif
