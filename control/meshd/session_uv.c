/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's side: one connection to a manager, made again whenever it ends. What the manager assigns goes to the
 * data plane and the agent; what they say goes back. While there is no manager, tasks and traffic stay.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/meshd/meshd.h"

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 2000

struct asked { /* of the manager, about a container run by hand */
	uint64_t number;
	api_done done;
	void *arg;
};

struct session {
	struct meshd *m;
	struct net_conn *conn;
	struct logserve *logs; /* calls of this connection */
	struct serve *serve;   /* others */
	bool welcomed, ever_welcomed, closing;
	unsigned attempt;
	struct map statuses;           /* task id -> struct md_task_status, as last said by the agent */
	struct wire_assign pending;    /* parts received so far */
	struct VEC(struct asked) runs; /* not answered yet */
	uint64_t run_number;
	struct md_node_description *described;
	uv_timer_t retry, beat;
	int handles;
	void (*closed)(void *arg);
	void *closed_arg;
};

static void on_timer(uv_timer_t *t);

static void send_message(struct session *s, enum wire_kind kind, const struct schema *schema, const void *obj)
{
	if (!s->conn)
		return;
	struct buf b = { 0 };
	wire_encode(kind, schema, obj, &b);
	(void)net_send(s->conn, NET_SESSION, 0, b.data, b.len);
	buf_fini(&b);
}

/* Does the change hold the object its kind names? */
static bool change_whole(const struct dp_change *c)
{
	return (c->kind == DP_NODE && c->node) || (c->kind == DP_NETWORK && c->network) ||
	       (c->kind == DP_SERVICE && c->service) || (c->kind == DP_ENDPOINT && c->endpoint);
}

/* ---- what the manager says ---- */

static void on_welcome(struct session *s, const struct wire_welcome *w)
{
	struct meshd *m = s->m;
	struct mesh_err err = { 0 };
	bool news = m->st.data_path_port != w->data_path_port || m->st.managers.n != w->managers.n;
	m->st.data_path_port = w->data_path_port;
	for (size_t i = 0; i < w->managers.n && !news; i++)
		news = !ID_EQ(w->managers.v[i].node, m->st.managers.v[i].node) ||
		       !streq(w->managers.v[i].addr, m->st.managers.v[i].addr);
	if (news && w->managers.n) {
		for (size_t i = 0; i < m->st.managers.n; i++)
			free(m->st.managers.v[i].addr);
		m->st.managers.n = 0;
		for (size_t i = 0; i < w->managers.n; i++) {
			struct wire_manager *x = LIST_ADD(&m->st.managers);
			x->node = w->managers.v[i].node;
			x->addr = xstrdup(w->managers.v[i].addr);
		}
	}
	if (news && state_save(m->opt->state, &m->st, &err))
		log_warn("cannot save the addresses of the managers reason=\"%s\"", err.msg);
	s->welcomed = true;
	s->attempt = 0;
	uint64_t beat_ms = (uint64_t)(w->heartbeat_ns / NS_PER_MS);
	uv_timer_start(&s->beat, on_timer, beat_ms, beat_ms);
	network_start(m->network);
	struct wire_status all = { 0 };
	MAP_FOREACH(&s->statuses, e) {
		struct wire_task_status *t = LIST_ADD(&all.tasks);
		mesh_id_set(t->task.s, e->key);
		sch_copy(&md_task_status_schema, &t->status, e->value);
	}
	if (all.tasks.n)
		send_message(s, WIRE_STATUS, &wire_status_schema, &all);
	sch_clear(&wire_status_schema, &all);
	if (!s->ever_welcomed) {
		s->ever_welcomed = true;
		cluster_welcomed(m);
	}
	session_describe(s);
}

