/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what the stack commands share. */
#ifndef MESH_CLI_STACK_H
#define MESH_CLI_STACK_H

#include <jansson.h>

#include "cli/command.h"

extern const struct command stack_deploy_command, stack_config_command;

int stack_name_check(const char *name, struct mesh_err *err) MESH_MUST_CHECK;
/* All objects of a kind ("services", "secrets", "configs", "networks") that belong to a stack. */
int stack_objects(struct cli *c, const char *kind, const char *stack, json_t **out,
                  struct mesh_err *err) MESH_MUST_CHECK;
/* Removes objects that stack_objects found, saying so. Failures are printed; returns how many there were. */
int stack_remove(struct cli *c, const char *kind, const char *noun, json_t *objects);
/* But for what says nothing, and what daemons fill in. */
bool stack_same_spec(const json_t *a, const json_t *b);
void pause_ms(int ms);
int64_t mono_ms(void);

#endif
