// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Programming the data plane: N published services with 2 backends each, from nothing, and one change (a backend
 * leaves and comes back), beside nft (one map for all) and iptables at the same N, a process start included there as
 * their users have it. Wall time; for ours CPU as well, in the JSON.
 *
 *   bench/scale [-o file.json]
 */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <netinet/in.h>
#include <time.h>

#include "base/mem.h"
#include "dataplane/ebpf/ebpf.h"

#define CHANGES 21

static char bpffs[] = "/tmp/mesh-scale-XXXXXX";

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench-scale: %s: %s\n", what, strerror(errno));
	exit(1);
}

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		struct mesh_err err = {};                                                                              \
		int _rc = (call);                                                                                      \
		if (_rc) {                                                                                             \
			fprintf(stderr, "bench-scale: %s: %s\n", #call, mesh_err_text(&err, _rc));                     \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;

	need(!dp_ip_parse(text, &ip, NULL), text);
	return ip;
}

static struct dp_ip address(unsigned i)
{
	struct dp_ip ip = ip_of("10.8.0.0");

	ip.b[13] = (uint8_t)(8 + (i >> 16));
	ip.b[14] = (uint8_t)(i >> 8);
	ip.b[15] = (uint8_t)i;
	return ip;
}

static void set_service(struct ebpf *e, unsigned i, size_t backends)
{
	struct ebpf_backend b[2] = {};
	struct ebpf_service s = { .key = 1 + i, .vni = 4096, .backends = b, .n = backends };

	for (unsigned k = 0; k < 2; k++)
		b[k] = (struct ebpf_backend){ .ip = address(2 * i + k),
			                      .node = ip_of("172.31.9.12"),
			                      .state = DP_SERVING };
	OK(ebpf_set_service(e, &s, &err));
}

struct figure {
	double all_ms, change_ms, change_cpu_ms;
};

static struct figure ours(unsigned n)
{
	CLEAN_FREE char *pin = xasprintf("%s/n%u", bpffs, n);
	struct ebpf_config c = { .pin_dir = pin, .self = ip_of("172.31.9.11"), .vxlan_ifindex = if_nametoindex("vx") };
	double wall[CHANGES], cpu[CHANGES];
	struct figure f;
	struct ebpf *e;

	OK(ebpf_open(&c, &e, &err));
	double t0 = now_ms();
	for (unsigned i = 0; i < n; i++) {
		struct ebpf_port p = {
			.proto = IPPROTO_TCP, .published = (uint16_t)(10000 + i), .target = 80, .service = 1 + i
		};
		for (unsigned k = 0; k < 2; k++) {
			struct ebpf_endpoint ep = { .vni = 4096,
				                    .ip = address(2 * i + k),
				                    .node = ip_of("172.31.9.12") };
			OK(ebpf_set_endpoint(e, &ep, &err));
		}
		set_service(e, i, 2);
		OK(ebpf_set_port(e, &p, &err));
	}
	f.all_ms = now_ms() - t0;
	for (size_t k = 0; k < CHANGES; k++) {
		double c0 = cpu_ms();
		t0 = now_ms();
		set_service(e, n / 2, k & 1 ? 2 : 1);
		wall[k] = now_ms() - t0;
		cpu[k] = cpu_ms() - c0;
	}
	f.change_ms = median(wall, CHANGES);
	f.change_cpu_ms = median(cpu, CHANGES);
	ebpf_destroy(e);
	return f;
}

static double timed(const char *cmd)
{
	double t0 = now_ms();

	need(system(cmd) == 0, cmd);
	return now_ms() - t0;
}

static double timed_changes(const char *add, const char *del)
{
	double v[CHANGES / 2];

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		v[i] = timed(add);
		(void)timed(del);
	}
	return median(v, ARRAY_SIZE(v));
}

static struct figure nft(unsigned n)
{
	CLEAN_FREE char *path = xasprintf("%s.nft", bpffs), *load = xasprintf("nft -f %s.nft", bpffs);
	FILE *f = fopen(path, "we");
	struct figure r = { 0 };

