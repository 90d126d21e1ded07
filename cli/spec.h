/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the small languages of service flags (--mount, --publish, --secret, ...), as JSON of the API.
 *         Pure: nothing here talks to a daemon.
 * Owner:  results are new references.
 * Errors: MESH_E_INVALID, worded as docker words it where a user may have learnt it.
 */
#ifndef MESH_CLI_SPEC_H
#define MESH_CLI_SPEC_H

#include <jansson.h>

#include "cli/command.h"

/* One comma-separated record as encoding/csv reads it: quotes protect commas. */
int csv_split(const char *text, struct str_list *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Shell-like words for --entrypoint and --args. */
int shell_split(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;

int spec_mount(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Appends one object per port: a range gives several. */
int spec_publish(const char *text, json_t *ports, struct mesh_err *err) MESH_MUST_CHECK;
/* kind "Secret" or "Config": {"File":…, "<kind>Name":…}; the id is filled in by who looks it up. */
int spec_file_ref(const char *text, const char *kind, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
/* {"Target": name, "Aliases":…, "DriverOpts":…}; the name becomes an id later. */
int spec_network(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_ulimit(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_preference(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_generic_resource(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
/* "host:ip" -> "ip host". */
int spec_host(const char *text, char **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_credential(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
/* key=value pairs into an object; without "=" the value is empty. */
json_t *spec_labels(const struct str_list *pairs);
/* --env and --env-file into a list; the last of one name wins. */
int spec_env(const struct str_list *files, const struct str_list *vars, json_t **out,
             struct mesh_err *err) MESH_MUST_CHECK;
/* "net_admin" -> "CAP_NET_ADMIN" */
char *spec_capability(const char *text);

#endif
