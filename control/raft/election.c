/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/raft_impl.h"

#include "base/mem.h"

void raft_election_reset(struct raft *r)
{
	r->election_due = r->now + r->election_ms + (int64_t)mesh_rng_below(&r->rng, (uint64_t)r->election_ms);
}

bool raft_lease_held(const struct raft *r)
{
	if (r->role == RAFT_LEADER)
		return true;
	return r->leader && r->now - r->leader_seen < r->election_ms;
}

static void ask_votes(struct raft *r, bool pre)
{
	for (unsigned i = 0; i < r->conf.n; i++) {
		const struct raft_member *to = &r->conf.m[i];
		if (!to->voter || to->id == r->id)
			continue;
		struct raft_msg *m = raft_msg_new(r, pre ? RAFT_MSG_PREVOTE : RAFT_MSG_VOTE, to->id);
		m->term = pre ? r->term + 1 : r->term;
		m->index = raft_last_index(r);
		m->log_term = raft_term_at(r, m->index);
		m->transfer = r->by_transfer;
		raft_send(r, m, pre);
	}
}

/* The count of distinct voters among ids. */
static unsigned count(const struct raft *r, const uint64_t *ids, unsigned n)
{
	unsigned found = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct raft_member *m = raft_member_get(&r->conf, ids[i]);
		found += m && m->voter;
	}
	return found;
}

static void add_once(uint64_t *ids, unsigned *n, uint64_t id)
{
	for (unsigned i = 0; i < *n; i++)
		if (ids[i] == id)
			return;
	if (*n < RAFT_MEMBERS_MAX)
		ids[(*n)++] = id;
}

static void tally(struct raft *r)
{
	unsigned quorum = raft_quorum(&r->conf);
	if (count(r, r->votes, r->n_votes) >= quorum) {
		if (r->role == RAFT_PRE_CANDIDATE)
			raft_campaign(r, false, false);
		else
			raft_lead(r);
	} else if (count(r, r->refusals, r->n_refusals) >= quorum) {
		raft_become_follower(r, r->term, 0);
	}
}

/*
 * Whose removal is in its log and perhaps not committed must still stand: the others may lack that entry, and without
 * it none of them could be elected over this log. After a restart nothing is known to be committed but the snapshot.
 */
static bool may_campaign(const struct raft *r)
{
	if (raft_is_voter(r))
		return true;
	struct raft_conf c;
	const struct raft_member *m;
	for (size_t i = r->log.len; i-- > 0;) {
		const struct raft_entry *e = r->log.data[i];
		if (e->type != RAFT_CONFIG || raft_conf_decode(&c, e->p, e->n))
			continue;
		m = raft_member_get(&c, r->id);
		if (m && m->voter)
			return true;
		if (e->index <= r->commit)
			return false;
	}
	m = raft_member_get(&r->snap_conf, r->id);
	return m && m->voter;
}

void raft_campaign(struct raft *r, bool pre, bool transfer)
{
	raft_election_reset(r);
	if (!may_campaign(r))
		return;
	r->role = pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE;
	r->leader = 0;
	r->by_transfer = transfer;
	r->n_votes = r->n_refusals = 0;
	if (pre) {
		ask_votes(r, true);
		add_once(r->votes, &r->n_votes, r->id);
		tally(r);
		return;
	}
	r->term++;
	r->vote = r->id;
	raft_save(r);
	r->vote_seq = r->write_seq;
	ask_votes(r, false);
}

void raft_count_own_vote(struct raft *r)
{
	add_once(r->votes, &r->n_votes, r->id);
	tally(r);
}

static bool up_to_date(const struct raft *r, const struct raft_msg *m)
{
	uint64_t last = raft_last_index(r), term = raft_term_at(r, last);
	return m->log_term > term || (m->log_term == term && m->index >= last);
}

static void on_prevote(struct raft *r, const struct raft_msg *m)
{
	bool ok = m->term > r->term && !raft_lease_held(r) && up_to_date(r, m);
	struct raft_msg *reply = raft_msg_new(r, RAFT_MSG_PREVOTE_REPLY, m->from);
	reply->ok = ok;
	if (ok)
		reply->term = m->term; /* so that the asker knows which question this answers */
	raft_send(r, reply, true);
}

void raft_on_vote_request(struct raft *r, const struct raft_msg *m)
{
	if (m->type == RAFT_MSG_PREVOTE) {
		on_prevote(r, m);
		return;
	}
	bool ok = r->role != RAFT_LEADER && (!r->vote || r->vote == m->from) && up_to_date(r, m);
	if (ok && !r->vote) {
		r->vote = m->from;
		raft_save(r);
	}
	if (ok)
		raft_election_reset(r);
	struct raft_msg *reply = raft_msg_new(r, RAFT_MSG_VOTE_REPLY, m->from);
	reply->ok = ok;
	raft_send(r, reply, false);
}

void raft_on_vote_reply(struct raft *r, const struct raft_msg *m)
{
	bool pre = m->type == RAFT_MSG_PREVOTE_REPLY;
	if (r->role != (pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE))
		return;
	if (pre && m->ok && m->term != r->term + 1)
		return;
	if (m->ok)
		add_once(r->votes, &r->n_votes, m->from);
	else
		add_once(r->refusals, &r->n_refusals, m->from);
	tally(r);
}
