/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: "meshctl top" without a container: the traffic of the whole cluster, live. top_rows is pure. */
#ifndef MESH_CLI_TOP_H
#define MESH_CLI_TOP_H

#include <jansson.h>

#include "cli/command.h"

/*
 * Two answers of /_mesh/stats, the older first, as rows of rates a second: one a service and network ("Kind":
 * "service"), one a task below it ("task"), one a drop reason and node ("drop"). A counter that went back began anew.
 */
json_t *top_rows(const json_t *before, const json_t *after, bool services_only);
int top_traffic(struct cli *c, struct mesh_err *err) MESH_MUST_CHECK;

#define TOP_FLAG_COUNT 4
extern const struct flag top_flags[TOP_FLAG_COUNT];

#endif
