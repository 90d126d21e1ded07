/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cluster of Raft cores in virtual time: messages are lost, doubled, delayed and reordered, the network splits,
 * members crash and lose what was not durable, members come and go. Everything follows from the seed. After each
 * millisecond: one leader a term, logs that match, leaders that hold all that was committed, one history.
 *
 *   MESH_SIM_SEED=n  runs one seed      MESH_SIM_SEEDS=n  runs that many
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/map.h"
#include "base/mem.h"
#include "control/raft/raft.h"

#define NODES 5
#define FAULTS_MS 6000
#define CALM_MS 8000
#define INDEX_MAX 65536
#define TERM_MAX 4096

/* ---- the world ---- */

struct write {
	uint64_t seq;
	enum raft_fx_type type;
	uint64_t term, vote, index;
	struct raft_entry *entry;
	struct raft_conf conf;
	struct buf data;
};
struct snap {
	uint64_t index, term;
	struct raft_conf conf;
	struct buf data;
};
struct entries VEC(struct raft_entry *);
struct node {
	uint64_t id;
	struct raft *raft; /* NULL: down */
	int64_t up_at;     /* when it comes back */
	/* Durable. */
	uint64_t term, vote, base; /* base: what the entries come after */
	struct entries log;
	struct snap snap;
	/* On its way to the disk. */
	struct VEC(struct write) writes;
	struct snap taking;
	int64_t taken_at; /* 0: none is being taken */
	int disk_ms;      /* how slow its disk is */
	/* State machine. */
	uint64_t applied, chain;
	unsigned group; /* of the partition */
	uint64_t led_term;
};
struct packet {
	int64_t at;
	uint64_t from, to;
	struct buf b;
};
struct asked {
	uint64_t ctx, floor;
};
struct world {
	unsigned seed, n, founders;
	struct mesh_rng rng;
	int64_t now;
	struct node node[NODES];
	struct VEC(struct packet) net;
	struct VEC(struct asked) reads;
	uint64_t next_ctx, next_value;
	bool faults, members_change, big;
	unsigned loss, dup, delay; /* per cent, per cent, ms */
	unsigned crashes;          /* one in so many ms, each node; new leaders are hit more */
	uint64_t leaders[TERM_MAX];
	struct {
		uint64_t term, chain;
	} * history; /* what was applied at each index */
	uint64_t history_n, elections, reads_ok, restores, changes;
};

#define CHECK(w, cond, ...)                                                                                            \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			print_error("seed %u, %lld ms: ", (w)->seed, (long long)(w)->now);                             \
			print_error(__VA_ARGS__);                                                                      \
			fail_msg(" [%s] MESH_SIM_SEED=%u repeats it", #cond, (w)->seed);                               \
		}                                                                                                      \
	} while (0)

static bool chance(struct world *w, unsigned percent)
{
	return mesh_rng_below(&w->rng, 100) < percent;
}

static unsigned below(struct world *w, unsigned n)
{
	return (unsigned)mesh_rng_below(&w->rng, n);
}

/* ---- one node's shell ---- */

static void write_free(struct write *x)
{
	raft_entry_unref(x->entry);
	buf_fini(&x->data);
}

static void log_cut(struct node *n, uint64_t from)
{
	while (n->base + n->log.len >= from && n->log.len)
		raft_entry_unref(n->log.data[--n->log.len]);
}

static void make_durable(struct world *w, struct node *n, struct write *x)
{
	switch (x->type) {
	case RAFT_FX_SAVE:
		n->term = x->term;
		n->vote = x->vote;
		break;
	case RAFT_FX_APPEND:
		CHECK(w, x->entry->index > n->base && x->entry->index <= n->base + n->log.len + 1,
		      "node %llu writes entry %llu after %llu ", (unsigned long long)n->id,
		      (unsigned long long)x->entry->index, (unsigned long long)(n->base + n->log.len));
		log_cut(n, x->entry->index);
		vec_push(&n->log, raft_entry_ref(x->entry));
		break;
	default:
		log_cut(n, 0);
		n->base = n->snap.index = x->index;
		n->snap.term = x->term;
		n->snap.conf = x->conf;
		buf_fini(&n->snap.data);
		n->snap.data = x->data;
		x->data = (struct buf){ 0 };
	}
}

