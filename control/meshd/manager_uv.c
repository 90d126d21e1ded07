/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager role: the store behind Raft, the leader's decisions, agents' sessions, and the certificate authority.
 * The pump is the leader's heart: what changed or came due is put into one transaction by the dispatcher and the
 * brain, proposed, applied; then what follows for each node goes out.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/ca/seal.h"
#include "control/dispatcher/dispatcher.h"
#include "control/meshd/meshd.h"
#include "control/orchestrator/brain.h"
#include "control/raft/raft_node.h"

#define RETRY_MS 200

struct agent_session {
	struct manager *mgr;
	struct net_conn *conn;
	node_id node;
	bool hello;
};

struct manager {
	struct meshd *m;
	struct store *store;
	struct raft_node *raft;
	struct seal_key *key; /* of what raft writes */
	struct brain *brain;  /* while leading */
	struct disp *disp;    /* while leading */
	struct net_listener *listener;
	struct ca_server *ca;
	struct map sessions; /* node id -> struct agent_session, those that said hello */
	struct map streams;  /* logs_uv.c */
	struct map asks;     /* ask_uv.c */
	struct map runs;     /* runs.c: task id -> struct run_asked */
	uint32_t next_stream;
	size_t conns; /* open connections of agents */
	uv_timer_t timer;
	bool in_flight, closing;
	int64_t disp_at, brain_at; /* next deadlines: monotonic, wall */
	void (*closed)(void *arg);
	void *closed_arg;
};

struct store *manager_store(struct manager *mgr)
{
	return mgr->store;
}

bool manager_leads(const struct manager *mgr)
{
	return mgr->brain != NULL;
}

size_t manager_sessions(const struct manager *mgr)
{
	return mgr->sessions.count;
}

uint64_t manager_term(const struct manager *mgr)
{
	return mgr->raft ? raft_node_term(mgr->raft) : 0;
}

void manager_each_session(const struct manager *mgr,
                          void (*fn)(void *arg, const char *node, bool connected, uint64_t sent, uint64_t acked),
                          void *arg)
{
	if (mgr->disp)
		disp_each_session(mgr->disp, fn, arg);
}

struct map *manager_streams(struct manager *mgr)
{
	return &mgr->streams;
}

struct map *manager_asks(struct manager *mgr)
{
	return &mgr->asks;
}

struct map *manager_runs(struct manager *mgr)
{
	return &mgr->runs;
}

uv_loop_t *manager_loop(const struct manager *mgr)
{
	return mgr->m->loop;
}

uint32_t manager_new_stream(struct manager *mgr)
{
	return ++mgr->next_stream;
}

bool manager_send(struct manager *mgr, const char *node, uint16_t type, uint32_t stream, const struct buf *b)
{
	struct agent_session *s = map_get(&mgr->sessions, node);
	if (s)
		(void)net_send(s->conn, type, stream, b->data, b->len);
	return s != NULL;
}

/* ---- the pump ---- */

static void on_timer(uv_timer_t *t);

static void kick(struct manager *mgr)
{
	if (mgr->brain && !mgr->closing)
		uv_timer_start(&mgr->timer, on_timer, 0, 0);
}

/* Sleeps until the next deadline, or not at all when there is work already. */
static void arm(struct manager *mgr)
{
	if (mgr->in_flight || mgr->closing)
		return;
	if (disp_pending(mgr->disp) || brain_pending(mgr->brain)) {
		kick(mgr);
		return;
	}
	int64_t wait = INT64_MAX;
	if (mgr->disp_at != INT64_MAX)
		wait = mgr->disp_at - clock_mono_ns();
	if (mgr->brain_at != INT64_MAX && mgr->brain_at - clock_wall_ns() < wait)
		wait = mgr->brain_at - clock_wall_ns();
	if (wait == INT64_MAX)
		uv_timer_stop(&mgr->timer);
	else
		uv_timer_start(&mgr->timer, on_timer, wait <= 0 ? 0 : (uint64_t)(wait / NS_PER_MS) + 1, 0);
}

