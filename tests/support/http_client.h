/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A blocking HTTP client over a unix socket, with limits on its patience; for tests. */
#ifndef TESTS_SUPPORT_HTTP_CLIENT_H
#define TESTS_SUPPORT_HTTP_CLIENT_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define HTTP_UNUSED __attribute__((unused))

struct http {
	int fd;
	int status;
	struct buf head, body; /* of the last answer */
	struct buf in;         /* read and not used */
};

HTTP_UNUSED static int http_open(struct http *h, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 20 };
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	*h = (struct http){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	setsockopt(h->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return connect(h->fd, (struct sockaddr *)&sun, sizeof(sun));
}

HTTP_UNUSED static void http_close(struct http *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
	buf_fini(&h->head);
	buf_fini(&h->body);
	buf_fini(&h->in);
}

HTTP_UNUSED static bool http_more(struct http *h)
{
	uint8_t *to = buf_reserve(&h->in, 65536);
	ssize_t n = recv(h->fd, to, 65536, 0);
	if (n <= 0)
		return false;
	h->in.len += (size_t)n;
	return true;
}

HTTP_UNUSED static void http_send(struct http *h, const void *p, size_t n)
{
	while (n) {
		ssize_t put = send(h->fd, p, n, MSG_NOSIGNAL);
		if (put <= 0)
			return; /* reading the answer fails then */
		p = (const char *)p + put;
		n -= (size_t)put;
	}
}

/* One line without its end; false when the connection ended. */
HTTP_UNUSED static bool http_line(struct http *h, char *out, size_t n)
{
	for (;;) {
		char *end = h->in.len ? memmem(h->in.data, h->in.len, "\r\n", 2) : NULL;
		if (end) {
			size_t len = (size_t)(end - (char *)h->in.data);
			snprintf(out, n, "%.*s", (int)len, (char *)h->in.data);
			buf_consume(&h->in, len + 2);
			return true;
		}
		if (!http_more(h))
			return false;
	}
}

HTTP_UNUSED static bool http_take(struct http *h, size_t n)
{
	while (h->in.len < n)
		if (!http_more(h))
			return false;
	buf_put(&h->body, h->in.data, n);
	buf_consume(&h->in, n);
	return true;
}

HTTP_UNUSED static const char *http_header(struct http *h, const char *name)
{
	static char value[400];
	char want[80];
	snprintf(want, sizeof(want), "\n%s: ", name);
	const char *at = strcasestr(buf_str(&h->head), want);
	if (!at)
		return NULL;
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(at + strlen(want), "\n"), at + strlen(want));
	return value;
}

/* Status line and headers; -1 when there is no answer. */
HTTP_UNUSED static int http_head(struct http *h)
{
	char line[2000];
	buf_clear(&h->head);
	buf_clear(&h->body);
	h->status = -1;
	if (!http_line(h, line, sizeof(line)) || sscanf(line, "HTTP/1.1 %d", &h->status) != 1)
		return -1;
	while (http_line(h, line, sizeof(line)) && *line)
		buf_printf(&h->head, "\n%s", line);
	return h->status;
}

/* The next piece of a chunked body; false at its end. */
HTTP_UNUSED static bool http_chunk(struct http *h)
{
	char line[100];
	if (!http_line(h, line, sizeof(line)))
		return false;
	size_t n = strtoul(line, NULL, 16);
	bool ok = http_take(h, n) && http_line(h, line, sizeof(line));
	return ok && n;
}

HTTP_UNUSED static int http_answer(struct http *h, bool head_only)
{
	if (http_head(h) < 0 || head_only || h->status == 204 || h->status == 304 || h->status == 101)
		return h->status;
	const char *length = http_header(h, "Content-Length");
	if (length && !http_take(h, strtoul(length, NULL, 10)))
		return -1;
	while (!length && http_chunk(h))
		;
	return h->status;
}

/* A whole exchange; body NULL for none. headers: "X: y\r\n" or "". */
HTTP_UNUSED static int http_do(struct http *h, const char *method, const char *path, const char *headers,
                               const char *body)
{
	struct buf out = { 0 };
	buf_printf(&out, "%s %s HTTP/1.1\r\nHost: d\r\n%s", method, path, headers);
	if (body)
		buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
	buf_puts(&out, "\r\n");
	if (body)
		buf_puts(&out, body);
	http_send(h, out.data, out.len);
	buf_fini(&out);
	return http_answer(h, strcmp(method, "HEAD") == 0);
}

#endif
