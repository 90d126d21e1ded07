/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: images as the disk holds them: the index, their directories, their names. */
#include "control/agent/images_int.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"

struct record { /* as the index on disk holds it */
	char *id;
	struct str_list tags, digests; /* as shown: "nginx:latest", "nginx@sha256:..." */
	int64_t size;
};
struct index_file {
	SCH_LIST(struct record) images;
};
#define T struct record
static const struct sch_field record_fields[] = {
	SF(1, STR, "id", id, 0),
	SF(2, STRS, "tags", tags, 0),
	SF(3, STRS, "digests", digests, 0),
	SF(4, I64, "size", size, 0),
};
static SCHEMA(record_schema, record, record_fields);
#undef T
#define T struct index_file
static const struct sch_field index_fields[] = { SF_LIST(1, "images", images, &record_schema, 0) };
static SCHEMA(index_schema, index_file, index_fields);
#undef T

/* "sha256:abc" -> dir/abc */
char *image_dir(const struct images *im, const char *id)
{
	return xasprintf("%s/%s", im->dir, strchr(id, ':') ? strchr(id, ':') + 1 : id);
}

void image_free(struct image *i)
{
	if (!i)
		return;
	strs_clear(&i->tags);
	strs_clear(&i->digests);
	image_config_clear(&i->config);
	free(i->rootfs);
	free(i);
}

int image_index_save(struct images *im, struct mesh_err *err)
{
	struct index_file f = { 0 };
	struct buf b = { 0 };
	char path[PATH_MAX];
	for (size_t i = 0; i < im->all.len; i++) {
		struct image *img = im->all.data[i];
		struct record *r = LIST_ADD(&f.images);
		r->id = xstrdup(img->id);
		r->size = img->size_bytes;
		for (size_t k = 0; k < img->tags.n; k++)
			strs_add(&r->tags, img->tags.v[k]);
		for (size_t k = 0; k < img->digests.n; k++)
			strs_add(&r->digests, img->digests.v[k]);
	}
	sch_encode(&index_schema, &f, &b);
	snprintf(path, sizeof(path), "%s/index", im->dir);
	int rc = fs_write(path, b.data, b.len, 0600, FS_SYNC, err);
	buf_fini(&b);
	sch_clear(&index_schema, &f);
	return rc;
}

struct image *image_open(struct images *im, const char *id, struct mesh_err *err)
{
	CLEAN_FREE char *dir = image_dir(im, id);
	CLEAN_FREE char *config = xasprintf("%s/config.json", dir);
	struct image *img = XNEW(struct image);
	struct buf b = { 0 };
	snprintf(img->id, sizeof(img->id), "%s", id);
	img->rootfs = xasprintf("%s/rootfs", dir);
	int rc = fs_read(config, CHILD_OUT_MAX, &b, NULL);
	if (!rc && access(img->rootfs, F_OK))
		rc = -errno;
	if (!rc)
		rc = image_config_parse((char *)b.data, b.len, &img->config, err);
	buf_fini(&b);
	if (rc) {
		image_free(img);
		return NULL;
	}
	return img;
}

int image_index_load(struct images *im, struct mesh_err *err)
{
	struct index_file f = { 0 };
	struct buf b = { 0 };
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/index", im->dir);
	int rc = fs_read(path, CHILD_OUT_MAX, &b, NULL);
	if (rc == -ENOENT)
		rc = 0;
	else if (rc)
		rc = mesh_fail(err, rc, "cannot read '%s'", path);
	else if (sch_decode(&index_schema, &f, b.data, b.len))
		rc = mesh_fail(err, MESH_E_CORRUPT, "'%s' is damaged; remove '%s' and load the images again", path,
		               im->dir);
	for (size_t i = 0; !rc && i < f.images.n; i++) {
		struct record *r = &f.images.v[i];
		struct image *img = r->id ? image_open(im, r->id, NULL) : NULL;
		if (!img) {
			log_warn("an image is incomplete and was dropped id=%s", r->id ? r->id : "");
			continue;
		}
		img->size_bytes = r->size;
		img->tags = r->tags;
		img->digests = r->digests;
		r->tags = r->digests = (struct str_list){ 0 };
		vec_push(&im->all, img);
	}
	buf_fini(&b);
	sch_clear(&index_schema, &f);
	return rc;
}