static void flush(struct manager *mgr)
{
	node_id node;
	struct wire_assign a;
	while (disp_next(mgr->disp, &node, &a)) {
		struct buf b = { 0 };
		wire_encode(WIRE_ASSIGN, &wire_assign_schema, &a, &b);
		(void)manager_send(mgr, node.s, NET_SESSION, 0, &b);
		buf_fini(&b);
		sch_clear(&wire_assign_schema, &a);
	}
}

static void on_pumped(void *arg, int status, uint64_t index, const struct mesh_err *err)
{
	struct manager *mgr = arg;
	(void)index;
	mgr->in_flight = false;
	if (!mgr->disp)
		return;
	disp_settled(mgr->disp, status == 0);
	if (status == 0) {
		flush(mgr);
		arm(mgr);
		return;
	}
	brain_retry(mgr->brain);
	if (status == MESH_E_OUT_OF_SEQUENCE || status == MESH_E_CONFLICT) {
		kick(mgr);
		return;
	}
	log_error("cannot write to the log; trying again reason=\"%s\"", mesh_err_text(err, status));
	if (!mgr->closing)
		uv_timer_start(&mgr->timer, on_timer, RETRY_MS, 0);
}

static void on_timer(uv_timer_t *t)
{
	struct manager *mgr = CONTAINER_OF(t, struct manager, timer);
	if (!mgr->brain || mgr->in_flight)
		return;
	struct store_tx *tx = store_tx_new(mgr->store, clock_wall_ns());
	mgr->disp_at = disp_step(mgr->disp, tx, clock_mono_ns());
	mgr->brain_at = brain_step(mgr->brain, tx);
	if (store_tx_changes(tx)) {
		struct buf cmd = { 0 };
		store_tx_encode(tx, &cmd);
		mgr->in_flight = true;
		raft_node_propose(mgr->raft, cmd.data, cmd.len, on_pumped, mgr);
		buf_fini(&cmd);
	} else {
		disp_settled(mgr->disp, true);
	}
	store_tx_free(tx);
	flush(mgr);
	arm(mgr);
}

static void send_welcome(struct agent_session *s);

static int64_t heartbeat_period(const struct manager *mgr)
{
	const struct md_cluster *c = store_cluster(mgr->store);
	int64_t p = c ? c->spec.dispatcher.heartbeat_period : 0;
	return p > 0 ? p : 5 * NS_PER_SEC;
}

/* How often agents are to beat, and how long they may be silent, change together. */
static void on_cluster(struct manager *mgr, const struct md_cluster *was, const struct md_cluster *is)
{
	if (!was || !is || was->spec.dispatcher.heartbeat_period == is->spec.dispatcher.heartbeat_period)
		return;
	struct disp_config c = disp_config_of(heartbeat_period(mgr));
	disp_configure(mgr->disp, &c, clock_mono_ns());
	MAP_FOREACH(&mgr->sessions, e)
		send_welcome(e->value);
}

/* What follows from a change at once, and the operator's narration of the cluster. */
static void on_store(void *arg, const struct store_event *ev)
{
	struct manager *mgr = arg;
	const struct md_node *was = ev->old, *is = ev->new;
	if (ev->object == STORE_CLUSTER)
		on_cluster(mgr, ev->old, ev->new);
	if (ev->object == STORE_TASK && ev->new)
		runs_on_task(mgr, ev->new);
	if (mgr->m->api)
		api_on_store_event(mgr->m->api, ev);
	if (ev->object != STORE_NODE || !was || !is || was->status.state == is->status.state)
		return;
	const char *hostname = is->description.hostname ? is->description.hostname : "?";
	if (is->status.state == MD_NODE_DOWN)
		log_warn("node is down; its tasks are replaced node=%s hostname=%s", is->meta.id, hostname);
	else if (was->status.state == MD_NODE_DOWN)
		log_info("node is back node=%s hostname=%s", is->meta.id, hostname);
}

/* ---- what Raft asks ---- */

