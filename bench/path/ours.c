// SPDX-License-Identifier: GPL-2.0-or-later
/* Beds of our own data plane. */
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/path/path.h"

/*
 * Two nodes, a client outside and a task a bed dials from or to. Loading the programs is most of the work of making a
 * bed, under emulation above all, so that beds share a world: they differ in what is dialled.
 *
 *   outside 172.31.9.100 ── up0 n1 un0 ── un0 n2 ud0 ── outside (the way back of direct return)
 *   n1: tasks .11 and .13     n2: task .12     ports 8080 .12, 8081 .12 with direct return, 8082 .13
 */
struct node {
	int ns;
	struct ebpf *e;
	char pin[96];
};
struct world {
	unsigned services;
	struct node n[2];
	int outside, t11, t12, t13;
	char cgroup[160];
};
enum { WORLDS_MAX = 4 };
static struct world worlds[WORLDS_MAX];
static size_t n_worlds;

static void link_task(struct node *n, int ns, const char *dev, const char *addr, uint32_t vni, const char *gateway,
                      bool route)
{
	struct dp_ip ip = ip_of(addr);
	struct ebpf_iface i = { .vni = vni, .ip = ip, .task = ip.b[15], .host_mac = { 2, 0, 0, 0, 0, 1 } };
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

static void open_node(struct world *w, int k)
{
	struct node *n = &w->n[k];
	struct ebpf_config c = { .pin_dir = n->pin,
		                 .cgroup = k ? NULL : w->cgroup,
		                 .flows_max = 65536,
		                 .tunnel_port = 4789,
		                 .no_own_tunnel = by_device };
	struct ebpf_network in = {
		.vni = 4096, .subnet = ip_of("10.0.0.0"), .prefix = 24, .gateway = ip_of("10.0.0.1"), .ingress = true
	};
	struct ebpf_network ov = {
		.vni = 4097, .subnet = ip_of("10.0.1.0"), .prefix = 24, .gateway = ip_of("10.0.1.1")
	};
	struct dp_ip a1 = ip_of("172.31.8.11"), a2 = ip_of("172.31.8.12"), front = ip_of("172.31.9.11");
	static const char *const uplinks[] = { "up0", "un0", "ud0" };

	snprintf(n->pin, sizeof(n->pin), "%s/w%zu-%d", bpffs, (size_t)(w - worlds), k);
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

static void set_tables(struct world *w, int k)
{
	struct node *n = &w->n[k];

	set_endpoint(n, 4097, "10.0.1.11", !k, "172.31.8.11");
	set_endpoint(n, 4097, "10.0.1.13", !k, "172.31.8.11");
	set_endpoint(n, 4096, "10.0.0.13", !k, "172.31.8.11");
	set_endpoint(n, 4097, "10.0.1.12", k, "172.31.8.12");
	set_endpoint(n, 4096, "10.0.0.12", k, "172.31.8.12");
	for (unsigned i = 1; i < w->services; i++) {
		set_service(n, 1000 + i, 4096, "10.0.0.99", false, false);
		set_port(n, (uint16_t)(10000 + i), 1000 + i);
	}
	set_service(n, 11, 4096, "10.0.0.12", k, false);
	set_port(n, 8080, 11);
	set_service(n, 12, 4096, "10.0.0.12", k, true);
	set_port(n, 8081, 12);
	set_service(n, 13, 4096, "10.0.0.13", !k, false);
	set_port(n, 8082, 13);
}

static struct world *world_of(const struct bed *b)
{
	struct dp_ip vip = ip_of("10.0.1.2");

	for (size_t i = 0; i < n_worlds; i++)
		if (worlds[i].services == b->kind->services)
			return &worlds[i];
	need(n_worlds < WORLDS_MAX, "worlds");
	struct world *w = &worlds[n_worlds++];
	w->services = b->kind->services;
	snprintf(w->cgroup, sizeof(w->cgroup), "%s/w%zu", cgroups, n_worlds);
	need(mkdir(w->cgroup, 0755) == 0, w->cgroup);
	int *const all[] = { &w->outside, &w->t11, &w->t12, &w->t13, &w->n[0].ns, &w->n[1].ns };
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		*all[i] = new_ns();
	wire(w->n[0].ns, "up0", "172.31.9.11/24", w->outside, "eth0", "172.31.9.100/24", 1500);
	wire(w->n[0].ns, "un0", "172.31.8.11/24", w->n[1].ns, "un0", "172.31.8.12/24", 1500);
	wire(w->n[1].ns, "ud0", "172.31.7.12/24", w->outside, "eth1", "172.31.7.100/24", 1500);
	enter(w->n[1].ns);
	sh("ip route add 172.31.9.100/32 dev ud0");
	open_node(w, 0);
	open_node(w, 1);
	link_task(&w->n[0], w->t11, "a0", "10.0.1.11", 4097, "10.0.1.1", true);
	link_task(&w->n[0], w->t13, "b0", "10.0.1.13", 4097, "10.0.1.1", true);
	link_task(&w->n[0], w->t13, "b1", "10.0.0.13", 4096, "10.0.0.1", false);
	link_task(&w->n[1], w->t12, "c0", "10.0.1.12", 4097, "10.0.1.1", true);
	link_task(&w->n[1], w->t12, "c1", "10.0.0.12", 4096, "10.0.0.1", false);
	set_tables(w, 0);
	set_tables(w, 1);
	set_service(&w->n[0], 14, 4097, "10.0.1.13", true, false);
	OK(ebpf_set_vip(w->n[0].e, &vip, 14, &err));
	return w;
}

static void mesh(struct bed *b, uint16_t port, int task)
{
	b->client = world_of(b)->outside;
	b->server = task;
	b->dial = "172.31.9.11";
	b->port = port;
}

void mesh_here(struct bed *b)
{
	mesh(b, 8082, world_of(b)->t13);
}

void mesh_tunnel(struct bed *b)
{
	mesh(b, 8080, world_of(b)->t12);
}

void mesh_direct(struct bed *b)
{
	mesh(b, 8081, world_of(b)->t12);
}

static void from_task(struct bed *b, const char *dial, int task)
{
	b->client = world_of(b)->t11;
	b->server = task;
	b->dial = dial;
	b->port = 80;
}

void overlay_two(struct bed *b)
{
	from_task(b, "10.0.1.12", world_of(b)->t12);
}

void task_to_task(struct bed *b)
{
	from_task(b, "10.0.1.13", world_of(b)->t13);
}

void task_to_vip(struct bed *b)
{
	from_task(b, "10.0.1.2", world_of(b)->t13);
	b->cgroup = world_of(b)->cgroup;
}

void ours_destroy(void)
{
	for (size_t i = 0; i < n_worlds; i++) {
		for (int k = 0; k < 2; k++) {
			enter(worlds[i].n[k].ns);
			ebpf_destroy(worlds[i].n[k].e);
		}
		rmdir(worlds[i].cgroup);
	}
	n_worlds = 0;
}