static void make_durable_upto(struct world *w, struct node *n, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		make_durable(w, n, &n->writes.data[i]);
		write_free(&n->writes.data[i]);
	}
	if (count)
		memmove(n->writes.data, n->writes.data + count, (n->writes.len - count) * sizeof(*n->writes.data));
	n->writes.len -= count;
}

static void post(struct world *w, struct node *from, const struct raft_msg *m)
{
	if (w->faults && chance(w, w->loss))
		return;
	unsigned copies = w->faults && chance(w, w->dup) ? 2 : 1;
	for (unsigned i = 0; i < copies; i++) {
		struct packet p = { .at = w->now + 1 + below(w, w->faults ? w->delay : 3),
			            .from = from->id,
			            .to = m->to };
		raft_msg_encode(m, 7, &p.b);
		vec_push(&w->net, p);
	}
}

static void post_snapshot(struct world *w, struct node *n, struct raft_msg *m)
{
	/* A newer one may have taken its place since; the leader will ask for that. */
	if (m->index != n->snap.index || m->offset > n->snap.data.len)
		return;
	size_t left = n->snap.data.len - m->offset;
	m->total = n->snap.data.len;
	m->data = n->snap.data.data + m->offset;
	m->n_data = left < RAFT_SNAPSHOT_CHUNK ? left : RAFT_SNAPSHOT_CHUNK;
	post(w, n, m);
}

static void apply(struct world *w, struct node *n, const struct raft_entry *e)
{
	CHECK(w, e->index == n->applied + 1, "node %llu applies %llu after %llu ", (unsigned long long)n->id,
	      (unsigned long long)e->index, (unsigned long long)n->applied);
	CHECK(w, e->index < INDEX_MAX, "too long a run ");
	uint64_t mix[4] = { n->chain, e->term, e->type, hash64(e->p, e->n) };
	n->applied = e->index;
	n->chain = hash64(mix, sizeof(mix));
	if (e->index > w->history_n) {
		CHECK(w, e->index == w->history_n + 1, "history has a hole ");
		w->history[e->index].term = e->term;
		w->history[e->index].chain = n->chain;
		w->history_n = e->index;
	}
	CHECK(w, w->history[e->index].chain == n->chain && w->history[e->index].term == e->term,
	      "node %llu applied another entry %llu (term %llu, was %llu) ", (unsigned long long)n->id,
	      (unsigned long long)e->index, (unsigned long long)e->term, (unsigned long long)w->history[e->index].term);
}

static void restore(struct world *w, struct node *n, const struct buf *b, uint64_t index)
{
	struct rd r = rd_of(b->data, b->len);
	n->applied = rd_u64(&r);
	n->chain = rd_u64(&r);
	CHECK(w, !r.bad && n->applied == index && index <= w->history_n && w->history[index].chain == n->chain,
	      "node %llu was given a wrong snapshot of %llu ", (unsigned long long)n->id, (unsigned long long)index);
}

static void done(struct world *w, struct node *n, const struct raft_fx *fx)
{
	for (size_t i = 0; i < w->reads.len; i++) {
		if (w->reads.data[i].ctx != fx->ctx)
			continue;
		if (fx->status == 0) {
			w->reads_ok++;
			CHECK(w, fx->index >= w->reads.data[i].floor && n->applied >= fx->index,
			      "node %llu read at %llu what was at least %llu ", (unsigned long long)n->id,
			      (unsigned long long)fx->index, (unsigned long long)w->reads.data[i].floor);
		}
		vec_remove(&w->reads, i);
		return;
	}
	w->changes += fx->status == 0;
}

