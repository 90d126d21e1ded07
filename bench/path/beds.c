// SPDX-License-Identifier: GPL-2.0-or-later
/* Namespaces, the wires between them, and the list of beds. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/path/path.h"

#include <linux/netfilter_ipv4/ip_tables.h> /* after the C library's own netinet/in.h */

struct bed beds[BEDS_MAX];
size_t n_beds;
bool guest, by_device;
char bpffs[64], cgroups[128];

_Noreturn void die(const char *what)
{
	fprintf(stderr, "bench-path: %s: %s\n", what, strerror(errno));
	exit(1);
}

void need(bool ok, const char *what)
{
	if (!ok)
		die(what);
}

void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET))
		die("setns");
}

static bool run(const char *fmt, va_list ap, char *cmd, size_t size)
{
	vsnprintf(cmd, size, fmt, ap);
	return system(cmd) == 0;
}

void sh(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;

	va_start(ap, fmt);
	bool ok = run(fmt, ap, cmd, sizeof(cmd));
	va_end(ap);
	if (ok)
		return;
	fprintf(stderr, "bench-path: %s\n", cmd);
	exit(1);
}

bool sh_ok(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;

	va_start(ap, fmt);
	bool ok = run(fmt, ap, cmd, sizeof(cmd));
	va_end(ap);
	return ok;
}

static void sysctl(const char *key, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/%s", key);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	need(fd >= 0 && write(fd, value, strlen(value)) > 0, key);
	close(fd);
}

/* As `iptables-legacy -S` would: asking for a table makes it. */
static void touch_iptables(void)
{
	static const char *const tables[] = { "filter", "mangle", "nat" };
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		struct ipt_getinfo info = {};
		socklen_t size = sizeof(info);
		strcpy(info.name, tables[i]);
		need(getsockopt(fd, IPPROTO_IP, IPT_SO_GET_INFO, &info, &size) == 0, "iptables table");
	}
	close(fd);
}

int new_ns(void)
{
	static const char *const on[][2] = {
		{ "ipv4/ip_forward", "1" },
		{ "ipv4/conf/all/rp_filter", "0" },
		{ "ipv4/conf/default/rp_filter", "0" },
		{ "ipv4/tcp_max_tw_buckets", "64" },
		{ "ipv6/conf/default/disable_ipv6", "1" },
		{ "ipv4/ip_local_port_range", "1024 65535" },
	};

	need(unshare(CLONE_NEWNET) == 0, "unshare");
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	need(fd >= 0, "namespace");
	for (size_t i = 0; i < ARRAY_SIZE(on); i++)
		sysctl(on[i][0], on[i][1]);
	sh("ip link set lo up");
	/* The baseline of the figures beside which these are read: a machine where somebody used iptables once. */
	if (guest)
		touch_iptables();
	return fd;
}

/* A pair of devices: a of namespace na with address aa, b of nb with ab (addresses with prefix, or ""). */
void wire(int na, const char *a, const char *aa, int nb, const char *b, const char *ab, int mtu)
{
	enter(na);
	sh("ip link add %s mtu %d type veth peer name %s mtu %d netns /proc/%d/fd/%d && ip link set %s up", a, mtu, b,
	   mtu, getpid(), nb, a);
	if (*aa)
		sh("ip addr add %s dev %s", aa, a);
	enter(nb);
	sh("ip link set %s up", b);
	if (*ab)
		sh("ip addr add %s dev %s", ab, b);
}
