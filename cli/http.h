/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   an HTTP/1.1 client over a unix socket or plain TCP: kept alive, chunked both ways, streaming,
 *         and connections taken over after "101 UPGRADED" (exec, attach).
 * Owner:  struct http owns its connection; one request at a time.
 * Thread: one; blocks, at most timeout_ms without a byte where one is set.
 * Errors: -errno of the socket, MESH_E_PROTOCOL for what is not HTTP. Statuses are not errors here.
 */
#ifndef MESH_CLI_HTTP_H
#define MESH_CLI_HTTP_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

enum http_state {
	HP_STATUS,
	HP_HEADER,
	HP_LENGTH,
	HP_CHUNK,
	HP_DATA,
	HP_DATA_END,
	HP_TRAILER,
	HP_EOF,
	HP_DONE,
	HP_TAKEN
};

/* The response parser: bytes in, status, headers of interest and body bytes out. Pure. */
struct http_parser {
	enum http_state state;
	bool head; /* the request was HEAD: no body follows */
	int status;
	bool chunked, has_length, keep_alive;
	uint64_t left; /* bytes of body or chunk still to come */
	size_t header_bytes;
	struct buf line;
	char api_version[16], content_type[64];
};
void http_parser_init(struct http_parser *p, bool head);
void http_parser_fini(struct http_parser *p);
/* Takes up to n bytes; *used says how many belong to this response; body bytes are appended. */
int http_parser_feed(struct http_parser *p, const void *in, size_t n, size_t *used, struct buf *body,
                     struct mesh_err *err) MESH_MUST_CHECK;
/* The peer closed: fine only where the body ends that way. */
int http_parser_eof(struct http_parser *p, struct mesh_err *err) MESH_MUST_CHECK;

struct http_request {
	const char *method, *path; /* path with its query, already escaped */
	const char *type;          /* NULL = application/json */
	const char *body;          /* NULL = none */
	size_t body_len;
	int body_fd;         /* > 0: sent chunked until its end instead of body */
	const char *headers; /* further header lines, each with \r\n, or NULL */
	bool upgrade;        /* ask for the raw connection */
	int timeout_ms;      /* 0 = wait for ever */
};

struct http {
	char *host;
	int fd;
	struct http_parser parser;
	struct buf in;    /* bytes received and not yet parsed */
	struct buf ready; /* body bytes that came with the headers */
	int timeout_ms;
	bool debug;
};
/* host is copied and not connected to yet. */
struct http *http_new(const char *host);
void http_free(struct http *h);
/* Sends, and reads up to the end of the headers. */
int http_begin(struct http *h, const struct http_request *req, struct mesh_err *err) MESH_MUST_CHECK;
/* Appends the next body bytes; 1 = more may come, 0 = the end. */
int http_read(struct http *h, struct buf *out, struct mesh_err *err) MESH_MUST_CHECK;
/* http_begin and the whole body, at most 256 MiB. */
int http_call(struct http *h, const struct http_request *req, int *status, struct buf *body,
              struct mesh_err *err) MESH_MUST_CHECK;
/* After an upgrade: the socket now belongs to the caller; early holds what came behind the headers. */
int http_take(struct http *h, struct buf *early);

/* Escapes for a path segment or query value. Appends to out. */
void url_escape(struct buf *out, const char *text);

#endif
