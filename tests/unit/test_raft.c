/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The step machine, one rule at a time; tests/sim/test_raft.c has the crowds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "control/raft/raft.h"

#define ELECTION 100
#define HEARTBEAT 10

/* Member 1 of as many voters, with a log of these terms (the first entry names the members). */
static struct raft *member(unsigned voters, const uint64_t *terms, size_t n, uint64_t term)
{
	struct raft_conf conf = { .n = voters };
	for (unsigned i = 0; i < voters; i++)
		conf.m[i] = (struct raft_member){ i + 1, true };
	struct buf b = { 0 };
	raft_conf_encode(&conf, &b);
	struct raft_entry **e = xcalloc(n, sizeof(*e));
	for (size_t i = 0; i < n; i++)
		e[i] = i ? raft_entry_new(i + 1, terms[i], RAFT_COMMAND, "x", 1)
		         : raft_entry_new(1, terms[0], RAFT_CONFIG, b.data, b.len);
	struct raft_config c = { .id = 1, .election_ms = ELECTION, .heartbeat_ms = HEARTBEAT, .seed = 1 };
	struct raft_saved s = { .term = term, .entries = e, .n_entries = n };
	struct raft *r = raft_new(&c, &s);
	for (size_t i = 0; i < n; i++)
		raft_entry_unref(e[i]);
	free(e);
	buf_fini(&b);
	return r;
}

/* What came out: counts by type of effect, the last disk number, messages by type. */
struct out {
	unsigned fx[RAFT_FX_LOST + 1], msg[RAFT_MSG_MAX];
	uint64_t seq, append_last, reply_index, term;
	bool reply_ok;
};

static struct out drain(struct raft *r)
{
	struct out o = { 0 };
	struct raft_fx fx;
	while (raft_next_fx(r, &fx)) {
		o.fx[fx.type]++;
		if (fx.seq)
			o.seq = fx.seq;
		if (fx.msg) {
			o.msg[fx.msg->type]++;
			o.term = fx.msg->term;
			o.reply_ok = fx.msg->ok;
			o.reply_index = fx.msg->index;
			if (fx.msg->n_entries)
				o.append_last = fx.msg->entries[fx.msg->n_entries - 1]->index;
		}
		raft_fx_fini(&fx);
	}
	return o;
}

static void give(struct raft *r, struct raft_msg m, int64_t now)
{
	m.to = 1;
	raft_receive(r, &m, now);
}

/* Makes member 1 of five the leader of the term after term. Returns the time. */
static int64_t elect(struct raft *r, uint64_t term)
{
	int64_t now = raft_due(r);
	raft_tick(r, now);
	for (uint64_t i = 2; i <= 3; i++)
		give(r, (struct raft_msg){ .type = RAFT_MSG_PREVOTE_REPLY, .from = i, .term = term + 1, .ok = true },
		     now);
	struct out o = drain(r);
	raft_persisted(r, o.seq, now);
	for (uint64_t i = 2; i <= 3; i++)
		give(r, (struct raft_msg){ .type = RAFT_MSG_VOTE_REPLY, .from = i, .term = term + 1, .ok = true }, now);
	assert_int_equal(raft_role_of(r), RAFT_LEADER);
	assert_int_equal(raft_term(r), term + 1);
	o = drain(r);
	raft_persisted(r, o.seq, now);
	drain(r);
	return now;
}

static void acks(struct raft *r, uint64_t term, uint64_t index, int64_t now)
{
	for (uint64_t i = 2; i <= 3; i++)
		give(r,
		     (struct raft_msg){
			     .type = RAFT_MSG_APPEND_REPLY, .from = i, .term = term, .index = index, .ok = true },
		     now);
}

/*
 * The paper's Figure 8: an entry of term 2 reaches a majority under the leader of term 4. It is not committed by that,
 * because a member without it could still be elected; it is once an entry of term 4 follows it there.
 */
