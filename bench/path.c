// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an operation costs on each path from a client to a task: ours and what people use today, side by side in
 * namespaces of this process that vanish with it. One thread on one CPU is client and server, so that all the
 * kernel's work for a packet is done, and charged, in that thread: CPU time an operation is the figure, wall time
 * and its percentiles stand beside. Rounds are interleaved over the paths, medians taken.
 *
 *   one node   client 172.31.9.100 ── 172.31.9.11 n1 ── task
 *   two nodes  client 172.31.9.100 ── n1 172.31.8.11 ── 172.31.8.12 n2 ── task;  direct return: n2 ── client
 *   overlay    task ── n1 172.31.8.11 ── 172.31.8.12 n2 ── task
 *
 *   bench/path [-r rounds] [-o file.json] [-p part of a path's name] [-d]     -d: tunnels by the VXLAN device
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "base/mem.h"
#include "dataplane/ebpf/ebpf.h"

enum op { CRR, RR, BULK, UDP, OP_MAX };
static const char *const op_names[] = { "connection", "request", "MB", "datagram" };
enum { CRR_N = 1500, RR_N = 8000, BULK_MB = 48, UDP_N = 10000 };
#define ROUNDS_MAX 31
#define MANY 1500
#define BEDS_MAX 32

struct node {
	int ns;
	struct ebpf *e;
	char pin[96];
};
struct bed {
	const char *name, *peer;
	double aim; /* CPU a connection, times the peer's; 0 = none */
	int client, server, listen_port;
	const char *dial;
	uint16_t port;
	bool no_udp;
	const char *cgroup;
	pid_t helper;
	struct node n[2];
	double cpu[OP_MAX][ROUNDS_MAX], wall[OP_MAX][ROUNDS_MAX], p99[OP_MAX][ROUNDS_MAX];
};
struct figure {
	double cpu_us, wall_us, p99_us;
};

static struct bed beds[BEDS_MAX];
static size_t n_beds;
static char bpffs[64], cgroups[128];
static int home;
static pid_t owner;
static bool by_device;

static void die(const char *what)
{
	fprintf(stderr, "bench-path: %s: %s\n", what, strerror(errno));
	exit(1);
}

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		struct mesh_err err = {};                                                                              \
		int _rc = (call);                                                                                      \
		if (_rc) {                                                                                             \
			fprintf(stderr, "bench-path: %s: %s\n", #call, mesh_err_text(&err, _rc));                      \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---- namespaces ---- */

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET))
		die("setns");
}

static void sh(const char *fmt, ...) MESH_PRINTF(1, 2);
static void sh(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0) {
		fprintf(stderr, "bench-path: %s\n", cmd);
		exit(1);
	}
}

static int new_ns(void)
{
	if (unshare(CLONE_NEWNET))
		die("unshare");
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("namespace");
	sh("ip link set lo up; sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 "
	   "net.ipv4.conf.default.rp_filter=0 net.ipv4.tcp_max_tw_buckets=64 net.ipv6.conf.default.disable_ipv6=1 "
	   "net.ipv4.ip_local_port_range='1024 65535'");
	return fd;
}

/* A pair of devices: a of namespace na with address aa, b of nb with ab (addresses with prefix, or ""). */
static void wire(int na, const char *a, const char *aa, int nb, const char *b, const char *ab, int mtu)
{
	enter(na);
	sh("ip link add %s mtu %d type veth peer name %s mtu %d netns /proc/%d/fd/%d && ip link set %s up", a, mtu, b,
	   mtu, getpid(), nb, a);
	if (*aa)
		sh("ip addr add %s dev %s", aa, a);
	enter(nb);
	sh("ip link set %s up", b);
	if (*ab)
		sh("ip addr add %s dev %s", ab, b);
}

static struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;

	if (dp_ip_parse(text, &ip, NULL))
		die(text);
	return ip;
}

static struct bed *bed_new(const char *name, const char *peer, double aim)
{
	struct bed *b = &beds[n_beds++];

	*b = (struct bed){ .name = name, .peer = peer, .aim = aim, .listen_port = 80 };
	return b;
}

/* ---- our data plane ---- */

struct ours {
	bool two;            /* the task is on another node than the client's */
	bool direct, client; /* client: there is one outside, else a task dials */
	unsigned services;
};

