/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: exec: a command in a running container, with the terminal or pipes of ours. */
#ifndef MESH_CLI_EXEC_H
#define MESH_CLI_EXEC_H

#include "cli/command.h"

extern const struct command cmd_exec;

/*
 * The same with our terminal, made raw for a tty; its size follows the window: of an "exec" or of "containers".
 */
int attach_terminal(struct cli *c, const char *kind, const char *id, int sock, const uint8_t *early, size_t early_len,
                    bool tty, bool use_stdin, struct mesh_err *err) MESH_MUST_CHECK;

/* Carries standard input, output and error over a raw connection until it ends. */
int attach_pump(int sock, const uint8_t *early, size_t early_len, bool tty, bool use_stdin,
                struct mesh_err *err) MESH_MUST_CHECK;

#endif
