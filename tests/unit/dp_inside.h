/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests of the data plane see and do inside a task's namespace: interfaces, names, connections. */
#ifndef TESTS_UNIT_DP_INSIDE_H
#define TESTS_UNIT_DP_INSIDE_H

#include "tests/unit/dp_world.h"

/* ---- looking inside ------------------------------------------------------------------------------ */

struct iface_check {
	const char *name, *addr, *gateway;
	bool is_default;
	int ifindex; /* out, in shared memory not needed: returned by exit code of its own test */
};
static inline int check_iface(void *arg)
{
	const struct iface_check *c = arg;
	struct kern *k;
	struct kern_link l, lo;
	struct kern_addrs addrs = { 0 };
	struct kern_routes routes = { 0 };
	struct kern_neighs neighs = { 0 };
	struct dp_ip ip, gw;
	uint8_t mac[6];
	if (dp_ip_parse(c->addr, &ip, NULL) != 0 || dp_ip_parse(c->gateway, &gw, NULL) != 0 || kern_open(&k, NULL) != 0)
		return 1;
	if (kern_link_get(k, c->name, &l) != 0 || !l.up || l.mtu != 1450)
		return 2;
	dp_mac_of(&ip, mac);
	if (memcmp(mac, l.mac, 6) != 0)
		return 3;
	if (kern_link_get(k, "lo", &lo) != 0 || !lo.up)
		return 4;
	if (kern_addrs(k, &addrs) != 0 || kern_routes(k, &routes) != 0 || kern_neighs(k, &neighs) != 0)
		return 5;
	bool addr = false, route = false, neigh = false;
	for (size_t i = 0; i < addrs.len; i++)
		addr |= addrs.data[i].ifindex == l.ifindex && addrs.data[i].prefix == 24 &&
		        memcmp(&addrs.data[i].ip, &ip, sizeof(ip)) == 0;
	for (size_t i = 0; i < routes.len; i++)
		route |= !routes.data[i].prefix && routes.data[i].ifindex == l.ifindex && routes.data[i].has_via &&
		         memcmp(&routes.data[i].via, &gw, sizeof(gw)) == 0;
	for (size_t i = 0; i < neighs.len; i++)
		neigh |= neighs.data[i].ifindex == l.ifindex && memcmp(&neighs.data[i].ip, &gw, sizeof(gw)) == 0;
	return !addr ? 6 : route != c->is_default ? 7 : !neigh ? 8 : 0;
}

struct query {
	const char *name;
	uint16_t type;
	bool tcp;
	/* answer */
	int rcode;
	char ips[256]; /* sorted, joined by spaces */
};

