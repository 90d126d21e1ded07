/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the compose files that --compose-file names, read within COMPOSE_MAX_FILE and merged into one. */
#ifndef MESH_CLI_STACK_FILES_H
#define MESH_CLI_STACK_FILES_H

#include <limits.h>

#include "base/map.h"
#include "cli/command.h"
#include "cli/compose/compose.h"

struct stack_files {
	struct VEC(struct compose_file) files;
	char workdir[PATH_MAX];
	struct compose_opts opts;
	struct compose compose;
};

/* Fills a zeroed in; raw: variables stay as written. Whatever it returns, stack_files_fini is due. */
int stack_files_load(struct cli *c, struct stack_files *in, bool raw, struct mesh_err *err) MESH_MUST_CHECK;
void stack_files_fini(struct stack_files *in);
/* Says each warning once, on standard error. */
void stack_print_warnings(struct compose *compose);

#endif
