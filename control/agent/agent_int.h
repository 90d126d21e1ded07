/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  what the agent's files share: the table of tasks, one task with its handles, child processes.
 * Loop:  everything on the agent's loop; struct agent_work carries blocking steps to the thread pool.
 * Life:  agent.pending counts open handles and running work; agent_close calls back when it is zero.
 */
#ifndef CONTROL_AGENT_AGENT_INT_H
#define CONTROL_AGENT_AGENT_INT_H

#include <uv.h>

#include "base/fs.h"
#include "base/map.h"
#include "control/agent/agent.h"
#include "control/agent/cgroup.h"
#include "control/agent/images.h"
#include "control/agent/oci_spec.h"
#include "control/agent/task.h"

#define AGENT_CREATES_MAX 4

/* TASK/task: what must survive meshd. */
struct task_rec {
	struct md_task task;
	char *container_id, *image_id, *node_id, *node_hostname, *boot_id;
	int64_t created_at, started_at, finished_at;
	int64_t exit_code, pid;
	bool oom, spawned, ended, removed, host_network, health;
};
extern const struct schema task_rec_schema;

struct atask;
struct health;

struct stop_waiter {
	agent_done_fn cb;
	void *arg;
};

struct agent {
	uv_loop_t *loop;
	const struct agent_ops *ops;
	void *arg;
	char *name, *state_dir, *run_dir, *shim, *runtime, *cgroup, *tasks_dir, *volumes_dir, *crun_root;
	struct images *images;
	struct cgroup_host cg;
	struct oci_host host;
	struct mesh_rng rng;
	char boot_id[40];
	struct map tasks; /* id -> struct atask, oldest first */
	struct VEC(struct atask *) spawn_queue;
	struct VEC(struct agent_log *) logs;
	struct VEC(struct agent_exec *) execs;
	struct VEC(struct agent_attach *) attaches;
	struct { /* the last containers that were removed: who waits for one may come too late */
		char id[65];
		int code;
		char why[256];
	} gone[32];
	unsigned n_gone;
	int creating;
	uint64_t exec_seq;
	unsigned pending, forgetting;
	bool closing, images_closed;
	uv_timer_t adopt_timer;
	void (*close_cb)(void *arg);
	void *close_arg;
	void (*purge_cb)(void *arg);
	void *purge_arg;
};

struct atask {
	struct agent *a;
	struct task_rec rec;
	struct tk sm;
	char *dir, *cg, *name;
	struct buf files; /* secrets and configs on their way to the shim; wiped after */
	bool files_set;
	uv_timer_t timer;
	uv_pipe_t sock;
	uv_process_t proc;
	bool sock_on, proc_on, timer_on; /* handles that are open */
	int shim_pid;
	char in[1024];
	size_t in_len;
	bool creating, queued, forget, exit_seen, adopted;
	bool replaced;       /* a later run of the same container has taken over its files */
	uint16_t rows, cols; /* its terminal's, asked for before it ran */
	unsigned works;      /* on the thread pool, or image pulls */
	unsigned closing_handles;
	struct health *health;
	char health_text[16];
	struct VEC(struct stop_waiter) waiters;
};

/* ---- agent_uv.c ---- */
void agent_unpend(struct agent *a);
void agent_maybe_closed(struct agent *a);

/* ---- record.c ---- */
void atask_save(struct atask *t);
/* From t->dir; false: it is no record of a task. */
bool atask_load(struct atask *t);

/* ---- assign.c ---- */
/* What follows from the task alone: name, grace period, whether it has ports. */
void atask_take_facts(struct atask *t);

/* ---- adopt_uv.c ---- */
/* Finds the tasks of an earlier run; what they do is told once the loop runs. */
void agent_adopt(struct agent *a);
void agent_adopt_stop(struct agent *a);

/* ---- supervise_uv.c ---- */
void shim_spawn(struct atask *t);           /* or queues it: AGENT_CREATES_MAX at once */
void shim_connect(struct atask *t, int fd); /* takes fd */
void shim_order(struct atask *t, const char *fmt, ...) MESH_PRINTF(2, 3);
void shim_kill(struct atask *t);
/* Its end is read from the exit file; without one its container is an orphan and is cleaned up. */
void shim_gone(struct atask *t);

/* ---- task_uv.c ---- */
struct atask *atask_new(struct agent *a, const char *id);
void atask_free(struct atask *t);
/* Nothing of it is running any more, no handle, no work: leave (closing) or remove its files (forgotten). */
void atask_maybe_gone(struct atask *t);
void atask_close_handle(struct atask *t, void *h, bool *on);
void agent_check_purged(struct agent *a);
void atask_event(struct atask *t, const struct tk_event *e);
void atask_attach(struct atask *t);
const struct image *atask_image(struct atask *t); /* NULL: it was removed */
void agent_emit(struct atask *t, const char *action, const char *key, const char *value);

/* ---- containers.c ---- */
struct atask *agent_task_of(struct agent *a, const char *ref, struct mesh_err *err);

/* Everything oci_spec wants to know of t. The strings live until the next call. */
struct oci_ctx {
	struct oci_in in;
	struct tmpl_vars vars;
	char slot[64];
	char *passwd, *group;
};
void oci_ctx_init(struct oci_ctx *c, struct atask *t, const struct image *im, const char *root);
void oci_ctx_fini(struct oci_ctx *c);

/* ---- work on the thread pool ---- */
struct agent_work {
	uv_work_t req;
	struct agent *a;
	void (*run)(struct agent_work *w);  /* on the pool */
	void (*done)(struct agent_work *w); /* on the loop; frees w */
};
void agent_work_start(struct agent *a, struct agent_work *w);

/* ---- prepare.c: blocking steps, no loop ---- */
struct prep {
	char *dir, *lower, *cg;
	const struct cgroup_host *host;
	struct oci_out out;
	int rc;
	struct mesh_err err;
};
void prep_run(struct prep *p);
/* The first KB of dir/file, NULL when there is none; the caller frees. */
char *text_read(const char *dir, const char *file);
/* 0 when nobody holds TASK/lock. */
bool lock_held(const char *task_dir);
/* After a supervisor's death: nothing of the container is left. */
void orphan_clean(const struct agent *a, const char *dir, const char *cg, const char *id);
/* Runs argv to its end, output to /dev/null; exit status or negative. */
int run_quiet(const char *const *argv);

/* ---- log_uv.c ---- */
void agent_logs_kick(struct agent *a, const struct atask *t);

/* ---- attach_uv.c ---- */
/* The shim is there; the task has ended without one. */
void agent_attaches_connect(struct atask *t);
void agent_attaches_end(struct atask *t);
void agent_attaches_drop(struct agent *a);

/* ---- health_uv.c ---- */
void health_start(struct atask *t, const struct md_health *h);
void health_stop(struct atask *t);

/* ---- exec_uv.c ---- */
/* agent_close: kills it and forgets its owner; no callback any more. */
void agent_exec_drop(struct agent_exec *e);

/* ---- volume.c ---- */
int volume_resolve(struct agent *a, const struct md_mount *m, struct oci_volume *out, struct mesh_err *err);

#endif
