/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: published ports: from outside, from the nodes themselves, from a task. */
#ifndef TESTS_BPF_PATH_PUBLISHED_H
#define TESTS_BPF_PATH_PUBLISHED_H

#include "tests/bpf/path/traffic.h"

static bool no_flows(void *arg)
{
	struct dp_ip t1 = ip_of("10.0.0.11");
	size_t flows;

	(void)arg;
	OK(ebpf_flow_count(nodes[0].e, &t1, &flows));
	return flows == 0;
}

static void published_port(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 20; i++) {
		check_exchange(srv, CLIENT, "172.31.9.11", 8080, "172.31.9.100", hits);
		check_exchange(srv, CLIENT, "172.31.9.12", 8080, "172.31.9.100", hits);
	}
	assert_true(hits[0] > 5 && hits[1] > 5);
	/* The last one's end may still be on its way. */
	assert_true(comes_true(no_flows, NULL));
	close(srv[0]);
	close(srv[1]);
}

static void check_bulk(enum ns from, const char *addr)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	bool seen[2] = {};
	struct sockaddr_in peer;

	for (int i = 0; i < 40 && !(seen[0] && seen[1]); i++) {
		int conn, fd = dial(from, NULL, 0, addr, 8080);
		assert_true(fd >= 0);
		int which = accepted(srv, &conn, &peer);
		if (!seen[which]) {
			talk(fd, conn, 4 << 20);
			talk(conn, fd, 4 << 20);
		}
		seen[which] = true;
		close(fd);
		close(conn);
	}
	assert_true(seen[0] && seen[1]);
	close(srv[0]);
	close(srv[1]);
}

static void bulk(void **state)
{
	(void)state;
	check_bulk(CLIENT, "172.31.9.11");
	check_bulk(N1, "127.0.0.1");
	check_bulk(T1, "172.31.9.11");
}

static void from_the_host(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {}, local[2] = {};

	(void)state;
	for (int i = 0; i < 40; i++) { /* both backends, whatever ports the kernel chooses */
		check_exchange(srv, N1, "172.31.9.11", 8080, "172.31.9.11", hits);
		check_exchange(srv, N1, "127.0.0.1", 8080, "172.31.9.11", local);
	}
	assert_true(hits[0] && hits[1] && local[0] && local[1]);
	close(srv[0]);
	close(srv[1]);
}

static void from_a_task(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 40 && !(hits[0] && hits[1]); i++)
		check_exchange(srv, T1, "172.31.9.11", 8080, "172.31.9.11", hits);
	assert_true(hits[0] && hits[1]);
	close(srv[0]);
	close(srv[1]);
}

static void host_mode(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 4; i++)
		check_exchange(srv, CLIENT, "172.31.9.12", 9090, "172.31.9.100", hits);
	assert_int_equal(hits[0], 0);
	assert_int_equal(hits[1], 4);
	close(srv[0]);
	close(srv[1]);
}

/* One client port to two addresses: where both land on one task, the second needs another port there. */
static void colliding_ports(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int same = 0;

	(void)state;
	for (uint16_t port = 20000; port < 20040 && same < 4; port++) {
		struct sockaddr_in p1, p2;
		int c1, c2, f1 = dial(CLIENT, "172.31.9.100", port, "172.31.9.11", 8080);
		assert_true(f1 >= 0);
		int w1 = accepted(srv, &c1, &p1);
		int f2 = dial(CLIENT, "172.31.9.100", port, "172.31.9.12", 8080);
		assert_true(f2 >= 0);
		int w2 = accepted(srv, &c2, &p2);
		if (w1 == w2) {
			same++;
			assert_int_equal(ntohs(p1.sin_port), port);
			assert_int_not_equal(p2.sin_port, p1.sin_port);
		}
		talk(f1, c1, 2000);
		talk(f2, c2, 2000);
		talk(c1, f1, 2000);
		talk(c2, f2, 2000);
		close(f1);
		close(f2);
		close(c1);
		close(c2);
	}
	assert_true(same > 0);
	close(srv[0]);
	close(srv[1]);
}

static void udp_both_ways(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 40; i++) {
		struct sockaddr_in to = sin_of("172.31.9.11", 8080), peer;
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		socklen_t len = sizeof(peer);
		char b[8];
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
		assert_true(poll(p, 2, PATIENCE_MS) > 0);
		int w = p[0].revents ? 0 : 1;
		assert_int_equal(recvfrom(srv[w], b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(sendto(srv[w], "pong", 4, 0, (struct sockaddr *)&peer, sizeof(peer)), 4);
		assert_true(readable(fd));
		assert_int_equal(recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(peer.sin_addr.s_addr, to.sin_addr.s_addr);
		assert_int_equal(peer.sin_port, to.sin_port);
		hits[w]++;
		close(fd);
	}
	assert_true(hits[0] && hits[1]);
	close(srv[0]);
	close(srv[1]);
}

/* 1500 bytes from a client are more than the overlay takes: the outer packet is cut, and put together again. */
static void large_from_client(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	struct sockaddr_in to = sin_of("172.31.9.11", 8080);
	static char data[1472], got[2000];
	int hits[2] = {};

	(void)state;
	for (int i = 0; i < 40 && !(hits[0] && hits[1]); i++) {
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(data));
		assert_true(poll(p, 2, PATIENCE_MS) > 0);
		int w = p[0].revents ? 0 : 1;
		assert_int_equal(recv(srv[w], got, sizeof(got), 0), sizeof(data));
		hits[w]++;
		close(fd);
	}
	assert_true(hits[0] && hits[1]);
	close(srv[0]);
	close(srv[1]);
}

#endif
