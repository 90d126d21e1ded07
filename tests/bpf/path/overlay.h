/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: between tasks: directly, by service address, in bulk and in pieces. */
#ifndef TESTS_BPF_PATH_OVERLAY_H
#define TESTS_BPF_PATH_OVERLAY_H

#include "tests/bpf/path/traffic.h"

static uint64_t event_of(const struct node *n, const char *name)
{
	struct dp_stats st = {};
	uint64_t v = 0;

	ebpf_stats(n->e, &st);
	for (size_t i = 0; i < st.events.n; i++)
		if (!strcmp(st.events.v[i].id, name))
			v = st.events.v[i].n;
	sch_clear(&dp_stats_schema, &st);
	return v;
}

/* Between tasks of two nodes, both ways; packets take the way the mode says. */
static void overlay_bulk(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	struct sockaddr_in peer;
	int conn, fd = dial(T1, NULL, 0, "10.0.1.12", 80);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(accepted(srv, &conn, &peer), 1);
	for (int i = 0; i < 3; i++) {
		talk(fd, conn, 4 << 20);
		talk(conn, fd, 4 << 20);
	}
	for (int k = 0; k < 2; k++) {
		assert_true((event_of(&nodes[k], "encap") > 0) == !mode->device[k]);
		assert_true((event_of(&nodes[k], "decap") > 0) == !mode->device[k]);
	}
	close(fd);
	close(conn);
	close(srv[0]);
	close(srv[1]);
}

