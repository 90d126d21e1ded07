/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages between Raft members: decoded, written again, and given to a member of three. */
#include "base/mem.h"
#include "control/raft/raft.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct raft *member(void)
{
	static const struct raft_conf conf = { .n = 3, .m = { { 1, true }, { 2, true }, { 3, true } } };
	struct buf b = { 0 };
	raft_conf_encode(&conf, &b);
	struct raft_entry *e[3] = { raft_entry_new(5, 2, RAFT_COMMAND, "a", 1),
		                    raft_entry_new(6, 2, RAFT_CONFIG, b.data, b.len),
		                    raft_entry_new(7, 3, RAFT_COMMAND, "b", 1) };
	struct raft_config c = { .id = 1, .election_ms = 100, .heartbeat_ms = 10, .seed = 1 };
	struct raft_saved s = {
		.term = 3, .snap_index = 4, .snap_term = 2, .snap_conf = conf, .entries = e, .n_entries = 3
	};
	struct raft *r = raft_new(&c, &s);
	for (int i = 0; i < 3; i++)
		raft_entry_unref(e[i]);
	buf_fini(&b);
	return r;
}

static void drain(struct raft *r)
{
	struct raft_fx fx;
	uint64_t seq = 0;
	while (raft_next_fx(r, &fx)) {
		if (fx.seq)
			seq = fx.seq;
		raft_fx_fini(&fx);
	}
	if (seq)
		raft_persisted(r, seq, 1);
	while (raft_next_fx(r, &fx))
		raft_fx_fini(&fx);
}

static void give(struct raft_msg *m, bool leads)
{
	struct raft *r = member();
	if (leads) {
		raft_tick(r, 1000);
		raft_receive(
			r,
			&(struct raft_msg){ .type = RAFT_MSG_PREVOTE_REPLY, .from = 2, .to = 1, .term = 4, .ok = true },
			1000);
		drain(r);
		raft_receive(
			r, &(struct raft_msg){ .type = RAFT_MSG_VOTE_REPLY, .from = 2, .to = 1, .term = 4, .ok = true },
			1000);
		drain(r);
		if (raft_role_of(r) != RAFT_LEADER)
			abort();
	}
	m->to = 1;
	raft_receive(r, m, 1001);
	drain(r);
	raft_receive(r, m, 1002);
	drain(r);
	raft_tick(r, 2000);
	drain(r);
	raft_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct raft_msg m, again;
	uint64_t cluster;
	struct buf b = { 0 };
	if (raft_msg_decode(&m, &cluster, p, n))
		return 0;
	raft_msg_encode(&m, cluster, &b);
	if (raft_msg_decode(&again, &cluster, b.data, b.len))
		abort();
	raft_msg_fini(&again);
	give(&m, false);
	give(&m, true);
	raft_msg_fini(&m);
	buf_fini(&b);
	return 0;
}
