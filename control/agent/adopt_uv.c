/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: tasks of an earlier run of meshd: those that still run are taken over, ends it missed are told. */
#include "control/agent/agent_int.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

static int sock_connect(const char *dir)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	CLEAN_CLOSE int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* Through /proc, since the directory's own path may be longer than a socket's name. */
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/sock", at);
	if (at < 0 || fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static int sock_peer(int fd)
{
	struct ucred u;
	socklen_t n = sizeof(u);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n) ? 0 : u.pid;
}

static void adopt_sm(struct atask *t)
{
	int state = t->rec.task.status.state;
	t->sm.state = state;
	t->sm.has_health = t->rec.health;
	t->sm.attached = true;
	t->sm.desired = t->rec.task.desired_state;
	t->sm.drained = t->rec.task.drained;
	t->sm.traffic = t->rec.task.status.traffic;
	t->sm.phase = state == MD_TASK_RUNNING ? TK_RUN : TK_CREATE;
	if (state < MD_TASK_RUNNING)
		t->sm.attached = false;
}

/* One task directory of an earlier run. */
static void adopt(struct atask *t)
{
	atask_take_facts(t);
	t->adopted = true;
	if (t->rec.task.status.state > MD_TASK_RUNNING) {
		t->sm.phase = TK_END;
		t->sm.state = t->rec.task.status.state;
		t->exit_seen = true;
		return;
	}
	if (!t->rec.spawned) {
		t->sm.state = t->rec.task.status.state; /* begins again when it is assigned again */
		return;
	}
	adopt_sm(t);
	int fd = lock_held(t->dir) ? sock_connect(t->dir) : -1;
	if (fd < 0)
		return; /* adopt_tick tells its end */
	t->shim_pid = sock_peer(fd);
	shim_connect(t, fd);
}

static void adopt_one(struct atask *t)
{
	struct agent *a = t->a;
	const struct md_task_status *s = &t->rec.task.status;
	if (!t->adopted)
		return; /* assigned since */
	if (s->state > 0)
		a->ops->on_status(a->arg, t->rec.task.meta.id, s);
	if (!tk_has_shim(&t->sm))
		return;
	if (!t->sock_on) {
		shim_gone(t);
		return;
	}
	if (t->sm.phase == TK_RUN)
		atask_attach(t);
	/* The rest comes with the line the shim says to whoever connects. */
}

static void on_adopt_closed(uv_handle_t *h)
{
	agent_unpend(h->data);
}

static void adopt_tick(uv_timer_t *timer)
{
	struct agent *a = timer->data;
	uv_close((uv_handle_t *)timer, on_adopt_closed);
	if (a->closing)
		return;
	struct str_list ids = { 0 };
	MAP_FOREACH(&a->tasks, e)
		strs_add(&ids, e->key);
	for (size_t i = 0; i < ids.n; i++) {
		struct atask *t = map_get(&a->tasks, ids.v[i]);
		if (t)
			adopt_one(t);
	}
	strs_clear(&ids);
	if (a->ops->adopted)
		a->ops->adopted(a->arg);
}

static int by_created(const void *pa, const void *pb)
{
	const struct atask *x = *(struct atask *const *)pa, *y = *(struct atask *const *)pb;
	return x->rec.created_at < y->rec.created_at ? -1 : x->rec.created_at > y->rec.created_at;
}

static void scan_tasks(struct agent *a)
{
	uv_fs_t req;
	uv_dirent_t e;
	struct VEC(struct atask *) found = { 0 };
	if (uv_fs_scandir(NULL, &req, a->tasks_dir, 0, NULL) < 0) {
		uv_fs_req_cleanup(&req);
		return;
	}
	while (!uv_fs_scandir_next(&req, &e)) {
		struct atask *t = atask_new(a, e.name);
		map_del(&a->tasks, e.name);
		if (mesh_id_valid(e.name) && atask_load(t) && !strcmp(t->rec.task.meta.id, e.name)) {
			vec_push(&found, t);
			continue;
		}
		log_warn("removing what is no task directory path=%s", t->dir);
		(void)!cgroup_kill_wait(&a->cg, t->cg, 2000);
		fs_remove_tree(t->dir);
		atask_free(t);
	}
	uv_fs_req_cleanup(&req);
	if (found.len)
		qsort(found.data, found.len, sizeof(found.data[0]), by_created);
	for (size_t i = 0; i < found.len; i++) {
		map_put(&a->tasks, found.data[i]->rec.task.meta.id, found.data[i]);
		adopt(found.data[i]);
	}
	vec_fini(&found);
}

void agent_adopt(struct agent *a)
{
	scan_tasks(a);
	a->pending++;
	uv_timer_init(a->loop, &a->adopt_timer);
	a->adopt_timer.data = a;
	uv_timer_start(&a->adopt_timer, adopt_tick, 0, 0);
}

void agent_adopt_stop(struct agent *a)
{
	if (!uv_is_closing((uv_handle_t *)&a->adopt_timer))
		uv_close((uv_handle_t *)&a->adopt_timer, on_adopt_closed);
}
