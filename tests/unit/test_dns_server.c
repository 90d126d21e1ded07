/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The resolver's thread, on loopback sockets: names, forwarding to a resolver that this test plays, cache,
 * retries, forged answers, TCP, and what changes while it runs.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "dataplane/dns/server.h"

static struct {
	struct dns_server *s;
	struct dns_zone *zone;
	int client; /* UDP, connected to the task's resolver socket */
	struct sockaddr_in at;
	int up_udp, up_tcp; /* the upstream resolver */
	char up[32];        /* its address as a nameserver */
	char conf[64];
} w;

/* ---- helpers ------------------------------------------------------------------------------------- */

static int bound(int type, struct sockaddr_in *at)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		                  .sin_port = at->sin_port };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	struct timeval tv = { .tv_sec = 10 };
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		close(fd);
		return -1;
	}
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 8), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

/* The same port for UDP and TCP. */
static void bound_pair(int *udp, int *tcp, struct sockaddr_in *at)
{
	for (int i = 0; i < 100; i++) {
		*at = (struct sockaddr_in){ 0 };
		*udp = bound(SOCK_DGRAM, at);
		*tcp = bound(SOCK_STREAM, at);
		if (*tcp >= 0)
			return;
		close(*udp);
	}
	fail_msg("no port is free for both");
}

static struct dns_zone *make_zone(const char *vip, bool internal)
{
	struct dp_network net = { .name = (char *)"blue", .subnet = (char *)"10.0.1.0/24", .internal = internal };
	struct dp_service web = { .name = (char *)"web", .vip = (char *)vip };
	const struct dp_service *s[] = { &web };
	return dns_zone_new(&net, s, 1, NULL, 0);
}