static void on_fatal(void *arg, const struct mesh_err *err)
{
	(void)arg;
	log_error("the manager's log failed; stopping, nothing acknowledged is lost reason=\"%s\"",
	          mesh_err_text(err, -EIO));
	_exit(1);
}

static int on_apply(void *arg, uint64_t index, const void *p, size_t n, struct mesh_err *err)
{
	struct manager *mgr = arg;
	int rc = store_apply(mgr->store, index, p, n, err);
	if (rc == MESH_E_CORRUPT)
		on_fatal(mgr, err); /* the log or this program is broken: going on would make it worse */
	kick(mgr);
	return rc;
}

static void on_snapshot(void *arg, struct buf *out)
{
	struct manager *mgr = arg;
	store_snapshot_encode(mgr->store, out);
}

static int on_restore(void *arg, const void *p, size_t n, struct mesh_err *err)
{
	struct manager *mgr = arg;
	return store_snapshot_restore(mgr->store, p, n, err);
}

static void on_leader(void *arg, bool leads)
{
	struct manager *mgr = arg;
	if (leads && !mgr->brain) {
		struct disp_config c = disp_config_of(heartbeat_period(mgr));
		mgr->disp = disp_new(mgr->store, &c, clock_mono_ns());
		mgr->brain = brain_new(mgr->store, &mgr->m->rng);
		store_watch(mgr->store, on_store, mgr);
		log_info("this node leads the swarm");
		cluster_renew_own(mgr->m, store_cluster(mgr->store));
		kick(mgr);
		if (mgr->m->manager) /* else still inside manager_open, whose caller asks */
			cluster_leads(mgr->m);
	} else if (!leads && mgr->brain) {
		store_unwatch(mgr->store, on_store, mgr);
		brain_free(TAKE(mgr->brain));
		disp_free(TAKE(mgr->disp));
		log_warn("this node does not lead the swarm any more");
	}
}

static void on_raft_send(void *arg, uint64_t to, const void *p, size_t n)
{
	(void)arg, (void)p, (void)n;
	log_debug("no route to raft member=%llu", (unsigned long long)to);
}

/* ---- commits of the API ---- */

struct commit {
	api_done done;
	void *arg;
};

static void on_committed(void *arg, int status, uint64_t index, const struct mesh_err *err)
{
	struct commit *c = arg;
	(void)index;
	c->done(c->arg, status, NULL, err);
	free(c);
}

void manager_commit(struct manager *mgr, struct store_tx *tx, api_done done, void *arg)
{
	struct commit *c = XNEW(struct commit);
	struct buf cmd = { 0 };
	*c = (struct commit){ done, arg };
	store_tx_encode(tx, &cmd);
	store_tx_free(tx);
	raft_node_propose(mgr->raft, cmd.data, cmd.len, on_committed, c);
	buf_fini(&cmd);
}

int manager_update_cluster(struct manager *mgr, const struct api_swarm_update *r, api_done done, void *arg)
{
	struct store_tx *tx = store_tx_new(mgr->store, clock_wall_ns());
	const struct md_cluster *now = store_cluster(mgr->store);
	if (!now || now->meta.version.index != r->version) {
		store_tx_free(tx);
		return MESH_E_OUT_OF_SEQUENCE;
	}
	struct md_cluster *c = store_tx_edit(tx, STORE_CLUSTER, now->meta.id);
	char token[128];
	sch_clear(&md_cluster_spec_schema, &c->spec);
	sch_copy(&md_cluster_spec_schema, &c->spec, &r->spec);
	md_cluster_spec_defaults(&c->spec);
	if (r->rotate_worker_token) {
		ca_token_make(&c->root_cert, &mgr->m->rng, token);
		str_set(&c->tokens.worker, token);
	}
	if (r->rotate_manager_token) {
		ca_token_make(&c->root_cert, &mgr->m->rng, token);
		str_set(&c->tokens.manager, token);
	}
	mesh_wipe(token, sizeof(token));
	store_tx_touch_version(tx, c);
	manager_commit(mgr, tx, done, arg);
	return 0;
}

