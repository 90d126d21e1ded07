// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The real thing: two nodes, a client, tasks, in namespaces of this process that vanish with it.
 *
 *      client 172.31.9.100 ── br0 ──┬── n1 172.31.9.11   t1: 10.0.0.11 (ingress), 10.0.1.11 (overlay)
 *                                   └── n2 172.31.9.12   t2: 10.0.0.12 (ingress), 10.0.1.12 (overlay)
 *
 * Port 8080 is published on both nodes, target 80. The overlay's service has the VIP 10.0.1.2.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/mem.h"
#include "bpf/abi.h"
#include "dataplane/ebpf/ebpf.h"

enum ns { HOME, CLIENT, N1, N2, T1, T2, NS_MAX };
static int ns_fd[NS_MAX];
static char bpffs[64], cgroups[128];
/* How the nodes are run: every test runs in every mode. */
static const struct mode {
	const char *name;
	bool clsact, device[2]; /* device: the node's tunnels go through the VXLAN device */
	const char *ethtool;    /* of every uplink and every task's interface */
} modes[] = {
	{ "path (tcx where there)", .clsact = false },
	{ "path (clsact)", .clsact = true },
	{ "path (VXLAN device)", .device = { true, true } },
	{ "path (one by the device, one by its programs)", .device = { false, true } },
	{ "path (no offloads)", .ethtool = "tso off gso off gro off tx off rx off" },
	{ "path (device, no offloads)", .device = { true, true }, .ethtool = "tso off gso off gro off tx off rx off" },
	{ "path (merged on receipt)", .ethtool = "tso off gso off gro on" },
};
static const struct mode *mode;

struct node {
	enum ns ns, task_ns;
	struct ebpf *e;
	struct ebpf_config c;
	char pin[96], cgroup[160];
	unsigned uplink, vxlan, eth0, eth1;
};
static struct node nodes[2];

static void enter(enum ns n)
{
	assert_int_equal(setns(ns_fd[n], CLONE_NEWNET), 0);
}

static void run(const char *fmt, ...) MESH_PRINTF(1, 2);
static void run(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		fail_msg("%s", cmd);
}

static struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;

	assert_int_equal(dp_ip_parse(text, &ip, NULL), 0);
	return ip;
}

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		struct mesh_err _err = {};                                                                             \
		int _rc = (call);                                                                                      \
		if (_rc)                                                                                               \
			fail_msg("%s: %d %s", #call, _rc, mesh_err_text(&_err, _rc));                                  \
	} while (0)

/* ---- topology ---- */

static void make_ns(enum ns n)
{
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	ns_fd[n] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(ns_fd[n] >= 0);
	run("ip link set lo up");
}

static void link_node(struct node *n, const char *addr, int k)
{
	enter(CLIENT);
	run("ip link add c%d type veth peer name up0 netns /proc/%d/fd/%d", k, getpid(), ns_fd[n->ns]);
	run("ip link set c%d master br0 up", k);
	enter(n->ns);
	run("ip link set up0 up && ip addr add %s/24 dev up0", addr);
	run("ip route add default via 172.31.9.100");
	run("ip link add vx type vxlan external dstport 4789 && ip link set vx mtu 1450 up");
	run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.lo.accept_local=1 net.ipv4.conf.lo.route_localnet=1"
	    " net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
	n->uplink = if_nametoindex("up0");
	n->vxlan = if_nametoindex("vx");
}

static unsigned link_task(struct node *n, const char *eth, const char *addr, const char *gateway, bool route)
{
	struct dp_ip ip = ip_of(addr);
	uint8_t mac[6];

	dp_mac_of(&ip, mac);
	enter(n->ns);
	run("ip link add h%s mtu 1450 type veth peer name %s address %02x:%02x:%02x:%02x:%02x:%02x mtu 1450"
	    " netns /proc/%d/fd/%d",
	    eth, eth, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], getpid(), ns_fd[n->task_ns]);
	run("ip link set h%s up && ip route add %s/32 dev h%s", eth, addr, eth);
	run("ip neigh add %s lladdr %02x:%02x:%02x:%02x:%02x:%02x dev h%s nud permanent", addr, mac[0], mac[1], mac[2],
	    mac[3], mac[4], mac[5], eth);
	enter(n->task_ns);
	run("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 "
	    "net.ipv4.conf.%s.rp_filter=0",
	    eth);
	run("ip addr add %s/24 dev %s && ip link set %s up", addr, eth, eth);
	if (route)
		run("ip route add default via %s", gateway);
	enter(n->ns);
	char host[IF_NAMESIZE];
	snprintf(host, sizeof(host), "h%s", eth);
	return if_nametoindex(host);
}

