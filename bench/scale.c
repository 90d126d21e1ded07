// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The data plane of a node that knows N published services of ten backends each, on ten other nodes: from nothing
 * (a snapshot handed over until it is in force), one change (a delta, a backend drains or serves again, until it is in
 * force), what it takes in memory, and a packet to any of the services. Beside it what others hold the same in: nft
 * with one map for all, nft with a chain a service (as kube-proxy lays it out), iptables. Their figures include a
 * process start, as their users have it. Wall time, medians.
 *
 *   bench/scale [-o file.json] [-n services] [-p]      -p: without the peers
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <bpf/bpf.h>
#include <dirent.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#include "base/mem.h"
#include "bench/bpf/wrap.h"
#include "bench/calls.h"
#include "bench/machine.h"
#include "dataplane/dp.h"
#include "dataplane/ebpf/internal.h"
#include "wrap.skel.h"

#define BACKENDS 10
#define FIRST_PORT 1024
#define CHANGES 101
#define VNI 4096
#define SELF "192.168.77.1"
#define CHAINS_MAX 10000 /* beyond, nft's chains take minutes: it looks for a set's name in a list */
#define PACKETS 300000
#define ROUNDS 5

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench-scale: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double clock_ms(clockid_t c)
{
	struct timespec t;

	clock_gettime(c, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}
#define now_ms() clock_ms(CLOCK_MONOTONIC)
#define cpu_ms() clock_ms(CLOCK_PROCESS_CPUTIME_ID)

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

/* ---- figures ---- */

struct figures {
	double all_ms, all_cpu_ms, change_ms, change_cpu_ms, adopt_ms;
	double change_bytes, map_mb, anon_mb, packet_ns;
};
struct peer {
	double all_ms, change_ms, kernel_mb;
};

/* Of "key: 123 kB" in a file of /proc. */
static double kb_of(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	char line[256];
	double kb = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			kb = atof(line + strlen(key) + 1);
	if (f)
		fclose(f);
	return kb;
}

static double memlock_of(int fd)
{
	char path[64];
	FILE *f;
	char line[256];
	double bytes = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "memlock:", 8))
			bytes = atof(line + 8);
	if (f)
		fclose(f);
	return bytes;
}

/* Of a map, and of the segments in it. */
static double map_bytes(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info), id;
	double sum = memlock_of(fd);

	need(!bpf_obj_get_info_by_fd(fd, &info, &len), "map info");
	for (uint32_t i = 0; info.type == BPF_MAP_TYPE_ARRAY_OF_MAPS && i < info.max_entries; i++) {
		if (bpf_map_lookup_elem(fd, &i, &id))
			break;
		CLEAN_CLOSE int inner = bpf_map_get_fd_by_id(id);
		sum += memlock_of(inner);
	}
	return sum;
}

static double maps_mb(const char *pins)
{
	CLEAN_FREE char *dir = ebpf_map_dir(&(struct ebpf_config){ .pin_dir = pins });
	DIR *d = opendir(dir);
	double sum = 0;

	need(d, dir);
	for (struct dirent *e; (e = readdir(d));) {
		CLEAN_FREE char *path = xasprintf("%s/%s", dir, e->d_name);
		CLEAN_CLOSE int fd = e->d_name[0] == '.' ? -1 : bpf_obj_get(path);
		sum += fd < 0 ? 0 : map_bytes(fd);
	}
	closedir(d);
	return sum / 1e6;
}

/* ---- what the manager would say ---- */

static struct dp_change *change(struct dp_delta *d, int kind)
{
	struct dp_change *c = LIST_ADD(&d->changes);

	c->kind = kind;
	return c;
}

static void id_of(char *out, char kind, unsigned i)
{
	snprintf(out, MESH_ID_LEN + 1, "%c%0*u", kind, MESH_ID_LEN - 1, i);
}