static void apply_tasks(struct session *s, struct wire_assign *a)
{
	struct agent *agent = s->m->agent;
	for (size_t i = 0; i < a->tasks.n; i++) {
		const struct wire_task *w = &a->tasks.v[i];
		const struct md_secret **secrets = xcalloc(w->secrets.n, sizeof(*secrets));
		const struct md_config **configs = xcalloc(w->configs.n, sizeof(*configs));
		for (size_t k = 0; k < w->secrets.n; k++)
			secrets[k] = &w->secrets.v[k];
		for (size_t k = 0; k < w->configs.n; k++)
			configs[k] = &w->configs.v[k];
		struct agent_deps deps = { .secrets = secrets,
			                   .n_secrets = w->secrets.n,
			                   .configs = configs,
			                   .n_configs = w->configs.n,
			                   .node_id = s->m->st.node.s,
			                   .node_hostname = s->m->opt->hostname };
		for (size_t k = 0; k < w->task.spec.networks.n; k++)
			deps.host_network |= streq(w->task.spec.networks.v[k].target, "host");
		agent_assign(agent, &w->task, &deps);
		free(secrets);
		free(configs);
	}
	for (size_t i = 0; i < a->removed.n; i++) {
		agent_remove(agent, a->removed.v[i]);
		sch_free(&md_task_status_schema, map_del(&s->statuses, a->removed.v[i]));
	}
	if (!a->snapshot)
		return;
	const char **only = xcalloc(a->tasks.n, sizeof(*only));
	for (size_t i = 0; i < a->tasks.n; i++)
		only[i] = a->tasks.v[i].task.meta.id;
	agent_assign_only(agent, only, a->tasks.n);
	free(only);
}

static void finish_assign(struct session *s)
{
	struct wire_assign a = s->pending;
	s->pending = (struct wire_assign){ 0 };
	struct dp_delta *d = XNEW(struct dp_delta);
	*d = a.net;
	a.net = (struct dp_delta){ 0 };
	d->version = a.version;
	d->snapshot = a.snapshot;
	d->self = s->m->st.node;
	/* Networks first: the tasks that come with them attach to them. */
	network_submit(s->m->network, d);
	apply_tasks(s, &a);
	sch_clear(&wire_assign_schema, &a);
}

/* Parts are moved together, not copied: the lists' elements change hands. */
#define MOVE_LIST(to, from)                                                                                            \
	do {                                                                                                           \
		for (size_t i_ = 0; i_ < (from)->n; i_++)                                                              \
			*LIST_ADD(to) = (from)->v[i_];                                                                 \
		free((from)->v);                                                                                       \
		(from)->v = NULL;                                                                                      \
		(from)->n = 0;                                                                                         \
	} while (0)

static int on_assign(struct session *s, struct wire_assign *part)
{
	for (size_t i = 0; i < part->net.changes.n; i++)
		if (!change_whole(&part->net.changes.v[i]))
			return MESH_E_PROTOCOL;
	if (part->snapshot)
		sch_clear(&wire_assign_schema, &s->pending);
	s->pending.snapshot |= part->snapshot;
	s->pending.version = part->version;
	MOVE_LIST(&s->pending.tasks, &part->tasks);
	MOVE_LIST(&s->pending.net.changes, &part->net.changes);
	for (size_t i = 0; i < part->removed.n; i++)
		strs_add(&s->pending.removed, part->removed.v[i]);
	if (!part->more)
		finish_assign(s);
	return 0;
}

/* ---- containers run by hand ---- */

static void answered(struct session *s, size_t i, int code, const char *text)
{
	struct asked a = s->runs.data[i];
	struct mesh_err err = { 0 };
	vec_remove(&s->runs, i);
	if (code)
		(void)mesh_fail(&err, code, "%s", text && *text ? text : mesh_code_text(code));
	a.done(a.arg, code, NULL, &err);
}

static void on_ran(struct session *s, const struct wire_ran *r)
{
	for (size_t i = 0; i < s->runs.len; i++)
		if (s->runs.data[i].number == r->number) {
			answered(s, i, r->code > 0 || r->code < INT32_MIN ? MESH_E_PROTOCOL : (int)r->code, r->text);
			return;
		}
}

static void fail_runs(struct session *s)
{
	while (s->runs.len)
		answered(s, 0, MESH_E_CLOSED, "lost the manager of the swarm; see what became of the container");
}

void session_run(struct session *s, unsigned op, const struct md_task *t, api_done done, void *arg)
{
	struct wire_run run = { .number = ++s->run_number, .op = op, .task = *t };
	struct asked a = { run.number, done, arg };
	struct mesh_err err = { 0 };
	if (!s->welcomed) {
		(void)mesh_fail(&err, MESH_E_NO_LEADER, "no manager of the swarm can be reached from this node");
		done(arg, err.code, NULL, &err);
		return;
	}
	vec_push(&s->runs, a);
	send_message(s, WIRE_RUN, &wire_run_schema, &run);
}

