/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libmicrohttpd on the libuv loop. It runs in external epoll mode: its epoll descriptor is one of our handles, and
 * after every run its timeout is asked again, because its inner epoll is edge-triggered.
 * It does not notice that a client has gone while a connection is suspended: every streaming answer watches a
 * duplicate of the descriptor for that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/api/http.h"

#define STREAM_FULL (256u << 10)
#define MEMORY_PER_CONNECTION (256u << 10)
#define CONNECTIONS_MAX 4096

/* ---- request ---------------------------------------------------------------------------------- */

static struct req *req_new(struct api *a, struct MHD_Connection *conn)
{
	struct req *r = XNEW(struct req);
	*r = (struct req){ .api = a, .conn = conn, .refs = 1, .upload_fd = -1, .next = a->reqs };
	if (a->reqs)
		a->reqs->prev = r;
	a->reqs = r;
	return r;
}

struct req *req_ref(struct req *r)
{
	r->refs++;
	return r;
}

static void drop_upload(struct req *r)
{
	if (r->upload_fd >= 0)
		close(r->upload_fd);
	if (r->upload_path)
		(void)unlink(r->upload_path); /* may have been renamed by whoever took it */
	free(r->upload_path);
	r->upload_path = NULL;
	r->upload_fd = -1;
}

void req_unref(struct req *r)
{
	if (--r->refs)
		return;
	if (r->data_free)
		r->data_free(r->data);
	if (r->response)
		MHD_destroy_response(r->response);
	drop_upload(r);
	mesh_wipe(r->body.data, r->body.len);
	buf_fini(&r->body);
	strs_clear(&r->warnings);
	for (int i = 0; i < REQ_ARGS; i++)
		free(r->arg[i]);
	free(r->path);
	free(r);
}

/* The connection is done with it; who works on it still may hold a reference. */
static void req_detach(struct req *r)
{
	if (!r->api)
		return;
	if (r->prev)
		r->prev->next = r->next;
	else
		r->api->reqs = r->next;
	if (r->next)
		r->next->prev = r->prev;
	r->api = NULL;
	r->conn = NULL;
	req_unref(r);
}

bool req_live(const struct req *r)
{
	return r->api && !r->answered;
}

const char *req_query(struct req *r, const char *key)
{
	return r->conn ? MHD_lookup_connection_value(r->conn, MHD_GET_ARGUMENT_KIND, key) : NULL;
}

const char *req_header(struct req *r, const char *key)
{
	return r->conn ? MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, key) : NULL;
}

bool req_flag(struct req *r, const char *key)
{
	static const char *const no[] = { "", "0", "no", "false", "none" };
	const char *v = req_query(r, key);
	for (size_t i = 0; v && i < ARRAY_SIZE(no); i++)
		if (strcasecmp(v, no[i]) == 0)
			return false;
	return v != NULL;
}

int req_number(struct req *r, const char *key, int64_t def, int64_t *out, struct mesh_err *err)
{
	const char *v = req_query(r, key);
	char *end;
	*out = def;
	if (!v || !*v)
		return 0;
	errno = 0;
	*out = strtoll(v, &end, 10);
	if (*end || errno)
		return mesh_fail(err, MESH_E_INVALID, "invalid %s '%.64s': expected a number", key, v);
	return 0;
}

static void note_warnings(struct req *r, size_t from)
{
	for (size_t i = from; i < r->warnings.n; i++) {
		char *path = r->warnings.v[i];
		log_debug("field of a request is not known path=%s field=%s", r->path, path);
		r->warnings.v[i] = xasprintf("%s: not supported, ignored", path);
		free(path);
	}
}

int req_decode(struct req *r, const struct schema *s, void *obj)
{
	struct mesh_err err = { 0 };
	size_t before = r->warnings.n;
	int rc = md_json_decode(s, obj, r->body.data, r->body.len, &r->warnings, &err);
	note_warnings(r, before);
	if (rc)
		req_fail(r, rc, &err);
	return rc;
}

