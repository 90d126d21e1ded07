/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   ${VAR} in stack files: $VAR, ${VAR}, ${VAR:-default}, ${VAR-default}, ${VAR:?text}, ${VAR?text},
 *         ${VAR:+other}, ${VAR+other}, $$; what stands behind an operator may hold variables again.
 * Owner:  results live in the arena. Pure: variables come from a callback.
 * Errors: docker's texts, behind "file:line: ".
 */
#ifndef MESH_CLI_COMPOSE_INTERPOLATE_H
#define MESH_CLI_COMPOSE_INTERPOLATE_H

#include "base/schema.h"
#include "cli/compose/value.h"

struct compose_env {
	const char *(*get)(void *arg, const char *name); /* NULL = not set */
	void *arg;
};

/* Every text below the values of the sections that docker interpolates. unset collects names that had no value. */
int interpolate(struct arena *a, struct cv *root, const struct compose_env *env, struct str_list *unset,
                struct mesh_err *err) MESH_MUST_CHECK;
/* One text. -1: the text is not well formed; -2: a required variable is missing, *need says which and
 * why; -3: too much text; -4: a value that is not UTF-8. */
int interpolate_text(struct arena *a, const char *text, const struct compose_env *env, struct str_list *unset,
                     const char **out, const char **need) MESH_MUST_CHECK;

#endif