static void host_mac(const char *dev, uint8_t mac[6])
{
	char path[96], text[32] = "";
	FILE *f;

	/* /sys shows the namespace it was mounted in: ask ip. */
	snprintf(path, sizeof(path), "ip -br link show dev %s | awk '{print $3}'", dev);
	f = popen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	pclose(f);
	assert_int_equal(
		sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]), 6);
}

static void attach_task(struct node *n, unsigned ifindex, const char *dev, uint32_t vni, const char *addr)
{
	struct ebpf_iface i = { .ifindex = ifindex, .vni = vni, .ip = ip_of(addr), .task = 7 };

	host_mac(dev, i.host_mac);
	OK(ebpf_attach_task(n->e, &i, &_err));
}

/* ---- desired state, as the data plane's core would set it ---- */

static enum dp_backend_state states[2] = { DP_SERVING, DP_SERVING };

static void set_service(struct node *n, uint64_t key, uint32_t vni, const char *a1, const char *a2)
{
	bool first = n == &nodes[0];
	struct ebpf_backend b[2] = {
		{ .ip = ip_of(a1), .node = ip_of("172.31.9.11"), .local = first, .state = states[0] },
		{ .ip = ip_of(a2), .node = ip_of("172.31.9.12"), .local = !first, .state = states[1] },
	};
	struct ebpf_service s = { .key = key, .vni = vni, .backends = b, .n = 2 };
	struct ebpf_endpoint e1 = { .vni = vni, .ip = b[0].ip, .node = b[0].node, .local = b[0].local };
	struct ebpf_endpoint e2 = { .vni = vni, .ip = b[1].ip, .node = b[1].node, .local = b[1].local };

	OK(ebpf_set_endpoint(n->e, &e1, &_err));
	OK(ebpf_set_endpoint(n->e, &e2, &_err));
	OK(ebpf_set_service(n->e, &s, &_err));
}

static void set_all(struct node *n)
{
	bool first = n == &nodes[0];
	struct dp_ip self = ip_of(first ? "172.31.9.11" : "172.31.9.12"), vip = ip_of("10.0.1.2");
	struct dp_ip a1 = ip_of("172.31.9.11"), a2 = ip_of("172.31.9.12");
	struct ebpf_network in = {
		.vni = 4096, .subnet = ip_of("10.0.0.0"), .prefix = 24, .gateway = ip_of("10.0.0.1"), .ingress = true
	};
	struct ebpf_network ov = {
		.vni = 4097, .subnet = ip_of("10.0.1.0"), .prefix = 24, .gateway = ip_of("10.0.1.1")
	};
	struct ebpf_port tcp = { .proto = IPPROTO_TCP, .published = 8080, .target = 80, .service = 11 };
	struct ebpf_port udp = { .proto = IPPROTO_UDP, .published = 8080, .target = 80, .service = 11 };
	struct ebpf_port host = { .proto = IPPROTO_TCP,
		                  .published = 9090,
		                  .target = 80,
		                  .host_mode = true,
		                  .vni = 4096,
		                  .ip = ip_of(first ? "10.0.0.11" : "10.0.0.12") };

	enter(n->ns);
	OK(ebpf_attach(n->e, EBPF_UPLINK, n->uplink, &_err));
	OK(ebpf_attach(n->e, EBPF_LO, 1, &_err));
	OK(ebpf_attach(n->e, EBPF_VXLAN, n->vxlan, &_err));
	OK(ebpf_set_host_addr(n->e, &self, &_err));
	struct ebpf_way none = {}, way = { .ifindex = n->uplink, .next_hop = first ? a2 : a1, .mtu = 1500 };
	OK(ebpf_set_node(n->e, &a1, first ? &none : &way, &_err));
	OK(ebpf_set_node(n->e, &a2, first ? &way : &none, &_err));
	OK(ebpf_set_network(n->e, &in, &_err));
	OK(ebpf_set_network(n->e, &ov, &_err));
	attach_task(n, n->eth0, "heth0", 4097, first ? "10.0.1.11" : "10.0.1.12");
	attach_task(n, n->eth1, "heth1", 4096, first ? "10.0.0.11" : "10.0.0.12");
	set_service(n, 11, 4096, "10.0.0.11", "10.0.0.12");
	set_service(n, 12, 4097, "10.0.1.11", "10.0.1.12");
	OK(ebpf_set_vip(n->e, &vip, 12, &_err));
	OK(ebpf_set_port(n->e, &tcp, &_err));
	OK(ebpf_set_port(n->e, &udp, &_err));
	OK(ebpf_set_port(n->e, &host, &_err));
}

static void open_node(struct node *n)
{
	enter(n->ns);
	OK(ebpf_open(&n->c, &n->e, &_err));
	set_all(n);
	ebpf_sweep(n->e);
}

