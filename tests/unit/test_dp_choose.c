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
		bool tried;
		int rc;
		const struct dp_driver *drv;
		const char *says;
	} all[] = {
		{ "auto", 0, false, 0, &dp_driver_ebpf, "ebpf: kernel 6.1.0 has all it needs" },
		{ NULL, 0, false, 0, &dp_driver_ebpf, "ebpf: " },
		{ "", 0, false, 0, &dp_driver_ebpf, "ebpf: " },
		{ "ebpf", 0, false, 0, &dp_driver_ebpf, "ebpf: " },
		{ "nft", 0, false, 0, &dp_driver_nft, "nft: as configured; cannot " },
		{ "auto", MESH_E_UNSUPPORTED, false, 0, &dp_driver_nft,
		  "nft: no eBPF (this kernel lacks it); cannot " },
		{ "auto", -EPERM, false, 0, &dp_driver_nft, "nft: no eBPF (this kernel lacks it); cannot " },
		{ "nft", MESH_E_UNSUPPORTED, false, 0, &dp_driver_nft, "nft: as configured; cannot " },
		{ "ebpf", MESH_E_UNSUPPORTED, false, MESH_E_UNSUPPORTED, NULL, "driver ebpf: this kernel lacks it" },
		/* The kernel has all, and its verifier takes no program. */
		{ "auto", -EACCES, true, 0, &dp_driver_nft,
		  "nft: eBPF does not start (this kernel lacks it); cannot " },
		{ "ebpf", -EACCES, true, -EACCES, NULL,
		  "driver ebpf does not start: this kernel lacks it; meshd --data-plane auto takes nft instead" },
		{ "bridge", 0, false, MESH_E_INVALID, NULL, "driver 'bridge': one of auto, ebpf, nft" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct dp_probed probed = { all[i].probed, all[i].tried, "this kernel lacks it", "6.1.0" };
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
	struct dp_probed probed = { .code = -EPERM, .tried = true, .kernel = "6" };
	char why[300] = "";
	memset(why, 'w', sizeof(why) - 1);
	probed.why = why;
	struct dp_choice c = { 0 };
	assert_int_equal(dp_choose("auto", &probed, &c, NULL), 0);
	assert_string_equal(c.text + strlen(c.text) - 6, "serves");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_choice), cmocka_unit_test(test_all_is_said) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
