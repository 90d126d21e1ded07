/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/shim/shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(char *why, const char *what)
{
	snprintf(why, SHIM_LINE_MAX, "%s: %s", what, strerror(errno));
	return -1;
}

/* crun refuses hybrid cgroups when unified/cgroup.controllers is not empty, and looks at nothing else. */
static int mask_file(const struct conf *c, char *why)
{
	if (!*c->mask)
		return 0;
	int fd = open("empty", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(why, "empty file");
	close(fd);
	return mount("empty", c->mask, NULL, MS_BIND, NULL) ? fail(why, "mask cgroup.controllers") : 0;
}

static int mount_root(const struct conf *c, char *why)
{
	if (!*c->lower)
		return 0;
	char opts[1200];
	int n = snprintf(opts, sizeof(opts), "lowerdir=%s,upperdir=upper,workdir=work", c->lower);
	if (n >= (int)sizeof(opts)) {
		errno = ENAMETOOLONG;
		return fail(why, "overlay");
	}
	return mount("overlay", "rootfs", "overlay", 0, opts) ? fail(why, "mount the root filesystem") : 0;
}

static int put_file(const struct shim_file *f, const uint8_t *p)
{
	char path[64];
	snprintf(path, sizeof(path), "files/%.15s", f->name);
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	int rc = 0;
	for (uint32_t done = 0; done < f->len && !rc;) {
		ssize_t n = write(fd, p + done, f->len - done);
		if (n <= 0)
			rc = -1;
		else
			done += (uint32_t)n;
	}
	if (!rc)
		rc = fchown(fd, f->uid, f->gid) || fchmod(fd, f->mode & 07777) ? -1 : 0;
	close(fd);
	return rc;
}

/* Secrets and configs live in memory, in this mount namespace only. */
static int put_files(const struct conf *c, char *why)
{
	if (!c->files_len)
		return 0;
	if (mount("tmpfs", "files", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0711"))
		return fail(why, "mount secrets");
	const uint8_t *p = c->files, *end = c->files + c->files_len;
	while (p < end) {
		struct shim_file f;
		if ((size_t)(end - p) < sizeof(f)) {
			errno = EPROTO;
			return fail(why, "secrets");
		}
		memcpy(&f, p, sizeof(f));
		p += sizeof(f);
		if (f.len > (size_t)(end - p)) {
			errno = EPROTO;
			return fail(why, "secrets");
		}
		if (put_file(&f, p))
			return fail(why, "write a secret");
		p += f.len;
	}
	return 0;
}

static int lo_up(char *why)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(why, "socket");
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int rc = ioctl(fd, SIOCSIFFLAGS, &r);
	close(fd);
	return rc ? fail(why, "lo up") : 0;
}

static int dns_socket(int type, int at)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(53) };
	a.sin_addr.s_addr = htonl(0x7f00000b);
	int one = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	/* The answers must come from 127.0.0.11 whatever the client asked from; REUSEADDR as servers do. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || (type == SOCK_STREAM && listen(fd, 64)) ||
	    dup3(fd, at, O_CLOEXEC) < 0)
		return -1;
	close(fd);
	return 0;
}

/* The sockets belong to the task's namespace and to this process: meshd borrows them (pidfd_getfd). */
static int dns_open(char *why)
{
	if (dns_socket(SOCK_DGRAM, SHIM_DNS_UDP_FD) || dns_socket(SOCK_STREAM, SHIM_DNS_TCP_FD))
		return fail(why, "resolver socket 127.0.0.11:53");
	return 0;
}

int setup_all(const struct conf *c, char why[SHIM_LINE_MAX])
{
	if (unshare(CLONE_NEWNS | (c->netns ? CLONE_NEWNET : 0)))
		return fail(why, "unshare");
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL))
		return fail(why, "mount propagation");
	int rc = mask_file(c, why);
	if (!rc)
		rc = mount_root(c, why);
	if (!rc)
		rc = put_files(c, why);
	if (!rc && c->netns)
		rc = lo_up(why);
	if (!rc && c->dns)
		rc = dns_open(why);
	return rc;
}