static void make_node(struct node *n, int k)
{
	const char *addr = k ? "172.31.9.12" : "172.31.9.11";

	n->ns = k ? N2 : N1;
	n->task_ns = k ? T2 : T1;
	link_node(n, addr, k);
	n->eth0 = link_task(n, "eth0", k ? "10.0.1.12" : "10.0.1.11", "10.0.1.1", true);
	n->eth1 = link_task(n, "eth1", k ? "10.0.0.12" : "10.0.0.11", "10.0.0.1", false);
	snprintf(n->pin, sizeof(n->pin), "%s/n%d", bpffs, k + 1);
	snprintf(n->cgroup, sizeof(n->cgroup), "%s/n%d", cgroups, k + 1);
	assert_int_equal(mkdir(n->cgroup, 0755), 0);
	n->c = (struct ebpf_config){ .pin_dir = n->pin,
		                     .cgroup = n->cgroup,
		                     .self = ip_of(addr),
		                     .vxlan_ifindex = n->vxlan,
		                     .flows_max = 4096,
		                     .tunnel_port = 4789,
		                     .no_tcx = mode->clsact,
		                     .no_own_tunnel = mode->device[k] };
	open_node(n);
}

static const char *cgroup2(void)
{
	static const char *const dirs[] = { "/sys/fs/cgroup/unified", "/sys/fs/cgroup" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char path[64];
		snprintf(path, sizeof(path), "%s/cgroup.procs", dirs[i]);
		if (access(path, W_OK) == 0)
			return dirs[i];
	}
	return NULL;
}

static void set_offloads(void)
{
	if (!mode->ethtool)
		return;
	for (int k = 0; k < 2; k++) {
		enter(nodes[k].ns);
		run("for d in up0 heth0 heth1; do ethtool -K $d %s >/dev/null || exit 1; done", mode->ethtool);
		enter(nodes[k].task_ns);
		run("for d in eth0 eth1; do ethtool -K $d %s >/dev/null || exit 1; done", mode->ethtool);
		enter(CLIENT);
		run("ethtool -K c%d %s >/dev/null", k, mode->ethtool);
	}
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ns_fd[HOME] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	strcpy(bpffs, "/tmp/mesh-path-XXXXXX");
	assert_non_null(mkdtemp(bpffs));
	assert_int_equal(mount("bpf", bpffs, "bpf", 0, NULL), 0);
	snprintf(cgroups, sizeof(cgroups), "%s/mesh-path-%d", cgroup2(), getpid());
	assert_int_equal(mkdir(cgroups, 0755), 0);
	for (enum ns n = CLIENT; n < NS_MAX; n++)
		make_ns(n);
	enter(CLIENT);
	run("ip link add br0 type bridge && ip addr add 172.31.9.100/24 dev br0 && ip link set br0 up");
	make_node(&nodes[0], 0);
	make_node(&nodes[1], 1);
	set_offloads();
	return 0;
}

static void move_to(const char *dir)
{
	char path[192];
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(write(fd, "0", 1) == 1);
	close(fd);
}

static int teardown(void **state)
{
	(void)state;
	move_to(cgroup2());
	for (int k = 0; k < 2; k++) {
		if (nodes[k].e) {
			enter(nodes[k].ns);
			ebpf_destroy(nodes[k].e);
			nodes[k].e = NULL;
		}
		rmdir(nodes[k].cgroup);
	}
	for (enum ns n = CLIENT; n < NS_MAX; n++)
		close(ns_fd[n]);
	enter(HOME);
	umount2(bpffs, MNT_DETACH);
	rmdir(bpffs);
	return rmdir(cgroups);
}

/* ---- traffic ---- */

static struct sockaddr_in sin_of(const char *addr, uint16_t port)
{
	struct sockaddr_in s = { .sin_family = AF_INET, .sin_port = htons(port) };

	assert_int_equal(inet_pton(AF_INET, addr, &s.sin_addr), 1);
	return s;
}

static int socket_in(enum ns n, int type)
{
	enter(n);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return fd;
}

static int server(enum ns n, int type, uint16_t port)
{
	struct sockaddr_in any = sin_of("0.0.0.0", port);
	int fd = socket_in(n, type);

	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 64), 0);
	return fd;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* Connects; -1 within the time. src_port 0 = any. */
