// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an operation costs on each path from a client to a task: ours and what people use today, side by side in
 * namespaces of this process that vanish with it. On a host one thread on one CPU is client and server, so that all
 * the kernel's work for a packet is done, and charged, in that thread: CPU time an operation is the figure, wall time
 * and its percentiles stand beside. In a guest (-g) the clock itself counts instructions. Rounds are interleaved over
 * the paths, medians taken.
 *
 *   one node   client 172.31.9.100 ── 172.31.9.11 n1 ── task
 *   two nodes  client 172.31.9.100 ── n1 172.31.8.11 ── 172.31.8.12 n2 ── task;  direct return: n2 ── client
 *   overlay    task ── n1 172.31.8.11 ── 172.31.8.12 n2 ── task
 *
 *   bench/path [-g] [-r rounds] [-o file.json] [-p part of a path's name] [-d] [-c control]
 *     -d   tunnels by the VXLAN device
 *     -c   a fifo of perf record's: profiling is enabled when all has been made
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/path/path.h"

#define DIRECT "direct, routed by the node"
#define ROUTED "routed over two nodes"
#define VXLAN "VXLAN and bridge, two nodes"
#define SAME "task to task, same node"
#define MESH "mesh, task on the node dialled"

static const struct kind kinds[] = {
	{ DIRECT, "", 0, 0, ON_BOTH, direct_routed, 1 },
	{ "the same with conntrack", DIRECT, 0, 0, ON_GUEST, conntrack, 1 },
	{ MESH, DIRECT, 0, 0, OURS | ON_BOTH, mesh_here, 1 },
	{ "mesh, 10000 services", MESH, 1.05, 0, OURS | ON_HOST, mesh_here, 10000 },
	{ "nft driver, mesh, task on the node dialled", DIRECT, 0, 0, OURS | ON_BOTH, nft_mesh_here, 1 },
	{ "IPVS rr", DIRECT, 0, 0, ON_BOTH, ipvs_rr, 1 },
	{ "IPVS mh", DIRECT, 0, 0, ON_GUEST, ipvs_mh, 1 },
	{ "IPVS rr with conntrack, as Docker sets it", DIRECT, 0, 0, ON_BOTH, ipvs_docker, 1 },
	{ "nft DNAT, 1 service", DIRECT, 0, 0, ON_BOTH, nft_dnat, 1 },
	{ "nft DNAT, 10000 services (one map)", DIRECT, 0, 0, ON_HOST, nft_dnat, 10000 },
	{ "iptables DNAT, 1 service", DIRECT, 0, 0, ON_BOTH, iptables_dnat, 1 },
	{ "iptables DNAT, 10000 services", DIRECT, 0, 0, ON_HOST, iptables_dnat, 10000 },
	{ "HAProxy, TCP mode, in the node", DIRECT, 0, 0, ON_HOST, haproxy, 1 },
	{ ROUTED, DIRECT, 0, 0, ON_BOTH, routed_two, 1 },
	{ "mesh over two nodes, return=tunnel", ROUTED, 1.15, 325, OURS | ON_BOTH, mesh_tunnel, 1 },
	{ "mesh over two nodes, return=direct", ROUTED, 1.15, 305, OURS | ON_BOTH, mesh_direct, 1 },
	{ "nft driver, mesh over two nodes", ROUTED, 0, 0, OURS | ON_BOTH, nft_mesh_two, 1 },
	{ "Swarm-like ingress (statistic for IPVS)", ROUTED, 0, 0, ON_HOST, swarm, 1 },
	{ "Swarm's ingress, real IPVS, two nodes", ROUTED, 0, 0, ON_BOTH, swarm_ipvs, 1 },
	{ VXLAN, ROUTED, 0, 0, ON_BOTH, vxlan_bridge, 1 },
	{ "overlay, two nodes", VXLAN, 0.85, 290, OURS | ON_BOTH, overlay_two, 1 },
	{ "nft driver, overlay, two nodes", VXLAN, 0, 0, OURS | ON_BOTH, nft_overlay, 1 },
	{ SAME, DIRECT, 0, 0, OURS | ON_BOTH, task_to_task, 1 },
	{ "task to VIP, same node", SAME, 1.02, 219, OURS | ON_BOTH, task_to_vip, 1 },
	{ "nft driver, task to VIP, same node", SAME, 0, 0, OURS | ON_BOTH, nft_vip, 1 },
};

static int home;
static pid_t owner;

static const char *cgroup2(void)
{
	return access("/sys/fs/cgroup/unified/cgroup.procs", W_OK) ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
}

static void cleanup(void)
{
	/* Children leave by exit() too. */
	if (getpid() != owner)
		return;
	for (size_t i = 0; i < n_beds; i++)
		if (beds[i].helper)
			kill(beds[i].helper, SIGTERM);
	ours_destroy();
	nft_destroy();
	enter(home);
	umount2(bpffs, MNT_DETACH);
	rmdir(bpffs);
	rmdir(cgroups);
}

static bool wanted(const struct kind *k, const char *part)
{
	return (k->on & (guest ? ON_GUEST : ON_HOST)) && (!part || strstr(k->name, part));
}

static void make_beds(const char *part)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct bed *b = &beds[n_beds];
		if (!wanted(&kinds[i], part))
			continue;
		*b = (struct bed){ .kind = &kinds[i], .listen_port = 80 };
		n_beds++;
		b->kind->make(b);
		if (guest)
			fprintf(stderr, "made: %s\n", b->kind->name);
		if (b->absent)
			n_beds--;
	}
}

int main(int argc, char **argv)
{
	const char *out = NULL, *part = NULL, *control = NULL;
	int rounds = 7, o;
	struct rlimit files;
	cpu_set_t one;

	while ((o = getopt(argc, argv, "dgr:o:p:c:")) != -1) {
		if (o == 'r')
			rounds = atoi(optarg);
		else if (o == 'o')
			out = optarg;
		else if (o == 'p')
			part = optarg;
		else if (o == 'c')
			control = optarg;
		else if (o == 'g')
			guest = true;
		else if (o == 'd')
			by_device = true;
		else
			return 2;
	}
	if (rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	need(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount namespace");
	strcpy(bpffs, "/tmp/mesh-bench-XXXXXX");
	need(mkdtemp(bpffs) && !mount("bpf", bpffs, "bpf", 0, NULL), "bpffs");
	snprintf(cgroups, sizeof(cgroups), "%s/mesh-bench-%d", cgroup2(), getpid());
	need(!mkdir(cgroups, 0755), cgroups);
	owner = getpid();
	need(!getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
	files.rlim_cur = files.rlim_max;
	need(!setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	CPU_ZERO(&one);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &one);
	sched_setaffinity(0, sizeof(one), &one);
	atexit(cleanup);
	make_beds(part);
	if (control)
		sh("echo enable >%s", control);
	/* To warm up: all of them, where the caches of a CPU count; in a guest only what comes first. */
	for (size_t i = 0; i < (guest ? 1 : n_beds); i++)
		run_round(&beds[i], -1);
	for (int r = 0; r < rounds; r++)
		for (size_t i = 0; i < n_beds; i++)
			run_round(&beds[i], r);
	report(rounds, out);
	return 0;
}
