/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/netlink/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

int netns_open(pid_t pid, struct mesh_err *err)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mesh_fail(err, -errno, "open %s", path);
	return fd;
}

int netns_enter(int ns, struct mesh_err *err)
{
	int prev = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (prev < 0)
		return mesh_fail(err, -errno, "open /proc/thread-self/ns/net");
	if (setns(ns, CLONE_NEWNET) < 0) {
		int code = -errno;
		close(prev);
		return mesh_fail(err, code, "setns");
	}
	return prev;
}

void netns_leave(int prev)
{
	if (setns(prev, CLONE_NEWNET) < 0) {
		log_error("cannot return to the node's network namespace error=%s", strerror(errno));
		abort();
	}
	close(prev);
}

bool netns_is_current(int ns)
{
	struct stat a, b;
	return fstat(ns, &a) == 0 && stat("/proc/thread-self/ns/net", &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

int sysctl_get(const char *path, char *out, size_t n)
{
	char full[256];
	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	CLEAN_CLOSE int fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t got = read(fd, out, n - 1);
	if (got < 0)
		return -errno;
	while (got > 0 && out[got - 1] == '\n')
		got--;
	out[got] = '\0';
	return 0;
}

int sysctl_set(const char *path, const char *value)
{
	char full[256], old[128];
	if (sysctl_get(path, old, sizeof(old)) == 0 && strcmp(old, value) == 0)
		return 0;
	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	CLEAN_CLOSE int fd = open(full, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		return -errno;
	return 0;
}
