// SPDX-License-Identifier: GPL-2.0-or-later
/* Beds of what people use today. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/path/path.h"

/* Client, node, server, routed. */
void direct_routed(struct bed *b)
{
	b->client = new_ns();
	b->server = new_ns();
	b->node[0] = new_ns();
	wire(b->node[0], "up0", "172.31.9.11/24", b->client, "eth0", "172.31.9.100/24", 1500);
	wire(b->node[0], "ht", "10.0.0.1/24", b->server, "eth0", "10.0.0.12/24", 1500);
	enter(b->server);
	sh("ip route add default via 10.0.0.1");
	enter(b->client);
	sh("ip route add 10.0.0.0/24 via 172.31.9.11");
	enter(b->node[0]);
	b->dial = "10.0.0.12";
	b->port = 80;
}

/* The same, with the node dialled instead. */
static void dnat(struct bed *b)
{
	direct_routed(b);
	b->dial = "172.31.9.11";
	b->port = 8080;
}

void conntrack(struct bed *b)
{
	direct_routed(b);
	sh("iptables-legacy -A FORWARD -m conntrack --ctstate INVALID -j DROP");
}

void nft_dnat(struct bed *b)
{
	char path[] = "/tmp/mesh-bench-nft-XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	dnat(b);
	if (!f)
		die(path);
	fprintf(f, "table ip b {\n map ports { typeof meta l4proto . th dport : ip daddr . th dport; elements = {\n");
	for (unsigned i = 1; i < b->kind->services; i++)
		fprintf(f, "tcp . %u : 10.0.0.99 . 80,\n", 10000 + i);
	fprintf(f, "tcp . 8080 : 10.0.0.12 . 80, udp . 8080 : 10.0.0.12 . 80 } }\n"
	           " chain pre { type nat hook prerouting priority -100;\n"
	           "  fib daddr type local dnat to meta l4proto . th dport map @ports\n }\n"
	           " chain post { type nat hook postrouting priority 100;\n  meta mark 0x4000 masquerade\n }\n}\n");
	fclose(f);
	sh("nft -f %s", path);
	unlink(path);
}

void iptables_dnat(struct bed *b)
{
	char path[] = "/tmp/mesh-bench-ipt-XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	dnat(b);
	if (!f)
		die(path);
	fprintf(f, "*nat\n:SERVICES - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j SERVICES\n");
	for (unsigned i = 1; i < b->kind->services; i++)
		fprintf(f, "-A SERVICES -p tcp -m tcp --dport %u -j DNAT --to-destination 10.0.0.99:80\n", 10000 + i);
	fprintf(f, "-A SERVICES -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.12:80\n"
	           "-A SERVICES -p udp -m udp --dport 8080 -j DNAT --to-destination 10.0.0.12:80\nCOMMIT\n");
	fclose(f);
	sh("iptables-legacy-restore < %s", path);
	unlink(path);
}

