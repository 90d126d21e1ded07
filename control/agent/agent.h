/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    runs this node's tasks: image, root filesystem, shim, crun, network, logs, exit. Told what should run
 *          (agent_assign, agent_remove), says what does (ops.on_status). Knows no cluster and no sockets.
 * Loop:    libuv; slow work (skopeo, umoci, crun, mounts) is in child processes or on the thread pool.
 * Files:   state_dir/tasks/<id>/ one directory a task: task (its encoded md_task), config.json, log, exit, lock,
 *          pid; state_dir/images/ ; state_dir/volumes/. A task outlives meshd: agent_open adopts the ones
 *          whose shim holds its lock, and reports the exits it missed.
 * States:  the agent moves a task ASSIGNED -> ACCEPTED -> PREPARING -> READY -> (desired RUNNING) STARTING ->
 *          RUNNING -> COMPLETE | FAILED | SHUTDOWN | REJECTED, and reports each move once, in order.
 */
#ifndef CONTROL_AGENT_AGENT_H
#define CONTROL_AGENT_AGENT_H

#include <uv.h>

#include "base/buf.h"
#include "control/model/model.h"
#include "dataplane/dp.h"

struct agent;

struct agent_config {
	const char *name;         /* mark in kernel-visible names ("mesh", "mesh-lab-n1") */
	const char *state_dir;    /* persistent */
	const char *run_dir;      /* gone at reboot: crun's --root, sockets */
	const char *shim_path;    /* build/mesh-shim */
	const char *runtime;      /* "crun", "runc" or a path */
	const char *cgroup;       /* cgroup of all tasks, relative to each hierarchy: "/mesh-lab-n1" */
	bool insecure_registries; /* plain http allowed for loopback and listed registries */
};

struct agent_ops {
	/* A task moved. status is borrowed. */
	void (*on_status)(void *arg, const char *task, const struct md_task_status *status);
	/* A container event for /events: type "container" | "image" | "volume", action "start" "die" ... */
	void (*on_event)(void *arg, const char *type, const char *action, const char *id, const struct str_map *attrs);
	/*
	 * The task's network namespace exists (shim pid): wire it. Answered by agent_attached. udp/tcp are fd
	 * numbers in the shim's table (-1: none). Then detached when the task has ended.
	 */
	void (*attach)(void *arg, const struct md_task *t, int pid, int dns_udp_fd, int dns_tcp_fd);
	void (*detach)(void *arg, const char *task);
	/* Tell when all these ports are listened on (agent_listening), when open flows ended (agent_flows_ended). */
	void (*watch_listen)(void *arg, const char *task, const struct dp_port *ports, size_t n);
	void (*watch_flows)(void *arg, const char *task);
	/* Nullable. After a restart: every task that still runs has been attached again (dp_attach_done). */
	void (*adopted)(void *arg);
};

