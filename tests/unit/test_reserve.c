/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "dataplane/netlink/netns.h"
#include "dataplane/reserve.h"

static void test_text(void **state)
{
	(void)state;
	static const char *const same[] = { "", "1", "65535", "8080,9000-9010", "0-65535", "1,3,5-7" };
	static const char *const bad[] = { "x", "1,x", "70000", "9-8", "-5", "5-", "1;2", " 1" };
	struct port_set s;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		struct buf b = { 0 };
		assert_int_equal(port_set_parse(same[i], &s), 0);
		port_set_format(&s, &b);
		assert_string_equal(buf_str(&b), same[i]);
		buf_fini(&b);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_not_equal(port_set_parse(bad[i], &s), 0);
}

static void expect(const char *want)
{
	char text[256];
	assert_int_equal(sysctl_get("net/ipv4/ip_local_reserved_ports", text, sizeof(text)), 0);
	assert_string_equal(text, want);
}

static void test_apply_keeps_what_others_reserved(void **state)
{
	(void)state;
	struct port_set ours = { 0 }, want = { 0 };
	if (unshare(CLONE_NEWNET) < 0)
		skip(); /* needs root */
	assert_int_equal(sysctl_set("net/ipv4/ip_local_reserved_ports", "40000,50000\n"), 0);
	port_set_add(&want, 40000);
	port_set_add(&want, 40001);
	port_set_add(&want, 41000);
	assert_int_equal(reserve_apply(&ours, &want), 0);
	expect("40000-40001,41000,50000");
	memset(&want, 0, sizeof(want));
	port_set_add(&want, 42000);
	assert_int_equal(reserve_apply(&ours, &want), 0);
	expect("40000,42000,50000");
	memset(&want, 0, sizeof(want));
	assert_int_equal(reserve_apply(&ours, &want), 0);
	expect("40000,50000");
	assert_int_equal(sysctl_set("net/ipv4/ip_local_reserved_ports", "\n"), 0);
	port_set_add(&want, 42000);
	assert_int_equal(reserve_apply(&ours, &want), 0);
	memset(&want, 0, sizeof(want));
	assert_int_equal(reserve_apply(&ours, &want), 0);
	expect("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_apply_keeps_what_others_reserved),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
