/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define CHUNK 65536

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w ? -errno : -ENOSPC;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/* The entry itself must reach the disk too. */
static int sync_dir_of(const char *path)
{
	CLEAN_FREE char *copy = xstrdup(path);
	CLEAN_CLOSE int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

int fs_write(const char *path, const void *p, size_t n, unsigned mode, enum fs_sync sync, struct mesh_err *err)
{
	CLEAN_FREE char *tmp = xasprintf("%s.tmp", path);
	CLEAN_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return mesh_fail(err, -errno, "cannot create '%s'", tmp);
	int rc = fchmod(fd, mode) ? -errno : write_all(fd, p, n);
	if (!rc && sync == FS_SYNC && fdatasync(fd))
		rc = -errno;
	if (!rc && rename(tmp, path))
		rc = -errno;
	if (rc)
		(void)unlink(tmp); /* the first error is the one to tell */
	else if (sync == FS_SYNC)
		rc = sync_dir_of(path);
	return rc ? mesh_fail(err, rc, "cannot write '%s'", path) : 0;
}

int fs_read(const char *path, size_t max, struct buf *out, struct mesh_err *err)
{
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mesh_fail(err, -errno, "cannot open '%s'", path);
	for (size_t got = 0;;) {
		ssize_t n = read(fd, buf_reserve(out, CHUNK), CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return mesh_fail(err, -errno, "cannot read '%s'", path);
		if (!n)
			return 0;
		out->len += (size_t)n;
		got += (size_t)n;
		if (got > max)
			return mesh_fail(err, -EFBIG, "'%s' is larger than %zu bytes", path, max);
	}
}

int fs_make_dirs(const char *path, unsigned mode, struct mesh_err *err)
{
	CLEAN_FREE char *p = xstrdup(path);
	for (char *s = p + 1; (s = strchr(s, '/')); s++) {
		*s = 0;
		if (mkdir(p, 0755) && errno != EEXIST)
			return mesh_fail(err, -errno, "cannot make '%s'", p);
		*s = '/';
	}
	if (mkdir(p, mode) && errno != EEXIST)
		return mesh_fail(err, -errno, "cannot make '%s'", p);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	(void)remove(path);
	return 0;
}

void fs_remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

#define LOCK_TRIES 100
#define LOCK_EVERY_US 10000
int fs_lock(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (i == LOCK_TRIES)
			return -EBUSY;
		usleep(LOCK_EVERY_US);
	}
	return 0;
}

static __thread int64_t bytes; /* nftw has no argument for its visitor */
static int measure_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path, (void)ftw;
	if (type == FTW_F)
		bytes += st->st_size;
	return 0;
}

int64_t fs_tree_bytes(const char *path)
{
	bytes = 0;
	(void)nftw(path, measure_one, 32, FTW_PHYS | FTW_MOUNT);
	return bytes;
}
