/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    whole files and directory trees. Blocking.
 * Errors:  0 or a negative code; the message names the path.
 */
#ifndef MESH_BASE_FS_H
#define MESH_BASE_FS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum fs_sync {
	FS_CACHED, /* whole after a crash of the process; after a power cut maybe the old one, maybe empty */
	FS_SYNC,   /* on the disk before it is named, and so is its name */
};
/* Replaces path in one step, by way of "<path>.tmp". */
int fs_write(const char *path, const void *p, size_t n, unsigned mode, enum fs_sync sync,
             struct mesh_err *err) MESH_MUST_CHECK;
/* Appends the file to out. -ENOENT as such, -EFBIG over max bytes. */
int fs_read(const char *path, size_t max, struct buf *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Parents get 0755; what exists stays as it is. */
int fs_make_dirs(const char *path, unsigned mode, struct mesh_err *err) MESH_MUST_CHECK;
/* As far as it goes: what stays must be harmless. Never into another file system. */
void fs_remove_tree(const char *path);
/*
 * An exclusive lock for as long as fd is open; -EBUSY: a process has it. What a killed process had just forked holds
 * its descriptors until it has become another program, hence the second of patience.
 */
int fs_lock(int fd) MESH_MUST_CHECK;
/* The sum of the sizes of its files; not of what is mounted in it. */
int64_t fs_tree_bytes(const char *path);

#endif
