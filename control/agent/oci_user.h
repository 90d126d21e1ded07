/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   who a container runs as: "user", "uid", "user:group", "uid:gid" looked up in the image's own
 *         /etc/passwd and /etc/group (foreign text, may be NULL), as docker does.
 * Pure.   Errors: MESH_E_INVALID "unable to find user x: no matching entries in passwd file".
 */
#ifndef CONTROL_AGENT_OCI_USER_H
#define CONTROL_AGENT_OCI_USER_H

#include <stdint.h>

#include "base/schema.h"

#define OCI_GROUPS_MAX 64
struct oci_user {
	uint32_t uid, gid;
	uint32_t groups[OCI_GROUPS_MAX]; /* supplementary */
	size_t n;
	char home[256]; /* "/" when unknown */
};
int oci_user_resolve(const char *user, const struct str_list *extra_groups, const char *passwd, const char *group,
                     struct oci_user *out, struct mesh_err *err) MESH_MUST_CHECK;
/* path below dir as a process chrooted there would see it, at most 1 MiB; NULL when absent. Caller frees. */
char *oci_read_in_root(const char *root, const char *path);

#endif
