/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the placeholders a task's hostname, environment, mounts and templated configs may hold, in Go's
 *         syntax: {{.Service.Name}} {{.Service.ID}} {{.Service.Labels.x}} {{index .Service.Labels "x"}} {{.Node.ID}}
 *         {{.Node.Hostname}} {{.Node.Platform.OS}} {{.Node.Platform.Architecture}} {{.Task.ID}} {{.Task.Name}}
 *         {{.Task.Slot}}.
 * Pure.   Errors: MESH_E_INVALID names the placeholder.
 */
#ifndef CONTROL_AGENT_TMPL_H
#define CONTROL_AGENT_TMPL_H

#include "base/buf.h"
#include "base/schema.h"

struct tmpl_vars {
	const char *service_id, *service_name;
	const struct str_map *service_labels;
	const char *node_id, *node_hostname, *node_os, *node_arch;
	const char *task_id, *task_name, *task_slot;
};
/* Appends the expansion of n bytes of in to out. */
int tmpl_expand(const struct tmpl_vars *v, const char *in, size_t n, struct buf *out,
                struct mesh_err *err) MESH_MUST_CHECK;
/* The same for a string; the caller frees *out. */
int tmpl_expand_str(const struct tmpl_vars *v, const char *in, char **out, struct mesh_err *err) MESH_MUST_CHECK;

#endif
