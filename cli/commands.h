/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the commands at the top, in the order help shows them; each lives in the file of its noun. */
#ifndef MESH_CLI_COMMANDS_H
#define MESH_CLI_COMMANDS_H

#include "cli/command.h"

extern const struct command cmd_lab;

#define CLI_COMMANDS &cmd_lab

#endif
