/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/raft_impl.h"

#include <assert.h>

#include "base/mem.h"

/* How close a learner must have come before it may vote: what is sent in one go. */
#define CAUGHT_UP 64
#define PROMOTE_WAIT_ELECTIONS 20

/* ---- values ---- */

void raft_conf_encode(const struct raft_conf *c, struct buf *out)
{
	buf_put_u8(out, (uint8_t)c->n);
	for (unsigned i = 0; i < c->n; i++) {
		buf_put_u64(out, c->m[i].id);
		buf_put_u8(out, c->m[i].voter);
	}
}

int raft_conf_decode(struct raft_conf *out, const void *p, size_t n)
{
	struct rd r = rd_of(p, n);
	struct raft_conf c = { .n = rd_u8(&r) };
	if (c.n > RAFT_MEMBERS_MAX)
		return MESH_E_CORRUPT;
	for (unsigned i = 0; i < c.n; i++) {
		uint64_t id = rd_u64(&r);
		uint8_t voter = rd_u8(&r);
		for (unsigned j = 0; j < i; j++)
			if (c.m[j].id == id)
				return MESH_E_CORRUPT;
		if (!id || voter > 1)
			return MESH_E_CORRUPT;
		c.m[i] = (struct raft_member){ id, voter };
	}
	if (r.bad || rd_left(&r))
		return MESH_E_CORRUPT;
	*out = c;
	return 0;
}

const struct raft_member *raft_member_get(const struct raft_conf *c, uint64_t id)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->m[i].id == id)
			return &c->m[i];
	return NULL;
}

bool raft_is_voter(const struct raft *r)
{
	const struct raft_member *m = raft_member_get(&r->conf, r->id);
	return m && m->voter;
}

unsigned raft_quorum(const struct raft_conf *c)
{
	unsigned voters = 0;
	for (unsigned i = 0; i < c->n; i++)
		voters += c->m[i].voter;
	return voters / 2 + 1;
}

/* ---- the members in force ---- */

void raft_conf_appended(struct raft *r, const struct raft_entry *e)
{
	struct raft_conf c;
	/* Messages and the log are checked when they are decoded. */
	if (raft_conf_decode(&c, e->p, e->n))
		return;
	r->conf = c;
	r->conf_index = e->index;
	if (r->role == RAFT_LEADER)
		raft_peers_sync(r);
}

void raft_conf_rescan(struct raft *r)
{
	for (size_t i = r->log.len; i-- > 0;) {
		if (r->log.data[i]->type == RAFT_CONFIG && r->log.data[i]->index > r->snap_index) {
			raft_conf_appended(r, r->log.data[i]);
			return;
		}
	}
	r->conf = r->snap_conf;
	r->conf_index = r->snap_index;
}

void raft_conf_applied_entry(struct raft *r, const struct raft_entry *e)
{
	if (raft_conf_decode(&r->applied_conf, e->p, e->n))
		return;
	if (r->role != RAFT_LEADER)
		return;
	if (r->change_runs && !r->promote_id && r->change_index == e->index) {
		r->change_runs = false;
		raft_done(r, r->change_ctx, 0, e->index);
	}
	/* A leader that removed itself led until this was committed; the others learn so from a last heartbeat. */
	if (e->index == r->conf_index && !raft_is_voter(r)) {
		raft_heartbeat(r);
		raft_become_follower(r, r->term, 0);
	}
}

/* ---- changes ---- */

static int propose_conf(struct raft *r, const struct raft_conf *c, uint64_t ctx)
{
	struct buf b = { 0 };
	raft_conf_encode(c, &b);
	r->change_runs = true;
	r->promote_id = 0;
	r->change_ctx = ctx;
	r->change_index = raft_last_index(r) + 1;
	raft_log_append(r, raft_entry_new(r->change_index, r->term, RAFT_CONFIG, b.data, b.len));
	buf_fini(&b);
	raft_flush(r);
	return 0;
}

static int add(struct raft *r, uint64_t id, uint64_t ctx, struct mesh_err *err)
{
	struct raft_conf c = r->conf;
	if (c.n == RAFT_MEMBERS_MAX)
		return mesh_fail(err, MESH_E_EXHAUSTED, "raft: at most %d members", RAFT_MEMBERS_MAX);
	c.m[c.n++] = (struct raft_member){ id, false };
	return propose_conf(r, &c, ctx);
}

