/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the queue of jobs of the image store, and the store's life. */
#include "control/agent/images_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"

#define MAX_PULLS 2

/* ---- jobs ---- */

static void start_more(struct images *im);

static void job_free(struct job *j)
{
	if (j->tmp)
		fs_remove_tree(j->tmp);
	free(j->ref);
	free(j->auth);
	free(j->path);
	free(j->tmp);
	free(j->src);
	free(j->digest);
	strs_clear(&j->refs);
	strs_clear(&j->tags);
	vec_fini(&j->waiters);
	free(j);
}

static void maybe_closed(struct images *im);

void job_end(struct job *j, int code, const struct image *image, const struct mesh_err *err)
{
	struct images *im = j->im;
	for (size_t i = 0; i < im->running.len; i++)
		if (im->running.data[i] == j) {
			vec_remove(&im->running, i);
			break;
		}
	for (size_t i = 0; i < j->waiters.len; i++)
		if (j->waiters.data[i].cb)
			j->waiters.data[i].cb(j->waiters.data[i].arg, code, image, err);
	job_free(j);
	start_more(im);
	maybe_closed(im);
}

void job_fail(struct job *j, int code, const char *fmt, ...)
{
	struct mesh_err err = { 0 };
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err.msg, sizeof(err.msg), fmt, ap);
	va_end(ap);
	err.code = code;
	if (j->kind == JOB_INSPECT && j->inspect_cb)
		j->inspect_cb(j->inspect_arg, code, NULL, &err);
	job_end(j, code, NULL, &err);
}

void job_say(struct job *j, const char *fmt, ...)
{
	char line[600];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < j->waiters.len; i++)
		if (j->waiters.data[i].progress)
			j->waiters.data[i].progress(j->waiters.data[i].arg, line);
}

/* ---- queue ---- */

static void on_soon(uv_timer_t *t)
{
	struct images *im = CONTAINER_OF(t, struct images, soon);
	while (im->ready.len) {
		struct job *j = im->ready.data[0];
		vec_remove(&im->ready, 0);
		vec_push(&im->running, j);
		if (j->kind == JOB_PULL && j->last)
			job_end(j, 0, j->last, NULL);
		else
			job_fail(j, MESH_E_INVALID, "invalid reference format: '%s'", j->ref ? j->ref : "");
	}
	start_more(im);
	maybe_closed(im);
}

static void start_more(struct images *im)
{
	while (!im->closing && im->running.len < MAX_PULLS && im->waiting.len) {
		struct job *j = im->waiting.data[0];
		vec_remove(&im->waiting, 0);
		vec_push(&im->running, j);
		job_start(j);
	}
}

static struct job *job_new(struct images *im, enum job_kind kind, images_progress progress, images_cb cb, void *arg)
{
	struct job *j = XNEW(struct job);
	struct waiter w = { cb, progress, arg };
	j->im = im;
	j->kind = kind;
	vec_push(&j->waiters, w);
	return j;
}

static void enqueue(struct images *im, struct job *j, bool ready)
{
	if (ready)
		vec_push(&im->ready, j);
	else
		vec_push(&im->waiting, j);
	uv_timer_start(&im->soon, on_soon, 0, 0);
}

static struct job *same_pull(struct images *im, const char *ref)
{
	for (size_t i = 0; i < im->running.len; i++)
		if (im->running.data[i]->kind == JOB_PULL && streq(im->running.data[i]->ref, ref))
			return im->running.data[i];
	for (size_t i = 0; i < im->waiting.len; i++)
		if (im->waiting.data[i]->kind == JOB_PULL && streq(im->waiting.data[i]->ref, ref))
			return im->waiting.data[i];
	return NULL;
}

void images_pull(struct images *im, const char *ref, const char *auth, bool policy_always, images_progress progress,
                 images_cb cb, void *arg)
{
	char name[512];
	struct job *j;
	const struct image *here = policy_always ? NULL : images_find(im, ref);
	if (here || image_ref_normalize(ref, name, NULL)) {
		j = job_new(im, JOB_PULL, progress, cb, arg);
		str_set(&j->ref, ref);
		j->last = (struct image *)(uintptr_t)here;
		enqueue(im, j, true);
		return;
	}
	j = same_pull(im, name);
	if (j) {
		struct waiter w = { cb, progress, arg };
		vec_push(&j->waiters, w);
		return;
	}
	j = job_new(im, JOB_PULL, progress, cb, arg);
	str_set(&j->ref, name);
	str_set(&j->auth, auth);
	enqueue(im, j, false);
}

void images_load(struct images *im, const char *path, images_progress progress, images_cb cb, void *arg)
{
	struct job *j = job_new(im, JOB_LOAD, progress, cb, arg);
	str_set(&j->path, path);
	enqueue(im, j, false);
}

void images_inspect_remote(struct images *im, const char *ref, const char *auth, images_inspect_cb cb, void *arg)
{
	char name[512];
	struct job *j = job_new(im, JOB_INSPECT, NULL, NULL, NULL);
	j->inspect_cb = cb;
	j->inspect_arg = arg;
	bool bad = image_ref_normalize(ref, name, NULL) != 0;
	str_set(&j->ref, bad ? ref : name);
	str_set(&j->auth, auth);
	enqueue(im, j, bad);
}

/* ---- life ---- */

int images_open(uv_loop_t *loop, const char *dir, struct images **out, struct mesh_err *err)
{
	struct images *im = XNEW(struct images);
	im->loop = loop;
	im->dir = xstrdup(dir);
	int rc = mkdir(dir, 0711) && errno != EEXIST ? mesh_fail(err, -errno, "cannot make '%s'", dir) : 0;
	if (!rc)
		rc = image_index_load(im, err);
	if (rc) {
		free(im->dir);
		vec_fini(&im->all);
		free(im);
		return rc;
	}
	image_sweep(im);
	uv_timer_init(loop, &im->soon);
	*out = im;
	return 0;
}

static void on_soon_closed(uv_handle_t *h)
{
	struct images *im = CONTAINER_OF(h, struct images, soon);
	void (*cb)(void *) = im->closed;
	void *arg = im->closed_arg;
	for (size_t i = 0; i < im->all.len; i++)
		image_free(im->all.data[i]);
	vec_fini(&im->all);
	vec_fini(&im->waiting);
	vec_fini(&im->running);
	vec_fini(&im->ready);
	free(im->dir);
	free(im);
	if (cb)
		cb(arg);
}

/* Gone when the last child has ended. */
static void maybe_closed(struct images *im)
{
	if (im->closing && !im->running.len && !uv_is_closing((uv_handle_t *)&im->soon))
		uv_close((uv_handle_t *)&im->soon, on_soon_closed);
}

void images_close(struct images *im, void (*cb)(void *arg), void *arg)
{
	im->closing = true;
	im->closed = cb;
	im->closed_arg = arg;
	for (size_t i = 0; i < im->waiting.len; i++)
		job_free(im->waiting.data[i]);
	im->waiting.len = 0;
	maybe_closed(im);
}
