/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/image_config.h"

#include <jansson.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

#define MAX_JSON (4u << 20)
#define MAX_STRINGS 4096

static void take_string(json_t *o, const char *key, char **dst)
{
	const char *s = json_string_value(json_object_get(o, key));
	if (s)
		str_set(dst, s);
}

static int take_strings(json_t *o, const char *key, struct str_list *dst)
{
	json_t *list = json_object_get(o, key), *item;
	size_t i;
	if (json_array_size(list) > MAX_STRINGS)
		return MESH_E_INVALID;
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(item))
			return MESH_E_INVALID;
		strs_add(dst, json_string_value(item));
	}
	return 0;
}

/* {"8000/tcp": {}} as a list of keys. */
static int take_keys(json_t *o, const char *key, struct str_list *dst)
{
	json_t *map = json_object_get(o, key), *value;
	const char *k;
	if (json_object_size(map) > MAX_STRINGS)
		return MESH_E_INVALID;
	json_object_foreach(map, k, value) strs_add(dst, k);
	return 0;
}

static int take_health(json_t *config, struct md_health **dst)
{
	json_t *h = json_object_get(config, "Healthcheck");
	if (!json_is_object(h))
		return 0;
	*dst = XNEW(struct md_health);
	(*dst)->interval = json_integer_value(json_object_get(h, "Interval"));
	(*dst)->timeout = json_integer_value(json_object_get(h, "Timeout"));
	(*dst)->start_period = json_integer_value(json_object_get(h, "StartPeriod"));
	(*dst)->start_interval = json_integer_value(json_object_get(h, "StartInterval"));
	(*dst)->retries = json_integer_value(json_object_get(h, "Retries"));
	return take_strings(h, "Test", &(*dst)->test);
}

static json_t *parse(const char *json, size_t n, const char *what, struct mesh_err *err)
{
	json_error_t e;
	if (n > MAX_JSON) {
		mesh_fail(err, MESH_E_INVALID, "%s: %zu bytes is too much", what, n);
		return NULL;
	}
	json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &e);
	if (!root)
		mesh_fail(err, MESH_E_INVALID, "%s: line %d: %s", what, e.line, e.text);
	return root;
}

int image_config_parse(const char *json, size_t n, struct image_config *out, struct mesh_err *err)
{
	json_t *root = parse(json, n, "image config", err), *labels, *v;
	const char *k;
	if (!root)
		return MESH_E_INVALID;
	json_t *c = json_object_get(root, "config");
	int rc = json_is_object(root) && (!c || json_is_object(c) || json_is_null(c)) ? 0 : MESH_E_INVALID;
	if (!rc)
		rc = take_strings(c, "Entrypoint", &out->entrypoint);
	if (!rc)
		rc = take_strings(c, "Cmd", &out->cmd);
	if (!rc)
		rc = take_strings(c, "Env", &out->env);
	if (!rc)
		rc = take_keys(c, "ExposedPorts", &out->exposed);
	if (!rc)
		rc = take_keys(c, "Volumes", &out->volumes);
	if (!rc)
		rc = take_health(c, &out->health);
	take_string(c, "User", &out->user);
	take_string(c, "WorkingDir", &out->dir);
	take_string(c, "StopSignal", &out->stop_signal);
	take_string(root, "architecture", &out->architecture);
	take_string(root, "os", &out->os);
	const char *created = json_string_value(json_object_get(root, "created"));
	if (created && clock_parse(created, &out->created))
		out->created = 0;
	labels = json_object_get(c, "Labels");
	if (json_object_size(labels) > MAX_STRINGS)
		rc = MESH_E_INVALID;
	if (!rc)
		json_object_foreach(labels, k, v) if (json_is_string(v))
			smap_set(&out->labels, k, json_string_value(v));
	json_decref(root);
	return rc ? mesh_fail(err, rc, "image config: not an image configuration") : 0;
}

void image_config_clear(struct image_config *c)
{
	strs_clear(&c->entrypoint);
	strs_clear(&c->cmd);
	strs_clear(&c->env);
	strs_clear(&c->exposed);
	strs_clear(&c->volumes);
	smap_clear(&c->labels);
	sch_free(&md_health_schema, c->health);
	free(c->user);
	free(c->dir);
	free(c->stop_signal);
	free(c->architecture);
	free(c->os);
	*c = (struct image_config){ 0 };
}

