/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define TOP "/sys/fs/cgroup"

static bool is_v2(const char *path)
{
	struct statfs s;
	return !statfs(path, &s) && s.f_type == CGROUP2_SUPER_MAGIC;
}

static void read_text(const char *path, char *out, size_t n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, out, n - 1) : 0;
	if (fd >= 0)
		close(fd);
	out[got > 0 ? got : 0] = 0;
}

static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = text; (p = strstr(p, word)); p += n)
		if ((p == text || p[-1] == ' ') && (!p[n] || p[n] == ' ' || p[n] == '\n'))
			return true;
	return false;
}

void cgroup_probe(struct cgroup_host *h)
{
	char text[512];
	*h = (struct cgroup_host){ .layout = CGROUP_V1 };
	if (is_v2(TOP)) {
		h->layout = CGROUP_V2;
		strcpy(h->unified, TOP);
		read_text(TOP "/cgroup.controllers", text, sizeof(text));
		h->memory = h->swap = has_word(text, "memory");
		h->cpu = has_word(text, "cpu");
		h->pids = has_word(text, "pids");
		return;
	}
	if (is_v2(TOP "/unified")) {
		h->layout = CGROUP_HYBRID;
		strcpy(h->unified, TOP "/unified");
		read_text(TOP "/unified/cgroup.controllers", text, sizeof(text));
		h->mask = text[0] && text[0] != '\n';
	}
	h->memory = !access(TOP "/memory/memory.limit_in_bytes", F_OK);
	h->swap = !access(TOP "/memory/memory.memsw.limit_in_bytes", F_OK);
	h->cpu = !access(TOP "/cpu/cpu.cfs_quota_us", F_OK);
	h->pids = !access(TOP "/pids/cgroup.procs", F_OK);
}

void cgroup_oom_path(const struct cgroup_host *h, const char *cg, char *out, size_t n)
{
	if (h->layout == CGROUP_V2)
		snprintf(out, n, TOP "%s/memory.events", cg);
	else
		snprintf(out, n, TOP "/memory%s/memory.oom_control", cg);
}

void cgroup_kill_path(const struct cgroup_host *h, const char *cg, char *out, size_t n)
{
	out[0] = 0;
	if (h->unified[0])
		snprintf(out, n, "%s%s/cgroup.kill", h->unified, cg);
}

size_t cgroup_pids(const struct cgroup_host *h, const char *cg, int *out, size_t max)
{
	char path[512];
	size_t n = 0;
	if (h->unified[0])
		snprintf(path, sizeof(path), "%s%s/cgroup.procs", h->unified, cg);
	else
		snprintf(path, sizeof(path), TOP "/pids%s/cgroup.procs", cg);
	FILE *f = fopen(path, "re");
	while (f && n < max && fscanf(f, "%d", &out[n]) == 1)
		n++;
	if (f)
		fclose(f);
	return n;
}

static void each_hierarchy(const struct cgroup_host *h, const char *cg, void (*fn)(const char *path))
{
	char path[512];
	if (h->layout == CGROUP_V2) {
		snprintf(path, sizeof(path), TOP "%s", cg);
		fn(path);
		return;
	}
	DIR *d = opendir(TOP);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), TOP "/%s%s", e->d_name, cg);
		fn(path);
	}
	if (d)
		closedir(d);
}

static void remove_one(const char *path)
{
	(void)rmdir(path); /* absent or in use: both fine */
}

void cgroup_remove(const struct cgroup_host *h, const char *cg)
{
	if (cg[0] == '/' && cg[1])
		each_hierarchy(h, cg, remove_one);
}

int cgroup_make(const struct cgroup_host *h, const char *cg, struct mesh_err *err)
{
	char path[512];
	if (!h->unified[0])
		return 0;
	snprintf(path, sizeof(path), "%s%s", h->unified, cg);
	for (char *p = path + strlen(h->unified) + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		(void)mkdir(path, 0755); /* the last one tells */
		*p = '/';
	}
	if (mkdir(path, 0755) && errno != EEXIST)
		return mesh_fail(err, -errno, "cgroup %s", path);
	return 0;
}

static void kill_all(const struct cgroup_host *h, const char *cg)
{
	char path[512];
	cgroup_kill_path(h, cg, path, sizeof(path));
	int fd = path[0] ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	bool done = fd >= 0 && write(fd, "1", 1) == 1;
	if (fd >= 0)
		close(fd);
	if (done)
		return;
	int pids[1024];
	size_t n = cgroup_pids(h, cg, pids, ARRAY_SIZE(pids));
	for (size_t i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
}

int cgroup_kill_wait(const struct cgroup_host *h, const char *cg, int timeout_ms)
{
	int one;
	int64_t until = clock_mono_ns() + timeout_ms * NS_PER_MS;
	while (cgroup_pids(h, cg, &one, 1)) {
		if (clock_mono_ns() > until)
			return -ETIMEDOUT;
		kill_all(h, cg);
		poll(NULL, 0, 2);
	}
	return 0;
}
