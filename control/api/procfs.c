/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small reads of /proc and cgroups, versions 1 and 2. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/containers.h"

/* Contents of a small file; "" when it cannot be read. */
static const char *slurp(char *out, size_t n, const char *fmt, ...) MESH_PRINTF(3, 4);
static const char *slurp(char *out, size_t n, const char *fmt, ...)
{
	char path[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, out, n - 1) : -1;
	out[got > 0 ? got : 0] = 0;
	return out;
}

/* ---- top -------------------------------------------------------------------------------------- */

struct proc {
	int pid, ppid, tty;
	unsigned uid;
	unsigned long long ticks, start;
	char comm[64], cmd[1024];
};

static bool read_proc(int pid, struct proc *p)
{
	char text[1024], path[64];
	struct stat st;
	char *end;
	memset(p, 0, sizeof(*p));
	p->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (stat(path, &st) || !*slurp(text, sizeof(text), "/proc/%d/stat", pid) || !(end = strrchr(text, ')')))
		return false;
	const char *open_paren = strchr(text, '(');
	snprintf(p->comm, sizeof(p->comm), "%.*s", open_paren ? (int)(end - open_paren - 1) : 0,
	         open_paren ? open_paren + 1 : "");
	unsigned long long user = 0, sys = 0;
	if (sscanf(end + 1, " %*c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu",
	           &p->ppid, &p->tty, &user, &sys, &p->start) != 5)
		return false;
	p->ticks = user + sys;
	p->uid = st.st_uid;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, p->cmd, sizeof(p->cmd) - 1) : 0;
	for (ssize_t i = 0; i + 1 < n; i++)
		if (!p->cmd[i])
			p->cmd[i] = ' ';
	if (n <= 0)
		snprintf(p->cmd, sizeof(p->cmd), "[%s]", p->comm);
	return true;
}

static void write_proc(struct jw *w, const struct proc *p, long hz, time_t boot)
{
	char text[64];
	time_t start = boot + (time_t)(p->start / (unsigned long long)hz);
	struct tm tm;
	unsigned long long s = p->ticks / (unsigned long long)hz;
	jw_open(w, '[');
	snprintf(text, sizeof(text), "%u", p->uid);
	jw_str(w, p->uid ? text : "root");
	snprintf(text, sizeof(text), "%d", p->pid);
	jw_str(w, text);
	snprintf(text, sizeof(text), "%d", p->ppid);
	jw_str(w, text);
	jw_str(w, "0");
	localtime_r(&start, &tm);
	strftime(text, sizeof(text), "%H:%M", &tm);
	jw_str(w, text);
	if (p->tty)
		snprintf(text, sizeof(text), "pts/%d", (p->tty & 0xff) | (p->tty >> 12 & 0xfff00));
	else
		strcpy(text, "?");
	jw_str(w, text);
	snprintf(text, sizeof(text), "%02llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
	jw_str(w, text);
	jw_str(w, p->cmd);
	jw_close(w, ']');
}

static bool same_namespace(int pid, const char *ns)
{
	char path[64], link[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	link[n > 0 ? n : 0] = 0;
	return n > 0 && streq(link, ns);
}

void view_top(struct jw *w, int pid)
{
	char path[64], ns[64], text[4096];
	long hz = sysconf(_SC_CLK_TCK);
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	ssize_t n = readlink(path, ns, sizeof(ns) - 1);
	ns[n > 0 ? n : 0] = 0;
	const char *btime = strstr(slurp(text, sizeof(text), "/proc/stat"), "btime ");
	time_t boot = btime ? (time_t)strtoll(btime + 6, NULL, 10) : 0;
	jw_open(w, '{');
	jw_key(w, "Processes");
	jw_open(w, '[');
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));) {
		struct proc p;
		if (isdigit((unsigned char)e->d_name[0]) && same_namespace(atoi(e->d_name), ns) &&
		    read_proc(atoi(e->d_name), &p))
			write_proc(w, &p, hz, boot);
	}
	if (d)
		closedir(d);
	jw_close(w, ']');
	jw_kraw(w, "Titles", "[\"UID\",\"PID\",\"PPID\",\"C\",\"STIME\",\"TTY\",\"TIME\",\"CMD\"]");
	jw_close(w, '}');
}

/* ---- stats ------------------------------------------------------------------------------------ */

