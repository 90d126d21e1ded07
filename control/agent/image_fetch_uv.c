/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image comes in by a short chain of children, each step a function below: what is it called and which digest has
 * it, its raw configuration, its layers into a layout, the layout into a root filesystem, then one rename and one
 * new index. A crash anywhere leaves a temporary directory, which the next open removes.
 */
#include "control/agent/images_int.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

#define INSECURE_FILE "/etc/mesh/insecure-registries"

static void on_stderr(void *arg, const char *line)
{
	struct job *j = arg;
	if (*line && !strstr(line, "level=") && j->kind != JOB_INSPECT)
		job_say(j, "%s", line);
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
			fs_remove_tree(final);
			job_fail(j, MESH_E_INVALID, "%s", mesh_err_text(&err, MESH_E_INVALID));
			return;
		}
		img->size_bytes = fs_tree_bytes(img->rootfs);
		vec_push(&im->all, img);
		memmove(im->all.data + 1, im->all.data, (im->all.len - 1) * sizeof(*im->all.data));
		im->all.data[0] = img;
	}
	const char *tag = j->kind == JOB_PULL ? j->ref : j->tags.v[j->at];
	char name[512];
	if (*tag && image_name(tag, name) == 0 && !strchr(name, '@'))
		image_move_tag(im, img, name);
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
	int rc = image_index_save(im, &err);
	if (rc) {
		job_fail(j, rc, "%s", err.msg);
		return;
	}
	char familiar[512];
	image_ref_familiar(*tag ? tag : j->id, familiar);
	j->last = img;
	if (j->kind == JOB_PULL) {
		job_say(j, "Pulled %s", familiar);
		job_end(j, 0, img, NULL);
		return;
	}
	job_say(j, *tag ? "Loaded image: %s" : "Loaded image ID: %s", familiar);
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
	job_say(j, "Unpacking");
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
		fs_remove_tree(img);
		if (mkdir(img, 0700))
			rc = mesh_fail(&err, -errno, "cannot make '%s'", img);
	}
	if (!rc)
		rc = fs_write(config, out->data, out->len, 0600, FS_SYNC, &err);
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
	if (!yes && fs_read(INSECURE_FILE, CHILD_OUT_MAX, &b, NULL) == 0)
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
	int rc = fs_write(j->auth, json, strlen(json), 0600, FS_CACHED, &err);
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
	job_say(j, "Pulling %s", j->ref);
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
		int rc = fs_read(index, CHILD_OUT_MAX, &b, NULL);
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

void job_start(struct job *j)
{
	if (j->kind == JOB_PULL)
		start_pull(j);
	else if (j->kind == JOB_LOAD)
		start_load(j);
	else
		start_inspect(j);
}
