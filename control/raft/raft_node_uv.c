/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/raft_node.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "control/raft/raft.h"
#include "control/raft/wal.h"

#define RETRY_FULL_DISK_MS 500
#define LATE_GRACE_MS 10
#define SNAPSHOT_ENTRIES_DEFAULT 10000

/* What goes to disk in one go: perhaps a snapshot, then records. */
struct step {
	struct wal_snapshot *install;
	struct wal_batch batch;
	uint64_t seq; /* of the last effect in it */
};
/* Given to raft_node_propose, not yet in the log. */
struct proposal {
	uint8_t *p;
	size_t n;
	raft_propose_cb cb;
	void *arg;
};
/* In the log, not yet applied. In order of index. */
struct waiting {
	uint64_t index, term;
	raft_propose_cb cb;
	void *arg;
};
struct op {
	uint64_t ctx;
	raft_propose_cb cb;
	void *arg;
};
/* A callback that must not be called from where its outcome became known. */
struct outcome {
	raft_propose_cb cb;
	void *arg;
	int status;
	uint64_t index;
	struct mesh_err err;
};

struct raft_node {
	uv_loop_t *loop;
	struct raft_node_config c;
	char *dir;
	struct raft *raft;
	struct wal *wal;

	uv_timer_t timer, retry;
	uv_idle_t kick; /* runs once in the next turn of the loop */
	unsigned handles;

	struct VEC(struct step) queue; /* waits for the disk */
	struct step step;              /* with the disk, or to be tried again */
	uv_work_t write_req;
	bool writing, step_failed;
	int write_rc;
	struct mesh_err write_err;
	uint64_t compact_to; /* given to the writer with the next step */
	uint64_t step_compact;

	struct wal_snapshot snap; /* being written */
	uv_work_t snap_req;
	bool snapping;
	int snap_rc;
	struct mesh_err snap_err;
	uint64_t snap_due; /* applied index at which the next one is taken */

	struct VEC(struct proposal) incoming;
	struct VEC(struct waiting) waiting;
	size_t waiting_head;
	struct VEC(struct op) ops;
	uint64_t next_ctx;
	struct VEC(struct outcome) outcomes;

	bool wrote; /* opening: a step was written, more effects may have come */
	bool opening, pumping, told, late, fatal, closing;
	void (*close_cb)(void *arg);
	void *close_arg;
	struct buf scratch;
};

static void pump(struct raft_node *n);
static void submit(struct raft_node *n);
static void on_kick(uv_idle_t *h);
static void on_timer(uv_timer_t *h);

static int64_t now_ms(void)
{
	return (int64_t)(uv_hrtime() / 1000000);
}

static void kick(struct raft_node *n)
{
	if (!n->closing && !n->opening)
		uv_idle_start(&n->kick, on_kick);
}

static void later(struct raft_node *n, raft_propose_cb cb, void *arg, int status, uint64_t index,
                  const struct mesh_err *err)
{
	if (!cb)
		return;
	struct outcome o = { cb, arg, status, index, err ? *err : (struct mesh_err){ 0 } };
	vec_push(&n->outcomes, o);
	kick(n);
}

/* ---- outcomes ---- */

/* why is a whole story already; mesh_fail would add the text of -errno codes once more. */
static struct mesh_err because(int status, const char *why)
{
	struct mesh_err err = { .code = status };
	snprintf(err.msg, sizeof(err.msg), "%s", why);
	return err;
}

static void fail_waiting(struct raft_node *n, int status, const char *why)
{
	struct mesh_err err = because(status, why);
	for (size_t i = n->waiting_head; i < n->waiting.len; i++)
		later(n, n->waiting.data[i].cb, n->waiting.data[i].arg, status, n->waiting.data[i].index, &err);
	n->waiting.len = n->waiting_head = 0;
}

static void fail_everything(struct raft_node *n, int status, const char *why)
{
	struct mesh_err err = because(status, why);
	fail_waiting(n, status, why);
	for (size_t i = 0; i < n->incoming.len; i++) {
		later(n, n->incoming.data[i].cb, n->incoming.data[i].arg, status, 0, &err);
		free(n->incoming.data[i].p);
	}
	n->incoming.len = 0;
	for (size_t i = 0; i < n->ops.len; i++)
		later(n, n->ops.data[i].cb, n->ops.data[i].arg, status, 0, &err);
	n->ops.len = 0;
}

