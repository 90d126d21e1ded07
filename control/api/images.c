/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This node's images, and what a registry says of one. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/containers.h"
#include "control/api/filters.h"

static struct images *store_of(struct api *a)
{
	struct agent *agent = api_agent(a);
	return agent ? agent_images(agent) : NULL;
}

/* As docker names what was asked for: "web" -> "web:latest". */
static const char *familiar(const char *ref, char out[512])
{
	char normal[512];
	if (image_ref_normalize(ref, normal, NULL))
		snprintf(out, 512, "%.500s", ref);
	else
		image_ref_familiar(normal, out);
	return out;
}

static const struct image *req_image(struct req *r, const char *prefix)
{
	char name[512];
	struct images *im = store_of(r->api);
	const struct image *i = im ? images_find(im, r->arg[0]) : NULL;
	if (!i)
		req_error(r, 404, "%s%sNo such image: %s", prefix ? prefix : "", prefix ? ": " : "",
		          familiar(r->arg[0], name));
	return i;
}

/* ---- list and inspect ------------------------------------------------------------------------- */

static void write_summary(struct jw *w, const struct image *i, int64_t containers, int64_t shared)
{
	jw_open(w, '{');
	jw_kint(w, "Containers", containers);
	jw_kint(w, "Created", i->config.created / NS_PER_SEC);
	jw_kstr(w, "Id", i->id);
	jw_key(w, "Labels");
	if (i->config.labels.n)
		jw_map(w, &i->config.labels);
	else
		jw_null(w);
	jw_kstr(w, "ParentId", "");
	jw_key(w, "RepoDigests");
	jw_strs(w, &i->digests);
	jw_key(w, "RepoTags");
	jw_strs(w, &i->tags);
	jw_kint(w, "SharedSize", shared);
	jw_kint(w, "Size", i->size_bytes);
	jw_kint(w, "VirtualSize", i->size_bytes);
	jw_close(w, '}');
}

/* "busybox", "busybox:1*" against "busybox:1.35". */
static bool glob(const char *pattern, const char *s)
{
	for (; *pattern; pattern++, s++) {
		if (*pattern == '*') {
			for (; *s && *s != '/'; s++)
				if (glob(pattern + 1, s))
					return true;
			return glob(pattern + 1, s);
		}
		if (!*s || (*pattern != '?' && *pattern != *s))
			return false;
	}
	return !*s || *s == ':' || *s == '@';
}

static bool reference_matches(const struct filters *f, const struct image *i)
{
	const struct str_list *l = filters_get(f, "reference");
	for (size_t k = 0; l && k < l->n; k++) {
		if (strlen(l->v[k]) > 256)
			continue;
		for (size_t t = 0; t < i->tags.n; t++)
			if (glob(l->v[k], i->tags.v[t]))
				return true;
		for (size_t t = 0; t < i->digests.n; t++)
			if (glob(l->v[k], i->digests.v[t]))
				return true;
	}
	return !l;
}

static bool image_matches(const struct filters *f, const struct image *i)
{
	bool dangling = !i->tags.n;
	return reference_matches(f, i) && filters_labels(f, "label", &i->config.labels) &&
	       (!filters_get(f, "dangling") || filters_bool(f, "dangling", false) == dangling);
}

void api_image_list(struct req *r)
{
	static const char *const allowed[] = { "before", "dangling", "label", "reference", "since", "until", NULL };
	struct images *im = store_of(r->api);
	const struct image *const *all = NULL;
	struct filters f = { 0 };
	struct jw w = { 0 };
	if (req_filters(r, allowed, &f))
		return;
	size_t n = im ? images_list(im, &all) : 0;
	jw_open(&w, '[');
	for (size_t i = 0; i < n; i++)
		if (image_matches(&f, all[i]))
			write_summary(&w, all[i], -1, -1);
	jw_close(&w, ']');
	filters_clear(&f);
	req_reply_json(r, 200, &w);
}

