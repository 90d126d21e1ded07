/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this node counts, as Prometheus text: the data plane, and on a manager the cluster. */
#include "base/mem.h"
#include "base/prom.h"
#include "control/dispatcher/dispatcher.h"
#include "control/meshd/meshd.h"

static void tasks(struct buf *b, const struct store *s)
{
	uint64_t n[MD_TASK_STATE_MAX] = { 0 };
	STORE_EACH(s, STORE_TASK, struct md_task, t)
		if (t->status.state >= 0 && t->status.state < MD_TASK_STATE_MAX)
			n[t->status.state]++;
	prom_family(b, "mesh_tasks", "gauge", "Tasks of the cluster by state.");
	for (int i = 0; i < MD_TASK_STATE_MAX; i++)
		prom_u64(b, "mesh_tasks", n[i], "state", md_task_state_names.names[i], PROM_END);
}

static void nodes(struct buf *b, const struct store *s)
{
	prom_family(b, "mesh_node_up", "gauge", "Is the node ready?");
	STORE_EACH(s, STORE_NODE, struct md_node, n)
		prom_u64(b, "mesh_node_up", n->status.state == MD_NODE_READY, "node", n->description.hostname, "id",
		         n->meta.id, PROM_END);
}

static void replicas(struct buf *b, struct store *s)
{
	prom_family(b, "mesh_service_tasks_running", "gauge", "Running tasks of a service.");
	STORE_EACH(s, STORE_SERVICE, struct md_service, v) {
		struct store_list l = store_tasks_of_service(s, v->meta.id);
		uint64_t n = 0;
		for (size_t i = 0; i < l.n; i++)
			n += ((const struct md_task *)l.v[i])->status.state == MD_TASK_RUNNING;
		prom_u64(b, "mesh_service_tasks_running", n, "service", v->spec.name, PROM_END);
	}
}

static void on_session(void *arg, const char *node, bool connected, uint64_t sent, uint64_t acked)
{
	prom_u64(arg, "mesh_node_version_behind", connected && sent > acked ? sent - acked : 0, "id", node, PROM_END);
}

static void cluster(struct buf *b, struct manager *mgr)
{
	struct store *s = manager_store(mgr);
	prom_family(b, "mesh_objects", "gauge", "Objects in the cluster's store.");
	for (int k = 0; k < STORE_KIND_MAX; k++)
		prom_u64(b, "mesh_objects", store_count(s, k), "kind", store_kind_name(k), PROM_END);
	prom_family(b, "mesh_store_index", "gauge", "Last log index applied.");
	prom_u64(b, "mesh_store_index", store_index(s), PROM_END);
	prom_family(b, "mesh_raft_leader", "gauge", "Does this manager lead?");
	prom_u64(b, "mesh_raft_leader", manager_leads(mgr), PROM_END);
	prom_family(b, "mesh_raft_term", "gauge", "Term of the consensus.");
	prom_u64(b, "mesh_raft_term", manager_term(mgr), PROM_END);
	prom_family(b, "mesh_sessions", "gauge", "Agents connected to this manager.");
	prom_u64(b, "mesh_sessions", manager_sessions(mgr), PROM_END);
	tasks(b, s);
	replicas(b, s);
	nodes(b, s);
	if (!manager_leads(mgr))
		return;
	prom_family(b, "mesh_node_version_behind", "gauge",
	            "Versions of the network state a node has not acknowledged.");
	manager_each_session(mgr, on_session, b);
}

void metrics_write(struct meshd *m, struct buf *out)
{
	struct dp_stats s;
	prom_family(out, "mesh_build_info", "gauge", "Version of meshd; always 1.");
	prom_u64(out, "mesh_build_info", 1, "version", MESH_VERSION, PROM_END);
	bool whole = network_stats(m->network, &s);
	prom_family(out, "mesh_dataplane_up", "gauge", "Does the data plane run?");
	prom_u64(out, "mesh_dataplane_up", whole, PROM_END);
	prom_family(out, "mesh_session_up", "gauge", "Is this node connected to a manager?");
	prom_u64(out, "mesh_session_up", m->session && session_welcomed(m->session), PROM_END);
	if (whole)
		dp_stats_prom(&s, out);
	sch_clear(&dp_stats_schema, &s);
	if (m->manager)
		cluster(out, m->manager);
}

/* Published ports are alike for TCP and UDP here: who asks knows the number. */
static bool port_health(const struct dp_stats *s, unsigned port, struct buf *out)
{
	bool known = false, well = false;
	for (size_t i = 0; i < s->ports.n; i++) {
		known |= s->ports.v[i].port == port;
		well |= s->ports.v[i].port == port && s->ports.v[i].serving;
	}
	buf_printf(out, "port %u: %s\n", port, !known ? "not published" : well ? "ok" : "no task serves it");
	return well;
}

bool metrics_health(struct meshd *m, unsigned port, struct buf *out)
{
	struct dp_stats s;
	bool well = network_stats(m->network, &s);
	if (!well)
		buf_puts(out, "no data plane runs on this node\n");
	else if (port)
		well = port_health(&s, port, out);
	else
		buf_puts(out, "ok\n"); /* without a manager it forwards on what it knows */
	sch_clear(&dp_stats_schema, &s);
	return well;
}
