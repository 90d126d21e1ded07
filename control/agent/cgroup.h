/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    where this machine's cgroups are (hybrid or pure v2), what they can limit, and the few things done
 *          to them without the runtime: kill, count, remove.
 * Paths:   "cg" is relative to each hierarchy: "/mesh-lab-n1/<task id>".
 * Blocks:  cgroup_kill_wait only; the rest are single writes to kernel files.
 */
#ifndef CONTROL_AGENT_CGROUP_H
#define CONTROL_AGENT_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum cgroup_layout { CGROUP_V2, CGROUP_HYBRID, CGROUP_V1 };
struct cgroup_host {
	enum cgroup_layout layout;
	char unified[64]; /* "/sys/fs/cgroup" or "/sys/fs/cgroup/unified"; "" for v1 alone */
	bool mask;        /* unified/cgroup.controllers must look empty to crun */
	bool memory, swap, cpu, pids;
};
void cgroup_probe(struct cgroup_host *h);
/* The file with "oom_kill N" of one cgroup; cgroup.kill, "" when the kernel has none. */
void cgroup_oom_path(const struct cgroup_host *h, const char *cg, char *out, size_t n);
void cgroup_kill_path(const struct cgroup_host *h, const char *cg, char *out, size_t n);
/* Pids in it; at most max. */
size_t cgroup_pids(const struct cgroup_host *h, const char *cg, int *out, size_t max);
/* Makes the directory in the unified hierarchy, so that BPF programs can be attached before the first task. */
int cgroup_make(const struct cgroup_host *h, const char *cg, struct mesh_err *err) MESH_MUST_CHECK;
/* Kills everything in it and waits until it is empty. -ETIMEDOUT. */
int cgroup_kill_wait(const struct cgroup_host *h, const char *cg, int timeout_ms) MESH_MUST_CHECK;
/* Removes the directory in every hierarchy where it is empty. */
void cgroup_remove(const struct cgroup_host *h, const char *cg);

#endif
