// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a packet costs in each program, under BPF_PROG_TEST_RUN: ns and, where the machine counts them,
 * instructions. Rounds are interleaved and medians taken; the wrapper's own cost, measured in each round, is taken
 * off. Katran's figures (same method, this kind of machine) stand beside: nobody has its object here to run again.
 *
 *   bench/packet [-r rounds] [-n packets] [-o file.json] [-c part of a case's name]
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/perf_event.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <bpf/bpf.h>

#include "bench/bpf/wrap.h"
#include "bench/calls.h"
#include "bench/machine.h"
#include "dataplane/ebpf/internal.h"
#include "wrap.skel.h"

enum { SYN = 2, ACK = 16 };
enum { TCP = IPPROTO_TCP, UDP = IPPROTO_UDP };
#define INGRESS_VNI 4096
#define VNI 4097
#define BACKENDS 10
#define MANY 10000
#define MANY_PORT 20000 /* below EPHEMERAL_MIN of bpf/ingress.h to the last */
#define ROUNDS_MAX 99
#define TASK_MAC "02:42:0a:00:00:0b"
#define FROM_N2 "02:4c:ac:1f:09:0c"
#define REPLY_MAC "02:50:00:00:00:01"
#define UP0_MAC "02:aa:00:00:00:0b"

struct packet_of {
	enum ebpf_prog prog;
	const char *dev;
	const char *src, *dst;
	uint16_t sport, dport;
	uint8_t proto, tcp;
	enum wrap_vary vary;
	const char *smac, *dmac;
	uint32_t vni;
	bool outer; /* in outer headers from n2 */
};

/* katran: ns net of the wrapper, 0 = it has no such case. */
struct bench_case {
	const char *name;
	struct packet_of p;
	uint32_t flows, ports;
	int verdict;
	int katran;
	double aim; /* ns; 0 = none */
	bool once;  /* one packet at a time, see run_once() */
};

enum { FRAME = 64, OUTER = 50, FRAME_MAX = 128, ONCE = 2000 };

#define K (1u << 10)
/* A peer that is here: what other balancers pay for their flow table alone. */
#define TABLE "a 40-byte LRU lookup, nothing else"
#define AT_UP0(prog, port) prog, "up0", "10.64.0.0", "172.31.9.11", 0, port
/* An answer to a client, out of the tunnel. */
#define BACK(prog)                                                                                                     \
	prog, "up0", "172.31.9.11", "10.80.0.0", 8082, 0, TCP, ACK, WRAP_DST, .dmac = REPLY_MAC, .outer = true
#define IN_LOCAL PROG_UPLINK, "up0", "10.64.0.0", "172.31.9.11", 0, 8081
#define IN_FAR PROG_UPLINK, "up0", "10.64.0.0", "172.31.9.11", 0, 8082
#define IN_FLOOD PROG_UPLINK, "up0", "10.96.0.0", "172.31.9.11", 0, 8083
#define TUNNELLED                                                                                                      \
	PROG_VXLAN, "vx", "10.80.0.0", "172.31.9.12", 0, 8081, TCP, ACK, .smac = FROM_N2, .dmac = TASK_MAC,            \
									 .vni = INGRESS_VNI
#define ANSWER PROG_TASK, "h1", "10.0.0.11", "10.80.0.0", 80, 0, TCP, ACK, WRAP_DST, .smac = TASK_MAC

/* Order matters where flows must exist: a case that makes them comes before those that use them. */
static const struct bench_case cases[] = {
	{ "pass: TCP, port not published",
	  { PROG_UPLINK, "up0", "10.64.0.0", "172.31.9.11", 0, 22, TCP, ACK },
	  K,
	  0,
	  TC_ACT_UNSPEC,
	  52,
	  35 },
	{ "pass: not our address",
	  { PROG_UPLINK, "up0", "10.64.0.0", "10.99.0.1", 0, 8081, TCP, ACK },
	  K,
	  0,
	  TC_ACT_UNSPEC,
	  52,
	  35 },
	{ TABLE, { IN_FAR, TCP, ACK }, 1, 0, TC_ACT_UNSPEC },
	{ TABLE ", 64k flows", { IN_FAR, TCP, ACK }, 64 * K, 0, TC_ACT_UNSPEC },
	{ TABLE ", 512k flows", { IN_FAR, TCP, ACK }, 512 * K, 0, TC_ACT_UNSPEC },
	{ "ingress, task elsewhere: ACK, 1 flow", { IN_FAR, TCP, ACK }, 1, 0, TC_ACT_REDIRECT, 110, 73 },
	{ "ingress, task elsewhere: ACK, 64k flows", { IN_FAR, TCP, ACK }, 64 * K, 0, TC_ACT_REDIRECT, 173, 115 },
	{ "ingress, task elsewhere: ACK, 512k flows", { IN_FAR, TCP, ACK }, 512 * K, 0, TC_ACT_REDIRECT, 444, 296 },
	{ "ingress, task elsewhere: SYN, 1 flow", { IN_FAR, TCP, SYN }, 1, 0, TC_ACT_REDIRECT, 281, 187 },
	{ "ingress, task elsewhere: SYN, 64k flows", { IN_FAR, TCP, SYN }, 64 * K, 0, TC_ACT_REDIRECT, 491, 327 },
	{ "ingress, task elsewhere: UDP, 1 flow", { IN_FAR, UDP, 0 }, 1, 0, TC_ACT_REDIRECT, 141, 94 },
	{ "ingress, task elsewhere: UDP, 64k flows", { IN_FAR, UDP, 0 }, 64 * K, 0, TC_ACT_REDIRECT, 238, 159 },
	{ "ingress, task elsewhere: ACK, 10000 services", { IN_FAR, TCP, ACK }, 64 * K, MANY, TC_ACT_REDIRECT, 0, 173 },
	{ "XDP pass: TCP, port not published", { AT_UP0(PROG_XDP, 22), TCP, ACK }, K, 0, XDP_PASS, 52, 35 },
	{ "XDP pass: task here, 64k flows", { AT_UP0(PROG_XDP, 8081), TCP, ACK }, 64 * K, 0, XDP_PASS },
	{ "XDP, task elsewhere: ACK, 1 flow", { AT_UP0(PROG_XDP, 8082), TCP, ACK }, 1, 0, XDP_TX, 110, 73 },
	{ "XDP, task elsewhere: ACK, 64k flows", { AT_UP0(PROG_XDP, 8082), TCP, ACK }, 64 * K, 0, XDP_TX, 173, 115 },
	{ "XDP, task elsewhere: ACK, 512k flows", { AT_UP0(PROG_XDP, 8082), TCP, ACK }, 512 * K, 0, XDP_TX, 444, 296 },
	{ "XDP, task elsewhere: SYN, 64k flows", { AT_UP0(PROG_XDP, 8082), TCP, SYN }, 64 * K, 0, XDP_TX, 491, 327 },
	{ "XDP, task elsewhere: UDP, 64k flows", { AT_UP0(PROG_XDP, 8082), UDP, 0 }, 64 * K, 0, XDP_TX, 238, 159 },
	{ "one alone, task elsewhere, tc: ACK", { IN_FAR, TCP, ACK }, 0, 0, TC_ACT_REDIRECT, .once = true },
	{ "one alone, task elsewhere, XDP: ACK", { AT_UP0(PROG_XDP, 8082), TCP, ACK }, 0, 0, XDP_TX, .once = true },
	{ "one alone, tunnel to client, tc: ACK", { BACK(PROG_UPLINK) }, 0, 0, TC_ACT_REDIRECT, .once = true },
	{ "one alone, tunnel to client, XDP: ACK", { BACK(PROG_XDP) }, 0, 0, XDP_TX, .once = true },
	{ "tunnel to client, tc: ACK, 64k flows", { BACK(PROG_UPLINK) }, 64 * K, 0, TC_ACT_REDIRECT },
	{ "tunnel to client, XDP: ACK, 64k flows", { BACK(PROG_XDP) }, 64 * K, 0, XDP_TX },
	{ "ingress, task here: SYN, 1 flow", { IN_LOCAL, TCP, SYN }, 1, 0, TC_ACT_REDIRECT, 281, 187 },
	{ "ingress, task here: ACK, 1 flow", { IN_LOCAL, TCP, ACK }, 1, 0, TC_ACT_REDIRECT, 110, 73 },
	{ "ingress, task here: SYN, 64k flows", { IN_LOCAL, TCP, SYN }, 64 * K, 0, TC_ACT_REDIRECT, 491, 327 },
	{ "ingress, task here: ACK, 64k flows", { IN_LOCAL, TCP, ACK }, 64 * K, 0, TC_ACT_REDIRECT, 173, 115 },
	{ "ingress, task here: UDP, 1 flow", { IN_LOCAL, UDP, 0 }, 1, 0, TC_ACT_REDIRECT, 141, 94 },
	{ "ingress, task here: UDP, 64k flows", { IN_LOCAL, UDP, 0 }, 64 * K, 0, TC_ACT_REDIRECT, 238, 159 },
	{ "ingress, task here: ACK, 512k flows", { IN_LOCAL, TCP, ACK }, 512 * K, 0, TC_ACT_REDIRECT, 444, 296 },
	{ "ingress, task here: SYNs of 1024k strangers",
	  { IN_FLOOD, TCP, SYN },
	  1024 * K,
	  0,
	  TC_ACT_REDIRECT,
	  491,
	  327 },
	{ "tunnel to task: ACK, 1 flow", { TUNNELLED }, 1, 0, TC_ACT_REDIRECT, 0, 0 },
	{ "task's answer into tunnel, 1 flow", { ANSWER }, 1, 0, TC_ACT_REDIRECT, 0, 0 },
	{ "tunnel to task: ACK, 64k flows", { TUNNELLED }, 64 * K, 0, TC_ACT_REDIRECT, 0, 0 },
	{ "task's answer into tunnel, 64k flows", { ANSWER }, 64 * K, 0, TC_ACT_REDIRECT, 0, 0 },
	{ "overlay: task to task elsewhere",
	  { PROG_TASK, "h0", "10.0.1.11", "10.0.1.12", 5000, 80, TCP, ACK, .smac = "02:42:0a:00:01:0b" },
	  0,
	  0,
	  TC_ACT_REDIRECT,
	  0,
	  0 },
	{ "overlay: tunnel to task",
	  { PROG_VXLAN, "vx", "10.0.1.12", "10.0.1.11", 80, 5000, TCP, ACK, .vni = VNI },
	  0,
	  0,
	  TC_ACT_REDIRECT,
	  0,
	  0 },
	{ "overlay: task to task here",
	  { PROG_TASK, "h0", "10.0.1.11", "10.0.1.13", 5000, 80, TCP, ACK, .smac = "02:42:0a:00:01:0b" },
	  0,
	  0,
	  TC_ACT_REDIRECT,
	  0,
	  0 },
	{ "VIP packet by packet",
	  { PROG_TASK, "h0", "10.0.1.11", "10.0.1.2", 5000, 80, TCP, ACK, .smac = "02:42:0a:00:01:0b" },
	  0,
	  0,
	  TC_ACT_REDIRECT,
	  0,
	  0 },
};

struct figure {
	double ns[ROUNDS_MAX], insn[ROUNDS_MAX];
};
static struct figure figures[ARRAY_SIZE(cases)];
static struct ebpf *e;
static struct wrap_bpf *w;
static int insn_fd = -1;

static void must(int rc, const char *what)
{
	if (!rc)
		return;
	fprintf(stderr, "bench-packet: %s: %s\n", what, strerror(rc < 0 ? -rc : errno));
	exit(1);
}

/* ---- the node ---- */

static void mac_of(const char *text, uint8_t *mac)
{
	if (text &&
	    sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) != 6)
		abort();
}

