/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data plane of one node on real kernel paths, in namespaces of its own:
 *
 *   client ns 192.168.77.2 ──veth── node ns (this program) 192.168.77.1 ──mesh veths── task ns t1, t2
 *
 * A task is a process in a namespace of its own; whoever looks inside is a child that enters it.
 */
#ifndef TESTS_UNIT_DP_WORLD_H
#define TESTS_UNIT_DP_WORLD_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/map.h"
#include "dataplane/dns/dns.h"
#include "dataplane/dns/server.h"
#include "dataplane/dp.h"
#include "dataplane/netlink/kern.h"
#include "dataplane/netlink/netns.h"
#include "dataplane/nft/nft.h"

#define MARK "mtst"
#define NODE "192.168.77.1"
#define CLIENT "192.168.77.2"
#define WAIT_S 20

static const char NET_BLUE[] = "bluebluebluebluebluebluebl", NET_ING[] = "ingressingressingressingr";
static const char *const TASKS[] = { "task1task1task1task1task1", "task2task2task2task2task2" };

/* ---- the world ----------------------------------------------------------------------------------- */

static struct {
	char dir[64], run[80], state[80], cgroup[80];
	pid_t client, task[2];
	struct dp *dp;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct VEC(struct dp_report) reports;
	struct VEC(uint16_t) host_ports; /* what the host listened on when it last said so */
	uint64_t version;
	const char *driver;
} w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static inline void on_report(void *arg, struct dp_report *r)
{
	(void)arg;
	pthread_mutex_lock(&w.lock);
	struct dp_report copy = *r;
	if (r->kind == DP_HOST) {
		/* Kept as a count of ports and the addresses' number; the object is ours to free. */
		copy.version = r->host->ports.len;
		copy.code = (int)r->host->addrs.n;
		w.host_ports.len = 0;
		for (size_t i = 0; i < r->host->ports.len; i++)
			vec_push(&w.host_ports, r->host->ports.data[i].port);
		snprintf(copy.text, sizeof(copy.text), "%s", r->host->addrs.n ? r->host->addrs.v[0] : "");
		dp_host_free(r->host);
		copy.host = NULL;
	}
	vec_push(&w.reports, copy);
	pthread_cond_broadcast(&w.cond);
	pthread_mutex_unlock(&w.lock);
}

/* The first report of that kind (and task, version) since the last wait; removes it. */
static inline struct dp_report wait_report(enum dp_report_kind kind, const char *task, uint64_t version)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	struct dp_report out = { 0 };
	bool found = false, late = false;
	pthread_mutex_lock(&w.lock);
	while (!found && !late) {
		for (size_t i = 0; i < w.reports.len && !found; i++) {
			struct dp_report *r = &w.reports.data[i];
			found = r->kind == kind && (!task || strcmp(r->task.s, task) == 0) &&
			        (!version || r->version == version);
			if (found) {
				out = *r;
				vec_remove(&w.reports, i);
			}
		}
		if (!found)
			late = pthread_cond_timedwait(&w.cond, &w.lock, &until) == ETIMEDOUT;
	}
	pthread_mutex_unlock(&w.lock);
	if (!found)
		fail_msg("no report of kind %d task %s version %llu", kind, task ? task : "-",
		         (unsigned long long)version);
	return out;
}

/* Reports come for whatever changes on the host: until one knows of this port. */
static inline void wait_host_port(uint16_t port)
{
	for (;;) {
		bool known = false;
		pthread_mutex_lock(&w.lock);
		for (size_t i = 0; i < w.host_ports.len; i++)
			known |= w.host_ports.data[i] == port;
		pthread_mutex_unlock(&w.lock);
		if (known)
			return;
		(void)wait_report(DP_HOST, NULL, 0);
	}
}

static inline bool has_report(enum dp_report_kind kind)
{
	bool found = false;
	pthread_mutex_lock(&w.lock);
	for (size_t i = 0; i < w.reports.len; i++)
		found |= w.reports.data[i].kind == kind;
	pthread_mutex_unlock(&w.lock);
	return found;
}

