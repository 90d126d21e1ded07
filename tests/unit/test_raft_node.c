/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Real loop, real files, up to three members in one process with a transport that can be cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "control/raft/raft_node.h"
#include "control/raft/wal.h"

#define MEMBERS 3
#define PATIENCE_MS 20000

struct packet {
	uint64_t from, to;
	uint8_t *p;
	size_t n;
};
/* The state machine is the text of all commands, in order. */
struct member {
	struct cluster *cl;
	uint64_t id;
	char dir[128];
	struct raft_node *n;
	struct buf text;
	uint64_t applied;
	bool leads, down, fatal, closed;
	unsigned restores;
	struct mesh_err fatal_err;
};
struct cluster {
	uv_loop_t loop;
	uv_timer_t patience;
	uv_idle_t net;
	bool timed_out;
	char dir[64];
	uint64_t snapshot_entries;
	struct member m[MEMBERS];
	struct VEC(struct packet) packets;
};
struct result {
	bool called;
	int status;
	uint64_t index;
	char msg[256];
};

static void on_result(void *arg, int status, uint64_t index, const struct mesh_err *err)
{
	struct result *r = arg;
	assert_false(r->called);
	r->called = true;
	r->status = status;
	r->index = index;
	snprintf(r->msg, sizeof(r->msg), "%s", err ? err->msg : "");
}

static int apply(void *arg, uint64_t index, const void *p, size_t n, struct mesh_err *err)
{
	struct member *m = arg;
	assert_true(index > m->applied);
	m->applied = index;
	if (n >= 3 && memcmp(p, "bad", 3) == 0)
		return mesh_fail(err, MESH_E_CONFLICT, "refused by the state machine");
	buf_put(&m->text, p, n);
	return 0;
}

static void snapshot(void *arg, struct buf *out)
{
	struct member *m = arg;
	buf_put_u64(out, m->applied);
	buf_put(out, m->text.data, m->text.len);
}

static int restore(void *arg, const void *p, size_t n, struct mesh_err *err)
{
	struct member *m = arg;
	struct rd r = rd_of(p, n);
	m->applied = rd_u64(&r);
	if (r.bad)
		return mesh_fail(err, MESH_E_CORRUPT, "short");
	buf_clear(&m->text);
	buf_put(&m->text, r.p, rd_left(&r));
	m->restores++;
	return 0;
}

static void on_leader(void *arg, bool leads)
{
	struct member *m = arg;
	assert_true(m->leads != leads);
	m->leads = leads;
}

static void on_fatal(void *arg, const struct mesh_err *err)
{
	struct member *m = arg;
	m->fatal = true;
	m->fatal_err = *err;
}

static void net_turn(uv_idle_t *h)
{
	struct cluster *c = h->data;
	uv_idle_stop(h);
	struct packet *p = c->packets.data;
	size_t n = c->packets.len;
	c->packets.data = NULL;
	c->packets.len = c->packets.cap = 0;
	for (size_t i = 0; i < n; i++) {
		struct member *to = &c->m[p[i].to - 1], *from = &c->m[p[i].from - 1];
		if (to->n && !to->down && !from->down)
			raft_node_receive(to->n, p[i].from, p[i].p, p[i].n);
		free(p[i].p);
	}
	free(p);
}

static void send_msg(void *arg, uint64_t to, const void *p, size_t n)
{
	struct member *m = arg;
	struct packet packet = { m->id, to, xmemdup(p, n), n };
	vec_push(&m->cl->packets, packet);
	uv_idle_start(&m->cl->net, net_turn);
}

static int try_start(struct cluster *c, unsigned i, bool bootstrap, struct mesh_err *err)
{
	struct member *m = &c->m[i];
	m->cl = c;
	m->id = i + 1;
	m->applied = 0;
	m->leads = m->down = m->fatal = m->closed = false;
	buf_clear(&m->text);
	snprintf(m->dir, sizeof(m->dir), "%s/%u", c->dir, i + 1);
	static struct seal_key *key;
	if (!key)
		key = seal_key_of(7);
	struct raft_node_config cfg = { .dir = m->dir,
		                        .key = key,
		                        .id = m->id,
		                        .cluster = 42,
		                        .election_ms = 300,
		                        .heartbeat_ms = 30,
		                        .snapshot_entries = c->snapshot_entries,
		                        .apply = apply,
		                        .snapshot = snapshot,
		                        .restore = restore,
		                        .on_leader = on_leader,
		                        .send = send_msg,
		                        .on_fatal = on_fatal,
		                        .arg = m };
	return raft_node_open(&c->loop, &cfg, bootstrap, &m->n, err);
}