static void test_figure_8(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1, 2 };
	struct raft *r = member(5, terms, 2, 3);
	int64_t now = elect(r, 3);
	assert_int_equal(raft_last_index(r), 3);
	assert_int_equal(raft_durable(r), 3);
	acks(r, 4, 2, now);
	assert_int_equal(raft_commit(r), 0);
	assert_int_equal(drain(r).fx[RAFT_FX_APPLY], 0);
	acks(r, 4, 3, now);
	assert_int_equal(raft_commit(r), 3);
	assert_int_equal(drain(r).fx[RAFT_FX_APPLY], 3);
	raft_free(r);
}

static void test_sole_voter_leads_at_once(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1, 1 };
	struct raft *r = member(1, terms, 2, 1);
	struct out o = drain(r);
	assert_int_equal(o.fx[RAFT_FX_SAVE], 1);
	assert_int_equal(raft_role_of(r), RAFT_CANDIDATE); /* its own vote is not durable yet */
	raft_persisted(r, o.seq, 0);
	assert_int_equal(raft_role_of(r), RAFT_LEADER);
	assert_false(raft_ready(r));
	o = drain(r);
	assert_int_equal(o.fx[RAFT_FX_APPEND], 1);
	assert_int_equal(raft_commit(r), 0);
	raft_persisted(r, o.seq, 0);
	assert_true(raft_ready(r));
	assert_int_equal(drain(r).fx[RAFT_FX_APPLY], 3);
	raft_free(r);
}

static void test_prevote_raises_no_term(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(3, terms, 1, 1);
	for (int i = 0; i < 20; i++) {
		raft_tick(r, raft_due(r));
		struct out o = drain(r);
		assert_int_equal(o.msg[RAFT_MSG_PREVOTE], 2);
		assert_int_equal(o.fx[RAFT_FX_SAVE], 0);
	}
	assert_int_equal(raft_term(r), 1);
	raft_free(r);
}

static struct raft_msg append(uint64_t term, uint64_t prev, uint64_t prev_term)
{
	return (struct raft_msg){
		.type = RAFT_MSG_APPEND, .from = 2, .term = term, .index = prev, .log_term = prev_term, .round = 1
	};
}

static void test_promises_wait_for_the_disk(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(3, terms, 1, 1);
	struct raft_entry *e = raft_entry_new(2, 1, RAFT_COMMAND, "y", 1);
	struct raft_msg m = append(1, 1, 1);
	m.entries = &e;
	m.n_entries = 1;
	m.commit = 2;
	give(r, m, 1);
	struct out o = drain(r);
	assert_int_equal(o.fx[RAFT_FX_APPEND], 1);
	assert_int_equal(o.fx[RAFT_FX_SEND], 0);
	assert_int_equal(o.fx[RAFT_FX_APPLY], 1); /* only what is durable here */
	raft_persisted(r, o.seq, 2);
	o = drain(r);
	assert_int_equal(o.msg[RAFT_MSG_APPEND_REPLY], 1);
	assert_true(o.reply_ok);
	assert_int_equal(o.reply_index, 2);
	assert_int_equal(o.fx[RAFT_FX_APPLY], 1);
	raft_entry_unref(e);

	give(r,
	     (struct raft_msg){
		     .type = RAFT_MSG_VOTE, .from = 3, .term = 9, .index = 5, .log_term = 8, .transfer = true },
	     500);
	o = drain(r);
	assert_int_equal(o.msg[RAFT_MSG_VOTE_REPLY], 0);
	raft_persisted(r, o.seq, 501);
	o = drain(r);
	assert_int_equal(o.msg[RAFT_MSG_VOTE_REPLY], 1);
	assert_true(o.reply_ok);
	raft_free(r);
}

static void test_one_vote_a_term(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1, 1 };
	struct raft *r = member(3, terms, 2, 1);
	struct raft_msg ask = { .type = RAFT_MSG_VOTE, .from = 2, .term = 2, .index = 1, .log_term = 1 };
	give(r, ask, 1); /* a shorter log */
	struct out o = drain(r);
	raft_persisted(r, o.seq, 1);
	assert_false(drain(r).reply_ok);
	ask.index = 2;
	give(r, ask, 1);
	o = drain(r);
	raft_persisted(r, o.seq, 1);
	assert_true(drain(r).reply_ok);
	ask.from = 3;
	ask.index = 7;
	give(r, ask, 1);
	o = drain(r);
	assert_int_equal(o.msg[RAFT_MSG_VOTE_REPLY], 1);
	assert_false(o.reply_ok);
	raft_free(r);
}

