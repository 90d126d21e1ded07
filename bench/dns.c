// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The resolver of tasks beside dnsmasq, unbound, NSD and Knot: 10000 names, one server on one CPU, 64 questions in
 * flight from the other CPU. Queries a second, CPU of the server a query, p50 and p99 of the answer. Then all 10000
 * at once, from 100 sockets, before any answer is read: how many come back, and after how long. Everything is in a
 * network namespace of its own; servers that are not installed are left out.
 *
 *   bench/dns [-r rounds] [-o file.json]
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "dataplane/dns/server.h"

#define NAMES 10000
#define TASKS 5 /* of each of the first TASK_NAMES services */
#define TASK_NAMES 1000
#define WINDOW 64
#define ASKERS 100
#define QUERIES 60000
#define ROUNDS_MAX 15

enum question { SERVICE, TASK_LIST, MISS, QUESTION_MAX };
static const char *const question_names[] = { "service name", "tasks.<service>, 5 addresses", "unknown name" };

struct server {
	const char *name, *addr, *path;
	pid_t pid;
	double us[QUESTION_MAX][ROUNDS_MAX], qps[QUESTION_MAX][ROUNDS_MAX], p50[QUESTION_MAX][ROUNDS_MAX],
		p99[QUESTION_MAX][ROUNDS_MAX];
	double burst_answered[ROUNDS_MAX], burst_p99[ROUNDS_MAX];
};
static struct server servers[] = {
	{ "meshd", "127.0.0.11", NULL },
	{ "dnsmasq", "127.0.0.12", "/usr/sbin/dnsmasq" },
	{ "unbound", "127.0.0.13", "/usr/sbin/unbound" },
	{ "nsd", "127.0.0.14", "/usr/sbin/nsd" },
	{ "knot", "127.0.0.15", "/usr/sbin/knotd" },
};
static char dir[] = "/tmp/mesh-dns-XXXXXX";

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench-dns: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t s;

	CPU_ZERO(&s);
	CPU_SET(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN), &s);
	(void)sched_setaffinity(0, sizeof(s), &s);
}

/* ---- servers ---- */

static struct dns_zone *make_zone(void)
{
	struct dp_network net = { .name = (char *)"blue", .subnet = (char *)"10.0.0.0/8", .internal = true };
	struct dp_service *s = xcalloc(NAMES, sizeof(*s));
	struct dp_endpoint *e = xcalloc(TASKS * TASK_NAMES, sizeof(*e));
	const struct dp_service **sp = xcalloc(NAMES, sizeof(void *));
	const struct dp_endpoint **ep = xcalloc(TASKS * TASK_NAMES, sizeof(void *));

	for (int i = 0; i < NAMES; i++) {
		snprintf((char *)&s[i].id, sizeof(s[i].id), "%025d", i);
		s[i].name = xasprintf("s%d", i);
		s[i].vip = xasprintf("10.1.%d.%d", i / 250, i % 250 + 1);
		sp[i] = &s[i];
	}
	for (int i = 0; i < TASKS * TASK_NAMES; i++) {
		e[i].service = s[i / TASKS].id;
		snprintf((char *)&e[i].task, sizeof(e[i].task), "%025d", i);
		e[i].addr = xasprintf("10.2.%d.%d", i / 250, i % 250 + 1);
		e[i].state = DP_SERVING;
		ep[i] = &e[i];
	}
	/* Lives as long as the process. */
	return dns_zone_new(&net, sp, NAMES, ep, TASKS * TASK_NAMES);
}

static void run_ours(void)
{
	struct dns_zone *zone = make_zone();
	struct str_list none = { 0 };
	struct dns_server *s;
	struct mesh_err err = {};
	int udp, tcp;

	need(zone && !dns_server_start("/dev/null", &s, &err) && !dns_sockets_open(&udp, &tcp, &err), "resolver");
	dns_server_add(s, "t", udp, tcp, &none, &zone, 1);
	for (;;)
		pause();
}

static FILE *create(const char *name)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", dir, name);
	FILE *f = fopen(path, "we");

	need(f, path);
	return f;
}