static void link_task(struct node *n, int ns, const char *dev, const char *addr, uint32_t vni, const char *gateway,
                      bool route)
{
	struct dp_ip ip = ip_of(addr);
	struct ebpf_iface i = { .vni = vni, .ip = ip, .task = 7, .host_mac = { 2, 0, 0, 0, 0, 1 } };
	uint8_t m[6];

	dp_mac_of(&ip, m);
	enter(n->ns);
	sh("ip link add h%s address 02:00:00:00:00:01 mtu 1450 type veth peer name %s address "
	   "%02x:%02x:%02x:%02x:%02x:%02x mtu 1450 netns /proc/%d/fd/%d && ip link set h%s up && ip route add %s/32 "
	   "dev "
	   "h%s && ip neigh add %s lladdr %02x:%02x:%02x:%02x:%02x:%02x dev h%s nud permanent",
	   dev, dev, m[0], m[1], m[2], m[3], m[4], m[5], getpid(), ns, dev, addr, dev, addr, m[0], m[1], m[2], m[3],
	   m[4], m[5], dev);
	enter(ns);
	sh("ip addr add %s/24 dev %s && ip link set %s up", addr, dev, dev);
	if (route)
		sh("ip route add default via %s", gateway);
	enter(n->ns);
	char host[IF_NAMESIZE];
	snprintf(host, sizeof(host), "h%s", dev);
	i.ifindex = if_nametoindex(host);
	OK(ebpf_attach_task(n->e, &i, &err));
}

static void set_service(struct node *n, uint64_t key, uint32_t vni, const char *ip, bool local, bool direct)
{
	struct ebpf_backend b = { .ip = ip_of(ip), .node = ip_of("172.31.8.12"), .local = local, .state = DP_SERVING };
	struct ebpf_service s = { .key = key, .vni = vni, .backends = &b, .n = 1, .direct_return = direct };

	OK(ebpf_set_service(n->e, &s, &err));
}

static void set_port(struct node *n, uint16_t published, uint64_t service)
{
	struct ebpf_port p = { .proto = IPPROTO_TCP, .published = published, .target = 80, .service = service };

	OK(ebpf_set_port(n->e, &p, &err));
	p.proto = IPPROTO_UDP;
	OK(ebpf_set_port(n->e, &p, &err));
}

static void open_node(struct bed *b, int k, const char *cgroup)
{
	struct node *n = &b->n[k];
	struct ebpf_config c = {
		.pin_dir = n->pin, .cgroup = cgroup, .flows_max = 65536, .tunnel_port = 4789, .no_own_tunnel = by_device
	};
	struct ebpf_network in = {
		.vni = 4096, .subnet = ip_of("10.0.0.0"), .prefix = 24, .gateway = ip_of("10.0.0.1"), .ingress = true
	};
	struct ebpf_network ov = {
		.vni = 4097, .subnet = ip_of("10.0.1.0"), .prefix = 24, .gateway = ip_of("10.0.1.1")
	};
	struct dp_ip a1 = ip_of("172.31.8.11"), a2 = ip_of("172.31.8.12"), front = ip_of("172.31.9.11");
	static const char *const uplinks[] = { "up0", "un0", "ud0" };

	snprintf(n->pin, sizeof(n->pin), "%s/b%zu-%d", bpffs, (size_t)(b - beds), k);
	enter(n->ns);
	sh("ip link add vx type vxlan external dstport 4789 && ip link set vx mtu 1450 up; sysctl -qw "
	   "net.ipv4.conf.lo.accept_local=1 net.ipv4.conf.lo.route_localnet=1");
	c.self = k ? a2 : a1;
	c.vxlan_ifindex = if_nametoindex("vx");
	OK(ebpf_open(&c, &n->e, &err));
	for (size_t i = 0; i < ARRAY_SIZE(uplinks); i++)
		if (if_nametoindex(uplinks[i]))
			OK(ebpf_attach(n->e, EBPF_UPLINK, if_nametoindex(uplinks[i]), &err));
	OK(ebpf_attach(n->e, EBPF_LO, 1, &err));
	OK(ebpf_attach(n->e, EBPF_VXLAN, c.vxlan_ifindex, &err));
	OK(ebpf_set_host_addr(n->e, k ? &a2 : &a1, &err));
	/* Answers come back with the address that was dialled: the one of the ingress node, there. */
	OK(ebpf_set_host_addr(n->e, &front, &err));
	struct ebpf_way none = {}, way = { .ifindex = if_nametoindex("un0"), .next_hop = k ? a1 : a2, .mtu = 1500 };
	OK(ebpf_set_node(n->e, &a1, k ? &way : &none, &err));
	OK(ebpf_set_node(n->e, &a2, k ? &none : &way, &err));
	OK(ebpf_set_network(n->e, &in, &err));
	OK(ebpf_set_network(n->e, &ov, &err));
}

