/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: a node whose programs run under BPF_PROG_TEST_RUN, and rows: packet in, verdict, packet out, counter.
 * Node: n1 is 172.31.9.11, n2 172.31.9.12; published: tcp/udp 8081 -> 10.0.0.11:80 (here), 8082 -> 10.0.0.12:80 (n2),
 *       8083 -> nobody, 8084 closed here, 8085 -> 10.0.0.15 of this node that has no interface, 9090 -> host mode here.
 *       Nothing leads to 203.0.113.0/24. Rows run in order and share flow state.
 */
#ifndef TESTS_BPF_NODE_H
#define TESTS_BPF_NODE_H

#include <fcntl.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <time.h>
#include <bpf/bpf.h>

#include "dataplane/ebpf/internal.h"
#include "tests/bpf/programs/frame.h"
#include "tests/support/bpf_calls.h"

enum dev { UP0, H0, H1, H2, VX, LO, DEV_MAX };
#define INGRESS_VNI 4096
#define VNI 4097

#define N1 "172.31.9.11"
#define N2 "172.31.9.12"
#define CLIENT "172.31.9.100"

static const char *const dev_names[] = { "up0", "h0", "h1", "h2", "vx", "lo" };
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

static unsigned devs[DEV_MAX];
static struct ebpf *e;
static char bpffs[64];

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

/* ---- running ---- */

static uint64_t counter(int fd, uint32_t i)
{
	uint64_t v[256] = {}, sum = 0;

	assert_int_equal(bpf_map_lookup_elem(fd, &i, v), 0);
	for (int c = 0; c < 256; c++)
		sum += v[c];
	return sum;
}

/* By program and reason, over the whole run. */
static uint64_t hits[PROG_MAX][DROP_MAX];

static uint64_t read_drops(uint64_t out[DROP_MAX])
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < DROP_MAX; i++)
		sum += out[i] = counter(e->drops_fd, i);
	return sum;
}

/*
 * Tables run three times: tunnelled by the device, then by outer headers of our own, then with XDP at the uplink. From the
 * second time on what comes out of a tunnel comes in by the uplink, in outer headers, and what goes into one is checked
 * for them. The third time what XDP does not take must be as it came, and goes to tc: together they do the same.
 */
enum how { BY_DEVICE, BY_OWN_HEADERS, BY_XDP, HOW_MAX };
static bool own_tunnel, xdp_first;

static void set_how(enum how how)
{
	static const char *const names[] = { "the VXLAN device", "our own outer headers", "XDP and tc" };

	own_tunnel = how != BY_DEVICE;
	xdp_first = how == BY_XDP;
	ebpf_via_device(e, !own_tunnel);
	print_message(" %s\n", names[how]);
}
#define FOR_EACH_WAY for (enum how how_ = 0; how_ < HOW_MAX && (set_how(how_), true); how_++)

static uint32_t run_tc(const struct row *r, enum ebpf_prog p, const uint8_t *frame, size_t n, uint8_t *out,
                       size_t *out_len)
{
	struct __sk_buff skb = { .ifindex = devs[p == PROG_UPLINK ? UP0 : r->dev], .mark = r->vni };
	struct in_addr from;

	if (r->from && inet_pton(AF_INET, r->from, &from) == 1)
		skb.priority = ntohl(from.s_addr);
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = (uint32_t)n, .data_out = out,
	            .data_size_out = 512, .ctx_in = &skb, .ctx_size_in = sizeof(skb), .repeat = 1);
	assert_int_equal(bpf_prog_test_run_opts(e->prog_fd[p], &o), 0);
	*out_len = o.data_size_out;
	return o.retval;
}

static uint32_t run_xdp(const uint8_t *frame, size_t n, uint8_t *out, size_t *out_len)
{
	struct xdp_md md = { .data_end = (uint32_t)n, .ingress_ifindex = devs[UP0] };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = (uint32_t)n, .data_out = out,
	            .data_size_out = 512, .ctx_in = &md, .ctx_size_in = sizeof(md), .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(e->prog_fd[PROG_XDP], &o), 0);
	*out_len = o.data_size_out;
	return o.retval;
}

