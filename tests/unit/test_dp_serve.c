/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tasks are given: names, connections from everywhere, ports the host does not have, figures. */
#include "tests/unit/dp_inside.h"

static void test_two_tasks_serve(void **state)
{
	(void)state;
	open_or_fail();
	dp_submit(w.dp, whole_state());
	attach_ok(attach_of(0));
	attach_ok(attach_of(1));
	dp_attach_done(w.dp);
}

static void test_names(void **state)
{
	(void)state;
	expect_dns(0, "web", DNS_A, false, 0, "10.77.1.2");
	expect_dns(0, "WWW", DNS_A, false, 0, "10.77.1.2");
	expect_dns(0, "web.blue", DNS_A, false, 0, "10.77.1.2");
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11 10.77.1.12");
	expect_dns(1, "tasks.web", DNS_A, true, 0, "10.77.1.11 10.77.1.12");
	expect_dns(1, "web.1.task1task1task1task1task1", DNS_A, false, 0, "10.77.1.11");
	expect_dns(0, "web", DNS_AAAA, false, 0, "");
	expect_dns(0, "12.1.77.10.in-addr.arpa", DNS_PTR, false, 0, "web");
	expect_dns(0, "99.1.77.10.in-addr.arpa", DNS_PTR, false, DNS_NXDOMAIN, "");
}

static void test_traffic(void **state)
{
	(void)state;
	pid_t l0 = listen_in(w.task[0]), l1 = listen_in(w.task[1]);
	/* East-west, straight and through the virtual address. */
	expect_dial(w.task[0], "10.77.1.12", 80, "10.77.1.11");
	expect_dial(w.task[0], "10.77.1.2", 80, NULL);
	/* From outside and from the host itself; the task sees who it is. */
	expect_dial(w.client, NODE, 8080, CLIENT);
	expect_dial(0, NODE, 8080, NULL);
	expect_dial(0, "127.0.0.1", 8080, NULL);
	kill_ns(&l0);
	kill_ns(&l1);
}

static void test_host_port_is_refused(void **state)
{
	(void)state;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(9090) };
	forget_reports();
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	wait_host_port(9090);
	struct dp_delta *d = delta_new(false);
	struct dp_service *s = add_service(d, NET_ING, "10.77.0.2");
	*LIST_ADD(&s->ports) = (struct dp_port){ IPPROTO_TCP, 8080, 80 };
	*LIST_ADD(&s->ports) = (struct dp_port){ IPPROTO_TCP, 9090, 80 };
	dp_submit(w.dp, d);
	struct dp_report r = wait_report(DP_DEGRADED, NULL, 0);
	assert_non_null(strstr(r.text, "9090"));
	assert_non_null(strstr(r.text, "test_dp_serve"));
	(void)wait_report(DP_APPLIED, NULL, w.version);
	/* Whole again when the listener goes. */
	close(fd);
	r = wait_report(DP_DEGRADED, NULL, 0);
	assert_string_equal(r.text, "");
}

static void test_draining_leaves_names(void **state)
{
	(void)state;
	struct dp_delta *d = delta_new(false);
	add_endpoint(d, 1, NET_BLUE, "10.77.1.12", DP_DRAINING);
	dp_submit(w.dp, d);
	(void)wait_report(DP_APPLIED, NULL, w.version);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11");
	expect_dns(0, "web.2.task2task2task2task2task2", DNS_A, false, 0, "10.77.1.12");
	d = delta_new(false);
	add_endpoint(d, 1, NET_BLUE, "10.77.1.12", DP_SERVING);
	dp_submit(w.dp, d);
	(void)wait_report(DP_APPLIED, NULL, w.version);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11 10.77.1.12");
}

static void test_metrics(void **state)
{
	(void)state;
	struct dp_stats s = { 0 };
	/* It gives the figures of last time when it has waited long enough: none, the first time. */
	for (int64_t end = clock_mono_ns() + WAIT_S * NS_PER_SEC; !s.tasks && clock_mono_ns() < end;) {
		sch_clear(&dp_stats_schema, &s);
		dp_stats_get(w.dp, &s);
	}
	assert_int_equal(s.tasks, 2);
	assert_true(s.dns.n > 0);
	assert_true(s.services.n > 0);
	sch_clear(&dp_stats_schema, &s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_tasks_serve),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_traffic),
		cmocka_unit_test(test_host_port_is_refused),
		cmocka_unit_test(test_draining_leaves_names),
		cmocka_unit_test(test_metrics),
	};
	return run_with_drivers(tests, ARRAY_SIZE(tests));
}