static void set_endpoint(struct node *n, uint32_t vni, const char *ip, bool local, const char *node)
{
	struct ebpf_endpoint ep = { .vni = vni, .ip = ip_of(ip), .local = local, .node = ip_of(node) };

	OK(ebpf_set_endpoint(n->e, &ep, &err));
}

static void set_ingress(struct bed *b, int k, const struct ours *o)
{
	bool local = k == (o->two ? 1 : 0);

	set_endpoint(&b->n[k], 4096, "10.0.0.12", local, "172.31.8.12");
	for (unsigned i = 1; i < o->services; i++) {
		set_service(&b->n[k], 1000 + i, 4096, "10.0.0.99", false, false);
		set_port(&b->n[k], (uint16_t)(20000 + i), 1000 + i);
	}
	set_service(&b->n[k], 11, 4096, "10.0.0.12", local, o->direct);
	set_port(&b->n[k], 8080, 11);
}

static struct bed *ours_mesh(const char *name, const char *peer, double aim, const struct ours *o)
{
	struct bed *b = bed_new(name, peer, aim);
	struct node *last = &b->n[o->two];

	b->client = new_ns();
	b->server = new_ns();
	b->n[0].ns = new_ns();
	wire(b->n[0].ns, "up0", "172.31.9.11/24", b->client, "eth0", "172.31.9.100/24", 1500);
	if (o->two) {
		b->n[1].ns = new_ns();
		wire(b->n[0].ns, "un0", "172.31.8.11/24", b->n[1].ns, "un0", "172.31.8.12/24", 1500);
		if (o->direct) {
			wire(b->n[1].ns, "ud0", "172.31.7.12/24", b->client, "eth1", "172.31.7.100/24", 1500);
			enter(b->n[1].ns);
			sh("ip route add 172.31.9.100/32 dev ud0");
		} else {
			enter(b->n[1].ns);
			sh("ip route add 172.31.9.0/24 via 172.31.8.11");
		}
	} else {
		enter(b->n[0].ns);
		sh("ip addr add 172.31.8.11/32 dev lo");
	}
	for (int k = 0; k <= (int)o->two; k++)
		open_node(b, k, NULL);
	link_task(last, b->server, "eth0", "10.0.1.12", 4097, "10.0.1.1", true);
	link_task(last, b->server, "eth1", "10.0.0.12", 4096, "10.0.0.1", false);
	for (int k = 0; k <= (int)o->two; k++)
		set_ingress(b, k, o);
	b->dial = "172.31.9.11";
	b->port = 8080;
	return b;
}

/* From task 10.0.1.11 to task 10.0.1.12 or to the VIP that stands for it. */
static struct bed *ours_overlay(const char *name, const char *peer, double aim, bool two, bool vip)
{
	static char cgroup[160];
	struct bed *b = bed_new(name, peer, aim);
	struct dp_ip v = ip_of("10.0.1.2");

	b->client = new_ns();
	b->server = new_ns();
	b->n[0].ns = new_ns();
	if (two) {
		b->n[1].ns = new_ns();
		wire(b->n[0].ns, "un0", "172.31.8.11/24", b->n[1].ns, "un0", "172.31.8.12/24", 1500);
	}
	if (vip) {
		snprintf(cgroup, sizeof(cgroup), "%s/vip", cgroups);
		if (mkdir(cgroup, 0755))
			die(cgroup);
		b->cgroup = cgroup;
	}
	for (int k = 0; k <= (int)two; k++)
		open_node(b, k, vip && !k ? cgroup : NULL);
	link_task(&b->n[0], b->client, "eth0", "10.0.1.11", 4097, "10.0.1.1", true);
	/* Both may be of one node: names of host ends differ. */
	link_task(&b->n[two], b->server, "eth2", "10.0.1.12", 4097, "10.0.1.1", true);
	for (int k = 0; k <= (int)two; k++) {
		set_endpoint(&b->n[k], 4097, "10.0.1.11", k == 0, "172.31.8.11");
		set_endpoint(&b->n[k], 4097, "10.0.1.12", k == (int)two, "172.31.8.12");
	}
	set_service(&b->n[0], 12, 4097, "10.0.1.12", !two, false);
	OK(ebpf_set_vip(b->n[0].e, &v, 12, &err));
	b->dial = vip ? "10.0.1.2" : "10.0.1.12";
	b->port = 80;
	return b;
}

/* ---- the others ---- */