static int take_out(struct raft *r, uint64_t id, uint64_t ctx, struct mesh_err *err)
{
	struct raft_conf c = { 0 };
	unsigned voters = 0;
	for (unsigned i = 0; i < r->conf.n; i++) {
		if (r->conf.m[i].id == id)
			continue;
		voters += r->conf.m[i].voter;
		c.m[c.n++] = r->conf.m[i];
	}
	if (!voters)
		return mesh_fail(err, MESH_E_INVALID, "raft: the last voter cannot be removed");
	return propose_conf(r, &c, ctx);
}

static int promote(struct raft *r, uint64_t id, uint64_t ctx)
{
	r->change_runs = true;
	r->change_ctx = ctx;
	r->change_index = 0;
	r->promote_id = id;
	r->promote_due = r->now + PROMOTE_WAIT_ELECTIONS * r->election_ms;
	raft_promote_check(r);
	return 0;
}

void raft_promote_check(struct raft *r)
{
	const struct raft_peer *p = r->promote_id ? raft_peer_get(r, r->promote_id) : NULL;
	if (!p || !p->match || p->match + CAUGHT_UP < raft_last_index(r))
		return;
	struct raft_conf c = r->conf;
	for (unsigned i = 0; i < c.n; i++)
		if (c.m[i].id == p->id)
			c.m[i].voter = true;
	(void)propose_conf(r, &c, r->change_ctx); /* cannot fail */
}

int raft_change(struct raft *r, enum raft_change what, uint64_t id, uint64_t ctx, struct mesh_err *err)
{
	if (r->role != RAFT_LEADER || r->transfer_to)
		return mesh_fail(err, MESH_E_NO_LEADER, "raft: this node does not lead");
	if (!id)
		return mesh_fail(err, MESH_E_INVALID, "raft: member id 0");
	/* A change counts as running until it is committed; and none may start before this term's first entry is,
	 * or two leaders could change members from bases that differ by two. */
	if (r->change_runs || r->conf_index > r->commit || r->commit < r->noop_index)
		return mesh_fail(err, MESH_E_CONFLICT, "raft: another change of members is running");
	const struct raft_member *have = raft_member_get(&r->conf, id);
	bool nothing_to_do = (what == RAFT_ADD && have) || (what == RAFT_REMOVE && !have) ||
	                     (what == RAFT_PROMOTE && have && have->voter);
	if (nothing_to_do) {
		raft_done(r, ctx, 0, r->commit);
		return 0;
	}
	switch (what) {
	case RAFT_ADD:
		return add(r, id, ctx, err);
	case RAFT_PROMOTE:
		if (!have)
			return mesh_fail(err, MESH_E_NOT_FOUND, "raft: %llx is no member", (unsigned long long)id);
		return promote(r, id, ctx);
	case RAFT_REMOVE:
		return take_out(r, id, ctx, err);
	}
	return MESH_E_INVALID;
}

/* ---- transfer ---- */

int raft_transfer(struct raft *r, uint64_t to, uint64_t ctx, struct mesh_err *err)
{
	if (r->role != RAFT_LEADER)
		return mesh_fail(err, MESH_E_NO_LEADER, "raft: this node does not lead");
	if (r->transfer_to)
		return mesh_fail(err, MESH_E_CONFLICT, "raft: another transfer is running");
	const struct raft_member *m = raft_member_get(&r->conf, to);
	if (!m || !m->voter)
		return mesh_fail(err, MESH_E_INVALID, "raft: %llx is no voter", (unsigned long long)to);
	if (to == r->id) {
		raft_done(r, ctx, 0, r->commit);
		return 0;
	}
	r->transfer_to = to;
	r->transfer_ctx = ctx;
	r->transfer_due = r->now + r->election_ms;
	raft_transfer_check(r);
	raft_flush(r);
	return 0;
}

void raft_transfer_check(struct raft *r)
{
	const struct raft_peer *p = r->transfer_to ? raft_peer_get(r, r->transfer_to) : NULL;
	if (p && p->match == raft_last_index(r))
		raft_send(r, raft_msg_new(r, RAFT_MSG_TIMEOUT_NOW, p->id), true);
}

/* ---- when leadership goes ---- */

void raft_leader_ops_fail(struct raft *r, bool succeeded)
{
	for (size_t i = 0; i < r->reads.len; i++)
		raft_done(r, r->reads.data[i].ctx, MESH_E_NO_LEADER, 0);
	r->reads.len = 0;
	if (r->change_runs)
		raft_done(r, r->change_ctx, MESH_E_NO_LEADER, 0);
	r->change_runs = false;
	r->promote_id = 0;
	if (r->transfer_to)
		raft_done(r, r->transfer_ctx, succeeded ? 0 : MESH_E_NO_LEADER, 0);
	r->transfer_to = 0;
}
