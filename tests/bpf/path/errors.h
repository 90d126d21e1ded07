/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what ICMP says about published ports, in both directions. */
#ifndef TESTS_BPF_PATH_ERRORS_H
#define TESTS_BPF_PATH_ERRORS_H

#include "tests/bpf/path/traffic.h"

/* Nothing listens in the tasks: their refusals find the client, from here and through the tunnel. */
static void udp_refusal(void **state)
{
	struct sockaddr_in to = sin_of("172.31.9.11", 8080);

	(void)state;
	for (int i = 0; i < 12; i++) {
		char b[8];
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
		assert_int_equal(send(fd, "ping", 4, 0), 4);
		if (!readable(fd)) {
			print_drops();
			fail_msg("no answer to datagram %d", i);
		}
		assert_int_equal(recv(fd, b, sizeof(b), 0), -1);
		assert_int_equal(errno, ECONNREFUSED);
		close(fd);
	}
}

static int mtu_to_client(enum ns n)
{
	struct sockaddr_in to = sin_of("172.31.9.100", 9);
	int fd = socket_in(n, SOCK_DGRAM), mtu = 0;
	socklen_t len = sizeof(mtu);

	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len), 0);
	close(fd);
	return mtu;
}

static bool mtu_is_1200(void *task)
{
	return mtu_to_client(*(enum ns *)task) == 1200;
}

/* As a router on the client's side would say it. */
static void send_too_big(uint16_t client_port, uint16_t mtu)
{
	struct {
		struct icmphdr icmp;
		struct iphdr ip;
		struct udphdr udp;
	} m = { .icmp = { .type = ICMP_DEST_UNREACH, .code = ICMP_FRAG_NEEDED },
		.ip = { .version = 4, .ihl = 5, .ttl = 60, .protocol = IPPROTO_UDP, .tot_len = htons(1400) } };
	struct sockaddr_in node = sin_of("172.31.9.11", 0), client = sin_of("172.31.9.100", 0);

	m.icmp.un.frag.mtu = htons(mtu);
	m.ip.frag_off = htons(0x4000);
	m.ip.saddr = node.sin_addr.s_addr;
	m.ip.daddr = client.sin_addr.s_addr;
	m.ip.check = internet_sum(&m.ip, sizeof(m.ip));
	m.udp.source = htons(8080);
	m.udp.dest = htons(client_port);
	m.udp.len = htons(1380);
	m.icmp.checksum = internet_sum(&m, sizeof(m));
	enter(CLIENT);
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, &m, sizeof(m), 0, (struct sockaddr *)&node, sizeof(node)), sizeof(m));
	close(fd);
}

static void path_mtu(void **state)
{
	int srv[2] = { server(T1, SOCK_DGRAM, 80), server(T2, SOCK_DGRAM, 80) };
	bool seen[2] = {};

	(void)state;
	for (uint16_t port = 21000; port < 21040 && !(seen[0] && seen[1]); port++) {
		struct sockaddr_in to = sin_of("172.31.9.11", 8080), from = sin_of("172.31.9.100", port);
		struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
		char b[8];
		int fd = socket_in(CLIENT, SOCK_DGRAM);
		assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
		assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
		assert_true(poll(p, 2, PATIENCE_MS) > 0);
		int w = p[0].revents ? 0 : 1;
		assert_int_equal(recv(srv[w], b, sizeof(b), 0), 4);
		close(fd);
		if (seen[w])
			continue;
		seen[w] = true;
		assert_int_equal(mtu_to_client(w ? T2 : T1), 1450);
		send_too_big(port, 1200);
		enum ns task = w ? T2 : T1;
		if (!comes_true(mtu_is_1200, &task))
			print_drops();
		assert_int_equal(mtu_to_client(w ? T2 : T1), 1200);
	}
	assert_true(seen[0] && seen[1]);
	close(srv[0]);
	close(srv[1]);
}

#endif
