// SPDX-License-Identifier: GPL-2.0-or-later
/* One thread that is client and server: what an operation costs, in CPU time. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/path/path.h"

static double now_of(clockid_t c)
{
	struct timespec t;

	clock_gettime(c, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

enum { CRR_N = 1500, RR_N = 8000, BULK_MB = 48, UDP_N = 10000 };

/* The helper's CPU time in us. */
static double helper_cpu(pid_t pid)
{
	unsigned long long ns = 0;
	char path[64];

	if (!pid)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "%llu", &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	return (double)ns / 1e3;
}

static void open_pair(const struct ends *e, int *c, int *s)
{
	int one = 1;

	*c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(*c >= 0 && connect(*c, (const struct sockaddr *)&e->to, sizeof(e->to)) == 0, "connect");
	*s = accept4(e->listener, NULL, NULL, SOCK_CLOEXEC);
	need(*s >= 0, "accept");
	setsockopt(*c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(*s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void ask(int c, int s)
{
	char x = 'x';

	need(write(c, &x, 1) == 1 && read(s, &x, 1) == 1 && write(s, &x, 1) == 1 && read(c, &x, 1) == 1, "request");
}

static void one_crr(const struct ends *e)
{
	int c, s;

	open_pair(e, &c, &s);
	ask(c, s);
	close(c);
	close(s);
}

static void bulk(int c, int s)
{
	static char data[128 << 10];
	size_t sent = 0, got = 0, all = (size_t)BULK_MB << 20;

	fcntl(c, F_SETFL, O_NONBLOCK);
	fcntl(s, F_SETFL, O_NONBLOCK);
	while (got < all) {
		ssize_t n = sent < all ? write(c, data, sizeof(data)) : 0;
		sent += n > 0 ? (size_t)n : 0;
		while ((n = read(s, data, sizeof(data))) > 0)
			got += (size_t)n;
		need(n != 0, "bulk");
	}
}

int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static const int counts[] = { CRR_N, RR_N, BULK_MB, UDP_N };

static struct figure measure(const struct ends *e, enum op op)
{
	static double took[RR_N + UDP_N];
	int n = counts[op], c = -1, s = -1;
	char x[64] = "x";

	if (op == RR || op == BULK)
		open_pair(e, &c, &s);
	double w0 = now_of(CLOCK_MONOTONIC), c0 = now_of(CLOCK_PROCESS_CPUTIME_ID), last = w0;
	if (op == BULK)
		bulk(c, s);
	for (int i = 0; op != BULK && i < n; i++) {
		if (op == CRR)
			one_crr(e);
		else if (op == RR)
			ask(c, s);
		else
			need(sendto(e->out, x, sizeof(x), 0, (const struct sockaddr *)&e->to, sizeof(e->to)) ==
			                     sizeof(x) &&
			             recv(e->udp, x, sizeof(x), 0) == sizeof(x),
			     "datagram");
		double t = now_of(CLOCK_MONOTONIC);
		took[i] = t - last;
		last = t;
	}
	struct figure f = { .cpu_us = (now_of(CLOCK_PROCESS_CPUTIME_ID) - c0) / n,
		            .wall_us = (now_of(CLOCK_MONOTONIC) - w0) / n };
	f.rate = 1e6 / f.wall_us;
	if (op != BULK) {
		qsort(took, (size_t)n, sizeof(*took), by_value);
		f.wall_us = took[n / 2];
		f.p99_us = took[n * 99 / 100];
	}
	if (c >= 0)
		close(c);
	if (s >= 0)
		close(s);
	return f;
}

void load_host(const struct bed *b, const struct ends *e, struct figure f[OP_MAX])
{
	for (int i = 0; i < 50; i++)
		one_crr(e);
	for (enum op op = 0; op < OP_MAX; op++) {
		double h = helper_cpu(b->helper);
		if (op == UDP && b->no_udp)
			continue;
		f[op] = measure(e, op);
		f[op].cpu_us += (helper_cpu(b->helper) - h) / counts[op];
	}
}

static void join_cgroup(const char *dir)
{
	CLEAN_FREE char *path = xasprintf("%s/cgroup.procs", dir);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		die(path);
	close(fd);
}

/* In a child, which is client and server of one path for one round. */
static void child(struct bed *b, int out)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons((uint16_t)b->listen_port) };
	struct ends e = { .to = { .sin_family = AF_INET, .sin_port = htons(b->port) } };
	struct timeval limit = { .tv_sec = 5 };
	struct figure f[OP_MAX] = {};
	int one = 1;

	inet_pton(AF_INET, b->dial, &e.to.sin_addr);
	enter(b->server);
	e.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	e.udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	setsockopt(e.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(e.listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(e.udp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	need(!bind(e.listener, (struct sockaddr *)&any, sizeof(any)) && !listen(e.listener, 64) &&
	             !bind(e.udp, (struct sockaddr *)&any, sizeof(any)),
	     "listen");
	enter(b->client);
	e.out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (b->cgroup)
		join_cgroup(b->cgroup);
	(guest ? load_guest : load_host)(b, &e, f);
	need(write(out, f, sizeof(f)) == sizeof(f), "result");
	exit(0);
}

void run_round(struct bed *b, int r)
{
	struct figure f[OP_MAX] = {};
	int p[2], status;

	need(pipe2(p, O_CLOEXEC) == 0, "pipe");
	fflush(stdout);
	pid_t pid = fork();
	need(pid >= 0, "fork");
	if (!pid)
		child(b, p[1]);
	close(p[1]);
	ssize_t n = read(p[0], f, sizeof(f));
	close(p[0]);
	waitpid(pid, &status, 0);
	if (n != sizeof(f) || status) {
		fprintf(stderr, "bench-path: %s failed\n", b->kind->name);
		exit(1);
	}
	for (enum op op = 0; r >= 0 && op < OP_MAX; op++) {
		b->cpu[op][r] = f[op].cpu_us;
		b->wall[op][r] = f[op].wall_us;
		b->p99[op][r] = f[op].p99_us;
		b->rate[op][r] = f[op].rate;
	}
}