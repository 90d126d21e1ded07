/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image comes in by a short chain of children, each step a function below: what is it called and which digest has
 * it, its raw configuration, its layers into a layout, the layout into a root filesystem, then one rename and one
 * new index. A crash anywhere leaves a temporary directory, which the next open removes.
 */
#include "control/agent/images.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "control/agent/child_uv.h"
#include "control/agent/image_config.h"

#define MAX_PULLS 2
#define INSECURE_FILE "/etc/mesh/insecure-registries"

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

/* ---- disk ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	(void)remove(path); /* leftovers are tried again at the next open */
	return 0;
}

static void remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int64_t tree_bytes;
static int size_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path, (void)ftw;
	if (type == FTW_F)
		tree_bytes += st->st_size;
	return 0;
}

static int64_t tree_size(const char *path)
{
	tree_bytes = 0;
	(void)nftw(path, size_one, 32, FTW_PHYS | FTW_MOUNT);
	return tree_bytes;
}

static int write_file(const char *path, const void *p, size_t n, struct mesh_err *err)
{
	char tmp[PATH_MAX];
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	CLEAN_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return mesh_fail(err, -errno, "cannot create '%s'", tmp);
	ssize_t w = write(fd, p, n);
	if (w != (ssize_t)n || fdatasync(fd) || rename(tmp, path)) {
		int rc = w >= 0 && w != (ssize_t)n ? -ENOSPC : -errno;
		(void)unlink(tmp);
		return mesh_fail(err, rc, "cannot write '%s'", path);
	}
	return 0;
}

static int read_file(const char *path, struct buf *out)
{
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, buf_reserve(out, 16384), 16384);
		if (n <= 0)
			return n ? -errno : 0;
		out->len += (size_t)n;
		if (out->len > CHILD_OUT_MAX)
			return -EFBIG;
	}
}

/* "sha256:abc" -> dir/abc */
static char *image_dir(const struct images *im, const char *id)
{
	return xasprintf("%s/%s", im->dir, strchr(id, ':') ? strchr(id, ':') + 1 : id);
}

static void image_free(struct image *i)
{
	if (!i)
		return;
	strs_clear(&i->tags);
	strs_clear(&i->digests);
	image_config_clear(&i->config);
	free(i->rootfs);
	free(i);
}

static int save_index(struct images *im, struct mesh_err *err)
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
	int rc = write_file(path, b.data, b.len, err);
	buf_fini(&b);
	sch_clear(&index_schema, &f);
	return rc;
}

static struct image *image_open(struct images *im, const char *id, struct mesh_err *err)
{
	CLEAN_FREE char *dir = image_dir(im, id);
	CLEAN_FREE char *config = xasprintf("%s/config.json", dir);
	struct image *img = XNEW(struct image);
	struct buf b = { 0 };
	snprintf(img->id, sizeof(img->id), "%s", id);
	img->rootfs = xasprintf("%s/rootfs", dir);
	int rc = read_file(config, &b);
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

static int load_index(struct images *im, struct mesh_err *err)
{
	struct index_file f = { 0 };
	struct buf b = { 0 };
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/index", im->dir);
	int rc = read_file(path, &b);
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
static void sweep(struct images *im)
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
		remove_tree(path);
	}
	if (d)
		closedir(d);
}

/* ---- finding ---- */

/* The name as an image keeps it, whatever way it was written. */
static int name_of(const char *ref, char out[512])
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
	if (name_of(ref, name) == 0)
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
static void move_tag(struct images *im, struct image *to, const char *name)
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

/* ---- jobs ---- */

static void start_more(struct images *im);