static void tell(struct raft_node *n, bool leads)
{
	if (n->told == leads)
		return;
	n->told = leads;
	if (n->c.on_leader)
		n->c.on_leader(n->c.arg, leads);
}

static void die(struct raft_node *n, const struct mesh_err *err)
{
	if (n->fatal)
		return;
	n->fatal = true;
	log_error("raft: this member has stopped error=%s", err->msg);
	fail_everything(n, -EIO, err->msg);
	tell(n, false);
	if (n->c.on_fatal && !n->opening)
		n->c.on_fatal(n->c.arg, err);
}

/* ---- the disk ---- */

static void step_fini(struct step *s)
{
	if (s->install)
		buf_fini(&s->install->data);
	free(s->install);
	wal_batch_fini(&s->batch);
	*s = (struct step){ 0 };
}

/* On the thread pool, or the loop's thread while opening. */
static int step_write(struct raft_node *n)
{
	if (n->step_compact)
		wal_compact(n->wal, n->step_compact);
	int rc = 0;
	if (n->step.install)
		rc = wal_snapshot_write(n->wal, n->step.install, &n->write_err);
	if (!rc)
		rc = wal_write(n->wal, &n->step.batch, &n->write_err);
	return rc;
}

static void on_disk_full(struct raft_node *n)
{
	log_error("raft: no space left on disk dir=%s error=%s", n->dir, n->write_err.msg);
	fail_waiting(n, -ENOSPC, n->write_err.msg);
	if (!raft_disk_full(n->raft)) {
		n->step_failed = true;
		uv_timer_start(&n->retry, on_timer, RETRY_FULL_DISK_MS, 0);
		return;
	}
	step_fini(&n->step);
	for (size_t i = 0; i < n->queue.len; i++)
		step_fini(&n->queue.data[i]);
	n->queue.len = 0;
}

static void step_done(struct raft_node *n, int rc)
{
	if (rc == -ENOSPC && !n->opening) {
		on_disk_full(n);
		return;
	}
	if (rc) {
		die(n, &n->write_err);
		return;
	}
	uint64_t seq = n->step.seq;
	step_fini(&n->step);
	raft_persisted(n->raft, seq, now_ms());
}

static void finish_close(struct raft_node *n);

static void write_work(uv_work_t *req)
{
	struct raft_node *n = CONTAINER_OF(req, struct raft_node, write_req);
	n->write_rc = step_write(n);
}

static void write_after(uv_work_t *req, int status)
{
	struct raft_node *n = CONTAINER_OF(req, struct raft_node, write_req);
	(void)status; /* never cancelled */
	n->writing = false;
	if (n->closing) {
		finish_close(n);
		return;
	}
	step_done(n, n->write_rc);
	pump(n);
}

static void submit(struct raft_node *n)
{
	while (!n->writing && !n->step_failed && !n->fatal && !n->closing && n->queue.len) {
		n->step = n->queue.data[0];
		vec_remove(&n->queue, 0);
		n->step_compact = n->compact_to;
		n->compact_to = 0;
		n->write_err = (struct mesh_err){ 0 };
		if (n->opening) {
			n->wrote = true;
			step_done(n, step_write(n));
			return;
		}
		n->writing = true;
		(void)uv_queue_work(n->loop, &n->write_req, write_work, write_after); /* fails on NULL only */
	}
}

static void retry_step(struct raft_node *n)
{
	n->step_failed = false;
	n->writing = true;
	n->write_err = (struct mesh_err){ 0 };
	(void)uv_queue_work(n->loop, &n->write_req, write_work, write_after); /* fails on NULL only */
}

static struct step *tail_step(struct raft_node *n, bool fresh)
{
	if (fresh || !n->queue.len)
		vec_push(&n->queue, ((struct step){ 0 }));
	return &n->queue.data[n->queue.len - 1];
}

/* ---- snapshots ---- */

static void snap_work(uv_work_t *req)
{
	struct raft_node *n = CONTAINER_OF(req, struct raft_node, snap_req);
	n->snap_rc = wal_snapshot_write(n->wal, &n->snap, &n->snap_err);
}

