/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/raft_impl.h"

#include <errno.h>

#include "base/mem.h"

#define UNCOMMITTED_MAX 16384

/* ---- effects ---- */

struct raft_fx *raft_emit(struct raft *r, enum raft_fx_type type)
{
	if (r->fx_len == r->fx_cap) {
		r->fx_cap = r->fx_cap ? r->fx_cap * 2 : 16;
		r->fx = xrealloc(r->fx, r->fx_cap * sizeof(*r->fx));
	}
	struct raft_fx *fx = &r->fx[r->fx_len++];
	*fx = (struct raft_fx){ .type = type };
	return fx;
}

bool raft_next_fx(struct raft *r, struct raft_fx *fx)
{
	if (r->fx_head == r->fx_len) {
		r->fx_head = r->fx_len = 0;
		return false;
	}
	*fx = r->fx[r->fx_head++];
	return true;
}

void raft_fx_fini(struct raft_fx *fx)
{
	raft_entry_unref(fx->entry);
	if (fx->msg) {
		raft_msg_fini(fx->msg);
		free(fx->msg);
	}
	buf_fini(&fx->data);
	fx->entry = NULL;
	fx->msg = NULL;
}

void raft_done(struct raft *r, uint64_t ctx, int status, uint64_t index)
{
	struct raft_fx *fx = raft_emit(r, RAFT_FX_DONE);
	fx->ctx = ctx;
	fx->status = status;
	fx->index = index;
}

struct raft_msg *raft_msg_new(struct raft *r, enum raft_msg_type type, uint64_t to)
{
	struct raft_msg *m = XNEW(struct raft_msg);
	m->type = type;
	m->from = r->id;
	m->to = to;
	m->term = r->term;
	return m;
}

void raft_send(struct raft *r, struct raft_msg *m, bool now_ok)
{
	if (!now_ok && r->write_seq > r->durable_seq) {
		vec_push(&r->held, ((struct raft_held){ r->write_seq, m }));
		return;
	}
	raft_emit(r, RAFT_FX_SEND)->msg = m;
}

uint64_t raft_write_add(struct raft *r, uint64_t last)
{
	vec_push(&r->writes, ((struct raft_write){ ++r->write_seq, last }));
	return r->write_seq;
}

void raft_save(struct raft *r)
{
	uint64_t last = r->writes.len ? r->writes.data[r->writes.len - 1].last : r->durable;
	struct raft_fx *fx = raft_emit(r, RAFT_FX_SAVE);
	fx->seq = raft_write_add(r, last);
	fx->term = r->term;
	fx->vote = r->vote;
}

void raft_apply_ready(struct raft *r)
{
	uint64_t to = r->commit < r->durable ? r->commit : r->durable;
	while (r->applied < to) {
		struct raft_entry *e = r->log.data[r->applied - r->base];
		r->applied++;
		raft_emit(r, RAFT_FX_APPLY)->entry = raft_entry_ref(e);
		if (e->type == RAFT_CONFIG)
			raft_conf_applied_entry(r, e);
	}
	raft_reads_check(r);
}

/* ---- life ---- */

struct raft *raft_new(const struct raft_config *c, const struct raft_saved *s)
{
	struct raft *r = XNEW(struct raft);
	r->id = c->id;
	r->election_ms = c->election_ms;
	r->heartbeat_ms = c->heartbeat_ms;
	r->now = c->now;
	mesh_rng_seed(&r->rng, c->seed);
	r->term = s->term;
	r->vote = s->vote;
	r->base = r->snap_index = r->commit = r->applied = s->snap_index;
	r->base_term = r->snap_term = s->snap_term;
	r->snap_conf = r->applied_conf = s->snap_conf;
	for (size_t i = 0; i < s->n_entries; i++)
		vec_push(&r->log, raft_entry_ref(s->entries[i]));
	r->durable = raft_last_index(r);
	raft_conf_rescan(r);
	raft_election_reset(r);
	if (raft_is_voter(r) && raft_quorum(&r->conf) == 1)
		raft_campaign(r, false, false);
	return r;
}

void raft_free(struct raft *r)
{
	if (!r)
		return;
	struct raft_fx fx;
	while (raft_next_fx(r, &fx))
		raft_fx_fini(&fx);
	free(r->fx);
	for (size_t i = 0; i < r->held.len; i++) {
		raft_msg_fini(r->held.data[i].msg);
		free(r->held.data[i].msg);
	}
	vec_fini(&r->held);
	for (size_t i = 0; i < r->log.len; i++)
		raft_entry_unref(r->log.data[i]);
	vec_fini(&r->log);
	vec_fini(&r->writes);
	vec_fini(&r->reads);
	buf_fini(&r->in_data);
	free(r);
}

