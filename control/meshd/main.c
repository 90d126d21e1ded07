/* SPDX-License-Identifier: GPL-2.0-or-later */
/* meshd: reads its options, opens its parts in order, runs the loop, closes them in reverse. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/meshd/meshd.h"
#include "control/meshd/scrape.h"

static struct meshd daemon_;
static uv_signal_t on_term, on_int;
static struct scrape *scrape;

/* ---- what the agent tells ---- */

static void agent_status(void *arg, const char *task, const struct md_task_status *st)
{
	struct meshd *m = arg;
	if (m->session)
		session_status(m->session, task, st);
}

static void agent_event(void *arg, const char *type, const char *action, const char *id, const struct str_map *attrs)
{
	struct meshd *m = arg;
	if (m->api)
		api_event(m->api, "local", type, action, id, attrs);
}

static void agent_attach(void *arg, const struct md_task *t, int pid, int udp_fd, int tcp_fd)
{
	network_attach(((struct meshd *)arg)->network, t, pid, udp_fd, tcp_fd);
}

static void agent_detach(void *arg, const char *task)
{
	network_detach(((struct meshd *)arg)->network, task);
}

static void agent_watch_listen(void *arg, const char *task, const struct dp_port *ports, size_t n)
{
	network_watch_listen(((struct meshd *)arg)->network, task, ports, n);
}

static void agent_watch_flows(void *arg, const char *task)
{
	network_watch_flows(((struct meshd *)arg)->network, task);
}

/* Comes a turn of the loop after agent_open, when all that still runs has been attached again. */
static void agent_adopted(void *arg)
{
	network_adopted(((struct meshd *)arg)->network);
}

static const struct agent_ops agent_ops_ = { agent_status,       agent_event,       agent_attach, agent_detach,
	                                     agent_watch_listen, agent_watch_flows, agent_adopted };

static void scrape_metrics(void *arg, struct buf *out)
{
	metrics_write(arg, out);
}

static bool scrape_health(void *arg, unsigned port, struct buf *out)
{
	return metrics_health(arg, port, out);
}

static const struct scrape_ops scrape_ops_ = { scrape_metrics, scrape_health };

/* ---- stopping: API, session, manager, agent, network; tasks stay ---- */

static void stopped(void *arg)
{
	struct meshd *m = arg;
	uv_close((uv_handle_t *)&on_term, NULL);
	uv_close((uv_handle_t *)&on_int, NULL);
	cluster_unwatch_certificate(m);
	if (m->identity)
		net_identity_free(TAKE(m->identity));
	sch_clear(&node_state_schema, &m->st);
}

static void stop_network(void *arg)
{
	struct meshd *m = arg;
	network_free(TAKE(m->network), stopped, m);
}

static void stop_agent(void *arg)
{
	struct meshd *m = arg;
	agent_close(TAKE(m->agent), stop_network, m);
}

static void stop_manager(void *arg)
{
	struct meshd *m = arg;
	if (m->manager)
		manager_close(TAKE(m->manager), stop_agent, m);
	else
		stop_agent(m);
}

static void stop_session(void *arg)
{
	struct meshd *m = arg;
	if (m->session)
		session_close(TAKE(m->session), false, stop_manager, m);
	else
		stop_manager(m);
}

static void on_signal(uv_signal_t *h, int sig)
{
	struct meshd *m = h->data;
	if (m->stopping)
		_exit(1);
	m->stopping = true;
	log_info("stopping; tasks and their traffic go on signal=%d", sig);
	scrape_close(TAKE(scrape));
	api_close(TAKE(m->api), stop_session, m);
}

/* ---- starting ---- */

static int start(struct meshd *m, struct mesh_err *err)
{
	const struct options *o = m->opt;
	if (geteuid() != 0)
		return mesh_fail(err, -EPERM,
		                 "meshd needs root: it makes network namespaces, BPF programs and cgroups");
	int rc = state_open(o->state, err);
	if (rc)
		return rc;
	if (mkdir(o->run, 0711) && errno != EEXIST)
		return mesh_fail(err, -errno, "cannot make directory '%s'", o->run);
	char cgroup[PATH_MAX];
	snprintf(cgroup, sizeof(cgroup), "/%s", o->name);
	m->network = network_new(m);
	uv_timer_init(m->loop, &m->renew);
	m->renew.data = m;
	struct agent_config ac = { .name = o->name,
		                   .state_dir = o->state,
		                   .run_dir = o->run,
		                   .shim_path = o->shim,
		                   .runtime = o->runtime,
		                   .cgroup = cgroup };
	/* The swarm first: what the agent adopts attaches to networks that must be known by then. */
	rc = cluster_resume(m, err);
	if (!rc)
		rc = agent_open(m->loop, &ac, &agent_ops_, m, &m->agent, err);
	if (!rc && m->in_swarm)
		cluster_watch_certificate(m);
	if (!rc)
		rc = api_open(m->loop, o->socket, &meshd_api_ops, m, &m->api, err);
	if (!rc && o->metrics_addr)
		rc = scrape_open(m->loop, o->metrics_addr, &scrape_ops_, m, &scrape, err);
	return rc;
}

int main(int argc, char **argv)
{
	struct meshd *m = &daemon_;
	struct options o;
	struct mesh_err err = { 0 };
	int rc = options_parse(&o, argc, argv, &err);
	if (rc) {
		if (rc < 0)
			fprintf(stderr, "meshd: %s\n", mesh_err_text(&err, rc));
		return rc < 0 ? mesh_code_exit(rc) : 0;
	}
	log_set_level(o.log_level);
	signal(SIGPIPE, SIG_IGN);
	umask(0022);
	m->opt = &o;
	m->loop = uv_default_loop();
	mesh_rng_seed_random(&m->rng);
	rc = start(m, &err);
	if (rc) {
		log_error("cannot start reason=\"%s\"", mesh_err_text(&err, rc));
		return 1;
	}
	uv_signal_init(m->loop, &on_term);
	uv_signal_init(m->loop, &on_int);
	on_term.data = on_int.data = m;
	uv_signal_start(&on_term, on_signal, SIGTERM);
	uv_signal_start(&on_int, on_signal, SIGINT);
	log_info("meshd is up version=%s hostname=%s socket=%s", MESH_VERSION, o.hostname, o.socket);
	uv_run(m->loop, UV_RUN_DEFAULT);
	log_info("meshd stopped");
	return 0;
}