static int dial(enum ns n, const char *src, uint16_t src_port, const char *addr, uint16_t port)
{
	struct sockaddr_in to = sin_of(addr, port);
	struct timeval tv = { .tv_sec = 3 };
	int fd = socket_in(n, SOCK_STREAM);

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (src) {
		struct sockaddr_in from = sin_of(src, src_port);
		assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	}
	if (connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void print_drops(void)
{
	for (int k = 0; k < 2; k++) {
		const char *id, *text;
		uint64_t n;
		for (unsigned i = 0; ebpf_drop(nodes[k].e, i, &id, &text, &n); i++)
			if (n)
				print_message("n%d drop %s %llu\n", k + 1, id, (unsigned long long)n);
	}
}

/* One of the servers accepts; returns which, its connection and who it sees. */
static int accepted(const int srv[2], int *conn, struct sockaddr_in *peer)
{
	struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
	socklen_t len = sizeof(*peer);

	if (poll(p, 2, 3000) <= 0) {
		print_drops();
		fail_msg("nobody accepted");
	}
	int which = p[0].revents ? 0 : 1;
	*conn = accept4(srv[which], (struct sockaddr *)peer, &len, SOCK_CLOEXEC);
	assert_true(*conn >= 0);
	return which;
}

static void talk(int a, int b, size_t n)
{
	CLEAN_FREE char *out = xcalloc(1, n), *in = xcalloc(1, n);
	size_t sent = 0, got = 0;

	for (size_t i = 0; i < n; i++)
		out[i] = (char)(i * 31 >> 3);
	while (got < n) {
		struct pollfd p[2] = { { .fd = a, .events = sent < n ? POLLOUT : 0 }, { .fd = b, .events = POLLIN } };
		if (poll(p, 2, 5000) <= 0) {
			print_drops();
			fail_msg("stuck after %zu of %zu bytes", got, n);
		}
		if (p[0].revents & POLLOUT) {
			ssize_t w = send(a, out + sent, n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
			sent += w > 0 ? (size_t)w : 0;
		}
		if (p[1].revents & POLLIN) {
			ssize_t r = recv(b, in + got, n - got, 0);
			assert_true(r > 0);
			got += (size_t)r;
		}
	}
	assert_memory_equal(out, in, n);
}

static void check_exchange(const int srv[2], enum ns from, const char *addr, uint16_t port, const char *seen_as,
                           int hits[2])
{
	struct sockaddr_in peer;
	char text[INET_ADDRSTRLEN];
	int conn, fd = dial(from, NULL, 0, addr, port);

	if (fd < 0) {
		print_drops();
		fail_msg("connect to %s:%u from %d: %s", addr, port, from, strerror(errno));
	}
	hits[accepted(srv, &conn, &peer)]++;
	inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text));
	if (seen_as)
		assert_string_equal(text, seen_as);
	talk(fd, conn, 3000);
	talk(conn, fd, 3000);
	close(fd);
	close(conn);
}

static void published_port(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};
	size_t flows;
	struct dp_ip t1 = ip_of("10.0.0.11");

	(void)state;
	for (int i = 0; i < 20; i++) {
		check_exchange(srv, CLIENT, "172.31.9.11", 8080, "172.31.9.100", hits);
		check_exchange(srv, CLIENT, "172.31.9.12", 8080, "172.31.9.100", hits);
	}
	assert_true(hits[0] > 5 && hits[1] > 5);
	OK(ebpf_flow_count(nodes[0].e, &t1, &flows));
	assert_int_equal(flows, 0);
	close(srv[0]);
	close(srv[1]);
}

static void check_bulk(enum ns from, const char *addr)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	bool seen[2] = {};
	struct sockaddr_in peer;

	for (int i = 0; i < 40 && !(seen[0] && seen[1]); i++) {
		int conn, fd = dial(from, NULL, 0, addr, 8080);
		assert_true(fd >= 0);
		int which = accepted(srv, &conn, &peer);
		if (!seen[which]) {
			talk(fd, conn, 4 << 20);
			talk(conn, fd, 4 << 20);
		}
		seen[which] = true;
		close(fd);
		close(conn);
	}
	assert_true(seen[0] && seen[1]);
	close(srv[0]);
	close(srv[1]);
}

static void bulk(void **state)
{
	(void)state;
	check_bulk(CLIENT, "172.31.9.11");
	check_bulk(N1, "127.0.0.1");
	check_bulk(T1, "172.31.9.11");
}

static uint64_t event_of(const struct node *n, const char *name)
{
	struct dp_stats st = {};
	uint64_t v = 0;

	ebpf_stats(n->e, &st);
	for (size_t i = 0; i < st.events.n; i++)
		if (!strcmp(st.events.v[i].id, name))
			v = st.events.v[i].n;
	sch_clear(&dp_stats_schema, &st);
	return v;
}

/* Between tasks of two nodes, both ways; packets take the way the mode says. */
static void overlay_bulk(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	struct sockaddr_in peer;
	int conn, fd = dial(T1, NULL, 0, "10.0.1.12", 80);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(accepted(srv, &conn, &peer), 1);
	for (int i = 0; i < 3; i++) {
		talk(fd, conn, 4 << 20);
		talk(conn, fd, 4 << 20);
	}
	for (int k = 0; k < 2; k++) {
		assert_true((event_of(&nodes[k], "encap") > 0) == !mode->device[k]);
		assert_true((event_of(&nodes[k], "decap") > 0) == !mode->device[k]);
	}
	close(fd);
	close(conn);
	close(srv[0]);
	close(srv[1]);
}

