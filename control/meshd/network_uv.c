/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data plane runs on its own thread; here its reports come onto the loop and go where they belong. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/meshd/meshd.h"

#define CGROUP2_MAGIC 0x63677270

struct network {
	struct meshd *m;
	struct dp *dp;
	char why_not[400]; /* why dp is NULL */
	char driver[160];
	char run_dir[PATH_MAX], cgroup[PATH_MAX];
	struct dp_host *host; /* last report */
	uv_async_t wake;
	uv_mutex_t lock;
	struct VEC(struct dp_report) reports; /* under lock */
	void (*freed)(void *arg);
	void *freed_arg;
};

static void on_dp_thread(void *arg, struct dp_report *r)
{
	struct network *n = arg;
	uv_mutex_lock(&n->lock);
	vec_push(&n->reports, *r);
	uv_mutex_unlock(&n->lock);
	uv_async_send(&n->wake);
}

static void on_host(struct network *n, struct dp_host *host)
{
	if (n->host)
		dp_host_free(n->host);
	n->host = host;
	if (n->m->session)
		session_describe(n->m->session);
}

static void on_report(struct network *n, struct dp_report *r)
{
	struct meshd *m = n->m;
	switch (r->kind) {
	case DP_APPLIED:
		if (r->code)
			log_warn("a change of the network state is not whole in the kernel yet reason=\"%s\"", r->text);
		if (m->session)
			session_applied(m->session, r->version);
		break;
	case DP_ATTACHED:
		agent_attached(m->agent, r->task.s, r->code, r->text);
		break;
	case DP_LISTENING:
		agent_listening(m->agent, r->task.s);
		break;
	case DP_FLOWS_ENDED:
		agent_flows_ended(m->agent, r->task.s);
		break;
	case DP_HOST:
		on_host(n, r->host);
		break;
	case DP_DEGRADED:
		if (r->text[0])
			log_warn("network is degraded reason=\"%s\"", r->text);
		else if (m->error[0])
			log_info("network is whole again");
		snprintf(m->error, sizeof(m->error), "%s", r->text);
		break;
	case DP_DETACHED:
		break;
	}
}

static void on_wake(uv_async_t *a)
{
	struct network *n = CONTAINER_OF(a, struct network, wake);
	uv_mutex_lock(&n->lock);
	struct dp_report *todo = n->reports.data;
	size_t count = n->reports.len;
	n->reports.data = NULL;
	n->reports.len = n->reports.cap = 0;
	uv_mutex_unlock(&n->lock);
	for (size_t i = 0; i < count; i++)
		on_report(n, &todo[i]);
	free(todo);
}

struct network *network_new(struct meshd *m)
{
	struct network *n = XNEW(struct network);
	n->m = m;
	snprintf(n->why_not, sizeof(n->why_not), "this node is in no swarm");
	uv_mutex_init(&n->lock);
	uv_async_init(m->loop, &n->wake, on_wake);
	return n;
}

/* The cgroup v2 directory of our tasks: at the top, or beside the v1 hierarchies. */
static void find_cgroup(struct network *n)
{
	struct statfs fs;
	const char *top = statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_MAGIC ? "/sys/fs/cgroup"
	                                                                                   : "/sys/fs/cgroup/unified";
	snprintf(n->cgroup, sizeof(n->cgroup), "%s/%s", top, n->m->opt->name);
}

void network_start(struct network *n)
{
	if (n->dp)
		return;
	struct meshd *m = n->m;
	struct mesh_err err = { 0 };
	find_cgroup(n);
	snprintf(n->run_dir, sizeof(n->run_dir), "%s", m->opt->run);
	struct dp_config c = {
		.name = "mesh",
		.state_dir = m->opt->state,
		.run_dir = n->run_dir,
		.cgroup = n->cgroup,
		.data_path_addr =
			m->st.data_path_addr && *m->st.data_path_addr ? m->st.data_path_addr : m->st.advertise_addr,
		.vxlan_port = (uint16_t)(m->st.data_path_port ? m->st.data_path_port : MESH_VXLAN_PORT),
		.driver = m->opt->data_plane,
		.local_subnet = "172.18.0.0/16",
		.report = on_dp_thread,
		.arg = n,
	};
	int rc = dp_open(&c, &n->dp, &err);
	if (rc) {
		snprintf(n->why_not, sizeof(n->why_not), "%s", mesh_err_text(&err, rc));
		snprintf(n->driver, sizeof(n->driver), "none: %.140s", n->why_not);
		snprintf(m->error, sizeof(m->error), "data plane: %.400s", n->why_not);
		log_error("no data plane: tasks get no network reason=\"%s\"", n->why_not);
		return;
	}
	snprintf(n->driver, sizeof(n->driver), "%s", dp_driver(n->dp));
	log_info("data plane is up driver=\"%s\" vxlan_port=%u", n->driver, c.vxlan_port);
}

void network_stop(struct network *n, bool destroy)
{
	if (!n->dp)
		return;
	if (destroy)
		dp_destroy(n->dp);
	else
		dp_close(n->dp);
	n->dp = NULL;
	n->driver[0] = '\0';
	snprintf(n->why_not, sizeof(n->why_not), "this node is in no swarm");
}