json_t *req_json(struct req *r)
{
	struct mesh_err err = { 0 };
	json_t *j;
	if (!r->body.len)
		return json_object();
	int rc = md_json_parse(r->body.data, r->body.len, &j, &err);
	if (!rc && !json_is_object(j)) {
		rc = mesh_fail(&err, MESH_E_INVALID, "expected a JSON object");
		json_decref(j);
	}
	if (!rc)
		return j;
	req_fail(r, rc, &err);
	return NULL;
}

void req_keep(struct req *r, void *data, void (*data_free)(void *))
{
	r->data = data;
	r->data_free = data_free;
}

/* ---- answers ---------------------------------------------------------------------------------- */

void api_response_headers(struct MHD_Response *response, const char *type)
{
	static const char *const fixed[][2] = {
		{ "Api-Version", API_VERSION },
		{ "Docker-Experimental", "false" },
		{ "Ostype", "linux" },
		{ "Server", "meshd/" MESH_VERSION " (linux)" },
	};
	if (type)
		(void)MHD_add_response_header(response, "Content-Type", type);
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		(void)MHD_add_response_header(response, fixed[i][0], fixed[i][1]);
}

/* A resumed connection is taken up by the next run of the daemon, which nothing else may cause. */
static void pump_soon(struct api *a);

void req_answer(struct req *r, unsigned status, struct MHD_Response *response)
{
	if (!req_live(r)) {
		MHD_destroy_response(response);
		return;
	}
	r->answered = true;
	r->status = status;
	r->response = response;
	r->api->requests++;
	if (r->suspended) {
		r->suspended = false;
		MHD_resume_connection(r->conn);
		pump_soon(r->api);
	}
}

void req_reply(struct req *r, unsigned status, const char *type, struct buf *body)
{
	struct MHD_Response *response;
	if (body && body->len) {
		response = MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_FREE);
		*body = (struct buf){ 0 };
	} else {
		response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
		if (body)
			buf_fini(body);
	}
	api_response_headers(response, type);
	req_answer(r, status, response);
}

void req_reply_json(struct req *r, unsigned status, struct jw *w)
{
	buf_put_u8(&w->b, '\n');
	req_reply(r, status, "application/json", &w->b);
}

void req_reply_empty(struct req *r, unsigned status)
{
	req_reply(r, status, NULL, NULL);
}

void req_reply_id(struct req *r, unsigned status, const char *key, const char *id)
{
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_kstr(&w, key, id);
	if (r->warnings.n) {
		jw_key(&w, "Warnings");
		jw_strs(&w, &r->warnings);
	}
	jw_close(&w, '}');
	req_reply_json(r, status, &w);
}

static void reply_message(struct req *r, unsigned status, const char *text)
{
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_kstr(&w, "message", text);
	jw_close(&w, '}');
	req_reply_json(r, status, &w);
}

void req_fail(struct req *r, int code, const struct mesh_err *err)
{
	reply_message(r, (unsigned)mesh_code_http(code), mesh_err_text(err, code));
}

void req_error(struct req *r, unsigned status, const char *fmt, ...)
{
	char text[800];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	reply_message(r, status, text);
}

/* ---- streams ---------------------------------------------------------------------------------- */

struct stream_watch {
	uv_poll_t poll;
	int fd;
	struct api *api;
	struct stream *s;
};
struct stream {
	struct stream *next, *prev;
	struct api *api;
	struct MHD_Connection *conn;
	struct buf out;
	size_t sent; /* of out: the front that is gone already */
	bool ended, failed, full, suspended;
	struct stream_ops ops;
	void *arg;
	struct stream_watch *watch;
};

static void on_watch_closed(uv_handle_t *h)
{
	struct stream_watch *w = CONTAINER_OF((uv_poll_t *)h, struct stream_watch, poll);
	struct api *a = w->api;
	close(w->fd);
	free(w);
	api_handle_closed(a);
}

static void stream_wake(struct stream *s)
{
	if (!s->suspended)
		return;
	s->suspended = false;
	MHD_resume_connection(s->conn);
	pump_soon(s->api);
}

