// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The tc programs under BPF_PROG_TEST_RUN: tables of packet in, verdict, packet out, counter. Node n1 is
 * 172.31.9.11, n2 172.31.9.12; published: tcp/udp 8081 -> 10.0.0.11:80 (here), 8082 -> 10.0.0.12:80 (n2),
 * 8083 -> nobody, 8084 closed here, 9090 -> host mode here. Rows run in order and share flow state.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <bpf/bpf.h>
#include <cmocka.h>

#include "dataplane/ebpf/internal.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { TCP = IPPROTO_TCP, UDP = IPPROTO_UDP, ICMP = IPPROTO_ICMP };
enum dev { UP0, H0, H1, H2, VX, LO, DEV_MAX };
#define INGRESS_VNI 4096
#define VNI 4097

#define N1 "172.31.9.11"
#define N2 "172.31.9.12"
#define CLIENT "172.31.9.100"

static const char *const dev_names[] = { "up0", "h0", "h1", "h2", "vx", "lo" };
static unsigned devs[DEV_MAX];
static struct ebpf *e;
static char bpffs[64];

struct icmp_head {
	uint8_t type, code;
	uint16_t checksum;
};

/* A packet in words. NULL mac: do not care. */
struct pk {
	const char *smac, *dmac;
	const char *src, *dst;
	uint16_t sport, dport;
	uint8_t proto, tcp, ttl;
	uint16_t ether; /* 0 = IPv4 */
	uint16_t frag;
	uint8_t icmp; /* type */
	bool options; /* 8 bytes of IP options */
};

struct row {
	const char *name;
	enum ebpf_prog prog;
	enum dev dev;
	struct pk in;
	int verdict;
	int drop;  /* 1 + enum abi_drop */
	int event; /* 1 + enum abi_event */
	struct pk out;
	uint32_t vni; /* tunnel key, for PROG_VXLAN */
	const char *from;
};

#define DROPS(name) .verdict = TC_ACT_SHOT, .drop = 1 + DROP_##name
#define EVENT(name) .event = 1 + EVENT_##name

/* ---- frames ---- */

static uint32_t sum_words(const void *p, size_t n, uint32_t s)
{
	const uint8_t *b = p;

	for (size_t i = 0; i + 1 < n; i += 2)
		s += (uint32_t)b[i] << 8 | b[i + 1];
	if (n & 1)
		s += (uint32_t)b[n - 1] << 8;
	return s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static uint32_t pseudo(const struct iphdr *ip, size_t l4)
{
	return sum_words(&ip->saddr, 8, ip->protocol + (uint32_t)l4);
}

static void mac_of(const char *text, uint8_t mac[6])
{
	memset(mac, 0, 6);
	if (text)
		assert_int_equal(sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		                        &mac[4], &mac[5]),
		                 6);
}

static size_t build(const struct pk *p, uint8_t *f)
{
	struct ethhdr *eth = (void *)f;
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	size_t ihl = p->options ? 28 : 20, l4 = (p->proto == TCP ? 20 : 8) + 32;
	uint8_t *h = f + ETH_HLEN + ihl;

	memset(f, 0, 256);
	mac_of(p->smac, eth->h_source);
	mac_of(p->dmac, eth->h_dest);
	eth->h_proto = htons(p->ether ? p->ether : ETH_P_IP);
	if (p->ether)
		return 64;
	ip->version = 4;
	ip->ihl = ihl / 4;
	ip->tot_len = htons((uint16_t)(ihl + l4));
	ip->ttl = p->ttl ? p->ttl : 64;
	ip->protocol = p->proto;
	ip->frag_off = htons(p->frag);
	inet_pton(AF_INET, p->src, &ip->saddr);
	inet_pton(AF_INET, p->dst, &ip->daddr);
	ip->check = htons((uint16_t)~fold(sum_words(ip, ihl, 0)));
	for (int i = 0; i < 32; i++)
		h[l4 - 32 + i] = (uint8_t)i;
	*(uint16_t *)h = htons(p->sport);
	*(uint16_t *)(h + 2) = htons(p->dport);
	if (p->proto == TCP) {
		struct tcphdr *t = (void *)h;
		t->doff = 5;
		h[13] = p->tcp;
		t->check = htons((uint16_t)~fold(sum_words(h, l4, pseudo(ip, l4))));
	} else if (p->proto == UDP) {
		struct udphdr *u = (void *)h;
		u->len = htons((uint16_t)l4);
		u->check = htons((uint16_t)~fold(sum_words(h, l4, pseudo(ip, l4))));
	} else if (p->proto == ICMP) {
		struct icmp_head *i = (void *)h;
		memset(h, 0, 8);
		i->type = p->icmp;
		i->checksum = htons((uint16_t)~fold(sum_words(h, l4, 0)));
	}
	return ETH_HLEN + ihl + l4;
}

static void check_mac(const char *want, const uint8_t *got)
{
	uint8_t mac[6];

	if (!want)
		return;
	mac_of(want, mac);
	assert_memory_equal(mac, got, 6);
}

static void check_frame(const struct pk *p, const uint8_t *f, size_t n)
{
	const struct ethhdr *eth = (const void *)f;
	const struct iphdr *ip = (const void *)(f + ETH_HLEN);
	const uint8_t *h = f + ETH_HLEN + ip->ihl * 4;
	size_t l4 = n - (size_t)(h - f);
	char a[INET_ADDRSTRLEN];

	check_mac(p->smac, eth->h_source);
	check_mac(p->dmac, eth->h_dest);
	if (!p->src)
		return;
	assert_string_equal(inet_ntop(AF_INET, &ip->saddr, a, sizeof(a)), p->src);
	assert_string_equal(inet_ntop(AF_INET, &ip->daddr, a, sizeof(a)), p->dst);
	assert_int_equal(ip->ttl, p->ttl ? p->ttl : 64);
	assert_int_equal(fold(sum_words(ip, ip->ihl * 4, 0)), 0xffff);
	if (p->frag)
		return;
	if (p->proto == ICMP) {
		assert_int_equal(h[0], p->icmp);
		assert_int_equal(fold(sum_words(h, l4, 0)), 0xffff);
		return;
	}
	assert_int_equal(ntohs(*(const uint16_t *)h), p->sport);
	assert_int_equal(ntohs(*(const uint16_t *)(h + 2)), p->dport);
	assert_int_equal(fold(sum_words(h, l4, pseudo(ip, l4))), 0xffff);
}