/* Path of a controller's cgroup under /sys/fs/cgroup; controller "" is version 2. */
static bool cgroup_path(int pid, const char *controller, char *out, size_t n)
{
	char text[4096];
	for (char *save, *line = strtok_r((char *)slurp(text, sizeof(text), "/proc/%d/cgroup", pid), "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = 0;
		names++;
		char list[160];
		snprintf(list, sizeof(list), ",%.150s,", names);
		char want[32];
		snprintf(want, sizeof(want), ",%s,", controller);
		if (!*controller && !*names) {
			bool hybrid = access("/sys/fs/cgroup/unified", F_OK) == 0;
			snprintf(out, n, "/sys/fs/cgroup%s%.380s", hybrid ? "/unified" : "", path);
			return true;
		}
		if (*controller && strstr(list, want)) {
			snprintf(out, n, "/sys/fs/cgroup/%s%.380s", controller, path);
			return true;
		}
	}
	return false;
}

static uint64_t number_in(const char *dir, const char *file)
{
	char text[64];
	slurp(text, sizeof(text), "%s/%s", dir, file);
	return isdigit((unsigned char)text[0]) ? strtoull(text, NULL, 10) : 0;
}

/* "key value" lines. */
static uint64_t keyed(const char *dir, const char *file, const char *key)
{
	char text[4096], want[64];
	snprintf(want, sizeof(want), "\n%s ", key);
	text[0] = '\n';
	slurp(text + 1, sizeof(text) - 1, "%s/%s", dir, file);
	const char *at = strstr(text, want);
	return at ? strtoull(at + strlen(want), NULL, 10) : 0;
}

static uint64_t host_cpu_ns(void)
{
	char text[512];
	unsigned long long v[8] = { 0 }, sum = 0;
	long hz = sysconf(_SC_CLK_TCK);
	if (sscanf(slurp(text, sizeof(text), "/proc/stat"), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1],
	           &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) < 4)
		return 0;
	for (int i = 0; i < 8; i++)
		sum += v[i];
	return sum * (uint64_t)(NS_PER_SEC / hz);
}

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void read_v2(const char *dir, struct proc_stats *s)
{
	if (!s->cpu_ns) {
		s->cpu_ns = keyed(dir, "cpu.stat", "usage_usec") * 1000;
		s->cpu_user_ns = keyed(dir, "cpu.stat", "user_usec") * 1000;
		s->cpu_system_ns = keyed(dir, "cpu.stat", "system_usec") * 1000;
		s->periods = keyed(dir, "cpu.stat", "nr_periods");
		s->throttled_periods = keyed(dir, "cpu.stat", "nr_throttled");
		s->throttled_ns = keyed(dir, "cpu.stat", "throttled_usec") * 1000;
	}
	if (!s->memory) {
		s->memory = number_in(dir, "memory.current");
		s->memory_max = number_in(dir, "memory.peak");
		s->memory_limit = number_in(dir, "memory.max");
		s->inactive_file = keyed(dir, "memory.stat", "inactive_file");
	}
	if (!s->pids)
		s->pids = number_in(dir, "pids.current");
}

static void read_v1(int pid, struct proc_stats *s)
{
	char dir[512];
	long hz = sysconf(_SC_CLK_TCK);
	if (cgroup_path(pid, "cpuacct", dir, sizeof(dir))) {
		s->cpu_ns = number_in(dir, "cpuacct.usage");
		s->cpu_user_ns = keyed(dir, "cpuacct.stat", "user") * (uint64_t)(NS_PER_SEC / hz);
		s->cpu_system_ns = keyed(dir, "cpuacct.stat", "system") * (uint64_t)(NS_PER_SEC / hz);
	}
	if (cgroup_path(pid, "cpu", dir, sizeof(dir))) {
		s->periods = keyed(dir, "cpu.stat", "nr_periods");
		s->throttled_periods = keyed(dir, "cpu.stat", "nr_throttled");
		s->throttled_ns = keyed(dir, "cpu.stat", "throttled_time");
	}
	if (cgroup_path(pid, "memory", dir, sizeof(dir))) {
		s->memory = number_in(dir, "memory.usage_in_bytes");
		s->memory_max = number_in(dir, "memory.max_usage_in_bytes");
		s->memory_limit = number_in(dir, "memory.limit_in_bytes");
		s->inactive_file = keyed(dir, "memory.stat", "total_inactive_file");
	}
	if (cgroup_path(pid, "pids", dir, sizeof(dir)))
		s->pids = number_in(dir, "pids.current");
}