static void on_client_gone(uv_poll_t *h, int status, int events)
{
	struct stream_watch *w = CONTAINER_OF(h, struct stream_watch, poll);
	(void)status;
	(void)events;
	(void)uv_poll_stop(h);
	if (!w->s)
		return;
	w->s->failed = true;
	stream_wake(w->s);
}

static void stream_watch(struct stream *s)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(s->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	int fd = info ? fcntl(info->connect_fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (fd < 0)
		return;
	struct stream_watch *w = XNEW(struct stream_watch);
	*w = (struct stream_watch){ .fd = fd, .api = s->api, .s = s };
	if (uv_poll_init(s->api->loop, &w->poll, fd)) {
		close(fd);
		free(w);
		return;
	}
	s->api->handles++;
	s->watch = w;
	(void)uv_poll_start(&w->poll, UV_DISCONNECT, on_client_gone);
}

static ssize_t stream_read(void *cls, uint64_t pos, char *to, size_t max)
{
	struct stream *s = cls;
	(void)pos;
	if (s->failed)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	size_t left = s->out.len - s->sent, n = left < max ? left : max;
	if (n) {
		memcpy(to, s->out.data + s->sent, n);
		s->sent += n;
		if (s->sent == s->out.len) {
			buf_clear(&s->out);
			s->sent = 0;
		}
		if (s->full && s->out.len - s->sent < STREAM_FULL / 2) {
			s->full = false;
			if (s->ops.drained)
				s->ops.drained(s->arg);
		}
		return (ssize_t)n;
	}
	if (s->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	s->suspended = true;
	MHD_suspend_connection(s->conn);
	return 0;
}

static void stream_free(void *cls)
{
	struct stream *s = cls;
	if (s->prev)
		s->prev->next = s->next;
	else
		s->api->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	if (s->watch) {
		s->watch->s = NULL;
		uv_close((uv_handle_t *)&s->watch->poll, on_watch_closed);
	}
	s->ops.closed(s->arg);
	buf_fini(&s->out);
	free(s);
}

struct stream *req_stream(struct req *r, unsigned status, const char *type, const struct stream_ops *ops, void *arg)
{
	struct api *a = r->api;
	struct stream *s = XNEW(struct stream);
	*s = (struct stream){ .api = a, .conn = r->conn, .ops = *ops, .arg = arg, .next = a->streams };
	if (a->streams)
		a->streams->prev = s;
	a->streams = s;
	struct MHD_Response *response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32 << 10, stream_read, s, stream_free);
	api_response_headers(response, type);
	stream_watch(s);
	req_answer(r, status, response);
	return s;
}

bool stream_write(struct stream *s, const void *p, size_t n)
{
	if (s->sent > STREAM_FULL) {
		buf_consume(&s->out, s->sent);
		s->sent = 0;
	}
	buf_put(&s->out, p, n);
	s->full = s->full || s->out.len - s->sent > STREAM_FULL;
	stream_wake(s);
	return !s->full;
}

void stream_end(struct stream *s)
{
	s->ended = true;
	stream_wake(s);
}

/* ---- raw connections -------------------------------------------------------------------------- */

struct hijack {
	uv_pipe_t pipe;
	struct hijack *next, *prev;
	struct api *api;
	struct req *r; /* until opened */
	struct MHD_UpgradeResponseHandle *urh;
	uv_shutdown_t shutdown;
	bool opened, ending, closing;
	struct hijack_ops ops;
	void *arg;
};
struct hijack_write {
	uv_write_t req;
	uint8_t data[];
};

static void on_hijack_closed(uv_handle_t *handle)
{
	struct hijack *h = CONTAINER_OF((uv_pipe_t *)handle, struct hijack, pipe);
	struct api *a = h->api;
	if (h->prev)
		h->prev->next = h->next;
	else
		a->hijacks = h->next;
	if (h->next)
		h->next->prev = h->prev;
	h->ops.closed(h->arg);
	if (h->urh)
		(void)MHD_upgrade_action(h->urh, MHD_UPGRADE_ACTION_CLOSE);
	free(h);
	api_handle_closed(a);
}

static void hijack_close(struct hijack *h)
{
	if (h->closing)
		return;
	h->closing = true;
	uv_close((uv_handle_t *)&h->pipe, on_hijack_closed);
}

static void on_written(uv_write_t *req, int status)
{
	struct hijack *h = req->data;
	free(CONTAINER_OF(req, struct hijack_write, req));
	if (status)
		hijack_close(h);
}

void hijack_write(struct hijack *h, const void *p, size_t n)
{
	if (h->closing || h->ending || !n)
		return;
	struct hijack_write *w = xcalloc(1, sizeof(*w) + n);
	memcpy(w->data, p, n);
	w->req.data = h;
	uv_buf_t b = uv_buf_init((char *)w->data, (unsigned)n);
	if (uv_write(&w->req, (uv_stream_t *)&h->pipe, &b, 1, on_written)) {
		free(w);
		hijack_close(h);
	}
}

size_t hijack_queued(const struct hijack *h)
{
	return uv_stream_get_write_queue_size((const uv_stream_t *)&h->pipe);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
	(void)status;
	hijack_close(req->data);
}

void hijack_end(struct hijack *h)
{
	if (h->closing || h->ending)
		return;
	h->ending = true;
	h->shutdown.data = h;
	if (uv_shutdown(&h->shutdown, (uv_stream_t *)&h->pipe, on_shutdown))
		hijack_close(h);
}

static void give_room(uv_handle_t *handle, size_t hint, uv_buf_t *b)
{
	static char room[64 << 10]; /* one loop, used up before the next read */
	(void)handle;
	(void)hint;
	*b = uv_buf_init(room, sizeof(room));
}

static void on_hijack_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct hijack *h = CONTAINER_OF((uv_pipe_t *)stream, struct hijack, pipe);
	if (n > 0) {
		h->ops.data(h->arg, (const uint8_t *)b->base, (size_t)n);
	} else if (n == UV_EOF) {
		(void)uv_read_stop(stream);
		h->ops.data(h->arg, NULL, 0);
	} else if (n < 0) {
		hijack_close(h);
	}
}

