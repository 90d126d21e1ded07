/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   a child process on the loop: its output collected (bounded), its end reported once.
 * Loop:   libuv; the struct is gone after done returned.
 */
#ifndef CONTROL_AGENT_CHILD_UV_H
#define CONTROL_AGENT_CHILD_UV_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

#define CHILD_OUT_MAX (4u << 20)

/* code: exit status, 128 + signal, or negative when it could not be started. out and errout are borrowed. */
typedef void (*child_done)(void *arg, int code, struct buf *out, struct buf *errout);
/* One line of its standard error as it comes; may be NULL. */
typedef void (*child_line)(void *arg, const char *line);

/* argv ends with NULL; argv[0] is searched in PATH. done is called from the loop, never from inside this call. */
void child_run(uv_loop_t *loop, const char *const *argv, child_line line, child_done done, void *arg);

/* "level=fatal msg=\"...\"" (skopeo, umoci) as its message; otherwise the last line. Never NULL; buf is changed. */
const char *child_complaint(struct buf *errout);

#endif
