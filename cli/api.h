/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the daemon's API as JSON in, JSON out; its refusals become errors as docker words them.
 * Owner:  returned values are new references of the caller (JSON_CLEAN).
 * Errors: "Error response from daemon: <message>" with the code its status maps to.
 */
#ifndef MESH_CLI_API_H
#define MESH_CLI_API_H

#include <jansson.h>
#include <stdio.h>

#include "base/gojson.h"
#include "cli/command.h"
#include "cli/http.h"

/* Paths are printf formats without the version prefix; escape foreign parts with url_escape. */
int api_get(struct cli *c, json_t **out, struct mesh_err *err, const char *path, ...) MESH_MUST_CHECK MESH_PRINTF(4, 5);
/* body may be NULL; out may be NULL; an empty answer gives JSON null. */
int api_post(struct cli *c, json_t *body, json_t **out, struct mesh_err *err, const char *path, ...) MESH_MUST_CHECK
	MESH_PRINTF(5, 6);
int api_delete(struct cli *c, json_t **out, struct mesh_err *err, const char *path, ...) MESH_MUST_CHECK
	MESH_PRINTF(4, 5);
/* The whole choice: method, extra headers, status kept. */
int api_call(struct cli *c, struct http_request *req, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Starts an answer to be read with http_read(c->http, ...). Refusals are read and returned. */
int api_stream(struct cli *c, struct http_request *req, struct mesh_err *err) MESH_MUST_CHECK;
/* Connects and agrees on a version; done by the first call when it was not before. */
int api_ping(struct cli *c, struct mesh_err *err) MESH_MUST_CHECK;
/* "/v1.44" */
const char *api_prefix(const struct cli *c);

/* --filter key=value… as the filters query value, escaped: "filters=..." or "" when there is none. */
char *api_filters(const struct str_list *filters, struct mesh_err *err);
/* {"key":{"value":true}} escaped, ready behind "filters=". */
char *api_filter1(const char *key, const char *value);
/* Escaped copy. */
char *url_dup(const char *text);

/* Tolerant readers of foreign JSON: "", 0, NULL when absent or of another type. */
const char *js(const json_t *o, const char *path); /* "Spec.Name" */
int64_t ji(const json_t *o, const char *path);
double jf(const json_t *o, const char *path);
bool jb(const json_t *o, const char *path);
json_t *jo(const json_t *o, const char *path);
/* Makes the objects on the way: jset(spec, "TaskTemplate.ContainerSpec.Image", value). Steals value. */
void jset(json_t *o, const char *path, json_t *value);
void jdel(json_t *o, const char *path);

/* Can it stand in JSON at all? (UTF-8) */
bool json_text_ok(const char *text);
char *json_line(const json_t *v);

#endif
