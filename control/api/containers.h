/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: this node's containers as JSON; shared by the container calls, exec and disk use. */
#ifndef CONTROL_API_CONTAINERS_H
#define CONTROL_API_CONTAINERS_H

#include "control/api/http.h"

/* The container of the first argument; answers 404 itself: then false. */
bool req_container(struct req *r, struct agent_container *out);
/* "Up 5 seconds (healthy)", "Exited (0) 9 minutes ago", "Created". Pure. */
void container_status(const struct agent_container *c, int64_t now_ns, char out[96]);
/* As docker writes it: "Less than a second", "About a minute", "3 hours". Pure. */
void human_duration(int64_t ns, char out[48]);
/* The short form of /containers/json. */
void view_container_summary(struct jw *w, struct api *a, const struct agent_container *c, int64_t now_ns);
/* com.docker.swarm.* beside the container's own labels. */
void container_labels(const struct agent_container *c, struct str_map *out);

/* run.c: a container run by hand, stopped or not, goes with its task. Answers. */
void run_remove(struct req *r, const struct agent_container *c);

/* volumes.c; usage: with UsageData, whose size nobody measures. */
void view_volume(struct jw *w, const struct agent_volume *v, bool usage, bool in_use);

/* ---- procfs.c: what the kernel says of a process and its container ---- */

/* The table of "docker top" for all processes in pid's pid namespace. */
void view_top(struct jw *w, int pid);
struct proc_stats {
	int64_t read_ns;
	uint64_t cpu_ns, cpu_user_ns, cpu_system_ns, host_cpu_ns;
	uint64_t memory, memory_max, memory_limit, inactive_file, pids;
	uint64_t throttled_periods, periods, throttled_ns;
};
/* -ENOENT when it has ended. */
int proc_stats_read(int pid, struct proc_stats *out) MESH_MUST_CHECK;
void view_stats(struct jw *w, const struct agent_container *c, const struct proc_stats *now,
                const struct proc_stats *before);

#endif