static void make_devices(void)
{
	must(unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare");
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount");
	must(system("ip link set lo up; for d in up0 h0 h1 h2 vx; do ip link add $d type veth peer name p$d && "
	            "ip link set $d up && ip link set p$d up || exit 1; done; ip addr add 172.31.9.11/24 dev up0;"
	            "ip link set up0 address " UP0_MAC "; ip route add default via 172.31.9.1;"
	            "ip neigh add 172.31.9.1 lladdr 02:aa:00:00:00:64 dev up0;"
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

static void make_node(const char *pin)
{
	struct dp_ip n1 = ip_of("172.31.9.11"), n2 = ip_of("172.31.9.12"), vip = ip_of("10.0.1.2");
	struct ebpf_config c = { .pin_dir = pin,
		                 .self = n1,
		                 .vxlan_ifindex = if_nametoindex("vx"),
		                 .flows_max = 1024 * K,
		                 .tunnel_port = 4789,
		                 .xdp = true,
		                 .test_tunnel = true };

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
	for (uint32_t i = 0; i < MANY; i++) {
		set_service(1000 + i, INGRESS_VNI, "10.0.0.200", BACKENDS, false);
		set_port((uint16_t)(MANY_PORT + i), 80, 1000 + i);
	}
}

/* ---- packets ---- */

static uint16_t header_sum(const struct iphdr *ip)
{
	const uint16_t *h = (const void *)ip;
	uint32_t s = 0;

	for (int i = 0; i < 10; i++)
		s += h[i];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* The 64 bytes of a frame at f. */
static void frame_of(const struct packet_of *p, uint8_t *f)
{
	struct ethhdr *eth = (void *)f;
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	uint8_t *l4 = f + ETH_HLEN + sizeof(*ip);
	uint16_t ports[2] = { htons(p->sport), htons(p->dport) };

	mac_of(p->smac, eth->h_source);
	mac_of(p->dmac ? p->dmac : UP0_MAC, eth->h_dest);
	eth->h_proto = htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(50);
	ip->ttl = 64;
	ip->protocol = p->proto;
	inet_pton(AF_INET, p->src, &ip->saddr);
	inet_pton(AF_INET, p->dst, &ip->daddr);
	ip->check = header_sum(ip);
	memcpy(l4, ports, 4);
	if (p->proto == TCP) {
		l4[12] = 5 << 4;
		l4[13] = p->tcp;
		l4[16] = 1;
	} else {
		l4[5] = 30;
		l4[6] = 1;
	}
}

static size_t packet_of(const struct packet_of *p, uint8_t f[FRAME_MAX])
{
	static const struct packet_of outer = {
		.src = "172.31.9.12", .dst = "172.31.9.11", .sport = 40000, .dport = 4789, .proto = UDP
	};
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	uint8_t *udp = (void *)(ip + 1);

	memset(f, 0, FRAME_MAX);
	if (!p->outer) {
		frame_of(p, f);
		return FRAME;
	}
	frame_of(&outer, f);
	ip->tot_len = htons(FRAME + OUTER - ETH_HLEN);
	ip->check = 0;
	ip->check = header_sum(ip);
	udp[5] = FRAME + OUTER - ETH_HLEN - sizeof(*ip);
	udp[6] = 0;
	memset(udp + 8, 0, OUTER - ETH_HLEN - sizeof(*ip) - 8);
	udp[8] = 8;
	udp[13] = INGRESS_VNI >> 8;
	udp[14] = INGRESS_VNI & 0xff;
	frame_of(p, f + OUTER);
	return FRAME + OUTER;
}

static uint64_t instructions(void)
{
	uint64_t n = 0;

	return insn_fd >= 0 && read(insn_fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

struct cost {
	double ns, insn;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[n / 2];
}

/* What a test run takes. */
struct wire {
	uint8_t in[FRAME_MAX];
	uint32_t len, ctx_size;
	union {
		struct __sk_buff skb;
		struct xdp_md md;
	} ctx;
};

static struct wire wire_of(const struct packet_of *p)
{
	struct wire x = {};
	uint32_t dev = if_nametoindex(p->dev);

	x.len = (uint32_t)packet_of(p, x.in);
	if (p->prog == PROG_XDP) {
		x.ctx_size = sizeof(x.ctx.md);
		x.ctx.md = (struct xdp_md){ .data_end = x.len, .ingress_ifindex = dev };
	} else {
		x.ctx_size = sizeof(x.ctx.skb);
		x.ctx.skb = (struct __sk_buff){ .ifindex = dev, .mark = p->vni };
		if (p->prog == PROG_VXLAN)
			x.ctx.skb.priority = 172u << 24 | 31 << 16 | 9 << 8 | 12;
	}
	return x;
}

static struct cost test_run(int prog, struct wire *x, uint32_t n, int verdict)
{
	uint8_t out[256];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = x->in, .data_size_in = x->len, .data_out = out,
	            .data_size_out = sizeof(out), .ctx_in = &x->ctx, .ctx_size_in = x->ctx_size, .repeat = (int)n);
	uint64_t before = instructions();

	must(bpf_prog_test_run_opts(prog, &o), "test run");
	if ((int)o.retval != verdict) {
		fprintf(stderr, "bench-packet: verdict %d instead of %d\n", (int)o.retval, verdict);
		exit(1);
	}
	return (struct cost){ o.duration, (double)(instructions() - before) / n };
}

static struct cost run(int target, const struct packet_of *p, uint32_t n, int verdict)
{
	bool xdp = p->prog == PROG_XDP;
	struct wire x = wire_of(p);
	uint32_t zero = 0;

	memcpy(w->bss->wrap.frame, x.in, sizeof(x.in));
	w->bss->wrap.len = x.len;
	w->bss->wrap.at = p->outer ? OUTER : 0;
	must(bpf_map_update_elem(bpf_map__fd(xdp ? w->maps.next_xdp : w->maps.next), &zero, &target, BPF_ANY),
	     "tail call");
	return test_run(bpf_program__fd(xdp ? w->progs.again_xdp : w->progs.again), &x, n, verdict);
}

/*
 * Nothing undoes the mark of tunnels that bpf_skb_adjust_room leaves, and with it room is made only once. So tc's own
 * headers are measured one packet at a time, caches as a system call leaves them.
 */
static double run_once(int target, const struct packet_of *p, int verdict)
{
	struct wire x = wire_of(p);
	double ns[ONCE];

	ebpf_via_device(e, false);

	for (int i = 0; i < ONCE; i++)
		ns[i] = test_run(target, &x, 1, verdict).ns;
	return median(ns, ONCE);
}

static struct cost run_case(const struct bench_case *c, uint32_t n)
{
	struct wrap *k = &w->bss->wrap;

	/* Where headers of our own cannot be repeated, the device's way; see run_once(). */
	ebpf_via_device(e, c->p.prog != PROG_XDP && !c->p.outer);
	k->flow_mask = c->flows ? c->flows - 1 : 0;
	k->vary = !c->flows ? WRAP_NOTHING : c->p.vary ? c->p.vary : WRAP_SRC;
	k->ports = c->ports;
	k->first_port = MANY_PORT;
	if (!strncmp(c->name, TABLE, strlen(TABLE)))
		return run(bpf_program__fd(w->progs.table), &c->p, n, c->verdict);
	return run(e->prog_fd[c->p.prog], &c->p, n, c->verdict);
}

/* What the harness itself costs. */
struct harness {
	struct cost tc, xdp, outer_tc, outer_xdp; /* the wrapper and an empty program */
	double room;                              /* putting outer headers' room back, for tc */
	double once_tc, once_xdp;                 /* one run alone of an empty program */
};

static const struct packet_of in_tc = { IN_FAR, TCP, ACK }, in_xdp = { AT_UP0(PROG_XDP, 8082), TCP, ACK },
			      back_tc = { BACK(PROG_UPLINK) }, back_xdp = { BACK(PROG_XDP) };

static struct harness run_harness(uint32_t n)
{
	int tc = bpf_program__fd(w->progs.nothing), xdp = bpf_program__fd(w->progs.nothing_xdp);
	struct harness h = {};

	w->bss->wrap.flow_mask = 64 * K - 1;
	w->bss->wrap.ports = 0;
	w->bss->wrap.vary = WRAP_SRC;
	h.tc = run(tc, &in_tc, n, TC_ACT_UNSPEC);
	h.xdp = run(xdp, &in_xdp, n, XDP_PASS);
	w->bss->wrap.vary = WRAP_DST;
	h.outer_tc = run(tc, &back_tc, n, TC_ACT_UNSPEC);
	h.outer_xdp = run(xdp, &back_xdp, n, XDP_PASS);
	h.room = (run(bpf_program__fd(w->progs.shrink), &back_tc, n, TC_ACT_UNSPEC).ns - h.outer_tc.ns) / 2;
	h.once_tc = run_once(tc, &in_tc, TC_ACT_UNSPEC);
	h.once_xdp = run_once(xdp, &in_xdp, XDP_PASS);
	return h;
}

static struct cost net_cost(const struct bench_case *c, uint32_t n, const struct harness *h)
{
	bool xdp = c->p.prog == PROG_XDP;

	if (c->once) {
		double ns = run_once(e->prog_fd[c->p.prog], &c->p, c->verdict);
		return (struct cost){ .ns = ns - (xdp ? h->once_xdp : h->once_tc) };
	}
	struct cost x = run_case(c, n);
	const struct cost *own = c->p.outer ? (xdp ? &h->outer_xdp : &h->outer_tc) : xdp ? &h->xdp : &h->tc;
	x.ns -= own->ns + (c->p.outer && !xdp ? h->room : 0);
	x.insn -= own->insn;
	return x;
}

/* ---- figures ---- */

static void open_counter(void)
{
	struct perf_event_attr a = {
		.type = PERF_TYPE_HARDWARE, .size = sizeof(a), .config = PERF_COUNT_HW_INSTRUCTIONS, .exclude_user = 1
	};

	insn_fd = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0UL);
}

static void print_row(FILE *json, const struct bench_case *c, double ns, double insn, bool first)
{
	char ratio[16] = "-", aim[24] = "-", count[16] = "-", katran[16] = "-";

	if (c->katran) {
		snprintf(ratio, sizeof(ratio), "%.2f", ns / c->katran);
		snprintf(katran, sizeof(katran), "%d", c->katran);
	}
	if (c->aim > 0)
		snprintf(aim, sizeof(aim), "%.0f %s", c->aim, ns <= c->aim ? "met" : "missed");
	if (insn_fd >= 0)
		snprintf(count, sizeof(count), "%.0f", insn);
	printf("%-44s %8.1f %8s %8s %7s  %s\n", c->name, ns, count, katran, ratio, aim);
	if (json)
		fprintf(json, "%s\n    {\"case\": \"%s\", \"ns\": %.1f, \"instructions\": %.0f, \"katran_ns\": %d}",
		        first ? "" : ",", c->name, ns, insn, c->katran);
}

static void report(const char *path, const char *part, struct figure *null, int rounds, uint32_t n)
{
	FILE *json = path ? fopen(path, "we") : NULL;
	struct machine m = machine_of();
	bool first = true;

	double zero = median(null->ns, rounds);
	printf("%s, %ld CPUs, Linux %s; %d rounds of %u packets; wrapper %.1f ns, taken off\n", m.cpu, m.cpus, m.kernel,
	       rounds, n, zero);
	printf("%-44s %8s %8s %8s %7s  %s\n", "case", "ns", "insns", "katran*", "ratio", "aim");
	if (json) {
		fprintf(json, "{\n  ");
		machine_json(json, &m);
		fprintf(json, ",\n  \"rounds\": %d, \"wrapper_ns\": %.1f,\n  \"cases\": [", rounds, zero);
	}
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (part && !strstr(cases[i].name, part))
			continue;
		double ns = median(figures[i].ns, rounds), insn = median(figures[i].insn, rounds);
		print_row(json, &cases[i], ns, insn, first);
		first = false;
	}
	printf("* katran's figures are of an AMD EPYC VM, another machine than this (docs/performance.md)\n");
	if (json) {
		fprintf(json, "\n  ]\n}\n");
		fclose(json);
	}
}

int main(int argc, char **argv)
{
	static struct figure null;
	const char *out = NULL, *part = NULL;
	char bpffs[] = "/tmp/mesh-bench-XXXXXX", pin[64];
	uint32_t n = 300000;
	int rounds = 7, o;

	while ((o = getopt(argc, argv, "r:n:o:c:")) != -1) {
		if (o == 'r')
			rounds = atoi(optarg);
		else if (o == 'n')
			n = (uint32_t)atoi(optarg);
		else if (o == 'o')
			out = optarg;
		else if (o == 'c')
			part = optarg;
		else
			return 2;
	}
	if (rounds < 1 || rounds > ROUNDS_MAX || n < 1) {
		fprintf(stderr, "bench-packet: 1 to %d rounds, at least one packet\n", ROUNDS_MAX);
		return 2;
	}
	make_devices();
	must(mkdtemp(bpffs) ? 0 : -1, "mkdtemp");
	must(mount("bpf", bpffs, "bpf", 0, NULL), "bpffs");
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	w = wrap_bpf__open_and_load();
	must(w ? 0 : -1, "wrapper");
	make_node(pin);
	open_counter();
	for (int r = -1; r < rounds; r++) {
		struct harness h = run_harness(n);
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			if (part && !strstr(cases[i].name, part))
				continue;
			/* Before the first round every flow is seen once. */
			struct cost x = net_cost(&cases[i], r < 0 && cases[i].flows > n ? cases[i].flows : n, &h);
			if (r < 0)
				continue;
			figures[i].ns[r] = x.ns;
			figures[i].insn[r] = x.insn;
		}
		if (r >= 0)
			null.ns[r] = h.tc.ns;
	}
	report(out, part, &null, rounds, n);
	ebpf_destroy(e);
	wrap_bpf__destroy(w);
	umount2(bpffs, MNT_DETACH);
	rmdir(bpffs);
	return 0;
}