static inline size_t build_query(const struct query *q, uint8_t *out)
{
	size_t n = 12;
	memcpy(out, (uint8_t[]){ 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, 12);
	for (const char *p = q->name; *p;) {
		size_t len = strcspn(p, ".");
		out[n++] = (uint8_t)len;
		memcpy(out + n, p, len);
		n += len;
		p += len + (p[len] == '.');
	}
	out[n++] = 0;
	dns_put16(out + n, q->type);
	dns_put16(out + n + 2, 1);
	return n + 4;
}

static inline int text_cmp(const void *a, const void *b)
{
	return strcmp(a, b);
}

static inline int read_answer(const uint8_t *msg, size_t n, size_t qlen, struct query *q)
{
	char ips[16][DP_IP_TEXT_MAX];
	size_t at = qlen, k = 0;
	if (n < qlen || dns_get16(msg) != 0x1234)
		return -1;
	q->rcode = msg[3] & 15;
	for (unsigned i = 0; i < dns_get16(msg + 6) && i < 16; i++, at += 12 + dns_get16(msg + at + 10)) {
		if (at + 12 > n || dns_get16(msg + at) != 0xc00c)
			return -1;
		if (dns_get16(msg + at + 2) == DNS_A)
			inet_ntop(AF_INET, msg + at + 12, ips[k++], DP_IP_TEXT_MAX);
		else if (dns_get16(msg + at + 2) == DNS_PTR)
			snprintf(ips[k++], DP_IP_TEXT_MAX, "%.*s", msg[at + 12], (const char *)msg + at + 13);
	}
	qsort(ips, k, sizeof(ips[0]), text_cmp);
	q->ips[0] = '\0';
	for (size_t i = 0; i < k; i++)
		snprintf(q->ips + strlen(q->ips), sizeof(q->ips) - strlen(q->ips), "%s%s", i ? " " : "", ips[i]);
	return 0;
}

/* A daemon that starts meanwhile may take its time: eBPF programs are checked for seconds. */
static inline int ask(struct query *q)
{
	uint8_t msg[4096] = { 0 }, head[2];
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(0x7f00000b) };
	size_t n = build_query(q, msg + 2);
	int fd = socket(AF_INET, (q->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	struct timeval tv = { .tv_sec = 60 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -1;
	dns_put16(msg, (unsigned)n);
	size_t skip = q->tcp ? 0 : 2;
	if (send(fd, msg + skip, n + 2 - skip, 0) < 0)
		return -1;
	if (q->tcp && recv(fd, head, 2, MSG_WAITALL) != 2)
		return -1;
	ssize_t got = q->tcp ? recv(fd, msg, dns_get16(head), MSG_WAITALL) : recv(fd, msg, sizeof(msg), 0);
	close(fd);
	return got < 0 ? -1 : read_answer(msg, (size_t)got, n, q);
}

struct dns_check {
	struct query q;
	int rcode;
	const char *ips;
};
static inline int check_dns(void *arg)
{
	struct dns_check *c = arg;
	if (ask(&c->q) != 0)
		return 1;
	if (c->q.rcode != c->rcode || (c->ips && strcmp(c->q.ips, c->ips) != 0)) {
		fprintf(stderr, "# %s: rcode %d '%s', want %d '%s'\n", c->q.name, c->q.rcode, c->q.ips, c->rcode,
		        c->ips ? c->ips : "");
		return 2;
	}
	return 0;
}

static inline void expect_dns(unsigned task, const char *name, uint16_t type, bool tcp, int rcode, const char *ips)
{
	struct dns_check c = { .q = { .name = name, .type = type, .tcp = tcp }, .rcode = rcode, .ips = ips };
	int rc = in_ns(w.task[task], check_dns, &c);
	if (rc)
		fail_msg("%s type %u over %s: %d", name, type, tcp ? "tcp" : "udp", rc);
}

/* Asks in the background; returns when the question waits in the shim's socket. */
static inline pid_t ask_later(unsigned task, const char *name, const char *ips)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct dns_check c = { .q = { .name = name, .type = DNS_A }, .ips = ips };
		int ns = netns_open(w.task[task], NULL);
		_exit(setns(ns, CLONE_NEWNET) < 0 ? 9 : check_dns(&c));
	}
	int pidfd = (int)syscall(SYS_pidfd_open, w.task[task], 0);
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, SHIM_UDP, 0);
	struct pollfd p = { fd, POLLIN, 0 };
	assert_int_equal(poll(&p, 1, 5000), 1);
	close(fd);
	close(pidfd);
	return pid;
}

/* A child in the task's namespace that listens on port 80, and answers with the peer's address for every one. */
static inline pid_t listen_in(pid_t ns_of)
{
	int ready[2];
	char c;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int tell = keep_only(ready[1]), ns = netns_open(ns_of, NULL), one = 1;
		if (setns(ns, CLONE_NEWNET) < 0)
			_exit(1);
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(80) };
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0 || write(tell, "x", 1) != 1)
			_exit(2);
		for (;;) {
			socklen_t len = sizeof(sa);
			char text[32], in;
			int s = accept(fd, (struct sockaddr *)&sa, &len);
			if (s < 0)
				continue;
			inet_ntop(AF_INET, &sa.sin_addr, text, sizeof(text));
			/* The client says when it is done; until then the connection stays open. */
			if (write(s, text, strlen(text)) < 0 || read(s, &in, 1) < 0)
				_exit(3);
			close(s);
		}
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

struct dial {
	const char *addr;
	uint16_t port;
	const char *seen_as; /* NULL: any */
	int hold;            /* fd to wait on before closing, -1 none */
	int opened;          /* fd to tell that the connection is open, -1 none */
};
static inline int dial(void *arg)
{
	const struct dial *d = arg;
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(d->port) };
	struct timeval tv = { .tv_sec = 5 };
	char text[64];
	inet_pton(AF_INET, d->addr, &sa.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return 1;
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return 2;
	text[n] = '\0';
	if (d->opened >= 0 && write(d->opened, "x", 1) != 1)
		return 3;
	if (d->hold >= 0 && read(d->hold, text + n, 1) < 0)
		return 4;
	text[n] = '\0';
	close(fd);
	if (d->seen_as && strcmp(text, d->seen_as) != 0) {
		fprintf(stderr, "# %s:%u: seen as '%s', want '%s'\n", d->addr, d->port, text, d->seen_as);
		return 5;
	}
	return 0;
}

static inline void expect_dial(pid_t from, const char *addr, uint16_t port, const char *seen_as)
{
	struct dial d = { addr, port, seen_as, -1, -1 };
	int rc = in_ns(from, dial, &d);
	if (rc)
		fail_msg("dial %s:%u: %d", addr, port, rc);
}

#endif