/* ---- running ---- */

static uint64_t counter(int fd, uint32_t i)
{
	uint64_t v[256] = {}, sum = 0;

	assert_int_equal(bpf_map_lookup_elem(fd, &i, v), 0);
	for (int c = 0; c < 256; c++)
		sum += v[c];
	return sum;
}

static uint64_t all_drops(void)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < DROP_MAX; i++)
		sum += counter(e->drops_fd, i);
	return sum;
}

static int test_run(const struct row *r, uint8_t *frame, size_t n, uint8_t *out, size_t *out_len)
{
	struct __sk_buff skb = { .ifindex = devs[r->dev], .mark = r->vni };
	struct in_addr from;

	if (r->from && inet_pton(AF_INET, r->from, &from) == 1)
		skb.priority = ntohl(from.s_addr);
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = (uint32_t)n, .data_out = out,
	            .data_size_out = 512, .ctx_in = &skb, .ctx_size_in = sizeof(skb), .repeat = 1);
	assert_int_equal(bpf_prog_test_run_opts(e->prog_fd[r->prog], &o), 0);
	*out_len = o.data_size_out;
	return (int)o.retval;
}

static void run_row(const struct row *r)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	/* Off by two, so that what follows the Ethernet header is aligned. */
	uint8_t *frame = in_mem + 2, *out = out_mem + 2;
	size_t n = build(&r->in, frame), out_len;
	uint64_t dropped = r->drop ? counter(e->drops_fd, (uint32_t)r->drop - 1) : 0, all = all_drops();
	uint64_t event = r->event ? counter(e->events_fd, (uint32_t)r->event - 1) : 0;

	print_message("  %s\n", r->name);
	assert_int_equal(test_run(r, frame, n, out, &out_len), r->verdict);
	assert_int_equal(all_drops() - all, r->drop ? 1 : 0);
	if (r->drop)
		assert_int_equal(counter(e->drops_fd, (uint32_t)r->drop - 1) - dropped, 1);
	if (r->event)
		assert_int_equal(counter(e->events_fd, (uint32_t)r->event - 1) - event, 1);
	if (r->out.src || r->out.dmac)
		check_frame(&r->out, out, out_len);
	else if (r->verdict == TC_ACT_UNSPEC || r->verdict == TC_ACT_OK)
		assert_memory_equal(frame, out, n);
}

static void run_rows(const struct row *rows, size_t n)
{
	struct dp_ip t1;

	assert_int_equal(dp_ip_parse("10.0.0.11", &t1, NULL), 0);
	ebpf_flow_purge(e, &t1);
	for (size_t i = 0; i < n; i++)
		run_row(&rows[i]);
}
#define RUN(rows) run_rows(rows, ARRAY_SIZE(rows))

/* ---- the node ---- */

static struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;

	assert_int_equal(dp_ip_parse(text, &ip, NULL), 0);
	return ip;
}

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		struct mesh_err err = {};                                                                              \
		int _rc = (call);                                                                                      \
		if (_rc)                                                                                               \
			fail_msg("%s: %d %s", #call, _rc, mesh_err_text(&err, _rc));                                   \
	} while (0)

static void set_backend(uint64_t key, uint32_t vni, const char *ip, const char *node, enum dp_backend_state state)
{
	struct ebpf_backend b = { .state = state };
	struct ebpf_service s = { .key = key, .vni = vni, .backends = &b, .n = ip ? 1 : 0 };

	if (ip) {
		b.ip = ip_of(ip);
		b.local = !node;
		if (node)
			b.node = ip_of(node);
	}
	OK(ebpf_set_service(e, &s, &err));
}

static void set_endpoint(uint32_t vni, const char *ip, const char *node)
{
	struct ebpf_endpoint ep = { .vni = vni, .ip = ip_of(ip), .local = !node };

	if (node)
		ep.node = ip_of(node);
	OK(ebpf_set_endpoint(e, &ep, &err));
}

static void set_port(uint16_t published, uint64_t service, bool closed)
{
	struct ebpf_port p = { .published = published, .target = 80, .service = service, .closed_here = closed };

	p.proto = TCP;
	OK(ebpf_set_port(e, &p, &err));
	p.proto = UDP;
	OK(ebpf_set_port(e, &p, &err));
}

static void attach(enum dev dev, uint32_t vni, const char *ip, uint32_t task, bool internal)
{
	struct ebpf_iface i = { .ifindex = devs[dev],
		                .vni = vni,
		                .ip = ip_of(ip),
		                .task = task,
		                .host_mac = { 2, 0, 0, 0, 0, 1 },
		                .internal = internal };

	OK(ebpf_attach_task(e, &i, &err));
}