/* One send of many datagrams, which stay one super-packet until the receiver. */
static void overlay_datagrams_at_once(void **state)
{
	int in = server(T2, SOCK_DGRAM, 80), out = socket_in(T1, SOCK_DGRAM), size = 1000, cut;
	struct sockaddr_in to = sin_of("10.0.1.12", 80);
	char data[10000], got[2000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i / 1000);
	assert_int_equal(setsockopt(out, SOL_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
	/* The kernel refuses where the device has no checksums to leave to. */
	cut = sendto(out, data, sizeof(data), 0, (struct sockaddr *)&to, sizeof(to)) == sizeof(data) ? 10 : 0;
	assert_true(cut || mode->ethtool);
	for (int i = 0; i < cut; i++) {
		assert_true(readable(in, 2000));
		assert_int_equal(recv(in, got, sizeof(got), 0), 1000);
		assert_memory_equal(got, data + 1000 * i, 1000);
	}
	close(in);
	close(out);
}

/* A datagram larger than a packet, in fragments on the overlay; one that fits inside but not around. */
static void overlay_fragments(void **state)
{
	static const size_t sizes[] = { 1422, 1423, 3000, 20000 };
	int in = server(T2, SOCK_DGRAM, 80), out = socket_in(T1, SOCK_DGRAM);
	struct sockaddr_in to = sin_of("10.0.1.12", 80);
	static char data[20000], got[20001];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(sendto(out, data, sizes[i], 0, (struct sockaddr *)&to, sizeof(to)), sizes[i]);
		assert_true(readable(in, 2000));
		assert_int_equal(recv(in, got, sizeof(got), 0), sizes[i]);
		assert_memory_equal(got, data, sizes[i]);
	}
	close(in);
	close(out);
}

/* 1500 bytes from a client are more than the overlay takes: the outer packet is cut, and put together again. */
static void large_from_client(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	struct sockaddr_in to = sin_of("172.31.9.11", 8080);
	static char data[1472], got[2000];
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 40 && !(hits[0] && hits[1]); i++) {
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(data));
		assert_true(poll(p, 2, 2000) > 0);
		int w = p[0].revents ? 0 : 1;
		assert_int_equal(recv(srv[w], got, sizeof(got), 0), sizeof(data));
		hits[w]++;
		close(fd);
	}
	assert_true(hits[0] && hits[1]);
	close(srv[0]);
	close(srv[1]);
}

static void from_the_host(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {}, local[2] = {};

	(void)state;
	for (int i = 0; i < 40; i++) { /* both backends, whatever ports the kernel chooses */
		check_exchange(srv, N1, "172.31.9.11", 8080, "172.31.9.11", hits);
		check_exchange(srv, N1, "127.0.0.1", 8080, "172.31.9.11", local);
	}
	assert_true(hits[0] && hits[1] && local[0] && local[1]);
	close(srv[0]);
	close(srv[1]);
}

static void from_a_task(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 10; i++)
		check_exchange(srv, T1, "172.31.9.11", 8080, "172.31.9.11", hits);
	assert_true(hits[0] && hits[1]);
	close(srv[0]);
	close(srv[1]);
}

static void host_mode(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 4; i++)
		check_exchange(srv, CLIENT, "172.31.9.12", 9090, "172.31.9.100", hits);
	assert_int_equal(hits[0], 0);
	assert_int_equal(hits[1], 4);
	close(srv[0]);
	close(srv[1]);
}

/* One client port to two addresses: where both land on one task, the second needs another port there. */
static void colliding_ports(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int same = 0;

	(void)state;
	for (uint16_t port = 20000; port < 20012; port++) {
		struct sockaddr_in p1, p2;
		int c1, c2, f1 = dial(CLIENT, "172.31.9.100", port, "172.31.9.11", 8080);
		assert_true(f1 >= 0);
		int w1 = accepted(srv, &c1, &p1);
		int f2 = dial(CLIENT, "172.31.9.100", port, "172.31.9.12", 8080);
		assert_true(f2 >= 0);
		int w2 = accepted(srv, &c2, &p2);
		if (w1 == w2) {
			same++;
			assert_int_equal(ntohs(p1.sin_port), port);
			assert_int_not_equal(p2.sin_port, p1.sin_port);
		}
		talk(f1, c1, 2000);
		talk(f2, c2, 2000);
		talk(c1, f1, 2000);
		talk(c2, f2, 2000);
		close(f1);
		close(f2);
		close(c1);
		close(c2);
	}
	assert_true(same > 0);
	close(srv[0]);
	close(srv[1]);
}

