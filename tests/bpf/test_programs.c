// SPDX-License-Identifier: GPL-2.0-or-later
/* The tc and XDP programs under BPF_PROG_TEST_RUN. The tables are in programs/, by concept; here is what spans them. */
#include "tests/bpf/programs/detour.h"
#include "tests/bpf/programs/changes.h"
#include "tests/bpf/programs/edges.h"
#include "tests/bpf/programs/flood.h"
#include "tests/bpf/programs/fragments.h"
#include "tests/bpf/programs/ingress.h"
#include "tests/bpf/programs/kept.h"
#include "tests/bpf/programs/many.h"
#include "tests/bpf/programs/networks.h"
#include "tests/bpf/programs/policy.h"
#include "tests/bpf/programs/probe.h"
#include "tests/bpf/programs/reach.h"
#include "tests/bpf/programs/outer.h"
#include "tests/bpf/programs/states.h"
#include "tests/bpf/programs/task.h"
#include "tests/bpf/programs/tunnel.h"
#include "tests/bpf/programs/xdp.h"

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

static void metrics(void **state)
{
	struct dp_stats st = {};

	(void)state;
	ebpf_stats(e, &st);
	assert_int_equal(st.drops.n, DROP_MAX);
	assert_string_equal(st.drops.v[DROP_SPOOF].id, "spoof");
	assert_true(st.drops.v[DROP_SPOOF].n > 0);
	assert_int_equal(st.events.n, EVENT_MAX);
	assert_true(st.events.v[EVENT_SECOND_CHANCE].n > 0);
	for (size_t i = 0; i < st.tables.n; i++)
		assert_true(st.tables.v[i].used <= st.tables.v[i].max);
	sch_clear(&dp_stats_schema, &st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uplink),
		cmocka_unit_test(answers),
		cmocka_unit_test(loopback),
		cmocka_unit_test(tunnel),
		cmocka_unit_test(probes),
		cmocka_unit_test(task),
		cmocka_unit_test(detour),
		cmocka_unit_test(arp),
		cmocka_unit_test(service_datagrams_leave_who_drains),
		cmocka_unit_test(edges),
		cmocka_unit_test(datagrams_are_seen),
		cmocka_unit_test(no_client_port_is_free),
		cmocka_unit_test(a_port_of_a_closed_connection_is_used_again),
		cmocka_unit_test(a_port_where_datagrams_rest_is_used_again),
		cmocka_unit_test(icmp_errors),
		cmocka_unit_test(broken),
		cmocka_unit_test(drain),
		cmocka_unit_test(flow_count_follows_tcp),
		cmocka_unit_test(refusals),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(metrics),
		cmocka_unit_test(nothing_leaks),
		cmocka_unit_test(flows_keep_their_task),
		cmocka_unit_test(many_services),
		cmocka_unit_test(many_addresses),
		cmocka_unit_test(many_nodes),
		cmocka_unit_test(syn_flood),
		cmocka_unit_test(outer_received),
		cmocka_unit_test(outer_cut_short),
		cmocka_unit_test(outer_sent),
		cmocka_unit_test(xdp),
		cmocka_unit_test(xdp_has_no_way),
		cmocka_unit_test(xdp_neighbour_moves),
		cmocka_unit_test(another_xdp_program_stays),
		cmocka_unit_test(address_ranges),
		cmocka_unit_test(fragments),
		cmocka_unit_test(too_big),
		cmocka_unit_test(affinity),
		cmocka_unit_test(affinity_turned_on_and_off),
		cmocka_unit_test(datagrams_through_a_switch),
		cmocka_unit_test(datagrams_leave_who_drains),
		cmocka_unit_test(datagrams_by_another_table),
		cmocka_unit_test(many_networks),
		cmocka_unit_test(restart_sweeps),
		cmocka_unit_test(programs_outlive_the_daemon),
		cmocka_unit_test(every_drop_reason_was_hit),
	};

	if (geteuid() != 0) {
		puts("1..1\nok 1 programs # SKIP needs root");
		return 0;
	}
	return cmocka_run_group_tests_name("programs", tests, setup, teardown);
}