static void add_endpoint(struct dp_delta *d, unsigned service, unsigned k, int state)
{
	unsigned i = service * BACKENDS + k;
	struct dp_endpoint *e = change(d, DP_ENDPOINT)->endpoint = XNEW(struct dp_endpoint);

	id_of(e->task.s, 't', i);
	id_of(e->network.s, 'n', 0);
	id_of(e->service.s, 's', service);
	id_of(e->node.s, 'm', 1 + k);
	e->addr = xasprintf("10.%u.%u.%u", 1 + (i >> 16), i >> 8 & 255, i & 255);
	e->state = state;
	strs_add(&e->names, "web.1.0123456789012345678901234");
}

static void add_service(struct dp_delta *d, unsigned i)
{
	struct dp_service *s = change(d, DP_SERVICE)->service = XNEW(struct dp_service);

	id_of(s->id.s, 's', i);
	id_of(s->network.s, 'n', 0);
	s->name = xasprintf("service-%u", i);
	*LIST_ADD(&s->ports) = (struct dp_port){ IPPROTO_TCP, FIRST_PORT + i, 80 };
	for (unsigned k = 0; k < BACKENDS; k++)
		add_endpoint(d, i, k, DP_SERVING);
}

static struct dp_delta *delta(uint64_t version)
{
	struct dp_delta *d = XNEW(struct dp_delta);

	d->version = version;
	id_of(d->self.s, 'm', 0);
	return d;
}

static struct dp_delta *snapshot(unsigned services)
{
	struct dp_delta *d = delta(1);
	struct dp_network *n = change(d, DP_NETWORK)->network = XNEW(struct dp_network);

	d->snapshot = true;
	id_of(n->id.s, 'n', 0);
	n->name = xstrdup("ingress");
	n->vni = VNI;
	n->subnet = xstrdup("10.0.0.0/8");
	n->gateway = xstrdup("10.0.0.1");
	n->ingress = true;
	for (unsigned i = 0; i <= BACKENDS; i++) {
		struct dp_node *m = change(d, DP_NODE)->node = XNEW(struct dp_node);
		id_of(m->id.s, 'm', i);
		m->addr = xasprintf("192.168.77.%u", 1 + i);
	}
	for (unsigned i = 0; i < services; i++)
		add_service(d, i);
	return d;
}

/* ---- ours ---- */

static struct {
	char dir[64];
	struct dp *dp;
	int applied; /* eventfd: versions in force */
	uint64_t version;
	char problem[256];
} w = { .dir = "/tmp/mesh-scale-XXXXXX" };

static void on_report(void *arg, struct dp_report *r)
{
	(void)arg;
	if (r->kind == DP_HOST)
		dp_host_free(r->host);
	if (r->kind == DP_DEGRADED && r->text[0])
		snprintf(w.problem, sizeof(w.problem), "%s", r->text);
	if (r->kind == DP_APPLIED) {
		w.version = r->version;
		need(!r->code, r->text);
		need(!eventfd_write(w.applied, 1), "eventfd");
	}
}

static void open_node(void)
{
	CLEAN_FREE char *run = xasprintf("%s/run", w.dir), *state = xasprintf("%s/state", w.dir);
	struct dp_config c = { .name = "mscale",
		               .state_dir = state,
		               .run_dir = run,
		               .data_path_addr = SELF,
		               .vxlan_port = 4789,
		               .driver = "ebpf",
		               .local_subnet = "172.31.200.0/24",
		               .report = on_report };

	need(!system("ip link set lo up; ip link add u0 type veth peer name u1; ip addr add " SELF
	             "/24 dev u0; ip link set u0 up; ip link set u1 up; ip route add default via 192.168.77.2"),
	     "devices");
	w.applied = eventfd(0, EFD_CLOEXEC);
	OK(dp_open(&c, &w.dp, &err));
}

static void submit(struct dp_delta *d)
{
	uint64_t version = d->version;
	eventfd_t n;

	dp_submit(w.dp, d);
	do
		need(!eventfd_read(w.applied, &n), "eventfd");
	while (w.version != version);
}

