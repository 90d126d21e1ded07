/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node's way into a swarm, back into it after a restart, and out of it. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/meshd/meshd.h"
#include "control/orchestrator/brain.h"

#define ALREADY                                                                                                        \
	"This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."
#define JOIN_TIMEOUT_MS 20000

/* One init, join or leave at a time. */
struct step {
	struct meshd *m;
	api_done done;
	void *arg;
	uv_timer_t timeout;
	bool timed;
	struct md_cluster cluster; /* init: what the first commit holds */
	struct md_node node;
};
static struct step *joining;      /* the one that waits for its first welcome */
static struct step *initializing; /* the one that waits to lead */

static struct step *step_new(struct meshd *m, api_done done, void *arg)
{
	struct step *s = XNEW(struct step);
	*s = (struct step){ .m = m, .done = done, .arg = arg };
	m->busy = true;
	return s;
}

static void step_free(uv_handle_t *h)
{
	free(CONTAINER_OF(h, struct step, timeout));
}

static void step_end(struct step *s, int code, const char *text, const struct mesh_err *err)
{
	s->m->busy = false;
	sch_clear(&md_cluster_schema, &s->cluster);
	sch_clear(&md_node_schema, &s->node);
	s->done(s->arg, code, text, err);
	if (s->timed)
		uv_close((uv_handle_t *)&s->timeout, step_free);
	else
		free(s);
}

static int refuse_if_in_swarm(struct meshd *m, struct mesh_err *err)
{
	if (m->in_swarm)
		return mesh_fail(err, MESH_E_NOT_MANAGER, ALREADY);
	if (m->busy)
		return mesh_fail(err, MESH_E_CONFLICT, "another swarm operation is under way on this node; try again");
	return 0;
}

/* What an aborted init or join left. */
static void undo(struct meshd *m)
{
	m->in_swarm = false;
	state_forget(m->opt->state);
	if (m->identity)
		net_identity_free(TAKE(m->identity));
	sch_clear(&node_state_schema, &m->st);
}

static int fill_addresses(struct meshd *m, const char *advertise, const char *listen, const char *data_path,
                          struct mesh_err *err)
{
	char addr[64], text[80];
	uint16_t port = MESH_PORT, listen_port;
	int rc;
	if (!advertise || !*advertise)
		advertise = m->opt->advertise_addr;
	rc = advertise ? address_resolve(advertise, MESH_PORT, true, addr, &port, err) : address_default(addr, err);
	if (rc)
		return mesh_wrap(err, rc, "advertise address");
	str_set(&m->st.advertise_addr, addr);
	rc = address_resolve(listen && *listen ? listen : "0.0.0.0:2377", port, true, addr, &listen_port, err);
	if (rc)
		return mesh_wrap(err, rc, "listen address");
	snprintf(text, sizeof(text), "%s:%u", addr, listen_port);
	str_set(&m->st.listen_addr, text);
	if (data_path && *data_path) {
		rc = address_resolve(data_path, 0, true, addr, NULL, err);
		if (rc)
			return mesh_wrap(err, rc, "data path address");
		str_set(&m->st.data_path_addr, addr);
	}
	struct wire_manager *self = LIST_ADD(&m->st.managers);
	self->node = m->st.node;
	self->addr = xasprintf("%s:%u", m->st.advertise_addr, port);
	return 0;
}

/* ---- init ---- */

/* A certificate for this node, signed with the cluster's key. */
static int issue_own(struct meshd *m, const struct md_cluster *c, struct bytes *key, struct bytes *cert,
                     struct mesh_err *err)
{
	struct bytes csr = { 0 };
	int64_t now = clock_wall_ns();
	struct ca_issue what = { .cluster = m->st.cluster,
		                 .node = m->st.node,
		                 .manager = true,
		                 .addr = m->st.advertise_addr,
		                 .not_before = now - 3600 * NS_PER_SEC,
		                 .not_after = now + c->spec.ca.node_cert_expiry };
	int rc = ca_csr_make(key, &csr, err);
	if (!rc)
		rc = ca_issue(&c->root_cert, &c->root_key, &csr, &what, cert, err);
	bytes_set(&csr, NULL, 0);
	return rc;
}