static void make_devices(void)
{
	assert_int_equal(unshare(CLONE_NEWNS | CLONE_NEWNET), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(
		system("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1;"
	               "ip link set lo up; for d in up0 h0 h1 h2 vx; do ip link add $d type veth peer name p$d && "
	               "ip link set $d up && ip link set p$d up || exit 1; done; ip addr add 172.31.9.11/24 dev up0;"
	               "ip neigh add 172.31.9.100 lladdr 02:aa:00:00:00:64 dev up0;"
	               "sysctl -qw net.ipv4.ip_forward=1"),
		0);
	for (int i = 0; i < DEV_MAX; i++) {
		devs[i] = if_nametoindex(dev_names[i]);
		assert_int_not_equal(devs[i], 0);
	}
}

static void open_node(const char *pin)
{
	struct ebpf_config c = {
		.pin_dir = pin, .self = ip_of(N1), .vxlan_ifindex = devs[VX], .flows_max = 1024, .test_tunnel = true
	};

	OK(ebpf_open(&c, &e, &err));
}

static void set_network(uint32_t vni, const char *subnet, const char *gateway, bool ingress)
{
	struct ebpf_network n = {
		.vni = vni, .subnet = ip_of(subnet), .prefix = 24, .gateway = ip_of(gateway), .ingress = ingress
	};

	OK(ebpf_set_network(e, &n, &err));
}

static int setup(void **state)
{
	struct ebpf_port host = { .proto = TCP,
		                  .published = 9090,
		                  .target = 81,
		                  .host_mode = true,
		                  .vni = INGRESS_VNI,
		                  .ip = ip_of("10.0.0.11") };
	struct dp_ip n1 = ip_of(N1), n2 = ip_of(N2), vip = ip_of("10.0.1.2");

	(void)state;
	make_devices();
	strcpy(bpffs, "/tmp/mesh-bpf-XXXXXX");
	assert_non_null(mkdtemp(bpffs));
	assert_int_equal(mount("bpf", bpffs, "bpf", 0, NULL), 0);
	char pin[96];
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	open_node(pin);
	OK(ebpf_set_host_addr(e, &n1, &err));
	OK(ebpf_set_node(e, &n1, &err));
	OK(ebpf_set_node(e, &n2, &err));
	set_network(INGRESS_VNI, "10.0.0.0", "10.0.0.1", true);
	set_network(VNI, "10.0.1.0", "10.0.1.1", false);
	set_network(4098, "10.0.2.0", "10.0.2.1", false);
	attach(H0, VNI, "10.0.1.11", 7, false);
	attach(H1, INGRESS_VNI, "10.0.0.11", 7, false);
	attach(H2, VNI, "10.0.1.13", 8, true);
	set_endpoint(INGRESS_VNI, "10.0.0.11", NULL);
	set_endpoint(INGRESS_VNI, "10.0.0.12", N2);
	set_endpoint(VNI, "10.0.1.11", NULL);
	set_endpoint(VNI, "10.0.1.13", NULL);
	set_endpoint(VNI, "10.0.1.12", N2);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
	set_backend(22, INGRESS_VNI, "10.0.0.12", N2, DP_SERVING);
	set_backend(23, INGRESS_VNI, NULL, NULL, 0);
	set_backend(30, VNI, "10.0.1.12", N2, DP_SERVING);
	OK(ebpf_set_vip(e, &vip, 30, &err));
	set_port(8081, 21, false);
	set_port(8082, 22, false);
	set_port(8083, 23, false);
	set_port(8084, 21, true);
	OK(ebpf_set_port(e, &host, &err));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ebpf_destroy(e);
	/* Everything is unpinned: only bpffs's own two entries stay. */
	char left[96];
	snprintf(left, sizeof(left), "%s/n1", bpffs);
	int there = access(left, F_OK);
	umount2(bpffs, MNT_DETACH);
	rmdir(bpffs);
	return there == 0 ? -1 : 0;
}

/* ---- tables ---- */

#define T1_MAC "02:42:0a:00:00:0b"
#define T2_MAC "02:42:0a:00:00:0c"
#define O1_MAC "02:42:0a:00:01:0b"
#define O2_MAC "02:42:0a:00:01:0c"
#define O3_MAC "02:42:0a:00:01:0d"
#define HOST_MAC "02:00:00:00:00:01"
#define REPLY_MAC "02:50:00:00:00:01"
#define FROM_N1 "02:4c:ac:1f:09:0b"
#define FROM_N2 "02:4c:ac:1f:09:0c"
#define C(p) .src = CLIENT, .dst = N1, .sport = 5000, .dport = p

static void uplink(void **state)
{
	static const struct row rows[] = {
		{ "not ours", PROG_UPLINK, UP0, { C(22), .proto = TCP, .tcp = SYN }, TC_ACT_UNSPEC },
		{ "another protocol", PROG_UPLINK, UP0, { C(0), .proto = ICMP, .icmp = 8 }, TC_ACT_UNSPEC },
		{ "ARP passes", PROG_UPLINK, UP0, { .ether = ETH_P_ARP }, TC_ACT_UNSPEC },
		{ "IPv6 passes", PROG_UPLINK, UP0, { .ether = ETH_P_IPV6 }, TC_ACT_UNSPEC },
		{ "published, but not our address",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = "172.31.9.77", .sport = 1, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_UNSPEC },
		{ "the host listens on it", PROG_UPLINK, UP0, { C(8084), .proto = TCP, .tcp = SYN }, TC_ACT_UNSPEC },
		{ "fragment", PROG_UPLINK, UP0, { C(8081), .proto = UDP, .frag = 0x2000 }, TC_ACT_UNSPEC },
		{ "to a task here",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW),
		  .out = { .dmac = T1_MAC,
		           .src = CLIENT,
		           .dst = "10.0.0.11",
		           .sport = 5000,
		           .dport = 80,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "the same flow",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(INGRESS),
		  .out = { .src = CLIENT, .dst = "10.0.0.11", .sport = 5000, .dport = 80, .proto = TCP, .ttl = 63 } },
		{ "IP options",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = TCP, .tcp = ACK, .options = true },
		  TC_ACT_REDIRECT,
		  .out = { .src = CLIENT, .dst = "10.0.0.11", .sport = 5000, .dport = 80, .proto = TCP, .ttl = 63 } },
		{ "UDP",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = UDP },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW),
		  .out = { .dmac = T1_MAC,
		           .src = CLIENT,
		           .dst = "10.0.0.11",
		           .sport = 5000,
		           .dport = 80,
		           .proto = UDP,
		           .ttl = 63 } },
		{ "to a task of n2",
		  PROG_UPLINK,
		  UP0,
		  { C(8082), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(INGRESS),
		  .out = { .smac = FROM_N1,
		           .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 5000,
		           .dport = 8082,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "nobody serves", PROG_UPLINK, UP0, { C(8083), .proto = TCP, .tcp = SYN }, DROPS(NO_BACKEND) },
		{ "TTL", PROG_UPLINK, UP0, { C(8081), .proto = TCP, .tcp = SYN, .ttl = 1 }, DROPS(TTL) },
		{ "host mode",
		  PROG_UPLINK,
		  UP0,
		  { C(9090), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T1_MAC,
		           .src = CLIENT,
		           .dst = "10.0.0.11",
		           .sport = 5000,
		           .dport = 81,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "host mode is TCP here", PROG_UPLINK, UP0, { C(9090), .proto = UDP }, TC_ACT_UNSPEC },
	};

	(void)state;
	RUN(rows);
}

static void answers(void **state)
{
	static const struct row rows[] = {
		{ "begin here", PROG_UPLINK, UP0, { C(8081), .proto = TCP, .tcp = SYN }, TC_ACT_REDIRECT },
		{ "answer by the other interface, straight to the client",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .src = "10.0.0.11",
		    .dst = CLIENT,
		    .sport = 80,
		    .dport = 5000,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = "02:aa:00:00:00:64",
		           .src = N1,
		           .dst = CLIENT,
		           .sport = 8081,
		           .dport = 5000,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "another task has no such flow",
		  PROG_TASK,
		  H2,
		  { .smac = O3_MAC,
		    .src = "10.0.0.11",
		    .dst = CLIENT,
		    .sport = 80,
		    .dport = 5000,
		    .proto = TCP,
		    .tcp = ACK },
		  DROPS(SPOOF) },
		{ "begin at n2",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 5001,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW),
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .dmac = T1_MAC,
		           .src = CLIENT,
		           .dst = "10.0.0.11",
		           .sport = 5001,
		           .dport = 80,
		           .proto = TCP } },
		{ "answer through n2",
		  PROG_TASK,
		  H1,
		  { .smac = T1_MAC,
		    .src = "10.0.0.11",
		    .dst = CLIENT,
		    .sport = 80,
		    .dport = 5001,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = REPLY_MAC,
		           .src = N2,
		           .dst = CLIENT,
		           .sport = 8081,
		           .dport = 5001,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "an answer for a client of ours",
		  PROG_VXLAN,
		  VX,
		  { .smac = T2_MAC,
		    .dmac = REPLY_MAC,
		    .src = N1,
		    .dst = CLIENT,
		    .sport = 8082,
		    .dport = 5000,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .dmac = "02:aa:00:00:00:64",
		           .src = N1,
		           .dst = CLIENT,
		           .sport = 8082,
		           .dport = 5000,
		           .proto = TCP } },
		{ "an answer with somebody else's address",
		  PROG_VXLAN,
		  VX,
		  { .smac = T2_MAC,
		    .dmac = REPLY_MAC,
		    .src = "8.8.8.8",
		    .dst = CLIENT,
		    .sport = 8082,
		    .dport = 5000,
		    .proto = TCP,
		    .tcp = ACK },
		  DROPS(UNKNOWN_SRC),
		  .vni = INGRESS_VNI,
		  .from = N2 },
		{ "unbound UDP", PROG_UPLINK, UP0, { C(8081), .proto = UDP }, TC_ACT_REDIRECT, EVENT(FLOW_NEW) },
		{ "answers with the interface's address",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC, .src = "10.0.1.11", .dst = CLIENT, .sport = 80, .dport = 5000, .proto = UDP },
		  TC_ACT_REDIRECT,
		  .out = { .src = N1, .dst = CLIENT, .sport = 8081, .dport = 5000, .proto = UDP, .ttl = 63 } },
	};

	(void)state;
	RUN(rows);
}