static double encoded_bytes(const struct dp_delta *d)
{
	struct buf b = { 0 };

	sch_encode(&dp_delta_schema, d, &b);
	double n = (double)b.len;
	buf_fini(&b);
	return n;
}

static void measure_changes(unsigned services, struct figures *f)
{
	static double wall[CHANGES], cpu[CHANGES];

	for (unsigned k = 0; k < CHANGES; k++) {
		struct dp_delta *d = delta(2 + k);
		add_endpoint(d, services / 2, 3, k & 1 ? DP_SERVING : DP_DRAINING);
		f->change_bytes = encoded_bytes(d);
		double c0 = cpu_ms(), t0 = now_ms();
		submit(d);
		wall[k] = now_ms() - t0;
		cpu[k] = cpu_ms() - c0;
	}
	f->change_ms = median(wall, CHANGES);
	f->change_cpu_ms = median(cpu, CHANGES);
}

static void frame_of(uint8_t f[64])
{
	struct ethhdr *eth = (void *)f;
	struct iphdr *ip = (void *)(f + ETH_HLEN);
	uint32_t sum = 0;

	memset(f, 0, 64);
	eth->h_dest[0] = eth->h_source[0] = 2;
	eth->h_proto = htons(ETH_P_IP);
	*ip = (struct iphdr){ .version = 4, .ihl = 5, .tot_len = htons(50), .ttl = 64, .protocol = IPPROTO_TCP };
	ip->saddr = htonl(10u << 24 | 64 << 16);
	ip->daddr = inet_addr(SELF);
	for (int i = 0; i < 10; i++)
		sum += ((const uint16_t *)(const void *)ip)[i];
	ip->check = (uint16_t) ~((sum & 0xffff) + (sum >> 16));
	f[46] = 5 << 4;
	f[47] = 16; /* ACK */
}

static double run(const struct wrap_bpf *skel, int prog, int verdict)
{
	uint8_t in[64], out[256];
	uint32_t zero = 0;
	struct __sk_buff skb = { .ifindex = if_nametoindex("u0") };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in, .data_size_in = 64, .data_out = out,
	            .data_size_out = sizeof(out), .ctx_in = &skb, .ctx_size_in = sizeof(skb), .repeat = PACKETS);

	frame_of(in);
	memcpy(skel->bss->wrap.frame, in, sizeof(in));
	skel->bss->wrap.len = sizeof(in);
	need(!bpf_map_update_elem(bpf_map__fd(skel->maps.next), &zero, &prog, BPF_ANY), "tail call");
	need(!bpf_prog_test_run_opts(bpf_program__fd(skel->progs.again), &o), "test run");
	errno = 0;
	need((int)o.retval == verdict, "verdict");
	return o.duration;
}

/* A packet of one of 64k flows, to the next service each time. The daemon is gone; the tables are adopted. */
static void measure_packets(unsigned services, struct figures *f)
{
	CLEAN_FREE char *pins = xasprintf("%s/run/bpf", w.dir);
	struct ebpf_config c = { .pin_dir = pins, .vxlan_ifindex = if_nametoindex("mscalevx") };
	struct wrap_bpf *skel = wrap_bpf__open_and_load();
	double v[ROUNDS];
	struct ebpf *e;

	need(skel, "wrapper");
	OK(dp_ip_parse(SELF, &c.self, NULL));
	double t0 = now_ms();
	OK(ebpf_open(&c, &e, &err));
	f->adopt_ms = now_ms() - t0;
	skel->bss->wrap.vary = WRAP_SRC;
	skel->bss->wrap.flow_mask = 65535;
	skel->bss->wrap.ports = services;
	skel->bss->wrap.first_port = FIRST_PORT;
	for (int r = -1; r < ROUNDS; r++) {
		double null = run(skel, bpf_program__fd(skel->progs.nothing), TC_ACT_UNSPEC);
		double ns = run(skel, e->prog_fd[PROG_UPLINK], TC_ACT_REDIRECT) - null;
		if (r >= 0)
			v[r] = ns;
	}
	f->packet_ns = median(v, ROUNDS);
	ebpf_destroy(e);
	wrap_bpf__destroy(skel);
}