static void start(struct cluster *c, unsigned i, bool bootstrap)
{
	struct mesh_err err = { 0 };
	if (try_start(c, i, bootstrap, &err))
		fail_msg("member %u: %s", i + 1, err.msg);
}

static void on_patience(uv_timer_t *t)
{
	((struct cluster *)t->data)->timed_out = true;
}

#define WAIT(c, cond)                                                                                                  \
	do {                                                                                                           \
		(c)->timed_out = false;                                                                                \
		uv_timer_start(&(c)->patience, on_patience, PATIENCE_MS, 0);                                           \
		while (!(cond)) {                                                                                      \
			if ((c)->timed_out)                                                                            \
				fail_msg("never came: %s", #cond);                                                     \
			uv_run(&(c)->loop, UV_RUN_ONCE);                                                               \
		}                                                                                                      \
		uv_timer_stop(&(c)->patience);                                                                         \
	} while (0)

static void on_closed(void *arg)
{
	struct member *m = arg;
	m->closed = true;
	m->n = NULL;
}

static void stop(struct cluster *c, unsigned i)
{
	struct member *m = &c->m[i];
	if (!m->n)
		return;
	m->closed = false;
	raft_node_close(m->n, on_closed, m);
	WAIT(c, m->closed);
}

static int propose(struct cluster *c, unsigned i, const char *text)
{
	struct result r = { 0 };
	raft_node_propose(c->m[i].n, text, strlen(text), on_result, &r);
	assert_false(r.called);
	WAIT(c, r.called);
	return r.status;
}

static int setup(void **state)
{
	struct cluster *c = XNEW(struct cluster);
	log_set_level(LOG_ERROR_);
	c->snapshot_entries = 100000;
	wal_test_space = -1;
	snprintf(c->dir, sizeof(c->dir), "/tmp/mesh-raft-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	assert_int_equal(uv_loop_init(&c->loop), 0);
	uv_timer_init(&c->loop, &c->patience);
	uv_idle_init(&c->loop, &c->net);
	c->patience.data = c->net.data = c;
	*state = c;
	return 0;
}

static int rm(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)st, (void)flag, (void)f;
	return remove(path);
}

static int teardown(void **state)
{
	struct cluster *c = *state;
	wal_test_space = -1;
	for (unsigned i = 0; i < MEMBERS; i++) {
		stop(c, i);
		buf_fini(&c->m[i].text);
	}
	uv_close((uv_handle_t *)&c->patience, NULL);
	uv_close((uv_handle_t *)&c->net, NULL);
	uv_run(&c->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&c->loop), 0);
	for (size_t i = 0; i < c->packets.len; i++)
		free(c->packets.data[i].p);
	vec_fini(&c->packets);
	nftw(c->dir, rm, 8, FTW_DEPTH | FTW_PHYS);
	free(c);
	return 0;
}

static void assert_text(struct member *m, const char *want)
{
	assert_string_equal(buf_str(&m->text), want);
}

static void test_one_voter(void **state)
{
	struct cluster *c = *state;
	char dir[128];
	snprintf(dir, sizeof(dir), "%s/1", c->dir);
	assert_false(raft_node_exists(dir));
	start(c, 0, true);
	assert_true(raft_node_exists(dir));
	assert_int_equal(raft_node_leader(c->m[0].n), 1);
	assert_false(c->m[0].leads); /* never from inside open */
	WAIT(c, c->m[0].leads);
	assert_true(raft_node_leads(c->m[0].n));
	assert_int_equal(propose(c, 0, "a"), 0);
	assert_int_equal(propose(c, 0, "b"), 0);
	assert_int_equal(propose(c, 0, "bad"), MESH_E_CONFLICT);
	struct result r = { 0 };
	raft_node_read(c->m[0].n, on_result, &r);
	WAIT(c, r.called);
	assert_int_equal(r.status, 0);
	stop(c, 0);

	/* Everything is back when open returns. */
	start(c, 0, false);
	assert_text(&c->m[0], "ab");
	WAIT(c, c->m[0].leads);
	assert_int_equal(propose(c, 0, "c"), 0);
	assert_text(&c->m[0], "abc");
}

