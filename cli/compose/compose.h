/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   stack files (compose v3, and what the compose specification added) -> what a daemon is asked for.
 *         load: YAML, variables, checks, one canonical form, several files merged into one.
 *         plan: the canonical form -> API bodies. Pure but for the two callbacks.
 * Owner:  struct compose owns its tree (compose_fini).
 * Errors: MESH_E_INVALID: "stack.yml:12: services.web.ports.0.target must be a integer". What is legal but cannot
 *         be honoured is in warnings, by name.
 */
#ifndef MESH_CLI_COMPOSE_COMPOSE_H
#define MESH_CLI_COMPOSE_COMPOSE_H

#include <jansson.h>

#include "base/buf.h"
#include "cli/compose/interpolate.h"
#include "cli/compose/value.h"

#define STACK_LABEL "com.docker.stack.namespace"
#define STACK_IMAGE_LABEL "com.docker.stack.image"

struct compose_opts {
	struct compose_env env;
	/* Contents of an env_file, config or secret. */
	int (*read)(void *arg, const char *path, size_t max, struct buf *out, struct mesh_err *err);
	void *arg;
	const char *workdir; /* absolute: what relative paths start from */
	const char *home;    /* for ~ in volumes */
	bool raw;            /* leave variables alone (stack config --skip-interpolation) */
};

struct compose_file {
	const char *name, *text;
	size_t len;
};

struct compose {
	struct arena arena;
	struct cv *root;
	struct str_list warnings;
	const struct compose_opts *opts;
};

int compose_load(struct compose *c, const struct compose_file *files, size_t n, const struct compose_opts *opts,
                 struct mesh_err *err) MESH_MUST_CHECK;
void compose_fini(struct compose *c);

/* {"networks":[…], "secrets":[…], "configs":[…], "services":[…], "places":{…}}:
 *   network  {"name","external","body"}
 *   secret   {"key","name","external","body"}   body.Data in base64; configs alike
 *   service  {"key","body","after":[{"service","condition","required"}]}   in an order that respects "after";
 *            networks, secrets and configs by name where the API wants ids
 * and "places": {"services.web":"stack.yml:12"}, for what a daemon says against them. */
int compose_plan(struct compose *c, const char *stack, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;

/* The canonical form as YAML, keys in docker's order. */
void compose_emit(const struct compose *c, struct buf *out);

#endif