static void drain(struct world *w, struct node *n)
{
	struct raft_fx fx;
	while (raft_next_fx(n->raft, &fx)) {
		struct write x = { .seq = fx.seq,
			           .type = fx.type,
			           .term = fx.term,
			           .vote = fx.vote,
			           .index = fx.index,
			           .conf = fx.conf };
		switch (fx.type) {
		case RAFT_FX_INSTALL:
			restore(w, n, &fx.data, fx.index);
			w->restores++;
			x.data = fx.data;
			fx.data = (struct buf){ 0 };
			vec_push(&n->writes, x);
			break;
		case RAFT_FX_APPEND:
			x.entry = raft_entry_ref(fx.entry);
			vec_push(&n->writes, x);
			break;
		case RAFT_FX_SAVE:
			vec_push(&n->writes, x);
			break;
		case RAFT_FX_SEND:
			post(w, n, fx.msg);
			break;
		case RAFT_FX_SEND_SNAPSHOT:
			post_snapshot(w, n, fx.msg);
			break;
		case RAFT_FX_APPLY:
			apply(w, n, fx.entry);
			break;
		case RAFT_FX_DONE:
			done(w, n, &fx);
			break;
		case RAFT_FX_LOST:
			break;
		}
		raft_fx_fini(&fx);
	}
}

static void boot(struct world *w, struct node *n)
{
	struct raft_config c = {
		.id = n->id, .election_ms = 100, .heartbeat_ms = 15, .seed = mesh_rng_next(&w->rng), .now = w->now
	};
	uint64_t s = n->snap.index, last = n->base + n->log.len;
	/* As the files are read: what the snapshot covers goes, and all of it when the snapshot says otherwise. */
	if (s > n->base) {
		bool fits = s <= last && n->log.data[s - n->base - 1]->term == n->snap.term;
		size_t drop = fits ? (size_t)(s - n->base) : n->log.len;
		for (size_t i = 0; i < drop; i++)
			raft_entry_unref(n->log.data[i]);
		memmove(n->log.data, n->log.data + drop, (n->log.len - drop) * sizeof(*n->log.data));
		n->log.len -= drop;
		n->base = s;
	}
	struct raft_saved saved = { .term = n->term,
		                    .vote = n->vote,
		                    .snap_index = s,
		                    .snap_term = n->snap.term,
		                    .snap_conf = n->snap.conf,
		                    .entries = n->log.data,
		                    .n_entries = n->log.len };
	n->applied = n->chain = 0;
	if (s)
		restore(w, n, &n->snap.data, s);
	n->raft = raft_new(&c, &saved);
	drain(w, n);
}

static void snap_fini(struct snap *s)
{
	buf_fini(&s->data);
	*s = (struct snap){ 0 };
}

static void crash(struct world *w, struct node *n)
{
	/* Of what was not durable, a part from the front may have made it. */
	make_durable_upto(w, n, n->writes.len ? below(w, (unsigned)n->writes.len + 1) : 0);
	for (size_t i = 0; i < n->writes.len; i++)
		write_free(&n->writes.data[i]);
	n->writes.len = 0;
	snap_fini(&n->taking);
	n->taken_at = 0;
	raft_free(n->raft);
	n->raft = NULL;
	n->up_at = w->now + 20 + below(w, 600);
}

static void disk_turn(struct world *w, struct node *n)
{
	if (n->writes.len && below(w, (unsigned)n->disk_ms + 1) == 0) {
		size_t count = 1 + below(w, (unsigned)n->writes.len);
		uint64_t seq = n->writes.data[count - 1].seq;
		make_durable_upto(w, n, count);
		raft_persisted(n->raft, seq, w->now);
		drain(w, n);
	}
	if (n->taken_at && w->now >= n->taken_at) {
		n->taken_at = 0;
		if (n->taking.index > n->snap.index) {
			snap_fini(&n->snap);
			n->snap = n->taking;
			n->taking = (struct snap){ 0 };
			raft_compacted(n->raft, n->snap.index, below(w, 20));
		}
		snap_fini(&n->taking);
	}
}

