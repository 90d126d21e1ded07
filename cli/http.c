/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/http.h"

#define HEADER_MAX (64 * 1024)
#define LINE_MAX_ (16 * 1024)
#define BODY_MAX (256u * 1024 * 1024)

void http_parser_init(struct http_parser *p, bool head)
{
	struct buf line = p->line;

	buf_clear(&line);
	*p = (struct http_parser){ .state = HP_STATUS, .head = head, .keep_alive = true, .line = line };
}

void http_parser_fini(struct http_parser *p)
{
	buf_fini(&p->line);
}

static int status_line(struct http_parser *p, const char *s, struct mesh_err *err)
{
	int minor, status;

	if (sscanf(s, "HTTP/1.%1d %3d", &minor, &status) != 2 || status < 100 || status > 599)
		return mesh_fail(err, MESH_E_PROTOCOL, "the daemon does not speak HTTP");
	p->status = status;
	p->keep_alive = minor > 0;
	p->state = HP_HEADER;
	return 0;
}

static int header_line(struct http_parser *p, char *s, struct mesh_err *err)
{
	char *colon = strchr(s, ':');

	if (!colon)
		return mesh_fail(err, MESH_E_PROTOCOL, "malformed header in the daemon's answer");
	*colon = 0;
	char *v = colon + 1;
	while (*v == ' ' || *v == '\t')
		v++;
	if (!strcasecmp(s, "content-length")) {
		char *end;
		errno = 0;
		p->left = strtoull(v, &end, 10);
		if (end == v || *end || errno || !isdigit((unsigned char)*v))
			return mesh_fail(err, MESH_E_PROTOCOL, "malformed Content-Length in the daemon's answer");
		p->has_length = true;
	} else if (!strcasecmp(s, "transfer-encoding")) {
		p->chunked = !strcasecmp(v, "chunked");
	} else if (!strcasecmp(s, "connection")) {
		if (!strcasecmp(v, "close"))
			p->keep_alive = false;
	} else if (!strcasecmp(s, "api-version")) {
		snprintf(p->api_version, sizeof(p->api_version), "%s", v);
	} else if (!strcasecmp(s, "content-type")) {
		snprintf(p->content_type, sizeof(p->content_type), "%s", v);
	}
	return 0;
}

static void headers_end(struct http_parser *p)
{
	if (p->status == 101) {
		p->state = HP_TAKEN;
	} else if (p->status < 200) {
		p->state = HP_STATUS; /* 100 Continue: the real answer follows */
		p->has_length = p->chunked = false;
	} else if (p->head || p->status == 204 || p->status == 304) {
		p->state = HP_DONE;
	} else if (p->chunked) {
		p->state = HP_CHUNK;
	} else if (p->has_length) {
		p->state = p->left ? HP_LENGTH : HP_DONE;
	} else {
		p->state = HP_EOF;
		p->keep_alive = false;
	}
}

static int chunk_size(struct http_parser *p, const char *s, struct mesh_err *err)
{
	char *end;

	errno = 0;
	p->left = strtoull(s, &end, 16);
	if (end == s || errno || !isxdigit((unsigned char)*s) || (*end && *end != ';' && *end != ' '))
		return mesh_fail(err, MESH_E_PROTOCOL, "malformed chunk in the daemon's answer");
	p->state = p->left ? HP_DATA : HP_TRAILER;
	return 0;
}

static int take_line(struct http_parser *p, struct mesh_err *err)
{
	char *s = (char *)buf_str(&p->line);
	int rc = 0;

	switch (p->state) {
	case HP_STATUS:
		rc = *s ? status_line(p, s, err) : 0;
		break;
	case HP_HEADER:
		if (*s)
			rc = header_line(p, s, err);
		else
			headers_end(p);
		break;
	case HP_CHUNK:
		rc = chunk_size(p, s, err);
		break;
	case HP_DATA_END:
		if (*s)
			rc = mesh_fail(err, MESH_E_PROTOCOL, "malformed chunk in the daemon's answer");
		p->state = HP_CHUNK;
		break;
	default: /* HP_TRAILER */
		if (!*s)
			p->state = HP_DONE;
		break;
	}
	buf_clear(&p->line);
	return rc;
}

/* Collects bytes up to a newline; returns how many were used. */
static size_t collect_line(struct http_parser *p, const uint8_t *in, size_t n, bool *whole)
{
	const uint8_t *nl = memchr(in, '\n', n);
	size_t len = nl ? (size_t)(nl - in) : n;

	buf_put(&p->line, in, len);
	p->header_bytes += len + 1;
	*whole = nl != NULL;
	if (nl && p->line.len && p->line.data[p->line.len - 1] == '\r')
		p->line.len--;
	return nl ? len + 1 : len;
}

int http_parser_feed(struct http_parser *p, const void *in, size_t n, size_t *used, struct buf *body,
                     struct mesh_err *err)
{
	const uint8_t *at = in, *end = at + n;
	int rc = 0;

