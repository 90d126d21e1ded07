// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets between real sockets, through two nodes (path/world.h): every test in every mode. */
#include "tests/bpf/path/changes.h"
#include "tests/bpf/path/errors.h"
#include "tests/bpf/path/overlay.h"
#include "tests/bpf/path/published.h"

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_port),    cmocka_unit_test(bulk),
		cmocka_unit_test(from_the_host),     cmocka_unit_test(from_a_task),
		cmocka_unit_test(host_mode),         cmocka_unit_test(colliding_ports),
		cmocka_unit_test(udp_both_ways),     cmocka_unit_test(overlay),
		cmocka_unit_test(socket_hooks),      cmocka_unit_test(refused),
		cmocka_unit_test(second_chance),     cmocka_unit_test(socket_leaves_who_drains),
		cmocka_unit_test(crashed_task),      cmocka_unit_test(udp_refusal),
		cmocka_unit_test(drain_and_restart), cmocka_unit_test(path_mtu),
		cmocka_unit_test(overlay_bulk),      cmocka_unit_test(overlay_datagrams_at_once),
		cmocka_unit_test(overlay_fragments), cmocka_unit_test(large_from_client),
	};
	int failed = 0;

	if (geteuid() != 0 || !cgroup2()) {
		puts("1..1\nok 1 path # SKIP needs root and a cgroup v2 hierarchy");
		return 0;
	}
	/* An argument picks one mode by its number. */
	for (size_t i = 0; i < ARRAY_SIZE(modes) && !failed; i++) {
		mode = &modes[i];
		if (argc < 2 || (size_t)atoi(argv[1]) == i)
			failed = cmocka_run_group_tests_name(mode->name, tests, setup, teardown);
	}
	return failed;
}
