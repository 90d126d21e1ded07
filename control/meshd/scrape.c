/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/meshd/scrape.h"

#include <string.h>

static bool is_path(const char *p, size_t n, const char *path)
{
	size_t len = strlen(path);
	return n >= len && memcmp(p, path, len) == 0 && (n == len || p[len] == '?');
}

static bool port_of(const char *p, size_t n, unsigned *out)
{
	static const char prefix[] = "/health/";
	unsigned v = 0;
	size_t i = sizeof(prefix) - 1;
	if (n <= i || n > i + 5 || memcmp(p, prefix, i) != 0)
		return false;
	for (; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(p[i] - '0');
	}
	*out = v;
	return v > 0 && v < 65536;
}

int scrape_parse(const char *p, size_t n, struct scrape_request *out)
{
	*out = (struct scrape_request){ 0 };
	if (!memmem(p, n, "\r\n\r\n", 4) && !memmem(p, n, "\n\n", 2))
		return 0;
	size_t line = (size_t)((const char *)memchr(p, '\n', n) - p);
	size_t method = line > 4 && memcmp(p, "GET ", 4) == 0 ? 4 : line > 5 && memcmp(p, "HEAD ", 5) == 0 ? 5 : 0;
	const char *path = p + method, *end = method ? memchr(path, ' ', line - method) : NULL;
	if (!end)
		return 1;
	size_t len = (size_t)(end - path);
	out->head = method == 5;
	if (is_path(path, len, "/metrics"))
		out->what = SCRAPE_METRICS;
	else if (is_path(path, len, "/health"))
		out->what = SCRAPE_HEALTH;
	else
		out->what = port_of(path, len, &out->port) ? SCRAPE_PORT : SCRAPE_UNKNOWN;
	return 1;
}