static void loopback(void **state)
{
	static const struct row rows[] = {
		{ "the host's own address",
		  PROG_LO,
		  LO,
		  { .src = N1, .dst = N1, .sport = 6000, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T1_MAC, .src = N1, .dst = "10.0.0.11", .sport = 6000, .dport = 80, .proto = TCP } },
		{ "127.0.0.1 appears as the node",
		  PROG_LO,
		  LO,
		  { .src = "127.0.0.1", .dst = "127.0.0.1", .sport = 6001, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T1_MAC, .src = N1, .dst = "10.0.0.11", .sport = 6001, .dport = 80, .proto = TCP } },
		{ "and gets its answer as 127.0.0.1",
		  PROG_TASK,
		  H1,
		  { .smac = T1_MAC,
		    .src = "10.0.0.11",
		    .dst = N1,
		    .sport = 80,
		    .dport = 6001,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = "00:00:00:00:00:00",
		           .src = "127.0.0.1",
		           .dst = "127.0.0.1",
		           .sport = 8081,
		           .dport = 6001,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "the same port from the node's address gets another",
		  PROG_LO,
		  LO,
		  { .src = N1, .dst = N1, .sport = 6001, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(OTHER_PORT) },
		{ "other local traffic",
		  PROG_LO,
		  LO,
		  { .src = "127.0.0.1", .dst = "127.0.0.1", .sport = 6001, .dport = 22, .proto = TCP, .tcp = SYN },
		  TC_ACT_UNSPEC },
		{ "to n2, marked",
		  PROG_LO,
		  LO,
		  { .src = "127.0.0.1", .dst = "127.0.0.1", .sport = 6002, .dport = 8082, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .smac = "02:4e:ac:1f:09:0b",
		           .dmac = T2_MAC,
		           .src = "127.0.0.1",
		           .dst = "127.0.0.1",
		           .sport = 6002,
		           .dport = 8082,
		           .proto = TCP } },
	};

	(void)state;
	RUN(rows);
}

static void tunnel(void **state)
{
	static const struct row rows[] = {
		{ "a stranger",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 1,
		    .dport = 2,
		    .proto = UDP },
		  DROPS(UNKNOWN_NODE),
		  .vni = VNI,
		  .from = "172.31.9.66" },
		{ "a neighbour",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 1,
		    .dport = 2,
		    .proto = UDP },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .dmac = O1_MAC,
		           .src = "10.0.1.12",
		           .dst = "10.0.1.11",
		           .sport = 1,
		           .dport = 2,
		           .proto = UDP } },
		{ "a source that is not there",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.13",
		    .dst = "10.0.1.11",
		    .sport = 1,
		    .dport = 2,
		    .proto = UDP },
		  DROPS(UNKNOWN_SRC),
		  .vni = VNI,
		  .from = N2 },
		{ "another network's number",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 1,
		    .dport = 2,
		    .proto = UDP },
		  DROPS(UNKNOWN_SRC),
		  .vni = 4098,
		  .from = N2 },
		{ "nobody has it",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.99",
		    .sport = 1,
		    .dport = 2,
		    .proto = UDP },
		  DROPS(UNKNOWN_DST),
		  .vni = VNI,
		  .from = N2 },
		{ "somebody else's task",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.12",
		    .sport = 1,
		    .dport = 2,
		    .proto = UDP },
		  DROPS(NOT_LOCAL),
		  .vni = VNI,
		  .from = N2 },
		{ "IPv6", PROG_VXLAN, VX, { .ether = ETH_P_IPV6 }, DROPS(IPV6), .vni = VNI, .from = N2 },
		{ "ARP", PROG_VXLAN, VX, { .ether = ETH_P_ARP }, DROPS(ETHERTYPE), .vni = VNI, .from = N2 },
		{ "multicast",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC, .src = "10.0.1.12", .dst = "224.0.0.1", .sport = 1, .dport = 2, .proto = UDP },
		  DROPS(MULTICAST),
		  .vni = VNI,
		  .from = N2 },
		{ "a port nobody publishes",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 1,
		    .dport = 7777,
		    .proto = TCP,
		    .tcp = SYN },
		  DROPS(NO_PORT),
		  .vni = INGRESS_VNI,
		  .from = N2 },
		{ "an ingress node that is none",
		  PROG_VXLAN,
		  VX,
		  { .smac = "02:4c:ac:1f:09:42",
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 1,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  DROPS(UNKNOWN_NODE),
		  .vni = INGRESS_VNI,
		  .from = N2 },
		{ "a port closed here is served to others",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 9,
		    .dport = 8084,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .src = CLIENT, .dst = "10.0.0.11", .sport = 9, .dport = 80, .proto = TCP } },
		{ "a client's address of the loopback",
		  PROG_VXLAN,
		  VX,
		  { .smac = "02:4e:ac:1f:09:0c",
		    .dmac = T1_MAC,
		    .src = "127.0.0.1",
		    .dst = "127.0.0.1",
		    .sport = 10,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .src = N2, .dst = "10.0.0.11", .sport = 10, .dport = 80, .proto = TCP } },
	};

	(void)state;
	RUN(rows);
}

