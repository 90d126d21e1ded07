/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: which members of POST /containers/create are refused, and which are named in a warning. Pure. */
#ifndef CONTROL_API_RUN_REFUSE_H
#define CONTROL_API_RUN_REFUSE_H

#include <jansson.h>

#include "base/schema.h"

/* Every member that asks for something is known, refused, or named in warnings. */
int run_refuse(const json_t *cfg, struct str_list *warnings, struct mesh_err *err) MESH_MUST_CHECK;
/* Neither null, nor empty, nor zero, nor false. */
bool run_given(const json_t *j);

#endif
