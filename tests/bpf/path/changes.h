/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: tasks that drain, die or refuse, and a daemon that restarts. */
#ifndef TESTS_BPF_PATH_CHANGES_H
#define TESTS_BPF_PATH_CHANGES_H

#include "tests/bpf/path/traffic.h"

static void set_states(enum dp_backend_state s1, enum dp_backend_state s2)
{
	states[0] = s1;
	states[1] = s2;
	for (int k = 0; k < 2; k++) {
		enter(nodes[k].ns);
		set_all(&nodes[k]);
	}
}

/* Nobody serves: a task hears so at once. */
static void refused(void **state)
{
	(void)state;
	set_states(DP_DRAINING, DP_STARTING);
	move_to(nodes[0].cgroup);
	struct sockaddr_in vip = sin_of("10.0.1.2", 80);
	int fd = socket_in(T1, SOCK_STREAM);
	int rc = connect(fd, (struct sockaddr *)&vip, sizeof(vip)), why = errno;
	move_to(cgroup2());
	close(fd);
	set_states(DP_SERVING, DP_SERVING);
	assert_int_equal(rc, -1);
	assert_int_equal(why, ECONNREFUSED);
}

/* n1 has heard that its task drains, n2 has not: what n2 still sends there is passed on, and nobody notices. */
static void second_chance(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	states[0] = DP_DRAINING;
	enter(nodes[0].ns);
	set_all(&nodes[0]);
	for (int i = 0; i < 20; i++)
		check_exchange(srv, CLIENT, "172.31.9.12", 8080, "172.31.9.100", hits);
	assert_int_equal(hits[0], 0);
	set_states(DP_SERVING, DP_SERVING);
	close(srv[0]);
	close(srv[1]);
}

/* An unconnected socket asks a service: another answers as soon as its task takes nothing new. */
static void socket_leaves_who_drains(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) }, at[3];
	struct sockaddr_in vip = sin_of("10.0.1.2", 80);
	char b[8];

	(void)state;
	move_to(nodes[0].cgroup);
	int fd = socket_in(T1, SOCK_DGRAM);
	move_to(cgroup2());
	for (int i = 0; i < 3; i++) {
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		if (i == 2)
			set_states(at[0] ? DP_SERVING : DP_DRAINING, at[0] ? DP_DRAINING : DP_SERVING);
		assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&vip, sizeof(vip)), 4);
		assert_true(poll(p, 2, PATIENCE_MS) > 0);
		at[i] = p[0].revents ? 0 : 1;
		assert_int_equal(recv(srv[at[i]], b, sizeof(b), 0), 4);
	}
	assert_int_equal(at[1], at[0]);
	assert_int_not_equal(at[2], at[0]);
	set_states(DP_SERVING, DP_SERVING);
	close(fd);
	close(srv[0]);
	close(srv[1]);
}

static uint64_t asked_again(struct node *n)
{
	struct dp_stats st = {};

	enter(n->ns);
	ebpf_stats(n->e, &st);
	uint64_t count = st.events.v[EVENT_ASK_AGAIN].n;
	sch_clear(&dp_stats_schema, &st);
	return count;
}

/* Its task has died, and no node has heard of it: who dials it meanwhile gets another when its node has. */
static void crashed_task(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	struct sockaddr_in to = sin_of("172.31.9.12", 8080);
	int hits[2] = {}, why = 0, fd = -1;
	socklen_t len = sizeof(why);

	(void)state;
	while (!hits[0])
		check_exchange(srv, CLIENT, "172.31.9.12", 8080, "172.31.9.100", hits);
	close(srv[0]);
	for (uint64_t before = asked_again(&nodes[0]); asked_again(&nodes[0]) == before;) {
		if (fd >= 0)
			close(fd); /* it came to the other */
		fd = socket_in(CLIENT, SOCK_STREAM | SOCK_NONBLOCK);
		assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
		assert_int_equal(errno, EINPROGRESS);
	}
	states[0] = DP_DRAINING;
	enter(nodes[0].ns);
	set_all(&nodes[0]);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len), 0);
	assert_int_equal(why, 0);
	close(fd);
	close(srv[1]);
	set_states(DP_SERVING, DP_SERVING);
}

/* Everything open stays open while one backend drains and the daemon restarts. */
static void drain_and_restart(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int fd[8], conn[8], which[8];
	struct sockaddr_in peer;
	struct dp_ip t1 = ip_of("10.0.0.11");
	size_t flows, mine = 0;

	(void)state;
	for (int i = 0; i < 8; i++) {
		fd[i] = dial(CLIENT, NULL, 0, i % 2 ? "172.31.9.12" : "172.31.9.11", 8080);
		assert_true(fd[i] >= 0);
		which[i] = accepted(srv, &conn[i], &peer);
		talk(fd[i], conn[i], 100);
		mine += which[i] == 0;
	}
	OK(ebpf_flow_count(nodes[0].e, &t1, &flows));
	assert_int_equal(flows, mine);
	states[0] = DP_DRAINING;
	for (int k = 0; k < 2; k++) {
		enter(nodes[k].ns);
		set_all(&nodes[k]);
	}
	for (int k = 0; k < 2; k++) {
		ebpf_close(nodes[k].e);
		for (int i = 0; i < 8; i++)
			talk(fd[i], conn[i], 1000);
		open_node(&nodes[k]);
	}
	int hits[2] = {};
	for (int i = 0; i < 10; i++)
		check_exchange(srv, CLIENT, i % 2 ? "172.31.9.12" : "172.31.9.11", 8080, "172.31.9.100", hits);
	assert_int_equal(hits[0], 0);
	for (int i = 0; i < 8; i++) {
		talk(fd[i], conn[i], 1000);
		talk(conn[i], fd[i], 1000);
		close(fd[i]);
		close(conn[i]);
	}
	states[0] = DP_SERVING;
	for (int k = 0; k < 2; k++) {
		enter(nodes[k].ns);
		set_all(&nodes[k]);
	}
	close(srv[0]);
	close(srv[1]);
}

#endif