#define T_(d) .smac = O1_MAC, .src = "10.0.1.11", .dst = d, .sport = 100, .dport = 200
#define T(d) T_(d), .dmac = HOST_MAC

/* What a task sends. */
static void task(void **state)
{
	static const struct row rows[] = {
		{ "to a neighbour here",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.13"), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.13"), .dmac = O3_MAC, .proto = TCP } },
		{ "to a neighbour on n2",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.12"), .proto = UDP },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = UDP } },
		{ "fragments go like anything else",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.12"), .proto = UDP, .frag = 0x2010 },
		  TC_ACT_REDIRECT,
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = UDP, .frag = 1 } },
		{ "nobody has it", PROG_TASK, H0, { T("10.0.1.99"), .proto = UDP }, DROPS(UNKNOWN_DST) },
		{ "a wrong address",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC, .src = "10.0.1.12", .dst = "10.0.1.13", .proto = UDP },
		  DROPS(SPOOF) },
		{ "a wrong MAC",
		  PROG_TASK,
		  H0,
		  { .smac = O2_MAC, .src = "10.0.1.11", .dst = "10.0.1.13", .proto = UDP },
		  DROPS(SPOOF) },
		{ "a wrong address to the outside",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC, .src = "1.2.3.4", .dst = "8.8.8.8", .proto = UDP },
		  DROPS(SPOOF) },
		{ "another network", PROG_TASK, H0, { T("10.0.2.5"), .proto = TCP, .tcp = SYN }, DROPS(ISOLATED) },
		{ "the outside", PROG_TASK, H0, { T("8.8.8.8"), .proto = TCP, .tcp = SYN }, TC_ACT_OK },
		{ "the host", PROG_TASK, H0, { T(N1), .proto = TCP, .tcp = SYN }, TC_ACT_OK },
		{ "no way out",
		  PROG_TASK,
		  H2,
		  { .smac = O3_MAC, .src = "10.0.1.13", .dst = "8.8.8.8", .proto = UDP },
		  DROPS(INTERNAL) },
		{ "broadcast", PROG_TASK, H0, { T("255.255.255.255"), .proto = UDP }, DROPS(MULTICAST) },
		{ "multicast", PROG_TASK, H0, { T("239.1.1.1"), .proto = UDP }, DROPS(MULTICAST) },
		{ "IPv6", PROG_TASK, H0, { .ether = ETH_P_IPV6 }, DROPS(IPV6_ND) },
		{ "a device without a task", PROG_TASK, VX, { T("10.0.1.12"), .proto = UDP }, DROPS(NO_IFACE) },
		{ "LLDP", PROG_TASK, H0, { .ether = 0x88cc }, DROPS(ETHERTYPE) },
		{ "echo to the service",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.2"), .proto = ICMP, .icmp = 8 },
		  TC_ACT_REDIRECT,
		  EVENT(ECHO),
		  .out = { .smac = HOST_MAC,
		           .dmac = O1_MAC,
		           .src = "10.0.1.2",
		           .dst = "10.0.1.11",
		           .proto = ICMP,
		           .icmp = 0 } },
		{ "echo to the gateway",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.1"), .proto = ICMP, .icmp = 8 },
		  TC_ACT_REDIRECT,
		  EVENT(ECHO),
		  .out = { .smac = HOST_MAC,
		           .dmac = O1_MAC,
		           .src = "10.0.1.1",
		           .dst = "10.0.1.11",
		           .proto = ICMP,
		           .icmp = 0 } },
		{ "SCTP to the service", PROG_TASK, H0, { T("10.0.1.2"), .proto = 132 }, DROPS(PROTOCOL) },
		{ "a fragment to the service",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.2"), .proto = UDP, .frag = 0x2000 },
		  DROPS(FRAGMENT) },
		{ "the service, packet by packet",
		  PROG_TASK,
		  H0,
		  { T("10.0.1.2"), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(VIP_PACKET),
		  .out = { T_("10.0.1.12"), .dmac = O2_MAC, .proto = TCP } },
		{ "and back",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 200,
		    .dport = 100,
		    .proto = TCP,
		    .tcp = SYN | ACK },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .dmac = O1_MAC,
		           .src = "10.0.1.2",
		           .dst = "10.0.1.11",
		           .sport = 200,
		           .dport = 100,
		           .proto = TCP } },
		{ "the backend itself keeps its own address",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 200,
		    .dport = 101,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .src = "10.0.1.12", .dst = "10.0.1.11", .sport = 200, .dport = 101, .proto = TCP } },
		{ "a published port of this node, as the node",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .src = "10.0.1.11",
		    .dst = N1,
		    .sport = 102,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T1_MAC,
		           .src = N1,
		           .dst = "10.0.0.11",
		           .sport = 102,
		           .dport = 80,
		           .proto = TCP,
		           .ttl = 63 } },
	};

	(void)state;
	RUN(rows);
}