/* One send of many datagrams, which stay one super-packet until the receiver. */
static void overlay_datagrams_at_once(void **state)
{
	int in = server(T2, SOCK_DGRAM, 80), out = socket_in(T1, SOCK_DGRAM), size = 1000, cut;
	struct sockaddr_in to = sin_of("10.0.1.12", 80);
	char data[10000], got[2000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i / 1000);
	assert_int_equal(setsockopt(out, SOL_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
	/* The kernel refuses where the device has no checksums to leave to. */
	cut = sendto(out, data, sizeof(data), 0, (struct sockaddr *)&to, sizeof(to)) == sizeof(data) ? 10 : 0;
	assert_true(cut || mode->ethtool);
	for (int i = 0; i < cut; i++) {
		assert_true(readable(in));
		assert_int_equal(recv(in, got, sizeof(got), 0), 1000);
		assert_memory_equal(got, data + 1000 * i, 1000);
	}
	close(in);
	close(out);
}

/* A datagram larger than a packet, in fragments on the overlay; one that fits inside but not around. */
static void overlay_fragments(void **state)
{
	static const size_t sizes[] = { 1422, 1423, 3000, 20000 };
	int in = server(T2, SOCK_DGRAM, 80), out = socket_in(T1, SOCK_DGRAM);
	struct sockaddr_in to = sin_of("10.0.1.12", 80);
	static char data[20000], got[20001];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(sendto(out, data, sizes[i], 0, (struct sockaddr *)&to, sizeof(to)), sizes[i]);
		assert_true(readable(in));
		assert_int_equal(recv(in, got, sizeof(got), 0), sizes[i]);
		assert_memory_equal(got, data, sizes[i]);
	}
	close(in);
	close(out);
}

/* True when an echo request is answered within ms. */
static bool echo(enum ns n, const char *addr, int ms)
{
	struct sockaddr_in to = sin_of(addr, 0);
	struct icmphdr q = { .type = ICMP_ECHO, .un.echo = { .id = 77, .sequence = 1 } };
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	struct {
		struct iphdr ip;
		struct icmphdr icmp;
	} a;
	bool ok = false;

	enter(n);
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	q.checksum = internet_sum(&q, sizeof(q));
	assert_int_equal(sendto(fd, &q, sizeof(q), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(q));
	while (!ok && recv(fd, &a, sizeof(a), 0) == sizeof(a))
		ok = a.icmp.type == ICMP_ECHOREPLY && a.icmp.un.echo.id == 77 && a.ip.saddr == to.sin_addr.s_addr;
	close(fd);
	return ok;
}

/* East-west: directly, by VIP through the socket hook, by VIP without it, echo to the VIP. */
static void overlay(void **state)
{
	int srv[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	int hits[2] = {};

	(void)state;
	check_exchange(srv, T1, "10.0.1.12", 80, "10.0.1.11", hits);
	check_exchange(srv, T2, "10.0.1.11", 80, "10.0.1.12", hits);
	assert_true(hits[0] == 1 && hits[1] == 1);
	for (int i = 0; i < 4; i++)
		check_exchange(srv, T1, "10.0.1.2", 80, "10.0.1.11", hits);
	assert_int_equal(hits[0], 1);
	move_to(nodes[0].cgroup);
	for (int i = 0; i < 20; i++)
		check_exchange(srv, T1, "10.0.1.2", 80, NULL, hits);
	move_to(cgroup2());
	assert_true(hits[0] > 1 && hits[1] > 6);
	assert_true(echo(T1, "10.0.1.2", PATIENCE_MS));
	assert_true(echo(T1, "10.0.1.12", PATIENCE_MS));
	assert_true(echo(T1, "10.0.1.1", PATIENCE_MS));
	assert_false(echo(T1, "10.0.1.99", 300));
	close(srv[0]);
	close(srv[1]);
}

static void check_peer(int fd, const char *addr, uint16_t port)
{
	struct sockaddr_in want = sin_of(addr, port), got;
	socklen_t len = sizeof(got);

	assert_int_equal(getpeername(fd, (struct sockaddr *)&got, &len), 0);
	assert_int_equal(got.sin_addr.s_addr, want.sin_addr.s_addr);
	assert_int_equal(got.sin_port, want.sin_port);
}

/* The socket hooks: datagrams keep to one backend, and what the task sees is always the VIP. */
static void socket_hooks(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	int tcp[2] = { server(T1, SOCK_STREAM, 80), server(T2, SOCK_STREAM, 80) };
	struct sockaddr_in vip = sin_of("10.0.1.2", 80), peer;
	socklen_t len = sizeof(peer);
	char b[8];

	(void)state;
	move_to(nodes[0].cgroup);
	int fd = socket_in(T1, SOCK_DGRAM), first = -1;
	for (int i = 0; i < 12; i++) {
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&vip, sizeof(vip)), 4);
		assert_true(poll(p, 2, PATIENCE_MS) > 0);
		int w = p[0].revents ? 0 : 1;
		first = first < 0 ? w : first;
		assert_int_equal(w, first);
		len = sizeof(peer);
		assert_int_equal(recvfrom(srv[w], b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(sendto(srv[w], "pong", 4, 0, (struct sockaddr *)&peer, sizeof(peer)), 4);
		assert_true(readable(fd));
		len = sizeof(peer);
		assert_int_equal(recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&peer, &len), 4);
		assert_int_equal(peer.sin_addr.s_addr, vip.sin_addr.s_addr);
		assert_int_equal(peer.sin_port, vip.sin_port);
	}
	assert_int_equal(connect(fd, (struct sockaddr *)&vip, sizeof(vip)), 0);
	check_peer(fd, "10.0.1.2", 80);
	close(fd);
	fd = dial(T1, NULL, 0, "10.0.1.2", 80);
	assert_true(fd >= 0);
	check_peer(fd, "10.0.1.2", 80);
	close(fd);
	/* IPv6 sockets that speak IPv4. */
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
	assert_int_equal(inet_pton(AF_INET6, "::ffff:10.0.1.2", &mapped.sin6_addr), 1);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		assert_int_equal(connect(fd, (struct sockaddr *)&mapped, sizeof(mapped)), 0);
		close(fd);
	}
	move_to(cgroup2());
	for (int k = 0; k < 2; k++) {
		close(srv[k]);
		close(tcp[k]);
	}
}

#endif