static int make_identity(struct meshd *m, struct md_cluster *c, struct mesh_err *err)
{
	struct bytes key = { 0 }, cert = { 0 };
	char dir[512], token[128];
	snprintf(dir, sizeof(dir), "%s/identity", m->opt->state);
	int rc = ca_root_make(clock_wall_ns(), &c->root_cert, &c->root_key, err);
	if (!rc)
		rc = issue_own(m, c, &key, &cert, err);
	if (!rc)
		rc = net_identity_new(&c->root_cert, &cert, &key, &m->identity, err);
	if (!rc)
		rc = net_identity_save(m->identity, dir, err);
	if (!rc) {
		ca_token_make(&c->root_cert, &m->rng, token);
		str_set(&c->tokens.worker, token);
		ca_token_make(&c->root_cert, &m->rng, token);
		str_set(&c->tokens.manager, token);
		c->tls.trust_root = ca_pem_of(&c->root_cert);
		rc = ca_tls_info(&c->root_cert, &c->tls.issuer_subject, &c->tls.issuer_public_key);
	}
	mesh_wipe(token, sizeof(token));
	bytes_set(&key, NULL, 0);
	bytes_set(&cert, NULL, 0);
	return rc;
}

static void fill_cluster(struct meshd *m, const struct api_init_request *r, struct md_cluster *c)
{
	mesh_id_set(c->meta.id, m->st.cluster.s);
	sch_copy(&md_cluster_spec_schema, &c->spec, &r->spec);
	md_cluster_spec_defaults(&c->spec);
	c->subnet_size = r->subnet_size ? r->subnet_size : 24;
	c->data_path_port = r->data_path_port ? r->data_path_port : MESH_VXLAN_PORT;
	for (size_t i = 0; i < r->default_addr_pool.n; i++)
		strs_add(&c->default_addr_pool, r->default_addr_pool.v[i]);
}

static void fill_first_node(struct meshd *m, const struct api_init_request *r, struct md_node *n)
{
	mesh_id_set(n->meta.id, m->st.node.s);
	n->spec.role = MD_ROLE_MANAGER;
	n->spec.availability = r->availability;
	n->status.state = MD_NODE_READY;
	str_set(&n->status.addr, m->st.advertise_addr);
	agent_describe(m->agent, &n->description);
	options_describe(m->opt, &n->description);
	n->manager = XNEW(struct md_manager_status);
	n->manager->leader = true;
	n->manager->reachability = MD_REACH_REACHABLE;
	n->manager->raft_id = 1;
	str_set(&n->manager->addr, m->st.managers.v[0].addr);
}

static void on_init_abandoned(void *arg)
{
	struct step *s = arg;
	struct mesh_err err = { 0 };
	undo(s->m);
	int rc = mesh_fail(&err, MESH_E_CLOSED, "the first commit of the new swarm failed; nothing was kept");
	step_end(s, rc, NULL, &err);
}

static void on_bootstrapped(void *arg, int code, const char *text, const struct mesh_err *err)
{
	struct step *s = arg;
	struct meshd *m = s->m;
	(void)text;
	if (code) {
		log_error("cannot make the swarm reason=\"%s\"", mesh_err_text(err, code));
		manager_close(TAKE(m->manager), on_init_abandoned, s);
		return;
	}
	log_info("swarm initialized cluster=%s node=%s", m->st.cluster.s, m->st.node.s);
	network_start(m->network);
	m->session = session_open(m);
	cluster_watch_certificate(m);
	step_end(s, 0, m->st.node.s, NULL);
}

void cluster_leads(struct meshd *m)
{
	struct step *s = TAKE(initializing);
	if (!s)
		return;
	struct store_tx *tx = store_tx_new(manager_store(m->manager), clock_wall_ns());
	brain_bootstrap(tx, &s->cluster, &s->node, &m->rng);
	manager_commit(m->manager, tx, on_bootstrapped, s);
}

static int prepare_init(struct meshd *m, const struct api_init_request *r, struct step *s, struct mesh_err *err)
{
	mesh_id_make(&m->rng, m->st.node.s);
	mesh_id_make(&m->rng, m->st.cluster.s);
	m->st.manager = true;
	int rc = fill_addresses(m, r->advertise_addr, r->listen_addr, r->data_path_addr, err);
	if (rc)
		return rc;
	fill_cluster(m, r, &s->cluster);
	m->st.data_path_port = s->cluster.data_path_port;
	fill_first_node(m, r, &s->node);
	rc = make_identity(m, &s->cluster, err);
	if (!rc)
		rc = state_save(m->opt->state, &m->st, err);
	return rc;
}

void cluster_init(struct meshd *m, const struct api_init_request *r, api_done done, void *arg)
{
	struct mesh_err err = { 0 };
	int rc = 0;
	if (r->force_new_cluster && m->in_swarm)
		rc = mesh_fail(&err, MESH_E_UNSUPPORTED,
		               "--force-new-cluster: this swarm has one manager and needs no recovery");
	if (!rc)
		rc = refuse_if_in_swarm(m, &err);
	if (!rc && (r->autolock || r->spec.encryption.autolock))
		rc = mesh_fail(&err, MESH_E_UNSUPPORTED, "--autolock is not supported by this version");
	if (rc) {
		done(arg, rc, NULL, &err);
		return;
	}
	struct step *s = step_new(m, done, arg);
	rc = prepare_init(m, r, s, &err);
	if (!rc) {
		m->in_swarm = true;
		initializing = s;
		rc = manager_open(m, true, &m->manager, &err);
	}
	if (rc) {
		initializing = NULL;
		undo(m);
		step_end(s, rc, NULL, &err);
		return;
	}
	if (manager_leads(m->manager))
		cluster_leads(m);
}

