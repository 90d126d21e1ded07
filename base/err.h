/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:     the one error idiom. A function that can fail returns 0 or a negative code; where an
 *           operator could need the story it also takes a nullable struct mesh_err * last.
 * Codes:    -errno for system errors, MESH_E_* (at most -1000) for domain errors. One table gives each
 *           its name, text, HTTP status and exit status.
 * Contract: the first to know fills it (mesh_fail), layers above prefix it (mesh_wrap), the boundary
 *           (API, CLI, log) prints it once: "service 'web': network 'blue': not found".
 * Owner:    struct mesh_err lives on the caller's stack; nothing is allocated.
 */
#ifndef MESH_BASE_ERR_H
#define MESH_BASE_ERR_H

#include <stddef.h>

#define MESH_MUST_CHECK __attribute__((warn_unused_result))
#define MESH_PRINTF(f, a) __attribute__((format(printf, f, a)))

/*    name                 value  http exit text */
#define MESH_ERRORS(X)                                                                                                 \
	X(MESH_E_NOT_FOUND, -1001, 404, 1, "not found")                                                                \
	X(MESH_E_CONFLICT, -1002, 409, 1, "conflict")                                                                  \
	X(MESH_E_INVALID, -1003, 400, 1, "invalid argument")                                                           \
	X(MESH_E_IN_USE, -1004, 400, 1, "in use")                                                                      \
	X(MESH_E_NOT_MANAGER, -1005, 503, 1, "this node is not a swarm manager")                                       \
	X(MESH_E_NO_LEADER, -1006, 503, 1, "the swarm has no leader")                                                  \
	X(MESH_E_OUT_OF_SEQUENCE, -1007, 500, 1, "update out of sequence")                                             \
	X(MESH_E_UNAUTHORIZED, -1008, 401, 1, "unauthorized")                                                          \
	X(MESH_E_FORBIDDEN, -1009, 403, 1, "forbidden")                                                                \
	X(MESH_E_PROTOCOL, -1010, 400, 1, "protocol error")                                                            \
	X(MESH_E_CORRUPT, -1011, 500, 1, "data is corrupt")                                                            \
	X(MESH_E_VERSION, -1012, 500, 1, "unsupported version")                                                        \
	X(MESH_E_EXHAUSTED, -1013, 500, 1, "pool exhausted")                                                           \
	X(MESH_E_UNSUPPORTED, -1014, 501, 1, "not supported")                                                          \
	X(MESH_E_TLS, -1015, 500, 1, "TLS error")                                                                      \
	X(MESH_E_TIMEOUT, -1016, 504, 1, "timed out")                                                                  \
	X(MESH_E_CLOSED, -1017, 500, 1, "closed")                                                                      \
	X(MESH_E_RUNTIME, -1018, 500, 1, "container runtime error")                                                    \
	X(MESH_E_LOCKED, -1019, 503, 1, "the swarm is locked")                                                         \
	X(MESH_E_USAGE, -1020, 400, 125, "usage error")

enum mesh_code {
#define X(name, value, http, exit, text) name = value,
	MESH_ERRORS(X)
#undef X
};

struct mesh_err {
	int code;      /* 0 or the negative code returned beside it */
	char msg[760]; /* one line, no trailing newline, no trailing stop */
};

/* Text of a code without a story ("not found", strerror for -errno). Never NULL. */
const char *mesh_code_text(int code);
/* HTTP status and process exit status a code maps to at the boundary. */
int mesh_code_http(int code);
int mesh_code_exit(int code);

/* Fills err (may be NULL) and returns code. Appends ": <text of code>" for -errno codes only. */
int mesh_fail(struct mesh_err *err, int code, const char *fmt, ...) MESH_PRINTF(3, 4);
/* Prefixes err->msg with "fmt: ". Returns err->code, or code when err is NULL. */
int mesh_wrap(struct mesh_err *err, int code, const char *fmt, ...) MESH_PRINTF(3, 4);
/* The message of err, or the text of code when err is NULL or empty. Never NULL. */
const char *mesh_err_text(const struct mesh_err *err, int code);

#endif
