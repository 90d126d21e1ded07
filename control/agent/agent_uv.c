/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/agent_int.h"

#include <sys/utsname.h>
#include <unistd.h>

#include "base/log.h"

/* ---- life of the agent: what is still open ---- */

void agent_maybe_closed(struct agent *a);

void agent_unpend(struct agent *a)
{
	a->pending--;
	agent_maybe_closed(a);
}

static void work_run(uv_work_t *req)
{
	struct agent_work *w = CONTAINER_OF(req, struct agent_work, req);
	w->run(w);
}

static void work_done(uv_work_t *req, int status)
{
	(void)status;
	struct agent_work *w = CONTAINER_OF(req, struct agent_work, req);
	struct agent *a = w->a;
	w->done(w);
	agent_unpend(a);
}

void agent_work_start(struct agent *a, struct agent_work *w)
{
	w->a = a;
	a->pending++;
	if (uv_queue_work(a->loop, &w->req, work_run, work_done))
		abort(); /* only for a NULL callback */
}

static void images_gone(void *arg)
{
	struct agent *a = arg;
	a->images_closed = true;
	agent_maybe_closed(a);
}

static void free_agent(struct agent *a)
{
	map_fini(&a->tasks);
	vec_fini(&a->spawn_queue);
	vec_fini(&a->logs);
	vec_fini(&a->execs);
	vec_fini(&a->attaches);
	free(a->name);
	free(a->state_dir);
	free(a->run_dir);
	free(a->shim);
	free(a->runtime);
	free(a->cgroup);
	free(a->tasks_dir);
	free(a->volumes_dir);
	free(a->crun_root);
	free(a);
}

void agent_maybe_closed(struct agent *a)
{
	if (!a->closing || a->pending || a->tasks.count)
		return;
	if (a->images && !a->images_closed) {
		struct images *im = TAKE(a->images);
		images_close(im, images_gone, a);
		return;
	}
	if (!a->images_closed)
		return;
	void (*cb)(void *arg) = a->close_cb;
	void *arg = a->close_arg;
	free_agent(a);
	if (cb)
		cb(arg);
}

/* ---- open, close, purge ---- */

static bool in_path(const char *prog)
{
	if (strchr(prog, '/'))
		return !access(prog, X_OK);
	CLEAN_FREE char *path = xstrdup(getenv("PATH") ? getenv("PATH") : "/usr/sbin:/usr/bin:/sbin:/bin");
	char *save_ptr = NULL;
	for (char *d = strtok_r(path, ":", &save_ptr); d; d = strtok_r(NULL, ":", &save_ptr)) {
		CLEAN_FREE char *p = xasprintf("%s/%s", d, prog);
		if (!access(p, X_OK))
			return true;
	}
	return false;
}

static int make_dirs(struct agent *a, struct mesh_err *err)
{
	a->tasks_dir = xasprintf("%s/tasks", a->state_dir);
	a->volumes_dir = xasprintf("%s/volumes", a->state_dir);
	a->crun_root = xasprintf("%s/crun", a->run_dir);
	CLEAN_FREE char *execs = xasprintf("%s/exec", a->run_dir);
	fs_remove_tree(execs); /* execs do not outlive meshd */
	const char *dirs[] = { a->tasks_dir, a->volumes_dir, a->crun_root, execs };
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		int rc = fs_make_dirs(dirs[i], 0700, err);
		if (rc)
			return rc;
	}
	return 0;
}

static void read_boot_id(struct agent *a)
{
	CLEAN_FREE char *id = text_read("/proc/sys/kernel/random", "boot_id");
	snprintf(a->boot_id, sizeof(a->boot_id), "%.36s", id ? id : "");
}

static char *absolute(const char *path)
{
	char *real = strchr(path, '/') ? realpath(path, NULL) : NULL;
	return real ? real : xstrdup(path);
}