/* Client, node, server, routed. */
static struct bed *plain(const char *name, const char *peer)
{
	struct bed *b = bed_new(name, peer, 0);

	b->client = new_ns();
	b->server = new_ns();
	b->n[0].ns = new_ns();
	wire(b->n[0].ns, "up0", "172.31.9.11/24", b->client, "eth0", "172.31.9.100/24", 1500);
	wire(b->n[0].ns, "ht", "10.0.0.1/24", b->server, "eth0", "10.0.0.12/24", 1500);
	enter(b->server);
	sh("ip route add default via 10.0.0.1");
	enter(b->client);
	sh("ip route add 10.0.0.0/24 via 172.31.9.11");
	enter(b->n[0].ns);
	b->dial = "10.0.0.12";
	b->port = 80;
	return b;
}

static struct bed *dnat(struct bed *b)
{
	b->dial = "172.31.9.11";
	b->port = 8080;
	return b;
}

static void nft_dnat(const char *name, unsigned services)
{
	char path[] = "/tmp/mesh-bench-nft-XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	dnat(plain(name, "direct, routed by the node"));
	if (!f)
		die(path);
	fprintf(f, "table ip b {\n map ports { typeof meta l4proto . th dport : ip daddr . th dport; elements = {\n");
	for (unsigned i = 1; i < services; i++)
		fprintf(f, "tcp . %u : 10.0.0.99 . 80,\n", 10000 + i);
	fprintf(f, "tcp . 8080 : 10.0.0.12 . 80, udp . 8080 : 10.0.0.12 . 80 } }\n"
	           " chain pre { type nat hook prerouting priority -100;\n"
	           "  fib daddr type local dnat to meta l4proto . th dport map @ports\n }\n"
	           " chain post { type nat hook postrouting priority 100;\n  meta mark 0x4000 masquerade\n }\n}\n");
	fclose(f);
	sh("nft -f %s", path);
	unlink(path);
}

static void iptables_dnat(const char *name, const char *tool, unsigned services)
{
	char path[] = "/tmp/mesh-bench-ipt-XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	dnat(plain(name, "direct, routed by the node"));
	if (!f)
		die(path);
	fprintf(f, "*nat\n:SERVICES - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j SERVICES\n");
	for (unsigned i = 1; i < services; i++)
		fprintf(f, "-A SERVICES -p tcp -m tcp --dport %u -j DNAT --to-destination 10.0.0.99:80\n", 10000 + i);
	fprintf(f, "-A SERVICES -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.12:80\n"
	           "-A SERVICES -p udp -m udp --dport 8080 -j DNAT --to-destination 10.0.0.12:80\nCOMMIT\n");
	fclose(f);
	sh("%s-restore < %s", tool, path);
	unlink(path);
}

static void haproxy(void)
{
	char path[96], pids[112], dir[64];

	if (access("/usr/sbin/haproxy", X_OK)) {
		printf("no haproxy here: make bench-peers installs it\n");
		return;
	}
	struct bed *b = dnat(plain("HAProxy, TCP mode, in the node", "direct, routed by the node"));
	snprintf(dir, sizeof(dir), "%s", bpffs);
	snprintf(path, sizeof(path), "%s.cfg", dir);
	snprintf(pids, sizeof(pids), "%s.pid", dir);
	FILE *f = fopen(path, "we");
	if (!f)
		die(path);
	fprintf(f, "global\n nbthread 1\n maxconn 2000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client "
	           "30s\n timeout server 30s\n"
	           "listen l\n bind 172.31.9.11:8080\n server s 10.0.0.12:80\n");
	fclose(f);
	sh("haproxy -D -q -f %s -p %s", path, pids);
	f = fopen(pids, "re");
	if (!f || fscanf(f, "%d", &b->helper) != 1)
		die(pids);
	fclose(f);
	unlink(path);
	unlink(pids);
	b->no_udp = true;
}

static struct bed *routed_two(void)
{
	struct bed *b = bed_new("routed over two nodes", "", 0);

	b->client = new_ns();
	b->server = new_ns();
	b->n[0].ns = new_ns();
	b->n[1].ns = new_ns();
	wire(b->n[0].ns, "up0", "172.31.9.11/24", b->client, "eth0", "172.31.9.100/24", 1500);
	wire(b->n[0].ns, "un0", "172.31.8.11/24", b->n[1].ns, "un0", "172.31.8.12/24", 1500);
	wire(b->n[1].ns, "ht", "10.0.0.1/24", b->server, "eth0", "10.0.0.12/24", 1500);
	enter(b->server);
	sh("ip route add default via 10.0.0.1");
	enter(b->n[1].ns);
	sh("ip route add 172.31.9.0/24 via 172.31.8.11");
	enter(b->n[0].ns);
	sh("ip route add 10.0.0.0/24 via 172.31.8.12");
	enter(b->client);
	sh("ip route add 10.0.0.0/24 via 172.31.9.11");
	b->dial = "10.0.0.12";
	b->port = 80;
	return b;
}