int proc_stats_read(int pid, struct proc_stats *s)
{
	char dir[512], text[64];
	*s = (struct proc_stats){ .read_ns = clock_wall_ns(), .host_cpu_ns = host_cpu_ns() };
	if (pid <= 0 || !*slurp(text, sizeof(text), "/proc/%d/stat", pid))
		return -ENOENT;
	read_v1(pid, s);
	if (cgroup_path(pid, "", dir, sizeof(dir)))
		read_v2(dir, s);
	if (!s->memory_limit || s->memory_limit > host_memory())
		s->memory_limit = host_memory();
	return 0;
}

static void write_cpu(struct jw *w, const char *key, const struct proc_stats *s)
{
	jw_key(w, key);
	jw_open(w, '{');
	jw_key(w, "cpu_usage");
	jw_open(w, '{');
	jw_kint(w, "total_usage", (int64_t)s->cpu_ns);
	jw_kint(w, "usage_in_kernelmode", (int64_t)s->cpu_system_ns);
	jw_kint(w, "usage_in_usermode", (int64_t)s->cpu_user_ns);
	jw_close(w, '}');
	if (s->read_ns) {
		jw_kint(w, "system_cpu_usage", (int64_t)s->host_cpu_ns);
		jw_kint(w, "online_cpus", sysconf(_SC_NPROCESSORS_ONLN));
	}
	jw_key(w, "throttling_data");
	jw_open(w, '{');
	jw_kint(w, "periods", (int64_t)s->periods);
	jw_kint(w, "throttled_periods", (int64_t)s->throttled_periods);
	jw_kint(w, "throttled_time", (int64_t)s->throttled_ns);
	jw_close(w, '}');
	jw_close(w, '}');
}

static void write_interfaces(struct jw *w, int pid)
{
	static const char *const names[] = { "rx_bytes", "rx_packets", "rx_errors", "rx_dropped",
		                             "tx_bytes", "tx_packets", "tx_errors", "tx_dropped" };
	static const int column[] = { 0, 1, 2, 3, 8, 9, 10, 11 };
	char text[16384];
	jw_key(w, "networks");
	jw_open(w, '{');
	char *save;
	for (char *line = strtok_r((char *)slurp(text, sizeof(text), "/proc/%d/net/dev", pid), "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char name[32];
		unsigned long long v[12];
		if (sscanf(line, " %31[^: ]: %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu", name, &v[0],
		           &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11]) != 13 ||
		    streq(name, "lo"))
			continue;
		jw_key(w, name);
		jw_open(w, '{');
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			jw_kint(w, names[i], (int64_t)v[column[i]]);
		jw_close(w, '}');
	}
	jw_close(w, '}');
}

void view_stats(struct jw *w, const struct agent_container *c, const struct proc_stats *now,
                const struct proc_stats *before)
{
	char *name = xasprintf("/%s", c->name);
	jw_open(w, '{');
	jw_ktime(w, "read", now->read_ns);
	jw_ktime(w, "preread", before->read_ns);
	jw_key(w, "pids_stats");
	jw_open(w, '{');
	jw_kint(w, "current", (int64_t)now->pids);
	jw_close(w, '}');
	jw_kraw(w, "blkio_stats", "{\"io_service_bytes_recursive\":[],\"io_serviced_recursive\":[]}");
	jw_kint(w, "num_procs", 0);
	jw_kraw(w, "storage_stats", "{}");
	write_cpu(w, "cpu_stats", now);
	write_cpu(w, "precpu_stats", before);
	jw_key(w, "memory_stats");
	jw_open(w, '{');
	jw_kint(w, "usage", (int64_t)now->memory);
	jw_kint(w, "max_usage", (int64_t)now->memory_max);
	jw_key(w, "stats");
	jw_open(w, '{');
	/* Under the names of both cgroup versions: clients subtract the one they know. */
	jw_kint(w, "inactive_file", (int64_t)now->inactive_file);
	jw_kint(w, "total_inactive_file", (int64_t)now->inactive_file);
	jw_close(w, '}');
	jw_kint(w, "limit", (int64_t)now->memory_limit);
	jw_close(w, '}');
	jw_kstr(w, "name", name);
	jw_kstr(w, "id", c->id);
	write_interfaces(w, c->pid);
	jw_close(w, '}');
	free(name);
}
