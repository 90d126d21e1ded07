/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   JSON values as Go's encoder writes them, and a cleanup for them.
 * Pure.   Errors: none; text that is not UTF-8 is written as it is.
 */
#ifndef MESH_BASE_GOJSON_H
#define MESH_BASE_GOJSON_H

#include <jansson.h>

#include "base/buf.h"

static inline void json_clean(json_t **j)
{
	json_decref(*j);
}
#define JSON_CLEAN __attribute__((cleanup(json_clean))) json_t *

/* Go's encoding: sorted or kept order, shortest numbers; indent 0 = one line. */
void json_put(struct buf *out, const json_t *v, int indent, bool sorted, bool escape_html);

#endif