static void take_snapshot(struct world *w, struct node *n)
{
	bool installing = false;
	for (size_t i = 0; i < n->writes.len; i++)
		installing |= n->writes.data[i].type == RAFT_FX_INSTALL;
	if (n->taken_at || installing || n->applied < n->snap.index + 20)
		return;
	n->taking = (struct snap){ .index = n->applied,
		                   .term = raft_term_at(n->raft, n->applied),
		                   .conf = *raft_conf_applied(n->raft) };
	buf_put_u64(&n->taking.data, n->applied);
	buf_put_u64(&n->taking.data, n->chain);
	size_t pad = w->big ? RAFT_SNAPSHOT_CHUNK + 5 : below(w, 50);
	memset(buf_reserve(&n->taking.data, pad), 'p', pad);
	n->taking.data.len += pad;
	n->taken_at = w->now + 1 + below(w, 30);
}

/* ---- invariants ---- */

static void check_leader(struct world *w, struct node *n)
{
	if (raft_role_of(n->raft) != RAFT_LEADER)
		return;
	uint64_t term = raft_term(n->raft);
	CHECK(w, term < TERM_MAX, "terms run away ");
	CHECK(w, !w->leaders[term] || w->leaders[term] == n->id, "two leaders of term %llu: %llu and %llu ",
	      (unsigned long long)term, (unsigned long long)w->leaders[term], (unsigned long long)n->id);
	if (n->led_term == term)
		return;
	w->leaders[term] = n->id;
	n->led_term = term;
	w->elections++;
	for (uint64_t i = 1; i <= w->history_n; i++) {
		const struct raft_entry *e = raft_entry_at(n->raft, i);
		CHECK(w, e ? e->term == w->history[i].term : i <= raft_applied(n->raft),
		      "leader %llu of term %llu lacks entry %llu ", (unsigned long long)n->id, (unsigned long long)term,
		      (unsigned long long)i);
	}
}

static void check_match(struct world *w, const struct raft *a, const struct raft *b)
{
	uint64_t i = raft_last_index(a) < raft_last_index(b) ? raft_last_index(a) : raft_last_index(b);
	bool same = false;
	for (; i; i--) {
		const struct raft_entry *x = raft_entry_at(a, i), *y = raft_entry_at(b, i);
		if (!x || !y)
			return;
		if (x->term != y->term) {
			CHECK(w, !same, "logs of %llu and %llu agree above %llu and not there ",
			      (unsigned long long)raft_id(a), (unsigned long long)raft_id(b), (unsigned long long)i);
			continue;
		}
		same = true;
		CHECK(w, x->n == y->n && x->type == y->type && memcmp(x->p, y->p, x->n) == 0,
		      "entry %llu of one term differs between %llu and %llu ", (unsigned long long)i,
		      (unsigned long long)raft_id(a), (unsigned long long)raft_id(b));
	}
}

static void check(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->node[i].raft)
			check_leader(w, &w->node[i]);
	if (w->now % 40)
		return;
	for (unsigned i = 0; i < w->n; i++)
		for (unsigned j = 0; j < i; j++)
			if (w->node[i].raft && w->node[j].raft)
				check_match(w, w->node[i].raft, w->node[j].raft);
}

/* ---- what happens ---- */

static void deliver(struct world *w)
{
	for (size_t i = 0; i < w->net.len;) {
		struct packet *p = &w->net.data[i];
		if (p->at > w->now) {
			i++;
			continue;
		}
		struct packet got = *p;
		w->net.data[i] = w->net.data[--w->net.len];
		struct node *to = &w->node[got.to - 1];
		if (to->raft && (!w->faults || to->group == w->node[got.from - 1].group)) {
			struct raft_msg m;
			uint64_t cluster;
			CHECK(w, raft_msg_decode(&m, &cluster, got.b.data, got.b.len) == 0 && cluster == 7,
			      "a message cannot be read back ");
			raft_receive(to->raft, &m, w->now);
			raft_msg_fini(&m);
			drain(w, to);
		}
		buf_fini(&got.b);
	}
}