/* ---- join ---- */

static void on_join_undone(void *arg)
{
	struct step *s = arg;
	struct mesh_err err = { 0 };
	int rc = mesh_fail(&err, MESH_E_TIMEOUT, "%s",
	                   s->m->error[0] ? s->m->error : "the manager accepted this node but did not open a session");
	s->m->error[0] = '\0';
	log_warn("could not join the swarm reason=\"%s\"", mesh_err_text(&err, rc));
	undo(s->m);
	step_end(s, rc, NULL, &err);
}

static void on_join_timeout(uv_timer_t *t)
{
	struct step *s = CONTAINER_OF(t, struct step, timeout);
	joining = NULL;
	session_close(TAKE(s->m->session), false, on_join_undone, s);
}

void cluster_welcomed(struct meshd *m)
{
	struct step *s = TAKE(joining);
	if (!s)
		return;
	log_info("joined the swarm cluster=%s node=%s", m->st.cluster.s, m->st.node.s);
	cluster_watch_certificate(m);
	step_end(s, 0, m->st.node.s, NULL);
}

static void on_joined(void *arg, int code, const struct ca_joined *j, const struct mesh_err *why)
{
	struct step *s = arg;
	struct meshd *m = s->m;
	struct mesh_err err = { 0 };
	char dir[512];
	if (code) {
		log_warn("could not join the swarm reason=\"%s\"", mesh_err_text(why, code));
		undo(m);
		step_end(s, code, NULL, why);
		return;
	}
	snprintf(dir, sizeof(dir), "%s/identity", m->opt->state);
	m->st.node = j->node;
	m->st.cluster = j->cluster;
	m->st.manager = j->manager;
	m->identity = j->identity;
	int rc = net_identity_save(m->identity, dir, &err);
	if (!rc)
		rc = state_save(m->opt->state, &m->st, &err);
	if (rc) {
		undo(m);
		step_end(s, rc, NULL, &err);
		return;
	}
	m->in_swarm = true;
	joining = s;
	s->timed = true;
	uv_timer_init(m->loop, &s->timeout);
	uv_timer_start(&s->timeout, on_join_timeout, JOIN_TIMEOUT_MS, 0);
	m->session = session_open(m);
}

void cluster_join(struct meshd *m, const struct api_join_request *r, api_done done, void *arg)
{
	struct mesh_err err = { 0 };
	char host[64], to[80];
	uint16_t port;
	int rc = refuse_if_in_swarm(m, &err);
	if (!rc && !r->remote_addrs.n)
		rc = mesh_fail(&err, MESH_E_INVALID, "at least one RemoteAddr is required to join");
	if (!rc)
		rc = ca_token_check_form(r->token ? r->token : "", &err);
	if (!rc)
		rc = address_resolve(r->remote_addrs.v[0], MESH_PORT, false, host, &port, &err);
	if (!rc)
		rc = fill_addresses(m, r->advertise_addr, r->listen_addr, r->data_path_addr, &err);
	if (rc) {
		if (!m->in_swarm)
			sch_clear(&node_state_schema, &m->st);
		done(arg, rc, NULL, &err);
		return;
	}
	snprintf(to, sizeof(to), "%s:%u", host, port);
	m->st.managers.v[0].node = (node_id){ 0 };
	str_set(&m->st.managers.v[0].addr, to);
	m->st.availability = r->availability;
	ca_join(m->loop, to, r->token, m->st.advertise_addr, on_joined, step_new(m, done, arg));
}

/* ---- leave ---- */

static void on_purged(void *arg)
{
	struct step *s = arg;
	struct meshd *m = s->m;
	network_stop(m->network, true);
	undo(m);
	m->error[0] = '\0';
	log_info("left the swarm");
	step_end(s, 0, NULL, NULL);
}

static void on_manager_closed(void *arg)
{
	struct step *s = arg;
	agent_purge(s->m->agent, on_purged, s);
}

static void on_session_closed(void *arg)
{
	struct step *s = arg;
	if (s->m->manager)
		manager_close(TAKE(s->m->manager), on_manager_closed, s);
	else
		on_manager_closed(s);
}

