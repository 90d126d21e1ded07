// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Beds of our nft driver: two nodes of which each is a whole data plane, as the daemon runs it. The way is that of
 * ours.c: ports 8080 to a task of n2, 8082 to one of n1; n1's task .11 dials.
 */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/path/path.h"
#include "dataplane/dp.h"

enum { N = 2, T11 = 0, T13, T12, TASKS };
static const struct task {
	const char *id, *overlay, *ingress;
	int node;
} tasks[TASKS] = {
	[T11] = { "aaaaaaaaaaaaaaaaaaaaaaa11", "10.0.1.11", "10.0.0.11", 0 },
	[T13] = { "aaaaaaaaaaaaaaaaaaaaaaa13", "10.0.1.13", "10.0.0.13", 0 },
	[T12] = { "aaaaaaaaaaaaaaaaaaaaaaa12", "10.0.1.12", "10.0.0.12", 1 },
};
static const char *const node_ids[N] = { "bbbbbbbbbbbbbbbbbbbbbbbb1", "bbbbbbbbbbbbbbbbbbbbbbbb2" };
static const char *const underlay[N] = { "172.31.8.11", "172.31.8.12" };
#define OVERLAY "ccccccccccccccccccccccc01"
#define INGRESS "ccccccccccccccccccccccc00"

static struct {
	bool made;
	int ns[N], outside, task[TASKS];
	pid_t pid[TASKS];
	struct dp *dp[N];
	int reports[2]; /* a pipe: what the data planes' threads say */
	char dir[N][96];
} w;

static void on_report(void *arg, struct dp_report *r)
{
	(void)arg;
	if (r->kind == DP_HOST)
		dp_host_free(r->host);
	if (r->kind == DP_ATTACHED && r->code)
		fprintf(stderr, "bench-path: task %s: %s\n", r->task.s, r->text);
	char kind = (char)r->kind;
	need(write(w.reports[1], &kind, 1) == 1, "report");
}

static void wait_for(enum dp_report_kind kind, int n)
{
	char c;

	while (n) {
		need(read(w.reports[0], &c, 1) == 1, "report");
		n -= c == (char)kind;
	}
}

static struct dp_change *change(struct dp_delta *d, enum dp_kind kind)
{
	struct dp_change *c = LIST_ADD(&d->changes);

	c->kind = kind;
	return c;
}

static void add_network(struct dp_delta *d, const char *id, uint32_t vni, const char *subnet, const char *gateway)
{
	struct dp_network *n = change(d, DP_NETWORK)->network = XNEW(struct dp_network);

	mesh_id_set(n->id.s, id);
	str_set(&n->name, id);
	n->vni = vni;
	str_set(&n->subnet, subnet);
	str_set(&n->gateway, gateway);
	n->ingress = vni == 4096;
}

/* One task a service; port 0: a service address on the overlay instead. */
static void add_service(struct dp_delta *d, const char *id, const struct task *t, uint32_t port)
{
	struct dp_service *s = change(d, DP_SERVICE)->service = XNEW(struct dp_service);
	struct dp_endpoint *e = change(d, DP_ENDPOINT)->endpoint = XNEW(struct dp_endpoint);

	mesh_id_set(s->id.s, id);
	mesh_id_set(s->network.s, port ? INGRESS : OVERLAY);
	str_set(&s->name, id);
	str_set(&s->vip, port ? "" : "10.0.1.2");
	static const int protos[] = { IPPROTO_TCP, IPPROTO_UDP };
	for (size_t i = 0; port && i < ARRAY_SIZE(protos); i++)
		*LIST_ADD(&s->ports) = (struct dp_port){ protos[i], port, 80 };
	mesh_id_set(e->task.s, t->id);
	mesh_id_set(e->network.s, port ? INGRESS : OVERLAY);
	mesh_id_set(e->service.s, id);
	mesh_id_set(e->node.s, node_ids[t->node]);
	str_set(&e->addr, port ? t->ingress : t->overlay);
	e->state = DP_SERVING;
}

static void add_standalone(struct dp_delta *d, const struct task *t)
{
	struct dp_endpoint *e = change(d, DP_ENDPOINT)->endpoint = XNEW(struct dp_endpoint);

	mesh_id_set(e->task.s, t->id);
	mesh_id_set(e->network.s, OVERLAY);
	mesh_id_set(e->node.s, node_ids[t->node]);
	str_set(&e->addr, t->overlay);
	e->state = DP_SERVING;
}