static inline void forget_reports(void)
{
	pthread_mutex_lock(&w.lock);
	w.reports.len = 0;
	pthread_mutex_unlock(&w.lock);
}

/* A child keeps no descriptor of ours but one: the resolver's sockets must not live on in it. */
static inline int keep_only(int fd)
{
	int kept = fd >= 0 ? dup2(fd, 3) : -1;
	if (close_range(fd >= 0 ? 4 : 3, ~0u, 0) < 0)
		_exit(99);
	return kept;
}

#define SHIM_UDP 10
#define SHIM_TCP 11
/* As the shim of a task does: the resolver's sockets, under known numbers. */
static inline int open_shim_sockets(void)
{
	struct kern *k;
	struct kern_link lo;
	int udp, tcp;
	if (kern_open(&k, NULL) != 0 || kern_link_get(k, "lo", &lo) != 0 || kern_link_up(k, lo.ifindex, 0) != 0)
		return -1;
	kern_close(k);
	if (dns_sockets_open(&udp, &tcp, NULL) != 0)
		return -1;
	return dup2(udp, SHIM_UDP) < 0 || dup2(tcp, SHIM_TCP) < 0 ? -1 : 0;
}

/* A process in a fresh network namespace that lives until we end it or die. */
static inline pid_t make_ns(bool shim)
{
	int ready[2];
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int tell = keep_only(ready[1]);
		if (unshare(CLONE_NEWNET) < 0 || (shim && open_shim_sockets() < 0) || write(tell, "x", 1) != 1)
			_exit(1);
		close(tell);
		for (;;)
			pause();
	}
	char c;
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static inline void kill_ns(pid_t *pid)
{
	if (*pid > 0) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}

/* Runs fn in a child inside the namespace of pid (0: ours); its return value, 0..100. */
typedef int (*ns_fn)(void *arg);
static inline int in_ns(pid_t pid, ns_fn fn, void *arg)
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		alarm(10);
		int ns = pid ? netns_open(pid, NULL) : -1;
		if (pid && (ns < 0 || setns(ns, CLONE_NEWNET) < 0))
			_exit(101);
		_exit(fn(arg));
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 102;
}

static inline struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;
	assert_int_equal(dp_ip_parse(text, &ip, NULL), 0);
	return ip;
}

static inline void make_uplink(void)
{
	struct kern *k;
	struct kern_link l;
	struct kern_veth v = { .name = "up0", .peer_name = "cl0", .mtu = 1500, .mac = { 2, 0, 0, 0, 0, 1 } };
	memcpy(v.peer_mac, (uint8_t[]){ 2, 0, 0, 0, 0, 2 }, 6);
	struct dp_ip node = ip_of(NODE), client = ip_of(CLIENT);
	v.peer_ns = netns_open(w.client, NULL);
	assert_true(v.peer_ns >= 0);
	assert_int_equal(kern_open(&k, NULL), 0);
	assert_int_equal(kern_veth_add(k, &v), 0);
	assert_int_equal(kern_link_get(k, "up0", &l), 0);
	assert_int_equal(kern_link_up(k, l.ifindex, 0), 0);
	assert_int_equal(kern_addr_set(k, l.ifindex, &node, 24), 0);
	kern_close(k);
	int prev = netns_enter(v.peer_ns, NULL);
	assert_true(prev >= 0);
	assert_int_equal(kern_open(&k, NULL), 0);
	assert_int_equal(kern_link_get(k, "cl0", &l), 0);
	assert_int_equal(kern_link_up(k, l.ifindex, 0), 0);
	assert_int_equal(kern_addr_set(k, l.ifindex, &client, 24), 0);
	kern_close(k);
	netns_leave(prev);
	close(v.peer_ns);
}