static void write_names(const char *file, const char *fmt, bool address_first)
{
	FILE *f = create(file);
	char name[32], addr[32];

	if (!strcmp(file, "blue.zone"))
		fprintf(f, "$ORIGIN blue.\n$TTL 60\n@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n");
	for (int i = 0; i < NAMES + TASKS * TASK_NAMES; i++) {
		int t = i - NAMES;
		snprintf(name, sizeof(name), i < NAMES ? "s%d" : "tasks.s%d", i < NAMES ? i : t / TASKS);
		snprintf(addr, sizeof(addr), i < NAMES ? "10.1.%d.%d" : "10.2.%d.%d", (i < NAMES ? i : t) / 250,
		         (i < NAMES ? i : t) % 250 + 1);
		if (address_first)
			fprintf(f, "%s %s.blue\n", addr, name);
		else if (!strcmp(fmt, "unbound"))
			fprintf(f, " local-data: \"%s.blue. 60 A %s\"\n", name, addr);
		else
			fprintf(f, "%s A %s\n", name, addr);
	}
	fclose(f);
}

static void write_configs(void)
{
	FILE *f;

	write_names("hosts", "", true);
	write_names("blue.zone", "zone", false);
	write_names("data.conf", "unbound", false);
	f = create("unbound.conf");
	fprintf(f,
	        "server:\n directory: \"%s\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n "
	        "interface: 127.0.0.13\n"
	        " do-daemonize: no\n num-threads: 1\n module-config: \"iterator\"\n local-zone: \"blue.\" static\n "
	        "include: \"%s/data.conf\"\n"
	        "remote-control:\n control-enable: no\n",
	        dir, dir);
	fclose(f);
	f = create("nsd.conf");
	fprintf(f,
	        "server:\n ip-address: 127.0.0.14\n server-count: 1\n username: \"\"\n zonesdir: \"%s\"\n database: "
	        "\"\"\n pidfile: \"%s/nsd.pid\"\n"
	        " xfrdfile: \"%s/xfrd\"\n zonelistfile: \"%s/zl\"\n xfrdir: \"%s\"\n rrl-ratelimit: 0\n"
	        "remote-control:\n control-enable: no\nzone:\n name: blue\n zonefile: blue.zone\n",
	        dir, dir, dir, dir, dir);
	fclose(f);
	f = create("knot.conf");
	fprintf(f,
	        "server:\n listen: 127.0.0.15@53\n udp-workers: 1\n tcp-workers: 1\n background-workers: 1\n rundir: "
	        "\"%s\"\n user: root\n"
	        "database:\n storage: \"%s/knot\"\ntemplate:\n - id: default\n   storage: \"%s\"\n   zonefile-load: "
	        "whole\n   journal-content: none\n"
	        "zone:\n - domain: blue\n   file: blue.zone\n",
	        dir, dir, dir);
	fclose(f);
}

static void run_peer(const struct server *s)
{
	CLEAN_FREE char *arg = xasprintf("%s/%s.conf", dir, s->name), *hosts = xasprintf("--addn-hosts=%s/hosts", dir);
	int null = open("/dev/null", O_RDWR);

	dup2(null, 1);
	dup2(null, 2);
	if (!strcmp(s->name, "dnsmasq"))
		execl(s->path, "dnsmasq", "-k", "-C", "/dev/null", "-R", "-h", "--user=root",
		      "--listen-address=127.0.0.12", "--bind-interfaces", "--local=/blue/", "--cache-size=20000",
		      "--pid-file=", hosts, NULL);
	else if (!strcmp(s->name, "unbound") || !strcmp(s->name, "knot"))
		execl(s->path, s->name, "-c", arg, NULL);
	else
		execl(s->path, "nsd", "-d", "-c", arg, NULL);
	_exit(127);
}

/* CPU of every process and thread below pid, in us; process group = pid. */
static double cpu_us(pid_t group)
{
	DIR *d = opendir("/proc");
	double sum = 0;

	for (struct dirent *de; d && (de = readdir(d));) {
		pid_t pid = (pid_t)atoi(de->d_name);
		if (pid <= 0 || getpgid(pid) != group)
			continue;
		CLEAN_FREE char *tasks = xasprintf("/proc/%d/task", pid);
		DIR *t = opendir(tasks);
		for (struct dirent *te; t && (te = readdir(t));) {
			CLEAN_FREE char *path = xasprintf("%s/%s/schedstat", tasks, te->d_name);
			FILE *f = te->d_name[0] == '.' ? NULL : fopen(path, "re");
			unsigned long long ns = 0;
			if (f && fscanf(f, "%llu", &ns) == 1)
				sum += (double)ns / 1e3;
			if (f)
				fclose(f);
		}
		if (t)
			closedir(t);
	}
	if (d)
		closedir(d);
	return sum;
}

/* ---- questions ---- */