static void submit(int k)
{
	struct dp_delta *d = XNEW(struct dp_delta);

	d->version = 1;
	d->snapshot = true;
	mesh_id_set(d->self.s, node_ids[k]);
	for (int i = 0; i < N; i++) {
		struct dp_node *n = change(d, DP_NODE)->node = XNEW(struct dp_node);
		mesh_id_set(n->id.s, node_ids[i]);
		str_set(&n->hostname, node_ids[i]);
		str_set(&n->addr, underlay[i]);
	}
	add_network(d, INGRESS, 4096, "10.0.0.0/24", "10.0.0.1");
	add_network(d, OVERLAY, 4097, "10.0.1.0/24", "10.0.1.1");
	add_service(d, "ddddddddddddddddddddddd11", &tasks[T12], 8080);
	add_service(d, "ddddddddddddddddddddddd13", &tasks[T13], 8082);
	add_service(d, "ddddddddddddddddddddddd14", &tasks[T13], 0);
	add_standalone(d, &tasks[T11]);
	add_standalone(d, &tasks[T12]);
	dp_submit(w.dp[k], d);
	wait_for(DP_APPLIED, 1);
}

static void attach(const struct task *t, pid_t pid)
{
	struct dp_attach *a = XNEW(struct dp_attach);
	const char *const nets[][2] = { { OVERLAY, t->overlay }, { INGRESS, t->ingress } };

	mesh_id_set(a->task.s, t->id);
	a->pid = pid;
	a->dns_udp_fd = a->dns_tcp_fd = -1;
	for (size_t i = 0; i < ARRAY_SIZE(nets) - (t == &tasks[T11]); i++) {
		struct dp_attach_net *n = LIST_ADD(&a->nets);
		char addr[32];
		snprintf(addr, sizeof(addr), "%s/24", nets[i][1]);
		mesh_id_set(n->network.s, nets[i][0]);
		str_set(&n->addr, addr);
	}
	dp_attach_task(w.dp[t->node], a);
	wait_for(DP_ATTACHED, 1);
}

static void open_node(int k)
{
	char cgroup[160], run[128];
	struct dp_config c = { .name = k ? "bp2" : "bp1",
		               .state_dir = w.dir[k],
		               .run_dir = run,
		               .cgroup = cgroup,
		               .data_path_addr = underlay[k],
		               .vxlan_port = 4789,
		               .driver = "nft",
		               .local_subnet = "172.30.0.0/16",
		               .report = on_report };

	snprintf(w.dir[k], sizeof(w.dir[k]), "%s.nft%d", bpffs, k);
	snprintf(run, sizeof(run), "%s/run", w.dir[k]);
	snprintf(cgroup, sizeof(cgroup), "%s/nft%d", cgroups, k);
	need(mkdir(w.dir[k], 0700) == 0 && mkdir(run, 0700) == 0, w.dir[k]);
	enter(w.ns[k]);
	OK(dp_open(&c, &w.dp[k], &err));
	submit(k);
}

/* A process of the task's namespace, by which the data plane finds it. */
static pid_t stand_in(int ns)
{
	pid_t pid = fork();

	need(pid >= 0, "fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	enter(ns);
	for (;;)
		pause();
}

static void make_world(void)
{
	if (w.made)
		return;
	w.made = true;
	need(pipe(w.reports) == 0, "pipe");
	w.outside = new_ns();
	for (int i = 0; i < TASKS; i++) {
		w.task[i] = new_ns();
		w.pid[i] = stand_in(w.task[i]);
	}
	for (int k = 0; k < N; k++)
		w.ns[k] = new_ns();
	wire(w.ns[0], "up0", "172.31.9.11/24", w.outside, "eth0", "172.31.9.100/24", 1500);
	wire(w.ns[0], "un0", "172.31.8.11/24", w.ns[1], "un0", "172.31.8.12/24", 1500);
	enter(w.ns[1]);
	sh("ip route add default via 172.31.8.11");
	enter(w.ns[0]);
	sh("ip route add default via 172.31.9.100");
	for (int k = 0; k < N; k++)
		open_node(k);
	for (int i = 0; i < TASKS; i++)
		attach(&tasks[i], w.pid[i]);
}

static void dialled(struct bed *b, int client, int server, const char *dial, uint16_t port)
{
	b->client = client;
	b->server = server;
	b->dial = dial;
	b->port = port;
}

void nft_mesh_here(struct bed *b)
{
	make_world();
	dialled(b, w.outside, w.task[T13], "172.31.9.11", 8082);
}

void nft_mesh_two(struct bed *b)
{
	make_world();
	dialled(b, w.outside, w.task[T12], "172.31.9.11", 8080);
}

void nft_overlay(struct bed *b)
{
	make_world();
	dialled(b, w.task[T11], w.task[T12], "10.0.1.12", 80);
}

void nft_vip(struct bed *b)
{
	make_world();
	dialled(b, w.task[T11], w.task[T13], "10.0.1.2", 80);
}

void nft_destroy(void)
{
	if (!w.made)
		return;
	for (int i = 0; i < TASKS; i++) {
		kill(w.pid[i], SIGKILL);
		waitpid(w.pid[i], NULL, 0);
	}
	for (int k = 0; k < N; k++) {
		char path[160];
		enter(w.ns[k]);
		dp_destroy(w.dp[k]);
		sh_ok("rm -rf %s", w.dir[k]);
		snprintf(path, sizeof(path), "%s/nft%d", cgroups, k);
		rmdir(path);
	}
	w.made = false;
}