static struct node *some_leader(struct world *w)
{
	unsigned at = below(w, w->n);
	for (unsigned i = 0; i < w->n; i++) {
		struct node *n = &w->node[(at + i) % w->n];
		if (n->raft && raft_role_of(n->raft) == RAFT_LEADER)
			return n;
	}
	return NULL;
}

static bool propose(struct world *w, struct node *n)
{
	uint64_t index, value = ++w->next_value;
	bool ok = raft_propose(n->raft, &value, sizeof(value), &index) == 0;
	raft_flush(n->raft);
	drain(w, n);
	return ok;
}

static void clients(struct world *w)
{
	struct node *n = some_leader(w);
	if (!n)
		return;
	if (chance(w, 15))
		for (unsigned k = 1 + below(w, 3); k; k--)
			(void)propose(w, n);
	if (chance(w, 3)) {
		struct asked a = { .ctx = ++w->next_ctx, .floor = w->history_n };
		vec_push(&w->reads, a);
		if (raft_read(n->raft, a.ctx))
			w->reads.len--;
		drain(w, n);
	}
	if (w->faults && w->members_change && chance(w, 2)) {
		/* A refusal is fine: most come at a bad time. */
		(void)!raft_change(n->raft, (enum raft_change)below(w, 3), 1 + below(w, w->n), ++w->next_ctx, NULL);
		drain(w, n);
	}
	if (w->faults && chance(w, 1) && chance(w, 30)) {
		(void)!raft_transfer(n->raft, 1 + below(w, w->n), ++w->next_ctx, NULL);
		drain(w, n);
	}
}

static void mishaps(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct node *n = &w->node[i];
		bool fresh = n->raft && raft_role_of(n->raft) != RAFT_FOLLOWER && !raft_ready(n->raft);
		if (n->raft && below(w, fresh ? w->crashes / 20 : w->crashes) == 0)
			crash(w, n);
		if (n->raft && w->n == 1 && below(w, 200) == 0 && raft_disk_full(n->raft)) {
			for (size_t k = 0; k < n->writes.len; k++)
				write_free(&n->writes.data[k]);
			n->writes.len = 0;
			drain(w, n);
		}
	}
	if (below(w, 400) == 0) {
		bool split = chance(w, 60);
		for (unsigned i = 0; i < w->n; i++)
			w->node[i].group = split ? below(w, 2) : 0;
	}
	if (below(w, 500) == 0)
		w->node[below(w, w->n)].disk_ms = (int)(chance(w, 70) ? below(w, 5) : below(w, 100));
}

static void turn(struct world *w)
{
	w->now++;
	deliver(w);
	unsigned first = below(w, w->n);
	for (unsigned k = 0; k < w->n; k++) {
		struct node *n = &w->node[(first + k) % w->n];
		if (!n->raft && (w->now >= n->up_at || !w->faults))
			boot(w, n);
		if (!n->raft)
			continue;
		disk_turn(w, n);
		if (w->now >= raft_due(n->raft)) {
			raft_tick(n->raft, w->now);
			drain(w, n);
		}
		take_snapshot(w, n);
	}
	if (w->faults)
		mishaps(w);
	clients(w);
	check(w);
}

/* Does everybody who is a member for the leader hold, and has applied, the same? */
static bool agreed(struct world *w, uint64_t at_least)
{
	struct node *lead = NULL;
	for (unsigned i = 0; i < w->n; i++)
		if (w->node[i].raft && raft_role_of(w->node[i].raft) == RAFT_LEADER &&
		    (!lead || raft_term(w->node[i].raft) > raft_term(lead->raft)))
			lead = &w->node[i];
	if (!lead || raft_commit(lead->raft) < at_least)
		return false;
	const struct raft_conf *c = raft_conf_latest(lead->raft);
	for (unsigned i = 0; i < c->n; i++)
		if (w->node[c->m[i].id - 1].applied < at_least)
			return false;
	return true;
}