/* ARP: {asked for, answered MAC}; no MAC: dropped. */
static void arp(void **state)
{
	static const struct {
		const char *tip, *mac;
		enum abi_drop drop;
	} rows[] = {
		{ "10.0.1.1", HOST_MAC, 0 },
		{ "10.0.1.2", HOST_MAC, 0 },
		{ "10.0.1.13", O3_MAC, 0 },
		{ "10.0.1.12", O2_MAC, 0 },
		{ "10.0.1.99", NULL, DROP_ARP_UNKNOWN },
		{ "10.0.1.11", NULL, DROP_ARP_UNKNOWN },
		{ "10.0.0.12", NULL, DROP_ARP_UNKNOWN },
	};
	static const struct row run = { "arp", PROG_TASK, H0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t f[64] = {}, out[512], mac[6], me[6];
		uint64_t before = counter(e->drops_fd, DROP_ARP_UNKNOWN);
		size_t n;
		print_message("  who has %s\n", rows[i].tip);
		mac_of(O1_MAC, me);
		memset(f, 0xff, 6);
		memcpy(f + 6, me, 6);
		memcpy(f + 12, (uint8_t[]){ 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 }, 10);
		memcpy(f + 22, me, 6);
		inet_pton(AF_INET, "10.0.1.11", f + 28);
		inet_pton(AF_INET, rows[i].tip, f + 38);
		int verdict = test_run(&run, f, 42, out, &n);
		if (!rows[i].mac) {
			assert_int_equal(verdict, TC_ACT_SHOT);
			assert_int_equal(counter(e->drops_fd, DROP_ARP_UNKNOWN) - before, 1);
			continue;
		}
		assert_int_equal(verdict, TC_ACT_REDIRECT);
		mac_of(rows[i].mac, mac);
		assert_memory_equal(out, me, 6);
		assert_memory_equal(out + 6, mac, 6);
		assert_int_equal(out[21], 2);
		assert_memory_equal(out + 22, mac, 6);
		assert_memory_equal(out + 28, f + 38, 4);
		assert_memory_equal(out + 32, me, 6);
		assert_memory_equal(out + 38, f + 28, 4);
	}
}

/* (The kernel takes no IPv4 frame below the fixed header in a test run.) Every cut of every kind of packet is survived, and nothing is ever sent on from half a header. */
static void cut_short(void **state)
{
	static const struct pk kinds[] = {
		{ C(8081), .proto = TCP, .tcp = SYN },
		{ C(8081), .proto = TCP, .tcp = SYN, .options = true },
		{ C(8081), .proto = UDP },
		{ T("10.0.1.2"), .proto = ICMP, .icmp = 8 },
		{ T("10.0.1.12"), .proto = TCP, .tcp = SYN },
	};
	static const struct row progs[] = {
		{ "uplink", PROG_UPLINK, UP0 },
		{ "lo", PROG_LO, LO },
		{ "task", PROG_TASK, H0 },
		{ "vxlan", PROG_VXLAN, VX, .vni = INGRESS_VNI, .from = N2 },
	};

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (size_t p = 0; p < ARRAY_SIZE(progs); p++)
			for (size_t cut = ETH_HLEN + 20; cut < 62; cut++) {
				_Alignas(8) uint8_t in_mem[2 + 256], out[512];
				uint8_t *f = in_mem + 2;
				size_t n;
				(void)build(&kinds[k], f);
				int verdict = test_run(&progs[p], f, cut, out, &n);
				size_t need = ETH_HLEN + (kinds[k].options ? 28 : 20) + 8;
				if (cut < need)
					assert_int_not_equal(verdict, TC_ACT_REDIRECT);
			}
}

/* ---- states ---- */