static void write_list_or_null(struct jw *w, const char *key, const struct str_list *l)
{
	jw_key(w, key);
	if (l->n)
		jw_strs(w, l);
	else
		jw_null(w);
}

/* Exposed ports and volumes are sets, which Go writes as {"80/tcp":{}}. */
static void write_set(struct jw *w, const char *key, const struct str_list *l)
{
	jw_key(w, key);
	if (!l->n) {
		jw_null(w);
		return;
	}
	jw_open(w, '{');
	for (size_t i = 0; i < l->n; i++)
		jw_kraw(w, l->v[i], "{}");
	jw_close(w, '}');
}

static void write_image_config(struct jw *w, const struct image_config *c)
{
	jw_key(w, "Config");
	jw_open(w, '{');
	jw_kstr(w, "Hostname", "");
	jw_kstr(w, "Domainname", "");
	jw_kstr(w, "User", c->user);
	write_set(w, "ExposedPorts", &c->exposed);
	write_list_or_null(w, "Env", &c->env);
	write_list_or_null(w, "Cmd", &c->cmd);
	jw_kstr(w, "Image", "");
	write_set(w, "Volumes", &c->volumes);
	jw_kstr(w, "WorkingDir", c->dir);
	write_list_or_null(w, "Entrypoint", &c->entrypoint);
	jw_kraw(w, "OnBuild", "null");
	jw_key(w, "Labels");
	if (c->labels.n)
		jw_map(w, &c->labels);
	else
		jw_null(w);
	if (c->stop_signal && *c->stop_signal)
		jw_kstr(w, "StopSignal", c->stop_signal);
	if (c->health) {
		jw_key(w, "Healthcheck");
		md_json_write(w, &md_health_schema, c->health);
	}
	jw_close(w, '}');
}