static inline int open_dp(struct mesh_err *err)
{
	struct dp_config c = { .name = MARK,
		               .state_dir = w.state,
		               .run_dir = w.run,
		               .cgroup = w.cgroup,
		               .vxlan_port = 4789,
		               .driver = w.driver,
		               .local_subnet = "172.31.200.0/24",
		               .report = on_report };
	return dp_open(&c, &w.dp, err);
}

static inline void open_or_fail(void)
{
	struct mesh_err err = { 0 };
	if (open_dp(&err) != 0)
		fail_msg("dp_open: %s", err.msg);
}

/* ---- deltas -------------------------------------------------------------------------------------- */

static inline struct dp_change *change(struct dp_delta *d, int kind)
{
	struct dp_change *c = LIST_ADD(&d->changes);
	c->kind = kind;
	return c;
}

static inline void add_network(struct dp_delta *d, const char *id, const char *name, uint32_t vni, const char *subnet,
                               const char *gateway, bool ingress)
{
	struct dp_network *n = change(d, DP_NETWORK)->network = XNEW(struct dp_network);
	mesh_id_set(n->id.s, id);
	n->name = xstrdup(name);
	n->vni = vni;
	n->subnet = xstrdup(subnet);
	n->gateway = xstrdup(gateway);
	n->ingress = ingress;
}

static inline struct dp_service *add_service(struct dp_delta *d, const char *net, const char *vip)
{
	struct dp_service *s = change(d, DP_SERVICE)->service = XNEW(struct dp_service);
	mesh_id_set(s->id.s, "webwebwebwebwebwebwebwebw");
	mesh_id_set(s->network.s, net);
	s->name = xstrdup("web");
	strs_add(&s->aliases, "www");
	s->vip = xstrdup(vip);
	return s;
}

static inline void add_endpoint(struct dp_delta *d, unsigned task, const char *net, const char *addr, int state)
{
	struct dp_endpoint *e = change(d, DP_ENDPOINT)->endpoint = XNEW(struct dp_endpoint);
	char name[64];
	mesh_id_set(e->task.s, TASKS[task]);
	mesh_id_set(e->network.s, net);
	mesh_id_set(e->service.s, "webwebwebwebwebwebwebwebw");
	mesh_id_set(e->node.s, "nodenodenodenodenodenode1");
	e->addr = xstrdup(addr);
	e->state = state;
	snprintf(name, sizeof(name), "web.%u.%s", task + 1, TASKS[task]);
	strs_add(&e->names, name);
}

static inline struct dp_delta *delta_new(bool snapshot)
{
	struct dp_delta *d = XNEW(struct dp_delta);
	d->version = ++w.version;
	d->snapshot = snapshot;
	mesh_id_set(d->self.s, "nodenodenodenodenodenode1");
	return d;
}

static inline struct dp_delta *whole_state(void)
{
	struct dp_delta *d = delta_new(true);
	struct dp_node *n = change(d, DP_NODE)->node = XNEW(struct dp_node);
	mesh_id_set(n->id.s, "nodenodenodenodenodenode1");
	n->hostname = xstrdup("n1");
	n->addr = xstrdup(NODE);
	add_network(d, NET_BLUE, "blue", 4097, "10.77.1.0/24", "10.77.1.1", false);
	add_network(d, NET_ING, "ingress", 4096, "10.77.0.0/24", "10.77.0.1", true);
	add_service(d, NET_BLUE, "10.77.1.2");
	struct dp_service *s = add_service(d, NET_ING, "10.77.0.2");
	struct dp_port *p = LIST_ADD(&s->ports);
	*p = (struct dp_port){ IPPROTO_TCP, 8080, 80 };
	for (unsigned i = 0; i < 2; i++) {
		char addr[32];
		snprintf(addr, sizeof(addr), "10.77.1.%u", 11 + i);
		add_endpoint(d, i, NET_BLUE, addr, DP_SERVING);
		snprintf(addr, sizeof(addr), "10.77.0.%u", 11 + i);
		add_endpoint(d, i, NET_ING, addr, DP_SERVING);
	}
	return d;
}

