/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what the parts of oci_spec.h share: small JSON values, and the sections of config.json that have a file. Private to oci_*.c. */
#ifndef CONTROL_AGENT_OCI_PARTS_H
#define CONTROL_AGENT_OCI_PARTS_H

#include <jansson.h>

#include "control/agent/oci_spec.h"

json_t *jstr(const char *s); /* NULL as "" */
json_t *jstrs(const char *const *v, size_t n);
json_t *jlist(const struct str_list *l);
/* Steals root. */
int oci_dump(json_t *root, char **out, struct mesh_err *err) MESH_MUST_CHECK;

/* What of the machine's capabilities the task has. */
int oci_caps_of(const struct oci_in *in, uint64_t *out, struct mesh_err *err) MESH_MUST_CHECK;
/* New references. */
int oci_process_make(const struct oci_in *in, const char *hostname, uint64_t caps, json_t **out,
                     struct mesh_err *err) MESH_MUST_CHECK;
int oci_mounts_make(const struct oci_in *in, struct oci_out *out, json_t **list, struct mesh_err *err) MESH_MUST_CHECK;

#endif