	need(f, path);
	fprintf(f, "table ip b {\n map s { type inet_service . mark : ipv4_addr . inet_service; elements = {\n");
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "%u . 0 : 10.8.0.1 . 80, %u . 1 : 10.8.0.2 . 80,\n", 10000 + i, 10000 + i);
	fprintf(f, "9 . 0 : 10.8.0.1 . 80 } }\n chain pre { type nat hook prerouting priority -100;\n"
	           "  meta mark set numgen random mod 2\n  dnat to tcp dport . meta mark map @s\n }\n}\n");
	fclose(f);
	r.all_ms = timed(load);
	r.change_ms = timed_changes("nft 'add element ip b s { 8 . 0 : 10.8.0.3 . 80 }'",
	                            "nft 'delete element ip b s { 8 . 0 }'");
	(void)timed("nft 'delete table ip b'");
	unlink(path);
	return r;
}

static struct figure iptables(unsigned n)
{
	CLEAN_FREE char *path = xasprintf("%s.ipt", bpffs),
			*load = xasprintf("iptables-legacy-restore < %s.ipt", bpffs);
	FILE *f = fopen(path, "we");
	struct figure r = { 0 };

	need(f, path);
	fprintf(f, "*nat\n:S - [0:0]\n-A PREROUTING -j S\n");
	for (unsigned i = 0; i < n; i++)
		fprintf(f,
		        "-A S -p tcp --dport %u -m statistic --mode random --probability 0.5 -j DNAT --to 10.8.0.1:80\n"
		        "-A S -p tcp --dport %u -j DNAT --to 10.8.0.2:80\n",
		        10000 + i, 10000 + i);
	fprintf(f, "COMMIT\n");
	fclose(f);
	r.all_ms = timed(load);
	r.change_ms = timed_changes("iptables-legacy -t nat -A S -p tcp --dport 8 -j DNAT --to 10.8.0.3:80",
	                            "iptables-legacy -t nat -D S -p tcp --dport 8 -j DNAT --to 10.8.0.3:80");
	(void)timed("iptables-legacy -t nat -F PREROUTING; iptables-legacy -t nat -F S; iptables-legacy -t nat -X S");
	unlink(path);
	return r;
}

int main(int argc, char **argv)
{
	static const unsigned sizes[] = { 10, 100, 500, 1000, 1500 };
	FILE *json = NULL;

	if (getopt(argc, argv, "o:") == 'o')
		json = fopen(optarg, "we");
	need(!unshare(CLONE_NEWNS | CLONE_NEWNET) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "namespaces");
	need(mkdtemp(bpffs) && !mount("bpf", bpffs, "bpf", 0, NULL), "bpffs");
	need(!system("ip link set lo up; ip link add vx type vxlan external dstport 4789"), "device");
	if (json)
		fprintf(json, "[");
	printf("ms: from nothing, and one change\n%8s %10s %10s %10s %10s %10s %10s\n", "services", "ours", "change",
	       "nft", "change", "iptables", "change");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct figure a = ours(sizes[i]), b = nft(sizes[i]), c = iptables(sizes[i]);
		printf("%8u %10.1f %10.3f %10.1f %10.1f %10.1f %10.1f\n", sizes[i], a.all_ms, a.change_ms, b.all_ms,
		       b.change_ms, c.all_ms, c.change_ms);
		if (json)
			fprintf(json,
			        "%s\n  {\"services\": %u, \"ours_ms\": %.2f, \"ours_change_ms\": %.4f, "
			        "\"ours_change_cpu_ms\": %.4f, "
			        "\"nft_ms\": %.2f, \"nft_change_ms\": %.2f, \"iptables_ms\": %.2f, "
			        "\"iptables_change_ms\": %.2f}",
			        i ? "," : "", sizes[i], a.all_ms, a.change_ms, a.change_cpu_ms, b.all_ms, b.change_ms,
			        c.all_ms, c.change_ms);
	}
	if (json) {
		fprintf(json, "\n]\n");
		fclose(json);
	}
	umount2(bpffs, MNT_DETACH);
	rmdir(bpffs);
	return 0;
}