static void snap_after(uv_work_t *req, int status)
{
	struct raft_node *n = CONTAINER_OF(req, struct raft_node, snap_req);
	(void)status; /* never cancelled */
	n->snapping = false;
	buf_fini(&n->snap.data);
	if (n->closing) {
		finish_close(n);
		return;
	}
	if (n->snap_rc) {
		log_error("raft: snapshot not written, tried again later index=%llu error=%s",
		          (unsigned long long)n->snap.index, n->snap_err.msg);
		n->snap_due = raft_applied(n->raft) + n->c.snapshot_entries / 4 + 1;
		return;
	}
	log_debug("raft: snapshot index=%llu", (unsigned long long)n->snap.index);
	raft_compacted(n->raft, n->snap.index, n->c.snapshot_entries / 4);
	n->compact_to = n->snap.index;
	pump(n);
}

static bool installs(const struct raft_node *n)
{
	if (n->step.install)
		return true;
	for (size_t i = 0; i < n->queue.len; i++)
		if (n->queue.data[i].install)
			return true;
	return false;
}

static void snapshot_if_due(struct raft_node *n)
{
	uint64_t applied = raft_applied(n->raft);
	if (applied < n->snap_due || n->snapping || n->opening || installs(n))
		return;
	/* A snapshot on its way to a follower would start again from nothing: let it arrive, within reason. */
	if (raft_sends_snapshot(n->raft) && applied < n->snap_due + 3 * n->c.snapshot_entries)
		return;
	n->snapping = true;
	n->snap_due = applied + n->c.snapshot_entries;
	n->snap = (struct wal_snapshot){ .index = applied,
		                         .term = raft_term_at(n->raft, applied),
		                         .conf = *raft_conf_applied(n->raft) };
	n->snap_err = (struct mesh_err){ 0 };
	n->c.snapshot(n->c.arg, &n->snap.data);
	(void)uv_queue_work(n->loop, &n->snap_req, snap_work, snap_after); /* fails on NULL only */
}

/* ---- effects ---- */

static void fx_apply(struct raft_node *n, const struct raft_entry *e)
{
	struct mesh_err err = { 0 };
	int rc = 0;
	if (e->type == RAFT_COMMAND)
		rc = n->c.apply(n->c.arg, e->index, e->p, e->n, &err);
	if (n->waiting_head == n->waiting.len || n->waiting.data[n->waiting_head].index != e->index)
		return;
	struct waiting w = n->waiting.data[n->waiting_head++];
	if (n->waiting_head == n->waiting.len)
		n->waiting_head = n->waiting.len = 0;
	if (w.term != e->term)
		rc = mesh_fail(&err, MESH_E_NO_LEADER, "another leader's entry took this one's place");
	if (w.cb)
		w.cb(w.arg, rc, e->index, rc ? &err : NULL);
}

static void fx_install(struct raft_node *n, struct raft_fx *fx)
{
	struct mesh_err err = { 0 };
	int rc = n->c.restore(n->c.arg, fx->data.data, fx->data.len, &err);
	if (rc) {
		(void)mesh_wrap(&err, rc, "raft: snapshot from the leader, index %llu", (unsigned long long)fx->index);
		die(n, &err);
		return;
	}
	struct step *s = tail_step(n, true);
	s->install = XNEW(struct wal_snapshot);
	*s->install = (struct wal_snapshot){ fx->index, fx->term, fx->conf, fx->data };
	fx->data = (struct buf){ 0 };
	wal_batch_reset(&s->batch, fx->index, fx->term);
	s->seq = fx->seq;
	n->compact_to = fx->index;
	n->snap_due = fx->index + n->c.snapshot_entries;
	log_info("raft: took over a snapshot from the leader index=%llu bytes=%zu", (unsigned long long)fx->index,
	         s->install->data.len);
}

static void fx_send(struct raft_node *n, const struct raft_msg *m)
{
	if (n->opening || !n->c.send)
		return;
	buf_clear(&n->scratch);
	raft_msg_encode(m, n->c.cluster, &n->scratch);
	/* The transport may call back into this node, which encodes again: the bytes are its own. */
	struct buf b = n->scratch;
	n->scratch = (struct buf){ 0 };
	n->c.send(n->c.arg, m->to, b.data, b.len);
	buf_fini(&n->scratch);
	n->scratch = b;
}

