/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: what "service create" and "service update" share of turning flags into a ServiceSpec. Private to cli/service_*.c.
 * Paths ("TaskTemplate.ContainerSpec.Env") are made when something is put there; a flag that was not given changes nothing.
 */
#ifndef CLI_SERVICE_SPEC_H
#define CLI_SERVICE_SPEC_H

#include "cli/api.h"
#include "cli/service.h"

#define TASK "TaskTemplate."
#define CSPEC "TaskTemplate.ContainerSpec."

void spec_set_str(struct cli *c, const char *flag, json_t *spec, const char *path);
void spec_set_int(struct cli *c, const char *flag, json_t *spec, const char *path);
json_t *spec_strings(const struct str_list *l);
void spec_set_list(struct cli *c, const char *flag, json_t *spec, const char *path);
void spec_sort(json_t *array, const char *key);
int spec_check_words(struct cli *c, struct mesh_err *err) MESH_MUST_CHECK;
int spec_set_health(struct cli *c, json_t *spec, struct mesh_err *err) MESH_MUST_CHECK;
int spec_set_words(struct cli *c, const char *flag, json_t *spec, const char *path,
                   struct mesh_err *err) MESH_MUST_CHECK;
int spec_set_credential(struct cli *c, json_t *spec, struct mesh_err *err) MESH_MUST_CHECK;
void spec_set_common(struct cli *c, json_t *spec);
int spec_parse_each(struct cli *c, const char *flag, int (*fn)(const char *, json_t **, struct mesh_err *),
                    json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_secret_ref(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_config_ref(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_host_json(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_capability_json(const char *text, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
int spec_network_id(struct cli *c, json_t *n, struct mesh_err *err) MESH_MUST_CHECK;
int spec_file_ids(struct cli *c, json_t *refs, const char *kind, struct mesh_err *err) MESH_MUST_CHECK;

#endif