static void on_upgrade(void *cls, struct MHD_Connection *conn, void *con_cls, const char *extra, size_t extra_n,
                       MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
	struct hijack *h = cls;
	(void)conn;
	(void)con_cls;
	h->urh = urh;
	h->opened = true;
	h->r->hijack = NULL;
	int fd = fcntl(sock, F_DUPFD_CLOEXEC, 3);
	if (fd < 0 || uv_pipe_open(&h->pipe, fd)) {
		if (fd >= 0)
			close(fd);
		hijack_close(h);
		return;
	}
	h->ops.open(h->arg, h);
	if (extra_n && !h->closing)
		h->ops.data(h->arg, (const uint8_t *)extra, extra_n);
	if (!h->closing && uv_read_start((uv_stream_t *)&h->pipe, give_room, on_hijack_read))
		hijack_close(h);
}

bool req_hijack(struct req *r, const char *type, const struct hijack_ops *ops, void *arg)
{
	const char *upgrade = req_header(r, "Upgrade");
	if (!upgrade || !*upgrade) {
		req_error(r, 400, "this needs the headers \"Connection: Upgrade\" and \"Upgrade: tcp\"");
		return false;
	}
	struct api *a = r->api;
	struct hijack *h = XNEW(struct hijack);
	*h = (struct hijack){ .api = a, .r = r, .ops = *ops, .arg = arg, .next = a->hijacks };
	if (uv_pipe_init(a->loop, &h->pipe, 0)) {
		free(h);
		req_error(r, 500, "cannot take over the connection");
		return false;
	}
	a->handles++;
	if (a->hijacks)
		a->hijacks->prev = h;
	a->hijacks = h;
	struct MHD_Response *response = MHD_create_response_for_upgrade(on_upgrade, h);
	api_response_headers(response, type);
	(void)MHD_add_response_header(response, "Upgrade", "tcp");
	r->hijack = h;
	req_answer(r, MHD_HTTP_SWITCHING_PROTOCOLS, response);
	return true;
}

/* ---- the server ------------------------------------------------------------------------------- */

