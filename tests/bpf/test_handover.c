// SPDX-License-Identifier: GPL-2.0-or-later
/* From one layout to another: values convert by name, numbers are renumbered, and in each phase a packet meets who knows it. */
#include <sys/stat.h>
#include <bpf/btf.h>

#include "dataplane/ebpf/handover.h"
#include "tests/bpf/programs/node.h"

/* ---- values ---- */

static int u32_of(struct btf *b, int size)
{
	return btf__add_int(b, size == 8 ? "u64" : size == 4 ? "u32" : size == 2 ? "u16" : "u8", (size_t)size, 0);
}

/* struct v { u32 a; u16 b[n]; u64 c } and the same with other widths, another order, one more and one less. */
static void values_convert_by_name(void **state)
{
	static const struct {
		uint32_t a;
		uint16_t b[4];
		uint32_t gone;
		uint64_t c;
	} in = { 7, { 1, 2, 3, 0x8004 }, 9, 0x1122334455667788 };
	struct {
		uint64_t c;
		uint64_t fresh;
		uint32_t b[6];
		uint16_t a;
	} out;
	struct btf *f = btf__new_empty(), *t = btf__new_empty();
	int u32 = u32_of(f, 4), u16 = u32_of(f, 2), u64 = u32_of(f, 8), arr = btf__add_array(f, u32, u16, 4);
	int from = btf__add_struct(f, "v", sizeof(in));

	(void)state;
	btf__add_field(f, "a", u32, 0, 0);
	btf__add_field(f, "b", arr, 32, 0);
	btf__add_field(f, "gone", u32, 96, 0);
	btf__add_field(f, "c", u64, 128, 0);
	u32 = u32_of(t, 4), u16 = u32_of(t, 2), u64 = u32_of(t, 8), arr = btf__add_array(t, u32, u32, 6);
	int to = btf__add_struct(t, "v", sizeof(out));
	btf__add_field(t, "c", u64, 0, 0);
	btf__add_field(t, "fresh", u64, 64, 0);
	btf__add_field(t, "b", arr, 128, 0);
	btf__add_field(t, "a", u16, 320, 0);
	memset(&out, 0xff, sizeof(out));
	assert_int_equal(btf_convert((struct btype){ f, (uint32_t)from }, &in, (struct btype){ t, (uint32_t)to }, &out),
	                 0);
	assert_int_equal(out.a, 7);
	assert_int_equal(out.c, 0x1122334455667788);
	assert_int_equal(out.fresh, 0);
	for (int i = 0; i < 6; i++)
		assert_int_equal(out.b[i], i < 4 ? in.b[i] : 0);
	assert_int_equal(btype_named(t, "v").id, to);
	assert_int_equal(btype_named(t, "w").id, 0);
	/* A struct is no number. */
	assert_int_equal(
		btf_convert((struct btype){ f, (uint32_t)from }, &in, (struct btype){ t, (uint32_t)u32 }, &out),
		MESH_E_UNSUPPORTED);
	btf__free(f);
	btf__free(t);
}

/* ---- a node ---- */

static void pin_path(char out[128], const char *name)
{
	snprintf(out, 128, "%s/n1%s%s", bpffs, *name ? "/" : "", name);
}

/* The same node again, as a daemon of another layout left it. */
static void reopen_as_other_layout(void)
{
	char own[128], other[128], pin[128], name[32];

	ebpf_close(e);
	snprintf(name, sizeof(name), "maps%d_1024", ABI_LAYOUT);
	pin_path(own, name);
	pin_path(other, "maps9999");
	pin_path(pin, "");
	assert_int_equal(rename(own, other), 0);
	open_node(pin);
	assert_int_not_equal(access(other, F_OK), 0);
	assert_int_equal(access(own, F_OK), 0);
}

#define CLIENT_ACK(port)                                                                                               \
	{                                                                                                              \
		.src = CLIENT, .dst = N1, .sport = 5000, .dport = port, .proto = TCP, .tcp = ACK                       \
	}
#define CLIENT_SYN(port)                                                                                               \
	{                                                                                                              \
		.src = CLIENT, .dst = N1, .sport = 5000, .dport = port, .proto = TCP, .tcp = SYN                       \
	}
#define TASK_ANSWER                                                                                                    \
	{                                                                                                              \
		.smac = T1_MAC, .src = "10.0.0.11", .dst = CLIENT, .sport = 80, .dport = 5000, .proto = TCP,           \
		.tcp = ACK                                                                                             \
	}
#define AT_TASK                                                                                                        \
	{                                                                                                              \
		.dmac = T1_MAC, .src = CLIENT, .dst = "10.0.0.11", .sport = 5000, .dport = 80, .proto = TCP, .ttl = 63 \
	}
#define AT_CLIENT                                                                                                      \
	{                                                                                                              \
		.src = N1, .dst = CLIENT, .sport = 8081, .dport = 5000, .proto = TCP, .ttl = 63                        \
	}