static void udp_both_ways(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct sockaddr_in to = sin_of("172.31.9.11", 8080), peer;
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		socklen_t len = sizeof(peer);
		char b[8];
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
		assert_true(poll(p, 2, 2000) > 0);
		int w = p[0].revents ? 0 : 1;
		assert_int_equal(recvfrom(srv[w], b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(sendto(srv[w], "pong", 4, 0, (struct sockaddr *)&peer, sizeof(peer)), 4);
		assert_true(readable(fd, 2000));
		assert_int_equal(recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(peer.sin_addr.s_addr, to.sin_addr.s_addr);
		assert_int_equal(peer.sin_port, to.sin_port);
		hits[w]++;
		close(fd);
	}
	assert_true(hits[0] && hits[1]);
	close(srv[0]);
	close(srv[1]);
}

static uint16_t internet_sum(const void *p, size_t n)
{
	const uint16_t *w = p;
	uint32_t s = 0;

	for (size_t i = 0; i < n / 2; i++)
		s += w[i];
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t) ~((s & 0xffff) + (s >> 16));
}

/* True when an echo request is answered. */
static bool echo(enum ns n, const char *addr)
{
	struct sockaddr_in to = sin_of(addr, 0);
	struct icmphdr q = { .type = ICMP_ECHO, .un.echo = { .id = 77, .sequence = 1 } };
	struct timeval tv = { .tv_usec = 500000 };
	struct {
		struct iphdr ip;
		struct icmphdr icmp;
	} a;
	bool ok = false;

	enter(n);
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	q.checksum = internet_sum(&q, sizeof(q));
	assert_int_equal(sendto(fd, &q, sizeof(q), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(q));
	while (!ok && recv(fd, &a, sizeof(a), 0) == sizeof(a))
		ok = a.icmp.type == ICMP_ECHOREPLY && a.icmp.un.echo.id == 77 && a.ip.saddr == to.sin_addr.s_addr;
	close(fd);
	return ok;
}

/* East-west: directly, by VIP through the socket hook, by VIP without it, echo to the VIP. */
static void overlay(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	check_exchange(srv, T1, "10.0.1.12", 80, "10.0.1.11", hits);
	check_exchange(srv, T2, "10.0.1.11", 80, "10.0.1.12", hits);
	assert_true(hits[0] == 1 && hits[1] == 1);
	for (int i = 0; i < 4; i++)
		check_exchange(srv, T1, "10.0.1.2", 80, "10.0.1.11", hits);
	assert_int_equal(hits[0], 1);
	move_to(nodes[0].cgroup);
	for (int i = 0; i < 20; i++)
		check_exchange(srv, T1, "10.0.1.2", 80, NULL, hits);
	move_to(cgroup2());
	assert_true(hits[0] > 1 && hits[1] > 6);
	assert_true(echo(T1, "10.0.1.2"));
	assert_true(echo(T1, "10.0.1.12"));
	assert_true(echo(T1, "10.0.1.1"));
	assert_false(echo(T1, "10.0.1.99"));
	close(srv[0]);
	close(srv[1]);
}

static void check_peer(int fd, const char *addr, uint16_t port)
{
	struct sockaddr_in want = sin_of(addr, port), got;
	socklen_t len = sizeof(got);

	assert_int_equal(getpeername(fd, (struct sockaddr *)&got, &len), 0);
	assert_int_equal(got.sin_addr.s_addr, want.sin_addr.s_addr);
	assert_int_equal(got.sin_port, want.sin_port);
}

/* The socket hooks: datagrams keep to one backend, and what the task sees is always the VIP. */
static void socket_hooks(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	int tcp[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	struct sockaddr_in vip = sin_of("10.0.1.2", 80), peer;
	socklen_t len = sizeof(peer);
	char b[8];

	(void)state;
	move_to(nodes[0].cgroup);
	int fd = socket_in(T1, SOCK_DGRAM), first = -1;
	for (int i = 0; i < 12; i++) {
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&vip, sizeof(vip)), 4);
		assert_true(poll(p, 2, 2000) > 0);
		int w = p[0].revents ? 0 : 1;
		first = first < 0 ? w : first;
		assert_int_equal(w, first);
		len = sizeof(peer);
		assert_int_equal(recvfrom(srv[w], b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(sendto(srv[w], "pong", 4, 0, (struct sockaddr *)&peer, sizeof(peer)), 4);
		assert_true(readable(fd, 2000));
		len = sizeof(peer);
		assert_int_equal(recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(peer.sin_addr.s_addr, vip.sin_addr.s_addr);
		assert_int_equal(peer.sin_port, vip.sin_port);
	}
	assert_int_equal(connect(fd, (struct sockaddr *)&vip, sizeof(vip)), 0);
	check_peer(fd, "10.0.1.2", 80);
	close(fd);
	fd = dial(T1, NULL, 0, "10.0.1.2", 80);
	assert_true(fd >= 0);
	check_peer(fd, "10.0.1.2", 80);
	close(fd);
	/* IPv6 sockets that speak IPv4. */
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
	assert_int_equal(inet_pton(AF_INET6, "::ffff:10.0.1.2", &mapped.sin6_addr), 1);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		assert_int_equal(connect(fd, (struct sockaddr *)&mapped, sizeof(mapped)), 0);
		close(fd);
	}
	move_to(cgroup2());
	for (int k = 0; k < 2; k++) {
		close(srv[k]);
		close(tcp[k]);
	}
}

static void set_states(enum dp_backend_state s1, enum dp_backend_state s2)
{
	states[0] = s1;
	states[1] = s2;
	for (int k = 0; k < 2; k++) {
		enter(nodes[k].ns);
		set_all(&nodes[k]);
	}
}

/* Nobody serves: a task hears so at once. */
static void refused(void **state)
{
	(void)state;
	set_states(DP_DRAINING, DP_STARTING);
	move_to(nodes[0].cgroup);
	struct sockaddr_in vip = sin_of("10.0.1.2", 80);
	int fd = socket_in(T1, SOCK_STREAM);
	int rc = connect(fd, (struct sockaddr *)&vip, sizeof(vip)), why = errno;
	move_to(cgroup2());
	close(fd);
	set_states(DP_SERVING, DP_SERVING);
	assert_int_equal(rc, -1);
	assert_int_equal(why, ECONNREFUSED);
}

/* n1 has heard that its task drains, n2 has not: what n2 still sends there is passed on, and nobody notices. */
static void second_chance(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	states[0] = DP_DRAINING;
	enter(nodes[0].ns);
	set_all(&nodes[0]);
	for (int i = 0; i < 20; i++)
		check_exchange(srv, CLIENT, "172.31.9.12", 8080, "172.31.9.100", hits);
	assert_int_equal(hits[0], 0);
	set_states(DP_SERVING, DP_SERVING);
	close(srv[0]);
	close(srv[1]);
}

static uint64_t asked_again(struct node *n)
{
	struct dp_stats st = {};

	enter(n->ns);
	ebpf_stats(n->e, &st);
	uint64_t count = st.events.v[EVENT_ASK_AGAIN].n;
	sch_clear(&dp_stats_schema, &st);
	return count;
}

/* Its task has died, and no node has heard of it: who dials it meanwhile gets another when its node has. */
static void crashed_task(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	struct sockaddr_in to = sin_of("172.31.9.12", 8080);
	int hits[2] = {}, why = 0, fd = -1;
	socklen_t len = sizeof(why);

	(void)state;
	while (!hits[0])
		check_exchange(srv, CLIENT, "172.31.9.12", 8080, "172.31.9.100", hits);
	close(srv[0]);
	for (uint64_t before = asked_again(&nodes[0]); asked_again(&nodes[0]) == before;) {
		if (fd >= 0)
			close(fd); /* it came to the other */
		fd = socket_in(CLIENT, SOCK_STREAM | SOCK_NONBLOCK);
		assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
		assert_int_equal(errno, EINPROGRESS);
	}
	states[0] = DP_DRAINING;
	enter(nodes[0].ns);
	set_all(&nodes[0]);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len), 0);
	assert_int_equal(why, 0);
	close(fd);
	close(srv[1]);
	set_states(DP_SERVING, DP_SERVING);
}

/* Nothing listens in the tasks: their refusals find the client, from here and through the tunnel. */
static void udp_refusal(void **state)
{
	struct sockaddr_in to = sin_of("172.31.9.11", 8080);

	(void)state;
	for (int i = 0; i < 12; i++) {
		char b[8];
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
		assert_int_equal(send(fd, "ping", 4, 0), 4);
		if (!readable(fd, 2000)) {
			print_drops();
			fail_msg("no answer to datagram %d", i);
		}
		assert_int_equal(recv(fd, b, sizeof(b), 0), -1);
		assert_int_equal(errno, ECONNREFUSED);
		close(fd);
	}
}

static int mtu_to_client(enum ns n)
{
	struct sockaddr_in to = sin_of("172.31.9.100", 9);
	int fd = socket_in(n, SOCK_DGRAM), mtu = 0;
	socklen_t len = sizeof(mtu);

	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len), 0);
	close(fd);
	return mtu;
}

