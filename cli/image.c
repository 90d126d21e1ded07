/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/service.h"
#include "cli/show.h"
#include "cli/units.h"

static const struct column ls_columns[] = {
	{ "ID", "IMAGE ID" },   { "Repository", "REPOSITORY" }, { "Tag", "TAG" },
	{ "Digest", "DIGEST" }, { "CreatedSince", "CREATED" },  { "CreatedAt", "CREATED AT" },
	{ "Size", "SIZE" },     { "Containers", "CONTAINERS" },
};
static const struct list_view ls_view = { ls_columns, ARRAY_SIZE(ls_columns),
	                                  "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
	                                  "ID" };

/* Image names keep their slashes and colons in the path. */
static char *image_path(const char *image)
{
	struct buf b = { 0 };

	for (; *image; image++) {
		char one[2] = { *image, 0 };
		if (*image == '/' || *image == ':' || *image == '@')
			buf_puts(&b, one);
		else
			url_escape(&b, one);
	}
	return buf_take_str(&b);
}

/* "repo:tag" -> its two halves; the tag of "localhost:5000/x" is not 5000/x. */
static void split_tag(const char *ref, char **repo, char **tag)
{
	const char *slash = strrchr(ref, '/'), *colon = strrchr(ref, ':');

	if (colon && (!slash || colon > slash)) {
		*repo = xstrndup(ref, (size_t)(colon - ref));
		*tag = xstrdup(colon + 1);
	} else {
		*repo = xstrdup(ref);
		*tag = xstrdup("<none>");
	}
}

static const char *digest_for(const json_t *img, const char *repo)
{
	json_t *d;
	size_t i, n = strlen(repo);

	json_array_foreach(jo(img, "RepoDigests"), i, d)
	{
		const char *s = json_string_value(d) ?: "";
		if (!strncmp(s, repo, n) && s[n] == '@')
			return s + n + 1;
	}
	return "<none>";
}

static void add_row(json_t *rows, const json_t *img, const char *ref, bool no_trunc)
{
	CLEAN_FREE char *repo = NULL;
	CLEAN_FREE char *tag = NULL;
	CLEAN_FREE char *id = short_id(js(img, "Id"), no_trunc);
	char since[64], created[64], size[32], containers[24];
	time_t t = (time_t)ji(img, "Created");
	struct tm tm;

	split_tag(ref, &repo, &tag);
	format_human_duration(now_ns() - (int64_t)t * NS_PER_S, since, sizeof(since));
	localtime_r(&t, &tm);
	strftime(created, sizeof(created), "%Y-%m-%d %H:%M:%S %z %Z", &tm);
	format_size((double)ji(img, "Size"), 3, size, sizeof(size));
	snprintf(containers, sizeof(containers), "%lld", (long long)ji(img, "Containers"));
	CLEAN_FREE char *ago = xasprintf("%s ago", since);
	json_array_append_new(rows,
	                      json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "ID", id, "Repository", repo, "Tag", tag,
	                                "Digest", digest_for(img, repo), "CreatedSince", ago, "CreatedAt", created,
	                                "Size", size, "Containers", ji(img, "Containers") < 0 ? "N/A" : containers));
}

static bool tagged(const json_t *img, const char *repo, size_t n)
{
	json_t *t;
	size_t i;

	json_array_foreach(jo(img, "RepoTags"), i, t)
	{
		const char *s = json_string_value(t) ?: "";
		if (!strncmp(s, repo, n) && s[n] == ':')
			return true;
	}
	return false;
}

