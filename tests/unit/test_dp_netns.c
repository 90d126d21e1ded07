/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data plane of one node on real kernel paths, in namespaces of its own:
 *
 *   client ns 192.168.77.2 ──veth── node ns (this program) 192.168.77.1 ──mesh veths── task ns t1, t2
 *
 * A task is a process in a namespace of its own; whoever looks inside is a child that enters it.
 */
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
	uint64_t version;
	const char *driver;
} w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static void on_report(void *arg, struct dp_report *r)
{
	(void)arg;
	pthread_mutex_lock(&w.lock);
	struct dp_report copy = *r;
	if (r->kind == DP_HOST) {
		/* Kept as a count of ports and the addresses' number; the object is ours to free. */
		copy.version = r->host->ports.len;
		copy.code = (int)r->host->addrs.n;
		snprintf(copy.text, sizeof(copy.text), "%s", r->host->addrs.n ? r->host->addrs.v[0] : "");
		dp_host_free(r->host);
		copy.host = NULL;
	}
	vec_push(&w.reports, copy);
	pthread_cond_broadcast(&w.cond);
	pthread_mutex_unlock(&w.lock);
}

/* The first report of that kind (and task, version) since the last wait; removes it. */
static struct dp_report wait_report(enum dp_report_kind kind, const char *task, uint64_t version)
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

static bool has_report(enum dp_report_kind kind)
{
	bool found = false;
	pthread_mutex_lock(&w.lock);
	for (size_t i = 0; i < w.reports.len; i++)
		found |= w.reports.data[i].kind == kind;
	pthread_mutex_unlock(&w.lock);
	return found;
}

static void forget_reports(void)
{
	pthread_mutex_lock(&w.lock);
	w.reports.len = 0;
	pthread_mutex_unlock(&w.lock);
}

/* A child keeps no descriptor of ours but one: the resolver's sockets must not live on in it. */
static int keep_only(int fd)
{
	int kept = fd >= 0 ? dup2(fd, 3) : -1;
	if (close_range(fd >= 0 ? 4 : 3, ~0u, 0) < 0)
		_exit(99);
	return kept;
}

#define SHIM_UDP 10
#define SHIM_TCP 11
/* As the shim of a task does: the resolver's sockets, under known numbers. */
static int open_shim_sockets(void)
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
static pid_t make_ns(bool shim)
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

static void kill_ns(pid_t *pid)
{
	if (*pid > 0) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}

/* Runs fn in a child inside the namespace of pid (0: ours); its return value, 0..100. */
typedef int (*ns_fn)(void *arg);
static int in_ns(pid_t pid, ns_fn fn, void *arg)
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

static struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;
	assert_int_equal(dp_ip_parse(text, &ip, NULL), 0);
	return ip;
}

static void make_uplink(void)
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

static int open_dp(struct mesh_err *err)
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

static void open_or_fail(void)
{
	struct mesh_err err = { 0 };
	if (open_dp(&err) != 0)
		fail_msg("dp_open: %s", err.msg);
}

/* ---- deltas -------------------------------------------------------------------------------------- */

static struct dp_change *change(struct dp_delta *d, int kind)
{
	struct dp_change *c = LIST_ADD(&d->changes);
	c->kind = kind;
	return c;
}