/* As a router on the client's side would say it. */
static void send_too_big(uint16_t client_port, uint16_t mtu)
{
	struct {
		struct icmphdr icmp;
		struct iphdr ip;
		struct udphdr udp;
	} m = { .icmp = { .type = ICMP_DEST_UNREACH, .code = ICMP_FRAG_NEEDED },
		.ip = { .version = 4, .ihl = 5, .ttl = 60, .protocol = IPPROTO_UDP, .tot_len = htons(1400) } };
	struct sockaddr_in node = sin_of("172.31.9.11", 0), client = sin_of("172.31.9.100", 0);

	m.icmp.un.frag.mtu = htons(mtu);
	m.ip.frag_off = htons(0x4000);
	m.ip.saddr = node.sin_addr.s_addr;
	m.ip.daddr = client.sin_addr.s_addr;
	m.ip.check = internet_sum(&m.ip, sizeof(m.ip));
	m.udp.source = htons(8080);
	m.udp.dest = htons(client_port);
	m.udp.len = htons(1380);
	m.icmp.checksum = internet_sum(&m, sizeof(m));
	enter(CLIENT);
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, &m, sizeof(m), 0, (struct sockaddr *)&node, sizeof(node)), sizeof(m));
	close(fd);
}

static void path_mtu(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	bool seen[2] = {};

	(void)state;
	for (uint16_t port = 21000; port < 21040 && !(seen[0] && seen[1]); port++) {
		struct sockaddr_in to = sin_of("172.31.9.11", 8080), from = sin_of("172.31.9.100", port);
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		char b[8];
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
		assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
		assert_true(poll(p, 2, 2000) > 0);
		int w = p[0].revents ? 0 : 1;
		assert_int_equal(recv(srv[w], b, sizeof(b), 0), 4);
		close(fd);
		if (seen[w])
			continue;
		seen[w] = true;
		assert_int_equal(mtu_to_client(w ? T2 : T1), 1450);
		send_too_big(port, 1200);
		/* It arrives by softirq on the way through three namespaces. */
		for (int i = 0; i < 200 && mtu_to_client(w ? T2 : T1) != 1200; i++)
			poll(NULL, 0, 10);
		if (mtu_to_client(w ? T2 : T1) != 1200)
			print_drops();
		assert_int_equal(mtu_to_client(w ? T2 : T1), 1200);
	}
	assert_true(seen[0] && seen[1]);
	close(srv[0]);
	close(srv[1]);
}