static void test_a_heard_leader_is_not_disturbed(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(3, terms, 1, 1);
	give(r, append(1, 1, 1), 10);
	drain(r);
	struct raft_msg ask = { .type = RAFT_MSG_VOTE, .from = 3, .term = 5, .index = 9, .log_term = 1 };
	give(r, ask, 20);
	assert_int_equal(raft_term(r), 1);
	assert_int_equal(drain(r).fx[RAFT_FX_SAVE], 0);
	ask.transfer = true; /* the leader itself asked for it */
	give(r, ask, 20);
	assert_int_equal(raft_term(r), 5);
	raft_free(r);
}

static void test_leader_without_a_quorum_gives_up(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(5, terms, 1, 1);
	int64_t now = elect(r, 1);
	acks(r, 2, 2, now + 50);
	while (now < 5000 && raft_role_of(r) == RAFT_LEADER) {
		now = raft_due(r);
		raft_tick(r, now);
	}
	struct out o = drain(r);
	assert_int_equal(o.fx[RAFT_FX_LOST], 1);
	assert_int_equal(raft_leader(r), 0);
	raft_free(r);
}

static void test_conflicts_are_replaced_and_replies_say_where(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1, 1, 2, 2, 2 };
	struct raft *r = member(3, terms, 5, 2);
	give(r, append(3, 5, 3), 1);
	struct out o = drain(r);
	raft_persisted(r, o.seq, 1);
	o = drain(r);
	assert_int_equal(o.msg[RAFT_MSG_APPEND_REPLY], 1);
	assert_false(o.reply_ok);
	struct raft_entry *e = raft_entry_new(3, 3, RAFT_COMMAND, "z", 1);
	struct raft_msg m = append(3, 2, 1);
	m.entries = &e;
	m.n_entries = 1;
	give(r, m, 2);
	o = drain(r);
	assert_int_equal(raft_last_index(r), 3);
	assert_int_equal(raft_term_at(r, 3), 3);
	assert_int_equal(raft_durable(r), 2);
	raft_persisted(r, o.seq, 3);
	assert_int_equal(raft_durable(r), 3);
	/* The same once more changes nothing. */
	give(r, m, 4);
	assert_int_equal(drain(r).fx[RAFT_FX_APPEND], 0);
	raft_entry_unref(e);
	raft_free(r);
}

static void test_one_change_at_a_time(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(5, terms, 1, 1);
	struct mesh_err err = { 0 };
	assert_int_equal(raft_change(r, RAFT_ADD, 6, 1, &err), MESH_E_NO_LEADER);
	int64_t now = elect(r, 1);
	/* Not before this term's first entry is committed. */
	assert_int_equal(raft_change(r, RAFT_ADD, 6, 1, &err), MESH_E_CONFLICT);
	acks(r, 2, 2, now);
	assert_int_equal(raft_change(r, RAFT_ADD, 6, 1, &err), 0);
	assert_int_equal(raft_change(r, RAFT_REMOVE, 5, 2, &err), MESH_E_CONFLICT);
	assert_int_equal(raft_conf_latest(r)->n, 6);
	assert_false(raft_conf_latest(r)->m[5].voter);
	struct out o = drain(r);
	assert_int_equal(o.fx[RAFT_FX_DONE], 0);
	raft_persisted(r, o.seq, now);
	acks(r, 2, 3, now);
	assert_int_equal(drain(r).fx[RAFT_FX_DONE], 1);
	/* Promotion waits until the learner has caught up. */
	assert_int_equal(raft_change(r, RAFT_PROMOTE, 6, 3, &err), 0);
	assert_false(raft_conf_latest(r)->m[5].voter);
	give(r, (struct raft_msg){ .type = RAFT_MSG_APPEND_REPLY, .from = 6, .term = 2, .index = 3, .ok = true }, now);
	assert_true(raft_conf_latest(r)->m[5].voter);
	assert_int_equal(raft_change(r, RAFT_PROMOTE, 77, 4, &err), MESH_E_CONFLICT);
	raft_free(r);
}