static void add_network(struct dp_delta *d, const char *id, const char *name, uint32_t vni, const char *subnet,
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

static struct dp_service *add_service(struct dp_delta *d, const char *net, const char *vip)
{
	struct dp_service *s = change(d, DP_SERVICE)->service = XNEW(struct dp_service);
	mesh_id_set(s->id.s, "webwebwebwebwebwebwebwebw");
	mesh_id_set(s->network.s, net);
	s->name = xstrdup("web");
	strs_add(&s->aliases, "www");
	s->vip = xstrdup(vip);
	return s;
}

static void add_endpoint(struct dp_delta *d, unsigned task, const char *net, const char *addr, int state)
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

static struct dp_delta *delta_new(bool snapshot)
{
	struct dp_delta *d = XNEW(struct dp_delta);
	d->version = ++w.version;
	d->snapshot = snapshot;
	mesh_id_set(d->self.s, "nodenodenodenodenodenode1");
	return d;
}

static struct dp_delta *whole_state(void)
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

static struct dp_attach *attach_of(unsigned task)
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

static void attach_ok(struct dp_attach *a)
{
	task_id id = a->task;
	dp_attach_task(w.dp, a);
	struct dp_report r = wait_report(DP_ATTACHED, id.s, 0);
	if (r.code)
		fail_msg("attach: %s", r.text);
}

static task_id task_of(unsigned i)
{
	task_id id;
	mesh_id_set(id.s, TASKS[i]);
	return id;
}

/* ---- looking inside ------------------------------------------------------------------------------ */

struct iface_check {
	const char *name, *addr, *gateway;
	bool is_default;
	int ifindex; /* out, in shared memory not needed: returned by exit code of its own test */
};
static int check_iface(void *arg)
{
	const struct iface_check *c = arg;
	struct kern *k;
	struct kern_link l, lo;
	struct kern_addrs addrs = { 0 };
	struct kern_routes routes = { 0 };
	struct kern_neighs neighs = { 0 };
	struct dp_ip ip, gw;
	uint8_t mac[6];
	if (dp_ip_parse(c->addr, &ip, NULL) != 0 || dp_ip_parse(c->gateway, &gw, NULL) != 0 || kern_open(&k, NULL) != 0)
		return 1;
	if (kern_link_get(k, c->name, &l) != 0 || !l.up || l.mtu != 1450)
		return 2;
	dp_mac_of(&ip, mac);
	if (memcmp(mac, l.mac, 6) != 0)
		return 3;
	if (kern_link_get(k, "lo", &lo) != 0 || !lo.up)
		return 4;
	if (kern_addrs(k, &addrs) != 0 || kern_routes(k, &routes) != 0 || kern_neighs(k, &neighs) != 0)
		return 5;
	bool addr = false, route = false, neigh = false;
	for (size_t i = 0; i < addrs.len; i++)
		addr |= addrs.data[i].ifindex == l.ifindex && addrs.data[i].prefix == 24 &&
		        memcmp(&addrs.data[i].ip, &ip, sizeof(ip)) == 0;
	for (size_t i = 0; i < routes.len; i++)
		route |= !routes.data[i].prefix && routes.data[i].ifindex == l.ifindex && routes.data[i].has_via &&
		         memcmp(&routes.data[i].via, &gw, sizeof(gw)) == 0;
	for (size_t i = 0; i < neighs.len; i++)
		neigh |= neighs.data[i].ifindex == l.ifindex && memcmp(&neighs.data[i].ip, &gw, sizeof(gw)) == 0;
	return !addr ? 6 : route != c->is_default ? 7 : !neigh ? 8 : 0;
}

struct query {
	const char *name;
	uint16_t type;
	bool tcp;
	/* answer */
	int rcode;
	char ips[256]; /* sorted, joined by spaces */
};

static size_t build_query(const struct query *q, uint8_t *out)
{
	size_t n = 12;
	memcpy(out, (uint8_t[]){ 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, 12);
	for (const char *p = q->name; *p;) {
		size_t len = strcspn(p, ".");
		out[n++] = (uint8_t)len;
		memcpy(out + n, p, len);
		n += len;
		p += len + (p[len] == '.');
	}
	out[n++] = 0;
	dns_put16(out + n, q->type);
	dns_put16(out + n + 2, 1);
	return n + 4;
}

static int text_cmp(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int read_answer(const uint8_t *msg, size_t n, size_t qlen, struct query *q)
{
	char ips[16][DP_IP_TEXT_MAX];
	size_t at = qlen, k = 0;
	if (n < qlen || dns_get16(msg) != 0x1234)
		return -1;
	q->rcode = msg[3] & 15;
	for (unsigned i = 0; i < dns_get16(msg + 6) && i < 16; i++, at += 12 + dns_get16(msg + at + 10)) {
		if (at + 12 > n || dns_get16(msg + at) != 0xc00c)
			return -1;
		if (dns_get16(msg + at + 2) == DNS_A)
			inet_ntop(AF_INET, msg + at + 12, ips[k++], DP_IP_TEXT_MAX);
		else if (dns_get16(msg + at + 2) == DNS_PTR)
			snprintf(ips[k++], DP_IP_TEXT_MAX, "%.*s", msg[at + 12], (const char *)msg + at + 13);
	}
	qsort(ips, k, sizeof(ips[0]), text_cmp);
	q->ips[0] = '\0';
	for (size_t i = 0; i < k; i++)
		snprintf(q->ips + strlen(q->ips), sizeof(q->ips) - strlen(q->ips), "%s%s", i ? " " : "", ips[i]);
	return 0;
}

static int ask(struct query *q)
{
	uint8_t msg[4096] = { 0 }, head[2];
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(0x7f00000b) };
	size_t n = build_query(q, msg + 2);
	int fd = socket(AF_INET, (q->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	struct timeval tv = { .tv_sec = 8 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -1;
	dns_put16(msg, (unsigned)n);
	size_t skip = q->tcp ? 0 : 2;
	if (send(fd, msg + skip, n + 2 - skip, 0) < 0)
		return -1;
	if (q->tcp && recv(fd, head, 2, MSG_WAITALL) != 2)
		return -1;
	ssize_t got = q->tcp ? recv(fd, msg, dns_get16(head), MSG_WAITALL) : recv(fd, msg, sizeof(msg), 0);
	close(fd);
	return got < 0 ? -1 : read_answer(msg, (size_t)got, n, q);
}

struct dns_check {
	struct query q;
	int rcode;
	const char *ips;
};
static int check_dns(void *arg)
{
	struct dns_check *c = arg;
	if (ask(&c->q) != 0)
		return 1;
	if (c->q.rcode != c->rcode || (c->ips && strcmp(c->q.ips, c->ips) != 0)) {
		fprintf(stderr, "# %s: rcode %d '%s', want %d '%s'\n", c->q.name, c->q.rcode, c->q.ips, c->rcode,
		        c->ips ? c->ips : "");
		return 2;
	}
	return 0;
}

static void expect_dns(unsigned task, const char *name, uint16_t type, bool tcp, int rcode, const char *ips)
{
	struct dns_check c = { .q = { .name = name, .type = type, .tcp = tcp }, .rcode = rcode, .ips = ips };
	int rc = in_ns(w.task[task], check_dns, &c);
	if (rc)
		fail_msg("%s type %u over %s: %d", name, type, tcp ? "tcp" : "udp", rc);
}

/* Asks in the background; returns when the question waits in the shim's socket. */
static pid_t ask_later(unsigned task, const char *name, const char *ips)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct dns_check c = { .q = { .name = name, .type = DNS_A }, .ips = ips };
		int ns = netns_open(w.task[task], NULL);
		_exit(setns(ns, CLONE_NEWNET) < 0 ? 9 : check_dns(&c));
	}
	int pidfd = (int)syscall(SYS_pidfd_open, w.task[task], 0);
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, SHIM_UDP, 0);
	struct pollfd p = { fd, POLLIN, 0 };
	assert_int_equal(poll(&p, 1, 5000), 1);
	close(fd);
	close(pidfd);
	return pid;
}

/* A child in the task's namespace that listens on port 80, and answers with the peer's address for every one. */
static pid_t listen_in(pid_t ns_of)
{
	int ready[2];
	char c;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int tell = keep_only(ready[1]), ns = netns_open(ns_of, NULL), one = 1;
		if (setns(ns, CLONE_NEWNET) < 0)
			_exit(1);
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(80) };
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0 || write(tell, "x", 1) != 1)
			_exit(2);
		for (;;) {
			socklen_t len = sizeof(sa);
			char text[32], in;
			int s = accept(fd, (struct sockaddr *)&sa, &len);
			if (s < 0)
				continue;
			inet_ntop(AF_INET, &sa.sin_addr, text, sizeof(text));
			/* The client says when it is done; until then the connection stays open. */
			if (write(s, text, strlen(text)) < 0 || read(s, &in, 1) < 0)
				_exit(3);
			close(s);
		}
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

struct dial {
	const char *addr;
	uint16_t port;
	const char *seen_as; /* NULL: any */
	int hold;            /* fd to wait on before closing, -1 none */
	int opened;          /* fd to tell that the connection is open, -1 none */
};
static int dial(void *arg)
{
	const struct dial *d = arg;
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(d->port) };
	struct timeval tv = { .tv_sec = 5 };
	char text[64];
	inet_pton(AF_INET, d->addr, &sa.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return 1;
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return 2;
	text[n] = '\0';
	if (d->opened >= 0 && write(d->opened, "x", 1) != 1)
		return 3;
	if (d->hold >= 0 && read(d->hold, text + n, 1) < 0)
		return 4;
	text[n] = '\0';
	close(fd);
	if (d->seen_as && strcmp(text, d->seen_as) != 0) {
		fprintf(stderr, "# %s:%u: seen as '%s', want '%s'\n", d->addr, d->port, text, d->seen_as);
		return 5;
	}
	return 0;
}

static void expect_dial(pid_t from, const char *addr, uint16_t port, const char *seen_as)
{
	struct dial d = { addr, port, seen_as, -1, -1 };
	int rc = in_ns(from, dial, &d);
	if (rc)
		fail_msg("dial %s:%u: %d", addr, port, rc);
}

static size_t own_links(bool veths_only, int *first)
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

/* ---- tests, in order: each goes on where the one before stopped ------------------------------------ */

static void test_open_reports_host(void **state)
{
	(void)state;
	open_or_fail();
	struct dp_report r = wait_report(DP_HOST, NULL, 0);
	assert_int_equal(r.code, 1);
	assert_string_equal(r.text, NODE "/24");
	assert_int_equal(strncmp(dp_driver(w.dp), w.driver, strlen(w.driver)), 0);
	assert_int_equal(own_links(false, NULL), 1); /* the vxlan device */
}

static void test_attach_before_state_waits(void **state)
{
	(void)state;
	dp_attach_task(w.dp, attach_of(0));
	dp_submit(w.dp, whole_state());
	struct dp_report r = wait_report(DP_APPLIED, NULL, 1);
	if (r.code)
		fail_msg("applied: %s", r.text);
	r = wait_report(DP_ATTACHED, TASKS[0], 0);
	if (r.code)
		fail_msg("attach: %s", r.text);
	attach_ok(attach_of(1));
	dp_attach_done(w.dp);
	assert_int_equal(own_links(true, NULL), 4);
}

static void test_wired_inside(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char ing[32], blue[32];
		snprintf(ing, sizeof(ing), "10.77.0.%u", 11 + i);
		snprintf(blue, sizeof(blue), "10.77.1.%u", 11 + i);
		struct iface_check eth0 = { "eth0", ing, "10.77.0.1", false, 0 };
		struct iface_check eth1 = { "eth1", blue, "10.77.1.1", true, 0 };
		assert_int_equal(in_ns(w.task[i], check_iface, &eth0), 0);
		assert_int_equal(in_ns(w.task[i], check_iface, &eth1), 0);
	}
}