int agent_open(uv_loop_t *loop, const struct agent_config *c, const struct agent_ops *ops, void *arg,
               struct agent **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Leaves tasks running. cb once, then a is gone. */
void agent_close(struct agent *a, void (*cb)(void *arg), void *arg);
/* Stops and removes every task (leaving the swarm). cb when done. */
void agent_purge(struct agent *a, void (*cb)(void *arg), void *arg);

/* What a task needs beside itself; borrowed during agent_assign only. */
struct agent_deps {
	const struct md_secret *const *secrets;
	size_t n_secrets;
	const struct md_config *const *configs;
	size_t n_configs;
	const char *node_id, *node_hostname; /* for {{.Node.Hostname}} templates */
	bool host_network;                   /* the task is on the host's network: no namespace, no attach */
};
/*
 * The newest wish for one task; copies t. First time: starts the work. Later: desired_state moved.
 * desired_state > RUNNING: stop it (stop signal, grace period, SIGKILL), but not before t->drained, and not
 * before its open connections ended or the grace period passed.
 */
void agent_assign(struct agent *a, const struct md_task *t, const struct agent_deps *deps);
/* Stop at once if it runs, and forget it: files, mounts, logs. */
void agent_remove(struct agent *a, const char *task);
/* The set of assigned tasks is complete (a snapshot): whatever else runs is stopped and removed. */
void agent_assign_only(struct agent *a, const char *const *tasks, size_t n);

/* Answers from the data plane. */
void agent_attached(struct agent *a, const char *task, int code, const char *text);
void agent_listening(struct agent *a, const char *task);
void agent_flows_ended(struct agent *a, const char *task);

/* ---- containers, as the Engine API shows them ------------------------------------------------- */

/* A container is a task's instance (or a standalone one); its id is 64 hex digits. */
struct agent_container {
	char id[65];
	const struct md_task *task; /* borrowed */
	const char *name;           /* "web.1.<task id>" */
	const char *image_id;       /* "sha256:..." */
	int state;                  /* enum md_task_state as last reported */
	int pid;                    /* 0 when not running */
	int64_t created_at, started_at, finished_at;
	int exit_code;
	bool oom_killed;
	const char *health; /* "", "starting", "healthy", "unhealthy" */
	const char *log_path;
};
/* Calls fn for each, oldest first, until it returns false. all = also ended ones. */
void agent_each_container(struct agent *a, bool all, bool (*fn)(void *arg, const struct agent_container *c), void *arg);
/* By id, unique prefix, name. MESH_E_NOT_FOUND "No such container: x". */
int agent_find_container(struct agent *a, const char *ref, struct agent_container *out,
                         struct mesh_err *err) MESH_MUST_CHECK;
typedef void (*agent_done_fn)(void *arg, int code, const struct mesh_err *err);
/* sig by name or number. */
int agent_kill_container(struct agent *a, const char *id, const char *sig, struct mesh_err *err) MESH_MUST_CHECK;
void agent_stop_container(struct agent *a, const char *id, int timeout_s, agent_done_fn cb, void *arg);
/* force kills a running one. A task's container that is removed counts as failed, and is replaced. */
void agent_rm_container(struct agent *a, const char *id, bool force, agent_done_fn cb, void *arg);

void agent_resize_container(struct agent *a, const char *id, uint16_t rows, uint16_t cols);
/*
 * Exit code of a container that was removed a short while ago, and why it did not start ("" when it did; may be
 * NULL). False when nobody remembers.
 */
bool agent_gone_exit(const struct agent *a, const char *id, int *code, char why[256]);
/* Is the name taken by a container that is shown? */
bool agent_name_taken(struct agent *a, const char *name);
int agent_rename_container(struct agent *a, const char *id, const char *name, struct mesh_err *err) MESH_MUST_CHECK;

/* ---- attach: a container's own stdio ---- */

struct agent_attach;
struct agent_attach_ops {
	void (*on_data)(void *arg, const uint8_t *p, size_t n); /* as docker frames it; a terminal's as it is */
	void (*on_end)(void *arg);                              /* once, last, maybe inside of agent_attach_open */
};
/* One that has not been started yet is waited for. */
int agent_attach_open(struct agent *a, const char *container, bool in, bool out, bool errs,
                      const struct agent_attach_ops *ops, void *arg, struct agent_attach **res,
                      struct mesh_err *err) MESH_MUST_CHECK;
void agent_attach_write(struct agent_attach *at, const void *p, size_t n); /* n = 0: the end of input */
/* No callback after. Not after on_end. */
void agent_attach_close(struct agent_attach *at);

/* ---- logs ---- */

struct agent_log_opts {
	bool out, err, follow;
	int64_t since, until; /* ns, 0 = open */
	int64_t tail;         /* lines, -1 = all */
};
struct agent_log; /* a running read */
/* stream 1 stdout, 2 stderr; one line without its newline. Return false to pause (agent_log_resume). */
typedef bool (*agent_log_fn)(void *arg, int stream, int64_t time_ns, const char *line, size_t n);
/* done once: the end (not following, or the container ended), or code. */
struct agent_log *agent_log_open(struct agent *a, const char *task, const struct agent_log_opts *o, agent_log_fn fn,
                                 agent_done_fn done, void *arg);
void agent_log_resume(struct agent_log *l);
void agent_log_close(struct agent_log *l);

/* ---- exec ---- */

struct agent_exec_spec {
	struct str_list cmd, env;
	char *user, *dir;
	bool tty, stdin_, stdout_, stderr_, privileged;
	uint16_t rows, cols;
};
extern const struct schema agent_exec_spec_schema;
struct agent_exec;
struct agent_exec_ops {
	void (*on_data)(void *arg, int stream, const uint8_t *p, size_t n);    /* 1 stdout (and tty), 2 stderr */
	void (*on_exit)(void *arg, int exit_code, const struct mesh_err *err); /* once; last call */
};
int agent_exec_start(struct agent *a, const char *container, const struct agent_exec_spec *spec,
                     const struct agent_exec_ops *ops, void *arg, struct agent_exec **out,
                     struct mesh_err *err) MESH_MUST_CHECK;
void agent_exec_write(struct agent_exec *e, const void *p, size_t n); /* stdin; n = 0 closes it */
void agent_exec_resize(struct agent_exec *e, uint16_t rows, uint16_t cols);
/* Kills the process with all its children; on_exit still comes. */
void agent_exec_kill(struct agent_exec *e);
int agent_exec_pid(const struct agent_exec *e);

/* ---- volumes: directories of this node that outlive tasks ---- */

struct agent_volume {
	char *name, *driver; /* driver: only "local" */
	struct str_map labels, options;
	int64_t created_at;
	char *mountpoint;
};
extern const struct schema agent_volume_schema;
/* By name; v is borrowed. */
void agent_each_volume(struct agent *a, bool (*fn)(void *arg, const struct agent_volume *v), void *arg);
/* out is cleared by the caller (agent_volume_schema). MESH_E_NOT_FOUND "get x: no such volume". */
int agent_volume_get(struct agent *a, const char *name, struct agent_volume *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Without a name one is made up. One that exists is given back as it is. out may be NULL. */
int agent_volume_create(struct agent *a, const struct agent_volume *spec, struct agent_volume *out,
                        struct mesh_err *err) MESH_MUST_CHECK;
/* MESH_E_CONFLICT while a container uses it, forced or not; force: one that does not exist is no error. */
int agent_volume_remove(struct agent *a, const char *name, bool force, struct mesh_err *err) MESH_MUST_CHECK;
bool agent_volume_in_use(struct agent *a, const char *name);

/* ---- images (images.h has the store itself) ---- */

struct images;
struct images *agent_images(struct agent *a);

/* What this machine has: hostname, platform, CPUs, memory, engine version. out must be zeroed. */
void agent_describe(struct agent *a, struct md_node_description *out);

#endif