/* Half of an overlay as Docker builds it: a bridge and a VXLAN device in a namespace of their own. */
static int vxlan_side(int node, const char *self, const char *other, int task, const char *dev, const char *addr,
                      const char *mac, const char *far_addr, const char *far_mac)
{
	int ns = new_ns();

	enter(node);
	sh("ip link add vx0 mtu 1450 type vxlan id 4098 local %s dstport 4790 nolearning proxy && "
	   "ip link set vx0 netns /proc/%d/fd/%d",
	   self, getpid(), ns);
	enter(ns);
	sh("ip link add br0 mtu 1450 type bridge && ip link set br0 up && ip link set vx0 master br0 up && "
	   "bridge fdb add %s dev vx0 dst %s self permanent && ip neigh add %s lladdr %s dev vx0 nud permanent",
	   far_mac, other, far_addr, far_mac);
	sh("ip link add p0 mtu 1450 type veth peer name %s address %s mtu 1450 netns /proc/%d/fd/%d && "
	   "ip link set p0 master br0 up",
	   dev, mac, getpid(), task);
	enter(task);
	sh("ip addr add %s/24 dev %s && ip link set %s up", addr, dev, dev);
	return ns;
}

static struct bed *vxlan_bridge(void)
{
	struct bed *b = bed_new("VXLAN and bridge, two nodes", "", 0);

	b->client = new_ns();
	b->server = new_ns();
	b->n[0].ns = new_ns();
	b->n[1].ns = new_ns();
	wire(b->n[0].ns, "un0", "172.31.8.11/24", b->n[1].ns, "un0", "172.31.8.12/24", 1500);
	vxlan_side(b->n[0].ns, "172.31.8.11", "172.31.8.12", b->client, "eth0", "10.0.1.11", "02:42:0a:00:01:0b",
	           "10.0.1.12", "02:42:0a:00:01:0c");
	vxlan_side(b->n[1].ns, "172.31.8.12", "172.31.8.11", b->server, "eth0", "10.0.1.12", "02:42:0a:00:01:0c",
	           "10.0.1.11", "02:42:0a:00:01:0b");
	b->dial = "10.0.1.12";
	b->port = 80;
	return b;
}

/* DNAT to the ingress sandbox, there mark, balance (statistic in IPVS's place) and SNAT, overlay, REDIRECT. */
static void swarm(void)
{
	struct bed *b = bed_new("Swarm-like ingress (statistic for IPVS)", "routed over two nodes", 0);
	int sbox;

	b->client = new_ns();
	b->server = new_ns();
	sbox = new_ns();
	b->n[0].ns = new_ns();
	b->n[1].ns = new_ns();
	wire(b->n[0].ns, "up0", "172.31.9.11/24", b->client, "eth0", "172.31.9.100/24", 1500);
	wire(b->n[0].ns, "un0", "172.31.8.11/24", b->n[1].ns, "un0", "172.31.8.12/24", 1500);
	wire(b->n[0].ns, "gw", "", sbox, "eth1", "172.18.0.2/16", 1500);
	enter(b->n[0].ns);
	sh("ip link add gwbr type bridge && ip link set gwbr up && ip addr add 172.18.0.1/16 dev gwbr && "
	   "ip link set gw master gwbr");
	for (int i = 0; i < 2; i++)
		sh("iptables-legacy -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p %s --dport 8080 -j DNAT "
		   "--to-destination 172.18.0.2:8080",
		   i ? "udp" : "tcp");
	sh("iptables-legacy -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-legacy -t nat -A "
	   "POSTROUTING -s 172.18.0.0/16 ! -o gwbr -j MASQUERADE");
	vxlan_side(b->n[0].ns, "172.31.8.11", "172.31.8.12", sbox, "eth0", "10.0.0.2", "02:42:0a:00:00:02", "10.0.0.12",
	           "02:42:0a:00:00:0c");
	vxlan_side(b->n[1].ns, "172.31.8.12", "172.31.8.11", b->server, "eth0", "10.0.0.12", "02:42:0a:00:00:0c",
	           "10.0.0.2", "02:42:0a:00:00:02");
	enter(sbox);
	sh("ip route add default via 172.18.0.1");
	for (int i = 0; i < 2; i++) {
		const char *proto = i ? "udp" : "tcp";
		sh("iptables-legacy -t mangle -A PREROUTING -p %s --dport 8080 -j MARK --set-mark 0x100; "
		   "iptables-legacy -t nat "
		   "-A PREROUTING -m mark --mark 0x100 -p %s -m statistic --mode random --probability 1 -j DNAT "
		   "--to-destination 10.0.0.12:8080",
		   proto, proto);
		enter(b->server);
		sh("iptables-legacy -t nat -A PREROUTING -p %s --dport 8080 -j REDIRECT --to-ports 80; iptables-legacy "
		   "-A INPUT "
		   "-p %s --dport 80 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
		   proto, proto);
		enter(sbox);
	}
	sh("iptables-legacy -t nat -A POSTROUTING -d 10.0.0.0/24 -m mark --mark 0x100 -j SNAT --to-source 10.0.0.2");
	dnat(b);
}