static int on_message(struct session *s, const uint8_t *p, size_t n)
{
	union {
		struct wire_welcome welcome;
		struct wire_assign assign;
		struct wire_ran ran;
	} msg = { 0 };
	if (!n || (p[0] != WIRE_WELCOME && p[0] != WIRE_ASSIGN && p[0] != WIRE_RAN) ||
	    (p[0] != WIRE_WELCOME && !s->welcomed))
		return MESH_E_PROTOCOL;
	const struct schema *schema = wire_schema(p[0]);
	int rc = sch_decode(schema, &msg, p + 1, n - 1);
	if (!rc && p[0] == WIRE_WELCOME)
		on_welcome(s, &msg.welcome);
	else if (!rc && p[0] == WIRE_RAN)
		on_ran(s, &msg.ran);
	else if (!rc)
		rc = on_assign(s, &msg.assign);
	sch_clear(schema, &msg);
	return rc;
}

/* ---- the connection ---- */

static struct md_node_description *describe(struct session *s)
{
	struct md_node_description *d = sch_new(&md_node_description_schema);
	struct meshd *m = s->m;
	agent_describe(m->agent, d);
	options_describe(m->opt, d);
	str_set(&d->data_path_addr,
	        m->st.data_path_addr && *m->st.data_path_addr ? m->st.data_path_addr : m->st.advertise_addr);
	network_describe(m->network, d);
	const struct bytes *root = net_identity_root(m->identity);
	d->tls.trust_root = ca_pem_of(root);
	if (ca_tls_info(root, &d->tls.issuer_subject, &d->tls.issuer_public_key))
		log_debug("no issuer in the root certificate");
	return d;
}

static void on_open(void *arg, struct net_conn *c, const struct net_peer *peer)
{
	struct session *s = arg;
	(void)peer;
	s->logs = logserve_new(s->m->agent, c);
	s->serve = serve_new(s->m, c);
	sch_free(&md_node_description_schema, s->described);
	s->described = describe(s);
	struct wire_hello hello = { .description = *s->described,
		                    .meshd_version = (char *)(uintptr_t)MESH_VERSION,
		                    .availability = s->m->st.availability };
	send_message(s, WIRE_HELLO, &wire_hello_schema, &hello);
}

static void on_frame(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	struct session *s = arg;
	struct mesh_err err = { 0 };
	int rc = 0;
	if (type == NET_SESSION) {
		rc = on_message(s, p, n);
	} else if (type == NET_CALL) {
		struct wire_call call = { 0 };
		rc = sch_decode(&wire_call_schema, &call, p, n);
		if (!rc && !serve_call(s->serve, stream, &call))
			logserve_call(s->logs, stream, &call);
		sch_clear(&wire_call_schema, &call);
	} else if (type == NET_WINDOW || type == NET_END) {
		if (type == NET_END)
			serve_end(s->serve, stream);
		logserve_frame(s->logs, type, stream, p, n);
	}
	if (rc) {
		mesh_fail(&err, rc, "manager sent a message this meshd cannot read (type %u)", type);
		net_close(c, &err);
	}
}

static void on_drain(void *arg, struct net_conn *c)
{
	struct session *s = arg;
	(void)c;
	if (s->logs)
		logserve_drain(s->logs);
	if (s->serve)
		serve_drain(s->serve);
}

static void session_gone(struct session *s);

static void schedule_retry(struct session *s)
{
	uint64_t ms = RETRY_MIN_MS << (s->attempt < 5 ? s->attempt : 5);
	if (ms > RETRY_MAX_MS)
		ms = RETRY_MAX_MS;
	ms += mesh_rng_below(&s->m->rng, ms / 4 + 1);
	s->attempt++;
	uv_timer_start(&s->retry, on_timer, ms, 0);
}

static void on_conn_closed(void *arg, struct net_conn *c, const struct mesh_err *err)
{
	struct session *s = arg;
	(void)c;
	if (s->logs)
		logserve_free(s->logs);
	s->logs = NULL;
	if (s->serve)
		serve_free(TAKE(s->serve));
	s->conn = NULL;
	uv_timer_stop(&s->beat);
	sch_clear(&wire_assign_schema, &s->pending);
	fail_runs(s);
	if (s->closing) {
		session_gone(s);
		return;
	}
	/* Once in words; the attempts that follow are news when they fail for another reason. */
	char why[sizeof(s->m->error)];
	snprintf(why, sizeof(why), "%s", mesh_err_text(err, MESH_E_CLOSED));
	if (s->welcomed || s->attempt == 0 || !streq(s->m->error, why))
		log_warn("lost the manager; tasks and traffic stay as they are, trying again reason=\"%s\"", why);
	snprintf(s->m->error, sizeof(s->m->error), "%s", s->welcomed ? "" : why);
	s->welcomed = false;
	schedule_retry(s);
}

