/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Image names as Docker reads them (distribution reference grammar): [domain/]path[:tag][@digest]. */
#include <ctype.h>
#include <stdio.h>

#include "base/mem.h"
#include "control/agent/images.h"

#define HUB "docker.io"

static bool path_ok(const char *s, size_t n)
{
	/* Components of [a-z0-9] joined by one '.', '_', '__' or any '-', parted by '/'. */
	bool need_alnum = true;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (islower((unsigned char)c) || isdigit((unsigned char)c)) {
			need_alnum = false;
			continue;
		}
		if (need_alnum && c != '-' && c != '_')
			return false;
		if (!strchr("._-/", c) || (c == '.' && need_alnum))
			return false;
		if (i == 0 || s[i - 1] == '/')
			return false;
		need_alnum = true;
	}
	return n > 0 && !need_alnum;
}

static bool tag_ok(const char *s)
{
	size_t n = strlen(s);
	if (!n || n > 128 || !(isalnum((unsigned char)s[0]) || s[0] == '_'))
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static bool digest_ok(const char *s)
{
	if (strncmp(s, "sha256:", 7) != 0)
		return false;
	return strlen(s + 7) == 64 && strspn(s + 7, "0123456789abcdef") == 64;
}

static bool domain_ok(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(".-:[]_", s[i]))
			return false;
	return n > 0 && (isalnum((unsigned char)s[0]) || s[0] == '[');
}

int image_ref_normalize(const char *ref, char out[512], struct mesh_err *err)
{
	char copy[512], *tag = NULL, *digest;
	if (!ref || !*ref || strlen(ref) >= 400)
		return mesh_fail(err, MESH_E_INVALID, "invalid reference format: '%.60s'", ref ? ref : "");
	snprintf(copy, sizeof(copy), "%s", ref);
	digest = strchr(copy, '@');
	if (digest)
		*digest++ = '\0';
	char *last_slash = strrchr(copy, '/'), *colon = strrchr(copy, ':');
	if (colon && (!last_slash || colon > last_slash)) {
		*colon = '\0';
		tag = colon + 1;
	}
	/* The first component is a host when it looks like one. */
	char *slash = strchr(copy, '/');
	const char *domain = HUB, *path = copy;
	size_t first = slash ? (size_t)(slash - copy) : 0;
	bool upper = false;
	for (size_t i = 0; i < first; i++)
		upper |= isupper((unsigned char)copy[i]) != 0;
	if (slash &&
	    (memchr(copy, '.', first) || memchr(copy, ':', first) || strncmp(copy, "localhost/", 10) == 0 || upper)) {
		*slash = '\0';
		domain = copy;
		path = slash + 1;
	}
	if (streq(domain, "index.docker.io"))
		domain = HUB;
	if (!domain_ok(domain, strlen(domain)) || (tag && !tag_ok(tag)) || (digest && !digest_ok(digest)))
		return mesh_fail(err, MESH_E_INVALID, "invalid reference format: '%s'", ref);
	for (const char *p = path; *p; p++)
		if (isupper((unsigned char)*p))
			return mesh_fail(err, MESH_E_INVALID,
			                 "invalid reference format: repository name (%s) must be lowercase", path);
	if (!path_ok(path, strlen(path)))
		return mesh_fail(err, MESH_E_INVALID, "invalid reference format: '%s'", ref);
	const char *library = streq(domain, HUB) && !strchr(path, '/') ? "library/" : "";
	int n = snprintf(out, 512, "%s/%s%s", domain, library, path);
	if (tag || !digest)
		n += snprintf(out + n, 512 - (size_t)n, ":%s", tag ? tag : "latest");
	if (digest)
		snprintf(out + n, 512 - (size_t)n, "@%s", digest);
	return 0;
}

void image_ref_familiar(const char *normalized, char out[512])
{
	static const char hub[] = HUB "/", library[] = HUB "/library/";
	if (strncmp(normalized, library, sizeof(library) - 1) == 0)
		normalized += sizeof(library) - 1;
	else if (strncmp(normalized, hub, sizeof(hub) - 1) == 0)
		normalized += sizeof(hub) - 1;
	snprintf(out, 512, "%s", normalized);
}
