/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the body of POST /containers/create as a task without a service. Pure.
 * Errors: MESH_E_INVALID; MESH_E_UNSUPPORTED names what containers here cannot have. What is merely not looked at is
 *         named in warnings.
 */
#ifndef CONTROL_API_RUN_SPEC_H
#define CONTROL_API_RUN_SPEC_H

#include <jansson.h>

#include "control/model/model.h"

/* out must be zeroed; clear it also on error. Networks are names; ports without a number have published 0. */
int run_spec_read(const json_t *body, struct md_task *out, struct str_list *warnings,
                  struct mesh_err *err) MESH_MUST_CHECK;
/* "[a-zA-Z0-9][a-zA-Z0-9_.-]+" */
int run_name_check(const char *name, struct mesh_err *err) MESH_MUST_CHECK;

#endif
