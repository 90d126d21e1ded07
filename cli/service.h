/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   services as the CLI makes and changes them; shared by service*.c.
 * Owner:  results are new references or heap strings of the caller.
 */
#ifndef MESH_CLI_SERVICE_H
#define MESH_CLI_SERVICE_H

#include <jansson.h>

#include "cli/command.h"

extern const struct command service_create_command, service_inspect_command, service_logs_command,
	service_rebalance_command, service_split_command, service_update_command;

/* The parts of a service's split, one a line; nothing when it has none. */
void service_split_print(struct cli *c, const json_t *service);

/* Flags of "service create" -> ServiceSpec with names where ids belong. Pure. */
int service_spec_create(struct cli *c, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Applies the flags of "service update" to a spec as the daemon gave it; asks for what the new ones name. */
int service_spec_update(struct cli *c, json_t *spec, struct mesh_err *err) MESH_MUST_CHECK;
/* Networks, secrets and configs: names -> ids, asked of the daemon. */
int service_references(struct cli *c, json_t *spec, struct mesh_err *err) MESH_MUST_CHECK;
/* *headers: "X-Registry-Auth: …\r\n" when --with-registry-auth, else NULL. */
int service_credentials(struct cli *c, const char *image, char **headers, struct mesh_err *err) MESH_MUST_CHECK;
/* Pins the image's digest when somebody knows it; false when nobody did. */
bool service_pin_image(struct cli *c, json_t *spec, const char *headers);
/* Writes the tag that is meant where none is said; true. */
bool service_tag_image(json_t *spec);
int service_rollback(struct cli *c, const char *name, const char *query, bool detach, bool quiet,
                     struct mesh_err *err) MESH_MUST_CHECK;
/* "name" or "name:tag" -> with ":latest" where nothing is said. */
char *image_with_tag(const char *image);
/* X-Registry-Auth for an image from ~/.docker/config.json, or NULL. */
char *registry_auth(const char *image);

#endif