/* ---- joining nodes ---- */

struct joining {
	struct manager *mgr;
	struct ca_join_pending *pending;
	struct bytes csr;
	node_id node;
	char addr[64];
};

static void ca_root_bytes(void *arg, struct bytes *out)
{
	struct manager *mgr = arg;
	const struct md_cluster *c = store_cluster(mgr->store);
	if (c)
		bytes_set(out, c->root_cert.p, c->root_cert.n);
}

/* Signs once the node is in the store: a certificate without a node would be a stranger's. */
static void sign(struct joining *j, int code, const struct mesh_err *why)
{
	struct mesh_err err = { 0 };
	struct bytes cert = { 0 };
	const struct md_cluster *c = store_cluster(j->mgr->store);
	const struct md_node *n = store_get(j->mgr->store, STORE_NODE, j->node.s);
	if (!code && (!c || !n))
		code = mesh_fail(&err, MESH_E_NOT_FOUND, "node %s was removed from the swarm", j->node.s);
	else if (code && why)
		err = *why;
	struct ca_issue what = { .node = j->node, .addr = j->addr[0] ? j->addr : NULL };
	if (!code) {
		int64_t now = clock_wall_ns();
		mesh_id_set(what.cluster.s, c->meta.id);
		what.manager = n->spec.role == MD_ROLE_MANAGER;
		what.not_before = now - 3600 * NS_PER_SEC;
		what.not_after = now + c->spec.ca.node_cert_expiry;
		code = ca_issue(&c->root_cert, &c->root_key, &j->csr, &what, &cert, &err);
	}
	ca_join_answer(j->pending, code, &what, &cert, &err);
	bytes_set(&cert, NULL, 0);
	bytes_set(&j->csr, NULL, 0);
	free(j);
}

static void on_node_added(void *arg, int code, const char *text, const struct mesh_err *err)
{
	(void)text;
	sign(arg, code, err);
}

static void refuse(struct ca_join_pending *p, int code, const char *text, const char *from)
{
	struct mesh_err err = { 0 };
	mesh_fail(&err, code, "%s", text);
	log_warn("refused a node that wants to join from=%s reason=\"%s\"", from ? from : "?", text);
	ca_join_answer(p, code, NULL, NULL, &err);
}

static void ca_decide(void *arg, const struct ca_join_request *r, struct ca_join_pending *p)
{
	struct manager *mgr = arg;
	const struct md_cluster *c = store_cluster(mgr->store);
	if (!c || !mgr->brain) {
		refuse(p, MESH_E_NO_LEADER, "this manager does not lead the swarm", r->remote_addr);
		return;
	}
	if (r->token && ca_token_equal(r->token, c->tokens.manager)) {
		refuse(p, MESH_E_UNSUPPORTED,
		       "this version runs a swarm with one manager; join as a worker (swarm join-token worker)",
		       r->remote_addr);
		return;
	}
	if (r->token && !ca_token_equal(r->token, c->tokens.worker)) {
		refuse(p, MESH_E_UNAUTHORIZED,
		       "a valid join token is necessary to join this cluster; it may have been rotated (swarm "
		       "join-token worker)",
		       r->remote_addr);
		return;
	}
	struct joining *j = XNEW(struct joining);
	j->mgr = mgr;
	j->pending = p;
	bytes_set(&j->csr, r->csr->p, r->csr->n);
	snprintf(j->addr, sizeof(j->addr), "%s", r->advertise_addr ? r->advertise_addr : "");
	if (!r->token) {
		j->node = r->peer->node;
		sign(j, 0, NULL);
		return;
	}
	struct store_tx *tx = store_tx_new(mgr->store, clock_wall_ns());
	mesh_id_make(&mgr->m->rng, j->node.s);
	struct md_node *n = store_tx_create(tx, STORE_NODE, j->node.s);
	n->spec.role = MD_ROLE_WORKER;
	str_set(&n->status.addr, j->addr);
	manager_commit(mgr, tx, on_node_added, j);
}

