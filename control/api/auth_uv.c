/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docker login: whether a registry takes these credentials is skopeo's to find out. Nothing is kept here. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "control/api/http.h"

struct login {
	struct req *r;
	struct api *api;
	uv_process_t child;
	uv_pipe_t in, err;
	uv_write_t write;
	char dir[32], *authfile, *user_arg, *server, *password;
	struct buf said;
	int open; /* handles */
	int64_t status;
};

static void login_free(struct login *l)
{
	struct api *a = l->api;
	(void)unlink(l->authfile); /* absent when it failed */
	(void)rmdir(l->dir);
	if (l->password)
		mesh_wipe(l->password, strlen(l->password));
	free(l->password);
	free(l->authfile);
	free(l->user_arg);
	free(l->server);
	buf_fini(&l->said);
	req_unref(l->r);
	free(l);
	api_handle_closed(a);
}

/* skopeo's last line without its log prefix. */
static const char *reason(struct buf *said)
{
	char *text = (char *)buf_str(said);
	size_t n = strlen(text);
	while (n && (text[n - 1] == '\n' || text[n - 1] == '"'))
		text[--n] = 0;
	char *msg = strstr(text, "msg=\"");
	return msg ? msg + 5 : text;
}

static void on_closed(uv_handle_t *h)
{
	struct login *l = h->data;
	if (--l->open)
		return;
	if (req_live(l->r) && l->status == 0) {
		struct jw w = { 0 };
		jw_raw(&w, "{\"IdentityToken\":\"\",\"Status\":\"Login Succeeded\"}");
		req_reply_json(l->r, 200, &w);
	} else if (req_live(l->r)) {
		req_error(l->r, 401, "login at %.200s failed: %.400s", l->server,
		          l->said.len ? reason(&l->said) : "skopeo gives no reason");
	}
	login_free(l);
}

static void close_handle(uv_handle_t *h)
{
	if (!uv_is_closing(h))
		uv_close(h, on_closed);
}

static void on_exit_(uv_process_t *p, int64_t status, int sig)
{
	struct login *l = p->data;
	l->status = sig ? 128 + sig : status;
	close_handle((uv_handle_t *)p);
	close_handle((uv_handle_t *)&l->in);
}

static void give_room(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	static char room[4096];
	(void)h;
	(void)hint;
	*b = uv_buf_init(room, sizeof(room));
}

static void on_said(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct login *l = s->data;
	if (n > 0 && l->said.len < 8192)
		buf_put(&l->said, b->base, (size_t)n);
	if (n < 0)
		close_handle((uv_handle_t *)s);
}

static void on_written(uv_write_t *w, int status)
{
	struct login *l = w->data;
	(void)status; /* its exit says more */
	close_handle((uv_handle_t *)&l->in);
}

static int spawn(struct login *l, bool insecure)
{
	const char *argv[] = { "skopeo",
		               "login",
		               "--authfile",
		               l->authfile,
		               insecure ? "--tls-verify=false" : "--tls-verify=true",
		               l->user_arg,
		               "--password-stdin",
		               "--",
		               l->server,
		               NULL };
	uv_stdio_container_t io[3] = {
		{ .flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&l->in },
		{ .flags = UV_IGNORE },
		{ .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&l->err },
	};
	uv_process_options_t o = {
		.exit_cb = on_exit_, .file = argv[0], .args = (char **)argv, .stdio_count = 3, .stdio = io
	};
	return uv_spawn(l->api->loop, &l->child, &o);
}

static void start(struct login *l)
{
	(void)uv_pipe_init(l->api->loop, &l->in, 0); /* cannot fail without IPC */
	(void)uv_pipe_init(l->api->loop, &l->err, 0);
	l->in.data = l->err.data = l->child.data = l->write.data = l;
	l->open = 3;
	api_handle_opened(l->api);
	bool local = strncmp(l->server, "127.", 4) == 0 || strncmp(l->server, "localhost", 9) == 0;
	int rc = spawn(l, local);
	if (rc) {
		buf_printf(&l->said, "skopeo: %s", uv_strerror(rc));
		l->status = 127;
		close_handle((uv_handle_t *)&l->child);
		close_handle((uv_handle_t *)&l->in);
		close_handle((uv_handle_t *)&l->err);
		return;
	}
	uv_buf_t b = uv_buf_init(l->password, (unsigned)strlen(l->password));
	(void)uv_read_start((uv_stream_t *)&l->err, give_room, on_said);
	if (uv_write(&l->write, (uv_stream_t *)&l->in, &b, 1, on_written))
		close_handle((uv_handle_t *)&l->in);
}

/* "https://index.docker.io/v1/" is what the client calls Docker Hub. */
static char *server_name(const char *address)
{
	if (!address || !*address || strstr(address, "index.docker.io"))
		return xstrdup("docker.io");
	const char *p = strstr(address, "://");
	p = p ? p + 3 : address;
	return xstrndup(p, strcspn(p, "/"));
}

void api_auth(struct req *r)
{
	json_t *j = req_json(r);
	if (!j)
		return;
	const char *user = json_string_value(json_object_get(j, "username"));
	const char *password = json_string_value(json_object_get(j, "password"));
	struct login *l = NULL;
	if (!user || !*user || !password || !*password) {
		req_error(r, 400, "username and password are required (identity tokens are not supported)");
	} else {
		l = XNEW(struct login);
		l->server = server_name(json_string_value(json_object_get(j, "serveraddress")));
		strcpy(l->dir, "/tmp/mesh-login-XXXXXX");
	}
	if (l && !mkdtemp(l->dir)) {
		req_error(r, 500, "cannot make a temporary directory: %s", strerror(errno));
		free(l->server);
		free(l);
	} else if (l) {
		l->authfile = xasprintf("%s/auth.json", l->dir);
		l->user_arg = xasprintf("--username=%s", user);
		l->password = xstrdup(password);
		l->api = r->api;
		l->r = req_ref(r);
		start(l);
	}
	json_decref(j);
}
