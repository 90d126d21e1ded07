/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/meshd/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"

#define FORMAT "meshd state 1\n"
#define MAGIC 0x6d657368u /* "mesh" */

#define T struct wire_manager
static const struct sch_field manager_fields[] = {
	SF(1, ID, "node", node, 0),
	SF(2, STR, "addr", addr, 0),
};
static SCHEMA(manager_schema, wire_manager, manager_fields);
#undef T
#define T struct node_state
static const struct sch_field node_state_fields[] = {
	SF(1, ID, "node", node, 0),
	SF(2, ID, "cluster", cluster, 0),
	SF(3, BOOL, "manager", manager, 0),
	SF(4, STR, "advertise_addr", advertise_addr, 0),
	SF(5, STR, "listen_addr", listen_addr, 0),
	SF(6, STR, "data_path_addr", data_path_addr, 0),
	SF(7, U32, "data_path_port", data_path_port, 0),
	SF_LIST(8, "managers", managers, &manager_schema, 0),
	SF_ENUM(9, "availability", availability, &md_availability_names, 0),
};
SCHEMA(node_state_schema, node_state, node_state_fields);
#undef T

static int take_lock(const char *dir, struct mesh_err *err)
{
	char path[PATH_MAX], pid[32] = "";
	snprintf(path, sizeof(path), "%s/lock", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return mesh_fail(err, -errno, "cannot open '%s'", path);
	int rc = fs_lock(fd);
	if (rc == -EBUSY) {
		ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n : 0] = '\0';
		close(fd);
		return mesh_fail(err, -EBUSY,
		                 "another meshd (pid %s) uses the state directory '%s'; stop it or give --state",
		                 pid[0] ? pid : "unknown", dir);
	}
	if (rc) {
		close(fd);
		return mesh_fail(err, rc, "cannot lock '%s'", path);
	}
	int n = snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n) {
		rc = -errno;
		close(fd);
		return mesh_fail(err, rc, "cannot write '%s'", path);
	}
	return 0; /* the descriptor, and with it the lock, lives as long as the process */
}

int state_write(const char *dir, const char *name, const void *p, size_t n, struct mesh_err *err)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", dir, name);
	return fs_write(path, p, n, 0600, FS_SYNC, err);
}

int state_read(const char *dir, const char *name, struct buf *out, struct mesh_err *err)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", dir, name);
	int rc = fs_read(path, SIZE_MAX, out, err);
	return rc == -ENOENT ? MESH_E_NOT_FOUND : rc;
}

int state_open(const char *dir, struct mesh_err *err)
{
	int rc = fs_make_dirs(dir, 0700, err);
	if (rc)
		return rc;
	rc = take_lock(dir, err);
	if (rc)
		return rc;
	struct buf b = { 0 };
	rc = state_read(dir, "format", &b, err);
	if (rc == MESH_E_NOT_FOUND)
		rc = state_write(dir, "format", FORMAT, strlen(FORMAT), err);
	else if (!rc && strcmp(buf_str(&b), FORMAT) != 0)
		rc = mesh_fail(err, MESH_E_VERSION,
		               "the state directory '%s' has format '%.40s', this meshd reads 'meshd state 1': "
		               "run the meshd that wrote it, or give --state",
		               dir, b.len ? (b.data[strcspn(buf_str(&b), "\n")] = 0, (char *)b.data) : "");
	buf_fini(&b);
	return rc;
}

int state_load(const char *dir, struct node_state *out, struct mesh_err *err)
{
	struct buf b = { 0 };
	int rc = state_read(dir, "swarm", &b, err);
	if (!rc) {
		struct rd r = rd_of(b.data, b.len);
		uint32_t magic = rd_u32(&r), sum = rd_u32(&r);
		if (r.bad || magic != MAGIC || sum != hash32(r.p, rd_left(&r)) ||
		    sch_decode(&node_state_schema, out, r.p, rd_left(&r)))
			rc = mesh_fail(err, MESH_E_CORRUPT,
			               "'%s/swarm' is damaged; restore it, or remove the directory and join again",
			               dir);
	}
	buf_fini(&b);
	return rc;
}

int state_save(const char *dir, const struct node_state *st, struct mesh_err *err)
{
	struct buf body = { 0 }, file = { 0 };
	sch_encode(&node_state_schema, st, &body);
	buf_put_u32(&file, MAGIC);
	buf_put_u32(&file, hash32(body.data, body.len));
	buf_put(&file, body.data, body.len);
	int rc = state_write(dir, "swarm", file.data, file.len, err);
	buf_fini(&body);
	buf_fini(&file);
	return rc;
}

void state_forget(const char *dir)
{
	static const char *const names[] = { "swarm", "identity", "dataplane.state", "raft" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEAN_FREE char *path = xasprintf("%s/%s", dir, names[i]);
		fs_remove_tree(path); /* what cannot go is overwritten by the next swarm */
	}
}