static const struct ca_server_ops ca_ops = { ca_root_bytes, ca_decide };

/* ---- sessions ---- */

static void manager_gone(struct manager *mgr);

static void session_host(const struct net_conn *c, char out[64])
{
	snprintf(out, 64, "%s", net_peer_of(c)->addr);
	char *colon = strrchr(out, ':');
	if (colon)
		*colon = '\0';
}

static void send_welcome(struct agent_session *s)
{
	struct manager *mgr = s->mgr;
	const struct md_cluster *c = store_cluster(mgr->store);
	struct wire_welcome w = { .heartbeat_ns = disp_beat_ns(heartbeat_period(mgr)),
		                  .data_path_port = c ? c->data_path_port : MESH_VXLAN_PORT };
	STORE_EACH(mgr->store, STORE_NODE, struct md_node, n) {
		if (!n->manager || !n->manager->addr)
			continue;
		struct wire_manager *x = LIST_ADD(&w.managers);
		mesh_id_set(x->node.s, n->meta.id);
		x->addr = xstrdup(n->manager->addr);
	}
	struct buf b = { 0 };
	wire_encode(WIRE_WELCOME, &wire_welcome_schema, &w, &b);
	(void)net_send(s->conn, NET_SESSION, 0, b.data, b.len);
	buf_fini(&b);
	sch_clear(&wire_welcome_schema, &w);
}

static void ignore_done(void *arg, int code, const char *text, const struct mesh_err *err)
{
	(void)arg, (void)code, (void)text, (void)err;
}

/* What a node asked for when it joined counts until it has been seen once. */
static void first_availability(struct agent_session *s, int availability)
{
	const struct md_node *n = store_get(s->mgr->store, STORE_NODE, s->node.s);
	if (!n || n->status.state != MD_NODE_UNKNOWN || availability == n->spec.availability)
		return;
	struct store_tx *tx = store_tx_new(s->mgr->store, clock_wall_ns());
	struct md_node *e = store_tx_edit(tx, STORE_NODE, s->node.s);
	e->spec.availability = availability;
	store_tx_touch_version(tx, e);
	manager_commit(s->mgr, tx, ignore_done, NULL);
}

static void on_hello(struct agent_session *s, struct wire_hello *h)
{
	struct manager *mgr = s->mgr;
	struct agent_session *old = map_put(&mgr->sessions, s->node.s, s);
	if (old && old != s) {
		struct mesh_err err = { 0 };
		mesh_fail(&err, MESH_E_CONFLICT, "a newer session of node %s took over", s->node.s);
		old->hello = false;
		logs_node_gone(mgr, s->node.s);
		asks_node_gone(mgr, s->node.s);
		net_close(old->conn, &err);
	}
	s->hello = true;
	char host[64];
	session_host(s->conn, host);
	first_availability(s, h->availability);
	send_welcome(s);
	disp_connect(mgr->disp, s->node.s, host, &h->description, clock_mono_ns());
	log_info("node connected node=%s hostname=%s addr=%s version=%s", s->node.s,
	         h->description.hostname ? h->description.hostname : "?", host,
	         h->meshd_version ? h->meshd_version : "?");
}

static int on_session_message(struct agent_session *s, const uint8_t *p, size_t n)
{
	union {
		struct wire_hello hello;
		struct md_node_description description;
		struct wire_status status;
		struct wire_ack ack;
		struct wire_run run;
		char none;
	} msg = { 0 };
	struct manager *mgr = s->mgr;
	if (!n || p[0] > WIRE_RUN || !wire_schema(p[0]) || (p[0] == WIRE_HELLO) == s->hello)
		return MESH_E_PROTOCOL;
	if (!mgr->disp)
		return MESH_E_NO_LEADER;
	const struct schema *schema = wire_schema(p[0]);
	int64_t now = clock_mono_ns();
	int rc = sch_decode(schema, &msg, p + 1, n - 1);
	if (!rc) {
		switch ((enum wire_kind)p[0]) {
		case WIRE_HELLO:
			on_hello(s, &msg.hello);
			break;
		case WIRE_DESCRIBE:
			disp_describe(mgr->disp, s->node.s, &msg.description);
			break;
		case WIRE_STATUS:
			disp_status(mgr->disp, s->node.s, &msg.status);
			break;
		case WIRE_ACK:
			disp_ack(mgr->disp, s->node.s, msg.ack.version, now);
			break;
		case WIRE_LEAVE:
			disp_leave(mgr->disp, s->node.s, now);
			break;
		case WIRE_RUN:
			runs_request(mgr, s->node.s, &msg.run);
			break;
		default:
			break;
		}
		disp_beat(mgr->disp, s->node.s, now);
		if (disp_pending(mgr->disp))
			kick(mgr);
	}
	sch_clear(schema, &msg);
	return rc;
}