int agent_open(uv_loop_t *loop, const struct agent_config *c, const struct agent_ops *ops, void *arg,
               struct agent **out, struct mesh_err *err)
{
	struct agent *a = XNEW(struct agent);
	a->loop = loop;
	a->ops = ops;
	a->arg = arg;
	a->name = xstrdup(c->name);
	a->runtime = xstrdup(c->runtime ? c->runtime : "crun");
	a->cgroup = xstrdup(c->cgroup);
	a->shim = absolute(c->shim_path);
	int rc = fs_make_dirs(c->state_dir, 0711, err);
	if (!rc)
		rc = fs_make_dirs(c->run_dir, 0711, err);
	a->state_dir = absolute(c->state_dir);
	a->run_dir = absolute(c->run_dir);
	if (!rc)
		rc = make_dirs(a, err);
	cgroup_probe(&a->cg);
	oci_host_probe(&a->host);
	a->host.memory = a->cg.memory;
	a->host.swap = a->cg.swap;
	a->host.cpu = a->cg.cpu;
	a->host.pids = a->cg.pids;
	a->host.net_sysctls = strstr(a->runtime, "crun") != NULL; /* runc refuses them with our namespace path */
	mesh_rng_seed_random(&a->rng);
	read_boot_id(a);
	if (!rc)
		rc = cgroup_make(&a->cg, a->cgroup, err);
	CLEAN_FREE char *images_dir = xasprintf("%s/images", a->state_dir);
	if (!rc)
		rc = images_open(loop, images_dir, &a->images, err);
	if (rc) {
		free_agent(a);
		return mesh_wrap(err, rc, "agent");
	}
	if (!in_path(a->runtime))
		log_warn("no container runtime: tasks will fail runtime=%s mend=install the package %s", a->runtime,
		         a->runtime);
	if (access(a->shim, X_OK))
		log_error("the task shim is missing: tasks will fail path=%s", a->shim);
	agent_adopt(a);
	*out = a;
	return 0;
}

void agent_close(struct agent *a, void (*cb)(void *arg), void *arg)
{
	a->closing = true;
	a->close_cb = cb;
	a->close_arg = arg;
	a->pending++; /* until everything has been told */
	agent_adopt_stop(a);
	while (a->execs.len)
		agent_exec_drop(a->execs.data[0]);
	agent_attaches_drop(a);
	struct str_list ids = { 0 };
	MAP_FOREACH(&a->tasks, e)
		strs_add(&ids, e->key);
	for (size_t i = 0; i < ids.n; i++) {
		struct atask *t = map_get(&a->tasks, ids.v[i]);
		t->works++;
		health_stop(t);
		atask_close_handle(t, &t->timer, &t->timer_on);
		atask_close_handle(t, &t->sock, &t->sock_on);
		atask_close_handle(t, &t->proc, &t->proc_on);
		t->works--;
		atask_maybe_gone(t);
	}
	strs_clear(&ids);
	agent_unpend(a);
}

static void nothing_run(struct agent_work *w)
{
	(void)w;
}

static void purge_free(struct agent_work *w)
{
	agent_check_purged(w->a);
	free(w);
}

void agent_purge(struct agent *a, void (*cb)(void *arg), void *arg)
{
	a->purge_cb = cb;
	a->purge_arg = arg;
	agent_assign_only(a, NULL, 0);
	struct agent_work *w = XNEW(struct agent_work); /* the answer never comes before the return */
	w->run = nothing_run;
	w->done = purge_free;
	agent_work_start(a, w);
}

struct images *agent_images(struct agent *a)
{
	return a->images;
}

/* ---- what this machine is ---- */

void agent_describe(struct agent *a, struct md_node_description *out)
{
	static const char *const plugins[][2] = { { "Log", "json-file" }, { "Log", "local" },
		                                  { "Log", "none" },      { "Network", "host" },
		                                  { "Network", "null" },  { "Network", "overlay" },
		                                  { "Volume", "local" } };
	struct utsname un;
	uname(&un);
	str_set(&out->hostname, un.nodename);
	str_set(&out->platform.architecture, un.machine);
	str_set(&out->platform.os, "linux");
	out->resources.nano_cpus = sysconf(_SC_NPROCESSORS_ONLN) * 1000000000LL;
	out->resources.memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	str_set(&out->engine.engine_version, MESH_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(plugins); i++) {
		struct md_plugin *p = LIST_ADD(&out->engine.plugins);
		p->type = xstrdup(plugins[i][0]);
		p->name = xstrdup(plugins[i][1]);
	}
	(void)a;
}