static void fx_send_snapshot(struct raft_node *n, struct raft_msg *m)
{
	size_t len = RAFT_SNAPSHOT_CHUNK;
	uint8_t *p = xrealloc(NULL, len);
	int rc = wal_snapshot_read(n->wal, m->index, m->offset, p, &len, &m->total);
	if (rc) {
		log_warn("raft: snapshot cannot be sent index=%llu error=%s", (unsigned long long)m->index,
		         mesh_code_text(rc));
	} else {
		m->data = p;
		m->n_data = len;
		fx_send(n, m);
	}
	free(p);
}

static void fx_done(struct raft_node *n, const struct raft_fx *fx)
{
	for (size_t i = 0; i < n->ops.len; i++) {
		if (n->ops.data[i].ctx != fx->ctx)
			continue;
		struct op op = n->ops.data[i];
		struct mesh_err err = { 0 };
		vec_remove(&n->ops, i);
		if (fx->status)
			(void)mesh_fail(&err, fx->status, "%s", mesh_code_text(fx->status));
		later(n, op.cb, op.arg, fx->status, fx->index, &err);
		return;
	}
}

static void carry_out(struct raft_node *n, struct raft_fx *fx)
{
	struct step *s;
	switch (fx->type) {
	case RAFT_FX_SAVE:
		s = tail_step(n, false);
		wal_batch_state(&s->batch, fx->term, fx->vote);
		s->seq = fx->seq;
		break;
	case RAFT_FX_APPEND:
		s = tail_step(n, false);
		wal_batch_entry(&s->batch, fx->entry);
		s->seq = fx->seq;
		break;
	case RAFT_FX_INSTALL:
		fx_install(n, fx);
		break;
	case RAFT_FX_SEND:
		fx_send(n, fx->msg);
		break;
	case RAFT_FX_SEND_SNAPSHOT:
		fx_send_snapshot(n, fx->msg);
		break;
	case RAFT_FX_APPLY:
		fx_apply(n, fx->entry);
		break;
	case RAFT_FX_DONE:
		fx_done(n, fx);
		break;
	case RAFT_FX_LOST:
		fail_waiting(n, MESH_E_NO_LEADER, "this node lost the leadership; the outcome is not known");
		tell(n, false);
		break;
	}
}

static void arm(struct raft_node *n)
{
	if (n->opening || n->closing || n->fatal)
		return;
	int64_t in = raft_due(n->raft) - now_ms();
	uv_timer_start(&n->timer, on_timer, in > 0 ? (uint64_t)in : 0, 0);
}

/* Carries out effects until there are none. Callbacks may bring new events; the outer call goes on with those. */
static void pump(struct raft_node *n)
{
	if (n->pumping)
		return;
	n->pumping = true;
	struct raft_fx fx;
	while (!n->fatal && !n->closing && raft_next_fx(n->raft, &fx)) {
		carry_out(n, &fx);
		raft_fx_fini(&fx);
	}
	n->pumping = false;
	if (n->fatal || n->closing)
		return;
	submit(n);
	if (!n->opening)
		tell(n, raft_ready(n->raft));
	snapshot_if_due(n);
	if (n->incoming.len)
		kick(n);
	arm(n);
}

/* ---- the loop calls ---- */

static void take_incoming(struct raft_node *n)
{
	size_t i = 0;
	for (; i < n->incoming.len; i++) {
		struct proposal *p = &n->incoming.data[i];
		struct waiting w = { .term = raft_term(n->raft), .cb = p->cb, .arg = p->arg };
		struct mesh_err err = { 0 };
		int rc = raft_propose(n->raft, p->p, p->n, &w.index);
		if (rc == -EAGAIN)
			break; /* the log is full of what is not committed: these wait their turn */
		if (rc == MESH_E_NO_LEADER)
			(void)mesh_fail(&err, rc, "this node does not lead the swarm");
		else if (rc)
			(void)mesh_fail(&err, rc, "a command of %zu bytes is too large", p->n);
		if (rc)
			later(n, p->cb, p->arg, rc, 0, &err);
		else
			vec_push(&n->waiting, w);
		free(p->p);
	}
	if (i)
		memmove(n->incoming.data, n->incoming.data + i, (n->incoming.len - i) * sizeof(*n->incoming.data));
	n->incoming.len -= i;
	raft_flush(n->raft);
}