static void on_open(void *arg, struct net_conn *c, const struct net_peer *peer)
{
	struct agent_session *s = arg;
	struct mesh_err err = { 0 };
	s->conn = c;
	s->node = peer->node;
	if (!store_get(s->mgr->store, STORE_NODE, peer->node.s)) {
		mesh_fail(&err, MESH_E_FORBIDDEN,
		          "node %s was removed from the swarm; leave it (swarm leave --force) and join again",
		          peer->node.s);
		log_warn("refused a node node=%s addr=%s reason=\"%s\"", peer->node.s, peer->addr, err.msg);
		net_close(c, &err);
	}
}

static void on_frame(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	struct agent_session *s = arg;
	struct mesh_err err = { 0 };
	int rc = 0;
	if (type == NET_SESSION)
		rc = on_session_message(s, p, n);
	else if (type == NET_RENEW_CSR)
		ca_server_renew_frame(s->mgr->ca, c, stream, p, n);
	else if ((type == NET_DATA || type == NET_END) && !ask_frame(s->mgr, s->node.s, type, stream, p, n))
		logs_frame(s->mgr, s->node.s, type, stream, p, n);
	if (rc) {
		mesh_fail(&err, rc, "node %s sent a message this manager cannot read (type %u)", s->node.s, type);
		log_warn("closing a session node=%s reason=\"%s\"", s->node.s, mesh_err_text(&err, rc));
		net_close(c, &err);
	}
}

static void on_conn_closed(void *arg, struct net_conn *c, const struct mesh_err *err)
{
	struct agent_session *s = arg;
	struct manager *mgr = s->mgr;
	(void)c;
	if (s->hello) {
		map_del(&mgr->sessions, s->node.s);
		logs_node_gone(mgr, s->node.s);
		asks_node_gone(mgr, s->node.s);
		runs_node_gone(mgr, s->node.s);
		/* A peer that closes or resets is a machine that lives; silence is not. */
		bool alive = !err || err->code != -ETIMEDOUT;
		if (mgr->disp) {
			disp_disconnect(mgr->disp, s->node.s, alive, clock_mono_ns());
			kick(mgr);
		}
		log_info("node disconnected node=%s reason=\"%s\"", s->node.s, mesh_err_text(err, MESH_E_CLOSED));
	}
	free(s);
	mgr->conns--;
	if (mgr->closing)
		manager_gone(mgr);
}

static const struct net_conn_ops session_ops = { on_open, on_frame, NULL, on_conn_closed };

static int on_accept(void *arg, const struct net_peer *peer, const struct net_conn_ops **ops, void **conn_arg)
{
	struct manager *mgr = arg;
	if (mgr->closing)
		return -1;
	if (peer->anonymous) {
		*ops = ca_server_conn_ops(mgr->ca, conn_arg);
		return 0;
	}
	struct agent_session *s = XNEW(struct agent_session);
	s->mgr = mgr;
	mgr->conns++;
	*ops = &session_ops;
	*conn_arg = s;
	return 0;
}

/* ---- life ---- */