static const struct net_conn_ops conn_ops = { on_open, on_frame, on_drain, on_conn_closed };

static void try_connect(struct session *s)
{
	struct node_state *st = &s->m->st;
	struct mesh_err err = { 0 };
	char host[64];
	uint16_t port;
	if (!st->managers.n || s->conn)
		return;
	const struct wire_manager *to = &st->managers.v[s->attempt % st->managers.n];
	int rc = address_resolve(to->addr, MESH_PORT, false, host, &port, &err);
	if (!rc)
		rc = net_connect(s->m->loop, s->m->identity, host, port,
		                 ID_EMPTY(to->node) ? NET_EXPECT_MANAGER : to->node.s, &conn_ops, s, &s->conn, &err);
	if (rc) {
		log_warn("cannot reach the manager addr=%s reason=\"%s\"", to->addr, mesh_err_text(&err, rc));
		schedule_retry(s);
	}
}

static void on_timer(uv_timer_t *t)
{
	struct session *s = t->data;
	if (t == &s->retry)
		try_connect(s);
	else
		send_message(s, WIRE_HEARTBEAT, wire_schema(WIRE_HEARTBEAT), NULL);
}

struct session *session_open(struct meshd *m)
{
	struct session *s = XNEW(struct session);
	uv_timer_t *const timers[] = { &s->retry, &s->beat };
	s->m = m;
	for (size_t i = 0; i < ARRAY_SIZE(timers); i++) {
		uv_timer_init(m->loop, timers[i]);
		timers[i]->data = s;
		s->handles++;
	}
	uv_timer_start(&s->retry, on_timer, 0, 0);
	return s;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct session *s = h->data;
	s->handles--;
	session_gone(s);
}

/* Gone when the connection and the timers are. */
static void session_gone(struct session *s)
{
	if (s->conn || s->handles)
		return;
	void (*cb)(void *) = s->closed;
	void *arg = s->closed_arg;
	MAP_FOREACH(&s->statuses, e)
		sch_free(&md_task_status_schema, e->value);
	map_fini(&s->statuses);
	fail_runs(s);
	vec_fini(&s->runs);
	sch_clear(&wire_assign_schema, &s->pending);
	sch_free(&md_node_description_schema, s->described);
	free(s);
	if (cb)
		cb(arg);
}

void session_close(struct session *s, bool say_leave, void (*cb)(void *arg), void *arg)
{
	s->closing = true;
	s->closed = cb;
	s->closed_arg = arg;
	uv_close((uv_handle_t *)&s->retry, on_timer_closed);
	uv_close((uv_handle_t *)&s->beat, on_timer_closed);
	if (!s->conn)
		return;
	if (say_leave && s->welcomed)
		send_message(s, WIRE_LEAVE, wire_schema(WIRE_LEAVE), NULL);
	net_close(s->conn, NULL);
}

void session_status(struct session *s, const char *task, const struct md_task_status *st)
{
	sch_free(&md_task_status_schema, map_put(&s->statuses, task, sch_dup(&md_task_status_schema, st)));
	if (!s->welcomed)
		return;
	struct wire_status one = { 0 };
	struct wire_task_status *t = LIST_ADD(&one.tasks);
	mesh_id_set(t->task.s, task);
	sch_copy(&md_task_status_schema, &t->status, st);
	send_message(s, WIRE_STATUS, &wire_status_schema, &one);
	sch_clear(&wire_status_schema, &one);
}

void session_applied(struct session *s, uint64_t version)
{
	struct wire_ack ack = { version };
	if (s->welcomed && version)
		send_message(s, WIRE_ACK, &wire_ack_schema, &ack);
}

void session_describe(struct session *s)
{
	if (!s->welcomed)
		return;
	struct md_node_description *d = describe(s);
	if (!s->described || !sch_equal(&md_node_description_schema, d, s->described))
		send_message(s, WIRE_DESCRIBE, &md_node_description_schema, d);
	sch_free(&md_node_description_schema, s->described);
	s->described = d;
}

bool session_welcomed(const struct session *s)
{
	return s->welcomed;
}

const char *session_manager(const struct session *s)
{
	return s->conn && s->welcomed ? net_peer_of(s->conn)->node.s : NULL;
}