/* manifest.json: [{"Config": ..., "RepoTags": ["a:1", ...]}]; an image without tags is "@index". */
static void docker_refs(json_t *root, struct str_list *refs, struct str_list *tags)
{
	json_t *image, *tag;
	size_t i, k;
	char at[32];
	json_array_foreach(root, i, image)
	{
		json_t *names = json_object_get(image, "RepoTags");
		snprintf(at, sizeof(at), "@%zu", i);
		if (!json_array_size(names)) {
			strs_add(refs, at);
			strs_add(tags, "");
		}
		json_array_foreach(names, k, tag)
		{
			if (!json_is_string(tag))
				continue;
			strs_add(refs, json_string_value(tag));
			strs_add(tags, json_string_value(tag));
		}
	}
}

static void oci_refs(json_t *root, struct str_list *refs, struct str_list *tags)
{
	json_t *m;
	size_t i;
	json_array_foreach(json_object_get(root, "manifests"), i, m)
	{
		json_t *a = json_object_get(m, "annotations");
		const char *full = json_string_value(json_object_get(a, "io.containerd.image.name"));
		const char *name = json_string_value(json_object_get(a, "org.opencontainers.image.ref.name"));
		strs_add(refs, name ? name : "");
		strs_add(tags, full ? full : name ? name : "");
	}
}

int image_archive_refs(const char *json, size_t n, bool docker, struct str_list *refs, struct str_list *tags,
                       struct mesh_err *err)
{
	json_t *root = parse(json, n, docker ? "manifest.json" : "index.json", err);
	if (!root)
		return MESH_E_INVALID;
	if (docker)
		docker_refs(root, refs, tags);
	else
		oci_refs(root, refs, tags);
	json_decref(root);
	if (!refs->n || refs->n > 256)
		return mesh_fail(err, MESH_E_INVALID, "the archive names %zu images", refs->n);
	return 0;
}

static int base64_value(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	c = c == '-' ? '+' : c == '_' ? '/' : c; /* both alphabets are in use */
	const char *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

int image_auth_decode(const char *base64, char *out, size_t size)
{
	struct buf b = { 0 };
	uint32_t bits = 0;
	int have = 0, rc = MESH_E_INVALID;
	for (; *base64 && *base64 != '='; base64++) {
		int v = base64_value(*base64);
		if (v < 0)
			break;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf_put_u8(&b, (uint8_t)(bits >> have));
		}
	}
	json_t *root = json_loadb((char *)b.data, b.len, 0, NULL);
	const char *user = json_string_value(json_object_get(root, "username"));
	const char *password = json_string_value(json_object_get(root, "password"));
	if (user && password && (size_t)snprintf(out, size, "%s:%s", user, password) < size)
		rc = 0;
	json_decref(root);
	if (b.data)
		mesh_wipe(b.data, b.len);
	buf_fini(&b);
	return rc;
}

char *image_auth_file(const char *host, const char *user_pass)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct buf b = { 0 };
	size_t n = strlen(user_pass);
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)(uint8_t)user_pass[i] << 16;
		v |= i + 1 < n ? (uint32_t)(uint8_t)user_pass[i + 1] << 8 : 0;
		v |= i + 2 < n ? (uint8_t)user_pass[i + 2] : 0;
		buf_put_u8(&b, (uint8_t)digits[v >> 18]);
		buf_put_u8(&b, (uint8_t)digits[v >> 12 & 63]);
		buf_put_u8(&b, (uint8_t)(i + 1 < n ? digits[v >> 6 & 63] : '='));
		buf_put_u8(&b, (uint8_t)(i + 2 < n ? digits[v & 63] : '='));
	}
	json_t *root = json_pack("{s:{s:{s:s}}}", "auths", host, "auth", buf_str(&b));
	char *text = json_dumps(root, JSON_COMPACT), *copy = xstrdup(text);
	mesh_wipe(b.data, b.len);
	buf_fini(&b);
	json_decref(root);
	mesh_wipe(text, strlen(text));
	free(text);
	return copy;
}