static void call_outcomes(struct raft_node *n)
{
	struct outcome *o = n->outcomes.data;
	size_t len = n->outcomes.len;
	n->outcomes.data = NULL;
	n->outcomes.len = n->outcomes.cap = 0;
	for (size_t i = 0; i < len; i++)
		o[i].cb(o[i].arg, o[i].status, o[i].index, o[i].status ? &o[i].err : NULL);
	free(o);
}

static void on_kick(uv_idle_t *h)
{
	struct raft_node *n = CONTAINER_OF(h, struct raft_node, kick);
	uv_idle_stop(h);
	bool full = n->incoming.len > 0;
	if (n->fatal && full) {
		fail_everything(n, -EIO, "raft: this member has stopped after a disk error");
	} else if (full) {
		size_t before = n->incoming.len;
		take_incoming(n);
		bool stuck = n->incoming.len == before;
		pump(n);
		/* Nothing fits now: what commits next will call. */
		if (stuck && n->incoming.len)
			uv_idle_stop(h);
	} else if (!n->fatal) {
		pump(n);
	}
	call_outcomes(n);
}

static void on_timer(uv_timer_t *h)
{
	struct raft_node *n = h->data;
	if (n->fatal || n->closing)
		return;
	if (h == &n->retry) {
		retry_step(n);
		return;
	}
	int64_t now = now_ms();
	/* A loop that was held up finds its messages after its timers: read those before believing in silence. */
	if (!n->late && now - raft_due(n->raft) > (int64_t)n->c.election_ms / 4) {
		n->late = true;
		uv_timer_start(&n->timer, on_timer, LATE_GRACE_MS, 0);
		return;
	}
	n->late = false;
	raft_tick(n->raft, now);
	pump(n);
}

/* ---- opening ---- */

bool raft_node_exists(const char *dir)
{
	return wal_exists(dir);
}

bool raft_node_sealed(const char *dir)
{
	return wal_sealed(dir);
}

static int check_config(const struct raft_node_config *c, struct mesh_err *err)
{
	if (!c->id || !c->key || !c->apply || !c->snapshot || !c->restore || !c->heartbeat_ms ||
	    c->election_ms < c->heartbeat_ms * 2)
		return mesh_fail(err, MESH_E_INVALID,
		                 "raft: an id, a key, callbacks and an election time of two heartbeats are needed");
	return 0;
}

/* The first entry of a new cluster's log: this node is its only member. */
static int write_bootstrap(struct raft_node *n, struct wal_content *w, struct mesh_err *err)
{
	struct raft_conf conf = { .n = 1, .m = { { n->c.id, true } } };
	struct buf b = { 0 };
	struct wal_batch batch = { 0 };
	raft_conf_encode(&conf, &b);
	struct raft_entry *e = raft_entry_new(1, 1, RAFT_CONFIG, b.data, b.len);
	wal_batch_state(&batch, 1, 0);
	wal_batch_entry(&batch, e);
	int rc = wal_write(n->wal, &batch, err);
	vec_push(&w->entries, e);
	w->term = 1;
	wal_batch_fini(&batch);
	buf_fini(&b);
	return rc;
}

static int load(struct raft_node *n, bool bootstrap, struct mesh_err *err)
{
	struct wal_content w;
	int rc = wal_open(n->dir, n->c.cluster, n->c.key, &n->wal, &w, err);
	if (rc)
		return rc;
	if (bootstrap && !w.empty)
		rc = mesh_fail(err, MESH_E_CONFLICT, "%s: already holds the state of a cluster", n->dir);
	else if (bootstrap)
		rc = write_bootstrap(n, &w, err);
	if (!rc && w.snap.index) {
		rc = n->c.restore(n->c.arg, w.snap.data.data, w.snap.data.len, err);
		if (rc)
			(void)mesh_wrap(err, rc, "%s: snapshot of index %llu", n->dir,
			                (unsigned long long)w.snap.index);
	}
	if (!rc) {
		struct raft_config c = { .id = n->c.id,
			                 .election_ms = n->c.election_ms,
			                 .heartbeat_ms = n->c.heartbeat_ms,
			                 .seed = uv_hrtime() ^ n->c.id,
			                 .now = now_ms() };
		struct raft_saved s = { .term = w.term,
			                .vote = w.vote,
			                .snap_index = w.snap.index,
			                .snap_term = w.snap.term,
			                .snap_conf = w.snap.conf,
			                .entries = w.entries.data,
			                .n_entries = w.entries.len };
		n->raft = raft_new(&c, &s);
		n->snap_due = w.snap.index + n->c.snapshot_entries;
	}
	wal_content_fini(&w);
	return rc;
}