static int run_ls(struct cli *c, struct mesh_err *err)
{
	struct str_list filters = { 0 };
	JSON_CLEAN images = NULL;
	JSON_CLEAN rows = json_array();
	json_t *img, *tag;
	size_t i, k;

	for (size_t f = 0; f < flag_list(c, "filter")->n; f++)
		strs_add(&filters, flag_list(c, "filter")->v[f]);
	if (c->nargs) {
		CLEAN_FREE char *ref = xasprintf("reference=%s", c->args[0]);
		strs_add(&filters, ref);
	}
	CLEAN_FREE char *query = api_filters(&filters, err);
	strs_clear(&filters);
	if (!query)
		return MESH_E_USAGE;
	int rc = api_get(c, &images, err, "/images/json%s%s%s", flag_bool(c, "all") || *query ? "?" : "",
	                 flag_bool(c, "all") ? *query ? "all=1&" : "all=1" : "", query);
	if (rc < 0)
		return rc;
	json_array_foreach(images, i, img)
	{
		bool any = false;
		json_array_foreach(jo(img, "RepoTags"), k, tag)
		{
			add_row(rows, img, json_string_value(tag) ?: "<none>", flag_bool(c, "no-trunc"));
			any = true;
		}
		/* a repository known by its digest alone */
		json_array_foreach(jo(img, "RepoDigests"), k, tag)
		{
			const char *ref = json_string_value(tag) ?: "";
			if (!tagged(img, ref, strcspn(ref, "@")) && strncmp(ref, "<none>", 6)) {
				CLEAN_FREE char *repo = xasprintf("%.*s:<none>", (int)strcspn(ref, "@"), ref);
				add_row(rows, img, repo, flag_bool(c, "no-trunc"));
				any = true;
			}
		}
		if (!any)
			add_row(rows, img, "<none>:<none>", flag_bool(c, "no-trunc"));
	}
	struct list_view view = ls_view;
	if (flag_bool(c, "digests"))
		view.table = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
	return list_print(&view, rows, flag_str(c, "format"), flag_bool(c, "quiet"), err);
}

/* What one message of a pull or load says; a line of its own where no terminal redraws it. */
static int stream_message(const json_t *m, bool quiet, struct mesh_err *err)
{
	if (*js(m, "error"))
		return mesh_fail(err, MESH_E_RUNTIME, "%s", js(m, "error"));
	if (quiet)
		return 0;
	if (*js(m, "stream")) {
		fputs(js(m, "stream"), stdout);
	} else if (*js(m, "status") && !jo(m, "progressDetail.total")) {
		if (*js(m, "id"))
			printf("%s: ", js(m, "id"));
		printf("%s\n", js(m, "status"));
	}
	fflush(stdout);
	return 0;
}

/* A chunked answer of JSON objects, one after the other. */
static int read_messages(struct cli *c, struct http_request *req, bool quiet, struct mesh_err *err)
{
	struct buf body = { 0 };
	int rc = api_stream(c, req, err), more = 1;

	while (!rc && more > 0) {
		more = http_read(c->http, &body, err);
		rc = more < 0 ? more : 0;
		for (;;) {
			json_error_t je;
			json_t *m = body.len && !rc
			                    ? json_loadb((char *)body.data, body.len, JSON_DISABLE_EOF_CHECK, &je)
			                    : NULL;
			if (!m)
				break;
			rc = stream_message(m, quiet, err);
			json_decref(m);
			buf_consume(&body, (size_t)je.position);
		}
		if (!rc && body.len > 1u << 20)
			rc = mesh_fail(err, MESH_E_PROTOCOL, "a message of the daemon is too long");
	}
	buf_fini(&body);
	return rc;
}

static int run_load(struct cli *c, struct mesh_err *err)
{
	const char *path = flag_str(c, "input");
	CLEAN_CLOSE int own = *path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (*path && own < 0)
		return mesh_fail(err, -errno, "open %s", path);
	if (!*path && isatty(0))
		return mesh_fail(err, MESH_E_INVALID, "requested load from stdin, but stdin is empty");
	/* A descriptor of 0 means "no body" to the client: give it another number. */
	CLEAN_CLOSE int in = *path ? -1 : fcntl(0, F_DUPFD_CLOEXEC, 3);
	CLEAN_FREE char *url = xasprintf("/images/load?quiet=%d", flag_bool(c, "quiet") || !isatty(1));
	struct http_request req = {
		.method = "POST", .path = url, .type = "application/x-tar", .body_fd = *path ? own : in
	};
	return read_messages(c, &req, false, err);
}

static int run_pull(struct cli *c, struct mesh_err *err)
{
	CLEAN_FREE char *ref = image_with_tag(c->args[0]);
	CLEAN_FREE char *auth = registry_auth(ref);
	CLEAN_FREE char *headers = auth ? xasprintf("X-Registry-Auth: %s\r\n", auth) : NULL;
	CLEAN_FREE char *repo = NULL;
	CLEAN_FREE char *tag = NULL;
	const char *at = strchr(ref, '@');

	if (flag_bool(c, "all-tags"))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "--all-tags is not supported: pull each tag");
	if (at) {
		repo = xstrndup(ref, (size_t)(at - ref));
		tag = xstrdup(at + 1);
	} else {
		split_tag(ref, &repo, &tag);
	}
	if (strcmp(ref, c->args[0]) && !flag_bool(c, "quiet"))
		printf("Using default tag: latest\n");
	CLEAN_FREE char *from = url_dup(repo);
	CLEAN_FREE char *which = url_dup(tag);
	CLEAN_FREE char *url = xasprintf("/images/create?fromImage=%s&tag=%s", from, which);
	struct http_request req = { .method = "POST", .path = url, .headers = headers };
	int rc = read_messages(c, &req, flag_bool(c, "quiet"), err);
	if (!rc)
		printf("%s\n", ref);
	return rc;
}