static void test_names(void **state)
{
	(void)state;
	expect_dns(0, "web", DNS_A, false, 0, "10.77.1.2");
	expect_dns(0, "WWW", DNS_A, false, 0, "10.77.1.2");
	expect_dns(0, "web.blue", DNS_A, false, 0, "10.77.1.2");
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11 10.77.1.12");
	expect_dns(1, "tasks.web", DNS_A, true, 0, "10.77.1.11 10.77.1.12");
	expect_dns(1, "web.1.task1task1task1task1task1", DNS_A, false, 0, "10.77.1.11");
	expect_dns(0, "web", DNS_AAAA, false, 0, "");
	expect_dns(0, "12.1.77.10.in-addr.arpa", DNS_PTR, false, 0, "web");
	expect_dns(0, "99.1.77.10.in-addr.arpa", DNS_PTR, false, DNS_NXDOMAIN, "");
}

static void test_traffic(void **state)
{
	(void)state;
	pid_t l0 = listen_in(w.task[0]), l1 = listen_in(w.task[1]);
	/* East-west, straight and through the virtual address. */
	expect_dial(w.task[0], "10.77.1.12", 80, "10.77.1.11");
	expect_dial(w.task[0], "10.77.1.2", 80, NULL);
	/* From outside and from the host itself; the task sees who it is. */
	expect_dial(w.client, NODE, 8080, CLIENT);
	expect_dial(0, NODE, 8080, NULL);
	expect_dial(0, "127.0.0.1", 8080, NULL);
	kill_ns(&l0);
	kill_ns(&l1);
}

