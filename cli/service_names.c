/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names in a ServiceSpec to ids, images to digests, and the credentials for them. */
#include "cli/service_spec.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "cli/spec.h"
#include "cli/units.h"

int spec_network_id(struct cli *c, json_t *n, struct mesh_err *err)
{
	JSON_CLEAN net = NULL;
	CLEAN_FREE char *name = url_dup(js(n, "Target"));
	int rc = api_get(c, &net, err, "/networks/%s?scope=swarm", name);

	if (!rc)
		json_object_set_new(n, "Target", json_string(js(net, "Id")));
	return rc;
}

static const json_t *by_name(const json_t *list, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach((json_t *)list, i, o) if (!strcmp(js(o, "Spec.Name"), name)) return o;
	return NULL;
}

/* kind: "Secret" or "Config" */
int spec_file_ids(struct cli *c, json_t *refs, const char *kind, struct mesh_err *err)
{
	JSON_CLEAN filter = json_pack("{s:{}}", "name");
	JSON_CLEAN found = NULL;
	char name_key[16], id_key[16];
	json_t *r;
	size_t i, k;

	snprintf(name_key, sizeof(name_key), "%sName", kind);
	snprintf(id_key, sizeof(id_key), "%sID", kind);
	json_array_foreach(refs, i, r) if (!*js(r, id_key))
		json_object_set_new(jo(filter, "name"), js(r, name_key), json_true());
	if (!json_object_size(jo(filter, "name")))
		return 0;
	for (i = 0; i < json_array_size(refs); i++)
		for (k = 0; k < i; k++) {
			json_t *a = json_array_get(refs, i), *b = json_array_get(refs, k);
			if (*js(a, "File.Name") && !strcmp(js(a, "File.Name"), js(b, "File.Name")))
				return mesh_fail(err, MESH_E_INVALID, "duplicate %s target for %s not allowed",
				                 kind[0] == 'S' ? "secret" : "config", js(a, name_key));
		}
	CLEAN_FREE char *text = json_line(filter);
	CLEAN_FREE char *escaped = url_dup(text);
	int rc = api_get(c, &found, err, "/%s?filters=%s", kind[0] == 'S' ? "secrets" : "configs", escaped);
	if (rc < 0)
		return rc;
	json_array_foreach(refs, i, r)
	{
		if (*js(r, id_key))
			continue;
		const json_t *o = by_name(found, js(r, name_key));
		if (!o)
			return mesh_fail(err, MESH_E_NOT_FOUND, "%s not found: %s",
			                 kind[0] == 'S' ? "secret" : "config", js(r, name_key));
		json_object_set_new(r, id_key, json_string(js(o, "ID")));
	}
	return 0;
}

int service_references(struct cli *c, json_t *spec, struct mesh_err *err)
{
	json_t *n, *nets = jo(spec, TASK "Networks");
	size_t i;
	int rc = 0;

	json_array_foreach(nets, i, n) if (!rc) rc = spec_network_id(c, n, err);
	if (!rc && nets)
		spec_sort(nets, "Target");
	if (!rc)
		rc = spec_file_ids(c, jo(spec, CSPEC "Secrets"), "Secret", err);
	if (!rc)
		rc = spec_file_ids(c, jo(spec, CSPEC "Configs"), "Config", err);
	return rc;
}

int service_credentials(struct cli *c, const char *image, char **headers, struct mesh_err *err)
{
	(void)err;
	*headers = NULL;
	if (!flag_bool(c, "with-registry-auth"))
		return 0;
	CLEAN_FREE char *auth = registry_auth(image);
	*headers = xasprintf("X-Registry-Auth: %s\r\n", auth ? auth : "e30=");
	return 0;
}

char *image_with_tag(const char *image)
{
	const char *slash = strrchr(image, '/');
	const char *last = slash ? slash : image;

	return strchr(last, ':') || strchr(image, '@') ? xstrdup(image) : xasprintf("%s:latest", image);
}

bool service_tag_image(json_t *spec)
{
	CLEAN_FREE char *image = image_with_tag(js(spec, CSPEC "Image"));

	jset(spec, CSPEC "Image", json_string(image));
	return true;
}

bool service_pin_image(struct cli *c, json_t *spec, const char *headers)
{
	CLEAN_FREE char *image = image_with_tag(js(spec, CSPEC "Image"));
	CLEAN_FREE char *escaped = NULL;
	JSON_CLEAN info = NULL;
	struct buf path = { 0 };

	if (strchr(image, '@'))
		return true;
	/* Slashes stay: they are part of the route. */
	buf_puts(&path, "/distribution/");
	for (const char *p = image; *p; p++)
		if (*p == '/' || *p == ':') {
			buf_put(&path, p, 1);
		} else {
			char one[2] = { *p, 0 };
			url_escape(&path, one);
		}
	buf_puts(&path, "/json");
	CLEAN_FREE char *at = buf_take_str(&path);
	struct http_request req = { .method = "GET", .path = at, .headers = headers };
	jset(spec, CSPEC "Image", json_string(image));
	if (api_call(c, &req, &info, NULL) < 0 || !*js(info, "Descriptor.digest")) {
		return false;
	}
	CLEAN_FREE char *pinned = xasprintf("%s@%s", image, js(info, "Descriptor.digest"));
	jset(spec, CSPEC "Image", json_string(pinned));
	json_t *platforms = json_array(), *p;
	size_t i;
	json_array_foreach(jo(info, "Platforms"), i, p)
	{
		json_t *one = json_object();
		if (*js(p, "architecture"))
			json_object_set_new(one, "Architecture", json_string(js(p, "architecture")));
		if (*js(p, "os"))
			json_object_set_new(one, "OS", json_string(js(p, "os")));
		json_array_append_new(platforms, one);
	}
	if (json_array_size(platforms))
		jset(spec, TASK "Placement.Platforms", platforms);
	else
		json_decref(platforms);
	return true;
}
