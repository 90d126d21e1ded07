/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tasks come and go, the data plane ends and begins, and nothing of it is left in the kernel. */
#include "tests/unit/dp_inside.h"

static void test_open_reports_host(void **state)
{
	(void)state;
	open_or_fail();
	struct dp_report r = wait_report(DP_HOST, NULL, 0);
	assert_int_equal(r.code, 1);
	assert_string_equal(r.text, NODE "/24");
	assert_int_equal(strncmp(dp_driver(w.dp), w.driver, strlen(w.driver)), 0);
	assert_int_equal(own_links(false, NULL), 1); /* the vxlan device */
}

static void test_attach_before_state_waits(void **state)
{
	(void)state;
	dp_attach_task(w.dp, attach_of(0));
	dp_submit(w.dp, whole_state());
	struct dp_report r = wait_report(DP_APPLIED, NULL, 1);
	if (r.code)
		fail_msg("applied: %s", r.text);
	r = wait_report(DP_ATTACHED, TASKS[0], 0);
	if (r.code)
		fail_msg("attach: %s", r.text);
	attach_ok(attach_of(1));
	dp_attach_done(w.dp);
	assert_int_equal(own_links(true, NULL), 4);
}

static void test_wired_inside(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char ing[32], blue[32];
		snprintf(ing, sizeof(ing), "10.77.0.%u", 11 + i);
		snprintf(blue, sizeof(blue), "10.77.1.%u", 11 + i);
		struct iface_check eth0 = { "eth0", ing, "10.77.0.1", false, 0 };
		struct iface_check eth1 = { "eth1", blue, "10.77.1.1", true, 0 };
		assert_int_equal(in_ns(w.task[i], check_iface, &eth0), 0);
		assert_int_equal(in_ns(w.task[i], check_iface, &eth1), 0);
	}
}

static void test_watch_listen_and_flows(void **state)
{
	(void)state;
	struct dp_port port = { IPPROTO_TCP, 8080, 80 };
	forget_reports();
	dp_watch_listen(w.dp, task_of(0), &port, 1);
	dp_watch_listen(w.dp, task_of(1), NULL, 0);
	(void)wait_report(DP_LISTENING, TASKS[1], 0);
	assert_false(has_report(DP_LISTENING));
	pid_t l = listen_in(w.task[0]);
	(void)wait_report(DP_LISTENING, TASKS[0], 0);
	/* A connection that is open holds the end back. */
	int opened[2], hold[2];
	char c;
	assert_int_equal(pipe2(opened, O_CLOEXEC), 0);
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	pid_t dialer = fork();
	assert_true(dialer >= 0);
	if (!dialer) {
		close(hold[1]);
		struct dial d = { "10.77.1.11", 80, NULL, hold[0], opened[1] };
		int ns = netns_open(w.task[1], NULL);
		_exit(setns(ns, CLONE_NEWNET) < 0 ? 9 : dial(&d));
	}
	close(hold[0]);
	close(opened[1]);
	assert_int_equal(read(opened[0], &c, 1), 1);
	dp_watch_flows(w.dp, task_of(0));
	dp_watch_flows(w.dp, task_of(1)); /* nobody is connected to that one */
	(void)wait_report(DP_FLOWS_ENDED, TASKS[1], 0);
	assert_false(has_report(DP_FLOWS_ENDED));
	close(hold[1]);
	(void)wait_report(DP_FLOWS_ENDED, TASKS[0], 0);
	int status;
	waitpid(dialer, &status, 0);
	assert_int_equal(status, 0);
	close(opened[0]);
	kill_ns(&l);
}

static void test_restart_adopts(void **state)
{
	(void)state;
	int before = 0, after = 0;
	assert_int_equal(own_links(true, &before), 4);
	pid_t l = listen_in(w.task[0]);
	struct dp_delta *d = delta_new(false);
	add_endpoint(d, 1, NET_ING, "10.77.0.12", DP_DRAINING);
	dp_submit(w.dp, d);
	(void)wait_report(DP_APPLIED, NULL, w.version);
	dp_close(w.dp);
	/* Nobody is at home, and traffic goes on; a question waits in the shim's socket. */
	expect_dial(w.client, NODE, 8080, CLIENT);
	pid_t asker = ask_later(0, "web", "10.77.1.2");
	open_or_fail();
	expect_dial(w.client, NODE, 8080, CLIENT);
	forget_reports();
	/* Without a manager: what was saved is enough. */
	attach_ok(attach_of(0));
	attach_ok(attach_of(1));
	dp_attach_done(w.dp);
	assert_int_equal(own_links(true, &after), 4);
	assert_int_equal(before, after);
	int status;
	assert_int_equal(waitpid(asker, &status, 0), asker);
	assert_int_equal(status, 0);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11 10.77.1.12");
	expect_dial(w.client, NODE, 8080, CLIENT);
	dp_submit(w.dp, whole_state());
	(void)wait_report(DP_APPLIED, NULL, w.version);
	expect_dial(w.task[1], "10.77.1.11", 80, "10.77.1.12");
	kill_ns(&l);
}