static void job_free(struct job *j)
{
	if (j->tmp)
		remove_tree(j->tmp);
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

static void job_end(struct job *j, int code, const struct image *image, const struct mesh_err *err)
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

static void job_fail(struct job *j, int code, const char *fmt, ...) MESH_PRINTF(3, 4);
static void job_fail(struct job *j, int code, const char *fmt, ...)
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

static void say(struct job *j, const char *fmt, ...) MESH_PRINTF(2, 3);
static void say(struct job *j, const char *fmt, ...)
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

static void on_stderr(void *arg, const char *line)
{
	struct job *j = arg;
	if (*line && !strstr(line, "level=") && j->kind != JOB_INSPECT)
		say(j, "%s", line);
}

static void run(struct job *j, const char *const *argv, child_done done)
{
	child_run(j->im->loop, argv, on_stderr, done, j);
}

/* argv for skopeo with what the registry needs. */
static size_t skopeo(struct job *j, const char **argv, const char *verb, bool source_prefix)
{
	size_t n = 0;
	argv[n++] = "skopeo";
	argv[n++] = verb;
	if (j->kind == JOB_PULL || j->kind == JOB_INSPECT) {
		argv[n++] = "--authfile";
		argv[n++] = j->auth;
		argv[n++] = source_prefix ? (j->insecure ? "--src-tls-verify=false" : "--src-tls-verify=true")
		                          : (j->insecure ? "--tls-verify=false" : "--tls-verify=true");
	}
	return n;
}

static bool disk_full(const char *text)
{
	return strstr(text, "no space left on device") != NULL;
}

/* A child failed: in whose words, and which code. */
static void tool_failed(struct job *j, int code, struct buf *errout)
{
	const char *text = child_complaint(errout);
	char familiar[512] = "";
	if (j->ref)
		image_ref_familiar(j->ref, familiar);
	if (code < 0) {
		job_fail(j, MESH_E_RUNTIME, "%s (packages skopeo and umoci)", text);
	} else if (disk_full(text)) {
		job_fail(j, -ENOSPC, "no space left on the device of '%s'; nothing was kept", j->im->dir);
	} else if (j->kind == JOB_LOAD) {
		job_fail(j, MESH_E_INVALID, "cannot load '%s': %s", j->path, *text ? text : "not an image archive");
	} else if (strstr(text, "unauthorized") || strstr(text, "authentication required") || strstr(text, "denied")) {
		job_fail(j, MESH_E_UNAUTHORIZED, "pull access denied for %s: unauthorized: authentication required",
		         familiar);
	} else if (strstr(text, "manifest unknown") || strstr(text, "name unknown")) {
		job_fail(j, MESH_E_NOT_FOUND, "No such image: %s", familiar);
	} else {
		/* The cause stands after the last of skopeo's nested prefixes. */
		const char *cause = strstr(text, "pinging container registry");
		job_fail(j, MESH_E_NOT_FOUND, "No such image: %s (%s)", familiar, cause ? cause : text);
	}
}

static bool step_ok(struct job *j, int code, struct buf *errout)
{
	if (j->im->closing) {
		job_fail(j, MESH_E_CLOSED, "meshd is stopping");
		return false;
	}
	if (code)
		tool_failed(j, code, errout);
	return code == 0;
}

/* ---- steps that every image takes: config, copy, unpack, commit ---- */

static void load_next(struct job *j);

static void finish(struct job *j)
{
	struct images *im = j->im;
	struct mesh_err err = { 0 };
	CLEAN_FREE char *final = image_dir(im, j->id);
	CLEAN_FREE char *made = xasprintf("%s/img", j->tmp);
	struct image *img = NULL;
	for (size_t i = 0; i < im->all.len; i++)
		if (streq(im->all.data[i]->id, j->id))
			img = im->all.data[i];
	if (!img) {
		if (rename(made, final)) {
			job_fail(j, -errno, "cannot keep the image in '%s': %s", final, strerror(errno));
			return;
		}
		img = image_open(im, j->id, &err);
		if (!img) {
			remove_tree(final);
			job_fail(j, MESH_E_INVALID, "%s", mesh_err_text(&err, MESH_E_INVALID));
			return;
		}
		img->size_bytes = tree_size(img->rootfs);
		vec_push(&im->all, img);
		memmove(im->all.data + 1, im->all.data, (im->all.len - 1) * sizeof(*im->all.data));
		im->all.data[0] = img;
	}
	const char *tag = j->kind == JOB_PULL ? j->ref : j->tags.v[j->at];
	char name[512];
	if (*tag && name_of(tag, name) == 0 && !strchr(name, '@'))
		move_tag(im, img, name);
	if (j->digest) {
		char repo[512];
		image_ref_familiar(j->ref, repo);
		char *at = strchr(repo, '@'), *slash, *colon;
		if (at)
			*at = '\0';
		slash = strrchr(repo, '/');
		colon = strrchr(repo, ':');
		if (colon && (!slash || colon > slash))
			*colon = '\0';
		CLEAN_FREE char *full = xasprintf("%s@%s", repo, j->digest);
		if (!strs_has(&img->digests, full))
			strs_add(&img->digests, full);
	}
	int rc = save_index(im, &err);
	if (rc) {
		job_fail(j, rc, "%s", err.msg);
		return;
	}
	char familiar[512];
	image_ref_familiar(*tag ? tag : j->id, familiar);
	j->last = img;
	if (j->kind == JOB_PULL) {
		say(j, "Pulled %s", familiar);
		job_end(j, 0, img, NULL);
		return;
	}
	say(j, *tag ? "Loaded image: %s" : "Loaded image ID: %s", familiar);
	j->at++;
	load_next(j);
}

static void on_unpacked(void *arg, int code, struct buf *out, struct buf *errout)
{
	(void)out;
	if (step_ok(arg, code, errout))
		finish(arg);
}

static void on_copied(void *arg, int code, struct buf *out, struct buf *errout)
{
	struct job *j = arg;
	(void)out;
	if (!step_ok(j, code, errout))
		return;
	say(j, "Unpacking");
	CLEAN_FREE char *image = xasprintf("%s/img/layout:img", j->tmp);
	CLEAN_FREE char *rootfs = xasprintf("%s/img/rootfs", j->tmp);
	const char *argv[] = { "umoci", "raw", "unpack", "--image", image, rootfs, NULL };
	run(j, argv, on_unpacked);
}

static void on_hashed(void *arg, int code, struct buf *out, struct buf *errout)
{
	struct job *j = arg;
	if (!step_ok(j, code, errout))
		return;
	if (out->len < 64) {
		job_fail(j, MESH_E_RUNTIME, "sha256sum said nothing");
		return;
	}
	snprintf(j->id, sizeof(j->id), "sha256:%.64s", buf_str(out));
	for (size_t i = 0; i < j->im->all.len; i++) {
		if (streq(j->im->all.data[i]->id, j->id)) {
			finish(j); /* the same image under another name: nothing to fetch */
			return;
		}
	}
	const char *argv[12];
	size_t n = skopeo(j, argv, "copy", true);
	CLEAN_FREE char *dest = xasprintf("oci:%s/img/layout:img", j->tmp);
	argv[n++] = j->src;
	argv[n++] = dest;
	argv[n] = NULL;
	run(j, argv, on_copied);
}

static void on_config(void *arg, int code, struct buf *out, struct buf *errout)
{
	struct job *j = arg;
	struct mesh_err err = { 0 };
	struct image_config probe = { 0 };
	if (!step_ok(j, code, errout))
		return;
	int rc = image_config_parse((char *)out->data, out->len, &probe, &err);
	image_config_clear(&probe);
	CLEAN_FREE char *img = xasprintf("%s/img", j->tmp);
	CLEAN_FREE char *config = xasprintf("%s/config.json", img);
	if (!rc) {
		remove_tree(img);
		if (mkdir(img, 0700))
			rc = mesh_fail(&err, -errno, "cannot make '%s'", img);
	}
	if (!rc)
		rc = write_file(config, out->data, out->len, &err);
	if (rc) {
		job_fail(j, rc, "%s", mesh_err_text(&err, rc));
		return;
	}
	const char *argv[] = { "sha256sum", config, NULL };
	run(j, argv, on_hashed);
}

static void fetch_config(struct job *j)
{
	const char *argv[12];
	size_t n = skopeo(j, argv, "inspect", false);
	argv[n++] = "--config";
	argv[n++] = "--raw";
	argv[n++] = j->src;
	argv[n] = NULL;
	run(j, argv, on_config);
}

static int make_tmp(struct job *j)
{
	j->tmp = xasprintf("%s/.tmp-XXXXXX", j->im->dir);
	if (mkdtemp(j->tmp))
		return 0;
	int rc = -errno;
	free(TAKE(j->tmp));
	job_fail(j, rc, "cannot make a directory in '%s': %s", j->im->dir, strerror(-rc));
	return rc;
}

/* ---- pull ---- */

static bool loopback_host(const char *host, size_t n)
{
	return (n >= 9 && strncmp(host, "localhost", 9) == 0) || (n >= 4 && strncmp(host, "127.", 4) == 0);
}

static bool list_has_host(const char *list, const char *host, size_t n)
{
	for (const char *p = list; p && *p;) {
		p += strspn(p, ", \t\r\n");
		size_t len = strcspn(p, ", \t\r\n");
		if (len == n && strncmp(p, host, n) == 0)
			return true;
		p += len;
	}
	return false;
}

static bool is_insecure(const char *normalized)
{
	size_t n = strcspn(normalized, "/");
	struct buf b = { 0 };
	bool yes = loopback_host(normalized, n) || list_has_host(getenv("MESH_INSECURE_REGISTRIES"), normalized, n);
	if (!yes && read_file(INSECURE_FILE, &b) == 0)
		yes = list_has_host(buf_str(&b), normalized, n);
	buf_fini(&b);
	return yes;
}

/* X-Registry-Auth (base64url JSON {"username","password"}) becomes an authfile for one registry. */
static int write_auth(struct job *j, const char *auth)
{
	struct mesh_err err = { 0 };
	char user_pass[1024];
	char host[256];
	snprintf(host, sizeof(host), "%.*s", (int)strcspn(j->ref, "/"), j->ref);
	if (streq(host, "docker.io"))
		snprintf(host, sizeof(host), "https://index.docker.io/v1/");
	bool given = auth && *auth && image_auth_decode(auth, user_pass, sizeof(user_pass)) == 0;
	/* Always a file of our own: skopeo would look for the credentials of whoever runs meshd. */
	CLEAN_FREE char *json = given ? image_auth_file(host, user_pass) : xstrdup("{}");
	mesh_wipe(user_pass, sizeof(user_pass));
	j->auth = xasprintf("%s/auth.json", j->tmp);
	int rc = write_file(j->auth, json, strlen(json), &err);
	mesh_wipe(json, strlen(json));
	if (rc)
		job_fail(j, rc, "%s", err.msg);
	return rc;
}

static void on_digest(void *arg, int code, struct buf *out, struct buf *errout)
{
	struct job *j = arg;
	if (!step_ok(j, code, errout))
		return;
	char *text = (char *)(uintptr_t)buf_str(out);
	text[strcspn(text, "\n")] = '\0';
	str_set(&j->digest, text);
	fetch_config(j);
}

/* skopeo refuses a name with both; the digest is the stricter one. */
static char *docker_transport(const char *ref)
{
	const char *at = strchr(ref, '@'), *slash = strrchr(ref, '/');
	size_t n = at ? (size_t)(at - ref) : strlen(ref);
	for (size_t i = n; at && i > (size_t)(slash - ref); i--)
		if (ref[i - 1] == ':') {
			n = i - 1;
			break;
		}
	return xasprintf("docker://%.*s%s", (int)n, ref, at ? at : "");
}

static void start_pull(struct job *j)
{
	const char *argv[12];
	char *auth = TAKE(j->auth);
	int rc = make_tmp(j);
	if (!rc)
		rc = write_auth(j, auth);
	if (auth)
		mesh_wipe(auth, strlen(auth));
	free(auth);
	if (rc)
		return;
	j->insecure = is_insecure(j->ref);
	j->src = docker_transport(j->ref);
	size_t n = skopeo(j, argv, "inspect", false);
	argv[n++] = "--no-tags";
	argv[n++] = "--format";
	argv[n++] = "{{.Digest}}";
	argv[n++] = j->src;
	argv[n] = NULL;
	say(j, "Pulling %s", j->ref);
	run(j, argv, on_digest);
}

/* ---- load ---- */

static void load_next(struct job *j)
{
	if (j->at >= j->refs.n) {
		job_end(j, 0, j->last, NULL);
		return;
	}
	const char *ref = j->refs.v[j->at];
	const char *transport = j->docker ? "docker-archive" : j->layout ? "oci" : "oci-archive";
	free(j->src);
	j->src = xasprintf("%s:%s/in%s%s", transport, j->tmp, *ref ? ":" : "", ref);
	fetch_config(j);
}

/* An OCI reference is often just "v1": the file's own name comes before it. */
static void complete_tags(struct job *j)
{
	const char *base = strrchr(j->path, '/') ? strrchr(j->path, '/') + 1 : j->path;
	for (size_t i = 0; i < j->tags.n; i++) {
		if (!*j->tags.v[i] || strpbrk(j->tags.v[i], ":/"))
			continue;
		char *full = xasprintf("%.*s:%s", (int)strcspn(base, "."), base, j->tags.v[i]);
		free(j->tags.v[i]);
		j->tags.v[i] = full;
	}
}

static bool take_refs(struct job *j, struct buf *json, bool docker)
{
	struct mesh_err err = { 0 };
	j->docker = docker;
	if (image_archive_refs((char *)json->data, json->len, docker, &j->refs, &j->tags, &err)) {
		job_fail(j, MESH_E_INVALID, "cannot load '%s': %s", j->path, err.msg);
		return false;
	}
	if (!docker)
		complete_tags(j);
	return true;
}

/*
 * `tar -C layout -cf x .` writes "./index.json": tar is asked for both names and complains of the one that is not
 * there, so what came out decides.
 */
static void on_oci_index(void *arg, int code, struct buf *out, struct buf *errout)
{
	struct job *j = arg;
	if (code > 0 && !out->len) {
		job_fail(j, MESH_E_INVALID,
		         "cannot load '%s': neither a docker archive (manifest.json) nor an OCI archive (index.json): "
		         "%s",
		         j->path, child_complaint(errout));
		return;
	}
	if (step_ok(j, code > 0 ? 0 : code, errout) && take_refs(j, out, false))
		load_next(j);
}

static void on_docker_manifest(void *arg, int code, struct buf *out, struct buf *errout)
{
	struct job *j = arg;
	if (code > 0 && !out->len && !j->im->closing) {
		CLEAN_FREE char *in = xasprintf("%s/in", j->tmp);
		const char *argv[] = { "tar", "-xOf", in, "index.json", "./index.json", NULL };
		run(j, argv, on_oci_index);
		return;
	}
	if (step_ok(j, code > 0 ? 0 : code, errout) && take_refs(j, out, true))
		load_next(j);
}

static void start_load(struct job *j)
{
	struct stat st;
	if (stat(j->path, &st)) {
		job_fail(j, -errno, "cannot open '%s': %s", j->path, strerror(errno));
		return;
	}
	if (make_tmp(j))
		return;
	/* A colon in a path would be read as a tag; a link has none. */
	CLEAN_FREE char *in = xasprintf("%s/in", j->tmp);
	CLEAN_FREE char *real = realpath(j->path, NULL);
	if (!real || symlink(real, in)) {
		job_fail(j, -errno, "cannot link '%s': %s", j->path, strerror(errno));
		return;
	}
	if (S_ISDIR(st.st_mode)) {
		j->layout = true;
		struct buf b = { 0 };
		CLEAN_FREE char *index = xasprintf("%s/index.json", in);
		int rc = read_file(index, &b);
		if (rc)
			job_fail(j, MESH_E_INVALID, "cannot load '%s': not an OCI layout (no index.json)", j->path);
		else if (take_refs(j, &b, false))
			load_next(j);
		buf_fini(&b);
		return;
	}
	const char *argv[] = { "tar", "-xOf", in, "manifest.json", "./manifest.json", NULL };
	run(j, argv, on_docker_manifest);
}

/* ---- inspect at the registry ---- */

static void on_inspected(void *arg, int code, struct buf *out, struct buf *errout)
{
	struct job *j = arg;
	struct image_remote r = { 0 };
	if (!step_ok(j, code, errout))
		return;
	/* "digest|architecture|os" */
	char *text = (char *)(uintptr_t)buf_str(out), *save = NULL;
	char *digest = strtok_r(text, "|\n", &save), *arch = strtok_r(NULL, "|\n", &save),
	     *os = strtok_r(NULL, "|\n", &save);
	snprintf(r.digest, sizeof(r.digest), "%s", digest ? digest : "");
	snprintf(r.media_type, sizeof(r.media_type), "application/vnd.docker.distribution.manifest.v2+json");
	struct md_platform p = { arch ? arch : (char *)(uintptr_t) "", os ? os : (char *)(uintptr_t) "" };
	r.platforms.v = &p;
	r.platforms.n = arch && os ? 1 : 0;
	j->inspect_cb(j->inspect_arg, 0, &r, NULL);
	job_end(j, 0, NULL, NULL);
}

static void start_inspect(struct job *j)
{
	const char *argv[12];
	char *auth = TAKE(j->auth);
	int rc = make_tmp(j);
	if (!rc)
		rc = write_auth(j, auth);
	free(auth);
	if (rc)
		return;
	j->insecure = is_insecure(j->ref);
	j->src = docker_transport(j->ref);
	size_t n = skopeo(j, argv, "inspect", false);
	argv[n++] = "--no-tags";
	argv[n++] = "--format";
	argv[n++] = "{{.Digest}}|{{.Architecture}}|{{.Os}}";
	argv[n++] = j->src;
	argv[n] = NULL;
	run(j, argv, on_inspected);
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
		if (j->kind == JOB_PULL)
			start_pull(j);
		else if (j->kind == JOB_LOAD)
			start_load(j);
		else
			start_inspect(j);
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

static void drop_image(struct images *im, struct image *img)
{
	CLEAN_FREE char *dir = image_dir(im, img->id);
	for (size_t i = 0; i < im->all.len; i++)
		if (im->all.data[i] == img) {
			vec_remove(&im->all, i);
			break;
		}
	remove_tree(dir);
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
	bool by_name = name_of(ref, name) == 0 && has_tag(img, name);
	if (by_name && img->tags.n > 1) {
		struct image keep = { 0 };
		move_tag(im, &keep, name); /* takes the name away */
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
		rc = save_index(im, &err);
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
	(void)name_of(new_ref, name);
	move_tag(im, img, name);
	return save_index(im, err);
}

/* ---- life ---- */

int images_open(uv_loop_t *loop, const char *dir, struct images **out, struct mesh_err *err)
{
	struct images *im = XNEW(struct images);
	im->loop = loop;
	im->dir = xstrdup(dir);
	int rc = mkdir(dir, 0711) && errno != EEXIST ? mesh_fail(err, -errno, "cannot make '%s'", dir) : 0;
	if (!rc)
		rc = load_index(im, err);
	if (rc) {
		free(im->dir);
		vec_fini(&im->all);
		free(im);
		return rc;
	}
	sweep(im);
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