static void everything_is_there_after(void **state)
{
	static const struct row before[] = {
		{ "a connection", PROG_UPLINK, UP0, CLIENT_SYN(8081), TC_ACT_REDIRECT, EVENT(FLOW_NEW),
		  .out = AT_TASK },
		{ "a task calls a service, packet by packet",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC,
		    .src = "10.0.1.11",
		    .dst = "10.0.1.2",
		    .sport = 100,
		    .dport = 200,
		    .proto = TCP,
		    .tcp = SYN },
		  TC_ACT_REDIRECT,
		  EVENT(VIP_PACKET) },
	};
	static const struct row after[] = {
		{ "goes on", PROG_UPLINK, UP0, CLIENT_ACK(8081), TC_ACT_REDIRECT, EVENT(INGRESS), .out = AT_TASK },
		{ "and back", PROG_TASK, H1, TASK_ANSWER, TC_ACT_REDIRECT, .out = AT_CLIENT },
		{ "the service answers with its own address",
		  PROG_VXLAN,
		  VX,
		  { .smac = O2_MAC,
		    .dmac = O1_MAC,
		    .src = "10.0.1.12",
		    .dst = "10.0.1.11",
		    .sport = 200,
		    .dport = 100,
		    .proto = TCP,
		    .tcp = ACK },
		  TC_ACT_REDIRECT,
		  .vni = VNI,
		  .from = N2,
		  .out = { .src = "10.0.1.2", .dst = "10.0.1.11", .sport = 200, .dport = 100, .proto = TCP } },
		{ "the service elsewhere", PROG_UPLINK, UP0, CLIENT_SYN(8082), TC_ACT_REDIRECT,
		  .out = { .dmac = T2_MAC } },
		{ "another network",
		  PROG_TASK,
		  H0,
		  { .smac = O1_MAC, .src = "10.0.1.11", .dst = "10.0.2.5", .sport = 1, .dport = 2, .proto = UDP },
		  DROPS(ISOLATED) },
	};
	struct dp_counters st;
	struct dp_ip t1 = ip_of("10.0.0.11");

	(void)state;
	OK(ebpf_attach(e, EBPF_UPLINK, devs[UP0], &err));
	for (size_t i = 0; i < ARRAY_SIZE(before); i++)
		run_row(&before[i]);
	reopen_as_other_layout();
	for (size_t i = 0; i < ARRAY_SIZE(after); i++)
		run_row(&after[i]);
	OK(ebpf_service_stats(e, 21, &t1, &st));
	assert_int_equal(st.conns, 1);
	assert_int_equal(st.packets_in, 2);
}

/* A set that changed keeps its previous table, and who was remembered is. */
static void a_changing_set_goes_on(void **state)
{
	struct ebpf_backend b[2] = {
		{ .ip = ip_of("10.0.0.11"), .local = true, .state = DP_SERVING },
		{ .ip = ip_of("10.0.0.12"), .node = ip_of(N2), .state = DP_SERVING },
	};
	struct ebpf_service s = { .key = 21, .vni = INGRESS_VNI, .backends = b, .n = 1 };
	static const struct row flows[] = {
		{ "begins", PROG_UPLINK, UP0, CLIENT_SYN(8081), TC_ACT_REDIRECT, .out = AT_TASK },
	};
	static const struct row moved[] = {
		{ "a new one goes elsewhere",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 5001, .dport = 8081, .proto = TCP, .tcp = SYN },
		  TC_ACT_REDIRECT,
		  .out = { .dmac = T2_MAC } },
	};
	static const struct row after[] = {
		{ "the old one stays: previous table", PROG_UPLINK, UP0, CLIENT_ACK(8081), TC_ACT_REDIRECT,
		  EVENT(PREVIOUS), .out = AT_TASK },
		{ "the new one stays: remembered",
		  PROG_UPLINK,
		  UP0,
		  { .src = CLIENT, .dst = N1, .sport = 5001, .dport = 8081, .proto = TCP, .tcp = ACK },
		  TC_ACT_REDIRECT,
		  EVENT(CACHED),
		  .out = { .dmac = T2_MAC } },
	};

	(void)state;
	RUN(flows);
	b[0].state = DP_DRAINING;
	s.n = 2;
	OK(ebpf_set_service(e, &s, &err));
	run_row(&moved[0]);
	reopen_as_other_layout();
	for (size_t i = 0; i < ARRAY_SIZE(after); i++)
		run_row(&after[i]);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
}

static void set_tables(void)
{
	struct dp_ip n1 = ip_of(N1), n2 = ip_of(N2), vip = ip_of("10.0.1.2");

	OK(ebpf_set_host_addr(e, &n1, &err));
	OK(ebpf_set_node(e, &n2, &(struct ebpf_way){}, &err));
	set_network(INGRESS_VNI, "10.0.0.0", "10.0.0.1", true);
	set_network(VNI, "10.0.1.0", "10.0.1.1", false);
	attach(H0, VNI, "10.0.1.11", 7, false);
	attach(H1, INGRESS_VNI, "10.0.0.11", 7, false);
	set_endpoint(INGRESS_VNI, "10.0.0.11", NULL);
	set_endpoint(VNI, "10.0.1.11", NULL);
	set_endpoint(VNI, "10.0.1.12", N2);
	set_backend(21, INGRESS_VNI, "10.0.0.11", NULL, DP_SERVING);
	set_backend(30, VNI, "10.0.1.12", N2, DP_SERVING);
	OK(ebpf_set_vip(e, &vip, 30, &err));
	set_port(8081, 21, false);
}

