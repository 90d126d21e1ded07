/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: waits until a service is as its spec says, and shows how far it is (docker's texts and bars). */
#ifndef MESH_CLI_PROGRESS_H
#define MESH_CLI_PROGRESS_H

#include "cli/command.h"

/* 0 converged; an error when an update paused or rolled back badly. Ctrl-C leaves it to the background. */
int progress_service(struct cli *c, const char *name, bool quiet, struct mesh_err *err) MESH_MUST_CHECK;

#endif
