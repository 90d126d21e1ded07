/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   config.json: what a task's spec, its image and this machine come to in the OCI runtime's words.
 *         Docker's defaults: 14 capabilities, masked and read-only paths, devices, seccomp profile.
 * Pure:   but for the seccomp profile, read once (oci_seccomp_load). Paths are not looked at.
 * Owner:  struct oci_out is freed by oci_out_fini.
 * Errors: MESH_E_INVALID / MESH_E_UNSUPPORTED with docker's words where it has some.
 */
#ifndef CONTROL_AGENT_OCI_SPEC_H
#define CONTROL_AGENT_OCI_SPEC_H

#include "control/agent/agent.h"
#include "control/agent/images.h"
#include "control/agent/oci_user.h"
#include "control/model/tmpl.h"

struct oci_host {                     /* what this machine can do */
	uint64_t caps;                /* our bounding set */
	int cap_last;                 /* highest capability the kernel knows */
	bool memory, swap, cpu, pids; /* limits that can be enforced */
	bool net_sysctls;             /* the runtime takes net.* with /proc/self/ns/net */
	uint64_t (*rlimit_hard)(int resource);
};
void oci_host_probe(struct oci_host *h);

struct oci_volume { /* where a named volume's data is, or what to mount for it */
	char path[512];
	char type[32], options[512];
};
struct oci_in {
	const struct md_task *task;
	const struct image_config *image;
	const struct tmpl_vars *vars;
	const struct oci_host *host;
	const char *container_id;
	const char *dir;            /* TASK */
	const char *cgroup;         /* "/mesh-x/<task>" */
	const char *shim;           /* for spec.init */
	const char *passwd, *group; /* texts from the image, may be NULL */
	bool host_network;
	int (*volume)(void *arg, const struct md_mount *m, struct oci_volume *out, struct mesh_err *err);
	void *arg;
};
struct oci_copy { /* an empty volume that starts with what the image has at target */
	char *path, *target;
};
struct oci_out {
	char *json;
	char *hostname;
	char *hosts, *resolv;    /* texts of the files in TASK */
	struct str_list mkdirs;  /* to be made: anonymous volumes, bind sources that may be created */
	struct str_list sources; /* bind sources that must exist */
	SCH_LIST(struct oci_copy) copies;
};
void oci_out_fini(struct oci_out *o);
int oci_spec_make(const struct oci_in *in, struct oci_out *out, struct mesh_err *err) MESH_MUST_CHECK;

/* process.json of an exec: like the container's own process but for what spec says. Caller frees. */
int oci_exec_make(const struct oci_in *in, const struct agent_exec_spec *spec, char **json,
                  struct mesh_err *err) MESH_MUST_CHECK;

/* The image's health check with what the spec overrides; false: there is none. h owns nothing. */
bool oci_health(const struct md_health *spec, const struct md_health *image, struct md_health *h);
/* "SIGTERM", "term", "15", "SIGRTMIN+3"; 0 when it is none. */
int oci_signal_parse(const char *s);
/* Path inside the container of a secret ("/run/secrets/x") or config ("/x"). Caller frees. */
char *oci_file_path(const struct md_file_target *f, const char *name, const char *dir);

/* ---- oci_seccomp.c ---- */

struct json_t; /* jansson: its type is seen by this folder only */
/* Docker's profile format to OCI's, for the native architecture and a set of capabilities. New reference. */
struct json_t *oci_seccomp_convert(struct json_t *docker, uint64_t caps, struct mesh_err *err);
/* The default profile, converted once a set of capabilities. New reference; NULL: this host has none. */
struct json_t *oci_seccomp_default(uint64_t caps);

/* ---- capabilities ---- */
/* "CAP_CHOWN", "chown"; -1 when there is none of that name. */
int oci_cap_parse(const char *name);
const char *oci_cap_name(int cap);

#endif
