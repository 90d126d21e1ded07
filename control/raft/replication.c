/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/raft_impl.h"

#include "base/mem.h"

#define BATCH_BYTES (512u << 10)
#define BATCH_ENTRIES 256

/* ---- leader: peers ---- */

struct raft_peer *raft_peer_get(struct raft *r, uint64_t id)
{
	for (unsigned i = 0; i < r->n_peers; i++)
		if (r->peers[i].id == id)
			return &r->peers[i];
	return NULL;
}

/* Peers follow the members in force; who stays keeps its progress. */
void raft_peers_sync(struct raft *r)
{
	static const struct raft_peer none;
	struct raft_peer *now = xcalloc(RAFT_MEMBERS_MAX, sizeof(*now));
	unsigned n = 0;
	for (unsigned i = 0; i < r->conf.n; i++) {
		const struct raft_member *m = &r->conf.m[i];
		if (m->id == r->id)
			continue;
		const struct raft_peer *was = raft_peer_get(r, m->id);
		now[n] = was ? *was : none;
		now[n].id = m->id;
		now[n].voter = m->voter;
		if (!was) {
			now[n].next = raft_last_index(r) + 1;
			now[n].heard_at = r->now;
		}
		n++;
	}
	memcpy(r->peers, now, n * sizeof(*now));
	r->n_peers = n;
	free(now);
}

static void inflight_free(struct raft_peer *p, uint64_t match)
{
	while (p->inflight_n && p->inflight[p->inflight_at] <= match) {
		p->inflight_at = (p->inflight_at + 1) % PEER_INFLIGHT_MAX;
		p->inflight_n--;
	}
}

static void peer_become(struct raft_peer *p, enum raft_peer_state state, uint64_t next)
{
	p->state = state;
	p->next = next;
	p->paused = false;
	p->inflight_n = 0;
}

static bool peer_active(const struct raft *r, const struct raft_peer *p)
{
	return p->round && r->now - p->heard_at < r->election_ms;
}

/* ---- leader: sending ---- */

/* Entries from next on, as many as fit, or none when bare. */
static uint64_t send_append(struct raft *r, struct raft_peer *p, uint64_t prev, bool bare)
{
	struct raft_msg *m = raft_msg_new(r, RAFT_MSG_APPEND, p->id);
	m->index = prev;
	m->log_term = raft_term_at(r, prev);
	m->commit = r->commit;
	m->round = r->round;
	uint64_t last = raft_last_index(r), at = prev;
	size_t bytes = 0;
	while (!bare && at < last && m->n_entries < BATCH_ENTRIES && bytes < BATCH_BYTES) {
		if (!m->entries)
			m->entries =
				xcalloc(last - prev < BATCH_ENTRIES ? last - prev : BATCH_ENTRIES, sizeof(*m->entries));
		struct raft_entry *e = r->log.data[at - r->base];
		if (m->n_entries && bytes + e->n > BATCH_BYTES)
			break;
		m->entries[m->n_entries++] = raft_entry_ref(e);
		bytes += e->n;
		at++;
	}
	raft_send(r, m, true);
	return at;
}

static void send_chunk(struct raft *r, struct raft_peer *p)
{
	if (p->snap_index != r->snap_index) {
		p->snap_index = r->snap_index;
		p->snap_offset = 0;
	}
	struct raft_msg *m = raft_msg_new(r, RAFT_MSG_SNAPSHOT, p->id);
	m->index = r->snap_index;
	m->log_term = r->snap_term;
	m->conf = r->snap_conf;
	m->offset = p->snap_offset;
	m->round = r->round;
	raft_emit(r, RAFT_FX_SEND_SNAPSHOT)->msg = m;
	p->paused = true;
}

static void send_probe(struct raft *r, struct raft_peer *p)
{
	if (p->next > r->base) {
		/* Again without an answer: without entries, it may be dead. */
		(void)send_append(r, p, p->next - 1, p->paused);
		p->paused = true;
	} else if (peer_active(r, p)) {
		peer_become(p, PEER_SNAPSHOT, p->next);
		send_chunk(r, p);
	} else {
		/* Cheap while it may be dead; a refusal says that it lives. */
		(void)send_append(r, p, r->base, true);
		p->paused = true;
	}
}