/* Temporary directories of a crash, and images no index names. */
void image_sweep(struct images *im)
{
	DIR *d = opendir(im->dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		char path[PATH_MAX];
		bool known = e->d_name[0] == '.' || streq(e->d_name, "index");
		for (size_t i = 0; i < im->all.len && !known; i++)
			known = streq(strchr(im->all.data[i]->id, ':') + 1, e->d_name);
		if (known && strncmp(e->d_name, ".tmp", 4) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", im->dir, e->d_name);
		fs_remove_tree(path);
	}
	if (d)
		closedir(d);
}

/* ---- finding ---- */

/* The name as an image keeps it, whatever way it was written. */
int image_name(const char *ref, char out[512])
{
	char full[512];
	int rc = image_ref_normalize(ref, full, NULL);
	if (!rc)
		image_ref_familiar(full, out);
	return rc;
}

static bool has_tag(const struct image *i, const char *name)
{
	return strs_has(&i->tags, name);
}

static bool has_digest(const struct image *i, const char *normalized)
{
	/* "repo:tag@digest" matches "repo@digest" */
	const char *at = strchr(normalized, '@');
	for (size_t k = 0; at && k < i->digests.n; k++) {
		const char *mine = strchr(i->digests.v[k], '@');
		size_t repo = mine ? (size_t)(mine - i->digests.v[k]) : 0;
		if (mine && streq(mine, at) && strncmp(i->digests.v[k], normalized, repo) == 0)
			return true;
	}
	return at && streq(at + 1, i->id);
}

const struct image *images_find(struct images *im, const char *ref)
{
	char name[512];
	const struct image *found = NULL;
	if (image_name(ref, name) == 0)
		for (size_t i = 0; i < im->all.len; i++)
			if (strchr(name, '@') ? has_digest(im->all.data[i], name) : has_tag(im->all.data[i], name))
				return im->all.data[i];
	const char *hex = strncmp(ref, "sha256:", 7) == 0 ? ref + 7 : ref;
	size_t n = strlen(hex);
	if (n < 4 || strspn(hex, "0123456789abcdef") != n)
		return NULL;
	for (size_t i = 0; i < im->all.len; i++) {
		if (strncmp(im->all.data[i]->id + 7, hex, n) != 0)
			continue;
		if (found)
			return NULL;
		found = im->all.data[i];
	}
	return found;
}

size_t images_list(struct images *im, const struct image *const **out)
{
	*out = (const struct image *const *)im->all.data;
	return im->all.len;
}

/* A name belongs to one image: it moves. */
void image_move_tag(struct images *im, struct image *to, const char *name)
{
	for (size_t i = 0; i < im->all.len; i++) {
		struct str_list *l = &im->all.data[i]->tags;
		for (size_t k = 0; k < l->n; k++) {
			if (!streq(l->v[k], name))
				continue;
			free(l->v[k]);
			memmove(&l->v[k], &l->v[k + 1], (l->n - k - 1) * sizeof(*l->v));
			l->n--;
			break;
		}
	}
	strs_add(&to->tags, name);
}

/* ---- changing ---- */

static void drop_image(struct images *im, struct image *img)
{
	CLEAN_FREE char *dir = image_dir(im, img->id);
	for (size_t i = 0; i < im->all.len; i++)
		if (im->all.data[i] == img) {
			vec_remove(&im->all, i);
			break;
		}
	fs_remove_tree(dir);
	image_free(img);
}

void images_remove(struct images *im, const char *ref, bool force, bool (*in_use)(void *arg, const char *id),
                   images_cb cb, void *arg)
{
	struct mesh_err err = { 0 };
	char name[512];
	struct image *img = (struct image *)(uintptr_t)images_find(im, ref);
	int rc = 0;
	if (!img) {
		rc = mesh_fail(&err, MESH_E_NOT_FOUND, "No such image: %s", ref);
		cb(arg, rc, NULL, &err);
		return;
	}
	bool by_name = image_name(ref, name) == 0 && has_tag(img, name);
	if (by_name && img->tags.n > 1) {
		struct image keep = { 0 };
		image_move_tag(im, &keep, name); /* takes the name away */
		strs_clear(&keep.tags);
	} else if (!force && in_use && in_use(arg, img->id)) {
		rc = mesh_fail(&err, MESH_E_CONFLICT,
		               "conflict: unable to remove repository reference \"%s\" (must force) - a container uses "
		               "image %.12s",
		               ref, img->id + 7);
	} else {
		drop_image(im, img);
		img = NULL;
	}
	if (!rc)
		rc = image_index_save(im, &err);
	cb(arg, rc, img, rc ? &err : NULL);
}

int images_tag(struct images *im, const char *ref, const char *new_ref, struct mesh_err *err)
{
	char name[512];
	struct image *img = (struct image *)(uintptr_t)images_find(im, ref);
	if (!img)
		return mesh_fail(err, MESH_E_NOT_FOUND, "No such image: %s", ref);
	int rc = image_ref_normalize(new_ref, name, err);
	if (rc)
		return rc;
	if (strchr(name, '@'))
		return mesh_fail(err, MESH_E_INVALID, "refusing to create a tag with a digest reference");
	(void)image_name(new_ref, name);
	image_move_tag(im, img, name);
	return image_index_save(im, err);
}