static void node_free(struct raft_node *n)
{
	raft_free(n->raft);
	wal_close(n->wal);
	step_fini(&n->step);
	for (size_t i = 0; i < n->queue.len; i++)
		step_fini(&n->queue.data[i]);
	vec_fini(&n->queue);
	vec_fini(&n->incoming);
	vec_fini(&n->waiting);
	vec_fini(&n->ops);
	vec_fini(&n->outcomes);
	buf_fini(&n->snap.data);
	buf_fini(&n->scratch);
	free(n->dir);
	free(n);
}

/* A sole voter leads, and has applied all its log, when this returns: nobody else has a say. */
static int settle(struct raft_node *n, struct mesh_err *err)
{
	n->opening = true;
	do {
		n->wrote = false;
		pump(n);
	} while (!n->fatal && n->wrote);
	n->opening = false;
	if (n->fatal) {
		int code = n->write_err.code ? n->write_err.code : -EIO;
		if (err)
			*err = because(code, mesh_err_text(&n->write_err, code));
		return code;
	}
	return 0;
}

int raft_node_open(uv_loop_t *loop, const struct raft_node_config *c, bool bootstrap, struct raft_node **out,
                   struct mesh_err *err)
{
	*out = NULL;
	int rc = check_config(c, err);
	if (rc)
		return rc;
	struct raft_node *n = XNEW(struct raft_node);
	n->loop = loop;
	n->c = *c;
	if (!n->c.snapshot_entries)
		n->c.snapshot_entries = SNAPSHOT_ENTRIES_DEFAULT;
	n->dir = xstrdup(c->dir);
	n->c.dir = n->dir;
	rc = load(n, bootstrap, err);
	if (!rc)
		rc = settle(n, err);
	if (rc) {
		node_free(n);
		return rc;
	}
	/* These fail on NULL only. */
	(void)uv_timer_init(loop, &n->timer);
	(void)uv_timer_init(loop, &n->retry);
	(void)uv_idle_init(loop, &n->kick);
	n->timer.data = n->retry.data = n;
	n->handles = 3;
	kick(n);
	*out = n;
	return 0;
}

/* ---- closing ---- */

static void on_handle_closed(uv_handle_t *h)
{
	struct raft_node *n = h->data;
	if (--n->handles)
		return;
	fail_everything(n, MESH_E_CLOSED, "this node's raft member was closed");
	call_outcomes(n);
	void (*cb)(void *) = n->close_cb;
	void *arg = n->close_arg;
	node_free(n);
	if (cb)
		cb(arg);
}

static void finish_close(struct raft_node *n)
{
	if (n->writing || n->snapping)
		return;
	uv_handle_t *h[] = { (uv_handle_t *)&n->timer, (uv_handle_t *)&n->retry, (uv_handle_t *)&n->kick };
	for (size_t i = 0; i < ARRAY_SIZE(h); i++) {
		h[i]->data = n;
		uv_close(h[i], on_handle_closed);
	}
}

void raft_node_close(struct raft_node *n, void (*cb)(void *arg), void *arg)
{
	assert(!n->closing);
	n->closing = true;
	n->close_cb = cb;
	n->close_arg = arg;
	uv_timer_stop(&n->timer);
	uv_timer_stop(&n->retry);
	uv_idle_stop(&n->kick);
	finish_close(n);
}

/* ---- the interface ---- */

