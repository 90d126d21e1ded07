/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dataplane/dp_int.h"

static void test_choice(void **state)
{
	(void)state;
	static const struct {
		const char *want;
		int probed;
		int rc;
		const struct dp_driver *drv;
		const char *says;
	} all[] = {
		{ "auto", 0, 0, &dp_driver_ebpf, "ebpf: kernel 6.1.0 has all it needs" },
		{ NULL, 0, 0, &dp_driver_ebpf, "ebpf: " },
		{ "", 0, 0, &dp_driver_ebpf, "ebpf: " },
		{ "ebpf", 0, 0, &dp_driver_ebpf, "ebpf: " },
		{ "nft", 0, 0, &dp_driver_nft, "nft: as configured; cannot " },
		{ "auto", MESH_E_UNSUPPORTED, 0, &dp_driver_nft, "nft: no eBPF (this kernel lacks it); cannot " },
		{ "auto", -EPERM, 0, &dp_driver_nft, "nft: no eBPF (this kernel lacks it); cannot " },
		{ "nft", MESH_E_UNSUPPORTED, 0, &dp_driver_nft, "nft: as configured; cannot " },
		{ "ebpf", MESH_E_UNSUPPORTED, MESH_E_UNSUPPORTED, NULL, "driver ebpf: this kernel lacks it" },
		{ "bridge", 0, MESH_E_INVALID, NULL, "driver 'bridge': one of auto, ebpf, nft" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct dp_probed probed = { all[i].probed, "this kernel lacks it", "6.1.0" };
		struct dp_choice c = { 0 };
		struct mesh_err err = { 0 };
		assert_int_equal(dp_choose(all[i].want, &probed, &c, &err), all[i].rc);
		assert_ptr_equal(c.drv, all[i].drv);
		assert_non_null(strstr(all[i].rc ? err.msg : c.text, all[i].says));
	}
}

/* Nothing of what a node says of itself is cut off. */
static void test_all_is_said(void **state)
{
	(void)state;
	struct dp_probed probed = { -EPERM,
		                    "a reason that is longer than what there is room for, by quite a bit, and more",
		                    "6" };
	struct dp_choice c = { 0 };
	assert_int_equal(dp_choose("auto", &probed, &c, NULL), 0);
	assert_string_equal(c.text + strlen(c.text) - 6, "serves");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_choice), cmocka_unit_test(test_all_is_said) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