static void test_watch_listen_and_flows(void **state)
{
	(void)state;
	struct dp_port port = { IPPROTO_TCP, 8080, 80 };
	forget_reports();
	dp_watch_listen(w.dp, task_of(0), &port, 1);
	dp_watch_listen(w.dp, task_of(1), NULL, 0);
	(void)wait_report(DP_LISTENING, TASKS[1], 0);
	assert_false(has_report(DP_LISTENING));
	pid_t l = listen_in(w.task[0]);
	(void)wait_report(DP_LISTENING, TASKS[0], 0);
	/* A connection that is open holds the end back. */
	int opened[2], hold[2];
	char c;
	assert_int_equal(pipe2(opened, O_CLOEXEC), 0);
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	pid_t dialer = fork();
	assert_true(dialer >= 0);
	if (!dialer) {
		close(hold[1]);
		struct dial d = { "10.77.1.11", 80, NULL, hold[0], opened[1] };
		int ns = netns_open(w.task[1], NULL);
		_exit(setns(ns, CLONE_NEWNET) < 0 ? 9 : dial(&d));
	}
	close(hold[0]);
	close(opened[1]);
	assert_int_equal(read(opened[0], &c, 1), 1);
	dp_watch_flows(w.dp, task_of(0));
	dp_watch_flows(w.dp, task_of(1)); /* nobody is connected to that one */
	(void)wait_report(DP_FLOWS_ENDED, TASKS[1], 0);
	assert_false(has_report(DP_FLOWS_ENDED));
	close(hold[1]);
	(void)wait_report(DP_FLOWS_ENDED, TASKS[0], 0);
	int status;
	waitpid(dialer, &status, 0);
	assert_int_equal(status, 0);
	close(opened[0]);
	kill_ns(&l);
}

