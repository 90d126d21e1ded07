/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands in a request line: the path with its version, and the filters; and base64 in headers. */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "control/api/filters.h"

static void try_path(const char *text)
{
	static const char *const methods[] = { "GET", "POST", "DELETE", "HEAD", "" };
	int minor;
	const char *path;
	struct mesh_err err = { 0 };
	if (api_path_split(text, &minor, &path, &err))
		return;
	if (minor && minor < API_MIN_MINOR)
		abort();
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		char *arg[REQ_ARGS] = { NULL };
		bool known;
		const struct route *r = api_route_find(methods[i], path, arg, &known);
		if (r && !known)
			abort();
		for (int k = 0; k < REQ_ARGS; k++) {
			if (arg[k] && !*arg[k])
				abort(); /* an argument is never empty */
			free(arg[k]);
		}
	}
}

static void try_filters(const char *text)
{
	static const char *const allowed[] = { "name", "label", "id", NULL };
	struct filters f = { 0 };
	struct mesh_err err = { 0 };
	struct str_map labels = { 0 };
	smap_set(&labels, "a", "b");
	if (filters_parse(text, allowed, &f, &err) && !err.msg[0])
		abort();
	(void)filters_exact(&f, "name", "x");
	(void)filters_prefix(&f, "name", "web");
	(void)filters_contains(&f, "id", "web");
	(void)filters_labels(&f, "label", &labels);
	(void)filters_bool(&f, "name", false);
	filters_clear(&f);
	smap_clear(&labels);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct bytes b = { 0 };
	if (!n)
		return 0;
	char *text = xstrndup((const char *)p + 1, n - 1);
	switch (p[0] % 3) {
	case 0:
		try_path(text);
		break;
	case 1:
		try_filters(text);
		break;
	default:
		if (md_base64_decode(text, &b) == 0)
			bytes_set(&b, NULL, 0);
		if (md_base64url_decode(text, &b) == 0)
			bytes_set(&b, NULL, 0);
	}
	free(text);
	return 0;
}
