/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Credentials for registries, where docker login and skopeo login keep them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/service.h"
#include "cli/show.h"

/* The host part of an image name; docker.io when there is none. */
static char *registry_of(const char *image)
{
	size_t n = strcspn(image, "/");

	if (!image[n] || (!memchr(image, '.', n) && !memchr(image, ':', n) && strncmp(image, "localhost", n)))
		return xstrdup("https://index.docker.io/v1/");
	return xstrndup(image, n);
}

static json_t *load_config(void)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	CLEAN_FREE char *path = dir && *dir ? xasprintf("%s/config.json", dir)
	                                    : xasprintf("%s/.docker/config.json", home ? home : "/root");

	return json_load_file(path, 0, NULL);
}

char *registry_auth(const char *image)
{
	CLEAN_FREE char *host = registry_of(image);
	JSON_CLEAN config = load_config();
	const json_t *entry = json_object_get(json_object_get(config, "auths"), host);
	uint8_t plain[1024];
	size_t n = 0;

	if (!entry)
		return NULL;
	JSON_CLEAN out = json_pack("{s:s}", "serveraddress", host);
	const char *auth = js(entry, "auth");
	if (*auth && strlen(auth) < sizeof(plain)) {
		n = base64_decode(auth, plain);
		uint8_t *colon = memchr(plain, ':', n);
		if (!colon)
			return NULL;
		json_object_set_new(out, "username", json_stringn((char *)plain, (size_t)(colon - plain)));
		json_object_set_new(out, "password", json_stringn((char *)colon + 1, n - (size_t)(colon - plain) - 1));
		mesh_wipe(plain, sizeof(plain));
	}
	if (*js(entry, "identitytoken"))
		json_object_set_new(out, "identitytoken", json_string(js(entry, "identitytoken")));
	CLEAN_FREE char *text = json_line(out);
	char *encoded = base64(text, strlen(text), true);
	mesh_wipe(text, strlen(text));
	return encoded;
}
