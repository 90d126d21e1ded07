// SPDX-License-Identifier: GPL-2.0-or-later
/* The node that packets come to: devices in a namespace of its own, one data plane with tasks here and elsewhere. */
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>

#include "bench/packet/packet.h"

static struct ebpf *e;

void make_devices(void)
{
	must(unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare");
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount");
	must(system("ip link set lo up; for d in up0 h0 h1 h2 vx; do ip link add $d type veth peer name p$d && "
	            "ip link set $d up && ip link set p$d up || exit 1; done; ip addr add 172.31.9.11/24 dev up0;"
	            "ip link set up0 address " UP0_MAC "; ip route add default via 172.31.9.1;"
	            "ip neigh add 172.31.9.1 lladdr " ROUTER_MAC " dev up0;"
	            "ip neigh add 172.31.9.12 lladdr 02:aa:00:00:00:0c dev up0;"
	            "sysctl -qw net.ipv4.ip_forward=1"),
	     "devices");
}

static void set_network(uint32_t vni, const char *subnet, const char *gateway, bool ingress)
{
	struct ebpf_network n = {
		.vni = vni, .subnet = ip_of(subnet), .prefix = 24, .gateway = ip_of(gateway), .ingress = ingress
	};

	OK(ebpf_set_network(e, &n, &err));
}

static void set_endpoint(uint32_t vni, const char *ip, bool local)
{
	struct ebpf_endpoint ep = { .vni = vni, .ip = ip_of(ip), .local = local };

	if (!local)
		ep.node = ip_of("172.31.9.12");
	OK(ebpf_set_endpoint(e, &ep, &err));
}

static void attach(const char *dev, uint32_t vni, const char *ip, uint32_t task)
{
	struct ebpf_iface i = { .ifindex = if_nametoindex(dev),
		                .vni = vni,
		                .ip = ip_of(ip),
		                .task = task,
		                .host_mac = { 2, 0, 0, 0, 0, 1 } };

	OK(ebpf_attach_task(e, &i, &err));
}

static void set_service(uint64_t key, uint32_t vni, const char *first, size_t n, bool local)
{
	struct ebpf_backend b[BACKENDS] = {};
	struct ebpf_service s = { .key = key, .vni = vni, .backends = b, .n = n };

	for (size_t i = 0; i < n; i++) {
		b[i].ip = ip_of(first);
		b[i].ip.b[15] = (uint8_t)(b[i].ip.b[15] + i);
		b[i].local = local;
		b[i].state = DP_SERVING;
		if (!local)
			b[i].node = ip_of("172.31.9.12");
	}
	OK(ebpf_set_service(e, &s, &err));
}

static void set_port(uint16_t published, uint16_t target, uint64_t service)
{
	struct ebpf_port p = { .proto = TCP, .published = published, .target = target, .service = service };

	OK(ebpf_set_port(e, &p, &err));
	p.proto = UDP;
	OK(ebpf_set_port(e, &p, &err));
}

struct ebpf *make_node(const char *pin, bool many)
{
	struct dp_ip n1 = ip_of("172.31.9.11"), n2 = ip_of("172.31.9.12"), vip = ip_of("10.0.1.2");
	struct ebpf_config c = { .pin_dir = pin,
		                 .self = n1,
		                 .vxlan_ifindex = if_nametoindex("vx"),
		                 .flows_max = FLOWS_MAX,
		                 .tunnel_port = 4789,
		                 .xdp = true,
		                 .test_tunnel = true,
		                 .test_room = true };

	struct ebpf_way none = {}, way = { .ifindex = if_nametoindex("up0"), .next_hop = n2, .mtu = 1500 };

	OK(ebpf_open(&c, &e, &err));
	struct ebpf_link link = { .turns = true };
	mac_of(UP0_MAC, link.mac);
	OK(ebpf_attach_xdp(e, if_nametoindex("up0"), &err));
	OK(ebpf_set_link(e, if_nametoindex("up0"), &link, &err));
	OK(ebpf_set_host_addr(e, &n1, &err));
	OK(ebpf_set_node(e, &n1, &none, &err));
	OK(ebpf_set_node(e, &n2, &way, &err));
	set_network(INGRESS_VNI, "10.0.0.0", "10.0.0.1", true);
	set_network(VNI, "10.0.1.0", "10.0.1.1", false);
	attach("h0", VNI, "10.0.1.11", 7);
	attach("h1", INGRESS_VNI, "10.0.0.11", 7);
	attach("h2", VNI, "10.0.1.13", 8);
	set_endpoint(INGRESS_VNI, "10.0.0.11", true);
	set_endpoint(VNI, "10.0.1.11", true);
	set_endpoint(VNI, "10.0.1.13", true);
	set_endpoint(VNI, "10.0.1.12", false);
	set_service(21, INGRESS_VNI, "10.0.0.11", 1, true);
	set_service(22, INGRESS_VNI, "10.0.0.100", BACKENDS, false);
	set_service(23, INGRESS_VNI, "10.0.0.11", 1, true);
	set_service(30, VNI, "10.0.1.12", 1, false);
	OK(ebpf_set_vip(e, &vip, 30, &err));
	set_port(8081, 80, 21);
	set_port(8082, 80, 22);
	set_port(8083, 81, 23);
	for (uint32_t i = 0; many && i < MANY; i++) {
		set_service(1000 + i, INGRESS_VNI, "10.0.0.200", BACKENDS, false);
		set_port((uint16_t)(MANY_PORT + i), 80, 1000 + i);
	}
	return e;
}