static void test_crashed_task_is_swept(void **state)
{
	(void)state;
	dp_close(w.dp);
	kill_ns(&w.task[1]);
	open_or_fail();
	attach_ok(attach_of(0));
	dp_attach_done(w.dp);
	dp_submit(w.dp, delta_new(false));
	(void)wait_report(DP_APPLIED, NULL, w.version);
	assert_int_equal(own_links(true, NULL), 2);
	w.task[1] = make_ns(false);
	attach_ok(attach_of(1));
	assert_int_equal(own_links(true, NULL), 4);
}

static void test_local_network(void **state)
{
	(void)state;
	pid_t pid = make_ns(false);
	struct dp_attach *a = XNEW(struct dp_attach);
	mesh_id_set(a->task.s, "alonealonealonealonealone");
	a->pid = pid;
	a->dns_udp_fd = a->dns_tcp_fd = -1;
	LIST_ADD(&a->nets)->addr = NULL;
	attach_ok(a);
	/* Out to the client, masqueraded. */
	pid_t l = listen_in(w.client);
	expect_dial(pid, CLIENT, 80, NODE);
	kill_ns(&l);
	task_id id;
	mesh_id_set(id.s, "alonealonealonealonealone");
	dp_detach_task(w.dp, id);
	(void)wait_report(DP_DETACHED, id.s, 0);
	kill_ns(&pid);
}

static void test_bad_attach_leaves_nothing(void **state)
{
	(void)state;
	size_t before = own_links(true, NULL);
	struct dp_attach *a = attach_of(0);
	mesh_id_set(a->task.s, "wrongwrongwrongwrongwrong");
	free(a->nets.v[1].addr);
	a->nets.v[1].addr = xstrdup("not an address");
	a->pid = w.client;
	dp_attach_task(w.dp, a);
	struct dp_report r = wait_report(DP_ATTACHED, "wrongwrongwrongwrongwrong", 0);
	assert_int_equal(r.code, MESH_E_INVALID);
	assert_non_null(strstr(r.text, "not an address"));
	a = attach_of(0);
	mesh_id_set(a->task.s, "wrongwrongwrongwrongwrong");
	a->pid = getpid();
	dp_attach_task(w.dp, a);
	r = wait_report(DP_ATTACHED, "wrongwrongwrongwrongwrong", 0);
	assert_int_equal(r.code, MESH_E_INVALID);
	assert_int_equal(own_links(true, NULL), before);
}

static void test_detach_leaves_nothing(void **state)
{
	(void)state;
	forget_reports();
	dp_detach_task(w.dp, task_of(1));
	(void)wait_report(DP_DETACHED, TASKS[1], 0);
	assert_int_equal(own_links(true, NULL), 2);
	expect_dns(0, "tasks.web", DNS_A, false, 0, "10.77.1.11"); /* though the manager still names it */
	struct kern *k;
	struct kern_routes routes = { 0 };
	struct dp_ip gone = ip_of("10.77.1.12");
	assert_int_equal(kern_open(&k, NULL), 0);
	assert_int_equal(kern_routes(k, &routes), 0);
	for (size_t i = 0; i < routes.len; i++)
		assert_memory_not_equal(&routes.data[i].dst, &gone, sizeof(gone));
	vec_fini(&routes);
	kern_close(k);
	dp_watch_flows(w.dp, task_of(1));
	(void)wait_report(DP_FLOWS_ENDED, TASKS[1], 0);
}

static void test_destroy_removes_all(void **state)
{
	(void)state;
	dp_destroy(w.dp);
	w.dp = NULL;
	assert_int_equal(own_links(false, NULL), 0);
	FILE *p = popen("nft list tables", "re");
	char line[128];
	assert_non_null(p);
	while (fgets(line, sizeof(line), p))
		assert_null(strstr(line, MARK));
	pclose(p);
	char path[120];
	snprintf(path, sizeof(path), "%s/bpf", w.run);
	assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_reports_host),     cmocka_unit_test(test_attach_before_state_waits),
		cmocka_unit_test(test_wired_inside),          cmocka_unit_test(test_watch_listen_and_flows),
		cmocka_unit_test(test_restart_adopts),        cmocka_unit_test(test_crashed_task_is_swept),
		cmocka_unit_test(test_local_network),         cmocka_unit_test(test_bad_attach_leaves_nothing),
		cmocka_unit_test(test_detach_leaves_nothing), cmocka_unit_test(test_destroy_removes_all),
	};
	return run_with_drivers(tests, ARRAY_SIZE(tests));
}