static void send_stream(struct raft *r, struct raft_peer *p)
{
	if (p->next <= r->base) {
		peer_become(p, PEER_PROBE, p->next);
		send_probe(r, p);
		return;
	}
	while (p->next <= raft_last_index(r) && p->inflight_n < PEER_INFLIGHT_MAX) {
		uint64_t last = send_append(r, p, p->next - 1, false);
		p->inflight[(p->inflight_at + p->inflight_n++) % PEER_INFLIGHT_MAX] = last;
		p->next = last + 1;
	}
}

void raft_flush(struct raft *r)
{
	if (r->role != RAFT_LEADER)
		return;
	for (unsigned i = 0; i < r->n_peers; i++) {
		struct raft_peer *p = &r->peers[i];
		if (p->state == PEER_REPLICATE)
			send_stream(r, p);
		else if (!p->paused && p->state == PEER_PROBE)
			send_probe(r, p);
		else if (!p->paused)
			send_chunk(r, p);
	}
}

/* Tells everybody that this node leads and what is committed; probes what did not answer. */
static void beat(struct raft *r, struct raft_peer *p)
{
	switch (p->state) {
	case PEER_REPLICATE:
		if (p->next > r->base)
			(void)send_append(r, p, p->next - 1, true);
		break;
	case PEER_PROBE:
		send_probe(r, p);
		break;
	case PEER_SNAPSHOT:
		if (!peer_active(r, p)) {
			peer_become(p, PEER_PROBE, p->next);
			send_probe(r, p);
		} else {
			send_chunk(r, p);
		}
		break;
	}
}

void raft_heartbeat(struct raft *r)
{
	r->round++;
	r->heartbeat_due = r->now + r->heartbeat_ms;
	for (unsigned i = 0; i < r->n_peers; i++)
		beat(r, &r->peers[i]);
}

static void send_commit(struct raft *r)
{
	for (unsigned i = 0; i < r->n_peers; i++) {
		struct raft_peer *p = &r->peers[i];
		if (p->state == PEER_REPLICATE && p->next > raft_last_index(r))
			(void)send_append(r, p, p->next - 1, true);
	}
}

/* ---- leader: counting ---- */

void raft_lead(struct raft *r)
{
	r->role = RAFT_LEADER;
	r->leader = r->id;
	r->by_transfer = false;
	r->n_peers = 0;
	r->round = 1;
	r->reads.len = 0;
	r->change_runs = false;
	r->promote_id = 0;
	r->transfer_to = 0;
	r->heartbeat_due = r->now + r->heartbeat_ms;
	r->quorum_due = r->now + r->election_ms;
	raft_peers_sync(r);
	r->noop_index = raft_last_index(r) + 1;
	raft_log_append(r, raft_entry_new(r->noop_index, r->term, RAFT_NOOP, NULL, 0));
	raft_flush(r);
}

bool raft_quorum_heard(const struct raft *r)
{
	unsigned heard = raft_is_voter(r);
	for (unsigned i = 0; i < r->n_peers; i++)
		heard += r->peers[i].voter && r->now - r->peers[i].heard_at < r->election_ms;
	/* A leader that is no voter any more leads until its removal is committed. */
	return heard >= raft_quorum(&r->conf);
}

/* The highest value that a quorum of voters has reached; own is this node's. */
static uint64_t quorum_value(const struct raft *r, uint64_t own, bool rounds)
{
	uint64_t v[RAFT_MEMBERS_MAX];
	unsigned n = 0;
	if (raft_is_voter(r))
		v[n++] = own;
	for (unsigned i = 0; i < r->n_peers; i++)
		if (r->peers[i].voter)
			v[n++] = rounds ? r->peers[i].round : r->peers[i].match;
	for (unsigned i = 1; i < n; i++)
		for (unsigned j = i; j && v[j] > v[j - 1]; j--) {
			uint64_t t = v[j];
			v[j] = v[j - 1];
			v[j - 1] = t;
		}
	unsigned quorum = raft_quorum(&r->conf);
	return n >= quorum ? v[quorum - 1] : 0;
}

void raft_advance_commit(struct raft *r)
{
	uint64_t to = quorum_value(r, r->durable, false);
	/* Entries of earlier terms are committed by one of this term after them, never by counting. */
	if (to <= r->commit || raft_term_at(r, to) != r->term)
		return;
	r->commit = to;
	send_commit(r);
	raft_apply_ready(r);
}