static int rm_one(struct cli *c, const char *name, struct mesh_err *err)
{
	JSON_CLEAN gone = NULL;
	CLEAN_FREE char *path = image_path(name);
	json_t *v;
	size_t i;
	int rc = api_delete(c, &gone, err, "/images/%s?force=%d&noprune=%d", path, flag_bool(c, "force"),
	                    flag_bool(c, "no-prune"));

	json_array_foreach(gone, i, v) printf("%s: %s\n", *js(v, "Deleted") ? "Deleted" : "Untagged",
	                                      *js(v, "Deleted") ? js(v, "Deleted") : js(v, "Untagged"));
	return rc;
}

static int run_rm(struct cli *c, struct mesh_err *err)
{
	return each_arg(c, rm_one, err);
}

static int run_inspect(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN found = json_array();
	int missing = 0, rc = 0;

	for (int i = 0; i < c->nargs; i++) {
		struct mesh_err why = { 0 };
		CLEAN_FREE char *path = image_path(c->args[i]);
		json_t *o;
		if (api_get(c, &o, &why, "/images/%s/json", path) == 0) {
			json_array_append_new(found, o);
		} else {
			fprintf(stderr, "%s\n", why.msg);
			missing = 1;
		}
	}
	if (!*flag_str(c, "format") || json_array_size(found))
		rc = inspect_print(found, flag_str(c, "format"), err);
	return rc < 0 ? rc : missing;
}

static int run_tag(struct cli *c, struct mesh_err *err)
{
	CLEAN_FREE char *path = image_path(c->args[0]);
	CLEAN_FREE char *target = image_with_tag(c->args[1]);
	CLEAN_FREE char *repo = NULL;
	CLEAN_FREE char *tag = NULL;

	split_tag(target, &repo, &tag);
	CLEAN_FREE char *r = url_dup(repo);
	CLEAN_FREE char *t = url_dup(tag);
	return api_post(c, NULL, NULL, err, "/images/%s/tag?repo=%s&tag=%s", path, r, t);
}

static int run_prune(struct cli *c, struct mesh_err *err)
{
	struct str_list filters = { 0 };
	JSON_CLEAN answer = NULL;
	json_t *v;
	size_t i;
	char size[32];

	for (size_t f = 0; f < flag_list(c, "filter")->n; f++)
		strs_add(&filters, flag_list(c, "filter")->v[f]);
	strs_add(&filters, flag_bool(c, "all") ? "dangling=false" : "dangling=true");
	CLEAN_FREE char *query = api_filters(&filters, err);
	strs_clear(&filters);
	if (!query)
		return MESH_E_USAGE;
	if (!flag_bool(c, "force") &&
	    !confirm("WARNING! This will remove unused images.\nAre you sure you want to continue?"))
		return 0;
	int rc = api_post(c, NULL, &answer, err, "/images/prune?%s", query);
	if (rc < 0)
		return rc;
	if (json_array_size(jo(answer, "ImagesDeleted")))
		printf("Deleted Images:\n");
	json_array_foreach(jo(answer, "ImagesDeleted"), i, v)
		printf("%s: %s\n", *js(v, "Deleted") ? "deleted" : "untagged",
	               *js(v, "Deleted") ? js(v, "Deleted") : js(v, "Untagged"));
	format_size((double)ji(answer, "SpaceReclaimed"), 4, size, sizeof(size));
	printf("\nTotal reclaimed space: %s\n", size);
	return 0;
}

static const struct flag ls_flags[] = {
	{ "all", 'a', F_BOOL, NULL, "hides intermediate images", "Show all images" },
	{ "digests", 0, F_BOOL, NULL, NULL, "Show digests" },
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Don't truncate output" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only show image IDs" },
};