static void world_init(struct world *w, unsigned seed)
{
	*w = (struct world){ .seed = seed };
	mesh_rng_seed(&w->rng, seed);
	w->history = xcalloc(INDEX_MAX, sizeof(*w->history));
	unsigned shape = seed % 8;
	w->n = shape == 0 ? 1 : shape < 4 ? 3 : 5;
	w->founders = w->n == 1 ? 1 : shape == 7 ? 1 : shape >= 5 ? 3 : w->n;
	w->members_change = shape >= 5;
	w->big = shape == 3 || shape == 6;
	w->loss = below(w, 12);
	w->dup = below(w, 10);
	w->delay = 1 + below(w, 40);
	w->crashes = 300 + below(w, 2500);
	w->faults = true;
	struct raft_conf conf = { .n = w->founders };
	for (unsigned i = 0; i < w->founders; i++)
		conf.m[i] = (struct raft_member){ i + 1, true };
	struct buf b = { 0 };
	raft_conf_encode(&conf, &b);
	for (unsigned i = 0; i < w->n; i++) {
		struct node *n = &w->node[i];
		n->id = i + 1;
		n->disk_ms = (int)below(w, 6);
		if (i >= w->founders)
			continue;
		n->term = 1;
		vec_push(&n->log, raft_entry_new(1, 1, RAFT_CONFIG, b.data, b.len));
	}
	buf_fini(&b);
}

static void world_fini(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct node *n = &w->node[i];
		raft_free(n->raft);
		log_cut(n, 0);
		vec_fini(&n->log);
		for (size_t k = 0; k < n->writes.len; k++)
			write_free(&n->writes.data[k]);
		vec_fini(&n->writes);
		snap_fini(&n->snap);
		snap_fini(&n->taking);
	}
	for (size_t i = 0; i < w->net.len; i++)
		buf_fini(&w->net.data[i].b);
	vec_fini(&w->net);
	vec_fini(&w->reads);
	free(w->history);
}

static void run(struct world *w, unsigned seed)
{
	world_init(w, seed);
	while (w->now < FAULTS_MS)
		turn(w);
	/* The faults end: whoever is a member must get a leader, make progress and agree. */
	w->faults = false;
	for (unsigned i = 0; i < w->n; i++)
		w->node[i].disk_ms = 1;
	uint64_t goal = w->history_n + 20;
	int64_t until = w->now + CALM_MS;
	while (!agreed(w, goal)) {
		CHECK(w, w->now < until, "no progress after the faults ended, at %llu of %llu ",
		      (unsigned long long)w->history_n, (unsigned long long)goal);
		turn(w);
	}
}

static unsigned env(const char *name, unsigned otherwise)
{
	const char *s = getenv(name);
	return s ? (unsigned)strtoul(s, NULL, 10) : otherwise;
}

static void test_seeds(void **state)
{
	(void)state;
	unsigned one = env("MESH_SIM_SEED", 0), seeds = env("MESH_SIM_SEEDS", 200);
	uint64_t elections = 0, applied = 0, reads = 0, restores = 0, changes = 0;
	for (unsigned s = one ? one : 1; s <= (one ? one : seeds); s++) {
		struct world w;
		run(&w, s);
		elections += w.elections;
		applied += w.history_n;
		reads += w.reads_ok;
		restores += w.restores;
		changes += w.changes;
		world_fini(&w);
	}
	print_message("%llu elections, %llu entries, %llu reads, %llu snapshots installed, %llu changes\n",
	              (unsigned long long)elections, (unsigned long long)applied, (unsigned long long)reads,
	              (unsigned long long)restores, (unsigned long long)changes);
	/* The faults must bite, or the invariants prove nothing. */
	if (!one && seeds >= 50) {
		assert_true(elections > seeds * 4);
		assert_true(restores > seeds / 4 && reads > seeds && changes > seeds / 2);
	}
}

static void test_same_seed_same_history(void **state)
{
	(void)state;
	struct world a, b;
	run(&a, 4);
	run(&b, 4);
	assert_int_equal(a.history_n, b.history_n);
	assert_int_equal(a.history[a.history_n].chain, b.history[b.history_n].chain);
	assert_int_equal(a.now, b.now);
	world_fini(&a);
	world_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seeds),
		cmocka_unit_test(test_same_seed_same_history),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