void raft_reads_check(struct raft *r)
{
	if (r->role != RAFT_LEADER || !r->reads.len || r->commit < r->noop_index)
		return;
	uint64_t confirmed = quorum_value(r, UINT64_MAX, true);
	size_t kept = 0;
	for (size_t i = 0; i < r->reads.len; i++) {
		struct raft_read *rd = &r->reads.data[i];
		/* What was asked before the term's first entry was committed must see at least that. */
		uint64_t need = rd->index > r->noop_index ? rd->index : r->noop_index;
		if (rd->round <= confirmed && r->applied >= need)
			raft_done(r, rd->ctx, 0, need);
		else
			r->reads.data[kept++] = *rd;
	}
	r->reads.len = kept;
}

int raft_read(struct raft *r, uint64_t ctx)
{
	if (r->role != RAFT_LEADER)
		return MESH_E_NO_LEADER;
	raft_heartbeat(r);
	vec_push(&r->reads, ((struct raft_read){ ctx, r->commit, r->round }));
	raft_reads_check(r);
	return 0;
}

bool raft_sends_snapshot(const struct raft *r)
{
	for (unsigned i = 0; r->role == RAFT_LEADER && i < r->n_peers; i++)
		if (r->peers[i].state == PEER_SNAPSHOT && peer_active(r, &r->peers[i]))
			return true;
	return false;
}

/* ---- leader: answers ---- */

static struct raft_peer *answered(struct raft *r, const struct raft_msg *m)
{
	struct raft_peer *p = r->role == RAFT_LEADER ? raft_peer_get(r, m->from) : NULL;
	if (!p)
		return NULL;
	p->heard_at = r->now;
	if (m->round > p->round && m->round <= r->round)
		p->round = m->round;
	return p;
}

static void on_refusal(struct raft *r, struct raft_peer *p, const struct raft_msg *m)
{
	if (m->hint >= m->index && m->index)
		return;
	if (p->state == PEER_SNAPSHOT)
		return;
	if (p->state == PEER_REPLICATE) {
		/* An old refusal, overtaken by what it has confirmed since. */
		if (m->index <= p->match)
			return;
		peer_become(p, PEER_PROBE, p->match + 1);
		return;
	}
	bool current = m->index == p->next - 1 || (p->next <= r->base && m->index == r->base);
	if (!current)
		return;
	uint64_t next = m->hint + 1;
	peer_become(p, PEER_PROBE, next > p->match ? next : p->match + 1);
}

void raft_on_append_reply(struct raft *r, const struct raft_msg *m)
{
	struct raft_peer *p = answered(r, m);
	if (!p || m->index > raft_last_index(r))
		return;
	if (!m->ok) {
		on_refusal(r, p, m);
	} else {
		if (m->index > p->match)
			p->match = m->index;
		inflight_free(p, p->match);
		if (p->state == PEER_PROBE || (p->state == PEER_SNAPSHOT && p->match >= r->base))
			peer_become(p, PEER_REPLICATE, p->match + 1);
		else if (p->next <= p->match)
			p->next = p->match + 1;
		raft_advance_commit(r);
	}
	if (r->role != RAFT_LEADER)
		return;
	raft_reads_check(r);
	raft_promote_check(r);
	raft_transfer_check(r);
}

void raft_on_snapshot_reply(struct raft *r, const struct raft_msg *m)
{
	struct raft_peer *p = answered(r, m);
	if (!p)
		return;
	raft_reads_check(r);
	if (p->state != PEER_SNAPSHOT || m->index != p->snap_index)
		return;
	/* The same offset again is the answer to a repeated chunk. */
	if (m->offset != p->snap_offset || !m->ok) {
		p->snap_offset = m->offset;
		p->paused = false;
	}
}

/* ---- follower ---- */

static void accept_leader(struct raft *r, const struct raft_msg *m)
{
	if (r->role != RAFT_FOLLOWER)
		raft_become_follower(r, m->term, m->from);
	r->leader = m->from;
	r->leader_seen = r->now;
	raft_election_reset(r);
}

static void reply_append(struct raft *r, const struct raft_msg *m, bool ok, uint64_t index, uint64_t hint)
{
	struct raft_msg *reply = raft_msg_new(r, RAFT_MSG_APPEND_REPLY, m->from);
	reply->ok = ok;
	reply->index = index;
	reply->hint = hint;
	reply->round = m->round;
	raft_send(r, reply, false);
}

