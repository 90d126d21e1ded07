/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: sockets in the namespaces, and whether what they send arrives. */
#ifndef TESTS_BPF_PATH_TRAFFIC_H
#define TESTS_BPF_PATH_TRAFFIC_H

#include "tests/bpf/path/world.h"

/* Nothing below is a matter of time: this is when a busy machine is given up. */
#define PATIENCE_MS 15000

static struct sockaddr_in sin_of(const char *addr, uint16_t port)
{
	struct sockaddr_in s = { .sin_family = AF_INET, .sin_port = htons(port) };

	assert_int_equal(inet_pton(AF_INET, addr, &s.sin_addr), 1);
	return s;
}

static int socket_in(enum ns n, int type)
{
	enter(n);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return fd;
}

static int server(enum ns n, int type, uint16_t port)
{
	struct sockaddr_in any = sin_of("0.0.0.0", port);
	int fd = socket_in(n, type);

	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 64), 0);
	return fd;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, PATIENCE_MS) == 1;
}

/* Until is(arg), which what is on its way brings about. */
static bool comes_true(bool (*is)(void *arg), void *arg)
{
	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (is(arg))
			return true;
		poll(NULL, 0, 10);
	}
	return is(arg);
}

/* Connects; -1 within the time. src_port 0 = any. */
static int dial(enum ns n, const char *src, uint16_t src_port, const char *addr, uint16_t port)
{
	struct sockaddr_in to = sin_of(addr, port);
	struct timeval tv = { .tv_sec = PATIENCE_MS / 1000 };
	int fd = socket_in(n, SOCK_STREAM);

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (src) {
		struct sockaddr_in from = sin_of(src, src_port);
		assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	}
	if (connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void print_drops(void)
{
	for (int k = 0; k < 2; k++) {
		const char *id, *text;
		uint64_t n;
		for (unsigned i = 0; ebpf_drop(nodes[k].e, i, &id, &text, &n); i++)
			if (n)
				print_message("n%d drop %s %llu\n", k + 1, id, (unsigned long long)n);
	}
}

/* One of the servers accepts; returns which, its connection and who it sees. */
static int accepted(const int srv[2], int *conn, struct sockaddr_in *peer)
{
	struct pollfd p[2] = { { .fd = srv[0], .events = POLLIN }, { .fd = srv[1], .events = POLLIN } };
	socklen_t len = sizeof(*peer);

	if (poll(p, 2, PATIENCE_MS) <= 0) {
		print_drops();
		fail_msg("nobody accepted");
	}
	int which = p[0].revents ? 0 : 1;
	*conn = accept4(srv[which], (struct sockaddr *)peer, &len, SOCK_CLOEXEC);
	assert_true(*conn >= 0);
	return which;
}

static void talk(int a, int b, size_t n)
{
	CLEAN_FREE char *out = xcalloc(1, n), *in = xcalloc(1, n);
	size_t sent = 0, got = 0;

	for (size_t i = 0; i < n; i++)
		out[i] = (char)(i * 31 >> 3);
	while (got < n) {
		struct pollfd p[2] = { { .fd = a, .events = sent < n ? POLLOUT : 0 }, { .fd = b, .events = POLLIN } };
		if (poll(p, 2, PATIENCE_MS) <= 0) {
			print_drops();
			fail_msg("stuck after %zu of %zu bytes", got, n);
		}
		if (p[0].revents & POLLOUT) {
			ssize_t w = send(a, out + sent, n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
			sent += w > 0 ? (size_t)w : 0;
		}
		if (p[1].revents & POLLIN) {
			ssize_t r = recv(b, in + got, n - got, 0);
			assert_true(r > 0);
			got += (size_t)r;
		}
	}
	assert_memory_equal(out, in, n);
}

static void check_exchange(const int srv[2], enum ns from, const char *addr, uint16_t port, const char *seen_as,
                           int hits[2])
{
	struct sockaddr_in peer;
	char text[INET_ADDRSTRLEN];
	int conn, fd = dial(from, NULL, 0, addr, port);

	if (fd < 0) {
		print_drops();
		fail_msg("connect to %s:%u from %d: %s", addr, port, from, strerror(errno));
	}
	hits[accepted(srv, &conn, &peer)]++;
	inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text));
	if (seen_as)
		assert_string_equal(text, seen_as);
	talk(fd, conn, 3000);
	talk(conn, fd, 3000);
	close(fd);
	close(conn);
}

static uint16_t internet_sum(const void *p, size_t n)
{
	const uint16_t *w = p;
	uint32_t s = 0;

	for (size_t i = 0; i < n / 2; i++)
		s += w[i];
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t) ~((s & 0xffff) + (s >> 16));
}

#endif