static inline struct dp_attach *attach_of(unsigned task)
{
	struct dp_attach *a = XNEW(struct dp_attach);
	mesh_id_set(a->task.s, TASKS[task]);
	a->pid = w.task[task];
	a->dns_udp_fd = task ? -1 : SHIM_UDP;
	a->dns_tcp_fd = task ? -1 : SHIM_TCP;
	struct dp_attach_net *n = LIST_ADD(&a->nets);
	mesh_id_set(n->network.s, NET_ING);
	n->addr = xasprintf("10.77.0.%u/24", 11 + task);
	n = LIST_ADD(&a->nets);
	mesh_id_set(n->network.s, NET_BLUE);
	n->addr = xasprintf("10.77.1.%u/24", 11 + task);
	return a;
}

static inline void attach_ok(struct dp_attach *a)
{
	task_id id = a->task;
	dp_attach_task(w.dp, a);
	struct dp_report r = wait_report(DP_ATTACHED, id.s, 0);
	if (r.code)
		fail_msg("attach: %s", r.text);
}

static inline task_id task_of(unsigned i)
{
	task_id id;
	mesh_id_set(id.s, TASKS[i]);
	return id;
}

static inline size_t own_links(bool veths_only, int *first)
{
	struct kern *k;
	struct kern_links links = { 0 };
	size_t n = 0;
	assert_int_equal(kern_open(&k, NULL), 0);
	assert_int_equal(kern_links(k, &links), 0);
	for (size_t i = 0; i < links.len; i++) {
		const struct kern_link *l = &links.data[i];
		if (strncmp(l->name, MARK, strlen(MARK)) != 0 || (veths_only && strcmp(l->kind, "veth") != 0))
			continue;
		if (first && (!n || l->ifindex < *first))
			*first = l->ifindex;
		n++;
	}
	vec_fini(&links);
	kern_close(k);
	return n;
}

/* ---- setup --------------------------------------------------------------------------------------- */

static inline int setup(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	snprintf(w.dir, sizeof(w.dir), "/tmp/mesh-dp-XXXXXX");
	if (!mkdtemp(w.dir))
		return -1;
	snprintf(w.run, sizeof(w.run), "%s/run", w.dir);
	snprintf(w.state, sizeof(w.state), "%s/state", w.dir);
	if (mkdir(w.run, 0700) < 0)
		return -1;
	const char *root =
		access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
	snprintf(w.cgroup, sizeof(w.cgroup), "%s/mesh-dp-%d", root, (int)getpid());
	w.client = make_ns(false);
	w.task[0] = make_ns(true);
	w.task[1] = make_ns(false);
	make_uplink();
	return 0;
}

static inline int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)st;
	(void)flag;
	(void)f;
	return remove(path);
}

static inline int teardown(void **state)
{
	(void)state;
	if (w.dp)
		dp_destroy(w.dp);
	kill_ns(&w.client);
	kill_ns(&w.task[0]);
	kill_ns(&w.task[1]);
	rmdir(w.cgroup);
	nftw(w.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	vec_fini(&w.reports);
	vec_fini(&w.host_ports);
	w.dp = NULL;
	w.version = 0;
	return 0;
}

static inline void test_skipped(void **state)
{
	(void)state;
	print_message("needs root and a kernel with the features of the ebpf driver\n");
	skip();
}

/* The tests in order, each goes on where the one before stopped: with either driver. */
static inline int run_with_drivers(const struct CMUnitTest *tests, size_t n)
{
	const struct CMUnitTest skipped[] = { cmocka_unit_test(test_skipped) };
	static const char *const drivers[] = { "ebpf", "nft" };
	int failed = 0;
	if (geteuid() != 0)
		return cmocka_run_group_tests(skipped, NULL, NULL);
	for (size_t i = 0; i < 2; i++) {
		w.driver = drivers[i];
		failed += _cmocka_run_group_tests(drivers[i], tests, n, setup, teardown);
	}
	return failed;
}

#endif