static void test_host_port_is_refused(void **state)
{
	(void)state;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(9090) };
	forget_reports();
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	(void)wait_report(DP_HOST, NULL, 0);
	struct dp_delta *d = delta_new(false);
	struct dp_service *s = add_service(d, NET_ING, "10.77.0.2");
	*LIST_ADD(&s->ports) = (struct dp_port){ IPPROTO_TCP, 8080, 80 };
	*LIST_ADD(&s->ports) = (struct dp_port){ IPPROTO_TCP, 9090, 80 };
	dp_submit(w.dp, d);
	struct dp_report r = wait_report(DP_DEGRADED, NULL, 0);
	assert_non_null(strstr(r.text, "9090"));
	assert_non_null(strstr(r.text, "test_dp_netns"));
	(void)wait_report(DP_APPLIED, NULL, w.version);
	/* Whole again when the listener goes. */
	close(fd);
	r = wait_report(DP_DEGRADED, NULL, 0);
	assert_string_equal(r.text, "");
}

static void test_draining_leaves_names(void **state)
{
	(void)state;
	struct dp_delta *d = delta_new(false);
	add_endpoint(d, 1, NET_BLUE, "10.77.1.12", DP_DRAINING);
	dp_submit(w.dp, d);
	(void)wait_report(DP_APPLIED, NULL, w.version);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11");
	expect_dns(0, "web.2.task2task2task2task2task2", DNS_A, false, 0, "10.77.1.12");
	d = delta_new(false);
	add_endpoint(d, 1, NET_BLUE, "10.77.1.12", DP_SERVING);
	dp_submit(w.dp, d);
	(void)wait_report(DP_APPLIED, NULL, w.version);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11 10.77.1.12");
}