static void open_upload(struct req *r)
{
	const char *dir = getenv("TMPDIR");
	r->upload_path = xasprintf("%s/mesh-load-XXXXXX", dir && *dir ? dir : "/var/tmp");
	r->upload_fd = mkostemp(r->upload_path, O_CLOEXEC);
	if (r->upload_fd < 0) {
		r->upload_error = errno;
		free(r->upload_path);
		r->upload_path = NULL;
	}
}

static void take_upload(struct req *r, const char *p, size_t n)
{
	while (n && !r->upload_error) {
		ssize_t put = write(r->upload_fd, p, n);
		if (put < 0 && errno != EINTR)
			r->upload_error = errno;
		if (put <= 0)
			continue;
		p += put;
		n -= (size_t)put;
	}
}

static void take_body(struct req *r, const char *p, size_t n)
{
	if (r->answered || r->too_large)
		return;
	if (r->route->flags & R_UPLOAD) {
		if (!r->upload_path && !r->upload_error)
			open_upload(r);
		take_upload(r, p, n);
	} else if (r->body.len + n > API_BODY_MAX) {
		r->too_large = true;
	} else {
		buf_put(&r->body, p, n);
	}
}

static enum MHD_Result send_answer(struct req *r, struct MHD_Connection *conn)
{
	struct MHD_Response *response = TAKE(r->response);
	enum MHD_Result ok = MHD_queue_response(conn, r->status, response);
	if (ok == MHD_NO)
		log_debug("answer was refused by the HTTP library status=%u path=%s", r->status, r->path);
	MHD_destroy_response(response);
	return ok;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **con_cls)
{
	struct api *a = cls;
	struct req *r = *con_cls;
	(void)version;
	if (!r) {
		*con_cls = r = req_new(a, conn);
		if (a->closing)
			req_error(r, 503, "the daemon is shutting down");
		else
			api_route(r, method, url);
		return MHD_YES;
	}
	if (*size) {
		take_body(r, data, *size);
		*size = 0;
		return MHD_YES;
	}
	if (!r->dispatched && !r->answered) {
		r->dispatched = true;
		api_dispatch(r);
	}
	if (r->response)
		return send_answer(r, conn);
	r->suspended = true;
	MHD_suspend_connection(conn);
	return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode why)
{
	(void)cls;
	(void)conn;
	(void)why;
	struct req *r = *con_cls;
	*con_cls = NULL;
	if (!r)
		return;
	/* The client left, or speaks HTTP/1.0: the connection never became ours. */
	if (r->hijack && !r->hijack->opened)
		hijack_close(r->hijack);
	req_detach(r);
}

static void on_timer(uv_timer_t *t);

static void pump(struct api *a)
{
	MHD_UNSIGNED_LONG_LONG ms;
	(void)MHD_run(a->daemon);
	if (MHD_get_timeout(a->daemon, &ms) == MHD_YES)
		(void)uv_timer_start(&a->timer, on_timer, ms, 0);
	else
		(void)uv_timer_stop(&a->timer);
}

static void on_timer(uv_timer_t *t)
{
	pump(CONTAINER_OF(t, struct api, timer));
}

static void pump_soon(struct api *a)
{
	if (!a->closing)
		(void)uv_timer_start(&a->timer, on_timer, 0, 0);
}

static void on_ready(uv_poll_t *p, int status, int events)
{
	(void)status;
	(void)events;
	pump(CONTAINER_OF(p, struct api, poll));
}

/* Is somebody listening there? */
static bool socket_answers(const struct sockaddr_un *sun)
{
	CLEAN_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd >= 0 && (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 || errno == EAGAIN);
}

