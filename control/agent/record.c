/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: TASK/task, what of a task must survive meshd. */
#include "control/agent/agent_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define T struct task_rec
static const struct sch_field task_rec_fields[] = {
	SF_OBJ(1, "task", task, &md_task_schema, 0),
	SF(2, STR, "container_id", container_id, 0),
	SF(3, STR, "image_id", image_id, 0),
	SF(4, STR, "node_id", node_id, 0),
	SF(5, STR, "node_hostname", node_hostname, 0),
	SF(6, STR, "boot_id", boot_id, 0),
	SF(7, TIME, "created_at", created_at, 0),
	SF(8, TIME, "started_at", started_at, 0),
	SF(9, TIME, "finished_at", finished_at, 0),
	SF(10, I64, "exit_code", exit_code, 0),
	SF(11, I64, "pid", pid, 0),
	SF(12, BOOL, "oom", oom, 0),
	SF(13, BOOL, "spawned", spawned, 0),
	SF(14, BOOL, "ended", ended, 0),
	SF(15, BOOL, "removed", removed, 0),
	SF(16, BOOL, "host_network", host_network, 0),
	SF(17, BOOL, "health", health, 0),
};
#undef T
SCHEMA(task_rec_schema, task_rec, task_rec_fields);

void atask_save(struct atask *t)
{
	struct buf b = { 0 };
	struct mesh_err err = { 0 };
	struct md_container_spec *c = t->rec.task.spec.container;
	/* Credentials come again with the next assignment; they do not belong on the disk. */
	char *auth = c ? TAKE(c->pull_auth) : NULL;
	sch_encode(&task_rec_schema, &t->rec, &b);
	if (c)
		c->pull_auth = auth;
	CLEAN_FREE char *path = xasprintf("%s/task", t->dir);
	if (fs_write(path, b.data, b.len, 0600, FS_CACHED, &err))
		log_error("cannot record a task; a restart of meshd will not know it task=%s reason=%s",
		          t->rec.task.meta.id, err.msg);
	buf_fini(&b);
}

bool atask_load(struct atask *t)
{
	CLEAN_FREE char *path = xasprintf("%s/task", t->dir);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) || st.st_size > (16 << 20))
		return false;
	CLEAN_FREE uint8_t *p = xcalloc(1, (size_t)st.st_size + 1);
	ssize_t n = read(fd, p, (size_t)st.st_size);
	if (n <= 0 || sch_decode(&task_rec_schema, &t->rec, p, (size_t)n))
		return false;
	return t->rec.container_id && strlen(t->rec.container_id) == 64 && t->rec.task.spec.container;
}
