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

/* What was asked while the data plane opens: done in this order once it is open, or refused. */
enum asked_kind { ASKED_SUBMIT, ASKED_ATTACH, ASKED_DETACH, ASKED_LISTEN, ASKED_FLOWS, ASKED_ADOPTED };
struct asked {
	enum asked_kind kind;
	struct dp_delta *delta;
	struct md_task *t;
	int pid, udp_fd, tcp_fd;
	char task[MESH_ID_LEN + 1];
	struct dp_port *ports;
	size_t count;
};

struct network {
	struct meshd *m;
	struct dp *dp;
	/* Loading programs takes a tenth of a second and more: on the thread pool, while the loop goes on. */
	uv_work_t opening;
	bool busy, stop, destroy; /* busy: opening; stop, destroy: what is wanted of it when it is open */
	struct dp_config config;
	struct dp *opened;
	int open_code;
	struct mesh_err open_err;
	struct VEC(struct asked) asked;
	char why_not[400]; /* why dp is NULL */
	char driver[DP_DRIVER_TEXT];
	char run_dir[PATH_MAX], cgroup[PATH_MAX], underlay[64];
	struct dp_host *host; /* last report */
	struct network_watcher {
		network_seen_fn fn; /* NULL: free */
		void *arg;
	} watchers[DP_WATCHERS_MAX];
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

static void on_seen(struct network *n, struct dp_report *r)
{
	struct mesh_err err = { 0 };
	if (r->code && r->version < DP_WATCHERS_MAX && n->watchers[r->version].fn) {
		struct network_watcher w = n->watchers[r->version];
		(void)mesh_fail(&err, r->code, "%s", r->text);
		w.fn(w.arg, NULL, &err);
	}
	for (size_t i = 0; r->events && i < r->events->list.n; i++)
		for (unsigned k = 0; k < DP_WATCHERS_MAX; k++)
			if (n->watchers[k].fn && r->events->list.v[i].watchers & 1u << k)
				n->watchers[k].fn(n->watchers[k].arg, &r->events->list.v[i], NULL);
	sch_free(&dp_events_schema, r->events);
}

int network_watch(struct network *n, struct dp_filter *f, network_seen_fn fn, void *arg, struct mesh_err *err)
{
	for (unsigned k = 0; n->dp && k < DP_WATCHERS_MAX; k++) {
		if (n->watchers[k].fn)
			continue;
		n->watchers[k] = (struct network_watcher){ fn, arg };
		dp_watch(n->dp, k, f);
		return (int)k;
	}
	dp_filter_fini(f);
	return n->dp ? mesh_fail(err, MESH_E_EXHAUSTED, "%d traces run on this node already: stop one", DP_WATCHERS_MAX)
	             : mesh_fail(err, MESH_E_UNSUPPORTED, "no data plane runs here: %s", n->why_not);
}

void network_unwatch(struct network *n, int watcher)
{
	n->watchers[watcher] = (struct network_watcher){ 0 };
	if (n->dp)
		dp_unwatch(n->dp, (unsigned)watcher);
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
	case DP_SEEN:
		on_seen(n, r);
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

static void on_freed(uv_handle_t *h);

static void do_open(uv_work_t *w)
{
	struct network *n = CONTAINER_OF(w, struct network, opening);
	n->open_code = dp_open(&n->config, &n->opened, &n->open_err);
}

static void catch_up(struct network *n);

static void on_opened(uv_work_t *w, int status)
{
	struct network *n = CONTAINER_OF(w, struct network, opening);
	struct meshd *m = n->m;
	(void)status;
	n->busy = false;
	n->dp = TAKE(n->opened);
	if (n->open_code) {
		snprintf(n->why_not, sizeof(n->why_not), "%s", mesh_err_text(&n->open_err, n->open_code));
		snprintf(n->driver, sizeof(n->driver), "none: %.140s", n->why_not);
		snprintf(m->error, sizeof(m->error), "data plane: %.400s", n->why_not);
		log_error("no data plane: tasks get no network reason=\"%s\"", n->why_not);
	} else {
		snprintf(n->driver, sizeof(n->driver), "%s", dp_driver(n->dp));
		log_info("data plane is up driver=\"%s\" vxlan_port=%u", n->driver, n->config.vxlan_port);
	}
	bool stop = n->stop;
	n->stop = false;
	catch_up(n);
	if (stop)
		network_stop(n, n->destroy);
	if (n->freed)
		uv_close((uv_handle_t *)&n->wake, on_freed);
	else if (m->session)
		session_describe(m->session);
}

void network_start(struct network *n)
{
	struct meshd *m = n->m;
	n->stop = false;
	if (n->dp || n->busy)
		return;
	find_cgroup(n);
	snprintf(n->run_dir, sizeof(n->run_dir), "%s", m->opt->run);
	snprintf(n->underlay, sizeof(n->underlay), "%s",
	         m->st.data_path_addr && *m->st.data_path_addr ? m->st.data_path_addr
	         : m->st.advertise_addr                        ? m->st.advertise_addr
	                                                       : "");
	n->config = (struct dp_config){
		.name = "mesh",
		.state_dir = m->opt->state,
		.run_dir = n->run_dir,
		.cgroup = n->cgroup,
		.data_path_addr = n->underlay[0] ? n->underlay : NULL,
		.vxlan_port = (uint16_t)(m->st.data_path_port ? m->st.data_path_port : MESH_VXLAN_PORT),
		.driver = m->opt->data_plane,
		.xdp = m->opt->xdp,
		.flows_max = m->opt->flows,
		.local_subnet = "172.18.0.0/16",
		.report = on_dp_thread,
		.arg = n,
	};
	n->open_err = (struct mesh_err){ 0 };
	n->busy = true;
	uv_queue_work(m->loop, &n->opening, do_open, on_opened);
}

void network_stop(struct network *n, bool destroy)
{
	if (n->busy) {
		n->stop = true;
		n->destroy = destroy;
		return;
	}
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
	for (size_t i = 0; i < n->reports.len; i++) {
		if (n->reports.data[i].host)
			dp_host_free(n->reports.data[i].host);
		sch_free(&dp_events_schema, n->reports.data[i].events);
	}
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
	if (!n->busy)
		uv_close((uv_handle_t *)&n->wake, on_freed);
}

static void ask(struct network *n, struct asked a)
{
	vec_push(&n->asked, a);
}

static void ask_for_task(struct network *n, enum asked_kind kind, const char *task)
{
	struct asked a = { .kind = kind };
	mesh_id_set(a.task, task);
	ask(n, a);
}

void network_submit(struct network *n, struct dp_delta *delta)
{
	if (n->dp) {
		dp_submit(n->dp, delta);
		return;
	}
	if (n->busy) {
		ask(n, (struct asked){ .kind = ASKED_SUBMIT, .delta = delta });
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
	if (n->busy) {
		ask(n, (struct asked){ .kind = ASKED_ATTACH,
		                       .t = sch_dup(&md_task_schema, t),
		                       .pid = pid,
		                       .udp_fd = udp_fd,
		                       .tcp_fd = tcp_fd });
		return;
	}
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
	if (n->busy)
		ask_for_task(n, ASKED_DETACH, task);
	else if (n->dp)
		dp_detach_task(n->dp, id_of(task));
}

void network_watch_listen(struct network *n, const char *task, const struct dp_port *ports, size_t count)
{
	if (n->busy) {
		struct asked a = { .kind = ASKED_LISTEN,
			           .ports = xmemdup(ports, count * sizeof(*ports)),
			           .count = count };
		mesh_id_set(a.task, task);
		ask(n, a);
	} else if (n->dp) {
		dp_watch_listen(n->dp, id_of(task), ports, count);
	}
}

void network_watch_flows(struct network *n, const char *task)
{
	if (n->busy)
		ask_for_task(n, ASKED_FLOWS, task);
	else if (n->dp)
		dp_watch_flows(n->dp, id_of(task));
	else
		agent_flows_ended(n->m->agent, task);
}

void network_adopted(struct network *n)
{
	if (n->busy)
		ask_for_task(n, ASKED_ADOPTED, "");
	else if (n->dp)
		dp_attach_done(n->dp);
}

static void catch_up(struct network *n)
{
	struct asked *todo = n->asked.data;
	size_t count = n->asked.len;
	n->asked.data = NULL;
	n->asked.len = n->asked.cap = 0;
	for (size_t i = 0; i < count; i++) {
		struct asked *a = &todo[i];
		switch (a->kind) {
		case ASKED_SUBMIT:
			network_submit(n, a->delta);
			break;
		case ASKED_ATTACH:
			network_attach(n, a->t, a->pid, a->udp_fd, a->tcp_fd);
			sch_free(&md_task_schema, a->t);
			break;
		case ASKED_DETACH:
			network_detach(n, a->task);
			break;
		case ASKED_LISTEN:
			network_watch_listen(n, a->task, a->ports, a->count);
			free(a->ports);
			break;
		case ASKED_FLOWS:
			network_watch_flows(n, a->task);
			break;
		case ASKED_ADOPTED:
			network_adopted(n);
			break;
		}
	}
	free(todo);
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

bool network_stats(struct network *n, struct dp_stats *out)
{
	*out = (struct dp_stats){ 0 };
	if (n->dp)
		dp_stats_get(n->dp, out);
	return n->dp != NULL;
}