static size_t question(uint8_t *m, uint16_t id, enum question q, uint32_t i)
{
	char name[64];
	size_t n = 12;

	memcpy(m, (uint8_t[]){ (uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, 12);
	if (q == SERVICE)
		snprintf(name, sizeof(name), "s%u.blue", i % NAMES);
	else if (q == TASK_LIST)
		snprintf(name, sizeof(name), "tasks.s%u.blue", i % TASK_NAMES);
	else
		snprintf(name, sizeof(name), "x%u.blue", i % NAMES);
	for (const char *p = name; *p;) {
		size_t len = strcspn(p, ".");
		m[n++] = (uint8_t)len;
		memcpy(m + n, p, len);
		n += len;
		p += len + (p[len] == '.');
	}
	memcpy(m + n, (uint8_t[]){ 0, 0, 1, 0, 1 }, 5);
	return n + 5;
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int connected(const char *addr)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53) };
	struct timeval limit = { .tv_sec = 3 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, addr, &to.sin_addr);
	need(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)), addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double at(const double *v, int n, int percent)
{
	double s[ROUNDS_MAX];

	memcpy(s, v, (size_t)n * sizeof(*v));
	qsort(s, (size_t)n, sizeof(*s), by_value);
	return s[n * percent / 100];
}

static void wrong(const struct server *s, enum question q, const uint8_t *m)
{
	fprintf(stderr, "bench-dns: %s answered a question for a %s with code %d, %d records\n", s->name,
	        question_names[q], m[3] & 15, m[7]);
	exit(1);
}

static void ask(struct server *s, enum question q, int r)
{
	static double sent[65536], took[QUERIES];
	static const int records[] = { 1, TASKS, 0 };
	uint8_t m[1024];
	uint32_t out = 0, in = 0;
	int fd = connected(s->addr);
	double c0 = cpu_us(s->pid), t0 = now_us();

	while (in < QUERIES) {
		while (out < QUERIES && out - in < WINDOW) {
			size_t n = question(m, (uint16_t)out, q, out * 7919);
			sent[out & 0xffff] = now_us();
			need(send(fd, m, n, 0) == (ssize_t)n, "send");
			out++;
		}
		need(recv(fd, m, sizeof(m), 0) >= 12, s->name);
		if ((m[3] & 15) != (q == MISS ? 3 : 0) || (q != MISS && m[7] != records[q]))
			wrong(s, q, m);
		took[in++] = now_us() - sent[(m[0] << 8 | m[1]) & 0xffff];
	}
	double wall = now_us() - t0;
	close(fd);
	if (r < 0)
		return;
	qsort(took, QUERIES, sizeof(*took), by_value);
	s->us[q][r] = (cpu_us(s->pid) - c0) / QUERIES;
	s->qps[q][r] = QUERIES / wall * 1e6;
	s->p50[q][r] = took[QUERIES / 2];
	s->p99[q][r] = took[QUERIES / 100 * 99];
}

