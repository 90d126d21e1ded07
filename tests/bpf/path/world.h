/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real thing: two nodes, a client, tasks, in namespaces of this process that vanish with it.
 *
 *      client 172.31.9.100 ── br0 ──┬── n1 172.31.9.11   t1: 10.0.0.11 (ingress), 10.0.1.11 (overlay)
 *                                   └── n2 172.31.9.12   t2: 10.0.0.12 (ingress), 10.0.1.12 (overlay)
 *
 * Port 8080 is published on both nodes, target 80. The overlay's service has the VIP 10.0.1.2.
 */
#ifndef TESTS_BPF_PATH_WORLD_H
#define TESTS_BPF_PATH_WORLD_H

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
#include "tests/support/bpf_calls.h"

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
	OK(ebpf_attach_task(n->e, &i, &err));
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

	OK(ebpf_set_endpoint(n->e, &e1, &err));
	OK(ebpf_set_endpoint(n->e, &e2, &err));
	OK(ebpf_set_service(n->e, &s, &err));
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
	OK(ebpf_attach(n->e, EBPF_UPLINK, n->uplink, &err));
	OK(ebpf_attach(n->e, EBPF_LO, 1, &err));
	OK(ebpf_attach(n->e, EBPF_VXLAN, n->vxlan, &err));
	OK(ebpf_set_host_addr(n->e, &self, &err));
	struct ebpf_way none = {}, way = { .ifindex = n->uplink, .next_hop = first ? a2 : a1, .mtu = 1500 };
	OK(ebpf_set_node(n->e, &a1, first ? &none : &way, &err));
	OK(ebpf_set_node(n->e, &a2, first ? &way : &none, &err));
	OK(ebpf_set_network(n->e, &in, &err));
	OK(ebpf_set_network(n->e, &ov, &err));
	attach_task(n, n->eth0, "heth0", 4097, first ? "10.0.1.11" : "10.0.1.12");
	attach_task(n, n->eth1, "heth1", 4096, first ? "10.0.0.11" : "10.0.0.12");
	set_service(n, 11, 4096, "10.0.0.11", "10.0.0.12");
	set_service(n, 12, 4097, "10.0.1.11", "10.0.1.12");
	OK(ebpf_set_vip(n->e, &vip, 12, &err));
	OK(ebpf_set_port(n->e, &tcp, &err));
	OK(ebpf_set_port(n->e, &udp, &err));
	OK(ebpf_set_port(n->e, &host, &err));
}

static void open_node(struct node *n)
{
	enter(n->ns);
	OK(ebpf_open(&n->c, &n->e, &err));
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

#endif