static void test_restart_adopts(void **state)
{
	(void)state;
	int before = 0, after = 0;
	assert_int_equal(own_links(true, &before), 4);
	pid_t l = listen_in(w.task[0]);
	struct dp_delta *d = delta_new(false);
	add_endpoint(d, 1, NET_ING, "10.77.0.12", DP_DRAINING);
	dp_submit(w.dp, d);
	(void)wait_report(DP_APPLIED, NULL, w.version);
	dp_close(w.dp);
	/* Nobody is at home, and traffic goes on; a question waits in the shim's socket. */
	expect_dial(w.client, NODE, 8080, CLIENT);
	pid_t asker = ask_later(0, "web", "10.77.1.2");
	open_or_fail();
	expect_dial(w.client, NODE, 8080, CLIENT);
	forget_reports();
	/* Without a manager: what was saved is enough. */
	attach_ok(attach_of(0));
	attach_ok(attach_of(1));
	dp_attach_done(w.dp);
	assert_int_equal(own_links(true, &after), 4);
	assert_int_equal(before, after);
	int status;
	assert_int_equal(waitpid(asker, &status, 0), asker);
	assert_int_equal(status, 0);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11 10.77.1.12");
	expect_dial(w.client, NODE, 8080, CLIENT);
	dp_submit(w.dp, whole_state());
	(void)wait_report(DP_APPLIED, NULL, w.version);
	expect_dial(w.task[1], "10.77.1.11", 80, "10.77.1.12");
	kill_ns(&l);
}

static void test_crashed_task_is_swept(void **state)
{
	(void)state;
	dp_close(w.dp);
	kill_ns(&w.task[1]);
	open_or_fail();
	attach_ok(attach_of(0));
	dp_attach_done(w.dp);
	dp_submit(w.dp, delta_new(false));
	(void)wait_report(DP_APPLIED, NULL, w.version);
	assert_int_equal(own_links(true, NULL), 2);
	w.task[1] = make_ns(false);
	attach_ok(attach_of(1));
	assert_int_equal(own_links(true, NULL), 4);
}

static void test_local_network(void **state)
{
	(void)state;
	pid_t pid = make_ns(false);
	struct dp_attach *a = XNEW(struct dp_attach);
	mesh_id_set(a->task.s, "alonealonealonealonealone");
	a->pid = pid;
	a->dns_udp_fd = a->dns_tcp_fd = -1;
	LIST_ADD(&a->nets)->addr = NULL;
	attach_ok(a);
	/* Out to the client, masqueraded. */
	pid_t l = listen_in(w.client);
	expect_dial(pid, CLIENT, 80, NODE);
	kill_ns(&l);
	task_id id;
	mesh_id_set(id.s, "alonealonealonealonealone");
	dp_detach_task(w.dp, id);
	(void)wait_report(DP_DETACHED, id.s, 0);
	kill_ns(&pid);
}

