/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  what the files of the image store share: images on disk (image_store.c), one job at work (image_fetch_uv.c),
 *        the queue of jobs (images_uv.c).
 * Life:  a job is its own until job_end or job_fail, which answer whoever waits and free it.
 */
#ifndef CONTROL_AGENT_IMAGES_INT_H
#define CONTROL_AGENT_IMAGES_INT_H

#include "base/map.h"
#include "base/mem.h"
#include "control/agent/child_uv.h"
#include "control/agent/image_config.h"
#include "control/agent/images.h"

struct waiter {
	images_cb cb;
	images_progress progress;
	void *arg;
};

enum job_kind { JOB_PULL, JOB_LOAD, JOB_INSPECT };
struct job {
	struct images *im;
	enum job_kind kind;
	char *ref;  /* normalized; pulls */
	char *auth; /* path of an authfile, or NULL */
	char *path; /* loads */
	char *tmp;  /* temporary directory */
	char *src;  /* skopeo transport reference */
	char *digest;
	bool insecure, docker, layout; /* layout: a directory */
	struct str_list refs, tags;    /* loads: what is still to do */
	size_t at;
	char id[72];
	struct VEC(struct waiter) waiters;
	images_inspect_cb inspect_cb;
	void *inspect_arg;
	struct image *last;
};

struct images {
	uv_loop_t *loop;
	char *dir;
	struct VEC(struct image *) all; /* newest first */
	struct VEC(struct job *) waiting;
	struct VEC(struct job *) running;
	uv_timer_t soon; /* answers that need no work still come from the loop */
	struct VEC(struct job *) ready;
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* ---- image_store.c ---- */
/* dir/<hex>; the caller frees. */
char *image_dir(const struct images *im, const char *id);
/* From its directory; NULL when it is not whole. */
struct image *image_open(struct images *im, const char *id, struct mesh_err *err);
void image_free(struct image *i);
int image_index_save(struct images *im, struct mesh_err *err) MESH_MUST_CHECK;
int image_index_load(struct images *im, struct mesh_err *err) MESH_MUST_CHECK;
/* Temporary directories of a crash, and images no index names. */
void image_sweep(struct images *im);
/* The name as an image keeps it, whatever way it was written. */
int image_name(const char *ref, char out[512]);
/* A name belongs to one image: it moves. */
void image_move_tag(struct images *im, struct image *to, const char *name);

/* ---- images_uv.c ---- */
void job_end(struct job *j, int code, const struct image *image, const struct mesh_err *err);
void job_fail(struct job *j, int code, const char *fmt, ...) MESH_PRINTF(3, 4);
void job_say(struct job *j, const char *fmt, ...) MESH_PRINTF(2, 3); /* progress, to all who wait */

/* ---- image_fetch_uv.c ---- */
void job_start(struct job *j);

#endif