/* A vote for itself that is still behind another write does not make a leader. */
static void test_own_vote_counts_when_durable(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(3, terms, 1, 1);
	struct raft_entry *e = raft_entry_new(2, 1, RAFT_COMMAND, "y", 1);
	struct raft_msg m = append(1, 1, 1);
	m.entries = &e;
	m.n_entries = 1;
	give(r, m, 1);
	uint64_t first = drain(r).seq;
	give(r, (struct raft_msg){ .type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = 1 }, 2);
	uint64_t second = drain(r).seq;
	assert_true(second > first);
	give(r, (struct raft_msg){ .type = RAFT_MSG_VOTE_REPLY, .from = 3, .term = 2, .ok = true }, 3);
	raft_persisted(r, first, 4);
	assert_int_equal(raft_role_of(r), RAFT_CANDIDATE);
	raft_persisted(r, second, 5);
	assert_int_equal(raft_role_of(r), RAFT_LEADER);
	raft_entry_unref(e);
	raft_free(r);
}

/* The known hole of changing one member at a time: a new leader must first commit something of its own. */
static void test_no_change_before_the_terms_first_entry(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(5, terms, 1, 1);
	struct raft_msg m = append(1, 1, 1);
	struct mesh_err err = { 0 };
	m.commit = 1;
	give(r, m, 1);
	assert_int_equal(raft_commit(r), 1);
	drain(r);
	int64_t now = elect(r, 1);
	assert_int_equal(raft_change(r, RAFT_REMOVE, 5, 1, &err), MESH_E_CONFLICT);
	acks(r, 2, 2, now);
	assert_int_equal(raft_change(r, RAFT_REMOVE, 5, 1, &err), 0);
	raft_free(r);
}

/* A write of entries that were replaced while it ran makes nothing durable of what took their place. */
static void test_overtaken_write_proves_nothing(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(3, terms, 1, 1);
	struct raft_entry *old = raft_entry_new(2, 1, RAFT_COMMAND, "y", 1),
			  *new = raft_entry_new(2, 3, RAFT_COMMAND, "z", 1);
	struct raft_msg m = append(1, 1, 1);
	m.entries = &old;
	m.n_entries = 1;
	give(r, m, 1);
	uint64_t first = drain(r).seq;
	m = append(3, 1, 1);
	m.from = 3;
	m.entries = &new;
	m.n_entries = 1;
	m.commit = 2;
	give(r, m, 2);
	uint64_t second = drain(r).seq;
	raft_persisted(r, first, 3);
	assert_int_equal(raft_durable(r), 1);
	assert_int_equal(drain(r).fx[RAFT_FX_APPLY], 0);
	raft_persisted(r, second, 4);
	assert_int_equal(raft_durable(r), 2);
	assert_int_equal(drain(r).fx[RAFT_FX_APPLY], 1);
	raft_entry_unref(old);
	raft_entry_unref(new);
	raft_free(r);
}

static void test_last_voter_stays(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(1, terms, 1, 1);
	raft_persisted(r, drain(r).seq, 0);
	raft_persisted(r, drain(r).seq, 0);
	struct mesh_err err = { 0 };
	assert_int_equal(raft_change(r, RAFT_REMOVE, 1, 1, &err), MESH_E_INVALID);
	assert_int_equal(raft_change(r, RAFT_PROMOTE, 2, 1, &err), MESH_E_NOT_FOUND);
	raft_free(r);
}