/* What both come to, as tc would say it. *by: who dropped it, if it was dropped. */
static int run_both(const struct row *r, uint8_t *frame, size_t n, uint8_t *out, size_t *out_len, enum ebpf_prog *by)
{
	static const uint8_t nobody[6];
	uint64_t taken = stats_event(e, EVENT_XDP);

	/* As from a wire: for this link. */
	if (!memcmp(frame, nobody, 6))
		memcpy(frame, up0_mac, 6);
	uint32_t verdict = run_xdp(frame, n, out, out_len);
	assert_int_equal(stats_event(e, EVENT_XDP) - taken, verdict == XDP_TX || verdict == XDP_REDIRECT);
	*by = PROG_XDP;
	if (verdict == XDP_DROP)
		return TC_ACT_SHOT;
	if (verdict != XDP_PASS)
		return TC_ACT_REDIRECT;
	assert_int_equal(*out_len, n);
	assert_memory_equal(frame, out, n);
	*by = PROG_UPLINK;
	return (int)run_tc(r, PROG_UPLINK, frame, n, out, out_len);
}

/* Runs p as it is; *dropped (nullable): 1 + the reason it counted, 0 = none. */
static int test_run_prog(const struct row *r, enum ebpf_prog p, uint8_t *frame, size_t n, uint8_t *out, size_t *out_len,
                         int *dropped)
{
	uint64_t before[DROP_MAX], after[DROP_MAX], sum = read_drops(before);
	int reason = 0, verdict;

	if (xdp_first && p == PROG_UPLINK)
		verdict = run_both(r, frame, n, out, out_len, &p);
	else
		verdict = (int)run_tc(r, p, frame, n, out, out_len);
	/* One packet, one reason; and a reason means that it is gone. */
	sum = read_drops(after) - sum;
	assert_int_equal(sum, verdict == TC_ACT_SHOT);
	for (int i = 0; sum && i < DROP_MAX; i++)
		if (after[i] != before[i])
			reason = 1 + i;
	hits[p][reason ? reason - 1 : 0] += reason ? 1 : 0;
	if (dropped)
		*dropped = reason;
	return verdict;
}

/* Runs the program of r on a frame, in and out without outer headers whoever carries the tunnel. */
static int test_run_drop(const struct row *r, uint8_t *frame, size_t n, uint8_t *out, size_t *out_len, int *dropped)
{
	_Alignas(8) uint8_t mem[2 + 512];
	uint8_t *wrapped = mem + 2;
	uint64_t encapsulated = stats_event(e, EVENT_ENCAP);
	bool ip = n > ETH_HLEN && frame[12] == 8 && frame[13] == 0;
	int verdict;

	if (own_tunnel && r->prog == PROG_VXLAN && ip) {
		memcpy(wrapped, frame, n);
		n = wrap(wrapped, n, r->from, N1, r->vni, up0_mac);
		verdict = test_run_prog(r, PROG_UPLINK, wrapped, n, out, out_len, dropped);
	} else {
		verdict = test_run_prog(r, r->prog, frame, n, out, out_len, dropped);
	}
	if (stats_event(e, EVENT_ENCAP) != encapsulated)
		unwrap(out, out_len, N1, N2);
	return verdict;
}

static int test_run(const struct row *r, uint8_t *frame, size_t n, uint8_t *out, size_t *out_len)
{
	return test_run_drop(r, frame, n, out, out_len, NULL);
}

static void run_row(const struct row *r)
{
	_Alignas(8) uint8_t in_mem[2 + 256], out_mem[2 + 512];
	/* Off by two, so that what follows the Ethernet header is aligned. */
	uint8_t *frame = in_mem + 2, *out = out_mem + 2;
	size_t n = build(&r->in, frame), out_len;
	uint64_t event = r->event ? stats_event(e, (enum abi_event)(r->event - 1)) : 0;
	int dropped;

	print_message("  %s\n", r->name);
	assert_int_equal(test_run_drop(r, frame, n, out, &out_len, &dropped), r->verdict);
	assert_int_equal(dropped, r->drop);
	if (r->event)
		assert_int_equal(stats_event(e, (enum abi_event)(r->event - 1)) - event, 1);
	if (r->out.src || r->out.dmac)
		check_frame(&r->out, out, out_len);
	else if (r->verdict == TC_ACT_UNSPEC || r->verdict == TC_ACT_OK)
		assert_memory_equal(frame, out, n);
}