/* ---- load ---- */

static double now_of(clockid_t c)
{
	struct timespec t;

	clock_gettime(c, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The helper's CPU time in us. */
static double helper_cpu(pid_t pid)
{
	unsigned long long ns = 0;
	char path[64];

	if (!pid)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "%llu", &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	return (double)ns / 1e3;
}

struct ends {
	int listener, udp, out;
	struct sockaddr_in to;
};

static void need(bool ok, const char *what)
{
	if (!ok)
		die(what);
}

static void open_pair(const struct ends *e, int *c, int *s)
{
	int one = 1;

	*c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(*c >= 0 && connect(*c, (const struct sockaddr *)&e->to, sizeof(e->to)) == 0, "connect");
	*s = accept4(e->listener, NULL, NULL, SOCK_CLOEXEC);
	need(*s >= 0, "accept");
	setsockopt(*c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(*s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void ask(int c, int s)
{
	char x = 'x';

	need(write(c, &x, 1) == 1 && read(s, &x, 1) == 1 && write(s, &x, 1) == 1 && read(c, &x, 1) == 1, "request");
}

static void one_crr(const struct ends *e)
{
	int c, s;

	open_pair(e, &c, &s);
	ask(c, s);
	close(c);
	close(s);
}

static void bulk(int c, int s)
{
	static char data[128 << 10];
	size_t sent = 0, got = 0, all = (size_t)BULK_MB << 20;

	fcntl(c, F_SETFL, O_NONBLOCK);
	fcntl(s, F_SETFL, O_NONBLOCK);
	while (got < all) {
		ssize_t n = sent < all ? write(c, data, sizeof(data)) : 0;
		sent += n > 0 ? (size_t)n : 0;
		while ((n = read(s, data, sizeof(data))) > 0)
			got += (size_t)n;
		need(n != 0, "bulk");
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static struct figure measure(const struct ends *e, enum op op)
{
	static const int counts[] = { CRR_N, RR_N, BULK_MB, UDP_N };
	static double took[RR_N + UDP_N];
	int n = counts[op], c = -1, s = -1;
	char x[64] = "x";

	if (op == RR || op == BULK)
		open_pair(e, &c, &s);
	double w0 = now_of(CLOCK_MONOTONIC), c0 = now_of(CLOCK_PROCESS_CPUTIME_ID), last = w0;
	if (op == BULK)
		bulk(c, s);
	for (int i = 0; op != BULK && i < n; i++) {
		if (op == CRR)
			one_crr(e);
		else if (op == RR)
			ask(c, s);
		else
			need(sendto(e->out, x, sizeof(x), 0, (const struct sockaddr *)&e->to, sizeof(e->to)) ==
			                     sizeof(x) &&
			             recv(e->udp, x, sizeof(x), 0) == sizeof(x),
			     "datagram");
		double t = now_of(CLOCK_MONOTONIC);
		took[i] = t - last;
		last = t;
	}
	struct figure f = { .cpu_us = (now_of(CLOCK_PROCESS_CPUTIME_ID) - c0) / n,
		            .wall_us = (now_of(CLOCK_MONOTONIC) - w0) / n };
	if (op != BULK) {
		qsort(took, (size_t)n, sizeof(*took), by_value);
		f.wall_us = took[n / 2];
		f.p99_us = took[n * 99 / 100];
	}
	if (c >= 0)
		close(c);
	if (s >= 0)
		close(s);
	return f;
}

static void join_cgroup(const char *dir)
{
	CLEAN_FREE char *path = xasprintf("%s/cgroup.procs", dir);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		die(path);
	close(fd);
}

/* In a child, which is client and server of one path for one round. */
static void child(struct bed *b, int out)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons((uint16_t)b->listen_port) };
	struct ends e = { .to = { .sin_family = AF_INET, .sin_port = htons(b->port) } };
	struct timeval limit = { .tv_sec = 5 };
	struct figure f[OP_MAX] = {};
	int one = 1;

	inet_pton(AF_INET, b->dial, &e.to.sin_addr);
	enter(b->server);
	e.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	e.udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	setsockopt(e.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(e.listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(e.udp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	need(!bind(e.listener, (struct sockaddr *)&any, sizeof(any)) && !listen(e.listener, 64) &&
	             !bind(e.udp, (struct sockaddr *)&any, sizeof(any)),
	     "listen");
	enter(b->client);
	e.out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (b->cgroup)
		join_cgroup(b->cgroup);
	for (int i = 0; i < 50; i++)
		one_crr(&e);
	for (enum op op = 0; op < OP_MAX; op++) {
		static const int counts[] = { CRR_N, RR_N, BULK_MB, UDP_N };
		double h = helper_cpu(b->helper);
		if (op == UDP && b->no_udp)
			continue;
		f[op] = measure(&e, op);
		f[op].cpu_us += (helper_cpu(b->helper) - h) / counts[op];
	}
	need(write(out, f, sizeof(f)) == sizeof(f), "result");
	exit(0);
}

static void run_round(struct bed *b, int r)
{
	struct figure f[OP_MAX] = {};
	int p[2], status;

	need(pipe2(p, O_CLOEXEC) == 0, "pipe");
	fflush(stdout);
	pid_t pid = fork();
	need(pid >= 0, "fork");
	if (!pid)
		child(b, p[1]);
	close(p[1]);
	ssize_t n = read(p[0], f, sizeof(f));
	close(p[0]);
	waitpid(pid, &status, 0);
	if (n != sizeof(f) || status) {
		fprintf(stderr, "bench-path: %s failed\n", b->name);
		exit(1);
	}
	for (enum op op = 0; r >= 0 && op < OP_MAX; op++) {
		b->cpu[op][r] = f[op].cpu_us;
		b->wall[op][r] = f[op].wall_us;
		b->p99[op][r] = f[op].p99_us;
	}
}

/* ---- report ---- */

static double median(const double *v, int n)
{
	double s[ROUNDS_MAX];

	memcpy(s, v, (size_t)n * sizeof(*v));
	qsort(s, (size_t)n, sizeof(*s), by_value);
	return s[n / 2];
}

static const struct bed *bed_of(const char *name)
{
	for (size_t i = 0; i < n_beds; i++)
		if (!strcmp(beds[i].name, name))
			return &beds[i];
	return NULL;
}

/* The median of the rounds' own ratios: what disturbs a round disturbs both. */
static double ratio(const struct bed *b, const struct bed *p, enum op op, int rounds)
{
	double v[ROUNDS_MAX];

	for (int r = 0; r < rounds; r++)
		v[r] = p->cpu[op][r] > 0 ? b->cpu[op][r] / p->cpu[op][r] : 0;
	return median(v, rounds);
}

static void print_machine(int rounds)
{
	struct utsname u;
	char line[256], cpu[128] = "unknown";
	FILE *f = fopen("/proc/cpuinfo", "re");

	uname(&u);
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "model name : %127[^\n]", cpu) == 1)
			break;
	if (f)
		fclose(f);
	printf("%s, %ld CPUs, Linux %s; %d interleaved rounds; us of CPU, wall p50 and p99, and CPU times the peer's\n",
	       cpu, sysconf(_SC_NPROCESSORS_ONLN), u.release, rounds);
}

static void print_op(enum op op, int rounds, FILE *json)
{
	printf("\nper %s\n%-46s %8s %8s %8s  %s\n", op_names[op], "path", "CPU", "p50", "p99", "ratio");
	for (size_t i = 0; i < n_beds; i++) {
		const struct bed *b = &beds[i], *p = bed_of(b->peer);
		double cpu = median(b->cpu[op], rounds), wall = median(b->wall[op], rounds),
		       p99 = median(b->p99[op], rounds);
		if (cpu <= 0)
			continue;
		printf("%-46s %8.2f %8.2f %8.2f", b->name, cpu, wall, p99);
		if (p) {
			double x = ratio(b, p, op, rounds);
			printf("  %.2f of %s", x, p->name);
			if (b->aim > 0 && op <= RR)
				printf(", aim %.2f %s", b->aim, x <= b->aim ? "met" : "missed");
		}
		printf("\n");
		if (json)
			fprintf(json,
			        "%s\n  {\"path\": \"%s\", \"per\": \"%s\", \"cpu_us\": %.3f, \"p50_us\": %.3f, "
			        "\"p99_us\": %.3f, "
			        "\"peer\": \"%s\", \"ratio\": %.3f}",
			        op || i ? "," : "", b->name, op_names[op], cpu, wall, p99, p ? p->name : "",
			        p ? ratio(b, p, op, rounds) : 1.0);
	}
}

static const char *cgroup2(void)
{
	return access("/sys/fs/cgroup/unified/cgroup.procs", W_OK) ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
}

static void cleanup(void)
{
	/* Children leave by exit() too. */
	if (getpid() != owner)
		return;
	for (size_t i = 0; i < n_beds; i++) {
		if (beds[i].helper)
			kill(beds[i].helper, SIGTERM);
		for (int k = 0; k < 2; k++)
			if (beds[i].n[k].e) {
				enter(beds[i].n[k].ns);
				ebpf_destroy(beds[i].n[k].e);
				beds[i].n[k].e = NULL;
			}
		if (beds[i].cgroup)
			rmdir(beds[i].cgroup);
	}
	enter(home);
	umount2(bpffs, MNT_DETACH);
	rmdir(bpffs);
	rmdir(cgroups);
}

static void make_beds(void)
{
	static const struct ours here = { .client = true, .services = 1 }, many = { .client = true, .services = MANY },
				 far = { .client = true, .two = true, .services = 1 },
				 dsr = { .client = true, .two = true, .direct = true, .services = 1 };

	plain("direct, routed by the node", "");
	ours_mesh("mesh, task on the node dialled", "direct, routed by the node", 0, &here);
	ours_mesh("mesh, 1500 services", "mesh, task on the node dialled", 1.05, &many);
	nft_dnat("nft DNAT, 1 service", 1);
	nft_dnat("nft DNAT, 10000 services (one map)", 10000);
	iptables_dnat("iptables DNAT, 1 service", "iptables-legacy", 1);
	iptables_dnat("iptables DNAT, 10000 services", "iptables-legacy", 10000);
	haproxy();
	routed_two();
	ours_mesh("mesh over two nodes, return=tunnel", "routed over two nodes", 1.15, &far);
	ours_mesh("mesh over two nodes, return=direct", "routed over two nodes", 1.15, &dsr);
	swarm();
	vxlan_bridge();
	ours_overlay("overlay, two nodes", "VXLAN and bridge, two nodes", 0.85, true, false);
	ours_overlay("task to task, same node", "", 0, false, false);
	ours_overlay("task to VIP, same node", "task to task, same node", 1.02, false, true);
}

int main(int argc, char **argv)
{
	const char *out = NULL, *part = NULL;
	int rounds = 7, o;
	cpu_set_t one;

	while ((o = getopt(argc, argv, "r:o:p:d")) != -1) {
		if (o == 'r')
			rounds = atoi(optarg);
		else if (o == 'o')
			out = optarg;
		else if (o == 'p')
			part = optarg;
		else if (o == 'd')
			by_device = true;
		else
			return 2;
	}
	if (rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	need(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount namespace");
	strcpy(bpffs, "/tmp/mesh-bench-XXXXXX");
	need(mkdtemp(bpffs) && !mount("bpf", bpffs, "bpf", 0, NULL), "bpffs");
	snprintf(cgroups, sizeof(cgroups), "%s/mesh-bench-%d", cgroup2(), getpid());
	need(!mkdir(cgroups, 0755), cgroups);
	owner = getpid();
	CPU_ZERO(&one);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &one);
	sched_setaffinity(0, sizeof(one), &one);
	atexit(cleanup);
	make_beds();
	for (int r = -1; r < rounds; r++)
		for (size_t i = 0; i < n_beds; i++)
			if (!part || strstr(beds[i].name, part))
				run_round(&beds[i], r);
	FILE *json = out ? fopen(out, "we") : NULL;
	print_machine(rounds);
	if (json)
		fprintf(json, "[");
	for (enum op op = 0; op < OP_MAX; op++)
		print_op(op, rounds, json);
	if (json) {
		fprintf(json, "\n]\n");
		fclose(json);
	}
	return 0;
}
