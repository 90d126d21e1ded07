/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: an image's configuration (OCI image spec, Docker image spec v1.2) from its JSON. Foreign bytes, bounded. */
#ifndef CONTROL_AGENT_IMAGE_CONFIG_H
#define CONTROL_AGENT_IMAGE_CONFIG_H

#include "control/agent/images.h"

/* out zeroed; cleared by image_config_clear also after an error. */
int image_config_parse(const char *json, size_t n, struct image_config *out, struct mesh_err *err) MESH_MUST_CHECK;
void image_config_clear(struct image_config *c);

/* Names inside an archive. docker: manifest.json; oci: index.json. refs get what skopeo's transport takes ("name:tag", "@0"). */
int image_archive_refs(const char *json, size_t n, bool docker, struct str_list *refs, struct str_list *tags,
                       struct mesh_err *err) MESH_MUST_CHECK;

/* X-Registry-Auth to "user:password"; MESH_E_INVALID when it is not one. */
int image_auth_decode(const char *base64, char *out, size_t size) MESH_MUST_CHECK;
/* The text of an authfile with one registry; caller wipes and frees. */
char *image_auth_file(const char *host, const char *user_pass);

#endif