/* All names outstanding at once. */
static void burst(struct server *s, int r)
{
	static double took[NAMES];
	int fd[ASKERS], answered = 0;
	struct timeval limit = { .tv_sec = 1 };
	uint8_t m[512];

	for (int i = 0; i < ASKERS; i++)
		fd[i] = connected(s->addr);
	double t0 = now_us();
	for (int i = 0; i < NAMES; i++) {
		size_t n = question(m, (uint16_t)i, SERVICE, (uint32_t)i);
		need(send(fd[i % ASKERS], m, n, 0) == (ssize_t)n, "send");
	}
	for (int i = 0; i < ASKERS; i++) {
		setsockopt(fd[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		for (int k = 0; k < NAMES / ASKERS && recv(fd[i], m, sizeof(m), 0) >= 12; k++)
			took[answered++] = now_us() - t0;
		limit = (struct timeval){ .tv_usec = answered == (i + 1) * (NAMES / ASKERS) ? 999999 : 1000 };
		close(fd[i]);
	}
	qsort(took, (size_t)answered, sizeof(*took), by_value);
	s->burst_answered[r] = answered;
	s->burst_p99[r] = answered ? took[answered * 99 / 100] : 0;
}

static bool answers(const struct server *s)
{
	uint8_t m[512];
	bool ok = false;

	for (int i = 0; i < 60 && !ok; i++) {
		int fd = connected(s->addr);
		size_t n = question(m, 1, SERVICE, 1);
		if (send(fd, m, n, 0) > 0)
			ok = recv(fd, m, sizeof(m), 0) > 12 && m[7] == 1;
		close(fd);
		if (!ok)
			poll(NULL, 0, 50);
	}
	return ok;
}

static void start(struct server *s)
{
	if (s->path && access(s->path, X_OK)) {
		printf("%s is not installed: make bench-peers\n", s->name);
		return;
	}
	s->pid = fork();
	need(s->pid >= 0, "fork");
	if (!s->pid) {
		setpgid(0, 0);
		pin(1);
		if (s->path)
			run_peer(s);
		run_ours();
	}
	setpgid(s->pid, s->pid);
	if (answers(s))
		return;
	printf("%s does not answer, left out\n", s->name);
	kill(-s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

static void cleanup(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		if (servers[i].pid > 0) {
			kill(-servers[i].pid, SIGKILL);
			waitpid(servers[i].pid, NULL, 0);
		}
	CLEAN_FREE char *cmd = xasprintf("rm -rf %s", dir);
	(void)!system(cmd);
}

static void report(enum question q, int rounds, FILE *json)
{
	double ours = at(servers[0].us[q], rounds, 50);

	printf("\n%s\n%-10s %10s %12s %10s %10s  %s\n", question_names[q], "server", "queries/s", "CPU us/query",
	       "p50 us", "p99 us", "CPU, ours / theirs");
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		const struct server *s = &servers[i];
		if (s->pid <= 0)
			continue;
		double us = at(s->us[q], rounds, 50);
		printf("%-10s %10.0f %12.2f %10.1f %10.1f  %.2f\n", s->name, at(s->qps[q], rounds, 50), us,
		       at(s->p50[q], rounds, 50), at(s->p99[q], rounds, 50), ours / us);
		if (json)
			fprintf(json,
			        "%s\n  {\"server\": \"%s\", \"question\": \"%s\", \"qps\": %.0f, \"cpu_us\": %.3f, "
			        "\"p50_us\": %.1f, \"p99_us\": %.1f}",
			        q || i ? "," : "", s->name, question_names[q], at(s->qps[q], rounds, 50), us,
			        at(s->p50[q], rounds, 50), at(s->p99[q], rounds, 50));
	}
}

static void report_burst(int rounds, FILE *json)
{
	printf("\n%d questions outstanding\n%-10s %10s %10s\n", NAMES, "server", "answered", "p99 ms");
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		const struct server *s = &servers[i];
		if (s->pid <= 0)
			continue;
		printf("%-10s %10.0f %10.1f\n", s->name, at(s->burst_answered, rounds, 50),
		       at(s->burst_p99, rounds, 50) / 1e3);
		if (json)
			fprintf(json,
			        ",\n  {\"server\": \"%s\", \"outstanding\": %d, \"answered\": %.0f, \"p99_us\": %.1f}",
			        s->name, NAMES, at(s->burst_answered, rounds, 50), at(s->burst_p99, rounds, 50));
	}
}

int main(int argc, char **argv)
{
	const char *out = NULL;
	int rounds = 5, o;
	struct utsname u;

	while ((o = getopt(argc, argv, "r:o:")) != -1) {
		if (o == 'r')
			rounds = atoi(optarg);
		else if (o == 'o')
			out = optarg;
		else
			return 2;
	}
	if (rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	need(!unshare(CLONE_NEWNET) && !system("ip link set lo up") && mkdtemp(dir), "namespace");
	pid_t owner = getpid();
	write_configs();
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		start(&servers[i]);
	if (owner == getpid())
		atexit(cleanup);
	need(servers[0].pid > 0, "our resolver");
	pin(0);
	for (int r = -1; r < rounds; r++)
		for (enum question q = 0; q < QUESTION_MAX; q++)
			for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
				if (servers[i].pid > 0)
					ask(&servers[i], q, r);
	for (int r = 0; r < rounds; r++)
		for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
			if (servers[i].pid > 0)
				burst(&servers[i], r);
	uname(&u);
	printf("%ld CPUs, Linux %s; %d interleaved rounds of %d queries, %d in flight, %d names\n",
	       sysconf(_SC_NPROCESSORS_ONLN), u.release, rounds, QUERIES, WINDOW, NAMES);
	FILE *json = out ? fopen(out, "we") : NULL;
	if (json)
		fprintf(json, "[");
	for (enum question q = 0; q < QUESTION_MAX; q++)
		report(q, rounds, json);
	report_burst(rounds, json);
	if (json) {
		fprintf(json, "\n]\n");
		fclose(json);
	}
	return 0;
}