static void measure_ours(unsigned services, struct figures *f)
{
	CLEAN_FREE char *pins = xasprintf("%s/run/bpf", w.dir);

	open_node();
	double before = kb_of("/proc/self/status", "RssAnon");
	struct dp_delta *all = snapshot(services);
	double c0 = cpu_ms(), t0 = now_ms();
	submit(all);
	f->all_ms = now_ms() - t0;
	f->all_cpu_ms = cpu_ms() - c0;
	malloc_trim(0);
	f->anon_mb = (kb_of("/proc/self/status", "RssAnon") - before) / 1e3;
	measure_changes(services, f);
	f->map_mb = maps_mb(pins);
	if (w.problem[0])
		fprintf(stderr, "bench-scale: %s\n", w.problem);
	dp_close(w.dp);
	measure_packets(services, f);
}

/* ---- peers ---- */

static double timed(const char *cmd)
{
	double t0 = now_ms();

	need(system(cmd) == 0, cmd);
	return now_ms() - t0;
}

static double timed_changes(unsigned n, const char *add, const char *del)
{
	double v[11];
	size_t rounds = n > 1000 ? 5 : ARRAY_SIZE(v);

	for (size_t i = 0; i < rounds; i++) {
		v[i] = timed(add);
		(void)timed(del);
	}
	return median(v, rounds);
}

/* What the kernel holds for this process and those it starts: a memory cgroup of their own, where there is one. */
static const char *own_group(void)
{
	static char group[PATH_MAX];
	char line[256], path[201];
	FILE *f = fopen("/proc/mounts", "re");

	while (f && !group[0] && fgets(line, sizeof(line), f))
		if (strstr(line, " cgroup ") && strstr(line, "memory") && sscanf(line, "%*s %200s", path) == 1)
			snprintf(group, sizeof(group), "%s%s", path, strrchr(w.dir, '/'));
	if (f)
		fclose(f);
	return group;
}

static void enter_group(void)
{
	char path[PATH_MAX + 32];

	if (mkdir(own_group(), 0700) && errno != EEXIST)
		return;
	snprintf(path, sizeof(path), "%s/cgroup.procs", own_group());
	FILE *f = fopen(path, "we");
	if (f) {
		fprintf(f, "%d\n", getpid());
		fclose(f);
	}
}

static double kernel_mb(void)
{
	char path[PATH_MAX + 32];
	double bytes = 0;

	snprintf(path, sizeof(path), "%s/memory.kmem.usage_in_bytes", own_group());
	FILE *f = fopen(path, "re");
	if (!f || fscanf(f, "%lf", &bytes) != 1)
		bytes = 0;
	if (f)
		fclose(f);
	return bytes / 1e6;
}

static void address(char out[20], unsigned service, unsigned k)
{
	unsigned i = service * BACKENDS + k;

	snprintf(out, 20, "10.%u.%u.%u", 1 + (i >> 16), i >> 8 & 255, i & 255);
}

static void write_map(FILE *f, unsigned n)
{
	char ip[20];

	fprintf(f, "table ip b {\n map s { type inet_service . mark : ipv4_addr . inet_service; elements = {\n");
	for (unsigned i = 0; i < n * BACKENDS; i++) {
		address(ip, i / BACKENDS, i % BACKENDS);
		fprintf(f, "%u . %u : %s . 80,\n", FIRST_PORT + i / BACKENDS, i % BACKENDS, ip);
	}
	fprintf(f, "9 . 0 : 10.8.0.1 . 80 } }\n chain pre { type nat hook prerouting priority -100;\n"
	           "  meta mark set numgen random mod 10\n  dnat to tcp dport . meta mark map @s\n }\n}\n");
}