void raft_node_propose(struct raft_node *n, const void *p, size_t len, raft_propose_cb cb, void *arg)
{
	struct proposal prop = { .p = xrealloc(NULL, len + 1), .n = len, .cb = cb, .arg = arg };
	if (len)
		memcpy(prop.p, p, len);
	vec_push(&n->incoming, prop);
	kick(n);
}

void raft_node_receive(struct raft_node *n, uint64_t from, const void *p, size_t len)
{
	struct raft_msg m;
	uint64_t cluster;
	if (n->fatal || n->closing)
		return;
	int rc = raft_msg_decode(&m, &cluster, p, len);
	if (rc) {
		log_warn("raft: dropped a message that cannot be read from=%llx bytes=%zu error=%s",
		         (unsigned long long)from, len, mesh_code_text(rc));
		return;
	}
	if (cluster != n->c.cluster || m.from != from || m.to != n->c.id) {
		log_warn("raft: dropped a message that is not for this member from=%llx says=%llx to=%llx",
		         (unsigned long long)from, (unsigned long long)m.from, (unsigned long long)m.to);
	} else {
		raft_receive(n->raft, &m, now_ms());
		pump(n);
	}
	raft_msg_fini(&m);
}

bool raft_node_leads(const struct raft_node *n)
{
	return n->told;
}

uint64_t raft_node_leader(const struct raft_node *n)
{
	return n->fatal ? 0 : raft_leader(n->raft);
}

uint64_t raft_node_term(const struct raft_node *n)
{
	return raft_term(n->raft);
}

static uint64_t op_add(struct raft_node *n, raft_propose_cb cb, void *arg)
{
	struct op op = { .ctx = ++n->next_ctx, .cb = cb, .arg = arg };
	vec_push(&n->ops, op);
	return op.ctx;
}

/* After the core took, or refused, the operation added last. */
static void op_started(struct raft_node *n, uint64_t ctx, int rc, struct mesh_err *err)
{
	for (size_t i = 0; rc && i < n->ops.len; i++) {
		if (n->ops.data[i].ctx != ctx)
			continue;
		later(n, n->ops.data[i].cb, n->ops.data[i].arg, rc, 0, err);
		vec_remove(&n->ops, i);
	}
	kick(n);
}

static bool op_refused(struct raft_node *n, raft_propose_cb cb, void *arg)
{
	if (!n->fatal && !n->closing)
		return false;
	struct mesh_err err = { 0 };
	int rc = mesh_fail(&err, n->fatal ? -EIO : MESH_E_CLOSED, "raft: this member has stopped");
	later(n, cb, arg, rc, 0, &err);
	return true;
}

static void change(struct raft_node *n, enum raft_change what, uint64_t id, raft_propose_cb cb, void *arg)
{
	struct mesh_err err = { 0 };
	if (op_refused(n, cb, arg))
		return;
	uint64_t ctx = op_add(n, cb, arg);
	op_started(n, ctx, raft_change(n->raft, what, id, ctx, &err), &err);
}

void raft_node_add(struct raft_node *n, uint64_t id, raft_propose_cb cb, void *arg)
{
	change(n, RAFT_ADD, id, cb, arg);
}

void raft_node_promote(struct raft_node *n, uint64_t id, raft_propose_cb cb, void *arg)
{
	change(n, RAFT_PROMOTE, id, cb, arg);
}

void raft_node_remove(struct raft_node *n, uint64_t id, raft_propose_cb cb, void *arg)
{
	change(n, RAFT_REMOVE, id, cb, arg);
}

void raft_node_transfer(struct raft_node *n, uint64_t to, raft_propose_cb cb, void *arg)
{
	struct mesh_err err = { 0 };
	if (op_refused(n, cb, arg))
		return;
	uint64_t ctx = op_add(n, cb, arg);
	op_started(n, ctx, raft_transfer(n->raft, to, ctx, &err), &err);
}

void raft_node_read(struct raft_node *n, raft_propose_cb cb, void *arg)
{
	struct mesh_err err = { 0 };
	if (op_refused(n, cb, arg))
		return;
	uint64_t ctx = op_add(n, cb, arg);
	int rc = raft_read(n->raft, ctx);
	if (rc)
		(void)mesh_fail(&err, rc, "this node does not lead the swarm");
	op_started(n, ctx, rc, &err);
}