static size_t flows_of(struct ebpf *x)
{
	struct dp_ip t1 = ip_of("10.0.0.11");
	size_t n;

	assert_int_equal(ebpf_flow_count(x, &t1, &n), 0);
	return n;
}

static void every_phase_finds_who_knows(void **state)
{
	static const struct row begin = {
		"begins", PROG_UPLINK, UP0, CLIENT_SYN(8081), TC_ACT_REDIRECT, .out = AT_TASK
	};
	static const struct row goes_on = { "goes on",        PROG_UPLINK,     UP0,
		                            CLIENT_ACK(8081), TC_ACT_REDIRECT, .out = AT_TASK };
	static const struct row back = { "and back", PROG_TASK, H1, TASK_ANSWER, TC_ACT_REDIRECT, .out = AT_CLIENT };
	static const struct row second = {
		"another begins",
		PROG_UPLINK,
		UP0,
		{ .src = CLIENT, .dst = N1, .sport = 5001, .dport = 8081, .proto = TCP, .tcp = SYN },
		TC_ACT_REDIRECT
	};
	static const struct row lost = { "nobody knows it",
		                         PROG_TASK,
		                         H1,
		                         { .smac = T1_MAC,
		                           .src = "10.0.0.11",
		                           .dst = CLIENT,
		                           .sport = 80,
		                           .dport = 4999,
		                           .proto = TCP,
		                           .tcp = ACK },
		                         TC_ACT_OK };
	char pin[128], dir[128];
	struct ebpf *old = e;
	uint32_t zero = 0;

	(void)state;
	pin_path(pin, "");
	pin_path(dir, "maps_test");
	struct ebpf_config c = config_of(pin);
	struct dp_ip t1 = ip_of("10.0.0.11");
	ebpf_flow_purge(e, &t1);
	OK(ebpf_open_in(&c, dir, true, &e, &err));
	set_tables();
	for (int p = 0; p < PROG_XDP; p++)
		assert_int_equal(bpf_map_update_elem(e->before_fd[p], &zero, &old->prog_fd[p], BPF_ANY), 0);
	e->runtime->phase = PHASE_BEFORE;
	/* Counted by the old programs. */
	_Alignas(8) uint8_t in_mem[2 + 256], out[2 + 512];
	size_t len, n = build(&begin.in, in_mem + 2);
	assert_int_equal(test_run(&begin, in_mem + 2, n, out + 2, &len), TC_ACT_REDIRECT);
	check_frame(&begin.out, out + 2, len);
	assert_int_equal(flows_of(old), 1);
	assert_int_equal(flows_of(e), 0);
	e->runtime->phase = PHASE_COPYING;
	run_row(&goes_on);
	run_row(&back);
	run_row(&second);
	run_row(&lost);
	assert_int_equal(flows_of(old), 1);
	assert_int_equal(flows_of(e), 1);
	e->runtime->phase = PHASE_OWN;
	run_row(&lost);
	ebpf_close(e);
	ebpf_remove_dir(dir);
	e = old;
}

/* Killed between the change-over and the last copy: the next start brings the rest. */
static void a_hand_over_cut_short_is_finished(void **state)
{
	static const struct row begin[] = { { "begins", PROG_UPLINK, UP0, CLIENT_SYN(8081), TC_ACT_REDIRECT },
		                            { "is open", PROG_UPLINK, UP0, CLIENT_ACK(8081), TC_ACT_REDIRECT } };
	static const struct row goes_on = { "goes on", PROG_TASK, H1, TASK_ANSWER, TC_ACT_REDIRECT, .out = AT_CLIENT };
	char own[128], other[128], pin[128], name[32];
	struct dp_ip t1 = ip_of("10.0.0.11");

	(void)state;
	snprintf(name, sizeof(name), "maps%d_1024", ABI_LAYOUT);
	pin_path(own, name);
	pin_path(other, "maps9998");
	pin_path(pin, "");
	RUN(begin);
	/* The old maps, with the flow, and ours without it. */
	ebpf_close(e);
	assert_int_equal(rename(own, other), 0);
	struct ebpf_config c = config_of(pin);
	OK(ebpf_open_in(&c, own, false, &e, &err));
	set_tables();
	ebpf_flow_purge(e, &t1);
	ebpf_close(e);
	open_node(pin);
	run_row(&goes_on);
	assert_int_not_equal(access(other, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_convert_by_name),
		cmocka_unit_test(everything_is_there_after),
		cmocka_unit_test(a_changing_set_goes_on),
		cmocka_unit_test(every_phase_finds_who_knows),
		cmocka_unit_test(a_hand_over_cut_short_is_finished),
	};

	if (geteuid() != 0) {
		puts("1..1\nok 1 handover # SKIP needs root");
		return 0;
	}
	return cmocka_run_group_tests_name("handover", tests, setup, teardown);
}