/* Where the leader should try next: before all of the term that conflicts, but not before what is committed. */
static uint64_t hint_of(const struct raft *r, uint64_t prev)
{
	uint64_t last = raft_last_index(r);
	if (prev > last)
		return last;
	uint64_t term = raft_term_at(r, prev), at = prev - 1;
	while (at > r->commit && raft_term_at(r, at) == term)
		at--;
	return at > r->commit ? at : r->commit;
}

/* The entries of an append must follow each other and belong to no later term than its own. */
static bool well_formed(const struct raft_msg *m)
{
	uint64_t index = m->index, term = m->log_term;
	for (size_t i = 0; i < m->n_entries; i++) {
		const struct raft_entry *e = m->entries[i];
		if (e->index != ++index || e->term < term || e->term > m->term)
			return false;
		term = e->term;
	}
	return true;
}

void raft_on_append(struct raft *r, const struct raft_msg *m)
{
	if (r->role == RAFT_LEADER || !well_formed(m))
		return; /* two leaders of one term cannot be: the sender is broken */
	accept_leader(r, m);
	if (m->index < r->commit) {
		/* What is committed matches anyhow; part of it may be gone from the log. */
		reply_append(r, m, true, r->commit, 0);
		return;
	}
	if (m->index > raft_last_index(r) || raft_term_at(r, m->index) != m->log_term) {
		reply_append(r, m, false, m->index, hint_of(r, m->index));
		return;
	}
	for (size_t i = 0; i < m->n_entries; i++) {
		struct raft_entry *e = m->entries[i];
		if (e->index <= raft_last_index(r)) {
			if (raft_term_at(r, e->index) == e->term)
				continue;
			raft_log_truncate(r, e->index);
		}
		raft_log_append(r, raft_entry_ref(e));
	}
	uint64_t last = m->index + m->n_entries, commit = m->commit < last ? m->commit : last;
	if (commit > r->commit)
		r->commit = commit;
	reply_append(r, m, true, last, 0);
	raft_apply_ready(r);
}

static void reply_chunk(struct raft *r, const struct raft_msg *m, bool ok)
{
	struct raft_msg *reply = raft_msg_new(r, RAFT_MSG_SNAPSHOT_REPLY, m->from);
	reply->ok = ok;
	reply->index = m->index;
	reply->offset = r->in_data.len;
	reply->round = m->round;
	raft_send(r, reply, false);
}

static void install(struct raft *r, const struct raft_msg *m)
{
	raft_log_reset(r, m->index, m->log_term);
	r->commit = r->applied = m->index;
	r->snap_conf = r->applied_conf = m->conf;
	raft_conf_rescan(r);
	struct raft_fx *fx = raft_emit(r, RAFT_FX_INSTALL);
	fx->seq = raft_write_add(r, m->index);
	fx->index = m->index;
	fx->term = m->log_term;
	fx->conf = m->conf;
	fx->data = r->in_data;
	r->in_data = (struct buf){ 0 };
	r->in_index = 0;
}

void raft_on_snapshot(struct raft *r, const struct raft_msg *m)
{
	if (r->role == RAFT_LEADER || m->log_term > m->term || m->n_data > m->total || m->offset > m->total - m->n_data)
		return;
	accept_leader(r, m);
	if (m->index <= r->commit) {
		reply_append(r, m, true, r->commit, 0);
		return;
	}
	if (m->index <= raft_last_index(r) && raft_term_at(r, m->index) == m->log_term) {
		/* The log holds all of it already. */
		r->commit = m->index;
		reply_append(r, m, true, r->commit, 0);
		raft_apply_ready(r);
		return;
	}
	if (r->in_index != m->index || r->in_term != m->log_term) {
		buf_clear(&r->in_data);
		r->in_index = m->index;
		r->in_term = m->log_term;
	}
	if (m->offset != r->in_data.len) {
		reply_chunk(r, m, false);
		return;
	}
	buf_put(&r->in_data, m->data, m->n_data);
	if (r->in_data.len < m->total) {
		reply_chunk(r, m, true);
		return;
	}
	install(r, m);
	reply_append(r, m, true, r->commit, 0);
}
