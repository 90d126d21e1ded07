/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api.h"

#define API_MAX_MINOR 47

int api_ping(struct cli *c, struct mesh_err *err)
{
	struct http_request req = { .method = "HEAD", .path = "/_ping", .timeout_ms = 30000 };
	struct buf body = { 0 };
	int status, minor;

	if (!c->http) {
		c->http = http_new(c->host);
		c->http->debug = c->debug;
	}
	int rc = http_call(c->http, &req, &status, &body, err);
	buf_fini(&body);
	if (rc < 0)
		return rc;
	c->api_minor = 44;
	if (sscanf(c->http->parser.api_version, "1.%d", &minor) == 1)
		c->api_minor = minor < API_MAX_MINOR ? minor : API_MAX_MINOR;
	return 0;
}

const char *api_prefix(const struct cli *c)
{
	static char prefix[16];

	snprintf(prefix, sizeof(prefix), "/v1.%d", c->api_minor);
	return prefix;
}

static int refused(int status, const char *body, struct mesh_err *err)
{
	json_t *j = json_loads(body, JSON_DECODE_ANY, NULL);
	const char *message = j ? js(j, "message") : "";
	int code = status == 404 ? MESH_E_NOT_FOUND : status == 409 ? MESH_E_CONFLICT : MESH_E_RUNTIME;

	if (!*message)
		message = *body ? body : "no message";
	int rc = mesh_fail(err, code, "Error response from daemon: %s", message);
	json_decref(j);
	return rc;
}

static int with_prefix(struct cli *c, struct http_request *req, char **path, struct mesh_err *err)
{
	if (!c->http) {
		int rc = api_ping(c, err);
		if (rc < 0)
			return rc;
	}
	*path = xasprintf("%s%s", api_prefix(c), req->path);
	req->path = *path;
	return 0;
}

int api_call(struct cli *c, struct http_request *req, json_t **out, struct mesh_err *err)
{
	CLEAN_FREE char *path = NULL;
	struct buf body = { 0 };
	json_error_t je;
	int status, rc = with_prefix(c, req, &path, err);

	if (out)
		*out = NULL;
	if (rc < 0)
		return rc;
	rc = http_call(c->http, req, &status, &body, err);
	if (!rc && status >= 400)
		rc = refused(status, buf_str(&body), err);
	if (!rc && out) {
		*out = body.len ? json_loadb((char *)body.data, body.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je)
		                : json_null();
		if (!*out)
			rc = mesh_fail(err, MESH_E_PROTOCOL, "the daemon's answer is not JSON: %s", je.text);
	}
	buf_fini(&body);
	return rc;
}

int api_stream(struct cli *c, struct http_request *req, struct mesh_err *err)
{
	CLEAN_FREE char *path = NULL;
	int rc = with_prefix(c, req, &path, err);

	if (rc < 0)
		return rc;
	rc = http_begin(c->http, req, err);
	if (!rc && c->http->parser.status >= 400) {
		struct buf body = { 0 };
		while ((rc = http_read(c->http, &body, err)) > 0 && body.len < 1u << 20)
			;
		if (rc >= 0)
			rc = refused(c->http->parser.status, buf_str(&body), err);
		buf_fini(&body);
	}
	return rc;
}

static int call_v(struct cli *c, const char *method, json_t *body, json_t **out, struct mesh_err *err, const char *fmt,
                  va_list ap)
{
	CLEAN_FREE char *path = NULL;
	CLEAN_FREE char *text = NULL;
	struct http_request req = { .method = method };

	if (vasprintf(&path, fmt, ap) < 0)
		abort();
	req.path = path;
	if (body) {
		text = json_line(body);
		req.body = text;
		req.body_len = strlen(text);
	}
	return api_call(c, &req, out, err);
}

#define CALL_V(method, body, out)                                                                                      \
	do {                                                                                                           \
		va_list ap;                                                                                            \
		va_start(ap, path);                                                                                    \
		int rc_ = call_v(c, method, body, out, err, path, ap);                                                 \
		va_end(ap);                                                                                            \
		return rc_;                                                                                            \
	} while (0)

