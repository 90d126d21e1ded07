// SPDX-License-Identifier: GPL-2.0-or-later
/* Beds of our own data plane. */
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/path/path.h"

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		struct mesh_err err = {};                                                                              \
		int _rc = (call);                                                                                      \
		if (_rc) {                                                                                             \
			fprintf(stderr, "bench-path: %s: %s\n", #call, mesh_err_text(&err, _rc));                      \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

struct ours {
	bool two; /* the task is on another node than the client's */
	bool direct;
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
	struct ebpf_config c = { .pin_dir = n->pin, .cgroup = cgroup, .flows_max = 65536 };
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
	OK(ebpf_set_node(n->e, &a1, &err));
	OK(ebpf_set_node(n->e, &a2, &err));
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
	for (unsigned i = 1; i < b->kind->services; i++) {
		set_service(&b->n[k], 1000 + i, 4096, "10.0.0.99", false, false);
		set_port(&b->n[k], (uint16_t)(20000 + i), 1000 + i);
	}
	set_service(&b->n[k], 11, 4096, "10.0.0.12", local, o->direct);
	set_port(&b->n[k], 8080, 11);
}

static void ours_mesh(struct bed *b, const struct ours *o)
{
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
}

/* From task 10.0.1.11 to task 10.0.1.12 or to the VIP that stands for it. */
static void ours_overlay(struct bed *b, bool two, bool vip)
{
	static char cgroup[160];
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
}

void mesh_here(struct bed *b)
{
	ours_mesh(b, &(struct ours){});
}

void mesh_tunnel(struct bed *b)
{
	ours_mesh(b, &(struct ours){ .two = true });
}

void mesh_direct(struct bed *b)
{
	ours_mesh(b, &(struct ours){ .two = true, .direct = true });
}

void overlay_two(struct bed *b)
{
	ours_overlay(b, true, false);
}

void task_to_task(struct bed *b)
{
	ours_overlay(b, false, false);
}

void task_to_vip(struct bed *b)
{
	ours_overlay(b, false, true);
}

void ours_destroy(struct bed *b)
{
	for (int k = 0; k < 2; k++)
		if (b->n[k].e) {
			enter(b->n[k].ns);
			ebpf_destroy(b->n[k].e);
			b->n[k].e = NULL;
		}
	if (b->cgroup)
		rmdir(b->cgroup);
}