/* The key that the log is sealed with; a new one only where nothing needs an old one. */
static int open_key(const char *keys, const char *log, struct seal_key **out, struct mesh_err *err)
{
	int rc = seal_key_load(keys, out, err);
	if (rc != -ENOENT)
		return rc;
	if (raft_node_sealed(log))
		return mesh_fail(
			err, rc,
			"%s/data.key, which '%s' is sealed with: put it back from a backup of the state directory, or "
			"leave the swarm (swarm leave --force) and join again",
			keys, log);
	return seal_key_make(keys, out, err);
}

int manager_open(struct meshd *m, bool bootstrap, struct manager **out, struct mesh_err *err)
{
	struct manager *mgr = XNEW(struct manager);
	char dir[512], keys[512];
	snprintf(dir, sizeof(dir), "%s/raft", m->opt->state);
	snprintf(keys, sizeof(keys), "%s/identity", m->opt->state);
	mgr->m = m;
	mgr->store = store_new();
	mgr->disp_at = mgr->brain_at = INT64_MAX;
	uv_timer_init(m->loop, &mgr->timer);
	struct raft_node_config c = {
		.dir = dir,
		.id = 1,
		.cluster = hash64(m->st.cluster.s, strlen(m->st.cluster.s)),
		.election_ms = 1000,
		.heartbeat_ms = 100,
		.snapshot_entries = 10000,
		.apply = on_apply,
		.snapshot = on_snapshot,
		.restore = on_restore,
		.on_leader = on_leader,
		.send = on_raft_send,
		.on_fatal = on_fatal,
		.arg = mgr,
	};
	mgr->ca = ca_server_new(&ca_ops, mgr);
	int rc = open_key(keys, dir, &mgr->key, err);
	c.key = mgr->key;
	if (!rc)
		rc = raft_node_open(m->loop, &c, bootstrap, &mgr->raft, err);
	if (!rc)
		rc = seal_key_settle(mgr->key, keys, err);
	if (!rc)
		rc = net_listen(m->loop, m->identity, m->st.listen_addr, on_accept, mgr, &mgr->listener, err);
	if (rc) {
		*out = NULL;
		manager_close(mgr, NULL, NULL);
		return rc;
	}
	*out = mgr;
	return 0;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct manager *mgr = CONTAINER_OF(h, struct manager, timer);
	void (*cb)(void *) = mgr->closed;
	void *arg = mgr->closed_arg;
	logs_manager_gone(mgr);
	asks_manager_gone(mgr);
	brain_free(mgr->brain);
	disp_free(mgr->disp);
	ca_server_free(mgr->ca);
	store_free(mgr->store);
	seal_key_free(mgr->key);
	map_fini(&mgr->sessions);
	map_fini(&mgr->streams);
	map_fini(&mgr->asks);
	runs_node_gone(mgr, NULL);
	map_fini(&mgr->runs);
	free(mgr);
	if (cb)
		cb(arg);
}

/* Gone when the listener, the connections, and Raft are; the timer is the last. */
static void manager_gone(struct manager *mgr)
{
	if (mgr->listener || mgr->raft || mgr->conns)
		return;
	if (!uv_is_closing((uv_handle_t *)&mgr->timer))
		uv_close((uv_handle_t *)&mgr->timer, on_timer_closed);
}

static void on_listener_closed(void *arg)
{
	struct manager *mgr = arg;
	mgr->listener = NULL;
	manager_gone(mgr);
}

static void on_raft_closed(void *arg)
{
	struct manager *mgr = arg;
	mgr->raft = NULL;
	manager_gone(mgr);
}

void manager_close(struct manager *mgr, void (*cb)(void *arg), void *arg)
{
	mgr->closing = true;
	mgr->closed = cb;
	mgr->closed_arg = arg;
	uv_timer_stop(&mgr->timer);
	MAP_FOREACH(&mgr->sessions, e)
		net_close(((struct agent_session *)e->value)->conn, NULL);
	if (mgr->listener)
		net_listener_close(mgr->listener, on_listener_closed, mgr);
	if (mgr->raft)
		raft_node_close(mgr->raft, on_raft_closed, mgr);
	manager_gone(mgr);
}