static void write_chains(FILE *f, unsigned n)
{
	char ip[20];

	fprintf(f, "table ip b {\n");
	for (unsigned i = 0; i < n; i++) {
		fprintf(f, " chain s%u {\n  meta l4proto tcp dnat to numgen random mod 10 map {", i);
		for (unsigned k = 0; k < BACKENDS; k++) {
			address(ip, i, k);
			fprintf(f, "%s %u : %s . 80", k ? "," : "", k, ip);
		}
		fprintf(f, " }\n }\n");
	}
	fprintf(f, " map s { type inet_service : verdict; elements = {\n");
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "%u : goto s%u,\n", FIRST_PORT + i, i);
	fprintf(f,
	        "9 : goto s0 } }\n chain pre { type nat hook prerouting priority -100;\n  tcp dport vmap @s\n }\n}\n");
}

static void write_iptables(FILE *f, unsigned n)
{
	char ip[20];

	fprintf(f, "*nat\n:S - [0:0]\n-A PREROUTING -j S\n");
	for (unsigned i = 0; i < n * BACKENDS; i++) {
		address(ip, i / BACKENDS, i % BACKENDS);
		fprintf(f, "-A S -p tcp --dport %u -m statistic --mode random --probability %.4f -j DNAT --to %s:80\n",
		        FIRST_PORT + i / BACKENDS, 1.0 / (BACKENDS - i % BACKENDS), ip);
	}
	fprintf(f, "COMMIT\n");
}

static struct peer measure_peer(unsigned n, void (*write_rules)(FILE *f, unsigned n), const char *load, const char *add,
                                const char *del, const char *end)
{
	CLEAN_FREE char *path = xasprintf("%s/rules", w.dir), *cmd = xasprintf("%s %s/rules", load, w.dir);
	FILE *f = fopen(path, "we");
	struct peer r = { 0 };

	need(f, path);
	write_rules(f, n);
	fclose(f);
	double before = kernel_mb();
	r.all_ms = timed(cmd);
	r.kernel_mb = kernel_mb() - before;
	r.change_ms = timed_changes(n, add, del);
	(void)timed(end);
	unlink(path);
	return r;
}

/* ---- main ---- */

struct row {
	unsigned services;
	struct figures ours;
	struct peer map, chains, iptables;
};

static void measure(struct row *r, bool peers)
{
	unsigned n = r->services;

	need(!unshare(CLONE_NEWNS | CLONE_NEWNET) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "namespaces");
	need(!mount("tmpfs", w.dir, "tmpfs", 0, NULL), "tmpfs");
	measure_ours(n, &r->ours);
	if (!peers)
		return;
	enter_group();
	r->map = measure_peer(n, write_map, "nft -f", "nft 'add element ip b s { 8 . 0 : 10.8.0.3 . 80 }'",
	                      "nft 'delete element ip b s { 8 . 0 }'", "nft 'delete table ip b'");
	if (n <= CHAINS_MAX)
		r->chains = measure_peer(n, write_chains, "nft -f",
		                         "nft 'add rule ip b s1 dnat to 10.8.0.3'; nft 'add chain ip b x'",
		                         "nft 'delete chain ip b x'", "nft 'delete table ip b'");
	r->iptables = measure_peer(n, write_iptables, "iptables-legacy-restore <",
	                           "iptables-legacy -t nat -A S -p tcp --dport 8 -j DNAT --to 10.8.0.3:80",
	                           "iptables-legacy -t nat -D S -p tcp --dport 8 -j DNAT --to 10.8.0.3:80",
	                           "iptables-legacy -t nat -F");
}

/* In a process of its own: what one size leaves behind is not counted to the next. */
static void measure_apart(struct row *r, bool peers)
{
	int status;

	fflush(stdout);
	pid_t pid = fork();
	need(pid >= 0, "fork");
	if (!pid) {
		measure(r, peers);
		exit(0);
	}
	need(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "wait");
	if (WEXITSTATUS(status))
		exit(WEXITSTATUS(status));
}