static void drain(void **state)
{
	static const struct row old[] = {
		{ "begins while it serves",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7001,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .vni = INGRESS_VNI,
		  .from = N2 },
	};
	static const struct row draining[] = {
		{ "goes on while it drains",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7001,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .src = CLIENT, .dst = "10.0.0.11", .sport = 7001, .dport = 80, .proto = TCP } },
		{ "a new one is passed on, once",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7002,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(SECOND_CHANCE),
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .smac = "02:4d:ac:1f:09:0c",
		           .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N2,
		           .sport = 7002,
		           .dport = 8081,
		           .proto = TCP } },
		{ "an old one nobody knows, too",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7003,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(SECOND_CHANCE),
		  .vni = INGRESS_VNI,
		  .from = N2 },
		{ "not twice",
		  PROG_VXLAN,
		  VX,
		  { .smac = "02:4d:ac:1f:09:0c",
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7004,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW),
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .src = CLIENT, .dst = "10.0.0.11", .sport = 7004, .dport = 80, .proto = TCP } },
		{ "at the ingress a new one goes elsewhere",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 7005, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .smac = FROM_N1,
		           .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 7005,
		           .dport = 8081,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "and stays there",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 7005, .dport = 8081, .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(CACHED),
		  .out = { .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 7005,
		           .dport = 8081,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "an old one goes to the previous choice, which does not know it",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 7006, .dport = 8081, .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(PREVIOUS),
		  .out = { .smac = "02:4d:ac:1f:09:0b",
		           .dmac = T2_MAC,
		           .src = CLIENT,
		           .dst = N1,
		           .sport = 7006,
		           .dport = 8081,
		           .proto = TCP,
		           .ttl = 63 } },
	};
	struct ebpf_backend b[2] = {
		{ .ip = ip_of("10.0.0.11"), .local = true, .state = DP_SERVING },
		{ .ip = ip_of("10.0.0.12"), .node = ip_of(N2), .state = DP_SERVING },
	};
	struct ebpf_service s = { .key = 21, .vni = INGRESS_VNI, .backends = b, .n = 1 };

	(void)state;
	RUN(old);
	b[0].state = DP_DRAINING;
	s.n = 2;
	OK(ebpf_set_service(e, &s, &err));
	for (size_t i = 0; i < ARRAY_SIZE(draining); i++)
		run_row(&draining[i]);
	/* Gone altogether: even at its own node a new flow finds another. */
	struct dp_ip t1 = ip_of("10.0.0.11");
	s.backends = &b[1];
	s.n = 1;
	OK(ebpf_set_service(e, &s, &err));
	ebpf_del_endpoint(e, INGRESS_VNI, &t1);
	static const struct row gone[] = {
		{ "a task that is gone",
		  PROG_VXLAN,
		  VX,
		  { .smac = FROM_N2,
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7007,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(SECOND_CHANCE),
		  .vni = INGRESS_VNI,
		  .from = N2,
		  .out = { .dmac = T2_MAC } },
		{ "gone and passed on already",
		  PROG_VXLAN,
		  VX,
		  { .smac = "02:4d:ac:1f:09:0c",
		    .dmac = T1_MAC,
		    .src = CLIENT,
		    .dst = N2,
		    .sport = 7008,
		    .dport = 8081,
		    .proto = TCP,
		    .tcp = SYN },
		  DROPS(NOT_LOCAL),
		  .vni = INGRESS_VNI,
		  .from = N2 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
		run_row(&gone[i]);
	set_endpoint(INGRESS_VNI, "10.0.0.11", NULL);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
}

static void flow_count_follows_tcp(void **state)
{
#define STEP(n_, p_, d_, flags, ...)                                                                                   \
	{                                                                                                              \
		n_, p_, d_, { __VA_ARGS__, .proto = TCP, .tcp = flags }, TC_ACT_REDIRECT                               \
	}
#define FROM_CLIENT .src = CLIENT, .dst = N1, .sport = 7100, .dport = 8081
#define FROM_TASK .smac = T1_MAC, .src = "10.0.0.11", .dst = CLIENT, .sport = 80, .dport = 7100
	static const struct {
		struct row row;
		size_t open;
	} steps[] = {
		{ STEP("SYN", PROG_UPLINK, UP0, SYN, FROM_CLIENT), 1 },
		{ STEP("SYN ACK", PROG_TASK, H1, SYN | ACK, FROM_TASK), 1 },
		{ STEP("ACK", PROG_UPLINK, UP0, ACK, FROM_CLIENT), 1 },
		{ STEP("FIN", PROG_UPLINK, UP0, FIN | ACK, FROM_CLIENT), 1 },
		{ STEP("FIN back", PROG_TASK, H1, FIN | ACK, FROM_TASK), 0 },
		{ STEP("last ACK", PROG_UPLINK, UP0, ACK, FROM_CLIENT), 0 },
		{ STEP("SYN again", PROG_UPLINK, UP0, SYN, FROM_CLIENT), 1 },
		{ STEP("RST", PROG_TASK, H1, RST, FROM_TASK), 0 },
	};
	struct dp_ip t1 = ip_of("10.0.0.11");
	struct ebpf_stats st;
	size_t n;

	(void)state;
	ebpf_flow_purge(e, &t1);
	OK(ebpf_service_stats(e, 21, &t1, &st));
	uint64_t conns = st.conns, in = st.packets_in, out = st.packets_out;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		run_row(&steps[i].row);
		OK(ebpf_flow_count(e, &t1, &n));
		assert_int_equal(n, steps[i].open);
	}
	OK(ebpf_service_stats(e, 21, &t1, &st));
	assert_int_equal(st.conns - conns, 2);
	assert_int_equal(st.packets_in - in, 5);
	assert_int_equal(st.packets_out - out, 3);
}

/* After a restart what is not wanted any more goes, and what is wanted was never away. */
static void restart_sweeps(void **state)
{
	static const struct row kept[] = {
		{ "a flow of before",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(FLOW_NEW) },
	};
	static const struct row after[] = {
		{ "is known after",
		  PROG_UPLINK,
		  UP0,
		  { C(8081), .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T1_MAC,
		           .src = CLIENT,
		           .dst = "10.0.0.11",
		           .sport = 5000,
		           .dport = 80,
		           .proto = TCP,
		           .ttl = 63 } },
		{ "a port that was not set again",
		  PROG_UPLINK,
		  UP0,
		  { C(8082), .proto = TCP, .tcp = SYN },
		  TC_ACT_UNSPEC },
		{ "a network that was not set again",
		  PROG_TASK,
		  H0,
		  { T("10.0.2.5"), .proto = TCP, .tcp = SYN },
		  TC_ACT_OK },
	};
	char pin[96];
	struct ebpf_stats st;

	(void)state;
	RUN(kept);
	uint64_t table = e->services[lb_service_index(e, 21)].cur;
	ebpf_close(e);
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	open_node(pin);
	assert_int_equal(e->services[lb_service_index(e, 21)].cur, table);
	run_row(&after[0]);
	set_network(INGRESS_VNI, "10.0.0.0", "10.0.0.1", true);
	set_network(VNI, "10.0.1.0", "10.0.1.1", false);
	attach(H0, VNI, "10.0.1.11", 7, false);
	attach(H1, INGRESS_VNI, "10.0.0.11", 7, false);
	struct dp_ip n1 = ip_of(N1), n2 = ip_of(N2);
	OK(ebpf_set_host_addr(e, &n1, &err));
	OK(ebpf_set_node(e, &n2, &err));
	set_endpoint(INGRESS_VNI, "10.0.0.11", NULL);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
	set_port(8081, 21, false);
	ebpf_sweep(e);
	/* The same set again is the same table, untouched. */
	assert_int_equal(e->services[lb_service_index(e, 21)].cur, table);
	assert_int_equal(ebpf_service_stats(e, 22, NULL, &st), MESH_E_NOT_FOUND);
	for (size_t i = 0; i < ARRAY_SIZE(after); i++)
		run_row(&after[i]);
}

/* Beyond what only waits for its last readers. */
static size_t chunks_in_use(void)
{
	size_t used = 0;

	for (uint32_t i = 0; i < e->n_chunks; i++)
		used += e->chunk_used[i];
	for (size_t i = 0; i < e->limbo.len; i++)
		used -= e->limbo.data[i].count;
	return used;
}

/* Many sets, many changes: tables and slots are given back. */
static void nothing_leaks(void **state)
{
	size_t before = chunks_in_use();

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct ebpf_backend b[40];
		struct ebpf_service s = { .key = 99, .vni = VNI, .backends = b };
		for (int i = 0; i < 40; i++) {
			char ip[20];
			snprintf(ip, sizeof(ip), "10.0.1.%d", 20 + (round * 3 + i) % 200);
			b[i] = (struct ebpf_backend){ .ip = ip_of(ip), .node = ip_of(N2), .state = DP_SERVING };
		}
		s.n = 20 + round % 20;
		OK(ebpf_set_service(e, &s, &err));
	}
	ebpf_del_service(e, 99);
	assert_int_equal(chunks_in_use(), before);
	/* A slot waits for its readers as GONE or is free: none is lost. */
	size_t gone = 0, waiting = 0;
	for (uint32_t i = 1; i < e->n_backends; i++)
		gone += e->backends[i].state == BACKEND_GONE;
	for (size_t i = 0; i < e->limbo.len; i++)
		waiting += e->limbo.data[i].count == 0;
	assert_int_equal(gone, waiting);
}