static void test_full_disk_forgets_what_nobody_saw(void **state)
{
	(void)state;
	static const uint64_t terms[] = { 1 };
	struct raft *r = member(1, terms, 1, 1);
	raft_persisted(r, drain(r).seq, 0);
	raft_persisted(r, drain(r).seq, 0);
	drain(r);
	uint64_t index, again;
	assert_int_equal(raft_propose(r, "a", 1, &index), 0);
	drain(r);
	assert_true(raft_disk_full(r));
	assert_int_equal(raft_last_index(r), index - 1);
	assert_int_equal(raft_role_of(r), RAFT_LEADER);
	assert_int_equal(raft_propose(r, "b", 1, &again), 0);
	assert_int_equal(again, index);
	raft_persisted(r, drain(r).seq, 0);
	assert_int_equal(raft_commit(r), index);
	raft_free(r);

	/* With others about, it may be theirs already: it must be kept and tried again. */
	r = member(5, terms, 1, 1);
	(void)elect(r, 1);
	assert_int_equal(raft_propose(r, "a", 1, &index), 0);
	assert_false(raft_disk_full(r));
	assert_int_equal(raft_last_index(r), index);
	assert_int_not_equal(raft_role_of(r), RAFT_LEADER);
	raft_free(r);
}

static void test_message_round_trip(void **state)
{
	(void)state;
	struct raft_entry *e[2] = { raft_entry_new(8, 3, RAFT_COMMAND, "abc", 3),
		                    raft_entry_new(9, 4, RAFT_NOOP, NULL, 0) };
	struct raft_msg all[] = {
		{ .type = RAFT_MSG_VOTE, .transfer = true, .index = 5, .log_term = 4 },
		{ .type = RAFT_MSG_APPEND,
		  .index = 7,
		  .log_term = 3,
		  .commit = 6,
		  .round = 99,
		  .entries = e,
		  .n_entries = 2 },
		{ .type = RAFT_MSG_APPEND_REPLY, .index = 7, .hint = 3, .round = 12 },
		{ .type = RAFT_MSG_SNAPSHOT,
		  .index = 7,
		  .log_term = 3,
		  .offset = 2,
		  .total = 10,
		  .conf = { .n = 2, .m = { { 1, true }, { 2, false } } },
		  .data = (const uint8_t *)"data",
		  .n_data = 4 },
		{ .type = RAFT_MSG_SNAPSHOT_REPLY, .ok = true, .index = 7, .offset = 6, .round = 3 },
		{ .type = RAFT_MSG_TIMEOUT_NOW },
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct buf b = { 0 }, again = { 0 };
		struct raft_msg m;
		uint64_t cluster;
		all[i].from = 1;
		all[i].to = 2;
		all[i].term = 4;
		raft_msg_encode(&all[i], 77, &b);
		assert_int_equal(raft_msg_decode(&m, &cluster, b.data, b.len), 0);
		assert_int_equal(cluster, 77);
		assert_int_equal(m.n_entries, all[i].n_entries);
		assert_int_equal(m.total, all[i].total);
		raft_msg_encode(&m, 77, &again);
		assert_int_equal(again.len, b.len);
		assert_memory_equal(again.data, b.data, b.len);
		raft_msg_fini(&m);
		for (size_t n = 0; n < b.len; n++)
			assert_int_equal(raft_msg_decode(&m, &cluster, b.data, n), MESH_E_CORRUPT);
		b.data[0] = 9;
		assert_int_equal(raft_msg_decode(&m, &cluster, b.data, b.len), MESH_E_VERSION);
		buf_fini(&b);
		buf_fini(&again);
	}
	raft_entry_unref(e[0]);
	raft_entry_unref(e[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figure_8),
		cmocka_unit_test(test_sole_voter_leads_at_once),
		cmocka_unit_test(test_prevote_raises_no_term),
		cmocka_unit_test(test_promises_wait_for_the_disk),
		cmocka_unit_test(test_one_vote_a_term),
		cmocka_unit_test(test_a_heard_leader_is_not_disturbed),
		cmocka_unit_test(test_leader_without_a_quorum_gives_up),
		cmocka_unit_test(test_conflicts_are_replaced_and_replies_say_where),
		cmocka_unit_test(test_one_change_at_a_time),
		cmocka_unit_test(test_own_vote_counts_when_durable),
		cmocka_unit_test(test_no_change_before_the_terms_first_entry),
		cmocka_unit_test(test_overtaken_write_proves_nothing),
		cmocka_unit_test(test_last_voter_stays),
		cmocka_unit_test(test_full_disk_forgets_what_nobody_saw),
		cmocka_unit_test(test_message_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
