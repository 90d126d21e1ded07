/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   one event a line on stderr: level, constant message first, variables as key=value.
 *         error = a function is lost and someone should act; warn = degraded, and what we did;
 *         info = what an operator would narrate; debug = the rest. Libraries stay at debug.
 * Thread: any.
 */
#ifndef MESH_BASE_LOG_H
#define MESH_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG_, LOG_INFO_, LOG_WARN_, LOG_ERROR_ };

void log_set_level(enum log_level level);
/* "debug", "info", "warn", "error"; MESH_E_INVALID otherwise. */
int log_level_parse(const char *name, enum log_level *out) MESH_MUST_CHECK;
void log_line(enum log_level level, const char *fmt, ...) MESH_PRINTF(2, 3);

#define log_debug(...) log_line(LOG_DEBUG_, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO_, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN_, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR_, __VA_ARGS__)

#endif