int api_get(struct cli *c, json_t **out, struct mesh_err *err, const char *path, ...)
{
	CALL_V("GET", NULL, out);
}

int api_post(struct cli *c, json_t *body, json_t **out, struct mesh_err *err, const char *path, ...)
{
	CALL_V("POST", body, out);
}

int api_delete(struct cli *c, json_t **out, struct mesh_err *err, const char *path, ...)
{
	CALL_V("DELETE", NULL, out);
}

char *url_dup(const char *text)
{
	struct buf b = { 0 };

	url_escape(&b, text);
	return buf_take_str(&b);
}

char *api_filters(const struct str_list *filters, struct mesh_err *err)
{
	JSON_CLEAN all = json_object();

	if (!filters->n)
		return xstrdup("");
	for (size_t i = 0; i < filters->n; i++) {
		const char *eq = strchr(filters->v[i], '=');
		if (!eq) {
			(void)mesh_fail(err, MESH_E_USAGE,
			                "invalid argument \"%s\" for \"-f, --filter\" flag: invalid filter '%s'",
			                filters->v[i], filters->v[i]);
			return NULL;
		}
		CLEAN_FREE char *key = xstrndup(filters->v[i], (size_t)(eq - filters->v[i]));
		json_t *of = json_object_get(all, key);
		if (!of) {
			of = json_object();
			json_object_set_new(all, key, of);
		}
		json_object_set_new(of, eq + 1, json_true());
	}
	CLEAN_FREE char *text = json_line(all);
	CLEAN_FREE char *escaped = url_dup(text);
	return xasprintf("filters=%s", escaped);
}

char *api_filter1(const char *key, const char *value)
{
	JSON_CLEAN f = json_pack("{s:{s:b}}", key, value, 1);
	CLEAN_FREE char *text = json_line(f);

	return url_dup(text);
}

bool json_text_ok(const char *text)
{
	JSON_CLEAN s = json_string(text);

	return s != NULL;
}

json_t *jo(const json_t *o, const char *path)
{
	char name[128];
	json_t *at = (json_t *)o;

	while (at && *path) {
		size_t n = strcspn(path, ".");
		snprintf(name, sizeof(name), "%.*s", (int)n, path);
		at = json_object_get(at, name);
		path += n + (path[n] == '.');
	}
	return at && !json_is_null(at) ? at : NULL;
}

const char *js(const json_t *o, const char *path)
{
	const char *s = json_string_value(jo(o, path));

	return s ? s : "";
}

int64_t ji(const json_t *o, const char *path)
{
	json_t *v = jo(o, path);

	return json_is_integer(v) ? json_integer_value(v) : (int64_t)json_number_value(v);
}

double jf(const json_t *o, const char *path)
{
	return json_number_value(jo(o, path));
}

bool jb(const json_t *o, const char *path)
{
	return json_is_true(jo(o, path));
}

void jset(json_t *o, const char *path, json_t *value)
{
	char name[128];
	size_t n;

	while (path[n = strcspn(path, ".")]) {
		snprintf(name, sizeof(name), "%.*s", (int)n, path);
		json_t *sub = json_object_get(o, name);
		if (!json_is_object(sub)) {
			sub = json_object();
			json_object_set_new(o, name, sub);
		}
		o = sub;
		path += n + 1;
	}
	json_object_set_new(o, path, value);
}

void jdel(json_t *o, const char *path)
{
	const char *dot = strrchr(path, '.');
	CLEAN_FREE char *parent = dot ? xstrndup(path, (size_t)(dot - path)) : xstrdup("");

	json_object_del(jo(o, parent), dot ? dot + 1 : path);
}

char *json_line(const json_t *v)
{
	struct buf b = { 0 };

	json_put(&b, v, 0, false, false);
	return buf_take_str(&b);
}