/* What a table before left there would be found by the next. */
static void forget_fragments(void)
{
	CLEAN_FREE char *path = xasprintf("%s/fragments", e->map_dir);
	CLEAN_CLOSE int fd = bpf_obj_get(path);
	struct abi_fragment_key k;

	assert_true(fd >= 0);
	while (!bpf_map_get_next_key(fd, NULL, &k))
		assert_int_equal(bpf_map_delete_elem(fd, &k), 0);
}

static void run_rows(const struct row *rows, size_t n)
{
	struct dp_ip t1;

	assert_int_equal(dp_ip_parse("10.0.0.11", &t1, NULL), 0);
	FOR_EACH_WAY
	{
		ebpf_flow_purge(e, &t1);
		forget_fragments();
		for (size_t i = 0; i < n; i++)
			run_row(&rows[i]);
	}
}
#define RUN(rows) run_rows(rows, ARRAY_SIZE(rows))

/* ---- the node ---- */

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
	               "ip link set up0 address 02:aa:00:00:00:0b; ip neigh add 172.31.9.100 lladdr 02:aa:00:00:00:64 "
	               "dev up0; ip neigh add 172.31.9.12 lladdr 02:aa:00:00:00:0c dev up0;"
	               "ip route add unreachable 203.0.113.0/24; sysctl -qw net.ipv4.ip_forward=1"),
		0);
	for (int i = 0; i < DEV_MAX; i++) {
		devs[i] = if_nametoindex(dev_names[i]);
		assert_int_not_equal(devs[i], 0);
	}
}

static struct ebpf_config config_of(const char *pin)
{
	return (struct ebpf_config){ .pin_dir = pin,
		                     .self = ip_of(N1),
		                     .vxlan_ifindex = devs[VX],
		                     .flows_max = 1024,
		                     .tunnel_port = 4789,
		                     .xdp = true,
		                     .test_tunnel = true };
}

static void open_node(const char *pin)
{
	struct ebpf_config c = config_of(pin);

	OK(ebpf_open(&c, &e, &err));
}

static void set_xdp(enum dev dev, bool turns, bool sends)
{
	struct ebpf_link l = { .turns = turns, .sends = sends };

	memcpy(l.mac, up0_mac, sizeof(l.mac));
	OK(ebpf_attach_xdp(e, devs[dev], &err));
	OK(ebpf_set_link(e, devs[dev], &l, &err));
}

static void set_network(uint32_t vni, const char *subnet, const char *gateway, bool ingress)
{
	struct ebpf_network n = {
		.vni = vni, .subnet = ip_of(subnet), .prefix = 24, .gateway = ip_of(gateway), .ingress = ingress
	};

	OK(ebpf_set_network(e, &n, &err));
}

static void set_nodes(void)
{
	struct dp_ip n1 = ip_of(N1), n2 = ip_of(N2);
	struct ebpf_way none = {}, way = { .ifindex = devs[UP0], .next_hop = n2, .mtu = 1500 };

	OK(ebpf_set_node(e, &n1, &none, &err));
	OK(ebpf_set_node(e, &n2, &way, &err));
}

static int setup(void **state)
{
	struct ebpf_port host = { .proto = TCP,
		                  .published = 9090,
		                  .target = 81,
		                  .host_mode = true,
		                  .vni = INGRESS_VNI,
		                  .ip = ip_of("10.0.0.11") };
	struct dp_ip n1 = ip_of(N1), vip = ip_of("10.0.1.2"), empty = ip_of("10.0.1.3");

	(void)state;
	make_devices();
	strcpy(bpffs, "/tmp/mesh-bpf-XXXXXX");
	assert_non_null(mkdtemp(bpffs));
	assert_int_equal(mount("bpf", bpffs, "bpf", 0, NULL), 0);
	char pin[96];
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	open_node(pin);
	set_xdp(UP0, true, false);
	OK(ebpf_set_host_addr(e, &n1, &err));
	set_nodes();
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
	set_endpoint(VNI, "10.0.1.14", NULL);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
	set_backend(22, INGRESS_VNI, "10.0.0.12", N2, DP_SERVING);
	set_backend(23, INGRESS_VNI, NULL, NULL, 0);
	set_backend(30, VNI, "10.0.1.12", N2, DP_SERVING);
	OK(ebpf_set_vip(e, &vip, 30, &err));
	set_backend(25, INGRESS_VNI, "10.0.0.15", NULL, DP_SERVING);
	set_backend(31, VNI, NULL, NULL, 0);
	OK(ebpf_set_vip(e, &empty, 31, &err));
	set_port(8085, 25, false);
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

#endif