	while (at < end && p->state != HP_DONE && p->state != HP_TAKEN && !rc) {
		size_t have = (size_t)(end - at);
		if (p->state == HP_EOF) {
			buf_put(body, at, have);
			at = end;
		} else if (p->state == HP_LENGTH || p->state == HP_DATA) {
			size_t take = have < p->left ? have : (size_t)p->left;
			buf_put(body, at, take);
			at += take;
			p->left -= take;
			if (!p->left)
				p->state = p->state == HP_DATA ? HP_DATA_END : HP_DONE;
			p->header_bytes = 0;
		} else {
			bool whole;
			at += collect_line(p, at, have, &whole);
			if (p->line.len > LINE_MAX_ || p->header_bytes > HEADER_MAX)
				rc = mesh_fail(err, MESH_E_PROTOCOL, "header in the daemon's answer is too long");
			else if (whole && memchr(p->line.data ? p->line.data : (const uint8_t *)"", 0, p->line.len))
				rc = mesh_fail(err, MESH_E_PROTOCOL, "malformed header in the daemon's answer");
			else if (whole)
				rc = take_line(p, err);
		}
	}
	*used = (size_t)(at - (const uint8_t *)in);
	return rc;
}

int http_parser_eof(struct http_parser *p, struct mesh_err *err)
{
	if (p->state == HP_EOF)
		p->state = HP_DONE;
	if (p->state == HP_DONE)
		return 0;
	return mesh_fail(err, MESH_E_CLOSED, "the daemon closed the connection in the middle of an answer");
}

struct http *http_new(const char *host)
{
	struct http *h = XNEW(struct http);

	h->host = xstrdup(host);
	h->fd = -1;
	return h;
}

static void disconnect(struct http *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
	buf_clear(&h->in);
	buf_clear(&h->ready);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	disconnect(h);
	http_parser_fini(&h->parser);
	buf_fini(&h->in);
	buf_fini(&h->ready);
	free(h->host);
	free(h);
}

static int connect_unix(const char *path, struct mesh_err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	CLEAN_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(sa.sun_path))
		return mesh_fail(err, MESH_E_INVALID, "socket path '%s' is too long", path);
	strcpy(sa.sun_path, path);
	if (fd < 0)
		return mesh_fail(err, -errno, "socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return mesh_fail(err, -errno, "Cannot connect to the mesh daemon at unix://%s. Is meshd running?",
		                 path);
	return TAKE_FD(fd);
}

static int connect_tcp(const char *addr, struct mesh_err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	CLEAN_FREE char *copy = xstrdup(addr);
	char *slash = strchr(copy, '/');
	int fd = -1, saved = EINVAL;

	if (slash)
		*slash = 0;
	char *colon = strrchr(copy, ':');
	if (!colon)
		return mesh_fail(err, MESH_E_INVALID, "'tcp://%s' has no port", addr);
	*colon = 0;
	char *name = copy;
	if (*name == '[' && colon > name && colon[-1] == ']') {
		name++;
		colon[-1] = 0;
	}
	int rc = getaddrinfo(name, colon + 1, &hints, &list);
	if (rc)
		return mesh_fail(err, MESH_E_NOT_FOUND, "'%s': %s", addr, gai_strerror(rc));
	for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			saved = errno;
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	if (fd < 0)
		return mesh_fail(err, -saved, "Cannot connect to the mesh daemon at tcp://%s. Is meshd running?", addr);
	return fd;
}

static int ensure_connected(struct http *h, struct mesh_err *err)
{
	if (h->fd >= 0)
		return 0;
	if (!strncmp(h->host, "unix://", 7))
		h->fd = connect_unix(h->host + 7, err);
	else if (!strncmp(h->host, "tcp://", 6))
		h->fd = connect_tcp(h->host + 6, err);
	else if (h->host[0] == '/')
		h->fd = connect_unix(h->host, err);
	else
		return mesh_fail(err, MESH_E_INVALID, "unable to parse host '%s': use unix:///path or tcp://host:port",
		                 h->host);
	if (h->fd >= 0)
		return 0;
	int rc = h->fd;
	h->fd = -1;
	return rc;
}

static int send_all(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t w = send(fd, at, n, MSG_NOSIGNAL);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		at += w;
		n -= (size_t)w;
	}
	return 0;
}

/* An answer may come before all was sent (an early refusal): what we could not send is then no error. */
static int send_fd(int sock, int fd)
{
	char chunk[65536 + 32];

	for (;;) {
		ssize_t r = read(fd, chunk + 16, 65536);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (!r)
			return send_all(sock, "0\r\n\r\n", 5);
		char size[16];
		int n = snprintf(size, sizeof(size), "%zx\r\n", (size_t)r);
		memcpy(chunk + 16 - n, size, (size_t)n);
		memcpy(chunk + 16 + r, "\r\n", 2);
		int rc = send_all(sock, chunk + 16 - n, (size_t)(n + r + 2));
		if (rc < 0)
			return rc;
	}
}