static void on_freed(uv_handle_t *h)
{
	struct network *n = CONTAINER_OF(h, struct network, wake);
	void (*cb)(void *) = n->freed;
	void *arg = n->freed_arg;
	for (size_t i = 0; i < n->reports.len; i++)
		if (n->reports.data[i].host)
			dp_host_free(n->reports.data[i].host);
	vec_fini(&n->reports);
	if (n->host)
		dp_host_free(n->host);
	uv_mutex_destroy(&n->lock);
	free(n);
	if (cb)
		cb(arg);
}

void network_free(struct network *n, void (*cb)(void *arg), void *arg)
{
	network_stop(n, false);
	n->freed = cb;
	n->freed_arg = arg;
	uv_close((uv_handle_t *)&n->wake, on_freed);
}

void network_submit(struct network *n, struct dp_delta *delta)
{
	if (n->dp) {
		dp_submit(n->dp, delta);
		return;
	}
	/* Nothing here could send traffic to a task, so nothing has to be waited for. */
	uint64_t version = delta->version;
	dp_delta_free(delta);
	if (n->m->session)
		session_applied(n->m->session, version);
}

static int ip_protocol(int protocol)
{
	return protocol == MD_PROTO_UDP ? IPPROTO_UDP : protocol == MD_PROTO_SCTP ? IPPROTO_SCTP : IPPROTO_TCP;
}

void network_attach(struct network *n, const struct md_task *t, int pid, int udp_fd, int tcp_fd)
{
	if (!n->dp) {
		agent_attached(n->m->agent, t->meta.id, MESH_E_UNSUPPORTED, n->why_not);
		return;
	}
	struct dp_attach *a = XNEW(struct dp_attach);
	mesh_id_set(a->task.s, t->meta.id);
	a->pid = pid;
	a->dns_udp_fd = udp_fd;
	a->dns_tcp_fd = tcp_fd;
	for (size_t i = 0; i < t->attachments.n; i++) {
		if (!t->attachments.v[i].addresses.n)
			continue;
		struct dp_attach_net *net = LIST_ADD(&a->nets);
		net->network = t->attachments.v[i].network;
		net->addr = xstrdup(t->attachments.v[i].addresses.v[0]);
	}
	/* Published ports alone give no way out: the node's own network does. */
	if (!t->spec.networks.n)
		(void)LIST_ADD(&a->nets);
	for (size_t i = 0; i < t->endpoint.ports.n; i++) {
		const struct md_port *p = &t->endpoint.ports.v[i];
		if (p->mode != MD_PUBLISH_HOST)
			continue;
		struct dp_host_publish *h = LIST_ADD(&a->host_ports);
		*h = (struct dp_host_publish){ ip_protocol(p->protocol), p->published ? p->published : p->target,
			                       p->target };
	}
	const struct md_container_spec *c = t->spec.container;
	for (size_t i = 0; c && c->dns && i < c->dns->nameservers.n; i++)
		strs_add(&a->nameservers, c->dns->nameservers.v[i]);
	dp_attach_task(n->dp, a);
}

static task_id id_of(const char *task)
{
	task_id id;
	mesh_id_set(id.s, task);
	return id;
}

void network_detach(struct network *n, const char *task)
{
	if (n->dp)
		dp_detach_task(n->dp, id_of(task));
}

void network_watch_listen(struct network *n, const char *task, const struct dp_port *ports, size_t count)
{
	if (n->dp)
		dp_watch_listen(n->dp, id_of(task), ports, count);
}

void network_watch_flows(struct network *n, const char *task)
{
	if (n->dp)
		dp_watch_flows(n->dp, id_of(task));
	else
		agent_flows_ended(n->m->agent, task);
}

void network_adopted(struct network *n)
{
	if (n->dp)
		dp_attach_done(n->dp);
}

const char *network_driver(const struct network *n)
{
	return n->driver;
}

static int model_protocol(int ip_proto)
{
	return ip_proto == IPPROTO_UDP ? MD_PROTO_UDP : ip_proto == IPPROTO_SCTP ? MD_PROTO_SCTP : MD_PROTO_TCP;
}

void network_describe(const struct network *n, struct md_node_description *d)
{
	str_set(&d->data_plane, n->driver);
	if (!n->host)
		return;
	for (size_t i = 0; i < n->host->addrs.n; i++)
		strs_add(&d->host_addrs, n->host->addrs.v[i]);
	for (size_t i = 0; i < n->host->subnets.n; i++)
		strs_add(&d->underlay, n->host->subnets.v[i]);
	for (size_t i = 0; i < n->host->ports.len; i++) {
		const struct dp_host_port *p = &n->host->ports.data[i];
		struct md_host_port *out = LIST_ADD(&d->host_ports);
		*out = (struct md_host_port){ .port = p->port,
			                      .protocol = model_protocol(p->protocol),
			                      .process = p->process[0] ? xstrdup(p->process) : NULL };
	}
}

void network_metrics(struct network *n, struct buf *out)
{
	if (n->dp)
		dp_metrics(n->dp, out);
}
