/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the API asks of the daemon. */
#include "base/mem.h"
#include "control/meshd/meshd.h"

static struct store *op_store(void *arg)
{
	struct meshd *m = arg;
	return m->manager ? manager_store(m->manager) : NULL;
}

static void op_local(void *arg, struct api_local_state *out)
{
	struct meshd *m = arg;
	*out = (struct api_local_state){ .state = m->in_swarm ? "active"
		                                  : m->busy   ? "pending"
		                                              : "inactive",
		                         .error = m->error,
		                         .manager = m->manager != NULL,
		                         .node_id = m->in_swarm ? m->st.node.s : "",
		                         .node_addr = m->in_swarm && m->st.advertise_addr ? m->st.advertise_addr : "",
		                         .hostname = m->opt->hostname,
		                         .labels = &m->opt->labels,
		                         .offers = &m->opt->offers,
		                         .data_plane = network_driver(m->network) };
	if (m->in_swarm && m->error[0] && m->session && !session_welcomed(m->session) && !m->manager)
		out->state = "error";
	for (size_t i = 0; m->in_swarm && i < m->st.managers.n && i < ARRAY_SIZE(out->managers.v); i++) {
		out->managers.v[i].node_id = m->st.managers.v[i].node.s;
		out->managers.v[i].addr = m->st.managers.v[i].addr;
		out->managers.n++;
	}
}

static struct agent *op_agent(void *arg)
{
	return ((struct meshd *)arg)->agent;
}

static struct mesh_rng *op_rng(void *arg)
{
	return &((struct meshd *)arg)->rng;
}

static void op_commit(void *arg, struct store_tx *tx, api_done done, void *done_arg)
{
	struct meshd *m = arg;
	if (m->manager && manager_leads(m->manager)) {
		manager_commit(m->manager, tx, done, done_arg);
		return;
	}
	struct mesh_err err = { 0 };
	store_tx_free(tx);
	mesh_fail(
		&err, MESH_E_NO_LEADER,
		"The swarm does not have a leader. It's possible that too few managers are online. Make sure more than "
		"half of the managers are online.");
	done(done_arg, MESH_E_NO_LEADER, NULL, &err);
}

static void op_init(void *arg, const struct api_init_request *r, api_done done, void *done_arg)
{
	cluster_init(arg, r, done, done_arg);
}

static void op_join(void *arg, const struct api_join_request *r, api_done done, void *done_arg)
{
	cluster_join(arg, r, done, done_arg);
}

static void op_leave(void *arg, bool force, api_done done, void *done_arg)
{
	cluster_leave(arg, force, done, done_arg);
}

static void op_update(void *arg, const struct api_swarm_update *r, api_done done, void *done_arg)
{
	struct meshd *m = arg;
	struct mesh_err err = { 0 };
	int rc = 0;
	if (!m->manager)
		rc = MESH_E_NOT_MANAGER;
	else if (r->spec.encryption.autolock || r->rotate_unlock_key)
		rc = mesh_fail(&err, MESH_E_UNSUPPORTED, "autolock is not supported by this version");
	else
		rc = manager_update_cluster(m->manager, r, done, done_arg);
	if (rc == MESH_E_OUT_OF_SEQUENCE)
		mesh_fail(&err, rc, "rpc error: code = Unknown desc = update out of sequence");
	if (rc)
		done(done_arg, rc, NULL, &err);
}

static struct api_logs *op_logs_open(void *arg, const char *const *tasks, size_t n, const struct agent_log_opts *o,
                                     const struct api_logs_ops *ops, void *ops_arg)
{
	return logs_open(((struct meshd *)arg)->manager, tasks, n, o, ops, ops_arg);
}

static int op_check_published(void *arg, const struct md_port *p, struct mesh_err *err)
{
	struct meshd *m = arg;
	int protocol = p->protocol ? p->protocol : MD_PROTO_TCP;
	if (!m->manager || !p->published)
		return 0;
	STORE_EACH(manager_store(m->manager), STORE_NODE, struct md_node, n)
		for (size_t i = 0; i < n->description.host_ports.n; i++) {
			const struct md_host_port *h = &n->description.host_ports.v[i];
			if (h->port != p->published || h->protocol != protocol || n->status.state == MD_NODE_DOWN)
				continue;
			return mesh_fail(err, MESH_E_IN_USE,
			                 "port %u/%s is already in use on node %s by %s; stop it there, or "
			                 "publish another port",
			                 p->published, md_protocol_names.names[protocol],
			                 n->description.hostname ? n->description.hostname : n->meta.id,
			                 h->process && *h->process ? h->process : "a process of the host");
		}
	return 0;
}

static void op_run(void *arg, unsigned op, const struct md_task *t, api_done done, void *done_arg)
{
	struct meshd *m = arg;
	struct mesh_err err = { 0 };
	if (m->session) {
		session_run(m->session, op, t, done, done_arg);
		return;
	}
	(void)mesh_fail(&err, MESH_E_NOT_MANAGER,
	                "containers run on nodes of a swarm: this node is in none (swarm init, or swarm join)");
	done(done_arg, err.code, NULL, &err);
}

static struct api_ask *op_ask_open(void *arg, const char *what, const struct str_list *args,
                                   const struct api_ask_ops *ops, void *ops_arg)
{
	return ask_open(((struct meshd *)arg)->manager, what, args, ops, ops_arg);
}

static void op_metrics(void *arg, struct buf *out)
{
	metrics_write(arg, out);
}

const struct api_ops meshd_api_ops = {
	.store = op_store,
	.local = op_local,
	.agent = op_agent,
	.rng = op_rng,
	.commit = op_commit,
	.swarm_init = op_init,
	.swarm_join = op_join,
	.swarm_leave = op_leave,
	.swarm_update = op_update,
	.logs_open = op_logs_open,
	.logs_resume = logs_resume,
	.logs_close = logs_close,
	.check_published = op_check_published,
	.metrics = op_metrics,
	.ask_open = op_ask_open,
	.ask_close = ask_close,
	.run = op_run,
};