static size_t build(uint8_t *m, uint16_t id, const char *name, uint16_t type)
{
	size_t n = 12;
	memcpy(m, (uint8_t[]){ (uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, 12);
	for (const char *p = name; *p;) {
		size_t len = strcspn(p, ".");
		m[n++] = (uint8_t)len;
		memcpy(m + n, p, len);
		n += len;
		p += len + (p[len] == '.');
	}
	m[n++] = 0;
	dns_put16(m + n, type);
	dns_put16(m + n + 2, 1);
	return n + 4;
}

static void send_query(uint16_t id, const char *name)
{
	uint8_t m[512];
	size_t n = build(m, id, name, DNS_A);
	assert_int_equal(send(w.client, m, n, 0), n);
}

struct reply {
	uint8_t m[4096];
	size_t n;
	uint16_t id;
	int rcode;
	unsigned answers;
	bool tc;
	char ip[DP_IP_TEXT_MAX]; /* of the first answer */
};
static void read_reply(struct reply *r)
{
	memset(r, 0, sizeof(*r));
	r->n = r->n ? r->n : 0;
	ssize_t n = recv(w.client, r->m, sizeof(r->m), 0);
	if (n < 12)
		fail_msg("no answer: %s", strerror(errno));
	r->n = (size_t)n;
	r->id = dns_get16(r->m);
	r->rcode = r->m[3] & 15;
	r->tc = r->m[2] & 2;
	r->answers = dns_get16(r->m + 6);
	size_t at = 12;
	while (at < r->n && r->m[at])
		at += 1u + r->m[at];
	at += 5;
	if (r->answers && at + 16 <= r->n)
		inet_ntop(AF_INET, r->m + at + 12, r->ip, sizeof(r->ip));
}

static struct reply ask(uint16_t id, const char *name)
{
	struct reply r;
	send_query(id, name);
	read_reply(&r);
	assert_int_equal(r.id, id);
	return r;
}

/* What the upstream was asked, and by whom. */
struct asked {
	uint8_t m[512];
	size_t n;
	struct sockaddr_in from;
};
static struct asked upstream_read(void)
{
	struct asked a;
	socklen_t len = sizeof(a.from);
	ssize_t n = recvfrom(w.up_udp, a.m, sizeof(a.m), 0, (struct sockaddr *)&a.from, &len);
	if (n < 0)
		fail_msg("the upstream was not asked");
	a.n = (size_t)n;
	return a;
}

static size_t upstream_answer(const struct asked *a, uint8_t *out, uint32_t ttl, uint8_t last)
{
	memcpy(out, a->m, a->n);
	out[2] |= 0x80;
	out[7] = 1;
	uint8_t rr[16] = { 0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, last };
	dns_put32(rr + 6, ttl);
	memcpy(out + a->n, rr, 16);
	return a->n + 16;
}

static void upstream_send(const struct asked *a, const uint8_t *m, size_t n)
{
	assert_int_equal(sendto(w.up_udp, m, n, 0, (struct sockaddr *)&a->from, sizeof(a->from)), n);
}

static bool upstream_silent(void)
{
	struct pollfd p = { w.up_udp, POLLIN, 0 };
	return poll(&p, 1, 0) == 0;
}

static void serve(const char *nameserver, struct dns_zone *zone)
{
	char *v[] = { (char *)nameserver };
	struct str_list l = { v, nameserver ? 1 : 0 };
	dns_server_add(w.s, "task", -1, -1, &l, &zone, 1);
}

/* ---- tests --------------------------------------------------------------------------------------- */

static int setup(void **state)
{
	(void)state;
	struct sockaddr_in up;
	int udp, tcp;
	bound_pair(&udp, &tcp, &w.at);
	bound_pair(&w.up_udp, &w.up_tcp, &up);
	snprintf(w.up, sizeof(w.up), "127.0.0.1#%u", ntohs(up.sin_port));
	snprintf(w.conf, sizeof(w.conf), "/tmp/mesh-dns-XXXXXX");
	int fd = mkstemp(w.conf);
	if (fd < 0)
		return -1;
	close(fd);
	if (dns_server_start(w.conf, &w.s, NULL) != 0)
		return -1;
	w.zone = make_zone("10.0.1.2", false);
	w.client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct timeval tv = { .tv_sec = 15 };
	setsockopt(w.client, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (connect(w.client, (struct sockaddr *)&w.at, sizeof(w.at)) < 0)
		return -1;
	char *v[] = { w.up };
	struct str_list l = { v, 1 };
	dns_server_add(w.s, "task", udp, tcp, &l, &w.zone, 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	dns_server_stop(w.s);
	dns_zone_free(w.zone);
	close(w.client);
	close(w.up_udp);
	close(w.up_tcp);
	unlink(w.conf);
	return 0;
}

static void test_name(void **state)
{
	(void)state;
	struct reply r = ask(7, "web");
	assert_int_equal(r.rcode, 0);
	assert_string_equal(r.ip, "10.0.1.2");
	assert_true(upstream_silent());
	/* A swap is in force when it returns. */
	struct dns_zone *next = make_zone("10.0.1.9", false), *old = w.zone;
	dns_server_swap(w.s, &old, &next, 1);
	dns_zone_free(old);
	w.zone = next;
	r = ask(8, "WEB");
	assert_string_equal(r.ip, "10.0.1.9");
}

static void test_forward_and_cache(void **state)
{
	(void)state;
	uint8_t m[600];
	struct reply r;
	send_query(21, "www.example.org");
	struct asked a = upstream_read();
	size_t n = upstream_answer(&a, m, 600, 1);
	/* A wrong id, another question, and half a message are not believed. */
	m[0] ^= 0xff;
	upstream_send(&a, m, n);
	m[0] ^= 0xff;
	m[14] ^= 1;
	upstream_send(&a, m, n);
	m[14] ^= 1;
	upstream_send(&a, m, n - 3);
	upstream_send(&a, m, n);
	read_reply(&r);
	assert_int_equal(r.id, 21);
	assert_string_equal(r.ip, "192.0.2.1");
	/* Again: nobody is asked. */
	r = ask(22, "WWW.example.org");
	assert_string_equal(r.ip, "192.0.2.1");
	assert_true(upstream_silent());
	/* Every question leaves from a socket and with an id of its own. */
	send_query(23, "a.example.org");
	struct asked b = upstream_read();
	assert_true(b.from.sin_port != a.from.sin_port || dns_get16(a.m) != dns_get16(b.m));
	n = upstream_answer(&b, m, 0, 3); /* not to be kept */
	upstream_send(&b, m, n);
	read_reply(&r);
	assert_string_equal(r.ip, "192.0.2.3");
	send_query(24, "a.example.org");
	b = upstream_read();
	n = upstream_answer(&b, m, 0, 4);
	upstream_send(&b, m, n);
	read_reply(&r);
	assert_string_equal(r.ip, "192.0.2.4");
}

static void test_many_at_once_in_any_order(void **state)
{
	(void)state;
	struct asked a[20];
	uint8_t m[600];
	struct reply r;
	bool seen[20] = { 0 };
	for (unsigned i = 0; i < 20; i++) {
		char name[32];
		snprintf(name, sizeof(name), "n%u.example.net", i);
		send_query((uint16_t)(100 + i), name);
	}
	for (unsigned i = 0; i < 20; i++)
		a[i] = upstream_read();
	for (unsigned i = 20; i-- > 0;) {
		char digits[4] = { (char)a[i].m[14], (char)a[i].m[15], 0 };
		size_t n = upstream_answer(&a[i], m, 60, (uint8_t)atoi(digits));
		upstream_send(&a[i], m, n);
	}
	for (unsigned i = 0; i < 20; i++) {
		char want[32];
		read_reply(&r);
		assert_in_range(r.id, 100, 119);
		snprintf(want, sizeof(want), "192.0.2.%u", r.id - 100u);
		assert_string_equal(r.ip, want);
		seen[r.id - 100] = true;
	}
	for (unsigned i = 0; i < 20; i++)
		assert_true(seen[i]);
}

static void test_retry_then_answer(void **state)
{
	(void)state;
	uint8_t m[600];
	struct reply r;
	send_query(31, "slow.example.org");
	struct asked a = upstream_read(); /* lost */
	struct asked b = upstream_read();
	assert_memory_equal(a.m + 2, b.m + 2, a.n - 2);
	size_t n = upstream_answer(&b, m, 60, 5);
	upstream_send(&b, m, n);
	read_reply(&r);
	assert_int_equal(r.id, 31);
	assert_string_equal(r.ip, "192.0.2.5");
}

static void test_nobody_answers(void **state)
{
	(void)state;
	struct dns_stats before, after;
	dns_server_stats(w.s, &before);
	int64_t start = clock_mono_ns();
	struct reply r = ask(41, "dead.example.org");
	assert_int_equal(r.rcode, DNS_SERVFAIL);
	assert_in_range((clock_mono_ns() - start) / NS_PER_MS, 3900, 8000);
	(void)upstream_read();
	(void)upstream_read();
	dns_server_stats(w.s, &after);
	assert_int_equal(after.timeouts - before.timeouts, 2);
	/* A resolver that is not there says so at once. */
	serve("127.0.0.1#1", w.zone);
	start = clock_mono_ns();
	r = ask(42, "dead.example.org");
	assert_int_equal(r.rcode, DNS_SERVFAIL);
	assert_in_range((clock_mono_ns() - start) / NS_PER_MS, 0, 1500);
	serve(w.up, w.zone);
}

static void write_conf(const char *nameserver, int64_t mtime)
{
	FILE *f = fopen(w.conf, "we");
	assert_non_null(f);
	fprintf(f, "nameserver %s\n", nameserver);
	fclose(f);
	struct timespec ts[2] = { { .tv_sec = mtime }, { .tv_sec = mtime } };
	assert_int_equal(utimensat(AT_FDCWD, w.conf, ts, 0), 0);
}

static void test_host_resolv_conf(void **state)
{
	(void)state;
	uint8_t m[600];
	struct reply r;
	write_conf(w.up, 1000);
	serve(NULL, w.zone);
	send_query(51, "conf.example.org");
	struct asked a = upstream_read();
	size_t n = upstream_answer(&a, m, 0, 6);
	upstream_send(&a, m, n);
	read_reply(&r);
	assert_string_equal(r.ip, "192.0.2.6");
	/* It changes: soon nobody is asked any more. */
	write_conf("127.0.0.1#1", 2000);
	int64_t until = clock_mono_ns() + 10 * NS_PER_SEC;
	do {
		send_query(52, "conf.example.org");
		struct pollfd p[2] = { { w.up_udp, POLLIN, 0 }, { w.client, POLLIN, 0 } };
		assert_true(poll(p, 2, 5000) > 0);
		if (p[0].revents) {
			a = upstream_read();
			n = upstream_answer(&a, m, 0, 6);
			upstream_send(&a, m, n);
		}
		read_reply(&r);
	} while (r.rcode == 0 && clock_mono_ns() < until);
	assert_int_equal(r.rcode, DNS_SERVFAIL);
	serve(w.up, w.zone);
}

static void test_internal_only(void **state)
{
	(void)state;
	struct dns_zone *inner = make_zone("10.0.1.3", true);
	serve(w.up, inner);
	struct reply r = ask(61, "www.example.com");
	assert_int_equal(r.rcode, DNS_NXDOMAIN);
	assert_true(upstream_silent());
	r = ask(62, "web");
	assert_string_equal(r.ip, "10.0.1.3");
	serve(w.up, w.zone);
	dns_zone_free(inner);
}

static int dial_tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval tv = { .tv_sec = 10 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	assert_int_equal(connect(fd, (struct sockaddr *)&w.at, sizeof(w.at)), 0);
	return fd;
}

static void recv_all(int fd, void *p, size_t n)
{
	assert_int_equal(recv(fd, p, n, MSG_WAITALL), n);
}

static void test_tcp(void **state)
{
	(void)state;
	uint8_t m[1100], head[2];
	int fd = dial_tcp();
	/* Two questions at once, cut in the middle of the second. */
	size_t n = build(m + 2, 71, "web", DNS_A);
	dns_put16(m, (unsigned)n);
	size_t n2 = build(m + n + 4, 72, "web", DNS_A);
	dns_put16(m + n + 2, (unsigned)n2);
	assert_int_equal(send(fd, m, n + 10, 0), n + 10);
	recv_all(fd, head, 2);
	uint8_t out[600];
	recv_all(fd, out, dns_get16(head));
	assert_int_equal(dns_get16(out), 71);
	assert_int_equal(send(fd, m + n + 10, n2 + 4 - 10, 0), n2 + 4 - 10);
	recv_all(fd, head, 2);
	recv_all(fd, out, dns_get16(head));
	assert_int_equal(dns_get16(out), 72);
	/* A forwarded one goes on over TCP; the answer is bigger than any UDP message. */
	n = build(m + 2, 73, "big.example.org", DNS_A);
	dns_put16(m, (unsigned)n);
	assert_int_equal(send(fd, m, n + 2, 0), n + 2);
	int up = accept4(w.up_tcp, NULL, NULL, SOCK_CLOEXEC);
	assert_true(up >= 0);
	recv_all(up, head, 2);
	size_t qn = dns_get16(head);
	static uint8_t big[2 + 40000];
	recv_all(up, big + 2, qn);
	big[4] |= 0x80;
	unsigned rrs = 2000;
	dns_put16(big + 2 + 6, rrs);
	for (unsigned i = 0; i < rrs; i++)
		memcpy(big + 2 + qn + i * 16, (uint8_t[]){ 0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7 },
		       16);
	size_t total = qn + rrs * 16;
	dns_put16(big, (unsigned)total);
	assert_int_equal(send(up, big, total + 2, MSG_NOSIGNAL), total + 2);
	static uint8_t got[40000];
	recv_all(fd, head, 2);
	assert_int_equal(dns_get16(head), total);
	recv_all(fd, got, total);
	assert_int_equal(dns_get16(got), 73);
	assert_memory_equal(got + 2, big + 4, total - 2);
	close(up);
	close(fd);
}

static void test_udp_answer_too_big(void **state)
{
	(void)state;
	uint8_t m[2000];
	struct reply r;
	send_query(81, "wide.example.org");
	struct asked a = upstream_read();
	memcpy(m, a.m, a.n);
	m[2] |= 0x80;
	dns_put16(m + 6, 60);
	for (unsigned i = 0; i < 60; i++)
		memcpy(m + a.n + i * 16, (uint8_t[]){ 0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7 }, 16);
	upstream_send(&a, m, a.n + 960);
	read_reply(&r);
	assert_true(r.tc);
	assert_true(r.n <= 512);
	r = ask(82, "wide.example.org"); /* from the cache too */
	assert_true(r.tc);
	assert_true(r.n <= 512);
}

static void test_garbage(void **state)
{
	(void)state;
	uint8_t m[64];
	memset(m, 0xff, sizeof(m));
	assert_int_equal(send(w.client, m, 5, 0), 5);
	assert_int_equal(send(w.client, m, sizeof(m), 0), sizeof(m)); /* says it is an answer */
	memset(m, 0, sizeof(m));
	m[1] = 9;
	assert_int_equal(send(w.client, m, 12, 0), 12); /* no question */
	struct reply r;
	read_reply(&r);
	assert_int_equal(r.id, 9);
	assert_int_equal(r.rcode, DNS_FORMERR);
	r = ask(91, "web");
	assert_int_equal(r.rcode, 0);
	/* A TCP client that sends nothing but noise is hung up on. */
	int fd = dial_tcp();
	assert_int_equal(send(fd, "\0\5abcde", 7, 0), 7);
	assert_int_equal(recv(fd, m, sizeof(m), 0), 0);
	close(fd);
}

static void test_del_closes(void **state)
{
	(void)state;
	int fd = dial_tcp();
	send_query(95, "pending.example.org"); /* dies with the task */
	(void)upstream_read();
	assert_true(dns_server_has(w.s, "task"));
	dns_server_del(w.s, "task");
	assert_false(dns_server_has(w.s, "task"));
	/* The port is free at once. */
	struct sockaddr_in at = w.at;
	int udp = bound(SOCK_DGRAM, &at);
	assert_true(udp >= 0);
	close(udp);
	char c;
	assert_true(recv(fd, &c, 1, 0) <= 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_forward_and_cache),
		cmocka_unit_test(test_many_at_once_in_any_order),
		cmocka_unit_test(test_retry_then_answer),
		cmocka_unit_test(test_nobody_answers),
		cmocka_unit_test(test_host_resolv_conf),
		cmocka_unit_test(test_internal_only),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_udp_answer_too_big),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_del_closes),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
