/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    this node's images: brought in by skopeo (registry, docker archive, OCI archive, OCI layout), unpacked
 *          once by umoci into a read-only root filesystem that tasks use as their overlay's lower layer.
 * Files:   dir/blobs shared by all; dir/<config digest>/ {oci layout, rootfs, config.json (raw image config, with the
 *          Healthcheck that conversion drops)}; dir/index: names -> image. Everything is made in a
 *          temporary directory and renamed when complete; leftovers of a crash are removed at open.
 * Names:   as Docker: "nginx" = docker.io/library/nginx:latest; shown short ("nginx:latest").
 * Loop:    libuv; children do the work, callbacks on the loop's thread.
 */
#ifndef CONTROL_AGENT_IMAGES_H
#define CONTROL_AGENT_IMAGES_H

#include <uv.h>

#include "base/schema.h"
#include "control/model/model.h"

struct images;

struct image_config { /* from the image's own configuration */
	struct str_list entrypoint, cmd, env;
	char *user, *dir, *stop_signal;
	struct str_list exposed; /* "8000/tcp" */
	struct str_list volumes;
	struct str_map labels;
	struct md_health *health;
	char *architecture, *os;
	int64_t created;
};
struct image {
	char id[72];             /* "sha256:<hex>": digest of the raw image config, as docker shows it */
	struct str_list tags;    /* "nginx:latest" */
	struct str_list digests; /* "nginx@sha256:..." manifest digest in its registry */
	int64_t size_bytes;
	struct image_config config;
	char *rootfs; /* absolute, unpacked, never written to */
};

int images_open(uv_loop_t *loop, const char *dir, struct images **out, struct mesh_err *err) MESH_MUST_CHECK;
void images_close(struct images *im, void (*cb)(void *arg), void *arg);

/* By name, name@digest, id or unique id prefix; NULL when absent. Borrowed until the next change. */
const struct image *images_find(struct images *im, const char *ref);
/* All, newest first; borrowed. */
size_t images_list(struct images *im, const struct image *const **out);

typedef void (*images_cb)(void *arg, int code, const struct image *image, const struct mesh_err *err);
/* Progress lines for a person ("Loading layer 3/5"); may be NULL. */
typedef void (*images_progress)(void *arg, const char *line);
/*
 * Brings ref in if it is not here (a ref with digest, or policy_always=false and present: no registry is asked).
 * auth: X-Registry-Auth (base64 JSON) or NULL. Errors in the registry's words: "No such image: nosuch:9" when it
 * says so, "unauthorized: authentication required", ... Two calls for one ref share the work.
 */
void images_pull(struct images *im, const char *ref, const char *auth, bool policy_always, images_progress progress,
                 images_cb cb, void *arg);
/* path: a docker archive or OCI archive (plain, gzip, xz, zstd) or a directory with an OCI layout. */
void images_load(struct images *im, const char *path, images_progress progress, images_cb cb, void *arg);
/* MESH_E_CONFLICT when a container uses it (in_use says so) and not force. */
void images_remove(struct images *im, const char *ref, bool force, bool (*in_use)(void *arg, const char *id),
                   images_cb cb, void *arg);
int images_tag(struct images *im, const char *ref, const char *new_ref, struct mesh_err *err) MESH_MUST_CHECK;
/* Tag -> digest at the registry, without pulling: "sha256:...", its media type and platforms. */
struct image_remote {
	char digest[72];
	char media_type[96];
	int64_t size;
	struct {
		struct md_platform *v;
		size_t n;
	} platforms;
};
typedef void (*images_inspect_cb)(void *arg, int code, const struct image_remote *r, const struct mesh_err *err);
void images_inspect_remote(struct images *im, const char *ref, const char *auth, images_inspect_cb cb, void *arg);

/* "nginx" -> "docker.io/library/nginx:latest"; MESH_E_INVALID names what is wrong ("invalid reference format"). */
int image_ref_normalize(const char *ref, char out[512], struct mesh_err *err) MESH_MUST_CHECK;
/* "docker.io/library/nginx:latest" -> "nginx:latest". */
void image_ref_familiar(const char *normalized, char out[512]);

#endif