/* Everything open stays open while one backend drains and the daemon restarts. */
static void drain_and_restart(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int fd[8], conn[8], which[8];
	struct sockaddr_in peer;
	struct dp_ip t1 = ip_of("10.0.0.11");
	size_t flows, mine = 0;

	(void)state;
	for (int i = 0; i < 8; i++) {
		fd[i] = dial(CLIENT, NULL, 0, i % 2 ? "172.31.9.12" : "172.31.9.11", 8080);
		assert_true(fd[i] >= 0);
		which[i] = accepted(srv, &conn[i], &peer);
		talk(fd[i], conn[i], 100);
		mine += which[i] == 0;
	}
	OK(ebpf_flow_count(nodes[0].e, &t1, &flows));
	assert_int_equal(flows, mine);
	states[0] = DP_DRAINING;
	for (int k = 0; k < 2; k++) {
		enter(nodes[k].ns);
		set_all(&nodes[k]);
	}
	for (int k = 0; k < 2; k++) {
		ebpf_close(nodes[k].e);
		for (int i = 0; i < 8; i++)
			talk(fd[i], conn[i], 1000);
		open_node(&nodes[k]);
	}
	int hits[2] = {};
	for (int i = 0; i < 10; i++)
		check_exchange(srv, CLIENT, i % 2 ? "172.31.9.12" : "172.31.9.11", 8080, "172.31.9.100", hits);
	assert_int_equal(hits[0], 0);
	for (int i = 0; i < 8; i++) {
		talk(fd[i], conn[i], 1000);
		talk(conn[i], fd[i], 1000);
		close(fd[i]);
		close(conn[i]);
	}
	states[0] = DP_SERVING;
	for (int k = 0; k < 2; k++) {
		enter(nodes[k].ns);
		set_all(&nodes[k]);
	}
	close(srv[0]);
	close(srv[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_port),
		cmocka_unit_test(bulk),
		cmocka_unit_test(from_the_host),
		cmocka_unit_test(from_a_task),
		cmocka_unit_test(host_mode),
		cmocka_unit_test(colliding_ports),
		cmocka_unit_test(udp_both_ways),
		cmocka_unit_test(overlay),
		cmocka_unit_test(socket_hooks),
		cmocka_unit_test(refused),
		cmocka_unit_test(second_chance),
		cmocka_unit_test(crashed_task),
		cmocka_unit_test(udp_refusal),
		cmocka_unit_test(drain_and_restart),
		cmocka_unit_test(path_mtu),
		cmocka_unit_test(overlay_bulk),
		cmocka_unit_test(overlay_datagrams_at_once),
		cmocka_unit_test(overlay_fragments),
		cmocka_unit_test(large_from_client),
	};
	int failed = 0;

	if (geteuid() != 0 || !cgroup2()) {
		puts("1..1\nok 1 path # SKIP needs root and a cgroup v2 hierarchy");
		return 0;
	}
	/* An argument picks one mode by its number. */
	for (size_t i = 0; i < ARRAY_SIZE(modes) && !failed; i++) {
		mode = &modes[i];
		if (argc < 2 || (size_t)atoi(argv[1]) == i)
			failed = cmocka_run_group_tests_name(mode->name, tests, setup, teardown);
	}
	return failed;
}