static void print_peer(const char *name, const struct peer *p, const struct figures *ours)
{
	if (p->all_ms <= 0)
		printf("  %-26s not measured at this size: minutes\n", name);
	else
		printf("  %-26s %10.1f %6.2f %12.2f %8.0f %10s %9.1f\n", name, p->all_ms, p->all_ms / ours->all_ms,
		       p->change_ms, p->change_ms / ours->change_ms, "", p->kernel_mb);
}

static void print_row(const struct row *r)
{
	const struct figures *o = &r->ours;

	printf("%u services, %u endpoints\n", r->services, r->services * BACKENDS);
	printf("  %-26s %10.1f %6s %12.3f %8s %10.0f %9.1f\n", "meshd", o->all_ms, "", o->change_ms, "",
	       o->change_bytes, o->map_mb);
	printf("    CPU ms %.1f, a change %.3f; daemon %.1f MB; tables adopted in %.0f ms; a packet %.0f ns\n",
	       o->all_cpu_ms, o->change_cpu_ms, o->anon_mb, o->adopt_ms, o->packet_ns);
	if (r->map.all_ms > 0) {
		print_peer("nft, one map", &r->map, o);
		print_peer("nft, a chain a service", &r->chains, o);
		print_peer("iptables", &r->iptables, o);
	}
	fflush(stdout);
}

static void json_peer(FILE *json, const char *name, const struct peer *p)
{
	fprintf(json, ", \"%s\": {\"ms\": %.2f, \"change_ms\": %.3f, \"kernel_mb\": %.1f}", name, p->all_ms,
	        p->change_ms, p->kernel_mb);
}

static void json_row(FILE *json, const struct row *r, bool first)
{
	const struct figures *o = &r->ours;

	fprintf(json,
	        "%s\n    {\"services\": %u, \"backends\": %u, \"meshd\": {\"ms\": %.2f, \"cpu_ms\": %.2f, "
	        "\"change_ms\": "
	        "%.4f, \"change_cpu_ms\": %.4f, \"change_bytes\": %.0f, \"maps_mb\": %.2f, \"daemon_mb\": %.2f, "
	        "\"adopt_ms\": %.2f, \"packet_ns\": %.1f}",
	        first ? "" : ",", r->services, r->services * BACKENDS, o->all_ms, o->all_cpu_ms, o->change_ms,
	        o->change_cpu_ms, o->change_bytes, o->map_mb, o->anon_mb, o->adopt_ms, o->packet_ns);
	json_peer(json, "nft_map", &r->map);
	json_peer(json, "nft_chains", &r->chains);
	json_peer(json, "iptables", &r->iptables);
	fprintf(json, "}");
}

int main(int argc, char **argv)
{
	static const unsigned sizes[] = { 10, 1000, 10000, 30000 };
	struct machine m = machine_of();
	unsigned only = 0;
	bool peers = true, first = true;
	FILE *json = NULL;

	for (int o; (o = getopt(argc, argv, "o:n:p")) != -1;) {
		if (o == 'o')
			json = fopen(optarg, "we");
		else if (o == 'n')
			only = (unsigned)atoi(optarg);
		else if (o == 'p')
			peers = false;
		else
			return 2;
	}
	struct row *r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(r != MAP_FAILED && mkdtemp(w.dir), "memory");
	printf("%s, %ld CPUs, Linux %s; %u backends a service\n  %-26s %10s %6s %12s %8s %10s %9s\n", m.cpu, m.cpus,
	       m.kernel, BACKENDS, "", "all, ms", "ratio", "a change, ms", "ratio", "its bytes", "kernel MB");
	if (json) {
		fprintf(json, "{\n  ");
		machine_json(json, &m);
		fprintf(json, ",\n  \"sizes\": [");
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (only && sizes[i] != only)
			continue;
		*r = (struct row){ .services = sizes[i] };
		measure_apart(r, peers);
		print_row(r);
		if (json)
			json_row(json, r, first);
		first = false;
	}
	if (json) {
		fprintf(json, "\n  ]\n}\n");
		fclose(json);
	}
	(void)rmdir(own_group()); /* there may be none */
	rmdir(w.dir);
	return 0;
}