static int listen_on(const char *path, struct mesh_err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct stat st;
	if (strlen(path) >= sizeof(sun.sun_path))
		return mesh_fail(err, -ENAMETOOLONG, "socket %s", path);
	strcpy(sun.sun_path, path);
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return mesh_fail(err, -EEXIST, "socket %s: another kind of file is there", path);
		if (socket_answers(&sun))
			return mesh_fail(err, -EADDRINUSE, "socket %s: a daemon answers there", path);
		(void)unlink(path); /* left by a crash; bind says so when it cannot go */
	}
	CLEAN_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return mesh_fail(err, -errno, "socket %s", path);
	mode_t old = umask(0117);
	int rc = bind(fd, (struct sockaddr *)&sun, sizeof(sun)) ? -errno : 0;
	umask(old);
	if (rc || listen(fd, 512))
		return mesh_fail(err, rc ? rc : -errno, "socket %s", path);
	return TAKE_FD(fd);
}

static int start_daemon(struct api *a, int fd, struct mesh_err *err)
{
	a->daemon =
		MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE, 0, NULL, NULL,
	                         on_request, a, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
	                         NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_PER_CONNECTION,
	                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_END);
	if (!a->daemon)
		return mesh_fail(err, MESH_E_RUNTIME, "the HTTP server does not start on %s", a->socket_path);
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int rc = uv_poll_init(a->loop, &a->poll, info->epoll_fd);
	if (rc) {
		MHD_stop_daemon(a->daemon);
		return mesh_fail(err, rc, "epoll of the HTTP server");
	}
	(void)uv_timer_init(a->loop, &a->timer); /* cannot fail */
	a->handles = 2;
	(void)uv_poll_start(&a->poll, UV_READABLE, on_ready);
	return 0;
}

int api_open(uv_loop_t *loop, const char *socket_path, const struct api_ops *ops, void *arg, struct api **out,
             struct mesh_err *err)
{
	int fd = listen_on(socket_path, err);
	if (fd < 0)
		return fd;
	struct api *a = XNEW(struct api);
	*a = (struct api){ .loop = loop, .ops = ops, .arg = arg, .socket_path = xstrdup(socket_path) };
	int rc = start_daemon(a, fd, err);
	if (rc) {
		close(fd);
		free(a->socket_path);
		free(a);
		return rc;
	}
	a->events = events_new(a);
	a->execs = execs_new();
	pump(a);
	*out = a;
	return 0;
}

void api_handle_opened(struct api *a)
{
	a->handles++;
}

void api_handle_closed(struct api *a)
{
	if (--a->handles || !a->closing)
		return;
	events_free(a->events);
	execs_free(a->execs);
	free(a->socket_path);
	void (*cb)(void *) = a->closed;
	void *arg = a->closed_arg;
	free(a);
	if (cb)
		cb(arg);
}

static void on_own_closed(uv_handle_t *h)
{
	api_handle_closed(h->data);
}

/* Everything that hangs gets its end: MHD must have no suspended connection when it stops. */
static void finish_requests(struct api *a)
{
	for (struct req *r = a->reqs; r; r = r->next)
		if (!r->answered && r->dispatched)
			req_error(r, 503, "the daemon is shutting down");
	for (struct stream *s = a->streams; s; s = s->next) {
		s->failed = true;
		stream_wake(s);
	}
}

void api_close(struct api *a, void (*cb)(void *arg), void *arg)
{
	a->closing = true;
	a->closed = cb;
	a->closed_arg = arg;
	(void)unlink(a->socket_path);
	finish_requests(a);
	/* Twice: the first run takes up the resumed connections, the second sends what they got. */
	for (int i = 0; i < 4; i++)
		(void)MHD_run(a->daemon);
	/*
	 * Raw connections are MHD's until told otherwise; it would wait for them. Their pipes are ours and close on
	 * the loop, by then without a daemon to report to.
	 */
	for (struct hijack *h = a->hijacks; h; h = h->next) {
		if (h->urh)
			(void)MHD_upgrade_action(h->urh, MHD_UPGRADE_ACTION_CLOSE);
		h->urh = NULL;
		hijack_close(h);
	}
	(void)MHD_run(a->daemon);
	(void)uv_poll_stop(&a->poll);
	MHD_stop_daemon(a->daemon);
	while (a->reqs)
		req_detach(a->reqs);
	a->poll.data = a->timer.data = a;
	uv_close((uv_handle_t *)&a->poll, on_own_closed);
	uv_close((uv_handle_t *)&a->timer, on_own_closed);
}