void haproxy(struct bed *b)
{
	char path[96], pids[112], dir[64];

	if (access("/usr/sbin/haproxy", X_OK)) {
		printf("no haproxy here: make bench-peers installs it\n");
		b->absent = true;
		return;
	}
	dnat(b);
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

void routed_two(struct bed *b)
{
	b->client = new_ns();
	b->server = new_ns();
	b->node[0] = new_ns();
	b->node[1] = new_ns();
	wire(b->node[0], "up0", "172.31.9.11/24", b->client, "eth0", "172.31.9.100/24", 1500);
	wire(b->node[0], "un0", "172.31.8.11/24", b->node[1], "un0", "172.31.8.12/24", 1500);
	wire(b->node[1], "ht", "10.0.0.1/24", b->server, "eth0", "10.0.0.12/24", 1500);
	enter(b->server);
	sh("ip route add default via 10.0.0.1");
	enter(b->node[1]);
	sh("ip route add 172.31.9.0/24 via 172.31.8.11");
	enter(b->node[0]);
	sh("ip route add 10.0.0.0/24 via 172.31.8.12");
	enter(b->client);
	sh("ip route add 10.0.0.0/24 via 172.31.9.11");
	b->dial = "10.0.0.12";
	b->port = 80;
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

void vxlan_bridge(struct bed *b)
{
	b->client = new_ns();
	b->server = new_ns();
	b->node[0] = new_ns();
	b->node[1] = new_ns();
	wire(b->node[0], "un0", "172.31.8.11/24", b->node[1], "un0", "172.31.8.12/24", 1500);
	vxlan_side(b->node[0], "172.31.8.11", "172.31.8.12", b->client, "eth0", "10.0.1.11", "02:42:0a:00:01:0b",
	           "10.0.1.12", "02:42:0a:00:01:0c");
	vxlan_side(b->node[1], "172.31.8.12", "172.31.8.11", b->server, "eth0", "10.0.1.12", "02:42:0a:00:01:0c",
	           "10.0.1.11", "02:42:0a:00:01:0b");
	b->dial = "10.0.1.12";
	b->port = 80;
}

/*
 * Docker's routing mesh: DNAT to the ingress sandbox (a namespace), there the packet is marked, balanced and SNATed,
 * through the overlay to the task, whose namespace redirects the published port to its own. Rules as the engine
 * writes them. Without IPVS the statistic match balances in its place, which costs less.
 */
static void swarm_sandbox(struct bed *b, int sbox, bool ipvs)
{
	static const char *const protos[] = { "tcp", "udp" };

	enter(sbox);
	sh("ip route add default via 172.18.0.1");
	for (int i = 0; i < 2; i++)
		sh("iptables-legacy -t mangle -A PREROUTING -p %s --dport 8080 -j MARK --set-mark 0x100", protos[i]);
	if (ipvs) {
		sh("sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.conn_reuse_mode=0 net.ipv4.vs.expire_nodest_conn=1 "
		   "&& "
		   "ipvsadm -A -f 256 -s rr && ipvsadm -a -f 256 -r 10.0.0.12:0 -m -w 1 && "
		   "iptables-legacy -t nat -A POSTROUTING -d 10.0.0.0/24 -m ipvs --ipvs -j SNAT --to-source 10.0.0.2");
	} else {
		for (int i = 0; i < 2; i++)
			sh("iptables-legacy -t nat -A PREROUTING -m mark --mark 0x100 -p %s -m statistic --mode random "
			   "--probability 1 -j DNAT --to-destination 10.0.0.12:8080",
			   protos[i]);
		sh("iptables-legacy -t nat -A POSTROUTING -d 10.0.0.0/24 -m mark --mark 0x100 -j SNAT --to-source "
		   "10.0.0.2");
	}
	enter(b->server);
	for (int i = 0; i < 2; i++)
		sh("iptables-legacy -t nat -A PREROUTING -p %s --dport 8080 -j REDIRECT --to-ports 80; iptables-legacy "
		   "-A INPUT -p %s --dport 80 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
		   protos[i], protos[i]);
}

static void swarm_node(int node)
{
	enter(node);
	sh("ip link add gwbr type bridge && ip link set gwbr up && ip addr add 172.18.0.1/16 dev gwbr && "
	   "ip link set gw master gwbr");
	for (int i = 0; i < 2; i++)
		sh("iptables-legacy -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p %s --dport 8080 -j DNAT "
		   "--to-destination 172.18.0.2:8080",
		   i ? "udp" : "tcp");
	sh("iptables-legacy -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-legacy -t nat -A "
	   "POSTROUTING -s 172.18.0.0/16 ! -o gwbr -j MASQUERADE");
}

static void swarm_ingress(struct bed *b, bool ipvs)
{
	int sbox = new_ns();

	b->client = new_ns();
	b->server = new_ns();
	b->node[0] = new_ns();
	b->node[1] = new_ns();
	wire(b->node[0], "up0", "172.31.9.11/24", b->client, "eth0", "172.31.9.100/24", 1500);
	wire(b->node[0], "un0", "172.31.8.11/24", b->node[1], "un0", "172.31.8.12/24", 1500);
	wire(b->node[0], "gw", "", sbox, "eth1", "172.18.0.2/16", 1500);
	swarm_node(b->node[0]);
	vxlan_side(b->node[0], "172.31.8.11", "172.31.8.12", sbox, "eth0", "10.0.0.2", "02:42:0a:00:00:02", "10.0.0.12",
	           "02:42:0a:00:00:0c");
	vxlan_side(b->node[1], "172.31.8.12", "172.31.8.11", b->server, "eth0", "10.0.0.12", "02:42:0a:00:00:0c",
	           "10.0.0.2", "02:42:0a:00:00:02");
	swarm_sandbox(b, sbox, ipvs);
	b->dial = "172.31.9.11";
	b->port = 8080;
}

void swarm(struct bed *b)
{
	swarm_ingress(b, false);
}

/* IPVS registers itself in every namespace it is loaded for; where the kernel has none there is no bed. */
static bool have_ipvs(struct bed *b)
{
	b->absent = !sh_ok(
		"modprobe -qa ip_vs xt_ipvs 2>/dev/null; command -v ipvsadm >/dev/null && test -e /proc/net/ip_vs");
	if (b->absent)
		printf("%s: this kernel has no IPVS, or ipvsadm is missing\n", b->kind->name);
	return !b->absent;
}

void swarm_ipvs(struct bed *b)
{
	if (have_ipvs(b))
		swarm_ingress(b, true);
}

static void ipvs(struct bed *b, const char *scheduler, int conntrack_too)
{
	if (!have_ipvs(b))
		return;
	dnat(b);
	sh("sysctl -qw net.ipv4.vs.conntrack=%d", conntrack_too);
	for (int i = 0; i < 2; i++)
		sh("ipvsadm -A %s 172.31.9.11:8080 -s %s && ipvsadm -a %s 172.31.9.11:8080 -r 10.0.0.12:80 -m",
		   i ? "-u" : "-t", scheduler, i ? "-u" : "-t");
}

void ipvs_rr(struct bed *b)
{
	ipvs(b, "rr", 0);
}

void ipvs_mh(struct bed *b)
{
	ipvs(b, "mh", 0);
}

/* vs.conntrack alone does nothing: connections are tracked once a rule asks for it, as Docker's do. */
void ipvs_docker(struct bed *b)
{
	ipvs(b, "rr", 1);
	if (!b->absent)
		sh("iptables-legacy -t nat -A POSTROUTING -d 10.9.0.0/24 -m ipvs --ipvs -j SNAT --to-source 10.9.0.2");
}