/* ---- roles ---- */

static void stop_leading(struct raft *r, bool succeeded)
{
	raft_emit(r, RAFT_FX_LOST);
	raft_leader_ops_fail(r, succeeded);
	r->n_peers = 0;
}

void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader)
{
	if (r->role == RAFT_LEADER)
		stop_leading(r, term > r->term);
	r->role = RAFT_FOLLOWER;
	r->leader = leader;
	if (leader)
		r->leader_seen = r->now;
	if (term > r->term) {
		r->term = term;
		r->vote = 0;
		raft_save(r);
	}
	raft_election_reset(r);
}

/* ---- time ---- */

static void tick_leader(struct raft *r)
{
	if (r->now >= r->quorum_due) {
		if (!raft_quorum_heard(r)) {
			raft_become_follower(r, r->term, 0);
			return;
		}
		r->quorum_due = r->now + r->election_ms / 2;
	}
	if (r->transfer_to && r->now >= r->transfer_due) {
		raft_done(r, r->transfer_ctx, MESH_E_TIMEOUT, 0);
		r->transfer_to = 0;
	}
	if (r->promote_id && r->now >= r->promote_due) {
		raft_done(r, r->change_ctx, MESH_E_TIMEOUT, 0);
		r->promote_id = 0;
		r->change_runs = false;
	}
	if (r->now >= r->heartbeat_due)
		raft_heartbeat(r);
}

void raft_tick(struct raft *r, int64_t now)
{
	r->now = now;
	if (r->role == RAFT_LEADER)
		tick_leader(r);
	else if (now >= r->election_due)
		raft_campaign(r, true, false);
	raft_flush(r);
}

int64_t raft_due(const struct raft *r)
{
	if (r->role != RAFT_LEADER)
		return r->election_due;
	return r->heartbeat_due < r->quorum_due ? r->heartbeat_due : r->quorum_due;
}

/* ---- messages ---- */

static void refuse_stale(struct raft *r, const struct raft_msg *m)
{
	/* Our term in the answer makes a leader or candidate of an old one step down. */
	enum raft_msg_type type;
	switch (m->type) {
	case RAFT_MSG_APPEND:
	case RAFT_MSG_SNAPSHOT:
		type = RAFT_MSG_APPEND_REPLY;
		break;
	case RAFT_MSG_PREVOTE:
		type = RAFT_MSG_PREVOTE_REPLY;
		break;
	case RAFT_MSG_VOTE:
		type = RAFT_MSG_VOTE_REPLY;
		break;
	default:
		return;
	}
	struct raft_msg *reply = raft_msg_new(r, type, m->from);
	reply->index = m->index;
	raft_send(r, reply, false);
}

/* Does the message go on to its handler? */
static bool check_term(struct raft *r, const struct raft_msg *m)
{
	if (m->term < r->term) {
		refuse_stale(r, m);
		return false;
	}
	if (m->term == r->term)
		return true;
	if (m->type == RAFT_MSG_PREVOTE || (m->type == RAFT_MSG_PREVOTE_REPLY && m->ok))
		return true;
	if (m->type == RAFT_MSG_VOTE && !m->transfer && raft_lease_held(r))
		return false;
	bool leads = m->type == RAFT_MSG_APPEND || m->type == RAFT_MSG_SNAPSHOT;
	raft_become_follower(r, m->term, leads ? m->from : 0);
	return true;
}

static void on_timeout_now(struct raft *r)
{
	if (r->role != RAFT_LEADER)
		raft_campaign(r, false, true);
}

void raft_receive(struct raft *r, const struct raft_msg *m, int64_t now)
{
	r->now = now;
	if (m->to != r->id || m->from == r->id || !check_term(r, m))
		return;
	switch (m->type) {
	case RAFT_MSG_PREVOTE:
	case RAFT_MSG_VOTE:
		raft_on_vote_request(r, m);
		break;
	case RAFT_MSG_PREVOTE_REPLY:
	case RAFT_MSG_VOTE_REPLY:
		raft_on_vote_reply(r, m);
		break;
	case RAFT_MSG_APPEND:
		raft_on_append(r, m);
		break;
	case RAFT_MSG_APPEND_REPLY:
		raft_on_append_reply(r, m);
		break;
	case RAFT_MSG_SNAPSHOT:
		raft_on_snapshot(r, m);
		break;
	case RAFT_MSG_SNAPSHOT_REPLY:
		raft_on_snapshot_reply(r, m);
		break;
	case RAFT_MSG_TIMEOUT_NOW:
		on_timeout_now(r);
		break;
	case RAFT_MSG_MAX:
		break;
	}
	raft_flush(r);
}