static const struct flag load_flags[] = {
	{ "input", 'i', F_STR, NULL, NULL, "Read from tar archive file, instead of STDIN" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Suppress the load output" },
};

static const struct flag pull_flags[] = {
	{ "all-tags", 'a', F_BOOL, NULL, NULL, "Download all tagged images in the repository" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Suppress verbose output" },
};

static const struct flag rm_flags[] = {
	{ "force", 'f', F_BOOL, NULL, NULL, "Force removal of the image" },
	{ "no-prune", 0, F_BOOL, NULL, NULL, "Do not delete untagged parents" },
};

static const struct flag inspect_flags[] = {
	{ "format", 'f', F_STR, NULL, NULL, "'json' or a Go template" },
};

static const struct flag prune_flags[] = {
	{ "all", 'a', F_BOOL, NULL, NULL, "Remove all unused images, not just dangling ones" },
	{ "filter", 0, F_LIST, "filter", NULL, "Provide filter values (e.g. \"until=<timestamp>\")" },
	{ "force", 'f', F_BOOL, NULL, NULL, "Do not prompt for confirmation" },
};

static const struct command sub_ls = {
	.name = "ls",
	.alias = "list",
	.usage = "[REPOSITORY[:TAG]]",
	.summary = "List images",
	FLAGS(ls_flags),
	.run = run_ls,
	.max = 1,
	.comp = "image",
	.example = "  meshctl image ls --filter reference=web",
};
static const struct command sub_load = {
	.name = "load",
	.summary = "Load images from a tar archive or standard input",
	FLAGS(load_flags),
	.run = run_load,
	.example = "  meshctl image load -i web.tar",
};
static const struct command sub_pull = {
	.name = "pull",
	.usage = "NAME[:TAG|@DIGEST]",
	.summary = "Download an image from a registry",
	FLAGS(pull_flags),
	.run = run_pull,
	.min = 1,
	.max = 1,
	.comp = "image",
	.example = "  meshctl image pull 127.0.0.1:5000/web:2",
};
static const struct command sub_rm = {
	.name = "rm",
	.alias = "remove",
	.usage = "IMAGE [IMAGE...]",
	.summary = "Remove one or more images",
	FLAGS(rm_flags),
	.run = run_rm,
	.min = 1,
	.max = -1,
	.comp = "image",
	.example = "  meshctl image rm web:1",
};
static const struct command sub_tag = {
	.name = "tag",
	.usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
	.summary = "Create a tag that refers to an image",
	.run = run_tag,
	.min = 2,
	.max = 2,
	.comp = "image",
	.example = "  meshctl image tag web:2 web:latest",
};
static const struct command sub_inspect = {
	.name = "inspect",
	.usage = "IMAGE [IMAGE...]",
	.summary = "Display detailed information on one or more images",
	FLAGS(inspect_flags),
	.run = run_inspect,
	.min = 1,
	.max = -1,
	.comp = "image",
	.example = "  meshctl image inspect --format '{{.Config.Cmd}}' web:2",
};
static const struct command sub_prune = {
	.name = "prune",
	.summary = "Remove unused images",
	FLAGS(prune_flags),
	.run = run_prune,
	.example = "  meshctl image prune -af",
};
const struct command cmd_images = {
	.name = "images",
	.usage = "[REPOSITORY[:TAG]]",
	.summary = "List images",
	FLAGS(ls_flags),
	.run = run_ls,
	.max = 1,
	.comp = "image",
	.example = "  meshctl images --filter reference=web",
};
const struct command cmd_load = {
	.name = "load",
	.summary = "Load images from a tar archive or standard input",
	FLAGS(load_flags),
	.run = run_load,
	.example = "  meshctl load -i web.tar",
};
const struct command cmd_pull = {
	.name = "pull",
	.usage = "NAME[:TAG|@DIGEST]",
	.summary = "Download an image from a registry",
	FLAGS(pull_flags),
	.run = run_pull,
	.min = 1,
	.max = 1,
	.comp = "image",
	.example = "  meshctl pull 127.0.0.1:5000/web:2",
};
const struct command cmd_rmi = {
	.name = "rmi",
	.usage = "IMAGE [IMAGE...]",
	.summary = "Remove one or more images",
	FLAGS(rm_flags),
	.run = run_rm,
	.min = 1,
	.max = -1,
	.comp = "image",
	.example = "  meshctl rmi web:1",
};
const struct command cmd_tag = {
	.name = "tag",
	.usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
	.summary = "Create a tag that refers to an image",
	.run = run_tag,
	.min = 2,
	.max = 2,
	.comp = "image",
	.example = "  meshctl tag web:2 web:latest",
};

static const struct command *const subs[] = { &sub_inspect, &sub_load, &sub_ls,  &sub_prune,
	                                      &sub_pull,    &sub_rm,   &sub_tag, NULL };
const struct command cmd_image = {
	.name = "image",
	.summary = "Manage images",
	.subs = subs,
};
