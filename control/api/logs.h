/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   logs on their way to a client: of tasks anywhere (managers), or of one container of this node.
 * Format: one frame a line, [1|2|3,0,0,0,length big endian] and "[time ][details ]text\n"; with a terminal the
 *         payload alone. Stream 3 carries an error of the reading itself.
 */
#ifndef CONTROL_API_LOGS_H
#define CONTROL_API_LOGS_H

#include "control/api/http.h"

struct log_request {
	struct agent_log_opts opts;
	bool timestamps, details, tty;
	char service[MESH_ID_LEN + 1]; /* following: also tasks that come later; "" = the given ones only */
};
/* What the query says. MESH_E_INVALID. */
int log_request_parse(struct req *r, struct log_request *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Answers r with the logs of these tasks. */
void logs_of_tasks(struct req *r, const struct log_request *q, const char *const *tasks, size_t n);
/* Answers r with the log of this node's container. */
void logs_of_container(struct req *r, const struct log_request *q, const struct agent_container *c);
/* One line as the client gets it, appended to out. Pure. */
void log_line_format(struct buf *out, const struct log_request *q, const struct api_log_line *l);

#endif