static void test_refusals_to_open(void **state)
{
	struct cluster *c = *state;
	struct mesh_err err = { 0 };
	start(c, 0, true);
	struct raft_node *held = c->m[0].n;
	assert_int_equal(try_start(c, 0, false, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "another meshd uses this state directory"));
	c->m[0].n = held;
	stop(c, 0);
	assert_int_equal(try_start(c, 0, true, &err), MESH_E_CONFLICT);
	assert_non_null(strstr(err.msg, "already holds"));
}

static void test_many_at_once_keep_their_order(void **state)
{
	struct cluster *c = *state;
	enum { N = 5000 };
	struct result *r = xcalloc(N, sizeof(*r));
	start(c, 0, true);
	struct buf want = { 0 };
	for (unsigned i = 0; i < N; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%u,", i);
		buf_puts(&want, text);
		raft_node_propose(c->m[0].n, text, strlen(text), on_result, &r[i]);
	}
	WAIT(c, r[N - 1].called);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(r[i].status, 0);
		assert_true(!i || r[i].index == r[i - 1].index + 1);
	}
	assert_text(&c->m[0], buf_str(&want));
	buf_fini(&want);
	free(r);
}

static void test_closing_answers_everybody(void **state)
{
	struct cluster *c = *state;
	struct result r[3] = { 0 };
	start(c, 0, true);
	WAIT(c, c->m[0].leads);
	raft_node_propose(c->m[0].n, "x", 1, on_result, &r[0]);
	uv_run(&c->loop, UV_RUN_NOWAIT);
	raft_node_propose(c->m[0].n, "y", 1, on_result, &r[1]);
	raft_node_add(c->m[0].n, 2, on_result, &r[2]);
	stop(c, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_true(r[i].called);
	assert_int_equal(r[1].status, MESH_E_CLOSED);
	assert_int_equal(r[2].status, MESH_E_CLOSED);
}

static void test_snapshot_and_restart(void **state)
{
	struct cluster *c = *state;
	c->snapshot_entries = 50;
	start(c, 0, true);
	for (unsigned i = 0; i < 260; i++)
		assert_int_equal(propose(c, 0, "0123456789"), 0);
	size_t len = c->m[0].text.len;
	stop(c, 0);
	start(c, 0, false);
	assert_int_equal(c->m[0].restores, 1);
	assert_int_equal(c->m[0].text.len, len);
	assert_int_equal(propose(c, 0, "x"), 0);
}

/* A full disk: the proposal fails, nothing acknowledged is lost, and it goes on when there is space. */
static void test_full_disk(void **state)
{
	struct cluster *c = *state;
	start(c, 0, true);
	log_set_level((enum log_level)(LOG_ERROR_ + 1));
	assert_int_equal(propose(c, 0, "a"), 0);
	/* A sealed record of four bytes takes eighty. */
	for (int64_t space = 0; space < 160; space += 7) {
		wal_test_space = space;
		struct result r = { 0 };
		raft_node_propose(c->m[0].n, "lost", 4, on_result, &r);
		WAIT(c, r.called);
		assert_int_equal(r.status, space < 80 ? -ENOSPC : 0);
		if (r.status)
			assert_non_null(strstr(r.msg, "No space left"));
		wal_test_space = -1;
		if (r.status)
			assert_int_equal(propose(c, 0, "b"), 0);
	}
	assert_true(raft_node_leads(c->m[0].n));
	struct buf want = { 0 };
	buf_put(&want, c->m[0].text.data, c->m[0].text.len);
	stop(c, 0);
	start(c, 0, false);
	assert_text(&c->m[0], buf_str(&want));
	assert_int_equal(c->m[0].text.data[0], 'a');
	buf_fini(&want);
}

static int leader_of(struct cluster *c)
{
	for (unsigned i = 0; i < MEMBERS; i++)
		if (c->m[i].n && c->m[i].leads && !c->m[i].down)
			return (int)i;
	return -1;
}

static void ask(struct cluster *c, unsigned i, void (*fn)(struct raft_node *, uint64_t, raft_propose_cb, void *),
                uint64_t id)
{
	/* Another change may still be running, or the leader's first entry not be committed. */
	for (;;) {
		struct result r = { 0 };
		fn(c->m[i].n, id, on_result, &r);
		WAIT(c, r.called);
		if (r.status == MESH_E_CONFLICT)
			continue;
		if (r.status)
			fail_msg("%d %s", r.status, r.msg);
		return;
	}
}

static void three(struct cluster *c)
{
	start(c, 0, true);
	WAIT(c, c->m[0].leads);
	for (unsigned i = 1; i < MEMBERS; i++) {
		start(c, i, false);
		ask(c, 0, raft_node_add, i + 1);
		ask(c, 0, raft_node_promote, i + 1);
	}
}

static bool same_text(struct cluster *c, const char *want)
{
	for (unsigned i = 0; i < MEMBERS; i++)
		if (strcmp(buf_str(&c->m[i].text), want) != 0)
			return false;
	return true;
}

static void test_three_replicate_and_fail_over(void **state)
{
	struct cluster *c = *state;
	three(c);
	assert_int_equal(propose(c, 0, "a"), 0);
	WAIT(c, same_text(c, "a"));
	assert_int_equal(propose(c, 1, "no"), MESH_E_NO_LEADER);
	assert_int_equal(raft_node_leader(c->m[1].n), 1);

	/* The leader is cut off: the others elect one of them, and it gives up. */
	struct result lost = { 0 };
	c->m[0].down = true;
	raft_node_propose(c->m[0].n, "z", 1, on_result, &lost);
	WAIT(c, leader_of(c) > 0);
	unsigned next = (unsigned)leader_of(c);
	assert_int_equal(propose(c, next, "b"), 0);
	WAIT(c, lost.called && !c->m[0].leads);
	assert_int_equal(lost.status, MESH_E_NO_LEADER);
	c->m[0].down = false;
	WAIT(c, same_text(c, "ab"));

	/* All of them restart. */
	for (unsigned i = 0; i < MEMBERS; i++)
		stop(c, i);
	for (unsigned i = 0; i < MEMBERS; i++)
		start(c, i, false);
	WAIT(c, leader_of(c) >= 0);
	assert_int_equal(propose(c, (unsigned)leader_of(c), "c"), 0);
	WAIT(c, same_text(c, "abc"));
}

static void test_transfer_and_removal(void **state)
{
	struct cluster *c = *state;
	three(c);
	struct result r = { 0 };
	raft_node_transfer(c->m[0].n, 2, on_result, &r);
	WAIT(c, r.called && c->m[1].leads && !c->m[0].leads);
	assert_int_equal(r.status, 0);
	/* The leader takes itself out; the two that stay go on. */
	ask(c, 1, raft_node_remove, 2);
	WAIT(c, !c->m[1].leads && leader_of(c) >= 0);
	stop(c, 1);
	assert_int_equal(propose(c, (unsigned)leader_of(c), "x"), 0);
	WAIT(c, c->m[0].text.len == 1 && c->m[2].text.len == 1);
	struct result gone = { 0 };
	raft_node_promote(c->m[leader_of(c)].n, 9, on_result, &gone);
	WAIT(c, gone.called);
	assert_int_equal(gone.status, MESH_E_NOT_FOUND);
}

/* Every disk is full: what was proposed fails, everybody keeps trying, and they go on when there is space. */
static void test_full_disks_of_three(void **state)
{
	struct cluster *c = *state;
	three(c);
	assert_int_equal(propose(c, 0, "a"), 0);
	WAIT(c, same_text(c, "a"));
	log_set_level((enum log_level)(LOG_ERROR_ + 1));
	wal_test_space = 0;
	assert_int_equal(propose(c, 0, "b"), -ENOSPC);
	WAIT(c, !c->m[0].leads);
	wal_test_space = -1;
	WAIT(c, leader_of(c) >= 0);
	int rc;
	do
		rc = leader_of(c) < 0 ? MESH_E_NO_LEADER : propose(c, (unsigned)leader_of(c), "c");
	while (rc == MESH_E_NO_LEADER && uv_run(&c->loop, UV_RUN_ONCE));
	assert_int_equal(rc, 0);
	/* "b" may be in a log: its proposer was told that it failed or is unknown, and it may yet be carried out. */
	WAIT(c, same_text(c, "abc") || same_text(c, "ac"));
	for (unsigned i = 0; i < MEMBERS; i++)
		assert_false(c->m[i].fatal);
}

/* More state than one chunk reaches a member that was away while the log was cut. */
static void test_snapshot_to_a_follower(void **state)
{
	struct cluster *c = *state;
	c->snapshot_entries = 40;
	three(c);
	c->m[2].down = true;
	char *big = xcalloc(1, 10001);
	memset(big, 'x', 10000);
	for (unsigned i = 0; i < 120; i++)
		assert_int_equal(propose(c, 0, big), 0);
	size_t want = c->m[0].text.len;
	assert_int_equal(want, 1200000);
	c->m[2].down = false;
	WAIT(c, c->m[2].text.len == want);
	assert_true(c->m[2].restores > 0);
	/* It kept what it was given. */
	stop(c, 2);
	start(c, 2, false);
	assert_int_equal(propose(c, (unsigned)leader_of(c), "y"), 0);
	WAIT(c, c->m[2].text.len == want + 1);
	free(big);
}

static void test_reads_need_a_quorum(void **state)
{
	struct cluster *c = *state;
	three(c);
	struct result r = { 0 };
	raft_node_read(c->m[0].n, on_result, &r);
	WAIT(c, r.called);
	assert_int_equal(r.status, 0);
	struct result follower = { 0 };
	raft_node_read(c->m[1].n, on_result, &follower);
	WAIT(c, follower.called);
	assert_int_equal(follower.status, MESH_E_NO_LEADER);
	c->m[1].down = c->m[2].down = true;
	struct result cut = { 0 };
	raft_node_read(c->m[0].n, on_result, &cut);
	WAIT(c, cut.called);
	assert_int_equal(cut.status, MESH_E_NO_LEADER);
	WAIT(c, !c->m[0].leads);
}

static void test_foreign_messages_are_dropped(void **state)
{
	struct cluster *c = *state;
	start(c, 0, true);
	WAIT(c, c->m[0].leads);
	uint64_t term = raft_node_term(c->m[0].n);
	struct raft_msg m = { .type = RAFT_MSG_VOTE, .from = 2, .to = 1, .term = term + 5, .transfer = true };
	struct buf b = { 0 };
	raft_msg_encode(&m, 41, &b);
	log_set_level((enum log_level)(LOG_ERROR_ + 1));
	raft_node_receive(c->m[0].n, 2, b.data, b.len); /* another cluster */
	buf_clear(&b);
	raft_msg_encode(&m, 42, &b);
	raft_node_receive(c->m[0].n, 3, b.data, b.len); /* not who it says */
	for (size_t n = 0; n < b.len; n++)
		raft_node_receive(c->m[0].n, 2, b.data, n);
	assert_int_equal(raft_node_term(c->m[0].n), term);
	raft_node_receive(c->m[0].n, 2, b.data, b.len); /* and this one is heard */
	assert_int_equal(raft_node_term(c->m[0].n), term + 5);
	buf_fini(&b);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_one_voter),
		T(test_refusals_to_open),
		T(test_many_at_once_keep_their_order),
		T(test_closing_answers_everybody),
		T(test_snapshot_and_restart),
		T(test_full_disk),
		T(test_three_replicate_and_fail_over),
		T(test_transfer_and_removal),
		T(test_full_disks_of_three),
		T(test_snapshot_to_a_follower),
		T(test_reads_need_a_quorum),
		T(test_foreign_messages_are_dropped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
