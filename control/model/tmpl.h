/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the placeholders that a task's host name, environment, mounts and aliases may hold, and secrets and configs of
 *         the template driver "golang". The whole of Go's template language (base/gotmpl.h) over .Service.ID .Name
 *         .Labels, .Node.ID .Hostname .Platform.OS .Platform.Architecture, .Task.ID .Name .Slot; with the engine's
 *         join SEP TEXT..., and in secrets and configs env "NAME", secret "TARGET", config "TARGET".
 * Pure.   Errors: MESH_E_INVALID names the placeholder; a label that the service does not have is one, as in the engine.
 */
#ifndef CONTROL_MODEL_TMPL_H
#define CONTROL_MODEL_TMPL_H

#include "base/buf.h"
#include "base/schema.h"

struct tmpl_vars {
	const char *service_id, *service_name;
	const struct str_map *service_labels;
	const char *node_id, *node_hostname, *node_os, *node_arch; /* node_id NULL: there is no .Node */
	const char *task_id, *task_name, *task_slot;               /* task_id NULL: there is no .Task */
	bool any_case; /* docker's client writes the aliases of --network in lower case: {{.task.slot}} */
};

enum tmpl_what { TMPL_ENV, TMPL_SECRET, TMPL_CONFIG, TMPL_WHAT_MAX };
/* What a secret or config may quote. False: the task has none of that name. */
struct tmpl_sources {
	bool (*find)(void *arg, enum tmpl_what what, const char *name, struct bytes *out);
	void *arg;
};

/* Appends the expansion of n bytes of in to out; sources NULL: nothing but the variables. */
int tmpl_expand(const struct tmpl_vars *v, const struct tmpl_sources *sources, const void *in, size_t n,
                struct buf *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Contents of a secret or config: could a template driver of this name make anything of them? NULL or "": there is none. */
int tmpl_check(const char *driver, const struct bytes *data, struct mesh_err *err) MESH_MUST_CHECK;
/* The same as tmpl_expand for a string (NULL is empty) and the variables alone; the caller frees *out. */
int tmpl_expand_str(const struct tmpl_vars *v, const char *in, char **out, struct mesh_err *err) MESH_MUST_CHECK;
/* "NAME=value": only the value is a template. */
int tmpl_expand_env(const struct tmpl_vars *v, const char *in, char **out, struct mesh_err *err) MESH_MUST_CHECK;

#endif