void api_image_inspect(struct req *r)
{
	char prefix[300];
	struct jw w = { 0 };
	snprintf(prefix, sizeof(prefix), "no such image: %.250s", r->arg[0]);
	const struct image *i = req_image(r, prefix);
	if (!i)
		return;
	jw_open(&w, '{');
	jw_kstr(&w, "Id", i->id);
	jw_key(&w, "RepoTags");
	jw_strs(&w, &i->tags);
	jw_key(&w, "RepoDigests");
	jw_strs(&w, &i->digests);
	jw_kstr(&w, "Parent", "");
	jw_kstr(&w, "Comment", "");
	jw_ktime(&w, "Created", i->config.created);
	jw_kstr(&w, "DockerVersion", "");
	jw_kstr(&w, "Author", "");
	write_image_config(&w, &i->config);
	jw_kstr(&w, "Architecture", i->config.architecture);
	jw_kstr(&w, "Os", i->config.os);
	jw_kint(&w, "Size", i->size_bytes);
	jw_kint(&w, "VirtualSize", i->size_bytes);
	jw_kraw(&w, "GraphDriver", "{\"Data\":null,\"Name\":\"overlay2\"}");
	jw_kraw(&w, "RootFS", "{\"Type\":\"layers\"}");
	jw_kraw(&w, "Metadata", "{\"LastTagTime\":\"0001-01-01T00:00:00Z\"}");
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

/* Images are unpacked into one root filesystem: one entry is all there is to tell. */
void api_image_history(struct req *r)
{
	struct jw w = { 0 };
	const struct image *i = req_image(r, NULL);
	if (!i)
		return;
	jw_open(&w, '[');
	jw_open(&w, '{');
	jw_kstr(&w, "Id", i->id);
	jw_kint(&w, "Created", i->config.created / NS_PER_SEC);
	jw_kstr(&w, "CreatedBy", "");
	jw_key(&w, "Tags");
	jw_strs(&w, &i->tags);
	jw_kint(&w, "Size", i->size_bytes);
	jw_kstr(&w, "Comment", "");
	jw_close(&w, '}');
	jw_close(&w, ']');
	req_reply_json(r, 200, &w);
}

/* ---- bringing in ------------------------------------------------------------------------------ */

/* One pull or load; its progress is a stream that begins with the first line, so that an early failure is an error. */
struct bringing {
	struct req *r;           /* holds a reference, and with it the uploaded file */
	struct stream *stream;   /* NULL before the first line and after the client has gone */
	bool began, done, named; /* named: a line has said already what was loaded */
	bool quiet;
	const char *key; /* "status" when pulling, "stream" when loading */
	char name[512];
};

static void bringing_end(struct bringing *b)
{
	if (!b->done || b->stream)
		return;
	req_unref(b->r);
	free(b);
}

static void on_stream_closed(void *arg)
{
	struct bringing *b = arg;
	b->stream = NULL;
	bringing_end(b);
}

static void say(struct bringing *b, struct jw *w)
{
	static const struct stream_ops ops = { .closed = on_stream_closed };
	if (!b->began && req_live(b->r)) {
		b->began = true;
		b->stream = req_stream(b->r, 200, "application/json", &ops, b);
	}
	buf_puts(&w->b, "\r\n");
	if (b->stream)
		(void)stream_write(b->stream, w->b.data, w->b.len); /* a few lines per layer */
	buf_fini(&w->b);
}

static void say_line(struct bringing *b, const char *text, const char *end)
{
	struct jw w = { 0 };
	char *line = xasprintf("%s%s", text, end);
	jw_open(&w, '{');
	jw_kstr(&w, b->key, line);
	jw_close(&w, '}');
	say(b, &w);
	free(line);
}

static void on_progress(void *arg, const char *line)
{
	struct bringing *b = arg;
	bool name = strncmp(line, "Loaded image", 12) == 0;
	b->named = b->named || name;
	if (b->quiet && !name)
		return;
	say_line(b, line, streq(b->key, "stream") ? "\n" : "");
}

static void say_error(struct bringing *b, const char *text)
{
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_key(&w, "errorDetail");
	jw_open(&w, '{');
	jw_kstr(&w, "message", text);
	jw_close(&w, '}');
	jw_kstr(&w, "error", text);
	jw_close(&w, '}');
	say(b, &w);
}

static void say_loaded(struct bringing *b, const struct image *i)
{
	char text[600];
	if (streq(b->key, "status")) {
		snprintf(text, sizeof(text), "Status: Downloaded newer image for %s", b->name);
		say_line(b, text, "");
		return;
	}
	for (size_t k = 0; k < i->tags.n && !b->named; k++) {
		snprintf(text, sizeof(text), "Loaded image: %.512s", i->tags.v[k]);
		say_line(b, text, "\n");
	}
	if (!i->tags.n) {
		snprintf(text, sizeof(text), "Loaded image ID: %s", i->id);
		say_line(b, text, "\n");
	}
}

static void on_brought(void *arg, int code, const struct image *i, const struct mesh_err *err)
{
	struct bringing *b = arg;
	if (code && !b->began && req_live(b->r))
		req_fail(b->r, code, err);
	else if (code)
		say_error(b, mesh_err_text(err, code));
	else if (i)
		say_loaded(b, i);
	b->done = true;
	if (b->stream)
		stream_end(b->stream);
	else
		bringing_end(b);
}

static struct bringing *bringing_new(struct req *r, const char *key)
{
	struct bringing *b = XNEW(struct bringing);
	*b = (struct bringing){ .r = req_ref(r), .key = key, .quiet = req_flag(r, "quiet") };
	return b;
}

static bool need_store(struct req *r)
{
	if (store_of(r->api))
		return true;
	req_error(r, 503, "this node has no image store");
	return false;
}

void api_image_create(struct req *r)
{
	const char *from = req_query(r, "fromImage"), *tag = req_query(r, "tag"), *src = req_query(r, "fromSrc");
	const char *auth = req_header(r, "X-Registry-Auth");
	char normal[512];
	struct mesh_err err = { 0 };
	if (!from || !*from) {
		req_error(r, src ? 501 : 400,
		          src ? "importing a tar file as an image is not supported: docker load"
		              : "fromImage is required");
		return;
	}
	bool digest = tag && strchr(tag, ':');
	char *ref = tag && *tag ? xasprintf("%s%s%s", from, digest ? "@" : ":", tag) : xstrdup(from);
	int rc = image_ref_normalize(ref, normal, &err);
	if (rc) {
		req_fail(r, rc, &err);
	} else if (need_store(r)) {
		struct bringing *b = bringing_new(r, "status");
		image_ref_familiar(normal, b->name);
		images_pull(store_of(r->api), ref, auth, true, on_progress, on_brought, b);
	}
	free(ref);
}

void api_image_load(struct req *r)
{
	if (r->upload_error)
		req_error(r, 500, "cannot keep the archive: %s", strerror(r->upload_error));
	else if (!r->upload_path)
		req_error(r, 400, "the request has no archive");
	else if (need_store(r))
		images_load(store_of(r->api), r->upload_path, on_progress, on_brought, bringing_new(r, "stream"));
}

/* ---- names and removal ------------------------------------------------------------------------ */

void api_image_tag(struct req *r)
{
	const char *repo = req_query(r, "repo"), *tag = req_query(r, "tag");
	struct mesh_err err = { 0 };
	if (!repo || !*repo) {
		req_error(r, 400, "repo is required");
		return;
	}
	if (!need_store(r) || !req_image(r, NULL))
		return;
	char *ref = tag && *tag ? xasprintf("%s:%s", repo, tag) : xstrdup(repo);
	int rc = images_tag(store_of(r->api), r->arg[0], ref, &err);
	free(ref);
	if (rc)
		req_fail(r, rc, &err);
	else
		req_reply_empty(r, 201);
}

struct usage {
	const char *image;
	int64_t n;
};

static bool count_use(void *arg, const struct agent_container *c)
{
	struct usage *u = arg;
	u->n += streq(c->image_id, u->image);
	return true;
}

static int64_t containers_of(struct api *a, const char *image)
{
	struct usage u = { .image = image };
	if (api_agent(a))
		agent_each_container(api_agent(a), true, count_use, &u);
	return u.n;
}

static bool in_use(void *arg, const char *id)
{
	struct req *r = arg;
	return r->api && containers_of(r->api, id) > 0;
}

struct removal {
	struct req *r;
	char id[72];
	struct str_list tags; /* before */
};

static void write_removed(struct jw *w, const struct removal *m)
{
	const struct image *left = images_find(store_of(m->r->api), m->id);
	jw_open(w, '[');
	for (size_t i = 0; i < m->tags.n; i++) {
		if (left && strs_has(&left->tags, m->tags.v[i]))
			continue;
		jw_open(w, '{');
		jw_kstr(w, "Untagged", m->tags.v[i]);
		jw_close(w, '}');
	}
	if (!left) {
		jw_open(w, '{');
		jw_kstr(w, "Deleted", m->id);
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

static void on_removed(void *arg, int code, const struct image *i, const struct mesh_err *err)
{
	struct req *r = arg;
	struct removal *m = r->data;
	(void)i;
	if (req_live(r) && code) {
		req_fail(r, code, err);
	} else if (req_live(r)) {
		struct jw w = { 0 };
		write_removed(&w, m);
		req_reply_json(r, 200, &w);
	}
	req_unref(r);
}

static void removal_free(void *data)
{
	struct removal *m = data;
	strs_clear(&m->tags);
	free(m);
}

void api_image_remove(struct req *r)
{
	const struct image *i = req_image(r, NULL);
	if (!i)
		return;
	struct removal *m = XNEW(struct removal);
	m->r = r;
	snprintf(m->id, sizeof(m->id), "%s", i->id);
	for (size_t k = 0; k < i->tags.n; k++)
		strs_add(&m->tags, i->tags.v[k]);
	req_keep(r, m, removal_free);
	images_remove(store_of(r->api), r->arg[0], req_flag(r, "force"), in_use, on_removed, req_ref(r));
}

/* ---- prune ------------------------------------------------------------------------------------ */

struct pruning {
	struct req *r;
	struct str_list ids, done;
	size_t at;
	int64_t bytes, last_bytes;
};

static void prune_end(struct pruning *p)
{
	if (req_live(p->r)) {
		struct jw w = { 0 };
		jw_open(&w, '{');
		jw_key(&w, "ImagesDeleted");
		jw_open(&w, '[');
		for (size_t i = 0; i < p->done.n; i++) {
			jw_open(&w, '{');
			jw_kstr(&w, "Deleted", p->done.v[i]);
			jw_close(&w, '}');
		}
		jw_close(&w, ']');
		jw_kint(&w, "SpaceReclaimed", p->bytes);
		jw_close(&w, '}');
		req_reply_json(p->r, 200, &w);
	}
	req_unref(p->r);
	strs_clear(&p->ids);
	strs_clear(&p->done);
	free(p);
}

static bool prune_in_use(void *arg, const char *id)
{
	return in_use(((struct pruning *)arg)->r, id);
}

static void prune_next(void *arg, int code, const struct image *i, const struct mesh_err *err)
{
	struct pruning *p = arg;
	(void)i;
	(void)err;
	if (p->at && !code) {
		strs_add(&p->done, p->ids.v[p->at - 1]);
		p->bytes += p->last_bytes;
	}
	struct images *im = req_live(p->r) ? store_of(p->r->api) : NULL;
	if (!im || p->at == p->ids.n) {
		prune_end(p);
		return;
	}
	const char *id = p->ids.v[p->at++];
	const struct image *next = images_find(im, id);
	p->last_bytes = next ? next->size_bytes : 0;
	images_remove(im, id, true, prune_in_use, prune_next, p);
}

void api_image_prune(struct req *r)
{
	static const char *const allowed[] = { "dangling", "label", "until", NULL };
	struct images *im = store_of(r->api);
	const struct image *const *all = NULL;
	struct filters f = { 0 };
	if (req_filters(r, allowed, &f))
		return;
	bool only_dangling = filters_bool(&f, "dangling", true);
	struct pruning *p = XNEW(struct pruning);
	p->r = req_ref(r);
	size_t n = im ? images_list(im, &all) : 0;
	for (size_t i = 0; i < n; i++)
		if ((!only_dangling || !all[i]->tags.n) && filters_labels(&f, "label", &all[i]->config.labels) &&
		    !containers_of(r->api, all[i]->id))
			strs_add(&p->ids, all[i]->id);
	filters_clear(&f);
	prune_next(p, 0, NULL, NULL);
}

void api_image_unsupported(struct req *r)
{
	req_error(r, 501, "%.200s is not supported: images are pulled from registries or loaded (docker load)",
	          r->path);
}

/* ---- registry --------------------------------------------------------------------------------- */

static void on_remote(void *arg, int code, const struct image_remote *i, const struct mesh_err *err)
{
	struct req *r = arg;
	if (req_live(r) && code) {
		req_fail(r, code, err);
	} else if (req_live(r)) {
		struct jw w = { 0 };
		jw_open(&w, '{');
		jw_key(&w, "Descriptor");
		jw_open(&w, '{');
		jw_kstr(&w, "mediaType", i->media_type);
		jw_kstr(&w, "digest", i->digest);
		jw_kint(&w, "size", i->size);
		jw_close(&w, '}');
		jw_key(&w, "Platforms");
		jw_open(&w, '[');
		for (size_t k = 0; k < i->platforms.n; k++) {
			jw_open(&w, '{');
			jw_kstr(&w, "architecture", i->platforms.v[k].architecture);
			jw_kstr(&w, "os", i->platforms.v[k].os);
			jw_close(&w, '}');
		}
		jw_close(&w, ']');
		jw_close(&w, '}');
		req_reply_json(r, 200, &w);
	}
	req_unref(r);
}

static void answer_local(struct req *r, const struct image *here)
{
	struct md_platform p = { here->config.architecture, here->config.os };
	struct image_remote remote = { .media_type = "application/vnd.docker.distribution.manifest.v2+json",
		                       .size = here->size_bytes };
	snprintf(remote.digest, sizeof(remote.digest), "%s", here->id);
	remote.platforms.v = &p;
	remote.platforms.n = p.architecture && p.os ? 1 : 0;
	on_remote(req_ref(r), 0, &remote, NULL);
}

/* Its digests tell which registries have it, by repository: has the one that the name is of? */
static bool of_its_registry(const struct image *i, const char *normal)
{
	char repo[512];
	image_ref_familiar(normal, repo);
	char *slash = strrchr(repo, '/'), *colon = strchr(slash ? slash : repo, ':');
	size_t n = colon ? (size_t)(colon - repo) : strlen(repo);
	for (size_t k = 0; k < i->digests.n; k++)
		if (strncmp(i->digests.v[k], repo, n) == 0 && i->digests.v[k][n] == '@')
			return true;
	return false;
}

void api_distribution_inspect(struct req *r)
{
	char normal[512];
	struct mesh_err err = { 0 };
	int rc = image_ref_normalize(r->arg[0], normal, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	if (!need_store(r))
		return;
	const struct image *here = images_find(store_of(r->api), r->arg[0]);
	/* Loaded by hand: its id pins it on every node (docs/decisions/0005); a registry knows nothing of it. */
	if (here && !of_its_registry(here, normal) && !strchr(r->arg[0], '@'))
		answer_local(r, here);
	else
		images_inspect_remote(store_of(r->api), r->arg[0], req_header(r, "X-Registry-Auth"), on_remote,
		                      req_ref(r));
}

/* ---- disk use --------------------------------------------------------------------------------- */

struct df {
	struct jw *w;
	struct api *a;
	int64_t now;
};

static bool df_container(void *arg, const struct agent_container *c)
{
	struct df *d = arg;
	view_container_summary(d->w, d->a, c, d->now);
	return true;
}

static bool df_volume(void *arg, const struct agent_volume *v)
{
	struct df *d = arg;
	view_volume(d->w, v, true, agent_volume_in_use(api_agent(d->a), v->name));
	return true;
}

void api_df(struct req *r)
{
	struct jw w = { 0 };
	struct df d = { &w, r->api, clock_wall_ns() };
	struct images *im = store_of(r->api);
	const struct image *const *all = NULL;
	size_t n = im ? images_list(im, &all) : 0;
	int64_t bytes = 0;
	for (size_t i = 0; i < n; i++)
		bytes += all[i]->size_bytes;
	jw_open(&w, '{');
	jw_kint(&w, "LayersSize", bytes);
	jw_key(&w, "Images");
	jw_open(&w, '[');
	for (size_t i = 0; i < n; i++)
		write_summary(&w, all[i], containers_of(r->api, all[i]->id), 0);
	jw_close(&w, ']');
	jw_key(&w, "Containers");
	jw_open(&w, '[');
	if (api_agent(r->api))
		agent_each_container(api_agent(r->api), true, df_container, &d);
	jw_close(&w, ']');
	jw_key(&w, "Volumes");
	jw_open(&w, '[');
	if (api_agent(r->api))
		agent_each_volume(api_agent(r->api), df_volume, &d);
	jw_close(&w, ']');
	jw_kraw(&w, "BuildCache", "[]");
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}