static void test_bad_attach_leaves_nothing(void **state)
{
	(void)state;
	size_t before = own_links(true, NULL);
	struct dp_attach *a = attach_of(0);
	mesh_id_set(a->task.s, "wrongwrongwrongwrongwrong");
	free(a->nets.v[1].addr);
	a->nets.v[1].addr = xstrdup("not an address");
	a->pid = w.client;
	dp_attach_task(w.dp, a);
	struct dp_report r = wait_report(DP_ATTACHED, "wrongwrongwrongwrongwrong", 0);
	assert_int_equal(r.code, MESH_E_INVALID);
	assert_non_null(strstr(r.text, "not an address"));
	a = attach_of(0);
	mesh_id_set(a->task.s, "wrongwrongwrongwrongwrong");
	a->pid = getpid();
	dp_attach_task(w.dp, a);
	r = wait_report(DP_ATTACHED, "wrongwrongwrongwrongwrong", 0);
	assert_int_equal(r.code, MESH_E_INVALID);
	assert_int_equal(own_links(true, NULL), before);
}

static void test_metrics(void **state)
{
	(void)state;
	struct dp_stats s;
	dp_stats_get(w.dp, &s);
	assert_int_equal(s.tasks, 2);
	assert_true(s.dns.n > 0);
	assert_true(s.services.n > 0);
	sch_clear(&dp_stats_schema, &s);
}

static void test_detach_leaves_nothing(void **state)
{
	(void)state;
	forget_reports();
	dp_detach_task(w.dp, task_of(1));
	(void)wait_report(DP_DETACHED, TASKS[1], 0);
	assert_int_equal(own_links(true, NULL), 2);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11"); /* though the manager still names it */
	struct kern *k;
	struct kern_routes routes = { 0 };
	struct dp_ip gone = ip_of("10.77.1.12");
	assert_int_equal(kern_open(&k, NULL), 0);
	assert_int_equal(kern_routes(k, &routes), 0);
	for (size_t i = 0; i < routes.len; i++)
		assert_memory_not_equal(&routes.data[i].dst, &gone, sizeof(gone));
	vec_fini(&routes);
	kern_close(k);
	dp_watch_flows(w.dp, task_of(1));
	(void)wait_report(DP_FLOWS_ENDED, TASKS[1], 0);
}

static void test_destroy_removes_all(void **state)
{
	(void)state;
	dp_destroy(w.dp);
	w.dp = NULL;
	assert_int_equal(own_links(false, NULL), 0);
	FILE *p = popen("nft list tables", "re");
	char line[128];
	assert_non_null(p);
	while (fgets(line, sizeof(line), p))
		assert_null(strstr(line, MARK));
	pclose(p);
	char path[120];
	snprintf(path, sizeof(path), "%s/bpf", w.run);
	assert_int_not_equal(access(path, F_OK), 0);
}

/* ---- setup --------------------------------------------------------------------------------------- */

static int setup(void **state)
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

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)st;
	(void)flag;
	(void)f;
	return remove(path);
}

static int teardown(void **state)
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
	w.dp = NULL;
	w.version = 0;
	return 0;
}

static void test_skipped(void **state)
{
	(void)state;
	print_message("needs root and a kernel with the features of the ebpf driver\n");
	skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_reports_host),
		cmocka_unit_test(test_attach_before_state_waits),
		cmocka_unit_test(test_wired_inside),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_traffic),
		cmocka_unit_test(test_watch_listen_and_flows),
		cmocka_unit_test(test_host_port_is_refused),
		cmocka_unit_test(test_draining_leaves_names),
		cmocka_unit_test(test_restart_adopts),
		cmocka_unit_test(test_crashed_task_is_swept),
		cmocka_unit_test(test_local_network),
		cmocka_unit_test(test_bad_attach_leaves_nothing),
		cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_detach_leaves_nothing),
		cmocka_unit_test(test_destroy_removes_all),
	};
	const struct CMUnitTest skipped[] = { cmocka_unit_test(test_skipped) };
	if (geteuid() != 0)
		return cmocka_run_group_tests(skipped, NULL, NULL);
	w.driver = "ebpf";
	int failed = cmocka_run_group_tests_name("ebpf", tests, setup, teardown);
	w.driver = "nft";
	return failed + cmocka_run_group_tests_name("nft", tests, setup, teardown);
}