static void request_head(const struct http_request *req, struct buf *out)
{
	buf_printf(out, "%s %s HTTP/1.1\r\nHost: api.mesh.localhost\r\nUser-Agent: meshctl/" MESH_VERSION "\r\n",
	           req->method, req->path);
	if (req->headers)
		buf_puts(out, req->headers);
	if (req->upgrade)
		buf_puts(out, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
	if (req->body || req->body_fd > 0)
		buf_printf(out, "Content-Type: %s\r\n", req->type ? req->type : "application/json");
	if (req->body_fd > 0)
		buf_puts(out, "Transfer-Encoding: chunked\r\n");
	else if (req->body || !strcmp(req->method, "POST"))
		buf_printf(out, "Content-Length: %zu\r\n", req->body ? req->body_len : 0);
	buf_puts(out, "\r\n");
	if (req->body)
		buf_put(out, req->body, req->body_len);
}

/* Receives and parses once; 0 = end of stream. */
static int receive(struct http *h, struct buf *body, struct mesh_err *err)
{
	size_t used;

	if (!h->in.len) {
		struct pollfd pfd = { .fd = h->fd, .events = POLLIN };
		ssize_t r;
		if (h->timeout_ms > 0 && poll(&pfd, 1, h->timeout_ms) == 0)
			return mesh_fail(err, MESH_E_TIMEOUT, "%s: no answer within %d ms", h->host, h->timeout_ms);
		do {
			r = recv(h->fd, buf_reserve(&h->in, 65536), 65536, 0);
		} while (r < 0 && errno == EINTR);
		if (r < 0)
			return mesh_fail(err, -errno, "reading from %s", h->host);
		if (!r)
			return http_parser_eof(&h->parser, err);
		h->in.len += (size_t)r;
	}
	int rc = http_parser_feed(&h->parser, h->in.data, h->in.len, &used, body, err);
	buf_consume(&h->in, used);
	return rc < 0 ? rc : 1;
}

static int try_begin(struct http *h, const struct http_request *req, struct mesh_err *err)
{
	struct buf head = { 0 };
	int rc = ensure_connected(h, err);

	if (rc < 0)
		return rc;
	if (h->debug)
		fprintf(stderr, "> %s %s%s%.*s\n", req->method, req->path, req->body ? " " : "",
		        req->body && req->body_len < 4096 ? (int)req->body_len : 0, req->body ? req->body : "");
	request_head(req, &head);
	rc = send_all(h->fd, head.data, head.len);
	buf_fini(&head);
	if (!rc && req->body_fd > 0) {
		rc = send_fd(h->fd, req->body_fd);
		if (rc == -EPIPE || rc == -ECONNRESET)
			rc = 0;
	}
	if (rc < 0)
		return mesh_fail(err, rc, "sending to %s", h->host);
	h->timeout_ms = req->timeout_ms;
	http_parser_init(&h->parser, !strcmp(req->method, "HEAD"));
	do {
		rc = receive(h, &h->ready, err);
	} while (rc > 0 && (h->parser.state == HP_STATUS || h->parser.state == HP_HEADER));
	if (rc >= 0 && h->debug)
		fprintf(stderr, "< %d\n", h->parser.status);
	return rc < 0 ? rc : 0;
}

int http_begin(struct http *h, const struct http_request *req, struct mesh_err *err)
{
	/* What is left of an answer nobody read to its end makes the connection useless. */
	if (h->fd >= 0 && (h->parser.state != HP_DONE || !h->parser.keep_alive))
		disconnect(h);
	bool reused = h->fd >= 0;
	int rc = try_begin(h, req, err);

	if (rc < 0 && reused && h->parser.state == HP_STATUS && req->body_fd <= 0 && rc != MESH_E_TIMEOUT) {
		disconnect(h); /* the daemon closed an idle connection */
		rc = try_begin(h, req, err);
	}
	if (rc < 0)
		disconnect(h);
	return rc;
}

int http_read(struct http *h, struct buf *out, struct mesh_err *err)
{
	if (h->ready.len) {
		buf_put(out, h->ready.data, h->ready.len);
		buf_clear(&h->ready);
		return 1;
	}
	if (h->parser.state == HP_DONE || h->parser.state == HP_TAKEN)
		return 0;
	int rc = receive(h, out, err);
	if (rc < 0)
		disconnect(h);
	return rc;
}

int http_call(struct http *h, const struct http_request *req, int *status, struct buf *body, struct mesh_err *err)
{
	int rc = http_begin(h, req, err);

	if (rc < 0)
		return rc;
	do {
		rc = http_read(h, body, err);
	} while (rc > 0 && body->len <= BODY_MAX);
	if (rc > 0) {
		disconnect(h);
		return mesh_fail(err, MESH_E_PROTOCOL, "the daemon's answer is too long");
	}
	*status = h->parser.status;
	return rc;
}

int http_take(struct http *h, struct buf *early)
{
	buf_put(early, h->in.data, h->in.len);
	buf_clear(&h->in);
	return TAKE_FD(h->fd);
}

void url_escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (isalnum((unsigned char)*text) || strchr("-_.~", *text))
			buf_put(out, text, 1);
		else
			buf_printf(out, "%%%02X", (unsigned char)*text);
	}
}
