/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/lab/lab.h"

#define BPF_FS_MAGIC 0xcafe4a11

/* Child side: no way to report but the exit status and stderr. */
static void run_child(const char *const *argv, int in, int out)
{
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	execvp(argv[0], (char *const *)argv);
	dprintf(2, "%s: %s", argv[0], strerror(errno));
	_exit(127);
}

static void drain(int fd, struct buf *out)
{
	ssize_t n;

	while ((n = read(fd, buf_reserve(out, 4096), 4096)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			out->len += (size_t)n;
}

int lab_run(const char *const *argv, const char *text, struct mesh_err *err)
{
	int in[2], out[2], status;
	struct buf said = { 0 };

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return mesh_fail(err, -errno, "pipe");
	pid_t pid = fork();
	if (pid == 0)
		run_child(argv, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	if (pid < 0) {
		int saved = errno;
		close(in[1]);
		close(out[0]);
		return mesh_fail(err, -saved, "fork");
	}
	/* Batches are smaller than a pipe, so this cannot wait for a child that waits for us. */
	if (text && write(in[1], text, strlen(text)) < 0)
		buf_printf(&said, "writing to %s: %s ", argv[0], strerror(errno));
	close(in[1]);
	drain(out[0], &said);
	close(out[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	int rc = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		char *line = buf_take_str(&said);
		line[strcspn(line, "\n")] = 0;
		rc = mesh_fail(err, MESH_E_RUNTIME, "%s: %s", argv[0], *line ? line : "failed");
		free(line);
	}
	buf_fini(&said);
	return rc;
}

static int ip_batch(const char *netns, struct buf *commands, struct mesh_err *err)
{
	const char *in_ns[] = { "ip", "-n", netns, "-batch", "-", NULL };
	const char *here[] = { "ip", "-batch", "-", NULL };
	int rc = lab_run(netns ? in_ns : here, buf_str(commands), err);

	buf_clear(commands);
	return rc;
}

/* Enters a namespace by name in a child and writes one file of its /proc/sys/net. */
static void netns_sysctl(const char *netns, const char *path, const char *value)
{
	char ns[LAB_STR];
	pid_t pid = fork();

	snprintf(ns, sizeof(ns), "/run/netns/%s", netns);
	if (pid == 0) {
		int fd = open(ns, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
			_exit(1);
		int f = open(path, O_WRONLY | O_CLOEXEC);
		_exit(f < 0 || write(f, value, strlen(value)) < 0);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0); /* best effort: the file need not exist on this kernel */
}

/* A link as XDP needs it: a veth takes frames while GRO is on at that end, and its sender's sums must be finished. */
static int set_for_xdp(const char *netns, const char *dev, struct mesh_err *err)
{
	const char *argv[] = { "ip", "netns", "exec", netns, "ethtool", "-K", dev, "gro", "on", "tx", "off", NULL };

	return lab_run(argv, NULL, err);
}

static void port_name(int node, char *out)
{
	if (node)
		snprintf(out, LAB_STR, "n%d", node);
	else
		snprintf(out, LAB_STR, "client");
}

static int make_switch(const struct lab *l, struct mesh_err *err)
{
	char ns[LAB_STR], port[LAB_STR];
	struct buf b = { 0 };

	for (int k = -1; k <= l->nodes; k++) {
		lab_netns(l, k, ns);
		buf_printf(&b, "netns add %s\n", ns);
	}
	int rc = ip_batch(NULL, &b, err);
	if (rc < 0)
		goto out;
	buf_puts(&b, "link set lo up\nlink add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n");
	for (int k = 0; k <= l->nodes; k++) {
		lab_netns(l, k, ns);
		port_name(k, port);
		buf_printf(&b, "link add %s type veth peer name eth0 netns %s\n", port, ns);
		buf_printf(&b, "link set %s master br0 up\n", port);
	}
	lab_netns(l, -1, ns);
	/* The switch is wire: its host's packet filter has no say over what crosses it. */
	netns_sysctl(ns, "/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
	netns_sysctl(ns, "/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0");
	netns_sysctl(ns, "/proc/sys/net/bridge/bridge-nf-call-arptables", "0");
	rc = ip_batch(ns, &b, err);
out:
	buf_fini(&b);
	return rc;
}

static int make_host(const struct lab *l, int node, struct mesh_err *err)
{
	char ns[LAB_STR], addr[LAB_STR], gw[LAB_STR];
	struct buf b = { 0 };

	lab_netns(l, node, ns);
	lab_address(l, node, addr);
	lab_address(l, 0, gw);
	buf_puts(&b, "link set lo up\nlink set eth0 up\n");
	buf_printf(&b, "addr add %s/24 brd + dev eth0\n", addr);
	buf_printf(&b, "addr add fd31:%x::%x/64 dev eth0 nodad\n", l->index, 10 + node);
	if (node) {
		/* "Outside" is where the client stands. */
		buf_printf(&b, "route add default via %s\n", gw);
		buf_printf(&b, "route add default via fd31:%x::a\n", l->index);
	}
	int rc = ip_batch(ns, &b, err);
	buf_fini(&b);
	return rc;
}

static int links_for_xdp(const struct lab *l, int node, struct mesh_err *err)
{
	char ns[LAB_STR], sw[LAB_STR], port[LAB_STR];

	lab_netns(l, node, ns);
	lab_netns(l, -1, sw);
	port_name(node, port);
	int rc = set_for_xdp(ns, "eth0", err);
	return rc ? rc : set_for_xdp(sw, port, err);
}

/* In our own mount namespace, before the daemon starts in its private one, so that lab down sees it. */
static int mount_bpffs(const struct lab *l, int node, struct mesh_err *err)
{
	char dir[LAB_STR], at[LAB_STR + 8];
	struct statfs fs;

	lab_run_dir(l, node, dir);
	snprintf(at, sizeof(at), "%s/bpf", dir);
	int rc = lab_mkdirs(at, err);
	if (rc < 0)
		return rc;
	if (!statfs(at, &fs) && (unsigned long)fs.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpffs", at, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return mesh_fail(err, -errno, "mounting bpffs at %s", at);
	return 0;
}

#define NETNS_NOTE LAB_RUN "/.netns-dir"

void lab_netns_dir_note(void)
{
	if (access("/run/netns", F_OK) < 0) {
		CLEAN_CLOSE int fd = open(NETNS_NOTE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		(void)fd; /* without the note a mount stays: no more than "ip" itself leaves */
	}
}

void lab_netns_dir_restore(void)
{
	struct str_list names = { 0 };

	lab_names(&names);
	if (!names.n && unlink(NETNS_NOTE) == 0) {
		/* Both fail, as they should, while somebody else's namespaces are there. */
		if (umount2("/run/netns", 0) == 0)
			(void)rmdir("/run/netns");
	}
	strs_clear(&names);
}

int lab_net_up(const struct lab *l, struct mesh_err *err)
{
	int rc = make_switch(l, err);

	for (int k = 0; !rc && k <= l->nodes; k++)
		rc = make_host(l, k, err);
	for (int k = 0; !rc && l->xdp && k <= l->nodes; k++)
		rc = links_for_xdp(l, k, err);
	for (int k = 1; !rc && k <= l->nodes; k++)
		rc = mount_bpffs(l, k, err);
	return rc;
}

int lab_link_set(const struct lab *l, int node, bool up, struct mesh_err *err)
{
	char ns[LAB_STR], port[LAB_STR];
	const char *argv[] = { "ip", "-n", ns, "link", "set", port, up ? "up" : "down", NULL };

	lab_netns(l, -1, ns);
	port_name(node, port);
	return lab_run(argv, NULL, err);
}

int lab_link_get(const struct lab *l, int node)
{
	char ns[LAB_STR], path[LAB_STR + 16];
	int status;

	lab_netns(l, -1, ns);
	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	pid_t pid = fork();
	if (pid == 0) {
		struct ifreq req = { 0 };
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
			_exit(2);
		snprintf(req.ifr_name, sizeof(req.ifr_name), "n%d", node);
		int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (sock < 0 || ioctl(sock, SIOCGIFFLAGS, &req) < 0)
			_exit(2);
		_exit(req.ifr_flags & IFF_UP ? 1 : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) > 1)
		return -1;
	return WEXITSTATUS(status);
}

int lab_enter(const struct lab *l, int node, struct mesh_err *err)
{
	char ns[LAB_STR], path[LAB_STR + 16];

	lab_netns(l, node, ns);
	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mesh_fail(err, -errno, "%s", path);
	if (setns(fd, CLONE_NEWNET) < 0)
		return mesh_fail(err, -errno, "entering %s", ns);
	/* Not "ip netns exec": that hides the cgroup mounts, without which no container starts. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return mesh_fail(err, -errno, "unsharing mounts");
	return 0;
}