void raft_persisted(struct raft *r, uint64_t seq, int64_t now)
{
	r->now = now;
	if (seq <= r->durable_seq)
		return;
	r->durable_seq = seq;
	size_t n = 0;
	for (; n < r->writes.len && r->writes.data[n].seq <= seq; n++)
		if (r->writes.data[n].last > r->durable)
			r->durable = r->writes.data[n].last;
	if (n)
		memmove(r->writes.data, r->writes.data + n, (r->writes.len - n) * sizeof(*r->writes.data));
	r->writes.len -= n;
	for (n = 0; n < r->held.len && r->held.data[n].seq <= seq; n++)
		raft_emit(r, RAFT_FX_SEND)->msg = r->held.data[n].msg;
	if (n)
		memmove(r->held.data, r->held.data + n, (r->held.len - n) * sizeof(*r->held.data));
	r->held.len -= n;
	if (r->role == RAFT_CANDIDATE && seq >= r->vote_seq)
		raft_count_own_vote(r);
	if (r->role == RAFT_LEADER)
		raft_advance_commit(r);
	raft_apply_ready(r);
	raft_flush(r);
}

int raft_propose(struct raft *r, const void *p, size_t n, uint64_t *index)
{
	*index = 0;
	if (r->role != RAFT_LEADER || r->transfer_to)
		return MESH_E_NO_LEADER;
	if (n > RAFT_ENTRY_BYTES_MAX)
		return MESH_E_INVALID;
	if (raft_last_index(r) - r->commit >= UNCOMMITTED_MAX)
		return -EAGAIN;
	*index = raft_last_index(r) + 1;
	raft_log_append(r, raft_entry_new(*index, r->term, RAFT_COMMAND, p, n));
	return 0;
}

void raft_compacted(struct raft *r, uint64_t index, uint64_t keep)
{
	if (index <= r->snap_index || index > r->applied)
		return;
	r->snap_index = index;
	r->snap_term = raft_term_at(r, index);
	/* The shell took it at the applied index of then; a CONFIG since is still in the log. */
	for (uint64_t i = index; i > r->base; i--) {
		const struct raft_entry *e = r->log.data[i - r->base - 1];
		if (e->type != RAFT_CONFIG)
			continue;
		if (raft_conf_decode(&r->snap_conf, e->p, e->n))
			continue;
		break;
	}
	raft_log_drop_to(r, index > keep ? index - keep : 0);
}

bool raft_disk_full(struct raft *r)
{
	/* With a change of members under way somebody else may hold what would be forgotten. */
	bool sole = r->conf.n == 1 && raft_is_voter(r) && r->conf_index <= r->commit && r->commit <= r->durable;
	if (!sole) {
		if (r->role == RAFT_LEADER)
			raft_become_follower(r, r->term, 0);
		return false;
	}
	if (r->role == RAFT_LEADER && r->durable < r->noop_index)
		raft_become_follower(r, r->term, 0);
	raft_log_truncate(r, r->durable + 1);
	r->writes.len = 0;
	r->durable_seq = r->write_seq;
	/* Nobody waits for a sole member's answers but itself. */
	for (size_t i = 0; i < r->held.len; i++) {
		raft_msg_fini(r->held.data[i].msg);
		free(r->held.data[i].msg);
	}
	r->held.len = 0;
	if (r->role != RAFT_LEADER) {
		/* A vote for itself may be among what was not written: only a new term is safe. */
		r->role = RAFT_FOLLOWER;
		raft_election_reset(r);
	}
	return true;
}

/* ---- questions ---- */

enum raft_role raft_role_of(const struct raft *r)
{
	return r->role;
}

uint64_t raft_id(const struct raft *r)
{
	return r->id;
}

uint64_t raft_term(const struct raft *r)
{
	return r->term;
}

uint64_t raft_leader(const struct raft *r)
{
	return r->leader;
}

uint64_t raft_commit(const struct raft *r)
{
	return r->commit;
}

uint64_t raft_applied(const struct raft *r)
{
	return r->applied;
}

uint64_t raft_durable(const struct raft *r)
{
	return r->durable;
}

bool raft_ready(const struct raft *r)
{
	return r->role == RAFT_LEADER && r->applied >= r->noop_index;
}

const struct raft_conf *raft_conf_latest(const struct raft *r)
{
	return &r->conf;
}

const struct raft_conf *raft_conf_applied(const struct raft *r)
{
	return &r->applied_conf;
}