void cluster_leave(struct meshd *m, bool force, api_done done, void *arg)
{
	struct mesh_err err = { 0 };
	int rc = 0;
	if (!m->in_swarm)
		rc = mesh_fail(&err, MESH_E_NOT_MANAGER, "This node is not part of a swarm");
	else if (m->busy)
		rc = mesh_fail(&err, MESH_E_CONFLICT, "another swarm operation is under way on this node; try again");
	else if (m->manager && !force)
		rc = mesh_fail(&err, MESH_E_NOT_MANAGER,
		               "You are attempting to leave the swarm on a node that is participating as a manager. "
		               "Removing the last manager erases all current state of the swarm. Use `--force` to "
		               "ignore this message. ");
	if (rc) {
		done(arg, rc, NULL, &err);
		return;
	}
	struct step *s = step_new(m, done, arg);
	if (m->session)
		session_close(TAKE(m->session), true, on_session_closed, s);
	else
		on_session_closed(s);
}

/* ---- after a restart ---- */

int cluster_resume(struct meshd *m, struct mesh_err *err)
{
	char dir[512];
	int rc = state_load(m->opt->state, &m->st, err);
	if (rc == MESH_E_NOT_FOUND)
		return 0;
	snprintf(dir, sizeof(dir), "%s/identity", m->opt->state);
	if (!rc)
		rc = net_identity_load(dir, &m->identity, err);
	if (!rc && m->st.manager)
		rc = manager_open(m, false, &m->manager, err);
	if (rc)
		return rc;
	m->in_swarm = true;
	network_start(m->network);
	m->session = session_open(m);
	return 0;
}

/* ---- the certificate is renewed at half of what is left of its life ---- */

#define RENEW_RETRY_NS (60 * NS_PER_SEC)
#define RENEW_MAX_NS (24 * 3600 * NS_PER_SEC)

static void on_renew(uv_timer_t *t);

static void arm_renewal(struct meshd *m, int64_t after_ns)
{
	uint64_t ms = (uint64_t)(after_ns < NS_PER_SEC ? NS_PER_SEC : after_ns) / NS_PER_MS;
	uv_timer_start(&m->renew, on_renew, ms, 0);
}

static void on_renewed(void *arg, int code, const struct ca_joined *j, const struct mesh_err *why)
{
	struct meshd *m = arg;
	struct mesh_err err = { 0 };
	char dir[512];
	if (j && j->identity)
		net_identity_free(j->identity);
	if (!m->in_swarm || m->stopping)
		return;
	if (code) {
		log_warn("cannot renew the certificate, trying again reason=\"%s\"", mesh_err_text(why, code));
		arm_renewal(m, RENEW_RETRY_NS);
		return;
	}
	snprintf(dir, sizeof(dir), "%s/identity", m->opt->state);
	int rc = net_identity_save(m->identity, dir, &err);
	if (rc)
		log_error("the renewed certificate is not on disk reason=\"%s\"", mesh_err_text(&err, rc));
	else
		log_info("certificate renewed");
	cluster_watch_certificate(m);
}

static void on_renew(uv_timer_t *t)
{
	struct meshd *m = t->data;
	int64_t left = m->in_swarm && m->identity ? net_identity_self(m->identity)->not_after - clock_wall_ns() : 0;
	if (left > 2 * RENEW_MAX_NS || !m->in_swarm || !m->st.managers.n) {
		cluster_watch_certificate(m);
		return;
	}
	ca_renew(m->loop, m->identity, m->st.managers.v[0].addr, on_renewed, m);
}

void cluster_watch_certificate(struct meshd *m)
{
	int64_t left =
		m->in_swarm && m->identity ? net_identity_self(m->identity)->not_after - clock_wall_ns() : RENEW_MAX_NS;
	arm_renewal(m, left / 2 < RENEW_MAX_NS ? left / 2 : RENEW_MAX_NS);
}

void cluster_renew_own(struct meshd *m, const struct md_cluster *c)
{
	struct bytes key = { 0 }, cert = { 0 };
	struct mesh_err err = { 0 };
	char dir[512];
	if (!c || !m->identity || net_identity_self(m->identity)->not_after > clock_wall_ns())
		return;
	snprintf(dir, sizeof(dir), "%s/identity", m->opt->state);
	int rc = issue_own(m, c, &key, &cert, &err);
	if (!rc)
		rc = net_identity_replace(m->identity, &c->root_cert, &cert, &key, &err);
	if (!rc)
		rc = net_identity_save(m->identity, dir, &err);
	if (rc)
		log_error("this manager's certificate expired and cannot be renewed reason=\"%s\"",
		          mesh_err_text(&err, rc));
	else
		log_warn("this manager's certificate had expired; it has a new one");
	bytes_set(&key, NULL, 0);
	bytes_set(&cert, NULL, 0);
}

void cluster_unwatch_certificate(struct meshd *m)
{
	uv_close((uv_handle_t *)&m->renew, NULL);
}