/* ---- flows through many changes ---- */

#define CROWD 6
#define FLOWS 1200

static void set_crowd(const enum dp_backend_state *states)
{
	struct ebpf_backend b[CROWD] = {};
	struct ebpf_service s = { .key = 77, .vni = INGRESS_VNI, .backends = b };

	for (int i = 0; i < CROWD; i++) {
		char ip[32];
		if (states[i] == DP_BACKEND_STATE_MAX)
			continue;
		snprintf(ip, sizeof(ip), "10.0.0.%d", 21 + i);
		b[s.n++] = (struct ebpf_backend){ .ip = ip_of(ip), .node = ip_of(N2), .state = states[i] };
	}
	OK(ebpf_set_service(e, &s, &err));
}

/* Which of the crowd a packet of flow f goes to. */
static int goes_to(int f, uint8_t flags)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	struct row r = { .prog = PROG_UPLINK,
		         .dev = UP0,
		         .in = { .src = CLIENT,
		                 .dst = N1,
		                 .sport = (uint16_t)(20000 + f),
		                 .dport = 8099,
		                 .proto = TCP,
		                 .tcp = flags } };
	size_t n = build(&r.in, in_mem + 2), out_len;

	assert_int_equal(test_run(&r, in_mem + 2, n, out_mem + 2, &out_len), TC_ACT_REDIRECT);
	return out_mem[2 + 5] - 21;
}

/* Whatever comes and goes, a flow whose task lives stays with it, seen often or seldom. */
static void flows_keep_their_task(void **state)
{
	static int owner[FLOWS], n;
	enum dp_backend_state states[CROWD] = { DP_SERVING, DP_SERVING, DP_SERVING };
	uint64_t rnd = 42;

	(void)state;
	for (int i = 3; i < CROWD; i++)
		states[i] = DP_BACKEND_STATE_MAX;
	set_crowd(states);
	set_port(8099, 77, false);
	for (int change = 0; change < 100; change++) {
		for (int k = 0; k < 12 && n < FLOWS; k++) {
			owner[n] = goes_to(n, SYN);
			assert_int_equal(states[owner[n]], DP_SERVING);
			n++;
		}
		for (int f = 0; f < n; f++) {
			rnd = rnd * 6364136223846793005u + 1442695040888963407u;
			if (owner[f] >= 0 && rnd >> 62 == 0 && goes_to(f, ACK) != owner[f])
				fail_msg("flow %d of task %d went to another after change %d", f, owner[f], change);
		}
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		int at = (int)((rnd >> 33) % CROWD), serving = 0;
		for (int i = 0; i < CROWD; i++)
			serving += i != at && states[i] == DP_SERVING;
		if (states[at] == DP_BACKEND_STATE_MAX) {
			states[at] = DP_SERVING;
		} else if (states[at] == DP_DRAINING) {
			states[at] = DP_BACKEND_STATE_MAX;
			for (int f = 0; f < n; f++)
				owner[f] = owner[f] == at ? -1 : owner[f];
		} else if (serving) {
			states[at] = DP_DRAINING;
		}
		set_crowd(states);
	}
	ebpf_del_service(e, 77);
}

static void metrics(void **state)
{
	struct buf b = {};

	(void)state;
	ebpf_metrics(e, &b);
	assert_non_null(strstr(buf_str(&b), "mesh_dropped_packets_total{reason=\"spoof\"} "));
	assert_non_null(strstr(buf_str(&b), "mesh_dataplane_events_total{event=\"second_chance\"} "));
	assert_non_null(strstr(buf_str(&b), "\nmesh_flows "));
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uplink),         cmocka_unit_test(answers),
		cmocka_unit_test(loopback),       cmocka_unit_test(tunnel),
		cmocka_unit_test(task),           cmocka_unit_test(arp),
		cmocka_unit_test(drain),          cmocka_unit_test(flow_count_follows_tcp),
		cmocka_unit_test(cut_short),      cmocka_unit_test(metrics),
		cmocka_unit_test(nothing_leaks),  cmocka_unit_test(flows_keep_their_task),
		cmocka_unit_test(restart_sweeps),
	};

	if (geteuid() != 0) {
		puts("1..1\nok 1 programs # SKIP needs root");
		return 0;
	}
	return cmocka_run_group_tests_name("programs", tests, setup, teardown);
}
